//! Whom a gateway's word on a certificate names, and which certificates name nobody or are refused.

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};

use super::*;
use crate::authz::gateways::Dialect;
use crate::authz::request::{Asker, Header, Raw, Relaxed};
use crate::dev::certificate::{naming, sent};

const CART: &str = "spiffe://td.test/ns/shop/sa/cart";
const OTHER: &str = "spiffe://td.test/ns/shop/sa/other";
const REFUSED: Result<Option<String>, Reason> = Err(Reason::CertificateRefused);

fn told(
    from: CertificateFrom,
    principal: &str,
    certificate: &str,
    xfcc: &[&str],
    now: i64,
) -> Result<Option<String>, Reason> {
    let line = |value: &&'static str| Header { name: b"x-forwarded-client-cert", value: value.as_bytes() };
    let xfcc: Vec<&'static str> = xfcc.iter().map(|text| &*(*text).to_owned().leak()).collect();
    let raw = Raw {
        principal: principal.as_bytes(),
        certificate: certificate.as_bytes(),
        ..Raw::new(Dialect::Envoy, Asker::Unix, [b"GET", b"/", b"h"], xfcc.iter().map(line).collect())
    };
    let request = Request::read(&raw, Relaxed::default()).unwrap();
    named(&request, from, Timestamp::from_secs(now)).map(|id| id.map(|id| id.as_str().to_owned()))
}

fn shown(principal: &str, der: &[u8]) -> Result<Option<String>, Reason> {
    told(CertificateFrom::Connection, principal, &sent(der), &[], 1_800_000_000)
}

fn forwarded(lines: &[&str]) -> Result<Option<String>, Reason> {
    told(CertificateFrom::Xfcc, OTHER, &sent(&naming(OTHER)), lines, 1_800_000_000)
}

fn cart() -> Result<Option<String>, Reason> {
    Ok(Some(CART.to_owned()))
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

/// A certificate that names these, and what else it says.
fn signed(names: Vec<SanType>, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    change(&mut params);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[test] // F05
fn the_workload_is_the_only_uri_of_the_certificate() {
    let of = |names| shown("", &signed(names, |_| {}));
    assert_eq!(of(vec![uri(CART)]), cart());
    assert_eq!(of(vec![dns("cart.test"), uri(CART)]), cart());
    assert_eq!(of(vec![dns("cart.test")]), Ok(None));
    assert_eq!(of(vec![uri("https://cart.test/")]), Ok(None));
    assert_eq!(of(vec![]), Ok(None));
    for two in [[CART, OTHER], [CART, CART], ["https://cart.test/", CART], [CART, "urn:x"]] {
        assert_eq!(of(two.map(uri).to_vec()), REFUSED, "{two:?}");
    }
    assert_eq!(of(vec![uri("https://a.test/"), uri("https://b.test/")]), Ok(None));
    for bad in ["spiffe://TD.test/x", "SPIFFE://td.test/x", "spiffe://td.test/x/../y", "spiffe://td.test/%78"] {
        assert_eq!(of(vec![uri(bad)]), REFUSED, "{bad}");
    }
}

#[test] // F05
fn a_nul_in_any_name_of_a_certificate_is_refused() {
    for names in [
        vec![uri("spiffe://td.test/ns/shop/sa/cart\0/x")],
        vec![uri(CART), dns("cart.test\0.evil.test")],
        vec![dns("cart.test\0.evil.test")],
        vec![uri(CART), SanType::Rfc822Name("a\0@b.test".try_into().unwrap())],
        vec![uri("https://a.test/\0")],
    ] {
        assert_eq!(shown("", &signed(names.clone(), |_| {})), REFUSED, "{names:?}");
    }
}

#[test]
fn what_the_gateway_says_beside_the_certificate_has_to_be_the_same() {
    let der = signed(vec![uri(CART)], |_| {});
    assert_eq!(shown(CART, &der), cart());
    assert_eq!(shown(OTHER, &der), REFUSED);
    assert_eq!(shown("cart.test", &der), REFUSED, "it would have said the URI");
    let host = signed(vec![dns("cart.test")], |_| {});
    assert_eq!(shown("cart.test", &host), Ok(None));
    assert_eq!(shown(CART, &host), REFUSED);
    // Without a certificate it is believed alone.
    let alone = |principal| told(CertificateFrom::Connection, principal, "", &[CART], 0);
    assert_eq!(alone(CART), cart());
    assert_eq!(alone("cart.test"), Ok(None));
    assert_eq!(alone("spiffe://TD.test/x"), REFUSED);
}

#[test] // F06
fn a_certificate_is_held_against_the_time_of_the_request() {
    let der = signed(vec![uri(CART)], |params| {
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 2);
    });
    let at = |now| told(CertificateFrom::Connection, CART, &sent(&der), &[], now);
    let (first, last) = (1_767_225_600, 1_767_312_000);
    assert_eq!(at(first - 1), REFUSED, "not yet");
    assert_eq!(at(first), cart());
    assert_eq!(at(last), cart());
    assert_eq!(at(last + 1), REFUSED, "no more");
}

#[test] // F06
fn an_authority_or_a_server_is_no_workload() {
    let of = |change: fn(&mut CertificateParams)| shown("", &signed(vec![uri(CART)], change));
    assert_eq!(of(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), REFUSED);
    assert_eq!(of(|params| params.is_ca = IsCa::ExplicitNoCa), cart());
    assert_eq!(of(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]), REFUSED);
    assert_eq!(of(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]), cart());
    assert_eq!(of(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]), REFUSED);
    let both = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    };
    assert_eq!(of(both), cart());
}

#[test] // F06
fn what_is_no_certificate_or_more_than_one_is_refused() {
    let der = naming(CART);
    assert_eq!(shown(CART, &der), cart());
    assert_eq!(shown(CART, &[&der[..], &[0]].concat()), REFUSED, "and a byte");
    assert_eq!(shown(CART, &der[..der.len() - 1]), REFUSED, "not all of it");
    let of = |text: &str| told(CertificateFrom::Connection, CART, text, &[], 0);
    for bad in ["x", "-----BEGIN CERTIFICATE-----AQID-----END CERTIFICATE-----", &sent(&der).repeat(2)] {
        assert_eq!(of(bad), REFUSED, "{bad}");
    }
    let large = signed((0..2_000).map(|n| dns(&format!("host-{n}.of-a-long-list-of-names.test"))).collect(), |_| {});
    assert_eq!(shown("", &large), REFUSED, "too large");
}

#[test] // F04
fn the_header_names_the_workload_by_its_last_element_and_the_connection_does_not() {
    let element = |id: &str| format!("By=spiffe://td.test/ns/edge;Hash={};URI={id}", "ab".repeat(32));
    assert_eq!(forwarded(&[&element(CART)]), cart());
    assert_eq!(forwarded(&[&format!("{},{}", element(OTHER), element(CART))]), cart());
    assert_eq!(forwarded(&[&element(OTHER), &element(CART)]), cart(), "lines are one list");
    assert_eq!(forwarded(&[]), Ok(None), "what the connection says is not asked");
    assert_eq!(forwarded(&["By=spiffe://td.test/ns/edge"]), Ok(None));
    assert_eq!(forwarded(&[&element("")]), Ok(None));
    assert_eq!(forwarded(&[&element("https://a.test/x")]), Ok(None));
    assert_eq!(forwarded(&[&format!("{};URI={OTHER}", element(CART))]), REFUSED);
    assert_eq!(forwarded(&[&element("spiffe://TD.test/x")]), REFUSED);
    assert_eq!(forwarded(&[&format!("x,{}", element(CART))]), REFUSED, "all of it has to be readable");
    assert_eq!(forwarded(&["x", &element(CART)]), REFUSED);
    let header = told(CertificateFrom::Connection, "", "", &[&element(CART)], 0);
    assert_eq!(header, Ok(None), "who is believed about the connection is not believed about the header");
}

#[test] // F04, F06
fn a_certificate_in_the_header_is_read_like_any_other() {
    let with = |der: &[u8], uri: &str| forwarded(&[&format!("Hash={};Cert=\"{}\"{uri}", "ab".repeat(32), sent(der))]);
    assert_eq!(with(&naming(CART), ""), cart());
    assert_eq!(with(&naming(CART), &format!(";URI={CART}")), cart());
    assert_eq!(with(&naming(CART), &format!(";URI={OTHER}")), REFUSED);
    assert_eq!(with(&naming(""), &format!(";URI={CART}")), REFUSED);
    assert_eq!(with(b"no certificate", &format!(";URI={CART}")), REFUSED);
    let old = signed(vec![uri(CART)], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    assert_eq!(with(&old, ""), REFUSED);
}
