//! JSON over one request of HTTP/1.1: its body, bounded in size and time, and the few paths that answer.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::grpc::Answering;
use super::purse::Charge;
use crate::authz::accept::is_media_type;
use crate::authz::reason::Reason;
use crate::authz::request::{Malformed, Proof, is_host};
use crate::gateway::json::{self, authzen};

const REQUEST_ID: &str = "x-request-id";
/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(5);

const UNREADABLE: Malformed = Malformed(Reason::CheckUnreadable);

/// Whether a path is answered here.
pub(super) fn answers(path: &str) -> bool {
    matches!(path, json::CHECK | json::OPENAPI | authzen::EVALUATION | authzen::EVALUATIONS | authzen::METADATA)
}

/// Answers one request to such a path.
pub(super) async fn answer(request: Request<Incoming>, answering: Answering) -> Response<Bytes> {
    let (head, body) = request.into_parts();
    let Answering { authorizer, asker, holder, purse, secure, .. } = answering;
    let proof = Proof { holder: holder.as_deref(), metadata: Some(&head.headers) };
    match (head.uri.path(), &head.method) {
        (json::CHECK, &Method::POST) => {
            let mut charge = Charge::new(purse);
            let text = text(&head, body, &mut charge).await;
            let json::Answer { status, body } = json::check(&authorizer, asker, proof, text).await;
            said(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), body)
        }
        (json::CHECK, _) => only("POST"),
        (authzen::EVALUATION | authzen::EVALUATIONS | authzen::METADATA, _) if !authzen::is_on(&authorizer) => {
            plain(StatusCode::NOT_FOUND, Bytes::new())
        }
        (path @ (authzen::EVALUATION | authzen::EVALUATIONS), &Method::POST) => {
            let several = path == authzen::EVALUATIONS;
            let mut charge = Charge::new(purse);
            let text = text(&head, body, &mut charge).await;
            asserted(&head, authzen::evaluate(&authorizer, (asker, proof), text, several))
        }
        (authzen::EVALUATION | authzen::EVALUATIONS, _) => only("POST"),
        (authzen::METADATA, &Method::GET | &Method::HEAD) => match base(&head, secure) {
            Some(base) => said(StatusCode::OK, authzen::metadata(&base)),
            None => plain(StatusCode::BAD_REQUEST, Bytes::from_static(b"The request needs one Host.")),
        },
        (_, &Method::GET | &Method::HEAD) => said(StatusCode::OK, Bytes::from_static(json::DOCUMENT.as_bytes())),
        _ => only("GET, HEAD"),
    }
}

/// The body of a request that says it is JSON.
async fn text(head: &Parts, body: Incoming, charge: &mut Charge) -> Result<Bytes, Malformed> {
    if !is_json(&head.headers) {
        return Err(UNREADABLE);
    }
    tokio::time::timeout(ARRIVAL, whole(body, charge)).await.unwrap_or(Err(UNREADABLE))
}

/// Exactly one `content-type`, and that JSON's (RFC 8259 §11).
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter().map(HeaderValue::as_bytes);
    let (Some(first), None) = (types.next(), types.next()) else { return false };
    is_media_type(first, "application/json")
}

async fn whole(mut body: Incoming, charge: &mut Charge) -> Result<Bytes, Malformed> {
    let mut text = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| UNREADABLE)?.into_data() else { continue };
        if text.len().saturating_add(piece.len()) > json::MAX_CHECK {
            return Err(UNREADABLE);
        }
        if !charge.more(piece.len()) {
            return Err(Malformed(Reason::Overloaded));
        }
        text.extend_from_slice(&piece);
    }
    Ok(text.freeze())
}

/// An answer of AuthZEN: with the id that its request had (§10.1.8), and a challenge where who asks is not known.
fn asserted(head: &Parts, authzen::Answer { status, body }: authzen::Answer) -> Response<Bytes> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut answer = if status == StatusCode::OK { said(status, body) } else { plain(status, body) };
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(id) = head.headers.get(REQUEST_ID) {
        answer.headers_mut().insert(REQUEST_ID, id.clone());
    }
    answer
}

/// Scheme and authority as they were asked for, where that is one name or address and perhaps a port.
fn base(head: &Parts, secure: bool) -> Option<String> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return None };
    let host = host.to_str().ok().filter(|host| is_host(host.as_bytes()))?;
    Some(format!("{}://{host}", if secure { "https" } else { "http" }))
}

/// A sentence for people.
fn plain(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let mut answer = said(status, body);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn said(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn only(methods: &'static str) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_once_that_it_is_json_is_read() {
        let is_json = |types: &[&str]| {
            let mut headers = HeaderMap::new();
            types.iter().for_each(|kind| _ = headers.append(CONTENT_TYPE, kind.parse().unwrap()));
            super::is_json(&headers)
        };
        assert!(is_json(&["application/json"]) && is_json(&["Application/JSON; charset=utf-8"]));
        for types in [&[][..], &["text/plain"], &["application/json", "application/json"], &["application/jsonx"]] {
            assert!(!is_json(types), "{types:?}");
        }
    }
}
