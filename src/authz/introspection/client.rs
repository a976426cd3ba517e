//! Who asks: the client that portcullis is to an issuer, and how it proves that (RFC 6749 §2.3, RFC 7523 §2.2).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::super::digest;
use super::super::time::Timestamp;

/// How long an assertion is good: time to arrive, and for clocks to differ.
const LIFETIME: Duration = Duration::from_secs(60);
/// The shortest modulus of an RSA key, in bytes.
const MIN_RSA: usize = 256;

/// The client that portcullis is.
#[derive(Debug)]
pub struct Client {
    /// Its `client_id`.
    pub id: Box<str>,
    /// How it proves that it is this client.
    pub proof: Proof,
}

/// How a client proves who it is.
#[derive(Debug)]
pub enum Proof {
    /// By its secret in `Authorization: Basic` (RFC 6749 §2.3.1).
    Basic(ClientSecret),
    /// By its secret in the form (RFC 6749 §2.3.1).
    Post(ClientSecret),
    /// By an assertion that it signs (RFC 7523 §2.2), for this audience.
    Signed(Arc<ClientKey>, Box<str>),
}

impl Proof {
    /// A digest of what only the client knows, so that another secret makes another issuer.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        match self {
            Self::Basic(ClientSecret(secret)) | Self::Post(ClientSecret(secret)) => digest::of("secret", &[secret]),
            Self::Signed(key, _) => key.digest,
        }
    }
}

/// A secret that no log and no `Debug` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientSecret(pub Box<[u8]>);

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(..)")
    }
}

/// An algorithm that an assertion is signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Signing {
    /// Its name in RFC 7518 §3.1 and RFC 8037 §3.1.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// A private key that assertions are signed with.
pub struct ClientKey {
    pair: Pair,
    kid: Option<Box<str>>,
    signing: Signing,
    digest: [u8; 32],
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Why a file is no key that assertions can be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientKeyFault {
    /// It has no block of a private key.
    #[error("there is no PEM block `-----BEGIN PRIVATE KEY-----` (PKCS #8; openssl pkcs8 -topk8 -nocrypt)")]
    NoKey,
    /// The block is no key for this algorithm.
    #[error("the private key is not one for this algorithm")]
    OtherKey,
    /// The key is too short.
    #[error("the RSA key is shorter than 2048 bits")]
    Short,
}

impl ClientKey {
    /// Reads a private key (RFC 7468 §10, RFC 5958).
    ///
    /// # Errors
    /// Where there is none, or it does not fit the algorithm.
    pub fn from_pem(pem: &[u8], signing: Signing, kid: Option<&str>) -> Result<Self, ClientKeyFault> {
        let der = der(pem).ok_or(ClientKeyFault::NoKey)?;
        let other = |_| ClientKeyFault::OtherKey;
        let pair = match signing {
            Signing::Rs256 => Pair::Rsa(RsaKeyPair::from_pkcs8(&der).map_err(other)?),
            Signing::Es256 => {
                let scheme = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
                Pair::Ec(EcdsaKeyPair::from_pkcs8(scheme, &der).map_err(other)?)
            }
            Signing::EdDsa => Pair::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(other)?),
        };
        if matches!(&pair, Pair::Rsa(pair) if pair.public_modulus_len() < MIN_RSA) {
            return Err(ClientKeyFault::Short);
        }
        Ok(Self { pair, kid: kid.map(Into::into), signing, digest: digest::of("client key", &[&der]) })
    }

    /// A key that nobody knows, where a policy is only looked at.
    #[must_use]
    pub fn throw_away() -> Option<Self> {
        let pair = Pair::Ed25519(Ed25519KeyPair::generate().ok()?);
        Some(Self { pair, kid: None, signing: Signing::EdDsa, digest: [0; 32] })
    }

    /// An assertion that its bearer is this client (RFC 7523 §3), good for a minute. `id` makes it the only one of its
    /// kind; `None` where signing fails.
    #[must_use]
    pub fn assertion(&self, client: &str, audience: &str, id: &str, now: Timestamp) -> Option<String> {
        let mut header = serde_json::json!({"alg": self.signing.name(), "typ": "JWT"});
        if let (Some(kid), Some(header)) = (&self.kid, header.as_object_mut()) {
            header.insert("kid".into(), (**kid).into());
        }
        let seconds = |at: Timestamp| at.as_millis().div_euclid(1_000);
        let claims = serde_json::json!({
            "iss": client, "sub": client, "aud": audience, "jti": id,
            "iat": seconds(now), "exp": seconds(now.plus(LIFETIME)),
        });
        let encode = |part: String| URL_SAFE_NO_PAD.encode(part);
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes())?);
        Some(format!("{message}.{signature}"))
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Pair::Ec(pair) => pair.sign(&random, message).ok().map(|signature| signature.as_ref().to_vec()),
            Pair::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientKey").field("signing", &self.signing).field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The bytes of the first private key of a PEM text.
fn der(pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, rest) = text.split_once("-----BEGIN PRIVATE KEY-----")?;
    let (body, _) = rest.split_once("-----END PRIVATE KEY-----")?;
    STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
}
