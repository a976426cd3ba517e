//! `api_keys:` into keys that can be looked up, and which routes take whose.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::Compiler;
use super::rule::Stand;
use crate::authz::api_keys::{ApiKey, ApiKeys, Apps};
use crate::authz::identity::APPS;
use crate::authz::rule::{Expr, Rule};
use crate::config::api_keys::{Fault, MAX_FILE, Maker, entries};
use crate::config::error::{Problem, Span, Spanned, nearest};
use crate::config::file;

/// The keys of a policy, and whose they are.
#[derive(Default)]
pub(super) struct Keys {
    keys: Vec<ApiKey>,
    owners: HashSet<Arc<str>>,
}

impl Compiler<'_> {
    /// Reads the keys: before the rules, which name their owners.
    pub(super) fn read_api_keys(&mut self) {
        self.reserved();
        let Some(section) = &self.file.api_keys else { return };
        let mut maker = Maker::default();
        let mut keys = Keys::default();
        match &section.file {
            Some(path) => self.key_entries(path, section, &mut maker, &mut keys),
            None => {
                for written in &section.keys {
                    match maker.key(written.value.clone(), &self.hosts) {
                        Ok(key) => keys.take(key),
                        Err(fault) => self.report(file::api_key_problem(fault, written.span)),
                    }
                }
            }
        }
        for named in self.file.tests.iter().filter_map(|row| row.key.as_ref()) {
            if !keys.owners.contains(&*named.value) && !keys.keys.iter().any(|key| *key.id == *named.value) {
                let message = format!("nobody called `{}` has an API key, and no key is called so", named.value);
                self.report(Problem::error("unknown_owner", named.span, message).cure("the owner of a key, or its id"));
            }
        }
        self.api_keys = keys;
    }

    /// What stands for the issuer of applications is no issuer's name, and tests that show keys need some.
    fn reserved(&mut self) {
        if let Some((name, _)) = self.file.issuers.iter().find(|(name, _)| *name.value == *APPS) {
            let message = "an issuer cannot be called `api_keys`: applications with keys are its subjects";
            self.report(Problem::error("reserved_name", name.span, message).cure("another name"));
        }
        let named = self.file.tests.iter().find_map(|row| row.key.as_ref());
        if let Some(named) = named.filter(|_| self.file.api_keys.is_none() && !self.partial) {
            self.report(no_keys("a test shows an API key", named.span));
        }
    }

    /// The entries of a file. Its lines are named, and never shown: somebody may have written a key there.
    fn key_entries(&mut self, path: &Spanned<PathBuf>, section: &file::ApiKeys, maker: &mut Maker, keys: &mut Keys) {
        let bytes = match self.key_file(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("the file of API keys cannot be read: {}", error.kind());
                let cure = "the path is relative to the folder of the policy; `portcullis key new --file` makes it";
                return self.report(Problem::error("file_unreadable", path.span, message).cure(cure));
            }
        };
        let text = std::str::from_utf8(&bytes).ok().filter(|_| bytes.len() <= MAX_FILE);
        let Some(text) = text else {
            let message = "the file of API keys is not UTF-8, or is larger than 64 MiB";
            return self.report(Problem::error("bad_api_key", path.span, message).cure("one entry a line"));
        };
        let (entries, faults) = entries(text, &section.prefix);
        let name = path.value.display();
        let told = |fault: Fault, line: u32| {
            let fault = Fault { message: format!("{name}:{line}: {}", fault.message), ..fault };
            file::api_key_problem(fault, path.span)
        };
        for fault in faults {
            let line = fault.line;
            self.report(told(fault, line));
        }
        for entry in entries {
            if self.problems.is_full() {
                return;
            }
            match maker.key(entry.key, &self.hosts) {
                Ok(key) => keys.take(key),
                Err(fault) => self.report(told(fault, entry.line)),
            }
        }
    }

    /// The keys, where the policy has a section of them.
    pub(super) fn compiled_keys(&mut self, derived: &[(Arc<str>, Expr)], contracts: usize) -> Option<Arc<ApiKeys>> {
        let section = self.file.api_keys.as_ref()?;
        let shared = |place: &file::Credential| {
            self.file.issuers.iter().any(|(_, issuer)| issuer.from.iter().any(|from| from.value == *place))
        };
        let sources = section.from.iter().map(|from| (super::issuer::source(&from.value), shared(&from.value)));
        let sources = sources.collect();
        let keys = std::mem::take(&mut self.api_keys).keys;
        Some(Arc::new(ApiKeys::new(section.prefix.clone(), sources, derived, contracts, keys)))
    }

    /// Whose keys a route takes: everybody's where its `issuers` name them, or it names none and they are the default;
    /// those of the owners that its rule names otherwise.
    pub(super) fn apps(&mut self, route: &file::Route, rule: &Rule, derived: &[(Arc<str>, Expr)]) -> Apps {
        let Some(section) = self.file.api_keys.as_ref().filter(|_| *rule != Rule::Public) else {
            return Apps::Nobody;
        };
        let named = rule.expr().map(|expr| Apps::named_by(expr, derived)).unwrap_or_default();
        let listed = route.issuers.as_ref().map(|names| names.iter().any(|name| *name.value == *APPS));
        match listed {
            Some(true) => return Apps::Every,
            None if section.default => return Apps::Every,
            None => {}
            Some(false) => {
                if named != Apps::Nobody {
                    let message = "this rule names the owner of a key, and the route's `issuers` take no keys";
                    let problem = Problem::warning("key_not_accepted", route.rule.span(), message);
                    self.report(problem.cure(
                        "`api_keys` in `issuers` takes everybody's; without `issuers`, those that the rule names",
                    ));
                }
                return Apps::Nobody;
            }
        }
        self.team_may(route, &named);
        named
    }

    /// A team's rule opens its routes for keys only where its include says that it may.
    fn team_may(&mut self, route: &file::Route, named: &Apps) {
        let Some((_, include)) = self.file.team(route.key.span.file).filter(|_| *named != Apps::Nobody) else { return };
        if !include.issuers.iter().any(|name| *name.value == *APPS) {
            let message = "API keys are not for the routes of this file, and its rule names the owner of one";
            let problem = Problem::error("not_permitted", route.rule.span(), message);
            self.report(
                problem
                    .cure("`issuers: [api_keys]` at the include, if they are meant to be")
                    .related(include.span, "its include"),
            );
        }
    }

    /// Whether `key:name` can be asked here.
    pub(super) fn key_word(&mut self, name: &str, span: Span, stand: &Stand<'_>) {
        if stand.only.is_some() {
            let message = format!("`key:{name}` is about a request, and {} is about a token", stand.what);
            self.report(Problem::error("word_not_here", span, message).cure("move it to the route"));
        } else if self.file.api_keys.is_none() {
            if !self.file.lost.contains(&"api_keys") {
                self.report(no_keys(&format!("`key:{name}` asks for an API key"), span));
            }
        } else if !self.partial && !self.api_keys.owners.contains(name) {
            let owners = self.api_keys.owners.iter().map(|owner| &**owner);
            let cure = match nearest(name, owners) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("portcullis key new --owner {name}"),
            };
            let message = format!("nobody called `{name}` has an API key, so that this never holds");
            self.report(Problem::warning("owner_unknown", span, message).cure(cure));
        }
    }
}

impl Keys {
    fn take(&mut self, key: ApiKey) {
        if !self.owners.contains(&key.owner) {
            self.owners.insert(Arc::clone(&key.owner));
        }
        self.keys.push(key);
    }
}

fn no_keys(what: &str, span: Span) -> Problem {
    Problem::error("no_api_keys", span, format!("{what}, and the policy has no `api_keys`"))
        .cure("api_keys: {file: keys.yaml}")
}

#[cfg(test)]
mod tests {
    use std::io;

    use crate::authz::api_keys::Apps;
    use crate::config::reference::Found;
    use crate::config::{Compiled, Problems, Surroundings, compile_all};

    const HASH: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const ISSUER: &str = "issuers: {main: {url: 'https://id.example.com', audience: a, roles: r}}\n";

    fn compiled(text: &str, keys: &str, team: &str) -> (Option<Compiled>, Problems) {
        let file = |path: &str| match path {
            "keys.yaml" if !keys.is_empty() => Ok(keys.as_bytes().to_vec()),
            "team.yaml" => Ok(team.as_bytes().to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let list = |path: &str| Ok(vec![Found { path: path.into(), name: path.into(), place: path.into() }]);
        compile_all("p.yaml", text, &Surroundings { file: &file, list: &list, ..Surroundings::NONE })
    }

    fn entry(more: &str) -> String {
        format!("- {{owner: billing, hash: '{HASH}'{more}}}\n")
    }

    /// What is wrong with a policy whose file of keys has one of `billing`.
    fn found(text: &str) -> Vec<&'static str> {
        let text = format!("{ISSUER}api_keys: {{file: keys.yaml}}\n{text}");
        let (_, problems) = compiled(&text, &entry(""), "");
        problems.as_slice().iter().map(|problem| problem.code).collect()
    }

    /// Whose keys each route takes.
    fn apps(api_keys: &str, routes: &str) -> Vec<Apps> {
        let text = format!(
            "{ISSUER}api_keys: {{file: keys.yaml{api_keys}}}\nroutes: {routes}\nroles: {{b: key:billing}}\nlints: {{role_unused: [b]}}"
        );
        let (compiled, problems) = compiled(&text, &entry(""), "");
        let policy = compiled.unwrap_or_else(|| panic!("{}", problems.render(false))).policy;
        policy.routes.iter().map(|route| route.apps.clone()).collect()
    }

    #[test]
    fn a_route_takes_keys_only_where_it_or_the_section_says_so() {
        let billing = || Apps::Of(Box::new(["billing".into()]));
        let routes = "{/a: signed-in, /b: key:billing, /c: role:b or role:x, /d: {allow: signed-in, issuers: [api_keys]}, /e: public, /f: anyone, /g: {allow: 'role:x and not key:billing', issuers: [main]}}";
        let (nobody, every) = (Apps::Nobody, Apps::Every);
        let none = |apps: &Apps| apps.clone();
        assert_eq!(
            apps("", routes),
            [none(&nobody), billing(), billing(), none(&every), none(&nobody), none(&nobody), none(&nobody)]
        );
        assert_eq!(
            apps(", default: true", routes),
            [none(&every), none(&every), none(&every), none(&every), none(&nobody), none(&every), none(&nobody)]
        );
    }

    #[test]
    fn a_rule_names_an_owner_that_there_is_where_requests_are() {
        assert_eq!(found("routes: {/a: key:billing}"), Vec::<&str>::new());
        assert_eq!(found("routes: {/a: key:biling}"), ["owner_unknown"]);
        assert_eq!(found("routes: {/a: {allow: key:billing, issuers: [main]}}"), ["key_not_accepted"]);
        assert_eq!(found("routes: {/a: role:x}\nroles: {x: not key:billing}"), ["word_not_here"]);
        let require = ISSUER.replace("roles: r", "roles: r, require: key:billing");
        let text = format!("{require}api_keys: {{file: keys.yaml}}\nroutes: {{/a: signed-in}}");
        assert_eq!(compiled(&text, &entry(""), "").1.as_slice()[0].code, "word_not_here");
        let codes = |text: &str| compiled(text, &entry(""), "").1.as_slice().iter().map(|p| p.code).collect::<Vec<_>>();
        assert_eq!(codes(&format!("{ISSUER}routes: {{/a: key:billing}}")), ["no_api_keys"]);
        assert_eq!(codes(&format!("{ISSUER}headers: {{X-App: app}}\nroutes: {{/a: signed-in}}")), ["no_api_keys"]);
        assert_eq!(
            codes(&format!("{ISSUER}routes: {{/a: {{allow: signed-in, issuers: [api_keys]}}}}")),
            ["unknown_issuer"]
        );
        let reserved = ISSUER.replace("main:", "api_keys:");
        assert_eq!(codes(&format!("{reserved}routes: {{/a: signed-in}}")), ["reserved_name"]);
        assert_eq!(found("metadata: {app: app}\nroutes: {/a: key:billing}"), ["source_not_here"]);
        assert_eq!(
            found("routes: {/a: key:billing}\ntests: [{as: anonymous, key: nobody, ask: GET /a, expect: deny}]"),
            ["unknown_owner"]
        );
        assert_eq!(
            codes(&format!(
                "{ISSUER}routes: {{/a: signed-in}}\ntests: [{{as: anonymous, key: x, ask: GET /a, expect: deny}}]"
            )),
            ["no_api_keys"]
        );
    }

    #[test] // A02
    fn a_file_of_keys_that_is_wrong_keeps_the_policy_from_loading_and_shows_no_line_of_it() {
        let text = format!("{ISSUER}api_keys: {{file: keys.yaml}}\nroutes: {{/a: key:billing}}");
        let wrong = |keys: &str| {
            let (made, problems) = compiled(&text, keys, "");
            assert!(made.is_none());
            (problems.as_slice()[0].code, problems.render(false))
        };
        assert_eq!(wrong("").0, "file_unreadable");
        let key = "pk_live_yj29SShKYw1lCPr6bd095gMj5XM4M6bU5Gh69IGwxvx1ihYqM";
        let (code, shown) = wrong(&format!("# ours\n- {{owner: billing, hash: {key}}}\n"));
        assert!(code == "key_in_file" && shown.contains("keys.yaml:2") && !shown.contains("yj29SS"), "{shown}");
        assert_eq!(wrong(&entry(", routes: [nonsense]")).0, "bad_pattern");
        assert_eq!(wrong(&entry(&", roles: [a]".repeat(2))).0, "bad_api_key");
        let (made, _) = compiled(&text, &entry(""), "");
        let made = made.unwrap();
        assert!(made.files.iter().any(|file| file.ends_with("keys.yaml")), "it is watched");
        let other = compiled(&text, &entry(", roles: [a]"), "").0.unwrap();
        assert_ne!(made.policy.id, other.policy.id, "what it says is a part of what the policy is named by");
    }

    #[test]
    fn a_team_defines_no_keys_and_takes_them_only_where_its_include_says_so() {
        let with = |may: &str, team: &str| {
            let text = format!(
                "{ISSUER}api_keys: {{file: keys.yaml}}\ninclude: [{{files: team.yaml, at: /t/**{may}}}]\nroutes: {{/a: key:billing}}"
            );
            compiled(&text, &entry(""), team).1.as_slice().iter().map(|problem| problem.code).collect::<Vec<_>>()
        };
        let (named, listed) = ("routes: {/t/a: key:billing}", "routes: {/t/a: {allow: role:x, issuers: [api_keys]}}");
        assert_eq!(with("", named), ["not_permitted"]);
        assert_eq!(with("", listed), ["not_permitted"]);
        for team in [named, listed] {
            assert_eq!(with(", issuers: [api_keys]", team), Vec::<&str>::new());
        }
        assert_eq!(with("", "api_keys: {file: keys.yaml}"), ["not_in_included_file"]);
    }
}
