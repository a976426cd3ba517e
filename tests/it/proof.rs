//! Possession of a token's key or certificate, where it takes more than one request: a store, two replicas, a real gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use portcullis::authorizer::{Authorizer, Sealer};
use portcullis::authz::algorithm::Algorithm;
use portcullis::authz::request::{Asker, Proof};
use portcullis::clock::now;
use portcullis::dev::prover::{Occasion, Prover, hash};
use portcullis::dev::wire::Answer as Response;
use portcullis::gateway::envoy;
use portcullis::observe::Recorder;
use portcullis::observe::audit::Audit;
use portcullis::observe::metrics::Metrics;
use portcullis::store::Store;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::doors::{self, Answer, Asked, Beside, Http, Lines};
use crate::edge::{self, Portcullis, get, replaced, shipped};
use crate::parts::redis::{Redis, redis_program};
use crate::site::{Recipe, Site};
use crate::support::{DEADLINE, TempDir, envoy_program};

/// The certificate that callers have.
pub const CERTIFICATE: &[u8] = b"the certificate of a caller";

const POLICY: &str = "
issuers: {main: {url: 'https://id.test', audience: shop, proof: dpop}}
routes: {/a: signed-in}
";

/// A caller with a key.
pub fn prover() -> Prover {
    Prover::new([Algorithm::Es256].into_iter().collect())
}

/// A name that no other proof has.
pub fn name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("proof-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A certificate as Envoy sends it.
pub fn sent(der: &[u8]) -> String {
    let body = STANDARD.encode(der).replace('+', "%2B").replace('=', "%3D");
    format!("-----BEGIN%20CERTIFICATE-----%0A{body}%0A-----END%20CERTIFICATE-----%0A")
}

/// A proof of this very moment.
fn proof(method: &str, url: &str, token: &str, nonce: Option<&str>) -> String {
    let (at, id) = (now().as_millis() / 1_000, name());
    prover().proof(&Occasion { method, url, token, at, id: &id, nonce })
}

/// A check with a token and a proof of its key.
fn asked(site: &Site) -> Asked {
    let claims = json!({"cnf": {"jkt": prover().thumbprint()}});
    let token = site.token(claims.as_object().unwrap(), &Recipe::default());
    let lines = [
        (":method", "GET".to_owned()),
        (":authority", "shop.test".to_owned()),
        (":path", "/a".to_owned()),
        ("authorization", format!("DPoP {token}")),
        ("dpop", proof("GET", "https://shop.test/a", &token, None)),
    ];
    let lines = lines.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let http = Http { method: "GET".into(), target: "/a".into(), host: "shop.test".into(), lines };
    Asked { asker: Asker::Unix, beside: Beside::default(), source: None, http: Some(http) }
}

/// A process of the same site with this store.
fn replica(site: &Site, store: Store) -> Authorizer {
    let recorder = Recorder::new(Audit::off(), Metrics::default().core());
    Authorizer::new(Arc::clone(&site.live), recorder, Sealer::new(Arc::clone(&site.sealing), 1), store)
}

/// The reason of a denial, or `allow`.
async fn outcome(site: &Site, replica: &Authorizer, asked: &Asked) -> &'static str {
    let message = Bytes::from(doors::encoded(asked, Lines::Raw));
    let frame = envoy::check(replica, Asker::Unix, Proof::default(), Ok(message), None).await;
    match doors::read(site, &frame) {
        Answer::Allow { .. } => "allow",
        Answer::Deny { reason, .. } => reason.code(),
    }
}

#[tokio::test] // J30
async fn a_proof_passes_once_at_a_process_and_the_token_as_often_as_it_is_proven() {
    let site = Site::open(POLICY, &Default::default());
    let one = asked(&site);
    assert_eq!(outcome(&site, &site.authorizer, &one).await, "allow");
    assert_eq!(outcome(&site, &site.authorizer, &one).await, "proof_replayed");
    assert_eq!(outcome(&site, &site.authorizer, &asked(&site)).await, "allow");
    assert_eq!(outcome(&site, &replica(&site, Store::memory()), &one).await, "allow", "a memory is one process's own");
}

#[tokio::test] // J30
async fn two_replicas_with_a_real_redis_let_one_proof_pass_once() {
    use portcullis::store::redis::{Account, Address, Settings};
    let Some(program) = redis_program() else { return };
    let mut redis = Redis::start(&program);
    let (host, port) = redis.address();
    let settings = Settings {
        address: Address::Tcp(host.into(), port),
        roots: None,
        account: Account {
            user: Some(crate::parts::redis::USER.into()),
            password: Some(crate::parts::redis::PASSWORD.into()),
            database: 0,
        },
        deadline: DEADLINE,
        prefix: "portcullis:".into(),
    };
    let site = Site::open(POLICY, &Default::default());
    let replicas = [(); 2].map(|()| replica(&site, Store::redis(&settings).unwrap()));
    // The first connection may take longer than a check has time for; what then cannot be told is denied.
    for replica in &replicas {
        let connected = async { while outcome(&site, replica, &asked(&site)).await == "replay_unknown" {} };
        tokio::time::timeout(DEADLINE, connected).await.unwrap();
    }
    for _ in 0..20 {
        let one = asked(&site);
        let both = tokio::join!(outcome(&site, &replicas[0], &one), outcome(&site, &replicas[1], &one));
        let mut both = [both.0, both.1];
        both.sort_unstable();
        assert_eq!(both, ["allow", "proof_replayed"]);
    }
    redis.kill();
    for replica in &replicas {
        assert_eq!(outcome(&site, replica, &asked(&site)).await, "replay_unknown");
    }
}

const THROUGH_ENVOY: &str = "
issuers:
  main:
    {url: ISSUER, allow_http: true, cooldown: 0s, audience: shop-api, roles: roles, proof: {mode: either, nonce: required}}
gateways: {edge: {by: 127.0.0.0/8, believes: [certificate]}}
routes: {/a/**: signed-in, /stripped: {allow: signed-in, credential: strip}}
audit: none
";

fn nonce(answer: &Response) -> String {
    answer.header("dpop-nonce").expect("a nonce").to_owned()
}

#[tokio::test] // J30
async fn through_the_real_envoy_a_stolen_token_is_useless() {
    let Some(program) = envoy_program() else { return };
    let portcullis = Portcullis::with(edge::issuer().await, THROUGH_ENVOY).await;
    let token = portcullis.issuer.token(&json!({"sub": "u1", "cnf": {"jkt": prover().thumbprint()}}));
    // To Envoy in clear text, as behind a terminator of TLS.
    let site = edge::Site::of(portcullis, &program, &shipped()).await;
    let ask = |target: &str, scheme: &str, proofs: &[String], more: &str| {
        let proofs: String = proofs.iter().map(|proof| format!("DPoP: {proof}\r\n")).collect();
        site.ask(get(target, &format!("Authorization: {scheme} {token}\r\n{proofs}{more}")))
    };
    let answer = ask("/a/b", "DPoP", &[proof("GET", "https://shop.test/a/b", &token, None)], "").await;
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").unwrap().starts_with(r#"DPoP error="use_dpop_nonce", algs=""#));
    let nonce = nonce(&answer);
    let fresh = |method: &str, path: &str| proof(method, &format!("https://shop.test{path}"), &token, Some(&nonce));

    let good = fresh("GET", "/a/b");
    let answer = ask("/a/b?x=y", "DPoP", std::slice::from_ref(&good), "").await;
    assert_eq!((answer.status, answer.header("dpop-nonce")), (200, Some(&*nonce)));
    assert_eq!(edge::seen(&answer, "dpop"), [&*good], "as it came");
    let answer = ask("/a/b?x=y", "DPoP", std::slice::from_ref(&good), "").await;
    assert_eq!(answer.status, 401, "once");
    assert!(answer.header("www-authenticate").unwrap().starts_with(r#"DPoP error="invalid_dpop_proof""#));
    // Envoy normalises the path; so is the URL.
    assert_eq!(ask("/a/x/../%62", "DPoP", &[fresh("GET", "/a/b")], "").await.status, 200);
    assert_eq!(ask("/a/~", "DPoP", &[fresh("GET", "/a/%7E")], "").await.status, 200);
    for (target, scheme, proofs, more) in [
        ("/a/b", "DPoP", vec![], ""),
        ("/a/b", "Bearer", vec![], ""),
        ("/a/b", "Bearer", vec![fresh("GET", "/a/b")], ""),
        ("/a/b", "DPoP", vec![fresh("GET", "/a/b"), fresh("GET", "/a/b")], ""),
        ("/a/c", "DPoP", vec![fresh("GET", "/a/b")], ""),
        ("/a/b", "DPoP", vec![fresh("POST", "/a/b")], ""),
        (
            "/a/b",
            "DPoP",
            vec![proof("GET", "http://shop.test/a/b", &token, Some(&nonce))],
            "X-Forwarded-Proto: http\r\n",
        ),
        (
            "/a/b",
            "DPoP",
            vec![proof("GET", "https://other.test/a/b", &token, Some(&nonce))],
            "X-Forwarded-Host: other.test\r\n",
        ),
        ("/a/b", "DPoP", vec![proof("GET", "https://shop.test/a/b", "another", Some(&nonce))], ""),
    ] {
        let answer = ask(target, scheme, &proofs, more).await;
        assert_eq!(answer.status, 401, "{target} {scheme} {more}");
    }
    let answer = ask("/stripped", "DPoP", &[fresh("GET", "/stripped")], "").await;
    assert_eq!(answer.status, 200);
    assert!(edge::seen(&answer, "dpop").is_empty() && edge::seen(&answer, "authorization").is_empty());
    assert_eq!(site.upstream.seen(), 4, "nothing else reached the application");
}

/// A self-signed certificate in PEM, its DER, and its key in PEM.
pub fn certificate() -> (String, Vec<u8>, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["shop.test".into()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), certificate.der().to_vec(), key.serialize_pem())
}

/// The shipped file with TLS towards callers, of whose certificates it thinks so.
pub fn with_tls(dir: &TempDir, callers: &str) -> (String, String) {
    let (pem, _, key) = certificate();
    let (certificate, key) = (dir.file("edge.pem", &pem), dir.file("edge.key", key));
    let tls = format!(
        r#"      filter_chains:
        - transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              common_tls_context:
                tls_certificates:
                  - certificate_chain: {{ filename: "{}" }}
                    private_key: {{ filename: "{}" }}
                validation_context: {callers}
          filters:
"#,
        certificate.display(),
        key.display()
    );
    let template = replaced(&shipped(), "      filter_chains:\n        - filters:\n", &tls);
    let filter = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz\n";
    let indent = " ".repeat(22);
    (replaced(&template, filter, &format!("{filter}{indent}include_peer_certificate: true\n")), pem)
}

/// Asks over TLS, with a certificate or without; `None` where there is no answer.
pub async fn ask_over_tls(
    to: std::net::SocketAddr,
    trusted: &str,
    shown: Option<(&str, &str)>,
    raw: &str,
) -> Option<u16> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match shown {
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let name = ServerName::try_from("shop.test").unwrap();
    let stream = TcpStream::connect(to).await.unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    stream.write_all(raw.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    // Envoy may close without a goodbye.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

#[tokio::test]
async fn through_the_real_envoy_a_token_needs_the_certificate_that_it_is_bound_to() {
    let Some(program) = envoy_program() else { return };
    let dir = TempDir::new();
    let (template, trusted) = with_tls(&dir, "{ trust_chain_verification: ACCEPT_UNTRUSTED }");
    let portcullis = Portcullis::with(edge::issuer().await, THROUGH_ENVOY).await;
    let ((pem, der, key), (other, _, other_key)) = (certificate(), certificate());
    let bound = portcullis.bearer(&json!({"sub": "u1", "cnf": {"x5t#S256": hash(&der)}}));
    let unbound = portcullis.bearer(&json!({"sub": "u1"}));
    let site = edge::Site::of(portcullis, &program, &template).await;
    let ask = |shown, headers: &str| {
        let raw = get("/a/b", headers);
        let (to, trusted) = (site.envoy.address(), trusted.clone());
        async move { tokio::time::timeout(DEADLINE, ask_over_tls(to, &trusted, shown, &raw)).await.unwrap().unwrap() }
    };
    assert_eq!(ask(Some((&*pem, &*key)), &bound).await, 200);
    assert_eq!(ask(Some((&*pem, &*key)), &bound).await, 200, "as often as it likes");
    assert_eq!(ask(Some((&*other, &*other_key)), &bound).await, 401);
    assert_eq!(ask(None, &bound).await, 401);
    assert_eq!(ask(Some((&*pem, &*key)), &unbound).await, 401);
    assert_eq!(site.upstream.seen(), 2);
}
