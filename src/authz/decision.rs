//! What the core answers: a verdict, and what it rests on.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::accept::Form;
use super::cache::Cached;
use super::cors::Listed;
use super::credential::strip::Stripped;
use super::header::Told;
use super::identity::Caller;
use super::json::Json;
use super::reason::{Challenge, Reason};
use super::revocation::Checked;
use super::route::RouteId;

/// An answer, and what it rests on. Only [`Snapshot::decide`](super::snapshot::Snapshot::decide) makes one.
#[must_use]
#[derive(Debug)]
pub struct Decision {
    verdict: Verdict,
    basis: Basis,
    cached: Option<Cached>,
}

impl Decision {
    pub(super) fn new(verdict: Verdict, basis: Basis) -> Self {
        Self { verdict, basis, cached: None }
    }

    pub(super) fn cached_as(self, cached: Option<Cached>) -> Self {
        Self { cached, ..self }
    }

    /// A denial for what happened around the core: no snapshot, no time, a failure of our own.
    pub fn denied(reason: Reason) -> Self {
        let basis = Basis { reason: Some(reason), ..Basis::default() };
        Self { verdict: Verdict::Deny(Denial::because(reason)), basis, cached: None }
    }

    /// That the gateway may give this answer again; it may not where this is `None`.
    #[must_use]
    pub fn cached(&self) -> Option<&Cached> {
        self.cached.as_ref()
    }

    /// The answer.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// What the answer rests on.
    #[must_use]
    pub fn basis(&self) -> &Basis {
        &self.basis
    }
}

/// May the request pass?
#[derive(Debug)]
pub enum Verdict {
    /// It may, with these changes.
    Allow(Grant),
    /// It may not.
    Deny(Denial),
}

/// What the upstream is to be told. Made by the last gate only.
#[derive(Debug)]
pub struct Grant {
    pub(super) told: Arc<Told>,
    /// `None` for most: then the same is told each time.
    pub(super) own: Option<Box<Own>>,
}

/// What is told of one request alone.
#[derive(Default)]
pub struct Own {
    /// Aliases of managed headers, as this very request spelt them: to remove.
    pub aliases: Vec<Bytes>,
    /// Headers to set on the request to the upstream.
    pub set: Vec<(Bytes, Bytes)>,
    /// The header that carries a token that was minted, and its value.
    pub minted: Option<(Bytes, Bytes)>,
    /// Headers of the response to the caller.
    pub responses: Vec<(Bytes, Bytes)>,
    /// Parameters of the query to set.
    pub query: Vec<(Bytes, Bytes)>,
    /// Parameters of the query to remove, each as this very request spelt it.
    pub query_removed: Vec<Bytes>,
    /// Credentials that the upstream is not to see.
    pub stripped: Stripped,
}

/// What was minted is a secret.
impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { aliases, set, minted, responses, query, query_removed, stripped } = self;
        let minted = minted.as_ref().map(|(name, _)| name);
        let told = (aliases, set, minted, responses, query, query_removed, stripped);
        f.debug_tuple("Own").field(&told).finish()
    }
}

impl Own {
    pub(super) fn is_empty(&self) -> bool {
        let Self { aliases, set, minted, responses, query, query_removed, stripped } = self;
        aliases.is_empty()
            && set.is_empty()
            && minted.is_none()
            && responses.is_empty()
            && query.is_empty()
            && query_removed.is_empty()
            && *stripped == Stripped::default()
    }
}

impl Grant {
    /// What is told of this caller whatever it asks for.
    #[must_use]
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// What is told of this request alone, if anything is.
    #[must_use]
    pub fn own(&self) -> Option<&Own> {
        self.own.as_deref()
    }

    /// Aliases of managed headers, as this very request spelt them: to remove.
    #[must_use]
    pub fn aliases(&self) -> &[Bytes] {
        self.own().map(|own| &*own.aliases).unwrap_or_default()
    }

    /// Credentials of this very request that the upstream is not to see.
    #[must_use]
    pub fn stripped(&self) -> Option<&Stripped> {
        self.own().map(|own| &own.stripped).filter(|stripped| **stripped != Stripped::default())
    }

    /// Headers to set on the request to the upstream, replacing what is there. Names are in lower case.
    pub fn set(&self) -> impl Iterator<Item = &(Bytes, Bytes)> {
        let own = self.own().into_iter().flat_map(|own| own.set.iter().chain(&own.minted).chain(&own.stripped.set));
        self.told.set().iter().chain(own)
    }

    /// Headers to remove from the request to the upstream: every managed name that is not set, the aliases, and what
    /// carries a credential that is not to be seen.
    pub fn remove(&self) -> impl Iterator<Item = &Bytes> {
        let stripped = self.own().into_iter().flat_map(|own| &own.stripped.remove);
        self.told.unset().iter().chain(self.aliases()).chain(stripped)
    }

    /// Headers of the response to the caller, replacing what the upstream says.
    pub fn responses(&self) -> impl Iterator<Item = &(Bytes, Bytes)> {
        self.told.responses().iter().chain(self.own().into_iter().flat_map(|own| &own.responses))
    }

    /// Parameters of the query to set, replacing all that are spelt the same.
    pub fn query(&self) -> impl Iterator<Item = &(Bytes, Bytes)> {
        self.told.query().iter().chain(self.own().into_iter().flat_map(|own| &own.query))
    }

    /// Parameters of the query to remove, each as this very request spelt it.
    pub fn query_removed(&self) -> impl Iterator<Item = &Bytes> {
        self.own().into_iter().flat_map(|own| {
            let stripped = own.stripped.query.iter().filter(|name| !own.query_removed.contains(name));
            own.query_removed.iter().chain(stripped)
        })
    }

    /// The header that carries a token that was minted, and its value. A secret.
    #[must_use]
    pub fn minted(&self) -> Option<&(Bytes, Bytes)> {
        self.own().and_then(|own| own.minted.as_ref())
    }

    /// What the gateway is told beside the headers.
    #[must_use]
    pub fn metadata(&self) -> &[(Bytes, Json)] {
        self.told.metadata()
    }
}

/// Why a request may not pass, and how to tell the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    reason: Reason,
    scope: Option<Box<str>>,
    location: Option<Box<str>>,
    step_up: Option<Arc<str>>,
    grpc: bool,
    form: Form,
    reader: Option<Listed>,
    offer: Option<Box<Offer>>,
}

/// How a caller may prove that a token is its own (RFC 9449 §7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What proofs may be signed with, separated by spaces.
    pub(super) algorithms: Box<str>,
    /// Whether that is what it tried.
    pub(super) used: bool,
    /// Whether no token is good without.
    pub(super) only: bool,
    /// The nonce for the next proof.
    pub(super) nonce: Option<Box<str>>,
}

impl Denial {
    pub(super) fn because(reason: Reason) -> Self {
        Self {
            reason,
            scope: None,
            location: None,
            step_up: None,
            grpc: false,
            form: Form::Problem,
            reader: None,
            offer: None,
        }
    }

    pub(super) fn with_scope(self, scope: Box<str>) -> Self {
        Self { scope: Some(scope), ..self }
    }

    pub(super) fn with_location(self, location: Box<str>) -> Self {
        Self { location: Some(location), ..self }
    }

    pub(super) fn with_step_up(self, challenge: &Arc<str>) -> Self {
        Self { step_up: Some(Arc::clone(challenge)), ..self }
    }

    pub(super) fn in_form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    pub(super) fn for_page(self, reader: Option<Listed>) -> Self {
        Self { reader, ..self }
    }

    pub(super) fn offering(self, offer: Option<Box<Offer>>) -> Self {
        Self { offer, ..self }
    }

    pub(super) fn for_grpc(self) -> Self {
        Self { grpc: true, ..self }
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The HTTP status: the reason's own, or 302 where a person is sent to sign in.
    #[must_use]
    pub fn status(&self) -> u16 {
        if self.location.is_some() { 302 } else { self.reason.status() }
    }

    /// Where a person is sent to sign in.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// The value of `WWW-Authenticate` (RFC 6750 §3, RFC 9449 §7.1, RFC 9470 §3).
    #[must_use]
    pub fn challenge(&self) -> Option<Cow<'static, str>> {
        let error = match self.reason.challenge() {
            Challenge::None => return None,
            Challenge::Bare => "",
            Challenge::InvalidToken => r#" error="invalid_token""#,
            Challenge::InvalidRequest => r#" error="invalid_request""#,
            Challenge::InsufficientScope => r#" error="insufficient_scope""#,
            Challenge::InvalidProof => r#" error="invalid_dpop_proof""#,
            Challenge::UseNonce => r#" error="use_dpop_nonce""#,
            Challenge::StepUp => {
                let asked = self.step_up.as_deref().and_then(|challenge| challenge.strip_prefix("Bearer"));
                asked.unwrap_or(r#" error="insufficient_user_authentication""#)
            }
        };
        let scope = self.scope.as_ref().map(|scope| format!(r#", scope="{scope}""#)).unwrap_or_default();
        Some(match self.offer.as_deref() {
            None => format!("Bearer{error}{scope}").into(),
            Some(Offer { algorithms, used, only, .. }) => {
                let more = if error.is_empty() { "" } else { "," };
                let proven = format!(r#"DPoP{error}{scope}{more} algs="{algorithms}""#);
                let either = || format!(r#"Bearer{error}{scope}, DPoP algs="{algorithms}""#);
                if *used || *only { proven.into() } else { either().into() }
            }
        })
    }

    /// The nonce for the caller's next proof, the value of `DPoP-Nonce` (RFC 9449 §9).
    #[must_use]
    pub fn nonce(&self) -> Option<&str> {
        self.offer.as_ref()?.nonce.as_deref()
    }

    /// How its body is written; a caller who speaks gRPC gets none of these.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The page of another origin that may read it.
    #[must_use]
    pub fn reader(&self) -> Option<&Listed> {
        self.reader.as_ref()
    }

    /// Whether the caller speaks gRPC.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        self.grpc
    }
}

/// What a decision rests on: ids and shared values, on allow and deny alike. Text is made of it by `observe`.
#[derive(Clone, Debug, Default)]
pub struct Basis {
    /// The snapshot's version: grows with each publication while the process lives.
    pub snapshot: u64,
    /// The route that matched.
    pub route: Option<RouteId>,
    /// The rule that decided.
    pub rule: Option<RuleRef>,
    /// Whether who asked has an entry among the gateways.
    pub believed: bool,
    /// The policy decision client that says who calls; `None` where the caller has shown it.
    pub asserted: Option<Arc<str>>,
    /// Who called, as far as that was found.
    pub caller: Caller,
    /// What came of asking whether the caller is revoked.
    pub revocation: Checked,
    /// Why not; `None` on an allow.
    pub reason: Option<Reason>,
}

/// Which rule of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleRef {
    /// A route's own.
    Route(RouteId),
    /// A guard, by its place in the policy.
    Guard(u32),
    /// A forbid of `deny:`, by its place in the policy.
    Forbid(u32),
    /// A route's own forbid.
    RouteForbid(RouteId),
}
