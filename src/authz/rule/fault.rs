//! What can be wrong with the text of a rule, and what would be right.

use std::ops::Range;

/// What is wrong with a rule, and where in its text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct RuleError {
    /// The bytes of the text that are wrong.
    pub at: Range<usize>,
    /// What is wrong with them.
    pub kind: RuleFault,
}

/// What is wrong with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// No word at all.
    #[error("the rule is empty; write `public`, `anyone`, `signed-in` or who may pass, as in `role:admin`")]
    Empty,
    /// The text is over the cap.
    #[error("the rule is longer than 4 KiB; give the condition a name under `roles:` and use that")]
    TooLong,
    /// Over the cap of words.
    #[error("the rule has more than 64 words; give parts of it a name under `roles:` and use those")]
    TooManyWords,
    /// Over the cap of depth.
    #[error("the rule nests deeper than 16; give parts of it a name under `roles:` and use those")]
    TooDeep,
    /// Not a word of the grammar.
    #[error("there is no such word{}", Suggestion(*.0))]
    UnknownWord(Option<&'static str>),
    /// A word that needs a value has none.
    #[error("`{0}` needs a value: `{0}:…`")]
    NoValue(&'static str),
    /// The value is empty.
    #[error("the value is empty; write one after the `{0}`")]
    EmptyValue(char),
    /// A word that takes no value has one.
    #[error("`{0}` takes no value")]
    NotAValue(&'static str),
    /// `public` or `anyone` beside other words.
    #[error("`{0}` stands alone: a rule is either `{0}` or made of other words")]
    NotAlone(&'static str),
    /// `and` beside `or`.
    #[error("`and` and `or` are mixed; say with parentheses which goes first, as in `a and (b or c)`")]
    Mixed,
    /// Two words with nothing between them.
    #[error("`and` or `or` is missing before this")]
    NoOperator,
    /// An operator without a word at its side.
    #[error("a word is missing {}", if *.0 { "before this" } else { "after this" })]
    NoOperand(bool),
    /// An opening parenthesis without its closing one.
    #[error("this parenthesis is never closed")]
    NeverClosed,
    /// A closing parenthesis without its opening one.
    #[error("this parenthesis was never opened")]
    NeverOpened,
    /// A quote without its closing one.
    #[error("this quote is never closed")]
    UnclosedQuote,
    /// A quote inside a value.
    #[error("a quote stands inside a value; quote the whole value, and write a quote in it as `\\\"`")]
    StrayQuote,
    /// Another escape than `\"` and `\\`.
    #[error("only `\\\"` and `\\\\` are escapes")]
    BadEscape,
    /// A character that must be quoted.
    #[error("{} must be quoted, as in `role:\"Domain Admins\"`", Shown(*.0))]
    MustQuote(char),
    /// An operator or a rule as a value.
    #[error("a value that is a word of the grammar must be quoted, as in `role:\"and\"`")]
    MustQuoteWord,
    /// An unquoted `*` in a value.
    #[error("values are compared exactly, `*` stands for nothing here; quote the value if it really has a `*`")]
    Star,
    /// A control character.
    #[error("a value holds a control character")]
    Control,
    /// A claim without a test.
    #[error("what of the claim? write `claim:path=value`, `claim:path={{capture}}` or `claim:path?`")]
    NoTest,
    /// A claim path that is empty or has an empty part.
    #[error("a claim's path is a name, or names with a `.` between them, as in `realm_access.roles`")]
    BadClaimPath,
    /// Braces where no capture goes.
    #[error(
        "a capture goes into `claim:path={{capture}}` and `owner:capture` only; quote the value if it really has braces"
    )]
    CaptureHere,
    /// A name that no capture can have.
    #[error("a capture's name is letters, digits, `_` and `-`, as in `{{tenant}}`")]
    BadCapture,
    /// `owner:{id}`.
    #[error("`owner:` takes the capture's name without braces: `owner:id`")]
    OwnerBraces,
    /// Not a network.
    #[error("not a network; write it as `10.0.0.0/8`, `192.0.2.7` or `2001:db8::/32`")]
    BadNetwork,
    /// An address in a network.
    #[error("the address has bits outside the mask; write the network as `{0}`")]
    HostBits(ipnet::IpNet),
}

struct Suggestion(Option<&'static str>);

impl std::fmt::Display for Suggestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(word) => write!(f, "; did you mean `{word}`?"),
            None => f.write_str(
                "; the words are public, anyone, signed-in, role: group: scope: claim: owner: \
                 service: key: issuer: actor: network: and not, and, or",
            ),
        }
    }
}

struct Shown(char);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_whitespace() {
            f.write_str("a value with a space")
        } else {
            write!(f, "a value with `{}`", self.0)
        }
    }
}
