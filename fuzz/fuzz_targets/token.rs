//! Any bytes as a token: read or refused, never a panic; what is read is written in strict base64url.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::authz::token::Unverified;

fuzz_target!(|bytes: &[u8]| {
    if Unverified::read(bytes).is_ok() {
        let is_strict = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        assert!(bytes.iter().all(is_strict) && bytes.iter().filter(|byte| **byte == b'.').count() == 2);
    }
});
