//! What verifies our tokens: the published keys, and where they are (OpenID Connect Discovery §3, RFC 7517 §5).

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use crate::authz::mint::Mint;
use crate::authz::time::Timestamp;
use crate::clock;
use crate::live::Live;

/// How long others may keep what is published: far less than a key is published before it signs.
const CACHED: &str = "public, max-age=300";

/// The paths of a policy that mints; 404 for one that does not.
pub fn paths(live: Arc<Live>) -> Router {
    Router::new()
        .route("/.well-known/jwks.json", get(jwks))
        .route("/.well-known/openid-configuration", get(discovery))
        .with_state(live)
}

async fn jwks(State(live): State<Arc<Live>>) -> Response {
    told(&live, |mint, now| mint.keys.jwks(mint.lifetime, now))
}

async fn discovery(State(live): State<Arc<Live>>) -> Response {
    told(&live, |mint, now| {
        let algorithms: BTreeSet<&str> =
            mint.keys.published(mint.lifetime, now).map(|key| key.algorithm.name()).collect();
        let document = json!({
            "issuer": &*mint.issuer,
            "jwks_uri": format!("{}/.well-known/jwks.json", mint.issuer),
            "id_token_signing_alg_values_supported": algorithms,
            "subject_types_supported": ["public"],
            "response_types_supported": ["none"],
        });
        document.to_string()
    })
}

fn told(live: &Live, tell: impl FnOnce(&Mint, Timestamp) -> String) -> Response {
    let Some(snapshot) = live.snapshot() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    match &snapshot.policy().mint {
        Some(mint) => {
            let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, CACHED)];
            (headers, tell(mint, clock::now())).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
