//! Claim rules (RFC 7519 §4, RFC 9068 §4): what the claims of a token whose signature holds must say.

use std::sync::Arc;
use std::time::Duration;

use super::algorithm::Algorithms;
use super::identity::ClaimPath;
use super::json::{Json, Object};
use super::reason::Reason;
use super::time::Timestamp;

/// How many members an audience list may have.
const MAX_AUDIENCES: usize = 64;

/// The longest subject, in bytes.
const MAX_SUBJECT: usize = 1_024;

/// The longest token id, in bytes.
const MAX_TOKEN_ID: usize = 256;

/// Times are 0 to 2^53 seconds: what a JSON number holds exactly (RFC 8259 §6).
const MAX_SECONDS: u64 = 1 << 53;

/// What an issuer's tokens must be like.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRules {
    /// The exact `iss` claim.
    pub issuer: Arc<str>,
    /// Other spellings of it.
    pub also: Box<[Arc<str>]>,
    /// Whose tokens they are, where the `iss` is a template.
    pub tenants: Option<Tenants>,
    /// The load balancers one of which must have signed, by ARN, where its tokens are those of AWS load balancers: the
    /// header then says `iss`, `exp` and whom they are for, and Base64 is padded.
    pub balancers: Box<[Arc<str>]>,
    /// Whom its tokens must be meant for.
    pub audience: Audience,
    /// The algorithms that it signs with.
    pub algorithms: Algorithms,
    /// The kinds of token that it is believed for.
    pub types: TokenTypes,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// How long after `iat` a token may expire. Where set, `iat` is required.
    pub max_lifetime: Option<Duration>,
    /// The kids of keys that are not believed any more.
    pub denied_kids: Box<[Box<str>]>,
    /// Tokens that were issued before are refused. Where set, `iat` is required.
    pub issued_from: Option<Timestamp>,
}

/// The tenants of a provider that has one `iss` for each, and one set of keys for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenants {
    /// The claim that says whose token it is.
    pub claim: Box<str>,
    /// What stands before the tenant in the `iss`, and what after.
    pub around: (Box<str>, Box<str>),
    /// Those whose tokens are accepted.
    pub any_of: Box<[Arc<str>]>,
}

impl Tenants {
    /// The tenant that an `iss` names, where it is one of these.
    #[must_use]
    pub fn of(&self, iss: &str) -> Option<&Arc<str>> {
        let (before, after) = &self.around;
        let named = iss.strip_prefix(&**before)?.strip_suffix(&**after)?;
        self.any_of.iter().find(|tenant| ***tenant == *named)
    }

    /// The `iss` of a tenant, be it one of these or not.
    #[must_use]
    pub fn iss(&self, tenant: &str) -> String {
        let (before, after) = &self.around;
        format!("{before}{tenant}{after}")
    }

    /// Whether a key whose set says that it is this issuer's serves a tenant: `{tenantid}` stands for each.
    pub(super) fn fits(&self, key_issuer: &str, tenant: &str) -> bool {
        key_issuer.replace("{tenantid}", tenant) == self.iss(tenant)
    }
}

/// Whom tokens must be meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience {
    /// The claim that says so: `aud`, or what a provider has instead.
    pub claim: ClaimPath,
    /// The exact names, one of which it must hold.
    pub any_of: Box<[Arc<str>]>,
}

/// Which `typ` headers are accepted (RFC 8725 §3.11). The default is an absent one, `JWT` and `at+jwt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTypes {
    /// The accepted values. Case and a prefix `application/` do not matter (RFC 7515 §4.1.9).
    pub accepted: Box<[Box<str>]>,
    /// Whether a token without `typ` is accepted.
    pub absent: bool,
    /// Whether id tokens (OpenID Connect Core §2) are accepted, which are meant for a client and not for an API.
    pub id_tokens: bool,
}

impl Default for TokenTypes {
    fn default() -> Self {
        Self { accepted: Box::new(["JWT".into(), "at+jwt".into()]), absent: true, id_tokens: false }
    }
}

impl TokenTypes {
    /// Whether a header with this `typ` is accepted.
    #[must_use]
    pub fn accept(&self, typ: Option<&str>) -> bool {
        typ.map_or(self.absent, |typ| {
            self.accepted.iter().any(|accepted| media_type(accepted).eq_ignore_ascii_case(media_type(typ)))
        })
    }

    /// Whether claims under an accepted `typ` are those of another kind of token.
    pub(super) fn refuse(&self, typ: Option<&str>, claims: &Object) -> bool {
        let plain = typ.is_none_or(|typ| media_type(typ).eq_ignore_ascii_case("JWT"));
        let id_token = plain && ["nonce", "at_hash"].iter().any(|claim| claims.get(claim).is_some());
        // Back-channel logout §2.4 and RFC 8417 §2.2: an event says what happened, not who may do something.
        (id_token && !self.id_tokens) || claims.get("events").is_some()
    }
}

pub(super) fn media_type(typ: &str) -> &str {
    const PREFIX: &str = "application/";
    match typ.split_at_checked(PREFIX.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
        Some(_) | None => typ,
    }
}

impl Audience {
    fn check(&self, claims: &Object) -> Result<(), Reason> {
        self.check_for(&self.any_of, claims)
    }

    /// Whether a token is meant for one of these, as its issuer says whom it is meant for.
    pub(super) fn check_for(&self, any_of: &[Arc<str>], claims: &Object) -> Result<(), Reason> {
        let meant = |name: &str| any_of.iter().any(|wanted| &**wanted == name);
        let found = match self.claim.find(claims) {
            Some(Json::Text(name)) => meant(name),
            Some(Json::List(names)) if names.len() <= MAX_AUDIENCES => {
                let names: Option<Vec<&str>> = names.iter().map(Json::as_text).collect();
                names.ok_or(Reason::ClaimsMalformed)?.into_iter().any(meant)
            }
            None | Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) | Json::List(_)) => {
                return Err(Reason::ClaimsMalformed);
            }
        };
        if found { Ok(()) } else { Err(Reason::AudienceRefused) }
    }
}

/// The registered claims (RFC 7519 §4.1), read and checked.
pub(super) struct Registered {
    pub subject: Arc<str>,
    pub tenant: Option<Arc<str>>,
    pub token_id: Option<Arc<str>>,
    pub issued: Option<Timestamp>,
    pub not_before: Option<Timestamp>,
    pub expires: Timestamp,
}

impl TokenRules {
    /// Whether this is the `iss` of its tokens.
    #[must_use]
    pub fn names(&self, iss: &str) -> bool {
        match &self.tenants {
            Some(tenants) => tenants.of(iss).is_some(),
            None => *iss == *self.issuer || self.also.iter().any(|also| **also == *iss),
        }
    }

    /// The tenant whose token it is: as the `iss` says, and the tenant's own claim beside it.
    pub(super) fn tenant(&self, iss: &str, claims: &Object) -> Result<Option<Arc<str>>, Reason> {
        let Some(tenants) = &self.tenants else { return Ok(None) };
        let tenant = tenants.of(iss).ok_or(Reason::IssuerRefused)?;
        match claims.get(&tenants.claim) {
            Some(Json::Text(told)) if **told == **tenant => Ok(Some(Arc::clone(tenant))),
            Some(_) | None => Err(Reason::IssuerRefused),
        }
    }

    /// Checks the claims and the times. A token is expired from `exp` plus leeway on, that instant included.
    pub(super) fn check(&self, header: &Object, claims: &Object, now: Timestamp) -> Result<Registered, Reason> {
        let told = if self.balancers.is_empty() { claims } else { header };
        if told.get("iss").is_none() {
            return Err(Reason::ClaimsMalformed);
        }
        self.check_for((told, claims), "sub", None, now)
    }

    /// Checks what an issuer told of an opaque token. It need not name itself, unless it has tenants, nor the token's
    /// end, which then is `otherwise`; the member `subject` names the subject.
    pub(super) fn check_told(
        &self,
        claims: &Object,
        subject: &str,
        otherwise: Timestamp,
        now: Timestamp,
    ) -> Result<Registered, Reason> {
        self.check_for((claims, claims), subject, Some(otherwise).filter(|_| self.max_lifetime.is_none()), now)
    }

    fn check_for(
        &self,
        (told, claims): (&Object, &Object),
        subject: &str,
        otherwise: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Registered, Reason> {
        let tenant = match told.get("iss").map(Json::as_text) {
            None if self.tenants.is_none() => None,
            Some(Some(issuer)) if self.names(issuer) => self.tenant(issuer, claims)?,
            Some(Some(_)) => return Err(Reason::IssuerRefused),
            None | Some(None) => return Err(Reason::ClaimsMalformed),
        };
        let subject = text(claims, subject, MAX_SUBJECT)?.ok_or(Reason::ClaimsMalformed)?;
        let token_id = text(claims, "jti", MAX_TOKEN_ID)?;
        self.audience.check(told)?;
        let expires = time(told, "exp")?.or(otherwise).ok_or(Reason::ClaimsMalformed)?;
        // What a load balancer says in the claims as well must not be at odds with its header.
        if claims.get("iss").is_some_and(|iss| told.get("iss") != Some(iss)) {
            return Err(Reason::IssuerRefused);
        }
        let expires = time(claims, "exp")?.map_or(expires, |own| own.min(expires));
        let not_before = time(claims, "nbf")?;
        let issued = time(claims, "iat")?;
        times_hold(not_before, expires, self.leeway, now)?;
        if issued.is_some_and(|issued| issued > now.plus(self.leeway)) {
            return Err(Reason::TokenNotYetValid);
        }
        if self.issued_from.is_some_and(|from| issued.is_none_or(|issued| issued < from)) {
            return Err(Reason::IssuedTooEarly);
        }
        if let Some(longest) = self.max_lifetime
            && expires.since(issued.ok_or(Reason::ClaimsMalformed)?) > longest
        {
            return Err(Reason::TokenLifetimeRefused);
        }
        Ok(Registered { subject, tenant, token_id, issued, not_before, expires })
    }
}

/// A subject as the principal has it: tenants name their subjects each for itself.
pub(super) fn subject_of(tenant: Option<&str>, subject: Arc<str>) -> Arc<str> {
    match tenant {
        Some(tenant) => format!("{tenant}:{subject}").into(),
        None => subject,
    }
}

/// Whether a token's times hold now (RFC 7519 §4.1.4, §4.1.5): again at every use of a verified token.
///
/// # Errors
/// `TokenExpired` from `expires` plus leeway on; `TokenNotYetValid` up to `not_before` less leeway, exclusive.
pub fn times_hold(
    not_before: Option<Timestamp>,
    expires: Timestamp,
    leeway: Duration,
    now: Timestamp,
) -> Result<(), Reason> {
    if now >= expires.plus(leeway) {
        return Err(Reason::TokenExpired);
    }
    if not_before.is_some_and(|not_before| now.plus(leeway) < not_before) {
        return Err(Reason::TokenNotYetValid);
    }
    Ok(())
}

/// A claim that is a text of 1 to so many bytes without control characters, where it is there at all.
pub(super) fn text(claims: &Object, name: &str, longest: usize) -> Result<Option<Arc<str>>, Reason> {
    match claims.get(name) {
        None => Ok(None),
        Some(Json::Text(text)) if (1..=longest).contains(&text.len()) && !text.contains(char::is_control) => {
            Ok(Some(Arc::from(&**text)))
        }
        Some(_) => Err(Reason::ClaimsMalformed),
    }
}

/// A NumericDate (RFC 7519 §2), fractions included, where it is there at all.
pub(super) fn time(claims: &Object, name: &str) -> Result<Option<Timestamp>, Reason> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let Json::Number(number) = value else { return Err(Reason::ClaimsMalformed) };
    let span = match (number.as_u64(), number.as_f64()) {
        (Some(whole), _) => Some(Duration::from_secs(whole)),
        (None, Some(fraction)) => Duration::try_from_secs_f64(fraction).ok(),
        (None, None) => None,
    };
    span.filter(|span| *span <= Duration::from_secs(MAX_SECONDS))
        .map(|span| Some(Timestamp::default().plus(span)))
        .ok_or(Reason::ClaimsMalformed)
}
