//! What a foreign policy asks of a request: a formula over areas and words, read for each cell so that nothing grows more open.

use std::collections::BTreeSet;

use super::area::{Cell, Host, Path, Segment, meet, tellable, within};

/// A formula. What cannot be said here is `Unsayable`: false where it would let pass, true where it would forbid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Formula {
    Known(bool),
    Method(String),
    /// The hosts that it is for at least, and at most.
    Host(Option<Host>, Host),
    /// The paths that it is for at least, and at most.
    Path(Vec<Path>, Vec<Path>),
    /// A rule word.
    Word(String),
    Unsayable,
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

/// A formula with nothing left in it but words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Known(bool),
    Word(String),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

/// What a formula tells apart.
#[derive(Default)]
pub(super) struct Atoms {
    pub methods: BTreeSet<String>,
    pub hosts: BTreeSet<Host>,
    pub paths: BTreeSet<Path>,
}

impl Formula {
    pub fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }

    pub fn atoms(&self, atoms: &mut Atoms) {
        match self {
            Self::Known(_) | Self::Word(_) | Self::Unsayable => {}
            Self::Method(name) => _ = atoms.methods.insert(name.clone()),
            Self::Host(inner, outer) => atoms.hosts.extend(inner.iter().chain([outer]).cloned()),
            Self::Path(inner, outer) => atoms.paths.extend(inner.iter().chain(outer).map(|path| tellable(path))),
            Self::Not(part) => part.atoms(atoms),
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.atoms(atoms)),
        }
    }

    /// What it comes to for the requests of this cell: at most what it means where it `permits`, else at least.
    pub fn read(&self, cell: &Cell, permits: bool) -> Said {
        let all = |parts: &[Self]| parts.iter().map(|part| part.read(cell, permits)).collect();
        match self {
            Self::Known(known) => Said::Known(*known),
            Self::Method(name) => Said::Known(cell.method.as_ref() == Some(name)),
            Self::Host(inner, outer) => {
                let hosts = if permits { inner.as_ref() } else { Some(outer) };
                Said::Known(hosts.is_some_and(|hosts| cell.host.is_within(hosts)))
            }
            Self::Path(inner, outer) => {
                let fits = |path: &Path| match *path == tellable(path) {
                    true => within(&cell.path, path),
                    false => meet(&cell.path, path).is_some(),
                };
                let paths = if permits { inner } else { outer };
                Said::Known(paths.iter().any(fits))
            }
            Self::Word(word) => Said::Word(word.clone()),
            Self::Unsayable => Said::Known(!permits),
            Self::Not(part) => match part.read(cell, !permits) {
                Said::Known(known) => Said::Known(!known),
                Said::Not(part) => *part,
                said => Said::Not(Box::new(said)),
            },
            Self::All(parts) => joined(all(parts), true),
            Self::Any(parts) => joined(all(parts), false),
        }
    }
}

/// `and` (of true without any), or `or`.
fn joined(parts: Vec<Said>, all: bool) -> Said {
    let mut left: Vec<Said> = Vec::new();
    for part in parts {
        let inner = match part {
            Said::Known(known) if known == all => continue,
            Said::Known(known) => return Said::Known(known),
            Said::All(inner) if all => inner,
            Said::Any(inner) if !all => inner,
            part => vec![part],
        };
        for part in inner {
            if !left.contains(&part) {
                left.push(part);
            }
        }
    }
    match left.len() {
        0 => Said::Known(all),
        1 => left.pop().unwrap_or(Said::Known(false)),
        _ if all => Said::All(left),
        _ => Said::Any(left),
    }
}

impl Said {
    /// Whether a caller without an identity could meet it, wherever it calls from.
    pub fn admits_anonymous(&self) -> bool {
        self.holds(&|word| word.starts_with("network:").then_some(true)) != Some(false)
    }

    /// In three values, where no word but those on addresses holds.
    fn holds(&self, network: &dyn Fn(&str) -> Option<bool>) -> Option<bool> {
        match self {
            Self::Known(known) => Some(*known),
            // An address may be in it or not.
            Self::Word(word) if network(word).is_some() => None,
            Self::Word(_) => Some(false),
            Self::Not(part) => part.holds(network).map(|held| !held),
            Self::All(parts) | Self::Any(parts) => {
                let settled = Some(matches!(self, Self::Any(_)));
                let held: Vec<_> = parts.iter().map(|part| part.holds(network)).collect();
                if held.contains(&settled) {
                    settled
                } else if held.contains(&None) {
                    None
                } else {
                    settled.map(|settled| !settled)
                }
            }
        }
    }

    /// As rules are written.
    pub fn rule(&self) -> String {
        let parts = |parts: &[Self], word: &str| parts.iter().map(Self::operand).collect::<Vec<_>>().join(word);
        match self {
            Self::Known(true) => "signed-in or not signed-in".into(),
            Self::Known(false) => NOBODY.into(),
            Self::Word(word) => word.clone(),
            Self::Not(part) => format!("not {}", part.operand()),
            Self::All(all) => parts(all, " and "),
            Self::Any(any) => parts(any, " or "),
        }
    }

    fn operand(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::Not(_) => self.rule(),
            _ => format!("({})", self.rule()),
        }
    }
}

/// A rule that nobody meets.
pub(super) const NOBODY: &str = "signed-in and not signed-in";

/// Everything.
pub(super) fn everywhere() -> Path {
    vec![Segment::Rest]
}
