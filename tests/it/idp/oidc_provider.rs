//! With npm's oidc-provider: client credentials, the authorization code, and what becomes of tokens when the provider changes.

use portcullis::dev::wire::Answer;

use super::{Edge, bearer, denied, tampered};
use crate::edge::seen;
use crate::parts::oidc_provider::{OidcProvider, node_program};
use crate::support::{DEADLINE, envoy_program};

const POLICY: &str = "
issuers:
  main: {url: ISSUER, allow_http: true, audience: shop-api, roles: roles, missing: empty, cooldown: 0s, leeway: 0s}
headers: {X-User-ID: sub, X-User-Roles: roles, X-Client: claim:client_id}
routes:
  /me: signed-in
  /premium: role:premium
  /orders: scope:orders:read
  /refunds: scope:orders:write
  /payouts: {allow: role:premium, max_age: 10m, acr: urn:mfa}
audit: none
";

async fn edge() -> Option<(OidcProvider, Edge)> {
    let (envoy, node) = (envoy_program()?, node_program()?);
    let provider = OidcProvider::start(&node);
    let edge = Edge::start(&envoy, &POLICY.replace("ISSUER", &provider.url())).await;
    Some((provider, edge))
}

fn told(answer: &Answer) -> (u16, Vec<String>, Vec<String>) {
    (answer.status, seen(answer, "x-user-id"), seen(answer, "x-user-roles"))
}

#[tokio::test]
async fn who_signed_in_by_a_real_grant_is_told_to_the_application() {
    let Some((provider, edge)) = edge().await else { return };
    let machine = provider.client_credentials("machine", "urn:shop", None).await;
    let answer = edge.ask("/premium", &bearer(&machine.access)).await;
    assert_eq!(told(&answer), (200, vec!["machine".to_owned()], vec![r#"["premium"]"#.to_owned()]));
    assert_eq!(seen(&answer, "x-client"), ["machine"]);
    assert_eq!(edge.verdict("/orders", &bearer(&machine.access)).await, denied(200, ""));
    assert_eq!(edge.verdict("/refunds", &bearer(&machine.access)).await, denied(403, "scope_missing"));

    let alice = provider.sign_in("alice", "urn:shop", None).await.tokens;
    let answer = edge.ask("/premium", &bearer(&alice.access)).await;
    assert_eq!(told(&answer), (200, vec!["alice".to_owned()], vec![r#"["premium","admin"]"#.to_owned()]));
    assert_eq!(seen(&answer, "x-client"), ["web"]);
    let renewed = provider.refresh(&alice, "urn:shop").await;
    assert_ne!(renewed.access, alice.access);
    assert_eq!(edge.verdict("/premium", &bearer(&renewed.access)).await, denied(200, ""));

    let bob = provider.sign_in("bob", "urn:shop", None).await.tokens;
    assert_eq!(edge.verdict("/me", &bearer(&bob.access)).await, denied(200, ""));
    assert_eq!(edge.verdict("/premium", &bearer(&bob.access)).await, denied(403, "rule_unmet"));
}

#[tokio::test]
async fn what_the_provider_did_not_mean_for_us_is_denied() {
    let Some((provider, edge)) = edge().await else { return };
    let other = provider.client_credentials("machine", "urn:other", None).await;
    assert_eq!(edge.verdict("/me", &bearer(&other.access)).await, denied(401, "audience_refused"));
    let alice = provider.sign_in("alice", "urn:shop", None).await.tokens;
    assert_eq!(edge.verdict("/me", &bearer(&tampered(&alice.access))).await, denied(401, "signature_invalid"));
    // An ID token is for the client, not for us.
    assert_eq!(edge.verdict("/me", &bearer(alice.id.as_deref().unwrap())).await, denied(401, "audience_refused"));
    assert_eq!(edge.verdict("/me", &bearer(alice.refresh.as_deref().unwrap())).await, denied(401, "token_malformed"));
    let opaque = provider.client_credentials("machine", "urn:opaque", None).await;
    assert_eq!(edge.verdict("/me", &bearer(&opaque.access)).await, denied(401, "token_malformed"));
    // Another provider's token, whose keys are its own.
    let Some(node) = node_program() else { return };
    let stranger = OidcProvider::start(&node);
    let foreign = stranger.client_credentials("machine", "urn:shop", None).await;
    assert_eq!(edge.verdict("/me", &bearer(&foreign.access)).await, denied(401, "issuer_refused"));

    let brief = provider.client_credentials("machine", "urn:brief", None).await;
    let expired = async { while edge.ask("/me", &bearer(&brief.access)).await.status == 200 {} };
    tokio::time::timeout(DEADLINE, expired).await.unwrap();
    assert_eq!(edge.verdict("/me", &bearer(&brief.access)).await, denied(401, "token_expired"));
}

#[tokio::test]
async fn a_payout_needs_the_sign_in_that_its_challenge_asks_for() {
    let Some((provider, edge)) = edge().await else { return };
    let alice = provider.sign_in("alice", "urn:shop", None).await.tokens;
    assert_eq!(edge.verdict("/payouts", &bearer(&alice.access)).await, denied(401, "step_up_required"));
    let challenged = edge.ask("/payouts", &bearer(&alice.access)).await;
    let challenge = challenged.header("www-authenticate").unwrap();
    let (_, rest) = challenge.split_once("acr_values=\"").unwrap();
    let stronger = provider.sign_in("alice", "urn:shop", Some(rest.split('"').next().unwrap())).await.tokens;
    assert_eq!(edge.verdict("/payouts", &bearer(&stronger.access)).await, denied(200, ""));
}

#[tokio::test] // K08
async fn the_providers_keys_rotate_under_traffic_and_no_answer_is_wrong() {
    let Some((provider, edge)) = edge().await else { return };
    let first = provider.client_credentials("machine", "urn:shop", None).await;
    let load = edge.load("/premium", &first, &tampered(&first.access));
    for _ in 0..3 {
        let kid = provider.rotate().await;
        let new = provider.client_credentials("machine", "urn:shop", None).await;
        assert_eq!(new.kid(), kid);
        assert_eq!(edge.ask("/premium", &bearer(&new.access)).await.status, 200);
        load.goes_on().await;
    }
    load.end().await;
    // What the provider withdraws is known to be withdrawn when the key set is next fetched: here for a key that is new.
    provider.rotate().await;
    provider.drop_old_keys().await;
    let new = provider.client_credentials("machine", "urn:shop", None).await;
    assert_eq!(edge.verdict("/premium", &bearer(&new.access)).await, denied(200, ""));
    assert_eq!(edge.verdict("/premium", &bearer(&first.access)).await, denied(401, "key_unknown"));
}

#[tokio::test] // K04
async fn the_provider_is_stopped_and_started_again_and_nobody_notices() {
    let Some((mut provider, edge)) = edge().await else { return };
    let before = provider.client_credentials("machine", "urn:shop", None).await;
    let load = edge.load("/premium", &before, &tampered(&before.access));
    load.goes_on().await;
    provider.stop();
    load.goes_on().await;
    provider.restart();
    provider.rotate().await;
    let after = provider.client_credentials("machine", "urn:shop", None).await;
    assert_ne!(before.kid(), after.kid());
    assert_eq!(edge.ask("/premium", &bearer(&after.access)).await.status, 200);
    load.end().await;
}

#[tokio::test] // K04
async fn a_start_without_the_provider_denies_as_unavailable_until_it_is_there() {
    let (Some(envoy), Some(node)) = (envoy_program(), node_program()) else { return };
    let mut provider = OidcProvider::start(&node);
    let token = provider.client_credentials("machine", "urn:shop", None).await;
    provider.stop();
    let edge = Edge::start(&envoy, &POLICY.replace("ISSUER", &provider.url())).await;
    assert_eq!(edge.verdict("/me", &bearer(&token.access)).await, denied(503, "keys_unavailable"));
    assert_eq!(edge.verdict("/me", "").await, denied(401, "credential_missing"));
    provider.restart();
    let back = async { while edge.ask("/me", &bearer(&token.access)).await.status != 200 {} };
    tokio::time::timeout(DEADLINE, back).await.unwrap();
}
