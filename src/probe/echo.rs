//! An upstream that answers with exactly what reached it, byte for byte: HTTP/1.1 read by hand, so that nothing is tidied up.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// The response header, and the member of the answer, that hold the id of this echo.
pub const MARK: &str = "portcullis-echo";
/// The response header that repeats the nonce of the request.
pub const MARK_FOR: &str = "portcullis-echo-for";
/// The request header that holds a nonce of 16 hexadecimal digits.
pub const NONCE: &str = "probe-nonce";
/// The request header that asks for the nonces that came so far, each with its method and target.
pub const RECENT: &str = "probe-recent";

/// No gateway passes on a larger head.
const MAX_HEAD: u64 = 1024 * 1024;
const MAX_BODY: u64 = 64 * 1024 * 1024;
const MAX_CONNECTIONS: usize = 256;
const MAX_RECENT: usize = 4096;
/// How many characters of a target are remembered.
const MAX_TOLD: usize = 256;
/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(60);

/// A running echo; it stops when dropped. It speaks HTTP/1.0 and HTTP/1.1, and answers 200 to every request with
/// `{"portcullis_echo", "method", "path", "version", "headers": [[name, value], …], "trailers", "body_bytes"}`.
///
/// `path` is the target as received. Each header line is there as it came: its case, its order, its duplicates; a line that
/// is no field (a folded one) has an empty name. Texts have one character a byte.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    task: AbortHandle,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    id: String,
    recent: Mutex<VecDeque<[String; 3]>>,
}

impl Echo {
    /// Starts it; port 0 takes a free one.
    ///
    /// # Errors
    /// What binding says.
    pub async fn start(at: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { id: random_id(), recent: Mutex::default() });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { address, task, shared })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it marks its answers with.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.shared.id
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// 16 hexadecimal digits that nobody guesses.
#[must_use]
pub fn random_id() -> String {
    let mut bytes = [0_u8; 8];
    // Where the system has no randomness nothing secret hangs on it: the id only tells answers apart.
    let _ = rand::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a text is what [`random_id`] makes.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Aborting this task drops the set, and with it every connection.
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: some come back when connections end.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let _permit = permit;
            let _ = stream.set_nodelay(true);
            // A connection that breaks concerns only its peer, who sees it.
            let _ = serve(stream, &shared).await;
        });
    }
}

/// A request as it came.
#[derive(Debug, Default)]
struct Received {
    method: String,
    target: String,
    version: String,
    headers: Vec<(String, String)>,
    trailers: Vec<(String, String)>,
    body_bytes: u64,
    /// Its length was said in two ways, so that nobody knows where the next request begins.
    doubtful: bool,
}

impl Received {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    fn nonce(&self) -> Option<&str> {
        self.header(NONCE).filter(|nonce| is_id(nonce))
    }

    fn closes(&self) -> bool {
        let asked = self.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("connection"));
        self.doubtful
            || self.version != "HTTP/1.1"
            || asked.flat_map(|(_, value)| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("close"))
    }
}

async fn serve(stream: TcpStream, shared: &Shared) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(received) = timeout(IDLE, receive(&mut stream)).await?? else { return Ok(()) };
        if let Some(nonce) = received.nonce() {
            let mut recent = shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
            let told: String = received.target.chars().take(MAX_TOLD).collect();
            recent.push_back([nonce.to_owned(), received.method.clone(), told]);
            if recent.len() > MAX_RECENT {
                recent.pop_front();
            }
        }
        let answer = answer(&received, shared);
        timeout(IDLE, stream.write_all(&answer)).await??;
        if received.closes() {
            return stream.shutdown().await;
        }
    }
}

fn answer(received: &Received, shared: &Shared) -> Vec<u8> {
    let lines = |lines: &[(String, String)]| -> Vec<Value> { lines.iter().map(|(n, v)| json!([n, v])).collect() };
    let mut body = json!({
        "portcullis_echo": shared.id,
        "method": received.method,
        "path": received.target,
        "version": received.version,
        "headers": lines(&received.headers),
        "trailers": lines(&received.trailers),
        "body_bytes": received.body_bytes,
    });
    if received.header(RECENT).is_some()
        && let Some(members) = body.as_object_mut()
    {
        let recent = shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
        members.insert("recent".into(), recent.iter().map(|row| json!(row)).collect());
    }
    let body = body.to_string();
    let nonce = received.nonce().map(|nonce| format!("{MARK_FOR}: {nonce}\r\n")).unwrap_or_default();
    let close = if received.closes() { "connection: close\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n\
         {MARK}: {}\r\n{nonce}{close}content-length: {}\r\n\r\n",
        shared.id,
        body.len()
    );
    let sent = if received.method == "HEAD" { String::new() } else { body };
    format!("{head}{sent}").into_bytes()
}

/// The next request; `None` where the peer is done.
async fn receive(stream: &mut BufReader<TcpStream>) -> Result<Option<Received>> {
    let mut left = MAX_HEAD;
    let Some(first) = line(stream, &mut left).await? else { return Ok(None) };
    let mut words = first.splitn(2, ' ');
    let method = words.next().unwrap_or_default().to_owned();
    let rest = words.next().unwrap_or_default();
    let (target, version) = rest.rsplit_once(' ').unwrap_or((rest, "HTTP/0.9"));
    if !version.starts_with("HTTP/1.") {
        return Err(Error::new(ErrorKind::InvalidData, "not HTTP/1"));
    }
    let mut received =
        Received { method, target: target.to_owned(), version: version.to_owned(), ..Received::default() };
    received.headers = fields(stream, &mut left).await?;
    body(stream, &mut received, &mut left).await?;
    Ok(Some(received))
}

async fn body(stream: &mut BufReader<TcpStream>, received: &mut Received, left: &mut u64) -> Result<()> {
    let of = |name: &str| received.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count();
    let (lengths, codings) = (of("content-length"), of("transfer-encoding"));
    received.doubtful = lengths.saturating_add(codings) > 1;
    let chunked = received
        .header("transfer-encoding")
        .is_some_and(|value| value.rsplit(',').next().is_some_and(|last| last.trim().eq_ignore_ascii_case("chunked")));
    let length = received.header("content-length").and_then(|text| text.trim().parse().ok());
    let waits = received.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
    if waits {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    if !chunked {
        return skip(stream, length.unwrap_or_default(), &mut received.body_bytes).await;
    }
    loop {
        let size = line(stream, left).await?.unwrap_or_default();
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| Error::new(ErrorKind::InvalidData, "no chunk size"))?;
        if size == 0 {
            received.trailers = fields(stream, left).await?;
            return Ok(());
        }
        skip(stream, size, &mut received.body_bytes).await?;
        line(stream, left).await?;
    }
}

async fn skip(stream: &mut BufReader<TcpStream>, size: u64, read: &mut u64) -> Result<()> {
    *read = read.saturating_add(size);
    if *read > MAX_BODY {
        return Err(Error::new(ErrorKind::InvalidData, "the body is too large"));
    }
    let skipped = tokio::io::copy(&mut stream.take(size), &mut tokio::io::sink()).await?;
    if skipped == size { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

/// Field lines up to the empty one.
async fn fields(stream: &mut BufReader<TcpStream>, left: &mut u64) -> Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = line(stream, left).await?.ok_or(ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(fields);
        }
        fields.push(match line.split_once(':') {
            Some((name, value)) if !line.starts_with([' ', '\t']) => {
                (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
            }
            _ => (String::new(), line),
        });
    }
}

/// A line without its end, one character a byte; `None` at the end of the stream.
async fn line(stream: &mut BufReader<TcpStream>, left: &mut u64) -> Result<Option<String>> {
    let mut line = Vec::new();
    let read = stream.take(*left).read_until(b'\n', &mut line).await?;
    *left = left.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
    match line.pop() {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(Error::new(ErrorKind::InvalidData, "the head is too large, or was cut short")),
    }
    line.pop_if(|last| *last == b'\r');
    Ok(Some(line.into_iter().map(char::from).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::wire::{Connection, exchange};

    const ANY: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn every_line_is_said_as_it_came() {
        let echo = Echo::start(ANY.into()).await.unwrap();
        let request = b"PoST /a/../b?q=%2F HTTP/1.1\r\nHost: x\r\nX-B: 1\r\nx_b:caf\xe9 \r\n folded: y\r\nX-B: 2\r\n\
                        Content-Length: 3\r\n\r\nabc";
        let answer = exchange(echo.address(), request, SOON).await.unwrap();
        let said = answer.json().unwrap();
        assert_eq!(
            (&said["method"], &said["path"], &said["body_bytes"]),
            (&json!("PoST"), &json!("/a/../b?q=%2F"), &json!(3))
        );
        let headers = json!([
            ["Host", "x"],
            ["X-B", "1"],
            ["x_b", "caf\u{e9}"],
            ["", " folded: y"],
            ["X-B", "2"],
            ["Content-Length", "3"]
        ]);
        assert_eq!(said["headers"], headers);
        assert_eq!((said["portcullis_echo"].as_str(), answer.header(MARK)), (Some(echo.id()), Some(echo.id())));
    }

    #[tokio::test]
    async fn it_knows_which_nonces_came_and_takes_nothing_else_for_one() {
        let echo = Echo::start(ANY.into()).await.unwrap();
        let get = |more: &str| format!("GET / HTTP/1.1\r\nHost: x\r\n{more}\r\n");
        let mut connection = Connection::open(echo.address()).await.unwrap();
        for nonce in ["00000000000000aa", "<script>", "00000000000000bb"] {
            connection.send(get(&format!("Probe-Nonce: {nonce}\r\n")).as_bytes()).await.unwrap();
            let answer = connection.answer(false).await.unwrap();
            assert_eq!(answer.header(MARK_FOR), Some(nonce).filter(|nonce| is_id(nonce)));
        }
        connection.send(get("Probe-Recent: 1\r\n").as_bytes()).await.unwrap();
        let said = connection.answer(false).await.unwrap().json().unwrap();
        let recent = json!([["00000000000000aa", "GET", "/"], ["00000000000000bb", "GET", "/"]]);
        assert_eq!(said["recent"], recent);
    }

    #[tokio::test]
    async fn chunks_and_trailers_are_read_and_a_head_has_no_body() {
        let echo = Echo::start(ANY.into()).await.unwrap();
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n";
        let said = exchange(echo.address(), chunked.as_bytes(), SOON).await.unwrap().json().unwrap();
        assert_eq!((&said["body_bytes"], &said["trailers"]), (&json!(3), &json!([["X-T", "1"]])));
        let head = exchange(echo.address(), b"HEAD / HTTP/1.1\r\n\r\n", SOON).await.unwrap();
        assert_eq!((head.body.len(), head.header(MARK)), (0, Some(echo.id())));
    }

    #[tokio::test]
    async fn what_is_too_large_or_no_http_gets_no_answer() {
        let echo = Echo::start(ANY.into()).await.unwrap();
        for request in [
            format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(2 * 1024 * 1024)),
            "PRI * HTTP/2.0\r\n\r\n".to_owned(),
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(),
            "POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n".to_owned(),
        ] {
            assert!(exchange(echo.address(), request.as_bytes(), SOON).await.is_err());
        }
    }
}
