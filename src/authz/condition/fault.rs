//! What can be wrong with a condition: in its text, when it is read, and in its values, when it is asked.

use std::ops::Range;

use super::types::Type;

/// What is wrong with the text of a condition, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct ConditionError {
    /// The bytes of the text that are wrong.
    pub at: Range<usize>,
    /// What is wrong with them.
    pub kind: ConditionFault,
}

/// Why a condition came to neither true nor false, and at which part of its text. Holds no value of the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct Failure {
    /// The bytes of the text that could not be told.
    pub at: Range<usize>,
    /// Why.
    pub kind: Fault,
}

/// What is wrong with the text of a condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionFault {
    /// No text.
    #[error("the condition is empty; write what must hold, as in `claims.level >= 3`")]
    Empty,
    /// Over the cap of bytes.
    #[error("the condition is longer than 4 KiB; say parts of it with rule words under `allow`")]
    TooLong,
    /// Over the cap of depth.
    #[error("the condition nests deeper than 32; make it flatter, or say parts of it with rule words")]
    TooDeep,
    /// Macros within macros within macros.
    #[error("`all`, `exists`, `map` and `filter` nest deeper than two; say it with fewer of them")]
    TooManyLoops,
    /// A character that begins nothing.
    #[error("CEL has no such character here; names are letters, digits and `_`, texts are in quotes")]
    Character,
    /// A quote that is never closed.
    #[error("this text is never closed; it ends with the quote that it began with, on the same line")]
    OpenText,
    /// An escape that CEL has not.
    #[error("CEL has no such escape; write `\\\\` for a backslash, or r'…' for a text without escapes")]
    Escape,
    /// A number that CEL cannot hold.
    #[error("this is not a number that CEL can hold; int and uint have 64 bits")]
    Number,
    /// Something else was expected here.
    #[error(
        "{0} is missing here; in a row of `{{…}}` YAML ends a text at a comma, and such a condition must be quoted"
    )]
    Missing(&'static str),
    /// What follows a whole condition.
    #[error("the condition ends before this; join two with `&&` or `||`")]
    Trailing,
    /// `=`, `and`, `or`, `not`.
    #[error("CEL has no `{0}`; write `{1}`")]
    Spelling(&'static str, &'static str),
    /// A word that CEL keeps for itself.
    #[error("CEL keeps this word for itself; a claim of this name is `claims['…']`")]
    Reserved,
    /// Not a variable.
    #[error("there is no such variable{}", Nearest(*.0, "request, caller, claims, path and now"))]
    UnknownName(Option<&'static str>),
    /// Not a field of `request` or `caller`.
    #[error("`{object}` has no such field{}", Nearest(*.nearest, .fields))]
    UnknownField {
        /// Of what.
        object: &'static str,
        /// What it has.
        fields: &'static str,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// `request` alone.
    #[error("`{0}` alone is no value; name a field of it, as in `{1}`")]
    NoField(&'static str, &'static str),
    /// Not a capture of the route key.
    #[error("the route key captures nothing of this name; write `{{name}}` into the key")]
    UnknownCapture,
    /// `caller` or `claims` where nobody is known.
    #[error("on a public route no credential is read, so nobody knows who calls; `anyone` reads one where it is there")]
    Nobody,
    /// A header that carries a credential.
    #[error("a header that carries a credential is not shown to conditions; ask for `claims` or `caller`")]
    CredentialHeader,
    /// A parameter that carries a credential.
    #[error("a parameter that carries a credential is not shown to conditions; ask for `claims` or `caller`")]
    CredentialParameter,
    /// A header that no request has under this name.
    #[error("names of headers are in lower case; write it so")]
    HeaderCase,
    /// Not a function.
    #[error(
        "there is no such function{}",
        Nearest(*.0, "size, startsWith, endsWith, contains, matches, has, all, exists, exists_one, map, filter, int, \
        uint, double, string, bytes, bool, timestamp, duration, type, dyn and getHours() and its kin")
    )]
    UnknownFunction(Option<&'static str>),
    /// A function that takes other things.
    #[error("`{0}` does not take {1}")]
    Arguments(&'static str, String),
    /// An operator that takes other things.
    #[error("`{0}` does not take {1}")]
    Operands(&'static str, String),
    /// A type that cannot be here.
    #[error("this is {0}, and must be {1}")]
    Type(Type, &'static str),
    /// A macro without its variable.
    #[error("`{0}` takes a name and what to ask of it, as in `claims.groups.exists(g, g.startsWith('ops-'))`")]
    MacroShape(&'static str),
    /// `has` without a member.
    #[error("`has` takes a member, as in `has(claims.level)`")]
    HasShape,
    /// A pattern that is not known when the policy is read.
    #[error("the pattern of `matches` must be a text that is written here; use startsWith, endsWith or contains")]
    PatternNotLiteral,
    /// Over the caps of patterns.
    #[error("the pattern is longer than 256 bytes, or too large for one check; use startsWith, endsWith or contains")]
    PatternTooLarge,
    /// Not a pattern.
    #[error("this is no pattern of RE2; look-around and back-references are not in it")]
    Pattern,
    /// A time zone by name.
    #[error("a time zone is `UTC` or an offset that is written here, as in `+02:00`; names of zones are not known")]
    Zone,
    /// An error that is there whatever is asked.
    #[error("this can never be told: {0}")]
    Always(Fault),
    /// A condition that asks nothing.
    #[error("the condition is the same for every request; ask for `request`, `caller`, `claims`, `path` or `now`")]
    Constant,
}

/// Why a value could not be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A claim, a key of a map, or a place in a list.
    #[error("there is no such member")]
    NoMember,
    /// `claims` or a field of `caller` where nobody is signed in.
    #[error("nobody is signed in")]
    Nobody,
    /// Roles, groups or scopes that could not be read.
    #[error("the list is missing from the token, or is not a list of texts")]
    ListUnknown,
    /// The address of the caller.
    #[error("no gateway that is believed says the caller's address")]
    AddressUnknown,
    /// A value of a header that is not text.
    #[error("the header is not text")]
    HeaderNotText,
    /// A query that servers may read in two ways.
    #[error("the query has over 1,024 pairs, a bad escape, bytes that are not text, or a `;`")]
    Query,
    /// A text, list or map over its cap.
    #[error("a text is over 8 KiB, or a list or map has over 1,024 members")]
    TooLarge,
    /// An operator or function met a value of another type.
    #[error("a value is of another type than is asked for")]
    Type,
    /// Overflow of an integer, a timestamp or a duration.
    #[error("a number, timestamp or duration is out of range")]
    Range,
    /// Division or remainder by zero.
    #[error("a division by zero")]
    Zero,
    /// A text that does not convert.
    #[error("a text or number does not convert to the type that is asked for")]
    Conversion,
    /// A key that a map has twice.
    #[error("a map has a key twice, or one that is no key")]
    Key,
    /// Over the budget of steps.
    #[error("it takes more steps than a check may cost")]
    Budget,
}

struct Nearest<'a>(Option<&'static str>, &'a str);

impl std::fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(name) => write!(f, "; did you mean `{name}`?"),
            None => write!(f, "; there are {}", self.1),
        }
    }
}
