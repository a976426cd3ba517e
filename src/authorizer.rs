//! The async shell round the core: the only caller of `decide` on the hot path.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::authz::asserted::{Evaluated, Evaluation};
use crate::authz::decision::{Basis, Decision};
use crate::authz::decision_id::{DecisionId, SealingKey, Told};
use crate::authz::gateways::Dialect;
use crate::authz::introspection::{Introspected, OpaqueToken};
use crate::authz::issuer::IssuerId;
use crate::authz::proof::{Once, Sighting};
use crate::authz::reason::Reason;
use crate::authz::request::{Asker, Malformed, Proof, Raw};
use crate::authz::snapshot::{Facts, NoNews, Question, Snapshot, Step};
use crate::authz::time::Timestamp;
use crate::clock::Time;
use crate::live::{Answer, Live};
use crate::observe::{Observed, Recorder};
use crate::store::Store;

/// How long a check may wait for a fact when the gateway names no deadline (Envoy's own default).
const PATIENCE: Duration = Duration::from_millis(200);
/// What is left of a deadline for the answer's way back.
const WAY_BACK: Duration = Duration::from_millis(20);
/// How many times one check may decide anew because something newer was published, or something was asked.
const ROUNDS: u8 = 4;

/// Answers checks. One a core: it shares nothing that is written on the hot path.
pub struct Authorizer {
    live: Arc<Live>,
    recorder: Recorder,
    sealer: Sealer,
    time: Time,
    store: Store,
}

/// A decision and its id.
pub struct Answered {
    /// The decision.
    pub decision: Decision,
    /// Its id.
    pub id: Option<DecisionId>,
}

/// Seals decision ids with nonces of its own: they count from a random number of 96 bits, so that those of two cores, or
/// of one before and after a restart, do not meet.
pub struct Sealer {
    key: Arc<SealingKey>,
    replica: u32,
    prefix: [u8; 4],
    count: AtomicU64,
}

impl Sealer {
    /// A sealer for one core.
    #[must_use]
    pub fn new(key: Arc<SealingKey>, replica: u32) -> Self {
        Self { key, replica, prefix: random(), count: AtomicU64::new(u64::from_be_bytes(random())) }
    }

    fn seal(&self, basis: &Basis, snapshot: Option<&Snapshot>, at: Timestamp) -> Option<DecisionId> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let mut nonce = [0; 12];
        nonce.iter_mut().zip(self.prefix.into_iter().chain(count.to_be_bytes())).for_each(|(to, from)| *to = from);
        let policy = snapshot.map(|snapshot| snapshot.policy().id).unwrap_or_default();
        self.key.seal(nonce, &Told::of(basis, policy, self.replica, at))
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The system's generator does not fail once it is seeded; were it to, ids would repeat, decisions would not change.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes
}

impl Authorizer {
    /// An authorizer for one core.
    #[must_use]
    pub fn new(live: Arc<Live>, recorder: Recorder, sealer: Sealer, store: Store) -> Self {
        Self { live, recorder, sealer, time: Time::Real, store }
    }

    /// The same by another clock.
    #[must_use]
    pub fn by(self, time: Time) -> Self {
        Self { time, ..self }
    }

    /// May this request pass, and as whom? `deadline` is what the gateway grants for the whole check.
    ///
    /// Always an answer, never an error: a gateway told to fail open would read an error as an allow.
    pub async fn check(&self, asked: Result<Raw<'_>, Malformed>, deadline: Option<Duration>) -> Answered {
        let began = Instant::now();
        let patience = deadline.map_or(PATIENCE, |deadline| deadline.min(PATIENCE)).saturating_sub(WAY_BACK);
        let (mut facts, mut unanswered) = (Facts::default(), Reason::KeysUnavailable);
        for _ in 0..ROUNDS {
            match self.attempt(&asked, &facts, began) {
                Attempt::Answered(answered) => return answered,
                Attempt::Needs(question, snapshot) => {
                    unanswered = match &question {
                        Question::Keys(_) | Question::Key(..) | Question::Unseen(_) => Reason::KeysUnavailable,
                        Question::Introspect(..) => Reason::IntrospectionUnavailable,
                    };
                    let left = patience.saturating_sub(began.elapsed());
                    self.learn(question, &mut facts, &snapshot, left).await;
                }
            }
        }
        self.answer(None, &asked, Decision::denied(unanswered), self.time.now(), began)
    }

    /// One call of the core. A panic in it is a denial.
    fn attempt(&self, asked: &Result<Raw<'_>, Malformed>, facts: &Facts, began: Instant) -> Attempt {
        let now = self.time.now();
        let guard = self.live.borrow();
        let Some(snapshot) = guard.as_ref() else {
            return Attempt::Answered(self.answer(None, asked, Decision::denied(Reason::NotReady), now, began));
        };
        let step = catch_unwind(AssertUnwindSafe(|| {
            let request = asked.as_ref().map_err(|malformed| *malformed).and_then(|raw| snapshot.read(raw));
            snapshot.decide(request.as_ref().map_err(|malformed| *malformed), facts, now)
        }));
        let decision = match step {
            Ok(Step::Needs(question)) => return Attempt::Needs(question, Arc::clone(snapshot)),
            Ok(Step::Decided(decision)) => decision,
            Err(_) => Decision::denied(Reason::InternalError),
        };
        Attempt::Answered(self.answer(Some(snapshot), asked, decision, now, began))
    }

    /// Asks the outside, for as long as there is time, and notes what it tells.
    async fn learn(&self, question: Question, facts: &mut Facts, snapshot: &Snapshot, left: Duration) {
        match question {
            Question::Keys(id) | Question::Key(id, _) => {
                facts.keys = self.ask_keys(question, id, snapshot, left).await.map(|no_news| (id, no_news));
            }
            Question::Introspect(id, token) => {
                facts.introspected = Some(self.introspect(id, token, snapshot, left).await);
            }
            Question::Unseen(once) => facts.unseen = Some((once, self.sight(&once, left).await)),
        }
    }

    /// Asks the store. Its memory answers at once; a store elsewhere has its own deadline too.
    async fn sight(&self, once: &Once, left: Duration) -> Sighting {
        match tokio::time::timeout(left, self.store.first_seen(&once.key, once.until, self.time.now())).await {
            Ok(Ok(true)) => Sighting::First,
            Ok(Ok(false)) => Sighting::Again,
            Ok(Err(_)) | Err(_) => Sighting::Unknown,
        }
    }

    /// Asks for newer keys; `None` where a newer snapshot has come.
    async fn ask_keys(&self, question: Question, id: IssuerId, snapshot: &Snapshot, left: Duration) -> Option<NoNews> {
        let Some(issuer) = snapshot.issuers().get(usize::from(id.0)) else { return Some(NoNews::Unreachable) };
        match tokio::time::timeout(left, self.live.ask(question, Arc::clone(issuer))).await {
            Ok(Answer::News) => None,
            Ok(Answer::NoNews(no_news)) => Some(no_news),
            Ok(Answer::Introspected(_)) | Err(_) => Some(NoNews::Unreachable),
        }
    }

    /// Asks the issuer about a token. Where that takes too long, the ask goes on for whoever comes next.
    async fn introspect(
        &self,
        id: IssuerId,
        token: Arc<OpaqueToken>,
        snapshot: &Snapshot,
        left: Duration,
    ) -> Introspected {
        let unavailable = Introspected::unavailable(&token);
        let Some(issuer) = snapshot.issuers().get(usize::from(id.0)) else { return unavailable };
        let answer = self.live.ask(Question::Introspect(id, token), Arc::clone(issuer));
        match tokio::time::timeout(left, answer).await {
            Ok(Answer::Introspected(told)) => told,
            Ok(Answer::News | Answer::NoNews(_)) | Err(_) => unavailable,
        }
    }

    fn answer(
        &self,
        snapshot: Option<&Arc<Snapshot>>,
        asked: &Result<Raw<'_>, Malformed>,
        decision: Decision,
        at: Timestamp,
        began: Instant,
    ) -> Answered {
        let id = self.record(snapshot, asked.as_ref().ok(), decision.basis(), at, began);
        Answered { decision, id }
    }

    /// Records what was decided, under an id of its own.
    fn record(
        &self,
        snapshot: Option<&Arc<Snapshot>>,
        request: Option<&Raw<'_>>,
        basis: &Basis,
        at: Timestamp,
        began: Instant,
    ) -> Option<DecisionId> {
        let id = self.sealer.seal(basis, snapshot.map(|snapshot| &**snapshot), at);
        let policy = snapshot.map(|snapshot| snapshot.policy());
        self.recorder.record(&Observed { policy, request, basis, id, at, elapsed: began.elapsed() });
        id
    }

    /// Whether anybody may ask about subjects that nobody has proven.
    #[must_use]
    pub fn has_pdp_clients(&self) -> bool {
        self.live.borrow().as_ref().is_some_and(|snapshot| !snapshot.policy().pdp_clients.is_empty())
    }

    /// Who evaluates for this client, by one snapshot.
    ///
    /// # Errors
    /// Where nobody may ask, or who asks may not.
    pub fn evaluator(&self, asker: Asker, proof: &Proof<'_>) -> Result<Evaluator<'_>, NoEvaluator> {
        let snapshot = self.live.snapshot().ok_or(NoEvaluator::Off)?;
        let clients = &snapshot.policy().pdp_clients;
        if clients.is_empty() {
            return Err(NoEvaluator::Off);
        }
        let client = clients.iter().position(|client| client.is(asker, proof)).ok_or(NoEvaluator::Stranger)?;
        Ok(Evaluator { authorizer: self, snapshot, client })
    }
}

/// Why nothing is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEvaluator {
    /// The policy names nobody who may ask.
    Off,
    /// Who asks is not among those.
    Stranger,
}

/// Evaluates what a policy decision client asks.
pub struct Evaluator<'a> {
    authorizer: &'a Authorizer,
    snapshot: Arc<Snapshot>,
    client: usize,
}

impl Evaluator<'_> {
    /// Would it pass? A panic is a denial.
    pub fn evaluate(&self, asked: &Evaluation) -> (Evaluated, Option<DecisionId>) {
        let (began, now) = (Instant::now(), self.authorizer.time.now());
        let client = self.snapshot.policy().pdp_clients.get(self.client);
        let evaluate = || client.map(|client| self.snapshot.evaluate(client, asked, now));
        let evaluated = catch_unwind(AssertUnwindSafe(evaluate)).ok().flatten();
        let evaluated = evaluated.unwrap_or_else(|| Evaluated::denied(Reason::InternalError));
        let target = [&asked.method, &asked.target, &asked.host].map(|part| part.as_bytes());
        let raw = Raw::new(Dialect::Json, Asker::Unix, target, Vec::new());
        let id = self.authorizer.record(Some(&self.snapshot), Some(&raw), evaluated.basis(), now, began);
        (evaluated, id)
    }
}

enum Attempt {
    Answered(Answered),
    Needs(Question, Arc<Snapshot>),
}
