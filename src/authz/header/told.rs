//! What is told of one caller: made once for an identity and a contract, and shared by all requests.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::authz::json::Json;
use crate::authz::reason::Reason;

/// For how many contracts an identity remembers what is told of it.
pub(super) const MAX_REMEMBERED: usize = 4;

/// What upstream, caller and gateway are told of one caller.
#[derive(Debug, Default)]
pub struct Told {
    set: Box<[(Bytes, Bytes)]>,
    unset: Arc<[Bytes]>,
    responses: Box<[(Bytes, Bytes)]>,
    query: Box<[(Bytes, Bytes)]>,
    metadata: Box<[(Bytes, Json)]>,
    encoded: OnceLock<Bytes>,
}

impl Told {
    pub(super) fn new(
        set: Vec<(Bytes, Bytes)>,
        unset: Arc<[Bytes]>,
        responses: Vec<(Bytes, Bytes)>,
        query: Vec<(Bytes, Bytes)>,
        metadata: Vec<(Bytes, Json)>,
    ) -> Self {
        let (set, responses, query, metadata) = (set.into(), responses.into(), query.into(), metadata.into());
        Self { set, unset, responses, query, metadata, encoded: OnceLock::new() }
    }

    /// Headers to set, replacing what is there.
    #[must_use]
    pub fn set(&self) -> &[(Bytes, Bytes)] {
        &self.set
    }

    /// Headers to remove: every managed one that is not set.
    #[must_use]
    pub fn unset(&self) -> &[Bytes] {
        &self.unset
    }

    /// Headers of the response to the caller, replacing what the upstream says.
    #[must_use]
    pub fn responses(&self) -> &[(Bytes, Bytes)] {
        &self.responses
    }

    /// Parameters of the query, replacing all of the same name.
    #[must_use]
    pub fn query(&self) -> &[(Bytes, Bytes)] {
        &self.query
    }

    /// What the gateway is told beside the headers.
    #[must_use]
    pub fn metadata(&self) -> &[(Bytes, Json)] {
        &self.metadata
    }

    /// All of this as one gateway's answer, made by the first request that needs it.
    pub fn encoded(&self, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.encoded.get_or_init(|| encode(self)).clone()
    }
}

type Remembered = OnceLock<(u64, Result<Arc<Told>, Reason>)>;

/// An identity's [`Told`]s, and for which contract each was made. The first to ask have the places; others make theirs
/// anew each time, so that many contracts cost time and not memory without end.
#[derive(Clone, Debug, Default)]
pub(in crate::authz) struct ToldOnce {
    first: Remembered,
    more: Box<[Remembered]>,
}

impl ToldOnce {
    /// With places for so many contracts, four at most.
    pub fn with_places(contracts: usize) -> Self {
        let more = contracts.clamp(1, MAX_REMEMBERED).saturating_sub(1);
        Self { first: OnceLock::new(), more: (0..more).map(|_| OnceLock::new()).collect() }
    }

    /// For how many contracts it has places.
    pub fn places(&self) -> usize {
        self.more.len().saturating_add(1)
    }

    pub(super) fn of(&self, contract: u64, make: impl Fn() -> Result<Arc<Told>, Reason>) -> Result<Arc<Told>, Reason> {
        for place in std::iter::once(&self.first).chain(&self.more) {
            if let (made_for, told) = place.get_or_init(|| (contract, make()))
                && *made_for == contract
            {
                return told.clone();
            }
        }
        make()
    }
}
