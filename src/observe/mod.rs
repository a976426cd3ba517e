//! What is told of each decision: an audit line and counters, derived only from request, decision and elapsed time.

pub mod audit;
pub mod metrics;

use std::sync::Arc;
use std::time::Duration;

use crate::authz::decision::Decision;
use crate::authz::decision_id::DecisionId;
use crate::authz::policy::Policy;
use crate::authz::request::Raw;
use crate::authz::time::Timestamp;

use audit::{Audit, Line};
use metrics::CoreMetrics;

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
    pub fn record(
        &self,
        policy: Option<&Arc<Policy>>,
        request: Option<&Raw<'_>>,
        decision: &Decision,
        id: Option<DecisionId>,
        at: Timestamp,
        elapsed: Duration,
    ) {
        let basis = decision.basis();
        self.metrics.count(policy, basis.route, basis.reason, elapsed);
        if self.audit.is_on() {
            self.audit.hand_over(Line::new(policy, request, basis, id, at, elapsed));
        }
    }
}
