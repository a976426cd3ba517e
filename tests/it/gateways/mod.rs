//! The real gateways with the shipped files, each asking the real portcullis: what callers get, and what the application sees.

mod closed;
mod forged;
mod holes;
mod passing;
mod restart;
mod traefik;
mod verdicts;

use std::net::SocketAddr;

use portcullis::dev::envoy::{self, Envoy};
use portcullis::dev::upstream::Upstream;
use portcullis::dev::wire::Answer;
use serde_json::json;

use crate::docs;
use crate::edge::{self, Portcullis, replaced};
use crate::parts::caddy::{self, Caddy, caddy_program};
use crate::parts::haproxy::{self, Haproxy, haproxy_program};
use crate::parts::nginx::{self, Nginx, nginx_program};
use crate::support::{ANY_PORT, ask, envoy_program, start_envoy_with};

const ENVOY_HTTP: &str = include_str!("../../../deploy/envoy/http-service.yaml");

/// What the shipped files are for, with an entry for each dialect. `ISSUER` and `LISTEN` are replaced.
const POLICY: &str = r#"
listen: {http: "LISTEN"}
issuers: {main: {url: ISSUER, allow_http: true, cooldown: 0s, audience: shop-api, roles: roles}}
gateways:
  envoy: {by: 127.0.0.0/8, believes: [client_address], client_address: {from: connection}}
  envoy-http: {by: 127.0.0.0/8, dialect: envoy-http, believes: [client_address], client_address: {from: x-envoy-external-address}}
  nginx: {by: 127.0.0.0/8, dialect: nginx, believes: [client_address], client_address: {from: connection}}
  caddy: {by: 127.0.0.0/8, dialect: caddy, believes: [client_address], client_address: {from: xff, hops: 1}}
  haproxy: {by: 127.0.0.0/8, dialect: haproxy, believes: [client_address], client_address: {from: connection}}
  traefik: {by: 127.0.0.0/8, dialect: traefik, believes: [client_address], client_address: {from: xff, hops: 1}}
headers: {X-User-ID: sub, X-User-Roles: roles, X-Tenant: tenant}
routes:
  /health: public
  /here: network:127.0.0.0/8
  /office: network:198.51.100.0/24
  PUT /profile/{id}: owner:id or role:admin
  /secret-data: role:premium
  /t/{tenant}/**: claim:tenant={tenant}
  /chat: role:premium
cors: {origins: [https://app.test]}
public_url: https://shop.example.com
sign_in: https://login.example.com/?return_to={url}
audit: none
"#;

/// A gateway that can be had here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gateway {
    EnvoyGrpc,
    EnvoyHttp,
    Nginx,
    Caddy,
    Haproxy,
}

impl Gateway {
    const ALL: [Self; 5] = [Self::EnvoyGrpc, Self::EnvoyHttp, Self::Nginx, Self::Caddy, Self::Haproxy];

    /// The shipped file.
    fn shipped(self) -> &'static str {
        match self {
            Self::EnvoyGrpc => envoy::TEMPLATE,
            Self::EnvoyHttp => ENVOY_HTTP,
            Self::Nginx => nginx::TEMPLATE,
            Self::Caddy => caddy::TEMPLATE,
            Self::Haproxy => haproxy::TEMPLATE,
        }
    }

    /// The same, patient: on a machine that compiles and tests at once, 1 s is no time.
    fn template(self) -> String {
        let (short, long) = match self {
            Self::EnvoyGrpc | Self::EnvoyHttp => ("timeout: 0.2s", "timeout: 9s"),
            Self::Nginx | Self::Caddy => ("timeout 1s", "timeout 9s"),
            Self::Haproxy => (":9002 500", ":9002 9000"),
        };
        replaced(self.shipped(), short, long)
    }

    /// Starts it; `None` where there is no such program on a laptop.
    async fn start(self, portcullis: SocketAddr, upstream: SocketAddr) -> Option<Door> {
        self.start_with(&self.template(), portcullis, upstream).await
    }

    /// The same with a variant of the file.
    async fn start_with(self, template: &str, portcullis: SocketAddr, upstream: SocketAddr) -> Option<Door> {
        let running = match self {
            Self::EnvoyGrpc => {
                Running::Envoy(start_envoy_with(&envoy_program()?, template, portcullis, upstream).await)
            }
            Self::EnvoyHttp => {
                let template = replaced(template, "port_value: 9002", "port_value: 9000");
                Running::Envoy(start_envoy_with(&envoy_program()?, &template, portcullis, upstream).await)
            }
            Self::Nginx => Running::Nginx(Nginx::start(&nginx_program()?, template, portcullis, upstream)),
            Self::Caddy => Running::Caddy(Caddy::start(&caddy_program()?, template, portcullis, upstream)),
            Self::Haproxy => Running::Haproxy(Haproxy::start(&haproxy_program()?, template, portcullis, upstream)),
        };
        Some(Door { gateway: self, running })
    }
}

/// What keeps one of them running.
enum Running {
    Envoy(Envoy),
    Nginx(Nginx),
    Caddy(Caddy),
    Haproxy(Haproxy),
}

/// A gateway that runs.
struct Door {
    gateway: Gateway,
    running: Running,
}

impl Door {
    fn address(&self) -> SocketAddr {
        match &self.running {
            Running::Envoy(envoy) => envoy.address(),
            Running::Nginx(nginx) => nginx.address(),
            Running::Caddy(caddy) => caddy.address(),
            Running::Haproxy(haproxy) => haproxy.address(),
        }
    }

    async fn ask(&self, raw: impl AsRef<[u8]>) -> Answer {
        ask(self.address(), raw).await
    }
}

/// Portcullis, a mirror, and every gateway before both.
struct House {
    portcullis: Portcullis,
    upstream: Upstream,
    doors: Vec<Door>,
}

impl House {
    async fn start() -> Self {
        let policy = POLICY.replace("LISTEN", "127.0.0.1:0");
        let portcullis = Portcullis::with(edge::issuer().await, &policy).await;
        let upstream = Upstream::start(ANY_PORT).await.unwrap();
        let mut doors = Vec::new();
        for gateway in Gateway::ALL {
            let running = &portcullis.running;
            let at = if gateway == Gateway::EnvoyGrpc { running.grpc[0] } else { running.http[0] };
            doors.extend(gateway.start(at, upstream.address()).await);
        }
        Self { portcullis, upstream, doors }
    }

    /// A caller who may.
    fn premium(&self) -> String {
        self.portcullis.premium()
    }

    /// A caller who may nothing in particular.
    fn other(&self) -> String {
        self.portcullis.bearer(&json!({"sub": "u2", "roles": []}))
    }
}

/// What the application saw under a name; an empty line, which Caddy 2.6 sends for what is not set, is none.
fn seen(answer: &Answer, name: &str) -> Vec<String> {
    edge::seen(answer, name).into_iter().filter(|value| !value.is_empty()).collect()
}

/// The path with query that the application saw.
fn path(answer: &Answer) -> String {
    answer.json().unwrap()["path"].as_str().unwrap().to_owned()
}

#[test]
fn what_the_page_shows_of_a_file_is_the_file_or_is_tested_here() {
    let page = docs::read("docs/gateways.md");
    let tested: String = passing::RESPONSE_LINES.iter().map(|(_, _, line)| *line).collect();
    let mut shown = 0;
    for (language, files) in [
        ("nginx", &["deploy/nginx/portcullis.conf"][..]),
        ("caddyfile", &["deploy/caddy/Caddyfile"]),
        ("haproxy", &["deploy/haproxy/haproxy.cfg"]),
        ("yaml", &["deploy/traefik/dynamic.yaml", "deploy/envoy/http-service.yaml"]),
    ] {
        let files: String = files.iter().map(|file| docs::read(file)).collect();
        for (line, text) in docs::blocks(&page, language) {
            let policy = text.starts_with("listen: ");
            shown += 1;
            assert!(policy || files.contains(&text) || tested.contains(&text), "docs/gateways.md:{line}");
        }
    }
    assert_eq!(shown, 9);
}
