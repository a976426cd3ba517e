//! Which patterns cover a request, all of them: for guards, which no spelling of a path may dodge.

use super::fold::{self, Folded};
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
        // Made once for all patterns, and only for a path that needs it: callers choose how long paths are.
        let mut changes = None;
        let mut readings = None;
        for covering in &self.0 {
            let Pattern { methods, host: hosts, segments } = &covering.pattern;
            let here = methods.as_ref().is_none_or(|methods| methods.covers(method))
                && hosts.as_ref().is_none_or(|hosts| hosts.matches(host));
            if !here {
                continue;
            }
            if body(path).is_some_and(|body| matches(segments, body)) {
                covered(covering.index, &covering.slots.read(host, path));
            } else if covering.folds || *changes.get_or_insert_with(|| fold::may_change(path)) {
                let readings = readings.get_or_insert_with(|| fold::all(path));
                if let Some(reading) = readings.iter().find(|reading| matches_loosely(&covering.loose, reading)) {
                    covered(covering.index, &covering.slots.read_loosely(host, reading));
                }
            }
        }
    }
}

impl Pattern {
    /// Whether it covers a request exactly as it stands; HEAD is covered where GET is.
    #[must_use]
    pub fn covers(&self, host: &str, method: &str, path: &str) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.covers(method))
            && self.host.as_ref().is_none_or(|hosts| hosts.matches(host))
            && body(path).is_some_and(|body| matches(&self.segments, body))
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

fn matches_loosely(segments: &[Segment], reading: &[Folded<'_>]) -> bool {
    let mut left = reading.iter();
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
    /// Reads the values, as the path has them, where this reading of it puts them.
    fn read_loosely<'r>(&'r self, host: &'r str, reading: &[Folded<'r>]) -> Captures<'r> {
        let left = |at: usize| reading.get(at).map_or("", |(left, _)| left);
        let values = self.slots.iter().map(|slot| match slot {
            Slot::Host => host.split('.').next().unwrap_or_default(),
            Slot::Segment(at) => left(*at).split('/').next().unwrap_or_default(),
            Slot::Rest(at) => left(*at).strip_suffix('/').unwrap_or(left(*at)),
        });
        Captures::new(&self.names, values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Found, RouteId, Table};
    use super::*;

    fn cover(keys: &[&str]) -> Cover {
        Cover::build(keys.iter().map(|key| Pattern::parse(key).unwrap()).enumerate().collect())
    }

    /// Which keys cover a request, each with its captures.
    fn covering(keys: &[&str], request: &str) -> Vec<String> {
        let (method, rest) = request.split_once(' ').unwrap();
        let (host, path) = rest.split_at(rest.find('/').unwrap());
        let mut found = vec![];
        cover(keys).for_each(host, method, path, |index, captures| {
            let captures: String = captures.iter().map(|(name, value)| format!(" {name}={value}")).collect();
            found.push(format!("{}{captures}", keys[index]));
        });
        found
    }

    #[test]
    fn every_pattern_that_covers_a_request_counts() {
        let keys =
            ["/**", "/admin/**", "/admin/{x}", "a.com/admin/x", "{t}.com/**", "b.com/**", "POST /**", "/admin/x*"];
        let all = ["/**", "/admin/**", "/admin/{x} x=x", "a.com/admin/x", "{t}.com/** t=a", "/admin/x*"];
        assert_eq!(covering(&keys, "GET a.com/admin/x"), all);
        assert_eq!(covering(&keys, "GET a.com/admin/x/"), all);
        assert_eq!(covering(&keys, "PUT c.net/"), ["/**"]);
    }

    #[test]
    fn head_is_covered_where_get_is() {
        assert_eq!(covering(&["GET /a", "HEAD /a", "POST /a"], "HEAD a.com/a"), ["GET /a", "HEAD /a"]);
        assert_eq!(covering(&["GET /a", "HEAD /a", "POST /a"], "GET a.com/a"), ["GET /a"]);
    }

    // N03
    #[test]
    fn a_variant_does_not_dodge_a_guard() {
        for path in
            ["/ADMIN/x", "/admin./x", "/Admin /x/y", "/admin?x", "/ADMIN#", "/ /admin", "/admin. ?/..", "/adm\u{130}n"]
        {
            let expected = usize::from(path.is_ascii());
            assert_eq!(covering(&["/admin/**"], &format!("GET a.com{path}")).len(), expected, "{path}");
        }
        assert_eq!(covering(&["/kiss/**"], "GET a.com/\u{212a}i\u{17f}\u{17f}"), ["/kiss/**"]);
        assert_eq!(covering(&["/Admin/**"], "GET a.com/admin"), ["/Admin/**"]);
        assert_eq!(covering(&["/{x}/Admin"], "GET a.com/a?b/ADMIN"), ["/{x}/Admin x=a?b"]);
        assert_eq!(covering(&["/svc/Get*"], "GET a.com/SVC/getX"), ["/svc/Get*"]);
    }

    #[test]
    fn captured_values_are_as_the_path_has_them() {
        assert_eq!(covering(&["/t/{t}/{r**}"], "GET a.com/T/Acme./X/y/"), ["/t/{t}/{r**} t=Acme. r=X/y"]);
        assert_eq!(covering(&["/t/{t}/{r**}"], "GET a.com/t/Acme"), ["/t/{t}/{r**} t=Acme r="]);
        assert_eq!(covering(&["/t/{t}"], "GET a.com/ /t/Acme?q"), ["/t/{t} t=Acme?q"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn what_a_route_matches_its_guard_covers_in_any_spelling(
            key in "(GET |POST )?(\\*\\.com)?(/(a|Ab|\\*|\\{x\\})){0,2}(/\\*\\*|/a\\*|/\\{r\\*\\*\\})?/?",
            path in "(/(a|Ab|b|ab)){0,3}/?",
            method in "GET|HEAD|POST",
            ends in prop::collection::vec("|\\.| |\\. |%", 4),
        ) {
            prop_assume!(path.starts_with('/'));
            if let Ok(pattern) = Pattern::parse(&key) {
                let table = Table::build([(RouteId(0), pattern.clone())]).unwrap();
                let cover = Cover::build(vec![(7, pattern)]);
                if let Found::Route(_, expected) = table.find("x.com", &method, &path) {
                    let expected: Vec<_> = expected.iter().collect();
                    let mut count = vec![];
                    cover.for_each("x.com", &method, &path, |index, captures| {
                        assert_eq!((index, captures.iter().collect::<Vec<_>>()), (7, expected.clone()));
                        count.push(index);
                    });
                    prop_assert_eq!(count.len(), 1);
                    let mut ends = ends.iter().map(|end| end.replace('%', "")).cycle();
                    let spelled: Vec<_> = path.to_uppercase().split('/').map(|s| if s.is_empty() { String::new() } else { format!("{s}{}", ends.next().unwrap()) }).collect();
                    for spelled in [spelled.join("/"), format!("{}?/x", spelled.join("/"))] {
                        cover.for_each("x.com", &method, &spelled, |index, _| count.push(index));
                    }
                    prop_assert_eq!(count.len(), 3);
                }
            }
        }
    }
}
