//! Answers that are remembered: only as far as their hint goes, and never for another question.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Kong;
use super::oracle::{Oracle, Reply, allow, deny};
use crate::edge::{get, request, seen};

fn hinted(mut answer: Value, seconds: f64, vary: &[&str]) -> Value {
    answer["cache"] = json!({"for": seconds, "vary": vary});
    answer
}

/// A portcullis that names who asks after the token, and lets that be remembered for long.
async fn naming() -> Oracle {
    Oracle::saying(|asked, number| {
        let set = json!({"x-user-id": asked["headers"]["authorization"].as_str().unwrap_or("?"), "x-number": number.to_string()});
        Reply::Json(hinted(allow(set), 30.0, &["authorization", "cookie"]))
    })
    .await
}

#[tokio::test]
async fn an_equal_question_is_answered_from_memory_and_any_other_is_not() {
    let oracle = naming().await;
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    let number = async |raw: String| seen(&kong.ask(raw).await, "x-number").concat();
    let a = "Authorization: a\r\n";
    assert_eq!((number(get("/p", a)).await, number(get("/p", a)).await), ("1".into(), "1".into()));
    let mut others = Vec::new();
    for raw in [
        get("/p", "Authorization: b\r\n"),
        get("/p", ""),
        get("/p", "Authorization: a\r\nCookie: c=1\r\nCookie: c=2\r\n"),
        get("/p", "Authorization: a\r\nCookie: c=1\r\n"),
        get("/p", "Authorization: a\r\nCookie:\r\n"),
        get("/p?", a),
        get("/p?x=1", a),
        get("/P", a),
        request("POST", "/p", a),
        get("/p", a).replace("shop.test", "other.test"),
        get("/p", "Authorization: a\r\nCookie: 1\r\nCookie: 23\r\n"),
        get("/p", "Authorization: a\r\nCookie: 12\r\nCookie: 3\r\n"),
        // No header that the answer depends on: but one that it might have had to remove.
        get("/p", "Authorization: a\r\nX_User_Id: root\r\n"),
        get("/p", "Authorization: a\r\nX-Original-URL: /admin\r\n"),
    ] {
        others.push(number(raw.clone()).await);
        assert_eq!(others.last().unwrap(), &number(raw).await, "each is remembered for itself");
    }
    assert_eq!(others, (2..16).map(|n| n.to_string()).collect::<Vec<_>>());
    // Another value of a header that the answer does not depend on.
    let accept = |value: &str| get("/p", &format!("Authorization: a\r\nAccept: {value}\r\n"));
    assert_eq!((number(accept("x")).await, number(accept("y")).await), ("16".into(), "16".into()));
    let kept = kong.ask(get("/p", a)).await;
    assert_eq!((seen(&kept, "x-user-id"), seen(&kept, "x-number")), (vec!["a".to_owned()], vec!["1".to_owned()]));
    assert_eq!(oracle.count().await, 16);
}

#[tokio::test]
async fn two_tokens_never_share_an_answer_however_many_ask() {
    let oracle = naming().await;
    let Some(kong) = Kong::asking(&oracle.url, &[("cache_size", 8.into())]).await else { return };
    for n in 0..100 {
        let name = format!("t{}", n * 7 % 20);
        let answer = kong.ask(get("/p", &format!("Authorization: {name}\r\n"))).await;
        assert_eq!(seen(&answer, "x-user-id"), [name]);
    }
}

#[tokio::test]
async fn an_answer_is_forgotten_when_its_time_is_over() {
    let oracle = Oracle::saying(|_, _| Reply::Json(hinted(allow(json!({})), 0.4, &["authorization"]))).await;
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    let started = tokio::time::Instant::now();
    let mut last_asked = started;
    let mut count = 0;
    while started.elapsed().as_millis() < 1500 {
        let before = tokio::time::Instant::now();
        assert_eq!(kong.ask(get("/", "")).await.status, 200);
        if oracle.count().await > count {
            count = oracle.count().await;
            last_asked = before;
        } else {
            // nginx knows the time to a few milliseconds.
            assert!(before.duration_since(last_asked).as_millis() <= 500, "answered from memory after its time");
        }
    }
    assert!((2..=10).contains(&count), "{count}");
}

#[tokio::test]
async fn what_gives_no_hint_or_one_that_cannot_be_read_is_asked_each_time() {
    let hints = [
        json!(null),
        json!({"for": 0, "vary": []}),
        json!({"for": -1, "vary": []}),
        json!({"for": "30", "vary": []}),
        json!({"for": 30}),
        json!({"for": 30, "vary": null}),
        json!({"for": 30, "vary": "authorization"}),
        json!({"for": 30, "vary": [1]}),
        json!({"for": 30, "vary": ["a b"]}),
        json!({"for": 30, "vary": (0..33).map(|n| format!("x-{n}")).collect::<Vec<_>>()}),
    ];
    let count = hints.len();
    let oracle = Oracle::saying(move |asked, _| {
        let number: usize = asked["path"].as_str().unwrap().trim_start_matches('/').parse().unwrap();
        let mut answer = allow(json!({}));
        answer["cache"] = hints[number].clone();
        Reply::Json(answer)
    })
    .await;
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    for number in 0..count {
        for _ in 0..2 {
            assert_eq!(kong.ask(get(&format!("/{number}"), "")).await.status, 200, "{number}: {}", kong.log());
        }
    }
    assert_eq!(oracle.count().await, 2 * count);

    let oracle = naming().await;
    let Some(kong) = Kong::asking(&oracle.url, &[("cache", false.into())]).await else { return };
    for _ in 0..2 {
        assert_eq!(kong.ask(get("/", "")).await.status, 200);
    }
    assert_eq!(oracle.count().await, 2);
}

#[tokio::test]
async fn a_denial_is_remembered_whole_where_its_hint_says_so() {
    let oracle = Oracle::saying(|asked, _| {
        let seconds = if asked["path"] == "/kept" { 30.0 } else { 0.0 };
        Reply::Json(hinted(deny(403), seconds, &["authorization"]))
    })
    .await;
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    for path in ["/kept", "/kept", "/other", "/other"] {
        let answer = kong.ask(get(path, "")).await;
        assert_eq!(
            (answer.status, answer.header("content-type"), answer.text().as_str()),
            (403, Some("application/problem+json"), "{\"a\":1}")
        );
    }
    assert_eq!((oracle.count().await, kong.upstream.seen()), (3, 0));
}

#[tokio::test]
async fn answers_that_depend_on_different_headers_do_not_stand_in_for_each_other() {
    let oracle = Oracle::saying(|asked, _| {
        let headers = &asked["headers"];
        let (vary, user): (&[&str], _) = match headers["authorization"].as_str() {
            Some(_) => (&["authorization", "x-tenant"], headers["x-tenant"].clone()),
            None => (&["authorization"], json!("nobody")),
        };
        Reply::Json(hinted(allow(json!({"x-user-id": user})), 30.0, vary))
    })
    .await;
    let Some(kong) = Kong::asking(&oracle.url, &[]).await else { return };
    for _ in 0..3 {
        for (lines, user) in [
            ("X-Tenant: t1\r\n", "nobody"),
            ("Authorization: a\r\nX-Tenant: t1\r\n", "t1"),
            ("Authorization: a\r\nX-Tenant: t2\r\n", "t2"),
            ("X-Tenant: t2\r\n", "nobody"),
        ] {
            assert_eq!(seen(&kong.ask(get("/", lines)).await, "x-user-id"), [user]);
        }
    }
    assert!(oracle.count().await <= 6, "{}", oracle.count().await);
}

#[tokio::test]
async fn keys_are_hmacs_as_others_compute_them() {
    let Some(kong) = Kong::asking("http://127.0.0.1:1", &[]).await else { return };
    for length in [1, 32, 63, 64, 65, 131] {
        let (key, message) = (vec![0xaa; length], vec![b'm'; 200 - length]);
        let lines = format!("X-Key: {}\r\nX-Message: {}\r\n", STANDARD.encode(&key), STANDARD.encode(&message));
        let answer = kong.ask(get("/hmac", &lines)).await;
        let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &message);
        assert_eq!(answer.text(), STANDARD.encode(expected), "{length}");
    }
}
