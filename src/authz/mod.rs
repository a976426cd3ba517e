//! The core: may this request pass, and as whom? Synchronous and deterministic, without I/O, clock, logging or transport.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod accept;
pub mod actor;
pub mod algorithm;
pub mod api_keys;
pub mod certificate;
mod claim;
pub mod condition;
pub mod cors;
pub mod credential;
pub mod decision;
pub mod decision_id;
pub mod digest;
pub mod gateways;
pub mod grant;
pub mod header;
pub mod identity;
pub mod introspection;
pub mod issuer;
pub mod json;
pub mod keys;
pub mod logout;
pub mod mint;
pub mod policy;
pub mod proof;
pub mod reason;
pub mod request;
pub mod revocation;
pub mod route;
pub mod rule;
pub mod services;
pub mod signin;
pub mod snapshot;
pub mod stepup;
pub mod time;
pub mod token;
