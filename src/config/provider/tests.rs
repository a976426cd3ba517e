//! Each provider: what it fills in, what it refuses, and that what is shown of it loads to the same issuer.

use super::*;
use crate::config::{Compiled, compile};

const TENANT: &str = "8a2f1c64-3b5d-4e7f-9a10-c2d3e4f50617";
const OTHER: &str = "0b6e9b0c-9e44-4a61-8f3f-5d1c2b7a9e10";
const ARN: &str = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/edge/0123456789abcdef";
const TAG: &str = "32eafc7626e974616deaf0dc3ce63d7bcbed58a2731e84d06bc3cdf1b53c4228";

/// One issuer of each kind that loads, as it stands in braces.
fn good() -> Vec<(&'static str, String)> {
    let own = |name: &'static str, keys: &str| (name, format!("provider: {name}, {keys}"));
    vec![
        own("okta", "domain: acme.okta.com, audience: api://default"),
        own("okta", "domain: id.acme.com, server: aus1a2B3, audience: api://shop, require: 'claim:tier=gold'"),
        own("okta", "domain: acme.okta.com, server: org, audience: 0oa1b2c3"),
        own("auth0", "domain: acme.eu.auth0.com, audience: 'https://api.acme.com'"),
        own("entra", &format!("tenant: {TENANT}, audience: 6e74172b-be56-4843-9ff4-e66a39bb12e3")),
        own("entra", &format!("tenant: {TENANT}, version: v1.0, audience: 'api://shop'")),
        own("entra", &format!("tenants: [{TENANT}, {OTHER}], audience: 6e74172b-be56-4843-9ff4-e66a39bb12e3")),
        own("entra", &format!("tenants: [{TENANT}], version: v1.0, audience: 'api://shop'")),
        own("cognito", "pool: eu-west-1_AbCdEfGhI, audience: 4fmvht22tjrgd7d3k3tghttct7"),
        own("cognito", "pool: cn-north-1_AbC, audience: [a, b], algorithms: [ES256]"),
        own("cognito", "pool: eu-west-1_AbC, audience: {claim: client, any_of: [a]}"),
        own("aws-iam", "url: 'https://abc123-def456.tokens.sts.global.api.aws', audience: 'https://api.example.com'"),
        own(
            "aws-alb",
            &format!(
                "issuer: 'https://idp.example.com', signer: '{ARN}', audience: client, jwks: 'https://keys.example.com/a.json'"
            ),
        ),
        own(
            "aws-alb",
            &format!("issuer: 'https://idp.example.com', signer: '{ARN}', audience: client, region: eu-west-1"),
        ),
        own(
            "aws-alb",
            &format!("issuer: 'https://idp.example.com', signer: ['{ARN}'], audience: client, region: us-gov-west-1"),
        ),
        own("google", "audience: x.apps.googleusercontent.com, require: claim:hd=example.com"),
        own("google-iap", "audience: /projects/123/global/backendServices/456"),
        own("keycloak", "url: 'https://id.example.com/realms/shop', audience: shop-api"),
        own("keycloak", "url: 'https://id.example.com/auth/realms/shop', audience: shop-api, client: shop/a.pi~"),
        own("cloudflare-access", &format!("team: acme, audience: {TAG}")),
        own("cloudflare-access", &format!("team: acme, audience: {TAG}, origins: ['https://shop.example.com']")),
        own("github-actions", "audience: 'https://shop.example.com', require: claim:repository_owner_id=65"),
        own(
            "github-actions",
            "enterprise: acme, audience: shop, require: {all: [claim:repository=acme/shop, claim:ref=refs/heads/main]}",
        ),
        own(
            "github-actions",
            "url: 'https://ghe.example.com/_services/token', audience: shop, require: claim:repository_owner=acme",
        ),
        own("gitlab", "audience: shop, require: claim:namespace_path=acme"),
        own(
            "gitlab",
            "url: 'https://gitlab.example.com', audience: shop, require: claim:project_id=22 or claim:project_id=23",
        ),
        own(
            "kubernetes",
            "url: 'https://oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF', audience: shop, require: claim:/kubernetes.io/namespace=shop",
        ),
        own(
            "kubernetes",
            "url: 'https://k.example.com', audience: shop, require: 'claim:sub=system:serviceaccount:shop:cart', max_token_lifetime: 1h",
        ),
        own("portcullis", "url: 'https://edge.example.com', audience: orders"),
    ]
}

fn load(issuer: &str) -> Result<Compiled, Vec<(&'static str, u32, String, Option<String>)>> {
    let text = format!("issuers:\n  it: {{{issuer}}}\nroutes: {{/a: signed-in}}\n");
    load_all(&text)
}

fn load_all(text: &str) -> Result<Compiled, Vec<(&'static str, u32, String, Option<String>)>> {
    let (compiled, problems) = compile("p.yaml", text, &|_| Err(std::io::ErrorKind::NotFound.into()));
    let told = |problem: &Problem| (problem.code, problem.span.column, problem.message.clone(), problem.cure.clone());
    match compiled {
        // Whoever says themselves that id tokens are accepted is asked whether that is meant.
        Some(compiled) if problems.as_slice().iter().all(|problem| problem.code == "id_tokens_accepted") => {
            Ok(compiled)
        }
        _ => Err(problems.as_slice().iter().map(told).collect()),
    }
}

fn codes(issuer: &str) -> Vec<&'static str> {
    load(issuer).err().unwrap_or_default().iter().map(|(code, ..)| *code).collect()
}

#[test] // J15
fn nobody_signs_out_by_the_word_of_a_load_balancer() {
    let alb = format!("issuer: 'https://idp.example.com', signer: '{ARN}', audience: client, region: eu-west-1");
    assert_eq!(codes(&format!("provider: aws-alb, {alb}")), [""; 0]);
    assert_eq!(codes(&format!("provider: aws-alb, {alb}, logout: client")), ["logout_unsupported"]);
}

/// What an issuer of a provider comes to, key by key.
fn explained(issuer: &str) -> String {
    let compiled = load(issuer).unwrap_or_else(|problems| panic!("{issuer}: {problems:?}"));
    compiled.presets[0].1.explained.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[test]
fn what_is_shown_of_a_preset_loads_to_the_same_issuer() {
    let mut seen = std::collections::BTreeSet::new();
    for (name, issuer) in good() {
        let preset = load(&issuer).unwrap_or_else(|problems| panic!("{issuer}: {problems:?}"));
        assert_eq!(preset.presets[0].1.provider, name);
        let shown = format!("issuers:\n  it:\n{}routes: {{/a: signed-in}}\n", preset.presets[0].1.explained);
        assert!(!shown.contains("provider"), "{shown}");
        let explicit = load_all(&shown).unwrap_or_else(|problems| panic!("{shown}: {problems:?}"));
        assert_eq!(explicit.presets, []);
        assert_eq!(preset.policy.issuers[0].digest, explicit.policy.issuers[0].digest, "{shown}");
        let fed = |compiled: &Compiled| compiled.feeds.iter().map(|feed| feed.from.clone()).collect::<Vec<_>>();
        assert_eq!(fed(&preset), fed(&explicit));
        seen.insert(name);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), {
        let mut all = names();
        all.sort_unstable();
        all
    });
}

#[test]
fn a_provider_fills_in_what_it_fixes() {
    let all: Vec<String> = good().iter().map(|(_, issuer)| explained(issuer)).collect();
    let expected = [
        "url: https://acme.okta.com/oauth2/default; audience: api://default; algorithms: [RS256]; groups: groups; scopes: scp; require: \"claim:cid?\"",
        "url: https://id.acme.com/oauth2/aus1a2B3; audience: api://shop; algorithms: [RS256]; groups: groups; scopes: scp; require: {all: [\"claim:cid?\", claim:tier=gold]}",
        "url: https://acme.okta.com; audience: \"0oa1b2c3\"; algorithms: [RS256]; groups: groups; id_tokens: true",
        "url: https://acme.eu.auth0.com/; audience: https://api.acme.com",
        "url: https://login.microsoftonline.com/8a2f1c64-3b5d-4e7f-9a10-c2d3e4f50617/v2.0; audience: \"6e74172b-be56-4843-9ff4-e66a39bb12e3\"; algorithms: [RS256]; roles: roles; groups: groups; scopes: scp; require: \"claim:azp?\"",
        "url: https://login.microsoftonline.com/8a2f1c64-3b5d-4e7f-9a10-c2d3e4f50617; issuer: https://sts.windows.net/8a2f1c64-3b5d-4e7f-9a10-c2d3e4f50617/; audience: api://shop; algorithms: [RS256]; roles: roles; groups: groups; scopes: scp; require: \"claim:appid?\"",
        "jwks: https://login.microsoftonline.com/common/discovery/v2.0/keys; issuer: \"https://login.microsoftonline.com/{tid}/v2.0\"; tenants: [\"8a2f1c64-3b5d-4e7f-9a10-c2d3e4f50617\", \"0b6e9b0c-9e44-4a61-8f3f-5d1c2b7a9e10\"]; audience: \"6e74172b-be56-4843-9ff4-e66a39bb12e3\"; algorithms: [RS256]; roles: roles; groups: groups; scopes: scp; require: \"claim:azp?\"",
        "jwks: https://login.microsoftonline.com/common/discovery/keys; issuer: \"https://sts.windows.net/{tid}/\"; tenants: [\"8a2f1c64-3b5d-4e7f-9a10-c2d3e4f50617\"]; audience: api://shop; algorithms: [RS256]; roles: roles; groups: groups; scopes: scp; require: \"claim:appid?\"",
        "url: https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI; audience: {claim: client_id, any_of: \"4fmvht22tjrgd7d3k3tghttct7\"}; algorithms: [RS256]; groups: cognito:groups; require: claim:token_use=access",
        "url: https://cognito-idp.cn-north-1.amazonaws.com.cn/cn-north-1_AbC; audience: {claim: client_id, any_of: [a, b]}; algorithms: [ES256]; groups: cognito:groups; require: claim:token_use=access",
        "url: https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbC; audience: {claim: client, any_of: [a]}; algorithms: [RS256]; groups: cognito:groups; require: claim:token_use=access",
        "url: https://abc123-def456.tokens.sts.global.api.aws; audience: https://api.example.com; algorithms: [ES384, RS256]",
        "jwks: https://keys.example.com/a.json; issuer: https://idp.example.com; signer: arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/edge/0123456789abcdef; audience: client; algorithms: [ES256]; from: [header:X-Amzn-Oidc-Data]",
        "pem: \"https://public-keys.auth.elb.eu-west-1.amazonaws.com/{kid}\"; issuer: https://idp.example.com; signer: arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/edge/0123456789abcdef; audience: client; algorithms: [ES256]; from: [header:X-Amzn-Oidc-Data]",
        "pem: \"https://s3-us-gov-west-1.amazonaws.com/aws-elb-public-keys-prod-us-gov-west-1/{kid}\"; issuer: https://idp.example.com; signer: [arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/edge/0123456789abcdef]; audience: client; algorithms: [ES256]; from: [header:X-Amzn-Oidc-Data]",
        "url: https://accounts.google.com; issuer: [https://accounts.google.com, accounts.google.com]; audience: x.apps.googleusercontent.com; algorithms: [RS256]; require: claim:hd=example.com; id_tokens: true",
        "jwks: https://www.gstatic.com/iap/verify/public_key-jwk; issuer: https://cloud.google.com/iap; audience: /projects/123/global/backendServices/456; algorithms: [ES256]; from: [header:X-Goog-Iap-Jwt-Assertion]",
        "url: https://id.example.com/realms/shop; audience: shop-api; roles: realm_access.roles; groups: groups; require: \"claim:typ=Bearer or claim:typ=DPoP\"",
        "url: https://id.example.com/auth/realms/shop; audience: shop-api; roles: \"/resource_access/shop~1a.pi~0/roles\"; groups: groups; require: \"claim:typ=Bearer or claim:typ=DPoP\"",
        "jwks: https://acme.cloudflareaccess.com/cdn-cgi/access/certs; issuer: https://acme.cloudflareaccess.com; audience: \"32eafc7626e974616deaf0dc3ce63d7bcbed58a2731e84d06bc3cdf1b53c4228\"; algorithms: [RS256]; require: claim:type=app; from: [header:Cf-Access-Jwt-Assertion]",
        "jwks: https://acme.cloudflareaccess.com/cdn-cgi/access/certs; issuer: https://acme.cloudflareaccess.com; audience: \"32eafc7626e974616deaf0dc3ce63d7bcbed58a2731e84d06bc3cdf1b53c4228\"; algorithms: [RS256]; require: claim:type=app; from: [header:Cf-Access-Jwt-Assertion, cookie:CF_Authorization]; origins: [https://shop.example.com]",
        "url: https://token.actions.githubusercontent.com; audience: https://shop.example.com; algorithms: [RS256]; require: claim:repository_owner_id=65",
        "url: https://token.actions.githubusercontent.com/acme; audience: shop; algorithms: [RS256]; require: {all: [claim:repository=acme/shop, claim:ref=refs/heads/main]}",
        "url: https://ghe.example.com/_services/token; audience: shop; algorithms: [RS256]; require: claim:repository_owner=acme",
        "url: https://gitlab.com; audience: shop; algorithms: [RS256]; require: claim:namespace_path=acme",
        "url: https://gitlab.example.com; audience: shop; algorithms: [RS256]; require: \"claim:project_id=22 or claim:project_id=23\"",
        "url: https://oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF; audience: shop; require: claim:/kubernetes.io/namespace=shop",
        "url: https://k.example.com; audience: shop; require: claim:sub=system:serviceaccount:shop:cart; max_token_lifetime: \"1h\"",
        "url: https://edge.example.com; audience: orders; algorithms: [ES256, EdDSA]; roles: roles; groups: groups; from: [header:X-Portcullis-Identity]; types: [at+jwt]; relays: true",
    ];
    for (got, wanted) in all.iter().zip(expected) {
        assert_eq!(got, wanted);
    }
    assert_eq!(all.len(), expected.len());
}

#[test]
fn what_comes_from_outside_is_shown_as_the_reference_to_it() {
    let text = "issuers: {it: {provider: entra, tenant: '${env:TENANT}', audience: '${env:AUD}', subject_prefix: 'a$${b}'}}\nroutes: {/a: signed-in}\n";
    let variable = |name: &str| Some(if name == "TENANT" { TENANT.into() } else { "hush-hush-hush".to_owned() });
    let around = crate::config::Surroundings { variable: &variable, ..crate::config::Surroundings::NONE };
    let (compiled, problems) = crate::config::compile_all("p.yaml", text, &around);
    let compiled = compiled.unwrap_or_else(|| panic!("{problems}"));
    let shown = &compiled.presets[0].1.explained;
    assert!(shown.contains("    url: \"https://login.microsoftonline.com/${env:TENANT}/v2.0\"\n"), "{shown}");
    assert!(shown.contains("    audience: \"${env:AUD}\"\n") && shown.contains("\"a$${b}\""), "{shown}");
    let again = format!("issuers:\n  it:\n{shown}routes: {{/a: signed-in}}\n");
    let (again, problems) = crate::config::compile_all("p.yaml", &again, &around);
    let again = again.unwrap_or_else(|| panic!("{problems}"));
    assert_eq!(again.policy.issuers[0].digest, compiled.policy.issuers[0].digest);
}

#[test]
fn a_parameter_that_is_missing_or_wrong_is_told_with_its_cure() {
    for (issuer, code, cure) in [
        ("provider: okta, audience: a", "missing_parameter", "domain: acme.okta.com"),
        ("provider: okta, audience: a, domain: https://acme.okta.com", "bad_parameter", "domain: acme.okta.com"),
        ("provider: okta, audience: a, domain: acme.okta.com, server: a/b", "bad_parameter", "server: default"),
        ("provider: auth0, audience: a", "missing_parameter", "acme.eu.auth0.com"),
        ("provider: auth0, audience: a, domain: acme.eu.auth0.com/", "bad_parameter", "acme.eu.auth0.com"),
        ("provider: auth0, audience: a, domain: -a.com", "bad_parameter", "acme.eu.auth0.com"),
        ("provider: entra, audience: a", "missing_parameter", "directory (tenant) id"),
        ("provider: entra, audience: a, tenant: common", "bad_parameter", "directory (tenant) id"),
        ("provider: entra, audience: a, tenant: acme.onmicrosoft.com", "bad_parameter", "directory (tenant) id"),
        (
            "provider: entra, audience: a, tenant: 8A2F1C64-3b5d-4e7f-9a10-c2d3e4f50617",
            "bad_parameter",
            "directory (tenant) id",
        ),
        (
            "provider: entra, audience: a, tenant: 8a2f1c64-3b5d-4e7f-9a10-c2d3e4f50617, version: 2",
            "bad_parameter",
            "v2.0, or v1.0",
        ),
        ("provider: entra, audience: a, tenants: [common]", "bad_parameter", "directory (tenant) id"),
        (
            "provider: entra, audience: a, tenants: [8a2f1c64-3b5d-4e7f-9a10-c2d3e4f50617], tenant: 8a2f1c64-3b5d-4e7f-9a10-c2d3e4f50617",
            "preset_fixes",
            "one of the two",
        ),
        ("provider: cognito, audience: a", "missing_parameter", "pool: eu-west-1_"),
        ("provider: cognito, audience: a, pool: eu-west-1", "bad_parameter", "pool: eu-west-1_"),
        ("provider: cognito, audience: a, pool: eu.evil.com/_a", "bad_parameter", "pool: eu-west-1_"),
        ("provider: aws-iam, audience: a", "missing_parameter", "get-outbound-web-identity-federation-info"),
        (
            "provider: aws-iam, audience: a, url: 'https://tokens.sts.global.api.aws.evil.com'",
            "bad_parameter",
            "get-outbound",
        ),
        ("provider: aws-alb, audience: a, issuer: x, pem: a.pem", "missing_parameter", "the ARN of the load balancer"),
        ("provider: aws-alb, audience: a, signer: x, pem: a.pem", "missing_parameter", "authenticate-oidc"),
        ("provider: aws-alb, audience: a, signer: x, issuer: y", "missing_parameter", "region: eu-west-1"),
        (
            "provider: aws-alb, audience: a, signer: x, issuer: y, region: eu-west-1.evil.com/a",
            "bad_parameter",
            "region: eu-west-1",
        ),
        ("pem: 'https://a.org/{kid}', issuer: y, audience: a", "bad_url", "`signer`"),
        ("pem: 'https://a.org/k', issuer: y, audience: a, signer: x, from: ['header:x']", "bad_url", "/{kid}"),
        (
            "provider: aws-alb, audience: a, signer: x, issuer: y, pem: a.pem",
            "bad_signer",
            "arn:aws:elasticloadbalancing",
        ),
        (
            "provider: aws-alb, audience: a, signer: 'arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/*', issuer: y, pem: a.pem",
            "bad_signer",
            "arn:aws:elasticloadbalancing",
        ),
        (
            "jwks: 'https://a.org/k', issuer: y, audience: a, signer: 'arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/a/b'",
            "bad_signer",
            "header:X-Amzn-Oidc-Data",
        ),
        ("provider: google-iap, audience: shop", "bad_parameter", "/projects/NUMBER/"),
        (
            "provider: google-iap, audience: [/projects/1/apps/a, /projects/a/apps/a]",
            "bad_parameter",
            "/projects/NUMBER/",
        ),
        ("provider: keycloak, audience: a", "missing_parameter", "/realms/shop"),
        ("provider: keycloak, audience: a, url: 'https://id.example.com'", "bad_parameter", "/realms/shop"),
        (
            "provider: keycloak, audience: a, url: 'https://id.example.com/realms/shop/'",
            "bad_parameter",
            "/realms/shop",
        ),
        ("provider: cloudflare-access, audience: a", "missing_parameter", "acme.cloudflareaccess.com"),
        ("provider: cloudflare-access, team: acme.cloudflareaccess.com, audience: a", "bad_parameter", "team: acme"),
        ("provider: cloudflare-access, team: acme, audience: shop", "bad_parameter", "Audience (AUD) Tag"),
        (
            "provider: github-actions, audience: a, enterprise: a/b, require: claim:repository=a/b",
            "bad_parameter",
            "the slug",
        ),
        ("provider: kubernetes, audience: a, require: claim:sub=x", "missing_parameter", "/openid/v1/jwks"),
        ("provider: octa, audience: a", "unknown_provider", "did you mean `okta`?"),
        ("provider: saml, audience: a", "unknown_provider", "one of okta"),
        ("provider: okta, domain: acme.okta.com, audience: a, tenant: x", "not_of_provider", "`domain`, `server`"),
        (
            "provider: gitlab, audience: a, team: x, require: claim:project_id=1",
            "not_of_provider",
            "no keys of its own",
        ),
        (
            "url: 'https://a.org', audience: a, domain: acme.okta.com",
            "provider_missing",
            "`provider: okta` or `provider: auth0`",
        ),
    ] {
        let problems = load(issuer).expect_err(issuer);
        let found =
            problems.iter().find(|problem| problem.0 == code).unwrap_or_else(|| panic!("{issuer}: {problems:?}"));
        assert!(found.3.as_ref().is_some_and(|told| told.contains(cure)), "{issuer}: {found:?}");
    }
    assert_eq!(codes("provider: entra, tenant: [a], audience: a"), ["wrong_shape"]);
    assert_eq!(codes("provider: [okta], audience: a"), ["wrong_shape"]);
}

#[test]
fn a_key_that_would_make_another_issuer_is_refused_and_others_win() {
    for (issuer, key) in [
        ("provider: okta, domain: acme.okta.com, audience: a", "url"),
        ("provider: auth0, domain: acme.auth0.com, audience: a", "issuer"),
        (&format!("provider: entra, tenant: {TENANT}, audience: a"), "issuer"),
        ("provider: cognito, pool: eu-west-1_A, audience: a", "url"),
        ("provider: google, audience: a, require: claim:hd=a.com", "issuer"),
        ("provider: google-iap, audience: /projects/1/apps/a", "url"),
        ("provider: keycloak, url: 'https://a.org/realms/a', audience: a", "issuer"),
        (&format!("provider: cloudflare-access, team: a, audience: {TAG}"), "issuer"),
        ("provider: github-actions, audience: a, require: claim:repository=a/b", "issuer"),
        ("provider: gitlab, audience: a, require: claim:project_id=1", "issuer"),
        ("provider: aws-iam, audience: a, url: 'https://a.tokens.sts.global.api.aws'", "issuer"),
    ] {
        assert_eq!(codes(issuer), [""; 0], "{issuer}");
        assert_eq!(
            codes(&format!("{issuer}, {key}: 'https://evil.example.com/realms/x'")),
            ["preset_fixes"],
            "{issuer}"
        );
    }
    let own = explained(
        "provider: okta, domain: a.okta.com, audience: a, algorithms: [ES256], groups: g, scopes: s, from: ['header:X-T']",
    );
    for kept in ["algorithms: [ES256]", "groups: g", "scopes: s", "from: [header:X-T]"] {
        assert!(own.contains(kept), "{own}");
    }
}

#[test] // J15
fn where_subjects_are_the_whole_world_require_must_tell_ones_own_apart() {
    let github = "provider: github-actions, audience: a";
    let gitlab = "provider: gitlab, url: 'https://gitlab.example.com', audience: a";
    let google = "provider: google, audience: a";
    let cluster = "provider: kubernetes, url: 'https://k.example.com', audience: a";
    for world in [github, gitlab, google, cluster, "url: 'https://gitlab.com', audience: a"] {
        assert_eq!(codes(world), ["missing_key"], "{world}");
        assert_eq!(codes(&format!("{world}, require: signed-in")), ["require_too_open"], "{world}");
    }
    for (world, rule, open) in [
        (github, "claim:repository_owner=acme", false),
        (github, "claim:repository_owner=acme and claim:ref=refs/heads/main", false),
        (github, "claim:repository_owner=acme or claim:repository=b/c", false),
        (github, "claim:repository_owner=acme or claim:ref=refs/heads/main", true),
        (github, "not claim:repository_owner=acme", true),
        (github, "claim:repository_owner?", true),
        (github, "claim:environment=production", true),
        (github, "claim:actor=octocat", true),
        (gitlab, "claim:namespace_path=acme", false),
        (gitlab, "claim:ref_protected=true", true),
        (google, "claim:hd=example.com", false),
        (google, "claim:email_verified=true", true),
        (cluster, "claim:/kubernetes.io/namespace=shop", false),
        (cluster, "claim:/kubernetes.io/serviceaccount/name=default", true),
    ] {
        let found = codes(&format!("{world}, require: '{rule}'"));
        assert_eq!(found.contains(&"require_too_open"), open, "{rule}: {found:?}");
        assert!(open || found.is_empty(), "{rule}: {found:?}");
    }
}

#[test]
fn a_uuid_a_host_and_a_region_are_exactly_that() {
    assert!(
        is_uuid(TENANT)
            && !is_uuid("8a2f1c64-3b5d-4e7f-9a10-c2d3e4f5061")
            && !is_uuid("8a2f1c643b5d4e7f9a10c2d3e4f50617")
    );
    assert!(
        is_host("a.b-c.org")
            && !is_host("a")
            && !is_host("a..b")
            && !is_host("a.b/c")
            && !is_host("a.b:1")
            && !is_host("é.org")
    );
    assert!(
        aws::is_region("us-gov-west-1")
            && aws::is_region("eu-west-1")
            && !aws::is_region("eu-1")
            && !aws::is_region("eu-west-12")
    );
}

#[test]
fn the_schema_names_every_provider() {
    let schema = crate::config::schema::schema();
    let listed = schema.pointer("/$defs/issuers/properties/provider/enum").unwrap();
    assert_eq!(*listed, serde_json::json!(names()));
}
