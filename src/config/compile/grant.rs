//! `grants:` whom each is for, and what is wrong with it as far as that can be told without a clock.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Compiled, Compiler};
use crate::authz::grant::{Grant, Grants};
use crate::authz::identity::Principal;
use crate::authz::time::Timestamp;
use crate::config::error::{Problem, Span, Text, nearest};
use crate::config::file;

/// When a grant ends, and where the file says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    until: Timestamp,
    span: Span,
}

impl Compiled {
    /// Warns of the grants that have ended by now, which nobody has any more.
    #[must_use]
    pub fn warned_at(mut self, now: Timestamp) -> Self {
        for ending in self.endings.iter().filter(|ending| ending.until <= now) {
            let problem =
                Problem::warning("grant_ended", ending.span, "this grant has ended: nobody has the role by it");
            self.warnings.report(problem.cure("remove it, or give it a later `until`"));
        }
        self.warnings.sort();
        self
    }
}

impl Compiler<'_> {
    /// The grants; the outer `None` where one cannot be made.
    #[expect(clippy::option_option, reason = "not written is one thing, not readable another")]
    pub(super) fn grants(&mut self) -> Option<Option<Grants>> {
        let file = self.file;
        let mut seen: HashMap<(&str, &str), Span> = HashMap::new();
        let mut made = Vec::with_capacity(file.grants.len());
        for grant in &file.grants {
            if let Some(first) = seen.insert((&grant.principal.value, &grant.role.value), grant.span) {
                let message = "this principal is given this role twice, and only the longer one counts";
                let problem = Problem::error("grant_twice", grant.span, message).related(first, "first here");
                self.report(problem.cure("keep the one that is meant"));
            }
            if !self.asked.contains(&grant.role.value) && !self.tells_roles() && !self.partial {
                let message = format!("no rule asks for the role `{}`, and no header tells it", grant.role.value);
                self.report(
                    Problem::warning("role_unasked", grant.role.span, message).cure(self.meant(&grant.role.value)),
                );
            }
            made.push(self.principal(&grant.principal, "this grant").map(|principal| {
                let ticket = grant.ticket.as_ref().map(|ticket| Arc::from(&*ticket.value));
                (principal, Grant { role: Arc::from(&*grant.role.value), until: grant.until.value, ticket })
            }));
        }
        made.into_iter().collect::<Option<Vec<_>>>().map(Grants::new)
    }

    fn meant(&self, role: &str) -> String {
        match nearest(role, self.asked.iter().map(|asked| &**asked)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "a role that some rule asks for".into(),
        }
    }

    /// When each grant ends.
    pub(super) fn endings(&self) -> Vec<Ending> {
        let ending = |grant: &file::Grant| Ending { until: grant.until.value, span: grant.until.span };
        self.file.grants.iter().map(ending).collect()
    }

    /// The principal that a text names, as audit lines write it. `whose` is what is talked of.
    pub(super) fn principal(&mut self, text: &Text, whose: &str) -> Option<Principal> {
        let (text, span) = (&*text.value, text.span);
        let issuers = self.file.issuers.iter().filter_map(|(name, issuer)| {
            let subject = text.strip_prefix(&*name.value)?.strip_prefix('/')?;
            Some((name, issuer, subject))
        });
        // An issuer's name may hold a `/` itself.
        let Some((name, issuer, subject)) = issuers.max_by_key(|(name, ..)| name.value.len()) else {
            let (start, names) = (text.split('/').next().unwrap_or_default(), self.issuers.keys().copied());
            let cure = match nearest(start, names) {
                Some(meant) if meant != start => format!("did you mean `{meant}/…`?"),
                _ => "an issuer's name under `issuers:`, `/` and the subject: main/u1".into(),
            };
            if !self.file.lost.contains(&"issuers") {
                let message = format!("the principal of {whose} begins with no issuer's name");
                self.report(Problem::error("unknown_issuer", span, message).cure(cure));
            }
            return None;
        };
        if subject.is_empty() {
            let message = format!("the principal of {whose} has no subject");
            let problem = Problem::error("missing_value", span, message);
            self.report(problem.cure(format!("{}/u1", name.value)));
            return None;
        }
        if let Some(prefix) = issuer.subject_prefix.as_ref().filter(|prefix| !subject.starts_with(&*prefix.value)) {
            let (name, prefix) = (&name.value, &prefix.value);
            let message = format!("no subject of `{name}` is called so: each begins with `{prefix}`");
            self.report(Problem::error("unknown_principal", span, message).cure(format!("{name}/{prefix}{subject}")));
            return None;
        }
        Some(Principal { issuer: Arc::from(&*name.value), subject: Arc::from(subject) })
    }
}
