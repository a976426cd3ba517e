//! One JWK (RFC 7517 §4): read strictly and checked, or refused with the reason why.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::material::{Curve, Material};
use super::{Origin, Verify};
use crate::authz::algorithm::{Algorithm, Algorithms};
use crate::authz::json::{Json, Object};

/// The longest kid that is read, in bytes.
const MAX_KID: usize = 256;

/// The members that hold private parts (RFC 7518 §6.2.2, §6.3.2, §6.4.1).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal;)+) => {
        /// Why a key is not used. Holds nothing of the key.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum KeyFault { $($(#[doc = $doc])+ $name),+ }

        impl KeyFault {
            /// Every fault there is, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The stable, snake_case code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code),+ }
            }
        }

        impl std::fmt::Display for KeyFault {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$name => concat!($($doc),+).trim_ascii()),+ })
            }
        }
    };
}

faults! {
    /// It is not a strict JSON object: a member appears twice, or it nests too deep.
    NotAnObject = "not_an_object";
    /// Its `kid` is not a text of 1 to 256 bytes without control characters.
    KidMalformed = "kid_malformed";
    /// Its `issuer` is not a text.
    IssuerMalformed = "issuer_malformed";
    /// Another key of the set has the same `kid`.
    KidDuplicate = "kid_duplicate";
    /// It is a symmetric key in a set that others can read.
    SymmetricPublished = "symmetric_published";
    /// It is a symmetric key, and those stand in no set: `secret` says where one is.
    SymmetricUnsupported = "symmetric_unsupported";
    /// It holds private parts, so others may have it: replace it.
    PrivateParts = "private_parts";
    /// Its `use` is not `sig`.
    UseRefused = "use_refused";
    /// Its `key_ops` do not list `verify`.
    OperationsRefused = "operations_refused";
    /// Its `kty` is missing or unknown.
    TypeUnknown = "type_unknown";
    /// Its `crv` is missing or unknown, or is not one of its `kty`.
    CurveUnknown = "curve_unknown";
    /// Its `alg` is not a known signature algorithm.
    AlgorithmUnknown = "algorithm_unknown";
    /// Its `alg` is not one of its `kty` and `crv`.
    AlgorithmMismatch = "algorithm_mismatch";
    /// A number of it is missing, is not strict base64url, or has not the length that it must have.
    Malformed = "malformed";
    /// Its modulus is shorter than 2,048 bits or longer than 8,192.
    ModulusSize = "modulus_size";
    /// Its modulus is even, or was made by the generator of CVE-2017-15361 (ROCA).
    ModulusWeak = "modulus_weak";
    /// Its exponent is even, less than 65,537, or longer than 33 bits.
    Exponent = "exponent";
    /// Its point is not on the curve, or is one that has signatures that anyone can make.
    PointRefused = "point_refused";
}

/// One member of the `keys` list: its kid where that can be read, and what became of it.
pub(super) struct Entry {
    pub kid: Option<Box<str>>,
    /// Its `issuer`, as Microsoft Entra ID has it in the set of all tenants.
    pub issuer: Option<Box<str>>,
    pub outcome: Result<Usable, KeyFault>,
}

/// A key that passed every check.
pub(super) struct Usable {
    /// A verifier for each algorithm that the key serves.
    pub serves: Box<[(Algorithm, Box<dyn Verify>)]>,
    /// The key itself, as one canonical text of bytes.
    pub content: Vec<u8>,
    /// Its public members as a JWK has them; `None` for a secret.
    pub public: Option<serde_json::Map<String, serde_json::Value>>,
}

pub(super) fn read(text: &[u8], origin: Origin) -> Entry {
    let Ok(jwk) = Object::parse(text) else {
        return Entry { kid: None, issuer: None, outcome: Err(KeyFault::NotAnObject) };
    };
    match read_kid(&jwk) {
        Ok(kid) => match read_issuer(&jwk) {
            Ok(issuer) => Entry { kid, issuer, outcome: usable(&jwk, origin, None) },
            Err(fault) => Entry { kid, issuer: None, outcome: Err(fault) },
        },
        Err(fault) => Entry { kid: None, issuer: None, outcome: Err(fault) },
    }
}

fn read_kid(jwk: &Object) -> Result<Option<Box<str>>, KeyFault> {
    match jwk.get("kid") {
        None => Ok(None),
        Some(Json::Text(kid)) if (1..=MAX_KID).contains(&kid.len()) && !kid.contains(char::is_control) => {
            Ok(Some(kid.clone()))
        }
        Some(_) => Err(KeyFault::KidMalformed),
    }
}

/// A key whose issuer cannot be read is nobody's.
fn read_issuer(jwk: &Object) -> Result<Option<Box<str>>, KeyFault> {
    match jwk.get("issuer") {
        None => Ok(None),
        Some(Json::Text(issuer)) => Ok(Some(issuer.clone())),
        Some(_) => Err(KeyFault::IssuerMalformed),
    }
}

/// Reads a key: for all algorithms that it serves, or for this one only.
pub(super) fn usable(jwk: &Object, origin: Origin, only: Option<Algorithm>) -> Result<Usable, KeyFault> {
    let kty = jwk.get("kty").and_then(Json::as_text).ok_or(KeyFault::TypeUnknown)?;
    if kty == "oct" {
        return Err(match origin {
            Origin::Remote => KeyFault::SymmetricPublished,
            Origin::Local => KeyFault::SymmetricUnsupported,
        });
    }
    if PRIVATE.iter().any(|member| jwk.get(member).is_some()) {
        return Err(KeyFault::PrivateParts);
    }
    check_purpose(jwk)?;
    let material = match kty {
        "RSA" => Material::Rsa { n: number(jwk, "n")?, e: number(jwk, "e")? },
        "EC" => read_ec(jwk)?,
        "OKP" => read_okp(jwk)?,
        _ => return Err(KeyFault::TypeUnknown),
    };
    let fits = material.fits();
    let serves = match jwk.get("alg") {
        None => fits,
        Some(Json::Text(name)) => {
            let algorithm = Algorithm::parse(name).ok_or(KeyFault::AlgorithmUnknown)?;
            if !fits.contains(algorithm) {
                return Err(KeyFault::AlgorithmMismatch);
            }
            Algorithms::from_iter([algorithm])
        }
        Some(_) => return Err(KeyFault::AlgorithmUnknown),
    };
    let wanted = |algorithm: &Algorithm| only.is_none_or(|only| only == *algorithm);
    material.usable(serves.iter().filter(wanted).collect())
}

fn check_purpose(jwk: &Object) -> Result<(), KeyFault> {
    if jwk.get("use").is_some_and(|purpose| purpose.as_text() != Some("sig")) {
        return Err(KeyFault::UseRefused);
    }
    match jwk.get("key_ops") {
        None => Ok(()),
        Some(Json::List(operations)) if operations.iter().any(|name| name.as_text() == Some("verify")) => Ok(()),
        Some(_) => Err(KeyFault::OperationsRefused),
    }
}

fn read_ec(jwk: &Object) -> Result<Material, KeyFault> {
    let crv = jwk.get("crv").and_then(Json::as_text);
    let curve = *Curve::ALL.iter().find(|curve| crv == Some(curve.name())).ok_or(KeyFault::CurveUnknown)?;
    let (x, y) = (number(jwk, "x")?, number(jwk, "y")?);
    // RFC 7518 §6.2.1.2: full length. A point split at another place would be the same bytes.
    if x.len() != curve.width() || y.len() != curve.width() {
        return Err(KeyFault::Malformed);
    }
    Ok(Material::Ec { curve, point: [&[0x04], &*x, &*y].concat() })
}

fn read_okp(jwk: &Object) -> Result<Material, KeyFault> {
    if jwk.get("crv").and_then(Json::as_text) != Some("Ed25519") {
        return Err(KeyFault::CurveUnknown);
    }
    Ok(Material::Ed25519(number(jwk, "x")?))
}

/// Strict base64url: no padding, no other characters, no stray bits at the end.
fn number(jwk: &Object, member: &str) -> Result<Vec<u8>, KeyFault> {
    let text = jwk.get(member).and_then(Json::as_text).ok_or(KeyFault::Malformed)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyFault::Malformed)
}
