//! The feeds of keys: one task that keeps every issuer's key set fresh, answers the hot path's questions, and publishes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::fetch::{FetchError, Fetcher, Place, Source};
use super::status::{FeedStatus, Statuses};
use crate::authz::issuer::{IssuerPolicy, KeyState};
use crate::authz::keys::KeyReport;
use crate::authz::policy::Policy;
use crate::authz::snapshot::{NoNews, Question};
use crate::clock;
use super::{Feed, From};
use crate::live::{Answer, Asked, Publisher};

/// How many questions may wait for one issuer's fetch.
const WAITING: usize = 1_024;
/// The shortest time between two fetches that nobody asked for.
const FLOOR: Duration = Duration::from_millis(100);
/// The first pause after a failure, where the cool-down is not longer.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Nothing is due.
const NEVER: Duration = Duration::from_secs(3_600);

/// The feeds of all issuers. They stop when the last clone is dropped.
#[derive(Clone)]
pub struct Feeds {
    publications: mpsc::Sender<Publication>,
    status: watch::Receiver<Arc<Statuses>>,
}

struct Publication {
    policy: Arc<Policy>,
    fixed: HashMap<Arc<str>, KeyState>,
    feeds: Vec<Feed>,
    done: oneshot::Sender<()>,
}

impl Feeds {
    /// Starts them on the runtime of the caller, with no issuer yet. From now on they are all that publishes.
    #[must_use]
    pub fn start(publisher: Publisher, asked: mpsc::Receiver<Asked>, fetcher: Fetcher) -> Self {
        let (publications, to_publish) = mpsc::channel(1);
        let (told, status) = watch::channel(Arc::default());
        let refresher =
            Refresher { publisher, fetcher, issuers: HashMap::new(), fetches: JoinSet::new(), status: told };
        tokio::spawn(refresher.run(to_publish, asked));
        Self { publications, status }
    }

    /// Publishes a policy and follows its issuers. What is fetched from a place that did not change is kept; keys of a
    /// place that the policy no longer names are dropped with it. Returns when the policy is in force.
    pub async fn publish(&self, policy: Arc<Policy>, fixed: HashMap<Arc<str>, KeyState>, feeds: Vec<Feed>) {
        let (done, published) = oneshot::channel();
        // The task ends only after `self`, or with its runtime, where nobody is left to be told.
        if self.publications.send(Publication { policy, fixed, feeds, done }).await.is_ok() {
            let _ = published.await;
        }
    }

    /// How each feed is doing.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Arc<Statuses>> {
        self.status.clone()
    }

    /// Returns when each issuer has been fetched once, well or badly. The caller limits how long.
    pub async fn attempted(&self) {
        let all = |statuses: &Arc<Statuses>| statuses.values().all(|status| status.attempted.is_some());
        let _ = self.status().wait_for(all).await;
    }
}

/// All of the feeds' state, owned by one task: that a fetch is single is thus plain to see.
struct Refresher {
    publisher: Publisher,
    fetcher: Fetcher,
    issuers: HashMap<Arc<str>, Fed>,
    fetches: JoinSet<Result<KeyReport, FetchError>>,
    status: watch::Sender<Arc<Statuses>>,
}

/// An issuer whose keys are fetched.
struct Fed {
    policy: Arc<IssuerPolicy>,
    source: Source,
    refresh: Duration,
    state: KeyState,
    status: FeedStatus,
    /// When a fetch last ended.
    ended: Option<Instant>,
    /// When the next one is to start.
    due: Instant,
    running: Option<AbortHandle>,
    waiting: Vec<Asked>,
}

impl Refresher {
    async fn run(mut self, mut publications: mpsc::Receiver<Publication>, mut asked: mpsc::Receiver<Asked>) {
        loop {
            let now = Instant::now();
            for fed in self.issuers.values_mut().filter(|fed| fed.running.is_none() && fed.due <= now) {
                fed.begin(&self.fetcher, &mut self.fetches);
            }
            let due = self.issuers.values().filter(|fed| fed.running.is_none()).map(|fed| fed.due).min();
            tokio::select! {
                publication = publications.recv() => match publication {
                    Some(publication) => self.publish(publication),
                    None => return,
                },
                Some(asked) = asked.recv() => self.question(asked),
                Some(ended) = self.fetches.join_next_with_id() => self.ended(ended),
                () = sleep_until(due.unwrap_or(later(now, NEVER))) => {}
            }
        }
    }

    fn publish(&mut self, Publication { policy, mut fixed, feeds, done }: Publication) {
        let mut old = std::mem::take(&mut self.issuers);
        for feed in feeds {
            let name = Arc::clone(&feed.issuer.name);
            let source = source(&feed);
            let fed = match old.remove(&name) {
                Some(fed) if fed.source == source => {
                    if fed.policy.digest != feed.issuer.digest {
                        fixed.insert(Arc::clone(&name), fed.state.clone());
                    }
                    fed.follow(feed)
                }
                Some(fed) => {
                    // Else the publisher would keep the old place's keys for an issuer that did not change otherwise.
                    fixed.insert(Arc::clone(&name), KeyState::default());
                    old.insert(Arc::clone(&name), fed);
                    Fed::new(feed, source)
                }
                None => Fed::new(feed, source),
            };
            self.issuers.insert(name, fed);
        }
        self.publisher.publish_policy(policy, fixed);
        for dropped in old.into_values() {
            dropped.stop();
        }
        self.tell();
        // Who asked may have given up.
        let _ = done.send(());
    }

    fn question(&mut self, asked: Asked) {
        let Question::Keys(_) = asked.question;
        let wanted = asked.issuer.policy();
        let Some(fed) = self.issuers.get_mut(&wanted.name).filter(|fed| fed.policy.digest == wanted.digest) else {
            // The question came out of a snapshot that has been replaced.
            return answer(asked, Answer::News);
        };
        if fed.is_news_to(&asked) {
            return answer(asked, Answer::News);
        }
        if fed.running.is_none() {
            let cools = fed.ended.is_some_and(|ended| ended.elapsed() < fed.policy.cooldown);
            if cools {
                let why = if fed.state.failed { NoNews::Unreachable } else { NoNews::TooSoon };
                return answer(asked, Answer::NoNews(why));
            }
            fed.begin(&self.fetcher, &mut self.fetches);
        }
        if fed.waiting.len() >= WAITING {
            fed.waiting.retain(|asked| !asked.reply.is_closed());
        }
        if fed.waiting.len() < WAITING {
            fed.waiting.push(asked);
        } else {
            answer(asked, Answer::NoNews(NoNews::TooSoon));
        }
    }

    fn ended(&mut self, ended: Result<(Id, Result<KeyReport, FetchError>), JoinError>) {
        let (id, brought) = match ended {
            Ok(ended) => ended,
            Err(broken) => (broken.id(), Err(FetchError::Internal)),
        };
        let is_this = |fed: &&mut Fed| fed.running.as_ref().is_some_and(|running| running.id() == id);
        // A fetch that was stopped belongs to nobody: what it brought came from a place that is no longer named.
        let Some(fed) = self.issuers.values_mut().find(is_this) else { return };
        fed.take(brought);
        self.publisher.publish_keys(&fed.policy, fed.state.clone());
        for asked in std::mem::take(&mut fed.waiting) {
            let told = if fed.is_news_to(&asked) {
                Answer::News
            } else {
                Answer::NoNews(if fed.state.failed { NoNews::Unreachable } else { NoNews::Unknown })
            };
            answer(asked, told);
        }
        self.tell();
    }

    fn tell(&self) {
        let statuses = self.issuers.iter().map(|(name, fed)| (Arc::clone(name), fed.status.clone())).collect();
        self.status.send_replace(Arc::new(statuses));
    }
}

impl Fed {
    fn new(feed: Feed, source: Source) -> Self {
        let status = FeedStatus { source: source.shown(), ..FeedStatus::default() };
        Self {
            policy: feed.issuer,
            source,
            refresh: feed.refresh,
            state: KeyState::default(),
            status,
            ended: None,
            due: Instant::now(),
            running: None,
            waiting: Vec::new(),
        }
    }

    /// The same feed under a new policy.
    fn follow(mut self, feed: Feed) -> Self {
        self.policy = feed.issuer;
        self.refresh = feed.refresh;
        let cool = self.ended.map(|ended| later(ended, self.policy.cooldown));
        let sooner = self.due.min(later(Instant::now(), feed.refresh));
        self.due = cool.map_or(sooner, |cool| sooner.max(cool));
        self
    }

    /// Ends a feed that is no longer followed. Who waits for it has an old snapshot.
    fn stop(self) {
        if let Some(running) = self.running {
            running.abort();
        }
        for asked in self.waiting {
            answer(asked, Answer::News);
        }
    }

    fn begin(&mut self, fetcher: &Fetcher, fetches: &mut JoinSet<Result<KeyReport, FetchError>>) {
        let (fetcher, source) = (fetcher.clone(), self.source.clone());
        self.running = Some(fetches.spawn(async move { fetcher.fetch(&source).await }));
    }

    /// Takes what a fetch brought. Good keys are never replaced by none.
    fn take(&mut self, brought: Result<KeyReport, FetchError>) {
        let now = clock::now();
        self.running = None;
        self.state.attempted = Some(now);
        let outcome = brought.and_then(|report| {
            self.status.refused = report.refused.iter().map(|key| (key.at, key.why)).collect();
            if report.keys.is_empty() { Err(FetchError::NoUsableKey) } else { Ok(report.keys) }
        });
        let changed = outcome.as_ref().is_ok_and(|keys| keys.digest() != self.state.keys.digest());
        self.state.failed = outcome.is_err();
        self.status.error = outcome.as_ref().err().copied();
        match outcome {
            Ok(keys) => {
                self.state.keys = keys;
                self.state.fetched = Some(now);
                self.status.failures = 0;
            }
            Err(_) => self.status.failures = self.status.failures.saturating_add(1),
        }
        self.status.keys = self.state.keys.len();
        self.status.fetched = self.state.fetched;
        self.status.attempted = self.state.attempted;
        self.status.fetches = self.status.fetches.saturating_add(1);
        let ended = Instant::now();
        self.ended = Some(ended);
        self.due = later(ended, pause(self.refresh, self.policy.cooldown, self.status.failures, dice()));
        self.log(changed);
    }

    /// Whether newer keys were published than those of the snapshot that a question came out of.
    fn is_news_to(&self, asked: &Asked) -> bool {
        let seen = asked.issuer.state();
        seen.fetched != self.state.fetched && seen.keys.digest() != self.state.keys.digest()
    }

    fn log(&self, changed: bool) {
        let (issuer, source, keys) = (&*self.policy.name, &*self.status.source, self.status.keys);
        match self.status.error {
            Some(error) => {
                let (code, failures) = (error.code(), self.status.failures);
                tracing::warn!(issuer, source, code, failures, keys, "keys could not be fetched: {error}");
            }
            None if changed => tracing::info!(issuer, source, keys, "new keys"),
            None => tracing::debug!(issuer, source, keys, "keys fetched"),
        }
        if changed || self.status.error == Some(FetchError::NoUsableKey) {
            for (at, why) in self.status.refused.iter() {
                tracing::warn!(issuer, source, at, code = why.code(), "a key is not used: {why}");
            }
        }
    }
}

fn source(feed: &Feed) -> Source {
    let place = match &feed.from {
        From::Discovery(url) => Place::Discovery(url.clone()),
        From::Jwks(url) => Place::Jwks(url.clone()),
    };
    Source { issuer: Arc::clone(&feed.issuer.tokens.issuer), place, allow_http: feed.allow_http }
}

fn answer(asked: Asked, answer: Answer) {
    // Who asked may have given up.
    let _ = asked.reply.send(answer);
}

/// How long after a fetch the next one starts by itself: `refresh` after a good one; sooner after a bad one, each time
/// twice as late. 10 % more or less, so that replicas spread, but never within the cool-down. `dice` is random.
fn pause(refresh: Duration, cooldown: Duration, failures: u32, dice: u8) -> Duration {
    let doubled = |times: u32| cooldown.max(FIRST_RETRY).saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX));
    let even = failures.checked_sub(1).map_or(refresh, |times| doubled(times).min(refresh));
    let thousandth = even.checked_div(1_000).unwrap_or_default();
    let spread = u32::from(dice).saturating_mul(200).div_euclid(255);
    thousandth.saturating_mul(spread.saturating_add(900)).max(cooldown).max(FLOOR)
}

fn dice() -> u8 {
    let mut dice = [0];
    // Without randomness there is no spread, and nothing else is lost.
    let _ = aws_lc_rs::rand::fill(&mut dice);
    let [dice] = dice;
    dice
}

fn later(now: Instant, by: Duration) -> Instant {
    now.checked_add(by).unwrap_or(now)
}
