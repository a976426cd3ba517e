//! What is lost while the gateway is in use: callers, the issuer, its keys, and portcullis itself. Nothing wrong passes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use portcullis::dev::issuer::Behaviour;
use portcullis::dev::upstream::Upstream;
use portcullis::dev::wire::Connection;
use serde_json::json;
use tokio::process::Command;

use crate::edge::{POLICY, Portcullis, Site, bearer, failing_open, get, issuer, shipped};
use crate::support::{ANY_PORT, DEADLINE, Process, TempDir, ask, deserted_address, envoy_program, start_envoy_with};

#[tokio::test]
async fn callers_who_leave_in_the_middle_of_a_check_leave_nothing_behind() {
    let Some(program) = envoy_program() else { return };
    let site = Site::start(&program, &failing_open()).await;
    let issuer = &site.portcullis.issuer;
    issuer.behave(Behaviour::Slow(Duration::from_millis(100)));
    let mut status = site.portcullis.running.feeds.status();
    let mut fetches = status.borrow()["main"].fetches;
    for _ in 0..3 {
        let before = issuer.fetches().discovery;
        issuer.rotate();
        let mut leaving = Connection::open(site.envoy.address()).await.unwrap();
        leaving.send(get("/secret-data", &site.portcullis.premium()).as_bytes()).await.unwrap();
        let asked = async {
            while issuer.fetches().discovery == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, asked).await.unwrap();
        drop(leaving);
        // The fetch goes on for the next caller.
        let fetched = status.wait_for(|statuses| statuses.values().all(|status| status.fetches > fetches));
        fetches = tokio::time::timeout(DEADLINE, fetched).await.unwrap().unwrap()["main"].fetches;
    }
    issuer.behave(Behaviour::Normal);
    let mut allowed = 0;
    let back = async {
        while site.ask(get("/secret-data", &site.portcullis.premium())).await.status != 200 {}
        allowed += 1;
    };
    tokio::time::timeout(DEADLINE, back).await.unwrap();
    assert_eq!(site.ask(get("/secret-data", "")).await.status, 401);
    assert_eq!(site.upstream.seen(), allowed);
}

#[tokio::test] // K04, K07
async fn an_issuer_that_is_down_or_talks_nonsense_opens_no_door() {
    let Some(program) = envoy_program() else { return };
    let issuer = issuer().await;
    issuer.behave(Behaviour::Down);
    let portcullis = Portcullis::behind(issuer).await;
    let upstream = Upstream::start(ANY_PORT).await.unwrap();
    let envoy = start_envoy_with(&program, &failing_open(), portcullis.running.grpc[0], upstream.address()).await;
    for behaviour in [
        Behaviour::Down,
        Behaviour::Garbage,
        Behaviour::Huge,
        Behaviour::Status(500),
        Behaviour::Status(200),
        Behaviour::Slow(Duration::from_secs(2)),
    ] {
        portcullis.issuer.behave(behaviour);
        let answer = ask(envoy.address(), get("/secret-data", &portcullis.premium())).await;
        assert_eq!((answer.status, answer.json().unwrap()["status"].as_u64()), (503, Some(503)), "{behaviour:?}");
        assert_eq!(ask(envoy.address(), get("/secret-data", "")).await.status, 401, "{behaviour:?}");
    }
    assert_eq!(upstream.seen(), 0);
    assert_eq!(ask(envoy.address(), get("/health", "")).await.status, 200);
    portcullis.issuer.behave(Behaviour::Normal);
    let back = async { while ask(envoy.address(), get("/secret-data", &portcullis.premium())).await.status != 200 {} };
    tokio::time::timeout(DEADLINE, back).await.unwrap();

    // Down again: what is known stays known.
    portcullis.issuer.behave(Behaviour::Down);
    assert_eq!(ask(envoy.address(), get("/secret-data", &portcullis.premium())).await.status, 200);
    portcullis.issuer.rotate();
    assert_eq!(ask(envoy.address(), get("/secret-data", &portcullis.premium())).await.status, 503);
}

#[tokio::test] // K08
async fn keys_rotate_while_traffic_flows_and_nobody_is_refused() {
    let Some(program) = envoy_program() else { return };
    let site = Site::start(&program, &shipped()).await;
    let first = site.portcullis.premium();
    for _ in 0..5 {
        let old = site.portcullis.premium();
        site.portcullis.issuer.rotate();
        let new = site.portcullis.premium();
        let (a, b, c, d) = tokio::join!(
            site.ask(get("/secret-data", &old)),
            site.ask(get("/secret-data", &new)),
            site.ask(get("/secret-data", &new)),
            site.ask(get("/secret-data", &first)),
        );
        assert_eq!([a.status, b.status, c.status, d.status], [200; 4]);
    }
    site.portcullis.issuer.drop_old_keys();
    let dropped = async {
        while site.ask(get("/secret-data", &first)).await.status != 401 {
            // A token of an unknown key has the key set fetched again, in which the dropped key is no more.
            site.portcullis.issuer.rotate();
            site.portcullis.issuer.drop_old_keys();
            site.ask(get("/secret-data", &site.portcullis.premium())).await;
        }
    };
    tokio::time::timeout(DEADLINE, dropped).await.unwrap();
}

/// Asks without end and counts the answers.
struct Load {
    stop: Arc<AtomicBool>,
    allowed: Arc<AtomicUsize>,
    down: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(envoy: SocketAddr, premium: &str) -> Self {
        let (stop, allowed, down) = <(Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let tasks = (0..4).map(|task| {
            let (stop, allowed, down) = (Arc::clone(&stop), Arc::clone(&allowed), Arc::clone(&down));
            let good = task % 2 == 0;
            let raw = get("/secret-data", if good { premium } else { "" });
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match ask(envoy, &raw).await.status {
                        200 if good => _ = allowed.fetch_add(1, Ordering::Relaxed),
                        503 => _ = down.fetch_add(1, Ordering::Relaxed),
                        401 if !good => {}
                        status => panic!("{status}, with a good token: {good}"),
                    }
                }
            })
        });
        let tasks = tasks.collect();
        Self { stop, allowed, down, tasks }
    }

    /// Waits for so many more.
    async fn more(&self, counter: &AtomicUsize) {
        let goal = counter.load(Ordering::Relaxed) + 20;
        let reached = async {
            while counter.load(Ordering::Relaxed) < goal {
                assert!(!self.tasks.iter().any(tokio::task::JoinHandle::is_finished), "an answer was wrong");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, reached).await.unwrap();
    }

    /// How many were allowed.
    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.allowed.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_portcullis_killed_under_load_and_started_again_lets_nothing_wrong_pass() {
    let Some(program) = envoy_program() else { return };
    let (issuer, dir, grpc) = (issuer().await, TempDir::new(), deserted_address());
    let policy = dir.file("portcullis.yaml", POLICY.replace("ISSUER", issuer.url()));
    let serve = || {
        let mut serve = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        serve.arg("serve").arg("-c").arg(&policy).args(["--listen", &grpc.to_string(), "--admin", "127.0.0.1:0"]);
        Process::start(&mut serve)
    };
    let mut portcullis = serve();
    portcullis.line_with("answering gateways").await;
    let upstream = Upstream::start(ANY_PORT).await.unwrap();
    let envoy = start_envoy_with(&program, &shipped(), grpc, upstream.address()).await;
    let premium = bearer(&issuer, &json!({"sub": "u1", "roles": ["premium"]}));
    let load = Load::start(envoy.address(), &premium);
    for _ in 0..2 {
        load.more(&load.allowed).await;
        portcullis.signal("KILL");
        portcullis.ended().await;
        load.more(&load.down).await;
        portcullis = serve();
    }
    load.more(&load.allowed).await;
    // Each that reached the application is one that was answered with 200, and those had a good token.
    let allowed = load.end().await;
    assert_eq!(upstream.seen(), u64::try_from(allowed).unwrap());
}
