//! The rule words: who may pass, as a tree of words, evaluated in three values without ever failing.

use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;

use super::actor::{self, Actor};
use super::identity::{Caller, ClaimPath, Identity, Reading, Standing, Truth};
use super::route::Captures;

mod fault;
mod grammar;
mod print;

pub use fault::{RuleError, RuleFault};
pub(super) use grammar::distance;

/// How many words one rule may have.
pub const MAX_WORDS: usize = 64;
/// How deep one rule may nest.
pub const MAX_DEPTH: usize = 16;
/// How long the text of one rule may be, in bytes.
pub const MAX_TEXT: usize = 4_096;

/// What a route, a guard or a forbid asks of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing; no credential is even read.
    Public,
    /// Nothing; an identity is taken where a credential is there.
    Anyone,
    /// An identity for which this holds.
    Where(Expr),
}

/// A tree of words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// One word.
    Word(WordId, Word),
    /// The opposite; unknown stays unknown.
    Not(Box<Self>),
    /// All of them, two or more.
    All(Box<[Self]>),
    /// At least one of them, two or more.
    Any(Box<[Self]>),
}

/// A word's place in its rule, in order of appearance, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WordId(pub u16);

/// One question about the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// `signed-in`: there is an identity, in any slot.
    SignedIn,
    /// `role:x`
    Role(Box<str>),
    /// `group:x`
    Group(Box<str>),
    /// `scope:x`
    Scope(Box<str>),
    /// `claim:path=value`, `claim:path={capture}`, `claim:path?`
    Claim {
        /// Which claim.
        path: ClaimPath,
        /// What it is asked.
        test: Test,
    },
    /// `owner:name`: the subject is what the route captured under this name.
    Owner(Box<str>),
    /// `issuer:x`: the issuer's name in the policy.
    Issuer(Box<str>),
    /// `network:10.0.0.0/8`: the caller's address.
    Network(IpNet),
    /// `service:x`: the service in the workload slot.
    Service(Box<str>),
    /// `key:x`: the subject in the app slot.
    Key(Box<str>),
    /// `actor:x`: who acts for the subject now (RFC 8693 §4.1).
    Actor(Box<str>),
    /// `actor:*`: somebody acts for the subject.
    AnyActor,
}

/// What a claim is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// It is this text, or a list that has it.
    Equals(Box<str>),
    /// It is what the route captured under this name, or a list that has it.
    Capture(Box<str>),
    /// It is there.
    Present,
}

/// How parts are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// `and`
    All,
    /// `or`
    Any,
}

/// What a rule is evaluated over.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// What the pattern captured.
    pub captures: &'a Captures<'a>,
    /// The caller's address, where the gateway is believed about it.
    pub address: Option<IpAddr>,
}

/// Who watches an evaluation.
pub trait Watch {
    /// Whether evaluation may stop once the outcome is settled.
    const SHORT_CUT: bool;
    /// A word was asked, with this answer.
    fn word(&mut self, at: WordId, hit: Truth);
}

/// Nobody watches: compiles away.
impl Watch for () {
    const SHORT_CUT: bool = true;

    #[inline]
    fn word(&mut self, _: WordId, _: Truth) {}
}

/// Every word of a rule with its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(pub Vec<(WordId, Truth)>);

impl Words {
    /// The answer of this word; unknown where it was not asked.
    #[must_use]
    pub fn truth(&self, at: WordId) -> Truth {
        self.0.iter().find(|(asked, _)| *asked == at).map_or(Truth::Unknown, |(_, truth)| *truth)
    }
}

impl Watch for Words {
    const SHORT_CUT: bool = false;

    fn word(&mut self, at: WordId, hit: Truth) {
        self.0.push((at, hit));
    }
}

impl Rule {
    /// Reads a rule as the policy writes it.
    ///
    /// # Errors
    /// Where the text is no rule; the error says where in it, and what would be right.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        grammar::rule(text)
    }

    /// Whether a caller without an identity is refused before any word is asked.
    #[must_use]
    pub fn needs_identity(&self) -> bool {
        match self {
            Self::Public | Self::Anyone => false,
            Self::Where(_) => true,
        }
    }

    /// The tree, where there is one.
    #[must_use]
    pub fn expr(&self) -> Option<&Expr> {
        match self {
            Self::Public | Self::Anyone => None,
            Self::Where(expr) => Some(expr),
        }
    }
}

impl Expr {
    /// The same with other names for roles, where there is another one.
    #[must_use]
    pub fn rename_roles(self, rename: &dyn Fn(&str) -> Option<Box<str>>) -> Self {
        let all = |parts: Box<[Self]>| parts.into_iter().map(|part| part.rename_roles(rename)).collect();
        match self {
            Self::Word(at, Word::Role(name)) => Self::Word(at, Word::Role(rename(&name).unwrap_or(name))),
            Self::Word(..) => self,
            Self::Not(part) => Self::Not(Box::new(part.rename_roles(rename))),
            Self::All(parts) => Self::All(all(parts)),
            Self::Any(parts) => Self::Any(all(parts)),
        }
    }

    /// Reads a rule that is a tree of words: not `public` and not `anyone`.
    ///
    /// # Errors
    /// As for [`Rule::parse`]; `public` and `anyone` stand alone and are refused here.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        grammar::expr(text)
    }

    /// Where the words of a rule's text stand in it, by [`WordId`]: what an editor underlines. None of them where
    /// the text cannot be cut into words.
    #[must_use]
    pub fn places(text: &str) -> Vec<Range<usize>> {
        grammar::places(text)
    }

    /// Joins parts to one tree and numbers its words anew; a single part is itself.
    ///
    /// # Errors
    /// Where there is no part, or the whole has too many words or nests too deep.
    pub fn join(join: Join, mut parts: Vec<Self>) -> Result<Self, RuleFault> {
        let whole = if parts.len() > 1 {
            match join {
                Join::All => Self::All(parts.into()),
                Join::Any => Self::Any(parts.into()),
            }
        } else {
            parts.pop().ok_or(RuleFault::Empty)?
        };
        whole.capped()
    }

    /// The opposite, its words numbered anew.
    ///
    /// # Errors
    /// Where the whole nests too deep.
    pub fn negate(self) -> Result<Self, RuleFault> {
        Self::Not(Box::new(self)).capped()
    }

    fn capped(mut self) -> Result<Self, RuleFault> {
        if self.depth() > MAX_DEPTH {
            return Err(RuleFault::TooDeep);
        }
        if self.words().count() > MAX_WORDS {
            return Err(RuleFault::TooManyWords);
        }
        self.renumber();
        Ok(self)
    }

    /// Numbers the words anew, in order of appearance.
    pub fn renumber(&mut self) {
        self.number_from(0);
    }

    fn number_from(&mut self, next: u16) -> u16 {
        match self {
            Self::Word(at, _) => {
                *at = WordId(next);
                next.saturating_add(1)
            }
            Self::Not(part) => part.number_from(next),
            Self::All(parts) | Self::Any(parts) => parts.iter_mut().fold(next, |next, part| part.number_from(next)),
        }
    }

    /// How deep it nests; a single word is 1 deep.
    fn depth(&self) -> usize {
        let below = match self {
            Self::Word(..) => 0,
            Self::Not(part) => part.depth(),
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::depth).max().unwrap_or(0),
        };
        below.saturating_add(1)
    }

    /// Whether it holds in this scene.
    pub fn eval<W: Watch>(&self, scene: &Scene<'_>, watch: &mut W) -> Truth {
        match self {
            Self::Word(at, word) => {
                let hit = word.ask(scene);
                watch.word(*at, hit);
                hit
            }
            Self::Not(part) => !part.eval(scene, watch),
            Self::All(parts) => settle(parts, Truth::False, scene, watch),
            Self::Any(parts) => settle(parts, Truth::True, scene, watch),
        }
    }

    /// Whether it would hold if its words had these answers.
    #[must_use]
    pub fn suppose(&self, answer: &impl Fn(WordId, &Word) -> Truth) -> Truth {
        let settle = |parts: &[Self], settled: Truth| {
            parts.iter().map(|part| part.suppose(answer)).fold(!settled, |outcome, hit| match (outcome, hit) {
                (outcome, hit) if outcome == settled || hit == settled => settled,
                (Truth::Unknown, _) | (_, Truth::Unknown) => Truth::Unknown,
                (outcome, _) => outcome,
            })
        };
        match self {
            Self::Word(at, word) => answer(*at, word),
            Self::Not(part) => !part.suppose(answer),
            Self::All(parts) => settle(parts, Truth::False),
            Self::Any(parts) => settle(parts, Truth::True),
        }
    }

    /// Its words, in order of appearance.
    pub fn words(&self) -> impl Iterator<Item = (WordId, &Word)> {
        let mut open = vec![self];
        std::iter::from_fn(move || {
            loop {
                match open.pop()? {
                    Self::Word(at, word) => return Some((*at, word)),
                    Self::Not(part) => open.push(part),
                    Self::All(parts) | Self::Any(parts) => open.extend(parts.iter().rev()),
                }
            }
        })
    }

    /// The word at this place.
    #[must_use]
    pub fn word(&self, at: WordId) -> Option<&Word> {
        self.words().find(|(here, _)| *here == at).map(|(_, word)| word)
    }

    /// The names of the captures that it compares with; a name may come twice.
    pub fn captures_used(&self) -> impl Iterator<Item = &str> {
        self.words().filter_map(|(_, word)| word.capture())
    }

    /// Whether a user could help: it asks for more than where a request comes from and through whom.
    #[must_use]
    pub fn asks_for_users(&self) -> bool {
        !self.words().all(|(_, word)| matches!(word, Word::Network(_) | Word::Service(_)))
    }

    /// Whether it is made only of words that need no identity.
    #[must_use]
    pub fn without_identity(&self) -> bool {
        self.words().all(|(_, word)| matches!(word, Word::Network(_)))
    }
}

/// Kleene's `and` (settled by false) and `or` (settled by true).
fn settle<W: Watch>(parts: &[Expr], settled: Truth, scene: &Scene<'_>, watch: &mut W) -> Truth {
    let mut outcome = !settled;
    for part in parts {
        let hit = part.eval(scene, watch);
        if hit == settled {
            outcome = settled;
            if W::SHORT_CUT {
                break;
            }
        } else if hit == Truth::Unknown && outcome != settled {
            outcome = Truth::Unknown;
        }
    }
    outcome
}

impl Word {
    /// The name of the capture that it compares with.
    #[must_use]
    pub fn capture(&self) -> Option<&str> {
        match self {
            Self::Owner(name) | Self::Claim { test: Test::Capture(name), .. } => Some(name),
            Self::SignedIn
            | Self::Role(_)
            | Self::Group(_)
            | Self::Scope(_)
            | Self::Claim { test: Test::Equals(_) | Test::Present, .. }
            | Self::Issuer(_)
            | Self::Network(_)
            | Self::Service(_)
            | Self::Key(_)
            | Self::Actor(_)
            | Self::AnyActor => None,
        }
    }

    fn ask(&self, scene: &Scene<'_>) -> Truth {
        let caller = scene.caller;
        let acting = |ask: &dyn Fn(&Identity) -> Truth| caller.acting().map_or(Truth::False, |identity| ask(identity));
        match self {
            Self::SignedIn => caller.acting().is_some().into(),
            Self::Role(name) => acting(&|identity| identity.role(name)),
            Self::Group(name) => acting(&|identity| identity.group(name)),
            Self::Scope(name) => acting(&|identity| identity.scope(name)),
            Self::Claim { path, test } => acting(&|identity| test.ask(&identity.claim(path), scene.captures)),
            Self::Owner(name) => acting(&|identity| {
                let is_owner = |value: &str| *identity.principal().subject == *value && !identity.is_app();
                captured(scene.captures, name, |value| is_owner(value).into())
            }),
            Self::Issuer(name) => acting(&|identity| (*identity.principal().issuer == **name).into()),
            Self::Network(network) => {
                scene.address.map_or(Truth::Unknown, |address| network.contains(&address.to_canonical()).into())
            }
            Self::Service(_) if caller.standing == Standing::Untold => Truth::Unknown,
            Self::Service(name) => caller
                .workload
                .as_ref()
                .and_then(|workload| workload.service())
                .is_some_and(|service| **service == **name)
                .into(),
            Self::Key(name) => has_subject(caller.app.as_deref(), name),
            Self::Actor(name) => {
                acting(&|identity| acts(identity, |actor| actor.elsewhere.is_none() && *actor.name == **name))
            }
            Self::AnyActor => acting(&|identity| acts(identity, |_| true)),
        }
    }
}

impl Test {
    fn ask(&self, reading: &Reading<'_>, captures: &Captures<'_>) -> Truth {
        match self {
            Self::Equals(value) => holds(reading, value),
            Self::Capture(name) => captured(captures, name, |value| holds(reading, value)),
            Self::Present => (*reading != Reading::Missing).into(),
        }
    }
}

fn holds(reading: &Reading<'_>, value: &str) -> Truth {
    match reading {
        Reading::Missing => Truth::False,
        Reading::One(text) => (text == value).into(),
        Reading::Many(members) => members.iter().any(|member| member == value).into(),
        Reading::Unreadable => Truth::Unknown,
    }
}

/// Asks with a captured value; one that is missing or empty equals nothing.
fn captured(captures: &Captures<'_>, name: &str, ask: impl FnOnce(&str) -> Truth) -> Truth {
    captures.get(name).filter(|value| !value.is_empty()).map_or(Truth::False, ask)
}

/// Whether somebody acts for the subject of whom this holds.
fn acts(identity: &Identity, is: impl FnOnce(Actor<'_>) -> bool) -> Truth {
    match actor::current(identity.claims()) {
        Ok(actor) => actor.is_some_and(is).into(),
        Err(actor::Unreadable) => Truth::Unknown,
    }
}

fn has_subject(identity: Option<&Identity>, name: &str) -> Truth {
    identity.is_some_and(|identity| *identity.principal().subject == *name).into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::authz::identity::{Listed, Parts, Principal};
    use crate::authz::json::Object;
    use crate::authz::time::Timestamp;

    const TRUTHS: [Truth; 3] = [Truth::True, Truth::False, Truth::Unknown];

    fn listed(members: &[&str]) -> Listed {
        Listed::Known(members.iter().map(|member| Arc::from(*member)).collect())
    }

    fn identity(subject: &str, roles: &[&str], claims: &str) -> Option<Arc<Identity>> {
        Some(Arc::new(Identity::new(Parts {
            principal: Principal { issuer: "main".into(), subject: subject.into() },
            claims: Object::parse(claims.as_bytes()).unwrap(),
            listed: listed(roles),
            groups: Listed::Unknown,
            scopes: listed(&["orders:read"]),
            token_id: None,
            key_id: None,
            issued: None,
            not_before: None,
            expires: Timestamp::from_secs(0),
            binding: None,
            contracts: 1,
        })))
    }

    fn user() -> Caller {
        let claims = r#"{"tier":"gold","tenants":["a","b"],"n":7,"nil":null,"o":{"in":"x"},"empty":""}"#;
        Caller { user: identity("u1", &["admin"], claims), ..Caller::default() }
    }

    fn expr(text: &str) -> Expr {
        Expr::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn ask_with(text: &str, caller: &Caller, captures: &Captures<'_>, address: Option<&str>) -> Truth {
        let address = address.map(|address| address.parse().unwrap());
        expr(text).eval(&Scene { caller, captures, address }, &mut ())
    }

    fn ask(text: &str, caller: &Caller) -> Truth {
        ask_with(text, caller, &Captures::default(), None)
    }

    /// A word that has this truth for [`user`].
    fn word(truth: Truth) -> &'static str {
        match truth {
            Truth::True => "signed-in",
            Truth::False => "role:nobody",
            Truth::Unknown => "group:any",
        }
    }

    fn level(truth: Truth) -> i8 {
        match truth {
            Truth::True => 1,
            Truth::False => -1,
            Truth::Unknown => 0,
        }
    }

    #[test]
    fn and_or_and_not_follow_kleene_s_tables() {
        let user = user();
        for one in TRUTHS {
            assert_eq!(ask(word(one), &user), one);
            assert_eq!(level(ask(&format!("not {}", word(one)), &user)), -level(one));
            for two in TRUTHS {
                let both = format!("{} and {}", word(one), word(two));
                let either = format!("{} or {}", word(one), word(two));
                assert_eq!(level(ask(&both, &user)), level(one).min(level(two)), "{both}");
                assert_eq!(level(ask(&either, &user)), level(one).max(level(two)), "{either}");
            }
        }
    }

    #[test]
    fn a_caller_is_signed_in_by_any_slot() {
        let one = identity("x", &[], "{}");
        assert_eq!(ask("signed-in", &Caller::default()), Truth::False);
        assert_eq!(ask("signed-in", &Caller { user: one.clone(), ..Caller::default() }), Truth::True);
        assert_eq!(ask("signed-in", &Caller { workload: one.clone(), ..Caller::default() }), Truth::True);
        assert_eq!(ask("signed-in", &Caller { app: one, ..Caller::default() }), Truth::True);
    }

    #[test]
    fn lists_are_read_by_exact_membership_and_a_missing_list_is_unknown() {
        let user = user();
        assert_eq!(ask("role:admin", &user), Truth::True);
        assert_eq!(ask("role:Admin", &user), Truth::False);
        assert_eq!(ask("scope:orders:read", &user), Truth::True);
        assert_eq!(ask("scope:orders", &user), Truth::False);
        assert_eq!(ask("group:staff", &user), Truth::Unknown);
        assert_eq!(ask("not group:staff", &user), Truth::Unknown);
    }

    #[test]
    fn a_user_does_not_inherit_the_roles_of_the_frontend_it_came_through() {
        let mut workload = Identity::of_workload(&"front".into(), "spiffe://a/front");
        workload.derive_role(&"deployer".into(), Truth::True);
        let mut caller = Caller { workload: Some(Arc::new(workload)), ..Caller::default() };
        assert_eq!(ask("role:deployer", &caller), Truth::True);
        caller.user = identity("u1", &["admin"], "{}");
        assert_eq!(ask("role:deployer", &caller), Truth::False);
        assert_eq!(ask("role:admin", &caller), Truth::True);
        assert_eq!(ask("service:front", &caller), Truth::True);
        assert_eq!(ask("service:spiffe://a/front", &caller), Truth::False);
        assert_eq!(ask("key:spiffe://a/front", &caller), Truth::False);
        assert_eq!(ask("service:u1", &caller), Truth::False);
    }

    #[test]
    fn a_workload_that_only_carries_a_request_is_known_and_is_nobody() {
        let workload = Some(Arc::new(Identity::of_workload(&"edge".into(), "spiffe://a/edge")));
        let carried = Caller { workload: workload.clone(), standing: Standing::Carries, ..Caller::default() };
        assert_eq!(ask("service:edge", &carried), Truth::True);
        assert_eq!(ask("signed-in", &carried), Truth::False);
        assert_eq!(ask("issuer:services", &carried), Truth::False);
        assert_eq!(ask("issuer:services", &Caller { standing: Standing::Acts, ..carried }), Truth::True);
        let untold = Caller { standing: Standing::Untold, ..user() };
        assert_eq!(ask("service:edge", &untold), Truth::Unknown);
        assert_eq!(ask("not service:edge", &untold), Truth::Unknown);
        assert_eq!(ask("signed-in", &untold), Truth::True);
    }

    #[test]
    fn without_an_identity_the_words_that_read_it_are_false() {
        let nobody = Caller::default();
        for text in ["role:a", "group:a", "scope:a", "claim:sub=a", "claim:sub?", "owner:id", "issuer:main", "key:a"] {
            assert_eq!(ask(text, &nobody), Truth::False, "{text}");
        }
    }

    #[test]
    fn a_claim_equals_text_has_a_member_or_cannot_be_read() {
        let user = user();
        assert_eq!(ask("claim:tier=gold", &user), Truth::True);
        assert_eq!(ask("claim:tier=Gold", &user), Truth::False);
        assert_eq!(ask("claim:tenants=b", &user), Truth::True);
        assert_eq!(ask("claim:tenants=c", &user), Truth::False);
        assert_eq!(ask("claim:n=7", &user), Truth::True);
        assert_eq!(ask("claim:missing=x", &user), Truth::False);
        assert_eq!(ask("claim:nil=null", &user), Truth::False);
        assert_eq!(ask("claim:o=x", &user), Truth::Unknown);
        assert_eq!(ask("claim:o.in=x", &user), Truth::True);
    }

    #[test]
    fn a_claim_is_present_unless_it_is_missing_or_null() {
        let user = user();
        for (path, truth) in [("tier", true), ("tenants", true), ("o", true), ("nil", false), ("missing", false)] {
            assert_eq!(ask(&format!("claim:{path}?"), &user), truth.into(), "{path}");
        }
    }

    #[test]
    fn a_capture_is_compared_as_exact_bytes_and_never_empty() {
        let user = user();
        let names: [Box<str>; 2] = ["t".into(), "none".into()];
        let with = |text: &str, value| ask_with(text, &user, &Captures::new(&names, [value]), None);
        assert_eq!(with("claim:tenants={t}", "b"), Truth::True);
        assert_eq!(with("claim:tenants={t}", "B"), Truth::False);
        assert_eq!(with("claim:tenants={t}", "*"), Truth::False);
        assert_eq!(with("claim:empty={none}", "b"), Truth::False);
        assert_eq!(with("claim:tier={unheard}", "b"), Truth::False);
        assert_eq!(with("claim:o={t}", "b"), Truth::Unknown);
        assert_eq!(with("owner:t", "u1"), Truth::True);
        assert_eq!(with("owner:t", "u2"), Truth::False);
        assert_eq!(with("owner:none", "u1"), Truth::False);
        assert_eq!(with("claim:tier=\"{t}\"", "gold"), Truth::False);
    }

    #[test]
    fn an_issuer_is_its_name_in_the_policy() {
        assert_eq!(ask("issuer:main", &user()), Truth::True);
        assert_eq!(ask("issuer:partner", &user()), Truth::False);
    }

    #[test]
    fn a_network_holds_addresses_with_mapped_ones_folded_and_no_address_is_unknown() {
        let nobody = Caller::default();
        let from = |text: &str, address| ask_with(text, &nobody, &Captures::default(), address);
        assert_eq!(from("network:10.0.0.0/8", Some("10.1.2.3")), Truth::True);
        assert_eq!(from("network:10.0.0.0/8", Some("11.1.2.3")), Truth::False);
        assert_eq!(from("network:10.0.0.0/8", Some("::ffff:10.1.2.3")), Truth::True);
        assert_eq!(from("network:::ffff:10.0.0.0/104", Some("10.1.2.3")), Truth::True);
        assert_eq!(from("network:192.0.2.7", Some("192.0.2.7")), Truth::True);
        assert_eq!(from("network:192.0.2.7", Some("192.0.2.8")), Truth::False);
        assert_eq!(from("network:2001:db8::/32", Some("2001:db8::1")), Truth::True);
        assert_eq!(from("network:::/0", Some("10.1.2.3")), Truth::False);
        assert_eq!(from("network:10.0.0.0/8", None), Truth::Unknown);
        assert_eq!(from("not network:10.0.0.0/8", None), Truth::Unknown);
    }

    #[test]
    fn who_acts_for_the_subject_is_who_acts_now() {
        let with = |act: &str| {
            let claims = format!(r#"{{"iss":"https://id.test","act":{act}}}"#);
            Caller { user: identity("u1", &[], &claims), ..Caller::default() }
        };
        let agent = with(r#"{"sub":"agent","act":{"sub":"portal"}}"#);
        assert_eq!(ask("actor:agent", &agent), Truth::True);
        assert_eq!(ask("actor:portal", &agent), Truth::False, "who acted before decides nothing");
        assert_eq!(ask("actor:*", &agent), Truth::True);
        let foreign = with(r#"{"sub":"agent","iss":"https://other.test"}"#);
        assert_eq!(ask("actor:agent", &foreign), Truth::False);
        assert_eq!(ask("actor:*", &foreign), Truth::True);
        for itself in [with("null"), user(), Caller::default()] {
            assert_eq!(ask("actor:agent", &itself), Truth::False);
            assert_eq!(ask("actor:*", &itself), Truth::False);
        }
        for act in ["7", r#""agent""#, "{}", r#"{"sub":"agent","act":7}"#] {
            assert_eq!(ask("actor:agent", &with(act)), Truth::Unknown, "{act}");
            assert_eq!(ask("not actor:*", &with(act)), Truth::Unknown, "{act}");
        }
        assert_eq!(expr("actor:*").to_string(), "actor:*");
        assert_eq!(expr(r#"actor:"*""#).to_string(), r#"actor:"*""#, "an actor of this name");
    }

    #[test]
    fn a_watcher_sees_every_word_and_nobody_sees_no_more_than_needed() {
        struct Short(usize);
        impl Watch for Short {
            const SHORT_CUT: bool = true;
            fn word(&mut self, _: WordId, _: Truth) {
                self.0 += 1;
            }
        }
        let (user, captures) = (user(), Captures::default());
        let scene = Scene { caller: &user, captures: &captures, address: None };
        let expr = expr("role:admin or not (group:x and role:y)");
        let mut words = Words::default();
        assert_eq!(expr.eval(&scene, &mut words), Truth::True);
        let seen = [(WordId(0), Truth::True), (WordId(1), Truth::Unknown), (WordId(2), Truth::False)];
        assert_eq!(words.0, seen);
        let mut short = Short(0);
        assert_eq!(expr.eval(&scene, &mut short), Truth::True);
        assert_eq!(short.0, 1);
        assert_eq!(expr.word(WordId(1)), Some(&Word::Group("x".into())));
        assert_eq!(expr.word(WordId(3)), None);
    }

    #[test]
    fn joined_parts_are_numbered_anew_and_capped() {
        let whole = Expr::join(Join::Any, vec![expr("role:a and role:b"), expr("role:c").negate().unwrap()]).unwrap();
        assert_eq!(whole, expr("(role:a and role:b) or not role:c"));
        assert_eq!(Expr::join(Join::All, vec![expr("role:a")]).unwrap(), expr("role:a"));
        assert_eq!(Expr::join(Join::All, vec![]), Err(RuleFault::Empty));
        let many: Vec<Expr> = (0..=MAX_WORDS).map(|_| expr("signed-in")).collect();
        assert_eq!(Expr::join(Join::All, many), Err(RuleFault::TooManyWords));
        let deep = (1..MAX_DEPTH).try_fold(expr("signed-in"), |expr, _| expr.negate()).unwrap();
        assert_eq!(deep.negate(), Err(RuleFault::TooDeep));
    }

    #[test]
    fn a_rule_tells_what_it_needs() {
        assert!(!Rule::Public.needs_identity());
        assert!(!Rule::Anyone.needs_identity());
        assert!(Rule::parse("network:10.0.0.0/8").unwrap().needs_identity());
        assert!(expr("not network:10.0.0.0/8 or network:192.0.2.1").without_identity());
        assert!(!expr("network:10.0.0.0/8 or signed-in").without_identity());
        let text = "owner:id or claim:a={b} or claim:c=d or claim:e? or role:f";
        assert_eq!(expr(text).captures_used().collect::<Vec<_>>(), ["id", "b"]);
    }

    /// A random tree over words of known truth.
    fn tree() -> impl Strategy<Value = Expr> {
        let leaf = (0..3_usize).prop_map(|at| expr(word(TRUTHS[at])));
        leaf.prop_recursive(4, 24, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(|part| Expr::Not(Box::new(part))),
                prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| Expr::All(parts.into())),
                prop::collection::vec(inner, 2..4).prop_map(|parts| Expr::Any(parts.into())),
            ]
        })
    }

    fn reference(expr: &Expr) -> i8 {
        match expr {
            Expr::Word(_, Word::SignedIn) => 1,
            Expr::Word(_, Word::Group(_)) => 0,
            Expr::Word(..) => -1,
            Expr::Not(part) => reference(part).saturating_neg(),
            Expr::All(parts) => parts.iter().map(reference).min().unwrap(),
            Expr::Any(parts) => parts.iter().map(reference).max().unwrap(),
        }
    }

    proptest! {
        #[test]
        fn evaluation_agrees_with_the_reference_watched_or_not(expr in tree()) {
            let (user, captures) = (user(), Captures::default());
            let scene = Scene { caller: &user, captures: &captures, address: None };
            let mut words = Words::default();
            let watched = expr.eval(&scene, &mut words);
            prop_assert_eq!(level(watched), reference(&expr));
            prop_assert_eq!(expr.eval(&scene, &mut ()), watched);
            prop_assert_eq!(words.0.len(), expr.words().count());
        }
    }
}
