//! Counters: written by one core each, without contention, and added up when they are read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::authz::policy::{Policy, PolicyId};
use crate::authz::reason::Reason;
use crate::authz::route::RouteId;

/// Upper bounds of the latency histogram, in microseconds.
pub const BOUNDS: [u64; 14] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 200_000];

/// How many routes have a counter of their own; the others share one.
const MAX_ROUTES: usize = 1_000;

/// A counter that one core writes and any thread reads.
#[derive(Default)]
struct Counter(AtomicU64);

impl Counter {
    /// Not a read-modify-write: no other core writes it.
    fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one core.
pub struct CoreMetrics {
    allowed: Counter,
    denied: [Counter; Reason::ALL.len()],
    buckets: [Counter; BOUNDS.len()],
    elapsed_micros: Counter,
    routes: ArcSwapOption<RouteCounters>,
}

/// The counters of one policy's routes.
struct RouteCounters {
    policy: Arc<Policy>,
    /// Allowed and denied, by route; the last pair is for all routes beyond the cap.
    counts: Box<[[Counter; 2]]>,
}

impl Default for CoreMetrics {
    fn default() -> Self {
        Self {
            allowed: Counter::default(),
            denied: std::array::from_fn(|_| Counter::default()),
            buckets: std::array::from_fn(|_| Counter::default()),
            elapsed_micros: Counter::default(),
            routes: ArcSwapOption::empty(),
        }
    }
}

impl CoreMetrics {
    /// Counts a decision.
    pub fn count(
        &self,
        policy: Option<&Arc<Policy>>,
        route: Option<RouteId>,
        reason: Option<Reason>,
        elapsed: Duration,
    ) {
        match reason {
            None => self.allowed.add(1),
            Some(reason) => {
                if let Some(counter) = self.denied.get(usize::from(reason as u8)) {
                    counter.add(1);
                }
            }
        }
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.elapsed_micros.add(micros);
        if let Some(bucket) = BOUNDS.iter().position(|bound| micros <= *bound).and_then(|place| self.buckets.get(place))
        {
            bucket.add(1);
        }
        if let (Some(policy), Some(route)) = (policy, route) {
            self.count_route(policy, route, reason.is_some());
        }
    }

    fn count_route(&self, policy: &Arc<Policy>, route: RouteId, denied: bool) {
        let guard = self.routes.load();
        let counters = match guard.as_ref().filter(|counters| Arc::ptr_eq(&counters.policy, policy)) {
            Some(counters) => counters,
            None => &self.start_routes(policy),
        };
        let last = counters.counts.len().saturating_sub(1);
        let place = usize::try_from(route.0).unwrap_or(last).min(last);
        if let Some(counter) = counters.counts.get(place).and_then(|pair| pair.get(usize::from(denied))) {
            counter.add(1);
        }
    }

    /// A policy that is new to this core: its routes count from zero.
    fn start_routes(&self, policy: &Arc<Policy>) -> Arc<RouteCounters> {
        let length = policy.routes.len().min(MAX_ROUTES).saturating_add(1);
        let counts = std::iter::repeat_with(Default::default).take(length).collect();
        let counters = Arc::new(RouteCounters { policy: Arc::clone(policy), counts });
        self.routes.store(Some(Arc::clone(&counters)));
        counters
    }
}

/// The counters of all cores.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Vec<Arc<CoreMetrics>>>>);

/// All counters added up.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Checks allowed.
    pub allowed: u64,
    /// Checks denied, by reason.
    pub denied: BTreeMap<Reason, u64>,
    /// Checks by latency: how many fell into each bucket of [`BOUNDS`].
    pub buckets: [u64; BOUNDS.len()],
    /// The sum of latencies, in microseconds.
    pub elapsed_micros: u64,
    /// Allowed and denied by route key, of the policy that is newest.
    pub routes: BTreeMap<Arc<str>, [u64; 2]>,
}

impl Metrics {
    /// The counters of one more core.
    #[must_use]
    pub fn core(&self) -> Arc<CoreMetrics> {
        let core = Arc::<CoreMetrics>::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&core));
        core
    }

    /// Adds all cores up. Routes count for the policy of this id only.
    #[must_use]
    pub fn totals(&self, policy: Option<PolicyId>) -> Totals {
        let mut totals = Totals::default();
        for core in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            totals.allowed = totals.allowed.saturating_add(core.allowed.read());
            for (reason, counter) in Reason::ALL.iter().zip(&core.denied) {
                add(totals.denied.entry(*reason).or_default(), counter);
            }
            for (total, counter) in totals.buckets.iter_mut().zip(&core.buckets) {
                add(total, counter);
            }
            add(&mut totals.elapsed_micros, &core.elapsed_micros);
            if let Some(counters) = core.routes.load().as_ref().filter(|counters| Some(counters.policy.id) == policy) {
                counters.add_to(&mut totals.routes);
            }
        }
        totals
    }
}

impl RouteCounters {
    fn add_to(&self, routes: &mut BTreeMap<Arc<str>, [u64; 2]>) {
        let own = self.policy.routes.iter().take(MAX_ROUTES).map(|route| Arc::clone(&route.key));
        for (name, pair) in own.chain(std::iter::once(Arc::from("(other)"))).zip(&self.counts) {
            for (total, counter) in routes.entry(name).or_default().iter_mut().zip(pair) {
                add(total, counter);
            }
        }
    }
}

fn add(total: &mut u64, counter: &Counter) {
    *total = total.saturating_add(counter.read());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_added_up() {
        let metrics = Metrics::default();
        let (a, b) = (metrics.core(), metrics.core());
        a.count(None, None, None, Duration::from_micros(7));
        a.count(None, None, Some(Reason::NoRoute), Duration::from_micros(7));
        b.count(None, None, Some(Reason::NoRoute), Duration::from_secs(9));
        let totals = metrics.totals(None);
        assert_eq!((totals.allowed, totals.denied[&Reason::NoRoute]), (1, 2));
        assert_eq!((totals.buckets[1], totals.buckets.iter().sum::<u64>()), (2, 2));
        assert_eq!(totals.elapsed_micros, 9_000_014);
    }
}
