//! Each lint fires on its example, and says nothing of the policy beside it.

use std::time::Duration;

use super::LINTS;
use crate::config::{Compiled, Problems, Surroundings, compile, compile_all};

const ONE: &str = "issuers: {main: {url: https://id.example.com, audience: shop, roles: roles}}\n";
const TWO: &str = "issuers:
  main: {url: https://id.example.com, audience: shop, roles: roles, default: true, may_grant: [staff, admin]}
  partner: {url: https://id.example.org, audience: shop, roles: roles, subject_prefix: p-, may_grant: [partner-*]}
";
const EDGE: &str = "gateways: {edge: {by: unix, believes: [client_address]}}\n";

fn compiled(text: &str) -> (Option<Compiled>, Problems) {
    compile("p.yaml", text, &|_| Err(std::io::ErrorKind::NotFound.into()))
}

/// The warnings of a policy that loads: line, code.
fn warned(text: &str) -> Vec<(u32, &'static str)> {
    let (policy, problems) = compiled(text);
    assert!(policy.is_some(), "{text}\n{}", problems.render(false));
    // Examples are as short as they can be: what they leave unused is not what they are about.
    let told = problems.as_slice().iter().filter(|problem| problem.code != "issuer_unused");
    told.map(|problem| (problem.span.line, problem.code)).collect()
}

/// Holds a lint against a policy in which it fires, once, on this line of what follows the prelude, and against one
/// in which nothing does.
fn fires(code: &str, prelude: &str, line: u32, bad: &str, good: &[&str]) {
    assert!(LINTS.iter().any(|(name, _)| *name == code), "{code}");
    let line = u32::try_from(prelude.lines().count()).unwrap().saturating_add(line);
    let text = format!("{prelude}{bad}");
    let (_, problems) = compiled(&text);
    let shown = problems.render(false);
    assert_eq!(
        warned(&text),
        [(line, code)].map(|(line, code)| (line, LINTS.iter().find(|(name, _)| *name == code).unwrap().0)),
        "{text}\n{shown}"
    );
    for good in good {
        let text = format!("{prelude}{good}");
        let (_, problems) = compiled(&text);
        assert_eq!(warned(&text), [], "{text}\n{}", problems.render(false));
    }
}

#[test]
fn a_route_that_is_more_open_than_the_one_behind_it_is_told() {
    let fires = |bad: &str, good: &[&str]| fires("route_more_open", ONE, 3, bad, good);
    fires(
        "routes:\n  /admin/**: role:admin\n  GET /admin/export: signed-in\n",
        &[
            "routes:\n  /admin/**: role:admin\n  GET /admin/export: role:admin and role:auditor\n",
            "routes:\n  /admin/**: role:admin\n  GET /admin/export: role:auditor\n",
            "routes:\n  /**: role:admin\n  GET /admin/export: signed-in\n",
            "routes:\n  GET /admin/**: role:admin\n  POST /admin/export: signed-in\n",
        ],
    );
    fires(
        "routes:\n  /admin/**: role:admin\n  /admin/health: public\n",
        &["routes:\n  /**: signed-in\n  /health: public\n"],
    );
    fires(
        "routes:\n  /u/{id}/**: owner:id and role:a\n  /u/{user}/x: owner:user\n",
        &["routes:\n  /u/{id}/**: owner:id\n  /u/{user}/x: owner:user\n"],
    );
    fires("routes:\n  /a/**: role:admin\n  /a/b: role:admin or role:user\n", &[]);
    fires(
        "routes:\n  shop.example.com/a/**: role:admin\n  shop.example.com/a/b: signed-in\n",
        &["routes:\n  shop.example.com/a/**: role:admin\n  www.example.com/a/b: signed-in\n"],
    );
}

#[test]
fn a_guard_that_asks_for_as_much_counts() {
    let routes = "routes:\n  /admin/**: role:admin\n  /admin/me: signed-in\n";
    fires(
        "route_more_open",
        ONE,
        3,
        &format!("{routes}guards: {{/admin/**: role:staff}}\n"),
        &[
            &format!("{routes}guards: {{/admin/**: role:admin}}\n"),
            &format!("{routes}guards: {{/**: role:staff and role:admin}}\n"),
        ],
    );
    fires("route_more_open", ONE, 3, &format!("{routes}guards: {{GET /admin/**: role:admin}}\n"), &[]);
}

#[test]
fn a_condition_narrows_a_route_and_is_not_looked_into() {
    let narrow = "routes:\n  /a/**: role:admin\n  /a/b: {allow: signed-in, when: 'claims.level >= 3'}\n";
    assert_eq!(warned(&format!("{ONE}{narrow}")), []);
    let wide = "routes:\n  /a/**: {allow: signed-in, when: 'claims.level >= 3'}\n  /a/b: signed-in\n";
    assert_eq!(warned(&format!("{ONE}{wide}")), [(4, "route_more_open")]);
}

#[test]
fn two_lines_of_one_path_are_not_compared() {
    let read = "routes:\n  GET /profile/{id}: signed-in\n  /profile/{id}: owner:id\n";
    assert_eq!(warned(&format!("{ONE}{read}")), []);
    let below = "routes:\n  /a/**: role:admin\n  /a/b: role:admin\n  GET /a/b: public\n";
    assert_eq!(warned(&format!("{ONE}{below}")), [(5, "route_more_open")], "what is around both still counts");
}

#[test]
fn a_route_that_accepts_other_issuers_is_not_compared() {
    let routes = "routes:\n  /a/**: role:admin\n  /a/b: ";
    assert_eq!(warned(&format!("{TWO}{routes}{{allow: signed-in, issuers: [partner]}}\n")), []);
    let both = format!("{TWO}{routes}{{allow: role:admin, issuers: [main, partner]}}\n");
    assert_eq!(warned(&both), [(6, "route_more_open")]);
}

#[test]
fn a_method_that_is_left_to_a_weaker_route_is_told() {
    let fires = |bad: &str, good: &[&str]| fires("method_left_open", ONE, 3, bad, good);
    fires(
        "routes:\n  /**: signed-in\n  PUT /profile/{id}: owner:id\n",
        &[
            "routes:\n  /**: signed-in\n  PUT,POST,PATCH,DELETE /profile/{id}: owner:id\n",
            "routes:\n  /**: signed-in\n  PUT /profile/{id}: owner:id\n  /profile/{id}: owner:id\n",
            "routes:\n  GET /**: signed-in\n  PUT /profile/{id}: owner:id\n",
            "routes:\n  /**: role:admin\n  PUT /profile/{id}: owner:id\n",
            "routes:\n  /**: signed-in\n  GET /catalogue: public\n",
        ],
    );
    fires("routes:\n  /**: signed-in\n  GET /reports: role:auditor\n", &[]);
    let guarded = "routes:\n  /**: signed-in\n  PUT /profile/x: role:admin\nguards: {/profile/**: role:admin}\n";
    assert_eq!(warned(&format!("{ONE}{guarded}")), []);
}

#[test]
fn a_host_s_catch_all_that_hides_routes_is_told_once() {
    let fires = |bad: &str, good: &[&str]| fires("host_hides_routes", ONE, 4, bad, good);
    fires(
        "routes:\n  /admin/**: role:admin\n  POST /orders: role:clerk\n  shop.example.com/**: signed-in\n",
        &[
            "routes:\n  /health: public\n  /a: signed-in\n  shop.example.com/**: signed-in\n",
            "routes:\n  /admin/**: role:admin\n  shop.example.com/**: signed-in\n  shop.example.com/admin/**: role:admin\n",
            "routes:\n  /admin/**: role:admin\n  /**: public\n  shop.example.com/shop/**: signed-in\n",
            "routes:\n  /admin/**: role:admin\n  shop.example.com/**: signed-in\nguards: {/admin/**: role:admin}\n",
        ],
    );
}

#[test]
fn a_capture_that_others_compare_is_told_where_it_is_not() {
    fires(
        "capture_unchecked",
        ONE,
        3,
        "routes:\n  /t/{tenant}/**: claim:tenant={tenant}\n  GET /t/{tenant}/export: role:clerk\n",
        &[
            "routes:\n  /t/{tenant}/**: claim:tenant={tenant}\n  GET /t/{tenant}/export: claim:tenant={tenant} and role:clerk\n",
            "routes:\n  /t/{tenant}/**: claim:tenant={tenant}\n  /orders/{tenant}: role:clerk\n",
            "routes:\n  /t/{tenant}/a: role:b\n  /t/{tenant}/export: role:clerk\n",
            "routes:\n  /t/{tenant}/a: claim:tenant={tenant}\n  /t/{tenant}/b: role:clerk\nguards: {'/t/{t}/**': 'claim:tenant={t}'}\n",
        ],
    );
}

#[test]
fn a_forbid_that_closes_public_routes_is_told() {
    fires(
        "forbid_closes_public",
        ONE,
        4,
        "routes:\n  /health: public\ndeny:\n  outsiders: not role:staff\n",
        &[
            "routes:\n  /health: public\ndeny:\n  outsiders: signed-in and not role:staff\n",
            "routes:\n  /health: role:x\ndeny:\n  outsiders: not role:staff\n",
            "routes:\n  /health: public\ndeny:\n  suspended: claim:suspended=true\n",
        ],
    );
}

#[test]
fn what_can_never_be_is_told() {
    fires(
        "forbid_never",
        TWO,
        4,
        "routes:\n  /a: role:staff\ndeny:\n  x: issuer:main and issuer:partner\n",
        &["routes:\n  /a: role:staff\ndeny:\n  x: issuer:main and role:admin\n"],
    );
    fires(
        "rule_never",
        &format!("{ONE}{EDGE}"),
        2,
        "routes:\n  /a: network:10.0.0.0/8 and network:192.168.0.0/16\n",
        &["routes:\n  /a: network:10.0.0.0/8 or network:192.168.0.0/16\n"],
    );
    fires("rule_never", ONE, 3, "routes:\n  /a: signed-in\nguards: {/a: role:x and not role:x}\n", &[]);
    fires(
        "role_ungranted",
        TWO,
        2,
        "routes:\n  /a: role:premium\n",
        &[
            "routes:\n  /a: role:staff\n",
            "routes:\n  /a: {allow: role:partner-gold, issuers: [partner]}\n",
            "roles: {admin: claim:department=it}\nroutes:\n  /a: role:admin\n",
        ],
    );
    fires(
        "guard_idle",
        ONE,
        3,
        "routes:\n  /admin/**: signed-in\nguards: {/admins/**: role:x}\n",
        &["routes:\n  /admin/**: signed-in\nguards: {/admin/users: role:x}\n"],
    );
}

#[test]
fn a_role_that_two_issuers_can_grant_is_told_at_the_second() {
    let any = TWO.replace("[partner-*]", "[partner-*, staff]");
    let both = "routes:\n  /a: {allow: role:staff, issuers: [main, partner]}\n";
    let (policy, problems) = compiled(&format!("{any}{both}"));
    assert!(policy.is_some());
    assert_eq!(
        problems.as_slice().iter().map(|p| (p.code, p.span.line)).collect::<Vec<_>>(),
        [("role_many_issuers", 3)]
    );
    assert_eq!(problems.as_slice()[0].message, "both `main` and `partner` can grant `staff`");
    assert_eq!(warned(&format!("{TWO}{both}")), []);
    assert_eq!(
        warned(&format!("{any}routes:\n  /a: role:staff\n  /b: {{allow: role:partner-x, issuers: [partner]}}\n")),
        []
    );
    let derived = TWO.replace("[partner-*]", "any");
    let roles = |rule: &str| {
        format!("{derived}roles: {{lead: '{rule}'}}\nroutes:\n  /a: {{allow: role:lead, issuers: [main, partner]}}\n")
            .replace("[staff, admin]", "any")
    };
    assert_eq!(warned(&roles("claim:lead=true")), [(3, "role_many_issuers")]);
}

#[test]
fn an_issuer_that_is_believed_too_much_is_told() {
    let with = |more: &str| {
        format!("issuers:\n  main: {{url: https://id.example.com, audience: a, {more}}}\nroutes:\n  /a: signed-in\n")
    };
    fires("leeway_long", "", 2, &with("leeway: 121s"), &[&with("leeway: 120s")]);
    fires("stale_long", "", 2, &with("max_stale: 8d"), &[&with("max_stale: 7d")]);
    fires("id_tokens_accepted", "", 2, &with("id_tokens: true"), &[&with("id_tokens: false")]);
    let local =
        "issuers:\n  main: {url: http://127.0.0.1:8080, audience: a, allow_http: true}\nroutes:\n  /a: signed-in\n";
    fires("issuer_http", "", 2, local, &[]);
}

#[test]
fn a_relaxed_path_is_told_where_guards_look_at_paths() {
    let policy = |paths: &str, guard: &str| {
        format!("routes:\n  /a/**: signed-in\npaths: {paths}\nguards: {{{guard}: role:x}}\n")
    };
    for risky in ["[encoded_slash]", "[backslash]", "[double_encoding]"] {
        fires("path_relaxed", ONE, 3, &policy(risky, "/a/b/**"), &[&policy(risky, "/**")]);
    }
    assert_eq!(warned(&format!("{ONE}{}", policy("[semicolon, empty_segment, case_variant]", "/a/b"))), []);
}

#[test]
fn lints_of_other_steps_fire_too() {
    fires("any_peer", ONE, 2, "routes: {/a: signed-in}\ngateways: {edge: {by: 0.0.0.0/0}}\n", &[]);
    fires(
        "address_unread",
        ONE,
        2,
        "routes: {/a: signed-in}\ngateways: {edge: {by: unix, client_address: {from: connection}}}\n",
        &[],
    );
    fires("duplicate_value", ONE, 2, "routes: {/a: signed-in}\nheaders_kept: [Remote-User, Remote-User]\n", &[]);
    fires("group_unmapped", ONE, 1, "routes: {/a: group:x}\n", &[]);
    fires(
        "role_unmapped",
        "issuers: {main: {url: https://id.example.com, audience: a}}\n",
        1,
        "routes: {/a: role:x}\n",
        &[],
    );
    fires("holds_by_absence", ONE, 1, "routes: {/a: not claim:x=y}\n", &["routes: {/a: claim:x=y}\n"]);
    fires(
        "issuers_unread",
        TWO,
        2,
        "routes:\n  /a: {allow: public, issuers: [main]}\n  /b: {allow: signed-in, issuers: [main, partner]}\n",
        &[],
    );
    fires(
        "issuer_not_accepted",
        TWO,
        3,
        "routes:\n  /b: {allow: signed-in, issuers: [partner]}\n  /a: signed-in and issuer:partner\n",
        &[],
    );
    fires("key_missing", ONE, 2, "routes: {/a: signed-in}\ndecision_key: file:none\n", &[]);
    let nonces = "issuers: {main: {url: https://id.example.com, audience: a, proof: {mode: dpop, nonce: required}}}\n";
    fires("nonce_not_shared", "", 1, &format!("{nonces}routes: {{/a: signed-in}}\n"), &[]);
    fires("no_routes", "", 1, "public_url: https://a.example.com\n", &[]);
    fires("role_unused", ONE, 2, "routes: {/a: signed-in}\nroles: {admin: claim:a=b}\n", &[]);
    fires(
        "subject_ambiguous",
        &TWO.replace("subject_prefix: p-, ", ""),
        1,
        "routes: {'/a/{id}': {allow: 'claim:sub={id}', issuers: [main, partner]}}\n",
        &[],
    );
    fires("trailing_slash", ONE, 1, "routes: {/a/: signed-in}\n", &[]);
}

#[test]
fn an_issuer_that_no_route_accepts_is_told() {
    let (policy, problems) = compiled(&format!("{ONE}routes: {{/a: public}}\n"));
    assert!(policy.is_some());
    assert_eq!(
        problems.as_slice().iter().map(|problem| (problem.span.line, problem.code)).collect::<Vec<_>>(),
        [(1, "issuer_unused")]
    );
}

const MORE_OPEN: &str = "routes:\n  /admin/**: role:admin\n  /admin/health: public\n  /admin/me: signed-in\n";

#[test]
fn an_accepted_warning_is_not_told_and_others_are() {
    let accept = |entry: &str| warned(&format!("{ONE}{MORE_OPEN}lints: {entry}\n"));
    assert_eq!(accept("{route_more_open: /admin/health}"), [(5, "route_more_open")]);
    assert_eq!(accept("{route_more_open: [/admin/health, /admin/me]}"), []);
    assert_eq!(accept("{trailing_slash: [/admin/health, /admin/me]}").len(), 4, "another code is another warning");
}

#[test]
fn an_entry_that_silences_nothing_is_told() {
    let policy = format!("{ONE}{MORE_OPEN}lints: {{route_more_open: [/admin/health, /admin/me, /admin/mee]}}\n");
    let (_, problems) = compiled(&policy);
    let told: Vec<_> = problems.as_slice().iter().map(|p| (p.code, p.cure.as_deref().unwrap_or_default())).collect();
    assert_eq!(told, [("lint_unneeded", "did you mean `/admin/me`?")]);
}

#[test]
fn a_policy_is_held_against_lints_only_where_that_is_asked_for() {
    let text = "routes: {/a: public}\nguards: {/b/**: role:x}\ndecision_key: file:none\n";
    let codes = |lints| {
        let (compiled, problems) = compile_all("p.yaml", text, &Surroundings { lints, ..Surroundings::NONE });
        assert!(compiled.is_some(), "{problems}");
        problems.as_slice().iter().map(|problem| problem.code).collect::<Vec<_>>()
    };
    assert_eq!(codes(true), ["guard_idle", "key_missing"]);
    assert_eq!(codes(false), ["key_missing"]);
}

#[test]
fn a_code_that_is_no_lint_does_not_load() {
    let (policy, problems) = compiled(&format!("{ONE}{MORE_OPEN}lints: {{route_more_opn: [/admin/health]}}\n"));
    assert!(policy.is_none());
    let problem = &problems.as_slice()[0];
    assert_eq!((problem.code, problem.cure.as_deref()), ("unknown_lint", Some("did you mean `route_more_open`?")));
}

#[test]
fn a_section_s_own_warning_is_accepted_by_its_name() {
    let policy =
        "routes:\n  /a/**: signed-in\npaths: [encoded_slash]\nguards: {/a/b: role:x}\nlints: {path_relaxed: paths}\n";
    assert_eq!(warned(&format!("{ONE}{policy}")), []);
}

#[test]
fn an_error_cannot_be_accepted() {
    let (policy, problems) = compiled(&format!("{ONE}routes:\n  /a: owner:x\nlints: {{rule_never: /a}}\n"));
    assert!(policy.is_none() && problems.has_errors());
}

#[test]
fn lints_are_in_order_and_each_has_one_meaning() {
    assert!(LINTS.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[expect(clippy::disallowed_types, reason = "no runtime is here, and nothing is paused")]
#[test]
fn ten_thousand_routes_are_looked_at_in_well_under_a_second() {
    let mut text = String::from(ONE);
    text.push_str("routes:\n  /**: signed-in\n");
    for at in 0..2_500 {
        let host = if at % 3 == 0 { format!("h{at}.example.com") } else { String::new() };
        text.push_str(&format!("  {host}/s{at}/**: role:r{at}\n  GET {host}/s{at}/x: role:r{at} and role:b\n"));
        text.push_str(&format!(
            "  {host}/s{at}/{{id}}: owner:id or role:r{at}\n  PUT {host}/s{at}/{{id}}/y: owner:id and role:r{at}\n"
        ));
    }
    text.push_str("guards:\n");
    for at in 0..500 {
        text.push_str(&format!("  /s{at}/**: role:g\n"));
    }
    let (file, _) = crate::config::parse("p.yaml", &text);
    let (policy, _) = compiled(&text);
    let (file, policy) = (file.unwrap(), policy.unwrap().policy);
    let started = std::time::Instant::now();
    let found = super::lint(&file, &policy);
    let took = started.elapsed();
    assert!(found.len() > 1_000, "{}", found.len());
    assert!(took < Duration::from_secs(30), "{took:?} without optimisation");
}
