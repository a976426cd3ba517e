//! Any bytes as target, host and header of a request: what is read has one reading, and reads again as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::authz::gateways::Dialect;
use portcullis::authz::request::{Asker, Header, Raw, Relaxed, Request};

fn raw<'r>(target: &'r [u8], host: &'r [u8], headers: Vec<Header<'r>>) -> Raw<'r> {
    Raw::new(Dialect::Envoy, Asker::Unix, [b"GET", target, host], headers)
}

fuzz_target!(|parts: (&[u8], &[u8], &[u8], &[u8])| {
    let (target, host, name, value) = parts;
    let raw_request = raw(target, host, vec![Header { name, value }]);
    let Ok(request) = Request::read(&raw_request, Relaxed::default()) else { return };
    let path = &*request.path;
    assert!(path.starts_with('/') && !path.contains("//") && !path.contains(['\\', ';', '\0']));
    assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")));
    assert!(!request.host.contains([',', '@', '/']) && !request.host.bytes().any(|byte| byte.is_ascii_uppercase()));
    let escaped: String =
        path.bytes().map(|byte| if byte == b'/' { "/".into() } else { format!("%{byte:02X}") }).collect();
    // Escaped, a path may be longer than a path may be.
    if escaped.len() > 8 * 1024 {
        return;
    }
    let again = raw(escaped.as_bytes(), request.host.as_bytes(), Vec::new());
    let again = Request::read(&again, Relaxed::default()).unwrap();
    assert_eq!((&*again.path, &*again.host), (path, &*request.host));
});
