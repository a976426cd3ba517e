//! What operations on the store came to: counted by whoever asks, read by metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::fault::Fault;

/// Upper bounds of the latency histogram, in microseconds.
pub const BOUNDS: [u64; 9] = [10, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000];

/// An operation on the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Operation {
    /// Whether a proof is seen for the first time.
    FirstSeen,
    /// All revocations.
    Load,
    /// One more revocation.
    Add,
    /// Revocations and their epoch, known from elsewhere.
    Seed,
    /// The epoch of the revocations.
    Epoch,
}

impl Operation {
    /// Every operation there is, in the order of their declaration.
    pub const ALL: [Self; 5] = [Self::FirstSeen, Self::Load, Self::Add, Self::Seed, Self::Epoch];

    /// Its name in metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::FirstSeen => "first_seen",
            Self::Load => "load",
            Self::Add => "add",
            Self::Seed => "seed",
            Self::Epoch => "epoch",
        }
    }
}

/// What was counted, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How often each operation ended well.
    pub good: [u64; Operation::ALL.len()],
    /// How often each failed, by fault.
    pub failed: [[u64; Fault::ALL.len()]; Operation::ALL.len()],
    /// How many fell into each bucket of [`BOUNDS`].
    pub buckets: [u64; BOUNDS.len()],
    /// The sum of latencies, in microseconds.
    pub elapsed_micros: u64,
}

#[derive(Default)]
pub struct Counters {
    good: [AtomicU64; Operation::ALL.len()],
    failed: [[AtomicU64; Fault::ALL.len()]; Operation::ALL.len()],
    buckets: [AtomicU64; BOUNDS.len()],
    elapsed_micros: AtomicU64,
}

impl Counters {
    pub fn count(&self, operation: Operation, fault: Option<Fault>, elapsed: Duration) {
        let at = usize::from(operation as u8);
        add(match fault {
            None => self.good.get(at),
            Some(fault) => self.failed.get(at).and_then(|faults| faults.get(usize::from(fault as u8))),
        });
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.elapsed_micros.fetch_add(micros, Ordering::Relaxed);
        add(BOUNDS.iter().position(|bound| micros <= *bound).and_then(|bucket| self.buckets.get(bucket)));
    }

    pub fn totals(&self) -> Totals {
        Totals {
            good: self.good.each_ref().map(read),
            failed: self.failed.each_ref().map(|faults| faults.each_ref().map(read)),
            buckets: self.buckets.each_ref().map(read),
            elapsed_micros: read(&self.elapsed_micros),
        }
    }
}

fn add(counter: Option<&AtomicU64>) {
    if let Some(counter) = counter {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_is_counted_at_its_place() {
        let counters = Counters::default();
        for (place, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(operation as u8), place);
            counters.count(operation, None, Duration::from_micros(100));
            counters.count(operation, Some(Fault::Deadline), Duration::from_secs(1));
        }
        let totals = counters.totals();
        assert_eq!(totals.good, [1; 5]);
        assert_eq!(totals.failed[4][Fault::Deadline as usize], 1);
        assert_eq!(totals.failed.concat().iter().sum::<u64>(), 5);
        assert_eq!((totals.buckets[1], totals.buckets.iter().sum::<u64>()), (5, 5));
        assert_eq!(totals.elapsed_micros, 5_000_500);
    }
}
