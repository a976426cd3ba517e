//! The plugin asking the real portcullis: the short table of every gateway, and what only the two together can show.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::{Kong, shipped};
use crate::edge::{self, Portcullis, get, request, seen, upgrade};
use crate::support::ask;

const POLICY: &str = "
listen: {http: 127.0.0.1:0}
issuers: {main: {url: ISSUER, allow_http: true, cooldown: 0s, audience: shop-api, roles: roles}}
gateways:
  kong: {by: 127.0.0.1/32, dialect: json, believes: [client_address], max_headers: 1000}
headers: {X-User-ID: sub, X-User-Roles: roles, X-Tenant: claim:tenant}
routes:
  GET /health: public
  /secret-data: role:premium
  /chat: role:premium
  /profile/{id}: owner:id
  /t/{tenant}/**: claim:tenant={tenant}
  /near: network:127.0.0.0/8
  /far: network:10.0.0.0/8
  /kept: {allow: role:premium, cache: 30s}
  /served: {allow: role:premium, response_headers: {X-Served-For: sub}}
public_url: https://shop.example.com
sign_in: https://login.example.com/?return_to={url}
audit: none
";

struct Pair {
    portcullis: Portcullis,
    kong: Kong,
}

impl Pair {
    async fn start() -> Option<Self> {
        super::nginx()?;
        let portcullis = Portcullis::with(edge::issuer().await, POLICY).await;
        let kong = Kong::asking(&format!("http://{}", portcullis.running.http[0]), &[]).await?;
        Some(Self { portcullis, kong })
    }
}

#[tokio::test]
async fn each_verdict_reaches_the_caller_as_it_is() {
    let Some(Pair { portcullis, kong }) = Pair::start().await else { return };
    let premium = portcullis.premium();
    let other = portcullis.bearer(&json!({"sub": "u2", "roles": [], "tenant": "acme"}));
    let allowed = kong.ask(get("/secret-data?q=%2f", &premium)).await;
    assert_eq!((allowed.status, allowed.json().unwrap()["path"].as_str()), (200, Some("/secret-data?q=%2f")));
    assert_eq!(
        (seen(&allowed, "x-user-id"), seen(&allowed, "x-user-roles")),
        (vec!["u1".to_owned()], vec![r#"["premium"]"#.to_owned()])
    );
    assert_eq!(kong.ask(get("/served", &premium)).await.header("x-served-for"), Some("u1"));
    for (status, raw) in [
        (200, get("/health", "")),
        (200, get("/profile/u2", &other)),
        (403, get("/profile/u1", &other)),
        (200, get("/t/acme/x", &other)),
        (403, get("/t/other/x", &other)),
        (200, get("/near", &other)),
        (403, get("/far", &other)),
        (401, get("/secret-data", "")),
        (401, get("/secret-data", "Authorization: Bearer a.b.c\r\n")),
        (403, get("/secret-data", &other)),
        (403, request("POST", "/health", "Content-Length: 0\r\n")),
        (400, get("/secret-data%2f..", "")),
        (400, get("/a/../secret-data", &premium)),
        (401, upgrade("/chat", "")),
        (403, upgrade("/chat", &other)),
        (200, upgrade("/chat", &premium)),
    ] {
        let answer = kong.ask(&raw).await;
        assert_eq!(answer.status, status, "{raw}\n{}", answer.text());
        if status != 200 && answer.header("content-type") != Some("text/html") {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{raw}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{raw}");
            assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{raw}");
            assert_eq!(answer.json().unwrap()["status"], status, "{raw}");
        }
    }
    // Text that is not UTF-8 is no JSON.
    let odd = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Name: caf\xe9\r\n\r\n";
    assert_eq!(kong.ask(odd).await.status, 400);
    assert_eq!(kong.ask(get("/health", "X-Name: caf\u{e9}\r\n")).await.status, 200);
    let browser = kong.ask(get("/secret-data?q=1", "Accept: text/html\r\n")).await;
    let back = "https://login.example.com/?return_to=https%3A%2F%2Fshop.example.com%2Fsecret-data%3Fq%3D1";
    assert_eq!((browser.status, browser.header("location")), (302, Some(back)));
    assert_eq!(kong.ask(request("HEAD", "/secret-data", "")).await.status, 401);
}

#[tokio::test] // N10
async fn no_spelling_of_a_forged_identity_reaches_the_application() {
    let Some(Pair { portcullis, kong }) = Pair::start().await else { return };
    let forged = "X-USER-ID: root\r\nx-user-id: root\r\nx_user_id: root\r\nX-User_Roles: root\r\nx_tenant: root\r\nremote_user: root\r\n\
                  X-Original-URL: /root\r\nx_original_url: /root\r\nX-Consumer-Username: root\r\n";
    let public = kong.ask(get("/health", forged)).await;
    let allowed = kong.ask(get("/secret-data", &format!("{forged}{}", portcullis.premium()))).await;
    for answer in [&public, &allowed] {
        assert_eq!(answer.status, 200);
        assert!(!answer.text().contains("root"), "{}", answer.text());
    }
    assert_eq!((seen(&public, "x-user-id").len(), seen(&allowed, "x-user-id")), (0, vec!["u1".to_owned()]));
}

#[tokio::test]
async fn kong_knows_the_user_and_its_roles() {
    let Some(Pair { portcullis, kong }) = Pair::start().await else { return };
    let answer = kong.ask(get("/secret-data", &portcullis.premium())).await;
    let sees: serde_json::Value = serde_json::from_str(&seen(&answer, "x-kong-sees")[0]).unwrap();
    assert_eq!(sees, json!({"credential": {"id": "user:main:u1"}, "groups": ["premium"]}));
    assert_eq!(seen(&answer, "x-credential-identifier"), ["user:main:u1"]);
}

#[tokio::test]
async fn what_the_policy_lets_be_cached_outlives_portcullis_and_nothing_else_does() {
    let Some(Pair { portcullis, kong }) = Pair::start().await else { return };
    let (premium, other) = (portcullis.premium(), portcullis.bearer(&json!({"sub": "u3", "roles": ["premium"]})));
    for path in ["/kept", "/secret-data"] {
        assert_eq!(kong.ask(get(path, &premium)).await.status, 200);
    }
    drop(portcullis);
    assert_eq!(seen(&kong.ask(get("/kept", &premium)).await, "x-user-id"), ["u1"]);
    for raw in [
        get("/kept", &other),
        get("/kept", ""),
        get("/kept?a", &premium),
        get("/secret-data", &premium),
        get("/health", ""),
    ] {
        assert_eq!(kong.ask(&raw).await.status, 503, "{raw}");
    }
    let forged = kong.ask(get("/kept", &format!("{premium}x_user_id: root\r\n"))).await;
    assert_eq!(forged.status, 503);
}

#[tokio::test]
async fn a_restart_under_load_lets_nobody_pass_who_may_not_and_all_again_after() {
    if super::nginx().is_none() {
        return;
    }
    let issuer = edge::issuer().await;
    let (premium, other) = (
        edge::bearer(&issuer, &json!({"sub": "u1", "roles": ["premium"]})),
        edge::bearer(&issuer, &json!({"sub": "u2", "roles": []})),
    );
    let dir = crate::support::TempDir::new();
    let socket = dir.path().join("portcullis.sock");
    let policy =
        POLICY.replace("127.0.0.1:0", &format!("unix:{}", socket.display())).replace("by: 127.0.0.1/32", "by: unix");
    let portcullis = Portcullis::with(issuer, &policy).await;
    let Some(kong) = Kong::asking(&format!("unix:{}", socket.display()), &[]).await else { return };
    let (address, ended) = (kong.address, Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..8)
        .map(|n| {
            let (line, ended) = (if n % 2 == 0 { premium.clone() } else { other.clone() }, Arc::clone(&ended));
            let bad: u16 = if n % 2 == 0 { 403 } else { 200 };
            tokio::spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    let status = ask(address, get("/secret-data", &line)).await.status;
                    assert!(matches!(status, 200 | 403 | 503) && status != bad, "{status}");
                }
            })
        })
        .collect();
    let Portcullis { issuer, running, .. } = portcullis;
    drop(running);
    assert_eq!(kong.ask(get("/secret-data", &premium)).await.status, 503);
    let again = Portcullis::with(issuer, &policy).await;
    assert_eq!(kong.ask(get("/secret-data", &premium)).await.status, 200);
    assert_eq!(kong.ask(get("/secret-data", &other)).await.status, 403);
    ended.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    drop(again);
}

#[tokio::test]
async fn the_token_makes_kong_a_known_gateway() {
    if super::nginx().is_none() {
        return;
    }
    let dir = crate::support::TempDir::new();
    let token = "kong-".repeat(8);
    let file = dir.file("token", &token);
    let policy = POLICY.replace("by: 127.0.0.1/32", &format!("by: \"token:file:{}\"", file.display()));
    let portcullis = Portcullis::with(edge::issuer().await, &policy).await;
    let url = format!("http://{}", portcullis.running.http[0]);
    let premium = portcullis.premium();
    for (token, near) in [(token.clone(), 200), ("x".repeat(40), 403)] {
        let changes = [("url", url.as_str().into()), ("timeout", 5000.into()), ("token", token.into())];
        let Some(kong) = Kong::with(&shipped(&changes), "", |_| ()).await else { return };
        // Who is not known is believed nothing: the address is unknown, and the word neither true nor false.
        assert_eq!(kong.ask(get("/near", &premium)).await.status, near);
        assert_eq!(kong.ask(get("/secret-data", &premium)).await.status, 200);
    }
}
