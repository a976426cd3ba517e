//! `portcullis probe` against the real Envoy: clean with the shipped file, and each hole of a broken one found and named.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use portcullis::config::{Compiled, compile};
use portcullis::dev::envoy::Envoy;
use portcullis::dev::upstream::Upstream;
use portcullis::probe::echo::Echo;
use portcullis::probe::{Gateway, Options, ProbeError, Report, Trust, probe};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::edge::{POLICY, Portcullis, failing_open, issuer, replaced, shipped};
use crate::parts::caddy::{self, Caddy, caddy_program};
use crate::parts::haproxy::{self, Haproxy, haproxy_program};
use crate::parts::nginx::{self, Nginx, nginx_program};
use crate::support::{ANY_PORT, Process, TempDir, deserted_address, envoy_program, start_envoy_with};

const EXT_AUTHZ: &str = "                  - name: envoy.filters.http.ext_authz\n";
const ROUTER: &str = "                  - name: envoy.filters.http.router\n";
const ROUTE: &str =
    "                        - match: { prefix: / }\n                          route: { cluster: application }\n";

/// An Envoy, what it asks, and the echo behind it.
struct Attacked {
    envoy: Envoy,
    echo: Echo,
    portcullis: Portcullis,
    policy: Compiled,
}

fn compiled(portcullis: &Portcullis) -> Compiled {
    let text = POLICY.replace("ISSUER", portcullis.issuer.url());
    let (policy, problems) = compile("p.yaml", &text, &|_| Err(std::io::ErrorKind::NotFound.into()));
    policy.unwrap_or_else(|| panic!("{problems}"))
}

impl Attacked {
    async fn start(program: &Path, template: &str) -> Self {
        let portcullis = Portcullis::with(issuer().await, POLICY).await;
        let echo = Echo::start(ANY_PORT).await.unwrap();
        let envoy = start_envoy_with(program, template, portcullis.running.grpc[0], echo.address()).await;
        let policy = compiled(&portcullis);
        Self { envoy, echo, portcullis, policy }
    }

    fn token(&self) -> String {
        self.portcullis.issuer.token(&json!({"sub": "u1", "roles": ["premium"]}))
    }

    /// The same, with another file.
    async fn with(&mut self, program: &Path, template: &str) {
        let asked = self.portcullis.running.grpc[0];
        self.envoy = start_envoy_with(program, template, asked, self.echo.address()).await;
    }

    async fn probe(&self, options: &Options) -> Report {
        probe(options, Some(&self.policy)).await.unwrap()
    }
}

fn options(at: SocketAddr) -> Options {
    Options {
        url: format!("http://{at}").parse().unwrap(),
        host: Some("shop.test".into()),
        public: Vec::new(),
        protected: Vec::new(),
        headers: Vec::new(),
        token: None,
        upstream: None,
        portcullis: None,
        gateway: None,
        trust: Trust::System,
        deadline: Duration::from_secs(10),
        total: Duration::from_secs(300),
    }
}

fn codes(report: &Report) -> Vec<&'static str> {
    report.findings.iter().map(|finding| finding.code).collect()
}

/// A route of Envoy's that asks nobody.
fn unasked(what: &str) -> String {
    format!(
        "                        - match: {{ {what} }}
                          route: {{ cluster: application }}
                          typed_per_filter_config:
                            envoy.filters.http.ext_authz:
                              \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                              disabled: true
{ROUTE}"
    )
}

fn lua(code: &str) -> String {
    format!(
        "                  - name: envoy.filters.http.lua
                    typed_config:
                      \"@type\": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
                      default_source_code:
                        inline_string: |
                          function envoy_on_request(h)
                            {code}
                          end
"
    )
}

#[tokio::test] // N10, N11, J01
async fn nothing_gets_through_the_shipped_envoy() {
    let Some(program) = envoy_program() else { return };
    let site = Attacked::start(&program, &shipped()).await;
    let options = Options {
        token: Some(site.token()),
        protected: vec!["/secret-data".into()],
        upstream: Some(format!("http://{}", deserted_address()).parse().unwrap()),
        ..options(site.envoy.address())
    };
    let report = site.probe(&options).await;
    let text = report.text();
    assert_eq!((report.through, report.untold), (0, 0), "{text}");
    assert_eq!(report.gateway, Some(Gateway::Envoy));
    assert!(report.held > 400, "{text}");
    let notes: Vec<&str> = report.notes.iter().map(|note| note.code).collect();
    assert_eq!(notes, ["override_passed"], "{text}");
    assert!(!format!("{report:?}{text}").contains(options.token.as_ref().unwrap().split('.').nth(2).unwrap()));
}

/// The code that is to be found, the setting that is to be named, and the broken file.
#[expect(clippy::too_many_lines, reason = "a table")]
fn broken() -> Vec<(&'static str, &'static str, String)> {
    let with = |from: &str, to: String| replaced(&shipped(), from, &to);
    let beside = |line: &str| with("encode_raw_headers: true", format!("encode_raw_headers: true\n{:22}{line}", ""));
    let before = |filter: String| with(EXT_AUTHZ, format!("{filter}{EXT_AUTHZ}"));
    let after = |filter: String| with(ROUTER, format!("{filter}{ROUTER}"));
    let raw_paths = shipped()
        .replace("normalize_path: true", "normalize_path: false")
        .replace("merge_slashes: true", "merge_slashes: false")
        .replace("slashes_action: REJECT_REQUEST", "slashes_action: KEEP_UNCHANGED");
    vec![
        ("protected_open", "ExtAuthzPerRoute", with(ROUTE, unasked("prefix: /secret"))),
        ("protected_open", "shadow_mode", beside("shadow_mode: true")),
        ("forged_header", "every route through ext_authz", with(ROUTE, unasked("prefix: /health"))),
        ("path_dot_segment", "normalize_path: true", replaced(&raw_paths, ROUTE, &unasked("prefix: /health"))),
        ("path_backslash", "REJECT_REQUEST", replaced(&raw_paths, ROUTE, &unasked("prefix: /health"))),
        (
            "upgrade",
            "ExtAuthzPerRoute",
            with(ROUTE, unasked("prefix: /, headers: [{name: upgrade, present_match: true}]")),
        ),
        (
            "preflight_incomplete",
            "no CORS filter before ext_authz",
            with(ROUTE, unasked("prefix: /, headers: [{name: \":method\", string_match: {exact: OPTIONS}}]")),
        ),
        (
            "forged_alias",
            "allowed_headers",
            with(
                "encode_raw_headers: true",
                "allowed_headers: {patterns: [{exact: authorization}, {prefix: \":\"}, {exact: host}]}".into(),
            ),
        ),
        ("forged_alias", "disallowed_headers", beside("disallowed_headers: {patterns: [{prefix: x.user}]}")),
        (
            "forwarded_alias",
            "headers_with_underscores_action: REJECT_REQUEST",
            with("headers_with_underscores_action: REJECT_REQUEST", "headers_with_underscores_action: ALLOW".into()),
        ),
        (
            "forwarded_for",
            "use_remote_address: true",
            with("use_remote_address: true", "use_remote_address: false".into()),
        ),
        (
            "envoy_headers",
            "use_remote_address: true",
            with("use_remote_address: true", "use_remote_address: false".into()),
        ),
        (
            "forwarded_for",
            "xff_num_trusted_hops",
            with("use_remote_address: true", format!("use_remote_address: true\n{:16}xff_num_trusted_hops: 1", "")),
        ),
        (
            "override_decision",
            "no filter, and no Lua",
            after(lua("local p = h:headers():get('x-forwarded-prefix') if p then h:headers():replace(':path', p) end")),
        ),
        (
            "override_decision",
            "no filter, and no Lua",
            before(lua("local p = h:headers():get('x-original-url') if p then h:headers():replace(':path', p) end")),
        ),
        (
            "forged_header",
            "nothing behind ext_authz",
            replaced(
                &before(lua("local v = h:headers():get('x-user-id') if v then h:headers():add('x-saved', v) end")),
                ROUTER,
                &format!(
                    "{}{ROUTER}",
                    lua("local v = h:headers():get('x-saved') if v then h:headers():add('x-user-id', v) end")
                ),
            ),
        ),
    ]
}

#[tokio::test]
async fn each_hole_of_a_broken_envoy_is_found_and_its_setting_named() {
    let Some(program) = envoy_program() else { return };
    let mut site = Attacked::start(&program, &shipped()).await;
    for (code, setting, file) in broken() {
        site.with(&program, &file).await;
        let report = site.probe(&options(site.envoy.address())).await;
        let found = report.findings.iter().find(|finding| finding.code == code);
        let found = found.unwrap_or_else(|| panic!("{code} was not found:\n{}", report.text()));
        assert!(found.cures.iter().any(|(_, cure)| cure.contains(setting)), "{code}, {setting}: {:?}", found.cures);
        assert!(found.cures.iter().all(|(gateway, _)| *gateway == Gateway::Envoy), "{code}");
        assert!(!found.happened.is_empty() && found.request.contains(" HTTP/1."), "{found:?}");
    }
}

#[tokio::test]
async fn paths_and_preflights_that_only_portcullis_sees_or_never_does_are_worth_a_word() {
    let Some(program) = envoy_program() else { return };
    let raw = replaced(&shipped(), "normalize_path: true", "normalize_path: false");
    let cors = "                  - name: envoy.filters.http.cors
                    typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}
";
    let shares = "                          typed_per_filter_config:
                            envoy.filters.http.cors:
                              \"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy
                              allow_origin_string_match: [{safe_regex: {regex: \".*\"}}]
                              allow_methods: GET
";
    let file = replaced(&raw, EXT_AUTHZ, &format!("{cors}{EXT_AUTHZ}"));
    let site = Attacked::start(&program, &replaced(&file, ROUTE, &format!("{ROUTE}{shares}"))).await;
    let report = site.probe(&options(site.envoy.address())).await;
    assert_eq!(report.through, 0, "{}", report.text());
    for (code, setting) in [("path_unread", "normalize_path: true"), ("preflight", "CORS filter before ext_authz")] {
        let note = report.notes.iter().find(|note| note.code == code);
        let note = note.unwrap_or_else(|| panic!("{code}: {}", report.text()));
        assert!(note.cures[0].1.contains(setting), "{note:?}");
    }
}

#[tokio::test]
async fn an_envoy_that_fails_open_is_found_when_portcullis_is_down_and_one_that_fails_closed_cannot_be_judged() {
    let Some(program) = envoy_program() else { return };
    let echo = Echo::start(ANY_PORT).await.unwrap();
    let portcullis = Portcullis::with(issuer().await, POLICY).await;
    let policy = compiled(&portcullis);
    let open = start_envoy_with(&program, &failing_open(), deserted_address(), echo.address()).await;
    let report = probe(&options(open.address()), Some(&policy)).await.unwrap();
    for code in ["protected_open", "unknown_open", "forged_header"] {
        assert!(codes(&report).contains(&code), "{}", report.text());
    }
    assert!(report.text().contains("failure_mode_allow: false"));
    let closed = start_envoy_with(&program, &shipped(), deserted_address(), echo.address()).await;
    let error = probe(&options(closed.address()), Some(&policy)).await.unwrap_err();
    assert!(
        matches!(&error, ProbeError::NoBaseline(said) if said.contains("GET /health without a credential: 503")),
        "{error}"
    );
    let error = probe(&options(deserted_address()), Some(&policy)).await.unwrap_err();
    assert!(matches!(error, ProbeError::Unreachable(..)), "{error}");
}

#[tokio::test]
async fn what_can_be_reached_past_the_gateway_is_found() {
    let Some(program) = envoy_program() else { return };
    let site = Attacked::start(&program, &shipped()).await;
    let direct = Options {
        upstream: Some(format!("http://{}", site.echo.address()).parse().unwrap()),
        portcullis: Some(format!("http://{}", site.portcullis.running.admin).parse().unwrap()),
        ..options(site.envoy.address())
    };
    let report = site.probe(&direct).await;
    assert_eq!(codes(&report), ["upstream_direct", "admin_direct"], "{}", report.text());
}

#[tokio::test]
async fn without_the_echo_nothing_that_cannot_be_told_counts_as_held() {
    let Some(program) = envoy_program() else { return };
    let upstream = Upstream::start(ANY_PORT).await.unwrap();
    let portcullis = Portcullis::with(issuer().await, POLICY).await;
    let policy = compiled(&portcullis);
    let asked = portcullis.running.grpc[0];
    let envoy = start_envoy_with(&program, &shipped(), asked, upstream.address()).await;
    let report = probe(&options(envoy.address()), Some(&policy)).await.unwrap();
    assert_eq!(report.through, 0, "{}", report.text());
    assert!(report.unjudged.iter().any(|unjudged| unjudged.code == "forged_header"), "{}", report.text());
    let envoy = start_envoy_with(
        &program,
        &replaced(&shipped(), ROUTE, &unasked("prefix: /secret")),
        asked,
        upstream.address(),
    )
    .await;
    let report = probe(&options(envoy.address()), Some(&policy)).await.unwrap();
    assert_eq!(codes(&report), ["protected_open"], "{}", report.text());
}

#[tokio::test]
async fn the_commands_exit_code_says_what_the_probe_found() {
    let Some(program) = envoy_program() else { return };
    let dir = TempDir::new();
    let portcullis = Portcullis::with(issuer().await, POLICY).await;
    let policy = dir.file("portcullis.yaml", POLICY.replace("ISSUER", portcullis.issuer.url()));
    let mut echo =
        Process::start(Command::new(env!("CARGO_BIN_EXE_portcullis")).args(["echo", "--listen", "127.0.0.1:0"]));
    let line = echo.line_with("listens on http://").await;
    let upstream = line.split("http://").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    let run = async |file: &str| {
        let envoy = start_envoy_with(&program, file, portcullis.running.grpc[0], upstream).await;
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("probe").arg(format!("http://{}", envoy.address())).arg("-c").arg(&policy).arg("--json");
        let out = command.output().await.unwrap();
        let said: Value = serde_json::from_slice(&out.stdout).unwrap();
        (out.status.code(), said)
    };
    let (code, said) = run(&shipped()).await;
    assert_eq!((code, &said["findings"], &said["gateway"]), (Some(0), &json!([]), &json!("envoy")), "{said}");
    let (code, said) = run(&replaced(&shipped(), ROUTE, &unasked("prefix: /secret"))).await;
    assert_eq!((code, &said["findings"][0]["code"]), (Some(1), &json!("protected_open")), "{said}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    let nowhere = command.args(["probe", &format!("http://{}", deserted_address()), "--protected", "/a"]).output();
    let nowhere = nowhere.await.unwrap();
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("nothing answers"));
}

/// For the gateways that ask by HTTP.
const BY_HTTP: &str = "
listen: {http: '127.0.0.1:0'}
issuers: {main: {url: ISSUER, allow_http: true, cooldown: 0s, audience: shop-api, roles: roles}}
gateways:
  nginx: {by: 127.0.0.0/8, dialect: nginx}
  caddy: {by: 127.0.0.0/8, dialect: caddy}
  haproxy: {by: 127.0.0.0/8, dialect: haproxy}
headers: {X-User-ID: sub, X-User-Roles: roles, X-Tenant: tenant}
routes:
  GET /health: public
  /secret-data: role:premium
  /chat: role:premium
audit: none
";

/// What a gateway that asks by HTTP asks, and the echo behind it.
struct Asked {
    portcullis: Portcullis,
    echo: Echo,
    policy: Compiled,
}

impl Asked {
    async fn start() -> Self {
        let portcullis = Portcullis::with(issuer().await, BY_HTTP).await;
        let text = BY_HTTP.replace("ISSUER", portcullis.issuer.url());
        let (policy, problems) = compile("p.yaml", &text, &|_| Err(std::io::ErrorKind::NotFound.into()));
        let policy = policy.unwrap_or_else(|| panic!("{problems}"));
        Self { portcullis, echo: Echo::start(ANY_PORT).await.unwrap(), policy }
    }

    fn http(&self) -> SocketAddr {
        self.portcullis.running.http[0]
    }

    async fn probe(&self, at: SocketAddr, gateway: Gateway) -> Report {
        let token = self.portcullis.issuer.token(&json!({"sub": "u1", "roles": ["premium"], "tenant": "acme"}));
        let options = Options { token: Some(token), gateway: Some(gateway), ..options(at) };
        probe(&options, Some(&self.policy)).await.unwrap()
    }

    /// Nothing gets through the shipped file, and the hole of each broken one is found and its setting named.
    async fn holds(
        &self,
        gateway: Gateway,
        start: impl Fn(&str) -> (SocketAddr, Box<dyn std::any::Any>),
        files: Files,
    ) {
        let (shipped, broken) = files;
        let (at, _running) = start(&shipped);
        let report = self.probe(at, gateway).await;
        assert_eq!((report.through, report.untold, report.incomplete), (0, 0, false), "{}", report.text());
        assert!(report.held > 400, "{}", report.text());
        for (code, setting, file) in broken {
            let (at, _running) = start(&file);
            let report = self.probe(at, gateway).await;
            let found = report.findings.iter().find(|finding| finding.code == code);
            let found = found.unwrap_or_else(|| panic!("{gateway:?}: {code} was not found:\n{}", report.text()));
            assert!(found.cures[0].1.contains(setting), "{code}, {setting}: {:?}", found.cures);
        }
    }
}

/// The shipped file, and broken ones: the code that is to be found, the setting that is to be named.
type Files = (String, Vec<(&'static str, &'static str, String)>);

#[tokio::test]
async fn nothing_gets_through_the_shipped_nginx_and_each_hole_of_a_broken_one_is_found() {
    let Some(program) = nginx_program() else { return };
    let asked = Asked::start().await;
    let shipped = replaced(nginx::TEMPLATE, "timeout 1s", "timeout 9s");
    let with = |from: &str, to: &str| replaced(&shipped, from, to);
    let open = "    location / {";
    let own =
        "    location /health { proxy_pass http://application; proxy_set_header Host $http_host; }\n    location / {";
    let elsewhere = with("    auth_request /__portcullis;\n", "");
    let elsewhere = replaced(
        &elsewhere,
        open,
        "    location /chat { proxy_pass http://application; }\n    location / {\n        auth_request /__portcullis;",
    );
    let broken = vec![
        ("forged_header", "proxy_set_header", with("    proxy_set_header X-User-ID    $portcullis_x_user_id;\n", "")),
        ("forged_header", "it inherits none", with(open, own)),
        ("protected_open", "`auth_request` at the level of `server`", elsewhere),
        (
            "forwarded_alias",
            "underscores_in_headers off",
            with("underscores_in_headers off", "underscores_in_headers on"),
        ),
        (
            "override_decision",
            "X-Original-URI",
            with("X-Original-URI     $request_uri", "X-Original-URI     $http_x_original_uri"),
        ),
        (
            "forwarded_for",
            "X-Forwarded-For $remote_addr",
            with("X-Forwarded-For   $remote_addr", "X-Forwarded-For   $http_x_forwarded_for"),
        ),
        (
            "hop_by_hop_identity",
            "never `$http_connection`",
            with("Connection $portcullis_connection", "Connection $http_connection"),
        ),
    ];
    let start = |file: &str| -> (SocketAddr, Box<dyn std::any::Any>) {
        let nginx = Nginx::start(&program, file, asked.http(), asked.echo.address());
        (nginx.address(), Box::new(nginx))
    };
    asked.holds(Gateway::Nginx, start, (shipped.clone(), broken)).await;
}

#[tokio::test]
async fn nothing_gets_through_the_shipped_caddy_and_each_hole_of_a_broken_one_is_found() {
    let Some(program) = caddy_program() else { return };
    let asked = Asked::start().await;
    let shipped = replaced(caddy::TEMPLATE, "timeout 1s", "timeout 9s");
    let with = |from: &str, to: &str| replaced(&shipped, from, to);
    let uncopied = replaced(&with("\t\t\tcopy_headers X-User-ID\n", ""), "\t\trequest_header -X-User-ID\n", "");
    let broken = vec![
        ("forged_header", "copy_headers", uncopied),
        ("forged_always", "copy_headers", with("\t\trequest_header -X-Original-*\n", "")),
        (
            "protected_open",
            "for every path",
            with("forward_auth 127", "@some path /secret*\n\t\tforward_auth @some 127"),
        ),
    ];
    let start = |file: &str| -> (SocketAddr, Box<dyn std::any::Any>) {
        let caddy = Caddy::start(&program, file, asked.http(), asked.echo.address());
        (caddy.address(), Box::new(caddy))
    };
    asked.holds(Gateway::Caddy, start, (shipped.clone(), broken)).await;
}

#[tokio::test]
async fn nothing_gets_through_the_shipped_haproxy_and_each_hole_of_a_broken_one_is_found() {
    let Some(program) = haproxy_program() else { return };
    let asked = Asked::start().await;
    let shipped = replaced(haproxy::TEMPLATE, ":9002 500", ":9002 9000");
    let with = |from: &str, to: &str| replaced(&shipped, from, to);
    let unasked = with("9002 9000\n", "9002 9000 unless { path_beg /health }\n");
    let unasked = replaced(&unasked, "unless { var(txn", "unless { path_beg /health } or { var(txn");
    let told = with("    http-request set-header X-Forwarded-For %[src]\n", "");
    let broken = vec![
        ("path_dot_segment", "normalize-uri", unasked.clone()),
        ("forged_alias", "req.hdr_names", unasked),
        (
            "forwarded_for",
            "del-header X-Forwarded-For",
            replaced(&told, "    http-request del-header x-forwarded- -m beg\n", ""),
        ),
    ];
    let start = |file: &str| -> (SocketAddr, Box<dyn std::any::Any>) {
        let haproxy = Haproxy::start(&program, file, asked.http(), asked.echo.address());
        (haproxy.address(), Box::new(haproxy))
    };
    asked.holds(Gateway::Haproxy, start, (shipped.clone(), broken)).await;
}
