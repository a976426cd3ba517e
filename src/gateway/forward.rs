//! Gateways that ask by plain HTTP: Envoy's `http_service`, nginx, Traefik, Caddy, HAProxy. One path and one row each.
//!
//! What is asked about stands in headers that anybody could send: it is read of gateways with an entry only, from exactly
//! one place, and where that does not hold exactly one value there is no other place to look.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};

use super::denial::Said;
use super::{catch, caught};
use crate::authorizer::{Answered, Authorizer};
use crate::authz::decision::{Decision, Denial, Grant, Verdict};
use crate::authz::gateways::Dialect;
use crate::authz::reason::Reason;
use crate::authz::request::{Asker, Header, Malformed, Proof, Raw};

/// What the path of each dialect begins with.
pub const PATHS: &str = "/forward/";

/// A dialect.
struct Row {
    /// Which.
    dialect: Dialect,
    /// What follows [`PATHS`].
    path: &'static str,
    /// Where the question is told.
    told: Told,
    /// Which statuses of a denial the gateway hands on to the caller.
    denies: Denies,
}

/// Where method, host, and path with query are told.
enum Told {
    /// In the call's own request line, behind our path, and its `host`.
    Line,
    /// In headers.
    Headers(&'static Family),
}

/// The headers that tell the question, in lower case.
#[derive(PartialEq)]
struct Family {
    method: &'static str,
    uri: &'static str,
    host: &'static str,
    /// The peer of the gateway's own downstream connection.
    address: Option<&'static str>,
}

const ORIGINAL: Family = Family {
    method: "x-original-method",
    uri: "x-original-uri",
    host: "x-original-host",
    address: Some("x-original-address"),
};
const FORWARDED: Family =
    Family { method: "x-forwarded-method", uri: "x-forwarded-uri", host: "x-forwarded-host", address: None };
const FAMILIES: [&Family; 2] = [&ORIGINAL, &FORWARDED];

/// What the gateway makes of a denial.
enum Denies {
    /// It hands it on as it is.
    Whole,
    /// The same, but a 5xx is a failure to it, which it may be told to let pass: it gets 403 and the status beside.
    NoFailure,
    /// It knows 401 and 403 only, and of headers only what its file names: it gets one of them, and the rest beside.
    Sparsely,
}

const ROWS: [Row; 5] = [
    Row { dialect: Dialect::EnvoyHttp, path: "envoy", told: Told::Line, denies: Denies::NoFailure },
    Row { dialect: Dialect::Nginx, path: "nginx", told: Told::Headers(&ORIGINAL), denies: Denies::Sparsely },
    Row { dialect: Dialect::Traefik, path: "traefik", told: Told::Headers(&FORWARDED), denies: Denies::Whole },
    Row { dialect: Dialect::Caddy, path: "caddy", told: Told::Headers(&FORWARDED), denies: Denies::Whole },
    Row { dialect: Dialect::Haproxy, path: "haproxy", told: Told::Headers(&ORIGINAL), denies: Denies::Whole },
];

/// Where the token of a gateway is: its own, never the caller's.
const TOKEN: &str = "x-portcullis-token";
/// The decision id, on every answer.
const DECISION: HeaderName = HeaderName::from_static("x-portcullis-decision");
/// The true status of a denial, where the gateway takes another one.
const STATUS: HeaderName = HeaderName::from_static("x-portcullis-status");
/// Where the caller is to be sent, for a gateway that does not send callers anywhere by itself.
const LOCATION: HeaderName = HeaderName::from_static("x-portcullis-location");
/// The body of a denial in one line, for a gateway that reads the head only.
const BODY: HeaderName = HeaderName::from_static("x-portcullis-body");
/// The largest head of an answer, in bytes: nginx, by its file, takes 32 KiB.
const MAX_ANSWER: usize = 28 * 1024;
/// What the names of headers for the caller begin with on an allow.
const RESPONSE: &str = "x-portcullis-response-";

/// Answers one call, by its head alone. Only a 200 lets pass.
pub async fn check(authorizer: &Authorizer, asker: Asker, proof: Proof<'_>, head: &Parts) -> Response<Bytes> {
    let Some(row) = ROWS.iter().find(|row| row.answers(head)) else { return bare(StatusCode::NOT_FOUND) };
    caught(answer(row, authorizer, asker, proof, head)).await.unwrap_or_else(|| row.failed())
}

async fn answer(row: &Row, authorizer: &Authorizer, asker: Asker, proof: Proof<'_>, head: &Parts) -> Response<Bytes> {
    let unread = |malformed| Raw { unread: Some(malformed), ..Raw::new(row.dialect, asker, [b""; 3], Vec::new()) };
    let raw = row.read(asker, head).unwrap_or_else(unread);
    let answered = authorizer.check(Ok(Raw { proof, ..raw }), None).await;
    catch(|| row.encode(&answered)).flatten().unwrap_or_else(|| row.failed())
}

impl Row {
    /// Whether a call is one of this dialect's, by its path. Its query is the caller's (Caddy keeps it there) or nothing.
    fn answers(&self, head: &Parts) -> bool {
        let rest = head.uri.path().strip_prefix(PATHS).and_then(|path| path.strip_prefix(self.path));
        match self.told {
            Told::Line => rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Told::Headers(_) => rest == Some(""),
        }
    }

    /// The question of a call.
    fn read<'r>(&self, asker: Asker, head: &'r Parts) -> Result<Raw<'r>, Malformed> {
        // A call to a proxy is none to us.
        if head.uri.authority().is_some() {
            return Err(AMBIGUOUS);
        }
        let (family, [method, target, host]) = match self.told {
            Told::Line => (None, self.line(head)?),
            Told::Headers(family) => (Some(family), family.question(&head.headers)?),
        };
        let mut raw = Raw::new(self.dialect, asker, [method, target, host], lines(&head.headers, family)?);
        if let Some(name) = family.and_then(|family| family.address) {
            raw.source = address(&head.headers, name)?;
        }
        Ok(raw)
    }

    /// What the call's own request line and `host` tell.
    fn line<'r>(&self, head: &'r Parts) -> Result<[&'r [u8]; 3], Malformed> {
        let path = head.uri.path_and_query().map_or("", |path| path.as_str());
        let target = path.strip_prefix(PATHS).and_then(|path| path.strip_prefix(self.path)).ok_or(MISSING)?;
        Ok([head.method.as_str().as_bytes(), target.as_bytes(), sole(&head.headers, "host")?])
    }

    /// The answer to the gateway; `None` where it cannot be written.
    fn encode(&self, answered: &Answered) -> Option<Response<Bytes>> {
        let mut answer = match answered.decision.verdict() {
            Verdict::Allow(grant) => self.allow(grant)?,
            Verdict::Deny(denial) => self.deny(denial, answered)?,
        };
        // One that is too large for the gateway would be a failure to it, which it may be told to let pass.
        let line = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len().saturating_add(value.len());
        if answer.headers().iter().map(line).fold(0, usize::saturating_add) > MAX_ANSWER {
            let refused = Decision::denied(Reason::HeadersTooLarge);
            if let Verdict::Deny(denial) = refused.verdict() {
                answer = self.deny(denial, answered)?;
            }
        }
        // Always there: a gateway may take it as the sign that this is an answer of ours.
        let id = answered.id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        answer.headers_mut().insert(DECISION, HeaderValue::try_from(id).ok()?);
        Some(answer)
    }

    fn allow(&self, grant: &Grant) -> Option<Response<Bytes>> {
        let mut headers = HeaderMap::with_capacity(48);
        headers.insert(http::header::CACHE_CONTROL, NO_STORE);
        // What is for the caller comes first: nothing of it stands where something for the upstream is to.
        let prefix = if matches!(self.dialect, Dialect::EnvoyHttp) { "" } else { RESPONSE };
        for (name, value) in grant.responses() {
            let name = [prefix.as_bytes(), name].concat();
            headers.insert(HeaderName::from_bytes(&name).ok()?, HeaderValue::from_maybe_shared(value.clone()).ok()?);
        }
        let mut set: Vec<&[u8]> = Vec::new();
        for (name, value) in grant.set() {
            headers.insert(HeaderName::from_bytes(name).ok()?, HeaderValue::from_maybe_shared(value.clone()).ok()?);
            set.push(name);
        }
        let named = |names: &[&[u8]]| HeaderValue::from_bytes(&names.join(&b", "[..])).ok();
        let removed = || grant.remove().map(|name| &**name).collect::<Vec<&[u8]>>();
        match self.dialect {
            Dialect::EnvoyHttp => _ = headers.insert("x-envoy-auth-headers-to-remove", named(&removed())?),
            Dialect::Haproxy => {
                headers.insert("x-portcullis-set", named(&set)?);
                headers.insert("x-portcullis-remove", named(&removed())?);
            }
            Dialect::Nginx | Dialect::Traefik | Dialect::Caddy | Dialect::Envoy | Dialect::Json => {
                for name in grant.remove() {
                    headers.insert(HeaderName::from_bytes(name).ok()?, HeaderValue::from_static(""));
                }
            }
        }
        let mut answer = Response::new(Bytes::new());
        *answer.headers_mut() = headers;
        Some(answer)
    }

    fn deny(&self, denial: &Denial, answered: &Answered) -> Option<Response<Bytes>> {
        let Said { status, headers: lines, body } = Said::of(denial, answered.id);
        let mut answer = bare(self.status(status));
        let headers = answer.headers_mut();
        for (name, value) in lines {
            let name = match self.denies {
                Denies::Sparsely if name == "location" => LOCATION,
                Denies::Sparsely | Denies::NoFailure | Denies::Whole => HeaderName::from_static(name),
            };
            headers.insert(name, HeaderValue::from_maybe_shared(value).ok()?);
        }
        if !matches!(self.denies, Denies::Whole) {
            headers.insert(STATUS, HeaderValue::from(status));
        }
        if matches!(self.denies, Denies::Sparsely) {
            headers.insert(BODY, HeaderValue::try_from(body.trim_end().replace('\n', " ")).ok()?);
        }
        *answer.body_mut() = Bytes::from(body);
        Some(answer)
    }

    /// The status that the gateway gets for the one that the caller should.
    fn status(&self, status: u16) -> StatusCode {
        let handed_on = match self.denies {
            Denies::Whole => true,
            Denies::NoFailure => status < 500,
            Denies::Sparsely => status == 401,
        };
        let status = StatusCode::from_u16(status).ok().filter(|_| handed_on && (300..600).contains(&status));
        status.unwrap_or(StatusCode::FORBIDDEN)
    }

    /// The denial of last resort.
    fn failed(&self) -> Response<Bytes> {
        let answered = Answered { decision: Decision::denied(Reason::InternalError), id: None };
        let answer = catch(|| self.encode(&answered)).flatten();
        answer.filter(|answer| !answer.status().is_success()).unwrap_or_else(|| bare(StatusCode::FORBIDDEN))
    }
}

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const MISSING: Malformed = Malformed(Reason::ForwardedMissing);
const AMBIGUOUS: Malformed = Malformed(Reason::ForwardedAmbiguous);

fn bare(status: StatusCode) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = status;
    answer
}

impl Family {
    /// Method, path with query, and host, each from its one header.
    fn question<'r>(&self, headers: &'r HeaderMap) -> Result<[&'r [u8]; 3], Malformed> {
        // What tells path and method elsewhere is believed elsewhere: both together have two readings.
        for other in FAMILIES.iter().filter(|other| **other != self) {
            if headers.contains_key(other.method) || headers.contains_key(other.uri) {
                return Err(AMBIGUOUS);
            }
        }
        let target = sole(headers, self.uri)?;
        // Two lines that a hop before us made one.
        let path = target.split(|byte| *byte == b'?').next().unwrap_or(target);
        if path.windows(2).any(|pair| pair == b",/") || target.windows(2).any(|pair| pair == b", ") {
            return Err(AMBIGUOUS);
        }
        Ok([sole(headers, self.method)?, target, sole(headers, self.host)?])
    }

    /// Whether a header tells the question, or would pass for one that does.
    fn tells(&self, name: &[u8]) -> bool {
        let names = [Some(self.method), Some(self.uri), Some(self.host), self.address];
        names.into_iter().flatten().any(|own| own.as_bytes() == name)
    }
}

/// The value of a header that must be there once.
fn sole<'r>(headers: &'r HeaderMap, name: &'static str) -> Result<&'r [u8], Malformed> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(HeaderValue::as_bytes).filter(|value| !value.is_empty()).ok_or(MISSING)?;
    if values.next().is_some() { Err(AMBIGUOUS) } else { Ok(value) }
}

/// The address in a header that may be there once; none where it holds none, as of a unix socket.
fn address(headers: &HeaderMap, name: &'static str) -> Result<Option<IpAddr>, Malformed> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(HeaderValue::as_bytes).unwrap_or_default();
    if values.next().is_some() || value.contains(&b',') {
        return Err(AMBIGUOUS);
    }
    Ok(std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()))
}

/// The header lines of the caller's request: all that are not about the call itself, or the question.
fn lines<'r>(headers: &'r HeaderMap, family: Option<&'static Family>) -> Result<Vec<Header<'r>>, Malformed> {
    let mut lines = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let name = name.as_str().as_bytes();
        match name {
            b"host" | b"content-length" | b"transfer-encoding" | b"te" | b"trailer" | b"expect" | b"keep-alive"
            | b"proxy-connection" => {}
            // The gateway's own: one that names other headers is the caller's, whose they are then is anyone's guess.
            b"connection" if !is_of_this_hop(value.as_bytes()) => return Err(AMBIGUOUS),
            b"connection" => {}
            _ if name == TOKEN.as_bytes() => {}
            _ if family.is_some_and(|family| family.tells(name)) => {}
            _ if passes_for_one(name) => return Err(AMBIGUOUS),
            _ => lines.push(Header { name, value: value.as_bytes() }),
        }
    }
    Ok(lines)
}

/// Whether a `connection` names nothing but what every hop may.
fn is_of_this_hop(value: &[u8]) -> bool {
    let mut options = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    options.all(|option| {
        [&b""[..], b"close", b"keep-alive", b"upgrade", b"te"].iter().any(|own| option.eq_ignore_ascii_case(own))
    })
}

/// Whether a name is another spelling of one that tells a question: some gateways and servers take `_` for `-`.
fn passes_for_one(name: &[u8]) -> bool {
    let is_odd = name.iter().any(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
    is_odd && {
        let folded = crate::authz::header::fold(name);
        FAMILIES.iter().any(|family| family.tells(&folded))
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::authz::reason::Challenge;

    /// What a row makes of a call: method, target and host, source, and the names of the lines; or why it makes nothing.
    fn read(path: &str, lines: &[(&str, &str)]) -> Result<(String, Option<IpAddr>, Vec<String>), Reason> {
        let mut call = Request::builder().uri(path);
        for (name, value) in lines {
            call = call.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let (head, ()) = call.body(()).unwrap().into_parts();
        let row = ROWS.iter().find(|row| row.answers(&head)).expect("a dialect answers this path");
        let raw = row.read(Asker::Unix, &head).map_err(|Malformed(reason)| reason)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let question = [raw.method, raw.target, raw.host].map(text).join(" ");
        Ok((question, raw.source, raw.headers.iter().map(|line| text(line.name)).collect()))
    }

    const NGINX: [(&str, &str); 4] = [
        ("x-original-method", "GET"),
        ("x-original-uri", "/a?x=1"),
        ("x-original-host", "shop.test"),
        ("x-original-address", "192.0.2.1"),
    ];
    const TRAEFIK: [(&str, &str); 3] =
        [("x-forwarded-method", "GET"), ("x-forwarded-uri", "/a?x=1"), ("x-forwarded-host", "shop.test")];

    fn family(path: &str) -> &'static [(&'static str, &'static str)] {
        if path.ends_with("nginx") || path.ends_with("haproxy") { &NGINX } else { &TRAEFIK }
    }

    const IN_HEADERS: [&str; 4] = ["/forward/nginx", "/forward/haproxy", "/forward/traefik", "/forward/caddy"];

    #[test]
    fn a_question_is_read_from_its_own_headers_and_the_rest_is_the_callers() {
        for path in IN_HEADERS {
            let own = [("host", "portcullis:9002"), ("connection", "close"), ("content-length", "0")];
            let theirs = [("accept", "a"), ("authorization", "Bearer t"), ("x-portcullis-token", "secret")];
            let (question, source, lines) = read(path, &[&own, family(path), &theirs].concat()).unwrap();
            assert_eq!(question, "GET /a?x=1 shop.test", "{path}");
            assert_eq!(source.is_some(), family(path).len() == 4, "{path}");
            assert_eq!(lines, ["accept", "authorization"], "{path}");
        }
        let (question, _, lines) = read("/forward/envoy/a?x=1", &[("host", "shop.test"), ("accept", "a")]).unwrap();
        assert_eq!(question, "GET /a?x=1 shop.test");
        assert_eq!(lines, ["accept"]);
    }

    #[test] // F02
    fn a_header_that_tells_the_question_is_there_once_or_there_is_none() {
        for path in IN_HEADERS {
            for at in 0..3 {
                let mut lines = family(path).to_vec();
                let (name, value) = lines.remove(at);
                let with = |more: &[(&'static str, &'static str)]| read(path, &[&lines, more].concat()).unwrap_err();
                assert_eq!(with(&[]), Reason::ForwardedMissing, "{path}: no {name}");
                assert_eq!(with(&[(name, "")]), Reason::ForwardedMissing, "{path}: {name} is empty");
                assert_eq!(with(&[(name, value), (name, value)]), Reason::ForwardedAmbiguous, "{path}: {name} twice");
                assert_eq!(with(&[("host", "shop.test")]), Reason::ForwardedMissing, "{path}: not our own {name}");
                // Nobody takes another family's.
                let other = ["/forward/nginx", "/forward/traefik"].map(family).concat();
                let other: Vec<_> = other.into_iter().filter(|line| !family(path).contains(line)).collect();
                assert!(read(path, &[&lines, &other[..]].concat()).is_err(), "{path}: {name} of another family");
            }
        }
        let twice = [&NGINX[..], &[("x-original-address", "192.0.2.2")]].concat();
        assert_eq!(read("/forward/nginx", &twice).unwrap_err(), Reason::ForwardedAmbiguous);
        let list = [&NGINX[..3], &[("x-original-address", "192.0.2.1, 192.0.2.2")]].concat();
        assert_eq!(read("/forward/nginx", &list).unwrap_err(), Reason::ForwardedAmbiguous);
        for nowhere in ["unix:", "", "localhost"] {
            let lines = [&NGINX[..3], &[("x-original-address", nowhere)]].concat();
            assert_eq!(read("/forward/nginx", &lines).unwrap().1, None, "{nowhere}");
        }
    }

    #[test] // F02
    fn method_or_path_of_another_family_or_spelling_beside_leaves_two_readings() {
        for path in IN_HEADERS {
            for name in ["method", "uri"] {
                let others = if family(path).len() == 4 { "x-forwarded-" } else { "x-original-" };
                let name = format!("{others}{name}");
                let lines = [family(path), &[(&*name, "/b")]].concat();
                assert_eq!(read(path, &lines).unwrap_err(), Reason::ForwardedAmbiguous, "{path}: {name}");
            }
            for name in
                ["x_original_uri", "x-original_uri", "x_forwarded_uri", "x.forwarded.host", "x_forwarded-method"]
            {
                let lines = [family(path), &[(name, "/b")]].concat();
                assert_eq!(read(path, &lines).unwrap_err(), Reason::ForwardedAmbiguous, "{path}: {name}");
            }
            for list in ["/a, /b", "/a,/b", "/a?x=1, /b"] {
                let mut lines = family(path).to_vec();
                lines[1].1 = list;
                assert_eq!(read(path, &lines).unwrap_err(), Reason::ForwardedAmbiguous, "{path}: {list}");
            }
            let mut lines = family(path).to_vec();
            lines[1].1 = "/a,b?x=1,/c";
            assert!(read(path, &lines).is_ok(), "a comma alone is no list");
        }
    }

    #[test] // F02
    fn a_connection_header_that_names_others_is_refused() {
        for path in IN_HEADERS {
            for fine in ["close", "keep-alive", "Upgrade", "keep-alive, upgrade", "TE, close", ""] {
                assert!(read(path, &[family(path), &[("connection", fine)]].concat()).is_ok(), "{fine}");
            }
            for name in ["x-user-id", "close, x-original-uri", "x-forwarded-uri,close", "authorization"] {
                let found = read(path, &[family(path), &[("connection", name)]].concat());
                assert_eq!(found.unwrap_err(), Reason::ForwardedAmbiguous, "{name}");
            }
        }
    }

    #[test]
    fn a_path_is_one_dialects_whole_or_nobodys() {
        let answers = |uri: &str| {
            let (head, ()) = Request::builder().uri(uri).body(()).unwrap().into_parts();
            ROWS.iter().find(|row| row.answers(&head)).map(|row| row.dialect)
        };
        assert_eq!(answers("/forward/envoy/a"), Some(Dialect::EnvoyHttp));
        assert_eq!(answers("/forward/envoy/nginx"), Some(Dialect::EnvoyHttp));
        assert_eq!(answers("/forward/envoy"), Some(Dialect::EnvoyHttp));
        assert_eq!(answers("/forward/caddy?x=/forward/nginx"), Some(Dialect::Caddy));
        for nobodys in [
            "/forward/",
            "/forward/envoyx",
            "/forward/nginx/",
            "/forward/nginx/a",
            "/forward/Nginx",
            "/forward/%6eginx",
            "/forward//nginx",
            "/nginx",
        ] {
            assert_eq!(answers(nobodys), None, "{nobodys}");
        }
        assert!(read("http://shop.test/forward/nginx", &NGINX).is_err(), "a call to a proxy");
        assert!(read("/forward/envoy/a", &[]).is_err(), "no host");
        assert!(read("/forward/envoy/a", &[("host", "a"), ("host", "b")]).is_err(), "two hosts");
    }

    #[test] // F10
    fn every_denial_is_one_as_its_gateway_reads_it() {
        for row in &ROWS {
            for reason in Reason::ALL.iter().copied() {
                let answered = Answered { decision: Decision::denied(reason), id: None };
                let answer = row.encode(&answered).unwrap();
                let status = answer.status().as_u16();
                match row.denies {
                    Denies::Whole => assert_eq!(status, reason.status(), "{reason:?}"),
                    Denies::NoFailure if reason.status() < 500 => assert_eq!(status, reason.status(), "{reason:?}"),
                    Denies::Sparsely if reason.status() == 401 => assert_eq!(status, 401, "{reason:?}"),
                    Denies::NoFailure | Denies::Sparsely => assert_eq!(status, 403, "{reason:?}"),
                }
                let value = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
                let told = value("x-portcullis-status");
                let expected = (!matches!(row.denies, Denies::Whole)).then(|| reason.status().to_string());
                assert_eq!(told, expected, "{reason:?}");
                let line = matches!(row.denies, Denies::Sparsely).then(|| answer.body().clone());
                assert_eq!(value("x-portcullis-body").map(Bytes::from), line, "{reason:?}");
                assert_eq!(value("x-portcullis-decision").as_deref(), Some("none"), "{reason:?}");
                assert_eq!(value("cache-control").as_deref(), Some("no-store"));
                assert_eq!(value("x-content-type-options").as_deref(), Some("nosniff"));
                assert_eq!(value("www-authenticate").is_some(), reason.challenge() != Challenge::None);
                let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
                assert_eq!(body["status"], reason.status());
                assert_eq!(row.failed().status().as_u16(), row.status(503).as_u16());
            }
            for never in [100, 200, 204, 206, 299, 0, 99, 1_000] {
                assert_eq!(row.status(never), 403, "{never}");
            }
        }
    }
}
