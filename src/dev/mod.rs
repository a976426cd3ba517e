//! For `portcullis dev`, `portcullis test` and the tests: what a real deployment has elsewhere.

pub mod mint;
