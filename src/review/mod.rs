//! Two policies side by side: who gains and who loses which routes, without any traffic.

mod api_keys;
mod believed;
mod condition;
mod fact;
pub mod openapi;
mod route;
mod shape;
mod site;
mod space;
mod told;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::authz::policy::Policy;
use crate::config::Compiled;
use condition::Caller;
use route::{Reach, Reached};
use shape::Shape;
pub use space::Spot;

/// What a change comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The same requests pass.
    #[default]
    Same,
    /// Someone does not pass now who did.
    Narrowed,
    /// Someone passes now who did not.
    Widened,
    /// Both, or it cannot be told.
    Changed,
}

impl Verdict {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (one, two) if one == two => one,
            (Self::Same, other) | (other, Self::Same) => other,
            _ => Self::Changed,
        }
    }

    /// Whether someone may pass now who did not.
    #[must_use]
    pub fn may_widen(self) -> bool {
        matches!(self, Self::Widened | Self::Changed)
    }

    /// `same`, `narrowed`, `widened` or `changed`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Narrowed => "narrowed",
            Self::Widened => "widened",
            Self::Changed => "changed",
        }
    }
}

/// Requests that reach these keys, and for whom that is different now.
#[derive(Clone, Debug, Serialize)]
pub struct RouteChange {
    /// What it comes to.
    pub verdict: Verdict,
    /// The key that they reached; `None` where they were denied whoever asked.
    pub old: Option<Side>,
    /// The key that they reach.
    pub new: Option<Side>,
    /// Who passes now, in words.
    pub gains: String,
    /// Who does not pass any more, in words.
    pub loses: String,
    /// The plainest request and caller that passes now and did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passes_now: Option<String>,
    /// The plainest request and caller that passed and does not now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed_before: Option<String>,
}

/// A route in one of the policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Side {
    /// Its key.
    pub key: String,
    /// All that it asks for: its rule, and the guards and forbids that the other policy has not.
    pub asks: String,
    /// Whose tokens it accepts.
    pub issuers: Vec<String>,
}

/// A change outside of the routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteChange {
    /// The section of the policy file.
    pub section: &'static str,
    /// What of it.
    pub name: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// What was changed.
    pub text: String,
}

/// How one policy differs from another.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// All together.
    pub verdict: Verdict,
    /// By the keys that requests reach, in the new policy's order.
    pub routes: Vec<RouteChange>,
    /// Issuers, gateways, paths, headers.
    pub site: Vec<SiteChange>,
    /// Keys that only the new policy has.
    pub added: Vec<String>,
    /// Keys that only the old policy has.
    pub removed: Vec<String>,
    /// Whether the keys are too many to be compared: the verdict then is `changed`.
    pub too_large: bool,
}

/// Compares two policies.
#[must_use]
pub fn compare(old: &Compiled, new: &Compiled) -> Comparison {
    let mut site = site::changes(old, new);
    let (old, new) = (&*old.policy, &*new.policy);
    let keys = |policy: &Policy| policy.routes.iter().map(|route| route.key.to_string()).collect::<BTreeSet<_>>();
    let (before, after) = (keys(old), keys(new));
    let shapes: Vec<Shape> = [old, new].into_iter().flat_map(shapes).collect();
    let spots = space::spots(&shapes);
    let too_large = spots.is_none();
    let mut told = told::Told::default();
    let routes = routes(old, new, &spots.unwrap_or_default(), &mut told);
    site.extend(told.changes());
    let verdicts = routes.iter().map(|change| change.verdict).chain(site.iter().map(|change| change.verdict));
    let verdict = verdicts.fold(if too_large { Verdict::Changed } else { Verdict::Same }, Verdict::and);
    Comparison {
        verdict,
        routes,
        site,
        added: after.difference(&before).cloned().collect(),
        removed: before.difference(&after).cloned().collect(),
        too_large,
    }
}

fn shapes(policy: &Policy) -> impl Iterator<Item = Shape> {
    let routes = policy.routes.iter().map(|route| &route.key);
    routes.chain(policy.guards.iter().map(|guard| &guard.name)).flat_map(|key| Shape::all(policy, key))
}

/// What there is of something in the old policy and in the new one.
type Pair<T> = (Option<T>, Option<T>);

/// What became of all requests that reach one key of each policy.
#[derive(Default)]
struct Found {
    gains: Option<(Spot, route::Who, Caller)>,
    loses: Option<(Spot, route::Who, Caller)>,
    sides: Option<Pair<Side>>,
}

fn routes(old: &Policy, new: &Policy, spots: &[Spot], told: &mut told::Told) -> Vec<RouteChange> {
    // Plain spellings and short paths first, so that the plainest is the witness.
    let mut spots: Vec<&Spot> = spots.iter().collect();
    spots.sort_by_key(|spot| (spot.odd, spot.path.len(), spot.method != "GET", *spot));
    let mut compared: BTreeMap<Pair<Reached>, (route::Difference, Pair<Side>)> = BTreeMap::new();
    let mut found: BTreeMap<(Option<usize>, Option<usize>), Found> = BTreeMap::new();
    for spot in spots {
        let reach = (Reach::of(old, spot), Reach::of(new, spot));
        if reach == (None, None) {
            continue;
        }
        if let (Some(one), Some(two)) = (route::route((old, reach.0.as_ref())), route::route((new, reach.1.as_ref()))) {
            told.note(&spot.host, (old, one), (new, two));
        }
        let place = |reached: &Option<Reached>| reached.as_ref().map(|reached| reached.route);
        let entry = found.entry((place(&reach.1), place(&reach.0))).or_default();
        let (difference, sides) = compared.entry(reach).or_insert_with_key(|(one, two)| {
            let difference = route::difference((old, one.as_ref()), (new, two.as_ref()));
            (difference, route::sides((old, one.as_ref()), (new, two.as_ref())))
        });
        let mut note = |place: &mut Option<(Spot, route::Who, Caller)>, found: &Option<(route::Who, Caller)>| {
            if let (None, Some((who, caller))) = (&place, found) {
                *place = Some((spot.clone(), who.clone(), caller.clone()));
                // The sides are those of what is shown.
                entry.sides.get_or_insert_with(|| sides.clone());
            }
        };
        note(&mut entry.gains, &difference.gains);
        // That a spelling is refused which upstreams may read otherwise takes nothing from anybody.
        if !spot.odd {
            note(&mut entry.loses, &difference.loses);
        }
    }
    found.into_values().filter_map(Found::told).collect()
}

impl Found {
    fn told(self) -> Option<RouteChange> {
        let (old, new) = self.sides?;
        let verdict = match (&self.gains, &self.loses) {
            (None, None) => return None,
            (Some(_), None) => Verdict::Widened,
            (None, Some(_)) => Verdict::Narrowed,
            (Some(_), Some(_)) => Verdict::Changed,
        };
        let who = |found: &Option<(Spot, route::Who, Caller)>, to: &Option<Side>, from: &Option<Side>| {
            found
                .as_ref()
                .map_or("nobody".into(), |(spot, who, _)| route::whoever(to.as_ref(), from.as_ref(), who, spot.odd))
        };
        let witness = |found: &Option<(Spot, route::Who, Caller)>, now: &str| {
            found.as_ref().map(|(spot, who, caller)| route::witness(who, caller, now, spot))
        };
        Some(RouteChange {
            verdict,
            gains: who(&self.gains, &new, &old),
            loses: who(&self.loses, &old, &new),
            passes_now: witness(&self.gains, "now passes"),
            passed_before: witness(&self.loses, "no longer passes"),
            old,
            new,
        })
    }
}

#[cfg(test)]
mod tests;
