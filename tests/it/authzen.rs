//! AuthZEN over the wire: who may ask, how a question is read, and that an asserted subject is decided as its token would be.

use std::net::SocketAddr;

use portcullis::dev::wire::Answer;
use portcullis::gateway::json::authzen;
use serde_json::{Value, json};

use crate::docs::{blocks, read};
use crate::edge::{self, Portcullis};
use crate::support::{TempDir, ask};

const TOKEN: &str = "a-token-of-the-portal-0123456789abcdef";
const NARROW: &str = "a-token-of-another-0123456789abcdefgh";
const POLICY: &str = "
issuers:
  main: {url: ISSUER, allow_http: true, cooldown: 0s, audience: shop-api, roles: roles, groups: groups, may_grant: [admin, clerk], default: true}
  staff: {jwks: 'https://staff.test/keys', issuer: staff, audience: a, may_grant: any, roles: roles, default: true, subject_prefix: 's:', require: 'claim:org=acme'}
  quiet: {jwks: 'https://quiet.test/keys', issuer: quiet, audience: a, may_grant: any, roles: roles}
api_keys: {keys: [{id: k1, owner: billing, hash: 'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', roles: [clerk], routes: [/orders/**]}], from: 'header:x-api-key', default: true}
services: {cart: 'spiffe://td.test/cart'}
gateways: {mesh: {by: unix, believes: [certificate, client_address], client_address: {from: connection}}}
headers: {X-User-ID: principal}
guards: {/orders/locked/**: role:admin}
deny: {gone: claim:gone=true}
revocation: {revoked: [{principal: main/banned}]}
grants: [{principal: main/raised, role: admin, until: 2099-01-01T00:00:00Z, ticket: T}]
routes:
  /public: public
  /me/{id}: owner:id
  /orders/**: role:clerk or role:admin
  POST /orders/**: role:admin
  /cart: service:cart
  /near: {allow: signed-in, deny: not network:10.0.0.0/8}
  /header: {allow: signed-in, when: \"!('x-blocked' in request.headers)\"}
  /level: {allow: signed-in, when: claims.level > 2}
  /group: group:platform
  /fresh: {allow: signed-in, max_age: 10m}
  /quiet: {allow: signed-in, issuers: [quiet]}
  shop.test/hosted: signed-in
listen: {http: '127.0.0.1:0'}
pdp_clients:
  portal: {by: 'token:file:PORTAL', issuers: [main, staff, api_keys, services]}
  narrow: {by: 'token:file:NARROW', issuers: [main]}
audit: none
";

async fn start(policy: &str) -> (Portcullis, SocketAddr, TempDir) {
    let dir = TempDir::new();
    let place = |name, text| dir.file(name, text).display().to_string();
    let policy = policy.replace("PORTAL", &place("portal", TOKEN)).replace("NARROW", &place("narrow", NARROW));
    let portcullis = Portcullis::with(edge::issuer().await, &policy).await;
    let address = portcullis.running.http[0];
    (portcullis, address, dir)
}

async fn post(to: SocketAddr, path: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let raw = format!(
        "POST {path} HTTP/1.1\r\nHost: pdp.test\r\nConnection: close\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    ask(to, raw).await
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

async fn evaluate(to: SocketAddr, path: &str, body: &Value) -> Value {
    let answer = post(to, path, &bearer(TOKEN), &body.to_string()).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{}", answer.text());
    answer.json().unwrap()
}

/// A question about a user of `main` with these properties.
fn user(id: &str, properties: &Value, ask: &str) -> Value {
    let (method, target) = ask.split_once(' ').unwrap();
    let mut properties = properties.clone();
    if properties.get("issuer").is_none() {
        properties["issuer"] = json!("main");
    }
    json!({"subject": {"type": "user", "id": id, "properties": properties},
           "action": {"name": method}, "resource": {"type": "route", "id": target}})
}

/// The reason of a denial; empty where it is none.
fn reason(answer: &Value) -> &str {
    assert_eq!(answer["decision"].as_bool().unwrap(), answer["context"].get("reason_admin").is_none());
    let text = answer["context"]["reason_admin"]["en"].as_str().unwrap_or_default();
    text.split(':').next().unwrap()
}

#[tokio::test]
async fn nobody_may_ask_before_the_policy_names_who_may() {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: pdp.test\r\nConnection: close\r\n\r\n");
    let off = POLICY.split("pdp_clients:").next().unwrap();
    let (_portcullis, address, _dir) = start(off).await;
    for path in [authzen::EVALUATION, authzen::EVALUATIONS] {
        assert_eq!(post(address, path, &bearer(TOKEN), "{}").await.status, 404, "{path}");
    }
    assert_eq!(ask(address, get(authzen::METADATA)).await.status, 404);
    let (_portcullis, address, _dir) = start(POLICY).await;
    let body = user("u1", &json!({}), "GET /public").to_string();
    for headers in ["", &bearer("x"), &bearer(&TOKEN[1..]), &format!("{}{}", bearer(TOKEN), bearer(NARROW))] {
        let answer = post(address, authzen::EVALUATION, headers, &body).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{headers}");
        assert!(!answer.text().contains("\"decision\""), "{}", answer.text());
    }
    let answer = post(address, authzen::EVALUATION, &format!("X-Request-ID: r 1\r\n{}", bearer(TOKEN)), &body).await;
    assert_eq!((answer.status, answer.header("x-request-id")), (200, Some("r 1")));
    let answer = ask(address, get(authzen::METADATA)).await;
    let expected = json!({"policy_decision_point": "http://pdp.test",
        "access_evaluation_endpoint": "http://pdp.test/access/v1/evaluation",
        "access_evaluations_endpoint": "http://pdp.test/access/v1/evaluations"});
    assert_eq!(answer.json().unwrap(), expected);
    assert_eq!(ask(address, get(authzen::METADATA).replace("pdp.test", "a\"b")).await.status, 400);
    assert_eq!(ask(address, get(authzen::EVALUATION)).await.status, 405);
}

#[tokio::test]
async fn the_example_of_the_page_is_answered_as_the_page_says() {
    let (_portcullis, address, _dir) = start(&POLICY.replace("[main, staff, api_keys, services]", "[main]")).await;
    let page = read("docs/authzen.md");
    let examples: Vec<Value> =
        blocks(&page, "json").iter().map(|(_, text)| serde_json::from_str(text).unwrap()).collect();
    let [asked, expected] = &examples[..] else { panic!("{} examples", examples.len()) };
    let mut answer = evaluate(address, authzen::EVALUATION, asked).await;
    assert_eq!(answer["context"]["id"].as_str().unwrap().len(), 76);
    answer["context"]["id"] = json!("ID");
    assert_eq!(&answer, expected);
}

#[tokio::test]
async fn a_question_is_decided_by_the_policy_and_by_nothing_else() {
    let (_portcullis, address, _dir) = start(POLICY).await;
    let app = |id: &str, path: &str| json!({"subject": {"type": "app", "id": id}, "action": {"name": "GET"}, "resource": {"type": "route", "id": path}});
    let workload = |id: &str| json!({"subject": {"type": "workload", "id": id}, "action": {"name": "GET"}, "resource": {"type": "route", "id": "/cart"}});
    let clerk = json!({"roles": ["clerk"]});
    let with = |mut question: Value, name: &str, value: Value| {
        question[name] = value;
        question
    };
    let near =
        |address: &str| with(user("u1", &json!({}), "GET /near"), "context", json!({"address": address, "time": 7}));
    let staff = |claims: Value| json!({"issuer": "staff", "roles": ["clerk"], "claims": claims});
    for (question, expected) in [
        (user("u1", &json!({}), "GET /public"), ""),
        (user("u1", &json!({}), "GET /me/u1"), ""),
        (user("u1", &json!({}), "GET /me/u2"), "rule_unmet"),
        (user("u1", &clerk, "GET /orders/7?x=1"), ""),
        (user("u1", &clerk, "POST /orders/7"), "rule_unmet"),
        (user("u1", &clerk, "GET /orders/locked/7"), "guard_unmet"),
        (user("u1", &json!({"claims": {"roles": ["clerk"]}}), "GET /orders/7"), ""),
        // What is not told is unknown, and so is a role that the issuer may not grant none.
        (user("u1", &json!({}), "GET /orders/7"), "fact_unknown"),
        (user("u1", &json!({"roles": ["root"]}), "GET /orders/7"), "rule_unmet"),
        (user("u1", &json!({"groups": ["platform"]}), "GET /group"), ""),
        (user("u1", &json!({"roles": ["clerk"], "claims": {"gone": true}}), "GET /orders/7"), "forbidden"),
        (user("banned", &clerk, "GET /orders/7"), "revoked"),
        (user("raised", &json!({"roles": []}), "POST /orders/7"), ""),
        (user("u1", &json!({"claims": {"level": 3}}), "GET /level"), ""),
        (user("u1", &json!({"claims": {"level": 2}}), "GET /level"), "condition_unmet"),
        (user("u1", &json!({}), "GET /header"), "condition_failed"),
        (user("u1", &json!({}), "GET /fresh"), "step_up_required"),
        (user("u1", &json!({}), "GET /near"), "forbidden"),
        (near("10.1.2.3"), ""),
        (near("192.0.2.1"), "forbidden"),
        (user("u1", &json!({}), "GET /nowhere"), "no_route"),
        (user("u1", &json!({}), "GET /a/../public"), "path_dot_segment"),
        (user("u1", &json!({}), "get /public"), "method_malformed"),
        (user("u1", &json!({}), "GET shop.test/hosted"), ""),
        (user("u1", &json!({}), "GET /hosted"), "no_route"),
        // Only of issuers that it may speak of, within their own walls.
        (user("u1", &json!({"issuer": "quiet"}), "GET /quiet"), "subject_refused"),
        (user("u1", &json!({"issuer": "nobody"}), "GET /public"), "subject_refused"),
        (user("u1", &json!({}), "GET /quiet"), "issuer_refused"),
        (user("u1", &json!({"claims": {"sub": "u2"}}), "GET /me/u1"), "subject_refused"),
        (user("u1", &json!({"claims": {"iss": "x"}}), "GET /me/u1"), "subject_refused"),
        (user("", &json!({}), "GET /me/u1"), "subject_refused"),
        (user("u1", &staff(json!({"org": "acme"})), "GET /orders/7"), ""),
        (user("u1", &staff(json!({})), "GET /orders/7"), "requirement_unmet"),
        (user("u1", &staff(json!({"org": "acme"})), "GET /me/u1"), "rule_unmet"),
        (user("u1", &staff(json!({"org": "acme"})), "GET /me/s:u1"), ""),
        // Applications and workloads.
        (app("billing", "/orders/7"), ""),
        (app("k1", "/orders/7"), ""),
        (app("billing", "/level"), "api_key_route_refused"),
        (app("other", "/orders/7"), "api_key_unknown"),
        (workload("spiffe://td.test/cart"), ""),
        (workload("spiffe://td.test/other"), "subject_refused"),
        (workload("cart"), "subject_refused"),
        (user("u1", &clerk, "GET /cart"), "fact_unknown"),
    ] {
        let answer = evaluate(address, authzen::EVALUATION, &question).await;
        assert_eq!(reason(&answer), expected, "{question}");
    }
    let question = app("billing", "/orders/7").to_string();
    let answer = post(address, authzen::EVALUATION, &bearer(NARROW), &question).await.json().unwrap();
    assert_eq!(reason(&answer), "subject_refused", "another client speaks of other issuers");
}

#[tokio::test]
async fn an_asserted_subject_is_decided_as_its_token_would_be() {
    let (portcullis, address, _dir) = start(POLICY).await;
    let all = [
        json!({}),
        json!({"roles": []}),
        json!({"roles": ["clerk"]}),
        json!({"roles": ["admin", "root"], "groups": ["platform"]}),
        json!({"roles": "clerk admin", "level": 3}),
        json!({"roles": {"a": 1}, "groups": []}),
        json!({"roles": ["clerk"], "gone": true}),
        json!({"_claim_names": {"groups": "src1"}, "roles": ["clerk"]}),
    ];
    let asks = [
        "GET /public",
        "GET /me/u1",
        "GET /me/u2",
        "GET /orders/7",
        "POST /orders/7",
        "GET /orders/locked/1",
        "GET /level",
        "GET /group",
        "GET /fresh",
        "GET /cart",
        "GET /quiet",
        "GET /x",
    ];
    let mut seen = [0, 0];
    for subject in ["u1", "raised", "banned"] {
        for claims in &all {
            let mut token = claims.clone();
            token["sub"] = json!(subject);
            let authorization = portcullis.bearer(&token).trim_end().split_once(' ').unwrap().1.to_owned();
            for ask in asks {
                let question = user(subject, &json!({"claims": claims}), ask);
                let asserted = evaluate(address, authzen::EVALUATION, &question).await;
                let (method, path) = ask.split_once(' ').unwrap();
                let check = json!({"method": method, "path": path, "host": "host.invalid", "headers": {"authorization": authorization}});
                let proven = post(address, "/v1/check", "", &check.to_string()).await.json().unwrap();
                let allowed = proven["verdict"] == "allow";
                assert_eq!(asserted["decision"], allowed, "{subject} {claims} {ask}: {asserted} {proven}");
                seen[usize::from(allowed)] += 1;
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 40), "{seen:?}");
}

#[tokio::test]
async fn several_questions_share_defaults_and_stop_where_they_are_told_to() {
    let (_portcullis, address, _dir) = start(POLICY).await;
    let decisions = async |semantic: Option<&str>| {
        let mut asked = json!({"subject": {"type": "user", "id": "u1", "properties": {"issuer": "main", "roles": ["clerk"]}},
            "action": {"name": "GET"},
            "evaluations": [
                {"resource": {"type": "route", "id": "/orders/1"}},
                {"resource": {"type": "route", "id": "/orders/2"}, "action": {"name": "POST"}},
                {"resource": {"type": "route", "id": "/me/u2"}, "subject": {"type": "user", "id": "u2", "properties": {"issuer": "main"}}},
                {"resource": {"type": "road", "id": "/orders/1"}}]});
        if let Some(semantic) = semantic {
            asked["options"] = json!({"evaluations_semantic": semantic, "other": 1});
        }
        let answer = evaluate(address, authzen::EVALUATIONS, &asked).await;
        assert!(answer.get("decision").is_none());
        let all = answer["evaluations"].as_array().unwrap().clone();
        (all.iter().map(|one| one["decision"].as_bool().unwrap()).collect::<Vec<_>>(), all)
    };
    let (all, answers) = decisions(None).await;
    assert_eq!(all, [true, false, true, false]);
    assert_eq!(
        answers[3]["context"]["error"],
        json!({"status": 400, "message": "The `type` of a resource is `route`."})
    );
    assert_eq!(decisions(Some("execute_all")).await.0, [true, false, true, false]);
    assert_eq!(decisions(Some("deny_on_first_deny")).await.0, [true, false]);
    assert_eq!(decisions(Some("permit_on_first_permit")).await.0, [true]);
    for none in [json!([]), Value::Null] {
        let mut one = user("u1", &json!({}), "GET /me/u1");
        if !none.is_null() {
            one["evaluations"] = none;
        }
        assert_eq!(evaluate(address, authzen::EVALUATIONS, &one).await["decision"], true);
    }
}

#[tokio::test]
async fn what_is_no_question_is_an_error_that_says_why_and_shows_nothing_of_it() {
    let (_portcullis, address, _dir) = start(POLICY).await;
    let good = user("u1", &json!({}), "GET /me/u1");
    let changed = |pointer: &str, value: Value| {
        let mut question = good.clone();
        let (at, name) = pointer.rsplit_once('/').unwrap();
        question.pointer_mut(at).unwrap()[name] = value;
        question.to_string()
    };
    let wrong = json!({"secret-text": "secret-text"});
    let mut all = vec![
        "".to_owned(),
        "[]".into(),
        "{}".into(),
        "null".into(),
        good.to_string().replace("\"GET\"", "\"GET\",\"name\":\"GET\""),
    ];
    for pointer in [
        "/subject",
        "/action",
        "/resource",
        "/subject/type",
        "/subject/id",
        "/subject/properties",
        "/subject/properties/issuer",
        "/subject/properties/roles",
        "/subject/properties/secret-text",
        "/subject/email",
        "/action/name",
        "/resource/type",
        "/resource/id",
        "/resource/properties",
        "/resource/url",
        "/evaluations",
        "/other",
    ] {
        all.push(changed(pointer, wrong.clone()));
        all.push(changed(pointer, json!(7)));
    }
    all.extend([
        changed("/context", json!(7)),
        changed("/context", json!({"address": "10.0.0.0/8"})),
        changed("/subject/properties/claims", json!([])),
    ]);
    for body in &all {
        let answer = post(address, authzen::EVALUATION, &bearer(TOKEN), body).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (400, Some("text/plain; charset=utf-8")),
            "{body}: {}",
            answer.text()
        );
        assert!(!answer.text().contains("secret-text") && answer.text().ends_with('.'), "{}", answer.text());
    }
    let many = json!({"evaluations": vec![good.clone(); authzen::MOST + 1]}).to_string();
    assert_eq!(post(address, authzen::EVALUATIONS, &bearer(TOKEN), &many).await.status, 400);
    let odd = json!({"evaluations": [good], "options": {"evaluations_semantic": "first"}}).to_string();
    assert_eq!(post(address, authzen::EVALUATIONS, &bearer(TOKEN), &odd).await.status, 400);
}
