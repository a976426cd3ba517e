//! YAML's own traps, explained: what was probably meant, and the line with the quotes that it needs.

use serde_saphyr::granit_parser::ErrorKind;

use super::error::{Problem, Span};

/// What may begin neither a key nor a value without quotes.
const RESERVED: [char; 7] = ['*', '&', '!', '@', '`', '%', '{'];
/// A line that is longer than this is not shown again with quotes.
const MAX_SHOWN: usize = 200;

/// A line of the file, cut where something begins in it.
struct Line<'a> {
    before: &'a str,
    rest: &'a str,
}

impl<'a> Line<'a> {
    fn at(text: &'a str, span: Span) -> Self {
        let (head, tail) = text.split_at_checked(span.offset as usize).unwrap_or((text, ""));
        let before = head.rsplit(['\n', '\r']).next().unwrap_or_default();
        Self { before, rest: tail.split(['\n', '\r']).next().unwrap_or_default() }
    }

    /// The line again, its quotes around what should be one key or one value from the cut on.
    fn quoted(&self) -> Option<String> {
        let (start, rest) = if self.is_first() { split_key(self.rest)? } else { (without_comment(self.rest), "") };
        shown(format!("{}{}{rest}", self.before, quote(start)))
    }

    fn is_first(&self) -> bool {
        self.before.trim_start().trim_start_matches("- ").is_empty()
    }
}

pub(super) fn alias(text: &str, span: Span) -> Problem {
    let problem = Problem::error("alias", span, "`*` begins an alias in YAML, and aliases are not read here");
    with_quotes(problem, &Line::at(text, span))
}

pub(super) fn anchor(text: &str, span: Span) -> Problem {
    let line = Line::at(text, span);
    let span = line.before.rfind('&').map_or(span, |at| moved(span, line.before, at));
    let problem = Problem::error("anchor", span, "`&` begins an anchor in YAML, and anchors are not read here");
    with_quotes(problem, &Line::at(text, span))
}

pub(super) fn tag(text: &str, span: Span) -> Problem {
    let problem = Problem::error("tag", span, "`!` begins a tag in YAML, and tags are not read here");
    with_quotes(problem, &Line::at(text, span))
}

/// A list or map where a key should be.
pub(super) fn key(text: &str, span: Span) -> Problem {
    let problem =
        Problem::error("quote_key", span, "YAML reads a list or map here, where a key should be: quote this key");
    with_quotes(problem, &Line::at(text, span))
}

/// What stopped the YAML parser, in the words of who wrote the file.
pub(super) fn syntax(text: &str, span: Span, kind: &ErrorKind) -> Problem {
    let line = Line::at(text, span);
    match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => {
            return Problem::error("tab", at_tab(text, span), "a tab is here, and YAML does not indent with tabs")
                .cure("use spaces");
        }
        ErrorKind::UnclosedFlowCollection { open } => {
            return Problem::error("syntax", span, format!("this `{open}` is not closed"));
        }
        ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::ExpectedFlowMappingSeparator => {
            return flow_item(span, &line);
        }
        ErrorKind::MappingValueNotAllowed => {
            if let Some(problem) = colon(text, span, &line) {
                return problem;
            }
        }
        _ => {}
    }
    first_key(span, &line)
        .or_else(|| reserved_value(span, &line))
        .unwrap_or_else(|| Problem::error("syntax", span, format!("this is not YAML: {kind}")))
}

/// The tab itself, which may be before or after the place where reading stopped.
fn at_tab(text: &str, span: Span) -> Span {
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let (before, rest) = text.split_at_checked(span.offset as usize).unwrap_or((text, ""));
    if before.ends_with('\t') {
        return Span { column: span.column.saturating_sub(1), offset: span.offset.saturating_sub(1), len: 1, ..span };
    }
    let Some(skipped) = rest.find('\t').and_then(|at| rest.get(..at)) else { return span };
    let start = if skipped.contains('\n') { 1 } else { span.column };
    let last = skipped.rsplit('\n').next().unwrap_or_default();
    Span {
        line: span.line.saturating_add(narrow(skipped.matches('\n').count())),
        column: start.saturating_add(narrow(last.chars().count())),
        offset: span.offset.saturating_add(narrow(skipped.len())),
        len: 1,
        ..span
    }
}

/// A line whose key begins with a character that YAML keeps for itself.
fn first_key(span: Span, line: &Line<'_>) -> Option<Problem> {
    let whole = format!("{}{}", line.before, line.rest);
    let indent = whole.len().saturating_sub(whole.trim_start().len());
    let (before, rest) = whole.split_at_checked(indent)?;
    let first = rest.chars().next().filter(|c| RESERVED.contains(c))?;
    let problem = Problem::error(
        "quote_key",
        moved(span, line.before, indent),
        format!("a key that begins with `{first}` means something else in YAML: quote this key"),
    );
    Some(with_quotes(problem, &Line { before, rest }))
}

fn reserved_value(span: Span, line: &Line<'_>) -> Option<Problem> {
    let first = line.rest.chars().next().filter(|c| RESERVED.contains(c))?;
    let problem = Problem::error(
        "quote_value",
        span,
        format!("a value that begins with `{first}` means something else in YAML: quote this value"),
    );
    Some(with_quotes(problem, line))
}

/// `[anonymous, GET /t/{x}, allow]`: a bracket, brace or comma within an unquoted item.
fn flow_item(span: Span, line: &Line<'_>) -> Problem {
    let start = line.before.rfind(", ").map(|at| at.saturating_add(2));
    let start = start.or_else(|| line.before.rfind(['[', '{']).map(|at| at.saturating_add(1))).unwrap_or_default();
    let whole = format!("{}{}", line.before, line.rest);
    let (before, item) = whole.split_at_checked(start).unwrap_or(("", &whole));
    let (item, after) = item.split_at_checked(item_end(item)).unwrap_or((item, ""));
    let problem = Problem::error(
        "quote_value",
        Span { len: u32::try_from(item.len()).unwrap_or(0), ..moved(span, line.before, start) },
        "`{`, `[` and `,` end an unquoted item within brackets: quote this item",
    );
    match shown(format!("{before}{}{after}", quote(item))) {
        Some(line) => problem.cure(format!("write  {}", line.trim())),
        None => problem,
    }
}

/// Where an item ends: at a comma before a blank, or at a bracket that it did not open.
fn item_end(item: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in item.char_indices() {
        let next = at.saturating_add(c.len_utf8());
        match c {
            '[' | '{' => depth = depth.saturating_add(1),
            ']' | '}' if depth == 0 => return at,
            ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 && item.get(next..).is_none_or(|rest| rest.is_empty() || rest.starts_with(' ')) => {
                return at;
            }
            _ => {}
        }
    }
    item.len()
}

/// A second `: ` on a line, or a line above whose colon has no blank after it.
fn colon(text: &str, span: Span, line: &Line<'_>) -> Option<Problem> {
    if let Some((key, value)) = line.before.split_once(": ") {
        let value_at = key.len().saturating_add(2);
        let value = format!("{value}{}", line.rest);
        let problem =
            Problem::error("quote_value", moved(span, line.before, value_at), "`: ` within a value: quote it");
        return Some(match shown(format!("{key}: {}", quote(without_comment(&value)))) {
            Some(line) => problem.cure(format!("write  {}", line.trim())),
            None => problem,
        });
    }
    let above = text.get(..span.offset as usize)?.lines().rev().nth(1)?;
    let joined = above.contains(':') && !above.contains(": ") && !above.trim_end().ends_with(':');
    joined.then(|| {
        Problem::error("syntax", span, "the line above is not a key with a value").cure(format!(
            "put a blank after the colon of  {}",
            above.trim().get(..above.trim().len().min(MAX_SHOWN)).unwrap_or_default()
        ))
    })
}

fn with_quotes(problem: Problem, line: &Line<'_>) -> Problem {
    match line.quoted() {
        Some(line) => problem.cure(format!("write  {}", line.trim())),
        None => problem.cure("quote it, if it is meant as text"),
    }
}

/// The same line, at a byte of `line`, which is the line up to where the span began.
fn moved(span: Span, line: &str, at: usize) -> Span {
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let back = line.get(at..).unwrap_or_default();
    Span {
        column: span.column.saturating_sub(narrow(back.chars().count())),
        offset: span.offset.saturating_sub(narrow(back.len())),
        ..span
    }
}

fn split_key(rest: &str) -> Option<(&str, &str)> {
    let end = rest.find(": ").or_else(|| rest.trim_end().strip_suffix(':').map(str::len))?;
    rest.split_at_checked(end)
}

fn without_comment(value: &str) -> &str {
    value.split(" #").next().unwrap_or(value).trim_end()
}

fn quote(text: &str) -> String {
    if text.contains(['"', '\\']) { format!("'{}'", text.replace('\'', "''")) } else { format!("\"{text}\"") }
}

fn shown(line: String) -> Option<String> {
    (line.len() <= MAX_SHOWN).then_some(line)
}

#[cfg(test)]
mod tests {
    use crate::config::tree::read;

    fn first(text: &str) -> (u32, u32, &'static str, String) {
        let problems = read(text).1;
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        let problem = &problems[0];
        (problem.span.line, problem.span.column, problem.code, problem.cure.clone().unwrap_or_default())
    }

    #[test]
    fn a_key_that_yaml_reads_otherwise_is_shown_with_its_quotes() {
        for (line, code, cure) in [
            ("*.example.com/x: public", "alias", "write  \"*.example.com/x\": public"),
            ("*: public", "alias", "write  \"*\": public"),
            ("{t}.example.com/x: role:a", "quote_key", "write  \"{t}.example.com/x\": role:a"),
            ("{t}: public", "quote_key", "write  \"{t}\": public"),
            ("&x: public", "anchor", "write  \"&x\": public"),
            ("!x: public", "tag", "write  \"!x\": public"),
            ("@x: public", "quote_key", "write  \"@x\": public"),
            ("%x: public", "quote_value", "write  \"%x\": public"),
        ] {
            let (row, column, found, shown) = first(&format!("routes:\n  {line}\n  /b: public\n"));
            assert_eq!((row, column, &*shown), (2, 3, cure), "{line}");
            if code != "quote_value" {
                assert_eq!(found, code, "{line}");
            }
        }
    }

    #[test]
    fn an_item_that_holds_brackets_is_shown_with_its_quotes() {
        for (line, column, cure) in [
            ("- [anonymous, GET /t/{x}, allow]", 17, "write  - [anonymous, \"GET /t/{x}\", allow]"),
            ("- [anonymous, GET /t?a=[1], deny 403]", 17, "write  - [anonymous, \"GET /t?a=[1]\", deny 403]"),
            ("- [anonymous, GET /{x}/b, allow]", 17, "write  - [anonymous, \"GET /{x}/b\", allow]"),
            ("- {any: [claim:t={tenant}, role:x]}", 12, "write  - {any: [\"claim:t={tenant}\", role:x]}"),
            ("- [[claim:t={tenant}]]", 7, "write  - [[\"claim:t={tenant}\"]]"),
        ] {
            assert_eq!(first(&format!("tests:\n  {line}\n")), (2, column, "quote_value", cure.into()), "{line}");
        }
    }

    #[test]
    fn a_value_that_yaml_reads_otherwise_is_shown_with_its_quotes() {
        assert_eq!(first("a: @b # c\n"), (1, 4, "quote_value", "write  a: \"@b\"".into()));
        assert_eq!(first("r:\n  /b/*: *\n"), (2, 9, "quote_value", "write  /b/*: \"*\"".into()));
        assert_eq!(first("a: say \"b\": c\n"), (1, 4, "quote_value", "write  a: 'say \"b\": c'".into()));
    }

    #[test]
    fn what_is_not_closed_not_separated_or_indented_with_tabs_is_said() {
        let place = |text: &str| {
            let (line, column, code, _) = first(text);
            (line, column, code)
        };
        assert_eq!(place("a: [b\n"), (1, 4, "syntax"));
        assert_eq!(place("a:\n\tb: c\n"), (2, 1, "tab"));
        assert_eq!(place("a:\n  b: c\n\td: e\n"), (3, 1, "tab"));
        assert_eq!(
            first("routes:\n  /health:public\n  /b: public\n"),
            (3, 5, "syntax", "put a blank after the colon of  /health:public".into())
        );
    }

    #[test]
    fn a_long_line_is_not_repeated() {
        let (_, _, code, cure) = first(&format!("*x{}: y\n", "z".repeat(900)));
        assert_eq!((code, &*cure), ("alias", "quote it, if it is meant as text"));
    }
}
