//! Who may ask the admin listener for what: names of this machine only, and for a change the token of `admin:`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::Sources;
use crate::authz::accept::is_media_type;

/// Why a request is not answered: its status, the stable code, and what would be right.
struct Refusal(StatusCode, &'static str, &'static str);

const FROM_A_PAGE: Refusal = Refusal(
    StatusCode::FORBIDDEN,
    "from_a_page",
    "a browser sent this on behalf of a page, and pages have no business here: ask from a shell",
);
const NO_TOKEN: Refusal = Refusal(
    StatusCode::FORBIDDEN,
    "no_admin_token",
    "the policy file allows no change: `admin: {token: env:ADMIN_TOKEN}` says whose bearer token does",
);
const UNAUTHORIZED: Refusal = Refusal(
    StatusCode::UNAUTHORIZED,
    "token_refused",
    "send the token of the policy's `admin:` as `Authorization: Bearer <token>`",
);
const NOT_JSON: Refusal =
    Refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", "a body is JSON: `Content-Type: application/json`");

impl Refusal {
    fn answer(&self) -> Response {
        let Self(status, code, cure) = *self;
        tracing::warn!(code, "a request to the admin listener was refused");
        let mut answer = answer(status, &json!({"error": code, "cure": cure}));
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

/// An answer in JSON, which nobody keeps and no browser takes for anything else.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, format!("{body}\n")).into_response()
}

/// Lets a request pass that comes with the token, and not from a page.
pub(super) async fn with_token(State(sources): State<Arc<Sources>>, request: Request, next: Next) -> Response {
    let refused = refusal(&sources, request.headers());
    match refused {
        Some(refusal) => refusal.answer(),
        None => next.run(request).await,
    }
}

fn refusal(sources: &Sources, headers: &HeaderMap) -> Option<Refusal> {
    let is_own = |site: &HeaderValue| site == "none";
    if headers.contains_key(header::ORIGIN) || !headers.get("sec-fetch-site").is_none_or(is_own) {
        return Some(FROM_A_PAGE);
    }
    let settings = sources.settings.borrow().clone();
    let Some(token) = settings.admin_token.as_ref() else { return Some(NO_TOKEN) };
    if !bearer(headers).is_some_and(|given| is_same(given, &token.0)) {
        return Some(UNAUTHORIZED);
    }
    let is_json = |kind: &HeaderValue| is_media_type(kind.as_bytes(), "application/json");
    let written = headers.get(header::CONTENT_TYPE);
    (!written.is_none_or(is_json)).then_some(NOT_JSON)
}

/// The one bearer token of a request (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(one), None) = (all.next(), all.next()) else { return None };
    let (scheme, token) = one.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// In a time that tells nothing of the token, its length included.
fn is_same(given: &[u8], token: &[u8]) -> bool {
    verify_slices_are_equal(digest(&SHA256, given).as_ref(), digest(&SHA256, token).as_ref()).is_ok()
}

/// Lets a request pass that calls this machine by a name of its own: a page must not reach it by a name of the page's
/// that resolves to loopback.
pub(super) async fn named_locally(headers: HeaderMap, request: Request, next: Next) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_local_name(host) { next.run(request).await } else { StatusCode::FORBIDDEN.into_response() }
}

fn is_local_name(host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost")
        || matches!(host.parse::<SocketAddr>(), Ok(address) if address.ip().is_loopback())
        || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // S04
    fn only_names_of_this_machine_are_local() {
        for host in ["localhost", "localhost:9001", "LOCALHOST:1", "127.0.0.1:9001", "127.0.0.1", "[::1]:9001", "[::1]"]
        {
            assert!(is_local_name(host), "{host}");
        }
        for host in
            ["", "evil.test", "evil.test:9001", "localhost.evil.test", "127.0.0.1.evil.test", "10.0.0.1:9001", ":9001"]
        {
            assert!(!is_local_name(host), "{host}");
        }
    }

    #[test] // S04
    fn a_bearer_token_is_the_only_one_and_exactly_the_configured_one() {
        let headers = |values: &[&str]| {
            let pairs = values.iter().map(|value| (header::AUTHORIZATION, HeaderValue::from_str(value).unwrap()));
            pairs.collect::<HeaderMap>()
        };
        let passes =
            |values: &[&str]| bearer(&headers(values)).is_some_and(|given| is_same(given, b"0123456789abcdef"));
        assert!(passes(&["Bearer 0123456789abcdef"]) && passes(&["bearer 0123456789abcdef"]));
        for refused in [
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Bearer  0123456789abcdef",
            "Bearer 0123456789ABCDEF",
            "Bearer",
            "Bearer ",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
        ] {
            assert!(!passes(&[refused]), "{refused}");
        }
        assert!(!passes(&[]) && !passes(&["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"]));
    }
}
