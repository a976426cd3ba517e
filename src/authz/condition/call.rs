//! What operators and functions of CEL make of values. Every outcome that does not fit is a [`Fault`].
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever a value is that an operator does not take, it is one fault"
)]

use std::rc::Rc;

use super::fault::Fault;
use super::syntax::Operator;
use super::time::{self, SECOND};
use super::types::{Function, Part};
use super::value::{MAX_VALUE_TEXT, Shared, Value};

type Made<'a> = Result<Value<'a>, Fault>;

/// `-x`
pub(super) fn negate<'a>(value: &Value<'a>) -> Made<'a> {
    match value {
        Value::Int(value) => value.checked_neg().map(Value::Int).ok_or(Fault::Range),
        Value::Double(value) => Ok(Value::Double(-value)),
        _ => Err(Fault::Type),
    }
}

/// A place in a list; `None` where no list can have it.
pub(super) fn place(key: &Value<'_>) -> Result<Option<usize>, Fault> {
    match key {
        Value::Int(at) => Ok(usize::try_from(*at).ok()),
        Value::Uint(at) => Ok(usize::try_from(*at).ok()),
        Value::Double(at) => Ok(whole(*at).and_then(|at| usize::try_from(at).ok()).filter(|_| at.fract() == 0.0)),
        _ => Err(Fault::Type),
    }
}

/// `+`, `-`, `*`, `/` and `%`.
pub(super) fn arithmetic<'a>(operator: Operator, one: &Value<'a>, two: &Value<'a>) -> Made<'a> {
    match (one, two) {
        (Value::Int(one), Value::Int(two)) => {
            if *two == 0 && matches!(operator, Operator::Divide | Operator::Remainder) {
                return Err(Fault::Zero);
            }
            let made = match operator {
                Operator::Add => one.checked_add(*two),
                Operator::Subtract => one.checked_sub(*two),
                Operator::Multiply => one.checked_mul(*two),
                Operator::Divide => one.checked_div(*two),
                Operator::Remainder => one.checked_rem(*two),
                _ => return Err(Fault::Type),
            };
            made.map(Value::Int).ok_or(Fault::Range)
        }
        (Value::Uint(one), Value::Uint(two)) => {
            if *two == 0 && matches!(operator, Operator::Divide | Operator::Remainder) {
                return Err(Fault::Zero);
            }
            let made = match operator {
                Operator::Add => one.checked_add(*two),
                Operator::Subtract => one.checked_sub(*two),
                Operator::Multiply => one.checked_mul(*two),
                Operator::Divide => one.checked_div(*two),
                Operator::Remainder => one.checked_rem(*two),
                _ => return Err(Fault::Type),
            };
            made.map(Value::Uint).ok_or(Fault::Range)
        }
        (Value::Double(one), Value::Double(two)) => Ok(Value::Double(match operator {
            Operator::Add => one + two,
            Operator::Subtract => one - two,
            Operator::Multiply => one * two,
            Operator::Divide => one / two,
            _ => return Err(Fault::Type),
        })),
        (Value::Time(_) | Value::Span(_), _) => of_times(operator, one, two),
        _ if operator == Operator::Add => joined(one, two),
        _ => Err(Fault::Type),
    }
}

fn of_times<'a>(operator: Operator, one: &Value<'a>, two: &Value<'a>) -> Made<'a> {
    let sum = |one: &i128, two: &i128| match operator {
        Operator::Add => one.checked_add(*two).ok_or(Fault::Range),
        Operator::Subtract => one.checked_sub(*two).ok_or(Fault::Range),
        _ => Err(Fault::Type),
    };
    let time = |nanos: i128| time::time(nanos).map(Value::Time).ok_or(Fault::Range);
    let span = |nanos: i128| time::span(nanos).map(Value::Span).ok_or(Fault::Range);
    match (one, two) {
        (Value::Time(one), Value::Span(two)) => time(sum(one, two)?),
        (Value::Span(one), Value::Time(two)) if operator == Operator::Add => time(sum(one, two)?),
        (Value::Time(one), Value::Time(two)) if operator == Operator::Subtract => span(sum(one, two)?),
        (Value::Span(one), Value::Span(two)) => span(sum(one, two)?),
        _ => Err(Fault::Type),
    }
}

/// Two texts, bytes or lists, one after the other.
fn joined<'a>(one: &Value<'a>, two: &Value<'a>) -> Made<'a> {
    match (one, two) {
        (Value::Text(one), Value::Text(two)) => {
            if one.len().saturating_add(two.len()) > MAX_VALUE_TEXT {
                return Err(Fault::TooLarge);
            }
            Value::made([&**one, &**two].concat())
        }
        (Value::Bytes(one), Value::Bytes(two)) => {
            if one.len().saturating_add(two.len()) > MAX_VALUE_TEXT {
                return Err(Fault::TooLarge);
            }
            Ok(Value::Bytes(Shared::Made([&**one, &**two].concat().into())))
        }
        (Value::List(one), Value::List(two)) => {
            let items = (0..one.len()).filter_map(|at| one.get(at)).chain((0..two.len()).filter_map(|at| two.get(at)));
            Value::list(items.collect::<Result<Vec<_>, _>>()?)
        }
        _ => Err(Fault::Type),
    }
}

/// Calls a function.
pub(super) fn call<'a>(function: Function, takes: &[Value<'a>]) -> Made<'a> {
    match (function, takes) {
        (Function::StartsWith, [Value::Text(text), Value::Text(part)]) => Ok(Value::Bool(text.starts_with(&**part))),
        (Function::EndsWith, [Value::Text(text), Value::Text(part)]) => Ok(Value::Bool(text.ends_with(&**part))),
        (Function::Contains, [Value::Text(text), Value::Text(part)]) => Ok(Value::Bool(text.contains(&**part))),
        (Function::Size, [value]) => size(value),
        (Function::Int, [value]) => int(value),
        (Function::Uint, [value]) => uint(value),
        (Function::Double, [value]) => double(value),
        (Function::Text, [value]) => text(value),
        (Function::Bytes, [Value::Text(text)]) => Ok(Value::Bytes(Shared::Made(Rc::from(text.as_bytes())))),
        (Function::Bytes, [value @ Value::Bytes(_)]) | (Function::Bool, [value @ Value::Bool(_)]) => Ok(value.clone()),
        (Function::Bool, [Value::Text(text)]) => match &**text {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(Value::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(Value::Bool(false)),
            _ => Err(Fault::Conversion),
        },
        (Function::Time, [Value::Text(text)]) => time::read_time(text).map(Value::Time).ok_or(Fault::Conversion),
        (Function::Time, [Value::Int(seconds)]) => {
            let nanos = i128::from(*seconds).checked_mul(SECOND);
            nanos.and_then(time::time).map(Value::Time).ok_or(Fault::Range)
        }
        (Function::Time, [value @ Value::Time(_)]) | (Function::Span, [value @ Value::Span(_)]) => Ok(value.clone()),
        (Function::Span, [Value::Text(text)]) => time::read_span(text).map(Value::Span).ok_or(Fault::Conversion),
        (Function::Type, [value]) => Ok(Value::Type(value.type_name())),
        (Function::Dyn, [value]) => Ok(value.clone()),
        (Function::Part(part), [value]) => of_part(part, value),
        _ => Err(Fault::Type),
    }
}

fn of_part<'a>(part: Part, value: &Value<'a>) -> Made<'a> {
    match value {
        Value::Time(nanos) => Ok(Value::Int(time::part_of_time(part, *nanos, 0))),
        Value::Span(nanos) => time::part_of_span(part, *nanos).map(Value::Int).ok_or(Fault::Type),
        _ => Err(Fault::Type),
    }
}

/// Code points of a text, bytes, or members.
fn size<'a>(value: &Value<'a>) -> Made<'a> {
    let size = match value {
        Value::Text(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        _ => return Err(Fault::Type),
    };
    i64::try_from(size).map(Value::Int).map_err(|_| Fault::Range)
}

fn int<'a>(value: &Value<'a>) -> Made<'a> {
    match value {
        Value::Int(value) => Ok(Value::Int(*value)),
        Value::Uint(value) => i64::try_from(*value).map(Value::Int).map_err(|_| Fault::Range),
        Value::Double(value) => {
            whole(*value).and_then(|value| i64::try_from(value).ok()).map(Value::Int).ok_or(Fault::Range)
        }
        Value::Text(text) => text.parse().map(Value::Int).map_err(|_| Fault::Conversion),
        Value::Time(nanos) => i64::try_from(nanos.div_euclid(SECOND)).map(Value::Int).map_err(|_| Fault::Range),
        _ => Err(Fault::Type),
    }
}

fn uint<'a>(value: &Value<'a>) -> Made<'a> {
    match value {
        Value::Int(value) => u64::try_from(*value).map(Value::Uint).map_err(|_| Fault::Range),
        Value::Uint(value) => Ok(Value::Uint(*value)),
        Value::Double(value) => {
            whole(*value).and_then(|value| u64::try_from(value).ok()).map(Value::Uint).ok_or(Fault::Range)
        }
        Value::Text(text) => text.parse().map(Value::Uint).map_err(|_| Fault::Conversion),
        _ => Err(Fault::Type),
    }
}

fn double<'a>(value: &Value<'a>) -> Made<'a> {
    let number = match value {
        Value::Int(value) => serde_json::Number::from(*value).as_f64(),
        Value::Uint(value) => serde_json::Number::from(*value).as_f64(),
        Value::Double(value) => Some(*value),
        Value::Text(text) => text.parse::<f64>().ok(),
        _ => return Err(Fault::Type),
    };
    number.map(Value::Double).ok_or(Fault::Conversion)
}

fn text<'a>(value: &Value<'a>) -> Made<'a> {
    match value {
        Value::Text(_) => Ok(value.clone()),
        Value::Bool(value) => Value::made(value.to_string()),
        Value::Int(value) => Value::made(value.to_string()),
        Value::Uint(value) => Value::made(value.to_string()),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).map_err(|_| Fault::Conversion).and_then(Value::made),
        Value::Time(nanos) => Value::made(time::write_time(*nanos)),
        Value::Span(nanos) => Value::made(time::write_span(*nanos)),
        _ => Err(Fault::Type),
    }
}

/// A double without its fraction, where int or uint could hold that.
fn whole(value: f64) -> Option<i128> {
    // -2^63 and 2^64, which are exact.
    (-9_223_372_036_854_775_808.0..18_446_744_073_709_551_616.0)
        .contains(&value)
        .then(|| super::value::truncated(value))
}
