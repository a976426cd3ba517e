//! Envoy's HTTP filters `jwt_authn` and `rbac`, wherever they stand in its configuration.

use serde_json::Value;

use super::formula::Formula;
use super::say::{Foreign, Reading, items, texts};
use super::write::Read;
use crate::authz::rule::Word;

/// The filters of one kind, from anywhere below.
fn filters<'v>(value: &'v Value, kind: &str, found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(members) => {
            if members.get("@type").and_then(Value::as_str).is_some_and(|name| name.ends_with(kind)) {
                found.push(value);
            }
            members.values().for_each(|value| filters(value, kind, found));
        }
        Value::Array(items) => items.iter().for_each(|value| filters(value, kind, found)),
        _ => {}
    }
}

fn all<'v>(documents: &'v [Value], kind: &str) -> Vec<&'v Value> {
    let mut found = Vec::new();
    documents.iter().for_each(|document| filters(document, kind, &mut found));
    found
}

/// Reads the filters; `None` where there are none.
pub(super) fn read(documents: &[Value]) -> Option<Read> {
    let tokens = all(documents, "filters.http.jwt_authn.v3.JwtAuthentication");
    let rbacs = all(documents, "filters.http.rbac.v3.RBAC");
    if tokens.is_empty() && rbacs.is_empty() {
        return None;
    }
    let mut reading = Reading::default();
    let (mut issuers, mut headers) = (Vec::new(), Vec::new());
    // By the name that the provider has there.
    let mut providers: Vec<(String, Option<String>)> = Vec::new();
    let mut must = Vec::new();
    for filter in &tokens {
        for (name, provider) in filter.get("providers").and_then(Value::as_object).into_iter().flatten() {
            let made = self::provider(&mut reading, name, provider, &mut headers);
            providers.push((name.clone(), made.as_ref().map(|(name, _)| name.clone())));
            issuers.extend(made);
        }
    }
    let mut verified = Vec::new();
    for filter in &tokens {
        let (asked, whose) = requirements(&mut reading, filter, &providers);
        must.push(asked);
        verified.push(whose);
    }
    let verified = Formula::Any(verified);
    for filter in &rbacs {
        must.push(rbac(&mut reading, filter, &verified));
    }
    for kind in ["RBACPerRoute", "jwt_authn.v3.PerRouteConfig"] {
        if !all(documents, kind).is_empty() {
            reading.note(kind, "what routes say of their own is not read; everything is denied");
            must.push(Formula::Known(false));
        }
    }
    if tokens.len() > 1 || rbacs.len() > 1 {
        reading.note("filters", "there are several of a kind; a request must pass all of them here");
    }
    Some(Read {
        issuers,
        headers,
        permits: Formula::All(must),
        address: reading.address,
        notes: reading.notes,
        left_out: reading.left_out,
    })
}

fn provider(
    reading: &mut Reading,
    name: &str,
    provider: &Value,
    headers: &mut Vec<(String, String)>,
) -> Option<(String, Vec<String>)> {
    let place = format!("jwt_authn, providers.{name}");
    let Some(issuer) = provider.get("issuer").and_then(Value::as_str) else {
        return reading.leave_out(&place, "it takes tokens of every issuer");
    };
    let jwks = provider.pointer("/remote_jwks/http_uri/uri").and_then(Value::as_str);
    if jwks.is_none() {
        return reading.leave_out(&place, "its keys are no URL: put them in a file, and name it in `jwks`");
    }
    let mut from = Vec::new();
    for header in items(provider, "from_headers") {
        let text = |key| header.get(key).and_then(Value::as_str).unwrap_or_default();
        match (text("name"), text("value_prefix")) {
            (name, "Bearer ") if name.eq_ignore_ascii_case("authorization") => from.push("bearer".into()),
            (name, "") => from.push(format!("header:{name}")),
            (name, _) => reading
                .note(&place, format!("a prefix in the header {name} cannot be said here; tokens there are not read")),
        }
    }
    if !items(provider, "from_params").is_empty() {
        reading.note(&place, "from_params cannot be said here; tokens in the query are not read");
    }
    from.extend(texts(provider.get("from_cookies")).into_iter().map(|name| format!("cookie:{name}")));
    let elsewhere = ["from_headers", "from_params", "from_cookies"].iter().any(|key| !items(provider, key).is_empty());
    if elsewhere && from.is_empty() {
        return reading.leave_out(&place, "no place of its tokens can be said here");
    }
    if provider.get("forward").and_then(Value::as_bool) != Some(true) {
        reading.note(&place, "forward is not set; here the token goes on to the upstream");
    }
    for claim in items(provider, "claim_to_headers") {
        let text = |key| claim.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        headers.push((text("header_name"), format!("claim:{}", text("claim_name"))));
    }
    let audiences = texts(provider.get("audiences"));
    reading.issuer(&Foreign { place, issuer, jwks, audiences, from })
}

type Providers = [(String, Option<String>)];

/// What is asked of tokens, and whose are looked at. The first rule that matches counts; where none does, nothing is
/// asked, and no token is looked at.
fn requirements(reading: &mut Reading, filter: &Value, providers: &Providers) -> (Formula, Formula) {
    let (mut asked, mut verified) = (Formula::Known(true), Formula::Known(false));
    for (at, rule) in items(filter, "rules").iter().enumerate().rev() {
        let place = format!("jwt_authn, rules[{at}]");
        let matched = route_match(reading, &place, rule.get("match").unwrap_or(&Value::Null));
        let mut whose = Vec::new();
        let alone = |key| rule.get("requires").is_some_and(|requires| requires.get(key).is_some());
        if alone("allow_missing") || alone("allow_missing_or_failed") {
            whose.push(reading.word(&Word::SignedIn));
        }
        let here = match (rule.get("requires"), rule.get("requirement_name")) {
            (Some(_), _) if !whose.is_empty() => Formula::Known(true),
            (Some(requires), _) => requirement(reading, &place, requires, providers, &mut whose),
            (None, Some(_)) => reading.unsayable(&place, "requirement_name"),
            (None, None) => Formula::Known(true),
        };
        let first = |this: Formula, next: Formula| {
            let next = Formula::All(vec![matched.clone().negated(), next]);
            Formula::Any(vec![Formula::All(vec![matched.clone(), this]), next])
        };
        asked = first(here, asked);
        verified = first(Formula::Any(whose), verified);
    }
    (asked, verified)
}

fn route_match(reading: &mut Reading, place: &str, value: &Value) -> Formula {
    let Some(members) = value.as_object() else { return reading.unsayable(place, "a rule without a match") };
    let parts = members.iter().map(|(key, value)| match (key.as_str(), value.as_str()) {
        ("prefix", Some(text)) => reading.path_prefix(place, text),
        ("path", Some(text)) => reading.path(place, text),
        ("path_separated_prefix", Some(text)) => below(reading, place, text),
        ("case_sensitive", _) if value.as_bool() == Some(true) => Formula::Known(true),
        ("headers", _) => {
            let headers = value.as_array().into_iter().flatten().map(|header| self::header(reading, place, header));
            Formula::All(headers.collect())
        }
        (other, _) => reading.unsayable(place, other),
    });
    Formula::All(parts.collect())
}

/// The path itself, and all below it.
fn below(reading: &mut Reading, place: &str, text: &str) -> Formula {
    let own = reading.path(place, text);
    Formula::Any(vec![own, reading.path_prefix(place, &format!("{}/", text.trim_end_matches('/')))])
}

/// What is asked; takes note of whose tokens are looked at for it.
fn requirement(
    reading: &mut Reading,
    place: &str,
    value: &Value,
    providers: &Providers,
    whose: &mut Vec<Formula>,
) -> Formula {
    let Some(members) = value.as_object() else { return reading.unsayable(place, "this requirement") };
    let (key, inner) = match members.iter().next() {
        None => return Formula::Known(true),
        Some(_) if members.len() > 1 => return reading.unsayable(place, "a requirement of several kinds"),
        Some(only) => only,
    };
    let mut several = |reading: &mut Reading| {
        let each = items(inner, "requirements").iter();
        each.map(|one| requirement(reading, place, one, providers, whose)).collect::<Vec<_>>()
    };
    match key.as_str() {
        "provider_name" => match providers.iter().find(|(name, _)| Some(&**name) == inner.as_str()) {
            Some((_, Some(issuer))) => {
                let word = reading.word(&Word::Issuer(issuer.as_str().into()));
                whose.push(word.clone());
                word
            }
            _ => Formula::Known(false),
        },
        "requires_any" => Formula::Any(several(reading)),
        "requires_all" => Formula::All(several(reading)),
        "allow_missing" | "allow_missing_or_failed" => {
            if key == "allow_missing_or_failed" {
                reading.note(place, "allow_missing_or_failed: who has no token passes; a bad one is a 401 here");
            }
            // Whose tokens it looks at is said by its neighbours.
            reading.word(&Word::SignedIn).negated()
        }
        other => reading.unsayable(place, other),
    }
}

fn rbac(reading: &mut Reading, filter: &Value, verified: &Formula) -> Formula {
    let Some(rules) = filter.get("rules") else {
        return if filter.get("matcher").is_some() {
            reading.unsayable("rbac", "matcher")
        } else {
            Formula::Known(true)
        };
    };
    let policies = rules.get("policies").and_then(Value::as_object).into_iter().flatten();
    let any = policies.map(|(name, policy)| {
        let place = format!("rbac, policies.{name}");
        let any_of = |reading: &mut Reading, key: &str| {
            Formula::Any(items(policy, key).iter().map(|one| term(reading, &place, one, verified)).collect())
        };
        let mut all = vec![any_of(reading, "permissions"), any_of(reading, "principals")];
        if policy.get("condition").is_some() || policy.get("checked_condition").is_some() {
            all.push(reading.unsayable(&place, "a CEL condition"));
        }
        Formula::All(all)
    });
    let any = Formula::Any(any.collect());
    match rules.get("action").and_then(Value::as_str).unwrap_or("ALLOW") {
        "ALLOW" => any,
        "DENY" => any.negated(),
        "LOG" => {
            reading.note("rbac", "LOG decides nothing; each decision has a line in the audit trail anyway");
            Formula::Known(true)
        }
        other => reading.unsayable("rbac", other),
    }
}

/// A permission or a principal.
fn term(reading: &mut Reading, place: &str, value: &Value, verified: &Formula) -> Formula {
    let only = value.as_object().filter(|members| members.len() == 1).and_then(|members| members.iter().next());
    let Some((key, inner)) = only else { return reading.unsayable(place, "a term without one kind") };
    let several = |reading: &mut Reading, list: &str| {
        items(inner, list).iter().map(|one| term(reading, place, one, verified)).collect()
    };
    match key.as_str() {
        "any" if inner.as_bool() == Some(true) => Formula::Known(true),
        "and_rules" => Formula::All(several(reading, "rules")),
        "or_rules" => Formula::Any(several(reading, "rules")),
        "and_ids" => Formula::All(several(reading, "ids")),
        "or_ids" => Formula::Any(several(reading, "ids")),
        "not_rule" | "not_id" => term(reading, place, inner, verified).negated(),
        "url_path" => string_match(reading, place, inner.get("path").unwrap_or(&Value::Null)),
        "header" => header(reading, place, inner),
        "direct_remote_ip" | "source_ip" => address(reading, place, inner, "connection"),
        "remote_ip" => address(reading, place, inner, "x-envoy-external-address"),
        // Of a token that is not looked at there is no metadata.
        "metadata" => {
            let made = Formula::All(vec![metadata(reading, place, inner), verified.clone()]);
            if inner.get("invert").and_then(Value::as_bool) == Some(true) { made.negated() } else { made }
        }
        other => reading.unsayable(place, other),
    }
}

fn address(reading: &mut Reading, place: &str, value: &Value, from: &'static str) -> Formula {
    let prefix = value.get("address_prefix").and_then(Value::as_str).unwrap_or_default();
    let length = value.get("prefix_len").map_or("0".into(), Value::to_string);
    reading.network(place, &format!("{prefix}/{length}"), from)
}

/// A path by a string match.
fn string_match(reading: &mut Reading, place: &str, value: &Value) -> Formula {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    if value.get("ignore_case").and_then(Value::as_bool) == Some(true) {
        return reading.odd_path(place, "ignoring case");
    }
    match (text("exact"), text("prefix")) {
        (Some(exact), _) => reading.path(place, exact),
        (None, Some(prefix)) => reading.path_prefix(place, prefix),
        (None, None) => reading.odd_path(place, "of this kind"),
    }
}

/// A header: of those only the method, the path and the host can be asked for.
fn header(reading: &mut Reading, place: &str, value: &Value) -> Formula {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let matched = value.get("string_match").unwrap_or(value);
    let exact = matched.get("exact").or_else(|| value.get("exact_match")).and_then(Value::as_str);
    let name = text("name").unwrap_or_default();
    let made = match (name, exact) {
        (":method", Some(method)) if method.bytes().all(|byte| byte.is_ascii_uppercase()) && method != "CONNECT" => {
            Formula::Method(method.to_owned())
        }
        (":authority" | "host", Some(host)) if !host.contains('*') => reading.host(place, host),
        // The header has the query as well, which an exact match would have to have too.
        _ => reading.unsayable(place, &format!("the header {name}")),
    };
    if value.get("invert_match").and_then(Value::as_bool) == Some(true) { made.negated() } else { made }
}

/// What `jwt_authn` wrote of the token.
fn metadata(reading: &mut Reading, place: &str, value: &Value) -> Formula {
    let filter = value.get("filter").and_then(Value::as_str);
    let keys: Option<Vec<String>> =
        items(value, "path").iter().map(|one| one.get("key").and_then(Value::as_str).map(str::to_owned)).collect();
    let keys = keys.filter(|_| filter == Some("envoy.filters.http.jwt_authn")).unwrap_or_default();
    let Some((_, path)) = keys.split_first().filter(|(_, path)| !path.is_empty()) else {
        return reading.unsayable(place, "this metadata");
    };
    let of = value.get("value").unwrap_or(&Value::Null);
    let one = of.pointer("/list_match/one_of").unwrap_or(of);
    match (one.pointer("/string_match/exact").and_then(Value::as_str), one.get("present_match")) {
        (Some(exact), _) => reading.claim(place, path, Some(exact)),
        (None, Some(Value::Bool(true))) => reading.claim(place, path, None),
        _ => reading.unsayable(place, "a claim that is asked otherwise than for one value"),
    }
}
