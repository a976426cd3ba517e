//! The DPoP proof (RFC 9449 §4): read strictly, checked against the request, the token and the key that it is bound to.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use super::{Nonce, Once, Possession, Shown, target};
use crate::authz::claim::time;
use crate::authz::digest;
use crate::authz::json::{Json, Object};
use crate::authz::keys;
use crate::authz::reason::Reason;
use crate::authz::request::Request;
use crate::authz::token::Unverified;

/// The longest `jti`, in bytes.
const MAX_ID: usize = 512;

/// A proof as it came: well formed, but anyone may have written it.
pub struct Proof {
    jws: Unverified,
    jwk: Object,
    thumbprint: [u8; 32],
}

/// The text of the one proof of a request. Gateways join two lines by a comma, which no proof holds.
pub(super) fn sole<'r>(request: &Request<'r>) -> Result<&'r [u8], Reason> {
    let mut lines = request.header(b"dpop");
    let proof = lines.next().ok_or(Reason::ProofMissing)?;
    let alone = lines.next().is_none() && !proof.contains(&b',');
    if alone { Ok(proof) } else { Err(Reason::ProofMalformed) }
}

impl Proof {
    /// Reads a proof (RFC 9449 §4.2): a JWS of type `dpop+jwt` with a public key in its header.
    ///
    /// # Errors
    /// [`Reason::ProofMalformed`].
    pub fn read(text: &[u8]) -> Result<Self, Reason> {
        let malformed = |_| Reason::ProofMalformed;
        let (jws, mut header) = Unverified::read_with_header(text).map_err(malformed)?;
        if header.get("typ").and_then(Json::as_text) != Some("dpop+jwt") || jws.algorithm().is_symmetric() {
            return Err(Reason::ProofMalformed);
        }
        let Some(Json::Object(jwk)) = header.take("jwk") else { return Err(Reason::ProofMalformed) };
        let thumbprint = thumbprint(&jwk).ok_or(Reason::ProofMalformed)?;
        Ok(Self { jws, jwk, thumbprint })
    }

    /// The thumbprint of its key (RFC 7638).
    #[must_use]
    pub fn thumbprint(&self) -> &[u8; 32] {
        &self.thumbprint
    }

    /// Checks everything of a proof but that it is the first of its kind, the signature last: whoever lacks the token is
    /// refused before that costs anything.
    pub(super) fn check(
        &self,
        text: &[u8],
        key: &[u8; 32],
        wanted: &Possession,
        shown: &Shown<'_, '_>,
    ) -> Result<Once, Reason> {
        let Self { jws, thumbprint, .. } = self;
        let claims = jws.claims();
        let claim = |name: &str| claims.get(name).and_then(Json::as_text);
        let required = |name: &str| claim(name).ok_or(Reason::ProofMalformed);
        if !wanted.algorithms.contains(jws.algorithm()) {
            return Err(Reason::ProofMalformed);
        }
        let id = required("jti").ok().filter(|id| (1..=MAX_ID).contains(&id.len())).ok_or(Reason::ProofMalformed)?;
        let (method, url) = (required("htm")?, required("htu")?);
        verify_slices_are_equal(thumbprint, key).map_err(|_| Reason::ProofKeyMismatch)?;
        let request = shown.request;
        if method != request.method || !target::is_of(url, request, &wanted.origins, wanted.only_there) {
            return Err(Reason::ProofRequestMismatch);
        }
        if claim("ath").and_then(super::decoded).as_ref() != Some(shown.token) {
            return Err(Reason::ProofTokenMismatch);
        }
        let malformed = |_| Reason::ProofMalformed;
        let issued = time(claims, "iat").map_err(malformed)?.ok_or(Reason::ProofMalformed)?;
        let (expires, begins) = (time(claims, "exp").map_err(malformed)?, time(claims, "nbf").map_err(malformed)?);
        let until = issued.plus(wanted.window);
        let latest = shown.now.plus(wanted.window);
        let ended = shown.now >= until || expires.is_some_and(|expires| shown.now >= expires);
        if ended || issued > latest || begins.is_some_and(|begins| begins > latest) {
            return Err(Reason::ProofExpired);
        }
        self.check_nonce(wanted.nonce, shown)?;
        let mut proof = [0; 32];
        proof.iter_mut().zip(digest(&SHA256, text).as_ref()).for_each(|(to, from)| *to = *from);
        let once = Once { key: digest::of("dpop", &[thumbprint, id.as_bytes()]), until, proof };
        if shown.verified.is_none_or(|verified| verified.proof != once.proof) {
            self.verify()?;
        }
        Ok(once)
    }

    fn check_nonce(&self, wanted: Nonce, shown: &Shown<'_, '_>) -> Result<(), Reason> {
        let current = |nonce: &Json| {
            let known = |nonce: &str| shown.nonces.is_some_and(|nonces| nonces.knows(nonce, shown.now));
            nonce.as_text().is_some_and(known)
        };
        let held = match (wanted, self.jws.claims().get("nonce")) {
            (Nonce::None, _) | (Nonce::Offered, None) => true,
            (Nonce::Required, None) => false,
            (Nonce::Offered | Nonce::Required, Some(nonce)) => current(nonce),
        };
        if held { Ok(()) } else { Err(Reason::ProofNonceRequired) }
    }

    /// Verifies the signature by the key in the header, which must be as sound as any issuer's.
    fn verify(&self) -> Result<(), Reason> {
        let key = keys::embedded(&self.jwk, self.jws.algorithm()).map_err(|_| Reason::ProofMalformed)?;
        if self.jws.is_signed_by(&*key) { Ok(()) } else { Err(Reason::ProofSignatureInvalid) }
    }
}

/// The hash of a key's required members, in the order of their names and without white space (RFC 7638 §3).
fn thumbprint(jwk: &Object) -> Option<[u8; 32]> {
    let member = |name: &str| {
        let text = jwk.get(name).and_then(Json::as_text)?;
        // What is written otherwise is no key, and would have to be escaped here.
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')).then_some(text)
    };
    let text = match member("kty")? {
        "EC" => {
            let (crv, x, y) = (member("crv")?, member("x")?, member("y")?);
            format!(r#"{{"crv":"{crv}","kty":"EC","x":"{x}","y":"{y}"}}"#)
        }
        "OKP" => format!(r#"{{"crv":"{}","kty":"OKP","x":"{}"}}"#, member("crv")?, member("x")?),
        "RSA" => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, member("e")?, member("n")?),
        _ => return None,
    };
    digest(&SHA256, text.as_bytes()).as_ref().try_into().ok()
}
