//! The gates for a subject that is asserted: route, who that would be, revocation, policy. What is about a credential (its
//! signature, times, proof, where it stands) is not asked, for there is none; nothing is granted, told or minted.

use std::sync::Arc;

use super::{Snapshot, permit};
use crate::authz::api_keys::Apps;
use crate::authz::asserted::{Evaluated, Evaluation, Kind, PdpClient, Subject};
use crate::authz::certificate::SpiffeId;
use crate::authz::condition::{self, Variable};
use crate::authz::decision::Basis;
use crate::authz::gateways::Dialect;
use crate::authz::identity::{APPS, Caller, Identity, Standing, WORKLOADS};
use crate::authz::policy::Route;
use crate::authz::reason::Reason;
use crate::authz::request::{Asker, Malformed, Raw, Request};
use crate::authz::rule::{Rule, Scene};
use crate::authz::time::Timestamp;

impl Snapshot {
    /// Would this request pass, if its caller were who this client says?
    pub fn evaluate(&self, client: &PdpClient, asked: &Evaluation, now: Timestamp) -> Evaluated {
        let mut basis = Basis { snapshot: self.version, believed: true, ..Basis::default() };
        basis.asserted = Some(Arc::clone(&client.name));
        let target = [&asked.method, &asked.target, &asked.host].map(|part| part.as_bytes());
        let raw = Raw::new(Dialect::Json, Asker::Unix, target, Vec::new());
        let request = self.read(&raw).map_err(|Malformed(reason)| reason);
        basis.reason = request.and_then(|request| self.permitted(client, &request, asked, now, &mut basis)).err();
        Evaluated(basis)
    }

    fn permitted(
        &self,
        client: &PdpClient,
        request: &Request<'_>,
        asked: &Evaluation,
        now: Timestamp,
        basis: &mut Basis,
    ) -> Result<(), Reason> {
        let subject = &asked.subject;
        let of = match subject.kind {
            Kind::User => subject.issuer.as_deref().or(client.sole_issuer()).ok_or(Reason::SubjectRefused)?,
            Kind::Workload => WORKLOADS,
            Kind::App => APPS,
        };
        if !client.speaks_of(of) {
            return Err(Reason::SubjectRefused);
        }
        let (route, captures) = self.route(request, request.method, basis)?;
        if route.rule != Rule::Public {
            basis.caller = self.asserted((subject, of), request, route, now)?;
        }
        if let Some(revocation) = &self.policy.revocation {
            basis.revocation = revocation.check(self.revoked.as_deref(), &basis.caller, now)?;
        }
        let scene = Scene { caller: &basis.caller, captures: &captures, address: asked.address };
        self.permit(request, route, &scene, &mut basis.rule, &mut ())?;
        let reads_headers =
            |condition: &condition::Condition| condition.reads().any(|(variable, _)| *variable == Variable::Headers);
        if route.condition.as_deref().is_some_and(reads_headers) {
            // Of a request that nobody sent no header can be told, nor that it has none.
            return Err(Reason::ConditionFailed);
        }
        permit::meet(route, &condition::Scene { request, who: scene, lent: &[], now })?;
        self.step_up(route, &basis.caller, now)
    }

    /// The caller that a subject would be on a route.
    fn asserted(
        &self,
        (subject, of): (&Subject, &str),
        request: &Request<'_>,
        route: &Route,
        now: Timestamp,
    ) -> Result<Caller, Reason> {
        match subject.kind {
            Kind::User => {
                // Whether a service carries its request, nobody says.
                let standing = if self.policy.services.is_empty() { Standing::Acts } else { Standing::Untold };
                let user = self.asserted_user((subject, of), route, now)?;
                Ok(Caller { user: Some(user), standing, ..Caller::default() })
            }
            Kind::Workload => {
                let id = SpiffeId::parse(subject.id.as_bytes()).ok_or(Reason::SubjectRefused)?;
                let (workload, standing) = self.policy.services.workload(&id, route.id);
                Ok(Caller { workload: Some(workload.ok_or(Reason::SubjectRefused)?), standing, ..Caller::default() })
            }
            Kind::App => {
                let keys = self.api_keys.as_ref().filter(|_| route.apps != Apps::Nobody);
                let app = keys.ok_or(Reason::ApiKeyRefused)?.asserted(&subject.id, request, route, now)?;
                Ok(Caller { app: Some(app), ..Caller::default() })
            }
        }
    }

    fn asserted_user(
        &self,
        (subject, of): (&Subject, &str),
        route: &Route,
        now: Timestamp,
    ) -> Result<Arc<Identity>, Reason> {
        let accepted = self.accepted(route).find(|(_, issuer)| *issuer.policy().name == *of);
        let (_, issuer) = accepted.ok_or(Reason::IssuerRefused)?;
        if issuer.suspended() {
            return Err(Reason::IssuerSuspended);
        }
        let identity = issuer.asserted(subject, now)?;
        if !route.audience.is_empty() {
            issuer.policy().tokens.audience.check_for(&route.audience, identity.claims())?;
        }
        Ok(match &self.policy.grants {
            Some(grants) => grants.raise(identity, issuer, now),
            None => identity,
        })
    }
}
