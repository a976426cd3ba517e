//! Headers, gateways, paths and settings: what is told to whom, who may ask, and where.

use std::sync::Arc;

use super::Secret;
use super::{Compiler, Settings};
use crate::authz::gateways::{By, ClientAddress, Gateway};
use crate::authz::request::Relaxed;
use crate::config::error::Problem;
use crate::config::file;

/// The shortest key of decision ids, in bytes.
const MIN_KEY: usize = 16;

impl Compiler<'_> {
    /// Who may ask.
    pub(super) fn gateways(&mut self) -> Vec<Gateway> {
        let mut gateways = Vec::with_capacity(self.file.gateways.len());
        for (name, gateway) in &self.file.gateways {
            if let Some(address) = gateway.client_address.filter(|_| !gateway.believes_address) {
                let message = format!("`client_address` is not read: `{}` is not believed about it", name.value);
                let problem = Problem::warning("address_unread", address.span, message);
                self.report(problem.cure("believes: [client_address]"));
            }
            let from = gateway.client_address.map_or(file::ClientAddress::Connection, |address| address.value);
            gateways.push(Gateway {
                name: Arc::from(&*name.value),
                by: gateway.by.iter().map(|peer| by(&peer.value)).collect(),
                client_address: gateway.believes_address.then(|| address(from)),
                filtered_headers: gateway.filtered_headers,
            });
        }
        let told = self.file.tests.iter().find_map(|row| row.from);
        if let Some(from) = told.filter(|_| self.nobody_believed()) {
            let message = "a test has an address, and no gateway is believed about the caller's address";
            self.report(
                Problem::error("address_not_believed", from.span, message)
                    .cure("gateways: {edge: {by: unix, believes: [client_address]}}"),
            );
        }
        gateways
    }

    /// What `paths:` relaxes.
    pub(super) fn relaxed(&self) -> Relaxed {
        let mut relaxed = Relaxed::default();
        for leniency in &self.file.paths {
            match leniency.value {
                file::Leniency::EncodedSlash => relaxed.encoded_slash = true,
                file::Leniency::Semicolon => relaxed.semicolon = true,
                file::Leniency::EmptySegment => relaxed.empty_segment = true,
                file::Leniency::Backslash => relaxed.backslash = true,
                file::Leniency::DoubleEncoding => relaxed.double_encoding = true,
                file::Leniency::CaseVariant => relaxed.case_variant = true,
            }
        }
        relaxed
    }

    /// What is not policy.
    pub(super) fn settings(&mut self) -> Settings {
        Settings {
            listen: self.file.listen.clone(),
            audit: self.file.audit.clone(),
            log: self.file.log,
            decision_key: self.decision_key(),
            public_url: self.file.public_url.as_ref().map(|url| url.value.clone()),
        }
    }

    /// A key that is not there yet is a warning, so that a policy can be checked where its secrets are not.
    fn decision_key(&mut self) -> Option<Secret> {
        let place = self.file.decision_key.as_ref()?;
        let key = match &place.value {
            file::SecretPlace::File(path) => (self.files)(path.to_str().unwrap_or_default()).ok(),
            file::SecretPlace::Env(name) => std::env::var(&**name).ok().map(String::into_bytes),
        };
        let Some(key) = key.map(|key| key.trim_ascii().to_vec()) else {
            let message = "the key of the decision ids is not there: no other replica could explain them";
            self.report(Problem::warning("key_missing", place.span, message));
            return None;
        };
        if key.len() < MIN_KEY {
            let message = "the key of the decision ids is shorter than 16 bytes";
            self.report(Problem::error("weak_key", place.span, message).cure("openssl rand -base64 32"));
            return None;
        }
        Some(Secret(key))
    }
}

fn by(peer: &file::Peer) -> By {
    match peer {
        file::Peer::Unix => By::Unix,
        file::Peer::Network(network) => By::Network(*network),
    }
}

fn address(from: file::ClientAddress) -> ClientAddress {
    match from {
        file::ClientAddress::Connection => ClientAddress::Connection,
        file::ClientAddress::EnvoyExternalAddress => ClientAddress::ExternalAddress,
        file::ClientAddress::ForwardedFor(hops) => ClientAddress::Forwarded { hops },
    }
}
