//! Without an answer of portcullis nothing passes, whatever the gateway.

use portcullis::dev::upstream::Upstream;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::Gateway;
use crate::edge::{get, request, upgrade};
use crate::support::{ANY_PORT, DEADLINE, deserted_address};

#[tokio::test]
async fn a_gateway_that_cannot_reach_portcullis_lets_nothing_pass() {
    for gateway in Gateway::ALL {
        let upstream = Upstream::start(ANY_PORT).await.unwrap();
        let Some(door) = gateway.start(deserted_address(), upstream.address()).await else { continue };
        let status = if gateway == Gateway::Caddy { 502 } else { 503 };
        let posted = format!("{}hello", request("POST", "/a", "Content-Length: 5\r\n"));
        for raw in [get("/", ""), get("/a?b", ""), posted, upgrade("/chat", "Connection: close\r\n")] {
            assert_eq!(door.ask(&raw).await.status, status, "{gateway:?}: {raw}");
        }
        assert_eq!(upstream.seen(), 0, "{gateway:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_short_or_no_http_lets_nothing_pass() {
    for reply in ["", "yes\r\n\r\n", "HTTP/1.1 ", "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"] {
        for gateway in Gateway::ALL.into_iter().filter(|gateway| *gateway != Gateway::EnvoyGrpc) {
            let listener = TcpListener::bind(ANY_PORT).await.unwrap();
            let address = listener.local_addr().unwrap();
            let answering = tokio::spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    // Whoever has asked and gone is not told.
                    let _ = stream.write_all(reply.as_bytes()).await;
                    let _ = stream.shutdown().await;
                }
            });
            let upstream = Upstream::start(ANY_PORT).await.unwrap();
            let Some(door) = gateway.start(address, upstream.address()).await else { continue };
            let answer = door.ask(get("/", "")).await;
            assert!(answer.status >= 500, "{gateway:?} {reply:?}: {}", answer.status);
            assert_eq!(upstream.seen(), 0, "{gateway:?}");
            answering.abort();
        }
    }
}

#[tokio::test]
async fn a_portcullis_that_is_silent_is_waited_for_as_long_as_the_file_says() {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            kept.push(listener.accept().await.unwrap());
        }
    });
    let upstream = Upstream::start(ANY_PORT).await.unwrap();
    for gateway in Gateway::ALL {
        let Some(door) = gateway.start_with(gateway.shipped(), address, upstream.address()).await else { continue };
        let asked = Instant::now();
        let status = if gateway == Gateway::Caddy { 504 } else { 503 };
        assert_eq!(door.ask(get("/", "")).await.status, status, "{gateway:?}");
        assert!(asked.elapsed() < DEADLINE / 3, "{gateway:?}: {:?}", asked.elapsed());
    }
    assert_eq!(upstream.seen(), 0);
    silent.abort();
}

/// Envoy, nginx and Caddy believe a status; HAProxy's action asks for the decision as well.
#[tokio::test]
async fn haproxy_takes_no_yes_of_a_server_that_is_not_portcullis() {
    let somebody = Upstream::start(ANY_PORT).await.unwrap();
    let upstream = Upstream::start(ANY_PORT).await.unwrap();
    let Some(door) = Gateway::Haproxy.start(somebody.address(), upstream.address()).await else { return };
    assert_eq!(door.ask(get("/", "")).await.status, 503);
    assert_eq!((somebody.seen(), upstream.seen()), (1, 0));
}
