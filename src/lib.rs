//! Portcullis: external authorization for any gateway. May this request pass, and as whom?

pub mod admin;
pub mod app;
pub mod authorizer;
pub mod authz;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dev;
pub mod feed;
pub mod gateway;
pub mod live;
pub mod observe;
pub mod probe;
pub mod public;
pub mod review;
pub mod server;
pub mod store;
