//! `gateways:` into who may ask, and what is believed of them.

use std::sync::Arc;

use bytes::Bytes;

use super::Compiler;
use crate::authz::gateways::{By, ClientAddress, Gateway, Limits, Token};
use crate::authz::header::fold;
use crate::config::error::{Problem, Span, Spanned};
use crate::config::file;

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
                dialect: gateway.dialect,
                by: gateway.by.iter().filter_map(|peer| self.by(peer)).collect(),
                client_address: gateway.believes_address.then(|| address(from)),
                certificate: gateway.believes_certificate,
                headers: gateway.believes_headers.iter().map(lower).collect(),
                filtered_headers: gateway.filtered_headers,
                limits: limits(gateway),
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

    /// How a peer is known; `None` where its token is not there.
    pub(super) fn by(&mut self, peer: &Spanned<file::Peer>) -> Option<By> {
        Some(match &peer.value {
            file::Peer::Unix => By::Unix,
            file::Peer::Network(network) => By::Network(*network),
            file::Peer::Spiffe(id) => By::Spiffe(id.clone()),
            file::Peer::Dns(host) => By::Dns(host.clone()),
            file::Peer::Token(place) => By::Token(self.token(place, peer.span)?),
            file::Peer::All(all) => By::All(all.iter().map(|peer| self.by(peer)).collect::<Option<_>>()?),
        })
    }

    /// A token that is not there is an error: the gateway would lose what is believed of it.
    fn token(&mut self, place: &file::SecretPlace, span: Span) -> Option<Token> {
        if let file::SecretPlace::File(path) = place {
            self.read.push(path.clone());
        }
        let Some(secret) = self.read_secret(place) else {
            let message = "the token of this gateway is not there";
            let cure = "set the variable, or write the file: openssl rand -base64 32";
            self.report(Problem::error("token_missing", span, message).cure(cure));
            return None;
        };
        self.digest.update(&secret);
        let token = Token::new(&secret);
        if token.is_none() {
            let message =
                format!("the token of this gateway is not {} printable bytes or more in one line", Token::MIN);
            self.report(Problem::error("weak_token", span, message).cure("openssl rand -base64 32"));
        }
        token
    }

    /// The headers that some gateway sets itself, each once. None of them is ours to set, or everyone's.
    pub(super) fn lent(&mut self) -> Vec<Bytes> {
        let mut lent: Vec<Bytes> = Vec::new();
        for header in self.file.gateways.iter().flat_map(|(_, gateway)| &gateway.believes_headers) {
            let folded = fold(header.value.as_bytes());
            let is_same = |name: &&Spanned<Box<str>>| fold(name.value.as_bytes()) == folded;
            let own = self.file.routes.iter().filter_map(|route| route.tells.as_deref());
            let ours = std::iter::once(&self.file.tells).chain(own).flat_map(|tells| &tells.headers);
            let ours = ours.map(|tell| &tell.name).find(is_same);
            let kept = self.file.headers_kept.iter().find(is_same);
            if let Some(other) = ours.or(kept) {
                let message = format!("`{}` cannot be set by a gateway: it is named here as well", header.value);
                let problem = Problem::error("header_lent_twice", header.span, message).related(other.span, "here");
                self.report(problem.cure("name it in one place only"));
            }
            let name = lower(header);
            if !lent.contains(&name) {
                lent.push(name);
            }
        }
        lent
    }
}

fn lower(header: &Spanned<Box<str>>) -> Bytes {
    Bytes::from(header.value.to_ascii_lowercase())
}

fn limits(gateway: &file::Gateway) -> Limits {
    let told = |number: Option<u64>, default| number.and_then(|number| usize::try_from(number).ok()).unwrap_or(default);
    let default = Limits::default();
    Limits { lines: told(gateway.max_headers, default.lines), bytes: told(gateway.max_header_bytes, default.bytes) }
}

fn address(from: file::ClientAddress) -> ClientAddress {
    match from {
        file::ClientAddress::Connection => ClientAddress::Connection,
        file::ClientAddress::EnvoyExternalAddress => ClientAddress::ExternalAddress,
        file::ClientAddress::ForwardedFor(hops) => ClientAddress::Forwarded { hops },
    }
}
