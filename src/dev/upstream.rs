//! The application behind the gateway, as a mirror: it answers every request with what arrived.

use std::io::Result;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::listen::{self, Bound, Listener};

/// An application over HTTP/1.1 and HTTP/2 that answers 200 with `{"method", "path", "headers": [[name, value], ...], "body_bytes"}`.
///
/// `path` is the target with its query, as received. Header names are lower-case and in order of first appearance, the lines of
/// one name together; a value has one character a byte. It stops when dropped.
#[derive(Debug)]
pub struct Upstream {
    listener: Listener,
    seen: Arc<AtomicU64>,
}

impl Upstream {
    /// Starts it on a loopback address; port 0 takes a free one.
    ///
    /// # Errors
    /// What binding says; an address that is not loopback.
    pub async fn start(at: SocketAddr) -> Result<Self> {
        let seen = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&seen);
        let listener = Bound::to(at).await?.serve(move |request| {
            count.fetch_add(1, Ordering::Relaxed);
            mirror(request)
        });
        Ok(Self { listener, seen })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// How many requests have reached it.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }
}

async fn mirror(request: Request<Incoming>) -> Option<Response<Full<Bytes>>> {
    let (head, mut body) = request.into_parts();
    let mut body_bytes = 0_usize;
    while let Some(frame) = body.frame().await {
        body_bytes = body_bytes.saturating_add(frame.ok()?.data_ref().map_or(0, Bytes::len));
    }
    let text = |value: &[u8]| value.iter().map(|&byte| char::from(byte)).collect::<String>();
    let headers: Vec<Value> =
        head.headers.iter().map(|(name, value)| json!([name.as_str(), text(value.as_bytes())])).collect();
    let path = head.uri.path_and_query().map_or_else(|| head.uri.to_string(), ToString::to_string);
    let seen = json!({"method": head.method.as_str(), "path": path, "headers": headers, "body_bytes": body_bytes});
    Some(listen::json(200, &seen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::wire::exchange;
    use std::time::Duration;

    const ANY: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

    #[tokio::test]
    async fn it_says_what_arrived_and_counts() {
        let upstream = Upstream::start(ANY.into()).await.unwrap();
        let request =
            b"POST /a//b?q=%2f HTTP/1.1\r\nHost: x\r\nX-B: 1\r\nX-A: caf\xe9\r\nX-B: 2\r\nContent-Length: 3\r\n\r\nabc";
        let answer = exchange(upstream.address(), request, Duration::from_secs(5)).await.unwrap();
        let said = answer.json().unwrap();
        assert_eq!(
            (&said["method"], &said["path"], &said["body_bytes"]),
            (&json!("POST"), &json!("/a//b?q=%2f"), &json!(3))
        );
        let headers = json!([["host", "x"], ["x-b", "1"], ["x-b", "2"], ["x-a", "caf\u{e9}"], ["content-length", "3"]]);
        assert_eq!(said["headers"], headers);
        assert_eq!(upstream.seen(), 1);
    }

    #[tokio::test]
    async fn it_stops_when_dropped() {
        let upstream = Upstream::start(ANY.into()).await.unwrap();
        let address = upstream.address();
        drop(upstream);
        // The abort takes effect at the task's next wake-up, which is soon but not now.
        tokio::time::timeout(Duration::from_secs(5), async {
            while tokio::net::TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn it_refuses_an_address_that_others_can_reach() {
        let refused = Upstream::start(([0, 0, 0, 0], 0).into()).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    }
}
