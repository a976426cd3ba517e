//! For how long, and for which requests, a gateway may use an answer again: `cache:` of a route.
//!
//! What is in no header (address, certificate, time, a proof) must not count in an answer that is used again: a route
//! where it might is never cached ([`Reuse::of`]), and neither is an answer in which it did (its `seconds`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::api_keys::{ApiKeys, Apps};
use super::condition::Variable;
use super::credential::Source;
use super::decision::{Basis, Denial, Verdict};
use super::policy::{Policy, Route};
use super::reason::Reason;
use super::request::Request;
use super::revocation::Checked;
use super::route::Pattern;
use super::rule::{Expr, Rule, Word};
use super::snapshot::Facts;
use super::time::Timestamp;

/// The longest that an answer may be used again.
pub const MOST: Duration = Duration::from_secs(30);
/// Stands for the names of all header lines of a request, in lower case, sorted, each as often as it came: an alias of a
/// managed header that came with one request is not removed by the answer to another. No header has such a name.
pub const NAMES: &str = ":names";
/// Headers on which the answer to any request may depend: how a denial is written, and whether the host is one.
const ALWAYS: [&str; 5] = [NAMES, "accept", "content-type", "host", "origin"];
/// Headers that make a request one that cannot be read where they come twice and differ.
const ONCE: [&[u8]; 8] = [
    b"authorization",
    b"origin",
    b"sec-fetch-site",
    b"sec-fetch-mode",
    b"content-type",
    b"x-request-id",
    b"x-envoy-external-address",
    b"host",
];

/// What a route says of using its answers again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reuse {
    most: Duration,
    vary: Arc<[Box<str>]>,
}

/// That an answer may be used again, by the gateway that was given it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// For so many seconds; at least one.
    pub seconds: u32,
    /// For requests that agree in method, host, path and query as they were sent, and in the values of these headers,
    /// [`NAMES`] among them.
    pub vary: Arc<[Box<str>]>,
}

/// Why no answer of a route may ever be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {
    /// The address of the caller counts.
    Address,
    /// The certificate of the caller counts.
    Certificate,
    /// The moment counts.
    Time,
    /// A condition may read any header.
    Headers,
    /// The upstream gets a token that was made for it.
    Mint,
    /// An issuer is asked about tokens.
    Introspection,
    /// A token needs a proof of possession.
    Proof,
}

impl Never {
    /// It in words.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Address => "the caller's address counts there",
            Self::Certificate => "the caller's certificate counts there",
            Self::Time => "the time counts there",
            Self::Headers => "its condition may read any header",
            Self::Mint => "its upstream gets tokens that are made for it",
            Self::Introspection => "an issuer is asked about tokens there",
            Self::Proof => "tokens need a proof there",
        }
    }
}

impl Reuse {
    /// What a route of this policy allows that says so; `most` in whole seconds.
    ///
    /// # Errors
    /// Why none of its answers may ever be used again.
    pub fn of(most: Duration, policy: &Policy, route: &Route) -> Result<Self, Never> {
        never(policy, route).map_or(Ok(()), Err)?;
        let mut vary: BTreeSet<&str> = ALWAYS.iter().copied().collect();
        if let Some(condition) = &route.condition {
            vary.extend(condition.headers_read().ok_or(Never::Headers)?);
        }
        for name in policy.carriers.cut(route.strip) {
            vary.insert(name);
        }
        if route.rule != Rule::Public {
            vary.insert("authorization");
            let issuers = route.issuers.iter().filter_map(|id| policy.issuers.get(usize::from(id.0)));
            let tokens = issuers.flat_map(|issuer| issuer.sources.iter());
            let keys = policy.api_keys.as_deref().filter(|_| route.apps != Apps::Nobody);
            let keys = keys.into_iter().flat_map(ApiKeys::sources);
            tokens.chain(keys).filter(|source| route.reads(source)).for_each(|source| vary.extend(carrier(source)));
        }
        Ok(Self { most, vary: vary.into_iter().map(Box::from).collect() })
    }

    /// How long at most.
    #[must_use]
    pub fn most(&self) -> Duration {
        self.most
    }

    /// The headers in whose values requests must agree.
    #[must_use]
    pub fn vary(&self) -> &[Box<str>] {
        &self.vary
    }

    /// That this answer may be used again, if it may.
    pub(super) fn cached(
        &self,
        policy: &Policy,
        (request, verdict, basis): (&Request<'_>, &Verdict, &Basis),
        facts: &Facts,
        now: Timestamp,
    ) -> Option<Cached> {
        let settled = match verdict {
            Verdict::Allow(grant) => grant.minted().is_none(),
            Verdict::Deny(denial) => is_lasting(denial),
        };
        let asked = facts.unseen.is_some() || facts.introspected.is_some();
        let preflight = policy.cors.is_some() && request.method == "OPTIONS";
        let twice = |name: &&[u8]| request.header(name).nth(1).is_some();
        let unsure = basis.revocation == Checked::Unknown || basis.caller.workload.is_some();
        if !settled || asked || preflight || unsure || request.seen.odd_names || ONCE.iter().any(twice) {
            return None;
        }
        let mut seconds = self.most.as_secs();
        for identity in basis.caller.identities() {
            if identity.binding().is_some() {
                return None;
            }
            let ends = identity.grants().iter().map(|grant| grant.until).chain([identity.expires()]);
            for end in ends {
                let left = end.as_millis().saturating_sub(now.as_millis()).max(0);
                seconds = seconds.min(u64::try_from(left).unwrap_or_default() / 1_000);
            }
        }
        let seconds = u32::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
        Some(Cached { seconds, vary: Arc::clone(&self.vary) })
    }
}

/// Whether the same would be denied again: only what the policy says of a caller who is known to be who it is, or nobody.
/// A credential that is not good may be so in a moment, and what could not be told may be told then.
fn is_lasting(denial: &Denial) -> bool {
    let by_policy = matches!(
        denial.reason(),
        Reason::Forbidden | Reason::GuardUnmet | Reason::RuleUnmet | Reason::ScopeMissing | Reason::ConditionUnmet
    );
    by_policy && denial.nonce().is_none()
}

/// Why no answer of this route may ever be used again.
fn never(policy: &Policy, route: &Route) -> Option<Never> {
    let is_public = route.rule == Rule::Public;
    let issuers = || route.issuers.iter().filter_map(|id| policy.issuers.get(usize::from(id.0)));
    let reads = |wanted: &dyn Fn(&Variable) -> bool| {
        route.condition.as_ref().is_some_and(|condition| condition.reads().any(|(variable, _)| wanted(variable)))
    };
    let own = policy.pattern(&route.key);
    let meets = |name: &str| match (policy.pattern(name), &own) {
        (Some(guard), Some(own)) => Pattern::may_meet(&guard, own),
        (None, _) | (_, None) => true,
    };
    let guards = policy.guards.iter().filter(|guard| meets(&guard.name)).map(|guard| &guard.rule);
    let forbids = policy.forbids.iter().chain(route.deny.as_deref()).map(|forbid| &forbid.rule);
    let asks_address = forbids.chain(guards).chain(route.rule.expr()).any(asks_address);
    if asks_address || reads(&|variable| *variable == Variable::Address) {
        Some(Never::Address)
    } else if !is_public && !policy.services.is_empty() {
        Some(Never::Certificate)
    } else if reads(&|variable| *variable == Variable::Now)
        || route.step_up.as_ref().is_some_and(|step_up| step_up.max_age().is_some())
    {
        Some(Never::Time)
    } else if policy.mint.is_some() && route.mint.is_some() {
        Some(Never::Mint)
    } else if route.introspects.is_some() {
        Some(Never::Introspection)
    } else if !is_public && issuers().count() > 0 && issuers().all(|issuer| issuer.proof.is_always_asked()) {
        Some(Never::Proof)
    } else {
        None
    }
}

fn asks_address(rule: &Expr) -> bool {
    rule.words().any(|(_, word)| matches!(word, Word::Network(_)))
}

/// The headers that tell of a credential in this place, and whether it may stand there. A query is a part of what requests
/// agree in anyway.
fn carrier(source: &Source) -> Vec<&str> {
    match source {
        Source::Bearer => vec!["authorization"],
        Source::Header(name) => vec![name],
        // What a cookie is good for depends on where the request comes from.
        Source::Cookie(_) => vec!["cookie", "sec-fetch-site", "origin"],
        Source::Query(_) => Vec::new(),
        Source::Subprotocol(_) => vec!["sec-websocket-protocol"],
    }
}
