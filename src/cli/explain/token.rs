//! The credential that a request came with, decoded for the operator's own terminal: what it says, and which check it
//! failed. Never the credential itself.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::explanation::Detail;
use super::moment::span;
use crate::authz::credential::{self, Source};
use crate::authz::issuer::{Issuer, IssuerPolicy};
use crate::authz::policy::Route;
use crate::authz::reason::Reason;
use crate::authz::request::Request;
use crate::authz::time::Timestamp;
use crate::authz::token::MAX_TOKEN;
use crate::observe::audit::rfc3339;

/// A token taken apart, as far as it can be. Nothing of it is verified here.
pub(super) struct Decoded {
    pub source: String,
    pub header: Option<Value>,
    /// The claims, and their text as it was signed.
    pub claims: Option<(Value, String)>,
    length: usize,
    parts: usize,
}

/// Takes apart the token that the gate would find.
pub(super) fn presented<'s>(request: &Request<'_>, sources: impl Iterator<Item = &'s Source>) -> Option<Decoded> {
    let presented = credential::find(request, sources).ok()??;
    let source = match presented.source {
        Source::Bearer => "a bearer token".to_owned(),
        Source::Header(name) => format!("a token in the header {name}"),
        Source::Cookie(name) => format!("a token in the cookie {name}"),
        Source::Query(name) => format!("a token in the query parameter {name}"),
        Source::Subprotocol(start) => format!("a token in the subprotocol {start}…"),
    };
    Some(Decoded { source, ..Decoded::of(&presented.token) })
}

impl Decoded {
    /// Takes a text apart as a compact JWS.
    pub fn of(token: &[u8]) -> Self {
        let parts: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
        let text = |at: usize| {
            let part = parts.get(at).filter(|_| token.len() <= MAX_TOKEN)?;
            String::from_utf8(URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let object = |text: &str| serde_json::from_str(text).ok().filter(Value::is_object);
        Self {
            source: String::new(),
            header: text(0).and_then(|text| object(&text)),
            claims: text(1).and_then(|text| Some((object(&text)?, text))),
            length: token.len(),
            parts: parts.len(),
        }
    }

    /// A claim.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.as_ref()?.0.get(name)
    }

    fn member(&self, name: &str) -> Option<&Value> {
        self.header.as_ref()?.get(name)
    }

    fn time(&self, name: &str) -> Option<Timestamp> {
        let value = self.claim(name)?;
        let whole = value.as_i64().map(Timestamp::from_secs);
        whole.or_else(|| {
            let fraction = std::time::Duration::try_from_secs_f64(value.as_f64()?).ok()?;
            Some(Timestamp::default().plus(fraction))
        })
    }

    /// What it says of itself.
    pub fn details(&self, now: Timestamp) -> Vec<Detail> {
        let mut details = Vec::new();
        if self.header.is_none() {
            let (length, parts) = (self.length, self.parts);
            details.push(Detail::new("token", format!("{length} bytes in {parts} parts, not a compact JWS")));
        }
        for name in ["alg", "kid", "typ"] {
            details.extend(self.member(name).map(|value| Detail::new(name, value.clone())));
        }
        for name in ["iss", "sub"] {
            details.extend(self.claim(name).map(|value| Detail::new(name, value.clone())));
        }
        for (name, past, future) in
            [("exp", "expired", "expires"), ("nbf", "valid since", "not valid before"), ("iat", "issued", "issued")]
        {
            details.extend(self.time(name).map(|at| Detail::new(name, relative(at, now, past, future))));
        }
        details.extend(self.claims.as_ref().map(|(claims, _)| Detail::new("claims", claims.clone())));
        details
    }

    /// The very point that a check found fault with, and what the policy has there.
    pub fn fault(&self, reason: Reason, accepted: &[&Arc<Issuer>], route: Option<&Route>) -> Option<String> {
        let shown = |value: Option<&Value>| value.map_or("missing".to_owned(), plain);
        let iss = self.claim("iss").and_then(Value::as_str);
        let issuer = accepted.iter().find(|issuer| iss.is_some_and(|iss| issuer.policy().tokens.names(iss)));
        let policy: Option<&IssuerPolicy> = issuer.map(|issuer| &**issuer.policy());
        Some(match reason {
            Reason::IssuerRefused => {
                let names = accepted.iter().map(|issuer| issuer.policy());
                let names: Vec<String> = names.map(|of| format!("{} ({})", of.name, of.tokens.issuer)).collect();
                format!("the token's iss is {}; the route accepts {}", shown(self.claim("iss")), names.join(", "))
            }
            Reason::AudienceRefused => {
                let audience = &policy?.tokens.audience;
                let own = route.map(|route| route.audience.join(" or ")).filter(|own| !own.is_empty());
                let own = own.map(|own| format!(", and for this route {own}")).unwrap_or_default();
                let path = &audience.claim;
                let is = self.claims.as_ref();
                let is = is.and_then(|(claims, _)| path.names().try_fold(claims, |value, name| value.get(name)));
                format!("the token's {path} is {}; it must be {}{own}", shown(is), audience.any_of.join(" or "))
            }
            Reason::AlgorithmRefused => {
                let algorithms = policy.map(|policy| policy.tokens.algorithms.iter().map(|alg| alg.name()));
                let algorithms = algorithms.map(|names| names.collect::<Vec<_>>().join(", "));
                let used = algorithms.map(|names| format!("; the issuer uses {names}")).unwrap_or_default();
                format!("the token's alg is {}{used}", shown(self.member("alg")))
            }
            Reason::TokenTypeRefused => {
                let types = policy?.tokens.types.accepted.join(", ");
                format!("the token's typ is {}; accepted are {types}", shown(self.member("typ")))
            }
            Reason::KeyUnknown => {
                let kids: Vec<&str> = issuer?.state().keys.kids().collect();
                let (kid, kids) = (shown(self.member("kid")), kids.join(", "));
                format!("the token's kid is {kid}; the issuer's keys have: {kids}")
            }
            Reason::RequirementUnmet => format!("the issuer requires {}", policy?.require.as_ref()?),
            Reason::TokenLifetimeRefused => {
                format!("the issuer's tokens live at most {}", span(policy?.tokens.max_lifetime?))
            }
            Reason::CrossSite => {
                let origins = policy?.origins.join(", ");
                let listed = if origins.is_empty() { "lists none".to_owned() } else { format!("lists {origins}") };
                format!(
                    "the request tells neither sec-fetch-site: same-origin nor a listed origin; the issuer {listed}"
                )
            }
            _ => return None,
        })
    }
}

/// A value as it reads best: text without its quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn relative(at: Timestamp, now: Timestamp, past: &str, future: &str) -> String {
    let written = rfc3339(at);
    if at <= now {
        format!("{past} {} ago ({written})", span(now.since(at)))
    } else {
        format!("{future} in {} ({written})", span(at.since(now)))
    }
}

/// The parts of a header's value, or of a URL, that look like a compact JWS.
pub(super) fn tokens_in(value: &str) -> impl Iterator<Item = &str> {
    let parts = value.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')));
    parts.filter(|part| part.matches('.').count() == 2 && Decoded::of(part.as_bytes()).header.is_some())
}

/// Where a token is looked for.
pub(super) fn looked_for(source: &Source) -> String {
    match source {
        Source::Bearer => "authorization: Bearer".to_owned(),
        Source::Header(name) => format!("the header {name}"),
        Source::Cookie(name) => format!("the cookie {name}"),
        Source::Query(name) => format!("the query parameter {name}"),
        Source::Subprotocol(start) => format!("the subprotocol {start}… of an upgrade"),
    }
}
