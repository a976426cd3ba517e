//! Asking a condition: each part of it over one request, in a bounded number of steps. Total: every outcome is a value or a
//! [`Failure`].
#![expect(clippy::wildcard_enum_match_arm, reason = "whatever a value is that cannot be here, it is one fault")]

use std::cmp::Ordering;

use super::bind::Bindings;
use super::call;
use super::check::{Ask, Loop, LoopKind, Node, Variable};
use super::fault::{Failure, Fault};
use super::pattern::MAX_MATCHED;
use super::syntax::{Literal, Operator};
use super::time;
use super::types::Part;
use super::value::{List, Map, Shared, Value};

/// How many steps a condition may take: one for each part that is asked, one for each 64 bytes that are read and one for
/// each 32 that are made.
pub const MAX_STEPS: usize = 16_384;

type Told<'a> = Result<Value<'a>, Failure>;

/// One evaluation.
pub(super) struct Run<'a> {
    bindings: Bindings<'a>,
    steps: usize,
    /// The members that the loops around are at.
    bound: Vec<Value<'a>>,
}

/// A part that is the same for every request, asked when the policy is read; `None` for what has members.
pub(super) fn fold(node: &Node) -> Result<Option<Literal>, Failure> {
    let told = Run::new(Bindings::nothing()).value(node)?;
    Ok(told.to_literal())
}

/// A fault has its place once it is known which part was asked.
trait At<T> {
    fn at(self, node: &Node) -> Result<T, Failure>;
}

impl<T> At<T> for Result<T, Fault> {
    fn at(self, node: &Node) -> Result<T, Failure> {
        self.map_err(|kind| Failure { at: node.start..node.end, kind })
    }
}

impl<'a> Run<'a> {
    pub fn new(bindings: Bindings<'a>) -> Self {
        Self { bindings, steps: 0, bound: Vec::new() }
    }

    /// How many steps it took so far.
    #[cfg(test)]
    pub fn steps(&self) -> usize {
        self.steps
    }

    fn charge(&mut self, steps: usize) -> Result<(), Fault> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > MAX_STEPS { Err(Fault::Budget) } else { Ok(()) }
    }

    /// Charges for a value that was made.
    fn paid(&mut self, value: Value<'a>) -> Result<Value<'a>, Fault> {
        let made = match &value {
            Value::Text(Shared::Made(text)) => text.len() / 32,
            Value::Bytes(Shared::Made(bytes)) => bytes.len() / 32,
            Value::List(List::Made(items)) => items.len(),
            Value::Map(Map::Made(entries)) => entries.len().saturating_mul(2),
            Value::Text(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => 0,
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) => 0,
            Value::Time(_) | Value::Span(_) | Value::Type(_) => 0,
        };
        self.charge(made)?;
        Ok(value)
    }

    /// What a part comes to.
    pub fn value(&mut self, node: &'a Node) -> Told<'a> {
        self.charge(1).at(node)?;
        match &node.ask {
            Ask::Literal(literal) => Ok(Value::literal(literal)),
            Ask::Read(variable) => {
                let read = self.bindings.read(variable).at(node)?;
                self.paid(read).at(node)
            }
            Ask::Bound(depth) => self.bound.get(*depth).cloned().ok_or(Fault::NoMember).at(node),
            Ask::List(items) => {
                let items = items.iter().map(|item| self.value(item)).collect::<Result<Vec<_>, _>>()?;
                let list = Value::list(items).at(node)?;
                self.paid(list).at(node)
            }
            Ask::Map(entries) => self.map(node, entries),
            Ask::Select(of, name) => self.member(of, name).and_then(|found| found.ok_or(Fault::NoMember).at(node)),
            Ask::Has(of, name) => self.member(of, name).map(|found| Value::Bool(found.is_some())),
            Ask::Index(parts) => self.index(node, &parts.0, &parts.1),
            Ask::Not(part) => self.bool(part).map(|value| Value::Bool(!value)),
            Ask::Negate(part) => {
                let value = self.value(part)?;
                call::negate(&value).at(node)
            }
            Ask::Binary(operator, sides) => self.binary(node, *operator, &sides.0, &sides.1),
            Ask::All(parts) => self.settle(parts, false),
            Ask::Any(parts) => self.settle(parts, true),
            Ask::Choice(parts) => {
                let [asked, yes, no] = &**parts;
                if self.bool(asked)? { self.value(yes) } else { self.value(no) }
            }
            Ask::Call(function, takes) => {
                let takes = takes.iter().map(|part| self.value(part)).collect::<Result<Vec<_>, _>>()?;
                let weight = takes.iter().fold(0, |sum: usize, value| sum.saturating_add(value.weight()));
                self.charge(weight).at(node)?;
                let made = call::call(*function, &takes).at(node)?;
                self.paid(made).at(node)
            }
            Ask::Zoned(part, of, offset) => self.zoned(node, *part, of, *offset),
            Ask::Matches(of, pattern) => match self.value(of)? {
                Value::Text(text) if text.len() <= MAX_MATCHED => {
                    self.charge(text.len()).at(node)?;
                    Ok(Value::Bool(pattern.is_in(&text)))
                }
                Value::Text(_) => Err(Fault::TooLarge).at(node),
                _ => Err(Fault::Type).at(of),
            },
            Ask::Loop(looped) => self.looped(node, looped),
        }
    }

    /// What a part comes to that is true or false.
    pub fn bool(&mut self, node: &'a Node) -> Result<bool, Failure> {
        if let Value::Bool(value) = self.value(node)? { Ok(value) } else { Err(Fault::Type).at(node) }
    }

    /// `&&` (settled by false) and `||` (settled by true): what settles it absorbs what failed, on either side.
    fn settle(&mut self, parts: &'a [Node], settled: bool) -> Told<'a> {
        let mut failed = None;
        for part in parts {
            match self.bool(part) {
                Ok(value) if value == settled => return Ok(Value::Bool(settled)),
                Ok(_) => {}
                Err(failure) if failure.kind == Fault::Budget => return Err(failure),
                Err(failure) => _ = failed.get_or_insert(failure),
            }
        }
        failed.map_or(Ok(Value::Bool(!settled)), Err)
    }

    fn map(&mut self, node: &'a Node, entries: &'a [(Node, Node)]) -> Told<'a> {
        let mut made: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let (place, key, value) = (key, self.value(key)?, self.value(value)?);
            let mut steps = 0;
            for (earlier, _) in &made {
                if earlier.equals(&key, &mut steps).at(place)? {
                    return Err(Fault::Key).at(place);
                }
            }
            self.charge(steps).at(place)?;
            if !key.is_key() {
                return Err(Fault::Key).at(place);
            }
            made.push((key, value));
        }
        let map = Value::map(made).at(node)?;
        self.paid(map).at(node)
    }

    /// A member of a map by its name, where there is one.
    fn member(&mut self, of: &'a Node, name: &str) -> Result<Option<Value<'a>>, Failure> {
        if let Ask::Read(Variable::Headers) = of.ask {
            return self.header(of, name);
        }
        let Value::Map(map) = self.value(of)? else { return Err(Fault::Type).at(of) };
        self.charge(map.len() / 16).at(of)?;
        map.member(name).transpose().at(of)
    }

    /// One header, without making a map of all of them.
    fn header(&mut self, of: &'a Node, name: &str) -> Result<Option<Value<'a>>, Failure> {
        self.charge(self.bindings.header_count() / 16).at(of)?;
        let found = self.bindings.header(name).at(of)?;
        found.map(|list| self.paid(list).at(of)).transpose()
    }

    fn index(&mut self, node: &'a Node, of: &'a Node, key: &'a Node) -> Told<'a> {
        if let (Ask::Read(Variable::Headers), Ask::Literal(Literal::Text(name))) = (&of.ask, &key.ask) {
            return self.header(of, name)?.ok_or(Fault::NoMember).at(node);
        }
        let (whole, key) = (self.value(of)?, self.value(key)?);
        self.charge(key.weight()).at(node)?;
        let found = match &whole {
            Value::List(list) => match call::place(&key).at(node)? {
                Some(place) => list.get(place),
                None => None,
            },
            Value::Map(map) => {
                self.charge(map.len() / 16).at(node)?;
                map.get(&key)
            }
            _ => return Err(Fault::Type).at(of),
        };
        found.transpose().at(node)?.ok_or(Fault::NoMember).at(node)
    }

    fn binary(&mut self, node: &'a Node, operator: Operator, left: &'a Node, right: &'a Node) -> Told<'a> {
        if operator == Operator::In {
            return self.is_in(node, left, right).map(Value::Bool);
        }
        let (one, two) = (self.value(left)?, self.value(right)?);
        self.charge(one.weight().min(two.weight())).at(node)?;
        let ordered = |wanted: &[Ordering]| one.ordered(&two, wanted).map(Value::Bool).at(node);
        match operator {
            Operator::Equal => self.equal(node, &one, &two).map(Value::Bool),
            Operator::Unequal => self.equal(node, &one, &two).map(|equal| Value::Bool(!equal)),
            Operator::Less => ordered(&[Ordering::Less]),
            Operator::AtMost => ordered(&[Ordering::Less, Ordering::Equal]),
            Operator::Greater => ordered(&[Ordering::Greater]),
            Operator::AtLeast => ordered(&[Ordering::Greater, Ordering::Equal]),
            Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Remainder => {
                let made = call::arithmetic(operator, &one, &two).at(node)?;
                self.paid(made).at(node)
            }
            Operator::In => Err(Fault::Type).at(node),
        }
    }

    fn equal(&mut self, node: &Node, one: &Value<'a>, two: &Value<'a>) -> Result<bool, Failure> {
        let mut steps = 0;
        let equal = one.equals(two, &mut steps);
        self.charge(steps).at(node)?;
        equal.at(node)
    }

    fn is_in(&mut self, node: &'a Node, left: &'a Node, right: &'a Node) -> Result<bool, Failure> {
        let wanted = self.value(left)?;
        if let (Ask::Read(Variable::Roles), Value::Text(name)) = (&right.ask, &wanted) {
            self.charge(32).at(node)?;
            return self.bindings.has_role(name).at(right);
        }
        if let (Ask::Read(Variable::Headers), Value::Text(name)) = (&right.ask, &wanted) {
            return self.header(right, name).map(|found| found.is_some());
        }
        match self.value(right)? {
            Value::List(list) => {
                for at in 0..list.len() {
                    let Some(member) = list.get(at).transpose().at(right)? else { break };
                    if self.equal(node, &wanted, &member)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Value::Map(map) => {
                self.charge(map.len() / 16).at(node)?;
                map.get(&wanted).transpose().at(right).map(|found| found.is_some())
            }
            _ => Err(Fault::Type).at(right),
        }
    }

    fn zoned(&mut self, node: &'a Node, part: Part, of: &'a Node, offset: i64) -> Told<'a> {
        match self.value(of)? {
            Value::Time(nanos) => Ok(Value::Int(time::part_of_time(part, nanos, offset))),
            _ => Err(Fault::Type).at(node),
        }
    }

    fn looped(&mut self, node: &'a Node, looped: &'a Loop) -> Told<'a> {
        let list = match self.value(&looped.over)? {
            Value::List(list) => list,
            Value::Map(map) => {
                self.charge(map.len()).at(node)?;
                List::Made(map.keys().into())
            }
            _ => return Err(Fault::Type).at(&looped.over),
        };
        let (mut made, mut failed, mut hits) = (Vec::new(), None, 0_usize);
        let settled = matches!(looped.kind, LoopKind::Exists);
        for at in 0..list.len() {
            let Some(item) = list.get(at).transpose().at(&looped.over)? else { break };
            self.bound.push(item.clone());
            let told = self.turn(looped);
            self.bound.pop();
            match (looped.kind, told) {
                (LoopKind::All | LoopKind::Exists, Ok(Some(Value::Bool(value)))) if value == settled => {
                    return Ok(Value::Bool(settled));
                }
                (LoopKind::All | LoopKind::Exists, Err(failure)) if failure.kind != Fault::Budget => {
                    _ = failed.get_or_insert(failure);
                }
                (_, Err(failure)) => return Err(failure),
                (LoopKind::ExistsOne, Ok(Some(Value::Bool(true)))) => hits = hits.saturating_add(1),
                (LoopKind::Filter, Ok(Some(Value::Bool(true)))) => made.push(item),
                (LoopKind::Map, Ok(Some(value))) => made.push(value),
                (_, Ok(_)) => {}
            }
        }
        if let Some(failure) = failed {
            return Err(failure);
        }
        match looped.kind {
            LoopKind::All | LoopKind::Exists => Ok(Value::Bool(!settled)),
            LoopKind::ExistsOne => Ok(Value::Bool(hits == 1)),
            LoopKind::Map | LoopKind::Filter => {
                let list = Value::list(made).at(node)?;
                self.paid(list).at(node)
            }
        }
    }

    /// One turn of a loop; `None` where `map` leaves the member out.
    fn turn(&mut self, looped: &'a Loop) -> Result<Option<Value<'a>>, Failure> {
        if let Some(filter) = &looped.filter
            && !self.bool(filter)?
        {
            return Ok(None);
        }
        if looped.kind == LoopKind::Map {
            return self.value(&looped.body).map(Some);
        }
        self.bool(&looped.body).map(|value| Some(Value::Bool(value)))
    }
}
