//! Who may ask, and what is believed of them: the policy's `gateways:`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use ipnet::{IpNet, Ipv4Net};

use super::certificate::{Holder, SpiffeId};
use super::request::{Asker, Proof, Request};

/// The table of gateways. From a peer without an entry only the HTTP request itself is read.
#[derive(Clone, Debug, Default)]
pub struct Gateways(Box<[Gateway]>);

/// What a gateway speaks when it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Envoy's ext_authz by gRPC.
    Envoy,
    /// Envoy's ext_authz by HTTP: `http_service`.
    EnvoyHttp,
    /// nginx's `auth_request`.
    Nginx,
    /// Traefik's ForwardAuth.
    Traefik,
    /// Caddy's `forward_auth`.
    Caddy,
    /// HAProxy, by the Lua action of ours.
    Haproxy,
    /// Our own JSON.
    Json,
}

impl Dialect {
    /// Every dialect there is.
    pub const ALL: [Self; 7] =
        [Self::Envoy, Self::EnvoyHttp, Self::Nginx, Self::Traefik, Self::Caddy, Self::Haproxy, Self::Json];

    /// The word for it, as the policy writes it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Envoy => "envoy",
            Self::EnvoyHttp => "envoy-http",
            Self::Nginx => "nginx",
            Self::Traefik => "traefik",
            Self::Caddy => "caddy",
            Self::Haproxy => "haproxy",
            Self::Json => "json",
        }
    }

    /// Whether the question is told in headers of HTTP, which anybody can send: it is read from gateways only that have
    /// an entry for this dialect.
    #[must_use]
    pub const fn told_in_headers(self) -> bool {
        !matches!(self, Self::Envoy | Self::Json)
    }

    /// Whether the gateway can remove any header by its name. Others only write over those that their snippet lists.
    #[must_use]
    pub const fn can_remove(self) -> bool {
        !matches!(self, Self::Nginx | Self::Traefik | Self::Caddy)
    }

    /// Whether the gateway can change the query of the request.
    #[must_use]
    pub const fn can_edit_query(self) -> bool {
        !self.told_in_headers()
    }

    /// Whether the gateway hands headers of an allow on to the caller.
    #[must_use]
    pub const fn can_respond(self) -> bool {
        !matches!(self, Self::Traefik)
    }

    /// Whether the gateway itself can be told something beside the headers.
    #[must_use]
    pub const fn can_hear(self) -> bool {
        !self.told_in_headers()
    }

    /// Whether the gateway cannot leave out any header of the request.
    pub(super) const fn sends_all(self) -> bool {
        !matches!(self, Self::Envoy | Self::EnvoyHttp)
    }
}

/// One gateway, or a group of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its name in the policy.
    pub name: Arc<str>,
    /// What it speaks: the entry counts for such questions only.
    pub dialect: Dialect,
    /// How its connections are known: by any of these.
    pub by: Box<[By]>,
    /// Where the caller's address is found; `None` where this gateway is not believed about it.
    pub client_address: Option<ClientAddress>,
    /// Where the caller's certificate is told; `None` where this gateway is not believed about it.
    pub certificate: Option<CertificateFrom>,
    /// Headers that it sets itself, in lower case: they pass as they come from it, and from nobody else.
    pub headers: Box<[Bytes]>,
    /// Whether it sends only some of a request's headers, and removes the managed ones itself.
    pub filtered_headers: bool,
    /// How large a request it lets through.
    pub limits: Limits,
}

/// How a gateway's connection is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// It came over our unix socket.
    Unix,
    /// Its address lies in this network.
    Network(IpNet),
    /// Its own certificate names this workload.
    Spiffe(SpiffeId),
    /// Its own certificate names this host, in lower case.
    Dns(Box<str>),
    /// It sends this token with its call.
    Token(Token),
    /// All of these.
    All(Box<[Self]>),
}

/// A secret that a gateway shows. No log and no `Debug` shows it.
#[derive(Clone)]
pub struct Token(Box<[u8]>);

impl Token {
    /// The shortest token, in bytes.
    pub const MIN: usize = 32;

    /// A token of these bytes; `None` where they are too few, or a header cannot carry them.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let fits = bytes.len() >= Self::MIN && bytes.iter().all(u8::is_ascii_graphic);
        fits.then(|| Self(bytes.into()))
    }

    /// The bytes, for who asks as this gateway would.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for Token {
    /// Takes as long whether or not the bytes are the same.
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// How many header lines, and how many bytes of them, a gateway lets through. Envoy holds the caller's lines against
/// them, and once more, after our answer, all lines: then it answers 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Envoy's `max_headers_count`.
    pub lines: usize,
    /// Envoy's `max_request_headers_kb`, in bytes.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lines: 100, bytes: 60 * 1024 }
    }
}

/// Where a gateway says what address a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// The peer of the gateway's own downstream connection (`attributes.source`).
    Connection,
    /// `x-envoy-external-address`, which Envoy sets where `use_remote_address` is on.
    ExternalAddress,
    /// The address so many places from the right of `x-forwarded-for`, counted from 1.
    Forwarded {
        /// How many places.
        hops: u8,
    },
}

/// Where a gateway tells of the caller's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFrom {
    /// `attributes.source`: the peer of the gateway's own downstream connection.
    Connection,
    /// `x-forwarded-client-cert`, whose last element the gateway sets itself.
    Xfcc,
}

impl Gateways {
    /// The table in the policy's order.
    #[must_use]
    pub fn new(gateways: Vec<Gateway>) -> Self {
        Self(gateways.into())
    }

    /// The entries, in the policy's order.
    pub fn iter(&self) -> impl Iterator<Item = &Gateway> {
        self.0.iter()
    }

    /// The first entry for the dialect of the question that knows who asks.
    #[must_use]
    pub fn of(&self, request: &Request<'_>) -> Option<&Gateway> {
        self.known(request.dialect, request.asker, &request.proof)
    }

    /// The same before the question is read.
    pub(super) fn known(&self, dialect: Dialect, asker: Asker, proof: &Proof<'_>) -> Option<&Gateway> {
        let knows = |gateway: &&Gateway| gateway.by.iter().any(|by| by.knows(dialect, asker, proof));
        self.0.iter().filter(|gateway| gateway.dialect == dialect).find(knows)
    }
}

impl Gateway {
    /// The address that a request came from, as far as this gateway is believed about it.
    #[must_use]
    pub fn client_address(&self, request: &Request<'_>) -> Option<IpAddr> {
        match self.client_address? {
            ClientAddress::Connection => request.source.map(|address| address.to_canonical()),
            ClientAddress::ExternalAddress => parse(request.seen.external_address?),
            ClientAddress::Forwarded { hops } => {
                let lines = request.headers.iter().rev().filter(|line| line.name == b"x-forwarded-for");
                let mut addresses = lines.flat_map(|line| line.value.rsplit(|byte| *byte == b','));
                parse(addresses.nth(usize::from(hops).checked_sub(1)?)?)
            }
        }
    }
}

impl By {
    /// Whether it is who asks.
    pub(super) fn knows(&self, dialect: Dialect, asker: Asker, proof: &Proof<'_>) -> bool {
        match (self, asker) {
            (Self::Unix, Asker::Unix) => true,
            (Self::Network(network), Asker::Tcp(address)) => network.contains(&address.to_canonical()),
            (Self::Unix, Asker::Tcp(_)) | (Self::Network(_), Asker::Unix) => false,
            (Self::Spiffe(id), _) => matches!(proof.holder, Some(Holder::Spiffe(holder)) if holder == id),
            (Self::Dns(name), _) => matches!(proof.holder, Some(Holder::Dns(names)) if names.contains(name)),
            (Self::Token(token), _) => {
                proof.token(dialect).is_some_and(|shown| verify_slices_are_equal(&token.0, shown).is_ok())
            }
            (Self::All(all), _) => !all.is_empty() && all.iter().all(|by| by.knows(dialect, asker, proof)),
        }
    }
}

/// A network of IPv4 addresses written as IPv6 ones (`::ffff:10.0.0.0/104`) as IPv4: addresses are compared so.
#[must_use]
pub fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(six) = network else { return network };
    let four = six.addr().to_ipv4_mapped().zip(six.prefix_len().checked_sub(96));
    four.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(network, IpNet::V4)
}

fn parse(address: &[u8]) -> Option<IpAddr> {
    let address: IpAddr = std::str::from_utf8(address.trim_ascii()).ok()?.parse().ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::authz::request::{Header, Raw, Relaxed};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn gateway(name: &str, by: By) -> Gateway {
        Gateway {
            name: name.into(),
            dialect: Dialect::Envoy,
            by: Box::new([by]),
            client_address: None,
            certificate: None,
            headers: Box::default(),
            filtered_headers: false,
            limits: Limits::default(),
        }
    }

    fn network(text: &str) -> By {
        By::Network(canonical(text.parse().unwrap()))
    }

    fn tcp(text: &str) -> Asker {
        Asker::Tcp(text.parse().unwrap())
    }

    fn ask<T>(asker: Asker, proof: Proof<'_>, headers: &[(&str, &str)], then: impl FnOnce(&Request<'_>) -> T) -> T {
        let headers = headers.iter().map(|(n, v)| Header { name: n.as_bytes(), value: v.as_bytes() }).collect();
        let source = Some("192.0.2.9".parse().unwrap());
        let raw = Raw { proof, source, ..Raw::new(Dialect::Envoy, asker, [b"GET", b"/", b"h"], headers) };
        then(&Request::read(&raw, Relaxed::default()).unwrap())
    }

    fn address(from: ClientAddress, asker: Asker, headers: &[(&str, &str)]) -> Option<String> {
        let gateways = Gateways::new(vec![
            gateway("quiet", network("10.1.0.0/16")),
            Gateway { client_address: Some(from), ..gateway("edge", network("10.0.0.0/8")) },
        ]);
        ask(asker, Proof::default(), headers, |request| gateways.of(request)?.client_address(request))
            .map(|address| address.to_string())
    }

    fn knows(by: By, asker: Asker, proof: Proof<'_>) -> bool {
        let gateways = Gateways::new(vec![gateway("edge", by)]);
        ask(asker, proof, &[], |request| gateways.of(request).is_some())
    }

    fn metadata(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut metadata = HeaderMap::new();
        for (name, value) in lines {
            metadata.append(*name, value.parse().unwrap());
        }
        metadata
    }

    #[test]
    fn an_address_is_taken_only_from_a_believed_gateway() {
        let ask = |asker: &str| address(ClientAddress::Connection, tcp(asker), &[]);
        assert_eq!(ask("10.9.9.9").as_deref(), Some("192.0.2.9"));
        assert_eq!(ask("::ffff:10.9.9.9").as_deref(), Some("192.0.2.9"));
        assert_eq!(ask("10.1.0.1"), None, "the first entry counts");
        assert_eq!(ask("192.168.0.1"), None);
        assert_eq!(address(ClientAddress::Connection, Asker::Unix, &[]), None);
    }

    #[test] // F03
    fn forwarded_addresses_are_counted_from_the_right() {
        let xff =
            [("x-forwarded-for", "203.0.113.66, 198.51.100.7,10.0.0.3"), ("x-envoy-external-address", "198.51.100.8")];
        let ask = |from| address(from, tcp("10.9.9.9"), &xff);
        assert_eq!(ask(ClientAddress::Forwarded { hops: 1 }).as_deref(), Some("10.0.0.3"));
        assert_eq!(ask(ClientAddress::Forwarded { hops: 2 }).as_deref(), Some("198.51.100.7"));
        assert_eq!(ask(ClientAddress::Forwarded { hops: 4 }), None);
        assert_eq!(ask(ClientAddress::ExternalAddress).as_deref(), Some("198.51.100.8"));
    }

    #[test] // F03
    fn several_lines_of_forwarded_addresses_are_one_list() {
        let lines = [("x-forwarded-for", "203.0.113.66, 198.51.100.7"), ("x-forwarded-for", "10.0.0.4, 10.0.0.3")];
        let ask = |hops| address(ClientAddress::Forwarded { hops }, tcp("10.9.9.9"), &lines);
        let found: Vec<_> = (0..=5).map(ask).collect();
        let expected = [None, Some("10.0.0.3"), Some("10.0.0.4"), Some("198.51.100.7"), Some("203.0.113.66"), None];
        assert_eq!(found, expected.map(|address| address.map(ToOwned::to_owned)));
    }

    #[test] // F03
    fn a_hop_that_is_not_a_bare_address_is_unknown() {
        let ask = |hop: &str| {
            address(
                ClientAddress::Forwarded { hops: 1 },
                tcp("10.9.9.9"),
                &[("x-forwarded-for", &format!("10.0.0.1,{hop}"))],
            )
        };
        assert_eq!(ask(" 2001:db8::1\t").as_deref(), Some("2001:db8::1"));
        assert_eq!(ask("::ffff:192.0.2.1").as_deref(), Some("192.0.2.1"));
        for hop in [
            "",
            " ",
            "[2001:db8::1]",
            "[2001:db8::1]:443",
            "192.0.2.1:80",
            "unknown",
            "_hidden",
            "192.0.2.01",
            "fe80::1%eth0",
        ] {
            assert_eq!(ask(hop), None, "{hop:?}");
        }
    }

    #[test]
    fn a_network_written_in_mapped_addresses_is_one_of_ipv4() {
        for (written, canon) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.7/128", "192.0.2.7/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(canonical(written.parse().unwrap()), canon.parse::<IpNet>().unwrap(), "{written}");
        }
        assert!(knows(network("::ffff:10.0.0.0/104"), tcp("10.9.9.9"), Proof::default()));
        assert!(knows(network("::ffff:10.0.0.0/104"), tcp("::ffff:10.9.9.9"), Proof::default()));
        assert!(!knows(network("::ffff:10.0.0.0/104"), tcp("11.9.9.9"), Proof::default()));
    }

    #[test] // F05
    fn a_certificate_is_known_by_exactly_the_name_that_is_written() {
        let spiffe = |id: &str| SpiffeId::parse(id.as_bytes()).unwrap();
        let holder = Holder::Spiffe(spiffe("spiffe://td/ns/ab"));
        let shown = |holder| Proof { holder: Some(holder), metadata: None };
        assert!(knows(By::Spiffe(spiffe("spiffe://td/ns/ab")), Asker::Unix, shown(&holder)));
        for other in ["spiffe://td/ns/a", "spiffe://td/ns/ab/c", "spiffe://td.evil/ns/ab", "spiffe://td/NS/ab"] {
            assert!(!knows(By::Spiffe(spiffe(other)), Asker::Unix, shown(&holder)), "{other}");
        }
        assert!(!knows(By::Dns("td".into()), Asker::Unix, shown(&holder)));
        assert!(!knows(By::Spiffe(spiffe("spiffe://td/ns/ab")), Asker::Unix, Proof::default()));
        let hosts = Holder::Dns(Box::new(["edge.test".into(), "*.wild.test".into()]));
        assert!(knows(By::Dns("edge.test".into()), tcp("192.0.2.1"), shown(&hosts)));
        for other in ["edge.test.evil", "a.wild.test", "dge.test"] {
            assert!(!knows(By::Dns(other.into()), Asker::Unix, shown(&hosts)), "{other}");
        }
    }

    #[test] // A01
    fn a_token_is_known_only_whole_and_alone() {
        let by = || By::Token(Token::new(SECRET.as_bytes()).unwrap());
        let shown = |lines: &[(&'static str, &str)]| {
            let metadata = metadata(lines);
            knows(by(), tcp("192.0.2.1"), Proof { holder: None, metadata: Some(&metadata) })
        };
        let bearer = format!("Bearer {SECRET}");
        assert!(shown(&[("x-portcullis-token", SECRET)]));
        assert!(shown(&[("authorization", &bearer)]));
        assert!(shown(&[("authorization", "Basic dTpw"), ("x-portcullis-token", SECRET)]));
        let (short, long) = (SECRET.split_at(31).0, format!("{SECRET}0"));
        for lines in [
            &[][..],
            &[("x-portcullis-token", short)],
            &[("x-portcullis-token", &*long)],
            &[("x-portcullis-token", "")],
            &[("x-portcullis-token", &*bearer)],
            &[("authorization", SECRET)],
            &[("x-portcullis-token", SECRET), ("x-portcullis-token", SECRET)],
            &[("x-portcullis-token", SECRET), ("authorization", "Bearer x")],
        ] {
            assert!(!shown(lines), "{lines:?}");
        }
    }

    #[test] // S01
    fn a_token_is_shown_nowhere() {
        let metadata = metadata(&[("x-portcullis-token", SECRET)]);
        let by = By::Token(Token::new(SECRET.as_bytes()).unwrap());
        let proof = Proof { holder: None, metadata: Some(&metadata) };
        assert!(!format!("{by:?}{proof:?}").contains("0123"));
        assert!(Token::new(&SECRET.as_bytes()[1..]).is_none());
        assert!(Token::new(format!("{SECRET} ").as_bytes()).is_none());
    }

    #[test] // F01
    fn an_entry_counts_for_its_own_dialect_only() {
        for entry in Dialect::ALL {
            let gateways = Gateways::new(vec![Gateway { dialect: entry, ..gateway("edge", By::Unix) }]);
            for asked in Dialect::ALL {
                let known = gateways.known(asked, Asker::Unix, &Proof::default()).is_some();
                assert_eq!(known, asked == entry, "{asked:?} asked of an entry for {entry:?}");
            }
        }
    }

    #[test] // F01
    fn a_callers_own_bearer_token_stands_beside_that_of_the_gateway() {
        let by = By::Token(Token::new(SECRET.as_bytes()).unwrap());
        let bearer = format!("Bearer {SECRET}");
        let shown = |dialect, lines: &[(&'static str, &str)]| {
            let metadata = metadata(lines);
            by.knows(dialect, Asker::Unix, &Proof { holder: None, metadata: Some(&metadata) })
        };
        let both = [("x-portcullis-token", SECRET), ("authorization", "Bearer of.the.caller")];
        for dialect in Dialect::ALL {
            assert_eq!(shown(dialect, &both), dialect.told_in_headers(), "{dialect:?}");
            assert_eq!(shown(dialect, &[("authorization", &bearer)]), !dialect.told_in_headers(), "{dialect:?}");
        }
    }

    #[test]
    fn all_of_several_conditions_hold_together_or_not_at_all() {
        let both = By::All(Box::new([network("10.0.0.0/8"), By::Token(Token::new(SECRET.as_bytes()).unwrap())]));
        let metadata = metadata(&[("x-portcullis-token", SECRET)]);
        let proof = Proof { holder: None, metadata: Some(&metadata) };
        assert!(knows(both.clone(), tcp("10.1.1.1"), proof));
        assert!(!knows(both.clone(), tcp("11.1.1.1"), proof));
        assert!(!knows(both, tcp("10.1.1.1"), Proof::default()));
        assert!(!knows(By::All(Box::default()), tcp("10.1.1.1"), proof));
    }
}
