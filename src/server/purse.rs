//! How many bytes of unfinished messages a connection, and all connections together, may make us keep.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most that one connection may make us keep, in bytes: twice the largest message.
const MOST_OWN: usize = 32 * 1024 * 1024;
/// The most that all connections together may make us keep, in bytes, beyond what each may for itself.
const MOST_ALL: usize = 256 * 1024 * 1024;
/// What a connection may make us keep whatever the others do: ordinary checks pass while others send large ones.
const FREE: usize = 256 * 1024;

/// What all connections together make us keep.
#[derive(Clone, Default)]
pub struct Treasury(Arc<AtomicUsize>);

/// What one connection makes us keep.
pub struct Purse {
    all: Treasury,
    own: AtomicUsize,
}

impl Purse {
    /// For a connection that came just now.
    #[must_use]
    pub fn new(all: &Treasury) -> Arc<Self> {
        Arc::new(Self { all: all.clone(), own: AtomicUsize::new(0) })
    }
}

/// What one message makes us keep; given back when dropped.
pub struct Charge {
    purse: Arc<Purse>,
    own: usize,
    all: usize,
}

impl Charge {
    /// Nothing yet.
    #[must_use]
    pub fn new(purse: Arc<Purse>) -> Self {
        Self { purse, own: 0, all: 0 }
    }

    /// Takes so many bytes more. Where that would be too many it takes none and is false.
    #[must_use]
    pub fn more(&mut self, bytes: usize) -> bool {
        let before = self.purse.own.fetch_add(bytes, Ordering::Relaxed);
        let after = before.saturating_add(bytes);
        let shared = after.saturating_sub(FREE).saturating_sub(before.saturating_sub(FREE));
        let all = self.purse.all.0.fetch_add(shared, Ordering::Relaxed).saturating_add(shared);
        if after > MOST_OWN || (shared > 0 && all > MOST_ALL) {
            self.purse.own.fetch_sub(bytes, Ordering::Relaxed);
            self.purse.all.0.fetch_sub(shared, Ordering::Relaxed);
            return false;
        }
        self.own = self.own.saturating_add(bytes);
        self.all = self.all.saturating_add(shared);
        true
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.purse.own.fetch_sub(self.own, Ordering::Relaxed);
        self.purse.all.0.fetch_sub(self.all, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn charge(purse: &Arc<Purse>, bytes: usize) -> Option<Charge> {
        let mut charge = Charge::new(Arc::clone(purse));
        charge.more(bytes).then_some(charge)
    }

    #[test] // D03
    fn a_connection_cannot_make_us_keep_more_than_its_own() {
        let purse = Purse::new(&Treasury::default());
        let first = charge(&purse, 16 * MIB).unwrap();
        let mut second = charge(&purse, 15 * MIB).unwrap();
        assert!(!second.more(2 * MIB));
        assert!(second.more(MIB), "what was refused was not taken");
        assert!(charge(&purse, 1).is_none());
        drop(first);
        assert!(charge(&purse, 16 * MIB).is_some());
    }

    #[test] // D03
    fn all_connections_together_cannot_make_us_keep_more_than_there_is_and_small_messages_pass_all_the_same() {
        let all = Treasury::default();
        let greedy: Vec<_> = (0..12).map(|_| Purse::new(&all)).collect();
        let kept: Vec<_> = greedy.iter().filter_map(|purse| charge(purse, 32 * MIB)).collect();
        assert_eq!(kept.len(), 8);
        let honest = Purse::new(&all);
        assert!(charge(&honest, 4 * MIB).is_none());
        assert!(charge(&honest, FREE).is_some());
        drop(kept);
        assert!(charge(&honest, 4 * MIB).is_some());
        assert_eq!(all.0.load(Ordering::Relaxed), 0, "everything was given back");
    }
}
