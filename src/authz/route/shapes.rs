//! Route keys by their shape: which of them a key may meet or lies within, found without looking at each.

use std::collections::HashMap;

use super::{Host, Pattern, Segment, fold, is_below};

/// Keys arranged by host and path. Each is told by its place in the list that they were made of.
#[derive(Debug)]
pub struct Shapes<'p> {
    patterns: &'p [Pattern],
    exact: HashMap<&'p str, Site>,
    /// By the labels that follow the first.
    one: HashMap<&'p str, Site>,
    /// By the labels that follow the first one or more.
    many: HashMap<&'p str, Site>,
    any: Site,
}

#[derive(Debug, Default)]
struct Site {
    strict: Node,
    /// The same keys without regard to case.
    loose: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, Self>,
    prefixes: Vec<(Box<str>, Vec<usize>)>,
    one: Option<Box<Self>>,
    rest: Vec<usize>,
    end: Vec<usize>,
}

impl<'p> Shapes<'p> {
    /// Arranges keys.
    #[must_use]
    pub fn new(patterns: &'p [Pattern]) -> Self {
        let mut shapes =
            Self { patterns, exact: HashMap::new(), one: HashMap::new(), many: HashMap::new(), any: Site::default() };
        for (at, pattern) in patterns.iter().enumerate() {
            let loose = fold::segments(&pattern.segments);
            for host in pattern.hosts() {
                let site = shapes.site(host);
                site.strict.leaf(&pattern.segments).push(at);
                site.loose.leaf(&loose).push(at);
            }
        }
        shapes
    }

    /// The site of one host or host pattern, made where there is none.
    fn site(&mut self, host: Option<&'p Host>) -> &mut Site {
        match host {
            None | Some(Host::Set { .. }) => &mut self.any,
            Some(Host::Exact(name)) => self.exact.entry(name).or_default(),
            Some(Host::One { suffix, .. }) => self.one.entry(suffix).or_default(),
            Some(Host::Many { suffix }) => self.many.entry(suffix).or_default(),
        }
    }

    /// The keys of which [`Pattern::may_meet`] says that one request could match them and this one, in order.
    #[must_use]
    pub fn meeting(&self, pattern: &Pattern) -> Vec<usize> {
        let segments = fold::segments(&pattern.segments);
        let mut found = Vec::new();
        for site in pattern.hosts().flat_map(|host| self.sites_met(host)) {
            site.loose.meeting(&segments, &mut found);
        }
        found.retain(|at| self.patterns.get(*at).is_some_and(|other| methods_meet(pattern, other)));
        found.sort_unstable();
        // A key of several hosts is at each of them.
        found.dedup();
        found
    }

    /// The keys whose host and path hold all that this key's do, whatever their methods; the most specific first,
    /// those of one shape together, those of the key's own shape included.
    #[must_use]
    pub fn around<'s>(&'s self, pattern: &'s Pattern) -> Vec<&'s [usize]> {
        let mut found = Vec::new();
        for site in self.sites_around(pattern.host.as_ref()) {
            site.strict.around(&pattern.segments, &mut found);
        }
        found
    }

    /// The keys without a host whose path this key's path holds, whatever their methods and its own host.
    #[must_use]
    pub fn hostless_within(&self, pattern: &Pattern) -> Vec<usize> {
        let mut found = Vec::new();
        self.any.strict.meeting(&pattern.segments, &mut found);
        found.retain(|at| self.patterns.get(*at).is_some_and(|inner| holds(&pattern.segments, &inner.segments)));
        found.sort_unstable();
        found
    }

    fn sites_met<'s>(&'s self, host: Option<&'s Host>) -> Vec<&'s Site> {
        let mut sites = vec![&self.any];
        let Some(host) = host else {
            sites.extend(self.exact.values().chain(self.one.values()).chain(self.many.values()));
            return sites;
        };
        if let Host::Exact(name) = host {
            sites.extend(self.sites_of(name));
            return sites;
        }
        let exact = self.exact.iter().filter(|(name, _)| host.matches(name));
        sites.extend(exact.map(|(_, site)| site));
        let one = self.one.iter().filter(|(suffix, _)| match host {
            Host::One { suffix: own, .. } => ***suffix == **own,
            Host::Many { suffix: own } => ***suffix == **own || is_below(suffix, own),
            Host::Exact(_) | Host::Set { .. } => false,
        });
        sites.extend(one.map(|(_, site)| site));
        let many = self.many.iter().filter(|(suffix, _)| match host {
            Host::One { suffix: own, .. } => ***suffix == **own || is_below(own, suffix),
            Host::Many { suffix: own } => ***suffix == **own || is_below(own, suffix) || is_below(suffix, own),
            Host::Exact(_) | Host::Set { .. } => false,
        });
        sites.extend(many.map(|(_, site)| site));
        sites
    }

    /// The sites of a host's name, the most specific first, but for the one of every host.
    fn sites_of<'s>(&'s self, name: &'s str) -> Vec<&'s Site> {
        let below = name.split_once('.').filter(|(first, _)| !first.is_empty()).map(|(_, below)| below);
        let exact = self.exact.get(name).into_iter();
        exact.chain(below.and_then(|below| self.one.get(below))).chain(self.many_below(name)).collect()
    }

    fn many_below<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Site> {
        let dots = name.match_indices('.').filter(|(at, _)| *at > 0);
        dots.filter_map(|(at, _)| self.many.get(name.get(at.saturating_add(1)..)?))
    }

    fn sites_around<'s>(&'s self, host: Option<&'s Host>) -> Vec<&'s Site> {
        let mut sites = match host {
            // No one site but that of every host holds all hosts of a set.
            None | Some(Host::Set { .. }) => Vec::new(),
            Some(Host::Exact(name)) => self.sites_of(name),
            Some(Host::One { suffix, .. }) => {
                let one = self.one.get(&**suffix).into_iter();
                one.chain(self.many.get(&**suffix)).chain(self.many_below(suffix)).collect()
            }
            Some(Host::Many { suffix }) => {
                self.many.get(&**suffix).into_iter().chain(self.many_below(suffix)).collect()
            }
        };
        sites.push(&self.any);
        sites
    }
}

impl Node {
    fn leaf(&mut self, segments: &[Segment]) -> &mut Vec<usize> {
        let mut node = self;
        for segment in segments {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
                Segment::One(_) => node.one.get_or_insert_default(),
                Segment::Prefix(prefix) => return node.prefix(prefix),
                Segment::Rest(_) => return &mut node.rest,
            };
        }
        &mut node.end
    }

    /// The keys with this prefix; longer prefixes stand before shorter ones.
    fn prefix(&mut self, prefix: &str) -> &mut Vec<usize> {
        let place = self
            .prefixes
            .binary_search_by(|(here, _)| prefix.len().cmp(&here.len()).then_with(|| (**here).cmp(prefix)));
        let at = place.unwrap_or_else(|at| {
            self.prefixes.insert(at, (prefix.into(), Vec::new()));
            at
        });
        match self.prefixes.get_mut(at) {
            Some((_, keys)) => keys,
            None => &mut self.end,
        }
    }

    fn all(&self, found: &mut Vec<usize>) {
        found.extend(self.rest.iter().chain(&self.end).chain(self.prefixes.iter().flat_map(|(_, keys)| keys)));
        self.literals.values().chain(self.one.as_deref()).for_each(|node| node.all(found));
    }

    fn meeting(&self, segments: &[Segment], found: &mut Vec<usize>) {
        let Some((first, left)) = segments.split_first() else {
            found.extend(self.rest.iter().chain(&self.end));
            return;
        };
        if matches!(first, Segment::Rest(_)) {
            return self.all(found);
        }
        found.extend(&self.rest);
        if let Some(one) = &self.one {
            one.meeting(left, found);
        }
        match first {
            Segment::Literal(text) => {
                if let Some(node) = self.literals.get(text) {
                    node.meeting(left, found);
                }
            }
            Segment::One(_) => self.literals.values().for_each(|node| node.meeting(left, found)),
            Segment::Prefix(prefix) => {
                let literals = self.literals.iter().filter(|(text, _)| text.starts_with(&**prefix));
                literals.for_each(|(_, node)| node.meeting(left, found));
            }
            Segment::Rest(_) => {}
        }
        // What is left may be nothing.
        if matches!(left.first(), None | Some(Segment::Rest(_))) {
            let prefixes = self.prefixes.iter().filter(|(prefix, _)| match first {
                Segment::Literal(text) => text.starts_with(&**prefix),
                Segment::Prefix(own) => own.starts_with(&**prefix) || prefix.starts_with(&**own),
                Segment::One(_) | Segment::Rest(_) => true,
            });
            found.extend(prefixes.flat_map(|(_, keys)| keys));
        }
    }

    fn around<'s>(&'s self, segments: &[Segment], found: &mut Vec<&'s [usize]>) {
        let mut add = |keys: &'s [usize]| {
            if !keys.is_empty() {
                found.push(keys);
            }
        };
        let Some((first, left)) = segments.split_first() else {
            add(&self.end);
            return add(&self.rest);
        };
        match first {
            Segment::Rest(_) => return add(&self.rest),
            Segment::Literal(text) => {
                if let Some(node) = self.literals.get(text) {
                    node.around(left, found);
                }
            }
            Segment::Prefix(_) | Segment::One(_) => {}
        }
        let start = match first {
            Segment::Literal(text) | Segment::Prefix(text) if left.is_empty() => Some(text),
            Segment::Literal(_) | Segment::Prefix(_) | Segment::One(_) | Segment::Rest(_) => None,
        };
        let prefixes = self.prefixes.iter().filter(|(prefix, _)| start.is_some_and(|text| text.starts_with(&**prefix)));
        found.extend(prefixes.map(|(_, keys)| &**keys));
        if let Some(one) = &self.one {
            one.around(left, found);
        }
        if !self.rest.is_empty() {
            found.push(&self.rest);
        }
    }
}

/// Whether every path that the inner segments match is one that the outer ones match.
pub(super) fn holds(outer: &[Segment], inner: &[Segment]) -> bool {
    let mut inner = inner.iter();
    for segment in outer {
        match (segment, inner.next()) {
            (Segment::Rest(_), _) => return true,
            (_, None) | (_, Some(Segment::Rest(_))) => return false,
            (Segment::Literal(one), Some(Segment::Literal(two))) if one == two => {}
            (Segment::Prefix(one), Some(Segment::Literal(two) | Segment::Prefix(two))) if two.starts_with(&**one) => {}
            (Segment::One(_), Some(Segment::Literal(_) | Segment::Prefix(_) | Segment::One(_))) => {}
            (Segment::Literal(_) | Segment::Prefix(_), Some(_)) => return false,
        }
    }
    inner.next().is_none()
}

fn methods_meet(one: &Pattern, two: &Pattern) -> bool {
    match (&one.methods, &two.methods) {
        (Some(one), Some(two)) => one.meet(two),
        (None, _) | (_, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patterns(keys: &[&str]) -> Vec<Pattern> {
        keys.iter().map(|key| Pattern::parse(key).unwrap_or_else(|error| panic!("{key}: {error}"))).collect()
    }

    fn around(keys: &[&str], key: &str) -> Vec<String> {
        let patterns = patterns(keys);
        let own = Pattern::parse(key).unwrap();
        let shapes = Shapes::new(&patterns);
        shapes.around(&own).into_iter().flatten().map(|at| keys[*at].to_owned()).collect()
    }

    #[test]
    fn the_keys_around_a_key_come_nearest_first() {
        let keys = [
            "/**",
            "/a/**",
            "/a/{x}",
            "/a/b",
            "GET /a/b",
            "/{x}/b",
            "/a/b*",
            "/c/b",
            "x.com/**",
            "{t}.com/a/**",
            "*.com/**",
            "y.com/**",
        ];
        assert_eq!(
            around(&keys, "/a/b"),
            ["/a/b", "GET /a/b", "/a/b*", "/a/{x}", "/a/**", "/{x}/b", "/**"],
            "the first to match wins"
        );
        assert_eq!(around(&keys, "/a/{y}"), ["/a/{x}", "/a/**", "/**"]);
        assert_eq!(around(&keys, "/a/{y**}"), ["/a/**", "/**"]);
        assert_eq!(around(&keys, "x.com/a/z"), ["x.com/**", "{t}.com/a/**", "*.com/**", "/a/{x}", "/a/**", "/**"]);
        assert_eq!(around(&keys, "*.com/a/z"), ["*.com/**", "/a/{x}", "/a/**", "/**"]);
        assert_eq!(around(&["/Admin/**"], "/admin/x"), Vec::<String>::new());
    }

    #[test]
    fn keys_without_a_host_lie_within_a_host_s_key_by_their_paths() {
        let patterns = patterns(&["/admin/**", "/health", "/**", "x.com/a", "POST /admin/x"]);
        let shapes = Shapes::new(&patterns);
        let within = |key: &str| shapes.hostless_within(&Pattern::parse(key).unwrap());
        assert_eq!(within("shop.com/**"), [0, 1, 2, 4]);
        assert_eq!(within("shop.com/admin/{r**}"), [0, 4]);
        assert_eq!(within("shop.com/{x}"), [1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn what_meets_by_shape_is_what_meets_key_by_key(
            keys in prop::collection::vec("(GET |POST |HEAD )?(x\\.com|\\*\\.com|\\{t\\}\\.com|\\*\\.x\\.com|y\\.x\\.com)?(/(a|Ab|b|\\*|\\{x\\})){0,3}(/\\*\\*|/a\\*|/ab\\*|/\\{r\\*\\*\\})?/?", 1..12),
        ) {
            let patterns: Vec<Pattern> = keys.iter().filter_map(|key| Pattern::parse(key).ok()).collect();
            let shapes = Shapes::new(&patterns);
            for pattern in &patterns {
                let expected: Vec<usize> =
                    patterns.iter().enumerate().filter(|(_, other)| other.may_meet(pattern)).map(|(at, _)| at).collect();
                prop_assert_eq!(shapes.meeting(pattern), expected);
                for at in shapes.around(pattern).into_iter().flatten() {
                    prop_assert!(holds(&patterns[*at].segments, &pattern.segments));
                }
                let around = shapes.around(pattern).into_iter().flatten().count();
                let wider = |other: &Pattern| match (&other.host, &pattern.host) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(outer), Some(Host::Exact(name))) => outer.matches(name),
                    (Some(Host::One { suffix: outer, .. }), Some(Host::One { suffix: inner, .. })) => outer == inner,
                    (Some(Host::Many { suffix: outer }), Some(Host::One { suffix: inner, .. } | Host::Many { suffix: inner })) =>
                        outer == inner || is_below(inner, outer),
                    _ => false,
                };
                let expected = patterns.iter().filter(|o| wider(o) && holds(&o.segments, &pattern.segments)).count();
                prop_assert_eq!(around, expected);
            }
        }
    }
}
