//! The decision id: what a decision rests on, sealed with the operator's key, so that it explains itself on any replica.

use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::decision::{Basis, RuleRef};
use super::policy::PolicyId;
use super::reason::Reason;
use super::route::RouteId;
use super::time::Timestamp;

/// The layout of what is sealed. Grows when the layout or the order of reasons changes.
const VERSION: u8 = 4;
const PLAIN: usize = 29;
const TAG: usize = 16;
const SEALED: usize = NONCE_LEN + PLAIN + TAG;

/// An id as it is written: 76 characters of base64url. Names nothing to who lacks the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DecisionId([u8; SEALED]);

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; SEALED.div_ceil(3).saturating_mul(4)];
        let length = URL_SAFE_NO_PAD.encode_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
        f.write_str(text.get(..length).and_then(|text| std::str::from_utf8(text).ok()).ok_or(fmt::Error)?)
    }
}

impl fmt::Debug for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// When the decision was made.
    pub at: Timestamp,
    /// Which replica made it: a random number of its own since it started.
    pub replica: u32,
    /// By which policy.
    pub policy: PolicyId,
    /// The route.
    pub route: Option<RouteId>,
    /// The rule that decided.
    pub rule: Option<RuleRef>,
    /// Why not; `None` for an allow.
    pub reason: Option<Reason>,
}

/// The operator's key, derived from a secret of any length.
pub struct SealingKey(LessSafeKey);

/// Why an id cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// It is not an id.
    #[error("this is not a decision id: one has {} characters of base64url", SEALED.div_ceil(3).saturating_mul(4))]
    Malformed,
    /// Another key sealed it.
    #[error("the decision id was sealed with another `decision_key`")]
    OtherKey,
}

impl SealingKey {
    /// A key from the operator's secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Option<Self> {
        let key = digest(&SHA256, secret);
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref().get(..16)?).ok()?;
        Some(Self(LessSafeKey::new(key)))
    }

    /// Seals what a decision rests on. A nonce must never be used twice with one key.
    #[must_use]
    pub fn seal(&self, nonce: [u8; NONCE_LEN], told: &Told) -> Option<DecisionId> {
        let mut plain = told.write();
        let tag =
            self.0.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut plain).ok()?;
        let mut sealed = [0; SEALED];
        let parts = nonce.iter().chain(&plain).chain(tag.as_ref());
        sealed.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        Some(DecisionId(sealed))
    }

    /// Opens an id.
    pub fn open(&self, id: &str) -> Result<Told, NotOpened> {
        let mut sealed = URL_SAFE_NO_PAD.decode(id.trim()).map_err(|_| NotOpened::Malformed)?;
        if sealed.len() != SEALED {
            return Err(NotOpened::Malformed);
        }
        let (nonce, rest) = sealed.split_at_mut_checked(NONCE_LEN).ok_or(NotOpened::Malformed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| NotOpened::Malformed)?;
        let plain = self.0.open_in_place(nonce, Aad::empty(), rest).map_err(|_| NotOpened::OtherKey)?;
        Told::read(plain).ok_or(NotOpened::Malformed)
    }
}

impl Told {
    /// What is to be told of a decision.
    #[must_use]
    pub fn of(basis: &Basis, policy: PolicyId, replica: u32, at: Timestamp) -> Self {
        Self { at, replica, policy, route: basis.route, rule: basis.rule, reason: basis.reason }
    }

    fn write(&self) -> [u8; PLAIN] {
        let (kind, place) = match self.rule {
            None => (0, 0),
            Some(RuleRef::Route(RouteId(place))) => (1, place),
            Some(RuleRef::Guard(place)) => (2, place),
            Some(RuleRef::Forbid(place)) => (3, place),
            Some(RuleRef::RouteForbid(RouteId(place))) => (4, place),
        };
        let reason = self.reason.map_or(0, |reason| (reason as u8).saturating_add(1));
        let fields = [VERSION]
            .into_iter()
            .chain(self.at.as_millis().to_be_bytes().into_iter().skip(2))
            .chain(self.replica.to_be_bytes())
            .chain(self.policy.0)
            .chain(self.route.map_or(u32::MAX, |route| route.0).to_be_bytes())
            .chain([kind])
            .chain(place.to_be_bytes())
            .chain([reason]);
        let mut plain = [0; PLAIN];
        plain.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        plain
    }

    fn read(plain: &[u8]) -> Option<Self> {
        let (&version, rest) = plain.split_first()?;
        let (at, rest) = rest.split_first_chunk::<6>()?;
        let (replica, rest) = rest.split_first_chunk::<4>()?;
        let (policy, rest) = rest.split_first_chunk::<8>()?;
        let (route, rest) = rest.split_first_chunk::<4>()?;
        let (&kind, rest) = rest.split_first()?;
        let (place, rest) = rest.split_first_chunk::<4>()?;
        let &[reason] = rest else { return None };
        let [a, b, c, d, e, f] = *at;
        let place = u32::from_be_bytes(*place);
        (version == VERSION).then_some(())?;
        Some(Self {
            at: Timestamp::from_millis(i64::from_be_bytes([0, 0, a, b, c, d, e, f])),
            replica: u32::from_be_bytes(*replica),
            policy: PolicyId(*policy),
            route: Some(u32::from_be_bytes(*route)).filter(|place| *place != u32::MAX).map(RouteId),
            rule: match kind {
                0 => None,
                1 => Some(RuleRef::Route(RouteId(place))),
                2 => Some(RuleRef::Guard(place)),
                3 => Some(RuleRef::Forbid(place)),
                4 => Some(RuleRef::RouteForbid(RouteId(place))),
                _ => return None,
            },
            reason: match reason.checked_sub(1) {
                None => None,
                Some(place) => Some(*Reason::ALL.get(usize::from(place))?),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_what_was_sealed_to_who_has_the_key() {
        let key = SealingKey::new(b"a secret of the operator's").unwrap();
        for (reason, rule) in Reason::ALL.iter().copied().map(Some).chain([None]).zip(
            [
                None,
                Some(RuleRef::Route(RouteId(7))),
                Some(RuleRef::Guard(8)),
                Some(RuleRef::Forbid(9)),
                Some(RuleRef::RouteForbid(RouteId(7))),
            ]
            .into_iter()
            .cycle(),
        ) {
            let told = Told {
                at: Timestamp::from_millis(1_795_251_000_123),
                replica: 0xdead_beef,
                policy: PolicyId(*b"12345678"),
                route: reason.map(|_| RouteId(3)),
                rule,
                reason,
            };
            let id = key.seal([1; NONCE_LEN], &told).unwrap().to_string();
            assert_eq!(id.len(), 76);
            assert_eq!(key.open(&id), Ok(told));
            assert_eq!(SealingKey::new(b"other").unwrap().open(&id), Err(NotOpened::OtherKey));
        }
    }

    #[test]
    fn what_is_no_id_is_not_opened() {
        let key = SealingKey::new(b"secret").unwrap();
        for text in ["", "x", "not base64!", "AAAA"] {
            assert_eq!(key.open(text), Err(NotOpened::Malformed));
        }
        assert_eq!(key.open(&"A".repeat(76)), Err(NotOpened::OtherKey));
    }
}
