//! Okta, Auth0, Keycloak and Cloudflare Access: the directories of organisations.

use super::{Filling, Provider, is_host, is_name};

/// Okta: a custom authorization server, or the org's own, whose ID tokens alone can be verified.
pub(super) const OKTA: Provider = Provider { name: "okta", parameters: &["domain", "server"], world: None, fill: okta };
/// Auth0.
pub(super) const AUTH0: Provider = Provider { name: "auth0", parameters: &["domain"], world: None, fill: auth0 };
/// Keycloak: one realm.
pub(super) const KEYCLOAK: Provider =
    Provider { name: "keycloak", parameters: &["client"], world: None, fill: keycloak };
/// Cloudflare Access: one application of a team.
pub(super) const CLOUDFLARE: Provider =
    Provider { name: "cloudflare-access", parameters: &["team"], world: None, fill: cloudflare };

const NO_URL: &str = "remove it, or remove `provider` and say the whole issuer yourself";

fn okta(filling: &mut Filling<'_, '_>) -> Option<()> {
    filling.alone(&["url", "issuer"], NO_URL);
    let domain = filling.needed("domain", is_host, "domain: acme.okta.com, or a domain of your own")?;
    let server = filling.parameter("server", is_name, "server: default, the id of one (aus…), or org");
    let (host, server) = (&domain.value, server.as_ref().map_or("default", |server| &*server.value));
    if server == "org" {
        filling.say("url", format!("https://{host}"), Some(&domain));
        filling.flag("id_tokens");
    } else {
        filling.say("url", format!("https://{host}/oauth2/{server}"), Some(&domain));
        filling.say("scopes", "scp", None);
        // The client of an access token; an ID token has none.
        filling.require("claim:cid?");
    }
    filling.say("groups", "groups", None);
    filling.list("algorithms", &["RS256"]);
    Some(())
}

fn auth0(filling: &mut Filling<'_, '_>) -> Option<()> {
    filling.alone(&["url", "issuer"], NO_URL);
    let domain = filling.needed("domain", is_host, "domain: acme.eu.auth0.com, or a custom domain")?;
    filling.say("url", format!("https://{}/", domain.value), Some(&domain));
    Some(())
}

fn keycloak(filling: &mut Filling<'_, '_>) -> Option<()> {
    const CURE: &str = "url: https://id.example.com/realms/shop";
    filling.alone(&["issuer"], CURE);
    let client = filling.parameter("client", |client| !client.is_empty(), "client: shop-api");
    match filling.text("url") {
        Some(url) if url.contains("/realms/") && !url.ends_with('/') => {}
        Some(_) => {
            let span = filling.value("url").map_or(filling.name.span, |node| node.span);
            filling.fail("bad_parameter", span, "the issuer of a realm ends with /realms/ and its name", CURE);
        }
        None => {
            let span = filling.name.span;
            filling.fail("missing_parameter", span, "`provider: keycloak` needs `url`, the issuer of the realm", CURE);
        }
    }
    let pointer = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match &client {
        Some(client) => {
            filling.say("roles", format!("/resource_access/{}/roles", pointer(&client.value)), Some(client))
        }
        None => filling.say("roles", "realm_access.roles", None),
    }
    filling.say("groups", "groups", None);
    // Keycloak says in a claim of its own what a token is: ID tokens are `ID`, refresh tokens `Refresh`.
    filling.require("claim:typ=Bearer or claim:typ=DPoP");
    Some(())
}

fn cloudflare(filling: &mut Filling<'_, '_>) -> Option<()> {
    filling.alone(&["url", "issuer"], NO_URL);
    let team = filling.needed("team", is_name, "team: acme, of acme.cloudflareaccess.com")?;
    for tag in filling.texts("audience") {
        let is_tag = tag.value.len() == 64 && tag.value.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_tag {
            let cure = "the application's Audience (AUD) Tag, as the dashboard shows it";
            filling.fail("bad_parameter", tag.span, "an audience of Cloudflare Access is 64 hexadecimal digits", cure);
        }
    }
    let origin = format!("https://{}.cloudflareaccess.com", team.value);
    filling.say("jwks", format!("{origin}/cdn-cgi/access/certs"), Some(&team));
    filling.say("issuer", origin, Some(&team));
    filling.list("algorithms", &["RS256"]);
    // Only where `origins` says whose pages may send it does the cookie count.
    if filling.has("origins") {
        filling.list("from", &["header:Cf-Access-Jwt-Assertion", "cookie:CF_Authorization"]);
    } else {
        filling.list("from", &["header:Cf-Access-Jwt-Assertion"]);
    }
    // `org` is the session of the whole team, not of an application.
    filling.require("claim:type=app");
    Some(())
}
