//! The text of a check, read strictly: nothing that another reader could read otherwise, nothing that is not known.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use super::{MEMBERS, SOURCE};
use crate::authz::gateways::Dialect;
use crate::authz::json::{Json, Object};
use crate::authz::reason::Reason;
use crate::authz::request::{Asker, Header, Malformed, Proof, Raw, is_token};

/// How many header lines a check may have.
pub(super) const MAX_LINES: usize = 1_000;

const UNREADABLE: Malformed = Malformed(Reason::CheckUnreadable);

/// What a check says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Check<'t> {
    method: &'t str,
    path: &'t str,
    host: &'t str,
    /// Names in lower case.
    headers: Vec<(Cow<'t, str>, &'t str)>,
    source: Option<IpAddr>,
    principal: &'t str,
    certificate: &'t str,
    /// How long the gateway waits.
    pub patience: Option<Duration>,
}

impl<'t> Check<'t> {
    /// Reads a check.
    ///
    /// # Errors
    /// [`Reason::CheckUnreadable`]; [`Reason::HeaderMalformed`] where HTTP has no such header line.
    pub fn read(text: &'t Object) -> Result<Self, Malformed> {
        only(text, MEMBERS)?;
        let needed = |name| text.get(name).ok_or(UNREADABLE);
        let mut check = Self {
            method: string(needed("method")?)?,
            path: string(needed("path")?)?,
            host: string(needed("host")?)?,
            headers: Vec::with_capacity(32),
            source: None,
            principal: "",
            certificate: "",
            patience: text.get("timeout_ms").map(patience).transpose()?,
        };
        for (name, value) in object(needed("headers")?)?.iter() {
            check.line(name, value)?;
        }
        if let Some(source) = text.get("source") {
            let source = object(source)?;
            only(source, SOURCE)?;
            let text = |name| source.get(name).map(string).transpose();
            check.source = text("address")?.map(|text| text.parse().map_err(|_| UNREADABLE)).transpose()?;
            check.principal = text("principal")?.unwrap_or_default();
            check.certificate = text("certificate")?.unwrap_or_default();
        }
        Ok(check)
    }

    /// One name, and its value or values.
    fn line(&mut self, name: &'t str, value: &'t Json) -> Result<(), Malformed> {
        if !is_token(name.as_bytes()) {
            return Err(Malformed(Reason::HeaderMalformed));
        }
        let is_lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
        let name = if is_lower { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) };
        match value {
            Json::List(values) if !values.is_empty() => {
                values.iter().try_for_each(|value| self.push(name.clone(), value))
            }
            _ => self.push(name, value),
        }
    }

    fn push(&mut self, name: Cow<'t, str>, value: &'t Json) -> Result<(), Malformed> {
        let value = string(value)?;
        // RFC 9110 §5.5: no control but the tab.
        if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(Malformed(Reason::HeaderMalformed));
        }
        if self.headers.len() >= MAX_LINES {
            return Err(UNREADABLE);
        }
        self.headers.push((name, value));
        Ok(())
    }

    /// The question of who asks so.
    pub fn raw<'r>(&'r self, asker: Asker, proof: Proof<'r>) -> Raw<'r> {
        let lines = self.headers.iter();
        let headers = lines.map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() }).collect();
        let asked = [self.method, self.path, self.host].map(str::as_bytes);
        Raw {
            proof,
            source: self.source,
            principal: self.principal.as_bytes(),
            certificate: self.certificate.as_bytes(),
            ..Raw::new(Dialect::Json, asker, asked, headers)
        }
    }
}

/// Whether all members are of these names.
pub(super) fn only(object: &Object, names: &[&str]) -> Result<(), Malformed> {
    if object.iter().all(|(name, _)| names.contains(&name)) { Ok(()) } else { Err(UNREADABLE) }
}

pub(super) fn string(value: &Json) -> Result<&str, Malformed> {
    value.as_text().ok_or(UNREADABLE)
}

pub(super) fn object(value: &Json) -> Result<&Object, Malformed> {
    if let Json::Object(object) = value { Ok(object) } else { Err(UNREADABLE) }
}

/// Whole milliseconds, one at least and a minute at most.
fn patience(value: &Json) -> Result<Duration, Malformed> {
    let Json::Number(number) = value else { return Err(UNREADABLE) };
    number.as_u64().filter(|millis| (1..=60_000).contains(millis)).map(Duration::from_millis).ok_or(UNREADABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, Reason> {
        let object = Object::parse(text.as_bytes()).map_err(|_| Reason::CheckUnreadable)?;
        let check = Check::read(&object).map_err(|Malformed(reason)| reason)?;
        let raw = check.raw(Asker::Unix, Proof::default());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let lines = raw.headers.iter().map(|line| format!(" {}={}", text(line.name), text(line.value)));
        let source = raw.source.map(|source| format!(" from {source}")).unwrap_or_default();
        let lines: String = lines.collect();
        let patience = check.patience.map(|patience| format!(" in {patience:?}")).unwrap_or_default();
        Ok(format!("{} {} {}{lines}{source}{patience}", text(raw.method), text(raw.host), text(raw.target)))
    }

    /// A check with these members in place of, or beside, the usual ones.
    fn with(name: &str, value: &str) -> String {
        let usual = [("method", r#""GET""#), ("path", r#""/a""#), ("host", r#""h""#), ("headers", "{}")];
        let usual = usual.iter().filter(|(usual, _)| *usual != name);
        let members = usual.map(|(name, value)| format!("\"{name}\":{value}"));
        let members: Vec<String> = members.chain([format!("\"{name}\":{value}")]).collect();
        format!("{{{}}}", members.join(","))
    }

    #[test]
    fn a_check_is_read_line_by_line() {
        assert_eq!(read(&with("path", r#""/a?b=c""#)), Ok("GET h /a?b=c".into()));
        let lines = r#"{"Accept":["a","b"],"accept":"c","x_y":"\t\u00e9"}"#;
        assert_eq!(read(&with("headers", lines)), Ok("GET h /a accept=a accept=b accept=c x_y=\t\u{e9}".into()));
        assert_eq!(read(&with("source", r#"{"address":"::1"}"#)), Ok("GET h /a from ::1".into()));
        assert_eq!(read(&with("timeout_ms", "150")), Ok("GET h /a in 150ms".into()));
    }

    #[test]
    fn what_is_not_a_check_is_refused() {
        let unreadable = Err(Reason::CheckUnreadable);
        for name in ["method", "path", "host", "headers"] {
            for value in ["null", "7", "true", "[]", r#"["GET"]"#] {
                assert_eq!(read(&with(name, value)), unreadable, "{name}: {value}");
            }
            let object = Object::parse(with("timeout_ms", "1").replace(&format!("\"{name}\""), "\"x\"").as_bytes());
            assert_eq!(Check::read(&object.unwrap()).err(), Some(UNREADABLE), "{name} is missing");
        }
        for (name, value) in [
            ("metod", "1"),
            ("Method", r#""GET""#),
            ("cache", "{}"),
            ("source", "null"),
            ("source", r#""10.0.0.1""#),
            ("source", r#"{"address":"10.0.0.1:80"}"#),
            ("source", r#"{"address":7}"#),
            ("source", r#"{"adress":"10.0.0.1"}"#),
            ("source", r#"{"certificate":["x"]}"#),
            ("timeout_ms", "0"),
            ("timeout_ms", "-1"),
            ("timeout_ms", "1.5"),
            ("timeout_ms", "60001"),
            ("timeout_ms", r#""150""#),
            ("headers", r#"{"a":null}"#),
            ("headers", r#"{"a":7}"#),
            ("headers", r#"{"a":[]}"#),
            ("headers", r#"{"a":["b",["c"]]}"#),
            ("headers", r#"{"a":{"b":"c"}}"#),
            ("headers", r#"{"a":"b","a":"b"}"#),
            ("headers", "[[\"a\",\"b\"]]"),
        ] {
            assert_eq!(read(&with(name, value)), unreadable, "{name}: {value}");
        }
    }

    #[test] // D08
    fn no_header_line_is_read_that_http_does_not_have() {
        for name in ["", " ", "a b", "a:b", ":method", "a\\u0000", "\\u00e9", "a\\r\\nb", "a="] {
            let refused = read(&with("headers", &format!("{{\"{name}\":\"x\"}}")));
            assert_eq!(refused, Err(Reason::HeaderMalformed), "{name:?}");
        }
        for value in ["\\r", "\\n", "\\u0000", "a\\r\\nx-user-id: admin", "\\u001b", "\\u007f"] {
            let refused = read(&with("headers", &format!("{{\"a\":[\"x\",\"{value}\"]}}")));
            assert_eq!(refused, Err(Reason::HeaderMalformed), "{value:?}");
        }
    }

    #[test]
    fn a_check_has_a_thousand_header_lines_at_most() {
        let lines = |count: usize| format!("{{\"a\":[{}]}}", vec!["\"x\""; count].join(","));
        assert!(read(&with("headers", &lines(MAX_LINES))).is_ok());
        assert_eq!(read(&with("headers", &lines(MAX_LINES + 1))), Err(Reason::CheckUnreadable));
    }
}
