//! Issuers of many tenants: an `iss` for each, made of a template, and the tenants that are accepted.

use crate::config::error::{Problem, Text};
use crate::config::shape::{Fields, Reader, brief};

/// How many tenants an issuer may list: each token's is looked for among them.
const MAX_TENANTS: usize = 1_000;

/// The tenants of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenants {
    /// The claim that the template names.
    pub claim: Box<str>,
    /// What stands in the template before it, and what after.
    pub around: (Box<str>, Box<str>),
    /// Those whose tokens are accepted.
    pub any_of: Vec<Text>,
}

impl Tenants {
    /// The `iss` of a tenant.
    #[must_use]
    pub fn iss(&self, tenant: &str) -> String {
        format!("{}{tenant}{}", self.around.0, self.around.1)
    }
}

/// Reads `tenants` together with the template that they stand in.
pub(super) fn tenants(reader: &mut Reader, fields: &Fields<'_>, iss: Option<&Text>, also: &[Text]) -> Option<Tenants> {
    const CURE: &str = "issuer: https://login.example.com/{tid}/v2.0, with `tid` the claim that names the tenant";
    let template = iss.and_then(|iss| Some((iss, split(&iss.value)?)));
    let Some(node) = fields.get("tenants") else {
        if let Some(iss) = iss.into_iter().chain(also).find(|iss| iss.value.contains(['{', '}'])) {
            let message = "an `iss` of many tenants needs `tenants`, the list of those that are accepted";
            reader.report(Problem::error("missing_key", iss.span, message).cure("tenants: [the id of each]"));
        }
        return None;
    };
    let any_of = reader.texts(node, "`tenants` of an issuer");
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    for tenant in any_of.iter().filter(|tenant| !tenant.value.chars().all(fits)) {
        let message = format!("`{}` is no id of a tenant", brief(&tenant.value));
        let cure = "letters, digits, `-`, `_` and `.`: each is named, and none stands for others";
        reader.report(Problem::error("bad_tenant", tenant.span, message).cure(cure));
    }
    if any_of.len() > MAX_TENANTS {
        let message = format!("an issuer has at most {MAX_TENANTS} tenants, this has {}", any_of.len());
        reader.report(Problem::error("too_many", node.span, message));
    }
    let Some((_, (before, claim, after))) = template.filter(|_| also.is_empty()) else {
        let span = iss.map_or(node.span, |iss| iss.span);
        reader.report(
            Problem::error("bad_template", span, "`tenants` need one `issuer` with a `{claim}` in it").cure(CURE),
        );
        return None;
    };
    if let Some(url) = fields.key("url") {
        let message = "discovery is one tenant's: an issuer of many needs `jwks`, the keys of all";
        reader.report(
            Problem::error("bad_template", url, message).cure("jwks: the URL of the keys that all tenants share"),
        );
    }
    Some(Tenants { claim: claim.into(), around: (before.into(), after.into()), any_of })
}

/// A template with one `{claim}`, taken apart. Something stands before it, so that not every `iss` fits.
fn split(template: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = template.split_once('{')?;
    let (claim, after) = rest.split_once('}')?;
    let is_name = !claim.is_empty() && claim.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (is_name && before.ends_with('/') && !after.contains(['{', '}'])).then_some((before, claim, after))
}

#[cfg(test)]
mod tests {
    use crate::config::file::parse;

    fn found(keys: &str) -> Vec<&'static str> {
        let text = format!("issuers: {{main: {{audience: a, {keys}}}}}\nroutes: {{/a: role:x}}\n");
        parse("p.yaml", &text).1.as_slice().iter().map(|problem| problem.code).collect()
    }

    #[test]
    fn a_template_and_its_tenants_need_each_other() {
        let jwks = "jwks: 'https://a.org/keys'";
        let with = |issuer: &str, tenants: &str| found(&format!("{jwks}, issuer: '{issuer}', tenants: {tenants}"));
        assert_eq!(with("https://a.org/{tid}/v2.0", "[t1, t2]"), [""; 0]);
        assert_eq!(with("https://{tid}.a.org", "[t1, t2]"), [""; 0]);
        assert_eq!(found(&format!("{jwks}, issuer: 'https://a.org/{{tid}}/v2.0'")), ["missing_key"]);
        for template in
            ["https://a.org/t1/v2.0", "{tid}", "https://a.org/{}/x", "https://a.org/{a}/{b}", "https://a.org/{a"]
        {
            assert_eq!(with(template, "[t1]"), ["bad_template"], "{template}");
        }
        for tenant in ["'*'", "a/b", "'a:b'", "'{tid}'"] {
            assert_eq!(with("https://a.org/{tid}/", &format!("[t1, {tenant}]")), ["bad_tenant"], "{tenant}");
        }
        assert_eq!(with("https://a.org/{tid}/", "[]"), ["missing_value"]);
        assert_eq!(found("url: 'https://a.org', issuer: 'https://a.org/{tid}/', tenants: [a]"), ["bad_template"]);
        assert_eq!(found(&format!("{jwks}, issuer: ['https://a.org/{{tid}}/', b], tenants: [a]")), ["bad_template"]);
    }

    #[test] // J13
    fn a_tenant_is_of_one_issuer_only() {
        let both = |second: &str| {
            let text = format!(
                "issuers:\n  a: {{jwks: 'https://a.org/keys', issuer: 'https://a.org/{{tid}}/', tenants: [t1, t2], audience: x, may_grant: any}}\n  b: {{{second}, audience: x, may_grant: any}}\nroutes: {{/a: role:x}}\n"
            );
            let (_, problems) = parse("p.yaml", &text);
            problems.as_slice().iter().map(|problem| problem.code).collect::<Vec<_>>()
        };
        assert_eq!(both("url: 'https://a.org/t3/'"), [""; 0]);
        assert_eq!(both("url: 'https://a.org/t2/'"), ["issuer_twice"]);
        assert_eq!(both("jwks: 'https://a.org/keys', issuer: 'https://a.org/{tid}/', tenants: [t3]"), [""; 0]);
        assert_eq!(
            both("jwks: 'https://a.org/keys', issuer: 'https://a.org/{tid}/', tenants: [t3, t1]"),
            ["issuer_twice"]
        );
    }
}
