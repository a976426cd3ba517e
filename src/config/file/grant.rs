//! `grants:` roles that single principals are given until a time.

use crate::authz::time::Timestamp;
use crate::config::error::{Problem, Span, Spanned, Text};
use crate::config::shape::{Fields, Reader, Section};
use crate::config::tree::Node;

pub(super) const GRANT: Section =
    Section { name: "a grant", accepted: &["principal", "role", "until", "ticket"], later: &[], never: &[] };

/// The longest ticket, in bytes: it is in every line of the audit trail that the grant had a part in.
const MAX_TICKET: usize = 128;

/// A role that a principal is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Where it was written.
    pub span: Span,
    /// An issuer's name in this file, `/`, and the subject with the issuer's `subject_prefix`.
    pub principal: Text,
    /// The role.
    pub role: Text,
    /// From when on it is given no more.
    pub until: Spanned<Timestamp>,
    /// Where it is written why.
    pub ticket: Option<Text>,
}

pub(super) fn grants(reader: &mut Reader, top: &Fields<'_>) -> Vec<Grant> {
    let Some(node) = top.get("grants") else { return Vec::new() };
    let items = reader.list(node, "`grants`").unwrap_or_default();
    let read: Vec<Grant> = items.iter().filter_map(|item| grant(reader, item)).collect();
    if read.len() < items.len() {
        reader.lose("grants");
    }
    read
}

fn grant(reader: &mut Reader, node: &Node) -> Option<Grant> {
    let fields = reader.fields(node, GRANT)?;
    for key in ["principal", "role", "until"] {
        if !fields.has(key) {
            reader.missing(node.span, format!("a grant needs `{key}`"));
        }
    }
    let mut text = |key: &str| fields.get(key).and_then(|node| reader.text(node, &fields.name(key)));
    let (principal, role, ticket) = (text("principal"), text("role"), text("ticket"));
    let until = fields.get("until").and_then(|node| {
        let time = reader.time(node, "`until` of a grant")?;
        Some(Spanned::new(time, node.span))
    });
    if let Some(ticket) = ticket.as_ref().filter(|ticket| ticket.value.len() > MAX_TICKET) {
        let message = format!("`ticket` of a grant is longer than {MAX_TICKET} bytes");
        reader.report(Problem::error("value_too_long", ticket.span, message).cure("the number of a ticket: OPS-1"));
    }
    Some(Grant { span: node.span, principal: principal?, role: role?, until: until?, ticket })
}

#[cfg(test)]
mod tests {
    use crate::config::file::parse;

    #[test]
    fn a_grant_says_who_what_and_until_when_to_the_second() {
        let found = |grant: &str| {
            let (_, problems) = parse("p.yaml", &format!("routes: {{/a: public}}\ngrants: [{grant}]\n"));
            let places = |p: &crate::config::Problem| (p.span.line, p.span.column, p.code);
            problems.as_slice().iter().map(places).collect::<Vec<_>>()
        };
        assert_eq!(found("{principal: main/u, role: a, until: 2026-12-01T00:00:00Z}"), []);
        for (grant, column, code) in [
            ("{role: a, until: 2026-12-01T00:00:00Z}", 10, "missing_key"),
            ("{principal: main/u, until: 2026-12-01T00:00:00Z}", 10, "missing_key"),
            ("{principal: main/u, role: a}", 10, "missing_key"),
            ("{principal: main/u, role: a, until: 2026-12-01}", 46, "bad_time"),
            ("{principal: main/u, role: a, until: tomorrow}", 46, "bad_time"),
            ("{principal: main/u, role: a, until: 2026-12-01T00:00:00+01:00}", 46, "bad_time"),
            ("{principal: main/u, roles: [a], until: 2026-12-01T00:00:00Z}", 30, "unknown_key"),
            ("main/u", 10, "wrong_shape"),
        ] {
            assert!(found(grant).contains(&(2, column, code)), "{grant}: {:?}", found(grant));
        }
        let long = format!("{{principal: m/u, role: a, until: 2026-12-01T00:00:00Z, ticket: {}}}", "x".repeat(129));
        assert_eq!(found(&long)[0].2, "value_too_long");
    }
}
