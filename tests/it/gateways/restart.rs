//! Portcullis ends and starts again while every gateway asks it.

use std::net::SocketAddr;

use portcullis::app::{self, Overrides, Running};
use portcullis::dev::upstream::Upstream;
use portcullis::dev::wire::exchange;
use portcullis::feed::config::PolicyFile;
use portcullis::server::Endpoint;
use serde_json::json;
use tokio::task::JoinSet;

use super::{Gateway, POLICY, seen};
use crate::edge::{self, get};
use crate::parts;
use crate::support::{ANY_PORT, DEADLINE, TempDir};

#[tokio::test]
async fn a_restart_under_load_lets_nothing_pass_undecided_and_needs_no_restart_of_the_gateway() {
    let issuer = edge::issuer().await;
    let premium = edge::bearer(&issuer, &json!({"sub": "u1", "roles": ["premium"]}));
    let dir = TempDir::new();
    let [grpc, http] = [parts::port(), parts::port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    dir.file("portcullis.yaml", POLICY.replace("ISSUER", issuer.url()).replace("LISTEN", &http.to_string()));
    let upstream = Upstream::start(ANY_PORT).await.unwrap();

    let running = serve(&dir, grpc).await;
    let mut doors = Vec::new();
    for gateway in Gateway::ALL {
        let at = if gateway == Gateway::EnvoyGrpc { grpc } else { http };
        doors.extend(gateway.start(at, upstream.address()).await);
    }
    let addresses: Vec<_> = doors.iter().map(|door| (door.gateway, door.address())).collect();
    let load = |passes: bool| until(addresses.clone(), premium.clone(), passes);

    let mut passed = load(true).await;
    let ((), during) = tokio::join!(running.drain(), load(false));
    passed += during;
    passed += load(false).await;
    let (running, after) = tokio::join!(serve(&dir, grpc), load(true));
    passed += after;
    // Each that passed was decided, and named.
    assert_eq!(upstream.seen(), passed);
    running.drain().await;
}

async fn serve(dir: &TempDir, grpc: SocketAddr) -> Running {
    let (file, compiled) = PolicyFile::open(dir.path().join("portcullis.yaml")).unwrap();
    let listen = vec![Endpoint::Tcp(grpc)];
    let overrides = Overrides { listen, admin: Some(ANY_PORT), cores: Some(1), ..Overrides::default() };
    let running = app::start(file, compiled, &overrides).await.unwrap();
    running.feeds.attempted().await;
    running
}

/// Asks all doors at once, each until somebody who may is let in, or is not; says how many were.
async fn until(doors: Vec<(Gateway, SocketAddr)>, premium: String, passes: bool) -> u64 {
    let mut asking = JoinSet::new();
    for (gateway, address) in doors {
        let premium = premium.clone();
        let asked = async move {
            let mut passed = 0;
            loop {
                let stranger = exchange(address, get("/secret-data", "").as_bytes(), DEADLINE).await;
                let refused = stranger.is_ok_and(|answer| answer.status == 401 || answer.status >= 500);
                assert!(refused, "{gateway:?}: a stranger");
                let known = exchange(address, get("/secret-data", &premium).as_bytes(), DEADLINE).await.unwrap();
                assert!(known.status == 200 || known.status >= 500, "{gateway:?}: {}", known.status);
                if known.status == 200 {
                    assert_eq!(seen(&known, "x-user-id"), ["u1"], "{gateway:?}");
                    passed += 1;
                }
                if (known.status == 200) == passes {
                    return passed;
                }
            }
        };
        asking.spawn(async move {
            tokio::time::timeout(DEADLINE, asked).await.unwrap_or_else(|_| panic!("{gateway:?}: not passes: {passes}"))
        });
    }
    asking.join_all().await.into_iter().sum()
}
