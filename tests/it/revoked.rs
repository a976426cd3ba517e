//! Revocation on two replicas that share a real Redis: in force on both within a second, closed while it cannot be told,
//! told again after Redis has forgotten it.

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::service::auth::v3 as auth;
use portcullis::app::{self, Overrides, Running};
use portcullis::authz::time::Timestamp;
use portcullis::clock::now;
use portcullis::dev::issuer::Issuer;
use portcullis::dev::wire::Answer;
use portcullis::feed::config::PolicyFile;
use portcullis::feed::revocation::RevocationStatus;
use portcullis::gateway::envoy;
use portcullis::server::Endpoint;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;

use crate::edge::issuer;
use crate::parts::redis::{PASSWORD, Redis, USER, redis_program};
use crate::support::{ANY_PORT, DEADLINE, TempDir, ask};

const TOKEN: &str = "an-admin-token-of-this-test";

struct Replica {
    running: Running,
    channel: Channel,
    _dir: TempDir,
}

impl Replica {
    async fn start(issuer: &Issuer, redis: &Redis, more: &str) -> Self {
        let dir = TempDir::new();
        dir.file("admin.token", TOKEN);
        dir.file("redis.password", PASSWORD);
        let policy = format!(
            "
issuers:
  main: {{url: '{}', allow_http: true, audience: shop-api, cooldown: 0s, logout: shop-web}}
routes: {{/me: signed-in, /any: anyone}}
listen: {{public: '127.0.0.1:0'}}
store: {{url: '{}', username: {USER}, password: 'file:redis.password'}}
revocation: {{store: true{more}}}
admin: {{token: 'file:admin.token'}}
audit: none
",
            issuer.url(),
            redis.url()
        );
        let (file, compiled) = PolicyFile::open(dir.file("portcullis.yaml", policy)).unwrap_or_else(|p| panic!("{p}"));
        let listen = vec![Endpoint::Tcp(ANY_PORT)];
        let overrides = Overrides { listen, admin: Some(ANY_PORT), cores: Some(1), ..Overrides::default() };
        let running = app::start(file, compiled, &overrides).await.unwrap();
        running.feeds.attempted().await;
        let grpc = format!("http://{}", running.grpc[0]);
        let channel = Channel::from_shared(grpc).unwrap().connect().await.unwrap();
        Self { running, channel, _dir: dir }
    }

    async fn known(&self) -> RevocationStatus {
        self.until(|status| status.known).await
    }

    async fn until(&self, holds: impl FnMut(&RevocationStatus) -> bool) -> RevocationStatus {
        let mut status = self.running.revoker.as_ref().unwrap().status();
        *timeout(DEADLINE, status.wait_for(holds)).await.expect("it is told in time").unwrap()
    }

    /// 0 where the token passes, otherwise the status of its denial.
    async fn me(&self, token: &str) -> i32 {
        let headers =
            [(":method".to_owned(), "GET".to_owned()), ("authorization".to_owned(), format!("Bearer {token}"))];
        let http = auth::attribute_context::HttpRequest {
            method: "GET".into(),
            path: "/me".into(),
            host: "shop.test".into(),
            headers: headers.into(),
            ..Default::default()
        };
        let request = auth::attribute_context::Request { time: None, http: Some(http) };
        let attributes = auth::AttributeContext { request: Some(request), ..Default::default() };
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<auth::CheckRequest, auth::CheckResponse>::default();
        let call = tonic::Request::new(auth::CheckRequest { attributes: Some(attributes) });
        let answer = grpc.unary(call, http::uri::PathAndQuery::from_static(envoy::CHECK), codec).await.unwrap();
        match answer.into_inner().http_response {
            Some(auth::check_response::HttpResponse::DeniedResponse(denied)) => denied.status.unwrap().code,
            _ => 0,
        }
    }

    /// Waits until the answer is this one, and tells how long that took.
    async fn becomes(&self, token: &str, status: i32) -> Duration {
        let began = Instant::now();
        while self.me(token).await != status {
            assert!(began.elapsed() < DEADLINE, "it never becomes {status}");
        }
        began.elapsed()
    }

    async fn revoke(&self, body: &Value) -> Answer {
        post(self.running.admin, "/revocations", "application/json", &body.to_string()).await
    }

    async fn signs_out(&self, issuer: &str, token: &str) -> Answer {
        let (path, body) = (format!("/backchannel-logout/{issuer}"), format!("logout_token={token}"));
        post(self.running.public.unwrap(), &path, "application/x-www-form-urlencoded", &body).await
    }
}

async fn post(to: SocketAddr, path: &str, kind: &str, body: &str) -> Answer {
    let length = body.len();
    ask(to, format!(
        "POST {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
    .await
}

fn token(issuer: &Issuer, more: &Value) -> String {
    let mut claims = json!({"sub": "u1", "iat": now().as_millis() / 1_000 - 10});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    issuer.token(&claims)
}

fn shown(at: Timestamp) -> String {
    format!("{}Z", at.to_string().get(..19).unwrap())
}

#[tokio::test] // C02
async fn what_one_replica_revokes_is_revoked_on_both_within_a_second() {
    let Some(program) = redis_program() else { return };
    let (redis, issuer) = (Redis::start(&program), issuer().await);
    let (one, two) = tokio::join!(Replica::start(&issuer, &redis, ""), Replica::start(&issuer, &redis, ""));
    tokio::join!(one.known(), two.known());
    let now = shown(now());
    for (claims, revocation) in [
        (json!({"jti": "t1"}), json!({"issuer": "main", "token": "t1"})),
        (json!({"sid": "s1"}), json!({"issuer": "main", "session": "s1", "ticket": "OPS-1"})),
        (json!({"sub": "u2"}), json!({"principal": "main/u2"})),
        (json!({"sub": "u3"}), json!({"principal": "main/u3", "issued_before": now})),
        (json!({"sub": "u4", "jti": "last"}), json!({"issuer": "main", "issued_before": now})),
    ] {
        let presented = token(&issuer, &claims);
        // Both remember it.
        assert_eq!((one.me(&presented).await, two.me(&presented).await), (0, 0), "{claims}");
        let answer = one.revoke(&revocation).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!(one.me(&presented).await, 401, "here at once");
        let took = two.becomes(&presented, 401).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    let three = Replica::start(&issuer, &redis, "").await;
    three.known().await;
    assert_eq!(three.me(&token(&issuer, &json!({"jti": "t1"}))).await, 401);
    let fresh = token(&issuer, &json!({"sub": "u5", "iat": portcullis::clock::now().as_millis() / 1_000 + 2}));
    assert_eq!(three.me(&fresh).await, 0, "what was issued since passes");
}

#[tokio::test] // R01
async fn while_redis_cannot_tell_nobody_passes_unless_the_policy_says_so() {
    let Some(program) = redis_program() else { return };
    let (mut redis, issuer) = (Redis::start(&program), issuer().await);
    let (one, open) =
        tokio::join!(Replica::start(&issuer, &redis, ""), Replica::start(&issuer, &redis, ", unknown: allow"));
    tokio::join!(one.known(), open.known());
    let (good, bad) = (token(&issuer, &json!({"jti": "good"})), token(&issuer, &json!({"jti": "bad"})));
    assert_eq!(one.revoke(&json!({"issuer": "main", "token": "bad"})).await.status, 201);
    open.becomes(&bad, 401).await;

    redis.kill();
    one.becomes(&good, 503).await;
    assert_eq!(one.me(&bad).await, 401, "what is known to be revoked is so");
    open.until(|status| !status.known).await;
    assert_eq!((open.me(&good).await, open.me(&bad).await), (0, 401));
    let refused = one.revoke(&json!({"issuer": "main", "token": "other"})).await;
    assert_eq!((refused.status, refused.json().unwrap()["error"].as_str()), (503, Some("store_unavailable")));
    assert_eq!(one.me(&token(&issuer, &json!({"jti": "other"}))).await, 503, "it was not revoked");

    // It comes back empty: those who remember tell it.
    redis.restart();
    one.becomes(&good, 0).await;
    open.known().await;
    assert_eq!((one.me(&bad).await, open.me(&bad).await), (401, 401));
    let late = Replica::start(&issuer, &redis, "").await;
    late.known().await;
    assert_eq!((late.me(&good).await, late.me(&bad).await), (0, 401), "who comes later is told too");

    redis.pause();
    one.becomes(&good, 503).await;
    redis.resume();
    one.becomes(&good, 0).await;
    assert_eq!(one.me(&bad).await, 401);

    // Somebody wipes it while it runs.
    redis.command(&["FLUSHALL"]);
    let seeded = one.until(|status| status.seeds > 0 || status.known).await;
    assert!(seeded.entries >= 1);
    one.becomes(&good, 0).await;
    assert_eq!((one.me(&bad).await, late.me(&bad).await), (401, 401));
}

#[tokio::test]
async fn a_replica_that_starts_without_redis_is_closed_until_it_can_ask() {
    let Some(program) = redis_program() else { return };
    let (mut redis, issuer) = (Redis::start(&program), issuer().await);
    redis.kill();
    let one = Replica::start(&issuer, &redis, "").await;
    let good = token(&issuer, &json!({}));
    assert_eq!(one.me(&good).await, 503);
    redis.restart();
    one.becomes(&good, 0).await;
}

#[tokio::test]
async fn who_signs_out_at_the_issuer_is_signed_out_on_every_replica() {
    let Some(program) = redis_program() else { return };
    let (redis, issuer) = (Redis::start(&program), issuer().await);
    let (one, two) = tokio::join!(Replica::start(&issuer, &redis, ""), Replica::start(&issuer, &redis, ""));
    tokio::join!(one.known(), two.known());
    let iat = now().as_millis() / 1_000;
    let logout = |more: Value| {
        let event = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
        let mut claims =
            json!({"aud": "shop-web", "jti": "l1", "iat": iat, "exp": iat + 60, "events": event, "sub": null});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        issuer.token(&claims)
    };
    let (mine, other) = (token(&issuer, &json!({"sid": "s1"})), token(&issuer, &json!({"sid": "s2"})));
    assert_eq!((one.me(&mine).await, two.me(&other).await), (0, 0));
    for refused in [
        mine.clone(),
        logout(json!({"sid": "s1", "aud": "another"})),
        logout(json!({"sid": "s1", "nonce": "n"})),
        logout(json!({"sid": "s1", "events": {}})),
        logout(json!({"sid": "s1", "events": ["http://schemas.openid.net/event/backchannel-logout"]})),
        logout(json!({"sid": "s1", "exp": iat - 3_600, "iat": iat - 7_200})),
        logout(json!({"sid": "s1", "iss": "https://other.test"})),
        logout(json!({})),
        "not.a.token".to_owned(),
    ] {
        let answer = one.signs_out("main", &refused).await;
        assert_eq!((answer.status, answer.header("cache-control")), (400, Some("no-store")), "{refused}");
    }
    let good = logout(json!({"sid": "s1"}));
    assert_eq!(one.signs_out("other", &good).await.status, 400);
    assert_eq!(one.me(&mine).await, 0, "nothing of that signed anybody out");
    // With a key that portcullis has not seen yet.
    issuer.rotate();
    let answer = one.signs_out("main", &logout(json!({"sid": "s1"}))).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{}", answer.text());
    assert_eq!(one.me(&mine).await, 401);
    two.becomes(&mine, 401).await;
    assert_eq!(two.me(&other).await, 0, "another session of the same person");
    assert_eq!(two.signs_out("main", &logout(json!({"sub": "u1"}))).await.status, 200);
    one.becomes(&other, 401).await;
    assert_eq!(one.signs_out("main", &good).await.status, 200, "told twice is told once");
}

#[tokio::test]
async fn a_revocation_that_says_too_little_or_too_much_is_refused() {
    let Some(program) = redis_program() else { return };
    let (redis, issuer) = (Redis::start(&program), issuer().await);
    let one = Replica::start(&issuer, &redis, "").await;
    one.known().await;
    for (body, error) in [
        (json!({}), "bad_revocation"),
        (json!([]), "bad_revocation"),
        (json!({"issuer": "main"}), "bad_revocation"),
        (json!({"issuer": "main", "token": "t", "session": "s"}), "bad_revocation"),
        (json!({"issuer": "main", "token": "t", "more": 1}), "bad_revocation"),
        (json!({"issuer": "main", "token": "t", "issued_before": "2026-01-01T00:00:00Z"}), "bad_revocation"),
        (json!({"issuer": "main", "token": 1}), "bad_revocation"),
        (json!({"issuer": "main", "token": ""}), "bad_identifier"),
        (json!({"issuer": "main", "token": "x".repeat(1_025)}), "bad_identifier"),
        (json!({"issuer": "other", "token": "t"}), "unknown_issuer"),
        (json!({"principal": "other/u"}), "unknown_issuer"),
        (json!({"principal": "main"}), "unknown_issuer"),
        (json!({"issuer": "main", "token": "t", "until": "tomorrow"}), "bad_time"),
    ] {
        let answer = one.revoke(&body).await;
        assert_eq!((answer.status, answer.json().unwrap()["error"].as_str()), (400, Some(error)), "{body}");
    }
    assert_eq!(one.known().await.entries, 0);
}
