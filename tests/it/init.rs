//! `portcullis init`: the shipped files word for word, the same with other addresses in the real gateways, and a policy to start from.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use portcullis::dev::envoy::Envoy;
use portcullis::dev::upstream::Upstream;

use crate::docs::read;
use crate::edge::{POLICY, Portcullis, issuer, replaced};
use crate::parts::caddy::{Caddy, caddy_program};
use crate::parts::haproxy::{Haproxy, haproxy_program};
use crate::parts::nginx::{Nginx, nginx_program};
use crate::support::{ANY_PORT, TempDir, ask, deserted_address, envoy_program};

/// Each gateway, and its files below `deploy/`: as they are called when written, and where they are.
const KINDS: &[(&str, &str, &[(&str, &str)])] = &[
    ("envoy", "", &[("envoy.yaml", "envoy/envoy.yaml")]),
    ("envoy-http", "", &[("envoy.yaml", "envoy/http-service.yaml")]),
    ("nginx", "", &[("portcullis.conf", "nginx/portcullis.conf")]),
    ("caddy", "", &[("Caddyfile", "caddy/Caddyfile")]),
    ("haproxy", "", &[("haproxy.cfg", "haproxy/haproxy.cfg"), ("portcullis.lua", "haproxy/portcullis.lua")]),
    ("traefik", "", &[("traefik.yaml", "traefik/traefik.yaml"), ("dynamic.yaml", "traefik/dynamic.yaml")]),
    ("istio", "", &[("istio-mesh.yaml", "kubernetes/istio-mesh.yaml"), ("istio.yaml", "kubernetes/istio.yaml")]),
    ("envoy-gateway", "", &[("envoy-gateway.yaml", "kubernetes/envoy-gateway.yaml")]),
    ("contour", "", &[("contour.yaml", "kubernetes/contour.yaml")]),
    ("kong", "kong", &[]),
];
const IN_CLUSTERS: &[&str] = &["istio", "envoy-gateway", "contour"];

const BY_HTTP: &str = "
listen: {http: '127.0.0.1:0'}
gateways:
  envoy-http: {by: 127.0.0.0/8, dialect: envoy-http}
  nginx: {by: 127.0.0.0/8, dialect: nginx}
  caddy: {by: 127.0.0.0/8, dialect: caddy}
  haproxy: {by: 127.0.0.0/8, dialect: haproxy}
headers: {X-Who: sub, X-Deep-Tenant_Id: tenant}
issuers: {main: {url: ISSUER, allow_http: true, cooldown: 0s, audience: shop-api, roles: roles, from: [bearer, 'cookie:session'], origins: ['https://app.test']}}
routes: {/health: public, /who: signed-in, /bare: {allow: signed-in, credential: strip}}
audit: none
";

fn init(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("init").args(arguments).output().unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = init(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// All files below a folder, by their paths in it.
fn below(folder: &Path, prefix: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            found.extend(below(&path, &format!("{name}/")));
        } else {
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn without_other_addresses_each_file_is_the_shipped_one() {
    for (kind, folder, files) in KINDS {
        let dir = TempDir::new();
        let out = dir.path().join("new");
        printed(&["--for", kind, "--out", out.to_str().unwrap()]);
        let mut expected: Vec<(String, String)> =
            files.iter().map(|(name, path)| ((*name).to_owned(), read(&format!("deploy/{path}")))).collect();
        if !folder.is_empty() {
            let all = below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(folder), "");
            // A manifest for the ingress controller is no file of a gateway.
            expected.extend(all.into_iter().filter(|(name, _)| name != "kubernetes.yaml"));
        }
        expected.sort();
        assert_eq!(below(&out, ""), expected, "{kind}");
        let text = printed(&["--for", kind]);
        if let [(_, only)] = expected.as_slice() {
            assert_eq!(text, *only, "{kind}");
        }
        for (name, file) in &expected {
            assert!(text.contains(file), "{kind}: {name}");
            assert!(expected.len() == 1 || text.contains(&format!(" ==> {name} <==\n")), "{kind}: {name}");
        }
    }
}

#[test]
fn every_shipped_address_has_its_place() {
    for (kind, ..) in KINDS.iter().filter(|(kind, ..)| !IN_CLUSTERS.contains(kind)) {
        let mut arguments = vec!["--for", kind, "--portcullis", "192.0.2.1:1111", "--upstream", "app.internal:2222"];
        if *kind != "kong" {
            arguments.extend(["--listen", "0.0.0.0:3333"]);
        }
        let text = printed(&arguments);
        let plain = |line: &&str| !["#", "--"].iter().any(|sign| line.trim_start().starts_with(sign));
        for (port, host) in [("1111", "192.0.2.1"), ("2222", "app.internal"), ("3333", "0.0.0.0")] {
            let lines: Vec<&str> = text.lines().filter(plain).filter(|line| line.contains(port)).collect();
            // Envoy names the server of an HTTP check twice.
            let number = if (*kind, port) == ("envoy-http", "1111") { 2 } else { 1 };
            let is_there = lines.len() == number && (*kind == "caddy" || lines.iter().all(|line| line.contains(host)));
            assert!(is_there || (*kind == "kong" && port == "3333"), "{kind}: {port}: {lines:?}");
        }
        for shipped in ["8000", "8080", "9000", "9002"] {
            let left: Vec<&str> = text.lines().filter(plain).filter(|line| line.contains(shipped)).collect();
            assert_eq!(left, [""; 0], "{kind}: {shipped}");
        }
        assert_eq!(text.contains("STRICT_DNS"), kind.starts_with("envoy"), "{kind}");
    }
}

#[test]
fn in_a_cluster_services_take_the_place_of_the_shipped_ones() {
    for kind in IN_CLUSTERS {
        let text = printed(&[
            "--for",
            kind,
            "--portcullis",
            "gate.guards.svc.cluster.local:1111",
            "--upstream",
            "app.team:2222",
        ]);
        let plain: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
        let has = |line: &str| plain.contains(&line);
        assert!(has("port: 1111") && !has("port: 9000"), "{kind}:\n{text}");
        assert!(!has("namespace: portcullis") && !has("namespace: shop") && has("namespace: team"), "{kind}:\n{text}");
        assert!(
            *kind == "istio" || (has("namespace: guards") && has("port: 2222") && has("- name: app")),
            "{kind}:\n{text}"
        );
        assert!(has("service: gate.guards.svc.cluster.local") == (*kind == "istio"), "{kind}:\n{text}");
        for outside in ["10.0.0.1:9000", "portcullis:9000", "a.b.example.com:9000"] {
            let refused = init(&["--for", kind, "--portcullis", outside]);
            assert!(!refused.status.success() && refused.stdout.is_empty(), "{kind} {outside}");
        }
        assert!(!init(&["--for", kind, "--listen", "127.0.0.1:80"]).status.success());
    }
}

#[test]
fn what_is_no_address_is_refused_and_no_file_is_replaced() {
    for bad in
        ["127.0.0.1:9002; return 200", "a b:1", "127.0.0.1", "$x:80", "a\n:80", "http://a:80", "a}:80", "\"a\":80"]
    {
        for flag in ["--portcullis", "--upstream", "--listen"] {
            let output = init(&["--for", "nginx", flag, bad]);
            assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{flag} {bad:?}");
            assert!(String::from_utf8_lossy(&output.stderr).contains("is not HOST:PORT"), "{flag} {bad:?}");
        }
    }
    assert!(!init(&["--for", "nginx", "--listen", "gateway.internal:80"]).status.success());
    let dir = TempDir::new();
    let action = dir.file("portcullis.lua", "mine");
    let output = init(&["--for", "haproxy", "--out", dir.path().to_str().unwrap()]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("is there already"));
    assert_eq!(fs::read_to_string(action).unwrap(), "mine");
    assert!(!dir.path().join("haproxy.cfg").exists());
}

#[test]
fn the_policy_to_start_from_passes_its_own_tests() {
    let dir = TempDir::new();
    let policy = dir.file("portcullis.yaml", printed(&[]));
    let run = Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("test").arg("-c").arg(policy).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success() && said.ends_with(" passed, 0 failed\n") && !said.starts_with("0 "), "{said}");
    assert!(run.stderr.is_empty());
}

/// What a gateway asks, what is behind it, and the arguments for both.
struct Behind {
    portcullis: Portcullis,
    upstream: Upstream,
    listen: SocketAddr,
    dir: TempDir,
}

impl Behind {
    async fn start(policy: &str) -> Self {
        let portcullis = Portcullis::with(issuer().await, policy).await;
        let upstream = Upstream::start(ANY_PORT).await.unwrap();
        Self { portcullis, upstream, listen: deserted_address(), dir: TempDir::new() }
    }

    fn printed(&self, kind: &str, asked: SocketAddr, more: &[&str]) -> String {
        let [asked, upstream, listen] = [asked, self.upstream.address(), self.listen].map(|at| at.to_string());
        let arguments = ["--for", kind, "--portcullis", &asked, "--upstream", &upstream, "--listen", &listen];
        printed(&[&arguments, more].concat())
    }

    /// The gateway passes who may, tells the application who it is, and refuses who may not.
    async fn holds(&self, kind: &str, header: &str) {
        let token = self.portcullis.premium();
        let path = if header == "x-who" { "/who" } else { "/secret-data" };
        let forged = format!("{header}: root\r\n");
        assert_eq!(ask(self.listen, get(path, "")).await.status, 401, "{kind}");
        let answer = ask(self.listen, get(path, &format!("{forged}{token}"))).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
        assert_eq!(crate::edge::seen(&answer, header), ["u1"], "{kind}");
        let public = ask(self.listen, get("/health", &forged)).await;
        assert!(public.status == 200 && !public.text().contains("root"), "{kind}: {}", public.text());
    }

    /// The application gets no credential where the policy strips it, and elsewhere what the caller sent.
    async fn strips(&self, kind: &str) {
        let token = self.portcullis.premium();
        let bare = token.trim_end().rsplit(' ').next().unwrap();
        let in_cookie = format!("Cookie: a=b; session={bare}; c=d\r\n");
        for (carrier, left) in [(&token, &[""; 0][..]), (&in_cookie, &["a=b; c=d"])] {
            let answer = ask(self.listen, get("/bare", carrier)).await;
            assert_eq!((answer.status, answer.text().contains(bare)), (200, false), "{kind}: {}", answer.text());
            assert_eq!(crate::edge::seen(&answer, "cookie").concat(), left.concat(), "{kind}");
            let kept = ask(self.listen, get("/who", carrier)).await;
            assert!(kept.status == 200 && kept.text().contains(bare), "{kind}: {}", kept.text());
            // One that was not sent is none, or empty.
            assert!(!kept.text().contains("http.reverse_proxy"), "{kind}: {}", kept.text());
        }
    }
}

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n{more}\r\n")
}

#[tokio::test]
async fn with_other_addresses_the_printed_file_runs_in_the_real_envoy() {
    let Some(program) = envoy_program() else { return };
    let behind = Behind::start(POLICY).await;
    let text = behind.printed("envoy", behind.portcullis.running.grpc[0], &[]);
    let text = replaced(&text.replace("timeout: 0.2s", "timeout: 5s"), "port_value: 9901", "port_value: 0");
    let envoy = Envoy::start(&program, &text).await.unwrap();
    assert_eq!(envoy.address(), behind.listen);
    behind.holds("envoy", "x-user-id").await;
}

#[tokio::test]
async fn with_other_addresses_and_the_policys_headers_the_printed_files_run_in_the_real_gateways() {
    let behind = Behind::start(BY_HTTP).await;
    let policy = behind.dir.file("p.yaml", BY_HTTP.replace("ISSUER", behind.portcullis.issuer.url()));
    let asked = behind.portcullis.running.http[0];
    let print = |kind: &str| behind.printed(kind, asked, &["-c", policy.to_str().unwrap()]);
    if let Some(program) = envoy_program() {
        let text = print("envoy-http").replace("timeout: 0.2s", "timeout: 5s");
        let envoy = Envoy::start(&program, &replaced(&text, "port_value: 9901", "port_value: 0")).await.unwrap();
        behind.holds("envoy-http", "x-who").await;
        behind.strips("envoy-http").await;
        envoy.stop().await;
    }
    if let Some(program) = nginx_program() {
        let _nginx = Nginx::run(&program, &print("nginx").replace("timeout 1s", "timeout 9s"), behind.listen);
        behind.holds("nginx", "x-who").await;
        behind.strips("nginx").await;
    }
    if let Some(program) = caddy_program() {
        let _caddy = Caddy::run(&program, &print("caddy").replace("timeout 1s", "timeout 9s"), behind.listen);
        behind.holds("caddy", "x-who").await;
        behind.strips("caddy").await;
    }
    if let Some(program) = haproxy_program() {
        let text = print("haproxy");
        let config = text.split("-- ==> portcullis.lua <==\n").next().unwrap();
        let config = config.split("# ==> haproxy.cfg <==\n").nth(1).unwrap();
        let _haproxy = Haproxy::run(&program, &replaced(config, " 500\n", " 9000\n"), behind.listen);
        behind.holds("haproxy", "x-who").await;
        behind.strips("haproxy").await;
    }
}
