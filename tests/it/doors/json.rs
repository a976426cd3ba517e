//! The door of JSON: what a gateway would send is written, and what it would get is read, by serde_json alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use portcullis::gateway::json;
use serde_json::{Map, Value, json};

use super::{Answer, Asked, reader};
use crate::site::Site;

/// Whether JSON can say this: a request with all its lines, no pseudo-header among them but the usual ones.
pub fn can_say(asked: &Asked) -> bool {
    let usual = [":method", ":authority", ":scheme", ":path"];
    asked.http.as_ref().is_some_and(|http| {
        let pseudo = http.lines.iter().filter(|(name, _)| name.starts_with(':'));
        let names: Vec<&str> = pseudo.map(|(name, _)| &**name).collect();
        names.contains(&":method") && names.iter().all(|name| usual.contains(name)) && names.len() <= usual.len()
    })
}

/// The check as a gateway writes it.
pub fn written(asked: &Asked) -> Value {
    let http = asked.http.as_ref().unwrap();
    let mut headers: Map<String, Value> = Map::new();
    for (name, value) in http.lines.iter().filter(|(name, _)| !name.starts_with(':')) {
        let lines = headers.entry(name).or_insert_with(|| json!([]));
        lines.as_array_mut().unwrap().push(json!(value));
    }
    // A single line is as well a text.
    for value in headers.values_mut() {
        if let [one] = &value.as_array().unwrap()[..] {
            *value = one.clone();
        }
    }
    let mut source = Map::new();
    source.extend(asked.source.map(|address| ("address".to_owned(), json!(address.to_string()))));
    for (name, text) in [("principal", &asked.beside.principal), ("certificate", &asked.beside.certificate)] {
        source.extend((!text.is_empty()).then(|| (name.to_owned(), json!(text))));
    }
    json!({"method": http.method, "path": http.target, "host": http.host, "headers": headers, "source": source})
}

/// Through that door.
pub async fn through(site: &Site, asked: &Asked) -> Answer {
    let text = Bytes::from(written(asked).to_string());
    let json::Answer { status, body } = json::check(&site.authorizer, asked.asker, asked.proof(), Ok(text)).await;
    let answer = read(site, &body);
    assert!(status == 200 || matches!(answer, Answer::Deny { status: 400, .. }), "{status}");
    answer
}

/// Reads an answer, and holds it to everything that any answer must be.
pub fn read(site: &Site, body: &[u8]) -> Answer {
    let answer: Value = serde_json::from_slice(body).unwrap();
    let cached = answer["cache"]["for"].as_u64().unwrap();
    assert_eq!(cached > 0, answer["cache"]["vary"].as_array().unwrap().iter().any(|name| name == ":names"));
    let told = site.sealing.open(answer["decision"].as_str().unwrap()).unwrap();
    if answer["verdict"] == "allow" {
        assert_eq!(told.reason, None);
        let (headers, query) = (&answer["headers"], &answer["query"]);
        return Answer::Allow {
            set: texts(&headers["set"]),
            removed: list(&headers["remove"]),
            responses: texts(&answer["response"]["headers"]),
            query: texts(&query["set"]),
            query_removed: list(&query["remove"]),
        };
    }
    assert_eq!(answer["verdict"], "deny");
    let headers = texts(&answer["response"]["headers"]);
    assert_eq!(headers["cache-control"], "no-store");
    let form = match headers.get("content-type").map(|kind| &**kind) {
        None => "",
        Some("application/problem+json") => "problem",
        Some("text/html; charset=utf-8") => "html",
        Some("text/plain; charset=utf-8") => "text",
        Some(other) => panic!("{other}"),
    };
    assert!(answer["response"]["body"].as_str().unwrap().contains(answer["decision"].as_str().unwrap()));
    let credentials = headers.contains_key("access-control-allow-credentials");
    Answer::Deny {
        status: answer["status"].as_u64().unwrap().try_into().unwrap(),
        reason: told.reason.unwrap(),
        challenge: headers.get("www-authenticate").cloned(),
        location: headers.get("location").cloned(),
        grpc: headers.contains_key("grpc-status"),
        form: form.to_owned(),
        reader: headers.get("access-control-allow-origin").map(|origin| reader(origin, credentials)),
    }
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let members = value.as_object().unwrap().iter();
    members.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// A list, in which nothing comes twice.
fn list<T: FromIterator<String>>(value: &Value) -> T {
    let all: Vec<&str> = value.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect();
    let mut sorted = all.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), all.len(), "{all:?}");
    all.into_iter().map(str::to_owned).collect()
}
