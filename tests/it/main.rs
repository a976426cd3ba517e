//! The integration tests: one binary, so that they link once.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod architecture;
mod cases;
mod dev;
mod doors;
mod envoy;

mod envoy_smoke;
mod reload;
mod site;
mod support;
