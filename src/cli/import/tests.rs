//! Policies in the shapes of Istio's and Envoy's own examples: each loads, and decides as the gateway does.

use super::istio::Workload;
use super::*;
use crate::cli::test::report;

/// Imports a policy, and runs these rows as its tests.
fn decides(policy: &str, rows: &str) -> Imported {
    let imported = imported("mesh.yaml", policy, &Workload::default()).unwrap_or_else(|why| panic!("{why}\n{policy}"));
    let text = format!("{}public_url: https://shop.test\ntests:\n{rows}", imported.text);
    let (compiled, problems) = compile("p.yaml", &text, &|_| Err(std::io::ErrorKind::NotFound.into()));
    let compiled = compiled.unwrap_or_else(|| panic!("{}", problems.render(false)));
    let report = report(&compiled);
    assert!(report.failed == 0 && !compiled.tests.is_empty(), "{}\n{text}", report.text);
    imported
}

fn notes(imported: &Imported) -> String {
    imported.notes.iter().map(|note| format!("{}: {}\n", note.place, note.why)).collect()
}

const JWT: &str = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: jwt, namespace: foo}
spec:
  selector: {matchLabels: {app: httpbin}}
  jwtRules:
  - issuer: testing@secure.test
    jwksUri: https://secure.test/jwks.json
    audiences: [httpbin]
    forwardOriginalToken: true
    outputClaimToHeaders: [{header: X-Tenant, claim: tenant}]
";

fn policy(name: &str, spec: &str) -> String {
    format!("---\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: foo}}\nspec: {spec}\n")
}

#[test]
fn a_token_is_checked_where_it_is_there_and_needed_where_a_policy_says_so() {
    let rows = "  - [anonymous, GET /x, allow]\n  - [{sub: u, tenant: t1}, GET /x, allow, {X-Tenant: t1}]\n  - [{sub: u, aud: other}, GET /x, deny 401]\n";
    decides(JWT, rows);
    let require = policy("require", "{action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['*']}}]}]}");
    decides(&format!("{JWT}{require}"), "  - [anonymous, GET /x, deny]\n  - [{sub: u}, GET /x, allow]\n");
    let require = policy(
        "require",
        "{action: ALLOW, rules: [{from: [{source: {requestPrincipals: ['testing@secure.test/u']}}]}]}",
    );
    let rows = "  - [anonymous, GET /x, deny]\n  - [{sub: u}, GET /x, allow]\n  - [{sub: v}, GET /x, deny]\n";
    decides(&format!("{JWT}{require}"), rows);
}

#[test]
fn operations_conditions_and_several_rules_are_or_and_their_fields_and() {
    let spec = "{action: ALLOW, rules: [
        {to: [{operation: {methods: [GET], paths: [/info, /shop/*]}}], when: [{key: 'request.auth.claims[groups]', values: [a, b]}]},
        {to: [{operation: {methods: [POST], paths: [/shop/cart]}}], from: [{source: {requestPrincipals: ['*']}}]},
        {to: [{operation: {paths: ['/t/{*}/open']}}]}]}";
    let rows = "  - [{sub: u, groups: [b]}, GET /info, allow]
  - [{sub: u, groups: [c]}, GET /info, deny]
  - [{sub: u, groups: [b]}, POST /info, deny]
  - [{sub: u, groups: [b]}, HEAD /info, deny]
  - [{sub: u, groups: [a]}, GET /shop/cart/1, allow]
  - [{sub: u, groups: [a]}, GET /shop, deny]
  - [{sub: u}, GET /shop/cart, deny]
  - [{sub: u}, POST /shop/cart, allow]
  - [anonymous, POST /shop/cart, deny]
  - [{sub: u}, POST /shop/cart/1, deny]
  - [anonymous, DELETE /t/x/open, allow]
  - [anonymous, DELETE /t/x/y/open, deny]
  - [anonymous, GET /, deny]
";
    decides(&format!("{JWT}{}", policy("rules", spec)), rows);
}

#[test]
fn a_denial_goes_before_and_what_is_not_meant_is_left_out() {
    let deny = policy(
        "deny",
        "{action: DENY, rules: [{to: [{operation: {paths: [/admin, /admin/*]}}], when: [{key: 'request.auth.claims[role]', notValues: [admin]}]}]}",
    );
    let allow = policy(
        "allow",
        "{action: ALLOW, rules: [{to: [{operation: {notPaths: [/private], hosts: ['*.shop.test'], notMethods: [DELETE]}}]}]}",
    );
    let rows = "  - [anonymous, GET a.shop.test/x, allow]
  - [anonymous, GET other.test/x, deny]
  - [anonymous, DELETE a.shop.test/x, deny]
  - [anonymous, GET a.shop.test/private, deny]
  - [anonymous, GET a.shop.test/private/x, allow]
  - [{sub: u, role: admin}, GET a.shop.test/admin, allow]
  - [{sub: u, role: user}, GET a.shop.test/admin, deny]
  - [{sub: u, role: user}, GET a.shop.test/admin/x, deny]
  - [anonymous, GET a.shop.test/administrator, allow]
";
    decides(&format!("{JWT}{deny}{allow}"), rows);
    let rows = "  - [anonymous, GET /x, deny]\n  - [{sub: u}, GET /x, deny]\n";
    decides(&format!("{JWT}{}", policy("nothing", "{}")), rows);
    decides(&format!("{JWT}{}", policy("all", "{rules: [{}]}")), "  - [anonymous, GET /x, allow]\n");
}

#[test]
fn a_prefix_that_ends_within_a_segment_denies_more_and_allows_less() {
    let deny = policy("deny", "{action: DENY, rules: [{to: [{operation: {paths: [/admin*]}}]}]}");
    let rows = "  - [anonymous, GET /x, allow]
  - [anonymous, GET /administrator, deny]
  - [anonymous, GET /admin/x, deny]
  - [anonymous, GET /administrator/x, deny]
";
    let imported = decides(&format!("{JWT}{deny}"), rows);
    assert!(notes(&imported).contains("below a segment that begins with `admin`"));
    let allow = policy("allow", "{rules: [{to: [{operation: {paths: [/admin*]}}]}]}");
    let rows = "  - [anonymous, GET /administrator, allow]
  - [anonymous, GET /admin/x, allow]
  - [anonymous, GET /administrator/x, deny]
  - [anonymous, GET /x, deny]
";
    decides(&format!("{JWT}{allow}"), rows);
}

#[test]
fn what_cannot_be_said_is_denied_and_told() {
    let cases = [
        ("{rules: [{from: [{source: {principals: [cluster.local/ns/a/sa/b]}}]}]}", "principals cannot be said here"),
        ("{rules: [{from: [{source: {namespaces: [a]}}]}]}", "namespaces cannot be said here"),
        ("{rules: [{to: [{operation: {ports: ['80']}}]}]}", "ports cannot be said here"),
        ("{rules: [{to: [{operation: {paths: ['*/info']}}]}]}", "the path \"*/info\" cannot be said here"),
        ("{rules: [{when: [{key: 'request.headers[x-a]', values: [b]}]}]}", "request.headers[x-a] cannot be said here"),
        ("{rules: [{when: [{key: 'request.auth.claims[a]', values: ['b*']}]}]}", "a part of a claim's value"),
        ("{rules: [{to: [{operation: {}}]}]}", "this entry cannot be said here"),
        ("{rules: [{form: [{source: {requestPrincipals: ['*']}}]}]}", "form cannot be said here"),
        ("{rules: [{to: [{operation: {methods: []}}]}]}", "a list without texts"),
        ("{action: DENY, rules: [{from: [{source: {notPrincipals: [a]}}]}]}", "principals cannot be said here"),
        ("{action: DENY, rules: [{to: [{operation: {paths: ['*/info']}}]}]}", "the path \"*/info\""),
        ("{action: DENY, rules: [{from: []}]}", "makes no difference"),
        ("{action: CUSTOM, provider: {name: x}, rules: [{}]}", "CUSTOM asks somebody else"),
        ("{action: OTHER, rules: []}", "the action \"OTHER\" is not known"),
    ];
    for (spec, told) in cases {
        let rows = "  - [anonymous, GET /x/info, deny]\n  - [{sub: u, a: bc}, GET /x/info, deny]\n  - [{sub: u}, POST /, deny]\n";
        let imported = decides(&format!("{JWT}{}", policy("p", spec)), rows);
        let notes = notes(&imported);
        assert!(notes.contains(told) || told == "makes no difference", "{spec}: {notes}");
        assert!(
            told == "makes no difference" || imported.text.contains(told),
            "the file has no comment:\n{}",
            imported.text
        );
    }
}

#[test]
fn addresses_are_asked_for_and_may_stand_alone() {
    let spec = "{action: ALLOW, rules: [{from: [{source: {remoteIpBlocks: [10.0.0.0/8], notRemoteIpBlocks: [10.1.0.0/16]}}]}]}";
    let imported = decides(&policy("p", spec), "  - [anonymous, GET /x, deny]\n");
    for part in ["not network:10.1.0.0/16 and network:10.0.0.0/8", "from: x-envoy-external-address", "/**: public"] {
        assert!(imported.text.contains(part), "{part}\n{}", imported.text);
    }
    let direct = "{action: DENY, rules: [{from: [{source: {ipBlocks: [192.0.2.0/24]}}]}]}";
    let rows = "  - {as: anonymous, ask: GET /x, expect: allow, from: 10.0.0.1}\n  - {as: anonymous, ask: GET /x, expect: deny, from: 192.0.2.7}\n";
    decides(&policy("p", direct), rows);
}

#[test]
fn issuers_that_cannot_be_said_are_left_out_or_closed() {
    let cases = [
        ("{issuer: a, jwks: '{}'}", "its keys stand in the policy"),
        ("{issuer: a, jwksUri: 'http://a.test/jwks'}", "not at an https URL"),
        ("{issuer: a}", "it says no URL of its keys"),
        ("{jwksUri: 'https://a.test/jwks'}", "it names no issuer"),
        ("{issuer: a, jwksUri: 'https://a.test/jwks', audiences: [x], fromParams: [t]}", "no place of its tokens"),
        ("{issuer: a, jwksUri: 'https://a.test/jwks'}", "it takes tokens for everybody"),
        ("{issuer: 'https://accounts.google.com', audiences: [x]}", "everyone can get its tokens"),
    ];
    for (rule, told) in cases {
        let text = format!("kind: RequestAuthentication\nmetadata: {{name: r}}\nspec: {{jwtRules: [{rule}]}}\n");
        let imported = decides(&text, "  - [anonymous, GET /x, allow]\n");
        assert!(notes(&imported).contains(told), "{rule}: {}", notes(&imported));
        assert!(imported.text.contains("/**: anyone"), "a token of it would pass for nobody's:\n{}", imported.text);
    }
}

#[test]
fn policies_of_several_workloads_are_not_mixed() {
    let other = policy("other", "{selector: {matchLabels: {app: other}}, rules: [{}]}");
    let both = format!("{JWT}{}{other}", policy("mine", "{selector: {matchLabels: {app: httpbin}}}"));
    let why = imported("m.yaml", &both, &Workload::default()).unwrap_err();
    assert!(why.contains("--selector: app=httpbin; app=other"), "{why}");
    let workload = Workload { namespace: None, selector: Some("app=httpbin".into()) };
    assert!(!imported("m.yaml", &both, &workload).unwrap().text.contains("anyone"));
    assert!(imported("m.yaml", "kind: Service", &Workload::default()).is_err());
}

const ENVOY: &str = r#"
static_resources:
  listeners:
  - filter_chains:
    - filters:
      - typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          http_filters:
          - name: envoy.filters.http.jwt_authn
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication
              providers:
                one: {issuer: "https://one.test", audiences: [shop], forward: true, payload_in_metadata: payload, remote_jwks: {http_uri: {uri: "https://one.test/jwks", cluster: one}}}
                two: {issuer: "https://two.test", audiences: [shop], forward: true, remote_jwks: {http_uri: {uri: "https://two.test/jwks", cluster: two}}}
              rules:
              - {match: {path: /health}}
              - {match: {prefix: /any}, requires: {requires_any: {requirements: [{provider_name: one}, {allow_missing: {}}]}}}
              - {match: {prefix: /}, requires: {requires_any: {requirements: [{provider_name: one}, {provider_name: two}]}}}
          - name: envoy.filters.http.rbac
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
              rules:
                action: ALLOW
                policies:
                  admins:
                    permissions: [{url_path: {path: {prefix: /admin/}}}, {url_path: {path: {exact: /health}}}]
                    principals:
                    - metadata: {filter: envoy.filters.http.jwt_authn, path: [{key: payload}, {key: role}], value: {string_match: {exact: admin}}}
                  others:
                    permissions:
                    - and_rules: {rules: [{header: {name: ":method", string_match: {exact: GET}}}, {not_rule: {url_path: {path: {prefix: /admin}}}}]}
                    principals: [{any: true}]
"#;

#[test]
fn envoys_filters_are_read_with_the_first_rule_that_matches() {
    let rows = "  - [anonymous, GET /health, allow]
  - [anonymous, POST /health, deny]
  - [{iss: issuer-1, sub: u, role: admin}, POST /health, deny]
  - [anonymous, GET /anything, allow]
  - [{iss: issuer-1, sub: u}, GET /anything, allow]
  - [anonymous, GET /x, deny]
  - [{iss: issuer-2, sub: u}, GET /x, allow]
  - [{iss: issuer-2, sub: u}, HEAD /x, deny]
  - [{iss: issuer-2, sub: u}, POST /x, deny]
  - [{iss: issuer-1, sub: u}, GET /admin/x, deny]
  - [{iss: issuer-1, sub: u, role: admin}, POST /admin/x, allow]
";
    decides(ENVOY, rows);
    let closed = ENVOY.replace("{any: true}", "{authenticated: {}}").replace("action: ALLOW", "action: DENY");
    decides(&closed, "  - [{iss: issuer-1, sub: u}, GET /x, deny]\n  - [{iss: issuer-1, sub: u}, POST /x, allow]\n");
}
