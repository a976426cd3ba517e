//! Tokens that were minted, kept by who calls and for which route, so that a request seldom costs a signature.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::sync::Arc;

use bytes::Bytes;

use super::Minted;
use crate::authz::identity::{Caller, Identity};
use crate::authz::route::RouteId;

/// How much memory they may take, in bytes, with the identities that they hold on to.
const MOST: u64 = 16 << 20;

type Cache = quick_cache::sync::Cache<u64, Arc<Minted>, Weight, foldhash::fast::RandomState>;

pub(super) struct Memory {
    tokens: Cache,
    hasher: foldhash::fast::RandomState,
}

#[derive(Clone)]
struct Weight;

impl quick_cache::Weighter<u64, Arc<Minted>> for Weight {
    fn weight(&self, _: &u64, minted: &Arc<Minted>) -> u64 {
        let Caller { user, workload, app, .. } = &minted.caller;
        let held = [user, workload, app].into_iter().flatten().map(|identity| identity.weight());
        let held = held.fold(minted.value.len(), usize::saturating_add);
        u64::try_from(held).unwrap_or(u64::MAX).saturating_add(192)
    }
}

impl Default for Memory {
    fn default() -> Self {
        let (items, hasher) = (4_096, foldhash::fast::RandomState::default());
        Self { tokens: Cache::with(items, MOST, Weight, hasher.clone(), Default::default()), hasher }
    }
}

/// Tokens are secrets.
impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory(..)")
    }
}

impl Memory {
    /// What was minted for this very caller and route in this half of a lifetime.
    pub fn recall(&self, route: RouteId, caller: &Caller, span: u64) -> Option<Bytes> {
        let minted = self.tokens.get(&self.key(route, caller))?;
        // The key is only a hash: who it was made for is compared.
        (minted.span == span && minted.route == route && is_same(&minted.caller, caller)).then(|| minted.value.clone())
    }

    pub fn keep(&self, minted: Minted) {
        self.tokens.insert(self.key(minted.route, &minted.caller), Arc::new(minted));
    }

    fn key(&self, route: RouteId, caller: &Caller) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        route.0.hash(&mut hasher);
        caller.user.as_ref().map(|user| Arc::as_ptr(user).addr()).hash(&mut hasher);
        for identity in [&caller.workload, &caller.app] {
            identity.as_ref().map(|identity| identity.principal()).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// Whether two callers are told of in the same way. Users are compared by where they are kept, which nothing else can
/// be while a token holds on to them; workloads are made anew for each request.
fn is_same(one: &Caller, two: &Caller) -> bool {
    let user = match (&one.user, &two.user) {
        (Some(one), Some(two)) => Arc::ptr_eq(one, two),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    user && one.standing == two.standing && is_named(&one.workload, &two.workload) && is_named(&one.app, &two.app)
}

fn is_named(one: &Option<Arc<Identity>>, two: &Option<Arc<Identity>>) -> bool {
    match (one, two) {
        (Some(one), Some(two)) => {
            Arc::ptr_eq(one, two)
                || (one.principal() == two.principal() && one.service() == two.service() && one.service().is_some())
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
