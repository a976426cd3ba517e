//! Istio's `RequestAuthentication` and `AuthorizationPolicy`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::area::Segment;
use super::formula::Formula;
use super::say::{Foreign, Reading, items, segments, texts};
use super::write::Read;
use crate::authz::rule::Word;

/// The namespace whose policies are for all others too.
const ROOT: &str = "istio-system";

/// Which workload's policies are read, where the file has those of several.
#[derive(Clone, Debug, Default)]
pub(super) struct Workload {
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its selector: `app=httpbin`.
    pub selector: Option<String>,
}

/// Whether a document is one of Istio's that are read here.
pub(super) fn is_istio(document: &Value) -> bool {
    matches!(kind(document), "RequestAuthentication" | "AuthorizationPolicy")
}

fn kind(document: &Value) -> &str {
    document.get("kind").and_then(Value::as_str).unwrap_or_default()
}

fn name(document: &Value) -> String {
    let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("without a name");
    format!("{} {name}", kind(document))
}

/// Reads the documents that are for one workload.
///
/// # Errors
/// Where they are for several, and none is chosen.
pub(super) fn read(documents: &[Value], workload: &Workload) -> Result<Read, String> {
    let mine = chosen(documents, workload)?;
    let mut reading = Reading::default();
    let (mut issuers, mut headers) = (Vec::new(), Vec::new());
    for document in mine.iter().filter(|document| kind(document) == "RequestAuthentication") {
        for (at, rule) in items(document.get("spec").unwrap_or(&Value::Null), "jwtRules").iter().enumerate() {
            let place = format!("{}, jwtRules[{at}]", name(document));
            issuers.extend(jwt_rule(&mut reading, &place, rule, &mut headers));
        }
    }
    let (mut allows, mut denies) = (Vec::new(), Vec::new());
    let mut allow_is_there = false;
    for document in mine.iter().filter(|document| kind(document) == "AuthorizationPolicy") {
        let place = name(document);
        let spec = document.get("spec").unwrap_or(&Value::Null);
        let action = spec.get("action").and_then(Value::as_str).unwrap_or("ALLOW");
        let rules = items(spec, "rules").iter().enumerate();
        match action {
            "AUDIT" => {
                reading.note(&place, "AUDIT decides nothing; each decision has a line in the audit trail anyway")
            }
            "ALLOW" | "DENY" | "CUSTOM" => {
                let made = rules.map(|(at, rule)| self::rule(&mut reading, &format!("{place}, rules[{at}]"), rule));
                let mut made: Vec<Formula> = made.collect();
                if spec.get("rules").is_some_and(|rules| !rules.is_array()) {
                    made.push(reading.unsayable(&place, "what `rules` is"));
                }
                if action == "ALLOW" {
                    allow_is_there = true;
                    allows.extend(made);
                } else {
                    denies.extend(made);
                }
                if action == "CUSTOM" {
                    reading.note(&place, "CUSTOM asks somebody else, who is not known here; its requests are denied");
                }
            }
            other => {
                reading.note(&place, format!("the action {other:?} is not known; everything is denied"));
                denies.push(Formula::Known(true));
            }
        }
    }
    let allowed = if allow_is_there { Formula::Any(allows) } else { Formula::Known(true) };
    let permits = Formula::All(vec![allowed, Formula::Any(denies).negated()]);
    Ok(Read { issuers, headers, permits, address: reading.address, notes: reading.notes, left_out: reading.left_out })
}

/// The documents that are for the workload: each policy of another one would be taken for its own.
fn chosen<'d>(documents: &'d [Value], workload: &Workload) -> Result<Vec<&'d Value>, String> {
    let namespace = |document: &Value| {
        document.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let selector = |document: &Value| {
        let labels = document.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
        let labels = labels.into_iter().flatten();
        let mut words: Vec<String> =
            labels.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
        for key in ["/spec/targetRef", "/spec/targetRefs"] {
            words.extend(document.pointer(key).map(|target| format!("target {target}")));
        }
        words.join(",")
    };
    let all = documents.iter().filter(|document| is_istio(document));
    let (mut namespaces, mut selectors) = (BTreeSet::new(), BTreeSet::new());
    let mut mine = Vec::new();
    for document in all {
        let (here, for_whom) = (namespace(document), selector(document));
        let everywhere = here == ROOT;
        if !everywhere && workload.namespace.as_ref().is_some_and(|wanted| *wanted != here) {
            continue;
        }
        if !for_whom.is_empty() && workload.selector.as_ref().is_some_and(|wanted| *wanted != for_whom) {
            continue;
        }
        if !everywhere {
            namespaces.insert(here);
        }
        if !for_whom.is_empty() {
            selectors.insert(for_whom);
        }
        mine.push(document);
    }
    for (what, found) in [("namespace", namespaces), ("selector", selectors)] {
        if found.len() > 1 {
            let found = found.into_iter().collect::<Vec<_>>().join("; ");
            return Err(format!(
                "these policies are for several workloads, and a policy file is for one: choose with --{what}: {found}"
            ));
        }
    }
    Ok(mine)
}

fn jwt_rule(
    reading: &mut Reading,
    place: &str,
    rule: &Value,
    headers: &mut Vec<(String, String)>,
) -> Option<(String, Vec<String>)> {
    let Some(issuer) = rule.get("issuer").and_then(Value::as_str) else {
        return reading.leave_out(place, "it names no issuer");
    };
    if rule.get("jwks").is_some() {
        return reading.leave_out(place, "its keys stand in the policy: put them in a file, and name it in `jwks`");
    }
    let mut from = Vec::new();
    for header in items(rule, "fromHeaders") {
        let text = |key| header.get(key).and_then(Value::as_str).unwrap_or_default();
        match (text("name"), text("prefix")) {
            (name, "Bearer ") if name.eq_ignore_ascii_case("authorization") => from.push("bearer".into()),
            (name, "") => from.push(format!("header:{name}")),
            (name, _) => reading
                .note(place, format!("a prefix in the header {name} cannot be said here; tokens there are not read")),
        }
    }
    if !items(rule, "fromParams").is_empty() {
        reading.note(place, "fromParams cannot be said here; tokens in the query are not read");
    }
    from.extend(texts(rule.get("fromCookies")).into_iter().map(|name| format!("cookie:{name}")));
    let elsewhere = ["fromHeaders", "fromParams", "fromCookies"].iter().any(|key| !items(rule, key).is_empty());
    if elsewhere && from.is_empty() {
        return reading.leave_out(place, "no place of its tokens can be said here");
    }
    if rule.get("forwardOriginalToken").and_then(Value::as_bool) != Some(true) {
        reading.note(place, "forwardOriginalToken is not set; here the token goes on to the upstream");
    }
    if rule.get("outputPayloadToHeader").is_some() {
        reading.note(place, "outputPayloadToHeader is left out: `headers:` tells single claims");
    }
    for claim in items(rule, "outputClaimToHeaders") {
        let text = |key| claim.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        headers.push((text("header"), format!("claim:{}", text("claim"))));
    }
    let (place, jwks) = (place.to_owned(), rule.get("jwksUri").and_then(Value::as_str));
    reading.issuer(&Foreign { place, issuer, jwks, audiences: texts(rule.get("audiences")), from })
}

/// `from`, `to` and `when`, each of which must match; a list that is empty asks for nothing.
fn rule(reading: &mut Reading, place: &str, rule: &Value) -> Formula {
    let mut all = Vec::new();
    let Some(members) = rule.as_object() else { return reading.unsayable(place, "this rule") };
    for (key, list) in members {
        let Some(list) = list.as_array() else {
            all.push(reading.unsayable(place, key));
            continue;
        };
        let entries = list.iter().enumerate().map(|(at, item)| (format!("{place}.{key}[{at}]"), item));
        match key.as_str() {
            "when" => all.extend(entries.map(|(place, item)| when(reading, &place, item))),
            _ if list.is_empty() => {}
            "from" => {
                all.push(Formula::Any(entries.map(|(place, item)| fields(reading, &place, item, "source")).collect()))
            }
            "to" => all
                .push(Formula::Any(entries.map(|(place, item)| fields(reading, &place, item, "operation")).collect())),
            other => all.push(reading.unsayable(place, other)),
        }
    }
    Formula::All(all)
}

/// All that a source or an operation says.
fn fields(reading: &mut Reading, place: &str, item: &Value, inner: &str) -> Formula {
    let only = item.as_object().filter(|members| members.len() == 1).and_then(|members| members.get(inner));
    match only.and_then(Value::as_object).filter(|fields| !fields.is_empty()) {
        Some(fields) => {
            Formula::All(fields.iter().map(|(field, values)| field_of(reading, place, field, values)).collect())
        }
        None => reading.unsayable(place, "this entry"),
    }
}

fn field_of(reading: &mut Reading, place: &str, field: &str, values: &Value) -> Formula {
    let (place, values) = (format!("{place}.{field}"), texts(Some(values)));
    let positive = field.strip_prefix("not").map(|rest| {
        let mut letters = rest.chars();
        letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect::<String>()
    });
    let one = |reading: &mut Reading, value: &str| match positive.as_deref().unwrap_or(field) {
        "requestPrincipals" => reading.principal(&place, value),
        "ipBlocks" => reading.network(&place, value, "connection"),
        "remoteIpBlocks" => reading.network(&place, value, "x-envoy-external-address"),
        "methods" => method(reading, &place, value),
        "hosts" => reading.host(&place, value),
        "paths" => path(reading, &place, value),
        other => reading.unsayable(&place, other),
    };
    if values.is_empty() {
        return reading.unsayable(&place, "a list without texts");
    }
    let any = reading.any(&values, one);
    if positive.is_some() { any.negated() } else { any }
}

fn method(reading: &mut Reading, place: &str, text: &str) -> Formula {
    match text {
        "*" => Formula::Known(true),
        text if text.bytes().all(|byte| byte.is_ascii_uppercase()) && text != "CONNECT" => {
            Formula::Method(text.to_owned())
        }
        text => reading.unsayable(place, &format!("the method {text:?}")),
    }
}

/// Exact, `prefix*`, `*suffix`, or a template with `{*}` and `{**}`.
fn path(reading: &mut Reading, place: &str, text: &str) -> Formula {
    if text == "*" {
        return Formula::Known(true);
    }
    if text.contains('{') {
        return template(reading, place, text);
    }
    match text.strip_suffix('*') {
        Some(prefix) if !prefix.contains('*') => reading.path_prefix(place, prefix),
        None if !text.contains('*') => reading.path(place, text),
        _ => reading.odd_path(place, text),
    }
}

fn template(reading: &mut Reading, place: &str, text: &str) -> Formula {
    let body = text.trim_start_matches('/').trim_end_matches('/');
    let mut path = Vec::new();
    let mut parts = body.split('/').peekable();
    while let Some(part) = parts.next() {
        match part {
            "{*}" => path.push(Segment::One),
            "{**}" if parts.peek().is_none() => {
                // Whether nothing is left counts is not for us to say: it is not let pass.
                let inner = [&*path, &[Segment::One, Segment::Rest]].concat();
                path.push(Segment::Rest);
                return Formula::Path(vec![inner], vec![path]);
            }
            literal => match segments(literal, literal) {
                Some(literal) if !literal.is_empty() => path.extend(literal),
                _ => return reading.odd_path(place, text),
            },
        }
    }
    Formula::Path(vec![path.clone()], vec![path])
}

fn when(reading: &mut Reading, place: &str, condition: &Value) -> Formula {
    let key = condition.get("key").and_then(Value::as_str).unwrap_or_default().to_owned();
    let one = |reading: &mut Reading, value: &str| attribute(reading, place, &key, value);
    let mut all = Vec::new();
    let values = texts(condition.get("values"));
    if !values.is_empty() {
        all.push(reading.any(&values, one));
    }
    let others = texts(condition.get("notValues"));
    if !others.is_empty() {
        all.push(reading.any(&others, one).negated());
    }
    let unread = |key: &str, read: bool| condition.get(key).is_some() && !read;
    let unread =
        unread("values", !texts(condition.get("values")).is_empty()) || unread("notValues", !others.is_empty());
    if all.is_empty() || unread {
        return reading.unsayable(place, "a condition without values");
    }
    Formula::All(all)
}

fn attribute(reading: &mut Reading, place: &str, key: &str, value: &str) -> Formula {
    let claim = key.strip_prefix("request.auth.claims[").and_then(|rest| rest.strip_suffix(']'));
    let path: Vec<String> = match (key, claim) {
        (_, Some(path)) => path.split("][").map(str::to_owned).collect(),
        ("request.auth.audiences", _) => vec!["aud".into()],
        ("request.auth.presenter", _) => vec!["azp".into()],
        ("request.auth.principal", _) => return reading.principal(place, value),
        ("source.ip", _) => return reading.network(place, value, "connection"),
        ("remote.ip", _) => return reading.network(place, value, "x-envoy-external-address"),
        (key, _) => return reading.unsayable(place, key),
    };
    match value {
        "*" => reading.claim(place, &path, None),
        value if value.starts_with('*') || value.ends_with('*') => {
            reading.unsayable(place, "a part of a claim's value")
        }
        value => {
            let claim = reading.claim(place, &path, Some(value));
            // Istio takes these two apart at their spaces.
            match (key, value) {
                ("request.auth.claims[scope]", value) => {
                    let word = reading.word(&Word::Scope(value.into()));
                    Formula::Any(vec![claim, word])
                }
                ("request.auth.claims[permission]", _) => Formula::Any(vec![claim, Formula::Unsayable]),
                _ => claim,
            }
        }
    }
}
