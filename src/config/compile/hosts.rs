//! `hosts:` named sets of hosts, and the keys that name them.

use super::Compiler;
use super::rule::worded;
use crate::authz::route::{HostFault, Pattern, PatternFault};
use crate::config::error::{Problem, Spanned, nearest};

impl Compiler<'_> {
    /// Takes in the sets of hosts.
    pub(super) fn host_sets(&mut self) {
        for (name, hosts) in &self.file.hosts {
            let texts: Vec<&str> = hosts.iter().map(|host| &*host.value).collect();
            let Err(fault) = self.hosts.add(&name.value, &texts) else { continue };
            let host = |at: usize| hosts.get(at).map_or(name.span, |host| host.span);
            let problem = match &fault {
                HostFault::Name | HostFault::NameTwice => worded("bad_hosts", name.span, &fault.to_string()),
                HostFault::Host(at, _) | HostFault::Capture(at) => worded("bad_hosts", host(*at), &fault.to_string()),
                HostFault::Twice(first, at) => worded("bad_hosts", host(*at), &fault.to_string())
                    .cure("keep one of the two")
                    .related(host(*first), "first here"),
            };
            self.report(problem);
        }
    }

    /// A key or a guard's pattern; `None` where it cannot be read, which is reported.
    pub(super) fn pattern(&mut self, key: &Spanned<Box<str>>) -> Option<Pattern> {
        match Pattern::parse_in(&key.value, &self.hosts) {
            Ok(pattern) => {
                self.used_hosts.extend(pattern.host_set().map(Box::from));
                Some(pattern)
            }
            Err(error) => {
                let span = self.within(key, &error.at);
                let mut problem = worded("bad_pattern", span, &error.to_string());
                if error.kind == PatternFault::UnknownHosts {
                    let name = key.value.get(error.at).unwrap_or_default().trim_end_matches(':');
                    let known = self.file.hosts.iter().any(|(set, _)| &*set.value == name);
                    if known || self.file.lost.contains(&"hosts") {
                        return None;
                    }
                    problem.code = "unknown_hosts";
                    if let Some(meant) = nearest(name, self.hosts.names()) {
                        problem = problem.cure(format!("did you mean `{meant}:`?"));
                    }
                }
                self.report(problem);
                None
            }
        }
    }

    /// Warns of sets that no key names.
    pub(super) fn unused_hosts(&mut self) {
        for (name, _) in &self.file.hosts {
            if !self.used_hosts.contains(&name.value) {
                let message = format!("no key names the hosts `{}`", name.value);
                let cure = format!("`{}:/path` as the key of a route or guard", name.value);
                self.report(Problem::warning("hosts_unused", name.span, message).cure(cure));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use crate::config::{Compiled, Problems, compile};

    fn compiled(text: &str) -> (Option<Compiled>, Problems) {
        let issuers = "issuers: {main: {url: 'https://id.example.com', audience: shop, roles: roles}}\n";
        compile("p.yaml", &format!("{issuers}{text}"), &|_| Err(io::ErrorKind::NotFound.into()))
    }

    fn found(text: &str) -> Vec<(u32, u32, &'static str)> {
        let (_, problems) = compiled(text);
        problems.as_slice().iter().map(|problem| (problem.span.line, problem.span.column, problem.code)).collect()
    }

    #[test]
    fn routes_and_guards_name_sets_of_hosts() {
        let text = "\
hosts: {api: [api.example.com, '*.preview.example.com']}
routes: {api:/orders/**: role:clerk, 'GET api:/status': public}
guards: {api:/orders/**: role:staff}
";
        let (compiled, problems) = compiled(text);
        assert_eq!(problems.to_string(), "");
        let policy = compiled.unwrap().policy;
        assert_eq!(
            policy.routes.iter().map(|route| &*route.key).collect::<Vec<_>>(),
            ["api:/orders/**", "GET api:/status"]
        );
        assert_eq!(&*policy.guards[0].name, "api:/orders/**");
        assert!(policy.pattern("api:/x").is_some() && policy.pattern("web:/x").is_none());
    }

    #[test]
    fn sets_of_hosts_are_checked() {
        assert_eq!(
            found("hosts: {api: [a.com]}\nroutes: {ap:/x: role:a}"),
            [(2, 9, "hosts_unused"), (3, 10, "unknown_hosts")][1..]
        );
        let (_, problems) = compiled("hosts: {api: [a.com]}\nroutes: {aip:/x: role:a}");
        assert_eq!(problems.as_slice()[0].cure.as_deref(), Some("did you mean `api:`?"));
        assert_eq!(found("hosts: {api: [a.com]}\nroutes: {/x: role:a}"), [(2, 9, "hosts_unused")]);
        assert_eq!(found("hosts: {api: [a.com, A.com]}\nroutes: {api:/x: role:a}"), [(2, 22, "bad_hosts")]);
        assert_eq!(found("hosts: {api: [a.com, 'b.com:80']}\nroutes: {api:/x: role:a}"), [(2, 22, "bad_hosts")]);
        assert_eq!(found("hosts: {a.b: [a.com]}\nroutes: {/x: role:a}"), [(2, 9, "bad_hosts")]);
        assert_eq!(found("hosts: {api: []}\nroutes: {api:/x: role:a}"), [(2, 14, "missing_value")]);
    }

    #[test]
    fn keys_that_meet_across_sets_clash() {
        let hosts = "hosts: {api: [a.com, b.com], web: [b.com, c.com]}\n";
        for routes in ["{api:/x: role:a, web:/x: role:b}", "{api:/x: role:a, b.com/x: role:b}"] {
            let (_, problems) = compiled(&format!("{hosts}routes: {routes}\nguards: {{web:/x: role:x}}"));
            assert_eq!(problems.as_slice()[0].code, "route_clash", "{routes}");
            assert_eq!(problems.as_slice()[0].related[0].span.column, 10);
        }
        let (compiled, problems) = compiled(&format!("{hosts}routes: {{GET api:/x: role:a, POST web:/x: role:b}}"));
        assert!(compiled.is_some(), "{problems}");
    }
}
