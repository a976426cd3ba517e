//! Typed reads of a node: each reports what does not fit, at its place, and lets the reading go on.

use std::collections::HashMap;
use std::collections::hash_map;
use std::net::Ipv4Addr;
use std::time::Duration;

use url::{Host, Url};

use crate::authz::time::Timestamp;

use super::error::{Problem, Problems, Span, Spanned, Text, nearest};
use super::overlay;
use super::reference::{self, STUB_SECRET, Secret};
use super::source::FileId;
use super::tree::{Kind, Node};

/// The longest key, name or value that has a use here, in bytes.
const MAX_TEXT: usize = 4_096;

/// A map with fixed keys.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// How messages call it.
    pub name: &'static str,
    /// The keys that it has.
    pub accepted: &'static [&'static str],
    /// The keys that the policy language has, and this version does not.
    pub later: &'static [&'static str],
    /// Keys that one may look for and that it will never have, each with the reason.
    pub never: &'static [(&'static str, &'static str)],
}

/// A key of a map, and its value.
pub(super) type Entry<'n> = (Text, &'n Node);

/// The values of a map with fixed keys; of a key that is there twice, the first.
pub(super) struct Fields<'n> {
    section: Section,
    span: Span,
    entries: Vec<(&'static str, Span, &'n Node)>,
}

/// Collects the problems of a policy's files while they are read.
pub(super) struct Reader {
    problems: Problems,
    lost: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The value of a key, where there is one that is not empty.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(name, ..)| *name == key).map(|(.., node)| *node).filter(|n| n.kind != Kind::Null)
    }

    /// Whether the key was written, be it with a value or without.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, ..)| *name == key)
    }

    /// The keys that were written, and where.
    pub fn keys(&self) -> impl Iterator<Item = (&'static str, Span)> {
        self.entries.iter().map(|(name, span, _)| (*name, *span))
    }

    /// Where the key was written.
    pub fn key(&self, key: &str) -> Option<Span> {
        self.entries.iter().find(|(name, ..)| *name == key).map(|(_, span, _)| *span)
    }

    /// Where the map was written.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Whether they are the sections of the policy file.
    pub fn is_policy(&self) -> bool {
        self.section.name.is_empty()
    }

    /// The key as messages call it.
    pub fn name(&self, key: &str) -> String {
        if self.section.name.is_empty() { format!("`{key}`") } else { format!("`{key}` of {}", self.section.name) }
    }
}

impl Reader {
    pub fn new(problems: Problems) -> Self {
        Self { problems, lost: Vec::new() }
    }

    pub fn report(&mut self, problem: Problem) {
        self.problems.report(problem);
    }

    /// Shows a value no more, whatever else is told of its line.
    pub fn blank(&mut self, span: Span) {
        self.problems.blank(span);
    }

    /// Takes in one more file.
    pub fn add_source(&mut self, name: &str, text: &str) -> Option<FileId> {
        self.problems.add_source(name, text)
    }

    /// Takes in one more file, in which no reference may stand, as a tree.
    pub fn tree(&mut self, name: &str, text: &str) -> Option<(FileId, Node)> {
        let (file, mut root) = overlay::tree(name, text, &mut self.problems)?;
        reference::refuse(&mut root, &mut self.problems);
        Some((file, root))
    }

    /// Takes note that some entry of a section is left out.
    pub fn lose(&mut self, section: &'static str) {
        self.lost.push(section);
    }

    /// The sections of which some entry is left out.
    pub fn lost(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.lost)
    }

    pub fn into_problems(mut self) -> Problems {
        self.problems.sort();
        self.problems
    }

    /// Reads a map with fixed keys; reports unknown, repeated and empty ones.
    pub fn fields<'n>(&mut self, node: &'n Node, section: Section) -> Option<Fields<'n>> {
        let what = if section.name.is_empty() { "the file" } else { section.name };
        let mut fields = Fields { section, span: node.span, entries: Vec::new() };
        for (key, value) in self.entries(node, what)? {
            let Some(name) = section.accepted.iter().find(|name| **name == &*key.value) else {
                self.unknown(&key, section);
                continue;
            };
            if value.kind == Kind::Null {
                self.report(Problem::error("missing_value", key.span, format!("{} has no value", fields.name(name))));
            }
            fields.entries.push((name, key.span, value));
        }
        Some(fields)
    }

    fn unknown(&mut self, key: &Text, section: Section) {
        if self.problems.is_full() {
            self.report(Problem::error("unknown_key", key.span, ""));
            return;
        }
        let place = if section.name.is_empty() { String::new() } else { format!(" in {}", section.name) };
        let there = section.accepted.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let word = &*key.value;
        let never = section.never.iter().find(|(key, _)| *key == word);
        let problem = if let Some((_, why)) = never {
            Problem::error("refused_key", key.span, format!("there is no `{word}`{place}: {why}"))
        } else if section.later.contains(&word) {
            Problem::error("not_there_yet", key.span, format!("`{word}`{place} is not there yet in this version"))
                .cure(format!("what is there: {there}"))
        } else {
            let cure = match nearest(word, section.accepted.iter().chain(section.later).copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("what is there: {there}"),
            };
            Problem::error("unknown_key", key.span, format!("there is no `{}`{place}", brief(word))).cure(cure)
        };
        self.report(problem);
    }

    /// Reads a map with free keys, in file order; reports repeated ones, and leaves them out.
    pub fn entries<'n>(&mut self, node: &'n Node, what: &str) -> Option<Vec<Entry<'n>>> {
        let Kind::Map(entries) = &node.kind else {
            self.wrong_shape(node, what, "a map");
            return None;
        };
        let mut seen: HashMap<&str, Span> = HashMap::with_capacity(entries.len());
        let mut read = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let Some(name) = self.text_of_key(key) else { continue };
            match seen.entry(name) {
                hash_map::Entry::Occupied(first) => self.report(
                    Problem::error("duplicate_key", key.span, format!("`{}` is here twice", brief(name)))
                        .cure("keep one of the two")
                        .related(*first.get(), "first here"),
                ),
                hash_map::Entry::Vacant(free) => {
                    free.insert(key.span);
                    read.push((Spanned::new(name.into(), key.span), value));
                }
            }
        }
        Some(read)
    }

    fn text_of_key<'n>(&mut self, key: &'n Node) -> Option<&'n str> {
        match &key.kind {
            Kind::Text { text, .. } if text.is_empty() => {
                self.report(Problem::error("missing_value", key.span, "a key is empty"));
                None
            }
            Kind::Text { text, .. } => self.one_line(text, key.span).then_some(&**text),
            Kind::Bool(value) => {
                let cure = format!("quote it: \"{value}\"");
                self.report(Problem::error("wrong_shape", key.span, "a key is text, this is true or false").cure(cure));
                None
            }
            kind => {
                let message = format!("a key is text, this is {}", kind.noun());
                self.report(Problem::error("wrong_shape", key.span, message).cure("quote it, if it is meant as text"));
                None
            }
        }
    }

    /// Reads a text that is not empty, on one line.
    pub fn text(&mut self, node: &Node, what: &str) -> Option<Text> {
        let text = self.literal(node, what)?;
        if !self.one_line(&text.value, node.span) {
            return None;
        }
        Some(text)
    }

    /// Reads a secret: nothing but one reference, after this prefix. A secret that stands in the file is an error.
    pub fn secret(&mut self, node: &Node, what: &str, prefix: &str) -> Option<Spanned<Secret>> {
        let text = self.text(node, what)?;
        self.secret_of(&text, what, prefix).map(|secret| Spanned::new(secret, node.span))
    }

    /// The secret that was put into a text, see [`Reader::secret`].
    pub fn secret_of(&mut self, text: &Text, what: &str, prefix: &str) -> Option<Secret> {
        if !self.problems.fillings().is_secret(text.span, prefix) {
            let message = format!("{what} is a secret, and never stands in the policy itself");
            let cure = format!("`{prefix}${{env:NAME}}` or `{prefix}${{file:path}}`, and nothing else");
            self.report(Problem::error("secret_in_file", text.span, message).cure(cure));
            return None;
        }
        let stub = self.problems.fillings().is_stub(text.span);
        let secret = text.value.strip_prefix(prefix).unwrap_or_default();
        let secret = if stub { STUB_SECRET } else { secret.as_bytes() };
        Some(Secret(secret.to_vec()))
    }

    /// The scalars that references were put into.
    pub fn fillings(&self) -> &reference::Fillings {
        self.problems.fillings()
    }

    /// Whether references were put into the value.
    pub fn is_filled(&self, span: Span) -> bool {
        self.problems.fillings().is_filled(span)
    }

    /// Reads a text that is not empty, of any number of lines, in which `${` has no meaning.
    pub fn literal(&mut self, node: &Node, what: &str) -> Option<Text> {
        let Kind::Text { text, .. } = &node.kind else {
            self.wrong_shape(node, what, "a text");
            return None;
        };
        if text.trim().is_empty() {
            self.report(Problem::error("missing_value", node.span, format!("{what} is empty")));
            return None;
        }
        self.acceptable(text, node.span).then(|| Spanned::new(text.clone(), node.span))
    }

    fn acceptable(&mut self, text: &str, span: Span) -> bool {
        if text.len() > MAX_TEXT {
            self.report(Problem::error("value_too_long", span, "this is longer than 4 KiB"));
            return false;
        }
        if let Some(found) = text.chars().find(|c| c.is_control() && *c != '\n') {
            let message = format!("the control character U+{:04X} is in here", u32::from(found));
            self.report(Problem::error("control_character", span, message));
            return false;
        }
        true
    }

    fn one_line(&mut self, text: &str, span: Span) -> bool {
        if text.contains('\n') {
            self.report(
                Problem::error("control_character", span, "a line end is in here").cure("write it on one line"),
            );
            return false;
        }
        self.acceptable(text, span)
    }

    /// Reads `true` or `false`.
    pub fn flag(&mut self, node: &Node, what: &str) -> Option<bool> {
        if let Kind::Bool(value) = node.kind {
            return Some(value);
        }
        let problem = Problem::error("wrong_shape", node.span, format!("{what} must be true or false"));
        self.report(problem.cure("YAML 1.2 knows `true` and `false`, without quotes, and no other spelling"));
        None
    }

    /// Reads a list.
    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        let Kind::List(items) = &node.kind else {
            self.wrong_shape(node, what, "a list");
            return None;
        };
        if items.is_empty() {
            self.report(Problem::error("missing_value", node.span, format!("{what} is an empty list")));
        }
        Some(items)
    }

    /// Reads one text or a list of them, without repetition.
    pub fn texts(&mut self, node: &Node, what: &str) -> Vec<Text> {
        let items = match &node.kind {
            Kind::Text { .. } => std::slice::from_ref(node),
            _ => self.list(node, what).unwrap_or_default(),
        };
        let mut read: Vec<Text> = Vec::new();
        let mut seen: HashMap<&str, Span> = HashMap::new();
        for item in items {
            let Some(text) = self.text(item, what) else { continue };
            if let Kind::Text { text: key, .. } = &item.kind
                && let Some(first) = seen.insert(key, item.span)
            {
                self.report(
                    Problem::warning("duplicate_value", item.span, format!("`{}` is in this list twice", brief(key)))
                        .related(first, "first here"),
                );
                continue;
            }
            read.push(text);
        }
        read
    }

    /// Reads one of a few words.
    pub fn choice<T: Copy>(&mut self, node: &Node, what: &str, choices: &[(&'static str, T)]) -> Option<Spanned<T>> {
        let text = self.text(node, what)?;
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == &*text.value) {
            return Some(Spanned::new(*choice, text.span));
        }
        self.no_such_choice(&text, what, &choices.iter().map(|(word, _)| *word).collect::<Vec<_>>());
        None
    }

    /// Reports a word that is none of a few.
    pub fn no_such_choice(&mut self, text: &Text, what: &str, words: &[&str]) {
        let cure = match nearest(&text.value, words.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("one of {}", words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")),
        };
        let message = format!("{what} cannot be `{}`", brief(&text.value));
        self.report(Problem::error("unknown_value", text.span, message).cure(cure));
    }

    /// Reads a span of time such as `250ms`, `30s`, `5m`, `24h` or `7d`, at most `most`.
    pub fn duration(&mut self, node: &Node, what: &str, most: Duration) -> Option<Duration> {
        let text = self.text(node, what)?;
        let Some(span) = duration(&text.value) else {
            let message = format!("{what} must be a span of time");
            self.report(
                Problem::error("bad_duration", node.span, message)
                    .cure("a number and its unit: 250ms, 30s, 5m, 24h, 7d"),
            );
            return None;
        };
        if span > most {
            let message = format!("{what} can be at most {} seconds", most.as_secs());
            self.report(Problem::error("out_of_range", node.span, message));
            return None;
        }
        Some(span)
    }

    /// Reads a point in time, in UTC.
    pub fn time(&mut self, node: &Node, what: &str) -> Option<Timestamp> {
        let text = self.text(node, what)?;
        let time = Timestamp::parse(&text.value);
        if time.is_none() {
            let message = format!("{what} must be a date with a time of day, in UTC");
            self.report(Problem::error("bad_time", node.span, message).cure("2026-12-01T00:00:00Z"));
        }
        time
    }

    /// Reads a whole number within bounds.
    pub fn number(&mut self, node: &Node, what: &str, bounds: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let text = self.text(node, what)?;
        let number = text.value.parse().ok().filter(|number| bounds.contains(number));
        if number.is_none() {
            let message = format!("{what} must be a whole number from {} to {}", bounds.start(), bounds.end());
            self.report(Problem::error("out_of_range", node.span, message));
        }
        number
    }

    /// Reads an absolute URL with `https`, or with `http` where that is allowed and the host is this machine.
    pub fn url(&mut self, node: &Node, what: &str, http: bool) -> Option<Text> {
        let text = self.text(node, what)?;
        match url_problem(&text.value, what, http) {
            Some((code, message)) => {
                self.report(Problem::error(code, node.span, message));
                None
            }
            None => Some(text),
        }
    }

    /// Reports a key that has to be there.
    pub fn missing(&mut self, span: Span, message: impl Into<String>) {
        self.report(Problem::error("missing_key", span, message));
    }

    /// Reports a value of the wrong shape.
    pub fn wrong_shape(&mut self, node: &Node, what: &str, wanted: &str) {
        let (code, message) = match node.kind {
            Kind::Null => ("missing_value", format!("{what} must be {wanted}, and has no value")),
            _ => ("wrong_shape", format!("{what} must be {wanted}, this is {}", node.kind.noun())),
        };
        self.report(Problem::error(code, node.span, message));
    }
}

/// The beginning of a text, for a message.
pub(super) fn brief(text: &str) -> &str {
    let line = text.split('\n').next().unwrap_or_default();
    line.char_indices().nth(80).and_then(|(end, _)| line.get(..end)).unwrap_or(line)
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(millis).map(Duration::from_millis)
}

fn url_problem(text: &str, what: &str, http: bool) -> Option<(&'static str, String)> {
    let Ok(url) = Url::parse(text) else {
        return Some(("bad_url", format!("{what} must be an absolute URL")));
    };
    let blank = text.chars().any(|c| c.is_whitespace() || c == '\\');
    if blank || !url.has_host() || url.host_str().is_none_or(str::is_empty) {
        return Some(("bad_url", format!("{what} must be an absolute URL")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Some(("secret_in_url", format!("{what} holds a user name or password")));
    }
    if url.fragment().is_some() {
        return Some(("bad_url", format!("{what} has a fragment (`#`), which is never sent")));
    }
    match url.scheme() {
        "https" => None,
        "http" if http && is_this_machine(&url) => None,
        "http" if http => Some(("not_https", format!("{what} is plain http to another machine: it must be https"))),
        "http" => Some(("not_https", format!("{what} must be https"))),
        _ => Some(("bad_url", format!("{what} must begin with https://"))),
    }
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address == Ipv4Addr::LOCALHOST || address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_have_a_unit() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("24h"), Some(Duration::from_secs(86_400)));
        for text in ["", "5", "s", "-1s", "1.5h", "5 m", "1h30m", "5M", "18446744073709551615h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn only_https_and_this_machine_are_urls_for_keys() {
        let code = |text, http| url_problem(text, "`url`", http).map(|(code, _)| code);
        for text in ["https://id.example.com/realms/shop", "https://id.example.com:8443", "https://[2001:db8::1]/"] {
            assert_eq!(code(text, false), None, "{text}");
        }
        for text in ["http://127.0.0.1:8080/x", "http://localhost/x", "http://[::1]:1/"] {
            assert_eq!((code(text, true), code(text, false)), (None, Some("not_https")), "{text}");
        }
        for text in ["http://id.example.com", "http://localhost.example.com", "http://127.0.0.1.nip.io/"] {
            assert_eq!(code(text, true), Some("not_https"), "{text}");
        }
        assert_eq!(code("https://user:pass@id.example.com", true), Some("secret_in_url"));
        for text in [
            "id.example.com",
            "//id",
            "ftp://x/",
            "https://a/#b",
            "https:// a",
            "https:\\\\a",
            "file:///x",
            "javascript:x",
        ] {
            assert_eq!(code(text, true), Some("bad_url"), "{text}");
        }
    }
}
