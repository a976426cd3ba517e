//! Whether who meets one rule always meets another, by trying every answer that their words can have.

use std::collections::HashMap;

use crate::authz::api_keys::Apps;
use crate::authz::identity::Truth;
use crate::authz::issuer::IssuerId;
use crate::authz::policy::Route;
use crate::authz::route::Pattern;
use crate::authz::rule::{Expr, Rule, Test, Word};
use crate::authz::stepup::StepUp;

/// How many different words two rules may have where one of them says `not`: three answers each.
const MAX_THREE: usize = 6;
/// How many where none does: whether a word holds is then all that counts.
const MAX_TWO: usize = 10;

/// What a request must meet to pass a line of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ask {
    /// Whether no credential is even read.
    pub public: bool,
    /// All of these, by their numbers in [`Logic`].
    pub parts: Vec<usize>,
    /// Whose tokens are accepted.
    pub issuers: Vec<IssuerId>,
    /// Whose keys are taken.
    pub apps: Apps,
}

/// Rules as formulas over words that are the same wherever they stand.
#[derive(Debug, Default)]
pub(super) struct Logic {
    words: HashMap<String, usize>,
    atoms: Vec<Atom>,
    parts: Vec<Formula>,
    numbers: HashMap<Formula, usize>,
    known: HashMap<(Ask, Ask), Option<bool>>,
}

/// What is known of a word beside its name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Atom {
    SignedIn,
    Network(ipnet::IpNet),
    Issuer,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Formula {
    Word(usize),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

impl Logic {
    /// What a route asks for by its own line.
    pub fn ask(&mut self, route: &Route, pattern: &Pattern) -> Ask {
        let (issuers, apps) = (route.issuers.to_vec(), route.apps.clone());
        let mut ask = match &route.rule {
            Rule::Public => Ask { public: true, ..Ask::default() },
            Rule::Anyone => Ask { issuers, apps, ..Ask::default() },
            Rule::Where(expr) => {
                let signed_in = self.word(&Word::SignedIn, pattern);
                let signed_in = self.number(Formula::Word(signed_in));
                let part = self.part(expr, pattern);
                Ask { public: false, parts: vec![signed_in, part], issuers, apps }
            }
        };
        if let Some(condition) = &route.condition {
            // What a condition says is not looked at: it is a word that no other route has.
            let word = self.named(format!("when {} {}", route.key, condition.text()), Atom::Other);
            ask.parts.push(self.number(Formula::Word(word)));
        }
        // Nor at these, but routes that say the same ask the same.
        let deny = route.deny.iter().map(|deny| format!("never where {}", deny.rule));
        let audience = (!route.audience.is_empty()).then(|| format!("audience {}", route.audience.join(" ")));
        let step_up = route.step_up.as_deref();
        let fresh = step_up.and_then(StepUp::max_age).map(|age| format!("max_age {}", age.as_secs()));
        let acr = step_up.filter(|step_up| !step_up.acr().is_empty());
        let acr = acr.map(|step_up| format!("acr {}", step_up.acr().join(" ")));
        for name in deny.chain(audience).chain(fresh).chain(acr) {
            let word = self.named(name, Atom::Other);
            ask.parts.push(self.number(Formula::Word(word)));
        }
        ask
    }

    /// The number of an expression that stands under this key.
    pub fn part(&mut self, expr: &Expr, pattern: &Pattern) -> usize {
        let formula = self.formula(expr, pattern);
        self.number(formula)
    }

    fn number(&mut self, formula: Formula) -> usize {
        if let Some(number) = self.numbers.get(&formula) {
            return *number;
        }
        let number = self.parts.len();
        self.parts.push(formula.clone());
        self.numbers.insert(formula, number);
        number
    }

    fn formula(&mut self, expr: &Expr, pattern: &Pattern) -> Formula {
        let mut all = |parts: &[Expr]| parts.iter().map(|part| self.formula(part, pattern)).collect();
        match expr {
            Expr::All(parts) => Formula::All(all(parts)),
            Expr::Any(parts) => Formula::Any(all(parts)),
            Expr::Not(part) => Formula::Not(Box::new(self.formula(part, pattern))),
            Expr::Word(_, word) => Formula::Word(self.word(word, pattern)),
        }
    }

    /// A word's number: the same for `owner:a` and `owner:b` that capture the same part of a request.
    fn word(&mut self, word: &Word, pattern: &Pattern) -> usize {
        let place = |name: &str| pattern.place_of(name).unwrap_or_default();
        let name = match word {
            Word::Owner(name) => format!("owner:{{{}}}", place(name)),
            Word::Claim { path, test: Test::Capture(name) } => format!("claim:{path}={{{}}}", place(name)),
            word => word.to_string(),
        };
        let atom = match word {
            Word::SignedIn => Atom::SignedIn,
            Word::Network(network) => Atom::Network(*network),
            Word::Issuer(_) => Atom::Issuer,
            _ => Atom::Other,
        };
        self.named(name, atom)
    }

    fn named(&mut self, name: String, atom: Atom) -> usize {
        let next = self.atoms.len();
        let at = *self.words.entry(name).or_insert(next);
        if at == next {
            self.atoms.push(atom);
        }
        at
    }

    /// Whether each caller who meets `from` also meets `to`; `None` where that is too much to try.
    pub fn implies(&mut self, from: &Ask, to: &Ask) -> Option<bool> {
        if from == to || (to.public && to.parts.is_empty()) {
            return Some(true);
        }
        let pair = (from.clone(), to.clone());
        if let Some(known) = self.known.get(&pair) {
            return *known;
        }
        let answer = self.tried(from, to);
        self.known.insert(pair, answer);
        answer
    }

    fn tried(&self, from: &Ask, to: &Ask) -> Option<bool> {
        let trial = self.trial(from.parts.iter().chain(&to.parts))?;
        // Who needs no identity can leave it at home.
        let open = trial.holds_for_nobody(&to.parts, self);
        let accepted = from.issuers.iter().all(|issuer| to.issuers.contains(issuer)) && from.apps.are_within(&to.apps);
        if (from.public && !to.public) || !(open || accepted) {
            return Some(false);
        }
        let missed = |answers: &[Truth]| trial.all(&from.parts, answers, self) && !trial.all(&to.parts, answers, self);
        Some(!trial.any(self, missed))
    }

    /// Whether anybody can meet an expression. True where that is too much to try.
    pub fn can_hold(&self, part: usize) -> bool {
        let Some(trial) = self.trial(std::iter::once(&part)) else { return true };
        trial.any(self, |answers| trial.all(&[part], answers, self))
    }

    fn trial<'p>(&self, parts: impl Iterator<Item = &'p usize>) -> Option<Trial> {
        let mut trial = Trial { words: Vec::new(), negates: false };
        for part in parts {
            if let Some(formula) = self.parts.get(*part) {
                trial.read(formula);
            }
        }
        trial.words.sort_unstable();
        trial.words.dedup();
        let most = if trial.negates { MAX_THREE } else { MAX_TWO };
        (trial.words.len() <= most).then_some(trial)
    }
}

/// All answers that a few words can have.
struct Trial {
    words: Vec<usize>,
    negates: bool,
}

impl Trial {
    fn read(&mut self, formula: &Formula) {
        match formula {
            Formula::Word(word) => self.words.push(*word),
            Formula::Not(part) => {
                self.negates = true;
                self.read(part);
            }
            Formula::All(parts) | Formula::Any(parts) => parts.iter().for_each(|part| self.read(part)),
        }
    }

    fn all(&self, parts: &[usize], answers: &[Truth], logic: &Logic) -> bool {
        parts.iter().filter_map(|part| logic.parts.get(*part)).all(|part| self.truth(part, answers) == Truth::True)
    }

    fn holds_for_nobody(&self, parts: &[usize], logic: &Logic) -> bool {
        let answers = vec![Truth::False; self.words.len()];
        self.all(parts, &answers, logic)
    }

    fn truth(&self, formula: &Formula, answers: &[Truth]) -> Truth {
        let joined = |parts: &[Formula], settled: Truth| {
            parts.iter().map(|part| self.truth(part, answers)).fold(!settled, |outcome, hit| {
                if outcome == settled || hit == settled {
                    settled
                } else if outcome == Truth::Unknown {
                    outcome
                } else {
                    hit
                }
            })
        };
        match formula {
            Formula::Word(word) => {
                let place = self.words.binary_search(word).ok();
                place.and_then(|place| answers.get(place)).copied().unwrap_or(Truth::Unknown)
            }
            Formula::Not(part) => !self.truth(part, answers),
            Formula::All(parts) => joined(parts, Truth::False),
            Formula::Any(parts) => joined(parts, Truth::True),
        }
    }

    /// Whether some answers that can be given together are as asked.
    fn any(&self, logic: &Logic, asked: impl Fn(&[Truth]) -> bool) -> bool {
        let choices: &[Truth] =
            if self.negates { &[Truth::True, Truth::False, Truth::Unknown] } else { &[Truth::True, Truth::False] };
        let mut answers: Vec<Truth> = vec![Truth::True; self.words.len()];
        let mut counter = vec![0_usize; self.words.len()];
        loop {
            if self.can_be(&answers, logic) && asked(&answers) {
                return true;
            }
            let mut at = 0_usize;
            loop {
                let (Some(count), Some(answer)) = (counter.get_mut(at), answers.get_mut(at)) else { return false };
                *count = count.saturating_add(1);
                if let Some(next) = choices.get(*count) {
                    *answer = *next;
                    break;
                }
                *count = 0;
                *answer = Truth::True;
                at = at.saturating_add(1);
            }
        }
    }

    /// Leaves away what no caller can be: of two issuers, in two networks that do not meet, known and not signed in.
    fn can_be(&self, answers: &[Truth], logic: &Logic) -> bool {
        let atoms = || self.words.iter().filter_map(|word| logic.atoms.get(*word)).zip(answers);
        let nobody = atoms().any(|(atom, answer)| *atom == Atom::SignedIn && *answer != Truth::True);
        let mut issuers = 0_usize;
        for (atom, answer) in atoms() {
            match atom {
                Atom::SignedIn if *answer == Truth::Unknown => return false,
                Atom::SignedIn => {}
                Atom::Issuer if *answer == Truth::Unknown || (nobody && *answer == Truth::True) => return false,
                Atom::Issuer => issuers = issuers.saturating_add(usize::from(*answer == Truth::True)),
                Atom::Network(network) => {
                    for (other, theirs) in atoms() {
                        let Atom::Network(other) = other else { continue };
                        let inside = other.contains(network);
                        let apart = !inside && !network.contains(other);
                        if *answer == Truth::True
                            && ((inside && *theirs != Truth::True) || (apart && *theirs == Truth::True))
                        {
                            return false;
                        }
                    }
                }
                Atom::Other if nobody && *answer != Truth::False => return false,
                Atom::Other => {}
            }
        }
        issuers <= 1
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::authz::header::{Contract, Names, Tells};

    fn implies(from: (&str, &str), to: (&str, &str)) -> Option<bool> {
        let mut logic = Logic::default();
        let mut ask = |(key, rule): (&str, &str)| {
            let pattern = Pattern::parse(key).unwrap();
            let rule = Rule::parse(rule).unwrap();
            let route = Route {
                id: crate::authz::route::RouteId(0),
                key: key.into(),
                text: "".into(),
                rule,
                condition: None,
                introspects: None,
                apps: Apps::Nobody,
                issuers: Box::new([IssuerId(0)]),
                from: None,
                strip: false,
                cors: None,
                sign_in: crate::authz::policy::Elsewhere::No,
                contract: Arc::new(Contract::new(Tells::default(), &Arc::new(Names::new([], &[], Vec::new(), None)))),
                deny: None,
                audience: Box::default(),
                step_up: None,
                mint: None,
                reuse: None,
            };
            logic.ask(&route, &pattern)
        };
        let (from, to) = (ask(from), ask(to));
        logic.implies(&from, &to)
    }

    fn rules(from: &str, to: &str) -> Option<bool> {
        implies(("/", from), ("/", to))
    }

    #[test]
    fn who_meets_the_stricter_rule_meets_the_weaker_one() {
        for (strict, weak) in [
            ("role:a", "signed-in"),
            ("signed-in", "anyone"),
            ("anyone", "public"),
            ("role:a and role:b", "role:b"),
            ("role:a", "role:b or role:a"),
            ("role:a", "not claim:x=y or role:a"),
            ("network:10.1.0.0/16", "network:10.0.0.0/8"),
            ("role:a and not role:b", "role:a"),
        ] {
            assert_eq!(rules(strict, weak), Some(true), "{strict} => {weak}");
            assert_eq!(rules(weak, strict), Some(false), "{weak} => {strict}");
        }
    }

    #[test]
    fn rules_that_say_the_same_meet_each_other() {
        for (one, two) in [
            ("role:a and role:b", "role:b and role:a"),
            ("not (role:a or role:b)", "not role:a and not role:b"),
            ("role:a or (role:a and role:b)", "role:a"),
            ("signed-in and role:a", "role:a"),
        ] {
            assert_eq!((rules(one, two), rules(two, one)), (Some(true), Some(true)), "{one}");
        }
        assert_eq!(implies(("/p/{a}", "owner:a"), ("/p/{b}/**", "owner:b")), Some(true));
        assert_eq!(implies(("/p/{a}", "owner:a"), ("/{b}/**", "owner:b")), Some(false));
    }

    #[test]
    fn unknown_is_not_a_permit() {
        assert_eq!(rules("signed-in", "role:a or not role:a"), Some(false));
    }

    #[test]
    fn what_is_too_much_to_try_is_left_open() {
        let words =
            |from: usize, to: usize| (from..to).map(|at| format!("role:r{at}")).collect::<Vec<_>>().join(" or ");
        assert_eq!(rules(&words(0, 9), &words(0, 8)), Some(false));
        assert_eq!(rules(&words(0, 12), &words(0, 11)), None);
    }

    #[test]
    fn what_nobody_can_be_is_not_tried() {
        let mut logic = Logic::default();
        let pattern = Pattern::parse("/").unwrap();
        let mut can_hold = |rule: &str| {
            let part = logic.part(&Expr::parse(rule).unwrap(), &pattern);
            logic.can_hold(part)
        };
        for never in ["issuer:a and issuer:b", "network:10.0.0.0/8 and network:192.168.0.0/16", "role:a and not role:a"]
        {
            assert!(!can_hold(never), "{never}");
        }
        for ever in ["issuer:a or issuer:b", "network:10.0.0.0/8 and network:10.1.0.0/16", "claim:a=b and claim:a=c"] {
            assert!(can_hold(ever), "{ever}");
        }
    }
}
