//! Any text as a policy: a policy or problems, each with its place, never a panic.
#![no_main]

use std::io;

use libfuzzer_sys::fuzz_target;
use portcullis::config::compile::compile;

fuzz_target!(|text: &str| {
    let (compiled, problems) = compile("policy.yaml", text, &|_| Err(io::ErrorKind::NotFound.into()));
    assert_eq!(compiled.is_none(), problems.has_errors());
    let _ = problems.render(false);
});
