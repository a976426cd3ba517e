//! Teams and environments through the command line: files laid over each other, files of variables, files of teams.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use portcullis::config::{Origin, Problems};

/// A folder of a test's own.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("portcullis-teams-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.0.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn load(&self) -> Result<portcullis::config::Compiled, Problems> {
        Origin::new(self.0.join("p.yaml")).load()
    }

    fn codes(&self) -> Vec<&'static str> {
        self.load().map_or_else(|p| p.as_slice().iter().map(|problem| problem.code).collect(), |_| vec![])
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs portcullis in a folder, without any variable but these.
fn portcullis(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.current_dir(folder).env_clear().envs(variables.iter().copied()).args(arguments);
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn the_tests_of_all_teams_run_in_each_environment_and_what_differs_is_shown() {
    let (good, told, wrong) = portcullis(
        Path::new("examples/teams"),
        &[("API_HOST", "not.used.example.com")],
        &["test", "-c", "portcullis.yaml", "--env", "staging.env", "--env", "prod.env"],
    );
    assert!(good && wrong.is_empty(), "{told}{wrong}");
    let expected = "\
staging.env: 13 passed, 0 failed
prod.env: 13 passed, 0 failed
what differs:
issuer main
  staging.env  iss https://id.staging.example.com/realms/shop, audience shop-api, keys from https://id.staging.example.com/realms/shop
  prod.env     iss https://id.example.com/realms/shop, audience shop-api, keys from https://id.example.com/realms/shop
hosts api
  staging.env  api.staging.example.com
  prod.env     api.example.com
public_url
  staging.env  https://api.staging.example.com
  prod.env     https://api.example.com
";
    assert_eq!(told, expected);
}

#[test]
fn an_environment_that_fails_is_named() {
    let folder = Folder::new();
    folder.write("p.yaml", "hosts: {api: ['${env:HOST}']}\nroutes: {'GET api:/x': public}\ntests: [[anonymous, GET a.example.com/x, allow]]\n");
    folder.write("a.env", "HOST=a.example.com\n");
    folder.write("b.env", "HOST='b.example.com'\n");
    folder.write("none.env", "# nothing\n");
    folder.write("bad.env", "HOST='hunter2\n");
    let (good, told, _) = portcullis(&folder.0, &[], &["test", "-c", "p.yaml", "--env", "a.env", "--env", "b.env"]);
    assert!(!good && told.starts_with("a.env: 1 passed, 0 failed\nb.env: p.yaml:3: GET a.example.com/x by"), "{told}");
    assert!(told.contains("hosts api\n  a.env  a.example.com\n  b.env  b.example.com\n"), "{told}");
    let (good, told, wrong) =
        portcullis(&folder.0, &[("HOST", "a.example.com")], &["test", "-c", "p.yaml", "--env", "none.env"]);
    assert!(!good && wrong.contains("error[variable_missing]") && told.contains("none.env"), "{told}{wrong}");
    let (good, _, wrong) = portcullis(&folder.0, &[], &["test", "-c", "p.yaml", "--env", "bad.env"]);
    assert!(!good && wrong.contains("bad.env:1") && wrong.contains("bad_variable"), "{wrong}");
}

#[test]
fn several_files_are_one_policy_and_secrets_may_be_missing_in_a_check() {
    let folder = Folder::new();
    folder.write("p.yaml", "issuers: {main: {url: 'https://${env:ID}', audience: shop}}\nroutes: {/x: signed-in}\ndecision_key: ${file:/run/secrets/none}\n");
    folder.write("prod.yaml", "issuers: {main: {audience: shop-prod}}\nlog: human\n");
    let both = ["check", "-c", "p.yaml", "-c", "prod.yaml", "--stub-secrets"];
    let (good, told, wrong) = portcullis(&folder.0, &[], &both);
    assert!(good && told.contains("/x  signed-in  main"), "{told}{wrong}");
    assert_eq!(wrong, "note: 2 values not there, read as stubs: ${env:ID}, ${file:/run/secrets/none}\n");
    let (good, _, wrong) = portcullis(&folder.0, &[], &both[..5]);
    assert!(!good && wrong.contains("error[variable_missing]") && wrong.contains("error[file_unreadable]"), "{wrong}");
    folder.write("prod.yaml", "routes: {/x: public}\n");
    let (good, _, wrong) = portcullis(&folder.0, &[], &both);
    assert!(!good && wrong.contains("error[not_in_later_file]") && wrong.contains("--> prod.yaml:1:1"), "{wrong}");
    let (good, _, wrong) = portcullis(&folder.0, &[], &["check", "-c", "p.yaml", "-c", "none.yaml", "--stub-secrets"]);
    assert!(!good && wrong.contains("error[file_unreadable]") && wrong.contains("--> none.yaml:1:1"), "{wrong}");
}

#[test]
fn files_of_teams_are_found_in_order_and_links_lead_nowhere_else() {
    let folder = Folder::new();
    let outside = Folder::new();
    folder.write("p.yaml", "include: [{files: teams/*.yaml, at: [/t/**], may: [public]}]\n");
    assert_eq!(folder.codes(), ["file_unreadable"]);
    folder.write("teams/b.yaml", "routes: {GET /t/b: public}\n");
    folder.write("teams/a.yaml", "routes: {GET /t/a: public}\n");
    folder.write("teams/.hidden.yaml", "routes: {GET /x: public}\n");
    folder.write("teams/a.yaml~", "routes: {GET /x: public}\n");
    let keys: Vec<_> = folder.load().unwrap().policy.routes.iter().map(|route| route.key.to_string()).collect();
    assert_eq!(keys, ["GET /t/a", "GET /t/b"]);
    outside.write("c.yaml", "routes: {GET /t/c: public}\n");
    symlink(outside.0.join("c.yaml"), folder.0.join("teams/c.yaml")).unwrap();
    assert_eq!(folder.codes(), ["outside_folder"]);
    fs::remove_file(folder.0.join("teams/c.yaml")).unwrap();
    // Within the folder a link is a file, once.
    symlink("a.yaml", folder.0.join("teams/c.yaml")).unwrap();
    assert_eq!(folder.codes(), ["included_twice"]);
    fs::remove_file(folder.0.join("teams/c.yaml")).unwrap();
    symlink(&outside.0, folder.0.join("linked")).unwrap();
    folder.write("p.yaml", "include: [{files: linked/*.yaml, at: [/t/**], may: [public]}]\n");
    assert_eq!(folder.codes(), ["outside_folder"]);
    folder.write("p.yaml", "include: [{files: '*.yaml', at: [/t/**], may: [public]}]\n");
    assert_eq!(folder.codes(), ["included_twice"], "the policy does not include itself");
}
