//! What is told of each decision: an audit line and counters, derived only from request, decision and elapsed time.

pub mod audit;
pub mod metrics;

use std::sync::Arc;
use std::time::Duration;

use crate::authz::decision::Basis;
use crate::authz::decision_id::DecisionId;
use crate::authz::policy::Policy;
use crate::authz::request::Raw;
use crate::authz::time::Timestamp;

use audit::{Audit, Line};
use metrics::CoreMetrics;

/// A decision, and what is told of it.
pub struct Observed<'a> {
    /// The policy that decided; `None` before there is one.
    pub policy: Option<&'a Arc<Policy>>,
    /// What was asked about, where it could be read so far.
    pub request: Option<&'a Raw<'a>>,
    /// What was decided, and why.
    pub basis: &'a Basis,
    /// Its id.
    pub id: Option<DecisionId>,
    /// When it was made.
    pub at: Timestamp,
    /// How long it took.
    pub elapsed: Duration,
}

/// Records decisions. One a core.
pub struct Recorder {
    audit: Audit,
    metrics: Arc<CoreMetrics>,
}

impl Recorder {
    /// A recorder that counts in these metrics and hands lines to this audit trail.
    #[must_use]
    pub fn new(audit: Audit, metrics: Arc<CoreMetrics>) -> Self {
        Self { audit, metrics }
    }

    /// Records a decision. Never waits.
    pub fn record(&self, observed: &Observed<'_>) {
        let basis = observed.basis;
        self.metrics.count(observed.policy, basis.route, basis.reason, observed.elapsed);
        if self.audit.is_on() {
            self.audit.hand_over(Line::new(observed));
        }
    }
}
