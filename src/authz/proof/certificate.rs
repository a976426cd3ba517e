//! Tokens that are bound to a client certificate (RFC 8705 §3), as far as a believed gateway tells of it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use crate::authz::certificate::der;
use crate::authz::gateways::{CertificateFrom, Gateway};
use crate::authz::reason::Reason;
use crate::authz::request::Request;
use crate::authz::xfcc;

/// Whether the caller's certificate is the one of this thumbprint.
pub(super) fn check(expected: &[u8; 32], request: &Request<'_>, gateway: Option<&Gateway>) -> Result<(), Reason> {
    let shown = thumbprint(request, gateway).ok_or(Reason::CertificateMismatch)?;
    verify_slices_are_equal(expected, &shown).map_err(|_| Reason::CertificateMismatch)
}

/// The SHA-256 of the caller's certificate, where a gateway that is believed about it shows one.
#[must_use]
pub fn thumbprint(request: &Request<'_>, gateway: Option<&Gateway>) -> Option<[u8; 32]> {
    match gateway?.certificate? {
        CertificateFrom::Connection => {
            let der = der(request.certificate)?;
            digest(&SHA256, &der).as_ref().try_into().ok()
        }
        CertificateFrom::Xfcc => xfcc::last(request)?.ok()?.hash,
    }
}
