//! A policy and a question about it as plain values, and the policy printed as the file that says the same.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::{Map, Value};

#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub issuers: Vec<Issuer>,
    pub routes: Vec<Route>,
    pub guards: Vec<(Key, Rule)>,
    pub forbids: Vec<(String, Rule)>,
    pub roles: Vec<(String, Rule)>,
    pub headers: Vec<Managed>,
    pub metadata: Vec<(String, String)>,
    pub kept: Vec<String>,
    pub gateways: Vec<Gateway>,
    /// Words of `paths:`.
    pub paths: Vec<&'static str>,
}

#[derive(Clone, Debug)]
pub struct Issuer {
    pub name: String,
    pub audience: String,
    pub roles: Option<String>,
    pub groups: Option<String>,
    /// `None`: the default, `scope`.
    pub scopes: Option<String>,
    pub missing_is_empty: bool,
    pub default: bool,
    /// `None`: any.
    pub may_grant: Option<Vec<String>>,
    pub require: Option<Rule>,
    pub from: Vec<Place>,
    pub origins: Vec<String>,
    pub prefix: Option<String>,
}

/// Where a token may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Bearer,
    Header(String),
    Cookie(String),
}

#[derive(Clone, Debug)]
pub struct Route {
    pub key: Key,
    pub allow: Rule,
    pub issuers: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// None: all methods.
    pub methods: Vec<String>,
    pub host: Option<Host>,
    pub path: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Name(String),
    /// `*.name`
    Below(String),
    /// `{capture}.name`
    Capture(String, String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    Literal(String),
    /// `*`
    One,
    /// `{name}`
    Capture(String),
    /// `prefix*`
    Prefix(String),
    /// `**`
    Rest,
    /// `{name**}`
    CaptureRest(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    Public,
    Anyone,
    Word(Word),
    Not(Box<Rule>),
    Any(Vec<Rule>),
    All(Vec<Rule>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    SignedIn,
    Role(String),
    Group(String),
    Scope(String),
    Issuer(String),
    /// The path, and the value.
    Claim(String, String),
    /// The path, and the capture.
    ClaimIsCaptured(String, String),
    ClaimIsThere(String),
    Owner(String),
    Network(String),
}

#[derive(Clone, Debug)]
pub struct Managed {
    pub name: String,
    pub from: String,
    pub format: &'static str,
}

#[derive(Clone, Debug)]
pub struct Gateway {
    /// `None`: unix.
    pub by: Option<String>,
    pub believed: bool,
    pub address: Address,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Connection,
    External,
    Forwarded(usize),
}

/// A token that is in circulation.
#[derive(Clone, Debug)]
pub struct Token {
    pub text: String,
    /// The issuer that it names.
    pub issuer: String,
    /// `iss` is the issuer's name; `exp`, `nbf` and `iat` are `now+N` or `now-N`.
    pub claims: Map<String, Value>,
    pub forged: bool,
}

/// A request, and who passes it on.
#[derive(Clone, Debug)]
pub struct Question {
    /// `None`: a unix socket.
    pub peer: Option<IpAddr>,
    /// The gateway's own peer.
    pub source: Option<IpAddr>,
    pub method: String,
    pub host: String,
    pub target: String,
    pub lines: Vec<(String, String)>,
}

impl Key {
    pub fn print(&self) -> String {
        let host = match &self.host {
            None => String::new(),
            Some(Host::Name(name)) => name.clone(),
            Some(Host::Below(name)) => format!("*.{name}"),
            Some(Host::Capture(capture, name)) => format!("{{{capture}}}.{name}"),
        };
        let path: Vec<String> = self.path.iter().map(Segment::print).collect();
        let space = if self.methods.is_empty() { "" } else { " " };
        format!("{}{space}{host}/{}", self.methods.join(","), path.join("/"))
    }
}

impl Segment {
    fn print(&self) -> String {
        match self {
            Self::Literal(text) => text.clone(),
            Self::One => "*".into(),
            Self::Capture(name) => format!("{{{name}}}"),
            Self::Prefix(text) => format!("{text}*"),
            Self::Rest => "**".into(),
            Self::CaptureRest(name) => format!("{{{name}**}}"),
        }
    }
}

impl Rule {
    pub fn print(&self) -> String {
        let inner = |rules: &[Self], between: &str| {
            let parts: Vec<String> = rules.iter().map(Self::operand).collect();
            parts.join(between)
        };
        match self {
            Self::Public => "public".into(),
            Self::Anyone => "anyone".into(),
            Self::Word(word) => word.print(),
            Self::Not(rule) => format!("not {}", rule.operand()),
            Self::Any(rules) => inner(rules, " or "),
            Self::All(rules) => inner(rules, " and "),
        }
    }

    fn operand(&self) -> String {
        match self {
            Self::Any(_) | Self::All(_) => format!("({})", self.print()),
            _ => self.print(),
        }
    }

    /// Every word in it.
    pub fn words(&self) -> Vec<&Word> {
        match self {
            Self::Public | Self::Anyone => Vec::new(),
            Self::Word(word) => vec![word],
            Self::Not(rule) => rule.words(),
            Self::Any(rules) | Self::All(rules) => rules.iter().flat_map(Self::words).collect(),
        }
    }
}

impl Word {
    fn print(&self) -> String {
        match self {
            Self::SignedIn => "signed-in".into(),
            Self::Role(name) => format!("role:{}", value(name)),
            Self::Group(name) => format!("group:{}", value(name)),
            Self::Scope(name) => format!("scope:{}", value(name)),
            Self::Issuer(name) => format!("issuer:{name}"),
            Self::Claim(path, text) => format!("claim:{path}={}", value(text)),
            Self::ClaimIsCaptured(path, capture) => format!("claim:{path}={{{capture}}}"),
            Self::ClaimIsThere(path) => format!("claim:{path}?"),
            Self::Owner(capture) => format!("owner:{capture}"),
            Self::Network(network) => format!("network:{network}"),
        }
    }
}

/// A value as a rule has it, in quotes where it needs them.
fn value(text: &str) -> String {
    let words = ["and", "or", "not", "public", "anyone", "signed-in", ""];
    if words.contains(&text) || text.contains([' ', ',', '=', '(', ')', '[', ']', '{', '}', '*', '"', '\\', '?']) {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        text.to_owned()
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn list<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    let texts: Vec<String> = texts.into_iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

impl Policy {
    /// The policy as a file.
    pub fn print(&self) -> String {
        let mut text = String::from("issuers:\n");
        for issuer in &self.issuers {
            issuer.print(&mut text);
        }
        self.print_gateways(&mut text);
        if !self.paths.is_empty() {
            _ = writeln!(text, "paths: [{}]", self.paths.join(", "));
        }
        if !self.kept.is_empty() {
            _ = writeln!(text, "headers_kept: {}", list(&self.kept));
        }
        let mut section = |name: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                _ = writeln!(text, "{name}:\n  {}", lines.join("\n  "));
            }
        };
        let managed = |header: &Managed| {
            if header.format == "json" {
                format!("{}: {}", quoted(&header.name), quoted(&header.from))
            } else {
                format!("{}: {{from: {}, format: {}}}", quoted(&header.name), quoted(&header.from), header.format)
            }
        };
        let pair = |(name, rule): &(String, Rule)| format!("{}: {}", quoted(name), quoted(&rule.print()));
        section("headers", self.headers.iter().map(managed).collect());
        section("metadata", self.metadata.iter().map(|(key, from)| format!("{key}: {}", quoted(from))).collect());
        section("roles", self.roles.iter().map(pair).collect());
        section("guards", self.guards.iter().map(|(key, rule)| pair(&(key.print(), rule.clone()))).collect());
        section("deny", self.forbids.iter().map(pair).collect());
        section("routes", self.routes.iter().map(Route::print).collect());
        text
    }

    fn print_gateways(&self, text: &mut String) {
        if !self.gateways.is_empty() {
            text.push_str("gateways:\n");
        }
        for (number, gateway) in self.gateways.iter().enumerate() {
            let by = gateway.by.as_deref().unwrap_or("unix");
            _ = write!(text, "  g{number}: {{by: {}", quoted(by));
            if gateway.believed {
                text.push_str(", believes: [client_address]");
            }
            _ = match gateway.address {
                Address::Connection => writeln!(text, ", client_address: {{from: connection}}}}"),
                Address::External => writeln!(text, ", client_address: {{from: x-envoy-external-address}}}}"),
                Address::Forwarded(hops) => writeln!(text, ", client_address: {{from: xff, hops: {hops}}}}}"),
            };
        }
    }
}

impl Issuer {
    fn print(&self, text: &mut String) {
        _ = write!(text, "  {}: {{url: \"https://{}.test\", audience: {}", self.name, self.name, self.audience);
        for (key, claim) in [("roles", &self.roles), ("groups", &self.groups), ("scopes", &self.scopes)] {
            if let Some(claim) = claim {
                _ = write!(text, ", {key}: {}", quoted(claim));
            }
        }
        if self.missing_is_empty {
            text.push_str(", missing: empty");
        }
        _ = write!(text, ", default: {}", self.default);
        match &self.may_grant {
            None => text.push_str(", may_grant: any"),
            Some(names) => _ = write!(text, ", may_grant: {}", list(names)),
        }
        if let Some(rule) = &self.require {
            _ = write!(text, ", require: {}", quoted(&rule.print()));
        }
        let from = self.from.iter().map(|place| match place {
            Place::Bearer => "bearer".to_owned(),
            Place::Header(name) => format!("header:{name}"),
            Place::Cookie(name) => format!("cookie:{name}"),
        });
        _ = write!(text, ", from: {}", list(&from.collect::<Vec<_>>()));
        if !self.origins.is_empty() {
            _ = write!(text, ", origins: {}", list(&self.origins));
        }
        if let Some(prefix) = &self.prefix {
            _ = write!(text, ", subject_prefix: {}", quoted(prefix));
        }
        text.push_str("}\n");
    }
}

impl Route {
    fn print(&self) -> String {
        let (key, rule) = (quoted(&self.key.print()), quoted(&self.allow.print()));
        if self.issuers.is_empty() {
            format!("{key}: {rule}")
        } else {
            format!("{key}: {{allow: {rule}, issuers: {}}}", list(&self.issuers))
        }
    }
}
