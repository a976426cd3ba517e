//! Any bytes as a key set: usable keys and refused ones, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::authz::keys::{KeySet, Origin};

fuzz_target!(|bytes: &[u8]| {
    for origin in [Origin::Remote, Origin::Local] {
        if let Ok(report) = KeySet::from_jwks(bytes, origin) {
            assert!(report.keys.len() + report.refused.len() <= 100);
            assert_eq!(report.keys.digest(), KeySet::from_jwks(bytes, origin).unwrap().keys.digest());
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = KeySet::from_pem(text, Default::default());
    }
});
