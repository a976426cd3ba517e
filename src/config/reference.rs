//! `${env:NAME}` and `${file:path}`: values that a policy takes from where it runs, each put into one scalar of the tree.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::error::{Problem, Problems, Span, Spanned};
use super::tree::{Kind, Node};

/// The sections whose values may refer to what is outside of the policy.
pub const REFERRING: &[&str] = &[
    "issuers",
    "api_keys",
    "hosts",
    "gateways",
    "pdp_clients",
    "store",
    "listen",
    "sign_in",
    "public_url",
    "mint",
    "audit",
    "decision_key",
    "admin",
];
/// Of those, the ones that decide nothing: their values do not name the policy.
const SETTINGS: &[&str] = &["store", "listen", "audit", "decision_key", "admin"];
/// The largest file that a value is taken from, in bytes.
const MAX_VALUE_FILE: usize = 64 << 10;
/// Values that are shorter are parts of any message, and hidden only where they stand.
const MIN_HIDDEN: usize = 8;
/// Values that are shorter are no secret.
const MIN_SECRET: usize = 6;
/// What a secret reads as where stubs do: long enough for every use.
pub(super) const STUB_SECRET: &[u8] = b"kZ3vQ8xLw1TnB6yRjH0pUeGc4sMdFa7iOq9XtJbV2zWlNrYhKfPgEoCuSmD5AIQx";
const SHAPE: &str = "`${env:NAME}`, `${env:NAME:-default}` or `${file:path}`; `$${` is a literal `${`";

/// What a policy may ask of where it runs.
#[derive(Clone, Copy)]
pub struct Surroundings<'s> {
    /// Reads a file by its name in the policy.
    pub file: &'s dyn Fn(&str) -> io::Result<Vec<u8>>,
    /// The files that a pattern names (`teams/*.yaml`, from the policy's folder down), in order.
    pub list: &'s dyn Fn(&str) -> Result<Vec<Found>, Unlisted>,
    /// The names of the files in a folder, in order; hidden ones left out.
    pub names: &'s dyn Fn(&str) -> io::Result<Vec<String>>,
    /// An environment variable, where it is there and is text.
    pub variable: &'s dyn Fn(&str) -> Option<String>,
    /// The names and texts of the files that are laid over the policy, one after the other.
    pub later: &'s [(String, String)],
    /// Whether what is missing reads as a stub: to check a policy where its secrets are not.
    pub stubs: bool,
    /// Whether the policy is held against the lints, which takes more time and memory than all the rest.
    pub lints: bool,
}

/// A file to include.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// From the policy's folder down.
    pub path: String,
    /// What messages call it.
    pub name: String,
    /// Where it is in truth, whatever links lead to it.
    pub place: PathBuf,
}

/// Why the files of a pattern cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unlisted {
    /// Their folder cannot be read.
    Unreadable(io::ErrorKind),
    /// This one is a link that leads out of the policy's folder.
    Outside(String),
    /// This one is the policy itself, or is laid over it.
    Policy(String),
}

/// Bytes that no log and no `Debug` shows.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(pub Vec<u8>);

impl Surroundings<'static> {
    /// Nothing is there.
    pub const NONE: Self = Self {
        file: &|_| Err(io::ErrorKind::NotFound.into()),
        list: &|_| Err(Unlisted::Unreadable(io::ErrorKind::NotFound)),
        names: &|_| Err(io::ErrorKind::NotFound.into()),
        variable: &|_| None,
        later: &[],
        stubs: false,
        lints: true,
    };
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What was taken from outside of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The files, by their names in the policy.
    pub files: Vec<PathBuf>,
    /// The values that the policy is made of, in the order of their references.
    pub values: Vec<Secret>,
    /// The references that read as a stub.
    pub stubs: Vec<Box<str>>,
}

/// A scalar that references were put into.
#[derive(Clone, PartialEq, Eq)]
pub struct Filled {
    span: Span,
    /// As the policy writes it.
    written: Box<str>,
    value: Box<str>,
    stub: bool,
}

impl fmt::Debug for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filled").field("written", &self.written).finish_non_exhaustive()
    }
}

/// Scalars that references were put into, by their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fillings {
    filled: HashMap<Span, Filled>,
    /// Those whose values could not be had.
    broken: Vec<Span>,
}

impl Fillings {
    /// Whether the text at this place is one reference, without a default, after this beginning: nothing that could be
    /// read in the policy itself.
    #[must_use]
    pub fn is_secret(&self, span: Span, prefix: &str) -> bool {
        let Some(filled) = self.filled.get(&span) else { return false };
        let Some(reference) = filled.written.strip_prefix(prefix) else { return false };
        match pieces(reference).as_deref() {
            Ok([(Piece::Variable { default: None, .. } | Piece::File(_), _)]) => true,
            Ok(_) | Err(_) => false,
        }
    }

    /// A text that was made of the one at this place, as the policy would write it: with references in place of what they
    /// stand for.
    #[must_use]
    pub(super) fn written(&self, text: &str, span: Span) -> String {
        match self.filled.get(&span).filter(|filled| !filled.value.is_empty() && text.contains(&*filled.value)) {
            Some(filled) => text.replace(&*filled.value, &filled.written),
            None => text.replace("${", "$${"),
        }
    }

    /// Whether references were put into the text at this place.
    #[must_use]
    pub fn is_filled(&self, span: Span) -> bool {
        self.filled.contains_key(&span)
    }

    /// Whether the text at this place was made with a stub.
    #[must_use]
    pub fn is_stub(&self, span: Span) -> bool {
        self.filled.get(&span).is_some_and(|filled| filled.stub)
    }

    /// Whether a place is in a scalar whose value could not be had, which was told.
    pub(super) fn is_broken(&self, span: Span) -> bool {
        self.broken.iter().any(|broken| overlap(span, *broken))
    }

    /// Puts references back where a message would tell what they stand for.
    pub(super) fn hide(&self, problem: &mut Problem) {
        let Problem { span, message, cure, related, .. } = problem;
        for filled in self.filled.values() {
            let touched = overlap(*span, filled.span) || related.iter().any(|other| overlap(other.span, filled.span));
            if filled.value.len() < if touched { MIN_SECRET } else { MIN_HIDDEN } {
                continue;
            }
            let labels = related.iter_mut().map(|other| &mut other.label);
            for text in std::iter::once(&mut *message).chain(cure.as_mut()).chain(labels) {
                for shown in [&*filled.value, super::shape::brief(&filled.value)] {
                    if !shown.is_empty() && text.contains(shown) {
                        *text = text.replace(shown, &filled.written);
                    }
                }
            }
        }
    }
}

fn overlap(one: Span, two: Span) -> bool {
    let end = |span: Span| span.offset.saturating_add(span.len.max(1));
    one.file == two.file && one.offset < end(two) && two.offset < end(one)
}

/// A part of a scalar.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    Variable { name: &'t str, default: Option<&'t str> },
    File(&'t str),
}

/// What is wrong with a reference, and where in its scalar.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    at: Range<usize>,
    message: &'static str,
}

/// The parts of a scalar, each with its place.
fn pieces(text: &str) -> Result<Vec<(Piece<'_>, Range<usize>)>, Fault> {
    let mut pieces = Vec::new();
    let mut from = 0_usize;
    let mut search = 0_usize;
    while let Some(at) = text.get(search..).and_then(|rest| rest.find("${")).map(|at| at.saturating_add(search)) {
        let inside = at.saturating_add(2);
        if let Some(before) = text.get(from..at).and_then(|before| before.strip_suffix('$')) {
            // `$${`: what follows the first `$` is text.
            pieces.push((Piece::Text(before), from..at));
            (from, search) = (at, inside);
            continue;
        }
        let rest = text.get(inside..).unwrap_or_default();
        let Some(len) = rest.find('}') else {
            return Err(Fault { at: at..text.len(), message: "`${` is not closed" });
        };
        let end = inside.saturating_add(len).saturating_add(1);
        pieces.push((Piece::Text(text.get(from..at).unwrap_or_default()), from..at));
        let read = reference(rest.get(..len).unwrap_or_default());
        pieces.push((read.map_err(|message| Fault { at: at..end, message })?, at..end));
        (from, search) = (end, end);
    }
    pieces.push((Piece::Text(text.get(from..).unwrap_or_default()), from..text.len()));
    pieces.retain(|(piece, _)| *piece != Piece::Text(""));
    Ok(pieces)
}

/// What stands between `${` and `}`.
fn reference(text: &str) -> Result<Piece<'_>, &'static str> {
    if text.contains("${") {
        return Err("a reference cannot hold another one");
    }
    match text.split_once(':') {
        Some(("env", variable)) => {
            let (name, default) = match variable.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (variable, None),
            };
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() {
                return Err("this reference names no variable");
            }
            if !name.chars().all(fits) || name.starts_with(|c: char| c.is_ascii_digit()) {
                return Err("the name of a variable is letters, digits and `_`");
            }
            Ok(Piece::Variable { name, default })
        }
        Some(("file", "")) => Err("this reference names no file"),
        Some(("file", path)) => Ok(Piece::File(path)),
        Some(_) | None => Err("there is no such reference"),
    }
}

/// Puts values in the place of all references of a policy's tree, and reports those that stand where none may.
pub(super) fn fill(root: &mut Node, around: &Surroundings<'_>, problems: &mut Problems) -> (Taken, Fillings) {
    let mut filler = Filler { around, problems, taken: Taken::default(), fillings: Fillings::default() };
    let Kind::Map(sections) = &mut root.kind else { return (Taken::default(), Fillings::default()) };
    for (key, value) in sections {
        let name = match &key.kind {
            Kind::Text { text, .. } => text.clone(),
            Kind::Null | Kind::Bool(_) | Kind::List(_) | Kind::Map(_) => Box::default(),
        };
        filler.refuse(key);
        if REFERRING.contains(&&*name) {
            filler.fill(value, &mut vec![name]);
        } else {
            filler.refuse(value);
        }
    }
    (filler.taken, filler.fillings)
}

/// Reports every reference in a file that may have none.
pub(super) fn refuse(root: &mut Node, problems: &mut Problems) {
    let around = &Surroundings::NONE;
    let mut filler = Filler { around, problems, taken: Taken::default(), fillings: Fillings::default() };
    filler.refuse(root);
}

struct Filler<'f> {
    around: &'f Surroundings<'f>,
    problems: &'f mut Problems,
    taken: Taken,
    fillings: Fillings,
}

impl Filler<'_> {
    /// Reports a reference where none may stand; what is escaped is read as it is meant.
    fn refuse(&mut self, node: &mut Node) {
        match &mut node.kind {
            Kind::Text { text, .. } if text.contains("${") => {
                if let Some(at) = text.match_indices("${").map(|(at, _)| at).find(|at| !is_escaped(text, *at)) {
                    let end = text
                        .get(at..)
                        .and_then(|rest| rest.find('}'))
                        .map_or(text.len(), |len| at.saturating_add(len).saturating_add(1));
                    let span = self.within(text, node.span, at..end);
                    let message =
                        "`${…}` cannot stand here: what is not the same everywhere is no rule that can be reviewed";
                    let places = REFERRING.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                    let cure = format!("it may stand in the values of {places}; a literal one is written `$${{`");
                    self.problems.report(Problem::error("reference_not_here", span, message).cure(cure));
                } else {
                    *text = text.replace("$${", "${").into();
                }
            }
            Kind::List(items) => items.iter_mut().for_each(|item| self.refuse(item)),
            Kind::Map(entries) => entries.iter_mut().for_each(|(key, value)| {
                self.refuse(key);
                self.refuse(value);
            }),
            Kind::Null | Kind::Bool(_) | Kind::Text { .. } => {}
        }
    }

    /// `keys` lead to this node.
    fn fill(&mut self, node: &mut Node, keys: &mut Vec<Box<str>>) {
        match &mut node.kind {
            Kind::Text { text, plain } if text.contains("${") => {
                let (written, plain) = (text.clone(), *plain);
                let stubs = self.taken.stubs.len();
                let Some(value) = self.filled(&written, node.span, keys) else {
                    self.fillings.broken.push(node.span);
                    return;
                };
                let stub = self.taken.stubs.len() > stubs;
                let filled = Filled { span: node.span, written, value: value.clone(), stub };
                self.fillings.filled.insert(node.span, filled);
                node.kind = match &*value {
                    "true" if plain => Kind::Bool(true),
                    "false" if plain => Kind::Bool(false),
                    _ => Kind::Text { text: value, plain: false },
                };
            }
            Kind::List(items) => items.iter_mut().for_each(|item| self.fill(item, keys)),
            Kind::Map(entries) => {
                for (key, value) in entries {
                    self.refuse(key);
                    let name = if let Kind::Text { text, .. } = &key.kind { text.clone() } else { Box::default() };
                    // A requirement is a rule.
                    if &*name == "require" {
                        self.refuse(value);
                        continue;
                    }
                    keys.push(name);
                    self.fill(value, keys);
                    keys.pop();
                }
            }
            Kind::Null | Kind::Bool(_) | Kind::Text { .. } => {}
        }
    }

    /// A scalar with its values; `None` where one cannot be had, which is reported.
    fn filled(&mut self, text: &str, span: Span, keys: &[Box<str>]) -> Option<Box<str>> {
        let pieces = match pieces(text) {
            Ok(pieces) => pieces,
            Err(Fault { at, message }) => {
                let span = self.within(text, span, at);
                self.problems.report(Problem::error("bad_reference", span, message).cure(SHAPE));
                return None;
            }
        };
        let mut value = Some(String::new());
        let alone = pieces.len() == 1;
        for (piece, at) in pieces {
            let place = self.within(text, span, at.clone());
            let part = match piece {
                Piece::Text(text) => Some(text.to_owned()),
                Piece::Variable { name, default } => self.variable(name, default, place),
                Piece::File(path) => self.file(path, place),
            };
            let refers = !matches!(piece, Piece::Text(_));
            let missing = matches!(&part, Some(part) if part.is_empty() && !matches!(piece, Piece::Variable { default: Some(_), .. }));
            let part = if refers && self.around.stubs && (part.is_none() || missing) {
                self.taken.stubs.push(text.get(at).unwrap_or_default().into());
                Some(stub(keys, value.as_deref().unwrap_or_default(), alone, &piece))
            } else {
                part
            };
            // The policy's id is told to everyone, and tells nothing of a secret.
            let secret = keys.iter().any(|key| key.starts_with("secret") || &**key == "by");
            if refers && !secret && keys.first().is_some_and(|section| !SETTINGS.contains(&&**section)) {
                self.taken.values.push(Secret(part.as_deref().unwrap_or_default().as_bytes().to_vec()));
            }
            value = value.zip(part).map(|(value, part)| value + &part);
        }
        value.map(Into::into)
    }

    fn variable(&mut self, name: &str, default: Option<&str>, span: Span) -> Option<String> {
        let value = (self.around.variable)(name).filter(|value| !value.is_empty());
        let Some(value) = value.or_else(|| default.map(Into::into)) else {
            if !self.around.stubs {
                let message = format!("the environment variable `{name}` is not there, or is empty");
                let cure = format!("set it, or give a default: ${{env:{name}:-default}}");
                self.problems.report(Problem::error("variable_missing", span, message).cure(cure));
            }
            return None;
        };
        self.acceptable(value, span)
    }

    fn file(&mut self, path: &str, span: Span) -> Option<String> {
        let bytes = match (self.around.file)(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if !self.around.stubs {
                    let message = format!("the file of this value cannot be read: {}", error.kind());
                    let cure = "the path is relative to the folder of the policy file";
                    self.problems.report(Problem::error("file_unreadable", span, message).cure(cure));
                }
                return None;
            }
        };
        self.taken.files.push(PathBuf::from(path));
        if bytes.len() > MAX_VALUE_FILE {
            self.problems.report(Problem::error("value_too_long", span, "the file of this value is over 64 KiB"));
            return None;
        }
        let Ok(mut value) = String::from_utf8(bytes) else {
            self.problems.report(Problem::error("not_utf8", span, "the file of this value is not UTF-8"));
            return None;
        };
        if let Some(line) = value.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line).len()) {
            value.truncate(line);
        }
        if value.is_empty() && !self.around.stubs {
            self.problems.report(Problem::error("missing_value", span, "the file of this value is empty"));
            return None;
        }
        self.acceptable(value, span)
    }

    fn acceptable(&mut self, value: String, span: Span) -> Option<String> {
        if value.chars().any(char::is_control) {
            let message = "the value of this reference has a line end or another control character in it";
            self.problems.report(Problem::error("control_character", span, message).cure("one line of text"));
            return None;
        }
        Some(value)
    }

    fn within(&self, text: &str, span: Span, at: Range<usize>) -> Span {
        self.problems.sources().within(&Spanned::new(text.into(), span), &at)
    }
}

fn is_escaped(text: &str, at: usize) -> bool {
    text.get(..at).is_some_and(|before| before.ends_with('$'))
}

/// What a missing value reads as where stubs do: something that can stand there.
fn stub(keys: &[Box<str>], before: &str, alone: bool, piece: &Piece<'_>) -> String {
    let name = match piece {
        Piece::Text(name) => (*name).to_owned(),
        Piece::Variable { name, .. } => format!("env-{name}"),
        Piece::File(path) => format!("file-{path}"),
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let label: String = name.chars().map(plain).take(60).collect();
    let label = label.trim_matches('-');
    if !alone {
        return if before.ends_with(':') { "443".into() } else { label.into() };
    }
    let section = keys.first().map_or("", |key| key);
    match (section, keys.last().map_or("", |key| key)) {
        ("public_url" | "sign_in", _) | ("issuers", "url" | "jwks" | "issuer" | "origins") => {
            format!("https://{label}.stub.invalid")
        }
        ("hosts", _) => format!("{label}.stub.invalid"),
        ("listen", _) => "127.0.0.1:0".into(),
        ("audit", _) => "none".into(),
        ("store", "store" | "url") => format!("rediss://{label}.stub.invalid"),
        ("store", "ca") => format!("file:{label}.pem"),
        ("store", "deadline") => "50ms".into(),
        ("store", "prefix") => "stub:".into(),
        ("gateways", "by") => "192.0.2.1".into(),
        ("gateways", "hops") => "1".into(),
        ("gateways", "client_address" | "from") => "connection".into(),
        ("gateways", "dialect") => "envoy".into(),
        ("gateways", "believes") => "client_address".into(),
        ("issuers", "default") => "true".into(),
        ("issuers", "allow_http" | "id_tokens") | ("gateways", "filtered_headers") => "false".into(),
        ("issuers", "leeway" | "refresh" | "cooldown") => "1m".into(),
        ("issuers", "max_stale" | "max_token_lifetime") => "24h".into(),
        ("issuers", "missing") => "unknown".into(),
        ("issuers", "algorithms") => "ES256".into(),
        ("issuers", "from") => "bearer".into(),
        _ => format!("stub-{label}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::{File, SecretPlace, parse_all};
    use super::*;

    /// A secret that no message may show.
    const CANARY: &str = "hunter2-hunter2";

    fn around<'s>(stubs: bool) -> Surroundings<'s> {
        Surroundings {
            file: &|path| match path {
                "host" => Ok(b"id.example.com\n".to_vec()),
                "crlf" => Ok(b"id.example.com\r\n".to_vec()),
                "two lines" => Ok(format!("{CANARY}\n\n").into_bytes()),
                "empty" => Ok(b"\n".to_vec()),
                "latin" => Ok(b"hunter2-hunter2\xff".to_vec()),
                "large" => Ok(vec![b'h'; MAX_VALUE_FILE + 1]),
                _ => Err(io::ErrorKind::NotFound.into()),
            },
            variable: &|name| match name {
                "HOST" => Some("id.example.com".into()),
                "CANARY" => Some(CANARY.into()),
                "YAML" => Some("a: b, c: [d]\" # }".into()),
                "LINES" => Some(format!("{CANARY}\nX: y")),
                "EMPTY" => Some(String::new()),
                "TRUE" => Some("true".into()),
                _ => None,
            },
            stubs,
            lints: true,
            ..Surroundings::NONE
        }
    }

    fn read(text: &str) -> (File, Problems) {
        let text = format!("{text}\nroutes: {{/a: role:x}}\n");
        let (file, problems) = parse_all("policy.yaml", &text, &around(false));
        (file.unwrap(), problems)
    }

    fn url(value: &str) -> String {
        let (file, problems) = read(&format!("public_url: {value}"));
        assert_eq!(problems.to_string(), "", "{value}");
        file.public_url.unwrap().value.into()
    }

    fn found(text: &str) -> Vec<(u32, u32, &'static str)> {
        let (_, problems) = read(text);
        assert!(!problems.to_string().contains(CANARY), "{problems}");
        assert!(!problems.render(false).contains(CANARY), "{problems}");
        assert!(!format!("{problems:?}").contains(CANARY), "{problems}");
        problems.as_slice().iter().map(|problem| (problem.span.line, problem.span.column, problem.code)).collect()
    }

    #[test]
    fn values_are_put_in_anywhere_in_a_scalar() {
        assert_eq!(url("https://${env:HOST}"), "https://id.example.com");
        assert_eq!(url("'https://${env:HOST}:8443'"), "https://id.example.com:8443");
        assert_eq!(url("https://${env:NONE:-a}.${env:NONE:-b}.${env:EMPTY:-com}"), "https://a.b.com");
        assert_eq!(url("${env:NONE:-https://a.example.com}"), "https://a.example.com");
        assert_eq!(url("https://${file:host}"), "https://id.example.com");
        assert_eq!(url("https://${file:crlf}"), "https://id.example.com");
        let (file, problems) = read("issuers: {m: {url: 'https://a.example.com', id_tokens: \"${env:TRUE}\"}}");
        assert_eq!(problems.as_slice()[0].code, "wrong_shape", "quoted is text");
        assert!(file.taken.files.is_empty());
        let (file, problems) = read("issuers:\n  m:\n    url: https://a.example.com\n    id_tokens: ${env:TRUE}");
        assert_eq!(problems.to_string(), "");
        assert!(file.issuers[0].1.id_tokens);
    }

    #[test]
    fn a_value_injects_no_yaml() {
        let (file, problems) = read("issuers:\n  m:\n    url: https://a.example.com\n    audience: ${env:YAML}");
        assert_eq!(problems.to_string(), "");
        assert_eq!(&*file.issuers[0].1.audience.as_ref().unwrap().any_of[0].value, "a: b, c: [d]\" # }");
    }

    #[test]
    fn an_escaped_reference_is_text() {
        let audience = |text: &str| {
            let (file, problems) =
                read(&format!("issuers:\n  m:\n    url: https://a.example.com\n    audience: '{text}'"));
            assert_eq!(problems.to_string(), "");
            file.issuers[0].1.audience.as_ref().unwrap().any_of[0].value.to_string()
        };
        assert_eq!(audience("$${env:HOST}"), "${env:HOST}");
        assert_eq!(audience("a$${b}${env:HOST}$$${c"), "a${b}id.example.com$${c");
        assert_eq!(audience("$env {HOST}"), "$env {HOST}");
        let (file, problems) = read("roles: {x: 'claim:a=\"$${y}\"'}");
        assert_eq!(problems.to_string(), "");
        let super::super::file::Rule::Text(rule) = &file.roles[0].1 else { panic!("no text") };
        assert_eq!(&*rule.value, "claim:a=\"${y}\"");
    }

    #[test]
    fn what_cannot_be_had_is_an_error_at_its_place_that_shows_no_value() {
        for (value, column, code) in [
            ("https://${env:NONE}/", 21, "variable_missing"),
            ("https://${env:EMPTY}/", 21, "variable_missing"),
            ("https://${env:LINES}/", 21, "control_character"),
            ("https://a/${env:HOST", 23, "bad_reference"),
            ("https://${vault:x}/", 21, "bad_reference"),
            ("https://${}/", 21, "bad_reference"),
            ("https://${HOST}/", 21, "bad_reference"),
            ("https://${env:}/", 21, "bad_reference"),
            ("https://${env:-x}/", 21, "bad_reference"),
            ("https://${env:A B}/", 21, "bad_reference"),
            ("https://${env:1A}/", 21, "bad_reference"),
            ("https://${file:}/", 21, "bad_reference"),
            ("https://${env:NONE:-${env:HOST}}/", 21, "bad_reference"),
            ("https://${file:none}/", 21, "file_unreadable"),
            ("https://${file:two lines}/", 21, "control_character"),
            ("https://${file:empty}/", 21, "missing_value"),
            ("https://${file:latin}/", 21, "not_utf8"),
            ("https://${file:large}/", 21, "value_too_long"),
        ] {
            assert_eq!(found(&format!("public_url: {value}")), [(1, column, code)], "{value}");
        }
    }

    #[test]
    fn a_value_is_not_told_by_any_later_problem() {
        // S01
        assert_eq!(found("audit: ${env:CANARY}"), [(1, 8, "unknown_value")]);
        let (_, problems) = read("audit: ${env:CANARY}");
        assert_eq!(problems.as_slice()[0].message, "`audit` cannot be `${env:CANARY}`");
        let two = "issuers: {m: {url: 'https://a.example.com', algorithms: ['${env:CANARY}', ES256]}}";
        assert_eq!(found(two)[0].2, "unknown_value");
    }

    #[test]
    fn references_stand_in_the_values_of_some_sections_only() {
        for (text, line, column) in [
            ("roles: {x: 'role:${env:HOST}'}", 1, 18),
            ("guards: {'/${env:HOST}/**': role:x}", 1, 12),
            ("headers: {'X-${env:HOST}': sub}", 1, 14),
            ("headers: {X-A: '${env:HOST}'}", 1, 17),
            ("tests: [['${env:HOST}', GET /a, deny]]", 1, 11),
            ("issuers: {'${env:HOST}': {url: 'https://a.example.com'}}", 1, 12),
            ("issuers: {m: {url: 'https://a.example.com', require: 'role:${env:HOST}'}}", 1, 60),
            ("'${env:HOST}': x", 1, 2),
            ("deny: {x: 'claim:a=${env:HOST'}", 1, 20),
        ] {
            assert!(found(text).contains(&(line, column, "reference_not_here")), "{text}: {:?}", found(text));
        }
        let (_, problems) = read("roles: {x: 'role:${env:HOST}'}");
        assert!(problems.as_slice()[0].cure.as_deref().unwrap().contains("`issuers`, `api_keys`, `hosts`, `gateways`"));
    }

    #[test]
    fn a_secret_is_one_reference_and_nothing_else() {
        let key = |value: &str| {
            let (file, problems) = read(&format!("decision_key: {value}"));
            let codes: Vec<_> = problems.as_slice().iter().map(|problem| problem.code).collect();
            assert!(!problems.to_string().contains(CANARY), "{problems}");
            file.decision_key.map(|key| key.value).ok_or(codes)
        };
        assert_eq!(key("${env:CANARY}"), Ok(SecretPlace::Given(Secret(CANARY.into()))));
        for text in
            ["x${env:CANARY}", "${env:CANARY}${env:CANARY}", "${env:NONE:-0123456789abcdef}", "'$${env:CANARY}'"]
        {
            assert_eq!(key(text), Err(vec!["secret_in_file"]), "{text}");
        }
        assert_eq!(key("${env:NONE}"), Err(vec!["variable_missing"]));
        assert_eq!(format!("{:?}", Secret(CANARY.into())), "Secret(..)");
    }

    #[test]
    fn what_the_policy_is_made_of_is_taken_note_of_and_settings_are_not() {
        let (file, _) = read("public_url: https://${file:host}\nlisten: {admin: '127.0.0.1:${env:NONE:-9001}'}");
        assert_eq!(file.taken.values, [Secret(b"id.example.com".to_vec())]);
        assert_eq!(file.taken.files, [PathBuf::from("host")]);
    }

    #[test]
    fn a_stub_can_stand_where_it_is() {
        let text = "\
issuers:
  main:
    url: ${env:ISSUER}
    audience: ${env:AUDIENCE}
    leeway: ${env:LEEWAY}
    default: ${env:DEFAULT}
    may_grant: any
  other: {jwks: 'https://${env:HOST2}:${env:PORT}/jwks', issuer: '${file:issuer}', may_grant: ['${env:ROLE}']}
gateways: {edge: {by: ['${env:EDGE}']}}
public_url: ${env:PUBLIC}
sign_in: https://${env:LOGIN}/
listen: {grpc: '${env:GRPC}', admin: '127.0.0.1:${env:ADMIN}'}
audit: ${env:AUDIT}
decision_key: ${file:/run/secrets/key}
routes: {/a: role:x}
";
        let (file, problems) = parse_all("policy.yaml", text, &around(true));
        assert_eq!(problems.to_string(), "");
        let file = file.unwrap();
        assert_eq!(file.taken.stubs.len(), 15);
        assert_eq!(&*file.public_url.unwrap().value, "https://env-public.stub.invalid");
        assert!(matches!(file.decision_key.unwrap().value, SecretPlace::Given(Secret(key)) if key.len() == 64));
        let (_, problems) = parse_all("policy.yaml", "public_url: https://${bad}\nroutes: {}\n", &around(true));
        assert_eq!(problems.as_slice()[0].code, "bad_reference", "a stub cures no mistake");
    }
}
