//! The file of API keys: a YAML list with an entry a key, read entry by entry, so that 100,000 of them load at once.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::tree::{Kind, Node, read};
use crate::authz::api_keys::format::{KeyHash, Prefix};
use crate::authz::api_keys::{ApiKey, MOST_LIVE, Rights};
use crate::authz::route::{HostSets, Pattern};
use crate::authz::time::Timestamp;

/// The largest file of keys, in bytes.
pub const MAX_FILE: usize = 64 << 20;
/// How many keys of one owner a file may have, live or not.
const MAX_OF_ONE: usize = 1_000;
/// The longest id or owner, in bytes.
const MAX_NAME: usize = 64;
/// How many faults of one file are told.
const MAX_FAULTS: usize = 20;
/// How many characters after the prefix make a text look like a key, and not like the name of something.
const LOOKS_SECRET: usize = 16;

/// A key as it is written: in the file of keys, or in the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// What it is called; the owner and eight digits of the hash where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whose it is.
    pub owner: String,
    /// `sha256:` and 64 digits.
    pub hash: String,
    /// From when on it is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// From when on it is good no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Its roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "names")]
    pub roles: Vec<String>,
    /// Its groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "names")]
    pub groups: Vec<String>,
    /// Its scopes.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "names")]
    pub scopes: Vec<String>,
    /// The requests that it is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "names")]
    pub routes: Vec<String>,
    /// Whether it is refused whatever the time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

/// An entry of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands, without the comments and empty lines that follow it.
    pub at: Range<usize>,
    /// On which line it begins, counted from 1.
    pub line: u32,
    /// What it says.
    pub key: Written,
}

/// What is wrong with an entry. No fault shows a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// On which line of the file, counted from 1; 0 for the file as a whole.
    pub line: u32,
    /// Stable, `snake_case`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub cure: &'static str,
}

impl Fault {
    fn new(code: &'static str, message: impl Into<String>, cure: &'static str) -> Self {
        Self { line: 0, code, message: message.into(), cure }
    }

    fn at(self, line: u32) -> Self {
        Self { line, ..self }
    }
}

const SHAPE: &str = "- {\"id\": …, \"owner\": …, \"hash\": \"sha256:…\"}, as `portcullis key new` prints it";

/// One text or a list of them.
fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a list of texts")
        }

        fn visit_str<E>(self, one: &str) -> Result<Vec<String>, E> {
            Ok(vec![one.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Vec<String>, A::Error> {
            let mut names = Vec::new();
            while let Some(name) = all.next_element()? {
                names.push(name);
            }
            Ok(names)
        }
    }
    from.deserialize_any(Names)
}

/// The entries of a file, and what is wrong with those that cannot be read.
#[must_use]
pub fn entries(text: &str, prefix: &Prefix) -> (Vec<Entry>, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut entries = Vec::new();
    if text.trim() == "[]" {
        return (entries, faults);
    }
    for (at, line) in chunks(text, &mut faults) {
        let chunk = text.get(at.clone()).unwrap_or_default();
        match entry(chunk, prefix) {
            Ok(key) => entries.push(Entry { at, line, key }),
            Err(fault) => {
                let within = fault.line.saturating_sub(1);
                faults.push(fault.at(line.saturating_add(within)));
            }
        }
        if faults.len() >= MAX_FAULTS {
            break;
        }
    }
    (entries, faults)
}

/// Cuts a file before each line that begins an entry.
fn chunks(text: &str, faults: &mut Vec<Fault>) -> Vec<(Range<usize>, u32)> {
    let mut chunks: Vec<(Range<usize>, u32)> = Vec::new();
    let mut offset = 0_usize;
    for (line, number) in text.split_inclusive('\n').zip(1_u32..) {
        let end = offset.saturating_add(line.len());
        let bare = line.trim_end();
        let says_something = !bare.trim_start().is_empty() && !bare.trim_start().starts_with('#');
        if bare == "-" || bare.starts_with("- ") {
            chunks.push((offset..end, number));
        } else if says_something {
            match chunks.last_mut().filter(|_| line.starts_with(' ')) {
                Some((chunk, _)) => chunk.end = end,
                None => {
                    let message = "this is not a list with an entry a key";
                    faults.push(Fault::new("bad_api_key", message, SHAPE).at(number));
                    return Vec::new();
                }
            }
        }
        offset = end;
    }
    chunks
}

/// One entry: JSON, which is YAML too, where it stands on one line; any YAML otherwise.
fn entry(chunk: &str, prefix: &Prefix) -> Result<Written, Fault> {
    if shows_key(chunk, prefix) {
        return Err(plain());
    }
    let body = chunk.strip_prefix('-').unwrap_or(chunk).trim();
    if let Ok(written) = serde_json::from_str(body) {
        return Ok(written);
    }
    let (tree, problems) = read(chunk);
    if let Some(problem) = problems.first() {
        return Err(Fault::new("bad_api_key", problem.message.clone(), SHAPE).at(problem.span.line));
    }
    match tree.map(|tree| tree.kind) {
        Some(Kind::List(items)) if items.len() == 1 => items.iter().map(written).collect::<Result<Vec<_>, _>>(),
        _ => Err(Fault::new("bad_api_key", "this is not one entry", SHAPE)),
    }?
    .pop()
    .ok_or_else(|| Fault::new("bad_api_key", "this is not one entry", SHAPE))
}

/// The error of a key that stands where its hash belongs.
#[must_use]
pub fn plain() -> Fault {
    let message = "here stands a key itself, not its hash: whoever has read this file has the key";
    Fault::new("key_in_file", message, "revoke it, and put in the `hash` that `portcullis key new` prints")
}

/// Whether a text holds what is written as a key, or begins as one and goes on for long.
#[must_use]
pub fn shows_key(text: &str, prefix: &Prefix) -> bool {
    let least = prefix.as_str().len().saturating_add(LOOKS_SECRET);
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    text.contains(prefix.as_str()) && words.into_iter().any(|word| word.len() > least && prefix.begins(word.as_bytes()))
}

/// An entry of the policy itself, or of a file that is written in YAML.
///
/// # Errors
/// Where it has other keys or values than an entry has.
pub fn written(node: &Node) -> Result<Written, Fault> {
    let value = value(node)?;
    serde_json::from_value(value).map_err(|error| {
        let told = error.to_string();
        // Other errors show values, and a value may be a secret in a wrong place.
        let named = ["unknown field", "missing field"].iter().any(|start| told.starts_with(start));
        let message = if named { told } else { "a value of this entry is of the wrong kind".to_owned() };
        Fault::new("bad_api_key", message, SHAPE)
    })
}

fn value(node: &Node) -> Result<Value, Fault> {
    Ok(match &node.kind {
        Kind::Null => Value::Null,
        Kind::Bool(flag) => Value::Bool(*flag),
        Kind::Text { text, .. } => Value::String(text.to_string()),
        Kind::List(items) => Value::Array(items.iter().map(value).collect::<Result<_, _>>()?),
        Kind::Map(entries) => {
            let mut map = Map::new();
            for (key, inner) in entries {
                let Kind::Text { text: name, .. } = &key.kind else {
                    return Err(Fault::new("bad_api_key", "the name of a value is not a text", SHAPE));
                };
                if map.insert(name.to_string(), value(inner)?).is_some() {
                    return Err(Fault::new("bad_api_key", "a value is there twice", "keep one of the two"));
                }
            }
            Value::Object(map)
        }
    })
}

/// Makes keys of entries; those with equal rights share them.
#[derive(Default)]
pub struct Maker {
    rights: HashMap<[Vec<String>; 4], Arc<Rights>>,
    owners: HashMap<String, Arc<str>>,
    ids: HashSet<Arc<str>>,
    hashes: HashSet<KeyHash>,
    live: HashMap<Arc<str>, Vec<(i64, i64)>>,
}

impl Maker {
    /// The key of an entry; `hosts` are the policy's sets of hosts.
    ///
    /// # Errors
    /// Where a value is not as it has to be, or another entry has the same id or hash, or too many keys of the owner are
    /// live at one time.
    pub fn key(&mut self, written: Written, hosts: &HostSets) -> Result<ApiKey, Fault> {
        let Written { id, owner, hash, not_before, expires, roles, groups, scopes, routes, disabled } = written;
        let hash = KeyHash::parse(&hash).ok_or_else(|| {
            Fault::new("bad_api_key", "`hash` is not the hash of a key", "sha256: and 64 digits of 0-9 and a-f")
        })?;
        let owner = self.owner(owner)?;
        let id: Arc<str> = match id {
            Some(id) => name("id", &id).map(|()| id.into())?,
            None => default_id(&owner, &hash).into(),
        };
        let time = |what, text: Option<String>| text.map(|text| time(what, &text)).transpose();
        let (not_before, expires) = (time("not_before", not_before)?, time("expires", expires)?);
        if let (Some(from), Some(to)) = (not_before, expires)
            && from >= to
        {
            return Err(Fault::new("bad_api_key", "it expires before it is good", "`expires` after `not_before`"));
        }
        let rights = self.rights([roles, groups, scopes, routes], hosts)?;
        if !self.ids.insert(Arc::clone(&id)) {
            return Err(Fault::new("api_key_twice", format!("another key is called `{id}`"), "another `id`"));
        }
        if !self.hashes.insert(hash) {
            let message = "another entry is of the same key: whose it is could not be told";
            return Err(Fault::new("api_key_twice", message, "keep one of the two"));
        }
        let key = ApiKey { id, owner, hash, not_before, expires, disabled, rights };
        self.one_more(&key)?;
        Ok(key)
    }

    fn owner(&mut self, owner: String) -> Result<Arc<str>, Fault> {
        if let Some(known) = self.owners.get(&owner) {
            return Ok(Arc::clone(known));
        }
        name("owner", &owner)?;
        let shared: Arc<str> = owner.as_str().into();
        self.owners.insert(owner, Arc::clone(&shared));
        Ok(shared)
    }

    fn rights(&mut self, lists: [Vec<String>; 4], hosts: &HostSets) -> Result<Arc<Rights>, Fault> {
        if let Some(known) = self.rights.get(&lists) {
            return Ok(Arc::clone(known));
        }
        let [roles, groups, scopes, routes] = &lists;
        let listed = |what: &str, names: &[String]| -> Result<Box<[Arc<str>]>, Fault> {
            let fits = |name: &&String| !name.is_empty() && !name.chars().any(char::is_control);
            if names.iter().filter(fits).count() < names.len() {
                let message = format!("a name in `{what}` is empty, or holds a control character");
                return Err(Fault::new("bad_api_key", message, "names as rules ask for them"));
            }
            Ok(names.iter().map(|name| Arc::from(name.as_str())).collect())
        };
        let pattern = |text: &String| {
            Pattern::parse_in(text, hosts).map_err(|error| {
                Fault::new("bad_pattern", format!("`routes`: {error}"), "patterns as in the keys of `routes:`")
            })
        };
        let made = Arc::new(Rights {
            roles: listed("roles", roles)?,
            groups: listed("groups", groups)?,
            scopes: listed("scopes", scopes)?,
            routes: routes.iter().map(pattern).collect::<Result<_, _>>()?,
        });
        self.rights.insert(lists, Arc::clone(&made));
        Ok(made)
    }

    /// That no more keys of an owner are live at any time than may be.
    fn one_more(&mut self, key: &ApiKey) -> Result<(), Fault> {
        if key.disabled {
            return Ok(());
        }
        let from = key.not_before.map_or(i64::MIN, Timestamp::as_millis);
        let to = key.expires.map_or(i64::MAX, Timestamp::as_millis);
        let live = self.live.entry(Arc::clone(&key.owner)).or_default();
        let beside: Vec<(i64, i64)> = live.iter().copied().filter(|other| other.0 < to && from < other.1).collect();
        live.push((from, to));
        // With it, most are good where it begins, or where one of those does that begin while it is good.
        let at = |time: i64| beside.iter().filter(|(from, to)| (*from..*to).contains(&time)).count();
        let begins = beside.iter().map(|(from, _)| *from).filter(|begin| *begin > from).chain([from]);
        if live.len() > MAX_OF_ONE || begins.into_iter().any(|begin| at(begin) >= MOST_LIVE) {
            let message = format!("more than {MOST_LIVE} keys of `{}` are good at the same time", key.owner);
            let cure = "remove those that have expired, and give the older one an `expires`: `portcullis key revoke`";
            return Err(Fault::new("too_many_live_keys", message, cure));
        }
        Ok(())
    }
}

/// What a key is called where it has no name of its own.
#[must_use]
pub fn default_id(owner: &str, hash: &KeyHash) -> String {
    let hash = hash.to_string();
    format!("{owner}-{}", hash.get("sha256:".len().."sha256:".len().saturating_add(8)).unwrap_or_default())
}

fn name(what: &str, text: &str) -> Result<(), Fault> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(fits) {
        return Ok(());
    }
    let cure = "1 to 64 letters, digits, `-`, `_` and `.`: billing";
    Err(Fault::new("bad_api_key", format!("`{what}` is empty, too long, or has other characters"), cure))
}

fn time(what: &str, text: &str) -> Result<Timestamp, Fault> {
    Timestamp::parse(text).ok_or_else(|| {
        Fault::new("bad_api_key", format!("`{what}` is not a time in UTC"), "as in 2026-12-01T00:00:00Z")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn hash(of: &str) -> String {
        KeyHash::of(of.as_bytes()).to_string()
    }

    fn made(text: &str) -> Result<Vec<ApiKey>, Vec<(u32, &'static str)>> {
        let (entries, faults) = entries(text, &Prefix::default());
        let mut told: Vec<_> = faults.iter().map(|fault| (fault.line, fault.code)).collect();
        let mut maker = Maker::default();
        let mut keys = Vec::new();
        for entry in entries {
            match maker.key(entry.key, &HostSets::default()) {
                Ok(key) => keys.push(key),
                Err(fault) => told.push((entry.line, fault.code)),
            }
        }
        if told.is_empty() { Ok(keys) } else { Err(told) }
    }

    #[test]
    fn an_entry_is_json_on_one_line_or_any_yaml() {
        let text = format!(
            "# keys\n- {{\"id\":\"b-1\",\"owner\":\"billing\",\"hash\":\"{HASH}\",\"roles\":[\"a\"],\"disabled\":true}}\n\
             - {{owner: crm, hash: '{}', roles: b}} # a note\n\n\
             - owner: crm\n  # soon\n  hash: {}\n  expires: 2027-01-01T00:00:00Z\n  routes: [GET /x/**]\n# the end\n",
            hash("2"),
            hash("3")
        );
        let keys = made(&text).unwrap();
        let told: Vec<_> = keys.iter().map(|key| (&*key.owner, key.rights.roles.len(), key.disabled)).collect();
        assert_eq!(told, [("billing", 1, true), ("crm", 1, false), ("crm", 0, false)]);
        assert_eq!((&*keys[0].id, &*keys[1].id), ("b-1", &*default_id("crm", &keys[1].hash)));
        assert_eq!(keys[2].rights.routes[0].to_string(), "GET /x/**");
        assert_eq!(made("[]"), Ok(vec![]));
        assert_eq!(made("# none yet\n"), Ok(vec![]));
        let (entries, _) = entries(&text, &Prefix::default());
        let third = text.find("- owner").unwrap()..text.find("# the end").unwrap();
        assert_eq!(text.get(entries[2].at.clone()), text.get(third));
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_told_with_its_line() {
        let bad = |entry: &str| made(&format!("# one\n{entry}\n"));
        for (entry, line) in [
            ("- {}".to_owned(), 2),
            (format!("- {{hash: '{HASH}'}}"), 2),
            (format!("- {{owner: a, hash: '{HASH}', role: b}}"), 2),
            (format!("- {{owner: a, hash: '{HASH}', hash: '{HASH}'}}"), 2),
            (format!("- {{\"owner\":\"a\",\"hash\":\"{HASH}\",\"hash\":\"{HASH}\"}}"), 2),
            (format!("- {{owner: a, hash: '{HASH}', roles: {{b: c}}}}"), 2),
            (format!("- {{owner: a, hash: '{HASH}', disabled: 'yes'}}"), 2),
            (format!("- {{owner: a, hash: '{HASH}', expires: 2027-01-01}}"), 2),
            (
                format!(
                    "- {{owner: a, hash: '{HASH}', not_before: 2027-01-01T00:00:00Z, expires: 2026-01-01T00:00:00Z}}"
                ),
                2,
            ),
            (format!("- {{owner: a b, hash: '{HASH}'}}"), 2),
            (format!("- {{owner: a, id: '', hash: '{HASH}'}}"), 2),
            (format!("- {{owner: a, roles: [''], hash: '{HASH}'}}"), 2),
            ("- {owner: a, hash: 'sha256:00'}".to_owned(), 2),
            ("- owner: a\n  hash: [".to_owned(), 4),
            ("- a\n- b".to_owned(), 2),
            ("keys: []".to_owned(), 2),
            ("  - {}".to_owned(), 2),
        ] {
            let found = bad(&entry).unwrap_err();
            assert_eq!((found[0].1, found[0].0.min(line)), ("bad_api_key", line.min(found[0].0)), "{entry}: {found:?}");
            assert!(found[0].0 >= 2, "{entry}: {found:?}");
        }
        let twice = format!("- {{owner: a, id: x, hash: '{HASH}'}}\n- {{owner: b, id: x, hash: '{}'}}", hash("2"));
        assert_eq!(made(&twice), Err(vec![(2, "api_key_twice")]));
        let same = format!("- {{owner: a, hash: '{HASH}'}}\n- {{owner: b, hash: '{HASH}'}}");
        assert_eq!(made(&same), Err(vec![(2, "api_key_twice")]));
        assert_eq!(bad(&format!("- {{owner: a, hash: '{HASH}', routes: x}}")), Err(vec![(2, "bad_pattern")]));
    }

    #[test] // A02
    fn a_key_in_the_file_is_refused_and_shown_by_no_message() {
        let mut next = 0_u8;
        let key = Prefix::default().key(|| {
            next = next.wrapping_add(41);
            next
        });
        for entry in [
            format!("- {{owner: a, hash: {key}}}"),
            format!("- {{\"owner\":\"a\",\"hash\":\"{key}\"}}"),
            format!("- {{owner: a, hash: '{HASH}', id: {key}}}"),
            format!("- {{{key}: a}}"),
            format!("- {key}"),
            format!("- owner: a\n  hash: sha256:{key}"),
            format!("- {{owner: a, hash: {}}}", key.get(..40).unwrap()),
        ] {
            let (entries, faults) = entries(&entry, &Prefix::default());
            assert_eq!((entries.len(), faults[0].code), (0, "key_in_file"), "{entry}");
            assert!(!format!("{faults:?}").contains(key.get(10..20).unwrap()));
        }
        let other = format!("- {{owner: a, hash: {}}}", key.replace("pk_live", "other"));
        let (entries, faults) = entries(&other, &Prefix::default());
        let mut maker = Maker::default();
        let fault = maker.key(entries[0].key.clone(), &HostSets::default()).unwrap_err();
        assert!(
            faults.is_empty()
                && fault.code == "bad_api_key"
                && !format!("{fault:?}").contains(key.get(10..20).unwrap())
        );
    }

    #[test]
    fn an_owner_has_two_live_keys_at_any_time_and_no_more() {
        let file = |spans: &[(&str, &str)]| {
            let lines = spans.iter().enumerate().map(|(at, (from, to))| {
                let from =
                    if from.is_empty() { String::new() } else { format!(", not_before: {from}-01-01T00:00:00Z") };
                let to = if to.is_empty() { String::new() } else { format!(", expires: {to}-01-01T00:00:00Z") };
                format!("- {{owner: a, hash: '{}'{from}{to}}}\n", hash(&at.to_string()))
            });
            made(&lines.collect::<String>()).map(|keys| keys.len())
        };
        assert_eq!(file(&[("", ""), ("", "")]), Ok(2));
        assert_eq!(file(&[("", ""), ("", ""), ("", "")]), Err(vec![(3, "too_many_live_keys")]));
        assert_eq!(file(&[("", "2026"), ("2025", "2027"), ("2026", "")]), Ok(3));
        assert_eq!(file(&[("", "2027"), ("2025", "2027"), ("2026", "")]), Err(vec![(3, "too_many_live_keys")]));
        let disabled = format!(
            "- {{owner: a, hash: '{}'}}\n- {{owner: a, hash: '{}'}}\n- {{owner: a, hash: '{HASH}', disabled: true}}",
            hash("1"),
            hash("2")
        );
        assert_eq!(made(&disabled).map(|keys| keys.len()), Ok(3));
    }

    #[test]
    fn many_keys_load_with_their_rights_shared() {
        let text: String = (0..20_000)
            .map(|n| format!("- {{\"owner\":\"o{n}\",\"hash\":\"sha256:{n:064x}\",\"roles\":[\"partner\"]}}\n"))
            .collect();
        let keys = made(&text).unwrap();
        assert_eq!(keys.len(), 20_000);
        assert!(keys.iter().all(|key| Arc::ptr_eq(&key.rights, &keys[0].rights)));
    }
}
