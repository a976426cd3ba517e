//! One decision taken apart: what each gate saw, why it passed or not, and what would have passed.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::explanation::{Answer, Asked, Asking, Detail, Explanation, Gate, Told};
use super::miss::{nearest, told};
use super::scene::Sight;
use super::token::{Decoded, presented};
use super::{near, token};
use crate::authz::api_keys::Apps;
use crate::authz::condition::{self, Condition, Part};
use crate::authz::credential::query::without;
use crate::authz::decision::{Decision, Grant, RuleRef, Verdict};
use crate::authz::identity::{Caller, Truth};
use crate::authz::issuer::Issuer;
use crate::authz::json::{Json, Object};
use crate::authz::mint::claims_of;
use crate::authz::policy::{Policy, Route};
use crate::authz::proof::Sighting;
use crate::authz::reason::Reason;
use crate::authz::request::{Malformed, Request};
use crate::authz::revocation::{Checked, RevocationPolicy, Revocations};
use crate::authz::route::{Captures, Found};
use crate::authz::rule::{Expr, Rule, Scene, Watch, Word, WordId, Words};
use crate::authz::snapshot::{Facts, Question, Snapshot, Step, Witness};
use crate::authz::stepup::StepUp;
use crate::authz::time::Timestamp;
use crate::observe::audit::rfc3339;

/// A rule as the core evaluated it.
struct Seen {
    rule: RuleRef,
    words: Words,
    captures: Vec<(String, String)>,
}

/// Watches the core decide.
#[derive(Default)]
struct Watched(Vec<Seen>);

impl Witness for Watched {
    type Words = Self;

    fn words(&mut self, rule: RuleRef, scene: &Scene<'_>) -> &mut Self {
        self.0.push(Seen { rule, words: Words::default(), captures: owned(scene.captures) });
        self
    }
}

impl Watch for Watched {
    const SHORT_CUT: bool = false;

    fn word(&mut self, at: WordId, hit: Truth) {
        if let Some(seen) = self.0.last_mut() {
            seen.words.word(at, hit);
        }
    }
}

fn owned(captures: &Captures<'_>) -> Vec<(String, String)> {
    captures.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Decides, by the very code that serves, and tells how.
///
/// # Errors
/// What the decision needs to know of an issuer.
pub(super) fn explain(
    snapshot: &Snapshot,
    request: Result<&Request<'_>, Malformed>,
    facts: &Facts,
    now: Timestamp,
) -> Result<Explanation, Question> {
    let mut facts = facts.clone();
    let (watched, decision) = loop {
        let mut watched = Watched::default();
        match snapshot.decide_before(request, &facts, now, &mut watched) {
            Step::Decided(decision) => break (watched, decision),
            Step::Needs(question @ (Question::Keys(_) | Question::Key(..) | Question::Introspect(..))) => {
                return Err(question);
            }
            // Only those who serve know.
            Step::Needs(Question::Unseen(once)) => facts.unseen = Some((once, Sighting::First)),
        }
    };
    let policy = &**snapshot.policy();
    let route = decision.basis().route.and_then(|id| policy.route(id));
    let address = request.ok().and_then(|request| policy.gateways.of(request)?.client_address(request));
    let telling =
        Telling { snapshot, policy, request: request.ok(), route, address, now, decision: &decision, watched };
    Ok(Explanation {
        policy: policy.id.to_string(),
        time: rfc3339(now),
        notes: Vec::new(),
        sent: String::new(),
        request: request.ok().map(|request| Asked {
            method: request.method.to_owned(),
            host: request.host.to_string(),
            path: request.path.to_string(),
            query: request.query.map(|query| without(query, policy.carriers.queries()).into_owned()),
            address,
        }),
        gates: telling.gates(),
        verdict: telling.verdict(),
    })
}

/// How far a request came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Read,
    Route,
    Identity,
    Revocation,
    Policy,
    Headers,
    Passed,
}

struct Telling<'a> {
    snapshot: &'a Snapshot,
    policy: &'a Policy,
    request: Option<&'a Request<'a>>,
    route: Option<&'a Route>,
    address: Option<IpAddr>,
    now: Timestamp,
    decision: &'a Decision,
    watched: Watched,
}

impl Telling<'_> {
    fn reached(&self) -> Reached {
        let basis = self.decision.basis();
        match basis.reason {
            None => Reached::Passed,
            Some(_) if self.request.is_none() => Reached::Read,
            Some(Reason::HeadersFiltered) => Reached::Read,
            Some(Reason::NoRoute | Reason::UnknownHost | Reason::PathVariant | Reason::PreflightRefused) => {
                Reached::Route
            }
            Some(Reason::Revoked | Reason::RevocationUnknown) => Reached::Revocation,
            Some(_) if basis.rule.is_none() => Reached::Identity,
            Some(Reason::HeaderValueRefused | Reason::QueryAmbiguous | Reason::HeadersTooLarge) => Reached::Headers,
            Some(_) => Reached::Policy,
        }
    }

    fn gates(&self) -> Vec<Gate> {
        let reached = self.reached();
        let why = self.decision.basis().reason.map(Reason::meaning).unwrap_or_default();
        let gate = |gate, at: Reached, tell: &dyn Fn() -> (String, Vec<Detail>, Vec<Asking>)| {
            if at > reached {
                return Gate { gate, passed: None, says: String::new(), details: Vec::new(), rules: Vec::new() };
            }
            let (says, details, rules) = tell();
            let says = if at == reached && says.is_empty() { why.to_owned() } else { says };
            Gate { gate, passed: Some(at < reached), says, details, rules }
        };
        let read = || {
            let says = if reached == Reached::Read { "" } else { "it can be read in one way only" };
            (says.to_owned(), Vec::new(), Vec::new())
        };
        let headers = || {
            let says = if reached == Reached::Headers { "" } else { "each managed header is set or removed" };
            (says.to_owned(), Vec::new(), Vec::new())
        };
        let mut gates = vec![
            gate("read", Reached::Read, &read),
            gate("route", Reached::Route, &|| self.routing()),
            gate("identity", Reached::Identity, &|| self.identity()),
            gate("policy", Reached::Policy, &|| self.rules()),
            gate("headers", Reached::Headers, &headers),
        ];
        if let Some(revocation) = &self.policy.revocation {
            gates.insert(3, gate("revocation", Reached::Revocation, &|| self.revocation(revocation)));
        }
        gates
    }

    fn routing(&self) -> (String, Vec<Detail>, Vec<Asking>) {
        let Some(request) = self.request else { return Default::default() };
        if self.reached() == Reached::Route {
            return (String::new(), near::routes(self.policy, request), Vec::new());
        }
        let captures = match self.policy.table.find(&request.host, request.method, &request.path) {
            Found::Route(_, captures) => owned(&captures),
            Found::NoRoute | Found::UnknownHost => Vec::new(),
        };
        let captures = captures.into_iter().map(|(name, value)| Detail::new(&format!("{{{name}}}"), value));
        (self.route.map(|route| route.key.to_string()).unwrap_or_default(), captures.collect(), Vec::new())
    }

    /// The issuers whose tokens the route reads.
    fn accepted(&self) -> Vec<&Arc<Issuer>> {
        let ids = self.route.iter().flat_map(|route| route.issuers.iter());
        ids.filter_map(|id| self.snapshot.issuers().get(usize::from(id.0))).collect()
    }

    fn token(&self) -> Option<Decoded> {
        let accepted = self.accepted();
        presented(self.request?, accepted.iter().flat_map(|issuer| issuer.policy().sources.iter()))
    }

    fn identity(&self) -> (String, Vec<Detail>, Vec<Asking>) {
        let cors = self.policy.cors.as_ref();
        if cors.and_then(|_| self.request?.preflight()).is_some() {
            return ("it is a preflight: no credential is read, and none passes".to_owned(), Vec::new(), Vec::new());
        }
        if self.route.is_some_and(|route| matches!(route.rule, Rule::Public)) {
            return ("the route is public: no credential is read".to_owned(), Vec::new(), Vec::new());
        }
        let token = self.token();
        let mut details = token.as_ref().map(|token| token.details(self.now)).unwrap_or_default();
        let source = token.as_ref().map(|token| token.source.as_str()).unwrap_or_default();
        if let Some(identity) = self.decision.basis().caller.acting() {
            let roles: Vec<&str> = identity.roles().map(|role| &**role).collect();
            if !roles.is_empty() {
                details.push(Detail::new("roles", roles.join(", ")));
            }
            for grant in identity.grants() {
                let ticket = grant.ticket.as_ref().map(|ticket| format!(" ({ticket})")).unwrap_or_default();
                details.push(Detail::new("granted", format!("{} until {}{ticket}", grant.role, rfc3339(grant.until))));
            }
            let app = self.decision.basis().caller.app.as_ref();
            let key = app.and_then(|app| app.token_id()).map(|id| format!("the API key {id}"));
            let by = key.as_deref().filter(|_| identity.is_app()).unwrap_or(source).to_owned();
            if let (Some(app), false) = (app, identity.is_app()) {
                details.push(Detail::new("together with", app.principal().to_string()));
            }
            return (format!("{}, by {by}", identity.principal()), details, Vec::new());
        }
        let Some(reason) = self.decision.basis().reason.filter(|_| self.reached() == Reached::Identity) else {
            return (
                "nobody: the request has no credential, and the route asks for none".to_owned(),
                details,
                Vec::new(),
            );
        };
        details.extend(token.as_ref().map(|token| Detail::new("found", token.source.as_str())));
        let fault = token.as_ref().and_then(|token| token.fault(reason, &self.accepted(), self.route));
        details.extend(fault.map(|fault| Detail::new("fault", fault)));
        if reason == Reason::CredentialMissing {
            let sources = self.accepted().into_iter().flat_map(|issuer| issuer.policy().sources.iter());
            let keys =
                self.policy.api_keys.iter().filter(|_| self.route.is_some_and(|route| route.apps != Apps::Nobody));
            let sources: Vec<String> = sources
                .map(token::looked_for)
                .chain(keys.flat_map(|keys| keys.sources()).map(token::looked_for))
                .collect();
            details.push(Detail::new("looked for", sources.join(", ")));
        }
        (String::new(), details, Vec::new())
    }

    fn revocation(&self, policy: &RevocationPolicy) -> (String, Vec<Detail>, Vec<Asking>) {
        let basis = self.decision.basis();
        let shared = self.snapshot.revoked().filter(|_| policy.shared);
        let lists = [Some(&policy.listed), shared.map(|shared| &*shared.base), shared.map(|shared| &*shared.recent)];
        let lists: Vec<&Revocations> = lists.into_iter().flatten().collect();
        let found = basis
            .caller
            .identities()
            .flat_map(|identity| lists.iter().flat_map(|list| list.covering(identity, self.now)).collect::<Vec<_>>());
        let details: Vec<Detail> = found.map(|one| Detail::new("revoked", one.to_string())).collect();
        let says = match (self.reached() == Reached::Revocation, basis.revocation) {
            (true, _) => "",
            (false, Checked::Unknown) => "it is not known what is revoked, and the policy says `unknown: allow`",
            (false, Checked::Clear) => "nothing of it is revoked",
        };
        (says.to_owned(), details, Vec::new())
    }

    fn sight<'s>(&'s self, captures: &'s [(String, String)]) -> Sight<'s> {
        let caller = &self.decision.basis().caller;
        Sight { policy: self.policy, route: self.route, caller, captures, address: self.address }
    }

    /// The rule that a reference means: its kind, its name, its tree.
    fn rule(&self, rule: RuleRef) -> Option<(&'static str, &str, &Expr)> {
        let (kind, named) = match rule {
            RuleRef::Route(id) => {
                let route = self.policy.route(id)?;
                return Some(("route", &route.key, route.rule.expr()?));
            }
            RuleRef::RouteForbid(id) => ("forbid", &**self.policy.route(id)?.deny.as_ref()?),
            RuleRef::Guard(at) => ("guard", self.policy.guards.get(usize::try_from(at).ok()?)?),
            RuleRef::Forbid(at) => ("forbid", self.policy.forbids.get(usize::try_from(at).ok()?)?),
        };
        Some((kind, &named.name, &named.rule))
    }

    fn rules(&self) -> (String, Vec<Detail>, Vec<Asking>) {
        let mut rules = Vec::new();
        for seen in &self.watched.0 {
            let Some((kind, name, rule)) = self.rule(seen.rule) else { continue };
            let sight = self.sight(&seen.captures);
            let holds = rule.suppose(&|at, _| seen.words.truth(at));
            let words = rule.words().map(|(at, word)| Answer {
                word: word.to_string(),
                answer: match seen.words.truth(at) {
                    Truth::True => "hit",
                    Truth::False => "missed",
                    Truth::Unknown => "unknown",
                },
                compared: sight.compared(word),
            });
            rules.push(Asking {
                kind,
                name: name.to_owned(),
                rule: rule.to_string(),
                holds: match holds {
                    Truth::True => "true",
                    Truth::False => "false",
                    Truth::Unknown => "unknown",
                },
                passed: holds == target(seen.rule),
                words: words.collect(),
            });
        }
        rules.extend(self.condition().map(|(condition, parts)| self.asked(condition, &parts)));
        let says = match self.route.map(|route| &route.rule) {
            _ if self.reached() == Reached::Policy => String::new(),
            Some(Rule::Public) => "the route's rule is public".to_owned(),
            Some(Rule::Anyone) => "the route's rule is anyone".to_owned(),
            Some(Rule::Where(_)) | None => "every rule holds".to_owned(),
        };
        (says, self.sign_in().into_iter().collect(), rules)
    }

    /// What the route asks of a sign-in, and what the token says of it, where that was looked at.
    fn sign_in(&self) -> Option<Detail> {
        let asked = self.route?.step_up.as_deref()?;
        let looked_at = matches!(self.decision.basis().reason, None | Some(Reason::StepUpRequired));
        let user = self.decision.basis().caller.user.as_ref().filter(|_| looked_at)?;
        Some(Detail::new("signed in", signed_in(asked, user.claims(), self.now)))
    }

    /// The route's condition and its parts, where every rule before it passed.
    fn condition(&self) -> Option<(&Condition, Vec<Part<'_>>)> {
        let (route, request) = (self.route?, self.request?);
        let condition = route.condition.as_deref()?;
        let passed = |seen: &Seen| {
            let rule = self.rule(seen.rule).map(|(_, _, rule)| rule.suppose(&|at, _| seen.words.truth(at)));
            rule == Some(target(seen.rule))
        };
        if self.decision.basis().rule != Some(RuleRef::Route(route.id)) || !self.watched.0.iter().all(passed) {
            return None;
        }
        let Found::Route(_, captures) = self.policy.table.find(&request.host, request.method, &request.path) else {
            return None;
        };
        let who = Scene { caller: &self.decision.basis().caller, captures: &captures, address: self.address };
        let lent = self.policy.gateways.of(request).map_or(&[][..], |gateway| &*gateway.headers);
        Some((condition, condition.tell(&condition::Scene { request, who, lent, now: self.now })))
    }

    fn asked(&self, condition: &Condition, parts: &[Part<'_>]) -> Asking {
        let passed = !matches!(
            self.decision.basis().reason,
            Some(Reason::ConditionUnmet | Reason::ConditionFailed | Reason::CredentialMissing)
        );
        let answers = parts.iter().map(|part| Answer {
            word: one_line(part.text),
            answer: match part.told {
                Ok(true) => "hit",
                Ok(false) => "missed",
                Err(_) => "unknown",
            },
            compared: compared(part),
        });
        let unmet = parts.iter().any(|part| part.told == Ok(false));
        Asking {
            kind: "condition",
            name: self.route.map(|route| route.key.to_string()).unwrap_or_default(),
            rule: one_line(condition.text()),
            holds: match passed {
                true => "true",
                false if unmet => "false",
                false => "unknown",
            },
            passed,
            words: answers.collect(),
        }
    }

    fn verdict(&self) -> Told {
        match self.decision.verdict() {
            Verdict::Allow(grant) => self.allowed(grant),
            Verdict::Deny(denial) => Told {
                status: denial.status(),
                reason: Some(denial.reason().code()),
                meaning: Some(denial.reason().meaning()),
                challenge: denial.challenge().map(|challenge| challenge.into_owned()),
                location: denial.location().map(str::to_owned),
                nearest: self.nearest(),
                ..Told::default()
            },
        }
    }

    fn allowed(&self, grant: &Grant) -> Told {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let shown = |set: &(Bytes, Bytes), grant: &Grant| match grant.minted() {
            Some((name, _)) if *name == set.0 => "(a token of ours)".to_owned(),
            _ => text(&set.1),
        };
        let came = |name: &[u8]| self.request.is_some_and(|request| request.headers.iter().any(|h| h.name == name));
        let (removed, rest): (Vec<_>, Vec<_>) = grant.remove().partition(|name| came(name));
        Told {
            allowed: true,
            status: 200,
            set: grant.set().map(|set| (text(&set.0), shown(set, grant))).collect(),
            minted: grant.minted().and_then(|(_, token)| serde_json::from_slice(&claims_of(token)?).ok()),
            replaced: grant.set().filter(|(name, _)| came(name)).map(|(name, _)| text(name)).collect(),
            removed: removed.into_iter().map(|name| text(name)).collect(),
            also_removed: rest.len(),
            responses: grant.responses().map(|(name, value)| (text(name), text(value))).collect(),
            query: grant.query().map(|(name, value)| (text(name), text(value))).collect(),
            query_removed: grant.query_removed().map(|name| text(name)).collect(),
            metadata: grant.metadata().iter().map(|(name, datum)| (text(name), written(datum))).collect(),
            ..Told::default()
        }
    }

    /// What would have passed the gate that did not.
    fn nearest(&self) -> Vec<String> {
        match self.reached() {
            Reached::Policy if self.decision.basis().reason == Some(Reason::StepUpRequired) => {
                vec!["with a token of a new sign-in, as the challenge says".to_owned()]
            }
            Reached::Policy if let Some((_, parts)) = self.condition() => {
                let near: Vec<String> = parts.iter().filter(|part| part.told != Ok(true)).map(near_part).collect();
                vec![near.join(", and ")]
            }
            Reached::Policy => match self.watched.0.last() {
                Some(seen) => self.nearest_of(seen),
                None => Vec::new(),
            },
            Reached::Identity if self.decision.basis().reason == Some(Reason::CredentialMissing) => self.with_a_token(),
            _ => Vec::new(),
        }
    }

    fn nearest_of(&self, seen: &Seen) -> Vec<String> {
        let Some((_, _, rule)) = self.rule(seen.rule) else { return Vec::new() };
        let sight = self.sight(&seen.captures);
        let misses = nearest(rule, &seen.words, target(seen.rule), &|word, truth| sight.may(word, truth));
        let near = told(&misses, &sight).into_iter();
        match seen.rule {
            RuleRef::Route(_) => near.collect(),
            RuleRef::Guard(_) => near.map(|near| format!("this guard {near}")).collect(),
            RuleRef::Forbid(_) | RuleRef::RouteForbid(_) => near.map(|near| format!("this forbid {near}")).collect(),
        }
    }

    /// What a token would have to say, where there was none: its words all miss so far, and those that need none stay.
    fn with_a_token(&self) -> Vec<String> {
        let (Some(request), Some(Rule::Where(rule))) = (self.request, self.route.map(|route| &route.rule)) else {
            return Vec::new();
        };
        let Found::Route(_, captures) = self.policy.table.find(&request.host, request.method, &request.path) else {
            return Vec::new();
        };
        let (nobody, mut words) = (Caller::default(), Words::default());
        let _ = rule.eval(&Scene { caller: &nobody, captures: &captures, address: self.address }, &mut words);
        for (at, word) in rule.words() {
            if *word == Word::SignedIn
                && let Some(signed_in) = words.0.iter_mut().find(|(asked, _)| *asked == at)
            {
                signed_in.1 = Truth::True;
            }
        }
        let captures = owned(&captures);
        let sight = self.sight(&captures);
        let issuers: Vec<&str> = sight.accepted().map(|issuer| &*issuer.name).collect();
        let token = format!("with a token of {}", issuers.join(" or "));
        if rule.suppose(&|at, _| words.truth(at)) == Truth::True {
            return vec![token];
        }
        let misses = nearest(rule, &words, Truth::True, &|word, truth| sight.may(word, truth));
        told(&misses, &sight).into_iter().map(|rest| format!("{token}, {rest}")).collect()
    }
}

/// What is asked of a sign-in, and how it was.
fn signed_in(asked: &StepUp, claims: &Object, now: Timestamp) -> String {
    let mut parts = Vec::new();
    if let Some(age) = asked.max_age() {
        let was = match claims.get("auth_time") {
            Some(Json::Number(at)) => match at.as_i64().map(Timestamp::from_secs) {
                Some(at) if at <= now => format!("it was {} s ago", now.since(at).as_secs()),
                _ => format!("auth_time is {at}"),
            },
            Some(_) => "auth_time is no number".to_owned(),
            None => "the token has no auth_time".to_owned(),
        };
        parts.push(format!("at most {} s ago: {was}", age.as_secs()));
    }
    if !asked.acr().is_empty() {
        let was = match claims.get("acr") {
            Some(Json::Text(acr)) => format!("acr is {acr}"),
            Some(_) => "acr is no text".to_owned(),
            None => "the token has no acr".to_owned(),
        };
        parts.push(format!("by {}: {was}", asked.acr().join(" or ")));
    }
    parts.join("; ")
}

/// What a part of a condition read, and why it could not be told.
fn compared(part: &Part<'_>) -> String {
    let mut compared: Vec<String> = part.read.iter().map(|(what, is)| format!("{what}: {is}")).collect();
    if let Err(failure) = &part.told {
        let why = failure.to_string();
        compared.retain(|read| !read.ends_with(&why));
        compared.insert(0, why);
    }
    compared.join(", ")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn near_part(part: &Part<'_>) -> String {
    format!("if `{}` were true; {}", one_line(part.text), compared(part))
}

/// What a rule must come to.
fn target(rule: RuleRef) -> Truth {
    match rule {
        RuleRef::Forbid(_) | RuleRef::RouteForbid(_) => Truth::False,
        RuleRef::Guard(_) | RuleRef::Route(_) => Truth::True,
    }
}

fn written(datum: &Json) -> Value {
    match datum {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => Value::from(number.clone()),
        Json::Text(text) => Value::from(&**text),
        Json::List(items) => items.iter().map(written).collect(),
        Json::Object(object) => object.iter().map(|(name, value)| (name.to_owned(), written(value))).collect(),
    }
}
