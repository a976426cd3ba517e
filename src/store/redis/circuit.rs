//! The circuit: a Redis that keeps failing is not asked by every check, but now and then by one.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many failures in a row open it.
const FAILURES: u32 = 5;
/// How long it stays open at first, and at most.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// Counts failures in a row, and says who may ask.
#[derive(Default)]
pub struct Circuit {
    failures: AtomicU32,
    is_open: AtomicBool,
    open: Mutex<Option<Open>>,
}

struct Open {
    wait: Duration,
    /// When one may ask again.
    probe: Instant,
}

/// Leave to ask, whose outcome is told to [`Circuit::succeeded`] or [`Circuit::failed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// As everyone.
    Asked,
    /// To find out whether it has recovered.
    Probe,
}

impl Circuit {
    /// Leave to ask now, if there is.
    pub fn ask(&self, now: Instant) -> Option<Leave> {
        if !self.is_open() {
            return Some(Leave::Asked);
        }
        let mut open = self.lock();
        let Some(state) = open.as_mut() else { return Some(Leave::Asked) };
        if now < state.probe {
            return None;
        }
        // A probe that is never heard of again holds nobody up for longer.
        state.probe = later(now, state.wait);
        Some(Leave::Probe)
    }

    /// It answered.
    pub fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.is_open() {
            *self.lock() = None;
            self.is_open.store(false, Ordering::Release);
            tracing::info!("the store answers again");
        }
    }

    /// It did not. What was asked before the circuit opened does not keep it open for longer.
    pub fn failed(&self, leave: Leave, now: Instant) {
        if leave == Leave::Asked && self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1) < FAILURES {
            return;
        }
        let mut open = self.lock();
        match (open.as_mut(), leave) {
            (None, _) => {
                *open = Some(Open { wait: FIRST, probe: later(now, FIRST) });
                self.is_open.store(true, Ordering::Release);
                tracing::warn!("the store fails: most operations are refused at once until it answers");
            }
            (Some(state), Leave::Probe) => {
                state.wait = state.wait.saturating_mul(2).min(LONGEST);
                state.probe = later(now, state.wait);
            }
            (Some(_), Leave::Asked) => {}
        }
    }

    /// There is a new connection: the next one who asks finds out.
    pub fn connected(&self, now: Instant) {
        if let Some(state) = self.lock().as_mut() {
            *state = Open { wait: FIRST, probe: now };
        }
    }

    /// Whether most are refused.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between half of it and all of it from now on, by chance: so that replicas do not come back all at once.
pub fn later(now: Instant, wait: Duration) -> Instant {
    let mut chance = [0; 2];
    let _ = aws_lc_rs::rand::fill(&mut chance);
    let half = wait.checked_div(2).unwrap_or_default();
    let part = half.saturating_mul(u32::from(u16::from_be_bytes(chance))).checked_div(u32::from(u16::MAX));
    now.checked_add(half.saturating_add(part.unwrap_or_default())).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Circuit {
        let circuit = Circuit::default();
        for _ in 0..FAILURES {
            assert_eq!(circuit.ask(now), Some(Leave::Asked));
            circuit.failed(Leave::Asked, now);
        }
        circuit
    }

    #[test]
    fn failures_in_a_row_open_it_and_others_do_not() {
        let now = Instant::now();
        let circuit = Circuit::default();
        for _ in 0..100 {
            for _ in 1..FAILURES {
                circuit.failed(Leave::Asked, now);
            }
            circuit.succeeded();
        }
        assert_eq!(circuit.ask(now), Some(Leave::Asked));
        assert_eq!(opened(now).ask(now), None);
    }

    #[test]
    fn one_probe_at_a_time_goes_out_ever_more_seldom_and_closes_it() {
        let mut now = Instant::now();
        let circuit = opened(now);
        for wait in [100, 200, 400, 800, 1_600, 2_000, 2_000] {
            let wait = Duration::from_millis(wait);
            assert_eq!(circuit.ask(now + wait / 2 - Duration::from_millis(1)), None);
            now += wait;
            assert_eq!(circuit.ask(now), Some(Leave::Probe));
            assert_eq!(circuit.ask(now), None);
            circuit.failed(Leave::Asked, now);
            circuit.failed(Leave::Probe, now);
        }
        now += LONGEST;
        assert_eq!(circuit.ask(now), Some(Leave::Probe));
        circuit.succeeded();
        assert!(!circuit.is_open());
        assert_eq!((circuit.ask(now), circuit.ask(now)), (Some(Leave::Asked), Some(Leave::Asked)));
    }

    #[test]
    fn a_probe_that_is_given_up_is_followed_by_another() {
        let now = Instant::now();
        let circuit = opened(now);
        assert_eq!(circuit.ask(now + FIRST), Some(Leave::Probe));
        assert_eq!(circuit.ask(now + FIRST + FIRST), Some(Leave::Probe));
    }

    #[test]
    fn a_new_connection_is_tried_at_once_by_one() {
        let now = Instant::now();
        let circuit = opened(now);
        circuit.connected(now);
        assert_eq!((circuit.ask(now), circuit.ask(now)), (Some(Leave::Probe), None));
    }

    #[test]
    fn waits_differ_by_chance() {
        let now = Instant::now();
        let waits: std::collections::HashSet<_> = (0..50).map(|_| later(now, LONGEST)).collect();
        assert!(waits.len() > 10, "{waits:?}");
        assert!(waits.iter().all(|at| (LONGEST / 2..=LONGEST).contains(&(*at - now))));
    }
}
