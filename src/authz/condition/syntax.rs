//! The tokens of a condition into a tree, by precedence (cel-spec, langdef, "Grammar"). Bounded in depth, so that neither
//! reading nor asking can run out of stack.

use std::ops::Range;

use super::fault::{ConditionError, ConditionFault};
use super::lex::{Token, TokenKind, tokens};

/// How deep a condition may nest.
pub const MAX_DEPTH: u8 = 32;
/// How long the text of a condition may be, in bytes.
pub const MAX_TEXT: usize = 4_096;

/// A part of a condition as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Syntax {
    pub at: Range<usize>,
    pub kind: Kind,
    depth: u8,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Literal(Literal),
    Name(Box<str>),
    List(Vec<Syntax>),
    Map(Vec<(Syntax, Syntax)>),
    Select(Box<Syntax>, Box<str>),
    Index(Box<Syntax>, Box<Syntax>),
    /// What it is called on, its name, what it takes.
    Call(Option<Box<Syntax>>, Box<str>, Vec<Syntax>),
    Not(Box<Syntax>),
    Negate(Box<Syntax>),
    Binary(Operator, Box<Syntax>, Box<Syntax>),
    All(Vec<Syntax>),
    Any(Vec<Syntax>),
    Choice(Box<[Syntax; 3]>),
}

/// A value that is written in a condition, or that follows from what is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    Time(i128),
    Span(i128),
}

/// An operator of two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    /// As it is written.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::In => "in",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }

    const fn precedence(self) -> u8 {
        match self {
            Self::Equal | Self::Unequal | Self::Less | Self::AtMost | Self::Greater | Self::AtLeast | Self::In => 1,
            Self::Add | Self::Subtract => 2,
            Self::Multiply | Self::Divide | Self::Remainder => 3,
        }
    }

    const ALL: [Self; 12] = [
        Self::Equal,
        Self::Unequal,
        Self::Less,
        Self::AtMost,
        Self::Greater,
        Self::AtLeast,
        Self::In,
        Self::Add,
        Self::Subtract,
        Self::Multiply,
        Self::Divide,
        Self::Remainder,
    ];
}

const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

type Read<T> = Result<T, ConditionError>;

/// Reads a whole condition.
pub(super) fn read(text: &str) -> Read<Syntax> {
    if text.len() > MAX_TEXT {
        return Err(ConditionError { at: 0..text.len(), kind: ConditionFault::TooLong });
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    if parser.kind() == &TokenKind::End {
        return Err(ConditionError { at: 0..text.len(), kind: ConditionFault::Empty });
    }
    let whole = parser.expression()?;
    match parser.kind() {
        TokenKind::End => Ok(whole),
        TokenKind::Name(name) if **name == *"and" => parser.wrong(ConditionFault::Spelling("and", "&&")),
        TokenKind::Name(name) if **name == *"or" => parser.wrong(ConditionFault::Spelling("or", "||")),
        TokenKind::Int(_)
        | TokenKind::Uint(_)
        | TokenKind::Double(_)
        | TokenKind::Text(_)
        | TokenKind::Bytes(_)
        | TokenKind::Name(_)
        | TokenKind::Sign(_) => parser.wrong(ConditionFault::Trailing),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: u8,
}

impl Parser {
    fn token(&self) -> &Token {
        const END: &Token = &Token { at: 0..0, kind: TokenKind::End };
        self.tokens.get(self.at).or(self.tokens.last()).unwrap_or(END)
    }

    fn kind(&self) -> &TokenKind {
        &self.token().kind
    }

    fn place(&self) -> Range<usize> {
        self.token().at.clone()
    }

    fn next(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.kind(), TokenKind::Sign(here) if *here == sign)
    }

    fn eat(&mut self, sign: &str) -> bool {
        let here = self.is(sign);
        if here {
            self.next();
        }
        here
    }

    fn expect(&mut self, sign: &'static str, name: &'static str) -> Read<usize> {
        let end = self.place().end;
        if self.eat(sign) { Ok(end) } else { self.wrong(ConditionFault::Missing(name)) }
    }

    fn wrong<T>(&self, kind: ConditionFault) -> Read<T> {
        Err(ConditionError { at: self.place(), kind })
    }

    /// A node over its parts, where that is not too deep.
    fn made(&self, at: Range<usize>, kind: Kind) -> Read<Syntax> {
        let depth = kind.parts().map(|part| part.depth).max().unwrap_or(0).saturating_add(1);
        if depth > MAX_DEPTH {
            return Err(ConditionError { at, kind: ConditionFault::TooDeep });
        }
        Ok(Syntax { at, kind, depth })
    }

    fn expression(&mut self) -> Read<Syntax> {
        if self.depth >= MAX_DEPTH {
            return self.wrong(ConditionFault::TooDeep);
        }
        self.depth = self.depth.saturating_add(1);
        let read = self.choice();
        self.depth = self.depth.saturating_sub(1);
        read
    }

    fn choice(&mut self) -> Read<Syntax> {
        let asked = self.any()?;
        if !self.eat("?") {
            return Ok(asked);
        }
        let yes = self.any()?;
        self.expect(":", "`:` of `condition ? this : that`")?;
        let no = self.expression()?;
        self.made(asked.at.start..no.at.end, Kind::Choice(Box::new([asked, yes, no])))
    }

    fn any(&mut self) -> Read<Syntax> {
        self.chain("||", Self::all, Kind::Any)
    }

    fn all(&mut self) -> Read<Syntax> {
        self.chain("&&", |parser| parser.binary(1), Kind::All)
    }

    fn chain(
        &mut self,
        sign: &str,
        part: impl Fn(&mut Self) -> Read<Syntax>,
        join: impl Fn(Vec<Syntax>) -> Kind,
    ) -> Read<Syntax> {
        let first = part(self)?;
        if !self.is(sign) {
            return Ok(first);
        }
        let mut at = first.at.clone();
        let mut parts = vec![first];
        while self.eat(sign) {
            let part = part(self)?;
            at.end = part.at.end;
            parts.push(part);
        }
        self.made(at, join(parts))
    }

    fn operator(&self) -> Option<Operator> {
        let written = match self.kind() {
            TokenKind::Sign(sign) => sign,
            TokenKind::Name(name) if **name == *"in" => "in",
            TokenKind::Name(_)
            | TokenKind::Int(_)
            | TokenKind::Uint(_)
            | TokenKind::Double(_)
            | TokenKind::Text(_)
            | TokenKind::Bytes(_)
            | TokenKind::End => return None,
        };
        Operator::ALL.into_iter().find(|operator| operator.sign() == written)
    }

    fn binary(&mut self, least: u8) -> Read<Syntax> {
        let mut left = self.unary()?;
        while let Some(operator) = self.operator().filter(|operator| operator.precedence() >= least) {
            self.next();
            let right = self.binary(operator.precedence().saturating_add(1))?;
            let at = left.at.start..right.at.end;
            left = self.made(at, Kind::Binary(operator, Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    /// `!` and `-`, without recursion: their number is the caller's.
    fn unary(&mut self) -> Read<Syntax> {
        let start = self.place().start;
        let sign = if self.is("-") { "-" } else { "!" };
        let mut signs = Vec::new();
        while self.is(sign) {
            signs.push(self.place().start);
            self.next();
            if signs.len() > usize::from(MAX_DEPTH) {
                return self.wrong(ConditionFault::TooDeep);
            }
        }
        if sign == "-" && self.number_follows() {
            let start = signs.pop().unwrap_or(start);
            let negative = self.number(start, true)?;
            return self.signed(signs, negative, sign);
        }
        let operand = self.member()?;
        self.signed(signs, operand, sign)
    }

    fn number_follows(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        let signed = before.is_some_and(|token| token.kind == TokenKind::Sign("-"));
        signed && matches!(self.kind(), TokenKind::Int(_) | TokenKind::Double(_))
    }

    fn signed(&self, signs: Vec<usize>, operand: Syntax, sign: &str) -> Read<Syntax> {
        signs.into_iter().rev().try_fold(operand, |operand, start| {
            let at = start..operand.at.end;
            let operand = Box::new(operand);
            self.made(at, if sign == "-" { Kind::Negate(operand) } else { Kind::Not(operand) })
        })
    }

    fn number(&mut self, start: usize, negative: bool) -> Read<Syntax> {
        let literal = match *self.kind() {
            TokenKind::Int(magnitude) => {
                let value = i128::from(magnitude);
                i64::try_from(if negative { value.saturating_neg() } else { value }).ok().map(Literal::Int)
            }
            TokenKind::Double(value) => Some(Literal::Double(if negative { -value } else { value })),
            TokenKind::Uint(value) => Some(Literal::Uint(value)),
            TokenKind::Text(_) | TokenKind::Bytes(_) | TokenKind::Name(_) | TokenKind::Sign(_) | TokenKind::End => None,
        };
        let at = start..self.place().end;
        let Some(literal) = literal else { return Err(ConditionError { at, kind: ConditionFault::Number }) };
        self.next();
        self.made(at, Kind::Literal(literal))
    }

    fn member(&mut self) -> Read<Syntax> {
        let mut whole = self.primary()?;
        loop {
            let start = whole.at.start;
            if self.eat(".") {
                let (name, end) = self.name()?;
                whole = if self.eat("(") {
                    let (arguments, end) = self.list(")", "`)`")?;
                    self.made(start..end, Kind::Call(Some(Box::new(whole)), name, arguments))?
                } else {
                    self.made(start..end, Kind::Select(Box::new(whole), name))?
                };
            } else if self.eat("[") {
                let index = self.expression()?;
                let end = self.expect("]", "`]`")?;
                whole = self.made(start..end, Kind::Index(Box::new(whole), Box::new(index)))?;
            } else {
                return Ok(whole);
            }
        }
    }

    /// A name after a dot: any word but the literals and `in`.
    fn name(&mut self) -> Read<(Box<str>, usize)> {
        let end = self.place().end;
        match self.kind().clone() {
            TokenKind::Name(name) if !matches!(&*name, "true" | "false" | "null" | "in") => {
                self.next();
                Ok((name, end))
            }
            TokenKind::Name(_) => self.wrong(ConditionFault::Reserved),
            TokenKind::Int(_)
            | TokenKind::Uint(_)
            | TokenKind::Double(_)
            | TokenKind::Text(_)
            | TokenKind::Bytes(_)
            | TokenKind::Sign(_)
            | TokenKind::End => self.wrong(ConditionFault::Missing("a name")),
        }
    }

    /// Expressions up to a closing sign, which may follow a last comma; and where that ends.
    fn list(&mut self, close: &'static str, name: &'static str) -> Read<(Vec<Syntax>, usize)> {
        let mut items = Vec::new();
        while !self.is(close) {
            items.push(self.expression()?);
            if !self.eat(",") {
                break;
            }
        }
        let end = self.expect(close, name)?;
        Ok((items, end))
    }

    fn primary(&mut self) -> Read<Syntax> {
        let at = self.place();
        let literal = match self.kind().clone() {
            TokenKind::Int(_) | TokenKind::Uint(_) | TokenKind::Double(_) => return self.number(at.start, false),
            TokenKind::Text(text) => Literal::Text(text),
            TokenKind::Bytes(bytes) => Literal::Bytes(bytes),
            TokenKind::Name(name) => match &*name {
                "true" => Literal::Bool(true),
                "false" => Literal::Bool(false),
                "null" => Literal::Null,
                "not" => return self.wrong(ConditionFault::Spelling("not", "!")),
                "in" => return self.wrong(ConditionFault::Missing("a value")),
                name if RESERVED.contains(&name) => return self.wrong(ConditionFault::Reserved),
                _ => return self.named(at, name),
            },
            TokenKind::Sign(sign) => return self.bracketed(at, sign),
            TokenKind::End => return self.wrong(ConditionFault::Missing("a value")),
        };
        self.next();
        self.made(at, Kind::Literal(literal))
    }

    fn named(&mut self, at: Range<usize>, name: Box<str>) -> Read<Syntax> {
        self.next();
        if self.eat("(") {
            let (arguments, end) = self.list(")", "`)`")?;
            return self.made(at.start..end, Kind::Call(None, name, arguments));
        }
        self.made(at, Kind::Name(name))
    }

    fn bracketed(&mut self, at: Range<usize>, sign: &'static str) -> Read<Syntax> {
        match sign {
            "(" => {
                self.next();
                let mut whole = self.expression()?;
                whole.at = at.start..self.expect(")", "`)`")?;
                Ok(whole)
            }
            "[" => {
                self.next();
                let (items, end) = self.list("]", "`]`")?;
                self.made(at.start..end, Kind::List(items))
            }
            "{" => {
                self.next();
                let mut entries = Vec::new();
                while !self.is("}") {
                    let key = self.expression()?;
                    self.expect(":", "`:` between key and value")?;
                    entries.push((key, self.expression()?));
                    if !self.eat(",") {
                        break;
                    }
                }
                let end = self.expect("}", "`}`")?;
                self.made(at.start..end, Kind::Map(entries))
            }
            _ => self.wrong(ConditionFault::Missing("a value")),
        }
    }
}

impl Kind {
    /// The parts that it is made of.
    pub fn parts(&self) -> impl Iterator<Item = &Syntax> {
        let (one, many, pairs): (Vec<&Syntax>, &[Syntax], &[(Syntax, Syntax)]) = match self {
            Self::Literal(_) | Self::Name(_) => (Vec::new(), &[], &[]),
            Self::List(items) | Self::All(items) | Self::Any(items) => (Vec::new(), items, &[]),
            Self::Map(entries) => (Vec::new(), &[], entries),
            Self::Select(part, _) | Self::Not(part) | Self::Negate(part) => (vec![part], &[], &[]),
            Self::Index(one, two) | Self::Binary(_, one, two) => (vec![one, two], &[], &[]),
            Self::Call(target, _, arguments) => (target.iter().map(|target| &**target).collect(), arguments, &[]),
            Self::Choice(parts) => (Vec::new(), &**parts, &[]),
        };
        one.into_iter().chain(many).chain(pairs.iter().flat_map(|(key, value)| [key, value]))
    }
}
