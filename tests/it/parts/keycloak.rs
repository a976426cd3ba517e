//! One Keycloak for all tests of the binary, with the realm of `tests/idp/keycloak/shop.json`.

use std::path::Path;
use std::process::Command;
use std::sync::{Once, OnceLock};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::oauth::{Agent, Tokens};
use super::{Tethered, missing, program};

/// The secret of the confidential clients `machine` and `shop-api`.
pub const SECRET: &str = "client-secret-7b1e";

/// A Java that shares two cores with a compiler takes its time.
const START_DEADLINE: Duration = Duration::from_secs(240);

/// Who administers it while it runs.
const ADMIN: &str = "admin";
const ADMIN_PASSWORD: &str = "admin-password-55c2";

/// What Keycloak's own script gives to Java; and what makes a Java start sooner that will not run for long.
const JAVA: &[&str] = &[
    "-Xms64m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens=java.base/java.security=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
];

/// A running Keycloak.
pub struct Keycloak {
    address: String,
    agent: Agent,
    _running: Tethered,
}

/// The Keycloak to test with, started when first asked for. Without a Java 17 (`$JAVA`, else on `$PATH`), or where `make setup` has
/// not fetched Keycloak, the test is skipped on a laptop, and fails where `CI` is `true`.
pub fn keycloak() -> Option<&'static Keycloak> {
    static SHARED: OnceLock<Option<Keycloak>> = OnceLock::new();
    static ONCE: Once = Once::new();
    let start = || {
        let java = program("JAVA", &["java"]);
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/keycloak");
        let java = java.filter(|java| is_new(java) && home.join("lib/quarkus-run.jar").is_file());
        if java.is_none() {
            missing(&ONCE, "the tests with Keycloak", "Install Java 17 or newer, and run `make setup`.");
        }
        Some(Keycloak::start(&java?, &home))
    };
    SHARED.get_or_init(start).as_ref()
}

/// Whether it is a Java 17 or newer: `openjdk version "17.0.15" 2025-04-15`.
fn is_new(java: &Path) -> bool {
    let said = Command::new(java).arg("-version").output().map(|said| said.stderr).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let version = said.split('"').nth(1).and_then(|version| version.split(['.', '-']).next());
    version.and_then(|version| version.parse().ok()).is_some_and(|version: u32| version >= 17)
}

impl Keycloak {
    fn start(java: &Path, home: &Path) -> Self {
        let mut running = Tethered::start(java, |java| {
            java.args(JAVA).arg(format!("-Dkc.home.dir={}", home.display()));
            java.arg("-cp").arg(home.join("lib/quarkus-run.jar")).arg("io.quarkus.bootstrap.runner.QuarkusEntryPoint");
            java.args(["start", "--optimized", "--import-realm", "--http-enabled=true", "--http-host=127.0.0.1"]);
            java.args(["--http-port=0", "--hostname-strict=false", "--cache=local"]);
            java.env("KC_BOOTSTRAP_ADMIN_USERNAME", ADMIN).env("KC_BOOTSTRAP_ADMIN_PASSWORD", ADMIN_PASSWORD);
        });
        let address = running.until(START_DEADLINE, |log| {
            let (_, rest) = log.split_once("Listening on: ")?;
            Some(rest.split_once(char::is_whitespace)?.0.to_owned())
        });
        Self { address, agent: Agent::new(), _running: running }
    }

    /// The issuer URL of the realm.
    pub fn url(&self) -> String {
        format!("{}/realms/shop", self.address)
    }

    /// A user's token by the grant of a password: `alice` or `bob`, to a public client (`phone`, `elsewhere` with another audience,
    /// `brief` for 2 s, `bound` with a proof).
    pub async fn password(&self, client: &str, user: &str, proof: Option<&str>) -> Tokens {
        let password = format!("password-of-{user}");
        let fields = [
            ("grant_type", "password"),
            ("client_id", client),
            ("username", user),
            ("password", &*password),
            ("scope", "openid"),
        ];
        self.agent.tokens(&self.token_endpoint(), None, &fields, proof).await
    }

    /// The token of a confidential client for itself.
    pub async fn client_credentials(&self, client: &str) -> Tokens {
        let fields = [("grant_type", "client_credentials")];
        self.agent.tokens(&self.token_endpoint(), Some((client, SECRET)), &fields, None).await
    }

    pub fn token_endpoint(&self) -> String {
        format!("{}/protocol/openid-connect/token", self.url())
    }

    /// What it says of a token to `shop-api`, one of its audiences (RFC 7662).
    pub async fn introspect(&self, token: &str) -> Value {
        let url = format!("{}/introspect", self.token_endpoint());
        self.agent.json(&url, Some(("shop-api", SECRET)), &[("token", token)]).await
    }

    /// Has it sign with a new key; the old ones stay in the key set.
    pub async fn rotate(&self) {
        let realm: Value = self.administer(Method::GET, "", None).await;
        let kept = self.administer(Method::GET, "/components?type=org.keycloak.keys.KeyProvider", None).await;
        let priority = 1_000 + kept.as_array().unwrap().len();
        let component = json!({
            "name": format!("rotated-{priority}"),
            "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "parentId": realm["id"],
            "config": {"priority": [priority.to_string()], "keySize": ["2048"], "algorithm": ["RS256"]},
        });
        self.administer(Method::POST, "/components", Some(&component)).await;
    }

    /// A call of its admin API on the realm.
    async fn administer(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let agent = &self.agent;
        let url = format!("{}/realms/master/protocol/openid-connect/token", self.address);
        let fields =
            [("grant_type", "password"), ("client_id", "admin-cli"), ("username", ADMIN), ("password", ADMIN_PASSWORD)];
        let admin = agent.tokens(&url, None, &fields, None).await;
        agent.call(method, &format!("{}/admin/realms/shop{path}", self.address), &admin.access, body).await
    }
}

#[tokio::test]
async fn it_gives_tokens_of_the_realm_and_rotates_its_keys() {
    let Some(keycloak) = keycloak() else { return };
    let alice = keycloak.password("phone", "alice", None).await;
    let claims = alice.claims();
    assert_eq!((&claims["iss"], &claims["groups"]), (&json!(keycloak.url()), &json!(["/staff/buyers"])));
    assert!(claims["aud"].to_string().contains("shop-api"), "{claims}");
    assert!(claims["realm_access"]["roles"].to_string().contains("premium"), "{claims}");
    keycloak.rotate().await;
    let machine = keycloak.client_credentials("machine").await;
    assert_ne!(alice.kid(), machine.kid());
    assert_eq!(keycloak.introspect(&alice.access).await["active"], true);
}
