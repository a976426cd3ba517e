//! Key material: the checks that a public key must pass before it may verify anything, and the verifier made from it.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{self, ParsedPublicKey, RsaPublicKeyComponents, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Verify;
use super::jwk::{KeyFault, Usable};
use crate::authz::algorithm::{Algorithm, Algorithms};

const RSA: &[Algorithm] =
    &[Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256, Algorithm::Ps384, Algorithm::Ps512];

/// The odd primes of the published test for keys of CVE-2017-15361 (Nemec et al., CCS 2017, §2.3).
const ROCA_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Edwards25519's field prime 2^255-19, little endian as keys are.
const ED25519_P: [u8; 32] = ed25519_prime(0xed);

/// The y of the points whose order divides 8: a key at one of them has signatures that anyone can make. The sign of x,
/// masked before the comparison, makes them all eight points. (RFC 8032 §5.1; 1, -1, 0 and the two of order 8.)
const SMALL_ORDER: [[u8; 32]; 5] = [
    small(1),
    ed25519_prime(0xec),
    small(0),
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
];

const fn ed25519_prime(lowest: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    let [first, .., last] = &mut bytes;
    *first = lowest;
    *last = 0x7f;
    bytes
}

const fn small(lowest: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    let [first, ..] = &mut bytes;
    *first = lowest;
    bytes
}

/// An elliptic curve of RFC 7518 §6.2.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    pub const ALL: &'static [Self] = &[Self::P256, Self::P384, Self::P521];

    /// The name as `crv` spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// How many bytes a coordinate has.
    pub const fn width(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// RFC 7518 §3.4 ties each curve to one algorithm.
    pub const fn algorithm(self) -> Algorithm {
        match self {
            Self::P256 => Algorithm::Es256,
            Self::P384 => Algorithm::Es384,
            Self::P521 => Algorithm::Es512,
        }
    }
}

/// A public key as its parts.
pub(super) enum Material {
    /// Modulus and exponent, big endian.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// An uncompressed point (SEC 1 §2.3.3).
    Ec { curve: Curve, point: Vec<u8> },
    /// A point (RFC 8032 §5.1.2).
    Ed25519(Vec<u8>),
}

impl Material {
    /// The algorithms that this type of key fits.
    pub fn fits(&self) -> Algorithms {
        match self {
            Self::Rsa { .. } => RSA.iter().copied().collect(),
            Self::Ec { curve, .. } => [curve.algorithm()].into_iter().collect(),
            Self::Ed25519(_) => [Algorithm::EdDsa].into_iter().collect(),
        }
    }

    /// Checks the key and makes a verifier for each algorithm, which must be among those that it fits.
    pub fn usable(self, algorithms: Algorithms) -> Result<Usable, KeyFault> {
        let public = Some(self.members());
        let (content, fault) = match self {
            Self::Rsa { n, e } => {
                check_rsa(&n, &e)?;
                let der: PublicKeyX509Der<'_> =
                    RsaPublicKeyComponents { n, e }.as_der().map_err(|_| KeyFault::Malformed)?;
                (der.as_ref().to_vec(), KeyFault::Malformed)
            }
            Self::Ec { point, .. } => (point, KeyFault::PointRefused),
            Self::Ed25519(point) => {
                check_ed25519(&point)?;
                (point, KeyFault::PointRefused)
            }
        };
        let serves = algorithms
            .iter()
            .map(|algorithm| {
                let parsed = ParsedPublicKey::new(scheme(algorithm).ok_or(KeyFault::AlgorithmMismatch)?, &content)
                    .map_err(|_| fault)?;
                let verifier: Box<dyn Verify> = Box::new(PublicKey(parsed));
                Ok((algorithm, verifier))
            })
            .collect::<Result<_, KeyFault>>()?;
        Ok(Usable { serves, content, public })
    }

    /// The members of a JWK of this key (RFC 7518 §6, RFC 8037 §2).
    fn members(&self) -> serde_json::Map<String, serde_json::Value> {
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let members = match self {
            Self::Rsa { n, e } => vec![("kty", "RSA".to_owned()), ("n", number(n)), ("e", number(e))],
            Self::Ec { curve, point } => {
                let (x, y) = point.split_at_checked(curve.width().saturating_add(1)).unwrap_or_default();
                let x = x.get(1..).unwrap_or_default();
                vec![("kty", "EC".to_owned()), ("crv", curve.name().to_owned()), ("x", number(x)), ("y", number(y))]
            }
            Self::Ed25519(point) => {
                vec![("kty", "OKP".to_owned()), ("crv", "Ed25519".to_owned()), ("x", number(point))]
            }
        };
        members.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
    }
}

struct PublicKey(ParsedPublicKey);

impl Verify for PublicKey {
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(message, signature).is_ok()
    }
}

/// How a public key of this algorithm verifies; secrets are no public keys.
fn scheme(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
        Algorithm::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
        Algorithm::EdDsa => &signature::ED25519,
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => return None,
    })
}

fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), KeyFault> {
    // RFC 7518 §2: a Base64urlUInt has the fewest octets that hold it.
    let (Some((high @ 1.., _)), Some((1.., _))) = (n.split_first(), e.split_first()) else {
        return Err(KeyFault::Malformed);
    };
    let bits = u64::try_from(n.len())
        .ok()
        .and_then(|bytes| bytes.checked_mul(8))
        .and_then(|bits| bits.checked_sub(u64::from(high.leading_zeros())));
    if !bits.is_some_and(|bits| (2_048..=8_192).contains(&bits)) {
        return Err(KeyFault::ModulusSize);
    }
    let odd = |number: &[u8]| number.last().is_some_and(|low| low & 1 == 1);
    if !odd(n) || roca(n) {
        return Err(KeyFault::ModulusWeak);
    }
    // What aws-lc takes at most is 33 bits.
    let exponent = (e.len() <= 5).then(|| e.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte)));
    if !odd(e) || !exponent.is_some_and(|e| (65_537..1 << 33).contains(&e)) {
        return Err(KeyFault::Exponent);
    }
    Ok(())
}

/// Whether n is, modulo every one of the primes, a power of 65537: true of one sound key in 2^30.
fn roca(n: &[u8]) -> bool {
    ROCA_PRIMES.iter().all(|prime| {
        let modulo = |number: u32| number.checked_rem(*prime).unwrap_or(0);
        let residue = n.iter().fold(0, |rest: u32, byte| modulo((rest << 8) | u32::from(*byte)));
        let powers = std::iter::successors(Some(1), |power: &u32| Some(modulo(power.saturating_mul(modulo(65_537)))));
        powers.take(usize::try_from(*prime).unwrap_or(0)).any(|power| power == residue)
    })
}

fn check_ed25519(point: &[u8]) -> Result<(), KeyFault> {
    let mut y: [u8; 32] = point.try_into().map_err(|_| KeyFault::Malformed)?;
    let [.., last] = &mut y;
    *last &= 0x7f;
    // Little endian: compare from the far end.
    let canonical = y.iter().rev().lt(ED25519_P.iter().rev());
    if !canonical || SMALL_ORDER.contains(&y) { Err(KeyFault::PointRefused) } else { Ok(()) }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "numbers of known size")]
mod tests {
    use super::*;

    /// A power of 65537 is a power of 65537 modulo anything.
    fn fingerprinted() -> Vec<u8> {
        let mut number = vec![1_u8];
        for _ in 0..128 {
            // times 65537: itself and itself shifted by two bytes
            let mut sum = [&number[..], &[0, 0]].concat();
            let mut carry = 0;
            for at in (0..sum.len()).rev() {
                let add = at.checked_sub(2).map_or(0, |from| number[from]);
                let total = u16::from(sum[at]) + u16::from(add) + carry;
                carry = total >> 8;
                [_, sum[at]] = total.to_be_bytes();
            }
            assert_eq!(carry, 0);
            number = sum;
        }
        number
    }

    // J21
    #[test]
    fn a_modulus_with_the_roca_fingerprint_is_refused() {
        let mut n = fingerprinted();
        assert_eq!(n.len(), 257, "65537^128 has 2,049 bits");
        assert!(roca(&n));
        assert_eq!(check_rsa(&n, &[1, 0, 1]), Err(KeyFault::ModulusWeak));
        *n.last_mut().unwrap() ^= 2;
        assert!(!roca(&n));
        assert_eq!(check_rsa(&n, &[1, 0, 1]), Ok(()));
    }

    #[test]
    fn the_small_order_table_holds_points_of_small_order() {
        let [one, minus_one, zero, first, second] = SMALL_ORDER;
        assert_eq!((one[0], minus_one[0], zero[0]), (1, 0xec, 0));
        // The y of the points of order 8 are each other's negative: their sum is the prime.
        let mut carry = 0;
        for at in 0..32 {
            let sum = u16::from(first[at]) + u16::from(second[at]) + carry;
            assert_eq!(sum.to_be_bytes()[1], ED25519_P[at]);
            carry = sum >> 8;
        }
    }
}
