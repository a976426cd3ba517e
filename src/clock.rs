//! The clock: read by the shell and the feeds, never by the core.

use std::future::pending;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::authz::time::Timestamp;

/// What time it is.
#[expect(clippy::disallowed_methods, reason = "time enters here and is passed down")]
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// What time it is, and how it passes.
#[derive(Clone, Debug, Default)]
pub enum Time {
    /// As on this machine.
    #[default]
    Real,
    /// As somebody says: from this point in time on, by what is told to have passed since.
    Told(Timestamp, watch::Receiver<Duration>),
}

impl Time {
    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::Real => now(),
            Self::Told(began, passed) => began.plus(*passed.borrow()),
        }
    }

    /// How much has passed since a point that stays the same while the process lives. It never goes back.
    #[must_use]
    pub fn passed(&self) -> Duration {
        match self {
            Self::Real => began().elapsed(),
            Self::Told(_, passed) => *passed.borrow(),
        }
    }

    /// Returns when so much has passed since that point.
    pub async fn until(&self, passed: Duration) {
        match self {
            Self::Real => match began().checked_add(passed) {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            },
            Self::Told(_, told) => {
                if told.clone().wait_for(|told| *told >= passed).await.is_err() {
                    // Nobody says any more that time passes.
                    pending::<()>().await;
                }
            }
        }
    }
}

fn began() -> Instant {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    *BEGAN.get_or_init(Instant::now)
}
