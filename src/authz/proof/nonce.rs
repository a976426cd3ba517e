//! Nonces of the server (RFC 9449 §8, §9) that nothing remembers: a MAC of the time, by a key that replicas share.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::authz::time::Timestamp;

/// For how long the same nonce is given out, in milliseconds. It is taken for twice as long.
const SLOT: i64 = 300_000;
/// The bytes of a nonce.
const LENGTH: usize = 16;

/// Makes nonces, and knows its own.
#[derive(Clone)]
pub struct Nonces(hmac::Key);

impl Nonces {
    /// Nonces by a secret of any length. Replicas that have it know each other's.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        // The secret has other uses.
        let own = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"nonces of RFC 9449");
        Self(hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()))
    }

    /// The nonce to give out now: 22 characters of base64url.
    #[must_use]
    pub fn current(&self, now: Timestamp) -> String {
        self.of(slot(now))
    }

    /// Whether a nonce was given out in this slot of time or the one before; or by a replica whose clock is ahead.
    pub(super) fn knows(&self, nonce: &str, now: Timestamp) -> bool {
        let slot = slot(now);
        let near = [slot, slot.saturating_sub(1), slot.saturating_add(1)];
        near.into_iter().any(|slot| verify_slices_are_equal(self.of(slot).as_bytes(), nonce.as_bytes()).is_ok())
    }

    fn of(&self, slot: i64) -> String {
        let tag = hmac::sign(&self.0, &slot.to_be_bytes());
        URL_SAFE_NO_PAD.encode(tag.as_ref().get(..LENGTH).unwrap_or_default())
    }
}

fn slot(now: Timestamp) -> i64 {
    now.as_millis().div_euclid(SLOT)
}

/// A key is a secret.
impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonces(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000_i64.saturating_add(secs))
    }

    #[test] // J30
    fn a_nonce_is_known_while_it_is_given_out_and_as_long_again() {
        let nonces = Nonces::new(b"key");
        let nonce = nonces.current(at(0));
        assert_eq!(nonce.len(), 22);
        assert_eq!(nonces.current(at(299)), nonce);
        assert_ne!(nonces.current(at(300)), nonce);
        for known in [-300, -1, 0, 299, 300, 599] {
            assert!(nonces.knows(&nonce, at(known)), "{known}");
        }
        for unknown in [-301, 600, 86_400] {
            assert!(!nonces.knows(&nonce, at(unknown)), "{unknown}");
        }
        for other in ["", "x", nonce.split_at(1).1, &format!("{nonce}A"), &nonce.to_ascii_uppercase()] {
            assert!(!nonces.knows(other, at(0)), "{other}");
        }
    }

    #[test]
    fn replicas_know_each_others_nonces_by_the_same_secret_only() {
        let nonce = Nonces::new(b"key").current(at(0));
        assert!(Nonces::new(b"key").knows(&nonce, at(1)));
        assert!(!Nonces::new(b"other").knows(&nonce, at(1)));
        assert_eq!(format!("{:?}", Nonces::new(b"key")), "Nonces(..)");
    }
}
