//! Any text as a condition over any query: an error at a place in its text, or an answer that its parts agree with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::authz::condition::{Condition, Place, Scene};
use portcullis::authz::identity::Caller;
use portcullis::authz::gateways::Dialect;
use portcullis::authz::request::{Asker, Header, Proof, Raw, Relaxed, Request};
use portcullis::authz::route::Captures;
use portcullis::authz::rule;
use portcullis::authz::time::Timestamp;

fuzz_target!(|input: &str| {
    let (text, query) = input.split_once("\n\n").unwrap_or((input, "a=1&a=2"));
    let place = Place { captures: &["id"], public: false, hidden: &[], hidden_queries: &[], lent: &[] };
    let condition = match Condition::parse(text, &place) {
        Ok(condition) => condition,
        Err(error) => {
            assert!(text.get(error.at.clone()).is_some(), "{error:?}");
            return;
        }
    };
    let target = format!("/a?{query}");
    let headers = vec![Header { name: b"x-a", value: query.as_bytes() }];
    let (method, host) = (&b"GET"[..], &b"h"[..]);
    let (proof, principal) = (Proof::default(), &b""[..]);
    let raw = Raw { proof, principal, ..Raw::new(Dialect::Envoy, Asker::Unix, [method, target.as_bytes(), host], headers) };
    let Ok(request) = Request::read(&raw, Relaxed::default()) else { return };
    let names = ["id".into()];
    let captures = Captures::new(&names, [query]);
    let caller = Caller::default();
    let who = rule::Scene { caller: &caller, captures: &captures, address: None };
    let scene = Scene { request: &request, who, now: Timestamp::from_millis(1_800_000_000_000), lent: &[] };
    let told = condition.holds(&scene);
    let parts = condition.tell(&scene);
    if let Ok(told) = told {
        assert_eq!(told, parts.iter().all(|part| part.told == Ok(true)));
    }
});
