//! Client certificates: whom one names, and SPIFFE IDs, read strictly.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::reason::Reason;

const SCHEME: &str = "spiffe://";
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";
/// The longest SPIFFE ID, and the longest trust domain in one, in bytes (SPIFFE-ID §2).
const MAX_ID: usize = 2_048;
const MAX_TRUST_DOMAIN: usize = 255;

/// A SPIFFE ID of a workload: a trust domain and a path (SPIFFE-ID §2).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId(Arc<str>);

impl SpiffeId {
    /// Reads an ID as it has to be written; another spelling of one is none, for it is compared as bytes.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= MAX_ID)?;
        let (domain, path) = text.strip_prefix(SCHEME)?.split_once('/')?;
        let fits = is_trust_domain(domain) && path.split('/').all(is_segment);
        fits.then(|| Self(text.into()))
    }

    /// The ID as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ID as shared text.
    #[must_use]
    pub fn shared(&self) -> &Arc<str> {
        &self.0
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether this names a trust domain: lower case, and no port or user.
fn is_trust_domain(text: &str) -> bool {
    (1..=MAX_TRUST_DOMAIN).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_'))
}

/// Whether this is one segment of a path: no escape, no dot segment, not empty.
fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A workload, by the one URI of the certificate (X509-SVID §2).
    Spiffe(SpiffeId),
    /// Hosts, in lower case; none, where it names nobody that is asked about here.
    Dns(Box<[Box<str>]>),
}

impl Holder {
    /// Reads the subject alternative names of a certificate that was verified. One with two URIs has no SPIFFE ID, and
    /// one whose names cannot be read names nobody.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let nobody = || Self::Dns(Box::default());
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return nobody() };
        let Ok(Some(names)) = certificate.subject_alternative_name() else { return nobody() };
        let names = &names.value.general_names;
        // What cannot be read may be a second URI.
        if names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
            return nobody();
        }
        let mut uris = names.iter().filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None });
        if let (Some(uri), None) = (uris.next(), uris.next())
            && let Some(id) = SpiffeId::parse(uri.as_bytes())
        {
            return Self::Spiffe(id);
        }
        let hosts =
            names.iter().filter_map(|name| if let GeneralName::DNSName(host) = name { Some(*host) } else { None });
        Self::Dns(hosts.map(|host| host.to_ascii_lowercase().into()).collect())
    }
}

/// The workload that these URIs of one certificate name: one alone does (X509-SVID §2).
///
/// # Errors
/// [`Reason::CertificateRefused`] where a SPIFFE ID is among them, and it is not alone or not written as one.
pub(super) fn sole<'u>(mut uris: impl Iterator<Item = &'u [u8]>) -> Result<Option<SpiffeId>, Reason> {
    let Some(first) = uris.next() else { return Ok(None) };
    let (mut others, mut any) = (false, is_spiffe(first));
    for uri in uris {
        (others, any) = (true, any || is_spiffe(uri));
    }
    match (any, others) {
        (false, _) => Ok(None),
        (true, false) => SpiffeId::parse(first).map(Some).ok_or(Reason::CertificateRefused),
        (true, true) => Err(Reason::CertificateRefused),
    }
}

/// Whether a name is meant as a SPIFFE ID, however it is written.
fn is_spiffe(name: &[u8]) -> bool {
    name.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"spiffe:"))
}

/// The certificate itself of one percent-encoded PEM block, which is how gateways send it.
pub(super) fn der(text: &[u8]) -> Option<Vec<u8>> {
    let pem: Vec<u8> = percent_decode(text).collect();
    let body = pem.trim_ascii().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let body: Vec<u8> = body.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    STANDARD.decode(body).ok().filter(|der| !der.is_empty())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    #[test] // F05
    fn a_spiffe_id_has_one_spelling() {
        for good in ["spiffe://td/x", "spiffe://shop.example/ns/shop/sa/cart", "spiffe://a_b-c.1/A.b_c-d/..."] {
            assert_eq!(SpiffeId::parse(good.as_bytes()).unwrap().as_str(), good);
        }
        let long = format!("spiffe://td/{}", "x".repeat(MAX_ID));
        let domain = format!("spiffe://{}/x", "d".repeat(MAX_TRUST_DOMAIN + 1));
        for bad in [
            "",
            "spiffe://",
            "spiffe://td",
            "spiffe://td/",
            "spiffe:///x",
            "spiffe://TD/x",
            "Spiffe://td/x",
            "spiffe://td/../x",
            "spiffe://td/./x",
            "spiffe://td//x",
            "spiffe://td/x/",
            "spiffe://td/x/..",
            "spiffe://td/%2e",
            "spiffe://td/x?y",
            "spiffe://td/x#y",
            "spiffe://td:8443/x",
            "spiffe://u@td/x",
            "spiffe://td/x y",
            "spiffe://td/x\0",
            "spiffe://td/caf\u{e9}",
            " spiffe://td/x",
            "https://td/x",
            &long,
            &domain,
        ] {
            assert_eq!(SpiffeId::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(SpiffeId::parse(b"spiffe://td/\xff"), None);
    }

    #[test]
    fn the_ids_of_istio_and_of_consul_connect_are_read_as_they_are() {
        for id in [
            "spiffe://cluster.local/ns/shop/sa/cart",
            "spiffe://11111111-2222-3333-4444-555555555555.consul/ns/default/dc/dc1/svc/web",
        ] {
            let spiffe = Holder::Spiffe(SpiffeId::parse(id.as_bytes()).unwrap());
            assert_eq!(Holder::of(&certificate(vec![uri(id)])), spiffe, "{id}");
        }
    }

    #[test] // F05
    fn a_certificate_names_a_workload_by_its_only_uri() {
        let id = "spiffe://td/ns/a";
        let spiffe = Holder::Spiffe(SpiffeId::parse(id.as_bytes()).unwrap());
        assert_eq!(Holder::of(&certificate(vec![uri(id)])), spiffe);
        assert_eq!(Holder::of(&certificate(vec![dns("a.test"), uri(id)])), spiffe);
        let hosts = |hosts: &[&str]| Holder::Dns(hosts.iter().map(|host| (*host).into()).collect());
        assert_eq!(Holder::of(&certificate(vec![uri(id), uri("spiffe://td/ns/b")])), hosts(&[]));
        assert_eq!(Holder::of(&certificate(vec![uri(id), uri("https://td/"), dns("A.test")])), hosts(&["a.test"]));
        assert_eq!(Holder::of(&certificate(vec![uri("spiffe://TD/ns/a")])), hosts(&[]));
        assert_eq!(Holder::of(&certificate(vec![dns("A.test"), dns("b.test")])), hosts(&["a.test", "b.test"]));
        assert_eq!(Holder::of(&certificate(vec![])), hosts(&[]));
        assert_eq!(Holder::of(b"not a certificate"), hosts(&[]));
    }

    #[test]
    fn a_certificate_is_one_block_and_nothing_else() {
        assert_eq!(der(b"-----BEGIN%20CERTIFICATE-----%0AAQID%0A-----END%20CERTIFICATE-----%0A"), Some(vec![1, 2, 3]));
        assert_eq!(
            der(b"-----BEGIN CERTIFICATE-----%0D%0AAQ%0D%0AID%2B/8%3D%0A-----END CERTIFICATE-----")
                .map(|der| der.len()),
            Some(5)
        );
        for bad in [
            &b""[..],
            b"AQID",
            b"-----BEGIN CERTIFICATE----------END CERTIFICATE-----",
            b"-----BEGIN CERTIFICATE-----AQ-----END CERTIFICATE-----",
            b"-----BEGIN CERTIFICATE-----AQID-----END CERTIFICATE----- x",
            b"x -----BEGIN CERTIFICATE-----AQID-----END CERTIFICATE-----",
            b"-----BEGIN PUBLIC KEY-----AQID-----END PUBLIC KEY-----",
            b"-----BEGIN CERTIFICATE-----AQID-----END CERTIFICATE----------BEGIN CERTIFICATE-----AQID-----END CERTIFICATE-----",
        ] {
            assert_eq!(der(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }
}
