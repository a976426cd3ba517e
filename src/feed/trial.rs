//! For the tests of the feeds: a server that answers with canned bytes, and issuers that need no policy file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use url::Url;

use super::fetch::{Place, Source};
use crate::authz::algorithm::Algorithm;
use crate::authz::identity::ClaimPath;
use crate::authz::issuer::{IssuerPolicy, MayGrant};
use crate::authz::token::{Audience, TokenRules, TokenTypes};
use crate::dev::issuer::{Issuer, Settings};

/// Answers every connection with the same bytes. Stops when dropped.
pub(super) struct Canned {
    pub(super) url: Url,
    hits: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Canned {
    /// `pace` is how long each byte takes; zero sends all at once.
    pub(super) async fn start(answer: impl Into<Vec<u8>>, pace: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let (answer, hits): (Vec<u8>, _) = (answer.into(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&hits);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
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
    let place = Place::Discovery(Url::parse(issuer.url()).unwrap());
    Source { issuer: issuer.url().into(), place, allow_http: true }
}

/// What the policy says of an issuer of this name.
pub(super) fn policy(name: &str, iss: &str, cooldown: Duration) -> IssuerPolicy {
    IssuerPolicy {
        name: name.into(),
        tokens: TokenRules {
            issuer: iss.into(),
            audience: Audience { claim: ClaimPath::parse("aud").unwrap(), any_of: Box::new(["shop-api".into()]) },
            algorithms: [Algorithm::Es256].into_iter().collect(),
            types: TokenTypes::default(),
            leeway: Duration::from_secs(60),
            max_lifetime: None,
        },
        sources: Box::new([crate::authz::credential::Source::Bearer]),
        origins: Box::default(),
        roles: None,
        groups: None,
        scopes: ClaimPath::parse("scope").unwrap(),
        missing_is_empty: false,
        may_grant: MayGrant::Any,
        require: None,
        derived: Box::default(),
        subject_prefix: Box::default(),
        fed: true,
        cooldown,
        max_stale: Duration::from_secs(86_400),
        memory: 1 << 20,
        digest: [0; 32],
    }
}
