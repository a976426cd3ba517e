//! `api_keys:` where keys are shown, what they begin with, and where their hashes are.

use std::path::PathBuf;

use super::issuer::{Credential, credentials};
use crate::authz::api_keys::format::Prefix;
use crate::config::api_keys::{Fault, Written, plain, shows_key, written};
use crate::config::error::{Problem, Span, Spanned};
use crate::config::shape::{Fields, Reader, Section};
use crate::config::tree::{Kind, Node};

pub(super) const API_KEYS: Section = Section {
    name: "`api_keys`",
    accepted: &["file", "keys", "from", "prefix", "default"],
    later: &[],
    never: &[("secret", "only hashes of keys are kept: `portcullis key new` prints one")],
};

/// The keys of an entry, as [`Written`] has them.
pub(super) const ENTRY: &[&str] =
    &["id", "owner", "hash", "not_before", "expires", "roles", "groups", "scopes", "routes", "disabled"];

/// The header of keys where the file does not say.
const HEADER: &str = "x-api-key";

/// The keys of applications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeys {
    /// Where the section's own map stands.
    pub span: Span,
    /// The file that lists them.
    pub file: Option<Spanned<PathBuf>>,
    /// Those that the policy lists itself.
    pub keys: Vec<Spanned<Written>>,
    /// Where they are looked for.
    pub from: Vec<Spanned<Credential>>,
    /// What each of them begins with.
    pub prefix: Prefix,
    /// Whether routes take them that name no issuers.
    pub default: bool,
}

pub(super) fn api_keys(reader: &mut Reader, top: &Fields<'_>) -> Option<ApiKeys> {
    let node = top.get("api_keys")?;
    let read = fields(reader, node);
    if read.is_none() {
        reader.lose("api_keys");
    }
    read
}

fn fields(reader: &mut Reader, node: &Node) -> Option<ApiKeys> {
    let fields = reader.fields(node, API_KEYS)?;
    let prefix = match fields.get("prefix") {
        Some(node) => self::prefix(reader, node),
        None => Some(Prefix::default()),
    };
    let known = prefix.clone().unwrap_or_default();
    let mut clean = true;
    if let Some(node) = fields.get("keys") {
        clean = blanked(reader, node, &known);
    }
    let file = fields.get("file").and_then(|node| {
        let text = reader.text(node, "`file` of `api_keys`")?;
        Some(text.map(|path| PathBuf::from(&*path)))
    });
    let keys = fields.get("keys").filter(|_| clean).map(|node| listed(reader, node));
    match (fields.key("file"), fields.key("keys")) {
        (None, None) => reader.missing(node.span, "`api_keys` needs `file`, or `keys`: where the hashes of keys are"),
        (Some(file), Some(keys)) => {
            let problem = Problem::error("keys_twice", keys, "the hashes are in one place: `file` or `keys`");
            reader.report(problem.related(file, "the other").cure("move them into the file"));
        }
        _ => {}
    }
    let from = match fields.get("from") {
        Some(node) => credentials(reader, node, "`from` of `api_keys`"),
        None => vec![Spanned::new(Credential::Header(HEADER.into()), node.span)],
    };
    for place in &from {
        if matches!(place.value, Credential::Cookie(_) | Credential::Subprotocol(_)) {
            let problem = Problem::error("unknown_value", place.span, "an application shows its key in no such place");
            reader.report(problem.cure("header:x-api-key, query:api_key, or bearer"));
        }
    }
    let default = fields.get("default").and_then(|node| reader.flag(node, &fields.name("default")));
    (clean && !from.is_empty()).then_some(())?;
    let keys = keys.unwrap_or_default();
    Some(ApiKeys { span: node.span, file, keys, from, prefix: prefix?, default: default.unwrap_or(false) })
}

fn prefix(reader: &mut Reader, node: &Node) -> Option<Prefix> {
    let text = reader.text(node, "`prefix` of `api_keys`")?;
    let prefix = Prefix::parse(&text.value);
    if prefix.is_none() {
        let message = "this is not what keys can begin with";
        let problem = Problem::error("bad_prefix", text.span, message);
        reader.report(problem.cure("2 to 32 lower-case letters, digits and `_`, without one at its end: pk_live"));
    }
    prefix
}

fn listed(reader: &mut Reader, node: &Node) -> Vec<Spanned<Written>> {
    let items = reader.list(node, "`keys` of `api_keys`").unwrap_or_default();
    let mut keys = Vec::with_capacity(items.len());
    for item in items {
        match written(item) {
            Ok(key) => keys.push(Spanned::new(key, item.span)),
            Err(fault) => reader.report(problem(fault, item.span)),
        }
    }
    keys
}

/// A fault of an entry as a problem at its place.
pub(in crate::config) fn problem(fault: Fault, span: Span) -> Problem {
    Problem::error(fault.code, span, fault.message).cure(fault.cure)
}

/// Whether no key itself stands here. One that does is reported, and the line is not shown as it is.
fn blanked(reader: &mut Reader, node: &Node, prefix: &Prefix) -> bool {
    match &node.kind {
        Kind::Text { text, .. } if shows_key(text, prefix) => {
            reader.blank(node.span);
            reader.report(problem(plain(), node.span));
            false
        }
        Kind::Text { .. } | Kind::Null | Kind::Bool(_) => true,
        // Each of them is blanked, before any line is shown.
        Kind::List(items) => items.iter().filter(|item| !blanked(reader, item, prefix)).count() == 0,
        Kind::Map(entries) => {
            let bad = |(key, value): &&(Node, Node)| {
                let (key, value) = (blanked(reader, key, prefix), blanked(reader, value, prefix));
                !key || !value
            };
            entries.iter().filter(bad).count() == 0
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::file::parse;

    const HASH: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn found(api_keys: &str) -> Vec<(u32, &'static str)> {
        let text = format!("api_keys: {api_keys}\nroutes: {{/a: role:x}}\n");
        let (_, problems) = parse("portcullis.yaml", &text);
        problems.as_slice().iter().map(|problem| (problem.span.line, problem.code)).collect()
    }

    #[test]
    fn keys_are_in_a_file_or_in_the_policy_and_shown_in_headers_and_queries() {
        for good in [
            "{file: keys.yaml}",
            "{file: keys.yaml, from: [bearer, 'header:X-Key', 'query:api_key'], prefix: acme, default: true}",
            &format!("{{keys: [{{owner: a, hash: '{HASH}'}}]}}"),
        ] {
            assert_eq!(found(good), [], "{good}");
        }
        for (bad, code) in [
            ("{}", "missing_key"),
            ("keys.yaml", "wrong_shape"),
            ("{file: keys.yaml, keys: []}", "keys_twice"),
            ("{keys: []}", "missing_value"),
            ("{file: keys.yaml, from: cookie:key}", "unknown_value"),
            ("{file: keys.yaml, from: 'subprotocol:key.'}", "unknown_value"),
            ("{file: keys.yaml, prefix: PK}", "bad_prefix"),
            ("{file: keys.yaml, secret: x}", "refused_key"),
            ("{file: keys.yaml, default: 'yes'}", "wrong_shape"),
            ("{keys: [{owner: a}]}", "bad_api_key"),
        ] {
            assert_eq!(found(bad)[0], (1, code), "{bad}");
        }
    }

    #[test] // A02
    fn a_key_in_the_policy_is_refused_and_no_line_of_it_is_shown() {
        let key = "pk_live_0000000000000000000000000000000000000000000000000";
        let text = format!(
            "api_keys: {{keys: [{{owner: a, hash: {key}}}, {{owner: b, hash: '{HASH}', id: {key}}}]}}\nroutes: {{/a: role:x}}"
        );
        let (file, problems) = parse("portcullis.yaml", &text);
        assert!(file.unwrap().api_keys.is_none());
        let codes: Vec<_> = problems.as_slice().iter().map(|problem| problem.code).collect();
        assert_eq!(codes, ["key_in_file", "key_in_file"]);
        let shown = problems.render(false);
        assert!(shown.contains("owner: a, hash: ****") && !shown.contains("pk_live_0"), "{shown}");
    }
}
