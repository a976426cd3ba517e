//! What the upstream is told, as docs/policy.md says.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::decide::{Answer, Captures, Datum, Scene};
use super::identity::Identity;
use super::model::{Managed, Policy, Question};
use super::read::Code;
use super::seen::note;
use super::words;

const ALWAYS: [&str; 12] = [
    "X-Original-URL",
    "X-Original-URI",
    "X-Original-Method",
    "X-Rewrite-URL",
    "X-HTTP-Method",
    "X-HTTP-Method-Override",
    "X-Method-Override",
    "X-Forwarded-User",
    "X-Forwarded-Groups",
    "X-Forwarded-Email",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-Access-Token",
];

const FAMILIES: [&str; 9] = [
    "Remote-",
    "X-Remote-",
    "X-Auth-Request-",
    "X-WEBAUTH-",
    "X-Authenticated-",
    "X-Consumer-",
    "X-Credential-",
    "X-Goog-Authenticated-",
    "X-MS-Client-Principal",
];

pub fn told(policy: &Policy, question: &Question, identity: Option<&Identity<'_>>) -> Result<Answer, Code> {
    let mut upstream = BTreeSet::new();
    for (name, value) in &question.lines {
        if is_managed(policy, name) {
            note("a header of the caller is removed");
        } else if !name.starts_with(':') {
            upstream.insert((name.clone(), value.clone()));
        }
    }
    for header in &policy.headers {
        if let Some(value) = value(policy, header, identity)? {
            upstream.insert((header.name.to_lowercase(), value));
        }
    }
    let mut metadata = BTreeMap::new();
    for (key, from) in &policy.metadata {
        if let Some(found) = source(policy, from, identity)? {
            metadata.insert(key.clone(), found);
        }
    }
    Ok(Answer::Allow(upstream, metadata))
}

/// Whether a name that came with the request is removed.
fn is_managed(policy: &Policy, name: &str) -> bool {
    let same = |one: &str| bare(one) == bare(name);
    if policy.headers.iter().any(|header| same(&header.name)) {
        if !policy.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name)) {
            note("an alias of a managed header");
        }
        return true;
    }
    let family = |family: &&str| {
        name.replace(|c: char| !c.is_ascii_alphanumeric(), "-").to_lowercase().starts_with(&family.to_lowercase())
    };
    let is_listed = ALWAYS.iter().any(|one| same(one)) || FAMILIES.iter().any(family);
    let is_kept = policy.kept.iter().any(|one| one.eq_ignore_ascii_case(name));
    if is_listed {
        note(if is_kept { "a header that is kept" } else { "a header of the always-list" });
    }
    is_listed && !is_kept
}

fn bare(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "-").to_lowercase()
}

/// What a source tells; `None`: nothing.
fn source(policy: &Policy, from: &str, identity: Option<&Identity<'_>>) -> Result<Option<Datum>, Code> {
    let Some(identity) = identity else { return Ok(None) };
    let text = |text: &str| Datum::Text(text.to_owned());
    let list = |list: Option<Vec<String>>| Datum::List(list.unwrap_or_default());
    Ok(Some(match from {
        "sub" => text(&identity.subject),
        "principal" => text(&format!("{}/{}", identity.issuer.name, identity.subject)),
        "issuer" => text(&identity.issuer.name),
        "roles" => Datum::List(once(roles(policy, identity))),
        "groups" => list(words::list(identity, identity.issuer.groups.as_deref())),
        "scopes" => list(words::scopes(identity)),
        path => match words::lookup(identity.claims, path.strip_prefix("claim:").unwrap_or(path)) {
            Value::Null => return Ok(None),
            Value::Array(all) if all.len() > 1_024 => return Err("header_value_refused"),
            Value::Array(all) => {
                let all: Option<Vec<String>> = all.iter().map(words::plain).collect();
                Datum::List(all.ok_or("header_value_refused")?)
            }
            other => Datum::Text(words::plain(other).ok_or("header_value_refused")?),
        },
    }))
}

/// Each member once, where it is first.
fn once(list: Vec<String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for one in list {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all
}

fn roles(policy: &Policy, identity: &Identity<'_>) -> Vec<String> {
    let scene = Scene { policy, identity: Some(identity), address: None, captures: Captures::new() };
    let is_defined = |name: &String| policy.roles.iter().any(|(defined, _)| defined == name);
    let mut all = words::list(identity, identity.issuer.roles.as_deref()).unwrap_or_default();
    all.retain(|name| !is_defined(name));
    for (name, rule) in &policy.roles {
        if words::holds(rule, &scene) == Some(true) {
            all.push(name.clone());
        }
    }
    all.retain(|name| words::may_grant(identity.issuer, name));
    all
}

fn value(policy: &Policy, header: &Managed, identity: Option<&Identity<'_>>) -> Result<Option<String>, Code> {
    let Some(found) = source(policy, &header.from, identity)? else {
        note("a managed header is not there");
        return Ok(None);
    };
    let text = match (header.format, found) {
        ("base64url", Datum::Text(text)) => URL_SAFE_NO_PAD.encode(text),
        ("base64url", Datum::List(list)) => URL_SAFE_NO_PAD.encode(ascii(&json(&list))),
        ("comma", Datum::List(list)) => {
            if list.iter().any(|one| one.contains(',')) {
                return Err("header_value_refused");
            }
            list.join(",")
        }
        (_, Datum::Text(text)) => text,
        (_, Datum::List(list)) => ascii(&json(&list)),
    };
    let is_refused = text.chars().any(|c| !(' '..='~').contains(&c)) || text.trim() != text || text.len() > 8_192;
    if is_refused {
        return Err("header_value_refused");
    }
    note(match header.format {
        "base64url" => "a header in base64url",
        "comma" => "a header with commas",
        _ => "a header in json",
    });
    Ok(Some(text))
}

fn json(list: &[String]) -> String {
    serde_json::to_string(list).unwrap()
}

fn ascii(json: &str) -> String {
    let mut text = String::new();
    for unit in json.encode_utf16() {
        match char::from_u32(unit.into()).filter(char::is_ascii) {
            Some(c) => text.push(c),
            None => text.push_str(&format!("\\u{unit:04x}")),
        }
    }
    text
}
