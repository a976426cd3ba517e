//! The joint of hot path and background: what is published now, and the questions that the hot path asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, oneshot};

use crate::authz::introspection::Introspected;
use crate::authz::issuer::{Issuer, IssuerPolicy, KeyState};
use crate::authz::policy::Policy;
use crate::authz::revocation::Shared;
use crate::authz::snapshot::{NoNews, Question, Snapshot};

/// How many questions may wait for an answer; more are answered [`NoNews::TooSoon`] at once.
const WAITING: usize = 1_024;

/// What the hot path reads, and where it asks.
pub struct Live {
    snapshot: ArcSwapOption<Snapshot>,
    questions: mpsc::Sender<Asked>,
}

/// A question of the hot path, with its snapshot, and where the answer goes.
pub struct Asked {
    /// What is asked.
    pub question: Question,
    /// The issuer that is asked about.
    pub issuer: Arc<Issuer>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Answer>,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A newer snapshot was published.
    News,
    /// It was not.
    NoNews(NoNews),
    /// This is what the issuer says of the token.
    Introspected(Introspected),
}

impl Live {
    /// A joint with nothing published yet, its one writer, and the questions that come out of it.
    #[must_use]
    pub fn new() -> (Arc<Self>, Publisher, mpsc::Receiver<Asked>) {
        let (questions, asked) = mpsc::channel(WAITING);
        let live = Arc::new(Self { snapshot: ArcSwapOption::empty(), questions });
        let publisher = Publisher { live: Arc::clone(&live), version: Mutex::new(0) };
        (live, publisher, asked)
    }

    /// What is published now.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.load_full()
    }

    /// What is published now, borrowed for a moment.
    #[must_use]
    pub fn borrow(&self) -> arc_swap::Guard<Option<Arc<Snapshot>>> {
        self.snapshot.load()
    }

    /// Asks, and waits for the answer. The caller limits how long.
    pub async fn ask(&self, question: Question, issuer: Arc<Issuer>) -> Answer {
        let (reply, answer) = oneshot::channel();
        match self.questions.try_send(Asked { question, issuer, reply }) {
            Ok(()) => answer.await.unwrap_or(Answer::NoNews(NoNews::Unreachable)),
            Err(_) => Answer::NoNews(NoNews::TooSoon),
        }
    }
}

/// The one writer of what is published.
pub struct Publisher {
    live: Arc<Live>,
    version: Mutex<u64>,
}

impl Publisher {
    /// Publishes a policy, with the keys of those issuers that have fixed ones. An issuer that did not change keeps its
    /// keys and what it verified.
    pub fn publish_policy(&self, policy: Arc<Policy>, mut fixed: HashMap<Arc<str>, KeyState>) {
        let mut version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.live.snapshot();
        let issuers = policy.issuers.iter().map(|wanted| {
            let kept = old.as_ref().and_then(|old| find(old, wanted));
            match (kept, fixed.remove(&wanted.name)) {
                (Some(issuer), None) => Arc::clone(issuer),
                (Some(issuer), Some(state)) => Arc::new(issuer.refreshed(state)),
                (None, state) => Arc::new(Issuer::new(Arc::clone(wanted), state.unwrap_or_default())),
            }
        });
        let issuers = issuers.collect();
        self.publish(&mut version, policy, issuers);
    }

    /// Publishes what a fetch brought. An issuer that the policy has dropped or changed meanwhile is passed over.
    pub fn publish_keys(&self, of: &IssuerPolicy, state: KeyState) {
        let mut version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(old) = self.live.snapshot() else { return };
        let mut state = Some(state);
        let mut renew = |issuer: &Arc<Issuer>| match state.take_if(|_| same(issuer.policy(), of)) {
            Some(state) => Arc::new(issuer.refreshed(state)),
            None => Arc::clone(issuer),
        };
        let issuers = old.issuers().iter().map(&mut renew).collect();
        self.publish(&mut version, Arc::clone(old.policy()), issuers);
    }

    /// Publishes what replicas share of what is revoked.
    pub fn publish_revoked(&self, shared: Arc<Shared>) {
        let mut version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(old) = self.live.snapshot() else { return };
        *version = version.saturating_add(1);
        let (policy, issuers) = (Arc::clone(old.policy()), old.issuers().into());
        self.live.snapshot.store(Some(Arc::new(Snapshot::new(*version, policy, issuers).with_revoked(Some(shared)))));
    }

    fn publish(&self, version: &mut u64, policy: Arc<Policy>, issuers: Box<[Arc<Issuer>]>) {
        *version = version.saturating_add(1);
        let revoked = self.live.snapshot().and_then(|old| old.revoked().map(Arc::clone));
        let snapshot = Snapshot::new(*version, policy, issuers).with_revoked(revoked);
        self.live.snapshot.store(Some(Arc::new(snapshot)));
    }
}

fn find<'s>(snapshot: &'s Snapshot, wanted: &IssuerPolicy) -> Option<&'s Arc<Issuer>> {
    snapshot.issuers().iter().find(|issuer| same(issuer.policy(), wanted))
}

fn same(a: &IssuerPolicy, b: &IssuerPolicy) -> bool {
    a.name == b.name && a.digest == b.digest
}
