//! The rule words: who may pass, as a tree of words, evaluated in three values without ever failing.

use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;

use super::identity::{Caller, ClaimPath, Identity, Reading, Truth};
use super::route::Captures;

mod fault;
mod grammar;

pub use fault::{RuleError, RuleFault};

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
    /// `service:x`: the subject in the workload slot.
    Service(Box<str>),
    /// `key:x`: the subject in the app slot.
    Key(Box<str>),
    /// `actor:x`: who acts for the subject (RFC 8693 §4.1).
    Actor(Box<str>),
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
            | Self::Actor(_) => None,
        }
    }

    fn ask(&self, scene: &Scene<'_>) -> Truth {
        let caller = scene.caller;
        let acting = |ask: &dyn Fn(&Identity) -> Truth| caller.acting().map_or(Truth::False, |identity| ask(identity));
        match self {
            Self::SignedIn => (caller.user.is_some() || caller.workload.is_some() || caller.app.is_some()).into(),
            Self::Role(name) => acting(&|identity| identity.role(name)),
            Self::Group(name) => acting(&|identity| identity.group(name)),
            Self::Scope(name) => acting(&|identity| identity.scope(name)),
            Self::Claim { path, test } => acting(&|identity| test.ask(&identity.claim(path), scene.captures)),
            Self::Owner(name) => acting(&|identity| {
                captured(scene.captures, name, |value| (*identity.principal().subject == *value).into())
            }),
            Self::Issuer(name) => acting(&|identity| (*identity.principal().issuer == **name).into()),
            Self::Network(network) => {
                scene.address.map_or(Truth::Unknown, |address| network.contains(&address.to_canonical()).into())
            }
            Self::Service(name) => has_subject(caller.workload.as_deref(), name),
            Self::Key(name) => has_subject(caller.app.as_deref(), name),
            // Until delegation is read, nobody can tell: neither a permit nor a forbid may rest on it.
            Self::Actor(_) => Truth::Unknown,
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

fn has_subject(identity: Option<&Identity>, name: &str) -> Truth {
    identity.is_some_and(|identity| *identity.principal().subject == *name).into()
}
