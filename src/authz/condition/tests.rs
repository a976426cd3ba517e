use std::sync::Arc;

use proptest::prelude::*;

use super::eval::Run;
use super::*;
use crate::authz::gateways::Dialect;
use crate::authz::identity::{Caller, Identity, Listed, Parts, Principal};
use crate::authz::json::Object;
use crate::authz::request::{Asker, Header, Proof, Raw, Relaxed};
use crate::authz::route::Captures;

const NAMES: [&str; 2] = ["tenant", "user-id"];

fn caller(claims: &str) -> Caller {
    let texts = |all: &[&str]| Listed::Known(all.iter().map(|text| Arc::from(*text)).collect());
    let identity = Identity::new(Parts {
        principal: Principal { issuer: "main".into(), subject: "u1".into() },
        claims: Object::parse(claims.as_bytes()).unwrap(),
        listed: texts(&["admin", "dev"]),
        groups: Listed::Unknown,
        scopes: texts(&["orders:read"]),
        token_id: None,
        key_id: None,
        issued: None,
        not_before: None,
        expires: Timestamp::default(),
        binding: None,
        contracts: 1,
    });
    Caller { user: Some(Arc::new(identity)), ..Caller::default() }
}

const CLAIMS: &str = r#"{"level":3,"big":18446744073709551615,"half":0.5,"vip":true,"nil":null,"tenant":"acme",
    "tags":["a","b"],"mixed":[1,"a",null],"org":{"id":"o1","deep":{"n":-1}},"https://acme.test/tier":"gold","zero":0}"#;

fn parse(text: &str) -> Result<Condition, ConditionError> {
    Condition::parse(
        text,
        &Place {
            captures: &NAMES,
            public: false,
            hidden: &["x-token".into()],
            hidden_queries: &["access_token".into()],
            lent: &[],
        },
    )
}

/// What a condition comes to, and in how many steps, over a request to `POST /a/b?…` at 2027-01-15T08:00:00.5Z, a Friday.
fn run(text: &str, caller: &Caller, query: &str) -> (Result<bool, Fault>, usize) {
    let condition = parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    let headers = [
        ("content-type", &b"text/plain"[..]),
        ("x-plan", b"gold"),
        ("x-plan", b"silver"),
        ("x-raw", b"\xff"),
        ("x-token", b"secret"),
        ("authorization", b"Bearer secret"),
    ];
    let headers = headers.map(|(name, value)| Header { name: name.as_bytes(), value }).to_vec();
    let target = format!("/a/b{query}");
    let (method, host) = (&b"POST"[..], &b"shop.test"[..]);
    let (proof, principal) = (Proof::default(), &b""[..]);
    let raw =
        Raw { proof, principal, ..Raw::new(Dialect::Envoy, Asker::Unix, [method, target.as_bytes(), host], headers) };
    let request = Request::read(&raw, Relaxed::default()).unwrap();
    let names = NAMES.map(Box::from);
    let captures = Captures::new(&names, ["acme", "u1"]);
    let who = rule::Scene { caller, captures: &captures, address: Some("10.1.2.3".parse().unwrap()) };
    let scene = Scene { request: &request, who, lent: &[], now: Timestamp::from_millis(1_800_000_000_500) };
    let mut run = Run::new(bind::Bindings::new(&scene, &condition));
    let told = run.bool(&condition.whole).map_err(|failure| {
        assert!(failure.at.end <= text.len() && failure.at.start < failure.at.end, "{text}: {failure:?}");
        failure.kind
    });
    assert_eq!(condition.holds(&scene).map_err(|failure| failure.kind), told, "{text}");
    (told, run.steps())
}

fn ask(text: &str) -> Result<bool, Fault> {
    run(text, &caller(CLAIMS), "?a=1&a=2&b=x+y%26&c").0
}

fn refused(text: &str) -> (ConditionFault, &str) {
    match parse(text) {
        Ok(_) => panic!("{text} is no error"),
        Err(error) => (error.kind, text.get(error.at).unwrap()),
    }
}

#[test]
fn what_cel_says_is_true_is_true() {
    for text in [
        "claims.level == 3 && claims.level == 3.0 && claims.level == 3u && claims.half == 0.5",
        "claims.level >= 3 && claims.level < 3.5 && 2u < claims.level && claims.level <= 3u",
        "claims.big > 9223372036854775807 && claims.big == 18446744073709551615u && claims.big > claims.level",
        "claims.level + 1 * 2 == 5 && (claims.level + 1) * 2 == 8 && -claims.level == -3 && - -claims.level == 3",
        "claims.level / 2 == 1 && claims.level % 2 == 1 && -claims.level / 2 == -1 && -claims.level % 2 == -1",
        "claims.tenant + '!' == 'acme!' && claims.tags + ['c'] == ['a', 'b', 'c']",
        "claims.vip && !(claims.level > 3) && !!claims.vip",
        "claims.level > 5 ? false : claims.vip",
        "claims.vip ? claims.level == 3 : claims.nowhere",
        "'a' in claims.tags && !('c' in claims.tags) && 'id' in claims.org && 1 in claims.mixed && null in claims.mixed",
        "claims.nil == null && claims.level != null && claims.tenant != 7",
        "claims.org.deep.n == -1 && claims['org']['deep'].n < 0 && claims['https://acme.test/tier'] == 'gold'",
        "claims.tags[0] == 'a' && claims.tags[1u] == 'b' && {'a': 1, 2: 'x'}[claims.level - 1] == 'x'",
        "has(claims.org.id) && !has(claims.org.none) && has(claims.nil) && !has(claims.none)",
        "claims.tags.all(t, t in ['a', 'b', 'c']) && claims.tags.exists(t, t == 'b') && claims.org.exists(k, k == 'id')",
        "claims.tags.exists_one(t, t == 'a') && !claims.tags.exists_one(t, true) && claims.tags.existsOne(t, t == 'b')",
        "claims.tags.map(t, t + t) == ['aa', 'bb'] && claims.tags.map(t, t != 'a', t + 'x') == ['bx']",
        "claims.tags.filter(t, t > 'a') == ['b'] && claims.tags.filter(request, request == 'a').size() == 1",
        "size(claims.tags) == 2 && claims.tenant.size() == 4 && claims.org.size() == 2 && ('ä' + claims.tenant).size() == 5",
        "claims.tenant.startsWith('ac') && claims.tenant.endsWith('me') && claims.tenant.contains('cm')",
        "claims.tenant.matches('^[a-d]c') && matches(claims.tenant, 'm.$') && !claims.tenant.matches('^c')",
        "int('7') == claims.level + 4 && int(3.9) == claims.level && uint(claims.level) == 3u && double(claims.level) == 3.0",
        "string(claims.level) == '3' && string(claims.vip) == 'true' && bool('true') == claims.vip && bytes(claims.tenant) == b'acme'",
        "type(claims.level) == type(1) && type(claims.half) != type(1) && dyn(claims.level) == 3",
        "request.method == 'POST' && request.host == 'shop.test' && request.path == '/a/b'",
        "request.query.a == ['1', '2'] && request.query['b'][0] == 'x y&' && request.query.c == [''] && !has(request.query.d)",
        "request.query.all(name, name in ['a', 'b', 'c']) && request.query.size() == 3",
        "request.headers['x-plan'] == ['gold', 'silver'] && 'x-plan' in request.headers && !('x-none' in request.headers)",
        "caller.signed_in && caller.subject == 'u1' && caller.principal == 'main/u1' && caller.issuer == 'main'",
        "'admin' in caller.roles && caller.roles.size() == 2 && 'orders:read' in caller.scopes && caller.address == '10.1.2.3'",
        "path.tenant == claims.tenant && path['user-id'] == caller.subject",
        "now == timestamp('2027-01-15T08:00:00.5Z') && now > timestamp(1800000000) && int(now) == 1800000000",
        "now.getHours() == 8 && now.getHours('+02:00') == 10 && now.getDayOfWeek() == 5 && now.getMilliseconds() == 500",
        "now - timestamp('2027-01-15T07:00:00Z') > duration('1h') && now + duration('24h') < timestamp('2027-01-17T00:00:00Z')",
        "(now - timestamp('2027-01-15T07:00:00Z')).getMinutes() == 60 && string(now) == '2027-01-15T08:00:00.500Z'.replace",
        "r'\\d' + claims.tenant == '\\\\dacme' && \"a\\x41\\u00e4\\101\" + claims.tenant == 'aAäAacme' && '''x'y''' != claims.tenant",
        "claims.level == 0x3 && claims.half == 5e-1 // a comment",
        "{'a': claims.level}.a == 3 && {'a': {'b': [claims.level]}} == {'a': {'b': [3.0]}}",
        "[claims.level, 'x'] == [3, 'x'] && b'\\xff' < b'\\xff\\x00' && claims.level == (3)",
        "true || claims.none == 1 || claims.vip",
    ] {
        let text = text.replace(" && string(now) == '2027-01-15T08:00:00.500Z'.replace", "");
        assert_eq!(ask(&text), Ok(true), "{text}");
    }
    assert_eq!(ask("string(now) == '2027-01-15T08:00:00.5Z'"), Ok(true));
}

#[test]
fn what_settles_and_and_or_absorbs_what_failed_on_either_side() {
    for (text, told) in [
        ("claims.none && false", Ok(false)),
        ("false && claims.none", Ok(false)),
        ("claims.none || true", Ok(true)),
        ("true || claims.none", Ok(true)),
        ("claims.none && true", Err(Fault::NoMember)),
        ("claims.none || false", Err(Fault::NoMember)),
        ("!(claims.none)", Err(Fault::NoMember)),
        ("claims.none ? true : true", Err(Fault::NoMember)),
        ("claims.level && false", Ok(false)),
        ("claims.level && true", Err(Fault::Type)),
        ("claims.mixed.exists(m, m > 0)", Ok(true)),
        ("claims.mixed.exists(m, m > 1)", Err(Fault::Type)),
        ("claims.mixed.all(m, m > 1)", Ok(false)),
        ("claims.mixed.all(m, m > 0)", Err(Fault::Type)),
        ("claims.mixed.exists_one(m, m > 0)", Err(Fault::Type)),
        ("claims.mixed.filter(m, m > 0).size() == 1", Err(Fault::Type)),
        ("[].all(m, m) && caller.signed_in", Ok(true)),
        ("[].exists(m, m) || !caller.signed_in", Ok(false)),
    ] {
        assert_eq!(ask(text), told, "{text}");
    }
}

#[test] // L03
fn what_cannot_be_told_is_a_failure_and_never_true() {
    for (text, fault) in [
        ("claims.none", Fault::NoMember),
        ("claims.org.none.x == 1", Fault::NoMember),
        ("claims.level.x == 1", Fault::Type),
        ("claims.tags[2] == 'a'", Fault::NoMember),
        ("claims.tags[-1] == 'a'", Fault::NoMember),
        ("claims.tags[0.5] == 'a'", Fault::NoMember),
        ("claims.tags['0'] == 'a'", Fault::Type),
        ("claims.level", Fault::Type),
        ("claims.nil", Fault::Type),
        ("claims.tenant", Fault::Type),
        ("claims.nil >= 1", Fault::Type),
        ("claims.tenant > 1", Fault::Type),
        ("claims.tenant + 1 == 2", Fault::Type),
        ("claims.level + 9223372036854775807 > 0", Fault::Range),
        ("claims.level * -9223372036854775807 > 0", Fault::Range),
        ("-(claims.level - 9223372036854775807 - 4) > 0", Fault::Range),
        ("(claims.level - 9223372036854775807 - 4) / -1 > 0", Fault::Range),
        ("claims.big + 1u > 0u", Fault::Range),
        ("claims.level / claims.zero == 1", Fault::Zero),
        ("claims.level % claims.zero == 1", Fault::Zero),
        ("int(claims.big) == 1", Fault::Range),
        ("uint(-claims.level) == 1u", Fault::Range),
        ("int(claims.tenant) == 1", Fault::Conversion),
        ("int(claims.half * 1e300) == 1", Fault::Range),
        ("timestamp(claims.level * 1000000000000) > now", Fault::Range),
        ("timestamp(claims.tenant) > now", Fault::Conversion),
        ("duration(claims.tenant) > duration('1s')", Fault::Conversion),
        ("now + duration('315576000000s') > now", Fault::Range),
        ("claims.tenant.size(  ) == 4 && claims.level.size() == 1", Fault::Type),
        ("{claims.tenant: 1, 'acme': 2}.size() == 1", Fault::Key),
        ("{claims.half: 1}.size() == 1", Fault::Key),
        ("claims.level.all(x, true)", Fault::Type),
        ("claims.vip.matches('x')", Fault::Type),
        ("'staff' in caller.groups", Fault::ListUnknown),
        ("caller.groups.size() == 0", Fault::ListUnknown),
        ("request.headers['x-raw'][0] == 'x'", Fault::HeaderNotText),
        ("request.headers.size() == 3", Fault::HeaderNotText),
        ("request.headers['x-none'][0] == 'x'", Fault::NoMember),
        ("claims.tags.map(t, t in ['a'])[1] && claims.none", Fault::NoMember),
    ] {
        // The last one is false without the failure, which shows that false absorbs it.
        let told = ask(text);
        if text.ends_with("&& claims.none") {
            assert_eq!(told, Ok(false))
        } else {
            assert_eq!(told, Err(fault), "{text}")
        }
    }
}

#[test]
fn nobody_has_no_claims_and_no_roles() {
    let nobody = Caller::default();
    for (text, told) in [
        ("caller.signed_in", Ok(false)),
        ("caller.signed_in && claims.level > 1", Ok(false)),
        ("claims.level > 1", Err(Fault::Nobody)),
        ("has(claims.level)", Err(Fault::Nobody)),
        ("!('banned' in caller.roles)", Err(Fault::Nobody)),
        ("caller.subject == ''", Err(Fault::Nobody)),
        ("request.method == 'POST'", Ok(true)),
    ] {
        assert_eq!(run(text, &nobody, "").0, told, "{text}");
    }
}

#[test] // N04
fn all_values_of_a_query_are_seen_or_none_of_it() {
    let ask = |text, query: &str| run(text, &Caller::default(), query).0;
    assert_eq!(ask("request.query.a == ['1', '2']", "?a=1&a=2"), Ok(true));
    assert_eq!(ask("request.query['a[]'] == ['1']", "?a[]=1"), Ok(true));
    assert_eq!(ask("request.query.a == ['&b=2']", "?a=%26b%3D2"), Ok(true));
    assert_eq!(ask("request.query['x y'] == ['%41']", "?x%20y=%2541"), Ok(true));
    assert_eq!(ask("request.query.path == ['/admin'] && request.path == '/a/b'", "?path=/admin"), Ok(true));
    assert_eq!(ask("request.query.size() == 0", ""), Ok(true));
    assert_eq!(ask("request.query.size() == 0", "?&&"), Ok(true));
    for bad in ["?a=1;b=2", "?a=%zz", "?a=%4", "?a=%", "?a=%ff", "?%c3=1"] {
        assert_eq!(ask("!has(request.query.b)", bad), Err(Fault::Query), "{bad}");
    }
    let many = |count: usize| format!("?{}", vec!["a=1"; count].join("&"));
    assert_eq!(ask("request.query.a.size() == 1024", &many(1_024)), Ok(true));
    assert_eq!(ask("!has(request.query.b)", &many(1_025)), Err(Fault::Query));
    assert_eq!(ask("!has(request.query.b)", &many(10_000)), Err(Fault::Query));
    assert_eq!(ask("!has(request.query.b)", &format!("?a={}", "x".repeat(8_193))), Err(Fault::TooLarge));
}

#[test]
fn what_a_condition_must_not_say_is_an_error_at_its_place() {
    use ConditionFault as F;
    let unknown = |near| F::UnknownName(near);
    for (text, place, kind) in [
        ("", "", F::Empty),
        (" // nothing", " // nothing", F::Empty),
        ("claims.level = 3", "=", F::Spelling("=", "==")),
        ("claims.a and claims.b", "and", F::Spelling("and", "&&")),
        ("not claims.a", "not", F::Spelling("not", "!")),
        ("claims.a || ", "", F::Missing("a value")),
        ("(claims.a", "", F::Missing("`)`")),
        ("claims.a)", ")", F::Trailing),
        ("claims.level >= 3 $", "$", F::Character),
        ("claims.a == 'x", "'x", F::OpenText),
        ("claims.a == '\\q'", "\\q", F::Escape),
        ("claims.a == 9223372036854775808", "9223372036854775808", F::Number),
        ("claims.a == 1.5x", "1.5x", F::Number),
        ("clams.level > 1", "clams", unknown(Some("claims"))),
        ("whatever", "whatever", unknown(None)),
        ("request == 1", "request", F::NoField("request", "request.method")),
        ("path.teanant == 'x'", "path.teanant", F::UnknownCapture),
        ("request.headers.cookie[0] == 'x'", "request.headers.cookie", F::CredentialHeader),
        ("'Authorization' in request.headers", "'Authorization'", F::CredentialHeader),
        ("request.query.access_token[0] == 'x'", "request.query.access_token", F::CredentialParameter),
        ("'access_token' in request.query", "'access_token'", F::CredentialParameter),
        ("request.headers['x-token'][0] == 'x'", "'x-token'", F::CredentialHeader),
        ("request.headers['X-Plan'][0] == 'x'", "'X-Plan'", F::HeaderCase),
        ("request.path.startswith('/a')", "request.path.startswith('/a')", F::UnknownFunction(Some("startsWith"))),
        ("request.method", "request.method", F::Type(Type::Text, "a bool: a condition is true or false")),
        ("request.method == 1", "request.method == 1", F::Operands("==", "a string and an int".into())),
        ("now > 5", "now > 5", F::Operands(">", "a timestamp and an int".into())),
        ("'a' in request.method", "'a' in request.method", F::Operands("in", "a string and a string".into())),
        ("claims.a == (1 + 'x')", "(1 + 'x')", F::Operands("+", "an int and a string".into())),
        ("now.size() == 1", "now.size()", F::Arguments("size", "a timestamp".into())),
        ("request.path.matches(claims.p)", "claims.p", F::PatternNotLiteral),
        ("request.path.matches('(')", "'('", F::Pattern),
        ("request.path.matches('a{1000}')", "'a{1000}'", F::PatternTooLarge),
        ("now.getHours('Europe/Paris') > 8", "'Europe/Paris'", F::Zone),
        ("has(claims)", "has(claims)", F::HasShape),
        ("has(request.path)", "has(request.path)", F::HasShape),
        ("claims.a.all(x)", "claims.a.all(x)", F::MacroShape("all")),
        ("claims.a == 1/0", "1/0", F::Always(Fault::Zero)),
        ("claims.a == 9223372036854775807 + 1", "9223372036854775807 + 1", F::Always(Fault::Range)),
        ("now > timestamp('2027-13-01T00:00:00Z')", "timestamp('2027-13-01T00:00:00Z')", F::Always(Fault::Conversion)),
        ("now > timestamp(99999999999999)", "timestamp(99999999999999)", F::Always(Fault::Range)),
        ("now - duration('1d') > now", "duration('1d')", F::Always(Fault::Conversion)),
        ("claims.a == [1][1]", "[1][1]", F::Always(Fault::NoMember)),
        ("1 == 1", "1 == 1", F::Constant),
        ("claims.if == 1 && let", "let", F::Reserved),
    ] {
        assert_eq!(refused(text), (kind, place), "{text}");
    }
    let (kind, place) = refused("request.metod == 'GET'");
    assert!(matches!(kind, F::UnknownField { object: "request", nearest: Some("method"), .. }), "{kind}");
    assert_eq!(place, "request.metod");
    let long = format!("claims.a == '{}'", "x".repeat(MAX_TEXT));
    assert_eq!(refused(&long).0, F::TooLong);
}

#[test]
fn nobody_is_asked_who_calls_where_no_credential_is_read() {
    let public = Place { public: true, ..Place::default() };
    for text in ["claims.a == 1", "caller.signed_in", "request.method == 'GET' && 'a' in caller.roles"] {
        assert_eq!(Condition::parse(text, &public).unwrap_err().kind, ConditionFault::Nobody, "{text}");
    }
    for text in ["request.method == 'GET'", "now.getHours() > 8", "caller.address == '10.0.0.1'"] {
        assert!(!Condition::parse(text, &public).unwrap().is_about_caller(), "{text}");
    }
}

#[test] // L03
fn what_nests_deep_is_refused_on_a_small_stack() {
    let deep = |open: &str, close: &str, times: usize| format!("{}claims.a{}", open.repeat(times), close.repeat(times));
    let texts = [
        deep("(", ")", 2_000),
        deep("!!(", ")", 1_000),
        deep("!", "", 4_000),
        deep("-", "", 4_000),
        deep("[", "]", 2_000),
        deep("{1:", "}", 800),
        deep("", ".a", 2_000),
        deep("", "[0]", 1_300),
        deep("", "+a", 2_000),
        deep("", "==a", 1_300),
        deep("claims.a?claims.a:", "", 220),
        deep("claims.a.all(x,", ")", 200),
        deep("size(", ")", 800),
        "(".repeat(10_000),
    ];
    let asked = texts.clone();
    let run = move || asked.iter().map(|text| parse(text).unwrap_err().kind).collect::<Vec<_>>();
    let found = std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap();
    for (text, kind) in texts.iter().zip(&found) {
        let limits = [ConditionFault::TooDeep, ConditionFault::TooLong, ConditionFault::TooManyLoops];
        assert!(limits.contains(kind), "{}: {kind}", text.get(..20).unwrap());
    }
    // What is as deep as it may be is asked on a stack as small.
    let deepest = [deep("!(", ")", 15), deep("(", ")", 30), deep("", ".a", 29), deep("", "+a", 0)];
    let run = move || deepest.iter().map(|text| ask(&format!("{text} == claims.level"))).collect::<Vec<_>>();
    let told = std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap();
    assert!(told.iter().all(Result::is_err));
}

#[test] // L03
fn loops_nest_two_deep_and_a_check_costs_so_many_steps_at_most() {
    assert_eq!(
        refused("claims.a.all(x, claims.a.all(y, claims.a.all(z, z == x)))"),
        (ConditionFault::TooManyLoops, "claims.a.all(z, z == x)")
    );
    let numbers = |count: usize| {
        let items: Vec<String> = (0..count).map(|at| at.to_string()).collect();
        caller(&format!(r#"{{"a":[{}],"s":"{}"}}"#, items.join(","), "x".repeat(8_000)))
    };
    let nested = "claims.a.all(x, claims.a.all(y, x + y >= 0))";
    assert_eq!(run(nested, &numbers(20), "").0, Ok(true));
    let (told, steps) = run(nested, &numbers(1_000), "");
    assert_eq!(told, Err(Fault::Budget));
    assert!(steps < MAX_STEPS + 100);
    assert_eq!(run("claims.a.all(x, x >= 0)", &numbers(1_024), "").0, Ok(true));
    assert_eq!(run("claims.a.all(x, x >= 0)", &numbers(1_025), "").0, Err(Fault::TooLarge));
    // Doubling ends at the cap of a text; many long ones at the budget.
    let doubled = "[claims.s].map(x, x + x).size() == 1";
    assert_eq!(run(doubled, &numbers(1), "").0, Err(Fault::TooLarge));
    assert_eq!(run("claims.a.all(x, (claims.s + 'x').size() > x)", &numbers(1_000), "").0, Err(Fault::Budget));
    assert_eq!(run("claims.a.all(x, claims.s.contains('y'))", &numbers(1_000), "").0, Ok(false));
    assert_eq!(run("claims.a.all(x, claims.s.matches('x'))", &numbers(1), "").0, Err(Fault::TooLarge));
    assert_eq!(run("claims.a.map(x, claims.a.map(y, [x, y])).size() > 0", &numbers(200), "").0, Err(Fault::Budget));
    // An error that is over the budget is not absorbed.
    assert_eq!(run(&format!("({nested}) || true"), &numbers(1_000), "").0, Err(Fault::Budget));
}

#[test]
fn the_words_that_say_the_same_are_found() {
    for (text, found) in [
        ("'admin' in caller.roles", Some("role:admin")),
        ("'Domain Admins' in caller.groups && caller.signed_in", Some("group:\"Domain Admins\" and signed-in")),
        ("'a' in caller.scopes || !(claims.suspended == true)", Some("scope:a or not claim:suspended=true")),
        ("claims.tenant == path.tenant", Some("claim:tenant={tenant}")),
        ("path['user-id'] == caller.subject", Some("owner:user-id")),
        ("claims.org.id == 'o1'", Some("claim:org.id=o1")),
        ("claims['https://acme.test/tier'] == 'gold'", Some("claim:https://acme.test/tier=gold")),
        ("'a' in claims.tags", Some("claim:tags=a")),
        ("caller.issuer == 'main' && claims.level == 3", Some("issuer:main and claim:level=3")),
        ("claims['a.b'] == 'x'", Some("claim:/a.b=x")),
        ("claims['kubernetes.io'].namespace == 'shop'", Some("claim:/kubernetes.io/namespace=shop")),
        ("claims.level >= 3", None),
        ("'admin' in caller.roles && claims.level >= 3", None),
        ("'x' in request.headers", None),
    ] {
        assert_eq!(words(text).as_deref(), found, "{text}");
    }
}

const LEAVES: &[&str] = &[
    "1",
    "-1",
    "0",
    "2u",
    "0.5",
    "1e308",
    "9223372036854775807",
    "'a'",
    "''",
    "b'x'",
    "true",
    "false",
    "null",
    "claims",
    "claims.level",
    "claims.tags",
    "claims.mixed",
    "claims.org",
    "claims.none",
    "claims.big",
    "claims.zero",
    "request.query",
    "request.headers",
    "request.path",
    "caller.roles",
    "caller.groups",
    "path.tenant",
    "now",
    "duration('1h')",
    "timestamp(0)",
    "[]",
    "{}",
    "x",
];
const OPERATORS: &[&str] = &["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", "&&", "||"];
const METHODS: &[&str] = &[
    "size()",
    "all(x, x == x)",
    "exists(x, x != 1)",
    "map(x, [x, x])",
    "filter(x, x in claims.tags)",
    "getHours()",
    "matches('a+')",
    "startsWith('a')",
    "contains('')",
    "a",
    "level",
];
const FUNCTIONS: &[&str] =
    &["size", "int", "uint", "double", "string", "bytes", "bool", "timestamp", "duration", "type", "dyn", "!", "-"];

/// Parts of conditions, put together at random.
fn piece() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(LEAVES).prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operator = prop::sample::select(OPERATORS);
        let method = prop::sample::select(METHODS);
        let function = prop::sample::select(FUNCTIONS);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(one, sign, two)| format!("({one} {sign} {two})")),
            (inner.clone(), method).prop_map(|(on, method)| format!("{on}.{method}")),
            (function, inner.clone()).prop_map(|(function, on)| format!("{function}({on})")),
            (inner.clone(), inner.clone()).prop_map(|(on, key)| format!("{on}[{key}]")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(one, two, three)| format!("({one} ? {two} : {three})")),
            (inner.clone(), inner).prop_map(|(one, two)| format!("[{one}, {two}]")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_condition_panics_or_costs_more_than_its_budget(text in piece()) {
        let whole = format!("{text} == claims.level");
        for text in [text, whole] {
            if parse(&text).is_ok() {
                let (_, steps) = run(&text, &caller(CLAIMS), "?a=1");
                // The last charge may go over: by what one value weighs at most.
                prop_assert!(steps <= MAX_STEPS + 2 * MAX_MEMBERS + MAX_VALUE_TEXT, "{steps}");
            }
        }
    }

    #[test]
    fn no_text_panics(text in "[a-z0-9.()\\[\\]{}'\"\\\\!&|<>=?:,+*/%ä -]{0,40}") {
        if let Err(error) = parse(&text) {
            prop_assert!(text.get(error.at).is_some());
        }
    }
}
