//! Possession, case by case (THREATS J30), through the whole decision.
#![expect(clippy::arithmetic_side_effects, reason = "small numbers of the tests' own")]

use std::collections::HashSet;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::authz::decision::Verdict;
use crate::authz::gateways::Dialect;
use crate::authz::issuer::IssuerId;
use crate::authz::request::{Asker, Header, Raw, Relaxed};
use crate::authz::snapshot::{Facts, Question, Step};
use crate::config::compile;
use crate::dev::prover::{Occasion, Prover, hash};
use crate::dev::rehearsal::{NOW, Rehearsal};

const URL: &str = "https://api.test/a/b";
const DER: &[u8] = b"a certificate";

/// A site whose issuer's tokens are proven in some way, a caller with a key, and a store.
struct Stage {
    rehearsal: Rehearsal,
    prover: Prover,
    burned: HashSet<[u8; 32]>,
}

/// What a caller sends.
#[derive(Clone)]
struct Sent {
    scheme: &'static str,
    token: String,
    proofs: Vec<String>,
    certificate: Option<&'static [u8]>,
    believed: bool,
    method: &'static str,
    at: Timestamp,
}

fn secs(at: Timestamp) -> i64 {
    at.as_millis() / 1_000
}

impl Stage {
    fn new(proof: &str) -> Self {
        let text = format!(
            "issuers: {{main: {{url: https://id.test, audience: shop{proof}}}}}
gateways: {{mesh: {{by: unix, believes: [certificate]}}}}
routes: {{/a/**: signed-in, /open: anyone, /forbidden: claim:sub=nobody, /public: public}}"
        );
        let (compiled, problems) = compile("p", &text, &|_| Err(std::io::ErrorKind::NotFound.into()));
        let compiled = compiled.unwrap_or_else(|| panic!("{}", problems.render(false)));
        let prover = Prover::new([Algorithm::Es256].into_iter().collect());
        Self { rehearsal: Rehearsal::new(&compiled), prover, burned: HashSet::new() }
    }

    /// A token with this `cnf`; null for one without.
    fn token(&self, cnf: Value) -> String {
        let mut claims = json!({"iss": "https://id.test", "sub": "u1", "aud": "shop", "cnf": cnf,
            "iat": secs(NOW) - 1_000, "exp": secs(NOW) + 100_000});
        if claims["cnf"].is_null() {
            claims.as_object_mut().unwrap().remove("cnf");
        }
        self.rehearsal.sign(IssuerId(0), Some("JWT"), &claims.to_string()).unwrap()
    }

    fn occasion<'a>(&self, token: &'a str, id: &'a str) -> Occasion<'a> {
        Occasion { method: "GET", url: URL, token, at: secs(NOW), id, nonce: None }
    }

    /// What an honest caller sends.
    fn honest(&self, id: &str) -> Sent {
        let token = self.token(json!({"jkt": self.prover.thumbprint()}));
        let proofs = vec![self.prover.proof(&self.occasion(&token, id))];
        Sent { scheme: "DPoP", token, proofs, certificate: None, believed: true, method: "GET", at: NOW }
    }

    /// The same with members of the proof's header and claims changed; null removes one.
    fn changed(&self, header: Value, claims: Value) -> Sent {
        let sent = self.honest("1");
        let (mut head, mut body) = self.prover.parts(&self.occasion(&sent.token, "1"));
        for (members, changes) in [(&mut head, header), (&mut body, claims)] {
            for (name, value) in changes.as_object().unwrap() {
                if value.is_null() { _ = members.remove(name) } else { _ = members.insert(name.clone(), value.clone()) }
            }
        }
        Sent { proofs: vec![self.prover.sign(head, body)], ..sent }
    }

    /// Decides, with a store that remembers for ever.
    fn ask(&mut self, sent: &Sent) -> String {
        self.ask_for("/a/b?q=1", sent).0
    }

    /// The reason or `allow`; the challenge or the header that the caller gets; how often the store was asked.
    fn ask_for(&mut self, target: &str, sent: &Sent) -> (String, String, usize) {
        let mut lines = vec![("authorization".to_owned(), format!("{} {}", sent.scheme, sent.token))];
        lines.extend(sent.proofs.iter().map(|proof| ("dpop".to_owned(), proof.clone())));
        lines.push((":method".into(), sent.method.into()));
        let pem = sent.certificate.map(|der| {
            let body = base64::engine::general_purpose::STANDARD.encode(der).replace('=', "%3D");
            format!("-----BEGIN%20CERTIFICATE-----%0A{body}%0A-----END%20CERTIFICATE-----%0A")
        });
        let raw = Raw {
            certificate: pem.as_deref().unwrap_or_default().as_bytes(),
            ..Raw::new(
                Dialect::Envoy,
                if sent.believed { Asker::Unix } else { Asker::Tcp("192.0.2.1".parse().unwrap()) },
                [sent.method.as_bytes(), target.as_bytes(), b"api.test"],
                lines.iter().map(|(n, v)| Header { name: n.as_bytes(), value: v.as_bytes() }).collect(),
            )
        };
        let request = Request::read(&raw, Relaxed::default()).unwrap();
        let (mut facts, mut asked) = (Facts::default(), 0);
        loop {
            match self.rehearsal.snapshot().decide(Ok(&request), &facts, sent.at) {
                Step::Decided(decision) => {
                    let told = match decision.verdict() {
                        Verdict::Allow(grant) => {
                            let nonce = grant.responses().find(|(name, _)| name == "dpop-nonce");
                            ("allow".into(), nonce.map(|(_, value)| value.clone()).unwrap_or_default())
                        }
                        Verdict::Deny(denial) => {
                            let challenge = denial.challenge().unwrap_or_default().into_owned();
                            let nonce = denial.nonce().map(|nonce| format!(" {nonce}")).unwrap_or_default();
                            (denial.reason().code().to_owned(), Bytes::from(challenge + &nonce))
                        }
                    };
                    return (told.0, String::from_utf8(told.1.to_vec()).unwrap(), asked);
                }
                Step::Needs(Question::Unseen(once)) => {
                    assert_eq!(asked, 0, "the same question twice");
                    asked += 1;
                    let first = self.burned.insert(once.key);
                    facts.unseen = Some((once, if first { Sighting::First } else { Sighting::Again }));
                }
                Step::Needs(question) => panic!("{question:?}"),
            }
        }
    }
}

#[test] // J30
fn a_token_with_its_proof_passes_and_the_proof_passes_once() {
    let mut stage = Stage::new(", proof: dpop");
    let sent = stage.honest("1");
    assert_eq!(stage.ask(&sent), "allow");
    assert_eq!(stage.ask(&sent), "proof_replayed", "the token is remembered, the proof is checked all the same");
    assert_eq!(stage.ask(&stage.honest("2")), "allow");
    let (_, challenge, _) = stage.ask_for("/a/b", &sent);
    assert!(challenge.starts_with(r#"DPoP error="invalid_dpop_proof", algs="RS256 "#), "{challenge}");
}

#[test] // J30
fn a_name_that_was_used_for_another_request_is_used() {
    let mut stage = Stage::new(", proof: dpop");
    assert_eq!(stage.ask(&stage.honest("1")), "allow");
    let other = stage.changed(json!({}), json!({"htm": "POST", "iat": secs(NOW) + 1}));
    assert_eq!(stage.ask(&Sent { method: "POST", ..other }), "proof_replayed");
    let cased = stage.changed(json!({}), json!({"htm": "get"}));
    assert_eq!(stage.ask(&cased), "proof_request_mismatch");
}

#[test] // J30
fn no_proof_is_refused() {
    let mut stage = Stage::new(", proof: dpop");
    let sent = Sent { proofs: vec![], ..stage.honest("1") };
    let (reason, challenge, _) = stage.ask_for("/a/b", &sent);
    assert_eq!(reason, "proof_missing");
    assert!(challenge.starts_with(r#"DPoP error="invalid_dpop_proof""#), "{challenge}");
}

#[test] // J30
fn two_proofs_are_refused() {
    let mut stage = Stage::new(", proof: dpop");
    let (one, two) = (stage.honest("1"), stage.honest("2"));
    let both = vec![one.proofs[0].clone(), two.proofs[0].clone()];
    let joined = vec![both.join(",")];
    let twice = vec![one.proofs[0].clone(), one.proofs[0].clone()];
    for proofs in [both, joined, twice] {
        assert_eq!(stage.ask(&Sent { proofs, ..one.clone() }), "proof_malformed");
    }
    assert_eq!(stage.ask(&one), "allow", "nothing was burned");
}

#[test] // J30
fn a_proof_for_another_method_or_url_is_refused() {
    let mut stage = Stage::new(", proof: dpop");
    for claims in [
        json!({"htm": "POST"}),
        json!({"htm": "get"}),
        json!({"htm": "GET "}),
        json!({"htu": "https://api.test/a"}),
        json!({"htu": "https://api.test/a/B"}),
        json!({"htu": "http://api.test/a/b"}),
        json!({"htu": "https://evil.test/a/b"}),
        json!({"htu": "https://api.test:444/a/b"}),
        json!({"htu": "/a/b"}),
        json!({"htu": ""}),
    ] {
        let sent = stage.changed(json!({}), claims.clone());
        assert_eq!(stage.ask(&sent), "proof_request_mismatch", "{claims}");
    }
    for (at, htu) in
        ["HTTPS://API.test:443/a/b", "https://api.test/%61/b?x=y", "https://api.test/a/b#f"].iter().enumerate()
    {
        let sent = stage.changed(json!({}), json!({"htu": htu, "jti": at.to_string()}));
        assert_eq!(stage.ask(&sent), "allow", "{htu}");
    }
}

#[test] // J30
fn a_proof_is_good_for_a_minute_before_and_after_it_was_made() {
    let mut stage = Stage::new(", proof: dpop");
    let at = |offset: i64| Timestamp::from_secs(secs(NOW) + offset);
    for (id, offset, reason) in
        [("a", 59, "allow"), ("b", 60, "proof_expired"), ("c", -60, "allow"), ("d", -61, "proof_expired")]
    {
        let sent = Sent { at: at(offset), ..stage.honest(id) };
        assert_eq!(stage.ask(&sent), reason, "{offset}");
    }
    for (id, iat) in [("e", json!("1800000000")), ("f", json!(null)), ("g", json!(-1)), ("h", json!([]))] {
        let sent = stage.changed(json!({}), json!({"iat": iat, "jti": id}));
        assert_eq!(stage.ask(&sent), "proof_malformed", "{iat}");
    }
    let ended = stage.changed(json!({}), json!({"exp": secs(NOW)}));
    assert_eq!(stage.ask(&ended), "proof_expired");
    let future = stage.changed(json!({}), json!({"nbf": secs(NOW) + 61}));
    assert_eq!(stage.ask(&future), "proof_expired");
    let mut longer = Stage::new(", proof: {mode: dpop, window: 5m}");
    assert_eq!(longer.ask(&Sent { at: at(299), ..longer.honest("1") }), "allow");
    assert_eq!(longer.ask(&Sent { at: at(300), ..longer.honest("2") }), "proof_expired");
}

#[test] // J30
fn a_proof_is_remembered_until_it_would_be_too_old_in_any_case() {
    let stage = Stage::new(", proof: dpop");
    let sent = stage.honest("1");
    let proof = Proof::read(sent.proofs[0].as_bytes()).unwrap();
    let wanted = Possession { mode: Mode::Dpop, ..Possession::default() };
    let raw = Raw::new(Dialect::Envoy, Asker::Unix, [b"GET", b"/a/b", b"api.test"], vec![]);
    let request = Request::read(&raw, Relaxed::default()).unwrap();
    let token = super::decoded(&hash(sent.token.as_bytes())).unwrap();
    let ask = |now| {
        let (scheme, nonces) = (Scheme::Dpop, None);
        let shown = Shown { request: &request, gateway: None, token: &token, scheme, nonces, verified: None, now };
        proof.check(sent.proofs[0].as_bytes(), proof.thumbprint(), &wanted, &shown)
    };
    // Not a minute from when it arrives: a proof of the future would pass twice.
    let early = Timestamp::from_secs(secs(NOW) - 60);
    for now in [early, NOW] {
        assert_eq!(ask(now).unwrap().until, Timestamp::from_secs(secs(NOW) + 60));
    }
    assert_eq!(ask(NOW.plus(Duration::from_secs(60))), Err(Reason::ProofExpired));
}

#[test] // J30
fn a_proof_is_for_this_very_token() {
    let mut stage = Stage::new(", proof: dpop");
    for ath in [json!(null), json!(""), json!(hash(b"another")), json!(7), json!(hash(b"another") + "=")] {
        let sent = stage.changed(json!({}), json!({ "ath": ath }));
        assert_eq!(stage.ask(&sent), "proof_token_mismatch", "{ath}");
    }
    // A second token of the same key, with the proof of the first.
    let one = stage.honest("1");
    let other = Sent { token: stage.token(json!({"jkt": stage.prover.thumbprint(), "x": 1})), ..one };
    assert_eq!(stage.ask(&other), "proof_token_mismatch");
}

#[test] // J30
fn a_proof_is_signed_by_a_key_pair() {
    let mut stage = Stage::new(", proof: {mode: dpop, algorithms: [ES256, EdDSA]}");
    for alg in ["none", "HS256", "HS512", "es256", "ES256K", ""] {
        let sent = stage.changed(json!({ "alg": alg }), json!({}));
        assert_eq!(stage.ask(&sent), "proof_malformed", "{alg}");
    }
    let unsigned = stage.honest("1");
    let (message, _) = unsigned.proofs[0].rsplit_once('.').unwrap();
    for proof in [format!("{message}."), message.to_owned(), format!("{message}.AAAA.AAAA")] {
        assert_eq!(stage.ask(&Sent { proofs: vec![proof], ..unsigned.clone() }), "proof_malformed");
    }
    let other = Prover::new([Algorithm::Es384].into_iter().collect());
    let token = stage.token(json!({"jkt": other.thumbprint()}));
    let proofs = vec![other.proof(&stage.occasion(&token, "1"))];
    assert_eq!(stage.ask(&Sent { token, proofs, ..unsigned }), "proof_malformed", "ES384 is not in the list");
}

#[test] // J30
fn every_algorithm_of_key_pairs_can_prove() {
    let mut stage = Stage::new(", proof: dpop");
    for algorithm in Algorithm::ASYMMETRIC {
        let prover = Prover::new([*algorithm].into_iter().collect());
        let token = stage.token(json!({"jkt": prover.thumbprint()}));
        let proofs = vec![prover.proof(&stage.occasion(&token, algorithm.name()))];
        let sent = Sent { token, proofs, ..stage.honest("1") };
        assert_eq!(stage.ask(&sent), "allow", "{algorithm}");
    }
}

#[test] // J30
fn a_key_with_private_or_unfit_parts_is_refused() {
    let mut stage = Stage::new(", proof: dpop");
    let jwk = stage.prover.jwk();
    let with = |name: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        json!({ "jwk": jwk })
    };
    for header in [
        with("d", json!("AAAA")),
        with("k", json!("AAAA")),
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("alg", json!("ES384")),
        json!({"jwk": null}),
        json!({"jwk": "text"}),
        json!({"jwk": []}),
        json!({"jwk": {"kty": "oct", "k": "AAAA"}}),
        json!({"jwk": {"kty": "EC"}}),
        json!({"jwk": null, "kid": "k1", "jku": "https://evil.test/jwks"}),
    ] {
        let sent = stage.changed(header.clone(), json!({}));
        assert_eq!(stage.ask(&sent), "proof_malformed", "{header}");
    }
    let sent = stage.changed(with("key_ops", json!(["verify"])), json!({"jti": "as WebCrypto exports it"}));
    assert_eq!(stage.ask(&sent), "allow");
}

#[test] // J24, J30
fn a_key_that_anyone_can_sign_with_proves_nothing() {
    let mut stage = Stage::new(", proof: dpop");
    let x = URL_SAFE_NO_PAD.encode([&[1][..], &[0; 31]].concat());
    let jwk = json!({"crv": "Ed25519", "kty": "OKP", "x": x});
    let token = stage.token(json!({"jkt": hash(jwk.to_string().as_bytes())}));
    let (mut header, claims) = stage.prover.parts(&stage.occasion(&token, "1"));
    header.extend(Map::from_iter([("alg".to_owned(), json!("EdDSA")), ("jwk".to_owned(), jwk)]));
    let signed = stage.prover.sign(header, claims);
    let (message, _) = signed.rsplit_once('.').unwrap();
    let forged = URL_SAFE_NO_PAD.encode([&[1][..], &[0; 63]].concat());
    let sent = Sent { token, proofs: vec![format!("{message}.{forged}")], ..stage.honest("1") };
    assert_eq!(stage.ask(&sent), "proof_malformed");
}

#[test] // J30
fn a_proof_is_of_the_key_that_the_token_is_bound_to() {
    let mut stage = Stage::new(", proof: dpop");
    let thief = Prover::new([Algorithm::EdDsa].into_iter().collect());
    let sent = stage.honest("1");
    let proofs = vec![thief.proof(&stage.occasion(&sent.token, "1"))];
    assert_eq!(stage.ask(&Sent { proofs, ..sent.clone() }), "proof_key_mismatch");
    // The right key in the header, signed by another.
    let (mut header, claims) = thief.parts(&stage.occasion(&sent.token, "1"));
    header.insert("jwk".into(), stage.prover.jwk());
    let proofs = vec![thief.sign(header, claims)];
    assert_eq!(stage.ask(&Sent { proofs, ..sent.clone() }), "proof_malformed", "EdDSA is not what this key signs with");
    let mut forged = sent.proofs[0].clone();
    let last = if forged.pop() == Some('A') { 'Q' } else { 'A' };
    let signature = forged.rfind('.').unwrap() + 1;
    let flipped = if forged.as_bytes()[signature] == b'A' { "B" } else { "A" };
    forged.replace_range(signature..=signature, flipped);
    forged.push(last);
    let reason = stage.ask(&Sent { proofs: vec![forged], ..sent.clone() });
    assert_eq!(reason, "proof_signature_invalid");
    assert_eq!(stage.ask(&sent), "allow", "no name was burned by a proof that anyone could have written");
}

#[test] // J30
fn what_any_other_gate_denies_burns_no_name() {
    let mut stage = Stage::new(", proof: dpop");
    let sent = stage.changed(json!({}), json!({"htu": "https://api.test/forbidden"}));
    assert_eq!(stage.ask_for("/forbidden", &sent).0, "rule_unmet");
    assert_eq!(stage.ask_for("/forbidden", &sent).2, 0, "the store was not asked");
    assert!(stage.burned.is_empty());
}

#[test] // J30
fn a_bound_token_is_no_bearer_token() {
    for proof in [", proof: dpop", ", proof: either", ", proof: required-if-bound", ""] {
        let mut stage = Stage::new(proof);
        let sent = Sent { scheme: "Bearer", ..stage.honest("1") };
        assert_eq!(stage.ask(&sent), "proof_missing", "{proof}: with a proof");
        assert_eq!(stage.ask(&Sent { proofs: vec![], ..sent }), "proof_missing", "{proof}: without");
        assert_eq!(stage.ask(&stage.honest("1")), "allow", "{proof}");
    }
}

#[test] // J30
fn a_bearer_token_is_no_bound_token() {
    for (proof, as_bearer) in [
        (", proof: dpop", "token_unbound"),
        (", proof: either", "token_unbound"),
        (", proof: required-if-bound", "allow"),
        ("", "allow"),
    ] {
        let mut stage = Stage::new(proof);
        let token = stage.token(json!(null));
        let proofs = vec![stage.prover.proof(&stage.occasion(&token, "1"))];
        let sent = Sent { token, proofs, ..stage.honest("1") };
        assert_eq!(stage.ask(&sent), "token_unbound", "{proof}");
        assert_eq!(stage.ask(&Sent { scheme: "Bearer", ..sent }), as_bearer, "{proof}");
    }
}

#[test]
fn proof_none_takes_every_token_as_a_bearer_token() {
    let mut stage = Stage::new(", proof: none");
    let sent = stage.honest("1");
    let bearer = Sent { scheme: "Bearer", proofs: vec![], ..sent.clone() };
    assert_eq!(stage.ask_for("/a/b", &bearer), ("allow".into(), String::new(), 0));
    assert_eq!(stage.ask(&sent), "token_unbound");
}

#[test]
fn a_token_that_is_bound_to_what_is_not_known_here_is_refused() {
    let mut stage = Stage::new("");
    let thumbprint = stage.prover.thumbprint();
    for cnf in [
        json!({}),
        json!({"kid": "k"}),
        json!({"jwk": stage.prover.jwk()}),
        json!("x"),
        json!([]),
        json!({"jkt": ""}),
        json!({"jkt": format!("{thumbprint}=")}),
        json!({"jkt": 7}),
        json!({"jkt": null}),
        json!({"jkt": thumbprint, "x5t#S256": "short"}),
    ] {
        let token = stage.token(cnf.clone());
        let proofs = vec![stage.prover.proof(&stage.occasion(&token, "1"))];
        let sent = Sent { token, proofs, ..stage.honest("1") };
        assert_eq!(stage.ask(&sent), "binding_unknown", "{cnf}");
        assert_eq!(stage.ask(&Sent { scheme: "Bearer", ..sent }), "binding_unknown", "{cnf}");
    }
}

#[test] // J30
fn a_required_nonce_is_asked_for_and_given() {
    let mut stage = Stage::new(", proof: {mode: dpop, nonce: required}");
    let (reason, challenge, _) = stage.ask_for("/a/b", &stage.honest("1"));
    assert_eq!(reason, "proof_nonce_required");
    assert!(challenge.starts_with(r#"DPoP error="use_dpop_nonce", algs=""#), "{challenge}");
    let nonce = challenge.rsplit(' ').next().unwrap().to_owned();
    let with = |stage: &Stage, nonce: Value, id: &str| stage.changed(json!({}), json!({"nonce": nonce, "jti": id}));
    let sent = with(&stage, json!(nonce), "1");
    assert_eq!(stage.ask_for("/a/b", &sent), ("allow".into(), nonce.clone(), 1), "and one for the next proof");
    for other in [json!(""), json!("stale"), json!(7), json!(format!("{nonce}A")), json!(nonce.to_ascii_lowercase())] {
        let sent = with(&stage, other.clone(), "2");
        assert_eq!(stage.ask(&sent), "proof_nonce_required", "{other}");
    }
    let later = NOW.plus(Duration::from_secs(600));
    let stale = stage.changed(json!({}), json!({"nonce": nonce, "jti": "3", "iat": secs(later)}));
    let (reason, challenge, _) = stage.ask_for("/a/b", &Sent { at: later, ..stale });
    assert_eq!(reason, "proof_nonce_required");
    assert!(!challenge.ends_with(&nonce), "a new one is given");
}

#[test] // J30
fn an_offered_nonce_may_be_left_out_and_must_be_current_where_it_is_not() {
    let mut stage = Stage::new(", proof: {mode: dpop, nonce: offered}");
    let (reason, nonce, _) = stage.ask_for("/a/b", &stage.honest("1"));
    assert_eq!((&*reason, nonce.len()), ("allow", 22));
    let stale = stage.changed(json!({}), json!({"nonce": "stale", "jti": "2"}));
    assert_eq!(stage.ask(&stale), "proof_nonce_required");
    let mut none = Stage::new(", proof: dpop");
    let sent = none.changed(json!({}), json!({"nonce": "of somebody else"}));
    assert_eq!(none.ask_for("/a/b", &sent), ("allow".into(), String::new(), 1));
}

#[test]
fn a_route_without_identity_asks_for_no_proof() {
    let mut stage = Stage::new(", proof: dpop");
    let sent = stage.honest("1");
    assert_eq!(stage.ask_for("/public", &sent), ("allow".into(), String::new(), 0));
    assert_eq!(stage.ask_for("/open", &sent).0, "proof_request_mismatch", "what is there and bad is refused");
}

#[test]
fn a_store_that_cannot_tell_is_a_denial_of_its_own() {
    let stage = Stage::new(", proof: dpop");
    let sent = stage.honest("1");
    let lines = [
        ("authorization", format!("DPoP {}", sent.token)),
        ("dpop", sent.proofs[0].clone()),
        (":method", "GET".into()),
    ];
    let raw = Raw::new(
        Dialect::Envoy,
        Asker::Unix,
        [b"GET", b"/a/b", b"api.test"],
        lines.iter().map(|(n, v)| Header { name: n.as_bytes(), value: v.as_bytes() }).collect(),
    );
    let request = Request::read(&raw, Relaxed::default()).unwrap();
    let snapshot = stage.rehearsal.snapshot();
    let Step::Needs(Question::Unseen(once)) = snapshot.decide(Ok(&request), &Facts::default(), NOW) else { panic!() };
    let facts = Facts { unseen: Some((once, Sighting::Unknown)), ..Facts::default() };
    let Step::Decided(decision) = snapshot.decide(Ok(&request), &facts, NOW) else { panic!() };
    let Verdict::Deny(denial) = decision.verdict() else { panic!() };
    assert_eq!((denial.reason(), denial.status(), denial.challenge()), (Reason::ReplayUnknown, 503, None));
    // The answer to another question is none to this one.
    let other = Once { key: [7; 32], ..once };
    let facts = Facts { unseen: Some((other, Sighting::First)), ..Facts::default() };
    assert!(matches!(snapshot.decide(Ok(&request), &facts, NOW), Step::Needs(Question::Unseen(_))));
}

#[test]
fn a_certificate_proves_only_what_a_believed_gateway_says_of_it() {
    for proof in [", proof: mtls", ", proof: either", ""] {
        let mut stage = Stage::new(proof);
        let token = stage.token(json!({"x5t#S256": hash(DER)}));
        let (proofs, certificate) = (vec![], Some(DER));
        let sent = Sent { scheme: "Bearer", token, proofs, certificate, ..stage.honest("1") };
        assert_eq!(stage.ask_for("/a/b", &sent), ("allow".into(), String::new(), 0), "{proof}: as often as it likes");
        assert_eq!(stage.ask(&Sent { believed: false, ..sent.clone() }), "certificate_mismatch", "{proof}");
        assert_eq!(stage.ask(&Sent { certificate: None, ..sent.clone() }), "certificate_mismatch", "{proof}");
        assert_eq!(stage.ask(&Sent { certificate: Some(b"another"), ..sent.clone() }), "certificate_mismatch");
        assert_eq!(stage.ask(&Sent { scheme: "DPoP", ..sent }), "token_unbound", "{proof}");
    }
    let mut stage = Stage::new(", proof: mtls");
    let unbound = stage.token(json!(null));
    let sent = Sent { scheme: "Bearer", token: unbound, proofs: vec![], certificate: Some(DER), ..stage.honest("1") };
    assert_eq!(stage.ask(&sent), "token_unbound");
    assert_eq!(stage.ask(&stage.honest("1")), "token_unbound", "bound to a key, and not to a certificate");
    let mut stage = Stage::new(", proof: dpop");
    let token = stage.token(json!({"x5t#S256": hash(DER)}));
    assert_eq!(stage.ask(&Sent { token, ..sent }), "token_unbound", "bound to a certificate, and not to a key");
}

#[test]
fn a_token_that_is_bound_twice_is_proven_twice() {
    for proof in [", proof: mtls", ", proof: dpop", ", proof: either", ""] {
        let mut stage = Stage::new(proof);
        let token = stage.token(json!({"jkt": stage.prover.thumbprint(), "x5t#S256": hash(DER)}));
        let proofs = vec![stage.prover.proof(&stage.occasion(&token, "1"))];
        let sent = Sent { token, proofs, certificate: Some(DER), ..stage.honest("1") };
        assert_eq!(stage.ask(&Sent { certificate: None, ..sent.clone() }), "certificate_mismatch", "{proof}");
        assert_eq!(stage.ask(&Sent { proofs: vec![], ..sent.clone() }), "proof_missing", "{proof}");
        assert_eq!(stage.ask(&Sent { scheme: "Bearer", ..sent.clone() }), "proof_missing", "{proof}");
        assert_eq!(stage.ask(&sent), "allow", "{proof}");
    }
}

#[test]
fn a_caller_is_told_how_to_prove_before_it_asks() {
    for (proof, expected) in [
        ("", "Bearer"),
        (", proof: none", "Bearer"),
        (", proof: mtls", "Bearer"),
        (", proof: {mode: dpop, algorithms: [ES256, EdDSA]}", r#"DPoP algs="ES256 EdDSA""#),
        (", proof: {mode: either, algorithms: ES256}", r#"Bearer, DPoP algs="ES256""#),
        (", proof: {mode: required-if-bound, algorithms: ES256}", r#"Bearer, DPoP algs="ES256""#),
    ] {
        let mut stage = Stage::new(proof);
        let sent = Sent { scheme: "Basic", proofs: vec![], ..stage.honest("1") };
        assert_eq!(stage.ask_for("/a/b", &sent), ("credential_missing".into(), expected.into(), 0), "{proof}");
        let broken = Sent { scheme: "DPoP", token: "x".into(), ..sent };
        let (_, challenge, _) = stage.ask_for("/a/b", &broken);
        let scheme = if proof.contains('{') { "DPoP" } else { "Bearer" };
        assert!(challenge.starts_with(&format!(r#"{scheme} error="invalid_token""#)), "{proof}: {challenge}");
    }
}

/// RFC 9449 §7.1, figures 12 and 13; the key's thumbprint is in §6.1, the token's hash in figure 14.
const RFC_PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";

#[test]
fn the_proof_of_rfc_9449_holds_for_its_request() {
    let token = super::decoded(&hash(b"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU")).unwrap();
    assert_eq!(URL_SAFE_NO_PAD.encode(token), "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
    let key = super::decoded("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I").unwrap();
    let proof = Proof::read(RFC_PROOF.as_bytes()).unwrap();
    assert_eq!(proof.thumbprint(), &key);
    let raw = |target: &'static [u8]| {
        Raw::new(Dialect::Envoy, Asker::Unix, [b"GET", target, b"resource.example.org"], vec![])
    };
    let check = |target, now| {
        let raw = raw(target);
        let request = Request::read(&raw, Relaxed::default()).unwrap();
        let (scheme, nonces) = (Scheme::Dpop, None);
        let shown = Shown { request: &request, gateway: None, token: &token, scheme, nonces, verified: None, now };
        proof.check(RFC_PROOF.as_bytes(), &key, &Possession::default(), &shown).map(drop)
    };
    let at = Timestamp::from_secs(1_562_262_618);
    assert_eq!(check(b"/protectedresource", at), Ok(()));
    assert_eq!(check(b"/protectedresource", at.plus(Duration::from_secs(60))), Err(Reason::ProofExpired));
    assert_eq!(check(b"/protected", at), Err(Reason::ProofRequestMismatch));
}

#[test]
fn thumbprints_are_those_of_the_rfcs() {
    let read = |jwk: &str| {
        let header = format!(r#"{{"typ":"dpop+jwt","alg":"RS256","jwk":{jwk}}}"#);
        let proof = format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(header));
        Proof::read(proof.as_bytes()).map(|proof| URL_SAFE_NO_PAD.encode(proof.thumbprint()))
    };
    // RFC 7638 §3.1.
    let rsa = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;
    assert_eq!(read(rsa).as_deref(), Ok("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
    // RFC 8037 A.3.
    let okp = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    assert_eq!(read(okp).as_deref(), Ok("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"));
    for bad in [
        r#"{"kty":"EC","crv":"P-256","x":"A\"","y":"A"}"#,
        r#"{"kty":"oct","k":"AA"}"#,
        "{}",
        r#"{"kty":"EC","crv":"P-256","x":"A","x":"B","y":"A"}"#,
    ] {
        assert_eq!(read(bad), Err(Reason::ProofMalformed), "{bad}");
    }
}

#[test] // J30, J15
fn only_a_proof_is_a_proof() {
    let mut stage = Stage::new(", proof: dpop");
    for typ in [json!(null), json!("JWT"), json!("at+jwt"), json!("DPOP+JWT"), json!("application/dpop+jwt"), json!(7)]
    {
        let sent = stage.changed(json!({ "typ": typ }), json!({}));
        assert_eq!(stage.ask(&sent), "proof_malformed", "{typ}");
    }
    for header in [json!({"crit": ["exp"]}), json!({"b64": false}), json!({"zip": "DEF"})] {
        let sent = stage.changed(header.clone(), json!({}));
        assert_eq!(stage.ask(&sent), "proof_malformed", "{header}");
    }
    for claims in [
        json!({"jti": null}),
        json!({"jti": ""}),
        json!({"jti": 7}),
        json!({"jti": "x".repeat(513)}),
        json!({"htm": null}),
        json!({"htu": null}),
    ] {
        let sent = stage.changed(json!({}), claims.clone());
        assert_eq!(stage.ask(&sent), "proof_malformed", "{claims}");
    }
    let sent = stage.honest("1");
    for proof in [
        String::new(),
        "x".into(),
        "a.b.c".into(),
        format!("{}x", "a".repeat(9_000)),
        sent.token.clone(),
        format!(" {}", sent.proofs[0]),
    ] {
        assert_eq!(stage.ask(&Sent { proofs: vec![proof], ..sent.clone() }), "proof_malformed");
    }
    // A proof is no token either.
    let swapped = Sent { scheme: "Bearer", token: sent.proofs[0].clone(), proofs: vec![], ..sent };
    assert_eq!(stage.ask(&swapped), "issuer_refused");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test] // J30
    fn no_other_bytes_than_those_that_were_signed_pass(at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<bool>()) {
        let mut stage = Stage::new(", proof: dpop");
        let sent = stage.honest("1");
        let mut bytes = sent.proofs[0].clone().into_bytes();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            prop_assume!(bytes[at] != to && to.is_ascii_graphic());
            bytes[at] = to;
        }
        let mutated = Sent { proofs: vec![String::from_utf8(bytes).unwrap()], ..sent.clone() };
        prop_assert_ne!(stage.ask(&mutated), "allow");
        prop_assert_eq!(stage.ask(&sent), "allow");
    }
}
