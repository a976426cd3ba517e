//! Pieces that foreign policies share: paths, hosts, addresses, claims and issuers, as formulas and as YAML.

use ipnet::IpNet;
use serde_json::Value;

use super::area::{Host, Path, Segment, shown};
use super::formula::{Formula, everywhere};
use super::write::{Note, quoted};
use crate::authz::identity::ClaimPath;
use crate::authz::route::Pattern;
use crate::authz::rule::{Test, Word};
use crate::config::provider::world;

/// What is read of a foreign policy on the way.
#[derive(Default)]
pub(super) struct Reading {
    /// The names that issuers have here, and their `iss`.
    pub issuers: Vec<(String, String)>,
    /// Where the caller's address is found.
    pub address: Option<&'static str>,
    /// Whether an issuer was left out, whose tokens must not pass for nobody's.
    pub left_out: bool,
    /// What did not map.
    pub notes: Vec<Note>,
}

/// The texts of a list, or of one text; numbers as they are written. None where one is of another kind.
pub(super) fn texts(value: Option<&Value>) -> Vec<String> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    match value {
        Some(Value::Array(items)) => items.iter().map(one).collect::<Option<_>>().unwrap_or_default(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// The items of a list.
pub(super) fn items<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

impl Reading {
    pub fn note(&mut self, place: &str, why: impl Into<String>) {
        self.notes.push(Note { place: place.to_owned(), why: why.into() });
    }

    /// An issuer that cannot be said.
    pub fn leave_out<T>(&mut self, place: &str, why: &str) -> Option<T> {
        self.left_out = true;
        self.note(place, format!("{why}; the issuer is left out, and its tokens are denied"));
        None
    }

    /// What cannot be said: denied, wherever it could let pass.
    pub fn unsayable(&mut self, place: &str, what: &str) -> Formula {
        self.note(place, format!("{what} cannot be said here; what it would let pass is denied"));
        Formula::Unsayable
    }

    /// A word that needs somebody signed in: false where no issuer is there.
    pub fn word(&self, word: &Word) -> Formula {
        if self.issuers.is_empty() { Formula::Known(false) } else { Formula::Word(word.to_string()) }
    }

    /// A claim is this value, or has it; `None`: it is there.
    pub fn claim(&mut self, place: &str, path: &[String], value: Option<&str>) -> Formula {
        let Some(path) = ClaimPath::of(path.iter().map(|name| Box::from(&**name)).collect()) else {
            return self.unsayable(place, "a claim of this name");
        };
        if value.is_some() {
            self.note("claims", "a claim that is a number, true or false counts here as its text");
        }
        let test = value.map_or(Test::Present, |value| Test::Equals(value.into()));
        self.word(&Word::Claim { path, test })
    }

    /// A principal: `iss/sub`, `iss/*` or `*`.
    pub fn principal(&mut self, place: &str, text: &str) -> Formula {
        if text == "*" {
            return self.word(&Word::SignedIn);
        }
        let mut any = Vec::new();
        for (name, iss) in self.issuers.clone() {
            let own = format!("{iss}/");
            let issuer = self.word(&Word::Issuer(name.into()));
            match text.strip_suffix('*') {
                Some(start) if own.starts_with(start) => any.push(issuer),
                Some(start) if start.starts_with(&own) => any.push(self.unsayable(place, "a part of a subject")),
                Some(_) => {}
                None => {
                    if let Some(subject) = text.strip_prefix(&own) {
                        any.push(Formula::All(vec![issuer, self.claim(place, &["sub".into()], Some(subject))]));
                    }
                }
            }
        }
        if text.starts_with('*') {
            any.push(self.unsayable(place, "a part of a principal"));
        }
        Formula::Any(any)
    }

    /// The caller's address, as `from` finds it.
    pub fn network(&mut self, place: &str, text: &str, from: &'static str) -> Formula {
        let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
        let Some(network) = network else { return self.unsayable(place, "this address") };
        if self.address.is_some_and(|earlier| earlier != from) {
            return self.unsayable(place, "an address of another kind than elsewhere in this file");
        }
        if self.address.is_none() {
            let why = "an address is believed only of a gateway under `gateways:`: say there how yours asks; until then it is unknown, and denied";
            self.note(place, why);
        }
        self.address = Some(from);
        Formula::Word(Word::Network(network.trunc()).to_string())
    }

    /// A host: exact, `*.suffix` or `*`.
    pub fn host(&mut self, place: &str, text: &str) -> Formula {
        let text = text.to_ascii_lowercase();
        let bare = text.strip_prefix("*.");
        let key = |host: &str| Pattern::parse(&format!("{host}/")).is_ok();
        if text == "*" {
            return Formula::Known(true);
        }
        if !key(&text) {
            self.note(place, format!("the host {text:?} cannot be said here; what it would let pass is denied"));
            return Formula::Host(None, Host::Any);
        }
        self.note("hosts", "a host is the same with every port here");
        let host = bare.map_or_else(|| Host::Exact(text.clone()), |suffix| Host::Below(suffix.to_owned()));
        Formula::Host(Some(host.clone()), host)
    }

    /// A path that is exactly this.
    pub fn path(&mut self, place: &str, text: &str) -> Formula {
        let text = text.strip_suffix('/').filter(|text| !text.is_empty()).unwrap_or(text);
        if !text.starts_with('/') {
            return self.odd_path(place, text);
        }
        match segments(text.trim_start_matches('/'), text) {
            Some(path) => {
                self.note("paths", "one `/` at the end of a path makes no difference here");
                Formula::Path(vec![path.clone()], vec![path])
            }
            None => self.odd_path(place, text),
        }
    }

    /// A path that begins with this text, which may end within a segment.
    pub fn path_prefix(&mut self, place: &str, text: &str) -> Formula {
        let Some((above, last)) = text.rsplit_once('/').filter(|_| text.starts_with('/')) else {
            return self.odd_path(place, text);
        };
        let Some(mut path) = segments(above.trim_start_matches('/'), above) else { return self.odd_path(place, text) };
        let below = |path: &Path, more: &[Segment]| [path, more].concat();
        let outer = below(&path, &[Segment::Rest]);
        if last.is_empty() {
            // `/a/` begins no path `/a`, which is one with it here.
            let inner = if path.is_empty() { outer.clone() } else { below(&path, &[Segment::One, Segment::Rest]) };
            if !path.is_empty() {
                self.note(
                    place,
                    format!("`{}` without more is denied: it is one with `{}` here", text, text.trim_end_matches('/')),
                );
            }
            return Formula::Path(vec![inner], vec![outer]);
        }
        let Some(only) = segments(last, last).filter(|only| only.len() == 1) else { return self.odd_path(place, text) };
        self.note(
            place,
            format!("what lies below a segment that begins with `{last}` is denied, but below `{last}` itself"),
        );
        let prefix = below(&path, &[Segment::Prefix(last.to_owned())]);
        let deeper = below(&prefix, &[Segment::One, Segment::Rest]);
        path.extend(only);
        path.push(Segment::Rest);
        Formula::Path(vec![prefix.clone(), path.clone()], vec![prefix, path, deeper])
    }

    /// A path that cannot be said.
    pub fn odd_path(&mut self, place: &str, text: &str) -> Formula {
        self.note(place, format!("the path {text:?} cannot be said here; what it would let pass is denied"));
        Formula::Path(Vec::new(), vec![everywhere()])
    }

    /// Any of these, each read by `one`; without any, nothing.
    pub fn any(&mut self, values: &[String], mut one: impl FnMut(&mut Self, &str) -> Formula) -> Formula {
        Formula::Any(values.iter().map(|value| one(self, value)).collect())
    }
}

/// Literal segments, where a route key can have them.
pub(super) fn segments(body: &str, whole: &str) -> Option<Path> {
    if body.is_empty() {
        return Some(Vec::new());
    }
    let path: Path = body.split('/').map(|text| Segment::Literal(text.to_owned())).collect();
    let fine = !body.split('/').any(str::is_empty) && !whole.contains('*') && Pattern::parse(&shown(&path)).is_ok();
    fine.then_some(path)
}

/// What is said of an issuer in any foreign policy.
pub(super) struct Foreign<'v> {
    pub place: String,
    pub issuer: &'v str,
    pub jwks: Option<&'v str>,
    pub audiences: Vec<String>,
    /// Where its tokens are, as `from:` has it.
    pub from: Vec<String>,
}

impl Reading {
    /// An issuer's lines; takes note of its name.
    pub fn issuer(&mut self, foreign: &Foreign<'_>) -> Option<(String, Vec<String>)> {
        let Foreign { place, issuer, jwks, audiences, from } = foreign;
        let https = |url: &str| url.starts_with("https://") && url::Url::parse(url).is_ok();
        let mut lines = Vec::new();
        match jwks {
            Some(url) if https(url) => lines.push(format!("jwks: {}", quoted(url))),
            Some(_) => return self.leave_out(place, "its keys are not at an https URL"),
            None if https(issuer) => lines.push(format!("url: {}", quoted(issuer))),
            None => return self.leave_out(place, "it says no URL of its keys"),
        }
        lines.push(format!("issuer: {}", quoted(issuer)));
        let list = |values: &[String]| {
            format!("[{}]", values.iter().map(|v| serde_json::json!(v).to_string()).collect::<Vec<_>>().join(", "))
        };
        if audiences.is_empty() {
            self.note(
                place,
                "it takes tokens for everybody; say in `audience` whom they must be for: until then all are denied",
            );
            lines.push("audience: to-be-set                # whom tokens must be for".into());
        } else {
            lines.push(format!("audience: {}", list(audiences)));
        }
        if !from.is_empty() {
            lines.push(format!("from: {}", list(from)));
        }
        if from.iter().any(|source| source.starts_with("cookie:")) {
            self.note(
                place,
                "say in `origins` whose pages may send its cookie: until then none may, but for the site's own",
            );
            lines.push("origins: [https://to-be-set.invalid]".into());
        }
        let claim = std::iter::once(*issuer).chain(*jwks).find_map(|url| world(url)?.claims.first());
        if let Some(claim) = claim {
            self.note(
                place,
                "everyone can get its tokens; say in `require` which are yours: until then all are denied",
            );
            lines.push(format!("require: claim:{claim}=to-be-set"));
        }
        let name = format!("issuer-{}", self.issuers.len().saturating_add(1));
        self.issuers.push((name.clone(), (*issuer).to_owned()));
        Some((name, lines))
    }
}
