//! The documentation says what is so: its policies load and pass their own tests, its tables equal the code, its links lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Program;

use portcullis::authz::reason::{Challenge, Reason};
use portcullis::config::compile;
use portcullis::config::envoy::{ENVOY_LINTS, is_finding};
use portcullis::config::file::ACCEPTED_KEYS;
use portcullis::config::lint::{LINTS, is_lint};
use portcullis::probe::ATTACKS;
use serde_json::Value;
use tokio::process::Command;

use crate::support::{Process, TempDir, ask};

/// The secrets that the policies of the documentation take from the environment.
const SECRETS: &[&str] =
    &["PARTNER_SECRET", "PARTNER_SECRET_OLD", "LINK_SECRET", "LEGACY_SECRET", "REDIS_PASSWORD", "PORTAL_TOKEN"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(path.to_str().unwrap(), extension));
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The pages at the root and in `docs/`.
pub fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<_> =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(|page| root().join(page)).into();
    pages.extend(files("docs", "md"));
    pages
}

/// The fenced blocks of a page in this language: the line that each begins at, and its text.
pub fn blocks(page: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, bool, String)> = None;
    for (at, line) in page.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((at + 1, info == language, String::new())),
            (Some((start, wanted, text)), Some(_)) => {
                found.extend(wanted.then(|| (*start, std::mem::take(text))));
                open = None;
            }
            (Some((.., text)), None) => text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

/// Runs a policy's own tests as its author would; says what is wrong with it, warnings included.
fn try_policy(file: &Path, name: &str) -> Result<(), String> {
    let mut program = Program::new(env!("CARGO_BIN_EXE_portcullis"));
    for (at, name) in SECRETS.iter().enumerate() {
        program.env(name, format!("{at}{}", include_str!("../shared.key")));
    }
    let run = program.arg("test").arg("-c").arg(file).output().unwrap();
    let (said, warned) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    let all_passed = run.status.success() && said.ends_with(" passed, 0 failed\n") && !said.starts_with("0 ");
    if all_passed && warned.is_empty() { Ok(()) } else { Err(format!("{name}:\n{warned}{said}")) }
}

#[test]
fn every_policy_of_the_documentation_passes_its_own_tests() {
    let dir = TempDir::new();
    let mut count = 0;
    let mut wrong = Vec::new();
    for page in pages() {
        for (line, text) in blocks(&fs::read_to_string(&page).unwrap(), "yaml") {
            if text.starts_with("# policy") {
                let file = dir.file("portcullis.yaml", &text);
                wrong.extend(try_policy(&file, &format!("{}:{line}", page.display())).err());
                count += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 10, "{count} policies were found");
}

#[test]
fn every_example_passes_its_own_tests() {
    let mut examples = files("examples", "yaml");
    // What a policy includes is no policy.
    examples.retain(|file| !file.parent().is_some_and(|folder| folder.ends_with("teams/teams")));
    assert!(!examples.is_empty());
    let wrong: Vec<_> =
        examples.iter().filter_map(|file| try_policy(file, &file.display().to_string()).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The rows of the first table of a page whose first column has this title; cells without their blanks.
fn table(page: &str, title: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    page.lines()
        .skip_while(|line| !line.starts_with(&format!("| {title} |")))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(cells)
        .collect()
}

#[test]
fn the_table_of_reasons_is_the_list_of_reasons() {
    let rows = table(&read("docs/reasons.md"), "reason");
    let expected = Reason::ALL.iter().map(|reason| {
        let challenge = match reason.challenge() {
            Challenge::None => "",
            Challenge::Bare => "`Bearer`",
            Challenge::InvalidToken => "`invalid_token`",
            Challenge::InvalidRequest => "`invalid_request`",
            Challenge::InsufficientScope => "`insufficient_scope`",
            Challenge::InvalidProof => "`invalid_dpop_proof`",
            Challenge::UseNonce => "`use_dpop_nonce`",
            Challenge::StepUp => "`insufficient_user_authentication`",
        };
        [format!("`{}`", reason.code()), reason.status().to_string(), challenge.into(), reason.meaning().into()]
    });
    let expected: Vec<Vec<String>> = expected.map(Vec::from).collect();
    let written: Vec<Vec<String>> = rows.iter().map(|row| row[..4].to_vec()).collect();
    assert_eq!(written, expected, "docs/reasons.md and src/authz/reason.rs differ");
    assert!(rows.iter().all(|row| row[4].len() > 10), "a row does not say what to do");
}

#[test]
fn every_key_of_a_policy_file_is_documented() {
    let page = read("docs/policy.md");
    for (section, keys) in ACCEPTED_KEYS {
        for key in *keys {
            let said = page.contains(&format!("`{key}`")) || page.contains(&format!("`{key}:`"));
            assert!(said, "docs/policy.md does not name `{key}` of `{section}`");
        }
    }
}

#[test]
fn every_lint_has_a_chapter_with_an_example_that_warns_and_one_that_does_not() {
    let page = read("docs/lints.md");
    let rows = table(&page, "code");
    let expected: Vec<Vec<String>> =
        LINTS.iter().map(|(code, means)| vec![format!("[`{code}`](#{code})"), (*means).to_owned()]).collect();
    assert_eq!(rows, expected, "docs/lints.md and src/config/lint.rs differ");
    let mut warned = 0;
    for chapter in page.split("\n### ").skip(1) {
        let code = chapter.lines().next().unwrap();
        assert!(is_lint(code) || is_finding(code), "{code}");
        for (_, policy) in blocks(chapter, "yaml") {
            let (compiled, problems) = compile("p.yaml", &policy, &|_| Err(std::io::ErrorKind::NotFound.into()));
            assert!(compiled.is_some(), "{code}: {problems}");
            let codes: Vec<&str> = problems.as_slice().iter().map(|problem| problem.code).collect();
            let expected: &[&str] = if policy.starts_with("# warns\n") { &[code] } else { &[] };
            assert_eq!(codes, expected, "{code}: {problems}\n{policy}");
            warned += expected.len();
        }
    }
    assert_eq!(warned, LINTS.len() - 1, "a key set is in a file, which has no example");
    let expected: Vec<Vec<String>> =
        ENVOY_LINTS.iter().map(|(code, means)| vec![format!("[`{code}`](#{code})"), (*means).to_owned()]).collect();
    assert_eq!(table(&page, "finding"), expected, "docs/lints.md and src/config/envoy.rs differ");
}

#[test]
fn every_finding_of_a_probe_is_documented() {
    let rows = table(&read("docs/probe.md"), "code");
    let expected: Vec<Vec<String>> =
        ATTACKS.iter().map(|(code, sentence)| vec![format!("`{code}`"), (*sentence).to_owned()]).collect();
    assert_eq!(rows, expected, "docs/probe.md and src/probe/attack.rs differ");
    assert!(ATTACKS.is_sorted());
}

#[test]
fn every_test_that_security_names_exists() {
    let sources: Vec<String> = ["src", "tests"]
        .iter()
        .flat_map(|folder| files(folder, "rs"))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let rows = table(&read("SECURITY.md"), "attack");
    assert!(rows.len() > 20, "{} rows were found", rows.len());
    for row in rows {
        for name in row[1].split('`').skip(1).step_by(2) {
            let is_there = sources.iter().any(|source| source.contains(&format!("fn {name}(")));
            assert!(is_there, "SECURITY.md names `{name}`, and there is no such test");
        }
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") {
                continue;
            }
            let to = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(to.exists(), "{}: {link} leads nowhere", page.display());
            if !anchor.is_empty() {
                let headings = fs::read_to_string(&to).unwrap();
                let found = headings.lines().any(|line| line.starts_with('#') && slug(line) == anchor);
                assert!(found, "{}: {link} has no such heading", page.display());
            }
        }
    }
}

/// The anchor of a heading, as forges make it.
fn slug(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.trim_start_matches('#').trim().chars().filter(kept).collect::<String>().to_lowercase().replace(' ', "-")
}

/// `portcullis_checks_total` → `portcullis_checks`: a counter's, histogram's or info's samples belong to one metric.
fn metric(sample: &str) -> &str {
    ["_total", "_sum", "_count", "_bucket", "_info"].iter().find_map(|end| sample.strip_suffix(end)).unwrap_or(sample)
}

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_metric_is_there() {
    let dir = TempDir::new();
    let policy = dir.file("portcullis.yaml", "routes:\n  GET /: public\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "-c"]).arg(policy);
    let mut process = Process::start(&mut command);
    let line: Value = serde_json::from_str(&process.line_with("health and metrics").await).unwrap();
    let admin = line["address"].as_str().unwrap().parse().unwrap();
    let scraped = ask(admin, "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    let scraped = String::from_utf8(scraped.body).unwrap();
    let there: BTreeSet<&str> =
        scraped.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let page = read("docs/operations.md");
    let rows = table(&page, "metric");
    let documented: BTreeSet<&str> =
        rows.iter().map(|row| row[0].trim_matches('`').split('{').next().unwrap_or_default()).map(metric).collect();
    assert_eq!(documented, there);
}
