//! Keys on whole policies: who passes with which, and why not.

use super::format::{KeyHash, Prefix};
use crate::authz::decision::{Decision, Verdict};
use crate::authz::gateways::Dialect;
use crate::authz::reason::Reason;
use crate::authz::request::{Asker, Header, Raw};
use crate::authz::snapshot::{Facts, Step};
use crate::config::compile;
use crate::config::file::{Ask, Who};
use crate::dev::rehearsal::{Call, NOW, Rehearsal};

const POLICY: &str = "
issuers: {main: {url: 'https://id.example.com', audience: shop, roles: roles, from: [bearer, 'header:x-both'], missing: empty}}
api_keys:
  from: [header:X-API-Key, 'query:api_key', 'header:x-both']
  keys:
    - {id: b-1, owner: billing, hash: HASH1, roles: [reader], scopes: [invoices], not_before: 2027-01-01T00:00:00Z, expires: 2027-02-01T00:00:00Z}
    - {id: b-2, owner: billing, hash: HASH2}
    - {id: crm-1, owner: crm, hash: HASH3, groups: [partners], routes: [GET /any/**, POST /any/x]}
    - {id: gone, owner: gone, hash: HASH4, disabled: true}
    - {id: past, owner: past, hash: HASH5, expires: 2027-01-15T08:00:00Z}
    - {id: soon, owner: soon, hash: HASH6, not_before: 2027-01-15T08:00:01Z}
    - {id: now, owner: now, hash: HASH7, not_before: 2027-01-15T08:00:00Z, expires: 2027-01-15T08:00:01Z}
headers: {X-User-ID: sub, X-Who: principal, X-App: app, X-Key-ID: app_id}
roles: {invoicer: key:billing or role:accountant}
deny: {no-soon: role:banned}
routes:
  /people: signed-in
  /any/**: {allow: signed-in, issuers: [main, api_keys]}
  /open: {allow: anyone, issuers: [main, api_keys]}
  /keys: {allow: signed-in, issuers: [api_keys]}
  /billing: key:billing
  /role: role:invoicer
  /read: {allow: role:reader and scope:invoices, issuers: [main, api_keys]}
  /profile/{id}: {allow: owner:id, issuers: [main, api_keys]}
  /both: key:billing and role:accountant
  /stripped: {allow: signed-in, issuers: [main, api_keys], credential: strip}
  /header: {allow: signed-in, issuers: [api_keys], credential: {from: [header:X-API-Key]}}
  /public: public
";

/// The keys of the policy, from 1.
fn key(number: u8) -> String {
    let mut next = number;
    Prefix::default().key(|| {
        next = next.wrapping_add(59);
        next
    })
}

fn policy() -> String {
    (1..=7).fold(POLICY.to_owned(), |text, at| {
        text.replace(&format!("HASH{at}"), &format!("'{}'", KeyHash::of(key(at).as_bytes())))
    })
}

fn rehearsal() -> Rehearsal {
    let (compiled, problems) = compile("p", &policy(), &|_| Err(std::io::ErrorKind::NotFound.into()));
    Rehearsal::new(&compiled.unwrap_or_else(|| panic!("{}", problems.render(false))))
}

fn decided(rehearsal: &Rehearsal, target: &str, headers: &[(&str, &str)]) -> Decision {
    let headers = [(":method", "GET"), (":path", target)].into_iter().chain(headers.iter().copied());
    let headers = headers.map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() }).collect();
    let raw = Raw::new(Dialect::Envoy, Asker::Unix, [b"GET", target.as_bytes(), b"h"], headers);
    let snapshot = rehearsal.snapshot();
    let request = snapshot.read(&raw);
    match snapshot.decide(request.as_ref().map_err(|malformed| *malformed), &Facts::default(), NOW) {
        Step::Decided(decision) => decision,
        Step::Needs(question) => panic!("{question:?}"),
    }
}

/// Who passes, or the reason why nobody does.
fn outcome(decision: &Decision) -> Result<String, Reason> {
    match decision.verdict() {
        Verdict::Deny(denial) => Err(denial.reason()),
        Verdict::Allow(_) => {
            let caller = &decision.basis().caller;
            let told = caller.acting().map_or("nobody".to_owned(), |identity| identity.principal().to_string());
            Ok(match &caller.app {
                Some(app) if !caller.acting().unwrap().is_app() => format!("{told} by {}", app.principal()),
                _ => told,
            })
        }
    }
}

fn with(target: &str, headers: &[(&str, &str)]) -> Result<String, Reason> {
    outcome(&decided(&rehearsal(), target, headers))
}

fn shown(number: u8, target: &str) -> Result<String, Reason> {
    with(target, &[("x-api-key", &key(number))])
}

fn token(rehearsal: &Rehearsal, roles: &[&str], sub: &str) -> String {
    let claims = [("sub".to_owned(), sub.into())].into_iter().collect();
    let roles = Some(roles.iter().map(|role| (*role).into()).collect());
    format!("Bearer {}", rehearsal.token(&Who::Token { issuer: None, roles, claims }).unwrap().unwrap())
}

#[test]
fn a_key_is_its_owner_where_the_route_takes_keys_and_is_not_read_elsewhere() {
    assert_eq!(shown(1, "/any/x"), Ok("api_keys/billing".into()));
    assert_eq!(shown(2, "/keys"), Ok("api_keys/billing".into()));
    assert_eq!(shown(1, "/open"), Ok("api_keys/billing".into()));
    assert_eq!(shown(1, "/people"), Err(Reason::CredentialMissing), "a route for people is not opened by a key");
    assert_eq!(shown(1, "/public"), Ok("nobody".into()));
    assert_eq!(with("/public", &[("x-api-key", "nonsense")]), Ok("nobody".into()));
    assert_eq!(with("/open", &[]), Ok("nobody".into()));
    assert_eq!(with("/keys", &[]), Err(Reason::CredentialMissing));
}

#[test]
fn a_rule_that_names_an_owner_takes_the_keys_of_that_owner_and_of_nobody_else() {
    assert_eq!(shown(2, "/billing"), Ok("api_keys/billing".into()));
    assert_eq!(shown(2, "/role"), Ok("api_keys/billing".into()), "through a role that the policy derives");
    assert_eq!(shown(3, "/billing"), Err(Reason::ApiKeyRefused));
    assert_eq!(shown(3, "/role"), Err(Reason::ApiKeyRefused));
}

#[test]
fn roles_scopes_and_groups_are_those_of_the_very_key() {
    assert_eq!(shown(1, "/read"), Ok("api_keys/billing".into()));
    assert_eq!(shown(2, "/read"), Err(Reason::RuleUnmet));
    let told = decided(&rehearsal(), "/any/x", &[("x-api-key", &key(3))]);
    assert_eq!(told.basis().caller.app.as_ref().unwrap().group("partners"), crate::authz::identity::Truth::True);
}

#[test] // A01
fn a_key_is_taken_whole_or_not_at_all_and_every_other_value_is_answered_alike() {
    let good = key(1);
    let unknown = key(200);
    let rehearsal = rehearsal();
    let answer = |value: &str| {
        let decision = decided(&rehearsal, "/any/x", &[("x-api-key", value)]);
        let Verdict::Deny(denial) = decision.verdict() else { panic!("{value:?} passes") };
        (denial.status(), denial.reason())
    };
    assert_eq!(answer(&unknown), (401, Reason::ApiKeyUnknown));
    let (head, last) = good.split_at(good.len() - 1);
    let typo = format!("{head}{}", if last == "0" { "1" } else { "0" });
    for other in [
        typo,
        head.to_owned(),
        format!("{good}0"),
        format!("{good}\0"),
        format!(" {good}"),
        good.to_uppercase(),
        good.to_lowercase(),
        good.replacen('k', "\u{43a}", 1),
        good.replacen("live", "test", 1),
        String::new(),
        "x".repeat(10_000),
        format!("{good}{good}"),
        format!("Bearer {good}"),
        KeyHash::of(good.as_bytes()).to_string(),
    ] {
        assert_eq!(answer(&other), (401, Reason::ApiKeyMalformed), "{other:?}");
    }
}

#[test] // A01
fn a_key_is_found_by_its_hash_and_compared_in_constant_time() {
    // What the code says, for no clock tells it: nothing compares a key, or a hash of one, byte by byte.
    let source = include_str!("../api_keys.rs");
    let find = source.split("fn find(").nth(1).unwrap().split("\n    }\n").next().unwrap();
    assert!(find.contains("self.begin.get(&hash.bucket())") && find.contains("verify_slices_are_equal("), "{find}");
    let stored = source.split("fn stored(").nth(1).unwrap().split("\n    }\n").next().unwrap();
    assert!(stored.contains("KeyHash::of(value)") && !stored.contains("=="), "{stored}");
    let rehearsal = rehearsal();
    let keys = rehearsal.snapshot().policy().api_keys.as_ref().unwrap();
    for number in 1..=7 {
        assert_eq!(
            keys.find(&KeyHash::of(key(number).as_bytes())).unwrap().key.hash,
            KeyHash::of(key(number).as_bytes())
        );
    }
    assert!(keys.find(&KeyHash::of(b"another")).is_none());
}

#[test]
fn hashes_that_begin_alike_are_told_apart() {
    let hash = |last: u8| KeyHash::parse(&format!("sha256:{}{last:02x}", "ab".repeat(31))).unwrap();
    let keys = (1..=3).map(|at| super::ApiKey {
        id: format!("k{at}").into(),
        owner: "o".into(),
        hash: hash(at),
        not_before: None,
        expires: None,
        disabled: false,
        rights: Default::default(),
    });
    let keys = super::ApiKeys::new(Prefix::default(), vec![], &[], 1, keys.collect());
    for at in 1..=3 {
        assert_eq!(&*keys.find(&hash(at)).unwrap().key.id, format!("k{at}"));
    }
    assert!(keys.find(&hash(4)).is_none());
}

#[test]
fn time_is_asked_on_every_request_and_each_refusal_has_its_reason() {
    assert_eq!(shown(4, "/any/x"), Err(Reason::ApiKeyDisabled));
    assert_eq!(shown(5, "/any/x"), Err(Reason::ApiKeyExpired), "the very second counts as after");
    assert_eq!(shown(6, "/any/x"), Err(Reason::ApiKeyNotYetValid));
    assert_eq!(shown(7, "/any/x"), Ok("api_keys/now".into()));
    let rehearsal = rehearsal();
    let key = key(7);
    let at = |seconds: i64| {
        let headers = [(":method", "GET"), (":path", "/any/x"), ("x-api-key", &*key)];
        let headers = headers.iter().map(|(n, v)| Header { name: n.as_bytes(), value: v.as_bytes() }).collect();
        let raw = Raw::new(Dialect::Envoy, Asker::Unix, [b"GET", b"/any/x", b"h"], headers);
        let now = crate::authz::time::Timestamp::from_millis(NOW.as_millis() + seconds * 1_000);
        let request = rehearsal.snapshot().read(&raw).unwrap();
        let Step::Decided(decision) = rehearsal.snapshot().decide(Ok(&request), &Facts::default(), now) else {
            panic!()
        };
        outcome(&decision)
    };
    assert_eq!(at(0), Ok("api_keys/now".into()));
    assert_eq!(at(1), Err(Reason::ApiKeyExpired), "though its identity is remembered");
    assert_eq!(at(-1), Err(Reason::ApiKeyNotYetValid));
}

#[test]
fn a_key_is_limited_to_its_routes() {
    assert_eq!(shown(3, "/any/x"), Ok("api_keys/crm".into()));
    assert_eq!(shown(3, "/open"), Err(Reason::ApiKeyRouteRefused));
    assert_eq!(Reason::ApiKeyRouteRefused.status(), 403);
    assert_eq!(shown(3, "/any"), Ok("api_keys/crm".into()), "as keys of routes are read");
}

#[test]
fn a_user_s_token_beside_a_key_acts_and_both_are_known() {
    let rehearsal = rehearsal();
    let (user, accountant) = (token(&rehearsal, &[], "u1"), token(&rehearsal, &["accountant"], "u1"));
    let ask = |target: &str, token: &str, key: &str| {
        outcome(&decided(&rehearsal, target, &[("authorization", token), ("x-api-key", key)]))
    };
    let (good, bad) = (key(1), key(200));
    assert_eq!(ask("/both", &accountant, &good), Ok("main/u1 by api_keys/billing".into()));
    assert_eq!(ask("/both", &user, &good), Err(Reason::RuleUnmet), "the key's roles are not the user's");
    assert_eq!(ask("/read", &user, &good), Err(Reason::RuleUnmet), "nor its scopes");
    assert_eq!(ask("/any/x", &user, &bad), Err(Reason::ApiKeyUnknown), "never a fallback to another slot");
    assert_eq!(ask("/any/x", "Bearer nonsense", &good), Err(Reason::TokenMalformed));
    assert_eq!(ask("/people", &user, &bad), Ok("main/u1".into()), "a key is not read where none is taken");
}

#[test] // A01
fn two_different_keys_are_ambiguous_and_the_same_twice_is_one() {
    let (one, two) = (key(1), key(2));
    let both = format!("{one},{two}");
    for headers in [
        &[("x-api-key", &*one), ("x-api-key", &*two)][..],
        &[("x-api-key", &*both)],
        &[("x-api-key", &*one), ("x-both", &*two)],
    ] {
        assert_eq!(with("/any/x", headers), Err(Reason::CredentialAmbiguous), "{headers:?}");
    }
    let query = format!("/any/x?api_key={two}");
    assert_eq!(with(&query, &[("x-api-key", &one)]), Err(Reason::CredentialAmbiguous));
    assert_eq!(with(&query, &[("x-api-key", &two)]), Ok("api_keys/billing".into()));
}

#[test] // A01
fn a_key_in_the_query_is_read_in_one_spelling_and_never_reaches_the_upstream() {
    let key = key(1);
    let rehearsal = rehearsal();
    let decision = decided(&rehearsal, &format!("/any/x?a=1&api_key={key}"), &[]);
    assert_eq!(outcome(&decision), Ok("api_keys/billing".into()));
    let Verdict::Allow(grant) = decision.verdict() else { panic!() };
    assert_eq!(grant.query_removed().map(|name| &**name).collect::<Vec<_>>(), [b"api_key"]);
    assert_eq!(with(&format!("/any/x?api%5Fkey={key}"), &[]), Err(Reason::QueryAmbiguous));
    assert_eq!(with(&format!("/any/x?api_key={}", key.replacen('_', "%5F", 1)), &[]), Err(Reason::ApiKeyMalformed));
}

#[test]
fn where_tokens_stand_as_well_the_prefix_tells_what_a_value_is() {
    let rehearsal = rehearsal();
    let token = token(&rehearsal, &[], "u1").replace("Bearer ", "");
    let ask = |target: &str, value: &str| outcome(&decided(&rehearsal, target, &[("x-both", value)]));
    assert_eq!(ask("/any/x", &key(1)), Ok("api_keys/billing".into()));
    assert_eq!(ask("/any/x", &token), Ok("main/u1".into()));
    assert_eq!(ask("/any/x", "pk_live_nonsense"), Err(Reason::ApiKeyMalformed));
    assert_eq!(ask("/any/x", "nonsense"), Err(Reason::TokenMalformed));
    assert_eq!(ask("/people", &key(1)), Err(Reason::TokenMalformed), "no key is looked for there");
    let both = [("x-both", &*key(1)), ("authorization", &*format!("Bearer {token}"))].map(|(n, v)| (n, v.to_owned()));
    let both: Vec<(&str, &str)> = both.iter().map(|(n, v)| (*n, v.as_str())).collect();
    assert_eq!(outcome(&decided(&rehearsal, "/any/x", &both)), Ok("main/u1 by api_keys/billing".into()));
    assert_eq!(with("/header", &[("x-both", &key(1))]), Err(Reason::CredentialMissing), "the route narrows the places");
}

#[test]
fn an_owner_is_nobody_s_subject() {
    assert_eq!(shown(2, "/profile/billing"), Err(Reason::RuleUnmet));
    let decision =
        decided(&rehearsal(), "/any/x", &[("x-api-key", &key(1)), ("x-app", "forged"), ("x-user-id", "forged")]);
    let Verdict::Allow(grant) = decision.verdict() else { panic!() };
    let set: Vec<(String, String)> = grant
        .set()
        .map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), String::from_utf8(value.to_vec()).unwrap()))
        .collect();
    let told = [("x-who", "api_keys/billing"), ("x-app", "billing"), ("x-key-id", "b-1")];
    assert_eq!(set, told.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert!(grant.remove().any(|name| &**name == b"x-user-id"));
    let nobody = decided(&rehearsal(), "/open", &[("x-app", "forged")]);
    let Verdict::Allow(grant) = nobody.verdict() else { panic!() };
    assert!(
        grant.set().next().is_none() && grant.remove().any(|name| &**name == b"x-app"),
        "the caller's own is removed"
    );
}

#[test]
fn a_key_is_stripped_as_credentials_are() {
    let rehearsal = rehearsal();
    let removed = |target: &str| {
        let decision = decided(&rehearsal, target, &[("x-api-key", &key(1))]);
        let Verdict::Allow(grant) = decision.verdict() else { panic!() };
        grant.remove().any(|name| &**name == b"x-api-key")
    };
    assert!(removed("/stripped") && !removed("/any/x"));
}

#[test] // A02
fn no_debug_text_of_a_decision_or_a_policy_shows_a_key() {
    let rehearsal = rehearsal();
    let decision = decided(&rehearsal, "/any/x", &[("x-api-key", &key(1))]);
    let shown = format!("{decision:?} {:?}", rehearsal.snapshot().policy());
    assert!(shown.contains("billing") && !shown.contains(key(1).get(10..30).unwrap()), "{shown}");
}

#[test]
fn a_test_shows_the_key_of_an_owner_or_of_an_id() {
    let keys = ["billing", "crm-1", "past"];
    let rehearsal = rehearsal().with_keys(keys.into_iter());
    let ask = |key, target: &str| {
        let ask = Ask { method: "GET".into(), host: None, target: target.into() };
        let (who, from) = (Who::Anonymous, None);
        let call = Call {
            who: &who,
            ask: &ask,
            from,
            service: None,
            key: Some(key),
            browser: false,
            headers: &[],
            dpop: None,
            certificate: None,
        };
        rehearsal.ask(&call).map(|decision| outcome(&decision))
    };
    assert_eq!(ask("billing", "/billing").unwrap(), Ok("api_keys/billing".into()));
    assert_eq!(ask("crm-1", "/any/x").unwrap(), Ok("api_keys/crm".into()));
    assert_eq!(ask("past", "/any/x").unwrap(), Err(Reason::ApiKeyExpired));
    assert!(ask("nobody", "/any/x").is_err());
}
