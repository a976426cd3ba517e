//! One issuer as a wall: its own keys, its own token rules, its own memory of what it verified.

mod asserted;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::SHA256;

use super::claim::subject_of;
use super::credential::Source;
use super::digest;
use super::grant::Grant;
use super::identity::{Caller, ClaimPath, Identity, Listed, Parts, Principal, Truth};
use super::introspection::{self, Answers, Introspected, Introspection, OpaqueToken};
use super::json::Object;
use super::keys::KeySet;
use super::logout::LogoutPolicy;
use super::proof::Possession;
use super::reason::Reason;
use super::route::Captures;
use super::rule::{Expr, Scene};
use super::time::Timestamp;
use super::token::{self, TokenRules, Unverified, Verified, times_hold};

/// An issuer's place in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IssuerId(pub u16);

/// What the policy says of an issuer.
#[derive(Debug)]
pub struct IssuerPolicy {
    /// Its name in the policy.
    pub name: Arc<str>,
    /// What its tokens must be like.
    pub tokens: TokenRules,
    /// How its tokens are proven to be in the right hands.
    pub proof: Possession,
    /// Where its tokens are looked for.
    pub sources: Box<[Source]>,
    /// Sites whose pages may send its cookie with an unsafe request.
    pub origins: Box<[Box<str>]>,
    /// The claim that lists roles.
    pub roles: Option<ClaimPath>,
    /// The claim that lists groups.
    pub groups: Option<ClaimPath>,
    /// The claim that lists scopes.
    pub scopes: ClaimPath,
    /// Whether a list that is missing counts as empty; otherwise it is unknown.
    pub missing_is_empty: bool,
    /// The roles that it may speak of.
    pub may_grant: MayGrant,
    /// What its tokens must meet beyond their form.
    pub require: Option<Expr>,
    /// The roles that the policy derives, each after those that it is made of.
    pub derived: Box<[(Arc<str>, Expr)]>,
    /// Whose logout tokens count; none where that is `None`.
    pub logout: Option<Box<LogoutPolicy>>,
    /// What its subjects are prefixed with.
    pub subject_prefix: Box<str>,
    /// Beginnings that its subjects must not have: the prefixes of other issuers, where it has none itself.
    pub foreign_prefixes: Box<[Box<str>]>,
    /// Whether it is another portcullis, whose tokens say where a principal comes from.
    pub relays: bool,
    /// Whether its keys come from a feed, and so may be asked for.
    pub fed: bool,
    /// Whether each key is asked for by its kid, a UUID, rather than all of them together.
    pub by_kid: bool,
    /// How long after a fetch its keys are not asked for again.
    pub cooldown: Duration,
    /// How long after the last good fetch its keys are still used.
    pub max_stale: Duration,
    /// How it is asked about tokens that are no JWTs.
    pub introspection: Option<Introspection>,
    /// How many bytes of verified identities are remembered.
    pub memory: u64,
    /// For how many different contracts of headers an identity may be asked.
    pub contracts: usize,
    /// A hash of all the above: an issuer is replaced only when this or its keys changed.
    pub digest: [u8; 32],
}

/// The roles that an issuer may speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MayGrant {
    /// All of them.
    Any,
    /// Names, or beginnings of names that end in `*`.
    Only(Box<[Box<str>]>),
}

impl MayGrant {
    /// Whether it may speak of this role.
    #[must_use]
    pub fn covers(&self, role: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(patterns) => patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => role.starts_with(start),
                None => role == &**pattern,
            }),
        }
    }
}

/// What is known of an issuer's keys.
#[derive(Clone, Debug, Default)]
pub struct KeyState {
    /// The usable keys.
    pub keys: KeySet,
    /// When they were last fetched with success.
    pub fetched: Option<Timestamp>,
    /// When a fetch last ended, well or badly.
    pub attempted: Option<Timestamp>,
    /// Whether that fetch failed.
    pub failed: bool,
    /// Whether the keys are those that were kept on disk by an earlier run.
    pub from_disk: bool,
}

/// The lists of an identity as they are said, before it is asked who may say so.
struct Lists {
    roles: Listed,
    groups: Listed,
    scopes: Listed,
}

/// An issuer ready to verify tokens.
pub struct Issuer {
    policy: Arc<IssuerPolicy>,
    state: KeyState,
    verified: Arc<Memory>,
    /// What it answered about opaque tokens, where it is asked.
    answers: Option<Arc<Answers>>,
    suspended: bool,
}

type Memory = quick_cache::sync::Cache<[u8; 32], Arc<Identity>, Weight, foldhash::fast::RandomState>;

#[derive(Clone)]
struct Weight;

impl quick_cache::Weighter<[u8; 32], Arc<Identity>> for Weight {
    fn weight(&self, _: &[u8; 32], identity: &Arc<Identity>) -> u64 {
        u64::try_from(identity.weight()).unwrap_or(u64::MAX).saturating_add(96)
    }
}

/// Why no identity came of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The token is refused.
    Deny(Reason),
    /// The keys do not fit it; newer ones might.
    KeysMayHelp(Reason),
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self::Deny(reason)
    }
}

impl Issuer {
    /// An issuer with nothing verified yet.
    #[must_use]
    pub fn new(policy: Arc<IssuerPolicy>, state: KeyState) -> Self {
        // Only a guess, for which room is made at once: too small a one costs a little when the tables grow.
        let items = usize::try_from(policy.memory / 16_384).unwrap_or(usize::MAX);
        let verified =
            Memory::with(items, policy.memory, Weight, foldhash::fast::RandomState::default(), Default::default());
        let answers = policy.introspection.as_ref().map(|_| Arc::new(Answers::new(policy.memory)));
        Self { policy, state, verified: Arc::new(verified), answers, suspended: false }
    }

    /// The same issuer, suspended or not: nothing of its passes while it is, remembered or new.
    #[must_use]
    pub fn with_suspension(&self, suspended: bool) -> Self {
        let (policy, verified) = (Arc::clone(&self.policy), Arc::clone(&self.verified));
        Self { policy, state: self.state.clone(), verified, answers: self.answers.clone(), suspended }
    }

    /// Whether the operator has suspended it.
    #[must_use]
    pub fn suspended(&self) -> bool {
        self.suspended
    }

    /// The same issuer after a fetch. What was verified stays remembered only where the usable keys are the same; what
    /// it answered about opaque tokens has nothing to do with keys.
    #[must_use]
    pub fn refreshed(&self, state: KeyState) -> Self {
        let (answers, suspended) = (self.answers.clone(), self.suspended);
        if state.keys.digest() == self.state.keys.digest() {
            Self { policy: Arc::clone(&self.policy), state, verified: Arc::clone(&self.verified), answers, suspended }
        } else {
            Self { answers, suspended, ..Self::new(Arc::clone(&self.policy), state) }
        }
    }

    /// What it answered about opaque tokens, where it is asked.
    #[must_use]
    pub fn answers(&self) -> Option<&Answers> {
        self.answers.as_deref()
    }

    /// An opaque token under the key of this issuer's answers.
    #[must_use]
    pub fn opaque(&self, token: &[u8]) -> Option<OpaqueToken> {
        let url = &self.policy.introspection.as_ref()?.url;
        let key = digest::of("introspection", &[&self.policy.digest, url.as_bytes(), token]);
        OpaqueToken::new(token, key)
    }

    /// Takes what it answered about a token, or why nothing came, and remembers it.
    #[must_use]
    pub fn introspected(&self, token: &OpaqueToken, answer: Result<&[u8], Reason>, now: Timestamp) -> Introspected {
        let (Some(how), Some(answers)) = (&self.policy.introspection, &self.answers) else {
            return Introspected::unavailable(token);
        };
        let told = answer.and_then(|answer| {
            let verified = introspection::read(answer, &self.policy.tokens, how, now)?;
            self.identity(verified)
        });
        answers.remember(*token.key(), &told, how.cache, now);
        Introspected { key: *token.key(), told }
    }

    /// What the policy says of it.
    #[must_use]
    pub fn policy(&self) -> &Arc<IssuerPolicy> {
        &self.policy
    }

    /// What is known of its keys.
    #[must_use]
    pub fn state(&self) -> &KeyState {
        &self.state
    }

    /// Whether its keys may be asked for now.
    pub(super) fn may_ask(&self, now: Timestamp) -> bool {
        self.policy.fed && self.state.attempted.is_none_or(|at| now < at || now.since(at) >= self.policy.cooldown)
    }

    /// Why there is no key that fits, when asking is of no use.
    pub(super) fn keyless(&self, otherwise: Reason) -> Reason {
        let none = self.state.keys.is_empty() && !self.policy.by_kid;
        let unsure = self.policy.fed && (none || self.state.failed);
        if unsure { Reason::KeysUnavailable } else { otherwise }
    }

    /// Whether the keys are too old to be believed.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp) -> bool {
        let KeyState { fetched, from_disk, .. } = self.state;
        // What a file says of its age is not believed by a clock that is behind it.
        let is_old = |at| now.since(at) > self.policy.max_stale || (from_disk && now < at);
        self.policy.fed && fetched.is_some_and(is_old)
    }

    /// Whether tokens that it verified may pass by being remembered.
    pub(super) fn remembers(&self, now: Timestamp) -> bool {
        !self.suspended && !self.is_stale(now)
    }

    /// The identity that this very token stood for when it was verified, if it is remembered and its times still hold.
    pub(super) fn remembered(&self, hash: &[u8; 32], now: Timestamp) -> Option<Result<Arc<Identity>, Reason>> {
        let identity = self.verified.get(hash)?;
        Some(self.holds(&identity, now).map(|()| identity))
    }

    /// What it answered about an opaque token, while that is believed.
    #[must_use]
    pub fn already(&self, token: &OpaqueToken, now: Timestamp) -> Option<Introspected> {
        self.told(token, now).map(|told| Introspected { key: *token.key(), told })
    }

    pub(super) fn told(&self, token: &OpaqueToken, now: Timestamp) -> Option<Result<Arc<Identity>, Reason>> {
        self.answers.as_ref()?.find(token.key(), now)
    }

    /// Whether the times of an identity still hold.
    pub(super) fn holds(&self, identity: &Identity, now: Timestamp) -> Result<(), Reason> {
        // A clock that is set back must not find what it would not have verified, so `iat` counts here too.
        let not_before = identity.not_before().max(identity.issued());
        times_hold(not_before, identity.expires(), self.policy.tokens.leeway, now)
    }

    /// Verifies a token, makes an identity of it and remembers that.
    pub(super) fn verify(&self, hash: [u8; 32], token: Unverified, now: Timestamp) -> Result<Arc<Identity>, Refused> {
        let verified = token.verify(&self.state.keys, &self.policy.tokens, now).map_err(|refused| match refused {
            token::Refused::Deny(Reason::SignatureInvalid) => Refused::KeysMayHelp(Reason::SignatureInvalid),
            token::Refused::Deny(reason) => Refused::Deny(reason),
            token::Refused::KeyUnknown => Refused::KeysMayHelp(Reason::KeyUnknown),
        })?;
        let identity = self.identity(verified)?;
        self.verified.insert(hash, Arc::clone(&identity));
        Ok(identity)
    }

    fn identity(&self, verified: Verified) -> Result<Arc<Identity>, Reason> {
        let lists = self.lists(&verified.claims);
        self.of_lists(verified, lists)
    }

    /// The lists that a token's claims hold.
    fn lists(&self, claims: &Object) -> Lists {
        let policy = &*self.policy;
        let read = |path: Option<&ClaimPath>| {
            let missing = if policy.missing_is_empty { Listed::Known(Box::default()) } else { Listed::Unknown };
            if path.is_some_and(|path| path.is_elsewhere(claims)) {
                return Listed::Elsewhere;
            }
            path.and_then(|path| path.read_list(claims)).unwrap_or(missing)
        };
        let (roles, groups) = (read(policy.roles.as_ref()), read(policy.groups.as_ref()));
        Lists { roles, groups, scopes: read(Some(&policy.scopes)) }
    }

    fn of_lists(&self, verified: Verified, lists: Lists) -> Result<Arc<Identity>, Reason> {
        let policy = &*self.policy;
        let Verified { claims, subject, tenant, token_id, issued, not_before, expires, kid } = verified;
        let Lists { roles, groups, scopes } = lists;
        let listed = match roles {
            Listed::Known(roles) => {
                Listed::Known(roles.iter().filter(|role| policy.may_grant.covers(role)).cloned().collect())
            }
            untold @ (Listed::Unknown | Listed::Elsewhere) => untold,
        };
        let subject = subject_of(tenant.as_deref(), subject);
        if policy.foreign_prefixes.iter().any(|prefix| subject.starts_with(&**prefix)) {
            return Err(Reason::RequirementUnmet);
        }
        let subject = if policy.subject_prefix.is_empty() {
            subject
        } else {
            format!("{}{subject}", policy.subject_prefix).into()
        };
        let principal = Principal { issuer: Arc::clone(&policy.name), subject };
        let (contracts, key_id) = (policy.contracts, kid.map(Arc::from));
        let binding = policy.proof.binding(&claims);
        let parts = Parts {
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
        };
        self.derive(Identity::new(parts))
    }

    /// An identity of this issuer with these grants, its roles derived anew. A grant is the operator's word, which
    /// `may_grant` does not limit; what follows from it together with the token is.
    pub(super) fn raised(&self, identity: &Identity, granted: &[Grant]) -> Arc<Identity> {
        let Caller { user, .. } = self.with_roles(identity.with_grants(granted));
        user.unwrap_or_else(|| Arc::new(identity.clone()))
    }

    /// Adds the roles that the policy derives, then holds the identity against the issuer's own rule.
    fn derive(&self, identity: Identity) -> Result<Arc<Identity>, Reason> {
        let caller = self.with_roles(identity);
        if self.policy.require.as_ref().is_some_and(|rule| holds(rule, &caller) != Truth::True) {
            return Err(Reason::RequirementUnmet);
        }
        caller.user.ok_or(Reason::InternalError)
    }

    fn with_roles(&self, identity: Identity) -> Caller {
        let mut caller = Caller { user: Some(Arc::new(identity)), ..Caller::default() };
        for (name, rule) in &self.policy.derived {
            let granted = caller.user.iter().any(|identity| identity.grants().iter().any(|grant| grant.role == *name));
            let truth = match self.policy.may_grant.covers(name) {
                _ if granted => Truth::True,
                true => holds(rule, &caller),
                false => Truth::False,
            };
            if let Some(identity) = caller.user.as_mut().and_then(Arc::get_mut) {
                identity.derive_role(name, truth);
            }
        }
        caller
    }
}

fn holds(rule: &Expr, caller: &Caller) -> Truth {
    rule.eval(&Scene { caller, captures: &Captures::default(), address: None }, &mut ())
}

/// The hash by which a verified token is remembered. Never a key of revocation: ECDSA signatures are malleable.
#[must_use]
pub(super) fn hash(token: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&SHA256, token).as_ref());
    hash
}
