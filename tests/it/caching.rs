//! What a gateway may use again is right for every request that it may use it for: tried on random policies and requests.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis::authz::cache::NAMES;
use portcullis::authz::decision::Decision;
use portcullis::authz::request::Asker;
use portcullis::authz::time::Timestamp;
use portcullis::clock;
use serde_json::{Map, Value, json};

use crate::doors::{self, Answer, Asked, Beside, Http};
use crate::reference::Dice;
use crate::site::{Recipe, Site};

const WORDS: [&str; 10] = [
    "signed-in",
    "role:admin",
    "not role:admin",
    "scope:read or role:admin",
    "claim:tier=gold",
    "owner:id",
    "owner:id and not claim:tier=gold",
    "issuer:main",
    "role:temp or scope:read",
    "role:admin or network:10.0.0.0/8",
];
const CONDITIONS: [&str; 7] = [
    "'x-a' in request.headers && request.headers['x-a'][0] == 'one'",
    "!has(request.headers.accept) || request.headers.accept.exists(a, a.startsWith('text'))",
    "!(request.query.size() > 0)",
    "request.headers.size() < 6",
    "caller.address.startsWith('10.') || claims.tier == 'gold'",
    "now < timestamp('2100-01-01T00:00:00Z')",
    "claims.tier == 'gold' || request.headers['x-b'].size() > 0",
];
const FROM: [&str; 4] =
    ["bearer", "bearer, 'header:X-Token'", "'cookie:session', bearer", "bearer, 'subprotocol:bearer.', 'query:t'"];

fn policy(dice: &mut Dice, until: &str) -> String {
    let mut optional = |many, line: String| if dice.one_in(many) { line } else { String::new() };
    let cors = optional(3, "cors: {origins: ['https://app.test']}\n".into());
    let guard = optional(4, format!("guards: {{/a/u2: {}}}\n", "signed-in"));
    let forbid = optional(4, "deny: {gold: claim:tier=gold}\n".into());
    let far = optional(9, "deny: {far: network:192.0.2.0/24}\n".into());
    let sign_in = optional(3, "public_url: https://shop.test\nsign_in: 'https://login.test/?to={url}'\n".into());
    let more = |dice: &mut Dice| {
        let mut more = String::new();
        if dice.one_in(3) {
            more.push_str(&format!(", when: \"{}\"", dice.pick(&CONDITIONS)));
        }
        if dice.one_in(4) {
            more.push_str(", credential: strip");
        }
        if dice.one_in(6) {
            more.push_str(", deny: scope:read");
        }
        more
    };
    let (from, one, two) = (dice.pick(&FROM), dice.pick(&WORDS), dice.pick(&WORDS));
    let (more_one, more_two) = (more(dice), more(dice));
    let forbid = if far.is_empty() { forbid } else { far };
    format!(
        "issuers:\n  main: {{url: 'https://id.test', audience: api, roles: roles, may_grant: any, from: [{from}], origins: ['https://app.test']}}\n\
         gateways: {{edge: {{by: unix, believes: [client_address], client_address: {{from: connection}}}}}}\n\
         headers: {{X-User-ID: sub, X-User-Roles: roles, X-Route: route}}\n\
         grants: [{{principal: main/u2, role: temp, until: {until}, ticket: t}}]\n\
         {cors}{guard}{forbid}{sign_in}routes:\n  \
         '/a/{{id}}': {{allow: {one:?}, cache: 10s{more_one}}}\n  \
         'POST /c/{{id}}': {{allow: {two:?}, cache: 2s{more_two}}}\n  \
         '/p/{{id}}': {{allow: public, cache: 30s}}\n  '/b/{{id}}': {{allow: anyone, cache: 10s}}\n"
    )
}

/// Values of headers, each of which means something somewhere.
fn values(tokens: &[String]) -> BTreeMap<&'static str, Vec<String>> {
    let plain: [(&str, &[&str]); 18] = [
        ("accept", &["*/*", "text/html", "text/plain", "application/json"]),
        ("content-type", &["application/json", "application/grpc", "text/plain"]),
        ("origin", &["https://app.test", "https://evil.test"]),
        ("sec-fetch-site", &["same-origin", "cross-site", "none"]),
        ("sec-fetch-mode", &["navigate", "cors"]),
        ("x-requested-with", &["x", "y"]),
        ("upgrade", &["websocket", "h2c"]),
        ("x-a", &["one", "two"]),
        ("x-b", &["one", "two"]),
        ("x-user-id", &["admin", "u1"]),
        ("x_user_id", &["admin", "u1"]),
        ("dpop", &["x", "y"]),
        ("x-forwarded-for", &["10.0.0.1", "192.0.2.1"]),
        ("x-request-id", &["r1", "r2"]),
        ("access-control-request-method", &["GET", "POST"]),
        ("remote-user-x", &["admin", "u1"]),
        ("x-api-key", &["a", "b"]),
        ("host", &["shop.test", "shop.test", "shop.test", "evil.test"]),
    ];
    let owned = |all: &[&str]| all.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let mut values: BTreeMap<_, _> = plain.map(|(name, all)| (name, owned(all))).into();
    let with = |form: &dyn Fn(&String) -> String| tokens.iter().map(form).collect::<Vec<_>>();
    let mut bearer = with(&|token| format!("Bearer {token}"));
    bearer.extend(["Basic dTpw".to_owned(), format!("DPoP {}", tokens[0])]);
    values.insert("authorization", bearer);
    values.insert("x-token", with(&Clone::clone));
    values.insert("cookie", with(&|token| format!("theme=dark; session={token}; a=b")));
    values.get_mut("cookie").unwrap().push("theme=light".into());
    values.insert("sec-websocket-protocol", with(&|token| format!("app, bearer.{token}")));
    values
}

fn asked(dice: &mut Dice, (method, target): (&str, &str), lines: Vec<(String, String)>) -> Asked {
    let http = Http { method: method.into(), target: target.into(), host: "shop.test".into(), lines };
    let source = [None, Some("10.1.2.3"), Some("192.0.2.1")][dice.below(3)];
    let mut beside = Beside::default();
    if dice.one_in(2) {
        beside.principal = "spiffe://shop.test/cart".into();
    }
    Asked { asker: Asker::Unix, beside, source: source.map(|address| address.parse().unwrap()), http: Some(http) }
}

fn decide(site: &Site, asked: &Asked, now: Timestamp) -> Decision {
    doors::decide(&site.snapshot(), &site.answers, asked, now, &mut ())
}

/// The lines that a request with these names may have: values anew, those that count for the cache as they were.
fn alike(
    dice: &mut Dice,
    lines: &[(String, String)],
    vary: &[Box<str>],
    values: &BTreeMap<&str, Vec<String>>,
) -> Vec<(String, String)> {
    let anew = |(name, value): &(String, String)| {
        let counts = name.starts_with(':') || vary.iter().any(|counts| **counts == **name);
        let all = &values.get(&**name);
        let value = if counts { value.clone() } else { all.unwrap()[dice.below(all.unwrap().len())].clone() };
        (name.clone(), value)
    };
    lines.iter().map(anew).collect()
}

#[test]
fn a_cached_answer_is_the_answer_to_every_request_that_it_may_be_used_for() {
    let mut dice = Dice::new(9);
    let (mut allows, mut denials, mut never) = (0, 0, 0);
    for _ in 0..60 {
        let until = Timestamp::from_secs(clock::now().as_millis() / 1_000 + 4).to_string().replace(".000Z", "Z");
        let site = Site::open(&policy(&mut dice, &until), &BTreeMap::new());
        let now = clock::now();
        let claims = [
            json!({"sub": "u1", "roles": ["admin"], "scope": "read"}),
            json!({"sub": "u2", "tier": "gold", "exp": "now+5"}),
            json!({"sub": "u2", "roles": [], "exp": "now-20"}),
            json!({"sub": "u1", "roles": ["guest"], "cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}),
        ];
        let token = |claims: &Value| site.token(claims.as_object().unwrap_or(&Map::new()), &Recipe::default());
        let tokens: Vec<String> = claims.iter().map(token).collect();
        let values = values(&tokens);
        let names: Vec<&str> = values.keys().copied().collect();
        for _ in 0..150 {
            let method = dice.pick(&["GET", "GET", "POST", "HEAD", "OPTIONS"]);
            let path = dice.pick(&["/a/u1", "/a/u2", "/c/u1", "/p/x", "/b/u2", "/a/u1?x=1"]);
            let target = if dice.one_in(6) { format!("{path}?t={}", tokens[0]) } else { path.to_owned() };
            let mut lines: Vec<(String, String)> = vec![(":method".into(), method.into())];
            if dice.one_in(2) {
                lines.push(("authorization".into(), values["authorization"][dice.below(5)].clone()));
            }
            for _ in 0..dice.below(5) {
                let name = dice.pick(&names);
                lines.push((name.into(), values[name][dice.below(values[name].len())].clone()));
            }
            let one = asked(&mut dice, (method, &target), lines.clone());
            let decision = decide(&site, &one, now);
            let Some(cached) = decision.cached() else {
                never += 1;
                continue;
            };
            assert!(cached.seconds > 0 && cached.vary.iter().any(|name| **name == *NAMES));
            let answer = doors::of_decision(&decision);
            if matches!(answer, Answer::Allow { .. }) {
                allows += 1
            } else {
                denials += 1
            }
            for _ in 0..6 {
                let like = alike(&mut dice, &lines, &cached.vary, &values);
                let other = asked(&mut dice, (method, &target), like);
                let later = now
                    .plus(Duration::from_secs(u64::from(cached.seconds)) / 6 * u32::try_from(dice.below(7)).unwrap());
                let again = doors::of_decision(&decide(&site, &other, later));
                assert_eq!(again, answer, "\n{one:?}\n{other:?}\n{cached:?}\n{:?}", site.snapshot().policy().routes);
            }
        }
    }
    assert!(allows > 500 && denials > 300 && never > 500, "{allows} {denials} {never}");
}

/// The seconds for which the answer to such a request may be used again, and what requests must agree in.
fn cached(policy: &str, method: &str, target: &str, lines: &[(&str, &str)]) -> Option<(u32, String)> {
    let site = Site::open(policy, &BTreeMap::new());
    let mut all = vec![(":method".to_owned(), method.to_owned())];
    let token = |claims: &str| {
        let claims: Value = serde_json::from_str(claims).unwrap();
        site.token(claims.as_object().unwrap(), &Recipe::default())
    };
    let filled = |value: &str| match value.split_once('{') {
        Some((before, claims)) => format!("{before}{}", token(&format!("{{{claims}"))),
        None => value.to_owned(),
    };
    all.extend(lines.iter().map(|(name, value)| ((*name).to_owned(), filled(value))));
    let asked = asked(&mut Dice::new(1), (method, target), all);
    let decision = decide(&site, &asked, clock::now());
    decision.cached().map(|cached| (cached.seconds, cached.vary.join(" ")))
}

const ISSUER: &str = "issuers: {main: {url: 'https://id.test', audience: api, roles: roles}}\n";
const BEARER: (&str, &str) = ("authorization", "Bearer {\"sub\": \"u1\", \"roles\": [\"admin\"]}");
const ALL: &str = ":names accept authorization content-type host origin";

fn of_route(route: &str, lines: &[(&str, &str)]) -> Option<(u32, String)> {
    cached(&format!("{ISSUER}routes: {{/a: {route}}}\n"), "GET", "/a", lines)
}

#[test]
fn an_answer_may_be_used_again_only_where_its_route_says_so() {
    assert_eq!(of_route("role:admin", &[BEARER]), None);
    assert_eq!(of_route("{allow: role:admin, cache: 10s}", &[BEARER]), Some((10, ALL.into())));
    assert_eq!(of_route("{allow: role:other, cache: 10s}", &[BEARER]), Some((10, ALL.into())), "a denial by policy");
    let public = Some((30, ":names accept content-type host origin".into()));
    assert_eq!(of_route("{allow: public, cache: 30s}", &[]), public);
}

#[test]
fn no_answer_outlives_the_credential_it_rests_on() {
    let expiring = |exp: &str| {
        let value = format!("Bearer {{\"sub\": \"u1\", \"exp\": \"{exp}\"}}");
        of_route("{allow: signed-in, cache: 10s}", &[("authorization", &value)]).map(|(seconds, _)| seconds)
    };
    assert_eq!(expiring("now+300"), Some(10));
    assert!(matches!(expiring("now+5"), Some(4 | 5)));
    assert_eq!(expiring("now+1").filter(|seconds| *seconds > 1), None);
    assert_eq!(expiring("now-20"), None, "it passes by the leeway only");
}

#[test]
fn what_is_no_decision_of_the_policy_is_not_used_again() {
    let route = "{allow: signed-in, cache: 10s}";
    assert_eq!(of_route(route, &[]), None, "a caller without a credential may have one in a moment");
    assert_eq!(of_route(route, &[("authorization", "Bearer x")]), None);
    assert_eq!(cached(&format!("{ISSUER}routes: {{/a: {route}}}\n"), "GET", "/b", &[BEARER]), None);
    let bound =
        ("authorization", r#"Bearer {"sub": "u1", "cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}"#);
    assert_eq!(of_route(route, &[bound]), None, "a proof is good once");
}

#[test]
fn a_request_with_an_alias_of_a_managed_header_is_decided_each_time() {
    let policy = format!("{ISSUER}headers: {{X-User-ID: sub}}\nroutes: {{/a: {{allow: signed-in, cache: 10s}}}}\n");
    assert!(cached(&policy, "GET", "/a", &[BEARER]).is_some());
    assert_eq!(cached(&policy, "GET", "/a", &[BEARER, ("x_user_id", "admin")]), None);
    assert_eq!(cached(&policy, "GET", "/a", &[BEARER, ("accept", "a"), ("accept", "b")]).map(|(s, _)| s), Some(10));
    assert_eq!(cached(&policy, "GET", "/a", &[BEARER, ("x-request-id", "a"), ("x-request-id", "a")]), None);
}

#[test]
fn what_a_route_reads_is_what_requests_must_agree_in() {
    let vary = |policy: &str| cached(policy, "GET", "/a", &[BEARER]).map(|(_, vary)| vary).unwrap_or_default();
    let issuer = |more: &str| ISSUER.replace("roles: roles", &format!("roles: roles, {more}"));
    let route = "routes: {/a: {allow: signed-in, cache: 10s}}\n";
    let from = issuer("from: [bearer, 'cookie:s', 'header:X-T'], origins: ['https://a.test']");
    let names = ":names accept authorization content-type cookie host origin sec-fetch-site x-t";
    assert_eq!(vary(&format!("{from}{route}")), names);
    let when = "routes: {/a: {allow: signed-in, cache: 10s, when: \"!('x-b' in request.headers)\"}}\n";
    assert_eq!(vary(&format!("{ISSUER}{when}")), format!("{ALL} x-b"));
    let other = "routes: {/a: {allow: signed-in, cache: 10s, credential: {from: [bearer]}}}\n";
    assert_eq!(vary(&format!("{from}{other}")), ALL);
    let strip = "routes: {/a: {allow: signed-in, cache: 10s, credential: {from: [bearer], then: strip}}}\n";
    assert!(vary(&format!("{from}{strip}")).contains(" cookie "), "what is left of the cookies is told");
}
