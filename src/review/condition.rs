//! What a request must meet, as formulas over facts, and who passes one and not the other.

use std::collections::BTreeSet;

use super::fact::{Fact, Standing, standings};
use crate::authz::gateways::Gateways;
use crate::authz::grant::Grants;
use crate::authz::identity::{APPS, Truth, WORKLOADS};
use crate::authz::issuer::IssuerPolicy;
use crate::authz::rule::{Expr, Test, Word};

/// How many standings of the facts are tried.
const MOST: usize = 1 << 16;

/// A formula over facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Formula {
    /// Always this.
    Known(Truth),
    /// A fact.
    Fact(Fact),
    /// What is left of a fact that may not be granted: never true.
    Ungranted(Fact),
    /// The opposite.
    Not(Box<Self>),
    /// All of them.
    All(Vec<Self>),
    /// One of them.
    Any(Vec<Self>),
}

/// Whom a formula is about.
#[derive(Clone, Copy)]
pub(super) struct About<'p> {
    /// Who calls.
    pub whom: Whom<'p>,
    /// Who may ask.
    pub gateways: &'p Gateways,
    /// Who is given roles.
    pub grants: Option<&'p Grants>,
}

/// Who calls.
#[derive(Clone, Copy)]
pub(super) enum Whom<'p> {
    /// Nobody who is signed in, and whether it is looked at through which service the request came.
    Nobody { services: bool },
    /// Who has a token of this issuer.
    User(&'p IssuerPolicy),
    /// A service that calls by itself, and the roles that the policy derives; `None` where they are not known.
    Service(&'p str, Option<&'p [(std::sync::Arc<str>, Expr)]>),
    /// Who shows a key of this owner, one that no rule names where there is none, and the roles that the policy derives.
    App(Option<&'p str>, Option<&'p [(std::sync::Arc<str>, Expr)]>),
}

/// What must hold, and what must not, for a request to pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Condition {
    /// Each must be true.
    pub must: Vec<Formula>,
    /// Each must be false.
    pub never: Vec<Formula>,
}

/// Who passes one condition and not the other, by facts that are not false.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// The plainest caller that passes the second and not the first.
    pub gains: Option<Caller>,
    /// The plainest caller that passes the first and not the second.
    pub loses: Option<Caller>,
}

/// How the facts of a caller stand that are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Caller {
    /// What is so, what cannot be told, and what is not so.
    pub facts: Vec<(Fact, Truth)>,
    /// Whether there are too many facts to try, so that nobody knows whether there is such a caller.
    pub unsure: bool,
}

impl<'p> About<'p> {
    /// A rule as a formula; `captured` reads what the key captured.
    pub fn formula(self, expr: &Expr, captured: &dyn Fn(&str) -> Option<String>) -> Formula {
        let all = |parts: &[Expr]| parts.iter().map(|part| self.formula(part, captured)).collect();
        match expr {
            Expr::Word(_, word) => self.word(word, captured),
            Expr::Not(part) => Formula::Not(Box::new(self.formula(part, captured))),
            Expr::All(parts) => Formula::All(all(parts)),
            Expr::Any(parts) => Formula::Any(all(parts)),
        }
    }

    fn word(self, word: &Word, captured: &dyn Fn(&str) -> Option<String>) -> Formula {
        let no = Formula::Known(Truth::False);
        match (word, self.whom) {
            (Word::Network(network), _) => Formula::Fact(Fact::Network { trust: self.trust(), network: *network }),
            (Word::Service(_), Whom::Nobody { services: false }) => no,
            (Word::Service(name), Whom::Service(own, _)) => Formula::Known((**name == *own).into()),
            (Word::Key(_), Whom::Nobody { .. } | Whom::Service(..)) => no,
            (Word::Key(name), Whom::App(own, _)) => Formula::Known((own == Some(&**name)).into()),
            (Word::Service(_) | Word::Key(_), _) => Formula::Fact(Fact::Other(word.to_string())),
            (_, Whom::Nobody { .. }) => no,
            (_, Whom::User(issuer)) => self.of_user(issuer, word, captured),
            (_, Whom::Service(_, derived)) => self.of_service(derived, word, captured),
            (_, Whom::App(_, derived)) => self.of_app(derived, word),
        }
    }

    /// Who is believed about addresses, in order.
    pub fn trust(self) -> String {
        self.gateways
            .iter()
            .map(|gateway| format!("{:?} {:?} {:?};", gateway.dialect, gateway.by, gateway.client_address))
            .collect()
    }

    /// A service has no claims, and no roles but derived ones.
    fn of_service(
        self,
        derived: Option<&[(std::sync::Arc<str>, Expr)]>,
        word: &Word,
        captured: &dyn Fn(&str) -> Option<String>,
    ) -> Formula {
        match word {
            Word::SignedIn => Formula::Known(Truth::True),
            Word::Issuer(name) => Formula::Known((**name == *WORKLOADS).into()),
            Word::Owner(name) => match captured(name).filter(|value| !value.is_empty()) {
                Some(value) => Formula::Fact(Fact::Other(format!("the workload {value}"))),
                None => Formula::Known(Truth::False),
            },
            Word::Role(name) => match derived.map(|derived| derived.iter().find(|(role, _)| **role == **name)) {
                None => Formula::Fact(Fact::Other(word.to_string())),
                Some(Some((_, rule))) => self.formula(rule, &|_| None),
                Some(None) => Formula::Known(Truth::False),
            },
            Word::Group(_)
            | Word::Scope(_)
            | Word::Claim { .. }
            | Word::Network(_)
            | Word::Service(_)
            | Word::Key(_)
            | Word::Actor(_)
            | Word::AnyActor => Formula::Known(Truth::False),
        }
    }

    /// A key has no claims; what roles, groups and scopes it has is for its own entry to say.
    fn of_app(self, derived: Option<&[(std::sync::Arc<str>, Expr)]>, word: &Word) -> Formula {
        let listed =
            |kind: &str| Formula::Fact(Fact::Listed { list: format!("{kind} of the key"), word: word.to_string() });
        match word {
            Word::SignedIn => Formula::Known(Truth::True),
            Word::Issuer(name) => Formula::Known((**name == *APPS).into()),
            Word::Role(name) => match derived.map(|derived| derived.iter().find(|(role, _)| **role == **name)) {
                None => Formula::Fact(Fact::Other(word.to_string())),
                Some(Some((_, rule))) => self.formula(rule, &|_| None),
                Some(None) => listed("roles"),
            },
            Word::Group(_) => listed("groups"),
            Word::Scope(_) => listed("scopes"),
            Word::Owner(_)
            | Word::Claim { .. }
            | Word::Network(_)
            | Word::Service(_)
            | Word::Key(_)
            | Word::Actor(_)
            | Word::AnyActor => Formula::Known(Truth::False),
        }
    }

    fn of_user(self, issuer: &IssuerPolicy, word: &Word, captured: &dyn Fn(&str) -> Option<String>) -> Formula {
        let no = Formula::Known(Truth::False);
        let claim = |path: &str, value: Option<String>| Formula::Fact(Fact::Claim { path: path.into(), value });
        let captured = |name: &str| captured(name).filter(|value| !value.is_empty());
        match word {
            Word::SignedIn => Formula::Known(Truth::True),
            Word::Role(name) => self.role(issuer, name),
            Word::Group(_) => listed(issuer, "groups", issuer.groups.as_ref().map(ToString::to_string), word),
            Word::Scope(_) => listed(issuer, "scopes", Some(issuer.scopes.to_string()), word),
            Word::Claim { path, test: Test::Equals(value) } => claim(&path.to_string(), Some(value.to_string())),
            Word::Claim { path, test: Test::Present } => claim(&path.to_string(), None),
            Word::Claim { path, test: Test::Capture(name) } => {
                captured(name).map_or(no, |value| claim(&path.to_string(), Some(value)))
            }
            Word::Owner(name) => match captured(name) {
                None => no,
                Some(value) if issuer.subject_prefix.is_empty() => claim("sub", Some(value)),
                Some(value) => Formula::Fact(Fact::Other(format!("owner of {}{value}", issuer.subject_prefix))),
            },
            Word::Issuer(name) => Formula::Known((**name == *issuer.name).into()),
            Word::Actor(name) => Formula::Fact(Fact::Actor(Some(name.to_string()))),
            Word::AnyActor => Formula::Fact(Fact::Actor(None)),
            Word::Service(_) | Word::Key(_) | Word::Network(_) => Formula::Fact(Fact::Other(word.to_string())),
        }
    }

    /// A role that the policy derives is what it is made of; others are what the token lists.
    fn role(self, issuer: &IssuerPolicy, name: &str) -> Formula {
        let own = self.own_role(issuer, name);
        if self.grants.is_some_and(|grants| grants.has_role(&issuer.name, name)) {
            return Formula::Any(vec![own, Formula::Fact(Fact::Other(format!("a grant of role:{name}")))]);
        }
        own
    }

    fn own_role(self, issuer: &IssuerPolicy, name: &str) -> Formula {
        let granted = issuer.may_grant.covers(name);
        match issuer.derived.iter().find(|(derived, _)| &**derived == name) {
            Some(_) if !granted => Formula::Known(Truth::False),
            Some((_, rule)) => self.formula(rule, &|_| None),
            None => {
                match listed(issuer, "roles", issuer.roles.as_ref().map(ToString::to_string), &Word::Role(name.into()))
                {
                    Formula::Fact(fact) if !granted => Formula::Ungranted(fact),
                    formula => formula,
                }
            }
        }
    }
}

fn listed(issuer: &IssuerPolicy, kind: &str, path: Option<String>, word: &Word) -> Formula {
    match path {
        None if issuer.missing_is_empty => Formula::Known(Truth::False),
        None => Formula::Known(Truth::Unknown),
        Some(path) => {
            let list = format!("{kind} {path} {}", issuer.missing_is_empty);
            Formula::Fact(Fact::Listed { list, word: word.to_string() })
        }
    }
}

impl Formula {
    fn facts<'f>(&'f self, found: &mut BTreeSet<&'f Fact>) {
        match self {
            Self::Known(_) => {}
            Self::Fact(fact) | Self::Ungranted(fact) => _ = found.insert(fact),
            Self::Not(part) => part.facts(found),
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.facts(found)),
        }
    }

    fn holds(&self, facts: &[Fact], standing: &Standing) -> Truth {
        let of = |fact: &Fact| {
            let place = facts.binary_search(fact).ok();
            place.and_then(|place| standing.get(place)).copied().unwrap_or(Truth::Unknown)
        };
        let settle = |parts: &[Self], settled: Truth| {
            parts.iter().map(|part| part.holds(facts, standing)).fold(!settled, |outcome, hit| match (outcome, hit) {
                (outcome, hit) if outcome == settled || hit == settled => settled,
                (Truth::Unknown, _) | (_, Truth::Unknown) => Truth::Unknown,
                (outcome, _) => outcome,
            })
        };
        match self {
            Self::Known(truth) => *truth,
            Self::Fact(fact) => of(fact),
            Self::Ungranted(fact) if of(fact) == Truth::Unknown => Truth::Unknown,
            Self::Ungranted(_) => Truth::False,
            Self::Not(part) => !part.holds(facts, standing),
            Self::All(parts) => settle(parts, Truth::False),
            Self::Any(parts) => settle(parts, Truth::True),
        }
    }
}

impl Condition {
    fn passes(&self, facts: &[Fact], standing: &Standing) -> bool {
        self.never.iter().all(|formula| formula.holds(facts, standing) == Truth::False)
            && self.must.iter().all(|formula| formula.holds(facts, standing) == Truth::True)
    }

    fn facts<'f>(&'f self, found: &mut BTreeSet<&'f Fact>) {
        self.must.iter().chain(&self.never).for_each(|formula| formula.facts(found));
    }

    /// Without what the other has as well.
    fn without(&self, other: &Self) -> Self {
        let left = |own: &[Formula], others: &[Formula]| {
            own.iter().filter(|formula| !others.contains(formula)).cloned().collect()
        };
        Self { must: left(&self.must, &other.must), never: left(&self.never, &other.never) }
    }
}

/// Who passes one and not the other; `None` is a condition that nobody passes.
pub(super) fn compare(old: Option<&Condition>, new: Option<&Condition>) -> Difference {
    if old == new {
        return Difference::default();
    }
    if let Some(difference) = tried(old, new) {
        return difference;
    }
    // What both ask for may be left out: who passes only one of the rest is found, and perhaps someone who does not exist.
    if let (Some(one), Some(two)) = (old, new)
        && let Some(difference) = tried(Some(&one.without(two)), Some(&two.without(one)))
    {
        return difference;
    }
    let unsure = || Some(Caller { unsure: true, ..Caller::default() });
    Difference { gains: new.and_then(|_| unsure()), loses: old.and_then(|_| unsure()) }
}

fn tried(old: Option<&Condition>, new: Option<&Condition>) -> Option<Difference> {
    let mut found = BTreeSet::new();
    old.into_iter().chain(new).for_each(|condition| condition.facts(&mut found));
    let facts: Vec<Fact> = found.into_iter().cloned().collect();
    let mut standings = standings(&facts, MOST)?;
    standings.sort_by_cached_key(weight);
    let mut difference = Difference::default();
    for standing in &standings {
        let passes = |condition: Option<&Condition>| condition.is_some_and(|one| one.passes(&facts, standing));
        let place = match (passes(old), passes(new)) {
            (false, true) => &mut difference.gains,
            (true, false) => &mut difference.loses,
            _ => continue,
        };
        if place.is_none() {
            let facts = facts.iter().cloned().zip(standing.iter().copied()).collect();
            *place = Some(Caller { facts, unsure: false });
        }
    }
    Some(difference)
}

/// The plainest caller has the fewest facts, and none that cannot be told.
fn weight(standing: &Standing) -> usize {
    standing.iter().fold(0, |sum: usize, truth| match truth {
        Truth::False => sum,
        Truth::True => sum.saturating_add(1),
        Truth::Unknown => sum.saturating_add(3),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str) -> Formula {
        Formula::Fact(Fact::Listed { list: "roles".into(), word: format!("role:{name}") })
    }

    fn must(formula: Formula) -> Condition {
        Condition { must: vec![formula], never: vec![] }
    }

    fn verdicts(old: &Condition, new: &Condition) -> (bool, bool) {
        let difference = compare(Some(old), Some(new));
        (difference.gains.is_some(), difference.loses.is_some())
    }

    #[test]
    fn one_word_more_widens_or_narrows_as_it_is_joined() {
        let (a, b) = (role("a"), role("b"));
        let any = must(Formula::Any(vec![a.clone(), b.clone()]));
        let all = must(Formula::All(vec![a.clone(), b.clone()]));
        assert_eq!(verdicts(&must(a.clone()), &any), (true, false));
        assert_eq!(verdicts(&must(a.clone()), &all), (false, true));
        assert_eq!(verdicts(&must(a.clone()), &must(b.clone())), (true, true));
        assert_eq!(verdicts(&all, &Condition { must: vec![b, a], never: vec![] }), (false, false));
    }

    #[test]
    fn a_forbid_and_a_negation_differ_by_nothing_where_both_need_to_be_told() {
        let forbid = Condition { must: vec![], never: vec![role("a")] };
        assert_eq!(verdicts(&forbid, &must(Formula::Not(Box::new(role("a"))))), (false, false));
        assert_eq!(verdicts(&forbid, &Condition::default()), (true, false));
    }

    #[test]
    fn too_many_facts_are_compared_by_what_differs_and_else_are_not_told_apart() {
        let many: Vec<Formula> = (0..40).map(|at| role(&at.to_string())).collect();
        let shared = Condition { must: vec![], never: many.clone() };
        let more = Condition { must: vec![role("x")], never: many.clone() };
        assert_eq!(verdicts(&shared, &more), (false, true));
        assert_eq!(verdicts(&more, &shared), (true, false));
        let difference = compare(Some(&must(Formula::Any(many.clone()))), Some(&must(Formula::All(many))));
        assert!(difference.gains.unwrap().unsure && difference.loses.unwrap().unsure);
    }
}
