//! `revocation:` what is revoked, by a file and by what replicas share.

use std::path::PathBuf;
use std::time::Duration;

use super::issuer::file_path;
use crate::authz::revocation::MAX_IDENTIFIER;
use crate::authz::time::Timestamp;
use crate::config::error::{Problem, Span, Text};
use crate::config::reference::Surroundings;
use crate::config::shape::{Fields, Reader, Section};
use crate::config::tree::{Node, decode};

pub(super) const REVOCATION: Section = Section {
    name: "`revocation`",
    accepted: &["file", "revoked", "store", "unknown", "keep"],
    later: &[],
    never: &[],
};
pub(super) const LIST: Section =
    Section { name: "a file of revocations", accepted: &["revoked"], later: &[], never: &[] };
pub(super) const REVOKED: Section = Section {
    name: "a revocation",
    accepted: &["issuer", "token", "session", "key", "principal", "issued_before", "until", "ticket"],
    later: &[],
    never: &[
        ("jti", "the `jti` of a token is `token`"),
        ("sid", "the `sid` of a session is `session`"),
        ("kid", "the `kid` of a key is `key`"),
        ("sub", "a subject is `principal: issuer/subject`"),
    ],
};

/// How long what was added is remembered where nothing else is said.
const KEEP: Duration = Duration::from_secs(30 * 86_400);
const MOST: Duration = Duration::from_secs(3_650 * 86_400);

/// What the file says of revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whether what replicas share counts: where that is said.
    pub store: Option<Span>,
    /// Whether requests pass while it is not known what is revoked.
    pub fail_open: bool,
    /// How long what is added is remembered, where it does not say itself.
    pub keep: Duration,
    /// What the file of revocations lists.
    pub listed: Vec<Listed>,
}

/// One line of a file of revocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Where it was written.
    pub span: Span,
    /// What is revoked.
    pub what: What,
    /// Only what was issued before.
    pub issued_before: Option<Timestamp>,
    /// When it may be forgotten.
    pub until: Option<Timestamp>,
}

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A token, by its issuer's name and its `jti`.
    Token(Text, Text),
    /// A session, by its issuer's name and `sid`.
    Session(Text, Text),
    /// A key, by its issuer's name and `kid`.
    Key(Text, Text),
    /// A principal: an issuer's name, `/`, and the subject.
    Principal(Text),
    /// An issuer, by its name.
    Issuer(Text),
}

pub(super) fn revocation(
    reader: &mut Reader,
    top: &Fields<'_>,
    around: &Surroundings<'_>,
    read: &mut Vec<PathBuf>,
) -> Option<Revocation> {
    let node = top.get("revocation")?;
    let fields = reader.fields(node, REVOCATION)?;
    let store = fields
        .get("store")
        .and_then(|node| reader.flag(node, "`store` of `revocation`").filter(|on| *on).map(|_| node.span));
    let fail_open = fields
        .get("unknown")
        .and_then(|node| reader.choice(node, "`unknown` of `revocation`", &[("deny", false), ("allow", true)]));
    let keep = fields.get("keep").and_then(|node| reader.duration(node, "`keep` of `revocation`", MOST));
    let mut listed = fields.get("file").map(|node| of_file(reader, node, around, read)).unwrap_or_default();
    listed.extend(fields.get("revoked").map(|node| list(reader, node)).unwrap_or_default());
    if store.is_none() && !["file", "revoked"].iter().any(|key| fields.has(key)) {
        reader.missing(node.span, "`revocation` says neither where revocations are listed, nor that they are shared");
    }
    for (key, needless) in [("unknown", store.is_none()), ("keep", store.is_none())] {
        if let Some(span) = fields.key(key).filter(|_| needless) {
            let problem =
                Problem::error("needless_key", span, format!("`{key}` is about what replicas share, and nothing is"));
            reader.report(problem.cure("`store: true` beside it, or remove it"));
        }
    }
    Some(Revocation {
        store,
        fail_open: fail_open.is_some_and(|choice| choice.value),
        keep: keep.unwrap_or(KEEP),
        listed,
    })
}

fn of_file(reader: &mut Reader, node: &Node, around: &Surroundings<'_>, read: &mut Vec<PathBuf>) -> Vec<Listed> {
    let Some(path) = file_path(reader, node, "`file` of `revocation`") else { return Vec::new() };
    let name = path.value.to_string_lossy().into_owned();
    read.push(path.value);
    let bytes = match (around.file)(&name) {
        Ok(bytes) => bytes,
        Err(error) => {
            let message = format!("`{name}` cannot be read: {}", error.kind());
            reader.report(Problem::error("file_unreadable", path.span, message).cure("an empty list is `revoked: []`"));
            return Vec::new();
        }
    };
    let text = match decode(&bytes) {
        Ok(text) => text,
        Err(mut problem) => {
            problem.span.file = reader.add_source(&name, "").unwrap_or_default();
            reader.report(*problem);
            return Vec::new();
        }
    };
    let Some((_, root)) = reader.tree(&name, text) else { return Vec::new() };
    let Some(fields) = reader.fields(&root, LIST) else { return Vec::new() };
    let Some(node) = fields.get("revoked") else {
        reader.missing(root.span, "a file of revocations needs `revoked`, a list");
        return Vec::new();
    };
    list(reader, node)
}

fn list(reader: &mut Reader, node: &Node) -> Vec<Listed> {
    let items = reader.list(node, "`revoked`").unwrap_or_default();
    items.iter().filter_map(|item| one(reader, item)).collect()
}

fn one(reader: &mut Reader, node: &Node) -> Option<Listed> {
    let fields = reader.fields(node, REVOKED)?;
    let mut text = |key: &str| fields.get(key).and_then(|node| reader.text(node, &fields.name(key)));
    let (issuer, principal) = (text("issuer"), text("principal"));
    let (token, session, key) = (text("token"), text("session"), text("key"));
    text("ticket");
    for long in
        [&token, &session, &key, &principal].into_iter().flatten().filter(|text| text.value.len() > MAX_IDENTIFIER)
    {
        let message = format!("an identifier is at most {MAX_IDENTIFIER} bytes long");
        reader.report(Problem::error("value_too_long", long.span, message));
    }
    let mut time = |key: &str| fields.get(key).and_then(|node| reader.time(node, &fields.name(key)));
    let (issued_before, until) = (time("issued_before"), time("until"));
    let what = match (issuer, token, session, key, principal) {
        (Some(issuer), Some(id), None, None, None) => What::Token(issuer, id),
        (Some(issuer), None, Some(id), None, None) => What::Session(issuer, id),
        (Some(issuer), None, None, Some(id), None) => What::Key(issuer, id),
        (None, None, None, None, Some(principal)) => What::Principal(principal),
        (Some(issuer), None, None, None, None) if fields.has("issued_before") => What::Issuer(issuer),
        _ => {
            let message = "this does not say what is revoked, or says more than one thing";
            let cure = "{issuer, token}, {issuer, session}, {issuer, key}, {principal}, or {issuer, issued_before}";
            reader.report(Problem::error("bad_revocation", node.span, message).cure(cure));
            return None;
        }
    };
    if let (What::Token(..) | What::Session(..) | What::Key(..), Some(span)) = (&what, fields.key("issued_before")) {
        let message = "`issued_before` is of principals and issuers: a token, a session or a key is revoked whole";
        reader.report(Problem::error("needless_key", span, message));
    }
    Some(Listed { span: node.span, what, issued_before, until })
}
