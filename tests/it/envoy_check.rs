//! `portcullis check --gateway`: what it calls a hole is one in the real Envoy, and what is shipped has none.

use std::process::Command as Program;

use portcullis::dev::envoy::TEMPLATE;
use serde_json::Value;
use tokio::process::Command;

use crate::edge::{Site, get, replaced, shipped};
use crate::support::{TempDir, envoy_program};

/// Broken variants of the shipped file, each with what is found in it.
const BROKEN: &[(&str, &str, &str)] = &[
    ("failure_mode_allow: false", "failure_mode_allow: true", "envoy_fails_open"),
    (
        "transport_api_version: V3",
        "transport_api_version: V3\n                      shadow_mode: true",
        "envoy_sometimes",
    ),
    (
        "transport_api_version: V3",
        "transport_api_version: V3\n                      filter_enabled: {default_value: {numerator: 1, denominator: HUNDRED}}",
        "envoy_sometimes",
    ),
    ("domains: [\"*\"]", DISABLED, "envoy_disabled"),
    (
        "transport_api_version: V3",
        "transport_api_version: V3\n                      allowed_headers: {patterns: [{exact: authorization}]}",
        "envoy_headers_filtered",
    ),
];
const DISABLED: &str = "domains: [\"*\"]
                      typed_per_filter_config:
                        envoy.filters.http.ext_authz:
                          \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                          disabled: true";

/// Runs the check; whether it passed, and the codes that it tells.
fn check(envoy: &str, more: &[&str]) -> (bool, Vec<String>) {
    let dir = TempDir::new();
    let file = dir.file("envoy.yaml", envoy);
    let mut program = Program::new(env!("CARGO_BIN_EXE_portcullis"));
    let run = program.args(["check", "--format", "json", "--gateway"]).arg(file).args(more).output().unwrap();
    let told: Value = serde_json::from_slice(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    let problems = told["problems"].as_array().unwrap();
    assert_eq!(told["ok"], problems.iter().all(|problem| problem["severity"] == "warning"));
    for problem in problems {
        let code = problem["code"].as_str().unwrap();
        assert_eq!(problem["doc"].as_str().unwrap(), format!("docs/lints.md#{code}"));
    }
    (run.status.success(), problems.iter().map(|problem| problem["code"].as_str().unwrap().to_owned()).collect())
}

#[test]
fn the_shipped_file_is_clean_beside_the_shipped_policy() {
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/shop/portcullis.yaml");
    assert_eq!(check(TEMPLATE, &["-c", policy, "--deny-warnings"]), (true, vec![]));
    assert_eq!(check(TEMPLATE, &["--deny-warnings"]), (true, vec![]));
}

#[test]
fn holes_fail_the_check_and_warnings_only_where_they_are_denied() {
    for (from, to, code) in BROKEN {
        assert_eq!(check(&replaced(TEMPLATE, from, to), &[]), (false, vec![(*code).to_owned()]));
    }
    let warned = replaced(TEMPLATE, "merge_slashes: true", "merge_slashes: false");
    assert_eq!(check(&warned, &[]), (true, vec!["envoy_paths".to_owned()]));
    assert_eq!(check(&warned, &["--deny-warnings"]), (false, vec!["envoy_paths".to_owned()]));
}

#[test]
fn a_policy_s_warnings_can_be_denied_too() {
    let dir = TempDir::new();
    let policy = dir.file("portcullis.yaml", "routes: {/a/: public}\n");
    let passes = |more: &[&str]| {
        let mut program = Program::new(env!("CARGO_BIN_EXE_portcullis"));
        program.args(["check", "-c"]).arg(&policy).args(more).output().unwrap().status.success()
    };
    assert!(passes(&[]));
    assert!(!passes(&["--deny-warnings"]));
}

#[tokio::test]
async fn envoy_itself_starts_with_each_of_the_holes() {
    let Some(program) = envoy_program() else { return };
    let dir = TempDir::new();
    for (at, (from, to, _)) in BROKEN.iter().enumerate() {
        let file = dir.file(&format!("{at}.yaml"), replaced(TEMPLATE, from, to));
        let run = Command::new(&program).args(["--mode", "validate", "-c"]).arg(file).output().await.unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }
}

#[tokio::test]
async fn a_route_that_turns_the_check_off_is_open_in_the_real_envoy() {
    let Some(program) = envoy_program() else { return };
    let site = Site::start(&program, &replaced(&shipped(), "domains: [\"*\"]", DISABLED)).await;
    assert_eq!(site.ask(get("/secret-data", "")).await.status, 200);
    assert_eq!(site.upstream.seen(), 1, "nobody was asked");
}
