//! Where a request may carry a token, and that it carries one only.

pub mod query;
pub mod strip;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::reason::Reason;
use super::request::Request;

/// Where an issuer's tokens are looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// `Authorization: Bearer …` (RFC 6750 §2.1), or `DPoP …` (RFC 9449 §7.1).
    Bearer,
    /// A header, by its name in lower case, whose whole value is the token.
    Header(Box<str>),
    /// A cookie, by its name, whose whole value is the token.
    Cookie(Box<str>),
    /// A parameter of the query, by its name (RFC 6750 §2.3).
    Query(Box<str>),
    /// An element of `Sec-WebSocket-Protocol` on an upgrade: what follows this beginning of it, and base64url of the
    /// token where the beginning itself begins with `base64url.`, as Kubernetes has it.
    Subprotocol(Box<str>),
}

impl Source {
    /// Where a token counts as standing that stands in several places: in a header, which no page of another site can
    /// write, before a cookie, which every page sends.
    fn rank(&self) -> u8 {
        if *self == Self::Bearer {
            0
        } else if matches!(self, Self::Header(_)) {
            1
        } else {
            2
        }
    }
}

/// As what a token is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `Authorization: Bearer`: good for whoever has it.
    Bearer,
    /// `Authorization: DPoP` (RFC 9449 §7.1): good with a proof.
    Dpop,
    /// It stands where nothing says so.
    Unsaid,
}

/// A token as it was presented, not verified.
pub struct Presented<'r, 's> {
    /// Its bytes.
    pub token: Cow<'r, [u8]>,
    /// As what.
    pub scheme: Scheme,
    /// Where it stood.
    pub source: &'s Source,
}

/// Finds the one token that stands in any of these places.
///
/// # Errors
/// [`Reason::CredentialAmbiguous`] where two different ones stand there, [`Reason::TokenMalformed`] where the scheme of
/// `Authorization` is not followed by exactly one space, and [`Reason::QueryAmbiguous`] where the query holds it in a way that
/// can be read two ways.
pub fn find<'r, 's>(
    request: &Request<'r>,
    sources: impl Iterator<Item = &'s Source>,
) -> Result<Option<Presented<'r, 's>>, Reason> {
    find_where(request, sources, |_, _| true)
}

/// Finds the one credential of a kind that stands in any of these places, where credentials of several kinds may stand.
///
/// # Errors
/// As [`find`].
pub fn find_where<'r, 's>(
    request: &Request<'r>,
    sources: impl Iterator<Item = &'s Source>,
    is_of_kind: impl Fn(&[u8], &Source) -> bool,
) -> Result<Option<Presented<'r, 's>>, Reason> {
    let mut found: Option<Presented<'r, 's>> = None;
    let mut take = |token: Cow<'r, [u8]>, scheme: Scheme, source: &'s Source| match &found {
        _ if !is_of_kind(&token, source) => Ok(()),
        Some(earlier) if earlier.token != token => Err(Reason::CredentialAmbiguous),
        Some(earlier) if earlier.source.rank() <= source.rank() => Ok(()),
        _ => {
            found = Some(Presented { token, scheme, source });
            Ok(())
        }
    };
    for source in sources {
        match source {
            Source::Bearer => {
                if let Some((scheme, token)) = request.seen.authorization.map(authorized).transpose()?.flatten() {
                    take(token.into(), scheme, source)?;
                }
            }
            Source::Header(name) => {
                for value in request.header(name.as_bytes()) {
                    if value.contains(&b',') {
                        return Err(Reason::CredentialAmbiguous);
                    }
                    take(value.into(), Scheme::Unsaid, source)?;
                }
            }
            Source::Cookie(name) => {
                for value in request.cookie(name) {
                    take(value.into(), Scheme::Unsaid, source)?;
                }
            }
            Source::Query(name) => {
                if let Some(token) = request.query.map(|query| query::token(query, name)).transpose()?.flatten() {
                    take(token.as_bytes().into(), Scheme::Unsaid, source)?;
                }
            }
            Source::Subprotocol(start) if request.seen.upgrade => {
                for element in subprotocols(request).filter_map(|element| element.strip_prefix(start.as_bytes())) {
                    take(subprotocol(start, element)?, Scheme::Unsaid, source)?;
                }
            }
            Source::Subprotocol(_) => {}
        }
    }
    Ok(found)
}

/// The elements of `Sec-WebSocket-Protocol` (RFC 6455 §11.3.4), of all its lines.
fn subprotocols<'r>(request: &Request<'r>) -> impl Iterator<Item = &'r [u8]> {
    let lines = request.headers.iter().filter(|line| line.name == SUBPROTOCOL.as_bytes());
    lines.flat_map(|line| line.value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// The header of subprotocols.
const SUBPROTOCOL: &str = "sec-websocket-protocol";

fn subprotocol<'r>(start: &str, element: &'r [u8]) -> Result<Cow<'r, [u8]>, Reason> {
    if start.starts_with("base64url.") {
        return URL_SAFE_NO_PAD.decode(element).map(Cow::Owned).map_err(|_| Reason::TokenMalformed);
    }
    Ok(element.into())
}

/// The token of an `Authorization` value and its scheme; `None` for another one. Envoy joins two lines by a comma, which
/// no token holds.
fn authorized(value: &[u8]) -> Result<Option<(Scheme, &[u8])>, Reason> {
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
        Some((scheme, [b' ', token @ ..])) => Ok(Some((scheme, token))),
        Some(_) => Err(Reason::TokenMalformed),
    }
}

/// The scheme and what follows it, where that is the word `Bearer` or `DPoP` in any case (RFC 9110 §11.1).
fn scheme(value: &[u8]) -> Option<(Scheme, &[u8])> {
    after(value, b"bearer")
        .map(|rest| (Scheme::Bearer, rest))
        .or_else(|| after(value, b"dpop").map(|rest| (Scheme::Dpop, rest)))
}

fn after<'v>(value: &'v [u8], scheme: &[u8]) -> Option<&'v [u8]> {
    let (word, rest) = value.split_at_checked(scheme.len())?;
    let ends = rest.first().is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
    (word.eq_ignore_ascii_case(scheme) && ends).then_some(rest)
}

/// Whether the caller presents a token as one that it has a proof for.
pub(super) fn is_dpop(request: &Request<'_>) -> bool {
    request.seen.authorization.and_then(scheme).is_some_and(|(scheme, _)| scheme == Scheme::Dpop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::gateways::Dialect;
    use crate::authz::request::{Asker, Header, Raw, Relaxed};

    fn found(headers: &[(&str, &str)]) -> Result<Option<String>, Reason> {
        let headers = headers.iter().map(|(n, v)| Header { name: n.as_bytes(), value: v.as_bytes() }).collect();
        let raw = Raw::new(Dialect::Envoy, Asker::Unix, [b"GET", b"/", b"h"], headers);
        let request = Request::read(&raw, Relaxed::default()).unwrap();
        let sources = [Source::Cookie("session".into()), Source::Bearer, Source::Header("x-token".into())];
        let found = find(&request, sources.iter())?;
        Ok(found.map(|found| format!("{}@{:?}", String::from_utf8_lossy(&found.token), found.source)))
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

    #[test] // J30
    fn a_token_may_come_as_dpop_in_the_same_place() {
        for value in ["DPoP t", "dpop t", "DPOP t"] {
            assert_eq!(found(&[("authorization", value)]), Ok(Some("t@Bearer".into())));
        }
        for value in ["DPoP", "DPoP\tt", "dpop=t"] {
            assert_eq!(found(&[("authorization", value)]), Err(Reason::TokenMalformed), "{value:?}");
        }
        for value in ["DPoP t,DPoP u", "DPoP t,DPoP t", "DPoP t, Bearer t", "Bearer t,DPoP t"] {
            assert_eq!(found(&[("authorization", value)]), Err(Reason::CredentialAmbiguous), "{value:?}");
        }
        for value in ["DPoPx t", "DPo", "DPoP-t u"] {
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

    fn upgraded(lines: &[(&str, &str)]) -> Result<Option<String>, Reason> {
        let headers = lines.iter().map(|(n, v)| Header { name: n.as_bytes(), value: v.as_bytes() }).collect();
        let raw = Raw::new(Dialect::Envoy, Asker::Unix, [b"GET", b"/", b"h"], headers);
        let request = Request::read(&raw, Relaxed::default()).unwrap();
        let sources = [Source::Subprotocol("bearer.".into()), Source::Subprotocol("base64url.bearer.k8s.io.".into())];
        let found = find(&request, sources.iter())?;
        Ok(found.map(|found| String::from_utf8_lossy(&found.token).into_owned()))
    }

    #[test]
    fn a_subprotocol_carries_a_token_on_an_upgrade_only() {
        let upgrade = ("upgrade", "websocket");
        let asked = |value: &str| upgraded(&[upgrade, (SUBPROTOCOL, value)]);
        assert_eq!(asked("app, bearer.a.b.c"), Ok(Some("a.b.c".into())));
        assert_eq!(asked("bearer.a.b.c,app"), Ok(Some("a.b.c".into())));
        assert_eq!(asked("app, base64url.bearer.k8s.io.YS5iLmM"), Ok(Some("a.b.c".into())));
        assert_eq!(asked("app, base64url.bearer.k8s.io.YS5iLmM="), Err(Reason::TokenMalformed), "no padding");
        assert_eq!(asked("bearer.a.b.c, base64url.bearer.k8s.io.YS5iLmM"), Ok(Some("a.b.c".into())), "the same");
        assert_eq!(asked("bearer.a.b.c, bearer.d.e.f"), Err(Reason::CredentialAmbiguous));
        assert_eq!(asked("app, bearer"), Ok(None));
        assert_eq!(asked("app, Bearer.a.b.c"), Ok(None), "case counts");
        assert_eq!(
            upgraded(&[upgrade, (SUBPROTOCOL, "bearer.a.b.c"), (SUBPROTOCOL, "bearer.d.e.f")]),
            Err(Reason::CredentialAmbiguous)
        );
        assert_eq!(upgraded(&[(SUBPROTOCOL, "bearer.a.b.c")]), Ok(None), "no upgrade");
    }

    #[test] // J28
    fn the_same_credential_in_a_header_and_a_cookie_counts_as_the_header_in_whatever_order() {
        let (header, cookie) = (Source::Header("x-token".into()), Source::Cookie("session".into()));
        let headers = [("x-token", "t"), ("cookie", "session=t")];
        let headers = headers.map(|(n, v)| Header { name: n.as_bytes(), value: v.as_bytes() }).into();
        let raw = Raw::new(Dialect::Envoy, Asker::Unix, [b"GET", b"/", b"h"], headers);
        let request = Request::read(&raw, Relaxed::default()).unwrap();
        for sources in [[&header, &cookie], [&cookie, &header]] {
            assert_eq!(find(&request, sources.into_iter()).unwrap().unwrap().source, &header);
        }
    }
}
