//! Which patterns cover a request, all of them: for guards, which no spelling of a path may dodge.

use std::borrow::Cow;

use super::{Captures, Pattern, Segment, Slot, Slots, body, cut, fold};

/// Patterns of which every one that covers a request counts.
#[derive(Clone, Debug, Default)]
pub struct Cover(Vec<Covering>);

#[derive(Clone, Debug)]
struct Covering {
    index: usize,
    pattern: Pattern,
    /// The path's segments, read loosely.
    loose: Vec<Segment>,
    slots: Slots,
}

impl Cover {
    /// Makes a cover of patterns, each with the number that it is reported by.
    #[must_use]
    pub fn build(patterns: Vec<(usize, Pattern)>) -> Self {
        let covering = |(index, pattern): (usize, Pattern)| Covering {
            index,
            loose: fold::segments(&pattern.segments),
            slots: Slots::of(&pattern),
            pattern,
        };
        Self(patterns.into_iter().map(covering).collect())
    }

    /// Calls back for every pattern that covers the request, as it stands or read loosely; HEAD is covered where GET
    /// is. Captured values are as the path has them.
    pub fn for_each(&self, host: &str, method: &str, path: &str, mut covered: impl FnMut(usize, &Captures<'_>)) {
        let mut folded = None;
        for covering in &self.0 {
            let Pattern { methods, host: hosts, segments } = &covering.pattern;
            let here = methods.as_ref().is_none_or(|methods| methods.covers(method))
                && hosts.as_ref().is_none_or(|hosts| hosts.matches(host));
            if !here {
                continue;
            }
            if let Some(body) = body(path)
                && matches(segments, body)
            {
                covered(covering.index, &covering.slots.read(host, path));
                continue;
            }
            let folded: &Vec<_> = folded.get_or_insert_with(|| fold::segments_of(path).collect());
            if matches_folded(&covering.loose, folded) {
                covered(covering.index, &covering.slots.read_loosely(host, folded));
            }
        }
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

fn matches_folded(segments: &[Segment], path: &[(&str, Cow<'_, str>)]) -> bool {
    let mut left = path.iter();
    for segment in segments {
        if matches!(segment, Segment::Rest(_)) {
            return true;
        }
        if !left.next().is_some_and(|(_, folded)| segment.fits(folded)) {
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
    /// Reads the values by the segments that a loose reading kept.
    fn read_loosely<'r>(&'r self, host: &'r str, folded: &[(&'r str, Cow<'_, str>)]) -> Captures<'r> {
        let left = |at: usize| folded.get(at).map_or("", |(left, _)| *left);
        let values = self.slots.iter().map(|slot| match slot {
            Slot::Host => host.split('.').next().unwrap_or_default(),
            Slot::Segment(at) => left(*at).split('/').next().unwrap_or_default(),
            Slot::Rest(at) => left(*at).strip_suffix('/').unwrap_or(left(*at)),
        });
        Captures::new(&self.names, values)
    }
}
