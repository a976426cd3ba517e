//! Opaque tokens (RFC 7662): which tokens are opaque, whom to ask about them, and how strictly an answer is read.

pub mod client;
mod memory;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use self::client::Client;
use super::identity::Identity;
use super::json::{Json, Object};
use super::reason::Reason;
use super::time::Timestamp;
use super::token::{MAX_TOKEN, TokenRules, Verified};

pub use self::memory::{Answers, Counted};

/// The largest answer that is read, in bytes.
pub const MAX_ANSWER: usize = 64 << 10;
/// How long an identity lasts at least whose answer names no end.
const SHORTEST: Duration = Duration::from_secs(60);

/// How an issuer is asked about its opaque tokens.
#[derive(Debug)]
pub struct Introspection {
    /// Where.
    pub url: Box<str>,
    /// Whether that may be plain http, on this machine only.
    pub allow_http: bool,
    /// Who vouches for its server, in PEM, in place of whom this machine trusts.
    pub ca: Option<Arc<[u8]>>,
    /// As whom.
    pub client: Client,
    /// Which member of an answer names the subject.
    pub subject: Subject,
    /// How long an answer is believed at most.
    pub cache: Duration,
    /// How long one ask may take.
    pub timeout: Duration,
    /// Whether this is all that the issuer is verified by: it has no keys.
    pub only: bool,
}

/// The member of an answer that names the subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subject {
    /// `sub`, which an issuer never gives to somebody else (RFC 7519 §4.1.2).
    #[default]
    Sub,
    /// `username`, which people may choose or change.
    Username,
    /// `client_id`, where tokens are of programs.
    ClientId,
}

impl Subject {
    /// The member's name (RFC 7662 §2.2).
    #[must_use]
    pub const fn member(self) -> &'static str {
        match self {
            Self::Sub => "sub",
            Self::Username => "username",
            Self::ClientId => "client_id",
        }
    }
}

/// An opaque token, and the key by which answers about it are known: it binds them to this token, this endpoint and
/// all that the policy says of the issuer.
pub struct OpaqueToken {
    text: Box<str>,
    key: [u8; 32],
}

impl OpaqueToken {
    pub(super) fn new(token: &[u8], key: [u8; 32]) -> Option<Self> {
        Some(Self { text: std::str::from_utf8(token).ok()?.into(), key })
    }

    /// The token itself, for the endpoint and nobody else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The key of answers about it.
    #[must_use]
    pub const fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

impl PartialEq for OpaqueToken {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for OpaqueToken {}

/// A token is a secret.
impl fmt::Debug for OpaqueToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpaqueToken(..)")
    }
}

/// What came of asking about one token.
#[derive(Clone, Debug)]
pub struct Introspected {
    pub(super) key: [u8; 32],
    pub(super) told: Result<Arc<Identity>, Reason>,
}

impl PartialEq for Introspected {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.told, &other.told) {
            (Ok(one), Ok(two)) => Arc::ptr_eq(one, two),
            (Err(one), Err(two)) => one == two,
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        };
        same && self.key == other.key
    }
}

impl Eq for Introspected {}

impl Introspected {
    /// That nothing could be learnt.
    #[must_use]
    pub const fn unavailable(token: &OpaqueToken) -> Self {
        Self { key: token.key, told: Err(Reason::IntrospectionUnavailable) }
    }

    /// Whose token it is, or why it is nobody's.
    ///
    /// # Errors
    /// Why it is refused.
    pub const fn told(&self) -> Result<&Arc<Identity>, Reason> {
        match &self.told {
            Ok(identity) => Ok(identity),
            Err(reason) => Err(*reason),
        }
    }
}

/// Whether a token is one to ask about. What has the shape of a JWT, signed or encrypted, is not: it is verified by the
/// keys of the issuer that it names, or refused.
pub(super) fn is_opaque(token: &[u8]) -> Result<bool, Reason> {
    if token.len() > MAX_TOKEN {
        return Err(Reason::TokenTooLarge);
    }
    if has_shape_of_jwt(token) {
        return Ok(false);
    }
    // RFC 6750 §2.1, b64token: nothing that an endpoint, a log or a form would read as anything else.
    let bare = token.trim_suffix_of(b'=');
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    if bare.is_empty() || !bare.iter().all(fits) {
        return Err(Reason::TokenMalformed);
    }
    Ok(true)
}

trait TrimSuffix {
    fn trim_suffix_of(&self, byte: u8) -> &Self;
}

impl TrimSuffix for [u8] {
    fn trim_suffix_of(&self, byte: u8) -> &Self {
        let kept = self.iter().rposition(|other| *other != byte).map_or(0, |at| at.saturating_add(1));
        self.get(..kept).unwrap_or_default()
    }
}

/// Reads base64 as the most careless reader would.
const CARELESS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Whether what stands before the first dot is a JSON object in base64, to whichever reader.
fn has_shape_of_jwt(token: &[u8]) -> bool {
    let Some(dot) = token.iter().position(|byte| *byte == b'.') else { return false };
    let head = token.get(..dot).unwrap_or_default().trim_suffix_of(b'=');
    let mut head: Vec<u8> = head
        .iter()
        .map(|byte| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        })
        .collect();
    if head.len().checked_rem(4) == Some(1) {
        head.pop();
    }
    let Ok(decoded) = CARELESS.decode(&head) else { return false };
    let text = decoded.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&decoded);
    text.trim_ascii_start().starts_with(b"{")
}

/// Reads what an issuer answered about a token (RFC 7662 §2.2), by the rules for its tokens.
///
/// # Errors
/// `IntrospectionRefused` where it is no such answer; otherwise why the token is no good.
pub(super) fn read(answer: &[u8], rules: &TokenRules, how: &Introspection, now: Timestamp) -> Result<Verified, Reason> {
    if answer.len() > MAX_ANSWER {
        return Err(Reason::IntrospectionRefused);
    }
    let claims = Object::parse(answer).map_err(|_| Reason::IntrospectionRefused)?;
    match claims.get("active") {
        Some(Json::Bool(true)) => {}
        Some(Json::Bool(false)) => return Err(Reason::TokenInactive),
        None | Some(Json::Null | Json::Number(_) | Json::Text(_) | Json::List(_) | Json::Object(_)) => {
            return Err(Reason::IntrospectionRefused);
        }
    }
    // A refresh token is active too, and no answer must tell: these do where the issuer is so kind.
    for (member, kinds) in [("token_type", &["bearer"][..]), ("token_use", &["access_token", "access"])] {
        let is_one = |kind: &str| kinds.iter().any(|known| known.eq_ignore_ascii_case(kind));
        if claims.get(member).is_some_and(|kind| !kind.as_text().is_some_and(is_one)) {
            return Err(Reason::TokenTypeRefused);
        }
    }
    let registered = rules.check_told(&claims, how.subject.member(), now.plus(how.cache.max(SHORTEST)), now)?;
    Ok(Verified::of(claims, registered, None))
}

#[cfg(test)]
mod tests;
