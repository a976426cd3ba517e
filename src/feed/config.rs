//! The policy file while we run: a change of it, or of a key file that it names, is loaded and published, or refused.

use std::collections::BTreeSet;
use std::fs;
use std::future::pending;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::jwks::Feeds;
use super::mint;
use crate::authz::policy::PolicyId;
use crate::authz::time::Timestamp;
use crate::clock;
use crate::config::compile::MintFolder;
use crate::config::{Compiled, Origin, Problem, Problems, Settings, Span};

/// How long the files must lie still before they are loaded: an editor or a rollout writes more than once.
const QUIET: Duration = Duration::from_millis(150);
/// How long a load waits for that at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the files are looked at where nothing was reported: not every file system reports.
const LOOK: Duration = Duration::from_secs(10);
/// How often a load is repeated because files changed under it, or because it told of more of them.
const ROUNDS: usize = 3;

/// How reloading is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReloadStatus {
    /// The policy in force.
    pub policy: PolicyId,
    /// When it was loaded.
    pub loaded: Timestamp,
    /// Whether the files have been changed since to what does not load.
    pub failed: bool,
    /// Whether the file says something that holds only after a restart: another address to listen at, another audit.
    pub restart: bool,
    /// How many loads were published, the first one included.
    pub good: u64,
    /// How many loads were refused.
    pub bad: u64,
}

/// What came of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// This policy is in force.
    Published(PolicyId),
    /// The policy in force stays, because of these problems.
    Refused(Problems),
}

/// A policy file that was loaded, and is watched from before it was.
pub struct PolicyFile {
    origin: Origin,
    watched: Watched,
    changes: mpsc::Receiver<()>,
}

impl PolicyFile {
    /// Loads a policy file. What is changed from now on is seen by [`PolicyFile::follow`].
    ///
    /// # Errors
    /// All problems of the file.
    pub fn open(origin: impl Into<Origin>) -> Result<(Self, Compiled), Problems> {
        let origin = origin.into();
        let (changed, changes) = mpsc::channel(1);
        let mut watched = Watched::new(changed);
        watched.look(&origin.files());
        let mut compiled = loaded(&origin)?;
        if tended(compiled.mint_folder.as_ref()) {
            compiled = loaded(&origin)?;
        }
        for _ in 0..ROUNDS {
            if !watched.look(&compiled.files) {
                break;
            }
            compiled = loaded(&origin)?;
        }
        Ok((Self { origin, watched, changes }, compiled))
    }

    /// Publishes what was loaded, then follows the file: when it changes, at `SIGHUP`, and when asked to.
    pub async fn follow(self, compiled: Compiled, feeds: Feeds) -> Reloads {
        let Self { origin, watched, changes } = self;
        let hangup = signal(SignalKind::hangup());
        if let Err(error) = &hangup {
            tracing::warn!("SIGHUP cannot be listened for: {error}");
        }
        let (requests, requested) = mpsc::channel(1);
        let (told, status) = watch::channel(ReloadStatus::default());
        let started = compiled.settings.clone();
        let (in_force, settings) = watch::channel(Arc::new(started.clone()));
        let mut follower =
            Follower { origin, watched, feeds, started, status: told, settings: in_force, refused: None, mint: None };
        follower.publish(compiled).await;
        tokio::spawn(follower.run(requested, changes, hangup.ok()));
        Reloads { requests, status, settings }
    }
}

/// Reloading, as others see it. The file is followed until the last clone is dropped.
#[derive(Clone)]
pub struct Reloads {
    requests: mpsc::Sender<oneshot::Sender<Reloaded>>,
    status: watch::Receiver<ReloadStatus>,
    settings: watch::Receiver<Arc<Settings>>,
}

impl Reloads {
    /// What the policy in force says beside the policy.
    #[must_use]
    pub fn settings(&self) -> watch::Receiver<Arc<Settings>> {
        self.settings.clone()
    }

    /// Loads the files now, changed or not. `None` where the runtime is ending.
    pub async fn reload(&self) -> Option<Reloaded> {
        let (reply, outcome) = oneshot::channel();
        self.requests.send(reply).await.ok()?;
        outcome.await.ok()
    }

    /// How reloading is doing.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<ReloadStatus> {
        self.status.clone()
    }
}

/// Loads the files, and warns of what has ended meanwhile.
fn loaded(origin: &Origin) -> Result<Compiled, Problems> {
    origin.load().map(|compiled| compiled.warned_at(clock::now()))
}

/// Looks after the keys to mint with; says whether anything changed.
fn tended(folder: Option<&MintFolder>) -> bool {
    let Some(folder) = folder else { return false };
    mint::tend(folder, clock::now()).unwrap_or_else(|error| {
        let path = folder.path.display();
        tracing::warn!(%error, "the keys to mint with cannot be changed in {path}: whoever fills it must");
        false
    })
}

struct Follower {
    origin: Origin,
    watched: Watched,
    feeds: Feeds,
    /// What holds until a restart.
    started: Settings,
    status: watch::Sender<ReloadStatus>,
    settings: watch::Sender<Arc<Settings>>,
    /// Why the last load was refused.
    refused: Option<Problems>,
    /// Where keys to mint with are made.
    mint: Option<MintFolder>,
}

impl Follower {
    async fn run(
        mut self,
        mut requests: mpsc::Receiver<oneshot::Sender<Reloaded>>,
        mut changes: mpsc::Receiver<()>,
        mut hangup: Option<Signal>,
    ) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stirred = None;
        loop {
            tokio::select! {
                request = requests.recv() => {
                    let Some(reply) = request else { return };
                    // Who asked may have given up.
                    let _ = reply.send(self.reload(true).await);
                }
                Some(()) = next(&mut hangup) => { self.reload(true).await; }
                Some(()) = changes.recv() => stirred = Some(Stirred::again(stirred)),
                () = still(stirred) => {
                    stirred = None;
                    self.reload_if_changed().await;
                }
                _ = looks.tick() => {
                    self.tend().await;
                    self.reload_if_changed().await;
                }
            }
        }
    }

    /// Looks after the keys to mint with: what is new among them is then seen as any change is.
    async fn tend(&self) {
        if let Some(folder) = self.mint.clone() {
            let _ = tokio::task::spawn_blocking(move || tended(Some(&folder))).await;
        }
    }

    /// A load that was refused is tried again all the same: its cause may be a file that is not known yet.
    async fn reload_if_changed(&mut self) {
        let known = self.watched.files();
        let changed = self.watched.look(&known);
        if changed || self.refused.is_some() {
            self.reload(changed).await;
        }
    }

    /// Loads the files. A refusal is told where it is `news`, or not the same as the last one.
    async fn reload(&mut self, news: bool) -> Reloaded {
        let known = self.watched.files();
        self.watched.look(&known);
        let mut loaded = self.load().await;
        for _ in 0..ROUNDS {
            if !loaded.as_ref().is_ok_and(|compiled| self.watched.look(&compiled.files)) {
                break;
            }
            loaded = self.load().await;
        }
        match loaded {
            Ok(compiled) => Reloaded::Published(self.publish(compiled).await),
            Err(problems) => {
                self.refuse(&problems, news);
                Reloaded::Refused(problems)
            }
        }
    }

    async fn load(&self) -> Result<Compiled, Problems> {
        let origin = self.origin.clone();
        let name = origin.name();
        tokio::task::spawn_blocking(move || loaded(&origin)).await.unwrap_or_else(|_| {
            let mut problems = Problems::of(&name, "");
            let message = "the file could not be compiled: this is an error of ours";
            problems.report(Problem::error("internal_error", Span::START, message));
            Err(problems)
        })
    }

    async fn publish(&mut self, compiled: Compiled) -> PolicyId {
        let (new, old) = (compiled.policy.id, *self.status.borrow());
        for warning in compiled.warnings.as_slice() {
            tracing::warn!("{warning}");
        }
        self.mint.clone_from(&compiled.mint_folder);
        self.feeds.publish(compiled.policy, compiled.fixed, compiled.feeds).await;
        self.refused = None;
        let restart = !same(&compiled.settings, &self.started);
        if restart {
            tracing::warn!("what is read at the start only is not what it was then: restart for {NEEDS_RESTART}");
        }
        self.settings.send_replace(Arc::new(compiled.settings));
        let (loaded, good) = (clock::now(), old.good.saturating_add(1));
        self.status.send_replace(ReloadStatus { policy: new, loaded, failed: false, restart, good, ..old });
        if old.good == 0 {
            tracing::info!(policy = %new, "the policy is in force");
        } else {
            tracing::info!(policy = %new, before = %old.policy, "the policy was loaded again and is in force");
        }
        new
    }

    fn refuse(&mut self, problems: &Problems, news: bool) {
        if news || self.refused.as_ref() != Some(problems) {
            for problem in problems.as_slice() {
                tracing::error!("{problem}");
            }
            let (policy, untold) = (self.status.borrow().policy, problems.untold());
            tracing::error!(%policy, untold, "the changed policy does not load; the one before stays in force");
            self.status.send_modify(|status| {
                status.failed = true;
                status.bad = status.bad.saturating_add(1);
            });
        }
        self.refused = Some(problems.clone());
    }
}

/// What is read at the start only.
const NEEDS_RESTART: &str = "`listen`, `store`, `audit`, `log`, `decision_key` and `key_cache`";

/// Whether two files say the same, wherever they say it, of what is fixed at start.
fn same(a: &Settings, b: &Settings) -> bool {
    let grpc = |settings: &Settings| settings.listen.grpc.iter().map(|at| at.value.clone()).collect::<Vec<_>>();
    let admin = |settings: &Settings| settings.listen.admin.as_ref().map(|at| at.value.clone());
    let public = |settings: &Settings| settings.listen.public.as_ref().map(|at| at.value.clone());
    let store =
        |settings: &Settings| settings.store.as_ref().map(|(at, password)| (at.value.clone(), password.clone()));
    let others = store(a) == store(b) && a.audit == b.audit && a.log == b.log && a.decision_key == b.decision_key;
    let others = others && a.key_cache == b.key_cache;
    others && grpc(a) == grpc(b) && admin(a) == admin(b) && public(a) == public(b)
}

/// The next signal; never, where they cannot be listened for.
async fn next(hangup: &mut Option<Signal>) -> Option<()> {
    match hangup {
        Some(hangup) => hangup.recv().await,
        None => pending().await,
    }
}

/// When changes that have not been looked at yet were reported.
#[derive(Clone, Copy)]
struct Stirred {
    first: Instant,
    last: Instant,
}

impl Stirred {
    fn again(before: Option<Self>) -> Self {
        let now = Instant::now();
        Self { first: before.map_or(now, |before| before.first), last: now }
    }
}

/// Waits until no change was reported for a while; for ever, where none was.
async fn still(stirred: Option<Stirred>) {
    let Some(Stirred { first, last }) = stirred else { return pending().await };
    let quiet = QUIET.saturating_sub(last.elapsed());
    sleep(quiet.min(PATIENCE.saturating_sub(first.elapsed()))).await;
}

/// Files, how each looked when it was last looked at, and the folders that report changes.
struct Watched {
    files: Vec<(PathBuf, Option<Stamp>)>,
    folders: BTreeSet<PathBuf>,
    watcher: Option<RecommendedWatcher>,
}

/// How a file looks from outside. With its place: Kubernetes swaps a link above it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    place: PathBuf,
    node: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let place = fs::canonicalize(file).ok()?;
        let told = fs::metadata(&place).ok()?;
        Some(Self {
            node: (told.dev(), told.ino()),
            size: told.size(),
            modified: (told.mtime(), told.mtime_nsec()),
            changed: (told.ctime(), told.ctime_nsec()),
            place,
        })
    }
}

impl Watched {
    /// Watches nothing yet. Where nothing can be reported, looking now and then must do.
    fn new(changed: mpsc::Sender<()>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is an event too, and we read. A full channel holds a change that is still to be seen.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                let _ = changed.try_send(());
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!("changes of files are not reported here, so they are seen late: {error}");
        }
        Self { files: Vec::new(), folders: BTreeSet::new(), watcher: watcher.ok() }
    }

    fn files(&self) -> Vec<PathBuf> {
        self.files.iter().map(|(file, _)| file.clone()).collect()
    }

    /// Watches these files, and no others, and tells whether anything is not as it was when last looked at. To be called
    /// before they are read: what changes later is then seen the next time.
    fn look(&mut self, files: &[PathBuf]) -> bool {
        let folders = files.iter().flat_map(|file| {
            let placed = fs::canonicalize(file).ok();
            // A folder is there for the files that may come into it.
            let own = placed.as_ref().filter(|placed| placed.is_dir()).cloned();
            [Some(folder(file)), placed.as_deref().map(folder), own].into_iter().flatten()
        });
        self.watch(folders.collect());
        let seen: Vec<_> = files.iter().map(|file| (file.clone(), Stamp::of(file))).collect();
        let changed = seen != self.files;
        self.files = seen;
        changed
    }

    /// Folders, not files: a file that is replaced takes its watch with it.
    fn watch(&mut self, folders: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        for old in self.folders.difference(&folders) {
            let _ = watcher.unwatch(old);
        }
        for folder in &folders {
            // Again and again: a folder may have been made anew. Where there is none, looking now and then must do.
            let _ = watcher.watch(folder, RecursiveMode::NonRecursive);
        }
        self.folders = folders;
    }
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::timeout;

    use super::*;
    use crate::authz::algorithm::Algorithm;
    use crate::dev::mint::SigningKey;
    use crate::feed::fetch::Fetcher;
    use crate::live::Live;

    const A: &str = "routes:\n  GET /a: public\n";
    const B: &str = "routes:\n  GET /b: public\n";

    /// A folder of a test's own.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name = format!("portcullis-reload-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
            let folder = std::env::temp_dir().join(name);
            fs::create_dir(&folder).unwrap();
            Self(folder)
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.at(name), text).unwrap();
        }

        /// Replaces a file as a careful writer does.
        fn replace(&self, name: &str, text: &str) {
            self.write(".new", text);
            fs::rename(self.at(".new"), self.at(name)).unwrap();
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    struct Site {
        live: Arc<Live>,
        reloads: Reloads,
    }

    impl Site {
        async fn start(file: impl Into<Origin>) -> Self {
            let (live, publisher, asked) = Live::new();
            let feeds = Feeds::start(publisher, asked, Fetcher::new());
            let (file, compiled) = PolicyFile::open(file).unwrap_or_else(|problems| panic!("{problems}"));
            Self { live, reloads: file.follow(compiled, feeds).await }
        }

        fn route(&self) -> String {
            self.live.snapshot().unwrap().policy().routes[0].key.to_string()
        }

        fn kids(&self) -> Vec<String> {
            self.live.snapshot().unwrap().issuers()[0].state().keys.kids().map(str::to_owned).collect()
        }

        fn status(&self) -> ReloadStatus {
            *self.reloads.status().borrow()
        }

        async fn until(&self, holds: impl FnMut(&ReloadStatus) -> bool) {
            let mut status = self.reloads.status();
            timeout(Duration::from_secs(20), status.wait_for(holds)).await.expect("in time").unwrap();
        }
    }

    fn jwks(kid: &str) -> String {
        serde_json::json!({"keys": [SigningKey::shared(Algorithm::Es256).public_jwk(Some(kid))]}).to_string()
    }

    const WITH_KEYS: &str = "routes:\n  GET /a: signed-in\nissuers:\n  main: {jwks: 'file:keys.json', issuer: 'https://id.example.com', audience: shop-api}\n";

    #[tokio::test]
    async fn files_laid_over_and_files_of_values_are_followed() {
        let folder = Folder::new();
        folder.write("p.yaml", "routes:\n  web:/a: public\nhosts: {web: [a.com]}\n");
        folder.write("host", "b.com\n");
        folder.write("prod.yaml", "hosts: {web: ['${file:host}']}\n");
        let site = Site::start(vec![folder.at("p.yaml"), folder.at("prod.yaml")]).await;
        let first = site.status().policy;
        folder.write("host", "c.com\n");
        site.until(|status| status.good == 2).await;
        let second = site.status().policy;
        assert_ne!(first, second, "the value is in the policy's id");
        folder.write("prod.yaml", "hosts: {web: [d.com]}\n");
        site.until(|status| status.good == 3).await;
        assert_ne!(second, site.status().policy);
        folder.write("prod.yaml", "routes: {}\n");
        site.until(|status| status.bad == 1).await;
    }

    #[tokio::test]
    async fn a_file_of_api_keys_is_followed_and_a_bad_one_changes_nothing() {
        let folder = Folder::new();
        let entry = |at: u32| format!("- {{owner: o{at}, hash: 'sha256:{at:064x}'}}\n");
        folder.write("p.yaml", "routes: {/a: {allow: signed-in, issuers: [api_keys]}}\napi_keys: {file: keys.yaml}\n");
        folder.write("keys.yaml", &entry(1));
        let site = Site::start(folder.at("p.yaml")).await;
        let owners = || {
            let snapshot = site.live.snapshot().unwrap();
            let keys = snapshot.policy().api_keys.as_ref().unwrap();
            keys.iter().map(|key| key.owner.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(owners(), ["o1"]);
        folder.replace("keys.yaml", &(entry(1) + &entry(2)));
        site.until(|status| status.good == 2).await;
        assert_eq!(owners(), ["o1", "o2"]);
        folder.replace("keys.yaml", "- {owner: o3}\n");
        site.until(|status| status.bad == 1).await;
        assert_eq!(owners(), ["o1", "o2"], "the keys before stay");
    }

    #[tokio::test]
    async fn a_new_file_of_a_team_is_seen() {
        let folder = Folder::new();
        fs::create_dir(folder.at("teams")).unwrap();
        folder.write("p.yaml", "include: [{files: teams/*.yaml, at: [/t/**], may: [public]}]\n");
        folder.write("teams/b.yaml", "routes: {GET /t/b: public}\n");
        let site = Site::start(folder.at("p.yaml")).await;
        assert_eq!(site.route(), "GET /t/b");
        folder.write("teams/a.yaml", "routes: {GET /t/a: public}\n");
        site.until(|status| status.good >= 2).await;
        assert_eq!(site.route(), "GET /t/a");
        folder.write("teams/a.yaml", "routes: {GET /x: public}\n");
        site.until(|status| status.bad >= 1).await;
        assert_eq!(site.route(), "GET /t/a", "a team that strays changes nothing");
        fs::remove_file(folder.at("teams/a.yaml")).unwrap();
        site.until(|status| !status.failed).await;
        assert_eq!(site.route(), "GET /t/b");
    }

    #[tokio::test]
    async fn a_changed_file_is_published() {
        let folder = Folder::new();
        folder.write("p.yaml", A);
        let site = Site::start(folder.at("p.yaml")).await;
        assert_eq!((site.route(), site.status().good), ("GET /a".to_owned(), 1));
        folder.write("p.yaml", B);
        site.until(|status| status.good == 2).await;
        assert_eq!(site.route(), "GET /b");
        folder.replace("p.yaml", A);
        site.until(|status| status.good == 3).await;
        assert_eq!(site.route(), "GET /a");
        let status = site.status();
        assert!(!status.failed && status.bad == 0 && status.policy == site.live.snapshot().unwrap().policy().id);
    }

    #[tokio::test]
    async fn a_file_that_does_not_load_changes_nothing() {
        // L01
        let folder = Folder::new();
        folder.write("p.yaml", A);
        let site = Site::start(folder.at("p.yaml")).await;
        let (before, version) = (site.status(), site.live.snapshot().unwrap().version());
        let bad: [(&str, &dyn Fn()); 8] = [
            ("syntax", &|| folder.write("p.yaml", "routes: {")),
            ("empty", &|| folder.write("p.yaml", "")),
            ("half", &|| folder.write("p.yaml", "routes:\n  GET /a: pub")),
            ("unknown field", &|| folder.write("p.yaml", "routes: {}\nruotes: {}\n")),
            ("duplicate key", &|| folder.write("p.yaml", &format!("{A}  GET /a: signed-in\n"))),
            ("not UTF-8", &|| fs::write(folder.at("p.yaml"), [0xff, 0xfe, 0xff]).unwrap()),
            ("deleted", &|| fs::remove_file(folder.at("p.yaml")).unwrap()),
            ("directory", &|| fs::create_dir(folder.at("p.yaml")).unwrap()),
        ];
        for (what, change) in bad {
            change();
            let Some(Reloaded::Refused(problems)) = site.reloads.reload().await else { panic!("{what}") };
            assert!(problems.has_errors(), "{what}");
            let status = site.status();
            assert!(status.failed && (status.policy, status.good) == (before.policy, 1), "{what}");
            assert_eq!(site.live.snapshot().unwrap().version(), version, "{what}");
        }
        assert!(site.status().bad >= 8);
        fs::remove_dir(folder.at("p.yaml")).unwrap();
        folder.write("p.yaml", B);
        site.until(|status| !status.failed).await;
        assert_eq!(site.route(), "GET /b");
    }

    #[tokio::test]
    async fn a_refusal_is_noticed_without_asking_and_healed_by_the_next_change() {
        // L01
        let folder = Folder::new();
        folder.write("p.yaml", A);
        let site = Site::start(folder.at("p.yaml")).await;
        folder.write("p.yaml", "routes: {");
        site.until(|status| status.failed).await;
        assert_eq!(site.route(), "GET /a");
        folder.write("p.yaml", B);
        site.until(|status| !status.failed).await;
        assert_eq!(site.route(), "GET /b");
    }

    #[tokio::test]
    async fn a_swapped_link_above_the_file_is_noticed() {
        // L01: how Kubernetes replaces the files of a ConfigMap
        let folder = Folder::new();
        for (version, text) in [("..v1", A), ("..v2", B)] {
            fs::create_dir(folder.at(version)).unwrap();
            folder.write(&format!("{version}/p.yaml"), text);
        }
        symlink("..v1", folder.at("..data")).unwrap();
        symlink("..data/p.yaml", folder.at("p.yaml")).unwrap();
        let site = Site::start(folder.at("p.yaml")).await;
        assert_eq!(site.route(), "GET /a");
        symlink("..v2", folder.at("..data_tmp")).unwrap();
        fs::rename(folder.at("..data_tmp"), folder.at("..data")).unwrap();
        fs::remove_dir_all(folder.at("..v1")).unwrap();
        site.until(|status| status.good == 2).await;
        assert_eq!(site.route(), "GET /b");
    }

    #[tokio::test]
    async fn a_file_behind_a_link_to_another_folder_is_watched_there() {
        let (folder, elsewhere) = (Folder::new(), Folder::new());
        elsewhere.write("real.yaml", A);
        symlink(elsewhere.at("real.yaml"), folder.at("p.yaml")).unwrap();
        let site = Site::start(folder.at("p.yaml")).await;
        elsewhere.replace("real.yaml", B);
        site.until(|status| status.good == 2).await;
        assert_eq!(site.route(), "GET /b");
    }

    #[tokio::test]
    async fn a_changed_key_file_brings_its_keys() {
        let folder = Folder::new();
        folder.write("p.yaml", WITH_KEYS);
        folder.write("keys.json", &jwks("one"));
        let site = Site::start(folder.at("p.yaml")).await;
        assert_eq!(site.kids(), ["one"]);
        folder.replace("keys.json", &jwks("two"));
        site.until(|status| status.good == 2).await;
        assert_eq!(site.kids(), ["two"]);
        folder.replace("keys.json", "{}");
        site.until(|status| status.failed).await;
        assert_eq!(site.kids(), ["two"]);
    }

    #[tokio::test]
    async fn a_key_file_that_comes_after_the_policy_heals_the_refusal() {
        let folder = Folder::new();
        folder.write("p.yaml", A);
        let site = Site::start(folder.at("p.yaml")).await;
        folder.write("p.yaml", WITH_KEYS);
        site.until(|status| status.failed).await;
        folder.write("keys.json", &jwks("late"));
        site.until(|status| !status.failed).await;
        assert_eq!(site.kids(), ["late"]);
        folder.write("keys.json", &jwks("later"));
        site.until(|_| site.kids() == ["later"]).await;
    }

    #[tokio::test]
    async fn what_needs_a_restart_is_said() {
        let folder = Folder::new();
        folder.write("p.yaml", &format!("{A}audit: stdout\n"));
        let site = Site::start(folder.at("p.yaml")).await;
        let id = site.status().policy;
        folder.write("p.yaml", &format!("# moved\n{A}audit: stdout\n"));
        assert!(matches!(site.reloads.reload().await, Some(Reloaded::Published(_))));
        assert!(!site.status().restart);
        folder.write("p.yaml", &format!("{A}audit: none\n"));
        assert!(matches!(site.reloads.reload().await, Some(Reloaded::Published(_))));
        assert!(site.status().restart);
        folder.write("p.yaml", &format!("{A}audit: stdout\n"));
        assert_eq!(site.reloads.reload().await, Some(Reloaded::Published(id)));
        assert!(!site.status().restart);
        folder.write("p.yaml", &format!("{A}store: redis://redis\n"));
        assert!(matches!(site.reloads.reload().await, Some(Reloaded::Published(_))));
        assert!(site.status().restart);
    }

    #[tokio::test]
    async fn a_hundred_reloads_never_show_half_a_policy() {
        // L01
        let folder = Folder::new();
        folder.write("p.yaml", A);
        let site = Site::start(folder.at("p.yaml")).await;
        let live = Arc::clone(&site.live);
        let done = Arc::new(());
        let running = Arc::downgrade(&done);
        let reader = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while running.strong_count() > 0 {
                let snapshot = live.snapshot().unwrap();
                assert_eq!(snapshot.policy().issuers.len(), snapshot.issuers().len());
                seen.insert((snapshot.policy().id.to_string(), snapshot.policy().routes[0].key.to_string()));
            }
            seen
        });
        for text in [B, A].into_iter().cycle().take(100) {
            folder.replace("p.yaml", text);
            let Some(Reloaded::Published(_)) = site.reloads.reload().await else { panic!("{text}") };
            assert_eq!(site.route(), if text == A { "GET /a" } else { "GET /b" });
        }
        drop(done);
        assert_eq!(reader.join().unwrap().len(), 2);
    }

    #[test]
    fn a_file_that_never_loaded_is_an_error_at_start() {
        let folder = Folder::new();
        folder.write("p.yaml", "routes: {");
        for file in ["p.yaml", "none.yaml", ""] {
            assert!(PolicyFile::open(folder.at(file)).is_err_and(|problems| problems.has_errors()), "{file}");
        }
    }
}
