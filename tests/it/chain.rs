//! Two portcullis, each behind its own Envoy: the edge mints, the mesh believes what it reads at the edge's own JWKS.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::app::{self, Overrides, Running};
use portcullis::authz::algorithm::Algorithm;
use portcullis::config::compile::name_of;
use portcullis::dev::envoy::Envoy;
use portcullis::dev::issuer::Issuer;
use portcullis::dev::mint::SigningKey;
use portcullis::dev::upstream::Upstream;
use portcullis::dev::wire::Answer;
use portcullis::feed::config::PolicyFile;
use portcullis::server::Endpoint;
use serde_json::{Value, json};

use crate::edge::{bearer, get, issuer, seen, shipped};
use crate::support::{ANY_PORT, DEADLINE, TempDir, ask, deserted_address, envoy_program, start_envoy_with};

const EDGE: &str = "
issuers: {main: {url: IDP, allow_http: true, cooldown: 0s, audience: shop-api, roles: roles}}
gateways: {edge: {by: 127.0.0.0/8}}
mint: {issuer: 'http://PUBLIC', audience: orders, keys: dir:mint, algorithm: EdDSA, lifetime: 10s, claims: {roles: roles}}
routes:
  /orders/**: signed-in
  /wrong: {allow: signed-in, mint: {audience: billing}}
  /none: {allow: signed-in, mint: none}
  /open: anyone
listen: {public: PUBLIC}
audit: none
";
const MESH: &str = "
issuers: {edge: {provider: portcullis, url: 'http://PUBLIC', allow_http: true, cooldown: 0s, leeway: 0s, audience: orders}}
headers: {X-User: sub, X-Principal: claim:principal, X-Original: claim:original_iss, X-Roles: roles}
routes:
  /**: signed-in
  /orders/admin: role:admin
  /orders/{id}/**: owner:id
audit: none
";

struct Chain {
    idp: Issuer,
    edge: Envoy,
    mesh: Envoy,
    public: SocketAddr,
    dir: TempDir,
    _upstream: Upstream,
    _running: [Running; 2],
    _mesh_dir: TempDir,
}

async fn start(dir: &TempDir, policy: &str) -> Running {
    let (file, compiled) = PolicyFile::open(dir.file("portcullis.yaml", policy)).unwrap();
    let listen = vec![Endpoint::Tcp(ANY_PORT)];
    let overrides = Overrides { listen, admin: Some(ANY_PORT), cores: Some(1), ..Overrides::default() };
    let running = app::start(file, compiled, &overrides).await.unwrap();
    running.feeds.attempted().await;
    running
}

impl Chain {
    async fn start() -> Option<Self> {
        let program = envoy_program()?;
        let (idp, public) = (issuer().await, deserted_address());
        let (dir, mesh_dir) = (TempDir::new(), TempDir::new());
        let filled = |policy: &str| policy.replace("IDP", idp.url()).replace("PUBLIC", &public.to_string());
        let first = start(&dir, &filled(EDGE)).await;
        assert_eq!(first.public, Some(public));
        let second = start(&mesh_dir, &filled(MESH)).await;
        let upstream = Upstream::start(ANY_PORT).await.unwrap();
        let mesh = start_envoy_with(&program, &shipped(), second.grpc[0], upstream.address()).await;
        let edge = start_envoy_with(&program, &shipped(), first.grpc[0], mesh.address()).await;
        let (_upstream, _running, _mesh_dir) = (upstream, [first, second], mesh_dir);
        Some(Self { idp, edge, mesh, public, dir, _upstream, _running, _mesh_dir })
    }

    fn user(&self, sub: &str, roles: &[&str]) -> String {
        bearer(&self.idp, &json!({"sub": sub, "roles": roles}))
    }

    async fn ask(&self, target: &str, headers: &str) -> Answer {
        ask(self.edge.address(), get(target, headers)).await
    }

    /// A request that did not come through the edge.
    async fn past_the_edge(&self, target: &str, token: &str) -> Answer {
        ask(self.mesh.address(), get(target, &format!("X-Portcullis-Identity: {token}\r\n"))).await
    }

    /// The token that the upstream saw.
    async fn token(&self, target: &str, user: &str) -> String {
        let answer = self.ask(target, user).await;
        assert_eq!(answer.status, 200);
        let tokens = seen(&answer, "x-portcullis-identity");
        assert_eq!(tokens.len(), 1);
        tokens.into_iter().next().unwrap()
    }
}

fn part(token: &str, at: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(at).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn the_mesh_knows_whom_the_edge_let_pass_and_nobody_else() {
    let Some(chain) = Chain::start().await else { return };
    let (user, admin) = (chain.user("u1", &["user"]), chain.user("a1", &["admin"]));
    let answer = chain.ask("/orders/u1/7", &user).await;
    assert_eq!(answer.status, 200);
    for (header, value) in
        [("x-user", "u1"), ("x-principal", "main/u1"), ("x-original", chain.idp.url()), ("x-roles", r#"["user"]"#)]
    {
        assert_eq!(seen(&answer, header), [value], "{header}");
    }
    assert_eq!(chain.ask("/orders/u2/7", &user).await.status, 403, "the subject is the same at the mesh");
    assert_eq!(chain.ask("/orders/admin", &user).await.status, 403);
    assert_eq!(chain.ask("/orders/admin", &admin).await.status, 200);
    assert_eq!(chain.ask("/wrong", &user).await.status, 401, "it was minted for another audience");
    assert_eq!(chain.ask("/none", &user).await.status, 401, "nothing was minted");
    assert_eq!(chain.ask("/open", "").await.status, 401, "nobody is nobody at the mesh as well");

    // F01, N10: what a caller brings dies at the edge, however it is spelt.
    let stolen = chain.token("/orders/admin", &admin).await;
    let underscored = format!("{user}x_portcullis_identity: {stolen}\r\n");
    assert_eq!(chain.ask("/orders/admin", &underscored).await.status, 400, "the shipped Envoy takes none such");
    for name in ["X-Portcullis-Identity", "X-Portcullis.Identity"] {
        let with = |user: &str| format!("{user}{name}: {stolen}\r\n");
        assert_eq!(chain.ask("/orders/admin", &with(&user)).await.status, 403, "{name}");
        assert_eq!(seen(&chain.ask("/orders/u1/7", &with(&user)).await, "x-user"), ["u1"], "{name}");
        assert_eq!(chain.ask("/none", &with(&user)).await.status, 401, "{name}");
        assert_eq!(chain.ask("/open", &with("")).await.status, 401, "{name}");
    }
}

#[tokio::test]
async fn a_minted_token_dies_soon_and_cannot_be_forged() {
    let Some(chain) = Chain::start().await else { return };
    let token = chain.token("/orders/u1/7", &chain.user("u1", &[])).await;
    assert_eq!(chain.past_the_edge("/orders/u1/7", &token).await.status, 200);
    let claims = part(&token, 1);
    let forger = SigningKey::generate(Algorithm::EdDsa);
    let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": part(&token, 0)["kid"]});
    let forged = forger.sign(&header.to_string(), &claims.to_string());
    assert_eq!(chain.past_the_edge("/orders/u1/7", &forged).await.status, 401);
    let plain = forger.sign(&json!({"alg": "none", "typ": "at+jwt"}).to_string(), &claims.to_string());
    assert_eq!(chain.past_the_edge("/orders/u1/7", &plain).await.status, 401);
    let expires = claims["exp"].as_i64().unwrap();
    let over = async {
        while chain.past_the_edge("/orders/u1/7", &token).await.status != 401 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, over).await.unwrap();
    assert!(portcullis::clock::now().as_millis() / 1_000 >= expires);
}

#[tokio::test] // K08
async fn the_keys_of_the_edge_rotate_while_traffic_flows_and_nobody_is_refused() {
    let Some(chain) = Chain::start().await else { return };
    let user = chain.user("u1", &[]);
    let published = || async {
        let answer = ask(chain.public, get("/.well-known/jwks.json", "")).await;
        assert_eq!(answer.status, 200);
        let keys = answer.json().unwrap()["keys"].as_array().unwrap().clone();
        keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let (before, first) = (published().await, part(&chain.token("/orders/u1/7", &user).await, 0)["kid"].clone());
    assert!(before.len() == 2 && before.contains(first.as_str().unwrap()), "a next key is there before it signs");
    let discovery = ask(chain.public, get("/.well-known/openid-configuration", "")).await;
    assert_eq!(discovery.json().unwrap()["jwks_uri"], format!("http://{}/.well-known/jwks.json", chain.public));

    // The operator's own next key, which signs soon.
    let soon = portcullis::clock::now().as_millis() / 1_000 + 3;
    let name = name_of(portcullis::authz::time::Timestamp::from_secs(soon));
    chain.dir.file(&format!("mint/{name}"), SigningKey::generate(Algorithm::EdDsa).private_pem());
    let mut asked = 0;
    let rotated = async {
        loop {
            let token = chain.token("/orders/u1/7", &user).await;
            asked += 1;
            let kid = part(&token, 0)["kid"].clone();
            if kid != first {
                return kid;
            }
        }
    };
    let kid = tokio::time::timeout(DEADLINE, rotated).await.unwrap();
    for _ in 0..20 {
        chain.token("/orders/u1/7", &user).await;
    }
    let after = published().await;
    assert!(asked > 1 && after.contains(kid.as_str().unwrap()) && after.contains(first.as_str().unwrap()));
}
