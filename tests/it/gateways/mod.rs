//! The real gateways with the shipped files, each asking the real portcullis: what callers get, and what the application sees.

mod closed;

use std::net::SocketAddr;

use portcullis::dev::envoy::{self, Envoy};
use portcullis::dev::wire::Answer;

use crate::edge::replaced;
use crate::parts::caddy::{self, Caddy, caddy_program};
use crate::parts::haproxy::{self, Haproxy, haproxy_program};
use crate::parts::nginx::{self, Nginx, nginx_program};
use crate::support::{ask, envoy_program, start_envoy_with};

const ENVOY_HTTP: &str = include_str!("../../../deploy/envoy/http-service.yaml");

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

    /// The shipped file, patient: on a machine that compiles and tests at once, 1 s is no time.
    fn template(self) -> String {
        match self {
            Self::EnvoyGrpc => replaced(envoy::TEMPLATE, "timeout: 0.2s", "timeout: 9s"),
            Self::EnvoyHttp => replaced(ENVOY_HTTP, "timeout: 0.2s", "timeout: 9s"),
            Self::Nginx => replaced(nginx::TEMPLATE, "timeout 1s", "timeout 9s"),
            Self::Caddy => replaced(caddy::TEMPLATE, "timeout 1s", "timeout 9s"),
            Self::Haproxy => replaced(haproxy::TEMPLATE, ":9002 1000", ":9002 9000"),
        }
    }

    /// Starts it; `None` where there is no such program on a laptop.
    async fn start(self, portcullis: SocketAddr, upstream: SocketAddr) -> Option<Door> {
        let template = self.template();
        let running = match self {
            Self::EnvoyGrpc => {
                Running::Envoy(start_envoy_with(&envoy_program()?, &template, portcullis, upstream).await)
            }
            Self::EnvoyHttp => {
                let template = replaced(&template, "port_value: 9002", "port_value: 9000");
                Running::Envoy(start_envoy_with(&envoy_program()?, &template, portcullis, upstream).await)
            }
            Self::Nginx => Running::Nginx(Nginx::start(&nginx_program()?, &template, portcullis, upstream)),
            Self::Caddy => Running::Caddy(Caddy::start(&caddy_program()?, &template, portcullis, upstream)),
            Self::Haproxy => Running::Haproxy(Haproxy::start(&haproxy_program()?, &template, portcullis, upstream)),
        };
        Some(Door { running })
    }
}

/// One of them that runs.
enum Running {
    Envoy(Envoy),
    Nginx(Nginx),
    Caddy(Caddy),
    Haproxy(Haproxy),
}

struct Door {
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
