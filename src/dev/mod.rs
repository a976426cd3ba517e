//! For `portcullis dev`, `portcullis test` and the tests: what a real deployment has elsewhere. All of it on loopback.

pub mod certificate;
pub mod envoy;
pub mod folder;
pub mod issuer;
mod listen;
pub mod mint;
pub mod narrator;
pub mod prover;
pub mod rehearsal;
pub mod sample;
pub mod upstream;
pub mod wire;
