//! What tokens are signed with: private keys, each from some time on, and what the world is told of them.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::authz::algorithm::Algorithm;
use crate::authz::time::Timestamp;

/// How far the clocks of who mints and who verifies may differ: so much longer is a key published than its last token
/// lives.
pub const CLOCKS: Duration = Duration::from_secs(600);

/// The seam to whatever holds a private key.
pub trait Sign: Send + Sync {
    /// The signature as JWS wants it (RFC 7515 §3.1); none where it cannot be made.
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>>;
}

impl Sign for Ed25519KeyPair {
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.try_sign(message).ok().map(|signature| signature.as_ref().to_vec())
    }
}

impl Sign for EcdsaKeyPair {
    /// Not the same for the same message: the nonce is random.
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        Self::sign(self, &SystemRandom::new(), message).ok().map(|signature| signature.as_ref().to_vec())
    }
}

/// A private key. No `Debug` shows more than its name.
pub struct Key {
    /// From when on it signs, until one that signs from later on does; `None`: it never does, and is published only.
    pub from: Option<Timestamp>,
    /// Its algorithm: ES256 or EdDSA.
    pub algorithm: Algorithm,
    /// Its name: the thumbprint of its public part (RFC 7638).
    pub kid: Box<str>,
    /// Its public part, as a JWK.
    jwk: Box<str>,
    /// The header of its tokens, encoded, and the dot after it.
    header: Box<str>,
    signer: Box<dyn Sign>,
}

/// Why a text is no key to mint with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// It is not one block of PEM that holds a private key.
    #[error("it is not one `-----BEGIN PRIVATE KEY-----` block of PEM")]
    Malformed,
    /// Its key is of no kind that is minted with.
    #[error("its key is neither on P-256 nor Ed25519")]
    Kind,
}

impl Key {
    /// Reads a private key in PEM: PKCS #8 (RFC 5958), or of an elliptic curve as openssl writes it (RFC 5915).
    ///
    /// # Errors
    /// [`KeyRefused`].
    pub fn read(pem: &[u8], from: Option<Timestamp>) -> Result<Self, KeyRefused> {
        let der = block(pem).ok_or(KeyRefused::Malformed)?;
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(&der) {
            let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
            let public = format!(r#""crv":"Ed25519","kty":"OKP","x":"{x}""#);
            return Ok(Self::new(Algorithm::EdDsa, &public, from, Box::new(pair)));
        }
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, &der)
            .or_else(|_| EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der))
            .map_err(|_| KeyRefused::Kind)?;
        let (_, point) = pair.public_key().as_ref().split_first().ok_or(KeyRefused::Kind)?;
        let (x, y) = point.split_at_checked(32).ok_or(KeyRefused::Kind)?;
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let public = format!(r#""crv":"P-256","kty":"EC","x":"{x}","y":"{y}""#);
        Ok(Self::new(Algorithm::Es256, &public, from, Box::new(pair)))
    }

    /// `public` are the members of the JWK that its thumbprint is made of, in their order (RFC 7638 §3.2).
    fn new(algorithm: Algorithm, public: &str, from: Option<Timestamp>, signer: Box<dyn Sign>) -> Self {
        let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, format!("{{{public}}}").as_bytes()));
        let jwk = format!(r#"{{{public},"alg":"{algorithm}","kid":"{kid}","use":"sig"}}"#);
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}","typ":"at+jwt","kid":"{kid}"}}"#)) + ".";
        Self { from, algorithm, kid: kid.into(), jwk: jwk.into(), header: header.into(), signer }
    }

    /// A token of these claims.
    pub(super) fn token(&self, claims: &str) -> Option<String> {
        let mut token = format!("{}{}", self.header, URL_SAFE_NO_PAD.encode(claims));
        let signature = self.signer.sign(token.as_bytes())?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Some(token)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The bytes of the only block of a private key in PEM.
fn block(pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?.trim();
    let (label, rest) = text.strip_prefix("-----BEGIN ")?.split_once("-----")?;
    if !matches!(label, "PRIVATE KEY" | "EC PRIVATE KEY") {
        return None;
    }
    let (body, after) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(body).ok().filter(|_| after.is_empty())
}

/// Keys to mint with.
#[derive(Debug, Default)]
pub struct Keys(Box<[Key]>);

impl Keys {
    /// These, those that sign from some time on in the order of those times.
    #[must_use]
    pub fn new(mut keys: Vec<Key>) -> Self {
        keys.sort_by_key(|key| key.from);
        Self(keys.into())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    /// The one that signs now: the last one whose time has come.
    #[must_use]
    pub fn signing(&self, now: Timestamp) -> Option<&Key> {
        self.0.iter().rev().find(|key| key.from.is_some_and(|from| from <= now))
    }

    /// Those that are published: but for the ones whose last token, so long it lives, has expired.
    pub fn published(&self, lifetime: Duration, now: Timestamp) -> impl Iterator<Item = &Key> {
        self.0.iter().enumerate().filter(move |(at, key)| !self.is_over(*at, key, lifetime, now)).map(|(_, key)| key)
    }

    /// Whether no token of this key can hold any more.
    fn is_over(&self, at: usize, key: &Key, lifetime: Duration, now: Timestamp) -> bool {
        let next = self.0.iter().skip(at.saturating_add(1)).find_map(|next| next.from);
        key.from.is_some() && next.is_some_and(|next| next.plus(lifetime).plus(CLOCKS) <= now)
    }

    /// What is published, as a JWK Set (RFC 7517 §5).
    #[must_use]
    pub fn jwks(&self, lifetime: Duration, now: Timestamp) -> String {
        let keys: Vec<&str> = self.published(lifetime, now).map(|key| &*key.jwk).collect();
        format!(r#"{{"keys":[{}]}}"#, keys.join(","))
    }
}
