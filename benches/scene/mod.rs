//! The site of `bench/policy.yaml`, and a browser's request to it as Envoy 1.40.0 sent it, with tokens minted here.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use portcullis::authorizer::{Authorizer, Sealer};
use portcullis::authz::algorithm::Algorithm;
use portcullis::authz::decision::Verdict;
use portcullis::authz::decision_id::SealingKey;
use portcullis::authz::gateways::Dialect;
use portcullis::authz::request::{Asker, Header, Proof, Raw};
use portcullis::authz::snapshot::{Facts, Snapshot, Step};
use portcullis::clock::now;
use portcullis::config::compile::compile;
use portcullis::dev::mint::SigningKey;
use portcullis::gateway::envoy::pb::envoy::service::auth::v3::CheckRequest;
use portcullis::gateway::envoy::{self, pb};
use portcullis::live::Live;
use portcullis::observe::Recorder;
use portcullis::observe::audit::Audit;
use portcullis::observe::metrics::Metrics;
use prost::Message;
use serde_json::json;

const POLICY: &str = include_str!("../../bench/policy.yaml");
const CAPTURED: &[u8] = include_bytes!("../../tests/captures/get_jwt_browser.bin");
/// Who asks in every scene.
pub const ASKER: Asker = Asker::Tcp(IpAddr::V4(Ipv4Addr::LOCALHOST));
/// The algorithms that tokens are signed with.
pub const ALGORITHMS: [Algorithm; 3] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

/// A published policy.
pub struct Site(Arc<Live>);

impl Site {
    /// The site with so many routes. What it verified it remembers, or not.
    pub fn new(routes: usize, remembers: bool) -> Self {
        let more: String =
            (10..routes).map(|n| format!("  GET /bench/v{}/part{n}/{{id}}: signed-in\n", n % 100)).collect();
        let cache = if remembers { "64MiB" } else { "1KiB" };
        let text = format!("cache: {{tokens: {cache}}}\n{POLICY}{more}");
        let keys = ALGORITHMS.map(|algorithm| SigningKey::shared(algorithm).public_jwk(Some(algorithm.name())));
        let keys = json!({"keys": keys}).to_string();
        let (compiled, problems) = compile("policy.yaml", &text, &|_| Ok(keys.clone().into_bytes()));
        let compiled = compiled.unwrap_or_else(|| panic!("{problems:?}"));
        let (live, publisher, _) = Live::new();
        publisher.publish_policy(compiled.policy, compiled.fixed);
        Self(live)
    }

    /// What decides.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot().expect("published")
    }

    /// All that answers a check but the transport; its audit trail leads nowhere, and is written.
    pub fn authorizer(&self) -> Authorizer {
        let (audit, _) = Audit::start(std::io::sink()).expect("a thread");
        let sealer = Sealer::new(Arc::new(SealingKey::new(b"0123456789abcdef0123456789abcdef").expect("a key")), 1);
        Authorizer::new(
            Arc::clone(&self.0),
            Recorder::new(audit, Metrics::default().core()),
            sealer,
            portcullis::store::Store::memory(),
        )
    }
}

/// The captured check with a new token, or with none.
pub fn message(token: Option<Algorithm>) -> CheckRequest {
    let mut check = CheckRequest::decode(CAPTURED).expect("a message that Envoy sent");
    let headers = &mut http_of(&mut check).headers;
    match token {
        Some(algorithm) => {
            let line = headers.iter_mut().find(|line| line.key == "authorization").expect("a token");
            line.value = format!("Bearer {}", minted(algorithm)).into();
        }
        None => headers.retain(|line| line.key != "authorization"),
    }
    check
}

fn minted(algorithm: Algorithm) -> String {
    let at = now().as_millis() / 1_000;
    let claims = json!({
        "iss": "https://issuer.probe.test/", "aud": ["api.probe.test"], "sub": "user-1234",
        "iat": at, "nbf": at, "exp": at + 86_400, "scope": "openid profile read:items",
        "email": "alice@probe.test", "roles": ["dev", "premium"], "jti": "b7d0a1",
    });
    SigningKey::shared(algorithm).token(Some(algorithm.name()), &claims)
}

fn http_of(check: &mut CheckRequest) -> &mut pb::envoy::service::auth::v3::attribute_context::HttpRequest {
    let request = check.attributes.as_mut().and_then(|all| all.request.as_mut());
    request.and_then(|request| request.http.as_mut()).expect("an HTTP request")
}

/// The request in a check, as the core takes it.
pub fn raw(check: &CheckRequest) -> Raw<'_> {
    let request = check.attributes.as_ref().and_then(|all| all.request.as_ref());
    let http = request.and_then(|request| request.http.as_ref()).expect("an HTTP request");
    Raw {
        source: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ..Raw::new(
            Dialect::Envoy,
            ASKER,
            [&http.method, &http.path, &http.host],
            http.headers.iter().map(|line| Header { name: &line.key, value: &line.value }).collect(),
        )
    }
}

/// Reads and decides; whether it was an allow.
pub fn decide(snapshot: &Snapshot, raw: &Raw<'_>) -> bool {
    let request = snapshot.read(raw);
    match snapshot.decide(request.as_ref().map_err(|malformed| *malformed), &Facts::default(), now()) {
        Step::Decided(decision) => matches!(decision.verdict(), Verdict::Allow(_)),
        Step::Needs(_) => panic!("nothing is missing"),
    }
}

/// The whole way from a message to the framed answer.
pub fn check(authorizer: &Authorizer, message: &Bytes) -> Bytes {
    let answer = pin!(envoy::check(authorizer, ASKER, Proof::default(), Ok(message.clone()), None));
    match answer.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("nothing is missing"),
    }
}
