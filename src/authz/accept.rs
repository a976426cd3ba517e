//! In which of three forms a caller would rather read a denial (RFC 9110 §12.5.1). Total: what cannot be read does not count.

/// How the body of a denial is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `application/problem+json` (RFC 9457).
    #[default]
    Problem,
    /// A page for a person.
    Html,
    /// `text/plain`.
    Text,
}

/// The forms, and what else each answers to.
const FORMS: [(Form, &[&str]); 3] = [
    (Form::Problem, &["application/problem+json", "application/json", "application/*", "*/*"]),
    (Form::Html, &["text/html", "application/xhtml+xml", "text/*", "*/*"]),
    (Form::Text, &["text/plain", "text/*", "*/*"]),
];
/// How many ranges are looked at.
const MAX_RANGES: usize = 32;

/// The form that these `Accept` lines like best: the highest q; of several, the one that a range names by itself, and of
/// those the first. A range counts by its most exact match. Whoever likes none of them gets the problem.
pub(super) fn preferred<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Form {
    let ranges: Vec<(&[u8], u16)> =
        lines.flat_map(|line| line.split(|byte| *byte == b',')).take(MAX_RANGES).filter_map(range).collect();
    let mut best = (Form::Problem, (0, 0, 0));
    for (form, names) in FORMS {
        let matched = names.iter().zip(0_u8..).find_map(|(name, loose)| {
            let at = ranges.iter().position(|(range, _)| range.eq_ignore_ascii_case(name.as_bytes()))?;
            let (_, q) = ranges.get(at)?;
            let place = if name.contains('*') { 0 } else { MAX_RANGES.saturating_sub(at) };
            Some((*q, u8::from(!name.contains('*')), place, loose))
        });
        if let Some((q, exact, place, _)) = matched.filter(|(q, ..)| *q > 0)
            && (q, exact, place) > best.1
        {
            best = (form, (q, exact, place));
        }
    }
    best.0
}

/// Whether a `Content-Type` names this media type, whatever its parameters (RFC 9110 §8.3.1).
#[must_use]
pub fn is_media_type(content_type: &[u8], name: &str) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(name.as_bytes())
}

/// A media range and its weight in thousandths. Other parameters are not looked at.
fn range(text: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = text.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let range = parts.next().filter(|range| !range.is_empty())?;
    let weight = parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
    Some((range, weight.map_or(Some(1_000), thousandths)?))
}

/// `0`, `0.5`, `0.123`, `1`, `1.000` (RFC 9110 §12.4.2).
fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, fraction) = match text {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(10).and_then(|digit| u16::try_from(digit).ok());
    let mut sum = digit(whole)?;
    for at in 0..3 {
        let next = fraction.get(at).map_or(Some(0), digit)?;
        sum = sum.saturating_mul(10).saturating_add(next);
    }
    (sum <= 1_000).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_the_one_that_is_liked_best() {
        let form = |accept: &str| preferred([accept.as_bytes()].into_iter());
        for (accept, expected) in [
            ("", Form::Problem),
            ("*/*", Form::Problem),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", Form::Html),
            ("TEXT/HTML", Form::Html),
            ("text/plain", Form::Text),
            ("text/plain, */*", Form::Text),
            ("text/*", Form::Html),
            ("text/*, text/html;q=0", Form::Text),
            ("application/json", Form::Problem),
            ("application/json, text/plain, */*", Form::Problem),
            ("text/html, application/json", Form::Html),
            ("application/json, text/html", Form::Problem),
            ("text/html;q=0.5, application/json;q=0.4", Form::Html),
            ("text/html;q=0.5, application/json;q=0.51", Form::Problem),
            ("text/html;level=1;q=0.2, text/plain;q=0.3", Form::Text),
            ("text/html;q=0", Form::Problem),
            ("image/png", Form::Problem),
            ("text/html;q=1.5", Form::Problem),
            ("text/html;q=0.1234", Form::Problem),
            ("text/html;q=x, text/plain;q=0.1", Form::Text),
            (";;,,;q=", Form::Problem),
        ] {
            assert_eq!(form(accept), expected, "{accept}");
        }
        assert_eq!(preferred([&b"image/png"[..], b"text/html"].into_iter()), Form::Html);
        let many = format!("{}text/html", "image/png,".repeat(MAX_RANGES));
        assert_eq!(form(&many), Form::Problem, "no more than {MAX_RANGES} are looked at");
        assert_eq!(preferred([&b"\xff\xfe"[..]].into_iter()), Form::Problem);
    }
}
