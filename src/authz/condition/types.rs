//! What is known of a value before it is there: the types of CEL, and what operators and functions make of them.

use super::syntax::Operator;

/// The type of a value; [`Type::Dyn`] where only the request will tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Any.
    Dyn,
    /// `null`
    Null,
    /// `bool`
    Bool,
    /// `int`: 64 bits, signed.
    Int,
    /// `uint`: 64 bits, unsigned.
    Uint,
    /// `double`
    Double,
    /// `string`
    Text,
    /// `bytes`
    Bytes,
    /// `timestamp`
    Time,
    /// `duration`
    Span,
    /// `list` of these.
    List(Box<Self>),
    /// `map` of these to those.
    Map(Box<Self>, Box<Self>),
    /// `type`
    Kind,
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dyn => "a value that only the request tells",
            Self::Null => "null",
            Self::Bool => "a bool",
            Self::Int => "an int",
            Self::Uint => "a uint",
            Self::Double => "a double",
            Self::Text => "a string",
            Self::Bytes => "bytes",
            Self::Time => "a timestamp",
            Self::Span => "a duration",
            Self::List(_) => "a list",
            Self::Map(..) => "a map",
            Self::Kind => "a type",
        })
    }
}

impl Type {
    /// A list of these.
    pub(super) fn list(of: Self) -> Self {
        Self::List(Box::new(of))
    }

    /// A map of these to those.
    pub(super) fn map(keys: Self, values: Self) -> Self {
        Self::Map(Box::new(keys), Box::new(values))
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    /// Whether a value of the one may equal a value of the other.
    pub(super) fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn, _) | (_, Self::Dyn) => true,
            (Self::List(one), Self::List(two)) => one.meets(two),
            (Self::Map(..), Self::Map(..)) => true,
            (one, two) => one == two || (one.is_number() && two.is_number()),
        }
    }

    /// The type of what is one of the two.
    pub(super) fn or(self, other: Self) -> Self {
        if self == other { self } else { Self::Dyn }
    }

    fn has_order(&self) -> bool {
        match self {
            Self::Dyn | Self::Bool | Self::Text | Self::Bytes | Self::Time | Self::Span => true,
            Self::Int | Self::Uint | Self::Double => true,
            Self::Null | Self::List(_) | Self::Map(..) | Self::Kind => false,
        }
    }
}

/// The type of an operator's outcome; `None` where it has none for these.
pub(super) fn of_operator(operator: Operator, left: &Type, right: &Type) -> Option<Type> {
    match operator {
        Operator::Equal | Operator::Unequal => left.meets(right).then_some(Type::Bool),
        Operator::Less | Operator::AtMost | Operator::Greater | Operator::AtLeast => {
            (left.meets(right) && left.has_order() && right.has_order()).then_some(Type::Bool)
        }
        Operator::In => match right {
            Type::Dyn => Some(Type::Bool),
            Type::List(members) => left.meets(members).then_some(Type::Bool),
            Type::Map(keys, _) => left.meets(keys).then_some(Type::Bool),
            Type::Null | Type::Bool | Type::Int | Type::Uint | Type::Double | Type::Text => None,
            Type::Bytes | Type::Time | Type::Span | Type::Kind => None,
        },
        Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Remainder => {
            of_arithmetic(operator, left, right)
        }
    }
}

fn of_arithmetic(operator: Operator, left: &Type, right: &Type) -> Option<Type> {
    let known = match (left, right) {
        (Type::Dyn, Type::Dyn) => return Some(Type::Dyn),
        (Type::Dyn, known) | (known, Type::Dyn) => known,
        (Type::List(one), Type::List(two)) if operator == Operator::Add => {
            return Some(Type::list((**one).clone().or((**two).clone())));
        }
        (Type::Time, Type::Span) => {
            return matches!(operator, Operator::Add | Operator::Subtract).then_some(Type::Time);
        }
        (Type::Span, Type::Time) => return (operator == Operator::Add).then_some(Type::Time),
        (Type::Time, Type::Time) => return (operator == Operator::Subtract).then_some(Type::Span),
        (one, two) if one == two => one,
        _ => return None,
    };
    let sums = matches!(operator, Operator::Add | Operator::Subtract);
    let unclear = *left == Type::Dyn || *right == Type::Dyn;
    match known {
        Type::Int | Type::Uint => Some(known.clone()),
        Type::Double => (operator != Operator::Remainder).then_some(Type::Double),
        Type::Text | Type::Bytes => (operator == Operator::Add).then(|| known.clone()),
        Type::List(_) => (operator == Operator::Add).then(|| Type::list(Type::Dyn)),
        Type::Time if unclear => sums.then_some(Type::Dyn),
        Type::Span => sums.then_some(if unclear { Type::Dyn } else { Type::Span }),
        Type::Dyn | Type::Null | Type::Bool | Type::Time | Type::Map(..) | Type::Kind => None,
    }
}

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    StartsWith,
    EndsWith,
    Contains,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Bool,
    Time,
    Span,
    Type,
    Dyn,
    Part(Part),
}

/// A part of a timestamp, or of a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    FullYear,
    /// From 0.
    Month,
    /// From 1.
    Date,
    /// From 0.
    DayOfMonth,
    /// From 0, a Sunday.
    DayOfWeek,
    /// From 0.
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

/// The functions by their names, and whether each is called on a value.
const FUNCTIONS: [(&str, Function, Style); 24] = [
    ("size", Function::Size, Style::Both),
    ("startsWith", Function::StartsWith, Style::On),
    ("endsWith", Function::EndsWith, Style::On),
    ("contains", Function::Contains, Style::On),
    ("int", Function::Int, Style::Alone),
    ("uint", Function::Uint, Style::Alone),
    ("double", Function::Double, Style::Alone),
    ("string", Function::Text, Style::Alone),
    ("bytes", Function::Bytes, Style::Alone),
    ("bool", Function::Bool, Style::Alone),
    ("timestamp", Function::Time, Style::Alone),
    ("duration", Function::Span, Style::Alone),
    ("type", Function::Type, Style::Alone),
    ("dyn", Function::Dyn, Style::Alone),
    ("getFullYear", Function::Part(Part::FullYear), Style::On),
    ("getMonth", Function::Part(Part::Month), Style::On),
    ("getDate", Function::Part(Part::Date), Style::On),
    ("getDayOfMonth", Function::Part(Part::DayOfMonth), Style::On),
    ("getDayOfWeek", Function::Part(Part::DayOfWeek), Style::On),
    ("getDayOfYear", Function::Part(Part::DayOfYear), Style::On),
    ("getHours", Function::Part(Part::Hours), Style::On),
    ("getMinutes", Function::Part(Part::Minutes), Style::On),
    ("getSeconds", Function::Part(Part::Seconds), Style::On),
    ("getMilliseconds", Function::Part(Part::Milliseconds), Style::On),
];

/// `f(x)`, `x.f()`, or both.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Alone,
    On,
    Both,
}

/// The names of all functions and macros.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let macros = ["matches", "has", "all", "exists", "exists_one", "map", "filter"];
    FUNCTIONS.iter().map(|(name, ..)| *name).chain(macros)
}

/// The function of this name, where it is called so.
pub(super) fn function(name: &str, on_a_value: bool) -> Option<(&'static str, Function)> {
    let fits = |style: Style| style == Style::Both || (style == Style::On) == on_a_value;
    let found = FUNCTIONS.iter().find(|(here, _, style)| *here == name && fits(*style));
    found.map(|(name, function, _)| (*name, *function))
}

/// The type of a function's outcome; `None` where it does not take these.
pub(super) fn of_function(function: Function, takes: &[Type]) -> Option<Type> {
    let (first, rest) = takes.split_first()?;
    let unclear = *first == Type::Dyn;
    let two_texts = || match rest {
        [second] => (first.meets(&Type::Text) && second.meets(&Type::Text)).then_some(Type::Bool),
        _ => None,
    };
    if !rest.is_empty() && !matches!(function, Function::StartsWith | Function::EndsWith | Function::Contains) {
        return None;
    }
    let from = |kinds: &[Type], to: Type| (unclear || kinds.contains(first)).then_some(to);
    match function {
        Function::Size if matches!(first, Type::List(_) | Type::Map(..)) => Some(Type::Int),
        Function::Size => from(&[Type::Text, Type::Bytes], Type::Int),
        Function::StartsWith | Function::EndsWith | Function::Contains => two_texts(),
        Function::Int => from(&[Type::Int, Type::Uint, Type::Double, Type::Text, Type::Time], Type::Int),
        Function::Uint => from(&[Type::Int, Type::Uint, Type::Double, Type::Text], Type::Uint),
        Function::Double => from(&[Type::Int, Type::Uint, Type::Double, Type::Text], Type::Double),
        Function::Text => {
            from(&[Type::Text, Type::Bool, Type::Int, Type::Uint, Type::Bytes, Type::Time, Type::Span], Type::Text)
        }
        Function::Bytes => from(&[Type::Bytes, Type::Text], Type::Bytes),
        Function::Bool => from(&[Type::Bool, Type::Text], Type::Bool),
        Function::Time => from(&[Type::Time, Type::Text, Type::Int], Type::Time),
        Function::Span => from(&[Type::Span, Type::Text], Type::Span),
        Function::Type => Some(Type::Kind),
        Function::Dyn => Some(Type::Dyn),
        Function::Part(Part::Hours | Part::Minutes | Part::Seconds | Part::Milliseconds) => {
            from(&[Type::Time, Type::Span], Type::Int)
        }
        Function::Part(
            Part::FullYear | Part::Month | Part::Date | Part::DayOfMonth | Part::DayOfWeek | Part::DayOfYear,
        ) => from(&[Type::Time], Type::Int),
    }
}
