//! Any bytes as what an issuer answers about an opaque token: an identity or a reason, never a panic; what makes an
//! identity is one JSON object that says `"active":true`.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use portcullis::authz::issuer::{Issuer, KeyState};
use portcullis::authz::time::Timestamp;
use portcullis::config::compile;

const POLICY: &str = "
issuers:
  main:
    issuer: https://id.test
    introspection: {url: https://id.test/i, client_id: edge, client_secret: 'file:secret'}
    audience: api
    roles: realm.roles
    require: not claim:suspended=true
routes: {/a: signed-in}
";

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| {
    let (compiled, problems) = compile("p.yaml", POLICY, &|_| Ok(b"secret".to_vec()));
    let compiled = compiled.unwrap_or_else(|| panic!("{problems}"));
    Issuer::new(Arc::clone(&compiled.policy.issuers[0]), KeyState::default())
});

fuzz_target!(|bytes: &[u8]| {
    let Some(token) = ISSUER.opaque(b"token") else { return };
    let told = ISSUER.introspected(&token, Ok(bytes), Timestamp::from_secs(1_800_000_000));
    match told.told() {
        Ok(identity) => {
            let answer: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
            assert_eq!(answer["active"], true);
            assert_eq!(answer["sub"].as_str(), Some(&*identity.principal().subject));
        }
        Err(reason) => assert!([401, 503].contains(&reason.status())),
    }
});
