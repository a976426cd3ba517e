//! Tokens that are bound to a client certificate (RFC 8705 §3), as far as a believed gateway tells of it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode;

use crate::authz::gateways::Gateway;
use crate::authz::reason::Reason;
use crate::authz::request::Request;

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

/// Whether the caller's certificate is the one of this thumbprint.
pub(super) fn check(expected: &[u8; 32], request: &Request<'_>, gateway: Option<&Gateway>) -> Result<(), Reason> {
    let shown = thumbprint(request, gateway).ok_or(Reason::CertificateMismatch)?;
    verify_slices_are_equal(expected, &shown).map_err(|_| Reason::CertificateMismatch)
}

/// The SHA-256 of the caller's certificate, where a gateway that is believed about it shows one.
#[must_use]
pub fn thumbprint(request: &Request<'_>, gateway: Option<&Gateway>) -> Option<[u8; 32]> {
    gateway.filter(|gateway| gateway.certificate)?;
    let der = der(request.certificate)?;
    digest(&SHA256, &der).as_ref().try_into().ok()
}

/// The certificate itself of one percent-encoded PEM block.
fn der(text: &[u8]) -> Option<Vec<u8>> {
    let pem: Vec<u8> = percent_decode(text).collect();
    let body = pem.trim_ascii().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let body: Vec<u8> = body.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    STANDARD.decode(body).ok().filter(|der| !der.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

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
