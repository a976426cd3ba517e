//! What `portcullis dev` and the tests stand on: an issuer, an application and an Envoy, all on loopback.

pub mod envoy;
mod listen;
pub mod upstream;
pub mod wire;
