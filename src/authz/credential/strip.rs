//! Credentials that the upstream is not to see: cut out of headers, cookies, queries and subprotocols, all else as it came.

use bytes::Bytes;

use super::{SUBPROTOCOL, Source, query, subprotocols};
use crate::authz::decision::Grant;
use crate::authz::reason::Reason;
use crate::authz::request::Request;

/// Every place where a credential of some issuer may stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carriers {
    headers: Box<[Bytes]>,
    /// Whether the proof of a token (RFC 9449 §4.1) may be among them.
    proofs: bool,
    cookies: Box<[Box<str>]>,
    queries: Box<[Box<str>]>,
    subprotocols: Box<[Box<str>]>,
}

/// How much of a request's credentials the upstream is not to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strip {
    /// Those in queries and subprotocols, which end up in logs.
    Exposed,
    /// Those of every issuer, and nothing else of what they stand in.
    Credentials,
    /// Those of every issuer, and all cookies and `Authorization` whatever they hold.
    Everything,
}

/// What is cut out of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stripped {
    /// Headers to set to what is left of them. Names are in lower case.
    pub set: Vec<(Bytes, Bytes)>,
    /// Headers to remove.
    pub remove: Vec<Bytes>,
    /// Query parameters to remove, by their names as they were sent.
    pub query: Vec<Bytes>,
}

impl Carriers {
    /// The places of these sources.
    pub fn new<'s>(sources: impl Iterator<Item = &'s Source>) -> Self {
        let (mut headers, mut cookies, mut queries, mut subprotocols) = (vec![], vec![], vec![], vec![]);
        for source in sources {
            match source {
                Source::Bearer => headers.push(Bytes::from_static(b"authorization")),
                Source::Header(name) => headers.push(Bytes::copy_from_slice(name.as_bytes())),
                Source::Cookie(name) => cookies.push(name.clone()),
                Source::Query(name) => queries.push(name.clone()),
                Source::Subprotocol(start) => subprotocols.push(start.clone()),
            }
        }
        headers.sort_unstable();
        headers.dedup();
        for names in [&mut cookies, &mut queries, &mut subprotocols] {
            names.sort_unstable();
            names.dedup();
        }
        Self {
            proofs: headers.iter().any(|name| **name == *b"authorization"),
            headers: headers.into(),
            cookies: cookies.into(),
            queries: queries.into(),
            subprotocols: subprotocols.into(),
        }
    }

    /// The query parameters among them.
    #[must_use]
    pub fn queries(&self) -> &[Box<str>] {
        &self.queries
    }

    /// The headers out of which a part may be cut, on a route that strips credentials or not.
    pub(in crate::authz) fn cut(&self, strips: bool) -> impl Iterator<Item = &'static str> {
        let cookies = (strips && !self.cookies.is_empty()).then_some("cookie");
        cookies.into_iter().chain((!self.subprotocols.is_empty()).then_some(SUBPROTOCOL))
    }

    /// The headers that some upstream gets without a credential, where some route strips, and where none does.
    #[must_use]
    pub fn headers_changed(&self, strips: bool) -> Box<[Bytes]> {
        let fixed = [
            (strips && self.proofs, "dpop"),
            (strips && !self.cookies.is_empty(), "cookie"),
            (!self.subprotocols.is_empty(), SUBPROTOCOL),
        ];
        let fixed =
            fixed.into_iter().filter(|(changed, _)| *changed).map(|(_, name)| Bytes::from_static(name.as_bytes()));
        let mut names: Vec<Bytes> = self.headers.iter().filter(|_| strips).cloned().chain(fixed).collect();
        names.sort_unstable();
        names.dedup();
        names.into()
    }

    /// Whether there are any that no upstream sees, whatever the route says.
    pub(in crate::authz) fn any_exposed(&self) -> bool {
        !self.queries.is_empty() || !self.subprotocols.is_empty()
    }

    /// What is to be cut out of this request, beside what its caller's upstream is told: that is the policy's own, and
    /// neither goes nor is written over.
    ///
    /// # Errors
    /// [`Reason::QueryAmbiguous`] where a parameter is spelt so that the gateway would not remove it, and
    /// [`Reason::HeaderMalformed`] where what is left of a header cannot be written.
    pub(in crate::authz) fn strip(&self, request: &Request<'_>, grant: &Grant, how: Strip) -> Result<Stripped, Reason> {
        let mut stripped = Stripped::default();
        for name in &self.queries {
            if request.query.map(|query| query::token(query, name)).transpose()?.flatten().is_some() {
                stripped.query.push(Bytes::copy_from_slice(name.as_bytes()));
            }
        }
        if !self.subprotocols.is_empty() {
            self.strip_subprotocols(request, &mut stripped)?;
        }
        match how {
            Strip::Exposed => {}
            Strip::Credentials => {
                stripped.remove.extend(self.headers.iter().cloned());
                stripped.remove.extend(self.proof_of(request));
                self.strip_cookies(request, &mut stripped)?;
            }
            Strip::Everything => {
                stripped.remove.extend(self.headers.iter().cloned());
                stripped.remove.extend(self.proof_of(request));
                stripped.remove.extend([b"authorization".as_slice(), b"cookie"].map(Bytes::from_static));
                stripped.remove.sort_unstable();
                stripped.remove.dedup();
            }
        }
        // What is both set and removed ends up removed.
        let is_set = |name: &Bytes| grant.set().any(|(set, _)| set == name);
        let is_removed = |name: &Bytes| grant.remove().any(|removed| removed == name);
        stripped.remove.retain(|name| !is_removed(name) && !is_set(name));
        stripped.set.retain(|(name, _)| !is_removed(name) && !is_set(name));
        stripped.query.retain(|name| {
            !grant.query().any(|(set, _)| set == name) && !grant.query_removed().any(|removed| removed == name)
        });
        Ok(stripped)
    }

    /// The header of a proof, where this request has one.
    fn proof_of(&self, request: &Request<'_>) -> Option<Bytes> {
        (self.proofs && request.header(b"dpop").next().is_some()).then(|| Bytes::from_static(b"dpop"))
    }

    fn strip_subprotocols(&self, request: &Request<'_>, stripped: &mut Stripped) -> Result<(), Reason> {
        let is_token = |element: &&[u8]| self.subprotocols.iter().any(|start| element.starts_with(start.as_bytes()));
        if subprotocols(request).any(|element| is_token(&element)) {
            let left: Vec<&[u8]> = subprotocols(request).filter(|element| !is_token(element)).collect();
            stripped.left(SUBPROTOCOL, left.join(&b", "[..]))?;
        }
        Ok(())
    }

    fn strip_cookies(&self, request: &Request<'_>, stripped: &mut Stripped) -> Result<(), Reason> {
        if self.cookies.iter().all(|name| request.cookie(name).next().is_none()) {
            return Ok(());
        }
        let lines = request.header(b"cookie").map(|line| self.without_cookies(line));
        let left: Vec<Vec<u8>> = lines.filter(|line| !line.is_empty()).collect();
        stripped.left("cookie", left.join(&b"; "[..]))
    }

    /// A line of cookies without the credentials; the others keep their bytes.
    fn without_cookies(&self, line: &[u8]) -> Vec<u8> {
        let is_token = |pair: &[u8]| {
            let named = |name: &str| pair.trim_ascii().strip_prefix(name.as_bytes()).and_then(|rest| rest.first());
            self.cookies.iter().any(|name| named(name) == Some(&b'='))
        };
        let mut left = Vec::with_capacity(line.len());
        for pair in line.split_inclusive(|byte| matches!(byte, b';' | b',')) {
            let bare = pair.strip_suffix(b";").or_else(|| pair.strip_suffix(b",")).unwrap_or(pair);
            if !is_token(bare) {
                left.extend_from_slice(pair);
            }
        }
        let left = left.trim_ascii();
        left.strip_suffix(b";").or_else(|| left.strip_suffix(b",")).unwrap_or(left).trim_ascii().to_vec()
    }
}

impl Stripped {
    /// Sets a header to what is left of it; removes it where that is nothing.
    fn left(&mut self, name: &'static str, value: Vec<u8>) -> Result<(), Reason> {
        let name = Bytes::from_static(name.as_bytes());
        if value.is_empty() {
            self.remove.push(name);
        } else if value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            self.set.push((name, value.into()));
        } else {
            return Err(Reason::HeaderMalformed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::gateways::Dialect;
    use crate::authz::request::{Asker, Header, Raw, Relaxed};

    fn carriers() -> Carriers {
        let sources = [
            Source::Bearer,
            Source::Header("x-token".into()),
            Source::Cookie("session".into()),
            Source::Query("access_token".into()),
            Source::Subprotocol("bearer.".into()),
        ];
        Carriers::new(sources.iter().chain(&sources))
    }

    fn stripped(how: Strip, target: &str, headers: &[(&str, &str)]) -> Result<Vec<String>, Reason> {
        let headers = headers.iter().map(|(n, v)| Header { name: n.as_bytes(), value: v.as_bytes() }).collect();
        let raw = Raw::new(Dialect::Envoy, Asker::Unix, [b"GET", target.as_bytes(), b"h"], headers);
        let request = Request::read(&raw, Relaxed::default()).unwrap();
        let Stripped { set, remove, query } =
            carriers().strip(&request, &Grant { told: Default::default(), own: None }, how)?;
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let set = set.iter().map(|(name, value)| format!("{}: {}", text(name), text(value)));
        let remove = remove.iter().map(|name| format!("-{}", text(name)));
        Ok(set.chain(remove).chain(query.iter().map(|name| format!("?{}", text(name)))).collect())
    }

    #[test]
    fn only_the_credential_goes_out_of_the_cookies() {
        for (line, left) in [
            ("theme=dark; session=t; x=1", "cookie: theme=dark; x=1"),
            ("session=t; theme=\"a b\";x=1", "cookie: theme=\"a b\";x=1"),
            ("theme=dark; session=t", "cookie: theme=dark"),
            ("theme=dark;session=t;session=u; x=1", "cookie: theme=dark; x=1"),
            ("a=1,session=t", "cookie: a=1"),
            ("sessions=t; session=t", "cookie: sessions=t"),
        ] {
            let left = vec![left.to_owned(), "-authorization".into(), "-x-token".into()];
            assert_eq!(stripped(Strip::Credentials, "/", &[("cookie", line)]), Ok(left), "{line}");
        }
        let two = [("cookie", "a=1; session=t"), ("cookie", "session=t"), ("cookie", "b=2")];
        assert_eq!(stripped(Strip::Credentials, "/", &two).unwrap()[0], "cookie: a=1; b=2");
        let alone = stripped(Strip::Credentials, "/", &[("cookie", "session=t")]).unwrap();
        assert_eq!(alone, ["-authorization", "-x-token", "-cookie"]);
        let others = stripped(Strip::Credentials, "/", &[("cookie", "theme=dark")]).unwrap();
        assert_eq!(others, ["-authorization", "-x-token"], "nothing of ours, so nothing is rewritten");
        let odd = stripped(Strip::Credentials, "/", &[("cookie", "a=\u{e9}; session=t")]);
        assert_eq!(odd, Err(Reason::HeaderMalformed), "what is left could not be written");
    }

    #[test]
    fn what_is_exposed_goes_whatever_the_route_says() {
        let protocols = ("sec-websocket-protocol", "app, bearer.t, v2");
        for how in [Strip::Exposed, Strip::Credentials, Strip::Everything] {
            let stripped = stripped(how, "/?a=1&access_token=t", &[protocols]).unwrap();
            assert!(stripped.contains(&"sec-websocket-protocol: app, v2".into()), "{how:?}: {stripped:?}");
            assert!(stripped.contains(&"?access_token".into()), "{how:?}: {stripped:?}");
        }
        assert_eq!(stripped(Strip::Exposed, "/?a=1", &[("cookie", "session=t")]), Ok(vec![]));
        assert_eq!(
            stripped(Strip::Exposed, "/", &[("sec-websocket-protocol", "bearer.t")]),
            Ok(vec!["-sec-websocket-protocol".into()])
        );
        assert_eq!(stripped(Strip::Exposed, "/?access%5Ftoken=t", &[]), Err(Reason::QueryAmbiguous));
    }

    #[test]
    fn the_proof_of_a_token_goes_with_it() {
        let all = stripped(Strip::Credentials, "/", &[("authorization", "DPoP t"), ("dpop", "x")]).unwrap();
        assert_eq!(all, ["-authorization", "-x-token", "-dpop"]);
        assert_eq!(stripped(Strip::Exposed, "/", &[("dpop", "x")]), Ok(vec![]));
    }

    #[test]
    fn everything_is_every_cookie_too() {
        let all = stripped(Strip::Everything, "/", &[("cookie", "theme=dark; session=t")]).unwrap();
        assert_eq!(all, ["-authorization", "-cookie", "-x-token"]);
    }
}
