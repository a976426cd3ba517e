//! `examples/fastapi` as it is shipped, run by uvicorn behind real gateways: it knows whom they let pass, and nobody else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Once;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::authz::algorithm::Algorithm;
use portcullis::clock;
use portcullis::dev::issuer::Issuer;
use portcullis::dev::mint::SigningKey;
use portcullis::dev::upstream::Upstream;
use portcullis::dev::wire::Answer;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::edge::{bearer, get, issuer, replaced, shipped};
use crate::kong;
use crate::parts::nginx::{self, Nginx, nginx_program};
use crate::parts::{here, missing, port};
use crate::support::{ANY_PORT, DEADLINE, Process, TempDir, ask, deserted_address, envoy_program, start_envoy_with};

const POLICY: &str = include_str!("../../examples/fastapi/portcullis.yaml");
const HEADER: &str = "X-Portcullis-Identity";

/// uvicorn, and what it runs. Without it the test is skipped on a laptop, and fails where `CI` is `true`.
fn uvicorn() -> Option<PathBuf> {
    static ONCE: Once = Once::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/fastapi");
    if folder.join(".fetched").is_file() {
        return Some(folder.join("venv/bin/uvicorn"));
    }
    missing(&ONCE, "the tests with FastAPI", "Install Python 3 with venv, and run `make setup`.");
    None
}

/// The application, asking for the gateway's keys there.
struct App {
    process: Process,
    address: SocketAddr,
}

impl App {
    async fn start(uvicorn: &Path, keys: SocketAddr, variables: &[(&str, &str)]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fastapi");
        let mut command = Command::new(uvicorn);
        command.args(["app:app", "--port", "0", "--no-access-log", "--app-dir"]).arg(folder);
        command.env("PYTHONDONTWRITEBYTECODE", "1").envs(variables.iter().copied());
        command.env("PORTCULLIS_JWKS", format!("http://{keys}/.well-known/jwks.json"));
        let mut process = Process::start(&mut command);
        let line = process.line_with("Uvicorn running on").await;
        let (_, rest) = line.split_once("http://").unwrap();
        Self { process, address: rest.split(' ').next().unwrap().parse().unwrap() }
    }

    /// A request that no gateway has seen.
    async fn directly(&self, target: &str, headers: &str) -> Answer {
        ask(self.address, get(target, headers)).await
    }

    async fn with_token(&self, token: &str) -> Answer {
        self.directly("/me", &format!("{HEADER}: {token}\r\n")).await
    }
}

/// Portcullis with the shipped policy, who signs its callers' tokens, and the application.
struct Site {
    issuer: Issuer,
    portcullis: Process,
    app: App,
    key: SigningKey,
    grpc: SocketAddr,
    http: SocketAddr,
    public: SocketAddr,
    dir: TempDir,
}

impl Site {
    async fn start(uvicorn: &Path) -> Self {
        let (issuer, dir) = (issuer().await, TempDir::new());
        let (grpc, http, public) = (here(port()), here(port()), here(port()));
        let key = SigningKey::generate(Algorithm::EdDsa);
        dir.file("mint.pem", key.private_pem());
        let replacements = [
            ("url: https://id.example.com", format!("url: {}, allow_http: true, cooldown: 0s", issuer.url())),
            ("127.0.0.1:9000", grpc.to_string()),
            ("127.0.0.1:9002", http.to_string()),
            ("127.0.0.1:9003", public.to_string()),
            ("dir:mint", "file:mint.pem".to_owned()),
        ];
        let policy = replacements.iter().fold(POLICY.to_owned(), |policy, (from, to)| replaced(&policy, from, to));
        let mut serve = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        serve.arg("serve").arg("-c").arg(dir.file("portcullis.yaml", policy));
        let mut portcullis = Process::start(serve.args(["--admin", "127.0.0.1:0", "--cores", "1"]));
        portcullis.line_with("answering the world").await;
        let app = App::start(uvicorn, public, &[("PORTCULLIS_COOLDOWN", "0")]).await;
        Self { issuer, portcullis, app, key, grpc, http, public, dir }
    }

    /// The id of the key that is published.
    async fn kid(&self) -> String {
        let answer = ask(self.public, get("/.well-known/jwks.json", "")).await;
        answer.json().unwrap()["keys"][0]["kid"].as_str().unwrap().to_owned()
    }
}

/// Asks until portcullis has its issuer's keys.
async fn answered(door: SocketAddr, target: &str, headers: &str) -> Answer {
    let tries = async {
        loop {
            let answer = ask(door, get(target, headers)).await;
            if answer.status != 503 {
                return answer;
            }
        }
    };
    tokio::time::timeout(DEADLINE, tries).await.expect("it answers")
}

fn refused(answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}: {:?}", answer.headers);
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    assert_eq!(answer.json().unwrap()["status"], status, "{what}");
}

/// The application's line about this caller, and portcullis' own: the same request, caller and route.
async fn logged(site: &mut Site, principal: &str) {
    let read = |line: String| serde_json::from_str::<Value>(&line).unwrap();
    let told = read(site.app.process.line_with(&format!("\"caller\": \"{principal}\"")).await);
    let audited = read(site.portcullis.line_with(&format!("\"caller\":\"{principal}\"")).await);
    for id in ["request", "caller", "route"] {
        assert_eq!(told[id], audited[id], "{id}: {told} {audited}");
    }
    assert!(told["request"].is_string() && told["token"].is_string(), "{told}");
}

/// What must be so through every gateway; `door` tells one's callers from another's.
async fn through(site: &mut Site, door: &str, at: SocketAddr) {
    let (buyer, guest) = (format!("{door}-buyer"), format!("{door}-guest"));
    let with = |sub: &str, roles: &[&str]| bearer(&site.issuer, &json!({"sub": sub, "roles": roles, "tenant": "acme"}));
    let (by_buyer, by_guest) = (with(&buyer, &["buyer"]), with(&guest, &[]));
    let numbered = format!("{by_guest}X-Request-Id: {door}-1\r\n");
    let answer = answered(at, "/me", &numbered).await;
    let expected = json!({"principal": format!("main/{guest}"), "subject": guest, "roles": [], "tenant": "acme"});
    assert_eq!((answer.status, answer.json().unwrap()), (200, expected), "{door}");
    logged(site, &format!("main/{guest}")).await;
    let order = ask(at, get("/orders/7", &by_buyer)).await;
    assert_eq!((order.status, &order.json().unwrap()["for"]), (200, &format!("main/{buyer}").into()), "{door}");
    refused(&ask(at, get("/orders/7", &by_guest)).await, 403, door);
    refused(&ask(at, get("/me", "")).await, 401, door);

    // Another caller's token, good for a minute, in every spelling; and headers that other applications would believe.
    let stolen = site.key.sign(
        &json!({"alg": "EdDSA", "typ": "at+jwt", "kid": site.kid().await}).to_string(),
        &good("victim").to_string(),
    );
    assert_eq!(site.app.with_token(&stolen).await.status, 200, "it would be believed");
    for name in [HEADER, "x-portcullis-identity", "X_Portcullis_Identity", "X-User-ID", "X-Forwarded-User"] {
        let forged = format!("{by_guest}{name}: {stolen}\r\n");
        let answer = ask(at, get("/me", &forged)).await;
        let is_guest = || answer.json().unwrap()["principal"] == format!("main/{guest}");
        assert!(answer.status == 400 || is_guest(), "{door} {name}: {} {}", answer.status, answer.text());
        let alone = ask(at, get("/me", &format!("{name}: {stolen}\r\n"))).await;
        assert!([400, 401].contains(&alone.status), "{door} {name}: {}", alone.status);
    }
    assert_eq!(ask(at, get("/health", "")).await.status, 200, "{door}");
}

#[tokio::test]
async fn the_application_knows_whom_envoy_let_pass() {
    let (Some(uvicorn), Some(program)) = (uvicorn(), envoy_program()) else { return };
    let mut site = Site::start(&uvicorn).await;
    let envoy = start_envoy_with(&program, &shipped(), site.grpc, site.app.address).await;
    through(&mut site, "envoy", envoy.address()).await;

    // Without portcullis nothing passes the gateway; what the application has of its keys serves on.
    let token = minted(&site, &good("u1")).await;
    site.portcullis.signal("KILL");
    site.portcullis.ended().await;
    let by_guest = bearer(&site.issuer, &json!({"sub": "u1"}));
    for target in ["/me", "/health"] {
        assert_eq!(ask(envoy.address(), get(target, &by_guest)).await.status, 503);
    }
    assert_eq!(site.app.with_token(&token).await.status, 200);
}

#[tokio::test]
async fn the_application_knows_whom_nginx_let_pass() {
    let (Some(uvicorn), Some(program)) = (uvicorn(), nginx_program()) else { return };
    let mut site = Site::start(&uvicorn).await;
    // The list of managed headers is this policy's.
    let (before, rest) = nginx::TEMPLATE.split_once("    # portcullis: headers\n").unwrap();
    let (_, after) = rest.split_once("    # portcullis: end\n").unwrap();
    let ours = "    auth_request_set $portcullis_identity $upstream_http_x_portcullis_identity;\n    \
                proxy_set_header X-Portcullis-Identity $portcullis_identity;\n";
    let template = replaced(&format!("{before}{ours}{after}"), "timeout 1s", "timeout 9s");
    let nginx = Nginx::start(&program, &template, site.http, site.app.address);
    through(&mut site, "nginx", nginx.address()).await;
}

#[tokio::test]
async fn the_application_knows_whom_kongs_plugin_let_pass() {
    let Some(uvicorn) = uvicorn() else { return };
    let mut site = Site::start(&uvicorn).await;
    let Some((kong, _running)) = kong::before(site.app.address, site.http) else { return };
    through(&mut site, "kong", kong).await;
}

fn now() -> i64 {
    clock::now().as_millis() / 1000
}

/// The claims of a token that portcullis would mint now.
fn good(sub: &str) -> Value {
    let now = now();
    json!({"iss": "https://edge.example.com", "aud": "shop", "sub": sub, "principal": format!("main/{sub}"), "jti": "j",
        "iat": now - 1, "exp": now + 60, "route": "GET /me"})
}

/// A token with these claims, by the key that portcullis mints with.
async fn minted(site: &Site, claims: &Value) -> String {
    let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": site.kid().await});
    site.key.sign(&header.to_string(), &claims.to_string())
}

#[tokio::test]
async fn a_direct_call_is_a_clean_401_whatever_it_carries() {
    let Some(uvicorn) = uvicorn() else { return };
    let site = Site::start(&uvicorn).await;
    let token = minted(&site, &good("u1")).await;
    assert_eq!(site.app.with_token(&token).await.status, 200, "{}", site.app.process.log());

    for headers in [
        String::new(),
        "X-User-ID: admin\r\nX-User-Roles: [\"admin\"]\r\nX-Forwarded-User: admin\r\n".to_owned(),
        format!("Authorization: Bearer {token}\r\n"),
        format!("X_Portcullis_Identity: {token}\r\n"),
        format!("{HEADER}: {token}\r\n{HEADER}: {token}\r\n"),
        format!("{HEADER}: Bearer {token}\r\n"),
        format!("{HEADER}:\r\n"),
    ] {
        for target in ["/me", "/orders/7", "/orders/x"] {
            refused(&site.app.directly(target, &headers).await, 401, &headers);
        }
    }
    for (claim, value) in [
        ("exp", json!(now() - 60)),
        ("iss", json!("https://evil.example.com")),
        ("aud", json!("orders")),
        ("aud", json!(["orders"])),
        ("iat", json!(now() + 600)),
        ("principal", Value::Null),
    ] {
        let mut claims = good("u1");
        claims[claim] = value.clone();
        refused(&site.app.with_token(&minted(&site, &claims).await).await, 401, &format!("{claim}: {value}"));
        claims.as_object_mut().unwrap().remove(claim);
        refused(&site.app.with_token(&minted(&site, &claims).await).await, 401, &format!("no {claim}"));
    }

    let kid = site.kid().await;
    let header = |alg: &str, typ: &str, kid: &str| json!({"alg": alg, "typ": typ, "kid": kid}).to_string();
    let claims = good("u1").to_string();
    let stranger = SigningKey::generate(Algorithm::EdDsa);
    let unsigned = |header: String| format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&claims));
    let hashed = unsigned(header("HS256", "at+jwt", &kid));
    let public = hmac::Key::new(hmac::HMAC_SHA256, site.key.public_pem().as_bytes());
    let hashed = format!("{hashed}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&public, hashed.as_bytes())));
    for (what, token) in [
        ("a stranger's key under the gateway's name", stranger.sign(&header("EdDSA", "at+jwt", &kid), &claims)),
        ("a stranger's key", stranger.sign(&header("EdDSA", "at+jwt", "stranger"), &claims)),
        ("no key", stranger.sign(&json!({"alg": "EdDSA", "typ": "at+jwt"}).to_string(), &claims)),
        ("another kind of token", site.key.sign(&header("EdDSA", "JWT", &kid), &claims)),
        ("no signature", unsigned(header("none", "at+jwt", &kid)) + "."),
        ("the public key as a secret", hashed),
        ("a kid that is a list", stranger.sign(&json!({"alg": "EdDSA", "kid": [kid]}).to_string(), &claims)),
    ] {
        refused(&site.app.with_token(&token).await, 401, what);
    }
    let log = site.app.process.log();
    assert!(!log.contains(&token) && !log.contains("Traceback"), "{log}");
}

#[tokio::test]
async fn the_gateways_key_may_change_at_any_time() {
    let (Some(uvicorn), Some(program)) = (uvicorn(), envoy_program()) else { return };
    let site = Site::start(&uvicorn).await;
    let envoy = start_envoy_with(&program, &shipped(), site.grpc, site.app.address).await;
    let caller = bearer(&site.issuer, &json!({"sub": "u1"}));
    assert_eq!(answered(envoy.address(), "/me", &caller).await.status, 200);
    let (first, old) = (site.kid().await, minted(&site, &good("u1")).await);
    assert_eq!(site.app.with_token(&old).await.status, 200);
    site.dir.file("mint.pem", SigningKey::generate(Algorithm::EdDsa).private_pem());
    let changed = async { while site.kid().await == first {} };
    tokio::time::timeout(DEADLINE, changed).await.expect("the other key is published");
    assert_eq!(ask(envoy.address(), get("/me", &caller)).await.status, 200);
    // It was published no more: what it signed is no good.
    refused(&site.app.with_token(&old).await, 401, "the key before");
}

#[tokio::test]
async fn without_keys_it_cannot_tell_and_strangers_do_not_make_it_ask() {
    let Some(uvicorn) = uvicorn() else { return };
    let key = SigningKey::generate(Algorithm::EdDsa);
    let token = |kid: &str| key.token(Some(kid), &good("u1"));
    let nobody = App::start(&uvicorn, deserted_address(), &[]).await;
    refused(&nobody.with_token(&token("a")).await, 503, "nobody answers");
    refused(&nobody.directly("/me", "").await, 401, "no token needs no key");
    // It answers, but not with keys.
    let mirror = Upstream::start(ANY_PORT).await.unwrap();
    let app = App::start(&uvicorn, mirror.address(), &[]).await;
    for kid in ["a", "b", "c", "d"] {
        refused(&app.with_token(&token(kid)).await, 503, kid);
    }
    assert_eq!(mirror.seen(), 1);
}
