//! What the outcome of an attack says: held, got through, worth a word, or not to be told.

use std::collections::{BTreeSet, HashMap};

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::attack::{Attack, Rule};
use super::cure::Gateway;
use super::door::Outcome;
use super::echo::{MARK_FOR, NONCE};
use crate::authz::header::{ALWAYS, FAMILIES};
use crate::dev::wire::Answer;

/// How many readings of one path are looked at.
const MAX_READINGS: usize = 400;
/// An address that nobody has (RFC 5737).
pub(super) const ADDRESS: &str = "203.0.113.66";

/// What an attack came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It was refused, or made harmless.
    Held,
    /// It got through: what happened.
    Through(String),
    /// No hole, but worth a word.
    Note(String),
    /// It cannot be told: why.
    Unjudged(String),
}

/// What is known before the attacks are judged.
#[derive(Clone, Debug, Default)]
pub(super) struct Ground {
    /// The echo is behind the gateway.
    pub(super) echo: bool,
    pub(super) gateway: Option<Gateway>,
    /// The managed headers, folded.
    pub(super) managed: Vec<String>,
    /// Those of the always-list that callers may send, in lower case.
    pub(super) kept: Vec<String>,
    pub(super) protected: String,
    pub(super) forged: String,
    /// What the upstream is told of the signed-in caller: folded names that have a value.
    pub(super) identity: Vec<String>,
    /// The page that the signed-in caller gets, where no echo answers.
    pub(super) page: Option<Vec<u8>>,
    /// Whether the policy shares with other origins; `None` where there is no policy.
    pub(super) shares: Option<bool>,
    /// What reached the upstream, by nonce: method and path.
    pub(super) arrived: HashMap<String, (String, String)>,
    /// The credential, without its scheme.
    pub(super) token: Option<String>,
}

/// A request as the echo saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) trailers: Vec<(String, String)>,
    /// Whether the head came back as well; not with HEAD.
    pub(super) whole: bool,
}

impl Seen {
    /// What the echo says, where this answer is its answer to the request with this nonce.
    pub(super) fn of(answer: &Answer, nonce: &str) -> Option<Self> {
        let pairs = |said: &Value, name: &str| -> Vec<(String, String)> {
            let text = |pair: &Value, at: usize| pair.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
            said.get(name).and_then(Value::as_array).into_iter().flatten().map(|p| (text(p, 0), text(p, 1))).collect()
        };
        let text = |said: &Value, name: &str| said.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let said = answer.json().ok().filter(|said| said.get("portcullis_echo").is_some_and(Value::is_string));
        let Some(said) = said else {
            let marked = answer.header(MARK_FOR) == Some(nonce);
            return marked.then(Self::default);
        };
        let headers = pairs(&said, "headers");
        headers.iter().any(|(name, value)| name.eq_ignore_ascii_case(NONCE) && value == nonce).then(|| Self {
            method: text(&said, "method"),
            path: text(&said, "path"),
            trailers: pairs(&said, "trailers"),
            headers,
            whole: true,
        })
    }

    /// The values under a name, whatever its case.
    pub(super) fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// The elements of all lines of a name.
    fn elements<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.values(name).flat_map(|value| value.split(',')).map(str::trim)
    }

    fn line(&self) -> String {
        format!("`{} {}`", self.method, self.path.escape_default())
    }
}

/// Lower case, and every character that is no letter or digit a `-`: as CGI and its kin fold names.
pub(super) fn fold(name: &str) -> String {
    let name = name.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

impl Ground {
    /// What an attack came to.
    pub(super) fn judge(&self, attack: &Attack, outcome: &Outcome) -> Judged {
        let answer = match outcome {
            Outcome::Answered(answer) => Some(answer),
            Outcome::Unreachable(why) => return Judged::Unjudged(format!("no connection: {why}")),
            Outcome::Closed | Outcome::Garbled | Outcome::Silent => None,
        };
        if let Some(seen) = answer.and_then(|answer| Seen::of(answer, &attack.nonce)) {
            return self.reached(attack, &seen);
        }
        if let Some((method, path)) = self.arrived.get(&attack.nonce) {
            let (method, path) = (method.clone(), path.clone());
            return self.reached(attack, &Seen { method, path, ..Seen::default() });
        }
        self.answered(attack, outcome, answer)
    }

    /// It reached the upstream.
    fn reached(&self, attack: &Attack, seen: &Seen) -> Judged {
        let blind = || Judged::Unjudged("it reached the upstream, and the answer did not come back".to_owned());
        let through = |why: Option<String>| why.map_or(Judged::Held, Judged::Through);
        if let Rule::Forged | Rule::Kept | Rule::OneCredential | Rule::Framed | Rule::OneHost | Rule::Address =
            attack.rule
            && !seen.whole
        {
            return blind();
        }
        match &attack.rule {
            Rule::Barred | Rule::NoTunnel => through(Some(format!("it reached the upstream as {}", seen.line()))),
            Rule::Apart => {
                let read = reads_as(&seen.path, &self.protected);
                through(read.then(|| format!("it reached the upstream as {}, without a credential", seen.line())))
            }
            Rule::Forged => through(self.forged_in(seen)),
            Rule::Kept => through(self.forged_in(seen).or_else(|| self.lost_in(seen))),
            Rule::OneCredential => {
                let shown = seen.values("authorization").map(|line| line.split(',').count()).sum::<usize>();
                through((shown > 1).then(|| format!("the upstream got {shown} of them")))
            }
            Rule::Preflight => self.preflight(seen),
            Rule::Framed => through(two_lengths(seen)),
            Rule::OneHost => through(two_hosts(seen)),
            Rule::Address => {
                let last = seen.elements("x-forwarded-for").last();
                through(
                    (last == Some(ADDRESS)).then(|| {
                        format!("the last address in `X-Forwarded-For` at the upstream is the forged {ADDRESS}")
                    }),
                )
            }
            Rule::Scheme(scheme) => {
                let told = seen.elements("x-forwarded-proto").any(|value| value == *scheme);
                through(told.then(|| format!("the upstream got `X-Forwarded-Proto: {scheme}`")))
            }
            Rule::Envoys(name) => {
                let told = seen.values(name).any(|value| value.contains(&self.forged));
                let envoy = matches!(self.gateway, Some(Gateway::Envoy | Gateway::Istio));
                through((told && envoy).then(|| format!("the upstream got `{name}` as it was sent")))
            }
            Rule::Passed(name) => {
                let told = seen.values(name).any(|value| value.contains(&self.forged));
                if told { Judged::Note(format!("`{name}`")) } else { Judged::Held }
            }
            Rule::Told => Judged::Note(format!("it reached the upstream as {}", seen.line())),
            Rule::Stripped => {
                let told = self.token.as_ref().is_some_and(|token| seen.headers.iter().any(|(_, v)| v.contains(token)));
                through(told.then(|| "the upstream got the credential".to_owned()))
            }
        }
    }

    /// It did not reach the upstream, as far as that can be told.
    fn answered(&self, attack: &Attack, outcome: &Outcome, answer: Option<&Answer>) -> Judged {
        let status = answer.map_or(0, |answer| answer.status);
        if status == 429 {
            return Judged::Unjudged("a limit answered first (429)".to_owned());
        }
        let passed = status == 101 || (200..300).contains(&status);
        let untold = |what: &str| Judged::Unjudged(format!("{what}, and what reached the upstream is not known"));
        match &attack.rule {
            Rule::NoTunnel if passed => Judged::Through(format!("it was answered with {status}")),
            Rule::Barred if passed && attack.request.method == "OPTIONS" => {
                Judged::Note(format!("the gateway answers OPTIONS itself, with {status}"))
            }
            Rule::Barred if passed => Judged::Through(format!("it was answered with {status}")),
            Rule::Apart if passed && self.is_page(answer) => {
                Judged::Through(format!("it was answered with {status} and the page of a signed-in caller"))
            }
            Rule::Apart if passed => untold(&format!("it was answered with {status}")),
            Rule::Preflight if passed && self.shares == Some(false) => {
                Judged::Note(format!("the gateway answers preflights itself, with {status}: portcullis is not asked"))
            }
            _ if self.echo => Judged::Held,
            _ if (400..500).contains(&status) || (300..400).contains(&status) => Judged::Held,
            _ if *outcome == Outcome::Closed => Judged::Held,
            _ if *outcome == Outcome::Silent => untold("nothing was answered in time"),
            _ => untold(&format!("it was answered with {status}")),
        }
    }

    fn is_page(&self, answer: Option<&Answer>) -> bool {
        self.page.as_ref().is_some_and(|page| !page.is_empty() && answer.is_some_and(|answer| answer.body == *page))
    }

    fn preflight(&self, seen: &Seen) -> Judged {
        if let Some(forged) = self.forged_in(seen) {
            return Judged::Through(forged);
        }
        let passed = format!("it reached the upstream as {}", seen.line());
        match self.shares {
            Some(true) => Judged::Held,
            Some(false) => Judged::Through(passed),
            None => Judged::Note(passed),
        }
    }

    /// Whether no caller may send this name, in any spelling.
    pub(super) fn is_managed(&self, name: &str) -> bool {
        let folded = fold(name);
        if self.managed.contains(&folded) {
            return true;
        }
        let always = ALWAYS.contains(&&*folded) || FAMILIES.iter().any(|family| folded.starts_with(family));
        always && !self.kept.iter().any(|kept| name.eq_ignore_ascii_case(kept))
    }

    /// Where the forged value stands under a name that no caller may send.
    fn forged_in(&self, seen: &Seen) -> Option<String> {
        let mut under = "";
        for (name, value) in &seen.headers {
            if !name.is_empty() {
                under = name;
            }
            if !value.contains(&self.forged) && !name.contains(&self.forged) {
                continue;
            }
            if self.is_managed(under) {
                return Some(format!("the upstream got `{}: {}`", under.escape_default(), value.escape_default()));
            }
            // What some server takes for a line of its own.
            let inner = value.split(['\r', '\n']).filter_map(|line| line.split_once(':'));
            let broken = name.is_empty() || value.contains(['\r', '\n']);
            if broken && inner.into_iter().any(|(inner, _)| self.is_managed(inner)) {
                return Some(format!("the upstream got the line `{}`", value.escape_default()));
            }
        }
        let trailer = seen.trailers.iter().find(|(n, value)| value.contains(&self.forged) && self.is_managed(n));
        trailer.map(|(name, value)| format!("the upstream got the trailer `{name}: {}`", value.escape_default()))
    }

    /// Which header of the ordinary request is missing.
    fn lost_in(&self, seen: &Seen) -> Option<String> {
        let has = |wanted: &String| seen.headers.iter().any(|(name, value)| fold(name) == *wanted && !value.is_empty());
        let lost = self.identity.iter().find(|name| !has(name))?;
        Some(format!("the upstream did not get `{lost}`, which it gets otherwise"))
    }
}

fn two_lengths(seen: &Seen) -> Option<String> {
    let lengths: Vec<&str> = seen.elements("content-length").collect();
    let codings: Vec<&str> = seen.elements("transfer-encoding").collect();
    let odd = |name: &str, folded: &str| fold(name) == folded && !name.eq_ignore_ascii_case(folded);
    let misspelt = seen.headers.iter().find(|(name, _)| odd(name, "transfer-encoding") || odd(name, "content-length"));
    let said = || {
        let told = |(name, value): &(String, String)| format!("{}: {}", name.escape_default(), value.escape_default());
        let of_length = |name: &str| matches!(&*fold(name), "content-length" | "transfer-encoding");
        let lines: Vec<String> = seen.headers.iter().filter(|(name, _)| of_length(name)).map(told).collect();
        format!("the upstream got `{}`", lines.join("`, `"))
    };
    let doubtful = lengths.len() > 1
        || (!lengths.is_empty() && !codings.is_empty())
        || codings.iter().any(|coding| !coding.eq_ignore_ascii_case("chunked"))
        || codings.len() > 1
        || lengths.iter().any(|length| !length.bytes().all(|byte| byte.is_ascii_digit()));
    (doubtful || misspelt.is_some()).then(said)
}

fn two_hosts(seen: &Seen) -> Option<String> {
    let lines: Vec<&str> = seen.headers.iter().filter(|(name, _)| fold(name) == "host").map(|(_, v)| &**v).collect();
    let joined = lines.join("`, `");
    if lines.len() != 1 || joined.contains(',') {
        return Some(format!("the upstream got the hosts `{}`", joined.escape_default()));
    }
    let authority = seen.path.split_once("://").filter(|_| !seen.path.starts_with('/')).map(|(_, rest)| rest);
    let other = authority.filter(|rest| !rest.starts_with(&format!("{joined}/")))?;
    Some(format!("the upstream got the target `//{}` and the host `{joined}`", other.escape_default()))
}

/// Whether some server reads a target as this path, case aside.
pub(super) fn reads_as(target: &str, path: &str) -> bool {
    let wanted = path.to_ascii_lowercase();
    let bare = wanted.trim_end_matches('/').to_owned();
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut fresh = vec![(target.to_owned(), 0_u8)];
    while let Some((form, decoded)) = fresh.pop() {
        if form.to_ascii_lowercase() == wanted || form.to_ascii_lowercase() == bare {
            return true;
        }
        if known.len() >= MAX_READINGS || !known.insert(form.clone()) {
            continue;
        }
        if decoded < 2 {
            let bytes = percent_decode_str(&form).collect::<Vec<u8>>();
            fresh.push((bytes.into_iter().map(char::from).collect(), decoded.saturating_add(1)));
        }
        fresh.extend(readings(&form).map(|reading| (reading, decoded)));
    }
    false
}

/// What servers do to paths, one thing each.
fn readings(form: &str) -> impl Iterator<Item = String> {
    let before = |end: char| form.split(end).next().unwrap_or_default().to_owned();
    let without_parameters = || {
        let bare: Vec<&str> = form.split('/').map(|s| s.split(';').next().unwrap_or_default()).collect();
        bare.join("/")
    };
    let without_authority = || {
        let rest = form.split_once("//").filter(|(scheme, _)| scheme.is_empty() || scheme.ends_with(':'))?.1;
        Some(rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/").to_owned())
    };
    [
        Some(before('?')),
        Some(before('#')),
        Some(before('\0')),
        Some(form.replace('\\', "/")),
        Some(without_parameters()),
        Some(merged(form)),
        Some(resolved(form)),
        Some(form.trim_end_matches(['/', '.', ' ', '\t', '\n', '&']).to_owned()),
        (!form.starts_with('/')).then(|| format!("/{form}")),
        without_authority(),
    ]
    .into_iter()
    .flatten()
}

fn merged(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    merged
}

fn resolved(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "." => {}
            ".." if kept.len() > 1 => _ = kept.pop(),
            ".." => {}
            _ => kept.push(segment),
        }
    }
    kept.join("/")
}
