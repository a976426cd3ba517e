//! Where a person is sent to sign in: one template, filled with the canonical URL of what was asked for.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::credential::query::without;
use super::request::Request;
use super::stepup::StepUp;

/// What stands unescaped in one component of a query (RFC 3986 §2.3).
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What stands unescaped in a path; `%` and all that could end the path is escaped.
const PATH: &AsciiSet = &COMPONENT
    .remove(b'/')
    .remove(b'!')
    .remove(b'$')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b',')
    .remove(b':')
    .remove(b'@')
    .remove(b'=')
    .remove(b'&')
    .remove(b'+');

/// Where a template says how long ago, and in which way, a person may have signed in (OpenID Connect Core §3.1.2.1).
const MAX_AGE: &str = "{max_age}";
const ACR: &str = "{acr}";

/// The policy's `sign_in:` and `public_url:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    before: Box<str>,
    after: Option<Box<str>>,
    public_url: Box<str>,
    /// Origins that people may be sent back to, by their hosts.
    returns: Box<[(Box<str>, Box<str>)]>,
}

impl SignIn {
    /// A template that may hold `{url}` once, and `{max_age}` and `{acr}` anywhere in its query; the URL under which people reach this site, and the origins of the other
    /// sites that they may be sent back to.
    #[must_use]
    pub fn new<'o>(template: &str, public_url: &str, returns: impl Iterator<Item = &'o str>) -> Self {
        let (before, after) = match template.split_once("{url}") {
            Some((before, after)) => (before, Some(after.into())),
            None => (template, None),
        };
        Self {
            before: before.into(),
            after,
            public_url: public_url.trim_end_matches('/').into(),
            returns: returns.map(|origin| (host(origin).into(), origin.into())).collect(),
        }
    }

    /// The location for this request. Its host only picks one of the policy's own origins: what the caller sent as Host
    /// is never copied. Parameters of these names are left out of the query. What a route does not ask for is empty.
    #[must_use]
    pub fn location(&self, request: &Request<'_>, secret: &[Box<str>], step_up: Option<&StepUp>) -> Box<str> {
        let Some(after) = &self.after else { return filled(&self.before, step_up) };
        let listed = self.returns.iter().find(|(host, _)| **host == *request.host).map(|(_, origin)| origin);
        let origin = listed.unwrap_or(&self.public_url);
        let mut url = format!("{origin}{}", utf8_percent_encode(&request.path, PATH));
        if let Some(query) = request.query.map(|query| without(query, secret)).filter(|query| !query.is_empty()) {
            url.push('?');
            url.push_str(&query);
        }
        let (before, after) = (filled(&self.before, step_up), filled(after, step_up));
        format!("{before}{}{after}", utf8_percent_encode(&url, COMPONENT)).into()
    }

    /// Whether it can say that a person must sign in anew, or otherwise.
    #[must_use]
    pub fn asks(&self) -> bool {
        let parts = [Some(&self.before), self.after.as_ref()];
        parts.into_iter().flatten().any(|part| part.contains(MAX_AGE) || part.contains(ACR))
    }
}

/// A part of the template with what a route asks for.
fn filled(part: &str, step_up: Option<&StepUp>) -> Box<str> {
    if !part.contains('{') {
        return part.into();
    }
    let max_age = step_up.and_then(StepUp::max_age).map(|age| age.as_secs().to_string()).unwrap_or_default();
    let acr = step_up.map(|step_up| step_up.acr().join(" ")).unwrap_or_default();
    let acr = utf8_percent_encode(&acr, COMPONENT).to_string();
    part.replace(MAX_AGE, &max_age).replace(ACR, &acr).into()
}

/// The host of an origin, without its port.
fn host(origin: &str) -> &str {
    let rest = origin.split_once("://").map_or(origin, |(_, rest)| rest);
    match rest.find(']') {
        Some(end) => rest.get(..=end).unwrap_or(rest),
        None => rest.split(':').next().unwrap_or(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::gateways::Dialect;
    use crate::authz::request::{Asker, Raw, Relaxed};

    fn location(target: &str, host: &str) -> String {
        let raw = Raw::new(Dialect::Envoy, Asker::Unix, [b"GET", target.as_bytes(), host.as_bytes()], vec![]);
        let returns = ["https://admin.example.com:8443", "http://[::1]:3000"];
        let template = "https://login.example.com/?return_to={url}&x=1";
        let sign_in = SignIn::new(template, "https://shop.example.com/", returns.into_iter());
        sign_in.location(&Request::read(&raw, Relaxed::default()).unwrap(), &["access_token".into()], None).into()
    }

    #[test] // F07
    fn the_return_url_is_the_public_one_whatever_host_was_sent() {
        let expected =
            "https://login.example.com/?return_to=https%3A%2F%2Fshop.example.com%2Fa%2520b%3Fq%3D%252f%26r%3D1&x=1";
        assert_eq!(location("/a%20b?q=%2f&r=1", "evil.test"), expected);
        assert_eq!(
            location("/@evil.test/x", "evil.test"),
            "https://login.example.com/?return_to=https%3A%2F%2Fshop.example.com%2F%40evil.test%2Fx&x=1"
        );
    }

    #[test] // F07
    fn the_host_picks_a_listed_origin_and_is_never_copied() {
        let back = |host: &str| {
            let location = location("/a", host);
            location.split_once("return_to=").unwrap().1.strip_suffix("%2Fa&x=1").unwrap().to_owned()
        };
        for host in ["admin.example.com", "ADMIN.example.com.", "admin.example.com:1234"] {
            assert_eq!(back(host), "https%3A%2F%2Fadmin.example.com%3A8443", "{host}");
        }
        assert_eq!(back("[0:0::1]:9"), "http%3A%2F%2F%5B%3A%3A1%5D%3A3000");
        for host in ["evil.test", "admin.example.com.evil.test", "evil-admin.example.com", "example.com", "[::2]"] {
            assert_eq!(back(host), "https%3A%2F%2Fshop.example.com", "{host}");
        }
    }

    #[test]
    fn a_credential_of_the_query_is_not_sent_along() {
        for target in ["/a?access_token=x.y.z", "/a?access%5Ftoken=x.y.z", "/a?ACCESS_TOKEN=x.y.z&access_token=x.y.z"] {
            assert!(location(target, "h").ends_with("return_to=https%3A%2F%2Fshop.example.com%2Fa&x=1"), "{target}");
        }
        assert!(location("/a?b=1&access_token=x.y.z&c", "h").ends_with("%2Fa%3Fb%3D1%26c&x=1"));
    }
}
