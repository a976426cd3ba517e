//! Whether the URL in a proof is the one that was asked for (RFC 9449 §4.3), both normalised (RFC 3986 §6.2.2, §6.2.3).

use std::borrow::Cow;

use crate::authz::request::{Request, read_host};

/// Scheme, host and port by which callers know a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    https: bool,
    host: Box<str>,
    port: u16,
}

impl Origin {
    /// Reads `https://host` or `https://host:port`, or the same with `http`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (https, rest) = scheme(text)?;
        let (host, port) = read_host(rest.as_bytes()).ok()?;
        Some(Self { https, host: host.into(), port: port.unwrap_or(default_port(https)) })
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.https { "https://" } else { "http://" })?;
        f.write_str(&self.host)?;
        if self.port == default_port(self.https) { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// Whether a URL is that of this request, where the site is known by these origins. Scheme and port are theirs, for what
/// a gateway says of the scheme may be the caller's own word; for a host of none of them the scheme is https and the
/// port that of the request, unless all are listed.
pub(super) fn is_of(url: &str, request: &Request<'_>, origins: &[Origin], all: bool) -> bool {
    let Some((https, rest)) = scheme(url) else { return false };
    // Query and fragment do not count.
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Ok((host, port)) = read_host(authority.as_bytes()) else { return false };
    let port = port.unwrap_or(default_port(https));
    let mut here = origins.iter().filter(|origin| *origin.host == *request.host).peekable();
    let known = match here.peek() {
        Some(_) => here.any(|origin| origin.https == https && origin.port == port),
        None => !all && https && port == request.port.unwrap_or(default_port(true)),
    };
    known && host == request.host && is_same_path(path.as_bytes(), request.sent)
}

/// What follows the scheme, and whether that is https.
fn scheme(url: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let https = scheme.eq_ignore_ascii_case("https");
    (https || scheme.eq_ignore_ascii_case("http")).then_some((https, rest))
}

fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

fn is_same_path(one: &[u8], two: &[u8]) -> bool {
    let same = || Some(normal(one)? == normal(two)?);
    same().unwrap_or(false)
}

/// A path with escapes only where there must be some, in upper case, and without dot segments; `None` where it is none.
fn normal(path: &[u8]) -> Option<Cow<'_, [u8]>> {
    let plain = path.first() == Some(&b'/') && path.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'%');
    if plain && !path.windows(2).any(|pair| pair == b"/.") {
        return Some(path.into());
    }
    let mut escaped = Vec::with_capacity(path.len());
    let mut rest = path.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            escaped.push(Some(byte).filter(u8::is_ascii_graphic)?);
            continue;
        }
        let (high, low) = (hex(*rest.next()?)?, hex(*rest.next()?)?);
        let byte = high << 4 | low;
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(byte);
        } else {
            let digit = |value: u8| b"0123456789ABCDEF".get(usize::from(value)).copied();
            escaped.extend([b'%', digit(high)?, digit(low)?]);
        }
    }
    Some(without_dots(&escaped).into())
}

/// RFC 3986 §5.2.4.
fn without_dots(path: &[u8]) -> Vec<u8> {
    let mut left: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let dots = matches!(segment, b"." | b"..");
        if segment == b".." {
            left.pop();
        }
        if !dots {
            left.push(segment);
        } else if segments.peek().is_none() {
            left.push(b"");
        }
    }
    [b"/", &*left.join(&b'/')].concat()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::gateways::Dialect;
    use crate::authz::request::{Asker, Raw, Relaxed};

    fn is(url: &str, host: &str, target: &str, origins: &[&str], all: bool) -> bool {
        let raw = Raw::new(Dialect::Envoy, Asker::Unix, [b"GET", target.as_bytes(), host.as_bytes()], vec![]);
        let relaxed = Relaxed { encoded_slash: true, empty_segment: true, ..Relaxed::default() };
        let origins: Vec<Origin> = origins.iter().map(|origin| Origin::parse(origin).unwrap()).collect();
        is_of(url, &Request::read(&raw, relaxed).unwrap(), &origins, all)
    }

    fn plain(url: &str, host: &str, target: &str) -> bool {
        is(url, host, target, &[], false)
    }

    #[test] // J30
    fn what_rfc_3986_calls_the_same_is_the_same() {
        for (url, host, target) in [
            ("https://api.test/a", "api.test", "/a"),
            ("https://api.test/a", "API.test.", "/a?x=1"),
            ("HTTPS://API.Test/a", "api.test", "/a"),
            ("https://api.test:443/a", "api.test", "/a"),
            ("https://api.test/a", "api.test:443", "/a"),
            ("https://api.test:8443/a", "api.test:8443", "/a"),
            ("https://api.test/a?x=1", "api.test", "/a?y=2"),
            ("https://api.test/a#f", "api.test", "/a"),
            ("https://api.test", "api.test", "/"),
            ("https://api.test?x", "api.test", "/"),
            ("https://api.test/%7Eu", "api.test", "/~u"),
            ("https://api.test/~u", "api.test", "/%7eu"),
            ("https://api.test/a%2fb", "api.test", "/a%2Fb"),
            ("https://api.test/%e2%82%ac", "api.test", "/%E2%82%AC"),
            ("https://api.test/x/../a/./b", "api.test", "/a/b"),
            ("https://api.test/x/%2E%2e/a", "api.test", "/a"),
            ("https://api.test/a/.", "api.test", "/a/"),
            ("https://api.test/../../a", "api.test", "/a"),
            ("https://api.test//a", "api.test", "//a"),
            ("https://[0:0::1]:9/a", "[::1]:9", "/a"),
        ] {
            assert!(plain(url, host, target), "{url} for {host}{target}");
        }
    }

    #[test] // J30
    fn anything_else_is_another_request() {
        for (url, host, target) in [
            ("http://api.test/a", "api.test", "/a"),
            ("https://api.test/A", "api.test", "/a"),
            ("https://api.test/a/", "api.test", "/a"),
            ("https://api.test/b", "api.test", "/a"),
            ("https://api.test/a%2Fb", "api.test", "/a/b"),
            ("https://api.test/a%252Fb", "api.test", "/a%2Fb"),
            ("https://other.test/a", "api.test", "/a"),
            ("https://api.test.evil/a", "api.test", "/a"),
            ("https://api.test:8443/a", "api.test", "/a"),
            ("https://api.test/a", "api.test:8443", "/a"),
            ("https://api.test:80/a", "api.test", "/a"),
            ("https://u@api.test/a", "api.test", "/a"),
            ("https://api.test:/a", "api.test", "/a"),
            ("https://api.test\\a", "api.test", "/a"),
            ("https:/api.test/a", "api.test", "/a"),
            ("//api.test/a", "api.test", "/a"),
            ("/a", "api.test", "/a"),
            ("wss://api.test/a", "api.test", "/a"),
            ("https://api.test/a b", "api.test", "/a%20b"),
            ("https://api.test/a%2", "api.test", "/a"),
            ("https://api.test/a%zz", "api.test", "/a"),
            ("https://api.test/\u{20ac}", "api.test", "/%E2%82%AC"),
            (" https://api.test/a", "api.test", "/a"),
            ("", "api.test", "/"),
        ] {
            assert!(!plain(url, host, target), "{url} for {host}{target}");
        }
    }

    #[test]
    fn scheme_and_port_are_those_by_which_the_site_is_known() {
        let dev = &["http://localhost:8080"];
        assert!(is("http://localhost:8080/a", "localhost:8080", "/a", dev, false));
        assert!(is("http://localhost:8080/a", "localhost", "/a", dev, false), "a terminator may change the port");
        assert!(!is("https://localhost/a", "localhost", "/a", dev, false));
        assert!(!is("http://localhost/a", "localhost:80", "/a", dev, false));
        assert!(is("https://other.test/a", "other.test", "/a", dev, false));
        assert!(!is("https://other.test/a", "other.test", "/a", dev, true), "all are listed");
        let two = &["https://api.test", "https://api.test:8443"];
        assert!(is("https://api.test:8443/a", "api.test", "/a", two, true));
        assert!(is("https://api.test/a", "api.test", "/a", two, true));
        assert!(!is("https://api.test:9443/a", "api.test:9443", "/a", two, true));
    }
}
