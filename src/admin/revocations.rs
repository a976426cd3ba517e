//! What is revoked while portcullis runs, told to every replica through the store.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Sources;
use super::guard::answer;
use crate::authz::identity::{APPS, WORKLOADS};
use crate::authz::policy::Policy;
use crate::authz::revocation::{MAX_IDENTIFIER, Revocation, Revoked};
use crate::authz::time::Timestamp;
use crate::feed::revocation::Unrevoked;

/// How many revocations are listed; who has more sees how many they are.
const LISTED: usize = 10_000;

/// A revocation as it is asked for: what a line of a policy's `revoked` says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    issuer: Option<Box<str>>,
    token: Option<Box<str>>,
    session: Option<Box<str>>,
    key: Option<Box<str>>,
    principal: Option<Box<str>>,
    issued_before: Option<Box<str>>,
    until: Option<Box<str>>,
    #[serde(rename = "ticket")]
    _ticket: Option<Box<str>>,
}

/// Why nothing is revoked: the stable code, and what would be right.
type Fault = (&'static str, &'static str);

const UNREAD: Fault =
    ("bad_revocation", "{issuer, token}, {issuer, session}, {issuer, key}, {principal}, or {issuer, issued_before}");
const UNTIMED: Fault = ("bad_time", "a time of RFC 3339 in UTC, in whole seconds: 2026-12-01T00:00:00Z");
const UNKNOWN: Fault = ("unknown_issuer", "the name of an issuer of the policy: GET /issuers");
const NOT_DURABLE: Fault = (
    "not_durable",
    "it would be forgotten: `revocation: {store: true}` in the policy, and a `store` that replicas share",
);

/// `GET /revocations`
pub(super) async fn list(State(sources): State<Arc<Sources>>) -> Response {
    let Some(revoker) = &sources.revoker else { return refuse(StatusCode::CONFLICT, NOT_DURABLE) };
    let status = *revoker.status().borrow();
    let snapshot = sources.live.snapshot();
    let shared = snapshot.as_ref().and_then(|snapshot| snapshot.revoked());
    let all = shared.into_iter().flat_map(|shared| shared.base.iter().chain(shared.recent.iter()));
    let told: Vec<Value> = all.take(LISTED).map(|one| told(&one)).collect();
    let body = json!({"known": status.known, "epoch": status.epoch, "entries": status.entries, "revoked": told});
    answer(StatusCode::OK, &body)
}

/// `POST /revocations`
pub(super) async fn add(State(sources): State<Arc<Sources>>, body: Bytes) -> Response {
    let snapshot = sources.live.snapshot();
    let keep = snapshot.as_ref().and_then(|snapshot| snapshot.remembers_revoked());
    let (Some(revoker), Some(snapshot), Some(keep)) = (&sources.revoker, snapshot, keep) else {
        return refuse(StatusCode::CONFLICT, NOT_DURABLE);
    };
    let asked = serde_json::from_slice(&body).map_err(|_| UNREAD).and_then(|asked| read(asked, snapshot.policy()));
    let revocation = match asked {
        Ok(revocation) => revocation,
        Err(fault) => return refuse(StatusCode::BAD_REQUEST, fault),
    };
    let text = revocation.to_string();
    match revoker.revoke(revocation, keep).await {
        Ok(until) => {
            tracing::info!(revoked = %text, until = %until, "revoked by an operator");
            answer(StatusCode::CREATED, &json!({"revoked": text, "until": until.to_string()}))
        }
        Err(Unrevoked::Full) => refuse(StatusCode::INSUFFICIENT_STORAGE, ("full", "there are too many revocations")),
        Err(Unrevoked::Store(_) | Unrevoked::Ended) => {
            refuse(StatusCode::SERVICE_UNAVAILABLE, ("store_unavailable", "it may not be revoked: ask again"))
        }
    }
}

fn refuse(status: StatusCode, (code, cure): Fault) -> Response {
    answer(status, &json!({"error": code, "cure": cure}))
}

fn told(one: &Revocation) -> Value {
    json!({"revoked": one.to_string(), "until": one.until.map(|until| until.to_string())})
}

fn read(asked: Asked, policy: &Policy) -> Result<Revocation, Fault> {
    let time = |text: Option<Box<str>>| match text {
        None => Ok(None),
        Some(text) => Timestamp::parse(&text).map(Some).ok_or(UNTIMED),
    };
    let (before, until) = (time(asked.issued_before)?, time(asked.until)?);
    let (issuer, of) = match (asked.issuer, asked.token, asked.session, asked.key, asked.principal, before) {
        (Some(issuer), Some(id), None, None, None, None) => (issuer, Revoked::Token(fitting(&id)?)),
        (Some(issuer), None, Some(id), None, None, None) => (issuer, Revoked::Session(fitting(&id)?)),
        (Some(issuer), None, None, Some(id), None, None) => (issuer, Revoked::Key(fitting(&id)?)),
        (Some(issuer), None, None, None, None, Some(before)) => (issuer, Revoked::Issued(before)),
        (None, None, None, None, Some(principal), before) => {
            let (issuer, subject) = principal_of(&principal, policy).ok_or(UNKNOWN)?;
            (issuer, Revoked::Subject(fitting(subject)?, before))
        }
        _ => return Err(UNREAD),
    };
    let known = policy.issuers.iter().any(|one| *one.name == *issuer) || [APPS, WORKLOADS].contains(&&*issuer);
    if known { Ok(Revocation { issuer: issuer.into(), of, until }) } else { Err(UNKNOWN) }
}

fn fitting(id: &str) -> Result<Arc<str>, Fault> {
    if (1..=MAX_IDENTIFIER).contains(&id.len()) {
        Ok(id.into())
    } else {
        Err(("bad_identifier", "an identifier of 1 to 1,024 bytes"))
    }
}

/// The issuer and the subject of a principal as audit lines write it: an issuer's name may hold a `/` itself.
fn principal_of<'t>(text: &'t str, policy: &Policy) -> Option<(Box<str>, &'t str)> {
    let names = policy.issuers.iter().map(|issuer| &*issuer.name).chain([APPS, WORKLOADS]);
    let found = names.filter_map(|name| Some((name, text.strip_prefix(name)?.strip_prefix('/')?)));
    let (name, subject) = found.max_by_key(|(name, _)| name.len())?;
    Some((name.into(), subject))
}
