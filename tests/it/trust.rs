//! Who may ask the real server, over TLS and without, and what is believed of whom; directly and through the real Envoy.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::auth::v3 as auth;
use hyper_util::rt::TokioIo;
use portcullis::app::{self, Overrides, Running};
use portcullis::dev::envoy::{self as shipped_envoy, Envoy, Ports};
use portcullis::dev::upstream::Upstream;
use portcullis::feed::config::PolicyFile;
use portcullis::gateway::envoy;
use portcullis::server::Protocol;
use portcullis::server::tls::{Tls, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::edge::{get, shipped};
use crate::support::{ANY_PORT, DEADLINE, TempDir, ask, envoy_program};

const SERVER: &str = "portcullis.example.com";
const GATEWAY: &str = "spiffe://td.test/ns/edge/sa/envoy";
const TOKEN: &str = "a-token-of-the-tests-0123456789abcdef";

/// `/office` passes where the caller's address is believed, which is 127.0.0.1; `/public` always.
const POLICY: &str = "
gateways:
  mesh: {by: \"spiffe://td.test/ns/edge/sa/envoy\", believes: [client_address]}
  token: {by: \"token:file:edge.token\", believes: [client_address]}
  local: {by: unix, believes: [client_address]}
routes:
  /office: public
  /public: public
guards:
  /office: network:127.0.0.0/8
listen:
  grpc:
    - 127.0.0.1:0
    - {address: '127.0.0.1:0', tls: {certificate: file:server.pem, key: file:server.key, client_ca: file:ca.pem, client: CLIENT}}
    - unix:SOCKET
audit: none
";

/// A certificate authority, and its certificates as PEM files.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        // A leaf of the same name would look as if it had signed itself.
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate and its key, both in PEM.
    pub fn sign(&self, names: Vec<SanType>, expired: bool) -> (String, String) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        if expired {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

/// A portcullis in this process that listens in all three ways.
struct Site {
    authority: Authority,
    running: Running,
    dir: TempDir,
}

impl Site {
    async fn start(client: &str) -> Self {
        let (dir, authority) = (TempDir::new(), Authority::new());
        let (certificate, key) = authority.sign(vec![dns(SERVER)], false);
        dir.file("server.pem", certificate);
        dir.file("server.key", key);
        dir.file("ca.pem", &authority.pem);
        dir.file("edge.token", TOKEN);
        let socket = dir.path().join("grpc.sock");
        let policy = POLICY.replace("CLIENT", client).replace("SOCKET", socket.to_str().unwrap());
        let (file, compiled) = PolicyFile::open(dir.file("portcullis.yaml", policy)).unwrap();
        let overrides = Overrides { admin: Some(ANY_PORT), cores: Some(1), ..Overrides::default() };
        let running = app::start(file, compiled, &overrides).await.unwrap();
        Self { authority, running, dir }
    }

    fn plain(&self) -> SocketAddr {
        self.running.grpc[0]
    }

    fn tls(&self) -> SocketAddr {
        self.running.grpc[1]
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("grpc.sock")
    }

    /// How a client connects that trusts this authority and shows this certificate.
    fn connector(&self, shown: Option<(String, String)>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match shown {
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    /// A channel over TLS; an error where the handshake fails.
    async fn channel(&self, shown: Option<(String, String)>) -> Result<Channel, tonic::transport::Error> {
        let (connector, address) = (self.connector(shown), self.tls());
        let connect = tower::service_fn(move |_: http::Uri| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let stream = connector.connect(ServerName::try_from(SERVER).unwrap(), stream).await?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        Endpoint::from_static("http://portcullis").connect_with_connector(connect).await
    }
}

/// A check of `/office` from 127.0.0.1, as Envoy would send it.
fn check() -> auth::CheckRequest {
    let http = auth::attribute_context::HttpRequest {
        method: "GET".into(),
        path: "/office".into(),
        host: "shop.test".into(),
        headers: [(":method".to_owned(), "GET".to_owned())].into(),
        ..Default::default()
    };
    let socket = core::SocketAddress { address: "127.0.0.1".into(), ..Default::default() };
    let address = core::Address { address: Some(core::address::Address::SocketAddress(socket)) };
    auth::CheckRequest {
        attributes: Some(auth::AttributeContext {
            source: Some(auth::attribute_context::Peer { address: Some(address), ..Default::default() }),
            request: Some(auth::attribute_context::Request { time: None, http: Some(http) }),
            ..Default::default()
        }),
    }
}

/// Whether a check passes; an error where there is no answer.
async fn asks(channel: Channel, metadata: &[(&'static str, &str)]) -> Result<bool, tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let mut call = tonic::Request::new(check());
    for (name, value) in metadata {
        call.metadata_mut().append(*name, value.parse().unwrap());
    }
    let codec = tonic_prost::ProstCodec::<auth::CheckRequest, auth::CheckResponse>::default();
    let answer = grpc.unary(call, http::uri::PathAndQuery::from_static(envoy::CHECK), codec).await?;
    Ok(answer.into_inner().status.unwrap().code == 0)
}

async fn plainly(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

#[tokio::test] // F05, F06
async fn over_tls_a_gateway_is_known_by_its_certificate_and_by_nothing_less() {
    let site = Site::start("optional").await;
    let signed = |names, expired| Some(site.authority.sign(names, expired));
    let known = site.channel(signed(vec![uri(GATEWAY)], false)).await.unwrap();
    assert!(asks(known, &[]).await.unwrap());
    for (names, why) in [
        (vec![uri("spiffe://td.test/ns/edge/sa/envoy2")], "another workload"),
        (vec![uri("spiffe://td.test.evil/ns/edge/sa/envoy")], "another trust domain"),
        (vec![uri(GATEWAY), uri("spiffe://td.test/ns/other")], "two of them"),
        (vec![dns("td.test")], "a host"),
    ] {
        let channel = site.channel(signed(names, false)).await.unwrap();
        assert!(!asks(channel, &[]).await.unwrap(), "{why}");
    }
    assert!(!asks(site.channel(None).await.unwrap(), &[]).await.unwrap(), "no certificate");
    assert!(asks(site.channel(None).await.unwrap(), &[("x-portcullis-token", TOKEN)]).await.unwrap());
    let stranger = Authority::new().sign(vec![uri(GATEWAY)], false);
    for shown in [Some(stranger), signed(vec![uri(GATEWAY)], true)] {
        // TLS 1.3 tells a client that it was refused with the first answer, or at the handshake.
        let refused = match site.channel(shown).await {
            Ok(channel) => asks(channel, &[]).await.is_err(),
            Err(_) => true,
        };
        assert!(refused);
    }
}

#[tokio::test] // F06
async fn where_a_certificate_is_required_nobody_asks_without_one() {
    let site = Site::start("required").await;
    let shown = site.authority.sign(vec![dns("someone.test")], false);
    assert!(!asks(site.channel(Some(shown)).await.unwrap(), &[]).await.unwrap(), "let in, and not known");
    let refused = match site.channel(None).await {
        Ok(channel) => asks(channel, &[("x-portcullis-token", TOKEN)]).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    // In the clear, to the port with TLS.
    let plain = match Endpoint::from_shared(format!("http://{}", site.tls())).unwrap().connect().await {
        Ok(channel) => asks(channel, &[]).await.is_err(),
        Err(_) => true,
    };
    assert!(plain);
    assert!(asks(plainly(site.plain()).await, &[("authorization", &format!("Bearer {TOKEN}"))]).await.unwrap());
    assert!(!asks(plainly(site.plain()).await, &[]).await.unwrap());
}

#[tokio::test] // D03
async fn a_handshake_that_is_never_finished_is_ended() {
    let site = Site::start("required").await;
    let mut silent = TcpStream::connect(site.tls()).await.unwrap();
    // The head of a handshake record of 512 bytes that does not come.
    silent.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(DEADLINE, silent.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection was still open");
}

#[tokio::test]
async fn a_certificate_is_renewed_while_connections_go_on_and_a_bad_one_is_not() {
    let site = Site::start("optional").await;
    let old = site.channel(None).await.unwrap();
    assert!(asks(old.clone(), &[("x-portcullis-token", TOKEN)]).await.unwrap());
    let (certificate, key) = site.authority.sign(vec![dns("elsewhere.test")], false);
    // A certificate whose key is still the old one.
    fs::write(site.dir.path().join("server.pem"), &certificate).unwrap();
    site.running.reloads.reload().await.unwrap();
    let metric = |text: &str, value: &str| text.contains(&format!("portcullis_tls_last_reload_success {value}\n"));
    let scrape = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", site.running.admin);
    let told = async |value: &str| {
        while !metric(&ask(site.running.admin, &scrape).await.text(), value) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, told("0")).await.expect("the metric says it");
    assert!(site.channel(None).await.is_ok(), "the old pair is still served");
    fs::write(site.dir.path().join("server.key"), &key).unwrap();
    site.running.reloads.reload().await.unwrap();
    tokio::time::timeout(DEADLINE, told("1")).await.expect("the metric says it");
    assert!(site.channel(None).await.is_err(), "the new pair is for another name");
    assert!(asks(old, &[("x-portcullis-token", TOKEN)]).await.unwrap(), "the open connection goes on");
}

#[tokio::test]
async fn a_pair_that_cannot_be_used_is_an_error_at_the_start_that_says_where() {
    let dir = TempDir::new();
    let authority = Authority::new();
    let (certificate, key) = authority.sign(vec![dns(SERVER)], false);
    let (_, other) = authority.sign(vec![dns(SERVER)], false);
    let files = |certificate: &str, key: &str, ca: Option<&str>| TlsFiles {
        certificate: dir.file("a.pem", certificate),
        key: dir.file("a.key", key),
        client_ca: ca.map(|ca| dir.file("ca.pem", ca)),
        client_optional: false,
    };
    let fault = |files| Tls::open(files, Protocol::Grpc).err().map(|fault| fault.to_string()).unwrap_or_default();
    assert_eq!(fault(files(&certificate, &key, Some(&authority.pem))), "");
    assert!(fault(files(&certificate, &other, None)).contains("cannot be used together"));
    assert!(fault(files("", &key, None)).contains("does not hold certificates"));
    assert!(fault(files(&certificate, "", None)).contains("does not hold a private key"));
    assert!(fault(files(&certificate, &key, Some("nothing"))).contains("does not hold certificates"));
    let missing = TlsFiles { certificate: dir.path().join("missing"), ..files("", &key, None) };
    assert!(fault(missing).contains("cannot be read: entity not found"));

    dir.file("server.pem", certificate);
    dir.file("server.key", other);
    let policy = "routes: {/a: public}\nlisten:\n  grpc: {address: '127.0.0.1:0', tls: {certificate: file:server.pem, key: file:server.key}}\n";
    let (file, compiled) = PolicyFile::open(dir.file("portcullis.yaml", policy)).unwrap();
    let overrides = Overrides { admin: Some(ANY_PORT), cores: Some(1), ..Overrides::default() };
    let error = app::start(file, compiled, &overrides).await.err().unwrap().to_string();
    assert!(error.contains("portcullis.yaml:3:19: TLS cannot be served on 127.0.0.1:0"), "{error}");
}

#[tokio::test] // D03
async fn large_messages_beyond_what_a_connection_may_make_us_keep_are_denied_and_not_failed() {
    let site = Site::start("optional").await;
    let channel = plainly(site.plain()).await;
    let mut large = check();
    let body = vec![b'x'; 12 << 20];
    large.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap().raw_body = body;
    let sent = (0..6).map(|_| {
        let (channel, call) = (channel.clone(), tonic::Request::new(large.clone()));
        async move {
            let mut grpc = tonic::client::Grpc::new(channel);
            grpc.ready().await.unwrap();
            let codec = tonic_prost::ProstCodec::<auth::CheckRequest, auth::CheckResponse>::default();
            grpc.unary(call, http::uri::PathAndQuery::from_static(envoy::CHECK), codec).await.unwrap().into_inner()
        }
    });
    let mut tasks = tokio::task::JoinSet::new();
    sent.for_each(|sent| _ = tasks.spawn(sent));
    let answers = tasks.join_all().await;
    // All six are answered: who asks is not known, and some of it was too much.
    assert!(answers.iter().all(|answer| answer.status.as_ref().unwrap().code == 7));
    let http = |answer: &auth::CheckResponse| match answer.http_response.as_ref().unwrap() {
        auth::check_response::HttpResponse::DeniedResponse(denied) => denied.status.as_ref().unwrap().code,
        other => panic!("{other:?}"),
    };
    let overloaded = answers.iter().filter(|answer| http(answer) == 503).count();
    assert!((1..6).contains(&overloaded), "{overloaded} of six");
    assert!(asks(channel, &[("x-portcullis-token", TOKEN)]).await.unwrap(), "it goes on");
}

/// Text indented, to stand below a line of YAML; without its comments.
fn indented(snippet: &str, by: usize) -> String {
    let lines = snippet.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

fn deployed(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/envoy").join(name)).unwrap()
}

fn after(template: &str, line: &str, snippet: &str) -> String {
    assert_eq!(template.matches(line).count(), 1, "{line}");
    template.replace(line, &format!("{line}{snippet}"))
}

#[tokio::test]
async fn through_the_real_envoy_each_way_to_ask_is_known_as_what_it_is() {
    let Some(program) = envoy_program() else { return };
    let site = Site::start("required").await;
    let upstream = Upstream::start(ANY_PORT).await.unwrap();
    let configured = |template: &str, portcullis: SocketAddr| {
        let ports = Ports { listener: 0, portcullis: portcullis.port(), upstream: upstream.address().port(), admin: 0 };
        shipped_envoy::configure(template, ports).unwrap()
    };
    let (certificate, key) = site.authority.sign(vec![uri(GATEWAY)], false);
    let tls = deployed("over-tls.yaml")
        .replace("/etc/envoy/gateway.pem", site.dir.file("gateway.pem", certificate).to_str().unwrap())
        .replace("/etc/envoy/gateway.key", site.dir.file("gateway.key", key).to_str().unwrap())
        .replace("/etc/envoy/portcullis-ca.pem", site.dir.path().join("ca.pem").to_str().unwrap());
    let over_tls = after(&shipped(), "    - name: portcullis\n      type: STATIC\n", &indented(&tls, 6));
    let token = deployed("with-token.yaml").replace("PUT_THE_TOKEN_HERE", TOKEN);
    let with_token =
        after(&shipped(), "                        envoy_grpc: { cluster_name: portcullis }\n", &indented(&token, 24));
    let pipe = deployed("over-unix.yaml").replace("/run/portcullis/grpc.sock", site.socket().to_str().unwrap());
    let address = format!("socket_address: {{ address: 127.0.0.1, port_value: {} }}\n", site.plain().port());
    let plain = configured(&shipped(), site.plain());
    assert_eq!(plain.matches(&address).count(), 1);
    let over_unix = plain.replace(&address, indented(&pipe, 0).as_str());

    for (config, status, how) in [
        (configured(&over_tls, site.tls()), 200, "TLS"),
        (configured(&with_token, site.plain()), 200, "a token"),
        (over_unix, 200, "a unix socket"),
        (plain, 403, "in the clear"),
    ] {
        let envoy = Envoy::start(&program, &config).await.unwrap_or_else(|error| panic!("{how}: {error}"));
        assert_eq!(ask(envoy.address(), get("/public", "")).await.status, 200, "{how}: {}", envoy.log());
        let answer = ask(envoy.address(), get("/office", "")).await;
        assert_eq!(answer.status, status, "{how}");
        assert!(!answer.text().contains(TOKEN), "{how}");
    }
}
