//! `services:` workloads by name: whom a caller's certificate names, as the gateway says, and where that is enough.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::certificate::SpiffeId;
use super::identity::{Caller, Identity, Standing, Truth};
use super::route::{Captures, RouteId};
use super::rule::{Expr, Scene, Word};

/// The services of a policy.
#[derive(Debug, Default)]
pub struct Services {
    exact: HashMap<Box<str>, Arc<Service>, foldhash::fast::RandomState>,
    /// By all but the last segment of a path, without the slash that ends it.
    below: HashMap<Box<str>, Arc<Service>, foldhash::fast::RandomState>,
}

/// Which workloads are a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workload {
    /// This one.
    Exact(SpiffeId),
    /// Each whose ID is this one and one segment more (`spiffe://td/ns/shop/*`).
    Below(SpiffeId),
}

/// One service.
#[derive(Debug)]
struct Service {
    /// Its identity, but for the workload's own ID.
    identity: Arc<Identity>,
    /// The routes whose rules name it.
    routes: HashSet<RouteId, foldhash::fast::RandomState>,
}

impl Services {
    /// Names workloads. `derived` are the policy's roles, each after those that it is made of; `rules` those of routes.
    pub fn new<'r>(
        named: &[(Arc<str>, Vec<Workload>)],
        derived: &[(Arc<str>, Expr)],
        rules: impl Iterator<Item = (RouteId, &'r Expr)>,
    ) -> Self {
        let mut services = Self::default();
        if named.is_empty() {
            return services;
        }
        let mut routes: HashMap<Box<str>, HashSet<RouteId, _>> = HashMap::new();
        for (id, rule) in rules {
            for name in Self::asked(rule, derived) {
                routes.entry(name).or_default().insert(id);
            }
        }
        for (name, workloads) in named {
            let identity = derive(Identity::of_workload(name, ""), derived);
            let routes = routes.remove(&**name).unwrap_or_default();
            let service = Arc::new(Service { identity: Arc::new(identity), routes });
            for workload in workloads {
                let (map, id) = match workload {
                    Workload::Exact(id) => (&mut services.exact, id),
                    Workload::Below(id) => (&mut services.below, id),
                };
                map.insert(id.as_str().into(), Arc::clone(&service));
            }
        }
        services
    }

    /// The services that a rule names, itself or by a role.
    fn asked(rule: &Expr, derived: &[(Arc<str>, Expr)]) -> HashSet<Box<str>> {
        let mut asked = HashSet::new();
        let mut open: Vec<&Expr> = vec![rule];
        let mut seen: HashSet<&str> = HashSet::new();
        while let Some(rule) = open.pop() {
            for (_, word) in rule.words() {
                if let Word::Service(name) = word {
                    asked.insert(name.clone());
                } else if let Word::Role(name) = word
                    && seen.insert(name)
                {
                    open.extend(derived.iter().filter(|(role, _)| **role == **name).map(|(_, rule)| rule));
                }
            }
        }
        asked
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty()
    }

    /// The workloads as the policy writes them, in order, and the service that each of them is.
    #[must_use]
    pub fn workloads(&self) -> BTreeMap<String, Arc<str>> {
        let name = |service: &Service| service.identity.service().map(Arc::clone);
        let exact = self.exact.iter().filter_map(|(id, service)| Some((id.to_string(), name(service)?)));
        let below = self.below.iter().filter_map(|(above, service)| Some((format!("{above}/*"), name(service)?)));
        exact.chain(below).collect()
    }

    /// Whether this service calls by itself on a route, and does not only carry the requests of others there; `None`
    /// where there is no such service.
    #[must_use]
    pub fn acts(&self, name: &str, route: RouteId) -> Option<bool> {
        let mut all = self.exact.values().chain(self.below.values());
        let found = all.find(|one| one.identity.service().is_some_and(|service| **service == *name));
        found.map(|service| service.routes.contains(&route))
    }

    /// The ID of some workload that is this service.
    #[must_use]
    pub fn example(&self, name: &str) -> Option<String> {
        let is = |service: &Service| service.identity.service().is_some_and(|service| **service == *name);
        let exact = self.exact.iter().filter(|(_, service)| is(service)).map(|(id, _)| id.to_string());
        let below = self.below.iter().filter(|(_, service)| is(service)).map(|(above, _)| format!("{above}/any"));
        exact.min().or_else(|| below.min())
    }

    /// The workload of this ID, and what it counts for on a route; none where no service is of this ID.
    #[must_use]
    pub(super) fn workload(&self, id: &SpiffeId, route: RouteId) -> (Option<Arc<Identity>>, Standing) {
        let below = || self.below.get(id.as_str().rsplit_once('/')?.0);
        let Some(service) = self.exact.get(id.as_str()).or_else(below) else { return (None, Standing::Carries) };
        let standing = if service.routes.contains(&route) { Standing::Acts } else { Standing::Carries };
        (Some(Arc::new(service.identity.with_subject(id.shared()))), standing)
    }
}

/// Adds the roles that the policy derives.
fn derive(identity: Identity, derived: &[(Arc<str>, Expr)]) -> Identity {
    derived.iter().fold(identity, |mut identity, (name, rule)| {
        let caller = Caller { workload: Some(Arc::new(identity.clone())), ..Caller::default() };
        let scene = Scene { caller: &caller, captures: &Captures::default(), address: None };
        let truth: Truth = rule.eval(&scene, &mut ());
        identity.derive_role(name, truth);
        identity
    })
}
