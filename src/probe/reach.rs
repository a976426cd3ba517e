//! What can be reached past the gateway: the upstream, and portcullis itself.

use serde_json::json;

use super::door::{Door, Outcome};
use super::echo::{NONCE, random_id};
use super::judge::{Judged, Seen};

/// How a gateway would ask about an open path, by each dialect's own means.
const QUESTIONS: &[(&str, &str)] = &[
    ("GET /forward/envoy/", ""),
    (
        "GET /forward/nginx",
        "X-Original-Method: GET\r\nX-Original-URI: /\r\nX-Original-Host: probe\r\nX-Original-Address: 127.0.0.1\r\n",
    ),
    (
        "GET /forward/traefik",
        "X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /\r\nX-Forwarded-Host: probe\r\nX-Forwarded-For: 127.0.0.1\r\n",
    ),
    (
        "GET /forward/caddy",
        "X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /\r\nX-Forwarded-Host: probe\r\nX-Forwarded-For: 127.0.0.1\r\n",
    ),
    (
        "GET /forward/haproxy",
        "X-Original-Method: GET\r\nX-Original-URI: /\r\nX-Original-Host: probe\r\nX-Original-Address: 127.0.0.1\r\n",
    ),
];

/// One attempt: its code, what was tried, the request as it was sent, and what came of it.
pub(super) type Attempt = (&'static str, String, String, Judged);

/// Whether the upstream answers here.
pub(super) async fn upstream(door: &Door, host: &str) -> Attempt {
    let nonce = random_id();
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{NONCE}: {nonce}\r\nConnection: close\r\n\r\n");
    let judged = match door.ask(request.as_bytes(), false).await {
        Outcome::Answered(answer) if Seen::of(&answer, &nonce).is_some() => {
            Judged::Through("the echo itself answered".to_owned())
        }
        Outcome::Answered(answer) => Judged::Through(format!("it answered with {}", answer.status)),
        Outcome::Unreachable(_) => Judged::Held,
        Outcome::Closed | Outcome::Garbled | Outcome::Silent => {
            Judged::Note("it takes connections from here, and answers no HTTP without more".to_owned())
        }
    };
    ("upstream_direct", "the upstream".to_owned(), request, judged)
}

/// Whether portcullis answers questions here, or tells its metrics.
pub(super) async fn portcullis(door: &Door, host: &str) -> Vec<Attempt> {
    let close = format!("Host: {host}\r\nConnection: close\r\n");
    let mut attempts = Vec::new();
    let mut answers = false;
    for (line, headers) in QUESTIONS {
        let request = format!("{line} HTTP/1.1\r\n{close}{headers}\r\n");
        let outcome = door.ask(request.as_bytes(), false).await;
        answers |= matches!(outcome, Outcome::Answered(_));
        let judged = match &outcome {
            Outcome::Answered(answer) if matches!(answer.status, 200 | 302) || has_decided(answer) => {
                Judged::Through(format!("it was decided, with {}", answer.status))
            }
            _ => Judged::Held,
        };
        attempts.push(("portcullis_direct", format!("`{line}`"), request, judged));
    }
    let body = json!({"method": "GET", "path": "/", "host": "probe", "headers": {}}).to_string();
    let length = body.len();
    let json = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
    let request = format!("POST /v1/check HTTP/1.1\r\n{close}{json}\r\n{body}");
    let outcome = door.ask(request.as_bytes(), false).await;
    answers |= matches!(outcome, Outcome::Answered(_));
    let judged = match &outcome {
        Outcome::Answered(answer) if answer.status == 200 => Judged::Note(
            "`POST /v1/check` is answered: whoever asks from here learns what the policy decides".to_owned(),
        ),
        _ => Judged::Held,
    };
    attempts.push(("portcullis_direct", "`POST /v1/check`".to_owned(), request, judged));
    for path in ["/metrics", "/issuers"] {
        let request = format!("GET {path} HTTP/1.1\r\n{close}\r\n");
        let outcome = door.ask(request.as_bytes(), false).await;
        answers |= matches!(outcome, Outcome::Answered(_));
        let judged = match &outcome {
            Outcome::Answered(answer) if answer.status == 200 => Judged::Through("it was answered with 200".to_owned()),
            _ => Judged::Held,
        };
        attempts.push(("admin_direct", format!("`GET {path}`"), request, judged));
    }
    if answers && attempts.iter().all(|(.., judged)| *judged == Judged::Held) {
        let note =
            Judged::Note("it takes connections from here, and decides nothing for whoever it does not know".to_owned());
        attempts.push(("portcullis_direct", "the listener".to_owned(), String::new(), note));
    }
    attempts
}

/// Whether an answer is a decision about a request, and not a refusal of whoever asks.
fn has_decided(answer: &crate::dev::wire::Answer) -> bool {
    answer.status == 401 || answer.headers.iter().any(|(name, _)| name == "x-portcullis-status")
}
