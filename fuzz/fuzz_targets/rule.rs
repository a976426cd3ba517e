//! Any text as a rule: what is read prints to a text that reads as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::authz::rule::Expr;

fuzz_target!(|text: &str| {
    if let Ok(rule) = Expr::parse(text) {
        let printed = rule.to_string();
        assert_eq!(Expr::parse(&printed).as_ref(), Ok(&rule), "{printed}");
        assert_eq!(rule.words().count(), Expr::places(text).len());
    }
});
