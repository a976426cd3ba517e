//! Keys as callers show them, and files of keys: neither panics, and what is written as a key is one by its checksum.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::authz::api_keys::format::Prefix;
use portcullis::authz::route::HostSets;
use portcullis::config::api_keys::{Maker, entries};

fuzz_target!(|data: &[u8]| {
    let prefix = Prefix::default();
    if prefix.fits(data) {
        assert!(prefix.begins(data) && data.is_ascii());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut maker = Maker::default();
    for entry in entries(text, &prefix).0 {
        assert!(text.get(entry.at.clone()).is_some_and(|chunk| chunk.starts_with('-')));
        let _ = maker.key(entry.key, &HostSets::default());
    }
});
