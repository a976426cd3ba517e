//! What a minted token says, to whom and for how long; and who gets none.

use std::collections::BTreeSet;
use std::io;

use serde_json::{Value, json};

use super::*;
use crate::authz::algorithm::Algorithm;
use crate::authz::decision::{Decision, Verdict};
use crate::authz::gateways::Dialect;
use crate::authz::issuer::{Issuer, KeyState};
use crate::authz::keys::{KeySet, Origin};
use crate::authz::request::{Asker, Header, Raw};
use crate::authz::snapshot::{Facts, Snapshot, Step};
use crate::config::Compiled;
use crate::dev::mint::SigningKey;

const NOW: i64 = 1_800_000_000;
const POLICY: &str = r"
issuers:
  main: {issuer: https://id.test, jwks: file:keys.json, audience: shop, roles: roles, missing: empty}
gateways:
  edge: {by: unix, believes: [certificate]}
services: {cart: spiffe://td/cart, front: spiffe://td/front}
mint:
  issuer: https://edge.test
  audience: upstream
  keys: file:mint.pem
  claims: {roles: roles, tenant: claim:tenant, tier: {value: gold}}
routes:
  /public: public
  /anyone: anyone
  /a/{id}: signed-in
  /b: {allow: signed-in, mint: {audience: orders}}
  /none: {allow: signed-in, mint: none}
  /mesh: service:cart
";

struct Site {
    compiled: Compiled,
    snapshot: Snapshot,
}

fn idp() -> &'static SigningKey {
    SigningKey::shared(Algorithm::Es256)
}

fn site_with(policy: &str, key: Option<&SigningKey>) -> Site {
    let files = |path: &str| match (path, key) {
        ("keys.json", _) => Ok(json!({"keys": [idp().public_jwk(Some("k"))]}).to_string().into_bytes()),
        ("mint.pem", Some(key)) => Ok(key.private_pem().into_bytes()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let (compiled, problems) = crate::config::compile("p.yaml", policy, &files);
    let mut compiled = compiled.unwrap_or_else(|| panic!("{}", problems.render(false)));
    let issuers = compiled.policy.issuers.iter().map(|issuer| {
        let state: KeyState = compiled.fixed.remove(&issuer.name).unwrap();
        Arc::new(Issuer::new(Arc::clone(issuer), state))
    });
    let snapshot = Snapshot::new(1, Arc::clone(&compiled.policy), issuers.collect());
    Site { compiled, snapshot }
}

fn site() -> Site {
    site_with(POLICY, Some(SigningKey::shared(Algorithm::EdDsa)))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(NOW.saturating_add(seconds))
}

fn token(more: Value) -> String {
    let mut claims = json!({"iss": "https://id.test", "aud": "shop", "sub": "u1", "iat": NOW - 100, "exp": NOW + 500});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    idp().token(Some("k"), &claims)
}

struct Ask<'a> {
    path: &'a str,
    token: Option<&'a str>,
    asker: Asker,
    principal: &'a str,
    headers: &'a [(&'a str, &'a str)],
    now: Timestamp,
}

fn asking<'a>(path: &'a str, token: Option<&'a str>) -> Ask<'a> {
    Ask { path, token, asker: Asker::Unix, principal: "", headers: &[], now: at(0) }
}

impl Site {
    fn decide(&self, ask: &Ask<'_>) -> Decision {
        let bearer = ask.token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![Header { name: b":method", value: b"GET" }];
        headers.extend(bearer.iter().map(|value| Header { name: b"authorization", value: value.as_bytes() }));
        let own = ask.headers.iter();
        headers.extend(own.map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() }));
        let raw = Raw {
            principal: ask.principal.as_bytes(),
            ..Raw::new(Dialect::Envoy, ask.asker, [b"GET", ask.path.as_bytes(), b"shop.test"], headers)
        };
        let request = self.snapshot.read(&raw);
        match self.snapshot.decide(request.as_ref().map_err(|malformed| *malformed), &Facts::default(), ask.now) {
            Step::Decided(decision) => decision,
            Step::Needs(question) => panic!("{question:?}"),
        }
    }

    /// The value of the header, and whether the upstream sees none of the caller's.
    fn minted(&self, ask: &Ask<'_>) -> Result<Option<String>, Reason> {
        match self.decide(ask).verdict() {
            Verdict::Allow(grant) => {
                let set: Vec<_> = grant.set().filter(|(name, _)| *name == "x-portcullis-identity").collect();
                let removed = grant.remove().any(|name| *name == "x-portcullis-identity");
                assert_eq!(set.len() == 1, !removed, "either set or removed");
                Ok(set.first().map(|(_, value)| String::from_utf8(value.to_vec()).unwrap()))
            }
            Verdict::Deny(denial) => Err(denial.reason()),
        }
    }

    fn claims(&self, ask: &Ask<'_>) -> Value {
        let value = self.minted(ask).unwrap().expect("a token");
        serde_json::from_slice(&claims_of(value.as_bytes()).unwrap()).unwrap()
    }

    fn mint(&self) -> &Mint {
        self.compiled.policy.mint.as_ref().unwrap()
    }
}

#[test]
fn a_token_says_who_calls_to_whom_and_on_which_route() {
    let site = site();
    let user =
        token(json!({"roles": ["admin"], "tenant": "acme", "sid": "s1", "azp": "web", "acr": "phr", "auth_time": 7}));
    let mut claims = site.claims(&asking("/a/7", Some(&user)));
    let id = claims.as_object_mut().unwrap().remove("jti").unwrap();
    assert_eq!(id.as_str().unwrap().len(), 22);
    let expected = json!({
        "iss": "https://edge.test", "aud": "upstream", "sub": "u1", "principal": "main/u1",
        "original_iss": "https://id.test", "iat": NOW, "exp": NOW + 60, "route": "/a/{id}", "client_id": "web",
        "sid": "s1", "acr": "phr", "auth_time": 7, "roles": ["admin"], "tenant": "acme", "tier": "gold",
    });
    assert_eq!(claims, expected);
    assert_eq!(site.claims(&asking("/b", Some(&user)))["aud"], "orders");
}

#[test]
fn what_is_minted_verifies_by_what_is_published_here_and_elsewhere() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let site = site_with(POLICY, Some(SigningKey::shared(algorithm)));
        let value = site.minted(&asking("/b", Some(&token(json!({}))))).unwrap().unwrap();
        let jwks = site.mint().keys.jwks(site.mint().lifetime, at(0));
        let keys = KeySet::from_jwks(jwks.as_bytes(), Origin::Remote).unwrap();
        assert_eq!((keys.keys.len(), keys.refused.len()), (1, 0));
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let set: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&jwks).unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(&set.keys[0]).unwrap();
        let header = jsonwebtoken::decode_header(&value).unwrap();
        assert_eq!(
            (header.typ.as_deref(), header.kid.as_deref()),
            (Some("at+jwt"), set.keys[0].common.key_id.as_deref())
        );
        let mut validation = jsonwebtoken::Validation::new(header.alg);
        validation.set_audience(&["orders"]);
        validation.set_issuer(&["https://edge.test"]);
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Value>(&value, &key, &validation).unwrap().claims;
        assert_eq!(claims["sub"], "u1");
        // RFC 7638: the name of a key is the thumbprint of its public part.
        assert_eq!(set.keys[0].common.key_id.as_deref(), Some(&*site.mint().keys.iter().next().unwrap().kid));
        assert_eq!(
            set.keys[0].thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap(),
            site.mint().keys.iter().next().unwrap().kid.to_string()
        );
    }
}

#[test]
fn a_token_never_outlives_what_the_caller_showed_and_has_half_a_life_left() {
    let site = site();
    for seconds in 0..120 {
        let user = token(json!({}));
        let claims = site.claims(&Ask { now: at(seconds), ..asking("/b", Some(&user)) });
        let (issued, expires) = (claims["iat"].as_i64().unwrap() - NOW, claims["exp"].as_i64().unwrap() - NOW);
        assert!(issued <= seconds && (31..=60).contains(&(expires - seconds)), "{issued} {seconds} {expires}");
    }
    let short = token(json!({"exp": NOW + 10}));
    assert_eq!(site.claims(&asking("/b", Some(&short)))["exp"], NOW + 10);
    let young = token(json!({"iat": NOW + 13}));
    assert_eq!(site.claims(&Ask { now: at(20), ..asking("/b", Some(&young)) })["iat"], NOW + 13, "not from before it");
}

#[test]
fn a_token_is_the_same_for_half_its_life_and_for_nobody_else() {
    let site = site();
    let (one, two) = (token(json!({})), token(json!({"sub": "u2"})));
    let mint = |site: &Site, path: &str, token: &str, now| {
        site.minted(&Ask { now, ..asking(path, Some(token)) }).unwrap().unwrap()
    };
    let first = mint(&site, "/b", &one, at(0));
    assert_eq!(first, mint(&site, "/b", &one, at(29)));
    assert_eq!(first, mint(&self::site(), "/b", &one, at(3)), "another replica mints the very same");
    let others = [
        first.clone(),
        mint(&site, "/b", &one, at(30)),
        mint(&site, "/a/1", &one, at(0)),
        mint(&site, "/b", &two, at(0)),
        mint(&site, "/b", &token(json!({"roles": ["x"]})), at(0)),
    ];
    assert_eq!(others.iter().collect::<BTreeSet<_>>().len(), others.len());
    assert_eq!(first, mint(&site, "/b", &one, at(0)), "what was minted since took nobody's place");
}

#[test]
fn a_clock_that_is_set_back_finds_no_token_of_later() {
    let site = site();
    let user = token(json!({"iat": NOW - 100, "exp": NOW + 500}));
    let later = site.claims(&Ask { now: at(90), ..asking("/b", Some(&user)) });
    let earlier = site.claims(&asking("/b", Some(&user)));
    assert!(earlier["iat"].as_i64() < later["iat"].as_i64());
}

#[test]
fn nobody_gets_no_token_and_no_caller_brings_one() {
    let site = site();
    let user = token(json!({}));
    let forged =
        [("x-portcullis-identity", "forged"), ("X-Portcullis-Identity", "forged"), ("x_portcullis_identity", "forged")];
    let unknown = Asker::Tcp("192.0.2.7".parse().unwrap());
    for ask in [
        asking("/public", None),
        asking("/public", Some(&user)),
        asking("/anyone", None),
        asking("/none", Some(&user)),
        Ask { asker: unknown, ..asking("/b", Some(&user)) },
        Ask { asker: unknown, ..asking("/anyone", Some(&user)) },
    ] {
        let ask = Ask { headers: &forged, ..ask };
        assert_eq!(site.minted(&ask), Ok(None), "{}", ask.path);
        let decision = site.decide(&ask);
        let Verdict::Allow(grant) = decision.verdict() else { panic!("denied") };
        assert!(grant.remove().any(|name| *name == "x_portcullis_identity"), "{}", ask.path);
    }
    let ask = Ask { headers: &forged, ..asking("/b", Some(&user)) };
    assert_ne!(site.minted(&ask).unwrap().unwrap(), "forged");
    let decision = site.decide(&ask);
    let Verdict::Allow(grant) = decision.verdict() else { panic!("denied") };
    assert!(grant.remove().any(|name| *name == "x_portcullis_identity"));
    assert!(
        !grant.remove().any(|name| name.eq_ignore_ascii_case(b"x-portcullis-identity")),
        "what is set is not removed"
    );
}

#[test]
fn actors_and_who_carried_the_request_are_a_chain() {
    let site = site();
    let user = token(json!({"act": {"sub": "agent", "act": {"sub": "portal", "iss": "https://other.test"}}}));
    let told = json!({"sub": "agent", "act": {"sub": "portal", "iss": "https://other.test"}});
    assert_eq!(site.claims(&asking("/b", Some(&user)))["act"], told);
    let through = Ask { principal: "spiffe://td/front", ..asking("/b", Some(&user)) };
    assert_eq!(site.claims(&through)["act"], json!({"sub": "spiffe://td/front", "act": told}));
    let plain = token(json!({}));
    assert_eq!(site.claims(&asking("/b", Some(&plain))).get("act"), None);
    let through = |principal| Ask { principal, ..asking("/b", Some(&plain)) };
    assert_eq!(site.claims(&through("spiffe://td/front"))["act"], json!({"sub": "spiffe://td/front"}));
    assert_eq!(site.claims(&through("spiffe://td/cart"))["act"], json!({"sub": "spiffe://td/cart"}), "and is no other");
    let alone = Ask { principal: "spiffe://td/cart", ..asking("/mesh", None) };
    let claims = site.claims(&alone);
    assert_eq!((&claims["sub"], claims.get("act")), (&json!("spiffe://td/cart"), None));
    assert_eq!(claims["principal"], "services/spiffe://td/cart");
}

#[test]
fn a_chain_that_cannot_be_told_is_a_denial() {
    let site = site();
    let bad = token(json!({"act": "agent"}));
    assert_eq!(site.minted(&asking("/b", Some(&bad))), Err(Reason::HeaderValueRefused));
    let deep = (0..8).fold(json!({"sub": "a"}), |inner, _| json!({"sub": "a", "act": inner}));
    let deep = token(json!({"act": deep["act"]}));
    assert!(site.minted(&asking("/b", Some(&deep))).is_ok());
    let through = Ask { principal: "spiffe://td/front", ..asking("/b", Some(&deep)) };
    assert_eq!(site.minted(&through), Err(Reason::HeaderValueRefused), "nine are read by nobody");
}

#[test]
fn without_a_key_the_dependency_is_down() {
    let site = site_with(POLICY, None);
    let user = token(json!({}));
    assert_eq!(site.minted(&asking("/b", Some(&user))), Err(Reason::MintUnavailable));
    assert_eq!(site.minted(&asking("/none", Some(&user))), Ok(None));
}

#[test]
fn a_token_counts_for_what_a_gateway_lets_through() {
    let site = site();
    let user = token(json!({}));
    let size = |filler: usize| {
        let value = "a".repeat(filler);
        let headers = [("x-filler", value.as_str())];
        site.minted(&Ask { headers: &headers, ..asking("/b", Some(&user)) }).map(drop)
    };
    assert_eq!(size(59_000), Ok(()));
    assert_eq!(size(60_900), Err(Reason::HeadersTooLarge));
    let lines: Vec<(String, &str)> = (0..98).map(|at| (format!("x-{at}"), "1")).collect();
    let lines: Vec<(&str, &str)> = lines.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(site.minted(&Ask { headers: &lines, ..asking("/b", Some(&user)) }), Err(Reason::HeadersTooLarge));
}

#[test]
fn in_authorization_it_takes_the_place_of_the_caller_s() {
    let policy = POLICY.replace("  audience: upstream", "  audience: upstream\n  header: Authorization");
    let site = site_with(&policy, Some(SigningKey::shared(Algorithm::EdDsa)));
    let user = token(json!({}));
    let decision = site.decide(&asking("/b", Some(&user)));
    let Verdict::Allow(grant) = decision.verdict() else { panic!("denied") };
    let set: Vec<_> = grant.set().filter(|(name, _)| *name == "authorization").collect();
    assert!(set.len() == 1 && set[0].1.starts_with(b"Bearer eyJ") && !set[0].1.ends_with(user.as_bytes()));
    let decision = site.decide(&asking("/none", Some(&user)));
    let Verdict::Allow(grant) = decision.verdict() else { panic!("denied") };
    assert!(grant.remove().any(|name| *name == "authorization"));
}

#[test]
fn a_principal_stays_its_issuer_s_over_several_portcullis() {
    let policy = POLICY.replace("missing: empty}", "missing: empty, relays: true}");
    let relay = site_with(&policy, Some(SigningKey::shared(Algorithm::EdDsa)));
    let first = json!({"principal": "shop/u1", "original_iss": "https://first.test"});
    let claims = relay.claims(&asking("/b", Some(&token(first.clone()))));
    assert_eq!((&claims["principal"], &claims["original_iss"]), (&json!("shop/u1"), &json!("https://first.test")));
    let claims = site().claims(&asking("/b", Some(&token(first))));
    assert_eq!(
        (&claims["principal"], &claims["original_iss"]),
        (&json!("main/u1"), &json!("https://id.test")),
        "nobody else says so"
    );
}

#[test] // J13
fn a_principal_of_one_of_many_tenants_is_told_as_that_tenant_s() {
    let policy = POLICY.replace("{issuer: https://id.test, ", "{issuer: 'https://id.test/{tid}/', tenants: [t1, t2], ");
    let site = site_with(&policy, Some(SigningKey::shared(Algorithm::EdDsa)));
    let user = token(json!({"iss": "https://id.test/t2/", "tid": "t2"}));
    let claims = site.claims(&asking("/b", Some(&user)));
    assert_eq!(
        (&claims["sub"], &claims["principal"], &claims["original_iss"]),
        (&json!("t2:u1"), &json!("main/t2:u1"), &json!("https://id.test/t2/"))
    );
}

#[test] // S01
fn no_debug_shows_a_token_or_a_key() {
    let site = site();
    let user = token(json!({}));
    let value = site.minted(&asking("/b", Some(&user))).unwrap().unwrap();
    let shown = format!("{:?}{:?}", site.decide(&asking("/b", Some(&user))), site.compiled.policy);
    assert!(!shown.contains(&value) && !shown.contains(value.rsplit('.').next().unwrap()));
    let secret: String = SigningKey::shared(Algorithm::EdDsa).private_pem().lines().nth(1).unwrap().into();
    assert!(!shown.contains(&secret));
}

#[test]
fn only_private_keys_of_two_kinds_are_read() {
    let pem = |algorithm| SigningKey::shared(algorithm).private_pem();
    let good = pem(Algorithm::EdDsa);
    assert!(Key::read(format!("\n{good}\n").as_bytes(), None).is_ok());
    assert_eq!(Key::read(pem(Algorithm::Es256).as_bytes(), None).unwrap().algorithm, Algorithm::Es256);
    let public = SigningKey::shared(Algorithm::EdDsa).public_pem();
    for (text, why) in [
        (pem(Algorithm::Rs256), KeyRefused::Kind),
        (pem(Algorithm::Es384), KeyRefused::Kind),
        (public, KeyRefused::Malformed),
        (format!("{good}{good}"), KeyRefused::Malformed),
        (good.replace("-----END", "----END"), KeyRefused::Malformed),
        (String::new(), KeyRefused::Malformed),
        ("secret".to_owned(), KeyRefused::Malformed),
    ] {
        assert_eq!(Key::read(text.as_bytes(), None).unwrap_err(), why, "{text}");
    }
}

#[test]
fn the_last_key_whose_time_has_come_signs_and_the_one_before_is_published_as_long_as_it_must() {
    let key = |from: Option<i64>| {
        let pem = SigningKey::generate(Algorithm::EdDsa).private_pem();
        Key::read(pem.as_bytes(), from.map(Timestamp::from_secs)).unwrap()
    };
    let keys = Keys::new(vec![key(Some(300)), key(Some(100)), key(None)]);
    let from = |now: i64| keys.signing(Timestamp::from_secs(now)).and_then(|key| key.from);
    assert_eq!(from(99), None);
    assert_eq!(from(100), Some(Timestamp::from_secs(100)));
    assert_eq!(from(299), Some(Timestamp::from_secs(100)));
    assert_eq!(from(300), Some(Timestamp::from_secs(300)));
    let count = |now: i64| keys.published(Duration::from_secs(60), Timestamp::from_secs(now)).count();
    assert_eq!(count(0), 3, "each before it signs");
    assert_eq!(count(300 + 60 + 600 - 1), 3);
    assert_eq!(count(300 + 60 + 600), 2);
}
