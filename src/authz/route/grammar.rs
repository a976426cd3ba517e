//! The text of a route key: read into a pattern, and printed so that reading it again gives the same pattern.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::fault::{PatternError, PatternFault};
use super::{Host, HostSets, MAX_CAPTURES, MAX_SEGMENTS, Methods, Pattern, Segment, fold};

type Read<T> = Result<T, PatternError>;

/// A piece of the key's text, with the byte that it starts at.
#[derive(Clone, Copy)]
struct Piece<'t> {
    text: &'t str,
    start: usize,
}

impl<'t> Piece<'t> {
    fn fault<T>(self, kind: PatternFault) -> Read<T> {
        Err(PatternError { at: self.start..self.start.saturating_add(self.text.len()), kind })
    }

    fn char_fault<T>(self, at: usize, c: char, kind: PatternFault) -> Read<T> {
        let start = self.start.saturating_add(at);
        Err(PatternError { at: start..start.saturating_add(c.len_utf8()), kind })
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (left, right) = self.text.split_at_checked(at).unwrap_or((self.text, ""));
        let middle = self.start.saturating_add(left.len());
        (Self { text: left, start: self.start }, Self { text: right, start: middle })
    }

    /// Its parts between these characters.
    fn split(self, separator: char) -> impl Iterator<Item = Self> {
        let mut start = self.start;
        self.text.split(separator).map(move |text| {
            let piece = Piece { text, start };
            start = start.saturating_add(text.len()).saturating_add(separator.len_utf8());
            piece
        })
    }
}

pub(super) fn pattern(text: &str, sets: &HostSets) -> Read<Pattern> {
    let whole = Piece { text, start: 0 };
    let Some(slash) = text.find('/') else {
        return whole.fault(PatternFault::NoPath);
    };
    let (before, path) = whole.split_at(slash);
    let (methods, host) = match before.text.rfind(' ') {
        None => (None, before),
        Some(space) => {
            let (methods, rest) = before.split_at(space);
            (Some(self::methods(methods)?), rest.split_at(1).1)
        }
    };
    let host = if host.text.is_empty() { None } else { Some(self::host(host, sets)?) };
    let pattern = Pattern { methods, host, segments: segments(path)? };
    let names: Vec<&str> = pattern.captures().collect();
    if names.len() > MAX_CAPTURES {
        return whole.fault(PatternFault::TooManyCaptures);
    }
    if names.iter().enumerate().any(|(at, name)| names.iter().take(at).any(|earlier| earlier == name)) {
        return whole.fault(PatternFault::CaptureTwice);
    }
    Ok(pattern)
}

fn methods(piece: Piece<'_>) -> Read<Methods> {
    let mut methods: Vec<Box<str>> = Vec::new();
    for method in piece.split(',') {
        let text = method.text;
        let token = text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.chars().all(|c| c.is_ascii_uppercase() || matches!(c, '-' | '_'));
        if !token {
            return method.fault(PatternFault::BadMethod);
        }
        if text == "CONNECT" {
            return method.fault(PatternFault::Connect);
        }
        if methods.iter().any(|earlier| **earlier == *text) {
            return method.fault(PatternFault::MethodTwice);
        }
        methods.push(text.into());
    }
    Ok(Methods::new(methods))
}

/// A host or a host pattern by itself.
pub(super) fn single_host(text: &str) -> Read<Host> {
    host(Piece { text, start: 0 }, &HostSets::default())
}

fn host(piece: Piece<'_>, sets: &HostSets) -> Read<Host> {
    let text = piece.text;
    if text.starts_with('[') {
        return address(piece);
    }
    if let Some(colon) = text.find(':') {
        let (name, port) = piece.split_at(colon);
        return match port.text {
            ":" => sets.host(name.text).map_or_else(|| piece.fault(PatternFault::UnknownHosts), Ok),
            _ if port.text.chars().skip(1).all(|c| c.is_ascii_digit()) => port.fault(PatternFault::Port),
            _ => piece.fault(PatternFault::BadHost),
        };
    }
    let Some((first, suffix)) = text.split_once('.').filter(|(first, _)| first.contains(['*', '{', '}'])) else {
        return Ok(Host::Exact(if text.contains(['*', '{', '}']) {
            return piece.fault(PatternFault::BadHostPattern);
        } else {
            host_name(piece, text)?
        }));
    };
    if suffix.contains(['*', '{', '}']) {
        return piece.fault(PatternFault::BadHostPattern);
    }
    let suffix = host_name(piece, suffix)?;
    if suffix.parse::<Ipv4Addr>().is_ok() {
        return piece.fault(PatternFault::BadHostPattern);
    }
    if first == "*" {
        return Ok(Host::Many { suffix });
    }
    match first.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
        Some(name) if is_capture_name(name) => Ok(Host::One { name: name.into(), suffix }),
        Some(_) => piece.fault(PatternFault::BadCapture),
        None => piece.fault(PatternFault::BadHostPattern),
    }
}

fn address(piece: Piece<'_>) -> Read<Host> {
    let Some(end) = piece.text.find(']') else {
        return piece.fault(PatternFault::BadAddress);
    };
    let (literal, port) = piece.split_at(end.saturating_add(1));
    if port.text.starts_with(':') {
        return port.fault(PatternFault::Port);
    }
    let inner = literal.text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).map(str::parse::<Ipv6Addr>);
    match inner {
        Some(Ok(address)) if port.text.is_empty() => Ok(Host::Exact(format!("[{address}]").into())),
        _ => piece.fault(PatternFault::BadAddress),
    }
}

/// A name of labels, in lower case; one that ends in a number is an IPv4 address or nothing.
fn host_name(piece: Piece<'_>, text: &str) -> Read<Box<str>> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    if text.len() > 253 || !text.split('.').all(label) {
        return piece.fault(PatternFault::BadHost);
    }
    let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric && text.parse::<Ipv4Addr>().is_err() {
        return piece.fault(PatternFault::BadAddress);
    }
    Ok(text.to_ascii_lowercase().into())
}

fn segments(path: Piece<'_>) -> Read<Box<[Segment]>> {
    let (_, body) = path.split_at(1);
    let text = body.text.strip_suffix('/').unwrap_or(body.text);
    let body = Piece { text, start: body.start };
    if text.is_empty() {
        return if path.text.len() > 1 { path.fault(PatternFault::EmptySegment) } else { Ok(Box::default()) };
    }
    let mut segments: Vec<Segment> = Vec::new();
    let mut last = body;
    for piece in body.split('/') {
        match segments.last() {
            Some(Segment::Rest(_)) => return last.fault(PatternFault::RestNotLast),
            Some(Segment::Prefix(_)) => return last.fault(PatternFault::PrefixNotLast),
            Some(Segment::Literal(_) | Segment::One(_)) | None => {}
        }
        if segments.len() >= MAX_SEGMENTS {
            return piece.fault(PatternFault::TooManySegments);
        }
        segments.push(segment(piece)?);
        last = piece;
    }
    Ok(segments.into())
}

fn segment(piece: Piece<'_>) -> Read<Segment> {
    match piece.text {
        "" => {
            return Err(PatternError {
                at: piece.start.saturating_sub(1)..piece.start,
                kind: PatternFault::EmptySegment,
            });
        }
        "*" => return Ok(Segment::One(None)),
        "**" => return Ok(Segment::Rest(None)),
        _ => {}
    }
    if let Some(name) = piece.text.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
        return match name.strip_suffix("**") {
            Some(name) if is_capture_name(name) => Ok(Segment::Rest(Some(name.into()))),
            None if is_capture_name(name) => Ok(Segment::One(Some(name.into()))),
            _ => piece.fault(PatternFault::BadCapture),
        };
    }
    let prefix = piece.text.strip_suffix('*');
    let text = literal(Piece { text: prefix.unwrap_or(piece.text), ..piece })?;
    if prefix.is_some() {
        if text.contains(['?', '#']) {
            return piece.fault(PatternFault::Loose);
        }
        return Ok(Segment::Prefix(text));
    }
    if matches!(&*text, "." | "..") {
        return piece.fault(PatternFault::DotSegment);
    }
    if fold::is_loose(&text) {
        return piece.fault(PatternFault::Loose);
    }
    Ok(Segment::Literal(text))
}

/// Decodes a literal, in which nothing has a meaning but `%`.
fn literal(piece: Piece<'_>) -> Read<Box<str>> {
    for (at, c) in piece.text.char_indices() {
        match c {
            '*' => return piece.fault(PatternFault::Star),
            '{' | '}' => return piece.fault(PatternFault::Brace),
            '?' | '#' | ';' | '\\' => return piece.char_fault(at, c, PatternFault::BadChar(c)),
            c if c.is_whitespace() || c.is_control() => {
                return piece.char_fault(at, c, PatternFault::BadChar(c));
            }
            _ => {}
        }
    }
    let mut bytes = Vec::with_capacity(piece.text.len());
    let mut rest = piece.text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = if byte == b'%' { rest.next().and_then(hex).zip(rest.next().and_then(hex)) } else { None };
        match decoded {
            Some((high, low)) => bytes.push((high << 4) | low),
            None if byte == b'%' => return piece.fault(PatternFault::BadEscape),
            None => bytes.push(byte),
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.contains(|c: char| c == '/' || c.is_control()) => piece.fault(PatternFault::Refused),
        Ok(text) => Ok(text.into()),
        Err(_) => piece.fault(PatternFault::BadEscape),
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Whether this can name a capture.
pub(in crate::authz) fn is_capture_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(methods) = &self.methods {
            write!(f, "{} ", methods.names.join(","))?;
        }
        match &self.host {
            None => {}
            Some(Host::Exact(name)) => f.write_str(name)?,
            Some(Host::One { name, suffix }) => write!(f, "{{{name}}}.{suffix}")?,
            Some(Host::Many { suffix }) => write!(f, "*.{suffix}")?,
            Some(Host::Set { name, .. }) => write!(f, "{name}:")?,
        }
        if self.segments.is_empty() {
            return f.write_str("/");
        }
        self.segments.iter().try_for_each(|segment| write!(f, "/{segment}"))
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => escaped(text, f),
            Self::Prefix(text) => {
                escaped(text, f)?;
                f.write_str("*")
            }
            Self::One(None) => f.write_str("*"),
            Self::One(Some(name)) => write!(f, "{{{name}}}"),
            Self::Rest(None) => f.write_str("**"),
            Self::Rest(Some(name)) => write!(f, "{{{name}**}}"),
        }
    }
}

fn escaped(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    text.chars().try_for_each(|c| {
        if matches!(c, '%' | '*' | '{' | '}' | '?' | '#' | ';' | '\\') || c.is_whitespace() {
            let mut bytes = [0; 4];
            return c.encode_utf8(&mut bytes).bytes().try_for_each(|byte| write!(f, "%{byte:02X}"));
        }
        write!(f, "{c}")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wrong(text: &str) -> (String, PatternFault) {
        let error = Pattern::parse(text).expect_err(text);
        assert!(!error.to_string().is_empty());
        (text.get(error.at).unwrap().to_owned(), error.kind)
    }

    fn parse(text: &str) -> Pattern {
        Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error} at {:?}", error.at))
    }

    #[test]
    fn a_key_is_methods_host_and_path() {
        for text in [
            "/",
            "/**",
            "GET /health",
            "GET,POST /orders/{id}",
            "api.example.com/orders/*",
            "PUT *.example.com/{rest**}",
            "{tenant}.example.com/a/{id}/b",
            "POST /pkg.Service/Get*",
            "[::1]/x",
            "192.0.2.7/x",
            "M-SEARCH,BASELINE-CONTROL /x",
            "/caf\u{e9}/a:b@c,d+e=f&g!$'()~",
        ] {
            assert_eq!(parse(text).to_string(), text);
        }
        assert_eq!(parse("API.Example.COM/X").to_string(), "api.example.com/X");
        assert_eq!(parse("[2001:DB8:0::1]/x").to_string(), "[2001:db8::1]/x");
        assert_eq!(parse("/a/").to_string(), "/a");
        assert_eq!(parse("/admin/**/"), parse("/admin/**"));
        assert_eq!(parse("/a%20b/%7bc%7D/%41%2a/%e2%82%ac").to_string(), "/a%20b/%7Bc%7D/A%2A/\u{20ac}");
        assert_eq!(parse("{t}.a.com/{x}/{y**}").captures().collect::<Vec<_>>(), ["t", "x", "y"]);
        assert_eq!(parse("GET,POST /x").methods().collect::<Vec<_>>(), ["GET", "POST"]);
    }

    #[test]
    fn a_path_segment_must_be_able_to_match() {
        assert_eq!(wrong("admin"), ("admin".into(), PatternFault::NoPath));
        assert_eq!(wrong(""), (String::new(), PatternFault::NoPath));
        assert_eq!(wrong("/a//b"), ("/".into(), PatternFault::EmptySegment));
        assert_eq!(wrong("//"), ("//".into(), PatternFault::EmptySegment));
        assert_eq!(wrong("/a//"), ("/".into(), PatternFault::EmptySegment));
        assert_eq!(wrong("/a/../b"), ("..".into(), PatternFault::DotSegment));
        assert_eq!(wrong("/a/%2e"), ("%2e".into(), PatternFault::DotSegment));
        assert_eq!(wrong("/a/b?x=1"), ("?".into(), PatternFault::BadChar('?')));
        assert_eq!(wrong("/a#b"), ("#".into(), PatternFault::BadChar('#')));
        assert_eq!(wrong("/a;b"), (";".into(), PatternFault::BadChar(';')));
        assert_eq!(wrong("/a\\b"), ("\\".into(), PatternFault::BadChar('\\')));
        assert_eq!(wrong("/a b"), (" ".into(), PatternFault::BadChar(' ')));
        assert_eq!(wrong("/a%2fb"), ("a%2fb".into(), PatternFault::Refused));
        assert_eq!(wrong("/a%00"), ("a%00".into(), PatternFault::Refused));
        for text in ["/%", "/%4", "/%zz", "/%+1", "/%ff", "/%c0%ae"] {
            assert_eq!(wrong(text).1, PatternFault::BadEscape, "{text}");
        }
        for text in ["/v1.", "/a%20", "/a%3Fb", "/a%23", "/a%3fb*", "/..."] {
            assert_eq!(wrong(text).1, PatternFault::Loose, "{text}");
        }
    }

    #[test]
    fn wildcards_and_captures_are_whole_segments_and_the_rest_is_last() {
        assert_eq!(wrong("/**/a"), ("**".into(), PatternFault::RestNotLast));
        assert_eq!(wrong("/{r**}/a"), ("{r**}".into(), PatternFault::RestNotLast));
        assert_eq!(wrong("/Get*/a"), ("Get*".into(), PatternFault::PrefixNotLast));
        assert_eq!(wrong("/*.js"), ("*.js".into(), PatternFault::Star));
        assert_eq!(wrong("/a**"), ("a*".into(), PatternFault::Star));
        assert_eq!(wrong("/***"), ("**".into(), PatternFault::Star));
        assert_eq!(wrong("/a{b}"), ("a{b}".into(), PatternFault::Brace));
        for name in ["", "1a", "a b", "a.b", "a*", "-a", "\u{e9}"] {
            assert_eq!(wrong(&format!("/{{{name}}}")).1, PatternFault::BadCapture, "{name}");
        }
        assert_eq!(wrong("/{a}/{a}").1, PatternFault::CaptureTwice);
        assert_eq!(wrong("{a}.b.com/{a}").1, PatternFault::CaptureTwice);
        assert_eq!(wrong("/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}").1, PatternFault::TooManyCaptures);
        assert_eq!(wrong(&"/a".repeat(65)), ("a".into(), PatternFault::TooManySegments));
    }

    #[test]
    fn methods_are_tokens_in_upper_case() {
        assert_eq!(wrong("get /x"), ("get".into(), PatternFault::BadMethod));
        assert_eq!(wrong("GET, POST /x"), (" POST".into(), PatternFault::BadMethod));
        assert_eq!(wrong("GET,post /x"), ("post".into(), PatternFault::BadMethod));
        assert_eq!(wrong("GET  /x"), ("GET ".into(), PatternFault::BadMethod));
        assert_eq!(wrong(" /x"), (String::new(), PatternFault::BadMethod));
        assert_eq!(wrong("GET,GET /x"), ("GET".into(), PatternFault::MethodTwice));
        assert_eq!(wrong("GET,CONNECT /x"), ("CONNECT".into(), PatternFault::Connect));
    }

    #[test]
    fn hosts_are_names_addresses_or_one_leading_pattern_and_have_no_port() {
        assert_eq!(wrong("a.com:443/x"), (":443".into(), PatternFault::Port));
        assert_eq!(wrong("[::1]:80/x"), (":80".into(), PatternFault::Port));
        assert_eq!(wrong("GET api:/x"), ("api:".into(), PatternFault::UnknownHosts));
        assert_eq!(wrong("https://a.com/x"), ("https:".into(), PatternFault::UnknownHosts));
        assert_eq!(wrong("a.com:b/x").1, PatternFault::BadHost);
        for host in ["a..com", "a.com.", ".com", "-a.com", "a-.com", "a@b.com", "b\u{fc}cher.de", "a,b"] {
            assert_eq!(wrong(&format!("{host}/x")).1, PatternFault::BadHost, "{host}");
        }
        assert_eq!(wrong(&format!("{}.com/x", "a".repeat(64))).1, PatternFault::BadHost);
        assert_eq!(wrong(&format!("{}com/x", "a.".repeat(126))).1, PatternFault::BadHost);
        for host in ["*", "{x}", "*a.com", "a.*.com", "*.*.com", "a{x}.com", "*.0.0.1"] {
            let fault = wrong(&format!("{host}/x")).1;
            assert!(matches!(fault, PatternFault::BadHostPattern | PatternFault::BadAddress), "{host} {fault:?}");
        }
        assert_eq!(wrong("{1}.com/x").1, PatternFault::BadCapture);
        for host in ["1.2.3", "256.1.1.1", "a.1", "[::1", "[::1[]", "[[::1]", "[x]", "[::1]a"] {
            assert_eq!(wrong(&format!("{host}/x")).1, PatternFault::BadAddress, "{host}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn a_printed_key_reads_as_the_same_key(
            methods in prop::sample::select(vec!["", "GET ", "GET,POST ", "X-Y_Z "]),
            host in "|([A-Za-z0-9_]{1,4}\\.|\\*\\.|\\{h\\}\\.)[a-z]{1,3}(\\.[a-z]{2})?|\\[::[0-9]\\]",
            path in "(/([a-zA-Z%.é~:]|%2[05A]|%7B|%C3%A9){1,6}){0,3}(/|/\\*|/\\*\\*|/\\{a\\}|/\\{a\\*\\*\\}|/[a-z]\\*)?",
        ) {
            let text = format!("{methods}{host}{path}");
            if let Ok(pattern) = Pattern::parse(&text) {
                prop_assert_eq!(Pattern::parse(&pattern.to_string()), Ok(pattern), "{}", text);
            }
        }

        #[test]
        fn any_text_is_a_key_or_an_error_that_points_into_it(text in "([a-zA-Z:%*{}.?\\[\\] é/]|/\\*\\*|GET |\\{a\\}){0,12}") {
            match Pattern::parse(&text) {
                Ok(pattern) => prop_assert_eq!(Pattern::parse(&pattern.to_string()), Ok(pattern)),
                Err(error) => prop_assert!(text.get(error.at.clone()).is_some(), "{:?}", error),
            }
        }
    }
}
