//! Who calls, and whence, as docs/policy.md says.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::decide::{Captures, Scene};
use super::model::{Address, Issuer, Place, Policy, Question, Route, Rule, Token};
use super::read::Code;
use super::seen::note;
use super::words::{holds, is_in};

/// Somebody who was identified.
pub struct Identity<'p> {
    pub issuer: &'p Issuer,
    pub claims: &'p Map<String, Value>,
    /// With its prefix.
    pub subject: String,
}

pub fn identity<'p>(
    policy: &'p Policy,
    tokens: &'p [Token],
    question: &Question,
    route: &Route,
) -> Result<Option<Identity<'p>>, Code> {
    if route.allow == Rule::Public {
        return Ok(None);
    }
    let accepted: Vec<&Issuer> = policy
        .issuers
        .iter()
        .filter(|issuer| if route.issuers.is_empty() { issuer.default } else { route.issuers.contains(&issuer.name) })
        .collect();
    let mut found: Vec<(String, Place)> = Vec::new();
    for place in accepted.iter().flat_map(|issuer| &issuer.from) {
        found.extend(standing(question, place).into_iter().map(|text| (text, place.clone())));
    }
    let Some((text, _)) = found.first().cloned() else {
        return if route.allow == Rule::Anyone { Ok(None) } else { Err("credential_missing") };
    };
    if found.iter().any(|(other, _)| *other != text) {
        return Err("credential_ambiguous");
    }
    let Some(token) = tokens.iter().find(|token| token.text == text) else { return Err("token_malformed") };
    let first = found.iter().map(|(_, place)| place).min_by_key(|place| match place {
        Place::Bearer => 0,
        Place::Header(_) => 1,
        Place::Cookie(_) => 2,
    });
    let first = first.unwrap();
    let is_its = |issuer: &&&Issuer| issuer.name == token.issuer && issuer.from.contains(first);
    let Some(issuer) = accepted.iter().find(is_its) else { return Err("issuer_refused") };
    let identity = verify(policy, token, issuer)?;
    let only_cookie = found.iter().all(|(_, place)| matches!(place, Place::Cookie(_)));
    if only_cookie && is_cross_site(question, issuer) {
        return Err("cross_site");
    }
    Ok(Some(identity))
}

/// The tokens that stand in a place.
fn standing(question: &Question, place: &Place) -> Vec<String> {
    let values = |name: &str| -> Vec<&String> {
        question.lines.iter().filter(|(line, _)| line == name).map(|(_, value)| value).collect()
    };
    match place {
        Place::Bearer => {
            let bearer = |value: &&String| value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "));
            values("authorization").into_iter().filter(bearer).map(|value| value[7..].to_owned()).collect()
        }
        Place::Header(name) => values(&name.to_lowercase()).into_iter().cloned().collect(),
        Place::Cookie(name) => {
            let pairs = values("cookie").into_iter().flat_map(|line| line.split("; "));
            pairs
                .filter_map(|pair| pair.split_once('='))
                .filter(|(one, _)| one == name)
                .map(|(_, value)| value.to_owned())
                .collect()
        }
    }
}

fn is_cross_site(question: &Question, issuer: &Issuer) -> bool {
    let value = |name: &str| question.lines.iter().find(|(line, _)| line == name).map(|(_, value)| &**value);
    let is_safe = matches!(&*question.method, "GET" | "HEAD" | "OPTIONS" | "TRACE") && value("upgrade").is_none();
    let same = matches!(value("sec-fetch-site"), Some("same-origin" | "none"));
    let listed = value("origin").is_some_and(|origin| issuer.origins.iter().any(|one| one == origin));
    !is_safe && !same && !listed
}

fn verify<'p>(policy: &'p Policy, token: &'p Token, issuer: &Issuer) -> Result<Identity<'p>, Code> {
    if token.forged {
        return Err("signature_invalid");
    }
    let issuer = policy.issuers.iter().find(|one| one.name == issuer.name).unwrap();
    let Some(subject) = token.claims["sub"].as_str() else { return Err("claims_malformed") };
    let Some(expires) = offset(&token.claims["exp"]) else { return Err("claims_malformed") };
    let audiences = match &token.claims["aud"] {
        Value::String(one) => vec![one.clone()],
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => return Err("claims_malformed"),
    };
    if !audiences.contains(&issuer.audience) {
        return Err("audience_refused");
    }
    if expires <= -60 {
        return Err("token_expired");
    }
    if token.claims.get("nbf").and_then(offset).is_some_and(|from| from > 60) {
        return Err("token_not_yet_valid");
    }
    let identity = Identity {
        issuer,
        claims: &token.claims,
        subject: format!("{}{subject}", issuer.prefix.as_deref().unwrap_or_default()),
    };
    if let Some(rule) = &issuer.require {
        let scene = Scene { policy, identity: Some(&identity), address: None, captures: Captures::new() };
        if holds(rule, &scene) != Some(true) {
            return Err("requirement_unmet");
        }
    }
    let others = policy.issuers.iter().filter_map(|other| other.prefix.as_ref());
    if issuer.prefix.is_none() && others.into_iter().any(|prefix| subject.starts_with(&**prefix)) {
        note("a subject like another issuer's");
        return Err("requirement_unmet");
    }
    Ok(identity)
}

/// Seconds from now.
fn offset(value: &Value) -> Option<i64> {
    value.as_str()?.strip_prefix("now")?.parse().ok()
}

pub fn address(policy: &Policy, question: &Question) -> Option<IpAddr> {
    let gateway = policy.gateways.iter().find(|gateway| match (&gateway.by, question.peer) {
        (None, None) => true,
        (Some(network), Some(peer)) => is_in(peer, network),
        _ => false,
    })?;
    if !gateway.believed {
        note("a gateway that is not believed");
        return None;
    }
    let value = |name: &str| {
        let values: Vec<&str> =
            question.lines.iter().filter(|(line, _)| line == name).map(|(_, value)| &**value).collect();
        values.join(",")
    };
    match gateway.address {
        Address::Connection => question.source,
        Address::External => {
            note("an address in a header");
            value("x-envoy-external-address").parse().ok()
        }
        Address::Forwarded(hops) => {
            note("an address of X-Forwarded-For");
            let value = value("x-forwarded-for");
            value.rsplit(',').nth(hops - 1)?.trim().parse().ok()
        }
    }
}
