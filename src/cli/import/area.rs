//! Areas of requests: which there are in a foreign policy, which lie within which, and where two meet.

use std::collections::BTreeSet;

/// One segment of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Segment {
    /// This text.
    Literal(String),
    /// What begins with this; last only.
    Prefix(String),
    /// Any one.
    One,
    /// All that is left, possibly nothing; last only.
    Rest,
}

/// A path's segments.
pub(super) type Path = Vec<Segment>;

/// Which hosts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Host {
    /// All.
    Any,
    /// Those with one label or more before this.
    Below(String),
    /// This one.
    Exact(String),
}

/// Requests that are told apart from all others: the most specific method, host and path that they have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    pub host: Host,
    pub path: Path,
    /// `None`: none of those that are named.
    pub method: Option<String>,
}

/// Whether one path is a part of another.
pub(super) fn within(inner: &[Segment], outer: &[Segment]) -> bool {
    match (inner.split_first(), outer.split_first()) {
        (_, Some((Segment::Rest, _))) | (None, None) => true,
        (Some((one, inner)), Some((two, outer))) => fits(one, two) && within(inner, outer),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn fits(one: &Segment, two: &Segment) -> bool {
    match (one, two) {
        (Segment::Literal(one), Segment::Literal(two)) => one == two,
        (Segment::Literal(text) | Segment::Prefix(text), Segment::Prefix(prefix)) => text.starts_with(prefix),
        (Segment::Literal(_) | Segment::Prefix(_) | Segment::One, Segment::One) => true,
        _ => false,
    }
}

/// The path, where a route key can tell it: a prefix only as the last segment. Else what tells its own level.
pub(super) fn tellable(path: &[Segment]) -> Path {
    let prefix = path.iter().position(|segment| matches!(segment, Segment::Prefix(_)));
    match prefix.filter(|at| at.saturating_add(1) < path.len()) {
        Some(at) => path.iter().take(at).cloned().chain([Segment::One]).collect(),
        None => path.to_vec(),
    }
}

/// What two paths have in common.
pub(super) fn meet(one: &[Segment], two: &[Segment]) -> Option<Path> {
    match (one.split_first(), two.split_first()) {
        (_, Some((Segment::Rest, _))) => Some(one.to_vec()),
        (Some((Segment::Rest, _)), _) => Some(two.to_vec()),
        (None, None) => Some(Vec::new()),
        (Some((left, one)), Some((right, two))) => {
            let first = if fits(left, right) {
                left
            } else if fits(right, left) {
                right
            } else {
                return None;
            };
            let mut met = vec![first.clone()];
            met.extend(meet(one, two)?);
            Some(met)
        }
        (None, Some(_)) | (Some(_), None) => None,
    }
}

/// These paths and all that they have in common; `None` where those are more than `most`.
pub(super) fn closed(paths: BTreeSet<Path>, most: usize) -> Option<BTreeSet<Path>> {
    let mut all = paths.clone();
    let mut fresh = paths;
    while !fresh.is_empty() {
        let met: BTreeSet<Path> =
            fresh.iter().flat_map(|one| all.iter().filter_map(move |two| meet(one, two))).collect();
        fresh = met.difference(&all).cloned().collect();
        all.extend(fresh.iter().cloned());
        if all.len() > most {
            return None;
        }
    }
    Some(all)
}

impl Host {
    /// Whether all of its hosts are the other's too.
    pub fn is_within(&self, outer: &Self) -> bool {
        match (self, outer) {
            (_, Self::Any) => true,
            (Self::Exact(name), Self::Exact(other)) => name == other,
            (Self::Exact(name), Self::Below(suffix)) => is_below(name, suffix),
            (Self::Below(inner), Self::Below(outer)) => inner == outer || is_below(inner, outer),
            (Self::Any, _) | (Self::Below(_), Self::Exact(_)) => false,
        }
    }
}

fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

impl Cell {
    /// Whether a route of this key answers the requests of that cell, where no other does.
    pub fn answers(&self, other: &Self) -> bool {
        let method = match (&self.method, &other.method) {
            (None, _) => true,
            (Some(one), Some(two)) => one == two || (one == "GET" && two == "HEAD"),
            (Some(_), None) => false,
        };
        method && other.host.is_within(&self.host) && within(&other.path, &self.path)
    }

    /// Which of several routes answers: the greatest.
    pub fn rank(&self, asked: &Self) -> (usize, Vec<(u8, usize)>, u8) {
        let host = match &self.host {
            Host::Any => 0,
            Host::Below(suffix) => suffix.len(),
            Host::Exact(_) => usize::MAX,
        };
        let segment = |segment: &Segment| match segment {
            Segment::Literal(_) => (4, 0),
            Segment::Prefix(text) => (3, text.len()),
            Segment::One => (2, 0),
            Segment::Rest => (1, 0),
        };
        let path = self.path.iter().map(segment).chain([(5, 0)]).collect();
        let method = match &self.method {
            None => 0,
            method if *method == asked.method => 2,
            Some(_) => 1,
        };
        (host, path, method)
    }

    /// The key of its route.
    pub fn key(&self, methods: &[&str]) -> String {
        let methods = if methods.is_empty() { String::new() } else { format!("{} ", methods.join(",")) };
        let host = match &self.host {
            Host::Any => String::new(),
            Host::Below(suffix) => format!("*.{suffix}"),
            Host::Exact(name) => name.clone(),
        };
        format!("{methods}{host}{}", shown(&self.path))
    }
}

/// A path as a route key writes it.
pub(super) fn shown(path: &[Segment]) -> String {
    let escaped = |text: &str| {
        let mut shown = String::new();
        for c in text.chars() {
            if matches!(c, '%' | '*' | '{' | '}' | '?' | '#' | ';' | '\\') || c.is_whitespace() {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| shown.push_str(&format!("%{byte:02X}")));
            } else {
                shown.push(c);
            }
        }
        shown
    };
    let segments: String = path
        .iter()
        .map(|segment| match segment {
            Segment::Literal(text) => format!("/{}", escaped(text)),
            Segment::Prefix(text) => format!("/{}*", escaped(text)),
            Segment::One => "/*".into(),
            Segment::Rest => "/**".into(),
        })
        .collect();
    if segments.is_empty() { "/".into() } else { segments }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        let segment = |text: &str| match text {
            "*" => Segment::One,
            "**" => Segment::Rest,
            text => text.strip_suffix('*').map_or(Segment::Literal(text.into()), |text| Segment::Prefix(text.into())),
        };
        text.split('/').filter(|text| !text.is_empty()).map(segment).collect()
    }

    #[test]
    fn paths_lie_within_each_other_and_meet() {
        for (inner, outer) in [("/a", "/**"), ("/a/b", "/a/**"), ("/a", "/a/**"), ("/a*", "/*"), ("/a/*/**", "/a/**")] {
            assert!(within(&path(inner), &path(outer)), "{inner} {outer}");
            assert!(!within(&path(outer), &path(inner)), "{outer} {inner}");
        }
        let met = |one, two| meet(&path(one), &path(two)).map(|path| shown(&path));
        assert_eq!(met("/*/b", "/a/**").as_deref(), Some("/a/b"));
        assert_eq!(met("/a/*/**", "/a"), None);
        assert_eq!(met("/ab*", "/a*").as_deref(), Some("/ab*"));
        let all = closed([path("/*/b"), path("/a/*")].into(), 10).unwrap();
        assert!(all.contains(&path("/a/b")) && all.len() == 3);
        assert!(closed([path("/*/b"), path("/a/*")].into(), 2).is_none());
    }
}
