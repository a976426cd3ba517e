//! Which route a request reaches, and which guards cover it, as docs/policy.md says.

use std::cmp::Ordering;

use super::decide::Captures;
use super::model::{Host, Key, Policy, Route, Segment};
use super::read::{self, Code, Read, Reading};
use super::seen::note;

pub fn route<'p>(policy: &'p Policy, request: &Read) -> Result<(&'p Route, Captures), Code> {
    let straight = read::straight(&request.path);
    let found = best(policy, request, &straight, false);
    let fold = !policy.paths.contains(&"case_variant");
    for reading in read::loose(&request.path, fold).iter().skip(usize::from(!fold)) {
        let other = best(policy, request, reading, fold).map(|(at, _)| at);
        let same = match (&found, other) {
            (None, None) => true,
            (Some((at, _)), Some(other)) => {
                let shape = |at: usize| shape(&policy.routes[at].key, fold);
                shape(*at) == shape(other)
            }
            _ => false,
        };
        if !same {
            return Err("path_variant");
        }
    }
    match found {
        Some((at, captures)) => Ok((&policy.routes[at], captures)),
        None if policy.routes.iter().any(|route| match_host(&route.key, &request.host).is_some()) => Err("no_route"),
        None => Err("unknown_host"),
    }
}

/// The most specific route that matches.
fn best(policy: &Policy, request: &Read, reading: &Reading, fold: bool) -> Option<(usize, Captures)> {
    let mut best: Option<(usize, Captures)> = None;
    for (at, route) in policy.routes.iter().enumerate() {
        let others = policy.routes.iter().map(|route| &route.key);
        let Some(captures) = matches(&route.key, others, request, reading, fold) else { continue };
        let better =
            best.as_ref().is_none_or(|(other, _)| compare(&route.key, &policy.routes[*other].key) == Ordering::Greater);
        if better {
            best = Some((at, captures));
        }
    }
    best
}

fn matches<'k>(
    key: &Key,
    mut others: impl Iterator<Item = &'k Key>,
    request: &Read,
    reading: &Reading,
    fold: bool,
) -> Option<Captures> {
    let names = |key: &Key, method: &str| key.methods.iter().any(|name| name == method);
    let serves = key.methods.is_empty() || names(key, &request.method) || {
        request.method == "HEAD"
            && names(key, "GET")
            && !others.any(|other| shape(other, false) == shape(key, false) && names(other, "HEAD"))
    };
    if !serves {
        return None;
    }
    let mut captures = match_host(key, &request.host)?;
    match_path(&key.path, reading, fold, &mut captures).then_some(captures)
}

/// A key without the names of its captures and its methods.
fn shape(key: &Key, fold: bool) -> (Option<Host>, Vec<Segment>) {
    let path = key.path.iter().map(|segment| match segment {
        Segment::Capture(_) => Segment::One,
        Segment::CaptureRest(_) => Segment::Rest,
        Segment::Literal(text) if fold => Segment::Literal(read::folded(text)),
        Segment::Prefix(text) if fold => Segment::Prefix(read::folded(text)),
        other => other.clone(),
    });
    let host = key.host.clone().map(|host| match host {
        Host::Capture(_, name) => Host::Capture(String::new(), name),
        other => other,
    });
    (host, path.collect())
}

fn match_host(key: &Key, host: &str) -> Option<Captures> {
    match &key.host {
        None => Some(Captures::new()),
        Some(Host::Name(name)) => (name == host).then(Captures::new),
        Some(Host::Below(name)) => {
            host.strip_suffix(name)?.strip_suffix('.').filter(|before| !before.is_empty()).map(|_| Captures::new())
        }
        Some(Host::Capture(capture, name)) => {
            let label = host.strip_suffix(name)?.strip_suffix('.')?;
            let one = !label.is_empty() && !label.contains('.');
            one.then(|| Captures::from([(capture.clone(), label.to_owned())]))
        }
    }
}

fn match_path(pattern: &[Segment], path: &[(String, String, String)], fold: bool, captures: &mut Captures) -> bool {
    match (pattern.first(), path.first()) {
        (None, None) | (Some(Segment::Rest), _) => true,
        (Some(Segment::CaptureRest(name)), first) => {
            captures.insert(name.clone(), first.map_or_else(String::new, |(.., rest)| rest.clone()));
            true
        }
        (None, Some(_)) | (Some(_), None) => false,
        (Some(segment), Some((read, stands, _))) => {
            let matched = match segment {
                Segment::Literal(literal) if fold => read::folded(literal) == *read,
                Segment::Literal(literal) => literal == read,
                Segment::Prefix(prefix) if fold => read.starts_with(&read::folded(prefix)),
                Segment::Prefix(prefix) => read.starts_with(prefix),
                _ => true,
            };
            if let Segment::Capture(name) = segment {
                captures.insert(name.clone(), stands.clone());
            }
            matched && match_path(&pattern[1..], &path[1..], fold, captures)
        }
    }
}

/// Greater: more specific.
fn compare(one: &Key, two: &Key) -> Ordering {
    let host = |key: &Key| match &key.host {
        None => (0, 0, 0),
        Some(Host::Below(name)) => (1, name.split('.').count(), 0),
        Some(Host::Capture(_, name)) => (1, name.split('.').count(), 1),
        Some(Host::Name(_)) => (2, 0, 0),
    };
    let rank = |key: &Key, at: usize| match key.path.get(at) {
        Some(Segment::Literal(_)) => (4, 0),
        Some(Segment::Prefix(prefix)) => (3, prefix.len()),
        Some(Segment::One | Segment::Capture(_)) => (2, 0),
        None => (1, 0),
        Some(Segment::Rest | Segment::CaptureRest(_)) => (0, 0),
    };
    let order = host(one).cmp(&host(two));
    if order != Ordering::Equal {
        note("specificity: host");
        return order;
    }
    for at in 0..one.path.len().max(two.path.len()) {
        let (one, two) = (rank(one, at), rank(two, at));
        if one != two {
            note(match (one.0.max(two.0), one.0.min(two.0)) {
                (4, _) => "specificity: a literal",
                (3, 3) => "specificity: a longer prefix",
                (3, _) => "specificity: a prefix",
                (2, _) => "specificity: a capture",
                _ => "specificity: an end",
            });
            return one.cmp(&two);
        }
    }
    note("specificity: methods");
    one.methods.is_empty().cmp(&two.methods.is_empty()).reverse()
}

/// The captures of a guard, once for every way in which it covers the request.
pub fn covers(key: &Key, request: &Read) -> Vec<Captures> {
    let straight = read::straight(&request.path);
    let mut all: Vec<Captures> = matches(key, std::iter::empty(), request, &straight, false).into_iter().collect();
    for reading in read::looser(&request.path) {
        all.extend(matches(key, std::iter::empty(), request, &reading, true));
    }
    all.dedup();
    if !all.is_empty() {
        note("a guard covers");
    }
    all
}
