//! Last-good keys on disk: written after each good fetch, believed at a start for as long as `max_stale` allows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::fetch::Source;
use super::folder::{FileFault, Folder};
use crate::authz::issuer::{IssuerPolicy, KeyState};
use crate::authz::keys::{KeySet, Origin};
use crate::authz::time::Timestamp;
use crate::live::mark;

/// How many key sets may wait to be written. What does not fit is written after its next fetch.
const WAITING: usize = 256;
/// How long the files are waited for at a start: a disk that hangs must not keep us from serving.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a file says.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Content {
    /// The issuer's name in the policy.
    issuer: String,
    /// The `iss` of its tokens.
    iss: String,
    /// Where the keys were fetched: a hash, for a URL may hold a secret.
    source: String,
    /// When, in milliseconds of the Unix epoch.
    fetched: i64,
    /// The usable keys, as they were accepted.
    jwks: Box<RawValue>,
}

/// The files of last-good keys. Cheap to clone.
#[derive(Clone)]
pub struct SavedKeys {
    folder: Arc<Folder>,
    to_write: mpsc::Sender<(String, Vec<u8>)>,
}

impl SavedKeys {
    /// Keeps them in this folder, from a task on the runtime of the caller.
    #[must_use]
    pub fn start(folder: Arc<Folder>) -> Self {
        let (to_write, mut waiting) = mpsc::channel::<(String, Vec<u8>)>(WAITING);
        let writer = Arc::clone(&folder);
        tokio::spawn(async move {
            while let Some((name, body)) = waiting.recv().await {
                let folder = Arc::clone(&writer);
                // It tells by itself what goes wrong.
                let _ = spawn_blocking(move || folder.write(&name, &body)).await;
            }
        });
        Self { folder, to_write }
    }

    /// Writes an issuer's keys, some time soon. Whatever becomes of that harms nobody who is served.
    pub(super) fn save(&self, policy: &IssuerPolicy, source: &Source, state: &KeyState) {
        let (Some(fetched), Some(jwks)) = (state.fetched, state.keys.to_jwks()) else { return };
        let Ok(jwks) = RawValue::from_string(jwks) else { return };
        let (issuer, iss) = (policy.name.to_string(), policy.tokens.issuer.to_string());
        let content = Content { issuer, iss, source: hash(source), fetched: fetched.as_millis(), jwks };
        if let Ok(body) = serde_json::to_vec(&content) {
            let _ = self.to_write.try_send((file_name(&policy.name), body));
        }
    }

    /// The keys that are believed of these issuers. None of those whose files cannot be read in time.
    pub(super) async fn load(
        &self,
        wanted: Vec<(Arc<IssuerPolicy>, Source)>,
        now: Timestamp,
    ) -> HashMap<Arc<str>, KeyState> {
        let folder = Arc::clone(&self.folder);
        let read = spawn_blocking(move || {
            let believed = wanted.iter().filter_map(|(policy, source)| {
                let state = load(&folder, policy, source, now)?;
                Some((Arc::clone(&policy.name), state))
            });
            believed.collect()
        });
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(read) => read.unwrap_or_default(),
            Err(_) => {
                tracing::warn!("the files of `key_cache` could not be read in time");
                HashMap::new()
            }
        }
    }
}

fn file_name(issuer: &str) -> String {
    format!("{}.keys", mark(issuer))
}

fn load(folder: &Folder, policy: &IssuerPolicy, source: &Source, now: Timestamp) -> Option<KeyState> {
    let name = file_name(&policy.name);
    let believed = folder.read(&name).and_then(|body| body.map(|body| believe(&body, policy, source, now)).transpose());
    believed.map_err(|fault| folder.refuse(&name, &fault)).ok().flatten()
}

fn believe(body: &[u8], policy: &IssuerPolicy, source: &Source, now: Timestamp) -> Result<KeyState, FileFault> {
    let content: Content = serde_json::from_slice(body).map_err(|_| FileFault::Foreign)?;
    let is_ours = *content.issuer == *policy.name && *content.iss == *policy.tokens.issuer;
    if !is_ours || content.source != hash(source) {
        return Err(FileFault::Mismatch);
    }
    let fetched = Timestamp::from_millis(content.fetched);
    if fetched > now {
        return Err(FileFault::Future);
    }
    if now.since(fetched) > policy.max_stale {
        return Err(FileFault::Stale);
    }
    // As strictly as if they had just been fetched.
    let report = KeySet::from_jwks(content.jwks.get().as_bytes(), Origin::Remote).map_err(|_| FileFault::Foreign)?;
    if report.keys.is_empty() {
        return Err(FileFault::Foreign);
    }
    Ok(KeyState { keys: report.keys, fetched: Some(fetched), from_disk: true, ..KeyState::default() })
}

fn hash(source: &Source) -> String {
    let text = format!("{:?} {:?}", source.issuer, source.from);
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;
    use crate::authz::algorithm::Algorithm;
    use crate::config::KeySource;
    use crate::dev::mint::SigningKey;
    use crate::feed::folder::FolderStatus;
    use crate::feed::trial::{Scratch, compiled};

    const AT: Timestamp = Timestamp::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn source(issuer: &str, url: &str) -> Source {
        let from = KeySource::Jwks(url.into());
        Source { issuer: issuer.into(), from, allow_http: false, ca: None }
    }

    fn policy(name: &str, source: &Source) -> Arc<IssuerPolicy> {
        Arc::clone(&compiled(&[(name, source, "max_stale: 1d")]).policy.issuers[0])
    }

    /// A folder with the keys of `main`, fetched at `AT`.
    async fn kept() -> (Scratch, Arc<Folder>, Source, PathBuf) {
        let scratch = Scratch::new();
        let folder = Arc::new(Folder::new(scratch.0.join("a/b")));
        let source = source("https://id.example.com", "https://id.example.com/keys?client_secret=canary");
        let key = SigningKey::shared(Algorithm::Es256).public_jwk(Some("k"));
        let set = json!({"keys": [key, {"kty": "RSA"}], "more": "canary"}).to_string();
        let keys = KeySet::from_jwks(set.as_bytes(), Origin::Remote).unwrap().keys;
        let saved = SavedKeys::start(Arc::clone(&folder));
        let policy = policy("main", &source);
        saved.save(&policy, &source, &KeyState { keys, fetched: Some(AT), ..KeyState::default() });
        let file = scratch.0.join("a/b").join(file_name("main"));
        while !file.exists() {
            tokio::task::yield_now().await;
        }
        (scratch, folder, source, file)
    }

    #[tokio::test]
    async fn keys_on_disk_are_those_of_the_same_issuer_and_place_or_none() {
        let (_scratch, folder, source, file) = kept().await;
        let main = policy("main", &source);
        let kids = |policy: &IssuerPolicy, source: &Source, now| {
            let state = load(&folder, policy, source, now)?;
            assert!(state.from_disk && state.fetched == Some(AT) && state.attempted.is_none() && !state.failed);
            Some(state.keys.kids().map(str::to_owned).collect::<Vec<_>>())
        };
        let found = Some(vec!["k".to_owned()]);
        assert_eq!(kids(&main, &source, AT), found);
        assert_eq!(kids(&main, &source, AT.plus(DAY)), found);
        assert_eq!(kids(&main, &source, AT.plus(DAY + Duration::from_millis(1))), None, "too old");
        assert_eq!(kids(&main, &source, Timestamp::from_millis(AT.as_millis() - 1)), None, "of the future");
        for other in [
            super::tests::source("https://id.example.com", "https://id.example.com/keys"),
            super::tests::source("https://id.example.com", "https://evil.example.com/keys?client_secret=canary"),
            super::tests::source("https://evil.example.com", "https://id.example.com/keys?client_secret=canary"),
            Source { from: KeySource::Discovery("https://id.example.com/keys".into()), ..source.clone() },
        ] {
            assert_eq!(kids(&policy("main", &other), &other, AT), None, "{other:?}");
        }
        fs::copy(&file, file.with_file_name(file_name("other"))).unwrap();
        assert_eq!(kids(&policy("other", &source), &source, AT), None, "another issuer's file under its name");
        assert_eq!(kids(&policy("none", &source), &source, AT), None);
        assert_eq!(folder.status(), FolderStatus { unread: 7, unwritten: 0 });
    }

    #[tokio::test] // K11
    async fn a_file_holds_public_keys_and_no_url_and_is_its_users_alone() {
        let (scratch, _, _, file) = kept().await;
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("canary") && !text.contains("/keys"), "{text}");
        let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(&scratch.0.join("a/b"))), (0o600, 0o700));
        assert_eq!(
            fs::read_dir(scratch.0.join("a/b")).unwrap().count(),
            1,
            "what was written first is not left behind"
        );
    }

    #[tokio::test]
    async fn a_file_that_is_not_ours_and_unhurt_gives_no_keys() {
        let (scratch, folder, source, file) = kept().await;
        let (main, good) = (policy("main", &source), fs::read(&file).unwrap());
        let believed = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            load(&folder, &main, &source, AT).is_some()
        };
        for length in 0..good.len() {
            assert!(!believed(&good[..length]), "cut at {length}");
        }
        for at in 0..good.len() {
            let mut flipped = good.clone();
            flipped[at] ^= 1;
            assert!(!believed(&flipped), "byte {at}");
        }
        assert!(!believed(&[&good[..], b" "].concat()), "longer");
        assert!(!believed(&vec![b' '; 4 << 20]), "much longer");
        let later = String::from_utf8(good.clone()).unwrap().replacen("state 1 ", "state 2 ", 1);
        assert!(!believed(later.as_bytes()), "another version");
        // With a checksum that fits, and what a program of ours would not write.
        for body in ["", "{}", "[]", "null", "\u{0}", r#"{"issuer":"main"}"#, "\u{feff}{}"] {
            folder.write(&file_name("main"), body.as_bytes()).unwrap();
            assert!(load(&folder, &main, &source, AT).is_none(), "{body}");
        }
        assert!(believed(&good));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o622)).unwrap();
        assert!(load(&folder, &main, &source, AT).is_none(), "others may write it");
        fs::rename(&file, scratch.0.join("elsewhere")).unwrap();
        fs::set_permissions(scratch.0.join("elsewhere"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink(scratch.0.join("elsewhere"), &file).unwrap();
        assert!(load(&folder, &main, &source, AT).is_none(), "a link");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(load(&folder, &main, &source, AT).is_none(), "a folder");
        assert_eq!(folder.status().unwritten, 0);
        assert!(folder.status().unread > u64::try_from(2 * good.len()).unwrap());
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_used_harms_nobody() {
        let scratch = Scratch::new();
        fs::write(scratch.0.join("file"), "").unwrap();
        let source = source("https://id.example.com", "https://id.example.com/keys");
        let policy = policy("main", &source);
        let keys = SigningKey::shared(Algorithm::Es256).key_set("k");
        let state = KeyState { keys, fetched: Some(AT), ..KeyState::default() };
        for path in [scratch.0.join("file/below"), "/proc/portcullis".into()] {
            let folder = Arc::new(Folder::new(path));
            let saved = SavedKeys::start(Arc::clone(&folder));
            assert!(saved.load(vec![(Arc::clone(&policy), source.clone())], AT).await.is_empty());
            for _ in 0..2 * WAITING {
                saved.save(&policy, &source, &state);
            }
            while folder.status().unwritten == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn a_file_is_replaced_whole_and_what_a_crash_left_is_no_hindrance() {
        let (_scratch, folder, ..) = kept().await;
        fs::write(folder.path().join("x.new"), "half").unwrap();
        for body in [&b"one"[..], b"another"] {
            folder.write("x", body).unwrap();
            assert_eq!(folder.read("x").unwrap().as_deref(), Some(body));
        }
        assert!(!folder.path().join("x.new").exists());
        folder.remove("x").unwrap();
        folder.remove("x").unwrap();
        assert!(folder.read("x").unwrap().is_none());
    }
}
