//! Answers that are none, callers that play tricks on the way, and a portcullis that is away: nothing passes.

use std::time::Duration;

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use super::oracle::{Oracle, Reply, allow, deny, whole};
use super::{Kong, authority, shipped};
use crate::edge::{get, request, seen};
use crate::support::{TempDir, deserted_address};

/// With a member of an allow replaced.
fn but(pointer: &str, value: Value) -> Value {
    let mut answer = allow(json!({"x-user-id": "u1"}));
    *answer.pointer_mut(pointer).unwrap() = value;
    answer
}

fn without(member: &str) -> Value {
    let mut answer = allow(json!({"x-user-id": "u1"}));
    answer.as_object_mut().unwrap().remove(member).unwrap();
    answer
}

/// An allow with a megabyte of blanks behind it.
fn too_long() -> Vec<u8> {
    let body = format!("{}{}", allow(json!({})), " ".repeat(1 << 20));
    format!("HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn answers_that_are_none() -> Vec<Vec<u8>> {
    let good = whole(200, &allow(json!({"x-user-id": "u1"})));
    let text = String::from_utf8(good.clone()).unwrap();
    let mut none: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        b"hello\r\n\r\n".to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good[..], b" "].concat(),
        [&good[..], &good[..]].concat(),
        [&b"HTTP/1.1 100 Continue\r\n\r\n"[..], &good[..]].concat(),
        text.replace("HTTP/1.1", "HTTP/1.0").into_bytes(),
        text.replace("HTTP/1.1 200", "HTTP/1.1 2000").into_bytes(),
        text.replace("application/json", "text/html").into_bytes(),
        text.replace("application/json", "application/jsonp").into_bytes(),
        text.replace("Content-Length: ", "Content-Length: 1\r\nContent-Length: ").into_bytes(),
        text.replace("Content-Length: ", "Content-Length: -").into_bytes(),
        text.replace("Content-Length: ", "Content-Length: 99999999").into_bytes(),
        text.replace("Content-Length: ", "Transfer-Encoding: chunked\r\nContent-Length: ").into_bytes(),
        text.replace("Content-Length: ", "no colon\r\nContent-Length: ").into_bytes(),
        text.replace("Content-Length: ", &format!("X: {}\r\nContent-Length: ", "y".repeat(20_000))).into_bytes(),
        too_long(),
        text.replace("\"allow\"", "\"allow").into_bytes(),
        text.replace("\"verdict\"", "\"verdicT\"").into_bytes(),
        whole(200, &json!(null)),
        whole(200, &json!("allow")),
        whole(200, &json!([])),
        whole(200, &json!({})),
        whole(200, &json!({"verdict": "allow"})),
        whole(200, &without("verdict")),
        whole(200, &without("headers")),
        whole(200, &json!({"verdict": "deny"})),
    ];
    none.extend(verdicts_that_are_none());
    none
}

/// Whole JSON that says what no verdict says.
fn verdicts_that_are_none() -> Vec<Vec<u8>> {
    let mut none = Vec::new();
    for status in [201, 204, 301, 400, 401, 403, 404, 500, 503] {
        none.push(whole(status, &allow(json!({}))));
    }
    for status in [json!(200), json!(204), json!(99), json!(600), json!(403.5), json!("403"), json!(null)] {
        let mut denial = deny(403);
        denial["status"] = status;
        none.push(whole(200, &denial));
    }
    for (pointer, value) in [
        ("/verdict", json!("Allow")),
        ("/verdict", json!(true)),
        ("/verdict", json!(null)),
        ("/headers", json!(null)),
        ("/headers/set", json!(null)),
        ("/headers/set", json!(["x"])),
        ("/headers/set", json!({"x-user-id": 1})),
        ("/headers/set", json!({"x-user-id": null})),
        ("/headers/set", json!({"x-user-id": "u1\r\nx-admin: 1"})),
        ("/headers/set", json!({"x-user-id": "u1\u{0}"})),
        ("/headers/set", json!({"x-user-id": ["u1", 2]})),
        ("/headers/set", json!({"x-user-id: a\r\nx-admin": "1"})),
        ("/headers/set", json!({"": "1"})),
        ("/headers/set", json!({"Host": "evil"})),
        ("/headers/set", json!({"content-length": "5"})),
        ("/headers/set", json!({"Transfer-Encoding": "chunked"})),
        ("/headers/remove", json!(null)),
        ("/headers/remove", json!("x-a")),
        ("/headers/remove", json!({"x-a": "x-b"})),
        ("/headers/remove", json!(["x-a", 1])),
        ("/headers/remove", json!(["host"])),
        ("/query", json!("a=b")),
        ("/query/remove", json!("a")),
        ("/query/set", json!({"a": 1})),
        ("/response", json!(1)),
        ("/response/headers", json!({"x-a": "b\nc: d"})),
        ("/caller", json!("u1")),
        ("/caller", json!({"user": "u1"})),
        ("/caller", json!({"user": {"issuer": "main", "subject": 1}})),
        ("/caller", json!({"user": {"issuer": "main", "subject": "u", "roles": "admin"}})),
        ("/caller", json!({"user": {"issuer": "main", "subject": "u", "roles": [1]}})),
    ] {
        none.push(whole(200, &but(pointer, value)));
    }
    none
}

#[tokio::test]
async fn anything_but_a_whole_allow_is_a_denial_of_503() {
    let answers = answers_that_are_none();
    let count = answers.len();
    let oracle = Oracle::saying(move |_, number| Reply::Last(answers[number - 1].clone())).await;
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    for number in 0..count {
        let answer = kong.ask(get("/orders", "")).await;
        let what = &answers_that_are_none()[number];
        assert_eq!(answer.status, 503, "{number}: {}", what[..what.len().min(500)].escape_ascii());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.json().unwrap()["status"], 503);
    }
    assert_eq!((oracle.count().await, kong.upstream.seen()), (count, 0));
    assert!(!kong.log().contains("threw"), "{}", kong.log());
}

#[tokio::test]
async fn a_denial_reaches_the_caller_as_it_is() {
    let oracle = Oracle::saying(|asked, _| {
        let status = asked["path"].as_str().unwrap().trim_start_matches('/').parse().unwrap();
        let mut denial = deny(status);
        denial["response"]["headers"]["www-authenticate"] = json!("Bearer realm=\"x\"");
        denial["response"]["headers"]["location"] = json!("https://login.example.com/");
        denial["response"]["headers"]["set-cookie"] = json!(["a=1", "b=2"]);
        Reply::Raw(whole(if status == 400 { 400 } else { 200 }, &denial))
    })
    .await;
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    for status in [302, 400, 401, 403, 429, 431, 503] {
        for method in ["GET", "POST", "HEAD"] {
            let answer = kong.ask(request(method, &format!("/{status}"), "")).await;
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"x\""));
            assert_eq!(answer.header("location"), Some("https://login.example.com/"));
            assert_eq!(answer.headers.iter().filter(|(name, _)| name == "set-cookie").count(), 2);
            assert_eq!(answer.text(), if method == "HEAD" { "" } else { "{\"a\":1}" });
        }
    }
    assert_eq!((oracle.connections(), kong.upstream.seen()), (1, 0));
}

#[tokio::test]
async fn a_grpc_caller_gets_a_status_of_grpc() {
    let oracle = Oracle::saying(|asked, _| {
        let mut denial = deny(403);
        denial["response"]["headers"] = json!({"grpc-status": "7", "cache-control": "no-store"});
        denial["response"]["body"] = json!("This is not allowed: 100 %. Decision d1");
        let is_denied = asked["path"] == "/shop.Orders/List";
        if is_denied { Reply::Json(denial) } else { Reply::Last(Vec::new()) }
    })
    .await;
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", kong.grpc)).unwrap();
    let mut grpc = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
    for (path, code, message) in [
        ("/shop.Orders/List", tonic::Code::PermissionDenied, "This is not allowed: 100 %. Decision d1"),
        ("/shop.Orders/Lost", tonic::Code::Unavailable, "No decision can be made right now."),
    ] {
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let path = http::uri::PathAndQuery::from_static(path);
        let denied = grpc.unary(tonic::Request::new(()), path, codec).await.unwrap_err();
        assert_eq!((denied.code(), denied.message()), (code, message));
    }
    // What only says that it is gRPC gets the status of HTTP.
    let answer =
        kong.ask(request("POST", "/shop.Orders/List", "Content-Type: application/grpc\r\nContent-Length: 0\r\n")).await;
    assert_eq!((answer.status, kong.upstream.seen()), (403, 0));
}

#[tokio::test]
async fn one_deadline_holds_whatever_portcullis_is_slow_at() {
    let good = whole(200, &allow(json!({})));
    let oracle = Oracle::saying(move |asked, _| match asked["path"].as_str().unwrap() {
        "/silent" => Reply::Raw(Vec::new()),
        "/half" => Reply::Raw(good[..good.len() - 5].to_vec()),
        // Each byte comes in time; all of them take seconds.
        _ => Reply::Slowly(good.clone(), Duration::from_millis(50)),
    })
    .await;
    let Some(kong) = Kong::asking(&oracle.url, &[("timeout", 300.into())]).await else { return };
    for path in ["/silent", "/half", "/slow"] {
        let started = tokio::time::Instant::now();
        assert_eq!(kong.ask(get(path, "")).await.status, 503);
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(290) && took < Duration::from_secs(5), "{path}: {took:?}");
        assert_eq!(oracle.last().await.body["timeout_ms"], 270);
    }
    assert_eq!((oracle.count().await, kong.upstream.seen()), (3, 0));
}

#[tokio::test]
async fn nobody_passes_while_portcullis_is_away() {
    let Some(kong) = Kong::asking(&format!("http://{}", deserted_address()), &[]).await else { return };
    assert_eq!(kong.ask(get("/health", "")).await.status, 503);
    let Some(kong) = Kong::asking("unix:/nowhere/portcullis.sock", &[]).await else { return };
    assert_eq!(kong.ask(get("/health", "")).await.status, 503);
    assert_eq!(kong.upstream.seen(), 0);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_is_made_anew() {
    let good = whole(200, &allow(json!({})));
    // Every second question is taken and the connection closed without a word: on a kept one it is asked again, on a new one not.
    let oracle = Oracle::saying(move |_, number| match number {
        2 => Reply::Last(Vec::new()),
        5 | 6 => Reply::Last(Vec::new()),
        _ => Reply::Raw(good.clone()),
    })
    .await;
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(kong.ask(get("/", "")).await.status);
    }
    // 1: new. 2 is lost on the kept one, 3 on a new one. 4 on the kept one. 5 is lost on it, 6 on a new one.
    assert_eq!((statuses, oracle.count().await, oracle.connections()), (vec![200, 200, 200, 503], 6, 3));
}

#[tokio::test] // N11
async fn a_thousand_headers_are_judged_and_one_more_is_refused_unasked() {
    let oracle = Oracle::saying(|_, _| Reply::Json(deny(403))).await;
    let file = shipped(&[("url", oracle.url.as_str().into()), ("timeout", 5000.into())]);
    let Some(kong) = Kong::with(&file, "max_headers 2000;", |_| ()).await else { return };
    // Host and Connection are two.
    let lines = |count: usize| (0..count).map(|n| format!("x-n{n}: v\r\n")).collect::<String>();
    assert_eq!(kong.ask(get("/", &lines(998))).await.status, 403);
    assert_eq!(oracle.last().await.body["headers"].as_object().unwrap().len(), 1000);
    let same = format!("{}x-user-id: root\r\n", "x-a: v\r\n".repeat(998));
    for many in [lines(999), same] {
        let answer = kong.ask(get("/", &many)).await;
        assert_eq!((answer.status, answer.header("content-type")), (431, Some("application/problem+json")));
    }
    assert_eq!((oracle.count().await, kong.upstream.seen()), (1, 0));
    // By itself nginx refuses them as well where it knows `max_headers`, as that of Kong 3.9.3 does.
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    assert!(matches!(kong.ask(get("/", &lines(999))).await.status, 400 | 431));
    assert_eq!(oracle.count().await, 1);
}

#[tokio::test] // N10
async fn no_spelling_of_a_forged_identity_reaches_the_application() {
    let oracle = Oracle::saying(|_, _| {
        let mut answer = allow(json!({"x-user-id": "u1"}));
        answer["headers"]["remove"] = json!(["x-tenant", "x_tenant"]);
        Reply::Json(answer)
    })
    .await;
    let file = shipped(&[("url", oracle.url.as_str().into()), ("timeout", 5000.into())]);
    let Some(kong) = Kong::with(&file, "ignore_invalid_headers off;", |_| ()).await else { return };
    let forged = "x-user-id: root\r\nX-USER-ID: root\r\nX_User_Id: root\r\nx-user_id: root\r\nX-Tenant: root\r\nx_tenant: root\r\n\
                  X-Consumer-ID: root\r\nx_consumer_id: root\r\nX-Consumer-Username: root\r\nX-Consumer-Custom-Id: root\r\n\
                  X-Credential-Identifier: root\r\nX-Anonymous-Consumer: root\r\nx_anonymous_consumer: root\r\n\
                  X-Authenticated-Userid: root\r\nX-Authenticated-Groups: root\r\nX-Consumer-Groups: root\r\nx.user.id: root\r\n";
    let answer = kong.ask(get("/", &format!("{forged}x-kept: a\r\nx_kept: b\r\n"))).await;
    assert_eq!(
        (answer.status, seen(&answer, "x-user-id"), seen(&answer, "x-kept").len()),
        (200, vec!["u1".to_owned()], 2)
    );
    assert!(!answer.text().contains("root"), "{}", answer.text());
    // As it was received, each spelling was told.
    let told = oracle.last().await.body["headers"].clone();
    assert_eq!(
        (&told["x-user-id"], &told["x_user_id"], &told["x-user_id"]),
        (&json!(["root", "root"]), &json!("root"), &json!("root"))
    );
}

#[tokio::test] // N10
async fn a_caller_cannot_have_the_identity_dropped_on_the_way() {
    let oracle = Oracle::saying(|_, _| Reply::Json(allow(json!({"x-user-id": "u1"})))).await;
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    for line in
        ["close, x-user-id", "X-User-ID", "close,\tx_user_id ,", "x-consumer-id", "close\r\nConnection: x-user-id"]
    {
        let raw = format!("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: {line}\r\n\r\n");
        assert_eq!(kong.ask(raw).await.status, 400, "{line}");
    }
    let answer =
        kong.ask("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close, TE, x-mine\r\nX-Mine: 1\r\n\r\n").await;
    assert_eq!(
        (answer.status, seen(&answer, "x-user-id"), seen(&answer, "x-mine").len()),
        (200, vec!["u1".to_owned()], 0)
    );
    assert_eq!(kong.upstream.seen(), 1);
}

#[tokio::test] // F02
async fn the_request_is_told_as_the_caller_sent_it() {
    let oracle = Oracle::saying(|_, _| Reply::Json(allow(json!({})))).await;
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    let raw = "PUT /a//b/%2e%2E/c;d=1?q=%2f&x HTTP/1.1\r\nHost: Shop.Test:81\r\nConnection: close\r\nCookie: a=1\r\nAccept: a\r\nACCEPT: b\r\n\
               X-Forwarded-Host: evil\r\nX-Request-ID: r1\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(kong.ask(raw).await.status, 200);
    let asked = oracle.last().await;
    let expected = json!({
        "method": "PUT", "path": "/a//b/%2e%2E/c;d=1?q=%2f&x", "host": "Shop.Test:81", "timeout_ms": 4500,
        "source": {"address": "127.0.0.1"},
        "headers": {"host": "Shop.Test:81", "connection": "close", "cookie": "a=1", "accept": ["a", "b"],
                    "x-forwarded-host": "evil", "x-request-id": "r1", "content-length": "2"},
    });
    assert_eq!(asked.body, expected);
    assert!(asked.head.starts_with("post /v1/check http/1.1\r\n") && !asked.head.contains("token"), "{}", asked.head);

    let answer = kong.ask(get("/", "")).await;
    let id = oracle.last().await.body["headers"]["x-request-id"].as_str().unwrap().to_owned();
    assert_eq!((seen(&answer, "x-request-id"), seen(&answer, "x-kong-request-id")), (vec![id.clone()], vec![id]));

    let count = oracle.count().await;
    for raw in [
        "GET http://other.test/ HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n",
        "GET http://shop.test/ HTTP/1.1\r\nHost: shop.test.evil\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ] {
        assert_eq!(kong.ask(raw).await.status, 400, "{raw}");
    }
    assert_eq!(oracle.count().await, count);
    let same = "GET http://shop.test:80/x HTTP/1.1\r\nHost: SHOP.test.\r\nConnection: close\r\n\r\n";
    assert_eq!((kong.ask(same).await.status, &oracle.last().await.body["path"]), (200, &json!("/x")));
}

#[tokio::test]
async fn the_token_is_shown_to_portcullis_alone_and_an_empty_reference_denies() {
    let oracle = Oracle::saying(|_, _| Reply::Last(b"nonsense".to_vec())).await;
    let secret = "s3cret-".repeat(6);
    let Some(kong) = Kong::asking(&oracle.url, &[("token", secret.clone().into())]).await else { return };
    let answer = kong.ask(get("/", "Authorization: Bearer t0ken\r\nX-Portcullis-Token: forged\r\n")).await;
    assert_eq!(answer.status, 503);
    let head = oracle.last().await.head;
    assert_eq!(head.matches("x-portcullis-token").count(), 1);
    assert!(head.ends_with(&format!("\r\nx-portcullis-token: {secret}")), "{head}");
    assert!(!kong.log().contains(&secret) && !kong.log().contains("t0ken"), "{}", kong.log());

    let Some(kong) = Kong::asking(&oracle.url, &[("token", "{vault://env/portcullis-token}".into())]).await else {
        return;
    };
    assert_eq!(kong.ask(get("/", "")).await.status, 503);
    assert!(oracle.last().await.head.contains("x-portcullis-token: from-the-environment-v"));
    let asked = oracle.count().await;
    let Some(kong) = Kong::asking(&oracle.url, &[("token", "{vault://env/no-such-name}".into())]).await else { return };
    assert_eq!((kong.ask(get("/", "")).await.status, oracle.count().await), (503, asked));
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_is_no_portcullis() {
    let ((ca, trusted), (_, other)) = (authority(), authority());
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["portcullis.test".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "portcullis.test");
    let certificate = params.signed_by(&key, &ca).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let server =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let oracle =
        Oracle::over_tls(TlsAcceptor::from(std::sync::Arc::new(server)), |_, _| Reply::Json(allow(json!({})))).await;
    let named = ("tls_server_name", json!("portcullis.test"));
    for (changes, ca, status) in [
        (vec![named.clone()], trusted.as_str(), 200),
        (vec![], trusted.as_str(), 503),
        (vec![("tls_server_name", json!("other.test"))], trusted.as_str(), 503),
        (vec![named], other.as_str(), 503),
        (vec![("tls_verify", json!(false))], other.as_str(), 200),
    ] {
        let mut all = vec![("url", oracle.url.as_str().into()), ("timeout", 5000.into())];
        all.extend(changes.clone());
        let Some(kong) = Kong::with(&shipped(&all), "", |dir| _ = dir.file("ca.pem", ca)).await else { return };
        for _ in 0..2 {
            assert_eq!(kong.ask(get("/", "")).await.status, status, "{changes:?} {}", kong.log());
        }
    }
}

#[tokio::test]
async fn a_unix_socket_serves_as_well() {
    let dir = TempDir::new();
    let oracle = Oracle::over_unix(&dir.path().join("socket"), |_, _| Reply::Json(allow(json!({"x-user-id": "u1"}))));
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    for _ in 0..2 {
        let answer = kong.ask(get("/", "")).await;
        assert_eq!((answer.status, seen(&answer, "x-user-id")), (200, vec!["u1".to_owned()]));
    }
}

#[tokio::test]
async fn many_at_once_over_few_connections_each_get_their_own_answer() {
    let oracle = Oracle::saying(|asked, _| Reply::Json(allow(json!({"x-user-id": asked["headers"]["x-name"]})))).await;
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    for round in 0..4 {
        let asked = (0..50).map(|n| {
            let (address, name) = (kong.address, format!("u{round}-{n}"));
            tokio::spawn(
                async move { (crate::support::ask(address, get("/", &format!("x-name: {name}\r\n"))).await, name) },
            )
        });
        for asked in asked.collect::<Vec<_>>() {
            let (answer, name) = asked.await.unwrap();
            assert_eq!((answer.status, seen(&answer, "x-user-id")), (200, vec![name]));
        }
    }
    assert!(oracle.connections() <= 100, "{}", oracle.connections());
    assert_eq!((oracle.count().await, kong.dir.path().exists()), (200, true));
}
