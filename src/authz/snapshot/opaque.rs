//! Gate 3, for tokens that say nothing by themselves: what their issuer says of them.

use std::sync::Arc;

use super::{Facts, Question, Snapshot, Stop};
use crate::authz::credential::Presented;
use crate::authz::identity::Identity;
use crate::authz::introspection::is_opaque;
use crate::authz::issuer::{Issuer, IssuerId};
use crate::authz::policy::Route;
use crate::authz::reason::Reason;
use crate::authz::time::Timestamp;

impl Snapshot {
    /// The issuer that is asked about this token, where the route has one, it is read from there, and it is opaque.
    pub(super) fn introspecting(
        &self,
        route: &Route,
        presented: &Presented<'_, '_>,
    ) -> Result<Option<(IssuerId, &Arc<Issuer>)>, Reason> {
        let Some(id) = route.introspects else { return Ok(None) };
        let Some(issuer) = self.issuers.get(usize::from(id.0)) else { return Ok(None) };
        let speaks_from = issuer.policy().sources.contains(presented.source);
        Ok((speaks_from && is_opaque(&presented.token)?).then_some((id, issuer)))
    }
}

/// Who a token stands for: as its issuer answered a while ago, or just now, or is to be asked.
pub(super) fn introspected(
    id: IssuerId,
    issuer: &Issuer,
    token: &[u8],
    facts: &Facts,
    now: Timestamp,
) -> Result<Arc<Identity>, Stop> {
    if issuer.suspended() {
        return Err(Reason::IssuerSuspended.into());
    }
    let token = issuer.opaque(token).ok_or(Reason::TokenMalformed)?;
    let just_told = facts.introspected.as_ref().filter(|answer| answer.key == *token.key());
    match just_told.map(|answer| answer.told.clone()).or_else(|| issuer.told(&token, now)) {
        Some(told) => {
            let identity = told?;
            issuer.holds(&identity, now)?;
            Ok(identity)
        }
        None => Err(Stop::Ask(Question::Introspect(id, Arc::new(token)))),
    }
}
