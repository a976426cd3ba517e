//! Query parameters that carry credentials (RFC 6750 §2.3): read in one spelling only, and cut out wherever a query is shown.

use std::borrow::Cow;

use crate::authz::header::fold_parameter;
use crate::authz::reason::Reason;

/// The value of the one parameter of this name, as it was sent; an escape in it makes it no token.
///
/// # Errors
/// [`Reason::QueryAmbiguous`] where the name is there twice, or in another spelling that some upstream reads as it, or
/// where a `;` could separate parameters there: what is spelt otherwise no gateway would remove.
pub(super) fn token<'q>(query: &'q str, name: &str) -> Result<Option<&'q str>, Reason> {
    let mut found = None;
    for piece in query.split('&') {
        let (key, value) = piece.split_once('=').unwrap_or((piece, ""));
        if key == name {
            if found.replace(value).is_some() || value.contains(';') {
                return Err(Reason::QueryAmbiguous);
            }
        } else if holds(piece, name) {
            return Err(Reason::QueryAmbiguous);
        }
    }
    Ok(found)
}

/// The query without every parameter that has, or may be read as, one of these names.
#[must_use]
pub fn without<'q>(query: &'q str, names: &[Box<str>]) -> Cow<'q, str> {
    if names.is_empty() || !query.split('&').any(|piece| carries(piece, names)) {
        return query.into();
    }
    query.split('&').filter(|piece| !carries(piece, names)).collect::<Vec<_>>().join("&").into()
}

/// Whether a parameter has, or may be read as having, one of these names.
pub(in crate::authz) fn carries(piece: &str, names: &[Box<str>]) -> bool {
    names.iter().any(|name| holds(piece, name))
}

/// Whether a parameter, or a part of it between semicolons, may be read as having this name.
fn holds(piece: &str, name: &str) -> bool {
    piece.split(';').any(|part| {
        let key = part.split('=').next().unwrap_or_default();
        let alike = || folded(key) == folded(name) || fold_parameter(key.as_bytes()) == fold_parameter(name.as_bytes());
        key == name || (key.len() >= name.len() && alike())
    })
}

/// How upstreams may fold a name: escapes decoded, more than once by some; without regard to case; `.`, `[`, spaces and
/// the like as `_` or not at all; what follows `[` as an index.
fn folded(name: &str) -> Vec<u8> {
    let mut name: Vec<u8> = name.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }).collect();
    for _ in 0..3 {
        if !name.contains(&b'%') {
            break;
        }
        name = percent_encoding::percent_decode(&name).collect();
    }
    let start = name.iter().position(|byte| byte.is_ascii_alphanumeric()).unwrap_or_default();
    let name = name.get(start..).unwrap_or_default();
    let name = name.split(|byte| matches!(byte, b'[' | 0)).next().unwrap_or_default();
    let end = name.iter().rposition(u8::is_ascii_alphanumeric).map_or(0, |last| last.saturating_add(1));
    let name = name.get(..end).unwrap_or_default();
    name.iter().map(|byte| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "access_token";

    #[test]
    fn a_parameter_is_read_by_its_very_name() {
        assert_eq!(token("a=1&access_token=x.y.z&b=2", NAME), Ok(Some("x.y.z")));
        assert_eq!(token("access_token=", NAME), Ok(Some("")));
        assert_eq!(token("access_token", NAME), Ok(Some("")));
        assert_eq!(token("access_token=x=y", NAME), Ok(Some("x=y")));
        for query in
            ["", "a=1", "token=x", "access_tokens=x", "my_access_token=x", "a=access_token", "a=b;c=d", "%zz=1"]
        {
            assert_eq!(token(query, NAME), Ok(None), "{query}");
        }
    }

    #[test]
    fn every_other_spelling_of_its_name_is_refused() {
        for query in [
            "access%5Ftoken=x",
            "access%5ftoken=x",
            "%61ccess_token=x",
            "access%255Ftoken=x",
            "access%u005Ftoken=x",
            "access%25u005ftoken=x",
            "access%25255Ftoken=x",
            "ACCESS_TOKEN=x",
            "Access_Token=x",
            "access.token=x",
            "access-token=x",
            "access+token=x",
            "+access_token=x",
            "%20access_token=x",
            "access_token%00=x",
            "access_token[]=x",
            "access_token%5B0%5D=x",
            "access_token%5B%5D",
            "a=1;access_token=x",
            "a;access_token=x",
            ";access_token=x",
            "a=1;access%5Ftoken=x",
            "access_token=x;y=1",
            "access_token=x;access_token=y",
            "access_token=x&access_token=x",
            "access_token=x&access_token=y",
            "access_token=x&access%5Ftoken=y",
            "access_token&access_token=x",
        ] {
            assert_eq!(token(query, NAME), Err(Reason::QueryAmbiguous), "{query}");
            assert!(!without(query, &[NAME.into()]).contains('x'), "{query} is shown");
        }
    }

    #[test]
    fn what_is_cut_out_leaves_the_rest_as_it_was() {
        let names: [Box<str>; 2] = [NAME.into(), "t".into()];
        assert_eq!(without("b=2&access_token=x&a=%20&&c", &names), "b=2&a=%20&&c");
        assert_eq!(without("t=x", &names), "");
        assert!(matches!(without("b=2&a=1", &names), Cow::Borrowed("b=2&a=1")));
        assert_eq!(without("access_token=x", &[]), "access_token=x");
    }
}
