//! The shipped Envoy file is clean; each change that breaks it is found, and nothing else is.

use super::{ENVOY_LINTS, inspect};
use crate::authz::policy::Policy;
use crate::config::compile;
use std::sync::Arc;

const SHIPPED: &str = include_str!("../../../deploy/envoy/envoy.yaml");

fn policy(text: &str) -> Arc<Policy> {
    let text =
        format!("issuers: {{main: {{url: https://id.example.com, audience: a}}}}\nroutes: {{/a: signed-in}}\n{text}\n");
    let (compiled, problems) = compile("p.yaml", &text, &|_| Err(std::io::ErrorKind::NotFound.into()));
    compiled.unwrap_or_else(|| panic!("{}", problems.render(false))).policy
}

/// What is found: `code` of an error, `~code` of a warning, each with the text of its line.
fn found(envoy: &str, with: Option<&str>) -> Vec<(String, String)> {
    let policy = with.map(policy);
    let problems = inspect("envoy.yaml", envoy, policy.as_deref());
    let lines: Vec<&str> = envoy.lines().collect();
    let told = problems.as_slice().iter().map(|problem| {
        assert!(ENVOY_LINTS.iter().any(|(code, _)| *code == problem.code), "{problem:?}");
        assert!(problem.cure.is_some(), "{problem:?}");
        let sign = if problem.severity == crate::config::Severity::Warning { "~" } else { "" };
        let line = lines[usize::try_from(problem.span.line).unwrap().saturating_sub(1)].trim().trim_start_matches("- ");
        (format!("{sign}{}", problem.code), line.to_owned())
    });
    told.collect()
}

/// The shipped file with one piece of text, which is there once, changed to another.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(SHIPPED.matches(from).count(), 1, "{from}");
    SHIPPED.replace(from, to)
}

/// What is before the first place of this text, and that place with what follows.
fn split_before<'t>(text: &'t str, at: &str) -> (&'t str, &'t str) {
    text.split_at(text.find(at).unwrap())
}

fn breaks(from: &str, to: &str, code: &str, line: &str) {
    assert_eq!(found(&changed(from, to), None), [(code.to_owned(), line.to_owned())], "{to}");
}

/// A line more before one that is there, as deep as that is.
fn adds(line: &str, before: &str, code: &str) {
    let indent =
        SHIPPED.lines().find(|here| here.trim() == before).map(|here| here.len().saturating_sub(before.len())).unwrap();
    breaks(before, &format!("{line}\n{}{before}", " ".repeat(indent)), code, line.lines().next().unwrap());
}

#[test]
fn the_shipped_file_is_clean() {
    assert_eq!(found(SHIPPED, None), []);
    assert_eq!(found(SHIPPED, Some("")), []);
}

#[test]
fn a_manager_that_does_not_ask_is_found() {
    let without = changed(
        "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "envoy.extensions.filters.http.buffer.v3.Buffer",
    );
    assert_eq!(found(&without, None), [("envoy_unchecked".into(), "http_filters:".into())]);
    assert_eq!(found("static_resources: {clusters: []}\n", None)[0].0, "envoy_no_manager");
    let (before, rest) = split_before(SHIPPED, "                  - name: envoy.filters.http.ext_authz");
    let (ours, rest) = split_before(rest, "                  - name: envoy.filters.http.router");
    let (router, after) = split_before(rest, "  clusters:");
    let swapped = [before, router, ours, after].concat();
    assert_eq!(found(&swapped, None), [("envoy_unchecked".into(), "name: envoy.filters.http.router".into())]);
}

#[test]
fn a_filter_in_front_or_behind_that_acts_is_found() {
    let filter = |name: &str| {
        format!("- name: envoy.filters.http.{name}\n                    typed_config: {{\"@type\": t/x.y.X}}\n")
    };
    let before = "- name: envoy.filters.http.ext_authz";
    for name in ["cors", "cache", "lua", "health_check"] {
        let text = changed(before, &format!("{}                  {before}", filter(name)));
        assert_eq!(found(&text, None), [("~envoy_filter_before".into(), format!("name: envoy.filters.http.{name}"))]);
    }
    let router = "- name: envoy.filters.http.router";
    for (name, tells) in [("lua", true), ("header_mutation", true), ("compressor", false), ("cors", false)] {
        let text = changed(router, &format!("{}                  {router}", filter(name)));
        let codes: Vec<String> = found(&text, None).into_iter().map(|(code, _)| code).collect();
        assert_eq!(codes, if tells { vec!["~envoy_filter_after"] } else { vec![] }, "{name}");
    }
}

#[test]
fn a_route_that_turns_the_check_off_is_found_wherever_it_stands() {
    const PER_ROUTE: &str = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute";
    const CONFIG: &str = "type.googleapis.com/envoy.config.route.v3.FilterConfig";
    for config in [format!("\"@type\": {PER_ROUTE}, disabled: true"), format!("\"@type\": {CONFIG}, disabled: true")] {
        for place in ["domains: [\"*\"]", "virtual_hosts:"] {
            let line = format!("typed_per_filter_config: {{envoy.filters.http.ext_authz: {{{config}}}}}");
            adds(&line, place, "envoy_disabled");
        }
    }
    let other = format!("typed_per_filter_config: {{mine: {{\"@type\": {PER_ROUTE}, disabled: true}}}}");
    adds(&other, "domains: [\"*\"]", "envoy_disabled");
    let on = changed(
        "domains: [\"*\"]",
        &format!(
            "typed_per_filter_config: {{envoy.filters.http.ext_authz: {{\"@type\": {PER_ROUTE}, disabled: false}}}}\n                      domains: [\"*\"]"
        ),
    );
    assert_eq!(found(&on, None), []);
    let cors = changed(
        "domains: [\"*\"]",
        "typed_per_filter_config: {envoy.filters.http.cors: {disabled: true}}\n                      domains: [\"*\"]",
    );
    assert_eq!(found(&cors, None), [], "another filter's business");
    let off = changed(
        "- name: envoy.filters.http.ext_authz",
        "- name: envoy.filters.http.ext_authz\n                    disabled: true",
    );
    assert_eq!(found(&off, None), [("envoy_disabled".into(), "disabled: true".into())]);
}

#[test]
fn a_filter_that_lets_requests_pass_without_an_answer_is_found() {
    breaks("failure_mode_allow: false", "failure_mode_allow: true", "envoy_fails_open", "failure_mode_allow: true");
    breaks("failure_mode_allow: false", "failureModeAllow: true", "envoy_fails_open", "failureModeAllow: true");
    let version = "transport_api_version: V3";
    adds("shadow_mode: true", version, "envoy_sometimes");
    adds("filter_enabled: {default_value: {numerator: 99, denominator: HUNDRED}}", version, "envoy_sometimes");
    adds("filter_enabled: {runtime_key: x}", version, "envoy_sometimes");
    adds(
        "filter_enabled_metadata: {filter: x, path: [{key: y}], value: {bool_match: true}}",
        version,
        "envoy_sometimes",
    );
    for fine in [
        "filter_enabled: {default_value: {numerator: 100}}",
        "filter_enabled: {default_value: {numerator: 1}}\n                      deny_at_disable: {default_value: true}",
    ] {
        let text = changed(version, &format!("{fine}\n                      {version}"));
        assert_eq!(found(&text, None), [], "{fine}");
    }
}

#[test]
fn what_the_filter_asks_and_how_is_looked_at() {
    let version = "transport_api_version: V3";
    breaks(version, "transport_api_version: V2", "envoy_api_version", "transport_api_version: V2");
    breaks(" timeout: 0.2s", " timeout: 30s", "~envoy_timeout", "timeout: 30s");
    breaks(" timeout: 0.2s", " timeout: 0s", "~envoy_timeout", "timeout: 0s");
    breaks("grpc_service:\n", "http_service:\n", "envoy_http_service", "http_service:");
    adds("with_request_body: {max_request_bytes: 8192}", version, "~envoy_body");
    adds("with_request_body: {max_request_bytes: 33554432}", version, "envoy_body");
    adds("clear_route_cache: true", version, "~envoy_reroutes");
    breaks("encode_raw_headers: true", "encode_raw_headers: false", "~envoy_raw_headers", "encode_raw_headers: false");
    breaks("validate_mutations: true", "validate_mutations: false", "~envoy_mutations", "validate_mutations: false");
    breaks(
        "decoder_header_mutation_rules:",
        "x_rules:",
        "~envoy_mutations",
        "\"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
    );
    breaks(
        "code: ServiceUnavailable",
        "code: Forbidden",
        "~envoy_status_on_error",
        "status_on_error: { code: Forbidden }",
    );
}

#[test]
fn headers_may_be_filtered_only_where_the_policy_says_so() {
    for list in
        ["allowed_headers: {patterns: [{exact: authorization}]}", "disallowed_headers: {patterns: [{exact: cookie}]}"]
    {
        adds(list, "transport_api_version: V3", "envoy_headers_filtered");
        let text =
            changed("transport_api_version: V3", &format!("{list}\n                      transport_api_version: V3"));
        assert_eq!(found(&text, Some("gateways: {edge: {by: unix, filtered_headers: true}}")), []);
    }
}

#[test]
fn paths_are_read_as_the_policy_reads_them() {
    breaks("normalize_path: true", "normalize_path: false", "~envoy_paths", "normalize_path: false");
    breaks("merge_slashes: true", "merge_slashes: false", "~envoy_paths", "merge_slashes: false");
    let action = "path_with_escaped_slashes_action: REJECT_REQUEST";
    let kept = "path_with_escaped_slashes_action: KEEP_UNCHANGED";
    breaks(action, kept, "~envoy_paths", kept);
    let slashes = Some("paths: [encoded_slash]");
    assert_eq!(found(SHIPPED, slashes), [("~envoy_paths".into(), action.into())]);
    assert_eq!(found(&changed(action, kept), slashes), []);
    assert_eq!(found(&changed("merge_slashes: true", "merge_slashes: false"), Some("paths: [empty_segment]")), []);
    breaks(
        "headers_with_underscores_action: REJECT_REQUEST",
        "headers_with_underscores_action: ALLOW",
        "~envoy_underscores",
        "common_http_protocol_options:",
    );
}

#[test]
fn an_address_that_callers_choose_is_found_where_the_policy_believes_it() {
    let remote = "use_remote_address: true";
    let open = changed(remote, "use_remote_address: false");
    let line = "use_remote_address: false".to_owned();
    let from = |from: &str| {
        format!("gateways: {{edge: {{by: unix, believes: [client_address], client_address: {{from: {from}}}}}}}")
    };
    assert_eq!(found(&open, None), [("~envoy_remote_address".into(), line.clone())]);
    assert_eq!(found(&open, Some(&from("connection"))), [("~envoy_remote_address".into(), line.clone())]);
    for believed in ["x-envoy-external-address", "xff, hops: 2"] {
        let told = found(&open, Some(&from(believed)));
        assert_eq!(
            told,
            [("envoy_client_address".into(), line.clone()), ("~envoy_remote_address".into(), line.clone())]
        );
        assert_eq!(found(SHIPPED, Some(&from(believed))), []);
    }
    let behind = changed(remote, "use_remote_address: true\n                xff_num_trusted_hops: 1");
    let told = found(&behind, Some(&from("connection")));
    assert_eq!(told, [("~envoy_client_address".into(), "xff_num_trusted_hops: 1".into())]);
    assert_eq!(found(&behind, Some(&from("x-envoy-external-address"))), []);
}

#[test]
fn a_certificate_that_the_policy_believes_is_sent() {
    let with = Some("gateways: {edge: {by: unix, believes: [certificate]}}");
    let config = "\"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz";
    assert_eq!(found(SHIPPED, with), [("~envoy_certificate".into(), config.into())]);
    let version = "transport_api_version: V3";
    let sent = changed(version, &format!("{version}\n                      include_peer_certificate: true"));
    assert_eq!(found(&sent, with), []);
}

#[test] // F04
fn a_header_about_certificates_that_the_policy_believes_is_set_by_this_envoy() {
    let with = Some("gateways: {edge: {by: unix, believes: [xfcc]}}");
    let remote = "use_remote_address: true";
    let codes = |more: &str| {
        let config = changed(remote, &[remote, more].join("\n                "));
        found(&config, with).into_iter().map(|(code, _)| code).collect::<Vec<_>>()
    };
    let uri = "set_current_client_cert_details: {uri: true}";
    assert_eq!(codes(uri), ["~envoy_xfcc"]);
    for (how, expected) in [
        ("SANITIZE", Some("~envoy_xfcc")),
        ("FORWARD_ONLY", Some("envoy_xfcc")),
        ("ALWAYS_FORWARD_ONLY", Some("envoy_xfcc")),
        ("APPEND_FORWARD", None),
        ("SANITIZE_SET", None),
    ] {
        let told = codes(&format!("forward_client_cert_details: {how}\n                {uri}"));
        assert_eq!(told, expected.into_iter().collect::<Vec<_>>(), "{how}");
    }
    assert_eq!(codes("forward_client_cert_details: SANITIZE_SET"), ["~envoy_xfcc"], "no URI");
    assert_eq!(found(SHIPPED, Some("gateways: {edge: {by: unix}}")), []);
}

#[test]
fn what_cannot_be_seen_is_said() {
    let (before, rest) = split_before(SHIPPED, "                route_config:");
    let (_, after) = split_before(rest, "                http_filters:");
    let rds = [before, "                rds: {route_config_name: edge}\n", after].concat();
    assert_eq!(found(&rds, None), [("~envoy_elsewhere".into(), "rds: {route_config_name: edge}".into())]);
    let broken = found_raw("a: [\n");
    assert!(broken.iter().all(|severity| *severity == crate::config::Severity::Error) && !broken.is_empty());
}

fn found_raw(text: &str) -> Vec<crate::config::Severity> {
    inspect("envoy.yaml", text, None).as_slice().iter().map(|problem| problem.severity).collect()
}

#[test]
fn a_config_dump_in_json_is_read_as_well() {
    let dump = r#"{"configs": [
      {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [{"active_state": {"listener": {
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": {
          "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
          "rds": {"route_config_name": "r"},
          "http_filters": [{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]
        }}]}]}}}]},
      {"@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump", "dynamic_route_configs": [{"route_config": {"virtual_hosts": [
        {"routes": [{"typed_per_filter_config": {"envoy.filters.http.ext_authz": {"@type": "t/x.ExtAuthzPerRoute", "disabled": true}}}]}]}}]}
    ]}"#;
    let codes: Vec<String> = found(dump, None).into_iter().map(|(code, _)| code).collect();
    assert!(codes.contains(&"envoy_unchecked".into()) && codes.contains(&"envoy_disabled".into()), "{codes:?}");
    assert!(!codes.iter().any(|code| code == "~envoy_elsewhere"), "{codes:?}");
}

#[test]
fn every_finding_has_a_test() {
    let tests = include_str!("tests.rs");
    assert!(ENVOY_LINTS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    for (code, _) in ENVOY_LINTS {
        assert!(tests.contains(code), "{code}");
    }
}
