//! The variables of a condition: read from the request, the caller and the moment only when they are asked for.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::check::Variable;
use super::fault::Fault;
use super::value::{MAX_MEMBERS, Map, Value};
use super::{Condition, Scene};
use crate::authz::credential::query::carries;
use crate::authz::identity::{Identity, Listed, Truth};

/// Where variables are read.
pub(super) struct Bindings<'a> {
    scene: Option<&'a Scene<'a>>,
    condition: Option<&'a Condition>,
    /// What was read of the query: it is read once.
    query: Option<Value<'a>>,
}

impl<'a> Bindings<'a> {
    pub fn new(scene: &'a Scene<'a>, condition: &'a Condition) -> Self {
        Self { scene: Some(scene), condition: Some(condition), query: None }
    }

    /// No request: for what is the same in all of them.
    pub fn nothing() -> Self {
        Self { scene: None, condition: None, query: None }
    }

    fn scene(&self) -> Result<&'a Scene<'a>, Fault> {
        self.scene.ok_or(Fault::NoMember)
    }

    fn shows(&self, name: &str) -> bool {
        self.scene.zip(self.condition).is_some_and(|(scene, condition)| condition.shows(name, scene))
    }

    fn acting(&self) -> Result<&'a Identity, Fault> {
        self.scene()?.who.caller.acting().map(|identity| &**identity).ok_or(Fault::Nobody)
    }

    /// The value of a variable.
    pub fn read(&mut self, variable: &Variable) -> Result<Value<'a>, Fault> {
        let scene = self.scene()?;
        match variable {
            Variable::Method => Value::text(scene.request.method),
            Variable::Host => Value::text(&scene.request.host),
            Variable::Path => Value::text(&scene.request.path),
            Variable::Query => self.query(),
            Variable::Headers => self.headers(),
            Variable::SignedIn => Ok(Value::Bool(scene.who.caller.acting().is_some())),
            // The owner of a key is nobody's subject.
            Variable::Subject => {
                let acting = Some(self.acting()?).filter(|identity| !identity.is_app());
                Value::text(&acting.ok_or(Fault::Nobody)?.principal().subject)
            }
            Variable::Principal => Value::made(self.acting()?.principal().to_string()),
            Variable::Issuer => Value::text(&self.acting()?.principal().issuer),
            Variable::Roles => {
                let roles = self.acting()?.roles_if_known().ok_or(Fault::ListUnknown)?;
                Value::list(roles.into_iter().map(Value::text).collect::<Result<_, _>>()?)
            }
            Variable::Groups => listed(self.acting()?.groups()),
            Variable::Scopes => listed(self.acting()?.scopes()),
            Variable::Address => {
                let address = scene.who.address.ok_or(Fault::AddressUnknown)?;
                Value::made(address.to_canonical().to_string())
            }
            Variable::Claims => Ok(Value::Map(Map::Json(self.acting()?.claims()))),
            Variable::Capture(name) => Value::text(scene.who.captures.get(name).ok_or(Fault::NoMember)?),
            Variable::Now => {
                let nanos = i128::from(scene.now.as_millis()).checked_mul(1_000_000);
                nanos.and_then(super::time::time).map(Value::Time).ok_or(Fault::Range)
            }
        }
    }

    /// Whether the caller has a role, which may be known where the list of all of them is not.
    pub fn has_role(&self, name: &str) -> Result<bool, Fault> {
        match self.acting()?.role(name) {
            Truth::True => Ok(true),
            Truth::False => Ok(false),
            Truth::Unknown => Err(Fault::ListUnknown),
        }
    }

    /// How many header lines there are.
    pub fn header_count(&self) -> usize {
        self.scene.map_or(0, |scene| scene.request.headers.len())
    }

    /// The values of a header, where it is there and carries no credential.
    pub fn header(&self, name: &str) -> Result<Option<Value<'a>>, Fault> {
        if !self.shows(name) {
            return Ok(None);
        }
        let lines = self.scene()?.request.headers.iter().filter(|line| line.name == name.as_bytes());
        let values = lines.map(|line| header_text(line.value)).collect::<Result<Vec<_>, _>>()?;
        if values.is_empty() { Ok(None) } else { Value::list(values).map(Some) }
    }

    /// All headers that carry no credential.
    fn headers(&self) -> Result<Value<'a>, Fault> {
        let mut named: BTreeMap<&'a str, Vec<Value<'a>>> = BTreeMap::new();
        for line in self.scene()?.request.headers {
            let name = std::str::from_utf8(line.name).map_err(|_| Fault::HeaderNotText)?;
            if self.shows(name) {
                named.entry(name).or_default().push(header_text(line.value)?);
            }
        }
        Value::map(
            named
                .into_iter()
                .map(|(name, values)| Ok((Value::text(name)?, Value::list(values)?)))
                .collect::<Result<_, Fault>>()?,
        )
    }

    fn query(&mut self) -> Result<Value<'a>, Fault> {
        if let Some(read) = &self.query {
            return Ok(read.clone());
        }
        let read =
            read_query(self.scene()?.request.query.unwrap_or_default(), self.condition.map(|of| &*of.hidden_queries))?;
        self.query = Some(read.clone());
        Ok(read)
    }
}

fn header_text(value: &[u8]) -> Result<Value<'_>, Fault> {
    std::str::from_utf8(value).map_err(|_| Fault::HeaderNotText).and_then(Value::text)
}

fn listed(list: &Listed) -> Result<Value<'_>, Fault> {
    match list {
        Listed::Known(members) => {
            Value::list(members.iter().map(|member| Value::text(member)).collect::<Result<_, _>>()?)
        }
        Listed::Unknown | Listed::Elsewhere => Err(Fault::ListUnknown),
    }
}

/// All values of each name, decoded once, but for those that carry a credential. What servers part at other places, or decode in other ways, is not read.
fn read_query<'q>(query: &'q str, hidden: Option<&[Box<str>]>) -> Result<Value<'q>, Fault> {
    if query.contains(';') {
        return Err(Fault::Query);
    }
    let mut named: BTreeMap<Cow<'q, str>, Vec<Value<'q>>> = BTreeMap::new();
    let hidden = hidden.unwrap_or_default();
    let pairs = query.split('&').filter(|pair| !pair.is_empty() && !carries(pair, hidden));
    for (count, pair) in pairs.enumerate() {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(name), Some(value)) = (decoded(name), decoded(value)) else { return Err(Fault::Query) };
        if count >= MAX_MEMBERS {
            return Err(Fault::Query);
        }
        named.entry(name).or_default().push(owned(value)?);
    }
    let named = named.into_iter().map(|(name, values)| Ok((owned(name)?, Value::list(values)?)));
    Value::map(named.collect::<Result<_, Fault>>()?)
}

fn owned(text: Cow<'_, str>) -> Result<Value<'_>, Fault> {
    match text {
        Cow::Borrowed(text) => Value::text(text),
        Cow::Owned(text) => Value::made(text),
    }
}

/// One name or value of a query: `+` is a space. `None` where an escape is bad, or the text is not UTF-8.
fn decoded(piece: &str) -> Option<Cow<'_, str>> {
    if !piece.contains(['%', '+']) {
        return Some(Cow::Borrowed(piece));
    }
    let escapes = piece.split('%').skip(1);
    let is_escape = |rest: &str| rest.get(..2).is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    if !escapes.into_iter().all(is_escape) {
        return None;
    }
    let spaced = piece.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(|text| Cow::Owned(text.into_owned()))
}
