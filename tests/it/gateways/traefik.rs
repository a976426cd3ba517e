//! Traefik, which no registry carries: what its ForwardAuth sends and makes of an answer (v3.7), through the real portcullis, with the
//! shipped file.

use portcullis::dev::wire::Answer;
use serde_json::json;

use super::POLICY;
use crate::edge::{self, Portcullis};
use crate::support::ask;

const STATIC: &str = include_str!("../../../deploy/traefik/traefik.yaml");
const DYNAMIC: &str = include_str!("../../../deploy/traefik/dynamic.yaml");

type Lines = Vec<(String, String)>;

/// What the shipped file has Traefik do before and after it asks.
struct Chain {
    /// The names that `clean` removes.
    removed: Vec<String>,
    /// The path of `address`.
    path: String,
    /// `authResponseHeaders`.
    answers: Vec<String>,
}

impl Chain {
    fn shipped() -> Self {
        assert!(STATIC.contains("\n    address: 127.0.0.1:8000\n") && STATIC.contains("\n      insecure: false\n"));
        assert!(DYNAMIC.contains("\n      middlewares: [clean, portcullis]\n"));
        assert!(DYNAMIC.contains("\n        trustForwardHeader: false\n"));
        assert!(DYNAMIC.contains("\n          - url: http://127.0.0.1:8080\n"));
        let lines = || DYNAMIC.lines().map(str::trim);
        let removed = lines().filter_map(|line| line.strip_suffix(r#": """#));
        let address = lines().find_map(|line| line.strip_prefix("address: http://127.0.0.1:9002"));
        let listed = lines().skip_while(|line| *line != "# portcullis: headers").skip(1);
        let listed = listed.take_while(|line| *line != "# portcullis: end");
        let answers = listed.map(|line| line.strip_prefix("- ").unwrap().to_ascii_lowercase());
        Self {
            removed: removed.map(str::to_ascii_lowercase).collect(),
            path: address.unwrap().to_owned(),
            answers: answers.collect(),
        }
    }

    /// What the caller gets, or what the application would.
    async fn ask(&self, portcullis: &Portcullis, request: &str, lines: &[(&str, &str)]) -> Result<Lines, Answer> {
        let (method, uri) = request.split_once(' ').unwrap();
        let known = lines.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned()));
        let mut lines: Lines = known.filter(|(name, _)| !self.removed.contains(name)).collect();
        // The entry point: nobody's X-Forwarded-*, in both spellings.
        lines.retain(|(name, _)| !name.replace('_', "-").starts_with("x-forwarded-"));
        let hop = ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];
        let told = lines.iter().filter(|(name, _)| !hop.contains(&&**name));
        let mut call = format!("GET {} HTTP/1.1\r\nHost: portcullis:9002\r\nUser-Agent: \r\n", self.path);
        told.for_each(|(name, value)| call.push_str(&format!("{name}: {value}\r\n")));
        call.push_str(&format!(
            "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Method: {method}\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: 80\r\n\
             X-Forwarded-Host: shop.test\r\nX-Forwarded-Uri: {uri}\r\nAccept-Encoding: gzip\r\n\r\n"
        ));
        let answer = ask(portcullis.running.http[0], call).await;
        if !(200..300).contains(&answer.status) {
            return Err(answer);
        }
        lines.retain(|(name, _)| !self.answers.contains(name));
        lines.extend(answer.headers.into_iter().filter(|(name, _)| self.answers.contains(name)));
        Ok(lines)
    }
}

#[tokio::test] // F01, F02, F09
async fn what_traefik_asks_is_answered_so_that_it_does_what_is_meant() {
    let policy = POLICY.replace("LISTEN", "127.0.0.1:0");
    let portcullis = Portcullis::with(edge::issuer().await, &policy).await;
    let chain = Chain::shipped();
    assert_eq!(chain.answers, ["x-user-id", "x-user-roles", "x-tenant"]);
    let bearer = |claims| edge::bearer(&portcullis.issuer, &claims).trim_end().replace("Authorization: ", "");
    let premium = bearer(json!({"sub": "u1", "roles": ["premium"]}));
    let premium = ("Authorization", &*premium);
    let values = |lines: &Lines, name: &str| {
        let named = lines.iter().filter(|(n, value)| n == name && !value.is_empty());
        named.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };

    let forged = [("X-User-ID", "root"), ("x-user-id", "root"), ("X-Tenant", "root"), ("Remote-User", "root")];
    let overrides = [("X-Original-URI", "/health"), ("X-HTTP-Method-Override", "PUT"), ("X-Forwarded-Uri", "/health")];
    let lines = [&forged[..], &overrides, &[premium]].concat();
    let allowed = chain.ask(&portcullis, "GET /secret-data?q=1", &lines).await.unwrap();
    assert_eq!(values(&allowed, "x-user-id"), ["u1"]);
    assert_eq!(values(&allowed, "x-user-roles"), [r#"["premium"]"#]);
    assert!(!allowed.iter().any(|(_, value)| value == "root" || value == "/health" || value == "PUT"), "{allowed:?}");
    let public = chain.ask(&portcullis, "GET /health", &forged).await.unwrap();
    assert!(["x-user-id", "x-tenant", "remote-user"].iter().all(|name| values(&public, name).is_empty()), "{public:?}");
    let other = bearer(json!({"sub": "u2", "roles": []}));
    let other = ("Authorization", &*other);
    assert!(chain.ask(&portcullis, "GET /here", &[other]).await.is_ok());

    for (status, request, lines) in [
        (401, "GET /secret-data", &[][..]),
        (403, "GET /secret-data", &[other]),
        (403, "PUT /profile/u1", &[other]),
        (403, "GET /t/acme/x", &[other]),
        (403, "GET /office", &[("X-Forwarded-For", "198.51.100.1"), other]),
        (400, "GET /health/../secret-data", &[premium]),
        (400, "GET /health", &[("X_User_ID", "root")]),
        (400, "GET /health", &[("X.User.ID", "root")]),
        (400, "GET /health", &[("X-Goog-Authenticated-User-Email", "root")]),
    ] {
        let answer = chain.ask(&portcullis, request, lines).await.unwrap_err();
        assert_eq!(answer.status, status, "{request} {lines:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{request}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{request}");
        assert_eq!(answer.json().unwrap()["status"], status, "{request}");
    }
    let browser = chain.ask(&portcullis, "GET /secret-data", &[("Accept", "text/html")]).await.unwrap_err();
    let back = "https://login.example.com/?return_to=https%3A%2F%2Fshop.example.com%2Fsecret-data";
    assert_eq!((browser.status, browser.header("location")), (302, Some(back)));

    let policy = format!("{policy}response_headers: {{X-Served-For: sub}}\n");
    let telling = Portcullis::with(portcullis.issuer, &policy).await;
    let lost = chain.ask(&telling, "GET /secret-data", &[premium]).await.unwrap_err();
    assert_eq!(lost.status, 503, "Traefik would lose a header for the caller");
    assert!(chain.ask(&telling, "GET /health", &[]).await.is_ok(), "nothing is told of nobody");
}
