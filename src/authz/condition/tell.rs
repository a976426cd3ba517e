//! A condition taken apart for `explain`: what each part of it came to, and what it read.

use super::bind::Bindings;
use super::check::{Ask, Node, Variable};
use super::eval::Run;
use super::fault::Failure;
use super::syntax::Literal;
use super::value::Value;
use super::{Condition, Scene};

/// The longest value that is shown, in characters.
const MAX_SHOWN: usize = 80;

/// One of the parts that `&&` joins.
#[derive(Clone, Debug, PartialEq)]
pub struct Part<'c> {
    /// As it was written.
    pub text: &'c str,
    /// What it came to.
    pub told: Result<bool, Failure>,
    /// What it read: how that is written, and the value, or why there is none.
    pub read: Vec<(&'c str, String)>,
}

impl Condition {
    /// The parts that must all be true, with what each came to: for people. Not for the hot path.
    #[must_use]
    pub fn tell<'c>(&'c self, scene: &Scene<'_>) -> Vec<Part<'c>> {
        let parts = if let Ask::All(parts) = &self.whole.ask { parts } else { std::slice::from_ref(&self.whole) };
        let run = || Run::new(Bindings::new(scene, self));
        let one = |part: &'c Node| {
            let mut leaves = Vec::new();
            part.leaves(&mut leaves);
            let mut read: Vec<(&'c str, String)> = Vec::new();
            for leaf in leaves {
                let text = self.written(leaf);
                if !read.iter().any(|(earlier, _)| *earlier == text) {
                    let shown = run().value(leaf).map_or_else(|failure| failure.to_string(), |value| brief(&value));
                    read.push((text, shown));
                }
            }
            Part { text: self.written(part), told: run().bool(part), read }
        };
        parts.iter().map(one).collect()
    }

    /// What it reads, as it is written: `claims.level`, `request.method`.
    pub fn leaves(&self) -> impl Iterator<Item = &str> {
        let mut leaves = Vec::new();
        self.whole.leaves(&mut leaves);
        leaves.into_iter().map(|leaf| self.written(leaf))
    }

    fn written(&self, node: &Node) -> &str {
        self.text.get(node.start..node.end).unwrap_or_default()
    }
}

impl Node {
    /// Whether it is a variable, or a member of one by keys that are written.
    fn is_leaf(&self) -> bool {
        match &self.ask {
            Ask::Read(_) => true,
            Ask::Select(of, _) => of.is_leaf(),
            Ask::Index(parts) => parts.0.is_leaf() && matches!(parts.1.ask, Ask::Literal(_)),
            Ask::Literal(_) | Ask::Bound(_) | Ask::List(_) | Ask::Map(_) | Ask::Has(..) | Ask::Not(_) => false,
            Ask::Negate(_) | Ask::Binary(..) | Ask::All(_) | Ask::Any(_) | Ask::Choice(_) => false,
            Ask::Call(..) | Ask::Zoned(..) | Ask::Matches(..) | Ask::Loop(_) => false,
        }
    }

    fn leaves<'n>(&'n self, found: &mut Vec<&'n Self>) {
        if self.is_leaf() {
            found.push(self);
            return;
        }
        let mut each = |nodes: &'n [Self]| nodes.iter().for_each(|node| node.leaves(found));
        match &self.ask {
            Ask::Literal(_) | Ask::Bound(_) | Ask::Read(_) => {}
            // All claims would be shown for one that is asked for.
            Ask::Has(of, _) if matches!(of.ask, Ask::Read(Variable::Claims | Variable::Headers | Variable::Query)) => {}
            Ask::List(nodes) | Ask::All(nodes) | Ask::Any(nodes) | Ask::Call(_, nodes) => each(nodes),
            Ask::Choice(nodes) => each(&**nodes),
            Ask::Map(entries) => {
                entries.iter().flat_map(|(key, value)| [key, value]).for_each(|node| node.leaves(found))
            }
            Ask::Select(of, _) | Ask::Has(of, _) | Ask::Not(of) | Ask::Negate(of) => of.leaves(found),
            Ask::Zoned(_, of, _) | Ask::Matches(of, _) => of.leaves(found),
            Ask::Index(parts) | Ask::Binary(_, parts) => {
                parts.0.leaves(found);
                parts.1.leaves(found);
            }
            Ask::Loop(looped) => {
                looped.over.leaves(found);
                looped.filter.iter().for_each(|filter| filter.leaves(found));
                looped.body.leaves(found);
            }
        }
    }
}

fn brief(value: &Value<'_>) -> String {
    let mut shown = String::new();
    show(value, &mut shown);
    match shown.char_indices().nth(MAX_SHOWN) {
        Some((at, _)) => format!("{}…", shown.get(..at).unwrap_or_default()),
        None => shown,
    }
}

fn show(value: &Value<'_>, to: &mut String) {
    if to.len() > MAX_SHOWN.saturating_mul(4) {
        return;
    }
    match value {
        Value::Type(name) => to.push_str(name),
        Value::List(list) => {
            to.push('[');
            for at in 0..list.len().min(MAX_SHOWN) {
                to.push_str(if at > 0 { ", " } else { "" });
                if let Some(Ok(item)) = list.get(at) {
                    show(&item, to);
                }
            }
            to.push(']');
        }
        Value::Map(map) => {
            to.push('{');
            for (at, key) in map.keys().into_iter().take(MAX_SHOWN).enumerate() {
                to.push_str(if at > 0 { ", " } else { "" });
                show(&key, to);
                to.push_str(": ");
                if let Some(Ok(item)) = map.get(&key) {
                    show(&item, to);
                }
            }
            to.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Text(_) => {
            to.push_str(&scalar(value));
        }
        Value::Bytes(_) | Value::Time(_) | Value::Span(_) => to.push_str(&scalar(value)),
    }
}

fn scalar(value: &Value<'_>) -> String {
    match value.to_literal() {
        None | Some(Literal::Null) => "null".to_owned(),
        Some(Literal::Bool(value)) => value.to_string(),
        Some(Literal::Int(value)) => value.to_string(),
        Some(Literal::Uint(value)) => format!("{value}u"),
        Some(Literal::Double(value)) => format!("{value:?}"),
        Some(Literal::Text(text)) => serde_json::Value::from(&*text).to_string(),
        Some(Literal::Bytes(bytes)) => format!("{} bytes", bytes.len()),
        Some(Literal::Time(nanos)) => super::time::write_time(nanos),
        Some(Literal::Span(nanos)) => super::time::write_span(nanos),
    }
}
