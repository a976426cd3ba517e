//! `portcullis key`: what it prints and where, what it leaves in the file, and that the policy takes it.

use std::fs;
use std::process::{Command, Output};

use portcullis::authz::api_keys::format::{KeyHash, Prefix};

use crate::support::TempDir;

fn key(dir: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("key").args(arguments).current_dir(dir.path()).output().unwrap()
}

/// Standard output of what must go well.
fn told(dir: &TempDir, arguments: &[&str]) -> String {
    let output = key(dir, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of what must fail, with nothing on standard output.
fn refused(dir: &TempDir, arguments: &[&str]) -> String {
    let output = key(dir, arguments);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn file(dir: &TempDir) -> String {
    fs::read_to_string(dir.path().join("keys.yaml")).unwrap()
}

#[test]
fn a_new_key_is_printed_once_with_the_entry_of_its_hash() {
    let dir = TempDir::new();
    let output = key(
        &dir,
        &["new", "--owner", "billing", "--roles", "a,b", "--scopes", "s", "--routes", "GET /x/**", "--expires", "90d"],
    );
    let stdout = String::from_utf8(output.stdout).unwrap();
    let (made, entry) = stdout.split_once('\n').unwrap();
    assert!(Prefix::default().fits(made.as_bytes()), "{stdout}");
    assert!(
        entry.starts_with("- {\"id\":\"billing-") && entry.contains(&KeyHash::of(made.as_bytes()).to_string()),
        "{entry}"
    );
    assert!(
        entry.contains(r#""roles":["a","b"],"scopes":["s"],"routes":["GET /x/**"]"#) && entry.contains("expires"),
        "{entry}"
    );
    assert!(!String::from_utf8_lossy(&output.stderr).contains(made));
    let quiet = key(&dir, &["new", "--owner", "billing", "--quiet", "--prefix", "acme"]);
    let alone = String::from_utf8(quiet.stdout).unwrap();
    assert!(Prefix::parse("acme").unwrap().fits(alone.trim_end().as_bytes()) && alone.lines().count() == 1, "{alone}");
    assert!(String::from_utf8_lossy(&quiet.stderr).starts_with("- {"), "its entry is not lost");
    assert_ne!(told(&dir, &["new", "--owner", "billing", "-q"]), told(&dir, &["new", "--owner", "billing", "-q"]));
    assert!(refused(&dir, &["new", "--owner", "a b"]).contains("owner"));
    assert!(refused(&dir, &["new", "--owner", "a", "--routes", "nonsense"]).contains("nonsense"));
    assert!(refused(&dir, &["new", "--owner", "a", "--expires", "2020-01-01T00:00:00Z"]).contains("--expires"));
    assert_eq!(key(&dir, &["new"]).status.code(), Some(2));
}

#[test]
fn a_key_is_rotated_with_an_overlap_and_revoked() {
    let dir = TempDir::new();
    dir.file("keys.yaml", "# who calls us\n");
    let one = told(&dir, &["new", "--owner", "billing", "--roles", "reader", "--file", "keys.yaml"]);
    assert_eq!(one.lines().count(), 1, "the key alone: the file has the entry");
    assert!(refused(&dir, &["rotate", "--file", "keys.yaml", "--owner", "crm"]).contains("no live key"));
    let before = file(&dir);
    let two = told(&dir, &["rotate", "--file", "keys.yaml", "--owner", "billing", "--overlap", "3d", "--quiet"]);
    let after = file(&dir);
    assert!(after.starts_with("# who calls us\n") && after.matches(r#""roles":["reader"]"#).count() == 2, "{after}");
    assert!(!before.contains("expires") && after.matches("expires").count() == 1, "{after}");
    assert!(!after.contains(one.trim_end()) && !after.contains(two.trim_end()));
    assert!(refused(&dir, &["rotate", "--file", "keys.yaml", "--owner", "billing"]).contains("2 live keys"));
    assert_eq!(file(&dir), after, "a refusal changes nothing");
    let listed = told(&dir, &["list", "--file", "keys.yaml"]);
    assert!(listed.lines().filter(|line| line.contains(" live ")).count() == 2, "{listed}");
    let id = listed.lines().nth(1).unwrap().split(' ').next().unwrap().to_owned();
    told(&dir, &["revoke", "--file", "keys.yaml", "--id", &id]);
    let listed = told(&dir, &["list", "--file", "keys.yaml", "--owner", "billing"]);
    assert!(listed.contains(" revoked ") && listed.contains(" live "), "{listed}");
    let left = file(&dir);
    told(&dir, &["revoke", "--file", "keys.yaml", "--id", &id]);
    assert_eq!(file(&dir), left, "what is revoked already stays as it is");
    assert!(refused(&dir, &["revoke", "--file", "keys.yaml", "--id", "nobody"]).contains("nobody"));
    assert!(refused(&dir, &["revoke", "--file", "other.yaml", "--owner", "billing"]).contains("other.yaml"));
    assert_eq!(key(&dir, &["revoke", "--file", "keys.yaml"]).status.code(), Some(2));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside the file");
    // What it wrote is what the policy reads, and the keys are those that were printed.
    dir.file(
        "p.yaml",
        "api_keys: {file: keys.yaml}\nroutes: {/a: key:billing}\ntests: [{as: anonymous, key: billing, ask: GET /a, expect: allow, at: 2026-11-21T18:00:00Z}]",
    );
    let explain = |key: &str| {
        let header = format!("x-api-key: {}", key.trim_end());
        let run = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["explain", "-c", "p.yaml", "-H", &header, "GET", "http://h/a"])
            .current_dir(dir.path())
            .output()
            .unwrap();
        let told = String::from_utf8(run.stdout).unwrap();
        assert!(!told.contains(key.trim_end()), "{told}");
        (run.status.code(), told)
    };
    let (code, told) = explain(&one);
    assert!(code == Some(1) && told.contains("api_key_disabled"), "{told}");
    let (code, told) = explain(&two);
    assert!(code == Some(0) && told.contains("api_keys/billing"), "{told}");
}

#[test] // A02
fn a_file_that_holds_a_key_is_not_taken_and_the_key_is_not_shown() {
    let dir = TempDir::new();
    let made = told(&dir, &["new", "--owner", "billing", "-q"]);
    dir.file("keys.yaml", format!("- {{owner: billing, hash: {}}}\n", made.trim_end()));
    for arguments in [
        &["list", "--file", "keys.yaml"][..],
        &["new", "--owner", "crm", "--file", "keys.yaml"],
        &["revoke", "--owner", "billing", "--file", "keys.yaml"],
    ] {
        let said = refused(&dir, arguments);
        assert!(said.contains("keys.yaml:1") && !said.contains(made.get(10..30).unwrap()), "{said}");
    }
}
