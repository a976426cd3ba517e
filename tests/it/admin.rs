//! The admin listener as operators and attackers meet it: who may read, who may change, and what a change does at once.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use portcullis::app::{self, Overrides, Running};
use portcullis::dev::issuer::Issuer;
use portcullis::dev::wire::Answer;
use portcullis::feed::config::PolicyFile;
use portcullis::server::Endpoint;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::edge::issuer;
use crate::support::{ANY_PORT, Process, TempDir, ask};

pub const TOKEN: &str = "a-token-of-this-test-alone";

/// Portcullis with an issuer `main`, in a folder of its own.
pub struct Replica {
    pub issuer: Issuer,
    pub running: Running,
    pub dir: TempDir,
}

impl Replica {
    /// `more` is what the policy says beside; `FOLDER` in it stands for a folder for keys.
    pub async fn start(issuer: Issuer, more: &str) -> Self {
        let dir = TempDir::new();
        let running = run(write(&dir, &issuer, more)).await;
        running.feeds.attempted().await;
        Self { issuer, running, dir }
    }

    /// The same after a crash, or an update.
    pub async fn again(self, more: &str) -> Self {
        let Self { issuer, running, dir } = self;
        running.drain().await;
        let running = run(write(&dir, &issuer, more)).await;
        running.feeds.attempted().await;
        Self { issuer, running, dir }
    }

    pub fn folder(&self) -> PathBuf {
        self.dir.path().join("kept")
    }

    pub async fn main(&self) -> Value {
        let answer = send(self.running.admin, "GET", "/issuers", "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json().unwrap()["issuers"][0].clone()
    }

    pub async fn post(&self, path: &str) -> Answer {
        send(self.running.admin, "POST", path, &format!("Authorization: Bearer {TOKEN}\r\n")).await
    }

    pub async fn metric(&self, line: &str) -> bool {
        let scraped = send(self.running.admin, "GET", "/metrics", "").await.text();
        scraped.lines().any(|said| said == line)
    }
}

fn write(dir: &TempDir, issuer: &Issuer, more: &str) -> PathBuf {
    dir.file("admin.token", TOKEN);
    let url = issuer.url();
    let policy = format!(
        "issuers:\n  main: {{url: '{url}', allow_http: true, audience: shop-api, cooldown: 0s}}\nroutes: {{GET /: signed-in}}\naudit: none\n{more}\n"
    );
    let folder = dir.path().join("kept");
    dir.file("portcullis.yaml", policy.replace("FOLDER", folder.to_str().unwrap()))
}

async fn run(policy: PathBuf) -> Running {
    let (file, compiled) = PolicyFile::open(policy).unwrap_or_else(|problems| panic!("{problems}"));
    let listen = vec![Endpoint::Tcp(ANY_PORT)];
    let overrides = Overrides { listen, admin: Some(ANY_PORT), cores: Some(1), ..Overrides::default() };
    app::start(file, compiled, &overrides).await.unwrap()
}

pub async fn send(to: SocketAddr, method: &str, path: &str, headers: &str) -> Answer {
    let host = if headers.to_ascii_lowercase().contains("host:") { String::new() } else { format!("Host: {to}\r\n") };
    let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
    ask(to, format!("{method} {path} HTTP/1.1\r\n{host}{length}Connection: close\r\n{headers}\r\n")).await
}

const WITH_TOKEN: &str = "admin: {token: file:admin.token}";

#[tokio::test] // S04
async fn a_change_needs_the_token_and_comes_from_no_page() {
    let replica = Replica::start(issuer().await, WITH_TOKEN).await;
    let (admin, path) = (replica.running.admin, "/issuers/main/suspend");
    let good = format!("Authorization: Bearer {TOKEN}\r\n");
    for (headers, status, error) in [
        (String::new(), 401, "token_refused"),
        ("Authorization: Bearer wrong\r\n".into(), 401, "token_refused"),
        (format!("Authorization: Basic {TOKEN}\r\n"), 401, "token_refused"),
        (format!("{good}{good}"), 401, "token_refused"),
        // What pages in a browser can send, token or not: a form, a script of another site, one of a rebound name.
        (format!("{good}Origin: https://evil.test\r\n"), 403, "from_a_page"),
        (format!("{good}Origin: null\r\n"), 403, "from_a_page"),
        (format!("{good}Origin: http://{admin}\r\n"), 403, "from_a_page"),
        (format!("{good}Sec-Fetch-Site: cross-site\r\n"), 403, "from_a_page"),
        (format!("{good}Sec-Fetch-Site: same-origin\r\n"), 403, "from_a_page"),
        (format!("{good}Content-Type: application/x-www-form-urlencoded\r\n"), 415, "not_json"),
        (format!("{good}Content-Type: text/plain\r\n"), 415, "not_json"),
    ] {
        let answer = send(admin, "POST", path, &headers).await;
        assert_eq!((answer.status, answer.json().unwrap()["error"].as_str()), (status, Some(error)), "{headers}");
        assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("access-control")), "{headers}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{headers}");
    }
    for host in ["evil.test", "127.0.0.1.evil.test", "evil.test:80"] {
        let headers = format!("{good}Host: {host}\r\n");
        for (method, path) in [("POST", path), ("GET", "/issuers"), ("GET", "/metrics")] {
            assert_eq!(send(admin, method, path, &headers).await.status, 403, "{host} {path}");
        }
    }
    // A way to ask that browsers take without asking first changes nothing.
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"] {
        for path in [path, "/issuers/main/resume"] {
            let status = send(admin, method, path, &good).await.status;
            assert_eq!(status, 405, "{method} {path}");
        }
    }
    for path in
        ["/issuers/main/../main/suspend", "/issuers//suspend", "/issuers/main/suspend/", "/ISSUERS/main/suspend"]
    {
        assert_eq!(send(admin, "POST", path, &good).await.status, 404, "{path}");
    }
    assert_eq!(replica.main().await["state"], "fresh");
    assert_eq!(send(admin, "POST", path, &good).await.status, 200);
    assert_eq!(replica.main().await["state"], "suspended");
}

#[tokio::test] // S04
async fn without_a_token_in_the_policy_nobody_changes_anything() {
    let replica = Replica::start(issuer().await, "").await;
    for headers in ["", "Authorization: Bearer \r\n", "Authorization: Bearer a-token-of-this-test-alone\r\n"] {
        let answer = send(replica.running.admin, "POST", "/issuers/main/suspend", headers).await;
        let body = answer.json().unwrap();
        assert_eq!((answer.status, body["error"].as_str()), (403, Some("no_admin_token")));
        assert!(body["cure"].as_str().unwrap().contains("admin: {token: env:ADMIN_TOKEN}"));
    }
    assert_eq!(replica.main().await["state"], "fresh");
}

#[tokio::test] // S04
async fn a_new_token_takes_the_place_of_the_old_one_without_a_restart() {
    let replica = Replica::start(issuer().await, WITH_TOKEN).await;
    fs::write(replica.dir.path().join("admin.token"), "another-token-for-tomorrow").unwrap();
    replica.running.reloads.reload().await.unwrap();
    assert_eq!(replica.post("/issuers/main/suspend").await.status, 401);
    let headers = "Authorization: Bearer another-token-for-tomorrow\r\n";
    assert_eq!(send(replica.running.admin, "POST", "/issuers/main/suspend", headers).await.status, 200);
}

#[tokio::test] // S04
async fn beyond_this_machine_the_issuers_are_told_to_who_has_the_token_only() {
    let (dir, issuer) = (TempDir::new(), issuer().await);
    let policy = write(&dir, &issuer, WITH_TOKEN);
    let (file, compiled) = PolicyFile::open(policy).unwrap_or_else(|problems| panic!("{problems}"));
    let everywhere = Some(SocketAddr::from(([0, 0, 0, 0], 0)));
    let overrides =
        Overrides { listen: vec![Endpoint::Tcp(ANY_PORT)], admin: everywhere, cores: Some(1), ..Overrides::default() };
    let running = app::start(file, compiled, &overrides).await.unwrap();
    let admin = SocketAddr::from(([127, 0, 0, 1], running.admin.port()));
    assert_eq!(send(admin, "GET", "/issuers", "").await.status, 401);
    assert_eq!(send(admin, "GET", "/issuers", &format!("Authorization: Bearer {TOKEN}\r\n")).await.status, 200);
    assert_eq!(send(admin, "GET", "/readyz", "Host: portcullis.example.com\r\n").await.status, 200);
}

#[tokio::test] // S01
async fn the_token_is_in_no_answer_and_no_debug_output() {
    let replica = Replica::start(issuer().await, WITH_TOKEN).await;
    let settings = replica.running.reloads.settings();
    assert!(!format!("{:?}", settings.borrow()).contains(TOKEN));
    for (method, path) in [("GET", "/issuers"), ("GET", "/metrics"), ("POST", "/issuers/main/suspend")] {
        let answer = send(replica.running.admin, method, path, "Authorization: Bearer wrong\r\n").await;
        assert!(!answer.text().contains(TOKEN), "{path}");
    }
}

/// A server that answers all alike, whatever it is asked.
async fn canned(answer: String) -> SocketAddr {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4_096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test] // K11
async fn nothing_that_a_server_of_keys_answers_and_no_query_is_in_a_log_or_an_answer() {
    let secret = "canary-in-an-answer";
    let body =
        |body: String| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    for answer in [
        format!("HTTP/1.1 500 {secret}\r\nX-Debug: {secret}\r\nConnection: close\r\n\r\n{secret}"),
        format!("HTTP/1.1 302 x\r\nLocation: https://{secret}.test/?{secret}\r\nContent-Length: 0\r\n\r\n"),
        body(format!("<html>{secret}")),
        body(format!(r#"{{"keys":[{{"kty":"{secret}","kid":"k","n":"{secret}"}}]}}"#)),
        format!("{secret}\r\n\r\n"),
    ] {
        let (server, dir) = (canned(answer.clone()).await, TempDir::new());
        let policy = format!(
            "issuers: {{main: {{jwks: 'http://{server}/keys?client_secret=canary-in-a-query', issuer: x, allow_http: true, audience: a}}}}\nroutes: {{GET /: signed-in}}\n"
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "-c"]);
        command.arg(dir.file("portcullis.yaml", policy)).env("PORTCULLIS_LOG", "trace");
        let mut process = Process::start(&mut command);
        let line: Value = serde_json::from_str(&process.line_with("health and metrics").await).unwrap();
        let admin = line["address"].as_str().unwrap().parse().unwrap();
        process.line_with("keys could not be fetched").await;
        for path in ["/issuers", "/metrics"] {
            let told = send(admin, "GET", path, "").await.text();
            assert!(told.contains("main") && !told.contains("canary"), "{told}");
        }
        assert!(process.log().contains("TRACE"), "{}", process.log());
        assert!(!process.log().contains("canary"), "{answer}\n{}", process.log());
    }
}

#[tokio::test]
async fn a_suspension_survives_reloads_and_says_how_long_it_lasts() {
    let replica = Replica::start(issuer().await, WITH_TOKEN).await;
    let answer = replica.post("/issuers/main/suspend").await.json().unwrap();
    assert_eq!(
        (&answer["suspended"], &answer["changed"], &answer["kept"]),
        (&true.into(), &true.into(), &false.into())
    );
    assert!(answer["note"].as_str().unwrap().contains("ends with this process"));
    assert_eq!(replica.post("/issuers/main/suspend").await.json().unwrap()["changed"], false);
    assert_eq!(replica.post("/issuers/mian/suspend").await.status, 404);
    assert!(replica.metric("portcullis_issuer_suspended{issuer=\"main\"} 1").await);
    // The same issuer with another rule, and under another name.
    let policy = replica.dir.path().join("portcullis.yaml");
    let text = fs::read_to_string(&policy).unwrap();
    for changed in [text.replace("cooldown: 0s", "cooldown: 1s"), text.replace("main:", "renamed:")] {
        assert_ne!(changed, text);
        fs::write(&policy, changed).unwrap();
        replica.running.reloads.reload().await.unwrap();
        let main = replica.main().await;
        assert_eq!(main["state"], "suspended", "{main}");
        assert!(main["suspended_since"].is_string(), "{main}");
    }
    let answer = replica.post("/issuers/renamed/resume").await.json().unwrap();
    assert_eq!((&answer["suspended"], &answer["changed"]), (&false.into(), &true.into()));
    assert_eq!(replica.main().await["keys_state"], "fresh");
    assert_eq!(replica.main().await["state"], "fresh");
}

#[tokio::test]
async fn a_suspension_is_kept_on_disk_beyond_a_restart() {
    let more = format!("{WITH_TOKEN}\nkey_cache: FOLDER");
    let replica = Replica::start(issuer().await, &more).await;
    let answer = replica.post("/issuers/main/suspend").await.json().unwrap();
    assert_eq!(answer["kept"], true, "{answer}");
    let replica = replica.again(&more).await;
    assert_eq!(replica.main().await["state"], "suspended");
    // What is hurt says less, and still suspends.
    let kept = fs::read_dir(replica.folder()).unwrap().map(|entry| entry.unwrap().path());
    let kept = kept.filter(|path| path.extension().is_some_and(|end| end == "suspended")).collect::<Vec<_>>();
    fs::write(&kept[0], "nonsense").unwrap();
    let replica = replica.again(&more).await;
    assert_eq!(replica.main().await["state"], "suspended");
    assert_eq!(replica.post("/issuers/main/resume").await.json().unwrap()["kept"], true);
    let replica = replica.again(&more).await;
    assert_eq!(replica.main().await["state"], "fresh");
}
