//! What the random policies and requests have reached, counted.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

thread_local! {
    static COUNTS: Cell<bool> = const { Cell::new(true) };
    static SEEN: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counts a thing that was reached.
pub fn note(what: &'static str) {
    if COUNTS.get() {
        SEEN.with_borrow_mut(|seen| *seen.entry(what).or_insert(0) += 1);
    }
}

/// Whether to count from now on.
pub fn count(whether: bool) {
    COUNTS.set(whether);
}

/// What this thread has reached; it begins anew.
pub fn take() -> BTreeMap<&'static str, u64> {
    SEEN.take()
}
