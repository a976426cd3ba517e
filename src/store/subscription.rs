//! What subscribers to revocations hear. The line between is bounded: who is slow is told to load everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::Entry;

/// How many events wait for a subscriber.
const WAITING: usize = 256;

/// What a subscriber hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Load everything: the subscription stands since now, or something may have passed unheard.
    Resync,
    /// An entry was added, which made the epoch what it is; `None` where there is none.
    Added(Option<u64>, Entry),
    /// The epoch, as it was asked for just now or as it was seeded: another than yours, and you have missed something.
    Epoch(Option<u64>),
    /// Nothing is heard any more, until the next [`Event::Resync`].
    Lost,
}

/// Hears what happens to revocations.
pub struct Subscription {
    events: mpsc::Receiver<Event>,
    missed: Arc<AtomicBool>,
}

/// The other end of a [`Subscription`].
pub(super) struct Subscriber {
    events: mpsc::Sender<Event>,
    missed: Arc<AtomicBool>,
}

impl Subscription {
    pub(super) fn new() -> (Subscriber, Self) {
        let (events, heard) = mpsc::channel(WAITING);
        let missed = Arc::default();
        (Subscriber { events, missed: Arc::clone(&missed) }, Self { events: heard, missed })
    }

    /// The next event; `None` after the store has ended.
    pub async fn next(&mut self) -> Option<Event> {
        if let Ok(event) = self.events.try_recv() {
            return Some(event);
        }
        // What is missed is missed while the line is full: so after this, either an event waits or nothing was missed.
        if self.missed.swap(false, Ordering::AcqRel) {
            return Some(Event::Resync);
        }
        self.events.recv().await
    }
}

impl Subscriber {
    /// Tells of what is in the store by now. False when nobody listens any more.
    pub fn tell(&self, event: &Event) -> bool {
        // After what was missed everything is loaded, this too.
        if !self.missed.load(Ordering::Acquire) && self.events.try_send(event.clone()).is_err() {
            self.missed.store(true, Ordering::Release);
        }
        !self.events.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_subscriber_that_is_slow_is_told_to_load_everything_once() {
        let (subscriber, mut subscription) = Subscription::new();
        for epoch in 0..1_000 {
            assert!(subscriber.tell(&Event::Epoch(Some(epoch))));
        }
        for epoch in 0..256 {
            assert_eq!(subscription.next().await, Some(Event::Epoch(Some(epoch))));
        }
        assert_eq!(subscription.next().await, Some(Event::Resync));
        subscriber.tell(&Event::Lost);
        assert_eq!(subscription.next().await, Some(Event::Lost));
        drop(subscriber);
        assert_eq!(subscription.next().await, None);
    }

    #[test]
    fn a_subscriber_that_is_gone_is_known_to_be() {
        let (subscriber, subscription) = Subscription::new();
        drop(subscription);
        assert!(!subscriber.tell(&Event::Resync));
    }
}
