//! Whole policies side by side.

use super::*;
use crate::config::compile;

const ISSUERS: &str = "issuers: {main: {url: https://id.test, audience: shop, roles: roles, groups: groups}}\n";

fn policy(text: &str) -> Compiled {
    let text = if text.contains("issuers:") { text.to_owned() } else { format!("{ISSUERS}{text}") };
    let (compiled, problems) = compile("p.yaml", &text, &|_| Err(std::io::ErrorKind::NotFound.into()));
    compiled.unwrap_or_else(|| panic!("{}", problems.render(&text, false)))
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
        (issuer("audience: shop, jwks: https://id.test/other"), Verdict::Changed),
        (issuer("audience: shop, cooldown: 1s"), Verdict::Same),
        (format!("{base}paths: [semicolon]"), Verdict::Widened),
        (format!("{base}headers: {{X-User: sub}}"), Verdict::Narrowed),
        (format!("{base}headers_kept: [Remote-User]"), Verdict::Widened),
        (format!("{base}metadata: {{user: sub}}"), Verdict::Changed),
        (format!("{base}gateways: {{edge: {{by: unix, believes: [client_address]}}}}"), Verdict::Changed),
        (format!("{base}public_url: https://shop.test"), Verdict::Same),
    ];
    for (new, expected) in cases {
        assert_eq!(verdict(&base, &new), expected, "{new}");
    }
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
