//! `x-forwarded-client-cert`: what Envoy tells of the caller's certificate in a header, read strictly.

use super::request::Request;

/// The longest header that is read, in bytes over all its lines.
const MAX: usize = 16 * 1024;

/// What is told of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element<'r> {
    /// The URIs that it names, as they are written; empty ones are none.
    pub uris: Vec<&'r [u8]>,
    /// The SHA-256 of its DER.
    pub hash: Option<[u8; 32]>,
    /// The certificate itself: PEM, percent-encoded.
    pub certificate: Option<&'r [u8]>,
    subject: bool,
    chain: bool,
}

/// The header is not written as Envoy writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What the gateway tells of its own peer: the last element of the header; `None` where there is no header. All of it
/// has to be readable: what stands before could else reach into the last one.
pub(super) fn last<'r>(request: &Request<'r>) -> Option<Result<Element<'r>, Malformed>> {
    let mut left = MAX;
    let mut last = None;
    for line in request.header(b"x-forwarded-client-cert") {
        let Some(rest) = left.checked_sub(line.len()) else { return Some(Err(Malformed)) };
        left = rest;
        match last_of(line) {
            Some(element) => last = Some(Ok(element)),
            None => return Some(Err(Malformed)),
        }
    }
    last
}

/// The last element of a line.
fn last_of(line: &[u8]) -> Option<Element<'_>> {
    let (mut rest, mut element) = (line.trim_ascii(), Element::default());
    loop {
        let (key, after) = rest.split_at_checked(rest.iter().position(|byte| *byte == b'=')?)?;
        let (value, after) = value(after.get(1..)?)?;
        element.add(key, value)?;
        match after {
            [] => return Some(element),
            [b';', after @ ..] => rest = after,
            [b',', after @ ..] => (rest, element) = (after.trim_ascii_start(), Element::default()),
            _ => return None,
        }
    }
}

/// A value, quotes off and escapes left in, and what follows it.
fn value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| matches!(byte, b';' | b',')).unwrap_or(text.len());
        let (value, after) = text.split_at_checked(end)?;
        let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\');
        return value.iter().all(plain).then_some((value, after));
    };
    let mut escaped = false;
    for (at, byte) in quoted.iter().enumerate() {
        match byte {
            _ if byte.is_ascii_control() => return None,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                let (value, after) = quoted.split_at_checked(at)?;
                return Some((value, after.get(1..)?));
            }
            _ => {}
        }
    }
    None
}

impl<'r> Element<'r> {
    /// Adds what is told under a key; `None` where that may be told once and was, or is no such key.
    fn add(&mut self, key: &[u8], value: &'r [u8]) -> Option<()> {
        let once = |told: &mut bool| (!std::mem::replace(told, true)).then_some(());
        match &*key.to_ascii_lowercase() {
            // Whose certificate the gateway showed, and names that are not asked about.
            b"by" | b"dns" => Some(()),
            b"uri" if value.is_empty() => Some(()),
            b"uri" if value.contains(&b'\\') => None,
            b"uri" => {
                self.uris.push(value);
                Some(())
            }
            b"hash" => self.hash.replace(hash(value)?).is_none().then_some(()),
            b"cert" => self.certificate.replace(value).is_none().then_some(()),
            b"subject" => once(&mut self.subject),
            b"chain" => once(&mut self.chain),
            _ => None,
        }
    }
}

/// Thirty-two bytes in hexadecimal digits.
fn hash(text: &[u8]) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.chunks_exact(2)) {
        let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
        *byte = u8::from_str_radix(text, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::gateways::Dialect;
    use crate::authz::request::{Asker, Header, Raw, Relaxed};

    const HASH: &str = "468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688";

    /// The URIs of the last element.
    fn uris(lines: &[&str]) -> Option<Result<Vec<String>, Malformed>> {
        let line = |value: &&'static str| Header { name: b"x-forwarded-client-cert", value: value.as_bytes() };
        let lines: Vec<&'static str> = lines.iter().map(|text| &*(*text).to_owned().leak()).collect();
        let raw = Raw::new(Dialect::Envoy, Asker::Unix, [b"GET", b"/", b"h"], lines.iter().map(line).collect());
        let text = |uri: &&[u8]| String::from_utf8(uri.to_vec()).unwrap();
        let request = Request::read(&raw, Relaxed::default()).unwrap();
        last(&request).map(|element| element.map(|element| element.uris.iter().map(text).collect()))
    }

    #[test] // F04
    fn the_shapes_that_gateways_write_are_read() {
        for (shape, uri) in [
            // Envoy, with all of `set_current_client_cert_details`; Istio; Consul.
            (
                format!(
                    r#"By=spiffe://td/edge;Hash={HASH};Cert="-----BEGIN%20CERTIFICATE-----%0A";Chain="-----BEGIN";Subject="CN=a\, \"b\",O=c;d=e";URI=spiffe://td/a;DNS=a.test;DNS=b.test"#
                ),
                "spiffe://td/a",
            ),
            (
                format!(
                    r#"By=spiffe://cluster.local/ns/shop/sa/web;Hash={HASH};Subject="";URI=spiffe://cluster.local/ns/shop/sa/cart"#
                ),
                "spiffe://cluster.local/ns/shop/sa/cart",
            ),
            (
                format!(
                    "By=spiffe://1.consul/ns/default/dc/dc1/svc/web;Hash={HASH};Cert=\"x\";Chain=\"x\";Subject=\"\";URI=spiffe://1.consul/ns/default/dc/dc1/svc/api"
                ),
                "spiffe://1.consul/ns/default/dc/dc1/svc/api",
            ),
            (format!("BY=spiffe://td/edge;hash={};uRI=spiffe://td/a", HASH.to_uppercase()), "spiffe://td/a"),
            ("By=spiffe://td/a;By=spiffe://td/b;URI=\"spiffe://td/a\"".to_owned(), "spiffe://td/a"),
            (r#"Subject="\\";URI=spiffe://td/a"#.to_owned(), "spiffe://td/a"),
            ("URI=spiffe://td/b, URI=spiffe://td/a".to_owned(), "spiffe://td/a"),
        ] {
            assert_eq!(uris(&[&shape]), Some(Ok(vec![uri.to_owned()])), "{shape}");
        }
        assert_eq!(uris(&[]), None);
        assert_eq!(uris(&["URI=spiffe://td/a", "By=x"]), Some(Ok(vec![])), "only the last element");
        assert_eq!(uris(&["URI="]), Some(Ok(vec![])));
        assert_eq!(uris(&["URI=a;URI=b"]), Some(Ok(vec!["a".into(), "b".into()])));
    }

    #[test] // F04
    fn what_could_be_read_two_ways_is_refused() {
        let (long, fits) = (format!("By={}", "x".repeat(MAX)), format!("By={}", "x".repeat(MAX - 3)));
        assert_eq!(uris(&[&fits]), Some(Ok(vec![])));
        assert_eq!(uris(&[&fits, "By=x"]), Some(Err(Malformed)), "over all lines");
        let twice = format!("Hash={HASH};Hash={HASH}");
        let short = format!("Hash={}", HASH.get(1..).unwrap());
        let signed = format!("Hash=+{}", HASH.get(1..).unwrap());
        for bad in [
            "",
            ",",
            "x",
            "=x",
            "URI",
            "URI=a;",
            "URI=a,",
            ",URI=a",
            "URI=a;;By=b",
            "Other=a;URI=b",
            " URI =a",
            "URI=a b",
            "URI=a=b",
            "URI=a\"b\"",
            "URI=\"a",
            "URI=\"a\\\"",
            "URI=\"a\"b",
            "URI=\"a\" ;By=b",
            "URI=\"a\\\"b\"",
            "URI=a\\b",
            "Subject=\"a,URI=spiffe://td/b",
            "Subject=\"a,By=b;Subject=\"\";URI=spiffe://td/b",
            "Subject=\"\";Subject=\"\"",
            "Cert=\"\";cert=\"\"",
            "Chain=\"\";Chain=\"\"",
            "Subject=\"\u{7f}\"",
            "Hash=",
            &twice,
            &short,
            &signed,
            &long,
        ] {
            assert_eq!(uris(&[bad]), Some(Err(Malformed)), "{bad}");
            assert_eq!(uris(&[bad, "URI=spiffe://td/a"]), Some(Err(Malformed)), "{bad} before another line");
        }
    }

    #[test]
    fn the_hash_is_the_thumbprint_of_the_certificate() {
        let element = last_of(format!("By=a;Hash={HASH}").leak().as_bytes()).unwrap();
        assert_eq!(element.hash.unwrap()[..3], [0x46, 0x8e, 0xd3]);
        assert_eq!(last_of(b"By=a").unwrap().hash, None);
    }
}
