//! A line cut into words as a POSIX shell cuts it, without any expansion: what stands in the line is all there is.

/// The words of a line; `None` where a quote is not closed.
pub(super) fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut left = line.chars().peekable();
    while let Some(c) = left.next() {
        match c {
            '\'' => word.get_or_insert_default().push_str(&single(&mut left)?),
            '"' => word.get_or_insert_default().push_str(&double(&mut left)?),
            '$' if left.peek() == Some(&'\'') => {
                left.next();
                word.get_or_insert_default().push_str(&ansi_c(&mut left)?);
            }
            // A backslash at the end of a line, also of one written on Windows, joins it to the next.
            '\\' => match left.next() {
                Some('\r') if left.next_if_eq(&'\n').is_some() => {}
                Some('\n') | None => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
            },
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

fn single(left: &mut impl Iterator<Item = char>) -> Option<String> {
    let mut text = String::new();
    loop {
        match left.next()? {
            '\'' => return Some(text),
            c => text.push(c),
        }
    }
}

fn double(left: &mut impl Iterator<Item = char>) -> Option<String> {
    let mut text = String::new();
    loop {
        match left.next()? {
            '"' => return Some(text),
            '\\' => match left.next()? {
                '\n' => {}
                c @ ('"' | '\\' | '$' | '`') => text.push(c),
                c => text.extend(['\\', c]),
            },
            c => text.push(c),
        }
    }
}

/// `$'…'`, as browsers copy requests.
fn ansi_c(left: &mut std::iter::Peekable<impl Iterator<Item = char>>) -> Option<String> {
    let mut text = String::new();
    loop {
        match left.next()? {
            '\'' => return Some(text),
            '\\' => text.extend(match left.next()? {
                'n' => Some('\n'),
                't' => Some('\t'),
                'r' => Some('\r'),
                'u' => code(left, 4),
                'x' => code(left, 2),
                c => Some(c),
            }),
            c => text.push(c),
        }
    }
}

/// A character by up to so many hexadecimal digits.
fn code(left: &mut std::iter::Peekable<impl Iterator<Item = char>>, digits: usize) -> Option<char> {
    let mut code = 0_u32;
    for _ in 0..digits {
        let Some(digit) = left.peek().and_then(|c| c.to_digit(16)) else { break };
        code = code.saturating_mul(16).saturating_add(digit);
        left.next();
    }
    char::from_u32(code)
}
