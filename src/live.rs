//! The joint of hot path and background: what is published now, and the questions that the hot path asks.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::{mpsc, oneshot};

use crate::authz::introspection::Introspected;
use crate::authz::issuer::{Issuer, IssuerPolicy, KeyState};
use crate::authz::policy::Policy;
use crate::authz::revocation::Shared;
use crate::authz::snapshot::{NoNews, Question, Snapshot};
use crate::authz::time::Timestamp;

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
        let publisher = Publisher { live: Arc::clone(&live), written: Arc::default() };
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

/// By what an issuer's name is known in the names of files: the beginning of its SHA-256, in hexadecimal digits.
#[must_use]
pub fn mark(name: &str) -> String {
    digest(&SHA256, name.as_bytes()).as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// That an issuer is suspended. It is known by its name, and by its `iss` as well, so that another name in the policy
/// does not end it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspension {
    /// The `iss` of its tokens; `None` where that is not known any more.
    pub iss: Option<Arc<str>>,
    /// Since when; `None` where that is not known any more.
    pub since: Option<Timestamp>,
}

/// Suspensions, by the [`mark`] of the issuer's name.
pub type Suspensions = BTreeMap<String, Suspension>;

/// The one writer of what is published. Its clones write as one.
#[derive(Clone)]
pub struct Publisher {
    live: Arc<Live>,
    written: Arc<Mutex<Written>>,
}

#[derive(Default)]
struct Written {
    version: u64,
    suspended: Suspensions,
}

impl Written {
    fn suspends(&self, issuer: &IssuerPolicy) -> bool {
        self.suspended.iter().any(|(name, suspension)| is_about(name, suspension, issuer))
    }
}

fn is_about(name: &str, suspension: &Suspension, issuer: &IssuerPolicy) -> bool {
    suspension.iss.as_deref() == Some(&*issuer.tokens.issuer) || *name == mark(&issuer.name)
}

impl Publisher {
    /// Suspends these issuers from the first publication on.
    pub fn recall(&self, suspended: Suspensions) {
        self.written().suspended.extend(suspended);
    }

    /// Suspends the issuer of this name: from the next check on nothing that it signed passes. `None` where the policy
    /// has no such issuer, otherwise its suspension, and whether that is new.
    pub fn suspend(&self, name: &str, now: Timestamp) -> Option<(Suspension, bool)> {
        let mut written = self.written();
        let old = self.live.snapshot()?;
        let issuer = old.issuers().iter().find(|issuer| &*issuer.policy().name == name)?;
        let mark = mark(name);
        if let Some(suspension) = written.suspended.get(&mark) {
            return Some((suspension.clone(), false));
        }
        let suspension = Suspension { iss: Some(Arc::clone(&issuer.policy().tokens.issuer)), since: Some(now) };
        written.suspended.insert(mark, suspension.clone());
        self.publish_anew(&mut written, &old);
        Some((suspension, true))
    }

    /// Ends what suspends the issuer of this name, and tells the marks of it. `None` where the policy has no such issuer.
    pub fn resume(&self, name: &str) -> Option<Vec<String>> {
        let mut written = self.written();
        let old = self.live.snapshot()?;
        let issuer = old.issuers().iter().find(|issuer| &*issuer.policy().name == name)?;
        let about = written.suspended.iter().filter(|(name, suspension)| is_about(name, suspension, issuer.policy()));
        let marks: Vec<String> = about.map(|(name, _)| name.clone()).collect();
        if !marks.is_empty() {
            written.suspended.retain(|name, _| !marks.contains(name));
            self.publish_anew(&mut written, &old);
        }
        Some(marks)
    }

    /// What suspends this issuer, if anything does.
    #[must_use]
    pub fn suspension(&self, of: &IssuerPolicy) -> Option<Suspension> {
        let written = self.written();
        written.suspended.iter().find(|(name, found)| is_about(name, found, of)).map(|(_, found)| found.clone())
    }

    fn publish_anew(&self, written: &mut Written, old: &Snapshot) {
        self.publish(written, Arc::clone(old.policy()), old.issuers().iter().map(Arc::clone));
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a policy, with the keys of those issuers that have fixed ones. An issuer that did not change keeps its
    /// keys and what it verified.
    pub fn publish_policy(&self, policy: Arc<Policy>, mut fixed: HashMap<Arc<str>, KeyState>) {
        let mut written = self.written();
        let old = self.live.snapshot();
        let issuers = policy.issuers.iter().map(|wanted| {
            let kept = old.as_ref().and_then(|old| find(old, wanted));
            match (kept, fixed.remove(&wanted.name)) {
                (Some(issuer), None) => Arc::clone(issuer),
                (Some(issuer), Some(state)) => Arc::new(issuer.refreshed(state)),
                (None, state) => Arc::new(Issuer::new(Arc::clone(wanted), state.unwrap_or_default())),
            }
        });
        let issuers: Vec<_> = issuers.collect();
        self.publish(&mut written, policy, issuers.into_iter());
    }

    /// Publishes what a fetch brought. An issuer that the policy has dropped or changed meanwhile is passed over.
    pub fn publish_keys(&self, of: &IssuerPolicy, state: KeyState) {
        let mut written = self.written();
        let Some(old) = self.live.snapshot() else { return };
        let mut state = Some(state);
        let mut renew = |issuer: &Arc<Issuer>| match state.take_if(|_| same(issuer.policy(), of)) {
            Some(state) => Arc::new(issuer.refreshed(state)),
            None => Arc::clone(issuer),
        };
        let issuers: Vec<_> = old.issuers().iter().map(&mut renew).collect();
        self.publish(&mut written, Arc::clone(old.policy()), issuers.into_iter());
    }

    /// Publishes what replicas share of what is revoked.
    pub fn publish_revoked(&self, shared: Arc<Shared>) {
        let mut written = self.written();
        let Some(old) = self.live.snapshot() else { return };
        let issuers = old.issuers().iter().map(Arc::clone);
        self.publish_with(&mut written, Arc::clone(old.policy()), issuers, Some(shared));
    }

    fn publish(&self, written: &mut Written, policy: Arc<Policy>, issuers: impl Iterator<Item = Arc<Issuer>>) {
        let revoked = self.live.snapshot().and_then(|old| old.revoked().map(Arc::clone));
        self.publish_with(written, policy, issuers, revoked);
    }

    /// No issuer is published but as it is suspended, or is not.
    fn publish_with(
        &self,
        written: &mut Written,
        policy: Arc<Policy>,
        issuers: impl Iterator<Item = Arc<Issuer>>,
        revoked: Option<Arc<Shared>>,
    ) {
        written.version = written.version.saturating_add(1);
        let issuers = issuers.map(|issuer| {
            let suspended = written.suspends(issuer.policy());
            if issuer.suspended() == suspended { issuer } else { Arc::new(issuer.with_suspension(suspended)) }
        });
        let snapshot = Snapshot::new(written.version, policy, issuers.collect()).with_revoked(revoked);
        self.live.snapshot.store(Some(Arc::new(snapshot)));
    }
}

fn find<'s>(snapshot: &'s Snapshot, wanted: &IssuerPolicy) -> Option<&'s Arc<Issuer>> {
    snapshot.issuers().iter().find(|issuer| same(issuer.policy(), wanted))
}

fn same(a: &IssuerPolicy, b: &IssuerPolicy) -> bool {
    a.name == b.name && a.digest == b.digest
}
