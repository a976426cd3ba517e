//! The space of requests cut into classes that no key of either policy tells apart, a request of each class.

use std::collections::{BTreeSet, HashMap};

use super::shape::{Host, Segment, Shape, folded};

/// How many requests are tried in all spellings of each segment.
const THOROUGH: usize = 20_000;
/// How many requests are tried at all.
const MOST: usize = 2_000_000;
/// Deeper than any key.
const DEEPEST: usize = 66;

/// A request that stands for its class.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spot {
    /// Whether it is a spelling that some upstreams read otherwise.
    pub odd: bool,
    /// Whether it is none of the hosts that keys name.
    pub any_host: bool,
    /// The host.
    pub host: String,
    /// The method.
    pub method: String,
    /// The path, decoded.
    pub path: String,
}

/// Walks the paths of one host.
struct Walk<'s> {
    shapes: Vec<&'s Shape>,
    fresh: &'s str,
    /// Whether each literal is tried in other spellings too.
    thorough: bool,
    most: usize,
    paths: BTreeSet<(bool, Vec<String>)>,
}

/// A request of each class; `None` where there are too many.
pub(super) fn spots(shapes: &[Shape]) -> Option<Vec<Spot>> {
    cut(shapes, true, THOROUGH).or_else(|| cut(shapes, false, MOST))
}

fn cut(shapes: &[Shape], thorough: bool, most: usize) -> Option<Vec<Spot>> {
    let fresh = fresh(shapes);
    let mut methods: BTreeSet<&str> =
        shapes.iter().flat_map(|shape| shape.methods.iter().map(String::as_str)).chain(["GET", "HEAD"]).collect();
    let other = (1..).map(|length| "X".repeat(length)).find(|other| !methods.contains(&**other))?;
    methods.insert(&other);
    let mut spots = Vec::new();
    for (any_host, host) in hosts(shapes, &fresh) {
        let shapes = shapes.iter().filter(|shape| shape.is_for_host(&host)).collect();
        let left = most.checked_sub(spots.len())?.checked_div(methods.len())?;
        let mut walk = Walk { shapes, fresh: &fresh, thorough, most: left, paths: BTreeSet::new() };
        let all: Vec<(usize, usize)> = (0..walk.shapes.len()).map(|shape| (shape, 0)).collect();
        walk.below(&all, &mut Vec::new(), false)?;
        for (odd, path) in walk.paths {
            let path = format!("/{}", path.join("/"));
            for method in &methods {
                let (host, method, path) = (host.clone(), (*method).to_owned(), path.clone());
                spots.push(Spot { odd, any_host, host, method, path });
            }
        }
    }
    Some(spots)
}

/// A word that no key has in it.
fn fresh(shapes: &[Shape]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for shape in shapes {
        texts.extend(shape.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(text) | Segment::Prefix(text) => Some(text.to_lowercase()),
            Segment::One | Segment::Rest => None,
        }));
        texts.extend(match &shape.host {
            Host::Any => None,
            Host::Exact(name) | Host::One(name) | Host::Many(name) => Some(name.clone()),
        });
    }
    let mut fresh = "any".to_owned();
    while texts.iter().any(|text| text.contains(&fresh)) {
        fresh.push('y');
    }
    fresh
}

/// Hosts that together match every set of host patterns that any host does; whether each is none that is named.
fn hosts(shapes: &[Shape], fresh: &str) -> BTreeSet<(bool, String)> {
    let mut hosts = BTreeSet::from([(true, fresh.to_owned())]);
    for shape in shapes {
        match &shape.host {
            Host::Any => {}
            Host::Exact(name) => _ = hosts.insert((false, name.clone())),
            Host::One(suffix) | Host::Many(suffix) => {
                hosts.insert((false, format!("{fresh}.{suffix}")));
                hosts.insert((false, format!("{fresh}.{fresh}{fresh}.{suffix}")));
            }
        }
    }
    hosts
}

impl Walk<'_> {
    /// Takes note of this path, and goes on below it with those shapes that may still tell paths apart.
    fn below(&mut self, alive: &[(usize, usize)], path: &mut Vec<String>, odd: bool) -> Option<()> {
        self.paths.insert((odd, path.clone()));
        if self.paths.len() > self.most {
            return None;
        }
        if !self.thorough {
            self.respelled(path);
        }
        if alive.is_empty() || path.len() > DEEPEST {
            return Some(());
        }
        let mut literals: HashMap<String, Vec<(usize, usize)>> = HashMap::new();
        let mut others: Vec<(usize, usize, Segment)> = Vec::new();
        let any = format!("{}{}", self.fresh, path.len().saturating_add(1));
        let mut symbols = BTreeSet::from([(false, any)]);
        for (shape, at) in alive {
            let segment = self.shapes.get(*shape).and_then(|shape| shape.segments.get(*at));
            match segment {
                None | Some(Segment::Rest) => {}
                Some(Segment::Literal(text)) => {
                    literals.entry(folded(text)).or_default().push((*shape, at.saturating_add(1)));
                    symbols.extend(self.spellings(text));
                }
                Some(segment) => {
                    if let Segment::Prefix(text) = segment {
                        symbols.extend(self.spellings(&format!("{text}{}", self.fresh)));
                        symbols.insert((false, text.clone()));
                    }
                    others.push((*shape, at.saturating_add(1), segment.clone()));
                }
            }
        }
        for (is_odd, symbol) in symbols {
            let read = folded(&symbol);
            let fits = |segment: &Segment| match segment {
                Segment::Prefix(text) => read.starts_with(&folded(text)),
                _ => true,
            };
            let mut next = literals.get(&read).cloned().unwrap_or_default();
            next.extend(others.iter().filter(|(.., segment)| fits(segment)).map(|(shape, at, _)| (*shape, *at)));
            path.push(symbol);
            self.below(&next, path, odd || is_odd)?;
            path.pop();
        }
        Some(())
    }

    fn spellings(&self, text: &str) -> Vec<(bool, String)> {
        let mut spellings = vec![(false, text.to_owned())];
        if self.thorough {
            let others = [text.to_uppercase(), text.to_lowercase(), format!("{text}."), format!("{text}?")];
            spellings.extend(others.into_iter().filter(|other| other != text).map(|other| (true, other)));
        }
        spellings
    }

    /// The whole path in other spellings.
    fn respelled(&mut self, path: &[String]) {
        let Some((last, above)) = path.split_last() else { return };
        let ending = |end: &str| [above, &[format!("{last}{end}")]].concat();
        let all = [
            path.iter().map(|segment| segment.to_uppercase()).collect(),
            path.iter().map(|segment| segment.to_lowercase()).collect(),
            ending("."),
            ending("?"),
        ];
        self.paths.extend(all.into_iter().filter(|other: &Vec<String>| other != path).map(|other| (true, other)));
    }
}

impl std::fmt::Display for Spot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = if self.any_host { "" } else { &*self.host };
        write!(f, "{} {host}{}", self.method, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(keys: &[&str]) -> Vec<String> {
        let shapes: Vec<Shape> = keys.iter().map(|key| Shape::read(key).unwrap()).collect();
        let spots = spots(&shapes).unwrap().into_iter().filter(|spot| !spot.odd && spot.method == "GET");
        spots.map(|spot| format!("{}{}", if spot.any_host { "" } else { &spot.host }, spot.path)).collect()
    }

    #[test]
    fn every_set_of_keys_that_a_request_can_match_has_a_spot() {
        assert_eq!(paths(&["/a"]), ["/", "/a", "/a/any2", "/any1"]);
        assert_eq!(paths(&["/a/**"]), ["/", "/a", "/a/any2", "/any1"]);
        let both = paths(&["/{x}/b", "/a/{y}"]);
        for path in ["/a/b", "/a/any2", "/any1/b", "/any1/any2", "/a/b/any3"] {
            assert!(both.iter().any(|here| here == path), "{path}: {both:?}");
        }
        let hosts = paths(&["*.shop.test/", "{t}.shop.test/", "a.shop.test/"]);
        for host in ["a.shop.test/", "any.shop.test/", "any.anyany.shop.test/", "/"] {
            assert!(hosts.iter().any(|here| here == host), "{host}: {hosts:?}");
        }
    }

    #[test]
    fn spellings_are_odd_and_too_many_keys_are_told() {
        let shapes: Vec<Shape> = ["/admin"].iter().map(|key| Shape::read(key).unwrap()).collect();
        let odd: Vec<String> = spots(&shapes).unwrap().into_iter().filter(|s| s.odd).map(|s| s.path).collect();
        assert!(odd.contains(&"/ADMIN".to_owned()) && odd.contains(&"/admin.".to_owned()));
        assert!(cut(&shapes, true, 5).is_none());
    }
}
