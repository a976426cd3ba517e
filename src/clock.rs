//! The clock: read by the shell and the feeds, never by the core.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::authz::time::Timestamp;

/// What time it is.
#[expect(clippy::disallowed_methods, reason = "time enters here and is passed down")]
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
