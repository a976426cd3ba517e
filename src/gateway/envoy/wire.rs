//! Reads the parts of a `CheckRequest` that decisions use, in one pass and without copying: slices of the message.
//!
//! What prost reads, this reads the same (a property test holds it to that, over `proto/`); what no decision uses is
//! skipped unread. Groups, which proto3 has not, are refused.

use std::net::IpAddr;

use crate::authz::request::Header;

/// The message is not a `CheckRequest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// What a `CheckRequest` says that decisions use.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Check<'m> {
    /// Whether there are attributes at all.
    pub attributes: bool,
    /// Whether they describe an HTTP request.
    pub http: bool,
    /// `attributes.source.address.socket_address.address`, where that parses.
    pub source: Option<IpAddr>,
    /// `attributes.source.principal`
    pub principal: &'m [u8],
    /// `attributes.source.certificate`
    pub certificate: &'m [u8],
    /// `attributes.request.http.method`
    pub method: &'m [u8],
    /// `attributes.request.http.path`
    pub path: &'m [u8],
    /// `attributes.request.http.host`
    pub host: &'m [u8],
    /// `attributes.request.http.headers`, then `header_map`. Envoy fills one of them only; where both are there, neither
    /// hides what the other says.
    pub headers: Vec<Header<'m>>,
    raw: Vec<Header<'m>>,
}

/// Reads a message. Fields that repeat merge as protobuf says: the last scalar counts, lists grow.
pub fn read(message: &[u8]) -> Result<Check<'_>, Unreadable> {
    let mut check = Check { headers: Vec::with_capacity(32), ..Check::default() };
    each(message, |number, value| match number {
        1 => {
            check.attributes = true;
            check.attributes(value.bytes()?)
        }
        _ => Ok(()),
    })?;
    check.headers.append(&mut check.raw);
    Ok(check)
}

impl<'m> Check<'m> {
    fn attributes(&mut self, message: &'m [u8]) -> Result<(), Unreadable> {
        each(message, |number, value| match number {
            1 => each(value.bytes()?, |number, value| match number {
                1 => self.address(value.bytes()?),
                4 => value.bytes().map(|principal| self.principal = principal),
                5 => value.bytes().map(|certificate| self.certificate = certificate),
                _ => Ok(()),
            }),
            4 => each(value.bytes()?, |number, value| match number {
                2 => {
                    self.http = true;
                    self.request(value.bytes()?)
                }
                _ => Ok(()),
            }),
            _ => Ok(()),
        })
    }

    fn address(&mut self, message: &'m [u8]) -> Result<(), Unreadable> {
        each(message, |number, value| match number {
            1 => each(value.bytes()?, |number, value| {
                if number == 2 {
                    self.source = std::str::from_utf8(value.bytes()?).ok().and_then(|text| text.parse().ok());
                }
                Ok(())
            }),
            // A pipe or an internal address takes the place of what stood before.
            2 | 3 => {
                self.source = None;
                value.bytes().map(drop)
            }
            _ => Ok(()),
        })
    }

    fn request(&mut self, message: &'m [u8]) -> Result<(), Unreadable> {
        each(message, |number, value| {
            match number {
                2 => self.method = value.bytes()?,
                3 => self.headers.push(entry(value.bytes()?)?.0),
                4 => self.path = value.bytes()?,
                5 => self.host = value.bytes()?,
                13 => each(value.bytes()?, |number, value| {
                    if number == 1 {
                        let (line, raw) = entry(value.bytes()?)?;
                        self.raw.push(if raw.is_empty() { line } else { Header { value: raw, ..line } });
                    }
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })
    }
}

/// Key and value of a map's entry or of a `HeaderValue`; beside them the latter's raw value, which an entry has not.
fn entry(message: &[u8]) -> Result<(Header<'_>, &[u8]), Unreadable> {
    let mut header = Header { name: &[], value: &[] };
    let mut raw: &[u8] = &[];
    each(message, |number, value| {
        match number {
            1 => header.name = value.bytes()?,
            2 => header.value = value.bytes()?,
            3 => raw = value.bytes()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((header, raw))
}

/// The value of a field.
#[derive(Clone, Copy)]
enum Value<'m> {
    Bytes(&'m [u8]),
    Number,
}

impl<'m> Value<'m> {
    fn bytes(self) -> Result<&'m [u8], Unreadable> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number => Err(Unreadable),
        }
    }
}

/// Calls back for each field of a message, in order.
fn each<'m>(
    mut message: &'m [u8],
    mut field: impl FnMut(u64, Value<'m>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    while !message.is_empty() {
        let (tag, rest) = varint(message)?;
        let number = tag >> 3;
        // Field numbers are 1 to 2^29 - 1.
        if number == 0 || tag > u64::from(u32::MAX) {
            return Err(Unreadable);
        }
        let (value, rest) = match tag & 7 {
            0 => (Value::Number, varint(rest)?.1),
            1 => (Value::Number, rest.get(8..).ok_or(Unreadable)?),
            2 => {
                let (length, rest) = varint(rest)?;
                let length = usize::try_from(length).map_err(|_| Unreadable)?;
                let (bytes, rest) = rest.split_at_checked(length).ok_or(Unreadable)?;
                (Value::Bytes(bytes), rest)
            }
            5 => (Value::Number, rest.get(4..).ok_or(Unreadable)?),
            _ => return Err(Unreadable),
        };
        field(number, value)?;
        message = rest;
    }
    Ok(())
}

/// A base-128 varint of at most ten bytes. Nearly all are one byte long.
fn varint(message: &[u8]) -> Result<(u64, &[u8]), Unreadable> {
    let mut value = 0_u64;
    let mut rest = message;
    for shift in (0..64_u32).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or(Unreadable)?;
        rest = after;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(Unreadable);
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Ok((value, rest));
        }
    }
    Err(Unreadable)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::super::pb::envoy::config::core::v3::{Address, Pipe, SocketAddress, address};
    use super::super::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
    use super::super::pb::envoy::service::auth::v3::attribute_context::{Entry, HttpRequest, Peer, Request};
    use super::super::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
    use super::*;

    /// What prost makes of a message, in the terms of [`Check`].
    fn by_prost(message: &[u8]) -> Option<String> {
        let check = CheckRequest::decode(Bytes::copy_from_slice(message)).ok()?;
        let attributes = check.attributes.clone().unwrap_or_default();
        let http = attributes.request.clone().and_then(|request| request.http);
        let principal = attributes.source.as_ref().map(|peer| peer.principal.clone()).unwrap_or_default();
        let certificate = attributes.source.as_ref().map(|peer| peer.certificate.clone()).unwrap_or_default();
        let place = attributes.source.and_then(|peer| peer.address).and_then(|address| address.address);
        let source = match place {
            Some(address::Address::SocketAddress(socket)) => {
                std::str::from_utf8(&socket.address).ok().and_then(|text| text.parse().ok())
            }
            _ => None,
        };
        let seen = http.is_some();
        let http = http.unwrap_or_default();
        let lines = http.headers.iter().map(|entry| Header { name: &entry.key, value: &entry.value });
        let raw = http.header_map.iter().flat_map(|map| &map.headers).map(|line| Header {
            name: &line.key,
            value: if line.raw_value.is_empty() { &line.value } else { &line.raw_value },
        });
        let read = Check {
            attributes: check.attributes.is_some(),
            http: seen,
            source,
            principal: &principal,
            certificate: &certificate,
            method: &http.method,
            path: &http.path,
            host: &http.host,
            headers: lines.chain(raw).collect(),
            raw: vec![],
        };
        Some(format!("{read:?}"))
    }

    fn by_hand(message: &[u8]) -> Option<String> {
        read(message).ok().map(|check| format!("{check:?}"))
    }

    fn captures() -> Vec<Vec<u8>> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let captures: Vec<_> = files
            .filter(|file| file.extension().is_some_and(|e| e == "bin"))
            .map(|file| std::fs::read(file).unwrap())
            .collect();
        assert!(captures.len() > 10);
        captures
    }

    fn message() -> impl Strategy<Value = CheckRequest> {
        let text = || proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        let entries = proptest::collection::vec((text(), text()).prop_map(|(key, value)| Entry { key, value }), 0..4);
        let lines = proptest::collection::vec(
            (text(), text(), text()).prop_map(|(key, value, raw_value)| HeaderValue { key, value, raw_value }),
            0..4,
        );
        let place =
            prop_oneof![
                Just(None),
                "[0-9a-f:.]{0,9}|10\\.0\\.0\\.[0-9]".prop_map(|ip| Some(address::Address::SocketAddress(
                    SocketAddress { address: ip.into(), port_value: 7, ..SocketAddress::default() }
                ))),
                text().prop_map(|path| Some(address::Address::Pipe(Pipe { path, mode: 1 }))),
            ];
        let texts = (text(), text(), text(), text());
        (texts, entries, lines, place).prop_map(|((method, path, host, principal), headers, lines, place)| {
            let header_map = Some(HeaderMap { headers: lines });
            let http = HttpRequest { method, path, host, headers, header_map, size: -1, ..HttpRequest::default() };
            let source = Some(Peer { address: Some(Address { address: place }), principal, ..Peer::default() });
            let request = Some(Request { http: Some(http), ..Request::default() });
            CheckRequest { attributes: Some(AttributeContext { source, request, ..AttributeContext::default() }) }
        })
    }

    #[test]
    fn every_capture_is_read_as_prost_reads_it() {
        for capture in captures() {
            assert!(by_prost(&capture).is_some());
            assert_eq!(by_hand(&capture), by_prost(&capture));
        }
    }

    #[test]
    fn what_is_cut_off_or_grouped_is_unreadable() {
        for message in
            [&[0x0a][..], &[0x0a, 5, 1], &[0x80], &[0x0b, 0x0c], &[0x02, 0], &[0x08, 0xff], &[0x0d, 1, 2], &[0x08, 1]]
        {
            assert_eq!(read(message), Err(Unreadable), "{message:?}");
        }
        assert_eq!(read(&[]).map(|check| check.attributes), Ok(false));
        assert_eq!(read(&[0x0a, 0]).map(|check| (check.attributes, check.http)), Ok((true, false)));
    }

    #[test]
    fn an_entry_of_a_map_has_no_raw_value() {
        // attributes.request.http.headers: {key: "a", value: "b"}, and a field 3 that a map's entry does not have.
        let entry = [0x0a, 1, b'a', 0x12, 1, b'b', 0x1a, 1, b'c'];
        let nested = |field: u8, inner: &[u8]| [&[field << 3 | 2, u8::try_from(inner.len()).unwrap()], inner].concat();
        let message = nested(1, &nested(4, &nested(2, &nested(3, &entry))));
        assert_eq!(read(&message).unwrap().headers, [Header { name: b"a", value: b"b" }]);
        assert_eq!(by_hand(&message), by_prost(&message));
    }

    proptest! {
        #[test]
        fn a_message_is_read_as_prost_reads_it(message in message(), again in message()) {
            let mut bytes = message.encode_to_vec();
            prop_assert_eq!(by_hand(&bytes), by_prost(&bytes));
            // Fields that repeat merge.
            bytes.extend(again.encode_to_vec());
            prop_assert_eq!(by_hand(&bytes), by_prost(&bytes));
        }

        /// Whatever bytes: where prost reads them, so do we, and the same.
        #[test]
        fn damage_is_never_read_as_something_else(at in any::<prop::sample::Index>(), byte in any::<u8>(), which in any::<prop::sample::Index>(), cut in any::<bool>()) {
            let captures = captures();
            let mut message = captures[which.index(captures.len())].clone();
            let at = at.index(message.len());
            if cut { message.truncate(at) } else { message[at] = byte }
            if let (Some(ours), Some(theirs)) = (by_hand(&message), by_prost(&message)) {
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
