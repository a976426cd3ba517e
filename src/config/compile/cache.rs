//! `cache:` of routes: which of their answers gateways may use again.

use super::Compiler;
use crate::authz::cache::Reuse;
use crate::authz::policy::Policy;
use crate::config::error::Problem;

impl Compiler<'_> {
    /// Says of each route that has `cache:` how its answers may be used again, and warns where none of them may.
    pub(super) fn reuses(&mut self, policy: &mut Policy) {
        let file = self.file;
        let wanted = file.routes.iter().zip(&policy.routes).enumerate();
        let wanted = wanted.filter_map(|(at, (line, route))| Some((at, line.cache?, route)));
        let made: Vec<_> =
            wanted.map(|(at, most, route)| (at, most.span, Reuse::of(most.value, policy, route))).collect();
        for (at, span, reuse) in made {
            match (reuse, policy.routes.get_mut(at)) {
                (Ok(reuse), Some(route)) => route.reuse = Some(Box::new(reuse)),
                (Ok(_), None) => {}
                (Err(never), _) => {
                    let message = format!("no answer of this route is ever used again: {}", never.why());
                    self.report(Problem::warning("cache_unread", span, message).cure("remove `cache`"));
                }
            }
        }
    }
}
