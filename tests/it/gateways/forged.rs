//! What a caller sends to be taken for another, or to have one thing judged and another done.

use portcullis::dev::wire::exchange;

use super::{Gateway, House, path, seen};
use crate::edge::{get, request};
use crate::support::DEADLINE;

#[tokio::test] // N10, F09
async fn no_spelling_of_a_forged_identity_reaches_an_application() {
    let house = House::start().await;
    let premium = house.premium();
    for door in &house.doors {
        let gateway = door.gateway;
        let forged = "X-USER-ID: root\r\nx-user-id: root\r\nX-User-Roles: root\r\nx-tenant: root\r\nRemote-User: root\r\n\
                      X-Auth-Request-User: root\r\nX-Forwarded-User: root\r\nX-Forwarded-Email: root\r\n";
        let public = door.ask(get("/health", forged)).await;
        assert_eq!(public.status, 200, "{gateway:?}");
        assert!(!public.text().contains("root"), "{gateway:?}: {}", public.text());
        let allowed = door.ask(get("/secret-data", &format!("{forged}{premium}"))).await;
        assert_eq!((allowed.status, seen(&allowed, "x-user-id")), (200, vec!["u1".to_owned()]), "{gateway:?}");
        assert_eq!(seen(&allowed, "x-tenant"), [""; 0], "{gateway:?}");
        assert!(!allowed.text().contains("root"), "{gateway:?}: {}", allowed.text());

        // Removed, or dropped by the gateway, or refused where it can do neither.
        for alias in
            ["X_User_ID", "X-User_ID", "x.user.id", "x!user!id", "x_original_url", "X_Forwarded_Uri", "remote_user"]
        {
            for caller in ["", &premium] {
                let answer = door.ask(get("/health", &format!("{alias}: root\r\n{caller}"))).await;
                let statuses: &[u16] = match (gateway, alias.contains('_')) {
                    (Gateway::EnvoyGrpc | Gateway::EnvoyHttp, true) | (Gateway::Caddy, _) => &[400],
                    // HAProxy removes what Portcullis names; what would pass for the question itself is refused.
                    (Gateway::Haproxy, true) => &[200, 400],
                    _ => &[200],
                };
                assert!(statuses.contains(&answer.status), "{gateway:?} {alias}: {}", answer.status);
                assert!(!answer.text().contains("root"), "{gateway:?} {alias}: {}", answer.text());
            }
        }
        // Names of a family: no file can list them all.
        let family =
            door.ask(get("/health", "X-Goog-Authenticated-User-Email: root\r\nX-Remote-Thing: root\r\n")).await;
        assert!(matches!(family.status, 200 | 400), "{gateway:?}: {}", family.status);
        assert!(!family.text().contains("root"), "{gateway:?}: {}", family.text());
    }
}

#[tokio::test] // N10
async fn no_caller_has_the_identity_dropped_on_the_way() {
    let house = House::start().await;
    let premium = house.premium();
    for door in &house.doors {
        for connection in ["close, x-user-id, x-user-roles", "close, authorization", "x-original-uri, close"] {
            let raw =
                format!("GET /secret-data HTTP/1.1\r\nHost: shop.test\r\nConnection: {connection}\r\n{premium}\r\n");
            let answer = door.ask(raw).await;
            if answer.status == 200 {
                assert_eq!(seen(&answer, "x-user-id"), ["u1"], "{:?}: {connection}", door.gateway);
                let named = seen(&answer, "connection").join(",").to_ascii_lowercase();
                assert!(!named.contains("x-user"), "{:?} tells the next hop: {named}", door.gateway);
            } else {
                assert_eq!((answer.status, connection), (401, "close, authorization"), "{:?}", door.gateway);
            }
        }
    }
}

#[tokio::test] // F01, F02
async fn a_caller_who_sends_every_override_is_judged_by_the_request_line() {
    let house = House::start().await;
    let other = house.other();
    let overrides = [
        "X-HTTP-Method-Override: PUT",
        "X-HTTP-Method: PUT",
        "X-Method-Override: PUT",
        "X-Original-URL: /health",
        "X-Original-URI: /health",
        "X-Original-Method: PUT",
        "X-Original-Host: evil.test",
        "X-Original-Address: 198.51.100.1",
        "X-Rewrite-URL: /health",
        "X-Forwarded-Uri: /health",
        "X-Forwarded-Method: PUT",
        "X-Forwarded-Host: evil.test",
        "X-Forwarded-Prefix: /health",
        "X-Envoy-Original-Path: /health",
        "X-Envoy-External-Address: 198.51.100.1",
        "X-Forwarded-For: 198.51.100.1",
        "X-Real-IP: 198.51.100.1",
        "Forwarded: for=198.51.100.1;host=evil.test",
        "X-Portcullis-Token: forged",
        "X-Portcullis-Status: 200",
    ];
    let all: String = overrides.iter().map(|line| format!("{line}\r\n")).collect();
    for door in &house.doors {
        let gateway = door.gateway;
        let single = overrides.iter().map(|line| format!("{line}\r\n"));
        for lines in single.chain([all.clone()]) {
            let before = house.upstream.seen();
            for target in ["/secret-data", "/office", "/nowhere"] {
                let answer = door.ask(get(target, &format!("{lines}{other}"))).await;
                assert!(matches!(answer.status, 400 | 403), "{gateway:?} {target} {lines}: {}", answer.status);
            }
            assert_eq!(house.upstream.seen(), before, "{gateway:?}: {lines}");
            let answer = door.ask(get("/health", &lines)).await;
            // A caller is not refused for what a browser's extension or a proxy adds.
            assert_eq!(answer.status, 200, "{gateway:?}: {lines}");
            let mut names = vec!["x-original-url", "x-original-uri", "x-original-method", "x-rewrite-url"];
            names.extend(["x-http-method-override", "x-http-method", "x-method-override"]);
            for name in names {
                assert_eq!(seen(&answer, name), [""; 0], "{gateway:?}: {lines}");
            }
        }
    }
}

#[tokio::test] // N06, F02
async fn a_path_is_judged_as_the_application_gets_it() {
    let house = House::start().await;
    for door in &house.doors {
        let gateway = door.gateway;
        for target in [
            "/health/../secret-data",
            "/health/%2e%2e/secret-data",
            "/health/%2E%2E%2Fsecret-data",
            "//secret-data",
            "//health//..//secret-data",
            "/health;/../secret-data",
            "/health/..;/secret-data",
            "/health%2f..%2fsecret-data",
            "/health\\..\\secret-data",
            "/%2e/secret-data",
            "/secret-data%00",
            "/secret-data/",
            "/secret-data#/health",
            "/SECRET-DATA",
            "/%73ecret-data",
            "secret-data",
            "*",
            "http://shop.test/secret-data",
            "http://other.test/secret-data",
            "http://shop.test/health/../secret-data",
            "/health?/../secret-data",
            "/health%3f/secret-data",
        ] {
            // One that a gateway will not read at all may end the connection.
            let Ok(answer) = exchange(door.address(), get(target, "").as_bytes(), DEADLINE).await else { continue };
            assert!(answer.status < 500, "{gateway:?} {target}: {}", answer.status);
            if answer.status == 200 && target != "*" {
                let path = path(&answer);
                assert_eq!(path.split('?').next(), Some("/health"), "{gateway:?} {target}");
            }
        }
    }
}

#[tokio::test] // F02
async fn a_request_with_two_hosts_or_none_does_not_pass() {
    let house = House::start().await;
    for door in &house.doors {
        let before = house.upstream.seen();
        for raw in [
            get("/health", "Host: evil.test\r\n"),
            "GET /health HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(),
            "GET /health HTTP/1.0\r\n\r\n".to_owned(),
            "GET /health HTTP/1.1\r\nHost: a, b\r\nConnection: close\r\n\r\n".to_owned(),
            "GET /health HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n".to_owned(),
        ] {
            let answer = door.ask(&raw).await;
            assert!((400..500).contains(&answer.status), "{:?} {raw}: {}", door.gateway, answer.status);
        }
        assert_eq!(house.upstream.seen(), before, "{:?}", door.gateway);
        // The same host twice is one to HAProxy, and then to the application too.
        let same = door.ask(get("/health", "host: shop.test\r\n")).await;
        let one = same.status == 200 && seen(&same, "host") == ["shop.test"];
        assert!(one || (400..500).contains(&same.status), "{:?}: {}", door.gateway, same.status);
    }
}

#[tokio::test] // F02
async fn no_request_is_judged_by_another_host_than_the_one_that_serves_it() {
    let house = House::start().await;
    for door in &house.doors {
        let gateway = door.gateway;
        let whole = |url: &str, host: &str| format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        // A gateway chooses the site by the request line.
        let other = door.ask(whole("http://other.test/health", "shop.test")).await;
        let as_served = other.status == 200 && seen(&other, "host") == ["other.test"];
        assert!(as_served || (400..500).contains(&other.status), "{gateway:?}: {} {}", other.status, other.text());
        for (url, host) in [("http://shop.test/health", "shop.test"), ("/health", "Shop.TEST:80")] {
            assert_eq!(door.ask(whole(url, host)).await.status, 200, "{gateway:?}: {url} of {host}");
        }
    }
}

#[tokio::test] // F08
async fn a_preflight_is_asked_about_and_shows_nobody() {
    let house = House::start().await;
    for door in &house.doors {
        let gateway = door.gateway;
        let preflight = |origin: &str| {
            let headers = format!("Origin: {origin}\r\nAccess-Control-Request-Method: GET\r\nX-User-ID: root\r\n");
            request("OPTIONS", "/secret-data", &headers)
        };
        let passed = door.ask(preflight("https://app.test")).await;
        assert_eq!((passed.status, seen(&passed, "x-user-id")), (200, Vec::new()), "{gateway:?}");
        assert_eq!(passed.json().unwrap()["method"], "OPTIONS", "{gateway:?}");
        let before = house.upstream.seen();
        assert_eq!(door.ask(preflight("https://evil.test")).await.status, 403, "{gateway:?}");
        assert_eq!(door.ask(request("OPTIONS", "/secret-data", "")).await.status, 401, "{gateway:?}");
        assert_eq!(house.upstream.seen(), before, "{gateway:?}");
    }
}
