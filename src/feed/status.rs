//! How the feeds of keys are doing, for people and for metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fetch::FetchError;
use crate::authz::keys::KeyFault;
use crate::authz::time::Timestamp;

/// The feeds, by the name of their issuer in the policy.
pub type Statuses = BTreeMap<Arc<str>, FeedStatus>;

/// How one issuer's feed is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedStatus {
    /// Where the keys come from: a URL without its query.
    pub source: String,
    /// When keys were last fetched with success.
    pub fetched: Option<Timestamp>,
    /// When a fetch last ended, well or badly.
    pub attempted: Option<Timestamp>,
    /// Why that one failed; `None` where it did not.
    pub error: Option<FetchError>,
    /// How many fetches in a row have failed.
    pub failures: u32,
    /// How many fetches have ended since the feed was started.
    pub fetches: u64,
    /// When the next fetch starts by itself.
    pub next: Option<Timestamp>,
    /// Whether keys are fetched only when a token asks for one.
    pub on_demand: bool,
    /// How many usable keys there are.
    pub keys: usize,
    /// The keys of the last set that are not used: their places in it, from 0, and why.
    pub refused: Arc<[(usize, KeyFault)]>,
}
