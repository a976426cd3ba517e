//! The policy file while we run: a change of it, or of a key file that it names, is loaded and published, or refused.

use std::collections::BTreeSet;
use std::fs;
use std::future::pending;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::jwks::Feeds;
use crate::authz::policy::PolicyId;
use crate::authz::time::Timestamp;
use crate::clock;
use crate::config::{Compiled, Problem, Problems, Span, load};

/// How long the files must lie still before they are loaded: an editor or a rollout writes more than once.
const QUIET: Duration = Duration::from_millis(150);
/// How long a load waits for that at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the files are looked at where nothing was reported: not every file system reports.
const LOOK: Duration = Duration::from_secs(10);

/// How reloading is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReloadStatus {
    /// The policy in force.
    pub policy: PolicyId,
    /// When it was loaded.
    pub loaded: Timestamp,
    /// Whether the files have been changed since to what does not load.
    pub failed: bool,
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
    path: PathBuf,
    watched: Watched,
    changes: mpsc::Receiver<()>,
}

impl PolicyFile {
    /// Loads a policy file. What is changed from now on is seen by [`PolicyFile::follow`].
    ///
    /// # Errors
    /// All problems of the file.
    pub fn open(path: PathBuf) -> Result<(Self, Compiled), Problems> {
        let (changed, changes) = mpsc::channel(1);
        let mut watched = Watched::new(changed);
        watched.look(std::slice::from_ref(&path));
        let compiled = load(&path)?;
        if watched.look(&compiled.files) {
            // Key files that only the policy told of: they may have changed since it was read.
            let compiled = load(&path)?;
            return Ok((Self { path, watched, changes }, compiled));
        }
        Ok((Self { path, watched, changes }, compiled))
    }

    /// Publishes what was loaded, then follows the file: when it changes, at `SIGHUP`, and when asked to.
    pub async fn follow(self, compiled: Compiled, feeds: Feeds) -> Reloads {
        let Self { path, watched, changes } = self;
        let hangup = signal(SignalKind::hangup());
        if let Err(error) = &hangup {
            tracing::warn!("SIGHUP cannot be listened for: {error}");
        }
        let (requests, requested) = mpsc::channel(1);
        let (told, status) = watch::channel(ReloadStatus::default());
        let mut follower = Follower { path, watched, feeds, status: told, refused: None };
        follower.publish(compiled).await;
        tokio::spawn(follower.run(requested, changes, hangup.ok()));
        Reloads { requests, status }
    }
}

/// Reloading, as others see it. The file is followed until the last clone is dropped.
#[derive(Clone)]
pub struct Reloads {
    requests: mpsc::Sender<oneshot::Sender<Reloaded>>,
    status: watch::Receiver<ReloadStatus>,
}

impl Reloads {
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

struct Follower {
    path: PathBuf,
    watched: Watched,
    feeds: Feeds,
    status: watch::Sender<ReloadStatus>,
    /// Why the last load was refused.
    refused: Option<Problems>,
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
        loop {
            tokio::select! {
                request = requests.recv() => {
                    let Some(reply) = request else { return };
                    // Who asked may have given up.
                    let _ = reply.send(self.reload(true).await);
                }
                Some(()) = next(&mut hangup) => { self.reload(true).await; }
                Some(()) = changes.recv() => {
                    quiet(&mut changes).await;
                    self.reload_if_changed().await;
                }
                _ = looks.tick() => self.reload_if_changed().await,
            }
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
        if let Ok(compiled) = &loaded
            && self.watched.look(&compiled.files)
        {
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
        let path = self.path.clone();
        let name = path.display().to_string();
        tokio::task::spawn_blocking(move || load(&path)).await.unwrap_or_else(|_| {
            let mut problems = Problems::default();
            let message = "the file could not be compiled: this is an error of ours";
            problems.report(&name.into(), Problem::error("internal_error", Span::default(), message));
            Err(problems)
        })
    }

    async fn publish(&mut self, compiled: Compiled) -> PolicyId {
        let (new, old) = (compiled.policy.id, *self.status.borrow());
        for warning in compiled.warnings.as_slice() {
            tracing::warn!("{warning}");
        }
        self.feeds.publish(compiled.policy, compiled.fixed, compiled.feeds).await;
        self.refused = None;
        let good = old.good.saturating_add(1);
        self.status.send_replace(ReloadStatus { policy: new, loaded: clock::now(), failed: false, good, ..old });
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

/// The next signal; never, where they cannot be listened for.
async fn next(hangup: &mut Option<Signal>) -> Option<()> {
    match hangup {
        Some(hangup) => hangup.recv().await,
        None => pending().await,
    }
}

/// Waits until no change was reported for a while.
async fn quiet(changes: &mut mpsc::Receiver<()>) {
    let began = Instant::now();
    while began.elapsed() < PATIENCE && timeout(QUIET, changes.recv()).await.is_ok_and(|change| change.is_some()) {}
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
            [Some(folder(file)), placed.as_deref().map(folder)].into_iter().flatten()
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
