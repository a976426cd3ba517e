//! `lints:` the warnings that somebody has looked at and accepted, each for one line of the policy.

use crate::config::error::{Problem, Span, nearest};
use crate::config::file::File;

/// What stands where in a file: names of entries and of sections, in the order of their places.
type Anchors<'f> = Vec<(Span, &'f str)>;

/// The accepted warnings of a file, and which of them were there.
pub(in crate::config) struct Silence<'f> {
    anchors: Anchors<'f>,
    entries: Vec<Entry<'f>>,
}

struct Entry<'f> {
    code: &'f str,
    name: &'f str,
    span: Span,
    used: bool,
}

/// The names of all entries and sections, by their places.
fn anchors(file: &File) -> Anchors<'_> {
    let mut anchors: Anchors<'_> = file.sections.iter().map(|(name, span)| (*span, *name)).collect();
    anchors.extend(file.routes.iter().map(|route| (route.key.span, &*route.key.value)));
    let rules = file.guards.iter().chain(&file.deny).chain(&file.roles).map(|(name, _)| name);
    let names =
        rules.chain(file.issuers.iter().map(|(name, _)| name)).chain(file.gateways.iter().map(|(name, _)| name));
    let names = names.chain(file.pdp_clients.iter().map(|(name, _)| name));
    let names = names.chain(file.tells.all().map(|tell| &tell.name));
    anchors.extend(names.map(|name| (name.span, &*name.value)));
    anchors.sort_unstable();
    anchors
}

impl<'f> Silence<'f> {
    /// The entries of `lints:`.
    pub fn new(file: &'f File) -> Self {
        let entries = file.lints.iter().flat_map(|(code, names)| {
            let entry = |name: &'f crate::config::error::Text| Entry {
                code: &code.value,
                name: &name.value,
                span: name.span,
                used: false,
            };
            names.iter().map(entry)
        });
        let entries: Vec<Entry<'f>> = entries.collect();
        let anchors = if entries.is_empty() { Vec::new() } else { anchors(file) };
        Self { anchors, entries }
    }

    /// Whether a warning is accepted where it stands.
    pub fn accepts(&mut self, problem: &Problem) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        let before = self.anchors.partition_point(|(span, _)| *span <= problem.span);
        let Some((_, name)) = before.checked_sub(1).and_then(|at| self.anchors.get(at)) else { return false };
        let entry = self.entries.iter_mut().find(|entry| entry.code == problem.code && entry.name == *name);
        entry.map(|entry| entry.used = true).is_some()
    }

    /// The entries that no warning came for.
    pub fn unneeded(&self) -> Vec<Problem> {
        let unused = self.entries.iter().filter(|entry| !entry.used);
        let unneeded = unused.map(|entry| {
            let there = self.anchors.iter().any(|(_, name)| *name == entry.name);
            let message = format!("there is no `{}` to accept for `{}`", entry.code, entry.name);
            let problem = Problem::warning("lint_unneeded", entry.span, message);
            match nearest(entry.name, self.anchors.iter().map(|(_, name)| *name)) {
                Some(meant) if !there => problem.cure(format!("did you mean `{meant}`?")),
                _ => problem.cure("remove it; a name is written as at its own line, without its rule"),
            }
        });
        unneeded.collect()
    }
}
