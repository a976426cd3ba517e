//! The rules that Envoy's behaviour leaves us, one test each: what it reads as an allow, what it does with an answer,
//! and what of a check is the caller's word only.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3 as auth;
use portcullis::authz::reason::Reason;
use portcullis::authz::request::{Asker, Malformed, Proof};
use portcullis::config::compile::compile;
use portcullis::gateway::envoy::{self, pb};
use prost::Message as _;
use serde_json::{Map, json};

use crate::doors::{self, Answer, Asked, Beside, Http, Lines};
use crate::site::{Keys, Recipe, Site};

const POLICY: &str = r#"
issuers:
  main: {url: "https://id.test", audience: api, roles: roles}
headers:
  X-User-ID: sub
  X-User-Roles: roles
public_url: https://shop.test
sign_in: https://login.test/?to={url}
routes:
  /public/**: public
  /anyone: anyone
  /me: signed-in
  /admin: role:admin
  /scoped: scope:read and scope:write
"#;

fn site() -> Site {
    Site::open(POLICY, &BTreeMap::new())
}

/// A request as Envoy describes it, with these header lines besides the pseudo-headers.
fn ask(method: &str, target: &str, lines: &[(&str, &str)]) -> Asked {
    let pseudo = [(":method", method), (":path", target), (":authority", "shop.test"), (":scheme", "https")];
    let lines = pseudo.iter().chain(lines).map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let http = Http { method: method.into(), target: target.into(), host: "shop.test".into(), lines };
    Asked { asker: Asker::Unix, beside: Beside::default(), source: None, http: Some(http) }
}

fn bearer(site: &Site) -> String {
    let claims = Map::from_iter([("roles".to_owned(), json!(["admin"])), ("scope".to_owned(), json!("read"))]);
    format!("Bearer {}", site.token(&claims, &Recipe::default()))
}

async fn frame(site: &Site, message: impl Into<Bytes>) -> Bytes {
    envoy::check(&site.authorizer, Asker::Unix, Proof::default(), Ok(message.into()), None).await
}

async fn response(site: &Site, asked: &Asked) -> auth::CheckResponse {
    doors::unframed(&frame(site, doors::encoded(asked, Lines::Joined)).await)
}

fn ok(response: auth::CheckResponse) -> auth::OkHttpResponse {
    match response.http_response {
        Some(auth::check_response::HttpResponse::OkResponse(ok)) => ok,
        other => panic!("{other:?}"),
    }
}

fn status(answer: &Answer) -> (u16, &'static str) {
    match answer {
        Answer::Allow { .. } => (200, ""),
        Answer::Deny { status, reason, .. } => (*status, reason.code()),
    }
}

/// Answers of every kind: two allows, and denials with each header that a denial may have.
async fn answers(site: &Site) -> Vec<auth::CheckResponse> {
    let token = bearer(site);
    let authorization = ("authorization", &*token);
    let mut answers = Vec::new();
    for asked in [
        ask("GET", "/public/a", &[]),
        ask("GET", "/me", &[authorization]),
        ask("GET", "/me", &[]),
        ask("GET", "/me", &[("accept", "text/html")]),
        ask("POST", "/me", &[("content-type", "application/grpc")]),
        ask("GET", "/scoped", &[authorization]),
        ask("GET", "/public/../admin", &[]),
        ask("GET", "/nowhere", &[]),
    ] {
        answers.push(response(site, &asked).await);
    }
    answers
}

#[tokio::test]
async fn rule_01_a_denial_is_a_value_and_never_an_error() {
    let site = site();
    let unreadable = (400, "check_unreadable");
    for message in [&b"garbage"[..], b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x0a\x7f", b"\x08\x01", b""] {
        assert_eq!(status(&doors::read(&site, &frame(&site, message.to_vec()).await)), unreadable, "{message:?}");
    }
    // A message over the cap, or one that never came whole.
    let malformed = Err(Malformed(Reason::CheckUnreadable));
    let frame = envoy::check(&site.authorizer, Asker::Unix, Proof::default(), malformed, None).await;
    assert_eq!(status(&doors::read(&site, &frame)), unreadable);
}

#[tokio::test]
async fn rule_02_the_status_is_always_written() {
    let site = site();
    let allow = frame(&site, doors::encoded(&ask("GET", "/public/a", &[]), Lines::Joined)).await;
    assert_eq!(allow[5..7], [0x0a, 0], "field 1, with nothing in it: code 0");
    for response in answers(&site).await {
        let code = response.status.unwrap().code;
        match response.http_response.unwrap() {
            auth::check_response::HttpResponse::OkResponse(_) => assert_eq!(code, 0),
            auth::check_response::HttpResponse::DeniedResponse(_) => assert_ne!(code, 0),
            auth::check_response::HttpResponse::ErrorResponse(_) => panic!("an error may let pass"),
        }
    }
}

#[tokio::test]
async fn rule_03_what_is_set_overwrites_by_both_fields() {
    let site = site();
    let token = bearer(&site);
    let ok = ok(response(&site, &ask("GET", "/me", &[("authorization", &token), ("x-user-id", "attacker")])).await);
    assert_eq!(ok.headers.len(), 2);
    for option in ok.headers {
        #[expect(deprecated, reason = "the Envoy that is tested against reads this field only")]
        let append = option.append;
        assert_eq!((append.map(|append| append.value), option.append_action), (Some(false), 2));
    }
}

#[tokio::test]
async fn rules_04_and_05_nothing_is_ever_appended() {
    let site = site();
    for response in answers(&site).await {
        let options = match response.http_response.unwrap() {
            auth::check_response::HttpResponse::OkResponse(ok) => [ok.headers, ok.response_headers_to_add].concat(),
            auth::check_response::HttpResponse::DeniedResponse(denied) => denied.headers,
            auth::check_response::HttpResponse::ErrorResponse(_) => panic!("an error may let pass"),
        };
        for option in options {
            #[expect(deprecated, reason = "the Envoy that is tested against reads this field only")]
            let append = option.append;
            assert!(append.is_some_and(|append| !append.value), "{:?}", option.header);
        }
    }
}

#[tokio::test]
async fn rule_06_on_every_allow_each_managed_name_is_set_or_removed_underscores_included() {
    let site = site();
    let token = bearer(&site);
    let forged = [("x-user-id", "a"), ("x_user_id", "a"), ("x-user_roles", "a"), ("remote_user", "a")];
    let with_token = [&forged[..], &[("authorization", &token)]].concat();
    for (asked, known) in [
        (ask("GET", "/public/a", &forged), false),
        (ask("GET", "/anyone", &forged), false),
        (ask("GET", "/anyone", &with_token), true),
        (ask("GET", "/me", &with_token), true),
    ] {
        let ok = ok(response(&site, &asked).await);
        let set: Vec<String> = ok.headers.into_iter().map(|option| option.header.unwrap().key).collect();
        for name in ["x-user-id", "x-user-roles"] {
            assert_eq!(set.iter().any(|set| set == name), known, "{name}");
            assert_eq!(ok.headers_to_remove.iter().any(|removed| removed == name), !known, "{name}");
        }
        for name in ["x_user_id", "x-user_roles", "remote_user", "remote-user"] {
            assert!(ok.headers_to_remove.iter().any(|removed| removed == name), "{name}");
        }
    }
}

#[tokio::test]
async fn rule_07_no_name_is_both_set_and_removed_whatever_its_case() {
    let site = site();
    let token = bearer(&site);
    // No Envoy sends names in capitals; one that did would have its removal take away what was set.
    let forged = [("authorization", &*token), ("X-User-ID", "a"), ("X_User_ID", "a"), ("x-user-id", "a")];
    let ok = ok(response(&site, &ask("GET", "/me", &forged)).await);
    for option in &ok.headers {
        let name = &option.header.as_ref().unwrap().key;
        assert!(!ok.headers_to_remove.iter().any(|removed| removed.eq_ignore_ascii_case(name)), "{name}");
    }
    assert!(ok.headers_to_remove.iter().any(|removed| removed == "X_User_ID"));
}

#[test]
fn rule_08_headers_that_frame_or_steer_are_refused_by_the_policy() {
    for name in [
        "content-length",
        "Content-Length",
        "content_length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "keep-alive",
        "proxy-connection",
        "expect",
        "host",
        ":path",
        ":method",
        ":authority",
        ":scheme",
        "x-envoy-original-path",
        "x-envoy-internal",
        "x-forwarded-for",
        "x-forwarded-host",
        "cookie",
        "",
        "a b",
        "a:b",
        "x\u{e9}",
    ] {
        let policy = POLICY.replace("X-User-Roles", &format!("{name:?}"));
        let (compiled, problems) = compile("policy.yaml", &policy, &|_| Err(std::io::ErrorKind::NotFound.into()));
        assert!(compiled.is_none(), "{name:?}");
        let code = if name.is_empty() { "missing_value" } else { "header_refused" };
        assert!(problems.as_slice().iter().any(|problem| problem.code == code), "{name:?}: {problems:?}");
    }
}

#[tokio::test]
async fn rule_09_what_is_reflected_holds_no_control_and_is_ascii() {
    let site = site();
    for target in
        ["/me?a=%0d%0aSet-Cookie:x", "/me?\"'<>{}|^`", "/me?\u{7f}", "/me?\r\nX: 1", "/me?\u{e9}", "/me/%E2%80%AE"]
    {
        let asked = ask("GET", target, &[("accept", "text/html")]);
        for lines in [Lines::Joined, Lines::Raw] {
            // Reading an answer asserts that every value in it is printable ASCII.
            let answer = doors::through_envoy(&site, &asked, lines).await;
            if let Answer::Deny { location: Some(location), .. } = answer {
                assert!(location.starts_with("https://login.test/?to=https%3A%2F%2Fshop.test%2Fme"), "{location}");
                assert!(!location.contains(['"', '<', '>', '\'', '{', ' ']), "{location}");
            }
        }
    }
}

#[tokio::test]
async fn rule_10_a_request_that_we_make_too_large_is_denied_and_not_left_to_fail() {
    let site = site();
    let token = bearer(&site);
    for (count, expected) in [(93, (200, "")), (94, (431, "headers_too_large"))] {
        let names: Vec<String> = (0..count).map(|at| format!("x-filler-{at}")).collect();
        let mut lines = vec![("authorization", &*token)];
        lines.extend(names.iter().map(|name| (&**name, "a")));
        let answer = doors::through_envoy(&site, &ask("GET", "/me", &lines), Lines::Joined).await;
        assert_eq!(status(&answer), expected, "{count}");
    }
    let ours = r#"x-user-idu1x-user-roles["admin"]"#.len();
    let sent = ask("GET", "/me", &[("authorization", &token), ("x-filler", "")]).http.unwrap().lines;
    let sent: usize = sent.iter().map(|(name, value)| name.len() + value.len()).sum();
    let room = 60 * 1024 - sent - ours;
    for (filler, expected) in [(room, (200, "")), (room + 1, (431, "headers_too_large"))] {
        let filler = "a".repeat(filler);
        let asked = ask("GET", "/me", &[("authorization", &token), ("x-filler", &filler)]);
        assert_eq!(status(&doors::through_envoy(&site, &asked, Lines::Raw).await), expected);
    }
}

#[tokio::test]
async fn rule_11_the_query_ends_the_path() {
    let site = site();
    for (target, expected) in [
        ("/admin?x=/public/a", (401, "credential_missing")),
        ("/public/a?x=/../admin", (200, "")),
        ("/public/a?", (200, "")),
        ("/public/a%3f", (200, "")),
        ("?/public/a", (400, "path_malformed")),
    ] {
        assert_eq!(
            status(&doors::through_envoy(&site, &ask("GET", target, &[]), Lines::Joined).await),
            expected,
            "{target}"
        );
    }
    // The fields that Envoy leaves empty are not read by us either.
    let mut check = auth::CheckRequest::decode(&*doors::encoded(&ask("GET", "/admin", &[]), Lines::Joined)).unwrap();
    let http = check.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
    (http.query, http.fragment) = ("/public/a".into(), "/public/a".into());
    assert_eq!(status(&doors::read(&site, &frame(&site, check.encode_to_vec()).await)), (401, "credential_missing"));
}

#[tokio::test]
async fn rule_12_nothing_that_the_caller_says_of_itself_opens_a_route() {
    let site = site();
    for (name, value) in [
        ("x-forwarded-host", "public.test"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-uri", "/public/a"),
        ("x-original-url", "/public/a"),
        ("x-rewrite-url", "/public/a"),
        ("x-envoy-original-path", "/public/a"),
        ("x-envoy-internal", "true"),
        ("x-envoy-auth-failure-mode-allowed", "true"),
        ("x-envoy-downstream-service-cluster", "trusted"),
        ("x-user-id", "admin"),
        ("x-user-roles", "[\"admin\"]"),
        ("x-http-method-override", "OPTIONS"),
    ] {
        let answer = doors::through_envoy(&site, &ask("GET", "/admin", &[(name, value)]), Lines::Joined).await;
        assert_eq!(status(&answer), (401, "credential_missing"), "{name}");
    }
}

#[tokio::test]
async fn rule_13_lines_that_were_joined_are_refused_where_one_counts() {
    let site = site();
    let token = bearer(&site);
    let two = format!("{token},{token}");
    let hosts = |host: &str| {
        let mut asked = ask("GET", "/public/a", &[]);
        let http = asked.http.as_mut().unwrap();
        http.host = host.into();
        http.lines[2].1 = host.into();
        asked
    };
    for (asked, expected) in [
        (ask("GET", "/me", &[("authorization", &two)]), (400, "credential_ambiguous")),
        (ask("GET", "/me", &[("authorization", "Bearer a,Bearer b")]), (400, "credential_ambiguous")),
        (hosts("shop.test,evil.test"), (400, "host_ambiguous")),
    ] {
        assert_eq!(status(&doors::through_envoy(&site, &asked, Lines::Joined).await), expected);
    }
}

#[tokio::test]
async fn rule_14_a_connection_without_a_request_is_denied() {
    let site = site();
    let empty = |attributes| auth::CheckRequest { attributes }.encode_to_vec();
    let attributes = auth::AttributeContext { tls_session: Some(Default::default()), ..Default::default() };
    let no_http = auth::AttributeContext { request: Some(Default::default()), ..Default::default() };
    for (message, expected) in [
        (empty(None), (400, "check_unreadable")),
        (empty(Some(attributes)), (400, "request_missing")),
        (empty(Some(no_http)), (400, "request_missing")),
    ] {
        assert_eq!(status(&doors::read(&site, &frame(&site, message).await)), expected);
    }
}

#[tokio::test]
async fn rule_15_bytes_that_are_not_text_are_read_and_never_an_error() {
    let site = site();
    let check = |set: fn(&mut pb::envoy::service::auth::v3::attribute_context::HttpRequest)| {
        let bytes = doors::encoded(&ask("GET", "/public/a", &[("x-a", "a")]), Lines::Raw);
        let mut check = pb::envoy::service::auth::v3::CheckRequest::decode(&*bytes).unwrap();
        set(check.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap());
        check.encode_to_vec()
    };
    let bad = Bytes::from_static(b"\xff\xfe");
    assert_eq!(bad.len(), 2);
    for (message, expected) in [
        (check(|http| http.body = Bytes::from_static(b"\xff")), (200, "")),
        (check(|http| http.scheme = Bytes::from_static(b"\xff")), (200, "")),
        (check(|http| http.id = Bytes::from_static(b"\xff")), (200, "")),
        (
            check(|http| http.header_map.as_mut().unwrap().headers[4].raw_value = Bytes::from_static(b"caf\xe9")),
            (200, ""),
        ),
        (
            check(|http| http.header_map.as_mut().unwrap().headers[4].key = Bytes::from_static(b"\xff")),
            (400, "header_malformed"),
        ),
        (check(|http| http.method = Bytes::from_static(b"G\xffT")), (400, "header_ambiguous")),
        (check(|http| http.host = Bytes::from_static(b"\xff")), (400, "host_ambiguous")),
        (check(|http| http.path = Bytes::from_static(b"/\xff")), (400, "header_ambiguous")),
    ] {
        assert_eq!(status(&doors::read(&site, &frame(&site, message).await)), expected);
    }
    let large = "a".repeat(5 << 20);
    let mut asked = auth::CheckRequest::decode(&*doors::encoded(&ask("GET", "/public/a", &[]), Lines::Joined)).unwrap();
    asked.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap().body = large;
    assert_eq!(status(&doors::read(&site, &frame(&site, asked.encode_to_vec()).await)), (200, ""));
}

#[tokio::test]
async fn rule_16_without_time_left_nothing_is_waited_for() {
    let keys = BTreeMap::from([("main".to_owned(), Keys::None)]);
    let site = Site::open(POLICY, &keys);
    let token = bearer(&site);
    let message = Bytes::from(doors::encoded(&ask("GET", "/me", &[("authorization", &token)]), Lines::Joined));
    for deadline in [Some(Duration::ZERO), Some(Duration::from_millis(1)), Some(Duration::from_millis(60)), None] {
        let frame = envoy::check(&site.authorizer, Asker::Unix, Proof::default(), Ok(message.clone()), deadline).await;
        assert_eq!(status(&doors::read(&site, &frame)), (503, "keys_unavailable"), "{deadline:?}");
    }
}

#[tokio::test]
async fn what_the_gateway_is_told_beside_the_headers_is_in_the_metadata() {
    use envoy_types::pb::google::protobuf::value::Kind;
    let policy = format!("{POLICY}metadata: {{user: principal, roles: roles, name: name}}\n");
    let site = Site::open(&policy, &BTreeMap::new());
    let token = bearer(&site);
    let told = response(&site, &ask("GET", "/me", &[("authorization", &token)])).await.dynamic_metadata.unwrap();
    assert_eq!(told.fields["user"].kind, Some(Kind::StringValue("main/u1".into())));
    let Some(Kind::ListValue(roles)) = &told.fields["roles"].kind else { panic!("{told:?}") };
    assert_eq!(roles.values.len(), 1);
    assert!(!told.fields.contains_key("name"), "there is no such claim");
    for (target, token) in [("/public/a", &*token), ("/me", "Bearer x")] {
        let response = response(&site, &ask("GET", target, &[("authorization", token)])).await;
        assert_eq!(response.dynamic_metadata, None, "{target}");
    }
}
