//! The gates in order, on one screen.

mod carry;
mod evaluate;
mod identify;
mod opaque;
mod permit;
mod preflight;
mod prove;
mod step_up;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::accept;
use super::api_keys::ApiKeys;
use super::cache::Cached;
use super::condition;
use super::credential::strip::{Strip, Stripped};
use super::decision::{Basis, Decision, Denial, Grant, RuleRef, Verdict};
use super::gateways::Gateway;
use super::identity::{Caller, Truth};
use super::introspection::{Introspected, OpaqueToken};
use super::issuer::{Issuer, IssuerId};
use super::keys::UuidKid;
use super::mint::Keys;
use super::policy::{Policy, Route};
use super::proof::{Once, Sighting};
use super::reason::Reason;
use super::request::{Malformed, Raw, Request};
use super::revocation::Shared;
use super::route::{Captures, Found};
use super::rule::{Expr, Rule, Scene, Watch, Word};
use super::time::Timestamp;

/// Everything that changes while we run, at one point in time. Immutable: a change publishes the next one.
pub struct Snapshot {
    version: u64,
    policy: Arc<Policy>,
    issuers: Box<[Arc<Issuer>]>,
    api_keys: Option<Arc<ApiKeys>>,
    /// What replicas share of what is revoked; `None` before the store was asked.
    revoked: Option<Arc<Shared>>,
    /// What tokens are signed with in place of the policy's own keys.
    minting: Option<Keys>,
}

/// What one call of [`Snapshot::decide`] comes to.
#[must_use]
pub enum Step {
    /// An answer.
    Decided(Decision),
    /// A fact is missing. Answer it in the [`Facts`], or with a newer snapshot, and decide again.
    Needs(Question),
}

/// A fact that only the outside can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Has this issuer newer keys?
    Keys(IssuerId),
    /// What does this issuer say of this token?
    Introspect(IssuerId, Arc<OpaqueToken>),
    /// Has this issuer a key of this kid?
    Key(IssuerId, UuidKid),
    /// Is this the first time that this happens? Asked last, of what would pass.
    Unseen(Once),
}

/// What the outside told about one check so far.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// That an issuer has no newer keys, and why.
    pub keys: Option<(IssuerId, NoNews)>,
    /// What an issuer said of a token.
    pub introspected: Option<Introspected>,
    /// Whether something happened before.
    pub unseen: Option<(Once, Sighting)>,
}

/// Why asking brought no newer keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoNews {
    /// They were fetched; there is no such key.
    Unknown,
    /// They could not be fetched.
    Unreachable,
    /// They were asked for too recently to be asked for again.
    TooSoon,
}

/// Why a gate did not pass: a denial, or a question. `?` carries both.
enum Stop {
    Deny(Reason),
    Ask(Question),
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Deny(reason)
    }
}

/// Who watches a decision being made. The hot path watches with `()`, which compiles away.
pub trait Witness {
    /// Sees the words of a rule.
    type Words: Watch;
    /// A rule is about to be evaluated over this scene.
    fn words(&mut self, rule: RuleRef, scene: &Scene<'_>) -> &mut Self::Words;
}

impl Witness for () {
    type Words = ();

    fn words(&mut self, _: RuleRef, _: &Scene<'_>) -> &mut () {
        self
    }
}

impl Snapshot {
    /// A snapshot of these parts; `issuers` stand in the policy's order.
    #[must_use]
    pub fn new(version: u64, policy: Arc<Policy>, issuers: Box<[Arc<Issuer>]>) -> Self {
        let api_keys = policy.api_keys.clone();
        Self { version, policy, issuers, api_keys, revoked: None, minting: None }
    }

    /// The same with other keys to mint with than the policy's own.
    #[must_use]
    pub fn minting_with(self, keys: Keys) -> Self {
        Self { minting: Some(keys), ..self }
    }

    /// The same with other keys in place of the policy's own: for rehearsals, which know none of those.
    #[must_use]
    pub fn with_api_keys(self, api_keys: Arc<ApiKeys>) -> Self {
        Self { api_keys: Some(api_keys), ..self }
    }

    /// The same with what replicas share of what is revoked.
    #[must_use]
    pub fn with_revoked(self, revoked: Option<Arc<Shared>>) -> Self {
        Self { revoked, ..self }
    }

    /// What replicas share of what is revoked, as far as it is known.
    #[must_use]
    pub fn revoked(&self) -> Option<&Arc<Shared>> {
        self.revoked.as_ref()
    }

    /// How long what is revoked while we run is remembered; `None` where this policy does not ask what replicas share.
    #[must_use]
    pub fn remembers_revoked(&self) -> Option<Duration> {
        self.policy.revocation.as_ref().filter(|revocation| revocation.shared).map(|revocation| revocation.keep)
    }

    /// Its version: grows with each publication while the process lives.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The issuers, by [`IssuerId`].
    #[must_use]
    pub fn issuers(&self) -> &[Arc<Issuer>] {
        &self.issuers
    }

    /// Reads a request as this policy's `paths:` allow; not one word of it where anybody could have said it.
    pub fn read<'r>(&self, raw: &'r Raw<'r>) -> Result<Request<'r>, Malformed> {
        let known = || self.policy.gateways.known(raw.dialect, raw.asker, &raw.proof).is_some();
        if raw.dialect.told_in_headers() && !known() {
            return Err(Malformed(Reason::GatewayUnknown));
        }
        Request::read(raw, self.policy.relaxed)
    }

    /// May this request pass, and as whom?
    pub fn decide(&self, request: Result<&Request<'_>, Malformed>, facts: &Facts, now: Timestamp) -> Step {
        self.decide_before(request, facts, now, &mut ())
    }

    /// Decides before a witness.
    pub fn decide_before(
        &self,
        request: Result<&Request<'_>, Malformed>,
        facts: &Facts,
        now: Timestamp,
        witness: &mut impl Witness,
    ) -> Step {
        let mut basis = Basis { snapshot: self.version, ..Basis::default() };
        let verdict = match self.gates(request, facts, now, &mut basis, witness) {
            Ok(grant) => Verdict::Allow(grant),
            Err(Stop::Ask(question)) => return Step::Needs(question),
            Err(Stop::Deny(reason)) => {
                basis.reason = Some(reason);
                Verdict::Deny(self.denial(reason, request.ok(), &basis, now))
            }
        };
        let cached = self.cached(request.ok(), &verdict, &basis, facts, now);
        Step::Decided(Decision::new(verdict, basis).cached_as(cached))
    }

    /// That the answer may be given again, where its route says so.
    fn cached(
        &self,
        request: Option<&Request<'_>>,
        verdict: &Verdict,
        basis: &Basis,
        facts: &Facts,
        now: Timestamp,
    ) -> Option<Cached> {
        let reuse = self.policy.route(basis.route?)?.reuse.as_ref()?;
        let cached = reuse.cached(&self.policy, (request?, verdict, basis), facts, now)?;
        // Keys that grow too old meanwhile would verify nothing.
        let then = now.plus(Duration::from_secs(cached.seconds.into()));
        let user = basis.caller.user.as_ref().map(|user| &user.principal().issuer);
        let is_of_user = |issuer: &&Arc<Issuer>| user.is_some_and(|name| *name == issuer.policy().name);
        (!self.issuers.iter().filter(is_of_user).any(|issuer| issuer.is_stale(then))).then_some(cached)
    }

    fn gates(
        &self,
        request: Result<&Request<'_>, Malformed>,
        facts: &Facts,
        now: Timestamp,
        basis: &mut Basis,
        witness: &mut impl Witness,
    ) -> Result<Grant, Stop> {
        // 1. read
        let request = request.map_err(|Malformed(reason)| reason)?;
        let gateway = self.gateway(request)?;
        basis.believed = gateway.is_some();
        // 2. route
        if let Some(asked) = self.preflight(request) {
            return Ok(self.pass_preflight(request, &asked, gateway, basis, witness)?);
        }
        let (route, captures) = self.route(request, request.method, basis)?;
        // 3. identity
        let (caller, proven) = self.identify(request, gateway, route, facts, now)?;
        basis.caller = caller;
        // 4. revocation
        if let Some(revocation) = &self.policy.revocation {
            basis.revocation = revocation.check(self.revoked.as_deref(), &basis.caller, now)?;
        }
        // 5. policy
        let address = gateway.and_then(|gateway| gateway.client_address(request));
        let scene = Scene { caller: &basis.caller, captures: &captures, address };
        self.permit(request, route, &scene, &mut basis.rule, witness)?;
        let lent = gateway.map_or(&[][..], |gateway| &*gateway.headers);
        permit::meet(route, &condition::Scene { request, who: scene, lent, now })?;
        self.step_up(route, &basis.caller, now)?;
        // What passed every gate is told who calls.
        let strip = route.strip.then_some(Strip::Credentials);
        let minted = self.minted(route, gateway, &basis.caller, now)?;
        let grant = self.grant(request, gateway, (route, &captures), &basis.caller, (strip, minted))?;
        // 6. what passes once
        self.pass_once(proven, grant, facts, now)
    }

    fn route<'r>(
        &'r self,
        request: &'r Request<'_>,
        method: &str,
        basis: &mut Basis,
    ) -> Result<(&'r Route, Captures<'r>), Reason> {
        let (host, path) = (&*request.host, &*request.path);
        let found = self.policy.table.find(host, method, path);
        let id = if let Found::Route(id, _) = &found { Some(*id) } else { None };
        basis.route = id;
        if self.policy.table.variant_of(host, method, path, id, self.policy.relaxed.case_variant) {
            return Err(Reason::PathVariant);
        }
        match found {
            Found::Route(id, captures) => Ok((self.policy.route(id).ok_or(Reason::InternalError)?, captures)),
            Found::NoRoute => Err(Reason::NoRoute),
            Found::UnknownHost => Err(Reason::UnknownHost),
        }
    }

    /// What the upstream is told, and which credentials it is not to see.
    fn grant(
        &self,
        request: &Request<'_>,
        gateway: Option<&Gateway>,
        (route, captures): (&Route, &Captures<'_>),
        caller: &Caller,
        (strip, minted): (Option<Strip>, Option<Bytes>),
    ) -> Result<Grant, Reason> {
        let mut grant = route.contract.grant(request, gateway, caller, (&route.key, captures), minted)?;
        let carriers = &self.policy.carriers;
        if let Some(how) = strip.or(carriers.any_exposed().then_some(Strip::Exposed)) {
            let stripped = carriers.strip(request, &grant, how)?;
            if stripped != Stripped::default() {
                grant.own.get_or_insert_default().stripped = stripped;
            }
        }
        if request.dialect.told_in_headers() { self.carried(request, gateway, route, grant) } else { Ok(grant) }
    }

    /// A token of ours for the upstream, where the route has one made.
    fn minted(
        &self,
        route: &Route,
        gateway: Option<&Gateway>,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<Option<Bytes>, Reason> {
        let Some(mint) = &self.policy.mint else { return Ok(None) };
        let keys = self.minting.as_ref().unwrap_or(&mint.keys);
        mint.value(keys, route, (gateway, caller), &self.policy.issuers, now)
    }

    /// How to tell the caller.
    fn denial(&self, reason: Reason, request: Option<&Request<'_>>, basis: &Basis, now: Timestamp) -> Denial {
        let denial = Denial::because(reason);
        let Some(request) = request else { return denial };
        let route = basis.route.and_then(|id| self.policy.route(id));
        let page = request.seen.origin.and_then(|origin| self.policy.sharing(&request.host, route)?.lists(origin));
        let denial = denial.for_page(page).offering(self.offer(reason, request, route, now));
        if request.is_grpc() {
            return denial.for_grpc();
        }
        let denial = denial.in_form(accept::preferred(request.header(b"accept")));
        let step_up = route.and_then(|route| route.step_up.as_deref());
        let denial = match step_up.filter(|_| reason == Reason::StepUpRequired) {
            Some(step_up) => denial.with_step_up(step_up.challenge()),
            None => denial,
        };
        match (reason, self.policy.sign_in(route), route.map(|route| &route.rule)) {
            (Reason::ScopeMissing, _, Some(Rule::Where(rule))) => match scopes(rule) {
                Some(scopes) => denial.with_scope(scopes),
                None => denial,
            },
            // Who is sent to sign in without a word of what was missing comes back as they were.
            (Reason::StepUpRequired, Some(sign_in), _) if !sign_in.asks() => denial,
            (_, Some(sign_in), _) if reason.status() == 401 && request.is_navigation() => {
                denial.with_location(sign_in.location(request, self.policy.carriers.queries(), step_up))
            }
            _ => denial,
        }
    }
}

/// The scopes that a rule names, separated by spaces (RFC 6750 §3). One that a challenge cannot hold as it is (RFC 6749
/// §3.3) is left out.
fn scopes(rule: &Expr) -> Option<Box<str>> {
    let is_token = |name: &str| name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    let names = rule.words().filter_map(|(_, word)| if let Word::Scope(name) = word { Some(&**name) } else { None });
    let names: Vec<&str> = names.filter(|name| is_token(name)).collect();
    (!names.is_empty()).then(|| names.join(" ").into())
}
