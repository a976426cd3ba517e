//! What a word of a rule was compared with, and what would have to be otherwise, in words.

use std::net::IpAddr;
use std::sync::Arc;

use crate::authz::actor::{self, Actor};
use crate::authz::identity::{Caller, ClaimPath, Identity, Listed, Reading, Standing, Truth};
use crate::authz::issuer::IssuerPolicy;
use crate::authz::policy::{Policy, Route};
use crate::authz::rule::{Test, Word};

/// How many members of a list are told.
const MOST: usize = 12;

/// What the words of one rule looked at.
pub(super) struct Sight<'a> {
    pub policy: &'a Policy,
    pub route: Option<&'a Route>,
    pub caller: &'a Caller,
    pub captures: &'a [(String, String)],
    pub address: Option<IpAddr>,
}

impl<'a> Sight<'a> {
    fn identity(&self) -> Option<&'a Identity> {
        self.caller.acting().map(|identity| &**identity)
    }

    fn issuer(&self) -> Option<&'a IssuerPolicy> {
        let name = &self.identity()?.principal().issuer;
        self.policy.issuers.iter().find(|issuer| issuer.name == *name).map(|issuer| &**issuer)
    }

    fn capture(&self, name: &str) -> &str {
        self.captures.iter().find(|(here, _)| here == name).map_or("", |(_, value)| value)
    }

    /// What this word was compared with.
    pub fn compared(&self, word: &Word) -> String {
        if let Word::Network(_) = word {
            return match self.address {
                Some(address) => format!("the address is {address}"),
                None => "the address is not known: no gateway that is believed tells it (try --from)".to_owned(),
            };
        }
        if let Word::Service(_) = word {
            return self.workload();
        }
        if let Word::Key(_) = word {
            return match &self.caller.app {
                Some(app) => format!("the API key is one of {}", app.principal().subject),
                None => "no API key is shown (try --key)".to_owned(),
            };
        }
        let Some(identity) = self.identity() else { return "nobody is signed in".to_owned() };
        match word {
            Word::SignedIn => format!("it is {}", identity.principal()),
            Word::Role(name) => match self.derived(name) {
                Some(rule) => format!("the policy derives it: {rule}; {}", self.has(word)),
                None => self.has(word),
            },
            Word::Group(_) | Word::Scope(_) | Word::Issuer(_) => self.has(word),
            Word::Claim { path, test: Test::Capture(name) } => {
                format!("{}, {{{name}}} is {}", claim(identity, path), quoted(self.capture(name)))
            }
            Word::Claim { path, test: Test::Equals(_) | Test::Present } => claim(identity, path),
            Word::Owner(name) => {
                format!("sub is {}, {{{name}}} is {}", identity.principal().subject, quoted(self.capture(name)))
            }
            Word::Network(_) | Word::Service(_) => String::new(),
            Word::Key(_) => "no API key is known".to_owned(),
            Word::Actor(_) | Word::AnyActor => actors(identity),
        }
    }

    fn workload(&self) -> String {
        match (&self.caller.workload, self.caller.standing) {
            (Some(workload), _) => {
                let service = workload.service().map(|service| &**service).unwrap_or_default();
                format!("the caller's certificate is that of {service}: {}", workload.principal().subject)
            }
            (None, Standing::Untold) => "no gateway that is believed names the caller's certificate".to_owned(),
            (None, Standing::Acts | Standing::Carries) => "the caller's certificate is that of no service".to_owned(),
        }
    }

    fn derived(&self, name: &str) -> Option<String> {
        let derived = &self.issuer()?.derived;
        derived.iter().find(|(derived, _)| **derived == *name).map(|(_, rule)| rule.to_string())
    }

    /// What the identity has of the kind that a word asks for.
    fn has(&self, word: &Word) -> String {
        let Some(identity) = self.identity() else { return String::new() };
        let issuer = self.issuer();
        let unread = |what: &str, path: Option<&ClaimPath>| match path {
            Some(path) => format!("the token's {what} cannot be told: its claim `{path}` is missing or no list"),
            None => format!("the issuer `{}` says nowhere where {what} are (`{what}:`)", identity.principal().issuer),
        };
        match word {
            Word::Role(name) if identity.role(name) == Truth::Unknown && identity.has_list_elsewhere() => {
                ELSEWHERE.into()
            }
            Word::Role(name) if identity.role(name) == Truth::Unknown => {
                unread("roles", issuer.and_then(|issuer| issuer.roles.as_ref()))
            }
            Word::Role(_) => having("roles", identity.roles().map(|role| &**role)),
            Word::Group(_) => match identity.groups() {
                Listed::Known(groups) => having("groups", members(groups)),
                Listed::Elsewhere => ELSEWHERE.to_owned(),
                Listed::Unknown => unread("groups", issuer.and_then(|issuer| issuer.groups.as_ref())),
            },
            Word::Scope(_) => match identity.scopes() {
                Listed::Known(scopes) => having("scopes", members(scopes)),
                Listed::Elsewhere => ELSEWHERE.to_owned(),
                Listed::Unknown => unread("scopes", issuer.map(|issuer| &issuer.scopes)),
            },
            Word::Issuer(_) => format!("the token's issuer is {}", identity.principal().issuer),
            _ => String::new(),
        }
    }

    /// Whether a request could be made for which this word answers so. A capture that is empty equals nothing, and
    /// only a token of an issuer that the route accepts is read.
    pub fn may(&self, word: &Word, truth: Truth) -> bool {
        match word {
            Word::SignedIn => truth == Truth::True,
            Word::Key(name) => truth != Truth::True || self.route.is_some_and(|route| route.apps.take(name)),
            Word::Service(_) => false,
            Word::Issuer(name) if truth == Truth::True => self.accepted().any(|issuer| *issuer.name == **name),
            _ => truth != Truth::True || word.capture().is_none_or(|name| !self.capture(name).is_empty()),
        }
    }

    /// The issuers that the route accepts.
    pub fn accepted(&self) -> impl Iterator<Item = &'a Arc<IssuerPolicy>> {
        let issuers = self.route.iter().flat_map(|route| route.issuers.iter());
        issuers.filter_map(|id| self.policy.issuers.get(usize::from(id.0)))
    }

    /// What would have to be, and what is instead.
    pub fn flip(&self, word: &Word, truth: Truth) -> (String, String) {
        let (with, were) = match truth {
            Truth::True => ("with", "were"),
            Truth::False | Truth::Unknown => ("without", "were not"),
        };
        let is = if self.identity().is_some() { self.brief(word) } else { String::new() };
        match word {
            Word::SignedIn => ("with a token".to_owned(), String::new()),
            Word::Role(name) => (format!("{with} role {name}"), is),
            Word::Group(name) => (format!("{with} group {name}"), is),
            Word::Scope(name) => (format!("{with} scope {name}"), is),
            Word::Claim { path, test: Test::Equals(value) } => (format!("if {path} {were} {value}"), is),
            Word::Claim { path, test: Test::Capture(name) } => (format!("if {path} {were} {}", self.capture(name)), is),
            Word::Claim { path, test: Test::Present } => (format!("{with} the claim {path}"), String::new()),
            Word::Owner(name) => (format!("if sub {were} {}", self.capture(name)), is),
            Word::Issuer(name) => (format!("{with} a token of {name}"), is),
            Word::Network(network) => {
                let from = if truth == Truth::True { "from" } else { "from outside" };
                let is = self.address.map(|address| format!("the address is {address}"));
                (format!("{from} {network}"), is.unwrap_or_else(|| "the address is not known".to_owned()))
            }
            Word::Key(name) => (format!("{with} an API key of {name}"), String::new()),
            Word::Service(name) => (format!("{with} {name}"), String::new()),
            Word::Actor(name) => (format!("if the actor {were} {name}"), is),
            Word::AnyActor => (format!("{with} somebody who acts for the subject"), is),
        }
    }

    fn brief(&self, word: &Word) -> String {
        let Some(identity) = self.identity() else { return String::new() };
        let listed = |known: Option<Vec<&str>>| match known.as_deref() {
            None => self.has(word),
            Some([]) => "the token has none".to_owned(),
            Some(names) => format!("the token has {}", several(names.iter().copied())),
        };
        match word {
            Word::Role(name) if identity.role(name) == Truth::Unknown => listed(None),
            Word::Role(_) => listed(Some(identity.roles().map(|role| &**role).collect())),
            Word::Group(_) => listed(known(identity.groups())),
            Word::Scope(_) => listed(known(identity.scopes())),
            Word::Actor(_) | Word::AnyActor => actors(identity),
            Word::Owner(_) => format!("it is {}", identity.principal().subject),
            Word::Issuer(_) => format!("it is one of {}", identity.principal().issuer),
            Word::Claim { path, .. } => match identity.claim(path) {
                Reading::Missing => "the token has no such claim".to_owned(),
                Reading::One(value) => format!("it is {}", quoted(&value)),
                Reading::Many(values) => format!("it has {}", several(values.iter().map(|value| &**value))),
                Reading::Unreadable => "it is neither text nor a list of texts".to_owned(),
            },
            _ => String::new(),
        }
    }
}

/// Who acts for the subject, in words.
fn actors(identity: &Identity) -> String {
    let named = |actor: &Actor<'_>| match actor.elsewhere {
        None => actor.name.to_owned(),
        Some(issuer) => format!("{} of {issuer}", actor.name),
    };
    match actor::chain(identity.claims()).as_deref() {
        Err(_) => "the token's act cannot be read".to_owned(),
        Ok([]) => "the subject acts for itself".to_owned(),
        Ok([one]) => format!("the actor is {}", named(one)),
        Ok([first, before @ ..]) => {
            let before: Vec<String> = before.iter().map(named).collect();
            format!("the actor is {}, after {}", named(first), before.join(", "))
        }
    }
}

/// Why a list is not in the token.
const ELSEWHERE: &str =
    "the token had no room for this list: it only says where the list is (`_claim_names`, `hasgroups`)";

fn known(listed: &Listed) -> Option<Vec<&str>> {
    match listed {
        Listed::Known(names) => Some(members(names).collect()),
        Listed::Unknown | Listed::Elsewhere => None,
    }
}

fn members(names: &[Arc<str>]) -> impl Iterator<Item = &str> {
    names.iter().map(|name| &**name)
}

fn having<'n>(what: &str, names: impl Iterator<Item = &'n str>) -> String {
    match several(names) {
        none if none.is_empty() => format!("the token has no {what}"),
        names => format!("the token's {what}: {names}"),
    }
}

/// Some of the names, and how many more there are.
fn several<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut names: Vec<&str> = names.collect();
    let more = names.len().saturating_sub(MOST);
    names.truncate(MOST);
    let names = names.join(", ");
    if more == 0 { names } else { format!("{names} and {more} more") }
}

fn claim(identity: &Identity, path: &ClaimPath) -> String {
    match identity.claim(path) {
        Reading::Missing => format!("the token has no {path}"),
        Reading::One(value) => format!("{path} is {}", quoted(&value)),
        Reading::Many(values) => format!("{path} has {}", several(values.iter().map(|value| &**value))),
        Reading::Unreadable => format!("{path} is neither text nor a list of texts"),
    }
}

fn quoted(value: &str) -> String {
    if value.is_empty() { "empty".to_owned() } else { value.to_owned() }
}
