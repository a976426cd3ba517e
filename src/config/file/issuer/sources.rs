//! Where an issuer's tokens are looked for, and whose pages may send its cookie.

use url::Url;

use crate::config::error::{Problem, Spanned, Text};
use crate::config::shape::{Fields, Reader};
use crate::config::tree::Node;

/// Where a credential is read from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// `Authorization: Bearer`
    Bearer,
    /// A header, by its lower-case name.
    Header(Box<str>),
    /// A cookie.
    Cookie(Box<str>),
    /// A query parameter.
    Query(Box<str>),
    /// An element of `Sec-WebSocket-Protocol` that begins so.
    Subprotocol(Box<str>),
}

pub(super) fn sources(reader: &mut Reader, name: &Text, fields: &Fields<'_>) -> (Vec<Spanned<Credential>>, Vec<Text>) {
    let from = match fields.get("from") {
        Some(node) => credentials(reader, node, "`from` of an issuer"),
        None => vec![Spanned::new(Credential::Bearer, name.span)],
    };
    let mut origins = Vec::new();
    if let Some(node) = fields.get("origins") {
        for text in reader.texts(node, "`origins` of an issuer") {
            if is_origin(&text.value) {
                origins.push(text);
            } else {
                let problem = Problem::error(
                    "bad_origin",
                    text.span,
                    "an origin is a scheme, a host and a port that is not the default",
                );
                reader.report(problem.cure("https://app.example.com"));
            }
        }
    }
    if !fields.has("origins")
        && let Some(cookie) = from.iter().find(|source| matches!(source.value, Credential::Cookie(_)))
    {
        let message = "browsers send a cookie from every page: `origins` must say whose pages are meant";
        reader.report(Problem::error("missing_key", cookie.span, message).cure("origins: [https://app.example.com]"));
    }
    (from, origins)
}

/// Reads the places where credentials may stand.
pub(in crate::config::file) fn credentials(reader: &mut Reader, node: &Node, what: &str) -> Vec<Spanned<Credential>> {
    let mut from = Vec::new();
    for text in reader.texts(node, what) {
        match credential(&text.value) {
            Ok(credential) => from.push(Spanned::new(credential, text.span)),
            Err(None) => reader.no_such_choice(&text, "a place of credentials", PLACES),
            Err(Some((message, cure))) => {
                reader.report(Problem::error("unknown_value", text.span, message).cure(cure));
            }
        }
    }
    from
}

const PLACES: &[&str] = &["bearer", "header:X-Name", "cookie:name", "query:access_token", "subprotocol:bearer."];

fn credential(text: &str) -> Result<Credential, Option<(&'static str, &'static str)>> {
    let token = |name: &str| http::HeaderName::from_bytes(name.as_bytes()).ok();
    let Some((place, name)) = text.split_once(':') else {
        return if text == "bearer" { Ok(Credential::Bearer) } else { Err(None) };
    };
    match place {
        "header" => token(name).map(|name| Credential::Header(name.as_str().into())).ok_or(None),
        "cookie" => token(name).map(|_| Credential::Cookie(name.into())).ok_or(None),
        "query" => {
            let ends = |name: &str| name.starts_with(|c: char| c.is_ascii_alphanumeric());
            let inner = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
            let fits = inner && ends(name) && name.ends_with(|c: char| c.is_ascii_alphanumeric());
            let cure = ("a parameter's name is made of letters, digits, `_` and `-`", "query:access_token");
            if fits { Ok(Credential::Query(name.into())) } else { Err(Some(cure)) }
        }
        "subprotocol" => {
            let fits = token(name).is_some() && name.ends_with('.') && name.len() > 1;
            let cure = (
                "the token follows the beginning of a subprotocol, which ends with a dot",
                "subprotocol:bearer. or subprotocol:base64url.bearer.authorization.k8s.io.",
            );
            if fits { Ok(Credential::Subprotocol(name.into())) } else { Err(Some(cure)) }
        }
        _ => Err(None),
    }
}

/// Whether a text is an origin exactly as browsers write it (RFC 6454 §6.2).
fn is_origin(text: &str) -> bool {
    Url::parse(text)
        .is_ok_and(|url| matches!(url.scheme(), "https" | "http") && url.origin().ascii_serialization() == text)
}
