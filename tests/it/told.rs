//! What is told beside headers to the upstream, through the real Envoy: what the application and the caller really see.

use portcullis::dev::wire::exchange;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::edge::{Portcullis, Site, get, issuer, seen, shipped};
use crate::support::{ANY_PORT, DEADLINE, envoy_program, start_envoy_with};

const POLICY: &str = "
issuers: {main: {url: ISSUER, allow_http: true, audience: shop-api, roles: roles}}
headers: {X-Route: route, X-Site: {value: shop}}
response_headers: {X-Served-For: sub, Cache-Control: {value: no-store}}
query: {set: {tenant: claim:tenant}, remove: [debug]}
routes:
  /me: anyone
  /t/{id}: {allow: signed-in, headers: {X-Id: capture:id}, response_headers: {X-Id: capture:id}}
";

async fn site() -> Option<Site> {
    let program = envoy_program()?;
    Some(Site::of(Portcullis::with(issuer().await, POLICY).await, &program, &shipped()).await)
}

#[tokio::test] // N04
async fn nothing_of_the_callers_survives_under_a_managed_parameter() {
    let Some(site) = site().await else { return };
    let acme = site.portcullis.bearer(&json!({"sub": "u1", "tenant": "acme-1.B_2"}));
    let set = "tenant=acme-1.B_2";
    let path = async |target: &str, headers: &str| {
        let answer = site.ask(get(target, headers)).await;
        assert_eq!(answer.status, 200, "{target}");
        answer.json().unwrap()["path"].as_str().unwrap().to_owned()
    };
    assert_eq!(path("/me", &acme).await, format!("/me?{set}"));
    assert_eq!(path("/me?a=1", &acme).await, format!("/me?a=1&{set}"));
    let spellings = [
        "tenant",
        "%74enant",
        "%74%65nant",
        "%2574enant",
        "%u0074enant",
        "Tenant",
        "TENANT",
        "+tenant",
        "%20tenant",
        "tenant[]",
        "tenant[0]",
        "tenant%5B%5D",
        "tenant%00",
    ];
    for spelling in spellings {
        for query in [
            format!("{spelling}=evil"),
            format!("a=1&{spelling}=evil&b=2"),
            format!("{spelling}=evil&{spelling}=evil&tenant=evil"),
            spelling.to_owned(),
            format!("&&{spelling}=evil&"),
        ] {
            let seen = path(&format!("/me?{query}"), &acme).await;
            assert!(
                !seen.contains("evil") && seen.matches("enant").count() == 1 && seen.contains(set),
                "{query}: {seen}"
            );
            let nobody = path(&format!("/me?{query}"), "").await;
            assert!(!nobody.contains("evil") && !nobody.to_lowercase().contains("enant"), "{query}: {nobody}");
        }
    }
    for spelling in ["debug", "%64ebug", "Debug", "debug[]"] {
        let seen = path(&format!("/me?{spelling}=1&a=1"), "").await;
        assert_eq!(seen, "/me?a=1", "{spelling}");
    }
    // What was never managed is left as it came: Envoy writes a query anew only where it is told to.
    assert_eq!(path("/me?b=2&a=1&b=%41&x%26tenant=1", "").await, "/me?b=2&a=1&b=%41&x%26tenant=1");
    assert_eq!(site.ask(get("/me?a=1;tenant=evil", &acme)).await.status, 400);
    // What Envoy would answer with 500 is a denial of ours before.
    for value in ["a b", "a&b", "a%62", "a~b", "\u{e9}"] {
        let bearer = site.portcullis.bearer(&json!({"sub": "u1", "tenant": value}));
        assert_eq!(site.ask(get("/me", &bearer)).await.status, 403, "{value}");
    }
}

#[tokio::test]
async fn the_caller_gets_response_headers_in_place_of_the_upstreams() {
    let Some(program) = envoy_program() else { return };
    let portcullis = Portcullis::with(issuer().await, POLICY).await;
    let application = TcpListener::bind(ANY_PORT).await.unwrap();
    let envoy =
        start_envoy_with(&program, &shipped(), portcullis.running.grpc[0], application.local_addr().unwrap()).await;
    let user = portcullis.bearer(&json!({"sub": "u1"}));
    for (target, headers, expected) in [
        ("/me", user.as_str(), [("x-served-for", Some("u1")), ("x-id", Some("upstream"))]),
        ("/t/7?q=1", user.as_str(), [("x-served-for", Some("u1")), ("x-id", Some("7"))]),
        // Of nobody nothing is told, and what the upstream says passes.
        ("/me", "", [("x-served-for", Some("upstream")), ("x-id", Some("upstream"))]),
    ] {
        let raw = get(target, headers);
        let served = async {
            let (mut served, _) = application.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(served.read_u8().await.unwrap());
            }
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Served-For: upstream\r\nX-Id: upstream\r\n\
                          Cache-Control: public\r\nSet-Cookie: a=1\r\nConnection: close\r\n\r\nok";
            served.write_all(answer.as_bytes()).await.unwrap();
        };
        let (answer, ()) = tokio::join!(exchange(envoy.address(), raw.as_bytes(), DEADLINE), served);
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{target}");
        assert_eq!(answer.header("set-cookie"), Some("a=1"));
        for (name, value) in expected {
            assert_eq!(answer.header(name), value, "{target} {name}");
        }
        assert_eq!(answer.text(), "ok");
    }
}

#[tokio::test]
async fn a_capture_and_the_route_reach_the_application() {
    let Some(site) = site().await else { return };
    let user = site.portcullis.bearer(&json!({"sub": "u1"}));
    let forged = "X-Id: forged\r\nX-Route: forged\r\nX-Site: forged\r\n";
    let own = site.ask(get("/t/7", &format!("{user}{forged}"))).await;
    assert_eq!((seen(&own, "x-id"), seen(&own, "x-route")), (vec!["7".to_owned()], vec!["/t/{id}".to_owned()]));
    let other = site.ask(get("/me", forged)).await;
    assert_eq!((seen(&other, "x-id"), seen(&other, "x-site")), (vec![], vec!["shop".to_owned()]));
}
