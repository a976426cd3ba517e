//! Any text as a route key: what is read prints to a text that reads as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::authz::route::Pattern;

fuzz_target!(|text: &str| {
    if let Ok(pattern) = Pattern::parse(text) {
        let printed = pattern.to_string();
        assert_eq!(Pattern::parse(&printed).as_ref(), Ok(&pattern), "{printed}");
        assert!(pattern.may_meet(&pattern), "{printed} does not meet itself");
    }
});
