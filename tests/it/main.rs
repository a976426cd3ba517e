//! The integration tests: one binary, so that they link once.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod admin;
mod architecture;
mod authzen;
mod browsers;
mod caching;
mod cases;
mod chain;
mod chaos;
mod dev;
mod docs;
mod doors;
mod edge;
mod envoy;
mod envoy_check;
mod envoy_smoke;
mod fastapi;
mod forward;
mod gateways;
mod idp;
mod init;
mod key;
mod kong;
mod kubernetes;
mod opaque;
mod openapi;
mod outage;
mod parity;
mod parts;
mod probe;
mod proof;
mod properties;
mod reference;
mod reload;
mod review;
mod revoked;
mod schema;
mod semantics;
mod site;
mod spa;
mod store;
mod support;
mod teams;
mod told;
mod trust;
mod wire;
mod workload;
