//! Opaque tokens of npm's oidc-provider, about which portcullis asks it (RFC 7662) by a secret and by a key.

use super::{Edge, bearer, denied};
use crate::edge::seen;
use crate::parts::oidc_provider::{OidcProvider, SECRET, node_program};
use crate::support::{DEADLINE, TempDir, envoy_program};

const POLICY: &str = "
issuers:
  main:
    url: ISSUER
    allow_http: true
    audience: shop-api
    roles: roles
    missing: empty
    cooldown: 0s
    leeway: 0s
    introspection: {url: ISSUER/token/introspection, CLIENT, cache: 0s}
headers: {X-User-ID: sub, X-User-Roles: roles}
routes:
  /me: signed-in
  /premium: role:premium
audit: none
";

async fn edge(provider: &OidcProvider, client: &str) -> Option<Edge> {
    let envoy = envoy_program()?;
    let dir = TempDir::new();
    dir.file("client.secret", SECRET);
    dir.file("client.pem", provider.client_key().await.0);
    let policy = POLICY.replace("ISSUER", &provider.url()).replace("CLIENT", client);
    Some(Edge::start_beside(&envoy, &policy, dir).await)
}

#[tokio::test] // J29
async fn an_opaque_token_is_what_the_provider_says_of_it() {
    let Some(node) = node_program() else { return };
    let mut provider = OidcProvider::start(&node);
    let client = "client_id: gateway, client_secret: file:client.secret";
    let Some(edge) = edge(&provider, client).await else { return };
    let alice = provider.sign_in("alice", "urn:opaque", None).await.tokens;
    let answer = edge.ask("/premium", &bearer(&alice.access)).await;
    assert_eq!((answer.status, seen(&answer, "x-user-id")), (200, vec!["alice".to_owned()]));
    assert_eq!(seen(&answer, "x-user-roles"), [r#"["premium","admin"]"#]);
    let bob = provider.sign_in("bob", "urn:opaque", None).await.tokens;
    assert_eq!(edge.verdict("/premium", &bearer(&bob.access)).await, denied(403, "rule_unmet"));
    let other = provider.sign_in("alice", "urn:opaque-other", None).await.tokens;
    assert_eq!(edge.verdict("/me", &bearer(&other.access)).await, denied(401, "audience_refused"));
    assert_eq!(edge.verdict("/me", &bearer("made-up-by-somebody")).await, denied(401, "token_inactive"));
    let brief = provider.sign_in("alice", "urn:opaque-brief", None).await.tokens;
    let expired = async { while edge.ask("/me", &bearer(&brief.access)).await.status == 200 {} };
    tokio::time::timeout(DEADLINE, expired).await.unwrap();
    let (status, reason) = edge.verdict("/me", &bearer(&brief.access)).await;
    assert!(status == 401 && ["token_inactive", "token_expired"].contains(&&*reason), "{status} {reason}");

    provider.revoke("web", &alice.access).await;
    assert_eq!(edge.verdict("/premium", &bearer(&alice.access)).await, denied(401, "token_inactive"));

    let jwt = provider.client_credentials("machine", "urn:shop", None).await;
    assert_eq!(edge.verdict("/premium", &bearer(&jwt.access)).await, denied(200, ""));
    provider.stop();
    assert_eq!(edge.verdict("/me", &bearer(&bob.access)).await, denied(503, "introspection_unavailable"));
    assert_eq!(edge.verdict("/premium", &bearer(&jwt.access)).await, denied(200, ""));
}

#[tokio::test]
async fn portcullis_asks_by_a_key_and_a_wrong_client_is_our_own_fault() {
    let Some(node) = node_program() else { return };
    let provider = OidcProvider::start(&node);
    let alice = provider.sign_in("alice", "urn:opaque", None).await.tokens;
    let kid = provider.client_key().await.1;
    let client = format!("client_id: keyed, private_key_jwt: {{key: file:client.pem, kid: {kid}, algorithm: ES256}}");
    let Some(keyed) = edge(&provider, &client).await else { return };
    assert_eq!(keyed.verdict("/premium", &bearer(&alice.access)).await, denied(200, ""));
    let Some(wrong) = edge(&provider, "client_id: machine2, client_secret: file:client.secret").await else { return };
    assert_eq!(wrong.verdict("/premium", &bearer(&alice.access)).await, denied(503, "introspection_refused"));
}
