//! The route table: a trie a host, walked from the most specific key down, without regex.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{Captures, Host, Methods, Pattern, RouteId, Segment, Slots, body, cut, fold};

type Map<V> = HashMap<Box<str>, V, RandomState>;

/// Two routes that could not be told apart: the same shape, and a method of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clash {
    /// The one that came first.
    pub first: RouteId,
    /// The one that came later.
    pub second: RouteId,
}

/// What a request reaches.
#[derive(Clone, Copy, Debug)]
pub enum Found<'r> {
    /// This route, with what its key captured.
    Route(RouteId, Captures<'r>),
    /// Its host is served, its method and path are not.
    NoRoute,
    /// No key is for its host.
    UnknownHost,
}

/// All routes of a policy. The most specific key that matches host, path and method wins.
#[derive(Debug, Default)]
pub struct Table {
    exact: Map<Site>,
    /// By the labels that follow the first.
    one: Map<Site>,
    /// By the labels that follow the first one or more.
    many: Map<Site>,
    any: Option<Site>,
    /// Whether some literal reads otherwise when it is read loosely.
    folds: bool,
}

/// The routes of one host or host pattern.
#[derive(Debug, Default)]
struct Site {
    strict: Node,
    /// The same keys read loosely.
    loose: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: Map<Self>,
    prefixes: Map<Leaf>,
    /// How long the prefixes are, longer ones first, each length once.
    lengths: Vec<usize>,
    one: Option<Box<Self>>,
    rest: Leaf,
    end: Leaf,
}

/// The keys of one shape.
#[derive(Debug, Default)]
struct Leaf(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    methods: Option<Methods>,
    id: RouteId,
    slots: Slots,
}

impl Table {
    /// Makes the table.
    ///
    /// # Errors
    /// All pairs of keys of the same shape whose methods meet.
    pub fn build(routes: impl IntoIterator<Item = (RouteId, Pattern)>) -> Result<Self, Vec<Clash>> {
        let mut table = Self::default();
        let mut clashes = Vec::new();
        for (id, pattern) in routes {
            let slots = Slots::of(&pattern);
            let entry = Entry { methods: pattern.methods, id, slots };
            let site = match pattern.host {
                None => table.any.get_or_insert_default(),
                Some(Host::Exact(name)) => table.exact.entry(name).or_default(),
                Some(Host::One { suffix, .. }) => table.one.entry(suffix).or_default(),
                Some(Host::Many { suffix }) => table.many.entry(suffix).or_default(),
            };
            let folded = fold::segments(&pattern.segments);
            table.folds |= *folded != *pattern.segments;
            let leaf = site.strict.leaf(&pattern.segments);
            let meeting = leaf.0.iter().filter(|earlier| earlier.clashes(&entry));
            clashes.extend(meeting.map(|earlier| Clash { first: earlier.id, second: id }));
            leaf.0.push(entry.clone());
            site.loose.leaf(&folded).0.push(entry);
        }
        if clashes.is_empty() { Ok(table) } else { Err(clashes) }
    }

    /// What a request reaches: its host as [`Pattern`] writes hosts, its path decoded, with a leading slash and
    /// without empty segments.
    #[must_use]
    pub fn find<'r>(&'r self, host: &'r str, method: &str, path: &'r str) -> Found<'r> {
        let mut sites = self.sites(host).peekable();
        if sites.peek().is_none() {
            return Found::UnknownHost;
        }
        let Some(body) = body(path).filter(|_| method != "CONNECT") else {
            return Found::NoRoute;
        };
        match sites.find_map(|site| site.strict.search(Some(body), &|leaf| leaf.pick(method))) {
            Some(entry) => Found::Route(entry.id, entry.slots.read(host, path)),
            None => Found::NoRoute,
        }
    }

    /// Whether a path that reached this route, or none, reaches another one when it is read loosely: without regard
    /// to case, without dots and spaces at the end of a segment, and cut at the first `?` or `#`.
    #[must_use]
    pub fn variant_of(&self, host: &str, method: &str, path: &str, found: Option<RouteId>) -> bool {
        if method == "CONNECT" || !(self.folds || fold::may_change(path)) {
            return false;
        }
        fold::readings(path).any(|reading| {
            let folded = fold::path(path, reading);
            let Some(body) = body(&folded) else { return false };
            let reached =
                self.sites(host).find_map(|site| site.loose.search(Some(body), &|leaf| leaf.covering(method)));
            match (found, reached) {
                (None, None) => false,
                (None, Some(_)) | (Some(_), None) => true,
                (Some(id), Some(leaf)) => !leaf.0.iter().any(|entry| entry.id == id),
            }
        })
    }

    /// The sites that a host belongs to, the most specific first.
    fn sites<'r>(&'r self, host: &str) -> impl Iterator<Item = &'r Site> {
        let one = host.split_once('.').filter(|(first, _)| !first.is_empty() && !self.one.is_empty());
        let many = if self.many.is_empty() { "" } else { host };
        let many = many.match_indices('.').filter(|(at, _)| *at > 0);
        let many = many.filter_map(|(at, _)| self.many.get(host.get(at.saturating_add(1)..)?));
        let one = one.and_then(|(_, suffix)| self.one.get(suffix));
        self.exact.get(host).into_iter().chain(one).chain(many).chain(&self.any)
    }
}

impl Node {
    /// The leaf of this shape, made where there is none.
    fn leaf(&mut self, segments: &[Segment]) -> &mut Leaf {
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

    fn prefix(&mut self, prefix: &str) -> &mut Leaf {
        let at = self.lengths.partition_point(|length| *length > prefix.len());
        if self.lengths.get(at) != Some(&prefix.len()) {
            self.lengths.insert(at, prefix.len());
        }
        self.prefixes.entry(prefix.into()).or_default()
    }

    /// The first leaf that the pick accepts, from the most specific shape down. Each node is seen once at most.
    fn search<'r, T>(&'r self, body: Option<&str>, pick: &impl Fn(&'r Leaf) -> Option<T>) -> Option<T> {
        let Some((first, rest)) = cut(body) else {
            return pick(&self.end).or_else(|| pick(&self.rest));
        };
        let literal = || self.literals.get(first)?.search(rest, pick);
        let prefix = || {
            let lengths = self.lengths.iter().filter(|_| rest.is_none());
            lengths.filter_map(|length| self.prefixes.get(first.get(..*length)?)).find_map(pick)
        };
        let one = || self.one.as_ref().filter(|_| !first.is_empty())?.search(rest, pick);
        literal().or_else(prefix).or_else(one).or_else(|| pick(&self.rest))
    }
}

impl Leaf {
    /// The key for this method: one that names it, one that names GET for HEAD, or one that names none.
    fn pick(&self, method: &str) -> Option<&Entry> {
        let naming = |method: &str| self.0.iter().find(|entry| entry.methods.as_ref().is_some_and(|m| m.has(method)));
        let get = || if method == "HEAD" { naming("GET") } else { None };
        naming(method).or_else(get).or_else(|| self.0.iter().find(|entry| entry.methods.is_none()))
    }

    /// Itself, where some key of it is for this method.
    fn covering(&self, method: &str) -> Option<&Self> {
        let covers = |entry: &Entry| entry.methods.as_ref().is_none_or(|methods| methods.covers(method));
        self.0.iter().any(covers).then_some(self)
    }
}

impl Entry {
    fn clashes(&self, other: &Self) -> bool {
        match (&self.methods, &other.methods) {
            (None, None) => true,
            (Some(one), Some(two)) => one.0.iter().any(|method| two.has(method)),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
}
