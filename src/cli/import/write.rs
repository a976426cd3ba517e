//! A foreign policy, read, as a policy file.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::area::{Cell, Host, Segment, closed};
use super::formula::{Atoms, Formula, Said, everywhere};

/// How many kinds of requests are told apart.
const MOST: usize = 2_000;

/// Something that did not map, or not exactly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Note {
    /// Where it stands in the foreign policy.
    pub place: String,
    /// Why, and what became of it.
    pub why: String,
}

/// A foreign policy, read.
#[derive(Debug)]
pub(super) struct Read {
    /// Each with its name, and its lines as YAML.
    pub issuers: Vec<(String, Vec<String>)>,
    /// Headers and what they tell.
    pub headers: Vec<(String, String)>,
    /// What lets a request pass.
    pub permits: Formula,
    /// Where the caller's address is found, where a word asks for it.
    pub address: Option<&'static str>,
    /// Whether an issuer was left out, whose tokens must not pass for nobody's.
    pub left_out: bool,
    /// What did not map.
    pub notes: Vec<Note>,
}

/// A key and its rule.
type Line = (String, String);

/// The text of the policy file; fills in what more did not map.
///
/// # Errors
/// Where it tells more kinds of requests apart than can be told.
pub(super) fn policy(read: &mut Read, source: &str) -> Result<String, String> {
    let (routes, guards) = lines(read)?;
    read.notes.sort();
    read.notes.dedup();
    let mut text = format!("# Made by `portcullis import` of {}. Read it before you rely on it.\n", one_line(source));
    // Writing to a text does not fail.
    for note in &read.notes {
        let _ = writeln!(text, "# {}: {}", one_line(&note.place), one_line(&note.why));
    }
    let needs_nobody = read.issuers.is_empty() && routes.iter().any(|(_, rule)| rule != "public");
    if needs_nobody {
        text.push_str("issuers:\n  nobody:                            # there is no issuer, so nobody is signed in\n    jwks: https://nobody.invalid/jwks\n    issuer: nobody\n    audience: nobody\n");
    }
    if !read.issuers.is_empty() {
        text.push_str("issuers:\n");
    }
    for (name, lines) in &read.issuers {
        let _ = writeln!(text, "  {name}:");
        for line in lines {
            let _ = writeln!(text, "    {line}");
        }
        if read.issuers.len() > 1 {
            text.push_str("    default: true\n    may_grant: []\n");
        }
    }
    if let Some(from) = read.address {
        let _ = writeln!(
            text,
            "gateways:\n  edge:\n    by: unix                           # say here how your gateway asks\n    believes: [client_address]\n    client_address: {{from: {from}}}"
        );
    }
    section(&mut text, "headers", &read.headers);
    section(&mut text, "guards", &guards);
    if routes.is_empty() {
        text.push_str("routes: {}\n")
    } else {
        section(&mut text, "routes", &routes)
    }
    Ok(text)
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn section(text: &mut String, name: &str, lines: &[Line]) {
    if !lines.is_empty() {
        let _ = writeln!(text, "{name}:");
        for (key, value) in lines {
            let _ = writeln!(text, "  {}: {}", quoted(key), quoted(value));
        }
    }
}

/// A text as YAML: quoted, unless it cannot be anything else.
pub(super) fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '('))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || " /.,_-()=:*?".contains(c))
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !matches!(text, "true" | "false" | "null");
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

fn cells(formula: &Formula) -> Option<Vec<Cell>> {
    let mut atoms = Atoms::default();
    formula.atoms(&mut atoms);
    atoms.hosts.insert(Host::Any);
    atoms.paths.insert(everywhere());
    let paths = closed(atoms.paths, MOST)?;
    let mut methods: Vec<Option<String>> = atoms.methods.iter().cloned().map(Some).collect();
    if atoms.methods.contains("GET") && !atoms.methods.contains("HEAD") {
        // A route for GET would answer HEAD as well.
        methods.push(Some("HEAD".into()));
    }
    methods.push(None);
    let count = paths.len().checked_mul(atoms.hosts.len())?.checked_mul(methods.len())?;
    let cell = |host: &Host, path: &[Segment], method: &Option<String>| Cell {
        host: host.clone(),
        path: path.to_vec(),
        method: method.clone(),
    };
    let all: Vec<Cell> = atoms
        .hosts
        .iter()
        .flat_map(|host| {
            paths.iter().flat_map(|path| methods.iter().map(|method| cell(host, path, method))).collect::<Vec<_>>()
        })
        .collect();
    (count <= MOST).then(|| all.iter().filter(|cell| !is_empty(cell, &all)).cloned().collect())
}

/// The one of these that answers what this cell stands for.
fn winner<'c>(asked: &Cell, of: impl Iterator<Item = &'c (Cell, Said)>) -> Option<&'c (Cell, Said)> {
    of.filter(|(cell, _)| cell.answers(asked)).max_by_key(|(cell, _)| cell.rank(asked))
}

/// Whether others answer all that it is for: its own path, and those one and two segments longer.
fn is_empty(cell: &Cell, all: &[Cell]) -> bool {
    let Some((Segment::Rest, above)) = cell.path.split_last() else { return false };
    let longer = [&[][..], &[Segment::One], &[Segment::One, Segment::One]];
    let taken = |more: &[Segment]| {
        let asked = Cell { path: [above, more].concat(), ..cell.clone() };
        let best = all.iter().filter(|other| other.answers(&asked)).max_by_key(|other| other.rank(&asked));
        best.is_some_and(|best| best != cell)
    };
    longer.into_iter().all(taken)
}

fn lines(read: &mut Read) -> Result<(Vec<Line>, Vec<Line>), String> {
    let Some(cells) = cells(&read.permits) else {
        return Err(format!("this tells more than {MOST} kinds of requests apart"));
    };
    let all: Vec<(Cell, Said)> = cells.into_iter().map(|cell| (cell.clone(), read.permits.read(&cell, true))).collect();
    let mut kept = all.clone();
    // A route is of use only where its requests would find another rule without it; the most specific go first.
    let mut order: Vec<Cell> = all.iter().map(|(cell, _)| cell.clone()).collect();
    order.sort_by_key(|cell| std::cmp::Reverse(cell.rank(cell)));
    for cell in order {
        let same = |(asked, said): &(Cell, Said)| {
            let found = winner(asked, kept.iter().filter(|(other, _)| *other != cell));
            found.map_or(*said == Said::Known(false), |(_, found)| found == said)
        };
        if all.iter().filter(|(asked, _)| cell.answers(asked)).all(same) {
            kept.retain(|(other, _)| *other != cell);
        }
    }
    let (mut routes, mut guards) = (Vec::new(), Vec::new());
    for (cell, said) in &kept {
        let open = if read.issuers.is_empty() && !read.left_out { "public" } else { "anyone" };
        let rule = match said {
            Said::Known(true) => open.to_owned(),
            said if said.admits_anonymous() && stands_alone(cell, said, &all) => {
                guards.push((cell.clone(), said.rule()));
                open.to_owned()
            }
            said => {
                if said.admits_anonymous() {
                    let why = format!("`{}` holds for callers too who are not signed in; they are denied", said.rule());
                    read.notes.push(Note { place: cell.key(&[]), why });
                }
                said.rule()
            }
        };
        routes.push((cell.clone(), rule));
    }
    Ok((grouped(routes), grouped(guards)))
}

/// Whether a guard over this cell denies nobody in the cells below it who may pass there.
fn stands_alone(cell: &Cell, said: &Said, all: &[(Cell, Said)]) -> bool {
    all.iter().filter(|(other, _)| cell.answers(other)).all(|(_, other)| other == said || *other == Said::Known(false))
}

/// Methods of one host and path with the same rule share a line.
fn grouped(lines: Vec<(Cell, String)>) -> Vec<Line> {
    let mut grouped: Vec<Line> = Vec::new();
    let places: BTreeSet<(Host, Vec<Segment>, String)> =
        lines.iter().map(|(cell, rule)| (cell.host.clone(), cell.path.clone(), rule.clone())).collect();
    for (host, path, rule) in places {
        let here = lines.iter().filter(|(cell, other)| cell.host == host && cell.path == path && *other == rule);
        let methods: Vec<Option<&str>> = here.map(|(cell, _)| cell.method.as_deref()).collect();
        let cell = Cell { host, path, method: None };
        let named: Vec<&str> = methods.iter().copied().flatten().collect();
        if !named.is_empty() {
            grouped.push((cell.key(&named), rule.clone()));
        }
        if methods.contains(&None) {
            grouped.push((cell.key(&[]), rule));
        }
    }
    grouped
}
