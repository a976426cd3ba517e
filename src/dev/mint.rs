//! Throw-away signing keys, and tokens made with them: ordinary ones, and any that an attacker could make.
#![expect(clippy::expect_used, reason = "fresh keys of our own making; a failure is a bug in the cryptography library")]

use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

use crate::authz::algorithm::{Algorithm, Algorithms};
use crate::authz::keys::{self, KeySet, Origin};

/// A private key for one algorithm. It is never written anywhere.
pub struct SigningKey {
    algorithm: Algorithm,
    pair: Pair,
}

enum Pair {
    Rsa(rsa::KeyPair),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Secret([u8; 64]),
}

impl SigningKey {
    /// Makes a new key. RSA keys (2,048 bits) take some tenths of a second.
    #[must_use]
    pub fn generate(algorithm: Algorithm) -> Self {
        let ec =
            |scheme: &'static EcdsaSigningAlgorithm| Pair::Ec(EcdsaKeyPair::generate(scheme).expect("a new EC key"));
        let pair = match algorithm {
            Algorithm::Es256 => ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::Es384 => ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::Es512 => ec(&signature::ECDSA_P521_SHA512_FIXED_SIGNING),
            Algorithm::EdDsa => Pair::Ed25519(Ed25519KeyPair::generate().expect("a new Ed25519 key")),
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => Pair::Rsa(rsa::KeyPair::generate(rsa::KeySize::Rsa2048).expect("a new RSA key")),
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
                let mut secret = [0; 64];
                aws_lc_rs::rand::fill(&mut secret).expect("random bytes");
                Pair::Secret(secret)
            }
        };
        Self { algorithm, pair }
    }

    /// The same key at every call, one for each algorithm.
    #[must_use]
    pub fn shared(algorithm: Algorithm) -> &'static Self {
        static KEYS: [OnceLock<SigningKey>; Algorithm::ALL.len()] = [const { OnceLock::new() }; Algorithm::ALL.len()];
        let at = Algorithm::ALL.iter().position(|known| *known == algorithm);
        at.and_then(|at| KEYS.get(at)).expect("one place for each").get_or_init(|| Self::generate(algorithm))
    }

    /// The algorithm that it signs with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The secret, where it is one.
    #[must_use]
    pub const fn secret(&self) -> Option<&[u8]> {
        if let Pair::Secret(secret) = &self.pair { Some(secret) } else { None }
    }

    /// What verifies its tokens.
    #[must_use]
    pub fn key_set(&self, kid: &str) -> KeySet {
        if let Some(secret) = self.secret() {
            let algorithms: Algorithms = [self.algorithm].into_iter().collect();
            return KeySet::from_secrets(&[(Some(kid.into()), secret)], algorithms).expect("a random secret");
        }
        let set = json!({"keys": [self.public_jwk(Some(kid))]}).to_string();
        KeySet::from_jwks(set.as_bytes(), Origin::Local).expect("a key set").keys
    }

    /// The public key as a JWK, with `alg` and `use`. A secret has none: only its type is told.
    #[must_use]
    pub fn public_jwk(&self, kid: Option<&str>) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.pair {
            Pair::Rsa(_) => {
                let der = self.public_der();
                let (n, e) = keys::rsa_components(&der).expect("an RSA key");
                json!({"kty": "RSA", "n": encode(n), "e": encode(e)})
            }
            Pair::Ec(pair) => {
                let (_, coordinates) = pair.public_key().as_ref().split_first().expect("a point");
                let (x, y) = coordinates.split_at(coordinates.len().div_euclid(2));
                let crv = match self.algorithm {
                    Algorithm::Es384 => "P-384",
                    Algorithm::Es512 => "P-521",
                    _ => "P-256",
                };
                json!({"kty": "EC", "crv": crv, "x": encode(x), "y": encode(y)})
            }
            Pair::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())})
            }
            Pair::Secret(_) => json!({"kty": "oct"}),
        };
        let members = jwk.as_object_mut().expect("an object");
        members.insert("alg".into(), self.algorithm.name().into());
        members.insert("use".into(), "sig".into());
        if let Some(kid) = kid {
            members.insert("kid".into(), kid.into());
        }
        jwk
    }

    /// The private key as a `PRIVATE KEY` block; nothing of a secret. For keys that nobody relies on.
    #[must_use]
    pub fn private_pem(&self) -> String {
        let der = match &self.pair {
            Pair::Rsa(pair) => {
                let der: Pkcs8V1Der<'_> = pair.as_der().expect("a private key");
                der.as_ref().to_vec()
            }
            Pair::Ec(pair) => pair.to_pkcs8v1().expect("a private key").as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.to_pkcs8v1().expect("a private key").as_ref().to_vec(),
            Pair::Secret(_) => Vec::new(),
        };
        pem("PRIVATE KEY", &der)
    }

    /// The public key as a `PUBLIC KEY` block.
    #[must_use]
    pub fn public_pem(&self) -> String {
        pem("PUBLIC KEY", &self.public_der())
    }

    /// The public key as a SubjectPublicKeyInfo; nothing of a secret.
    #[must_use]
    pub fn public_der(&self) -> Vec<u8> {
        let der: Result<PublicKeyX509Der<'_>, _> = match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_der(),
            Pair::Ec(pair) => pair.public_key().as_der(),
            Pair::Ed25519(pair) => pair.public_key().as_der(),
            Pair::Secret(_) => return Vec::new(),
        };
        der.expect("a public key").as_ref().to_vec()
    }

    /// A compact JWS over exactly these texts, whether or not they make sense.
    #[must_use]
    pub fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.signature(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// The signature of a message, as JWS encodes it before base64url.
    #[must_use]
    pub fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let padding: &'static dyn RsaEncoding = match self.algorithm {
                    Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature).expect("a signature");
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, message).expect("a signature").as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Secret(secret) => {
                let hash = match self.algorithm {
                    Algorithm::Hs512 => hmac::HMAC_SHA512,
                    Algorithm::Hs384 => hmac::HMAC_SHA384,
                    _ => hmac::HMAC_SHA256,
                };
                hmac::sign(&hmac::Key::new(hash, secret), message).as_ref().to_vec()
            }
        }
    }

    /// An ordinary token of these claims: `typ` JWT, signed by another implementation than the one that verifies it
    /// wherever there is one.
    #[must_use]
    pub fn token(&self, kid: Option<&str>, claims: &Value) -> String {
        let Some(algorithm) = foreign(self.algorithm) else {
            let mut header = json!({"typ": "JWT", "alg": self.algorithm.name()});
            if let (Some(kid), Some(members)) = (kid, header.as_object_mut()) {
                members.insert("kid".into(), kid.into());
            }
            return self.sign(&header.to_string(), &claims.to_string());
        };
        // An error says that it is installed already.
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let mut header = jsonwebtoken::Header::new(algorithm);
        header.kid = kid.map(Into::into);
        jsonwebtoken::encode(&header, claims, &self.encoding_key()).expect("a token")
    }

    fn encoding_key(&self) -> EncodingKey {
        match &self.pair {
            Pair::Rsa(pair) => {
                let der: Pkcs8V1Der<'_> = pair.as_der().expect("a private key");
                EncodingKey::from_rsa_der(rsa_private_key(der.as_ref()))
            }
            Pair::Ec(pair) => EncodingKey::from_ec_der(pair.to_pkcs8v1().expect("a private key").as_ref()),
            Pair::Ed25519(pair) => EncodingKey::from_ed_der(pair.to_pkcs8v1().expect("a private key").as_ref()),
            Pair::Secret(secret) => EncodingKey::from_secret(secret),
        }
    }
}

/// The RSAPrivateKey (RFC 8017 A.1.2) within a PrivateKeyInfo of a key of 2,048 bits or more.
fn rsa_private_key(der: &[u8]) -> &[u8] {
    // SEQUENCE, version, AlgorithmIdentifier and OCTET STRING, each with lengths of fixed width at this size.
    der.get(26..).expect("a PrivateKeyInfo")
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn foreign(algorithm: Algorithm) -> Option<jsonwebtoken::Algorithm> {
    Some(match algorithm {
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::Rs384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::Rs512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::Ps256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::Ps384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::Ps512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::Es384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::Es512 => return None,
        Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::Hs384 => jsonwebtoken::Algorithm::HS384,
        Algorithm::Hs512 => jsonwebtoken::Algorithm::HS512,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_signed_over_exactly_the_given_texts() {
        let token = SigningKey::generate(Algorithm::EdDsa).sign("not json", r#"{"a":1,"a":2}"#);
        let parts: Vec<Vec<u8>> = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        assert_eq!(parts[0], b"not json");
        assert_eq!(parts[1], br#"{"a":1,"a":2}"#);
        assert_eq!(parts[2].len(), 64);
    }

    #[test]
    fn a_shared_key_stays_the_same_and_a_generated_one_is_new() {
        for algorithm in [Algorithm::Es256, Algorithm::Es512, Algorithm::EdDsa] {
            let shared = || SigningKey::shared(algorithm).public_pem();
            assert_eq!(shared(), shared());
            assert_ne!(shared(), SigningKey::generate(algorithm).public_pem());
            assert_eq!(SigningKey::shared(algorithm).algorithm(), algorithm);
        }
    }
}
