//! Tokens that real OpenID providers gave by real grants, through the real Envoy and portcullis to an application.

mod dpop;
mod introspection;
mod keycloak;
mod oidc_provider;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::app::{self, Overrides, Running};
use portcullis::dev::envoy::Envoy;
use portcullis::dev::upstream::Upstream;
use portcullis::dev::wire::Answer;
use portcullis::feed::config::PolicyFile;
use portcullis::server::Endpoint;
use serde_json::Value;

use crate::edge::{get, shipped};
use crate::parts::oauth::Tokens;
use crate::support::{ANY_PORT, DEADLINE, TempDir, ask, start_envoy_with};

/// An Envoy, the portcullis that it asks, and a mirror behind it.
struct Edge {
    envoy: Envoy,
    upstream: Upstream,
    running: Running,
    _dir: TempDir,
}

impl Edge {
    async fn start(envoy: &Path, policy: &str) -> Self {
        Self::start_beside(envoy, policy, TempDir::new()).await
    }

    /// The same with a policy that names files of this folder.
    async fn start_beside(envoy: &Path, policy: &str, dir: TempDir) -> Self {
        let (file, compiled) = PolicyFile::open(dir.file("portcullis.yaml", policy)).unwrap();
        let listen = vec![Endpoint::Tcp(ANY_PORT)];
        let overrides = Overrides { listen, admin: Some(ANY_PORT), cores: Some(1), ..Overrides::default() };
        let running = app::start(file, compiled, &overrides).await.unwrap();
        running.feeds.attempted().await;
        let upstream = Upstream::start(ANY_PORT).await.unwrap();
        let envoy = start_envoy_with(envoy, &shipped(), running.grpc[0], upstream.address()).await;
        Self { envoy, upstream, running, _dir: dir }
    }

    async fn ask(&self, target: &str, headers: &str) -> Answer {
        ask(self.envoy.address(), get(target, headers)).await
    }

    /// The status that the caller gets and the reason that is counted for it; for one question at a time.
    async fn verdict(&self, target: &str, headers: &str) -> (u16, String) {
        let before = self.counted().await;
        let seen = self.upstream.seen();
        let status = self.ask(target, headers).await.status;
        assert_eq!(self.upstream.seen() > seen, status == 200, "{target}: what is denied does not get there");
        let after = self.counted().await;
        let mut new = after.into_iter().filter(|(reason, count)| before.get(reason) != Some(count));
        let (reason, _) = new.next().expect("it was counted");
        assert!(new.next().is_none(), "one question was counted more than once");
        (status, reason)
    }

    /// Counts of checks by reason; `""` of those allowed.
    async fn counted(&self) -> BTreeMap<String, u64> {
        let admin = self.running.admin;
        let metrics = ask(admin, format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(metrics.status, 200);
        let metrics = metrics.text();
        let lines = metrics.lines().filter(|line| line.starts_with("portcullis_checks_total{"));
        let counts = lines.map(|line| {
            let (_, rest) = line.split_once("reason=\"").unwrap();
            let (reason, rest) = rest.split_once('"').unwrap();
            (reason.to_owned(), rest.rsplit(' ').next().unwrap().parse().unwrap())
        });
        counts.collect()
    }

    /// Asks without end with good tokens and with one that is not; stops when the returned guard is ended.
    fn load(&self, target: &'static str, good: &Tokens, bad: &str) -> Load {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let lines = [(bearer(&good.access), 200), (bearer(bad), 401)];
        let tasks = lines.into_iter().map(|(line, expected)| {
            let (stop, answers, envoy) = (Arc::clone(&stop), Arc::clone(&answers), self.envoy.address());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(ask(envoy, get(target, &line)).await.status, expected, "{target}");
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        Load { tasks: tasks.collect(), stop, answers }
    }
}

/// Traffic in which no answer is wrong.
struct Load {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
}

impl Load {
    /// Waits for some more answers.
    async fn goes_on(&self) {
        let goal = self.answers.load(Ordering::Relaxed) + 20;
        let reached = async {
            while self.answers.load(Ordering::Relaxed) < goal {
                assert!(!self.tasks.iter().any(tokio::task::JoinHandle::is_finished), "an answer was wrong");
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, reached).await.unwrap();
    }

    async fn end(self) {
        self.goes_on().await;
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

fn denied(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_owned())
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// The token with another subject, under the signature that was for the first.
fn tampered(token: &str) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    claims["sub"] = "root".into();
    format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2])
}
