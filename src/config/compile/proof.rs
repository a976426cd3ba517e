//! `proof:` of the issuers into what possession of their tokens takes, and the nonces that it may take.

use std::sync::OnceLock;

use super::{Compiler, Settings};
use crate::authz::proof::{Mode, Nonce, Nonces, Origin, Possession};
use crate::config::error::{Problem, Text};
use crate::config::file;

impl Compiler<'_> {
    /// What possession of an issuer's tokens takes.
    pub(super) fn possession(&mut self, name: &Text, issuer: &file::Issuer) -> Possession {
        let otherwise = Possession::default();
        let public: Box<[Origin]> = self.file.public_url.iter().filter_map(|url| Origin::parse(&url.value)).collect();
        let Some(proof) = &issuer.proof else { return Possession { origins: public, ..otherwise } };
        let believed = self.file.gateways.iter().any(|(_, gateway)| gateway.believes_certificate.is_some());
        if matches!(proof.mode, Mode::Mtls | Mode::Either) && !believed && !self.partial {
            let message = "this proof needs the caller's certificate, and no gateway is believed about it";
            let problem = Problem::error("certificate_not_believed", proof.span, message);
            self.report(problem.cure("gateways: {mesh: {by: unix, believes: [certificate]}}"));
        }
        if proof.nonce != Nonce::None && self.file.decision_key.is_none() {
            let message = format!("a nonce for `{}` is good at the process that gave it out only", name.value);
            let problem = Problem::warning("nonce_not_shared", name.span, message);
            self.report(problem.cure("decision_key: env:DECISION_KEY, the same for all replicas"));
        }
        let urls: Box<[Origin]> = proof.urls.iter().filter_map(|url| Origin::parse(&url.value)).collect();
        let only_there = !urls.is_empty();
        Possession {
            mode: proof.mode,
            told: true,
            window: proof.window.unwrap_or(Possession::WINDOW),
            nonce: proof.nonce,
            algorithms: if proof.algorithms.is_empty() {
                otherwise.algorithms
            } else {
                proof.algorithms.iter().map(|algorithm| algorithm.value).collect()
            },
            origins: if only_there { urls } else { public },
            only_there,
        }
    }

    /// The nonces, where some issuer's proofs hold any: by the key of the decision ids, or by one of this process.
    pub(super) fn nonces(&self, settings: &Settings) -> Option<Nonces> {
        static OWN: OnceLock<[u8; 32]> = OnceLock::new();
        let wanted = |issuer: &file::Issuer| issuer.proof.as_ref().is_some_and(|proof| proof.nonce != Nonce::None);
        self.file.issuers.iter().any(|(_, issuer)| wanted(issuer)).then(|| match &settings.decision_key {
            Some(key) => Nonces::new(&key.0),
            None => Nonces::new(OWN.get_or_init(|| {
                let mut own = [0; 32];
                // The system's generator does not fail once it is seeded.
                let _ = aws_lc_rs::rand::fill(&mut own);
                own
            })),
        })
    }
}
