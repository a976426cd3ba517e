//! What changes while we run: each feed polls or watches, reads, and publishes. It never calls the hot path.

pub mod config;
pub mod fetch;
pub mod introspect;
pub mod jwks;
mod reach;
pub mod status;
#[cfg(test)]
mod trial;
