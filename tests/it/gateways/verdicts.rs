//! The short table through each gateway: every kind of verdict, as the caller gets it.

use portcullis::dev::wire::Answer;
use serde_json::json;

use super::{Door, Gateway, House, path, seen};
use crate::edge::{get, request, upgrade};

#[tokio::test]
async fn each_verdict_reaches_the_caller_as_it_is_through_each_gateway() {
    let house = House::start().await;
    let premium = house.premium();
    let bearer = |claims: serde_json::Value| house.portcullis.bearer(&claims);
    let (other, u1) = (house.other(), bearer(json!({"sub": "u1", "roles": []})));
    let acme = bearer(json!({"sub": "u1", "roles": [], "tenant": "acme"}));
    for door in &house.doors {
        let gateway = door.gateway;
        let before = house.upstream.seen();
        let allowed = door.ask(get("/secret-data?q=1&r=%2f", &premium)).await;
        assert_eq!((allowed.status, &*path(&allowed)), (200, "/secret-data?q=1&r=%2f"), "{gateway:?}");
        assert_eq!(seen(&allowed, "x-user-id"), ["u1"], "{gateway:?}");
        assert_eq!(seen(&allowed, "x-user-roles"), [r#"["premium"]"#], "{gateway:?}");
        assert_eq!(seen(&allowed, "x-tenant"), [""; 0], "{gateway:?}");
        let tenant = door.ask(get("/t/acme/orders", &acme)).await;
        assert_eq!((tenant.status, seen(&tenant, "x-tenant")), (200, vec!["acme".to_owned()]), "{gateway:?}");
        let public = door.ask(get("/health", "")).await;
        assert_eq!((public.status, seen(&public, "x-user-id")), (200, Vec::new()), "{gateway:?}");
        assert_eq!(door.ask(request("PUT", "/profile/u1", &u1)).await.status, 200, "{gateway:?}");
        assert_eq!(
            door.ask(get("/here", &format!("X-Forwarded-For: 198.51.100.1\r\n{other}"))).await.status,
            200,
            "{gateway:?}"
        );
        assert_eq!(house.upstream.seen() - before, 5, "{gateway:?}");

        for (status, raw) in [
            (401, get("/secret-data", "")),
            (401, get("/secret-data", "Authorization: Bearer a.b.c\r\n")),
            (403, get("/secret-data", &other)),
            (403, get("/nowhere", &other)),
            (403, request("DELETE", "/profile/u1", &u1)),
            (403, request("PUT", "/profile/u2", &u1)),
            (403, get("/t/other/orders", &acme)),
            (403, get("/office", &format!("X-Forwarded-For: 198.51.100.1\r\n{other}"))),
            (400, get("/secret-data;x=1", "")),
            (401, upgrade("/chat", "")),
            (403, upgrade("/chat", &other)),
        ] {
            let answer = door.ask(&raw).await;
            assert_eq!(answer.status, status, "{gateway:?}: {raw}");
            assert_whole_denial(gateway, &answer, &raw);
        }
        assert_redirected(door, &other).await;
        let head = door.ask(request("HEAD", "/secret-data", "")).await;
        assert_eq!((head.status, head.body.len()), (401, 0), "{gateway:?}");
        assert_eq!(house.upstream.seen() - before, 5, "{gateway:?}");
    }
}

fn assert_whole_denial(gateway: Gateway, answer: &Answer, raw: &str) {
    let once = |name: &str| {
        let mut values = answer.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert_eq!(values.next(), None, "{gateway:?}: {name} twice: {raw}");
        first
    };
    assert_eq!(once("content-type"), Some("application/problem+json"), "{gateway:?}: {raw}");
    assert_eq!(once("cache-control"), Some("no-store"), "{gateway:?}: {raw}");
    assert_eq!(once("x-content-type-options"), Some("nosniff"), "{gateway:?}: {raw}");
    assert_eq!(once("www-authenticate").is_some(), answer.status == 401, "{gateway:?}: {raw}");
    let body = answer.json().unwrap();
    assert_eq!(body["status"], answer.status, "{gateway:?}: {raw}");
    assert!(!body["decision"].as_str().unwrap().is_empty(), "{gateway:?}: {raw}");
}

/// A person is sent to sign in, or shown a page; a script of another origin may read why not.
async fn assert_redirected(door: &Door, other: &str) {
    let gateway = door.gateway;
    let browser = door.ask(get("/secret-data?q=1", "Accept: text/html\r\n")).await;
    assert_eq!(browser.status, 302, "{gateway:?}");
    let back = "https://login.example.com/?return_to=https%3A%2F%2Fshop.example.com%2Fsecret-data%3Fq%3D1";
    assert_eq!(browser.header("location"), Some(back), "{gateway:?}");
    assert_eq!(browser.header("www-authenticate"), None, "{gateway:?}");
    assert_eq!(browser.header("cache-control"), Some("no-store"), "{gateway:?}");
    let page = door.ask(get("/nowhere", &format!("Accept: text/html\r\n{other}"))).await;
    assert_eq!((page.status, page.header("content-type")), (403, Some("text/html; charset=utf-8")), "{gateway:?}");
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"), "{gateway:?}");
    assert!(page.text().contains("<h1>403 Forbidden</h1>"), "{gateway:?}: {}", page.text());
    let read = door.ask(get("/secret-data", "Origin: https://app.test\r\n")).await;
    assert_eq!(read.header("access-control-allow-origin"), Some("https://app.test"), "{gateway:?}");
    assert_eq!(read.header("access-control-expose-headers"), Some("WWW-Authenticate"), "{gateway:?}");
    assert_eq!(read.header("vary"), Some("Origin"), "{gateway:?}");
}
