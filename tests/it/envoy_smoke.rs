//! The shipped Envoy configuration in a real Envoy, with nobody to ask: it refuses.

use std::path::Path;

use portcullis::dev::envoy::{self, Envoy};
use portcullis::dev::upstream::Upstream;
use portcullis::dev::wire::Connection;

use crate::support::{ANY_PORT, ask, deserted_address, envoy_program, start_envoy};

async fn envoy_without_portcullis(program: &Path) -> (Envoy, Upstream) {
    let upstream = Upstream::start(ANY_PORT).await.unwrap();
    let envoy = start_envoy(program, deserted_address(), upstream.address()).await;
    (envoy, upstream)
}

fn get(target: &str, more: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: shop.test:8000\r\nConnection: close\r\n{more}\r\n")
}

#[tokio::test]
async fn without_portcullis_nothing_passes() {
    let Some(program) = envoy_program() else { return };
    let (envoy, upstream) = envoy_without_portcullis(&program).await;
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for request in [
        get("/", ""),
        get("/health", ""),
        get("/any", "x-envoy-auth-failure-mode-allowed: true\r\n"),
        format!("GET /chat HTTP/1.1\r\nHost: shop.test\r\n{websocket}\r\n"),
    ] {
        assert_eq!(ask(envoy.address(), &request).await.status, 503, "{request}");
    }
    assert_eq!(upstream.seen(), 0);
}

#[tokio::test]
async fn a_refusal_does_not_open_the_connection_for_what_follows() {
    let Some(program) = envoy_program() else { return };
    let (envoy, upstream) = envoy_without_portcullis(&program).await;
    let mut connection = Connection::open(envoy.address()).await.unwrap();
    let post = "POST /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\n";
    connection.send(format!("{post}hello{post}world{}", get("/b", "")).as_bytes()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(connection.answer(false).await.unwrap().status, 503);
    }
    assert_eq!(upstream.seen(), 0);
}

#[tokio::test]
async fn what_servers_read_differently_is_refused_before_the_check() {
    let Some(program) = envoy_program() else { return };
    let (envoy, upstream) = envoy_without_portcullis(&program).await;
    for request in [
        get("/a%2Fb", ""),
        get("/a%5cb", ""),
        get("/a/..%2fb", ""),
        get("/a%00b", ""),
        get("/", "x_user_id: attacker\r\n"),
    ] {
        assert_eq!(ask(envoy.address(), &request).await.status, 400, "{request}");
    }
    assert_eq!(upstream.seen(), 0);
}

#[tokio::test]
async fn an_envoy_with_a_broken_configuration_says_why() {
    let Some(program) = envoy_program() else { return };
    let broken = envoy::TEMPLATE.replace("merge_slashes: true", "merge_slahses: true");
    let error = Envoy::start(&program, &broken).await.unwrap_err().to_string();
    assert!(error.contains("merge_slahses"), "{error}");
}

#[tokio::test]
async fn an_envoy_ends_with_its_owner() {
    let Some(program) = envoy_program() else { return };
    let (envoy, _upstream) = envoy_without_portcullis(&program).await;
    let (address, admin) = (envoy.address(), envoy.admin());
    drop(envoy);
    let closed = async {
        while tokio::net::TcpStream::connect(address).await.is_ok()
            || tokio::net::TcpStream::connect(admin).await.is_ok()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::support::DEADLINE, closed).await.unwrap();
}
