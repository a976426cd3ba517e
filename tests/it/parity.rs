//! The decision table through every dialect of HTTP, over the bytes of connections that the server serves: what each
//! gateway would send is written, and what it would make of the answer is read.
//!
//! What a dialect cannot tell of a case is left out of the question, and the core is asked the rest straight: that is the
//! answer expected, but for what the dialect cannot carry, which by the rules below is a denial.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis::authz::decision::Verdict;
use portcullis::authz::gateways::{By, ClientAddress, Dialect, Gateway, Gateways, Limits};
use portcullis::authz::header::fold;
use portcullis::authz::reason::Reason;
use portcullis::authz::request::is_token;
use portcullis::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::cases;
use crate::doors::{self, Answer, Asked, Http};
use crate::site::Site;

/// The dialects whose question is told in a head of HTTP.
const FORWARD: [Dialect; 5] = [Dialect::EnvoyHttp, Dialect::Nginx, Dialect::Traefik, Dialect::Caddy, Dialect::Haproxy];

/// Headers that end at the gateway (RFC 9110 §7.6.1), or that it writes anew.
const OF_THE_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "content-length",
    "expect",
    "host",
    "x-portcullis-token",
];

/// The headers that tell the question: method, path with query, host; and the address of the gateway's own peer.
fn family(dialect: Dialect) -> Option<[&'static str; 4]> {
    match dialect {
        Dialect::Nginx | Dialect::Haproxy => {
            Some(["x-original-method", "x-original-uri", "x-original-host", "x-original-address"])
        }
        Dialect::Traefik | Dialect::Caddy => {
            Some(["x-forwarded-method", "x-forwarded-uri", "x-forwarded-host", "x-forwarded-for"])
        }
        Dialect::EnvoyHttp | Dialect::Envoy | Dialect::Json => None,
    }
}

/// The policy's entries for each dialect, believed about what that dialect can tell; and last one that knows everybody
/// else and believes nothing, as a peer without an entry stands to Envoy's gRPC.
pub fn gateways(of: &Gateways) -> Gateways {
    let mut all: Vec<Gateway> = of.iter().cloned().collect();
    for dialect in FORWARD.into_iter().chain([Dialect::Json]) {
        for entry in of.iter() {
            let forward = dialect.told_in_headers();
            let client_address = entry.client_address.and_then(|from| match (from, dialect) {
                (ClientAddress::Connection, Dialect::EnvoyHttp | Dialect::Traefik | Dialect::Caddy) => {
                    Some(ClientAddress::Forwarded { hops: 1 })
                }
                (ClientAddress::ExternalAddress, _) if forward && dialect != Dialect::EnvoyHttp => None,
                (from, _) => Some(from),
            });
            all.push(Gateway { dialect, client_address, certificate: None, ..entry.clone() });
        }
        let everybody = ["0.0.0.0/0", "::/0"].map(|network| By::Network(network.parse().unwrap()));
        all.push(Gateway {
            name: "everybody".into(),
            dialect,
            by: everybody.into_iter().chain([By::Unix]).collect(),
            client_address: None,
            certificate: None,
            headers: Box::default(),
            filtered_headers: false,
            limits: Limits::default(),
        });
    }
    Gateways::new(all)
}

/// What should come of a case.
#[derive(Debug)]
enum Expected {
    /// This, as the core says.
    Said(Answer),
    /// A denial of this reason, for what the dialect cannot tell or carry.
    Cannot(Reason),
    /// No dialect sees it, for it is not HTTP/1.1 (400), too large (431), or at no dialect's path (404).
    Nowhere,
}

/// A case as a dialect tells it.
struct Call {
    bytes: Vec<u8>,
    expected: Expected,
    /// Whether the dialect tells all of it.
    whole: bool,
    /// The caller's lines.
    lines: Vec<(String, String)>,
}

impl Call {
    fn sends(&self, name: &str) -> bool {
        self.lines.iter().any(|(sent, _)| sent == name)
    }
}

/// The entry of who asks.
fn entry(site: &Site, dialect: Dialect, asked: &Asked) -> Option<Gateway> {
    let snapshot = site.snapshot();
    let quiet = Asked {
        http: Some(Http { method: "GET".into(), target: "/".into(), host: "h".into(), lines: Vec::new() }),
        ..asked.clone()
    };
    let raw = quiet.raw(dialect).unwrap();
    let request = snapshot.read(&raw).unwrap();
    snapshot.policy().gateways.of(&request).cloned()
}

/// Whether the gateway believes the connection of its peer about the caller's address.
fn believes_connection(site: &Site, asked: &Asked) -> bool {
    let entry = entry(site, Dialect::Json, asked);
    entry.is_some_and(|entry| entry.client_address == Some(ClientAddress::Connection))
}

/// How a gateway of this dialect tells a case, and what should come of it.
fn call(site: &Site, dialect: Dialect, asked: &Asked) -> Call {
    let Some(http) = &asked.http else {
        // About a connection there is nothing to tell.
        let (path, reason) = match family(dialect) {
            None => ("/forward/envoy".to_owned(), Reason::PathMissing),
            Some(_) => (format!("/forward/{}", dialect.word()), Reason::ForwardedMissing),
        };
        let bytes =
            format!("GET {path} HTTP/1.1\r\nhost: a.test\r\nx-forwarded-proto: https\r\nconnection: close\r\n\r\n");
        return Call { bytes: bytes.into(), expected: Expected::Cannot(reason), whole: false, lines: vec![] };
    };
    let (told, mut whole) = told(site, dialect, asked, http);
    whole &= asked.beside.certificate.is_empty() && asked.beside.principal.is_empty();
    // Who has no entry is answered otherwise by gRPC only where something is minted; here it is not answered at all.
    let known = entry(site, Dialect::Envoy, asked);
    whole &= known.is_some() || site.snapshot().policy().mint.is_none();
    // That a caller has no certificate is told only by who tells of certificates.
    whole &= known.is_none_or(|entry| entry.certificate.is_none());
    let bytes = written(site, dialect, asked, &told);
    let lines = told.lines.clone();
    let expected = refused(dialect, &told).unwrap_or_else(|| expected(site, dialect, asked, told));
    Call { bytes, expected, whole, lines }
}

/// What the dialect tells of a case's request, and whether that is all of it.
fn told(site: &Site, dialect: Dialect, asked: &Asked, http: &Http) -> (Http, bool) {
    let filtered = !http.lines.iter().any(|(name, _)| name == ":method");
    let trim = |text: &String| text.trim_matches([' ', '\t']).to_owned();
    let mut told =
        Http { method: trim(&http.method), target: trim(&http.target), host: trim(&http.host), lines: vec![] };
    if dialect == Dialect::EnvoyHttp {
        // A request line says nothing behind `#`; Envoy itself refuses a path with one.
        told.target.truncate(told.target.find('#').unwrap_or(told.target.len()));
    }
    let own = family(dialect).unwrap_or_default();
    let gone = |name: &str| {
        OF_THE_HOP.contains(&name)
            || own[..3].contains(&name)
            || (name == own[3] && (name != "x-forwarded-for" || believes_connection(site, asked)))
            || (name == "x-forwarded-for" && dialect == Dialect::EnvoyHttp && believes_connection(site, asked))
            || (name == "x-envoy-external-address" && dialect != Dialect::EnvoyHttp)
            || name == "x-forwarded-client-cert"
    };
    let pseudo = |name: &str| [":method", ":authority", ":scheme", ":path"].contains(&name);
    let mut whole = (&told.method, &told.target, &told.host) == (&http.method, &http.target, &http.host);
    for (name, value) in &http.lines {
        match &**name {
            name if pseudo(name) => {}
            name if name.starts_with(':') || gone(name) => whole = false,
            name => {
                whole &= trim(value) == *value;
                told.lines.push((name.to_owned(), trim(value)));
            }
        }
    }
    if dialect == Dialect::EnvoyHttp {
        told.lines.retain(|(name, _)| name != "x-forwarded-proto");
        told.lines.extend((!filtered).then(|| ("x-forwarded-proto".into(), "https".into())));
    } else {
        // Others cannot leave headers out.
        whole &= !filtered;
    }
    let said = |name: &str| match name {
        ":method" => Some(&http.method),
        ":path" => Some(&http.target),
        ":authority" => Some(&http.host),
        _ => None,
    };
    // HTTP/1.1 says each once; and has no pseudo-headers to count against a limit.
    whole &=
        http.lines.iter().all(|(name, value)| said(name).is_none_or(|said| said == value)) && told.lines.len() < 90;
    (told, whole)
}

/// The call as bytes.
fn written(site: &Site, dialect: Dialect, asked: &Asked, told: &Http) -> Vec<u8> {
    let mut lines = told.lines.clone();
    let Http { method, target, host, .. } = told;
    let line = match family(dialect) {
        None => {
            lines.push(("host".into(), host.clone()));
            format!("{method} /forward/envoy{target} HTTP/1.1")
        }
        Some([the_method, uri, the_host, address]) => {
            lines.push(("host".into(), "portcullis.test:9002".into()));
            lines.extend([(the_method, method), (uri, target), (the_host, host)].map(|(n, v)| (n.into(), v.clone())));
            let source = asked.source.filter(|_| address != "x-forwarded-for");
            lines.extend(source.map(|source| (address.into(), source.to_string())));
            format!("GET /forward/{} HTTP/1.1", dialect.word())
        }
    };
    let in_list = family(dialect).is_none_or(|family| family[3] == "x-forwarded-for");
    if let Some(source) = asked.source.filter(|_| in_list && believes_connection(site, asked)) {
        lines.push(("x-forwarded-for".into(), format!("203.0.113.99, {source}")));
    }
    for (name, value) in &asked.beside.metadata {
        lines.push((name.to_string(), value.to_str().unwrap().to_owned()));
    }
    lines.push(("connection".into(), "close".into()));
    let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{line}\r\n{lines}\r\n").into_bytes()
}

/// What cannot be told: the rules of docs/operations.md, in other words than the code's.
fn refused(dialect: Dialect, told: &Http) -> Option<Expected> {
    let control = |text: &str| text.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f);
    let line = |(name, value): &(String, String)| !is_token(name.as_bytes()) || control(value);
    let Http { method, target, host, lines } = told;
    let in_line = dialect == Dialect::EnvoyHttp;
    let not_http = lines.iter().any(line)
        || [method, target, host].iter().any(|text| control(text))
        || (in_line && (!is_token(method.as_bytes()) || target.bytes().any(|byte| byte == b' ' || byte == b'\t')));
    let elsewhere = in_line && !target.is_empty() && !target.starts_with(['/', '?']);
    if not_http || elsewhere || lines.len() > 500 {
        return Some(Expected::Nowhere);
    }
    let own = family(dialect).unwrap_or_default();
    let all = [Dialect::Nginx, Dialect::Traefik].map(|dialect| family(dialect).unwrap());
    let question = |name: &str| {
        let is_odd = name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let folded = fold(name.as_bytes());
        let tells = |known: &&str| *known != "x-forwarded-for" && known.as_bytes() == &*folded;
        let another = !own[0].is_empty() && all.iter().any(|family| family[0] == name || family[1] == name);
        (is_odd && all.iter().flatten().any(tells)) || another
    };
    let path = target.split('?').next().unwrap();
    let listed = !in_line && (path.contains(",/") || target.contains(", "));
    let missing = host.is_empty() || (!in_line && (method.is_empty() || target.is_empty()));
    // Method, path and host are looked for first, in no order that anybody relies on.
    if missing {
        return Some(Expected::Cannot(Reason::ForwardedMissing));
    }
    (listed || lines.iter().any(|(name, _)| question(name))).then_some(Expected::Cannot(Reason::ForwardedAmbiguous))
}

/// What the core says of what is told, as far as the dialect carries it.
fn expected(site: &Site, dialect: Dialect, asked: &Asked, told: Http) -> Expected {
    let sent: BTreeSet<String> = told.lines.iter().map(|(name, _)| name.clone()).collect();
    let mut straight = Asked { http: Some(told), ..asked.clone() };
    straight.beside.principal.clear();
    straight.beside.certificate.clear();
    let all = straight.http.as_ref().unwrap().lines.iter().any(|(name, _)| name == "x-forwarded-proto");
    // JSON, like these, has no line by which it is seen that none was left out.
    let like = if dialect == Dialect::EnvoyHttp && !all { Dialect::Envoy } else { Dialect::Json };
    let raw = straight.raw(like).unwrap();
    let decision = doors::decide_raw(&site.snapshot(), &site.answers, Ok(&raw), clock::now(), &mut ());
    let mut answer = doors::of_decision(&decision);
    let (Answer::Allow { set, removed, query, query_removed, responses }, Verdict::Allow(grant)) =
        (&answer, decision.verdict())
    else {
        return Expected::Said(answer);
    };
    if !query.is_empty() || !query_removed.is_empty() || !grant.metadata().is_empty() {
        return Expected::Cannot(Reason::GatewayCannot);
    }
    // A nonce is an offer that the next denial repeats.
    if !dialect.can_respond() && responses.keys().any(|name| name != "dpop-nonce") {
        return Expected::Cannot(Reason::GatewayCannot);
    }
    let listed = listed(site);
    let mixed = |(name, value): (&String, &String)| listed.contains(name) && set.get(name) != Some(value);
    if dialect == Dialect::EnvoyHttp && responses.iter().any(mixed) {
        return Expected::Cannot(Reason::GatewayCannot);
    }
    let alias = |name: &String| !listed.contains(name) && sent.contains(name);
    if !dialect.can_remove() && set.keys().chain(removed).any(alias) {
        return Expected::Cannot(Reason::HeaderAlias);
    }
    // Where the answer has no such header, an older Caddy takes the name of its placeholder for the value.
    if dialect == Dialect::Caddy
        && let Answer::Allow { set, removed, .. } = &mut answer
    {
        removed.extend(listed.into_iter().filter(|name| !sent.contains(name) && !set.contains_key(name)));
    }
    Expected::Said(answer)
}

/// The headers that the gateway's file lists: those that it takes from an answer.
fn listed(site: &Site) -> BTreeSet<String> {
    let snapshot = site.snapshot();
    let policy = snapshot.policy();
    let names = policy.routes[0].contract.names();
    let text = |name: &bytes::Bytes| String::from_utf8(name.to_vec()).unwrap();
    names.emitted().chain(&policy.echoed).map(text).collect()
}

/// An answer of HTTP/1.1, whose lines of one name are one.
pub struct Heard {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// Sends bytes over a connection that the server serves, and reads the answer to its end.
pub async fn sent(site: &Site, asked: &Asked, bytes: &[u8]) -> Heard {
    let (mut gateway, io) = tokio::io::duplex(1 << 20);
    let holder = asked.beside.holder.clone().map(Arc::new);
    let served = tokio::spawn(portcullis::server::serve_one(io, Arc::clone(&site.authorizer), asked.asker, holder));
    let _ = gateway.write_all(bytes).await;
    let mut answer = Vec::new();
    gateway.read_to_end(&mut answer).await.unwrap();
    drop(gateway);
    let _ = served.await.unwrap();
    heard(&answer)
}

/// Reads an answer.
pub fn heard(answer: &[u8]) -> Heard {
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = BTreeMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        assert_eq!(headers.insert(name.to_owned(), value.trim().to_owned()), None, "{name} twice");
    }
    Heard { status, headers, body: body.to_owned() }
}

/// What the gateway makes of an answer; `None` where it is none of a dialect.
fn understood(site: &Site, dialect: Dialect, heard: Heard, call: &Call) -> Option<Answer> {
    let Heard { status, mut headers, body } = heard;
    for own in ["date", "content-length", "connection"] {
        headers.remove(own);
    }
    let decision = headers.remove("x-portcullis-decision")?;
    if status == 200 {
        assert_eq!(body, "");
        return Some(allowed(site, dialect, headers, call));
    }
    assert!(!(200..300).contains(&status), "{status} lets pass with some");
    let true_status = headers.remove("x-portcullis-status").map(|status| status.parse().unwrap());
    match dialect {
        Dialect::Nginx => {
            assert!(matches!(status, 401 | 403), "{status} is 500 by nginx");
            assert_eq!(status == 401, true_status == Some(401));
            assert!(!headers.contains_key("location"));
            let location = headers.remove("x-portcullis-location");
            headers.extend(location.map(|location| ("location".to_owned(), location)));
        }
        Dialect::EnvoyHttp => assert!(status < 500, "{status} is a failure to Envoy"),
        _ => assert_eq!(true_status, None),
    }
    let reason = site.sealing.open(&decision).unwrap().reason.unwrap();
    let body = Some(&*body).filter(|body| !body.is_empty());
    if let Some(body) = body {
        assert_eq!(doors::id(body), decision);
    }
    Some(doors::denial(reason, true_status.unwrap_or(status), &headers, body))
}

/// What reaches upstream and caller.
fn allowed(site: &Site, dialect: Dialect, mut headers: BTreeMap<String, String>, call: &Call) -> Answer {
    assert_eq!(headers.remove("cache-control").as_deref(), Some("no-store"));
    let words = |text: Option<String>| -> BTreeSet<String> {
        text.unwrap_or_default().split(", ").filter(|word| !word.is_empty()).map(Into::into).collect()
    };
    let listed = listed(site);
    let (theirs, gone) = match &call.expected {
        Expected::Said(Answer::Allow { responses, removed, .. }) => (responses.clone(), removed.clone()),
        Expected::Said(Answer::Deny { .. }) | Expected::Cannot(_) | Expected::Nowhere => Default::default(),
    };
    let (set, removed, responses): (BTreeMap<_, _>, BTreeSet<_>, BTreeMap<_, _>);
    match dialect {
        Dialect::EnvoyHttp => {
            removed = words(headers.remove("x-envoy-auth-headers-to-remove"));
            responses = headers.clone().into_iter().filter(|(name, _)| theirs.contains_key(name)).collect();
            set = headers.into_iter().filter(|(name, _)| listed.contains(name) || !theirs.contains_key(name)).collect();
        }
        _ => {
            let prefix = "x-portcullis-response-";
            responses = headers.extract_if(.., |name, _| name.starts_with(prefix)).collect();
            if dialect == Dialect::Haproxy {
                removed = words(headers.remove("x-portcullis-remove"));
                let names = words(headers.remove("x-portcullis-set"));
                assert_eq!(names, headers.keys().cloned().collect());
                set = headers;
            } else {
                // F09: what the file lists is copied whatever it is.
                for name in listed.iter().filter(|name| gone.contains(*name) || call.sends(name)) {
                    assert!(headers.contains_key(name), "{name} keeps the caller's value");
                }
                removed = headers.iter().filter(|(_, value)| value.is_empty()).map(|(name, _)| name.clone()).collect();
                set = headers.into_iter().filter(|(_, value)| !value.is_empty()).collect();
            }
        }
    }
    let responses = responses.into_iter().map(|(name, value)| {
        (name.strip_prefix("x-portcullis-response-").map(ToOwned::to_owned).unwrap_or(name), value)
    });
    Answer::Allow {
        set,
        removed,
        responses: responses.collect(),
        query: BTreeMap::new(),
        query_removed: BTreeSet::new(),
    }
}

/// What is wrong with an answer, if anything is.
fn differs(dialect: Dialect, call: &Call, answer: Option<&Answer>) -> Result<(), String> {
    match (&call.expected, answer) {
        (Expected::Nowhere, None) => Ok(()),
        (Expected::Cannot(reason), Some(Answer::Deny { reason: got, status, .. })) => {
            if (reason, reason.status()) == (got, *status) { Ok(()) } else { Err(format!("{got:?}, not {reason:?}")) }
        }
        (
            Expected::Said(Answer::Allow { set, removed, responses, .. }),
            Some(Answer::Allow { set: its, removed: gone, responses: told, .. }),
        ) => {
            let mut expected = set.clone();
            let mut removed = removed.clone();
            if !dialect.can_remove() {
                // An empty value is no value to a gateway that writes over.
                removed.extend(expected.extract_if(.., |_, value| value.is_empty()).map(|(name, _)| name));
            }
            // What passes as it came is written over with the same.
            let kept = |name: &String, value: &String| {
                !dialect.can_remove() && !set.contains_key(name) && call.lines.contains(&(name.clone(), value.clone()))
            };
            let its: BTreeMap<_, _> = its.clone().into_iter().filter(|(name, value)| !kept(name, value)).collect();
            if its == expected && *gone == removed && told == responses {
                return Ok(());
            }
            Err(format!("set {its:?}, not {expected:?}; removed {gone:?}, not {removed:?}; told {told:?}"))
        }
        (Expected::Said(said), Some(got)) if said == got => Ok(()),
        _ => Err(format!("{answer:?}, not {:?}", call.expected)),
    }
}

#[tokio::test] // F02, F03, F08, F09, F10
async fn every_case_has_its_answer_through_every_dialect_of_http() {
    let mut wrong = Vec::new();
    let (mut count, mut whole, mut cannot) = (0, 0, BTreeMap::new());
    for (file, table) in cases::tables() {
        let site = Site::answering_to(&table.policy, &table.keys, table.answers.clone(), |of| Some(gateways(of))).await;
        for (case, dialect) in table.cases.iter().flat_map(|case| FORWARD.map(|dialect| (case, dialect))) {
            // A proof passes once: each door has its own.
            let asked = cases::asked(&site, &table, case);
            let call = call(&site, dialect, &asked);
            let heard = sent(&site, &asked, &call.bytes).await;
            assert!([200, 302, 400, 401, 403, 404, 431, 503].contains(&heard.status), "{file}: {}", heard.status);
            let answer = understood(&site, dialect, heard, &call);
            let mut found = differs(dialect, &call, answer.as_ref());
            count += 1;
            match (&call.expected, &answer) {
                (Expected::Said(_), Some(answer)) if call.whole && found.is_ok() => {
                    whole += 1;
                    let kept = matches!(answer, Answer::Allow { .. }) && !dialect.can_remove();
                    // What passes as it came is written over with the same where a gateway cannot remove.
                    let none = Vec::new();
                    if kept && case.upstream.values().any(|value| value.as_deref() == Some("")) {
                        // Nor does it tell an empty value from none.
                        continue;
                    }
                    found = cases::compare(case, &case.expect, answer, if kept { &none } else { &case.untouched });
                }
                (Expected::Cannot(reason), _) => *cannot.entry(reason.code()).or_insert(0) += 1,
                _ => {}
            }
            if let Err(why) = found {
                wrong.push(format!("{file}: {} ({}): {why}", case.name, dialect.word()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    // Nearly all of the table is told whole by nearly all.
    assert!(whole * 10 >= count * 8, "{whole} of {count} were told whole; {cannot:?}");
    let codes: Vec<&str> = cannot.into_keys().collect();
    let expected = ["forwarded_ambiguous", "forwarded_missing", "gateway_cannot", "header_alias", "path_missing"];
    assert_eq!(codes, expected);
}
