//! The OpenID provider of npm's `oidc-provider`, steered by the doors that `tests/idp/server.mjs` adds to it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use url::Url;

use super::oauth::{Agent, Tokens};
use super::{Tethered, missing, port, program};
use crate::support::{ANY_PORT, TempDir};

/// The secret of each confidential client: `machine`, `bound`, `web` and `gateway`.
pub const SECRET: &str = "client-secret-7b1e";

/// Where `web` is sent back to; nobody goes there.
const CALLBACK: &str = "https://shop.test/callback";

/// Node reads a folder of modules from a cold disk, perhaps beside a compiler.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// A provider that keeps its port and its keys, and nothing else, from one start to the next. Its resources are in `server.mjs`:
/// `urn:shop` (JWT), `urn:brief` (for 2 s), `urn:other` (another audience), `urn:opaque`, `urn:opaque-brief`, `urn:opaque-other`.
pub struct OidcProvider {
    node: PathBuf,
    port: u16,
    state: TempDir,
    running: Option<Tethered>,
    agent: Agent,
}

/// Someone who signed in with a browser, which still has its cookies.
pub struct SignedIn {
    pub tokens: Tokens,
    browser: Agent,
}

/// The Node to test with: `$NODE`, else the one on `$PATH`; 20 or newer, with `npm ci` run. Without it the test is skipped on a
/// laptop, and fails where `CI` is `true`.
pub fn node_program() -> Option<PathBuf> {
    static ONCE: Once = Once::new();
    let is_new = |node: &PathBuf| {
        let version = Command::new(node).arg("--version").output().map(|said| said.stdout).unwrap_or_default();
        let version = String::from_utf8_lossy(&version).into_owned();
        version
            .trim_start_matches('v')
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
            .is_some_and(|v: u32| v >= 20)
    };
    let found = program("NODE", &["node"]).filter(is_new);
    let found = found.filter(|_| folder().join("node_modules/oidc-provider").is_dir());
    if found.is_none() {
        missing(
            &ONCE,
            "the tests with npm's oidc-provider",
            "Install Node 20 or newer with npm, and run `make setup`.",
        );
    }
    found
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/idp")
}

impl OidcProvider {
    /// Starts one and waits until it answers.
    pub fn start(node: &Path) -> Self {
        let mut provider =
            Self { node: node.to_owned(), port: port(), state: TempDir::new(), running: None, agent: Agent::new() };
        provider.restart();
        provider
    }

    /// Its issuer URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it at once.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// Starts it again where it was, with the keys that it had; sessions and opaque tokens are lost.
    pub fn restart(&mut self) {
        self.stop();
        let mut running = Tethered::start(&self.node, |node| {
            node.arg(folder().join("server.mjs")).arg(self.port.to_string()).arg(self.state.path().join("keys.json"));
        });
        running.until(START_DEADLINE, |log| log.contains("listening on").then_some(()));
        self.running = Some(running);
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        self.running.as_ref().expect("it runs").log()
    }

    /// A token of a client (`machine`, `bound`) for a resource, by the grant of client credentials.
    pub async fn client_credentials(&self, client: &str, resource: &str, proof: Option<&str>) -> Tokens {
        let fields = [("grant_type", "client_credentials"), ("resource", resource), ("scope", "orders:read")];
        self.agent.tokens(&self.token_endpoint(), Some((client, SECRET)), &fields, proof).await
    }

    /// Signs an account (`alice`, `bob`) in to `web` by the authorization code grant with PKCE; `acr` is asked for where given.
    pub async fn sign_in(&self, account: &str, resource: &str, acr: Option<&str>) -> SignedIn {
        let mut browser = Agent::new();
        let verifier = "v".repeat(43);
        let challenge =
            URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes()));
        let mut url = Url::parse(&format!("{}/auth", self.url())).unwrap();
        url.query_pairs_mut().extend_pairs([
            ("client_id", "web"),
            ("response_type", "code"),
            ("redirect_uri", CALLBACK),
            ("scope", "openid offline_access orders:read"),
            ("prompt", "consent"),
            ("resource", resource),
            ("login_hint", account),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        url.query_pairs_mut().extend_pairs(acr.map(|acr| ("acr_values", acr)));
        let (end, page) = browser.follow(url, CALLBACK).await;
        let code =
            end.query_pairs().find(|(name, _)| name == "code").unwrap_or_else(|| panic!("{end} {page}")).1.into_owned();
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", &*code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", &*verifier),
            ("resource", resource),
        ];
        let tokens = browser.tokens(&self.token_endpoint(), Some(("web", SECRET)), &fields, None).await;
        SignedIn { tokens, browser }
    }

    /// New tokens of `web` for a refresh token.
    pub async fn refresh(&self, tokens: &Tokens, resource: &str) -> Tokens {
        let refresh = tokens.refresh.as_deref().unwrap();
        let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh), ("resource", resource)];
        self.agent.tokens(&self.token_endpoint(), Some(("web", SECRET)), &fields, None).await
    }

    /// Signs out in the browser, of which the provider tells the clients that want to know.
    pub async fn sign_out(&self, mut signed_in: SignedIn) {
        let mut url = Url::parse(&format!("{}/session/end", self.url())).unwrap();
        url.query_pairs_mut().append_pair("id_token_hint", signed_in.tokens.id.as_deref().unwrap());
        let (_, page) = signed_in.browser.follow(url, CALLBACK).await;
        let (_, rest) = page.split_once("name=\"xsrf\" value=\"").unwrap_or_else(|| panic!("{page}"));
        let xsrf = rest.split('"').next().unwrap();
        let confirm = format!("{}/session/end/confirm", self.url());
        let response = signed_in.browser.submit(&confirm, &[("xsrf", xsrf), ("logout", "yes")]).await;
        assert_eq!(response.status(), 303, "{}", self.log());
    }

    /// Revokes a token of a client (RFC 7009).
    pub async fn revoke(&self, client: &str, token: &str) {
        let url = format!("{}/token/revocation", self.url());
        let answer = self.agent.form(&url, Some((client, SECRET)), &[("token", token)]).await;
        assert_eq!(answer.status(), 200);
    }

    /// What it says of an opaque token to `gateway` (RFC 7662).
    pub async fn introspect(&self, token: &str) -> Value {
        let url = format!("{}/token/introspection", self.url());
        self.agent.json(&url, Some(("gateway", SECRET)), &[("token", token)]).await
    }

    /// A new signing key, whose id is returned; the old ones stay in the key set.
    pub async fn rotate(&self) -> String {
        self.control("rotate", &json!({})).await["kid"].as_str().unwrap().to_owned()
    }

    /// Takes the old keys from the key set.
    pub async fn drop_old_keys(&self) {
        self.control("drop", &json!({})).await;
    }

    /// From now on logout tokens of `web` are posted there.
    pub async fn tell_of_logouts(&self, url: &str) {
        self.control("logout_uri", &json!({"uri": url})).await;
    }

    /// The private key of the client `keyed` (`private_key_jwt`, ES256), in PEM, and its id.
    pub async fn client_key(&self) -> (String, String) {
        let answer = self.control("client_key", &json!({})).await;
        (answer["pem"].as_str().unwrap().to_owned(), answer["kid"].as_str().unwrap().to_owned())
    }

    /// A DPoP proof by the npm package `dpop`, and its key's thumbprint. Keys: `{key, alg, url, method, nonce, token, claims}`.
    pub async fn proof(&self, what: &Value) -> (String, String) {
        let answer = self.control("proof", what).await;
        (answer["proof"].as_str().unwrap().to_owned(), answer["jkt"].as_str().unwrap().to_owned())
    }

    /// A token of `bound` for a resource, bound to the key of this name and algorithm.
    pub async fn bound_token(&self, key: &str, alg: &str, resource: &str) -> Tokens {
        let what = json!({"key": key, "alg": alg, "url": self.token_endpoint(), "method": "POST"});
        let (proof, jkt) = self.proof(&what).await;
        let tokens = self.client_credentials("bound", resource, Some(&proof)).await;
        assert_eq!(tokens.kind, "DPoP", "bound to {jkt}");
        tokens
    }

    pub fn token_endpoint(&self) -> String {
        format!("{}/token", self.url())
    }

    async fn control(&self, what: &str, body: &Value) -> Value {
        self.agent.post_json(&format!("{}/control/{what}", self.url()), body).await
    }
}

#[tokio::test]
async fn it_gives_what_is_asked_for_and_is_the_same_after_a_restart() {
    let Some(node) = node_program() else { return };
    let mut provider = OidcProvider::start(&node);
    let first = provider.client_credentials("machine", "urn:shop", None).await;
    assert_eq!((&first.claims()["aud"], &first.claims()["roles"]), (&json!("shop-api"), &json!(["premium"])));
    let kid = provider.rotate().await;
    provider.restart();
    let second = provider.client_credentials("machine", "urn:other", None).await;
    assert_eq!((second.kid(), &second.claims()["aud"]), (kid, &json!("other-api")));
    assert_ne!(first.kid(), second.kid());
    let published = async || provider.agent.get_json(&format!("{}/jwks", provider.url())).await.to_string();
    assert!(published().await.contains(&first.kid()));
    provider.drop_old_keys().await;
    let keys = published().await;
    assert!(keys.contains(&second.kid()) && !keys.contains(&first.kid()), "{keys}");

    let opaque = provider.client_credentials("machine", "urn:opaque", None).await.access;
    assert!(!opaque.contains('.'));
    let told = provider.introspect(&opaque).await;
    assert_eq!(
        (&told["active"], &told["aud"], &told["client_id"]),
        (&json!(true), &json!("shop-api"), &json!("machine"))
    );
    provider.revoke("machine", &opaque).await;
    assert_eq!(provider.introspect(&opaque).await, json!({"active": false}));

    let alice = provider.sign_in("alice", "urn:shop", Some("urn:mfa")).await;
    let claims = alice.tokens.claims();
    assert_eq!(
        (&claims["sub"], &claims["acr"], &claims["roles"]),
        (&json!("alice"), &json!("urn:mfa"), &json!(["premium", "admin"]))
    );
    assert!(claims["auth_time"].is_u64() && alice.tokens.refresh.is_some(), "{claims}");
    let told = TcpListener::bind(ANY_PORT).await.unwrap();
    provider.tell_of_logouts(&format!("http://{}/logout", told.local_addr().unwrap())).await;
    let alice = provider.sign_in("alice", "urn:shop", None).await;
    let posted = async {
        let (mut stream, _) = told.accept().await.unwrap();
        let mut post = String::new();
        while !post.contains("logout_token=ey") {
            let mut piece = [0; 1024];
            let length = stream.read(&mut piece).await.unwrap();
            assert_ne!(length, 0, "{post}");
            post.push_str(std::str::from_utf8(&piece[..length]).unwrap());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    };
    tokio::join!(posted, provider.sign_out(alice));

    let bound = provider.bound_token("k1", "ES256", "urn:shop").await;
    let (_, jkt) = provider
        .proof(&json!({"key": "k1", "url": "https://shop.test/a", "method": "GET", "token": bound.access}))
        .await;
    assert_eq!(bound.claims()["cnf"]["jkt"], jkt);
    assert!(provider.client_key().await.0.starts_with("-----BEGIN PRIVATE KEY-----"));
}
