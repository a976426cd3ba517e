//! A filled issuer as YAML that loads to the same issuer.

use crate::config::error::Span;
use crate::config::reference::Fillings;
use crate::config::tree::{Kind, Node};

/// How deep the keys of an issuer stand in a policy file.
const INDENT: usize = 4;

/// The keys of an issuer, a line each or more. What came from outside of the policy is shown as the reference to it.
pub(super) fn issuer(entries: &[(&'static str, Span, Node)], fillings: &Fillings) -> String {
    let line =
        |(key, _, value): &(&'static str, Span, Node)| format!("{:INDENT$}{key}: {}\n", "", flow(value, fillings));
    entries.iter().map(line).collect()
}

/// A value on one line.
fn flow(node: &Node, fillings: &Fillings) -> String {
    match &node.kind {
        Kind::Null => "null".into(),
        Kind::Bool(value) => value.to_string(),
        Kind::Text { text, .. } => scalar(&fillings.written(text, node.span)),
        Kind::List(items) => {
            let items: Vec<String> = items.iter().map(|item| flow(item, fillings)).collect();
            format!("[{}]", items.join(", "))
        }
        Kind::Map(entries) => {
            let entries =
                entries.iter().map(|(key, value)| format!("{}: {}", flow(key, fillings), flow(value, fillings)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// A text without quotes where it cannot be read as anything else, and otherwise with.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '=' | '@' | '+');
    let fits = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(plain)
        && !text.ends_with(':')
        && !["true", "false", "null", "yes", "no", "on", "off"].iter().any(|word| text.eq_ignore_ascii_case(word));
    if fits { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}
