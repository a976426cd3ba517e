//! An answer as JSON, written by hand into one buffer: every text goes through a serializer of strings.

use bytes::Bytes;

use crate::authorizer::Answered;
use crate::authz::decision::{Decision, Denial, Grant, Verdict};
use crate::authz::identity::{Identity, Listed};
use crate::authz::json::Json;
use crate::gateway::denial::Said;

/// What is answered where nothing else can be.
pub(super) const DENY_ALL: &str = r#"{"verdict":"deny","decision":"","status":503,"response":{"headers":{"cache-control":"no-store"},"body":""},"cache":{"for":0,"vary":[]}}"#;

/// An answer; `told` where whoever asks may be told who calls.
pub(super) fn answer(answered: &Answered) -> Bytes {
    let mut to = Vec::with_capacity(1_024);
    let id = answered.id.map(|id| id.to_string()).unwrap_or_default();
    let decision = &answered.decision;
    match decision.verdict() {
        Verdict::Allow(grant) => {
            to.extend_from_slice(br#"{"verdict":"allow","decision":"#);
            string(&mut to, id.as_bytes());
            allowed(&mut to, grant);
            if decision.basis().believed {
                caller(&mut to, decision);
            }
        }
        Verdict::Deny(denial) => {
            to.extend_from_slice(br#"{"verdict":"deny","decision":"#);
            string(&mut to, id.as_bytes());
            denied(&mut to, denial, answered);
        }
    }
    to.extend_from_slice(br#","cache":{"for":"#);
    let cached = decision.cached();
    to.extend_from_slice(cached.map_or(0, |cached| cached.seconds).to_string().as_bytes());
    to.extend_from_slice(br#","vary":"#);
    let vary = cached.map(|cached| &*cached.vary).unwrap_or_default();
    list(&mut to, vary.iter().map(|name| name.as_bytes()));
    to.extend_from_slice(b"}}");
    to.into()
}

fn allowed(to: &mut Vec<u8>, grant: &Grant) {
    to.extend_from_slice(br#","headers":{"set":"#);
    pairs(to, grant.set());
    to.extend_from_slice(br#","remove":"#);
    list(to, grant.remove().map(|name| &**name));
    to.extend_from_slice(br#"},"query":{"set":"#);
    pairs(to, grant.query());
    to.extend_from_slice(br#","remove":"#);
    list(to, grant.query_removed().map(|name| &**name));
    to.extend_from_slice(br#"},"response":{"headers":"#);
    pairs(to, grant.responses());
    to.extend_from_slice(br#"},"metadata":"#);
    members(to, grant.metadata().iter().map(|(name, value)| (&**name, value)), value);
}

fn denied(to: &mut Vec<u8>, denial: &Denial, answered: &Answered) {
    let Said { status, headers, body } = Said::of(denial, answered.id);
    to.extend_from_slice(br#","status":"#);
    to.extend_from_slice(status.to_string().as_bytes());
    to.extend_from_slice(br#","response":{"headers":"#);
    members(to, headers.iter().map(|(name, value)| (name.as_bytes(), value)), |to, value| string(to, value));
    to.extend_from_slice(br#","body":"#);
    string(to, body.as_bytes());
    to.push(b'}');
}

/// Who calls: never a token, never a claim.
fn caller(to: &mut Vec<u8>, decision: &Decision) {
    let caller = &decision.basis().caller;
    to.extend_from_slice(br#","caller":"#);
    let slots = [("user", &caller.user), ("app", &caller.app), ("workload", &caller.workload)];
    members(to, slots.iter().map(|(name, slot)| (name.as_bytes(), *slot)), |to, slot| match slot {
        Some(identity) => one(to, identity),
        None => to.extend_from_slice(b"null"),
    });
}

fn one(to: &mut Vec<u8>, identity: &Identity) {
    let principal = identity.principal();
    to.extend_from_slice(br#"{"issuer":"#);
    string(to, principal.issuer.as_bytes());
    to.extend_from_slice(br#","subject":"#);
    string(to, principal.subject.as_bytes());
    to.extend_from_slice(br#","roles":"#);
    list(to, identity.roles().map(|role| role.as_bytes()));
    for (name, listed) in [("groups", identity.groups()), ("scopes", identity.scopes())] {
        to.push(b',');
        string(to, name.as_bytes());
        to.push(b':');
        let known = match listed {
            Listed::Known(known) => &**known,
            Listed::Unknown | Listed::Elsewhere => &[],
        };
        list(to, known.iter().map(|name| name.as_bytes()));
    }
    to.push(b'}');
}

fn pairs<'a>(to: &mut Vec<u8>, all: impl Iterator<Item = &'a (Bytes, Bytes)>) {
    members(to, all.map(|(name, value)| (&**name, value)), |to, value| string(to, value));
}

fn members<'a, V>(to: &mut Vec<u8>, all: impl Iterator<Item = (&'a [u8], V)>, mut write: impl FnMut(&mut Vec<u8>, V)) {
    to.push(b'{');
    for (at, (name, value)) in all.enumerate() {
        if at > 0 {
            to.push(b',');
        }
        string(to, name);
        to.push(b':');
        write(to, value);
    }
    to.push(b'}');
}

fn list<'a>(to: &mut Vec<u8>, all: impl Iterator<Item = &'a [u8]>) {
    to.push(b'[');
    for (at, text) in all.enumerate() {
        if at > 0 {
            to.push(b',');
        }
        string(to, text);
    }
    to.push(b']');
}

/// A value of the policy's, or of a token's: it nests no deeper than what was read.
fn value(to: &mut Vec<u8>, json: &Json) {
    match json {
        Json::Null => to.extend_from_slice(b"null"),
        Json::Bool(true) => to.extend_from_slice(b"true"),
        Json::Bool(false) => to.extend_from_slice(b"false"),
        Json::Number(number) => to.extend_from_slice(number.to_string().as_bytes()),
        Json::Text(text) => string(to, text.as_bytes()),
        Json::List(items) => {
            to.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    to.push(b',');
                }
                value(to, item);
            }
            to.push(b']');
        }
        Json::Object(object) => members(to, object.iter().map(|(name, item)| (name.as_bytes(), item)), value),
    }
}

/// A JSON string; what is not UTF-8 in it is replaced.
pub(super) fn string(to: &mut Vec<u8>, text: &[u8]) {
    let start = to.len();
    if serde_json::to_writer(&mut *to, &*String::from_utf8_lossy(text)).is_err() {
        // Writing to memory does not fail; were it to, an empty text says less than half of one.
        to.truncate(start);
        to.extend_from_slice(b"\"\"");
    }
}
