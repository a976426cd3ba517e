//! What `portcullis diff` says of two random policies, held against what they decide.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use portcullis::config::{Compiled, compile};
use portcullis::review::{Verdict, compare};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use serde_json::Value;

use crate::docs::{blocks, read};
use crate::doors::{self, Answer};
use crate::properties::{Question, question, rule};
use crate::site::Site;
use crate::support::TempDir;

/// A line of a section: its key, and its rule in the old policy and in the new one.
type Line = (&'static str, Option<String>, Option<String>);

/// A line that most often is the same in both.
fn line(key: impl Strategy<Value = &'static str>, rule: BoxedStrategy<String>) -> impl Strategy<Value = Line> {
    (key, rule.clone(), rule, 0..10).prop_map(|(key, one, two, how)| match how {
        0 => (key, Some(one), None),
        1 => (key, None, Some(two)),
        2 => (key, Some(one.clone()), Some(format!("({one}) and ({two})"))),
        3 => (key, Some(one.clone()), Some(format!("({one}) or ({two})"))),
        4 => (key, Some(one), Some(two)),
        _ => (key, Some(one.clone()), Some(one)),
    })
}

fn routes() -> impl Strategy<Value = Vec<Line>> {
    let keys = select(vec![
        "/public/**",
        "/public",
        "/me",
        "/u/{id}",
        "/u/{id}/**",
        "/{x}",
        "/{x}/{y}",
        "GET /admin/**",
        "/admin/{x}",
        "/Admin/x",
        "/**",
        "POST /me",
        "shop.test/me",
        "*.test/admin/x",
        "{t}.test/u/u1",
        "/u/u1",
        "/u/u*",
        "HEAD /me",
        "/ME",
    ]);
    let whole = select(vec!["public", "anyone"]).prop_map(str::to_owned);
    prop::collection::vec(line(keys, prop_oneof![1 => whole, 3 => rule()].boxed()), 1..5)
}

/// A site's other lines, by section.
fn rest() -> impl Strategy<Value = [Vec<Line>; 3]> {
    let guards =
        line(select(vec!["/**", "/admin/**", "/Me", "/{a}/{b}", "POST,PUT /admin/**", "/u/*/**"]), rule().boxed());
    let forbids = line(select(vec!["first", "second"]), rule().boxed());
    let derived = rule().prop_filter("about a token", |rule| !rule.contains("network") && !rule.contains("issuer"));
    let roles = line(select(vec!["guest", "other"]), derived.boxed());
    (prop::collection::vec(guards, 0..2), prop::collection::vec(forbids, 0..2), prop::collection::vec(roles, 0..2))
        .prop_map(|(guards, forbids, roles)| [guards, forbids, roles])
}

/// What is said of the first issuer, and of the whole site, in both policies.
fn settings() -> impl Strategy<Value = (&'static str, &'static str)> {
    let same = select(vec!["", "paths: [case_variant]"]).prop_map(|one| (one, one));
    let other = select(vec![
        ("", "paths: [semicolon]"),
        ("headers: {X-User-ID: sub}", ""),
        ("", "headers: {X-User-ID: sub}"),
        ("gateways: {edge: {by: unix, believes: [client_address]}}", ""),
    ]);
    prop_oneof![6 => same, 1 => other]
}

/// What a route asks beside its rule, in both policies; most often the same.
fn beside() -> impl Strategy<Value = (&'static str, &'static str)> {
    let one = || {
        select(vec![
            "",
            ", deny: 'role:guest'",
            ", deny: 'role:guest or claim:level?'",
            ", audience: api",
            ", audience: [api, other]",
            ", audience: other",
            ", when: 'request.method == \"GET\"'",
            ", when: '\"guest\" in caller.roles'",
        ])
    };
    prop_oneof![3 => Just(("", "")), 1 => one().prop_map(|one| (one, one)), 2 => (one(), one())]
}

type Pair = (Vec<Line>, [Vec<Line>; 3], (&'static str, &'static str), (u8, u8), Vec<(&'static str, &'static str)>);

fn pair() -> impl Strategy<Value = Pair> {
    let issuers = prop_oneof![6 => (0..3_u8).prop_map(|one| (one, one)), 1 => (0..3_u8, 0..3_u8)];
    (routes(), rest(), settings(), issuers, prop::collection::vec(beside(), 5))
}

/// The two policies of a pair.
fn written((routes, rest, settings, issuers, beside): &Pair) -> [String; 2] {
    [0, 1].map(|which| {
        let [guards, forbids, roles] = rest;
        // A long form does not say what `public` cannot have.
        let beside = |at: usize, rule: &str| match beside[at] {
            (old, new) if !rule.contains("public") => if which == 0 { old } else { new },
            _ => "",
        };
        let section = |name: &str, lines: &[Line]| {
            let mut seen = BTreeSet::new();
            let lines = lines.iter().filter(|(key, ..)| seen.insert(*key));
            let rules = lines
                .enumerate()
                .filter_map(|(at, (key, old, new))| Some((at, key, if which == 0 { old } else { new }.as_ref()?)));
            // `public` and `anyone` stand alone.
            let alone = |rule: &str| {
                let word = ["public", "anyone"].into_iter().find(|word| rule.contains(word));
                word.map_or(rule.to_owned(), str::to_owned)
            };
            let line = |(at, key, rule): (usize, &str, &String)| match beside(at, rule) {
                more if name == "routes" && !more.is_empty() => {
                    format!("  {key:?}: {{allow: {:?}{more}}}\n", alone(rule))
                }
                _ => format!("  {key:?}: {}\n", alone(rule)),
            };
            let lines: String = rules.map(|(at, key, rule)| line((at, key, rule))).collect();
            if lines.is_empty() { String::new() } else { format!("{name}:\n{lines}") }
        };
        let issuer = match if which == 0 { issuers.0 } else { issuers.1 } {
            0 => "may_grant: any",
            1 => "may_grant: [guest], missing: empty",
            _ => "may_grant: any, require: 'claim:level?'",
        };
        let setting = if which == 0 { settings.0 } else { settings.1 };
        let gateways = if setting.starts_with("gateways") || *settings == ("gateways: {edge: {by: unix, believes: [client_address]}}", "") {
            ""
        } else {
            "gateways: {edge: {by: unix, believes: [client_address]}}\n"
        };
        format!(
            "issuers:\n  main: {{url: 'https://id.test', audience: api, roles: roles, groups: groups, default: true, {issuer}}}\n  \
             other: {{url: 'https://other.test', audience: api, may_grant: [guest], default: {}, subject_prefix: 'o:', roles: roles}}\n\
             {gateways}{setting}\n{}{}{}{}",
            issuers.0 != 1,
            section("routes", routes),
            section("guards", guards),
            section("deny", forbids),
            section("roles", roles),
        )
    })
}

fn loaded(text: &str) -> Option<Compiled> {
    compile("p.yaml", text, &|_| Err(std::io::ErrorKind::NotFound.into())).0
}

fn allows(site: &Site, question: &Question) -> bool {
    matches!(doors::straight(site, &question.asked(site)), Answer::Allow { .. })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_is_not_widened_lets_nobody_pass_who_did_not(pair in pair(), questions in prop::collection::vec(question(), 25)) {
        let [old, new] = written(&pair);
        let (Some(before), Some(after)) = (loaded(&old), loaded(&new)) else { return Ok(()) };
        let found = compare(&before, &after);
        prop_assert_eq!(compare(&before, &before).verdict, Verdict::Same);
        if matches!(found.verdict, Verdict::Changed) {
            return Ok(());
        }
        let (before, after) = (Site::open(&old, &BTreeMap::new()), Site::open(&new, &BTreeMap::new()));
        for question in questions {
            let (did, does) = (allows(&before, &question), allows(&after, &question));
            if !found.verdict.may_widen() {
                prop_assert!(did || !does, "{:?} is not told: {:?}\n{}\n{}", question, found, old, new);
            }
            // By spellings that some upstreams read otherwise something may be lost that is not told.
            let plain = question.target.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'/' | b'0'..=b'9'));
            if matches!(found.verdict, Verdict::Widened | Verdict::Same) && plain {
                prop_assert!(does || !did, "{:?} is lost, and not told: {:?}\n{}\n{}", question, found, old, new);
            }
        }
    }
}

#[test]
fn the_random_policies_come_to_every_verdict() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: BTreeMap<Verdict, usize> = BTreeMap::new();
    for _ in 0..150 {
        let [old, new] = written(&pair().new_tree(&mut runner).unwrap().current());
        if let (Some(before), Some(after)) = (loaded(&old), loaded(&new)) {
            *seen.entry(compare(&before, &after).verdict).or_default() += 1;
        }
    }
    for verdict in [Verdict::Same, Verdict::Narrowed, Verdict::Widened, Verdict::Changed] {
        assert!(seen.get(&verdict).is_some_and(|count| *count > 5), "{seen:?}");
    }
}

#[test]
fn the_command_says_it_by_its_exit_code() {
    let dir = TempDir::new();
    let file = |name: &str, rule: &str| {
        let text =
            format!("issuers: {{main: {{url: https://id.test, audience: a, roles: r}}}}\nroutes: {{/a: {rule}}}\n");
        dir.file(name, text)
    };
    let (one, two, bad) = (file("one.yaml", "role:a"), file("two.yaml", "signed-in"), file("bad.yaml", "rule:x"));
    let run = |arguments: &[&std::path::Path], more: &[&str]| {
        let run =
            Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("diff").args(arguments).args(more).output().unwrap();
        (run.status.code().unwrap(), String::from_utf8(run.stdout).unwrap())
    };
    assert_eq!(run(&[&one, &two], &[]).0, 0);
    assert_eq!(run(&[&one, &two], &["--fail-on-widening"]).0, 1);
    assert_eq!(run(&[&two, &one], &["--fail-on-widening"]).0, 0);
    assert_eq!(run(&[&one, &bad], &[]).0, 2);
    let (_, text) = run(&[&one, &two], &["--format", "json"]);
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&told["verdict"], &told["routes"][0]["new"]["asks"]), (&"widened".into(), &"signed-in".into()));
}

/// What the commands of a page print, in a folder that holds the files that it shows.
fn printed(page: &str) -> Vec<(String, String)> {
    let dir = TempDir::new();
    for (_, text) in blocks(page, "yaml") {
        if let Some(name) = text.lines().next().and_then(|line| line.strip_prefix("# file: ")) {
            dir.file(name, &text);
        }
    }
    let commands = blocks(page, "console").into_iter().map(|(_, text)| text);
    commands
        .map(|text| {
            let line = text.lines().next().unwrap().strip_prefix("$ portcullis ").unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
            let run = command.args(line.split(' ')).current_dir(dir.path()).output().unwrap();
            let said = String::from_utf8([run.stdout, run.stderr].concat()).unwrap();
            (text.clone(), format!("$ portcullis {line}\n{said}"))
        })
        .collect()
}

#[test]
fn the_page_on_review_shows_what_the_commands_print() {
    let page = read("docs/review.md");
    let printed = printed(&page);
    assert!(printed.len() >= 3);
    for (shown, said) in printed {
        assert_eq!(shown, said, "docs/review.md shows something else");
    }
}
