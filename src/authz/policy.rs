//! The policy, compiled: routes, rules above them, and what each answer needs. It changes only as a whole.

use std::sync::Arc;

use bytes::Bytes;

use super::api_keys::{ApiKeys, Apps};
use super::asserted::PdpClient;
use super::cache::Reuse;
use super::condition::Condition;
use super::cors::{Cors, Sharing};
use super::credential::Source;
use super::credential::strip::Carriers;
use super::gateways::Gateways;
use super::grant::Grants;
use super::header::Contract;
use super::issuer::{IssuerId, IssuerPolicy};
use super::mint::Mint;
use super::proof::Nonces;
use super::request::Relaxed;
use super::revocation::RevocationPolicy;
use super::route::{Cover, HostSets, Pattern, RouteId, Table};
use super::rule::{Expr, Rule};
use super::services::Services;
use super::signin::SignIn;
use super::stepup::StepUp;

/// Everything that the policy file says, ready for decisions.
#[derive(Debug)]
pub struct Policy {
    /// A short hash of the policy's text, by which people and logs name it.
    pub id: PolicyId,
    /// The named sets of hosts, as its keys are read: [`Policy::pattern`].
    pub hosts: HostSets,
    /// Which route a request takes.
    pub table: Table,
    /// The routes, by [`RouteId`].
    pub routes: Box<[Route]>,
    /// Which guards cover a request.
    pub covers: Cover,
    /// The guards, in the policy's order.
    pub guards: Box<[Named]>,
    /// The forbids of `deny:`, in the policy's order.
    pub forbids: Box<[Named]>,
    /// The issuers, by [`IssuerId`].
    pub issuers: Box<[Arc<IssuerPolicy>]>,
    /// Roles that single principals are given for a time.
    pub grants: Option<Grants>,
    /// The nonces of proofs; `None` where no issuer's proofs hold any.
    pub nonces: Option<Nonces>,
    /// What is revoked; `None` where the policy says nothing of it.
    pub revocation: Option<Box<RevocationPolicy>>,
    /// Who may ask.
    pub gateways: Gateways,
    /// Who may ask about subjects that nobody has proven.
    pub pdp_clients: Box<[PdpClient]>,
    /// Which applications have keys, and where they show them.
    pub api_keys: Option<Arc<ApiKeys>>,
    /// Which workloads have a name.
    pub services: Services,
    /// What `paths:` relaxes.
    pub relaxed: Relaxed,
    /// Where credentials of the issuers may stand.
    pub carriers: Carriers,
    /// Headers, in lower case, that some upstream gets otherwise than they came, beside the managed ones: a gateway that
    /// cannot remove any writes over them on every allow.
    pub echoed: Box<[Bytes]>,
    /// Where people sign in.
    pub sign_in: Option<SignIn>,
    /// The tokens that upstreams get.
    pub mint: Option<Box<Mint>>,
    /// Whose pages may read answers; `None` where neither the policy nor a route says anything of it.
    pub cors: Option<Box<Cors>>,
}

impl Policy {
    /// The key of a route, or the name of a guard, as a pattern.
    #[must_use]
    pub fn pattern(&self, key: &str) -> Option<Pattern> {
        Pattern::parse_in(key, &self.hosts).ok()
    }

    /// The route of this id.
    #[must_use]
    pub fn route(&self, id: RouteId) -> Option<&Route> {
        self.routes.get(usize::try_from(id.0).ok()?)
    }

    /// Where people sign in who ask for this route.
    #[must_use]
    pub fn sign_in<'p>(&'p self, route: Option<&'p Route>) -> Option<&'p SignIn> {
        match route.map(|route| &route.sign_in) {
            Some(Elsewhere::No) | None => self.sign_in.as_ref(),
            Some(Elsewhere::Nowhere) => None,
            Some(Elsewhere::At(sign_in)) => Some(sign_in),
        }
    }

    /// Whose pages may read the answers of this host and route.
    #[must_use]
    pub fn sharing<'p>(&'p self, host: &str, route: Option<&'p Route>) -> Option<&'p Sharing> {
        let of_host = || self.cors.as_ref().and_then(|cors| cors.of(host));
        route.and_then(|route| route.cors.as_ref()).or_else(of_host)
    }
}

/// The first eight bytes of the SHA-256 of the policy as it was compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyId(pub [u8; 8]);

impl std::fmt::Display for PolicyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One line of `routes:`.
#[derive(Debug)]
pub struct Route {
    /// Its place in the policy.
    pub id: RouteId,
    /// Its key, as canonical text.
    pub key: Arc<str>,
    /// Its rule.
    pub rule: Rule,
    /// What must hold as well.
    pub condition: Option<Box<Condition>>,
    /// What it says, rule and condition, as audit lines tell it.
    pub text: Arc<str>,
    /// Whose tokens it accepts.
    pub issuers: Box<[IssuerId]>,
    /// The one of them that is asked about opaque tokens.
    pub introspects: Option<IssuerId>,
    /// Whose keys it takes.
    pub apps: Apps,
    /// What is told on an allow. Routes that tell the same share it.
    pub contract: Arc<Contract>,
    /// Its own forbid.
    pub deny: Option<Box<Named>>,
    /// Whom a token must be for as well: one of these; empty where it need not.
    pub audience: Box<[Arc<str>]>,
    /// How a person must have signed in.
    pub step_up: Option<Box<StepUp>>,
    /// Where tokens are looked for, where that is not everywhere that their issuers say.
    pub from: Option<Box<[Source]>>,
    /// Whether the upstream sees no credential.
    pub strip: bool,
    /// Whose pages may read its answers, where that is not as for its host.
    pub cors: Option<Sharing>,
    /// Whether people sign in elsewhere for it.
    pub sign_in: Elsewhere,
    /// Whom the tokens that its upstream gets are for; it gets none where there is nobody.
    pub mint: Option<Arc<str>>,
    /// How gateways may use its answers again; `None` where they may not.
    pub reuse: Option<Box<Reuse>>,
}

/// Whether people sign in elsewhere than the policy says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Elsewhere {
    /// They do not.
    #[default]
    No,
    /// They are not sent away.
    Nowhere,
    /// They sign in here.
    At(SignIn),
}

impl Route {
    /// Whether tokens are looked for in this place.
    #[must_use]
    pub fn reads(&self, source: &Source) -> bool {
        self.from.as_ref().is_none_or(|from| from.contains(source))
    }
}

/// A guard by its pattern, a forbid by its name, or a route's own by the route's key.
#[derive(Debug)]
pub struct Named {
    /// The pattern, name or key.
    pub name: Arc<str>,
    /// The rule.
    pub rule: Expr,
    /// What it is called and what it says, as audit lines tell it.
    pub text: Arc<str>,
}
