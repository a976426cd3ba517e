//! Key sets: JWKS or PEM text becomes usable keys, found by (kid, algorithm). A bad key is refused alone, never the set.

mod jwk;
mod kid;
mod material;
mod pem;
mod secret;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::algorithm::{Algorithm, Algorithms};
use super::json::Object;

pub use jwk::KeyFault;
pub use kid::UuidKid;
pub use pem::PemError;
pub use secret::SecretFault;

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

/// A verifier for one algorithm of a public key that came with what it signed, and says nothing of who signed that.
///
/// # Errors
/// Where the key is not fit to be used, by the same rules as any other.
pub(super) fn embedded(jwk: &Object, algorithm: Algorithm) -> Result<Box<dyn Verify>, KeyFault> {
    let usable = jwk::usable(jwk, Origin::Remote, Some(algorithm))?;
    usable.serves.into_iter().next().map(|(_, key)| key).ok_or(KeyFault::AlgorithmMismatch)
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
#[derive(Clone, Default)]
pub struct KeySet {
    keys: Arc<[Key]>,
    /// Whether the kid of a token counts: PEM keys have none to compare it with.
    named: bool,
}

struct Key {
    kid: Option<Box<str>>,
    /// The issuer whose key it is, where the set says so.
    issuer: Option<Box<str>>,
    serves: Box<[(Algorithm, Box<dyn Verify>)]>,
    digest: [u8; 32],
    /// It as a JWK with its public members only; `None` for a secret.
    public: Option<Box<str>>,
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
        for (at, jwk::Entry { kid, issuer, outcome }) in read.into_iter().enumerate() {
            let twice = kid.as_deref().is_some_and(|kid| times.get(kid).is_some_and(|count| *count > 1));
            let outcome = if twice { Err(KeyFault::KidDuplicate) } else { outcome };
            match outcome {
                Ok(usable) => keys.push(Key::of(issuer, kid, usable)),
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

    /// A set of PEM texts of one key each, by the kids under which they were fetched. A text that is no such key is left
    /// out.
    #[must_use]
    pub fn from_named_pems(texts: &[(UuidKid, String)], algorithms: Algorithms) -> Self {
        let key = |(kid, text): &(UuidKid, String)| {
            let [usable] = <[_; 1]>::try_from(pem::read(text, algorithms).ok()?).ok()?;
            Some(Key::new(Some(kid.as_str().into()), usable))
        };
        Self { keys: texts.iter().filter_map(key).collect(), named: true }
    }

    /// A set of shared secrets, each with its kid; or all without one, and then each may have signed a token whatever
    /// kid that names. They serve those of `algorithms` that are of shared secrets.
    ///
    /// # Errors
    /// Where one could be guessed, or is no secret: its place, and why.
    pub fn from_secrets(
        secrets: &[(Option<Box<str>>, &[u8])],
        algorithms: Algorithms,
    ) -> Result<Self, (usize, SecretFault)> {
        if secrets.iter().any(|(kid, _)| kid.is_none()) {
            let secrets: Vec<&[u8]> = secrets.iter().map(|(_, secret)| *secret).collect();
            let keys = Arc::new([Key::new(None, secret::usable(&secrets, algorithms)?)]);
            return Ok(Self { keys, named: false });
        }
        let key = |(at, (kid, bytes)): (usize, &(Option<Box<str>>, &[u8]))| {
            let usable = secret::usable(&[*bytes], algorithms).map_err(|(_, fault)| (at, fault))?;
            Ok(Key::new(kid.clone(), usable))
        };
        Ok(Self { keys: secrets.iter().enumerate().map(key).collect::<Result<_, _>>()?, named: true })
    }

    /// Finds the key of this kid; without a kid, the only key that serves the algorithm.
    #[must_use]
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        self.find_but(&[], kid, algorithm)
    }

    /// The same where keys of these kids are not there, whether a token names them or not.
    #[must_use]
    pub fn find_but(&self, denied: &[Box<str>], kid: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        let is_denied = |key: &&Key| key.kid.as_ref().is_some_and(|kid| denied.contains(kid));
        let mut keys = self.keys.iter().filter(|key| !is_denied(key));
        if let Some(kid) = kid.filter(|_| self.named) {
            let Some(key) = keys.find(|key| key.kid.as_deref() == Some(kid)) else {
                return Found::Unknown;
            };
            return key.serving(algorithm).map_or(Found::WrongAlgorithm, Found::One);
        }
        let mut fitting = keys.filter_map(|key| key.serving(algorithm));
        match (fitting.next(), fitting.next()) {
            (None, _) => Found::Unknown,
            (Some(key), None) => Found::One(key),
            (Some(_), Some(_)) => Found::Ambiguous,
        }
    }

    /// The kid of the only key that serves the algorithm.
    #[must_use]
    pub fn sole_kid(&self, algorithm: Algorithm) -> Option<&str> {
        let mut fitting = self.keys.iter().filter(|key| key.serving(algorithm).is_some());
        fitting.next().filter(|_| fitting.next().is_none()).and_then(|key| key.kid.as_deref())
    }

    /// The issuer whose key [`KeySet::find_but`] finds, where the set says so: sets that several issuers share do.
    #[must_use]
    pub fn issuer_of(&self, denied: &[Box<str>], kid: Option<&str>, algorithm: Algorithm) -> Option<&str> {
        let kid = kid.filter(|_| self.named);
        let is_denied = |key: &&Key| key.kid.as_ref().is_some_and(|kid| denied.contains(kid));
        let fits = |key: &&Key| {
            !is_denied(key) && key.serving(algorithm).is_some() && (kid.is_none() || key.kid.as_deref() == kid)
        };
        self.keys.iter().find(fits)?.issuer.as_deref()
    }

    /// SHA-256 over the usable keys, whatever their order: equal where the sets verify the same tokens.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut digests: Vec<&[u8; 32]> = self.keys.iter().map(|key| &key.digest).collect();
        digests.sort_unstable();
        let mut content = vec![u8::from(self.named && !self.is_empty())];
        digests.into_iter().for_each(|digest| content.extend_from_slice(digest));
        sha256(&content)
    }

    /// The kids of the usable keys that have one.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(|key| key.kid.as_deref())
    }

    /// The usable keys: the kid of each, where it has one, and the algorithms that it serves.
    pub fn listed(&self) -> impl Iterator<Item = (Option<&str>, impl Iterator<Item = Algorithm>)> {
        self.keys.iter().map(|key| (key.kid.as_deref(), key.serves.iter().map(|(algorithm, _)| *algorithm)))
    }

    /// The set as a JWKS (RFC 7517 §5), of which reading makes the same set again: what was accepted of each key, and
    /// nothing else that was said of it. `None` for a set that came from no JWKS, which may hold secrets.
    #[must_use]
    pub fn to_jwks(&self) -> Option<String> {
        let keys: Option<Vec<&str>> = self.keys.iter().map(|key| key.public.as_deref()).collect();
        let keys = keys.filter(|_| self.named)?;
        Some(format!("{{\"keys\":[{}]}}", keys.join(",")))
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
        let public = usable.public.map(|mut jwk| {
            if let Some(kid) = &kid {
                jwk.insert("kid".into(), (**kid).into());
            }
            if let [(algorithm, _)] = &*usable.serves {
                jwk.insert("alg".into(), algorithm.name().into());
            }
            serde_json::Value::Object(jwk).to_string().into()
        });
        Self { kid, issuer: None, serves: usable.serves, digest: sha256(&content), public }
    }

    /// The same, where the set may say whose key it is.
    fn of(issuer: Option<Box<str>>, kid: Option<Box<str>>, mut usable: jwk::Usable) -> Self {
        let Some(named) = &issuer else { return Self::new(kid, usable) };
        if let Some(jwk) = &mut usable.public {
            jwk.insert("issuer".into(), (**named).into());
        }
        let key = Self::new(kid, usable);
        let digest = sha256(&[&key.digest, named.as_bytes()].concat());
        Self { issuer, digest, ..key }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::dev::mint::SigningKey;

    fn jwk(algorithm: Algorithm, kid: &str) -> Value {
        SigningKey::shared(algorithm).public_jwk(Some(kid))
    }

    fn report(keys: &[Value]) -> KeyReport {
        KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes(), Origin::Remote).unwrap()
    }

    /// What becomes of one key with these members changed (`null` removes one).
    fn fault(mut key: Value, changes: Value) -> Option<KeyFault> {
        let members = key.as_object_mut().unwrap();
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                members.remove(name);
            } else {
                members.insert(name.clone(), value.clone());
            }
        }
        let report = report(&[key]);
        assert_eq!(report.keys.is_empty(), report.refused.len() == 1);
        report.refused.first().map(|refused| refused.why)
    }

    fn one<'a>(keys: &'a KeySet, kid: &str, algorithm: Algorithm) -> &'a dyn Verify {
        let Found::One(key) = keys.find(Some(kid), algorithm) else { panic!("no key {kid}") };
        key
    }

    fn encode(bytes: &[u8]) -> String {
        base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes)
    }

    fn decode(key: &Value, member: &str) -> Vec<u8> {
        let text = key[member].as_str().unwrap();
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text).unwrap()
    }

    #[test]
    fn each_algorithm_verifies_what_its_key_signed_and_nothing_else() {
        for algorithm in Algorithm::ASYMMETRIC.iter().copied() {
            let signer = SigningKey::shared(algorithm);
            let signature = signer.signature(b"message");
            let from_jwks = report(&[jwk(algorithm, "k")]).keys;
            let from_pem = KeySet::from_pem(&signer.public_pem(), [algorithm].into_iter().collect()).unwrap();
            for keys in [from_jwks, from_pem] {
                let key = one(&keys, "k", algorithm);
                assert!(key.verify(b"message", &signature), "{algorithm}");
                assert!(!key.verify(b"Message", &signature), "{algorithm}");
                assert!(!key.verify(b"message", b""), "{algorithm}");
                let mut flipped = signature.clone();
                *flipped.last_mut().unwrap() ^= 1;
                assert!(!key.verify(b"message", &flipped), "{algorithm}");
            }
        }
    }

    #[test]
    fn a_set_is_written_with_what_was_accepted_of_it_and_read_as_the_same_set() {
        for algorithm in Algorithm::ASYMMETRIC.iter().copied() {
            let mut key = jwk(algorithm, "k \"\\");
            key["x5c"] = json!(["canary"]);
            let (mut free, mut nameless) = (key.clone(), key.clone());
            free.as_object_mut().unwrap().remove("alg");
            free["kid"] = json!("free");
            nameless.as_object_mut().unwrap().remove("kid");
            for keys in [&[key.clone()][..], &[free.clone()], &[nameless.clone()], &[key, free, nameless]] {
                let set = report(keys).keys;
                let written = set.to_jwks().unwrap();
                let read = KeySet::from_jwks(written.as_bytes(), Origin::Remote).unwrap();
                assert_eq!((read.keys.digest(), read.refused.len()), (set.digest(), 0), "{algorithm}");
                assert_eq!(read.keys.to_jwks().unwrap(), written);
                let told =
                    |set: &KeySet| set.listed().map(|(kid, all)| (kid.map(str::to_owned), all.collect())).collect();
                let listed: (Vec<(_, Vec<_>)>, Vec<(_, Vec<_>)>) = (told(&set), told(&read.keys));
                assert_eq!(listed.0, listed.1);
                assert!(!written.contains("canary"), "{written}");
            }
        }
        let pem = SigningKey::shared(Algorithm::Es256).public_pem();
        assert_eq!(KeySet::from_pem(&pem, [Algorithm::Es256].into_iter().collect()).unwrap().to_jwks(), None);
        let secret = (Some("k".into()), &b"kZ3vQ8xLw1TnB6yRjH0pUeGc4sMdFa7iOq9XtJbV"[..]);
        let secrets = KeySet::from_secrets(&[secret], [Algorithm::Hs256].into_iter().collect()).unwrap();
        assert_eq!(secrets.to_jwks(), None, "a secret is written nowhere");
    }

    #[test]
    fn one_bad_key_never_fails_the_set() {
        let good = jwk(Algorithm::Es256, "good").to_string();
        let other = jwk(Algorithm::EdDsa, "b").to_string();
        let text = format!(
            r#"{{"keys":[1,{{"kid":1}},{good},{{"kty":"EC","use":1}},{{"kty":"EC","alg":5}},{{"kty":"RSA","kty":"RSA"}},
            {},null]}}"#,
            other.replacen('{', r#"{"x5c":"z","#, 1)
        );
        let report = KeySet::from_jwks(text.as_bytes(), Origin::Remote).unwrap();
        assert_eq!(report.keys.kids().collect::<Vec<_>>(), ["good", "b"]);
        let refused: Vec<_> = report.refused.iter().map(|refused| (refused.at, refused.why.code())).collect();
        assert_eq!(
            refused,
            [
                (0, "not_an_object"),
                (1, "kid_malformed"),
                (3, "use_refused"),
                (4, "curve_unknown"),
                (5, "not_an_object"),
                (7, "not_an_object")
            ]
        );
    }

    #[test]
    fn what_is_no_key_set_is_an_error() {
        let read = |text: &[u8]| KeySet::from_jwks(text, Origin::Remote).map(|report| report.keys.len());
        assert_eq!(read(br#"{"keys":[]}"#), Ok(0));
        for text in [&b"[]"[..], b"[[]]", b"", b"<html>", b"null", b"{\"keys\":[", b"\xff", b"{\"keys\":[]} x"] {
            assert_eq!(read(text), Err(JwksError::NotAnObject), "{text:?}");
        }
        for text in [r#"{}"#, r#"{"keys":{}}"#, r#"{"keys":null}"#, r#"{"keys":[],"keys":[]}"#] {
            assert_eq!(read(text.as_bytes()), Err(JwksError::NoKeys), "{text}");
        }
        let many = |count| format!(r#"{{"keys":[{}]}}"#, vec!["{}"; count].join(","));
        assert_eq!(read(many(100).as_bytes()), Ok(0));
        assert_eq!(read(many(101).as_bytes()), Err(JwksError::TooManyKeys));
        let padded = |length: usize| [r#"{"keys":[]}"#, &" ".repeat(length - 11)].concat();
        assert_eq!(read(padded(MAX_JWKS).as_bytes()), Ok(0));
        assert_eq!(read(padded(MAX_JWKS + 1).as_bytes()), Err(JwksError::TooLarge));
        assert!(read(format!(r#"{{"keys":[{}]}}"#, "[".repeat(100_000)).as_bytes()).is_err());
    }

    // J05
    #[test]
    fn keys_that_share_a_kid_are_all_refused() {
        let twice = |second: Value| {
            let report = report(&[jwk(Algorithm::Rs256, "a"), jwk(Algorithm::EdDsa, "b"), second]);
            assert_eq!(report.keys.kids().collect::<Vec<_>>(), ["b"]);
            assert!(matches!(report.keys.find(Some("a"), Algorithm::Rs256), Found::Unknown));
            let why: Vec<_> = report.refused.iter().map(|refused| (refused.at, refused.why)).collect();
            assert_eq!(why, [(0, KeyFault::KidDuplicate), (2, KeyFault::KidDuplicate)]);
        };
        twice(jwk(Algorithm::Rs512, "a"));
        twice(jwk(Algorithm::Rs256, "a"));
        twice(jwk(Algorithm::Es256, "a"));
        twice(json!({"kty": "oct", "k": "c2VjcmV0", "kid": "a"}));
    }

    // J03, J22
    #[test]
    fn a_key_serves_its_own_algorithm_only() {
        let keys = report(&[jwk(Algorithm::Rs256, "rsa"), jwk(Algorithm::Es256, "ec")]).keys;
        for algorithm in Algorithm::ALL.iter().copied() {
            let found = keys.find(Some("rsa"), algorithm);
            assert_eq!(matches!(found, Found::One(_)), algorithm == Algorithm::Rs256, "{algorithm}");
            assert_eq!(matches!(found, Found::WrongAlgorithm), algorithm != Algorithm::Rs256, "{algorithm}");
        }
        let mut untied = jwk(Algorithm::Rs256, "rsa");
        untied.as_object_mut().unwrap().remove("alg");
        let keys = report(&[untied]).keys;
        for algorithm in Algorithm::ALL.iter().copied() {
            let rsa = algorithm.name().starts_with(['R', 'P']);
            assert_eq!(matches!(keys.find(Some("rsa"), algorithm), Found::One(_)), rsa, "{algorithm}");
        }
    }

    #[test]
    fn without_a_kid_only_the_one_fitting_key_is_found() {
        let keys = report(&[jwk(Algorithm::Es256, "a"), jwk(Algorithm::EdDsa, "b"), jwk(Algorithm::EdDsa, "c")]).keys;
        assert!(matches!(keys.find(None, Algorithm::Es256), Found::One(_)));
        assert!(matches!(keys.find(None, Algorithm::EdDsa), Found::Ambiguous));
        assert!(matches!(keys.find(None, Algorithm::Rs256), Found::Unknown));
        let nameless = report(&[SigningKey::shared(Algorithm::Es256).public_jwk(None)]).keys;
        assert!(matches!(nameless.find(None, Algorithm::Es256), Found::One(_)));
        assert!(matches!(nameless.find(Some("a"), Algorithm::Es256), Found::Unknown));
    }

    // J02, J23
    #[test]
    fn public_keys_serve_no_algorithm_of_secrets_and_secrets_none_of_public_keys() {
        let secret = [
            3, 1, 4, 15, 9, 2, 6, 5, 35, 89, 79, 32, 38, 46, 26, 43, 83, 27, 95, 2, 88, 41, 97, 169, 39, 93, 7, 51, 5,
            8, 20, 97,
        ];
        let all: Algorithms =
            Algorithm::ALL.iter().copied().filter(|a| !matches!(a, Algorithm::Hs384 | Algorithm::Hs512)).collect();
        let secrets = KeySet::from_secrets(&[(Some("k".into()), &secret)], all).unwrap();
        let mut untied = jwk(Algorithm::Rs256, "k");
        untied.as_object_mut().unwrap().remove("alg");
        let public = report(&[untied]).keys;
        for algorithm in Algorithm::ALL.iter().copied() {
            let by_secret = matches!(secrets.find(Some("k"), algorithm), Found::One(_));
            assert_eq!(by_secret, algorithm == Algorithm::Hs256, "{algorithm}");
            let by_key = matches!(public.find(Some("k"), algorithm), Found::One(_));
            assert!(!(by_key && algorithm.is_symmetric()), "{algorithm}");
        }
        let pem = SigningKey::shared(Algorithm::Rs256).public_pem();
        assert!(KeySet::from_pem(&pem, [Algorithm::Hs256].into_iter().collect()).is_err());
    }

    #[test]
    fn secrets_are_found_by_their_kid_or_each_is_tried() {
        let [one, two] = [SigningKey::generate(Algorithm::Hs256), SigningKey::generate(Algorithm::Hs256)];
        let hs256: Algorithms = [Algorithm::Hs256].into_iter().collect();
        let bytes = |key: &SigningKey| key.secret().unwrap().to_vec();
        let (first, second) = (bytes(&one), bytes(&two));
        let (a, b): (Option<Box<str>>, Option<Box<str>>) = (Some("a".into()), Some("b".into()));
        let named = KeySet::from_secrets(&[(a, &first), (b, &second)], hs256).unwrap();
        let verifies = |keys: &KeySet, kid: Option<&str>, by: &SigningKey| {
            let found = keys.find(kid, Algorithm::Hs256);
            matches!(found, Found::One(key) if key.verify(b"m", &by.signature(b"m")))
        };
        assert!(verifies(&named, Some("a"), &one) && verifies(&named, Some("b"), &two));
        assert!(!verifies(&named, Some("a"), &two) && !verifies(&named, Some("c"), &one));
        assert!(matches!(named.find(None, Algorithm::Hs256), Found::Ambiguous));
        let unnamed = KeySet::from_secrets(&[(None, &first), (None, &second)], hs256).unwrap();
        for kid in [None, Some("a"), Some("c")] {
            assert!(verifies(&unnamed, kid, &one) && verifies(&unnamed, kid, &two), "{kid:?}");
        }
        let only = KeySet::from_secrets(&[(None, &first)], hs256).unwrap();
        assert!(!verifies(&only, None, &two));
        assert_ne!(only.digest(), unnamed.digest());
        assert_eq!(KeySet::from_secrets(&[(None, &first), (None, b"short")], hs256).unwrap_err().0, 1);
    }

    // J20
    #[test]
    fn ecdsa_signatures_of_other_shapes_or_out_of_range_do_not_verify() {
        let signer = SigningKey::shared(Algorithm::Es256);
        let keys = report(&[jwk(Algorithm::Es256, "k")]).keys;
        let key = one(&keys, "k", Algorithm::Es256);
        let order = b"\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51";
        let good = signer.signature(b"m");
        assert!(key.verify(b"m", &good));
        let (r, s) = good.split_at(32);
        let mut one = [0; 32];
        one[31] = 1;
        for signature in [
            [&[0; 32][..], &[0; 32]].concat(),
            [&[0; 32][..], &one].concat(),
            [&one[..], &[0; 32]].concat(),
            [&order[..], s].concat(),
            [r, order].concat(),
            [&[0xff; 32], s].concat(),
            [r, &[0xff; 32]].concat(),
            b"\x30\x06\x02\x01\x00\x02\x01\x00".to_vec(),
            good[..63].to_vec(),
            [&good[..], &[0]].concat(),
            [&[0], &good[..]].concat(),
            [&[0], r, &[0], s].concat(),
            [&good[..], &good].concat(),
        ] {
            assert!(!key.verify(b"m", &signature), "{signature:?}");
        }
    }

    // J21
    #[test]
    fn weak_rsa_keys_are_refused() {
        let rsa = jwk(Algorithm::Rs256, "k");
        let n = decode(&rsa, "n");
        let modulus = |bytes: &[u8]| fault(rsa.clone(), json!({ "n": encode(bytes) }));
        let exponent = |bytes: &[u8]| fault(rsa.clone(), json!({ "e": encode(bytes) }));
        assert_eq!(modulus(&n), None);
        for length in [64, 128, 255] {
            let mut short = n[..length].to_vec();
            *short.last_mut().unwrap() |= 1;
            assert_eq!(modulus(&short), Some(KeyFault::ModulusSize), "{length}");
        }
        let mut bits_2047 = n.clone();
        bits_2047[0] = 0x7f;
        assert_eq!(modulus(&bits_2047), Some(KeyFault::ModulusSize));
        assert_eq!(modulus(&[0xff; 1_024]), None);
        assert_eq!(modulus(&[&[1][..], &[0xff; 1_024]].concat()), Some(KeyFault::ModulusSize));
        assert_eq!(modulus(&[0xff; 2_048]), Some(KeyFault::ModulusSize));
        for malformed in [&[][..], &[0], &[&[0], &n[..]].concat(), &[&[0, 0], &n[..]].concat()] {
            assert_eq!(modulus(malformed), Some(KeyFault::Malformed));
        }
        let mut even = n.clone();
        *even.last_mut().unwrap() &= 0xfe;
        assert_eq!(modulus(&even), Some(KeyFault::ModulusWeak));

        for weak in [&[1][..], &[3], &[17], &[0xff, 0xff], &[1, 0, 0], &[1, 0, 2], &[0x02, 0, 0, 0, 1], &[0xff; 9]] {
            assert_eq!(exponent(weak), Some(KeyFault::Exponent), "{weak:?}");
        }
        assert_eq!(exponent(&[0xff, 0xff, 0xff, 0xfb]), None);
        assert_eq!(exponent(&[0, 1, 0, 1]), Some(KeyFault::Malformed));
        assert_eq!(exponent(&[0]), Some(KeyFault::Malformed));
        assert_eq!(fault(rsa.clone(), json!({ "e": "AQAB=" })), Some(KeyFault::Malformed));
        assert_eq!(fault(rsa.clone(), json!({ "e": 65_537 })), Some(KeyFault::Malformed));
        assert_eq!(fault(rsa, json!({ "n": null })), Some(KeyFault::Malformed));
    }

    // J21
    #[test]
    fn an_rsa_signature_without_its_leading_zero_does_not_verify() {
        let signer = SigningKey::shared(Algorithm::Rs256);
        let keys = report(&[jwk(Algorithm::Rs256, "k")]).keys;
        let key = one(&keys, "k", Algorithm::Rs256);
        let (message, signature) = (0_u32..)
            .map(|n| (n.to_be_bytes(), signer.signature(&n.to_be_bytes())))
            .find(|(_, signature)| signature[0] == 0)
            .unwrap();
        assert!(key.verify(&message, &signature));
        assert!(!key.verify(&message, &signature[1..]));
        assert!(!key.verify(&message, &[&[0], &signature[..]].concat()));
    }

    // J22
    #[test]
    fn keys_for_another_purpose_or_algorithm_are_refused() {
        let rsa = || jwk(Algorithm::Rs256, "k");
        let ec = || jwk(Algorithm::Es256, "k");
        for (key, changes, why) in [
            (rsa(), json!({"use": "enc"}), KeyFault::UseRefused),
            (rsa(), json!({"use": ["sig"]}), KeyFault::UseRefused),
            (rsa(), json!({"use": "SIG"}), KeyFault::UseRefused),
            (rsa(), json!({"key_ops": ["encrypt"]}), KeyFault::OperationsRefused),
            (rsa(), json!({"key_ops": ["sign"]}), KeyFault::OperationsRefused),
            (rsa(), json!({"key_ops": []}), KeyFault::OperationsRefused),
            (rsa(), json!({"key_ops": "verify"}), KeyFault::OperationsRefused),
            (rsa(), json!({"alg": "A256KW"}), KeyFault::AlgorithmUnknown),
            (rsa(), json!({"alg": "RSA-OAEP"}), KeyFault::AlgorithmUnknown),
            (rsa(), json!({"alg": "none"}), KeyFault::AlgorithmUnknown),
            (rsa(), json!({"alg": "HS256"}), KeyFault::AlgorithmMismatch),
            (rsa(), json!({"alg": 5}), KeyFault::AlgorithmUnknown),
            (rsa(), json!({"alg": "ES256"}), KeyFault::AlgorithmMismatch),
            (rsa(), json!({"kty": "EC"}), KeyFault::CurveUnknown),
            (rsa(), json!({"kty": "rsa"}), KeyFault::TypeUnknown),
            (rsa(), json!({"kty": null}), KeyFault::TypeUnknown),
            (ec(), json!({"alg": "ES512"}), KeyFault::AlgorithmMismatch),
            (ec(), json!({"alg": "EdDSA"}), KeyFault::AlgorithmMismatch),
            (ec(), json!({"crv": "P-521", "alg": null}), KeyFault::Malformed),
            (ec(), json!({"crv": "secp256k1", "alg": null}), KeyFault::CurveUnknown),
            (ec(), json!({"crv": null}), KeyFault::CurveUnknown),
            (ec(), json!({"kid": ""}), KeyFault::KidMalformed),
            (ec(), json!({"kid": "a\u{0}"}), KeyFault::KidMalformed),
            (ec(), json!({"kid": "x".repeat(257)}), KeyFault::KidMalformed),
        ] {
            assert_eq!(fault(key, changes.clone()), Some(why), "{changes}");
        }
        assert_eq!(fault(rsa(), json!({"key_ops": ["sign", "verify"]})), None);
        assert_eq!(fault(rsa(), json!({"use": null, "alg": null})), None);
        let all = [decode(&ec(), "x"), decode(&ec(), "y")].concat();
        for split in [0, 31, 33, 64] {
            let changes = json!({"x": encode(&all[..split]), "y": encode(&all[split..])});
            assert_eq!(fault(ec(), changes), Some(KeyFault::Malformed), "{split}");
        }
    }

    // J23
    #[test]
    fn secrets_have_no_place_in_a_published_set() {
        for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            let why = fault(jwk(Algorithm::Rs256, "k"), json!({ member: "c2VjcmV0" }));
            assert_eq!(why, Some(KeyFault::PrivateParts), "{member}");
        }
        assert_eq!(fault(jwk(Algorithm::EdDsa, "k"), json!({ "d": "AA" })), Some(KeyFault::PrivateParts));
        let oct = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "alg": "HS256"}]});
        for (origin, why) in
            [(Origin::Remote, KeyFault::SymmetricPublished), (Origin::Local, KeyFault::SymmetricUnsupported)]
        {
            let report = KeySet::from_jwks(oct.to_string().as_bytes(), origin).unwrap();
            assert!(report.keys.is_empty());
            assert_eq!(report.refused[0].why, why);
            assert!(!format!("{report:?}").contains("c2Vj"));
        }
    }

    // J24
    #[test]
    fn ed25519_keys_whose_signatures_anyone_can_make_are_refused() {
        let ed = jwk(Algorithm::EdDsa, "k");
        let point = |bytes: &[u8]| fault(ed.clone(), json!({ "x": encode(bytes) }));
        let good = decode(&ed, "x");
        assert_eq!(point(&good), None);
        let number = |low: u8, middle: u8, high: u8| [&[low][..], &[middle; 30], &[high]].concat();
        let hex = |text: &str| -> Vec<u8> {
            let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            text.as_bytes().chunks(2).map(digits).collect()
        };
        let order_8 = [
            hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
            hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        ];
        let small = [number(0, 0, 0), number(1, 0, 0), number(0xec, 0xff, 0x7f)];
        let not_canonical = (0xed..=0xff).map(|low| number(low, 0xff, 0x7f));
        for mut bytes in small.into_iter().chain(order_8).chain(not_canonical) {
            assert_eq!(point(&bytes), Some(KeyFault::PointRefused), "{bytes:02x?}");
            bytes[31] |= 0x80;
            assert_eq!(point(&bytes), Some(KeyFault::PointRefused), "{bytes:02x?}");
        }
        for length in [0, 3, 31] {
            assert_eq!(point(&good[..length]), Some(KeyFault::Malformed));
        }
        assert_eq!(point(&[&good[..], &[0; 8]].concat()), Some(KeyFault::Malformed));
        // A SubjectPublicKeyInfo where the bare point belongs: the library would take it.
        assert_eq!(point(&SigningKey::shared(Algorithm::EdDsa).public_der()), Some(KeyFault::Malformed));
        for crv in ["P-256", "X25519", "Ed448", "ed25519"] {
            assert_eq!(fault(ed.clone(), json!({ "crv": crv })), Some(KeyFault::CurveUnknown), "{crv}");
        }
    }

    #[test] // J13
    fn a_set_that_is_written_down_still_says_whose_each_key_is() {
        let of = |kid: &str, issuer: &str| {
            let mut key = jwk(Algorithm::Es256, kid);
            key["issuer"] = issuer.into();
            key
        };
        let keys = report(&[of("a", "https://a.org/{tenantid}/"), jwk(Algorithm::EdDsa, "b")]).keys;
        let again = KeySet::from_jwks(keys.to_jwks().unwrap().as_bytes(), Origin::Remote).unwrap().keys;
        assert_eq!(again.issuer_of(&[], Some("a"), Algorithm::Es256), Some("https://a.org/{tenantid}/"));
        assert_eq!(again.issuer_of(&[], None, Algorithm::Es256), Some("https://a.org/{tenantid}/"));
        assert_eq!(again.issuer_of(&["a".into()], None, Algorithm::Es256), None, "it is denied");
        assert_eq!(again.issuer_of(&[], Some("b"), Algorithm::EdDsa), None);
        assert_eq!(again.digest(), keys.digest());
        assert_ne!(again.digest(), report(&[jwk(Algorithm::Es256, "a"), jwk(Algorithm::EdDsa, "b")]).keys.digest());
    }

    // J24
    #[test]
    fn an_ed25519_signature_with_s_beyond_the_group_order_does_not_verify() {
        let keys = report(&[jwk(Algorithm::EdDsa, "k")]).keys;
        let key = one(&keys, "k", Algorithm::EdDsa);
        let mut signature = SigningKey::shared(Algorithm::EdDsa).signature(b"m");
        assert!(key.verify(b"m", &signature));
        let low = b"\xed\xd3\xf5\x5c\x1a\x63\x12\x58\xd6\x9c\xf7\xa2\xde\xf9\xde\x14";
        let order = [&low[..], &[0; 15], &[0x10]].concat();
        let mut carry = 0;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            [*byte, _] = sum.to_le_bytes();
            carry = sum >> 8;
        }
        assert!(!key.verify(b"m", &signature));
    }

    // J25
    #[test]
    fn points_off_the_curve_are_refused() {
        for algorithm in [Algorithm::Es256, Algorithm::Es384, Algorithm::Es512] {
            let key = jwk(algorithm, "k");
            let (x, mut y) = (decode(&key, "x"), decode(&key, "y"));
            *y.last_mut().unwrap() ^= 1;
            assert_eq!(fault(key.clone(), json!({ "y": encode(&y) })), Some(KeyFault::PointRefused));
            let zero = encode(&vec![0; x.len()]);
            assert_eq!(fault(key.clone(), json!({ "x": zero, "y": zero })), Some(KeyFault::PointRefused));
            let largest = encode(&vec![0xff; x.len()]);
            assert_eq!(fault(key.clone(), json!({ "x": largest })), Some(KeyFault::PointRefused));
            let compressed = [&[2], &x[..]].concat();
            assert_eq!(fault(key.clone(), json!({ "x": encode(&compressed), "y": "" })), Some(KeyFault::Malformed));
            assert_eq!(fault(key, json!({ "y": null })), Some(KeyFault::Malformed));
        }
    }

    #[test]
    fn a_digest_is_that_of_the_usable_keys_in_any_order() {
        let (a, b, c) = (jwk(Algorithm::Es256, "a"), jwk(Algorithm::EdDsa, "b"), jwk(Algorithm::Es256, "c"));
        let digest = |keys: &[Value]| report(keys).keys.digest();
        let both = digest(&[a.clone(), b.clone()]);
        assert_eq!(both, digest(&[b.clone(), a.clone()]));
        assert_eq!(both, digest(&[b.clone(), json!({"kty": "oct"}), a.clone()]));
        assert_ne!(both, digest(std::slice::from_ref(&a)));
        assert_ne!(both, digest(&[c, b.clone()]), "another kid");
        let mut untied = a;
        untied["kid"] = "a".into();
        untied.as_object_mut().unwrap().remove("alg");
        assert_eq!(both, digest(&[untied, b]), "P-256 has one algorithm, named or not");
        let rsa = jwk(Algorithm::Rs256, "r");
        let mut untied = rsa.clone();
        untied.as_object_mut().unwrap().remove("alg");
        assert_ne!(digest(&[rsa]), digest(&[untied]), "more algorithms");
        let fresh = |kid| SigningKey::generate(Algorithm::EdDsa).public_jwk(Some(kid));
        assert_ne!(digest(&[fresh("a")]), digest(&[fresh("a")]), "another key of the same kid");
    }

    #[test]
    fn a_refused_key_is_named_only_where_its_name_is_harmless() {
        let named = |kid: &str| report(&[json!({"kid": kid, "kty": "x"})]).refused[0].kid.clone();
        assert_eq!(named("2024-a").as_deref(), Some("2024-a"));
        assert_eq!(named(&"k".repeat(200)).unwrap().len(), 64);
        for kid in ["\u{202e}evil", "a b", "ключ"] {
            assert_eq!(named(kid), None, "{kid}");
        }
    }
}
