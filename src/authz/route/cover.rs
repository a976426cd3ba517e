//! Which patterns cover a request, all of them: for guards, which no spelling of a path may dodge.

use super::fold::{self, Reading};
use super::{Captures, Pattern, Segment, Slot, Slots, body, cut};

/// Patterns of which every one that covers a request counts.
#[derive(Clone, Debug, Default)]
pub struct Cover(Vec<Covering>);

#[derive(Clone, Debug)]
struct Covering {
    index: usize,
    pattern: Pattern,
    /// The path's segments, read loosely.
    loose: Vec<Segment>,
    /// Whether that differs.
    folds: bool,
    slots: Slots,
}

impl Cover {
    /// Makes a cover of patterns, each with the number that it is reported by.
    #[must_use]
    pub fn build(patterns: Vec<(usize, Pattern)>) -> Self {
        let covering = |(index, pattern): (usize, Pattern)| {
            let loose = fold::segments(&pattern.segments);
            let folds = *loose != *pattern.segments;
            Covering { index, loose, folds, slots: Slots::of(&pattern), pattern }
        };
        Self(patterns.into_iter().map(covering).collect())
    }

    /// Calls back for every pattern that covers the request, as it stands or read loosely; HEAD is covered where GET
    /// is. Captured values are as the path has them.
    pub fn for_each(&self, host: &str, method: &str, path: &str, mut covered: impl FnMut(usize, &Captures<'_>)) {
        for covering in &self.0 {
            let Pattern { methods, host: hosts, segments } = &covering.pattern;
            let here = methods.as_ref().is_none_or(|methods| methods.covers(method))
                && hosts.as_ref().is_none_or(|hosts| hosts.matches(host));
            if !here {
                continue;
            }
            if body(path).is_some_and(|body| matches(segments, body)) {
                covered(covering.index, &covering.slots.read(host, path));
            } else if let Some(reading) = covering.loosely(path) {
                covered(covering.index, &covering.slots.read_loosely(host, path, reading));
            }
        }
    }
}

impl Covering {
    /// The first loose reading of the path that the pattern matches.
    fn loosely(&self, path: &str) -> Option<Reading> {
        if !self.folds && !fold::may_change(path) {
            return None;
        }
        fold::readings(path).find(|reading| matches_loosely(&self.loose, path, *reading))
    }
}

fn matches(segments: &[Segment], body: &str) -> bool {
    let mut left = Some(body);
    for segment in segments {
        if matches!(segment, Segment::Rest(_)) {
            return true;
        }
        let Some((first, rest)) = cut(left) else { return false };
        if !segment.fits(first) {
            return false;
        }
        left = rest;
    }
    cut(left).is_none()
}

fn matches_loosely(segments: &[Segment], path: &str, reading: Reading) -> bool {
    let mut left = fold::segments_of(path, reading);
    for segment in segments {
        if matches!(segment, Segment::Rest(_)) {
            return true;
        }
        if !left.next().is_some_and(|(_, folded)| segment.fits(&folded)) {
            return false;
        }
    }
    left.next().is_none()
}

impl Segment {
    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => **literal == *text,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::One(_) => !text.is_empty(),
            Self::Rest(_) => true,
        }
    }
}

impl Slots {
    /// Reads the values, as the path has them, where this reading of it puts them.
    fn read_loosely<'r>(&'r self, host: &'r str, path: &'r str, reading: Reading) -> Captures<'r> {
        let left = |at: usize| fold::segments_of(path, reading).nth(at).map_or("", |(left, _)| left);
        let values = self.slots.iter().map(|slot| match slot {
            Slot::Host => host.split('.').next().unwrap_or_default(),
            Slot::Segment(at) => left(*at).split('/').next().unwrap_or_default(),
            Slot::Rest(at) => left(*at).strip_suffix('/').unwrap_or(left(*at)),
        });
        Captures::new(&self.names, values)
    }
}
