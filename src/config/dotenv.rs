//! A file of environment variables: `NAME=value` a line, with comments and quotes.

use std::collections::HashMap;

use super::error::{Problem, Problems, Span};

/// Reads variables. Where the problems hold errors, there may be fewer than were meant.
#[must_use]
pub fn parse(name: &str, text: &str) -> (HashMap<String, String>, Problems) {
    let mut problems = Problems::of(name, text);
    let mut variables: HashMap<String, String> = HashMap::new();
    let mut offset = 0_usize;
    for (number, line) in (1_u32..).zip(text.split('\n')) {
        let span = Span { line: number, offset: narrow(offset), len: narrow(line.len()), ..Span::START };
        offset = offset.saturating_add(line.len()).saturating_add(1);
        match variable(line.trim_end_matches('\r')) {
            Ok(None) => {}
            Ok(Some((name, value))) => {
                if variables.insert(name.to_owned(), value).is_some() {
                    let message = format!("`{name}` is here twice");
                    problems.report(Problem::error("duplicate_key", span, message).cure("keep one of the two"));
                }
            }
            Err(message) => problems.report(Problem::error("bad_variable", span, message).cure("NAME=value")),
        }
    }
    (variables, problems)
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The variable of a line; none on an empty line and in a comment. No message tells the value.
fn variable(line: &str) -> Result<Option<(&str, String)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (name, value) = line.split_once('=').ok_or("this line is no variable: there is no `=`")?;
    let name = name.strip_prefix("export ").unwrap_or(name).trim_start();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(fits) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("the name of a variable is letters, digits and `_`, with no space before `=`");
    }
    let value = value.trim_start();
    let value = match value.chars().next() {
        Some('\'') => quoted(value, '\'')?,
        Some('"') => quoted(value, '"')?,
        // A comment begins after a space, so that a value may hold `#`.
        _ => value.split_once(" #").map_or(value, |(value, _)| value).trim_end().to_owned(),
    };
    Ok(Some((name, value)))
}

/// A value in quotes: in double ones `\n`, `\t`, `\\` and `\"` are escapes, in single ones nothing is.
fn quoted(text: &str, quote: char) -> Result<String, &'static str> {
    let mut value = String::new();
    let mut rest = text.chars();
    rest.next();
    loop {
        match rest.next().ok_or("the quote is not closed on this line")? {
            c if c == quote => break,
            '\\' if quote == '"' => value.push(match rest.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(c @ ('\\' | '"' | '$')) => c,
                _ => return Err("this escape is not known; there are \\n, \\t, \\\\ and \\\""),
            }),
            c => value.push(c),
        }
    }
    let left = rest.as_str().trim_start();
    if left.is_empty() || left.starts_with('#') { Ok(value) } else { Err("something follows the closing quote") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_have_comments_and_quotes() {
        let text = "\
# staging
A=1
export B = not spaced
C='single # \\n' # comment
D=\"double \\\" \\n\"
E=a#b # c

F=
G=a=b\r
";
        let (variables, problems) = parse("s.env", &text.replace("B = not", "B=not"));
        assert_eq!(problems.to_string(), "");
        let expected = [
            ("A", "1"),
            ("B", "not spaced"),
            ("C", "single # \\n"),
            ("D", "double \" \n"),
            ("E", "a#b"),
            ("F", ""),
            ("G", "a=b"),
        ];
        assert_eq!(variables.len(), expected.len());
        for (name, value) in expected {
            assert_eq!(variables[name], value, "{name}");
        }
    }

    #[test]
    fn a_line_that_is_no_variable_is_an_error_that_shows_no_value() {
        for line in [
            "hunter2",
            "A B=hunter2",
            "=hunter2",
            "1A=hunter2",
            "A='hunter2",
            "A=\"hunter2",
            "A='x' hunter2",
            "A=\"hunter2\\x\"",
            "A =hunter2",
        ] {
            let (_, problems) = parse("s.env", &format!("# first\n{line}\n"));
            let told = &problems.as_slice()[0];
            assert_eq!((told.code, told.span.line, problems.as_slice().len()), ("bad_variable", 2, 1), "{line}");
            assert!(!problems.to_string().contains("hunter2"), "{problems}");
        }
        assert_eq!(parse("s.env", "A=1\nA=2\n").1.as_slice()[0].code, "duplicate_key");
    }
}
