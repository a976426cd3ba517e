//! What an allowed request carries on: headers, query, and who calls, for Kong's own plugins.

use serde_json::{Value, json};

use super::oracle::{Oracle, Reply, allow};
use super::{Kong, shipped};
use crate::edge::{get, seen, upgrade};
use portcullis::dev::wire::Answer;

/// What Kong's other plugins see.
fn seen_by_kong(answer: &Answer) -> Value {
    serde_json::from_str(&seen(answer, "x-kong-sees")[0]).unwrap()
}

#[tokio::test]
async fn headers_are_set_and_removed_and_the_response_gets_its_own() {
    let oracle = Oracle::saying(|_, _| {
        let mut answer = allow(json!({"X-User-ID": "u1", "x-list": ["a", "b"], "x-empty": ""}));
        answer["headers"]["remove"] = json!(["Authorization", "cookie", "x_odd"]);
        answer["response"]["headers"] =
            json!({"x-served-for": "u1", "content-type": "text/x-of-ours", "set-cookie": "s=1"});
        Reply::Json(answer)
    })
    .await;
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    let sent = "Authorization: Bearer a\r\nCookie: a=1\r\nCookie: b=2\r\nx_odd: 1\r\nx-odd: 2\r\nx-list: mine\r\n";
    let answer = kong.ask(get("/p", sent)).await;
    assert_eq!((answer.status, answer.header("x-served-for")), (200, Some("u1")));
    assert_eq!((answer.header("content-type"), answer.header("set-cookie")), (Some("text/x-of-ours"), Some("s=1")));
    assert_eq!(answer.headers.iter().filter(|(name, _)| name == "content-type").count(), 1);
    for (name, values) in [
        ("x-user-id", vec!["u1"]),
        ("x-list", vec!["a", "b"]),
        ("authorization", vec![]),
        ("cookie", vec![]),
        ("x-odd", vec!["2"]),
    ] {
        assert_eq!(seen(&answer, name), values, "{name}");
    }
    assert_eq!(seen(&answer, "x-empty").concat().trim(), "");
}

#[tokio::test]
async fn the_query_loses_and_gains_parameters_and_is_else_the_same_bytes() {
    let oracle = Oracle::saying(|asked, _| {
        let mut answer = allow(json!({}));
        if asked["path"].as_str().unwrap().contains("token") {
            answer["query"] = json!({"set": {"tenant": "a b&c"}, "remove": ["access_token"]});
        }
        Reply::Json(answer)
    })
    .await;
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    for (sent, arrived) in [
        ("/p?a=%2f&b", "/p?a=%2f&b"),
        ("/p?", "/p?"),
        ("/p?access_token=t", "/p?tenant=a%20b%26c"),
        ("/p?a=%2F+x&access_token=t&c", "/p?a=%2F+x&c&tenant=a%20b%26c"),
        ("/p?access%5Ftoken=t&access_token&tenant=mine", "/p?tenant=a%20b%26c"),
        ("/p?xaccess_token=1", "/p?xaccess_token=1&tenant=a%20b%26c"),
    ] {
        let answer = kong.ask(get(sent, "")).await;
        assert_eq!(answer.json().unwrap()["path"], arrived, "{sent}");
    }
}

fn calling(caller: Value) -> impl Fn(&Value, usize) -> Reply {
    move |_, _| {
        let mut answer = allow(json!({}));
        answer["caller"] = caller.clone();
        Reply::Json(answer)
    }
}

#[tokio::test]
async fn kong_knows_the_caller_as_a_credential_and_its_roles_as_groups() {
    let user = json!({"issuer": "main", "subject": "u 1", "roles": ["admin", "ops"], "groups": ["g"], "scopes": []});
    let app = json!({"issuer": "keys", "subject": "k1", "roles": []});
    for (caller, id, groups) in [
        (json!({"user": user, "app": app, "workload": null}), "user:main:u%201", json!(["admin", "ops"])),
        (json!({"user": null, "app": app, "workload": null}), "app:keys:k1", json!({})),
    ] {
        let oracle = Oracle::saying(calling(caller)).await;
        let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
        let answer = kong.ask(get("/", "X-Anonymous-Consumer: true\r\n")).await;
        assert_eq!(seen_by_kong(&answer), json!({"credential": {"id": id}, "groups": groups}));
        assert_eq!(
            (seen(&answer, "x-credential-identifier"), seen(&answer, "x-anonymous-consumer").len()),
            (vec![id.to_owned()], 0)
        );
    }
    let oracle = Oracle::saying(calling(Value::Null)).await;
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    assert_eq!(seen_by_kong(&kong.ask(get("/", "")).await), json!({}));
}

#[tokio::test]
async fn only_the_mapped_issuers_subjects_become_consumers() {
    let consumer = json!({"id": "c-1", "username": "alice", "custom_id": "a-17"});
    for (by, subject, issuer, found) in [
        ("username", "alice", "main", true),
        ("custom_id", "a-17", "main", true),
        ("custom_id", "alice", "main", false),
        ("username", "alice", "partner", false),
        ("username", "bob", "main", false),
    ] {
        let user = json!({"issuer": issuer, "subject": subject, "roles": []});
        let oracle = Oracle::saying(calling(json!({"user": user}))).await;
        let changes = [
            ("url", oracle.url.as_str().into()),
            ("timeout", 5000.into()),
            ("consumer_by", by.into()),
            ("consumer_issuer", "main".into()),
        ];
        let mut file = shipped(&changes);
        file["consumers"] = json!([consumer]);
        let Some(kong) = Kong::with(&file, "", |_| ()).await else { return };
        for _ in 0..2 {
            let answer = kong.ask(get("/", "X-Consumer-Username: root\r\n")).await;
            let sees = seen_by_kong(&answer);
            assert_eq!((answer.status, &sees["consumer"]), (200, if found { &consumer } else { &Value::Null }));
            assert_eq!(sees["credential"]["consumer_id"], if found { json!("c-1") } else { Value::Null });
            let names: &[&str] = if found { &["alice"] } else { &[] };
            assert_eq!(seen(&answer, "x-consumer-username"), names);
        }
    }
}

#[tokio::test]
async fn a_consumer_that_cannot_be_looked_up_is_a_denial() {
    let oracle = Oracle::saying(calling(json!({"user": {"issuer": "main", "subject": "u1", "roles": []}}))).await;
    let changes = [
        ("url", oracle.url.as_str().into()),
        ("timeout", 5000.into()),
        ("consumer_by", "username".into()),
        ("consumer_issuer", "main".into()),
    ];
    let mut file = shipped(&changes);
    file["unreadable"] = "u1".into();
    let Some(kong) = Kong::with(&file, "", |_| ()).await else { return };
    let answer = kong.ask(get("/", "")).await;
    assert_eq!((answer.status, answer.header("content-type")), (503, Some("application/problem+json")));
    assert!(kong.log().contains("the consumer could not be looked up") && !kong.log().contains("threw"));
    assert_eq!(kong.upstream.seen(), 0);
}

#[tokio::test]
async fn whom_an_earlier_plugin_knows_stays_where_portcullis_names_nobody() {
    let session = json!({"id": "c-9", "username": "sam"});
    let user = json!({"user": {"issuer": "main", "subject": "u1", "roles": []}});
    for (caller, already, credential, username) in [
        (Value::Null, json!({"consumer": session}), None, &["sam"][..]),
        (Value::Null, json!({"consumer": session, "credential": {"id": "k-9"}}), Some("k-9"), &["sam"]),
        (user, json!({"consumer": session, "credential": {"id": "k-9"}}), Some("user:main:u1"), &[]),
    ] {
        let oracle = Oracle::saying(calling(caller)).await;
        let mut file = shipped(&[("url", oracle.url.as_str().into()), ("timeout", 5000.into())]);
        file["already"] = already.clone();
        let Some(kong) = Kong::with(&file, "", |_| ()).await else { return };
        // What that plugin told the application is among the headers as well; a caller cannot add to it.
        let answer = kong
            .ask(get("/", "X-Consumer-Username: sam\r\nX_Consumer_Username: root\r\nX-Anonymous-Consumer: false\r\n"))
            .await;
        assert_eq!(seen(&answer, "x-consumer-username"), username, "{already}");
        assert_eq!(seen(&answer, "x-credential-identifier"), credential.as_slice(), "{already}");
        let anonymous: &[&str] = if credential.is_none() { &["true"] } else { &[] };
        assert_eq!(seen(&answer, "x-anonymous-consumer"), anonymous, "{already}");
        assert_eq!(seen_by_kong(&answer)["consumer"].is_null(), username.is_empty());
    }
}

#[tokio::test]
async fn a_websocket_is_upgraded_only_where_portcullis_allows_it() {
    let oracle = Oracle::saying(|asked, _| {
        let allowed = asked["headers"]["authorization"] == "Bearer good" && asked["headers"]["upgrade"] == "websocket";
        Reply::Json(if allowed { allow(json!({"x-user-id": "u1"})) } else { super::oracle::deny(401) })
    })
    .await;
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    assert_eq!((kong.ask(upgrade("/chat", "")).await.status, kong.upstream.seen()), (401, 0));
    // The mirror answers an upgrade with 200: what counts is what arrives there.
    let answer = kong.ask(upgrade("/chat", "Authorization: Bearer good\r\n")).await;
    assert_eq!(
        (seen(&answer, "upgrade"), seen(&answer, "x-user-id")),
        (vec!["websocket".to_owned()], vec!["u1".to_owned()])
    );
}
