//! State that replicas share: proofs that were seen, and what was revoked. In memory unless the policy names a Redis.
//!
//! Whatever cannot be told is [`Unavailable`], within the deadline of an operation: what that means for a request is the
//! caller's to say, and an allow it never is by itself.

mod counters;
mod fault;
mod memory;
pub mod redis;
mod subscription;

use std::sync::Arc;

use tokio::time::Instant;

use crate::authz::time::Timestamp;
use counters::Counters;
pub use counters::{BOUNDS, Operation, Totals};
pub use fault::{Fault, Unavailable};
use memory::Memory;
use redis::{Redis, Settings, TrustFault};
pub use subscription::{Event, Subscription};

/// The longest key of a revocation, in bytes.
pub const MAX_KEY: usize = 1_024;
/// The longest value of a revocation, in bytes.
pub const MAX_VALUE: usize = 4_096;
/// The highest epoch that can be seeded: what Redis's scripts count exactly.
pub const MAX_EPOCH: u64 = 1 << 52;

/// One revocation, as the store keeps it: what it means is for others to know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// What is revoked: at most [`MAX_KEY`] bytes. A later entry of the same key stands in its place.
    pub key: Box<[u8]>,
    /// How: at most [`MAX_VALUE`] bytes.
    pub value: Box<[u8]>,
    /// From when on it may be forgotten.
    pub expires: Timestamp,
}

/// All revocations that have not expired, and how far they reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    /// Counts what was ever added. `None`: never seeded, or forgotten, so that the entries may not be all there were.
    pub epoch: Option<u64>,
    /// The entries, in no order: all that there were when the epoch was this one, and perhaps some that came since.
    pub entries: Vec<Entry>,
}

/// The shared state: a handle that is cheap to clone and may be used from any runtime.
#[derive(Clone)]
pub struct Store {
    kind: Kind,
    counters: Arc<Counters>,
}

#[derive(Clone)]
enum Kind {
    Memory(Arc<Memory>),
    Redis(Arc<Redis>),
}

impl Store {
    /// A store in this process's memory, which dies with it.
    #[must_use]
    pub fn memory() -> Self {
        Self { kind: Kind::Memory(Arc::default()), counters: Arc::default() }
    }

    /// A store in a Redis, which need not be there yet: the runtime that this is called on connects to it.
    ///
    /// # Errors
    /// Where its certificate could never be checked.
    pub fn redis(settings: &Settings) -> Result<Self, TrustFault> {
        Ok(Self { kind: Kind::Redis(Arc::new(Redis::start(settings)?)), counters: Arc::default() })
    }

    /// Whether other replicas see it too, and it outlives this process.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self.kind, Kind::Redis(_))
    }

    /// Whether it failed so often that most operations are refused at once.
    #[must_use]
    pub fn circuit_is_open(&self) -> bool {
        match &self.kind {
            Kind::Memory(_) => false,
            Kind::Redis(redis) => redis.circuit_is_open(),
        }
    }

    /// What operations have come to since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.counters.totals()
    }

    /// Whether this is the first time that this key is seen, before `until`. At most one caller, of all replicas, is told
    /// so. The key is a digest ([`crate::authz::digest`]) of what must not be seen twice.
    ///
    /// False where `until` has passed: what cannot be remembered cannot be vouched for.
    ///
    /// # Errors
    /// Where it cannot be told. The key may count as seen all the same.
    pub async fn first_seen(&self, key: &[u8; 32], until: Timestamp, now: Timestamp) -> Result<bool, Unavailable> {
        if until <= now {
            return Ok(false);
        }
        self.counted(Operation::FirstSeen, async {
            match &self.kind {
                Kind::Memory(memory) => memory.first_seen(key, until, now),
                Kind::Redis(redis) => redis.first_seen(key, until, now).await,
            }
        })
        .await
    }

    /// All revocations, and the epoch.
    ///
    /// # Errors
    /// Where they cannot be told, or not all of them.
    pub async fn load_all(&self, now: Timestamp) -> Result<Revocations, Unavailable> {
        self.counted(Operation::Load, async {
            match &self.kind {
                Kind::Memory(memory) => Ok(memory.load_all(now)),
                Kind::Redis(redis) => redis.load_all(now).await,
            }
        })
        .await
    }

    /// Adds a revocation, which raises the epoch by one; tells subscribers. `None`: it was added, but there is no epoch.
    ///
    /// # Errors
    /// Where it may not have been added, or is too long.
    pub async fn add(&self, entry: Entry, now: Timestamp) -> Result<Option<u64>, Unavailable> {
        self.counted(Operation::Add, async {
            entry.check()?;
            match &self.kind {
                Kind::Memory(memory) => memory.add(entry, now),
                Kind::Redis(redis) => redis.add(&entry, now).await,
            }
        })
        .await
    }

    /// Adds what is known, then makes the epoch this one unless it is higher already; tells subscribers, and the epoch.
    ///
    /// # Errors
    /// Where not all of it may have been done, an entry is too long, or the epoch above [`MAX_EPOCH`].
    pub async fn seed(&self, epoch: u64, entries: &[Entry], now: Timestamp) -> Result<u64, Unavailable> {
        self.counted(Operation::Seed, async {
            entries.iter().try_for_each(Entry::check)?;
            if epoch > MAX_EPOCH {
                return Err(Fault::Oversize);
            }
            match &self.kind {
                Kind::Memory(memory) => memory.seed(epoch, entries, now),
                Kind::Redis(redis) => redis.seed(epoch, entries, now).await,
            }
        })
        .await
    }

    /// The epoch.
    ///
    /// # Errors
    /// Where it cannot be told.
    pub async fn epoch(&self) -> Result<Option<u64>, Unavailable> {
        self.counted(Operation::Epoch, async {
            match &self.kind {
                Kind::Memory(memory) => Ok(memory.epoch()),
                Kind::Redis(redis) => redis.epoch().await,
            }
        })
        .await
    }

    /// Subscribes to revocations: [`Event::Resync`] comes first, once everything that is added from then on is heard; or
    /// [`Event::Lost`], where it cannot be heard. A Redis is asked
    /// for the epoch every second besides.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        match &self.kind {
            Kind::Memory(memory) => memory.subscribe(),
            Kind::Redis(redis) => redis.subscribe(),
        }
    }

    async fn counted<T>(
        &self,
        operation: Operation,
        asked: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Unavailable> {
        let began = Instant::now();
        let answer = asked.await;
        self.counters.count(operation, answer.as_ref().err().copied(), began.elapsed());
        answer.map_err(Unavailable)
    }
}

impl Entry {
    fn check(&self) -> Result<(), Fault> {
        if self.key.len() > MAX_KEY || self.value.len() > MAX_VALUE { Err(Fault::Oversize) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn after(secs: u64) -> Timestamp {
        NOW.plus(std::time::Duration::from_secs(secs))
    }

    fn entry(key: &str, secs: u64) -> Entry {
        Entry { key: key.as_bytes().into(), value: b"v".as_slice().into(), expires: after(secs) }
    }

    #[tokio::test]
    async fn a_key_is_first_seen_once_until_its_time_has_passed() {
        let store = Store::memory();
        assert_eq!(store.first_seen(&[1; 32], after(60), NOW).await, Ok(true));
        assert_eq!(store.first_seen(&[1; 32], after(90), NOW).await, Ok(false));
        assert_eq!(store.first_seen(&[2; 32], after(60), NOW).await, Ok(true));
        assert_eq!(store.first_seen(&[1; 32], after(90), after(59)).await, Ok(false));
        assert_eq!(store.first_seen(&[1; 32], after(90), after(60)).await, Ok(true));
        assert_eq!(store.clone().first_seen(&[1; 32], after(90), after(61)).await, Ok(false));
    }

    #[tokio::test]
    async fn what_cannot_be_remembered_is_never_the_first() {
        assert_eq!(Store::memory().first_seen(&[1; 32], NOW, NOW).await, Ok(false));
    }

    #[tokio::test]
    async fn an_epoch_counts_additions_once_it_is_seeded() {
        let store = Store::memory();
        assert_eq!(store.add(entry("a", 60), NOW).await, Ok(None));
        assert_eq!(store.epoch().await, Ok(None));
        assert_eq!(store.seed(7, &[entry("b", 60), entry("late", 0)], NOW).await, Ok(7));
        assert_eq!(store.add(entry("c", 30), NOW).await, Ok(Some(8)));
        assert_eq!(store.seed(3, &[], NOW).await, Ok(8));
        let mut loaded = store.load_all(NOW).await.unwrap();
        loaded.entries.sort();
        assert_eq!(loaded.epoch, Some(8));
        assert_eq!(loaded.entries, [entry("a", 60), entry("b", 60), entry("c", 30)]);
        assert_eq!(store.load_all(after(30)).await.unwrap().entries.len(), 2);
    }

    #[tokio::test]
    async fn a_later_entry_of_a_key_stands_in_place_of_the_earlier() {
        let store = Store::memory();
        store.add(entry("a", 60), NOW).await.unwrap();
        store.add(entry("a", 90), NOW).await.unwrap();
        assert_eq!(store.load_all(NOW).await.unwrap().entries, [entry("a", 90)]);
    }

    #[tokio::test]
    async fn an_entry_that_is_too_long_is_refused() {
        let long = Entry { key: vec![0; MAX_KEY + 1].into(), ..entry("a", 60) };
        let wide = Entry { value: vec![0; MAX_VALUE + 1].into(), ..entry("a", 60) };
        for entry in [long, wide] {
            assert_eq!(Store::memory().add(entry.clone(), NOW).await, Err(Unavailable(Fault::Oversize)));
            assert_eq!(Store::memory().seed(1, &[entry], NOW).await, Err(Unavailable(Fault::Oversize)));
        }
        assert_eq!(Store::memory().seed(MAX_EPOCH + 1, &[], NOW).await, Err(Unavailable(Fault::Oversize)));
    }

    #[tokio::test]
    async fn a_subscriber_loads_everything_first_and_hears_what_is_added_then() {
        let store = Store::memory();
        let mut events = store.subscribe();
        assert_eq!(events.next().await, Some(Event::Resync));
        store.seed(1, &[entry("a", 60)], NOW).await.unwrap();
        store.seed(1, &[], NOW).await.unwrap();
        store.add(entry("b", 60), NOW).await.unwrap();
        assert_eq!(events.next().await, Some(Event::Epoch(Some(1))));
        assert_eq!(events.next().await, Some(Event::Epoch(Some(1))));
        assert_eq!(events.next().await, Some(Event::Added(Some(2), entry("b", 60))));
    }
}
