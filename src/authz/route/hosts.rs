//! Named sets of hosts, which a route key writes as `name:/path`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Host, PatternError, PatternFault, grammar};

/// Named sets of hosts and host patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostSets(BTreeMap<Box<str>, Arc<[Host]>>);

/// What is wrong with a set of hosts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostFault {
    /// The name of the set.
    #[error("the name of a set of hosts is a letter, then letters, digits, `_` and `-`")]
    Name,
    /// A set of this name is there.
    #[error("there is a set of this name already")]
    NameTwice,
    /// One of the hosts, by its place in the list.
    #[error("{1}")]
    Host(usize, PatternError),
    /// A host captures something.
    #[error("a host of a set captures nothing; write `*.example.com` for one or more labels before it")]
    Capture(usize),
    /// A host is there twice; the places of both.
    #[error("this host is in the set twice")]
    Twice(usize, usize),
}

impl HostSets {
    /// Adds a set.
    ///
    /// # Errors
    /// Where its name is no name, or one of its hosts is no host.
    pub fn add(&mut self, name: &str, hosts: &[&str]) -> Result<(), HostFault> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(plain) {
            return Err(HostFault::Name);
        }
        if self.0.contains_key(name) {
            return Err(HostFault::NameTwice);
        }
        let mut read: Vec<Host> = Vec::with_capacity(hosts.len());
        for (at, text) in hosts.iter().enumerate() {
            let host = grammar::single_host(text).map_err(|error| HostFault::Host(at, error))?;
            match &host {
                Host::One { .. } => return Err(HostFault::Capture(at)),
                Host::Exact(_) | Host::Many { .. } | Host::Set { .. } => {}
            }
            if let Some(first) = read.iter().position(|earlier| *earlier == host) {
                return Err(HostFault::Twice(first, at));
            }
            read.push(host);
        }
        self.0.insert(name.into(), read.into());
        Ok(())
    }

    /// The names of the sets.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|name| &**name)
    }

    /// Names and hosts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Vec<String>)> {
        let text =
            |host: &Host| super::Pattern { methods: None, host: Some(host.clone()), segments: Box::default() }.host();
        self.0.iter().map(move |(name, hosts)| (&**name, hosts.iter().filter_map(text).collect()))
    }

    pub(super) fn host(&self, name: &str) -> Option<Host> {
        self.0.get(name).map(|hosts| Host::Set { name: name.into(), hosts: Arc::clone(hosts) })
    }
}

impl HostFault {
    /// What is wrong with the text of a host, if that is it.
    #[must_use]
    pub fn kind(&self) -> Option<PatternFault> {
        if let Self::Host(_, error) = self { Some(error.kind) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cover, Found, Pattern, RouteId, Table};
    use super::*;

    fn sets() -> HostSets {
        let mut sets = HostSets::default();
        sets.add("api", &["api.example.com", "*.preview.example.com"]).unwrap();
        sets.add("web", &["www.example.com", "192.0.2.7", "[::1]"]).unwrap();
        sets
    }

    #[test]
    fn a_key_of_a_set_is_one_route_of_all_its_hosts() {
        let sets = sets();
        let parse = |text: &str| Pattern::parse_in(text, &sets).unwrap();
        assert_eq!(parse("GET api:/orders/**").to_string(), "GET api:/orders/**");
        assert_eq!((parse("api:/x").host(), parse("api:/x").host_set()), (Some("api:".into()), Some("api")));
        let keys = ["api:/orders/**", "*.preview.example.com/orders/x", "web:/orders/{id}", "/orders/**"];
        let table = Table::build((0..).map(RouteId).zip(keys.map(parse))).unwrap();
        let reach = |host: &str, path: &str| match table.find(host, "GET", path) {
            Found::Route(RouteId(id), _) => keys[usize::try_from(id).unwrap()],
            Found::NoRoute | Found::UnknownHost => "none",
        };
        assert_eq!(reach("api.example.com", "/orders/x"), keys[0]);
        assert_eq!(reach("a.b.preview.example.com", "/orders/x"), keys[1]);
        assert_eq!(reach("a.b.preview.example.com", "/orders/y"), keys[0]);
        assert_eq!(reach("[::1]", "/orders/y"), keys[2]);
        assert_eq!(reach("other.example.com", "/orders/y"), keys[3]);
        let cover = Cover::build(vec![(7, parse("api:/orders/**"))]);
        for (host, expected) in [("api.example.com", 1), ("x.preview.example.com", 1), ("www.example.com", 0)] {
            let mut count = 0;
            cover.for_each(host, "GET", "/ORDERS/x", |_, _| count += 1);
            assert_eq!(count, expected, "{host}");
        }
    }

    #[test]
    fn keys_of_sets_that_share_a_host_clash() {
        let mut sets = sets();
        sets.add("both", &["api.example.com", "b.example.com"]).unwrap();
        let parse = |text: &str| Pattern::parse_in(text, &sets).unwrap();
        for other in ["both:/x", "api.example.com/x", "*.preview.example.com/x"] {
            let clashes = Table::build([(RouteId(0), parse("api:/x")), (RouteId(1), parse(other))]).unwrap_err();
            assert_eq!(clashes.len(), 1, "{other}");
            assert!(parse("api:/x").shape_keys().iter().any(|key| parse(other).shape_keys().contains(key)));
            assert!(parse("api:/x").may_meet(&parse(other)) && parse(other).may_meet(&parse("api:/x")));
        }
        assert!(Table::build([(RouteId(0), parse("api:/x")), (RouteId(1), parse("web:/x"))]).is_ok());
        assert!(!parse("api:/x").may_meet(&parse("web:/x")));
    }

    #[test]
    fn a_set_has_a_name_and_hosts_each_once() {
        let add = |name: &str, hosts: &[&str]| HostSets::default().add(name, hosts).unwrap_err();
        assert_eq!(add("1a", &[]), HostFault::Name);
        assert_eq!(add("a.b", &[]), HostFault::Name);
        assert_eq!(sets().add("api", &[]), Err(HostFault::NameTwice));
        assert_eq!(add("a", &["x.com", "{t}.x.com"]), HostFault::Capture(1));
        assert_eq!(add("a", &["x.com", "*.x.com", "X.com"]), HostFault::Twice(0, 2));
        assert_eq!(add("a", &["x.com:443"]).kind(), Some(PatternFault::Port));
        assert_eq!(add("a", &["api:"]).kind(), Some(PatternFault::UnknownHosts));
        assert_eq!(add("a", &["*"]).kind(), Some(PatternFault::BadHostPattern));
        assert_eq!(add("a", &["x.com/y"]).kind(), Some(PatternFault::BadHost));
        assert_eq!(Pattern::parse_in("other:/x", &sets()).unwrap_err().kind, PatternFault::UnknownHosts);
        assert_eq!(Pattern::parse("api:/x").unwrap_err().at, 0..4);
    }
}
