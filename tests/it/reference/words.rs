//! What rules and their words are, true, false or unknown, as docs/policy.md says.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::decide::Scene;
use super::identity::Identity;
use super::model::{Issuer, Rule, Word};
use super::seen::note;

/// Whether a rule holds; `None`: that cannot be told.
pub fn holds(rule: &Rule, scene: &Scene<'_>) -> Option<bool> {
    match rule {
        Rule::Public | Rule::Anyone => Some(true),
        Rule::Word(one) => {
            let held = word(one, scene);
            note(truth(one, held));
            held
        }
        Rule::Not(rule) => holds(rule, scene).map(|held| !held),
        Rule::Any(rules) => {
            let all: Vec<Option<bool>> = rules.iter().map(|rule| holds(rule, scene)).collect();
            if all.contains(&Some(true)) {
                Some(true)
            } else if all.contains(&None) {
                None
            } else {
                Some(false)
            }
        }
        Rule::All(rules) => {
            let all: Vec<Option<bool>> = rules.iter().map(|rule| holds(rule, scene)).collect();
            if all.contains(&Some(false)) {
                Some(false)
            } else if all.contains(&None) {
                None
            } else {
                Some(true)
            }
        }
    }
}

fn word(word: &Word, scene: &Scene<'_>) -> Option<bool> {
    if let Word::Network(network) = word {
        return scene.address.map(|address| is_in(address, network));
    }
    let Some(identity) = scene.identity else { return Some(false) };
    let issuer = identity.issuer;
    match word {
        Word::SignedIn => Some(true),
        Word::Role(name) => role(scene, identity, name),
        Word::Group(name) => list(identity, issuer.groups.as_deref()).map(|all| all.contains(name)),
        Word::Scope(name) => scopes(identity).map(|all| all.contains(name)),
        Word::Issuer(name) => Some(issuer.name == *name),
        Word::Claim(path, text) => claim(identity, path).map(|all| all.contains(text)),
        Word::ClaimIsCaptured(path, capture) => {
            let text = scene.captures.get(capture)?;
            if text.is_empty() {
                note("an empty capture");
                return Some(false);
            }
            claim(identity, path).map(|all| all.contains(text))
        }
        Word::ClaimIsThere(path) => Some(!lookup(identity.claims, path).is_null()),
        Word::Owner(capture) => Some(scene.captures.get(capture)? == &identity.subject && !identity.subject.is_empty()),
        Word::Network(_) => unreachable!(),
    }
}

fn role(scene: &Scene<'_>, identity: &Identity<'_>, name: &str) -> Option<bool> {
    let granted = may_grant(identity.issuer, name);
    if !granted {
        note("a role that the issuer may not grant");
    }
    match scene.policy.roles.iter().find(|(defined, _)| defined == name) {
        Some(_) if !granted => Some(false),
        Some((_, rule)) => {
            let held = holds(rule, scene);
            note(if held == Some(true) { "a derived role" } else { "a derived role that is not there" });
            held
        }
        None => {
            let all = list(identity, identity.issuer.roles.as_deref())?;
            Some(granted && all.iter().any(|one| one == name))
        }
    }
}

pub fn may_grant(issuer: &Issuer, name: &str) -> bool {
    let fits = |pattern: &String| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    };
    issuer.may_grant.as_ref().is_none_or(|patterns| patterns.iter().any(fits))
}

/// The claim at this path; null where there is none.
pub fn lookup<'c>(claims: &'c Map<String, Value>, path: &str) -> &'c Value {
    let missing = &Value::Null;
    if path.starts_with('/') {
        let Some((first, rest)) = claims.iter().find_map(|(name, value)| {
            let rest = path[1..].strip_prefix(&name.replace('~', "~0").replace('/', "~1"))?;
            (rest.is_empty() || rest.starts_with('/')).then_some((value, rest))
        }) else {
            return missing;
        };
        return first.pointer(rest).filter(|_| first.is_object() || rest.is_empty()).unwrap_or(missing);
    }
    if path.contains('/') {
        return claims.get(path).unwrap_or(missing);
    }
    match path.split_once('.') {
        None => claims.get(path).unwrap_or(missing),
        Some((first, rest)) => match claims.get(first) {
            Some(Value::Object(inner)) => lookup(inner, rest),
            _ => missing,
        },
    }
}

/// A list of roles, groups or scopes.
pub fn list(identity: &Identity<'_>, path: Option<&str>) -> Option<Vec<String>> {
    match path.map_or(&Value::Null, |path| lookup(identity.claims, path)) {
        Value::Null if identity.issuer.missing_is_empty => Some(Vec::new()),
        Value::String(text) => Some(text.split(' ').filter(|one| !one.is_empty()).map(str::to_owned).collect()),
        Value::Array(all) => all.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

pub fn scopes(identity: &Identity<'_>) -> Option<Vec<String>> {
    list(identity, Some(identity.issuer.scopes.as_deref().unwrap_or("scope")))
}

/// What a claim may be compared with.
fn claim(identity: &Identity<'_>, path: &str) -> Option<Vec<String>> {
    match lookup(identity.claims, path) {
        Value::Null => Some(Vec::new()),
        Value::Array(all) if all.len() > 1_024 => None,
        Value::Array(all) => all.iter().map(plain).collect(),
        other => Some(vec![plain(other)?]),
    }
}

/// A text, number or boolean as text.
pub fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

pub fn is_in(address: IpAddr, network: &str) -> bool {
    let address = address.to_canonical();
    let (base, bits) = network.split_once('/').map_or((network, None), |(base, bits)| (base, Some(bits)));
    let (base, address) = match (base.parse().unwrap(), address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => (base.octets().to_vec(), address.octets().to_vec()),
        (IpAddr::V6(base), IpAddr::V6(address)) => (base.octets().to_vec(), address.octets().to_vec()),
        _ => return false,
    };
    let bits = bits.map_or(base.len() * 8, |bits| bits.parse().unwrap());
    let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    (0..bits).all(|at| bit(&base, at) == bit(&address, at))
}

/// Whether the rule would hold if the caller had every scope.
pub fn scope_would_help(rule: &Rule, scene: &Scene<'_>) -> bool {
    fn with_scopes(rule: &Rule, scene: &Scene<'_>) -> Option<bool> {
        match rule {
            Rule::Word(Word::Scope(_)) => Some(true),
            Rule::Not(rule) => with_scopes(rule, scene).map(|held| !held),
            Rule::Any(rules) => {
                let mut all = rules.iter().map(|rule| with_scopes(rule, scene));
                all.any(|held| held == Some(true)).then_some(true)
            }
            Rule::All(rules) => {
                let mut all = rules.iter().map(|rule| with_scopes(rule, scene));
                all.all(|held| held == Some(true)).then_some(true)
            }
            other => holds(other, scene),
        }
    }
    rule.words().iter().any(|word| matches!(word, Word::Scope(_))) && with_scopes(rule, scene) == Some(true)
}

fn truth(word: &Word, held: Option<bool>) -> &'static str {
    macro_rules! names {
        ($($pattern:pat => $name:literal),+ $(,)?) => {
            match (word, held) {
                $(($pattern, Some(true)) => concat!($name, " true"),
                ($pattern, Some(false)) => concat!($name, " false"),
                ($pattern, None) => concat!($name, " unknown"),)+
            }
        };
    }
    names! {
        Word::SignedIn => "signed-in",
        Word::Role(_) => "role",
        Word::Group(_) => "group",
        Word::Scope(_) => "scope",
        Word::Issuer(_) => "issuer",
        Word::Claim(..) => "claim=",
        Word::ClaimIsCaptured(..) => "claim={}",
        Word::ClaimIsThere(_) => "claim?",
        Word::Owner(_) => "owner",
        Word::Network(_) => "network",
    }
}
