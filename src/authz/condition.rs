//! Conditions, for what words cannot say: a subset of CEL that is read and checked when the policy is, and then always comes
//! to true, to false, or to a failure with its place, in a bounded number of steps.

use std::ops::Range;

mod bind;
mod call;
mod check;
mod eval;
mod fault;
mod lex;
mod pattern;
mod reads;
mod syntax;
mod tell;
mod time;
mod types;
mod value;
mod word;

pub use check::Variable;
pub use eval::MAX_STEPS;
pub use fault::{ConditionError, ConditionFault, Failure, Fault};
pub use pattern::MAX_MATCHED;
pub use syntax::{MAX_DEPTH, MAX_TEXT};
pub use tell::Part;
pub use types::Type;
pub use value::{MAX_MEMBERS, MAX_VALUE_TEXT};

use bytes::Bytes;

use super::request::Request;
use super::rule;
use super::time::Timestamp;

/// Headers that carry a credential wherever they are.
const CREDENTIALS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "set-cookie"];

/// What a route asks beside its rule.
#[derive(Clone, Debug)]
pub struct Condition {
    text: Box<str>,
    whole: check::Node,
    reads: Box<[(Variable, Range<usize>)]>,
    hidden: Box<[Box<str>]>,
    hidden_queries: Box<[Box<str>]>,
    lent: Box<[Box<str>]>,
}

/// Where a condition stands, and so what it may ask.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'p> {
    /// The captures of the route's key.
    pub captures: &'p [&'p str],
    /// Whether nobody is known there, because no credential is read.
    pub public: bool,
    /// The headers in which this policy looks for credentials, in lower case.
    pub hidden: &'p [Box<str>],
    /// The parameters in which it looks for them.
    pub hidden_queries: &'p [Box<str>],
    /// The headers that some gateway is believed to set itself, in lower case.
    pub lent: &'p [Box<str>],
}

/// What a condition is asked over.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The request.
    pub request: &'a Request<'a>,
    /// Who calls, from where, and what the route's key captured.
    pub who: rule::Scene<'a>,
    /// The headers that the gateway which asks is believed to set itself, in lower case.
    pub lent: &'a [Bytes],
    /// When.
    pub now: Timestamp,
}

impl Condition {
    /// Reads and checks a condition.
    ///
    /// # Errors
    /// Where it is no CEL, asks for what is not there, or can never be told; the error says where in it.
    pub fn parse(text: &str, place: &Place<'_>) -> Result<Self, ConditionError> {
        let syntax = syntax::read(text)?;
        let (whole, reads) = check::check(&syntax, place)?;
        let [hidden, hidden_queries, lent] = [place.hidden, place.hidden_queries, place.lent].map(Box::from);
        Ok(Self { text: text.into(), whole, reads: reads.into(), hidden, hidden_queries, lent })
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// Where it came to neither true nor false.
    pub fn holds(&self, scene: &Scene<'_>) -> Result<bool, Failure> {
        eval::Run::new(bind::Bindings::new(scene, self)).bool(&self.whole)
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The variables that it reads, and where in its text; one may come twice.
    pub fn reads(&self) -> impl Iterator<Item = (&Variable, &Range<usize>)> {
        self.reads.iter().map(|(variable, at)| (variable, at))
    }

    /// The headers that it may read, in lower case; `None` where that may be any.
    #[must_use]
    pub fn headers_read(&self) -> Option<Vec<&str>> {
        self.whole.headers_read()
    }

    /// Whether it asks who calls.
    #[must_use]
    pub fn is_about_caller(&self) -> bool {
        self.reads.iter().any(|(variable, _)| variable.is_about_caller())
    }
}

/// The rule words that say the same as a condition, where there are such.
#[must_use]
pub fn words(text: &str) -> Option<String> {
    word::words(&syntax::read(text).ok()?)
}

impl Condition {
    /// Whether a header may be shown: it carries no credential, and is set by the gateway that asks where one sets it.
    fn shows(&self, name: &str, scene: &Scene<'_>) -> bool {
        let is_lent = self.lent.iter().any(|lent| **lent == *name);
        !name.starts_with(':')
            && !is_hidden(name, &self.hidden)
            && (!is_lent || scene.lent.iter().any(|lent| **lent == *name.as_bytes()))
    }
}

fn is_hidden(name: &str, hidden: &[Box<str>]) -> bool {
    CREDENTIALS.contains(&name) || hidden.iter().any(|hidden| **hidden == *name)
}

#[cfg(test)]
mod tests;
