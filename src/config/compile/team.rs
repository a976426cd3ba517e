//! What the routes of included files must keep to: where they lie, whose tokens they accept, what their roles are called.

use super::Compiler;
use crate::authz::header::fold;
use crate::authz::identity::APPS;
use crate::authz::route::Pattern;
use crate::config::error::{Problem, Span, Text};
use crate::config::file;

impl Compiler<'_> {
    /// The patterns of every include; `None` where one cannot be read.
    pub(super) fn mounts(&mut self) -> Vec<Option<Vec<Pattern>>> {
        let file = self.file;
        let read = |include: &file::Include, compiler: &mut Self| {
            let patterns: Vec<_> = include.at.iter().map(|at| compiler.pattern(at)).collect();
            patterns.into_iter().collect::<Option<Vec<_>>>()
        };
        file.includes.iter().map(|include| read(include, self)).collect()
    }

    /// A route of a team lies within its mount, and names the issuers that it may.
    pub(super) fn keeps_to(&mut self, route: &file::Route, pattern: Option<&Pattern>, mounts: &[Option<Vec<Pattern>>]) {
        let Some((team, include)) = self.file.team(route.key.span.file) else { return };
        let mount = mounts.get(team.include).and_then(Option::as_ref);
        if let Some((pattern, mount)) = pattern.zip(mount)
            && !mount.iter().any(|at| pattern.is_within(at))
        {
            let places = mount.iter().map(|at| format!("`{at}`")).collect::<Vec<_>>().join(", ");
            let message = "this route is for requests that are not given to this file";
            let problem = Problem::error("outside_mount", route.key.span, message);
            let place = include.at.first().map_or(include.span, |at| at.span);
            self.report(
                problem.cure(format!("within {places}, host and methods included")).related(place, "given here"),
            );
        }
        for name in route.issuers.iter().flatten() {
            let keys = self.file.api_keys.as_ref().filter(|_| *name.value == *APPS);
            let is_default = keys.is_some_and(|keys| keys.default)
                || self.issuers.get(&*name.value).is_some_and(|at| self.defaults.contains(at));
            if !is_default && !include.issuers.iter().any(|known| known.value == name.value) {
                self.foreign_issuer(name, include.span);
            }
        }
        for header in route.tells.iter().flat_map(|tells| &tells.headers) {
            let is_same = |ours: &file::Tell| fold(ours.name.value.as_bytes()) == fold(header.name.value.as_bytes());
            if !self.file.tells.headers.iter().any(is_same) {
                self.foreign_header(&header.name, include.span);
            }
        }
    }

    /// What one route sets is removed from the requests of all others: that is not for one team to say.
    fn foreign_header(&mut self, name: &Text, include: Span) {
        let message = format!("`{}` would be removed from every request, those of other files too", name.value);
        let problem = Problem::error("not_permitted", name.span, message).related(include, "its include");
        self.report(problem.cure("name it under `headers` of the policy; this route may then set it its own way"));
    }

    fn foreign_issuer(&mut self, name: &Text, include: Span) {
        if !self.issuers.contains_key(&*name.value) && *name.value != *APPS {
            return;
        }
        let message = format!("tokens of `{}` are not for the routes of this file", name.value);
        let problem = Problem::error("not_permitted", name.span, message).related(include, "its include");
        self.report(problem.cure(format!("`issuers: [{}]` at the include, if they are meant to be", name.value)));
    }

    /// The full name of a role that a file calls by its short one.
    pub(super) fn full_role(&self, file: file::FileId, name: &str) -> Option<Box<str>> {
        let (team, _) = self.file.team(file)?;
        let full = format!("{}/{name}", team.namespace);
        self.roles.contains_key(&*full).then(|| full.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use crate::config::reference::{Found, Unlisted};
    use crate::config::{Compiled, Problems, Surroundings, compile_all};

    const ROOT: &str = "\
issuers:
  main: {url: 'https://id.example.com', audience: shop, roles: roles, groups: groups, default: true, may_grant: any}
  ci: {url: 'https://ci.example.com', audience: shop, may_grant: [], subject_prefix: 'ci:'}
hosts: {api: [api.example.com], all: [api.example.com, www.example.com]}
include:
  - {files: teams/payments.yaml, at: [/payments/**, api:/pay/**, 'GET,POST /cash/{id}']}
  - {files: teams/orders.yaml, at: [/orders/**], may: [public, anyone], issuers: [ci]}
routes:
  /admin/**: role:admin
  all:/all: {allow: signed-in, issuers: [ci]}
guards: {/payments/admin/**: role:admin}
roles: {admin: group:platform}
";

    /// The policy with these files of the two teams.
    fn with(payments: &str, orders: &str) -> (Option<Compiled>, Problems) {
        let found = |path: &str| Found { path: path.into(), name: path.into(), place: path.into() };
        let around = Surroundings {
            file: &|path| match path {
                "teams/payments.yaml" => Ok(payments.as_bytes().to_vec()),
                "teams/orders.yaml" => Ok(orders.as_bytes().to_vec()),
                _ => Err(io::ErrorKind::NotFound.into()),
            },
            list: &|pattern| match pattern {
                "teams/payments.yaml" | "teams/orders.yaml" => Ok(vec![found(pattern)]),
                _ => Err(Unlisted::Unreadable(io::ErrorKind::NotFound)),
            },
            variable: &|_| Some("value".into()),
            ..Surroundings::NONE
        };
        compile_all("root.yaml", ROOT, &around)
    }

    const ORDERS: &str = "routes: {/orders/x: role:clerk}\nroles: {clerk: group:orders}";

    /// What is wrong with a file of the payments team: file, line, column, code.
    fn found(payments: &str) -> Vec<String> {
        let (compiled, problems) = with(payments, ORDERS);
        let errors = problems.has_errors();
        assert_eq!(compiled.is_none(), errors);
        let told = |p: &crate::config::Problem| format!("{}:{}:{} {}", p.file, p.span.line, p.span.column, p.code);
        problems.as_slice().iter().filter(|p| p.severity.word() == "error").map(told).collect()
    }

    #[test]
    fn a_team_that_keeps_to_its_own_is_part_of_the_policy() {
        let payments = "\
routes:
  /payments/{id}: role:approver
  GET api:/pay/x: role:orders/clerk
  POST /cash/{n}: {allow: signed-in, issuers: [main]}
roles: {approver: role:admin or role:lead, lead: group:leads}
tests: [[anonymous, GET /payments/1, deny]]
";
        let (compiled, problems) = with(payments, ORDERS);
        assert_eq!(problems.to_string(), "");
        let compiled = compiled.unwrap();
        let shown: Vec<_> = compiled.policy.routes.iter().map(|r| format!("{} {}", r.key, r.text)).collect();
        assert_eq!(
            shown[2..],
            [
                "/payments/{id} role:payments/approver",
                "GET api:/pay/x role:orders/clerk",
                "POST /cash/{n} signed-in",
                "/orders/x role:orders/clerk"
            ]
        );
        let roles: Vec<_> =
            compiled.policy.issuers[0].derived.iter().map(|(name, rule)| format!("{name}: {rule}")).collect();
        assert!(roles.contains(&"payments/approver: role:admin or role:payments/lead".to_owned()), "{roles:?}");
        assert_eq!(compiled.tests.len(), 1);
        assert!(compiled.files.contains(&"teams".into()), "new files are seen: {:?}", compiled.files);
    }

    #[test]
    fn a_hostile_team_reaches_nothing_outside_of_its_mount() {
        for key in [
            "/**",
            "/admin/x",
            "/{x}",
            "/{x}/y",
            "/*",
            "/payment",
            "/paymentsx/y",
            "/pay*",
            "/Payments/x",
            "/pay%61ents/x",
            "api:/**",
            "/pay/x",
            "www.example.com/pay/x",
            "all:/pay/x",
            "*.example.com/pay/x",
            "DELETE /cash/1",
            "/cash/1",
            "HEAD,PUT /cash/1",
            "/cash/**",
            "/cash/1/2",
            "/cash",
            "/orders/x",
        ] {
            let found = found(&format!("routes: {{'{key}': role:x}}"));
            assert_eq!(
                found.first().map(String::as_str),
                Some("teams/payments.yaml:1:10 outside_mount"),
                "{key} {found:?}"
            );
        }
        for key in ["/payments", "/payments/**", "www.example.com/payments/x", "api:/pay/**", "HEAD /cash/1"] {
            assert_eq!(found(&format!("routes: {{'{key}': role:x}}")), Vec::<String>::new(), "{key}");
        }
    }

    #[test]
    fn a_hostile_team_opens_nothing_that_it_may_not() {
        for (route, place) in [
            ("public", 23),
            ("anyone", 23),
            ("' public '", 23),
            ("{allow: public}", 31),
            ("{allow: anyone, issuers: [main]}", 31),
            ("{allow: signed-in, issuers: [ci]}", 52),
            ("{allow: signed-in, issuers: [main, ci]}", 58),
        ] {
            let found = found(&format!("routes: {{/payments/x: {route}}}"));
            let place = format!("teams/payments.yaml:1:{place} not_permitted");
            assert_eq!(found, [place], "{route}");
        }
        let (_, problems) = with("routes: {/payments/x: public}", ORDERS);
        let told = &problems.as_slice()[0];
        assert_eq!(
            (&*told.file, &*told.related[0].file, told.related[0].span.line),
            ("teams/payments.yaml", "root.yaml", 6)
        );
        // What the other team may.
        let (compiled, problems) = with(
            "routes: {/payments/x: role:x}",
            "routes: {/orders/x: public, /orders/y: {allow: signed-in, issuers: [ci]}}",
        );
        assert!(compiled.is_some(), "{problems}");
        // A guard of the root holds whatever a team says.
        assert_eq!(found("routes: {/payments/admin/x: {any: [public]}}"), ["teams/payments.yaml:1:36 word_not_here"]);
    }

    #[test]
    fn a_team_sets_only_headers_that_the_policy_manages() {
        let root = "issuers: {main: {url: 'https://id.example.com', audience: shop}}\n\
                    headers: {X-Plan: claim:plan}\ninclude: [{files: teams/orders.yaml, at: [/orders/**], may: [headers]}]\n";
        let told = |header: &str| {
            let team = format!("routes: {{/orders/x: {{allow: signed-in, headers: {{{header}: sub}}}}}}\n");
            let found = |path: &str| Found { path: path.into(), name: path.into(), place: path.into() };
            let around = Surroundings {
                file: &|_| Ok(team.as_bytes().to_vec()),
                list: &|pattern| Ok(vec![found(pattern)]),
                ..Surroundings::NONE
            };
            let (_, problems) = compile_all("portcullis.yaml", root, &around);
            problems.as_slice().iter().map(|problem| problem.code).collect::<Vec<_>>()
        };
        assert_eq!(told("X-Plan"), [""; 0]);
        assert_eq!(told("x_plan"), [""; 0]);
        assert_eq!(told("Authorization"), ["not_permitted"]);
        assert_eq!(told("X-Other"), ["not_permitted"]);
    }

    #[test]
    fn a_hostile_team_holds_no_other_section() {
        for section in [
            "issuers: {evil: {url: 'https://evil.example.com'}}",
            "hosts: {api: [evil.example.com]}",
            "include: [{files: x.yaml, at: [/**]}]",
            "guards: {/admin/**: role:x}",
            "deny: {}",
            "headers: {X-A: sub}",
            "headers_kept: [Remote-User]",
            "metadata: {a: sub}",
            "gateways: {evil: {by: unix}}",
            "paths: [encoded_slash]",
            "public_url: https://evil.example.com",
            "sign_in: https://evil.example.com",
            "listen: {admin: '0.0.0.0:1'}",
            "audit: none",
            "log: human",
            "decision_key: env:X",
            "cache: {tokens: 1KiB}",
        ] {
            assert_eq!(found(section), ["teams/payments.yaml:1:1 not_in_included_file"], "{section}");
        }
        assert_eq!(found("rotues: {}"), ["teams/payments.yaml:1:1 unknown_key"]);
        assert_eq!(
            found("routes: {/payments/x: 'role:\"${env:X}\"'}"),
            ["teams/payments.yaml:1:30 reference_not_here"]
        );
        assert_eq!(found("- a"), ["teams/payments.yaml:1:1 wrong_shape"]);
        assert_eq!(found(""), ["teams/payments.yaml:1:1 empty_file"]);
    }

    #[test]
    fn a_hostile_team_shadows_no_role() {
        // Its `admin` is its own: neither the guard nor another team's rule asks for it.
        let payments = "roles: {admin: signed-in, clerk: signed-in}\nroutes: {/payments/x: role:admin or role:clerk}";
        let (compiled, problems) = with(payments, ORDERS);
        let policy = compiled.unwrap_or_else(|| panic!("{problems}")).policy;
        assert_eq!(policy.guards[0].rule.to_string(), "role:admin");
        assert_eq!(&*policy.routes[0].text, "role:admin");
        assert_eq!(&*policy.routes[2].text, "role:payments/admin or role:payments/clerk");
        assert_eq!(&*policy.routes[3].text, "role:orders/clerk");
        for name in ["orders/clerk", "'a,b'", "'../x'", "'a b'", "\"x\\u00e9\"", "/x", &"x".repeat(65)] {
            let found = found(&format!("roles: {{{name}: signed-in}}"));
            assert_eq!(found, ["teams/payments.yaml:1:9 bad_role_name"], "{name}");
        }
        assert_eq!(found("roles: {a: role:b, b: role:a}"), ["teams/payments.yaml:1:9 role_cycle"]);
    }

    #[test]
    fn keys_of_one_shape_in_two_files_name_both_places() {
        let (_, problems) = with("routes: {'/payments/{a}': role:x, '/payments/{b}': role:y}", ORDERS);
        assert_eq!(problems.as_slice()[0].code, "route_clash");
        let root = ROOT.replace("/admin/**: role:admin\n  all", "/payments/{x}: role:admin\n  all");
        assert!(root != ROOT);
        let found = |path: &str| Found { path: path.into(), name: path.into(), place: path.into() };
        let around = Surroundings {
            file: &|_| Ok(b"routes: {'/payments/{y}': role:x}".to_vec()),
            list: &|pattern| Ok(if pattern.contains("pay") { vec![found(pattern)] } else { vec![] }),
            ..Surroundings::NONE
        };
        let (_, problems) = compile_all("root.yaml", &root, &around);
        let clash = problems.as_slice().iter().find(|problem| problem.code == "route_clash").unwrap();
        assert_eq!((&*clash.file, &*clash.related[0].file), ("teams/payments.yaml", "root.yaml"));
        let shown = problems.render(false);
        assert!(shown.contains("--> teams/payments.yaml:1:10") && shown.contains("::: root.yaml:9:3"), "{shown}");
        assert!(problems.as_slice().iter().any(|problem| problem.code == "no_files"));
    }

    #[test]
    fn an_include_says_what_and_where() {
        let include = |include: &str| {
            let found = |path: &str, place: &str| Found { path: path.into(), name: path.into(), place: place.into() };
            let around = Surroundings {
                file: &|_| Ok(b"roles: {a: signed-in}".to_vec()),
                list: &|pattern| match pattern {
                    "t/*.yaml" => Ok(vec![found("t/a.yaml", "/t/a"), found("t/b.yaml", "/t/b")]),
                    "t/out.yaml" => Err(Unlisted::Outside("t/out.yaml".into())),
                    "root.yaml" => Err(Unlisted::Policy("root.yaml".into())),
                    "none/x.yaml" => Err(Unlisted::Unreadable(io::ErrorKind::NotFound)),
                    "t/none.yaml" => Ok(vec![]),
                    one => Ok(vec![found(one, one)]),
                },
                ..Surroundings::NONE
            };
            let (_, problems) = compile_all("root.yaml", &format!("include: [{include}]\nroutes: {{}}\n"), &around);
            problems.as_slice().iter().filter(|p| p.severity.word() == "error").map(|p| p.code).collect::<Vec<_>>()
        };
        assert_eq!(include("{files: t/*.yaml, at: /a/**}"), Vec::<&str>::new());
        assert_eq!(include("{files: t/*.yaml, at: /a/**, as: team}"), ["role_clash"]);
        assert_eq!(include("{files: t/*.yaml, at: /a/**}, {files: u/a.yaml, at: /b/**}"), ["namespace_clash"]);
        assert_eq!(
            include("{files: t/*.yaml, at: /a/**}, {files: t/*.yaml, at: /b/**}"),
            ["included_twice", "included_twice"]
        );
        for path in ["../x.yaml", "/etc/x.yaml", "t/../x.yaml", "./x.yaml", "t/**/x.yaml", "t*/x.yaml", "t//x.yaml"] {
            assert_eq!(include(&format!("{{files: '{path}', at: /a/**}}")), ["bad_path"], "{path}");
        }
        assert_eq!(include("{files: t/out.yaml, at: /a/**}"), ["outside_folder"]);
        assert_eq!(include("{files: root.yaml, at: /a/**}"), ["included_twice"]);
        assert_eq!(include("{files: none/x.yaml, at: /a/**}"), ["file_unreadable"]);
        assert_eq!(include("{files: t/none.yaml, at: /a/**}"), ["no_files"]);
        assert_eq!(include("{files: t/*.yaml}"), ["missing_key"]);
        assert_eq!(include("{at: /a/**}"), ["missing_key"]);
        assert_eq!(include("{files: t/*.yaml, at: a}"), ["bad_pattern"]);
        assert_eq!(include("{files: t/*.yaml, at: /a/**, may: [everything]}"), ["unknown_value"]);
        assert_eq!(include("{files: t/*.yaml, at: /a/**, issuers: [x]}"), ["unknown_issuer"]);
        assert_eq!(include("{files: 't/pay ments.yaml', at: /a/**}"), ["bad_role_name"]);
        assert_eq!(include("{files: 't/pay ments.yaml', at: /a/**, as: payments}"), Vec::<&str>::new());
    }
}
