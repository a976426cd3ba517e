//! The store in a Redis or Valkey: what each operation says to it. Every one ends within the deadline.

mod circuit;
mod connection;
mod dial;
mod ear;
pub mod entry;
pub mod resp;
mod scripts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::fault::{Fault, Unavailable};
use super::memory::REVOKED;
use super::subscription::Subscription;
use super::{Entry, Revocations};
use crate::authz::time::Timestamp;
use circuit::Circuit;
use connection::Job;
use dial::Dial;
pub use dial::{Account, Address, Roots, TrustFault};
use resp::{Reply, encode};

/// How many operations may wait to be written.
const WAITING: usize = 1_024;
/// The longest reply to most commands, in bytes.
const SHORT: usize = 8 * 1_024;
/// The longest page of a scan: of entries of the greatest length, several times what is asked for.
const PAGE: usize = 8 * 1_024 * 1_024;
/// How many entries a page is asked to hold, and how many are put together.
const TOGETHER: usize = 100;
/// How long after it expired an entry is dropped, so that a clock that is ahead drops none that others still hold to.
const MARGIN: Duration = Duration::from_secs(3_600);

/// Which Redis, and how it is used.
pub struct Settings {
    /// Where it is.
    pub address: Address,
    /// Whose certificate is believed; `None` without TLS.
    pub roots: Option<Roots>,
    /// As whom.
    pub account: Account,
    /// How long an operation may take.
    pub deadline: Duration,
    /// What every key begins with.
    pub prefix: Box<str>,
}

/// A Redis, connected to in the background.
pub struct Redis {
    jobs: mpsc::Sender<Job>,
    circuit: Arc<Circuit>,
    dial: Arc<Dial>,
    background: Handle,
    deadline: Duration,
    keys: Keys,
}

struct Keys {
    seen: String,
    entries: String,
    expiry: String,
    epoch: String,
    channel: String,
}

impl Redis {
    /// Starts to connect, on the runtime that this is called on.
    ///
    /// # Errors
    /// Where its certificate could never be checked.
    pub fn start(settings: &Settings) -> Result<Self, TrustFault> {
        let dial = Arc::new(Dial::new(settings.address.clone(), settings.roots.as_ref(), &settings.account)?);
        let (jobs, asked) = mpsc::channel(WAITING);
        let circuit = Arc::<Circuit>::default();
        let background = Handle::current();
        background.spawn(connection::run(Arc::clone(&dial), asked, Arc::clone(&circuit)));
        let key = |name: &str| format!("{}{name}", settings.prefix);
        let keys = Keys {
            seen: key("seen:"),
            entries: key("revocations"),
            expiry: key("revocations:expiry"),
            epoch: key("revocations:epoch"),
            channel: key("revocations:added"),
        };
        Ok(Self { jobs, circuit, dial, background, deadline: settings.deadline, keys })
    }

    /// See [`super::Store::first_seen`]. The one operation that requests wait for: so the circuit is before it.
    pub async fn first_seen(&self, key: &[u8; 32], until: Timestamp, now: Timestamp) -> Result<bool, Fault> {
        let leave = self.circuit.ask(Instant::now()).ok_or(Fault::CircuitOpen)?;
        let key = format!("{}{}", self.keys.seen, URL_SAFE_NO_PAD.encode(key));
        let lives = until.since(now).as_millis().max(1).to_string();
        let set: [&[u8]; 6] = [b"SET", key.as_bytes(), b"1", b"NX", b"PX", lives.as_bytes()];
        let seen = self.ask(&set, SHORT).await.and_then(|reply| match reply {
            Reply::Status(_) => Ok(true),
            Reply::Nil => Ok(false),
            _ => Err(Fault::Garbled),
        });
        match seen {
            Ok(_) => self.circuit.succeeded(),
            Err(_) => self.circuit.failed(leave, Instant::now()),
        }
        seen
    }

    /// See [`super::Store::load_all`]. The epoch is read first: entries that come meanwhile may be among the loaded.
    pub async fn load_all(&self, now: Timestamp) -> Result<Revocations, Fault> {
        let epoch = self.epoch().await?;
        let mut entries = BTreeMap::new();
        let (mut cursor, count) = (b"0".to_vec(), TOGETHER.to_string());
        loop {
            let scan: [&[u8]; 5] = [b"HSCAN", self.keys.entries.as_bytes(), &cursor, b"COUNT", count.as_bytes()];
            let (next, page) = entry::page(self.ask(&scan, PAGE).await?)?;
            entries.extend(page.into_iter().map(|entry| (entry.key.clone(), entry)));
            if entries.len() > REVOKED {
                return Err(Fault::Oversize);
            }
            if next == b"0" {
                break;
            }
            cursor = next;
        }
        let entries = entries.into_values().filter(|entry| entry.expires > now).collect();
        Ok(Revocations { epoch, entries })
    }

    /// See [`super::Store::add`].
    pub async fn add(&self, entry: &Entry, now: Timestamp) -> Result<Option<u64>, Fault> {
        let script = [scripts::PUT, scripts::COUNT].concat();
        let keys = [&*self.keys.entries, &self.keys.expiry, &self.keys.epoch];
        match self.put(&script, &keys, std::slice::from_ref(entry), now).await? {
            Reply::Bytes(epoch) if epoch.is_empty() => Ok(None),
            Reply::Bytes(epoch) => entry::epoch(&epoch).map(Some),
            _ => Err(Fault::Garbled),
        }
    }

    /// See [`super::Store::seed`]. The epoch is raised last: nobody sees it while entries are missing.
    pub async fn seed(&self, epoch: u64, entries: &[Entry], now: Timestamp) -> Result<u64, Fault> {
        for together in entries.chunks(TOGETHER) {
            self.put(scripts::PUT, &[&self.keys.entries, &self.keys.expiry], together, now).await?;
        }
        let (epoch, key, channel) = (epoch.to_string(), self.keys.epoch.as_bytes(), self.keys.channel.as_bytes());
        match self.ask(&[b"EVAL", scripts::RAISE.as_bytes(), b"1", key, epoch.as_bytes(), channel], SHORT).await? {
            Reply::Bytes(epoch) => entry::epoch(&epoch),
            _ => Err(Fault::Garbled),
        }
    }

    async fn put(&self, script: &str, keys: &[&str], entries: &[Entry], now: Timestamp) -> Result<Reply, Fault> {
        let count = keys.len().to_string();
        let margin = i64::try_from(MARGIN.as_millis()).unwrap_or(i64::MAX);
        let gone = now.as_millis().saturating_sub(margin).to_string();
        let room = REVOKED.to_string();
        let stored: Vec<(String, Vec<u8>)> =
            entries.iter().map(|entry| (entry.expires.as_millis().to_string(), entry::encode(entry))).collect();
        let mut words: Vec<&[u8]> = vec![b"EVAL", script.as_bytes(), count.as_bytes()];
        words.extend(keys.iter().map(|key| key.as_bytes()));
        words.extend([gone.as_bytes(), room.as_bytes(), self.keys.channel.as_bytes()]);
        for (entry, (expires, stored)) in entries.iter().zip(&stored) {
            words.extend([&entry.key, expires.as_bytes(), stored]);
        }
        self.ask(&words, SHORT).await
    }

    /// See [`super::Store::epoch`].
    pub async fn epoch(&self) -> Result<Option<u64>, Fault> {
        match self.ask(&[b"GET", self.keys.epoch.as_bytes()], SHORT).await? {
            Reply::Bytes(epoch) => entry::epoch(&epoch).map(Some),
            Reply::Nil => Ok(None),
            _ => Err(Fault::Garbled),
        }
    }

    /// See [`super::Store::subscribe`].
    pub fn subscribe(self: &Arc<Self>) -> Subscription {
        let (subscriber, subscription) = Subscription::new();
        self.background.spawn(ear::listen(Arc::clone(self), subscriber));
        subscription
    }

    /// Whether most operations are refused at once.
    pub fn circuit_is_open(&self) -> bool {
        self.circuit.is_open()
    }

    /// Says something, and waits for the reply until the deadline.
    async fn ask(&self, words: &[&[u8]], limit: usize) -> Result<Reply, Fault> {
        let mut command = Vec::new();
        encode(&mut command, words);
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job { command, limit, reply }).map_err(|_| Fault::Busy)?;
        match timeout(self.deadline, answer).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Err(Fault::Unreachable),
            Err(_) => Err(Fault::Deadline),
        }
    }
}

/// An operation's fault, as callers are told.
impl From<Fault> for Unavailable {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}
