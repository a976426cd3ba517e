//! The core: may this request pass, and as whom? Synchronous and deterministic, without I/O, clock, logging or transport.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod algorithm;
mod claim;
pub mod identity;
pub mod json;
pub mod keys;
pub mod reason;
pub mod time;
pub mod token;
