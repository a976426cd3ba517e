//! Gate 3: who calls. Each credential that the route accepts fills its slot of the caller.

use std::sync::Arc;

use super::prove::Proven;
use super::{Facts, NoNews, Question, Snapshot, Stop, opaque};
use crate::authz::api_keys::Apps;
use crate::authz::credential::{self, Presented, Source};
use crate::authz::gateways::Gateway;
use crate::authz::identity::{Caller, Identity, Standing};
use crate::authz::issuer::{self, Issuer, IssuerId, Refused};
use crate::authz::keys::UuidKid;
use crate::authz::policy::Route;
use crate::authz::reason::Reason;
use crate::authz::request::Request;
use crate::authz::rule::Rule;
use crate::authz::time::Timestamp;
use crate::authz::token::Unverified;
use crate::authz::workload;

impl Snapshot {
    /// Fills the caller's slots with what the route accepts, and gives the proof of possession if there is one. A
    /// credential that is there and bad is a denial.
    pub(super) fn identify(
        &self,
        request: &Request<'_>,
        gateway: Option<&Gateway>,
        route: &Route,
        facts: &Facts,
        now: Timestamp,
    ) -> Result<(Caller, Option<Proven>), Stop> {
        if matches!(route.rule, Rule::Public) {
            return Ok((Caller::default(), None));
        }
        let (workload, standing) = self.workload(request, gateway, route, now)?;
        let app = self.api_keys.as_ref().map(|keys| keys.app(request, route, now)).transpose()?.flatten();
        let (user, proven) = self.user(request, gateway, route, facts, now)?.unzip();
        let caller = Caller { user, workload, app, standing };
        match &route.rule {
            // A workload that is not the right one is told so; anybody else may come back with a token.
            Rule::Where(rule) if caller.acting().is_none() && (caller.workload.is_none() || rule.asks_for_users()) => {
                Err(Reason::CredentialMissing.into())
            }
            Rule::Where(_) | Rule::Anyone | Rule::Public => Ok((caller, proven.flatten())),
        }
    }

    /// The workload that the gateway names, where it is believed about certificates.
    fn workload(
        &self,
        request: &Request<'_>,
        gateway: Option<&Gateway>,
        route: &Route,
        now: Timestamp,
    ) -> Result<(Option<Arc<Identity>>, Standing), Reason> {
        let services = &self.policy.services;
        if services.is_empty() {
            return Ok((None, Standing::Acts));
        }
        let Some(from) = gateway.and_then(|gateway| gateway.certificate) else { return Ok((None, Standing::Untold)) };
        let named = workload::named(request, from, now)?;
        Ok(named.map_or((None, Standing::Carries), |id| services.workload(&id, route.id)))
    }

    fn user(
        &self,
        request: &Request<'_>,
        gateway: Option<&Gateway>,
        route: &Route,
        facts: &Facts,
        now: Timestamp,
    ) -> Result<Option<(Arc<Identity>, Option<Proven>)>, Stop> {
        let sources = self.accepted(route).flat_map(|(_, issuer)| issuer.policy().sources.iter());
        let sources = sources.filter(|source| route.reads(source));
        let keys = self.api_keys.as_ref().filter(|_| route.apps != Apps::Nobody);
        let is_token = |value: &[u8], source: &Source| !keys.is_some_and(|keys| keys.claims(value, source));
        let Some(presented) = credential::find_where(request, sources, is_token)? else { return Ok(None) };
        let hash = issuer::hash(&presented.token);
        let (issuer, identity) = match self.introspecting(route, &presented)? {
            Some((id, issuer)) => (issuer, opaque::introspected(id, issuer, &presented.token, facts, now)?),
            None => self.verified(&presented, hash, route, facts, now)?,
        };
        if !route.audience.is_empty() {
            issuer.policy().tokens.audience.check_for(&route.audience, identity.claims())?;
        }
        if matches!(presented.source, Source::Cookie(_)) && request.is_unsafe() && !is_same_site(request, issuer) {
            return Err(Reason::CrossSite.into());
        }
        let proven = self.prove(request, gateway, (&presented, &hash), (issuer, &identity), (facts, now))?;
        let identity = match &self.policy.grants {
            Some(grants) => grants.raise(identity, issuer, now),
            None => identity,
        };
        Ok(Some((identity, proven)))
    }

    /// Whose signature a token bears, and who it says to be.
    fn verified<'s>(
        &'s self,
        presented: &Presented<'_, '_>,
        hash: [u8; 32],
        route: &'s Route,
        facts: &Facts,
        now: Timestamp,
    ) -> Result<(&'s Arc<Issuer>, Arc<Identity>), Stop> {
        let speaks_from = |issuer: &Issuer| issuer.policy().sources.contains(presented.source);
        let remembered = self
            .accepted(route)
            .filter(|(_, issuer)| speaks_from(issuer) && issuer.remembers(now))
            .find_map(|(_, issuer)| Some((issuer, issuer.remembered(&hash, now)?)));
        if let Some((issuer, identity)) = remembered {
            return Ok((issuer, identity?));
        }
        let may_be_padded =
            |(_, issuer): (_, &Arc<Issuer>)| !issuer.policy().tokens.balancers.is_empty() && speaks_from(issuer);
        let token = match self.accepted(route).any(may_be_padded) {
            true => Unverified::read_padded(&presented.token)?,
            false => Unverified::read(&presented.token)?,
        };
        let (id, issuer) = self
            .accepted(route)
            .find(|(_, issuer)| issuer.policy().tokens.signed(&token) && speaks_from(issuer))
            .ok_or(Reason::IssuerRefused)?;
        Ok((issuer, verify(id, issuer, hash, token, facts, now)?))
    }

    pub(super) fn accepted<'s>(
        &'s self,
        route: &'s Route,
    ) -> impl Iterator<Item = (IssuerId, &'s Arc<Issuer>)> + Clone {
        route.issuers.iter().filter_map(|id| Some((*id, self.issuers.get(usize::from(id.0))?)))
    }
}

/// Verifies a token with what its issuer has, or asks for newer keys where those may help.
fn verify(
    id: IssuerId,
    issuer: &Issuer,
    hash: [u8; 32],
    token: Unverified,
    facts: &Facts,
    now: Timestamp,
) -> Result<Arc<Identity>, Stop> {
    if issuer.suspended() {
        return Err(Reason::IssuerSuspended.into());
    }
    // What is asked, where asking may help. A kid that is no UUID is in nobody's URL.
    let question = match (issuer.policy().by_kid, token.kid().and_then(UuidKid::parse)) {
        (false, _) => Some(Question::Keys(id)),
        (true, kid) => kid.map(|kid| Question::Key(id, kid)),
    };
    let refused = if issuer.is_stale(now) {
        Refused::KeysMayHelp(Reason::KeysUnavailable)
    } else {
        match issuer.verify(hash, token, now) {
            Ok(identity) => return Ok(identity),
            Err(refused) => refused,
        }
    };
    let reason = match refused {
        Refused::Deny(reason) => return Err(reason.into()),
        Refused::KeysMayHelp(reason) => reason,
    };
    let answered = facts.keys.filter(|(answered, _)| *answered == id);
    if let Some(question) = question.clone().filter(|_| answered.is_none() && issuer.may_ask(now)) {
        return Err(Stop::Ask(question));
    }
    match answered {
        // There is a key of this name, and it did not sign this.
        _ if reason == Reason::SignatureInvalid => Err(reason.into()),
        Some((_, NoNews::Unreachable)) => Err(Reason::KeysUnavailable.into()),
        // Whether there is a key of this kid was not found out.
        None | Some((_, NoNews::TooSoon)) if matches!(question, Some(Question::Key(..))) => {
            Err(Reason::KeysUnavailable.into())
        }
        None | Some((_, NoNews::Unknown | NoNews::TooSoon)) => Err(issuer.keyless(reason).into()),
    }
}

/// Whether a request with a cookie comes from the site itself: as the browser says, or from an origin of the issuer's
/// list. A caller that says neither is refused: an attacker's page can make one that does not.
fn is_same_site(request: &Request<'_>, issuer: &Issuer) -> bool {
    matches!(request.seen.fetch_site, Some(b"same-origin" | b"none"))
        || request
            .seen
            .origin
            .is_some_and(|origin| issuer.policy().origins.iter().any(|listed| listed.as_bytes() == origin))
}
