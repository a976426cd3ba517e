//! What is for browsers: who may share answers across origins, where people sign in, where a route's credentials stand.

use std::collections::HashMap;

use url::{Host, Url};

use crate::config::error::{Problem, Span, Spanned, Text};
use crate::config::shape::{Fields, Reader, Section};
use crate::config::tree::{Kind, Node};

use super::issuer::{Credential, credentials};
use super::{Named, named};

pub(super) const CORS: Section =
    Section { name: "`cors`", accepted: &["origins", "credentials", "hosts"], later: &[], never: CORS_NEVER };
pub(super) const SHARING: Section =
    Section { name: "`cors` of a host or route", accepted: &["origins", "credentials"], later: &[], never: CORS_NEVER };
pub(super) const SIGN_IN: Section =
    Section { name: "`sign_in`", accepted: &["to", "return_to"], later: &[], never: &[] };
pub(super) const CREDENTIAL: Section =
    Section { name: "`credential`", accepted: &["from", "then"], later: &[], never: &[] };

const CORS_NEVER: &[(&str, &str)] =
    &[("methods", APPLICATION), ("headers", APPLICATION), ("max_age", APPLICATION), ("expose", APPLICATION)];
const APPLICATION: &str = "the application answers the preflight; its methods are those that have routes";

/// `cors:` at the top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// For every host that has no entry of its own.
    pub every: Option<Sharing>,
    /// By host pattern.
    pub hosts: Vec<Named<Sharing>>,
}

/// The pages that may read answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// Their origins as browsers write them; `*.` stands for one label.
    pub origins: Vec<Text>,
    /// Whether they may send cookies.
    pub credentials: bool,
}

/// Where people sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// A URL, perhaps with `{url}` in its query.
    pub to: Text,
    /// The origins, besides `public_url`, that `{url}` may have.
    pub return_to: Vec<Text>,
}

/// What a route says about credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialUse {
    /// Where they are read, where that is not everywhere that the issuers say.
    pub from: Option<Vec<Spanned<Credential>>>,
    /// Whether the upstream does not see them.
    pub strip: bool,
    /// Where it was written.
    pub span: Span,
}

/// What a route says to browsers; nothing where all is as elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfRoute {
    /// The pages that may read its answers.
    pub cors: Option<Sharing>,
    /// Where people sign in for it; the inner `None` is nowhere.
    pub sign_in: Option<Option<SignIn>>,
    /// Where credentials are read, and who sees them.
    pub credential: Option<CredentialUse>,
}

pub(super) fn of_route(reader: &mut Reader, fields: &Fields<'_>, top: &Fields<'_>) -> OfRoute {
    let cors = fields.get("cors").and_then(|node| reader.fields(node, SHARING));
    let nowhere = |node: &Node| matches!(&node.kind, Kind::Text { text, .. } if &**text == "none");
    let sign_in = fields.get("sign_in").map(|node| {
        if nowhere(node) { None } else { sign_in_at(reader, node, "`sign_in` of a route", has_public_url(top)) }
    });
    OfRoute {
        cors: cors.map(|fields| sharing(reader, &fields)),
        sign_in,
        credential: fields.get("credential").and_then(|node| credential(reader, node)),
    }
}

/// Whether there is a `public_url`, or may be: a file of a team's has none, and is compiled with the policy's.
fn has_public_url(top: &Fields<'_>) -> bool {
    top.has("public_url") || !top.is_policy()
}

pub(super) fn cors(reader: &mut Reader, top: &Fields<'_>) -> Option<Cors> {
    let node = top.get("cors")?;
    let fields = reader.fields(node, CORS)?;
    let hosts = named(reader, &fields, "hosts", |reader, _, node| {
        let fields = reader.fields(node, SHARING)?;
        Some(sharing(reader, &fields))
    });
    let every = (fields.has("origins") || !fields.has("hosts")).then(|| sharing(reader, &fields));
    if every.is_none()
        && let Some(span) = fields.key("credentials")
    {
        let message = "`credentials` of `cors` goes with `origins`: each host says it for itself";
        reader.report(
            Problem::error("missing_key", span, message)
                .cure("hosts: {api.example.com: {origins: […], credentials: true}}"),
        );
    }
    Some(Cors { every, hosts })
}

fn sharing(reader: &mut Reader, fields: &Fields<'_>) -> Sharing {
    let mut origins = Vec::new();
    match fields.get("origins") {
        Some(node) => {
            for text in reader.texts(node, &fields.name("origins")) {
                origins.extend(origin(reader, &text).map(|origin| Spanned::new(origin, text.span)));
            }
        }
        None if !fields.has("origins") => {
            reader
                .missing(fields.span(), format!("{} is needed: whose pages may read answers", fields.name("origins")));
        }
        None => {}
    }
    let credentials = fields.get("credentials").and_then(|node| reader.flag(node, &fields.name("credentials")));
    Sharing { origins, credentials: credentials.unwrap_or(false) }
}

/// Reads an origin, or one with `*.` for its first label, into what browsers write (RFC 6454 §6.2).
fn origin(reader: &mut Reader, text: &Text) -> Option<Box<str>> {
    let written = &*text.value;
    let (message, cure) = match written {
        "*" => ("`*` would let the pages of every site read what this one's users may", "name the origins, one by one"),
        "null" => ("`null` is the origin of sandboxed frames and local files, whoever made them", "remove it"),
        _ => match plain_origin(&written.replacen("://*.", "://x.", 1)) {
            Some(plain) if !written.contains("://*.") => return Some(plain),
            Some(plain) if is_under_a_name(&plain) => return Some(plain.replacen("://x.", "://*.", 1).into()),
            Some(_) => ("`*` stands for one label before a name of two or more", "https://*.app.example.com"),
            None if written.contains('*') => {
                ("`*` stands for the whole first label of an origin, and nowhere else", "https://*.app.example.com")
            }
            None => ("an origin is a scheme, a host and perhaps a port", "https://app.example.com"),
        },
    };
    reader.report(Problem::error("bad_origin", text.span, message).cure(cure));
    None
}

fn plain_origin(text: &str) -> Option<Box<str>> {
    let (_, rest) = text.split_once("://")?;
    let url = Url::parse(text).ok()?;
    let bare = !rest.contains(['/', '\\', '?', '#', '@', '*', '%']) && !rest.chars().any(char::is_whitespace);
    let fits = bare && matches!(url.scheme(), "https" | "http") && url.has_host();
    fits.then(|| url.origin().ascii_serialization().into())
}

fn is_under_a_name(origin: &str) -> bool {
    let parsed = Url::parse(origin).ok();
    parsed.is_some_and(|url| matches!(url.host(), Some(Host::Domain(name)) if name.matches('.').count() >= 2))
}

/// Where browsers are sent; the request's own URL takes the place of `{url}`.
pub(super) fn sign_in(reader: &mut Reader, top: &Fields<'_>) -> Option<SignIn> {
    sign_in_at(reader, top.get("sign_in")?, "`sign_in`", has_public_url(top))
}

fn sign_in_at(reader: &mut Reader, node: &Node, what: &str, public: bool) -> Option<SignIn> {
    if !matches!(node.kind, Kind::Map(_)) {
        return Some(SignIn { to: template(reader, node, what, public)?, return_to: Vec::new() });
    }
    let fields = reader.fields(node, SIGN_IN)?;
    if !fields.has("to") {
        reader.missing(node.span, format!("{what} needs `to`, the URL where people sign in"));
    }
    let to = template(reader, fields.get("to")?, "`to` of `sign_in`", public)?;
    let return_to = fields.get("return_to").map(|node| returns(reader, node)).unwrap_or_default();
    if let Some(first) = return_to.first().filter(|_| !to.value.contains("{url}")) {
        let message = "`return_to` says what `{url}` may be, and there is no `{url}` in `to`";
        reader.report(
            Problem::error("bad_placeholder", first.span, message)
                .cure("to: https://login.example.com/?return_to={url}"),
        );
    }
    Some(SignIn { to, return_to })
}

/// The origins that people may be sent back to, each host once: the host alone picks one.
fn returns(reader: &mut Reader, node: &Node) -> Vec<Text> {
    let mut hosts: HashMap<String, Span> = HashMap::new();
    let mut read = Vec::new();
    for text in reader.texts(node, "`return_to` of `sign_in`") {
        let as_node = Node { span: text.span, kind: Kind::Text { text: text.value.clone(), plain: false } };
        if reader.url(&as_node, "`return_to` of `sign_in`", true).is_none() {
            continue;
        }
        let Some(origin) = plain_origin(&text.value) else {
            let message = "`return_to` lists origins: the path is the request's own";
            reader.report(Problem::error("bad_origin", text.span, message).cure("https://shop.example.com"));
            continue;
        };
        let host = Url::parse(&origin).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
        if let Some(first) = hosts.insert(host, text.span) {
            let message = "`return_to` has this host twice, and the host alone says where a person came from";
            reader.report(
                Problem::error("host_twice", text.span, message)
                    .cure("keep one of the two")
                    .related(first, "first here"),
            );
        }
        read.push(Spanned::new(origin, text.span));
    }
    read
}

fn template(reader: &mut Reader, node: &Node, what: &str, public: bool) -> Option<Text> {
    let text = reader.text(node, what)?;
    let filled =
        text.value.replace("{url}", "https%3A%2F%2Fexample.com%2F").replace("{max_age}", "60").replace("{acr}", "a");
    let mut refused = |message: String| {
        let problem = Problem::error("bad_placeholder", text.span, message);
        reader.report(problem.cure("https://login.example.com/?return_to={url}"));
        None
    };
    if filled.contains(['{', '}']) {
        return refused(format!("{what} has a placeholder other than `{{url}}`, `{{max_age}}` and `{{acr}}`"));
    }
    let shape = Kind::Text { text: filled.into(), plain: false };
    reader.url(&Node { span: node.span, kind: shape }, what, true)?;
    let mut refused = |message: String| {
        let problem = Problem::error("bad_placeholder", text.span, message);
        reader.report(problem.cure("https://login.example.com/?return_to={url}"));
        None
    };
    if text.value.matches("{url}").count() > 1 {
        return refused(format!("`{{url}}` is in {what} twice"));
    }
    // A placeholder before the query would let the request's path name the host or the page.
    let before_query = text.value.split('?').next().unwrap_or_default();
    if let Some(misplaced) = ["{url}", "{max_age}", "{acr}"].into_iter().find(|one| before_query.contains(one)) {
        return refused(format!("`{misplaced}` belongs in the query"));
    }
    if text.value.contains("{url}") && !public {
        let problem =
            Problem::error("missing_key", text.span, "`{url}` needs `public_url`: the Host header is never copied");
        reader.report(problem.cure("public_url: https://shop.example.com"));
    }
    Some(text)
}

fn credential(reader: &mut Reader, node: &Node) -> Option<CredentialUse> {
    let words = [("strip", true), ("forward", false)];
    if matches!(node.kind, Kind::Text { .. }) {
        let strip = reader.choice(node, "`credential` of a route", &words)?.value;
        return Some(CredentialUse { from: None, strip, span: node.span });
    }
    let fields = reader.fields(node, CREDENTIAL)?;
    if !fields.has("from") && !fields.has("then") {
        let message = "`credential` says where tokens are read (`from`), or who sees them (`then: strip`)";
        reader.missing(node.span, message);
    }
    let then = fields.get("then").and_then(|node| reader.choice(node, "`then` of `credential`", &words));
    let from = fields.get("from").map(|node| credentials(reader, node, "`from` of `credential`"));
    Some(CredentialUse { from, strip: then.is_some_and(|then| then.value), span: node.span })
}

#[cfg(test)]
mod tests {
    use crate::config::file::{File, parse};

    fn read(text: &str) -> (File, Vec<(u32, u32, &'static str)>) {
        let (file, problems) = parse("portcullis.yaml", text);
        let places = |p: &crate::config::Problem| (p.span.line, p.span.column, p.code);
        (file.unwrap(), problems.as_slice().iter().map(places).collect())
    }

    fn cors(value: &str) -> Vec<(u32, u32, &'static str)> {
        read(&format!("cors: {value}\nroutes: {{/a: role:x}}\n")).1
    }

    fn route(value: &str) -> Vec<(u32, u32, &'static str)> {
        read(&format!("public_url: https://a.example.com\nroutes: {{/a: {{allow: role:x, {value}}}}}\n")).1
    }

    #[test]
    fn an_origin_is_read_as_browsers_write_it() {
        for (written, origin) in [
            ("https://app.example.com", "https://app.example.com"),
            ("HTTPS://App.Example.COM:443", "https://app.example.com"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://app.example.com:80", "http://app.example.com"),
            ("'http://[::1]:8080'", "http://[::1]:8080"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("https://*.App.example.com:8443", "https://*.app.example.com:8443"),
        ] {
            let (file, problems) = read(&format!("cors: {{origins: [{written}]}}\nroutes: {{/a: role:x}}\n"));
            assert_eq!(problems, [], "{written}");
            assert_eq!(&*file.cors.unwrap().every.unwrap().origins[0].value, origin);
        }
        for bad in [
            "'*'",
            "\"null\"",
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com/x",
            "https://app.example.com?x",
            "https://u@app.example.com",
            "https:app.example.com",
            "'https:///app.example.com'",
            "'https:\\\\app.example.com'",
            "ftp://app.example.com",
            "https://*",
            "https://*.com",
            "https://*.*.example.com",
            "https://a*.example.com",
            "https://a.*.example.com",
            "https://*.192.0.2.7",
            "https://%61pp.example.com",
        ] {
            assert_eq!(cors(&format!("{{origins: [{bad}]}}")), [(1, 18, "bad_origin")], "{bad}");
        }
    }

    #[test]
    fn cors_is_for_every_host_or_by_host() {
        assert_eq!(cors("{origins: https://a.example.com, credentials: true}"), []);
        assert_eq!(cors("{hosts: {api.example.com: {origins: [https://a.example.com]}}}"), []);
        assert_eq!(
            cors("{origins: https://a.example.com, hosts: {b.example.com: {origins: https://b.example.com}}}"),
            []
        );
        for (value, column, code) in [
            ("{}", 7, "missing_key"),
            ("{credentials: true}", 7, "missing_key"),
            ("{origins: []}", 17, "missing_value"),
            ("{orgins: [https://a.example.com]}", 8, "unknown_key"),
            ("{api.example.com: {origins: [https://a.example.com]}}", 8, "unknown_key"),
            ("{hosts: {b.example.com: {}}}", 31, "missing_key"),
            ("{hosts: {b.example.com: {origins: https://b.example.com}}, credentials: true}", 66, "missing_key"),
            ("{origins: https://a.example.com, credentials: yes}", 53, "wrong_shape"),
            ("{origins: https://a.example.com, methods: [GET]}", 40, "refused_key"),
        ] {
            assert!(cors(value).contains(&(1, column, code)), "{value}: {:?}", cors(value));
        }
    }

    #[test]
    fn a_route_may_say_otherwise() {
        for good in [
            "cors: {origins: [https://a.example.com]}",
            "sign_in: none",
            "sign_in: 'https://login.example.com/?to={url}'",
            "sign_in: {to: 'https://login.example.com/?to={url}', return_to: [https://b.example.com, 'http://localhost:3000']}",
            "credential: strip",
            "credential: forward",
            "credential: {from: [bearer, 'query:access_token', 'subprotocol:bearer.'], then: strip}",
            "credential: {from: cookie:session}",
            "credential: {then: strip}",
        ] {
            assert_eq!(route(good), [], "{good}");
        }
        for (bad, column, code) in [
            ("cors: {}", 36, "missing_key"),
            ("cors: {origins: ['*']}", 47, "bad_origin"),
            ("cors: {hosts: {}}", 37, "unknown_key"),
            ("sign_in: nowhere", 39, "bad_url"),
            ("sign_in: {return_to: [https://b.example.com]}", 39, "missing_key"),
            ("sign_in: {to: 'https://l.example.com/', return_to: [https://b.example.com]}", 82, "bad_placeholder"),
            ("sign_in: {to: 'https://l.example.com/?{url}', return_to: [http://b.example.com]}", 88, "not_https"),
            ("sign_in: {to: 'https://l.example.com/?{url}', return_to: [https://b.example.com/x]}", 88, "bad_origin"),
            ("sign_in: {to: 'https://l.example.com/?{url}', return_to: ['https://*.example.com']}", 88, "bad_origin"),
            (
                "sign_in: {to: 'https://l.example.com/?{url}', return_to: [https://b.example.com, 'https://b.example.com:8443']}",
                111,
                "host_twice",
            ),
            ("credential: stripped", 42, "unknown_value"),
            ("credential: {}", 42, "missing_key"),
            ("credential: {from: [query]}", 50, "unknown_value"),
            ("credential: {then: away}", 49, "unknown_value"),
            ("credential: {strip: true}", 43, "unknown_key"),
        ] {
            assert!(route(bad).contains(&(2, column, code)), "{bad}: {:?}", route(bad));
        }
    }
}
