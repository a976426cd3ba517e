//! Curl lines, and what is told of requests that are allowed, denied at each gate, or not told at all.

use std::io;

use clap::Parser;
use serde_json::json;

use super::*;
use crate::authz::algorithm::Algorithm;
use crate::authz::decision_id::{SealingKey, Told};
use crate::authz::policy::PolicyId;
use crate::config::compile;
use crate::config::compile::Secret;
use crate::dev::mint::SigningKey;

const POLICY: &str = r"
issuers:
  main:
    issuer: https://id.example.com
    jwks: file:keys.json
    audience: shop-api
    roles: roles
    groups: groups
    from: [bearer, cookie:session]
    origins: [https://shop.example.com]
roles:
  premium: claim:tier=gold
headers:
  X-User-ID: sub
  X-User-Roles: roles
metadata:
  user: sub
gateways:
  edge: {by: unix, believes: [client_address], client_address: {from: connection}}
guards:
  /admin/**: network:10.0.0.0/8
deny:
  banned: claim:banned=yes
routes:
  GET /health: public
  /: anyone
  PUT /profile/{id}: owner:id or role:admin
  /admin/**: role:admin
  /staff: group:staff
  /premium: role:premium
  /reports: role:auditor and scope:reports
  /in: signed-in
  /t/{tenant}/**: claim:tenant={tenant}
";
const NOW: i64 = 1_800_000_000;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    explain: Explain,
}

fn key() -> &'static SigningKey {
    SigningKey::shared(Algorithm::Es256)
}

fn compiled(text: &str) -> Compiled {
    let keys = |_: &str| -> io::Result<Vec<u8>> {
        Ok(json!({"keys": [key().public_jwk(Some("k1"))]}).to_string().into_bytes())
    };
    let (compiled, problems) = compile("p.yaml", text, &keys);
    compiled.unwrap_or_else(|| panic!("{}", problems.render(false)))
}

fn try_told(policy: &Compiled, arguments: &[&str]) -> Result<(String, bool), Fault> {
    let now = NOW.to_string();
    let all = ["explain", "--now", &now].into_iter().chain(arguments.iter().copied());
    Cli::try_parse_from(all).unwrap_or_else(|error| panic!("{error}")).explain.told(policy)
}

fn told(arguments: &[&str]) -> String {
    let (text, allowed) = try_told(&compiled(POLICY), arguments).unwrap();
    assert_eq!(allowed, text.contains("ALLOWED"));
    text
}

/// A token of `main`, with these members instead of the usual ones.
fn token(claims: &Value) -> String {
    let mut all = json!({
        "iss": "https://id.example.com", "aud": "shop-api", "sub": "u1", "roles": ["user"],
        "iat": NOW - 60, "exp": NOW + 240,
    });
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    key().token(Some("k1"), &all)
}

fn bearer(claims: &Value) -> String {
    format!("Authorization: Bearer {}", token(claims))
}

fn has(text: &str, parts: &[&str]) {
    // Columns are aligned: only the words between the spaces count.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in parts {
        assert!(words(text).contains(&words(part)), "`{part}` is not in\n{text}");
    }
}

#[test]
fn curl_lines_are_read_as_people_paste_them() {
    let json = "accept: application/json|content-type: application/json";
    let form = "accept: */*|content-type: application/x-www-form-urlencoded";
    for (line, expected) in [
        ("curl https://a.test", "GET a.test /|accept: */*"),
        ("$ curl a.test/x", "GET a.test /x|accept: */*"),
        ("curl -X PUT 'https://a.test:8443/x?y=1&z=2#f'", "PUT a.test:8443 /x?y=1&z=2|accept: */*"),
        ("curl -XDELETE https://a.test/x", "DELETE a.test /x|accept: */*"),
        ("curl --request PATCH --url https://a.test/x", "PATCH a.test /x|accept: */*"),
        ("curl -H 'X-A: b: c' -H \"X-D:e\" a.test", "GET a.test /|x-a: b: c|x-d: e|accept: */*"),
        ("curl -HX-A:b -H 'X-Empty;' -H Accept: a.test", "GET a.test /|x-a: b|x-empty: "),
        ("curl -H 'Host: b.test' a.test", "GET b.test /|accept: */*"),
        ("curl -b 'a=1; b=2' --cookie c=3 a.test", "GET a.test /|accept: */*|cookie: a=1; b=2; c=3"),
        ("curl -d x=1 -d y=2 a.test", &format!("POST a.test /|{form}")),
        ("curl --data-raw '{\"a\":\"it'\\''s\"}' a.test", &format!("POST a.test /|{form}")),
        ("curl --json '{}' -X PUT a.test", &format!("PUT a.test /|{json}")),
        ("curl -G -d x=1 --data-urlencode 'q=a b&c' 'a.test/s?p=0'", "GET a.test /s?p=0&x=1&q=a%20b%26c|accept: */*"),
        ("curl -I a.test", "HEAD a.test /|accept: */*"),
        ("curl -sSkLvi --compressed a.test", "GET a.test /|accept: */*|accept-encoding: deflate, gzip"),
        ("curl -skXPOST -o /dev/null a.test", "POST a.test /|accept: */*"),
        ("curl -so/dev/null -m5 -w '%{http_code}\\n' a.test", "GET a.test /|accept: */*"),
        ("curl -u user:pass a.test", "GET a.test /|authorization: Basic dXNlcjpwYXNz|accept: */*"),
        ("curl http://user:pass@a.test/x", "GET a.test /x|authorization: Basic dXNlcjpwYXNz|accept: */*"),
        (
            "curl --oauth2-bearer t0 -A me -e b.test a.test",
            "GET a.test /|authorization: Bearer t0|user-agent: me|referer: b.test|accept: */*",
        ),
        ("curl -T file a.test/up", "PUT a.test /up|accept: */*"),
        ("curl $'https://a.test/\\u0041\\'' \\\n  -H $'x: \\t1'", "GET a.test /A'|x: 1|accept: */*"),
        ("curl a.test/a/./b/../c?d=..", "GET a.test /a/c?d=..|accept: */*"),
        ("curl --path-as-is a.test/a/../c", "GET a.test /a/../c|accept: */*"),
        ("curl a.test/a/%2e%2e/c", "GET a.test /a/%2e%2e/c|accept: */*"),
        ("curl --request-target /raw a.test/x", "GET a.test /raw|accept: */*"),
        ("curl -- a.test", "GET a.test /|accept: */*"),
    ] {
        let curl = Curl::from_line(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let headers: String = curl.headers.iter().map(|(name, value)| format!("|{name}: {value}")).collect();
        assert_eq!(format!("{} {} {}{headers}", curl.method, curl.host, curl.target), expected, "{line}");
    }
}

#[test]
fn a_curl_line_that_is_not_understood_names_the_flag_and_no_value() {
    for (line, expected) in [
        ("curl --wat=s3cret a.test", "`--wat` is not a flag of curl that explain knows"),
        ("curl -sZs3cret a.test", "`-Z` is not a flag"),
        ("curl -H s3cret a.test", "a header of the curl line has no colon"),
        ("curl -H @s3cret a.test", "`-H` reads a file"),
        ("curl -b s3cret a.test", "`-b` reads a file"),
        ("curl -G -d @s3cret a.test", "`-d` reads a file"),
        ("curl a.test -X", "`-X` needs a value"),
        ("curl -s", "no URL"),
        ("curl a.test s3cret.test", "more than one URL"),
        ("curl ftp://s3cret", "neither http nor https"),
        ("curl https:///s3cret", "no host"),
        ("curl 'a.test", "not closed"),
        ("wget a.test", "begin with `curl`"),
    ] {
        let error = Curl::from_line(line).err().unwrap_or_else(|| panic!("{line}")).to_string();
        assert!(error.contains(expected) && !error.contains("s3cret"), "{line}: {error}");
    }
}

#[test]
fn an_allowed_request_is_told_gate_by_gate_with_the_headers_that_are_set() {
    let text = told(&["--", "curl", "-X", "PUT", "-H", &bearer(&json!({})), "https://shop.example.com/profile/u1?x=1"]);
    has(
        &text,
        &[
            "PUT shop.example.com/profile/u1?x=1",
            "✓ read",
            "✓ route PUT /profile/{id}",
            "{id} u1",
            "✓ identity main/u1, by a bearer token",
            "alg ES256",
            "kid k1",
            "exp expires in 4 min",
            "✓ forbid banned: claim:banned=yes: does not hold",
            "✓ route PUT /profile/{id}: owner:id or role:admin: holds",
            "owner:id hit sub is u1, {id} is u1",
            "role:admin missed the token's roles: user",
            "ALLOWED sets x-user-id: u1",
            r#"sets x-user-roles: ["user"]"#,
            "metadata user: u1",
        ],
    );
}

#[test]
fn a_whole_curl_line_in_quotes_is_read_too() {
    let line = format!(
        "curl -XPUT -b 'session={}' \\\n -H 'Origin: https://shop.example.com' https://a.test/profile/u1",
        token(&json!({}))
    );
    has(&told(&[&line]), &["✓ identity main/u1, by a token in the cookie session", "ALLOWED"]);
    let without = line.replace("Origin", "X-Other");
    has(
        &told(&[&without]),
        &["✗ identity", "fault the request tells neither", "lists https://shop.example.com", "DENIED 403 cross_site"],
    );
}

#[test]
fn a_forged_header_is_told_to_be_replaced_or_removed() {
    let forged = ["-H", "X-User-ID: root", "-H", "X_User_Roles: admin", "-H", "Remote-User: root"];
    let text = told(&[&["--claims", r#"{"sub":"u1"}"#][..], &forged, &["GET", "/in"]].concat());
    has(
        &text,
        &[
            "sets x-user-id: u1 (in place of what the caller sent)",
            "removes x_user_roles, which the caller sent",
            "removes remote-user, which the caller sent",
        ],
    );
    let text = told(&[&forged[..], &["GET", "/health"]].concat());
    has(&text, &["✓ identity the route is public: no credential is read", "removes x-user-id, which the caller sent"]);
    assert!(!text.contains("root"), "{text}");
}

#[test]
fn each_miss_says_what_would_have_passed() {
    let u1 = r#"{"sub":"u1","roles":["user"],"scopes":["a"],"groups":["g"]}"#;
    for (claims, what, parts) in [
        (
            u1,
            ["PUT", "/profile/u2"],
            [
                "would pass if sub were u2; it is u1",
                "would pass with role admin; the token has user",
                "DENIED 403 rule_unmet",
            ],
        ),
        (
            u1,
            ["GET", "/staff"],
            ["would pass with group staff; the token has g", "group:staff missed the token's groups: g", "403"],
        ),
        (
            u1,
            ["GET", "/premium"],
            [
                "role:premium missed the policy derives it: claim:tier=gold; the token's roles: user",
                "would pass with role premium",
                "403",
            ],
        ),
        (
            u1,
            ["GET", "/reports"],
            [
                "would pass with role auditor and with scope reports; the token has user, the token has a",
                "scope:reports missed",
                "rule_unmet",
            ],
        ),
        (
            r#"{"roles":["auditor"],"scopes":["a"]}"#,
            ["GET", "/reports"],
            [
                "would pass with scope reports; the token has a",
                "403 scope_missing",
                r#"www-authenticate Bearer error="insufficient_scope", scope="reports""#,
            ],
        ),
    ] {
        has(&told(&[&["--claims", claims][..], &what].concat()), &parts);
    }
}

#[test]
fn a_claim_that_misses_its_capture_is_told_with_both() {
    for (claims, what, parts) in [
        (
            r#"{"tenant":["a","b"]}"#,
            ["GET", "/t/c/x"],
            [
                "would pass if tenant were c; it has a, b",
                "claim:tenant={tenant} missed tenant has a, b, {tenant} is c",
                "{tenant} c",
            ],
        ),
        (
            r#"{"tenant":{"a":1}}"#,
            ["GET", "/t/c/x"],
            [
                "would pass if tenant were c; it is neither text nor a list of texts",
                "claim:tenant={tenant} unknown",
                "fact_unknown",
            ],
        ),
    ] {
        has(&told(&[&["--claims", claims][..], &what].concat()), &parts);
    }
}

#[test]
fn a_forbid_is_told_with_what_would_lift_it() {
    for (claims, parts) in [
        (
            r#"{"banned":"yes"}"#,
            [
                "✗ forbid banned: claim:banned=yes: holds: forbidden",
                "would pass this forbid if banned were not yes; it is yes",
                "DENIED 403 forbidden",
            ],
        ),
        (
            r#"{"banned":{}}"#,
            ["cannot be told not to hold: forbidden", "claim:banned=yes unknown", "DENIED 403 forbidden"],
        ),
    ] {
        has(&told(&["--claims", claims, "/in"]), &parts);
    }
}

#[test]
fn a_word_that_cannot_be_told_says_which_claim_is_missing() {
    has(
        &told(&["--claims", "{}", "/staff"]),
        &[
            "group:staff unknown the token's groups cannot be told: its claim `groups` is missing or no list",
            "✗ route /staff: group:staff: cannot be told",
            "DENIED 403 fact_unknown",
        ],
    );
}

#[test]
fn a_condition_is_told_part_by_part_with_what_each_read() {
    let when = "claims.level >= 3 && request.path.endsWith('7') && claims.tags.exists(t, t == path.n)";
    let policy = compiled(&format!("{POLICY}  /level/{{n}}:\n    allow: signed-in\n    when: {when}\n"));
    let told = |claims: &str| try_told(&policy, &["--claims", claims, "/level/7"]).unwrap().0;
    has(
        &told(r#"{"level":2,"tags":["7"]}"#),
        &[
            "✓ route /level/{n}: signed-in: holds",
            "✗ condition /level/{n}: claims.level >= 3 &&",
            "claims.level >= 3 missed claims.level: 2",
            "request.path.endsWith('7') hit request.path: \"/level/7\"",
            "claims.tags.exists(t, t == path.n) hit claims.tags: [\"7\"], path.n: \"7\"",
            "would pass if `claims.level >= 3` were true; claims.level: 2",
            "DENIED 403 condition_unmet",
        ],
    );
    has(
        &told(r#"{"tags":["7"]}"#),
        &[
            "claims.level >= 3 && request.path.endsWith('7') && claims.tags.exists(t, t == path.n): cannot be told",
            "claims.level >= 3 unknown there is no such member",
            "DENIED 403 condition_failed",
        ],
    );
    has(&told(r#"{"level":3,"tags":["7"]}"#), &["✓ condition /level/{n}", "ALLOWED"]);
}

#[test]
fn a_sign_in_that_does_not_count_is_told_with_how_it_was() {
    let policy = compiled(&format!("{POLICY}  /pay: {{allow: signed-in, max_age: 10m, acr: [phr, mfa]}}\n"));
    let told = |claims: Value| try_told(&policy, &["--claims", &claims.to_string(), "/pay"]).unwrap().0;
    has(
        &told(json!({"auth_time": NOW - 700, "acr": "pwd"})),
        &[
            "✓ route /pay: signed-in: holds",
            "signed in at most 600 s ago: it was 700 s ago; by phr or mfa: acr is pwd",
            "would pass with a token of a new sign-in",
            r#"acr_values="phr mfa", max_age="600""#,
            "DENIED 401 step_up_required",
        ],
    );
    has(&told(json!({})), &["the token has no auth_time", "the token has no acr", "DENIED 401 step_up_required"]);
    has(&told(json!({"auth_time": NOW - 5, "acr": "mfa"})), &["it was 5 s ago", "ALLOWED"]);
}

#[test]
fn who_acts_is_told_with_the_whole_chain() {
    let policy = compiled(&format!("{POLICY}  /agent: actor:agent-1\n"));
    let told = |claims: Value| try_told(&policy, &["--claims", &claims.to_string(), "/agent"]).unwrap().0;
    has(
        &told(json!({"act": {"sub": "agent-2", "act": {"sub": "portal"}}})),
        &[
            "actor:agent-1 missed the actor is agent-2, after portal",
            "if the actor were agent-1",
            "DENIED 403 rule_unmet",
        ],
    );
    has(&told(json!({})), &["the subject acts for itself", "DENIED 403 rule_unmet"]);
    has(&told(json!({"act": 7})), &["actor:agent-1 unknown the token's act cannot be read", "DENIED 403 fact_unknown"]);
    has(&told(json!({"act": {"sub": "agent-1"}})), &["ALLOWED"]);
}

#[test]
fn a_guard_is_told_with_the_address() {
    let admin = ["--claims", r#"{"roles":["admin"]}"#];
    has(
        &told(&[&admin[..], &["--from", "192.0.2.4", "/admin/x"]].concat()),
        &[
            "from 192.0.2.4",
            "✗ guard /admin/**: network:10.0.0.0/8: does not hold",
            "network:10.0.0.0/8 missed the address is 192.0.2.4",
            "would pass this guard from 10.0.0.0/8; the address is 192.0.2.4",
            "DENIED 403 guard_unmet",
        ],
    );
    has(
        &told(&[&admin[..], &["/admin/x"]].concat()),
        &["network:10.0.0.0/8 unknown the address is not known", "fact_unknown"],
    );
    has(&told(&[&admin[..], &["--from", "10.1.2.3", "/admin/x"]].concat()), &["✓ guard /admin/**", "ALLOWED"]);
}

#[test]
fn a_token_that_is_refused_is_held_against_what_the_policy_says() {
    for (claims, parts) in [
        (
            json!({"exp": NOW - 7_300}),
            ["✗ identity The token has expired.", "exp expired 2 h ago", "found a bearer token · policy not reached"],
        ),
        (
            json!({"aud": ["other"]}),
            [
                "fault the token's aud is [\"other\"]; it must be shop-api",
                "· policy not reached",
                "401 audience_refused",
            ],
        ),
        (
            json!({"iss": "https://evil.test"}),
            [
                "fault the token's iss is https://evil.test; the route accepts main (https://id.example.com)",
                "issuer_refused",
                "401",
            ],
        ),
        (json!({"nbf": NOW + 3_600}), ["nbf not valid before in 60 min", "token_not_yet_valid", "401"]),
        (json!({"sub": null}), ["claims_malformed", "✗ identity", "401"]),
    ] {
        has(&told(&["--", "curl", "-H", &bearer(&claims), "https://a.test/in"]), &parts);
    }
    let foreign = SigningKey::generate(Algorithm::Es256);
    let claims = json!({"iss": "https://id.example.com", "aud": "shop-api", "sub": "u1", "exp": NOW + 60});
    for (kid, parts) in [
        ("k1", ["DENIED 401 signature_invalid", "kid k1"]),
        ("k2", ["fault the token's kid is k2; the issuer's keys have: k1", "DENIED 401 key_unknown"]),
    ] {
        let line = format!("Authorization: Bearer {}", foreign.token(Some(kid), &claims));
        has(&told(&["--", "curl", "-H", &line, "https://a.test/in"]), &parts);
    }
    has(
        &told(&["--", "curl", "-H", "Authorization: Bearer nonsense", "a.test/in"]),
        &["token 8 bytes in 1 parts, not a compact JWS", "token_malformed"],
    );
}

#[test]
fn without_a_credential_it_is_told_what_a_token_would_need() {
    has(
        &told(&["/reports"]),
        &[
            "looked for authorization: Bearer, the cookie session",
            "DENIED 401 credential_missing",
            "would pass with a token of main, with role auditor and with scope reports",
        ],
    );
    has(&told(&["/in"]), &["would pass with a token of main www-authenticate Bearer"]);
}

#[test]
fn a_request_that_reaches_no_route_is_told_the_nearest_ones() {
    has(&told(&["POST", "/profile/u1"]), &["✗ route No route matches.", "near it PUT /profile/{id}", "403 no_route"]);
    has(&told(&["/t/a"]), &["✓ route /t/{tenant}/**"]);
    has(&told(&["/staff/x"]), &["near it /staff", "· identity not reached"]);
    has(&told(&["PUT", "/Profile/u1"]), &["path_variant", "near it PUT /profile/{id}"]);
}

#[test]
fn a_request_that_can_be_read_in_two_ways_is_told_as_it_was_sent() {
    has(
        &told(&["https://a.test/admin%2fx"]),
        &["GET a.test/admin%2fx, as it was sent", "✗ read", "· route not reached", "DENIED 400 path_encoded_slash"],
    );
    has(&told(&["https://a.test/a/../x"]), &["path_dot_segment"]);
    has(
        &told(&["--", "curl", "https://a.test/a/../in"]),
        &["! curl resolves dot segments before it sends them: /in", "✓ route /in"],
    );
}

#[test]
fn an_unverified_token_is_taken_for_genuine_loudly_and_in_nothing_else() {
    let forged = |claims: &Value| {
        let token = token(claims);
        format!("Authorization: Bearer {}.AAAA", token.rsplit_once('.').unwrap().0)
    };
    let ask = |header: &str| told(&["--unverified", "--", "curl", "-H", header, "https://a.test/in"]);
    has(&told(&["--", "curl", "-H", &forged(&json!({})), "https://a.test/in"]), &["DENIED 401 signature_invalid"]);
    let text = ask(&forged(&json!({})));
    has(&text, &["! UNVERIFIED: the token's signature, alg and kid were NOT checked", "ALLOWED"]);
    assert!(!text.contains("rehearsal"), "{text}");
    has(&ask(&forged(&json!({"exp": NOW - 3_600}))), &["UNVERIFIED", "token_expired"]);
    has(&ask(&forged(&json!({"aud": "other"}))), &["UNVERIFIED", "audience_refused"]);
    has(&ask(&forged(&json!({"iss": "https://evil.test"}))), &["--unverified changed nothing", "issuer_refused"]);
}

#[test]
fn keys_that_must_be_fetched_are_and_where_they_cannot_be_it_is_said() {
    use crate::dev::issuer;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let settings = issuer::Settings {
        audience: "shop-api".into(),
        algorithm: Algorithm::Es256,
        keep_old: std::time::Duration::from_secs(60),
    };
    let issuer = runtime.block_on(issuer::Issuer::start(([127, 0, 0, 1], 0).into(), settings)).unwrap();
    let text = format!(
        "routes: {{/in: signed-in}}\nissuers: {{main: {{url: \"{}\", audience: shop-api, allow_http: true}}}}",
        issuer.url()
    );
    let policy = compiled(&text);
    let token = issuer.token(&json!({"sub": "u1", "iat": NOW, "exp": NOW + 60}));
    let header = format!("Authorization: Bearer {token}");
    let curl = ["--", "curl", "-H", &header, "https://a.test/in"];
    let (text, allowed) = try_told(&policy, &curl).unwrap();
    assert!(allowed);
    has(&text, &["! the keys of main were fetched just now", "✓ identity main/u1"]);
    issuer.rotate();
    issuer.drop_old_keys();
    has(&try_told(&policy, &curl).unwrap().0, &["DENIED 401 key_unknown"]);
    issuer.behave(issuer::Behaviour::Status(500));
    let fault = try_told(&policy, &curl).err().unwrap().to_string();
    has(&fault, &["the keys of the issuer `main` are to be fetched", "500", "--unverified", "--claims"]);
    assert!(try_told(&policy, &["--claims", "{}", "/in"]).unwrap().1, "claims need no keys of the issuer's");
}

#[test]
fn no_credential_is_ever_printed() {
    let token = token(&json!({"roles": ["admin"]}));
    let signature = token.rsplit('.').next().unwrap();
    let header = format!("Authorization: Bearer {token}");
    let (cookie, copy) = (format!("session={token}"), format!("X-Copy: {token}"));
    let url = format!("https://a.test/in?access_token={token}");
    for format in ["text", "json"] {
        for unverified in [&[][..], &["--unverified"]] {
            let curl =
                ["--format", format, "--", "curl", "-H", &header, "-H", &copy, "-b", &cookie, "-u", "u:s3cret", &url];
            let (text, _) = try_told(&compiled(POLICY), &[unverified, &curl].concat()).unwrap();
            assert!(!text.contains(signature) && !text.contains("s3cret"), "{text}");
            assert!(text.contains("access_token=(token)"), "{text}");
        }
    }
}

#[test]
fn a_token_of_the_query_is_never_printed_in_any_spelling() {
    let policy = compiled(&POLICY.replace("[bearer, cookie:session]", "[bearer, cookie:session, 'query:t']"));
    for target in ["/in?a=1&t=s3cret", "/in?%74=s3cret&a=1", "/in?a=1&T=s3cret", "/a%2f?t=s3cret&a=1"] {
        for format in ["text", "json"] {
            let (text, _) = try_told(&policy, &["--format", format, target]).unwrap();
            assert!(!text.contains("s3cret") && text.contains("a=1"), "{text}");
        }
    }
}

#[test]
fn a_preflight_is_told_as_one() {
    let policy = compiled(&format!("{POLICY}cors: {{origins: https://app.test}}\n"));
    let preflight = |origin: &str| {
        let origin = format!("Origin: {origin}");
        let asked = ["-H", "Access-Control-Request-Method: GET", "-H", &origin, "OPTIONS", "/in"];
        try_told(&policy, &asked).unwrap().0
    };
    has(&preflight("https://app.test"), &["✓ route", "it is a preflight: no credential is read", "ALLOWED"]);
    has(&preflight("https://evil.test"), &["✗ route", "DENIED 403 preflight_refused"]);
}

#[test]
fn what_came_with_a_request_draws_nothing_on_the_terminal() {
    let text = told(&["--claims", r#"{"sub":"u1","tenant":"\u001b[2Jx\u202e"}"#, "/t/a/b"]);
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    has(&text, &["tenant is \\u{1b}[2Jx\\u{202e}"]);
}

#[test]
fn json_tells_the_same() {
    let (text, allowed) = try_told(
        &compiled(POLICY),
        &["--format", "json", "--claims", r#"{"sub":"u1","roles":["user"]}"#, "PUT", "/profile/u2"],
    )
    .unwrap();
    let told: Value = serde_json::from_str(&text).unwrap();
    assert!(!allowed);
    assert_eq!(told["verdict"]["reason"], "rule_unmet");
    assert_eq!(told["verdict"]["nearest"][0], "if sub were u2; it is u1");
    assert_eq!(
        told["gates"][3]["rules"][1]["words"][0],
        json!({"word": "owner:id", "answer": "missed", "compared": "sub is u1, {id} is u2"})
    );
    assert_eq!(told["gates"][4]["passed"], Value::Null);
}

#[test]
fn a_decision_id_is_opened_by_the_policy_s_key() {
    let mut policy = compiled(POLICY);
    assert!(matches!(try_told(&policy, &[&"A".repeat(76)]), Err(Fault::Untold(told::Untold::NoKey))));
    policy.settings.decision_key = Some(Secret(b"a secret of the operator's".to_vec()));
    let now = Timestamp::from_secs(NOW);
    let key = SealingKey::new(b"a secret of the operator's").unwrap();
    let claims = Who::Token { issuer: None, roles: None, claims: Map::new() };
    let rehearsal = Rehearsal::at(&policy, now);
    let id_of = |method: &str, path: &str, of: PolicyId| {
        let ask = Ask { method: method.into(), host: None, target: path.into() };
        let call = Call {
            who: &claims,
            ask: &ask,
            from: None,
            service: None,
            key: None,
            browser: false,
            headers: &[],
            dpop: None,
            certificate: None,
        };
        let decision = rehearsal.ask(&call).unwrap();
        key.seal([7; 12], &Told::of(decision.basis(), of, 0xab, now)).unwrap().to_string()
    };
    let of = policy.policy.id;
    let id = id_of("PUT", "/profile/u2", of);
    let (text, allowed) = try_told(&policy, &[&id]).unwrap();
    has(
        &text,
        &[
            "decided 2027-01-15T08:00:00.000Z by the replica 000000ab",
            "route PUT /profile/{id}",
            "DENIED 403 fact_unknown",
        ],
    );
    assert!(!allowed && !text.contains("not the policy of this file"));
    assert!(try_told(&policy, &[&id_of("GET", "/health", of)]).unwrap().1);
    let other = id_of("GET", "/in", PolicyId(*b"another1"));
    has(&try_told(&policy, &[&other]).unwrap().0, &["policy 616e6f7468657231", "not the policy of this file"]);
    policy.settings.decision_key = Some(Secret(b"another secret of another".to_vec()));
    assert!(try_told(&policy, &[&id]).err().unwrap().to_string().contains("another `decision_key`"));
    assert!(try_told(&policy, &["abc"]).err().unwrap().to_string().contains("not a decision id"));
}

#[test]
fn what_is_no_request_is_refused() {
    let policy = compiled(POLICY);
    for (arguments, expected) in [
        (&["GET", "/a", "/b"][..], "not a request"),
        (&["--claims", "[]", "/in"], "--claims is not a JSON object"),
        (&["--claims", r#"{"roles":"admin"}"#, "/in"], "--claims is not a JSON object"),
        (&["--claims", r#"{"iss":"nobody"}"#, "/in"], "there is no issuer `nobody`"),
        (&["--claims", "{}", "--issuer", "nobody", "/in"], "there is no issuer `nobody`"),
        (&["-H", "s3cret", "/in"], "-H is not"),
        (&["ftp://a.test/"], "neither http nor https"),
    ] {
        let error = try_told(&policy, arguments).err().unwrap().to_string();
        assert!(error.contains(expected) && !error.contains("s3cret"), "{arguments:?}: {error}");
    }
}

#[test]
fn an_opaque_token_is_explained_by_what_its_issuer_is_said_to_answer() {
    let text = "issuers: {main: {issuer: https://id.test, audience: api, roles: roles, introspection: {url: \
                'http://127.0.0.1:9/i', client_id: a, client_secret: 'file:s'}, allow_http: true}}\nroutes: {/a: role:admin}\n";
    let (compiled, problems) = compile("p.yaml", text, &|_| Ok(b"secret".to_vec()));
    let compiled = compiled.unwrap_or_else(|| panic!("{problems}"));
    let told = |words: &[&str]| {
        let words = ["explain"].iter().chain(words).copied();
        Cli::try_parse_from(words).unwrap().explain.told(&compiled).unwrap()
    };
    let (text, allowed) = told(&["GET", "/a", "--claims", r#"{"sub":"u1","roles":["admin"]}"#]);
    assert!(allowed && text.contains("main/u1"), "{text}");
    let (text, allowed) = told(&["GET", "/a", "--claims", r#"{"sub":"u1","active":false}"#]);
    assert!(!allowed && text.contains("token_inactive"), "{text}");
    // Nobody answers at that port: it is asked all the same, as `serve` does.
    let (text, allowed) = told(&["GET", "/a", "-H", "authorization: Bearer planted-token"]);
    assert!(!allowed && text.contains("introspection_unavailable"), "{text}");
    assert!(text.contains("main was asked about the token just now, in vain") && !text.contains("planted"), "{text}");
}
