//! The rule words that say the same as a condition: what one reads more easily, and `explain` tells more of.
#![expect(clippy::wildcard_enum_match_arm, reason = "most of CEL has no word")]

use super::syntax::{Kind, Literal, Operator, Syntax};
use crate::authz::identity::ClaimPath;
use crate::authz::rule::{Test, Word};

/// The words, where each part of the condition has one.
pub(super) fn words(syntax: &Syntax) -> Option<String> {
    let joined = |parts: &[Syntax], between: &str| {
        let parts: Vec<String> = parts.iter().map(part).collect::<Option<_>>()?;
        Some(parts.join(between))
    };
    match &syntax.kind {
        Kind::All(parts) => joined(parts, " and "),
        Kind::Any(parts) => joined(parts, " or "),
        _ => part(syntax),
    }
}

fn part(syntax: &Syntax) -> Option<String> {
    if let Kind::Not(inner) = &syntax.kind {
        return Some(format!("not {}", word(inner)?));
    }
    word(syntax).map(|word| word.to_string())
}

fn word(syntax: &Syntax) -> Option<Word> {
    match &syntax.kind {
        Kind::Select(..) => (path(syntax)? == ["caller", "signed_in"]).then_some(Word::SignedIn),
        Kind::Binary(Operator::In, value, list) => listed(text(value)?, &path(list)?),
        Kind::Binary(Operator::Equal, one, two) => equal(one, two).or_else(|| equal(two, one)),
        _ => None,
    }
}

/// `'x' in list`
fn listed(value: &str, list: &[&str]) -> Option<Word> {
    match list {
        ["caller", "roles"] => Some(Word::Role(value.into())),
        ["caller", "groups"] => Some(Word::Group(value.into())),
        ["caller", "scopes"] => Some(Word::Scope(value.into())),
        ["claims", rest @ ..] => Some(Word::Claim { path: claim(rest)?, test: Test::Equals(value.into()) }),
        _ => None,
    }
}

/// `one == two`
fn equal(one: &Syntax, two: &Syntax) -> Option<Word> {
    let (left, value) = (path(one)?, text(two).map(Box::from));
    let right = path(two);
    match (left.as_slice(), value, right.as_deref()) {
        (["caller", "issuer"], Some(value), _) => Some(Word::Issuer(value)),
        (["caller", "subject"], None, Some(["path", name])) => Some(Word::Owner((*name).into())),
        (["claims", rest @ ..], Some(value), _) => Some(Word::Claim { path: claim(rest)?, test: Test::Equals(value) }),
        (["claims", rest @ ..], None, Some(["path", name])) => {
            Some(Word::Claim { path: claim(rest)?, test: Test::Capture((*name).into()) })
        }
        (["claims", rest @ ..], None, None) => {
            let value = match &two.kind {
                Kind::Literal(Literal::Bool(value)) => value.to_string(),
                Kind::Literal(Literal::Int(value)) => value.to_string(),
                _ => return None,
            };
            Some(Word::Claim { path: claim(rest)?, test: Test::Equals(value.into()) })
        }
        _ => None,
    }
}

fn claim(names: &[&str]) -> Option<ClaimPath> {
    ClaimPath::of(names.iter().map(|name| Box::from(*name)).collect())
}

fn text(syntax: &Syntax) -> Option<&str> {
    if let Kind::Literal(Literal::Text(text)) = &syntax.kind { Some(text).map(|text| &**text) } else { None }
}

/// `a.b.c`, `a['b'].c`
fn path(syntax: &Syntax) -> Option<Vec<&str>> {
    match &syntax.kind {
        Kind::Name(name) => Some(vec![name]),
        Kind::Select(of, name) => Some([path(of)?, vec![name]].concat()),
        Kind::Index(of, key) => Some([path(of)?, vec![text(key)?]].concat()),
        _ => None,
    }
}
