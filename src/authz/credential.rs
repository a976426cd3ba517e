//! Where a request may carry a token, and that it carries one only.

use super::reason::Reason;
use super::request::Request;

/// Where an issuer's tokens are looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// `Authorization: Bearer …` (RFC 6750 §2.1).
    Bearer,
    /// A header, by its name in lower case, whose whole value is the token.
    Header(Box<str>),
    /// A cookie, by its name, whose whole value is the token.
    Cookie(Box<str>),
}

/// A token as it was presented, not verified.
#[derive(Clone, Copy)]
pub struct Presented<'r, 's> {
    /// Its bytes.
    pub token: &'r [u8],
    /// Where it stood.
    pub source: &'s Source,
}

/// Finds the one token that stands in any of these places.
///
/// # Errors
/// [`Reason::CredentialAmbiguous`] where two different ones stand there, and [`Reason::TokenMalformed`] where the bearer
/// scheme is not followed by exactly one space.
pub fn find<'r, 's>(
    request: &Request<'r>,
    sources: impl Iterator<Item = &'s Source>,
) -> Result<Option<Presented<'r, 's>>, Reason> {
    let mut found: Option<Presented<'r, 's>> = None;
    let mut take = |token: &'r [u8], source: &'s Source| match &found {
        Some(earlier) if earlier.token != token => Err(Reason::CredentialAmbiguous),
        Some(earlier) if *earlier.source == Source::Bearer => Ok(()),
        _ => {
            found = Some(Presented { token, source });
            Ok(())
        }
    };
    for source in sources {
        match source {
            Source::Bearer => {
                if let Some(token) = request.seen.authorization.map(bearer).transpose()?.flatten() {
                    take(token, source)?;
                }
            }
            Source::Header(name) => {
                for value in request.header(name.as_bytes()) {
                    if value.contains(&b',') {
                        return Err(Reason::CredentialAmbiguous);
                    }
                    take(value, source)?;
                }
            }
            Source::Cookie(name) => {
                for value in request.cookie(name) {
                    take(value, source)?;
                }
            }
        }
    }
    Ok(found)
}

/// The token of an `Authorization` value; `None` for another scheme. Envoy joins two lines by a comma, which no token
/// holds.
fn bearer(value: &[u8]) -> Result<Option<&[u8]>, Reason> {
    if value.contains(&b',') {
        let mut parts = value.split(|byte| *byte == b',');
        return if parts.any(|part| scheme(part.trim_ascii()).is_some()) {
            Err(Reason::CredentialAmbiguous)
        } else {
            Ok(None)
        };
    }
    match scheme(value) {
        None => Ok(None),
        Some([b' ', token @ ..]) => Ok(Some(token)),
        Some(_) => Err(Reason::TokenMalformed),
    }
}

/// What follows the word `Bearer`, in any case (RFC 9110 §11.1), where that is the scheme.
fn scheme(value: &[u8]) -> Option<&[u8]> {
    let (word, rest) = value.split_at_checked(6)?;
    let ends = rest.first().is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
    (word.eq_ignore_ascii_case(b"bearer") && ends).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::request::{Asker, Header, Proof, Raw, Relaxed};

    fn found(headers: &[(&str, &str)]) -> Result<Option<String>, Reason> {
        let headers = headers.iter().map(|(n, v)| Header { name: n.as_bytes(), value: v.as_bytes() }).collect();
        let raw = Raw {
            asker: Asker::Unix,
            proof: Proof::default(),
            source: None,
            principal: b"",
            method: b"GET",
            target: b"/",
            host: b"h",
            headers,
        };
        let request = Request::read(&raw, Relaxed::default()).unwrap();
        let sources = [Source::Cookie("session".into()), Source::Bearer, Source::Header("x-token".into())];
        let found = find(&request, sources.iter())?;
        Ok(found.map(|found| format!("{}@{:?}", String::from_utf8_lossy(found.token), found.source)))
    }

    #[test] // J19
    fn a_bearer_token_follows_exactly_one_space() {
        for value in ["Bearer t", "bearer t", "BEARER t"] {
            assert_eq!(found(&[("authorization", value)]), Ok(Some("t@Bearer".into())));
        }
        for value in ["Bearer\tt", "Bearer", "Bearer=t"] {
            assert_eq!(found(&[("authorization", value)]), Err(Reason::TokenMalformed), "{value:?}");
        }
        assert_eq!(found(&[("authorization", "Bearer  t")]), Ok(Some(" t@Bearer".into())), "refused as a token");
        for value in ["Basic dTpw", "Bearerx t", "Digest a=1, b=2", ""] {
            assert_eq!(found(&[("authorization", value)]), Ok(None), "{value:?}");
        }
    }

    #[test] // J28, N08
    fn two_different_credentials_are_ambiguous() {
        for headers in [
            &[("authorization", "Bearer t,Bearer u")][..],
            &[("authorization", "Basic x, Bearer u")],
            &[("authorization", "Bearer t"), ("cookie", "session=u")],
            &[("cookie", "session=t; session=u")],
            &[("cookie", "session=t"), ("cookie", "session=u")],
            &[("x-token", "t"), ("x-token", "u")],
            &[("x-token", "t,u")],
            &[("x-token", "t"), ("authorization", "Bearer u")],
        ] {
            assert_eq!(found(headers), Err(Reason::CredentialAmbiguous), "{headers:?}");
        }
    }

    #[test]
    fn the_same_credential_twice_is_one_and_counts_as_the_bearer() {
        assert_eq!(found(&[("cookie", "session=t"), ("authorization", "Bearer t")]), Ok(Some("t@Bearer".into())));
        assert_eq!(found(&[("authorization", "Bearer t"), ("x-token", "t")]), Ok(Some("t@Bearer".into())));
        assert_eq!(found(&[("cookie", "session=t")]), Ok(Some("t@Cookie(\"session\")".into())));
        assert_eq!(found(&[]), Ok(None));
    }
}
