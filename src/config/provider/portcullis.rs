//! Another portcullis, whose `mint:` made the tokens.

use super::{Filling, Provider};

/// A portcullis before this one: the edge of a mesh.
pub(super) const PORTCULLIS: Provider = Provider { name: "portcullis", parameters: &[], world: None, fill: portcullis };

fn portcullis(filling: &mut Filling<'_, '_>) -> Option<()> {
    if !filling.has("url") && !filling.has("issuer") {
        let span = filling.name.span;
        let cure = "url: https://edge.example.com, as `issuer` of its `mint` says";
        filling.fail("missing_parameter", span, "`provider: portcullis` needs `url`, the issuer of its tokens", cure);
    }
    filling.list("algorithms", &["ES256", "EdDSA"]);
    filling.list("types", &["at+jwt"]);
    filling.list("from", &["header:X-Portcullis-Identity"]);
    for claim in ["roles", "groups"] {
        filling.say(claim, claim, None);
    }
    filling.flag("relays");
    Some(())
}
