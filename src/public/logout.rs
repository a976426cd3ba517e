//! `POST /backchannel-logout/{issuer}`: an issuer tells that somebody signed out, and every replica knows it at once.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::json;

use crate::authz::accept::is_media_type;
use crate::authz::issuer::{Issuer, IssuerId};
use crate::authz::revocation::Revocation;
use crate::authz::snapshot::Question;
use crate::authz::token::Refused;
use crate::clock::now;
use crate::feed::revocation::Revoker;
use crate::live::Live;

/// How long newer keys are waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// What signing out needs.
pub struct Logout {
    /// What is published.
    pub live: Arc<Live>,
    /// Who revokes on every replica.
    pub revoker: Revoker,
}

/// The path of issuers that say who signed out.
pub fn paths(logout: Logout) -> Router {
    Router::new().route("/backchannel-logout/{issuer}", post(signed_out)).with_state(Arc::new(logout))
}

/// Answers as OpenID Connect Back-Channel Logout 1.0 §2.8 says: 200, or 400 with a reason.
async fn signed_out(
    State(logout): State<Arc<Logout>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let kind = headers.get(header::CONTENT_TYPE);
    let form = kind.is_some_and(|kind| is_media_type(kind.as_bytes(), "application/x-www-form-urlencoded"));
    let mut tokens = url::form_urlencoded::parse(&body).filter(|(name, _)| name == "logout_token");
    let (true, Some((_, token)), None) = (form, tokens.next(), tokens.next()) else {
        return answer(StatusCode::BAD_REQUEST, "logout_token_missing");
    };
    let revocation = match logout.read(&name, token.as_bytes()).await {
        Ok(revocation) => revocation,
        Err(code) => {
            tracing::warn!(code, "a logout token was refused");
            return answer(StatusCode::BAD_REQUEST, code);
        }
    };
    let keep = logout.live.snapshot().and_then(|snapshot| snapshot.remembers_revoked());
    let Some(keep) = keep else { return answer(StatusCode::BAD_REQUEST, "not_durable") };
    let issuer = Arc::clone(&revocation.issuer);
    match logout.revoker.revoke(revocation, keep).await {
        Ok(until) => {
            tracing::info!(issuer = &*issuer, until = %until, "somebody signed out");
            (StatusCode::OK, [(header::CACHE_CONTROL, "no-store")]).into_response()
        }
        // The issuer may ask again, and is told to.
        Err(_) => answer(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
    }
}

fn answer(status: StatusCode, code: &str) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    let error = if status == StatusCode::BAD_REQUEST { "invalid_request" } else { "temporarily_unavailable" };
    (status, headers, format!("{}\n", json!({"error": error, "error_description": code}))).into_response()
}

impl Logout {
    fn issuer(&self, name: &str) -> Option<(IssuerId, Arc<Issuer>)> {
        let snapshot = self.live.snapshot()?;
        let mut all = (0_u16..).zip(snapshot.issuers());
        let (at, issuer) = all.find(|(_, issuer)| *issuer.policy().name == *name)?;
        issuer.policy().logout.is_some().then(|| (IssuerId(at), Arc::clone(issuer)))
    }

    /// What a logout token revokes, by the issuer's newest keys.
    async fn read(&self, name: &str, token: &[u8]) -> Result<Revocation, &'static str> {
        let unknown = "issuer_unknown";
        let (id, issuer) = self.issuer(name).ok_or(unknown)?;
        match issuer.logout(token, now()) {
            Ok(revocation) => return Ok(revocation),
            Err(Refused::Deny(reason)) => return Err(reason.code()),
            Err(Refused::KeyUnknown) => {}
        }
        let asked = self.live.ask(Question::Keys(id), issuer);
        let _ = tokio::time::timeout(PATIENCE, asked).await;
        let (_, issuer) = self.issuer(name).ok_or(unknown)?;
        issuer.logout(token, now()).map_err(|refused| match refused {
            Refused::Deny(reason) => reason.code(),
            Refused::KeyUnknown => "key_unknown",
        })
    }
}
