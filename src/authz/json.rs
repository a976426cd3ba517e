//! Strict JSON: what two parsers could read differently is refused (duplicate members, deep nesting, trailing bytes).

use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// How deep lists and objects may nest.
const MAX_DEPTH: u8 = 32;

/// A JSON value whose objects have no member twice, at any depth.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A finite number.
    Number(serde_json::Number),
    /// A string.
    Text(Box<str>),
    /// An array.
    List(Box<[Self]>),
    /// An object, its members in the order in which they were written.
    Object(Object),
}

/// A JSON object without duplicate members.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(Box<[(Box<str>, Json)]>);

/// Why a text is not strict JSON. Holds nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a strict JSON object")]
pub struct NotStrict;

impl Object {
    /// Reads exactly one object from UTF-8 text.
    ///
    /// # Errors
    /// Where the text is not UTF-8, not one JSON object, repeats a member, or nests deeper than 32.
    pub fn parse(text: &[u8]) -> Result<Self, NotStrict> {
        let text = std::str::from_utf8(text).map_err(|_| NotStrict)?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let value = Depth(MAX_DEPTH).deserialize(&mut reader).map_err(|_| NotStrict)?;
        reader.end().map_err(|_| NotStrict)?;
        match value {
            Json::Object(object) => Ok(object),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::List(_) => Err(NotStrict),
        }
    }

    /// An object of these members, of which no two have the same name.
    pub(super) fn of<'n>(members: impl IntoIterator<Item = (&'n str, Json)>) -> Self {
        Self(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    /// The member of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(member, _)| &**member == name).map(|(_, value)| value)
    }

    /// The member of this name; in its place stands `null` from then on.
    pub(super) fn take(&mut self, name: &str) -> Option<Json> {
        let (_, value) = self.0.iter_mut().find(|(member, _)| &**member == name)?;
        Some(std::mem::replace(value, Json::Null))
    }

    /// All members, in the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// Roughly how many bytes of memory this object holds on to.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.0.iter().fold(32, |sum, (name, value)| {
            sum.saturating_add(48).saturating_add(name.len()).saturating_add(value.weight())
        })
    }
}

impl Json {
    /// The text, where this is a string.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) | Self::Number(_) => 0,
            Self::Text(text) => text.len(),
            Self::List(items) => {
                items.iter().fold(16, |sum, item| sum.saturating_add(32).saturating_add(item.weight()))
            }
            Self::Object(object) => object.weight(),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Depth(MAX_DEPTH).deserialize(deserializer)
    }
}

/// Reads a value that may nest so much deeper.
#[derive(Clone, Copy)]
struct Depth(u8);

impl Depth {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("nested too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json, E> {
        serde_json::Number::from_f64(value).map(Json::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Json::List(list.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut object: Vec<(Box<str>, Json)> = Vec::new();
        while let Some(name) = members.next_key::<Box<str>>()? {
            object.push((name, members.next_value_seed(inner)?));
        }
        if repeats(&object) {
            return Err(de::Error::custom("a member appears twice"));
        }
        Ok(Json::Object(Object(object.into())))
    }
}

/// Whether a name appears twice: by comparing all pairs of a small object, by sorting a large one.
fn repeats(members: &[(Box<str>, Json)]) -> bool {
    if members.len() <= 16 {
        return members
            .iter()
            .enumerate()
            .any(|(at, (name, _))| members.iter().take(at).any(|(earlier, _)| earlier == name));
    }
    let mut names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| matches!(pair, [a, b] if a == b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_appears_twice_is_refused_at_every_depth() {
        for text in [r#"{"a":1,"a":2}"#, r#"{"aud":1,"\u0061ud":2}"#, r#"{"x":{"y":[{"r":1,"r":1}]}}"#] {
            assert_eq!(Object::parse(text.as_bytes()), Err(NotStrict), "{text}");
        }
        let many: Vec<String> = (0..40).map(|n| format!("\"k{n}\":0")).collect();
        assert!(Object::parse(format!("{{{}}}", many.join(",")).as_bytes()).is_ok());
        assert!(Object::parse(format!("{{{},\"k7\":1}}", many.join(",")).as_bytes()).is_err());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(Object::parse(nested(31).as_bytes()).is_ok());
        assert!(Object::parse(nested(32).as_bytes()).is_err());
        assert!(Object::parse(nested(100_000).as_bytes()).is_err());
    }

    #[test]
    fn only_one_utf8_object_is_read() {
        for text in [
            &b"[]"[..],
            b"1",
            b"null",
            b"",
            b"{} x",
            b"{}{}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"a\":1e400}",
        ] {
            assert_eq!(Object::parse(text), Err(NotStrict), "{text:?}");
        }
        assert!(Object::parse(b" {} ").is_ok());
    }
}
