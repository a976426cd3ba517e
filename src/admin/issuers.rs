//! The issuers: how the keys of each are doing, and their suspension.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::Sources;
use super::guard::answer;
use crate::authz::issuer::{Issuer, KeyState};
use crate::authz::time::Timestamp;
use crate::clock::now;
use crate::feed::status::FeedStatus;
use crate::feed::suspension::{Done, Lasts};

/// `GET /issuers`
pub(super) async fn list(State(sources): State<Arc<Sources>>) -> Response {
    let (snapshot, feeds, now) = (sources.live.snapshot(), sources.feeds.borrow().clone(), now());
    let issuers = snapshot.iter().flat_map(|snapshot| snapshot.issuers());
    let told: Vec<Value> = issuers
        .map(|issuer| {
            let since = sources.suspender.suspension(issuer.policy()).and_then(|suspension| suspension.since);
            told(issuer, feeds.get(&issuer.policy().name), since, now)
        })
        .collect();
    answer(StatusCode::OK, &json!({"issuers": told}))
}

fn told(issuer: &Issuer, feed: Option<&FeedStatus>, suspended: Option<Timestamp>, now: Timestamp) -> Value {
    let (policy, state) = (issuer.policy(), issuer.state());
    let ago = |at: Option<Timestamp>| at.map(|at| now.since(at).as_secs());
    let denied = |kid: Option<&str>| kid.is_some_and(|kid| policy.tokens.denied_kids.iter().any(|one| **one == *kid));
    let keys = state.keys.listed().map(|(kid, algorithms)| {
        let algorithms: Vec<&str> = algorithms.map(|algorithm| algorithm.name()).collect();
        json!({"kid": kid, "algorithms": algorithms, "denied": denied(kid)})
    });
    let refused = feed.iter().flat_map(|feed| feed.refused.iter());
    let refused = refused.map(|(at, why)| json!({"at": at, "code": why.code(), "why": why.to_string()}));
    json!({
        "name": *policy.name,
        "iss": *policy.tokens.issuer,
        "source": feed.map(|feed| &feed.source),
        "state": if issuer.suspended() { "suspended" } else { standing(issuer, now) },
        "keys_state": standing(issuer, now),
        "suspended_since": suspended.map(|at| at.to_string()),
        "fetched_seconds_ago": ago(state.fetched),
        "attempted_seconds_ago": ago(state.attempted),
        "usable_for_seconds": usable_for(issuer, now),
        "last_error": feed.and_then(|feed| feed.error).map(|error| json!({"code": error.code(), "why": error.to_string()})),
        "failures_in_a_row": feed.map(|feed| feed.failures),
        "next_fetch_in_seconds": feed.and_then(|feed| feed.next).map(|at| at.since(now).as_secs()),
        "keys": keys.collect::<Vec<_>>(),
        "refused_keys": refused.collect::<Vec<_>>(),
    })
}

/// What there is to verify its tokens with.
pub(super) fn standing(issuer: &Issuer, now: Timestamp) -> &'static str {
    let KeyState { keys, failed, from_disk, .. } = issuer.state();
    match issuer.policy().fed {
        _ if keys.is_empty() => "none",
        false => "fixed",
        true if issuer.is_stale(now) => "expired",
        true if *from_disk => "from_disk",
        true if *failed => "stale",
        true => "fresh",
    }
}

/// For how long its keys are used if no fetch succeeds.
fn usable_for(issuer: &Issuer, now: Timestamp) -> Option<u64> {
    let fetched = issuer.state().fetched.filter(|_| issuer.policy().fed)?;
    Some(issuer.policy().max_stale.saturating_sub(now.since(fetched)).as_secs())
}

/// `POST /issuers/{name}/suspend`
pub(super) async fn suspend(State(sources): State<Arc<Sources>>, Path(name): Path<String>) -> Response {
    done(&name, true, sources.suspender.suspend(&name).await)
}

/// `POST /issuers/{name}/resume`
pub(super) async fn resume(State(sources): State<Arc<Sources>>, Path(name): Path<String>) -> Response {
    done(&name, false, sources.suspender.resume(&name).await)
}

fn done(name: &str, suspended: bool, done: Option<Done>) -> Response {
    let Some(Done { changed, lasts }) = done else {
        let body = json!({"error": "no_such_issuer", "cure": "the name of an issuer of the policy: GET /issuers"});
        return answer(StatusCode::NOT_FOUND, &body);
    };
    let (kept, note) = match lasts {
        Lasts::Kept => (true, "this replica keeps it until the contrary is asked for, restarts included".into()),
        Lasts::NoFolder => (false, "it ends with this process: `key_cache` names no folder to keep it in".into()),
        Lasts::Unwritten(kind) => (false, format!("it ends with this process: `key_cache` cannot be written: {kind}")),
    };
    let body = json!({"issuer": name, "suspended": suspended, "changed": changed, "kept": kept, "note": note});
    answer(StatusCode::OK, &body)
}
