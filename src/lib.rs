//! Portcullis: external authorization for any gateway. May this request pass, and as whom?

pub mod authz;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dev;
pub mod live;
