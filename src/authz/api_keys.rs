//! `api_keys:` which application calls, by the key that it shows; of every key only its hash is known here.

pub mod format;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::credential::{self, Source};
use super::identity::{Caller, Identity, Truth};
use super::policy::Route;
use super::reason::Reason;
use super::request::Request;
use super::route::{Captures, Pattern};
use super::rule::{Expr, Scene, Word};
use super::time::Timestamp;
use format::{KeyHash, Prefix};

/// How many keys of one owner may be live at the same time: the one that is used, and the one that takes its place.
pub const MOST_LIVE: usize = 2;

/// One key, as far as it is known: not the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// What it is called; no other key is called so.
    pub id: Arc<str>,
    /// Whose it is: the subject of who shows it.
    pub owner: Arc<str>,
    /// Its hash.
    pub hash: KeyHash,
    /// From when on it is good, that instant included.
    pub not_before: Option<Timestamp>,
    /// From when on it is good no more, that instant included.
    pub expires: Option<Timestamp>,
    /// Whether it is refused whatever the time.
    pub disabled: bool,
    /// What it gives.
    pub rights: Arc<Rights>,
}

/// What a key gives to who shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Its roles.
    pub roles: Box<[Arc<str>]>,
    /// Its groups.
    pub groups: Box<[Arc<str>]>,
    /// Its scopes.
    pub scopes: Box<[Arc<str>]>,
    /// The requests that it is for: those that one of these covers, or all where there are none.
    pub routes: Box<[Pattern]>,
}

/// Whose keys a route takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Apps {
    /// Nobody's: none is looked for.
    #[default]
    Nobody,
    /// Those of the owners that its rule names, itself or by a role.
    Of(Box<[Box<str>]>),
    /// Everybody's.
    Every,
}

impl Apps {
    /// Whether a key of this owner is taken.
    #[must_use]
    pub fn take(&self, owner: &str) -> bool {
        match self {
            Self::Nobody => false,
            Self::Of(owners) => owners.iter().any(|one| **one == *owner),
            Self::Every => true,
        }
    }

    /// Whether all whose keys are taken here have theirs taken there.
    #[must_use]
    pub fn are_within(&self, wider: &Self) -> bool {
        match self {
            Self::Nobody => true,
            Self::Of(owners) => owners.iter().all(|owner| wider.take(owner)),
            Self::Every => *wider == Self::Every,
        }
    }

    /// The owners that a rule names, itself or by a role; `derived` are the policy's roles.
    #[must_use]
    pub fn named_by(rule: &Expr, derived: &[(Arc<str>, Expr)]) -> Self {
        let mut owners: Vec<Box<str>> = Vec::new();
        let mut open: Vec<&Expr> = vec![rule];
        let mut seen: Vec<&str> = Vec::new();
        while let Some(rule) = open.pop() {
            for (_, word) in rule.words() {
                if let Word::Key(owner) = word {
                    owners.push(owner.clone());
                } else if let Word::Role(name) = word
                    && !seen.contains(&&**name)
                {
                    seen.push(name);
                    open.extend(derived.iter().filter(|(role, _)| **role == **name).map(|(_, rule)| rule));
                }
            }
        }
        owners.sort_unstable();
        owners.dedup();
        if owners.is_empty() { Self::Nobody } else { Self::Of(owners.into()) }
    }
}

/// The keys of a policy, and where they are looked for.
#[derive(Debug)]
pub struct ApiKeys {
    prefix: Prefix,
    /// Each with whether tokens of some issuer may stand there as well.
    sources: Box<[(Source, bool)]>,
    /// The roles that the policy derives, each after those that it is made of.
    derived: Arc<[(Arc<str>, Expr)]>,
    /// For how many contracts there is a place to remember what is told of a key's owner.
    contracts: usize,
    /// In the order of their hashes.
    keys: Box<[Stored]>,
    /// By the first bytes of a hash: where the keys begin whose hashes begin so.
    begin: HashMap<u64, usize, foldhash::fast::RandomState>,
}

/// A key, and who shows it: made when it is first shown, for most of many keys never are.
#[derive(Clone, Debug)]
struct Stored {
    key: ApiKey,
    identity: OnceLock<Arc<Identity>>,
}

impl ApiKeys {
    /// Keys that stand in these places, each of which says whether tokens may stand there as well. No two have one hash.
    #[must_use]
    pub fn new(
        prefix: Prefix,
        sources: Vec<(Source, bool)>,
        derived: &[(Arc<str>, Expr)],
        contracts: usize,
        keys: Vec<ApiKey>,
    ) -> Self {
        let mut keys: Vec<Stored> = keys.into_iter().map(|key| Stored { key, identity: OnceLock::new() }).collect();
        keys.sort_unstable_by_key(|stored| stored.key.hash);
        let mut begin: HashMap<u64, usize, _> = HashMap::with_capacity_and_hasher(keys.len(), Default::default());
        for (at, stored) in keys.iter().enumerate() {
            begin.entry(stored.key.hash.bucket()).or_insert(at);
        }
        Self { prefix, sources: sources.into(), derived: derived.into(), contracts, keys: keys.into(), begin }
    }

    /// What each of its keys begins with.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// Where keys may stand.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().map(|(source, _)| source)
    }

    /// All of them, in the order of their hashes.
    pub fn iter(&self) -> impl Iterator<Item = &ApiKey> {
        self.keys.iter().map(|stored| &stored.key)
    }

    /// The same with other keys in place of some, which are found by their ids: for rehearsals, to which no key is known.
    #[must_use]
    pub fn with_keys(&self, hashes: &HashMap<Arc<str>, KeyHash>) -> Self {
        let changed = |key: &ApiKey| ApiKey { hash: hashes.get(&key.id).copied().unwrap_or(key.hash), ..key.clone() };
        let keys = self.iter().map(changed).collect();
        Self::new(self.prefix.clone(), self.sources.to_vec(), &self.derived, self.contracts, keys)
    }

    /// Whether what stands in this place is one of ours, good or bad: where tokens may stand as well, the prefix tells.
    fn is_own(&self, value: &[u8], source: &Source) -> bool {
        let shared = self.sources.iter().any(|(own, shared)| own == source && *shared);
        !shared || self.prefix.begins(value)
    }

    /// Whether what stands in this place is a key, and so no token.
    pub(super) fn claims(&self, value: &[u8], source: &Source) -> bool {
        self.sources().any(|own| own == source) && self.prefix.begins(value)
    }

    /// Who shows a key with this request; none where none is there, or the route takes nobody's.
    ///
    /// # Errors
    /// A key that is there and is not good here is a denial with its own reason; two are
    /// [`Reason::CredentialAmbiguous`].
    pub(super) fn app(
        &self,
        request: &Request<'_>,
        route: &Route,
        now: Timestamp,
    ) -> Result<Option<Arc<Identity>>, Reason> {
        if route.apps == Apps::Nobody {
            return Ok(None);
        }
        let sources = self.sources().filter(|source| route.reads(source));
        let presented = credential::find_where(request, sources, |value, source| self.is_own(value, source))?;
        let Some(presented) = presented else { return Ok(None) };
        let stored = self.stored(&presented.token)?;
        stored.key.is_good(now)?;
        self.taken(stored, request, route).map(Some)
    }

    /// The application of this name, an owner's or a key's, that nobody has shown a key of.
    ///
    /// # Errors
    /// As for [`Self::app`]; [`Reason::CredentialAmbiguous`] where an owner has keys that give different rights.
    pub(super) fn asserted(
        &self,
        name: &str,
        request: &Request<'_>,
        route: &Route,
        now: Timestamp,
    ) -> Result<Arc<Identity>, Reason> {
        let is_called = |stored: &&Stored| *stored.key.id == *name || *stored.key.owner == *name;
        let mut called = self.keys.iter().filter(is_called).filter(|stored| stored.key.is_live(now));
        let Some(stored) = called.next() else { return Err(Reason::ApiKeyUnknown) };
        if called.any(|other| other.key.rights != stored.key.rights || other.key.owner != stored.key.owner) {
            return Err(Reason::CredentialAmbiguous);
        }
        self.taken(stored, request, route)
    }

    /// Who shows a key, where the route and its own rights take it.
    fn taken(&self, stored: &Stored, request: &Request<'_>, route: &Route) -> Result<Arc<Identity>, Reason> {
        let Stored { key, identity } = stored;
        if !route.apps.take(&key.owner) {
            return Err(Reason::ApiKeyRefused);
        }
        if !key.rights.covers(request) {
            return Err(Reason::ApiKeyRouteRefused);
        }
        Ok(Arc::clone(identity.get_or_init(|| Arc::new(self.identity(key)))))
    }

    /// The key that this is. What is not written as one costs no hash, and no look-up.
    fn stored(&self, value: &[u8]) -> Result<&Stored, Reason> {
        if !self.prefix.fits(value) {
            return Err(Reason::ApiKeyMalformed);
        }
        self.find(&KeyHash::of(value)).ok_or(Reason::ApiKeyUnknown)
    }

    /// Found by the first bytes of its hash, of which who presents a key chooses none; then compared whole, in the same
    /// time whatever differs.
    fn find(&self, hash: &KeyHash) -> Option<&Stored> {
        let alike = self.keys.get(*self.begin.get(&hash.bucket())?..)?;
        alike
            .iter()
            .take_while(|stored| stored.key.hash.bucket() == hash.bucket())
            .find(|stored| verify_slices_are_equal(stored.key.hash.bytes(), hash.bytes()).is_ok())
    }

    fn identity(&self, key: &ApiKey) -> Identity {
        self.derived.iter().fold(Identity::of_app(key, self.contracts), |mut identity, (name, rule)| {
            let caller = Caller { app: Some(Arc::new(identity.clone())), ..Caller::default() };
            let scene = Scene { caller: &caller, captures: &Captures::default(), address: None };
            let truth: Truth = rule.eval(&scene, &mut ());
            identity.derive_role(name, truth);
            identity
        })
    }
}

impl ApiKey {
    /// Whether it is good now.
    ///
    /// # Errors
    /// The reason why it is not.
    fn is_good(&self, now: Timestamp) -> Result<(), Reason> {
        if self.disabled {
            Err(Reason::ApiKeyDisabled)
        } else if self.expires.is_some_and(|expires| now >= expires) {
            Err(Reason::ApiKeyExpired)
        } else if self.not_before.is_some_and(|not_before| now < not_before) {
            Err(Reason::ApiKeyNotYetValid)
        } else {
            Ok(())
        }
    }

    /// Whether it is taken at this time.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.is_good(now).is_ok()
    }
}

impl Rights {
    fn covers(&self, request: &Request<'_>) -> bool {
        let covers = |pattern: &Pattern| pattern.covers(&request.host, request.method, &request.path);
        self.routes.is_empty() || self.routes.iter().any(covers)
    }
}

#[cfg(test)]
mod tests;
