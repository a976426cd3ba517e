//! The policy file as a JSON Schema (2020-12), for editors: made of one table, a line a key.

mod table;

use serde_json::{Map, Value, json};

pub use table::TABLE;

/// What the value of a key is.
#[derive(Clone, Copy, Debug)]
pub enum Is {
    /// A text; YAML may read one without quotes as a number.
    Text,
    /// A text that this pattern matches, or that holds `${`.
    Like(&'static str),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A text or a list of texts.
    Texts,
    /// A list of values of this kind, so many at least.
    List(&'static Self, u64),
    /// One of these words, or a list of them.
    Words(&'static [&'static str]),
    /// One value of this kind, or a list of them.
    Some(&'static Self),
    /// `true` or `false`.
    Flag,
    /// A whole number within bounds.
    Number(u64, u64),
    /// `250ms`, `30s`, `5m`, `24h`, `7d`
    Duration,
    /// A rule, in words or as a tree.
    Rule,
    /// A map with the keys of a section of the table.
    Section(&'static str),
    /// A map of names to values of this kind.
    Map(&'static Self),
    /// A map of names that this pattern matches to values of this kind.
    Keyed(&'static str, &'static Self),
    /// Any of these.
    Either(&'static [Self]),
    /// A list of tests.
    Tests,
    /// Anything.
    Any,
}

/// A section of the file: its name as in [`ACCEPTED_KEYS`](super::file::ACCEPTED_KEYS), the keys that must be there, and all keys.
pub type Section = (&'static str, &'static [&'static str], &'static [Key]);
/// A key, what its value is, and what it says.
pub type Key = (&'static str, Is, &'static str);

/// The schema.
#[must_use]
pub fn schema() -> Value {
    let sections = TABLE.iter().filter(|(name, ..)| !name.is_empty());
    let defs: Map<String, Value> = sections.map(|section| (slug(section.0), map_of(section))).collect();
    let mut schema = TABLE.iter().find(|(name, ..)| name.is_empty()).map(map_of).unwrap_or_default();
    if let Some(members) = schema.as_object_mut() {
        members.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        members.insert("title".into(), "Portcullis policy file".into());
        members.insert("$defs".into(), defs.into());
    }
    schema
}

/// `issuers.*.audience` is `issuers-audience`: no character that a reference would have to escape.
fn slug(section: &str) -> String {
    section.replace(".*", "").replace('.', "-")
}

fn map_of((name, required, keys): &Section) -> Value {
    let described = |(key, is, says): &Key| {
        let mut value = is.schema();
        if let Some(members) = value.as_object_mut() {
            members.insert("description".into(), (*says).into());
        }
        ((*key).to_owned(), value)
    };
    let properties: Map<String, Value> = keys.iter().map(described).collect();
    let mut map = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if let Some(members) = map.as_object_mut() {
        if !required.is_empty() {
            members.insert("required".into(), json!(required));
        }
        if ["from", "value"].iter().all(|one| keys.iter().any(|(key, ..)| key == one)) {
            members.insert("anyOf".into(), json!([{"required": ["from"]}, {"required": ["value"]}]));
        }
        if *name == "rule" {
            members.insert("minProperties".into(), 1.into());
            members.insert("maxProperties".into(), 1.into());
        }
    }
    map
}

impl Is {
    fn schema(&self) -> Value {
        match self {
            Self::Text => json!({"type": ["string", "number"], "minLength": 1}),
            Self::Like(pattern) => json!({"type": "string", "pattern": format!("^({pattern})$|\\$\\{{")}),
            Self::Word(words) => json!({"type": "string", "enum": words}),
            Self::Texts => Self::Some(&Self::Text).schema(),
            Self::List(one, least) => json!({"type": "array", "items": one.schema(), "minItems": least}),
            Self::Words(words) => one_or_more(&Self::Word(words).schema()),
            Self::Some(one) => one_or_more(&one.schema()),
            Self::Flag => json!({"type": "boolean"}),
            Self::Number(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
            Self::Duration => Self::Like("[0-9]+(ms|s|m|h|d)").schema(),
            Self::Rule => {
                json!({"anyOf": [{"type": "string", "pattern": "\\S", "maxLength": 4096}, {"$ref": "#/$defs/rule"}]})
            }
            Self::Section(name) => json!({"$ref": format!("#/$defs/{}", slug(name))}),
            Self::Map(value) => json!({"type": "object", "additionalProperties": value.schema()}),
            Self::Keyed(pattern, value) => json!({
                "type": "object", "propertyNames": {"pattern": pattern}, "additionalProperties": value.schema(),
            }),
            Self::Either(kinds) => json!({"anyOf": kinds.iter().map(Self::schema).collect::<Vec<_>>()}),
            Self::Tests => json!({"type": "array", "items": {"anyOf": [
                {"type": "array", "minItems": 3, "maxItems": 4, "items": {}},
                Self::Section("tests.*").schema(),
            ]}}),
            Self::Any => json!({}),
        }
    }
}

fn one_or_more(one: &Value) -> Value {
    json!({"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::file::ACCEPTED_KEYS;

    #[test]
    fn the_schema_has_the_keys_that_the_reader_of_the_file_accepts() {
        let listed = |keys: &BTreeSet<&str>| keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let mut wrong = Vec::new();
        for (section, accepted) in ACCEPTED_KEYS {
            let accepted: BTreeSet<&str> = accepted.iter().copied().collect();
            let here = TABLE.iter().filter(|(name, ..)| name == section);
            let said: BTreeSet<&str> = here.flat_map(|(.., keys)| keys.iter().map(|(key, ..)| *key)).collect();
            let missing: BTreeSet<&str> = accepted.difference(&said).copied().collect();
            let extra: BTreeSet<&str> = said.difference(&accepted).copied().collect();
            if !missing.is_empty() || !extra.is_empty() {
                let (missing, extra) = (listed(&missing), listed(&extra));
                wrong.push(format!("section `{section}`: add a line each for {missing}; remove {extra}"));
            }
        }
        for (section, ..) in TABLE.iter().filter(|(name, ..)| !ACCEPTED_KEYS.iter().any(|(here, _)| here == name)) {
            wrong.push(format!("section `{section}` is in no ACCEPTED_KEYS"));
        }
        assert!(wrong.is_empty(), "src/config/schema/table.rs: {}", wrong.join("\n"));
    }

    #[test]
    fn every_section_is_referred_to_and_every_key_says_what_it_is_for() {
        let text = schema().to_string();
        for (section, required, keys) in TABLE {
            if !section.is_empty() {
                assert!(text.contains(&format!("\"#/$defs/{}\"", slug(section))), "nothing refers to `{section}`");
            }
            for (key, _, says) in *keys {
                assert!(says.len() > 10, "`{key}` of `{section}` does not say what it is for");
            }
            assert!(required.iter().all(|name| keys.iter().any(|(key, ..)| key == name)), "{section}");
        }
    }
}
