//! Route keys: patterns over method, host and path, what they capture, and the table in which the most specific wins.

use std::sync::Arc;

mod cover;
mod fault;
mod fold;
mod grammar;
mod hosts;
mod shapes;
mod table;

pub use cover::Cover;
pub use fault::{PatternError, PatternFault};
pub(super) use grammar::is_capture_name;
pub use hosts::{HostFault, HostSets};
pub use shapes::Shapes;
pub use table::{Clash, Found, Table};

/// How many captures one pattern may have, its host's included.
pub const MAX_CAPTURES: usize = 8;
/// How many segments one pattern may have.
pub const MAX_SEGMENTS: usize = 64;

/// A route's number in its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u32);

/// A route key: `[METHOD[,METHOD] ][host]/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    methods: Option<Methods>,
    host: Option<Host>,
    segments: Box<[Segment]>,
}

/// The methods that a key names, one or more, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Methods {
    names: Box<[Box<str>]>,
    /// A bit for each common one, so that asking for one touches no other memory.
    common: u8,
}

/// Which hosts a key is for. Names are in lower case, without a port or a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// `a.example.com`, `192.0.2.7`, `[::1]`
    Exact(Box<str>),
    /// `{name}.example.com`: one label before this.
    One { name: Box<str>, suffix: Box<str> },
    /// `*.example.com`: one or more labels before this.
    Many { suffix: Box<str> },
    /// `name:`: each of these; none of them is a set.
    Set { name: Box<str>, hosts: Arc<[Self]> },
}

/// One segment of a key's path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// These characters, decoded.
    Literal(Box<str>),
    /// `prefix*`: what starts with this; last only.
    Prefix(Box<str>),
    /// `*` or `{name}`: any one that is not empty.
    One(Option<Box<str>>),
    /// `**` or `{name**}`: all that is left, possibly nothing; last only.
    Rest(Option<Box<str>>),
}

/// Where a captured value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Slot {
    /// The first label of the host.
    Host,
    /// This segment of the path.
    Segment(usize),
    /// All from this segment of the path on.
    Rest(usize),
}

/// The captures of a pattern: their names, and where each value stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Slots {
    names: Box<[Box<str>]>,
    slots: Box<[Slot]>,
}

/// What a pattern captured of one request, decoded. Holds at most [`MAX_CAPTURES`], without allocation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Captures<'r> {
    names: &'r [Box<str>],
    values: [&'r str; MAX_CAPTURES],
}

impl<'r> Captures<'r> {
    /// Pairs names with values; names without a value capture the empty text.
    #[must_use]
    pub fn new(names: &'r [Box<str>], values: impl IntoIterator<Item = &'r str>) -> Self {
        let mut captures = Self { names, values: [""; MAX_CAPTURES] };
        for (place, value) in captures.values.iter_mut().zip(values) {
            *place = value;
        }
        captures
    }

    /// The value captured under this name; empty where `**` stood for no segment.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'r str> {
        self.iter().find(|(here, _)| *here == name).map(|(_, value)| value)
    }

    /// Names and values, the host's first, then from left to right.
    pub fn iter(&self) -> impl Iterator<Item = (&'r str, &'r str)> {
        self.names.iter().map(|name| &**name).zip(self.values)
    }
}

impl Pattern {
    /// Reads a route key as the policy writes it.
    ///
    /// # Errors
    /// Where the text is no key; the error says where in it, and what would be right.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        Self::parse_in(text, &HostSets::default())
    }

    /// Reads a route key that may name one of these sets of hosts, as in `api:/orders`.
    ///
    /// # Errors
    /// As [`Pattern::parse`], and where there is no such set.
    pub fn parse_in(text: &str, sets: &HostSets) -> Result<Self, PatternError> {
        grammar::pattern(text, sets)
    }

    /// The set of hosts that it names.
    #[must_use]
    pub fn host_set(&self) -> Option<&str> {
        if let Some(Host::Set { name, .. }) = &self.host { Some(name) } else { None }
    }

    /// Whether every request that matches this matches the other one too, however it is written.
    #[must_use]
    pub fn is_within(&self, outer: &Self) -> bool {
        let methods = match (&self.methods, &outer.methods) {
            (_, None) => true,
            (None, Some(_)) => false,
            // GET answers HEAD, which the outer one covers where it has GET.
            (Some(inner), Some(outer)) => inner.names.iter().all(|method| outer.covers(method)),
        };
        let hosts = match (&self.host, &outer.host) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(inner), Some(outer)) => inner.is_within(outer),
        };
        methods && hosts && shapes::holds(&outer.segments, &self.segments)
    }

    /// The methods that it names; empty where it is for all.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        self.methods.iter().flat_map(|methods| methods.names.iter().map(|method| &**method))
    }

    /// Whether it names a host or a host pattern.
    #[must_use]
    pub fn names_host(&self) -> bool {
        self.host.is_some()
    }

    /// Whether some segment of its path is spelled out; `/**` and `/{tenant}/**` name none.
    #[must_use]
    pub fn names_path(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Literal(_) | Segment::Prefix(_)))
    }

    /// Whether its last segment stands for all that is left.
    #[must_use]
    pub fn is_open_ended(&self) -> bool {
        matches!(self.segments.last(), Some(Segment::Rest(_)))
    }

    /// Whether a request with this method may be for it; HEAD is taken for GET.
    #[must_use]
    pub fn covers_method(&self, method: &str) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.covers(method))
    }

    /// The same path and methods for the host of another key.
    #[must_use]
    pub fn with_host_of(&self, other: &Self) -> Self {
        Self { host: other.host.clone(), ..self.clone() }
    }

    /// Where a capture stands, the same for keys that capture the same part of a request; `None` where there is none.
    #[must_use]
    pub fn place_of(&self, capture: &str) -> Option<String> {
        let (_, slot) = self.slots().find(|(name, _)| *name == capture)?;
        Some(match slot {
            Slot::Host => "host".into(),
            Slot::Segment(at) => format!("segment {at}"),
            Slot::Rest(at) => format!("rest {at}"),
        })
    }

    /// Its captures, each after what stands before it, in which captures have no names.
    #[must_use]
    pub fn capture_stems(&self) -> Vec<(String, &str)> {
        let stem = |slot: Slot| match slot {
            Slot::Host => Self { methods: None, host: self.host.clone(), segments: Box::default() }.shape_key(),
            Slot::Segment(at) | Slot::Rest(at) => {
                let segments = self.segments.iter().take(at).cloned().collect();
                Self { methods: None, host: self.host.clone(), segments }.shape_key()
            }
        };
        self.slots().map(|(name, slot)| (stem(slot), name)).collect()
    }

    /// The host or host pattern that it names, as it is written.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        let host = self.host.as_ref()?;
        Some(match host {
            Host::Exact(name) => name.to_string(),
            Host::One { name, suffix } => format!("{{{name}}}.{suffix}"),
            Host::Many { suffix } => format!("*.{suffix}"),
            Host::Set { name, .. } => format!("{name}:"),
        })
    }

    /// Its path, as it is written.
    #[must_use]
    pub fn path(&self) -> String {
        Self { methods: None, host: None, segments: self.segments.clone() }.to_string()
    }

    /// The names of its captures, the host's first, then from left to right.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.slots().map(|(name, _)| name)
    }

    /// Each host or host pattern that it is for; `None` is every host.
    fn hosts(&self) -> impl Iterator<Item = Option<&Host>> {
        let (one, several) = match &self.host {
            Some(Host::Set { hosts, .. }) => (None, &**hosts),
            host => (Some(host.as_ref()), [].as_slice()),
        };
        one.into_iter().chain(several.iter().map(Some))
    }

    fn slots(&self) -> impl Iterator<Item = (&str, Slot)> {
        let host = match &self.host {
            Some(Host::One { name, .. }) => Some((&**name, Slot::Host)),
            Some(Host::Exact(_) | Host::Many { .. } | Host::Set { .. }) | None => None,
        };
        let path = self.segments.iter().enumerate().filter_map(|(at, segment)| match segment {
            Segment::One(Some(name)) => Some((&**name, Slot::Segment(at))),
            Segment::Rest(Some(name)) => Some((&**name, Slot::Rest(at))),
            Segment::Literal(_) | Segment::Prefix(_) | Segment::One(None) | Segment::Rest(None) => None,
        });
        host.into_iter().chain(path)
    }

    /// What makes two keys one shape: host and path without the names of captures and without methods.
    #[must_use]
    pub fn shape_key(&self) -> String {
        let mut shape = self.clone();
        shape.methods = None;
        for segment in &mut shape.segments {
            if let Segment::One(name) | Segment::Rest(name) = segment {
                *name = None;
            }
        }
        if let Some(Host::One { name, .. }) = &mut shape.host {
            *name = Box::default();
        }
        shape.to_string()
    }

    /// The shapes of all that it is for: of a set of hosts, one for each.
    #[must_use]
    pub fn shape_keys(&self) -> Vec<String> {
        let Some(Host::Set { hosts, .. }) = &self.host else { return vec![self.shape_key()] };
        let single = |host: &Host| Self { host: Some(host.clone()), ..self.clone() };
        hosts.iter().map(|host| single(host).shape_key()).collect()
    }

    /// Whether one request could match both, as far as the keys tell; case and trailing dots and spaces of
    /// literals make no difference.
    #[must_use]
    pub fn may_meet(&self, other: &Self) -> bool {
        let methods = match (&self.methods, &other.methods) {
            (Some(one), Some(two)) => one.meet(two),
            (None, _) | (_, None) => true,
        };
        let hosts = match (&self.host, &other.host) {
            (Some(one), Some(two)) => one.may_meet(two),
            (None, _) | (_, None) => true,
        };
        methods && hosts && paths_may_meet(&fold::segments(&self.segments), &fold::segments(&other.segments))
    }
}

impl Methods {
    fn new(names: Vec<Box<str>>) -> Self {
        let common = names.iter().fold(0, |all, name| all | common(name));
        Self { names: names.into(), common }
    }

    fn has(&self, method: &str) -> bool {
        match common(method) {
            0 => self.names.iter().any(|here| **here == *method),
            bit => self.common & bit != 0,
        }
    }

    /// Whether a request with this method is for one of these; HEAD is taken for GET.
    fn covers(&self, method: &str) -> bool {
        self.has(method) || (method == "HEAD" && self.has("GET"))
    }

    fn meet(&self, other: &Self) -> bool {
        self.names.iter().any(|method| other.covers(method)) || other.names.iter().any(|method| self.covers(method))
    }
}

/// A bit of its own for each common method; none for the others.
fn common(method: &str) -> u8 {
    match method {
        "GET" => 1,
        "HEAD" => 2,
        "POST" => 4,
        "PUT" => 8,
        "PATCH" => 16,
        "DELETE" => 32,
        "OPTIONS" => 64,
        "TRACE" => 128,
        _ => 0,
    }
}

impl Host {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::One { suffix, .. } => host.split_once('.').is_some_and(|(_, rest)| *rest == **suffix),
            Self::Many { suffix } => is_below(host, suffix),
            Self::Set { hosts, .. } => hosts.iter().any(|one| one.matches(host)),
        }
    }

    /// Whether every host of this is one of the other's.
    fn is_within(&self, outer: &Self) -> bool {
        match (self, outer) {
            (Self::Set { hosts, .. }, outer) => hosts.iter().all(|inner| inner.is_within(outer)),
            (inner, Self::Set { hosts, .. }) => hosts.iter().any(|outer| inner.is_within(outer)),
            (Self::Exact(name), outer) => outer.matches(name),
            (Self::One { suffix: inner, .. }, Self::One { suffix: outer, .. }) => inner == outer,
            (Self::One { suffix: inner, .. } | Self::Many { suffix: inner }, Self::Many { suffix: outer }) => {
                inner == outer || is_below(inner, outer)
            }
            (Self::One { .. } | Self::Many { .. }, Self::Exact(_)) | (Self::Many { .. }, Self::One { .. }) => false,
        }
    }

    fn may_meet(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Set { hosts, .. }, other) | (other, Self::Set { hosts, .. }) => {
                hosts.iter().any(|one| one.may_meet(other))
            }
            (Self::Exact(name), pattern) | (pattern, Self::Exact(name)) => pattern.matches(name),
            (Self::One { suffix: one, .. }, Self::One { suffix: two, .. }) => one == two,
            (Self::One { suffix: one, .. }, Self::Many { suffix: many })
            | (Self::Many { suffix: many }, Self::One { suffix: one, .. }) => one == many || is_below(one, many),
            (Self::Many { suffix: one }, Self::Many { suffix: two }) => {
                one == two || is_below(one, two) || is_below(two, one)
            }
        }
    }
}

/// Whether a host has one or more labels before this suffix.
fn is_below(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('.')).is_some_and(|rest| !rest.is_empty())
}

fn paths_may_meet(one: &[Segment], two: &[Segment]) -> bool {
    let mut lefts = one.iter();
    let mut rights = two.iter();
    loop {
        match (lefts.next(), rights.next()) {
            (None, None) | (Some(Segment::Rest(_)), _) | (_, Some(Segment::Rest(_))) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some(left), Some(right)) => {
                if !segments_may_meet(left, right) {
                    return false;
                }
            }
        }
    }
}

fn segments_may_meet(left: &Segment, right: &Segment) -> bool {
    match (left, right) {
        (Segment::Literal(one), Segment::Literal(two)) => one == two,
        (Segment::Literal(text), Segment::Prefix(prefix)) | (Segment::Prefix(prefix), Segment::Literal(text)) => {
            text.starts_with(&**prefix)
        }
        (Segment::Prefix(one), Segment::Prefix(two)) => one.starts_with(&**two) || two.starts_with(&**one),
        (Segment::One(_) | Segment::Rest(_), _) | (_, Segment::One(_) | Segment::Rest(_)) => true,
    }
}

impl Slots {
    fn of(pattern: &Pattern) -> Self {
        let (names, slots): (Vec<Box<str>>, Vec<Slot>) =
            pattern.slots().map(|(name, slot)| (Box::from(name), slot)).unzip();
        Self { names: names.into(), slots: slots.into() }
    }

    /// Reads the values from a host and a path that the pattern matches.
    fn read<'r>(&'r self, host: &'r str, path: &'r str) -> Captures<'r> {
        if self.names.is_empty() {
            return Captures::default();
        }
        let body = body(path).unwrap_or_default();
        let values = self.slots.iter().map(|slot| match slot {
            Slot::Host => host.split('.').next().unwrap_or_default(),
            Slot::Segment(at) => body.split('/').nth(*at).unwrap_or_default(),
            Slot::Rest(at) => body.splitn(at.saturating_add(1), '/').nth(*at).unwrap_or_default(),
        });
        Captures::new(&self.names, values)
    }
}

/// A path's segments with `/` between them: without its leading slash and one trailing one. `None` where it is no path.
fn body(path: &str) -> Option<&str> {
    let body = path.strip_prefix('/')?;
    Some(body.strip_suffix('/').unwrap_or(body))
}

/// A path's first segment and the rest. `None` where there is no segment left.
fn cut(body: Option<&str>) -> Option<(&str, Option<&str>)> {
    let body = body.filter(|body| !body.is_empty())?;
    Some(match body.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (body, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meet(one: &str, two: &str) -> bool {
        let (one, two) = (Pattern::parse(one).unwrap(), Pattern::parse(two).unwrap());
        assert_eq!(one.may_meet(&two), two.may_meet(&one));
        one.may_meet(&two)
    }

    #[test]
    fn keys_meet_where_one_request_could_match_both() {
        assert!(meet("/admin/**", "/admin"));
        assert!(meet("/admin/**", "/admin/users/{id}"));
        assert!(meet("/Admin/x", "/admin/X"));
        assert!(meet("/{a}/b", "/a/*"));
        assert!(meet("/a/Get*", "/a/getUser"));
        assert!(meet("/a/Get*", "/a/GetU*"));
        assert!(meet("/**", "/"));
        assert!(!meet("/admin/**", "/administrator"));
        assert!(!meet("/a/b", "/a"));
        assert!(!meet("/a/Get*", "/a/Set*"));
        assert!(!meet("/a/Get*", "/a"));
    }

    #[test]
    fn keys_meet_by_method_with_head_taken_for_get() {
        assert!(meet("GET /a", "/a"));
        assert!(meet("GET /a", "HEAD,POST /a"));
        assert!(!meet("GET /a", "POST /a"));
        assert!(!meet("HEAD /a", "POST /a"));
    }

    #[test]
    fn keys_meet_by_host() {
        assert!(meet("a.com/", "/"));
        assert!(meet("x.a.com/", "*.a.com/"));
        assert!(meet("{t}.b.a.com/", "*.a.com/"));
        assert!(meet("*.b.a.com/", "*.a.com/"));
        assert!(!meet("a.com/", "*.a.com/"));
        assert!(!meet("{t}.b.a.com/", "{t}.a.com/"));
        assert!(!meet("y.x.a.com/", "{t}.a.com/"));
        assert!(!meet("xa.com/", "*.a.com/"));
        assert!(!meet("*.a.com/", "*.b.com/"));
    }

    #[test]
    fn a_key_is_within_another_where_every_request_of_it_is() {
        let mut sets = HostSets::default();
        sets.add("api", &["api.a.com", "*.p.a.com"]).unwrap();
        sets.add("one", &["api.a.com"]).unwrap();
        sets.add("all", &["*.a.com"]).unwrap();
        let parse = |text: &str| Pattern::parse_in(text, &sets).unwrap();
        for (inner, outer) in [
            ("/pay/**", "/pay/**"),
            ("/pay", "/pay/**"),
            ("/pay/", "/pay/**"),
            ("/pay/{id}/x*", "/pay/**"),
            ("GET /pay/x", "GET,POST /pay/**"),
            ("GET,HEAD /pay/x", "GET /pay/**"),
            ("pay.a.com/pay/x", "/pay/**"),
            ("pay.a.com/x", "*.a.com/**"),
            ("{t}.a.com/x", "*.a.com/**"),
            ("{t}.b.a.com/x", "*.a.com/**"),
            ("*.b.a.com/x", "*.a.com/**"),
            ("{t}.a.com/x", "{u}.a.com/{v}"),
            ("/t/{id}/x", "/t/*/{r**}"),
            ("/t/Get*", "/t/{x}"),
            ("/t/GetUser*", "/t/Get*"),
            ("api:/x", "all:/**"),
            ("api:/x", "api:/**"),
            ("one:/x", "api:/**"),
            ("one:/x", "api.a.com/**"),
            ("api.a.com/x", "api:/**"),
            ("x.p.a.com/x", "api:/**"),
        ] {
            assert!(parse(inner).is_within(&parse(outer)), "{inner} in {outer}");
        }
        for (inner, outer) in [
            ("/**", "/pay/**"),
            ("/payments", "/pay/**"),
            ("/{x}", "/pay"),
            ("/*/x", "/pay/**"),
            ("/pay/**", "/pay/{x}"),
            ("/pay/**", "/pay"),
            ("/pay/{r**}", "/pay/{x}/**"),
            ("/Pay/x", "/pay/**"),
            ("/pay/x", "GET /pay/**"),
            ("POST /pay/x", "GET /pay/**"),
            ("GET /pay/x", "HEAD /pay/**"),
            ("/pay/x", "pay.a.com/**"),
            ("*.a.com/x", "{t}.a.com/**"),
            ("*.a.com/x", "pay.a.com/**"),
            ("a.com/x", "*.a.com/**"),
            ("xa.com/x", "*.a.com/**"),
            ("/t/{x}", "/t/Get*"),
            ("api:/x", "one:/**"),
            ("api:/x", "api.a.com/**"),
            ("all:/x", "api:/**"),
            ("/x", "api:/**"),
            ("/pay/a/b", "/pay/*"),
        ] {
            assert!(!parse(inner).is_within(&parse(outer)), "{inner} in {outer}");
        }
    }

    #[test]
    fn a_shape_has_neither_methods_nor_names() {
        let shape = |text: &str| Pattern::parse(text).unwrap().shape_key();
        assert_eq!(shape("GET {a}.x.com/{b}/{c**}"), shape("{d}.x.com/*/**"));
        assert_ne!(shape("/{a}"), shape("/a"));
        assert_ne!(shape("*.x.com/"), shape("{a}.x.com/"));
    }

    #[test]
    fn captures_are_found_by_name_and_hold_eight() {
        let names: Vec<Box<str>> = (0..8).map(|at| format!("n{at}").into()).collect();
        let captures = Captures::new(&names, ["0", "1", "2", "3", "4", "5", "6", "7"]);
        assert_eq!(captures.get("n7"), Some("7"));
        assert_eq!(captures.get("n8"), None);
        assert_eq!(captures.iter().count(), 8);
        assert_eq!(Captures::default().iter().count(), 0);
    }
}
