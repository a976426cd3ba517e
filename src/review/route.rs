//! One request in both policies: what it reaches, what it must meet there, and for whom that differs.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::condition::{self, About, Caller, Condition, Formula, Whom};
use super::fact::Fact;
use super::{Side, Spot};
use crate::authz::api_keys::Apps;
use crate::authz::condition::{Condition as When, Variable};
use crate::authz::credential::Source;
use crate::authz::gateways::Gateways;
use crate::authz::identity::Truth;
use crate::authz::issuer::IssuerPolicy;
use crate::authz::policy::{Policy, Route};
use crate::authz::route::{Captures, Found};
use crate::authz::rule::{Expr, Rule, Word};
use crate::authz::stepup::StepUp;

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
    /// A service that calls by itself, where it may.
    Service(String),
    /// An application with a good key of this owner; of one that no rule names, where there is none.
    App(Option<String>),
    /// Somebody with a good token of this issuer; in this place, where it is read in one of the policies only.
    Of(String, Option<String>),
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
        if policy.table.variant_of(host, method, path, Some(id), policy.relaxed.case_variant) {
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

/// Where a route looks for the tokens of an issuer.
fn places<'p>(route: &'p Route, issuer: &'p IssuerPolicy) -> impl Iterator<Item = String> {
    issuer.sources.iter().filter(|source| route.reads(source)).map(place)
}

pub(super) type InPolicy<'p> = (&'p Policy, Option<&'p Reached>);

/// A part of the policy that is not named here is a change that no review shows: it is compared by [`condition`], or in
/// `site` and `told`.
fn all_is_compared(policy: &Policy, route: &Route) {
    let Policy {
        id: _,
        hosts: _,
        table: _,
        routes: _,
        covers: _,
        guards: _,
        forbids: _,
        issuers: _,
        grants: _,
        revocation: _,
        gateways: _,
        pdp_clients: _,
        api_keys: _,
        services: _,
        relaxed: _,
        // By the `proof` of issuers.
        nonces: _,
        carriers: _,
        // Follows from the carriers and the routes.
        echoed: _,
        sign_in: _,
        mint: _,
        cors: _,
    } = policy;
    let Route {
        id: _,
        key: _,
        rule: _,
        condition: _,
        text: _,
        issuers: _,
        // Follows from the issuers.
        introspects: _,
        apps: _,
        contract: _,
        deny: _,
        audience: _,
        step_up: _,
        from: _,
        strip: _,
        cors: _,
        sign_in: _,
        mint: _,
        reuse: _,
    } = route;
}

/// What a caller must meet; `None` where it is denied in any case.
fn condition((policy, reached): InPolicy<'_>, who: &Who) -> Option<Condition> {
    let reached = reached?;
    let route = policy.routes.get(reached.route)?;
    let whom = whom(policy, route, who)?;
    all_is_compared(policy, route);
    let Policy { guards, forbids, grants, gateways, .. } = policy;
    let Route { rule, condition: when, deny, audience, step_up, .. } = route;
    let about = About { whom, gateways, grants: grants.as_ref() };
    let by = |captured: &Captured| {
        let captured = captured.clone();
        move |name: &str| captured.iter().find(|(here, _)| here == name).map(|(_, value)| value.clone())
    };
    let own = by(&reached.captured);
    let mut condition = Condition::default();
    condition.never.extend(forbids.iter().map(|forbid| about.formula(&forbid.rule, &|_| None)));
    condition.never.extend(deny.iter().map(|deny| about.formula(&deny.rule, &own)));
    for (at, captured) in &reached.guards {
        condition.must.push(about.formula(&guards.get(*at)?.rule, &by(captured)));
    }
    if let Rule::Where(expr) = rule {
        condition.must.push(about.formula(expr, &own));
    }
    if let Whom::User(issuer) = whom {
        condition.must.extend(required(issuer, gateways));
        condition.must.extend(meant_for(issuer, audience));
    }
    condition.must.extend(step_up.as_deref().into_iter().flat_map(|step_up| signed_in(whom, step_up)));
    if let Some(when) = when {
        let (made_of, text) = (made_of(policy, about, when, &own), when.text().to_owned());
        condition.must.push(Formula::Fact(Fact::When { made_of, text }));
    }
    Some(condition)
}

/// Who a caller is on a route; `None` where it is denied whatever the rules say.
fn whom<'p>(policy: &'p Policy, route: &'p Route, who: &'p Who) -> Option<Whom<'p>> {
    let nobody = || match &route.rule {
        Rule::Public => Some(Whom::Nobody { services: false }),
        Rule::Anyone => Some(Whom::Nobody { services: true }),
        // A service that only carries the requests of others is known, though it is nobody's identity.
        Rule::Where(rule) => {
            let may_pass = !policy.services.is_empty() && !rule.asks_for_users();
            may_pass.then_some(Whom::Nobody { services: true })
        }
    };
    let issuer = |name: &str| accepted(policy, route).find(|issuer| *issuer.name == *name);
    match who {
        _ if route.rule == Rule::Public => nobody(),
        Who::Nobody => nobody(),
        Who::Service(name) => match policy.services.acts(name, route.id) {
            Some(true) => Some(Whom::Service(name, policy.issuers.first().map(|issuer| &*issuer.derived))),
            Some(false) | None => nobody(),
        },
        // A key that is not taken is a denial where keys are looked for, and is not seen where they are not.
        Who::App(owner) => match (&route.apps, owner) {
            (Apps::Nobody, _) => nobody(),
            (Apps::Of(_), None) => None,
            (apps, Some(owner)) if !apps.take(owner) => None,
            _ => Some(Whom::App(owner.as_deref(), policy.issuers.first().map(|issuer| &*issuer.derived))),
        },
        Who::Of(name, None) => issuer(name).map(Whom::User),
        Who::Of(name, Some(at)) => {
            let is_there = |issuer: &IssuerPolicy| places(route, issuer).any(|place| place == *at);
            match issuer(name) {
                Some(issuer) if is_there(issuer) => Some(Whom::User(issuer)),
                _ if accepted(policy, route).any(is_there) => None,
                _ => nobody(),
            }
        }
        Who::Bad(_) => None,
    }
}

/// What an issuer asks of all its tokens, which no grant meets.
pub(super) fn required(issuer: &IssuerPolicy, gateways: &Gateways) -> Option<Formula> {
    let about = About { whom: Whom::User(issuer), gateways, grants: None };
    issuer.require.as_ref().map(|rule| about.formula(rule, &|_| None))
}

/// That a token is for one of these as well.
fn meant_for(issuer: &IssuerPolicy, audience: &[Arc<str>]) -> Option<Formula> {
    let list = format!("audience {}", issuer.tokens.audience.claim);
    let fact = |name: &Arc<str>| Formula::Fact(Fact::Listed { list: list.clone(), word: format!("audience {name}") });
    (!audience.is_empty()).then(|| Formula::Any(audience.iter().map(fact).collect()))
}

/// How a person must have signed in; only a token says so.
fn signed_in(whom: Whom<'_>, step_up: &StepUp) -> Vec<Formula> {
    let Whom::User(_) = whom else { return vec![Formula::Known(Truth::False)] };
    let acr = |value: &str| Formula::Fact(Fact::Claim { path: "acr".into(), value: Some(value.into()) });
    let ways: Vec<Formula> = step_up.acr().iter().map(|value| acr(value)).collect();
    let fresh = step_up.max_age().map(|age| Formula::Fact(Fact::Fresh(age.as_secs())));
    fresh.into_iter().chain((!ways.is_empty()).then_some(Formula::Any(ways))).collect()
}

/// What stands behind the variables that a condition reads: with the same text and other things behind them it is another.
fn made_of(policy: &Policy, about: About<'_>, when: &When, captured: &dyn Fn(&str) -> Option<String>) -> String {
    let issuer = if let Whom::User(issuer) = about.whom { Some(issuer) } else { None };
    let read = |variable: &Variable| match (variable, issuer) {
        (Variable::Headers, _) => format!("{:?}", policy.carriers),
        (Variable::Address, _) => about.trust(),
        (Variable::Capture(name), _) => format!("{:?}", captured(name)),
        (Variable::Subject | Variable::Principal, Some(issuer)) => issuer.subject_prefix.to_string(),
        (Variable::Groups, Some(issuer)) => format!("{:?} {}", issuer.groups, issuer.missing_is_empty),
        (Variable::Scopes, Some(issuer)) => format!("{:?} {}", issuer.scopes, issuer.missing_is_empty),
        (Variable::Roles, whom) => {
            let of_token = whom.map(|issuer| (&issuer.roles, issuer.missing_is_empty, &issuer.may_grant));
            let derived = policy.issuers.first().map(|issuer| issuer.derived.iter());
            let derived = derived.into_iter().flatten().map(|(name, rule)| format!("{name}: {rule};"));
            format!("{of_token:?} {}", derived.collect::<String>())
        }
        (
            Variable::Method
            | Variable::Host
            | Variable::Path
            | Variable::Query
            | Variable::SignedIn
            | Variable::Issuer
            | Variable::Claims
            | Variable::Now
            | Variable::Subject
            | Variable::Principal
            | Variable::Groups
            | Variable::Scopes,
            _,
        ) => String::new(),
    };
    when.reads().map(|(variable, _)| format!("{variable:?} {}\n", read(variable))).collect()
}

/// Whether somebody passes there who is not signed in.
pub(super) fn admits_anonymous(policy: &Policy, host: &str, method: &str, path: &str) -> bool {
    let (host, method, path) = (host.to_owned(), method.to_owned(), path.to_owned());
    let reached = Reach::of(policy, &Spot { odd: false, any_host: false, host, method, path });
    let is_open = |route: &Route| !matches!(route.rule, Rule::Where(_));
    if !route((policy, reached.as_ref())).is_some_and(is_open) {
        return false;
    }
    let condition = condition((policy, reached.as_ref()), &Who::Nobody);
    condition::compare(None, condition.as_ref()).gains.is_some()
}

/// Compares what each caller must meet in the two policies.
pub(super) fn difference(old: InPolicy<'_>, new: InPolicy<'_>) -> Difference {
    let mut difference = Difference::default();
    let mut anyone_passes = false;
    for who in callers(old, new) {
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

/// All kinds of callers that may be told apart.
fn callers(old: InPolicy<'_>, new: InPolicy<'_>) -> Vec<Who> {
    let mut callers = vec![Who::Nobody];
    let names = [old, new].into_iter().flat_map(|(policy, _)| policy.services.workloads().into_values());
    callers.extend(names.map(|name| name.to_string()).collect::<BTreeSet<_>>().into_iter().map(Who::Service));
    callers.extend(applications(old, new));
    let issuers: BTreeSet<String> = [old, new].into_iter().flat_map(issuers).collect();
    for name in issuers {
        let read = |side: InPolicy<'_>| -> Option<BTreeSet<String>> {
            let route = route(side)?;
            let issuer = accepted(side.0, route).find(|issuer| *issuer.name == *name)?;
            Some(places(route, issuer).collect())
        };
        let (before, after) = (read(old), read(new));
        callers.push(Who::Of(name.clone(), None));
        if let (Some(before), Some(after)) = (before, after) {
            if before.is_disjoint(&after) {
                callers.pop();
            }
            let only = before.symmetric_difference(&after);
            callers.extend(only.map(|place| Who::Of(name.clone(), Some(place.clone()))));
        }
    }
    callers
}

/// The owners of keys that rules tell apart, and one more where everybody's keys are taken.
fn applications(old: InPolicy<'_>, new: InPolicy<'_>) -> Vec<Who> {
    let mut owners: BTreeSet<String> = BTreeSet::new();
    let taken: Vec<&Apps> = [old, new].into_iter().filter_map(|side| Some(&route(side)?.apps)).collect();
    if taken.iter().all(|apps| **apps == Apps::Nobody) {
        return Vec::new();
    }
    for (policy, _) in [old, new] {
        let rules = policy.routes.iter().filter_map(|route| route.rule.expr());
        let denied = policy.routes.iter().filter_map(|route| route.deny.as_ref()).map(|deny| &deny.rule);
        let above = policy.guards.iter().chain(&policy.forbids).map(|named| &named.rule);
        let derived = policy.issuers.first().into_iter().flat_map(|issuer| issuer.derived.iter()).map(|(_, rule)| rule);
        for (_, word) in rules.chain(denied).chain(above).chain(derived).flat_map(Expr::words) {
            owners.extend(if let Word::Key(name) = word { Some(name.to_string()) } else { None });
        }
    }
    let other = taken.iter().any(|apps| **apps == Apps::Every).then_some(Who::App(None));
    owners.into_iter().map(|owner| Who::App(Some(owner))).chain(other).collect()
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

pub(super) fn route<'p>((policy, reached): InPolicy<'p>) -> Option<&'p Route> {
    policy.routes.get(reached?.route)
}

fn issuers(side: InPolicy<'_>) -> Vec<String> {
    let names = |route| accepted(side.0, route).map(|issuer| issuer.name.to_string()).collect();
    route(side).map(names).unwrap_or_default()
}

fn sources(side: InPolicy<'_>) -> Vec<String> {
    let of = |route: &Route| {
        let keys = side.0.api_keys.iter().filter(|_| route.apps != Apps::Nobody).flat_map(|keys| keys.sources());
        let keys = keys.filter(|source| route.reads(source)).map(|source| format!("{} (an API key)", place(source)));
        accepted(side.0, route).flat_map(|issuer| places(route, issuer)).chain(keys).collect()
    };
    route(side).map(of).unwrap_or_default()
}

pub(super) fn place(source: &Source) -> String {
    match source {
        Source::Bearer => "the bearer header".to_owned(),
        Source::Header(name) => format!("the header {name}"),
        Source::Cookie(name) => format!("the cookie {name}"),
        Source::Query(name) => format!("the parameter {name}"),
        Source::Subprotocol(start) => format!("the subprotocol {start}…"),
    }
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

/// What a request must meet beside the rule.
fn asked((policy, reached): InPolicy<'_>) -> Vec<String> {
    let Some(reached) = reached else { return Vec::new() };
    let guards = reached.guards.iter().filter_map(|(at, _)| policy.guards.get(*at));
    let guards = guards.map(|guard| operand(&guard.rule.to_string()));
    let forbids = policy.forbids.iter().map(|forbid| &forbid.rule);
    let route = policy.routes.get(reached.route);
    let deny = route.and_then(|route| route.deny.as_ref()).map(|deny| &deny.rule);
    let when = route.and_then(|route| route.condition.as_ref()).map(|when| format!("when `{}`", when.text()));
    let audience = route.map(|route| &*route.audience).filter(|audience| !audience.is_empty());
    let audience = audience.map(|audience| format!("audience {}", audience.join(" or ")));
    let never = forbids.chain(deny).map(|rule| format!("never ({rule})"));
    let step_up = route.and_then(|route| route.step_up.as_deref());
    let fresh = step_up.and_then(StepUp::max_age).map(|age| format!("max_age {}s", age.as_secs()));
    let acr = step_up.map(StepUp::acr).filter(|acr| !acr.is_empty()).map(|acr| format!("acr {}", acr.join(" or ")));
    guards.chain(never).chain(when).chain(audience).chain(fresh).chain(acr).collect()
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
        Who::Service(name) => format!("the service {name}"),
        Who::App(Some(owner)) => format!("an application with an API key of {owner}"),
        Who::App(None) => "an application with an API key".to_owned(),
        Who::Of(issuer, None) => format!("a caller signed in by {issuer}"),
        Who::Of(issuer, Some(place)) => format!("a caller signed in by {issuer} with the token in {place}"),
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
