//! With Keycloak: users by their password, clients for themselves, roles where Keycloak puts them, and its keys.

use super::{Edge, bearer, denied, tampered};
use crate::edge::seen;
use crate::parts::keycloak::{Keycloak, keycloak};
use crate::support::{DEADLINE, envoy_program};

const POLICY: &str = "
issuers:
  shop:
    url: ISSUER
    allow_http: true
    audience: shop-api
    roles: realm_access.roles
    groups: groups
    missing: empty
    cooldown: 0s
    leeway: 0s
headers: {X-User-ID: sub, X-User-Name: claim:preferred_username, X-User-Roles: roles}
routes:
  /me: signed-in
  /premium: role:premium
  /staff: group:/staff/buyers
audit: none
";

async fn edge() -> Option<(&'static Keycloak, Edge)> {
    let (envoy, keycloak) = (envoy_program()?, keycloak()?);
    Some((keycloak, Edge::start(&envoy, &POLICY.replace("ISSUER", &keycloak.url())).await))
}

#[tokio::test]
async fn users_and_clients_of_a_realm_arrive_with_their_roles() {
    let Some((keycloak, edge)) = edge().await else { return };
    let alice = keycloak.password("phone", "alice", None).await;
    let answer = edge.ask("/premium", &bearer(&alice.access)).await;
    assert_eq!((answer.status, seen(&answer, "x-user-name")), (200, vec!["alice".to_owned()]));
    assert_eq!(seen(&answer, "x-user-id"), [alice.claims()["sub"].as_str().unwrap()]);
    assert!(seen(&answer, "x-user-roles")[0].contains(r#""premium""#));
    assert_eq!(edge.verdict("/staff", &bearer(&alice.access)).await, denied(200, ""));

    let bob = keycloak.password("phone", "bob", None).await;
    assert_eq!(edge.verdict("/me", &bearer(&bob.access)).await, denied(200, ""));
    assert_eq!(edge.verdict("/premium", &bearer(&bob.access)).await, denied(403, "rule_unmet"));
    assert_eq!(edge.verdict("/staff", &bearer(&bob.access)).await, denied(403, "rule_unmet"));

    let machine = keycloak.client_credentials("machine").await;
    assert_eq!(edge.verdict("/premium", &bearer(&machine.access)).await, denied(200, ""));
    assert_eq!(edge.verdict("/staff", &bearer(&machine.access)).await, denied(403, "rule_unmet"));
}

#[tokio::test]
async fn what_the_realm_did_not_mean_for_us_is_denied() {
    let Some((keycloak, edge)) = edge().await else { return };
    let brief = keycloak.password("brief", "alice", None).await;
    let elsewhere = keycloak.password("elsewhere", "alice", None).await;
    assert_eq!(edge.verdict("/me", &bearer(&elsewhere.access)).await, denied(401, "audience_refused"));
    let alice = keycloak.password("phone", "alice", None).await;
    assert_eq!(edge.verdict("/me", &bearer(&tampered(&alice.access))).await, denied(401, "signature_invalid"));
    assert_eq!(edge.verdict("/me", &bearer(alice.id.as_deref().unwrap())).await, denied(401, "token_type_refused"));
    let refresh = alice.refresh.as_deref().unwrap();
    assert_eq!(edge.ask("/me", &bearer(refresh)).await.status, 401);
    let expired = async { while edge.ask("/me", &bearer(&brief.access)).await.status == 200 {} };
    tokio::time::timeout(DEADLINE, expired).await.unwrap();
    assert_eq!(edge.verdict("/me", &bearer(&brief.access)).await, denied(401, "token_expired"));
}

#[tokio::test] // K08
async fn the_realms_keys_rotate_under_traffic_and_no_answer_is_wrong() {
    let Some((keycloak, edge)) = edge().await else { return };
    let first = keycloak.password("phone", "alice", None).await;
    let load = edge.load("/premium", &first, &tampered(&first.access));
    load.goes_on().await;
    keycloak.rotate().await;
    let new = keycloak.password("phone", "alice", None).await;
    assert_ne!(new.kid(), first.kid());
    assert_eq!(edge.ask("/premium", &bearer(&new.access)).await.status, 200);
    load.end().await;
}
