//! The reference: what docs/policy.md says about a request, computed in the most naive way there is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::identity::{self, Identity};
use super::model::{Policy, Question, Token, Word};
use super::read::{self, Code};
use super::route;
use super::told;
use super::words::{holds, scope_would_help};

pub type Captures = BTreeMap<String, String>;

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Deny(Code),
    /// The header lines that reach the upstream, and the metadata.
    Allow(BTreeSet<(String, String)>, BTreeMap<String, Datum>),
}

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datum {
    Text(String),
    List(Vec<String>),
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
    let (route, captures) = route::route(policy, &request)?;
    let identity = identity::identity(policy, tokens, question, route)?;
    let address = identity::address(policy, question);
    let scene = |captures| Scene { policy, identity: identity.as_ref(), address, captures };

    for (_, rule) in &policy.forbids {
        if holds(rule, &scene(Captures::new())) != Some(false) {
            return Err("forbidden");
        }
    }
    for (key, rule) in &policy.guards {
        for captures in route::covers(key, &request) {
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
