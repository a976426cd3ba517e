//! Sender-constrained tokens: who presents a token that is bound to a key or a certificate shows that it is theirs.

mod certificate;
mod dpop;
mod nonce;
mod target;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::algorithm::{Algorithm, Algorithms};
use super::credential::Scheme;
use super::gateways::Gateway;
use super::json::{Json, Object};
use super::reason::Reason;
use super::request::Request;
use super::time::Timestamp;

pub use certificate::thumbprint;
pub use dpop::Proof;
pub use nonce::Nonces;
pub use target::Origin;

/// What an issuer's tokens are good for in the hands of somebody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Everything: what they are bound to is not looked at.
    None,
    /// Nothing: each is bound to a key, which signs a proof for every request (RFC 9449).
    Dpop,
    /// Nothing: each is bound to a client certificate (RFC 8705 §3).
    Mtls,
    /// Nothing: each is bound to one of these.
    Either,
    /// Nothing, where they are bound; everything, where they are not.
    #[default]
    IfBound,
}

/// Whether proofs hold a nonce of ours (RFC 9449 §9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nonce {
    /// They need not, and one that is there is not looked at.
    #[default]
    None,
    /// Callers are given some; one that is in a proof must be current.
    Offered,
    /// Each proof must have a current one.
    Required,
}

/// How an issuer's tokens are proven to be in the right hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Possession {
    /// Whether they are.
    pub mode: Mode,
    /// Whether the policy says so: then callers are told of it before they ask.
    pub told: bool,
    /// How far the time of a proof may lie from now, in both directions.
    pub window: Duration,
    /// Whether proofs hold a nonce.
    pub nonce: Nonce,
    /// What proofs may be signed with.
    pub algorithms: Algorithms,
    /// Where callers know the site.
    pub origins: Box<[Origin]>,
    /// Whether they know it nowhere else.
    pub only_there: bool,
}

impl Possession {
    /// How far the time of a proof may lie from now where the policy does not say.
    pub const WINDOW: Duration = Duration::from_secs(60);
}

impl Default for Possession {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            told: false,
            window: Self::WINDOW,
            nonce: Nonce::default(),
            algorithms: Algorithm::ASYMMETRIC.iter().copied().collect(),
            origins: Box::default(),
            only_there: false,
        }
    }
}

/// What a token is bound to, by its `cnf` claim (RFC 7800 §3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The thumbprint of a key (RFC 9449 §6.1).
    key: Option<[u8; 32]>,
    /// The thumbprint of a certificate (RFC 8705 §3.1).
    certificate: Option<[u8; 32]>,
    /// Whether it is, or may be, bound to what is not known here.
    unknown: bool,
}

impl Binding {
    /// What these claims say; `None` where they say nothing of it.
    #[must_use]
    pub fn read(claims: &Object) -> Option<Self> {
        let confirmed = claims.get("cnf")?;
        let thumbprint = |name: &str| match confirmed {
            Json::Object(members) => members.get(name).map(|text| text.as_text().and_then(decoded)),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::List(_) => None,
        };
        let (key, certificate) = (thumbprint("jkt"), thumbprint("x5t#S256"));
        let unknown = matches!((key, certificate), (None, None) | (Some(None), _) | (_, Some(None)));
        Some(Self { key: key.flatten(), certificate: certificate.flatten(), unknown })
    }
}

/// A SHA-256 in strict base64url.
fn decoded(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// What may happen once only: a proof of possession, by its key and its `jti`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Once {
    /// A digest of both, to remember it by.
    pub key: [u8; 32],
    /// Until when it must be remembered: from then on the proof is too old in any case.
    pub until: Timestamp,
    /// The hash of the proof, of which everything else has been checked.
    proof: [u8; 32],
}

/// How often that happened before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// Never.
    First,
    /// At least once.
    Again,
    /// Nobody can tell.
    Unknown,
}

/// A token as it was presented, and all that may prove whose it is.
pub(super) struct Shown<'a, 'r> {
    pub request: &'a Request<'r>,
    pub gateway: Option<&'a Gateway>,
    /// The SHA-256 of the token.
    pub token: &'a [u8; 32],
    pub scheme: Scheme,
    /// The operator's nonces.
    pub nonces: Option<&'a Nonces>,
    /// What was asked about in this very check, and so had been verified.
    pub verified: Option<Once>,
    pub now: Timestamp,
}

impl Possession {
    /// What a token is bound to, as far as that counts.
    #[must_use]
    pub fn binding(&self, claims: &Object) -> Option<Box<Binding>> {
        if self.mode == Mode::None { None } else { Binding::read(claims).map(Box::new) }
    }

    /// Whether there is something to prove whatever the token.
    #[must_use]
    pub fn is_always_asked(&self) -> bool {
        !matches!(self.mode, Mode::None | Mode::IfBound)
    }

    /// Whether there is anything to prove.
    pub(super) fn asks(&self, binding: Option<&Binding>, scheme: Scheme) -> bool {
        binding.is_some() || scheme == Scheme::Dpop || self.is_always_asked()
    }

    /// Whether whoever presents a token holds what it is bound to: all of it, where that is more than one thing.
    pub(super) fn prove(&self, binding: Option<&Binding>, shown: &Shown<'_, '_>) -> Result<Option<Once>, Reason> {
        let Some(binding) = binding else {
            let plain = matches!(self.mode, Mode::None | Mode::IfBound) && shown.scheme != Scheme::Dpop;
            return if plain { Ok(None) } else { Err(Reason::TokenUnbound) };
        };
        if binding.unknown {
            return Err(Reason::BindingUnknown);
        }
        let bound = match self.mode {
            Mode::Dpop => binding.key.is_some(),
            Mode::Mtls => binding.certificate.is_some(),
            Mode::None | Mode::Either | Mode::IfBound => true,
        };
        if !bound || (binding.key.is_none() && shown.scheme == Scheme::Dpop) {
            return Err(Reason::TokenUnbound);
        }
        if let Some(expected) = &binding.certificate {
            certificate::check(expected, shown.request, shown.gateway)?;
        }
        binding.key.as_ref().map(|key| self.prove_key(key, shown)).transpose()
    }

    fn prove_key(&self, key: &[u8; 32], shown: &Shown<'_, '_>) -> Result<Once, Reason> {
        // RFC 9449 §7.2: a bound token is never taken as if it were not.
        if shown.scheme == Scheme::Bearer {
            return Err(Reason::ProofMissing);
        }
        let text = dpop::sole(shown.request)?;
        Proof::read(text)?.check(text, key, self, shown)
    }
}

#[cfg(test)]
mod tests;
