//! What a denial says to the caller, whatever the gateway speaks: status, header lines and body, as data.

use bytes::Bytes;

use crate::authz::accept::Form;
use crate::authz::cors::Listed;
use crate::authz::decision::Denial;
use crate::authz::decision_id::DecisionId;

/// An answer to the caller.
pub(super) struct Said {
    /// The HTTP status.
    pub status: u16,
    /// Header lines: no name comes twice. Names are in lower case.
    pub headers: Vec<(&'static str, Bytes)>,
    /// The body: only fixed text and the decision id.
    pub body: String,
}

impl Said {
    /// What this denial says.
    pub fn of(denial: &Denial, id: Option<DecisionId>) -> Self {
        let status = denial.status();
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        let mut headers = Vec::with_capacity(10);
        let body = written(denial, status, &id, &mut headers);
        let mut header = |name: &'static str, value: Bytes| headers.push((name, value));
        if let Some(Listed { origin, credentials }) = denial.reader() {
            header("access-control-allow-origin", Bytes::copy_from_slice(origin.as_bytes()));
            if *credentials {
                header("access-control-allow-credentials", Bytes::from_static(b"true"));
            }
            let exposed = if denial.nonce().is_some() { "WWW-Authenticate, DPoP-Nonce" } else { "WWW-Authenticate" };
            header("access-control-expose-headers", Bytes::from_static(exposed.as_bytes()));
            header("vary", Bytes::from_static(b"Origin"));
        }
        header("cache-control", Bytes::from_static(b"no-store"));
        if let Some(location) = denial.location() {
            header("location", Bytes::copy_from_slice(location.as_bytes()));
        } else if let Some(challenge) = denial.challenge() {
            header("www-authenticate", Bytes::copy_from_slice(challenge.as_bytes()));
        }
        if let Some(nonce) = denial.nonce() {
            header("dpop-nonce", Bytes::copy_from_slice(nonce.as_bytes()));
        }
        Self { status, headers, body }
    }
}

/// The body, and the header lines that say how it is written.
fn written(denial: &Denial, status: u16, id: &str, headers: &mut Vec<(&'static str, Bytes)>) -> String {
    let mut header =
        |name: &'static str, value: &'static str| headers.push((name, Bytes::from_static(value.as_bytes())));
    if denial.is_grpc() {
        // Envoy makes `grpc-message` of the body, and would derive a coarser `grpc-status` from the HTTP status.
        header("grpc-status", grpc_status(status));
        return format!("{} Decision {id}", sentence(status));
    }
    let (kind, body) = match denial.form() {
        Form::Problem => ("application/problem+json", problem(status, id)),
        Form::Html => ("text/html; charset=utf-8", page(status, id)),
        Form::Text => ("text/plain; charset=utf-8", format!("{}\nDecision {id}\n", sentence(status))),
    };
    header("content-type", kind);
    header("x-content-type-options", "nosniff");
    if denial.form() == Form::Html {
        header("content-security-policy", NOTHING_RUNS);
    }
    body
}

/// RFC 9457. Only fixed text and the decision id: what the caller sent is never reflected.
fn problem(status: u16, id: &str) -> String {
    let (title, detail) = (title(status), sentence(status));
    format!(r#"{{"type":"about:blank","title":"{title}","status":{status},"detail":"{detail}","decision":"{id}"}}"#)
}

/// A page without scripts, styles or anything of the request's.
fn page(status: u16, id: &str) -> String {
    let (title, detail) = (title(status), sentence(status));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{status} {title}</title></head>\n<body><h1>{status} {title}</h1>\
         <p>{detail}</p><p>Decision <code>{id}</code></p></body></html>\n"
    )
}

const NOTHING_RUNS: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What a status is called, for people.
pub(super) const fn title(status: u16) -> &'static str {
    match status {
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Forbidden",
    }
}

pub(super) const fn sentence(status: u16) -> &'static str {
    match status {
        302 => "Sign in to go on.",
        400 => "The request cannot be read one way only.",
        401 => "A valid credential is needed.",
        431 => "The request has too many headers.",
        503 => "No decision can be made right now.",
        _ => "This request is not allowed.",
    }
}

/// `google.rpc.Code`, in decimal, for the caller of a gRPC method.
const fn grpc_status(status: u16) -> &'static str {
    match status {
        400 | 431 => "3",
        401 | 302 => "16",
        503 => "14",
        _ => "7",
    }
}
