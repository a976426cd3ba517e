//! Bytes as a DPoP proof: reading never panics, and what reads has one reading.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::authz::proof::Proof;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(proof) = Proof::read(bytes) {
        let again = Proof::read(bytes).expect("the same bytes");
        assert_eq!(proof.thumbprint(), again.thumbprint());
        assert!(!bytes.contains(&b','), "a line that a gateway may have joined");
    }
});
