//! Reads of Envoy's configuration as Envoy reads it: a field may be written in snake or in camel case.

use crate::config::error::Span;
use crate::config::tree::{Kind, Node};

/// The keys and values of a map.
pub(super) fn entries(node: &Node) -> &[(Node, Node)] {
    if let Kind::Map(entries) = &node.kind { entries } else { &[] }
}

/// The items of a list.
pub(super) fn items(node: Option<&Node>) -> &[Node] {
    if let Some(Node { kind: Kind::List(items), .. }) = node { items } else { &[] }
}

pub(super) fn text(node: &Node) -> Option<&str> {
    if let Kind::Text { text, .. } = &node.kind { Some(text) } else { None }
}

/// The value of a field, by its name in snake case.
pub(super) fn field<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let named = |key: &Node| text(key).is_some_and(|key| same(key, name));
    entries(node).iter().find(|(key, _)| named(key)).map(|(_, value)| value).filter(|value| value.kind != Kind::Null)
}

/// The value of a field of a field of a field.
pub(super) fn path<'n>(node: &'n Node, names: &[&str]) -> Option<&'n Node> {
    names.iter().try_fold(node, |node, name| field(node, name))
}

/// Where a field's name stands, or else where its map does.
pub(super) fn place(node: &Node, name: &str) -> Span {
    let named = |key: &Node| text(key).is_some_and(|key| same(key, name));
    entries(node).iter().find(|(key, _)| named(key)).map_or(node.span, |(key, _)| key.span)
}

fn same(key: &str, name: &str) -> bool {
    key == name
        || key.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).eq(name.chars().filter(|c| *c != '_'))
}

/// True or false, and where.
pub(super) fn truth(node: &Node) -> Option<(bool, Span)> {
    match &node.kind {
        Kind::Bool(value) => Some((*value, node.span)),
        Kind::Text { text, .. } => Some((&**text == "true", node.span)),
        Kind::Null | Kind::List(_) | Kind::Map(_) => None,
    }
}

/// Whether a field is there and true.
pub(super) fn is_true(node: &Node, name: &str) -> bool {
    field(node, name).and_then(truth).is_some_and(|(value, _)| value)
}

/// A whole number, which JSON may write as a text.
pub(super) fn number(node: &Node, name: &str) -> Option<u64> {
    text(field(node, name)?)?.parse().ok()
}

/// Whether an enumeration has one of these values, each by its name and number.
pub(super) fn is_one_of(node: Option<&Node>, values: &[(&str, &str)]) -> bool {
    let text = node.and_then(text).unwrap_or_default();
    values.iter().any(|(name, number)| text == *name || text == *number)
}

/// A span of time as protobuf writes it in JSON (`0.2s`), in milliseconds.
pub(super) fn milliseconds(node: &Node) -> Option<u64> {
    let (whole, part) = text(node)?.strip_suffix('s').map(|text| text.split_once('.').unwrap_or((text, "")))?;
    let part: String = part.chars().chain("000".chars()).take(3).collect();
    whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(part.parse().ok()?)
}

/// Whether a map has an `@type` of this message.
pub(super) fn names_type(node: &Node, message: &str) -> bool {
    let url = field(node, "@type").and_then(text).unwrap_or_default();
    url.rsplit(['.', '/']).next() == Some(message)
}

/// Calls back for every map.
pub(super) fn every<'n>(node: &'n Node, visit: &mut impl FnMut(&'n Node)) {
    match &node.kind {
        Kind::Map(entries) => {
            visit(node);
            entries.iter().for_each(|(_, value)| every(value, visit));
        }
        Kind::List(items) => items.iter().for_each(|item| every(item, visit)),
        Kind::Null | Kind::Bool(_) | Kind::Text { .. } => {}
    }
}
