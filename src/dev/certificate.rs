//! Client certificates made to order: signed by nobody, as who holds one has been checked by then.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const SEQUENCE: u8 = 0x30;
/// `ecdsa-with-SHA256`, `id-ecPublicKey`, and `subjectAltName` (RFC 5758 §3.2, RFC 5480 §2.1.1, RFC 5280 §4.2.1.6).
const SIGNED_WITH: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const KEY_KIND: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const NAMES: &[u8] = &[0x06, 0x03, 0x55, 0x1d, 0x11];

/// The DER of a certificate that is always valid and names this URI, or nothing where that is empty.
#[must_use]
pub fn naming(uri: &str) -> Vec<u8> {
    let bits = tagged(0x03, &[&[0; 33]]);
    let validity = [&b"19700101000000Z"[..], b"99991231235959Z"].map(|time| tagged(0x18, &[time]));
    let nobody = tagged(SEQUENCE, &[]);
    let names = tagged(SEQUENCE, &[&tagged(0x86, &[uri.as_bytes()])]);
    let extension = tagged(SEQUENCE, &[NAMES, &tagged(0x04, &[&names])]);
    let extensions = tagged(0xa3, &[&tagged(SEQUENCE, &[&extension])]);
    let body = tagged(
        SEQUENCE,
        &[
            &tagged(0xa0, &[&tagged(0x02, &[&[2]])]),
            &tagged(0x02, &[&[1]]),
            &tagged(SEQUENCE, &[SIGNED_WITH]),
            &nobody,
            &tagged(SEQUENCE, &[&validity.concat()]),
            &nobody,
            &tagged(SEQUENCE, &[&tagged(SEQUENCE, &[KEY_KIND]), &bits]),
            if uri.is_empty() { &[] } else { &extensions },
        ],
    );
    tagged(SEQUENCE, &[&body, &tagged(SEQUENCE, &[SIGNED_WITH]), &bits])
}

/// A certificate as Envoy sends it: PEM, percent-encoded.
#[must_use]
pub fn sent(der: &[u8]) -> String {
    let body = STANDARD.encode(der).replace('+', "%2B").replace('=', "%3D");
    format!("-----BEGIN%20CERTIFICATE-----%0A{body}%0A-----END%20CERTIFICATE-----%0A")
}

/// What `x-forwarded-client-cert` says of a certificate that names this URI.
#[must_use]
pub fn forwarded(der: &[u8], uri: &str) -> String {
    let hash: String = digest(&SHA256, der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("Hash={hash};URI={uri}")
}

/// A value of DER: its tag, its length, and its parts one after another.
fn tagged(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = body.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut value = vec![tag];
    match *length {
        [] => value.push(0),
        [short @ 0..0x80] => value.push(short),
        _ => {
            value.push(0x80 | u8::try_from(length.len()).unwrap_or_default());
            value.extend(length);
        }
    }
    value.extend(body);
    value
}
