//! Google accounts, and Google Cloud's Identity-Aware Proxy.

use super::world::GOOGLE as GOOGLE_WORLD;
use super::{Filling, Provider};

/// ID tokens of Google accounts.
pub(super) const GOOGLE: Provider =
    Provider { name: "google", parameters: &[], world: Some(&GOOGLE_WORLD), fill: google };
/// What Identity-Aware Proxy puts on requests.
pub(super) const IAP: Provider = Provider { name: "google-iap", parameters: &[], world: None, fill: iap };

fn google(filling: &mut Filling<'_, '_>) -> Option<()> {
    filling.alone(&["url", "issuer"], "remove it: there is one Google");
    filling.say("url", "https://accounts.google.com", None);
    // Both are in use (OpenID Connect at Google, "validating an ID token").
    filling.list("issuer", &["https://accounts.google.com", "accounts.google.com"]);
    filling.list("algorithms", &["RS256"]);
    filling.flag("id_tokens");
    Some(())
}

fn iap(filling: &mut Filling<'_, '_>) -> Option<()> {
    filling.alone(&["url", "issuer"], "remove it: there is one Identity-Aware Proxy");
    for audience in filling.texts("audience") {
        if !is_resource(&audience.value) {
            let cure = "/projects/NUMBER/global/backendServices/ID, /projects/NUMBER/apps/PROJECT, or \
                        /projects/NUMBER/locations/REGION/services/NAME";
            filling.fail("bad_parameter", audience.span, "an audience of IAP names a resource of a project", cure);
        }
    }
    filling.say("issuer", "https://cloud.google.com/iap", None);
    filling.say("jwks", "https://www.gstatic.com/iap/verify/public_key-jwk", None);
    filling.list("algorithms", &["ES256"]);
    filling.list("from", &["header:X-Goog-Iap-Jwt-Assertion"]);
    Some(())
}

/// Whether a text names a resource by the number of its project.
fn is_resource(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match parts.as_slice() {
        ["", "projects", project, "apps", id] => number(project) && !id.is_empty(),
        ["", "projects", project, "global", "backendServices", id] => number(project) && !id.is_empty(),
        ["", "projects", project, "regions", region, "backendServices", id]
        | ["", "projects", project, "locations", region, "services", id] => {
            number(project) && !region.is_empty() && !id.is_empty()
        }
        _ => false,
    }
}
