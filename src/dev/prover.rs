//! Proofs of possession (RFC 9449 §4) made to order, with a throw-away key.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::mint::SigningKey;
use crate::authz::algorithm::{Algorithm, Algorithms};

/// Somebody who holds the key that tokens are bound to.
pub struct Prover(&'static SigningKey);

/// What a proof is for.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    /// The method of the request.
    pub method: &'a str,
    /// Its URL.
    pub url: &'a str,
    /// The token that is presented with it.
    pub token: &'a str,
    /// When, in seconds since the Unix epoch.
    pub at: i64,
    /// The name of this very proof.
    pub id: &'a str,
    /// The server's nonce.
    pub nonce: Option<&'a str>,
}

impl Prover {
    /// Who signs with one of these algorithms.
    #[must_use]
    pub fn new(algorithms: Algorithms) -> Self {
        let quick = [Algorithm::Es256, Algorithm::EdDsa].into_iter();
        let found = quick.chain(algorithms.iter()).find(|algorithm| algorithms.contains(*algorithm));
        Self(SigningKey::shared(found.unwrap_or(Algorithm::Es256)))
    }

    /// The public key, as a proof holds it.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let mut jwk = self.0.public_jwk(None);
        if let Some(members) = jwk.as_object_mut() {
            members.retain(|name, _| !matches!(&**name, "alg" | "use"));
        }
        jwk
    }

    /// The thumbprint that tokens are bound to (RFC 7638): of all members that the key has, which are those it needs.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        hash(self.jwk().to_string().as_bytes())
    }

    /// The header and the claims of an ordinary proof.
    #[must_use]
    pub fn parts(&self, occasion: &Occasion<'_>) -> (Map<String, Value>, Map<String, Value>) {
        let Occasion { method, url, token, at, id, nonce } = *occasion;
        let header = json!({"typ": "dpop+jwt", "alg": self.0.algorithm().name(), "jwk": self.jwk()});
        let mut claims = json!({"jti": id, "htm": method, "htu": url, "iat": at, "ath": hash(token.as_bytes())});
        if let (Some(nonce), Some(members)) = (nonce, claims.as_object_mut()) {
            members.insert("nonce".into(), nonce.into());
        }
        let members = |value: Value| if let Value::Object(members) = value { members } else { Map::new() };
        (members(header), members(claims))
    }

    /// A proof of exactly these parts.
    #[must_use]
    pub fn sign(&self, header: Map<String, Value>, claims: Map<String, Value>) -> String {
        self.0.sign(&Value::Object(header).to_string(), &Value::Object(claims).to_string())
    }

    /// An ordinary proof.
    #[must_use]
    pub fn proof(&self, occasion: &Occasion<'_>) -> String {
        let (header, claims) = self.parts(occasion);
        self.sign(header, claims)
    }
}

/// A SHA-256 in base64url, as `ath`, `jkt` and `x5t#S256` are written.
#[must_use]
pub fn hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes))
}
