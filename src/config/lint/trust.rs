//! Issuers that are believed more than they need be, and paths that are read less strictly than guards assume.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::Linter;
use crate::authz::issuer::IssuerId;
use crate::authz::rule::Word;
use crate::config::error::Problem;
use crate::config::file::Leniency;

/// The longest leeway that clocks need.
const LONG_LEEWAY: Duration = Duration::from_secs(120);
/// The longest outage for which keys should still be believed.
const LONG_STALE: Duration = Duration::from_secs(7 * 86_400);
/// How many roles a message names.
const NAMED: usize = 3;

impl Linter<'_> {
    pub(super) fn trust(&mut self) {
        self.issuers();
        self.many_issuers();
        self.paths();
    }

    fn issuers(&mut self) {
        for (name, issuer) in &self.file.issuers {
            let mut warn = |code, message: String, cure: &str| {
                self.found.push(Problem::warning(code, name.span, message).cure(cure));
            };
            let name = &name.value;
            if issuer.allow_http {
                let message = format!("the keys of `{name}` may come without TLS, from this machine");
                warn("issuer_http", message, "https, and without `allow_http`, wherever it is not for development");
            }
            if issuer.leeway > LONG_LEEWAY {
                let seconds = issuer.leeway.as_secs();
                let message = format!("tokens of `{name}` are accepted for {seconds} seconds after they ended");
                warn("leeway_long", message, "leeway: 60s, and clocks that are set by NTP");
            }
            if issuer.max_stale > LONG_STALE {
                let days = issuer.max_stale.as_secs() / 86_400;
                let message = format!("keys of `{name}` are believed for {days} days when they cannot be fetched");
                warn("stale_long", message, "max_stale: 24h, or as long as its outages last");
            }
            // A provider that has only id tokens leaves no choice.
            if issuer.id_tokens && issuer.preset.is_none() {
                let message = format!("id tokens of `{name}` are accepted, which tell an application who signed in");
                warn("id_tokens_accepted", message, "ask the provider for access tokens whose audience is this API");
            }
        }
    }

    /// Roles that a rule asks for where several issuers are accepted that can each grant them.
    fn many_issuers(&mut self) {
        let mut shared: BTreeMap<(u16, u16), BTreeSet<&str>> = BTreeMap::new();
        let mut seen: HashSet<(&str, &[IssuerId])> = HashSet::new();
        for route in &self.policy.routes {
            if route.issuers.len() < 2 {
                continue;
            }
            let words = route.rule.expr().into_iter().flat_map(|rule| rule.words());
            for (_, word) in words {
                let Word::Role(role) = word else { continue };
                if !seen.insert((role, &route.issuers)) {
                    continue;
                }
                let mut granting = route.issuers.iter().filter(|id| self.grants(**id, role));
                let Some(first) = granting.next() else { continue };
                for other in granting {
                    shared.entry((other.0, first.0)).or_default().insert(role);
                }
            }
        }
        for ((issuer, first), roles) in shared {
            let name = |id: u16| self.file.issuers.get(usize::from(id)).map(|(name, _)| name);
            let (Some(issuer), Some(first)) = (name(issuer), name(first)) else { continue };
            let mut named: Vec<String> = roles.iter().take(NAMED).map(|role| format!("`{role}`")).collect();
            if let Some(more) = roles.len().checked_sub(NAMED).filter(|more| *more > 0) {
                named.push(format!("{more} more"));
            }
            let message = format!("both `{}` and `{}` can grant {}", first.value, issuer.value, named.join(", "));
            let problem = Problem::warning("role_many_issuers", issuer.span, message)
                .related(first.span, "the other")
                .cure("`may_grant` with the roles that each may speak of; derived roles: `issuer:x and …`");
            self.found.push(problem);
        }
    }

    /// Guards look at paths as they were sent; an upstream that decodes once more sees another path.
    fn paths(&mut self) {
        let Some((guard, _)) = self.file.guards.iter().zip(self.guards).find(|(_, key)| key.names_path()) else {
            return;
        };
        for leniency in &self.file.paths {
            let (what, read) = match leniency.value {
                Leniency::EncodedSlash => ("encoded_slash", "`/a%2Fb` as `/a/b`"),
                Leniency::Backslash => ("backslash", "`/a\\b` as `/a/b`"),
                Leniency::DoubleEncoding => ("double_encoding", "`/a%252Fb` as `/a/b`"),
                // Guards read these as an upstream may: without what follows, as one `/`, without regard to case.
                Leniency::Semicolon | Leniency::EmptySegment | Leniency::CaseVariant => continue,
            };
            let message =
                format!("with `{what}`, an upstream that reads {read} can be reached past this policy's guards");
            let problem = Problem::warning("path_relaxed", leniency.span, message)
                .related(guard.0.span, "such a guard")
                .cure("remove it; or accept it where the upstream reads the path as it stands");
            self.found.push(problem);
        }
    }
}
