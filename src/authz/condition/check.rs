//! What a condition may ask, found out when the policy is read: names, fields, captures, types, patterns, and what can never
//! be told.

use std::ops::Range;

use super::Place;
use super::eval::fold;
use super::fault::{ConditionError, ConditionFault};
use super::pattern::Pattern;
use super::syntax::{Kind, Literal, Operator, Syntax};
use super::types::{self, Function, Part, Type};
use crate::authz::rule::distance;

/// How deep `all`, `exists`, `map` and `filter` may nest.
const MAX_LOOPS: usize = 2;

/// A value of the request, the caller or the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `request.method`
    Method,
    /// `request.host`
    Host,
    /// `request.path`
    Path,
    /// `request.query`
    Query,
    /// `request.headers`
    Headers,
    /// `caller.signed_in`
    SignedIn,
    /// `caller.subject`
    Subject,
    /// `caller.principal`
    Principal,
    /// `caller.issuer`
    Issuer,
    /// `caller.roles`
    Roles,
    /// `caller.groups`
    Groups,
    /// `caller.scopes`
    Scopes,
    /// `caller.address`
    Address,
    /// `claims`
    Claims,
    /// `path.name`
    Capture(Box<str>),
    /// `now`
    Now,
}

const REQUEST: [(&str, Variable); 5] = [
    ("method", Variable::Method),
    ("host", Variable::Host),
    ("path", Variable::Path),
    ("query", Variable::Query),
    ("headers", Variable::Headers),
];
const CALLER: [(&str, Variable); 8] = [
    ("signed_in", Variable::SignedIn),
    ("subject", Variable::Subject),
    ("principal", Variable::Principal),
    ("issuer", Variable::Issuer),
    ("roles", Variable::Roles),
    ("groups", Variable::Groups),
    ("scopes", Variable::Scopes),
    ("address", Variable::Address),
];

impl Variable {
    /// Whether it tells who calls.
    #[must_use]
    pub const fn is_about_caller(&self) -> bool {
        match self {
            Self::Method | Self::Host | Self::Path | Self::Query | Self::Headers => false,
            Self::Capture(_) | Self::Now | Self::Address => false,
            Self::SignedIn | Self::Subject | Self::Principal | Self::Issuer => true,
            Self::Roles | Self::Groups | Self::Scopes | Self::Claims => true,
        }
    }

    fn of_type(&self) -> Type {
        match self {
            Self::Method | Self::Host | Self::Path | Self::Capture(_) => Type::Text,
            Self::Subject | Self::Principal | Self::Issuer | Self::Address => Type::Text,
            Self::Query | Self::Headers => Type::map(Type::Text, Type::list(Type::Text)),
            Self::Roles | Self::Groups | Self::Scopes => Type::list(Type::Text),
            Self::SignedIn => Type::Bool,
            Self::Claims => Type::map(Type::Text, Type::Dyn),
            Self::Now => Type::Time,
        }
    }
}

/// A part of a condition, ready to be asked.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub start: usize,
    pub end: usize,
    pub ask: Ask,
}

#[derive(Clone, Debug)]
pub(super) enum Ask {
    Literal(Literal),
    Read(Variable),
    /// The variable of the loop that is so deep.
    Bound(usize),
    List(Box<[Node]>),
    Map(Box<[(Node, Node)]>),
    Select(Box<Node>, Box<str>),
    Has(Box<Node>, Box<str>),
    Index(Box<(Node, Node)>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(Operator, Box<(Node, Node)>),
    All(Box<[Node]>),
    Any(Box<[Node]>),
    Choice(Box<[Node; 3]>),
    Call(Function, Box<[Node]>),
    /// A part of a timestamp, so many seconds east of UTC.
    Zoned(Part, Box<Node>, i64),
    Matches(Box<Node>, Pattern),
    Loop(Box<Loop>),
}

#[derive(Clone, Debug)]
pub(super) struct Loop {
    pub kind: LoopKind,
    pub over: Node,
    /// What `map` keeps, where it says so.
    pub filter: Option<Node>,
    pub body: Node,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoopKind {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
}

/// A part with what is known of its value.
struct Typed {
    node: Node,
    of: Type,
    /// Whether it is the same for every request.
    constant: bool,
}

type Checked<T> = Result<T, ConditionError>;

/// Checks a whole condition: what to ask, and what that reads and where.
pub(super) fn check(syntax: &Syntax, place: &Place<'_>) -> Checked<(Node, Vec<(Variable, Range<usize>)>)> {
    let mut checker = Checker { place, scope: Vec::new(), reads: Vec::new() };
    let whole = checker.asked(syntax, &Type::Bool, "a bool: a condition is true or false")?;
    if checker.reads.is_empty() {
        return wrong(&syntax.at, ConditionFault::Constant);
    }
    Ok((whole.node, checker.reads))
}

fn wrong<T>(at: &Range<usize>, kind: ConditionFault) -> Checked<T> {
    Err(ConditionError { at: at.clone(), kind })
}

struct Checker<'p> {
    place: &'p Place<'p>,
    /// The variables of the loops around.
    scope: Vec<(Box<str>, Type)>,
    reads: Vec<(Variable, Range<usize>)>,
}

impl Checker<'_> {
    /// A part that must be of a type.
    fn asked(&mut self, syntax: &Syntax, wanted: &Type, named: &'static str) -> Checked<Typed> {
        let typed = self.typed(syntax)?;
        if typed.of == *wanted || typed.of == Type::Dyn {
            return Ok(typed);
        }
        wrong(&syntax.at, ConditionFault::Type(typed.of, named))
    }

    fn typed(&mut self, syntax: &Syntax) -> Checked<Typed> {
        let (ask, of, constant) = match &syntax.kind {
            Kind::Literal(literal) => (Ask::Literal(literal.clone()), of_literal(literal), true),
            Kind::Name(name) => self.name(name, &syntax.at)?,
            Kind::List(items) => self.list(items)?,
            Kind::Map(entries) => self.map(entries)?,
            Kind::Select(of, field) => self.select(of, field, &syntax.at)?,
            Kind::Index(of, key) => self.index(of, key, &syntax.at)?,
            Kind::Call(target, name, takes) => self.call(target.as_deref(), name, takes, &syntax.at)?,
            Kind::Not(part) => {
                let part = self.asked(part, &Type::Bool, "a bool: `!` turns true and false around")?;
                (Ask::Not(Box::new(part.node)), Type::Bool, part.constant)
            }
            Kind::Negate(part) => {
                let part = self.typed(part)?;
                if !matches!(part.of, Type::Int | Type::Double | Type::Dyn) {
                    return wrong(&syntax.at, ConditionFault::Operands("-", part.of.to_string()));
                }
                (Ask::Negate(Box::new(part.node)), part.of, part.constant)
            }
            Kind::Binary(operator, left, right) => self.binary(*operator, left, right, &syntax.at)?,
            Kind::All(parts) => {
                let (parts, constant) = self.bools(parts)?;
                (Ask::All(parts), Type::Bool, constant)
            }
            Kind::Any(parts) => {
                let (parts, constant) = self.bools(parts)?;
                (Ask::Any(parts), Type::Bool, constant)
            }
            Kind::Choice(parts) => self.choice(parts)?,
        };
        let node = Node { start: syntax.at.start, end: syntax.at.end, ask };
        let node = if constant { self.folded(node)? } else { node };
        Ok(Typed { node, of, constant })
    }

    /// What is the same for every request is asked now, and must have an answer.
    fn folded(&self, node: Node) -> Checked<Node> {
        if matches!(node.ask, Ask::Literal(_)) {
            return Ok(node);
        }
        match fold(&node) {
            Ok(Some(literal)) => Ok(Node { ask: Ask::Literal(literal), ..node }),
            Ok(None) => Ok(node),
            Err(failure) => wrong(&failure.at, ConditionFault::Always(failure.kind)),
        }
    }

    fn bools(&mut self, parts: &[Syntax]) -> Checked<(Box<[Node]>, bool)> {
        let mut constant = true;
        let mut nodes = Vec::with_capacity(parts.len());
        for part in parts {
            let part = self.asked(part, &Type::Bool, "a bool: `&&` and `||` join what is true or false")?;
            constant &= part.constant;
            nodes.push(part.node);
        }
        Ok((nodes.into(), constant))
    }

    fn choice(&mut self, [asked, yes, no]: &[Syntax; 3]) -> Checked<(Ask, Type, bool)> {
        let asked = self.asked(asked, &Type::Bool, "a bool: it chooses one of two")?;
        let (yes, no) = (self.typed(yes)?, self.typed(no)?);
        let constant = asked.constant && yes.constant && no.constant;
        Ok((Ask::Choice(Box::new([asked.node, yes.node, no.node])), yes.of.or(no.of), constant))
    }

    fn list(&mut self, items: &[Syntax]) -> Checked<(Ask, Type, bool)> {
        let (mut of, mut constant) = (None, true);
        let mut nodes = Vec::with_capacity(items.len());
        for item in items {
            let item = self.typed(item)?;
            of = Some(of.map_or_else(|| item.of.clone(), |of: Type| of.or(item.of.clone())));
            constant &= item.constant;
            nodes.push(item.node);
        }
        Ok((Ask::List(nodes.into()), Type::list(of.unwrap_or(Type::Dyn)), constant))
    }

    fn map(&mut self, entries: &[(Syntax, Syntax)]) -> Checked<(Ask, Type, bool)> {
        let mut constant = true;
        let mut nodes = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let (at, key, value) = (&key.at, self.typed(key)?, self.typed(value)?);
            if !matches!(key.of, Type::Bool | Type::Int | Type::Uint | Type::Text | Type::Dyn) {
                return wrong(at, ConditionFault::Type(key.of, "a bool, int, uint or string: it is a key"));
            }
            constant &= key.constant && value.constant;
            nodes.push((key.node, value.node));
        }
        Ok((Ask::Map(nodes.into()), Type::map(Type::Dyn, Type::Dyn), constant))
    }

    fn name(&mut self, name: &str, at: &Range<usize>) -> Checked<(Ask, Type, bool)> {
        if let Some((depth, (_, of))) = self.scope.iter().enumerate().rev().find(|(_, (bound, _))| **bound == *name) {
            return Ok((Ask::Bound(depth), of.clone(), false));
        }
        match name {
            "claims" => self.read(Variable::Claims, at),
            "now" => self.read(Variable::Now, at),
            "request" => wrong(at, ConditionFault::NoField("request", "request.method")),
            "caller" => wrong(at, ConditionFault::NoField("caller", "caller.roles")),
            "path" => wrong(at, ConditionFault::NoField("path", "path.id")),
            _ => {
                let names = ["request", "caller", "claims", "path", "now"];
                wrong(at, ConditionFault::UnknownName(nearest(name, names.into_iter())))
            }
        }
    }

    fn read(&mut self, variable: Variable, at: &Range<usize>) -> Checked<(Ask, Type, bool)> {
        if self.place.public && variable.is_about_caller() {
            return wrong(at, ConditionFault::Nobody);
        }
        self.reads.push((variable.clone(), at.clone()));
        let of = variable.of_type();
        Ok((Ask::Read(variable), of, false))
    }

    /// `request`, `caller` and `path`, where no loop has a variable of that name.
    fn object<'s>(&self, syntax: &'s Syntax) -> Option<&'s str> {
        let Kind::Name(name) = &syntax.kind else { return None };
        let bound = self.scope.iter().any(|(bound, _)| bound == name);
        Some(&**name).filter(|name| !bound && matches!(*name, "request" | "caller" | "path"))
    }

    fn field(&mut self, object: &str, field: &str, at: &Range<usize>) -> Checked<(Ask, Type, bool)> {
        let (object, table, fields): (_, &[(&'static str, Variable)], _) = match object {
            "path" => {
                if !self.place.captures.contains(&field) {
                    return wrong(at, ConditionFault::UnknownCapture);
                }
                return self.read(Variable::Capture(field.into()), at);
            }
            "request" => ("request", &REQUEST, "method, host, path, query and headers"),
            _ => ("caller", &CALLER, "signed_in, subject, principal, issuer, roles, groups, scopes and address"),
        };
        match table.iter().find(|(name, _)| *name == field) {
            Some((_, variable)) => self.read(variable.clone(), at),
            None => {
                let nearest = nearest(field, table.iter().map(|(name, _)| *name));
                wrong(at, ConditionFault::UnknownField { object, fields, nearest })
            }
        }
    }

    /// A header is asked for by its name in lower case. What carries a credential is not asked for.
    fn header(&self, of: &Node, name: &str, at: &Range<usize>) -> Checked<()> {
        if matches!(of.ask, Ask::Read(Variable::Query))
            && self.place.hidden_queries.iter().any(|hidden| **hidden == *name)
        {
            return wrong(at, ConditionFault::CredentialParameter);
        }
        if !matches!(of.ask, Ask::Read(Variable::Headers)) {
            return Ok(());
        }
        let lower = name.to_ascii_lowercase();
        if super::is_hidden(&lower, self.place.hidden) {
            return wrong(at, ConditionFault::CredentialHeader);
        }
        if lower != name { wrong(at, ConditionFault::HeaderCase) } else { Ok(()) }
    }

    fn select(&mut self, of: &Syntax, field: &str, at: &Range<usize>) -> Checked<(Ask, Type, bool)> {
        if let Some(object) = self.object(of) {
            return self.field(object, field, at);
        }
        let typed = self.typed(of)?;
        self.header(&typed.node, field, at)?;
        let Some(value) = member(&typed.of) else {
            return wrong(&of.at, ConditionFault::Type(typed.of, "a map: `.` takes a member of one"));
        };
        Ok((Ask::Select(Box::new(typed.node), field.into()), value, typed.constant))
    }

    fn index(&mut self, of: &Syntax, key: &Syntax, at: &Range<usize>) -> Checked<(Ask, Type, bool)> {
        let written = if let Kind::Literal(Literal::Text(text)) = &key.kind { Some(&**text) } else { None };
        if let (Some(object), Some(field)) = (self.object(of), written) {
            return self.field(object, field, at);
        }
        let (typed, index) = (self.typed(of)?, self.typed(key)?);
        if let Some(name) = written {
            self.header(&typed.node, name, &key.at)?;
        }
        let value = match &typed.of {
            Type::List(of) if index.of.is_number() || index.of == Type::Dyn => (**of).clone(),
            Type::List(_) => {
                return wrong(
                    &key.at,
                    ConditionFault::Type(index.of, "an int: it counts the members of a list from 0"),
                );
            }
            Type::Map(keys, values) if index.of.meets(keys) => (**values).clone(),
            Type::Map(..) => return wrong(&key.at, ConditionFault::Type(index.of, "a key of the map")),
            Type::Dyn => Type::Dyn,
            Type::Null | Type::Bool | Type::Int | Type::Uint | Type::Double | Type::Text => {
                return wrong(&of.at, ConditionFault::Type(typed.of, "a list or a map: `[…]` takes a member of one"));
            }
            Type::Bytes | Type::Time | Type::Span | Type::Kind => {
                return wrong(&of.at, ConditionFault::Type(typed.of, "a list or a map: `[…]` takes a member of one"));
            }
        };
        let constant = typed.constant && index.constant;
        Ok((Ask::Index(Box::new((typed.node, index.node))), value, constant))
    }

    fn binary(
        &mut self,
        operator: Operator,
        left: &Syntax,
        right: &Syntax,
        at: &Range<usize>,
    ) -> Checked<(Ask, Type, bool)> {
        let (one, two) = (self.typed(left)?, self.typed(right)?);
        let Some(of) = types::of_operator(operator, &one.of, &two.of) else {
            let both = format!("{} and {}", one.of, two.of);
            return wrong(at, ConditionFault::Operands(operator.sign(), both));
        };
        if let (Operator::In, Kind::Literal(Literal::Text(name))) = (operator, &left.kind) {
            self.header(&two.node, name, &left.at)?;
        }
        let constant = one.constant && two.constant;
        Ok((Ask::Binary(operator, Box::new((one.node, two.node))), of, constant))
    }

    fn call(
        &mut self,
        target: Option<&Syntax>,
        name: &str,
        takes: &[Syntax],
        at: &Range<usize>,
    ) -> Checked<(Ask, Type, bool)> {
        let kind = match name {
            "has" if target.is_none() => return self.has(takes, at),
            "matches" => return self.matches(target, takes, at),
            "all" => Some(("all", LoopKind::All)),
            "exists" => Some(("exists", LoopKind::Exists)),
            "exists_one" | "existsOne" => Some(("exists_one", LoopKind::ExistsOne)),
            "map" => Some(("map", LoopKind::Map)),
            "filter" => Some(("filter", LoopKind::Filter)),
            _ => None,
        };
        if let (Some((name, kind)), Some(target)) = (kind, target) {
            return self.looped((name, kind), target, takes, at);
        }
        let Some((name, function)) = types::function(name, target.is_some()) else {
            return wrong(at, ConditionFault::UnknownFunction(nearest(name, types::names())));
        };
        if let (Function::Part(part), Some(target), [zone]) = (function, target, takes) {
            return self.zoned(part, target, zone);
        }
        let (mut constant, mut of, mut nodes) = (true, Vec::new(), Vec::new());
        for part in target.into_iter().chain(takes) {
            let part = self.typed(part)?;
            constant &= part.constant;
            of.push(part.of);
            nodes.push(part.node);
        }
        match types::of_function(function, &of) {
            Some(of) => Ok((Ask::Call(function, nodes.into()), of, constant)),
            None => {
                let took: Vec<String> = of.iter().map(Type::to_string).collect();
                let took = if took.is_empty() { "nothing".to_owned() } else { took.join(" and ") };
                wrong(at, ConditionFault::Arguments(name, took))
            }
        }
    }

    fn zoned(&mut self, part: Part, target: &Syntax, zone: &Syntax) -> Checked<(Ask, Type, bool)> {
        let target = self.asked(target, &Type::Time, "a timestamp: only those have a time zone")?;
        let written = if let Kind::Literal(Literal::Text(text)) = &zone.kind { super::time::zone(text) } else { None };
        match written {
            Some(offset) => Ok((Ask::Zoned(part, Box::new(target.node), offset), Type::Int, target.constant)),
            None => wrong(&zone.at, ConditionFault::Zone),
        }
    }

    fn has(&mut self, takes: &[Syntax], at: &Range<usize>) -> Checked<(Ask, Type, bool)> {
        let [Syntax { kind: Kind::Select(of, field), .. }] = takes else {
            return wrong(at, ConditionFault::HasShape);
        };
        if self.object(of).is_some() {
            return wrong(at, ConditionFault::HasShape);
        }
        let typed = self.typed(of)?;
        self.header(&typed.node, field, at)?;
        if member(&typed.of).is_none() {
            return wrong(&of.at, ConditionFault::Type(typed.of, "a map: `has` asks for a member of one"));
        }
        Ok((Ask::Has(Box::new(typed.node), field.clone()), Type::Bool, typed.constant))
    }

    fn matches(&mut self, target: Option<&Syntax>, takes: &[Syntax], at: &Range<usize>) -> Checked<(Ask, Type, bool)> {
        let parts: Vec<&Syntax> = target.into_iter().chain(takes).collect();
        let [text, pattern] = parts.as_slice() else {
            return wrong(
                at,
                ConditionFault::Arguments("matches", format!("{} parts; a text and a pattern", parts.len())),
            );
        };
        let typed = self.asked(text, &Type::Text, "a string: `matches` reads one")?;
        let Kind::Literal(Literal::Text(written)) = &pattern.kind else {
            return wrong(&pattern.at, ConditionFault::PatternNotLiteral);
        };
        match Pattern::new(written) {
            Ok(compiled) => Ok((Ask::Matches(Box::new(typed.node), compiled), Type::Bool, typed.constant)),
            Err(kind) => wrong(&pattern.at, kind),
        }
    }

    fn looped(
        &mut self,
        (name, kind): (&'static str, LoopKind),
        over: &Syntax,
        takes: &[Syntax],
        at: &Range<usize>,
    ) -> Checked<(Ask, Type, bool)> {
        let (bound, filter, body) = match takes {
            [bound, body] => (bound, None, body),
            [bound, filter, body] if kind == LoopKind::Map => (bound, Some(filter), body),
            _ => return wrong(at, ConditionFault::MacroShape(name)),
        };
        let Kind::Name(bound) = &bound.kind else { return wrong(at, ConditionFault::MacroShape(name)) };
        let listed = self.typed(over)?;
        let item = match &listed.of {
            Type::List(of) | Type::Map(of, _) => (**of).clone(),
            Type::Dyn => Type::Dyn,
            Type::Null | Type::Bool | Type::Int | Type::Uint | Type::Double | Type::Text => {
                return wrong(&over.at, ConditionFault::Type(listed.of, "a list or a map"));
            }
            Type::Bytes | Type::Time | Type::Span | Type::Kind => {
                return wrong(&over.at, ConditionFault::Type(listed.of, "a list or a map"));
            }
        };
        if self.scope.len() >= MAX_LOOPS {
            return wrong(at, ConditionFault::TooManyLoops);
        }
        self.scope.push((bound.clone(), item.clone()));
        let filter = filter.map(|filter| self.asked(filter, &Type::Bool, "a bool: it says what is kept"));
        let body = if kind == LoopKind::Map {
            self.typed(body)
        } else {
            self.asked(body, &Type::Bool, "a bool: it is asked of each member")
        };
        self.scope.pop();
        let (filter, body) = (filter.transpose()?.map(|filter| filter.node), body?);
        let of = match kind {
            LoopKind::All | LoopKind::Exists | LoopKind::ExistsOne => Type::Bool,
            LoopKind::Map => Type::list(body.of),
            LoopKind::Filter => Type::list(item),
        };
        Ok((Ask::Loop(Box::new(Loop { kind, over: listed.node, filter, body: body.node })), of, false))
    }
}

fn of_literal(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::Text(_) => Type::Text,
        Literal::Bytes(_) => Type::Bytes,
        Literal::Time(_) => Type::Time,
        Literal::Span(_) => Type::Span,
    }
}

/// The name that was probably meant: at most two edits away, and less than half of it.
fn nearest(name: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    let near = names.map(|known| (distance(&lower, &known.to_ascii_lowercase()), known)).min()?;
    (near.0 <= 2 && near.0.saturating_mul(2) < near.1.len()).then_some(near.1)
}

/// The type of a member by a text key; `None` where there are no such members.
fn member(of: &Type) -> Option<Type> {
    match of {
        Type::Map(_, values) => Some((**values).clone()),
        Type::Dyn => Some(Type::Dyn),
        Type::Null | Type::Bool | Type::Int | Type::Uint | Type::Double | Type::Text => None,
        Type::Bytes | Type::Time | Type::Span | Type::List(_) | Type::Kind => None,
    }
}
