//! What the outcome of an attack says: held, got through, worth a word, or not to be told.

use std::collections::{BTreeSet, HashMap};

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::attack::{Attack, Rule, sentence};
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
        let seen = answer.and_then(|answer| Seen::of(answer, &attack.nonce));
        if let Some(seen) = seen.as_ref().filter(|seen| seen.whole) {
            return self.reached(attack, seen);
        }
        if let Some((method, path)) = self.arrived.get(&attack.nonce) {
            let (method, path) = (method.clone(), path.clone());
            return self.reached(attack, &Seen { method, path, ..Seen::default() });
        }
        if let Some(seen) = seen {
            let (method, path) = (attack.request.method.clone(), attack.request.target.clone());
            return self.reached(attack, &Seen { method, path, ..seen });
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
            Rule::Forged => match (self.forged_in(seen), self.forged_trailer(seen)) {
                (None, Some(trailer)) => Judged::Note(trailer),
                (forged, _) => through(forged),
            },
            Rule::Kept => through(self.forged_in(seen).or_else(|| self.lost_in(seen))),
            Rule::OneCredential => {
                let shown = seen.values("authorization").map(|line| line.split(',').count()).sum::<usize>();
                through((shown > 1).then(|| format!("the upstream got {shown} of them")))
            }
            Rule::Preflight => self.preflight(seen),
            Rule::Framed => through(two_lengths(seen)),
            Rule::OneHost => through(two_hosts(seen)),
            Rule::Address => {
                let last = seen.elements("x-forwarded-for").last().map(|last| ("X-Forwarded-For", last));
                let alone = ["X-Real-IP", "X-Envoy-External-Address"];
                let alone = alone.iter().flat_map(|name| seen.values(name).map(move |value| (*name, value)));
                let told = last.into_iter().chain(alone).find(|(_, value)| *value == ADDRESS);
                through(told.map(|(name, _)| format!("the upstream is told the forged {ADDRESS}, in `{name}`")))
            }
            Rule::Scheme(scheme) => {
                let told = seen.elements("x-forwarded-proto").any(|value| value == *scheme);
                through(told.then(|| format!("the upstream got `X-Forwarded-Proto: {scheme}`")))
            }
            Rule::Envoys(name) => {
                let told = seen.values(name).any(|value| value.contains(&self.forged));
                through((told && self.is_envoy()).then(|| format!("the upstream got `{name}` as it was sent")))
            }
            Rule::Alias(name) => self.alias(seen, name),
            Rule::Normal => Judged::Held,
            Rule::Passed(name) => {
                let told = seen.values(name).any(|value| value.contains(&self.forged));
                if told { Judged::Note(sentence(attack.code).to_owned()) } else { Judged::Held }
            }
            Rule::Told => Judged::Note(sentence(attack.code).to_owned()),
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
            // `*` is the gateway itself.
            Rule::Apart if self.echo && attack.request.target == "*" => Judged::Held,
            Rule::Apart if passed && self.is_page(answer) => {
                Judged::Through(format!("it was answered with {status} and the page of a signed-in caller"))
            }
            Rule::Apart if passed => untold(&format!("it was answered with {status}")),
            Rule::Preflight if passed && self.shares == Some(false) => {
                Judged::Note(format!("the gateway answers preflights itself, with {status}: portcullis is not asked"))
            }
            Rule::Normal if status == 400 && self.is_envoy() && answer.is_some_and(is_ours) => {
                Judged::Note(sentence(attack.code).to_owned())
            }
            Rule::Normal => Judged::Held,
            _ if self.echo => Judged::Held,
            _ if (400..500).contains(&status) || (300..400).contains(&status) => Judged::Held,
            _ if *outcome == Outcome::Closed => Judged::Held,
            _ if *outcome == Outcome::Silent => untold("nothing was answered in time"),
            _ => untold(&format!("it was answered with {status}")),
        }
    }

    const fn is_envoy(&self) -> bool {
        matches!(self.gateway, Some(Gateway::Envoy | Gateway::Istio))
    }

    fn is_page(&self, answer: Option<&Answer>) -> bool {
        self.page.as_ref().is_some_and(|page| !page.is_empty() && answer.is_some_and(|answer| answer.body == *page))
    }

    /// Gateways that have a setting against such names are to use it; with the others the application must not believe them.
    fn alias(&self, seen: &Seen, name: &str) -> Judged {
        let is_alias = |other: &str| fold(other) == name && !other.eq_ignore_ascii_case(name);
        let found = seen.headers.iter().find(|(other, value)| is_alias(other) && value.contains(&self.forged));
        let Some((other, _)) = found else { return Judged::Held };
        let told = format!("the upstream got `{other}`, which CGI, WSGI and PHP read as `{name}`");
        match self.gateway {
            Some(Gateway::Traefik | Gateway::Caddy | Gateway::Haproxy) | None => Judged::Note(told),
            Some(Gateway::Envoy | Gateway::Istio | Gateway::Nginx | Gateway::Kong) => Judged::Through(told),
        }
    }

    fn preflight(&self, seen: &Seen) -> Judged {
        if let Some(forged) = self.forged_in(seen) {
            return Judged::Through(forged);
        }
        let passed = format!("it reached the upstream as {}", seen.line());
        match self.shares {
            Some(true) => Judged::Held,
            Some(false) => Judged::Through(passed),
            None => Judged::Note(format!("a preflight passes: {passed}")),
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
        None
    }

    /// A trailer is no header, but for an application that merges what should not be merged (RFC 9110 §6.5.1).
    fn forged_trailer(&self, seen: &Seen) -> Option<String> {
        let (name, _) = seen.trailers.iter().find(|(n, value)| value.contains(&self.forged) && self.is_managed(n))?;
        Some(format!("the upstream got `{}` as a trailer, which it must not take for a header", name.escape_default()))
    }

    /// Which header of the ordinary request is missing.
    fn lost_in(&self, seen: &Seen) -> Option<String> {
        let has = |wanted: &String| seen.headers.iter().any(|(name, value)| fold(name) == *wanted && !value.is_empty());
        if let Some(named) = seen.elements("connection").find(|named| self.identity.contains(&fold(named))) {
            return Some(format!(
                "the upstream got `Connection: {}`, by which proxies drop it",
                named.escape_default()
            ));
        }
        let lost = self.identity.iter().find(|name| !has(name))?;
        Some(format!("the upstream did not get `{lost}`, which it gets otherwise"))
    }
}

/// Whether a denial is portcullis' own (RFC 9457), and not the gateway's.
fn is_ours(answer: &Answer) -> bool {
    answer.header("content-type").is_some_and(|kind| kind.starts_with("application/problem+json"))
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

#[cfg(test)]
mod tests {
    use super::super::attack::Request;
    use super::*;
    use serde_json::json;

    const NONCE_IS: &str = "00000000000000aa";

    fn ground(echo: bool) -> Ground {
        Ground {
            echo,
            managed: vec!["x-user-id".into()],
            kept: vec!["remote-user".into()],
            protected: "/secret".into(),
            forged: "forged-1".into(),
            identity: vec!["x-user-id".into()],
            ..Ground::default()
        }
    }

    fn attack(rule: Rule, method: &str) -> Attack {
        let request = Request::new(method, "/", "x");
        Attack { code: "forged_header", variant: String::new(), request, rule, nonce: NONCE_IS.into() }
    }

    /// An answer of the echo to a request with these headers.
    fn echoed(path: &str, headers: &[(&str, &str)]) -> Outcome {
        let mut lines = vec![json!(["Probe-Nonce", NONCE_IS])];
        lines.extend(headers.iter().map(|(name, value)| json!([name, value])));
        let said = json!({"portcullis_echo": "e", "method": "GET", "path": path, "headers": lines, "trailers": []});
        Outcome::Answered(Answer { status: 200, headers: Vec::new(), body: said.to_string().into_bytes() })
    }

    fn status(status: u16) -> Outcome {
        Outcome::Answered(Answer { status, headers: Vec::new(), body: b"page".to_vec() })
    }

    fn through(judged: &Judged) -> bool {
        matches!(judged, Judged::Through(_))
    }

    #[test]
    fn a_forged_value_counts_under_every_name_that_folds_onto_a_managed_one_and_under_no_other() {
        for (headers, expected) in [
            (vec![("X-User-ID", "forged-1")], true),
            (vec![("x_user.id", "a, forged-1")], true),
            (vec![("x-user-id ", "forged-1")], true),
            (vec![("X-User-ID", ""), ("", " forged-1")], true),
            (vec![("x-harmless", "a"), ("", " X-User-ID: forged-1")], true),
            (vec![("x-harmless", "a\rX-User-ID: forged-1")], true),
            (vec![("X-Original-URL", "forged-1")], true),
            (vec![("X-Consumer-Username", "forged-1")], true),
            (vec![("Remote-User", "forged-1")], false),
            (vec![("remote_user", "forged-1")], true),
            (vec![("x-harmless", "X-User-ID: forged-1")], false),
            (vec![("X-User-ID", "u1"), ("x-user", "forged-1")], false),
        ] {
            let judged = ground(true).judge(&attack(Rule::Forged, "GET"), &echoed("/", &headers));
            assert_eq!(through(&judged), expected, "{headers:?}: {judged:?}");
        }
    }

    #[test]
    fn an_identity_that_is_lost_or_empty_is_a_finding() {
        for (headers, expected) in
            [(vec![("x-user-id", "u1")], false), (vec![("x-user-id", "")], true), (vec![("x-other", "u1")], true)]
        {
            let judged = ground(true).judge(&attack(Rule::Kept, "GET"), &echoed("/", &headers));
            assert_eq!(through(&judged), expected, "{headers:?}: {judged:?}");
        }
    }

    #[test]
    fn without_an_echo_only_what_can_be_told_is_judged() {
        let (barred, apart, forged) =
            (attack(Rule::Barred, "GET"), attack(Rule::Apart, "GET"), attack(Rule::Forged, "GET"));
        let seeing = Ground { page: Some(b"page".to_vec()), ..ground(false) };
        assert!(through(&ground(false).judge(&barred, &status(200))));
        assert!(through(&seeing.judge(&apart, &status(200))));
        assert_eq!(ground(false).judge(&forged, &status(403)), Judged::Held);
        for (ground, attack, outcome) in [
            (ground(false), &apart, status(200)),
            (ground(false), &forged, status(200)),
            (ground(false), &forged, Outcome::Silent),
            (ground(true), &barred, status(429)),
            (ground(true), &barred, Outcome::Unreachable("refused".into())),
        ] {
            let judged = ground.judge(attack, &outcome);
            assert!(matches!(judged, Judged::Unjudged(_)), "{:?} {outcome:?}: {judged:?}", attack.rule);
        }
    }

    #[test]
    fn what_reached_the_upstream_is_a_finding_though_the_answer_was_another() {
        let mut ground = ground(true);
        ground.arrived.insert(NONCE_IS.into(), ("GET".into(), "/a/../secret".into()));
        assert!(through(&ground.judge(&attack(Rule::Barred, "GET"), &status(502))));
        assert!(through(&ground.judge(&attack(Rule::Apart, "GET"), &Outcome::Closed)));
        assert!(matches!(ground.judge(&attack(Rule::Forged, "GET"), &status(502)), Judged::Unjudged(_)));
    }

    #[test]
    fn an_answer_of_another_request_or_of_no_echo_is_not_taken_for_the_echo() {
        let Outcome::Answered(answer) = echoed("/", &[]) else { panic!("it is an answer") };
        assert!(Seen::of(&answer, NONCE_IS).is_some());
        assert!(Seen::of(&answer, "00000000000000bb").is_none());
        let copied = json!({"headers": [["Probe-Nonce", NONCE_IS]]}).to_string().into_bytes();
        assert!(Seen::of(&Answer { body: copied, ..answer }, NONCE_IS).is_none());
    }

    #[test]
    fn lengths_hosts_and_addresses_are_judged_by_what_the_upstream_got() {
        let ground = ground(true);
        for (rule, headers, expected) in [
            (Rule::Framed, vec![("Content-Length", "5")], false),
            (Rule::Framed, vec![("Transfer-Encoding", "chunked")], false),
            (Rule::Framed, vec![("Content-Length", "5"), ("Transfer-Encoding", "chunked")], true),
            (Rule::Framed, vec![("Content-Length", "5"), ("Content-Length", "0")], true),
            (Rule::Framed, vec![("Content-Length", "+5")], true),
            (Rule::Framed, vec![("Transfer-Encoding", "xchunked")], true),
            (Rule::Framed, vec![("Content-Length", "5"), ("Transfer-Encoding ", "chunked")], true),
            (Rule::OneHost, vec![("Host", "a")], false),
            (Rule::OneHost, vec![("Host", "a"), ("Host", "b")], true),
            (Rule::OneHost, vec![("Host", "a,b")], true),
            (Rule::Address, vec![("X-Forwarded-For", "203.0.113.66, 192.0.2.1")], false),
            (Rule::Address, vec![("X-Forwarded-For", "203.0.113.66")], true),
            (Rule::Address, vec![("X-Forwarded-For", "203.0.113.66, 192.0.2.1"), ("X-Real-IP", "203.0.113.66")], true),
            (Rule::Scheme("https"), vec![("X-Forwarded-Proto", "http")], false),
            (Rule::Scheme("https"), vec![("X-Forwarded-Proto", "https,http")], true),
            (Rule::OneCredential, vec![("Authorization", "Bearer a")], false),
            (Rule::OneCredential, vec![("Authorization", "Bearer a"), ("Authorization", "Bearer b")], true),
        ] {
            let judged = ground.judge(&attack(rule.clone(), "GET"), &echoed("/", &headers));
            assert_eq!(through(&judged), expected, "{rule:?} {headers:?}: {judged:?}");
        }
    }

    #[test]
    fn a_path_is_read_in_all_the_ways_that_servers_read_it() {
        for path in ["/secret", "/SECRET", "/a/../secret", "/a%2f..%2fsecret", "/a/%252e%252e/secret", "//h/secret"] {
            assert!(reads_as(path, "/secret"), "{path}");
        }
        for path in ["/secrets", "/a/secret", "/health?/secret", "/", "/secret/a", "*"] {
            assert!(!reads_as(path, "/secret"), "{path}");
        }
    }
}
