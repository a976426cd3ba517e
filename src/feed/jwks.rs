//! The feeds of keys: one task that keeps every issuer's key set fresh, answers the hot path's questions, and publishes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::fetch::{FetchError, Fetcher, Source};
use super::introspect::Introspections;
use super::saved::SavedKeys;
use super::status::{FeedStatus, Statuses};
use crate::authz::issuer::{IssuerPolicy, KeyState};
use crate::authz::keys::{KeyReport, UuidKid};
use crate::authz::policy::Policy;
use crate::authz::snapshot::{NoNews, Question};
use crate::clock::Time;
use crate::config::Feed;
use crate::live::{Answer, Asked, Publisher};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

/// How many kids may be asked for between two fetches.
const MAX_ASKED: usize = 8;
/// How many keys are kept that each have a place of their own.
const MAX_KIDS: usize = 24;
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
    beside: Beside,
}

/// What the feeds work with beside the network.
#[derive(Clone, Default)]
pub struct Beside {
    /// Where good keys are kept for the next start.
    pub saved: Option<SavedKeys>,
    /// What time it is.
    pub time: Time,
}

struct Publication {
    policy: Arc<Policy>,
    fixed: HashMap<Arc<str>, KeyState>,
    feeds: Vec<Feed>,
    /// The keys on disk of issuers that have none in memory.
    saved: HashMap<Arc<str>, KeyState>,
    done: oneshot::Sender<()>,
}

impl Feeds {
    /// Starts them on the runtime of the caller, with no issuer yet. From now on they are all that publishes.
    #[must_use]
    pub fn start(publisher: Publisher, asked: mpsc::Receiver<Asked>, fetcher: Fetcher) -> Self {
        Self::start_with(publisher, asked, fetcher, Beside::default())
    }

    /// The same with a place for keys, or a clock, of the caller's choice.
    #[must_use]
    pub fn start_with(publisher: Publisher, asked: mpsc::Receiver<Asked>, fetcher: Fetcher, beside: Beside) -> Self {
        let (publications, to_publish) = mpsc::channel(1);
        let (told, status) = watch::channel(Arc::default());
        let (issuers, fetches) = (HashMap::new(), JoinSet::new());
        let (introspections, besides) = (Introspections::start(fetcher.names()), beside.clone());
        let refresher =
            Refresher { publisher, fetcher, issuers, fetches, status: told, introspections, beside: besides };
        tokio::spawn(refresher.run(to_publish, asked));
        Self { publications, status, beside }
    }

    /// Publishes a policy and follows its issuers. What is fetched from a place that did not change is kept; keys of a
    /// place that the policy no longer names are dropped with it. Returns when the policy is in force.
    pub async fn publish(&self, policy: Arc<Policy>, fixed: HashMap<Arc<str>, KeyState>, feeds: Vec<Feed>) {
        let (done, published) = oneshot::channel();
        let saved = self.saved(&feeds).await;
        // The task ends only after `self`, or with its runtime, where nobody is left to be told.
        if self.publications.send(Publication { policy, fixed, feeds, saved, done }).await.is_ok() {
            let _ = published.await;
        }
    }

    /// What is on disk for those of which nothing is in memory.
    async fn saved(&self, feeds: &[Feed]) -> HashMap<Arc<str>, KeyState> {
        let Some(saved) = &self.beside.saved else { return HashMap::new() };
        let known = Arc::clone(&self.status.borrow());
        let has_keys = |feed: &&Feed| known.get(&feed.issuer.name).is_some_and(|status| status.fetched.is_some());
        let unknown = feeds.iter().filter(|feed| !has_keys(feed));
        let wanted: Vec<_> = unknown.map(|feed| (Arc::clone(&feed.issuer), Source::of(feed))).collect();
        if wanted.is_empty() { HashMap::new() } else { saved.load(wanted, self.beside.time.now()).await }
    }

    /// How each feed is doing.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Arc<Statuses>> {
        self.status.clone()
    }

    /// Returns when each issuer has been fetched once, well or badly. The caller limits how long.
    pub async fn attempted(&self) {
        let all =
            |statuses: &Arc<Statuses>| statuses.values().all(|status| status.attempted.is_some() || status.on_demand);
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
    introspections: Introspections,
    beside: Beside,
}

/// An issuer whose keys are fetched.
struct Fed {
    policy: Arc<IssuerPolicy>,
    source: Source,
    refresh: Duration,
    state: KeyState,
    status: FeedStatus,
    /// When a fetch last ended.
    ended: Option<Duration>,
    /// When the next one is to start.
    due: Duration,
    running: Option<AbortHandle>,
    /// The kids that were asked for since the last fetch, where each key has a place of its own.
    kids: Vec<UuidKid>,
    waiting: Vec<Asked>,
}

impl Refresher {
    async fn run(mut self, mut publications: mpsc::Receiver<Publication>, mut asked: mpsc::Receiver<Asked>) {
        loop {
            let now = self.beside.time.passed();
            for fed in
                self.issuers.values_mut().filter(|fed| fed.running.is_none() && fed.due <= now && fed.is_asked_for())
            {
                fed.begin(&self.fetcher, &mut self.fetches);
            }
            let due = self
                .issuers
                .values()
                .filter(|fed| fed.running.is_none() && fed.is_asked_for())
                .map(|fed| fed.due)
                .min();
            tokio::select! {
                publication = publications.recv() => match publication {
                    Some(publication) => self.publish(publication),
                    None => return,
                },
                Some(asked) = asked.recv() => self.question(asked),
                Some(ended) = self.fetches.join_next_with_id() => self.ended(ended),
                () = self.beside.time.until(due.unwrap_or(now.saturating_add(NEVER))) => {}
            }
        }
    }

    fn publish(&mut self, publication: Publication) {
        let Publication { policy, mut fixed, feeds, mut saved, done } = publication;
        let time = &self.beside.time;
        let mut old = std::mem::take(&mut self.issuers);
        for feed in feeds {
            let name = Arc::clone(&feed.issuer.name);
            let source = Source::of(&feed);
            let fed = match old.remove(&name) {
                Some(fed) if fed.source.is_same_place(&source) => {
                    if fed.policy.digest != feed.issuer.digest {
                        fixed.insert(Arc::clone(&name), fed.state.clone());
                    }
                    fed.follow(feed, source, time)
                }
                other => {
                    old.extend(other.map(|fed| (Arc::clone(&name), fed)));
                    let fed = Fed::new(feed, source, saved.remove(&name).unwrap_or_default(), time);
                    // Else the publisher would keep the old place's keys for an issuer that did not change otherwise.
                    fixed.insert(Arc::clone(&name), fed.state.clone());
                    fed
                }
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
        match asked.question {
            Question::Keys(_) | Question::Key(..) => {}
            Question::Unseen(_) => return answer(asked, Answer::NoNews(NoNews::Unknown)),
            Question::Introspect(..) => return self.introspections.ask(asked),
        }
        let wanted = asked.issuer.policy();
        let Some(fed) = self.issuers.get_mut(&wanted.name).filter(|fed| fed.policy.digest == wanted.digest) else {
            // The question came out of a snapshot that has been replaced.
            return answer(asked, Answer::News);
        };
        if fed.is_news_to(&asked) {
            return answer(asked, Answer::News);
        }
        if let Question::Key(_, kid) = asked.question {
            fed.ask_for(kid);
        }
        if fed.running.is_none() {
            let passed = self.beside.time.passed();
            let cools = fed.ended.is_some_and(|ended| passed.saturating_sub(ended) < fed.policy.cooldown);
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
        fed.take(brought, &self.beside.time);
        if let Some(saved) = self.beside.saved.as_ref().filter(|_| !fed.state.failed && !fed.policy.by_kid) {
            saved.save(&fed.policy, &fed.source, &fed.state);
        }
        self.publisher.publish_keys(&fed.policy, fed.state.clone());
        for asked in std::mem::take(&mut fed.waiting) {
            let told = if fed.is_news_to(&asked) {
                Answer::News
            } else if matches!(asked.question, Question::Key(_, kid) if fed.kids.contains(&kid)) {
                // It was asked for while this fetch was under way, which did not ask for it.
                Answer::NoNews(NoNews::Unreachable)
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
    fn new(feed: Feed, source: Source, state: KeyState, time: &Time) -> Self {
        let now = time.now();
        let (fetched, keys) = (state.fetched, state.keys.len());
        let on_demand = feed.issuer.by_kid;
        let next = (!on_demand).then_some(now);
        let status = FeedStatus { source: source.shown(), fetched, keys, next, on_demand, ..FeedStatus::default() };
        if let Some(fetched) = fetched {
            let (issuer, source, age) = (&*feed.issuer.name, &*status.source, now.since(fetched).as_secs());
            tracing::info!(issuer, source, keys, age, "keys of an earlier run serve until they are fetched anew");
        }
        Self {
            policy: feed.issuer,
            source,
            refresh: feed.refresh,
            state,
            status,
            ended: None,
            due: time.passed(),
            running: None,
            kids: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// The same feed under a new policy.
    fn follow(mut self, feed: Feed, source: Source, time: &Time) -> Self {
        let passed = time.passed();
        self.policy = feed.issuer;
        if self.source.ca != source.ca {
            // Whoever vouched before may be believed no more.
            self.due = passed;
        }
        self.source = source;
        self.refresh = feed.refresh;
        let cool = self.ended.map(|ended| ended.saturating_add(self.policy.cooldown));
        let sooner = self.due.min(passed.saturating_add(feed.refresh));
        self.due = cool.map_or(sooner, |cool| sooner.max(cool));
        self.status.next = self.is_asked_for().then(|| time.now().plus(self.due.saturating_sub(passed)));
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

    /// Takes note of a kid, for the next fetch. Of more than fit, who came first is asked for.
    fn ask_for(&mut self, kid: UuidKid) {
        if self.kids.len() < MAX_ASKED && !self.kids.contains(&kid) {
            self.kids.push(kid);
        }
    }

    /// Whether there is anything to fetch.
    fn is_asked_for(&self) -> bool {
        !self.policy.by_kid || !self.kids.is_empty() || !self.state.keys.is_empty()
    }

    fn begin(&mut self, fetcher: &Fetcher, fetches: &mut JoinSet<Result<KeyReport, FetchError>>) {
        let (fetcher, source) = (fetcher.clone(), self.source.clone());
        if !self.policy.by_kid {
            self.running = Some(fetches.spawn(async move { fetcher.fetch(&source).await }));
            return;
        }
        let mut kids = std::mem::take(&mut self.kids);
        // Those that were fetched last stand first, so that the oldest make room.
        kids.extend(self.state.keys.kids().filter_map(UuidKid::parse));
        let mut seen = HashSet::new();
        kids.retain(|kid| seen.insert(*kid));
        kids.truncate(MAX_KIDS);
        self.running = Some(fetches.spawn(async move { fetcher.fetch_each(&source, &kids).await }));
    }

    /// Takes what a fetch brought. Good keys are never replaced by none.
    fn take(&mut self, brought: Result<KeyReport, FetchError>, time: &Time) {
        let now = time.now();
        self.running = None;
        self.state.attempted = Some(now);
        let outcome = brought.and_then(|report| {
            self.status.refused = report.refused.iter().map(|key| (key.at, key.why)).collect();
            if report.keys.is_empty() && !self.policy.by_kid { Err(FetchError::NoUsableKey) } else { Ok(report.keys) }
        });
        let changed = outcome.as_ref().is_ok_and(|keys| keys.digest() != self.state.keys.digest());
        self.state.failed = outcome.is_err();
        self.status.error = outcome.as_ref().err().copied();
        match outcome {
            Ok(keys) => {
                self.state.keys = keys;
                self.state.fetched = Some(now);
                self.state.from_disk = false;
                self.status.failures = 0;
            }
            Err(_) => self.status.failures = self.status.failures.saturating_add(1),
        }
        self.status.keys = self.state.keys.len();
        self.status.fetched = self.state.fetched;
        self.status.attempted = self.state.attempted;
        self.status.fetches = self.status.fetches.saturating_add(1);
        let ended = time.passed();
        self.ended = Some(ended);
        let pause = match self.kids.is_empty() {
            true => pause(self.refresh, self.policy.cooldown, self.status.failures, dice()),
            false => self.policy.cooldown.max(FLOOR),
        };
        self.due = ended.saturating_add(pause);
        self.status.next = self.is_asked_for().then(|| now.plus(pause));
        self.log(changed);
    }

    /// Whether other keys were published than those of the snapshot that a question came out of. Told by the keys: two
    /// fetches may end within one millisecond.
    fn is_news_to(&self, asked: &Asked) -> bool {
        asked.issuer.state().keys.digest() != self.state.keys.digest()
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

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::authz::issuer::Issuer;
    use crate::config::KeySource;
    use crate::dev::issuer::{Behaviour, Issuer as Provider};
    use crate::feed::trial::{Canned, compiled, discovery, issuer};
    use crate::live::Live;

    /// Fetched at start, then only when asked for, and then always.
    const EAGER: &str = "refresh: 1h, cooldown: 0s";
    /// Fetched at start, then never in a test's life.
    const COOL: &str = "refresh: 1h, cooldown: 1h";

    struct Site {
        live: Arc<Live>,
        feeds: Feeds,
    }

    impl Site {
        async fn start(issuers: &[(&str, &Source, &str)]) -> Self {
            let (live, publisher, asked) = Live::new();
            let fetcher = Fetcher::new().with_deadline(Duration::from_millis(1_500));
            let site = Self { live, feeds: Feeds::start(publisher, asked, fetcher) };
            site.publish(issuers).await;
            site
        }

        /// Started, and each issuer fetched once.
        async fn attempted(issuers: &[(&str, &Source, &str)]) -> Self {
            let site = Self::start(issuers).await;
            site.feeds.attempted().await;
            site
        }

        async fn publish(&self, issuers: &[(&str, &Source, &str)]) {
            let compiled = compiled(issuers);
            self.feeds.publish(compiled.policy, compiled.fixed, compiled.feeds).await;
        }

        fn issuer(&self, name: &str) -> Arc<Issuer> {
            let snapshot = self.live.snapshot().unwrap();
            Arc::clone(snapshot.issuers().iter().find(|issuer| &*issuer.policy().name == name).unwrap())
        }

        fn kids(&self, name: &str) -> Vec<String> {
            self.issuer(name).state().keys.kids().map(str::to_owned).collect()
        }

        async fn ask(&self, name: &str) -> Answer {
            self.ask_as(self.issuer(name)).await
        }

        async fn ask_as(&self, issuer: Arc<Issuer>) -> Answer {
            self.live.ask(Question::Keys(crate::authz::issuer::IssuerId(0)), issuer).await
        }

        fn status(&self, name: &str) -> FeedStatus {
            self.feeds.status().borrow().get(name).unwrap().clone()
        }

        async fn until(&self, name: &str, holds: impl Fn(&FeedStatus) -> bool) {
            self.feeds.status().wait_for(|all| all.get(name).is_some_and(&holds)).await.unwrap();
        }
    }

    fn jwks(provider: &Provider) -> Source {
        let from = KeySource::Jwks(format!("{}/jwks.json", provider.url()).into());
        Source { from, ..discovery(provider) }
    }

    #[tokio::test]
    async fn keys_are_there_after_the_first_fetch() {
        let provider = issuer().await;
        let site = Site::attempted(&[("main", &discovery(&provider), COOL)]).await;
        assert_eq!(site.kids("main"), [provider.kid()]);
        let (state, status) = (site.issuer("main").state().clone(), site.status("main"));
        assert!(state.fetched.is_some() && state.attempted == state.fetched && !state.failed);
        assert_eq!((status.keys, status.fetches, status.error), (1, 1, None));
        assert_eq!((status.fetched, status.source), (state.fetched, format!("{}/", provider.url())));
    }

    #[tokio::test]
    async fn a_question_brings_the_key_of_a_rotation() {
        // K08
        let provider = issuer().await;
        let site = Site::attempted(&[("main", &jwks(&provider), EAGER)]).await;
        let old = site.issuer("main");
        assert_eq!(site.ask("main").await, Answer::NoNews(NoNews::Unknown));
        let kid = provider.rotate();
        assert_eq!(site.ask("main").await, Answer::News);
        assert!(site.kids("main").contains(&kid));
        assert_eq!(provider.fetches().keys, 3);
        // Who still holds the old snapshot is told of the newer one without a fetch.
        assert_eq!(site.ask_as(old).await, Answer::News);
        assert_eq!(provider.fetches().keys, 3);
        provider.drop_old_keys();
        assert_eq!(site.ask("main").await, Answer::News);
        assert_eq!(site.kids("main"), [kid]);
    }

    #[tokio::test]
    async fn keys_are_fetched_again_by_themselves() {
        let provider = issuer().await;
        let site = Site::attempted(&[("main", &jwks(&provider), "refresh: 100ms, cooldown: 0s")]).await;
        let kid = provider.rotate();
        site.until("main", |status| status.keys == 2).await;
        assert!(site.kids("main").contains(&kid));
    }

    const BALANCER: &str = "from: ['header:x-b'], \
        signer: 'arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/a/b'";

    fn pem(server: &Canned) -> Source {
        let from = KeySource::Pem(format!("{}{{kid}}", server.url).into());
        Source { issuer: "https://idp.test".into(), from, allow_http: true, ca: None }
    }

    fn kid(last: char) -> UuidKid {
        UuidKid::parse(&format!("c2f80c8b-c05c-4068-af14-17299f7896b{last}")).unwrap()
    }

    impl Site {
        async fn ask_for(&self, name: &str, last: char) -> Answer {
            let id = crate::authz::issuer::IssuerId(0);
            self.live.ask(Question::Key(id, kid(last)), self.issuer(name)).await
        }
    }

    #[tokio::test]
    async fn a_key_with_a_place_of_its_own_is_fetched_when_a_token_names_it() {
        // K05, K08
        let key = crate::dev::mint::SigningKey::shared(crate::authz::algorithm::Algorithm::Es256).public_pem();
        let server = Canned::body(&key).await;
        let site = Site::attempted(&[("main", &pem(&server), &format!("refresh: 1h, cooldown: 0s, {BALANCER}"))]).await;
        assert_eq!((server.hits(), site.status("main").on_demand), (0, true));
        let old = site.issuer("main");
        assert_eq!(site.ask_for("main", 'a').await, Answer::News);
        assert_eq!(site.kids("main"), [kid('a').as_str()]);
        assert_eq!(site.ask_for("main", 'b').await, Answer::News);
        assert_eq!(site.kids("main"), [kid('b').as_str(), kid('a').as_str()]);
        assert_eq!(server.hits(), 3);
        let id = crate::authz::issuer::IssuerId(0);
        assert_eq!(site.live.ask(Question::Key(id, kid('a')), old).await, Answer::News);
        assert_eq!(server.hits(), 3, "who holds an old snapshot is told of the newer one without a fetch");
    }

    #[tokio::test]
    async fn a_kid_of_no_key_costs_one_fetch_a_cool_down_and_no_outage() {
        // K05
        for status in ["404 Not Found", "403 Forbidden"] {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let server = Canned::start(answer, Duration::ZERO).await;
            let more = format!("refresh: 1h, cooldown: 1h, {BALANCER}");
            let site = Site::attempted(&[("main", &pem(&server), &more)]).await;
            assert_eq!(site.ask_for("main", 'a').await, Answer::NoNews(NoNews::Unknown), "{status}");
            assert!(!site.issuer("main").state().failed && site.issuer("main").state().keys.is_empty());
            for last in ['a', 'b', 'c'] {
                assert_eq!(site.ask_for("main", last).await, Answer::NoNews(NoNews::TooSoon));
            }
            assert_eq!(server.hits(), 1);
        }
        let server =
            Canned::start("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", Duration::ZERO).await;
        let more = format!("refresh: 1h, cooldown: 1h, {BALANCER}");
        let site = Site::attempted(&[("main", &pem(&server), &more)]).await;
        assert_eq!(site.ask_for("main", 'a').await, Answer::NoNews(NoNews::Unreachable));
        assert!(site.issuer("main").state().failed);
    }

    #[tokio::test]
    async fn a_thousand_questions_share_one_fetch() {
        // K06
        let provider = issuer().await;
        provider.behave(Behaviour::Slow(Duration::from_millis(800)));
        let site = Arc::new(Site::start(&[("main", &jwks(&provider), COOL)]).await);
        let mut asking = JoinSet::new();
        for _ in 0..1_000 {
            let site = Arc::clone(&site);
            asking.spawn(async move { site.ask("main").await });
        }
        assert!(asking.join_all().await.iter().all(|answer| *answer == Answer::News));
        assert_eq!(provider.fetches().keys, 1);
    }

    #[tokio::test]
    async fn those_who_wait_are_bounded_in_number() {
        // K06
        let provider = issuer().await;
        provider.behave(Behaviour::Slow(Duration::from_millis(1_000)));
        let site = Arc::new(Site::start(&[("main", &jwks(&provider), COOL)]).await);
        let mut asking = JoinSet::new();
        for _ in 0..2 * WAITING {
            let site = Arc::clone(&site);
            asking.spawn(async move { site.ask("main").await });
            tokio::task::yield_now().await;
        }
        let answers = asking.join_all().await;
        let told = |wanted| answers.iter().filter(|answer| **answer == wanted).count();
        assert_eq!((told(Answer::News), told(Answer::NoNews(NoNews::TooSoon))), (WAITING, WAITING));
        assert_eq!(provider.fetches().keys, 1);
    }

    #[tokio::test]
    async fn those_who_gave_up_make_room() {
        let provider = issuer().await;
        provider.behave(Behaviour::Slow(Duration::from_millis(800)));
        let site = Arc::new(Site::start(&[("main", &jwks(&provider), COOL)]).await);
        let mut gone = JoinSet::new();
        for _ in 0..WAITING {
            let site = Arc::clone(&site);
            gone.spawn(async move { site.ask("main").await });
            tokio::task::yield_now().await;
        }
        gone.shutdown().await;
        assert_eq!(site.ask("main").await, Answer::News);
    }

    #[tokio::test]
    async fn a_flood_of_questions_costs_one_fetch_a_cool_down() {
        // K05
        let provider = issuer().await;
        let site = Site::attempted(&[("main", &jwks(&provider), "refresh: 1h, cooldown: 200ms")]).await;
        let began = Instant::now();
        let (mut unknown, mut too_soon) = (0_u64, 0_u64);
        while unknown < 3 {
            match site.ask("main").await {
                Answer::NoNews(NoNews::Unknown) => unknown += 1,
                Answer::NoNews(NoNews::TooSoon) => too_soon += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
        assert!(too_soon > 100, "{too_soon}");
        assert_eq!(provider.fetches().keys, 4);
    }

    #[tokio::test]
    async fn a_failed_fetch_cools_down_as_well() {
        // K05
        let provider = issuer().await;
        provider.behave(Behaviour::Down);
        let site = Site::attempted(&[("main", &jwks(&provider), COOL)]).await;
        for _ in 0..100 {
            assert_eq!(site.ask("main").await, Answer::NoNews(NoNews::Unreachable));
        }
        assert_eq!(provider.fetches().keys, 1);
        let state = site.issuer("main").state().clone();
        assert!(state.failed && state.attempted.is_some() && state.fetched.is_none() && state.keys.is_empty());
    }

    #[tokio::test]
    async fn good_keys_outlive_every_failure() {
        // K03, K04, K07
        let provider = issuer().await;
        let site = Site::attempted(&[("main", &discovery(&provider), EAGER)]).await;
        let good = site.issuer("main").state().clone();
        for (behaviour, code) in [
            (Behaviour::Down, "interrupted"),
            (Behaviour::Status(500), "http_status"),
            (Behaviour::Status(302), "redirect"),
            (Behaviour::Garbage, "bad_discovery"),
            (Behaviour::Huge, "too_large"),
            (Behaviour::Slow(Duration::from_secs(60)), "timeout"),
        ] {
            provider.behave(behaviour);
            assert_eq!(site.ask("main").await, Answer::NoNews(NoNews::Unreachable), "{code}");
            let state = site.issuer("main").state().clone();
            assert_eq!(state.keys.digest(), good.keys.digest(), "{code}");
            assert!(state.failed && state.fetched == good.fetched && state.attempted >= good.attempted, "{code}");
            assert_eq!(site.status("main").error.map(FetchError::code), Some(code));
        }
        assert_eq!(site.status("main").failures, 6);
        provider.behave(Behaviour::Normal);
        assert_eq!(site.ask("main").await, Answer::NoNews(NoNews::Unknown));
        assert!(!site.issuer("main").state().failed);
        assert_eq!((site.status("main").failures, site.status("main").error), (0, None));
    }

    #[tokio::test]
    async fn a_set_without_a_usable_key_replaces_nothing() {
        // K04, K07
        let good = crate::dev::mint::SigningKey::shared(crate::authz::algorithm::Algorithm::Es256);
        let good = serde_json::json!({"keys": [good.public_jwk(Some("k"))]}).to_string();
        for (empty, refused) in [(r#"{"keys":[]}"#, 0), (r#"{"keys":[{"kty":"oct","k":"AA"},7]}"#, 2)] {
            let server = Canned::one_by_one(&[&good, empty]).await;
            let from = KeySource::Jwks(server.url.as_str().into());
            let source = Source { issuer: "https://id.example.com".into(), from, allow_http: true, ca: None };
            let site = Site::attempted(&[("main", &source, EAGER)]).await;
            assert_eq!(site.ask("main").await, Answer::NoNews(NoNews::Unreachable));
            assert_eq!(site.kids("main"), ["k"]);
            let status = site.status("main");
            assert_eq!((status.error, status.keys), (Some(FetchError::NoUsableKey), 1));
            assert_eq!(status.refused.len(), refused);
        }
    }

    #[tokio::test]
    async fn a_stuck_issuer_delays_no_other() {
        let (stuck, well) = (issuer().await, issuer().await);
        stuck.behave(Behaviour::Slow(Duration::from_secs(60)));
        let site = Site::start(&[("stuck", &jwks(&stuck), COOL), ("well", &jwks(&well), EAGER)]).await;
        site.until("well", |status| status.keys == 1).await;
        let kid = well.rotate();
        assert_eq!(site.ask("well").await, Answer::News);
        assert!(site.kids("well").contains(&kid));
        assert_eq!(site.status("stuck").attempted, None);
    }

    #[tokio::test]
    async fn a_new_policy_keeps_what_was_fetched_from_the_same_place() {
        let (kept, dropped, added) = (issuer().await, issuer().await, issuer().await);
        let site = Site::attempted(&[("kept", &jwks(&kept), COOL), ("dropped", &jwks(&dropped), COOL)]).await;
        let changed = format!("{COOL}, subject_prefix: 'x:'");
        site.publish(&[("kept", &jwks(&kept), &changed), ("added", &jwks(&added), COOL)]).await;
        assert_eq!(site.kids("kept"), [kept.kid()]);
        assert_eq!(&*site.issuer("kept").policy().subject_prefix, "x:");
        site.until("added", |status| status.keys == 1).await;
        assert_eq!((kept.fetches().keys, added.fetches().keys), (1, 1));
        assert_eq!(site.feeds.status().borrow().keys().map(|name| &**name).collect::<Vec<_>>(), ["added", "kept"]);
        assert_eq!(site.ask("kept").await, Answer::NoNews(NoNews::TooSoon));
    }

    #[tokio::test]
    async fn a_new_place_drops_the_keys_of_the_old_one_at_once() {
        let (old, new) = (issuer().await, issuer().await);
        let moved = Source { issuer: old.url().into(), ..jwks(&new) };
        let site = Site::attempted(&[("main", &jwks(&old), COOL)]).await;
        new.behave(Behaviour::Down);
        site.publish(&[("main", &moved, COOL)]).await;
        assert_eq!(site.kids("main"), [""; 0]);
        site.feeds.attempted().await;
        assert_eq!(site.ask("main").await, Answer::NoNews(NoNews::Unreachable));
        assert_eq!(old.fetches().keys, 1);
    }

    #[tokio::test]
    async fn what_an_old_place_still_sends_is_thrown_away() {
        // K08
        let (old, new) = (issuer().await, issuer().await);
        old.behave(Behaviour::Slow(Duration::from_millis(100)));
        let moved = Source { issuer: old.url().into(), ..jwks(&new) };
        let site = Arc::new(Site::start(&[("main", &jwks(&old), COOL)]).await);
        let before = site.issuer("main");
        let asking = tokio::spawn({
            let site = Arc::clone(&site);
            async move { site.ask_as(before).await }
        });
        tokio::task::yield_now().await;
        site.publish(&[("main", &moved, COOL)]).await;
        assert_eq!(asking.await.unwrap(), Answer::News);
        site.feeds.attempted().await;
        assert_eq!(site.kids("main"), [new.kid()]);
    }

    #[tokio::test]
    async fn a_question_about_a_policy_that_was_replaced_is_answered_at_once() {
        let provider = issuer().await;
        let site = Site::attempted(&[("main", &jwks(&provider), COOL)]).await;
        let before = site.issuer("main");
        site.publish(&[("other", &jwks(&provider), COOL)]).await;
        assert_eq!(site.ask_as(before).await, Answer::News);
    }

    #[test]
    fn pauses_grow_with_failures_and_never_fall_within_the_cool_down() {
        let seconds = Duration::from_secs;
        let (refresh, cooldown) = (seconds(300), seconds(30));
        assert_eq!(pause(refresh, cooldown, 0, 0), seconds(270));
        assert_eq!(pause(refresh, cooldown, 0, 255), seconds(330));
        let after = |failures| pause(refresh, cooldown, failures, 255);
        assert_eq!([1, 2, 3, 4, 5].map(after), [33, 66, 132, 264, 330].map(seconds));
        assert_eq!(after(u32::MAX), seconds(330));
        assert_eq!(pause(refresh, cooldown, 1, 0), cooldown);
        assert_eq!(pause(refresh, seconds(0), 1, 0), Duration::from_millis(900));
        assert_eq!(pause(seconds(0), seconds(0), 0, 0), FLOOR);
        assert_eq!(pause(seconds(60), seconds(3_600), 0, 0), seconds(3_600));
        assert_eq!(pause(Duration::MAX, seconds(0), 0, 255), Duration::MAX);
    }
}
