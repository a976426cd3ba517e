//! `portcullis dev` and `portcullis token` as a newcomer runs them: what is printed is pasted into a shell, and does what it says.

use std::net::SocketAddr;
use std::path::Path;

use portcullis::dev::wire::exchange;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::{DEADLINE, Process, TempDir, ask, deserted_address, envoy_program};

/// The last line before decisions are told.
const READY: &str = "Decisions, as they are made";

fn portcullis(command: &str) -> Command {
    let mut portcullis = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    portcullis.arg(command);
    portcullis
}

fn dev(envoy: &Path) -> Command {
    let mut dev = portcullis("dev");
    dev.arg("--any-ports").arg("--envoy").arg(envoy);
    dev
}

/// Where something listens, by the words that the banner has for it.
async fn place(dev: &mut Process, what: &str) -> SocketAddr {
    let line = dev.line_with(what).await;
    line.split_whitespace().next().unwrap().trim_start_matches("http://").parse().unwrap()
}

async fn is_deserted(address: SocketAddr) {
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, refused).await.unwrap();
}

async fn shell(line: &str) -> String {
    let output = Command::new("/bin/sh").args(["-c", line]).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What was printed to try: what to expect, and the line for a shell.
fn trials(log: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = log.lines().collect();
    let pairs = lines.windows(2).filter(|pair| pair[1].trim_start().starts_with("curl -si"));
    pairs.map(|pair| (pair[0].split_once(" -> ").unwrap().1.to_owned(), pair[1].trim().to_owned())).collect()
}

/// Holds what `curl -i` printed against what was said to expect.
fn assert_as_expected(expected: &str, command: &str, printed: &str) {
    let (head, body) = printed.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{command}:\n{printed}"));
    let mut expected = expected.splitn(2, ", ");
    let status = expected.next().unwrap();
    assert_eq!(head.split(' ').nth(1), Some(status), "{command}:\n{printed}");
    let of_upstream = |name: &str| -> Vec<String> {
        let seen: Value = serde_json::from_str(body).unwrap();
        let headers = seen["headers"].as_array().unwrap().iter();
        let named = headers.filter(|header| header[0].as_str().unwrap().replace('.', "-") == name);
        named.map(|header| header[1].as_str().unwrap().to_owned()).collect()
    };
    match expected.next().map(|more| more.strip_prefix("no ").ok_or(more)) {
        None => {}
        Some(Ok(absent)) => assert_eq!(of_upstream(absent), [""; 0], "{command}:\n{printed}"),
        Some(Err(header)) => {
            let (name, value) = header.split_once(": ").unwrap();
            match name {
                "location" => assert!(head.contains(&format!("location: {value}")), "{command}:\n{printed}"),
                _ => assert_eq!(of_upstream(name), [value], "{command}:\n{printed}"),
            }
        }
    }
}

#[tokio::test]
async fn every_line_that_dev_prints_does_what_it_says() {
    let Some(envoy) = envoy_program() else { return };
    let mut dev = Process::start(&mut dev(&envoy));
    dev.line_with(READY).await;
    let trials = trials(&dev.log());
    assert!(trials.len() >= 12, "{trials:?}");
    for (expected, command) in &trials {
        assert_as_expected(expected, command, &shell(command).await);
    }
    for told in
        ["allow  GET /secret-data", "deny   PUT /profile/{id}", "credential_missing", "token_expired", "no_route"]
    {
        dev.line_with(told).await;
    }
    // S01: a path may hold a secret.
    assert!(!dev.log().split(READY).nth(1).unwrap().contains("/t/acme"));

    let token = dev.line_with(" token --issuer-url").await;
    assert_eq!(shell(token.trim()).await.trim().split('.').count(), 3, "{token}");
    let rotate = dev.line_with("curl -s -X POST").await;
    let (expected, allowed) = trials.iter().find(|(_, command)| command.contains("-d roles=premium")).unwrap();
    assert!(shell(&rotate).await.contains("kid"), "{rotate}");
    // At once, unless keys were fetched within the last second.
    let rotated = async { while !shell(allowed).await.starts_with("HTTP/1.1 200") {} };
    tokio::time::timeout(DEADLINE, rotated).await.unwrap();
    assert_as_expected(expected, allowed, &shell(allowed).await);

    let gateway = place(&mut dev, "Envoy, the gateway").await;
    let policy = dev.line_with("portcullis.yaml").await;
    assert!(Path::new(policy.trim()).exists(), "{policy}");
    dev.signal("TERM");
    assert!(dev.ended().await.success(), "{}", dev.log());
    for what in ["the application", "an issuer that", "which a gateway asks", "/readyz"] {
        is_deserted(place(&mut dev, what).await).await;
    }
    is_deserted(gateway).await;
    assert!(!Path::new(policy.trim()).exists(), "{policy}");
}

#[tokio::test]
async fn a_changed_sample_is_in_force_while_it_runs() {
    let Some(envoy) = envoy_program() else { return };
    let mut dev = Process::start(&mut dev(&envoy));
    dev.line_with(READY).await;
    let gateway = place(&mut dev, "Envoy, the gateway").await;
    let request = "GET /new HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(gateway, request).await.status, 403);
    let policy = dev.line_with("portcullis.yaml").await;
    let written = std::fs::read_to_string(policy.trim()).unwrap();
    std::fs::write(policy.trim(), written.replace("GET /health: ", "GET /new: ")).unwrap();
    let changed = async { while ask(gateway, request).await.status != 200 {} };
    tokio::time::timeout(DEADLINE, changed).await.unwrap();
    dev.signal("INT");
    assert!(dev.ended().await.success(), "{}", dev.log());
    is_deserted(gateway).await;
}

#[tokio::test]
async fn a_policy_of_ones_own_takes_the_samples_place() {
    let Some(envoy) = envoy_program() else { return };
    let dir = TempDir::new();
    let policy = dir.file("mine.yaml", "routes: {GET /mine: public}\n");
    let mut dev = Process::start(dev(&envoy).arg("-c").arg(&policy));
    dev.line_with(READY).await;
    assert!(trials(&dev.log()).is_empty());
    let gateway = place(&mut dev, "Envoy, the gateway").await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n");
    assert_eq!(ask(gateway, get("/mine")).await.status, 200);
    assert_eq!(ask(gateway, get("/health")).await.status, 403);
    dev.signal("HUP");
    assert!(dev.ended().await.success(), "{}", dev.log());
    assert!(policy.exists());
}

#[tokio::test]
async fn an_envoy_that_ends_by_itself_ends_dev_with_an_error() {
    let Some(envoy) = envoy_program() else { return };
    let admin = deserted_address();
    let mut fixed = portcullis("dev");
    fixed.arg("--envoy").arg(&envoy).arg("--envoy-admin-port").arg(admin.port().to_string());
    for port in ["--port", "--grpc-port", "--admin-port", "--issuer-port", "--upstream-port"] {
        fixed.args([port, "0"]);
    }
    let mut dev = Process::start(&mut fixed);
    dev.line_with(READY).await;
    let quit = format!("POST /quitquitquit HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 0\r\n\r\n");
    _ = exchange(admin, quit.as_bytes(), DEADLINE).await;
    dev.line_with("envoy ended by itself").await;
    assert!(!dev.ended().await.success());
}

#[tokio::test]
async fn without_an_envoy_all_else_runs_and_it_is_said_how_to_get_one() {
    let dir = TempDir::new();
    let mut alone = portcullis("dev");
    let mut dev = Process::start(alone.arg("--any-ports").env_remove("ENVOY").env("PATH", "").current_dir(dir.path()));
    dev.line_with("make setup").await;
    let issuer = place(&mut dev, "an issuer that").await;
    let url = format!("http://{issuer}");
    let token = portcullis("token").args(["--issuer-url", &url, "--roles", "admin"]).output().await.unwrap();
    assert!(token.status.success());
    assert_eq!(String::from_utf8(token.stdout).unwrap().trim().split('.').count(), 3);
    let portcullis = place(&mut dev, "which a gateway asks").await;
    assert!(TcpStream::connect(portcullis).await.is_ok());
    dev.signal("INT");
    assert!(dev.ended().await.success(), "{}", dev.log());
    is_deserted(issuer).await;
}

#[tokio::test]
async fn every_taken_port_is_named_with_the_flag_that_chooses_another() {
    let taken: Vec<_> = (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let port = |place: usize| taken[place].local_addr().unwrap().port().to_string();
    let mut blocked = portcullis("dev");
    blocked.args(["--issuer-port", &port(0), "--upstream-port", &port(1)]);
    for flag in ["--port", "--grpc-port", "--admin-port", "--envoy-admin-port"] {
        blocked.args([flag, "0"]);
    }
    let output = blocked.output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    for (place, flag) in [(0, "--issuer-port"), (1, "--upstream-port")] {
        let line = said.lines().find(|line| line.starts_with(&format!("port {} ", port(place)))).expect("it is named");
        assert!(line.contains("lsof") && line.contains(flag), "{line}");
    }
    assert!(!said.contains("port 0 "), "{said}");
}

#[tokio::test]
async fn a_token_needs_an_issuer_that_runs_on_this_machine() {
    let nobody = format!("http://{}", deserted_address());
    let output = portcullis("token").args(["--issuer-url", &nobody]).output().await.unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(String::from_utf8(output.stderr).unwrap().contains("portcullis dev"));
    let output = portcullis("token").args(["--issuer-url", "http://192.0.2.1:9002"]).output().await.unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(String::from_utf8(output.stderr).unwrap().contains("on this machine"));
}
