//! After gate 4: whether the person signed in lately and well enough for the route (RFC 9470). Asked last, so that only
//! who would pass but for it is told what to sign in with.

use super::Snapshot;
use crate::authz::identity::Caller;
use crate::authz::policy::Route;
use crate::authz::reason::Reason;
use crate::authz::time::Timestamp;

impl Snapshot {
    /// What the route's `max_age:` and `acr:` say.
    pub(super) fn step_up(&self, route: &Route, caller: &Caller, now: Timestamp) -> Result<(), Reason> {
        let Some(asked) = &route.step_up else { return Ok(()) };
        let user = caller.user.as_ref().ok_or(Reason::CredentialMissing)?;
        let issuer = self.issuers.iter().find(|issuer| issuer.policy().name == user.principal().issuer);
        let leeway = issuer.map(|issuer| issuer.policy().tokens.leeway).unwrap_or_default();
        if asked.is_met(user.claims(), leeway, now) { Ok(()) } else { Err(Reason::StepUpRequired) }
    }
}
