//! What a header, a parameter or a datum tells, and how it is written so that nothing else can be read out of it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::authz::actor::{self, Actor};
use crate::authz::identity::{Caller, ClaimPath, Identity, Listed};
use crate::authz::json::Json;
use crate::authz::reason::Reason;
use crate::authz::route::Captures;

/// The longest value that is told, in bytes.
pub(in crate::authz) const MAX_VALUE: usize = 8 * 1024;
/// How many members of a list are told; more are a denial.
const MAX_LIST: usize = 1_024;
/// Beyond this a double, which is what gateways make of a number, holds no longer every whole number.
const MAX_EXACT: u64 = 1 << 53;

/// Where what is told comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The subject, with the issuer's `subject_prefix`.
    Subject,
    /// Issuer and subject: `main/u1`.
    Principal,
    /// The issuer's name in the policy.
    Issuer,
    /// The roles: the token's own, the derived and the granted ones.
    Roles,
    /// The groups.
    Groups,
    /// The scopes.
    Scopes,
    /// Who acts for the subject now.
    Actor,
    /// All who act or have acted for the subject, the one who acts now first.
    Actors,
    /// A claim.
    Claim(ClaimPath),
    /// The policy's own word, whoever calls.
    Literal(Json),
    /// The key of the route.
    Route,
    /// What the route's key captured under this name.
    Capture(Box<str>),
    /// The owner of the API key, whoever else calls as well.
    App,
    /// The id of the API key.
    AppId,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text as it is; everything else as JSON in ASCII.
    #[default]
    Json,
    /// A list joined by commas; what holds one itself, or is a list or an object within, is refused.
    Comma,
    /// The bytes of what `Json` would write, in base64url without padding.
    Base64Url,
}

/// One thing that is told, under a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Tell {
    /// The name; of a header, in lower case.
    pub name: Bytes,
    /// Where it comes from.
    pub source: Source,
    /// What is told of an identity where the source has nothing.
    pub default: Option<Json>,
    /// How it is written.
    pub format: Format,
}

impl Tell {
    /// Whether it depends on the request, and so is made anew for each.
    #[must_use]
    pub fn is_per_request(&self) -> bool {
        matches!(self.source, Source::Route | Source::Capture(_) | Source::App | Source::AppId)
    }

    /// What is to be told of who calls; `None` where there is nothing.
    pub(in crate::authz) fn of(&self, identity: Option<&Identity>) -> Result<Option<Json>, Reason> {
        let told = match (&self.source, identity) {
            (Source::Literal(value), _) => Some(value.clone()),
            (source, Some(identity)) => source.read(identity)?,
            (_, None) => None,
        };
        // Of nobody nothing is told that is about somebody.
        Ok(told.or_else(|| identity.and(self.default.clone())))
    }

    /// What is to be told of a request.
    pub(super) fn of_request(&self, route: &str, captures: &Captures<'_>, caller: &Caller) -> Option<Json> {
        let text = match &self.source {
            Source::Route => Some(route),
            Source::Capture(name) => captures.get(name),
            Source::App => caller.app.as_ref().map(|app| &*app.principal().subject),
            Source::AppId => caller.app.as_ref().and_then(|app| app.token_id()).map(|id| &**id),
            Source::Subject
            | Source::Principal
            | Source::Issuer
            | Source::Roles
            | Source::Groups
            | Source::Scopes
            | Source::Actor
            | Source::Actors
            | Source::Claim(_)
            | Source::Literal(_) => None,
        };
        text.map(|text| Json::Text(text.into())).or_else(|| self.default.clone())
    }
}

impl Source {
    fn read(&self, identity: &Identity) -> Result<Option<Json>, Reason> {
        let text = |text: &str| Some(Json::Text(text.into()));
        let listed = |listed: &Listed| match listed {
            Listed::Known(members) => list(members.iter().map(|member| &**member)),
            Listed::Unknown | Listed::Elsewhere => list(std::iter::empty()),
        };
        let principal = identity.principal();
        Ok(match self {
            // The owner of a key is nobody's subject: an upstream that reads users would take it for one.
            Self::Subject if identity.is_app() => None,
            Self::Subject => text(&principal.subject),
            Self::Principal => text(&principal.to_string()),
            Self::Issuer => text(&principal.issuer),
            Self::Roles => list(identity.roles().map(|role| &**role)),
            Self::Groups => listed(identity.groups()),
            Self::Scopes => listed(identity.scopes()),
            // An upstream that is told of nobody would take the subject to act for itself.
            Self::Actor => {
                let actor = actor::current(identity.claims()).map_err(|_| Reason::HeaderValueRefused)?;
                actor.map(|actor| actor.told())
            }
            Self::Actors => {
                let all = actor::chain(identity.claims()).map_err(|_| Reason::HeaderValueRefused)?;
                Some(Json::List(all.iter().map(Actor::told).collect()))
            }
            Self::Claim(path) => match path.find(identity.claims()) {
                None | Some(Json::Null) => None,
                Some(Json::List(items)) if items.len() > MAX_LIST => return Err(Reason::HeaderValueRefused),
                Some(value) => Some(value.clone()),
            },
            Self::Literal(value) => Some(value.clone()),
            Self::Route | Self::Capture(_) | Self::App | Self::AppId => None,
        })
    }
}

fn list<'a>(members: impl Iterator<Item = &'a str>) -> Option<Json> {
    Some(Json::List(members.map(|member| Json::Text(member.into())).collect()))
}

impl Format {
    /// The value of a header: visible ASCII, without a space at either end.
    ///
    /// # Errors
    /// [`Reason::HeaderValueRefused`] where a header cannot carry it.
    pub fn header(self, value: &Json) -> Result<Bytes, Reason> {
        let text = self.text(value)?;
        let fits = text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim_ascii().len() == text.len();
        if fits { Ok(text.into()) } else { Err(Reason::HeaderValueRefused) }
    }

    /// The value of a parameter of a query: letters, digits, `.`, `_` and `-`. That is all that Envoy 1.40 takes with
    /// `validate_mutations`, which answers 500 to an escape; without it, it would write anything else as it is.
    ///
    /// # Errors
    /// [`Reason::HeaderValueRefused`] where it holds anything else.
    pub fn parameter(self, value: &Json) -> Result<Bytes, Reason> {
        let text = self.text(value)?;
        let fits = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if fits { Ok(text.into()) } else { Err(Reason::HeaderValueRefused) }
    }

    fn text(self, value: &Json) -> Result<String, Reason> {
        let text = match (self, value) {
            (Self::Json, value) => plain(value)?,
            (Self::Base64Url, value) => URL_SAFE_NO_PAD.encode(plain(value)?),
            (Self::Comma, Json::List(items)) => {
                let members: Vec<String> = items.iter().map(member).collect::<Result<_, _>>()?;
                members.join(",")
            }
            (Self::Comma, value) => member(value)?,
        };
        if text.len() <= MAX_VALUE { Ok(text) } else { Err(Reason::HeaderValueRefused) }
    }
}

/// Text as it is; everything else as JSON.
fn plain(value: &Json) -> Result<String, Reason> {
    if let Json::Text(text) = value {
        return Ok(text.clone().into());
    }
    let mut written = String::new();
    write(value, &mut written)?;
    Ok(written)
}

/// One of a list that is joined by commas.
fn member(value: &Json) -> Result<String, Reason> {
    match value {
        Json::Text(_) | Json::Number(_) | Json::Bool(_) => {
            Some(plain(value)?).filter(|text| !text.contains(',')).ok_or(Reason::HeaderValueRefused)
        }
        Json::Null | Json::List(_) | Json::Object(_) => Err(Reason::HeaderValueRefused),
    }
}

/// JSON in ASCII. Text that holds controls is refused, not escaped: what reads the header may unescape them.
pub(in crate::authz) fn write(value: &Json, to: &mut String) -> Result<(), Reason> {
    match value {
        Json::Null => to.push_str("null"),
        Json::Bool(true) => to.push_str("true"),
        Json::Bool(false) => to.push_str("false"),
        Json::Number(number) => to.push_str(&number.to_string()),
        Json::Text(text) => write_text(text, to)?,
        Json::List(items) => {
            to.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    to.push(',');
                }
                write(item, to)?;
            }
            to.push(']');
        }
        Json::Object(object) => {
            to.push('{');
            for (at, (name, value)) in object.iter().enumerate() {
                if at > 0 {
                    to.push(',');
                }
                write_text(name, to)?;
                to.push(':');
                write(value, to)?;
            }
            to.push('}');
        }
    }
    Ok(())
}

fn write_text(text: &str, to: &mut String) -> Result<(), Reason> {
    to.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => to.extend(['\\', c]),
            ' '..='~' => to.push(c),
            c if c.is_control() => return Err(Reason::HeaderValueRefused),
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| to.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    to.push('"');
    Ok(())
}

/// What a gateway is told beside headers keeps its kind. A number that the gateway would round is refused.
pub(super) fn datum(value: Json) -> Result<Json, Reason> {
    fn exact(value: &Json) -> bool {
        match value {
            Json::Null | Json::Bool(_) | Json::Text(_) => true,
            Json::Number(number) => {
                let whole = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
                whole.is_none_or(|whole| whole <= MAX_EXACT)
            }
            Json::List(items) => items.iter().all(exact),
            Json::Object(object) => object.iter().all(|(_, value)| exact(value)),
        }
    }
    if exact(&value) { Ok(value) } else { Err(Reason::HeaderValueRefused) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::json::Object;

    fn json(text: &str) -> Json {
        Object::parse(format!("{{\"v\":{text}}}").as_bytes()).unwrap().get("v").unwrap().clone()
    }

    fn written(format: Format, text: &str) -> Option<String> {
        format.header(&json(text)).ok().map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    #[test]
    fn each_format_writes_each_kind_of_value_or_refuses_it() {
        for (value, as_json, as_comma, as_base64url) in [
            (r#""ann""#, Some("ann"), Some("ann"), Some("YW5u")),
            (r#""a,b""#, Some("a,b"), None, Some("YSxi")),
            (r#""""#, Some(""), Some(""), Some("")),
            ("7", Some("7"), Some("7"), Some("Nw")),
            ("-1.5", Some("-1.5"), Some("-1.5"), Some("LTEuNQ")),
            ("true", Some("true"), Some("true"), Some("dHJ1ZQ")),
            (r#"["a","b"]"#, Some(r#"["a","b"]"#), Some("a,b"), Some("WyJhIiwiYiJd")),
            (r#"["a",1,true]"#, Some(r#"["a",1,true]"#), Some("a,1,true"), Some("WyJhIiwxLHRydWVd")),
            (r#"["a,b"]"#, Some(r#"["a,b"]"#), None, Some("WyJhLGIiXQ")),
            ("[]", Some("[]"), Some(""), Some("W10")),
            (r#"{"a":{"b":[1]}}"#, Some(r#"{"a":{"b":[1]}}"#), None, Some("eyJhIjp7ImIiOlsxXX19")),
            (r#"[{"a":1}]"#, Some(r#"[{"a":1}]"#), None, Some("W3siYSI6MX1d")),
            ("[null]", Some("[null]"), None, Some("W251bGxd")),
            (r#""é""#, None, None, Some("w6k")),
            (r#"["é"]"#, Some(r#"["\u00e9"]"#), None, Some("WyJcdTAwZTkiXQ")),
            (r#"{"é":1}"#, Some(r#"{"\u00e9":1}"#), None, Some("eyJcdTAwZTkiOjF9")),
        ] {
            assert_eq!(written(Format::Json, value).as_deref(), as_json, "{value}");
            assert_eq!(written(Format::Comma, value).as_deref(), as_comma, "{value}");
            assert_eq!(written(Format::Base64Url, value).as_deref(), as_base64url, "{value}");
        }
    }

    #[test] // N09
    fn what_a_header_cannot_carry_is_refused_wherever_it_stands() {
        for value in [
            r#""a\r\nX: 1""#,
            r#""a\u0000""#,
            r#""a\u007f""#,
            r#"" a""#,
            r#""a ""#,
            r#"["a\n"]"#,
            r#"{"a\n":1}"#,
            r#"{"a":"\u0085"}"#,
        ] {
            assert_eq!(written(Format::Json, value), None, "{value}");
            assert_eq!(written(Format::Comma, value), None, "{value}");
        }
        let long = |length: usize| format!("\"{}\"", "a".repeat(length));
        assert!(written(Format::Json, &long(MAX_VALUE)).is_some());
        assert!(written(Format::Json, &long(MAX_VALUE + 1)).is_none());
        assert!(written(Format::Base64Url, &long(MAX_VALUE)).is_none());
    }

    #[test] // N04
    fn a_parameter_holds_nothing_that_would_have_to_be_escaped() {
        let parameter = |format: Format, text: &str| format.parameter(&json(text)).ok();
        assert_eq!(parameter(Format::Json, r#""acme-1.B_2""#).unwrap(), "acme-1.B_2");
        assert_eq!(parameter(Format::Json, "7").unwrap(), "7");
        for value in [
            r#""a b""#,
            r#""a&b=c""#,
            r#""a%62""#,
            r#""a+b""#,
            r#""a~b""#,
            r#""a/b""#,
            r#""é""#,
            r#""a\r\n""#,
            r#"["a"]"#,
        ] {
            assert_eq!(parameter(Format::Json, value), None, "{value}");
            let encoded = parameter(Format::Base64Url, value).unwrap();
            assert!(!encoded.is_empty(), "{value}");
        }
    }

    #[test]
    fn a_number_that_would_be_rounded_is_refused() {
        for exact in ["0", "-9007199254740992", "1.5", "1e300", r#"{"a":[7]}"#] {
            assert!(datum(json(exact)).is_ok(), "{exact}");
        }
        for rounded in ["9007199254740993", "-9007199254740994", r#"{"a":[9007199254740993]}"#] {
            assert!(datum(json(rounded)).is_err(), "{rounded}");
        }
    }
}
