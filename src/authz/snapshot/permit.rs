//! Gate 5: what the policy says of this caller and this request.

use super::{Snapshot, Witness};
use crate::authz::condition;
use crate::authz::decision::RuleRef;
use crate::authz::identity::Truth;
use crate::authz::policy::Route;
use crate::authz::reason::Reason;
use crate::authz::request::Request;
use crate::authz::rule::{Expr, Rule, Scene, Watch, Word, WordId, Words};

impl Snapshot {
    /// Forbids, then guards, then the route's own forbid and rule.
    pub(super) fn permit(
        &self,
        request: &Request<'_>,
        route: &Route,
        scene: &Scene<'_>,
        decided: &mut Option<RuleRef>,
        witness: &mut impl Witness,
    ) -> Result<(), Reason> {
        for (at, forbid) in (0_u32..).zip(&self.policy.forbids) {
            *decided = Some(RuleRef::Forbid(at));
            // What cannot be told not to hold is forbidden.
            if forbid.rule.eval(scene, witness.words(RuleRef::Forbid(at), scene)) != Truth::False {
                return Err(Reason::Forbidden);
            }
        }
        let mut unmet = Ok(());
        self.policy.covers.for_each(&request.host, request.method, &request.path, |at, captures| {
            let (Ok(place), Some(guard)) = (u32::try_from(at), self.policy.guards.get(at)) else { return };
            if unmet.is_ok() {
                *decided = Some(RuleRef::Guard(place));
                let scene = Scene { captures, ..*scene };
                unmet = require(&guard.rule, &scene, Reason::GuardUnmet, witness.words(RuleRef::Guard(place), &scene));
            }
        });
        unmet?;
        if let Some(deny) = &route.deny {
            let own = RuleRef::RouteForbid(route.id);
            *decided = Some(own);
            if deny.rule.eval(scene, witness.words(own, scene)) != Truth::False {
                return Err(Reason::Forbidden);
            }
        }
        *decided = Some(RuleRef::Route(route.id));
        match &route.rule {
            Rule::Public | Rule::Anyone => Ok(()),
            Rule::Where(rule) => {
                require(rule, scene, Reason::RuleUnmet, witness.words(RuleRef::Route(route.id), scene))?;
                // An address, or not to be another service, is no identity: it may hold of nobody.
                scene.caller.acting().map(drop).ok_or(Reason::CredentialMissing)
            }
        }
    }
}

/// A guard or a rule must be true: false and unknown both deny.
fn require(rule: &Expr, scene: &Scene<'_>, otherwise: Reason, watch: &mut impl Watch) -> Result<(), Reason> {
    match rule.eval(scene, watch) {
        Truth::True => Ok(()),
        Truth::False | Truth::Unknown if is_nobody(scene) && rule.asks_for_users() => Err(Reason::CredentialMissing),
        Truth::Unknown if is_overage(rule, scene) => Err(Reason::GroupsOverage),
        Truth::Unknown => Err(Reason::FactUnknown),
        Truth::False if otherwise == Reason::RuleUnmet && scopes_would_help(rule, scene) => Err(Reason::ScopeMissing),
        Truth::False => Err(otherwise),
    }
}

/// Whether neither a user nor an application has shown a credential.
fn is_nobody(scene: &Scene<'_>) -> bool {
    scene.caller.user.is_none() && scene.caller.app.is_none()
}

/// A route's condition must be true: false and what cannot be told both deny.
pub(super) fn meet(route: &Route, scene: &condition::Scene<'_>) -> Result<(), Reason> {
    let Some(condition) = &route.condition else { return Ok(()) };
    let reason = match condition.holds(scene) {
        Ok(true) => return Ok(()),
        Ok(false) => Reason::ConditionUnmet,
        Err(_) => Reason::ConditionFailed,
    };
    let would_signing_in_help = scene.who.caller.acting().is_none() && condition.is_about_caller();
    Err(if would_signing_in_help { Reason::CredentialMissing } else { reason })
}

/// Whether the rule asks for a list that had no room in the token.
fn is_overage(rule: &Expr, scene: &Scene<'_>) -> bool {
    let mut words = Words::default();
    let _ = rule.eval(scene, &mut words);
    let asks = |word: &Word| matches!(word, Word::Group(_) | Word::Role(_) | Word::Scope(_));
    scene.caller.acting().is_some_and(|identity| identity.has_list_elsewhere())
        && rule.words().any(|(at, word)| asks(word) && words.truth(at) == Truth::Unknown)
}

/// Whether the rule would hold for this caller if it had been given every scope.
fn scopes_would_help(rule: &Expr, scene: &Scene<'_>) -> bool {
    let mut words = Words::default();
    let _ = rule.eval(scene, &mut words);
    let truth = |at: WordId, word: &Word| if matches!(word, Word::Scope(_)) { Truth::True } else { words.truth(at) };
    rule.suppose(&truth) == Truth::True
}
