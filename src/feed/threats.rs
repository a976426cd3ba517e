//! What THREATS K says of keys, end to end: checks that are answered by the shell, over feeds that really fetch.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer as Signer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::fetch::{FetchError, Fetcher, Source};
use super::folder::Folder;
use super::introspect::{AskError, Asker as Asks};
use super::jwks::{Beside, Feeds};
use super::reach::Names;
use super::saved::SavedKeys;
use super::trial::{Canned, Scratch, compiled, discovery, issuer, ok};
use crate::authorizer::{Authorizer, Sealer};
use crate::authz::algorithm::Algorithm;
use crate::authz::decision::Verdict;
use crate::authz::decision_id::SealingKey;
use crate::authz::gateways::Dialect;
use crate::authz::reason::Reason;
use crate::authz::request::{Asker, Header, Raw};
use crate::clock::now;
use crate::config::{Authority, KeySource};
use crate::dev::issuer::{Behaviour, Issuer};
use crate::dev::mint::SigningKey;
use crate::live::{Live, Publisher};
use crate::observe::Recorder;
use crate::observe::audit::Audit;
use crate::observe::metrics::Metrics;
use crate::store::Store;

/// Whoever checks tokens by feeds that fetch.
struct Gate {
    authorizer: Authorizer,
    publisher: Publisher,
    feeds: Feeds,
}

impl Gate {
    async fn start(issuers: &[(&str, &Source, &str)]) -> Self {
        Self::start_with(issuers, Beside::default()).await
    }

    async fn start_with(issuers: &[(&str, &Source, &str)], beside: Beside) -> Self {
        let (live, publisher, asked) = Live::new();
        let fetcher = Fetcher::new().with_deadline(Duration::from_secs(60));
        let feeds = Feeds::start_with(publisher.clone(), asked, fetcher, beside);
        let sealer = Sealer::new(Arc::new(SealingKey::new(&[7; 32]).unwrap()), 1);
        let authorizer =
            Authorizer::new(live, Recorder::new(Audit::off(), Metrics::default().core()), sealer, Store::memory());
        let gate = Self { authorizer, publisher, feeds };
        gate.publish(issuers).await;
        gate.feeds.attempted().await;
        gate
    }

    async fn publish(&self, issuers: &[(&str, &Source, &str)]) {
        let compiled = compiled(issuers);
        self.feeds.publish(compiled.policy, compiled.fixed, compiled.feeds).await;
    }

    /// Why a token is denied; `None` where it passes.
    async fn denies(&self, token: &str) -> Option<Reason> {
        let bearer = format!("Bearer {token}");
        let raw = Raw::new(
            Dialect::Envoy,
            Asker::Unix,
            [b"GET", b"/", b"shop.test"],
            vec![
                Header { name: b":method", value: b"GET" },
                Header { name: b":path", value: b"/" },
                Header { name: b"authorization", value: bearer.as_bytes() },
            ],
        );
        let answered = self.authorizer.check(Ok(raw), Some(Duration::from_secs(60))).await;
        match answered.decision.verdict() {
            Verdict::Allow(_) => None,
            Verdict::Deny(denial) => Some(denial.reason()),
        }
    }
}

fn token(issuer: &Issuer) -> String {
    issuer.token(&json!({"sub": "u1"}))
}

/// Claims that the policy of `iss` takes.
fn claims(iss: &str) -> Value {
    let at = now().as_millis().div_euclid(1_000);
    json!({"iss": iss, "sub": "u1", "aud": "shop-api", "iat": at, "exp": at.saturating_add(600)})
}

fn key_set(kid: &str, keys: &[&SigningKey]) -> String {
    json!({"keys": keys.iter().map(|key| key.public_jwk(Some(kid))).collect::<Vec<_>>()}).to_string()
}

const EAGER: &str = "refresh: 1h, cooldown: 0s";
const COOL: &str = "refresh: 1h, cooldown: 1h";

#[tokio::test] // K05
async fn ten_thousand_random_kids_cost_one_fetch_and_nobody_else_notices() {
    let provider = issuer().await;
    let gate = Gate::start(&[("main", &discovery(&provider), COOL)]).await;
    let (forger, good) = (SigningKey::generate(Algorithm::Es256), token(&provider));
    let claims = claims(provider.url());
    for number in 0..10_000 {
        let flood = forger.token(Some(&format!("random-{number}")), &claims);
        assert_eq!(gate.denies(&flood).await, Some(Reason::KeyUnknown));
        if number % 500 == 0 {
            assert_eq!(gate.denies(&good).await, None);
            assert_eq!(gate.denies(&token(&provider)).await, None, "a new token of a known key");
        }
    }
    assert_eq!(provider.fetches().keys, 1);
}

#[tokio::test] // K08
async fn a_key_that_changed_under_its_kid_is_found_by_one_fetch_a_cool_down() {
    let (old, new) = (SigningKey::generate(Algorithm::Es256), SigningKey::generate(Algorithm::Es256));
    let server = Canned::one_by_one(&[&key_set("k", &[&old]), &key_set("k", &[&new])]).await;
    let from = KeySource::Jwks(server.url.as_str().into());
    let source = Source { issuer: "https://id.example.com".into(), from, allow_http: true, ca: None };
    let claims = claims("https://id.example.com");
    let gate = Gate::start(&[("main", &source, EAGER)]).await;
    let remembered = old.token(Some("k"), &claims);
    assert_eq!(gate.denies(&remembered).await, None);
    assert_eq!(gate.denies(&new.token(Some("k"), &claims)).await, None);
    // What the old key signed is forgotten with it.
    assert_eq!(gate.denies(&remembered).await, Some(Reason::SignatureInvalid));

    let server = Canned::body(&key_set("k", &[&new])).await;
    let source = Source { from: KeySource::Jwks(server.url.as_str().into()), ..source };
    let gate = Gate::start(&[("main", &source, COOL)]).await;
    for _ in 0..200 {
        assert_eq!(gate.denies(&old.token(Some("k"), &claims)).await, Some(Reason::SignatureInvalid));
    }
    assert_eq!(server.hits(), 1, "forgeries under a known kid cost no fetch within the cool-down");
}

#[tokio::test] // K07
async fn a_start_while_the_issuer_is_down_works_from_disk_and_from_the_same_place_only() {
    let (scratch, provider) = (Scratch::new(), issuer().await);
    let folder = Arc::new(Folder::new(scratch.0.clone()));
    let beside = || Beside { saved: Some(SavedKeys::start(Arc::clone(&folder))), ..Beside::default() };
    let source = discovery(&provider);
    let known = token(&provider);
    drop(Gate::start_with(&[("main", &source, COOL)], beside()).await);
    while folder.names(".keys").unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    provider.behave(Behaviour::Down);
    let gate = Gate::start_with(&[("main", &source, EAGER)], beside()).await;
    assert_eq!(gate.denies(&known).await, None);
    assert_eq!(gate.denies(&token(&provider)).await, None);
    let status = gate.feeds.status().borrow()["main"].clone();
    assert_eq!((status.keys, status.error, status.failures), (1, Some(FetchError::Interrupted), 1));
    provider.rotate();
    assert_eq!(gate.denies(&token(&provider)).await, Some(Reason::KeysUnavailable), "a key that is not on disk");
    provider.behave(Behaviour::Normal);
    assert_eq!(gate.denies(&token(&provider)).await, None);
    provider.behave(Behaviour::Down);
    // Too old, renamed, moved: there are none.
    let moved = Source { from: KeySource::Jwks(format!("{}/jwks.json", provider.url()).into()), ..source.clone() };
    let short = format!("{COOL}, max_stale: 1ms, refresh: 1ms").replacen("refresh: 1h, ", "", 1);
    for (name, source, more) in [("main", &source, &*short), ("other", &source, COOL), ("main", &moved, COOL)] {
        let gate = Gate::start_with(&[(name, source, more)], beside()).await;
        assert_eq!(gate.denies(&known).await, Some(Reason::KeysUnavailable), "{name} {source:?} {more}");
    }
}

#[tokio::test] // K10
async fn a_flood_for_one_issuer_is_not_felt_by_another() {
    let (flooded, quiet) = (issuer().await, issuer().await);
    let more = |prefix: &str| format!("{EAGER}, subject_prefix: '{prefix}:'");
    let (a, b) = (more("a"), format!("{COOL}, subject_prefix: 'b:'"));
    let gate = Gate::start(&[("flooded", &discovery(&flooded), &a), ("quiet", &discovery(&quiet), &b)]).await;
    let remembered = token(&quiet);
    assert_eq!(gate.denies(&remembered).await, None);
    let forger = SigningKey::generate(Algorithm::Es256);
    flooded.behave(Behaviour::Down);
    for number in 0..200 {
        let flood = forger.token(Some(&format!("random-{number}")), &claims(flooded.url()));
        assert_eq!(gate.denies(&flood).await, Some(Reason::KeysUnavailable));
        assert_eq!(gate.denies(&remembered).await, None);
    }
    assert_eq!((quiet.fetches().keys, gate.denies(&token(&quiet)).await), (1, None));
    assert!(flooded.fetches().discovery > 100, "without a cool-down each is a fetch, of that issuer alone");
    // The cool-down is each issuer's own: the quiet one's is not spent by the other's, and the other way round.
    gate.publish(&[("flooded", &discovery(&flooded), &a), ("quiet", &discovery(&quiet), &more("b"))]).await;
    quiet.rotate();
    assert_eq!(gate.denies(&token(&quiet)).await, None);
}

#[tokio::test] // J05
async fn a_denied_kid_and_an_early_token_are_refused_though_they_were_verified_before() {
    let provider = issuer().await;
    let gate = Gate::start(&[("main", &discovery(&provider), COOL)]).await;
    let (stolen, first) = (provider.kid(), token(&provider));
    let nameless = provider.token(&json!({"sub": "u1", "iat": null}));
    for token in [&first, &nameless] {
        assert_eq!(gate.denies(token).await, None);
        assert_eq!(gate.denies(token).await, None, "by being remembered");
    }
    let denied = format!("{COOL}, deny_kids: ['{stolen}', other]");
    gate.publish(&[("main", &discovery(&provider), &denied)]).await;
    assert_eq!(gate.denies(&first).await, Some(Reason::KeyDenied));
    assert_eq!(gate.denies(&nameless).await, Some(Reason::KeyDenied));

    let minute = Duration::from_secs(60);
    let later = now().plus(minute).to_string();
    let later = format!("{}Z", later.split('.').next().unwrap());
    gate.publish(&[("main", &discovery(&provider), &format!("{COOL}, reject_issued_before: {later}"))]).await;
    assert_eq!(gate.denies(&first).await, Some(Reason::IssuedTooEarly));
    assert_eq!(gate.denies(&nameless).await, Some(Reason::IssuedTooEarly), "it does not say when");
    gate.publish(&[("main", &discovery(&provider), &format!("{COOL}, reject_issued_before: 2026-01-01T00:00:00Z"))])
        .await;
    assert_eq!(gate.denies(&first).await, None);
    assert_eq!(gate.denies(&nameless).await, Some(Reason::IssuedTooEarly));
}

#[tokio::test]
async fn a_token_without_a_kid_is_not_verified_by_a_denied_key() {
    let provider = issuer().await;
    let key = SigningKey::generate(Algorithm::Es256);
    let server = Canned::body(&key_set("stolen", &[&key])).await;
    let from = KeySource::Jwks(server.url.as_str().into());
    let source = Source { issuer: provider.url().into(), from, allow_http: true, ca: None };
    let nameless = key.token(None, &claims(provider.url()));
    let gate = Gate::start(&[("main", &source, COOL)]).await;
    assert_eq!(gate.denies(&nameless).await, None);
    let gate = Gate::start(&[("main", &source, &format!("{COOL}, deny_kids: stolen"))]).await;
    assert_eq!(gate.denies(&nameless).await, Some(Reason::KeyUnknown));
}

#[tokio::test]
async fn nothing_of_a_suspended_issuer_passes_though_it_was_verified_before() {
    let (stolen, other) = (issuer().await, issuer().await);
    let sources = (discovery(&stolen), discovery(&other));
    let (a, b) = (format!("{EAGER}, subject_prefix: 'a:'"), format!("{EAGER}, subject_prefix: 'b:'"));
    let issuers: &[(&str, &Source, &str)] = &[("stolen", &sources.0, &a), ("other", &sources.1, &b)];
    let gate = Gate::start(issuers).await;
    let (remembered, others) = (token(&stolen), token(&other));
    assert_eq!((gate.denies(&remembered).await, gate.denies(&others).await), (None, None));
    gate.publisher.suspend("stolen", now()).unwrap();
    for _ in 0..2 {
        assert_eq!(gate.denies(&remembered).await, Some(Reason::IssuerSuspended));
        assert_eq!(gate.denies(&token(&stolen)).await, Some(Reason::IssuerSuspended), "a new one");
        assert_eq!(gate.denies(&others).await, None);
        // Neither new keys nor a new policy end it.
        stolen.rotate();
        gate.publish(issuers).await;
        assert_eq!(gate.denies(&token(&stolen)).await, Some(Reason::IssuerSuspended));
        gate.publish(&[("stolen", &sources.0, &format!("{a}, leeway: 1s")), ("other", &sources.1, &b)]).await;
    }
    assert_eq!(gate.publisher.resume("stolen").unwrap().len(), 1);
    assert_eq!(gate.denies(&remembered).await, None);
}

/// Who signs the certificates of servers.
struct Authorities {
    signer: Signer<'static, KeyPair>,
    pem: String,
}

impl Authorities {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { signer: Signer::new(params, key), pem }
    }

    fn ca(&self) -> Option<Authority> {
        Some(Authority(self.pem.as_bytes().into()))
    }

    fn server(&self, names: &[&str], expired: bool) -> Arc<ServerConfig> {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        if expired {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.signer).unwrap();
        config(certificate.der().clone(), &key)
    }
}

fn self_signed(name: &str) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    config(certificate.der().clone(), &key)
}

fn config(certificate: rustls::pki_types::CertificateDer<'static>, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
}

/// A server of keys that speaks TLS, with the same answer to everyone: how often it was asked, and where it is.
async fn secure(tls: Arc<ServerConfig>, body: impl Fn(u16) -> String + Send + 'static) -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(tls);
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, counted, answer) = (acceptor.clone(), Arc::clone(&counted), ok(&body(port)));
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.read(&mut [0; 4_096]).await;
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (port, asked)
}

/// Each name is at these addresses, one list a question; the last one goes on.
fn names(told: &'static [&'static [IpAddr]]) -> Names {
    let asked = Mutex::new(0);
    Names::Told(Arc::new(move |name| {
        if !name.starts_with("keys.") {
            return vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        }
        let mut asked = asked.lock().unwrap();
        let at: usize = *asked;
        *asked = at.saturating_add(1);
        told.get(at).or(told.last()).unwrap().to_vec()
    }))
}

fn at(port: u16, ca: Option<Authority>) -> Source {
    let url = format!("https://id.test:{port}/keys");
    Source { issuer: "https://id.test".into(), from: KeySource::Jwks(url.into()), allow_http: false, ca }
}

fn keys() -> String {
    key_set("k", &[SigningKey::shared(Algorithm::Es256)])
}

#[tokio::test] // K09
async fn tls_is_verified_and_an_authority_of_the_operators_takes_the_place_of_all_others() {
    let (ours, others) = (Authorities::new("ours"), Authorities::new("others"));
    let fetcher = Fetcher::new().with_deadline(Duration::from_secs(60)).with_names(names(&[]));
    let good = ours.server(&["id.test"], false);
    let (port, asked) = secure(Arc::clone(&good), |_| keys()).await;
    assert_eq!(fetcher.fetch(&at(port, ours.ca())).await.unwrap().keys.kids().collect::<Vec<_>>(), ["k"]);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    for (what, tls, ca) in [
        ("another authority", Arc::clone(&good), others.ca()),
        ("the machine's own authorities", good, None),
        ("another name", ours.server(&["other.test"], false), ours.ca()),
        ("another name that ends so", ours.server(&["evil-id.test"], false), ours.ca()),
        ("a certificate that has expired", ours.server(&["id.test"], true), ours.ca()),
        ("a certificate that it signed by itself", self_signed("id.test"), ours.ca()),
    ] {
        let (port, asked) = secure(tls, |_| keys()).await;
        let fault = fetcher.fetch(&at(port, ca)).await.unwrap_err();
        assert!(matches!(fault, FetchError::Tls | FetchError::NoTrust), "{what}: {fault}");
        assert_eq!(asked.load(Ordering::SeqCst), 0, "{what}: nothing is asked of a server that is not the right one");
    }
}

#[tokio::test] // K09
async fn whoever_vouches_for_keys_vouches_for_answers_about_opaque_tokens_and_nobody_else_does() {
    let (ours, others) = (Authorities::new("ours"), Authorities::new("others"));
    for (ca, is_right) in [(ours.ca(), true), (others.ca(), false), (None, false)] {
        let (port, asked) = secure(ours.server(&["id.test"], false), |_| keys()).await;
        let more = if ca.is_some() { "ca: 'file:ca', " } else { "" };
        let text = format!(
            "issuers: {{main: {{issuer: 'https://id.test', audience: api, {more}introspection: {{url: \
             'https://id.test:{port}/', client_id: c, client_secret: 'file:secret'}}}}}}\nroutes: {{/: signed-in}}\n"
        );
        let file = |name: &str| Ok(if name == "ca" { ca.as_ref().unwrap().0.to_vec() } else { b"s3cret".to_vec() });
        let (compiled, problems) = crate::config::compile("p.yaml", &text, &file);
        let policy = compiled.unwrap_or_else(|| panic!("{}", problems.render(false))).policy;
        let issuer = crate::authz::issuer::Issuer::new(Arc::clone(&policy.issuers[0]), Default::default());
        let token = issuer.opaque(b"t").unwrap();
        let told = Asks::of(issuer.policy()).with_names(names(&[])).ask(issuer.policy(), &token).await;
        let is_tls = matches!(told, Err(AskError::Fetch(FetchError::Tls | FetchError::NoTrust)));
        assert_eq!((told.is_ok(), is_tls), (is_right, !is_right));
        assert_eq!(asked.load(Ordering::SeqCst), u64::from(is_right));
    }
}

#[tokio::test] // K02
async fn a_name_that_is_bound_anew_leads_nowhere_inside() {
    const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let ours = Authorities::new("ours");
    let tls = ours.server(&["id.test", "keys.id.test"], false);
    let document = |port: u16| {
        json!({"issuer": "https://id.test", "jwks_uri": format!("https://keys.id.test:{port}/keys")}).to_string()
    };
    let (port, asked) = secure(tls, document).await;
    let from = KeySource::Discovery(format!("https://id.test:{port}").into());
    let source = Source { from, ..at(port, ours.ca()) };
    // What is asked first is outside of the machine, what is asked then is not: only what was looked at is connected to.
    for told in [&[&[INSIDE][..]][..], &[&[INSIDE, INSIDE]], &[&[IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped())]]] {
        let told: &'static [&'static [IpAddr]] =
            Box::leak(told.iter().map(|all| &*Box::leak(all.to_vec().into_boxed_slice())).collect());
        let fetcher = Fetcher::new().with_deadline(Duration::from_secs(60)).with_names(names(told));
        assert_eq!(fetcher.fetch(&source).await.unwrap_err(), FetchError::AddressRefused);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3, "discovery each time, and never the keys");
    // A public address beside one of this machine: the latter is left out, so that nobody falls back to it.
    let fetcher =
        Fetcher::new().with_deadline(Duration::from_secs(1)).with_names(names(&[&[PUBLIC, INSIDE], &[INSIDE]]));
    let fault = fetcher.fetch(&source).await.unwrap_err();
    assert!(!matches!(fault, FetchError::NoUsableKey), "{fault}");
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

#[tokio::test] // K09
async fn what_an_answer_says_of_its_age_changes_nothing() {
    for said in
        ["max-age=31536000, immutable", "max-age=0", "no-store", "max-age=1\r\nAge: 4294967295", "public\r\nExpires: 0"]
    {
        let answer = ok(&keys()).replacen("\r\n", &format!("\r\nCache-Control: {said}\r\n"), 1);
        let server = Canned::start(answer, Duration::ZERO).await;
        let from = KeySource::Jwks(server.url.as_str().into());
        let source = Source { issuer: "https://id.example.com".into(), from, allow_http: true, ca: None };
        let gate = Gate::start(&[("main", &source, "refresh: 5m, cooldown: 30s")]).await;
        let status = gate.feeds.status().borrow()["main"].clone();
        let next = status.next.unwrap().since(status.attempted.unwrap());
        assert!((270..=330).contains(&next.as_secs()), "{said}: {next:?}");
        assert_eq!((status.keys, server.hits()), (1, 1), "{said}");
    }
}
