//! What browsers are told: nobody is sent to sign in and back to another place than the policy names.

use std::collections::BTreeMap;

use portcullis::authz::request::Asker;
use url::Url;

use crate::doors::{self, Answer, Asked, Beside, Http, Lines};
use crate::site::Site;

const POLICY: &str = r#"
issuers: {main: {url: "https://id.test", audience: api}}
public_url: https://shop.test
sign_in: {to: "https://login.test/start?return_to={url}&app=shop", return_to: ["https://admin.test", "https://odd.test:8443"]}
paths: PATHS
routes: {/**: signed-in}
"#;

/// Targets that some proxy, at some time, has sent people away by.
const TARGETS: &[&str] = &[
    "//evil.test",
    "///evil.test",
    "////evil.test/%2f..",
    "/\\evil.test",
    "/\\\\evil.test",
    "\\/\\/evil.test",
    "/%5cevil.test",
    "/%5C%5Cevil.test",
    "/%09/evil.test",
    "/%0a/evil.test",
    "/%0d%0aLocation:%20https://evil.test",
    "/%0d%0aSet-Cookie:%20a=b",
    "/a?x=%0d%0aLocation:%20https://evil.test",
    "/%00/evil.test",
    "/%20/evil.test",
    "/ /evil.test",
    "/\t/evil.test",
    "/\r\n/evil.test",
    "/\u{0}/evil.test",
    "https:evil.test",
    "https:/evil.test",
    "https://evil.test/",
    "http://shop.test@evil.test/",
    "javascript:alert(1)",
    "data:text/html,x",
    "/javascript:alert(1)",
    "/https:evil.test",
    "/https:/evil.test",
    "/https://evil.test",
    "/.evil.test",
    "/..evil.test",
    "/../evil.test",
    "/..//evil.test",
    "/./evil.test",
    "/.//evil.test",
    "/%2e%2e/evil.test",
    "/%2e/%2fevil.test",
    "/%2f/evil.test",
    "/%2f%2fevil.test",
    "/%2F%2Fevil.test",
    "/%252f%252fevil.test",
    "/%25252fevil.test",
    "/%u2215evil.test",
    "/@evil.test",
    "/:pass@evil.test",
    "/user:pass@evil.test/",
    "/:8443@evil.test",
    "/;@evil.test",
    "/;evil.test",
    "/?@evil.test",
    "/?next=//evil.test",
    "/?https://evil.test",
    "?@evil.test",
    "@evil.test",
    ":8443@evil.test",
    ".evil.test",
    "evil.test",
    "-evil.test",
    "",
    "*",
    "#@evil.test",
    "/#@evil.test",
    "/a#https://evil.test",
    "/a%23@evil.test",
    "/a?x#y",
    "/%e2%88%95evil.test",
    "/%ef%bc%8f%ef%bc%8fevil.test",
    "/%ef%bc%bcevil.test",
    "/%e2%81%84evil.test",
    "/%e3%80%82evil.test",
    "/\u{2215}evil.test",
    "/%c0%afevil.test",
    "/%ff",
    "/%zz",
    "/%",
    "/a%26return_to=https://evil.test",
    "/a&return_to=https://evil.test",
    "/?a&return_to=https://evil.test",
    "/?a%26return_to=https://evil.test#",
    "/a+b/%2Bevil.test",
    "/<script>alert(1)</script>",
    "/\"onmouseover=alert(1)",
    "/'evil",
    "/{url}",
    "/%7Burl%7D",
    "/?{url}",
    "/[::1]",
    "/%5B::1%5D",
    "/~evil.test",
    "/|evil.test",
    "/^evil.test",
    "/`evil.test`",
];

/// Hosts, and what they may be sent back to beside `public_url`.
const HOSTS: &[&str] = &[
    "shop.test",
    "admin.test",
    "ADMIN.TEST",
    "admin.test.",
    "admin.test:443",
    "admin.test:1234",
    "odd.test",
    "odd.test:8443",
    "evil.test",
    "evil.test:443",
    "admin.test.evil.test",
    "evil-admin.test",
    "xadmin.test",
    "admin.testx",
    "admin.test@evil.test",
    "evil.test@admin.test",
    "admin.test#evil.test",
    "admin.test/evil.test",
    "admin.test\\evil.test",
    "admin.test,evil.test",
    "admin.test evil.test",
    "admin.test\r\nX: y",
    "admin.test\u{0}evil.test",
    "admin.test%00.evil.test",
    "admin.test:443@evil.test",
    "admin.test:evil",
    "admin\u{3002}test",
    "\u{430}dmin.test",
    "xn--dmin-7cd.test",
    "[::1]",
    "[::1]:443",
    "[::ffff:127.0.0.1]",
    "[admin.test]",
    "127.0.0.1",
    "2130706433",
    "",
    ".",
    "*.test",
    "https://admin.test",
];

/// What else is sent by who wants a host believed.
const HEADERS: &[(&str, &str)] = &[
    ("accept", "text/html"),
    ("x-forwarded-host", "evil.test"),
    ("x-forwarded-proto", "javascript"),
    ("x-forwarded-port", "666"),
    ("x-forwarded-prefix", "//evil.test"),
    ("x-forwarded-uri", "https://evil.test/"),
    ("forwarded", "host=evil.test;proto=http"),
    ("x-original-url", "//evil.test"),
    ("x-original-host", "evil.test"),
    ("x-rewrite-url", "//evil.test"),
    ("x-host", "evil.test"),
    ("x-http-host-override", "evil.test"),
    ("referer", "https://evil.test/"),
    ("origin", "https://evil.test"),
];

fn ask(target: &str, host: &str) -> Asked {
    let pseudo = [(":method", "GET"), (":path", target), (":authority", host), (":scheme", "https")];
    let lines = pseudo.iter().chain(HEADERS).map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let http = Http { method: "GET".into(), target: target.into(), host: host.into(), lines };
    Asked { asker: Asker::Unix, beside: Beside::default(), source: None, http: Some(http) }
}

/// Where a person comes out who signs in; `None` where the request was refused.
fn sent_back(answer: &Answer, asked: &str) -> Option<Url> {
    let Answer::Deny { status, location, .. } = answer else { panic!("{asked:?} is allowed") };
    let Some(location) = location else {
        assert_eq!(*status, 400, "{asked:?}");
        return None;
    };
    assert_eq!(*status, 302, "{asked:?}");
    assert!(location.bytes().all(|byte| byte.is_ascii_graphic()), "{location}");
    let login = Url::parse(location).unwrap();
    assert_eq!((login.origin().ascii_serialization().as_str(), login.path()), ("https://login.test", "/start"));
    assert_eq!(login.fragment(), None, "{location}");
    let mut pairs = login.query_pairs();
    let (name, back) = pairs.next().unwrap();
    assert_eq!((&*name, &*pairs.next().unwrap().1, pairs.next()), ("return_to", "shop", None), "{location}");
    let back = Url::parse(&back).unwrap_or_else(|error| panic!("{location}: {error}"));
    assert_eq!((back.username(), back.password()), ("", None), "{location}");
    Some(back)
}

#[tokio::test] // F07
async fn nobody_is_sent_back_to_another_place_whatever_the_target() {
    assert!(TARGETS.len() >= 60);
    let everything = "[encoded_slash, semicolon, empty_segment, backslash, double_encoding, case_variant]";
    for (paths, least) in [("[case_variant]", 25), (everything, 35)] {
        let site = Site::open(&POLICY.replace("PATHS", paths), &BTreeMap::new());
        let long = format!("/{}", "/evil.test".repeat(700));
        let longer = format!("/a?{}", "x=//evil.test&".repeat(4_000));
        let mut sent = 0;
        for target in TARGETS.iter().copied().chain([&*long, &*longer]) {
            for (host, origin) in [("shop.test", "https://shop.test"), ("admin.test", "https://admin.test")] {
                let asked = ask(target, host);
                let answer = doors::through_envoy(&site, &asked, Lines::Raw).await;
                if let Some(back) = sent_back(&answer, target) {
                    assert_eq!(back.origin().ascii_serialization(), origin, "{target:?}");
                    sent += 1;
                }
            }
        }
        assert!(sent / 2 >= least, "only {sent} of them were sent anywhere");
    }
}

#[tokio::test] // F07
async fn the_host_only_picks_among_the_origins_of_the_policy() {
    let site = Site::open(&POLICY.replace("PATHS", "[case_variant]"), &BTreeMap::new());
    let mut seen = BTreeMap::new();
    for host in HOSTS {
        let answer = doors::through_envoy(&site, &ask("/a", host), Lines::Raw).await;
        let Some(back) = sent_back(&answer, host) else { continue };
        let origin = back.origin().ascii_serialization();
        assert!(["https://shop.test", "https://admin.test", "https://odd.test:8443"].contains(&&*origin), "{host:?}");
        let name = host.trim_end_matches(|c: char| c.is_ascii_digit() || c == ':').trim_end_matches('.');
        if name.eq_ignore_ascii_case("admin.test") || name.eq_ignore_ascii_case("odd.test") {
            assert_ne!(origin, "https://shop.test", "{host:?}");
        } else {
            assert_eq!(origin, "https://shop.test", "{host:?}");
        }
        *seen.entry(origin).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}
