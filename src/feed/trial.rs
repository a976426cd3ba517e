//! For the tests of the feeds: a server that answers with canned bytes, and policies with issuers in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use url::Url;

use super::fetch::Source;
use crate::authz::algorithm::Algorithm;
use crate::config::{self, Compiled, KeySource};
use crate::dev::issuer::{Issuer, Settings};

/// Answers connections with canned bytes. Stops when dropped.
pub(super) struct Canned {
    pub(super) url: Url,
    hits: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Canned {
    /// The first connection gets the first of these bodies, the second the second; the last one is for all that follow.
    pub(super) async fn one_by_one(bodies: &[&str]) -> Self {
        Self::serve(bodies.iter().map(|body| ok(body).into_bytes()).collect(), Duration::ZERO).await
    }

    /// `pace` is how long each byte takes; zero sends all at once.
    pub(super) async fn start(answer: impl Into<Vec<u8>>, pace: Duration) -> Self {
        Self::serve(vec![answer.into()], pace).await
    }

    async fn serve(answers: Vec<Vec<u8>>, pace: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let hits = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&hits);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let before = usize::try_from(counted.fetch_add(1, Ordering::SeqCst)).unwrap();
                let answer = answers.get(before).or(answers.last()).unwrap().clone();
                tokio::spawn(async move {
                    let _ = stream.read(&mut [0; 4_096]).await;
                    let step = if pace.is_zero() { answer.len().max(1) } else { 1 };
                    for piece in answer.chunks(step) {
                        tokio::time::sleep(pace).await;
                        if stream.write_all(piece).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, hits, task: task.abort_handle() }
    }

    /// 200 with this body.
    pub(super) async fn body(body: &str) -> Self {
        Self::start(ok(body), Duration::ZERO).await
    }

    pub(super) fn hits(&self) -> u64 {
        self.hits.load(Ordering::SeqCst)
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A response of 200 with this body.
pub(super) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// An issuer in this process that keeps replaced keys.
pub(super) async fn issuer() -> Issuer {
    let settings =
        Settings { audience: "shop-api".into(), algorithm: Algorithm::Es256, keep_old: Duration::from_secs(60) };
    Issuer::start(([127, 0, 0, 1], 0).into(), settings).await.unwrap()
}

/// Discovery at this issuer.
pub(super) fn discovery(issuer: &Issuer) -> Source {
    Source { issuer: issuer.url().into(), from: KeySource::Discovery(issuer.url().into()), allow_http: true, ca: None }
}

/// A policy with an issuer of each of these names, sources and further settings.
pub(super) fn compiled(issuers: &[(&str, &Source, &str)]) -> Compiled {
    let mut text = String::from("routes:\n  GET /: signed-in\nissuers:\n");
    for (name, Source { issuer, from, allow_http, ca: _ }, more) in issuers {
        let (key, url) = match from {
            KeySource::Discovery(url) => ("url", url),
            KeySource::Jwks(url) => ("jwks", url),
            KeySource::Pem(url) => ("pem", url),
        };
        let line = format!(
            "  {name}: {{{key}: \"{url}\", issuer: \"{issuer}\", allow_http: {allow_http}, audience: shop-api, default: true, may_grant: any, {more}}}\n"
        );
        text.push_str(&line);
    }
    let (compiled, problems) = config::compile("portcullis.yaml", &text, &|_| Err(std::io::ErrorKind::NotFound.into()));
    compiled.unwrap_or_else(|| panic!("{problems}"))
}

/// A folder of a test's own, removed when dropped.
pub(super) struct Scratch(pub(super) std::path::PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("portcullis-feed-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
