//! Whole policies side by side.

use super::*;
use crate::config::compile;

const ISSUERS: &str = "issuers: {main: {url: https://id.test, audience: shop, roles: roles, groups: groups}}\n";

fn policy(text: &str) -> Compiled {
    let text = if text.contains("issuers:") { text.to_owned() } else { format!("{ISSUERS}{text}") };
    let (compiled, problems) = compile("p.yaml", &text, &|_| Err(std::io::ErrorKind::NotFound.into()));
    compiled.unwrap_or_else(|| panic!("{}", problems.render(false)))
}

fn between(old: &str, new: &str) -> Comparison {
    compare(&policy(old), &policy(new))
}

fn verdict(old: &str, new: &str) -> Verdict {
    between(old, new).verdict
}

#[test]
fn a_rule_is_compared_as_a_function_of_its_words() {
    let cases = [
        ("role:admin", "role:admin", Verdict::Same),
        ("role:a or role:b", "role:b or role:a", Verdict::Same),
        ("role:a and (role:b or role:c)", "(role:a and role:b) or (role:a and role:c)", Verdict::Same),
        ("role:admin or owner:id", "signed-in", Verdict::Widened),
        ("role:admin", "role:admin or role:b", Verdict::Widened),
        ("signed-in", "role:admin", Verdict::Narrowed),
        ("role:a", "role:b", Verdict::Changed),
        ("signed-in", "anyone", Verdict::Widened),
        ("anyone", "public", Verdict::Widened),
        ("public", "anyone", Verdict::Narrowed),
        ("claim:tier?", "claim:tier=gold", Verdict::Narrowed),
        ("owner:id", "claim:sub={id}", Verdict::Same),
        ("not role:a", "not role:a and not role:b", Verdict::Narrowed),
        ("signed-in", "role:a or not role:a", Verdict::Narrowed),
    ];
    for (old, new, expected) in cases {
        let of = |rule: &str| format!("routes: {{'/u/{{id}}': '{rule}'}}");
        assert_eq!(verdict(&of(old), &of(new)), expected, "{old} → {new}");
    }
}

#[test]
fn who_gains_is_said_in_words_and_with_the_plainest_caller() {
    let found = between("routes: {'/u/{id}': role:admin or owner:id}", "routes: {'/u/{id}': signed-in}");
    let [change] = &*found.routes else { panic!("{found:?}") };
    assert_eq!(change.gains, "everyone signed in who does not meet `role:admin or owner:id`");
    assert_eq!(change.loses, "nobody");
    let witness = "a caller signed in by main without role:admin, claim:sub=any2 now passes GET /u/any2";
    assert_eq!(change.passes_now.as_deref(), Some(witness));
}

#[test]
fn a_rule_that_moves_between_a_route_and_a_guard_is_the_same() {
    let (old, new) = ("routes: {/a/x: role:a and role:b}", "routes: {/a/x: role:a}\nguards: {/a/**: role:b}");
    assert_eq!(verdict(old, new), Verdict::Same);
    assert_eq!(verdict(new, "routes: {/a/x: role:a}"), Verdict::Widened);
}

#[test]
fn a_more_specific_key_opens_a_part_of_a_wider_one() {
    let (old, new) = ("routes: {/a/**: role:a}", "routes: {/a/**: role:a, /a/b: public}");
    let found = between(old, new);
    let [change] = &*found.routes else { panic!("{found:?}") };
    assert_eq!(
        (change.old.as_ref().unwrap().key.as_str(), change.new.as_ref().unwrap().key.as_str()),
        ("/a/**", "/a/b")
    );
    assert_eq!((change.verdict, &*change.gains), (Verdict::Widened, "everyone who does not meet `role:a`"));
    assert_eq!(found.added, ["/a/b"]);
    assert_eq!(verdict(old, "routes: {/a/**: role:a, /a/b: role:a}"), Verdict::Same);
    assert_eq!(verdict(old, "routes: {/a/**: role:a, GET /a/b: role:a and role:b}"), Verdict::Narrowed);
    assert_eq!(verdict("routes: {GET /a: role:a}", "routes: {/a: role:a}"), Verdict::Widened);
    assert_eq!(verdict("routes: {/a: role:a}", "routes: {}"), Verdict::Narrowed);
    assert_eq!(verdict("routes: {x.test/a: role:a}", "routes: {/a: role:a}"), Verdict::Widened);
}

#[test]
fn the_refusal_of_other_spellings_counts() {
    let old = "routes: {'/{x}': public, /Admin: public}";
    let found = between(old, "routes: {'/{x}': public}");
    assert_eq!(found.verdict, Verdict::Widened);
    assert!(found.routes[0].gains.ends_with("by other spellings of the path only"), "{found:?}");
    let guard = "routes: {/**: signed-in}\nguards: {/Admin/**: role:a}";
    assert_eq!(verdict(guard, "routes: {/**: signed-in, /Admin/**: role:a}"), Verdict::Same);
}

#[test]
fn roles_forbids_and_requirements_count_where_they_matter() {
    let old = "routes: {/a: role:staff}\nroles: {staff: group:x}";
    assert_eq!(verdict(old, "routes: {/a: group:x}"), Verdict::Same.and(role_is_gone()));
    assert_eq!(verdict(old, "routes: {/a: role:staff}\nroles: {staff: group:x or group:y}"), Verdict::Widened);
    let forbid = "routes: {/a: signed-in}\ndeny: {x: group:x}";
    assert_eq!(verdict(forbid, "routes: {/a: signed-in}"), Verdict::Widened);
    assert_eq!(verdict("routes: {/a: signed-in}", forbid), Verdict::Narrowed);
    let issuer = |more: &str| {
        format!("issuers: {{main: {{url: https://id.test, audience: shop{more}}}}}\nroutes: {{/a: signed-in}}")
    };
    assert_eq!(verdict(&issuer(", require: claim:a=b"), &issuer("")), Verdict::Widened);
    assert_eq!(verdict(&issuer(""), &issuer(", require: claim:a=b")), Verdict::Narrowed);
}

/// The role is another one then: what its token lists.
fn role_is_gone() -> Verdict {
    Verdict::Changed
}

#[test]
fn what_stands_outside_of_the_routes_is_told() {
    let issuer =
        |more: &str| format!("issuers: {{main: {{url: https://id.test, {more}}}}}\nroutes: {{/a: signed-in}}\n");
    let base = issuer("audience: shop");
    let cases = [
        (issuer("audience: [shop, web]"), Verdict::Widened),
        (issuer("audience: web"), Verdict::Changed),
        (issuer("audience: shop, algorithms: [ES256]"), Verdict::Narrowed),
        (issuer("audience: shop, leeway: 2m"), Verdict::Widened),
        (issuer("audience: shop, max_token_lifetime: 1h"), Verdict::Narrowed),
        (issuer("audience: shop, id_tokens: true"), Verdict::Widened),
        (issuer("audience: shop, proof: none"), Verdict::Widened),
        (issuer("audience: shop, proof: required-if-bound"), Verdict::Same),
        (issuer("audience: shop, proof: dpop"), Verdict::Narrowed),
        (issuer("audience: shop, proof: {mode: required-if-bound, window: 2m}"), Verdict::Widened),
        (issuer("audience: shop, proof: {mode: required-if-bound, nonce: offered}"), Verdict::Narrowed),
        (issuer("audience: shop, proof: {mode: required-if-bound, algorithms: ES256}"), Verdict::Narrowed),
        (issuer("audience: shop, proof: {mode: required-if-bound, urls: https://a.test}"), Verdict::Changed),
        (issuer("audience: shop, jwks: https://id.test/other"), Verdict::Changed),
        (issuer("audience: shop, cooldown: 1s"), Verdict::Same),
        (format!("{base}paths: [semicolon]"), Verdict::Widened),
        (format!("{base}headers: {{X-User: sub}}"), Verdict::Narrowed),
        (format!("{base}headers_kept: [Remote-User]"), Verdict::Widened),
        (format!("{base}metadata: {{user: sub}}"), Verdict::Changed),
        (format!("{base}gateways: {{edge: {{by: unix, believes: [client_address]}}}}"), Verdict::Widened),
        (format!("{base}public_url: https://shop.test"), Verdict::Same),
    ];
    for (new, expected) in cases {
        assert_eq!(verdict(&base, &new), expected, "{new}");
    }
    let nonce = |how: &str| issuer(&format!("audience: shop, proof: {{mode: dpop, nonce: {how}}}"));
    assert_eq!(verdict(&nonce("required"), &nonce("offered")), Verdict::Widened);
    assert_eq!(verdict(&nonce("required"), &base), Verdict::Widened);
    let may = |grant: &str| {
        format!(
            "issuers: {{main: {{url: https://id.test, audience: a, roles: roles, may_grant: {grant}}}}}\nroutes: {{/a: role:x, /b: 'not role:x'}}"
        )
    };
    assert_eq!(verdict(&may("[y]"), &may("[x, y]")), Verdict::Changed);
}

#[test]
fn a_new_issuer_gains_the_routes_that_accept_it() {
    let old =
        "issuers: {a: {url: https://a.test, audience: x, default: true, may_grant: any}}\nroutes: {/a: signed-in}";
    let new = "issuers: {a: {url: https://a.test, audience: x, default: true, may_grant: any}, b: {url: https://b.test, audience: x, default: true, may_grant: any, subject_prefix: 'b:'}}\nroutes: {/a: signed-in}";
    let found = between(old, new);
    assert_eq!(found.routes[0].gains, "who meets `signed-in` by a token of b");
    assert!(found.site.iter().any(|change| change.section == "issuers" && change.verdict == Verdict::Widened));
}

#[test]
fn what_a_route_asks_beside_its_rule_counts() {
    let of = |more: &str| format!("routes: {{'/a/{{id}}': {{allow: signed-in{more}}}}}");
    let cases = [
        (", when: 'claims.level >= 3'", Verdict::Narrowed, Verdict::Widened),
        (", deny: role:a", Verdict::Narrowed, Verdict::Widened),
        (", audience: orders", Verdict::Narrowed, Verdict::Widened),
        (", max_age: 10m", Verdict::Narrowed, Verdict::Widened),
        (", acr: phr", Verdict::Narrowed, Verdict::Widened),
        // A bad cookie is not looked at any more.
        (", credential: {from: [bearer], then: forward}", Verdict::Changed, Verdict::Changed),
        (", credential: strip", Verdict::Narrowed, Verdict::Widened),
        (", cors: {origins: ['https://x.test']}", Verdict::Changed, Verdict::Changed),
        (", sign_in: none", Verdict::Same, Verdict::Same),
        (", response_headers: {X-For: sub}", Verdict::Changed, Verdict::Changed),
        (", query: {remove: [debug]}", Verdict::Narrowed, Verdict::Widened),
        (", headers: {X-Who: sub}", Verdict::Narrowed, Verdict::Widened),
    ];
    let issuers = "issuers: {main: {url: https://id.test, audience: shop, roles: roles, from: [bearer, 'cookie:s'], origins: ['https://x.test']}}\nsign_in: https://in.test/\n";
    let whole = |more: &str| format!("{issuers}{}", of(more));
    for (more, added, removed) in cases {
        assert_eq!(verdict(&whole(""), &whole(more)), added, "{more} added");
        assert_eq!(verdict(&whole(more), &whole("")), removed, "{more} removed");
        assert_eq!(verdict(&whole(more), &whole(more)), Verdict::Same, "{more}");
    }
    assert_eq!(verdict(&of(", max_age: 10m"), &of(", max_age: 1h")), Verdict::Widened);
    assert_eq!(verdict(&of(", acr: [a, b]"), &of(", acr: a")), Verdict::Narrowed);
    assert_eq!(verdict(&of(", deny: actor:a"), &of(", deny: 'actor:*'")), Verdict::Narrowed);
    let when = |text: &str| of(&format!(", when: '{text}'"));
    assert_eq!(verdict(&when("claims.level >= 3"), &when("claims.level >= 2")), Verdict::Changed);
    assert_eq!(verdict(&of(", audience: [a, b]"), &of(", audience: [a]")), Verdict::Narrowed);
    assert_eq!(verdict(&of(", audience: [a]"), &of(", audience: [a, b]")), Verdict::Widened);
    assert_eq!(verdict(&of(", deny: role:a"), &of(", deny: role:a or role:b")), Verdict::Narrowed);
    let found = between(&of(""), &of(", deny: role:a, audience: x, when: 'now > now'"));
    assert_eq!(
        found.routes[0].loses,
        "everyone signed in who does not meet `signed-in and never (role:a) and when `now > now` and audience x`"
    );
}

#[test]
fn a_condition_is_another_where_what_it_reads_is_made_otherwise() {
    let reads =
        |text: &str, more: &str| format!("{ISSUERS}routes: {{/a: {{allow: signed-in, when: '{text}'}}}}\n{more}");
    let roles =
        |text: &str| verdict(&reads(text, "roles: {x: group:x}"), &reads(text, "roles: {x: group:x or group:y}"));
    assert_eq!(roles("!(\"x\" in caller.roles)"), Verdict::Changed);
    assert_eq!(roles("request.method == \"GET\""), Verdict::Widened);
}

#[test]
fn a_set_of_hosts_is_each_of_them() {
    let of = |hosts: &str| format!("hosts: {{api: {hosts}}}\nroutes: {{'api:/a': signed-in}}\n");
    assert_eq!(verdict(&of("[a.test]"), &of("[a.test, b.test]")), Verdict::Widened);
    assert_eq!(verdict(&of("[a.test, '*.b.test']"), &of("[a.test]")), Verdict::Narrowed);
    assert_eq!(verdict(&of("[a.test]"), "routes: {a.test/a: signed-in}"), Verdict::Same);
}

const EDGE: &str = "gateways: {edge: {by: unix, believes: [certificate]}}\n";

#[test]
fn services_pass_without_a_token() {
    let of = |named: &str, rule: &str| {
        format!("{ISSUERS}{EDGE}services: {{{named}}}\nroutes: {{/a: {rule}}}\nroles: {{peer: 'service:a'}}\n")
    };
    let both = "a: spiffe://t.test/a, b: spiffe://t.test/b";
    let found = between(&of(both, "service:a"), &of(both, "service:a or service:b"));
    assert_eq!(found.verdict, Verdict::Widened);
    assert_eq!(verdict(&of(both, "service:a"), &of(both, "service:a and signed-in")), Verdict::Narrowed);
    let moved = "a: spiffe://t.test/b, b: spiffe://t.test/a";
    assert_eq!(verdict(&of(both, "service:a"), &of(moved, "service:a")), Verdict::Changed);
}

#[test]
fn a_key_more_or_a_key_that_gives_more_is_an_opening() {
    let of = |keys: &str, routes: &str| format!("{ISSUERS}api_keys: {{keys: [{keys}]}}\nroutes: {{{routes}}}\n");
    let key = |id: u32, more: &str| format!("{{id: k{id}, owner: billing, hash: 'sha256:{id:064x}'{more}}}");
    let (route, every) = ("/a: key:billing", "/a: {allow: role:x, issuers: [main, api_keys]}");
    let one = key(1, "");
    for (before, after, expected) in [
        (one.clone(), format!("{one}, {}", key(2, "")), Verdict::Widened),
        (format!("{one}, {}", key(2, "")), one.clone(), Verdict::Narrowed),
        (one.clone(), key(1, ", roles: [x]"), Verdict::Widened),
        (one.clone(), key(1, ", scopes: [x]"), Verdict::Widened),
        (one.clone(), key(1, ", routes: [GET /a]"), Verdict::Narrowed),
        (key(1, ", routes: [GET /a]"), key(1, ", routes: [/a]"), Verdict::Changed),
        (key(1, ", routes: [/a]"), one.clone(), Verdict::Widened),
        (one.clone(), key(1, ", expires: 2030-01-01T00:00:00Z"), Verdict::Narrowed),
        (key(1, ", expires: 2030-01-01T00:00:00Z"), key(1, ", expires: 2031-01-01T00:00:00Z"), Verdict::Widened),
        (key(1, ", not_before: 2030-01-01T00:00:00Z"), one.clone(), Verdict::Widened),
        (key(1, ", disabled: true"), one.clone(), Verdict::Widened),
        (one.clone(), key(1, ", disabled: true"), Verdict::Narrowed),
        (one.clone(), key(1, "").replace("0001'", "0009'"), Verdict::Changed),
        (one.clone(), one.clone(), Verdict::Same),
    ] {
        assert_eq!(verdict(&of(&before, route), &of(&after, route)), expected, "{before} → {after}");
    }
    let held = "/a: key:billing, /b: not role:x";
    assert_eq!(verdict(&of(&one, held), &of(&key(1, ", roles: [x]"), held)), Verdict::Changed);
    // Who shows a bad key loses what a key opens to others.
    assert_eq!(verdict(&of(&one, "/a: role:x"), &of(&one, every)), Verdict::Changed, "a route that takes keys now");
    assert_eq!(verdict(&of(&one, "/a: role:x"), &of(&one, "/a: role:x or key:billing")), Verdict::Changed);
    assert_eq!(verdict(&of(&one, "/a: key:billing"), &of(&one, "/a: key:billing and role:x")), Verdict::Narrowed);
    let found = between(&of(&one, "/a: role:x"), &of(&one, every));
    assert!(format!("{:?}", found.routes[0]).contains("an API key"), "{:?}", found.routes[0]);
    let named = |text: &str| of(&one, text);
    let found = between(&named("/a: role:x"), &named("/a: role:x or key:billing"));
    assert!(format!("{:?}", found.routes[0]).contains("an API key of billing"), "{:?}", found.routes[0]);
}

#[test]
fn a_grant_widens_but_where_a_role_is_held_against_its_holder() {
    let of = |until: &str, more: &str| {
        let grants = match until {
            "" => String::new(),
            until => format!("grants: [{{principal: main/u1, role: admin, until: {until}, ticket: OPS-1}}]\n"),
        };
        format!("{ISSUERS}routes: {{/a: role:admin, /b: signed-in}}\n{grants}{more}")
    };
    let (short, long) = ("2030-12-01T00:00:00Z", "2031-12-01T00:00:00Z");
    let found = between(&of("", ""), &of(short, ""));
    let told = found.site.iter().find(|change| change.section == "grants").unwrap();
    assert_eq!((&*told.name, &*told.text), ("main/u1", "has role:admin until 2030-12-01T00:00:00Z"));
    for (one, two, more, expected) in [
        ("", short, "", Verdict::Widened),
        (short, "", "", Verdict::Narrowed),
        (short, long, "", Verdict::Widened),
        (long, short, "", Verdict::Narrowed),
        (short, short, "", Verdict::Same),
        (short, "", "deny: {x: role:admin}", Verdict::Changed),
        (short, "", "deny: {x: role:other}\nroles: {other: role:admin}", Verdict::Changed),
        (short, "", "deny: {x: not role:admin}", Verdict::Narrowed),
        (short, "", "guards: {/b: not role:admin}", Verdict::Changed),
    ] {
        assert_eq!(verdict(&of(one, more), &of(two, more)), expected, "{one} → {two} {more}");
    }
    // By a grant somebody has a role of which the issuer may not speak.
    let of = |rule: &str| {
        format!(
            "issuers: {{main: {{url: https://id.test, audience: a, roles: roles, may_grant: [x]}}}}\nroutes: {{/a: {rule}}}\ngrants: [{{principal: main/u1, role: y, until: {short}}}]\n"
        )
    };
    assert_eq!(verdict(&of("role:x and role:z"), &of("role:y")), Verdict::Widened);
}

#[test]
fn more_belief_in_a_gateway_widens() {
    let of = |edge: &str| format!("{ISSUERS}routes: {{/a: signed-in}}\ngateways: {{edge: {{{edge}}}}}\n");
    let base = "by: 10.0.0.0/8";
    for (more, added, removed) in [
        (", believes: [client_address]", Verdict::Widened, Verdict::Narrowed),
        (", believes: [certificate]", Verdict::Widened, Verdict::Changed),
        (", believes: [xfcc]", Verdict::Widened, Verdict::Changed),
    ] {
        let with = of(&format!("{base}{more}"));
        assert_eq!(verdict(&of(base), &with), added, "{more}");
        assert_eq!(verdict(&with, &of(base)), removed, "{more}");
    }
    assert_eq!(verdict(&of(base), &of("by: 10.0.0.0/16")), Verdict::Changed);
    // Who asked by gRPC only is answered by HTTP.
    assert_eq!(verdict(&of(base), &of("by: 10.0.0.0/8, dialect: nginx")), Verdict::Widened);
    assert_eq!(verdict(&of("by: unix, dialect: nginx"), &of("by: unix, dialect: caddy")), Verdict::Widened);
    assert_eq!(verdict(&of("by: unix, dialect: nginx"), &of("by: unix")), Verdict::Changed);
    let two = of(&format!("{base}}}, more: {{by: unix, dialect: traefik, max_headers: 50"));
    assert_eq!(verdict(&of(base), &two), Verdict::Widened);
    let certificate = |word: &str| of(&format!("{base}, believes: [{word}]"));
    assert_eq!(verdict(&certificate("certificate"), &certificate("xfcc")), Verdict::Changed);
}

#[test]
fn another_token_of_a_gateway_is_told_and_not_shown() {
    let with = |token: &'static str| {
        let text =
            "routes: {/a: public}\ngateways: {edge: {by: 'token:file:edge.token', believes: [client_address]}}\n";
        let (compiled, problems) = compile("p.yaml", text, &|_| Ok(token.as_bytes().to_vec()));
        compiled.unwrap_or_else(|| panic!("{}", problems.render(false)))
    };
    let (one, two) = (with("q8Zr3vK1mW6xT0pY9cB4nL7sD2fG5hJ0"), with("A8Zr3vK1mW6xT0pY9cB4nL7sD2fG5hJ0"));
    let found = compare(&one, &two);
    assert_eq!(found.site[0].text, "it shows another token");
    assert_eq!(found.verdict, Verdict::Changed);
    assert_eq!(compare(&one, &one).verdict, Verdict::Same);
}

#[test]
fn another_shared_secret_is_told_and_no_part_of_it_shown() {
    let with = |secret: &'static str| {
        let text = "issuers: {main: {issuer: https://id.test, audience: a, algorithms: [HS256], secret: \"file:s\"}}\nroutes: {/a: signed-in}\n";
        let (compiled, problems) = compile("p.yaml", text, &|_| Ok(secret.as_bytes().to_vec()));
        compiled.unwrap_or_else(|| panic!("{}", problems.render(false)))
    };
    let (one, two) = (with("q8Zr3vK1mW6xT0pY9cB4nL7sD2fG5hJ0"), with("A8Zr3vK1mW6xT0pY9cB4nL7sD2fG5hJ0"));
    let found = compare(&one, &two);
    assert_eq!((found.verdict, &*found.site[0].text), (Verdict::Changed, "its keys are others"));
    assert_eq!(compare(&one, &one).verdict, Verdict::Same);
}

#[test]
fn what_is_told_otherwise_is_told_where_requests_reach_another_route() {
    let old = "routes: {/a/**: {allow: signed-in, headers: {X-Who: sub}}}";
    let new = "routes: {/a/**: {allow: signed-in, headers: {X-Who: sub}}, /a/b: {allow: signed-in, headers: {X-Who: {value: root}}}}";
    let found = between(old, new);
    let [change] = &*found.site else { panic!("{found:?}") };
    assert_eq!((change.section, &*change.name, change.verdict), ("headers", "/a/** → /a/b", Verdict::Changed));
    assert!(change.text.starts_with("x-who: sub → the value "), "{}", change.text);
}

#[test]
fn introspection_that_comes_goes_or_asks_elsewhere_is_told() {
    let of = |introspection: &str| {
        let text = format!(
            "issuers: {{main: {{url: https://id.test, audience: shop, {introspection}}}}}\nroutes: {{/a: signed-in}}\n"
        );
        let (compiled, problems) = compile("p.yaml", &text, &|file| Ok(file.as_bytes().to_vec()));
        compiled.unwrap_or_else(|| panic!("{}", problems.render(false)))
    };
    let verdict = |old: &str, new: &str| compare(&of(old), &of(new)).verdict;
    let asked = |more: &str| {
        format!("introspection: {{url: https://id.test/i, client_id: c, client_secret: 'file:s', {more}}}")
    };
    let plain = asked("cache: 60s");
    assert_eq!(verdict("", &plain), Verdict::Widened);
    assert_eq!(verdict(&plain, ""), Verdict::Narrowed);
    assert_eq!(verdict(&plain, &plain), Verdict::Same);
    assert_eq!(verdict(&plain, &asked("cache: 61s")), Verdict::Widened);
    assert_eq!(verdict(&plain, &asked("cache: 59s")), Verdict::Narrowed);
    assert_eq!(verdict(&plain, &asked("subject: username")), Verdict::Changed);
    assert_eq!(verdict(&plain, &plain.replace("/i,", "/other,")), Verdict::Changed);
    assert_eq!(verdict(&plain, &plain.replace("client_id: c", "client_id: d")), Verdict::Changed);
    assert_eq!(verdict(&plain, &plain.replace("file:s", "file:other")), Verdict::Same);
    assert_eq!(verdict(&plain, &asked("timeout: 1s")), Verdict::Same);
}

#[test]
fn answers_that_are_used_again_for_longer_are_an_opening() {
    let of = |route: &str| format!("routes: {{/a: {{allow: role:a{route}}}}}");
    assert_eq!(verdict(&of(""), &of(", cache: 10s")), Verdict::Widened);
    assert_eq!(verdict(&of(", cache: 10s"), &of(", cache: 30s")), Verdict::Widened);
    assert_eq!(verdict(&of(", cache: 10s"), &of("")), Verdict::Narrowed);
    // No answer there is ever used again, whatever the route says.
    assert_eq!(verdict(&of(", max_age: 5m"), &of(", max_age: 5m, cache: 10s")), Verdict::Same);
}

#[test]
fn who_may_ask_about_anybody_is_told() {
    let of = |clients: &str| format!("{ISSUERS}routes: {{/a: role:a}}\npdp_clients: {{{clients}}}");
    let one = "portal: {by: unix, issuers: [main]}";
    assert_eq!(verdict("routes: {/a: role:a}", &of(one)), Verdict::Widened);
    assert_eq!(verdict(&of(one), "routes: {/a: role:a}"), Verdict::Narrowed);
    assert_eq!(verdict(&of(one), &of("portal: {by: 10.0.0.1, issuers: [main]}")), Verdict::Changed);
    let keys = "api_keys: {keys: [{owner: a, hash: 'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'}], from: 'header:x-key', default: true}\n";
    let more = one.replace("[main]", "[main, api_keys]");
    assert_eq!(verdict(&format!("{keys}{}", of(one)), &format!("{keys}{}", of(&more))), Verdict::Widened);
}
