//! Strict JWS (RFC 7515, 7519, 8725): split, caps, header, key, signature, claims, claim rules, in this order.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};

use super::algorithm::Algorithm;
use super::claim::Registered;
use super::json::{Json, Object};
use super::keys::{Found, KeySet, Verify};
use super::reason::Reason;
use super::time::Timestamp;

pub use super::claim::{Audience, Tenants, TokenRules, TokenTypes, times_hold};

/// The largest token that is read, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;

/// The largest header, in bytes, decoded.
const MAX_HEADER: usize = 2 * 1024;

/// The longest kid, in bytes.
const MAX_KID: usize = 256;

/// Header members that change what the signature means, or what is signed (RFC 7515 §4.1.10 and §4.1.11, RFC 7516 §4.1,
/// RFC 7797 §3). `jku`, `jwk`, `x5u`, `x5c` are never looked at: keys come from the issuer's own set.
const REFUSED: [&str; 5] = ["crit", "b64", "zip", "enc", "cty"];

/// A token as it came: well formed, but anyone may have written it. It says who should have signed it and nothing more.
pub struct Unverified {
    /// What is signed: the first two parts and the dot between them.
    message: Box<[u8]>,
    signature: Vec<u8>,
    header: Header,
    claims: Object,
    /// Whether some part of it ends with padding, which no JWS has (RFC 7515 §2).
    padded: bool,
}

struct Header {
    algorithm: Algorithm,
    kid: Option<Box<str>>,
    typ: Option<Box<str>>,
    members: Object,
}

/// A token whose signature, claims and times hold.
pub struct Verified {
    /// All claims, as they were signed.
    pub claims: Object,
    /// The `sub` claim.
    pub subject: Arc<str>,
    /// Whose token it is, of the tenants of its issuer.
    pub tenant: Option<Arc<str>>,
    /// The `jti` claim.
    pub token_id: Option<Arc<str>>,
    /// The `iat` claim.
    pub issued: Option<Timestamp>,
    /// The `nbf` claim.
    pub not_before: Option<Timestamp>,
    /// The `exp` claim.
    pub expires: Timestamp,
    /// The `kid` of the header; where it has none, that of the key which signed it.
    pub kid: Option<Box<str>>,
}

/// Why a token was not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is no good.
    Deny(Reason),
    /// The set has no such key: newer keys may have it.
    KeyUnknown,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self::Deny(reason)
    }
}

impl TokenRules {
    /// Whether a token says that it is of this issuer.
    #[must_use]
    pub fn signed(&self, token: &Unverified) -> bool {
        let told = if self.balancers.is_empty() { &token.claims } else { &token.header.members };
        told.get("iss").and_then(Json::as_text).is_some_and(|iss| self.names(iss))
    }

    /// Whether the form of a token and its header are those of the issuer's tokens.
    fn shapes(&self, padded: bool, header: &Object) -> Result<(), Reason> {
        if self.balancers.is_empty() {
            return if padded { Err(Reason::TokenMalformed) } else { Ok(()) };
        }
        let signer = header.get("signer").and_then(Json::as_text).ok_or(Reason::SignerRefused)?;
        let named = self.balancers.iter().any(|balancer| **balancer == *signer);
        if named { Ok(()) } else { Err(Reason::SignerRefused) }
    }
}

impl Unverified {
    /// Reads a compact JWS of a JSON object. Costs time and memory in proportion to its length.
    ///
    /// # Errors
    /// Where it is over a cap, not strictly encoded, or its header says what is refused whoever signed it.
    pub fn read(token: &[u8]) -> Result<Self, Reason> {
        Self::parse(token, false)
    }

    /// Reads one whose parts may be padded, as AWS load balancers write them.
    ///
    /// # Errors
    /// As [`Unverified::read`].
    pub fn read_padded(token: &[u8]) -> Result<Self, Reason> {
        Self::parse(token, true)
    }

    /// Reads the same, and gives the whole header beside it.
    pub(super) fn read_with_header(token: &[u8]) -> Result<(Self, Object), Reason> {
        let mut token = Self::parse(token, false)?;
        let members = std::mem::take(&mut token.header.members);
        Ok((token, members))
    }

    fn parse(token: &[u8], may_be_padded: bool) -> Result<Self, Reason> {
        if token.len() > MAX_TOKEN {
            return Err(Reason::TokenTooLarge);
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(header @ [_, ..]), Some(payload @ [_, ..]), Some(signature @ [_, ..]), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Reason::TokenMalformed);
        };
        let mut padded = false;
        let mut decode = |part: &[u8]| {
            let engine = if may_be_padded && part.ends_with(b"=") { &URL_SAFE } else { &URL_SAFE_NO_PAD };
            padded |= part.ends_with(b"=");
            engine.decode(part).map_err(|_| Reason::TokenMalformed)
        };
        let header = Header::read(&decode(header)?)?;
        let signature_length = signature.len();
        let signature = decode(signature)?;
        let claims = Object::parse(&decode(payload)?).map_err(|_| Reason::ClaimsMalformed)?;
        let signed = token.len().saturating_sub(signature_length).saturating_sub(1);
        let message = token.get(..signed).ok_or(Reason::TokenMalformed)?.into();
        Ok(Self { message, signature, header, claims, padded })
    }

    /// The `iss` claim, to choose the issuer by whose rules and keys this is then verified.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Json::as_text)
    }

    /// The `kid` of the header.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// The `alg` of the header.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.header.algorithm
    }

    /// The claims, as whoever wrote them.
    pub(super) fn claims(&self) -> &Object {
        &self.claims
    }

    /// Whether this key signed it.
    pub(super) fn is_signed_by(&self, key: &dyn Verify) -> bool {
        key.verify(&self.message, &self.signature)
    }

    /// Verifies the token by one issuer's keys and rules.
    ///
    /// # Errors
    /// The first rule that it breaks; or that the set has no key for it.
    pub fn verify(mut self, keys: &KeySet, rules: &TokenRules, now: Timestamp) -> Result<Verified, Refused> {
        rules.shapes(self.padded, &self.header.members)?;
        if !rules.types.accept(self.typ()) {
            return Err(Reason::TokenTypeRefused.into());
        }
        let (kid, typ) = (self.header.kid.clone(), self.header.typ.clone());
        let algorithm = self.header.algorithm;
        let members = std::mem::take(&mut self.header.members);
        let claims = self.signed_by(keys, rules)?;
        if rules.types.refuse(typ.as_deref(), &claims) {
            return Err(Reason::TokenTypeRefused.into());
        }
        let registered = rules.check(&members, &claims, now)?;
        let kid = kid.or_else(|| keys.sole_kid(algorithm).map(Into::into));
        Ok(Verified::of(claims, registered, kid))
    }

    /// The `typ` of the header.
    #[must_use]
    pub fn typ(&self) -> Option<&str> {
        self.header.typ.as_deref()
    }

    /// The claims, where a key of this issuer signed them: of the tenant that they name, where it has tenants. What else
    /// they say is not looked at.
    ///
    /// # Errors
    /// Where the issuer does not use this algorithm, has no such key any more, or its signature does not verify; or the
    /// set has no key for it.
    pub(super) fn signed_by(self, keys: &KeySet, rules: &TokenRules) -> Result<Object, Refused> {
        let Self { message, signature, header: Header { algorithm, kid, .. }, claims, .. } = self;
        if !rules.algorithms.contains(algorithm) {
            return Err(Reason::AlgorithmRefused.into());
        }
        if kid.as_ref().is_some_and(|kid| rules.denied_kids.contains(kid)) {
            return Err(Reason::KeyDenied.into());
        }
        let key = match keys.find_but(&rules.denied_kids, kid.as_deref(), algorithm) {
            Found::One(key) => key,
            Found::Unknown => return Err(Refused::KeyUnknown),
            Found::Ambiguous => return Err(Reason::KeyUnknown.into()),
            Found::WrongAlgorithm => return Err(Reason::AlgorithmRefused.into()),
        };
        if !key.verify(&message, &signature) {
            return Err(Reason::SignatureInvalid.into());
        }
        let tenant = rules.tenants.as_ref().zip(claims.get("iss").and_then(Json::as_text));
        if let Some((tenants, tenant)) = tenant.and_then(|(tenants, iss)| Some((tenants, tenants.of(iss)?)))
            && keys.issuer_of(&rules.denied_kids, kid.as_deref(), algorithm).is_some_and(|of| !tenants.fits(of, tenant))
        {
            return Err(Reason::KeyUnknown.into());
        }
        Ok(claims)
    }
}

impl Verified {
    pub(super) fn of(claims: Object, registered: Registered, kid: Option<Box<str>>) -> Self {
        let Registered { subject, tenant, token_id, issued, not_before, expires } = registered;
        Self { claims, subject, tenant, token_id, issued, not_before, expires, kid }
    }
}

impl Header {
    fn read(text: &[u8]) -> Result<Self, Reason> {
        if text.len() > MAX_HEADER {
            return Err(Reason::TokenHeaderRefused);
        }
        let header = Object::parse(text).map_err(|_| Reason::TokenMalformed)?;
        let name = header.get("alg").and_then(Json::as_text);
        let algorithm = name.and_then(Algorithm::parse).ok_or(Reason::AlgorithmRefused)?;
        if REFUSED.iter().any(|member| header.get(member).is_some()) {
            return Err(Reason::TokenHeaderRefused);
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Json::Text(kid)) if (1..=MAX_KID).contains(&kid.len()) && !kid.contains(char::is_control) => {
                Some(kid.clone())
            }
            Some(_) => return Err(Reason::TokenHeaderRefused),
        };
        let typ = match header.get("typ") {
            None => None,
            Some(Json::Text(typ)) => Some(typ.clone()),
            Some(_) => return Err(Reason::TokenTypeRefused),
        };
        Ok(Self { algorithm, kid, typ, members: header })
    }
}

/// A token is a secret.
impl fmt::Debug for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unverified").field("algorithm", &self.header.algorithm).finish_non_exhaustive()
    }
}

/// Claims may be personal.
impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("expires", &self.expires).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
