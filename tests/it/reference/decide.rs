//! The reference: what docs/policy.md says about a request, computed in the most naive way there is.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Map, Value};

use super::model::{Address, Host, Issuer, Key, Place, Policy, Question, Route, Rule, Segment, Token, Word};
use super::read::{self, Code, Read, Reading};
use super::seen::note;
use super::told;

pub type Captures = BTreeMap<String, String>;

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Deny(Code),
    /// The header lines that reach the upstream, and the metadata.
    Allow(BTreeSet<(String, String)>, BTreeMap<String, Value2>),
}

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value2 {
    Text(String),
    List(Vec<String>),
}

/// Somebody who was identified.
pub struct Identity<'p> {
    pub issuer: &'p Issuer,
    pub claims: &'p Map<String, Value>,
    /// With its prefix.
    pub subject: String,
}

/// What words are held against.
pub struct Scene<'a> {
    pub policy: &'a Policy,
    pub identity: Option<&'a Identity<'a>>,
    pub address: Option<IpAddr>,
    pub captures: Captures,
}

pub fn decide(policy: &Policy, tokens: &[Token], question: &Question) -> Answer {
    match gates(policy, tokens, question) {
        Ok(answer) => answer,
        Err(code) => Answer::Deny(code),
    }
}

fn gates(policy: &Policy, tokens: &[Token], question: &Question) -> Result<Answer, Code> {
    let request = read::read(policy, question)?;
    let (route, captures) = route(policy, &request)?;
    let identity = identity(policy, tokens, question, route)?;
    let address = address(policy, question);
    let scene = |captures| Scene { policy, identity: identity.as_ref(), address, captures };

    for (_, rule) in &policy.forbids {
        if holds(rule, &scene(Captures::new())) != Some(false) {
            return Err("forbidden");
        }
    }
    for (key, rule) in &policy.guards {
        for captures in covers(key, &request) {
            match holds(rule, &scene(captures)) {
                Some(true) => {}
                _ if identity.is_none() && rule.words().iter().any(|word| !matches!(word, Word::Network(_))) => {
                    return Err("credential_missing");
                }
                Some(false) => return Err("guard_unmet"),
                None => return Err("fact_unknown"),
            }
        }
    }
    match holds(&route.allow, &scene(captures.clone())) {
        Some(true) => {}
        Some(false) if scope_would_help(&route.allow, &scene(captures.clone())) => return Err("scope_missing"),
        Some(false) => return Err("rule_unmet"),
        None => return Err("fact_unknown"),
    }
    told::told(policy, question, identity.as_ref())
}

// Routes.

fn route<'p>(policy: &'p Policy, request: &Read) -> Result<(&'p Route, Captures), Code> {
    let straight = read::straight(&request.path);
    let found = best(policy, request, &straight, false);
    let fold = !policy.paths.contains(&"case_variant");
    for reading in read::loose(&request.path, fold).iter().skip(usize::from(!fold)) {
        let other = best(policy, request, reading, fold).map(|(at, _)| at);
        let same = match (&found, other) {
            (None, None) => true,
            (Some((at, _)), Some(other)) => {
                let shape = |at: usize| shape(&policy.routes[at].key, fold);
                shape(*at) == shape(other)
            }
            _ => false,
        };
        if !same {
            return Err("path_variant");
        }
    }
    match found {
        Some((at, captures)) => Ok((&policy.routes[at], captures)),
        None if policy.routes.iter().any(|route| match_host(&route.key, &request.host).is_some()) => Err("no_route"),
        None => Err("unknown_host"),
    }
}

/// The most specific route that matches.
fn best(policy: &Policy, request: &Read, reading: &Reading, fold: bool) -> Option<(usize, Captures)> {
    let mut best: Option<(usize, Captures)> = None;
    for (at, route) in policy.routes.iter().enumerate() {
        let others = policy.routes.iter().map(|route| &route.key);
        let Some(captures) = matches(&route.key, others, request, reading, fold) else { continue };
        let better =
            best.as_ref().is_none_or(|(other, _)| compare(&route.key, &policy.routes[*other].key) == Ordering::Greater);
        if better {
            best = Some((at, captures));
        }
    }
    best
}

fn matches<'k>(
    key: &Key,
    mut others: impl Iterator<Item = &'k Key>,
    request: &Read,
    reading: &Reading,
    fold: bool,
) -> Option<Captures> {
    let names = |key: &Key, method: &str| key.methods.iter().any(|name| name == method);
    let serves = key.methods.is_empty() || names(key, &request.method) || {
        request.method == "HEAD"
            && names(key, "GET")
            && !others.any(|other| shape(other, false) == shape(key, false) && names(other, "HEAD"))
    };
    if !serves {
        return None;
    }
    let mut captures = match_host(key, &request.host)?;
    match_path(&key.path, reading, fold, &mut captures).then_some(captures)
}

/// A key without the names of its captures and its methods.
fn shape(key: &Key, fold: bool) -> (Option<Host>, Vec<Segment>) {
    let path = key.path.iter().map(|segment| match segment {
        Segment::Capture(_) => Segment::One,
        Segment::CaptureRest(_) => Segment::Rest,
        Segment::Literal(text) if fold => Segment::Literal(read::folded(text)),
        Segment::Prefix(text) if fold => Segment::Prefix(read::folded(text)),
        other => other.clone(),
    });
    let host = key.host.clone().map(|host| match host {
        Host::Capture(_, name) => Host::Capture(String::new(), name),
        other => other,
    });
    (host, path.collect())
}

fn match_host(key: &Key, host: &str) -> Option<Captures> {
    match &key.host {
        None => Some(Captures::new()),
        Some(Host::Name(name)) => (name == host).then(Captures::new),
        Some(Host::Below(name)) => {
            host.strip_suffix(name)?.strip_suffix('.').filter(|before| !before.is_empty()).map(|_| Captures::new())
        }
        Some(Host::Capture(capture, name)) => {
            let label = host.strip_suffix(name)?.strip_suffix('.')?;
            let one = !label.is_empty() && !label.contains('.');
            one.then(|| Captures::from([(capture.clone(), label.to_owned())]))
        }
    }
}

fn match_path(pattern: &[Segment], path: &[(String, String, String)], fold: bool, captures: &mut Captures) -> bool {
    match (pattern.first(), path.first()) {
        (None, None) | (Some(Segment::Rest), _) => true,
        (Some(Segment::CaptureRest(name)), first) => {
            captures.insert(name.clone(), first.map_or_else(String::new, |(.., rest)| rest.clone()));
            true
        }
        (None, Some(_)) | (Some(_), None) => false,
        (Some(segment), Some((read, stands, _))) => {
            let matched = match segment {
                Segment::Literal(literal) if fold => read::folded(literal) == *read,
                Segment::Literal(literal) => literal == read,
                Segment::Prefix(prefix) if fold => read.starts_with(&read::folded(prefix)),
                Segment::Prefix(prefix) => read.starts_with(prefix),
                _ => true,
            };
            if let Segment::Capture(name) = segment {
                captures.insert(name.clone(), stands.clone());
            }
            matched && match_path(&pattern[1..], &path[1..], fold, captures)
        }
    }
}

/// Greater: more specific.
fn compare(one: &Key, two: &Key) -> Ordering {
    let host = |key: &Key| match &key.host {
        None => (0, 0, 0),
        Some(Host::Below(name)) => (1, name.split('.').count(), 0),
        Some(Host::Capture(_, name)) => (1, name.split('.').count(), 1),
        Some(Host::Name(_)) => (2, 0, 0),
    };
    let rank = |key: &Key, at: usize| match key.path.get(at) {
        Some(Segment::Literal(_)) => (4, 0),
        Some(Segment::Prefix(prefix)) => (3, prefix.len()),
        Some(Segment::One | Segment::Capture(_)) => (2, 0),
        None => (1, 0),
        Some(Segment::Rest | Segment::CaptureRest(_)) => (0, 0),
    };
    let order = host(one).cmp(&host(two));
    if order != Ordering::Equal {
        note("specificity: host");
        return order;
    }
    for at in 0..one.path.len().max(two.path.len()) {
        let (one, two) = (rank(one, at), rank(two, at));
        if one != two {
            note(match (one.0.max(two.0), one.0.min(two.0)) {
                (4, _) => "specificity: a literal",
                (3, 3) => "specificity: a longer prefix",
                (3, _) => "specificity: a prefix",
                (2, _) => "specificity: a capture",
                _ => "specificity: an end",
            });
            return one.cmp(&two);
        }
    }
    note("specificity: methods");
    one.methods.is_empty().cmp(&two.methods.is_empty()).reverse()
}

/// The captures of a guard, once for every way in which it covers the request.
fn covers(key: &Key, request: &Read) -> Vec<Captures> {
    let straight = read::straight(&request.path);
    let mut all: Vec<Captures> = matches(key, std::iter::empty(), request, &straight, false).into_iter().collect();
    for reading in read::looser(&request.path) {
        all.extend(matches(key, std::iter::empty(), request, &reading, true));
    }
    all.dedup();
    if !all.is_empty() {
        note("a guard covers");
    }
    all
}

// Identity.

fn identity<'p>(
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

fn address(policy: &Policy, question: &Question) -> Option<IpAddr> {
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

// Words.

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

fn is_in(address: IpAddr, network: &str) -> bool {
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
fn scope_would_help(rule: &Rule, scene: &Scene<'_>) -> bool {
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
