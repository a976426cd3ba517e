//! An endpoint that lies, stalls, bloats and disappears, asked through the shell.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::*;
use crate::authz::decision::Verdict;
use crate::authz::gateways::Dialect;
use crate::authz::issuer::IssuerId;
use crate::authz::request::{Asker as Peer, Header, Raw};
use crate::authz::snapshot::{Facts, Step};
use crate::config::{self, Compiled};
use crate::feed::fetch::Fetcher;
use crate::feed::jwks::Feeds;
use crate::feed::trial::{Canned, ok};
use crate::live::{Live, Publisher};

const ACTIVE: &str = r#"{"active":true,"sub":"u1","aud":"api"}"#;

/// What the endpoint does with an ask.
#[derive(Clone)]
enum Behaviour {
    /// Sends these bytes.
    Say(String),
    /// Sends these bytes, and then more without end.
    SayAndBloat(String),
    /// Sends these bytes when it is let.
    SayWhenLet(String),
    /// Sends nothing, and keeps the connection.
    Stall,
    /// Closes the connection.
    HangUp,
}

/// An endpoint, and what it was asked.
struct Endpoint {
    url: String,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    asked: Mutex<Vec<String>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    let_through: Semaphore,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoint {
    async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/introspect", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            asked: Mutex::default(),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            let_through: Semaphore::new(0),
        });
        let of_task = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&of_task).serve(stream));
            }
        });
        Self { url, shared, task: task.abort_handle() }
    }

    fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    /// The asks so far, as they came.
    fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut read = Vec::new();
        while !is_whole(&read) {
            let mut piece = [0; 4_096];
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(length) => read.extend_from_slice(&piece[..length]),
            }
        }
        let before = self.at_once.fetch_add(1, Ordering::SeqCst);
        self.most_at_once.fetch_max(before.saturating_add(1), Ordering::SeqCst);
        self.asked.lock().unwrap().push(String::from_utf8(read).unwrap());
        let behaviour = self.behaviour.lock().unwrap().clone();
        self.answer(&mut stream, behaviour).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
    }

    async fn answer(&self, stream: &mut TcpStream, behaviour: Behaviour) {
        match behaviour {
            Behaviour::Say(text) => _ = stream.write_all(text.as_bytes()).await,
            Behaviour::SayAndBloat(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
                while stream.write_all(&[b' '; 65_536]).await.is_ok() {}
            }
            Behaviour::SayWhenLet(text) => {
                self.let_through.acquire().await.unwrap().forget();
                let _ = stream.write_all(text.as_bytes()).await;
            }
            Behaviour::Stall => _ = stream.read(&mut [0]).await,
            Behaviour::HangUp => {}
        }
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn json(body: &str) -> String {
    ok(body).replacen("\r\n", "\r\nContent-Type: application/json\r\n", 1)
}

struct Site {
    live: Arc<Live>,
    publisher: Publisher,
    feeds: Feeds,
    endpoint: Endpoint,
}

impl Site {
    async fn start(behaviour: Behaviour) -> Self {
        Self::of(behaviour, "client_secret: 'file:secret', timeout: 10s", "s3cret").await
    }

    async fn of(behaviour: Behaviour, more: &str, file: &str) -> Self {
        let endpoint = Endpoint::start(behaviour).await;
        let (live, publisher, questions) = Live::new();
        let feeds = Feeds::start(publisher.clone(), questions, Fetcher::new());
        let site = Self { live, publisher, feeds, endpoint };
        site.publish(more, file).await;
        site
    }

    async fn publish(&self, more: &str, file: &str) {
        let Compiled { policy, fixed, feeds, .. } = compiled(&self.endpoint.url, more, file);
        self.feeds.publish(policy, fixed, feeds).await;
    }

    fn issuer(&self) -> Arc<Issuer> {
        Arc::clone(&self.live.snapshot().unwrap().issuers()[0])
    }

    /// Whose token it is, asked as a core asks.
    async fn ask(&self, token: &str) -> Result<String, Reason> {
        let issuer = self.issuer();
        let token = Arc::new(issuer.opaque(token.as_bytes()).unwrap());
        match self.live.ask(Question::Introspect(IssuerId(0), token), issuer).await {
            Answer::Introspected(told) => told.told().map(|identity| identity.principal().subject.to_string()),
            other => panic!("{other:?}"),
        }
    }

    /// What the core says of a token: `None` where it wants to know more.
    fn decides(&self, token: &str) -> Option<Result<(), Reason>> {
        let bearer = format!("Bearer {token}");
        let raw = Raw::new(
            Dialect::Envoy,
            Peer::Unix,
            [b"GET", b"/a", b"shop.test"],
            vec![
                Header { name: b":method", value: b"GET" },
                Header { name: b":path", value: b"/a" },
                Header { name: b"authorization", value: bearer.as_bytes() },
            ],
        );
        let snapshot = self.live.snapshot().unwrap();
        let request = snapshot.read(&raw).unwrap();
        match snapshot.decide(Ok(&request), &Facts::default(), clock::now()) {
            Step::Needs(_) => None,
            Step::Decided(decision) => Some(match decision.verdict() {
                Verdict::Allow(_) => Ok(()),
                Verdict::Deny(denial) => Err(denial.reason()),
            }),
        }
    }
}

fn compiled(url: &str, more: &str, file: &str) -> Compiled {
    let text = format!(
        "issuers:\n  main:\n    issuer: https://id.test\n    audience: api\n    allow_http: true\n    introspection: \
         {{url: '{url}', client_id: 'edge:1', {more}}}\nroutes: {{/a: signed-in}}\n"
    );
    let (compiled, problems) = config::compile("p.yaml", &text, &|_| Ok(file.as_bytes().to_vec()));
    compiled.unwrap_or_else(|| panic!("{}", problems.render(false)))
}

#[tokio::test] // J29
async fn whatever_an_endpoint_says_only_a_good_answer_is_one() {
    let site = Site::start(Behaviour::Say(json(ACTIVE))).await;
    assert_eq!(site.ask("good").await.as_deref(), Ok("u1"));
    site.endpoint.behave(Behaviour::Say(ok(ACTIVE)));
    assert_eq!(site.ask("without-type").await.as_deref(), Ok("u1"));
    let status = |status: u16| format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let of_type = |kind: &str| json(ACTIVE).replace("application/json", kind);
    let elsewhere = Canned::body(ACTIVE).await;
    let redirect = |status: u16| {
        format!("HTTP/1.1 {status} x\r\nLocation: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", elsewhere.url)
    };
    let mut hostile: Vec<(Behaviour, Reason)> = Vec::new();
    for code in [201, 204, 206, 400, 404, 405] {
        hostile.push((Behaviour::Say(status(code)), Reason::IntrospectionRefused));
    }
    for code in [301, 302, 303, 307, 308] {
        hostile.push((Behaviour::Say(redirect(code)), Reason::IntrospectionRefused));
    }
    for kind in ["text/html", "application/token-introspection+jwt", "application/jwt", "application/jsonp", ""] {
        hostile.push((Behaviour::Say(of_type(kind)), Reason::IntrospectionRefused));
    }
    for body in ["<html></html>", "", "[]", r#"{"active":"true"}"#, r#"{"active":true,"active":true}"#] {
        hostile.push((Behaviour::Say(json(body)), Reason::IntrospectionRefused));
    }
    let large = format!("{ACTIVE}{}", " ".repeat(MAX_ANSWER));
    hostile.push((Behaviour::Say(json(&large)), Reason::IntrospectionRefused));
    let huge = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n";
    hostile.push((Behaviour::SayAndBloat(format!("{huge}{ACTIVE}")), Reason::IntrospectionRefused));
    let endless = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
    hostile.push((Behaviour::SayAndBloat(format!("{endless}{ACTIVE}")), Reason::IntrospectionRefused));
    for (at, (behaviour, reason)) in hostile.into_iter().enumerate() {
        let shown = if let Behaviour::Say(text) = &behaviour { text.clone() } else { "bloat".into() };
        site.endpoint.behave(behaviour);
        let told = site.ask(&format!("hostile-{at}")).await;
        assert_eq!(told, Err(reason), "{}", shown.get(..300).unwrap_or(&shown));
    }
    assert_eq!(elsewhere.hits(), 0);
    // None of these is an outage: the next is asked about all the same.
    site.endpoint.behave(Behaviour::Say(json(ACTIVE)));
    assert_eq!(site.ask("good-again").await.as_deref(), Ok("u1"));
}

#[tokio::test] // J29
async fn what_breaks_off_stalls_or_is_overloaded_is_unavailable() {
    let more = "client_secret: 'file:secret', timeout: 300ms";
    let site = Site::of(Behaviour::Stall, more, "s3cret").await;
    assert_eq!(site.ask("stalls").await, Err(Reason::IntrospectionUnavailable));
    let short = format!("HTTP/1.1 200 OK\r\nContent-Length: 999\r\nConnection: close\r\n\r\n{ACTIVE}");
    for behaviour in [Behaviour::HangUp, Behaviour::Say("nonsense".into()), Behaviour::Say(short)] {
        site.endpoint.behave(behaviour);
        assert_eq!(site.ask("breaks-off").await, Err(Reason::IntrospectionUnavailable));
    }
    site.endpoint.behave(Behaviour::Say(json(ACTIVE)));
    assert_eq!(site.ask("stalls").await.as_deref(), Ok("u1"));
}

#[tokio::test] // K06
async fn a_token_is_asked_about_once_whoever_waits() {
    let site = Site::start(Behaviour::SayWhenLet(json(ACTIVE))).await;
    let asks = (0..500).map(|_| site.ask("t"));
    let all = futures_joined(asks.collect());
    let released = async {
        while site.endpoint.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        site.endpoint.shared.let_through.add_permits(1);
    };
    let (told, ()) = tokio::join!(all, released);
    assert!(told.iter().all(|told| told.as_deref() == Ok("u1")));
    // And from memory afterwards.
    assert_eq!(site.ask("t").await.as_deref(), Ok("u1"));
    assert_eq!(site.endpoint.asked().len(), 1);
}

/// Waits for all of these at once.
async fn futures_joined<T, F: Future<Output = T>>(futures: Vec<F>) -> Vec<T> {
    let mut pinned: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (future, told) in pinned.iter_mut().filter(|(_, told)| told.is_none()) {
            match future.as_mut().poll(context) {
                std::task::Poll::Ready(value) => *told = Some(value),
                std::task::Poll::Pending => pending = true,
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    pinned.into_iter().map(|(_, told)| told.unwrap()).collect()
}

#[tokio::test]
async fn who_gives_up_leaves_an_ask_that_goes_on_for_the_next() {
    let site = Site::start(Behaviour::SayWhenLet(json(ACTIVE))).await;
    {
        let leaving = site.ask("t");
        let asked = async {
            while site.endpoint.asked().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! { _ = leaving => panic!("nothing was said"), () = asked => {} }
    }
    site.endpoint.shared.let_through.add_permits(1);
    assert_eq!(site.ask("t").await.as_deref(), Ok("u1"));
    assert_eq!(site.endpoint.asked().len(), 1);
    assert!(site.issuer().already(&site.issuer().opaque(b"t").unwrap(), clock::now()).is_some());
}

#[tokio::test]
async fn so_many_tokens_are_asked_about_at_once_and_so_many_wait() {
    let site = Site::start(Behaviour::SayWhenLet(json(ACTIVE))).await;
    let tokens: Vec<String> = (0..AT_ONCE + QUEUED + 50).map(|at| format!("t{at}")).collect();
    let all = futures_joined(tokens.iter().map(|token| site.ask(token)).collect());
    let released = async {
        while site.endpoint.asked().len() < AT_ONCE {
            tokio::task::yield_now().await;
        }
        site.endpoint.shared.let_through.add_permits(1_000);
    };
    let (told, ()) = tokio::join!(all, released);
    let good = told.iter().filter(|told| told.is_ok()).count();
    assert!((QUEUED..=AT_ONCE + QUEUED).contains(&good), "{good}");
    assert!(told.iter().all(|told| told.is_ok() || *told == Err(Reason::IntrospectionUnavailable)));
    assert_eq!(site.endpoint.asked().len(), good);
    assert!(site.endpoint.shared.most_at_once.load(Ordering::SeqCst) <= AT_ONCE);
    // Who was turned away may come again.
    let turned_away = told.iter().position(Result::is_err).unwrap();
    assert_eq!(site.ask(&tokens[turned_away]).await.as_deref(), Ok("u1"));
}

#[tokio::test]
async fn an_issuer_that_is_down_is_left_alone_and_what_is_known_stays_known() {
    let site = Site::start(Behaviour::Say(json(ACTIVE))).await;
    assert_eq!(site.ask("known").await.as_deref(), Ok("u1"));
    for status in [500, 503, 429, 401, 403] {
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        site.endpoint.behave(Behaviour::Say(answer));
        let reason = if status < 429 { Reason::IntrospectionRefused } else { Reason::IntrospectionUnavailable };
        assert_eq!(site.ask(&format!("down-{status}")).await, Err(reason), "{status}");
    }
    let asked = site.endpoint.asked().len();
    site.endpoint.behave(Behaviour::Say(json(ACTIVE)));
    assert_eq!(site.ask("other").await, Err(Reason::IntrospectionUnavailable));
    assert_eq!(site.ask("known").await.as_deref(), Ok("u1"));
    assert_eq!(site.endpoint.asked().len(), asked);
    // Until it is tried again.
    let back = async { while site.ask("other").await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(60), back).await.unwrap();
}

#[tokio::test]
async fn a_client_proves_who_it_is_as_the_policy_says() {
    let form = |asked: &str| -> HashMap<String, String> {
        let (_, body) = asked.split_once("\r\n\r\n").unwrap();
        form_urlencoded::parse(body.as_bytes()).into_owned().collect()
    };
    let header = |asked: &str, name: &str| -> Option<String> {
        let line = asked.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")))?;
        Some(line.split_once(": ")?.1.to_owned())
    };
    let site = Site::of(Behaviour::Say(json(ACTIVE)), "client_secret: 'file:secret'", "s+c r/t%:\n").await;
    site.ask("a+b/c==").await.unwrap();
    let asked = site.endpoint.asked().remove(0);
    assert!(asked.starts_with("POST /introspect HTTP/1.1\r\n"), "{asked}");
    let pair = STANDARD.encode("edge%3A1:s%2Bc+r%2Ft%25%3A");
    assert_eq!(header(&asked, "authorization"), Some(format!("Basic {pair}")));
    assert_eq!(header(&asked, "content-type").as_deref(), Some("application/x-www-form-urlencoded"));
    assert_eq!(header(&asked, "accept").as_deref(), Some("application/json"));
    let expected = [("token", "a+b/c=="), ("token_type_hint", "access_token")];
    assert_eq!(form(&asked), expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());

    let site = Site::of(Behaviour::Say(json(ACTIVE)), "client_secret: 'file:secret', auth: post", "s+c r/t%:\n").await;
    site.ask("t").await.unwrap();
    let asked = site.endpoint.asked().remove(0);
    let told = form(&asked);
    assert_eq!((told["client_id"].as_str(), told["client_secret"].as_str()), ("edge:1", "s+c r/t%:"));
    assert_eq!(header(&asked, "authorization"), None);

    let key = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(key.as_ref()));
    let more = "private_key_jwt: {key: 'file:k.pem', algorithm: EdDSA, kid: k1}";
    let site = Site::of(Behaviour::Say(json(ACTIVE)), more, &pem).await;
    site.ask("t").await.unwrap();
    site.ask("u").await.unwrap();
    let told: Vec<_> = site.endpoint.asked().iter().map(|asked| form(asked)).collect();
    assert_eq!((told[0]["client_id"].as_str(), told[0]["client_assertion_type"].as_str()), ("edge:1", ASSERTION));
    assert_ne!(told[0]["client_assertion"], told[1]["client_assertion"], "each has a `jti` of its own");
    let claims = told[0]["client_assertion"].split('.').nth(1).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!((claims["aud"].as_str(), claims["sub"].as_str()), (Some("https://id.test"), Some("edge:1")));
}

#[tokio::test] // C02
async fn another_secret_is_used_at_once_and_another_policy_believes_no_old_answer() {
    let more = "client_secret: 'file:secret'";
    let site = Site::of(Behaviour::Say(json(ACTIVE)), more, "0ld-secret").await;
    site.ask("t").await.unwrap();
    // The same policy, loaded again: what was answered is believed.
    site.publish(more, "0ld-secret").await;
    site.ask("t").await.unwrap();
    assert_eq!(site.endpoint.asked().len(), 1);
    site.publish(more, "new-secret").await;
    site.ask("t").await.unwrap();
    let asked = site.endpoint.asked();
    assert!(asked[1].contains(&STANDARD.encode("edge%3A1:new-secret")), "{}", asked[1]);
    site.publish("client_secret: 'file:secret', subject: username", "new-secret").await;
    assert_eq!(site.ask("t").await, Err(Reason::ClaimsMalformed));
    assert_eq!(site.endpoint.asked().len(), 3);
}

#[tokio::test]
async fn no_opaque_token_of_a_suspended_issuer_passes_and_it_is_not_asked() {
    let site = Site::start(Behaviour::Say(json(ACTIVE))).await;
    site.ask("known").await.unwrap();
    assert_eq!((site.decides("known"), site.decides("new")), (Some(Ok(())), None));
    site.publisher.suspend("main", clock::now()).unwrap();
    for token in ["known", "new"] {
        assert_eq!(site.decides(token), Some(Err(Reason::IssuerSuspended)), "{token}");
    }
    site.publisher.resume("main").unwrap();
    assert_eq!((site.decides("known"), site.decides("new")), (Some(Ok(())), None));
    assert_eq!(site.endpoint.asked().len(), 1);
}
