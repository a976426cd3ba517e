//! What changes while we run: each feed polls or watches, reads, and publishes. It never calls the hot path.

pub mod config;
pub mod fetch;
pub mod folder;
pub mod introspect;
pub mod jwks;
pub mod mint;
mod reach;
pub mod revocation;
pub mod saved;
pub mod status;
pub mod suspension;
#[cfg(test)]
mod threats;
#[cfg(test)]
mod trial;
