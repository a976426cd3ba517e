//! The text of a rule, read into a tree.

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
        "actor" if rest.text == "*" => Ok(Word::AnyActor),
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
pub(super) fn is_special(c: char) -> bool {
    matches!(c, ',' | '=' | '(' | ')' | '[' | ']' | '{' | '}' | '*' | '"') || c.is_whitespace() || c.is_control()
}

/// Whether this value must be quoted lest it is taken for a word.
pub(super) fn is_reserved(text: &str) -> bool {
    BARE.iter().any(|bare| bare.eq_ignore_ascii_case(text))
}

/// The word that was probably meant: at most two edits away, and less than half of it.
fn nearest(text: &str, words: &[&'static str]) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase().replace('_', "-");
    let near = words.iter().map(|word| (distance(&lower, word), *word)).min()?;
    (near.0 <= 2 && near.0.saturating_mul(2) < near.1.len().max(2)).then_some(near.1)
}

/// Levenshtein's distance.
pub(in crate::authz) fn distance(left: &str, right: &str) -> usize {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wrong(text: &str) -> (String, RuleFault) {
        let error = Rule::parse(text).expect_err(text);
        assert!(!error.to_string().is_empty());
        (text.get(error.at).unwrap().to_owned(), error.kind)
    }

    fn parse(text: &str) -> Rule {
        Rule::parse(text).unwrap_or_else(|error| panic!("{text}: {error} at {:?}", error.at))
    }

    /// What the only word of a rule is.
    fn single(text: &str) -> Word {
        match parse(text) {
            Rule::Where(Expr::Word(WordId(0), word)) => word,
            other @ (Rule::Public | Rule::Anyone | Rule::Where(_)) => panic!("{text}: {other:?}"),
        }
    }

    fn claim_of(path: &str, test: Test) -> Word {
        Word::Claim { path: ClaimPath::parse(path).unwrap(), test }
    }

    #[test]
    fn a_word_s_kind_ends_at_the_first_colon() {
        assert_eq!(single("scope:orders:read"), Word::Scope("orders:read".into()));
        assert_eq!(single("signed-in"), Word::SignedIn);
        assert_eq!(single("role:\"Domain Admins\""), Word::Role("Domain Admins".into()));
        assert_eq!(single(r#"role:"a \"b\" \\ c""#), Word::Role(r#"a "b" \ c"#.into()));
        assert_eq!(single(r"group:CORP\admins"), Word::Group(r"CORP\admins".into()));
        assert_eq!(single("role:owner"), Word::Role("owner".into()));
        assert_eq!(single("service:spiffe://a/b"), Word::Service("spiffe://a/b".into()));
        assert_eq!(single("owner:id"), Word::Owner("id".into()));
        assert_eq!(parse(" public\n"), Rule::Public);
        assert_eq!(parse("anyone"), Rule::Anyone);
    }

    #[test]
    fn a_claim_s_path_ends_at_the_first_unquoted_equals_sign() {
        assert_eq!(single("claim:tenant={tenant}"), claim_of("tenant", Test::Capture("tenant".into())));
        assert_eq!(single("claim:tenant=\"{tenant}\""), claim_of("tenant", Test::Equals("{tenant}".into())));
        assert_eq!(single("claim:a.b=c"), claim_of("a.b", Test::Equals("c".into())));
        assert_eq!(single("claim:a.b?"), claim_of("a.b", Test::Present));
        let url = "https://acme.com/tier";
        assert_eq!(single("claim:https://acme.com/tier=gold"), claim_of(url, Test::Equals("gold".into())));
        assert_eq!(single("claim:https://acme.com/tier?"), claim_of(url, Test::Present));
        assert_eq!(single("claim:\"a=b\"=c"), claim_of("a=b", Test::Equals("c".into())));
        assert_eq!(single("claim:\"a?\"?"), claim_of("a?", Test::Present));
        assert_eq!(single("claim:a=\"b=c\""), claim_of("a", Test::Equals("b=c".into())));
    }

    #[test]
    fn a_network_without_a_mask_is_one_address() {
        assert_eq!(single("network:192.0.2.7"), Word::Network("192.0.2.7/32".parse().unwrap()));
        assert_eq!(single("network:::1"), Word::Network("::1/128".parse().unwrap()));
        assert_eq!(single("network:::ffff:10.0.0.0/104"), Word::Network("10.0.0.0/8".parse().unwrap()));
        assert_eq!(
            wrong("network:10.0.0.1/8"),
            ("10.0.0.1/8".into(), RuleFault::HostBits("10.0.0.0/8".parse().unwrap()))
        );
        assert_eq!(wrong("network:office"), ("office".into(), RuleFault::BadNetwork));
    }

    #[test]
    fn parentheses_group_and_words_are_numbered_as_they_appear() {
        let role = |at, name: &str| Expr::Word(WordId(at), Word::Role(name.into()));
        let any = Expr::Any(Box::new([role(1, "b"), Expr::Not(Box::new(role(2, "c")))]));
        assert_eq!(parse("role:a and (role:b or not role:c)"), Rule::Where(Expr::All(Box::new([role(0, "a"), any]))));
        assert_eq!(parse("((role:a))"), Rule::Where(role(0, "a")));
        assert_eq!(parse("not(role:a)"), parse("not role:a"));
        assert_ne!(parse("(role:a and role:b) and role:c"), parse("role:a and role:b and role:c"));
    }

    #[test]
    fn mixed_operators_need_parentheses() {
        assert_eq!(wrong("role:a and role:b or role:c"), ("or".into(), RuleFault::Mixed));
        assert_eq!(wrong("role:a or (role:b) and role:c"), ("and".into(), RuleFault::Mixed));
    }

    #[test]
    fn public_and_anyone_stand_alone() {
        assert_eq!(wrong("public or role:a"), ("public".into(), RuleFault::NotAlone("public")));
        assert_eq!(wrong("role:a and anyone"), ("anyone".into(), RuleFault::NotAlone("anyone")));
        assert_eq!(wrong("not public"), ("public".into(), RuleFault::NotAlone("public")));
        assert!(Expr::parse("public").is_err());
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_one_that_was_meant() {
        let meant = |text: &str| match wrong(text) {
            (_, RuleFault::UnknownWord(meant)) => meant,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(meant("rol:admin"), Some("role"));
        assert_eq!(meant("roles:admin"), Some("role"));
        assert_eq!(meant("Role:admin"), Some("role"));
        assert_eq!(meant("signed_in"), Some("signed-in"));
        assert_eq!(meant("signedin"), Some("signed-in"));
        assert_eq!(meant("pubic"), Some("public"));
        assert_eq!(meant("networks:10.0.0.0/8"), Some("network"));
        assert_eq!(meant("xyzzy"), None);
        let error = Rule::parse("rol:admin").unwrap_err();
        assert_eq!((error.at.clone(), error.to_string()), (0..3, "there is no such word; did you mean `role`?".into()));
        assert_eq!(wrong("role:a AND role:b"), ("AND".into(), RuleFault::NoOperator));
    }

    #[test]
    fn what_must_be_quoted_is_refused_unquoted() {
        assert_eq!(wrong("role:admin*"), ("*".into(), RuleFault::Star));
        assert_eq!(wrong("role:a,b"), (",".into(), RuleFault::MustQuote(',')));
        assert_eq!(wrong("role:a, role:b"), (",".into(), RuleFault::MustQuote(',')));
        assert_eq!(wrong("scope:a=b"), ("=".into(), RuleFault::MustQuote('=')));
        assert_eq!(wrong("claim:a=b=c"), ("=".into(), RuleFault::MustQuote('=')));
        assert_eq!(wrong("role:a(b)"), ("role:a(".into(), RuleFault::MustQuote('(')));
        assert_eq!(wrong("role:a[0]"), ("[".into(), RuleFault::MustQuote('[')));
        assert_eq!(wrong("role:{x}"), ("{".into(), RuleFault::CaptureHere));
        assert_eq!(wrong("role:and"), ("and".into(), RuleFault::MustQuoteWord));
        assert_eq!(wrong("role:Public"), ("Public".into(), RuleFault::MustQuoteWord));
        assert_eq!(wrong("role:a\u{a0}b"), ("\u{a0}".into(), RuleFault::MustQuote('\u{a0}')));
        assert_eq!(wrong("role:a\u{0}"), ("\u{0}".into(), RuleFault::Control));
        assert_eq!(wrong("role:\"a\u{7}\""), ("\u{7}".into(), RuleFault::Control));
        assert_eq!(wrong("role:a\"b\""), ("\"".into(), RuleFault::StrayQuote));
        assert_eq!(wrong("role:\"a\"b"), ("b".into(), RuleFault::StrayQuote));
        assert_eq!(wrong("role:\"a\\n\""), ("\\".into(), RuleFault::BadEscape));
        assert_eq!(wrong("role:\"a b"), ("\"a b".into(), RuleFault::UnclosedQuote));
        assert_eq!(wrong("claim:a?=b"), ("?".into(), RuleFault::MustQuote('?')));
        assert_eq!(single("role:\"admin*\""), Word::Role("admin*".into()));
        assert_eq!(single("role:\"and\""), Word::Role("and".into()));
    }

    #[test]
    fn a_value_is_there_and_not_empty() {
        assert_eq!(wrong(""), (String::new(), RuleFault::Empty));
        assert_eq!(wrong(" \t"), (" \t".into(), RuleFault::Empty));
        assert_eq!(wrong("role"), ("role".into(), RuleFault::NoValue("role")));
        assert_eq!(wrong("role:"), (":".into(), RuleFault::EmptyValue(':')));
        assert_eq!(wrong("role:\"\""), (":\"\"".into(), RuleFault::EmptyValue(':')));
        assert_eq!(wrong("claim:a="), ("=".into(), RuleFault::EmptyValue('=')));
        assert_eq!(wrong("claim:=a"), (":".into(), RuleFault::EmptyValue(':')));
        assert_eq!(wrong("claim:a"), ("a".into(), RuleFault::NoTest));
        assert_eq!(wrong("claim:a..b=c"), ("a..b".into(), RuleFault::BadClaimPath));
        assert_eq!(wrong("claim:a={}"), ("{}".into(), RuleFault::BadCapture));
        assert_eq!(wrong("claim:a={b}c"), ("{b}c".into(), RuleFault::BadCapture));
        assert_eq!(wrong("owner:{id}"), ("{id}".into(), RuleFault::OwnerBraces));
        assert_eq!(wrong("owner:a.b"), ("a.b".into(), RuleFault::BadCapture));
        assert_eq!(wrong("signed-in:x"), ("signed-in:x".into(), RuleFault::NotAValue("signed-in")));
        assert_eq!(wrong("public:x"), ("public:x".into(), RuleFault::NotAValue("public")));
    }

    #[test]
    fn operators_stand_between_words() {
        assert_eq!(wrong("role:a role:b"), ("role:b".into(), RuleFault::NoOperator));
        assert_eq!(wrong("role:a not role:b"), ("not".into(), RuleFault::NoOperator));
        assert_eq!(wrong("and role:a"), ("and".into(), RuleFault::NoOperand(true)));
        assert_eq!(wrong("role:a or"), ("or".into(), RuleFault::NoOperand(false)));
        assert_eq!(wrong("role:a or not"), ("not".into(), RuleFault::NoOperand(false)));
        assert_eq!(wrong("role:a and ()"), (")".into(), RuleFault::NoOperand(true)));
        assert_eq!(wrong("(role:a"), ("(".into(), RuleFault::NeverClosed));
        assert_eq!(wrong("role:a)"), (")".into(), RuleFault::NeverOpened));
    }

    #[test]
    fn words_depth_and_length_are_capped() {
        let most = vec!["signed-in"; MAX_WORDS].join(" or ");
        assert_eq!(parse(&most).expr().unwrap().words().count(), MAX_WORDS);
        assert_eq!(wrong(&format!("{most} or role:x")), ("role:x".into(), RuleFault::TooManyWords));
        let deep = |times: usize| format!("{}signed-in", "not ".repeat(times));
        parse(&deep(MAX_DEPTH - 1));
        assert_eq!(wrong(&deep(MAX_DEPTH)).1, RuleFault::TooDeep);
        assert_eq!(wrong(&deep(1_000)).1, RuleFault::TooDeep);
        assert_eq!(wrong(&"(".repeat(4_000)), ("(".into(), RuleFault::TooDeep));
        let long = |length: usize| format!("role:{}", "x".repeat(length - 5));
        parse(&long(MAX_TEXT));
        assert_eq!(wrong(&long(MAX_TEXT + 1)), ("x".into(), RuleFault::TooLong));
    }

    fn text() -> impl Strategy<Value = Box<str>> {
        let odd =
            prop::sample::select(vec!["and", "NOT", "signed-in", "public", "{x}", "?", "\\", "\"", "a b", "é\u{a0}"]);
        prop_oneof![3 => "[a-z:/.?\\\\\" ,=(){}*]{1,8}".prop_map(Box::from), 1 => odd.prop_map(Box::from)]
    }

    fn any_word() -> impl Strategy<Value = Word> {
        let name = "[a-zA-Z_][a-z0-9_-]{0,5}".prop_map(Box::<str>::from);
        let test =
            prop_oneof![text().prop_map(Test::Equals), name.clone().prop_map(Test::Capture), Just(Test::Present),];
        let path = text().prop_filter_map("a path", |text| ClaimPath::parse(&text));
        let network = prop_oneof![
            (any::<u32>(), 0..=32_u8).prop_map(|(bits, mask)| IpNet::new(IpAddr::from(bits.to_be_bytes()), mask)),
            (any::<u128>(), 0..=128_u8).prop_map(|(bits, mask)| IpNet::new(IpAddr::from(bits.to_be_bytes()), mask)),
        ];
        prop_oneof![
            Just(Word::SignedIn),
            text().prop_map(Word::Role),
            text().prop_map(Word::Group),
            text().prop_map(Word::Scope),
            (path, test).prop_map(|(path, test)| Word::Claim { path, test }),
            name.prop_map(Word::Owner),
            text().prop_map(Word::Issuer),
            network.prop_map(|network| Word::Network(unmapped(network.unwrap().trunc()))),
            text().prop_map(Word::Service),
            text().prop_map(Word::Key),
            text().prop_map(Word::Actor),
            Just(Word::AnyActor),
        ]
    }

    fn any_expr() -> impl Strategy<Value = Expr> {
        let leaf = any_word().prop_map(|word| Expr::Word(WordId(0), word));
        let tree = leaf.prop_recursive(5, 32, 4, |inner| {
            prop_oneof![
                inner.clone().prop_map(|part| Expr::Not(Box::new(part))),
                prop::collection::vec(inner.clone(), 2..5).prop_map(|parts| Expr::All(parts.into())),
                prop::collection::vec(inner, 2..5).prop_map(|parts| Expr::Any(parts.into())),
            ]
        });
        tree.prop_filter_map("within the caps", |expr| expr.capped().ok())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn a_printed_rule_reads_as_the_same_rule(expr in any_expr()) {
            let rule = Rule::Where(expr);
            let text = rule.to_string();
            prop_assume!(text.len() <= MAX_TEXT);
            prop_assert_eq!(Rule::parse(&text), Ok(rule), "{}", text);
        }

        #[test]
        fn any_text_is_a_rule_or_an_error_that_points_into_it(text in "([a-z:\"\\\\{}?=*() é]|role:|claim:| and | or |not ){0,12}") {
            match Rule::parse(&text) {
                Ok(rule) => prop_assert_eq!(Rule::parse(&rule.to_string()), Ok(rule)),
                Err(error) => prop_assert!(text.get(error.at.clone()).is_some(), "{:?}", error),
            }
        }
    }
}
