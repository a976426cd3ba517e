//! Subjects that nobody has proven: a policy decision client says who would ask (OpenID AuthZEN), and is told whether the
//! request would pass. No [`Grant`](super::decision::Grant) is made of one: what comes of it is a boolean and its reason.

use std::net::IpAddr;
use std::sync::Arc;

use super::decision::Basis;
use super::gateways::{By, Dialect};
use super::identity::{APPS, WORKLOADS};
use super::json::Object;
use super::reason::Reason;
use super::request::{Asker, Proof};

/// Who may ask about subjects that nobody has proven.
#[derive(Debug, PartialEq, Eq)]
pub struct PdpClient {
    /// Its name in the policy.
    pub name: Arc<str>,
    /// How it is known: by any of these.
    pub by: Box<[By]>,
    /// The issuers of whose subjects it may speak; `services` for workloads, `api_keys` for applications.
    pub issuers: Box<[Arc<str>]>,
}

impl PdpClient {
    /// Whether it is who asks.
    #[must_use]
    pub fn is(&self, asker: Asker, proof: &Proof<'_>) -> bool {
        self.by.iter().any(|by| by.knows(Dialect::Json, asker, proof))
    }

    /// The one issuer of users of whom it may speak, where there is one only.
    pub(super) fn sole_issuer(&self) -> Option<&str> {
        let mut users = self.issuers.iter().filter(|name| !matches!(&***name, WORKLOADS | APPS));
        users.next().filter(|_| users.next().is_none()).map(|name| &**name)
    }

    /// Whether it may speak of this issuer's subjects.
    pub(super) fn speaks_of(&self, issuer: &str) -> bool {
        self.issuers.iter().any(|one| **one == *issuer)
    }
}

/// Which slot of the caller a subject fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A person, or a program with a token of its own.
    User,
    /// A workload, by its SPIFFE ID.
    Workload,
    /// An application, by the owner or the id of its key.
    App,
}

/// A subject as it is asserted.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// Its slot.
    pub kind: Kind,
    /// Its name.
    pub id: Box<str>,
    /// The issuer's name in the policy, of a user.
    pub issuer: Option<Box<str>>,
    /// What its token would say of lists; what its claims say, where one is not here.
    pub lists: Lists,
    /// The claims of a user's token.
    pub claims: Object,
}

/// Lists of a user, as they are asserted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// Roles; those that the issuer may not grant do not count.
    pub roles: Option<Box<[Arc<str>]>>,
    /// Groups.
    pub groups: Option<Box<[Arc<str>]>>,
    /// Scopes.
    pub scopes: Option<Box<[Arc<str>]>>,
}

/// Would this subject's request pass?
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Who would ask.
    pub subject: Subject,
    /// The method.
    pub method: Box<str>,
    /// Host and perhaps port.
    pub host: Box<str>,
    /// Path and query, undecoded.
    pub target: Box<str>,
    /// Where the request would come from.
    pub address: Option<IpAddr>,
}

/// What came of it. It holds nothing that could be told to an upstream.
#[must_use]
#[derive(Debug)]
pub struct Evaluated(pub(super) Basis);

impl Evaluated {
    /// A denial for what happened around the core.
    pub fn denied(reason: Reason) -> Self {
        Self(Basis { reason: Some(reason), ..Basis::default() })
    }

    /// Whether the request would pass.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.0.reason.is_none()
    }

    /// Why not; `None` where it would pass.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.0.reason
    }

    /// What it rests on, for who records it.
    #[must_use]
    pub fn basis(&self) -> &Basis {
        &self.0
    }
}
