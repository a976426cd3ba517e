//! The route table: a trie a host, walked from the most specific key down, without regex.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

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
    /// The same keys read loosely, where that changes any key of the table.
    loose: Option<Node>,
}

#[derive(Debug, Default)]
struct Node {
    literals: Map<Box<Self>>,
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
    slots: Arc<Slots>,
}

impl Table {
    /// Makes the table.
    ///
    /// # Errors
    /// All pairs of keys of the same shape whose methods meet.
    pub fn build(routes: impl IntoIterator<Item = (RouteId, Pattern)>) -> Result<Self, Vec<Clash>> {
        let mut table = Self::default();
        let mut clashes = Vec::new();
        let mut seen: HashSet<Arc<Slots>> = HashSet::new();
        let routes: Vec<(RouteId, Pattern)> = routes.into_iter().collect();
        table.folds = routes.iter().any(|(_, pattern)| *fold::segments(&pattern.segments) != *pattern.segments);
        for (id, pattern) in routes {
            let slots = shared(&mut seen, Slots::of(&pattern));
            let folded = table.folds.then(|| fold::segments(&pattern.segments));
            for host in pattern.hosts() {
                let entry = Entry { methods: pattern.methods.clone(), id, slots: Arc::clone(&slots) };
                let site = table.site(host);
                let leaf = site.strict.leaf(&pattern.segments);
                let meeting = leaf.0.iter().filter(|earlier| earlier.clashes(&entry));
                clashes.extend(meeting.map(|earlier| Clash { first: earlier.id, second: id }));
                if let Some(folded) = &folded {
                    site.loose.get_or_insert_default().leaf(folded).add(entry.clone());
                }
                leaf.add(entry);
            }
        }
        if clashes.is_empty() { Ok(table) } else { Err(clashes) }
    }

    /// The site of one host or host pattern, made where there is none.
    fn site(&mut self, host: Option<&Host>) -> &mut Site {
        match host {
            None | Some(Host::Set { .. }) => self.any.get_or_insert_default(),
            Some(Host::Exact(name)) => self.exact.entry(name.clone()).or_default(),
            Some(Host::One { suffix, .. }) => self.one.entry(suffix.clone()).or_default(),
            Some(Host::Many { suffix }) => self.many.entry(suffix.clone()).or_default(),
        }
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
    /// to case (unless case counts), without dots and spaces at the end of a segment, and cut at the first `?` or `#`.
    #[must_use]
    pub fn variant_of(&self, host: &str, method: &str, path: &str, found: Option<RouteId>, case_counts: bool) -> bool {
        if method == "CONNECT" || !((self.folds && !case_counts) || fold::may_change(path)) {
            return false;
        }
        fold::readings(path, !case_counts).any(|reading| {
            let folded = fold::path(path, reading);
            let Some(body) = body(&folded) else { return false };
            let reached = self.sites(host).find_map(|site| {
                let node = if case_counts { &site.strict } else { site.loose() };
                node.search(Some(body), &|leaf| leaf.covering(method))
            });
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

/// The same captures at the same places are kept once: thousands of routes have an `{id}`.
fn shared(seen: &mut HashSet<Arc<Slots>>, slots: Slots) -> Arc<Slots> {
    if let Some(same) = seen.get(&slots) {
        return Arc::clone(same);
    }
    let slots = Arc::new(slots);
    seen.insert(Arc::clone(&slots));
    slots
}

impl Site {
    fn loose(&self) -> &Node {
        self.loose.as_ref().unwrap_or(&self.strict)
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
    /// A table has many leaves of one key: none of them keeps room for more.
    fn add(&mut self, entry: Entry) {
        self.0.reserve_exact(1);
        self.0.push(entry);
    }

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
            (Some(one), Some(two)) => one.names.iter().any(|method| two.has(method)),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(keys: &[&str]) -> Table {
        build(keys).unwrap_or_else(|clashes| panic!("{keys:?} {clashes:?}"))
    }

    fn build<S: AsRef<str>>(keys: &[S]) -> Result<Table, Vec<Clash>> {
        let ids = (0..).map(RouteId);
        Table::build(ids.zip(keys.iter().map(|key| Pattern::parse(key.as_ref()).unwrap())))
    }

    /// Which key a request reaches, as `METHOD host/path`, with its captures.
    fn reach(keys: &[&str], request: &str) -> String {
        let (method, rest) = request.split_once(' ').unwrap();
        let (host, path) = rest.split_at(rest.find('/').unwrap());
        match table(keys).find(host, method, path) {
            Found::Route(RouteId(id), captures) => {
                let captures: String = captures.iter().map(|(name, value)| format!(" {name}={value}")).collect();
                format!("{}{captures}", keys[usize::try_from(id).unwrap()])
            }
            Found::NoRoute => "no route".into(),
            Found::UnknownHost => "unknown host".into(),
        }
    }

    fn varies(keys: &[&str], path: &str) -> bool {
        let table = table(keys);
        let found = match table.find("a.com", "GET", path) {
            Found::Route(id, _) => Some(id),
            Found::NoRoute | Found::UnknownHost => None,
        };
        table.variant_of("a.com", "GET", path, found, false)
    }

    #[test]
    fn a_literal_beats_a_prefix_beats_one_segment_beats_the_rest() {
        let keys = ["/s/GetUser", "/s/Get*", "/s/GetU*", "/s/{m}", "/s/**", "/**"];
        assert_eq!(reach(&keys, "GET a.com/s/GetUser"), "/s/GetUser");
        assert_eq!(reach(&keys, "GET a.com/s/GetUsers"), "/s/GetU*");
        assert_eq!(reach(&keys, "GET a.com/s/Get"), "/s/Get*");
        assert_eq!(reach(&keys, "GET a.com/s/Set"), "/s/{m} m=Set");
        assert_eq!(reach(&keys, "GET a.com/s/Get/x"), "/s/**");
        assert_eq!(reach(&keys, "GET a.com/s"), "/s/**");
        assert_eq!(reach(&keys, "GET a.com/"), "/**");
    }

    #[test]
    fn segments_count_from_left_to_right() {
        let keys = ["/a/{x}", "/{x}/b", "/{x}/{y}/c", "/a/**"];
        assert_eq!(reach(&keys, "GET a.com/a/b"), "/a/{x} x=b");
        assert_eq!(reach(&keys, "GET a.com/z/b"), "/{x}/b x=z");
        assert_eq!(reach(&keys, "GET a.com/a/b/c"), "/a/**");
        assert_eq!(reach(&keys, "GET a.com/z/b/c"), "/{x}/{y}/c x=z y=b");
        assert_eq!(reach(&keys, "GET a.com/z/b/d"), "no route");
    }

    #[test]
    fn where_case_counts_a_dot_at_the_end_is_still_a_variant() {
        let table = table(&["/Admin/**", "/**"]);
        let varies = |path| {
            let Found::Route(id, _) = table.find("a.com", "GET", path) else { panic!("{path}") };
            table.variant_of("a.com", "GET", path, Some(id), true)
        };
        assert!(!varies("/ADMIN/x") && !varies("/Admin/x"));
        assert!(varies("/Admin./x") && varies("/Admin?/x"));
    }

    #[test]
    fn a_key_that_ends_beats_the_rest() {
        let keys = ["/admin", "/admin/**"];
        assert_eq!(reach(&keys, "GET a.com/admin"), "/admin");
        assert_eq!(reach(&keys, "GET a.com/admin/"), "/admin");
        assert_eq!(reach(&keys, "GET a.com/admin/x"), "/admin/**");
        assert_eq!(reach(&["/admin/**"], "GET a.com/admin"), "/admin/**");
        assert_eq!(reach(&["/admin/**"], "GET a.com/administrator"), "no route");
    }

    #[test]
    fn a_trailing_slash_is_ignored_on_both_sides() {
        assert_eq!(reach(&["/a/"], "GET a.com/a"), "/a/");
        assert_eq!(reach(&["/a"], "GET a.com/a/"), "/a");
        assert_eq!(reach(&["/a/{x}"], "GET a.com/a/b/"), "/a/{x} x=b");
        assert_eq!(reach(&["/a/{r**}"], "GET a.com/a/b/c/"), "/a/{r**} r=b/c");
        assert_eq!(reach(&["/a/{x}"], "GET a.com/a/"), "no route");
    }

    #[test]
    fn the_rest_is_zero_or_more_segments() {
        assert_eq!(reach(&["/t/{t}/{r**}"], "GET a.com/t/x"), "/t/{t}/{r**} t=x r=");
        assert_eq!(reach(&["/t/{t}/{r**}"], "GET a.com/t/x/y/z"), "/t/{t}/{r**} t=x r=y/z");
        assert_eq!(reach(&["/{r**}"], "GET a.com/"), "/{r**} r=");
    }

    #[test]
    fn an_exact_host_beats_a_pattern_with_more_labels_beats_none() {
        let keys = ["x.b.a.com/p", "{t}.b.a.com/p", "*.b.a.com/p", "*.a.com/**", "/**"];
        assert_eq!(reach(&keys, "GET x.b.a.com/p"), "x.b.a.com/p");
        assert_eq!(reach(&keys, "GET y.b.a.com/p"), "{t}.b.a.com/p t=y");
        assert_eq!(reach(&keys, "GET z.y.b.a.com/p"), "*.b.a.com/p");
        assert_eq!(reach(&keys, "GET x.b.a.com/q"), "*.a.com/**");
        assert_eq!(reach(&keys, "GET a.com/q"), "/**");
        assert_eq!(reach(&["*.a.com/**", "/admin"], "GET x.a.com/admin"), "*.a.com/**");
    }

    #[test]
    fn a_host_that_no_key_is_for_is_unknown() {
        let keys = ["a.com/p", "*.b.com/p", "{t}.c.com/p", "[::1]/p"];
        assert_eq!(reach(&keys, "GET a.com/q"), "no route");
        assert_eq!(reach(&keys, "GET b.com/p"), "unknown host");
        assert_eq!(reach(&keys, "GET .b.com/p"), "unknown host");
        assert_eq!(reach(&keys, "GET xb.com/p"), "unknown host");
        assert_eq!(reach(&keys, "GET y.x.c.com/p"), "unknown host");
        assert_eq!(reach(&keys, "GET [::1]/p"), "[::1]/p");
        assert_eq!(reach(&["/p"], "GET b.com/q"), "no route");
    }

    #[test]
    fn a_named_method_beats_none_at_one_shape_and_only_there() {
        let keys = ["/a", "POST /a", "POST /{x}", "/{x}"];
        assert_eq!(reach(&keys, "POST a.com/a"), "POST /a");
        assert_eq!(reach(&keys, "PUT a.com/a"), "/a");
        assert_eq!(reach(&["POST /{x}", "/a"], "POST a.com/a"), "/a");
        assert_eq!(reach(&["GET /a", "/{x}"], "POST a.com/a"), "/{x} x=a");
        assert_eq!(reach(&["GET /a"], "get a.com/a"), "no route");
    }

    #[test]
    fn head_follows_get_unless_its_shape_names_head() {
        assert_eq!(reach(&["GET /a"], "HEAD a.com/a"), "GET /a");
        assert_eq!(reach(&["GET /a", "/a"], "HEAD a.com/a"), "GET /a");
        assert_eq!(reach(&["GET /a", "HEAD /a"], "HEAD a.com/a"), "HEAD /a");
        assert_eq!(reach(&["GET /a", "HEAD /{x}"], "HEAD a.com/a"), "GET /a");
        assert_eq!(reach(&["HEAD /a"], "GET a.com/a"), "no route");
    }

    #[test]
    fn connect_and_requests_without_a_path_never_match() {
        let table = table(&["/**"]);
        for (method, path) in [("CONNECT", "/"), ("OPTIONS", "*"), ("GET", "")] {
            assert!(matches!(table.find("a.com", method, path), Found::NoRoute), "{method} {path}");
        }
    }

    #[test]
    fn keys_of_one_shape_whose_methods_meet_clash() {
        let clashes = |keys: &[&str]| -> Vec<(u32, u32)> {
            build(keys).map_or_else(|all| all.iter().map(|clash| (clash.first.0, clash.second.0)).collect(), |_| vec![])
        };
        assert_eq!(clashes(&["/{x}", "/{y}"]), [(0, 1)]);
        assert_eq!(clashes(&["/{x}", "/*"]), [(0, 1)]);
        assert_eq!(clashes(&["/a/**", "/a/{r**}", "/a/"]), [(0, 1)]);
        assert_eq!(clashes(&["GET,PUT /a", "PUT,POST /a", "POST /a"]), [(0, 1), (1, 2)]);
        assert_eq!(clashes(&["{t}.a.com/x", "{u}.a.com/x"]), [(0, 1)]);
        assert_eq!(clashes(&["A.com/x", "a.com/x/"]), [(0, 1)]);
        assert_eq!(clashes(&["GET /a", "HEAD /a", "/a", "POST /a"]), []);
        assert_eq!(clashes(&["/a", "/A", "a.com/a", "*.a.com/a", "{t}.a.com/a"]), []);
    }

    // N03
    #[test]
    fn a_path_that_reaches_another_route_when_read_loosely_is_a_variant() {
        let keys = ["/**", "/admin/**", "/users/Bob", "/users/{id}", "/svc/Get*", "/{x}/secret"];
        for path in [
            "/ADMIN",
            "/Admin/x",
            "/admin.",
            "/admin /x",
            "/admin. ./x",
            "/admin?",
            "/admin#x",
            "/admin?/x",
            "/ADMIN?.x",
            "/users/bob",
            "/users/BOB",
            "/svc/GETX",
            "/a?b/SECRET",
            "/a?b/secret",
            "/ /SECRET",
            "/a/\u{17f}ecret",
            "/svc/get.",
        ] {
            assert!(varies(&keys, path), "{path}");
        }
        for path in
            ["/", "/admin", "/admin/X", "/admin/x.", "/users/Bob", "/users/Alice", "/users/alice.", "/X.Y", "/svc/GetX"]
        {
            assert!(!varies(&keys, path), "{path}");
        }
    }

    #[test]
    fn routes_that_fold_together_are_not_variants_of_each_other() {
        let keys = ["/**", "/Bob", "/bob"];
        assert!(!varies(&keys, "/Bob"));
        assert!(!varies(&keys, "/bob"));
        assert!(varies(&keys, "/BOB"));
        assert!(varies(&["/bob"], "/BOB"));
        assert!(!varies(&["/bob"], "/ANN"));
    }

    #[test]
    fn a_variant_is_one_of_the_same_host_and_method() {
        let table = table(&["/**", "b.com/admin", "POST /admin"]);
        assert!(!table.variant_of("a.com", "GET", "/ADMIN", Some(RouteId(0)), false));
        assert!(table.variant_of("b.com", "GET", "/ADMIN", Some(RouteId(0)), false));
        assert!(table.variant_of("a.com", "POST", "/ADMIN", Some(RouteId(0)), false));
    }

    // From here on: a reference that scores every key, written over their text.

    type Key = (String, String, String);

    fn text((methods, host, path): &Key) -> String {
        if methods.is_empty() { format!("{host}{path}") } else { format!("{methods} {host}{path}") }
    }

    fn split(path: &str) -> Vec<&str> {
        path.split('/').filter(|segment| !segment.is_empty()).collect()
    }

    fn is_one(segment: &str) -> bool {
        segment == "*" || (segment.starts_with('{') && !segment.ends_with("**}"))
    }

    fn is_rest(segment: &str) -> bool {
        segment == "**" || segment.ends_with("**}")
    }

    /// Names of captures and methods apart.
    fn shape((_, host, path): &Key) -> String {
        let host = if host.starts_with('{') { host.replace("{h}", "{}") } else { host.clone() };
        let path = split(path).into_iter().map(|s| {
            if is_one(s) {
                "*"
            } else if is_rest(s) {
                "**"
            } else {
                s
            }
        });
        format!("{host}/{}", path.collect::<Vec<_>>().join("/"))
    }

    fn host_score(key: &str, host: &str) -> Option<(u8, usize, u8)> {
        let labels = |text: &str| text.split('.').count();
        let (head, suffix) = key.split_once('.').unwrap_or(("", ""));
        let below = host.strip_suffix(&format!(".{suffix}")).filter(|rest| !rest.is_empty());
        match head {
            _ if key.is_empty() => Some((0, 0, 0)),
            "*" => below.map(|_| (1, labels(suffix), 0)),
            "{h}" => below.filter(|rest| !rest.contains('.')).map(|_| (1, labels(suffix), 1)),
            _ => (key == host).then_some((2, 0, 0)),
        }
    }

    fn path_score(key: &[&str], path: &[&str]) -> Option<Vec<(u8, usize)>> {
        match (key.split_first(), path.split_first()) {
            (None, None) => Some(vec![(1, 0)]),
            (Some((segment, _)), _) if is_rest(segment) => Some(vec![(0, 0)]),
            (Some((segment, keys)), Some((first, rest))) => {
                let here = if is_one(segment) {
                    (2, 0)
                } else if let Some(prefix) = segment.strip_suffix('*') {
                    first.strip_prefix(prefix).map(|_| (3, prefix.len()))?
                } else {
                    (segment == first).then_some((4, 0))?
                };
                let mut score = vec![here];
                score.extend(path_score(keys, rest)?);
                Some(score)
            }
            (None, Some(_)) | (Some(_), None) => None,
        }
    }

    fn names(key: &Key, method: &str) -> bool {
        key.0.split(',').any(|name| name == method)
    }

    type Score = ((u8, usize, u8), Vec<(u8, usize)>);

    fn score(key: &Key, host: &str, path: &str) -> Option<Score> {
        Some((host_score(&key.1, host)?, path_score(&split(&key.2), &split(path))?))
    }

    fn reference(keys: &[Key], host: &str, method: &str, path: &str) -> Option<usize> {
        let rank = |key: &Key| match method {
            _ if key.0.is_empty() => Some(0),
            _ if names(key, method) => Some(2),
            "HEAD" if names(key, "GET") => {
                let named = keys.iter().any(|other| shape(other) == shape(key) && names(other, "HEAD"));
                (!named).then_some(1)
            }
            _ => None,
        };
        let scored = keys.iter().enumerate().filter_map(|(at, key)| Some((score(key, host, path)?, rank(key)?, at)));
        scored.max().map(|(_, _, at)| at)
    }

    /// All keys of the best score when case makes no difference.
    fn loosely(keys: &[Key], host: &str, method: &str, path: &str) -> Vec<usize> {
        let lower = |key: &Key| (key.0.clone(), key.1.clone(), key.2.to_lowercase());
        let covers = |key: &Key| key.0.is_empty() || names(key, method) || (method == "HEAD" && names(key, "GET"));
        let keys = keys.iter().map(lower).enumerate().filter(|(_, key)| covers(key));
        let scored: Vec<_> = keys.filter_map(|(at, key)| Some((score(&key, host, path)?, at))).collect();
        let best = scored.iter().map(|(score, _)| score.clone()).max();
        scored.into_iter().filter(|(score, _)| Some(score) == best.as_ref()).map(|(_, at)| at).collect()
    }

    fn loose_paths(path: &str) -> Vec<String> {
        let mut paths = vec![path.to_lowercase()];
        paths.extend(path.split(['?', '#']).next().map(str::to_lowercase));
        for path in paths.clone() {
            paths.push(path.split('/').map(|s| s.trim_end_matches(['.', ' '])).collect::<Vec<_>>().join("/"));
        }
        paths
    }

    fn any_key() -> impl Strategy<Value = Key> {
        let segment = prop::sample::select(vec!["a", "b", "ab", "A", "*", "{x}"]);
        let last = prop::sample::select(vec!["", "", "/", "/**", "/{r**}", "/a*", "/ab*", "/A*", "/b"]);
        let methods = prop::sample::select(vec!["", "", "", "GET", "HEAD", "POST", "GET,POST", "POST,HEAD"]);
        let host =
            prop::sample::select(vec!["", "", "", "a.com", "x.a.com", "*.a.com", "{h}.a.com", "*.com", "{h}.com"]);
        (methods, host, prop::collection::vec(segment, 0..3), last).prop_filter_map("a key", |(m, h, path, last)| {
            let path: String = path.iter().map(|segment| format!("/{segment}")).collect::<String>() + last;
            let key = (m.to_owned(), h.to_owned(), if path.is_empty() { "/".into() } else { path });
            Pattern::parse(&text(&key)).is_ok().then_some(key)
        })
    }

    fn any_request() -> impl Strategy<Value = (String, String, String)> {
        let host = prop::sample::select(vec!["a.com", "x.a.com", "y.x.a.com", "b.com", "com"]);
        let method = prop::sample::select(vec!["GET", "HEAD", "POST", "PUT"]);
        let segment = prop::sample::select(vec!["a", "b", "ab", "abc", "c", "A", "aB", "a.", "b?x", "#", " "]);
        let segments = prop::collection::vec(segment, 0..4);
        (host, method, segments, any::<bool>()).prop_map(|(host, method, segments, slash)| {
            let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
            let path = if slash || path.is_empty() { path + "/" } else { path };
            (host.into(), method.into(), path)
        })
    }

    fn shape_of_all(keys: &[Key]) -> Vec<(u32, u32)> {
        let meet = |one: &Key, two: &Key| match (&*one.0, &*two.0) {
            ("", "") => true,
            ("", _) | (_, "") => false,
            (methods, _) => methods.split(',').any(|method| names(two, method)),
        };
        let mut found = vec![];
        for (second, two) in keys.iter().enumerate() {
            for (first, one) in keys.iter().take(second).enumerate() {
                if shape(one) == shape(two) && meet(one, two) {
                    found.push((u32::try_from(first).unwrap(), u32::try_from(second).unwrap()));
                }
            }
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn the_table_agrees_with_scoring_every_key(
            keys in prop::collection::vec(any_key(), 0..12),
            requests in prop::collection::vec(any_request(), 8),
        ) {
            let mut keys = keys;
            let clashes = match build(&keys.iter().map(text).collect::<Vec<_>>()) {
                Ok(_) => vec![],
                Err(clashes) => clashes.iter().map(|clash| (clash.first.0, clash.second.0)).collect(),
            };
            prop_assert_eq!(&clashes, &shape_of_all(&keys));
            let later: Vec<u32> = clashes.iter().map(|(_, second)| *second).collect();
            let mut at = 0_u32..;
            keys.retain(|_| !later.contains(&at.next().unwrap()));
            let table = build(&keys.iter().map(text).collect::<Vec<_>>()).unwrap();

            for (host, method, path) in &requests {
                let expected = reference(&keys, host, method, path);
                let found = match table.find(host, method, path) {
                    Found::Route(id, _) => Some(id),
                    Found::NoRoute => None,
                    Found::UnknownHost => {
                        prop_assert!(keys.iter().all(|key| host_score(&key.1, host).is_none()));
                        None
                    }
                };
                let index = found.map(|id| usize::try_from(id.0).unwrap());
                prop_assert_eq!(index, expected, "{:?} {} {}{}", &keys, method, host, path);

                let varies = loose_paths(path).iter().any(|path| {
                    let reached = loosely(&keys, host, method, path);
                    expected.map_or(!reached.is_empty(), |at| !reached.contains(&at))
                });
                prop_assert_eq!(table.variant_of(host, method, path, found, false), varies, "{:?} {} {}{}", &keys, method, host, path);
            }
        }

        #[test]
        fn captures_put_back_into_their_key_give_the_path((host, method, path) in any_request(), key in any_key()) {
            let table = build(&[text(&key)]).unwrap();
            if let Found::Route(_, captures) = table.find(&host, &method, &path) {
                let mut back = key.2.replace("{x}", captures.get("x").unwrap_or("{x}"));
                back = back.replace("{r**}", captures.get("r").unwrap_or(""));
                if !back.contains(['*', '{']) {
                    prop_assert_eq!(split(&back), split(&path));
                }
                if key.1.starts_with('{') {
                    prop_assert_eq!(captures.get("h"), host.split('.').next());
                }
            }
        }

        #[test]
        fn keys_that_one_request_matches_may_meet((host, method, path) in any_request(), one in any_key(), two in any_key()) {
            let matches = |key: &Key| !matches!(build(&[text(key)]).unwrap().find(&host, &method, &path), Found::NoRoute | Found::UnknownHost);
            if matches(&one) && matches(&two) {
                let meet = Pattern::parse(&text(&one)).unwrap().may_meet(&Pattern::parse(&text(&two)).unwrap());
                prop_assert!(meet, "{:?} {:?} {} {}{}", one, two, method, host, path);
            }
        }
    }
}
