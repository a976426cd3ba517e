//! The text of a condition into tokens (cel-spec, langdef, "Syntax").

use std::ops::Range;

use super::fault::{ConditionError, ConditionFault};

/// A token and the bytes that it is made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub at: Range<usize>,
    pub kind: TokenKind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    /// The magnitude: a sign is an operator.
    Int(u64),
    Uint(u64),
    Double(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    Name(Box<str>),
    Sign(&'static str),
    End,
}

const SIGNS: [&str; 24] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "+", "-", "*", "/", "%", "(", ")", "[", "]", "{", "}", ",", ":",
    "?", ".",
];

/// Cuts a text into tokens; the last one is [`TokenKind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, ConditionError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.token()?;
        let done = token.kind == TokenKind::End;
        tokens.push(token);
        if done {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes).min(self.text.len());
    }

    fn wrong<T>(&self, from: usize, kind: ConditionFault) -> Result<T, ConditionError> {
        Err(ConditionError { at: from..self.at.max(from), kind })
    }

    fn blanks(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
            self.skip(rest.len().saturating_sub(trimmed.len()));
            if !trimmed.starts_with("//") {
                return;
            }
            self.skip(trimmed.find('\n').unwrap_or(trimmed.len()));
        }
    }

    fn token(&mut self) -> Result<Token, ConditionError> {
        self.blanks();
        let start = self.at;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(Token { at: start..start, kind: TokenKind::End });
        };
        let kind = if first.is_ascii_digit() || is_fraction(rest) {
            self.number()?
        } else if let Some((prefix, raw, bytes)) = opening(rest) {
            self.skip(prefix);
            self.quoted(start, raw, bytes)?
        } else if first.is_ascii_alphabetic() || first == '_' {
            let name = rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default();
            self.skip(name.len());
            TokenKind::Name(name.into())
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            self.skip(sign.len());
            TokenKind::Sign(sign)
        } else {
            self.skip(first.len_utf8());
            let spelling = |ours, cel| ConditionFault::Spelling(ours, cel);
            return self.wrong(
                start,
                match first {
                    '=' => spelling("=", "=="),
                    '&' => spelling("&", "&&"),
                    '|' => spelling("|", "||"),
                    _ => ConditionFault::Character,
                },
            );
        };
        Ok(Token { at: start..self.at, kind })
    }

    fn digits(&mut self, is: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let digits = rest.split(|c: char| !is(c)).next().unwrap_or_default();
        self.skip(digits.len());
        digits
    }

    fn number(&mut self) -> Result<TokenKind, ConditionError> {
        let start = self.at;
        let rest = self.rest();
        let magnitude = if rest.starts_with("0x") || rest.starts_with("0X") {
            self.skip(2);
            let digits = self.digits(|c| c.is_ascii_hexdigit());
            u64::from_str_radix(digits, 16).ok()
        } else {
            let whole = self.digits(|c| c.is_ascii_digit());
            let mut double = false;
            if is_fraction(self.rest()) {
                double = true;
                self.skip(1);
                let _ = self.digits(|c| c.is_ascii_digit());
            }
            let exponent = self.rest().strip_prefix(['e', 'E']).map(|rest| rest.trim_start_matches(['+', '-']));
            if exponent.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
                double = true;
                self.skip(1);
                if self.rest().starts_with(['+', '-']) {
                    self.skip(1);
                }
                let _ = self.digits(|c| c.is_ascii_digit());
            }
            if double {
                let text = self.text.get(start..self.at).unwrap_or_default();
                self.ends(start)?;
                return match text.parse::<f64>() {
                    Ok(value) if value.is_finite() => Ok(TokenKind::Double(value)),
                    Ok(_) | Err(_) => self.wrong(start, ConditionFault::Number),
                };
            }
            whole.parse().ok()
        };
        let unsigned = self.rest().starts_with(['u', 'U']);
        self.skip(usize::from(unsigned));
        self.ends(start)?;
        match magnitude {
            Some(magnitude) if unsigned => Ok(TokenKind::Uint(magnitude)),
            Some(magnitude) => Ok(TokenKind::Int(magnitude)),
            None => self.wrong(start, ConditionFault::Number),
        }
    }

    /// A number ends where a name could not go on.
    fn ends(&mut self, start: usize) -> Result<(), ConditionError> {
        let more = self.digits(|c| c.is_ascii_alphanumeric() || c == '_');
        if more.is_empty() { Ok(()) } else { self.wrong(start, ConditionFault::Number) }
    }

    fn quoted(&mut self, start: usize, raw: bool, bytes: bool) -> Result<TokenKind, ConditionError> {
        let triple = ["\"\"\"", "'''"].into_iter().find(|quote| self.rest().starts_with(quote));
        let single = || if self.rest().starts_with('"') { "\"" } else { "'" };
        let quote = triple.unwrap_or_else(single);
        self.skip(quote.len());
        let (mut text, mut data) = (String::new(), Vec::new());
        loop {
            let rest = self.rest();
            if rest.starts_with(quote) {
                self.skip(quote.len());
                break;
            }
            let Some(c) = rest.chars().next().filter(|c| triple.is_some() || !matches!(c, '\n' | '\r')) else {
                return self.wrong(start, ConditionFault::OpenText);
            };
            self.skip(c.len_utf8());
            if c == '\\' && !raw {
                match self.escape(bytes)? {
                    Escaped::Char(c) => push(c, &mut text, &mut data),
                    Escaped::Byte(byte) => data.push(byte),
                }
            } else {
                push(c, &mut text, &mut data);
            }
        }
        Ok(if bytes { TokenKind::Bytes(data.into()) } else { TokenKind::Text(text.into()) })
    }

    /// What follows a backslash.
    fn escape(&mut self, bytes: bool) -> Result<Escaped, ConditionError> {
        let start = self.at.saturating_sub(1);
        let letter = self.rest().chars().next().unwrap_or('\0');
        self.skip(letter.len_utf8());
        let plain = match letter {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' | '?' | '"' | '\'' | '`' => letter,
            _ => return self.code(start, letter, bytes),
        };
        Ok(Escaped::Char(plain))
    }

    /// `\x41`, `\101`, `\u0041`, `\U00000041`: a code point in a text, an octet in bytes.
    fn code(&mut self, start: usize, letter: char, bytes: bool) -> Result<Escaped, ConditionError> {
        let (digits, radix) = match letter {
            'x' | 'X' => (2, 16),
            'u' if !bytes => (4, 16),
            'U' if !bytes => (8, 16),
            '0'..='3' => {
                self.at = self.at.saturating_sub(1);
                (3, 8)
            }
            _ => return self.wrong(start, ConditionFault::Escape),
        };
        let code = self.rest().get(..digits).filter(|code| code.chars().all(|c| c.is_digit(radix)));
        let code = code.and_then(|code| u32::from_str_radix(code, radix).ok());
        self.skip(if code.is_some() { digits } else { 0 });
        let escaped = if bytes {
            code.and_then(|code| u8::try_from(code).ok()).map(Escaped::Byte)
        } else {
            code.and_then(char::from_u32).map(Escaped::Char)
        };
        escaped.map_or_else(|| self.wrong(start, ConditionFault::Escape), Ok)
    }
}

enum Escaped {
    Char(char),
    Byte(u8),
}

fn push(c: char, text: &mut String, data: &mut Vec<u8>) {
    text.push(c);
    data.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// `.5`
fn is_fraction(rest: &str) -> bool {
    rest.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The length of a quote's prefix, whether it is raw, and whether it is bytes.
fn opening(rest: &str) -> Option<(usize, bool, bool)> {
    let letters = rest.bytes().take(3).position(|byte| matches!(byte, b'"' | b'\''))?;
    let prefix = rest.get(..letters)?.to_ascii_lowercase();
    match prefix.as_str() {
        "" => Some((0, false, false)),
        "r" => Some((1, true, false)),
        "b" => Some((1, false, true)),
        "rb" | "br" => Some((2, true, true)),
        _ => None,
    }
}
