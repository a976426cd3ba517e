//! `when:` into conditions, and what a condition must not ask where it stands.

use super::Compiler;
use super::route::Line;
use super::rule::worded;
use crate::authz::condition::{self, Condition, Place, Variable};
use crate::config::error::{Problem, Text};
use crate::config::file::Credential;

impl Compiler<'_> {
    /// A route's condition; `None` where it cannot be read, or where nobody knows what the route's key captures.
    pub(super) fn condition(&mut self, when: &Text, line: &Line) -> Option<Box<Condition>> {
        let captures: Vec<&str> = line.pattern.as_ref()?.captures().collect();
        let (hidden, hidden_queries, lent) = (self.credential_headers(), self.credential_queries(), self.believed());
        let place = Place {
            captures: &captures,
            public: line.is_public,
            hidden: &hidden,
            hidden_queries: &hidden_queries,
            lent: &lent,
        };
        match Condition::parse(&when.value, &place) {
            Ok(condition) => {
                self.asks(&condition, when, line);
                Some(Box::new(condition))
            }
            Err(error) => {
                let span = self.within(when, &error.at);
                self.report(worded("bad_condition", span, &error.to_string()));
                None
            }
        }
    }

    /// The headers in which issuers look for tokens.
    fn credential_headers(&self) -> Vec<Box<str>> {
        let sources = self.file.issuers.iter().flat_map(|(_, issuer)| &issuer.from);
        let name = |source: &Credential| match source {
            Credential::Header(name) => Some(name.to_ascii_lowercase().into()),
            Credential::Subprotocol(_) => Some("sec-websocket-protocol".into()),
            Credential::Bearer | Credential::Cookie(_) | Credential::Query(_) => None,
        };
        sources.filter_map(|source| name(&source.value)).collect()
    }

    /// The parameters in which issuers look for tokens.
    fn credential_queries(&self) -> Vec<Box<str>> {
        let sources = self.file.issuers.iter().flat_map(|(_, issuer)| &issuer.from);
        let name = |source: &Credential| if let Credential::Query(name) = source { Some(name.clone()) } else { None };
        sources.filter_map(|source| name(&source.value)).collect()
    }

    /// The headers that some gateway sets itself.
    fn believed(&self) -> Vec<Box<str>> {
        let headers = self.file.gateways.iter().flat_map(|(_, gateway)| &gateway.believes_headers);
        headers.map(|name| name.value.to_ascii_lowercase().into()).collect()
    }

    fn asks(&mut self, condition: &Condition, when: &Text, line: &Line) {
        for (variable, at) in condition.reads() {
            let span = self.within(when, at);
            match variable {
                Variable::Roles => self.reads_roles = true,
                Variable::Address if self.nobody_believed() => {
                    let message = "`caller.address` is the caller's address, and no gateway is believed about it";
                    let cure = "gateways: {edge: {by: 10.0.4.0/28, believes: [client_address], client_address: {from: connection}}}";
                    self.report(Problem::error("address_not_believed", span, message).cure(cure));
                }
                Variable::Subject => {
                    let unprefixed = self.unprefixed(&line.accepted);
                    if unprefixed.len() > 1 {
                        let names = self.names(&unprefixed);
                        let message =
                            format!("{names} may each have a subject of this name, and `caller.subject` tells no two");
                        let cure = "caller.principal, or give all but one of them a `subject_prefix`";
                        self.report(Problem::error("subject_ambiguous", span, message).cure(cure));
                    }
                }
                _ => {}
            }
        }
        let unprefixed = self.unprefixed(&line.accepted).len();
        if unprefixed > 1 && condition.leaves().any(|leaf| matches!(leaf, "claims.sub" | "claims['sub']")) {
            let message = "two issuers may each have a subject of this name, and `claims.sub` tells no two";
            let problem = Problem::warning("subject_ambiguous", when.span, message);
            self.report(problem.cure("caller.principal, which names the issuer too"));
        }
        if let Some(words) = condition::words(&when.value) {
            let message = "rule words say the same, and `explain` tells more of them";
            let problem = Problem::warning("condition_has_words", when.span, message);
            self.report(problem.cure(format!("in `allow`: {words}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use crate::config::compile::compile;

    fn no_files(_: &str) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
    const WHEN: &str = "issuers: {main: {url: https://id.test, audience: a, roles: roles, from: [bearer, 'header:X-Token']}}\nroutes:\n";

    /// Line, column, length and code of each problem of a route with this condition.
    fn when(route: &str) -> Vec<(u32, u32, u32, &'static str)> {
        let (_, problems) = compile("p.yaml", &format!("{WHEN}  {route}\n"), &no_files);
        problems.as_slice().iter().map(|p| (p.span.line, p.span.column, p.span.len, p.code)).collect()
    }

    #[test]
    fn a_condition_that_cannot_stand_is_an_error_at_its_place() {
        let wrong = |condition: &str| when(&format!("/t/{{id}}: {{allow: signed-in, when: \"{condition}\"}}"));
        let at = |column: u32, len: u32, code| vec![(3, 38 + column, len, code)];
        assert_eq!(wrong("claims.level >= 3"), []);
        assert_eq!(wrong("claims.level >= 3 && path.di == 'x'"), at(21, 7, "bad_condition"));
        assert_eq!(wrong("claims.level >= 1 / 0"), at(16, 5, "bad_condition"));
        assert_eq!(wrong("request.headers['x-token'].size() == 1"), at(16, 9, "bad_condition"));
        assert_eq!(wrong("caller.address.startsWith('10.')"), at(0, 14, "address_not_believed"));
        assert_eq!(wrong("claims.tenant == path.id"), [(3, 37, 26, "condition_has_words")]);
        assert_eq!(when("/a: {allow: public, when: claims.level > 3}"), [(3, 29, 6, "bad_condition")]);
        assert_eq!(when("/a: {allow: public, when: [x]}"), [(3, 29, 3, "wrong_shape")]);
        assert_eq!(when("/a: {allow: public, when: ''}").len(), 1);
    }

    #[test]
    fn a_subject_of_two_issuers_is_no_subject_to_a_condition() {
        let two = "issuers:\n  a: {url: https://a.test, audience: x, may_grant: any, default: true}\n  b: {url: https://b.test, audience: x, may_grant: any, default: true}\nroutes:\n";
        let found = |condition: &str| {
            let (_, problems) = compile(
                "p.yaml",
                &format!("{two}  /a/{{id}}: {{allow: signed-in, when: \"{condition}\"}}\n"),
                &no_files,
            );
            problems.as_slice().iter().map(|p| (p.severity.word(), p.code)).collect::<Vec<_>>()
        };
        assert_eq!(found("caller.subject != path.id"), [("error", "subject_ambiguous")]);
        assert_eq!(found("claims.sub != path.id"), [("warning", "subject_ambiguous")]);
        assert_eq!(found("caller.principal != path.id"), []);
    }

    #[test]
    fn a_role_that_a_condition_may_read_is_used() {
        let roles = |when: &str| {
            let text = format!("roles: {{ops: claim:x=y}}\n{WHEN}  /a: {{allow: signed-in, when: \"{when}\"}}\n");
            compile("p.yaml", &text, &no_files).1.as_slice().iter().map(|p| p.code).collect::<Vec<_>>()
        };
        assert_eq!(roles("caller.roles.exists(r, r.startsWith('o'))"), [""; 0]);
        assert_eq!(roles("claims.level > 1"), ["role_unused"]);
    }
}
