//! Asks issuers about opaque tokens (RFC 7662): each token once at a time, so many at once, and no issuer that is down.

mod circuit;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::{Response, StatusCode, header};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use url::{Url, form_urlencoded};

use self::circuit::Circuit;
use super::fetch::{Clients, FetchError, fault, read};
use super::reach::{Names, Reach};
use crate::authz::introspection::client::{ClientSecret, Proof};
use crate::authz::introspection::{Introspected, Introspection, MAX_ANSWER, OpaqueToken};
use crate::authz::issuer::{Issuer, IssuerPolicy};
use crate::authz::reason::Reason;
use crate::authz::snapshot::Question;
use crate::clock;
use crate::live::{Answer, Asked};

/// How many questions may wait in all; more are answered at once that nothing could be learnt.
const WAITING: usize = 1_024;
/// How many tokens an issuer is asked about at once.
const AT_ONCE: usize = 32;
/// How many tokens more may wait for their turn.
const QUEUED: usize = 256;
/// How long a connection is kept for the next ask.
const IDLE: Duration = Duration::from_secs(30);
/// The kind of client assertion (RFC 7523 §2.2).
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Why nothing was learnt of a token. Holds nothing of what came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No answer came, or one that is none.
    #[error("{0}")]
    Fetch(FetchError),
    /// What came is no JSON, by its own `Content-Type`.
    #[error("the answer is not `application/json`; a signed one (RFC 9701) is not read")]
    NotJson,
    /// The client's key signs nothing.
    #[error("the client's assertion could not be signed")]
    Unsigned,
}

impl AskError {
    /// The stable, `snake_case` code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Fetch(error) => error.code(),
            Self::NotJson => "not_json",
            Self::Unsigned => "unsigned",
        }
    }

    /// Whether the issuer is at fault whatever it is asked about, so that asking on is of no use.
    const fn is_outage(self) -> bool {
        match self {
            Self::Fetch(FetchError::HttpStatus(status)) => matches!(status, 401 | 403 | 429 | 500..),
            Self::Fetch(FetchError::Redirect | FetchError::TooLarge) | Self::NotJson => false,
            Self::Fetch(_) | Self::Unsigned => true,
        }
    }

    /// What a caller's decision says: that no answer came, or that what came is none.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Fetch(FetchError::HttpStatus(429 | 500..)) => Reason::IntrospectionUnavailable,
            Self::Fetch(FetchError::HttpStatus(_) | FetchError::Redirect | FetchError::TooLarge) | Self::NotJson => {
                Reason::IntrospectionRefused
            }
            Self::Fetch(_) | Self::Unsigned => Reason::IntrospectionUnavailable,
        }
    }
}

/// Asks one issuer. Cheap to clone.
#[derive(Clone)]
pub struct Asker {
    clients: Arc<Clients>,
    names: Names,
}

impl Asker {
    /// One that trusts whom the issuer's `ca` says, or else whom this machine trusts.
    #[must_use]
    pub fn of(issuer: &IssuerPolicy) -> Self {
        let ca = issuer.introspection.as_ref().and_then(|how| how.ca.clone());
        Self { clients: Arc::new(Clients::new(IDLE, ca)), names: Names::default() }
    }

    #[cfg(test)]
    pub(super) fn with_names(self, names: Names) -> Self {
        Self { names, ..self }
    }

    /// What the endpoint answers about a token.
    ///
    /// # Errors
    /// Where nothing came in time, or nothing that could be an answer.
    pub async fn ask(&self, issuer: &IssuerPolicy, token: &OpaqueToken) -> Result<Vec<u8>, AskError> {
        let Some(how) = &issuer.introspection else { return Err(AskError::Fetch(FetchError::Internal)) };
        let ask = self.send(how, token);
        tokio::time::timeout(how.timeout, ask).await.unwrap_or(Err(AskError::Fetch(FetchError::Timeout)))
    }

    async fn send(&self, how: &Introspection, token: &OpaqueToken) -> Result<Vec<u8>, AskError> {
        let url = Url::parse(&how.url).map_err(|_| AskError::Fetch(FetchError::InsecureUrl))?;
        let reach = Reach::of_own(&url, how.allow_http).map_err(AskError::Fetch)?;
        let client = self.clients.of(reach, &self.names).ok_or(AskError::Fetch(FetchError::NoTrust))?;
        let mut request = client.post(url).header(header::ACCEPT, "application/json");
        if let Proof::Basic(secret) = &how.client.proof {
            request = request.header(header::AUTHORIZATION, basic(&how.client.id, secret));
        }
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form(how, token)?);
        let response = request.send().await.map_err(|error| AskError::Fetch(fault(&error)))?;
        match response.status() {
            StatusCode::OK if !is_json(&response) => Err(AskError::NotJson),
            StatusCode::OK => read(response, MAX_ANSWER).await.map_err(AskError::Fetch),
            status if status.is_redirection() => Err(AskError::Fetch(FetchError::Redirect)),
            status => Err(AskError::Fetch(FetchError::HttpStatus(status.as_u16()))),
        }
    }
}

/// The form of an ask (RFC 7662 §2.1), with what the client proves by in it.
fn form(how: &Introspection, token: &OpaqueToken) -> Result<String, AskError> {
    let (id, mut form) = (&*how.client.id, form_urlencoded::Serializer::new(String::new()));
    form.append_pair("token", token.reveal()).append_pair("token_type_hint", "access_token");
    match &how.client.proof {
        Proof::Basic(_) => {}
        Proof::Post(ClientSecret(secret)) => {
            form.append_pair("client_id", id).append_pair("client_secret", &String::from_utf8_lossy(secret));
        }
        Proof::Signed(key, audience) => {
            let assertion = key.assertion(id, audience, &nonce(), clock::now()).ok_or(AskError::Unsigned)?;
            form.append_pair("client_id", id);
            form.append_pair("client_assertion_type", ASSERTION).append_pair("client_assertion", &assertion);
        }
    }
    Ok(form.finish())
}

/// Whether an answer says to be JSON, or says nothing of what it is.
fn is_json(response: &Response) -> bool {
    let Some(kind) = response.headers().get(header::CONTENT_TYPE) else { return true };
    crate::authz::accept::is_media_type(kind.as_bytes(), "application/json")
}

/// `Authorization: Basic` of a client: name and secret are encoded as in a form first (RFC 6749 §2.3.1).
fn basic(id: &str, ClientSecret(secret): &ClientSecret) -> header::HeaderValue {
    let encode = |bytes: &[u8]| form_urlencoded::byte_serialize(bytes).collect::<String>();
    let pair = format!("{}:{}", encode(id.as_bytes()), encode(secret));
    let value = header::HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)));
    // Base64 is always a header's value.
    let mut value = value.unwrap_or(header::HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

fn nonce() -> String {
    let mut bytes = [0; 16];
    // Were there no randomness, the issuer would refuse the second assertion: no token would pass by it.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Where questions about opaque tokens go. What answers them stops when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Introspections(mpsc::Sender<Asked>);

impl Introspections {
    /// Starts it on the runtime of the caller.
    pub(super) fn start(names: Names) -> Self {
        let (sender, questions) = mpsc::channel(WAITING);
        tokio::spawn(Desk { names, ..Desk::default() }.run(questions));
        Self(sender)
    }

    /// Asks; the answer goes where the question says.
    pub(super) fn ask(&self, asked: Asked) {
        use mpsc::error::TrySendError;
        if let Err(TrySendError::Full(asked) | TrySendError::Closed(asked)) = self.0.try_send(asked) {
            unavailable(asked);
        }
    }
}

/// All asks, owned by one task: that a token is asked about once at a time is thus plain to see.
#[derive(Default)]
struct Desk {
    names: Names,
    /// By the digest of their issuers: another endpoint or client makes another one.
    endpoints: HashMap<[u8; 32], Endpoint>,
    asks: JoinSet<Result<Vec<u8>, AskError>>,
    running: HashMap<Id, Ask>,
}

/// A token that its issuer is being asked about.
struct Ask {
    issuer: Arc<Issuer>,
    token: Arc<OpaqueToken>,
}

/// An issuer's endpoint.
struct Endpoint {
    policy: Weak<IssuerPolicy>,
    asker: Asker,
    circuit: Circuit,
    running: usize,
    queue: VecDeque<Ask>,
    /// Who waits, by the token's key; a place for each token that is being asked about, or queued.
    waiting: HashMap<[u8; 32], Vec<Asked>>,
    /// What came of the last ask.
    last: Option<AskError>,
}

impl Desk {
    async fn run(mut self, mut questions: mpsc::Receiver<Asked>) {
        loop {
            tokio::select! {
                asked = questions.recv() => match asked {
                    Some(asked) => self.question(asked),
                    None => return,
                },
                Some(ended) = self.asks.join_next_with_id() => self.ended(ended),
            }
        }
    }

    fn question(&mut self, asked: Asked) {
        let Question::Introspect(_, token) = &asked.question else { return };
        let (token, issuer) = (Arc::clone(token), Arc::clone(&asked.issuer));
        // It may have been answered since the core looked.
        if let Some(told) = issuer.already(&token, clock::now()) {
            return answer(asked, told);
        }
        let digest = issuer.policy().digest;
        if !self.endpoints.contains_key(&digest) {
            self.endpoints.retain(|_, endpoint| endpoint.running > 0 || endpoint.policy.strong_count() > 0);
        }
        let endpoint = self.endpoints.entry(digest).or_insert_with(|| Endpoint::of(issuer.policy(), &self.names));
        let waiting: usize = endpoint.waiting.values().map(Vec::len).sum();
        if waiting >= WAITING {
            return unavailable(asked);
        }
        if let Some(others) = endpoint.waiting.get_mut(token.key()) {
            return others.push(asked);
        }
        if endpoint.queue.len() >= QUEUED || !endpoint.circuit.passes(Instant::now()) {
            return unavailable(asked);
        }
        endpoint.waiting.insert(*token.key(), vec![asked]);
        endpoint.queue.push_back(Ask { issuer, token });
        self.begin(digest);
    }

    /// Begins what may begin.
    fn begin(&mut self, digest: [u8; 32]) {
        let Some(endpoint) = self.endpoints.get_mut(&digest) else { return };
        while endpoint.running < AT_ONCE {
            let Some(ask) = endpoint.queue.pop_front() else { return };
            let is_awaited = |asked: &Asked| !asked.reply.is_closed();
            if !endpoint.waiting.get(ask.token.key()).is_some_and(|waiting| waiting.iter().any(is_awaited)) {
                endpoint.waiting.remove(ask.token.key());
                endpoint.circuit.dropped();
                continue;
            }
            endpoint.running = endpoint.running.saturating_add(1);
            let (asker, policy, token) =
                (endpoint.asker.clone(), Arc::clone(ask.issuer.policy()), Arc::clone(&ask.token));
            let id = self.asks.spawn(async move { asker.ask(&policy, &token).await }).id();
            self.running.insert(id, ask);
        }
    }

    fn ended(&mut self, ended: Result<(Id, Result<Vec<u8>, AskError>), JoinError>) {
        let (id, brought) = match ended {
            Ok(ended) => ended,
            Err(broken) => (broken.id(), Err(AskError::Fetch(FetchError::Internal))),
        };
        let Some(Ask { issuer, token }) = self.running.remove(&id) else { return };
        let answer_of = brought.as_deref().map_err(|error| error.reason());
        let told = issuer.introspected(&token, answer_of, clock::now());
        let digest = issuer.policy().digest;
        let Some(endpoint) = self.endpoints.get_mut(&digest) else { return };
        endpoint.running = endpoint.running.saturating_sub(1);
        for asked in endpoint.waiting.remove(token.key()).into_iter().flatten() {
            answer(asked, told.clone());
        }
        endpoint.note(issuer.policy(), brought.as_ref().err().copied());
        self.begin(digest);
    }
}

impl Endpoint {
    fn of(policy: &Arc<IssuerPolicy>, names: &Names) -> Self {
        Self {
            policy: Arc::downgrade(policy),
            asker: Asker { names: names.clone(), ..Asker::of(policy) },
            circuit: Circuit::default(),
            running: 0,
            queue: VecDeque::new(),
            waiting: HashMap::new(),
            last: None,
        }
    }

    /// Takes note of what came of an ask. Who waits for an issuer that is down waits no longer.
    fn note(&mut self, policy: &IssuerPolicy, error: Option<AskError>) {
        let (issuer, before) = (&*policy.name, std::mem::replace(&mut self.last, error));
        let opened = self.circuit.ended(error.is_some_and(AskError::is_outage), Instant::now());
        match error {
            Some(error) if before.map(AskError::code) != Some(error.code()) => {
                tracing::warn!(issuer, code = error.code(), "the issuer could not be asked about a token: {error}");
            }
            None if before.is_some() => tracing::info!(issuer, "the issuer answers about tokens again"),
            Some(_) | None => {}
        }
        if let Some(pause) = opened {
            let seconds = pause.as_secs();
            tracing::warn!(issuer, seconds, "the issuer is not asked about tokens for a while: it does not answer");
            for ask in self.queue.drain(..) {
                self.waiting.remove(ask.token.key()).into_iter().flatten().for_each(unavailable);
            }
        }
    }
}

fn answer(asked: Asked, told: Introspected) {
    // Who asked may have given up.
    let _ = asked.reply.send(Answer::Introspected(told));
}

fn unavailable(asked: Asked) {
    if let Question::Introspect(_, token) = &asked.question {
        let told = Introspected::unavailable(token);
        answer(asked, told);
    }
}

#[cfg(test)]
mod tests;
