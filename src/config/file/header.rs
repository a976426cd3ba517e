//! `headers:` and `metadata:` what the upstream and the gateway are told of the caller.

use crate::config::error::{Problem, Spanned, Text};
use crate::config::shape::{Fields, Reader, Section, brief};
use crate::config::tree::{Kind, Node};

use super::alike;

pub(super) const HEADER: Section = Section { name: "a header", accepted: &["from", "format"], later: &[], never: &[] };
pub(super) const METADATA: Section = Section { name: "a metadata key", accepted: &["from"], later: &[], never: &[] };

/// Headers that frame a message, belong to one connection, or say where a request came from.
const REFUSED: &[&str] = &[
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "expect",
    "cookie",
    "set-cookie",
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-forwarded-server",
    "x-forwarded-client-cert",
    "x-real-ip",
    "x-request-id",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "content-type",
    "content-encoding",
    "range",
];

/// A header that the upstream trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// As written: a token (RFC 9110 §5.6.2).
    pub name: Text,
    /// What it holds.
    pub source: Spanned<Source>,
    /// How it holds it; JSON where the file does not say.
    pub format: Option<Spanned<Format>>,
}

/// A key of the metadata that the gateway is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The key.
    pub key: Text,
    /// What it holds.
    pub source: Spanned<Source>,
}

/// A fact about the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The `sub` claim.
    Subject,
    /// Issuer and subject.
    Principal,
    /// The issuer's name in this file.
    Issuer,
    /// The roles.
    Roles,
    /// The groups.
    Groups,
    /// The scopes.
    Scopes,
    /// Another claim, by its path.
    Claim(Box<str>),
}

/// How a header holds a list or a value that is not plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `["admin","premium"]`
    Json,
    /// `admin,premium`
    Comma,
    /// The value's bytes in URL-safe Base64 without padding.
    Base64Url,
}

pub(super) fn headers(reader: &mut Reader, top: &Fields<'_>) -> Vec<Header> {
    let Some(node) = top.get("headers") else { return Vec::new() };
    let mut headers = Vec::new();
    for (name, value) in reader.entries(node, "`headers`").unwrap_or_default() {
        let fits = name_fits(reader, &name);
        if let Some((source, format)) = held(reader, value, HEADER).filter(|_| fits) {
            headers.push(Header { name, source, format });
        }
    }
    let names: Vec<_> = headers.iter().map(|header| (&header.name, fold(&header.name.value))).collect();
    alike(reader, &names, "header_alias", "another header has this name, as some upstreams read it");
    if let Some(node) = top.get("headers_kept")
        && let Kind::List(kept) = &node.kind
    {
        for item in kept {
            let Kind::Text { text, .. } = &item.kind else { continue };
            if let Some((managed, _)) = names.iter().find(|(_, folded)| *folded == fold(text)) {
                let message = format!("`{}` is set by us, so the caller's cannot be kept", brief(text));
                reader.report(Problem::error("header_alias", item.span, message).related(managed.span, "set here"));
            }
        }
    }
    headers
}

pub(super) fn metadata(reader: &mut Reader, top: &Fields<'_>) -> Vec<Metadata> {
    let Some(node) = top.get("metadata") else { return Vec::new() };
    let entries = reader.entries(node, "`metadata`").unwrap_or_default();
    entries
        .into_iter()
        .filter_map(|(key, value)| held(reader, value, METADATA).map(|(source, _)| Metadata { key, source }))
        .collect()
}

/// Lower case, with `-` for everything that is neither letter nor digit: how upstreams may confuse header names.
pub(super) fn fold(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// Whether a header of this name may be ours, or a gateway's, to set.
pub(super) fn name_fits(reader: &mut Reader, name: &Text) -> bool {
    let folded = fold(&name.value);
    let message = if name.value.starts_with(':') || http::HeaderName::from_bytes(name.value.as_bytes()).is_err() {
        "this cannot be the name of a header: letters, digits and `-`"
    } else if folded.starts_with("x-envoy-") {
        "headers that begin with `x-envoy-` steer the gateway, and are not set"
    } else if REFUSED.contains(&&*folded) {
        "this header frames a message, or says where a request came from, and is not set"
    } else {
        return true;
    };
    reader.report(Problem::error("header_refused", name.span, message).cure("another name, such as X-User-ID"));
    false
}

fn held(reader: &mut Reader, node: &Node, section: Section) -> Option<(Spanned<Source>, Option<Spanned<Format>>)> {
    let (from, format) = if matches!(node.kind, Kind::Map(_)) {
        let fields = reader.fields(node, section)?;
        if !fields.has("from") {
            reader.missing(node.span, format!("{} needs `from`, what it holds", section.name));
        }
        let formats = [("json", Format::Json), ("comma", Format::Comma), ("base64url", Format::Base64Url)];
        let format = fields.get("format").and_then(|node| reader.choice(node, &fields.name("format"), &formats));
        (fields.get("from")?, format)
    } else {
        (node, None)
    };
    let text = reader.text(from, &format!("the value of {}", section.name))?;
    Some((text.map(|text| source(&text)), format))
}

fn source(text: &str) -> Source {
    match text {
        "sub" => Source::Subject,
        "principal" => Source::Principal,
        "issuer" => Source::Issuer,
        "roles" => Source::Roles,
        "groups" => Source::Groups,
        "scopes" => Source::Scopes,
        path => Source::Claim(path.strip_prefix("claim:").unwrap_or(path).into()),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::file::parse;

    fn found(lines: &str) -> Vec<(u32, u32, &'static str)> {
        let (_, problems) = parse("portcullis.yaml", &format!("{lines}\nroutes: {{/a: role:x}}\n"));
        problems.as_slice().iter().map(|problem| (problem.span.line, problem.span.column, problem.code)).collect()
    }

    #[test]
    fn headers_that_frame_or_steer_a_request_are_refused() {
        // N09
        for name in [
            "':path'",
            "X User",
            "'X:User'",
            "host",
            "Host",
            "Content-Length",
            "transfer_encoding",
            "Connection",
            "upgrade",
            "te",
            "x-envoy-original-path",
            "X_Envoy-Anything",
            "X-Forwarded-For",
            "Forwarded",
            "Cookie",
            "'X-Ü'",
            "'X,Y'",
            "'x(y)'",
            "\"X\\tY\"",
        ] {
            let problems = found(&format!("headers: {{{name}: sub}}"));
            assert_eq!(problems.len(), 1, "{name}: {problems:?}");
            assert_eq!((problems[0].0, problems[0].1), (1, 11), "{name}");
            assert!(matches!(problems[0].2, "header_refused" | "control_character"), "{name}");
        }
        assert_eq!(found("headers: {X-User-ID: sub, Authorization: idp, X-Forwarded-User: sub, 'x!#y': a}"), []);
    }

    #[test]
    fn headers_that_an_upstream_may_read_as_one_name_both_lines() {
        let text = "headers:\n  X-User-ID: sub\n  x_user_id: email\nroutes: {/a: role:x}\n";
        let (_, problems) = parse("portcullis.yaml", text);
        let problem = &problems.as_slice()[0];
        assert_eq!((problem.code, problem.span.line, problem.related[0].span.line), ("header_alias", 3, 2));
        assert_eq!(found("headers: {X-A: sub}\nheaders_kept: [x.a]"), [(2, 16, "header_alias")]);
    }

    #[test]
    fn a_header_says_what_it_holds() {
        assert_eq!(found("headers: {X-A: {format: json}}"), [(1, 16, "missing_key")]);
        assert_eq!(found("headers: {X-A: {from: sub, format: csv}}"), [(1, 36, "unknown_value")]);
        assert_eq!(found("headers: {X-A: [sub]}"), [(1, 16, "wrong_shape")]);
        assert_eq!(found("headers: {X-A: }")[0].2, "wrong_shape".replace("wrong_shape", "missing_value"));
        assert_eq!(found("headers: X-A"), [(1, 10, "wrong_shape")]);
        assert_eq!(found("metadata: {a: {from: sub, format: json}}"), [(1, 27, "unknown_key")]);
    }
}
