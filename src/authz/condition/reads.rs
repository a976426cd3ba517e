//! Which headers a condition may read: what a gateway must compare before it uses an answer again.

use super::check::{Ask, Loop, Node, Variable};
use super::syntax::{Literal, Operator};

impl Node {
    /// The names of the headers, as they are written; `None` where it may be any.
    pub(super) fn headers_read(&self) -> Option<Vec<&str>> {
        let mut names = Vec::new();
        gather(self, &mut names).then_some(names)
    }
}

fn is_headers(node: &Node) -> bool {
    matches!(node.ask, Ask::Read(Variable::Headers))
}

fn text(node: &Node) -> Option<&str> {
    if let Ask::Literal(Literal::Text(text)) = &node.ask { Some(text) } else { None }
}

/// Notes each header that is named; false where one may be read that is not.
fn gather<'n>(node: &'n Node, names: &mut Vec<&'n str>) -> bool {
    match &node.ask {
        Ask::Literal(_) | Ask::Bound(_) => true,
        Ask::Read(variable) => *variable != Variable::Headers,
        Ask::Select(of, name) | Ask::Has(of, name) if is_headers(of) => {
            names.push(name);
            true
        }
        Ask::Index(parts) if is_headers(&parts.0) => named(&parts.1, names),
        Ask::Binary(Operator::In, sides) if is_headers(&sides.1) => named(&sides.0, names),
        Ask::List(nodes) | Ask::All(nodes) | Ask::Any(nodes) | Ask::Call(_, nodes) => all(nodes, names),
        Ask::Map(entries) => all(entries.iter().flat_map(|(key, value)| [key, value]), names),
        Ask::Select(part, _) | Ask::Has(part, _) | Ask::Not(part) | Ask::Negate(part) => gather(part, names),
        Ask::Zoned(_, part, _) | Ask::Matches(part, _) => gather(part, names),
        Ask::Index(parts) => all([&parts.0, &parts.1], names),
        Ask::Binary(_, sides) => all([&sides.0, &sides.1], names),
        Ask::Choice(parts) => all(&**parts, names),
        Ask::Loop(looped) => {
            let Loop { kind: _, over, filter, body } = &**looped;
            all([over, body].into_iter().chain(filter), names)
        }
    }
}

fn all<'n>(nodes: impl IntoIterator<Item = &'n Node>, names: &mut Vec<&'n str>) -> bool {
    nodes.into_iter().all(|node| gather(node, names))
}

/// Notes the header that a text names; false where it is not written which.
fn named<'n>(node: &'n Node, names: &mut Vec<&'n str>) -> bool {
    text(node).map(|name| names.push(name)).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::{Condition, Place};

    fn read(condition: &str) -> Option<String> {
        let condition = Condition::parse(condition, &Place::default()).unwrap();
        condition.headers_read().map(|names| names.join(" "))
    }

    #[test]
    fn a_condition_says_which_headers_it_may_read() {
        for (condition, names) in [
            ("claims.level > 2", ""),
            ("request.headers['x-a'][0] == 'b'", "x-a"),
            ("'x-a' in request.headers && has(request.headers.accept)", "x-a accept"),
            ("request.headers.accept.exists(a, a == 'b') ? claims.x == 1 : 'x-b' in request.headers", "accept x-b"),
            ("[request.headers['x-a']].exists(a, a.size() > 1)", "x-a"),
            ("request.headers['x-a'][0].matches('^a')", "x-a"),
            ("{'k': request.headers['x-a'][0]}.k == 'b'", "x-a"),
        ] {
            assert_eq!(read(condition).as_deref(), Some(names), "{condition}");
        }
        for any in [
            "request.headers.size() > 3",
            "request.headers.exists(name, name.startsWith('x-'))",
            "request.headers[request.path][0] == 'b'",
            "request.method in request.headers",
            "['x-a'].exists(name, name in request.headers)",
            "claims.x == request.headers",
        ] {
            assert_eq!(read(any), None, "{any}");
        }
    }
}
