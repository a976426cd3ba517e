//! What holds for every policy, request and moment: tried on random ones.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use portcullis::authz::decision::Verdict;
use portcullis::authz::gateways::Dialect;
use portcullis::authz::reason::Reason;
use portcullis::authz::request::{Asker, Proof, Raw, Relaxed, Request};
use portcullis::authz::rule::Rule;
use portcullis::authz::time::Timestamp;
use portcullis::clock;
use portcullis::gateway::envoy;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

use crate::doors::{self, Answer, Asked, Beside, Http, Lines};
use crate::site::{Answers, Recipe, Site};
use crate::wire::{PROBE, captures};

const BASE: &str = r#"
issuers:
  main: {url: "https://id.test", audience: api, roles: roles, groups: groups}
  other: {url: "https://other.test", audience: api, may_grant: [guest], default: true, subject_prefix: "o:", roles: roles}
gateways:
  edge: {by: unix, believes: [client_address], client_address: {from: connection}}
headers:
  X-User-ID: sub
  X-User-Roles: roles
routes:
  /public/**: public
  /anyone/**: anyone
  /me: signed-in
  /u/{id}/**: owner:id
  GET /admin/**: role:admin
  /admin/{x}: role:admin or scope:read
  /net: network:10.0.0.0/8
"#;

/// The base policy with these lines of guards and forbids.
fn policy(guards: &[String], forbids: &[String]) -> String {
    let base = BASE.replace("main: {", "main: {may_grant: any, default: true, ");
    let section = |name: &str, lines: &[String]| {
        let lines: Vec<String> = lines.iter().map(|line| format!("  {line}\n")).collect();
        if lines.is_empty() { String::new() } else { format!("{name}:\n{}", lines.concat()) }
    };
    format!("{base}{}{}", section("guards", guards), section("deny", forbids))
}

fn site() -> Site {
    Site::open(&policy(&[], &[]), &BTreeMap::new())
}

/// Paths near those of the policy, and near what tricks readers of paths.
fn target() -> impl Strategy<Value = String> {
    let segment = select(vec![
        "public", "anyone", "me", "u", "u1", "u2", "admin", "x", "net", "", ".", "..", "%2e%2e", "a%2fb", "ADMIN",
        "Public", "admin.", "admin%20", "me%3f", "%61dmin", "%25", "%2525", "%00", "a;b", "a\\b", "%c3%a9", "*",
        "{id}", "o:u1",
    ]);
    let query = select(vec!["", "", "", "", "", "?", "?a=/public", "?../x", "?#"]);
    let odd = prop::collection::vec(segment, 1..5).prop_map(|segments| format!("/{}", segments.join("/")));
    let plain = select(vec![
        "/public",
        "/public/a",
        "/anyone",
        "/anyone/x",
        "/me",
        "/u/u1",
        "/u/u2/x",
        "/u/o:u1",
        "/admin",
        "/admin/x",
        "/admin/x/y",
        "/net",
    ])
    .prop_map(str::to_owned);
    (prop_oneof![3 => plain, 2 => odd], query).prop_map(|(path, query)| format!("{path}{query}"))
}

fn method() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        8 => select(vec!["GET", "POST", "HEAD"]),
        1 => select(vec!["OPTIONS", "CONNECT", "TRACE", "FOO", "get", ""]),
    ]
}

/// Claims that rules ask for, each there, otherwise or unreadable.
fn claims() -> impl Strategy<Value = Map<String, Value>> {
    let sub = prop_oneof![9 => Just(json!("u1")), 1 => select(vec![json!("u2"), json!("o:u1"), json!(7), Value::Null])];
    let iss = select(vec!["main", "other"]);
    let roles = select(vec![
        json!([]),
        json!(["admin"]),
        json!(["guest", "user"]),
        json!("admin user"),
        json!({}),
        Value::Null,
    ]);
    let groups = select(vec![json!(["platform"]), json!([]), Value::Null]);
    let scope = select(vec![json!("read"), json!(""), json!({}), Value::Null]);
    let level = select(vec![json!("1"), json!("2"), json!([1, "2"]), json!({}), Value::Null]);
    let exp =
        select(vec![json!("now+300"), json!("now+300"), json!("now+30"), json!("now-30"), json!("now-90"), json!("x")]);
    (sub, iss, roles, groups, scope, level, exp).prop_map(|(sub, iss, roles, groups, scope, level, exp)| {
        let all = [
            ("sub", sub),
            ("iss", json!(iss)),
            ("roles", roles),
            ("groups", groups),
            ("scope", scope),
            ("level", level),
            ("exp", exp),
        ];
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    })
}

/// A request, and how its token is to be made, if it has one.
#[derive(Clone, Debug)]
pub struct Question {
    method: &'static str,
    pub target: String,
    claims: Option<Map<String, Value>>,
    forged: bool,
    alias: Option<&'static str>,
    address: Option<&'static str>,
}

pub fn question() -> impl Strategy<Value = Question> {
    let alias = select(vec![
        None,
        Some("x-user-id"),
        Some("x_user_id"),
        Some("X-User-ID"),
        Some("host"),
        Some(":path"),
        Some("a b"),
    ]);
    let address = select(vec![None, Some("10.1.2.3"), Some("192.0.2.1"), Some("::ffff:10.0.0.1")]);
    (
        method(),
        target(),
        prop::option::weighted(0.7, claims()),
        prop::bool::weighted(0.1),
        prop::option::weighted(0.3, alias),
        address,
    )
        .prop_map(|(method, target, claims, forged, alias, address)| Question {
            method,
            target,
            claims,
            forged,
            alias: alias.flatten(),
            address,
        })
}

impl Question {
    pub fn asked(&self, site: &Site) -> Asked {
        let mut lines: Vec<(String, String)> =
            [(":method", self.method), (":path", &*self.target), (":authority", "shop.test")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        if let Some(claims) = &self.claims {
            let mut recipe = Recipe::default();
            if self.forged {
                recipe.signed_by = Some(if claims["iss"] == "main" { "other" } else { "main" }.to_owned());
            }
            lines.push(("authorization".into(), format!("Bearer {}", site.token(claims, &recipe))));
        }
        lines.extend(self.alias.map(|name| (name.to_owned(), "attacker".to_owned())));
        let http = Http { method: self.method.into(), target: self.target.clone(), host: "shop.test".into(), lines };
        let source = self.address.map(|address| address.parse::<IpAddr>().unwrap());
        Asked { asker: Asker::Unix, beside: Beside::default(), source, http: Some(http) }
    }
}

/// Rules of a few words, under `not`, `and` and `or`.
pub fn rule() -> impl Strategy<Value = String> {
    let word = select(vec![
        "signed-in",
        "role:admin",
        "role:guest",
        "group:platform",
        "scope:read",
        "claim:level=2",
        "claim:level?",
        "issuer:other",
        "network:10.0.0.0/8",
    ])
    .prop_map(str::to_owned);
    word.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| format!("not ({one})")),
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("({one}) and ({two})")),
            (inner.clone(), inner).prop_map(|(one, two)| format!("({one}) or ({two})")),
        ]
    })
}

fn guard() -> impl Strategy<Value = String> {
    let pattern =
        select(vec!["/**", "/admin/**", "/{a}/{b}", "GET /me", "POST,PUT /admin/**", "/anyone/**", "/u/*/**"]);
    (pattern, rule()).prop_map(|(pattern, rule)| format!("{pattern:?}: {rule}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nobody_passes_without_an_identity_but_where_the_route_says_so(
        questions in prop::collection::vec(question(), 20),
    ) {
        // One site for many questions, so that what is remembered of one may be wrongly used for another.
        thread_local!(static SITE: Site = site());
        SITE.with(|site| -> Result<(), TestCaseError> {
            for question in questions {
                let asked = question.asked(site);
                let snapshot = site.snapshot();
                let decision = doors::decide(&snapshot, &Answers::default(), &asked, clock::now(), &mut ());
                let Verdict::Allow(grant) = decision.verdict() else { continue };
                let told = grant.set().find(|(name, _)| name == "x-user-id").map(|(_, value)| value.clone());
                let route = snapshot.policy().route(decision.basis().route.unwrap()).unwrap();
                match (&route.rule, &decision.basis().caller.user) {
                    (Rule::Public, user) => prop_assert!(user.is_none() && told.is_none()),
                    (Rule::Anyone, None) => prop_assert!(told.is_none() && question.claims.is_none()),
                    (_, None) => prop_assert!(false, "nobody passed {:?}", route.key),
                    (_, Some(user)) => {
                        prop_assert!(!question.forged);
                        let claims = question.claims.as_ref().unwrap();
                        prop_assert_eq!(&*user.principal().issuer, claims["iss"].as_str().unwrap());
                        prop_assert_eq!(told.unwrap(), user.principal().subject.as_bytes());
                    }
                }
            }
            Ok(())
        })?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_guard_or_a_forbid_more_never_allows_more(
        guards in prop::collection::btree_set(guard(), 0..3),
        forbids in prop::collection::vec(rule(), 0..3),
        questions in prop::collection::vec(question(), 40),
    ) {
        let mut guards: Vec<String> = guards.into_iter().collect();
        // A key may stand in the file once.
        guards.dedup_by_key(|guard| guard.split("\": ").next().unwrap().to_owned());
        let forbids: Vec<String> = forbids.iter().enumerate().map(|(at, rule)| format!("f{at}: {rule}")).collect();
        // Some guards cannot stand over the public route: such a policy does not load, which allows nothing at all.
        let Ok(stricter) = Site::try_open(&policy(&guards, &forbids), &BTreeMap::new()) else { return Ok(()) };
        let base = site();
        for question in questions {
            let before = doors::straight(&base, &question.asked(&base));
            let after = doors::straight(&stricter, &question.asked(&stricter));
            if let Answer::Allow { .. } = after {
                prop_assert_eq!(before, after, "{:?}", question);
            }
        }
    }

    #[test]
    fn what_is_remembered_decides_as_what_is_not(
        questions in prop::collection::vec((question(), -400_i64..700), 10),
    ) {
        let site = site();
        for (question, offset) in questions {
            let asked = question.asked(&site);
            let now = clock::now();
            let at = |now: Timestamp| {
                let snapshot = site.snapshot();
                doors::of_decision(&doors::decide(&snapshot, &Answers::default(), &asked, now, &mut ()))
            };
            let first = at(now);
            prop_assert_eq!(&first, &at(now), "the same again");
            let later = if offset < 0 {
                Timestamp::from_millis(now.as_millis() + offset * 1_000)
            } else {
                now.plus(Duration::from_secs(offset.unsigned_abs()))
            };
            let remembered = at(later);
            site.forget();
            prop_assert_eq!(remembered, at(later), "{} s later", offset);
        }
    }

    #[test]
    fn random_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let is_denied = matches!(answered(bytes), Answer::Deny { .. });
        prop_assert!(is_denied);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_damaged_check_gets_an_answer_and_nobody_elses_name(
        which in any::<Index>(),
        flips in prop::collection::vec((any::<Index>(), 0_u8..8), 0..4),
        cut in prop::option::weighted(0.3, any::<Index>()),
    ) {
        thread_local!(static CAPTURES: Vec<Vec<u8>> = captures().into_values().collect());
        let mut bytes = CAPTURES.with(|captures| which.get(captures).clone());
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Answer::Allow { set, .. } = answered(bytes) {
            prop_assert!(set.get("x-user-id").is_none_or(|user| user == "user-1234"));
        }
    }

    #[test]
    fn a_path_that_was_read_reads_as_itself(target in target(), random in "/[ -~\u{e9}\u{ff0f}]{0,24}") {
        for target in [target, random] {
            for relaxed in [Relaxed::default(), Relaxed { semicolon: true, backslash: true, empty_segment: true, ..Relaxed::default() }] {
                let Some(once) = path(&target, relaxed) else { continue };
                for all in [false, true] {
                    let plain = |byte: u8| byte.is_ascii_alphanumeric() && !all || matches!(byte, b'/' | b'-' | b'.' | b'_');
                    let escape =
                        |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") };
                    let again = path(&once.bytes().map(escape).collect::<String>(), relaxed);
                    prop_assert_eq!(again.as_ref(), Some(&once), "{:?}", target);
                }
            }
        }
    }
}

fn path(target: &str, relaxed: Relaxed) -> Option<String> {
    let (method, host) = (&b"GET"[..], &b"h"[..]);
    let raw = Raw::new(Dialect::Envoy, Asker::Unix, [method, target.as_bytes(), host], Vec::new());
    Request::read(&raw, relaxed).ok().map(|request| request.path.into_owned())
}

/// The answer to a message of any bytes.
fn answered(bytes: Vec<u8>) -> Answer {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        static SITE: Site = Site::open(PROBE, &BTreeMap::new());
    }
    RUNTIME.with(|runtime| {
        SITE.with(|site| {
            let frame =
                runtime.block_on(envoy::check(&site.authorizer, Asker::Unix, Proof::default(), Ok(bytes.into()), None));
            doors::read(site, &frame)
        })
    })
}

#[tokio::test]
async fn the_questions_of_these_properties_reach_every_kind_of_answer() {
    use proptest::strategy::ValueTree as _;
    let site = site();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = BTreeMap::new();
    for _ in 0..3_000 {
        let question = question().new_tree(&mut runner).unwrap().current();
        let answer = doors::through_envoy(&site, &question.asked(&site), Lines::Raw).await;
        let kind = match answer {
            Answer::Allow { set, .. } => {
                if set.is_empty() {
                    "allow nobody"
                } else {
                    "allow somebody"
                }
            }
            Answer::Deny { reason, .. } => reason.code(),
        };
        *seen.entry(kind).or_insert(0) += 1;
    }
    for kind in [
        "allow nobody",
        "allow somebody",
        "rule_unmet",
        "signature_invalid",
        "token_expired",
        "no_route",
        "path_variant",
        "fact_unknown",
    ] {
        assert!(seen.get(kind).is_some_and(|count| *count > 5), "{kind}: {seen:?}");
    }
}

#[test] // C06
fn a_clock_that_is_set_back_finds_no_token_that_it_would_not_have_verified() {
    let site = site();
    let claims = Map::from_iter([("iss".to_owned(), json!("main"))]);
    let lines = [
        (":method", "GET".to_owned()),
        ("authorization", format!("Bearer {}", site.token(&claims, &Recipe::default()))),
    ];
    let lines = lines.map(|(name, value)| (name.to_owned(), value)).into();
    let http = Http { method: "GET".into(), target: "/me".into(), host: "shop.test".into(), lines };
    let asked = Asked { asker: Asker::Unix, beside: Beside::default(), source: None, http: Some(http) };
    let at = |now: Timestamp| doors::of_decision(&doors::decide(&site.snapshot(), &site.answers, &asked, now, &mut ()));
    let now = clock::now();
    assert!(matches!(at(now), Answer::Allow { .. }));
    let earlier = Timestamp::from_millis(now.as_millis() - 120_000);
    assert!(matches!(at(earlier), Answer::Deny { reason: Reason::TokenNotYetValid, .. }));
    assert!(matches!(at(now), Answer::Allow { .. }));
}
