//! A circuit: after some failures in a row nothing is sent for a while, then one ask tries whether it is over.

use std::time::Duration;

use tokio::time::Instant;

/// How many failures in a row open it.
const FAILURES: u32 = 5;
/// How long it is open at first; twice as long after each try that fails.
const FIRST: Duration = Duration::from_secs(1);
/// How long it is open at most.
const LONGEST: Duration = Duration::from_secs(30);

/// Whether an endpoint is asked.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    failures: u32,
    /// Until when it is open, and for how long it was opened.
    open: Option<(Instant, Duration)>,
    /// Whether an ask is under way that tries whether the outage is over.
    trying: bool,
}

impl Circuit {
    /// Whether an ask may be sent now. What becomes of it must be told: [`Circuit::ended`] or [`Circuit::dropped`].
    pub(super) fn passes(&mut self, now: Instant) -> bool {
        match self.open {
            None => true,
            Some((until, _)) if now < until || self.trying => false,
            Some(_) => {
                self.trying = true;
                true
            }
        }
    }

    /// Takes note that an ask was not sent after all.
    pub(super) fn dropped(&mut self) {
        self.trying = false;
    }

    /// Takes note of how an ask ended; tells for how long it was opened, where it was.
    pub(super) fn ended(&mut self, failed: bool, now: Instant) -> Option<Duration> {
        if !failed {
            *self = Self::default();
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        let pause = match self.open {
            None if self.failures < FAILURES => return None,
            None => FIRST,
            // It was under way when the circuit opened, and tells nothing new.
            Some((until, _)) if now < until => return None,
            Some((_, before)) => before.saturating_mul(2).min(LONGEST),
        };
        self.trying = false;
        self.open = Some((now.checked_add(pause).unwrap_or(now), pause));
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_try() {
        let (start, mut circuit) = (Instant::now(), Circuit::default());
        for _ in 0..FAILURES - 1 {
            assert_eq!(circuit.ended(true, start), None);
        }
        assert_eq!(circuit.ended(false, start), None);
        for _ in 0..FAILURES - 1 {
            assert!(circuit.passes(start));
            assert_eq!(circuit.ended(true, start), None);
        }
        assert_eq!(circuit.ended(true, start), Some(FIRST));
        assert!(!circuit.passes(start));
        // Those that were under way do not make it worse.
        assert_eq!(circuit.ended(true, start), None);
        let later = start + FIRST;
        assert!(circuit.passes(later));
        assert!(!circuit.passes(later), "one tries, the others wait");
        circuit.dropped();
        assert!(circuit.passes(later), "that one was never sent");
        assert_eq!(circuit.ended(true, later), Some(FIRST * 2));
        assert!(!circuit.passes(later + FIRST));
        let over = later + FIRST * 2;
        assert!(circuit.passes(over));
        assert_eq!(circuit.ended(false, over), None);
        assert!(circuit.passes(over) && circuit.passes(over));
    }

    #[test]
    fn it_is_never_open_for_long() {
        let (mut now, mut circuit) = (Instant::now(), Circuit::default());
        for _ in 0..50 {
            circuit.passes(now);
            let pause = circuit.ended(true, now).unwrap_or_default();
            assert!(pause <= LONGEST);
            now += pause;
        }
        assert!(circuit.passes(now));
    }
}
