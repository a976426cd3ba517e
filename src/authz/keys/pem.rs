//! `PUBLIC KEY` blocks (RFC 7468 §13): a SubjectPublicKeyInfo each, read strictly.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::RsaPublicKeyComponents;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::jwk::{KeyFault, Usable};
use super::material::{Curve, Material};
use crate::authz::algorithm::Algorithms;

/// How many blocks one text may hold.
const MAX_BLOCKS: usize = 100;

// What stands before the point in a SubjectPublicKeyInfo (RFC 5480 §2, RFC 8410 §4), the point's form included.
const P256: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
const P384: &[u8] = b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00";
const P521: &[u8] =
    b"\x30\x81\x9b\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23\x03\x81\x86\x00";
const ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// The AlgorithmIdentifier of rsaEncryption (RFC 3279 §2.3.1).
const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const INTEGER: u8 = 0x02;

/// Why a PEM text is not a set of public keys. Blocks count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// There is no block.
    #[error("there is no PEM block `-----BEGIN PUBLIC KEY-----`")]
    Empty,
    /// There are more than 100 blocks.
    #[error("there are more than {MAX_BLOCKS} PEM blocks")]
    TooMany,
    /// Lines do not make up whole blocks of strict base64.
    #[error("PEM block {0} is malformed")]
    Malformed(usize),
    /// A certificate, of which only the key would be used, and neither its dates nor its issuer.
    #[error("PEM block {0} is a certificate; write its public key instead (openssl x509 -pubkey -noout)")]
    Certificate(usize),
    /// A private key.
    #[error(
        "PEM block {0} is a private key, which does not belong here; write its public key instead (openssl pkey -pubout)"
    )]
    PrivateKey(usize),
    /// A block of another kind, such as `RSA PUBLIC KEY`.
    #[error("PEM block {0} is not a `PUBLIC KEY`")]
    OtherBlock(usize),
    /// The block's key is of a type or curve that no algorithm here has.
    #[error("PEM block {0} is not an RSA, P-256, P-384, P-521 or Ed25519 key")]
    TypeUnknown(usize),
    /// The block's key fits none of the algorithms.
    #[error("the key of PEM block {0} fits none of the issuer's algorithms")]
    AlgorithmMismatch(usize),
    /// The block's key is not fit to be used.
    #[error("the key of PEM block {0} is refused: {1}")]
    Refused(usize, KeyFault),
}

pub(super) fn read(text: &str, algorithms: Algorithms) -> Result<Vec<Usable>, PemError> {
    let mut lines = text.lines().map(str::trim_ascii_end).filter(|line| !line.is_empty());
    let mut keys = Vec::new();
    let mut at: usize = 0;
    while let Some(first) = lines.next() {
        at = at.saturating_add(1);
        if at > MAX_BLOCKS {
            return Err(PemError::TooMany);
        }
        let label = first
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.strip_suffix("-----"))
            .ok_or(PemError::Malformed(at))?;
        match label {
            "PUBLIC KEY" => {}
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => return Err(PemError::Certificate(at)),
            _ if label.ends_with("PRIVATE KEY") => return Err(PemError::PrivateKey(at)),
            _ => return Err(PemError::OtherBlock(at)),
        }
        let mut body = String::new();
        loop {
            match lines.next() {
                Some("-----END PUBLIC KEY-----") => break,
                Some(line) if !line.starts_with('-') => body.push_str(line),
                Some(_) | None => return Err(PemError::Malformed(at)),
            }
        }
        let der = STANDARD.decode(body).map_err(|_| PemError::Malformed(at))?;
        keys.push(key(&der, algorithms, at)?);
    }
    if keys.is_empty() { Err(PemError::Empty) } else { Ok(keys) }
}

fn key(der: &[u8], algorithms: Algorithms, at: usize) -> Result<Usable, PemError> {
    let material = material(der).ok_or(PemError::TypeUnknown(at))?;
    let serves: Algorithms = material.fits().iter().filter(|fit| algorithms.contains(*fit)).collect();
    if serves.is_empty() {
        return Err(PemError::AlgorithmMismatch(at));
    }
    material.usable(serves).map_err(|fault| PemError::Refused(at, fault))
}

fn material(der: &[u8]) -> Option<Material> {
    for (prefix, curve) in [(P256, Curve::P256), (P384, Curve::P384), (P521, Curve::P521)] {
        if let Some(point) = der.strip_prefix(prefix) {
            let whole = curve.width().saturating_mul(2).saturating_add(1);
            return (point.len() == whole && point.first() == Some(&0x04))
                .then(|| Material::Ec { curve, point: point.to_vec() });
        }
    }
    if let Some(point) = der.strip_prefix(ED25519) {
        return Some(Material::Ed25519(point.to_vec()));
    }
    let (n, e) = rsa_components(der)?;
    // One encoding only: writing the key again must give the same bytes.
    let again: PublicKeyX509Der<'_> = RsaPublicKeyComponents { n, e }.as_der().ok()?;
    (again.as_ref() == der).then(|| Material::Rsa { n: n.to_vec(), e: e.to_vec() })
}

/// Modulus and exponent of an RSA SubjectPublicKeyInfo (RFC 8017 A.1.1).
pub(crate) fn rsa_components(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (info, []) = element(SEQUENCE, der)? else { return None };
    let (bits, []) = element(BIT_STRING, info.strip_prefix(RSA)?)? else { return None };
    let (key, []) = element(SEQUENCE, bits.strip_prefix(&[0])?)? else { return None };
    let (n, rest) = element(INTEGER, key)?;
    let (e, []) = element(INTEGER, rest)? else { return None };
    Some((positive(n), positive(e)))
}

/// A leading zero only says that the number is not negative.
fn positive(number: &[u8]) -> &[u8] {
    number.strip_prefix(&[0]).unwrap_or(number)
}

/// The content of the DER element at the front, and what follows it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match der {
        [found, short @ 0..=0x7f, rest @ ..] if *found == tag => (usize::from(*short), rest),
        [found, 0x81, length, rest @ ..] if *found == tag => (usize::from(*length), rest),
        [found, 0x82, high, low, rest @ ..] if *found == tag => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::super::{Found, KeySet};
    use super::*;
    use crate::authz::algorithm::Algorithm;
    use crate::dev::mint::SigningKey;

    fn error(text: &str) -> PemError {
        KeySet::from_pem(text, Algorithms::default()).unwrap_err()
    }

    fn block(der: &[u8]) -> String {
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    }

    #[test]
    fn blocks_are_read_in_any_common_layout() {
        let (rsa, ec) = (SigningKey::shared(Algorithm::Rs256), SigningKey::shared(Algorithm::Es256));
        let both = format!("\n{}\r\n\n{}", rsa.public_pem().replace('\n', "\r\n"), ec.public_pem());
        let keys = KeySet::from_pem(&both, Algorithms::default()).unwrap();
        assert_eq!(keys.len(), 2);
        assert!(matches!(keys.find(Some("whatever"), Algorithm::Ps384), Found::One(_)));
        assert!(matches!(keys.find(None, Algorithm::Es256), Found::One(_)));
        assert!(matches!(keys.find(None, Algorithm::Es384), Found::Unknown));
        let two = KeySet::from_pem(&[rsa.public_pem(), rsa.public_pem()].concat(), Algorithms::default()).unwrap();
        assert!(matches!(two.find(Some("k"), Algorithm::Rs256), Found::Ambiguous));
    }

    #[test]
    fn a_key_serves_only_the_algorithms_it_was_given() {
        let pem = SigningKey::shared(Algorithm::Rs256).public_pem();
        let keys = KeySet::from_pem(&pem, [Algorithm::Ps256, Algorithm::Es256].into_iter().collect()).unwrap();
        assert!(matches!(keys.find(None, Algorithm::Ps256), Found::One(_)));
        assert!(matches!(keys.find(None, Algorithm::Rs256), Found::Unknown));
        let none = KeySet::from_pem(&pem, [Algorithm::Es256].into_iter().collect());
        assert_eq!(none.unwrap_err(), PemError::AlgorithmMismatch(1));
    }

    #[test]
    fn other_blocks_are_refused_by_what_they_are() {
        let labelled = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        assert_eq!(error(&labelled("CERTIFICATE")), PemError::Certificate(1));
        for label in
            ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY"]
        {
            assert_eq!(error(&labelled(label)), PemError::PrivateKey(1), "{label}");
        }
        let good = SigningKey::shared(Algorithm::EdDsa).public_pem();
        assert_eq!(error(&[&good, &*labelled("RSA PUBLIC KEY")].concat()), PemError::OtherBlock(2));
        assert_eq!(error(""), PemError::Empty);
        assert_eq!(error(&good.repeat(101)), PemError::TooMany);
    }

    #[test]
    fn malformed_blocks_are_refused() {
        let good = SigningKey::shared(Algorithm::EdDsa).public_pem();
        for text in [
            "hello",
            &good.replace("-----END", "----END"),
            &good.replace("END PUBLIC", "END PRIVATE"),
            &good.replace("\n-----END PUBLIC KEY-----", ""),
            &good.replacen("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\n\n", 1),
            &good.replacen('=', "", 1),
            &good.replacen("KEY-----\n", "KEY-----\n!", 1),
            &format!("comment\n{good}"),
        ] {
            assert_eq!(error(text), PemError::Malformed(1), "{text}");
        }
    }

    #[test]
    fn other_encodings_of_a_key_are_refused() {
        let ec = SigningKey::shared(Algorithm::Es256).public_der();
        let rsa = SigningKey::shared(Algorithm::Rs256).public_der();
        assert_eq!(error(&block(&[&ec[..], &[0]].concat())), PemError::TypeUnknown(1));
        assert_eq!(error(&block(&ec[..90])), PemError::TypeUnknown(1));
        assert_eq!(error(&block(&[&rsa[..], &[0]].concat())), PemError::TypeUnknown(1));
        // From the 33rd byte on it is the modulus, of which any odd one of the right length is taken.
        for at in 0..32 {
            let mut changed = rsa.clone();
            changed[at] ^= 0x01;
            assert!(KeySet::from_pem(&block(&changed), Algorithms::default()).is_err(), "{at}");
        }
        let mut off_curve = ec.clone();
        *off_curve.last_mut().unwrap() ^= 1;
        assert_eq!(error(&block(&off_curve)), PemError::Refused(1, KeyFault::PointRefused));
        let mut compressed = ec;
        compressed[26] = 0x02;
        assert_eq!(error(&block(&compressed)), PemError::TypeUnknown(1));
        let identity = [ED25519, &[1], &[0; 31]].concat();
        assert_eq!(error(&block(&identity)), PemError::Refused(1, KeyFault::PointRefused));
        let short = [ED25519, &[1; 31]].concat();
        assert_eq!(error(&block(&short)), PemError::Refused(1, KeyFault::Malformed));
    }
}
