//! The chaos test that docs/operations.md tells of: an hour of simulated time without the issuer, under load, and its keys
//! are others when it comes back. Not one wrong denial, not one wrong allow.
//!
//! Only what a test lets pass is time to portcullis: fetches are real and take none of it, and nothing sleeps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portcullis::authorizer::{Authorizer, Sealer};
use portcullis::authz::algorithm::Algorithm;
use portcullis::authz::decision::Verdict;
use portcullis::authz::decision_id::SealingKey;
use portcullis::authz::gateways::Dialect;
use portcullis::authz::reason::Reason;
use portcullis::authz::request::{Asker, Header, Raw};
use portcullis::authz::time::Timestamp;
use portcullis::clock::Time;
use portcullis::config::compile;
use portcullis::dev::issuer::{Behaviour, Issuer, Settings};
use portcullis::feed::fetch::Fetcher;
use portcullis::feed::folder::Folder;
use portcullis::feed::jwks::{Beside, Feeds};
use portcullis::feed::saved::SavedKeys;
use portcullis::live::Live;
use portcullis::observe::Recorder;
use portcullis::observe::audit::Audit;
use portcullis::observe::metrics::Metrics;
use portcullis::store::Store;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::{ANY_PORT, DEADLINE, TempDir};

const MINUTE: i64 = 60;
/// The shortest time between two fetches, in seconds: what the policy does not say.
const COOLDOWN: i64 = 30;
/// The longest time between two fetches while they succeed: 5 minutes and 10 % of that.
const REFRESH: i64 = 330;

/// Time that passes where a test lets it.
struct Watch {
    passes: watch::Sender<Duration>,
    time: Time,
}

impl Watch {
    fn new() -> Self {
        let (passes, passed) = watch::channel(Duration::ZERO);
        Self { passes, time: Time::Told(Timestamp::from_secs(1_800_000_000), passed) }
    }

    fn let_pass(&self, seconds: u64) {
        self.passes.send_modify(|passed| *passed += Duration::from_secs(seconds));
    }

    fn now(&self) -> i64 {
        self.time.now().as_millis() / 1_000
    }

    /// Claims of a token that is issued now.
    fn claims(&self, more: &Value) -> Value {
        let at = self.now();
        let mut claims = json!({"sub": "u1", "roles": ["reader"], "iat": at, "exp": at + 4 * 3_600});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    }
}

/// An issuer that goes on publishing replaced keys until it is told to drop them.
async fn issuer() -> Issuer {
    let keep_old = Duration::from_secs(86_400);
    let settings = Settings { audience: "shop-api".into(), algorithm: Algorithm::Es256, keep_old };
    Issuer::start(ANY_PORT, settings).await.unwrap()
}

/// Returns when keys were written.
async fn written(folder: &Folder) {
    while !std::fs::read_dir(folder.path()).is_ok_and(|mut entries| {
        entries.any(|entry| entry.unwrap().path().extension().is_some_and(|end| end == "keys"))
    }) {
        tokio::task::yield_now().await;
    }
}

/// A portcullis without a listener.
struct Replica {
    authorizer: Authorizer,
    feeds: Feeds,
    time: Time,
}

impl Replica {
    async fn start(watch: &Watch, issuer: &Issuer, more: &str, folder: Option<&Arc<Folder>>) -> Self {
        let url = issuer.url();
        let policy = format!(
            "issuers: {{main: {{jwks: '{url}/jwks.json', issuer: '{url}', allow_http: true, audience: shop-api, roles: roles{more}}}}}\nroutes: {{GET /: role:reader}}\n"
        );
        let (compiled, problems) = compile("chaos.yaml", &policy, &|_| Err(std::io::ErrorKind::NotFound.into()));
        let compiled = compiled.unwrap_or_else(|| panic!("{problems}"));
        let (live, publisher, asked) = Live::new();
        let saved = folder.map(|folder| SavedKeys::start(Arc::clone(folder)));
        let time = watch.time.clone();
        let beside = Beside { saved, time: time.clone() };
        let feeds = Feeds::start_with(publisher, asked, Fetcher::new(), beside);
        feeds.publish(compiled.policy, compiled.fixed, compiled.feeds).await;
        feeds.attempted().await;
        let sealer = Sealer::new(Arc::new(SealingKey::new(&[7; 32]).unwrap()), 1);
        let recorder = Recorder::new(Audit::off(), Metrics::default().core());
        Self { authorizer: Authorizer::new(live, recorder, sealer, Store::memory()).by(time.clone()), feeds, time }
    }

    /// Why a token is denied; `None` where it passes.
    async fn denies(&self, token: &str) -> Option<Reason> {
        let bearer = format!("Bearer {token}");
        let raw = Raw::new(
            Dialect::Envoy,
            Asker::Unix,
            [b"GET", b"/", b"shop.test"],
            vec![
                Header { name: b":method", value: b"GET" },
                Header { name: b":path", value: b"/" },
                Header { name: b"authorization", value: bearer.as_bytes() },
            ],
        );
        let answered = self.authorizer.check(Ok(raw), None).await;
        match answered.decision.verdict() {
            Verdict::Allow(_) => None,
            Verdict::Deny(denial) => Some(denial.reason()),
        }
    }

    /// Returns when no fetch is due any more.
    async fn settle(&self) {
        let (mut status, now) = (self.feeds.status(), self.time.now());
        let settled = status.wait_for(|all| all.values().all(|feed| feed.next.is_some_and(|next| next > now)));
        tokio::time::timeout(DEADLINE, settled).await.unwrap().unwrap();
    }
}

/// What came of all checks.
#[derive(Debug, Default)]
struct Tally {
    allowed: u64,
    denied: u64,
    wrong_allows: u64,
    /// Reasons by which somebody was denied who should have passed.
    wrong_denials: BTreeMap<Reason, u64>,
    /// When somebody was told to come back later who should have passed, in seconds.
    later: Vec<i64>,
}

impl Tally {
    async fn good(&mut self, replica: &Replica, token: &str, second: i64) {
        match replica.denies(token).await {
            None => self.allowed += 1,
            Some(Reason::KeysUnavailable) => self.later.push(second),
            Some(reason) => *self.wrong_denials.entry(reason).or_default() += 1,
        }
    }

    async fn bad(&mut self, replica: &Replica, token: &str) {
        match replica.denies(token).await {
            None => self.wrong_allows += 1,
            Some(_) => self.denied += 1,
        }
    }
}

/// Tokens that must never pass: expired, for others, without the role, of an unknown key, forged under a known one.
fn bad_tokens(watch: &Watch, issuer: &Issuer, forger: &Issuer, second: i64) -> [String; 5] {
    let at = watch.now();
    let real = issuer.token(&watch.claims(&json!({})));
    let forged = forger.token(&watch.claims(&json!({"iss": issuer.url(), "sub": format!("forged-{second}")})));
    let (header, rest) = real.split_once('.').unwrap();
    let (_, forged_rest) = forged.split_once('.').unwrap();
    assert_ne!(rest, forged_rest);
    [
        issuer.token(&watch.claims(&json!({"exp": at - 120, "iat": at - 600}))),
        issuer.token(&watch.claims(&json!({"aud": "other"}))),
        issuer.token(&watch.claims(&json!({"roles": ["writer"]}))),
        format!("{header}.{forged_rest}"),
        forged,
    ]
}

#[tokio::test] // K07, K08
async fn an_hour_without_the_issuer_and_new_keys_after_it_cost_no_wrong_answer() {
    let (issuer, forger, dir) = (issuer().await, issuer().await, TempDir::new());
    let watch = Watch::new();
    let folder = Arc::new(Folder::new(dir.path().join("kept")));
    let mut replicas =
        [Replica::start(&watch, &issuer, "", None).await, Replica::start(&watch, &issuer, "", Some(&folder)).await];
    written(&folder).await;
    let old: Vec<String> =
        (0..1_500).map(|number| issuer.token(&watch.claims(&json!({"sub": format!("u{number}")})))).collect();
    let (off, on, dropped, end) = (5 * MINUTE, 65 * MINUTE, 75 * MINUTE, 90 * MINUTE);
    let (mut tally, mut new) = (Tally::default(), String::new());
    for second in (0..end).step_by(2) {
        match second {
            _ if second == on => {
                issuer.behave(Behaviour::Normal);
                issuer.rotate();
                new = issuer.token(&watch.claims(&json!({})));
            }
            _ if second == dropped => issuer.drop_old_keys(),
            _ if (off..on).contains(&second) && (second - off) % (10 * MINUTE) == 0 => {
                let lies = [Behaviour::Garbage, Behaviour::Status(500), Behaviour::Huge, Behaviour::Status(200)];
                let lie = usize::try_from((second - off) / (10 * MINUTE)).unwrap();
                issuer.behave(lies.get(lie).copied().unwrap_or(Behaviour::Down));
            }
            // In the middle of it one replica is started anew: it has its keys from disk.
            _ if second == 35 * MINUTE => replicas[1] = Replica::start(&watch, &issuer, "", Some(&folder)).await,
            _ => {}
        }
        let number = usize::try_from(second).unwrap();
        for replica in &replicas {
            replica.settle().await;
            if second < dropped {
                // Those that are remembered, and now and then one that was never seen.
                tally.good(replica, &old[number % 10], second).await;
                tally.good(replica, &old[(number / 4) % 1_500], second).await;
            } else if second > dropped + REFRESH {
                tally.bad(replica, &old[number % 1_500]).await;
            }
            if second >= on {
                tally.good(replica, &new, second).await;
            }
            if second % 10 == 0 {
                for bad in bad_tokens(&watch, &issuer, &forger, second) {
                    tally.bad(replica, &bad).await;
                }
            }
        }
        watch.let_pass(2);
    }
    assert_eq!((tally.wrong_allows, &tally.wrong_denials), (0, &BTreeMap::new()), "{tally:?}");
    // A key that nobody could have fetched while the issuer was off is looked for once a cool-down: 503, not 401, until then.
    assert!(tally.later.iter().all(|second| (on..=on + COOLDOWN).contains(second)), "{tally:?}");
    assert!(tally.allowed > 9_000 && tally.denied > 5_000, "{tally:?}");
}

#[tokio::test] // K07
async fn keys_serve_to_the_end_of_max_stale_and_not_a_minute_longer() {
    let (issuer, dir) = (issuer().await, TempDir::new());
    let watch = Watch::new();
    let folder = Arc::new(Folder::new(dir.path().join("kept")));
    let more = ", refresh: 1m, max_stale: 30m";
    let replica = Replica::start(&watch, &issuer, more, Some(&folder)).await;
    written(&folder).await;
    let token = issuer.token(&watch.claims(&json!({})));
    issuer.behave(Behaviour::Down);
    for minute in 0..40 {
        replica.settle().await;
        // One that starts now has the same keys, and they are no younger for it.
        let started = Replica::start(&watch, &issuer, more, Some(&folder)).await;
        let expected = (minute > 30).then_some(Reason::KeysUnavailable);
        assert_eq!(replica.denies(&token).await, expected, "minute {minute}");
        assert_eq!(started.denies(&token).await, expected, "minute {minute}, from disk");
        for _ in 0..60 {
            replica.settle().await;
            watch.let_pass(1);
        }
    }
    issuer.behave(Behaviour::Normal);
    watch.let_pass(60);
    replica.settle().await;
    assert_eq!(replica.denies(&token).await, None);
}
