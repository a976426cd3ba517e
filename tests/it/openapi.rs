//! JSON over the wire: the example of its page, its document, and schemathesis, which holds the service to that document.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis::dev::wire::{Answer, Connection};
use portcullis::gateway::json;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::docs::{blocks, read};
use crate::edge::{self, Portcullis};
use crate::support::{DEADLINE, TempDir, ask};

const POLICY: &str = "
issuers: {main: {url: ISSUER, allow_http: true, cooldown: 0s, audience: shop-api, roles: roles}}
headers: {X-User-ID: sub}
metadata: {tier: claim:tier}
response_headers: {X-Served-For: sub}
gateways: {edge: {by: 127.0.0.0/8, dialect: json, believes: [client_address], client_address: {from: connection}}}
routes:
  /public: {allow: public, cache: 10s}
  /orders/**: role:admin
  /near: {allow: anyone, deny: 'not network:203.0.113.0/24'}
  /**: {allow: role:premium, cache: 5s}
listen: {http: '127.0.0.1:0'}
audit: none
";

async fn start(policy: &str) -> (Portcullis, SocketAddr) {
    let portcullis = Portcullis::with(edge::issuer().await, policy).await;
    let address = portcullis.running.http[0];
    (portcullis, address)
}

fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: portcullis\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

const JSON: &str = "Content-Type: application/json\r\n";

async fn check(to: SocketAddr, headers: &str, body: &Value) -> Answer {
    ask(to, post(json::CHECK, &format!("{JSON}Connection: close\r\n{headers}"), body.to_string().as_bytes())).await
}

#[tokio::test]
async fn the_example_of_the_page_is_answered_as_the_page_says() {
    let (portcullis, address) = start(POLICY).await;
    let page = read("docs/http-api.md");
    let examples: Vec<Value> =
        blocks(&page, "json").iter().map(|(_, text)| serde_json::from_str(text).unwrap()).collect();
    let [asked, allow, deny] = &examples[..] else { panic!("{} examples", examples.len()) };
    let bearer = |roles: &[&str]| {
        let line = portcullis.bearer(&json!({"sub": "u1", "roles": roles}));
        line.trim_end().split_once(' ').unwrap().1.to_owned()
    };
    let ask = async |bearer: String| {
        let mut asked = asked.clone();
        asked["headers"]["authorization"] = json!(bearer);
        check(address, "", &asked).await
    };
    let answer = ask(bearer(&["admin"])).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let mut answer = answer.json().unwrap();
    assert_eq!(answer["response"]["headers"]["x-served-for"], "u1");
    let removed = answer["headers"]["remove"].as_array().unwrap();
    assert!(allow["headers"]["remove"].as_array().unwrap().iter().all(|name| removed.contains(name)), "{removed:?}");
    answer["headers"]["remove"] = allow["headers"]["remove"].clone();
    answer["response"]["headers"] = json!({});
    answer["decision"] = json!("ID");
    assert_eq!(&answer, allow);
    let answer = ask(bearer(&[])).await;
    let (status, mut answer) = (answer.status, answer.json().unwrap());
    let told: BTreeSet<&String> = answer["response"]["headers"].as_object().unwrap().keys().collect();
    assert!(deny["response"]["headers"].as_object().unwrap().keys().all(|name| told.contains(name)));
    answer["response"] = deny["response"].clone();
    answer["decision"] = json!("ID");
    assert_eq!((status, &answer), (200, deny));
}

fn anonymous(path: &str) -> Value {
    json!({"method": "GET", "path": path, "host": "shop.test", "headers": {}})
}

/// One more request on a connection.
async fn on(connection: &mut Connection, request: &[u8]) -> Answer {
    connection.send(request).await.unwrap();
    tokio::time::timeout(DEADLINE, connection.answer(false)).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_is_no_check_is_a_denial_with_400_and_the_connection_stays() {
    let (_portcullis, address) = start(POLICY).await;
    let mut connection = Connection::open(address).await.unwrap();
    let good = anonymous("/public").to_string();
    let large = format!("{}{good}", " ".repeat(json::MAX_CHECK));
    let twice = good.replace("\"method\":\"GET\"", "\"method\":\"GET\",\"method\":\"GET\"");
    for (headers, body) in [
        (JSON, "{}"),
        (JSON, ""),
        (JSON, &*twice),
        ("", &good),
        ("Content-Type: text/plain\r\n", &good),
        ("Content-Type: application/json\r\nContent-Type: application/json\r\n", &good),
    ] {
        let answer = on(&mut connection, &post(json::CHECK, headers, body.as_bytes())).await;
        let verdict = answer.json().unwrap();
        assert_eq!(
            (answer.status, &verdict["verdict"], &verdict["status"]),
            (400, &json!("deny"), &json!(400)),
            "{body}"
        );
        assert_eq!(verdict["cache"], json!({"for": 0, "vary": []}));
    }
    let answer = on(&mut connection, &post(json::CHECK, JSON, good.as_bytes())).await;
    assert_eq!((answer.status, &answer.json().unwrap()["verdict"]), (200, &json!("allow")));
    let answer = ask(address, post(json::CHECK, &format!("{JSON}Connection: close\r\n"), large.as_bytes())).await;
    assert_eq!((answer.status, &answer.json().unwrap()["verdict"]), (400, &json!("deny")));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = ask(address, get(json::CHECK)).await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    for path in ["/", "/v1", "/v1/check/", "/V1/check", "//v1/check"] {
        assert_eq!(ask(address, get(path)).await.status, 404, "{path}");
    }
}

#[tokio::test] // F01
async fn what_a_stranger_says_of_the_connection_is_not_read_and_it_is_not_told_who_calls() {
    let mut near = anonymous("/near");
    near["source"] = json!({"address": "203.0.113.9"});
    let of = async |policy: &str, headers: &str| {
        let (_portcullis, address) = start(policy).await;
        let answers = [&near, &anonymous("/public")];
        let [one, two] = answers.map(|asked| check(address, headers, asked));
        (one.await.json().unwrap(), two.await.json().unwrap())
    };
    let (near_it, public) = of(POLICY, "").await;
    assert_eq!(near_it["verdict"], "allow");
    assert!(public["caller"].is_object(), "{public}");
    let far = POLICY.replace("127.0.0.0/8", "10.0.0.0/8");
    let (near_it, public) = of(&far, "").await;
    assert_eq!(near_it["status"], 403);
    assert!(public.get("caller").is_none(), "{public}");
    let other = POLICY.replace("dialect: json, ", "");
    assert!(of(&other, "").await.1.get("caller").is_none(), "an entry counts for its own dialect");
}

#[test]
fn the_document_names_every_member_of_a_check_and_no_other() {
    let document: Value = serde_json::from_str(json::DOCUMENT).unwrap();
    let check = &document["components"]["schemas"]["Check"];
    let named = |schema: &Value| schema["properties"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let read_by = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(named(check), read_by(json::MEMBERS));
    assert_eq!(named(&check["properties"]["source"]), read_by(json::SOURCE));
    let page = read("docs/http-api.md");
    for name in json::MEMBERS.iter().chain(json::SOURCE) {
        assert!(page.contains(&format!("`{name}`")), "docs/http-api.md does not name {name}");
    }
}

#[tokio::test]
async fn the_document_is_served_as_it_is() {
    let (_portcullis, address) = start(POLICY).await;
    let get = format!("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", json::OPENAPI);
    let answer = ask(address, &get).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.text(), json::DOCUMENT);
}

/// Schemathesis, fetched by `make setup`. Without it the test is skipped on a laptop, and fails where `CI` is `true`.
fn schemathesis() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/schemathesis/bin/st");
    if program.exists() {
        return Some(program);
    }
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "no schemathesis: run `make setup`");
    _ = std::io::stderr().write_all(b"SKIPPED: schemathesis. Run `make setup`.\n");
    None
}

#[tokio::test]
async fn schemathesis_finds_no_answer_that_the_document_does_not_promise() {
    let Some(program) = schemathesis() else { return };
    let (dir, token) = (TempDir::new(), "a-token-of-the-portal-0123456789abcdef");
    let place = dir.file("portal", token).display().to_string();
    let clients = format!("pdp_clients: {{portal: {{by: 'token:file:{place}', issuers: [main]}}}}\n");
    let (_portcullis, address) = start(&format!("{POLICY}{clients}")).await;
    let mut run = Command::new(program);
    run.args(["run", "--header", &format!("Authorization: Bearer {token}")]);
    run.args([&format!("http://{address}{}", json::OPENAPI), "--seed", "7", "--max-examples", "25"]);
    run.args(["--checks", "all", "--phases", "examples,coverage,fuzzing", "--no-color", "--warnings", "off"]);
    run.args(["--suppress-health-check", "all", "--request-timeout", "10", "--generation-database", "none"]);
    // It keeps what it found in a folder of where it runs.
    run.current_dir(dir.path()).env("PYTHONDONTWRITEBYTECODE", "1").kill_on_drop(true);
    let ended = tokio::time::timeout(Duration::from_secs(240), run.output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}\n{}", String::from_utf8_lossy(&ended.stderr));
    assert!(said.contains("No issues found"), "{said}");
}
