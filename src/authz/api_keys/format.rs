//! How an API key is written: a prefix that scanners know it by, 43 random characters, a checksum of what is before it.

use aws_lc_rs::digest::{SHA256, digest};

/// How many random characters a key has: 43 of 62 are 256.03 bits.
pub const SECRET: usize = 43;
/// How many characters its checksum has: 6 of 62 hold the 32 bits of a CRC.
pub const CHECKSUM: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// A byte from here on is drawn again: below it every character is as likely as every other.
const EVEN: u8 = 248;
/// The longest prefix, in bytes.
const MAX_PREFIX: usize = 32;

/// What every key of a policy begins with, before an underscore: `pk_live`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(Box<str>);

impl Prefix {
    /// The one where the policy does not say.
    pub const DEFAULT: &str = "pk_live";

    /// A prefix of lower-case letters, digits and underscores, which begins with a letter and ends with neither an
    /// underscore nor more than 32 bytes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let fits = (2..=MAX_PREFIX).contains(&text.len())
            && text.bytes().all(inner)
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('_');
        fits.then(|| Self(text.into()))
    }

    /// The prefix, without the underscore that follows it in a key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a value begins as a key does, be it one or not.
    #[must_use]
    pub fn begins(&self, value: &[u8]) -> bool {
        self.rest(value).is_some()
    }

    /// Whether a value is written as a key: its length, its characters and its checksum, all told without a look-up.
    #[must_use]
    pub fn fits(&self, value: &[u8]) -> bool {
        let Some((secret, checksum)) = self.rest(value).and_then(|rest| rest.split_at_checked(SECRET)) else {
            return false;
        };
        let covered = value.len().saturating_sub(CHECKSUM);
        checksum.len() == CHECKSUM
            && secret.iter().all(u8::is_ascii_alphanumeric)
            && value.get(..covered).is_some_and(|covered| self::checksum(covered) == checksum)
    }

    /// A new key, of bytes that `draw` takes from a source of randomness.
    pub fn key(&self, mut draw: impl FnMut() -> u8) -> String {
        let mut key = format!("{}_", self.0);
        let mut left = SECRET;
        while left > 0 {
            let byte = draw();
            if byte < EVEN {
                key.push(character(u32::from(byte)));
                left = left.saturating_sub(1);
            }
        }
        let checksum = checksum(key.as_bytes());
        key.extend(checksum.iter().map(|byte| char::from(*byte)));
        key
    }

    fn rest<'v>(&self, value: &'v [u8]) -> Option<&'v [u8]> {
        value.strip_prefix(self.0.as_bytes())?.strip_prefix(b"_")
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

/// The SHA-256 of a whole key: all that is kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a key.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        Self(digest(&SHA256, key).as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// Reads `sha256:` and 64 digits in lower case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:")?.as_bytes();
        let mut hash = [0; 32];
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(hash))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first bytes, by which a hash is found.
    pub(super) fn bucket(&self) -> u64 {
        u64::from_be_bytes(self.0.first_chunk().copied().unwrap_or_default())
    }
}

impl std::fmt::Display for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte.saturating_sub(b'0')),
        b'a'..=b'f' => Some(byte.saturating_sub(b'a').saturating_add(10)),
        _ => None,
    }
}

/// The CRC-32 of gzip (RFC 1952 §8) as six characters, the highest first.
fn checksum(covered: &[u8]) -> [u8; CHECKSUM] {
    let mut left = crc32(covered);
    let mut written = [b'0'; CHECKSUM];
    for place in written.iter_mut().rev() {
        *place = u8::try_from(character(left)).unwrap_or(b'0');
        left /= 62;
    }
    written
}

fn character(value: u32) -> char {
    let at = usize::try_from(value % 62).unwrap_or_default();
    char::from(ALPHABET.get(at).copied().unwrap_or(b'0'))
}

fn crc32(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    });
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> String {
        let mut next = 0_u8;
        Prefix::default().key(|| {
            next = next.wrapping_add(37);
            next
        })
    }

    #[test]
    fn a_key_is_its_prefix_its_secret_and_their_crc() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926, "the check value of CRC-32/ISO-HDLC");
        let key = key();
        assert_eq!(key.len(), "pk_live_".len() + SECRET + CHECKSUM);
        assert!(Prefix::default().fits(key.as_bytes()), "{key}");
        let covered = &key.as_bytes()[..key.len() - CHECKSUM];
        let value = key.as_bytes()[key.len() - CHECKSUM..]
            .iter()
            .fold(0_u64, |sum, byte| sum * 62 + ALPHABET.iter().position(|one| one == byte).unwrap() as u64);
        assert_eq!(value, u64::from(crc32(covered)));
    }

    #[test]
    fn every_character_is_drawn_as_often_as_every_other() {
        let mut next = 0_u8;
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..248 {
            let key = Prefix::default().key(|| {
                next = next.wrapping_add(1);
                next
            });
            key.get(8..8 + SECRET).unwrap().chars().for_each(|c| *counts.entry(c).or_insert(0) += 1);
        }
        assert_eq!(counts.len(), 62);
        assert!(counts.values().all(|count| *count == 248 * SECRET / 62), "{counts:?}");
    }

    #[test] // A01
    fn what_differs_from_a_key_in_anything_is_not_written_as_one() {
        let (prefix, key) = (Prefix::default(), key());
        for at in 0..key.len() {
            let mut other = key.clone().into_bytes();
            other[at] = if other[at] == b'x' { b'y' } else { b'x' };
            assert!(!prefix.fits(&other), "{at}");
            let mut swapped = key.clone().into_bytes();
            if at > 0 && swapped[at] != swapped[at - 1] {
                swapped.swap(at - 1, at);
                assert!(!prefix.fits(&swapped), "{at} swapped");
            }
        }
        for length in 0..=10_000 {
            let value: Vec<u8> = key.bytes().cycle().take(length).collect();
            assert_eq!(prefix.fits(&value), length == key.len(), "{length}");
        }
        let others = [
            format!("{key}\0"),
            format!("\0{key}"),
            format!(" {key}"),
            format!("{key} "),
            key.to_uppercase(),
            key.to_lowercase(),
            key.replacen("pk_live", "pk_test", 1),
            key.replacen("pk_live", "р\u{43a}_live", 1),
            key.replacen('l', "\u{ff4c}", 1),
        ];
        for other in others {
            assert!(!prefix.fits(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn a_prefix_is_short_plain_and_ends_before_the_underscore() {
        for good in ["pk_live", "k1", "acme_prod_2", &"a".repeat(32)] {
            assert_eq!(Prefix::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a", "Pk", "pk_", "_pk", "1pk", "pk-live", "pk live", "p\u{e9}", &"a".repeat(33)] {
            assert_eq!(Prefix::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_hash_has_one_spelling() {
        let hash = KeyHash::of(b"abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((hash.to_string().as_str(), KeyHash::parse(text)), (text, Some(hash)));
        for bad in [
            text.get(7..).unwrap(),
            text.get(..70).unwrap(),
            &text.to_uppercase(),
            &format!("{text}0"),
            "sha256:",
            "md5:00",
            &key(),
        ] {
            assert_eq!(KeyHash::parse(bad), None, "{bad}");
        }
    }
}
