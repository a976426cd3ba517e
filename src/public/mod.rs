//! The public listener: what the world may ask portcullis itself. Plain HTTP/1.1, bounded in connections, size and time;
//! nothing but its few paths is answered.

pub mod keys;
pub mod logout;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// How many connections may be open at once; more are closed as they come.
const MAX_CONNECTIONS: usize = 256;
/// How long things may take.
const TIMES: Times = Times {
    head: Duration::from_secs(5),
    answer: Duration::from_secs(5),
    age: Duration::from_secs(60),
    grace: Duration::from_secs(5),
};
/// How large the head of a request may be, in bytes, and how many headers it may have.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// How large the body of a request may be, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// How long things may take.
#[derive(Clone, Copy)]
struct Times {
    /// For a peer to send the head of a request, the first one or the next.
    head: Duration,
    /// For an answer, the body of the request included.
    answer: Duration,
    /// Until a connection is asked to close.
    age: Duration,
    /// For what is in flight then.
    grace: Duration,
}

/// These paths, within the limits of this listener; everything else is 404.
fn bounded(paths: Router, times: Times) -> Router {
    paths
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(move |request, next| in_time(request, next, times.answer)))
}

/// Serves these paths until `stop` turns true; then lets what is in flight finish.
pub async fn serve(listener: TcpListener, paths: Router, stop: watch::Receiver<bool>) {
    serve_within(listener, paths, stop, TIMES).await;
}

async fn serve_within(listener: TcpListener, paths: Router, stop: watch::Receiver<bool>, times: Times) {
    let paths = bounded(paths, times);
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut stopped = stop.clone();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let Ok(place) = Arc::clone(&free).try_acquire_owned() else {
                    tracing::debug!("too many public connections are open; one was closed as it came");
                    continue;
                };
                let served = connection(stream, paths.clone(), stop.clone(), times);
                connections.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a public connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, paths: Router, mut stop: watch::Receiver<bool>, times: Times) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(times.head).max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let service = TowerToHyperService::new(paths);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // How a stranger's connection ends is nobody's concern.
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(times.age) => {}
        _ = stop.wait_for(|stopped| *stopped) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(times.grace, connection).await;
}

async fn in_time(request: Request, next: Next, most: Duration) -> Result<Response, Infallible> {
    let answer = tokio::time::timeout(most, next.run(request)).await;
    let mut answer = answer.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response());
    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::post;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::JoinHandle;

    use super::*;

    struct Running {
        address: SocketAddr,
        stop: watch::Sender<bool>,
        task: JoinHandle<()>,
    }

    async fn start() -> Running {
        start_within(TIMES).await
    }

    async fn start_within(times: Times) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let paths = Router::new().route("/echo", post(|body: String| async move { body }));
        Running { address, stop, task: tokio::spawn(serve_within(listener, paths, stopped, times)) }
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn request(path: &str, more: &str, body: &str) -> String {
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n{body}")
    }

    #[tokio::test]
    async fn only_its_paths_are_answered() {
        let running = start().await;
        let answer = ask(running.address, &request("/echo", "", "hello")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
        assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
        for path in ["/", "/metrics", "/readyz", "/echo/x", "/../echo"] {
            let answer = ask(running.address, &request(path, "", "")).await;
            assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        }
    }

    #[tokio::test] // D02
    async fn what_is_too_large_is_refused() {
        let running = start().await;
        let large = "a".repeat(MAX_BODY + 1);
        assert!(ask(running.address, &request("/echo", "", &large)).await.starts_with("HTTP/1.1 413"));
        let fits = "a".repeat(MAX_BODY);
        assert!(ask(running.address, &request("/echo", "", &fits)).await.starts_with("HTTP/1.1 200"));
        let long = format!("x-long: {}\r\n", "a".repeat(MAX_HEAD));
        assert!(ask(running.address, &request("/echo", &long, "")).await.starts_with("HTTP/1.1 431"));
        let many = "x-a: b\r\n".repeat(MAX_HEADERS + 1);
        assert!(ask(running.address, &request("/echo", &many, "")).await.starts_with("HTTP/1.1 431"));
    }

    #[tokio::test] // D03
    async fn a_connection_beyond_the_last_is_closed_and_one_that_ends_makes_place() {
        let running = start().await;
        let mut open = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut stream = TcpStream::connect(running.address).await.unwrap();
            // One that was answered is sure to have its place.
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            assert!(stream.read_u8().await.is_ok());
            open.push(stream);
        }
        assert_eq!(ask(running.address, "").await, "", "closed as it came");
        open.pop();
        loop {
            if ask(running.address, &request("/echo", "", "x")).await.ends_with('x') {
                break;
            }
        }
    }

    #[tokio::test]
    async fn it_stops_when_told_to_though_connections_are_open() {
        let running = start().await;
        let mut idle = TcpStream::connect(running.address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(idle.read_u8().await.is_ok());
        running.stop.send(true).unwrap();
        running.task.await.unwrap();
    }

    #[tokio::test] // D02
    async fn a_silent_or_slow_peer_is_closed_and_so_is_an_old_connection() {
        let short = Duration::from_millis(50);
        let running = start_within(Times { head: short, answer: short, ..TIMES }).await;
        let mut silent = TcpStream::connect(running.address).await.unwrap();
        silent.write_all(b"POST /echo HTTP/1.1\r\n").await.unwrap();
        let mut rest = Vec::new();
        silent.read_to_end(&mut rest).await.unwrap();
        let slow =
            ask(running.address, "POST /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhe");
        assert!(slow.await.starts_with("HTTP/1.1 408"));
        let running = start_within(Times { age: short, ..TIMES }).await;
        let mut idle = TcpStream::connect(running.address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(idle.read_to_end(&mut rest).await.is_ok(), "it ends though the peer keeps it open");
    }
}
