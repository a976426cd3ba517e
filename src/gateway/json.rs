//! JSON over HTTP: `POST /v1/check` into a request, a decision into an answer.
//!
//! Every answer is a verdict, whatever happens; a gateway lets pass nothing but what a whole answer allows.

pub mod authzen;
mod read;
mod write;

use bytes::Bytes;

use super::{catch, caught};
use crate::authorizer::{Answered, Authorizer};
use crate::authz::decision::Decision;
use crate::authz::json::Object;
use crate::authz::reason::Reason;
use crate::authz::request::{Asker, Malformed, Proof};
use read::Check;

/// The path of checks.
pub const CHECK: &str = "/v1/check";
/// The path of the document that describes them.
pub const OPENAPI: &str = "/v1/openapi.json";
/// That document (OpenAPI 3.1).
pub const DOCUMENT: &str = include_str!("json/openapi.json");
/// The largest check, in bytes.
pub const MAX_CHECK: usize = 1024 * 1024;

/// The members of a check.
pub const MEMBERS: &[&str] = &["method", "path", "host", "headers", "source", "timeout_ms"];
/// The members of its `source`.
pub const SOURCE: &[&str] = &["address", "principal", "certificate"];

const UNREADABLE: Malformed = Malformed(Reason::CheckUnreadable);

/// What is answered to a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status: 200 for a verdict, 400 for a denial of what is no check.
    pub status: u16,
    /// JSON.
    pub body: Bytes,
}

/// Answers one check: its text as it came, or why there is none.
pub async fn check(authorizer: &Authorizer, asker: Asker, proof: Proof<'_>, text: Result<Bytes, Malformed>) -> Answer {
    let answer = caught(answer(authorizer, asker, proof, text)).await;
    answer.unwrap_or_else(|| Answer { status: 200, body: Bytes::from_static(write::DENY_ALL.as_bytes()) })
}

async fn answer(authorizer: &Authorizer, asker: Asker, proof: Proof<'_>, text: Result<Bytes, Malformed>) -> Answer {
    let text = text.and_then(|text| catch(|| parse(&text)).unwrap_or(Err(UNREADABLE)));
    let check = text.as_ref().map_err(|malformed| *malformed).and_then(Check::read);
    let patience = check.as_ref().ok().and_then(|check| check.patience);
    let asked = check.as_ref().map(|check| check.raw(asker, proof)).map_err(|malformed| *malformed);
    let status = match &asked {
        Err(Malformed(reason)) if reason.status() == 400 => 400,
        Ok(_) | Err(_) => 200,
    };
    let answered = authorizer.check(asked, patience).await;
    let body = catch(|| write::answer(&answered))
        .unwrap_or_else(|| write::answer(&Answered { decision: Decision::denied(Reason::InternalError), id: None }));
    Answer { status, body }
}

fn parse(text: &[u8]) -> Result<Object, Malformed> {
    Some(text).filter(|text| text.len() <= MAX_CHECK).and_then(|text| Object::parse(text).ok()).ok_or(UNREADABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_last_resort_is_a_denial() {
        let answer: serde_json::Value = serde_json::from_str(write::DENY_ALL).unwrap();
        assert_eq!((answer["verdict"].as_str(), answer["cache"]["for"].as_u64()), (Some("deny"), Some(0)));
    }

    #[test]
    fn every_reason_is_a_denial_that_tells_no_more_than_its_status() {
        for reason in Reason::ALL.iter().copied() {
            let body = write::answer(&Answered { decision: Decision::denied(reason), id: None });
            let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(answer["verdict"], "deny", "{reason:?}");
            assert_eq!(answer["status"], reason.status(), "{reason:?}");
            assert_eq!(answer["response"]["headers"]["cache-control"], "no-store", "{reason:?}");
            assert!(!String::from_utf8_lossy(&body).contains(reason.code()), "{reason:?} is told to the caller");
        }
    }

    #[test]
    fn what_is_too_large_or_too_deep_is_no_check() {
        assert!(parse(b"{}").is_ok());
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_CHECK));
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(40), "]".repeat(40));
        for text in [long.as_bytes(), deep.as_bytes(), b"", b"[]", b"{} {}", b"\xef\xbb\xbf{}", b"{\"a\":\"\xff\"}"] {
            assert_eq!(parse(text), Err(UNREADABLE));
        }
    }
}
