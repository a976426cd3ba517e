//! For `portcullis dev`, `portcullis test` and the tests: what a real deployment has elsewhere. All of it on loopback.

pub mod envoy;
pub mod issuer;
mod listen;
pub mod mint;
pub mod rehearsal;
pub mod upstream;
pub mod wire;
