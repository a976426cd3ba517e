//! The header contract: on every allow each managed header is set or removed, in every alias that the request came with.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use super::decision::{Datum, Grant};
use super::identity::{Caller, ClaimPath, Identity, Listed, Reading};
use super::reason::Reason;
use super::request::Request;

/// The longest value that a header of ours carries, in bytes.
const MAX_VALUE: usize = 8 * 1024;

/// How many header lines, and how many bytes of them, a gateway lets through unless it is told otherwise (Envoy's
/// `max_headers_count` and `max_request_headers_kb`). Envoy holds the caller's lines against them, and once more, after
/// our answer, all lines: then it answers 500.
const MAX_LINES: usize = 100;
const MAX_BYTES: usize = 60 * 1024;
/// How far a check may be over a limit that the caller kept: by pseudo-headers, and by what the gateway adds before it
/// asks (`x-forwarded-for`, `x-forwarded-proto`, `x-request-id` and kin).
const OWN_LINES: usize = 8;
const OWN_BYTES: usize = 512;

/// Headers by which other proxies tell an upstream the path, the method or the caller. An upstream that believes one
/// must not get it from a caller, so they are removed on every allow, whether or not the policy names them and whether
/// or not they are seen: a gateway may hide them from us.
const ALWAYS: &[&str] = &[
    "x-original-url",
    "x-original-uri",
    "x-original-method",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "remote-user",
    "x-remote-user",
    "x-forwarded-user",
    "x-forwarded-groups",
    "x-forwarded-email",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "x-auth-request-user",
    "x-auth-request-groups",
    "x-auth-request-email",
    "x-webauth-user",
];

/// Families of such headers: any received name that begins so is removed.
const FAMILIES: &[&str] = &[
    "remote-",
    "x-remote-",
    "x-auth-request-",
    "x-webauth-",
    "x-authenticated-",
    "x-consumer-",
    "x-credential-",
    "x-goog-authenticated-",
    "x-ms-client-principal",
];

/// What a header or a datum tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The subject, with the issuer's `subject_prefix`.
    Subject,
    /// Issuer and subject: `main/u1`.
    Principal,
    /// The issuer's name in the policy.
    Issuer,
    /// The roles, the token's own and the derived ones.
    Roles,
    /// The groups.
    Groups,
    /// The scopes.
    Scopes,
    /// A claim.
    Claim(ClaimPath),
}

/// How a list, or text that a header cannot carry as it is, is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A list as a JSON array in ASCII; text as it is.
    #[default]
    Json,
    /// A list joined by commas; a member that holds one is refused.
    Comma,
    /// The bytes of what `Json` would write, in base64url without padding.
    Base64Url,
}

/// A header that the policy manages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    /// The name, in lower case.
    pub name: Bytes,
    /// What it tells.
    pub source: Source,
    /// How a list is written.
    pub format: Format,
}

/// The headers that the policy manages, and all others that no caller may send.
#[derive(Debug)]
pub struct Contract {
    /// A hash of all that follows, by which an identity knows for which contract its [`Told`] was made.
    digest: u64,
    managed: Box<[Managed]>,
    metadata: Box<[(Bytes, Source)]>,
    always: Arc<[Bytes]>,
    /// What is told of nobody.
    nobody: Arc<Told>,
    folded: HashSet<Box<[u8]>, foldhash::fast::RandomState>,
    kept: HashSet<Box<[u8]>, foldhash::fast::RandomState>,
}

/// What the upstream is told of one caller: made once for an identity, and shared by all its requests.
#[derive(Debug, Default)]
pub struct Told {
    set: Box<[(Bytes, Bytes)]>,
    unset: Arc<[Bytes]>,
    metadata: Box<[(Bytes, Datum)]>,
    encoded: OnceLock<Bytes>,
}

impl Told {
    /// Headers to set, replacing what is there.
    #[must_use]
    pub fn set(&self) -> &[(Bytes, Bytes)] {
        &self.set
    }

    /// Headers to remove: every managed one that is not set.
    #[must_use]
    pub fn unset(&self) -> &[Bytes] {
        &self.unset
    }

    /// What the gateway is told beside the headers.
    #[must_use]
    pub fn metadata(&self) -> &[(Bytes, Datum)] {
        &self.metadata
    }

    /// All of this as one gateway's answer, made by the first request that needs it.
    pub fn encoded(&self, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.encoded.get_or_init(|| encode(self)).clone()
    }
}

/// An identity's [`Told`], and for which contract it was made.
#[derive(Clone, Debug, Default)]
pub(super) struct ToldOnce(OnceLock<(u64, Result<Arc<Told>, Reason>)>);

impl Contract {
    /// Compiles the policy's `headers:`, `metadata:` and `headers_kept:`.
    #[must_use]
    pub fn new(managed: Vec<Managed>, metadata: Vec<(Bytes, Source)>, kept: &[String]) -> Self {
        let kept: HashSet<Box<[u8]>, _> =
            kept.iter().map(|name| name.to_ascii_lowercase().into_bytes().into()).collect();
        let always: Arc<[Bytes]> = ALWAYS
            .iter()
            .filter(|name| !kept.contains(name.as_bytes()) && !managed.iter().any(|m| m.name == name.as_bytes()))
            .map(|name| Bytes::from_static(name.as_bytes()))
            .collect();
        let names = managed.iter().map(|m| &*m.name).chain(always.iter().map(|name| &**name));
        let folded = names.chain(kept.iter().map(|name| &**name)).map(fold).collect();
        let text = format!("{managed:?}{metadata:?}{always:?}");
        let digest =
            digest(&SHA256, text.as_bytes()).as_ref().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let unset = managed.iter().map(|m| m.name.clone()).chain(always.iter().cloned()).collect();
        let nobody = Arc::new(Told { unset, ..Told::default() });
        Self { digest, managed: managed.into(), metadata: metadata.into(), always, nobody, folded, kept }
    }

    /// The managed headers.
    #[must_use]
    pub fn managed(&self) -> &[Managed] {
        &self.managed
    }

    /// What the gateway is told beside the headers.
    #[must_use]
    pub fn metadata(&self) -> &[(Bytes, Source)] {
        &self.metadata
    }

    /// The headers that are kept as the caller sent them, by their names in lower case.
    pub fn kept(&self) -> impl Iterator<Item = &[u8]> {
        self.kept.iter().map(|name| &**name)
    }

    /// What the upstream of an allowed request is told.
    ///
    /// # Errors
    /// [`Reason::HeaderValueRefused`] where a value cannot be carried as it is.
    pub(super) fn grant(&self, request: &Request<'_>, caller: &Caller) -> Result<Grant, Reason> {
        let told = match caller.acting() {
            Some(identity) => self.told(identity)?,
            None => Arc::clone(&self.nobody),
        };
        let aliases = if request.seen.odd_names { self.aliases(request, &told) } else { Vec::new() };
        if pushes_over_a_limit(request, &told.set) {
            return Err(Reason::HeadersTooLarge);
        }
        Ok(Grant { told, aliases })
    }

    /// What is told of this identity; made anew where it was made for a contract of before a reload.
    fn told(&self, identity: &Identity) -> Result<Arc<Told>, Reason> {
        match identity.told().0.get_or_init(|| (self.digest, self.tell(identity).map(Arc::new))) {
            (digest, told) if *digest == self.digest => told.clone(),
            _ => self.tell(identity).map(Arc::new),
        }
    }

    fn tell(&self, identity: &Identity) -> Result<Told, Reason> {
        let mut set = Vec::with_capacity(self.managed.len());
        let mut unset = self.always.to_vec();
        for managed in &self.managed {
            match managed.source.read(identity)? {
                Some(datum) => set.push((managed.name.clone(), managed.format.write(&datum)?)),
                None => unset.push(managed.name.clone()),
            }
        }
        let mut metadata = Vec::new();
        for (name, source) in &self.metadata {
            metadata.extend(source.read(identity)?.map(|datum| (name.clone(), datum)));
        }
        // Most callers are told all: what is always removed is then the same for all of them.
        let unset = if unset.len() == self.always.len() { Arc::clone(&self.always) } else { unset.into() };
        Ok(Told { set: set.into(), unset, metadata: metadata.into(), encoded: OnceLock::new() })
    }

    /// Every character that a header name may hold beside letters and digits becomes `_` in CGI and its kin, so all of
    /// them make aliases: a received name that folds onto a managed one goes, by the very spelling it came with.
    fn aliases(&self, request: &Request<'_>, told: &Told) -> Vec<Bytes> {
        let mut aliases: Vec<Bytes> = Vec::new();
        for header in request.headers {
            let folded = fold(header.name);
            // What is kept is kept by its own name only: an alias of it would pass for it.
            let managed = (self.folded.contains(&folded)
                || FAMILIES.iter().any(|family| folded.starts_with(family.as_bytes())))
                && !self.kept.contains(&*header.name.to_ascii_lowercase());
            let mut known = told.set.iter().map(|(name, _)| name).chain(&*told.unset);
            // Removing a name in capitals would take away what is set: gateways remove whatever the case.
            if managed && !known.any(|name| name.eq_ignore_ascii_case(header.name)) {
                aliases.push(Bytes::copy_from_slice(header.name));
            }
        }
        // Sorted, so that a caller who sends thousands of them costs no search among all for each.
        aliases.sort_unstable();
        aliases.dedup();
        aliases
    }
}

/// Whether the request is too large with what is set, and was not as the caller sent it. One that already is well over a
/// limit came through a gateway whose operator raised it.
fn pushes_over_a_limit(request: &Request<'_>, set: &[(Bytes, Bytes)]) -> bool {
    let bytes = |name: &[u8], value: &[u8]| name.len().saturating_add(value.len());
    let received = request.headers.iter().fold(0_usize, |sum, line| sum.saturating_add(bytes(line.name, line.value)));
    let added = set.iter().fold(received, |sum, (name, value)| sum.saturating_add(bytes(name, value)));
    let lines = request.headers.len();
    let over_bytes = received <= MAX_BYTES.saturating_add(OWN_BYTES) && added > MAX_BYTES;
    // Which of them replace a line that was received is looked up only where it may matter.
    let near = lines <= MAX_LINES.saturating_add(OWN_LINES) && lines.saturating_add(set.len()) > MAX_LINES;
    let over_lines = near && {
        let new = set.iter().filter(|(name, _)| !request.headers.iter().any(|line| line.name == name)).count();
        lines.saturating_add(new) > MAX_LINES
    };
    over_bytes || over_lines
}

/// Folds a header name: lower case, everything but letters and digits becomes `-`.
#[must_use]
pub fn fold(name: &[u8]) -> Box<[u8]> {
    name.iter().map(|byte| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }).collect()
}

/// Whether a received name may be an alias or one of a family, and so is worth folding.
#[must_use]
pub(super) fn worth_folding(name: &[u8]) -> bool {
    // Nearly every name is settled by its first letters.
    matches!(name, [b'x', b'-', b'r' | b'a' | b'w' | b'c' | b'g' | b'm', ..] | [b'r', b'e', b'm', ..])
        && FAMILIES.iter().any(|family| name.starts_with(family.as_bytes()))
}

impl Source {
    /// Reads it; `None` where there is nothing to tell.
    fn read(&self, identity: &Identity) -> Result<Option<Datum>, Reason> {
        let text = |text: &str| Some(Datum::Text(Bytes::copy_from_slice(text.as_bytes())));
        let listed = |listed: &Listed| match listed {
            Listed::Known(members) => list(members.iter().map(|member| &**member)),
            Listed::Unknown => list(std::iter::empty()),
        };
        let principal = identity.principal();
        Ok(match self {
            Self::Subject => text(&principal.subject),
            Self::Principal => text(&principal.to_string()),
            Self::Issuer => text(&principal.issuer),
            Self::Roles => list(identity.roles().map(|role| &**role)),
            Self::Groups => listed(identity.groups()),
            Self::Scopes => listed(identity.scopes()),
            Self::Claim(path) => match identity.claim(path) {
                Reading::Missing => None,
                Reading::One(value) => text(&value),
                Reading::Many(values) => list(values.iter().map(|value| &**value)),
                Reading::Unreadable => return Err(Reason::HeaderValueRefused),
            },
        })
    }
}

fn list<'a>(members: impl Iterator<Item = &'a str>) -> Option<Datum> {
    Some(Datum::List(members.map(|member| Bytes::copy_from_slice(member.as_bytes())).collect()))
}

impl Format {
    fn write(self, datum: &Datum) -> Result<Bytes, Reason> {
        let value = match (self, datum) {
            (Self::Json | Self::Comma, Datum::Text(text)) => text.clone(),
            (Self::Json, Datum::List(members)) => json_array(members)?,
            (Self::Comma, Datum::List(members)) => {
                if members.iter().any(|member| member.contains(&b',')) {
                    return Err(Reason::HeaderValueRefused);
                }
                members.join(&b','.to_owned()).into()
            }
            (Self::Base64Url, Datum::Text(text)) => URL_SAFE_NO_PAD.encode(text).into(),
            (Self::Base64Url, Datum::List(members)) => URL_SAFE_NO_PAD.encode(json_array(members)?).into(),
        };
        let fits = value.len() <= MAX_VALUE
            && value.iter().all(|byte| matches!(byte, 0x20..=0x7e))
            && value.first() != Some(&b' ')
            && value.last() != Some(&b' ');
        if fits { Ok(value) } else { Err(Reason::HeaderValueRefused) }
    }
}

/// A JSON array in ASCII. Members that hold controls are refused, not escaped: what reads the header may unescape them.
fn json_array(members: &[Bytes]) -> Result<Bytes, Reason> {
    let mut written = String::from("[");
    for (at, member) in members.iter().enumerate() {
        let member = std::str::from_utf8(member).map_err(|_| Reason::HeaderValueRefused)?;
        written.push_str(if at == 0 { "\"" } else { ",\"" });
        for c in member.chars() {
            match c {
                '"' | '\\' => written.extend(['\\', c]),
                ' '..='~' => written.push(c),
                c if c.is_control() => return Err(Reason::HeaderValueRefused),
                c => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        written.push_str(&format!("\\u{unit:04x}"));
                    }
                }
            }
        }
        written.push('"');
    }
    written.push(']');
    Ok(written.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::identity::{Parts, Principal};
    use crate::authz::json::Object;
    use crate::authz::request::{Asker, Header, Raw, Relaxed};
    use crate::authz::time::Timestamp;

    fn contract() -> Contract {
        let managed =
            |name: &'static str, source, format| Managed { name: Bytes::from_static(name.as_bytes()), source, format };
        let claim = |path| Source::Claim(ClaimPath::parse(path).unwrap());
        Contract::new(
            vec![
                managed("x-user-id", Source::Subject, Format::Json),
                managed("x-user-roles", Source::Roles, Format::Json),
                managed("x-name", claim("name"), Format::Json),
                managed("x-groups", Source::Groups, Format::Comma),
                managed("x-name-64", claim("name64"), Format::Base64Url),
            ],
            vec![],
            &["X-Forwarded-Email".to_owned()],
        )
    }

    fn caller(claims: &str) -> Caller {
        let known = |items: &[&str]| Listed::Known(items.iter().map(|item| Arc::from(*item)).collect());
        let claims = Object::parse(claims.as_bytes()).unwrap();
        let groups = ClaimPath::parse("groups").unwrap().read_list(&claims).unwrap_or(Listed::Unknown);
        let identity = Identity::new(Parts {
            principal: Principal { issuer: "main".into(), subject: "u1".into() },
            claims,
            listed: known(&["admin", "premium"]),
            groups,
            scopes: known(&[]),
            token_id: None,
            issued: None,
            not_before: None,
            expires: Timestamp::from_secs(1),
        });
        Caller { user: Some(Arc::new(identity)), ..Caller::default() }
    }

    fn grant(caller: &Caller, headers: &[&str]) -> Result<Grant, Reason> {
        let headers = headers.iter().map(|name| Header { name: name.as_bytes(), value: b"forged" }).collect();
        let raw = Raw { asker: Asker::Unix, source: None, method: b"GET", target: b"/", host: b"h", headers };
        contract().grant(&Request::read(&raw, Relaxed::default()).unwrap(), caller)
    }

    fn value(grant: &Grant, name: &str) -> Option<String> {
        let found = grant.set().iter().find(|(set, _)| set == name.as_bytes())?;
        Some(String::from_utf8(found.1.to_vec()).unwrap())
    }

    #[test] // F09
    fn on_every_allow_each_managed_header_is_set_or_removed() {
        for caller in [Caller::default(), caller("{}"), caller(r#"{"name":"Ann","groups":["a"],"name64":"x"}"#)] {
            let grant = grant(&caller, &[]).unwrap();
            for name in contract().managed().iter().map(|managed| managed.name.clone()) {
                let set = grant.set().iter().filter(|(set, _)| *set == name).count();
                let removed = grant.remove().filter(|removed| **removed == name).count();
                assert_eq!(set + removed, 1, "{name:?}");
            }
            for name in ALWAYS.iter().filter(|name| **name != "x-forwarded-email") {
                assert!(grant.remove().any(|removed| removed == name.as_bytes()), "{name}");
            }
        }
    }

    #[test] // N10
    fn a_forged_header_is_removed_in_every_alias() {
        let aliases: Vec<String> =
            "!#$%&'*+.^_`|~".chars().map(|c| format!("x{c}user{c}id")).chain(["x-user_id".into()]).collect();
        let names: Vec<&str> = aliases.iter().map(String::as_str).collect();
        let grant = grant(&caller("{}"), &names).unwrap();
        for name in names {
            assert!(grant.remove().any(|removed| removed == name.as_bytes()), "{name}");
        }
        assert_eq!(value(&grant, "x-user-id").as_deref(), Some("u1"));
    }

    #[test] // N11
    fn headers_that_ours_push_over_a_limit_are_refused_and_not_left_to_fail() {
        let names: Vec<String> = (0..110).map(|n| format!("x-h{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let set = grant(&caller("{}"), &[]).unwrap().set().len();
        assert!(grant(&caller("{}"), &names[..MAX_LINES - set]).is_ok());
        assert_eq!(grant(&caller("{}"), &names[..=MAX_LINES - set]).unwrap_err(), Reason::HeadersTooLarge);
        assert_eq!(grant(&caller("{}"), &names[..MAX_LINES + OWN_LINES]).unwrap_err(), Reason::HeadersTooLarge);
        assert!(grant(&caller("{}"), &names[..=MAX_LINES + OWN_LINES]).is_ok(), "the operator raised the limit");
        let mut replaced = names[..MAX_LINES - set].to_vec();
        replaced.push("x-user-id");
        assert!(grant(&caller("{}"), &replaced).is_ok(), "a line that is replaced does not count twice");
        let long = "x".repeat(MAX_BYTES - "forged".len());
        assert_eq!(grant(&caller("{}"), &[long.as_str()]).unwrap_err(), Reason::HeadersTooLarge);
        assert!(grant(&caller("{}"), &[long.as_str(), long.as_str()]).is_ok(), "the operator raised the limit");
    }

    #[test] // N10, N11
    fn each_of_thousands_of_aliases_is_removed_once() {
        let names: Vec<String> = (0..8_000).map(|n| format!("remote-{:04}", n % 4_000)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let grant = grant(&caller("{}"), &names).unwrap();
        assert_eq!(grant.aliases().len(), 4_000);
        for name in names {
            assert!(grant.aliases().binary_search_by(|alias| (**alias).cmp(name.as_bytes())).is_ok(), "{name}");
        }
    }

    #[test]
    fn families_go_and_what_is_kept_stays() {
        let grant = grant(
            &caller("{}"),
            &["x-auth-request-anything", "x_webauth_anything", "x-forwarded-email", "x_forwarded_email"],
        )
        .unwrap();
        let removed = |name: &str| grant.remove().any(|removed| removed == name.as_bytes());
        assert!(removed("x-auth-request-anything") && removed("x_webauth_anything"));
        assert!(!removed("x-forwarded-email"));
        assert!(removed("x_forwarded_email"), "an alias of what is kept would pass for it"); // N10
    }

    #[test]
    fn every_family_is_worth_folding() {
        for family in FAMILIES {
            assert!(worth_folding(family.as_bytes()), "{family}");
        }
    }

    #[test]
    fn a_name_is_never_both_set_and_removed() {
        let managed = Managed { name: Bytes::from_static(b"x_user"), source: Source::Subject, format: Format::Json };
        let contract = Contract::new(vec![managed], vec![], &[]);
        let headers = vec![Header { name: b"x_user", value: b"forged" }, Header { name: b"x-user", value: b"forged" }];
        let raw = Raw { asker: Asker::Unix, source: None, method: b"GET", target: b"/", host: b"h", headers };
        let grant = contract.grant(&Request::read(&raw, Relaxed::default()).unwrap(), &caller("{}")).unwrap();
        assert!(!grant.remove().any(|name| name == "x_user") && grant.remove().any(|name| name == "x-user"));
    }

    #[test]
    fn lists_are_json_by_default() {
        let grant = grant(
            &caller(r#"{"groups":["a","b"],"name":["x","\"q\\","\u00e9\ud83d\ude00"],"name64":"J\u00f6rg\n"}"#),
            &[],
        )
        .unwrap();
        assert_eq!(value(&grant, "x-user-roles").as_deref(), Some(r#"["admin","premium"]"#));
        assert_eq!(value(&grant, "x-groups").as_deref(), Some("a,b"));
        assert_eq!(value(&grant, "x-name").as_deref(), Some(r#"["x","\"q\\","\u00e9\ud83d\ude00"]"#));
        assert_eq!(value(&grant, "x-name-64").as_deref(), Some("SsO2cmcK"));
    }

    #[test] // N09
    fn a_value_that_a_header_cannot_carry_is_a_denial() {
        for name in [
            r#""a\r\nX-Admin: 1""#,
            r#""a\u0000""#,
            r#""a\u007f""#,
            r#""caf\u00e9""#,
            r#"" a""#,
            r#""a ""#,
            r#"{"a":1}"#,
            r#"["a\n"]"#,
            r#"[{"a":1}]"#,
        ] {
            assert_eq!(
                grant(&caller(&format!("{{\"name\":{name}}}")), &[]).unwrap_err(),
                Reason::HeaderValueRefused,
                "{name}"
            );
        }
        let long = format!("{{\"name\":\"{}\"}}", "a".repeat(MAX_VALUE + 1));
        assert_eq!(grant(&caller(&long), &[]).unwrap_err(), Reason::HeaderValueRefused);
        assert_eq!(grant(&caller(r#"{"groups":["a,b"]}"#), &[]).unwrap_err(), Reason::HeaderValueRefused);
    }
}
