//! One policy in several environments: what it comes to in each, and what differs.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::Path;

use crate::config::{Compiled, Effective, KeySource, Problem, Problems, Span, dotenv};

/// The variables of a file.
pub(super) fn variables(path: &Path) -> Result<HashMap<String, String>, Problems> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let mut problems = Problems::of(&name, "");
        let message = format!("the file cannot be read as text: {}", error.kind());
        problems.report(Problem::error("file_unreadable", Span::START, message));
        problems
    })?;
    let (variables, problems) = dotenv::parse(&name, &text);
    if problems.has_errors() { Err(problems) } else { Ok(variables) }
}

/// What a policy comes to: a name for each part, and what it says. Secrets are no part of it.
fn table(compiled: &Compiled) -> BTreeMap<(u8, String), String> {
    let policy = &compiled.policy;
    let mut parts = BTreeMap::new();
    for issuer in &policy.issuers {
        let mut says = format!("iss {}, audience {}", issuer.tokens.issuer, issuer.tokens.audience.any_of.join(", "));
        for feed in compiled.feeds.iter().filter(|feed| feed.issuer.name == issuer.name) {
            let (KeySource::Discovery(url) | KeySource::Jwks(url) | KeySource::Pem(url)) = &feed.from;
            let _ = write!(says, ", keys from {url}");
        }
        parts.insert((0, format!("issuer {}", issuer.name)), says);
    }
    for (name, hosts) in policy.hosts.iter() {
        parts.insert((1, format!("hosts {name}")), hosts.join(", "));
    }
    if let Some(url) = &compiled.settings.public_url {
        parts.insert((2, "public_url".into()), url.to_string());
    }
    let effective = Effective::of(compiled);
    for row in &effective.rows {
        parts.insert((3, format!("route {}", row.key)), effective.summary(row));
    }
    for forbid in &effective.forbids {
        parts.insert((4, format!("deny {}", forbid.name)), forbid.rule.to_string());
    }
    for guard in &effective.guards {
        parts.insert((5, format!("guard {}", guard.name)), guard.rule.to_string());
    }
    parts
}

/// What is not the same in all of them: each part, and what it says in each environment.
pub(super) fn difference(environments: &[(String, Compiled)]) -> String {
    let tables: Vec<_> = environments.iter().map(|(name, compiled)| (name, table(compiled))).collect();
    let width = environments.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let mut all: Vec<_> = tables.iter().flat_map(|(_, table)| table.keys()).collect();
    all.sort_unstable();
    all.dedup();
    let mut told = String::new();
    for part in all {
        let says: Vec<_> = tables.iter().map(|(name, table)| (name, table.get(part))).collect();
        if says.windows(2).all(|pair| matches!(pair, [(_, one), (_, two)] if one == two)) {
            continue;
        }
        // Writing to a text does not fail.
        let _ = writeln!(told, "{}", part.1);
        for (name, says) in says {
            let _ = writeln!(told, "  {name:width$}  {}", says.map_or("is not there", |says| says));
        }
    }
    if told.is_empty() { "the effective tables are the same\n".into() } else { format!("what differs:\n{told}") }
}
