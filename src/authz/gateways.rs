//! Who may ask, and what is believed of them: the policy's `gateways:`.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::request::{Asker, Request};

/// The table of gateways. From a peer without an entry only the HTTP request itself is read.
#[derive(Clone, Debug, Default)]
pub struct Gateways(Box<[Gateway]>);

/// One gateway, or a group of them.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Its name in the policy.
    pub name: Arc<str>,
    /// How its connections are known.
    pub by: Box<[By]>,
    /// Where the caller's address is found; `None` where this gateway is not believed about it.
    pub client_address: Option<ClientAddress>,
    /// Whether it sends only some of a request's headers, and removes the managed ones itself.
    pub filtered_headers: bool,
}

/// How a gateway's connection is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// It came over our unix socket.
    Unix,
    /// Its address lies in this network.
    Network(IpNet),
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

    /// The first entry that knows this peer.
    #[must_use]
    pub fn of(&self, asker: Asker) -> Option<&Gateway> {
        self.0.iter().find(|gateway| gateway.by.iter().any(|by| by.knows(asker)))
    }

    /// The address that a request came from, as far as who asks is believed.
    #[must_use]
    pub fn client_address(&self, request: &Request<'_>) -> Option<IpAddr> {
        match self.of(request.asker)?.client_address? {
            ClientAddress::Connection => request.source.map(|address| address.to_canonical()),
            ClientAddress::ExternalAddress => parse(request.seen.external_address?),
            ClientAddress::Forwarded { hops } => {
                let place = usize::from(hops).checked_sub(1)?;
                parse(request.seen.forwarded_for?.rsplit(|byte| *byte == b',').nth(place)?)
            }
        }
    }
}

impl By {
    fn knows(self, asker: Asker) -> bool {
        match (self, asker) {
            (Self::Unix, Asker::Unix) => true,
            (Self::Network(network), Asker::Tcp(address)) => network.contains(&address.to_canonical()),
            (Self::Unix, Asker::Tcp(_)) | (Self::Network(_), Asker::Unix) => false,
        }
    }
}

fn parse(address: &[u8]) -> Option<IpAddr> {
    let address: IpAddr = std::str::from_utf8(address.trim_ascii()).ok()?.parse().ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::request::{Header, Raw, Relaxed};

    fn address(from: ClientAddress, asker: Asker, headers: &[(&str, &str)]) -> Option<String> {
        let gateway = |name: &str, by, client_address| Gateway {
            name: name.into(),
            by: Box::new([by]),
            client_address,
            filtered_headers: false,
        };
        let gateways = Gateways::new(vec![
            gateway("quiet", By::Network("10.1.0.0/16".parse().unwrap()), None),
            gateway("edge", By::Network("10.0.0.0/8".parse().unwrap()), Some(from)),
        ]);
        let headers = headers.iter().map(|(n, v)| Header { name: n.as_bytes(), value: v.as_bytes() }).collect();
        let source = Some("192.0.2.9".parse().unwrap());
        let raw = Raw { asker, source, method: b"GET", target: b"/", host: b"h", headers };
        gateways.client_address(&Request::read(&raw, Relaxed::default()).unwrap()).map(|address| address.to_string())
    }

    #[test]
    fn an_address_is_taken_only_from_a_believed_gateway() {
        let ask = |asker: &str| address(ClientAddress::Connection, Asker::Tcp(asker.parse().unwrap()), &[]);
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
        let ask = |from| address(from, Asker::Tcp("10.9.9.9".parse().unwrap()), &xff);
        assert_eq!(ask(ClientAddress::Forwarded { hops: 1 }).as_deref(), Some("10.0.0.3"));
        assert_eq!(ask(ClientAddress::Forwarded { hops: 2 }).as_deref(), Some("198.51.100.7"));
        assert_eq!(ask(ClientAddress::Forwarded { hops: 4 }), None);
        assert_eq!(ask(ClientAddress::ExternalAddress).as_deref(), Some("198.51.100.8"));
    }
}
