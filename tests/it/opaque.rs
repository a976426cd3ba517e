//! Opaque tokens end to end: a caller, the real Envoy, portcullis, and an introspection endpoint that can be told to fail.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use portcullis::dev::upstream::Upstream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::edge::{Portcullis, Site, failing_open, get, issuer, seen};
use crate::support::{ANY_PORT, DEADLINE, Process, TempDir, ask, envoy_program, start_envoy_with};

const POLICY: &str = "
issuers:
  main: {url: ISSUER, allow_http: true, audience: shop-api, roles: roles, default: true, may_grant: any}
  legacy:
    issuer: https://legacy.test
    allow_http: true
    introspection: {url: 'http://ENDPOINT/introspect', client_id: edge, client_secret: 'file:secret', cache: 1h}
    audience: shop-api
    roles: roles
    default: true
    may_grant: [premium]
    subject_prefix: 'legacy:'
headers: {X-User-ID: sub, X-User-Roles: roles}
routes:
  GET /health: public
  /secret-data: role:premium
";

/// An introspection endpoint.
struct Endpoint {
    address: SocketAddr,
    tokens: Arc<Mutex<HashMap<String, Value>>>,
    down: Arc<Mutex<bool>>,
    asks: Arc<AtomicUsize>,
}

impl Endpoint {
    async fn start() -> Self {
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = Self { address, tokens: Arc::default(), down: Arc::default(), asks: Arc::default() };
        let (tokens, down, asks) =
            (Arc::clone(&endpoint.tokens), Arc::clone(&endpoint.down), Arc::clone(&endpoint.asks));
        let router = axum::Router::new().fallback(move |request: Request| {
            asks.fetch_add(1, Ordering::SeqCst);
            let (tokens, down) = (Arc::clone(&tokens), *down.lock().unwrap());
            async move {
                let client = request.headers().get("authorization").cloned();
                let body = axum::body::to_bytes(request.into_body(), 65_536).await.unwrap();
                let form: HashMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
                let known = client.is_some_and(|client| client == "Basic ZWRnZTpwbGFudGVkLXNlY3JldA==");
                let status = if down {
                    503
                } else if known {
                    200
                } else {
                    401
                };
                let answer = tokens.lock().unwrap().get(&form["token"]).cloned();
                let answer = answer.unwrap_or_else(|| json!({"active": false})).to_string();
                let response = Response::builder().status(status).header("content-type", "application/json");
                response.body(Body::from(answer)).unwrap()
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        endpoint
    }

    fn know(&self, token: &str, answer: Value) {
        self.tokens.lock().unwrap().insert(token.into(), answer);
    }

    fn asks(&self) -> usize {
        self.asks.load(Ordering::SeqCst)
    }

    fn policy(&self, dir: &TempDir) -> String {
        let secret = dir.file("secret", "planted-secret\n");
        POLICY
            .replace("ENDPOINT", &self.address.to_string())
            .replace("file:secret", &format!("file:{}", secret.display()))
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[tokio::test] // J29
async fn an_opaque_token_passes_the_real_gateway_as_whom_its_issuer_names() {
    let Some(program) = envoy_program() else { return };
    let (endpoint, dir) = (Endpoint::start().await, TempDir::new());
    let portcullis = Portcullis::with(issuer().await, &endpoint.policy(&dir)).await;
    let site = Site::of(portcullis, &program, &failing_open()).await;
    let secret = async |token: &str| site.ask(get("/secret-data", &bearer(token))).await;
    // An ask may take longer than a check may wait on a machine that compiles; it goes on, and the next check finds it.
    let patient = async |token: &str| {
        let answered = async {
            loop {
                let answer = secret(token).await;
                if answer.status != 503 {
                    return answer;
                }
            }
        };
        tokio::time::timeout(DEADLINE, answered).await.unwrap()
    };
    let answer = |sub: &str| json!({"active": true, "sub": sub, "aud": "shop-api", "roles": ["premium", "admin"]});
    endpoint.know("2YotnFZFEjr1zCsicMWpAA", answer("u1"));
    endpoint.know("poor", json!({"active": true, "sub": "u2", "aud": "shop-api", "roles": ["basic"]}));
    endpoint.know("text", json!({"active": "true", "sub": "u1", "aud": "shop-api", "roles": ["premium"]}));

    let passed = patient("2YotnFZFEjr1zCsicMWpAA").await;
    assert_eq!(passed.status, 200);
    assert_eq!(seen(&passed, "x-user-id"), ["legacy:u1"]);
    assert_eq!(seen(&passed, "x-user-roles"), [r#"["premium"]"#]);
    assert_eq!(secret("2YotnFZFEjr1zCsicMWpAA").await.status, 200);
    assert_eq!(endpoint.asks(), 1, "it is remembered");

    assert_eq!(patient("poor").await.status, 403);
    assert_eq!(patient("unknown").await.status, 401);
    assert_eq!(secret("text").await.status, 503);
    assert_eq!(site.ask(get("/secret-data", "")).await.status, 401);
    // A JWT is verified where it can be, and shown to nobody.
    let asks = endpoint.asks();
    assert_eq!(site.ask(get("/secret-data", &site.portcullis.premium())).await.status, 200);
    assert_eq!(secret("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2V2aWwudGVzdCJ9.c2ln").await.status, 401);
    assert_eq!(endpoint.asks(), asks);

    *endpoint.down.lock().unwrap() = true;
    endpoint.know("late", answer("u3"));
    assert_eq!(secret("late").await.status, 503);
    assert_eq!(secret("2YotnFZFEjr1zCsicMWpAA").await.status, 200);
    assert_eq!(site.ask(get("/health", "")).await.status, 200);
    *endpoint.down.lock().unwrap() = false;
    assert_eq!(patient("late").await.status, 200);
    assert_eq!(site.upstream.seen(), 6);
}

#[tokio::test]
async fn no_token_and_no_client_secret_is_in_any_log_or_metric() {
    let Some(program) = envoy_program() else { return };
    let (endpoint, dir) = (Endpoint::start().await, TempDir::new());
    let provider = issuer().await;
    endpoint.know(
        "planted-good",
        json!({"active": true, "sub": "u1", "aud": "shop-api", "roles": ["premium"], "x": "planted-claim"}),
    );
    endpoint.know("planted-bad", json!({"active": "planted-answer"}));
    let policy = dir.file("portcullis.yaml", endpoint.policy(&dir).replace("ISSUER", provider.url()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "-c"]).arg(policy);
    command.env("PORTCULLIS_LOG", "trace");
    let mut process = Process::start(&mut command);
    let address = |line: String| -> SocketAddr {
        let line: Value = serde_json::from_str(&line).unwrap();
        line["address"].as_str().unwrap().parse().unwrap()
    };
    let admin = address(process.line_with("health and metrics").await);
    let grpc = process.log().lines().find(|line| line.contains("answering gateways")).map(|line| address(line.into()));
    let grpc = grpc.unwrap_or_else(|| panic!("{}", process.log()));
    let upstream = Upstream::start(ANY_PORT).await.unwrap();
    let envoy = start_envoy_with(&program, &failing_open(), grpc, upstream.address()).await;
    let until = async |token: &str, status: u16| {
        let answered =
            async { while ask(envoy.address(), get("/secret-data", &bearer(token))).await.status != status {} };
        tokio::time::timeout(DEADLINE, answered).await.unwrap();
    };
    for (token, status) in
        [("planted-good", 200), ("planted-bad", 503), ("planted-unknown", 401), ("planted-good", 200)]
    {
        until(token, status).await;
    }
    *endpoint.down.lock().unwrap() = true;
    until("planted-down", 503).await;
    let lines = [
        r#"portcullis_introspections_total{issuer="legacy",outcome="active"} 1"#,
        r#"portcullis_introspections_total{issuer="legacy",outcome="inactive"} 1"#,
        r#"portcullis_introspections_total{issuer="legacy",outcome="failed"} 2"#,
        r#"portcullis_introspection_hits_total{issuer="legacy"} "#,
    ];
    let counted = async {
        loop {
            let scraped = ask(admin, "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
            let scraped = String::from_utf8(scraped.body).unwrap();
            if lines.iter().all(|line| scraped.contains(line)) {
                return scraped;
            }
        }
    };
    let scraped = tokio::time::timeout(DEADLINE, counted).await.unwrap();
    process.signal("TERM");
    tokio::time::timeout(DEADLINE, process.ended()).await.unwrap();
    let log = process.log();
    assert!(log.contains("could not be asked about a token"), "{log}");
    for text in [&log, &scraped] {
        assert!(!text.contains("planted") && !text.contains("ZWRnZTpwbGFudGVkLXNlY3JldA"), "{text}");
    }
}
