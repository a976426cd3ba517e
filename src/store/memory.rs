//! The store in this process's memory. Bounded: what is live is never dropped to make room, so full is an error.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fault::Fault;
use super::subscription::{Event, Subscriber, Subscription};
use super::{Entry, Revocations};
use crate::authz::time::Timestamp;

/// Locks of what was seen, so that cores seldom wait for each other. A key is a digest: its first byte picks one.
const SHARDS: usize = 16;
/// How many keys one of them remembers: in all some 100 MB at most.
const SEEN: usize = 65_536;
/// How many revocations are kept.
pub const REVOKED: usize = 100_000;

/// The store in memory.
pub struct Memory {
    seen: [Mutex<Seen>; SHARDS],
    revoked: Mutex<Revoked>,
    room: usize,
}

/// Keys that were seen, and the same keys by the time when they may be forgotten.
#[derive(Default)]
struct Seen {
    keys: HashSet<[u8; 32]>,
    expiry: BinaryHeap<Reverse<(Timestamp, [u8; 32])>>,
}

#[derive(Default)]
struct Revoked {
    epoch: Option<u64>,
    entries: BTreeMap<Box<[u8]>, Entry>,
    subscribers: Vec<Subscriber>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { seen: std::array::from_fn(|_| Mutex::default()), revoked: Mutex::default(), room: SEEN }
    }
}

impl Memory {
    /// See [`super::Store::first_seen`].
    pub fn first_seen(&self, key: &[u8; 32], until: Timestamp, now: Timestamp) -> Result<bool, Fault> {
        let [first, ..] = key;
        let shard = usize::from(*first).checked_rem(SHARDS).and_then(|at| self.seen.get(at));
        let Some(shard) = shard else { return Err(Fault::Full) };
        let mut seen = lock(shard);
        seen.forget(now);
        if seen.keys.contains(key) {
            return Ok(false);
        }
        if seen.keys.len() >= self.room {
            return Err(Fault::Full);
        }
        seen.keys.insert(*key);
        seen.expiry.push(Reverse((until, *key)));
        Ok(true)
    }

    /// See [`super::Store::load_all`].
    pub fn load_all(&self, now: Timestamp) -> Revocations {
        let revoked = lock(&self.revoked);
        let live = revoked.entries.values().filter(|entry| entry.expires > now);
        Revocations { epoch: revoked.epoch, entries: live.cloned().collect() }
    }

    /// See [`super::Store::add`].
    pub fn add(&self, entry: Entry, now: Timestamp) -> Result<Option<u64>, Fault> {
        let mut revoked = lock(&self.revoked);
        revoked.insert(entry.clone(), now)?;
        revoked.epoch = revoked.epoch.map(|epoch| epoch.saturating_add(1));
        let epoch = revoked.epoch;
        revoked.tell(&Event::Added(epoch, entry));
        Ok(epoch)
    }

    /// See [`super::Store::seed`].
    pub fn seed(&self, epoch: u64, entries: &[Entry], now: Timestamp) -> Result<u64, Fault> {
        let mut revoked = lock(&self.revoked);
        entries.iter().try_for_each(|entry| revoked.insert(entry.clone(), now))?;
        let epoch = revoked.epoch.map_or(epoch, |old| old.max(epoch));
        revoked.epoch = Some(epoch);
        revoked.tell(&Event::Epoch(Some(epoch)));
        Ok(epoch)
    }

    /// See [`super::Store::epoch`].
    pub fn epoch(&self) -> Option<u64> {
        lock(&self.revoked).epoch
    }

    /// See [`super::Store::subscribe`].
    pub fn subscribe(&self) -> Subscription {
        let (subscriber, subscription) = Subscription::new();
        subscriber.tell(&Event::Resync);
        lock(&self.revoked).subscribers.push(subscriber);
        subscription
    }
}

impl Seen {
    fn forget(&mut self, now: Timestamp) {
        while let Some(Reverse((until, key))) = self.expiry.peek() {
            if *until > now {
                break;
            }
            self.keys.remove(key);
            self.expiry.pop();
        }
    }
}

impl Revoked {
    fn insert(&mut self, entry: Entry, now: Timestamp) -> Result<(), Fault> {
        if self.entries.len() >= REVOKED && !self.entries.contains_key(&entry.key) {
            self.entries.retain(|_, entry| entry.expires > now);
            if self.entries.len() >= REVOKED {
                return Err(Fault::Full);
            }
        }
        self.entries.insert(entry.key.clone(), entry);
        Ok(())
    }

    fn tell(&mut self, event: &Event) {
        self.subscribers.retain(|subscriber| subscriber.tell(event));
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn a_memory_that_is_full_forgets_nothing_that_lives_and_takes_nothing_more() {
        let memory = Memory { room: 2, ..Memory::default() };
        let until = |secs| NOW.plus(Duration::from_secs(secs));
        let key = |last| {
            let mut key = [0; 32];
            key[31] = last;
            key
        };
        assert_eq!(memory.first_seen(&key(1), until(60), NOW), Ok(true));
        assert_eq!(memory.first_seen(&key(2), until(30), NOW), Ok(true));
        assert_eq!(memory.first_seen(&key(3), until(99), NOW), Err(Fault::Full));
        assert_eq!(memory.first_seen(&key(1), until(99), NOW), Ok(false));
        assert_eq!(memory.first_seen(&key(2), until(99), NOW), Ok(false));
        assert_eq!(memory.first_seen(&key(3), until(99), until(30)), Ok(true));
        assert_eq!(memory.first_seen(&key(1), until(99), until(59)), Ok(false));
    }

    #[test]
    fn what_has_expired_takes_no_memory() {
        let memory = Memory::default();
        for second in 0..1_000_u64 {
            let mut key = [0; 32];
            key[24..].copy_from_slice(&second.to_be_bytes());
            let at = NOW.plus(Duration::from_secs(second));
            assert_eq!(memory.first_seen(&key, at.plus(Duration::from_secs(10)), at), Ok(true));
        }
        let seen = lock(&memory.seen[0]);
        assert_eq!((seen.keys.len(), seen.expiry.len()), (10, 10));
    }

    #[test]
    fn revocations_are_bounded_and_those_that_expired_make_room() {
        let memory = Memory::default();
        let entry = |at: usize, secs| Entry {
            key: at.to_be_bytes().into(),
            value: [].into(),
            expires: NOW.plus(Duration::from_secs(secs)),
        };
        for at in 0..REVOKED {
            memory.add(entry(at, if at == 5 { 1 } else { 60 }), NOW).unwrap();
        }
        assert_eq!(memory.add(entry(REVOKED, 60), NOW), Err(Fault::Full));
        assert_eq!(memory.add(entry(7, 90), NOW), Ok(None));
        assert_eq!(memory.add(entry(REVOKED, 60), NOW.plus(Duration::from_secs(1))), Ok(None));
    }
}
