//! A request read as docs/policy.md says: its host, its path, what is refused, and the other ways to read a path.

use super::model::{Policy, Question};
use super::seen::note;

/// A code of docs/reasons.md.
pub type Code = &'static str;

pub struct Read {
    pub method: String,
    pub host: String,
    /// Decoded; no segment is empty.
    pub path: Vec<String>,
}

pub fn read(policy: &Policy, question: &Question) -> Result<Read, Code> {
    let target = question.target.split('?').next().unwrap();
    if question.method == "CONNECT" || question.target.is_empty() {
        return Err("path_missing");
    }
    if !question.method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_')
        || !question.method.starts_with(|first: char| first.is_ascii_uppercase())
    {
        return Err("method_malformed");
    }
    if question.lines.iter().any(|(name, _)| !name.starts_with(':') && !is_token(name)) {
        return Err("header_malformed");
    }
    let path = path(policy, target)?;
    let host = host(&question.host)?;
    if !question.lines.iter().any(|(name, _)| name == ":method") {
        return Err("headers_filtered");
    }
    Ok(Read { method: question.method.clone(), host, path })
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

fn host(text: &str) -> Result<String, Code> {
    if text.contains(',') {
        return Err("host_ambiguous");
    }
    let name = match text.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) => return Err("host_malformed"),
        None => text,
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_lowercase();
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if name.split('.').all(label) { Ok(name) } else { Err("host_malformed") }
}

fn path(policy: &Policy, target: &str) -> Result<Vec<String>, Code> {
    let relaxed = |what: &'static str| {
        let is_relaxed = policy.paths.contains(&what);
        if is_relaxed {
            note(what);
        }
        is_relaxed
    };
    if !target.starts_with('/') || target.len() > 8_192 {
        return Err("path_malformed");
    }
    let decoded = decode(target, relaxed)?;
    let mut segments: Vec<String> = decoded.split('/').skip(1).map(str::to_owned).collect();
    if segments.last().is_some_and(String::is_empty) {
        segments.pop();
    }
    if segments.iter().any(String::is_empty) && relaxed("empty_segment") {
        segments.retain(|segment| !segment.is_empty());
    }
    for segment in &segments {
        if segment.is_empty() {
            return Err("path_empty_segment");
        }
        if hides_dots(segment) {
            return Err("path_dot_segment");
        }
    }
    Ok(segments)
}

/// Reads the escapes, once, from left to right.
fn decode(target: &str, relaxed: impl Fn(&'static str) -> bool) -> Result<String, Code> {
    let bytes = target.as_bytes();
    if bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(byte)) {
        return Ok(target.to_owned());
    }
    let mut decoded = Vec::new();
    let mut percents = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (byte, escaped) = if bytes[at] == b'%' {
            let hex = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
            let (Some(high), Some(low)) = (hex(at + 1), hex(at + 2)) else { return Err("path_malformed") };
            at += 3;
            (u8::try_from(high * 16 + low).unwrap(), true)
        } else {
            at += 1;
            (bytes[at - 1], false)
        };
        match byte {
            0..=0x1f | 0x7f => return Err("path_malformed"),
            b' ' | b'#' | 0x80.. if !escaped => return Err("path_malformed"),
            b'/' if escaped => {
                if !relaxed("encoded_slash") {
                    return Err("path_encoded_slash");
                }
                decoded.extend_from_slice(b"%2F");
                continue;
            }
            b'\\' if !relaxed("backslash") => return Err("path_backslash"),
            b';' if !relaxed("semicolon") => return Err("path_parameter"),
            _ => {}
        }
        if byte == b'%' {
            percents.push(decoded.len());
        }
        decoded.push(byte);
    }
    let is_escape = |at: &usize| match decoded.get(at + 1..) {
        Some([b'u' | b'U', digit, ..]) => digit.is_ascii_hexdigit(),
        Some([one, two, ..]) => one.is_ascii_hexdigit() && two.is_ascii_hexdigit(),
        _ => false,
    };
    if percents.iter().any(is_escape) && !relaxed("double_encoding") {
        return Err("path_double_encoded");
    }
    let decoded = String::from_utf8(decoded).map_err(|_| "path_malformed")?;
    if decoded.contains(SLASHES) {
        return Err("path_encoded_slash");
    }
    if decoded.contains(BACKSLASHES) {
        return Err("path_backslash");
    }
    Ok(decoded)
}

/// What compatibility normalisation (NFKC) makes a `/`, a `\`, or nothing but dots of.
const SLASHES: [char; 3] = ['\u{ff0f}', '\u{2044}', '\u{2215}'];
const BACKSLASHES: [char; 2] = ['\u{ff3c}', '\u{fe68}'];
const DOTS: [char; 8] = ['.', '\u{2024}', '\u{2025}', '\u{2026}', '\u{fe19}', '\u{fe30}', '\u{fe52}', '\u{ff0e}'];

/// Whether a part of a segment is `.` or `..` to somebody who separates at what was relaxed, or decodes once more.
fn hides_dots(segment: &str) -> bool {
    let mut pieces = segment.split('%');
    let mut again = pieces.next().unwrap().to_owned();
    for piece in pieces {
        match piece.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(u8::is_ascii) {
            Some(byte) => again.push_str(&format!("{}{}", char::from(byte), &piece[2..])),
            None => again.push_str(&format!("%{piece}")),
        }
    }
    [segment, &*again].iter().flat_map(|text| text.split(['/', '\\', ';'])).any(|part| {
        let part = part.trim();
        matches!(part, "." | "..") || (!part.is_empty() && part.chars().all(|c| DOTS.contains(&c)) && !part.is_ascii())
    })
}

/// A path in one way of reading it: each segment as it is read, as it stands, and what is left from it on.
pub type Reading = Vec<(String, String, String)>;

/// The path as it stands.
pub fn straight(path: &[String]) -> Reading {
    let rest = |at: usize| path[at..].join("/");
    path.iter().enumerate().map(|(at, segment)| (segment.clone(), segment.clone(), rest(at))).collect()
}

/// The path as a careless upstream may read it, in every way: without regard to case or not, first as it stands.
pub fn loose(path: &[String], fold: bool) -> Vec<Reading> {
    let mut whole = straight(path);
    if fold {
        whole.iter_mut().for_each(|(read, ..)| *read = folded(read));
    }
    ways(whole)
}

/// The same for guards, which also cover what a separator that was relaxed would separate.
pub fn looser(path: &[String]) -> Vec<Reading> {
    let mut parts: Reading = Vec::new();
    for (segment, stands, rest) in straight(path) {
        let starts = segment.match_indices(['\\', '%']).filter(|(at, _)| {
            let rest = &segment[*at..];
            rest.starts_with('\\') || rest.starts_with("%2F") || rest.starts_with("%2f")
        });
        let starts = starts.map(|(at, what)| (at, at + if what == "%" { 3 } else { 1 }));
        let mut start = 0;
        for (end, next) in starts.chain([(segment.len(), 0)]) {
            if start < end {
                parts.push((folded(&segment[start..end]), stands[start..].to_owned(), rest[start..].to_owned()));
            }
            start = next;
        }
    }
    let mut readings = loose(path, true);
    readings.extend(ways(parts));
    readings
}

fn ways(whole: Reading) -> Vec<Reading> {
    let mut readings = vec![whole.clone()];
    for other in [cut(&whole), trimmed(&whole), trimmed(&cut(&whole))] {
        if !readings.contains(&other) {
            readings.push(other);
        }
    }
    readings
}

/// It ends at its first `?` or `#`.
fn cut(reading: &Reading) -> Reading {
    let mut result = Vec::new();
    for (segment, stands, rest) in reading {
        match segment.split_once(['?', '#']) {
            None => result.push((segment.clone(), stands.clone(), rest.clone())),
            Some((before, _)) => {
                if !before.is_empty() {
                    result.push((before.to_owned(), stands.clone(), rest.clone()));
                }
                break;
            }
        }
    }
    result
}

/// Segments lose their parameters, and the dots and spaces at their end.
fn trimmed(reading: &Reading) -> Reading {
    let trim = |segment: &str| segment.split(';').next().unwrap().trim_end_matches(['.', ' ']).to_owned();
    let all = reading.iter().map(|(segment, stands, rest)| (trim(segment), stands.clone(), rest.clone()));
    all.filter(|(segment, ..)| !segment.is_empty()).collect()
}

/// A text without regard to case.
pub fn folded(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_lowercase() } else { text.to_lowercase().to_uppercase().to_lowercase() }
}
