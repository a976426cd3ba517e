//! Amazon Web Services: Cognito user pools and the tokens of IAM roles.

use url::Url;

use super::{Filling, Provider};

/// Access tokens of a Cognito user pool.
pub(super) const COGNITO: Provider = Provider { name: "cognito", parameters: &["pool"], world: None, fill: cognito };
/// Outbound identity federation: what STS `GetWebIdentityToken` gives to the roles of one account.
pub(super) const IAM: Provider = Provider { name: "aws-iam", parameters: &[], world: None, fill: iam };

/// What an Application Load Balancer puts on requests of users that it signed in.
pub(super) const ALB: Provider = Provider { name: "aws-alb", parameters: &["region"], world: None, fill: alb };

fn alb(filling: &mut Filling<'_, '_>) -> Option<()> {
    filling.alone(&["url"], "`issuer`, the `iss` of the provider at which the load balancer signs people in");
    filling.alone(&["from"], "remove it: a load balancer uses X-Amzn-Oidc-Data");
    for (key, cure) in [
        ("signer", "signer: the ARN of the load balancer"),
        (
            "issuer",
            "issuer: what its authenticate-oidc action has for Issuer, or https://cognito-idp.….amazonaws.com/…",
        ),
    ] {
        if !filling.has(key) {
            let message = format!("`provider: aws-alb` needs `{key}`");
            filling.fail("missing_parameter", filling.name.span, message, cure);
        }
    }
    const REGION: &str = "region: eu-west-1, that of the load balancer";
    if ["pem", "jwks"].iter().any(|key| filling.has(key)) {
        filling.parameter("region", is_region, REGION);
    } else {
        let region = filling.needed("region", is_region, REGION)?;
        let name = &region.value;
        let url = match name.starts_with("us-gov-") {
            true => format!("https://s3-{name}.amazonaws.com/aws-elb-public-keys-prod-{name}/{{kid}}"),
            false => format!("https://public-keys.auth.elb.{name}.{}/{{kid}}", suffix(name)),
        };
        filling.say("pem", url, Some(&region));
    }
    filling.list("algorithms", &["ES256"]);
    filling.list("from", &["header:X-Amzn-Oidc-Data"]);
    Some(())
}

fn cognito(filling: &mut Filling<'_, '_>) -> Option<()> {
    filling.alone(&["url", "issuer"], "remove it: `pool` says both");
    let pool = filling.needed("pool", is_pool, "pool: eu-west-1_AbCdEfGhI, the id of the user pool")?;
    let region = pool.value.split('_').next().unwrap_or_default();
    filling.say("url", format!("https://cognito-idp.{region}.{}/{}", suffix(region), pool.value), Some(&pool));
    // An access token has no `aud`; an ID token has, and says so in `token_use`.
    filling.audience_in("client_id");
    filling.require("claim:token_use=access");
    filling.say("groups", "cognito:groups", None);
    filling.list("algorithms", &["RS256"]);
    Some(())
}

fn iam(filling: &mut Filling<'_, '_>) -> Option<()> {
    const CURE: &str = "url: https://….tokens.sts.global.api.aws, as \
                        `aws iam get-outbound-web-identity-federation-info` shows it";
    filling.alone(&["issuer"], CURE);
    let own = filling.text("url").and_then(|url| Url::parse(url).ok());
    let host = own.as_ref().and_then(Url::host_str);
    if !host.is_some_and(|host| host.ends_with(".tokens.sts.global.api.aws")) {
        let span = filling.value("url").map_or(filling.name.span, |node| node.span);
        let code = if filling.has("url") { "bad_parameter" } else { "missing_parameter" };
        filling.fail(code, span, "`provider: aws-iam` needs the issuer URL of your account", CURE);
    }
    filling.list("algorithms", &["ES384", "RS256"]);
    Some(())
}

/// `eu-west-1_AbCdEfGhI`
fn is_pool(text: &str) -> bool {
    let Some((region, id)) = text.split_once('_') else { return false };
    is_region(region) && !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// `eu-west-1`, `us-gov-west-1`
pub(super) fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lower = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    match parts.split_last() {
        Some((number, words)) => {
            words.len() >= 2
                && words.iter().all(lower)
                && number.len() == 1
                && number.bytes().all(|b| b.is_ascii_digit())
        }
        None => false,
    }
}

/// The domain of a region's services.
fn suffix(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}
