//! The text of a route key: read into a pattern, and printed so that reading it again gives the same pattern.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::fault::{PatternError, PatternFault};
use super::{Host, MAX_CAPTURES, MAX_SEGMENTS, Methods, Pattern, Segment, fold};

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

pub(super) fn pattern(text: &str) -> Read<Pattern> {
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
    let host = if host.text.is_empty() { None } else { Some(self::host(host)?) };
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
    Ok(Methods(methods.into()))
}

fn host(piece: Piece<'_>) -> Read<Host> {
    let text = piece.text;
    if text.starts_with('[') {
        return address(piece);
    }
    if let Some(colon) = text.find(':') {
        let (_, port) = piece.split_at(colon);
        return match port.text {
            ":" => piece.fault(PatternFault::NamedHostsNotYet),
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
    let inner = literal.text.trim_matches(['[', ']']);
    match inner.parse::<Ipv6Addr>() {
        Ok(address) if port.text.is_empty() => Ok(Host::Exact(format!("[{address}]").into())),
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
            write!(f, "{} ", methods.0.join(","))?;
        }
        match &self.host {
            None => {}
            Some(Host::Exact(name)) => f.write_str(name)?,
            Some(Host::One { name, suffix }) => write!(f, "{{{name}}}.{suffix}")?,
            Some(Host::Many { suffix }) => write!(f, "*.{suffix}")?,
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
