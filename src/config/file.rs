//! The tree into the policy file as it was written: every section, every problem, nothing compiled.

mod gateway;
mod header;
mod issuer;
mod row;
mod site;

use std::collections::HashMap;
use std::sync::Arc;

pub use gateway::{ClientAddress, Gateway, Peer};
pub use header::{Format, Header, Metadata, Source};
pub use issuer::{Algorithm, Audience, Credential, Issuer, Keys, Location, MayGrant};
pub use row::{Ask, Expectation, Row, Who};
pub use site::{Audit, DecisionKey, Endpoint, Leniency, Listen, Log};

use super::error::{Problem, Problems, Span, Spanned, nearest};
use super::shape::{Fields, Reader, Section};
use super::tree::{Kind, Node, read};

const TOP: Section = Section {
    name: "",
    accepted: &[
        "issuers",
        "headers",
        "headers_kept",
        "metadata",
        "routes",
        "guards",
        "deny",
        "roles",
        "gateways",
        "paths",
        "public_url",
        "sign_in",
        "listen",
        "audit",
        "log",
        "decision_key",
        "cache",
        "tests",
    ],
    later: &[
        "include",
        "hosts",
        "cors",
        "grants",
        "store",
        "cel",
        "when",
        "mint",
        "services",
        "pdp_clients",
        "limit",
        "limits",
        "keys",
        "certificates",
        "revocations",
    ],
};
const ROUTE: Section = Section {
    name: "a route",
    accepted: &["allow", "issuers"],
    later: &["deny", "headers", "limit", "sign_in", "audience", "cors", "credential", "max_age", "acr", "mint"],
};
const RULE: &[&str] = &["any", "all", "not"];

/// Every section and the keys that it has; what `portcullis schema` must say as well.
pub const ACCEPTED_KEYS: &[(&str, &[&str])] = &[
    ("", TOP.accepted),
    ("issuers.*", issuer::ISSUER.accepted),
    ("issuers.*.audience", issuer::AUDIENCE.accepted),
    ("headers.*", header::HEADER.accepted),
    ("metadata.*", header::METADATA.accepted),
    ("routes.*", ROUTE.accepted),
    ("rule", RULE),
    ("gateways.*", gateway::GATEWAY.accepted),
    ("gateways.*.client_address", gateway::CLIENT_ADDRESS.accepted),
    ("paths", site::PATHS.accepted),
    ("listen", site::LISTEN.accepted),
    ("cache", site::CACHE.accepted),
    ("tests.*", row::ROW.accepted),
];

/// A name and what it stands for.
pub type Named<T> = (Spanned<Box<str>>, T);

/// A policy file as it was written. Rules, route keys and patterns are text still.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// Who signs tokens.
    pub issuers: Vec<Named<Issuer>>,
    /// The headers that the upstream trusts.
    pub headers: Vec<Header>,
    /// Headers of well-known families that are not ours to remove.
    pub headers_kept: Vec<Spanned<Box<str>>>,
    /// What the gateway is told beside the headers.
    pub metadata: Vec<Metadata>,
    /// The route table, in file order.
    pub routes: Vec<Route>,
    /// Rules that must hold as well, by pattern.
    pub guards: Vec<Named<Rule>>,
    /// Forbids for every route, by name.
    pub deny: Vec<Named<Rule>>,
    /// Roles that the policy derives, by name.
    pub roles: Vec<Named<Rule>>,
    /// Who may ask.
    pub gateways: Vec<Named<Gateway>>,
    /// What is not refused in a path.
    pub paths: Vec<Spanned<Leniency>>,
    /// Where browsers find the site: scheme, host and port.
    pub public_url: Option<Spanned<Box<str>>>,
    /// Where browsers are sent to sign in.
    pub sign_in: Option<Spanned<Box<str>>>,
    /// Where portcullis listens.
    pub listen: Listen,
    /// Where decisions are recorded.
    pub audit: Audit,
    /// How the log is written.
    pub log: Log,
    /// Where the key of the decision ids is found.
    pub decision_key: Option<Spanned<DecisionKey>>,
    /// How much memory verified tokens may take, in bytes.
    pub token_cache: Option<Spanned<u64>>,
    /// The policy's own tests.
    pub tests: Vec<Row>,
    /// The sections of which some entry could not be read, and so is left out.
    pub lost: Vec<&'static str>,
}

/// A line of the route table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `[METHOD[,METHOD] ][host]/path`
    pub key: Spanned<Box<str>>,
    /// Who may pass.
    pub rule: Rule,
    /// The issuers that it accepts, where it says so.
    pub issuers: Option<Vec<Spanned<Box<str>>>>,
}

/// A rule as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Rule words.
    Text(Spanned<Box<str>>),
    /// `{any: [...]}`: one of them holds.
    Any(Span, Vec<Self>),
    /// `{all: [...]}`: each of them holds.
    All(Span, Vec<Self>),
    /// `{not: ...}`: it does not hold.
    Not(Span, Box<Self>),
}

impl Rule {
    /// Where it was written.
    #[must_use]
    pub const fn span(&self) -> Span {
        match self {
            Self::Text(text) => text.span,
            Self::Any(span, _) | Self::All(span, _) | Self::Not(span, _) => *span,
        }
    }
}

/// Reads a policy file. There is no file where it cannot be read as YAML, or says nothing; where there is one and the
/// problems hold errors, it is what could be made of it, for tools only.
#[must_use]
pub fn parse(name: &str, text: &str) -> (Option<File>, Problems) {
    let mut reader = Reader::new(Arc::from(name));
    let (tree, problems) = read(text);
    let broken = tree.is_none() && !problems.is_empty();
    for problem in problems {
        reader.report(problem);
    }
    let root = tree.filter(|root| root.kind != Kind::Null);
    if root.is_none() && !broken {
        let start = Span { line: 1, column: 1, offset: 0, len: 0 };
        reader.report(Problem::error("empty_file", start, "the file says nothing").cure("it needs at least `routes:`"));
    }
    let file = root.and_then(|root| reader.fields(&root, TOP).map(|fields| file(&mut reader, &fields)));
    (file, reader.into_problems())
}

fn file(reader: &mut Reader, top: &Fields<'_>) -> File {
    let issuers = named(reader, top, "issuers", issuer::issuer);
    let names: Vec<&str> = issuers.iter().map(|(name, _)| &*name.value).collect();
    let routes = routes(reader, top, &names);
    let tests = row::rows(reader, top, &names);
    issuer::compare(reader, &issuers);
    let public_url = site::public_url(reader, top);
    let mut file = File {
        headers: header::headers(reader, top),
        headers_kept: top.get("headers_kept").map(|node| reader.texts(node, "`headers_kept`")).unwrap_or_default(),
        metadata: header::metadata(reader, top),
        routes,
        guards: named(reader, top, "guards", |reader, _, node| rule(reader, node)),
        deny: named(reader, top, "deny", |reader, _, node| rule(reader, node)),
        roles: named(reader, top, "roles", |reader, _, node| rule(reader, node)),
        gateways: named(reader, top, "gateways", gateway::gateway),
        paths: site::paths(reader, top),
        sign_in: site::sign_in(reader, top),
        public_url,
        listen: site::listen(reader, top),
        audit: site::audit(reader, top),
        log: site::log(reader, top),
        decision_key: site::decision_key(reader, top),
        token_cache: site::token_cache(reader, top),
        tests,
        issuers,
        lost: Vec::new(),
    };
    file.lost = reader.lost();
    file
}

/// A map of names to what `one` reads of a value.
fn named<T>(
    reader: &mut Reader,
    top: &Fields<'_>,
    section: &'static str,
    mut one: impl FnMut(&mut Reader, &Spanned<Box<str>>, &Node) -> Option<T>,
) -> Vec<Named<T>> {
    let Some(node) = top.get(section) else { return Vec::new() };
    let entries = reader.entries(node, &top.name(section)).unwrap_or_default();
    let count = entries.len();
    let mut read = Vec::with_capacity(count);
    for (name, node) in entries {
        if let Some(value) = one(reader, &name, node) {
            read.push((name, value));
        }
    }
    if read.len() < count {
        reader.lose(section);
    }
    read
}

fn routes(reader: &mut Reader, top: &Fields<'_>, issuers: &[&str]) -> Vec<Route> {
    let routes = named(reader, top, "routes", |reader, _, node| {
        let Some(long) = long_form(node) else { return rule(reader, node).map(|rule| (rule, None)) };
        let fields = reader.fields(long, ROUTE)?;
        let accepted = fields.get("issuers").map(|node| reader.texts(node, &fields.name("issuers")));
        for name in accepted.iter().flatten() {
            known_issuer(reader, name, issuers);
        }
        if !fields.has("allow") {
            reader.missing(node.span, "a route needs `allow`, the rule that says who may pass");
        }
        Some((rule(reader, fields.get("allow")?)?, accepted))
    });
    if !top.has("routes") {
        let start = Span { line: 1, column: 1, offset: 0, len: 0 };
        reader.report(Problem::warning("no_routes", start, "there are no `routes`: every request is denied"));
    }
    routes.into_iter().map(|(key, (rule, issuers))| Route { key, rule, issuers }).collect()
}

/// A map that is not one of the rule forms.
fn long_form(node: &Node) -> Option<&Node> {
    let Kind::Map(entries) = &node.kind else { return None };
    let is_rule = |key: &Node| matches!(&key.kind, Kind::Text { text, .. } if RULE.contains(&&**text));
    (!entries.iter().any(|(key, _)| is_rule(key))).then_some(node)
}

/// Reads a rule: words, or the same tree in YAML.
fn rule(reader: &mut Reader, node: &Node) -> Option<Rule> {
    match &node.kind {
        Kind::Text { .. } => reader.literal(node, "a rule").map(Rule::Text),
        Kind::Map(_) => {
            let mut entries = reader.entries(node, "a rule")?.into_iter();
            let (Some((word, value)), None) = (entries.next(), entries.next()) else {
                let problem = Problem::error("wrong_shape", node.span, "a rule in YAML has exactly one key");
                reader.report(problem.cure("one of `any`, `all`, `not`"));
                return None;
            };
            match &*word.value {
                "any" => rules(reader, value, "`any`").map(|rules| Rule::Any(node.span, rules)),
                "all" => rules(reader, value, "`all`").map(|rules| Rule::All(node.span, rules)),
                "not" => rule(reader, value).map(|rule| Rule::Not(node.span, Box::new(rule))),
                _ => {
                    reader.no_such_choice(&word, "the key of a rule", RULE);
                    None
                }
            }
        }
        Kind::Null => {
            let problem = Problem::error("missing_value", node.span, "there is no rule here");
            reader.report(problem.cure("`public`, `signed-in`, `role:x`: say who may pass"));
            None
        }
        Kind::Bool(_) | Kind::List(_) => {
            let message = format!("a rule must be a text, this is {}", node.kind.noun());
            reader.report(
                Problem::error("wrong_shape", node.span, message).cure("`{any: [...]}` or `{all: [...]}` lists rules"),
            );
            None
        }
    }
}

fn rules(reader: &mut Reader, node: &Node, what: &str) -> Option<Vec<Rule>> {
    let items = reader.list(node, what)?;
    let rules: Vec<Rule> = items.iter().filter_map(|item| rule(reader, item)).collect();
    (!items.is_empty() && rules.len() == items.len()).then_some(rules)
}

/// Reports a name that no issuer has.
fn known_issuer(reader: &mut Reader, name: &Spanned<Box<str>>, issuers: &[&str]) {
    if issuers.contains(&&*name.value) {
        return;
    }
    let cure = match nearest(&name.value, issuers.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if issuers.is_empty() => "the file has no `issuers`".into(),
        None => format!("one of {}", issuers.join(", ")),
    };
    let message = format!("there is no issuer `{}`", super::shape::brief(&name.value));
    reader.report(Problem::error("unknown_issuer", name.span, message).cure(cure));
}

/// Reports names that fold to the same one, as gateways and upstreams may fold them.
fn alike(reader: &mut Reader, names: &[(&Spanned<Box<str>>, String)], code: &'static str, message: &str) {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for (name, folded) in names {
        if let Some(first) = seen.insert(folded, name.span) {
            reader.report(
                Problem::error(code, name.span, message).cure("keep one of the two").related(first, "first here"),
            );
        }
    }
}
