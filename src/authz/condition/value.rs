//! The values of CEL while a condition is asked: borrowed from the request where they can be, equal and ordered as CEL says.

use std::cmp::Ordering;
use std::ops::Deref;
use std::rc::Rc;

use super::fault::Fault;
use super::syntax::Literal;
use crate::authz::json::{Json, Object};

/// The longest text, and the longest bytes, that are read or made.
pub const MAX_VALUE_TEXT: usize = 8 * 1024;
/// How many members a list or map may have.
pub const MAX_MEMBERS: usize = 1_024;

#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Shared<'a, str>),
    Bytes(Shared<'a, [u8]>),
    /// Nanoseconds since the Unix epoch.
    Time(i128),
    /// Nanoseconds.
    Span(i128),
    List(List<'a>),
    Map(Map<'a>),
    Type(&'static str),
}

/// Borrowed from the request or the policy, or made on the way.
#[derive(Debug)]
pub(super) enum Shared<'a, T: ?Sized> {
    Borrowed(&'a T),
    Made(Rc<T>),
}

impl<T: ?Sized> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        match self {
            Self::Borrowed(value) => Self::Borrowed(value),
            Self::Made(value) => Self::Made(Rc::clone(value)),
        }
    }
}

impl<T: ?Sized> Deref for Shared<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Borrowed(value) => value,
            Self::Made(value) => value,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum List<'a> {
    Json(&'a [Json]),
    Made(Rc<[Value<'a>]>),
}

#[derive(Clone, Debug)]
pub(super) enum Map<'a> {
    Json(&'a Object),
    Made(Rc<[(Value<'a>, Value<'a>)]>),
}

impl<'a> Value<'a> {
    /// A text, where it is not too long.
    pub fn text(text: &'a str) -> Result<Self, Fault> {
        if text.len() > MAX_VALUE_TEXT { Err(Fault::TooLarge) } else { Ok(Self::Text(Shared::Borrowed(text))) }
    }

    /// A text that was made on the way.
    pub fn made(text: impl Into<Rc<str>>) -> Result<Self, Fault> {
        let text = text.into();
        if text.len() > MAX_VALUE_TEXT { Err(Fault::TooLarge) } else { Ok(Self::Text(Shared::Made(text))) }
    }

    /// A list that was made on the way.
    pub fn list(items: Vec<Self>) -> Result<Self, Fault> {
        if items.len() > MAX_MEMBERS { Err(Fault::TooLarge) } else { Ok(Self::List(List::Made(items.into()))) }
    }

    /// A map that was made on the way.
    pub fn map(entries: Vec<(Self, Self)>) -> Result<Self, Fault> {
        if entries.len() > MAX_MEMBERS { Err(Fault::TooLarge) } else { Ok(Self::Map(Map::Made(entries.into()))) }
    }

    /// JSON of a token: whole numbers are int, or uint where they are too large for that; others are double.
    pub fn json(json: &'a Json) -> Result<Self, Fault> {
        Ok(match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(value), ..) => Self::Int(value),
                (None, Some(value), _) => Self::Uint(value),
                (None, None, Some(value)) => Self::Double(value),
                (None, None, None) => return Err(Fault::Range),
            },
            Json::Text(text) => Self::text(text)?,
            Json::List(items) if items.len() <= MAX_MEMBERS => Self::List(List::Json(items)),
            Json::Object(object) if object.iter().nth(MAX_MEMBERS).is_none() => Self::Map(Map::Json(object)),
            Json::List(_) | Json::Object(_) => return Err(Fault::TooLarge),
        })
    }

    /// A value of the policy's own.
    pub fn literal(literal: &'a Literal) -> Self {
        match literal {
            Literal::Null => Self::Null,
            Literal::Bool(value) => Self::Bool(*value),
            Literal::Int(value) => Self::Int(*value),
            Literal::Uint(value) => Self::Uint(*value),
            Literal::Double(value) => Self::Double(*value),
            Literal::Text(text) => Self::Text(Shared::Borrowed(text)),
            Literal::Bytes(bytes) => Self::Bytes(Shared::Borrowed(bytes)),
            Literal::Time(nanos) => Self::Time(*nanos),
            Literal::Span(nanos) => Self::Span(*nanos),
        }
    }

    /// The same as a part of the policy; `None` for what has members.
    pub fn to_literal(&self) -> Option<Literal> {
        Some(match self {
            Self::Null => Literal::Null,
            Self::Bool(value) => Literal::Bool(*value),
            Self::Int(value) => Literal::Int(*value),
            Self::Uint(value) => Literal::Uint(*value),
            Self::Double(value) => Literal::Double(*value),
            Self::Text(text) => Literal::Text((**text).into()),
            Self::Bytes(bytes) => Literal::Bytes((**bytes).into()),
            Self::Time(nanos) => Literal::Time(*nanos),
            Self::Span(nanos) => Literal::Span(*nanos),
            Self::List(_) | Self::Map(_) | Self::Type(_) => return None,
        })
    }

    /// What `type()` says.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Time(_) => "google.protobuf.Timestamp",
            Self::Span(_) => "google.protobuf.Duration",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Type(_) => "type",
        }
    }

    /// How much work it is to read all of it once: one for itself, one more for each 64 bytes.
    pub fn weight(&self) -> usize {
        let bytes = match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Uint(_) | Self::Double(_) => 0,
            Self::Time(_) | Self::Span(_) | Self::List(_) | Self::Map(_) | Self::Type(_) => 0,
        };
        (bytes / 64).saturating_add(1)
    }

    /// Whether they are equal, at the cost of so many steps: numbers by their value whatever their type, and values of
    /// two types never.
    pub fn equals(&self, other: &Self, steps: &mut usize) -> Result<bool, Fault> {
        *steps = steps.saturating_add(self.weight().min(other.weight()));
        Ok(match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(one), Self::Bool(two)) => one == two,
            (Self::Text(one), Self::Text(two)) => **one == **two,
            (Self::Bytes(one), Self::Bytes(two)) => **one == **two,
            (Self::Time(one), Self::Time(two)) | (Self::Span(one), Self::Span(two)) => one == two,
            (Self::Type(one), Self::Type(two)) => one == two,
            (Self::List(one), Self::List(two)) => {
                if one.len() != two.len() {
                    return Ok(false);
                }
                for at in 0..one.len() {
                    let (Some(one), Some(two)) = (one.get(at).transpose()?, two.get(at).transpose()?) else {
                        return Ok(false);
                    };
                    if !one.equals(&two, steps)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Map(one), Self::Map(two)) => one.equals(two, steps)?,
            (one, two) => one.number_order(two) == Some(Ordering::Equal),
        })
    }

    /// How they are ordered; `None` where one is not a number, by the outer, or is none (NaN), by the inner.
    fn numbers(&self, other: &Self) -> Option<Option<Ordering>> {
        let whole = |value: &Self| match value {
            Self::Int(value) => Some(i128::from(*value)),
            Self::Uint(value) => Some(i128::from(*value)),
            Self::Null | Self::Bool(_) | Self::Double(_) | Self::Text(_) | Self::Bytes(_) => None,
            Self::Time(_) | Self::Span(_) | Self::List(_) | Self::Map(_) | Self::Type(_) => None,
        };
        Some(match (self, other) {
            (Self::Double(one), Self::Double(two)) => one.partial_cmp(two),
            (Self::Double(one), two) => compare(whole(two)?, *one).map(Ordering::reverse),
            (one, Self::Double(two)) => compare(whole(one)?, *two),
            (one, two) => Some(whole(one)?.cmp(&whole(two)?)),
        })
    }

    fn number_order(&self, other: &Self) -> Option<Ordering> {
        self.numbers(other).flatten()
    }

    /// Whether the order of the two is one of these; an error where they have none.
    pub fn ordered(&self, other: &Self, wanted: &[Ordering]) -> Result<bool, Fault> {
        let order = match (self, other) {
            (Self::Bool(one), Self::Bool(two)) => Some(one.cmp(two)),
            (Self::Text(one), Self::Text(two)) => Some((**one).cmp(&**two)),
            (Self::Bytes(one), Self::Bytes(two)) => Some((**one).cmp(&**two)),
            (Self::Time(one), Self::Time(two)) | (Self::Span(one), Self::Span(two)) => Some(one.cmp(two)),
            (one, two) => one.numbers(two).ok_or(Fault::Type)?,
        };
        Ok(order.is_some_and(|order| wanted.contains(&order)))
    }
}

/// Compares exactly: no rounding makes two numbers equal.
fn compare(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // Beyond what int and uint hold; -2^63 and 2^64 are exact.
    if double < -9_223_372_036_854_775_808.0 {
        return Some(Ordering::Greater);
    }
    if double >= 18_446_744_073_709_551_616.0 {
        return Some(Ordering::Less);
    }
    let (floor, fraction) = (truncated(double.floor()), double - double.floor());
    Some(whole.cmp(&floor).then(if fraction > 0.0 { Ordering::Less } else { Ordering::Equal }))
}

#[expect(clippy::cast_possible_truncation, reason = "a whole number between -2^63 and 2^64")]
pub(super) fn truncated(double: f64) -> i128 {
    double as i128
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            Self::Json(items) => items.len(),
            Self::Made(items) => items.len(),
        }
    }

    pub fn get(&self, at: usize) -> Option<Result<Value<'a>, Fault>> {
        match self {
            Self::Json(items) => items.get(at).map(Value::json),
            Self::Made(items) => items.get(at).cloned().map(Ok),
        }
    }
}

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Self::Json(object) => object.iter().count(),
            Self::Made(entries) => entries.len(),
        }
    }

    /// The member of this name.
    pub fn member(&self, name: &str) -> Option<Result<Value<'a>, Fault>> {
        match self {
            Self::Json(object) => object.get(name).map(Value::json),
            Self::Made(entries) => {
                let is = |key: &Value<'_>| matches!(key, Value::Text(key) if **key == *name);
                entries.iter().find(|(key, _)| is(key)).map(|(_, value)| Ok(value.clone()))
            }
        }
    }

    /// The member of this key.
    pub fn get(&self, key: &Value<'_>) -> Option<Result<Value<'a>, Fault>> {
        match (self, key) {
            (_, Value::Text(name)) => self.member(name),
            (Self::Json(_), _) => None,
            (Self::Made(entries), key) => {
                let is = |here: &Value<'_>| here.is_key() && here.equals(key, &mut 0) == Ok(true);
                entries.iter().find(|(here, _)| is(here)).map(|(_, value)| Ok(value.clone()))
            }
        }
    }

    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Json(object) => object.iter().map(|(name, _)| Value::Text(Shared::Borrowed(name))).collect(),
            Self::Made(entries) => entries.iter().map(|(key, _)| key.clone()).collect(),
        }
    }

    fn equals(&self, other: &Self, steps: &mut usize) -> Result<bool, Fault> {
        if self.len() != other.len() {
            return Ok(false);
        }
        for key in self.keys() {
            *steps = steps.saturating_add(other.len() / 16);
            let (Some(one), Some(two)) = (self.get(&key).transpose()?, other.get(&key).transpose()?) else {
                return Ok(false);
            };
            if *steps > super::eval::MAX_STEPS {
                return Err(Fault::Budget);
            }
            if !one.equals(&two, steps)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Value<'_> {
    /// Whether it may be a key of a map.
    pub fn is_key(&self) -> bool {
        match self {
            Self::Bool(_) | Self::Int(_) | Self::Uint(_) | Self::Text(_) => true,
            Self::Null | Self::Double(_) | Self::Bytes(_) | Self::Time(_) | Self::Span(_) => false,
            Self::List(_) | Self::Map(_) | Self::Type(_) => false,
        }
    }
}
