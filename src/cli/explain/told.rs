//! What a decision id tells to who has the key that sealed it.

use serde::Serialize;

use crate::authz::decision::RuleRef;
use crate::authz::decision_id::{NotOpened, SealingKey, Told};
use crate::authz::policy::{Named, Policy, PolicyId};
use crate::config::Compiled;
use crate::observe::audit::rfc3339;

/// An opened decision id.
#[derive(Debug, Serialize)]
pub(super) struct Opened {
    pub time: String,
    /// A random number of the process that decided, in hexadecimal.
    pub replica: String,
    pub policy: String,
    /// Whether that is the policy in the file; otherwise routes and rules are what the file has in their places now.
    pub same_policy: bool,
    pub this_policy: String,
    pub route: Option<String>,
    pub rule: Option<String>,
    pub allowed: bool,
    pub status: u16,
    pub reason: Option<&'static str>,
    pub meaning: Option<&'static str>,
    pub may_redirect: bool,
}

/// Why an id is not told.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Untold {
    #[error(
        "the policy has no `decision_key`, so that each process seals decision ids with a key of its own, which is \
         gone with it\n  cure: `decision_key: env:DECISION_KEY`, the same for all replicas; ids made from then on can \
         be explained"
    )]
    NoKey,
    #[error("{0}")]
    NotOpened(#[from] NotOpened),
}

/// Opens an id by a policy's `decision_key`.
pub(super) fn open(compiled: &Compiled, id: &str) -> Result<Opened, Untold> {
    let secret = &compiled.settings.decision_key.as_ref().ok_or(Untold::NoKey)?.0;
    let told = SealingKey::new(secret).ok_or(Untold::NoKey)?.open(id)?;
    Ok(opened(&compiled.policy, &told))
}

fn opened(policy: &Policy, told: &Told) -> Opened {
    let Told { at, replica, policy: id, route, rule, reason } = *told;
    let unnamed = "which this file does not have";
    let place = |at: u32, what: &str| format!("{what} number {}, {unnamed}", at.saturating_add(1));
    let route_of = |id: crate::authz::route::RouteId| policy.route(id);
    Opened {
        time: rfc3339(at),
        replica: format!("{replica:08x}"),
        policy: if id == PolicyId::default() { "none".to_owned() } else { id.to_string() },
        same_policy: id == policy.id,
        this_policy: policy.id.to_string(),
        route: route.map(|id| route_of(id).map_or_else(|| place(id.0, "route"), |route| route.key.to_string())),
        rule: rule.map(|rule| match rule {
            RuleRef::Route(id) => route_of(id).map_or_else(|| place(id.0, "route"), |route| route.text.to_string()),
            RuleRef::RouteForbid(id) => route_of(id)
                .and_then(|route| route.deny.as_ref())
                .map_or_else(|| place(id.0, "route"), |deny| format!("forbid {}: {}", deny.name, deny.rule)),
            RuleRef::Guard(at) => named(&policy.guards, at, "guard").unwrap_or_else(|| place(at, "guard")),
            RuleRef::Forbid(at) => named(&policy.forbids, at, "forbid").unwrap_or_else(|| place(at, "forbid")),
        }),
        allowed: reason.is_none(),
        status: reason.map_or(200, |reason| reason.status()),
        reason: reason.map(|reason| reason.code()),
        meaning: reason.map(|reason| reason.meaning()),
        may_redirect: policy.sign_in(route.and_then(route_of)).is_some()
            && reason.is_some_and(|reason| reason.status() == 401),
    }
}

fn named(rules: &[Named], at: u32, kind: &str) -> Option<String> {
    let named = rules.get(usize::try_from(at).ok()?)?;
    Some(format!("{kind} {}: {}", named.name, named.rule))
}
