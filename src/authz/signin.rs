//! Where a person is sent to sign in: one template, filled with the canonical URL of what was asked for.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::request::Request;

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

/// The policy's `sign_in:` and `public_url:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    before: Box<str>,
    after: Option<Box<str>>,
    public_url: Box<str>,
}

impl SignIn {
    /// A template that may hold `{url}` once, and the URL under which people reach this site.
    #[must_use]
    pub fn new(template: &str, public_url: &str) -> Self {
        let (before, after) = match template.split_once("{url}") {
            Some((before, after)) => (before, Some(after.into())),
            None => (template, None),
        };
        Self { before: before.into(), after, public_url: public_url.trim_end_matches('/').into() }
    }

    /// The location for this request. The host is the policy's own: what the caller sent as Host is never copied.
    #[must_use]
    pub fn location(&self, request: &Request<'_>) -> Box<str> {
        let Some(after) = &self.after else { return self.before.clone() };
        let mut url = format!("{}{}", self.public_url, utf8_percent_encode(&request.path, PATH));
        if let Some(query) = request.query {
            url.push('?');
            url.push_str(query);
        }
        format!("{}{}{after}", self.before, utf8_percent_encode(&url, COMPONENT)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::request::{Asker, Proof, Raw, Relaxed};

    fn location(target: &str, host: &str) -> String {
        let raw = Raw {
            asker: Asker::Unix,
            proof: Proof::default(),
            source: None,
            principal: b"",
            method: b"GET",
            target: target.as_bytes(),
            host: host.as_bytes(),
            headers: vec![],
        };
        let sign_in = SignIn::new("https://login.example.com/?return_to={url}&x=1", "https://shop.example.com/");
        sign_in.location(&Request::read(&raw, Relaxed::default()).unwrap()).into()
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
}
