//! The doors by which a question reaches the core: straight, watched, and as Envoy encodes it, in both of its ways.
//!
//! What Envoy would send is written, and what it would get is read, with another crate's messages than ours.

pub mod json;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::auth::v3 as auth;
use http::HeaderMap;
use portcullis::authz::accept::Form;
use portcullis::authz::certificate::Holder;
use portcullis::authz::decision::{Decision, RuleRef, Verdict};
use portcullis::authz::gateways::Dialect;
use portcullis::authz::proof::Sighting;
use portcullis::authz::reason::Reason;
use portcullis::authz::request::{Asker, Header, Malformed, Proof, Raw};
use portcullis::authz::rule::{Scene, Words};
use portcullis::authz::snapshot::{Facts, NoNews, Question, Snapshot, Step, Witness};
use portcullis::authz::time::Timestamp;
use portcullis::clock;
use portcullis::gateway::envoy;
use prost::Message as _;

use crate::site::{Answers, Site};

/// A question of a gateway.
#[derive(Clone, Debug)]
pub struct Asked {
    pub asker: Asker,
    pub beside: Beside,
    pub source: Option<IpAddr>,
    /// `None` where it is about a connection, not an HTTP request.
    pub http: Option<Http>,
}

/// What is known beside addresses.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// Whom the certificate of the gateway names.
    pub holder: Option<Holder>,
    /// The metadata of the gateway's call.
    pub metadata: HeaderMap,
    /// Whom the certificate of the caller names, as the gateway says.
    pub principal: String,
    /// That certificate itself, as Envoy sends it.
    pub certificate: String,
}

impl Asked {
    /// The question as it is told in this dialect; `None` where it is about no HTTP request.
    pub fn raw(&self, dialect: Dialect) -> Option<Raw<'_>> {
        let http = self.http.as_ref()?;
        let headers = http.lines.iter().map(|(n, v)| Header { name: n.as_bytes(), value: v.as_bytes() }).collect();
        let question = [&http.method, &http.target, &http.host].map(|text| text.as_bytes());
        Some(Raw {
            proof: self.proof(),
            source: self.source,
            principal: self.beside.principal.as_bytes(),
            certificate: self.beside.certificate.as_bytes(),
            ..Raw::new(dialect, self.asker, question, headers)
        })
    }

    fn proof(&self) -> Proof<'_> {
        Proof { holder: self.beside.holder.as_ref(), metadata: Some(&self.beside.metadata) }
    }
}

/// The HTTP request that it is about.
#[derive(Clone, Debug)]
pub struct Http {
    pub method: String,
    pub target: String,
    pub host: String,
    /// Header lines, pseudo-headers included.
    pub lines: Vec<(String, String)>,
}

/// An answer, whichever door it came through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Allow {
        set: BTreeMap<String, String>,
        removed: BTreeSet<String>,
        responses: BTreeMap<String, String>,
        query: BTreeMap<String, String>,
        /// Query parameters that are removed.
        query_removed: BTreeSet<String>,
    },
    Deny {
        status: u16,
        reason: Reason,
        challenge: Option<String>,
        location: Option<String>,
        grpc: bool,
        /// `problem`, `html` or `text`; empty for gRPC.
        form: String,
        /// The origin whose page may read it, and `credentials` after it where it may send cookies.
        reader: Option<String>,
    },
}

/// How Envoy writes header lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// As a map, lines of one name joined by commas.
    Joined,
    /// Each by itself (`encode_raw_headers`).
    Raw,
}

/// Sees every word of every rule, so that nothing is cut short.
#[derive(Default)]
struct Everything(Vec<(RuleRef, Words)>);

impl Witness for Everything {
    type Words = Words;

    fn words(&mut self, rule: RuleRef, _: &Scene<'_>) -> &mut Words {
        self.0.push((rule, Words::default()));
        &mut self.0.last_mut().unwrap().1
    }
}

/// Straight to the core.
pub fn straight(site: &Site, asked: &Asked) -> Answer {
    of_decision(&decide(&site.snapshot(), &site.answers, asked, clock::now(), &mut ()))
}

/// To the core before a witness, as `explain` asks.
pub fn watched(site: &Site, asked: &Asked) -> Answer {
    of_decision(&decide(&site.snapshot(), &site.answers, asked, clock::now(), &mut Everything::default()))
}

/// Decides. Newer keys are not to be had, because they were asked for a moment ago; of opaque tokens their issuer says
/// what stands in `answers`.
pub fn decide(
    snapshot: &Snapshot,
    answers: &Answers,
    asked: &Asked,
    now: Timestamp,
    witness: &mut impl Witness,
) -> Decision {
    let raw = asked.raw(Dialect::Envoy).ok_or(Malformed(Reason::RequestMissing));
    decide_raw(snapshot, answers, raw.as_ref().map_err(|malformed| *malformed), now, witness)
}

/// The same of what any gateway asks.
pub fn decide_raw(
    snapshot: &Snapshot,
    answers: &Answers,
    raw: Result<&Raw<'_>, Malformed>,
    now: Timestamp,
    witness: &mut impl Witness,
) -> Decision {
    let read = raw.and_then(|raw| snapshot.read(raw));
    let request = read.as_ref().map_err(|malformed| *malformed);
    let mut facts = Facts::default();
    loop {
        match snapshot.decide_before(request, &facts, now, witness) {
            Step::Decided(decision) => return decision,
            Step::Needs(Question::Unseen(once)) => {
                assert_eq!(facts.unseen, None, "the same question twice");
                facts.unseen = Some((once, Sighting::First));
            }
            Step::Needs(Question::Keys(id) | Question::Key(id, _)) => {
                assert_eq!(facts.keys, None, "the same question twice");
                facts.keys = Some((id, NoNews::TooSoon));
            }
            Step::Needs(Question::Introspect(id, token)) => {
                assert_eq!(facts.introspected, None, "the same question twice");
                facts.introspected = Some(answers.of(&snapshot.issuers()[usize::from(id.0)], &token, now));
            }
        }
    }
}

/// A decision as an answer.
pub fn of_decision(decision: &Decision) -> Answer {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    match decision.verdict() {
        Verdict::Allow(grant) => Answer::Allow {
            set: grant.set().map(|(name, value)| (text(name), text(value))).collect(),
            removed: grant.remove().map(text).collect(),
            responses: grant.responses().map(|(name, value)| (text(name), text(value))).collect(),
            query: grant.query().map(|(name, value)| (text(name), text(value))).collect(),
            query_removed: grant.query_removed().map(text).collect(),
        },
        Verdict::Deny(denial) => {
            assert_eq!(decision.basis().reason, Some(denial.reason()));
            Answer::Deny {
                status: denial.status(),
                reason: denial.reason(),
                challenge: denial.challenge().filter(|_| denial.location().is_none()).map(Into::into),
                location: denial.location().map(Into::into),
                grpc: denial.is_grpc(),
                form: match denial.form() {
                    _ if denial.is_grpc() => String::new(),
                    Form::Problem => "problem".into(),
                    Form::Html => "html".into(),
                    Form::Text => "text".into(),
                },
                reader: denial.reader().map(|page| reader(&page.origin, page.credentials)),
            }
        }
    }
}

fn reader(origin: &str, credentials: bool) -> String {
    if credentials { format!("{origin} credentials") } else { origin.to_owned() }
}

/// The check as Envoy encodes it.
pub fn encoded(asked: &Asked, lines: Lines) -> Vec<u8> {
    let address = asked.source.map(|address| core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: address.to_string(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(40_754)),
            ..Default::default()
        })),
    });
    let http = asked.http.as_ref().map(|http| {
        let mut joined: HashMap<String, String> = HashMap::new();
        for (name, value) in &http.lines {
            joined.entry(name.clone()).and_modify(|all| *all = format!("{all},{value}")).or_insert(value.clone());
        }
        let raw = http.lines.iter().map(|(name, value)| core::HeaderValue {
            key: name.clone(),
            raw_value: value.clone().into_bytes(),
            ..Default::default()
        });
        auth::attribute_context::HttpRequest {
            id: "1931801838038004668".into(),
            method: http.method.clone(),
            path: http.target.clone(),
            host: http.host.clone(),
            scheme: "https".into(),
            protocol: "HTTP/2".into(),
            headers: if lines == Lines::Joined { joined } else { HashMap::new() },
            header_map: (lines == Lines::Raw).then(|| core::HeaderMap { headers: raw.collect() }),
            ..Default::default()
        }
    });
    auth::CheckRequest {
        attributes: Some(auth::AttributeContext {
            source: Some(auth::attribute_context::Peer {
                address,
                principal: asked.beside.principal.clone(),
                certificate: asked.beside.certificate.clone(),
                ..Default::default()
            }),
            request: http.map(|http| auth::attribute_context::Request { time: None, http: Some(http) }),
            metadata_context: Some(core::Metadata::default()),
            route_metadata_context: Some(core::Metadata::default()),
            ..Default::default()
        }),
    }
    .encode_to_vec()
}

/// Through the encoded door.
pub async fn through_envoy(site: &Site, asked: &Asked, lines: Lines) -> Answer {
    let message = Bytes::from(encoded(asked, lines));
    let frame = envoy::check(&site.authorizer, asked.asker, asked.proof(), Ok(message), None).await;
    read(site, &frame)
}

/// Takes an answer out of its gRPC frame.
pub fn unframed(frame: &[u8]) -> auth::CheckResponse {
    assert_eq!(frame[0], 0, "an answer is never compressed");
    let length = u32::from_be_bytes([frame[1], frame[2], frame[3], frame[4]]);
    assert_eq!(length as usize, frame.len() - 5);
    assert_ne!(length, 0, "an empty answer is an allow");
    auth::CheckResponse::decode(&frame[5..]).unwrap()
}

/// Reads an answer as Envoy would, and holds it to everything that any answer must be.
pub fn read(site: &Site, frame: &[u8]) -> Answer {
    let response = unframed(frame);
    let code = response.status.as_ref().expect("the status is always written").code;
    match response.http_response.expect("there is a verdict") {
        auth::check_response::HttpResponse::OkResponse(ok) => {
            assert_eq!(code, 0);
            allowed(ok)
        }
        auth::check_response::HttpResponse::DeniedResponse(denied) => {
            assert!(matches!(code, 7 | 16), "{code} is no denial to some Envoys");
            let status = denied.status.expect("a denial has a status").code;
            let told = told(site, &denied.body);
            denial(told, status.try_into().unwrap(), &headers(&denied.headers), Some(&denied.body))
        }
        auth::check_response::HttpResponse::ErrorResponse(_) => panic!("an error lets pass where Envoy fails open"),
    }
}

/// Reads what a denial says to the caller, and holds it to everything that any must say.
/// There is no body where HEAD was asked.
pub fn denial(reason: Reason, status: u16, headers: &BTreeMap<String, String>, body: Option<&str>) -> Answer {
    assert_eq!(headers["cache-control"], "no-store");
    let grpc = headers.contains_key("grpc-status");
    let form = match headers.get("content-type").map(|kind| &**kind) {
        None => "",
        Some("application/problem+json") => "problem",
        Some("text/html; charset=utf-8") => "html",
        Some("text/plain; charset=utf-8") => "text",
        Some(other) => panic!("{other}"),
    };
    assert_eq!(form.is_empty(), grpc);
    assert_eq!(headers.get("x-content-type-options").map(|value| &**value), (!grpc).then_some("nosniff"));
    assert_eq!(headers.contains_key("content-security-policy"), form == "html");
    if let ("problem", Some(body)) = (form, body) {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["status"], status);
    }
    let origin = headers.get("access-control-allow-origin");
    for (name, value) in
        [("vary", "Origin"), ("access-control-expose-headers", "WWW-Authenticate")].map(|(n, v)| (n, v.to_owned()))
    {
        assert_eq!(headers.get(name), origin.map(|_| &value), "{name}");
    }
    let credentials = headers.get("access-control-allow-credentials");
    assert!(credentials.is_none_or(|value| value == "true" && origin.is_some()));
    Answer::Deny {
        status,
        reason,
        challenge: headers.get("www-authenticate").cloned(),
        location: headers.get("location").cloned(),
        grpc,
        form: form.to_owned(),
        reader: origin.map(|origin| reader(origin, credentials.is_some())),
    }
}

/// What an allow says, held to what Envoy takes.
fn allowed(ok: auth::OkHttpResponse) -> Answer {
    let set = headers(&ok.headers);
    for name in &ok.headers_to_remove {
        assert!(!set.contains_key(name), "{name} is set and removed");
        assert!(!name.starts_with(':') && name != "host", "{name} is removed");
    }
    let responses = headers(&ok.response_headers_to_add);
    let mut query = BTreeMap::new();
    for parameter in ok.query_parameters_to_set {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        assert!(parameter.value.bytes().all(plain), "Envoy refuses it: {}", parameter.value);
        assert!(!ok.query_parameters_to_remove.contains(&parameter.key), "{} is set and removed", parameter.key);
        assert_eq!(query.insert(parameter.key, parameter.value), None, "a parameter twice");
    }
    let count = ok.headers_to_remove.len();
    let removed: BTreeSet<String> = ok.headers_to_remove.into_iter().collect();
    assert_eq!(removed.len(), count, "a name is removed twice");
    let count = ok.query_parameters_to_remove.len();
    let query_removed: BTreeSet<String> = ok.query_parameters_to_remove.into_iter().collect();
    assert_eq!(query_removed.len(), count, "a parameter is removed twice");
    Answer::Allow { set, removed, responses, query, query_removed }
}

/// Header options, each of which must overwrite whatever version of Envoy reads it.
fn headers(options: &[core::HeaderValueOption]) -> BTreeMap<String, String> {
    let mut read = BTreeMap::new();
    for option in options {
        let header = option.header.as_ref().unwrap();
        #[expect(deprecated, reason = "the Envoy that is tested against reads this field only")]
        let append = option.append;
        assert!(!append.expect("`append` is written").value, "{} is appended", header.key);
        assert_eq!(option.append_action, 2, "{} does not overwrite", header.key);
        assert!(header.raw_value.is_empty(), "Envoy makes an empty header of a raw value");
        assert!(http::HeaderName::from_bytes(header.key.as_bytes()).is_ok_and(|name| name.as_str() == header.key));
        assert!(header.value.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{}", header.key);
        assert!(
            !matches!(&*header.key, "content-length" | "transfer-encoding" | "connection" | "upgrade" | "host" | "te"),
            "{} frames the message",
            header.key
        );
        assert_eq!(read.insert(header.key.clone(), header.value.clone()), None, "{} twice", header.key);
    }
    read
}

/// The reason that the decision id in a body tells whoever has its key.
fn told(site: &Site, body: &str) -> Reason {
    site.sealing.open(&id(body)).unwrap().reason.unwrap()
}

/// The decision id in the body of a denial.
pub fn id(body: &str) -> String {
    match body.split_once("<code>") {
        Some((_, rest)) => rest.split_once("</code>").unwrap().0.to_owned(),
        None => serde_json::from_str::<serde_json::Value>(body)
            .map(|body| body["decision"].as_str().unwrap().to_owned())
            .unwrap_or_else(|_| body.trim_end().rsplit(' ').next().unwrap().to_owned()),
    }
}
