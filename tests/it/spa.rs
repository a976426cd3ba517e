//! A page of one origin and an API of another, through the real Envoy: `examples/spa`, and what a browser would send.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use portcullis::dev::envoy::Envoy;
use portcullis::dev::wire::Answer;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::edge::{self, Portcullis, get, replaced, request, seen, shipped, upgrade};
use crate::support::{ANY_PORT, DEADLINE, TempDir, ask, envoy_program, start_envoy_with};

const POLICY: &str = include_str!("../../examples/spa/portcullis.yaml");
const PAGE: &str = include_str!("../../examples/spa/index.html");

/// The head of a request.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let named = |line: &'h str| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name));
    head.lines().find_map(|line| Some(named(line)?.1))
}

/// Serves what `reply` says to each head, one request a connection, until it is dropped.
async fn serve(reply: impl Fn(&str) -> Vec<u8> + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let reply = reply.clone();
            tokio::spawn(async move {
                let Some(head) = head(&mut stream).await else { return };
                let _ = stream.write_all(&reply(&head)).await;
                // A WebSocket is open until the other side closes it.
                let _ = stream.read(&mut [0; 64]).await;
            });
        }
    });
    address
}

/// The page, and after it a script that tells what the page says, once that is all.
fn page(head: &str, told: &UnboundedSender<String>) -> Vec<u8> {
    if let Some(log) = head.strip_prefix("GET /told?").and_then(|rest| rest.split(' ').next()) {
        let _ = told.send(percent_decode_str(log).decode_utf8_lossy().into_owned());
    }
    let body = format!(
        "{PAGE}<script>setInterval(() => {{ const log = document.querySelector('#log').textContent; \
         if (log.endsWith('done\\n')) fetch('/told?' + encodeURIComponent(log)) }}, 100)</script>"
    );
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: ";
    format!("{head}{}\r\n\r\n{body}", body.len()).into_bytes()
}

/// An application that shares with every origin what it was asked, so that what a page does not get portcullis refused.
fn application(head: &str) -> Vec<u8> {
    let origin = header(head, "origin").unwrap_or("none");
    let cors = format!(
        "Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Methods: GET, PUT, DELETE\r\n\
         Access-Control-Allow-Headers: authorization\r\n"
    );
    let user = header(head, "x-user-id").unwrap_or("nobody");
    if let Some(key) = header(head, "sec-websocket-key") {
        let protocol = header(head, "sec-websocket-protocol").unwrap_or("none");
        let accept = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes());
        let text = format!("{user} over {protocol}");
        let mut reply = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n",
            STANDARD.encode(accept)
        )
        .into_bytes();
        reply.extend([0x81, u8::try_from(text.len()).unwrap()]);
        reply.extend(text.bytes());
        return reply;
    }
    if head.starts_with("OPTIONS ") {
        let seen = if head.contains("authorization: ") || head.contains("cookie: ") { "secrets" } else { "none" };
        return format!("HTTP/1.1 204 No Content\r\n{cors}X-Seen: {seen}\r\nConnection: close\r\n\r\n").into_bytes();
    }
    let token = if head.to_ascii_lowercase().contains("\r\nauthorization:") { "a token" } else { "no token" };
    let body = json!({"user": user, "saw": token}).to_string();
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\n{cors}Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

struct Spa {
    envoy: Envoy,
    portcullis: Portcullis,
    page: String,
    told: UnboundedReceiver<String>,
}

impl Spa {
    async fn start(program: &Path) -> Self {
        let (tell, told) = unbounded_channel();
        let (pages, application) = (serve(move |head| page(head, &tell)).await, serve(application).await);
        let page = format!("http://localhost:{}", pages.port());
        let issuer = edge::issuer().await;
        let policy = replaced(POLICY, "http://127.0.0.1:9002", issuer.url());
        let policy = replaced(&policy, "http://localhost:8001", &page) + "audit: none\n";
        let portcullis = Portcullis::with(issuer, &policy).await;
        let envoy = start_envoy_with(program, &shipped(), portcullis.running.grpc[0], application).await;
        Self { envoy, portcullis, page, told }
    }

    async fn ask(&self, raw: impl AsRef<[u8]>) -> Answer {
        ask(self.envoy.address(), raw).await
    }

    async fn preflight(&self, origin: &str, method: &str, more: &str) -> Answer {
        let headers = format!(
            "Origin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n\
             Access-Control-Request-Headers: authorization\r\n{more}"
        );
        self.ask(request("OPTIONS", "/orders", &headers)).await
    }
}

#[tokio::test] // F08
async fn a_preflight_passes_for_a_listed_page_and_a_route_without_its_secrets() {
    let Some(program) = envoy_program() else { return };
    let spa = Spa::start(&program).await;
    let secrets = format!("{}Cookie: a=b\r\n", spa.portcullis.premium());
    for more in ["", &secrets] {
        let passed = spa.preflight(&spa.page, "GET", more).await;
        assert_eq!((passed.status, passed.header("x-seen")), (204, Some("none")));
        assert_eq!(passed.header("access-control-allow-origin"), Some(&*spa.page));
    }
    for (origin, method) in [("http://evil.test", "GET"), ("null", "GET"), (&spa.page, "DELETE")] {
        let refused = spa.preflight(origin, method, "").await;
        assert_eq!(refused.status, 403, "{origin} {method}");
        let listed = (origin == spa.page).then_some(origin);
        assert_eq!(refused.header("access-control-allow-origin"), listed);
    }
    for more in ["", "Access-Control-Request-Method: GET\r\nAccess-Control-Request-Method: GET\r\n"] {
        let other = spa.ask(request("OPTIONS", "/orders", &format!("Origin: {}\r\n{more}", spa.page))).await;
        assert_eq!(other.status, 403, "{more}");
    }
}

#[tokio::test] // F08
async fn a_listed_page_may_read_its_denial_in_the_form_that_it_likes() {
    let Some(program) = envoy_program() else { return };
    let spa = Spa::start(&program).await;
    let origin = format!("Origin: {}\r\n", spa.page);
    let denied = spa.ask(get("/orders", &origin)).await;
    assert_eq!(denied.status, 401);
    for (name, value) in [
        ("access-control-allow-origin", Some(&*spa.page)),
        ("access-control-allow-credentials", None),
        ("access-control-expose-headers", Some("WWW-Authenticate")),
        ("vary", Some("Origin")),
        ("www-authenticate", Some("Bearer")),
        ("cache-control", Some("no-store")),
        ("content-type", Some("application/problem+json")),
    ] {
        assert_eq!(denied.header(name), value, "{name}");
    }
    let evil = spa.ask(get("/orders", "Origin: http://evil.test\r\n")).await;
    assert_eq!((evil.status, evil.header("access-control-allow-origin"), evil.header("vary")), (401, None, None));
    let html = spa.ask(get("/orders", "Accept: text/html\r\nOrigin: <script>\r\n")).await;
    assert_eq!((html.status, html.header("content-type")), (401, Some("text/html; charset=utf-8")));
    assert!(html.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert!(html.text().starts_with("<!doctype html>") && !html.text().contains("<script"), "{}", html.text());
    let head = spa.ask(request("HEAD", "/orders", "Accept: text/html\r\n")).await;
    assert_eq!((head.status, head.body.len()), (401, 0));
    let text = spa.ask(get("/orders", "Accept: text/plain\r\n")).await;
    assert!(text.text().starts_with("A valid credential is needed.\nDecision "), "{}", text.text());
}

#[tokio::test] // F08
async fn a_websocket_opens_by_a_subprotocol_that_the_application_never_sees() {
    let Some(program) = envoy_program() else { return };
    let spa = Spa::start(&program).await;
    let token = spa.portcullis.issuer.token(&json!({"sub": "u1"}));
    for (protocols, expected) in [
        (format!("chat, bearer.{token}"), "101"),
        ("chat, bearer.a.b.c".to_owned(), "401"),
        ("chat".to_owned(), "401"),
        (format!("bearer.{token}, bearer.x"), "400"),
    ] {
        let mut stream = TcpStream::connect(spa.envoy.address()).await.unwrap();
        let raw = upgrade("/chat", &format!("Origin: {}\r\nSec-WebSocket-Protocol: {protocols}\r\n", spa.page));
        stream.write_all(raw.as_bytes()).await.unwrap();
        let head = head(&mut stream).await.unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {expected} ")), "{head}");
        if expected == "101" {
            assert_eq!(header(&head, "sec-websocket-protocol"), Some("chat"));
            let mut frame = [0; 14];
            stream.read_exact(&mut frame).await.unwrap();
            assert_eq!(&frame[2..], b"u1 over chat");
        }
    }
}

const CARRIED: &str = "
issuers:
  main:
    url: ISSUER
    allow_http: true
    audience: shop-api
    from: [bearer, 'cookie:session', 'query:access_token']
    origins: [https://app.test]
headers: {X-User-ID: sub}
audit: none
routes:
  /public: public
  /me: signed-in
  /strip: {allow: signed-in, credential: strip}
";

#[tokio::test]
async fn the_application_does_not_see_what_is_stripped() {
    let Some(program) = envoy_program() else { return };
    let issuer = edge::issuer().await;
    let policy = CARRIED.replace("ISSUER", issuer.url());
    let portcullis = Portcullis::with(issuer, &policy).await;
    let upstream = portcullis::dev::upstream::Upstream::start(ANY_PORT).await.unwrap();
    let envoy = start_envoy_with(&program, &shipped(), portcullis.running.grpc[0], upstream.address()).await;
    let token = portcullis.issuer.token(&json!({"sub": "u1"}));
    for (target, path) in [
        (format!("/me?access_token={token}"), "/me"),
        (format!("/me?b=2&access_token={token}&a=%20c"), "/me?a=%20c&b=2"),
        (format!("/public?access_token={token}&flag"), "/public?flag="),
        (format!("/strip?access_token={token}&access_tokens=1"), "/strip?access_tokens=1"),
    ] {
        let allowed = ask(envoy.address(), get(&target, "")).await;
        assert_eq!((allowed.status, allowed.json().unwrap()["path"].as_str()), (200, Some(path)));
        assert!(!allowed.text().contains(&token), "{path}");
        let user: &[&str] = if path.starts_with("/public") { &[] } else { &["u1"] };
        assert_eq!(seen(&allowed, "x-user-id"), user);
    }
    let before = upstream.seen();
    for name in ["access%5Ftoken", "%61ccess_token", "Access_Token", "access_token[]", "x;access_token"] {
        for path in ["/me", "/public"] {
            let refused = ask(envoy.address(), get(&format!("{path}?{name}={token}"), "")).await;
            assert_eq!(refused.status, 400, "{path} {name}");
        }
    }
    assert_eq!(upstream.seen(), before);
    let plain = ask(envoy.address(), get("/public?b=2&a&&c=%20", "")).await;
    assert_eq!(plain.json().unwrap()["path"], "/public?b=2&a&&c=%20", "a query without a token is left alone");

    let cookie = format!("Cookie: theme=\"a b\"; session={token};x=1\r\n");
    let stripped = ask(envoy.address(), get("/strip", &cookie)).await;
    assert_eq!((stripped.status, seen(&stripped, "cookie")), (200, vec!["theme=\"a b\";x=1".to_owned()]));
    let forwarded = ask(envoy.address(), get("/me", &cookie)).await;
    assert!(seen(&forwarded, "cookie")[0].contains(&token));
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let stripped = ask(envoy.address(), get("/strip", &bearer)).await;
    assert_eq!((stripped.status, seen(&stripped, "authorization")), (200, vec![]));
    assert_eq!(seen(&ask(envoy.address(), get("/me", &bearer)).await, "authorization").len(), 1);
}

/// The Chromium to test with. Without one its test is skipped, with a line that says so: an Envoy comes from PyPI to any
/// machine, a browser from the package manager of some. The same exchanges are tested without a browser above.
fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<_> = std::env::split_paths(&path).collect();
    let found = named.or_else(|| {
        let mut programs = ["chromium", "chromium-browser", "google-chrome"]
            .into_iter()
            .flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
        programs.find(|program| program.is_file())
    });
    if found.is_none() {
        // Written past the capture of the test harness, as `support` does.
        _ = std::io::stderr()
            .write_all(b"SKIPPED: the page in a browser, because there is no Chromium: set CHROMIUM to one.\n");
    }
    found
}

#[tokio::test]
async fn a_page_in_a_real_browser_calls_the_api_of_another_origin() {
    let (Some(program), Some(chromium)) = (envoy_program(), chromium()) else { return };
    let mut spa = Spa::start(&program).await;
    let token = spa.portcullis.issuer.token(&json!({"sub": "u1", "roles": []}));
    let profile = TempDir::new();
    let address = spa.envoy.address();
    let mut browser = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("{}/#api=http://{address}&token={token}", spa.page))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let told = tokio::time::timeout(DEADLINE * 3, spa.told.recv()).await.expect("the page did not come to its end");
    browser.kill().await.unwrap();
    let expected = "\
anonymous: 401, Bearer, Unauthorized
signed in: 200, no challenge, {\"saw\":\"no token\",\"user\":\"u1\"}
not a clerk: 403, no challenge, Forbidden
no route: the browser says TypeError
chat: chat, u1 over chat
chat: closed
done
";
    assert_eq!(told.as_deref(), Some(expected));
}
