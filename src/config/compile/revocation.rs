//! `revocation:` whose tokens, sessions, keys and principals are meant.

use std::sync::Arc;

use super::Compiler;
use crate::authz::identity::{APPS, WORKLOADS};
use crate::authz::logout::LogoutPolicy;
use crate::authz::revocation::{Revocation, RevocationPolicy, Revocations, Revoked};
use crate::config::error::{Problem, Text, nearest};
use crate::config::file::{self, What};

/// How many revocations a file may list.
const MAX_LISTED: usize = 100_000;

impl Compiler<'_> {
    /// What is revoked; the outer `None` where some line of it cannot be told.
    #[expect(clippy::option_option, reason = "not written is one thing, not readable another")]
    pub(super) fn revocation(&mut self) -> Option<Option<Box<RevocationPolicy>>> {
        let file = self.file;
        let Some(written) = &file.revocation else { return Some(None) };
        if let Some(span) = written.store.filter(|_| file.store.is_none()) {
            let message = "what is revoked would end with the process: there is no store that replicas share";
            self.report(Problem::error("not_durable", span, message).cure("store: rediss://redis.example.com:6379"));
        }
        if let Some(first) = written.listed.first().filter(|_| written.listed.len() > MAX_LISTED) {
            let message = format!("a file of revocations lists at most {MAX_LISTED}, this {}", written.listed.len());
            self.report(Problem::error("too_many", first.span, message).cure("remove those whose `until` has passed"));
            return None;
        }
        let mut listed = Revocations::default();
        let mut whole = true;
        for line in &written.listed {
            match self.revoked(line) {
                Some(revocation) => listed.add(revocation),
                None => whole = false,
            }
        }
        let policy = RevocationPolicy {
            listed,
            shared: written.store.is_some(),
            fail_open: written.fail_open,
            keep: written.keep,
        };
        whole.then(|| Some(Box::new(policy)))
    }

    fn revoked(&mut self, line: &file::Listed) -> Option<Revocation> {
        let (issuer, of) = match &line.what {
            What::Token(issuer, id) => (self.speaker(issuer)?, Revoked::Token(shared(id))),
            What::Session(issuer, id) => (self.speaker(issuer)?, Revoked::Session(shared(id))),
            What::Key(issuer, id) => (self.speaker(issuer)?, Revoked::Key(shared(id))),
            What::Issuer(issuer) => (self.speaker(issuer)?, Revoked::Issued(line.issued_before?)),
            What::Principal(text) => {
                let principal = match text.value.split_once('/') {
                    Some((place @ (WORKLOADS | APPS), subject)) if !subject.is_empty() => {
                        (place.into(), subject.into())
                    }
                    _ => {
                        let principal = self.principal(text, "this revocation")?;
                        (principal.issuer, principal.subject)
                    }
                };
                (principal.0, Revoked::Subject(principal.1, line.issued_before))
            }
        };
        Some(Revocation { issuer, of, until: line.until })
    }

    /// Whose logout tokens count: what they revoke must have a place to be kept, and they a place to come to.
    pub(super) fn logout(&mut self, issuer: &file::Issuer) -> Option<Box<LogoutPolicy>> {
        let logout = issuer.logout.as_ref()?;
        if !issuer.signers.is_empty() {
            let message = "a load balancer signs no logout tokens, and its keys are not its own alone";
            let problem = Problem::error("logout_unsupported", logout.span, message);
            self.report(problem.cure("`logout` at the issuer behind the load balancer, as an issuer of its own"));
            return None;
        }
        if self.file.revocation.as_ref().is_none_or(|revocation| revocation.store.is_none()) {
            let message = "who signs out is signed out on every replica, and nothing says where that is kept";
            let problem = Problem::error("not_durable", logout.span, message);
            self.report(problem.cure("`revocation: {store: true}`, and a `store`"));
        }
        if self.file.listen.public.is_none() {
            let message = "logout tokens come to the public listener, and there is none";
            self.report(Problem::error("no_listener", logout.span, message).cure("listen: {public: 0.0.0.0:9003}"));
        }
        let clients = logout.clients.iter().map(shared).collect();
        Some(Box::new(LogoutPolicy { clients, whole_subject: logout.whole_subject }))
    }

    fn speaker(&mut self, name: &Text) -> Option<Arc<str>> {
        if self.issuers.contains_key(&*name.value) || [WORKLOADS, APPS].contains(&&*name.value) {
            return Some(shared(name));
        }
        if !self.file.lost.contains(&"issuers") {
            let problem = Problem::error("unknown_issuer", name.span, format!("there is no issuer `{}`", name.value));
            self.report(match nearest(&name.value, self.issuers.keys().copied()) {
                Some(meant) => problem.cure(format!("did you mean `{meant}`?")),
                None => problem.cure("an issuer's name under `issuers:`"),
            });
        }
        None
    }
}

fn shared(text: &Text) -> Arc<str> {
    Arc::from(&*text.value)
}
