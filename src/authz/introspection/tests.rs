//! What is opaque, what an answer may be, and how long it is believed.

use std::sync::Arc;
use std::time::Duration;

use super::super::issuer::Issuer;
use super::super::reason::Reason;
use super::super::time::Timestamp;
use super::*;
use crate::config::compile;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// An issuer with these lines beside its endpoint.
fn issuer(introspection: &str, more: &str) -> Issuer {
    let text = format!(
        "issuers:\n  main:\n    issuer: https://id.test\n    audience: api\n    introspection: {{url: https://id.test/i, \
         client_id: edge, client_secret: 'file:secret', {introspection}}}\n{more}\nroutes: {{/a: signed-in}}\n"
    );
    let (compiled, problems) = compile("p.yaml", &text, &|_| Ok(b"s3cret".to_vec()));
    let compiled = compiled.unwrap_or_else(|| panic!("{}", problems.render(false)));
    Issuer::new(Arc::clone(&compiled.policy.issuers[0]), Default::default())
}

fn told(issuer: &Issuer, token: &str, answer: &str, now: Timestamp) -> Result<Arc<Identity>, Reason> {
    let token = issuer.opaque(token.as_bytes()).unwrap();
    issuer.introspected(&token, Ok(answer.as_bytes()), now).told().cloned()
}

/// Whether an answer about a token is remembered then, and as what.
fn remembered(issuer: &Issuer, token: &str, now: Timestamp) -> Option<Result<(), Reason>> {
    let token = issuer.opaque(token.as_bytes()).unwrap();
    issuer.already(&token, now).map(|answer| answer.told().map(drop))
}

fn active(more: &str) -> String {
    format!(r#"{{"active":true,"sub":"u1","aud":"api"{more}}}"#)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test] // J29
fn only_a_boolean_true_is_active() {
    let issuer = issuer("", "");
    let of = |active: &str| told(&issuer, "t", &format!(r#"{{{active}"sub":"u1","aud":"api"}}"#), NOW).map(drop);
    assert_eq!(of(r#""active":true,"#), Ok(()));
    assert_eq!(of(r#""active":false,"#), Err(Reason::TokenInactive));
    for nonsense in [
        "",
        r#""active":"true","#,
        r#""active":1,"#,
        r#""active":null,"#,
        r#""active":[true],"#,
        r#""active":{"active":true},"#,
        r#""Active":true,"#,
        r#""active":true,"active":true,"#,
        r#""active":false,"active":true,"#,
        r#""active":true,"\u0061ctive":false,"#,
        r#""token_introspection":{"active":true},"#,
    ] {
        assert_eq!(of(nonsense), Err(Reason::IntrospectionRefused), "{nonsense}");
    }
}

#[test] // J29
fn an_answer_is_one_json_object_of_bounded_size_and_depth() {
    let issuer = issuer("", "");
    let of = |answer: &str| told(&issuer, "t", answer, NOW).map(drop);
    let padded = |length: usize| {
        let bare = active(r#","x":"""#).len();
        active(&format!(r#","x":"{}""#, "y".repeat(length - bare)))
    };
    assert_eq!(of(&padded(MAX_ANSWER)), Ok(()));
    assert_eq!(of(&padded(MAX_ANSWER + 1)), Err(Reason::IntrospectionRefused));
    let nested = |depth: usize| active(&format!(r#","x":{}{}"#, "[".repeat(depth), "]".repeat(depth)));
    assert_eq!(of(&nested(20)), Ok(()));
    assert_eq!(of(&nested(40)), Err(Reason::IntrospectionRefused));
    // A signed answer (RFC 9701), whatever its `typ`.
    let jwt = "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.eyJ0b2tlbl9pbnRyb3NwZWN0aW9uIjp7ImFjdGl2ZSI6dHJ1ZX19.";
    for answer in ["", "true", "[]", "<html></html>", jwt, "{\"active\":true,}", "{\"active\":true}x", "\u{feff}{}"] {
        assert_eq!(of(answer), Err(Reason::IntrospectionRefused), "{answer}");
    }
    let token = issuer.opaque(b"t").unwrap();
    let not_text = [br#"{"active":true,"sub":"u"#.as_slice(), b"\xff\"}"].concat();
    let told = issuer.introspected(&token, Ok(&not_text), NOW);
    assert_eq!(told.told().map(drop), Err(Reason::IntrospectionRefused));
}

#[test] // J29
fn an_answer_is_of_this_issuer_for_this_audience_about_an_access_token_and_not_past() {
    let issuer = issuer("", "");
    let of = |more: &str| told(&issuer, "t", &active(more), NOW).map(drop);
    for good in [
        r#","iss":"https://id.test""#,
        r#","token_type":"Bearer""#,
        r#","token_type":"bearer""#,
        r#","token_use":"access_token""#,
        r#","exp":1800000001"#,
        r#","exp":1799999941"#,
        r#","exp":1800000000.5,"nbf":1800000060,"iat":1800000060"#,
    ] {
        assert_eq!(of(good), Ok(()), "{good}");
    }
    for (bad, reason) in [
        (r#","iss":"https://evil.test""#, Reason::IssuerRefused),
        (r#","iss":"https://id.test/""#, Reason::IssuerRefused),
        (r#","iss":["https://id.test"]"#, Reason::ClaimsMalformed),
        (r#","iss":null"#, Reason::ClaimsMalformed),
        (r#","token_type":"refresh_token""#, Reason::TokenTypeRefused),
        (r#","token_type":"N_A""#, Reason::TokenTypeRefused),
        (r#","token_type":null"#, Reason::TokenTypeRefused),
        (r#","token_type":"Bearer ""#, Reason::TokenTypeRefused),
        (r#","token_use":"refresh_token""#, Reason::TokenTypeRefused),
        (r#","exp":1799999940"#, Reason::TokenExpired),
        (r#","exp":0"#, Reason::TokenExpired),
        (r#","exp":-1"#, Reason::ClaimsMalformed),
        (r#","exp":"1800000100""#, Reason::ClaimsMalformed),
        (r#","exp":1e99"#, Reason::ClaimsMalformed),
        (r#","nbf":1800000061"#, Reason::TokenNotYetValid),
        (r#","iat":1800000061"#, Reason::TokenNotYetValid),
        (r#","iat":true"#, Reason::ClaimsMalformed),
        (r#","jti":1"#, Reason::ClaimsMalformed),
    ] {
        assert_eq!(of(bad), Err(reason), "{bad}");
    }
    let whole = |answer: &str| told(&issuer, "t", answer, NOW).map(drop);
    assert_eq!(whole(r#"{"active":true,"sub":"u1","aud":"web"}"#), Err(Reason::AudienceRefused));
    assert_eq!(whole(r#"{"active":true,"sub":"u1"}"#), Err(Reason::ClaimsMalformed));
    assert_eq!(whole(r#"{"active":true,"username":"u1","client_id":"c","aud":"api"}"#), Err(Reason::ClaimsMalformed));
}

#[test] // J05
fn an_opaque_token_that_was_issued_too_early_or_who_knows_when_is_refused() {
    let issuer = issuer("", "    reject_issued_before: 2027-01-15T00:00:00Z");
    let of = |more: &str| told(&issuer, "t", &active(more), NOW).map(drop);
    assert_eq!(of(r#","iat":1799971200"#), Ok(()));
    assert_eq!(of(r#","iat":1799971199"#), Err(Reason::IssuedTooEarly));
    assert_eq!(of(""), Err(Reason::IssuedTooEarly));
}

#[test]
fn a_token_of_an_issuer_of_many_tenants_is_one_of_theirs_or_nobodys() {
    let text = "issuers: {main: {issuer: 'https://id.test/{tid}', tenants: [t1], audience: api, introspection: {url: \
                'https://id.test/i', client_id: edge, client_secret: 'file:secret'}}}\nroutes: {/a: signed-in}\n";
    let (compiled, problems) = compile("p.yaml", text, &|_| Ok(b"s3cret".to_vec()));
    let compiled = compiled.unwrap_or_else(|| panic!("{}", problems.render(false)));
    let issuer = Issuer::new(Arc::clone(&compiled.policy.issuers[0]), Default::default());
    let of =
        |more: &str| told(&issuer, "t", &active(more), NOW).map(|identity| identity.principal().subject.to_string());
    assert_eq!(of(r#","iss":"https://id.test/t1","tid":"t1""#).as_deref(), Ok("t1:u1"));
    assert_eq!(of(r#","iss":"https://id.test/t2","tid":"t2""#), Err(Reason::IssuerRefused));
    assert_eq!(of(r#","iss":"https://id.test/t1","tid":"t2""#), Err(Reason::IssuerRefused));
    assert_eq!(of(r#","tid":"t1""#), Err(Reason::ClaimsMalformed));
}

#[test] // J29
fn the_subject_is_what_the_policy_says_and_never_another_member() {
    let answer = r#"{"active":true,"sub":"1","username":"ann","client_id":"app","aud":"api"}"#;
    for (subject, expected) in [("sub", "1"), ("username", "ann"), ("client_id", "app")] {
        let issuer = issuer(&format!("subject: {subject}"), "");
        assert_eq!(&*told(&issuer, "t", answer, NOW).unwrap().principal().subject, expected);
        let without = answer.replace(&format!(r#""{subject}":"{expected}","#), "");
        assert_eq!(told(&issuer, "t", &without, NOW).map(drop), Err(Reason::ClaimsMalformed), "{without}");
    }
}

#[test]
fn what_has_the_shape_of_a_jwt_is_not_opaque() {
    for jwt in [
        "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1In0.c2ln",
        "eyJhbGciOiJFUzI1NiJ9.e30",
        "eyJhbGciOiJFUzI1NiJ9.",
        "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..aXY.Y3Q.dGFn",
        "e30.e30.e30",
        "e30=.e30.e30",
        "IHt9.e30.e30",
        "CnsKfQ.e30.e30",
        "77u_e30.e30.e30",
        "77u/e30.e30.e30",
        // What a careless reader would pass over at the end of the header.
        "eyJhbGciOiJFUzI1NiJ9a.e30.e30",
        "eyJhbGciOiJFUzI1NiJ8.e30.e30",
    ] {
        assert_eq!(is_opaque(jwt.as_bytes()), Ok(false), "{jwt}");
    }
    for opaque in
        ["a", "2YotnFZFEjr1zCsicMWpAA", "ya29.c.b0AXv0", "ory_at_x.y", "a.b.c.d.e", "A-z_0.9~+/==", "eyJhbGci"]
    {
        assert_eq!(is_opaque(opaque.as_bytes()), Ok(true), "{opaque}");
    }
    for bad in ["", "=", "a=b", "a b", "a,b", "a\n", "a\0", "\u{e9}", "a%20b", "a&token=b", "a\"", "a\r\nHost: x"] {
        assert_eq!(is_opaque(bad.as_bytes()), Err(Reason::TokenMalformed), "{bad:?}");
    }
    assert_eq!(is_opaque(&[b'a'; MAX_TOKEN]), Ok(true));
    assert_eq!(is_opaque(&[b'a'; MAX_TOKEN + 1]), Err(Reason::TokenTooLarge));
}

#[test] // C01
fn an_answer_is_never_believed_past_the_tokens_end_nor_longer_than_the_policy_says() {
    let ends = issuer("cache: 60s", "");
    told(&ends, "short", &active(r#","exp":1800000010"#), NOW).unwrap();
    told(&ends, "long", &active(r#","exp":1800009999"#), NOW).unwrap();
    told(&ends, "open", &active(""), NOW).unwrap();
    for (token, lasts) in [("short", 10), ("long", 60), ("open", 60)] {
        assert_eq!(remembered(&ends, token, NOW), Some(Ok(())), "{token}");
        let end = NOW.plus(seconds(lasts));
        let just_before = Timestamp::from_millis(end.as_millis() - 1);
        assert_eq!(remembered(&ends, token, just_before), Some(Ok(())), "{token}");
        assert_eq!(remembered(&ends, token, end), None, "{token}");
    }
    // Within the leeway a token passes, and is asked about each time.
    told(&ends, "late", &active(r#","exp":1799999990"#), NOW).unwrap();
    assert_eq!(remembered(&ends, "late", NOW), None);
    let always = issuer("cache: 0s", "");
    told(&always, "t", &active(""), NOW).unwrap();
    assert_eq!(told(&always, "u", r#"{"active":false}"#, NOW).map(drop), Err(Reason::TokenInactive));
    assert_eq!((remembered(&always, "t", NOW), remembered(&always, "u", NOW)), (None, None));
}

#[test] // C06
fn a_clock_that_is_set_back_finds_no_answer() {
    let issuer = issuer("", "");
    told(&issuer, "t", &active(""), NOW).unwrap();
    assert_eq!(remembered(&issuer, "t", Timestamp::from_millis(NOW.as_millis() - 1)), None);
}

#[test] // C05
fn that_a_token_is_no_good_is_remembered_shortly_and_that_nothing_is_known_never() {
    let issuer = issuer("cache: 60s", "");
    let no_good = [
        ("inactive", r#"{"active":false}"#.to_owned(), Reason::TokenInactive),
        ("audience", r#"{"active":true,"sub":"u","aud":"x"}"#.to_owned(), Reason::AudienceRefused),
    ];
    for (token, answer, reason) in &no_good {
        assert_eq!(told(&issuer, token, answer, NOW).map(drop), Err(*reason));
        assert_eq!(remembered(&issuer, token, NOW.plus(seconds(9))), Some(Err(*reason)));
        assert_eq!(remembered(&issuer, token, NOW.plus(seconds(10))), None);
    }
    let soon = active(r#","nbf":1800000061"#);
    assert_eq!(told(&issuer, "soon", &soon, NOW).map(drop), Err(Reason::TokenNotYetValid));
    assert_eq!(told(&issuer, "nonsense", "<html>", NOW).map(drop), Err(Reason::IntrospectionRefused));
    let token = issuer.opaque(b"down").unwrap();
    let down = issuer.introspected(&token, Err(Reason::IntrospectionUnavailable), NOW);
    assert_eq!(down.told().map(drop), Err(Reason::IntrospectionUnavailable));
    for token in ["soon", "nonsense", "down"] {
        assert_eq!(remembered(&issuer, token, NOW), None, "{token}");
    }
    // What was good and is not any more is forgotten, and the other way round.
    told(&issuer, "t", &active(""), NOW).unwrap();
    let _ = told(&issuer, "t", r#"{"active":false}"#, NOW);
    assert_eq!(remembered(&issuer, "t", NOW), Some(Err(Reason::TokenInactive)));
    told(&issuer, "t", &active(""), NOW).unwrap();
    assert_eq!(remembered(&issuer, "t", NOW), Some(Ok(())));
    // An outage takes nothing away that is believed.
    let known = issuer.opaque(b"t").unwrap();
    let _ = issuer.introspected(&known, Err(Reason::IntrospectionUnavailable), NOW);
    assert_eq!(remembered(&issuer, "t", NOW), Some(Ok(())));
}

#[test] // C05
fn garbage_drives_no_good_answer_out_of_memory() {
    let issuer = issuer("cache: 60s", "cache: {tokens: 64KiB}");
    told(&issuer, "good", &active(""), NOW).unwrap();
    for at in 0..40_000 {
        let _ = told(&issuer, &format!("garbage-{at}"), r#"{"active":false}"#, NOW);
    }
    assert_eq!(remembered(&issuer, "good", NOW), Some(Ok(())));
    let left = (0..40_000).filter(|at| remembered(&issuer, &format!("garbage-{at}"), NOW).is_some()).count();
    assert!((1..=17_000).contains(&left), "{left}");
}

#[test]
fn what_is_remembered_is_bounded_in_bytes() {
    let issuer = issuer("cache: 60s", "cache: {tokens: 256KiB}");
    let large = active(&format!(r#","x":"{}""#, "y".repeat(4_000)));
    for at in 0..500 {
        told(&issuer, &format!("t{at}"), &large, NOW).unwrap();
    }
    let left = (0..500).filter(|at| remembered(&issuer, &format!("t{at}"), NOW).is_some()).count();
    assert!((1..=32).contains(&left), "{left}");
}

#[test] // C03, C04
fn an_answer_is_bound_to_issuer_endpoint_client_and_token() {
    let key = |issuer: &Issuer, token: &str| *issuer.opaque(token.as_bytes()).unwrap().key();
    let issuers = [
        issuer("", ""),
        issuer("subject: username", ""),
        issuer("cache: 1s", ""),
        issuer("auth: post", ""),
        issuer("", "    require: claim:x=y"),
        issuer("", "    subject_prefix: a"),
    ];
    let mut keys: Vec<_> = issuers.iter().flat_map(|issuer| ["a", "b", "ab"].map(|token| key(issuer, token))).collect();
    let text = "issuers: {main: {issuer: https://id.test, audience: api, introspection: {url: https://id.test/i, client_id: \
                edge, client_secret: 'file:secret'}}}\nroutes: {/a: signed-in}\n";
    for secret in ["s3cret", "0ther"] {
        let (compiled, _) = compile("p.yaml", text, &|_| Ok(secret.as_bytes().to_vec()));
        let policy = Arc::clone(&compiled.unwrap().policy.issuers[0]);
        keys.push(key(&Issuer::new(policy, Default::default()), "a"));
    }
    keys.sort_unstable();
    keys.dedup();
    // The policy of the last but one pair is that of the first issuer.
    assert_eq!(keys.len(), issuers.len() * 3 + 1);
}

#[test] // C02
fn new_keys_leave_answers_and_another_policy_takes_them_away() {
    use crate::authz::algorithm::Algorithm;
    use crate::dev::mint::SigningKey;
    let before = issuer("", "");
    told(&before, "t", &active(""), NOW).unwrap();
    let keys = SigningKey::shared(Algorithm::Es256).key_set("k");
    let state = crate::authz::issuer::KeyState { keys, ..Default::default() };
    assert_eq!(remembered(&before.refreshed(state), "t", NOW), Some(Ok(())));
    let token = before.opaque(b"t").unwrap();
    let after = issuer("subject: username", "");
    assert_eq!(after.already(&token, NOW), None);
    assert_eq!(remembered(&after, "t", NOW), None);
}

#[test]
fn what_came_of_asking_is_counted() {
    let issuer = issuer("", "");
    told(&issuer, "t", &active(""), NOW).unwrap();
    let _ = told(&issuer, "u", r#"{"active":false}"#, NOW);
    let _ = told(&issuer, "v", "nonsense", NOW);
    for token in ["t", "u", "v"] {
        let _ = remembered(&issuer, token, NOW);
    }
    let expected = Counted { hits: 2, active: 1, inactive: 1, failures: 1 };
    assert_eq!(issuer.answers().unwrap().counted(), expected);
}

#[test]
fn no_token_and_no_secret_is_in_any_debug() {
    let issuer = issuer("", "");
    let token = issuer.opaque(b"planted-token").unwrap();
    let shown =
        format!("{token:?} {:?} {:?}", issuer.policy(), issuer.introspected(&token, Ok(b"planted-answer"), NOW));
    assert!(!shown.contains("planted") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn assertions_are_signed_for_one_audience_and_a_minute() {
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::client::{ClientKey, ClientKeyFault, Signing};
    use crate::authz::algorithm::Algorithm;
    use crate::authz::keys::KeySet;
    use crate::authz::token::{Audience, TokenTypes, Unverified};

    let pem = |kind: &str, der: &[u8]| {
        format!("-----BEGIN {kind} KEY-----\n{}\n-----END {kind} KEY-----\n", STANDARD.encode(der))
    };
    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let ed = Ed25519KeyPair::generate().unwrap();
    let rsa_der: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    let (ec_der, ed_der) = (ec.to_pkcs8v1().unwrap(), ed.to_pkcs8v1().unwrap());
    let private = [rsa_der.as_ref(), ec_der.as_ref(), ed_der.as_ref()].map(|der| pem("PRIVATE", der));
    let rsa_public: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
    let ec_public: PublicKeyX509Der<'_> = ec.public_key().as_der().unwrap();
    let ed_public: PublicKeyX509Der<'_> = ed.public_key().as_der().unwrap();
    let public = [rsa_public.as_ref(), ec_public.as_ref(), ed_public.as_ref()].map(|der| pem("PUBLIC", der));
    let ways =
        [(Signing::Rs256, Algorithm::Rs256), (Signing::Es256, Algorithm::Es256), (Signing::EdDsa, Algorithm::EdDsa)];
    for (at, (signing, algorithm)) in ways.into_iter().enumerate() {
        let key = ClientKey::from_pem(private[at].as_bytes(), signing, None).unwrap();
        let assertion = key.assertion("edge", "https://id.test", "n1", NOW).unwrap();
        let rules = TokenRules {
            also: Box::default(),
            tenants: None,
            balancers: Box::default(),
            issuer: "edge".into(),
            audience: Audience {
                claim: crate::authz::identity::ClaimPath::parse("aud").unwrap(),
                any_of: Box::new(["https://id.test".into()]),
            },
            algorithms: [algorithm].into_iter().collect(),
            types: TokenTypes::default(),
            leeway: Duration::ZERO,
            max_lifetime: Some(Duration::from_secs(60)),
            denied_kids: Box::default(),
            issued_from: None,
        };
        let keys = KeySet::from_pem(&public[at], rules.algorithms).unwrap();
        let verified = Unverified::read(assertion.as_bytes()).unwrap().verify(&keys, &rules, NOW).unwrap();
        assert_eq!((&*verified.subject, verified.token_id.as_deref()), ("edge", Some("n1")));
        assert_eq!(verified.expires, NOW.plus(seconds(60)));
        let other = private[(at + 1) % 3].as_bytes();
        assert_eq!(ClientKey::from_pem(other, signing, None).err(), Some(ClientKeyFault::OtherKey));
        assert_eq!(ClientKey::from_pem(public[at].as_bytes(), signing, None).err(), Some(ClientKeyFault::NoKey));
        let named = ClientKey::from_pem(private[at].as_bytes(), signing, Some("k1")).unwrap();
        let header = named.assertion("edge", "x", "n1", NOW).unwrap();
        let header = URL_SAFE_NO_PAD.decode(header.split('.').next().unwrap()).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(header, serde_json::json!({"alg": signing.name(), "typ": "JWT", "kid": "k1"}));
        assert!(!format!("{named:?}").contains("PRIVATE"));
    }
}
