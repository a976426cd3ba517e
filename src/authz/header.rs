//! The header contract: on every allow each managed header is set or removed, in every alias that the request came with.

mod query;
mod told;
mod value;

use std::collections::HashSet;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;

use super::decision::{Grant, Own};
use super::gateways::{Gateway, Limits};
use super::identity::{Caller, Identity};
use super::json::Json;
use super::reason::Reason;
use super::request::Request;
use super::route::Captures;
use query::Parameters;

pub use query::fold as fold_parameter;
pub use told::Told;
pub(super) use told::ToldOnce;
pub use value::{Format, Source, Tell};
pub(super) use value::{MAX_VALUE, write as write_json};

/// How far a check may be over a limit that the caller kept: by pseudo-headers, and by what the gateway adds before it
/// asks (`x-forwarded-for`, `x-forwarded-proto`, `x-request-id` and kin).
const OWN_LINES: usize = 8;
const OWN_BYTES: usize = 512;

/// Headers by which other proxies tell an upstream the path, the method or the caller. An upstream that believes one
/// must not get it from a caller, so they are removed on every allow, whether or not the policy names them and whether
/// or not they are seen: a gateway may hide them from us.
pub const ALWAYS: &[&str] = &[
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
pub const FAMILIES: &[&str] = &[
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

/// The names of headers that no caller may send: those that the policy sets on any of its routes, and the always-list.
#[derive(Debug)]
pub struct Names {
    /// Those that the policy sets somewhere, in lower case.
    managed: Box<[Bytes]>,
    always: Box<[Bytes]>,
    /// Headers that some gateway is believed to set itself.
    lent: Box<[Bytes]>,
    folded: HashSet<Box<[u8]>, foldhash::fast::RandomState>,
    kept: HashSet<Box<[u8]>, foldhash::fast::RandomState>,
    /// The one that carries what is minted: set or removed for each request.
    minted: Option<Bytes>,
}

impl Names {
    /// All names that the policy sets, in lower case, those of `headers_kept:`, and those, in lower case, that some
    /// gateway is believed to set itself: they are removed whoever sends them, but where that gateway asks. `minted` is
    /// the one that carries what is minted.
    #[must_use]
    pub fn new(
        managed: impl IntoIterator<Item = Bytes>,
        kept: &[String],
        lent: Vec<Bytes>,
        minted: Option<Bytes>,
    ) -> Self {
        let mut managed: Vec<Bytes> = managed.into_iter().collect();
        managed.sort_unstable();
        managed.dedup();
        let kept: HashSet<Box<[u8]>, _> =
            kept.iter().map(|name| name.to_ascii_lowercase().into_bytes().into()).collect();
        let mut always: Vec<Bytes> = ALWAYS.iter().map(|name| Bytes::from_static(name.as_bytes())).collect();
        // A managed `x_user_id` has the alias `x-user-id`, which does not look like one.
        always.extend(managed.iter().chain(&minted).map(|name| Bytes::from(fold(name))));
        always.retain(|name| !kept.contains(&**name) && !managed.contains(name) && !lent.contains(name));
        always.retain(|name| minted.as_ref() != Some(name));
        always.sort_unstable();
        always.dedup();
        let always: Box<[Bytes]> = always.into();
        let names = managed.iter().chain(&always).chain(&lent).chain(&minted).map(|name| &**name);
        let folded = names.chain(kept.iter().map(|name| &**name)).map(fold).collect();
        Self { managed: managed.into(), always, lent: lent.into(), folded, kept, minted }
    }

    /// Those that the policy sets somewhere, in lower case and sorted.
    #[must_use]
    pub fn managed(&self) -> &[Bytes] {
        &self.managed
    }

    /// All that a gateway is told on every allow, set or not, in lower case: its file lists them where it lists headers.
    pub fn emitted(&self) -> impl Iterator<Item = &Bytes> {
        self.managed.iter().chain(&self.always).chain(&self.lent).chain(&self.minted)
    }

    /// Whether a name, in lower case, is one of them.
    pub(super) fn is_emitted(&self, name: &Bytes) -> bool {
        let sorted = self.managed.binary_search(name).is_ok() || self.always.binary_search(name).is_ok();
        sorted || self.lent.contains(name) || self.minted.as_ref() == Some(name)
    }

    /// Those that callers may send though they are of the always-list, in lower case and in no order.
    pub fn kept(&self) -> impl Iterator<Item = &[u8]> {
        self.kept.iter().map(|name| &**name)
    }
}

/// What upstream, caller and gateway are told, as the policy says it for some of its routes.
#[derive(Clone, Debug, Default)]
pub struct Tells {
    /// Headers to the upstream.
    pub headers: Vec<Tell>,
    /// Headers of the response to the caller.
    pub responses: Vec<Tell>,
    /// Parameters of the query to the upstream.
    pub query: Vec<Tell>,
    /// Parameters that do not reach the upstream.
    pub query_removed: Vec<Bytes>,
    /// What the gateway is told beside.
    pub metadata: Vec<Tell>,
}

impl Tells {
    /// Takes out what depends on the request.
    fn per_request(&mut self) -> Self {
        let take = |tells: &mut Vec<Tell>| tells.extract_if(.., |tell| tell.is_per_request()).collect();
        Self {
            headers: take(&mut self.headers),
            responses: take(&mut self.responses),
            query: take(&mut self.query),
            ..Self::default()
        }
    }

    fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.responses.is_empty() && self.query.is_empty()
    }
}

/// What is told on some routes, and all headers that no caller may send.
#[derive(Debug)]
pub struct Contract {
    /// A hash of all that follows, by which an identity knows for which contract its [`Told`] was made.
    digest: u64,
    /// What depends on who calls, and on nothing else.
    tells: Tells,
    /// What depends on the request.
    per_request: Tells,
    parameters: Parameters,
    /// What is removed whoever calls: the always-list, and what other routes set.
    unset: Arc<[Bytes]>,
    /// What is told of nobody.
    nobody: Result<Arc<Told>, Reason>,
    names: Arc<Names>,
}

impl Contract {
    /// Compiles what is told; `names` are those of the whole policy.
    #[must_use]
    pub fn new(mut tells: Tells, names: &Arc<Names>) -> Self {
        let text = format!("{tells:?}{:?}{:?}{:?}{:?}", names.managed, names.always, names.lent, names.minted);
        let digest =
            digest(&SHA256, text.as_bytes()).as_ref().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let is_set = |name: &&Bytes| !tells.headers.iter().any(|tell| tell.name == **name);
        let unset = names.always.iter().chain(names.managed.iter().filter(is_set)).cloned().collect();
        let parameters = tells.query.iter().map(|tell| &tell.name).chain(&tells.query_removed).cloned();
        let parameters = Parameters::new(parameters);
        let per_request = tells.per_request();
        let nobody = Ok(Arc::default());
        let mut contract = Self { digest, tells, per_request, parameters, unset, nobody, names: Arc::clone(names) };
        contract.nobody = contract.tell(None).map(Arc::new);
        contract
    }

    /// What is told: of who calls, and of the request.
    pub fn tells(&self) -> impl Iterator<Item = &Tells> {
        [&self.tells, &self.per_request].into_iter()
    }

    /// The names of headers that no caller may send.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// By what it is told from others.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// What the upstream of an allowed request is told.
    ///
    /// # Errors
    /// [`Reason::HeaderValueRefused`] where a value cannot be carried as it is; [`Reason::QueryAmbiguous`].
    pub(super) fn grant(
        &self,
        request: &Request<'_>,
        gateway: Option<&Gateway>,
        caller: &Caller,
        (route, captures): (&str, &Captures<'_>),
        minted: Option<Bytes>,
    ) -> Result<Grant, Reason> {
        let told = match caller.acting() {
            Some(identity) => self.told(identity)?,
            None => self.nobody.clone()?,
        };
        let mut own = self.own(request, &told, caller, (route, captures))?;
        if !self.names.lent.is_empty() {
            let its = gateway.map_or(&[][..], |gateway| &*gateway.headers);
            own.aliases.extend(self.names.lent.iter().filter(|name| !its.contains(*name)).cloned());
        }
        if let Some(name) = &self.names.minted {
            match minted {
                Some(value) => own.minted = Some((name.clone(), value)),
                None => own.aliases.push(name.clone()),
            }
        }
        let own = if own.is_empty() { None } else { Some(Box::new(own)) };
        let grant = Grant { told, own };
        let limits = gateway.map(|gateway| gateway.limits).unwrap_or_default();
        if pushes_over_a_limit(request, limits, &grant) {
            return Err(Reason::HeadersTooLarge);
        }
        Ok(grant)
    }

    /// What is told of this request alone.
    fn own(
        &self,
        request: &Request<'_>,
        told: &Told,
        caller: &Caller,
        (route, captures): (&str, &Captures<'_>),
    ) -> Result<Own, Reason> {
        let mut own = Own::default();
        if request.seen.odd_names {
            own.aliases = self.aliases(request, told);
        }
        if !self.per_request.is_empty() {
            let Tells { headers, responses, query, .. } = &self.per_request;
            let header = |tell: &Tell, value: &_| tell.format.header(value);
            let value = |tell: &Tell| tell.of_request(route, captures, caller);
            own.set = collect(headers, value, header)?;
            own.responses = collect(responses, value, header)?;
            own.query = collect(query, value, |tell, value| tell.format.parameter(value))?;
            // What is not told of this request, its caller does not tell either.
            let is_told = |tell: &&Tell| own.set.iter().any(|(name, _)| *name == tell.name);
            own.aliases.extend(headers.iter().filter(|tell| !is_told(tell)).map(|tell| tell.name.clone()));
        }
        if let Some(query) = request.query {
            let is_set = |name: &[u8]| told.query().iter().chain(&own.query).any(|(set, _)| set == name);
            own.query_removed = self.parameters.spellings(query, is_set)?;
        }
        Ok(own)
    }

    /// What is told of this identity; made anew where it was made for other contracts, or for one of before a reload.
    fn told(&self, identity: &Identity) -> Result<Arc<Told>, Reason> {
        identity.told().of(self.digest, || self.tell(Some(identity)).map(Arc::new))
    }

    fn tell(&self, identity: Option<&Identity>) -> Result<Told, Reason> {
        let Tells { headers, responses, query, metadata, .. } = &self.tells;
        let value = |tell: &Tell| tell.of(identity);
        let header = |tell: &Tell, value: &_| tell.format.header(value);
        let set = try_collect(headers, value, header)?;
        let responses = try_collect(responses, value, header)?;
        let query = try_collect(query, value, |tell, value| tell.format.parameter(value))?;
        let mut data = Vec::new();
        for tell in metadata {
            if let Some(value) = tell.of(identity)? {
                data.push((tell.name.clone(), value::datum(value)?));
            }
        }
        // Most callers are told all: what is always removed is then the same for all of them.
        let unset = if set.len() == headers.len() {
            Arc::clone(&self.unset)
        } else {
            let absent = headers.iter().filter(|tell| !set.iter().any(|(name, _)| *name == tell.name));
            self.unset.iter().chain(absent.map(|tell| &tell.name)).cloned().collect()
        };
        Ok(Told::new(set, unset, responses, query, data))
    }

    /// Every character that a header name may hold beside letters and digits becomes `_` in CGI and its kin, so all of
    /// them make aliases: a received name that folds onto a managed one goes, by the very spelling it came with.
    fn aliases(&self, request: &Request<'_>, told: &Told) -> Vec<Bytes> {
        let mut aliases: Vec<Bytes> = Vec::new();
        for header in request.headers {
            let folded = fold(header.name);
            // What is kept is kept by its own name only: an alias of it would pass for it.
            let managed = (self.names.folded.contains(&folded)
                || FAMILIES.iter().any(|family| folded.starts_with(family.as_bytes())))
                && !self.names.kept.contains(&*header.name.to_ascii_lowercase())
                && !self.names.lent.iter().any(|name| *name == header.name);
            let set = told.set().iter().map(|(name, _)| name);
            let known = set.chain(told.unset()).chain(self.per_request.headers.iter().map(|tell| &tell.name));
            let mut known = known.chain(&self.names.minted);
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

type Written = Vec<(Bytes, Bytes)>;

fn try_collect(
    tells: &[Tell],
    value: impl Fn(&Tell) -> Result<Option<Json>, Reason>,
    write: impl Fn(&Tell, &Json) -> Result<Bytes, Reason>,
) -> Result<Written, Reason> {
    let mut written = Vec::with_capacity(tells.len());
    for tell in tells {
        if let Some(value) = value(tell)? {
            written.push((tell.name.clone(), write(tell, &value)?));
        }
    }
    Ok(written)
}

fn collect(
    tells: &[Tell],
    value: impl Fn(&Tell) -> Option<Json>,
    write: impl Fn(&Tell, &Json) -> Result<Bytes, Reason>,
) -> Result<Written, Reason> {
    try_collect(tells, |tell| Ok(value(tell)), write)
}

/// Whether the request is too large with what is set, and was not as the caller sent it. One that already is well over a
/// limit came through a gateway whose operator raised it.
fn pushes_over_a_limit(request: &Request<'_>, most: Limits, grant: &Grant) -> bool {
    let bytes = |name: &[u8], value: &[u8]| name.len().saturating_add(value.len());
    let received = request.headers.iter().fold(0_usize, |sum, line| sum.saturating_add(bytes(line.name, line.value)));
    let set = || grant.set();
    let added = set().chain(grant.query()).fold(received, |sum, (name, value)| sum.saturating_add(bytes(name, value)));
    let lines = request.headers.len();
    let over_bytes = received <= most.bytes.saturating_add(OWN_BYTES) && added > most.bytes;
    // Which of them replace a line that was received is looked up only where it may matter.
    let near = lines <= most.lines.saturating_add(OWN_LINES) && lines.saturating_add(set().count()) > most.lines;
    let over_lines = near && {
        let new = set().filter(|(name, _)| !request.headers.iter().any(|line| line.name == name)).count();
        lines.saturating_add(new) > most.lines
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::gateways::Dialect;
    use crate::authz::identity::{ClaimPath, Listed, Parts, Principal};
    use crate::authz::json::Object;
    use crate::authz::request::{Asker, Header, Raw, Relaxed};
    use crate::authz::time::Timestamp;

    const MAX_LINES: usize = 100;
    const MAX_BYTES: usize = 60 * 1024;

    fn tell(name: &'static str, source: Source, format: Format) -> Tell {
        Tell { name: Bytes::from_static(name.as_bytes()), source, default: None, format }
    }

    fn headers() -> Vec<Tell> {
        let claim = |path| Source::Claim(ClaimPath::parse(path).unwrap());
        vec![
            tell("x-user-id", Source::Subject, Format::Json),
            tell("x-user-roles", Source::Roles, Format::Json),
            tell("x-name", claim("name"), Format::Json),
            tell("x-groups", Source::Groups, Format::Comma),
            tell("x-name-64", claim("name64"), Format::Base64Url),
        ]
    }

    /// A contract of these headers, in a policy that has no others.
    fn of(headers: Vec<Tell>, kept: &[String]) -> Contract {
        let names = Arc::new(Names::new(headers.iter().map(|tell| tell.name.clone()), kept, Vec::new(), None));
        Contract::new(Tells { headers, ..Tells::default() }, &names)
    }

    fn contract() -> Contract {
        of(headers(), &["X-Forwarded-Email".to_owned()])
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
            key_id: None,
            issued: None,
            not_before: None,
            expires: Timestamp::from_secs(1),
            binding: None,
            contracts: 2,
        });
        Caller { user: Some(Arc::new(identity)), ..Caller::default() }
    }

    fn grant(caller: &Caller, headers: &[&str]) -> Result<Grant, Reason> {
        let headers = headers.iter().map(|name| Header { name: name.as_bytes(), value: b"forged" }).collect();
        let raw = Raw { headers, ..asked(b"/") };
        granted(&contract(), &raw, caller)
    }

    fn granted(contract: &Contract, raw: &Raw<'_>, caller: &Caller) -> Result<Grant, Reason> {
        contract.grant(
            &Request::read(raw, Relaxed::default()).unwrap(),
            None,
            caller,
            ("/", &Captures::default()),
            None,
        )
    }

    fn value(grant: &Grant, name: &str) -> Option<String> {
        let found = grant.set().find(|(set, _)| set == name.as_bytes())?;
        Some(String::from_utf8(found.1.to_vec()).unwrap())
    }

    #[test] // F09
    fn on_every_allow_each_managed_header_is_set_or_removed() {
        for caller in [Caller::default(), caller("{}"), caller(r#"{"name":"Ann","groups":["a"],"name64":"x"}"#)] {
            let grant = grant(&caller, &[]).unwrap();
            for name in headers().into_iter().map(|tell| tell.name) {
                let set = grant.set().filter(|(set, _)| *set == name).count();
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

    #[test] // N10
    fn a_managed_name_with_an_underscore_has_aliases_too() {
        for managed in ["x_user_id", "x.user.id", "x-user-id", "x_original_url"] {
            let contract = of(vec![tell(managed, Source::Subject, Format::Json)], &[]);
            for sent in ["x-user-id", "x_user_id", "x.user.id", "x-original-url"] {
                let headers = vec![Header { name: sent.as_bytes(), value: b"forged" }];
                let raw = Raw::new(Dialect::Envoy, Asker::Unix, [b"GET", b"/", b"h"], headers);
                let request = Request::read(&raw, Relaxed::default()).unwrap();
                let grant =
                    contract.grant(&request, None, &Caller::default(), ("/", &Captures::default()), None).unwrap();
                let is_alias = fold(sent.as_bytes()) == fold(managed.as_bytes()) || sent == "x-original-url";
                let removed = grant.remove().filter(|name| **name == sent).count();
                assert_eq!(removed, usize::from(is_alias), "{sent} where {managed} is managed");
            }
        }
    }

    #[test] // N11
    fn headers_that_ours_push_over_a_limit_are_refused_and_not_left_to_fail() {
        let names: Vec<String> = (0..110).map(|n| format!("x-h{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let set = grant(&caller("{}"), &[]).unwrap().set().count();
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
        let contract = of(vec![tell("x_user", Source::Subject, Format::Json)], &[]);
        let headers = vec![Header { name: b"x_user", value: b"forged" }, Header { name: b"x-user", value: b"forged" }];
        let raw = Raw { headers, ..asked(b"/") };
        let grant = granted(&contract, &raw, &caller("{}")).unwrap();
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
            r#"["a\n"]"#,
        ] {
            assert_eq!(
                grant(&caller(&format!("{{\"name\":{name}}}")), &[]).unwrap_err(),
                Reason::HeaderValueRefused,
                "{name}"
            );
        }
        let long = format!("{{\"name\":\"{}\"}}", "a".repeat(value::MAX_VALUE + 1));
        assert_eq!(grant(&caller(&long), &[]).unwrap_err(), Reason::HeaderValueRefused);
        assert_eq!(grant(&caller(r#"{"groups":["a,b"]}"#), &[]).unwrap_err(), Reason::HeaderValueRefused);
    }

    fn asked<'r>(target: &'r [u8]) -> Raw<'r> {
        Raw::new(Dialect::Envoy, Asker::Unix, [b"GET", target, b"h"], Vec::new())
    }

    #[test] // N10
    fn a_header_of_any_route_is_removed_on_every_route() {
        let own = vec![tell("x-plan", Source::Subject, Format::Json)];
        let all = headers().into_iter().chain(own.clone()).map(|tell| tell.name);
        let names = Arc::new(Names::new(all, &[], Vec::new(), None));
        let with = |headers| Contract::new(Tells { headers, ..Tells::default() }, &names);
        for (contract, set, removed) in [(with(headers()), "x-user-id", "x-plan"), (with(own), "x-plan", "x-user-id")] {
            for caller in [caller("{}"), Caller::default()] {
                let headers = vec![Header { name: b"x_plan", value: b"forged" }];
                let grant = granted(&contract, &Raw { headers, ..asked(b"/") }, &caller).unwrap();
                assert_eq!(grant.set().any(|(name, _)| name == set), caller.user.is_some());
                assert!(grant.remove().any(|name| name == removed), "{removed}");
                assert!(grant.remove().any(|name| name == "x_plan"));
            }
        }
    }

    #[test]
    fn what_is_told_is_remembered_for_a_few_contracts_and_right_for_all() {
        let caller = caller(r#"{"name":"Ann"}"#);
        let literal = |value: &str| Tell {
            name: Bytes::from_static(b"x-plan"),
            source: Source::Literal(Json::Text(value.into())),
            default: None,
            format: Format::Json,
        };
        let contracts: Vec<Contract> = ["a", "b", "c"].map(|value| of(vec![literal(value)], &[])).into();
        for _ in 0..2 {
            for (contract, value) in contracts.iter().zip(["a", "b", "c"]) {
                let grant = granted(contract, &asked(b"/"), &caller).unwrap();
                assert_eq!(grant.set().next().unwrap().1, value);
            }
        }
        let told = |at: usize| granted(&contracts[at], &asked(b"/"), &caller).unwrap().told;
        assert!(Arc::ptr_eq(&told(0), &told(0)) && Arc::ptr_eq(&told(1), &told(1)), "there are two places");
        assert!(!Arc::ptr_eq(&told(2), &told(2)));
    }

    #[test]
    fn a_default_stands_for_what_is_absent_of_an_identity_and_for_nothing_of_nobody() {
        let claim = Source::Claim(ClaimPath::parse("tier").unwrap());
        let tell = Tell { default: Some(Json::Text("free".into())), ..tell("x-tier", claim, Format::Json) };
        let contract = of(vec![tell], &[]);
        let value = |caller: &Caller| {
            let grant = granted(&contract, &asked(b"/"), caller).unwrap();
            grant.set().next().map(|(_, value)| String::from_utf8(value.to_vec()).unwrap())
        };
        assert_eq!(value(&caller(r#"{"tier":"gold"}"#)).as_deref(), Some("gold"));
        assert_eq!(value(&caller(r#"{"tier":null}"#)).as_deref(), Some("free"));
        assert_eq!(value(&caller(r#"{"tier":""}"#)).as_deref(), Some(""));
        assert_eq!(value(&Caller::default()), None);
    }

    #[test]
    fn a_query_is_left_alone_where_it_holds_nothing_that_is_managed() {
        let set = tell("tenant", Source::Subject, Format::Json);
        let names = Arc::new(Names::new([], &[], Vec::new(), None));
        let tells = Tells { query: vec![set], query_removed: vec![Bytes::from_static(b"debug")], ..Tells::default() };
        let contract = Contract::new(tells, &names);
        let grant = |target: &'static [u8], caller: &Caller| granted(&contract, &asked(target), caller).unwrap();
        let removed = |grant: &Grant| grant.query_removed().cloned().collect::<Vec<_>>();
        for target in [&b"/"[..], b"/?", b"/?a=1&tenant=2"] {
            let grant = grant(target, &caller("{}"));
            assert!(grant.own().is_none(), "the answer is shared");
            assert_eq!(grant.query().next().unwrap(), &(Bytes::from("tenant"), Bytes::from("u1")));
        }
        assert_eq!(removed(&grant(b"/?debug=1&%74enant=2", &caller("{}"))), ["%74enant", "debug"]);
        // Of nobody nothing is set, so that the very name goes as well.
        assert_eq!(removed(&grant(b"/?tenant=1&a=2", &Caller::default())), ["tenant"]);
        assert_eq!(grant(b"/?a=2", &Caller::default()).query().count(), 0);
    }
}
