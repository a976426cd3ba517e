//! Gateways, one file a dialect: decode the question, ask the authorizer, encode the answer.

pub mod envoy;
