//! `pdp_clients:` who may ask about subjects that nobody has proven (OpenID AuthZEN).

use super::gateway::{Peer, any_of};
use super::known_issuer;
use crate::config::error::{Spanned, Text};
use crate::config::shape::{Reader, Section};
use crate::config::tree::Node;

pub(super) const CLIENT: Section = Section {
    name: "a policy decision client",
    accepted: &["by", "issuers"],
    later: &[],
    never: &[("token", "how a client is recognised is said by `by`: token:env:NAME")],
};

/// A policy decision client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PdpClient {
    /// How it is recognised: by any of these; never empty.
    pub by: Vec<Spanned<Peer>>,
    /// Of whose subjects it may speak: names of issuers, `api_keys`, `services`; never empty.
    pub issuers: Vec<Text>,
}

/// Reads a client; `issuers` are the names that there are.
pub(super) fn client(reader: &mut Reader, node: &Node, issuers: &[&str]) -> Option<PdpClient> {
    let fields = reader.fields(node, CLIENT)?;
    for (key, cure) in [("by", "how it is recognised"), ("issuers", "of whose subjects it may speak")] {
        if !fields.has(key) {
            reader.missing(node.span, format!("a policy decision client needs `{key}`: {cure}"));
        }
    }
    let by = fields.get("by").map(|node| any_of(reader, node));
    let named = fields.get("issuers").map(|node| reader.texts(node, &fields.name("issuers")));
    for name in named.iter().flatten() {
        known_issuer(reader, name, issuers);
    }
    let (by, issuers) = (by?, named?);
    (!by.is_empty() && !issuers.is_empty()).then_some(PdpClient { by, issuers })
}

#[cfg(test)]
mod tests {
    use crate::config::file::parse;

    fn found(client: &str) -> Vec<(u32, u32, &'static str)> {
        let text = format!(
            "issuers: {{main: {{url: 'https://id.test', audience: a}}}}\nroutes: {{/a: role:x}}\npdp_clients:\n  portal: {client}\n"
        );
        let (_, problems) = parse("portcullis.yaml", &text);
        problems.as_slice().iter().map(|problem| (problem.span.line, problem.span.column, problem.code)).collect()
    }

    #[test]
    fn a_client_is_known_somehow_and_speaks_of_issuers_that_there_are() {
        assert_eq!(found("{by: 'token:env:PORTAL', issuers: [main]}"), []);
        assert_eq!(found("{by: [unix, 10.0.0.0/8], issuers: main}"), []);
        for (client, code) in [
            ("{issuers: [main]}", "missing_key"),
            ("{by: unix}", "missing_key"),
            ("{by: unix, issuers: []}", "missing_value"),
            ("{by: unix, issuers: [mian]}", "unknown_issuer"),
            ("{by: unix, issuers: [api_keys]}", "unknown_issuer"),
            ("{by: unix, issuers: [services]}", "unknown_issuer"),
            ("{by: 'token:secret', issuers: [main]}", "secret_in_file"),
            ("{token: x, by: unix, issuers: [main]}", "refused_key"),
            ("unix", "wrong_shape"),
        ] {
            let found = found(client);
            assert!(found.len() == 1 && found[0].2 == code, "{client}: {found:?}");
        }
    }
}
