//! `tests:` the policy's own tests: who asks what, and what should come of it.

use std::net::IpAddr;

use serde_json::{Map, Number, Value};

use crate::authz::reason::Reason;
use crate::authz::time::Timestamp;
use crate::config::error::{Problem, Span, Spanned, Text};
use crate::config::shape::{Fields, Reader, Section, brief};
use crate::config::tree::{Kind, Node};

use super::{Named, known_issuer};

pub(super) const ROW: Section = Section {
    name: "a test",
    accepted: &[
        "as",
        "ask",
        "expect",
        "headers",
        "response_headers",
        "query",
        "mint",
        "from",
        "service",
        "key",
        "dpop",
        "certificate",
        "at",
    ],
    later: &["with"],
    never: &[],
};
const SHAPE: &str = "[who, METHOD target, expectation, {header: value}]";

/// A test of the policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Where it was written.
    pub span: Span,
    /// Who asks.
    pub who: Spanned<Who>,
    /// What for.
    pub ask: Spanned<Ask>,
    /// What should come of it.
    pub expect: Spanned<Expectation>,
    /// What the upstream should see; `None` for a header that should not be there.
    pub headers: Vec<Named<Option<Box<str>>>>,
    /// What the caller should see in the response; `None` for a header that should not be set.
    pub responses: Vec<Named<Option<Box<str>>>>,
    /// The parameters that the upstream should see; `None` for one that should not be set.
    pub query: Vec<Named<Option<Box<str>>>>,
    /// The claims that the upstream's token should have, null for one that it should not; the inner `None`: no token.
    pub mint: Option<Option<Map<String, Value>>>,
    /// The address that the caller asks from.
    pub from: Option<Spanned<IpAddr>>,
    /// The service that the caller's certificate names.
    pub service: Option<Text>,
    /// The owner of the API key that is shown, or the key's id.
    pub key: Option<Text>,
    /// Whether a DPoP proof comes with the token; as its issuer wants it where the row does not say.
    pub dpop: Option<bool>,
    /// Whether the caller has the certificate that the token is bound to.
    pub certificate: Option<bool>,
    /// When, where the row says so.
    pub at: Option<Timestamp>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Who {
    /// Nobody in particular.
    Anonymous,
    /// The bearer of a token.
    Token {
        /// The issuer's name in this file, where the row says it (`iss`).
        issuer: Option<Text>,
        /// What belongs where the issuer's claim path reads roles (`roles`).
        roles: Option<Vec<Box<str>>>,
        /// All other claims.
        claims: Map<String, Value>,
    },
}

/// A request: a method, and a path with or without a host and a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// As written.
    pub method: Box<str>,
    /// The host before the path, where there is one.
    pub host: Option<Box<str>>,
    /// Path and query, as the caller would send them.
    pub target: Box<str>,
}

/// What should come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// It passes.
    Allow,
    /// It does not.
    Deny {
        /// With this HTTP status.
        status: Option<u16>,
        /// For this reason.
        reason: Option<Reason>,
    },
    /// The browser is sent to sign in.
    Redirect,
}

/// The parts of a row, in either form.
struct Parts<'n> {
    who: &'n Node,
    ask: &'n Node,
    expect: &'n Node,
    headers: Option<&'n Node>,
    responses: Option<&'n Node>,
    query: Option<&'n Node>,
    mint: Option<&'n Node>,
    from: Option<&'n Node>,
    service: Option<&'n Node>,
    key: Option<&'n Node>,
    dpop: Option<&'n Node>,
    certificate: Option<&'n Node>,
    at: Option<&'n Node>,
}

impl<'n> Parts<'n> {
    const fn of(who: &'n Node, ask: &'n Node, expect: &'n Node, headers: Option<&'n Node>) -> Self {
        let (dpop, certificate, at) = (None, None, None);
        Self {
            who,
            ask,
            expect,
            headers,
            responses: None,
            query: None,
            mint: None,
            from: None,
            service: None,
            key: None,
            dpop,
            certificate,
            at,
        }
    }
}

pub(super) fn rows(reader: &mut Reader, top: &Fields<'_>, issuers: &[&str]) -> Vec<Row> {
    let Some(node) = top.get("tests") else { return Vec::new() };
    let items = reader.list(node, "`tests`").unwrap_or_default();
    items.iter().filter_map(|item| row(reader, item, issuers)).collect()
}

fn row(reader: &mut Reader, node: &Node, issuers: &[&str]) -> Option<Row> {
    let parts = parts(reader, node)?;
    let who = who(reader, parts.who, issuers);
    let ask = ask(reader, parts.ask);
    let expect = expectation(reader, parts.expect);
    let mut told = |node: Option<&Node>, what| node.map(|node| told(reader, node, what)).unwrap_or_default();
    let headers = told(parts.headers, "the headers of a test");
    let responses = told(parts.responses, "the response headers of a test");
    let query = told(parts.query, "the parameters of a test");
    let mint = parts.mint.map(|node| minted(reader, node));
    let service = parts.service.and_then(|node| reader.text(node, "`service` of a test"));
    let key = parts.key.and_then(|node| reader.text(node, "`key` of a test"));
    let dpop = parts.dpop.and_then(|node| reader.flag(node, "`dpop` of a test"));
    let certificate = parts.certificate.and_then(|node| reader.flag(node, "`certificate` of a test"));
    let from = parts.from.and_then(|node| address(reader, node));
    let at = parts.at.and_then(|node| reader.time(node, "`at` of a test"));
    let (who, ask, expect) = (who?, ask?, expect?);
    let mint = mint.map_or(Some(None), |mint| mint.map(Some))?;
    Some(Row {
        span: node.span,
        who,
        ask,
        expect,
        headers,
        responses,
        query,
        mint,
        from,
        service,
        key,
        dpop,
        certificate,
        at,
    })
}

fn parts<'n>(reader: &mut Reader, node: &'n Node) -> Option<Parts<'n>> {
    match &node.kind {
        Kind::List(cells) => match cells.as_slice() {
            [who, ask, expect] => Some(Parts::of(who, ask, expect, None)),
            [who, ask, expect, headers] => Some(Parts::of(who, ask, expect, Some(headers))),
            _ => {
                let message = format!("a test has three or four parts, this has {}", cells.len());
                let cure = format!("{SHAPE}; a target that holds `,` is quoted: \"GET /a?b=1,2\"");
                reader.report(Problem::error("wrong_shape", node.span, message).cure(cure));
                None
            }
        },
        Kind::Map(_) => {
            let fields = reader.fields(node, ROW)?;
            for key in ["as", "ask", "expect"] {
                if !fields.has(key) {
                    reader.missing(node.span, format!("a test needs `{key}`"));
                }
            }
            Some(Parts {
                who: fields.get("as")?,
                ask: fields.get("ask")?,
                expect: fields.get("expect")?,
                headers: fields.get("headers"),
                responses: fields.get("response_headers"),
                query: fields.get("query"),
                mint: fields.get("mint"),
                from: fields.get("from"),
                service: fields.get("service"),
                key: fields.get("key"),
                dpop: fields.get("dpop"),
                certificate: fields.get("certificate"),
                at: fields.get("at"),
            })
        }
        Kind::Null | Kind::Bool(_) | Kind::Text { .. } => {
            let message = format!("a test must be a list, this is {}", node.kind.noun());
            reader.report(Problem::error("wrong_shape", node.span, message).cure(SHAPE));
            None
        }
    }
}

fn who(reader: &mut Reader, node: &Node, issuers: &[&str]) -> Option<Spanned<Who>> {
    if !matches!(node.kind, Kind::Map(_)) {
        let text = reader.text(node, "who asks")?;
        if &*text.value != "anonymous" {
            let problem =
                Problem::error("unknown_value", text.span, format!("nobody is called `{}`", brief(&text.value)));
            reader.report(problem.cure("anonymous, or the claims of a token: {sub: u1, roles: [admin]}"));
            return None;
        }
        return Some(text.map(|_| Who::Anonymous));
    }
    let (mut issuer, mut roles, mut claims) = (None, None, Map::new());
    for (name, value) in reader.entries(node, "the claims of a test")? {
        match &*name.value {
            "iss" => {
                let text = reader.text(value, "`iss` of a test")?;
                known_issuer(reader, &text, issuers);
                issuer = Some(text);
            }
            "roles" if matches!(&value.kind, Kind::List(items) if items.is_empty()) => roles = Some(Vec::new()),
            "roles" => {
                roles = Some(reader.texts(value, "`roles` of a test").into_iter().map(|role| role.value).collect())
            }
            _ => {
                claims.insert(name.value.into(), claim(reader, value)?);
            }
        }
    }
    Some(Spanned::new(Who::Token { issuer, roles, claims }, node.span))
}

/// A claim's value as JSON: plain numbers and booleans are such, everything quoted is text.
fn claim(reader: &mut Reader, node: &Node) -> Option<Value> {
    Some(match &node.kind {
        Kind::Null => Value::Null,
        Kind::Bool(value) => Value::Bool(*value),
        Kind::Text { text, plain: true } if looks_numeric(text) => match serde_json::from_str::<Number>(text) {
            Ok(number) => Value::Number(number),
            Err(_) => return ambiguous(reader, node, text, "a number to some and a text to others"),
        },
        Kind::Text { text, plain: true } if looks_boolean(text) => {
            return ambiguous(reader, node, text, "true or false to some and a text to others");
        }
        Kind::Text { text, .. } => Value::String(text.clone().into()),
        Kind::List(items) => Value::Array(items.iter().map(|item| claim(reader, item)).collect::<Option<_>>()?),
        Kind::Map(_) => {
            let mut members = Map::new();
            for (name, value) in reader.entries(node, "a claim")? {
                members.insert(name.value.into(), claim(reader, value)?);
            }
            Value::Object(members)
        }
    })
}

/// The claims of a token that should be minted, or `none`.
#[expect(clippy::option_option, reason = "not readable is one thing, no token another")]
fn minted(reader: &mut Reader, node: &Node) -> Option<Option<Map<String, Value>>> {
    if matches!(&node.kind, Kind::Text { text, .. } if &**text == "none") {
        return Some(None);
    }
    let mut claims = Map::new();
    for (name, value) in reader.entries(node, "`mint` of a test")? {
        claims.insert(name.value.into(), claim(reader, value)?);
    }
    Some(Some(claims))
}

fn ambiguous(reader: &mut Reader, node: &Node, text: &str, both: &str) -> Option<Value> {
    let problem = Problem::error("ambiguous_value", node.span, format!("`{}` is {both}", brief(text)));
    reader.report(problem.cure(format!("quote it for a text: \"{}\"", brief(text))));
    None
}

fn looks_numeric(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    let digits = lower.strip_prefix('.').unwrap_or(&lower).starts_with(|c: char| c.is_ascii_digit());
    let prefixed = ["0x", "0o", "0b"].iter().any(|prefix| lower.starts_with(prefix));
    let numeric = |c: char| c.is_ascii_digit() || matches!(c, '_' | '.' | 'e' | '+' | '-' | ':');
    matches!(&*lower, ".inf" | ".nan") || (digits && (prefixed || lower.chars().all(numeric)))
}

fn looks_boolean(text: &str) -> bool {
    matches!(&*text.to_ascii_lowercase(), "yes" | "no" | "on" | "off" | "true" | "false")
}

fn ask(reader: &mut Reader, node: &Node) -> Option<Spanned<Ask>> {
    let text = reader.literal(node, "what a test asks for")?;
    let asked = text.value.split_once(' ').and_then(|(method, target)| {
        let fits = method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') && !target.contains([' ', '\n']);
        let url = target.strip_prefix("https://").or_else(|| target.strip_prefix("http://"));
        let (host, target) = match (url, target.find('/')) {
            (Some(url), _) => url.split_at_checked(url.find('/').unwrap_or(url.len()))?,
            (None, slash) => target.split_at_checked(slash?)?,
        };
        let target = if target.is_empty() { "/" } else { target };
        let host = (!host.is_empty()).then(|| host.into());
        (fits && !method.is_empty()).then(|| Ask { method: method.into(), host, target: target.into() })
    });
    if asked.is_none() {
        let message = format!("`{}` is not a method and a target", brief(&text.value));
        let cure = "GET /profile/u1, or GET shop.example.com/profile/u1";
        reader.report(Problem::error("bad_target", text.span, message).cure(cure));
    }
    asked.map(|asked| Spanned::new(asked, text.span))
}

fn expectation(reader: &mut Reader, node: &Node) -> Option<Spanned<Expectation>> {
    let text = reader.text(node, "what a test expects")?;
    let words: Vec<&str> = text.value.split(' ').filter(|word| !word.is_empty()).collect();
    let code = |word: &str| word.parse::<u16>().ok().filter(|status| (400..=599).contains(status));
    let expected = match words.as_slice() {
        ["allow"] => Some(Expectation::Allow),
        ["redirect"] => Some(Expectation::Redirect),
        ["deny"] => Some(Expectation::Deny { status: None, reason: None }),
        ["deny", status] => code(status).map(|status| Expectation::Deny { status: Some(status), reason: None }),
        ["deny", status, reason] => {
            let Some(reason) = Reason::ALL.iter().find(|known| known.code() == *reason) else {
                let codes: Vec<&str> = Reason::ALL.iter().map(|known| known.code()).collect();
                reader.no_such_choice(&Spanned::new((*reason).into(), text.span), "a reason", &codes);
                return None;
            };
            code(status).map(|status| Expectation::Deny { status: Some(status), reason: Some(*reason) })
        }
        _ => None,
    };
    if expected.is_none() {
        let message = format!("a test cannot expect `{}`", brief(&text.value));
        let cure = "allow, deny, deny 403, deny 403 rule_unmet, or redirect";
        reader.report(Problem::error("unknown_value", text.span, message).cure(cure));
    }
    expected.map(|expected| Spanned::new(expected, text.span))
}

/// Names, and what each should tell; null where it should tell nothing.
fn told(reader: &mut Reader, node: &Node, what: &str) -> Vec<Named<Option<Box<str>>>> {
    let mut headers = Vec::new();
    for (name, value) in reader.entries(node, what).unwrap_or_default() {
        let expected = match &value.kind {
            Kind::Null => Some(None),
            Kind::Text { text, .. } if text.is_empty() => Some(Some(Box::default())),
            Kind::Bool(value) => Some(Some(value.to_string().into())),
            _ => reader.literal(value, "the value of a header").map(|text| Some(text.value)),
        };
        if let Some(expected) = expected {
            headers.push((name, expected));
        }
    }
    headers
}

fn address(reader: &mut Reader, node: &Node) -> Option<Spanned<IpAddr>> {
    let text = reader.text(node, "`from` of a test")?;
    let address = text.value.parse().ok();
    if address.is_none() {
        reader.report(
            Problem::error("bad_address", text.span, "`from` of a test must be an IP address").cure("10.0.0.7"),
        );
    }
    address.map(|address| Spanned::new(address, text.span))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::parse;

    fn found(row: &str) -> Vec<(u32, u32, &'static str)> {
        let (_, problems) = parse("portcullis.yaml", &format!("routes: {{/a: role:x}}\ntests:\n  - {row}\n"));
        problems.as_slice().iter().map(|problem| (problem.span.line, problem.span.column, problem.code)).collect()
    }

    fn claims(claims: &str) -> String {
        let text = format!("routes: {{/a: role:x}}\ntests:\n  - [{claims}, GET /a, allow]\n");
        let (file, problems) = parse("portcullis.yaml", &text);
        assert_eq!(problems.to_string(), "", "{claims}");
        let who = file.unwrap().tests[0].who.value.clone();
        if let Who::Token { claims, .. } = who { serde_json::to_string(&claims).unwrap() } else { String::new() }
    }

    #[test]
    fn claims_keep_what_kind_of_value_they_are() {
        assert_eq!(
            claims("{n: 3, m: \"3\", t: true, u: 'true', z: null}"),
            r#"{"m":"3","n":3,"t":true,"u":"true","z":null}"#
        );
        assert_eq!(
            claims("{n: -1.5e3, l: [1, a], o: {p: {q: x}}}"),
            r#"{"l":[1,"a"],"n":-1500.0,"o":{"p":{"q":"x"}}}"#
        );
        assert_eq!(claims("{roles: [a, b], sub: 4f2c-11}"), r#"{"sub":"4f2c-11"}"#);
    }

    #[test]
    fn values_that_two_readers_read_differently_are_refused() {
        // L02
        for value in [
            "0o7",
            "0x1F",
            "010",
            "1_000",
            "+1",
            "1.",
            ".5",
            ".inf",
            "-.INF",
            ".nan",
            "12:30:45",
            "2024-01-01",
            "yes",
            "No",
            "on",
            "True",
        ] {
            assert_eq!(found(&format!("[{{x: {value}}}, GET /a, allow]")), [(3, 10, "ambiguous_value")], "{value}");
            assert_eq!(found(&format!("[{{x: \"{value}\"}}, GET /a, allow]")), [], "{value}");
        }
    }

    #[test]
    fn a_row_has_three_or_four_parts() {
        for (row, column, code) in [
            ("[anonymous, GET /a]", 5, "wrong_shape"),
            ("[anonymous, GET /a?b=1,2, allow, {}, x]", 5, "wrong_shape"),
            ("allow", 5, "wrong_shape"),
            ("{as: anonymous, ask: GET /a}", 5, "missing_key"),
            ("{as: anonymous, ask: GET /a, expected: allow}", 34, "unknown_key"),
            ("[nobody, GET /a, allow]", 6, "unknown_value"),
            ("[anonymous, /a, allow]", 17, "bad_target"),
            ("[anonymous, get /a, allow]", 17, "bad_target"),
            ("[anonymous, GET a, allow]", 17, "bad_target"),
            ("[anonymous, GET /a, alow]", 25, "unknown_value"),
            ("[anonymous, GET /a, allow 200]", 25, "unknown_value"),
            ("[anonymous, GET /a, deny 200]", 25, "unknown_value"),
            ("[anonymous, GET /a, deny 403 rule_unmett]", 25, "unknown_value"),
            ("[{iss: main}, GET /a, allow]", 12, "unknown_issuer"),
            ("[anonymous, GET /a, allow, [X-A]]", 32, "wrong_shape"),
        ] {
            let problems = found(row);
            assert!(problems.contains(&(3, column, code)), "{row}: {problems:?}");
        }
        assert_eq!(found("{as: anonymous, ask: GET /a, expect: deny, from: here}"), [(3, 54, "bad_address")]);
        assert_eq!(found("[anonymous, \"GET /a?b=1,2\", allow]"), []);
        let at = |at: &str| found(&format!("{{as: anonymous, ask: GET /a, expect: deny, at: {at}}}"));
        assert_eq!(at("2027-01-15T09:00:00Z"), []);
        assert_eq!(at("2027-01-15"), [(3, 52, "bad_time")]);
    }
}
