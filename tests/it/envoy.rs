//! The real Envoy with the shipped file, asking the real portcullis: what callers get, and what the application sees.
//!
//! Everything is asked of the shipped file and of the same with `failure_mode_allow: true`, where an answer of ours that
//! Envoy took for an error would be an open door.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use portcullis::app::{self, Overrides, Running};
use portcullis::authz::algorithm::Algorithm;
use portcullis::dev::envoy::{self, Envoy, Ports};
use portcullis::dev::issuer::{Behaviour, Issuer, Settings};
use portcullis::dev::upstream::Upstream;
use portcullis::dev::wire::{Answer, Connection, exchange};
use portcullis::feed::config::PolicyFile;
use portcullis::server::Endpoint;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::support::{ANY_PORT, DEADLINE, Process, TempDir, ask, deserted_address, envoy_program};

const POLICY: &str = "
issuers: {main: {url: ISSUER, allow_http: true, cooldown: 0s, audience: shop-api, roles: roles}}
headers: {X-User-ID: sub, X-User-Roles: roles}
routes:
  GET /health: public
  /secret-data: role:premium
  /chat: role:premium
  /shop.Orders/**: role:premium
public_url: https://shop.example.com
sign_in: https://login.example.com/?return_to={url}
audit: none
";

/// What may stand in a header's name (RFC 9110 §5.6.2) besides letters and digits.
const PUNCTUATION: &str = "!#$%&'*+-.^_`|~";

fn replaced(template: &str, from: &str, to: &str) -> String {
    assert!(template.contains(from), "{from}");
    template.replace(from, to)
}

/// The shipped file, patient: on a machine that compiles and tests at once, 0.2 s is no time.
fn shipped() -> String {
    replaced(envoy::TEMPLATE, "timeout: 0.2s", "timeout: 5s")
}

/// The same, where an error lets pass.
fn failing_open() -> String {
    replaced(&shipped(), "failure_mode_allow: false", "failure_mode_allow: true")
}

/// Portcullis and its issuer, in this process.
struct Portcullis {
    issuer: Issuer,
    running: Running,
    _dir: TempDir,
}

impl Portcullis {
    async fn start() -> Self {
        Self::behind(issuer().await).await
    }

    async fn behind(issuer: Issuer) -> Self {
        let dir = TempDir::new();
        let policy = dir.file("portcullis.yaml", POLICY.replace("ISSUER", issuer.url()));
        let (file, compiled) = PolicyFile::open(policy).unwrap();
        let listen = vec![Endpoint::Tcp(ANY_PORT)];
        let overrides = Overrides { listen, admin: Some(ANY_PORT), cores: Some(1), ..Overrides::default() };
        let running = app::start(file, compiled, &overrides).await.unwrap();
        running.feeds.attempted().await;
        Self { issuer, running, _dir: dir }
    }

    fn bearer(&self, claims: &Value) -> String {
        bearer(&self.issuer, claims)
    }

    fn premium(&self) -> String {
        self.bearer(&json!({"sub": "u1", "roles": ["premium"]}))
    }
}

async fn issuer() -> Issuer {
    let settings = Settings { audience: "shop-api".into(), algorithm: Algorithm::Es256, keep_old: DEADLINE };
    Issuer::start(ANY_PORT, settings).await.unwrap()
}

fn bearer(issuer: &Issuer, claims: &Value) -> String {
    format!("Authorization: Bearer {}\r\n", issuer.token(claims))
}

async fn start_envoy(program: &Path, template: &str, portcullis: SocketAddr, upstream: SocketAddr) -> Envoy {
    let ports = Ports { listener: 0, portcullis: portcullis.port(), upstream: upstream.port(), admin: 0 };
    let config = envoy::configure(template, ports).unwrap();
    Envoy::start(program, &config).await.unwrap_or_else(|error| panic!("{error}"))
}

/// An Envoy, what it asks, and a mirror behind it.
struct Site {
    envoy: Envoy,
    upstream: Upstream,
    portcullis: Portcullis,
}

impl Site {
    async fn start(program: &Path, template: &str) -> Self {
        let portcullis = Portcullis::start().await;
        let upstream = Upstream::start(ANY_PORT).await.unwrap();
        let envoy = start_envoy(program, template, portcullis.running.grpc[0], upstream.address()).await;
        Self { envoy, upstream, portcullis }
    }

    async fn ask(&self, raw: impl AsRef<[u8]>) -> Answer {
        ask(self.envoy.address(), raw).await
    }
}

fn request(method: &str, target: &str, headers: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n{headers}\r\n")
}

fn get(target: &str, headers: &str) -> String {
    request("GET", target, headers)
}

fn upgrade(target: &str, headers: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// The values that the application saw under a name, in any spelling that some server reads as that name.
fn seen(answer: &Answer, name: &str) -> Vec<String> {
    let fold = |name: &str| {
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect::<String>()
    };
    let mirrored = answer.json().unwrap();
    let headers = mirrored["headers"].as_array().unwrap().iter();
    let named = headers.filter(|header| fold(header[0].as_str().unwrap()) == name);
    named.map(|header| header[1].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn each_verdict_reaches_the_caller_as_it_is() {
    let Some(program) = envoy_program() else { return };
    for template in [shipped(), failing_open()] {
        let site = Site::start(&program, &template).await;
        let allowed = site.ask(get("/secret-data?q=1", &site.portcullis.premium())).await;
        assert_eq!((allowed.status, allowed.json().unwrap()["path"].as_str()), (200, Some("/secret-data?q=1")));
        assert_eq!(seen(&allowed, "x-user-id"), ["u1"]);
        assert_eq!(seen(&allowed, "x-user-roles"), [r#"["premium"]"#]);
        assert_eq!(site.ask(get("/health", "")).await.status, 200);
        assert_eq!(site.upstream.seen(), 2);

        let other = site.portcullis.bearer(&json!({"sub": "u2", "roles": []}));
        for (status, raw) in [
            (401, get("/secret-data", "")),
            (401, get("/secret-data", "Authorization: Bearer a.b.c\r\n")),
            (403, get("/secret-data", &other)),
            (403, get("/nowhere", &other)),
            (403, request("POST", "/health", "Content-Length: 0\r\n")),
            (400, get("/secret-data;x=1", "")),
            (400, get("/secret-data%2f..", "")),
            (401, upgrade("/chat", "")),
            (403, upgrade("/chat", &other)),
        ] {
            let answer = site.ask(&raw).await;
            assert_eq!(answer.status, status, "{raw}");
            if raw.contains("%2f") {
                continue; // Envoy's own.
            }
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{raw}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{raw}");
            assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{raw}");
            assert_eq!(answer.json().unwrap()["status"], status, "{raw}");
        }
        let browser = site.ask(get("/secret-data?q=1", "Accept: text/html\r\nHost2: x\r\n")).await;
        assert_eq!(browser.status, 302);
        let back = "https://login.example.com/?return_to=https%3A%2F%2Fshop.example.com%2Fsecret-data%3Fq%3D1";
        assert_eq!((browser.header("location"), browser.header("www-authenticate")), (Some(back), None));
        let head = site.ask(request("HEAD", "/secret-data", "")).await;
        assert_eq!((head.status, head.body.len()), (401, 0));
        assert_eq!(site.upstream.seen(), 2);
    }
}

#[tokio::test] // N10
async fn no_spelling_of_a_forged_identity_reaches_the_application() {
    let Some(program) = envoy_program() else { return };
    let underscores = "headers_with_underscores_action: REJECT_REQUEST";
    let allowing = replaced(&shipped(), underscores, "headers_with_underscores_action: ALLOW");
    for (template, with_underscore) in [(shipped(), false), (allowing, true)] {
        let site = Site::start(&program, &template).await;
        let mut forged =
            String::from("X-USER-ID: root\r\nx-user-id: root\r\nremote-user: root\r\nX-Original-URL: /a\r\n");
        for c in PUNCTUATION.chars().filter(|c| with_underscore || *c != '_') {
            forged.push_str(&format!("x{c}user{c}id: root\r\nX-User{c}Id: root\r\nx{c}user-roles: [\"root\"]\r\n"));
        }
        let public = site.ask(get("/health", &forged)).await;
        assert_eq!(public.status, 200);
        for name in ["x-user-id", "x-user-roles", "remote-user", "x-original-url"] {
            assert_eq!(seen(&public, name), [""; 0], "{name}");
        }
        let allowed = site.ask(get("/secret-data", &format!("{forged}{}", site.portcullis.premium()))).await;
        assert_eq!(seen(&allowed, "x-user-id"), ["u1"]);
        assert_eq!(seen(&allowed, "x-user-roles"), [r#"["premium"]"#]);
        assert!(!allowed.text().contains("root"), "{}", allowed.text());

        let status = if with_underscore { 200 } else { 400 };
        for name in ["x_user_id", "X_User-Id", "harmless_name"] {
            assert_eq!(site.ask(get("/health", &format!("{name}: v\r\n"))).await.status, status, "{name}");
        }
    }
}

#[tokio::test] // N10
async fn a_caller_cannot_have_the_identity_dropped_on_the_way() {
    let Some(program) = envoy_program() else { return };
    let site = Site::start(&program, &shipped()).await;
    let premium = site.portcullis.premium();
    let raw = format!(
        "GET /secret-data HTTP/1.1\r\nHost: shop.test\r\nConnection: close, x-user-id, x-user-roles\r\n{premium}\r\n"
    );
    assert_eq!(seen(&site.ask(raw).await, "x-user-id"), ["u1"]);
}

#[tokio::test] // N11
async fn many_and_large_headers_are_passed_on_or_refused_but_never_our_failure() {
    let Some(program) = envoy_program() else { return };
    let site = Site::start(&program, &failing_open()).await;
    let premium = site.portcullis.premium();
    let mut statuses = Vec::new();
    for count in 78..=101 {
        let many: String = (0..count).map(|n| format!("x-n{n}: v\r\n")).collect();
        statuses.push(site.ask(get("/secret-data", &format!("{premium}{many}"))).await.status);
        statuses.push(site.ask(get("/health", &many)).await.status);
    }
    // The token's own line and Envoy's are part of what counts.
    for size in (59 * 1024..61 * 1024).step_by(64) {
        let large = format!("x-large: {}\r\n", "v".repeat(size));
        statuses.push(site.ask(get("/secret-data", &format!("{premium}{large}"))).await.status);
        statuses.push(site.ask(get("/health", &large)).await.status);
    }
    assert!(statuses.iter().all(|status| matches!(status, 200 | 431)), "{statuses:?}");
    assert!(statuses.contains(&200) && statuses.contains(&431), "{statuses:?}");

    let spellings = PUNCTUATION
        .chars()
        .filter(|c| *c != '_')
        .flat_map(|a| PUNCTUATION.chars().filter(|c| *c != '_').map(move |b| format!("x{a}user{b}id: root\r\n")));
    let forged: String = spellings.take(80).collect();
    let allowed = site.ask(get("/secret-data", &format!("{premium}{forged}"))).await;
    assert_eq!((allowed.status, seen(&allowed, "x-user-id")), (200, vec!["u1".to_owned()]));
}

#[tokio::test] // N01, N03, N06, N08, N11
async fn nothing_that_a_caller_sends_makes_envoy_fail_open() {
    let Some(program) = envoy_program() else { return };
    let site = Site::start(&program, &failing_open()).await;
    let mut raws: Vec<Vec<u8>> = Vec::new();
    for target in [
        "/secret-data/../secret-data",
        "//secret-data",
        "/%73ecret-data",
        "/secret-data%20",
        "/secret-data.",
        "/SECRET-DATA",
        "/secret-data;",
        "/secret-data%zz",
        "/secret-data%c0%ae",
        "/secret-data\\",
        "/health/../secret-data",
        "http://other.test/secret-data",
        "/secret-data?x=%ff%00",
    ] {
        raws.push(get(target, "").into_bytes());
    }
    raws.push(get(&format!("/secret-data?{}", "x".repeat(50_000)), "").into_bytes());
    raws.push(get(&format!("/{}", "%ff".repeat(15_000)), "").into_bytes());
    raws.push(get("/secret-data", &format!("Authorization: Bearer {}\r\n", "e.".repeat(25_000))).into_bytes());
    raws.push(get("/secret-data", "Authorization: Bearer a.b.c\r\nAuthorization: Bearer d.e.f\r\n").into_bytes());
    for name in
        ["Authorization", "Cookie", "X-User-Id", "Accept", "Content-Type", "X-Request-Id", "User-Agent", "Origin"]
    {
        let mut raw =
            format!("GET /secret-data HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n{name}: ").into_bytes();
        raw.extend((0x80..=0xff).chain(b"\xff\xfe\xc0\xaf".iter().copied()));
        raw.extend(b"\r\n\r\n");
        raws.push(raw);
    }
    for host in ["", "a.test,b.test", "shop.test:99999", "[::1", "\u{fffd}.test", "u@shop.test"] {
        raws.push(format!("GET /secret-data HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").into_bytes());
    }
    for raw in raws {
        // An Envoy that closes the connection has not let the request pass.
        if let Ok(answer) = exchange(site.envoy.address(), &raw, DEADLINE).await {
            assert!((300..500).contains(&answer.status), "{}: {}", answer.status, String::from_utf8_lossy(&raw));
        }
    }
    assert_eq!(site.upstream.seen(), 0);
}

#[tokio::test] // D03, D04
async fn a_body_of_any_size_in_the_check_does_not_open_the_door() {
    let Some(program) = envoy_program() else { return };
    let buffered = "encode_raw_headers: true\n                      with_request_body: { max_request_bytes: 8388608, pack_as_bytes: true }";
    let template = replaced(&failing_open(), "encode_raw_headers: true", buffered);
    let template =
        replaced(&template, "per_connection_buffer_limit_bytes: 65536", "per_connection_buffer_limit_bytes: 16777216");
    let template =
        replaced(&template, "initial_connection_window_size: 1048576", "initial_connection_window_size: 16777216");
    let site = Site::start(&program, &template).await;
    for (size, premium, status) in [(5_000_000, false, 401), (5_000_000, true, 200), (8_388_609, false, 413)] {
        let token = if premium { site.portcullis.premium() } else { String::new() };
        let mut raw = request("POST", "/secret-data", &format!("{token}Content-Length: {size}\r\n")).into_bytes();
        raw.resize(raw.len() + size, 0xff);
        assert_eq!(site.ask(raw).await.status, status, "{size}");
    }
    assert_eq!(site.upstream.seen(), 1);
}

#[tokio::test]
async fn a_grpc_caller_gets_a_status_of_grpc() {
    let Some(program) = envoy_program() else { return };
    for template in [shipped(), failing_open()] {
        let site = Site::start(&program, &template).await;
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", site.envoy.address())).unwrap();
        let mut grpc = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
        let other = site.portcullis.issuer.token(&json!({"sub": "u2", "roles": []}));
        for (token, code) in [(None, tonic::Code::Unauthenticated), (Some(other), tonic::Code::PermissionDenied)] {
            let mut call = tonic::Request::new(());
            if let Some(token) = token {
                call.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
            }
            grpc.ready().await.unwrap();
            let path = http::uri::PathAndQuery::from_static("/shop.Orders/List");
            let codec = tonic_prost::ProstCodec::<(), ()>::default();
            let denied = grpc.unary(call, path, codec).await.unwrap_err();
            assert_eq!(denied.code(), code);
            assert!(denied.message().contains("Decision"), "{}", denied.message());
        }
        assert_eq!(site.upstream.seen(), 0);
    }
}

/// Reads until the empty line that ends a head.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test] // F08
async fn a_websocket_opens_for_whom_it_may_and_carries_both_ways() {
    let Some(program) = envoy_program() else { return };
    let portcullis = Portcullis::start().await;
    let application = TcpListener::bind(ANY_PORT).await.unwrap();
    let envoy = start_envoy(&program, &shipped(), portcullis.running.grpc[0], application.local_addr().unwrap()).await;
    let mut caller = TcpStream::connect(envoy.address()).await.unwrap();
    let raw = upgrade("/chat", &format!("x-user-id: root\r\n{}", portcullis.premium()));
    caller.write_all(raw.as_bytes()).await.unwrap();
    let (mut served, _) = application.accept().await.unwrap();
    let asked = head(&mut served).await;
    assert!(
        asked.contains("upgrade: websocket") && asked.contains("x-user-id: u1") && !asked.contains("root"),
        "{asked}"
    );
    let switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    served.write_all(switching.as_bytes()).await.unwrap();
    assert!(head(&mut caller).await.starts_with("HTTP/1.1 101 "));
    {
        let (from, to) = (&mut caller, &mut served);
        from.write_all(b"ping").await.unwrap();
        let mut got = [0; 4];
        to.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ping");
        to.write_all(b"pong").await.unwrap();
        from.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"pong");
    }
}

#[tokio::test]
async fn an_application_that_is_slow_holds_up_nobody_elses_check() {
    let Some(program) = envoy_program() else { return };
    let portcullis = Portcullis::start().await;
    let application = TcpListener::bind(ANY_PORT).await.unwrap();
    let envoy = start_envoy(&program, &shipped(), portcullis.running.grpc[0], application.local_addr().unwrap()).await;
    let mut slow = Connection::open(envoy.address()).await.unwrap();
    slow.send(get("/secret-data", &portcullis.premium()).as_bytes()).await.unwrap();
    let (mut served, _) = application.accept().await.unwrap();
    head(&mut served).await;
    for _ in 0..20 {
        assert_eq!(ask(envoy.address(), get("/secret-data", "")).await.status, 401);
    }
    served.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").await.unwrap();
    assert_eq!(slow.answer(false).await.unwrap().text(), "late");
}

#[tokio::test]
async fn callers_who_leave_in_the_middle_of_a_check_leave_nothing_behind() {
    let Some(program) = envoy_program() else { return };
    let site = Site::start(&program, &failing_open()).await;
    let issuer = &site.portcullis.issuer;
    issuer.behave(Behaviour::Slow(Duration::from_millis(100)));
    let mut status = site.portcullis.running.feeds.status();
    let mut fetches = status.borrow()["main"].fetches;
    for _ in 0..3 {
        let before = issuer.fetches().discovery;
        issuer.rotate();
        let mut leaving = Connection::open(site.envoy.address()).await.unwrap();
        leaving.send(get("/secret-data", &site.portcullis.premium()).as_bytes()).await.unwrap();
        let asked = async {
            while issuer.fetches().discovery == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, asked).await.unwrap();
        drop(leaving);
        // The fetch goes on for the next caller.
        let fetched = status.wait_for(|statuses| statuses.values().all(|status| status.fetches > fetches));
        fetches = tokio::time::timeout(DEADLINE, fetched).await.unwrap().unwrap()["main"].fetches;
    }
    issuer.behave(Behaviour::Normal);
    let mut allowed = 0;
    let back = async {
        while site.ask(get("/secret-data", &site.portcullis.premium())).await.status != 200 {}
        allowed += 1;
    };
    tokio::time::timeout(DEADLINE, back).await.unwrap();
    assert_eq!(site.ask(get("/secret-data", "")).await.status, 401);
    assert_eq!(site.upstream.seen(), allowed);
}

#[tokio::test] // K04, K07
async fn an_issuer_that_is_down_or_talks_nonsense_opens_no_door() {
    let Some(program) = envoy_program() else { return };
    let issuer = issuer().await;
    issuer.behave(Behaviour::Down);
    let portcullis = Portcullis::behind(issuer).await;
    let upstream = Upstream::start(ANY_PORT).await.unwrap();
    let envoy = start_envoy(&program, &failing_open(), portcullis.running.grpc[0], upstream.address()).await;
    for behaviour in [
        Behaviour::Down,
        Behaviour::Garbage,
        Behaviour::Huge,
        Behaviour::Status(500),
        Behaviour::Status(200),
        Behaviour::Slow(Duration::from_secs(2)),
    ] {
        portcullis.issuer.behave(behaviour);
        let answer = ask(envoy.address(), get("/secret-data", &portcullis.premium())).await;
        assert_eq!((answer.status, answer.json().unwrap()["status"].as_u64()), (503, Some(503)), "{behaviour:?}");
        assert_eq!(ask(envoy.address(), get("/secret-data", "")).await.status, 401, "{behaviour:?}");
    }
    assert_eq!(upstream.seen(), 0);
    assert_eq!(ask(envoy.address(), get("/health", "")).await.status, 200);
    portcullis.issuer.behave(Behaviour::Normal);
    let back = async { while ask(envoy.address(), get("/secret-data", &portcullis.premium())).await.status != 200 {} };
    tokio::time::timeout(DEADLINE, back).await.unwrap();

    // Down again: what is known stays known.
    portcullis.issuer.behave(Behaviour::Down);
    assert_eq!(ask(envoy.address(), get("/secret-data", &portcullis.premium())).await.status, 200);
    portcullis.issuer.rotate();
    assert_eq!(ask(envoy.address(), get("/secret-data", &portcullis.premium())).await.status, 503);
}

#[tokio::test] // K08
async fn keys_rotate_while_traffic_flows_and_nobody_is_refused() {
    let Some(program) = envoy_program() else { return };
    let site = Site::start(&program, &shipped()).await;
    let first = site.portcullis.premium();
    for _ in 0..5 {
        let old = site.portcullis.premium();
        site.portcullis.issuer.rotate();
        let new = site.portcullis.premium();
        let (a, b, c, d) = tokio::join!(
            site.ask(get("/secret-data", &old)),
            site.ask(get("/secret-data", &new)),
            site.ask(get("/secret-data", &new)),
            site.ask(get("/secret-data", &first)),
        );
        assert_eq!([a.status, b.status, c.status, d.status], [200; 4]);
    }
    site.portcullis.issuer.drop_old_keys();
    let dropped = async {
        while site.ask(get("/secret-data", &first)).await.status != 401 {
            // A token of an unknown key has the key set fetched again, in which the dropped key is no more.
            site.portcullis.issuer.rotate();
            site.portcullis.issuer.drop_old_keys();
            site.ask(get("/secret-data", &site.portcullis.premium())).await;
        }
    };
    tokio::time::timeout(DEADLINE, dropped).await.unwrap();
}

/// Asks without end and counts the answers.
struct Load {
    stop: Arc<AtomicBool>,
    allowed: Arc<AtomicUsize>,
    down: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(envoy: SocketAddr, premium: &str) -> Self {
        let (stop, allowed, down) = <(Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let tasks = (0..4).map(|task| {
            let (stop, allowed, down) = (Arc::clone(&stop), Arc::clone(&allowed), Arc::clone(&down));
            let good = task % 2 == 0;
            let raw = get("/secret-data", if good { premium } else { "" });
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match ask(envoy, &raw).await.status {
                        200 if good => _ = allowed.fetch_add(1, Ordering::Relaxed),
                        503 => _ = down.fetch_add(1, Ordering::Relaxed),
                        401 if !good => {}
                        status => panic!("{status}, with a good token: {good}"),
                    }
                }
            })
        });
        let tasks = tasks.collect();
        Self { stop, allowed, down, tasks }
    }

    /// Waits for so many more.
    async fn more(&self, counter: &AtomicUsize) {
        let goal = counter.load(Ordering::Relaxed) + 20;
        let reached = async {
            while counter.load(Ordering::Relaxed) < goal {
                assert!(!self.tasks.iter().any(tokio::task::JoinHandle::is_finished), "an answer was wrong");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, reached).await.unwrap();
    }

    /// How many were allowed.
    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.allowed.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_portcullis_killed_under_load_and_started_again_lets_nothing_wrong_pass() {
    let Some(program) = envoy_program() else { return };
    let (issuer, dir, grpc) = (issuer().await, TempDir::new(), deserted_address());
    let policy = dir.file("portcullis.yaml", POLICY.replace("ISSUER", issuer.url()));
    let serve = || {
        let mut serve = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        serve.arg("serve").arg("-c").arg(&policy).args(["--listen", &grpc.to_string(), "--admin", "127.0.0.1:0"]);
        Process::start(&mut serve)
    };
    let mut portcullis = serve();
    portcullis.line_with("answering gateways").await;
    let upstream = Upstream::start(ANY_PORT).await.unwrap();
    let envoy = start_envoy(&program, &shipped(), grpc, upstream.address()).await;
    let premium = bearer(&issuer, &json!({"sub": "u1", "roles": ["premium"]}));
    let load = Load::start(envoy.address(), &premium);
    for _ in 0..2 {
        load.more(&load.allowed).await;
        portcullis.signal("KILL");
        portcullis.ended().await;
        load.more(&load.down).await;
        portcullis = serve();
    }
    load.more(&load.allowed).await;
    // Each that reached the application is one that was answered with 200, and those had a good token.
    let allowed = load.end().await;
    assert_eq!(upstream.seen(), u64::try_from(allowed).unwrap());
}
