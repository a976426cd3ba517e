//! Which pages of other origins may read answers: the origins of `cors:`, by host or by route.

use super::route::{Found, Pattern, RouteId, Table};

/// The policy's `cors:`, by host pattern; the most specific counts.
#[derive(Debug, Default)]
pub struct Cors {
    hosts: Table,
    names: Box<[Box<str>]>,
    sharing: Box<[Sharing]>,
}

/// The origins whose pages may read answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// The origins.
    pub origins: Box<[Origin]>,
    /// Whether their pages may send cookies.
    pub credentials: bool,
}

/// An origin of the list, in the form in which browsers send it (RFC 6454 §6.2): compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This one.
    Exact(Box<str>),
    /// Those with exactly one label between these two: `https://` and `.app.example.com`.
    OneLabel(Box<str>, Box<str>),
}

/// A page that may read a denial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its origin.
    pub origin: Box<str>,
    /// Whether it may send cookies.
    pub credentials: bool,
}

impl Cors {
    /// What is shared with whom, by patterns over hosts; `None` where two patterns are for the same hosts.
    #[must_use]
    pub fn new(hosts: Vec<(Pattern, Sharing)>) -> Option<Self> {
        let (patterns, sharing): (Vec<_>, Vec<_>) = hosts.into_iter().unzip();
        let names = patterns.iter().map(|pattern| pattern.host().unwrap_or_default().into()).collect();
        let hosts = Table::build((0..).map(RouteId).zip(patterns)).ok()?;
        Some(Self { hosts, names, sharing: sharing.into() })
    }

    /// What the policy says, by host or host pattern as it writes it; an empty one is for all hosts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Sharing)> {
        self.names.iter().map(|name| &**name).zip(&self.sharing)
    }

    /// What the policy says of a host.
    #[must_use]
    pub fn of(&self, host: &str) -> Option<&Sharing> {
        match self.hosts.find(host, "GET", "/") {
            Found::Route(RouteId(at), _) => self.sharing.get(usize::try_from(at).ok()?),
            Found::NoRoute | Found::UnknownHost => None,
        }
    }
}

impl Sharing {
    /// The origin that a request named, if it is of the list.
    #[must_use]
    pub fn lists(&self, origin: &[u8]) -> Option<Listed> {
        let is_listed = self.origins.iter().any(|listed| listed.is(origin));
        let origin = std::str::from_utf8(origin).ok().filter(|_| is_listed)?;
        Some(Listed { origin: origin.into(), credentials: self.credentials })
    }
}

impl Origin {
    /// An origin as the policy has it, `*.` standing for the one label.
    #[must_use]
    pub fn new(written: &str) -> Self {
        match written.split_once("*.") {
            Some((scheme, rest)) => Self::OneLabel(scheme.into(), format!(".{rest}").into()),
            None => Self::Exact(written.into()),
        }
    }

    /// As the policy writes it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Exact(exact) => exact.to_string(),
            Self::OneLabel(scheme, rest) => format!("{scheme}*{rest}"),
        }
    }

    fn is(&self, origin: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes() == origin,
            Self::OneLabel(scheme, rest) => {
                let label = origin.strip_prefix(scheme.as_bytes()).and_then(|o| o.strip_suffix(rest.as_bytes()));
                label.is_some_and(|label| {
                    (1..=63).contains(&label.len())
                        && label.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sharing(origins: &[&str]) -> Sharing {
        Sharing { origins: origins.iter().map(|origin| Origin::new(origin)).collect(), credentials: false }
    }

    #[test]
    fn an_origin_is_compared_byte_by_byte() {
        let sharing = sharing(&["https://app.test", "http://localhost:3000"]);
        assert_eq!(&*sharing.lists(b"https://app.test").unwrap().origin, "https://app.test");
        for origin in [
            "http://app.test",
            "https://app.test:443",
            "https://app.test:8443",
            "HTTPS://app.test",
            "https://APP.test",
            "https://app.test.",
            "https://app.test/",
            "https://app.test.evil.test",
            "https://evil-app.test",
            "https://app.test@evil.test",
            "https://app.test,https://app.test",
            "null",
            "",
            "http://localhost",
        ] {
            assert_eq!(sharing.lists(origin.as_bytes()), None, "{origin}");
        }
    }

    #[test]
    fn a_star_is_exactly_one_label() {
        let sharing = sharing(&["https://*.app.test:8443"]);
        for origin in ["https://a.app.test:8443", "https://pr-17.app.test:8443"] {
            assert!(sharing.lists(origin.as_bytes()).is_some(), "{origin}");
        }
        for origin in [
            "https://app.test:8443",
            "https://.app.test:8443",
            "https://a.b.app.test:8443",
            "https://a.app.test",
            "http://a.app.test:8443",
            "https://A.app.test:8443",
            "https://a/.app.test:8443",
            "https://evil.test/x.app.test:8443",
            "https://evil.test:1.app.test:8443",
            "https://a\u{e9}.app.test:8443",
        ] {
            assert_eq!(sharing.lists(origin.as_bytes()), None, "{origin}");
        }
        let long = format!("https://{}.app.test:8443", "a".repeat(64));
        assert_eq!(sharing.lists(long.as_bytes()), None);
    }

    #[test]
    fn the_most_specific_host_counts() {
        let host = |host: &str, origin: &str| (Pattern::parse(&format!("{host}/**")).unwrap(), sharing(&[origin]));
        let of = vec![host("", "https://1"), host("*.b.test", "https://2"), host("a.b.test", "https://3")];
        let cors = Cors::new(of).unwrap();
        let first = |name: &str| cors.of(name).map(|sharing| sharing.origins[0].clone());
        assert_eq!(first("c.test"), Some(Origin::new("https://1")));
        assert_eq!(first("c.b.test"), Some(Origin::new("https://2")));
        assert_eq!(first("a.b.test"), Some(Origin::new("https://3")));
        assert!(Cors::new(vec![host("{x}.a.test", "https://1"), host("{y}.a.test", "https://2")]).is_none());
        assert!(Cors::default().of("a.test").is_none());
    }
}
