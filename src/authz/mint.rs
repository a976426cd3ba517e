//! Identity for the upstream: a short-lived token of our own that says who calls, to whom, and through whom.

mod key;
mod memory;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use super::actor::{self, Actor};
use super::gateways::Gateway;
use super::header::{MAX_VALUE, Tell, write_json};
use super::identity::{Caller, Identity};
use super::issuer::IssuerPolicy;
use super::json::{Json, Object};
use super::policy::Route;
use super::reason::Reason;
use super::route::RouteId;
use super::time::Timestamp;
use memory::Memory;

pub use key::{CLOCKS, Key, KeyRefused, Keys, Sign};

/// Claims that say what a token is and whose; no policy writes them itself. `nonce`, `at_hash` and `events` would make
/// another kind of token of it, `cnf` would bind it to a key that nobody proved.
pub const RESERVED: &[&str] = &[
    "iss",
    "aud",
    "sub",
    "exp",
    "iat",
    "nbf",
    "jti",
    "act",
    "may_act",
    "sid",
    "route",
    "principal",
    "original_iss",
    "client_id",
    "azp",
    "auth_time",
    "acr",
    "cnf",
    "nonce",
    "at_hash",
    "c_hash",
    "events",
];

/// `mint:` what is minted, and with what.
#[derive(Debug)]
pub struct Mint {
    /// The `iss` of the tokens: a URL, under which the keys are published.
    pub issuer: Arc<str>,
    /// The header that carries them, in lower case. In `authorization` they follow `Bearer `.
    pub header: Bytes,
    /// How long a token lives at most, in whole seconds.
    pub lifetime: Duration,
    /// Further claims.
    pub claims: Box<[Tell]>,
    /// What they are signed with.
    pub keys: Keys,
    memory: Memory,
}

/// A token, and until when it is sent along.
struct Minted {
    /// The value of the header.
    value: Bytes,
    /// Which half of a lifetime it was made for, counted from 1970.
    span: u64,
    /// Who it was made for, and for which route.
    caller: Caller,
    route: RouteId,
}

impl Mint {
    /// What is minted so.
    #[must_use]
    pub fn new(issuer: Arc<str>, header: Bytes, lifetime: Duration, claims: Box<[Tell]>, keys: Keys) -> Self {
        Self { issuer, header, lifetime, claims, keys, memory: Memory::default() }
    }

    /// Tokens are made for halves of a lifetime, each from a whole multiple of it on: within one they are the same
    /// whoever makes them, and there is always at least half a lifetime left.
    fn half(&self) -> u64 {
        self.lifetime.as_secs().checked_div(2).unwrap_or_default().max(1)
    }

    /// The value of the header for a request of this caller; none for who is nobody, or where the gateway is not
    /// believed, for whoever asks so could have anybody's token made.
    ///
    /// # Errors
    /// [`Reason::MintUnavailable`] where there is no key, [`Reason::HeaderValueRefused`] where what is to be told cannot.
    pub(super) fn value(
        &self,
        keys: &Keys,
        route: &Route,
        (gateway, caller): (Option<&Gateway>, &Caller),
        issuers: &[Arc<IssuerPolicy>],
        now: Timestamp,
    ) -> Result<Option<Bytes>, Reason> {
        let (Some(audience), Some(_), Some(identity)) = (&route.mint, gateway, caller.acting()) else {
            return Ok(None);
        };
        let seconds = u64::try_from(now.as_millis().div_euclid(1_000)).map_err(|_| Reason::MintUnavailable)?;
        let span = seconds.checked_div(self.half()).unwrap_or_default();
        if let Some(value) = self.memory.recall(route.id, caller, span) {
            return Ok(Some(value));
        }
        let key = keys.signing(now).ok_or(Reason::MintUnavailable)?;
        let begun = span.saturating_mul(self.half());
        let claims = self.claims(route, audience, (caller, identity), issuers, (begun, seconds))?;
        let token = key.token(&claims).ok_or(Reason::MintUnavailable)?;
        let value = if self.header == "authorization" { format!("Bearer {token}") } else { token };
        if value.len() > MAX_VALUE {
            return Err(Reason::HeaderValueRefused);
        }
        let value = Bytes::from(value);
        self.memory.keep(Minted { value: value.clone(), span, caller: caller.clone(), route: route.id });
        Ok(Some(value))
    }

    /// The claims as they are signed: a function of who calls, the route and the half of the lifetime, and of nothing
    /// else.
    fn claims(
        &self,
        route: &Route,
        audience: &str,
        (caller, identity): (&Caller, &Arc<Identity>),
        issuers: &[Arc<IssuerPolicy>],
        (begun, now): (u64, u64),
    ) -> Result<String, Reason> {
        let principal = identity.principal();
        let issuer = issuers.iter().find(|issuer| issuer.name == principal.issuer);
        let told = |name: &str| match identity.claims().get(name) {
            Some(Json::Text(text)) if !text.is_empty() => Some(Json::Text(text.clone())),
            _ => None,
        };
        // What another portcullis told of where a principal comes from stays so over any number of them.
        let relayed = |name: &str| issuer.filter(|issuer| issuer.relays).and_then(|_| told(name));
        // Of an issuer of many tenants the token alone says whose it is.
        let of_tenant = || issuer.and_then(|issuer| issuer.tokens.tenants.as_ref()).and_then(|_| told("iss"));
        let of_issuer = || {
            text(match issuer {
                Some(issuer) => &issuer.tokens.issuer,
                None => &principal.issuer,
            })
        };
        let own = || of_tenant().unwrap_or_else(of_issuer);
        let (issued, expires) = self.times(identity, begun, now);
        let mut claims = vec![
            ("iss", text(&self.issuer)),
            ("aud", text(audience)),
            ("sub", text(&principal.subject)),
            ("principal", relayed("principal").unwrap_or_else(|| text(&principal.to_string()))),
            ("original_iss", relayed("original_iss").unwrap_or_else(own)),
            ("iat", Json::Number(issued.into())),
            ("exp", Json::Number(expires.into())),
            ("route", text(&route.key)),
        ];
        claims.extend(told("client_id").or_else(|| told("azp")).map(|id| ("client_id", id)));
        claims.extend(["sid", "acr"].into_iter().filter_map(|name| Some((name, told(name)?))));
        if let Some(time @ Json::Number(_)) = identity.claims().get("auth_time") {
            claims.push(("auth_time", time.clone()));
        }
        claims.extend(acting(caller, identity)?.map(|act| ("act", act)));
        let mut own = Vec::with_capacity(self.claims.len());
        for tell in &self.claims {
            let name = std::str::from_utf8(&tell.name).map_err(|_| Reason::InternalError)?;
            own.extend(tell.of(Some(identity))?.map(|value| (name, value)));
        }
        let mut written = String::with_capacity(512);
        write_json(&Json::Object(Object::of(claims.into_iter().chain(own))), &mut written)?;
        // The same for the same claims: the token is named, not the request that it is sent with.
        let hash = digest(&SHA256, written.as_bytes());
        let id = URL_SAFE_NO_PAD.encode(hash.as_ref().get(..16).unwrap_or_default());
        written.pop();
        Ok(format!("{written},\"jti\":\"{id}\"}}"))
    }

    /// From when and until when it holds: never longer than what the caller showed, and not from before that.
    fn times(&self, identity: &Identity, begun: u64, now: u64) -> (u64, u64) {
        let seconds = |time: Timestamp| u64::try_from(time.as_millis().div_euclid(1_000)).unwrap_or_default();
        let shown = identity.issued().map(seconds).unwrap_or_default().min(now);
        (begun.max(shown), begun.saturating_add(self.lifetime.as_secs()).min(seconds(identity.expires())))
    }
}

/// Who acts for the subject: those that the token names, and before them the workload or the application that carried
/// it.
fn acting(caller: &Caller, identity: &Arc<Identity>) -> Result<Option<Json>, Reason> {
    let chain = actor::chain(identity.claims()).map_err(|actor::Unreadable| Reason::HeaderValueRefused)?;
    let carriers = [&caller.app, &caller.workload].into_iter().flatten();
    let carriers =
        carriers.filter(|carrier| !Arc::ptr_eq(carrier, identity)).map(|carrier| &*carrier.principal().subject);
    let carriers = carriers.map(|name| Actor { name, elsewhere: None });
    let whole: Vec<Actor<'_>> = chain.iter().rev().copied().chain(carriers).collect();
    // A longer one would be read by nobody.
    if whole.len() > actor::MAX_CHAIN {
        return Err(Reason::HeaderValueRefused);
    }
    Ok(whole.into_iter().fold(None, |before, actor| {
        let members = [("sub", Some(text(actor.name))), ("iss", actor.elsewhere.map(text)), ("act", before)];
        Some(Json::Object(Object::of(members.into_iter().filter_map(|(name, value)| Some((name, value?))))))
    }))
}

fn text(text: &str) -> Json {
    Json::Text(text.into())
}

/// The claims of a token that was just minted, by the value of its header; for explanations and tests.
#[must_use]
pub fn claims_of(value: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(value.split(|byte| *byte == b'.').nth(1)?).ok()
}

#[cfg(test)]
mod tests;
