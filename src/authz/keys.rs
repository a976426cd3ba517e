//! Key sets: JWKS or PEM text becomes usable keys, found by (kid, algorithm). A bad key is refused alone, never the set.

mod jwk;
mod material;
mod pem;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::algorithm::{Algorithm, Algorithms};

pub use jwk::KeyFault;
pub use pem::PemError;

pub(crate) use pem::rsa_components;

/// The largest JWKS text that is read, in bytes.
pub const MAX_JWKS: usize = 256 * 1024;

/// How many keys a set may list.
pub const MAX_KEYS: usize = 100;

/// Checks signatures with one key and one algorithm: the one seam to the cryptography library.
pub trait Verify: Send + Sync {
    /// Whether `signature` (as JWS encodes it, RFC 7518 §3) is this key's signature of `message`.
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool;
}

/// Where a JWKS came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Fetched: others can read it too, so no secret may be in it.
    Remote,
    /// From the operator's own configuration.
    Local,
}

/// Why a text is not a JWKS at all (RFC 7517 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// The text is over the cap.
    #[error("the key set is larger than {MAX_JWKS} bytes")]
    TooLarge,
    /// The text is not a JSON object.
    #[error("the key set is not one JSON object")]
    NotAnObject,
    /// The object has no `keys` list, or has it twice.
    #[error("the key set has no `keys` list")]
    NoKeys,
    /// The list is over the cap.
    #[error("the key set lists more than {MAX_KEYS} keys")]
    TooManyKeys,
}

/// What reading a JWKS gave: the usable keys, and why the others are not.
#[derive(Debug)]
pub struct KeyReport {
    /// The usable keys, possibly none.
    pub keys: KeySet,
    /// The others, in the order in which the set lists them.
    pub refused: Vec<RefusedKey>,
}

/// A key of a JWKS that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedKey {
    /// Its position in the set, from 0.
    pub at: usize,
    /// Its kid, where that is printable ASCII; cut at 64 bytes.
    pub kid: Option<Box<str>>,
    /// Why.
    pub why: KeyFault,
}

/// Keys that signatures are checked with. Cheap to clone.
#[derive(Clone)]
pub struct KeySet {
    keys: Arc<[Key]>,
    /// Whether the kid of a token counts: PEM keys have none to compare it with.
    named: bool,
}

struct Key {
    kid: Option<Box<str>>,
    serves: Box<[(Algorithm, Box<dyn Verify>)]>,
    digest: [u8; 32],
}

/// What a key set holds for a token.
pub enum Found<'a> {
    /// The one key.
    One(&'a dyn Verify),
    /// No key has this kid; without a kid, no key fits the algorithm.
    Unknown,
    /// No kid says which of several keys it is.
    Ambiguous,
    /// The key of this kid does not serve this algorithm.
    WrongAlgorithm,
}

impl KeySet {
    /// Reads a JWKS (RFC 7517). A key that cannot be used, or whose kid another key has too, is refused alone.
    ///
    /// # Errors
    /// Where the text is no key set at all, or over a cap.
    pub fn from_jwks(text: &[u8], origin: Origin) -> Result<KeyReport, JwksError> {
        #[derive(Deserialize)]
        struct Jwks<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        if text.len() > MAX_JWKS {
            return Err(JwksError::TooLarge);
        }
        let text = std::str::from_utf8(text).map_err(|_| JwksError::NotAnObject)?;
        // serde would take an array for a struct.
        if !text.trim_ascii_start().starts_with('{') {
            return Err(JwksError::NotAnObject);
        }
        let listed: Jwks<'_> = serde_json::from_str(text).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => JwksError::NoKeys,
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => JwksError::NotAnObject,
        })?;
        if listed.keys.len() > MAX_KEYS {
            return Err(JwksError::TooManyKeys);
        }
        Ok(Self::sort(listed.keys.iter().map(|key| jwk::read(key.get().as_bytes(), origin)).collect()))
    }

    fn sort(read: Vec<jwk::Entry>) -> KeyReport {
        let mut times: BTreeMap<Box<str>, usize> = BTreeMap::new();
        for kid in read.iter().filter_map(|entry| entry.kid.clone()) {
            let count = times.entry(kid).or_default();
            *count = count.saturating_add(1);
        }
        let mut keys = Vec::new();
        let mut refused = Vec::new();
        for (at, jwk::Entry { kid, outcome }) in read.into_iter().enumerate() {
            let twice = kid.as_deref().is_some_and(|kid| times.get(kid).is_some_and(|count| *count > 1));
            let outcome = if twice { Err(KeyFault::KidDuplicate) } else { outcome };
            match outcome {
                Ok(usable) => keys.push(Key::new(kid, usable)),
                Err(why) => refused.push(RefusedKey { at, kid: kid.as_deref().and_then(printable), why }),
            }
        }
        KeyReport { keys: Self { keys: keys.into(), named: true }, refused }
    }

    /// Reads one or more `PUBLIC KEY` blocks. Such keys have no kid and a token's kid is ignored: each serves those of
    /// `algorithms` that its type fits.
    ///
    /// # Errors
    /// Where a block is anything else, or its key is not fit to be used.
    pub fn from_pem(text: &str, algorithms: Algorithms) -> Result<Self, PemError> {
        let keys = pem::read(text, algorithms)?.into_iter().map(|usable| Key::new(None, usable)).collect();
        Ok(Self { keys, named: false })
    }

    /// Finds the key of this kid; without a kid, the only key that serves the algorithm.
    #[must_use]
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        if let Some(kid) = kid.filter(|_| self.named) {
            let Some(key) = self.keys.iter().find(|key| key.kid.as_deref() == Some(kid)) else {
                return Found::Unknown;
            };
            return key.serving(algorithm).map_or(Found::WrongAlgorithm, Found::One);
        }
        let mut fitting = self.keys.iter().filter_map(|key| key.serving(algorithm));
        match (fitting.next(), fitting.next()) {
            (None, _) => Found::Unknown,
            (Some(key), None) => Found::One(key),
            (Some(_), Some(_)) => Found::Ambiguous,
        }
    }

    /// SHA-256 over the usable keys, whatever their order: equal where the sets verify the same tokens.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut digests: Vec<&[u8; 32]> = self.keys.iter().map(|key| &key.digest).collect();
        digests.sort_unstable();
        let mut content = vec![u8::from(self.named)];
        digests.into_iter().for_each(|digest| content.extend_from_slice(digest));
        sha256(&content)
    }

    /// The kids of the usable keys that have one.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(|key| key.kid.as_deref())
    }

    /// How many keys are usable.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is usable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Key {
    fn new(kid: Option<Box<str>>, usable: jwk::Usable) -> Self {
        let mut content = Vec::new();
        if let Some(kid) = &kid {
            // A kid is at most 256 bytes and has no NUL, so that this cannot read as another key's content.
            content.extend_from_slice(kid.as_bytes());
        }
        content.push(0);
        for (algorithm, _) in &usable.serves {
            content.extend_from_slice(algorithm.name().as_bytes());
            content.push(b' ');
        }
        content.push(0);
        content.extend_from_slice(&usable.content);
        Self { kid, serves: usable.serves, digest: sha256(&content) }
    }

    fn serving(&self, algorithm: Algorithm) -> Option<&dyn Verify> {
        self.serves.iter().find(|(served, _)| *served == algorithm).map(|(_, key)| &**key)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.iter().map(|key| key.kid.as_deref())).finish()
    }
}

impl fmt::Debug for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One(_) => "One",
            Self::Unknown => "Unknown",
            Self::Ambiguous => "Ambiguous",
            Self::WrongAlgorithm => "WrongAlgorithm",
        })
    }
}

fn printable(kid: &str) -> Option<Box<str>> {
    kid.bytes().all(|byte| byte.is_ascii_graphic()).then(|| kid.get(..64).unwrap_or(kid).into())
}

fn sha256(content: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.iter_mut().zip(digest::digest(&digest::SHA256, content).as_ref()).for_each(|(to, from)| *to = *from);
    hash
}
