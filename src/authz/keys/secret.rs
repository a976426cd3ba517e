//! Shared secrets (RFC 7518 §3.2): refused where they could be guessed, and verifiers of MACs made of the others.

use aws_lc_rs::hmac;

use super::Verify;
use super::jwk::Usable;
use crate::authz::algorithm::{Algorithm, Algorithms};

/// The fewest different bytes that a secret holds. Of 32 random hexadecimal digits fewer are as good as impossible.
const MIN_DISTINCT: usize = 8;

/// A repetition that is shorter than this adds no strength.
const MAX_PERIOD: usize = 32;

/// What documentation, tutorials and people use in place of a secret, in lower case.
const WELL_KNOWN: &[&str] = &[
    "your-256-bit-secret",
    "your-384-bit-secret",
    "your-512-bit-secret",
    "at-least-256-bits",
    "at-least-384-bits",
    "at-least-512-bits",
    "secretsecret",
    "supersecret",
    "super-secret",
    "super_secret",
    "mysecret",
    "my-secret",
    "my_secret",
    "your-secret",
    "your_secret",
    "yoursecret",
    "jwt-secret",
    "jwt_secret",
    "jwtsecret",
    "secret-key",
    "secret_key",
    "secretkey",
    "signing-key",
    "signing_key",
    "signingkey",
    "changeme",
    "change-me",
    "change_me",
    "change this",
    "password",
    "passw0rd",
    "qwertyuiop",
    "letmein",
    "0123456789abcdef",
    "1234567890",
    "abcdefghijkl",
    "deadbeef",
    "example",
    // RFC 7515 A.1.1 and RFC 7520 §3.5, and the secret that jwt.io had for years, in Base64.
    "aym1sysppbydfgzld3umj1qzkobwvmkoqq-estjqlr_t-1qs0gzh75aktmn3yj0ips4hcguutwjazzr1z9caow",
    "hjtxiz2usn5kbqfbttnwbpdmhkv8fjg-onbc6mxccyg",
    "ew91ci0yntytyml0lxnly3jlda",
];

/// How keys that are not secret begin: PEM, JWK, and the DER of a key or certificate in Base64.
const PUBLIC: &[&str] = &["-----BEGIN", "{", "MII", "MFk", "MCo", "MHY", "MIG", "ssh-"];

/// Why a secret is not used. Holds nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretFault {
    /// It is shorter than the hash of an algorithm (RFC 7518 §3.2).
    #[error("the secret is shorter than {0} bytes; make one with `openssl rand -base64 {0}`")]
    TooShort(usize),
    /// It is a key or a certificate, which others have as well.
    #[error("this is a key or a certificate, which others may have, and not a secret; a public key goes under `pem`")]
    KeyMaterial,
    /// It is an example's, or holds what people use in place of a secret.
    #[error("the secret is one that everybody knows, or begins like one; make one with `openssl rand -base64 48`")]
    WellKnown,
    /// It repeats itself, or holds few different bytes.
    #[error("the secret repeats itself; make one with `openssl rand -base64 48`")]
    Repetitive,
    /// It is made of words, or counts.
    #[error("the secret is made of words or sequences, and can be guessed; make one with `openssl rand -base64 48`")]
    Guessable,
}

/// Checks a secret, and makes a key of it for each of these algorithms.
pub(super) fn usable(secrets: &[&[u8]], algorithms: Algorithms) -> Result<Usable, (usize, SecretFault)> {
    for (at, secret) in secrets.iter().enumerate() {
        check(secret, algorithms).map_err(|fault| (at, fault))?;
    }
    let serves = algorithms.iter().filter_map(|algorithm| {
        let hash = hash(algorithm)?;
        let keys = secrets.iter().map(|secret| hmac::Key::new(hash, secret)).collect();
        let verifier: Box<dyn Verify> = Box::new(Macs(keys));
        Some((algorithm, verifier))
    });
    let mut content = Vec::new();
    for secret in secrets {
        content.extend_from_slice(&secret.len().to_be_bytes());
        content.extend_from_slice(secret);
    }
    Ok(Usable { serves: serves.collect(), content, public: None })
}

/// Several secrets, each of which may have signed.
struct Macs(Box<[hmac::Key]>);

impl Verify for Macs {
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        // Which of them it is, is no secret; each comparison takes the same time whatever it compares.
        self.0.iter().any(|key| hmac::verify(key, message, signature).is_ok())
    }
}

fn hash(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::Hs256 => Some(hmac::HMAC_SHA256),
        Algorithm::Hs384 => Some(hmac::HMAC_SHA384),
        Algorithm::Hs512 => Some(hmac::HMAC_SHA512),
        Algorithm::Rs256
        | Algorithm::Rs384
        | Algorithm::Rs512
        | Algorithm::Ps256
        | Algorithm::Ps384
        | Algorithm::Ps512
        | Algorithm::Es256
        | Algorithm::Es384
        | Algorithm::Es512
        | Algorithm::EdDsa => None,
    }
}

fn check(secret: &[u8], algorithms: Algorithms) -> Result<(), SecretFault> {
    let needed = algorithms.iter().filter_map(hash).map(|hash| hash.digest_algorithm().output_len()).max();
    let lower = secret.to_ascii_lowercase();
    let text = secret.trim_ascii_start();
    // A DER SEQUENCE as long as all of it, as keys and certificates are.
    let der = matches!(secret, [0x30, 0x82, high, low, rest @ ..]
            if usize::from(u16::from_be_bytes([*high, *low])) == rest.len())
        || matches!(secret, [0x30, 0x81, length, rest @ ..] if usize::from(*length) == rest.len())
        || matches!(secret, [0x30, length, rest @ ..] if usize::from(*length) == rest.len());
    let printable = secret.iter().all(|byte| matches!(byte, b' '..=b'~'));
    if der || PUBLIC.iter().any(|start| text.starts_with(start.as_bytes())) && (printable || text.starts_with(b"-----"))
    {
        return Err(SecretFault::KeyMaterial);
    }
    if let Some(needed) = needed.filter(|needed| secret.len() < *needed) {
        return Err(SecretFault::TooShort(needed));
    }
    if WELL_KNOWN.iter().any(|known| lower.windows(known.len()).any(|part| part == known.as_bytes())) {
        return Err(SecretFault::WellKnown);
    }
    if repeats(secret) {
        return Err(SecretFault::Repetitive);
    }
    if printable && is_wordy(secret) { Err(SecretFault::Guessable) } else { Ok(()) }
}

/// Whether a secret is a short pattern over and over, or of very few different bytes.
fn repeats(secret: &[u8]) -> bool {
    let longest = secret.len().div_euclid(2).min(MAX_PERIOD.saturating_sub(1));
    let mut distinct = secret.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    distinct.len() < MIN_DISTINCT
        || (1..=longest).any(|period| secret.iter().zip(secret.iter().skip(period)).all(|(one, next)| one == next))
}

/// Whether a text reads like words, or counts up or down: of random text, half of all neighbours are of two kinds.
fn is_wordy(secret: &[u8]) -> bool {
    let pairs = || secret.iter().zip(secret.iter().skip(1));
    let kind = |byte: &u8| (byte.is_ascii_uppercase(), byte.is_ascii_digit(), b"+/=".contains(byte));
    let count = secret.len().saturating_sub(1);
    let alike = pairs().filter(|(one, next)| kind(one) == kind(next)).count();
    let steps = pairs().filter(|(one, next)| one.abs_diff(**next) <= 1).count();
    let digits = secret.iter().filter(|byte| byte.is_ascii_digit()).count();
    let words = alike.saturating_mul(4) >= count.saturating_mul(3) && digits.saturating_mul(10) <= secret.len();
    words || digits == secret.len() || steps.saturating_mul(2) > count
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;
    use crate::dev::mint::SigningKey;

    const HS256: &[Algorithm] = &[Algorithm::Hs256];

    fn fault(secret: impl AsRef<[u8]>, algorithms: &[Algorithm]) -> Option<SecretFault> {
        usable(&[secret.as_ref()], algorithms.iter().copied().collect()).err().map(|(_, fault)| fault)
    }

    fn random<const N: usize>() -> [u8; N] {
        let mut bytes = [0; N];
        aws_lc_rs::rand::fill(&mut bytes).unwrap();
        bytes
    }

    #[test] // J26
    fn a_secret_is_as_long_as_the_hash_of_every_algorithm_that_it_serves() {
        assert_eq!(fault("", HS256), Some(SecretFault::TooShort(32)));
        assert_eq!(fault("secret", HS256), Some(SecretFault::TooShort(32)));
        assert_eq!(fault(random::<31>(), HS256), Some(SecretFault::TooShort(32)));
        assert_eq!(fault(random::<32>(), HS256), None);
        assert_eq!(fault(random::<47>(), &[Algorithm::Hs384]), Some(SecretFault::TooShort(48)));
        assert_eq!(fault(random::<48>(), &[Algorithm::Hs256, Algorithm::Hs384]), None);
        assert_eq!(fault(random::<63>(), &[Algorithm::Hs256, Algorithm::Hs512]), Some(SecretFault::TooShort(64)));
        assert_eq!(fault(random::<64>(), &[Algorithm::Hs512]), None);
    }

    #[test] // J26
    fn a_secret_that_can_be_guessed_is_refused() {
        for (secret, why) in [
            ("secretsecretsecretsecretsecretsecret", SecretFault::WellKnown),
            ("your-256-bit-secret-your-256-bit", SecretFault::WellKnown),
            ("a-string-secret-at-least-256-bits-long", SecretFault::WellKnown),
            ("MyPassword1MyPassword1MyPassword1", SecretFault::WellKnown),
            (
                "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
                SecretFault::WellKnown,
            ),
            ("eW91ci0yNTYtYml0LXNlY3JldA========", SecretFault::WellKnown),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", SecretFault::Repetitive),
            ("Xk29-fQ7Xk29-fQ7Xk29-fQ7Xk29-fQ7", SecretFault::Repetitive),
            ("abababababababababcdcdcdcdcdcdcdcdcd", SecretFault::Repetitive),
            ("correct horse battery staple again", SecretFault::Guessable),
            ("our-shop-token-for-the-partners-24", SecretFault::Guessable),
            ("31415926535897932384626433832795", SecretFault::Guessable),
            ("zyxwvutsrqponmlkjihgfedcba9876543210", SecretFault::Guessable),
        ] {
            assert_eq!(fault(secret, HS256), Some(why), "{secret}");
        }
        assert_eq!(fault([0; 32], HS256), Some(SecretFault::Repetitive));
        assert_eq!(fault([7; 64], HS256), Some(SecretFault::Repetitive));
    }

    #[test]
    fn what_was_made_at_random_is_taken_however_it_is_written() {
        for _ in 0..500 {
            let bytes = random::<48>();
            let hex: String = bytes[..32].iter().map(|byte| format!("{byte:02x}")).collect();
            for secret in
                [bytes.to_vec(), STANDARD.encode(bytes).into_bytes(), URL_SAFE_NO_PAD.encode(bytes).into_bytes()]
            {
                // One in many thousands begins like a key does.
                let fault = fault(&secret, HS256);
                assert!(matches!(fault, None | Some(SecretFault::KeyMaterial)), "{fault:?} {secret:?}");
            }
            assert_eq!(fault(hex, HS256), None);
        }
    }

    #[test] // J02
    fn a_public_key_is_no_secret_in_any_of_its_forms() {
        for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa, Algorithm::Es512] {
            let key = SigningKey::shared(algorithm);
            let (pem, der) = (key.public_pem(), key.public_der());
            for secret in [
                pem.clone().into_bytes(),
                pem.trim_end().as_bytes().to_vec(),
                format!("\n {pem}").into_bytes(),
                der.clone(),
                STANDARD.encode(&der).into_bytes(),
                key.public_jwk(Some("k")).to_string().into_bytes(),
            ] {
                assert_eq!(fault(&secret, HS256), Some(SecretFault::KeyMaterial), "{algorithm}");
            }
        }
    }

    #[test]
    fn each_of_several_secrets_verifies_and_no_other_does() {
        let (one, two, other) = (random::<32>(), random::<64>(), random::<32>());
        let usable = usable(&[&one, &two], HS256.iter().copied().collect()).unwrap();
        let [(Algorithm::Hs256, key)] = &usable.serves[..] else { panic!("one algorithm") };
        let mac = |secret: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"message");
        assert!(key.verify(b"message", mac(&one).as_ref()));
        assert!(key.verify(b"message", mac(&two).as_ref()));
        assert!(!key.verify(b"message", mac(&other).as_ref()));
        assert!(!key.verify(b"massage", mac(&one).as_ref()));
        assert!(!key.verify(b"message", &mac(&one).as_ref()[..16]));
        assert!(!key.verify(b"message", b""));
    }
}
