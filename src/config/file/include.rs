//! `include:` the files of teams: routes, roles and tests, each within what the policy file gives them.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::config::error::{Problem, Span, Spanned, Text, nearest};
use crate::config::reference::{Found, Surroundings, Unlisted};
use crate::config::shape::{Fields, Reader, Section, brief};
use crate::config::source::FileId;
use crate::config::tree::{Kind, Node, decode};

use super::{File, ROUTE, Rule, TOP, known_issuer, long_form, named, routes, row, rule};

pub(super) const INCLUDE: Section =
    Section { name: "an include", accepted: &["files", "at", "may", "issuers", "as"], later: &[], never: &[] };
const TEAM: Section =
    Section { name: "an included file", accepted: &["routes", "roles", "tests"], later: &[], never: &[] };
/// What a route of an included file may always say: each of these only narrows who may pass.
const ALWAYS: &[&str] = &["allow", "deny", "when", "issuers", "audience", "max_age", "acr"];
/// What it may say where its include says so.
pub const MAY: &[&str] =
    &["public", "anyone", "headers", "response_headers", "query", "credential", "cors", "sign_in", "mint", "cache"];
/// How many files a policy may include.
const MAX_FILES: usize = 1_000;
/// The longest name of a namespace or of a role in it, in bytes.
const MAX_NAME: usize = 64;

/// What the policy file gives to some files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// Where it was written.
    pub span: Span,
    /// The patterns that their routes must lie within.
    pub at: Vec<Text>,
    /// What their routes may say beyond what narrows.
    pub may: Vec<Spanned<&'static str>>,
    /// The issuers that their routes may name beside the defaults.
    pub issuers: Vec<Text>,
}

/// An included file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Team {
    /// Its [`Include`], by its place.
    pub include: usize,
    /// What goes before the names of its roles.
    pub namespace: Box<str>,
}

/// What is known of the files that were included so far.
#[derive(Default)]
struct Seen {
    files: HashMap<PathBuf, Span>,
    /// By namespace: the include, and whether all its files share it.
    namespaces: HashMap<Box<str>, (usize, bool, Span)>,
    folders: Vec<PathBuf>,
}

/// Reads all includes, and all files that they name, into the policy.
pub(super) fn included(
    reader: &mut Reader,
    top: &Fields<'_>,
    file: &mut File,
    issuers: &[&str],
    around: &Surroundings<'_>,
) {
    root_roles(reader, file);
    let Some(items) = top.get("include").and_then(|node| reader.list(node, "`include`")) else { return };
    let mut seen = Seen::default();
    for node in items {
        let Some(fields) = reader.fields(node, INCLUDE) else { continue };
        for key in ["files", "at"] {
            if !fields.has(key) {
                reader.missing(node.span, format!("an include needs `{key}`"));
            }
        }
        let mut texts =
            |key: &str| fields.get(key).map(|node| reader.texts(node, &fields.name(key))).unwrap_or_default();
        let (patterns, at, may, named) = (texts("files"), texts("at"), texts("may"), texts("issuers"));
        named.iter().for_each(|name| known_issuer(reader, name, issuers));
        let shared = fields.get("as").and_then(|node| reader.text(node, "`as` of an include"));
        let shared = shared.filter(|name| is_named(reader, name));
        let include = file.includes.len();
        let may = may.into_iter().filter_map(|word| permission(reader, &word)).collect();
        file.includes.push(Include { span: node.span, at, may, issuers: named });
        for pattern in &patterns {
            for found in listed(reader, pattern, around, &mut seen) {
                let Some(namespace) = namespace(reader, pattern, &found, shared.as_ref(), include, &mut seen) else {
                    continue;
                };
                team(reader, file, (&found, pattern.span), issuers, around, Team { include, namespace });
            }
        }
    }
    file.taken.files.extend(seen.folders);
}

/// What is before a `/` in the name of a role is a team.
fn root_roles(reader: &mut Reader, file: &File) {
    for (name, _) in &file.roles {
        if name.value.contains('/') {
            let message =
                format!("`{}`: what is before `/` in the name of a role names an included file", brief(&name.value));
            let problem = Problem::error("bad_role_name", name.span, message);
            reader.report(problem.cure("another name, or define it in the file that it is named after"));
        }
    }
}

fn permission(reader: &mut Reader, word: &Text) -> Option<Spanned<&'static str>> {
    let known = MAY.iter().find(|may| **may == &*word.value);
    if known.is_none() {
        reader.no_such_choice(word, "`may` of an include", MAY);
    }
    known.map(|known| Spanned::new(*known, word.span))
}

/// The files that a pattern names, in order, each of them once in the whole policy.
fn listed(reader: &mut Reader, pattern: &Text, around: &Surroundings<'_>, seen: &mut Seen) -> Vec<Found> {
    let path = &*pattern.value;
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let strays = path.starts_with('/') || path.split('/').any(|part| matches!(part, "" | "." | ".."));
    if strays || folder.contains('*') || name.contains("**") {
        let message = "files to include are named from the policy's folder down, `*` in the name of the file only";
        reader.report(Problem::error("bad_path", pattern.span, message).cure("teams/payments/*.yaml"));
        return Vec::new();
    }
    seen.folders.push(PathBuf::from(if folder.is_empty() { "." } else { folder }));
    let listed = match (around.list)(path) {
        Ok(listed) => listed,
        Err(unlisted) => {
            reader.report(refused(&unlisted, pattern.span));
            return Vec::new();
        }
    };
    if listed.is_empty() {
        let problem = Problem::error("no_files", pattern.span, "there is no such file");
        reader.report(
            problem.cure("the path is relative to the folder of the policy; remove the include, if no file is meant"),
        );
    }
    let mut fresh = Vec::with_capacity(listed.len());
    for found in listed {
        if seen.files.len() >= MAX_FILES {
            let problem = Problem::error("too_many", pattern.span, "a policy includes at most 1,000 files");
            reader.report(problem);
            break;
        }
        if let Some(first) = seen.files.get(&found.place) {
            let message = format!("`{}` is included twice", found.path);
            reader.report(Problem::error("included_twice", pattern.span, message).related(*first, "first here"));
            continue;
        }
        seen.files.insert(found.place.clone(), pattern.span);
        fresh.push(found);
    }
    fresh
}

fn refused(unlisted: &Unlisted, span: Span) -> Problem {
    match unlisted {
        Unlisted::Unreadable(kind) => {
            let message = format!("the folder of these files cannot be read: {kind}");
            Problem::error("file_unreadable", span, message).cure("the path is relative to the folder of the policy")
        }
        Unlisted::Outside(file) => {
            let message = format!("`{file}` is a link that leads out of the policy's folder");
            Problem::error("outside_folder", span, message).cure("put the file itself there")
        }
        Unlisted::Policy(file) => {
            let message = format!("`{file}` is the policy itself, or is laid over it");
            Problem::error("included_twice", span, message).cure("keep the files of teams in folders of their own")
        }
    }
}

/// What goes before the roles of a file: what its include says, or its name without its ending.
fn namespace(
    reader: &mut Reader,
    pattern: &Text,
    found: &Found,
    shared: Option<&Text>,
    include: usize,
    seen: &mut Seen,
) -> Option<Box<str>> {
    let file = found.path.rsplit('/').next().unwrap_or_default();
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let name = match shared {
        Some(name) => name.clone(),
        None => Spanned::new(stem.into(), pattern.span),
    };
    if shared.is_none() && !is_named(reader, &name) {
        return None;
    }
    let known = seen.namespaces.entry(name.value.clone()).or_insert((include, shared.is_some(), Span::default()));
    let (first, all_share, place) = *known;
    if place == Span::default() {
        known.2 = name.span;
    } else if first != include || !all_share || shared.is_none() {
        let message = format!("the roles of two files would both begin with `{}/`", name.value);
        let problem = Problem::error("namespace_clash", name.span, message).related(place, "first here");
        reader.report(problem.cure("`as: name` at one of the includes, or another name for the file"));
        return None;
    }
    Some(name.value)
}

/// Whether a text can name a namespace or a role in it; it may end up beside others in one header.
fn is_named(reader: &mut Reader, name: &Text) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = name.value.len() <= MAX_NAME
        && name.value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.value.chars().all(plain);
    if !fits {
        let message = format!("`{}` cannot name the roles of an included file", brief(&name.value));
        let cure = "a letter or digit, then letters, digits, `.`, `_` and `-`, 64 at most; `as: name` at the include names them all";
        reader.report(Problem::error("bad_role_name", name.span, message).cure(cure));
    }
    fits
}

fn team(
    reader: &mut Reader,
    file: &mut File,
    (found, pattern): (&Found, Span),
    issuers: &[&str],
    around: &Surroundings<'_>,
    team: Team,
) {
    let bytes = match (around.file)(&found.path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let message = format!("`{}` cannot be read: {}", found.path, error.kind());
            reader.report(Problem::error("file_unreadable", pattern, message));
            return;
        }
    };
    file.taken.files.push(PathBuf::from(&found.path));
    let text = match decode(&bytes) {
        Ok(text) => text,
        Err(mut problem) => {
            problem.span.file = reader.add_source(&found.name, "").unwrap_or_default();
            reader.report(*problem);
            return;
        }
    };
    let Some((id, mut root)) = reader.tree(&found.name, text) else {
        file.lost.extend(TEAM.accepted);
        return;
    };
    let may = file.includes.get(team.include).map(|include| include.may.clone()).unwrap_or_default();
    let (namespace, include) = (team.namespace.clone(), file.includes.get(team.include).map(|include| include.span));
    file.teams.insert(id, team);
    foreign(reader, &mut root);
    let Some(fields) = reader.fields(&root, TEAM) else { return };
    for (name, rule) in named(reader, &fields, "roles", |reader, _, node| rule(reader, node)) {
        if is_named(reader, &name) {
            define(reader, file, name.map(|name| format!("{namespace}/{name}").into()), rule);
        }
    }
    file.tests.extend(row::rows(reader, &fields, issuers));
    long_forms(reader, &fields, &may, include.unwrap_or_default());
    for route in routes(reader, &fields, issuers) {
        let word = if let Rule::Text(text) = &route.rule { text.value.trim() } else { "" };
        if matches!(word, "public" | "anyone") && !may.iter().any(|may| may.value == word) {
            reader.report(unpermitted(word, route.rule.span(), include.unwrap_or_default()));
        }
        file.routes.push(route);
    }
    file.lost.extend(reader.lost());
}

/// Takes out, and reports, the sections that only the policy file may hold.
fn foreign(reader: &mut Reader, root: &mut Node) {
    let Kind::Map(entries) = &mut root.kind else { return };
    entries.retain(|(key, _)| {
        let Kind::Text { text: name, .. } = &key.kind else { return true };
        let known = TOP.accepted.contains(&&**name) || TOP.later.contains(&&**name);
        let is_foreign = known && !TEAM.accepted.contains(&&**name);
        if is_foreign {
            let message = format!("`{name}` cannot stand in an included file");
            let cure =
                format!("only the policy file may hold `{name}`; an included file holds `routes`, `roles` and `tests`");
            reader.report(Problem::error("not_in_included_file", key.span, message).cure(cure));
        }
        !is_foreign
    });
}

fn define(reader: &mut Reader, file: &mut File, name: Text, rule: Rule) {
    if let Some((first, _)) = file.roles.iter().find(|(earlier, _)| earlier.value == name.value) {
        let message = format!("the role `{}` is defined twice", name.value);
        let problem = Problem::error("role_clash", name.span, message).related(first.span, "first here");
        reader.report(problem.cure("keep one of the two"));
        return;
    }
    file.roles.push((name, rule));
}

/// Every key of a route's long form takes something from others unless it is known not to.
fn long_forms(reader: &mut Reader, fields: &Fields<'_>, may: &[Spanned<&'static str>], include: Span) {
    let Some(Kind::Map(routes)) = fields.get("routes").map(|node| &node.kind) else { return };
    for (_, value) in routes {
        let Some(Kind::Map(keys)) = long_form(value).map(|node| &node.kind) else { continue };
        for (key, _) in keys {
            let Kind::Text { text: name, .. } = &key.kind else { continue };
            let free = ALWAYS.contains(&&**name) || !ROUTE.accepted.contains(&&**name);
            if !free && !may.iter().any(|may| *may.value == **name) {
                reader.report(unpermitted(name, key.span, include));
            }
        }
    }
}

fn unpermitted(word: &str, span: Span, include: Span) -> Problem {
    let message = format!("`{word}` is more than this file may say");
    let problem = Problem::error("not_permitted", span, message).related(include, "its include");
    match nearest(word, MAY.iter().copied()).filter(|known| *known == word) {
        Some(word) => problem.cure(format!("`may: [{word}]` at the include, if it is meant to")),
        None => problem.cure("remove it: no include can permit it"),
    }
}

impl File {
    /// The team that a place belongs to.
    #[must_use]
    pub fn team(&self, file: FileId) -> Option<(&Team, &Include)> {
        let team = self.teams.get(&file)?;
        Some((team, self.includes.get(team.include)?))
    }
}
