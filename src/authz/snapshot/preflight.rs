//! The preflight of a browser (Fetch §4.8): it has no credentials and gets none, so only what needs no identity is asked.

use super::{Basis, Gateway, Grant, Reason, Request, RuleRef, Scene, Snapshot, Strip, Truth, Witness};
use crate::authz::identity::Caller;
use crate::authz::request::Preflight;
use crate::authz::rule::{Expr, Word, Words};

impl Snapshot {
    /// The preflight that a request is; none where the policy says nothing of other origins.
    pub(super) fn preflight<'r>(&self, request: &Request<'r>) -> Option<Preflight<'r>> {
        self.policy.cors.as_ref().and_then(|_| request.preflight())
    }

    /// Lets a preflight pass to where the request that it announces would go, if pages of its origin may go there.
    pub(super) fn pass_preflight(
        &self,
        request: &Request<'_>,
        asked: &Preflight<'_>,
        gateway: Option<&Gateway>,
        basis: &mut Basis,
        witness: &mut impl Witness,
    ) -> Result<Grant, Reason> {
        let nothing_there = |reason| matches!(reason, Reason::NoRoute | Reason::UnknownHost);
        let refused = |reason| if nothing_there(reason) { Reason::PreflightRefused } else { reason };
        let (route, captures) = self.route(request, asked.method, basis).map_err(refused)?;
        self.policy
            .sharing(&request.host, Some(route))
            .and_then(|sharing| sharing.lists(asked.origin))
            .ok_or(Reason::PreflightRefused)?;
        let nobody = Caller::default();
        let address = gateway.and_then(|gateway| gateway.client_address(request));
        let scene = Scene { caller: &nobody, captures: &captures, address };
        self.permit_preflight(request, asked, &scene, basis, witness)?;
        if let Some(deny) = &route.deny {
            forbid(&deny.rule, RuleRef::RouteForbid(route.id), &scene, basis, witness)?;
        }
        self.grant(request, gateway, (route, &captures), &nobody, (Some(Strip::Everything), None))
    }

    /// Forbids and guards, as far as they are about the address: what they ask of the caller is asked of the request
    /// that follows.
    fn permit_preflight(
        &self,
        request: &Request<'_>,
        asked: &Preflight<'_>,
        scene: &Scene<'_>,
        basis: &mut Basis,
        witness: &mut impl Witness,
    ) -> Result<(), Reason> {
        for (at, deny) in (0_u32..).zip(&self.policy.forbids) {
            forbid(&deny.rule, RuleRef::Forbid(at), scene, basis, witness)?;
        }
        let mut unmet = Ok(());
        self.policy.covers.for_each(&request.host, asked.method, &request.path, |at, captures| {
            let (Ok(place), Some(guard)) = (u32::try_from(at), self.policy.guards.get(at)) else { return };
            let scene = Scene { captures, ..*scene };
            let _ = guard.rule.eval(&scene, witness.words(RuleRef::Guard(place), &scene));
            let reason = match foreseen(&guard.rule, &scene) {
                Some(Truth::False) => Reason::GuardUnmet,
                Some(Truth::Unknown) => Reason::FactUnknown,
                Some(Truth::True) | None => return,
            };
            if unmet.is_ok() {
                basis.rule = Some(RuleRef::Guard(place));
                unmet = Err(reason);
            }
        });
        unmet
    }
}

/// A forbid, as far as it is about the address.
fn forbid(
    rule: &Expr,
    named: RuleRef,
    scene: &Scene<'_>,
    basis: &mut Basis,
    witness: &mut impl Witness,
) -> Result<(), Reason> {
    let _ = rule.eval(scene, witness.words(named, scene));
    if matches!(foreseen(rule, scene), Some(Truth::True | Truth::Unknown)) {
        basis.rule = Some(named);
        return Err(Reason::Forbidden);
    }
    Ok(())
}

/// What a rule comes to whoever calls; `None` where that depends on who does. Unknown where the address is.
fn foreseen(rule: &Expr, scene: &Scene<'_>) -> Option<Truth> {
    let mut words = Words::default();
    let _ = rule.eval(scene, &mut words);
    let of_address = |word: &Word| matches!(word, Word::Network(_));
    if rule.words().any(|(at, word)| of_address(word) && words.truth(at) == Truth::Unknown) {
        return Some(Truth::Unknown);
    }
    match rule.suppose(&|at, word| if of_address(word) { words.truth(at) } else { Truth::Unknown }) {
        Truth::Unknown => None,
        settled @ (Truth::True | Truth::False) => Some(settled),
    }
}
