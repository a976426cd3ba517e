//! The text of a rule: read into a tree, and printed so that reading it again gives the same tree.

use std::fmt;
use std::iter::Peekable;
use std::net::IpAddr;
use std::ops::Range;
use std::vec;

use ipnet::{IpNet, Ipv4Net};

use super::{Expr, Join, MAX_DEPTH, MAX_TEXT, MAX_WORDS, Rule, RuleError, RuleFault, Test, Word, WordId};
use crate::authz::identity::ClaimPath;
use crate::authz::route::is_capture_name;

/// The words that take a value.
const KINDS: [&str; 10] = ["role", "group", "scope", "claim", "owner", "service", "key", "issuer", "actor", "network"];
/// The words that stand without one.
const BARE: [&str; 6] = ["public", "anyone", "signed-in", "not", "and", "or"];

type Read<T> = Result<T, RuleError>;

fn fault<T>(at: Range<usize>, kind: RuleFault) -> Read<T> {
    Err(RuleError { at, kind })
}

pub(super) fn rule(text: &str) -> Read<Rule> {
    match text.trim_matches(is_space) {
        "public" => Ok(Rule::Public),
        "anyone" => Ok(Rule::Anyone),
        _ => expr(text).map(Rule::Where),
    }
}

pub(super) fn expr(text: &str) -> Read<Expr> {
    if text.len() > MAX_TEXT {
        return fault(MAX_TEXT..text.len(), RuleFault::TooLong);
    }
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return fault(0..text.len(), RuleFault::Empty);
    }
    let mut parser = Parser { tokens: tokens.into_iter().peekable(), last: 0..0, words: 0 };
    let expr = parser.list(0)?;
    if let Some(close) = parser.next() {
        return fault(close.at, RuleFault::NeverOpened);
    }
    if expr.depth() > MAX_DEPTH {
        return fault(0..text.len(), RuleFault::TooDeep);
    }
    Ok(expr)
}

pub(super) fn places(text: &str) -> Vec<Range<usize>> {
    let tokens = tokens(text).unwrap_or_default();
    tokens.into_iter().filter(|token| matches!(token.kind, Kind::Word(_))).map(|token| token.at).collect()
}

#[derive(Clone, Debug)]
struct Token<'t> {
    at: Range<usize>,
    kind: Kind<'t>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind<'t> {
    Open,
    Close,
    Not,
    Join(Join),
    Word(&'t str),
}

impl<'t> Kind<'t> {
    fn of(text: &'t str) -> Self {
        match text {
            "not" => Self::Not,
            "and" => Self::Join(Join::All),
            "or" => Self::Join(Join::Any),
            _ => Self::Word(text),
        }
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn tokens(text: &str) -> Read<Vec<Token<'_>>> {
    let mut found = Vec::new();
    let mut start = 0;
    while let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) {
        let length = match rest.chars().next() {
            Some('(' | ')') => 1,
            Some(c) if is_space(c) => {
                start = start.saturating_add(1);
                continue;
            }
            _ => run(rest).map_err(|quote| RuleError {
                at: start.saturating_add(quote)..text.len(),
                kind: RuleFault::UnclosedQuote,
            })?,
        };
        let at = start..start.saturating_add(length);
        start = at.end;
        let kind = match text.get(at.clone()).unwrap_or_default() {
            "(" => Kind::Open,
            ")" => Kind::Close,
            word => Kind::of(word),
        };
        if let Kind::Word(_) = kind
            && text.get(at.end..).is_some_and(|rest| rest.starts_with('('))
        {
            return fault(at.start..at.end.saturating_add(1), RuleFault::MustQuote('('));
        }
        found.push(Token { at, kind });
    }
    Ok(found)
}

/// How long the word is that a text starts with, or where its unclosed quote opens.
fn run(text: &str) -> Result<usize, usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(_) if c == '"' => quote = None,
            Some(_) => {}
            None if c == '"' => quote = Some(at),
            None if is_space(c) || matches!(c, '(' | ')') => return Ok(at),
            None => {}
        }
    }
    quote.map_or(Ok(text.len()), Err)
}

struct Parser<'t> {
    tokens: Peekable<vec::IntoIter<Token<'t>>>,
    last: Range<usize>,
    words: u16,
}

impl<'t> Parser<'t> {
    fn next(&mut self) -> Option<Token<'t>> {
        let token = self.tokens.next();
        if let Some(token) = &token {
            self.last = token.at.clone();
        }
        token
    }

    /// Operands with one operator between them, up to a closing parenthesis or the end.
    fn list(&mut self, depth: usize) -> Read<Expr> {
        let mut parts = vec![self.operand(depth)?];
        let mut join = None;
        while let Some(token) = self.tokens.peek().filter(|token| token.kind != Kind::Close).cloned() {
            match (token.kind, join) {
                (Kind::Join(this), None) => join = Some(this),
                (Kind::Join(this), Some(before)) if this == before => {}
                (Kind::Join(_), Some(_)) => return fault(token.at, RuleFault::Mixed),
                (Kind::Open | Kind::Close | Kind::Not | Kind::Word(_), _) => {
                    return fault(token.at, RuleFault::NoOperator);
                }
            }
            self.next();
            parts.push(self.operand(depth)?);
        }
        match join {
            None => parts.pop().ok_or(RuleError { at: self.last.clone(), kind: RuleFault::Empty }),
            Some(Join::All) => Ok(Expr::All(parts.into())),
            Some(Join::Any) => Ok(Expr::Any(parts.into())),
        }
    }

    fn operand(&mut self, depth: usize) -> Read<Expr> {
        let Some(token) = self.next() else {
            return fault(self.last.clone(), RuleFault::NoOperand(false));
        };
        let deeper = depth.saturating_add(1);
        match token.kind {
            Kind::Not | Kind::Open if deeper > MAX_DEPTH => fault(token.at, RuleFault::TooDeep),
            Kind::Not => Ok(Expr::Not(Box::new(self.operand(deeper)?))),
            Kind::Open => {
                let inner = self.list(deeper)?;
                match self.next() {
                    Some(_) => Ok(inner),
                    None => fault(token.at, RuleFault::NeverClosed),
                }
            }
            Kind::Join(_) | Kind::Close => fault(token.at, RuleFault::NoOperand(true)),
            Kind::Word(text) => {
                if usize::from(self.words) >= MAX_WORDS {
                    return fault(token.at, RuleFault::TooManyWords);
                }
                let at = WordId(self.words);
                self.words = self.words.saturating_add(1);
                Ok(Expr::Word(at, word(Piece { text, start: token.at.start })?))
            }
        }
    }
}

/// A piece of the rule's text, with the byte that it starts at.
#[derive(Clone, Copy)]
struct Piece<'t> {
    text: &'t str,
    start: usize,
}

impl<'t> Piece<'t> {
    fn at(self) -> Range<usize> {
        self.start..self.start.saturating_add(self.text.len())
    }

    fn fault<T>(self, kind: RuleFault) -> Read<T> {
        fault(self.at(), kind)
    }

    fn char_fault<T>(self, at: usize, c: char, kind: RuleFault) -> Read<T> {
        let start = self.start.saturating_add(at);
        fault(start..start.saturating_add(c.len_utf8()), kind)
    }

    /// What stands before and after this byte, which is left out; it is one byte of ASCII.
    fn split(self, at: usize) -> Option<(Self, Self)> {
        let after = at.checked_add(1)?;
        Some((
            Self { text: self.text.get(..at)?, start: self.start },
            Self { text: self.text.get(after..)?, start: self.start.saturating_add(after) },
        ))
    }

    fn split_once(self, at: char) -> Option<(Self, Self)> {
        self.text.find(at).and_then(|at| self.split(at))
    }

    /// What follows a prefix.
    fn after(self, prefix: &str) -> Option<Self> {
        let text = self.text.strip_prefix(prefix)?;
        Some(Self { text, start: self.start.saturating_add(prefix.len()) })
    }
}

fn word(piece: Piece<'_>) -> Read<Word> {
    let Some((kind, rest)) = piece.split_once(':') else {
        return bare_word(piece);
    };
    let text = |rest: Piece<'_>| value(rest, ':');
    match kind.text {
        "role" => text(rest).map(Word::Role),
        "group" => text(rest).map(Word::Group),
        "scope" => text(rest).map(Word::Scope),
        "issuer" => text(rest).map(Word::Issuer),
        "service" => text(rest).map(Word::Service),
        "key" => text(rest).map(Word::Key),
        "actor" => text(rest).map(Word::Actor),
        "claim" => claim(rest),
        "owner" => owner(rest),
        "network" => network(rest),
        other => match BARE.into_iter().find(|bare| *bare == other) {
            Some(bare) => piece.fault(RuleFault::NotAValue(bare)),
            None => kind.fault(RuleFault::UnknownWord(nearest(other, &KINDS))),
        },
    }
}

fn bare_word(piece: Piece<'_>) -> Read<Word> {
    match piece.text {
        "signed-in" => Ok(Word::SignedIn),
        "public" => piece.fault(RuleFault::NotAlone("public")),
        "anyone" => piece.fault(RuleFault::NotAlone("anyone")),
        other => piece.fault(match KINDS.into_iter().find(|kind| *kind == other) {
            Some(kind) => RuleFault::NoValue(kind),
            None => RuleFault::UnknownWord(nearest(other, &BARE).or_else(|| nearest(other, &KINDS))),
        }),
    }
}

fn owner(piece: Piece<'_>) -> Read<Word> {
    if piece.text.starts_with('{') {
        return piece.fault(RuleFault::OwnerBraces);
    }
    let name = value(piece, ':')?;
    if is_capture_name(&name) { Ok(Word::Owner(name)) } else { piece.fault(RuleFault::BadCapture) }
}

fn network(piece: Piece<'_>) -> Read<Word> {
    let text = value(piece, ':')?;
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let Ok(network) = parsed else {
        return piece.fault(RuleFault::BadNetwork);
    };
    if network.trunc() != network {
        return piece.fault(RuleFault::HostBits(network.trunc()));
    }
    Ok(Word::Network(unmapped(network)))
}

/// A network of IPv4-mapped addresses as the IPv4 network that it is, since addresses are folded so too.
fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let folded = v6.prefix_len().checked_sub(96).zip(v6.addr().to_ipv4_mapped());
    folded.and_then(|(mask, address)| Ipv4Net::new(address, mask).ok()).map_or(network, IpNet::V4)
}

fn claim(piece: Piece<'_>) -> Read<Word> {
    let (path, rest) = claim_path(piece)?;
    let test = match rest.text {
        "?" => Test::Present,
        _ => match rest.after("=") {
            Some(rest) if rest.text.starts_with('{') => capture(rest)?,
            Some(rest) => Test::Equals(value(rest, '=')?),
            None => return piece.fault(RuleFault::NoTest),
        },
    };
    Ok(Word::Claim { path, test })
}

/// The path of a claim, and the rest from its `=` or `?` on.
fn claim_path(piece: Piece<'_>) -> Read<(ClaimPath, Piece<'_>)> {
    let text = piece.text;
    let end = if text.starts_with('"') {
        run_quoted(text)
    } else {
        text.find('=').or_else(|| text.strip_suffix('?').map(str::len))
    };
    let Some(end) = end else {
        return piece.fault(RuleFault::NoTest);
    };
    let path = Piece { text: text.get(..end).unwrap_or_default(), start: piece.start };
    let rest = Piece { text: text.get(end..).unwrap_or_default(), start: piece.start.saturating_add(end) };
    if let Some((at, c)) = path.text.char_indices().find(|(_, c)| *c == '?' && !path.text.starts_with('"')) {
        return path.char_fault(at, c, RuleFault::MustQuote(c));
    }
    let name = value(path, ':')?;
    match ClaimPath::parse(&name) {
        Some(parsed) => Ok((parsed, rest)),
        None => path.fault(RuleFault::BadClaimPath),
    }
}

/// Where the quoted text ends that a text starts with.
fn run_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().skip(1).find_map(|(at, c)| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes.then(|| at.saturating_add(1))
    })
}

fn capture(piece: Piece<'_>) -> Read<Test> {
    match piece.text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        Some(name) if is_capture_name(name) => Ok(Test::Capture(name.into())),
        _ => piece.fault(RuleFault::BadCapture),
    }
}

/// A value, quoted or not, that follows this character.
fn value(piece: Piece<'_>, after: char) -> Read<Box<str>> {
    let text = match piece.text.strip_prefix('"') {
        Some(_) => quoted(piece)?,
        None => plain(piece)?,
    };
    if text.is_empty() {
        let start = piece.start.saturating_sub(after.len_utf8());
        return fault(start..piece.at().end, RuleFault::EmptyValue(after));
    }
    Ok(text)
}

fn plain(piece: Piece<'_>) -> Read<Box<str>> {
    match piece.text.char_indices().find(|(_, c)| is_special(*c)) {
        None if is_reserved(piece.text) => piece.fault(RuleFault::MustQuoteWord),
        None => Ok(piece.text.into()),
        Some((at, c)) => piece.char_fault(
            at,
            c,
            match c {
                '"' => RuleFault::StrayQuote,
                '*' => RuleFault::Star,
                '{' | '}' => RuleFault::CaptureHere,
                c if c.is_control() => RuleFault::Control,
                c => RuleFault::MustQuote(c),
            },
        ),
    }
}

fn quoted(piece: Piece<'_>) -> Read<Box<str>> {
    let mut text = String::with_capacity(piece.text.len());
    let mut chars = piece.text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                return match chars.next() {
                    None => Ok(text.into()),
                    Some((at, c)) => piece.char_fault(at, c, RuleFault::StrayQuote),
                };
            }
            '\\' => match chars.next() {
                Some((_, c @ ('"' | '\\'))) => text.push(c),
                _ => return piece.char_fault(at, c, RuleFault::BadEscape),
            },
            c if c.is_control() => return piece.char_fault(at, c, RuleFault::Control),
            c => text.push(c),
        }
    }
    piece.fault(RuleFault::UnclosedQuote)
}

/// Whether a value with this character must be quoted.
fn is_special(c: char) -> bool {
    matches!(c, ',' | '=' | '(' | ')' | '[' | ']' | '{' | '}' | '*' | '"') || c.is_whitespace() || c.is_control()
}

/// Whether this value must be quoted lest it is taken for a word.
fn is_reserved(text: &str) -> bool {
    BARE.iter().any(|bare| bare.eq_ignore_ascii_case(text))
}

/// The word that was probably meant: at most two edits away, and less than half of it.
fn nearest(text: &str, words: &[&'static str]) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase().replace('_', "-");
    let near = words.iter().map(|word| (distance(&lower, word), *word)).min()?;
    (near.0 <= 2 && near.0.saturating_mul(2) < near.1.len().max(2)).then_some(near.1)
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (line, a) in left.chars().take(32).enumerate() {
        let mut before = line.saturating_add(1);
        let mut next = vec![before];
        for (b, pair) in right.chars().zip(row.windows(2)) {
            let &[diagonal, above] = pair else { continue };
            let swapped = diagonal.saturating_add(usize::from(a != b));
            before = swapped.min(above.saturating_add(1)).min(before.saturating_add(1));
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::Anyone => f.write_str("anyone"),
            Self::Where(expr) => write!(f, "{expr}"),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(_, word) => write!(f, "{word}"),
            Self::Not(part) => {
                f.write_str("not ")?;
                part.fmt_operand(f)
            }
            Self::All(parts) => joined(parts, " and ", f),
            Self::Any(parts) => joined(parts, " or ", f),
        }
    }
}

impl Expr {
    fn fmt_operand(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(..) | Self::Not(_) => write!(f, "{self}"),
            Self::All(_) | Self::Any(_) => write!(f, "({self})"),
        }
    }
}

fn joined(parts: &[Expr], operator: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    parts.iter().enumerate().try_for_each(|(at, part)| {
        if at > 0 {
            f.write_str(operator)?;
        }
        part.fmt_operand(f)
    })
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, value) = match self {
            Self::SignedIn => return f.write_str("signed-in"),
            Self::Network(network) => return write!(f, "network:{network}"),
            Self::Claim { path, test } => return write!(f, "claim:{}{test}", ShownPath(path)),
            Self::Role(value) => ("role", value),
            Self::Group(value) => ("group", value),
            Self::Scope(value) => ("scope", value),
            Self::Owner(value) => ("owner", value),
            Self::Issuer(value) => ("issuer", value),
            Self::Service(value) => ("service", value),
            Self::Key(value) => ("key", value),
            Self::Actor(value) => ("actor", value),
        };
        write!(f, "{kind}:{}", Shown(value))
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equals(value) => write!(f, "={}", Shown(value)),
            Self::Capture(name) => write!(f, "={{{name}}}"),
            Self::Present => f.write_str("?"),
        }
    }
}

/// A value as it must be written.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_reserved(self.0) || self.0.contains(is_special) {
            return write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""));
        }
        f.write_str(self.0)
    }
}

/// A claim's path as it must be written.
struct ShownPath<'a>(&'a ClaimPath);

impl fmt::Display for ShownPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0.to_string();
        if path.contains('?') {
            write!(f, "\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            write!(f, "{}", Shown(&path))
        }
    }
}
