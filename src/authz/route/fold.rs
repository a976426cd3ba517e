//! The loose reading of a path: what an upstream reads that ignores case, trailing dots and spaces, or cuts at `?` and `#`.

use std::borrow::Cow;

use super::{MAX_SEGMENTS, Segment};

/// A segment in lower case; case is folded both ways, so that `ſ` is `s` and the Kelvin sign is `k`.
pub(super) fn case(text: &str) -> Cow<'_, str> {
    if !text.is_ascii() {
        let lower = text.chars().flat_map(char::to_lowercase);
        return Cow::Owned(lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect());
    }
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(text.to_ascii_lowercase());
    }
    Cow::Borrowed(text)
}

fn trimmed(text: &str) -> &str {
    text.trim_end_matches(['.', ' '])
}

fn is_cut(c: char) -> bool {
    matches!(c, '?' | '#')
}

/// A path read loosely; borrowed where it reads the same.
pub(super) fn path(path: &str) -> Cow<'_, str> {
    if !may_change(path) {
        return Cow::Borrowed(path);
    }
    let mut folded = String::with_capacity(path.len());
    for (_, segment) in segments_of(path) {
        folded.push('/');
        folded.push_str(&segment);
    }
    if folded == path.strip_suffix('/').unwrap_or(path) {
        return Cow::Borrowed(path);
    }
    if folded.is_empty() {
        folded.push('/');
    }
    Cow::Owned(folded)
}

/// The segments of a path as they read loosely, each with what is left of the path from it on; those that read as
/// nothing are left out.
pub(super) fn segments_of(path: &str) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    let end = path.find(is_cut).unwrap_or(path.len());
    let mut start = 0_usize;
    let segments = path.get(..end).unwrap_or_default().split('/');
    let segments = segments.map(move |segment| {
        let left = path.get(start..).unwrap_or_default();
        start = start.saturating_add(segment.len()).saturating_add(1);
        (left, case(trimmed(segment)))
    });
    segments.filter(|(_, folded)| !folded.is_empty())
}

fn may_change(path: &str) -> bool {
    let mut before = b'/';
    let changes = path.bytes().any(|byte| {
        let ends = matches!(before, b'.' | b' ') && byte == b'/';
        before = byte;
        ends || byte.is_ascii_uppercase() || !byte.is_ascii() || matches!(byte, b'?' | b'#')
    });
    changes || matches!(before, b'.' | b' ')
}

/// A pattern's segments, its literals read loosely.
pub(super) fn segments(segments: &[Segment]) -> Vec<Segment> {
    let mut folded = Vec::with_capacity(segments.len().min(MAX_SEGMENTS));
    for segment in segments {
        match segment {
            Segment::Literal(text) | Segment::Prefix(text) if text.contains(is_cut) => {
                let left = text.split(is_cut).next().unwrap_or_default();
                folded.extend(literal(left));
                return folded;
            }
            Segment::Literal(text) => folded.extend(literal(text)),
            Segment::Prefix(text) => folded.push(Segment::Prefix(case(text).into())),
            Segment::One(_) | Segment::Rest(_) => folded.push(segment.clone()),
        }
    }
    folded
}

fn literal(text: &str) -> Option<Segment> {
    let folded = case(trimmed(text));
    (!folded.is_empty()).then(|| Segment::Literal(folded.into()))
}
