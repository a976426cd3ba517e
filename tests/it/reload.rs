//! The policy file is loaded anew at `SIGHUP`.

use std::fs;
use std::process::Command;
use std::time::Duration;

use portcullis::feed::config::PolicyFile;
use portcullis::feed::fetch::Fetcher;
use portcullis::feed::jwks::Feeds;
use portcullis::live::Live;

#[tokio::test]
async fn a_hangup_loads_the_policy_again_changed_or_not() {
    let file = std::env::temp_dir().join(format!("portcullis-hangup-{}.yaml", std::process::id()));
    fs::write(&file, "routes:\n  GET /a: public\n").unwrap();
    let (_live, publisher, asked) = Live::new();
    let feeds = Feeds::start(publisher, asked, Fetcher::new());
    let (opened, compiled) = PolicyFile::open(file.clone()).unwrap();
    let reloads = opened.follow(compiled, feeds).await;
    let hangup = Command::new("kill").args(["-HUP", &std::process::id().to_string()]).status().unwrap();
    assert!(hangup.success());
    let mut status = reloads.status();
    let reloaded = status.wait_for(|status| status.good == 2);
    let after = *tokio::time::timeout(Duration::from_secs(10), reloaded).await.unwrap().unwrap();
    assert!(!after.failed && after.bad == 0);
    fs::remove_file(&file).unwrap();
}
