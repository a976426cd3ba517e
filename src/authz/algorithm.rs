//! Signature algorithms: a closed list of two kinds that never meet in one key set. There is no `none`.

use std::fmt;

/// A JWS signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512
    Rs512,
    /// RSASSA-PSS with SHA-256
    Ps256,
    /// RSASSA-PSS with SHA-384
    Ps384,
    /// RSASSA-PSS with SHA-512
    Ps512,
    /// ECDSA on P-256 with SHA-256
    Es256,
    /// ECDSA on P-384 with SHA-384
    Es384,
    /// ECDSA on P-521 with SHA-512
    Es512,
    /// EdDSA on Ed25519
    EdDsa,
    /// HMAC with SHA-256
    Hs256,
    /// HMAC with SHA-384
    Hs384,
    /// HMAC with SHA-512
    Hs512,
}

impl Algorithm {
    /// Every algorithm there is.
    pub const ALL: &'static [Self] = &[
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
    ];

    /// Those of key pairs: who verifies cannot sign.
    pub const ASYMMETRIC: &'static [Self] = &[
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// The name as `alg` spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }

    /// The algorithm of this exact name. `Ed25519` (RFC 9864) is `EdDSA`, of which no other curve is known here.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Self::EdDsa);
        }
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name)
    }

    /// Whether it is one of shared secrets: who verifies could sign as well.
    #[must_use]
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }

    const fn bit(self) -> u16 {
        match self {
            Self::Rs256 => 0x001,
            Self::Rs384 => 0x002,
            Self::Rs512 => 0x004,
            Self::Ps256 => 0x008,
            Self::Ps384 => 0x010,
            Self::Ps512 => 0x020,
            Self::Es256 => 0x040,
            Self::Es384 => 0x080,
            Self::Es512 => 0x100,
            Self::EdDsa => 0x200,
            Self::Hs256 => 0x400,
            Self::Hs384 => 0x800,
            Self::Hs512 => 0x1000,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of algorithms. The default is all of key pairs, and none of shared secrets.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Algorithms(u16);

impl Algorithms {
    /// Whether the set has this algorithm.
    #[must_use]
    pub const fn contains(self, algorithm: Algorithm) -> bool {
        self.0 & algorithm.bit() != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its members, in the order of [`Algorithm::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.iter().copied().filter(move |algorithm| self.contains(*algorithm))
    }
}

impl Default for Algorithms {
    fn default() -> Self {
        Algorithm::ASYMMETRIC.iter().copied().collect()
    }
}

impl FromIterator<Algorithm> for Algorithms {
    fn from_iter<I: IntoIterator<Item = Algorithm>>(algorithms: I) -> Self {
        Self(algorithms.into_iter().fold(0, |set, algorithm| set | algorithm.bit()))
    }
}

impl fmt::Debug for Algorithms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_names_of_the_algorithms_are_known() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.name()), Some(*algorithm));
            assert_eq!(Algorithm::parse(&algorithm.name().to_lowercase()), None);
        }
        assert_eq!(Algorithm::parse("Ed25519"), Some(Algorithm::EdDsa));
        // J01, J27
        for name in ["none", "NONE", "nOnE", "none ", "", "HS1", "ES256K", "Ed448", "ML-DSA-44", "RS1"] {
            assert_eq!(Algorithm::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_set_holds_what_was_put_into_it() {
        let set: Algorithms = [Algorithm::Ps256, Algorithm::EdDsa].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [Algorithm::Ps256, Algorithm::EdDsa]);
        assert_eq!(Algorithms::default().iter().count(), Algorithm::ASYMMETRIC.len());
        // J02
        assert!(!Algorithms::default().iter().any(Algorithm::is_symmetric));
        assert!(Algorithm::ALL.iter().all(|one| one.is_symmetric() != Algorithm::ASYMMETRIC.contains(one)));
        assert!(Algorithms::from_iter([]).is_empty());
    }
}
