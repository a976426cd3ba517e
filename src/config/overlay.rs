//! A later file over an earlier one: what differs from place to place, and nothing else.

use std::collections::HashMap;

use super::error::{Problem, Problems, Span};
use super::file::TOP;
use super::source::FileId;
use super::tree::{Kind, Node, read};

/// The sections that a later file may set.
pub const LATER: &[&str] = &[
    "issuers",
    "hosts",
    "api_keys",
    "gateways",
    "store",
    "listen",
    "sign_in",
    "public_url",
    "audit",
    "log",
    "decision_key",
    "admin",
    "key_cache",
    "cache",
];

/// A file's tree, with its problems reported; its name and text are taken in.
pub(super) fn tree(name: &str, text: &str, problems: &mut Problems) -> Option<(FileId, Node)> {
    let Some(file) = problems.add_source(name, text) else {
        problems.report(Problem::error("too_many", Span::START, "there are too many files"));
        return None;
    };
    let (tree, found) = read(text);
    let broken = tree.is_none() && !found.is_empty();
    for mut problem in found {
        problem.span.file = file;
        for related in &mut problem.related {
            related.span.file = file;
        }
        problems.report(problem);
    }
    let mut root = tree.filter(|root| root.kind != Kind::Null);
    if root.is_none() && !broken {
        problems.report(Problem::error("empty_file", Span::start_of(file), "the file says nothing"));
    }
    if let Some(root) = &mut root {
        place(root, file);
    }
    root.map(|root| (file, root))
}

fn place(node: &mut Node, file: FileId) {
    node.span.file = file;
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().for_each(|item| place(item, file)),
        Kind::Map(entries) => entries.iter_mut().for_each(|(key, value)| {
            place(key, file);
            place(value, file);
        }),
        Kind::Null | Kind::Bool(_) | Kind::Text { .. } => {}
    }
}

/// Lays a later file over the policy: maps are merged key by key, all else is replaced.
pub(super) fn lay(root: &mut Node, later: Node, problems: &mut Problems) {
    let Kind::Map(sections) = later.kind else {
        let message = format!("the file must be a map, this is {}", later.kind.noun());
        problems.report(Problem::error("wrong_shape", later.span, message));
        return;
    };
    let Kind::Map(entries) = &mut root.kind else { return };
    let mut allowed = Vec::with_capacity(sections.len());
    for (key, value) in sections {
        let name = text(&key);
        if !LATER.contains(&name) && (TOP.accepted.contains(&name) || TOP.later.contains(&name)) {
            let message = format!("a later file cannot set `{name}`: who may do what is the same everywhere");
            let cure = LATER.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let problem = Problem::error("not_in_later_file", key.span, message);
            problems.report(problem.cure(format!("move it to the policy; a later file may set {cure}")));
        } else {
            allowed.push((key, value));
        }
    }
    merge(entries, allowed, problems);
}

fn merge(entries: &mut Vec<(Node, Node)>, later: Vec<(Node, Node)>, problems: &mut Problems) {
    let mut seen: HashMap<Box<str>, Span> = HashMap::new();
    for (key, value) in later {
        let name: Box<str> = text(&key).into();
        if let Some(first) = seen.insert(name.clone(), key.span).filter(|_| !name.is_empty()) {
            let message = format!("`{}` is here twice", super::shape::brief(&name));
            let problem = Problem::error("duplicate_key", key.span, message).cure("keep one of the two");
            problems.report(problem.related(first, "first here"));
            continue;
        }
        match entries.iter_mut().find(|(earlier, _)| !name.is_empty() && text(earlier) == &*name) {
            Some((_, Node { kind: Kind::Map(earlier), .. })) if matches!(value.kind, Kind::Map(_)) => {
                if let Kind::Map(later) = value.kind {
                    merge(earlier, later, problems);
                }
            }
            Some((_, earlier)) => *earlier = value,
            None => entries.push((key, value)),
        }
    }
}

fn text(key: &Node) -> &str {
    if let Kind::Text { text, .. } = &key.kind { text } else { "" }
}

#[cfg(test)]
mod tests {
    use super::super::file::{File, parse_all};
    use super::super::reference::Surroundings;
    use super::*;

    const POLICY: &str = "\
issuers:
  main:
    url: https://id.example.com
    audience: [a, b]
    roles: roles
listen: {grpc: '127.0.0.1:9000', admin: '127.0.0.1:9001'}
routes: {/a: role:x}
";

    fn over(later: &[&str]) -> (Option<File>, Problems) {
        let later: Vec<_> =
            (0..).zip(later).map(|(at, text)| (format!("later{at}.yaml"), (*text).to_owned())).collect();
        parse_all("policy.yaml", POLICY, &Surroundings { later: &later, ..Surroundings::NONE })
    }

    fn found(later: &str) -> Vec<String> {
        let (_, problems) = over(&[later]);
        let told = |p: &Problem| format!("{}:{}:{} {}", p.file, p.span.line, p.span.column, p.code);
        problems.as_slice().iter().map(told).collect()
    }

    #[test]
    fn a_later_file_sets_one_key_and_leaves_the_others() {
        let later =
            "issuers: {main: {url: 'https://id.prod.example.com', audience: [c]}}\nlisten: {admin: '127.0.0.1:1'}\n";
        let (file, problems) = over(&[later, "issuers: {main: {roles: groups}}\nlog: human\n"]);
        assert_eq!(problems.to_string(), "");
        let file = file.unwrap();
        let (_, main) = &file.issuers[0];
        assert_eq!(&*main.issuer.value, "https://id.prod.example.com");
        assert_eq!(main.audience.as_ref().unwrap().any_of.len(), 1, "a list is replaced");
        assert_eq!(&*main.roles.as_ref().unwrap().value, "groups");
        assert_eq!((file.listen.grpc.len(), file.listen.admin.is_some()), (1, true));
        assert_eq!(problems.sources().name(main.roles.as_ref().unwrap().span.file).as_ref(), "later1.yaml");
        assert_eq!(problems.sources().name(file.issuers[0].0.span.file).as_ref(), "policy.yaml");
    }

    #[test]
    fn a_later_file_sets_no_policy() {
        for section in ["routes: {}", "roles: {}", "tests: []", "guards: {}", "deny: {}", "headers: {}", "paths: []"] {
            assert_eq!(found(section), ["later0.yaml:1:1 not_in_later_file"], "{section}");
        }
        assert_eq!(found("rotues: {}"), ["later0.yaml:1:1 unknown_key"]);
        assert_eq!(found("- a"), ["later0.yaml:1:1 wrong_shape"]);
        assert_eq!(found("# nothing"), ["later0.yaml:1:1 empty_file"]);
        assert!(found("a: [")[0].starts_with("later0.yaml:"), "{:?}", found("a: ["));
    }

    #[test]
    fn what_is_wrong_is_shown_in_the_file_that_says_it() {
        assert_eq!(found("issuers: {main: {url: 'http://id.example.com'}}"), ["later0.yaml:1:23 not_https"]);
        assert_eq!(found("log: human\nlog: json"), ["later0.yaml:2:1 duplicate_key"]);
        assert_eq!(found("issuers: {main: {require: }}"), ["later0.yaml:1:18 missing_value"], "nothing removes a key");
        let (_, problems) = over(&["issuers:\n  other:\n    url: https://id.example.com\n    may_grant: any\n"]);
        let twice = problems.as_slice().iter().find(|problem| problem.code == "issuer_twice").unwrap();
        assert_eq!((&*twice.file, &*twice.related[0].file), ("later0.yaml", "policy.yaml"));
    }
}
