//! The decision table, `tests/cases/*.yaml`: each case through every door, with the same answer from all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use portcullis::authz::certificate::{Holder, SpiffeId};
use portcullis::authz::credential::Source;
use portcullis::authz::reason::Reason;
use portcullis::authz::request::Asker;
use portcullis::dev::certificate;
use portcullis::dev::prover::{Occasion, hash};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::doors::{self, Answer, Asked, Beside, Http, Lines};
use crate::proof;
use crate::site::{Answers, Keys, Recipe, Site, timed};

/// Reasons that no case can have, and why. Each is tested where the second column says.
const OUT_OF_REACH: &[(Reason, &str)] = &[
    (Reason::CheckUnreadable, "a case is a check that can be read; bytes that are not: semantics.rs"),
    (Reason::ForwardedMissing, "a case comes to doors that no header tells the question: forward.rs"),
    (Reason::ForwardedAmbiguous, "the same"),
    (Reason::GatewayUnknown, "the same"),
    (Reason::HeaderAlias, "a case comes to doors that can carry everything: parity.rs"),
    (Reason::GatewayCannot, "the same"),
    (Reason::SubjectRefused, "a case has a credential, or none; nobody asserts it: authzen.rs"),
    (Reason::Overloaded, "a case comes alone: tls.rs"),
    (Reason::ProofReplayed, "a case comes once: proof.rs"),
    (Reason::ReplayUnknown, "a case has a store that answers: proof.rs"),
    (Reason::NotReady, "a case has a policy: semantics.rs"),
    (Reason::InternalError, "there is no such failure that we know of; what a panic becomes: semantics.rs"),
];

/// One file of the table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// What it is about, in a sentence.
    about: String,
    /// A whole policy file.
    pub policy: String,
    /// How it stands with the keys of issuers.
    #[serde(default)]
    pub keys: BTreeMap<String, Keys>,
    /// What issuers say of opaque tokens.
    #[serde(default)]
    pub answers: Answers,
    /// The host of cases that name none.
    #[serde(default)]
    host: Option<String>,
    /// Who asks in cases that do not say: `unix`, an address, a SPIFFE ID, `dns:name` or `token:text`; or some of these.
    #[serde(default)]
    gateway: Option<String>,
    pub cases: Vec<Case>,
}

/// One row.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    /// `anonymous`, the claims of a token, or the text of one.
    #[serde(rename = "as", default)]
    who: Value,
    /// How the token is to be unlike an ordinary one.
    #[serde(default)]
    token: Recipe,
    /// The proof that the caller has the key that the token is bound to, if it has one.
    #[serde(default)]
    dpop: Option<Possessed>,
    /// Whether the caller has the certificate that the token is bound to.
    #[serde(default)]
    certificate: bool,
    /// The claims of a second token, `{other}` in `headers`.
    #[serde(default)]
    other: Option<Map<String, Value>>,
    /// Where the token is carried: `bearer`, `header:name`, `cookie:name`, or `none` where `headers` or `ask` hold `{token}`.
    #[serde(default)]
    carry: Option<String>,
    /// `METHOD target`; `connection` where there is no HTTP request.
    ask: String,
    #[serde(default)]
    host: Option<String>,
    /// A map, or a list of pairs where names come twice.
    #[serde(default)]
    headers: Value,
    /// How many other headers the caller sends besides.
    #[serde(default)]
    filler: usize,
    /// Whether the gateway leaves out the pseudo-headers.
    #[serde(default)]
    filtered: bool,
    /// The peer of the gateway's own connection.
    #[serde(default)]
    from: Option<String>,
    /// Whom the certificate of that peer names, as the gateway says.
    #[serde(default)]
    principal: String,
    /// The only URI of that certificate, which the gateway then sends; empty where it has none.
    #[serde(default)]
    shows: Option<String>,
    #[serde(default)]
    gateway: Option<String>,
    pub expect: String,
    /// What is expected instead where the gateway joins lines of one name by commas.
    #[serde(default)]
    joined: Option<String>,
    /// Headers that the upstream gets; null where it gets none of that name.
    #[serde(default)]
    pub upstream: BTreeMap<String, Option<String>>,
    /// Headers that are removed, by their exact names.
    #[serde(default)]
    removed: Vec<String>,
    /// Headers that pass as the caller sent them.
    #[serde(default)]
    pub untouched: Vec<String>,
    /// Headers of the response to the caller; null where none of that name is set.
    #[serde(default)]
    response: BTreeMap<String, Option<String>>,
    /// Parameters of the query that are set; null where none of that name is.
    #[serde(default)]
    query: BTreeMap<String, Option<String>>,
    /// All parameters of the query that are removed, as they were spelt.
    #[serde(default)]
    query_removed: Option<BTreeSet<String>>,
    #[serde(default)]
    location: Option<String>,
    #[serde(default)]
    challenge: Option<String>,
    /// How the body of a denial is written: `problem`, `html` or `text`.
    #[serde(default)]
    form: Option<String>,
    /// The origin whose page may read a denial, `none`, or nothing said; `credentials` after it.
    #[serde(default)]
    reader: Option<String>,
}

/// How a proof of possession is to be unlike an ordinary one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Possessed {
    /// Members of the header and of the claims to set; null removes one.
    header: Map<String, Value>,
    claims: Map<String, Value>,
    /// What is put in place of the signature.
    signature: Option<String>,
    /// How many there are.
    proofs: usize,
    /// As what the token is presented.
    scheme: String,
    /// Whether it holds a nonce of the site.
    nonce: bool,
}

impl Default for Possessed {
    fn default() -> Self {
        let (header, claims, signature) = Default::default();
        Self { header, claims, signature, proofs: 1, scheme: "DPoP".into(), nonce: false }
    }
}

/// The whole table.
pub fn tables() -> Vec<(String, Table)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &Path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(path).unwrap();
        let table: Table = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!table.about.is_empty());
        (name, table)
    };
    files.iter().map(|path| read(path)).collect()
}

/// Who asks, as it is written: what is known of the gateway's connection, separated by spaces.
fn asker(text: Option<&str>) -> (Asker, Beside) {
    let (mut asker, mut beside) = (Asker::Unix, Beside::default());
    for word in text.unwrap_or("unix").split(' ') {
        match word.split_once(':') {
            None if word == "unix" => asker = Asker::Unix,
            Some(("spiffe", _)) => beside.holder = SpiffeId::parse(word.as_bytes()).map(Holder::Spiffe),
            Some(("dns", host)) => beside.holder = Some(Holder::Dns(Box::new([host.into()]))),
            Some(("token", token)) => _ = beside.metadata.insert("x-portcullis-token", token.parse().unwrap()),
            _ => asker = Asker::Tcp(word.parse().unwrap()),
        }
    }
    (asker, beside)
}

/// The request of a case, as Envoy would describe it.
pub fn asked(site: &Site, table: &Table, case: &Case) -> Asked {
    let (asker, mut beside) = asker(case.gateway.as_deref().or(table.gateway.as_deref()));
    beside.principal.clone_from(&case.principal);
    if case.certificate {
        beside.certificate = proof::sent(proof::CERTIFICATE);
    }
    if let Some(uri) = &case.shows {
        beside.certificate = certificate::sent(&certificate::naming(uri));
    }
    let source = case.from.as_deref().map(|address| address.parse().unwrap());
    if case.ask == "connection" {
        return Asked { asker, beside, source, http: None };
    }
    let (method, target) = case.ask.split_once(' ').unwrap();
    let host = case.host.as_deref().or(table.host.as_deref()).unwrap_or("shop.test");
    let token = token(site, case);
    let other = case.other.as_ref().map(|claims| site.token(claims, &Recipe::default())).unwrap_or_default();
    let filled = |text: &str| text.replace("{token}", token.as_deref().unwrap_or_default()).replace("{other}", &other);
    let target = &*filled(target);
    let mut lines: Vec<(String, String)> = Vec::new();
    if !case.filtered {
        lines.push((":method".into(), method.into()));
        lines.push((":authority".into(), host.into()));
        lines.push((":scheme".into(), "https".into()));
        // Envoy knows no path of a CONNECT.
        lines.extend((method != "CONNECT").then(|| (":path".into(), target.into())));
    }
    if let Some(token) = &token {
        lines.extend(carried(site, case, token));
        let url = format!("https://{host}{}", target.split('?').next().unwrap());
        lines.extend(case.dpop.iter().flat_map(|how| proofs(site, how, method, &url, token)));
    }
    for (name, value) in pairs(&case.headers) {
        lines.push((name.to_ascii_lowercase(), filled(&value)));
    }
    lines.extend((0..case.filler).map(|at| (format!("x-filler-{at}"), "a".into())));
    let target = if method == "CONNECT" { "" } else { target };
    let http = Some(Http { method: method.into(), target: target.into(), host: host.into(), lines });
    Asked { asker, beside, source, http }
}

fn token(site: &Site, case: &Case) -> Option<String> {
    match &case.who {
        Value::Null => None,
        Value::String(text) if text == "anonymous" => None,
        Value::String(text) => Some(text.clone()),
        Value::Object(claims) => {
            let mut claims = claims.clone();
            if let (Some(cnf), false) = (bound(case), claims.contains_key("cnf")) {
                claims.insert("cnf".into(), cnf);
            }
            Some(site.token(&claims, &case.token))
        }
        other => panic!("{}: nobody is {other}", case.name),
    }
}

/// What the token of a case is bound to, where its claims do not say.
fn bound(case: &Case) -> Option<Value> {
    let key = case.dpop.as_ref().map(|_| ("jkt".to_owned(), Value::from(proof::prover().thumbprint())));
    let certificate = case.certificate.then(|| ("x5t#S256".to_owned(), Value::from(hash(proof::CERTIFICATE))));
    let members: Map<String, Value> = key.into_iter().chain(certificate).collect();
    (!members.is_empty()).then_some(Value::Object(members))
}

/// The headers of the proofs of a case: each has a name of its own.
fn proofs(site: &Site, how: &Possessed, method: &str, url: &str, token: &str) -> Vec<(String, String)> {
    let (prover, now) = (proof::prover(), portcullis::clock::now());
    let nonce = site.snapshot().policy().nonces.as_ref().map(|nonces| nonces.current(now)).filter(|_| how.nonce);
    let proof = |_| {
        let id = proof::name();
        let at = now.as_millis() / 1_000;
        let (mut header, mut claims) =
            prover.parts(&Occasion { method, url, token, at, id: &id, nonce: nonce.as_deref() });
        for (members, changes) in [(&mut header, &how.header), (&mut claims, &how.claims)] {
            for (name, value) in changes {
                if value.is_null() {
                    _ = members.remove(name)
                } else {
                    _ = members.insert(name.clone(), timed(value, now))
                }
            }
        }
        let mut proof = prover.sign(header, claims);
        if let Some(signature) = &how.signature {
            proof.truncate(proof.rfind('.').unwrap() + 1);
            proof.push_str(signature);
        }
        ("dpop".to_owned(), proof)
    };
    (0..how.proofs).map(proof).collect()
}

fn carried(site: &Site, case: &Case, token: &str) -> Option<(String, String)> {
    let issuer = site.issuer(case.who.get("iss").and_then(Value::as_str));
    let place = case.carry.clone().unwrap_or_else(|| match &issuer.sources[0] {
        Source::Bearer => "bearer".into(),
        Source::Header(name) => format!("header:{name}"),
        Source::Cookie(name) => format!("cookie:{name}"),
        Source::Query(_) | Source::Subprotocol(_) => "none".into(),
    });
    match place.split_once(':') {
        None if place == "bearer" => {
            let scheme = case.dpop.as_ref().map_or("Bearer", |how| &how.scheme);
            Some(("authorization".into(), format!("{scheme} {token}")))
        }
        None if place == "dpop" => Some(("authorization".into(), format!("DPoP {token}"))),
        None if place == "none" => None,
        Some(("header", name)) => Some((name.into(), token.into())),
        Some(("cookie", name)) => Some(("cookie".into(), format!("theme=dark; {name}={token}"))),
        _ => panic!("{}: a token is not carried in {place}", case.name),
    }
}

fn pairs(headers: &Value) -> Vec<(&str, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), Into::into);
    match headers {
        Value::Null => Vec::new(),
        Value::Object(map) => map.iter().map(|(name, value)| (&**name, text(value))).collect(),
        Value::Array(lines) => lines.iter().map(|line| (line[0].as_str().unwrap(), text(&line[1]))).collect(),
        other => panic!("headers are no {other}"),
    }
}

/// What is wrong with an answer, if anything is.
pub fn compare(case: &Case, expect: &str, answer: &Answer, untouched: &[String]) -> Result<(), String> {
    if let Answer::Deny { form, reader, .. } = answer {
        let expected = case.reader.as_deref().filter(|reader| *reader != "none");
        if case.reader.is_some() && reader.as_deref() != expected {
            return Err(format!("{reader:?} may read it"));
        }
        if case.form.as_ref().is_some_and(|expected| form != expected) {
            return Err(format!("it is written as {form}"));
        }
    }
    let words: Vec<&str> = expect.split(' ').collect();
    match (words.as_slice(), answer) {
        (["allow"], Answer::Allow { .. }) => compare_allow(case, answer, untouched),
        (["deny", status, code], Answer::Deny { status: got, reason, challenge, location: None, .. }) => {
            if got.to_string() != **status || reason.code() != *code {
                return Err(format!("{answer:?}, not {expect}"));
            }
            match &case.challenge {
                Some(expected) if challenge.as_ref() != Some(expected) => Err(format!("challenged by {challenge:?}")),
                _ => Ok(()),
            }
        }
        (["redirect", code], Answer::Deny { status: 302, reason, location: Some(to), .. })
            if reason.code() == *code =>
        {
            match &case.location {
                Some(expected) if expected != to => Err(format!("sent to {to}")),
                _ => Ok(()),
            }
        }
        _ => Err(format!("{answer:?}, not {expect}")),
    }
}

/// What is wrong with what an allow says to the upstream and to the caller, if anything is.
fn compare_allow(case: &Case, answer: &Answer, untouched: &[String]) -> Result<(), String> {
    let Answer::Allow { set, removed, responses, query, query_removed } = answer else {
        return Err(format!("{answer:?}, not allow"));
    };
    for (name, expected) in &case.response {
        let got = responses.get(&name.to_ascii_lowercase());
        if got != expected.as_ref() {
            return Err(format!("{name} of the response is {got:?}, not {expected:?}"));
        }
    }
    for (name, expected) in &case.query {
        if query.get(name) != expected.as_ref() {
            return Err(format!("the parameter {name} is {:?}, not {expected:?}", query.get(name)));
        }
    }
    if let Some(expected) = case.query_removed.as_ref().filter(|expected| *expected != query_removed) {
        return Err(format!("the parameters {query_removed:?} are removed, not {expected:?}"));
    }
    for (name, expected) in &case.upstream {
        let name = name.to_ascii_lowercase();
        if set.get(&name) != expected.as_ref() {
            return Err(format!("{name} is {:?}, not {expected:?}", set.get(&name)));
        }
        if expected.is_none() && !removed.contains(&name) {
            return Err(format!("{name} is neither set nor removed"));
        }
    }
    if let Some(name) = case.removed.iter().find(|name| !removed.contains(&**name)) {
        return Err(format!("{name} is not removed"));
    }
    if let Some(name) = untouched.iter().find(|name| removed.contains(&**name) || set.contains_key(*name)) {
        return Err(format!("{name} does not pass as it came"));
    }
    Ok(())
}

/// A policy whose gateways speak JSON, but for those that cannot; and whether somebody is one of these.
fn speaking_json(policy: &str) -> (String, impl Fn(Asker) -> bool) {
    let cannot =
        |line: &str| ["xfcc]", "filtered_headers", "x-envoy-external-address"].iter().any(|it| line.contains(it));
    let mut others: Vec<String> = Vec::new();
    let mut speaking = String::new();
    for line in policy.lines() {
        let changed = match line.split_once("{by: ") {
            Some((_, by)) if cannot(line) => {
                // All of these are known by a network of 16 bits or less.
                others.push(by.split('.').take(2).collect::<Vec<_>>().join("."));
                line.to_owned()
            }
            _ => line.replace("{by: ", "{dialect: json, by: "),
        };
        speaking.extend([&changed, "\n"]);
    }
    let is_other = move |asker: Asker| match asker {
        Asker::Unix => false,
        Asker::Tcp(address) => others.iter().any(|other| address.to_string().starts_with(&format!("{other}."))),
    };
    (speaking, is_other)
}

#[tokio::test]
async fn every_case_has_its_answer_through_every_door() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    let (mut count, mut said) = (0, 0);
    for (file, table) in tables() {
        let site = Site::answering(&table.policy, &table.keys, table.answers.clone()).await;
        let (speaking, not_so) = speaking_json(&table.policy);
        let json = Site::answering(&speaking, &table.keys, table.answers.clone()).await;
        let mut names = BTreeSet::new();
        for case in &table.cases {
            assert!(names.insert(&case.name), "{file}: {} twice", case.name);
            count += 1;
            // A proof passes once: each door has its own.
            let asked = || asked(&site, &table, case);
            let joined = case.joined.as_ref().unwrap_or(&case.expect);
            let doors = [
                ("straight", &case.expect, doors::straight(&site, &asked())),
                ("watched", &case.expect, doors::watched(&site, &asked())),
                ("envoy, raw", &case.expect, doors::through_envoy(&site, &asked(), Lines::Raw).await),
                ("envoy, joined", joined, doors::through_envoy(&site, &asked(), Lines::Joined).await),
            ];
            let by_json = match self::asked(&json, &table, case) {
                // The pseudo-headers, which only Envoy counts, are lines too where a limit is near.
                asked if case.filler == 0 && doors::json::can_say(&asked) && !not_so(asked.asker) => {
                    Some(("json", &case.expect, doors::json::through(&json, &asked).await))
                }
                _ => None,
            };
            said += usize::from(by_json.is_some());
            // Another site has other keys to mint with, and other nonces.
            let same = by_json.iter().filter(|_| case.dpop.is_none() && !table.policy.contains("mint:"));
            for (door, expect, answer) in doors.iter().chain(&by_json) {
                if let Err(why) = compare(case, expect, answer, &case.untouched) {
                    wrong.push(format!("{file}: {} ({door}): {why}", case.name));
                }
                if let Answer::Deny { reason, .. } = answer {
                    seen.insert(*reason);
                }
            }
            if case.joined.is_none() && doors.iter().chain(same).any(|(_, _, answer)| *answer != doors[0].2) {
                wrong.push(format!("{file}: {}: the doors differ: {doors:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 200, "the table has {count} cases");
    assert!(said * 10 > count * 9, "JSON can say {said} of {count} cases");
    for reason in Reason::ALL {
        let out_of_reach = OUT_OF_REACH.iter().any(|(out, _)| out == reason);
        assert_ne!(seen.contains(reason), out_of_reach, "{}: has a case, or is out of reach", reason.code());
    }
}
