//! An identity provider on loopback: discovery, key set, rotation and a token for whoever asks. For `dev` and the tests; its keys live and die with it.

use std::io::Result;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use super::listen::{self, Bound, Listener, Reply};
use super::mint::SigningKey;
use crate::authz::algorithm::Algorithm;

const TOKEN_SECS: i64 = 600;
const MAX_FORM_BYTES: usize = 64 * 1024;
/// Four times what a careful reader of key sets takes.
const HUGE_BYTES: usize = 1024 * 1024;

/// What an issuer is like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `aud` of its tokens.
    pub audience: String,
    /// The algorithm of its keys.
    pub algorithm: Algorithm,
    /// How long a key stays in the key set after a rotation has replaced it.
    pub keep_old: Duration,
}

/// How discovery and the key set answer. Tokens and rotation are not touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// As they should.
    #[default]
    Normal,
    /// Connections are closed without an answer.
    Down,
    /// As they should, after this long.
    Slow(Duration),
    /// Valid JSON of 1 MiB.
    Huge,
    /// 200 with what is no JSON.
    Garbage,
    /// This status, with an empty JSON object.
    Status(u16),
}

/// How often each document has been asked for, whatever the answer was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetches {
    /// `/.well-known/openid-configuration`.
    pub discovery: u64,
    /// `/jwks.json`.
    pub keys: u64,
}

/// A running issuer. It stops when dropped.
///
/// - `GET /.well-known/openid-configuration`, `GET /jwks.json`.
/// - `POST /token`: a form such as `sub=u1&roles=admin,premium&tenant=t1`, or a JSON object of claims as for [`Issuer::token`], gives
///   `{"access_token", "token_type", "expires_in"}`. In a form `roles` (empty if absent) and `groups` are lists with commas, `expires_in` is seconds
///   (negative: already expired), and every other field is a claim of text.
/// - `POST /token.txt`: the same, but the answer is the token alone, for a shell to take in.
/// - `POST /rotate`: a new key signs from now on; the old ones are dropped from the key set after [`Settings::keep_old`].
pub struct Issuer {
    listener: Listener,
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    url: String,
    state: Mutex<State>,
}

struct State {
    /// The one that signs.
    current: Key,
    /// Those it replaced, and when each was replaced.
    old: Vec<(Key, Instant)>,
    behaviour: Behaviour,
    fetches: Fetches,
}

struct Key {
    kid: String,
    signing: SigningKey,
}

impl Key {
    fn generate(algorithm: Algorithm) -> Self {
        let signing = SigningKey::generate(algorithm);
        // Named after the key: an issuer that starts anew never gives an old name to a new key.
        let digest = digest::digest(&digest::SHA256, signing.public_jwk(None).to_string().as_bytes());
        let start: Vec<u8> = digest.as_ref().iter().copied().take(9).collect();
        Self { kid: URL_SAFE_NO_PAD.encode(start), signing }
    }

    fn public(&self) -> Value {
        self.signing.public_jwk(Some(&self.kid))
    }
}

impl Issuer {
    /// Starts it on a loopback address; port 0 takes a free one.
    ///
    /// # Errors
    /// What binding says; an address that is not loopback.
    pub async fn start(at: SocketAddr, settings: Settings) -> Result<Self> {
        let bound = Bound::to(at).await?;
        let current = Key::generate(settings.algorithm);
        let state = State { current, old: Vec::new(), behaviour: Behaviour::Normal, fetches: Fetches::default() };
        let url = format!("http://{}", bound.address());
        let shared = Arc::new(Shared { settings, url, state: Mutex::new(state) });
        let answering = Arc::clone(&shared);
        let listener = bound.serve(move |request| Arc::clone(&answering).answer(request));
        Ok(Self { listener, shared })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// The `iss` of its tokens, and where discovery starts: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// A token of ten minutes with these claims added to, or put in place of, `iss`, `aud`, `iat`, `exp` and `jti`; a `null` leaves one out.
    #[must_use]
    pub fn token(&self, claims: &Value) -> String {
        self.shared.token(claims.as_object().cloned().unwrap_or_default()).0
    }

    /// The name of the key that signs.
    #[must_use]
    pub fn kid(&self) -> String {
        self.shared.state().current.kid.clone()
    }

    /// Lets a new key sign, and returns its name.
    pub fn rotate(&self) -> String {
        self.shared.rotate()
    }

    /// Takes the replaced keys out of the key set now.
    pub fn drop_old_keys(&self) {
        self.shared.state().old.clear();
    }

    /// How discovery and the key set answer from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.shared.state().behaviour = behaviour;
    }

    /// How often it has been asked.
    #[must_use]
    pub fn fetches(&self) -> Fetches {
        self.shared.state().fetches
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Reply {
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::GET, "/.well-known/openid-configuration") => {
                let count = |fetches: &mut Fetches| fetches.discovery = fetches.discovery.saturating_add(1);
                self.document(count, Self::discovery).await
            }
            (&Method::GET, "/jwks.json") => {
                let count = |fetches: &mut Fetches| fetches.keys = fetches.keys.saturating_add(1);
                self.document(count, Self::key_set).await
            }
            (&Method::POST, "/token") => Some(match self.token_for(request).await {
                Ok((token, expires_in)) => {
                    listen::json(200, &json!({"access_token": token, "token_type": "Bearer", "expires_in": expires_in}))
                }
                Err(refused) => refused,
            }),
            (&Method::POST, "/token.txt") => Some(match self.token_for(request).await {
                Ok((token, _)) => listen::respond(200, "text/plain", token),
                Err(refused) => refused,
            }),
            (&Method::POST, "/rotate") => Some(listen::json(200, &json!({"kid": self.rotate()}))),
            _ => Some(listen::json(404, &json!({"error": "not_found"}))),
        }
    }

    async fn document(&self, count: fn(&mut Fetches), document: fn(&Self) -> Value) -> Reply {
        let behaviour = {
            let mut state = self.state();
            count(&mut state.fetches);
            state.behaviour
        };
        match behaviour {
            Behaviour::Normal => {}
            Behaviour::Down => return None,
            Behaviour::Slow(by) => sleep(by).await,
            Behaviour::Huge => return Some(listen::json(200, &self.padded(document))),
            Behaviour::Garbage => return Some(listen::respond(200, "application/json", "<html>")),
            Behaviour::Status(status) => return Some(listen::json(status, &json!({}))),
        }
        Some(listen::json(200, &document(self)))
    }

    /// The document as it should be, but for its size.
    fn padded(&self, document: fn(&Self) -> Value) -> Value {
        let mut document = document(self);
        if let Some(members) = document.as_object_mut() {
            members.insert("padding".into(), "x".repeat(HUGE_BYTES).into());
        }
        document
    }

    fn discovery(&self) -> Value {
        let url = &self.url;
        json!({
            "issuer": url,
            "jwks_uri": format!("{url}/jwks.json"),
            "token_endpoint": format!("{url}/token"),
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["none"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self.settings.algorithm.name()],
        })
    }

    fn key_set(&self) -> Value {
        let mut state = self.state();
        let keep_old = self.settings.keep_old;
        state.old.retain(|(_, replaced)| replaced.elapsed() < keep_old);
        let keys = std::iter::once(&state.current).chain(state.old.iter().map(|(key, _)| key));
        json!({"keys": keys.map(Key::public).collect::<Vec<_>>()})
    }

    fn rotate(&self) -> String {
        let new = Key::generate(self.settings.algorithm);
        let kid = new.kid.clone();
        let mut state = self.state();
        let replaced = std::mem::replace(&mut state.current, new);
        state.old.insert(0, (replaced, Instant::now()));
        kid
    }

    /// A token, and the seconds until it expires.
    fn token(&self, claims: Map<String, Value>) -> (String, i64) {
        let now = unix_seconds();
        let defaults = json!({
            "iss": self.url,
            "aud": self.settings.audience,
            "iat": now,
            "exp": now.saturating_add(TOKEN_SECS),
            "jti": random_id(),
        });
        let mut all = defaults.as_object().cloned().unwrap_or_default();
        all.extend(claims);
        all.retain(|_, value| !value.is_null());
        let expires_in = all.get("exp").and_then(Value::as_i64).map_or(0, |exp| exp.saturating_sub(now));
        let state = self.state();
        (state.current.signing.token(Some(&state.current.kid), &Value::Object(all)), expires_in)
    }

    /// The token that a request asks for and the seconds until it expires, or why there is none.
    async fn token_for(&self, request: Request<Incoming>) -> std::result::Result<(String, i64), Response<Full<Bytes>>> {
        let is_json = request.headers().get(http::header::CONTENT_TYPE).is_some_and(|value| {
            value.as_bytes().get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/json"))
        });
        let refused = |why: &str| listen::json(400, &json!({"error": "invalid_request", "error_description": why}));
        let Ok(body) = Limited::new(request.into_body(), MAX_FORM_BYTES).collect().await else {
            return Err(refused("the body is cut short, or over 64 KiB"));
        };
        let body = body.to_bytes();
        let claims = if is_json { serde_json::from_slice(&body).ok() } else { claims_of_form(&body) };
        let claims = claims
            .ok_or_else(|| refused("want a form such as sub=u1&roles=admin,premium, or a JSON object of claims"))?;
        Ok(self.token(claims))
    }
}

/// The claims that a form asks for; `None` without a `sub`, or where `expires_in` is no number.
fn claims_of_form(form: &[u8]) -> Option<Map<String, Value>> {
    let mut claims = Map::new();
    for (name, value) in url::form_urlencoded::parse(form) {
        let list = || value.split(',').filter(|item| !item.is_empty()).collect::<Vec<_>>();
        match name.as_ref() {
            // What a client of RFC 6749 sends besides, which is no claim.
            "grant_type" | "client_secret" => {}
            "expires_in" => {
                let seconds: i64 = value.parse().ok()?;
                claims.insert("exp".into(), unix_seconds().saturating_add(seconds).into());
            }
            "roles" | "groups" => _ = claims.insert(name.into_owned(), list().into()),
            "aud" if value.contains(',') => _ = claims.insert(name.into_owned(), list().into()),
            _ => _ = claims.insert(name.into_owned(), value.into_owned().into()),
        }
    }
    // A provider that knows of roles says so of a subject that has none, too.
    claims.entry("roles").or_insert_with(|| json!([]));
    claims.contains_key("sub").then_some(claims)
}

#[expect(clippy::disallowed_methods, reason = "an issuer has a clock of its own, as a real one does")]
fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn random_id() -> String {
    let mut id = [0_u8; 12];
    // Zeroes where the system has no randomness: a `jti` that repeats, in a place without keys worth having.
    let _ = aws_lc_rs::rand::fill(&mut id);
    URL_SAFE_NO_PAD.encode(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::wire::{Answer, exchange};

    const AT: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
    const DEADLINE: Duration = Duration::from_secs(5);

    async fn issuer(keep_old: Duration) -> Issuer {
        let settings = Settings { audience: "shop-api".into(), algorithm: Algorithm::Es256, keep_old };
        Issuer::start(AT.into(), settings).await.unwrap()
    }

    async fn ask(issuer: &Issuer, start: &str, body: &str) -> Result<Answer> {
        let length = body.len();
        let request = format!("{start}\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
        exchange(issuer.address(), request.as_bytes(), DEADLINE).await
    }

    async fn get(issuer: &Issuer, path: &str) -> Result<Answer> {
        ask(issuer, &format!("GET {path} HTTP/1.1"), "").await
    }

    async fn kids(issuer: &Issuer) -> Vec<String> {
        let set = get(issuer, "/jwks.json").await.unwrap().json().unwrap();
        set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    /// Checks the signature with a library that is not ours, against the key set as served, and gives the claims.
    async fn verified(issuer: &Issuer, token: &str) -> Value {
        let set = get(issuer, "/jwks.json").await.unwrap().body;
        let set: jsonwebtoken::jwk::JwkSet = serde_json::from_slice(&set).unwrap();
        let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(set.find(&kid).unwrap()).unwrap();
        let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
        rules.set_audience(&["shop-api"]);
        rules.validate_exp = false;
        jsonwebtoken::decode::<Value>(token, &key, &rules).unwrap().claims
    }

    #[tokio::test]
    async fn discovery_leads_to_the_key_that_signs() {
        let issuer = issuer(DEADLINE).await;
        let found = get(&issuer, "/.well-known/openid-configuration").await.unwrap().json().unwrap();
        assert_eq!(found["issuer"], issuer.url());
        assert_eq!(found["jwks_uri"], format!("{}/jwks.json", issuer.url()));
        assert_eq!(kids(&issuer).await, [issuer.kid()]);
        assert_eq!(issuer.fetches(), Fetches { discovery: 1, keys: 1 });
    }

    #[tokio::test]
    async fn a_form_gives_a_token_of_ten_minutes_that_verifies() {
        let issuer = issuer(DEADLINE).await;
        let form = "grant_type=client_credentials&sub=u%201&roles=admin,premium&tenant=t1";
        let answer = ask(&issuer, "POST /token HTTP/1.1", form).await.unwrap().json().unwrap();
        assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(600)));
        let claims = verified(&issuer, answer["access_token"].as_str().unwrap()).await;
        assert_eq!(claims["iss"], issuer.url());
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
        assert_eq!((&claims["sub"], &claims["tenant"]), (&json!("u 1"), &json!("t1")));
        assert_eq!(claims["roles"], json!(["admin", "premium"]));
        assert_eq!(claims.get("grant_type"), None);
    }

    #[tokio::test]
    async fn json_gives_any_claims_and_null_leaves_one_out() {
        let issuer = issuer(DEADLINE).await;
        let start = "POST /token HTTP/1.1\r\nContent-Type: application/json; charset=utf-8";
        let answer = ask(&issuer, start, r#"{"sub": "u1", "jti": null, "realm": {"roles": ["a"]}}"#).await.unwrap();
        let claims = verified(&issuer, answer.json().unwrap()["access_token"].as_str().unwrap()).await;
        assert_eq!((&claims["realm"], claims.get("jti")), (&json!({"roles": ["a"]}), None));
    }

    #[tokio::test]
    async fn a_shell_gets_the_token_alone() {
        let issuer = issuer(DEADLINE).await;
        let answer = ask(&issuer, "POST /token.txt HTTP/1.1", "sub=u1&roles=premium").await.unwrap();
        assert_eq!(verified(&issuer, &answer.text()).await["roles"], json!(["premium"]));
        assert_eq!(ask(&issuer, "POST /token.txt HTTP/1.1", "roles=premium").await.unwrap().status, 400);
    }

    #[tokio::test]
    async fn a_token_request_without_a_subject_is_refused() {
        let issuer = issuer(DEADLINE).await;
        for form in ["", "roles=admin", "sub=u1&expires_in=soon"] {
            assert_eq!(ask(&issuer, "POST /token HTTP/1.1", form).await.unwrap().status, 400, "{form}");
        }
    }

    #[tokio::test]
    async fn an_expired_token_can_be_asked_for() {
        let issuer = issuer(DEADLINE).await;
        let answer = ask(&issuer, "POST /token HTTP/1.1", "sub=u1&expires_in=-60").await.unwrap().json().unwrap();
        let claims = verified(&issuer, answer["access_token"].as_str().unwrap()).await;
        assert!(claims["exp"].as_i64() < claims["iat"].as_i64());
    }

    #[tokio::test]
    async fn a_rotated_key_signs_at_once_and_the_old_one_is_kept() {
        let issuer = issuer(DEADLINE).await;
        let (old, old_kid) = (issuer.token(&json!({"sub": "u1"})), issuer.kid());
        let new_kid = ask(&issuer, "POST /rotate HTTP/1.1", "").await.unwrap().json().unwrap()["kid"].clone();
        assert_eq!(new_kid, issuer.kid());
        assert_eq!(kids(&issuer).await, [issuer.kid(), old_kid]);
        verified(&issuer, &old).await;
        verified(&issuer, &issuer.token(&json!({"sub": "u1"}))).await;
        issuer.drop_old_keys();
        assert_eq!(kids(&issuer).await, [issuer.kid()]);
    }

    #[tokio::test]
    async fn an_old_key_leaves_after_its_time() {
        let issuer = issuer(Duration::ZERO).await;
        let kid = issuer.rotate();
        assert_eq!(kids(&issuer).await, [kid]);
    }

    #[tokio::test]
    async fn it_misbehaves_as_told_and_counts_all_the_same() {
        let issuer = issuer(DEADLINE).await;
        let path = "/jwks.json";
        issuer.behave(Behaviour::Down);
        assert_eq!(get(&issuer, path).await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        issuer.behave(Behaviour::Status(503));
        assert_eq!(get(&issuer, path).await.unwrap().status, 503);
        issuer.behave(Behaviour::Garbage);
        assert!(get(&issuer, path).await.unwrap().json().is_err());
        issuer.behave(Behaviour::Huge);
        let huge = get(&issuer, path).await.unwrap();
        assert!(huge.body.len() > HUGE_BYTES && huge.json().unwrap()["keys"].is_array());
        issuer.behave(Behaviour::Slow(Duration::from_millis(50)));
        let asked = Instant::now();
        assert_eq!(kids(&issuer).await, [issuer.kid()]);
        assert!(asked.elapsed() >= Duration::from_millis(50));
        issuer.behave(Behaviour::Normal);
        assert_eq!(kids(&issuer).await, [issuer.kid()]);
        assert_eq!(issuer.fetches(), Fetches { discovery: 0, keys: 6 });
    }

    #[tokio::test]
    async fn what_it_does_not_serve_is_not_found() {
        let issuer = issuer(DEADLINE).await;
        assert_eq!(get(&issuer, "/token").await.unwrap().status, 404);
        assert_eq!(get(&issuer, "/").await.unwrap().status, 404);
    }
}
