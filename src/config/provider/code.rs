//! GitHub Actions, GitLab CI/CD and Kubernetes: workloads with tokens of their own, and everyone else's beside them.

use super::world::{CLUSTER, GITHUB as GITHUB_WORLD, GITLAB as GITLAB_WORLD};
use super::{Filling, Provider, is_name};

/// GitHub Actions, on github.com or a server of one's own.
pub(super) const GITHUB: Provider =
    Provider { name: "github-actions", parameters: &["enterprise"], world: Some(&GITHUB_WORLD), fill: github };
/// GitLab CI/CD, on gitlab.com or a server of one's own.
pub(super) const GITLAB: Provider =
    Provider { name: "gitlab", parameters: &[], world: Some(&GITLAB_WORLD), fill: gitlab };
/// The service accounts of a Kubernetes cluster, EKS included.
pub(super) const KUBERNETES: Provider =
    Provider { name: "kubernetes", parameters: &[], world: Some(&CLUSTER), fill: kubernetes };

fn github(filling: &mut Filling<'_, '_>) -> Option<()> {
    const CURE: &str = "url: https://github.example.com/_services/token, of a GitHub Enterprise Server";
    filling.alone(&["issuer"], CURE);
    let enterprise = filling.parameter("enterprise", is_name, "enterprise: the slug of yours, as in its URL");
    if enterprise.is_some() {
        filling.alone(&["url"], "one of the two: `enterprise` is for github.com");
    }
    let url = match &enterprise {
        Some(slug) => format!("https://token.actions.githubusercontent.com/{}", slug.value),
        None => "https://token.actions.githubusercontent.com".into(),
    };
    filling.say("url", url, enterprise.as_ref());
    filling.list("algorithms", &["RS256"]);
    Some(())
}

fn gitlab(filling: &mut Filling<'_, '_>) -> Option<()> {
    filling.alone(&["issuer"], "url: https://gitlab.example.com, of a server of your own");
    filling.say("url", "https://gitlab.com", None);
    filling.list("algorithms", &["RS256"]);
    Some(())
}

fn kubernetes(filling: &mut Filling<'_, '_>) -> Option<()> {
    if !["url", "jwks", "pem"].iter().any(|key| filling.has(key)) {
        let span = filling.name.span;
        let cure = "url: its issuer, where discovery is public (https://oidc.eks.eu-west-1.amazonaws.com/id/…); \
                    otherwise `issuer` and jwks: file:jwks.json, from `kubectl get --raw /openid/v1/jwks`";
        filling.fail("missing_parameter", span, "`provider: kubernetes` needs to know the cluster", cure);
    }
    Some(())
}
