//! The site's own settings: its address, where portcullis listens, what it records, what it lets pass.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use url::Url;

use crate::config::error::{Problem, Spanned, Text};
use crate::config::reference::Secret;
use crate::config::shape::{Fields, Reader, Section};
use crate::config::tree::{Kind, Node};

use super::issuer::file_path;

pub(super) const LISTEN: Section =
    Section { name: "`listen`", accepted: &["grpc", "http", "admin", "public"], later: &[], never: &[] };
pub(super) const GRPC: Section = Section { name: "a listener", accepted: &["address", "tls"], later: &[], never: &[] };
pub(super) const TLS: Section = Section {
    name: "`tls` of a listener",
    accepted: &["certificate", "key", "client_ca", "client"],
    later: &[],
    never: &[],
};
pub(super) const CACHE: Section = Section { name: "`cache`", accepted: &["tokens"], later: &["decisions"], never: &[] };

const MAX_CACHE: u64 = 64 << 30;

/// A point in which paths are read less strictly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leniency {
    /// `%2F` within a segment.
    EncodedSlash,
    /// `;` and what follows it.
    Semicolon,
    /// `//`
    EmptySegment,
    /// `\`
    Backslash,
    /// `%25` and what looks like an escape behind it.
    DoubleEncoding,
    /// A path that differs from a route in case only.
    CaseVariant,
}

/// Where portcullis listens; empty where the file does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// For gateways that ask by gRPC.
    pub grpc: Vec<Spanned<Endpoint>>,
    /// For gateways that ask by HTTP.
    pub http: Vec<Spanned<Endpoint>>,
    /// For health, metrics and administration.
    pub admin: Option<Spanned<Endpoint>>,
    /// For what the world may ask.
    pub public: Option<Spanned<Endpoint>>,
}

/// An address to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// The same, with TLS.
    Tls(SocketAddr, Tls),
    /// A Unix socket.
    Unix(PathBuf),
}

/// What a listener serves TLS with: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Its certificate, and those that lead to a root.
    pub certificate: PathBuf,
    /// The key of its certificate.
    pub key: PathBuf,
    /// Whose certificates gateways may show.
    pub client_ca: Option<PathBuf>,
    /// Whether a gateway may ask without a certificate all the same.
    pub client_optional: bool,
}

/// Where decisions are recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Audit {
    /// On standard output.
    #[default]
    Stdout,
    /// Nowhere.
    None,
    /// In a file.
    File(PathBuf),
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Log {
    /// One JSON object a line.
    #[default]
    Json,
    /// For reading.
    Human,
}

/// Where a secret is found: never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretPlace {
    /// In a file.
    File(PathBuf),
    /// In an environment variable.
    Env(Box<str>),
    /// This is it, from a reference.
    Given(Secret),
}

/// As the policy writes it.
impl fmt::Display for SecretPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Given(_) => f.write_str("${…}"),
        }
    }
}

impl SecretPlace {
    /// Reads `env:NAME` or `file:path`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("file:") {
            return (!path.is_empty() && !path.starts_with("//")).then(|| Self::File(path.into()));
        }
        let name = text.strip_prefix("env:")?;
        let fits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        fits.then(|| Self::Env(name.into()))
    }
}

pub(super) fn paths(reader: &mut Reader, top: &Fields<'_>) -> Vec<Spanned<Leniency>> {
    let words = [
        ("encoded_slash", Leniency::EncodedSlash),
        ("semicolon", Leniency::Semicolon),
        ("empty_segment", Leniency::EmptySegment),
        ("backslash", Leniency::Backslash),
        ("double_encoding", Leniency::DoubleEncoding),
        ("case_variant", Leniency::CaseVariant),
    ];
    let Some(node) = top.get("paths") else { return Vec::new() };
    let items = match &node.kind {
        Kind::Text { .. } => std::slice::from_ref(node),
        _ => reader.list(node, "`paths`").unwrap_or_default(),
    };
    let mut read = Vec::new();
    for item in items {
        if matches!(&item.kind, Kind::Text { text, .. } if &**text == "dot_segment") {
            let message = "a path with `.` or `..` can be read two ways, and is never let pass";
            reader.report(Problem::error("dot_segment", item.span, message).cure("remove it"));
        } else {
            read.extend(reader.choice(item, "`paths`", &words));
        }
    }
    read
}

/// The site as browsers see it: an origin, without a path.
pub(super) fn public_url(reader: &mut Reader, top: &Fields<'_>) -> Option<Text> {
    let url = reader.url(top.get("public_url")?, "`public_url`", true)?;
    let parsed = Url::parse(&url.value).ok()?;
    if parsed.path() != "/" || parsed.query().is_some() {
        let origin = parsed.origin().ascii_serialization();
        let problem = Problem::error("bad_url", url.span, "`public_url` is followed by the path of the request");
        reader.report(problem.cure(format!("without a path: {origin}")));
        return None;
    }
    Some(url.map(|url| url.trim_end_matches('/').into()))
}

pub(super) fn listen(reader: &mut Reader, top: &Fields<'_>) -> Listen {
    let Some(fields) = top.get("listen").and_then(|node| reader.fields(node, LISTEN)) else { return Listen::default() };
    let mut listeners =
        |key| fields.get(key).map(|node| listeners(reader, node, &fields.name(key))).unwrap_or_default();
    let (grpc, http) = (listeners("grpc"), listeners("http"));
    let mut tcp = |key: &'static str, message: &str, cure: &'static str| {
        let text = reader.text(fields.get(key)?, &fields.name(key))?;
        let endpoint = endpoint(reader, text)?;
        if !matches!(endpoint.value, Endpoint::Tcp(_)) {
            reader.report(Problem::error("bad_address", endpoint.span, message).cure(cure));
            return None;
        }
        Some(endpoint)
    };
    let admin = tcp("admin", "health and metrics are served over TCP only", "127.0.0.1:9001");
    let public = tcp("public", "what the world may ask is served over TCP only", "0.0.0.0:9003");
    Listen { grpc, http, admin, public }
}

/// One listener, or a list of them.
fn listeners(reader: &mut Reader, node: &Node, name: &str) -> Vec<Spanned<Endpoint>> {
    let items = match &node.kind {
        Kind::Text { .. } | Kind::Map(_) => std::slice::from_ref(node),
        _ => reader.list(node, name).unwrap_or_default(),
    };
    items.iter().filter_map(|item| listener(reader, item, name)).collect()
}

/// An address, or a map with an address and what TLS is served with.
fn listener(reader: &mut Reader, node: &Node, name: &str) -> Option<Spanned<Endpoint>> {
    if !matches!(node.kind, Kind::Map(_)) {
        let text = reader.text(node, name)?;
        return endpoint(reader, text);
    }
    let fields = reader.fields(node, GRPC)?;
    if !fields.has("address") {
        reader.missing(node.span, "a listener needs `address`: an IP address with a port");
    }
    let tls = fields.get("tls").map(|node| tls(reader, node));
    let text = reader.text(fields.get("address")?, &fields.name("address"))?;
    let at = endpoint(reader, text)?;
    let Some(tls) = tls else { return Some(at) };
    let Endpoint::Tcp(address) = at.value else {
        let problem = Problem::error("bad_address", at.span, "a unix socket has no TLS: its folder says who may ask");
        reader.report(problem.cure("remove `tls`, or listen at an IP address"));
        return None;
    };
    Some(Spanned::new(Endpoint::Tls(address, tls?), at.span))
}

fn tls(reader: &mut Reader, node: &Node) -> Option<Tls> {
    let fields = reader.fields(node, TLS)?;
    for key in ["certificate", "key"] {
        if !fields.has(key) {
            reader.missing(node.span, format!("`tls` needs `{key}`, a PEM file: {key}: file:server.pem"));
        }
    }
    let mut path = |key| file_path(reader, fields.get(key)?, &fields.name(key)).map(|path| path.value);
    let (certificate, key, client_ca) = (path("certificate"), path("key"), path("client_ca"));
    let choices = [("required", false), ("optional", true)];
    let optional = fields.get("client").and_then(|node| reader.choice(node, &fields.name("client"), &choices));
    if let Some(span) = fields.key("client").filter(|_| !fields.has("client_ca")) {
        let problem = Problem::error("missing_key", span, "`client` needs `client_ca`: who vouches for gateways");
        reader.report(problem.cure("client_ca: file:gateways-ca.pem"));
    }
    Some(Tls {
        certificate: certificate?,
        key: key?,
        client_ca,
        client_optional: optional.is_some_and(|optional| optional.value),
    })
}

fn endpoint(reader: &mut Reader, text: Text) -> Option<Spanned<Endpoint>> {
    let unix = text.value.strip_prefix("unix:").filter(|path| path.starts_with('/'));
    let endpoint = match unix {
        Some(path) => Some(Endpoint::Unix(PathBuf::from(path))),
        None => text.value.parse().ok().map(Endpoint::Tcp),
    };
    if endpoint.is_none() {
        let problem =
            Problem::error("bad_address", text.span, "this is neither an IP address with a port nor a Unix socket");
        reader.report(problem.cure("127.0.0.1:9000, [::]:9000 or unix:/run/portcullis/grpc.sock"));
    }
    endpoint.map(|endpoint| Spanned::new(endpoint, text.span))
}

pub(super) fn audit(reader: &mut Reader, top: &Fields<'_>) -> Audit {
    let Some(node) = top.get("audit") else { return Audit::default() };
    let is_file = matches!(&node.kind, Kind::Text { text, .. } if text.starts_with("file:"));
    if is_file {
        return file_path(reader, node, "`audit`").map(|path| Audit::File(path.value)).unwrap_or_default();
    }
    let Some(text) = reader.text(node, "`audit`") else { return Audit::default() };
    match &*text.value {
        "stdout" => Audit::Stdout,
        "none" => Audit::None,
        _ => {
            reader.no_such_choice(&text, "`audit`", &["stdout", "none", "file:path"]);
            Audit::default()
        }
    }
}

pub(super) fn log(reader: &mut Reader, top: &Fields<'_>) -> Log {
    let node = top.get("log");
    let log = node.and_then(|node| reader.choice(node, "`log`", &[("json", Log::Json), ("human", Log::Human)]));
    log.map(|log| log.value).unwrap_or_default()
}

pub(super) fn decision_key(reader: &mut Reader, top: &Fields<'_>) -> Option<Spanned<SecretPlace>> {
    secret_place(reader, top.get("decision_key")?, "`decision_key`", "key")
}

/// Reads where a secret is: `env:NAME` or `file:path`, or the same as a reference.
pub(super) fn secret_place(reader: &mut Reader, node: &Node, what: &str, of: &str) -> Option<Spanned<SecretPlace>> {
    if reader.is_filled(node.span) {
        return reader.secret(node, what, "").map(|secret| secret.map(SecretPlace::Given));
    }
    let text = reader.text(node, what)?;
    let place = SecretPlace::parse(&text.value);
    if place.is_none() {
        let message = format!("{what} says where the {of} is, never the {of} itself");
        reader.report(
            Problem::error("secret_in_file", node.span, message)
                .cure("env:NAME, file:path, ${env:NAME} or ${file:path}"),
        );
    }
    place.map(|place| Spanned::new(place, text.span))
}

pub(super) fn token_cache(reader: &mut Reader, top: &Fields<'_>) -> Option<Spanned<u64>> {
    let fields = reader.fields(top.get("cache")?, CACHE)?;
    let text = reader.text(fields.get("tokens")?, "`tokens` of `cache`")?;
    let bytes = size(&text.value).filter(|bytes| *bytes <= MAX_CACHE);
    if bytes.is_none() {
        let problem = Problem::error("bad_size", text.span, "`tokens` of `cache` must be a size of at most 64GiB");
        reader.report(problem.cure("a whole number and its unit: 512KiB, 64MiB, 1GiB"));
    }
    bytes.map(|bytes| Spanned::new(bytes, text.span))
}

fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = match unit {
        "KiB" => 1_u64 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::parse;

    fn found(lines: &str) -> Vec<(u32, u32, &'static str)> {
        let (_, problems) = parse("portcullis.yaml", &format!("{lines}\nroutes: {{/a: role:x}}\n"));
        problems.as_slice().iter().map(|problem| (problem.span.line, problem.span.column, problem.code)).collect()
    }

    #[test]
    fn browsers_are_sent_to_an_address_that_the_request_cannot_choose() {
        let site = |sign_in: &str| found(&format!("public_url: https://a.example.com\nsign_in: {sign_in}"));
        assert_eq!(site("https://login.example.com/?to={url}"), []);
        assert_eq!(site("https://login.example.com/"), []);
        for (sign_in, code) in [
            ("\"{url}\"", "bad_url"),
            ("https://{url}/", "bad_url"),
            ("https://login.example.com/{url}", "bad_placeholder"),
            ("https://login.example.com/?to={path}", "bad_placeholder"),
            ("http://login.example.com/", "not_https"),
            ("javascript:alert(1)", "bad_url"),
            ("\"https://login.example.com/?to={url}\\r\\nX: y\"", "control_character"),
        ] {
            assert_eq!(site(sign_in), [(2, 10, code)], "{sign_in}");
        }
        assert_eq!(found("sign_in: https://login.example.com/?to={url}"), [(1, 10, "missing_key")]);
        assert_eq!(found("public_url: https://a.example.com/shop"), [(1, 13, "bad_url")]);
        assert_eq!(found("public_url: http://a.example.com"), [(1, 13, "not_https")]);
    }

    #[test]
    fn the_sites_own_settings_are_checked_word_by_word() {
        for (line, column, code) in [
            ("paths: {allow: [encoded_slash]}", 8, "wrong_shape"),
            ("paths: [encoded_slsh]", 9, "unknown_value"),
            ("paths: [dot_segment]", 9, "dot_segment"),
            ("listen: {grpc: localhost:9000}", 16, "bad_address"),
            ("listen: {grpc: 'unix:run.sock'}", 16, "bad_address"),
            ("listen: {http: localhost:80}", 16, "bad_address"),
            ("listen: {http: {address: '[::]:9444', tls: {key: file:a}}}", 44, "missing_key"),
            ("listen: {grpc: {tls: {certificate: file:a, key: file:b}}}", 16, "missing_key"),
            ("listen: {grpc: {address: '[::]:9443', tls: {certificate: file:a}}}", 44, "missing_key"),
            ("listen: {grpc: {address: '[::]:9443', tls: {certificate: a.pem, key: file:b}}}", 58, "bad_path"),
            ("listen: {grpc: {address: 'unix:/a', tls: {certificate: file:a, key: file:b}}}", 26, "bad_address"),
            (
                "listen: {grpc: {address: '[::]:9', tls: {certificate: file:a, key: file:b, client: required}}}",
                76,
                "missing_key",
            ),
            (
                "listen: {grpc: {address: '[::]:9', tls: {certificate: file:a, key: file:b, client_ca: file:c, client: never}}}",
                103,
                "unknown_value",
            ),
            ("audit: sdtout", 8, "unknown_value"),
            ("audit: 'file:'", 8, "bad_path"),
            ("log: text", 6, "unknown_value"),
            ("decision_key: 0123456789abcdef", 15, "secret_in_file"),
            ("decision_key: env:A-B", 15, "secret_in_file"),
            ("cache: {tokens: 64MB}", 17, "bad_size"),
            ("cache: {tokens: 65GiB}", 17, "bad_size"),
            ("log: ", 1, "missing_value"),
        ] {
            assert_eq!(found(line), [(1, column, code)], "{line}");
        }
    }

    #[test]
    fn sizes_have_a_binary_unit() {
        assert_eq!((size("64MiB"), size("1GiB"), size("512KiB")), (Some(64 << 20), Some(1 << 30), Some(512 << 10)));
        for text in ["64", "MiB", "64M", "64MB", "-1KiB", "1.5GiB", "99999999999999999999KiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
