//! What the policy says about a site: its headers, its open and its protected paths, and what it would decide.

use crate::authz::decision::Verdict;
use crate::config::file::{Ask, Who};
use crate::config::{Compiled, Effective};
use crate::dev::rehearsal::{Call, Rehearsal};

/// How many paths of a policy are tried.
const MAX_PATHS: usize = 32;

/// A policy, asked about callers without a credential.
pub(super) struct Known<'c> {
    compiled: &'c Compiled,
    rehearsal: Rehearsal,
}

/// A path, and the host that it is for where the policy names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: Option<String>,
    pub(super) path: String,
}

impl<'c> Known<'c> {
    pub(super) fn new(compiled: &'c Compiled) -> Self {
        Self { compiled, rehearsal: Rehearsal::new(compiled) }
    }

    /// Whether a caller without a credential passes.
    pub(super) fn allows(&self, method: &str, host: &str, path: &str) -> bool {
        let ask = Ask { method: method.into(), host: Some(host.into()), target: path.into() };
        let call = Call {
            who: &Who::Anonymous,
            ask: &ask,
            from: None,
            service: None,
            key: None,
            browser: false,
            headers: &[],
            dpop: None,
            certificate: None,
        };
        self.rehearsal.ask(&call).is_ok_and(|decision| matches!(decision.verdict(), Verdict::Allow(_)))
    }

    /// Paths that GET reaches without a credential, and paths that it does not; one for each route.
    pub(super) fn paths(&self, host: &str) -> (Vec<Place>, Vec<Place>) {
        let (mut open, mut closed) = (Vec::new(), Vec::new());
        for row in Effective::of(self.compiled).rows {
            if !row.methods.is_empty() && !row.methods.iter().any(|method| &**method == "GET") {
                continue;
            }
            let own = match row.host.as_deref() {
                Some(own) if own.contains(['*', '{', ':']) => continue,
                own => own.map(str::to_owned),
            };
            let place = Place { host: own, path: example(&row.path) };
            let list = if self.allows("GET", place.host.as_deref().unwrap_or(host), &place.path) {
                &mut open
            } else {
                &mut closed
            };
            if list.len() < MAX_PATHS && !list.contains(&place) {
                list.push(place);
            }
        }
        (open, closed)
    }

    /// The headers that the policy sets, and those of the always-list that it lets callers send.
    pub(super) fn headers(&self) -> (Vec<String>, Vec<String>) {
        let policy = &self.compiled.policy;
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let Some(names) = policy.routes.first().map(|route| route.contract.names()) else { return Default::default() };
        let mut managed: Vec<String> = names.managed().iter().map(|name| text(name)).collect();
        managed.extend(policy.mint.iter().map(|mint| text(&mint.header)));
        managed.retain(|name| !["authorization", "cookie"].contains(&&**name));
        managed.sort_unstable();
        managed.dedup();
        (managed, names.kept().map(text).collect())
    }

    /// Whether it shares with other origins anywhere.
    pub(super) fn shares(&self) -> bool {
        let policy = &self.compiled.policy;
        policy.cors.is_some() || policy.routes.iter().any(|route| route.cors.is_some())
    }

    /// Whether every route keeps credentials from the upstream.
    pub(super) fn strips(&self) -> bool {
        let routes = &self.compiled.policy.routes;
        !routes.is_empty() && routes.iter().all(|route| route.strip)
    }
}

/// A path that a pattern matches.
fn example(pattern: &str) -> String {
    let segment = |segment: &str| match segment {
        "" => String::new(),
        "*" | "**" => "probe".to_owned(),
        capture if capture.starts_with('{') => "probe".to_owned(),
        prefix if prefix.ends_with('*') => format!("{}probe", prefix.trim_end_matches('*')),
        literal => literal.to_owned(),
    };
    pattern.split('/').map(segment).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::compile;

    #[test]
    fn a_policy_says_what_is_open_what_is_not_and_which_headers_are_its_own() {
        let text = "
issuers: {main: {url: https://id.example.com, audience: shop, roles: roles}}
headers: {X-User-ID: sub}
headers_kept: [remote-user]
routes:
  GET /health: public
  POST /only-post: public
  /admin/**: role:admin
  /t/{tenant}/*: claim:tenant={tenant}
  shop.example.com/a/b: signed-in
  '*.example.com/c': signed-in
";
        let (compiled, problems) = compile("p.yaml", text, &|_| Err(std::io::ErrorKind::NotFound.into()));
        let compiled = compiled.unwrap_or_else(|| panic!("{problems}"));
        let known = Known::new(&compiled);
        let place = |host: Option<&str>, path: &str| Place { host: host.map(str::to_owned), path: path.to_owned() };
        let (open, closed) = known.paths("x.test");
        assert_eq!(open, [place(None, "/health")]);
        let others =
            [place(None, "/admin/probe"), place(None, "/t/probe/probe"), place(Some("shop.example.com"), "/a/b")];
        assert_eq!(closed, others);
        assert!(known.allows("POST", "x.test", "/only-post") && !known.allows("GET", "x.test", "/only-post"));
        assert_eq!(known.headers(), (vec!["x-user-id".to_owned()], vec!["remote-user".to_owned()]));
        assert!(!known.shares());
    }
}
