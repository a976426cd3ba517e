//! One request in both policies: what it reaches, what it must meet there, and for whom that differs.

use super::condition::{self, About, Caller, Condition};
use super::{Side, Spot};
use crate::authz::credential::Source;
use crate::authz::identity::Truth;
use crate::authz::issuer::IssuerPolicy;
use crate::authz::policy::{Policy, Route};
use crate::authz::route::{Captures, Found};
use crate::authz::rule::Rule;

/// What a key captured of a request.
type Captured = Vec<(String, String)>;

/// How to read what a request reaches.
pub(super) struct Reach;

/// A route that a request reaches, and the guards that cover it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reached {
    /// The route's place in its policy.
    pub route: usize,
    captured: Captured,
    guards: Vec<(usize, Captured)>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Somebody without a credential.
    Nobody,
    /// Somebody with a good token of this issuer.
    Of(String),
    /// Somebody with a credential that the old policy would have refused, in this place.
    Bad(String),
}

/// Who passes the one and not the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Difference {
    pub gains: Option<(Who, Caller)>,
    pub loses: Option<(Who, Caller)>,
}

impl Reach {
    /// `None` where a request is denied whoever asks.
    pub fn of(policy: &Policy, spot: &Spot) -> Option<Reached> {
        let (host, method, path) = (&*spot.host, &*spot.method, &*spot.path);
        let Found::Route(id, captures) = policy.table.find(host, method, path) else { return None };
        if !policy.relaxed.case_variant && policy.table.variant_of(host, method, path, Some(id)) {
            return None;
        }
        let mut guards = Vec::new();
        policy.covers.for_each(host, method, path, |at, captures| guards.push((at, read(captures))));
        Some(Reached { route: usize::try_from(id.0).ok()?, captured: read(&captures), guards })
    }
}

fn read(captures: &Captures<'_>) -> Captured {
    captures.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn accepted<'p>(policy: &'p Policy, route: &'p Route) -> impl Iterator<Item = &'p IssuerPolicy> {
    let accepted = route.issuers.iter().filter_map(|id| policy.issuers.get(usize::from(id.0)));
    accepted.map(AsRef::as_ref).filter(|_| route.rule != Rule::Public)
}

type InPolicy<'p> = (&'p Policy, Option<&'p Reached>);

/// What a caller must meet; `None` where it is denied in any case.
fn condition((policy, reached): InPolicy<'_>, who: &Who) -> Option<Condition> {
    let reached = reached?;
    // A part of the policy that is not named here is a change that no review shows.
    let Policy {
        id: _,
        table: _,
        routes,
        covers: _,
        guards,
        forbids,
        issuers: _,
        gateways,
        contract: _,
        relaxed: _,
        sign_in: _,
    } = policy;
    let Route { id: _, key: _, rule, text: _, issuers: _ } = routes.get(reached.route)?;
    let route = routes.get(reached.route)?;
    let issuer = match (rule, who) {
        (Rule::Public, _) | (Rule::Anyone, Who::Nobody) => None,
        (Rule::Where(_), Who::Nobody) => return None,
        (Rule::Anyone | Rule::Where(_), Who::Of(name)) => Some(accepted(policy, route).find(|one| &*one.name == name)?),
        (Rule::Anyone | Rule::Where(_), Who::Bad(_)) => return None,
    };
    let about = About { issuer, gateways };
    let by = |captured: &Captured| {
        let captured = captured.clone();
        move |name: &str| captured.iter().find(|(here, _)| here == name).map(|(_, value)| value.clone())
    };
    let mut condition = Condition::default();
    condition.never.extend(forbids.iter().map(|forbid| about.formula(&forbid.rule, &|_| None)));
    for (at, captured) in &reached.guards {
        condition.must.push(about.formula(&guards.get(*at)?.rule, &by(captured)));
    }
    if let Rule::Where(expr) = rule {
        condition.must.push(about.formula(expr, &by(&reached.captured)));
    }
    let require = issuer.and_then(|issuer| issuer.require.as_ref());
    condition.must.extend(require.map(|rule| about.formula(rule, &|_| None)));
    Some(condition)
}

/// Whether somebody passes there who is not signed in.
pub(super) fn admits_anonymous(policy: &Policy, host: &str, method: &str, path: &str) -> bool {
    let (host, method, path) = (host.to_owned(), method.to_owned(), path.to_owned());
    let reached = Reach::of(policy, &Spot { odd: false, any_host: false, host, method, path });
    let condition = condition((policy, reached.as_ref()), &Who::Nobody);
    condition::compare(None, condition.as_ref()).gains.is_some()
}

/// Compares what each caller must meet in the two policies.
pub(super) fn difference(old: InPolicy<'_>, new: InPolicy<'_>) -> Difference {
    let mut callers = vec![Who::Nobody];
    for name in [old, new].into_iter().flat_map(issuers) {
        if !callers.contains(&Who::Of(name.clone())) {
            callers.push(Who::Of(name));
        }
    }
    let mut difference = Difference::default();
    let mut anyone_passes = false;
    for who in callers {
        let (before, after) = (condition(old, &who), condition(new, &who));
        anyone_passes |= after.is_some();
        let found = condition::compare(before.as_ref(), after.as_ref());
        note(&mut difference.gains, &who, found.gains);
        note(&mut difference.loses, &who, found.loses);
    }
    // A credential that is bad, or a second one, is a denial only where its place is looked at.
    let looked_at = sources(new);
    let ignored = sources(old).into_iter().find(|source| !looked_at.contains(source));
    if let Some(source) = ignored.filter(|_| anyone_passes) {
        note(&mut difference.gains, &Who::Bad(source), Some(Caller::default()));
    }
    if let Some(source) =
        looked_at.into_iter().find(|source| !sources(old).contains(source)).filter(|_| old.1.is_some())
    {
        note(&mut difference.loses, &Who::Bad(source), Some(Caller::default()));
    }
    difference
}

fn note(place: &mut Option<(Who, Caller)>, who: &Who, found: Option<Caller>) {
    // Who is sure to exist tells more than who may.
    let better = |found: &Caller| match place {
        None => true,
        Some((_, earlier)) => earlier.unsure && !found.unsure,
    };
    if let Some(found) = found.filter(better) {
        *place = Some((who.clone(), found));
    }
}

fn route<'p>((policy, reached): InPolicy<'p>) -> Option<&'p Route> {
    policy.routes.get(reached?.route)
}

fn issuers(side: InPolicy<'_>) -> Vec<String> {
    let names = |route| accepted(side.0, route).map(|issuer| issuer.name.to_string()).collect();
    route(side).map(names).unwrap_or_default()
}

fn sources(side: InPolicy<'_>) -> Vec<String> {
    let shown = |source: &Source| match source {
        Source::Bearer => "the bearer header".to_owned(),
        Source::Header(name) => format!("the header {name}"),
        Source::Cookie(name) => format!("the cookie {name}"),
    };
    let of = |route| accepted(side.0, route).flat_map(|issuer| issuer.sources.iter().map(shown)).collect();
    route(side).map(of).unwrap_or_default()
}

/// Both routes, with what each asks for beyond what both do.
pub(super) fn sides(old: InPolicy<'_>, new: InPolicy<'_>) -> (Option<Side>, Option<Side>) {
    let (before, after) = (asked(old), asked(new));
    let side = |of: InPolicy<'_>, own: &[String], others: &[String]| {
        let route = route(of)?;
        let rule = route.rule.to_string();
        let own: Vec<String> = own.iter().filter(|one| !others.contains(one)).cloned().collect();
        let rule = if own.is_empty() { rule } else { operand(&rule) };
        let asks = [&[rule], &*own].concat().join(" and ");
        Some(Side { key: route.key.to_string(), asks, issuers: issuers(of) })
    };
    (side(old, &before, &after), side(new, &after, &before))
}

/// The guards and forbids over a request.
fn asked((policy, reached): InPolicy<'_>) -> Vec<String> {
    let Some(reached) = reached else { return Vec::new() };
    let guards = reached.guards.iter().filter_map(|(at, _)| policy.guards.get(*at));
    let guards = guards.map(|guard| operand(&guard.rule.to_string()));
    guards.chain(policy.forbids.iter().map(|forbid| format!("never ({})", forbid.rule))).collect()
}

fn operand(rule: &str) -> String {
    if rule.contains(' ') { format!("({rule})") } else { rule.to_owned() }
}

/// Who passes `to` and not `from`, in words.
pub(super) fn whoever(to: Option<&Side>, from: Option<&Side>, who: &Who, odd: bool) -> String {
    let Some(to) = to else { return "nobody".into() };
    let whom = match &*to.asks {
        "public" => "everyone",
        "anyone" => "everyone whose credential is good, or who has none",
        "signed-in" => "everyone signed in",
        _ => "",
    };
    let meets = |side: &Side| format!("`{}`", side.asks);
    let words = match (whom, from) {
        ("", None) => format!("who meets {}", meets(to)),
        (whom, None) => whom.to_owned(),
        (_, Some(from)) if from.asks == to.asks && from.issuers != to.issuers && from.asks != "public" => {
            let others: Vec<&str> =
                to.issuers.iter().filter(|name| !from.issuers.contains(name)).map(String::as_str).collect();
            match others.as_slice() {
                [] => format!("who meets {}", meets(to)),
                others => format!("who meets {} by a token of {}", meets(to), others.join(" or ")),
            }
        }
        (_, Some(from)) if from.asks == to.asks => {
            format!("who meets {} in one policy and not in the other", meets(to))
        }
        ("", Some(from)) => format!("who meets {} and not {}", meets(to), meets(from)),
        (whom, Some(from)) => format!("{whom} who does not meet {}", meets(from)),
    };
    match who {
        Who::Bad(place) if from.is_some_and(|from| from.asks == to.asks) => {
            format!("who has a bad or a second credential in {place}, which is not looked at")
        }
        _ if odd => format!("{words}; by other spellings of the path only"),
        _ => words,
    }
}

/// The plainest caller and request.
pub(super) fn witness(who: &Who, caller: &Caller, does: &str, spot: &Spot) -> String {
    if caller.unsure {
        return format!("there may be a caller that {does} {spot}: the rules have too many words to try them all");
    }
    let with = |wanted: Truth| {
        let facts = caller.facts.iter().filter(move |(_, truth)| *truth == wanted);
        facts.map(|(fact, _)| fact.to_string()).collect::<Vec<_>>()
    };
    let mut words = match who {
        Who::Nobody => "a caller who is not signed in".to_owned(),
        Who::Of(issuer) => format!("a caller signed in by {issuer}"),
        Who::Bad(place) => format!("a caller with a bad credential in {place}"),
    };
    for (before, facts) in [(" with ", with(Truth::True)), (" without ", with(Truth::False))] {
        if !facts.is_empty() {
            words.push_str(before);
            words.push_str(&facts.join(", "));
        }
    }
    let unknown = with(Truth::Unknown);
    if !unknown.is_empty() {
        words.push_str(&format!(", of whom cannot be told {}", unknown.join(", ")));
    }
    format!("{words} {does} {spot}")
}
