//! The real Envoy with the shipped file, asking the real portcullis: what callers get, and what the application sees.
//!
//! What is asked to break it is asked of the same file with `failure_mode_allow: true`, where an answer of ours that Envoy
//! took for an error would be an open door.

use portcullis::dev::wire::{Connection, exchange};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::edge::{Portcullis, Site, failing_open, get, replaced, request, seen, shipped, upgrade};
use crate::support::{ANY_PORT, DEADLINE, ask, envoy_program, start_envoy_with};

/// What may stand in a header's name (RFC 9110 §5.6.2) besides letters and digits.
const PUNCTUATION: &str = "!#$%&'*+-.^_`|~";

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
    let envoy =
        start_envoy_with(&program, &shipped(), portcullis.running.grpc[0], application.local_addr().unwrap()).await;
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
    let envoy =
        start_envoy_with(&program, &shipped(), portcullis.running.grpc[0], application.local_addr().unwrap()).await;
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
