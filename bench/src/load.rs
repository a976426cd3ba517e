//! The load: raw HTTP/2, so that it costs less than what it measures. Every answer is read and verified.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Method, Request, StatusCode};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::traffic::Ask;

/// Why there is no measurement.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How many checks are under way at any time.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Connections.
    pub connections: usize,
    /// Streams on each of them.
    pub streams: usize,
}

/// What every answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// OK, with headers to set.
    Allow,
    /// Another status, with an answer for the caller.
    Deny,
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Checks answered in a second.
    pub rate: f64,
    /// The server's CPU time for one check.
    pub cpu: Duration,
    /// Half of the answers took no longer.
    pub p50: Duration,
    /// 99 of 100 answers took no longer.
    pub p99: Duration,
}

struct Shared {
    asks: Arc<[Ask]>,
    expected: Verdict,
    next: AtomicUsize,
    answered: AtomicUsize,
    recording: AtomicBool,
    ended: AtomicBool,
    /// Whether each check is asked once, and its answer must name whose token it was.
    once: bool,
}

impl Shared {
    fn new(asks: &Arc<[Ask]>, expected: Verdict, once: bool) -> Arc<Self> {
        Arc::new(Self {
            asks: Arc::clone(asks),
            expected,
            next: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            recording: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            once,
        })
    }

    fn next(&self) -> Option<&Ask> {
        if self.ended.load(Ordering::Relaxed) {
            return None;
        }
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        if self.once { self.asks.get(place) } else { self.asks.get(place % self.asks.len()) }
    }
}

/// Asks for a while and measures all but the first part of it. `cpu` tells how much CPU time the server has used.
pub async fn measure(
    address: SocketAddr,
    shape: Shape,
    asks: &Arc<[Ask]>,
    expected: Verdict,
    time: Duration,
    cpu: impl Fn() -> Duration,
) -> Result<Measured, Failure> {
    let shared = Shared::new(asks, expected, false);
    let mut streams = start(address, shape, &shared).await?;
    tokio::time::sleep(time / 5).await;
    let sample = || (Instant::now(), shared.answered.load(Ordering::Relaxed), cpu());
    let before = sample();
    shared.recording.store(true, Ordering::Relaxed);
    tokio::time::sleep(time).await;
    let after = sample();
    shared.ended.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    while let Some(ended) = streams.join_next().await {
        times.extend(ended??);
    }
    times.sort_unstable();
    let answered = after.1 - before.1;
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    Ok(Measured {
        rate: answered as f64 / (after.0 - before.0).as_secs_f64(),
        cpu: (after.2 - before.2) / u32::try_from(answered.max(1))?,
        p50: at(50),
        p99: at(99),
    })
}

/// Asks each check once; an answer must hold the subject of the token that was sent.
pub async fn each(address: SocketAddr, asks: &Arc<[Ask]>, expected: Verdict) -> Result<(), Failure> {
    let shared = Shared::new(asks, expected, true);
    let mut streams = start(address, Shape { connections: 4, streams: 8 }, &shared).await?;
    while let Some(ended) = streams.join_next().await {
        ended??;
    }
    Ok(())
}

/// Tries until there is a first answer.
pub async fn first(address: SocketAddr, ask: &Ask, expected: Verdict) -> Result<(), Failure> {
    let asks: Arc<[Ask]> = Arc::new([Ask { subject: None, ..ask.clone() }]);
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        let shared = Shared::new(&asks, expected, true);
        match start(address, Shape { connections: 1, streams: 1 }, &shared).await {
            Ok(mut streams) => {
                while let Some(ended) = streams.join_next().await {
                    ended??;
                }
                return Ok(());
            }
            Err(error) if Instant::now() > patience => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_micros(200)).await,
        }
    }
}

async fn start(
    address: SocketAddr,
    shape: Shape,
    shared: &Arc<Shared>,
) -> Result<JoinSet<Result<Vec<Duration>, Failure>>, Failure> {
    let mut streams = JoinSet::new();
    for _ in 0..shape.connections {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake::<_, Bytes>(socket)
            .await?;
        // It ends with its last stream, or each of its streams fails.
        tokio::spawn(connection);
        for _ in 0..shape.streams {
            streams.spawn(stream(address, send.clone(), Arc::clone(shared)));
        }
    }
    Ok(streams)
}

async fn stream(
    address: SocketAddr,
    mut send: SendRequest<Bytes>,
    shared: Arc<Shared>,
) -> Result<Vec<Duration>, Failure> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{address}/envoy.service.auth.v3.Authorization/Check"))
        .header("te", "trailers")
        .header("grpc-timeout", "200m")
        .header("content-type", "application/grpc")
        .body(())?;
    let mut times = Vec::new();
    while let Some(ask) = shared.next() {
        let began = Instant::now();
        send = send.ready().await?;
        let answer = answer(&mut send, request.clone(), ask.frame.clone()).await?;
        if shared.recording.load(Ordering::Relaxed) {
            times.push(began.elapsed());
        }
        shared.answered.fetch_add(1, Ordering::Relaxed);
        let verdict = verdict(&answer);
        if verdict != Some(shared.expected) {
            return Err(format!("{:?} was expected, the answer is {verdict:?}: {answer:02x?}", shared.expected).into());
        }
        let named = |subject: &[u8]| answer.windows(subject.len()).any(|part| part == subject);
        if shared.once && ask.subject.as_ref().is_some_and(|subject| !named(subject)) {
            return Err("an answer speaks of someone else".into());
        }
    }
    Ok(times)
}

async fn answer(send: &mut SendRequest<Bytes>, request: Request<()>, frame: Bytes) -> Result<Bytes, Failure> {
    let (response, mut body) = send.send_request(request, false)?;
    body.send_data(frame, true)?;
    let response = response.await?;
    if response.status() != StatusCode::OK {
        return Err("not an HTTP 200".into());
    }
    let mut body = response.into_body();
    let mut answer = Bytes::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        answer = if answer.is_empty() { piece } else { BytesMut::from_iter(answer.iter().chain(&piece)).freeze() };
    }
    let status = body.trailers().await?.and_then(|trailers| trailers.get("grpc-status").cloned());
    if status.is_none_or(|status| status != "0") {
        return Err("not a grpc-status of 0".into());
    }
    Ok(answer)
}

/// Reads a framed `CheckResponse`: the status first, then the answer that goes with it.
fn verdict(frame: &[u8]) -> Option<Verdict> {
    match frame.get(5..)? {
        [0x0a, 0, 0x1a, ..] => Some(Verdict::Allow),
        [0x0a, 2, 0x08, 1..=16, 0x12, ..] => Some(Verdict::Deny),
        _ => None,
    }
}
