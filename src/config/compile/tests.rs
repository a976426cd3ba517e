//! Every problem that compiling finds, with its code and place, and the sample of the design.

use std::io;

use super::*;
use crate::config::error::Severity;
use crate::config::load;

fn no_files(_: &str) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::NotFound.into())
}

fn problems(text: &str) -> Vec<String> {
    let (_, problems) = compile("p.yaml", text, &no_files);
    shown(&problems, text, 0)
}

const SAMPLE: &str = r#"# portcullis.yaml
issuers:
  main:
    url: https://id.example.com/realms/shop      # OIDC discovery; keys are kept when the IdP is down
    audience: shop-api
    roles: realm_access.roles                    # a list, or one space-separated string
headers:                                         # ours: always stripped from the caller first
  X-User-ID: sub
  X-User-Roles: roles                            # ["admin","premium"]
routes:                                          # most specific wins; order never matters; nothing matches = deny
  GET /health:        public
  /admin/**:          role:admin
  PUT /profile/{id}:  owner:id or role:admin     # owner:id is claim:sub={id}
  /secret-data:       role:premium
  /t/{tenant}/**:     claim:tenant={tenant}      # the tenant in the path is the tenant in the token
public_url: https://shop.example.com
sign_in: https://login.example.com/?return_to={url}   # browsers are sent here; everyone else gets a 401
tests:
  - [anonymous,                      GET /health,      allow]
  - [{sub: u1},                      PUT /profile/u1,  allow, {X-User-ID: u1}]
  - [{sub: u1},                      PUT /profile/u2,  deny 403]
  - [anonymous,                      GET /secret-data, deny 401]
"#;

#[test]
fn the_sample_of_the_design_compiles_without_a_warning() {
    let (compiled, problems) = compile("portcullis.yaml", SAMPLE, &no_files);
    assert!(problems.as_slice().is_empty(), "{}", problems.render(false));
    let compiled = compiled.unwrap();
    assert_eq!(compiled.policy.routes.len(), 5);
    assert_eq!(compiled.feeds[0].from, KeySource::Discovery("https://id.example.com/realms/shop".into()));
    assert!(compiled.policy.issuers[0].fed && compiled.fixed.is_empty());
}

/// The problems of a file that begins with an ordinary issuer; lines count from the text's own first.
fn with_issuer(text: &str) -> Vec<String> {
    let head = "issuers: {main: {url: https://id.example.com, audience: shop, roles: roles, groups: groups}}\n";
    let (_, problems) = compile("p.yaml", &format!("{head}{text}"), &no_files);
    shown(&problems, &format!("{head}{text}"), 1)
}

/// The same with two issuers that are both the default.
fn with_two(text: &str) -> Vec<String> {
    let head = "issuers:
  a: {url: https://a.example.com, audience: shop, default: true, may_grant: any, roles: roles}
  b: {url: https://b.example.com, audience: shop, default: true, may_grant: [b-*], roles: roles}
";
    let (_, problems) = compile("p.yaml", &format!("{head}{text}"), &no_files);
    shown(&problems, &format!("{head}{text}"), 3)
}

fn shown(problems: &Problems, text: &str, head: u32) -> Vec<String> {
    let one = |p: &Problem| {
        let sign = if p.severity == Severity::Error { "" } else { "~" };
        let bytes = &text.as_bytes()[p.span.offset as usize..][..p.span.len as usize];
        let source = std::str::from_utf8(bytes).unwrap();
        format!("{sign}{} {}:{} {source}", p.code, p.span.line.saturating_sub(head), p.span.column)
    };
    problems.as_slice().iter().map(one).collect()
}

#[test]
fn a_rule_is_wrong_at_its_very_word() {
    assert_eq!(with_issuer("routes:\n  /a: role:x and or role:y"), ["bad_rule 2:18 or"]);
    assert_eq!(with_issuer("routes:\n  /ä: \"role:ö and rule:y\""), ["bad_rule 2:19 rule"]);
    assert_eq!(with_issuer("routes:\n  /a: 'role:*'"), ["bad_rule 2:13 *"]);
    assert_eq!(
        with_issuer("routes:\n  /a: {any: [role:x, {all: [role:y, 'role:']}]}"),
        ["bad_rule 2:42 :"],
        "also in YAML's own tree"
    );
    let long = with_issuer("routes:\n  /a: |-\n    role:x and\n    rule:y\n");
    assert_eq!(long.len(), 1);
    assert!(long[0].starts_with("bad_rule 3:5"), "{long:?}: a block is shown from its beginning");
    let nested = format!("routes:\n  /a: {}role:x{}", "{not: ".repeat(20), "}".repeat(20));
    assert!(with_issuer(&nested).iter().all(|problem| problem.starts_with("bad_rule 2:")), "too deep");
}

#[test]
fn a_route_key_is_wrong_at_its_very_part() {
    assert_eq!(with_issuer("routes:\n  GET,get /a: role:x"), ["bad_pattern 2:7 get"]);
    assert_eq!(with_issuer("routes:\n  /a/**/b: role:x"), ["bad_pattern 2:6 **"]);
    assert_eq!(with_issuer("guards: {/a//b: role:x}\nroutes: {/c: role:x}"), ["bad_pattern 1:12 /"]);
    assert_eq!(with_issuer("routes:\n  /a/: role:x"), ["~trailing_slash 2:5 /"]);
    assert_eq!(with_issuer("routes:\n  /: role:x"), [""; 0]);
}

#[test]
fn keys_of_one_shape_whose_methods_meet_clash() {
    assert_eq!(with_issuer("routes:\n  /a/{x}: role:x\n  /a/{y}: role:x"), ["route_clash 3:3 /a/{y}"]);
    assert_eq!(with_issuer("routes:\n  GET,PUT /a: role:x\n  POST,PUT /a: role:x"), ["route_clash 3:3 POST,PUT /a"]);
    assert_eq!(with_issuer("routes:\n  GET /a: role:x\n  /a: role:x\n  POST /a: role:x\n  h.org/a: role:x"), [""; 0]);
    let text = "routes:\n  /a/{x}: public\n  /a/{y}: public";
    let (_, problems) = compile("p.yaml", text, &no_files);
    assert_eq!(problems.as_slice()[0].related[0].span.line, 2, "both lines are named");
}

#[test]
fn a_word_names_only_what_there_is() {
    assert_eq!(with_issuer("routes:\n  /a: issuer:mian"), ["unknown_issuer 2:7 issuer:mian"]);
    assert_eq!(with_issuer("routes:\n  /a: {allow: role:x, issuers: [mian]}"), ["unknown_issuer 2:33 mian"]);
    assert_eq!(with_issuer("routes:\n  /a/{id}: role:x or owner:di"), ["unknown_capture 2:22 owner:di"]);
    assert_eq!(with_issuer("routes:\n  /a/{id}: claim:t={di}"), ["unknown_capture 2:12 claim:t={di}"]);
    assert_eq!(
        with_issuer("guards: {'/a/{x}': owner:id}\nroutes: {'/a/{id}': owner:id}"),
        ["unknown_capture 1:20 owner:id"],
        "a guard compares with its own captures"
    );
    assert_eq!(with_issuer("routes:\n  /a: key:x"), ["no_api_keys 2:7 key:x"]);
    let (_, problems) = compile("p", "routes:\n  /a/{tenant}: owner:tenannt", &no_files);
    assert!(problems.as_slice().iter().any(|p| p.cure.as_deref() == Some("did you mean `tenant`?")), "{problems}");
}

#[test]
fn a_network_needs_a_gateway_that_is_believed() {
    let route = "routes: {/a: 'network:10.0.0.0/8'}";
    assert_eq!(with_issuer(route), ["address_not_believed 1:15 network:10.0.0.0/8"]);
    assert_eq!(with_issuer(&format!("gateways: {{e: {{by: unix}}}}\n{route}")).len(), 1);
    let told = "gateways: {e: {by: unix, client_address: {from: connection}}}\nroutes: {/a: role:x}";
    assert_eq!(with_issuer(told), ["~address_unread 1:49 connection"]);
    assert_eq!(with_issuer(&format!("gateways: {{e: {{by: unix, believes: [client_address]}}}}\n{route}")), [""; 0]);
    let row =
        "routes: {/a: public, /b: role:x}\ntests:\n  - {as: anonymous, ask: GET /a, expect: allow, from: 10.0.0.1}";
    assert_eq!(with_issuer(row), ["address_not_believed 3:55 10.0.0.1"]);
    let forbid = "deny: {outside: 'not network:10.0.0.0/8'}\nroutes: {/a: role:x}";
    assert_eq!(with_issuer(forbid), ["address_not_believed 1:22 network:10.0.0.0/8"]);
}

#[test]
fn what_is_about_a_request_stays_out_of_what_is_about_a_token() {
    let route = "routes: {/a: role:x}\n";
    let word = |section: &str, word: &str| with_issuer(&format!("{route}{section}: {{x: '{word}'}}"));
    for (bad, section) in [("network:10.0.0.0/8", "roles"), ("owner:id", "roles"), ("owner:id", "deny")] {
        let column = section.len() + 8;
        assert_eq!(word(section, bad), [format!("word_not_here 2:{column} {bad}")]);
    }
    assert_eq!(word("roles", "claim:t={id}"), ["word_not_here 2:13 claim:t={id}"]);
    for section in ["roles", "deny"] {
        for open in ["public", "anyone"] {
            let column = section.len() + 7;
            assert_eq!(word(section, open), [format!("word_not_here 2:{column} '{open}'")]);
        }
    }
    assert_eq!(with_issuer(&format!("{route}guards: {{/a: anyone}}")), ["word_not_here 2:14 anyone"]);
    let require = |rule: &str| {
        let text = format!(
            "issuers:\n  m: {{url: https://m.org, audience: a, default: true, may_grant: any, require: '{rule}'}}\n  \
             o: {{url: https://o.org, audience: a, default: true, may_grant: any}}\nroutes: {{/a: signed-in}}"
        );
        problems(&text)
    };
    assert_eq!(require("claim:x=y"), [""; 0]);
    assert_eq!(require("issuer:o"), ["word_not_here 2:81 issuer:o"]);
    assert_eq!(require("network:10.0.0.0/8"), ["word_not_here 2:81 network:10.0.0.0/8"]);
    assert_eq!(require("public"), ["word_not_here 2:80 'public'"]);
}

#[test]
fn a_public_route_is_under_no_guard_that_needs_an_identity() {
    let guarded = |route: &str| {
        let gateway = "gateways: {e: {by: unix, believes: [client_address]}}";
        with_issuer(&format!("{gateway}\nguards:\n  /admin/**: role:x\n  /net: network:10.0.0.0/8\nroutes:\n  {route}"))
    };
    assert_eq!(guarded("GET /Admin/health: public"), ["public_under_guard 6:3 GET /Admin/health"]);
    assert_eq!(guarded("/**: public"), ["public_under_guard 6:3 /**"]);
    assert_eq!(guarded("{/admin/health: anyone, /net: public, /x: role:x}"), [""; 0]);
    assert_eq!(guarded("{/net: public, /x: role:x}"), ["~guard_idle 3:3 /admin/**"]);
    let forbid = "deny: {suspended: claim:suspended=true}\nroutes: {/a: public, /b: role:x}";
    assert_eq!(with_issuer(forbid), [""; 0], "a forbid does not hold where no token is read");
    let text = "guards: {/a: claim:x=y}\nroutes: {/a: public}";
    let (_, problems) = compile("p.yaml", text, &no_files);
    assert_eq!(problems.as_slice()[0].related[0].span.line, 1, "both lines are named");
}

#[test]
fn roles_stand_after_those_that_they_are_made_of() {
    let text = "roles: {a: role:b and role:own, b: role:c or group:g, c: claim:x=y}\nroutes: {/a: role:a}";
    assert_eq!(with_issuer(text), [""; 0]);
    let head = "issuers: {m: {url: https://m.org, audience: a, roles: r, groups: g}}\n";
    let (compiled, _) = compile("p", &format!("{head}{text}"), &no_files);
    let issuers = compiled.unwrap().policy.issuers.clone();
    let names: Vec<&str> = issuers[0].derived.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["c", "b", "a"]);
}

#[test]
fn a_role_is_not_made_of_itself() {
    assert_eq!(with_issuer("roles:\n  a: role:a\nroutes: {/a: role:a}"), ["role_cycle 2:3 a"]);
    let text =
        "roles:\n  top: role:a\n  a: role:b\n  b: role:c\n  c: role:a or role:ok\n  ok: group:x\nroutes: {/: role:a}";
    assert_eq!(with_issuer(text), ["role_cycle 3:3 a"]);
    let (_, problems) = compile("p", text, &no_files);
    let cycle = problems.as_slice().iter().find(|problem| problem.code == "role_cycle").unwrap();
    assert!(cycle.message.starts_with("`a` needs `b` needs `c` needs `a`"), "{}", cycle.message);
    let chain: String = (0..900).map(|at| format!("  r{at}: role:r{}\n", at + 1)).collect();
    assert_eq!(with_issuer(&format!("roles:\n{chain}routes: {{/: role:r0}}")), [""; 0], "a long chain is no circle");
}

#[test]
fn each_route_accepts_some_issuer() {
    assert_eq!(problems("routes:\n  /a: role:x\n  /b: public"), ["no_issuer 2:7 role:x"]);
    let two = |route: &str| {
        problems(&format!(
            "issuers:\n  a: {{url: https://a.org, audience: x, may_grant: any}}\n  \
             b: {{url: https://b.org, audience: x, may_grant: any}}\nroutes:\n{route}"
        ))
    };
    let told = ["no_issuer 5:7 signed-in"];
    assert_eq!(two("  /a: signed-in\n  /b: anyone\n  /c: {allow: signed-in, issuers: [a, b]}"), told, "once");
    assert_eq!(two("  /c: {allow: signed-in, issuers: [a]}"), ["~issuer_unused 3:3 b"]);
    let unread = "routes:\n  /c: {allow: public, issuers: [main]}\n  /d: signed-in";
    assert_eq!(with_issuer(unread), ["~issuers_unread 2:33 main"]);
    let elsewhere = "  /c: {allow: 'issuer:b', issuers: [a]}\n  /d: {allow: signed-in, issuers: [b]}";
    assert_eq!(two(elsewhere), ["~issuer_not_accepted 5:16 issuer:b"]);
}

#[test]
fn two_issuers_say_what_each_may_grant() {
    let text = "issuers:\n  a: {url: https://a.org, audience: x, default: true}\n  \
                b: {url: https://b.org, audience: x, may_grant: any, default: true}\nroutes: {/a: signed-in}";
    assert_eq!(problems(text), ["missing_key 2:3 a"]);
    let same = text.replace("b.org", "a.org").replace("x, def", "x, may_grant: any, def");
    assert_eq!(problems(&same), ["issuer_twice 3:12 https://a.org"]);
}

#[test]
fn an_issuer_of_the_whole_world_needs_require() {
    for (url, own) in [
        ("https://token.actions.githubusercontent.com", "repository_owner"),
        ("https://accounts.google.com", "hd"),
        ("https://login.microsoftonline.com/common/v2.0", "tid"),
        ("https://login.microsoftonline.com/organizations/v2.0", "tid"),
        ("https://login.microsoftonline.com/consumers/v2.0", "tid"),
        ("https://gitlab.com", "namespace_path"),
        ("https://kubernetes.default.svc", "/kubernetes.io/namespace"),
        ("https://kubernetes.default.svc.cluster.local", "sub"),
        ("https://container.googleapis.com/v1/projects/p/locations/l/clusters/c", "sub"),
        ("https://oidc.eks.eu-west-1.amazonaws.com/id/ABC", "sub"),
    ] {
        let text =
            |require: &str| format!("issuers:\n  w: {{url: '{url}', audience: a{require}}}\nroutes: {{/a: signed-in}}");
        assert_eq!(problems(&text("")), ["missing_key 2:3 w"], "{url}");
        assert_eq!(problems(&text(&format!(", require: claim:{own}=acme"))), [""; 0], "{url}");
        let open = problems(&text(", require: claim:o=acme"));
        assert!(open.len() == 1 && open[0].starts_with("require_too_open 2:"), "{url}: {open:?}");
    }
    let own = "issuers: {t: {url: https://login.microsoftonline.com/8f7d/v2.0, audience: a}}\nroutes: {/a: signed-in}";
    assert_eq!(problems(own), [""; 0]);
}

#[test]
fn a_subject_is_told_from_another_issuers() {
    let owner = "routes: {'/a/{id}': owner:id}";
    assert_eq!(with_two(owner), ["subject_ambiguous 1:21 owner:id"]);
    assert_eq!(with_two("routes:\n  /a/{id}: claim:sub={id}"), ["~subject_ambiguous 2:12 claim:sub={id}"]);
    assert_eq!(
        with_two("guards: {'/a/{id}': owner:id}\nroutes: {/**: signed-in}")[0],
        "subject_ambiguous 1:21 owner:id"
    );
    let narrow = "routes: {'/a/{id}': {allow: owner:id, issuers: [a]}, /b: signed-in}";
    assert_eq!(with_two(narrow), [""; 0]);
    assert_eq!(with_two("headers: {X-Id: sub}\nroutes: {/a: signed-in}"), ["subject_ambiguous 1:17 sub"]);
    assert_eq!(with_two("headers: {X-Id: claim:sub}\nroutes: {/a: signed-in}"), ["subject_ambiguous 1:17 claim:sub"]);
    assert_eq!(with_two("metadata: {id: sub}\nroutes: {/a: signed-in}"), ["subject_ambiguous 1:16 sub"]);
    assert_eq!(with_two("headers: {X-Id: principal}\nroutes: {/a: signed-in}"), [""; 0]);
    let prefixed = |a: &str, b: &str| {
        let issuer = |name: &str, prefix: &str| {
            format!("  {name}: {{url: https://{name}.org, audience: x, default: true, may_grant: any{prefix}}}\n")
        };
        problems(&format!("issuers:\n{}{}headers: {{X-Id: sub}}\n{owner}", issuer("a", a), issuer("b", b)))
    };
    assert_eq!(prefixed(", subject_prefix: 'a:'", ""), [""; 0]);
    assert_eq!(prefixed(", subject_prefix: 'a:'", ", subject_prefix: 'b:'"), [""; 0]);
    assert_eq!(
        prefixed(", subject_prefix: 'a'", ", subject_prefix: 'ab'"),
        ["subject_prefix_clash 3:87 'ab'"],
        "the subject bx of a is the subject x of b"
    );
    assert_eq!(prefixed(", subject_prefix: 'a'", ", subject_prefix: 'a'"), ["subject_prefix_clash 3:87 'a'"]);
}

#[test]
fn an_issuer_says_whom_its_tokens_are_for_and_how_they_come() {
    let issuer = |fields: &str| problems(&format!("issuers:\n  m: {{{fields}}}\nroutes: {{/a: signed-in}}"));
    assert_eq!(issuer("url: https://m.org"), ["missing_key 2:3 m"]);
    assert_eq!(issuer("url: https://m.org, audience: a, from: ['cookie:s']"), ["missing_key 2:47 'cookie:s'"]);
    assert_eq!(issuer("url: http://m.org, audience: a"), ["not_https 2:12 http://m.org"]);
    assert_eq!(issuer("url: http://m.org, audience: a, allow_http: true"), ["not_https 2:12 http://m.org"]);
    assert_eq!(issuer("url: 'http://127.0.0.1:8080', audience: a, allow_http: true"), ["~issuer_http 2:3 m"]);
    assert_eq!(issuer("url: https://m.org, audience: a, algorithms: [HS256]"), ["shared_secret 2:53 HS256"]);
    assert_eq!(issuer("url: https://m.org, audience: a, algorithms: [none]"), ["unsigned_algorithm 2:53 none"]);
    assert_eq!(issuer("url: https://m.org, audience: a, algorithms: [ES255]"), ["unknown_value 2:53 ES255"]);
    assert_eq!(issuer("url: https://m.org, audience: a, algorithms: [ES512]"), [""; 0]);
    assert_eq!(issuer("url: https://m.org, audience: a, roles: a..b"), ["bad_claim_path 2:47 a..b"]);
    assert_eq!(issuer("url: https://m.org, audience: a, refresh: 0s"), ["out_of_range 2:3 m"]);
    assert_eq!(issuer("url: https://m.org, audience: a, max_stale: 1s"), ["out_of_range 2:3 m"]);
}

#[test]
fn keys_in_files_are_read_and_what_is_wrong_with_them_is_told() {
    use crate::dev::mint::SigningKey;
    let key = SigningKey::shared(crate::authz::algorithm::Algorithm::Es256);
    let good = serde_json::json!({"keys": [key.public_jwk(Some("k1"))]}).to_string();
    let mixed = serde_json::json!({"keys": [{"kty": "oct", "kid": "s", "k": "AAAA"}, key.public_jwk(Some("k1"))]});
    let files = [
        ("good.json", good),
        ("mixed.json", mixed.to_string()),
        ("none.json", r#"{"keys": [{"kty": "oct", "k": "AAAA"}]}"#.to_owned()),
        ("text.json", "keys".to_owned()),
        ("good.pem", key.public_pem()),
        ("bad.pem", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_owned()),
    ];
    let read = |name: &str| {
        let found = files.iter().find(|(file, _)| *file == name).map(|(_, text)| text.clone().into_bytes());
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    let with = |keys: &str| {
        let text = format!("issuers:\n  m: {{issuer: i, {keys}, audience: a}}\nroutes: {{/a: signed-in}}");
        let (compiled, problems) = compile("p.yaml", &text, &read);
        (compiled, shown(&problems, &text, 0))
    };
    for keys in ["jwks: 'file:good.json'", "pem: good.pem", "pem: 'file:good.pem'"] {
        let (compiled, problems) = with(keys);
        let compiled = compiled.unwrap();
        assert_eq!(problems, [""; 0]);
        assert_eq!((compiled.fixed["m"].keys.len(), compiled.feeds.len()), (1, 0));
        assert!(!compiled.policy.issuers[0].fed);
        assert_eq!(compiled.files.len(), 2, "the key file is to be watched, too");
    }
    let (compiled, problems) = with("jwks: 'file:mixed.json'");
    assert_eq!(problems, ["~key_refused 2:24 'file:mixed.json'"]);
    assert!(compiled.unwrap().warnings.as_slice()[0].message.starts_with("key 1 (`s`) of this set is not used"));
    let none = ["~key_refused 2:24 'file:none.json'", "no_usable_key 2:24 'file:none.json'"];
    assert_eq!(with("jwks: 'file:none.json'").1, none);
    assert_eq!(with("jwks: 'file:text.json'").1, ["bad_keys 2:24 'file:text.json'"]);
    assert_eq!(with("jwks: 'file:gone.json'").1, ["file_unreadable 2:24 'file:gone.json'"]);
    assert_eq!(with("pem: bad.pem").1, ["bad_keys 2:23 bad.pem"]);
    assert_eq!(with("pem: good.pem, jwks: 'file:good.json'").1, ["keys_twice 2:23 good.pem"]);
    let (one, other) = (with("jwks: 'file:good.json'").0.unwrap(), with("jwks: 'file:mixed.json'").0.unwrap());
    assert_ne!(one.policy.id, other.policy.id);
}

#[test]
fn a_grant_names_who_there_can_be_and_a_role_that_somebody_asks_for() {
    let with = |principal: &str, role: &str| {
        let text = format!(
            "issuers:\n  m: {{url: https://m.org, audience: a, roles: r, default: true, may_grant: any}}\n  \
             p: {{url: https://p.org, audience: a, default: true, may_grant: [], subject_prefix: 'p:'}}\n\
             routes: {{/a: role:admin}}\ngrants:\n  - {{principal: {principal}, role: {role}, until: 2027-01-01T00:00:00Z}}"
        );
        problems(&text)
    };
    assert_eq!(with("m/u1", "admin"), [""; 0]);
    assert_eq!(with("m/a/b", "admin"), [""; 0]);
    assert_eq!(with("p/p:u1", "admin"), [""; 0]);
    assert_eq!(with("n/u1", "admin"), ["unknown_issuer 6:17 n/u1"]);
    assert_eq!(with("u1", "admin"), ["unknown_issuer 6:17 u1"]);
    assert_eq!(with("m/", "admin"), ["missing_value 6:17 m/"]);
    assert_eq!(with("p/u1", "admin"), ["unknown_principal 6:17 p/u1"]);
    assert_eq!(with("m/u1", "admni"), ["~role_unasked 6:29 admni"]);
    let twice = "grants:\n  - {principal: main/u, role: x, until: 2027-01-01T00:00:00Z}\n  - {principal: main/u, role: x, until: 2028-01-01T00:00:00Z}\nroutes: {/a: role:x}";
    assert_eq!(with_issuer(twice), ["grant_twice 3:5 {principal: main/u, role: x, until: 2028-01-01T00:00:00Z}"]);
    let text = "issuers: {m: {url: https://m.org, audience: a, roles: r}}\nroutes: {/a: role:x}\ngrants: [{principal: m/u, role: x, until: 2027-01-01T00:00:00Z}]";
    let warned = |at: &str| {
        let compiled =
            compile("p", text, &no_files).0.unwrap().warned_at(crate::authz::time::Timestamp::parse(at).unwrap());
        compiled.warnings.as_slice().iter().map(|problem| problem.code).collect::<Vec<_>>()
    };
    assert_eq!(warned("2026-12-31T23:59:59Z"), [""; 0]);
    assert_eq!(warned("2027-01-01T00:00:00Z"), ["grant_ended"]);
}

#[test]
fn what_a_route_denies_or_narrows_makes_sense_there() {
    assert_eq!(with_issuer("routes: {/a: {allow: signed-in, deny: claim:x=y, audience: [b, c]}}"), [""; 0]);
    assert_eq!(with_issuer("routes: {'/a/{t}': {allow: signed-in, deny: 'not claim:t={t}'}}"), [""; 0]);
    assert_eq!(with_issuer("routes: {/a: {allow: role:x, deny: public}}"), ["word_not_here 1:36 public"]);
    assert_eq!(with_issuer("routes: {/a: {allow: role:x, deny: 'claim:t={t}'}}"), ["unknown_capture 1:37 claim:t={t}"]);
    assert_eq!(with_issuer("routes: {/a: {allow: role:x, deny: }}").len(), 1);
    assert_eq!(
        with_issuer("routes: {/a: {allow: public, deny: claim:x=y}, /b: role:x}"),
        ["public_under_guard 1:36 claim:x=y"]
    );
    assert_eq!(with_issuer("routes: {/a: {allow: public, audience: b}, /b: role:x}"), ["~audience_unread 1:40 b"]);
}

#[test] // J26
fn shared_secrets_are_read_where_they_are_and_refused_where_they_are_weak() {
    let mut bytes = [0; 64];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    let read = |name: &str| match name {
        "raw" => Ok(bytes[..32].iter().map(|byte| byte | 0x80).collect()),
        "hex" => Ok(format!("{hex}\n").into_bytes()),
        "short" => Ok(hex.bytes().take(31).collect()),
        "words" => Ok(b"correct horse battery staple again\n".to_vec()),
        "pem" => {
            Ok(crate::dev::mint::SigningKey::shared(crate::authz::algorithm::Algorithm::Es256).public_pem().into())
        }
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let with = |secret: &str| {
        let text = format!("issuers:\n  m: {{issuer: i, secret: {secret}, audience: a}}\nroutes: {{/a: signed-in}}");
        let (compiled, problems) = compile("p.yaml", &text, &read);
        let told = problems.as_slice().iter().map(|p| p.to_string()).collect::<String>();
        assert!(!told.contains("horse") && !told.contains(hex.get(..8).unwrap()) && !told.contains("BEGIN"), "{told}");
        (compiled, shown(&problems, &text, 0))
    };
    for secret in ["file:raw", "file:hex", "{from: file:hex, encoding: hex, kid: a}", "[file:raw, file:hex]"] {
        let (compiled, problems) = with(secret);
        assert_eq!(problems, [""; 0], "{secret}");
        let compiled = compiled.unwrap();
        let issuer = &compiled.policy.issuers[0];
        assert!(!issuer.fed && compiled.feeds.is_empty() && !compiled.fixed["m"].keys.is_empty());
        assert_eq!(issuer.tokens.algorithms.iter().map(|alg| alg.name()).collect::<Vec<_>>(), ["HS256"]);
        assert!(compiled.files.len() > 1, "the file is to be watched, too");
    }
    assert_eq!(with("file:short").1, ["weak_secret 2:26 file:short"]);
    assert_eq!(with("[file:raw, file:words]").1, ["weak_secret 2:37 file:words"]);
    assert_eq!(with("file:pem").1, ["weak_secret 2:26 file:pem"]);
    assert_eq!(with("file:gone").1, ["secret_missing 2:26 file:gone"]);
    assert_eq!(with("env:PORTCULLIS_NO_SUCH_SECRET").1, ["secret_missing 2:26 env:PORTCULLIS_NO_SUCH_SECRET"]);
    assert_eq!(with("{from: file:raw, encoding: hex}").1, ["secret_malformed 2:33 file:raw"]);
    assert_eq!(with("{from: file:words, encoding: base64}").1, ["secret_malformed 2:33 file:words"]);
    // Of a secret nothing is in what the policy is named by.
    let text = "issuers: {m: {issuer: i, secret: file:x, audience: a}}\nroutes: {/a: signed-in}";
    let id = |secret: &[u8]| compile("p", text, &|_| Ok(secret.to_vec())).0.unwrap().policy.id;
    assert_eq!(id(&bytes), id(hex.as_bytes()));
}

#[test]
fn an_issuer_counts_as_changed_with_what_makes_it_and_not_with_its_neighbours_routes() {
    let digest = |issuer: &str, rest: &str| {
        let text = format!("issuers: {{m: {{issuer: i, audience: a, roles: r, {issuer}}}}}\n{rest}");
        compile("p", &text, &no_files).0.unwrap().policy.issuers[0].digest
    };
    let base = digest("url: https://m.org", "routes: {/a: signed-in}");
    assert_eq!(base, digest("url: https://m.org", "routes: {/b: role:x}"));
    assert_ne!(base, digest("url: https://n.org", "routes: {/a: signed-in}"), "keys come from elsewhere");
    assert_ne!(base, digest("jwks: https://m.org", "routes: {/a: signed-in}"));
    assert_ne!(base, digest("url: https://m.org, leeway: 5s", "routes: {/a: signed-in}"));
    assert_ne!(base, digest("url: https://m.org", "roles: {x: claim:a=b}\nroutes: {/a: role:x}"));
    assert_ne!(base, digest("url: https://m.org", "cache: {tokens: 1MiB}\nroutes: {/a: signed-in}"));
}

#[test]
fn headers_and_pages_are_what_they_seem() {
    let route = "routes: {/a: signed-in}\n";
    let top = |text: &str| with_issuer(&format!("{route}{text}"));
    assert_eq!(top("headers: {X-A: a..b}"), ["bad_claim_path 2:16 a..b"]);
    assert_eq!(top("headers: {X-A: sub}\nheaders_kept: [x_a]"), ["header_alias 3:16 x_a"]);
    assert_eq!(top("sign_in: 'https://l.org/?r={url}'"), ["missing_key 2:10 'https://l.org/?r={url}'"]);
    assert_eq!(top("sign_in: /login"), ["bad_url 2:10 /login"]);
    assert_eq!(top("sign_in: 'https://l.org/?r={url}&s={url}'\npublic_url: https://a.org").len(), 1);
    for url in ["a.org", "https://a.org/x", "https://a.org/?q", "https://a.org/#f", "https://u:p@a.org"] {
        assert_eq!(top(&format!("public_url: '{url}'")).len(), 1, "{url}");
    }
    assert_eq!(top("sign_in: 'https://l.org/?r={url}'\npublic_url: https://a.org"), [""; 0]);
}

#[test]
fn six_points_of_a_path_may_be_relaxed_and_dots_never() {
    let paths = "[encoded_slash, semicolon, empty_segment, backslash, double_encoding, case_variant]";
    let text = format!("routes: {{/a: public}}\npaths: {paths}");
    let relaxed = compile("p", &text, &no_files).0.unwrap().policy.relaxed;
    assert!(relaxed.encoded_slash && relaxed.semicolon && relaxed.empty_segment);
    assert!(relaxed.backslash && relaxed.double_encoding && relaxed.case_variant);
    assert_eq!(problems("routes: {/a: public}\npaths: [dot_segment]"), ["dot_segment 2:9 dot_segment"]);
    assert_eq!(problems("routes: {/a: public}\npaths: [semicolons]"), ["unknown_value 2:9 semicolons"]);
}

#[test]
fn what_is_never_used_or_never_holds_is_warned_of() {
    assert_eq!(with_issuer("roles: {a: claim:x=y}\nroutes: {/a: signed-in}"), ["~role_unused 1:9 a"]);
    assert_eq!(with_issuer("roles: {a: claim:x=y}\nheaders: {X-R: roles}\nroutes: {/a: signed-in}"), [""; 0]);
    assert_eq!(with_issuer("routes: {/a: public}"), ["~issuer_unused 0:11 main"]);
    assert_eq!(with_issuer("routes:\n  /a: not claim:gone=true"), ["~holds_by_absence 2:11 claim:gone=true"]);
    assert_eq!(with_issuer("routes: {/a: {not: {any: [role:x, 'claim:y?']}}}"), ["~holds_by_absence 1:36 claim:y?"]);
    assert_eq!(with_issuer("routes: {/a: not not claim:y=z}\ndeny: {d: not claim:y=z}"), [""; 0]);
    let bare = "issuers: {m: {url: https://m.org, audience: a}}\n";
    assert_eq!(problems(&format!("{bare}routes: {{/a: role:x}}")), ["~role_unmapped 2:14 role:x"]);
    assert_eq!(problems(&format!("{bare}routes: {{/a: group:x}}")), ["~group_unmapped 2:14 group:x"]);
    assert_eq!(problems(&format!("{bare}roles: {{x: claim:y=z}}\nroutes: {{/a: role:x}}")), [""; 0]);
}

#[test]
fn a_decision_key_is_long_and_may_be_missing_where_a_policy_is_only_checked() {
    let text = "routes: {/a: public}\ndecision_key: file:key";
    let with = |key: Option<&str>| {
        compile("p", text, &|_| key.map(|key| key.as_bytes().to_vec()).ok_or(io::ErrorKind::NotFound.into()))
    };
    let (compiled, problems) = with(None);
    assert_eq!(shown(&problems, text, 0), ["~key_missing 2:15 file:key"]);
    assert_eq!(compiled.unwrap().settings.decision_key, None);
    assert_eq!(shown(&with(Some("short\n")).1, text, 0), ["weak_key 2:15 file:key"]);
    let key = with(Some("0123456789abcdef\n")).0.unwrap().settings.decision_key;
    assert_eq!(key, Some(Secret(b"0123456789abcdef".to_vec())));
    assert_eq!(format!("{key:?}"), "Some(Secret(..))", "S01");
}

#[test]
fn too_much_of_anything_is_told_once() {
    let guards: String = (0..1_001).map(|at| format!("  /g{at}: signed-in\n")).collect();
    assert_eq!(with_issuer(&format!("routes: {{/a: signed-in}}\nguards:\n{guards}")), ["too_many 3:3 /g0"]);
    let routes: String = (0..10_000).map(|at| format!("  /a{at}/{{x}}: owner:y and role:*\n")).collect();
    let (_, problems) = compile("p", &format!("routes:\n{routes}"), &no_files);
    assert_eq!(problems.as_slice().len(), 100);
}

#[test]
fn files_are_found_beside_the_policy() {
    let folder = std::env::temp_dir().join(format!("portcullis-compile-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let key = crate::dev::mint::SigningKey::shared(crate::authz::algorithm::Algorithm::Es256);
    std::fs::write(folder.join("key.pem"), key.public_pem()).unwrap();
    let policy = folder.join("p.yaml");
    let text = "issuers: {m: {issuer: i, pem: key.pem, audience: a}}\nroutes: {/a: signed-in}\naudit: file:audit.log";
    std::fs::write(&policy, text).unwrap();
    let compiled = load(&policy).unwrap();
    assert_eq!(compiled.files, [policy.clone(), folder.join("key.pem")]);
    assert_eq!(compiled.settings.audit, Audit::File(folder.join("audit.log")));
    std::fs::write(&policy, [0xff, 0xfe]).unwrap();
    assert_eq!(load(&policy).unwrap_err().as_slice()[0].code, "not_utf8");
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(load(&policy).unwrap_err().as_slice()[0].code, "file_unreadable");
}

#[test]
fn services_are_named_once_and_asked_for_where_a_gateway_tells_them() {
    let told = |lines: &str| {
        let text = format!("issuers: {{m: {{url: https://m.org, audience: x}}}}\n{lines}\n");
        let (_, problems) = super::compile("p.yaml", &text, &|_| Err(std::io::ErrorKind::NotFound.into()));
        problems.as_slice().iter().map(|problem| problem.code).collect::<Vec<_>>()
    };
    let mesh = "gateways: {g: {by: unix, believes: [certificate]}}\nservices: {a: spiffe://td/a, b: spiffe://td/b}";
    let none = [""; 0];
    assert_eq!(told(&format!("{mesh}\nroutes: {{/a: service:a and role:r}}\nroles: {{r: service:b}}")), none);
    assert_eq!(told(&format!("{mesh}\nroutes: {{/a: service:c}}")), ["unknown_service"]);
    let role = |rule: &str| told(&format!("{mesh}\nroutes: {{/a: role:r}}\nroles: {{r: {rule}}}"));
    assert_eq!(role("signed-in and not service:b"), ["word_not_here"]);
    assert_eq!(role("{not: {any: [service:b, 'issuer:m']}}"), ["word_not_here"]);
    assert_eq!(role("not (issuer:m and not service:b)"), none);
    let unbelieved = "gateways: {g: {by: unix}}\nservices: {a: spiffe://td/a}\nroutes: {/a: service:a}";
    assert_eq!(told(unbelieved), ["certificate_not_believed"]);
    let twice = "services: {a: spiffe://td/a, b: [spiffe://td/b, spiffe://td/a]}\nroutes: {/a: signed-in}";
    assert_eq!(told(twice), ["service_clash"]);
    let text =
        "issuers: {services: {url: https://m.org, audience: x}}\nservices: {a: spiffe://td/a}\nroutes: {/a: signed-in}";
    let (_, problems) = super::compile("p.yaml", text, &|_| Err(std::io::ErrorKind::NotFound.into()));
    assert_eq!(problems.as_slice()[0].code, "reserved_name");
    let require = "issuers: {m: {url: https://m.org, audience: x, require: service:a}}";
    let (_, problems) = super::compile("p.yaml", &format!("{require}\n{mesh}\nroutes: {{/a: signed-in}}"), &|_| {
        Err(std::io::ErrorKind::NotFound.into())
    });
    assert_eq!(problems.as_slice()[0].code, "word_not_here");
}

#[test]
fn a_gateways_token_has_to_be_there_and_long_enough() {
    let told = |content: Option<&'static str>| {
        let text = "gateways: {g: {by: 'token:file:t'}}\nroutes: {/a: public}";
        let read = |_: &str| content.map(|text| text.as_bytes().to_vec()).ok_or(std::io::ErrorKind::NotFound.into());
        let (compiled, problems) = super::compile("p.yaml", text, &read);
        assert!(!problems.to_string().contains("0123"), "no message shows a token");
        (compiled.is_some(), problems.as_slice().iter().map(|problem| problem.code).collect::<Vec<_>>())
    };
    assert_eq!(told(Some("0123456789abcdef0123456789abcdef\n")), (true, vec![]));
    assert_eq!(told(Some("0123456789abcdef0123456789abcde\n")), (false, vec!["weak_token"]));
    assert_eq!(told(Some("0123456789abcdef 0123456789abcdef")), (false, vec!["weak_token"]));
    assert_eq!(told(Some("\n")), (false, vec!["token_missing"]));
    assert_eq!(told(None), (false, vec!["token_missing"]));
}

#[test]
fn a_header_that_a_gateway_sets_is_not_ours_as_well() {
    let told = |lines: &str| {
        let gateways = "gateways: {g: {by: unix, believes: ['header:X-FG-User']}}";
        let text = format!(
            "issuers: {{m: {{url: https://m.org, audience: x}}}}\n{gateways}\n{lines}\nroutes: {{/a: signed-in}}"
        );
        let (_, problems) = super::compile("p.yaml", &text, &|_| Err(std::io::ErrorKind::NotFound.into()));
        problems.as_slice().iter().map(|problem| problem.code).collect::<Vec<_>>()
    };
    assert_eq!(told(""), [""; 0]);
    assert_eq!(told("headers: {x_fg_user: sub}"), ["header_lent_twice"]);
    assert_eq!(told("headers_kept: [X-FG-User]"), ["header_lent_twice"]);
}

#[test]
fn a_route_reads_tokens_only_where_its_issuers_have_them() {
    assert_eq!(with_issuer("routes:\n  /a: {allow: role:x, credential: {from: bearer}}"), [""; 0]);
    assert_eq!(
        with_issuer("routes:\n  /a: {allow: role:x, credential: {from: [bearer, 'query:t']}}"),
        ["credential_nowhere 2:51 'query:t'"]
    );
    assert_eq!(
        with_issuer("routes:\n  /a: {allow: public, credential: {from: bearer, then: strip}}"),
        ["~issuer_unused 0:11 main", "~credential_unread 2:42 bearer"]
    );
    assert_eq!(with_issuer("routes:\n  /a: {allow: public, credential: strip}\n  /b: role:x"), [""; 0]);
}

#[test]
fn a_host_of_cors_is_a_host_and_there_once() {
    let hosts = |hosts: &str| {
        let one = |host: &str| format!("  '{host}': {{origins: https://app.example.com}}\n");
        let hosts: String = hosts.split(' ').map(|host| format!("  {}", one(host))).collect();
        with_issuer(&format!("cors:\n  hosts:\n{hosts}routes: {{/a: role:x}}\n"))
    };
    assert_eq!(hosts("api.example.com *.example.com {x}.example.com"), [""; 0]);
    assert_eq!(hosts("api.example.com API.example.com"), ["host_twice 4:5 'API.example.com'"]);
    assert_eq!(hosts("{x}.example.com {y}.example.com"), ["host_twice 4:5 '{y}.example.com'"]);
    for bad in ["api.example.com:8443", "*", "a..b", "api.example.com/x"] {
        assert_eq!(hosts(bad), [format!("bad_pattern 3:5 '{bad}'")], "{bad}");
    }
}

#[test]
fn a_sign_in_is_asked_for_where_somebody_signs_in() {
    let route = |long: &str| with_issuer(&format!("routes:\n  /a: {{{long}}}"));
    assert_eq!(route("allow: role:x, max_age: 10m, acr: [urn:mfa, phr]"), [""; 0]);
    assert_eq!(route("allow: {any: [role:x]}, acr: phr"), [""; 0]);
    assert_eq!(route("allow: public, max_age: 10m"), ["step_up_unread 2:32 10m"]);
    assert_eq!(route("allow: anyone, acr: phr"), ["step_up_unread 2:28 phr"]);
    assert_eq!(route("allow: role:x, max_age: 10"), ["bad_duration 2:32 10"]);
    assert_eq!(route("allow: role:x, max_age: 500ms"), ["out_of_range 2:32 500ms"]);
    assert_eq!(route("allow: role:x, max_age: 0s"), ["out_of_range 2:32 0s"]);
    assert_eq!(route("allow: role:x, max_age: 366d"), ["out_of_range 2:32 366d"]);
    assert_eq!(route("allow: role:x, acr: []"), ["missing_value 2:28 []"]);
    assert_eq!(route("allow: role:x, acr: ['a b']"), ["bad_value 2:29 'a b'"]);
}

fn with_mint(mint: &str, rest: &str) -> Vec<String> {
    with_issuer(&format!("gateways: {{e: {{by: unix}}}}\nmint: {{{mint}}}\n{rest}"))
}

#[test]
fn what_is_minted_is_minted_for_somebody_by_a_gateway_that_is_known() {
    let base = "issuer: https://edge.test, keys: file:none.pem";
    let routes = "routes: {/a: role:x}";
    let of = |more: &str| with_mint(&format!("{base}, {more}"), routes);
    // The key is not there where a policy is only checked.
    assert_eq!(of("audience: o"), ["~mint_key_missing 2:41 file:none.pem"]);
    assert_eq!(
        with_issuer(&format!("mint: {{{base}, audience: o}}\n{routes}"))[0],
        format!("mint_not_believed 1:7 {{{base}, audience: o}}")
    );
    assert!(with_mint(base, routes)[0].starts_with("missing_key 2:7"));
    let own = "routes: {/a: {allow: role:x, mint: {audience: o}}}";
    assert_eq!(with_mint(base, own), ["~mint_key_missing 2:41 file:none.pem"]);
    assert!(with_issuer(own)[0].starts_with("missing_key 1:47"));
    for (more, found) in [
        ("audience: ''", "missing_value"),
        ("audience: o, lifetime: 5s", "out_of_range"),
        ("audience: o, lifetime: 61s", "out_of_range"),
        ("audience: o, lifetime: 11m", "out_of_range"),
        ("audience: o, rotate: 1d", "rotate_unread"),
        ("audience: o, rotate: 1m", "out_of_range"),
        ("audience: o, header: Host", "header_refused"),
        ("audience: o, algorithm: RS256", "unknown_value"),
        ("audience: o, claims: {sub: principal}", "claim_reserved"),
        ("audience: o, claims: {act: actor}", "claim_reserved"),
        ("audience: o, claims: {a: route}", "source_not_here"),
        ("audience: o, key: x", "refused_key"),
    ] {
        let all = of(more);
        assert!(all.iter().any(|one| one.starts_with(found)), "{more}: {all:?}");
    }
    for (mint, found) in [
        ("issuer: http://edge.test, keys: file:a, audience: o", "not_https"),
        ("issuer: https://edge.test/, keys: file:a, audience: o", "bad_url"),
        ("keys: file:a, audience: o", "missing_key"),
        ("issuer: https://edge.test, audience: o", "missing_key"),
        ("issuer: https://edge.test, keys: secret, audience: o", "bad_value"),
        ("issuer: https://edge.test, keys: [file:a, dir:b], audience: o", "bad_value"),
    ] {
        let all = with_mint(mint, routes);
        assert!(all.iter().any(|one| one.starts_with(found)), "{mint}: {all:?}");
    }
    let clash = with_mint(&format!("{base}, audience: o, header: X_Id"), "headers: {X-Id: sub}\nroutes: {/a: role:x}");
    assert!(clash.iter().any(|one| one.starts_with("header_alias")), "{clash:?}");
}

#[test]
fn a_key_in_a_folder_is_named_by_when_it_begins_to_sign() {
    use super::{begins, name_of};
    let time = crate::authz::time::Timestamp::parse("2027-01-15T08:00:00Z").unwrap();
    assert_eq!(name_of(time), "2027-01-15T08-00-00Z.pem");
    assert_eq!(begins("2027-01-15T08-00-00Z.pem"), Some(time));
    for name in ["2027-01-15.pem", "a.pem", "2027-01-15T08-00-00Z", "2027-13-15T08-00-00Z.pem", ".pem"] {
        assert_eq!(begins(name), None, "{name}");
    }
}
