//! Words that cannot hold, hold where nobody thought of it, or are missing where others have them.

use std::collections::{HashMap, HashSet};

use super::Linter;
use crate::authz::identity::Truth;
use crate::authz::issuer::IssuerId;
use crate::authz::route::Pattern;
use crate::authz::rule::{Expr, Rule, Word};
use crate::config::error::Problem;

/// Where a capture is compared.
struct Compared<'k> {
    shape: String,
    key: &'k Pattern,
    /// Another key, of another shape.
    other: Option<&'k Pattern>,
}

impl<'c> Linter<'c> {
    pub(super) fn words(&mut self) {
        self.captures();
        self.rules();
        self.guards();
        self.forbids();
    }

    /// A capture that is compared on one route, and not on another one below the same path.
    fn captures(&mut self) {
        let rules = self.policy.routes.iter().map(|route| route.rule.expr()).zip(self.routes);
        let guards = self.policy.guards.iter().map(|guard| Some(&guard.rule)).zip(self.guards);
        let mut compared: HashMap<(String, &str), Compared<'_>> = HashMap::new();
        for (rule, key) in rules.chain(guards) {
            let used: HashSet<&str> = rule.into_iter().flat_map(|rule| rule.captures_used()).collect();
            for (stem, name) in key.capture_stems().into_iter().filter(|(_, name)| used.contains(name)) {
                let shape = key.shape_key();
                let first =
                    compared.entry((stem, name)).or_insert_with(|| Compared { shape: shape.clone(), key, other: None });
                if first.other.is_none() && first.shape != shape {
                    first.other = Some(key);
                }
            }
        }
        if compared.is_empty() {
            return;
        }
        for (at, (route, key)) in self.policy.routes.iter().zip(self.routes).enumerate() {
            // A condition may compare it too.
            let Some(rule) = route.rule.expr().filter(|_| route.condition.is_none()) else { continue };
            let used: HashSet<&str> = rule.captures_used().collect();
            for (stem, name) in key.capture_stems().into_iter().filter(|(_, name)| !used.contains(name)) {
                let Some(first) = compared.get(&(stem, name)) else { continue };
                // Of one path in two lines, each method was thought of.
                let other = if first.shape == key.shape_key() { first.other } else { Some(first.key) };
                let Some(other) = other else { continue };
                if self.is_guarded(key, name) {
                    continue;
                }
                let Some((_, span)) = self.key(at) else { continue };
                let message = format!("`{{{name}}}` is compared with the caller on `{other}`, and not here");
                let cure =
                    format!("compare it too, as with claim:{name}={{{name}}}; or write `*` where it may be anything");
                self.found.push(Problem::warning("capture_unchecked", span, message).cure(cure));
            }
        }
    }

    /// Whether a guard compares what this key captures.
    fn is_guarded(&self, key: &Pattern, name: &str) -> bool {
        let place = key.place_of(name);
        self.guard_shapes.around(key).into_iter().flatten().any(|at| {
            let guard = self.policy.guards.get(*at).zip(self.guards.get(*at));
            guard.is_some_and(|(guard, pattern)| guard.rule.captures_used().any(|used| pattern.place_of(used) == place))
        })
    }

    /// Words and whole rules that can never hold.
    fn rules(&mut self) {
        for (at, route) in self.policy.routes.iter().enumerate() {
            let Rule::Where(rule) = &route.rule else { continue };
            let Some(file) = self.file.routes.get(at) else { continue };
            let ungranted = self.ungranted(rule, &route.issuers);
            if let Some(role) = ungranted {
                let message = format!("no issuer that is accepted here may grant the role `{role}`");
                let cure = "add it to `may_grant` of the issuer that is meant, or accept another one";
                self.found.push(Problem::warning("role_ungranted", file.rule.span(), message).cure(cure));
                continue;
            }
            let parts = self.asks.get(at).map(|ask| ask.parts.clone()).unwrap_or_default();
            if parts.iter().any(|part| !self.logic.can_hold(*part)) {
                let message = format!("nobody can meet `{}`: its words contradict each other", route.text);
                let cure = "one issuer, one network and one subject at a time: use `or`, or two routes";
                self.found.push(Problem::warning("rule_never", file.rule.span(), message).cure(cure));
            }
        }
    }

    /// A role in a rule that issuers say roles of, and that none of them may grant.
    fn ungranted(&self, rule: &Expr, accepted: &[IssuerId]) -> Option<Box<str>> {
        let is_known = |role: &str| {
            let listed = |id: &IssuerId| self.policy.issuers.get(usize::from(id.0)).is_some_and(|i| i.roles.is_some());
            self.derived.contains_key(role) || accepted.iter().any(listed)
        };
        rule.words().find_map(|(_, word)| match word {
            Word::Role(role) if is_known(role) && !accepted.iter().any(|id| self.grants(*id, role)) => {
                Some(role.clone())
            }
            _ => None,
        })
    }

    /// Whether an identity of this issuer can have a role: listed in its tokens, or derived from them.
    pub(super) fn grants(&self, id: IssuerId, role: &str) -> bool {
        let Some(issuer) = self.policy.issuers.get(usize::from(id.0)) else { return false };
        let derives = || {
            self.derived.get(role).is_some_and(|rule| {
                let answer = |_, word: &Word| match word {
                    Word::Issuer(name) if **name != *issuer.name => Truth::False,
                    _ => Truth::True,
                };
                negates(rule) || rule.suppose(&answer) == Truth::True
            })
        };
        issuer.may_grant.covers(role) && (issuer.roles.is_some() || derives())
    }

    fn guards(&mut self) {
        for (at, (name, rule)) in self.file.guards.iter().enumerate() {
            let Some(pattern) = self.guards.get(at) else { continue };
            if self.shapes.meeting(pattern).is_empty() {
                let message = "this guard covers no route";
                let cure = "remove it, or write it as the routes that are meant";
                self.found.push(Problem::warning("guard_idle", name.span, message).cure(cure));
            } else if self.guard_asks.get(at).is_some_and(|part| !self.logic.can_hold(*part)) {
                let message = "nobody can meet this guard: its words contradict each other";
                self.found.push(Problem::warning("rule_never", rule.span(), message));
            }
        }
    }

    fn forbids(&mut self) {
        let open = self.policy.routes.iter().position(|route| matches!(route.rule, Rule::Public | Rule::Anyone));
        let anywhere = Pattern::parse("/**");
        let Ok(anywhere) = &anywhere else { return };
        for (forbid, (name, rule)) in self.policy.forbids.iter().zip(&self.file.deny) {
            let part = self.logic.part(&forbid.rule, anywhere);
            if !self.logic.can_hold(part) {
                let message = format!("`{}` can never be true", forbid.rule);
                self.found.push(Problem::warning("forbid_never", rule.span(), message).cure("remove it, or use `or`"));
                continue;
            }
            let Some((open, (key, there))) = open.and_then(|open| Some((open, self.key(open)?))) else { continue };
            let nobody = |network: Truth| {
                let answer = |_, word: &Word| if let Word::Network(_) = word { network } else { Truth::False };
                forbid.rule.suppose(&answer) != Truth::False
            };
            if !forbid.rule.without_identity() && nobody(Truth::False) && nobody(Truth::True) {
                let more = self.policy.routes.iter().skip(open).filter(|route| route.rule.expr().is_none()).count();
                let message = format!(
                    "this forbid holds for whoever is not signed in: it closes {}",
                    if more > 1 { format!("`{key}` and {} more", more.saturating_sub(1)) } else { format!("`{key}`") }
                );
                let problem = Problem::warning("forbid_closes_public", rule.span(), message)
                    .related(there, "nobody is signed in here")
                    .related(name.span, "the forbid");
                self.found.push(problem.cure(format!("signed-in and ({})", forbid.rule)));
            }
        }
    }
}

/// Whether a rule says `not` anywhere.
fn negates(rule: &Expr) -> bool {
    match rule {
        Expr::Word(..) => false,
        Expr::Not(_) => true,
        Expr::All(parts) | Expr::Any(parts) => parts.iter().any(negates),
    }
}
