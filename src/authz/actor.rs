//! Who acts for the subject of a token: the `act` claim and the chain in it (RFC 8693 §4.1).

use super::json::{Json, Object};

/// How many actors a chain may have.
pub const MAX_CHAIN: usize = 8;
/// The longest name of an actor or of its issuer, in bytes.
const MAX_NAME: usize = 1_024;

/// Somebody who acts, or has acted, for the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor<'c> {
    /// Its `sub`; where it has none, its `client_id`.
    pub name: &'c str,
    /// Its `iss`, where that is not the issuer of the token.
    pub elsewhere: Option<&'c str>,
}

/// The claim is not what RFC 8693 §4.1 says, or is over a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// The actors of a token, the one who acts now first: none where the subject acts for itself.
///
/// # Errors
/// Where any part of the chain cannot be read.
pub fn chain(claims: &Object) -> Result<Vec<Actor<'_>>, Unreadable> {
    let mut all = Vec::new();
    walk(claims, |actor| all.push(actor))?;
    Ok(all)
}

/// Who acts now.
///
/// # Errors
/// As for [`chain`]: those who acted before decide nothing, but a chain that cannot be read is no chain.
pub fn current(claims: &Object) -> Result<Option<Actor<'_>>, Unreadable> {
    let mut current = None;
    walk(claims, |actor| {
        current.get_or_insert(actor);
    })?;
    Ok(current)
}

fn walk<'c>(claims: &'c Object, mut see: impl FnMut(Actor<'c>)) -> Result<(), Unreadable> {
    let issuer = claims.get("iss");
    let mut claims = claims;
    for _ in 0..=MAX_CHAIN {
        claims = match claims.get("act") {
            None | Some(Json::Null) => return Ok(()),
            Some(Json::Object(act)) => act,
            Some(Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::List(_)) => return Err(Unreadable),
        };
        let name = claims.get("sub").or_else(|| claims.get("client_id"));
        let elsewhere = match claims.get("iss") {
            own if own == issuer || own.is_none() => None,
            other => Some(text(other)?),
        };
        see(Actor { name: text(name)?, elsewhere });
    }
    Err(Unreadable)
}

/// A text of 1 to so many bytes without control characters.
fn text(value: Option<&Json>) -> Result<&str, Unreadable> {
    let text = value.and_then(Json::as_text).ok_or(Unreadable)?;
    let fits = (1..=MAX_NAME).contains(&text.len()) && !text.contains(char::is_control);
    fits.then_some(text).ok_or(Unreadable)
}

impl Actor<'_> {
    /// What others are told of it: its name; of another issuer's, an object of `iss` and `sub`, which no name is.
    #[must_use]
    pub fn told(&self) -> Json {
        let name = Json::Text(self.name.into());
        match self.elsewhere {
            None => name,
            Some(issuer) => Json::Object(Object::of([("iss", Json::Text(issuer.into())), ("sub", name)])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(act: &str) -> Option<String> {
        let claims = Object::parse(format!(r#"{{"iss":"https://id.test","sub":"u1","act":{act}}}"#).as_bytes());
        let claims = claims.unwrap();
        let all = chain(&claims).ok()?;
        assert_eq!(current(&claims).unwrap(), all.first().copied());
        let shown = |actor: &Actor<'_>| {
            format!("{}{}", actor.name, actor.elsewhere.map(|at| format!("@{at}")).unwrap_or_default())
        };
        Some(all.iter().map(shown).collect::<Vec<_>>().join(" < "))
    }

    fn nested(depth: usize) -> String {
        (0..depth).fold("null".to_owned(), |inner, at| format!(r#"{{"sub":"a{at}","act":{inner}}}"#))
    }

    #[test]
    fn a_chain_is_read_from_who_acts_now_to_who_acted_first() {
        assert_eq!(read("null").unwrap(), "");
        assert_eq!(read(r#"{"sub":"agent"}"#).unwrap(), "agent");
        assert_eq!(read(r#"{"sub":"agent","act":{"sub":"portal","act":null}}"#).unwrap(), "agent < portal");
        assert_eq!(read(r#"{"client_id":"app"}"#).unwrap(), "app");
        assert_eq!(read(r#"{"sub":"agent","client_id":"app"}"#).unwrap(), "agent");
        assert_eq!(chain(&Object::default()), Ok(vec![]));
    }

    #[test]
    fn an_actor_of_another_issuer_is_another_actor() {
        assert_eq!(read(r#"{"sub":"agent","iss":"https://id.test"}"#).unwrap(), "agent");
        assert_eq!(read(r#"{"sub":"agent","iss":"https://other.test"}"#).unwrap(), "agent@https://other.test");
        let told = Actor { name: "agent", elsewhere: Some("https://other.test") }.told();
        assert!(told.as_text().is_none());
    }

    #[test]
    fn a_chain_with_a_part_that_cannot_be_read_is_not_read() {
        for act in [
            r#""agent""#,
            "7",
            "true",
            "[]",
            r#"[{"sub":"a"}]"#,
            "{}",
            r#"{"sub":7}"#,
            r#"{"sub":""}"#,
            r#"{"sub":null,"client_id":"app"}"#,
            r#"{"sub":"a\u0000"}"#,
            r#"{"sub":"a","iss":7}"#,
            r#"{"sub":"a","iss":""}"#,
            r#"{"sub":"a","act":"b"}"#,
            r#"{"sub":"a","act":{}}"#,
        ] {
            assert_eq!(read(act), None, "{act}");
        }
        assert!(read(&format!(r#"{{"sub":"{}"}}"#, "a".repeat(MAX_NAME))).is_some());
        assert_eq!(read(&format!(r#"{{"sub":"{}"}}"#, "a".repeat(MAX_NAME + 1))), None);
        assert!(read(&nested(MAX_CHAIN)).is_some());
        assert_eq!(read(&nested(MAX_CHAIN + 1)), None);
    }
}
