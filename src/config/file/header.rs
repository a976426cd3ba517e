//! `headers:`, `response_headers:`, `query:` and `metadata:` what the upstream, the caller and the gateway are told.

use crate::authz::header::fold_parameter;
use crate::config::error::{Problem, Spanned, Text};
use crate::config::shape::{Fields, Reader, Section, brief};
use crate::config::tree::{Kind, Node};

use super::alike;

pub(super) const HEADER: Section =
    Section { name: "a header", accepted: &["from", "value", "default", "format"], later: &[], never: &[] };
pub(super) const PARAMETER: Section =
    Section { name: "a parameter", accepted: &["from", "value", "default", "format"], later: &[], never: &[] };
pub(super) const METADATA: Section =
    Section { name: "a metadata key", accepted: &["from", "value", "default"], later: &[], never: &[] };
pub(super) const CLAIM: Section =
    Section { name: "a claim that is minted", accepted: &["from", "value"], later: &[], never: &[] };
pub(super) const QUERY: Section = Section { name: "`query`", accepted: &["set", "remove"], later: &[], never: &[] };

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

/// Headers of a response that frame it, belong to one connection, or mean something by all of their lines together.
const REFUSED_IN_RESPONSES: &[&str] = &[
    "content-length",
    "content-encoding",
    "content-range",
    "content-type",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "www-authenticate",
    "set-cookie",
    "location",
    "date",
    "server",
    "via",
    "vary",
];

/// What is told under a name: a header, a parameter or a key of the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tell {
    /// As written.
    pub name: Text,
    /// What it holds.
    pub source: Spanned<Source>,
    /// What it holds where the source has nothing.
    pub default: Option<Spanned<Literal>>,
    /// How it holds it; JSON where the file does not say.
    pub format: Option<Spanned<Format>>,
}

/// What is told on all routes, or on one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tells {
    /// The headers that the upstream trusts.
    pub headers: Vec<Tell>,
    /// Headers of the response to the caller.
    pub responses: Vec<Tell>,
    /// Parameters of the query to the upstream.
    pub query: Vec<Tell>,
    /// Parameters that do not reach the upstream.
    pub query_removed: Vec<Text>,
    /// What the gateway is told beside.
    pub metadata: Vec<Tell>,
}

impl Tells {
    /// Everything that is told, of whatever kind.
    pub fn all(&self) -> impl Iterator<Item = &Tell> {
        self.headers.iter().chain(&self.responses).chain(&self.query).chain(&self.metadata)
    }
}

/// A fact about the caller or the request, or a word of the policy's own.
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
    /// Who acts for the subject now.
    Actor,
    /// All who act or have acted for it.
    Actors,
    /// Another claim, by its path.
    Claim(Box<str>),
    /// The owner of the API key.
    App,
    /// The id of the API key.
    AppId,
    /// The key of the route.
    Route,
    /// What the key of the route captured.
    Capture(Box<str>),
    /// This very value.
    Literal(Literal),
}

/// A value that the policy writes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// Text, numbers included.
    Text(Box<str>),
    /// True or false.
    Flag(bool),
}

/// How a list, or a value that is not plain text, is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `["admin","premium"]`
    Json,
    /// `admin,premium`
    Comma,
    /// The value's bytes in URL-safe Base64 without padding.
    Base64Url,
}

/// What the file says for all routes.
pub(super) fn tells(reader: &mut Reader, top: &Fields<'_>) -> Tells {
    let mut tells = of_route(reader, top);
    let mut metadata = told(reader, top, "metadata", METADATA);
    metadata.retain(|tell| key_fits(reader, &tell.name));
    tells.metadata = metadata;
    tells
}

/// What a route says for itself.
pub(super) fn of_route(reader: &mut Reader, fields: &Fields<'_>) -> Tells {
    let mut headers = told(reader, fields, "headers", HEADER);
    headers.retain(|tell| name_fits(reader, &tell.name, REFUSED, "the upstream"));
    let mut responses = told(reader, fields, "response_headers", HEADER);
    responses.retain(|tell| name_fits(reader, &tell.name, REFUSED_IN_RESPONSES, "the caller"));
    for list in [&headers, &responses] {
        let names: Vec<_> = list.iter().map(|tell| (&tell.name, fold(&tell.name.value))).collect();
        alike(reader, &names, "header_alias", "another header has this name, as some upstreams read it");
    }
    let (query, query_removed) = query(reader, fields);
    Tells { headers, responses, query, query_removed, metadata: Vec::new() }
}

/// Compares the headers of all routes with each other, and with those that are kept.
pub(super) fn compare(reader: &mut Reader, top: &Tells, routes: &[super::Route], kept: &[Text]) {
    let own = routes.iter().filter_map(|route| route.tells.as_deref());
    let mut seen: std::collections::HashMap<String, &Text> = std::collections::HashMap::new();
    for tell in std::iter::once(top).chain(own).flat_map(|tells| &tells.headers) {
        let first = seen.entry(fold(&tell.name.value)).or_insert(&tell.name);
        // Within one list this was told already.
        if !first.value.eq_ignore_ascii_case(&tell.name.value) && !top.headers.iter().any(|own| own.name == tell.name) {
            let message = "another route has a header of this name, as some upstreams read it";
            let problem = Problem::error("header_alias", tell.name.span, message).related(first.span, "the other");
            reader.report(problem.cure("one spelling for both"));
        }
    }
    for kept in kept {
        if let Some(managed) = seen.get(&fold(&kept.value)) {
            let message = format!("`{}` is set by us, so the caller's cannot be kept", brief(&kept.value));
            reader.report(Problem::error("header_alias", kept.span, message).related(managed.span, "set here"));
        }
    }
}

fn told(reader: &mut Reader, fields: &Fields<'_>, key: &str, section: Section) -> Vec<Tell> {
    let Some(node) = fields.get(key) else { return Vec::new() };
    let entries = reader.entries(node, &fields.name(key)).unwrap_or_default();
    entries.into_iter().filter_map(|(name, value)| tell(reader, name, value, section)).collect()
}

fn query(reader: &mut Reader, fields: &Fields<'_>) -> (Vec<Tell>, Vec<Text>) {
    let Some(fields) = fields.get("query").and_then(|node| reader.fields(node, QUERY)) else {
        return Default::default();
    };
    let mut set = told(reader, &fields, "set", PARAMETER);
    set.retain(|tell| parameter_fits(reader, &tell.name));
    let mut removed = fields.get("remove").map(|node| reader.texts(node, "`remove` of `query`")).unwrap_or_default();
    removed.retain(|name| parameter_fits(reader, name));
    let folded = |name: &Text| String::from_utf8_lossy(&fold_parameter(name.value.as_bytes())).into_owned();
    let names = set.iter().map(|tell| &tell.name).chain(&removed);
    let names: Vec<_> = names.map(|name| (name, folded(name))).collect();
    alike(reader, &names, "parameter_alias", "another parameter has this name, as some upstreams read it");
    (set, removed)
}

/// Lower case, with `-` for everything that is neither letter nor digit: how upstreams may confuse header names.
pub(in crate::config) fn fold(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// Whether a header of this name may be ours, or a gateway's, to set on the request.
pub(super) fn may_set(reader: &mut Reader, name: &Text) -> bool {
    name_fits(reader, name, REFUSED, "the upstream")
}

fn name_fits(reader: &mut Reader, name: &Text, refused: &[&str], to: &str) -> bool {
    let folded = fold(&name.value);
    let message = if name.value.starts_with(':') || http::HeaderName::from_bytes(name.value.as_bytes()).is_err() {
        "this cannot be the name of a header: letters, digits and `-`".to_owned()
    } else if folded.starts_with("x-envoy-") {
        "headers that begin with `x-envoy-` steer the gateway, and are not set".to_owned()
    } else if folded.starts_with("access-control-") && to == "the caller" {
        "headers of this family are what `cors` is for, and are not set".to_owned()
    } else if refused.contains(&&*folded) {
        format!("this header frames a message, or tells {to} more than a policy can know, and is not set")
    } else {
        return true;
    };
    reader.report(Problem::error("header_refused", name.span, message).cure("another name, such as X-User-ID"));
    false
}

fn parameter_fits(reader: &mut Reader, name: &Text) -> bool {
    let fits = name.value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !fits || name.value.len() > 64 {
        let message = "this cannot be the name of a parameter that is set or removed";
        let problem = Problem::error("parameter_refused", name.span, message);
        reader.report(problem.cure("at most 64 letters, digits, `-`, `_` and `.`"));
    }
    fits
}

fn key_fits(reader: &mut Reader, key: &Text) -> bool {
    let fits = key.value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    let message = if &*key.value == "ext_authz_duration" {
        "Envoy itself writes this key"
    } else if !fits || key.value.len() > 64 {
        "this cannot be a key of the metadata: at most 64 letters, digits, `-`, `_` and `.`"
    } else {
        return true;
    };
    reader.report(Problem::error("metadata_refused", key.span, message).cure("another name, such as user"));
    false
}

fn tell(reader: &mut Reader, name: Text, node: &Node, section: Section) -> Option<Tell> {
    if !matches!(node.kind, Kind::Map(_)) {
        let text = reader.text(node, &format!("the value of {}", section.name))?;
        return Some(Tell { name, source: text.map(|text| source(&text)), default: None, format: None });
    }
    let fields = reader.fields(node, section)?;
    let formats = [("json", Format::Json), ("comma", Format::Comma), ("base64url", Format::Base64Url)];
    let format = fields.get("format").and_then(|node| reader.choice(node, &fields.name("format"), &formats));
    let default = fields.get("default").and_then(|node| literal(reader, node, &fields.name("default")));
    let source = match (fields.get("from"), fields.get("value")) {
        (Some(from), None) => {
            let text = reader.text(from, &format!("the value of {}", section.name))?;
            text.map(|text| source(&text))
        }
        (None, Some(value)) => {
            if let Some(default) = default.as_ref() {
                let message = "`default` has no use beside `value`, which is always there";
                reader.report(Problem::error("wrong_shape", default.span, message).cure("remove it"));
            }
            literal(reader, value, &fields.name("value"))?.map(Source::Literal)
        }
        (Some(_), Some(value)) => {
            let message = format!("{} is told a source or a value, not both", section.name);
            let problem = Problem::error("wrong_shape", value.span, message);
            reader.report(problem.cure("{from: claim:tier, default: free}, or {value: free}"));
            return None;
        }
        (None, None) => {
            if !fields.has("from") && !fields.has("value") {
                reader.missing(node.span, format!("{} needs `from`, what it holds, or `value`", section.name));
            }
            return None;
        }
    };
    Some(Tell { name, source, default, format })
}

/// What a claim that is minted holds: a source, or `{value: …}`.
pub(super) fn source_of(reader: &mut Reader, node: &Node) -> Option<Spanned<Source>> {
    tell(reader, Spanned::new("".into(), node.span), node, CLAIM).map(|tell| tell.source)
}

fn literal(reader: &mut Reader, node: &Node, what: &str) -> Option<Spanned<Literal>> {
    if let Kind::Bool(value) = node.kind {
        return Some(Spanned::new(Literal::Flag(value), node.span));
    }
    Some(reader.text(node, what)?.map(Literal::Text))
}

fn source(text: &str) -> Source {
    match text {
        "sub" => Source::Subject,
        "principal" => Source::Principal,
        "issuer" => Source::Issuer,
        "roles" => Source::Roles,
        "groups" => Source::Groups,
        "scopes" => Source::Scopes,
        "actor" => Source::Actor,
        "actors" => Source::Actors,
        "route" => Source::Route,
        "app" => Source::App,
        "app_id" => Source::AppId,
        path => match path.strip_prefix("capture:") {
            Some(name) => Source::Capture(name.into()),
            None => Source::Claim(path.strip_prefix("claim:").unwrap_or(path).into()),
        },
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
        assert_eq!(found("headers: {X-A: {value: gold}, X-B: {from: tier, default: free}, X-C: {value: true}}"), []);
        assert_eq!(found("headers: {X-A: {value: gold, from: sub}}"), [(1, 24, "wrong_shape")]);
        assert_eq!(found("headers: {X-A: {value: gold, default: x}}"), [(1, 39, "wrong_shape")]);
        assert_eq!(found("headers: {X-A: {value: [a]}}"), [(1, 24, "wrong_shape")]);
    }

    #[test]
    fn what_would_break_or_steer_a_response_is_not_set() {
        for name in [
            "content-length",
            "Transfer-Encoding",
            "':status'",
            "Set-Cookie",
            "connection",
            "X-Envoy-Foo",
            "Access-Control-Allow-Origin",
            "WWW-Authenticate",
            "vary",
        ] {
            assert_eq!(found(&format!("response_headers: {{{name}: {{value: x}}}}"))[0].2, "header_refused", "{name}");
        }
        assert_eq!(
            found(
                "response_headers: {X-Served-For: sub, X-Frame-Options: {value: DENY}, Cache-Control: {value: no-store}}"
            ),
            []
        );
        assert_eq!(found("response_headers: {X-A: sub, x_a: email}"), [(1, 30, "header_alias")]);
    }

    #[test]
    fn a_parameter_has_a_plain_name_of_its_own() {
        assert_eq!(found("query: {set: {tenant: claim:tenant}, remove: [debug, debug_mode]}"), []);
        assert_eq!(found("query: {remove: debug}"), []);
        for name in ["'a b'", "'a~b'", "'a&b'", "'a=b'", "'a%62'", "'a[]'", "ä"] {
            assert_eq!(found(&format!("query: {{remove: [{name}]}}")), [(1, 18, "parameter_refused")], "{name}");
        }
        assert_eq!(found("query: {set: {tenant: t}, remove: [Tenant]}"), [(1, 36, "parameter_alias")]);
        assert_eq!(found("query: {strip: [a]}"), [(1, 9, "unknown_key")]);
        assert_eq!(found("query: [a]"), [(1, 8, "wrong_shape")]);
    }

    #[test]
    fn a_key_of_the_metadata_is_a_plain_name() {
        assert_eq!(found("metadata: {user: sub, tier.level: claim:tier, vip: {value: true}}"), []);
        assert_eq!(found("metadata: {'a b': sub}"), [(1, 12, "metadata_refused")]);
        assert_eq!(found("metadata: {ext_authz_duration: sub}"), [(1, 12, "metadata_refused")]);
    }

    #[test]
    fn headers_of_routes_are_spelt_as_those_of_others() {
        let found = |text: &str| {
            let (_, problems) = parse("p.yaml", text);
            problems.as_slice().iter().map(|p| (p.span.line, p.code)).collect::<Vec<_>>()
        };
        let both = |one: &str, other: &str| {
            found(&format!(
                "headers: {{X-User: sub}}\nheaders_kept: [Remote-User]\nroutes:\n  /a: {{allow: role:x, headers: {{{one}: tier}}}}\n  /b: {{allow: role:x, headers: {{{other}: tier}}}}\n"
            ))
        };
        assert_eq!(both("X-Plan", "x-plan"), []);
        assert_eq!(both("X-User", "X-Plan"), []);
        assert_eq!(both("X-Plan", "X_Plan"), [(5, "header_alias")]);
        assert_eq!(both("x_user", "X-Plan"), [(4, "header_alias")]);
        assert_eq!(both("X-Plan", "Remote-User"), [(2, "header_alias")]);
        assert_eq!(both("X-Plan", "Content-Length"), [(5, "header_refused")]);
    }
}
