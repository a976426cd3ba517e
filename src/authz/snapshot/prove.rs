//! The gates of possession: whether a token is in the right hands, and whether its proof is the first of its kind.

use bytes::Bytes;

use super::{Facts, Question, Snapshot, Stop};
use crate::authz::algorithm::{Algorithm, Algorithms};
use crate::authz::credential::{self, Presented};
use crate::authz::decision::{Grant, Offer};
use crate::authz::gateways::Gateway;
use crate::authz::identity::Identity;
use crate::authz::issuer::Issuer;
use crate::authz::policy::Route;
use crate::authz::proof::{Mode, Nonce, Once, Possession, Shown, Sighting};
use crate::authz::reason::{Challenge, Reason};
use crate::authz::request::Request;
use crate::authz::time::Timestamp;

/// A token in the right hands, by a proof that may pass once.
pub(super) struct Proven {
    once: Once,
    /// Whether the caller is given a nonce for the next one.
    nonce: bool,
}

impl Snapshot {
    /// Whether whoever presents a token holds what it is bound to; whatever was verified of the token before.
    pub(super) fn prove(
        &self,
        request: &Request<'_>,
        gateway: Option<&Gateway>,
        presented: (&Presented<'_, '_>, &[u8; 32]),
        (issuer, identity): (&Issuer, &Identity),
        (facts, now): (&Facts, Timestamp),
    ) -> Result<Option<Proven>, Reason> {
        let (wanted, binding, (token, hash)) = (&issuer.policy().proof, identity.binding(), presented);
        if !wanted.asks(binding, token.scheme) {
            return Ok(None);
        }
        let verified = facts.unseen.map(|(once, _)| once);
        let nonces = self.policy.nonces.as_ref();
        let shown = Shown { request, gateway, token: hash, scheme: token.scheme, nonces, verified, now };
        let once = wanted.prove(binding, &shown)?;
        Ok(once.map(|once| Proven { once, nonce: wanted.nonce != Nonce::None }))
    }

    /// The last gate: the same proof passes once. Asked for nothing that any other gate denies.
    pub(super) fn pass_once(
        &self,
        proven: Option<Proven>,
        mut grant: Grant,
        facts: &Facts,
        now: Timestamp,
    ) -> Result<Grant, Stop> {
        let Some(Proven { once, nonce }) = proven else { return Ok(grant) };
        match facts.unseen.filter(|(asked, _)| *asked == once) {
            None => return Err(Stop::Ask(Question::Unseen(once))),
            Some((_, Sighting::Again)) => return Err(Reason::ProofReplayed.into()),
            Some((_, Sighting::Unknown)) => return Err(Reason::ReplayUnknown.into()),
            Some((_, Sighting::First)) => {}
        }
        if let Some(nonces) = self.policy.nonces.as_ref().filter(|_| nonce) {
            let header = (Bytes::from_static(b"dpop-nonce"), Bytes::from(nonces.current(now)));
            grant.own.get_or_insert_default().responses.push(header);
        }
        Ok(grant)
    }

    /// How the caller of a denial may prove possession, where that is asked of it.
    pub(super) fn offer(
        &self,
        reason: Reason,
        request: &Request<'_>,
        route: Option<&Route>,
        now: Timestamp,
    ) -> Option<Box<Offer>> {
        let challenge = reason.challenge();
        if matches!(challenge, Challenge::None | Challenge::InvalidRequest) {
            return None;
        }
        let by_proof = matches!(challenge, Challenge::InvalidProof | Challenge::UseNonce);
        let of_issuers = route.into_iter().flat_map(|route| self.accepted(route));
        let of_issuers = of_issuers.map(|(_, issuer)| &issuer.policy().proof);
        let takes = |proof: &&Possession| match proof.mode {
            Mode::None | Mode::Mtls => false,
            Mode::Dpop | Mode::Either => true,
            Mode::IfBound => proof.told || by_proof,
        };
        let takers = of_issuers.clone().filter(takes);
        takers.clone().next()?;
        let bearers = of_issuers.clone().any(|proof| proof.mode != Mode::Dpop);
        // What nobody wrote says less than what somebody did.
        let any_told = takers.clone().any(|proof| proof.told);
        let said = takers.clone().filter(|proof| proof.told == any_told);
        let algorithms: Algorithms = said.flat_map(|proof| proof.algorithms.iter()).collect();
        let algorithms: Vec<&str> = algorithms.iter().map(Algorithm::name).collect();
        let wants_nonce = takers.clone().any(|proof| proof.nonce != Nonce::None);
        Some(Box::new(Offer {
            algorithms: algorithms.join(" ").into(),
            used: by_proof || credential::is_dpop(request),
            only: !bearers,
            nonce: self.policy.nonces.as_ref().filter(|_| wants_nonce).map(|nonces| nonces.current(now).into()),
        }))
    }
}
