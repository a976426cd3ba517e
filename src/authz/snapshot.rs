//! The gates in order, on one screen.

mod preflight;

use std::sync::Arc;

use super::accept;
use super::condition;
use super::credential::strip::{Strip, Stripped};
use super::credential::{self, Source};
use super::decision::{Basis, Decision, Denial, Grant, RuleRef, Verdict};
use super::gateways::Gateway;
use super::identity::{Caller, Identity, Standing, Truth};
use super::issuer::{self, Issuer, IssuerId, Refused};
use super::policy::{Policy, Route};
use super::reason::Reason;
use super::request::{Malformed, Raw, Request};
use super::route::{Captures, Found};
use super::rule::{Expr, Rule, Scene, Watch, Word, WordId, Words};
use super::time::Timestamp;
use super::token::Unverified;

/// Everything that changes while we run, at one point in time. Immutable: a change publishes the next one.
pub struct Snapshot {
    version: u64,
    policy: Arc<Policy>,
    issuers: Box<[Arc<Issuer>]>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Has this issuer newer keys?
    Keys(IssuerId),
}

/// What the outside told about one check so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// That an issuer has no newer keys, and why.
    pub keys: Option<(IssuerId, NoNews)>,
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
        Self { version, policy, issuers }
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

    /// Reads a request as this policy's `paths:` allow.
    pub fn read<'r>(&self, raw: &'r Raw<'r>) -> Result<Request<'r>, Malformed> {
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
                Verdict::Deny(self.denial(reason, request.ok(), &basis))
            }
        };
        Step::Decided(Decision::new(verdict, basis))
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
        let gateway = self.policy.gateways.of(request);
        is_complete(request, gateway)?;
        // 2. route
        if let Some(asked) = self.preflight(request) {
            return Ok(self.pass_preflight(request, &asked, gateway, basis, witness)?);
        }
        let (route, captures) = self.route(request, request.method, basis)?;
        // 3. identity
        basis.caller = self.identify(request, gateway, route, facts, now)?;
        // 4. policy
        let address = gateway.and_then(|gateway| gateway.client_address(request));
        let scene = Scene { caller: &basis.caller, captures: &captures, address };
        self.permit(request, route, &scene, &mut basis.rule, witness)?;
        let lent = gateway.map_or(&[][..], |gateway| &*gateway.headers);
        meet(route, &condition::Scene { request, who: scene, lent, now })?;
        // What passed every gate is told who calls.
        let strip = route.strip.then_some(Strip::Credentials);
        Ok(self.grant(request, gateway, (route, &captures), &basis.caller, strip)?)
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

    /// Fills the caller's slots with what the route accepts. A credential that is there and bad is a denial.
    fn identify(
        &self,
        request: &Request<'_>,
        gateway: Option<&Gateway>,
        route: &Route,
        facts: &Facts,
        now: Timestamp,
    ) -> Result<Caller, Stop> {
        if matches!(route.rule, Rule::Public) {
            return Ok(Caller::default());
        }
        let (workload, standing) = self.workload(request, gateway, route)?;
        let caller = Caller { user: self.user(request, route, facts, now)?, workload, app: None, standing };
        match &route.rule {
            // A workload that is not the right one is told so; anybody else may come back with a token.
            Rule::Where(rule) if caller.acting().is_none() && (caller.workload.is_none() || rule.asks_for_users()) => {
                Err(Reason::CredentialMissing.into())
            }
            Rule::Where(_) | Rule::Anyone | Rule::Public => Ok(caller),
        }
    }

    /// The workload that the gateway names, where it is believed about certificates.
    fn workload(
        &self,
        request: &Request<'_>,
        gateway: Option<&Gateway>,
        route: &Route,
    ) -> Result<(Option<Arc<Identity>>, Standing), Reason> {
        if self.policy.services.is_empty() {
            Ok((None, Standing::Acts))
        } else if gateway.is_some_and(|gateway| gateway.certificate) {
            self.policy.services.workload(request.principal, route.id)
        } else {
            Ok((None, Standing::Untold))
        }
    }

    fn user(
        &self,
        request: &Request<'_>,
        route: &Route,
        facts: &Facts,
        now: Timestamp,
    ) -> Result<Option<Arc<Identity>>, Stop> {
        let sources = self.accepted(route).flat_map(|(_, issuer)| issuer.policy().sources.iter());
        let sources = sources.filter(|source| route.reads(source));
        let Some(presented) = credential::find(request, sources)? else { return Ok(None) };
        let speaks_from = |issuer: &Issuer| issuer.policy().sources.contains(presented.source);
        let hash = issuer::hash(&presented.token);
        let remembered = self
            .accepted(route)
            .filter(|(_, issuer)| speaks_from(issuer) && issuer.remembers(now))
            .find_map(|(_, issuer)| Some((issuer, issuer.remembered(&hash, now)?)));
        let (issuer, identity) = match remembered {
            Some((issuer, identity)) => (issuer, identity?),
            None => {
                let token = Unverified::read(&presented.token)?;
                let (id, issuer) = self
                    .accepted(route)
                    .find(|(_, issuer)| token.issuer() == Some(&*issuer.policy().tokens.issuer) && speaks_from(issuer))
                    .ok_or(Reason::IssuerRefused)?;
                (issuer, verify(id, issuer, hash, token, facts, now)?)
            }
        };
        if !route.audience.is_empty() {
            issuer.policy().tokens.audience.check_for(&route.audience, identity.claims())?;
        }
        if matches!(presented.source, Source::Cookie(_)) && request.is_unsafe() && !is_same_site(request, issuer) {
            return Err(Reason::CrossSite.into());
        }
        Ok(Some(match &self.policy.grants {
            Some(grants) => grants.raise(identity, issuer, now),
            None => identity,
        }))
    }

    fn accepted<'s>(&'s self, route: &'s Route) -> impl Iterator<Item = (IssuerId, &'s Arc<Issuer>)> {
        route.issuers.iter().filter_map(|id| Some((*id, self.issuers.get(usize::from(id.0))?)))
    }

    /// Forbids, then guards, then the route's own forbid and rule.
    fn permit(
        &self,
        request: &Request<'_>,
        route: &Route,
        scene: &Scene<'_>,
        decided: &mut Option<RuleRef>,
        witness: &mut impl Witness,
    ) -> Result<(), Reason> {
        for (at, forbid) in (0_u32..).zip(&self.policy.forbids) {
            *decided = Some(RuleRef::Forbid(at));
            // What cannot be told not to hold is forbidden.
            if forbid.rule.eval(scene, witness.words(RuleRef::Forbid(at), scene)) != Truth::False {
                return Err(Reason::Forbidden);
            }
        }
        let mut unmet = Ok(());
        self.policy.covers.for_each(&request.host, request.method, &request.path, |at, captures| {
            let (Ok(place), Some(guard)) = (u32::try_from(at), self.policy.guards.get(at)) else { return };
            if unmet.is_ok() {
                *decided = Some(RuleRef::Guard(place));
                let scene = Scene { captures, ..*scene };
                unmet = require(&guard.rule, &scene, Reason::GuardUnmet, witness.words(RuleRef::Guard(place), &scene));
            }
        });
        unmet?;
        if let Some(deny) = &route.deny {
            let own = RuleRef::RouteForbid(route.id);
            *decided = Some(own);
            if deny.rule.eval(scene, witness.words(own, scene)) != Truth::False {
                return Err(Reason::Forbidden);
            }
        }
        *decided = Some(RuleRef::Route(route.id));
        match &route.rule {
            Rule::Public | Rule::Anyone => Ok(()),
            Rule::Where(rule) => {
                require(rule, scene, Reason::RuleUnmet, witness.words(RuleRef::Route(route.id), scene))?;
                // An address, or not to be another service, is no identity: it may hold of nobody.
                scene.caller.acting().map(drop).ok_or(Reason::CredentialMissing)
            }
        }
    }

    /// What the upstream is told, and which credentials it is not to see.
    fn grant(
        &self,
        request: &Request<'_>,
        gateway: Option<&Gateway>,
        (route, captures): (&Route, &Captures<'_>),
        caller: &Caller,
        strip: Option<Strip>,
    ) -> Result<Grant, Reason> {
        let mut grant = route.contract.grant(request, gateway, caller, (&route.key, captures))?;
        let carriers = &self.policy.carriers;
        if let Some(how) = strip.or(carriers.any_exposed().then_some(Strip::Exposed)) {
            let stripped = carriers.strip(request, &grant, how)?;
            if stripped != Stripped::default() {
                grant.own.get_or_insert_default().stripped = stripped;
            }
        }
        Ok(grant)
    }

    /// How to tell the caller.
    fn denial(&self, reason: Reason, request: Option<&Request<'_>>, basis: &Basis) -> Denial {
        let denial = Denial::because(reason);
        let Some(request) = request else { return denial };
        let route = basis.route.and_then(|id| self.policy.route(id));
        let page = request.seen.origin.and_then(|origin| self.policy.sharing(&request.host, route)?.lists(origin));
        let denial = denial.for_page(page);
        if request.is_grpc() {
            return denial.for_grpc();
        }
        let denial = denial.in_form(accept::preferred(request.header(b"accept")));
        match (reason, self.policy.sign_in(route), route.map(|route| &route.rule)) {
            (Reason::ScopeMissing, _, Some(Rule::Where(rule))) => match scopes(rule) {
                Some(scopes) => denial.with_scope(scopes),
                None => denial,
            },
            (_, Some(sign_in), _) if reason.status() == 401 && request.is_navigation() => {
                denial.with_location(sign_in.location(request, self.policy.carriers.queries()))
            }
            _ => denial,
        }
    }
}

/// A check without `:method` was filtered by the gateway, so that aliases of managed headers may hide from us.
fn is_complete(request: &Request<'_>, gateway: Option<&Gateway>) -> Result<(), Reason> {
    let told = request.seen.complete || gateway.is_some_and(|gateway| gateway.filtered_headers);
    if told { Ok(()) } else { Err(Reason::HeadersFiltered) }
}

/// Verifies a token with what its issuer has, or asks for newer keys where those may help.
fn verify(
    id: IssuerId,
    issuer: &Issuer,
    hash: [u8; 32],
    token: Unverified,
    facts: &Facts,
    now: Timestamp,
) -> Result<Arc<Identity>, Stop> {
    if issuer.suspended() {
        return Err(Reason::IssuerSuspended.into());
    }
    let refused = if issuer.is_stale(now) {
        Refused::KeysMayHelp(Reason::KeysUnavailable)
    } else {
        match issuer.verify(hash, token, now) {
            Ok(identity) => return Ok(identity),
            Err(refused) => refused,
        }
    };
    let reason = match refused {
        Refused::Deny(reason) => return Err(reason.into()),
        Refused::KeysMayHelp(reason) => reason,
    };
    match facts.keys.filter(|(answered, _)| *answered == id) {
        None if issuer.may_ask(now) => Err(Stop::Ask(Question::Keys(id))),
        // There is a key of this name, and it did not sign this.
        _ if reason == Reason::SignatureInvalid => Err(reason.into()),
        Some((_, NoNews::Unreachable)) => Err(Reason::KeysUnavailable.into()),
        None | Some((_, NoNews::Unknown | NoNews::TooSoon)) => Err(issuer.keyless(reason).into()),
    }
}

/// A guard or a rule must be true: false and unknown both deny.
fn require(rule: &Expr, scene: &Scene<'_>, otherwise: Reason, watch: &mut impl Watch) -> Result<(), Reason> {
    match rule.eval(scene, watch) {
        Truth::True => Ok(()),
        Truth::False | Truth::Unknown if scene.caller.user.is_none() && rule.asks_for_users() => {
            Err(Reason::CredentialMissing)
        }
        Truth::Unknown => Err(Reason::FactUnknown),
        Truth::False if otherwise == Reason::RuleUnmet && scopes_would_help(rule, scene) => Err(Reason::ScopeMissing),
        Truth::False => Err(otherwise),
    }
}

/// A route's condition must be true: false and what cannot be told both deny.
fn meet(route: &Route, scene: &condition::Scene<'_>) -> Result<(), Reason> {
    let Some(condition) = &route.condition else { return Ok(()) };
    let reason = match condition.holds(scene) {
        Ok(true) => return Ok(()),
        Ok(false) => Reason::ConditionUnmet,
        Err(_) => Reason::ConditionFailed,
    };
    let would_signing_in_help = scene.who.caller.acting().is_none() && condition.is_about_caller();
    Err(if would_signing_in_help { Reason::CredentialMissing } else { reason })
}

/// Whether the rule would hold for this caller if it had been given every scope.
fn scopes_would_help(rule: &Expr, scene: &Scene<'_>) -> bool {
    let mut words = Words::default();
    let _ = rule.eval(scene, &mut words);
    let truth = |at: WordId, word: &Word| if matches!(word, Word::Scope(_)) { Truth::True } else { words.truth(at) };
    rule.suppose(&truth) == Truth::True
}

/// The scopes that a rule names, separated by spaces (RFC 6750 §3). One that a challenge cannot hold as it is (RFC 6749
/// §3.3) is left out.
fn scopes(rule: &Expr) -> Option<Box<str>> {
    let is_token = |name: &str| name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    let names = rule.words().filter_map(|(_, word)| if let Word::Scope(name) = word { Some(&**name) } else { None });
    let names: Vec<&str> = names.filter(|name| is_token(name)).collect();
    (!names.is_empty()).then(|| names.join(" ").into())
}

/// Whether a request with a cookie comes from the site itself: as the browser says, or from an origin of the issuer's
/// list. A caller that says neither is refused: an attacker's page can make one that does not.
fn is_same_site(request: &Request<'_>, issuer: &Issuer) -> bool {
    matches!(request.seen.fetch_site, Some(b"same-origin" | b"none"))
        || request
            .seen
            .origin
            .is_some_and(|origin| issuer.policy().origins.iter().any(|listed| listed.as_bytes() == origin))
}
