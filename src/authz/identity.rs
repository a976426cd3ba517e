//! Who is calling: identities in their slots, made by verification only, and typed reads of their claims.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::api_keys::ApiKey;
use super::grant::{Grant, RaisedOnce};
use super::header::ToldOnce;
use super::json::{Json, Object};
use super::proof::Binding;
use super::time::Timestamp;

/// Room for what is told of an identity under one contract, with its encoding, in bytes.
const TOLD: usize = 1_024;
/// What stands for the issuer of workloads: no issuer of a policy with services has this name.
pub const WORKLOADS: &str = "services";
/// What stands for the issuer of applications with API keys: no issuer of a policy has this name.
pub const APPS: &str = "api_keys";
/// How many members of a list claim are read; a longer list is unreadable.
const MAX_LIST: usize = 1_024;

/// An issuer and a subject. A subject means nothing without its issuer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The issuer's name in the policy.
    pub issuer: Arc<str>,
    /// The `sub` claim, as it was signed.
    pub subject: Arc<str>,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.issuer, self.subject)
    }
}

/// Who presented credentials: three slots, one identity each.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// A person, or a program that acts with a token of its own.
    pub user: Option<Arc<Identity>>,
    /// A workload, by its client certificate.
    pub workload: Option<Arc<Identity>>,
    /// An application, by its API key.
    pub app: Option<Arc<Identity>>,
    /// What the workload counts for.
    pub standing: Standing,
}

/// What the workload of a request counts for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It calls by itself where there is no user.
    #[default]
    Acts,
    /// It only carries the request of somebody else: an edge that everyone's requests come through is nobody's identity.
    Carries,
    /// Nobody who is believed says which it is.
    Untold,
}

impl Caller {
    /// Everyone who presented a credential.
    pub fn identities(&self) -> impl Iterator<Item = &Arc<Identity>> {
        [&self.user, &self.workload, &self.app].into_iter().flatten()
    }

    /// The identity that `role:`, `group:`, `scope:`, `claim:` and `owner:` read: one slot, never a union of them,
    /// so that a user does not inherit the roles of the frontend it came through.
    #[must_use]
    pub fn acting(&self) -> Option<&Arc<Identity>> {
        let workload = self.workload.as_ref().filter(|_| self.standing == Standing::Acts);
        self.user.as_ref().or(workload).or(self.app.as_ref())
    }
}

/// Three-valued truth (Kleene): what cannot be read is neither true nor false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told.
    Unknown,
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
        }
    }
}

/// A list that a claim should hold: its members, or that it could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// The members, possibly none.
    Known(Box<[Arc<str>]>),
    /// The claim is missing, not mapped, or is not a list of strings.
    Unknown,
    /// The token says that the claim is elsewhere, to be fetched (OpenID Connect Core §5.6.2): it had no room for it.
    Elsewhere,
}

impl Listed {
    /// Whether the list has this member.
    #[must_use]
    pub fn has(&self, member: &str) -> Truth {
        match self {
            Self::Known(members) => members.iter().any(|m| &**m == member).into(),
            Self::Unknown | Self::Elsewhere => Truth::Unknown,
        }
    }
}

/// A verified identity. Only verification makes one.
#[derive(Clone)]
pub struct Identity {
    principal: Principal,
    claims: Arc<Object>,
    roles: Roles,
    groups: Listed,
    scopes: Listed,
    token_id: Option<Arc<str>>,
    key_id: Option<Arc<str>>,
    issued: Option<Timestamp>,
    not_before: Option<Timestamp>,
    expires: Timestamp,
    /// What its token is bound to, where that counts.
    binding: Option<Box<Binding>>,
    /// The service that it is, for a workload.
    service: Option<Arc<str>>,
    told: ToldOnce,
    raised: RaisedOnce,
}

/// The roles of an identity: those that its token lists, and those that the policy derives.
#[derive(Clone, Debug)]
pub struct Roles {
    /// What the token's own list says, as far as its issuer may grant it.
    pub(super) listed: Listed,
    /// What the policy's `roles:` say, which then is all that counts for that name.
    pub(super) derived: Box<[(Arc<str>, Truth)]>,
    /// What the policy's `grants:` give it now.
    pub(super) granted: Box<[Grant]>,
}

impl Roles {
    fn has(&self, name: &str) -> Truth {
        if self.grants(name) {
            return Truth::True;
        }
        match self.derived.iter().find(|(derived, _)| &**derived == name) {
            Some((_, truth)) => *truth,
            None => self.listed.has(name),
        }
    }

    fn grants(&self, name: &str) -> bool {
        self.granted.iter().any(|grant| &*grant.role == name)
    }
}

/// What verification found, from which an [`Identity`] is made.
pub(super) struct Parts {
    pub principal: Principal,
    pub claims: Object,
    pub listed: Listed,
    pub groups: Listed,
    pub scopes: Listed,
    pub token_id: Option<Arc<str>>,
    pub key_id: Option<Arc<str>>,
    pub issued: Option<Timestamp>,
    pub not_before: Option<Timestamp>,
    pub expires: Timestamp,
    pub binding: Option<Box<Binding>>,
    /// For how many contracts there is a place to remember what is told of it.
    pub contracts: usize,
}

impl Identity {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            principal,
            claims,
            listed,
            groups,
            scopes,
            token_id,
            key_id,
            issued,
            not_before,
            expires,
            binding,
            contracts,
        } = parts;
        let roles = Roles { listed, derived: Box::default(), granted: Box::default() };
        Self {
            principal,
            claims: Arc::new(claims),
            roles,
            groups,
            scopes,
            token_id,
            key_id,
            issued,
            not_before,
            expires,
            binding,
            service: None,
            told: ToldOnce::with_places(contracts),
            raised: RaisedOnce::default(),
        }
    }

    /// A workload that is this service. It has no claims, and no roles but those that the policy derives.
    pub(super) fn of_workload(service: &Arc<str>, id: &str) -> Self {
        let none = || Listed::Known(Box::default());
        let parts = Parts {
            principal: Principal { issuer: WORKLOADS.into(), subject: id.into() },
            claims: Object::default(),
            listed: none(),
            groups: none(),
            scopes: none(),
            token_id: None,
            key_id: None,
            issued: None,
            not_before: None,
            expires: Timestamp::from_millis(i64::MAX),
            binding: None,
            contracts: 1,
        };
        Self { service: Some(Arc::clone(service)), ..Self::new(parts) }
    }

    /// Who shows this key. It has no claims, and no roles but those of the key and those that the policy derives.
    pub(super) fn of_app(key: &ApiKey, contracts: usize) -> Self {
        let listed = |names: &[Arc<str>]| Listed::Known(names.into());
        Self::new(Parts {
            principal: Principal { issuer: APPS.into(), subject: Arc::clone(&key.owner) },
            claims: Object::default(),
            listed: listed(&key.rights.roles),
            groups: listed(&key.rights.groups),
            scopes: listed(&key.rights.scopes),
            token_id: Some(Arc::clone(&key.id)),
            binding: None,
            key_id: None,
            // What is revoked by when it was given goes by when it is good from.
            issued: key.not_before,
            not_before: key.not_before,
            expires: key.expires.unwrap_or(Timestamp::from_millis(i64::MAX)),
            contracts,
        })
    }

    /// Whether it is an application, known by its key. Its subject is the key's owner, which the operator calls as he
    /// likes: it is never compared with, or told as, the subject of a token.
    #[must_use]
    pub fn is_app(&self) -> bool {
        *self.principal.issuer == *APPS
    }

    /// The same by another subject.
    pub(super) fn with_subject(&self, subject: &Arc<str>) -> Self {
        let principal = Principal { issuer: Arc::clone(&self.principal.issuer), subject: Arc::clone(subject) };
        // What was made for who it was before is nothing to who it is now.
        let (told, raised) = (ToldOnce::with_places(self.told.places()), RaisedOnce::default());
        Self { principal, told, raised, ..self.clone() }
    }

    /// The same identity with these grants, and no role derived yet.
    pub(super) fn with_grants(&self, granted: &[Grant]) -> Self {
        let roles = Roles { listed: self.roles.listed.clone(), derived: Box::default(), granted: granted.into() };
        Self { roles, told: ToldOnce::with_places(self.told.places()), raised: RaisedOnce::default(), ..self.clone() }
    }

    /// The same identity with grants, once it was made.
    pub(super) fn raised(&self) -> &RaisedOnce {
        &self.raised
    }

    /// The grants that it has.
    #[must_use]
    pub fn grants(&self) -> &[Grant] {
        &self.roles.granted
    }

    /// The service that it is, for a workload.
    #[must_use]
    pub fn service(&self) -> Option<&Arc<str>> {
        self.service.as_ref()
    }

    /// What upstreams are told of it.
    pub(super) fn told(&self) -> &ToldOnce {
        &self.told
    }

    /// Adds a role that the policy derives, or says that it does not hold.
    pub(super) fn derive_role(&mut self, name: &Arc<str>, truth: Truth) {
        let mut derived = std::mem::take(&mut self.roles.derived).into_vec();
        derived.push((Arc::clone(name), truth));
        self.roles.derived = derived.into();
    }

    /// Issuer and subject.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The signed claims.
    #[must_use]
    pub fn claims(&self) -> &Object {
        &self.claims
    }

    /// Whether it has this role.
    #[must_use]
    pub fn role(&self, name: &str) -> Truth {
        self.roles.has(name)
    }

    /// Whether it is in this group.
    #[must_use]
    pub fn group(&self, name: &str) -> Truth {
        self.groups.has(name)
    }

    /// Whether it was given this scope.
    #[must_use]
    pub fn scope(&self, name: &str) -> Truth {
        self.scopes.has(name)
    }

    /// The roles that it is known to have, each once: the token's own, then the derived ones, then the granted ones.
    /// Those that an included file defines (`payments/approver`) are for rules only: what one team defines must not
    /// reach another's upstream.
    pub fn roles(&self) -> impl Iterator<Item = &Arc<str>> {
        let derived = &self.roles.derived;
        let granted = &self.roles.granted;
        let listed = match &self.roles.listed {
            Listed::Known(members) => &**members,
            Listed::Unknown | Listed::Elsewhere => &[],
        };
        let is_derived = |name: &str| derived.iter().any(|(derived, _)| &**derived == name);
        let also = granted
            .iter()
            .enumerate()
            .filter(|(at, grant)| !granted.iter().take(*at).any(|earlier| earlier.role == grant.role))
            .map(|(_, grant)| &grant.role)
            .filter(move |role| !is_derived(role) && !listed.contains(*role));
        listed
            .iter()
            .enumerate()
            .filter(|(at, name)| !listed.iter().take(*at).any(|earlier| earlier == *name))
            .map(|(_, name)| name)
            .filter(|name| !derived.iter().any(|(derived, _)| derived == *name))
            .chain(
                derived
                    .iter()
                    .filter(|(name, truth)| *truth == Truth::True && !name.contains('/'))
                    .map(|(name, _)| name),
            )
            .chain(also)
    }

    /// The roles that it has, each once, in no order; `None` where one of its lists cannot be read.
    #[must_use]
    pub fn roles_if_known(&self) -> Option<Vec<&str>> {
        let Roles { listed: Listed::Known(listed), derived, granted } = &self.roles else { return None };
        if derived.iter().any(|(_, truth)| *truth == Truth::Unknown) {
            return None;
        }
        let mut roles: BTreeSet<&str> = listed.iter().map(|role| &**role).collect();
        for (name, truth) in derived {
            if *truth == Truth::True {
                roles.insert(name)
            } else {
                roles.remove(&**name)
            };
        }
        roles.extend(granted.iter().map(|grant| &*grant.role));
        Some(roles.into_iter().collect())
    }

    /// Whether one of its lists had no room in the token.
    #[must_use]
    pub fn has_list_elsewhere(&self) -> bool {
        [&self.roles.listed, &self.groups, &self.scopes].contains(&&Listed::Elsewhere)
    }

    /// The groups that it is known to be in.
    #[must_use]
    pub fn groups(&self) -> &Listed {
        &self.groups
    }

    /// The scopes that it is known to have been given.
    #[must_use]
    pub fn scopes(&self) -> &Listed {
        &self.scopes
    }

    /// The `jti` claim.
    #[must_use]
    pub fn token_id(&self) -> Option<&Arc<str>> {
        self.token_id.as_ref()
    }

    /// The kid of the key that signed its token.
    #[must_use]
    pub fn key_id(&self) -> Option<&Arc<str>> {
        self.key_id.as_ref()
    }

    /// The `iat` claim.
    #[must_use]
    pub fn issued(&self) -> Option<Timestamp> {
        self.issued
    }

    /// The `nbf` claim.
    #[must_use]
    pub fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    /// The `exp` claim.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// What its token is bound to, where that counts.
    pub(super) fn binding(&self) -> Option<&Binding> {
        self.binding.as_deref()
    }

    /// Reads a claim.
    #[must_use]
    pub fn claim(&self, path: &ClaimPath) -> Reading<'_> {
        path.read(&self.claims)
    }

    /// Roughly how many bytes of memory it holds on to.
    #[must_use]
    pub fn weight(&self) -> usize {
        let listed = |list: &Listed| match list {
            Listed::Known(members) => {
                members.iter().fold(0_usize, |sum, m| sum.saturating_add(m.len()).saturating_add(32))
            }
            Listed::Unknown | Listed::Elsewhere => 0,
        };
        size_of::<Self>()
            .saturating_add(TOLD.saturating_mul(self.told.places()))
            .saturating_add(self.claims.weight())
            .saturating_add(listed(&self.roles.listed))
            .saturating_add(listed(&self.groups))
            .saturating_add(listed(&self.scopes))
            .saturating_add(self.principal.subject.len())
            .saturating_add(if self.binding.is_some() { size_of::<Binding>() } else { 0 })
    }
}

/// Claims may be personal: only who it is, never what the token says.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("principal", &self.principal).finish_non_exhaustive()
    }
}

/// Where a claim stands: `sub`, `realm_access.roles`, one literal name that holds a `/` (`https://acme.com/tier`), or a
/// JSON Pointer (`/kubernetes.io/namespace`, RFC 6901) where names with dots or slashes nest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimPath(Box<[Box<str>]>);

impl ClaimPath {
    /// Reads a path as the policy writes it. `None` where it is empty, has an empty part, or a `~` of a pointer that is
    /// neither `~0` nor `~1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Box<[Box<str>]> = match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(unescaped).collect::<Option<_>>()?,
            None if text.contains('/') => Box::new([text.into()]),
            None => text.split('.').map(Into::into).collect(),
        };
        Self::of(parts)
    }

    /// The path of these names, each within the one before. `None` where there are none, or one is empty.
    #[must_use]
    pub fn of(names: Box<[Box<str>]>) -> Option<Self> {
        (!names.is_empty() && !names.iter().any(|name| name.is_empty())).then_some(Self(names))
    }

    /// The names, each within the one before.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }

    /// Whether the token says that it does not hold this claim, but says where it is: `_claim_names` (OpenID Connect Core
    /// §5.6.2), or the `hasgroups` of Microsoft Entra ID.
    #[must_use]
    pub fn is_elsewhere(&self, claims: &Object) -> bool {
        let Some(first) = self.0.first() else { return false };
        let named = match claims.get("_claim_names") {
            Some(Json::Object(names)) => names.get(first).is_some(),
            Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::List(_)) | None => false,
        };
        named || (**first == *"groups" && matches!(claims.get("hasgroups"), Some(Json::Bool(true))))
    }

    /// Finds the claim.
    #[must_use]
    pub fn find<'a>(&self, claims: &'a Object) -> Option<&'a Json> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(claims.get(first)?, |value, part| match value {
            Json::Object(object) => object.get(part),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::List(_) => None,
        })
    }

    /// Finds the claim and says what kind of thing it is.
    #[must_use]
    pub fn read<'a>(&self, claims: &'a Object) -> Reading<'a> {
        match self.find(claims) {
            None | Some(Json::Null) => Reading::Missing,
            Some(Json::List(items)) if items.len() > MAX_LIST => Reading::Unreadable,
            Some(Json::List(items)) => {
                items.iter().map(scalar).collect::<Option<Vec<_>>>().map_or(Reading::Unreadable, Reading::Many)
            }
            Some(value) => scalar(value).map_or(Reading::Unreadable, Reading::One),
        }
    }

    /// Reads a list: an array of strings, or one string of names separated by single spaces.
    #[must_use]
    pub fn read_list(&self, claims: &Object) -> Option<Listed> {
        let members = match self.find(claims) {
            None | Some(Json::Null) => return None,
            Some(Json::Text(text)) => Some(text.split(' ').filter(|part| !part.is_empty()).map(Arc::from).collect()),
            Some(Json::List(items)) => items.iter().map(|item| item.as_text().map(Arc::from)).collect(),
            Some(_) => None,
        };
        Some(match members {
            Some(members) => {
                let members: Vec<Arc<str>> = members;
                if members.len() > MAX_LIST { Listed::Unknown } else { Listed::Known(members.into()) }
            }
            None => Listed::Unknown,
        })
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let literal = matches!(&*self.0, [one] if one.contains('/') && !one.starts_with('/'));
        if literal || !self.0.iter().any(|part| part.contains(['.', '/'])) {
            return f.write_str(&self.0.join("."));
        }
        self.0.iter().try_for_each(|part| write!(f, "/{}", part.replace('~', "~0").replace('/', "~1")))
    }
}

/// A name out of a JSON Pointer (RFC 6901 §4).
fn unescaped(part: &str) -> Option<Box<str>> {
    let escapes = part.split('~').skip(1);
    let strict = { escapes }.all(|rest| rest.starts_with(['0', '1']));
    strict.then(|| part.replace("~1", "/").replace("~0", "~").into())
}

/// What a claim holds, as far as a rule or a header can use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<'a> {
    /// There is no such claim, or it is `null`.
    Missing,
    /// A string; a number or a boolean as JSON writes it.
    One(Cow<'a, str>),
    /// A list of such.
    Many(Vec<Cow<'a, str>>),
    /// An object, a list that holds one, or a list over the cap.
    Unreadable,
}

fn scalar(value: &Json) -> Option<Cow<'_, str>> {
    match value {
        Json::Text(text) => Some(Cow::Borrowed(text)),
        Json::Number(number) => Some(Cow::Owned(number.to_string())),
        Json::Bool(true) => Some(Cow::Borrowed("true")),
        Json::Bool(false) => Some(Cow::Borrowed("false")),
        Json::Null | Json::List(_) | Json::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> String {
        let claims = Object::parse(
            br#"{"sub":"u1","n":7,"f":1.5,"t":true,"nil":null,"o":{"in":{"x":"deep"},"list":["a",1,false]},
                "mixed":["a",{"b":1}],"https://acme.com/tier":"gold","dotted.name":"no"}"#,
        )
        .unwrap();
        format!("{:?}", ClaimPath::parse(path).unwrap().read(&claims))
    }

    #[test]
    fn a_claim_is_read_as_text_or_a_list_of_text_or_not_at_all() {
        assert_eq!(read("sub"), r#"One("u1")"#);
        assert_eq!(read("n"), r#"One("7")"#);
        assert_eq!(read("f"), r#"One("1.5")"#);
        assert_eq!(read("t"), r#"One("true")"#);
        assert_eq!(read("nil"), "Missing");
        assert_eq!(read("o"), "Unreadable");
        assert_eq!(read("o.in.x"), r#"One("deep")"#);
        assert_eq!(read("o.list"), r#"Many(["a", "1", "false"])"#);
        assert_eq!(read("mixed"), "Unreadable");
        assert_eq!(read("sub.x"), "Missing");
        assert_eq!(read("https://acme.com/tier"), r#"One("gold")"#);
        assert_eq!(read("dotted.name"), "Missing");
        assert_eq!(read("/dotted.name"), r#"One("no")"#);
        assert_eq!(read("/o/in/x"), r#"One("deep")"#);
        assert_eq!(read("/https:~1~1acme.com~1tier"), r#"One("gold")"#);
        for bad in ["/", "//a", "/a/", "/a~2", "/a~"] {
            assert_eq!(ClaimPath::parse(bad), None, "{bad}");
        }
        for path in ["a", "a.b", "https://acme.com/tier", "/a.b", "/a.b/c", "/a~1b/c.d", "/~1a", "~", "a~1.b", "/~01.b"]
        {
            assert_eq!(ClaimPath::parse(path).unwrap().to_string(), path);
        }
        assert_eq!(ClaimPath::parse("/a/b").unwrap().to_string(), "a.b");
        assert_eq!(ClaimPath::parse(""), None);
        assert_eq!(ClaimPath::parse("a..b"), None);
    }

    #[test]
    fn a_list_is_an_array_of_strings_or_one_spaced_string() {
        let claims = Object::parse(br#"{"a":["x","y"],"b":"x  y","c":["x",1],"d":7,"e":[]}"#).unwrap();
        let list = |path: &str| ClaimPath::parse(path).unwrap().read_list(&claims);
        let xy = Some(Listed::Known(Box::new(["x".into(), "y".into()])));
        assert_eq!(list("a"), xy);
        assert_eq!(list("b"), xy);
        assert_eq!(list("c"), Some(Listed::Unknown));
        assert_eq!(list("d"), Some(Listed::Unknown));
        assert_eq!(list("e"), Some(Listed::Known(Box::default())));
        assert_eq!(list("missing"), None);
    }
}
