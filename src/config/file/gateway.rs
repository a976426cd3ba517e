//! `gateways:` who may ask, and what is believed of what they say.

use std::net::IpAddr;

use ipnet::IpNet;

use super::header::may_set;
use super::site::SecretPlace;
use crate::authz::certificate::SpiffeId;
use crate::authz::gateways::{CertificateFrom, Dialect, canonical};
use crate::config::error::{Problem, Spanned, Text};
use crate::config::shape::{Reader, Section, brief};
use crate::config::tree::{Kind, Node};

pub(super) const GATEWAY: Section = Section {
    name: "a gateway",
    accepted: &["by", "dialect", "client_address", "believes", "filtered_headers", "max_headers", "max_header_bytes"],
    later: &[],
    never: &[
        ("token", "how a gateway is recognised is said by `by`: token:env:NAME"),
        ("certificate", "how a gateway is recognised is said by `by`: spiffe://example.com/gateway"),
    ],
};
pub(super) const CLIENT_ADDRESS: Section =
    Section { name: "a client address", accepted: &["from", "hops"], later: &[], never: &[] };
pub(super) const BY: Section = Section { name: "`by` of a gateway", accepted: &["all"], later: &[], never: &[] };

/// The ways to recognise a gateway, as messages list them.
const WAYS: &str = "unix, a network such as 10.0.4.0/28, spiffe://example.com/gateway, dns:gateway.example.com, \
                    token:env:NAME or token:file:path";

/// A gateway that may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// What it speaks.
    pub dialect: Dialect,
    /// How it is recognised: by any of these; never empty.
    pub by: Vec<Spanned<Peer>>,
    /// Where the caller's address is found.
    pub client_address: Option<Spanned<ClientAddress>>,
    /// Whether the caller's address is believed.
    pub believes_address: bool,
    /// Where it is believed to tell of the caller's certificate.
    pub believes_certificate: Option<CertificateFrom>,
    /// The headers that it sets itself.
    pub believes_headers: Vec<Text>,
    /// Whether it leaves headers out on purpose.
    pub filtered_headers: bool,
    /// How many header lines it lets through.
    pub max_headers: Option<u64>,
    /// How many bytes of them.
    pub max_header_bytes: Option<u64>,
}

/// How a gateway is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// It asks through a Unix socket of ours.
    Unix,
    /// It asks from an address of this network.
    Network(IpNet),
    /// Its certificate names this workload.
    Spiffe(SpiffeId),
    /// Its certificate names this host, in lower case.
    Dns(Box<str>),
    /// It sends a token, which is found here.
    Token(SecretPlace),
    /// All of these hold.
    All(Vec<Spanned<Self>>),
}

/// Where the caller's address is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// The gateway's own connection.
    Connection,
    /// `x-envoy-external-address`
    EnvoyExternalAddress,
    /// `x-forwarded-for`, so many hops from its right end; at least one.
    ForwardedFor(u8),
}

pub(super) fn gateway(reader: &mut Reader, name: &Text, node: &Node) -> Option<Gateway> {
    let fields = reader.fields(node, GATEWAY)?;
    if !fields.has("by") {
        let message = format!("the gateway `{}` needs `by`: how it is recognised", brief(&name.value));
        reader.report(Problem::error("missing_key", name.span, message).cure("by: unix, or by: 10.0.4.0/28"));
    }
    let dialect = match fields.get("dialect") {
        Some(node) => dialect(reader, node).unwrap_or(Dialect::Envoy),
        None => Dialect::Envoy,
    };
    let believed = fields.get("believes").map(|node| believed(reader, node)).unwrap_or_default();
    let client_address = fields.get("client_address").and_then(|node| client_address(reader, node));
    let filtered = fields.get("filtered_headers").and_then(|node| reader.flag(node, &fields.name("filtered_headers")));
    let mut number = |key, bounds| fields.get(key).and_then(|node| reader.number(node, &fields.name(key), bounds));
    let max_headers = number("max_headers", 1..=10_000);
    let max_header_bytes = number("max_header_bytes", 1_024..=8 * 1_024 * 1_024);
    let by = any_of(reader, fields.get("by")?);
    told_by(reader, dialect, (name, fields.get("believes")), &believed, client_address.as_ref());
    (!by.is_empty()).then(|| Gateway {
        dialect,
        by,
        client_address,
        believes_address: believed.address,
        believes_certificate: believed.certificate,
        believes_headers: believed.headers,
        filtered_headers: filtered.unwrap_or(false),
        max_headers,
        max_header_bytes,
    })
}

#[derive(Default)]
struct Believed {
    address: bool,
    certificate: Option<CertificateFrom>,
    headers: Vec<Text>,
}

fn believed(reader: &mut Reader, node: &Node) -> Believed {
    let mut believed = Believed::default();
    for text in reader.texts(node, "`believes` of a gateway") {
        match (&*text.value, text.value.strip_prefix("header:")) {
            ("client_address", _) => believed.address = true,
            (word @ ("certificate" | "xfcc"), _) => {
                let from = if word == "xfcc" { CertificateFrom::Xfcc } else { CertificateFrom::Connection };
                if believed.certificate.is_some_and(|other| other != from) {
                    let message =
                        "a gateway tells of the caller's certificate by `certificate` or by `xfcc`, not by both";
                    let problem = Problem::error("certificate_twice", text.span, message);
                    reader.report(problem.cure("certificate, where it sends it; xfcc, where it has only the header"));
                }
                believed.certificate = Some(from);
            }
            (_, Some(name)) => {
                let name = Spanned::new(name.into(), text.span);
                if lendable(reader, &name) {
                    believed.headers.push(name);
                }
            }
            (_, None) => {
                let words = ["client_address", "certificate", "xfcc", "header:X-Name"];
                reader.no_such_choice(&text, "`believes` of a gateway", &words);
            }
        }
    }
    believed
}

/// Whether a gateway may be believed to set this header itself: one that has a name of one spelling.
fn lendable(reader: &mut Reader, name: &Text) -> bool {
    if name.value.is_empty() || !name.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        let message = format!("`{}` is not the plain name of a header", brief(&name.value));
        let problem = Problem::error("bad_header_name", name.span, message);
        reader.report(problem.cure("letters, digits and `-` only: header:X-FG-User"));
        return false;
    }
    may_set(reader, name)
}

fn dialect(reader: &mut Reader, node: &Node) -> Option<Dialect> {
    let choices = Dialect::ALL.map(|dialect| (dialect.word(), dialect));
    reader.choice(node, "`dialect` of a gateway", &choices).map(|dialect| dialect.value)
}

/// Reports what a gateway is believed about, and cannot tell in what it speaks: it would be the caller who tells it.
fn told_by(
    reader: &mut Reader,
    dialect: Dialect,
    (name, believes): (&Text, Option<&Node>),
    believed: &Believed,
    address: Option<&Spanned<ClientAddress>>,
) {
    let span = believes.map_or(name.span, |node| node.span);
    let certificate = match (believed.certificate, dialect) {
        (None, _)
        | (Some(_), Dialect::Envoy)
        | (Some(CertificateFrom::Xfcc), Dialect::EnvoyHttp)
        | (Some(CertificateFrom::Connection), Dialect::Json) => None,
        (Some(from), _) => Some(from),
    };
    if let Some(from) = certificate {
        let word = if from == CertificateFrom::Xfcc { "xfcc" } else { "certificate" };
        let message = format!("a gateway that speaks `{}` does not tell of certificates by `{word}`", dialect.word());
        let cure = "remove it; Envoy by gRPC tells of them, and `json` by `source.certificate`";
        reader.report(Problem::error("dialect_cannot", span, message).cure(cure));
    }
    let from = address.map_or(ClientAddress::Connection, |address| address.value);
    let told = match (from, dialect) {
        (ClientAddress::Connection, Dialect::EnvoyHttp | Dialect::Traefik | Dialect::Caddy)
        | (
            ClientAddress::EnvoyExternalAddress,
            Dialect::Nginx | Dialect::Traefik | Dialect::Caddy | Dialect::Haproxy,
        ) => false,
        (ClientAddress::Connection | ClientAddress::EnvoyExternalAddress | ClientAddress::ForwardedFor(_), _) => true,
    };
    if believed.address && !told {
        let word = if from == ClientAddress::Connection { "connection" } else { "x-envoy-external-address" };
        let message = format!("a gateway that speaks `{}` does not tell the address by `{word}`", dialect.word());
        let span = address.map_or(span, |address| address.span);
        reader.report(Problem::error("dialect_cannot", span, message).cure("client_address: {from: xff, hops: 1}"));
    }
}

/// One condition, or a list of which any may hold.
pub(super) fn any_of(reader: &mut Reader, node: &Node) -> Vec<Spanned<Peer>> {
    if let Kind::List(items) = &node.kind {
        if items.is_empty() {
            reader.list(node, "`by` of a gateway");
        }
        items.iter().filter_map(|item| condition(reader, item)).collect()
    } else {
        condition(reader, node).into_iter().collect()
    }
}

/// A text, or `{all: […]}`.
fn condition(reader: &mut Reader, node: &Node) -> Option<Spanned<Peer>> {
    if !matches!(node.kind, Kind::Map(_)) {
        let text = reader.text(node, "`by` of a gateway")?;
        return peer(reader, &text).map(|peer| Spanned::new(peer, text.span));
    }
    let fields = reader.fields(node, BY)?;
    if matches!(&node.kind, Kind::Map(entries) if entries.is_empty()) {
        reader.missing(node.span, "a map under `by` needs `all`, what must hold together");
    }
    let items = reader.list(fields.get("all")?, &fields.name("all"))?;
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        let text = reader.text(item, &fields.name("all"))?;
        all.push(Spanned::new(peer(reader, &text)?, text.span));
    }
    (!all.is_empty()).then(|| Spanned::new(Peer::All(all), node.span))
}

fn peer(reader: &mut Reader, text: &Text) -> Option<Peer> {
    let word = &*text.value;
    if word == "unix" {
        return Some(Peer::Unix);
    }
    if let Some(place) = word.strip_prefix("token:") {
        return token(reader, text, place).map(Peer::Token);
    }
    if let Some(host) = word.strip_prefix("dns:") {
        return host_name(reader, text, host).map(Peer::Dns);
    }
    if word.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:")) {
        return spiffe_id(reader, text).map(Peer::Spiffe);
    }
    network(reader, text).map(Peer::Network)
}

/// Where a token is found; never the token itself.
fn token(reader: &mut Reader, text: &Text, place: &str) -> Option<SecretPlace> {
    if reader.is_filled(text.span) {
        return reader.secret_of(text, "the token of a gateway", "token:").map(SecretPlace::Given);
    }
    let found = SecretPlace::parse(place);
    if found.is_none() {
        let message = "`token:` says where the token is, never the token itself";
        reader.report(Problem::error("secret_in_file", text.span, message).cure("token:env:NAME or token:file:path"));
    }
    found
}

fn host_name(reader: &mut Reader, text: &Text, host: &str) -> Option<Box<str>> {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if host.len() > 253 || !host.split('.').all(label) {
        let message = format!("`{}` does not name one host", brief(host));
        reader.report(
            Problem::error("bad_host", text.span, message)
                .cure("a whole name, without a pattern: dns:edge.example.com"),
        );
        return None;
    }
    Some(host.to_ascii_lowercase().into())
}

/// Reads a SPIFFE ID.
pub(super) fn spiffe_id(reader: &mut Reader, text: &Text) -> Option<SpiffeId> {
    let id = SpiffeId::parse(text.value.as_bytes());
    if id.is_none() {
        let message = format!("`{}` is not a SPIFFE ID", brief(&text.value));
        let problem = Problem::error("bad_spiffe_id", text.span, message);
        reader.report(problem.cure(
            "spiffe://, a trust domain in lower case and a path of letters, digits, `.`, `-` and `_`: \
             spiffe://example.com/ns/shop/sa/cart",
        ));
    }
    id
}

fn network(reader: &mut Reader, text: &Text) -> Option<IpNet> {
    let network = text.value.parse::<IpNet>().ok();
    let Some(network) = network.or_else(|| text.value.parse::<IpAddr>().ok().map(IpNet::from)) else {
        let message = format!("`{}` is not a way to recognise a gateway", brief(&text.value));
        reader.report(Problem::error("unknown_value", text.span, message).cure(WAYS));
        return None;
    };
    if network != network.trunc() {
        let message = format!("`{}` has bits set behind its prefix", brief(&text.value));
        reader.report(Problem::error("bad_network", text.span, message).cure(network.trunc().to_string()));
        return None;
    }
    let network = canonical(network);
    if network.prefix_len() == 0 {
        let message = "everyone who reaches portcullis is believed to be this gateway";
        reader.report(Problem::warning("any_peer", text.span, message).cure("name the gateway's own network"));
    }
    Some(network)
}

fn client_address(reader: &mut Reader, node: &Node) -> Option<Spanned<ClientAddress>> {
    let fields = reader.fields(node, CLIENT_ADDRESS)?;
    let hops = fields.get("hops").and_then(|node| reader.number(node, &fields.name("hops"), 1..=16));
    let hops = hops.and_then(|hops| u8::try_from(hops).ok());
    if !fields.has("from") {
        reader.missing(node.span, "a client address needs `from`: connection, x-envoy-external-address or xff");
    }
    let choices = [
        ("connection", ClientAddress::Connection),
        ("x-envoy-external-address", ClientAddress::EnvoyExternalAddress),
        ("xff", ClientAddress::ForwardedFor(hops.unwrap_or(1))),
    ];
    let from = reader.choice(fields.get("from")?, &fields.name("from"), &choices)?;
    if let Some(span) = fields.key("hops").filter(|_| !matches!(from.value, ClientAddress::ForwardedFor(_))) {
        reader.report(Problem::error("unknown_key", span, "`hops` is counted in `xff` only").cure("remove it"));
    }
    Some(from)
}

#[cfg(test)]
mod tests {
    use crate::config::file::parse;

    fn found(gateway: &str) -> Vec<(u32, u32, &'static str)> {
        let text = format!("gateways:\n  edge: {{{gateway}}}\nroutes: {{/a: role:x}}\n");
        let (_, problems) = parse("portcullis.yaml", &text);
        problems.as_slice().iter().map(|problem| (problem.span.line, problem.span.column, problem.code)).collect()
    }

    #[test]
    fn a_gateway_is_recognised_by_socket_or_network() {
        for good in [
            "by: unix",
            "by: 10.0.4.0/28",
            "by: [unix, '2001:db8::/32', 192.0.2.7]",
            "by: spiffe://example.com/ns/edge/sa/envoy",
            "by: [dns:Edge.example.com, token:env:EDGE_TOKEN, 'token:file:edge.token']",
            "by: {all: [10.0.0.0/8, spiffe://example.com/envoy]}",
            "by: [unix, {all: [10.0.0.0/8, token:env:EDGE_TOKEN]}]",
            "by: unix, max_headers: 400, max_header_bytes: 98304",
        ] {
            assert_eq!(found(good), [], "{good}");
        }
        for (bad, column, code) in [
            ("dialect: envoy", 3, "missing_key"),
            ("by: 10.0.4.1/28", 14, "bad_network"),
            ("by: 10.0.4.0/33", 14, "unknown_value"),
            ("by: localhost", 14, "unknown_value"),
            ("by: []", 14, "missing_value"),
            ("by: 0.0.0.0/0", 14, "any_peer"),
            ("by: spiffe://Example.com/envoy", 14, "bad_spiffe_id"),
            ("by: spiffe://example.com/envoy/*", 14, "bad_spiffe_id"),
            ("by: 'dns:*.example.com'", 14, "bad_host"),
            ("by: 'dns:'", 14, "bad_host"),
            ("by: token:0123456789abcdef0123456789abcdef", 14, "secret_in_file"),
            ("by: 'token:file:'", 14, "secret_in_file"),
            ("by: token:env:A-B", 14, "secret_in_file"),
            ("by: {all: []}", 20, "missing_value"),
            ("by: {any: [unix]}", 15, "unknown_key"),
            ("by: {}", 14, "missing_key"),
            ("by: {all: [unix, {all: [unix]}]}", 27, "wrong_shape"),
            ("by: {all: [unix, localhost]}", 27, "unknown_value"),
            ("by: '::ffff:0.0.0.0/96'", 14, "any_peer"),
            ("by: unix, max_headers: 0", 33, "out_of_range"),
            ("by: unix, max_header_bytes: 9000000", 38, "out_of_range"),
            ("by: unix, dialect: forward-auth", 29, "unknown_value"),
            ("by: unix, dialect: envoi", 29, "unknown_value"),
            ("by: unix, certificate: true", 20, "refused_key"),
            ("by: unix, token: x", 20, "refused_key"),
        ] {
            assert_eq!(found(bad), [(2, column, code)], "{bad}");
        }
    }

    #[test] // F03, F04
    fn a_gateway_is_believed_only_about_what_it_can_tell() {
        let told = |dialect: &str, rest: &str| {
            let problems = found(&format!("by: unix, dialect: {dialect}, {rest}"));
            problems.iter().map(|(_, _, code)| *code).collect::<Vec<_>>()
        };
        let address = |from: &str| format!("believes: [client_address], client_address: {{from: {from}}}");
        let (connection, envoy, xff) = (address("connection"), address("x-envoy-external-address"), address("xff"));
        let (certificate, xfcc) = ("believes: [certificate]".to_owned(), "believes: [xfcc]".to_owned());
        for (dialect, good, bad) in [
            ("envoy", vec![&connection, &envoy, &xff, &certificate, &xfcc], vec![]),
            ("envoy-http", vec![&envoy, &xff, &xfcc], vec![&connection, &certificate]),
            ("nginx", vec![&connection, &xff], vec![&envoy, &certificate, &xfcc]),
            ("traefik", vec![&xff], vec![&connection, &envoy, &certificate, &xfcc]),
            ("caddy", vec![&xff], vec![&connection, &envoy, &certificate, &xfcc]),
            ("haproxy", vec![&connection, &xff], vec![&envoy, &certificate, &xfcc]),
            ("json", vec![&connection, &envoy, &xff, &certificate], vec![&xfcc]),
        ] {
            good.iter().for_each(|rest| assert_eq!(told(dialect, rest), [""; 0], "{dialect}, {rest}"));
            bad.iter().for_each(|rest| assert_eq!(told(dialect, rest), ["dialect_cannot"], "{dialect}, {rest}"));
        }
        assert_eq!(told("caddy", "believes: [client_address]"), ["dialect_cannot"], "`connection` is the default");
    }

    #[test]
    fn what_is_believed_of_a_gateway_is_named() {
        assert_eq!(found("by: unix, believes: [certificate, client_address, 'header:X-FG-User']"), []);
        assert_eq!(found("by: unix, believes: [xfcc, client_address]"), []);
        assert_eq!(found("by: unix, believes: [certificate, xfcc]"), [(2, 44, "certificate_twice")]);
        for (bad, code) in [
            ("address", "unknown_value"),
            ("'header:'", "bad_header_name"),
            ("'header:X_FG'", "bad_header_name"),
            ("header:Host", "header_refused"),
            ("header:X-Forwarded-For", "header_refused"),
        ] {
            assert_eq!(found(&format!("by: unix, believes: [{bad}]")), [(2, 31, code)], "{bad}");
        }
        let address = |map: &str| found(&format!("by: unix, client_address: {{{map}}}"));
        for good in ["from: connection", "from: x-envoy-external-address", "from: xff", "from: xff, hops: 3"] {
            assert_eq!(address(good), [], "{good}");
        }
        assert_eq!(address("hops: 1"), [(2, 36, "missing_key")]);
        assert_eq!(address("from: xff, hops: 0"), [(2, 54, "out_of_range")]);
        assert_eq!(address("from: connection, hops: 1"), [(2, 55, "unknown_key")]);
        assert_eq!(address("from: XFF"), [(2, 43, "unknown_value")]);
    }
}
