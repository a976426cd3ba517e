//! What the tests through the real Envoy share: the shipped file in two variants, portcullis with an issuer, and a mirror.

use std::path::Path;

use portcullis::app::{self, Overrides, Running};
use portcullis::authz::algorithm::Algorithm;
use portcullis::dev::envoy::{self, Envoy};
use portcullis::dev::issuer::{Issuer, Settings};
use portcullis::dev::upstream::Upstream;
use portcullis::dev::wire::Answer;
use portcullis::feed::config::PolicyFile;
use portcullis::server::Endpoint;
use serde_json::{Value, json};

use crate::support::{ANY_PORT, DEADLINE, TempDir, ask, start_envoy_with};

pub const POLICY: &str = "
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

pub fn replaced(template: &str, from: &str, to: &str) -> String {
    assert!(template.contains(from), "{from}");
    template.replace(from, to)
}

/// The shipped file, patient: on a machine that compiles and tests at once, 0.2 s is no time.
pub fn shipped() -> String {
    replaced(envoy::TEMPLATE, "timeout: 0.2s", "timeout: 5s")
}

/// The same, where an error lets pass.
pub fn failing_open() -> String {
    replaced(&shipped(), "failure_mode_allow: false", "failure_mode_allow: true")
}

/// Portcullis and its issuer, in this process.
pub struct Portcullis {
    pub issuer: Issuer,
    pub running: Running,
    _dir: TempDir,
}

impl Portcullis {
    pub async fn start() -> Self {
        Self::behind(issuer().await).await
    }

    pub async fn behind(issuer: Issuer) -> Self {
        Self::with(issuer, POLICY).await
    }

    /// With a policy in which `ISSUER` stands for the issuer's URL.
    pub async fn with(issuer: Issuer, policy: &str) -> Self {
        let dir = TempDir::new();
        let policy = dir.file("portcullis.yaml", policy.replace("ISSUER", issuer.url()));
        let (file, compiled) = PolicyFile::open(policy).unwrap();
        let listen = vec![Endpoint::Tcp(ANY_PORT)];
        let overrides = Overrides { listen, admin: Some(ANY_PORT), cores: Some(1), ..Overrides::default() };
        let running = app::start(file, compiled, &overrides).await.unwrap();
        running.feeds.attempted().await;
        Self { issuer, running, _dir: dir }
    }

    pub fn bearer(&self, claims: &Value) -> String {
        bearer(&self.issuer, claims)
    }

    pub fn premium(&self) -> String {
        self.bearer(&json!({"sub": "u1", "roles": ["premium"]}))
    }
}

pub async fn issuer() -> Issuer {
    let settings = Settings { audience: "shop-api".into(), algorithm: Algorithm::Es256, keep_old: DEADLINE };
    Issuer::start(ANY_PORT, settings).await.unwrap()
}

pub fn bearer(issuer: &Issuer, claims: &Value) -> String {
    format!("Authorization: Bearer {}\r\n", issuer.token(claims))
}

/// An Envoy, what it asks, and a mirror behind it.
pub struct Site {
    pub envoy: Envoy,
    pub upstream: Upstream,
    pub portcullis: Portcullis,
}

impl Site {
    pub async fn start(program: &Path, template: &str) -> Self {
        Self::of(Portcullis::start().await, program, template).await
    }

    pub async fn of(portcullis: Portcullis, program: &Path, template: &str) -> Self {
        let upstream = Upstream::start(ANY_PORT).await.unwrap();
        let envoy = start_envoy_with(program, template, portcullis.running.grpc[0], upstream.address()).await;
        Self { envoy, upstream, portcullis }
    }

    pub async fn ask(&self, raw: impl AsRef<[u8]>) -> Answer {
        ask(self.envoy.address(), raw).await
    }
}

pub fn request(method: &str, target: &str, headers: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n{headers}\r\n")
}

pub fn get(target: &str, headers: &str) -> String {
    request("GET", target, headers)
}

pub fn upgrade(target: &str, headers: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// The values that the application saw under a name, in any spelling that some server reads as that name.
pub fn seen(answer: &Answer, name: &str) -> Vec<String> {
    let fold = |name: &str| {
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect::<String>()
    };
    let mirrored = answer.json().unwrap();
    let headers = mirrored["headers"].as_array().unwrap().iter();
    let named = headers.filter(|header| fold(header[0].as_str().unwrap()) == name);
    named.map(|header| header[1].as_str().unwrap().to_owned()).collect()
}
