//! An explanation: a decision taken apart, ready to be printed or to be written as JSON.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

/// A decision taken apart.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    pub policy: String,
    pub time: String,
    pub notes: Vec<String>,
    /// The request as it was asked about, nothing read yet.
    pub sent: String,
    pub request: Option<Asked>,
    pub gates: Vec<Gate>,
    pub verdict: Told,
}

/// The request as it was read.
#[derive(Debug, Serialize)]
pub(super) struct Asked {
    pub method: String,
    pub host: String,
    pub path: String,
    pub query: Option<String>,
    pub address: Option<IpAddr>,
}

/// One gate.
#[derive(Debug, Serialize)]
pub(super) struct Gate {
    pub gate: &'static str,
    /// `None` where the request did not come so far.
    pub passed: Option<bool>,
    pub says: String,
    pub details: Vec<Detail>,
    pub rules: Vec<Asking>,
}

/// Something with a name.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Detail {
    pub what: String,
    pub is: Value,
}

/// One rule that was evaluated.
#[derive(Debug, Serialize)]
pub(super) struct Asking {
    pub kind: &'static str,
    pub name: String,
    pub rule: String,
    pub holds: &'static str,
    pub passed: bool,
    pub words: Vec<Answer>,
}

/// One word with its answer.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub word: String,
    pub answer: &'static str,
    pub compared: String,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Told {
    pub allowed: bool,
    pub status: u16,
    pub reason: Option<&'static str>,
    pub meaning: Option<&'static str>,
    pub challenge: Option<String>,
    pub location: Option<String>,
    /// What would pass, each completing the sentence "would pass …".
    pub nearest: Vec<String>,
    pub set: Vec<(String, String)>,
    /// The claims of the token that the upstream gets: never the token itself.
    pub minted: Option<Value>,
    /// Those of them that the request came with: the upstream gets ours.
    pub replaced: Vec<String>,
    /// Headers that the request came with, and that the upstream does not get.
    pub removed: Vec<String>,
    /// How many more names are removed from every request.
    pub also_removed: usize,
    /// Headers of the response to the caller.
    pub responses: Vec<(String, String)>,
    /// Parameters of the query that are set.
    pub query: Vec<(String, String)>,
    /// Parameters of the query that the upstream does not get, as they were spelt.
    pub query_removed: Vec<String>,
    pub metadata: Vec<(String, Value)>,
}

impl Detail {
    pub fn new(what: &str, is: impl Into<Value>) -> Self {
        Self { what: what.to_owned(), is: is.into() }
    }
}
