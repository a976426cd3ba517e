//! One fetch of a key set: strict about where it goes, how long it takes and what comes back.

use std::error::Error;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{Certificate, Client, Response, StatusCode, header, redirect};
use url::Url;

use super::reach::{NameFault, Names, Reach, Resolver};
use crate::authz::algorithm::Algorithm;
use crate::authz::json::{Json, Object};
use crate::authz::keys::{JwksError, KeyReport, KeySet, MAX_JWKS, Origin, UuidKid};
use crate::config::{Authority, Feed, KeySource};

/// How long a fetch may take as a whole.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a connection may take to be made, TLS included.
const CONNECT: Duration = Duration::from_secs(2);
/// Long enough that discovery and key set share a connection, too short for anything else.
const IDLE: Duration = Duration::from_secs(1);

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The exact `iss` that discovery must tell.
    pub issuer: Arc<str>,
    /// What is fetched.
    pub from: KeySource,
    /// Whether plain http is allowed, on this machine only.
    pub allow_http: bool,
    /// Who vouches for the servers, in place of whom this machine trusts.
    pub ca: Option<Authority>,
}

impl Source {
    /// Where the policy says that an issuer's keys are.
    #[must_use]
    pub fn of(feed: &Feed) -> Self {
        let issuer = Arc::clone(&feed.issuer.tokens.issuer);
        Self { issuer, from: feed.from.clone(), allow_http: feed.allow_http, ca: feed.ca.clone() }
    }

    /// Whether keys of the one are keys of the other: they come from the same place, whoever vouches for it.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        let Self { issuer, from, allow_http, ca: _ } = other;
        self.issuer == *issuer && self.from == *from && self.allow_http == *allow_http
    }

    fn url(&self) -> Result<Url, FetchError> {
        let (KeySource::Discovery(url) | KeySource::Jwks(url) | KeySource::Pem(url)) = &self.from;
        Url::parse(url).map_err(|_| FetchError::InsecureUrl)
    }

    /// Where it is, fit for a log: without query, user and fragment.
    #[must_use]
    pub fn shown(&self) -> String {
        self.url().map(|url| format!("{}{}", url.origin().ascii_serialization(), url.path())).unwrap_or_default()
    }
}

/// Why a fetch brought no keys. Holds nothing of what came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The URL is not https, or names a user.
    #[error("the URL is not https, or has a user name in it; http is for loopback with `allow_http`")]
    InsecureUrl,
    /// The host that discovery leads to is in a private network.
    #[error("`jwks_uri` leads to a private address on another host; if that is meant, name it in `jwks:`")]
    AddressRefused,
    /// The host name has no address.
    #[error("the host name has no address")]
    Name,
    /// No connection could be made.
    #[error("no connection could be made")]
    Connect,
    /// There is no TLS with that host, or its certificate is not trusted.
    #[error("TLS failed, or the certificate is not trusted")]
    Tls,
    /// This machine has no trusted certificates.
    #[error("this machine has no trusted certificates to hold the host's against")]
    NoTrust,
    /// It took too long.
    #[error("it took too long")]
    Timeout,
    /// The answer is a redirect, which is not followed.
    #[error("the answer is a redirect, which is not followed: name the place that it leads to")]
    Redirect,
    /// The status is not 200.
    #[error("the status is {0}, not 200")]
    HttpStatus(u16),
    /// The body is over the cap.
    #[error("the body is larger than {MAX_JWKS} bytes")]
    TooLarge,
    /// The answer broke off.
    #[error("the answer broke off, or is not HTTP")]
    Interrupted,
    /// The discovery document is not one.
    #[error("the discovery document is not one JSON object with `issuer` and `jwks_uri`")]
    BadDiscovery,
    /// The discovery document is another issuer's.
    #[error("the `issuer` of the discovery document is not the one of the policy")]
    IssuerMismatch,
    /// The body is no key set.
    #[error("{0}")]
    NotJwks(#[from] JwksError),
    /// The key set has no key that can be used.
    #[error("the key set has no key that can be used")]
    NoUsableKey,
    /// Our own fault.
    #[error("the fetch ended in an internal error")]
    Internal,
}

impl FetchError {
    /// The stable, `snake_case` code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::InsecureUrl => "insecure_url",
            Self::AddressRefused => "address_refused",
            Self::Name => "name",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::NoTrust => "no_trust",
            Self::Timeout => "timeout",
            Self::Redirect => "redirect",
            Self::HttpStatus(_) => "http_status",
            Self::TooLarge | Self::NotJwks(JwksError::TooLarge) => "too_large",
            Self::Interrupted => "interrupted",
            Self::BadDiscovery => "bad_discovery",
            Self::IssuerMismatch => "issuer_mismatch",
            Self::NotJwks(_) => "not_jwks",
            Self::NoUsableKey => "no_usable_key",
            Self::Internal => "internal",
        }
    }
}

/// Fetches key sets. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher {
    clients: Arc<Clients>,
    deadline: Duration,
    names: Names,
}

/// One client for each reach, so that no connection of one serves another. Made when first needed: reading the
/// certificates that this machine trusts takes a while, and nobody needs them who fetches nothing.
pub(super) struct Clients {
    /// How long a connection is kept for the next request.
    idle: Duration,
    /// Who vouches for servers, in place of whom this machine trusts.
    ca: Option<Arc<[u8]>>,
    any: OnceLock<Option<Client>>,
    public: OnceLock<Option<Client>>,
    loopback: OnceLock<Option<Client>>,
}

impl Clients {
    pub(super) fn new(idle: Duration, ca: Option<Arc<[u8]>>) -> Self {
        Self { idle, ca, any: OnceLock::new(), public: OnceLock::new(), loopback: OnceLock::new() }
    }

    /// `None` where this machine trusts no certificates, and nobody else vouches.
    pub(super) fn of(&self, reach: Reach, names: &Names) -> Option<&Client> {
        let made = match reach {
            Reach::Any => &self.any,
            Reach::Public => &self.public,
            Reach::Loopback => &self.loopback,
        };
        let make = || client(reach, names, self.ca.as_deref())?.pool_idle_timeout(self.idle).build().ok();
        made.get_or_init(make).as_ref()
    }
}

impl Default for Fetcher {
    fn default() -> Self {
        Self::new()
    }
}

impl Fetcher {
    /// A fetcher that trusts the certificates that this machine trusts. Without any, its fetches fail.
    #[must_use]
    pub fn new() -> Self {
        Self { clients: Arc::new(Clients::new(IDLE, None)), deadline: DEADLINE, names: Names::default() }
    }

    /// Who tells it the addresses of names.
    pub(super) fn names(&self) -> Names {
        self.names.clone()
    }

    #[cfg(test)]
    pub(super) fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    #[cfg(test)]
    pub(super) fn with_names(self, names: Names) -> Self {
        Self { names, ..self }
    }

    /// Fetches a key set. It may have no usable key.
    ///
    /// # Errors
    /// Where nothing came, or no key set.
    pub async fn fetch(&self, source: &Source) -> Result<KeyReport, FetchError> {
        let fetch = async {
            let own = source.url()?;
            let reach = Reach::of_own(&own, source.allow_http)?;
            let body = match &source.from {
                // Of these each key is fetched by its kid, and no kid is known here.
                KeySource::Pem(_) => return Err(FetchError::NoUsableKey),
                KeySource::Jwks(_) => self.body(source, &own, reach).await?,
                KeySource::Discovery(_) => {
                    let document = self.body(source, &discovery(&own), reach).await?;
                    let url = jwks_uri(&document, &source.issuer)?;
                    self.body(source, &url, Reach::of_learnt(&url, &own, source.allow_http)?).await?
                }
            };
            Ok(KeySet::from_jwks(&body, Origin::Remote)?)
        };
        tokio::time::timeout(self.deadline, fetch).await.unwrap_or(Err(FetchError::Timeout))
    }

    /// Fetches the PEM of each of these keys. One that is not there is left out.
    ///
    /// # Errors
    /// Where one could not be asked for.
    pub async fn fetch_each(&self, source: &Source, kids: &[UuidKid]) -> Result<KeyReport, FetchError> {
        let fetch = async {
            let KeySource::Pem(template) = &source.from else { return self.fetch(source).await };
            let mut texts = Vec::with_capacity(kids.len());
            for kid in kids {
                let url = Url::parse(&template.replace("{kid}", kid.as_str())).map_err(|_| FetchError::InsecureUrl)?;
                match self.body(source, &url, Reach::of_own(&url, source.allow_http)?).await {
                    Ok(body) => texts.extend(String::from_utf8(body).ok().map(|text| (*kid, text))),
                    Err(FetchError::HttpStatus(403 | 404)) => {}
                    Err(fault) => return Err(fault),
                }
            }
            let algorithms = [Algorithm::Es256].into_iter().collect();
            Ok(KeyReport { keys: KeySet::from_named_pems(&texts, algorithms), refused: Vec::new() })
        };
        tokio::time::timeout(self.deadline, fetch).await.unwrap_or(Err(FetchError::Timeout))
    }

    async fn body(&self, source: &Source, url: &Url, reach: Reach) -> Result<Vec<u8>, FetchError> {
        let client = match &source.ca {
            Some(Authority(ca)) => Clients::new(IDLE, Some(Arc::clone(ca))).of(reach, &self.names).cloned(),
            None => self.clients.of(reach, &self.names).cloned(),
        };
        let request = client.ok_or(FetchError::NoTrust)?.get(url.clone());
        let response =
            request.header(header::ACCEPT, "application/json").send().await.map_err(|error| fault(&error))?;
        match response.status() {
            StatusCode::OK => read(response, MAX_JWKS).await,
            status if status.is_redirection() => Err(FetchError::Redirect),
            status => Err(FetchError::HttpStatus(status.as_u16())),
        }
    }
}

/// A client that trusts whom `ca` says and nobody else, or where there is none whom this machine trusts.
fn client(reach: Reach, names: &Names, ca: Option<&[u8]>) -> Option<reqwest::ClientBuilder> {
    let client = Client::builder()
        .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .https_only(reach != Reach::Loopback)
        .dns_resolver(Resolver { reach, names: names.clone() })
        .connect_timeout(CONNECT);
    let roots = ca.map(Certificate::from_pem_bundle);
    match roots {
        Some(roots) => Some(client.tls_certs_only(roots.ok().filter(|roots| !roots.is_empty())?)),
        // There is no TLS on loopback, so that a machine without certificates can do at least that.
        None if reach == Reach::Loopback => Some(client.tls_certs_only([])),
        None => Some(client),
    }
}

/// The body, of so many bytes at most, whatever length was announced.
pub(super) async fn read(mut response: Response, most: usize) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| fault(&error))? {
        if body.len().saturating_add(chunk.len()) > most {
            return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn discovery(own: &Url) -> Url {
    let mut url = own.clone();
    // Only a URL without a host has no segments, and such a URL is refused.
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend([".well-known", "openid-configuration"]);
    }
    url
}

fn jwks_uri(document: &[u8], issuer: &str) -> Result<Url, FetchError> {
    let document = Object::parse(document).map_err(|_| FetchError::BadDiscovery)?;
    match (document.get("issuer"), document.get("jwks_uri")) {
        (Some(Json::Text(told)), _) if **told != *issuer => Err(FetchError::IssuerMismatch),
        (Some(Json::Text(_)), Some(Json::Text(url))) => Url::parse(url).map_err(|_| FetchError::BadDiscovery),
        _ => Err(FetchError::BadDiscovery),
    }
}

/// What went wrong, by what stands at the bottom of it. The texts of errors are left behind: they quote URLs.
pub(super) fn fault(error: &reqwest::Error) -> FetchError {
    let causes = || std::iter::successors(error.source(), |cause: &&(dyn Error + 'static)| (*cause).source());
    if let Some(fault) = causes().find_map(|cause| cause.downcast_ref::<NameFault>()) {
        return match fault {
            NameFault::NotFound => FetchError::Name,
            NameFault::Refused => FetchError::AddressRefused,
        };
    }
    let is_tls = |cause: &(dyn Error + 'static)| cause.downcast_ref::<io::Error>().is_some_and(is_invalid);
    if error.is_timeout() {
        FetchError::Timeout
    } else if error.is_connect() && causes().any(is_tls) {
        FetchError::Tls
    } else if error.is_connect() {
        FetchError::Connect
    } else {
        FetchError::Interrupted
    }
}

/// Whether this says, at any depth, that what came was invalid: how the TLS library says no.
fn is_invalid(error: &io::Error) -> bool {
    let inner = || error.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>());
    error.kind() == io::ErrorKind::InvalidData || inner().is_some_and(is_invalid)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dev::issuer::Behaviour;
    use crate::dev::mint::SigningKey;
    use crate::feed::trial::{Canned, discovery, issuer, ok};

    /// One whose deadline no busy machine reaches: for what ends by itself.
    fn fetcher() -> Fetcher {
        Fetcher::new().with_deadline(Duration::from_secs(60))
    }

    async fn fault_in_a_moment(source: &Source) -> FetchError {
        Fetcher::new().with_deadline(Duration::from_millis(300)).fetch(source).await.unwrap_err()
    }

    fn jwks(url: &Url) -> Source {
        Source {
            issuer: "https://id.example.com".into(),
            from: KeySource::Jwks(url.as_str().into()),
            allow_http: true,
            ca: None,
        }
    }

    async fn fault_of(source: &Source) -> FetchError {
        fetcher().fetch(source).await.unwrap_err()
    }

    /// What becomes of a key set that is answered with these bytes.
    async fn answered(answer: &str) -> Result<usize, FetchError> {
        let server = Canned::start(answer, Duration::ZERO).await;
        fetcher().fetch(&jwks(&server.url)).await.map(|report| report.keys.len())
    }

    fn set() -> String {
        let key = SigningKey::shared(crate::authz::algorithm::Algorithm::Es256).public_jwk(Some("k"));
        json!({"keys": [key]}).to_string()
    }

    #[tokio::test]
    async fn discovery_leads_to_the_keys() {
        let issuer = issuer().await;
        let report = Fetcher::new().fetch(&discovery(&issuer)).await.unwrap();
        assert_eq!(report.keys.kids().collect::<Vec<_>>(), [issuer.kid()]);
    }

    #[test]
    fn discovery_is_below_the_issuers_path() {
        let below = |url: &str| discovery_of(url).to_string();
        fn discovery_of(url: &str) -> Url {
            super::discovery(&Url::parse(url).unwrap())
        }
        assert_eq!(below("https://a.b/"), "https://a.b/.well-known/openid-configuration");
        assert_eq!(below("https://a.b/realms/x"), "https://a.b/realms/x/.well-known/openid-configuration");
        assert_eq!(below("https://a.b/realms/x/"), "https://a.b/realms/x/.well-known/openid-configuration");
    }

    #[tokio::test]
    async fn a_key_set_is_read_and_bad_keys_are_reported() {
        assert_eq!(answered(&ok(&set())).await, Ok(1));
        assert_eq!(answered(&ok(r#"{"keys":[]}"#)).await, Ok(0));
        let server = Canned::body(r#"{"keys":[{"kty":"oct"}]}"#).await;
        assert_eq!(fetcher().fetch(&jwks(&server.url)).await.unwrap().refused.len(), 1);
    }

    #[tokio::test]
    async fn what_is_no_key_set_is_refused() {
        // K04
        let not = |body: &str| answered_body(body.to_owned());
        async fn answered_body(body: String) -> FetchError {
            answered(&ok(&body)).await.unwrap_err()
        }
        assert_eq!(not("<html>").await.code(), "not_jwks");
        assert_eq!(not("[]").await.code(), "not_jwks");
        assert_eq!(not(r#"{"keys":{}}"#).await.code(), "not_jwks");
        assert_eq!(not("").await.code(), "not_jwks");
        assert_eq!(not(&json!({"keys": vec![0; 101]}).to_string()).await.code(), "not_jwks");
    }

    #[tokio::test]
    async fn any_status_but_200_is_a_failure() {
        // K04
        for status in [201, 204, 206, 304, 401, 404, 500, 503] {
            let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
            let fault = answered(&answer).await.unwrap_err();
            let wanted = if status == 304 { FetchError::Redirect } else { FetchError::HttpStatus(status) };
            assert_eq!(fault, wanted, "{status}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        // K03
        let there = Canned::body(&set()).await;
        for status in [301, 302, 303, 307, 308] {
            let answer = format!("HTTP/1.1 {status} x\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", there.url);
            assert_eq!(answered(&answer).await, Err(FetchError::Redirect));
        }
        assert_eq!(there.hits(), 0);
    }

    #[tokio::test]
    async fn a_body_over_the_cap_is_refused_whatever_its_length_was_said_to_be() {
        // K04
        let long = format!("{}{}", set(), " ".repeat(MAX_JWKS));
        assert_eq!(answered(&ok(&long)).await, Err(FetchError::TooLarge));
        let unsaid = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{long}");
        assert_eq!(answered(&unsaid).await, Err(FetchError::TooLarge));
        let chunk = format!("8000\r\n{}\r\n", " ".repeat(0x8000));
        let endless = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(9));
        assert_eq!(answered(&endless).await, Err(FetchError::TooLarge));
        let short = format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n{}", set());
        assert_eq!(answered(&short).await, Err(FetchError::Interrupted));
        let exactly = format!("{}{}", set(), " ".repeat(MAX_JWKS - set().len()));
        assert_eq!(answered(&ok(&exactly)).await, Ok(1));
    }

    #[tokio::test]
    async fn a_compressed_body_stays_compressed() {
        // K04
        let answer = ok(&set()).replacen("\r\n", "\r\nContent-Encoding: gzip\r\n", 1);
        // Nothing is unpacked, so that nothing can grow: what is inside is read as it came.
        assert_eq!(answered(&answer).await, Ok(1));
    }

    #[tokio::test]
    async fn the_deadline_is_for_the_whole() {
        // K04
        let slow = Canned::start(ok(&set()), Duration::from_millis(5)).await;
        assert_eq!(fault_in_a_moment(&jwks(&slow.url)).await, FetchError::Timeout);
        let issuer = issuer().await;
        issuer.behave(Behaviour::Slow(Duration::from_millis(200)));
        assert_eq!(fault_in_a_moment(&discovery(&issuer)).await, FetchError::Timeout);
    }

    #[tokio::test]
    async fn what_is_not_there_cannot_be_connected_to() {
        let free = { tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap() };
        assert_eq!(fault_of(&jwks(&Url::parse(&format!("http://{free}/")).unwrap())).await, FetchError::Connect);
        let plain = Canned::body(&set()).await;
        let as_tls = Url::parse(&plain.url.as_str().replacen("http", "https", 1)).unwrap();
        assert_eq!(fault_of(&jwks(&as_tls)).await, FetchError::Tls);
    }

    #[tokio::test]
    async fn nothing_is_sent_to_a_url_that_is_refused() {
        // K01
        let server = Canned::body(&set()).await;
        let source = Source { allow_http: false, ..jwks(&server.url) };
        assert_eq!(fault_of(&source).await, FetchError::InsecureUrl);
        assert_eq!(fault_of(&jwks(&Url::parse("http://id.example.com/").unwrap())).await, FetchError::InsecureUrl);
        assert_eq!(server.hits(), 0);
    }

    #[tokio::test]
    async fn discovery_must_be_of_the_issuer_of_the_policy() {
        // K03
        let issuer = issuer().await;
        for other in ["https://evil.example.com".to_owned(), format!("{}/", issuer.url())] {
            let source = Source { issuer: other.into(), ..discovery(&issuer) };
            assert_eq!(fault_of(&source).await, FetchError::IssuerMismatch);
        }
        assert_eq!(issuer.fetches().keys, 0);
    }

    #[tokio::test]
    async fn a_discovery_document_is_read_strictly_and_leads_nowhere_private() {
        // K01, K03
        let iss = "https://id.example.com";
        let told = |jwks_uri: &str| json!({"issuer": iss, "jwks_uri": jwks_uri}).to_string();
        for (document, wanted) in [
            (told("https://169.254.169.254/latest"), FetchError::AddressRefused),
            (told("https://localhost/keys"), FetchError::AddressRefused),
            (told("http://keys.example.com/"), FetchError::InsecureUrl),
            (told("file:///etc/passwd"), FetchError::InsecureUrl),
            (told("/keys"), FetchError::BadDiscovery),
            (json!({"issuer": iss}).to_string(), FetchError::BadDiscovery),
            (json!({"issuer": iss, "jwks_uri": 1}).to_string(), FetchError::BadDiscovery),
            (json!({"issuer": [iss], "jwks_uri": "https://a.b"}).to_string(), FetchError::BadDiscovery),
            (format!(r#"{{"issuer":"{iss}","issuer":"{iss}","jwks_uri":"https://a.b"}}"#), FetchError::BadDiscovery),
            ("[]".to_owned(), FetchError::BadDiscovery),
        ] {
            let server = Canned::body(&document).await;
            let source = Source {
                issuer: iss.into(),
                from: KeySource::Discovery(server.url.as_str().into()),
                allow_http: true,
                ca: None,
            };
            assert_eq!(fault_of(&source).await, wanted, "{document}");
        }
    }

    #[test]
    fn a_source_is_shown_without_its_query_and_user() {
        // K11
        let url = Url::parse("https://user:password@id.example.com:8443/keys?client_secret=s#f").unwrap();
        assert_eq!(jwks(&url).shown(), "https://id.example.com:8443/keys");
    }
}
