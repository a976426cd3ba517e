//! `portcullis probe` against the real Envoy: clean with the shipped file, and each hole of a broken one found and named.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use portcullis::config::{Compiled, compile};
use portcullis::dev::envoy::Envoy;
use portcullis::probe::echo::Echo;
use portcullis::probe::{Gateway, Options, Report, Trust, probe};
use serde_json::json;

use crate::edge::{POLICY, Portcullis, issuer, replaced, shipped};
use crate::support::{ANY_PORT, deserted_address, envoy_program, start_envoy_with};

/// An Envoy, what it asks, and the echo behind it.
struct Attacked {
    envoy: Envoy,
    echo: Echo,
    portcullis: Portcullis,
    policy: Compiled,
}

impl Attacked {
    async fn start(program: &Path, template: &str) -> Self {
        Self::asking(program, template, None).await
    }

    async fn asking(program: &Path, template: &str, other: Option<SocketAddr>) -> Self {
        let portcullis = Portcullis::with(issuer().await, POLICY).await;
        let echo = Echo::start(ANY_PORT).await.unwrap();
        let asked = other.unwrap_or(portcullis.running.grpc[0]);
        let envoy = start_envoy_with(program, template, asked, echo.address()).await;
        let text = POLICY.replace("ISSUER", portcullis.issuer.url());
        let (policy, problems) = compile("p.yaml", &text, &|_| Err(std::io::ErrorKind::NotFound.into()));
        let policy = policy.unwrap_or_else(|| panic!("{problems}"));
        Self { envoy, echo, portcullis, policy }
    }

    fn options(&self) -> Options {
        options(self.envoy.address())
    }

    fn with_token(&self) -> Options {
        let token = self.portcullis.issuer.token(&json!({"sub": "u1", "roles": ["premium"]}));
        Options { token: Some(token), protected: vec!["/secret-data".into()], ..self.options() }
    }

    async fn probe(&self, options: &Options) -> Report {
        probe(options, Some(&self.policy)).await.unwrap()
    }
}

fn options(at: SocketAddr) -> Options {
    Options {
        url: format!("http://{at}").parse().unwrap(),
        host: Some("shop.test".into()),
        public: Vec::new(),
        protected: Vec::new(),
        headers: Vec::new(),
        token: None,
        upstream: None,
        portcullis: None,
        gateway: None,
        trust: Trust::System,
        deadline: Duration::from_secs(10),
        total: Duration::from_secs(300),
    }
}

fn codes(report: &Report) -> Vec<&'static str> {
    report.findings.iter().map(|finding| finding.code).collect()
}

#[tokio::test]
async fn nothing_gets_through_the_shipped_envoy() {
    let Some(program) = envoy_program() else { return };
    let site = Attacked::start(&program, &shipped()).await;
    let report = site.probe(&site.with_token()).await;
    assert_eq!(report.through, 0, "{}", report.text());
    assert_eq!(report.untold, 0, "{}", report.text());
    assert_eq!(report.gateway, Some(Gateway::Envoy));
    assert!(report.held > 300, "{}", report.text());
    println!("{}", report.text());
    let _ = &site.echo;
}
