//! What is remembered of the answers about opaque tokens: for a while, in so many bytes, and never past a token's end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use quick_cache::sync::Cache;
use quick_cache::{UnitWeighter, Weighter};

use super::super::identity::Identity;
use super::super::reason::Reason;
use super::super::time::Timestamp;

/// How long it is remembered that a token is no good, at most.
const BAD: Duration = Duration::from_secs(10);
/// How many tokens are remembered that are no good. They have a place of their own: whoever sends garbage drives out
/// nothing but garbage.
const BADS: usize = 16_384;

type Key = [u8; 32];

/// The answers about one issuer's opaque tokens.
pub struct Answers {
    good: Cache<Key, Good, Weight, RandomState>,
    bad: Cache<Key, Bad, UnitWeighter, RandomState>,
    hits: AtomicU64,
    good_answers: AtomicU64,
    bad_answers: AtomicU64,
    failures: AtomicU64,
}

#[derive(Clone)]
struct Good {
    identity: Arc<Identity>,
    span: Span,
}

#[derive(Clone, Copy)]
struct Bad {
    reason: Reason,
    span: Span,
}

/// From when to when something is believed. Before its beginning the clock was set back, and nothing is.
#[derive(Clone, Copy)]
struct Span {
    from: Timestamp,
    until: Timestamp,
}

impl Span {
    fn holds(self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Good> for Weight {
    fn weight(&self, _: &Key, good: &Good) -> u64 {
        u64::try_from(good.identity.weight()).unwrap_or(u64::MAX).saturating_add(128)
    }
}

/// How often what came of asking. Since the issuer was last changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Tokens whose answer was remembered.
    pub hits: u64,
    /// Answers that named an identity.
    pub active: u64,
    /// Answers by which the token is no good.
    pub inactive: u64,
    /// Asks that brought no answer, or none that could be read.
    pub failures: u64,
}

impl Answers {
    pub(in crate::authz) fn new(bytes: u64) -> Self {
        // Only a guess, for which room is made at once.
        let items = usize::try_from(bytes / 16_384).unwrap_or(usize::MAX);
        let capacity = u64::try_from(BADS).unwrap_or(u64::MAX);
        Self {
            good: Cache::with(items, bytes, Weight, RandomState::default(), Default::default()),
            bad: Cache::with(64, capacity, UnitWeighter, RandomState::default(), Default::default()),
            hits: AtomicU64::new(0),
            good_answers: AtomicU64::new(0),
            bad_answers: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// What was answered about a token, while it is believed.
    pub(in crate::authz) fn find(&self, key: &Key, now: Timestamp) -> Option<Result<Arc<Identity>, Reason>> {
        let good = self.good.get(key).filter(|good| good.span.holds(now)).map(|good| Ok(good.identity));
        let bad = || self.bad.get(key).filter(|bad| bad.span.holds(now)).map(|bad| Err(bad.reason));
        let found = good.or_else(bad);
        if found.is_some() {
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    /// Remembers what was answered about a token. That nothing could be learnt is never remembered.
    pub(in crate::authz) fn remember(
        &self,
        key: Key,
        told: &Result<Arc<Identity>, Reason>,
        cache: Duration,
        now: Timestamp,
    ) {
        match told {
            Ok(identity) => {
                self.good_answers.fetch_add(1, Ordering::Relaxed);
                self.bad.remove(&key);
                let span = Span { from: now, until: now.plus(cache).min(identity.expires()) };
                if span.holds(now) {
                    self.good.insert(key, Good { identity: Arc::clone(identity), span });
                } else {
                    self.good.remove(&key);
                }
            }
            Err(reason) if reason.status() == 503 => {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
            Err(reason) => {
                self.bad_answers.fetch_add(1, Ordering::Relaxed);
                self.good.remove(&key);
                let span = Span { from: now, until: now.plus(cache.min(BAD)) };
                // What is not valid yet will be.
                if span.holds(now) && *reason != Reason::TokenNotYetValid {
                    self.bad.insert(key, Bad { reason: *reason, span });
                }
            }
        }
    }

    /// How often what came of asking.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counted {
            hits: read(&self.hits),
            active: read(&self.good_answers),
            inactive: read(&self.bad_answers),
            failures: read(&self.failures),
        }
    }
}
