//! Microsoft Entra ID: one tenant, or a list of them.

use super::{Filling, Provider, Text, is_uuid};

/// Access tokens of Entra ID.
pub(super) const ENTRA: Provider =
    Provider { name: "entra", parameters: &["tenant", "version"], world: None, fill: entra };

const TENANT: &str = "the directory (tenant) id, such as 8a2f1c64-3b5d-4e7f-9a10-c2d3e4f50617; several in `tenants`";

fn entra(filling: &mut Filling<'_, '_>) -> Option<()> {
    filling.alone(&["url", "issuer"], "remove it: `tenant` or `tenants`, and `version`, say both");
    let version = filling.parameter(
        "version",
        |version| matches!(version, "v1.0" | "v2.0"),
        "v2.0, or v1.0 where the API's manifest has `requestedAccessTokenVersion` null or 1",
    );
    let first = version.is_some_and(|version| &*version.value == "v1.0");
    if filling.has("tenants") {
        many(filling, first);
    } else {
        let tenant = filling.needed("tenant", is_uuid, TENANT)?;
        one(filling, &tenant, first);
    }
    filling.say("roles", "roles", None);
    filling.say("groups", "groups", None);
    filling.say("scopes", "scp", None);
    filling.list("algorithms", &["RS256"]);
    // The client of an access token; an ID token has neither.
    filling.require(if first { "claim:appid?" } else { "claim:azp?" });
    Some(())
}

fn one(filling: &mut Filling<'_, '_>, tenant: &Text, first: bool) {
    let id = &tenant.value;
    if first {
        filling.say("url", format!("https://login.microsoftonline.com/{id}"), Some(tenant));
        filling.say("issuer", format!("https://sts.windows.net/{id}/"), Some(tenant));
    } else {
        filling.say("url", format!("https://login.microsoftonline.com/{id}/v2.0"), Some(tenant));
    }
}

fn many(filling: &mut Filling<'_, '_>, first: bool) {
    if let Some(tenant) = filling.parameter("tenant", is_uuid, TENANT) {
        filling.fail("preset_fixes", tenant.span, "`tenant` and `tenants` name the same thing", "one of the two");
    }
    for tenant in filling.texts("tenants").into_iter().filter(|tenant| !is_uuid(&tenant.value)) {
        filling.fail("bad_parameter", tenant.span, "a tenant of Entra ID is named by its id", TENANT);
    }
    let (issuer, jwks) = match first {
        true => ("https://sts.windows.net/{tid}/", "https://login.microsoftonline.com/common/discovery/keys"),
        false => (
            "https://login.microsoftonline.com/{tid}/v2.0",
            "https://login.microsoftonline.com/common/discovery/v2.0/keys",
        ),
    };
    filling.say("issuer", issuer, None);
    filling.say("jwks", jwks, None);
}
