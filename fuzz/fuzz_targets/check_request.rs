//! Any bytes as a check: always an answer that Envoy can read, and an allow of a known caller only for the one token
//! that the seeds hold.
#![no_main]

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use portcullis::authorizer::{Authorizer, Sealer};
use portcullis::authz::decision_id::SealingKey;
use portcullis::authz::request::{Asker, Proof};
use portcullis::config::compile::compile;
use portcullis::gateway::envoy;
use portcullis::live::Live;
use portcullis::observe::Recorder;
use portcullis::observe::audit::Audit;
use portcullis::observe::metrics::Metrics;
use tokio::runtime::{Builder, Runtime};

const POLICY: &str = "
issuers:
  probe: {issuer: https://issuer.probe.test/, jwks: file:jwks.json, audience: api.probe.test, roles: groups}
gateways:
  edge: {by: unix, believes: [client_address], client_address: {from: xff}}
headers: {X-User-ID: sub, X-User-Roles: roles}
public_url: https://app.probe.test
sign_in: https://login.probe.test/?to={url}
routes:
  app.probe.test/**: role:dev
  /api/**: scope:read:items
  /probe.v1.Items/Get*: signed-in
  example.test/ctx/**: public
  example.test/**: anyone
guards:
  /secure/**: network:127.0.0.0/8
deny:
  far: network:192.0.2.0/24 and role:ops
";
const JWKS: &[u8] = include_bytes!("../../tests/captures/jwks.json");

thread_local! {
    static SITE: (Runtime, Authorizer) = site();
}

fn site() -> (Runtime, Authorizer) {
    let (compiled, problems) = compile("policy.yaml", POLICY, &|_| -> io::Result<_> { Ok(JWKS.to_vec()) });
    let compiled = compiled.unwrap_or_else(|| panic!("{}", problems.render(false)));
    let (live, publisher, _) = Live::new();
    publisher.publish_policy(compiled.policy, HashMap::from_iter(compiled.fixed));
    let sealer = Sealer::new(Arc::new(SealingKey::new(&[7; 32]).unwrap()), 1);
    let recorder = Recorder::new(Audit::off(), Metrics::default().core());
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    (runtime, Authorizer::new(live, recorder, sealer, portcullis::store::Store::memory()))
}

fuzz_target!(|bytes: &[u8]| {
    let message = Bytes::copy_from_slice(bytes);
    SITE.with(|(runtime, authorizer)| {
        let frame = runtime.block_on(envoy::check(authorizer, Asker::Unix, Proof::default(), Ok(message), None));
        let length = u32::from_be_bytes([frame[1], frame[2], frame[3], frame[4]]) as usize;
        assert!(frame[0] == 0 && length == frame.len() - 5 && length > 0);
        // Field 1, the status: empty is code 0, which is an allow.
        assert_eq!(frame[5], 0x0a);
        let is_allow = frame[6] == 0;
        assert_eq!(frame[7 + usize::from(frame[6])], if is_allow { 0x1a } else { 0x12 });
    });
});
