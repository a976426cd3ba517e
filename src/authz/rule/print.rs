//! A rule printed so that reading it again gives the same tree.

use std::fmt;

use super::grammar::{is_reserved, is_special};
use super::{Expr, Rule, Test, Word};
use crate::authz::identity::ClaimPath;

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::Anyone => f.write_str("anyone"),
            Self::Where(expr) => write!(f, "{expr}"),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(_, word) => write!(f, "{word}"),
            Self::Not(part) => {
                f.write_str("not ")?;
                part.fmt_operand(f)
            }
            Self::All(parts) => joined(parts, " and ", f),
            Self::Any(parts) => joined(parts, " or ", f),
        }
    }
}

impl Expr {
    fn fmt_operand(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(..) | Self::Not(_) => write!(f, "{self}"),
            Self::All(_) | Self::Any(_) => write!(f, "({self})"),
        }
    }
}

fn joined(parts: &[Expr], operator: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    parts.iter().enumerate().try_for_each(|(at, part)| {
        if at > 0 {
            f.write_str(operator)?;
        }
        part.fmt_operand(f)
    })
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, value) = match self {
            Self::SignedIn => return f.write_str("signed-in"),
            Self::AnyActor => return f.write_str("actor:*"),
            Self::Network(network) => return write!(f, "network:{network}"),
            Self::Claim { path, test } => return write!(f, "claim:{}{test}", ShownPath(path)),
            Self::Role(value) => ("role", value),
            Self::Group(value) => ("group", value),
            Self::Scope(value) => ("scope", value),
            Self::Owner(value) => ("owner", value),
            Self::Issuer(value) => ("issuer", value),
            Self::Service(value) => ("service", value),
            Self::Key(value) => ("key", value),
            Self::Actor(value) => ("actor", value),
        };
        write!(f, "{kind}:{}", Shown(value))
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equals(value) => write!(f, "={}", Shown(value)),
            Self::Capture(name) => write!(f, "={{{name}}}"),
            Self::Present => f.write_str("?"),
        }
    }
}

/// A value as it must be written.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_reserved(self.0) || self.0.contains(is_special) {
            return write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""));
        }
        f.write_str(self.0)
    }
}

/// A claim's path as it must be written.
struct ShownPath<'a>(&'a ClaimPath);

impl fmt::Display for ShownPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0.to_string();
        if path.contains('?') {
            write!(f, "\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            write!(f, "{}", Shown(&path))
        }
    }
}
