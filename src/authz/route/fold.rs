//! Loose readings of a path: what an upstream reads that ignores case, trailing dots and spaces, or cuts at `?` and `#`.

use std::borrow::Cow;

use super::{MAX_SEGMENTS, Segment};

/// A segment read loosely, after what is left of the path from it on.
pub(super) type Folded<'p> = (&'p str, Cow<'p, str>);

/// One way to read a path loosely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// Case is ignored.
    case: bool,
    /// Parameters, and dots and spaces at the end of a segment, are dropped, and a segment that was nothing else with them.
    trim: bool,
    /// The path ends at its first `?` or `#`.
    cut: bool,
    /// An escaped slash and a backslash, there only where `paths:` lets them pass, separate segments.
    split: bool,
}

/// The readings that may differ for this path, with case ignored or counting in all of them. An upstream may have one
/// habit without the other, so a path that reads harmlessly under both together is still tried under each.
pub(super) fn readings(path: &str, case: bool) -> impl Iterator<Item = Reading> {
    let cuts = path.contains(is_cut);
    let trims = path.split(['/', '?', '#', '\\', '%']).any(|segment| trimmed(segment).len() < segment.len());
    [(false, false), (true, false), (false, true), (true, true)]
        .into_iter()
        .filter(move |(trim, cut)| (trims || !trim) && (cuts || !cut))
        .map(move |(trim, cut)| Reading { case, trim, cut, split: false })
}

/// Whether a path reads otherwise in some reading. May say so of a path outside ASCII that does not.
pub(super) fn may_change(path: &str) -> bool {
    let mut before = b'/';
    let changes = path.bytes().any(|byte| {
        let ends = matches!(before, b'.' | b' ') && byte == b'/';
        before = byte;
        ends || byte.is_ascii_uppercase() || !byte.is_ascii() || matches!(byte, b'?' | b'#' | b';' | b'\\' | b'%')
    });
    changes || matches!(before, b'.' | b' ')
}

/// A segment without regard to case, which is folded both ways, so that `ſ` is `s` and the Kelvin sign is `k`.
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

/// Whether a literal would never be reached, since requests for it read otherwise without a dot or space at the end
/// or cut at a `?` or `#`.
pub(super) fn is_loose(literal: &str) -> bool {
    literal.contains(is_cut) || trimmed(literal).len() < literal.len()
}

/// A segment without its parameters (`;a=b`, there only where `paths:` lets a semicolon pass), and without dots and
/// spaces at its end.
fn trimmed(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim_end_matches(['.', ' '])
}

fn is_cut(c: char) -> bool {
    matches!(c, '?' | '#')
}

/// A path in this reading.
pub(super) fn path(path: &str, reading: Reading) -> Cow<'_, str> {
    if !may_change(path) {
        return Cow::Borrowed(path);
    }
    let mut folded = String::with_capacity(path.len());
    for (_, segment) in segments_of(path, reading) {
        folded.push('/');
        folded.push_str(&segment);
    }
    if folded.is_empty() {
        folded.push('/');
    }
    Cow::Owned(folded)
}

/// All readings of a path without regard to case, each as its segments; those that no pattern is long enough for are
/// left away but for one.
pub(super) fn all(path: &str) -> Vec<Vec<Folded<'_>>> {
    let most = MAX_SEGMENTS.saturating_add(1);
    let splits = path.contains('\\') || path.contains("%2F") || path.contains("%2f");
    let readings = readings(path, true).flat_map(|reading| [reading, Reading { split: true, ..reading }]);
    let readings = readings.filter(|reading| splits || !reading.split);
    readings.map(|reading| segments_of(path, reading).take(most).collect()).collect()
}

/// The segments of a path in this reading, each with what is left of the path from it on; no segment is empty.
fn segments_of(path: &str, reading: Reading) -> impl Iterator<Item = Folded<'_>> {
    let end = if reading.cut { path.find(is_cut) } else { None };
    let mut left = Some(path.get(..end.unwrap_or(path.len())).unwrap_or_default());
    let mut start = 0_usize;
    let segments = std::iter::from_fn(move || {
        let (segment, rest, separator) = separated(left?, reading.split);
        left = rest;
        let from = path.get(start..).unwrap_or_default();
        start = start.saturating_add(segment.len()).saturating_add(separator);
        let segment = if reading.trim { trimmed(segment) } else { segment };
        Some((from, if reading.case { case(segment) } else { Cow::Borrowed(segment) }))
    });
    segments.filter(|(_, folded)| !folded.is_empty())
}

/// The first segment, what follows its separator, and how long that is.
fn separated(left: &str, split: bool) -> (&str, Option<&str>, usize) {
    let plain = left.find(|c| c == '/' || (split && c == '\\')).map(|at| (at, 1));
    let escaped = ["%2F", "%2f"].into_iter().filter(|_| split).filter_map(|slash| Some((left.find(slash)?, 3)));
    match plain.into_iter().chain(escaped).min() {
        Some((at, length)) => (left.get(..at).unwrap_or_default(), left.get(at.saturating_add(length)..), length),
        None => (left, None, 0),
    }
}

/// A pattern's segments without regard to case.
pub(super) fn segments(segments: &[Segment]) -> Vec<Segment> {
    let folded = |segment: &Segment| match segment {
        Segment::Literal(text) => Segment::Literal(case(text).into()),
        Segment::Prefix(text) => Segment::Prefix(case(text).into()),
        Segment::One(_) | Segment::Rest(_) => segment.clone(),
    };
    segments.iter().map(folded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<String> {
        readings(text, true).map(|reading| path(text, reading).into_owned()).collect()
    }

    #[test]
    fn a_path_is_read_without_case_then_also_without_ends_and_without_a_query() {
        assert_eq!(all("/admin"), ["/admin"]);
        assert_eq!(all("/ADMIN/X"), ["/admin/x"]);
        assert_eq!(all("/Admin. /x"), ["/admin. /x", "/admin/x"]);
        assert_eq!(all("/a?b/C"), ["/a?b/c", "/a"]);
        assert_eq!(all("/a./b.#c"), ["/a./b.#c", "/a/b.#c", "/a./b.", "/a/b"]);
        assert_eq!(all("/ /ADMIN"), ["/ /admin", "/admin"]);
        assert_eq!(all("/..."), ["/...", "/"]);
        assert_eq!(all("/?"), ["/?", "/"]);
        assert_eq!(all("/Admin;x=1/Y"), ["/admin;x=1/y", "/admin/y"]);
    }

    #[test]
    fn where_case_counts_only_ends_and_queries_are_read_loosely() {
        let counting = |text| readings(text, false).map(|reading| path(text, reading).into_owned()).collect::<Vec<_>>();
        assert_eq!(counting("/ADMIN"), ["/ADMIN"]);
        assert_eq!(counting("/Admin./x?y"), ["/Admin./x?y", "/Admin/x?y", "/Admin./x", "/Admin/x"]);
    }

    #[test]
    fn what_was_let_pass_in_a_segment_separates_in_some_reading() {
        let split = |text| {
            let readings = super::all(text).into_iter();
            let joined = readings.map(|segments| segments.iter().map(|(_, s)| format!("/{s}")).collect::<String>());
            joined.collect::<Vec<_>>()
        };
        assert_eq!(split("/x%2FAdmin\\y"), ["/x%2fadmin\\y", "/x/admin/y"]);
        assert_eq!(split("/x%2fAdmin. %2Fy"), ["/x%2fadmin. %2fy", "/x/admin. /y", "/x%2fadmin. %2fy", "/x/admin/y"]);
        assert_eq!(
            super::all("/x%2Fa/b")[1],
            [("/x%2Fa/b".get(1..).unwrap(), "x".into()), ("a/b", "a".into()), ("b", "b".into())]
        );
    }

    #[test]
    fn case_is_folded_beyond_ascii_and_twice_is_once() {
        assert_eq!(
            case("\u{17f}\u{212a}\u{df}\u{1e9e}\u{3a3}\u{3c2}"),
            "sksss\u{3c3}\u{3c3}".replace("sksss", "skssss")
        );
        for c in (0..0x2_0000).filter_map(char::from_u32) {
            let text = c.to_string();
            let once = case(&text).into_owned();
            assert_eq!(case(&once), once, "{c:?}");
            assert_eq!(case(&text.to_uppercase()), case(&text.to_lowercase()), "{c:?}");
        }
    }

    #[test]
    fn what_may_not_change_does_not() {
        for text in ["/", "/a", "/a/b.c/d", "/.a/b", "/a b/c"] {
            assert!(!may_change(text), "{text}");
            assert_eq!(all(text), [text]);
        }
        for text in ["/A", "/a.", "/a./b", "/a ", "/a?", "/a#/b", "/a\\b", "/a%2Fb", "/\u{e9}"] {
            assert!(may_change(text), "{text}");
        }
    }
}
