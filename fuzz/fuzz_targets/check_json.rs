//! Any bytes as a check in JSON, and as a question of AuthZEN: always an answer of JSON, and an allow only of what any other
//! reader of JSON reads as a check too.
#![no_main]

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use portcullis::authorizer::{Authorizer, Sealer};
use portcullis::authz::decision_id::SealingKey;
use portcullis::authz::request::{Asker, Proof};
use portcullis::config::compile::compile;
use portcullis::gateway::json::{self, authzen};
use portcullis::live::Live;
use portcullis::observe::Recorder;
use portcullis::observe::audit::Audit;
use portcullis::observe::metrics::Metrics;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

const POLICY: &str = "
issuers:
  main: {issuer: https://id.test, jwks: file:jwks.json, audience: api, roles: roles, groups: groups}
gateways:
  edge: {by: unix, dialect: json, believes: [client_address, certificate], client_address: {from: connection}}
services: {cart: spiffe://td.test/cart}
pdp_clients: {portal: {by: unix, issuers: [main, services]}}
headers: {X-User-ID: sub, X-User-Roles: roles}
query: {remove: [debug]}
routes:
  /public/**: {allow: public, cache: 10s}
  /cart: service:cart
  /anyone/{id}: {allow: anyone, when: \"!('x-a' in request.headers)\", cache: 5s}
  /**: role:dev and not group:out
deny: {far: network:192.0.2.0/24}
";
const JWKS: &[u8] = include_bytes!("../../tests/captures/jwks.json");

thread_local! {
    static SITE: (Runtime, Authorizer) = site();
}

fn site() -> (Runtime, Authorizer) {
    let (compiled, problems) = compile("policy.yaml", POLICY, &|_| Ok(JWKS.to_vec()));
    let compiled = compiled.unwrap_or_else(|| panic!("{}", problems.render(false)));
    let (live, publisher, _) = Live::new();
    publisher.publish_policy(compiled.policy, HashMap::from_iter(compiled.fixed));
    let sealer = Sealer::new(Arc::new(SealingKey::new(&[7; 32]).unwrap()), 1);
    let recorder = Recorder::new(Audit::off(), Metrics::default().core());
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    (runtime, Authorizer::new(live, recorder, sealer, portcullis::store::Store::memory()))
}

fuzz_target!(|bytes: &[u8]| {
    let text = Bytes::copy_from_slice(bytes);
    SITE.with(|(runtime, authorizer)| {
        let asked = json::check(authorizer, Asker::Unix, Proof::default(), Ok(text.clone()));
        let json::Answer { status, body } = runtime.block_on(asked);
        let answer: Value = serde_json::from_slice(&body).expect("JSON");
        match (answer["verdict"].as_str(), status) {
            (Some("allow"), 200) => {
                let check: Value = serde_json::from_slice(bytes).expect("JSON");
                assert!(check["method"].is_string() && check["headers"].is_object());
                let path = check["path"].as_str().expect("a path");
                assert!(path.starts_with('/') && !path.split('?').next().is_some_and(|path| path.contains("/../")));
                assert!(!answer["headers"]["set"].as_object().expect("headers").contains_key("x-user-id"));
            }
            (Some("deny"), 200 | 400) => assert!(answer["status"].as_u64().is_some_and(|status| status >= 302)),
            other => panic!("{other:?}"),
        }
        for several in [false, true] {
            let asked = (Asker::Unix, Proof::default());
            let authzen::Answer { status, body } = authzen::evaluate(authorizer, asked, Ok(text.clone()), several);
            if status == 200 {
                let answer: Value = serde_json::from_slice(&body).expect("JSON");
                assert!(answer["decision"].is_boolean() || answer["evaluations"].is_array());
            } else {
                assert_eq!(status, 400);
            }
        }
    });
});
