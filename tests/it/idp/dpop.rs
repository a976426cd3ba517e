//! Tokens that npm's oidc-provider and Keycloak bound to a key, with proofs that the npm package `dpop` made.

use serde_json::{Value, json};

use super::{Edge, bearer, denied};
use crate::parts::keycloak::keycloak;
use crate::parts::oidc_provider::{OidcProvider, node_program};
use crate::support::envoy_program;

const POLICY: &str = "
issuers:
  main: {url: ISSUER, allow_http: true, audience: shop-api, missing: empty, PROOF}
headers: {X-User-ID: sub}
routes: {/me: signed-in}
audit: none
";

async fn edge(proof: &str) -> Option<(OidcProvider, Edge)> {
    let (envoy, node) = (envoy_program()?, node_program()?);
    let provider = OidcProvider::start(&node);
    let policy = POLICY.replace("ISSUER", &provider.url()).replace("PROOF", proof);
    let edge = Edge::start(&envoy, &policy).await;
    Some((provider, edge))
}

/// The lines of a request that presents a bound token.
async fn proven(provider: &OidcProvider, token: &str, what: &Value) -> String {
    let mut whole = json!({"url": "https://shop.test/me", "method": "GET", "token": token});
    for (key, value) in what.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let (proof, _) = provider.proof(&whole).await;
    format!("Authorization: DPoP {token}\r\nDPoP: {proof}\r\n")
}

#[tokio::test] // J30
async fn a_bound_token_passes_with_a_proof_that_a_library_of_others_made() {
    let Some((provider, edge)) = edge("proof: dpop").await else { return };
    for alg in ["ES256", "RS256", "PS256"] {
        let bound = provider.bound_token("k1", alg, "urn:shop").await.access;
        let good = proven(&provider, &bound, &json!({"key": "k1", "alg": alg})).await;
        assert_eq!(edge.verdict("/me", &good).await, denied(200, ""), "{alg}");
        assert_eq!(edge.verdict("/me", &good).await, denied(401, "proof_replayed"), "{alg}");
    }
    let bound = provider.bound_token("k1", "ES256", "urn:shop").await.access;
    assert_eq!(edge.verdict("/me", &bearer(&bound)).await, denied(401, "proof_missing"));
    for (what, reason) in [
        (json!({"key": "k2"}), "proof_key_mismatch"),
        (json!({"key": "k1", "url": "https://shop.test/other"}), "proof_request_mismatch"),
        (json!({"key": "k1", "method": "POST"}), "proof_request_mismatch"),
        (json!({"key": "k1", "token": "another"}), "proof_token_mismatch"),
        (json!({"key": "k1", "token": null}), "proof_token_mismatch"),
    ] {
        let lines = proven(&provider, &bound, &what).await;
        assert_eq!(edge.verdict("/me", &lines).await, denied(401, reason), "{what}");
    }
    let plain = provider.client_credentials("machine", "urn:shop", None).await.access;
    assert_eq!(edge.verdict("/me", &bearer(&plain)).await, denied(401, "token_unbound"));
}

#[tokio::test] // J30
async fn a_client_without_a_nonce_is_given_one_and_passes_with_it() {
    let Some((provider, edge)) = edge("proof: {mode: required-if-bound, nonce: required}").await else { return };
    let bound = provider.bound_token("k1", "ES256", "urn:shop").await.access;
    let without = proven(&provider, &bound, &json!({"key": "k1"})).await;
    let challenged = edge.ask("/me", &without).await;
    assert_eq!(challenged.status, 401);
    assert!(challenged.header("www-authenticate").unwrap().contains("use_dpop_nonce"), "{:?}", challenged.headers);
    let nonce = challenged.header("dpop-nonce").unwrap();
    let with = proven(&provider, &bound, &json!({"key": "k1", "nonce": nonce})).await;
    assert_eq!(edge.verdict("/me", &with).await, denied(200, ""));
    let made_up = proven(&provider, &bound, &json!({"key": "k1", "nonce": "made-up"})).await;
    assert_eq!(edge.verdict("/me", &made_up).await, denied(401, "proof_nonce_required"));
    let plain = provider.client_credentials("machine", "urn:shop", None).await.access;
    assert_eq!(edge.verdict("/me", &bearer(&plain)).await, denied(200, ""));
}

#[tokio::test] // J30
async fn a_token_that_keycloak_bound_is_of_no_use_without_its_key() {
    let (Some(envoy), Some(node), Some(keycloak)) = (envoy_program(), node_program(), keycloak()) else { return };
    // Only its library makes proofs here.
    let prover = OidcProvider::start(&node);
    let policy = POLICY.replace("ISSUER", &keycloak.url()).replace(", PROOF", "");
    let edge = Edge::start(&envoy, &policy).await;
    let (proof, jkt) = prover.proof(&json!({"key": "k1", "url": keycloak.token_endpoint(), "method": "POST"})).await;
    let bound = keycloak.password("bound", "alice", Some(&proof)).await;
    assert_eq!((bound.kind.as_str(), &bound.claims()["cnf"]["jkt"]), ("DPoP", &json!(jkt)));
    let good = proven(&prover, &bound.access, &json!({"key": "k1"})).await;
    assert_eq!(edge.verdict("/me", &good).await, denied(200, ""));
    assert_eq!(edge.verdict("/me", &bearer(&bound.access)).await, denied(401, "proof_missing"));
    let stolen = proven(&prover, &bound.access, &json!({"key": "k2"})).await;
    assert_eq!(edge.verdict("/me", &stolen).await, denied(401, "proof_key_mismatch"));
}
