//! Lints: what loads and may not do what was meant. Each has a code, and its chapter in `docs/lints.md`.

mod implies;
mod open;
mod silence;
mod trust;
mod words;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub(super) use silence::Silence;

use self::implies::{Ask, Logic};
use super::error::{Problem, Span};
use super::file::File;
use crate::authz::issuer::IssuerPolicy;
use crate::authz::policy::{Policy, Route};
use crate::authz::route::{Pattern, Shapes};
use crate::authz::rule::Expr;

/// Every warning that a policy file can get, each with what it means.
pub const LINTS: &[(&str, &str)] = &[
    ("address_unread", "`client_address` at a gateway that is not believed about it"),
    ("any_peer", "everyone who reaches portcullis is believed to be this gateway"),
    ("cache_unread", "a route says for how long its answers may be used again, and none of them ever may"),
    ("capture_unchecked", "a route does not compare a capture that other routes below the same path compare"),
    ("duplicate_value", "a value is in a list twice"),
    ("forbid_closes_public", "a forbid that also holds for callers who are not signed in closes public routes"),
    ("forbid_never", "a forbid that can never be true"),
    ("group_unmapped", "a group is asked for, and no accepted issuer says where its groups are"),
    ("guard_idle", "a guard that covers no route"),
    ("holds_by_absence", "a permit that also holds for who has no such claim"),
    ("host_hides_routes", "a host's catch-all is taken instead of stricter routes that name no host"),
    ("id_tokens_accepted", "an issuer's id tokens are accepted as access tokens"),
    ("issuer_http", "an issuer's keys are fetched without TLS"),
    ("issuer_not_accepted", "a rule asks for an issuer whose tokens the route does not accept"),
    ("issuer_unused", "no route accepts an issuer"),
    ("issuers_unread", "a public route names issuers"),
    ("key_missing", "the key of the decision ids is not there"),
    ("key_refused", "a key of a key set is not used"),
    ("leeway_long", "tokens are accepted for more than two minutes after they ended"),
    ("lint_unneeded", "an entry under `lints` that silences nothing"),
    ("method_left_open", "methods that a key does not name fall to a route that is more open"),
    ("no_routes", "there are no routes"),
    ("nonce_not_shared", "nonces of DPoP proofs that no other replica would know"),
    ("path_relaxed", "a relaxed path can reach the upstream past a guard or a stricter route"),
    ("role_many_issuers", "several issuers can grant a role that rules ask for"),
    ("role_ungranted", "a role is asked for that no accepted issuer may grant"),
    ("role_unmapped", "a role is asked for, and no accepted issuer says where its roles are"),
    ("role_unused", "a derived role that nothing asks for"),
    ("route_more_open", "a route is more open than the one that it takes requests from"),
    ("rule_never", "a rule that nobody can meet"),
    ("stale_long", "keys are believed for more than a week after they could last be fetched"),
    ("subject_ambiguous", "subjects of several issuers are compared without telling them apart"),
    ("trailing_slash", "a slash at the end of a key makes no difference"),
];

/// Whether a code is a lint, and so can be silenced and has a chapter.
#[must_use]
pub fn is_lint(code: &str) -> bool {
    LINTS.binary_search_by_key(&code, |(name, _)| name).is_ok()
}

/// Looks at a policy and at the file that it came from. Takes time in proportion to the number of routes.
pub(super) fn lint(file: &File, policy: &Policy) -> Vec<Problem> {
    // Where a key cannot be read again, numbers would not be those of the policy.
    let read = |keys: &mut dyn Iterator<Item = &str>| keys.map(|key| policy.pattern(key)).collect::<Option<Vec<_>>>();
    let routes = read(&mut policy.routes.iter().map(|route| &*route.key));
    let guards = read(&mut policy.guards.iter().map(|guard| &*guard.name));
    let (Some(routes), Some(guards)) = (routes, guards) else { return Vec::new() };
    if routes.len() != file.routes.len() || guards.len() != file.guards.len() {
        return Vec::new();
    }
    let mut logic = Logic::default();
    let asks = policy.routes.iter().zip(&routes).map(|(route, pattern)| logic.ask(route, pattern)).collect();
    let guard_asks = policy.guards.iter().zip(&guards).map(|(guard, pattern)| logic.part(&guard.rule, pattern));
    let mut linter = Linter {
        file,
        policy,
        shapes: Shapes::new(&routes),
        guard_shapes: Shapes::new(&guards),
        routes: &routes,
        guards: &guards,
        asks,
        guard_asks: guard_asks.collect(),
        logic,
        derived: policy.issuers.first().map(derived).unwrap_or_default(),
        told: HashSet::new(),
        found: Vec::new(),
    };
    linter.open();
    linter.words();
    linter.trust();
    linter.found
}

fn derived(issuer: &Arc<IssuerPolicy>) -> HashMap<&str, &Expr> {
    issuer.derived.iter().map(|(name, rule)| (&**name, rule)).collect()
}

/// One policy while it is looked at.
struct Linter<'c> {
    file: &'c File,
    policy: &'c Policy,
    /// The keys of the routes, by [`crate::authz::route::RouteId`], and by their shapes.
    routes: &'c [Pattern],
    shapes: Shapes<'c>,
    /// The keys of the guards, in the policy's order, and by their shapes.
    guards: &'c [Pattern],
    guard_shapes: Shapes<'c>,
    /// What each route asks for by its own line.
    asks: Vec<Ask>,
    /// What each guard asks for.
    guard_asks: Vec<usize>,
    logic: Logic,
    /// The roles that the policy derives; the same for every issuer.
    derived: HashMap<&'c str, &'c Expr>,
    /// Shapes that were told of.
    told: HashSet<String>,
    found: Vec<Problem>,
}

impl<'c> Linter<'c> {
    fn warn(&mut self, problem: Problem) {
        self.found.push(problem);
    }

    /// A route's key as it was written, and where.
    fn key(&self, route: usize) -> Option<(&'c str, Span)> {
        self.file.routes.get(route).map(|route| (&*route.key.value, route.key.span))
    }

    fn route(&self, at: usize) -> Option<(&'c Route, &'c Pattern)> {
        self.policy.routes.get(at).zip(self.routes.get(at))
    }
}

#[cfg(test)]
mod tests;
