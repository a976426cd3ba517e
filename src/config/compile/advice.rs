//! What loads, and probably does not do what was meant: issuers that nobody accepts, roles that nobody asks for.

use super::Compiler;
use crate::config::error::Problem;
use crate::config::file::{self, Source};

impl Compiler<'_> {
    /// Warns of what is never used. Says nothing where parts of the file could not be read: they may use it.
    pub(super) fn advise(&mut self) {
        if self.problems.has_errors() {
            return;
        }
        self.unused_hosts();
        for (at, (name, _)) in self.file.issuers.iter().enumerate() {
            if !self.accepted.contains(&at) {
                let message = format!("no route accepts the issuer `{}`", name.value);
                let cure = "`default: true`, or `issuers:` at a route that is not public";
                self.report(Problem::warning("issuer_unused", name.span, message).cure(cure));
            }
        }
        if self.reads_roles || self.tells_roles() {
            return;
        }
        for (name, _) in &self.file.roles {
            if !self.asked.contains(&name.value) {
                let message = format!("no rule asks for the role `{}`, and no header tells it", name.value);
                self.report(Problem::warning("role_unused", name.span, message));
            }
        }
    }

    /// Whether some header or datum tells all roles.
    pub(super) fn tells_roles(&self) -> bool {
        let own = self.file.routes.iter().filter_map(|route| route.tells.as_deref());
        let mut tells = std::iter::once(&self.file.tells).chain(own).flat_map(file::Tells::all);
        tells.any(|tell| tell.source.value == Source::Roles)
    }
}
