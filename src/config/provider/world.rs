//! Issuers whose subjects are the whole world, and the claims that tell one's own apart.

use url::Url;

use crate::authz::rule::{Expr, Test, Word};

/// An issuer from which everyone can get a token.
#[derive(Debug, PartialEq, Eq)]
pub struct World {
    /// Who everyone is, for a message: "everyone … can get its tokens".
    pub who: &'static str,
    /// The claims one of which `require` must fix, as paths.
    pub claims: &'static [&'static str],
    /// What such a rule looks like.
    pub example: &'static str,
}

pub(super) const GITHUB: World = World {
    who: "everyone with a repository",
    claims: &[
        "repository_owner",
        "repository_owner_id",
        "repository",
        "repository_id",
        "enterprise",
        "enterprise_id",
        "sub",
    ],
    example: "claim:repository_owner=acme",
};
pub(super) const GITLAB: World = World {
    who: "everyone with a project",
    claims: &["namespace_path", "namespace_id", "project_path", "project_id", "sub"],
    example: "claim:namespace_path=acme",
};
pub(super) const GOOGLE: World =
    World { who: "everyone with an account", claims: &["hd", "sub"], example: "claim:hd=example.com" };
pub(super) const CLUSTER: World = World {
    who: "every workload of the cluster",
    claims: &["sub", "/kubernetes.io/namespace", "/kubernetes.io/serviceaccount/uid"],
    example: "claim:/kubernetes.io/namespace=shop, or claim:sub=system:serviceaccount:shop:cart",
};
const MICROSOFT: World =
    World { who: "everyone with an account", claims: &["tid"], example: "claim:tid=the id of your tenant" };

/// By host and the beginning of the path.
const WORLDS: &[(&str, &str, &World)] = &[
    ("token.actions.githubusercontent.com", "/", &GITHUB),
    ("accounts.google.com", "/", &GOOGLE),
    ("login.microsoftonline.com", "/common", &MICROSOFT),
    ("login.microsoftonline.com", "/organizations", &MICROSOFT),
    ("login.microsoftonline.com", "/consumers", &MICROSOFT),
    ("container.googleapis.com", "/", &CLUSTER),
    ("gitlab.com", "/", &GITLAB),
];
/// Clusters, in which every workload has a token: how their hosts begin.
const CLUSTERS: &[&str] = &["kubernetes.default.svc", "oidc.eks."];

/// The world that an issuer's URL, or its `iss`, speaks for.
#[must_use]
pub fn world(issuer: &str) -> Option<&'static World> {
    let url = Url::parse(issuer).or_else(|_| Url::parse(&format!("https://{issuer}"))).ok()?;
    let name = url.host_str()?;
    if name == "kubernetes" || CLUSTERS.iter().any(|start| name.starts_with(start)) {
        return Some(&CLUSTER);
    }
    let listed = WORLDS.iter().find(|(host, path, _)| name == *host && url.path().starts_with(path));
    listed.map(|(.., world)| *world)
}

impl World {
    /// Whether a rule holds only for tokens of which it fixes one of the claims.
    #[must_use]
    pub fn is_narrowed_by(&self, rule: &Expr) -> bool {
        match rule {
            Expr::All(parts) => parts.iter().any(|part| self.is_narrowed_by(part)),
            Expr::Any(parts) => parts.iter().all(|part| self.is_narrowed_by(part)),
            Expr::Word(_, Word::Claim { path, test: Test::Equals(_) }) => {
                let path = path.to_string();
                self.claims.contains(&&*path)
            }
            Expr::Word(..) | Expr::Not(_) => false,
        }
    }
}
