//! `gateways:` who may ask, and what is believed of what they say.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::error::{Problem, Spanned, Text};
use crate::config::shape::{Reader, Section, brief};
use crate::config::tree::Node;

pub(super) const GATEWAY: Section = Section {
    name: "a gateway",
    accepted: &["by", "dialect", "client_address", "believes", "filtered_headers"],
    later: &["certificate", "token"],
    never: &[],
};
pub(super) const CLIENT_ADDRESS: Section =
    Section { name: "a client address", accepted: &["from", "hops"], later: &[], never: &[] };

/// A gateway that may ask. Its dialect is Envoy's, the one there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// How it is recognised: by any of these; never empty.
    pub by: Vec<Spanned<Peer>>,
    /// Where the caller's address is found.
    pub client_address: Option<Spanned<ClientAddress>>,
    /// Whether the caller's address is believed.
    pub believes_address: bool,
    /// Whether it leaves headers out on purpose.
    pub filtered_headers: bool,
}

/// How a gateway is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// It asks through a Unix socket of ours.
    Unix,
    /// It asks from an address of this network.
    Network(IpNet),
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
    if let Some(node) = fields.get("dialect") {
        dialect(reader, node);
    }
    let mut believes_address = false;
    if let Some(node) = fields.get("believes") {
        for text in reader.texts(node, "`believes` of a gateway") {
            match text.value.split(':').next().unwrap_or_default() {
                "client_address" => believes_address = true,
                "certificate" | "header" => not_there_yet(reader, &text, "`client_address`"),
                _ => reader.no_such_choice(&text, "`believes` of a gateway", &["client_address"]),
            }
        }
    }
    let client_address = fields.get("client_address").and_then(|node| client_address(reader, node));
    let filtered = fields.get("filtered_headers").and_then(|node| reader.flag(node, &fields.name("filtered_headers")));
    let by = peers(reader, fields.get("by")?);
    (!by.is_empty()).then(|| Gateway {
        by,
        client_address,
        believes_address,
        filtered_headers: filtered.unwrap_or(false),
    })
}

fn dialect(reader: &mut Reader, node: &Node) {
    let Some(text) = reader.text(node, "`dialect` of a gateway") else { return };
    match &*text.value {
        "envoy" => {}
        "forward-auth" | "forward_auth" | "traefik" | "nginx" | "caddy" | "haproxy" | "authzen" | "apisix" => {
            not_there_yet(reader, &text, "`envoy`");
        }
        _ => reader.no_such_choice(&text, "`dialect` of a gateway", &["envoy"]),
    }
}

fn peers(reader: &mut Reader, node: &Node) -> Vec<Spanned<Peer>> {
    let mut peers = Vec::new();
    for text in reader.texts(node, "`by` of a gateway") {
        let network = text.value.parse::<IpNet>().ok();
        let network = network.or_else(|| text.value.parse::<IpAddr>().ok().map(IpNet::from));
        match network {
            Some(network) if network != network.trunc() => {
                let message = format!("`{}` has bits set behind its prefix", brief(&text.value));
                reader.report(Problem::error("bad_network", text.span, message).cure(network.trunc().to_string()));
            }
            Some(network) => {
                if network.prefix_len() == 0 {
                    let message = "everyone who reaches portcullis is believed to be this gateway";
                    reader.report(
                        Problem::warning("any_peer", text.span, message).cure("name the gateway's own network"),
                    );
                }
                peers.push(Spanned::new(Peer::Network(network), text.span));
            }
            None if &*text.value == "unix" => peers.push(Spanned::new(Peer::Unix, text.span)),
            None if text.value.starts_with("spiffe://") || text.value.starts_with("token:") => {
                not_there_yet(reader, &text, "`unix` and networks such as `10.0.4.0/28`");
            }
            None => {
                let message = format!("`{}` is not a way to recognise a gateway", brief(&text.value));
                reader.report(
                    Problem::error("unknown_value", text.span, message).cure("unix, or a network: 10.0.4.0/28"),
                );
            }
        }
    }
    peers
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

fn not_there_yet(reader: &mut Reader, text: &Text, there: &str) {
    let message = format!("`{}` is not there yet in this version", brief(&text.value));
    reader.report(Problem::error("not_there_yet", text.span, message).cure(format!("what is there: {there}")));
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
        for good in ["by: unix", "by: 10.0.4.0/28", "by: [unix, '2001:db8::/32', 192.0.2.7]"] {
            assert_eq!(found(good), [], "{good}");
        }
        for (bad, column, code) in [
            ("dialect: envoy", 3, "missing_key"),
            ("by: 10.0.4.1/28", 14, "bad_network"),
            ("by: 10.0.4.0/33", 14, "unknown_value"),
            ("by: localhost", 14, "unknown_value"),
            ("by: []", 14, "missing_value"),
            ("by: 0.0.0.0/0", 14, "any_peer"),
            ("by: spiffe://example.com/envoy", 14, "not_there_yet"),
            ("by: 'token:x'", 14, "not_there_yet"),
            ("by: unix, dialect: forward-auth", 29, "not_there_yet"),
            ("by: unix, dialect: envoi", 29, "unknown_value"),
            ("by: unix, certificate: true", 20, "not_there_yet"),
        ] {
            assert_eq!(found(bad), [(2, column, code)], "{bad}");
        }
    }

    #[test]
    fn what_is_believed_of_a_gateway_is_named() {
        assert_eq!(found("by: unix, believes: [certificate]"), [(2, 31, "not_there_yet")]);
        assert_eq!(found("by: unix, believes: [address]"), [(2, 31, "unknown_value")]);
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
