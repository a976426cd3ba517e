//! The workload that the caller's certificate names, as a gateway tells it that is believed about certificates.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::certificate::{SpiffeId, der, sole};
use super::gateways::CertificateFrom;
use super::reason::Reason;
use super::request::Request;
use super::time::Timestamp;
use super::xfcc;

/// The largest certificate that is read, in bytes as it is sent.
const MAX: usize = 64 * 1024;

/// The workload, or that the certificate names none.
///
/// # Errors
/// [`Reason::CertificateRefused`] where what is told cannot be read, is told two ways, or is not to be a workload.
pub(super) fn named(request: &Request<'_>, from: CertificateFrom, now: Timestamp) -> Result<Option<SpiffeId>, Reason> {
    match from {
        CertificateFrom::Connection => {
            let told = sole([request.principal].into_iter())?;
            if request.certificate.is_empty() {
                return Ok(told);
            }
            let named = by_certificate(request.certificate, now)?;
            if request.principal.is_empty() || told == named { Ok(named) } else { Err(Reason::CertificateRefused) }
        }
        CertificateFrom::Xfcc => {
            let Some(element) = xfcc::last(request) else { return Ok(None) };
            let element = element.map_err(|xfcc::Malformed| Reason::CertificateRefused)?;
            let told = sole(element.uris.iter().copied())?;
            let Some(certificate) = element.certificate else { return Ok(told) };
            let named = by_certificate(certificate, now)?;
            if element.uris.is_empty() || told == named { Ok(named) } else { Err(Reason::CertificateRefused) }
        }
    }
}

/// The workload that a certificate names by itself. Who signed it, and whether that was undone, its gateway has checked.
fn by_certificate(sent: &[u8], now: Timestamp) -> Result<Option<SpiffeId>, Reason> {
    let refused = Reason::CertificateRefused;
    let der = Some(sent).filter(|sent| sent.len() <= MAX).and_then(der).ok_or(refused)?;
    let (rest, certificate) = X509Certificate::from_der(&der).map_err(|_| refused)?;
    let unread = certificate
        .extensions()
        .iter()
        .any(|extension| matches!(extension.parsed_extension(), ParsedExtension::ParseError { .. }));
    if !rest.is_empty() || unread || !is_current(&certificate, now) {
        return Err(refused);
    }
    let names = certificate.subject_alternative_name().map_err(|_| refused)?;
    let names = names.map(|names| &*names.value.general_names).unwrap_or_default();
    if !names.iter().all(is_whole) {
        return Err(refused);
    }
    let uris =
        names.iter().filter_map(|name| if let GeneralName::URI(uri) = name { Some(uri.as_bytes()) } else { None });
    let named = sole(uris)?;
    if named.is_some() && !is_leaf_of_client(&certificate).ok_or(refused)? { Err(refused) } else { Ok(named) }
}

/// Whether it is valid at this time; at its last second still (RFC 5280 §4.1.2.5).
fn is_current(certificate: &X509Certificate<'_>, now: Timestamp) -> bool {
    let (validity, now) = (certificate.validity(), now.as_millis().div_euclid(1_000));
    (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now)
}

/// Whether all who read a name read the same: a NUL ends it for some.
fn is_whole(name: &GeneralName<'_>) -> bool {
    if let GeneralName::URI(text) | GeneralName::DNSName(text) | GeneralName::RFC822Name(text) = name {
        !text.contains('\0')
    } else {
        !matches!(name, GeneralName::Invalid(..))
    }
}

/// Whether a certificate is no authority's, and may be shown by a client; `None` where it says so twice.
fn is_leaf_of_client(certificate: &X509Certificate<'_>) -> Option<bool> {
    let authority = certificate.basic_constraints().ok()?.is_some_and(|constraints| constraints.value.ca);
    let signs = certificate.key_usage().ok()?.is_some_and(|usage| usage.value.key_cert_sign());
    let client = certificate.extended_key_usage().ok()?.is_none_or(|usage| usage.value.client_auth);
    Some(!authority && !signs && client)
}

#[cfg(test)]
mod tests;
