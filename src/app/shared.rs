//! The store that the policy names, made of its settings.

use super::Failure;
use crate::config::compile::Compiled;
use crate::config::file::At;
use crate::store::Store;
use crate::store::redis::{Account, Address, Roots, Settings};

/// The store: memory, or a Redis, which need not answer yet.
pub(super) fn store(compiled: &Compiled) -> Result<Store, Failure> {
    let Some((named, password)) = &compiled.settings.store else { return Ok(Store::memory()) };
    let shared = &named.value;
    let (address, tls) = match &shared.at {
        At::Tcp(host, port, tls) => (Address::Tcp(host.clone(), *port), *tls),
        At::Unix(path) => (Address::Unix(path.clone()), false),
    };
    let settings = Settings {
        address,
        roots: tls.then(|| shared.ca.clone().map_or(Roots::System, Roots::File)),
        account: Account {
            user: shared.username.clone(),
            password: password.as_ref().map(|password| password.0.clone()),
            database: shared.database,
        },
        deadline: shared.deadline,
        prefix: shared.prefix.clone(),
    };
    Store::redis(&settings).map_err(|source| {
        let file = compiled.files.first().map(|file| file.display().to_string()).unwrap_or_default();
        Failure::Store { place: format!("{file}:{}:{}", named.span.line, named.span.column), source }
    })
}
