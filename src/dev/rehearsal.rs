//! A policy tried out without the world: throw-away keys in place of the issuers' own, tokens and requests made to
//! order, and the decisions that the policy makes of them.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};

use super::certificate;
use super::mint::SigningKey;
use super::prover::{Occasion, Prover, hash};
use crate::authz::algorithm::{Algorithm, Algorithms};
use crate::authz::api_keys::ApiKey;
use crate::authz::api_keys::format::KeyHash;
use crate::authz::certificate::Holder;
use crate::authz::credential::Source;
use crate::authz::decision::Decision;
use crate::authz::gateways::{By, CertificateFrom, ClientAddress, Dialect, Gateway};
use crate::authz::identity::ClaimPath;
use crate::authz::issuer::{Issuer, IssuerId, IssuerPolicy, KeyState};
use crate::authz::mint::{Key, Keys};
use crate::authz::proof::{Mode, Sighting};
use crate::authz::reason::Reason;
use crate::authz::request::{Asker, Header, Malformed, Proof, Raw, Request};
use crate::authz::route::Found;
use crate::authz::snapshot::{Facts, NoNews, Question, Snapshot, Step};
use crate::authz::time::Timestamp;
use crate::config::Compiled;
use crate::config::file::{Ask, Who};

/// What time it is in every rehearsal: 2027-01-15T08:00:00Z, so that a test never depends on the day it runs.
pub const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// How long a token lives whose row does not say, in seconds.
const LIFETIME: u64 = 300;
const KID: &str = "rehearsal";
/// How an opaque token of a rehearsal begins. What its issuer answers about it follows.
const OPAQUE: &str = "rehearsal~";

/// The algorithms to sign with, those with quickly made keys first.
const PREFERRED: &[Algorithm] = &[
    Algorithm::Es256,
    Algorithm::EdDsa,
    Algorithm::Hs256,
    Algorithm::Hs384,
    Algorithm::Hs512,
    Algorithm::Es384,
    Algorithm::Es512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
];

/// A policy whose issuers sign with throw-away keys.
pub struct Rehearsal {
    snapshot: Snapshot,
    signers: Vec<&'static SigningKey>,
    now: Timestamp,
    defaults: Vec<IssuerId>,
    host: Box<str>,
    /// Throw-away keys of applications, by the names that tests call them.
    api_keys: HashMap<Box<str>, String>,
}

/// A request to try.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Who asks.
    pub who: &'a Who,
    /// What for.
    pub ask: &'a Ask,
    /// The address that the caller asks from.
    pub from: Option<IpAddr>,
    /// The service that the caller's certificate names.
    pub service: Option<&'a str>,
    /// The owner of the API key that is shown, or the key's id; one for which [`Rehearsal::with_keys`] was told, or that
    /// the policy's tests name.
    pub key: Option<&'a str>,
    /// Whether it is a browser that asks for a page.
    pub browser: bool,
    /// Further headers, their names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    /// Whether a DPoP proof comes with the token; as its issuer wants it where this is `None`.
    pub dpop: Option<bool>,
    /// Whether the caller has the certificate that the token is bound to; the same.
    pub certificate: Option<bool>,
}

/// Why a request cannot be tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// The policy has no issuers.
    #[error("a token needs an issuer, and the policy has none")]
    NoIssuer,
    /// Several issuers, and none of them is the default.
    #[error("no issuer is the default; say whose token it is, as in `iss: main`")]
    WhichIssuer,
    /// The policy has no issuer of this name.
    #[error("there is no issuer `{0}`")]
    NoSuchIssuer(Box<str>),
    /// The policy has no API key of this name.
    #[error("nobody called `{0}` has an API key, and no key is called so")]
    NoSuchKey(Box<str>),
    /// A claim stands where another one must hold an object.
    #[error("`{0}` cannot be written: another claim of the token stands in its way")]
    NoPlace(Box<str>),
}

impl Rehearsal {
    /// Gives each issuer a throw-away key. It is [`NOW`].
    #[must_use]
    pub fn new(compiled: &Compiled) -> Self {
        Self::at(compiled, NOW)
    }

    /// Gives each issuer a throw-away key, at another time.
    #[must_use]
    pub fn at(compiled: &Compiled, now: Timestamp) -> Self {
        let policy = &compiled.policy;
        let signers: Vec<&SigningKey> =
            policy.issuers.iter().map(|issuer| SigningKey::shared(preferred(issuer.tokens.algorithms))).collect();
        let issuers = policy.issuers.iter().zip(&signers);
        let issuers =
            issuers.map(|(issuer, key)| Arc::new(Issuer::new(Arc::clone(issuer), state(issuer, key, now)))).collect();
        let named = compiled.tests.iter().filter_map(|row| row.key.as_ref()).map(|name| &*name.value);
        Self {
            snapshot: Snapshot::new(1, Arc::clone(policy), issuers).minting_with(throw_away()),
            signers,
            now,
            defaults: compiled.defaults.clone(),
            host: host(compiled),
            api_keys: HashMap::new(),
        }
        .with_keys(named)
    }

    /// Puts throw-away keys in place of those of these owners, or ids: of an owner's keys, of one that is live, if any is.
    #[must_use]
    pub fn with_keys<'n>(mut self, names: impl Iterator<Item = &'n str>) -> Self {
        let policy = Arc::clone(self.snapshot.policy());
        let Some(keys) = &policy.api_keys else { return self };
        let mut hashes: HashMap<Arc<str>, KeyHash> = HashMap::new();
        for name in names.collect::<BTreeSet<_>>() {
            let is_meant = |key: &&ApiKey| *key.id == *name || *key.owner == *name;
            let meant = keys.iter().filter(is_meant).max_by_key(|key| (*key.id == *name, key.is_live(self.now)));
            let Some(key) = meant else { continue };
            let mut bytes =
                key.id.bytes().cycle().zip(0_u8..=u8::MAX).map(|(byte, at)| byte.wrapping_mul(31) ^ at).cycle();
            let made = keys.prefix().key(|| bytes.next().unwrap_or_default());
            hashes.insert(Arc::clone(&key.id), KeyHash::of(made.as_bytes()));
            self.api_keys.insert(name.into(), made);
        }
        if !hashes.is_empty() {
            self.snapshot = self.snapshot.with_api_keys(Arc::new(keys.with_keys(&hashes)));
        }
        self
    }

    /// The policy with these keys.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The token of whoever asks; `None` for nobody in particular.
    ///
    /// # Errors
    /// Where no issuer can be told, or a claim has no place.
    pub fn token(&self, who: &Who) -> Result<Option<String>, Impossible> {
        Ok(self.credential(who, (None, None), &certificate::naming(""))?.map(|(_, token)| token))
    }

    /// A token of exactly these claims, signed by an issuer's throw-away key.
    #[must_use]
    pub fn sign(&self, issuer: IssuerId, typ: Option<&str>, claims: &str) -> Option<String> {
        let key = self.signers.get(usize::from(issuer.0))?;
        let mut header = json!({"alg": key.algorithm().name(), "kid": KID});
        if let (Some(typ), Some(members)) = (typ, header.as_object_mut()) {
            members.insert("typ".into(), typ.into());
        }
        Some(key.sign(&header.to_string(), claims))
    }

    /// What the policy decides.
    ///
    /// # Errors
    /// Where the call cannot be tried.
    pub fn ask(&self, call: &Call<'_>) -> Result<Decision, Impossible> {
        self.stage(call, |request| self.decide(request))
    }

    /// Makes the request of a call, and hands it to whoever decides or explains.
    ///
    /// # Errors
    /// Where the call cannot be tried.
    pub fn stage<T>(
        &self,
        call: &Call<'_>,
        then: impl FnOnce(Result<&Request<'_>, Malformed>) -> T,
    ) -> Result<T, Impossible> {
        let principal = call.service.and_then(|name| self.snapshot.policy().services.example(name)).unwrap_or_default();
        let der = certificate::naming(&principal);
        let credential = self.credential(call.who, (call.dpop, call.certificate), &der)?;
        let host = call.ask.host.as_deref().unwrap_or(&self.host);
        let mut target = call.ask.target.to_string();
        let mut lines: Vec<(&str, String)> = vec![
            (":method", call.ask.method.to_string()),
            (":authority", host.to_owned()),
            (":scheme", "https".into()),
        ];
        if call.browser {
            lines.push(("accept", "text/html,*/*;q=0.8".into()));
            lines.push(("sec-fetch-mode", "navigate".into()));
        } else {
            lines.push(("accept", "*/*".into()));
        }
        if let Some((issuer, token)) = &credential {
            present(self.place(issuer.sources.iter(), call, host), token, &mut target, &mut lines);
            if bound(issuer, (call.dpop, call.certificate)).0 {
                lines.iter_mut().filter(|(name, _)| *name == "authorization").for_each(|(_, value)| {
                    *value = value.replacen("Bearer", "DPoP", 1);
                });
                lines.push(("dpop", self.proof(issuer, call, host, token)));
            }
        }
        if let (Some(key), Some(keys)) = (call.key, &self.snapshot.policy().api_keys) {
            let key = self.api_keys.get(key).ok_or_else(|| Impossible::NoSuchKey(key.into()))?;
            present(self.place(keys.sources(), call, host), key, &mut target, &mut lines);
        }
        let sealed = credential.as_ref().is_some_and(|(issuer, _)| bound(issuer, (call.dpop, call.certificate)).1);
        lines.push((":path", target.clone()));
        let gateway = self.gateway(call, call.service.is_some() || sealed);
        let from = gateway.and_then(|gateway| gateway.certificate);
        let in_header = from == Some(CertificateFrom::Xfcc);
        if in_header && (call.service.is_some() || sealed) {
            lines.push(("x-forwarded-client-cert", certificate::forwarded(&der, &principal)));
        }
        let (told, certificate) = if in_header { ("", None) } else { (&*principal, Some(&der).filter(|_| sealed)) };
        let certificate = certificate.map(|der| certificate::sent(der)).unwrap_or_default();
        let (shown, source) = (Shown::by(gateway), address(gateway, call.from, &mut lines));
        lines.extend(call.headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let dialect = gateway.map_or(Dialect::Envoy, |gateway| gateway.dialect);
        // By which Envoy shows that it left no header out.
        lines.extend((dialect == Dialect::EnvoyHttp).then(|| ("x-forwarded-proto", "https".to_owned())));
        let headers = lines.iter().map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() });
        let raw = Raw {
            proof: shown.proof(),
            source,
            principal: told.as_bytes(),
            certificate: certificate.as_bytes(),
            ..Raw::new(
                dialect,
                shown.asker,
                [call.ask.method.as_bytes(), target.as_bytes(), host.as_bytes()],
                headers.collect(),
            )
        };
        let request = self.snapshot.read(&raw);
        Ok(then(request.as_ref().map_err(|malformed| *malformed)))
    }

    /// The first of these places in which the route that a call reaches looks for credentials.
    fn place<'i>(&self, mut places: impl Iterator<Item = &'i Source>, call: &Call<'_>, host: &str) -> &'i Source {
        let (method, target) = (call.ask.method.as_bytes(), call.ask.target.as_bytes());
        let raw = Raw::new(Dialect::Envoy, Asker::Unix, [method, target, host.as_bytes()], Vec::new());
        let policy = self.snapshot.policy();
        let route = self.snapshot.read(&raw).ok().and_then(|request| {
            match policy.table.find(&request.host, request.method, &request.path) {
                Found::Route(id, _) => policy.route(id),
                Found::NoRoute | Found::UnknownHost => None,
            }
        });
        let first = places.next();
        let read = first.into_iter().chain(places).find(|source| route.is_none_or(|route| route.reads(source)));
        read.or(first).unwrap_or(&Source::Bearer)
    }

    fn decide(&self, request: Result<&Request<'_>, Malformed>) -> Decision {
        let mut facts = Facts::default();
        for _ in 0..3 {
            match self.snapshot.decide(request, &facts, self.now) {
                Step::Decided(decision) => return decision,
                Step::Needs(question) => self.learn(&question, &mut facts),
            }
        }
        Decision::denied(Reason::InternalError)
    }

    /// Answers a question of the core: there are no newer keys, and a token of this rehearsal stands for its claims.
    pub fn learn(&self, question: &Question, facts: &mut Facts) {
        match question {
            Question::Keys(issuer) | Question::Key(issuer, _) => facts.keys = Some((*issuer, NoNews::Unknown)),
            Question::Unseen(once) => facts.unseen = Some((*once, Sighting::First)),
            Question::Introspect(id, token) => {
                let issuer = self.snapshot.issuers().get(usize::from(id.0));
                let claims = token.reveal().strip_prefix(OPAQUE).and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok());
                let answer = claims.unwrap_or_else(|| br#"{"active":false}"#.to_vec());
                facts.introspected = issuer.map(|issuer| issuer.introspected(token, Ok(&answer), self.now));
            }
        }
    }

    fn issuer(&self, name: Option<&str>) -> Result<(&Arc<IssuerPolicy>, &'static SigningKey), Impossible> {
        let issuers = &self.snapshot.policy().issuers;
        let at = match (name, self.defaults.first()) {
            (Some(name), _) => issuers.iter().position(|issuer| &*issuer.name == name),
            (None, Some(default)) => Some(usize::from(default.0)),
            (None, None) if issuers.is_empty() => return Err(Impossible::NoIssuer),
            (None, None) if issuers.len() == 1 => Some(0),
            (None, None) => return Err(Impossible::WhichIssuer),
        };
        at.and_then(|at| Some((issuers.get(at)?, *self.signers.get(at)?)))
            .ok_or_else(|| Impossible::NoSuchIssuer(name.unwrap_or_default().into()))
    }

    fn credential(
        &self,
        who: &Who,
        shown: (Option<bool>, Option<bool>),
        certificate: &[u8],
    ) -> Result<Option<(&Arc<IssuerPolicy>, String)>, Impossible> {
        let Who::Token { issuer, roles, claims } = who else { return Ok(None) };
        let (issuer, key) = self.issuer(issuer.as_ref().map(|name| &*name.value))?;
        let mut claims = claims_of(issuer, roles.as_deref(), claims, self.now)?;
        bind(issuer, shown, certificate, &mut claims);
        if let Some(how) = issuer.introspection.as_ref().filter(|how| how.only) {
            claims.entry("active").or_insert(true.into());
            claims.entry(how.subject.member()).or_insert("someone".into());
            let told = URL_SAFE_NO_PAD.encode(Value::Object(claims).to_string());
            return Ok(Some((issuer, format!("{OPAQUE}{told}"))));
        }
        let typ = issuer.tokens.types.accepted.first().map_or("JWT", |typ| &**typ);
        let mut header = json!({"alg": key.algorithm().name(), "kid": KID, "typ": typ});
        if let (Some(first), Some(members)) = (issuer.tokens.balancers.first(), header.as_object_mut()) {
            // A load balancer says in the header what others say in claims.
            members.insert("signer".into(), claims.remove("signer").unwrap_or_else(|| Value::from(&**first)));
            members.extend(claims.remove("client").map(|client| ("client".to_owned(), client)));
            members.extend(
                ["iss", "exp"].iter().filter_map(|name| Some(((*name).to_owned(), claims.get(*name)?.clone()))),
            );
        }
        Ok(Some((issuer, key.sign(&header.to_string(), &Value::Object(claims).to_string()))))
    }

    /// A proof for this very call.
    fn proof(&self, issuer: &IssuerPolicy, call: &Call<'_>, host: &str, token: &str) -> String {
        let known = issuer.proof.origins.iter().find(|origin| origin.host() == host).map(ToString::to_string);
        let site = known.unwrap_or_else(|| format!("https://{host}"));
        let path = call.ask.target.split(['?', '#']).next().unwrap_or_default();
        let nonce = self.snapshot.policy().nonces.as_ref().map(|nonces| nonces.current(self.now));
        Prover::new(issuer.proof.algorithms).proof(&Occasion {
            method: &call.ask.method,
            url: &format!("{site}{path}"),
            token,
            at: self.now.as_millis().div_euclid(1_000),
            id: KID,
            nonce: nonce.as_deref(),
        })
    }

    /// The first gateway that is believed about what is told of the call; else the first one.
    fn gateway(&self, call: &Call<'_>, about_certificate: bool) -> Option<&Gateway> {
        let gateways = &self.snapshot.policy().gateways;
        let believed = |gateway: &&Gateway| {
            let about_address = gateway.client_address.is_some() || call.from.is_none();
            about_address && (gateway.certificate.is_some() || !about_certificate)
        };
        // Through one that can carry everything, where there is one.
        let mut all: Vec<&Gateway> = gateways.iter().collect();
        all.sort_by_key(|gateway| gateway.dialect.told_in_headers());
        all.iter().copied().find(believed).or_else(|| all.first().copied())
    }
}

/// A key to mint with that nobody relies on.
#[must_use]
pub fn throw_away() -> Keys {
    let pem = SigningKey::shared(Algorithm::EdDsa).private_pem();
    Keys::new(Key::read(pem.as_bytes(), Some(Timestamp::default())).into_iter().collect())
}

/// What a token is bound to: a key, a certificate; as the call says, or else as its issuer wants it.
fn bound(issuer: &IssuerPolicy, (dpop, certificate): (Option<bool>, Option<bool>)) -> (bool, bool) {
    let mode = issuer.proof.mode;
    let dpop = dpop.unwrap_or(mode == Mode::Dpop || (mode == Mode::Either && certificate != Some(true)));
    (dpop, certificate.unwrap_or(mode == Mode::Mtls))
}

/// Binds a token to what its caller has, unless its claims say otherwise.
fn bind(
    issuer: &IssuerPolicy,
    shown: (Option<bool>, Option<bool>),
    certificate: &[u8],
    claims: &mut Map<String, Value>,
) {
    let (dpop, sealed) = bound(issuer, shown);
    if (dpop || sealed) && !claims.contains_key("cnf") {
        let mut to = Map::new();
        if dpop {
            to.insert("jkt".into(), Prover::new(issuer.proof.algorithms).thumbprint().into());
        }
        if sealed {
            to.insert("x5t#S256".into(), hash(certificate).into());
        }
        claims.insert("cnf".into(), Value::Object(to));
    }
}

/// Says where a call comes from, as this gateway would.
fn address(gateway: Option<&Gateway>, from: Option<IpAddr>, lines: &mut Vec<(&str, String)>) -> Option<IpAddr> {
    let from = from?;
    match gateway?.client_address? {
        ClientAddress::Connection => return Some(from),
        ClientAddress::ExternalAddress => lines.push(("x-envoy-external-address", from.to_string())),
        ClientAddress::Forwarded { hops } => {
            let proxies = usize::from(hops).saturating_sub(1);
            let path: Vec<String> =
                std::iter::once(from.to_string()).chain((0..proxies).map(|_| "192.0.2.1".into())).collect();
            lines.push(("x-forwarded-for", path.join(", ")));
        }
    }
    None
}

/// What portcullis sees of a gateway's own connection.
struct Shown {
    asker: Asker,
    holder: Option<Holder>,
    metadata: HeaderMap,
}

impl Shown {
    /// By the first way in which this gateway is known; without a gateway, by a unix socket.
    fn by(gateway: Option<&Gateway>) -> Self {
        let mut shown = Self { asker: Asker::Unix, holder: None, metadata: HeaderMap::new() };
        if let Some(by) = gateway.and_then(|gateway| gateway.by.first()) {
            shown.show(by);
        }
        shown
    }

    fn show(&mut self, by: &By) {
        match by {
            By::Unix => self.asker = Asker::Unix,
            By::Network(network) => self.asker = Asker::Tcp(network.addr()),
            By::Spiffe(id) => self.holder = Some(Holder::Spiffe(id.clone())),
            By::Dns(host) => self.holder = Some(Holder::Dns(Box::new([host.clone()]))),
            By::Token(token) => {
                if let Ok(value) = HeaderValue::from_bytes(token.bytes()) {
                    self.metadata.insert("x-portcullis-token", value);
                }
            }
            By::All(all) => all.iter().for_each(|by| self.show(by)),
        }
    }

    fn proof(&self) -> Proof<'_> {
        Proof { holder: self.holder.as_ref(), metadata: Some(&self.metadata) }
    }
}

/// Puts a token in its place.
fn present<'l>(place: &'l Source, token: &str, target: &mut String, lines: &mut Vec<(&'l str, String)>) {
    match place {
        Source::Bearer => lines.push(("authorization", format!("Bearer {token}"))),
        Source::Header(name) => lines.push((name, token.to_owned())),
        Source::Cookie(name) => {
            lines.push(("cookie", format!("{name}={token}")));
            lines.push(("sec-fetch-site", "same-origin".into()));
        }
        Source::Query(name) => {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(&format!("{name}={token}"));
        }
        Source::Subprotocol(start) => {
            let encoded = start.starts_with("base64url.").then(|| URL_SAFE_NO_PAD.encode(token));
            let element = encoded.unwrap_or_else(|| token.to_owned());
            lines.push(("upgrade", "websocket".into()));
            lines.push(("connection", "Upgrade".into()));
            lines.push(("sec-websocket-protocol", format!("app, {start}{element}")));
        }
    }
}

/// The claims as they were given, and what makes them a token of this issuer. One that is given as null is left out.
fn claims_of(
    issuer: &IssuerPolicy,
    roles: Option<&[Box<str>]>,
    given: &Map<String, Value>,
    now: Timestamp,
) -> Result<Map<String, Value>, Impossible> {
    let now = u64::try_from(now.as_millis().div_euclid(1_000)).unwrap_or_default();
    let lifetime = issuer.tokens.max_lifetime.map_or(LIFETIME, |most| LIFETIME.min(most.as_secs()));
    let mut claims = Map::new();
    let tenants = issuer.tokens.tenants.as_ref();
    let tenant = tenants.and_then(|tenants| {
        let given = given.get(&*tenants.claim).and_then(Value::as_str);
        Some((tenants, given.or_else(|| tenants.any_of.first().map(|first| &**first))?))
    });
    claims.insert("iss".into(), tenant.map_or(Value::from(&*issuer.tokens.issuer), |(of, it)| of.iss(it).into()));
    claims.extend(tenant.map(|(of, it)| (of.claim.to_string(), it.into())));
    claims.insert("sub".into(), "someone".into());
    claims.insert("iat".into(), now.into());
    claims.insert("exp".into(), now.saturating_add(lifetime).into());
    let rules = &issuer.tokens.audience;
    let audience = rules.any_of.first().map(|name| Value::from(&**name)).unwrap_or_default();
    let listed = |name: &str| match name {
        "groups" => issuer.groups.as_ref(),
        "scopes" => Some(&issuer.scopes),
        _ => None,
    };
    for (name, value) in given.iter().filter(|(name, _)| listed(name).is_none()) {
        claims.insert(name.clone(), value.clone());
    }
    write(&mut claims, &rules.claim, audience, false)?;
    for (name, value) in given {
        if let Some(path) = listed(name) {
            write(&mut claims, path, spaced(path, value), true)?;
        }
    }
    if let Some(roles) = roles {
        let names = roles.iter().map(|role| Value::from(&**role)).collect();
        match &issuer.roles {
            Some(path) => write(&mut claims, path, Value::Array(names), true)?,
            None => _ = claims.insert("roles".into(), Value::Array(names)),
        }
    }
    claims.retain(|_, value| !value.is_null());
    Ok(claims)
}

/// OAuth's own `scope` is one text (RFC 8693 §4.2); other lists are lists.
fn spaced(path: &ClaimPath, value: &Value) -> Value {
    match value {
        Value::Array(names) if path.to_string() == "scope" => {
            let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
            names.map_or_else(|| value.clone(), |names| names.join(" ").into())
        }
        _ => value.clone(),
    }
}

/// Writes a claim where a path reads it; one that is there already stays, unless it is to be replaced.
fn write(claims: &mut Map<String, Value>, path: &ClaimPath, value: Value, replace: bool) -> Result<(), Impossible> {
    let parts: Vec<&str> = path.names().collect();
    let blocked = || Impossible::NoPlace(path.to_string().into());
    let (last, above) = parts.split_last().ok_or_else(blocked)?;
    let mut object = claims;
    for part in above {
        let inner = object.entry(*part).or_insert_with(|| Value::Object(Map::new()));
        object = inner.as_object_mut().ok_or_else(blocked)?;
    }
    if replace || !object.contains_key(*last) {
        object.insert((*last).to_owned(), value);
    }
    Ok(())
}

fn preferred(allowed: Algorithms) -> Algorithm {
    PREFERRED.iter().copied().find(|algorithm| allowed.contains(*algorithm)).unwrap_or(Algorithm::Es256)
}

/// Keys that were fetched this very moment, so that none are asked for.
fn state(issuer: &IssuerPolicy, key: &SigningKey, now: Timestamp) -> KeyState {
    if issuer.introspection.as_ref().is_some_and(|how| how.only) {
        return KeyState::default();
    }
    KeyState { keys: key.key_set(KID), fetched: Some(now), attempted: Some(now), ..KeyState::default() }
}

/// The host of a request that names none: the site's own, or the only one that routes name.
fn host(compiled: &Compiled) -> Box<str> {
    let public = compiled.settings.public_url.as_deref().and_then(|url| url.split_once("://"));
    if let Some((_, host)) = public {
        return host.into();
    }
    let keys = compiled.policy.routes.iter().map(|route| &*route.key);
    let mut hosts = keys
        .filter_map(|key| key.split_once('/').map(|(before, _)| before.rsplit(' ').next().unwrap_or_default()))
        .filter(|host| !host.is_empty() && !host.starts_with(['*', '{']));
    match hosts.next() {
        Some(first) if hosts.all(|other| other == first) => first.into(),
        _ => "localhost".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::decision::Verdict;
    use crate::config::compile;
    use crate::config::file::Row;

    fn compiled(text: &str) -> Compiled {
        let (compiled, problems) = compile("p.yaml", text, &|_| Err(std::io::ErrorKind::NotFound.into()));
        compiled.unwrap_or_else(|| panic!("{}", problems.render(false)))
    }

    fn try_row(rehearsal: &Rehearsal, row: &Row) -> String {
        let from = row.from.as_ref().map(|from| from.value);
        let call = Call {
            who: &row.who.value,
            ask: &row.ask.value,
            from,
            service: None,
            key: None,
            browser: false,
            headers: &[],
            dpop: None,
            certificate: None,
        };
        match rehearsal.ask(&call) {
            Err(impossible) => impossible.to_string(),
            Ok(decision) => match decision.verdict() {
                Verdict::Allow(_) => "allow".into(),
                Verdict::Deny(denial) => denial.reason().code().into(),
            },
        }
    }

    /// What comes of each row of a policy, in their order.
    fn outcomes(policy: &str, rows: &str) -> Vec<String> {
        let compiled = compiled(&format!("{policy}\ntests:\n{rows}"));
        let rehearsal = Rehearsal::new(&compiled);
        compiled.tests.iter().map(|row| try_row(&rehearsal, row)).collect()
    }

    #[test]
    fn lists_are_written_where_the_issuer_reads_them() {
        let policy = "
issuers:
  main:
    url: https://id.example.com
    audience: {claim: client.id, any_of: [shop]}
    roles: realm_access.roles
    groups: https://example.com/groups
    algorithms: [RS256, ES384]
routes:
  /role: role:admin
  /group: group:it
  /scope: scope:read and scope:write and claim:scope=\"read write\"
";
        let rows = "
  - [{sub: u, roles: [admin], realm_access: {other: 1}}, GET /role, allow]
  - [{sub: u, groups: [it]}, GET /group, allow]
  - [{sub: u, scopes: [read, write]}, GET /scope, allow]
  - [{sub: u, realm_access: {roles: [admin]}}, GET /role, allow]
  - [{roles: [admin]}, GET /role, allow]
  - [{sub: ~, roles: [admin]}, GET /role, deny]
  - [{roles: [admin], client: {id: other}}, GET /role, deny]
  - [{roles: [admin], client: shop}, GET /role, deny]
  - [{roles: [admin], exp: 1799999000}, GET /role, deny]
  - [{roles: [admin], nonce: x}, GET /role, deny]
";
        let cannot = "`client.id` cannot be written: another claim of the token stands in its way";
        let expected = [
            "allow",
            "allow",
            "allow",
            "allow",
            "allow",
            "claims_malformed",
            "audience_refused",
            cannot,
            "token_expired",
            "token_type_refused",
        ];
        assert_eq!(outcomes(policy, rows), expected);
    }

    #[test]
    fn a_token_is_of_the_issuer_that_the_row_names_and_meets_its_own_rules_only_if_the_row_does() {
        let policy = "
issuers:
  a: {url: https://a.org, audience: x, default: true, may_grant: any, from: [header:X-Token], types: [at+jwt]}
  b: {url: https://b.org, audience: x, may_grant: any, require: claim:o=acme, max_token_lifetime: 1m}
routes:
  /a: signed-in
  /b: {allow: signed-in, issuers: [b]}
";
        let rows = "
  - [{sub: u}, GET /a, allow]
  - [{sub: u, iss: b, o: acme}, GET /b, allow]
  - [{sub: u, iss: b}, GET /b, deny]
  - [{sub: u}, GET /b, deny]
  - [anonymous, GET /a, deny]
";
        let expected = ["allow", "allow", "requirement_unmet", "credential_missing", "credential_missing"];
        assert_eq!(outcomes(policy, rows), expected);
    }

    #[test]
    fn without_a_default_the_row_has_to_say_whose_token_it_is() {
        let issuer = |name: &str| format!("  {name}: {{url: https://{name}.org, audience: x, may_grant: any}}\n");
        let policy =
            format!("issuers:\n{}{}routes: {{/a: {{allow: signed-in, issuers: [a, b]}}}}", issuer("a"), issuer("b"));
        let outcome = outcomes(&policy, "  - [{sub: u}, GET /a, allow]\n  - [{iss: b}, GET /a, allow]");
        assert_eq!(outcome, [Impossible::WhichIssuer.to_string(), "allow".into()]);
        let none = outcomes("routes: {/a: public}", "  - [{sub: u}, GET /a, allow]");
        assert_eq!(none, [Impossible::NoIssuer.to_string()]);
    }

    #[test]
    fn a_cookie_comes_from_the_site_itself_and_an_address_through_a_gateway_that_is_believed() {
        let policy = |address: &str| {
            format!(
                "
issuers: {{m: {{url: https://m.org, audience: x, from: ['cookie:s'], origins: ['https://m.org']}}}}
gateways:
  quiet: {{by: unix}}
  edge: {{by: 10.0.4.0/28, believes: [client_address], client_address: {address}}}
routes:
  /a: network:192.0.2.0/24
"
            )
        };
        let rows = "
  - {as: {sub: u}, ask: POST /a, expect: allow, from: 192.0.2.9}
  - {as: {sub: u}, ask: POST /a, expect: deny, from: 198.51.100.1}
  - {as: {sub: u}, ask: POST /a, expect: deny}
";
        for address in ["{from: connection}", "{from: xff, hops: 3}", "{from: x-envoy-external-address}"] {
            assert_eq!(outcomes(&policy(address), rows), ["allow", "rule_unmet", "fact_unknown"], "{address}");
        }
    }

    #[test]
    fn a_request_that_names_no_host_goes_to_the_policys_own() {
        let row = "  - [anonymous, GET /a, allow]\n  - [anonymous, GET https://b.org/a, allow]";
        let of = |policy: &str| outcomes(policy, row);
        assert_eq!(of("routes: {a.org/a: public}"), ["allow", "unknown_host"]);
        assert_eq!(of("routes: {a.org/a: public, b.org/a: public}"), ["unknown_host", "allow"]);
        assert_eq!(
            of("public_url: https://a.org:8443\nroutes: {a.org/a: public, b.org/a: public}"),
            ["allow", "allow"]
        );
    }
}
