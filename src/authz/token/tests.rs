//! Tokens that an attacker, a careless issuer or a broken client could send.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::authz::algorithm::Algorithms;
use crate::authz::identity::ClaimPath;
use crate::authz::keys::Origin;
use crate::dev::mint::SigningKey;

const NOW: i64 = 1_800_000_000;
const HEADER: &str = r#"{"alg":"ES256","typ":"JWT","kid":"k"}"#;

fn key_set(keys: &[Value]) -> KeySet {
    let report = KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes(), Origin::Remote).unwrap();
    assert_eq!(report.refused, []);
    report.keys
}

fn signer() -> &'static SigningKey {
    SigningKey::shared(Algorithm::Es256)
}

fn keys() -> KeySet {
    key_set(&[signer().public_jwk(Some("k"))])
}

fn rules() -> TokenRules {
    TokenRules {
        issuer: "https://idp.test".into(),
        also: Box::default(),
        tenants: None,
        balancers: Box::default(),
        audience: Audience { claim: ClaimPath::parse("aud").unwrap(), any_of: Box::new(["api".into()]) },
        algorithms: Algorithms::default(),
        types: TokenTypes::default(),
        leeway: Duration::from_secs(60),
        max_lifetime: None,
        denied_kids: Box::default(),
        issued_from: None,
    }
}

/// Good claims with these changed: each is a name and its JSON text, or no text to leave it out.
fn claims(changes: &[(&str, &str)]) -> String {
    let (exp, iat) = ((NOW + 300).to_string(), (NOW - 10).to_string());
    let mut members = vec![
        ("iss", r#""https://idp.test""#),
        ("sub", r#""u1""#),
        ("aud", r#""api""#),
        ("exp", &*exp),
        ("iat", &*iat),
        ("jti", r#""t1""#),
    ];
    members.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    members.extend(changes.iter().filter(|(_, text)| !text.is_empty()));
    let members: Vec<String> = members.iter().map(|(name, text)| format!("\"{name}\":{text}")).collect();
    format!("{{{}}}", members.join(","))
}

fn verify(token: &str, rules: &TokenRules) -> Result<Verified, Refused> {
    Unverified::read(token.as_bytes())?.verify(&keys(), rules, Timestamp::from_secs(NOW))
}

/// What becomes of a token with this header and these claims, signed by the right key.
fn denial(header: &str, claims: &str) -> Option<Reason> {
    match verify(&signer().sign(header, claims), &rules()) {
        Ok(_) => None,
        Err(Refused::Deny(reason)) => Some(reason),
        Err(Refused::KeyUnknown) => Some(Reason::KeyUnknown),
    }
}

fn with_claim(name: &str, text: &str) -> Option<Reason> {
    denial(HEADER, &claims(&[(name, text)]))
}

fn with_header(members: &str) -> Option<Reason> {
    denial(&format!(r#"{{"alg":"ES256","kid":"k",{members}}}"#), &claims(&[]))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[test]
fn a_good_token_of_every_algorithm_is_verified() {
    for algorithm in Algorithm::ALL.iter().copied() {
        let key = SigningKey::shared(algorithm);
        let keys = key.key_set("k");
        let rules = || TokenRules { algorithms: [algorithm].into_iter().collect(), ..rules() };
        let claims: Value = serde_json::from_str(&claims(&[("nbf", "1799999990")])).unwrap();
        let token = Unverified::read(key.token(Some("k"), &claims).as_bytes()).unwrap();
        assert_eq!((token.issuer(), token.kid(), token.algorithm()), (Some("https://idp.test"), Some("k"), algorithm));
        let verified = token.verify(&keys, &rules(), Timestamp::from_secs(NOW)).unwrap();
        assert_eq!(&*verified.subject, "u1");
        assert_eq!(verified.token_id.as_deref(), Some("t1"));
        assert_eq!(verified.expires, Timestamp::from_secs(NOW + 300));
        assert_eq!(verified.issued, Some(Timestamp::from_secs(NOW - 10)));
        assert_eq!(verified.not_before, Some(Timestamp::from_secs(NOW - 10)));
        assert_eq!(verified.kid.as_deref(), Some("k"));
        assert_eq!(verified.claims.get("aud").and_then(Json::as_text), Some("api"));
    }
}

// J01, J27
#[test]
fn an_algorithm_that_is_none_or_unknown_is_refused() {
    for alg in [
        r#""none""#,
        r#""NONE""#,
        r#""nOnE""#,
        r#""none ""#,
        r#""""#,
        "null",
        "[]",
        "7",
        r#"{"HS256":null}"#,
        r#"{"ES256":null}"#,
        r#"["ES256"]"#,
        r#""es256""#,
        r#""ES256K""#,
        r#""Ed448""#,
        r#""ML-DSA-44""#,
        r#""HS256""#,
    ] {
        let header = format!(r#"{{"alg":{alg},"kid":"k"}}"#);
        assert_eq!(denial(&header, &claims(&[])), Some(Reason::AlgorithmRefused), "{alg}");
        let stripped = format!("{}.{}.", encode(&header), encode(claims(&[])));
        assert_eq!(Unverified::read(stripped.as_bytes()).unwrap_err(), Reason::TokenMalformed, "{alg}");
    }
    assert_eq!(denial(r#"{"kid":"k"}"#, &claims(&[])), Some(Reason::AlgorithmRefused));
}

// J27
#[test]
fn the_fully_specified_name_of_eddsa_is_known() {
    let key = SigningKey::shared(Algorithm::EdDsa);
    let keys = key_set(&[key.public_jwk(Some("k"))]);
    let token = key.sign(r#"{"alg":"Ed25519","kid":"k"}"#, &claims(&[]));
    assert!(Unverified::read(token.as_bytes()).unwrap().verify(&keys, &rules(), Timestamp::from_secs(NOW)).is_ok());
}

// J02
#[test]
fn a_public_key_used_as_a_mac_secret_forges_nothing() {
    let key = SigningKey::shared(Algorithm::Rs256);
    let jwk = key.public_jwk(Some("k"));
    let pem = key.public_pem();
    let n = jwk["n"].as_str().unwrap();
    let message = format!("{}.{}", encode(r#"{"alg":"HS256","kid":"k"}"#), encode(claims(&[])));
    for secret in [
        pem.as_bytes().to_vec(),
        pem.trim_end().as_bytes().to_vec(),
        format!(" {pem}").into_bytes(),
        key.public_der(),
        URL_SAFE_NO_PAD.decode(n).unwrap(),
        n.as_bytes().to_vec(),
        jwk.to_string().into_bytes(),
        vec![],
    ] {
        let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
        let mac = encode(aws_lc_rs::hmac::sign(&secret, message.as_bytes()));
        let token = Unverified::read(format!("{message}.{mac}").as_bytes()).unwrap();
        let keys = key_set(std::slice::from_ref(&jwk));
        let refused = token.verify(&keys, &rules(), Timestamp::from_secs(NOW)).unwrap_err();
        assert_eq!(refused, Refused::Deny(Reason::AlgorithmRefused));
        // Were the issuer's rules wrong, there would still be no such key.
        let token = Unverified::read(format!("{message}.{mac}").as_bytes()).unwrap();
        let careless = TokenRules { algorithms: Algorithm::ALL.iter().copied().collect(), ..rules() };
        let refused = token.verify(&keys, &careless, Timestamp::from_secs(NOW)).unwrap_err();
        assert_eq!(refused, Refused::Deny(Reason::AlgorithmRefused));
        // The same under an algorithm that is known.
        let message = format!("{}.{}", encode(r#"{"alg":"RS256","kid":"k"}"#), encode(claims(&[])));
        let mac = encode(aws_lc_rs::hmac::sign(&secret, message.as_bytes()));
        let token = Unverified::read(format!("{message}.{mac}").as_bytes()).unwrap();
        let refused = token.verify(&keys, &rules(), Timestamp::from_secs(NOW)).unwrap_err();
        assert_eq!(refused, Refused::Deny(Reason::SignatureInvalid));
    }
}

// J02, J03
#[test]
fn a_secret_verifies_only_the_algorithms_that_its_issuer_says() {
    let key = SigningKey::shared(Algorithm::Hs256);
    let rules = TokenRules { algorithms: [Algorithm::Hs256].into_iter().collect(), ..rules() };
    let verify = |header: &str, keys: &KeySet| {
        let token = Unverified::read(key.sign(header, &claims(&[])).as_bytes()).unwrap();
        token.verify(keys, &rules, Timestamp::from_secs(NOW)).err()
    };
    let keys = key.key_set("k");
    assert_eq!(verify(r#"{"alg":"HS256","kid":"k"}"#, &keys), None);
    assert_eq!(verify(r#"{"alg":"HS256"}"#, &keys), None);
    assert_eq!(verify(r#"{"alg":"HS256","kid":"other"}"#, &keys), Some(Refused::KeyUnknown));
    for alg in ["HS384", "HS512", "ES256", "RS256", "EdDSA"] {
        let header = format!(r#"{{"alg":"{alg}","kid":"k"}}"#);
        assert_eq!(verify(&header, &keys), Some(Refused::Deny(Reason::AlgorithmRefused)), "{alg}");
    }
    let other = SigningKey::generate(Algorithm::Hs256).key_set("k");
    assert_eq!(verify(r#"{"alg":"HS256","kid":"k"}"#, &other), Some(Refused::Deny(Reason::SignatureInvalid)));
}

// J03
#[test]
fn a_key_is_used_with_its_own_algorithm_only() {
    let rsa = SigningKey::shared(Algorithm::Rs256);
    let keys = key_set(&[rsa.public_jwk(Some("k")), signer().public_jwk(Some("e"))]);
    for (alg, kid) in [("PS256", "k"), ("RS384", "k"), ("ES256", "k"), ("RS256", "e"), ("ES384", "e"), ("EdDSA", "e")] {
        let token = rsa.sign(&json!({"alg": alg, "kid": kid}).to_string(), &claims(&[]));
        let refused = Unverified::read(token.as_bytes()).unwrap().verify(&keys, &rules(), Timestamp::from_secs(NOW));
        assert_eq!(refused.unwrap_err(), Refused::Deny(Reason::AlgorithmRefused), "{alg} {kid}");
    }
    // A key that its set ties to nothing is tied by the issuer's rules.
    let mut untied = SigningKey::shared(Algorithm::Ps512).public_jwk(Some("k"));
    untied.as_object_mut().unwrap().remove("alg");
    let rules = TokenRules { algorithms: [Algorithm::Ps512].into_iter().collect(), ..rules() };
    for alg in ["RS256", "RS384", "RS512", "PS256", "PS384"] {
        let token = rsa.sign(&json!({"alg": alg, "kid": "k"}).to_string(), &claims(&[]));
        let token = Unverified::read(token.as_bytes()).unwrap();
        let refused = token.verify(&key_set(&[untied.clone()]), &rules, Timestamp::from_secs(NOW));
        assert_eq!(refused.unwrap_err(), Refused::Deny(Reason::AlgorithmRefused), "{alg}");
    }
}

// J04
#[test]
fn a_kid_is_an_exact_name_and_nothing_else() {
    let kid = |text: &str| denial(&format!(r#"{{"alg":"ES256","kid":{text}}}"#), &claims(&[]));
    assert_eq!(kid(r#""k""#), None);
    assert_eq!(kid(r#""\u006b""#), None);
    for text in
        [r#""K""#, r#"" k""#, r#""k ""#, r#""../../dev/null""#, r#""/etc/passwd""#, r#""a' OR 1=1--""#, r#""ｋ""#]
    {
        assert_eq!(kid(text), Some(Reason::KeyUnknown), "{text}");
    }
    let long = format!("\"{}\"", "k".repeat(257));
    for text in [r#""k\u0000""#, r#""k\n""#, r#""""#, "1", "{}", "null", "[\"k\"]", &long] {
        assert_eq!(kid(text), Some(Reason::TokenHeaderRefused), "{text}");
    }
    let huge = format!("\"{}\"", "k".repeat(64 * 1024));
    assert_eq!(kid(&huge), Some(Reason::TokenTooLarge));
}

// J04
#[test]
fn a_token_without_a_kid_needs_the_only_key_that_fits() {
    let token = signer().sign(r#"{"alg":"ES256"}"#, &claims(&[]));
    let other = SigningKey::generate(Algorithm::Es256).public_jwk(Some("other"));
    let with = |keys: &[Value]| {
        let read = Unverified::read(token.as_bytes()).unwrap();
        read.verify(&key_set(keys), &rules(), Timestamp::from_secs(NOW)).err()
    };
    let own = signer().public_jwk(Some("k"));
    let ed = SigningKey::shared(Algorithm::EdDsa).public_jwk(Some("ed"));
    assert_eq!(with(std::slice::from_ref(&own)), None);
    assert_eq!(with(&[own.clone(), ed.clone()]), None);
    assert_eq!(with(&[own, other.clone()]), Some(Refused::Deny(Reason::KeyUnknown)));
    assert_eq!(with(&[other]), Some(Refused::Deny(Reason::SignatureInvalid)));
    assert_eq!(with(&[ed]), Some(Refused::KeyUnknown));
    assert_eq!(with(&[]), Some(Refused::KeyUnknown));
}

// J06
#[test]
fn keys_that_a_token_brings_along_are_never_used() {
    let attacker = SigningKey::generate(Algorithm::Es256);
    let jwk = attacker.public_jwk(Some("k"));
    for members in [
        r#""jku":"http://127.0.0.1/jwks""#.to_owned(),
        r#""x5u":"file:///etc/passwd""#.to_owned(),
        r#""x5c":["AAAA"],"x5t":"AAAA""#.to_owned(),
        format!(r#""jwk":{jwk}"#),
    ] {
        assert_eq!(with_header(&members), None, "{members}");
        let forged = attacker.sign(&format!(r#"{{"alg":"ES256","kid":"k",{members}}}"#), &claims(&[]));
        let refused = verify(&forged, &rules()).unwrap_err();
        assert_eq!(refused, Refused::Deny(Reason::SignatureInvalid), "{members}");
        let renamed = attacker.sign(&format!(r#"{{"alg":"ES256","kid":"new",{members}}}"#), &claims(&[]));
        assert_eq!(verify(&renamed, &rules()).unwrap_err(), Refused::KeyUnknown, "{members}");
    }
}

// J07
#[test]
fn critical_extensions_are_refused() {
    for members in [
        r#""crit":["zzz"],"zzz":1"#,
        r#""crit":[]"#,
        r#""crit":["b64"],"b64":false"#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""crit":"exp""#,
        r#""crit":["alg"]"#,
        r#""crit":["missing"]"#,
        r#""crit":["exp","exp"]"#,
        r#""crit":[null]"#,
        r#""crit":null"#,
    ] {
        assert_eq!(with_header(members), Some(Reason::TokenHeaderRefused), "{members}");
    }
}

// J08
#[test]
fn a_member_that_appears_twice_is_refused() {
    for header in [
        r#"{"alg":"none","alg":"ES256","kid":"k"}"#,
        r#"{"alg":"ES256","kid":"a","kid":"k"}"#,
        r#"{"alg":"ES256","kid":"k","x":1,"x":1}"#,
        r#"{"alg":"ES256","kid":"k","\u006bid":"k"}"#,
    ] {
        assert_eq!(denial(header, &claims(&[])), Some(Reason::TokenMalformed), "{header}");
    }
    let whole = claims(&[]);
    for extra in [
        r#""exp":9999999999"#,
        r#""aud":"api""#,
        r#""\u0061ud":"api""#,
        r#""sub":"u1""#,
        r#""jti":"t1""#,
        r#""scope":"read","scope":"admin""#,
        r#""cnf":{},"cnf":{}"#,
        r#""realm_access":{"roles":["a"],"roles":["admin"]}"#,
    ] {
        let claims = whole.replacen('{', &format!("{{{extra},"), 1);
        assert_eq!(denial(HEADER, &claims), Some(Reason::ClaimsMalformed), "{extra}");
    }
}

// J09
#[test]
fn an_expiry_is_a_number_in_range_and_not_past() {
    for text in [
        "",
        "\"1800000300\"",
        "true",
        "null",
        "-1",
        "1e400",
        "1e30",
        "18446744073709551615",
        "18446744073709551616",
        "[1800000300]",
        "9007199254740993",
        "-0.5",
        "-1e-9",
        "{}",
    ] {
        assert_eq!(with_claim("exp", text), Some(Reason::ClaimsMalformed), "{text}");
    }
    for text in ["1800000009.9", "9007199254740992", "1.8000003e9", "4102444800"] {
        assert_eq!(with_claim("exp", text), None, "{text}");
    }
    // Up to the leeway of 60 s, exclusive: a token is expired on the instant.
    for (text, expected) in [
        ("0", Some(Reason::TokenExpired)),
        ("1799999939", Some(Reason::TokenExpired)),
        ("1799999940", Some(Reason::TokenExpired)),
        ("1799999940.5", None),
        ("1799999941", None),
    ] {
        assert_eq!(with_claim("exp", text), expected, "{text}");
    }
}

// J09
#[test]
fn a_token_that_lives_too_long_is_refused() {
    let rules = TokenRules { max_lifetime: Some(Duration::from_secs(310)), ..rules() };
    let with = |changes: &[(&str, &str)]| verify(&signer().sign(HEADER, &claims(changes)), &rules).err();
    assert_eq!(with(&[]), None);
    assert_eq!(with(&[("exp", "1800000301")]), Some(Refused::Deny(Reason::TokenLifetimeRefused)));
    assert_eq!(with(&[("iat", "0")]), Some(Refused::Deny(Reason::TokenLifetimeRefused)));
    assert_eq!(with(&[("iat", "")]), Some(Refused::Deny(Reason::ClaimsMalformed)));
}

// J10
#[test]
fn a_token_of_the_future_is_refused() {
    for claim in ["nbf", "iat"] {
        assert_eq!(with_claim(claim, "1800000060"), None, "{claim}");
        assert_eq!(with_claim(claim, "1800000060.5"), Some(Reason::TokenNotYetValid), "{claim}");
        assert_eq!(with_claim(claim, "1800000061"), Some(Reason::TokenNotYetValid), "{claim}");
        assert_eq!(with_claim(claim, "1831536000"), Some(Reason::TokenNotYetValid), "{claim}");
        for text in ["\"x\"", "null", "-1", "\"1800000000\"", "[]", "1e17"] {
            assert_eq!(with_claim(claim, text), Some(Reason::ClaimsMalformed), "{claim} {text}");
        }
        assert_eq!(with_claim(claim, ""), None, "{claim}");
    }
}

#[test]
fn times_are_tested_again_by_the_same_rule() {
    let at = |millis: i64| {
        let (not_before, expires) = (Timestamp::from_secs(100), Timestamp::from_secs(200));
        times_hold(Some(not_before), expires, Duration::from_secs(10), Timestamp::from_millis(millis))
    };
    assert_eq!(at(89_999), Err(Reason::TokenNotYetValid));
    assert_eq!(at(90_000), Ok(()));
    assert_eq!(at(209_999), Ok(()));
    assert_eq!(at(210_000), Err(Reason::TokenExpired));
    assert_eq!(at(i64::MAX), Err(Reason::TokenExpired));
    assert_eq!(at(i64::MIN), Err(Reason::TokenNotYetValid));
}

// J11
#[test]
fn only_the_exact_audience_passes() {
    let many = |count: usize| format!("[{}]", vec![r#""api""#; count].join(","));
    for text in [r#""api""#, r#"["other","api"]"#, r#"["api"]"#, &many(64)] {
        assert_eq!(with_claim("aud", text), None, "{text}");
    }
    for text in [r#""API""#, r#""api ""#, r#""api,other""#, r#""api other""#, r#""""#, "[]", r#"["API"]"#] {
        assert_eq!(with_claim("aud", text), Some(Reason::AudienceRefused), "{text}");
    }
    for text in ["", "7", "{}", "null", "true", r#"["api",1]"#, r#"["other",1]"#, r#"[["api"]]"#, &many(65)] {
        assert_eq!(with_claim("aud", text), Some(Reason::ClaimsMalformed), "{text}");
    }
    assert_eq!(with_claim("aud", &many(10_000)), Some(Reason::TokenTooLarge));
}

#[test]
fn another_claim_can_name_the_audience() {
    let audience =
        Audience { claim: ClaimPath::parse("client_id").unwrap(), any_of: Box::new(["a".into(), "b".into()]) };
    let rules = TokenRules { audience, ..rules() };
    let with = |text: &str| verify(&signer().sign(HEADER, &claims(&[("aud", ""), ("client_id", text)])), &rules).err();
    assert_eq!(with(r#""b""#), None);
    assert_eq!(with(r#""c""#), Some(Refused::Deny(Reason::AudienceRefused)));
    assert_eq!(with(""), Some(Refused::Deny(Reason::ClaimsMalformed)));
}

// J12
#[test]
fn only_the_exact_issuer_passes() {
    for text in [
        r#""https://idp.test/""#,
        r#""https://IDP.test""#,
        r#""http://idp.test""#,
        r#""https://idp.test:443""#,
        r#""https://idp.test@evil""#,
        r#""https://idp.test ""#,
        r#""""#,
    ] {
        assert_eq!(with_claim("iss", text), Some(Reason::IssuerRefused), "{text}");
    }
    for text in ["", "5", "null", r#"["https://idp.test"]"#, r#"["https://evil","https://idp.test"]"#] {
        assert_eq!(with_claim("iss", text), Some(Reason::ClaimsMalformed), "{text}");
        let token = Unverified::read(signer().sign(HEADER, &claims(&[("iss", text)])).as_bytes()).unwrap();
        assert_eq!(token.issuer(), None, "{text}");
    }
}

// J13
#[test]
fn a_kid_means_nothing_outside_its_issuer() {
    let (a, b) = (signer(), SigningKey::generate(Algorithm::Es256));
    let (keys_a, keys_b) = (keys(), key_set(&[b.public_jwk(Some("k"))]));
    let rules_a = rules();
    let rules_b = TokenRules { issuer: "https://idp.test/t2".into(), ..rules() };
    let claims_b = claims(&[("iss", r#""https://idp.test/t2""#)]);
    let verdict = |token: &str, keys, rules| {
        Unverified::read(token.as_bytes()).unwrap().verify(keys, rules, Timestamp::from_secs(NOW)).err()
    };
    assert_eq!(verdict(&a.sign(HEADER, &claims(&[])), &keys_a, &rules_a), None);
    assert_eq!(verdict(&b.sign(HEADER, &claims_b), &keys_b, &rules_b), None);
    let forged = b.sign(HEADER, &claims(&[]));
    assert_eq!(verdict(&forged, &keys_a, &rules_a), Some(Refused::Deny(Reason::SignatureInvalid)));
    // Two tenants with one key set.
    let other_tenant = a.sign(HEADER, &claims_b);
    assert_eq!(verdict(&other_tenant, &keys_a, &rules_a), Some(Refused::Deny(Reason::IssuerRefused)));
}

// J14
#[test]
fn a_subject_is_required_and_is_taken_as_it_is() {
    let long = |length: usize| format!("\"{}\"", "s".repeat(length));
    for text in
        ["", "7", "null", r#""""#, r#""a\u0000""#, r#""a\r""#, r#""a\nb""#, r#""\u0085""#, "[\"u1\"]", &long(1_025)]
    {
        assert_eq!(with_claim("sub", text), Some(Reason::ClaimsMalformed), "{text}");
    }
    assert_eq!(with_claim("sub", &long(1_024)), None);
    assert_eq!(with_claim("sub", &long(10_000)), Some(Reason::TokenTooLarge));
    // Equal after normalisation, but not the same subject.
    for text in ["é", "e\u{301}", "\u{202e}u1", "🦀"] {
        let token = signer().sign(HEADER, &claims(&[("sub", &format!("\"{text}\""))]));
        assert_eq!(&*verify(&token, &rules()).unwrap().subject, text);
    }
}

#[test]
fn a_token_id_is_a_text() {
    let long = |length: usize| format!("\"{}\"", "j".repeat(length));
    for text in ["7", "null", r#""""#, r#""a\n""#, "[]", &long(257)] {
        assert_eq!(with_claim("jti", text), Some(Reason::ClaimsMalformed), "{text}");
    }
    assert_eq!(with_claim("jti", &long(256)), None);
    assert_eq!(with_claim("jti", ""), None);
}

// J15
#[test]
fn tokens_of_another_kind_are_refused() {
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"] {
        assert_eq!(with_header(&format!(r#""typ":"{typ}""#)), None, "{typ}");
    }
    for typ in [
        r#""dpop+jwt""#,
        r#""secevent+jwt""#,
        r#""logout+jwt""#,
        r#""""#,
        r#""JWT ""#,
        r#""application/""#,
        r#""at""#,
        "null",
        "7",
    ] {
        assert_eq!(with_header(&format!(r#""typ":{typ}"#)), Some(Reason::TokenTypeRefused), "{typ}");
    }
    let (typed, untyped) = (r#"{"alg":"ES256","kid":"k","typ":"at+jwt"}"#, r#"{"alg":"ES256","kid":"k"}"#);
    for claim in ["nonce", "at_hash"] {
        let id_token = claims(&[(claim, r#""x""#)]);
        assert_eq!(denial(HEADER, &id_token), Some(Reason::TokenTypeRefused), "{claim}");
        assert_eq!(denial(untyped, &id_token), Some(Reason::TokenTypeRefused), "{claim}");
        assert_eq!(denial(typed, &id_token), None, "{claim}");
        let rules = TokenRules { types: TokenTypes { id_tokens: true, ..TokenTypes::default() }, ..rules() };
        assert!(verify(&signer().sign(HEADER, &id_token), &rules).is_ok(), "{claim}");
        let logout = claims(&[("events", "{}"), (claim, r#""x""#)]);
        let refused = verify(&signer().sign(HEADER, &logout), &rules).unwrap_err();
        assert_eq!(refused, Refused::Deny(Reason::TokenTypeRefused));
    }
    assert_eq!(denial(typed, &claims(&[("events", "{}")])), Some(Reason::TokenTypeRefused));
    let only = TokenTypes { accepted: Box::new(["application/at+jwt".into()]), absent: false, id_tokens: false };
    assert!(only.accept(Some("AT+jwt")));
    assert!(!only.accept(Some("JWT")));
    assert!(!only.accept(None));
}

// J16
#[test]
fn other_serialisations_are_refused() {
    let token = signer().sign(HEADER, &claims(&[]));
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!() };
    for text in [
        format!("{token}.{payload}.{signature}"),
        format!("{token}."),
        format!(".{token}"),
        format!("{header}..{signature}"),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!(".{payload}.{signature}"),
        format!(r#"{{"payload":"{payload}","protected":"{header}","signature":"{signature}"}}"#),
        String::new(),
        "..".into(),
        ".".repeat(MAX_TOKEN),
    ] {
        assert_eq!(Unverified::read(text.as_bytes()).unwrap_err(), Reason::TokenMalformed, "{text}");
    }
    for members in [r#""zip":"DEF""#, r#""cty":"JWT""#, r#""enc":"A256GCM""#] {
        assert_eq!(with_header(members), Some(Reason::TokenHeaderRefused), "{members}");
    }
}

// J17
#[test]
fn sizes_are_capped() {
    let padded = |length: usize| {
        let pad = |claims_pad: usize, header_pad: usize| {
            let header = format!(r#"{{"alg":"ES256","kid":"k","x":"{}"}}"#, "x".repeat(header_pad));
            signer().sign(&header, &claims(&[("x", &format!("\"{}\"", "x".repeat(claims_pad)))]))
        };
        let estimate = (length - pad(0, 0).len()) * 3 / 4;
        let sizes = (estimate - 6..estimate + 3).flat_map(|body| (0..3).map(move |header| (body, header)));
        sizes.map(|(body, header)| pad(body, header)).find(|token| token.len() == length).unwrap()
    };
    assert!(verify(&padded(MAX_TOKEN), &rules()).is_ok());
    assert_eq!(Unverified::read(padded(MAX_TOKEN + 1).as_bytes()).unwrap_err(), Reason::TokenTooLarge);
    assert_eq!(Unverified::read(&[b'.'; 100_000]).unwrap_err(), Reason::TokenTooLarge);
    assert_eq!(Unverified::read(&vec![b'a'; 1 << 20]).unwrap_err(), Reason::TokenTooLarge);

    let header = |length: usize| format!("{:<length$}", r#"{"alg":"ES256","kid":"k"}"#);
    assert_eq!(denial(&header(MAX_HEADER), &claims(&[])), None);
    assert_eq!(denial(&header(MAX_HEADER + 1), &claims(&[])), Some(Reason::TokenHeaderRefused));

    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(with_claim("x", &nested(31)), None);
    assert_eq!(with_claim("x", &nested(32)), Some(Reason::ClaimsMalformed));
    assert_eq!(with_claim("x", &nested(2_500)), Some(Reason::ClaimsMalformed));
    assert_eq!(with_claim("exp", &"9".repeat(5_000)), Some(Reason::ClaimsMalformed));
}

// J18
#[test]
fn a_payload_is_one_json_object_in_utf8() {
    let whole = claims(&[]);
    let utf_16: Vec<u8> = whole.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for payload in [
        b"\xff\xfe".to_vec(),
        [b"\xef\xbb\xbf", whole.as_bytes()].concat(),
        [whole.as_bytes(), b" x"].concat(),
        [whole.as_bytes(), b"\0"].concat(),
        utf_16,
        whole.replace("u1", r"\ud800").into_bytes(),
        [&whole.as_bytes()[..whole.len() - 1], b",\"x\":\"\xc0\xaf\"}"].concat(),
        br#"[1800000300,0,"u1","https://idp.test","api"]"#.to_vec(),
        br#""text""#.to_vec(),
        b"1".to_vec(),
        b"null".to_vec(),
        b"{".to_vec(),
    ] {
        let message = format!("{}.{}", encode(HEADER), encode(&payload));
        let token = format!("{message}.{}", encode(signer().signature(message.as_bytes())));
        assert_eq!(Unverified::read(token.as_bytes()).unwrap_err(), Reason::ClaimsMalformed, "{payload:?}");
        let message = format!("{}.{}", encode(&payload), encode(&whole));
        let token = format!("{message}.{}", encode(signer().signature(message.as_bytes())));
        let refused = Unverified::read(token.as_bytes()).unwrap_err();
        assert!([Reason::TokenMalformed, Reason::AlgorithmRefused].contains(&refused), "{payload:?}");
    }
}

// J19
#[test]
fn base64url_is_strict() {
    // One byte more than a multiple of three leaves four stray bits in each part.
    let mut body = claims(&[]);
    body.push_str(&" ".repeat((4 - body.len() % 3) % 3));
    let mut header = HEADER.to_owned();
    header.push_str(&" ".repeat((4 - header.len() % 3) % 3));
    let token = signer().sign(&header, &body);
    assert!(verify(&token, &rules()).is_ok());
    let parts: Vec<&str> = token.split('.').collect();
    for at in 0..3 {
        let part = parts[at];
        let (front, last) = part.split_at(part.len() - 1);
        let stray = char::from(last.as_bytes()[0] + 1);
        for changed in [
            format!("{part}="),
            format!("{part}=="),
            format!("{front}{stray}"),
            format!(" {part}"),
            format!("{part} "),
            format!("{part}\n"),
            format!("{part}\0"),
            format!("{front}+"),
            format!("{front}/"),
            format!("{front}%2E"),
            format!("{part}A"),
            format!("{part}é"),
        ] {
            let mut parts = parts.clone();
            parts[at] = &changed;
            let token = parts.join(".");
            let Err(refused) = verify(&token, &rules()) else { panic!("{at} {changed:?}") };
            // What is still strict base64url is another text, which then fails as such.
            let whole = URL_SAFE_NO_PAD.decode(&changed).is_ok();
            assert_eq!(refused == Refused::Deny(Reason::TokenMalformed), !whole || at == 0, "{at} {changed:?}");
        }
    }
}

// J20
#[test]
fn the_twin_of_an_ecdsa_signature_makes_no_other_token_of_it() {
    let token = signer().sign(HEADER, &claims(&[]));
    let (message, signature) = token.rsplit_once('.').unwrap();
    let mut twin = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let order = b"\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51";
    let mut borrow = 0;
    for (s, n) in twin[32..].iter_mut().zip(order).rev() {
        let difference = 0x100 + u16::from(*n) - u16::from(*s) - borrow;
        [_, *s] = difference.to_be_bytes();
        borrow = 1 - (difference >> 8);
    }
    let twin = format!("{message}.{}", encode(twin));
    assert_ne!(twin, token);
    let (one, other) = (verify(&token, &rules()).unwrap(), verify(&twin, &rules()).unwrap());
    assert_eq!((one.subject, one.token_id, one.issued), (other.subject, other.token_id, other.issued));
}

#[test]
fn nothing_of_a_token_is_in_its_debug_text() {
    let token = signer().sign(HEADER, &claims(&[("email", r#""secret@example.com""#)]));
    let read = Unverified::read(token.as_bytes()).unwrap();
    let verified = verify(&token, &rules()).unwrap();
    for text in [format!("{read:?}"), format!("{verified:?}")] {
        for secret in ["secret", "u1", "t1", "ey"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

mod differential {
    use jsonwebtoken::{DecodingKey, Validation};
    use proptest::prelude::*;

    use super::*;

    const ALGORITHMS: [(Algorithm, jsonwebtoken::Algorithm); 6] = [
        (Algorithm::Es256, jsonwebtoken::Algorithm::ES256),
        (Algorithm::Es384, jsonwebtoken::Algorithm::ES384),
        (Algorithm::EdDsa, jsonwebtoken::Algorithm::EdDSA),
        (Algorithm::Rs256, jsonwebtoken::Algorithm::RS256),
        (Algorithm::Ps256, jsonwebtoken::Algorithm::PS256),
        (Algorithm::Rs512, jsonwebtoken::Algorithm::RS512),
    ];

    const MEMBERS: &[&str] = &[
        "",
        r#","typ":"JWT""#,
        r#","typ":"at+jwt""#,
        r#","typ":"dpop+jwt""#,
        r#","typ":7"#,
        r#","crit":["x"]"#,
        r#","crit":[]"#,
        r#","b64":false"#,
        r#","zip":"DEF""#,
        r#","cty":"JWT""#,
        r#","jku":"https://evil.test""#,
        r#","x5t":"AAAA""#,
        r#","x5c":["AAAA"]"#,
        r#","kid":"k""#,
        r#","alg":"none""#,
        r#","x":[1,{"y":null}]"#,
    ];

    const CLAIMS: &[(&str, &str)] = &[
        ("x", "1"),
        ("exp", "4102444800"),
        ("exp", "4102444800.5"),
        ("exp", "4.1e9"),
        ("exp", "\"4102444800\""),
        ("exp", "null"),
        ("exp", "9007199254740992"),
        ("exp", "1"),
        ("exp", ""),
        ("iss", "\"evil\""),
        ("iss", "5"),
        ("iss", r#"["https://idp.test"]"#),
        ("iss", ""),
        ("aud", r#"["api"]"#),
        ("aud", r#"["a","api"]"#),
        ("aud", "7"),
        ("aud", "[]"),
        ("aud", ""),
        ("sub", "7"),
        ("sub", "\"é\""),
        ("sub", ""),
        ("nbf", "0"),
        ("nbf", "0.5"),
        ("nbf", "\"x\""),
        ("nbf", "1e10"),
        ("jti", "7"),
        ("iat", "\"x\""),
        ("events", "{}"),
        ("nonce", "1"),
    ];

    /// Whether jsonwebtoken accepts it, told to check all that it can.
    fn accepts(token: &str, key: &SigningKey, algorithm: jsonwebtoken::Algorithm) -> bool {
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(key.public_jwk(Some("k"))).unwrap();
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&["https://idp.test"]);
        validation.set_audience(&["api"]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(&jwk).unwrap(), &validation).is_ok()
    }

    fn accepted(token: &[u8], key: &SigningKey) -> bool {
        let keys = key_set(&[key.public_jwk(Some("k"))]);
        Unverified::read(token).is_ok_and(|token| token.verify(&keys, &rules(), Timestamp::from_secs(NOW)).is_ok())
    }

    #[test]
    fn both_accept_what_is_good_and_we_refuse_more() {
        let (mut both, mut theirs) = (0, 0);
        for (members, (name, text)) in MEMBERS.iter().flat_map(|m| CLAIMS.iter().map(move |c| (m, c))) {
            let header = format!(r#"{{"alg":"ES256"{members}}}"#);
            let changes = [("exp", "4102444800"), (*name, *text)];
            let token = signer().sign(&header, &claims(&changes[usize::from(*name == "exp")..]));
            match (accepted(token.as_bytes(), signer()), accepts(&token, signer(), jsonwebtoken::Algorithm::ES256)) {
                (true, true) => both += 1,
                (true, false) => panic!("only we accept {header} {name} {text}"),
                (false, true) => theirs += 1,
                (false, false) => {}
            }
        }
        assert!(both > 50, "{both}");
        assert!(theirs > 50, "{theirs}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

        #[test]
        fn whatever_we_accept_jsonwebtoken_accepts(
            (ours, theirs) in prop::sample::select(&ALGORITHMS[..]),
            members in prop::sample::select(MEMBERS),
            (name, text) in prop::sample::select(CLAIMS),
            flip in prop::option::weighted(0.7, (any::<prop::sample::Index>(), 0_u32..8)),
            (cut, paste) in (any::<prop::sample::Index>(), "[A-Za-z0-9_=.+/-]{0,2}"),
        ) {
            let key = SigningKey::shared(ours);
            let header = format!(r#"{{"alg":"{ours}"{members}}}"#);
            let changes = [("exp", "4102444800"), (name, text)];
            let mut token = key.sign(&header, &claims(&changes[usize::from(name == "exp")..])).into_bytes();
            if let Some((at, bit)) = flip {
                let at = at.index(token.len());
                token[at] ^= 1 << bit;
            } else {
                let at = cut.index(token.len());
                token.splice(at..at, paste.bytes());
            }
            if accepted(&token, key) {
                let text = String::from_utf8(token).unwrap();
                prop_assert!(accepts(&text, key, theirs), "{}", text);
            }
        }

        #[test]
        fn a_changed_byte_never_verifies(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let key = SigningKey::shared(Algorithm::EdDsa);
            let mut token = key.sign(r#"{"alg":"EdDSA","kid":"k"}"#, &claims(&[])).into_bytes();
            prop_assert!(accepted(&token, key));
            let at = at.index(token.len());
            let changed = token[at] != byte;
            token[at] = byte;
            prop_assert_eq!(accepted(&token, key), !changed);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(token in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,60}") {
            prop_assert!(Unverified::read(&token).is_err());
            let message = format!("{}.{}.AAAA", encode(&text), encode(&token));
            prop_assert!(Unverified::read(message.as_bytes()).is_err());
        }
    }
}

#[test] // J13
fn a_key_of_another_tenants_signs_for_nobody_else() {
    let (one, two) = ("8a2f1c64-3b5d-4e7f-9a10-c2d3e4f50617", "0b6e9b0c-9e44-4a61-8f3f-5d1c2b7a9e10");
    let around = ("https://login.test/".into(), "/v2.0".into());
    let tenants = Some(Tenants { claim: "tid".into(), around, any_of: Box::new([one.into(), two.into()]) });
    let rules = TokenRules { issuer: "https://login.test/{tid}/v2.0".into(), tenants, ..rules() };
    let outcome = |issuer: Option<&str>, header: &str, iss: &str, tid: &str| {
        let mut jwk = signer().public_jwk(Some("k"));
        if let Some(issuer) = issuer {
            jwk["issuer"] = issuer.into();
        }
        let told = claims(&[("iss", &format!("\"https://login.test/{iss}/v2.0\"")), ("tid", &format!("\"{tid}\""))]);
        let token = Unverified::read(signer().sign(header, &told).as_bytes()).unwrap();
        assert_eq!(rules.signed(&token), [one, two].contains(&iss));
        let verified = token.verify(&key_set(&[jwk]), &rules, Timestamp::from_secs(NOW));
        verified.map(|verified| verified.tenant.unwrap().to_string())
    };
    let nameless = r#"{"alg":"ES256","typ":"JWT"}"#;
    for (issuer, iss, tid, good) in [
        (None, one, one, true),
        (Some("https://login.test/{tenantid}/v2.0"), one, one, true),
        (Some("https://login.test/{tenantid}/v2.0"), two, two, true),
        (Some(&*format!("https://login.test/{one}/v2.0")), one, one, true),
        (Some(&*format!("https://login.test/{one}/v2.0")), two, two, false),
        (Some("https://login.test/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"), one, one, false),
        (Some("https://evil.test/{tenantid}/v2.0"), one, one, false),
        (Some(""), one, one, false),
    ] {
        for header in [HEADER, nameless] {
            let wanted = if good { Ok(tid.to_owned()) } else { Err(Reason::KeyUnknown.into()) };
            assert_eq!(outcome(issuer, header, iss, tid), wanted, "{issuer:?} {iss}");
        }
    }
    let refused = Err(Refused::Deny(Reason::IssuerRefused));
    assert_eq!(outcome(None, HEADER, one, two), refused, "the iss of one tenant and the tid of another");
    let other = "11111111-2222-4333-8444-555555555555";
    assert_eq!(outcome(None, HEADER, other, other), refused);
    let list = claims(&[("iss", &format!("\"https://login.test/{one}/v2.0\"")), ("tid", &format!("[\"{one}\"]"))]);
    assert_eq!(verify(&signer().sign(HEADER, &list), &rules).err(), Some(Refused::Deny(Reason::IssuerRefused)));
}

#[test]
fn a_set_whose_keys_change_hands_is_another_set() {
    let of = |issuer: &str| {
        let mut jwk = signer().public_jwk(Some("k"));
        jwk["issuer"] = issuer.into();
        key_set(&[jwk]).digest()
    };
    assert_ne!(of("https://a.test"), of("https://b.test"));
    assert_ne!(of("https://a.test"), keys().digest());
}

#[test] // J19
fn padding_is_for_the_tokens_of_load_balancers_alone() {
    let pad = |text: &str| base64::engine::general_purpose::URL_SAFE.encode(text);
    let header = r#"{"alg":"ES256","typ":"JWT","kid":"k","iss":"https://idp.test","client":"api","signer":"arn:lb","exp":1800000300}"#;
    let message = format!("{}.{}", pad(header), pad(r#"{"sub":"u1"}"#));
    let signature = base64::engine::general_purpose::URL_SAFE.encode(signer().signature(message.as_bytes()));
    let token = format!("{message}.{signature}");
    assert_eq!(Unverified::read(token.as_bytes()).err(), Some(Reason::TokenMalformed));
    let outcome = |token: &str, rules: &TokenRules| {
        let read = Unverified::read_padded(token.as_bytes())?;
        read.verify(&keys(), rules, Timestamp::from_secs(NOW)).map(|verified| verified.subject.to_string())
    };
    let audience = Audience { claim: ClaimPath::parse("client").unwrap(), any_of: Box::new(["api".into()]) };
    let balanced = TokenRules { balancers: Box::new(["arn:lb".into()]), audience: audience.clone(), ..rules() };
    assert_eq!(outcome(&token, &balanced), Ok("u1".into()));
    let plain = TokenRules { audience, ..rules() };
    assert_eq!(outcome(&token, &plain), Err(Reason::TokenMalformed.into()), "it may be read, and is another issuer's");
    let other = TokenRules { balancers: Box::new(["arn:other".into()]), ..balanced };
    assert_eq!(outcome(&token, &other), Err(Reason::SignerRefused.into()));
    for wrong in [format!("{token}="), token.replacen("==", "=", 1), token.replacen('=', "", 1), format!("={token}")] {
        assert_ne!(
            outcome(&wrong, &TokenRules { balancers: Box::new(["arn:lb".into()]), ..rules() }),
            Ok("u1".into()),
            "{wrong}"
        );
    }
}
