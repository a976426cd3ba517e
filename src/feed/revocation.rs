//! What replicas share of what is revoked: heard from the store, published with the snapshot, and added to.
//!
//! The store counts what is ever added in an epoch. Where that is missing, or lower than it was, the store has forgotten
//! something: then it is not known what is revoked until a replica that remembers has told the store again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::authz::revocation::{Revocation, Revocations, Revoked, Shared};
use crate::authz::time::Timestamp;
use crate::clock::now;
use crate::live::Publisher;
use crate::store::{Entry, Event, Revocations as Loaded, Store, Unavailable};

/// For how long what is known still counts after the store was lost: what is revoked takes effect within a second.
const GRACE: Duration = Duration::from_secs(1);
/// How long a replica that knows nothing waits for one that does, before it takes an empty store for a new one.
const OTHERS: Duration = Duration::from_secs(2);
/// What expires so soon may be gone from the store already, by its own clock.
const FORGOTTEN_SOON: Duration = Duration::from_secs(60);
/// How long what a key signed stays revoked where nothing else is said: whoever has it signs new tokens at any time.
const KEEP_KEYS: Duration = Duration::from_secs(3_650 * 86_400);
/// The pauses between attempts to read or to tell the store.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How many revocations are published beside the others, before one list is made of them all.
const RECENT: usize = 1_024;
/// How often what has expired is forgotten.
const SWEEP: Duration = Duration::from_secs(600);
/// How many revocations are known at most; more of them are an attack, or a mistake.
const MOST: usize = 1_000_000;
/// How many additions wait.
const WAITING: usize = 64;

/// How it stands with what replicas share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevocationStatus {
    /// Whether it is known what is revoked.
    pub known: bool,
    /// What was last known of the epoch.
    pub epoch: Option<u64>,
    /// How many revocations are known.
    pub entries: usize,
    /// How often this replica told the store what it had forgotten.
    pub seeds: u64,
    /// How many entries of the store could not be read.
    pub unreadable: u64,
}

/// Why nothing was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrevoked {
    /// It may not be in the store.
    #[error("the store cannot be asked: {0}")]
    Store(Unavailable),
    /// There are too many already.
    #[error("there are too many revocations")]
    Full,
    /// The feed has ended.
    #[error("portcullis is ending")]
    Ended,
}

/// A handle of the feed. It ends when the last one is dropped.
#[derive(Clone)]
pub struct Revoker {
    additions: mpsc::Sender<Addition>,
    status: watch::Receiver<RevocationStatus>,
}

struct Addition {
    revocation: Revocation,
    /// How long it is remembered where it does not say.
    keep: Duration,
    reply: oneshot::Sender<Result<Timestamp, Unrevoked>>,
}

impl Revoker {
    /// Starts the feed on the runtime of the caller.
    #[must_use]
    pub fn start(store: Store, publisher: Publisher) -> Self {
        let (additions, added) = mpsc::channel(WAITING);
        let (told, status) = watch::channel(RevocationStatus::default());
        let known = Known { store, publisher, entries: HashMap::new(), shared: Shared::default(), epoch: None, told };
        tokio::spawn(known.run(added));
        Self { additions, status }
    }

    /// Revokes, on every replica, and here at once. Returns when it may be forgotten.
    ///
    /// # Errors
    /// Where it is not sure to be in the store.
    pub async fn revoke(&self, revocation: Revocation, keep: Duration) -> Result<Timestamp, Unrevoked> {
        let (reply, outcome) = oneshot::channel();
        let addition = Addition { revocation, keep, reply };
        self.additions.send(addition).await.map_err(|_| Unrevoked::Ended)?;
        outcome.await.unwrap_or(Err(Unrevoked::Ended))
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<RevocationStatus> {
        self.status.clone()
    }
}

/// Everything that this replica knows, owned by one task.
struct Known {
    store: Store,
    publisher: Publisher,
    entries: HashMap<Box<[u8]>, Entry>,
    shared: Shared,
    epoch: Option<u64>,
    told: watch::Sender<RevocationStatus>,
}

impl Known {
    async fn run(mut self, mut additions: mpsc::Receiver<Addition>) {
        let mut events = self.store.subscribe();
        // When what is known counts no more, and when the store is read: never where there is nothing to wait for.
        let (mut lost, mut load, mut pause) = (None, None, FIRST_PAUSE);
        let began = Instant::now();
        let mut sweep = later(began, SWEEP);
        loop {
            tokio::select! {
                addition = additions.recv() => match addition {
                    Some(addition) => self.add(addition).await,
                    None => return,
                },
                event = events.next() => match event {
                    Some(Event::Lost) => lost = lost.or(Some(later(Instant::now(), GRACE))),
                    Some(Event::Resync) => load = Some(Instant::now()),
                    Some(event) => if !self.hear(event) {
                        load = load.or(Some(Instant::now()));
                    },
                    None => return,
                },
                () = until(load) => {
                    if self.load(began.elapsed() >= OTHERS).await {
                        (load, lost, pause) = (None, None, FIRST_PAUSE);
                    } else {
                        load = Some(later(Instant::now(), pause));
                        lost = lost.or(Some(later(Instant::now(), GRACE)));
                        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
                    }
                }
                () = until(lost) => {
                    lost = None;
                    self.forget_to_know();
                }
                () = sleep_until(sweep) => {
                    sweep = later(Instant::now(), SWEEP);
                    if self.sweep() && !self.shared.known {
                        // What could not be read may have been what expired.
                        load = load.or(Some(Instant::now()));
                    }
                }
            }
        }
    }

    /// Takes in what an event tells. Whether all is known then; otherwise the store is to be read.
    fn hear(&mut self, event: Event) -> bool {
        match event {
            Event::Added(epoch, entry) => {
                let next = self.epoch.map(|mine| mine.saturating_add(1));
                let is_old = epoch.zip(self.epoch).is_some_and(|(epoch, mine)| epoch <= mine);
                if is_old && self.entries.get(&entry.key).is_some_and(|known| known.value == entry.value) {
                    // Added by this replica, or loaded with everything else.
                    return true;
                }
                if !self.take(entry) {
                    return false;
                }
                match (epoch, self.epoch) {
                    (Some(epoch), Some(_)) if Some(epoch) == next => self.epoch = Some(epoch),
                    // Known already, since everything was loaded after it was added.
                    (Some(epoch), Some(mine)) if epoch <= mine => {}
                    (Some(_) | None, _) => return false,
                }
                self.publish(self.shared.known);
                true
            }
            Event::Epoch(epoch) if epoch == self.epoch && epoch.is_some() => true,
            Event::Epoch(_) | Event::Resync => false,
            Event::Lost => true,
        }
    }

    /// Reads the store, and tells it what it has forgotten. Whether that was done.
    async fn load(&mut self, alone: bool) -> bool {
        let Ok(loaded) = self.store.load_all(now()).await else { return false };
        let forgot = self.forgot(&loaded);
        for entry in loaded.entries {
            self.keep(entry);
        }
        let mut epoch = loaded.epoch;
        if forgot {
            self.forget_to_know();
            if self.epoch.is_none() && !alone {
                return false;
            }
            epoch = self.seed(loaded.epoch).await;
        }
        let Some(epoch) = epoch else { return false };
        self.epoch = Some(epoch);
        self.rebuild();
        self.publish(self.readable());
        true
    }

    /// Whether the store lacks what it had: by its epoch, or since another replica told it what that one knew.
    fn forgot(&self, loaded: &Loaded) -> bool {
        let behind = match (loaded.epoch, self.epoch) {
            (Some(theirs), Some(mine)) => theirs < mine,
            (Some(_), None) => false,
            (None, _) => true,
        };
        let theirs: HashSet<&[u8]> = loaded.entries.iter().map(|entry| &*entry.key).collect();
        let soon = now().plus(FORGOTTEN_SOON);
        behind || self.entries.values().any(|entry| soon < entry.expires && !theirs.contains(&*entry.key))
    }

    /// Tells the store what it has forgotten. What it added meanwhile counts on from there.
    async fn seed(&mut self, theirs: Option<u64>) -> Option<u64> {
        match (self.epoch, theirs) {
            (None, _) => tracing::warn!(
                "the store has no epoch of revocations: it is taken for a new one; what was revoked in it before, if \
                 anything was, is forgotten"
            ),
            (Some(mine), theirs) => tracing::warn!(
                mine,
                theirs,
                entries = self.entries.len(),
                "the store has forgotten revocations; it is told them again"
            ),
        }
        let entries: Vec<Entry> = self.entries.values().cloned().collect();
        // Higher than what any replica remembers, so that each of them reads what the others told.
        let epoch = self.epoch.unwrap_or_default().saturating_add(1);
        let seeded = self.store.seed(epoch, &entries, now()).await.ok()?;
        self.told.send_modify(|status| status.seeds = status.seeds.saturating_add(1));
        Some(seeded)
    }

    async fn add(&mut self, Addition { revocation, keep, reply }: Addition) {
        let outcome = self.added(revocation, keep).await;
        // Who asked may have given up.
        let _ = reply.send(outcome);
    }

    async fn added(&mut self, revocation: Revocation, keep: Duration) -> Result<Timestamp, Unrevoked> {
        if self.entries.len() >= MOST {
            return Err(Unrevoked::Full);
        }
        let now = now();
        let keep = if matches!(revocation.of, Revoked::Key(_)) { KEEP_KEYS } else { keep };
        let until = revocation.until.unwrap_or_else(|| now.plus(keep));
        let mut revocation = Revocation { until: Some(until), ..revocation };
        let key = revocation.key();
        // The store keeps one entry of each key: it must hold for all that the one before did.
        if let Some(known) = self.entries.get(&*key).and_then(|entry| Revocation::decode(&entry.value)) {
            revocation = revocation.and(&known);
        }
        let until = revocation.until.unwrap_or(until);
        let entry = Entry { key, value: revocation.encode(), expires: until };
        let epoch = self.store.add(entry.clone(), now).await.map_err(Unrevoked::Store)?;
        self.take(entry);
        if epoch.is_some() && epoch == self.epoch.map(|mine| mine.saturating_add(1)) {
            self.epoch = epoch;
        }
        self.publish(self.shared.known);
        Ok(until)
    }

    /// Takes an entry into what is published next. Whether it could be read.
    fn take(&mut self, entry: Entry) -> bool {
        let revocation = Revocation::decode(&entry.value);
        self.keep(entry);
        let Some(revocation) = revocation else { return false };
        Arc::make_mut(&mut self.shared.recent).add(revocation);
        if self.shared.recent.len() > RECENT {
            self.rebuild();
        }
        true
    }

    fn keep(&mut self, entry: Entry) {
        if self.entries.len() < MOST {
            self.entries.insert(entry.key.clone(), entry);
        } else {
            tracing::error!(most = MOST, "there are more revocations than can be known");
        }
    }

    /// One list of everything.
    fn rebuild(&mut self) {
        let mut base = Revocations::default();
        self.entries.values().filter_map(|entry| Revocation::decode(&entry.value)).for_each(|one| base.add(one));
        self.shared.base = Arc::new(base);
        self.shared.recent = Arc::default();
    }

    /// Whether every entry can be read: what cannot might revoke anyone.
    fn readable(&self) -> bool {
        let unreadable = self.entries.values().filter(|entry| Revocation::decode(&entry.value).is_none()).count();
        if unreadable > 0 {
            tracing::error!(
                unreadable,
                "the store has revocations that cannot be read: it is not known what they revoke"
            );
        }
        let count = u64::try_from(unreadable).unwrap_or(u64::MAX);
        self.told.send_modify(|status| status.unreadable = count);
        unreadable == 0 && self.entries.len() < MOST
    }

    fn forget_to_know(&mut self) {
        if self.shared.known {
            tracing::warn!("it is not known any more what is revoked");
        }
        self.publish(false);
    }

    fn publish(&mut self, known: bool) {
        if known && !self.shared.known {
            tracing::info!(entries = self.entries.len(), epoch = self.epoch, "it is known what is revoked");
        }
        self.shared.known = known;
        self.publisher.publish_revoked(Arc::new(self.shared.clone()));
        let (epoch, entries) = (self.epoch, self.entries.len());
        self.told.send_modify(|status| (status.known, status.epoch, status.entries) = (known, epoch, entries));
    }

    /// Forgets what has expired; whether anything had.
    fn sweep(&mut self) -> bool {
        let now = now();
        let before = self.entries.len();
        self.entries.retain(|_, entry| now < entry.expires);
        if self.entries.len() < before {
            self.rebuild();
            self.publish(self.shared.known);
        }
        self.entries.len() < before
    }
}

fn later(now: Instant, by: Duration) -> Instant {
    now.checked_add(by).unwrap_or(now)
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::compile;
    use crate::live::Live;

    const POLICY: &str = "
issuers: {main: {url: https://id.example.com, audience: shop}}
store: redis://127.0.0.1:6379
revocation: {store: true}
routes: {/a: signed-in}
";

    struct Replica {
        live: Arc<Live>,
        revoker: Revoker,
    }

    impl Replica {
        fn start(store: &Store) -> Self {
            let (live, publisher, _) = Live::new();
            let policy = compile("p.yaml", POLICY, &|_| Err(std::io::ErrorKind::NotFound.into())).0.unwrap().policy;
            publisher.publish_policy(policy, HashMap::new());
            Self { live, revoker: Revoker::start(store.clone(), publisher) }
        }

        async fn until(&self, holds: impl FnMut(&RevocationStatus) -> bool) -> RevocationStatus {
            *self.revoker.status().wait_for(holds).await.unwrap()
        }

        fn listed(&self) -> Vec<String> {
            let snapshot = self.live.snapshot().unwrap();
            let shared = snapshot.revoked().unwrap();
            let mut listed: Vec<String> =
                shared.base.iter().chain(shared.recent.iter()).map(|one| one.to_string()).collect();
            listed.sort();
            listed
        }
    }

    fn token(id: &str) -> Revocation {
        Revocation { issuer: "main".into(), of: Revoked::Token(id.into()), until: None }
    }

    const DAY: Duration = Duration::from_secs(86_400);

    #[tokio::test]
    async fn a_new_store_is_unknown_until_it_is_told_that_it_is_new() {
        let store = Store::memory();
        let began = Instant::now();
        let one = Replica::start(&store);
        assert!(!one.revoker.status().borrow().known);
        let status = one.until(|status| status.known).await;
        assert!(began.elapsed() >= OTHERS);
        assert_eq!((status.epoch, status.entries, status.seeds), (Some(1), 0, 1));
        assert!(one.live.snapshot().unwrap().revoked().unwrap().known);
    }

    #[tokio::test]
    async fn what_one_replica_revokes_the_other_one_knows_and_so_does_a_third_that_comes_later() {
        let store = Store::memory();
        let (one, two) = (Replica::start(&store), Replica::start(&store));
        one.until(|status| status.known).await;
        two.until(|status| status.known).await;
        one.revoker.revoke(token("t1"), DAY).await.unwrap();
        assert_eq!(one.listed(), ["token t1 of main"]);
        two.until(|status| status.entries == 1).await;
        assert_eq!(two.listed(), ["token t1 of main"]);
        two.revoker.revoke(token("t2"), DAY).await.unwrap();
        one.until(|status| status.entries == 2).await;
        assert!(one.revoker.status().borrow().known && two.revoker.status().borrow().known);
        let three = Replica::start(&store);
        three.until(|status| status.known && status.entries == 2).await;
        assert_eq!(three.listed(), one.listed());
        assert_eq!(three.revoker.status().borrow().seeds, 0);
    }

    #[tokio::test]
    async fn a_revocation_is_never_made_shorter_nor_earlier() {
        let one = Replica::start(&Store::memory());
        one.until(|status| status.known).await;
        let at = |secs: i64| Timestamp::from_secs(4_000_000_000_i64.saturating_add(secs));
        let subject = |before: i64, until: i64| Revocation {
            issuer: "main".into(),
            of: Revoked::Subject("u".into(), Some(at(before))),
            until: Some(at(until)),
        };
        assert_eq!(one.revoker.revoke(subject(5, 100), DAY).await, Ok(at(100)));
        assert_eq!(one.revoker.revoke(subject(3, 50), DAY).await, Ok(at(100)));
        assert_eq!(one.revoker.revoke(subject(9, 70), DAY).await, Ok(at(100)));
        assert_eq!(one.revoker.status().borrow().entries, 1);
        let wanted = format!("main/u issued before {}", at(9));
        assert!(one.listed().contains(&wanted), "{:?}", one.listed());
    }

    #[tokio::test]
    async fn what_a_key_signed_stays_revoked_for_years() {
        let one = Replica::start(&Store::memory());
        one.until(|status| status.known).await;
        let key = Revocation { issuer: "main".into(), of: Revoked::Key("k".into()), until: None };
        let until = one.revoker.revoke(key, DAY).await.unwrap();
        assert!(until.since(now()) > DAY * 3_000);
        let until = one.revoker.revoke(token("t"), DAY).await.unwrap();
        assert!(until.since(now()) <= DAY);
    }

    #[tokio::test]
    async fn an_entry_that_cannot_be_read_closes() {
        let store = Store::memory();
        let one = Replica::start(&store);
        one.until(|status| status.known).await;
        let entry = Entry { key: (*b"k").into(), value: (*b"{}").into(), expires: now().plus(DAY) };
        store.add(entry, now()).await.unwrap();
        let two = Replica::start(&store);
        two.until(|status| status.unreadable == 1).await;
        assert!(!two.revoker.status().borrow().known);
        one.until(|status| !status.known).await;
    }

    #[tokio::test]
    async fn many_recent_revocations_become_one_list() {
        let one = Replica::start(&Store::memory());
        one.until(|status| status.known).await;
        for id in 0..=RECENT {
            one.revoker.revoke(token(&id.to_string()), DAY).await.unwrap();
        }
        let snapshot = one.live.snapshot().unwrap();
        let shared = snapshot.revoked().unwrap();
        assert_eq!((shared.base.len(), shared.recent.len()), (RECENT + 1, 0));
    }
}
