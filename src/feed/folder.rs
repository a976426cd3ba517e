//! A folder on disk for small files of our own: replaced as a whole, and believed only where they are ours and unhurt.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};

use crate::authz::keys::MAX_JWKS;

/// How every file begins: what it is, the version of its form, and then the SHA-256 of what follows the line.
const MAGIC: &str = "portcullis-state 1 ";
/// The largest file that is read, in bytes.
const MAX_FILE: usize = MAX_JWKS + 4_096;
/// Whatever others may do with a file, they may not write it.
const OTHERS_WRITE: u32 = 0o022;

/// Why a file cannot be believed, or not be written. Holds nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// The system says no.
    #[error("{}", .0.kind())]
    Io(#[from] io::Error),
    /// It is a link, a folder or a device.
    #[error("it is no plain file")]
    NotPlain,
    /// Another user made it, or may write it.
    #[error("it belongs to another user, or others may write it")]
    NotOurs,
    /// It is over the cap.
    #[error("it is larger than {MAX_FILE} bytes")]
    TooLarge,
    /// It is of another program, or of another version of this one.
    #[error("it does not begin as files of this version do")]
    Foreign,
    /// What it holds is not what was written.
    #[error("its checksum does not fit: it was cut short, or changed")]
    Corrupted,
    /// It is about something else.
    #[error("it is about another issuer, or about keys of another place")]
    Mismatch,
    /// It says that it was written later than now.
    #[error("it is of the future: it, or the clock, is wrong")]
    Future,
    /// It is too old.
    #[error("it is older than `max_stale`")]
    Stale,
}

/// How often the folder failed us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FolderStatus {
    /// Files that could not be read, or were not believed.
    pub unread: u64,
    /// Files that could not be written.
    pub unwritten: u64,
}

/// A folder of our own.
pub struct Folder {
    path: PathBuf,
    unread: AtomicU64,
    unwritten: AtomicU64,
}

impl Folder {
    /// The folder at this path. It is made when first written to.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, unread: AtomicU64::new(0), unwritten: AtomicU64::new(0) }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How often it failed us.
    #[must_use]
    pub fn status(&self) -> FolderStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FolderStatus { unread: count(&self.unread), unwritten: count(&self.unwritten) }
    }

    /// Tells that a file is not believed, and counts that.
    pub(super) fn refuse(&self, name: &str, fault: &FileFault) {
        self.unread.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(file = %self.path.join(name).display(), "a file of `key_cache` is not believed: {fault}");
    }

    /// Replaces a file: who reads it sees the old one or the new one, whole, after a crash as well.
    ///
    /// # Errors
    /// What the system says; the old file is there still.
    pub(super) fn write(&self, name: &str, body: &[u8]) -> io::Result<()> {
        let written = self.replace(name, body);
        if let Err(error) = &written {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
            let file = self.path.join(name);
            tracing::warn!(file = %file.display(), "a file of `key_cache` could not be written: {}", error.kind());
        }
        written
    }

    fn replace(&self, name: &str, body: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let new = self.path.join(format!("{name}.new"));
        // What a crash left behind, if anything.
        let _ = fs::remove_file(&new);
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(format!("{MAGIC}{}\n", checksum(body)).as_bytes())?;
            file.write_all(body)?;
            file.sync_all()?;
            fs::rename(&new, self.path.join(name))
        })();
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written?;
        self.sync()
    }

    /// Removes a file, where it is there.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.unwritten.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
            Err(_) => Ok(()),
            Ok(()) => self.sync(),
        }
    }

    /// Makes sure that what was renamed stays so.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Reads what was written into a file; `None` where there is no such file.
    ///
    /// # Errors
    /// Why it is not believed.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FileFault> {
        let path = self.path.join(name);
        let seen = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            seen => seen?,
        };
        if !seen.is_file() {
            return Err(FileFault::NotPlain);
        }
        let file = File::open(&path)?;
        let opened = file.metadata()?;
        if (opened.dev(), opened.ino()) != (seen.dev(), seen.ino()) {
            return Err(FileFault::NotPlain);
        }
        if opened.uid() != self.own_user()? || opened.mode() & OTHERS_WRITE != 0 {
            return Err(FileFault::NotOurs);
        }
        let mut text = Vec::new();
        file.take(u64::try_from(MAX_FILE).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut text)?;
        if text.len() > MAX_FILE {
            return Err(FileFault::TooLarge);
        }
        let rest = text.strip_prefix(MAGIC.as_bytes()).ok_or(FileFault::Foreign)?;
        let (sum, body) = rest.split_at_checked(64).ok_or(FileFault::Corrupted)?;
        let body = body.strip_prefix(b"\n").ok_or(FileFault::Corrupted)?;
        if sum != checksum(body).as_bytes() {
            return Err(FileFault::Corrupted);
        }
        Ok(Some(body.to_vec()))
    }

    /// The user that we are; where that cannot be told, whose the folder is.
    fn own_user(&self) -> io::Result<u32> {
        fs::metadata("/proc/self").or_else(|_| fs::metadata(&self.path)).map(|told| told.uid())
    }

    /// The names of the files that end so; none where the folder is not there.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn names(&self, end: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names: io::Result<Vec<_>> = entries.map(|entry| entry.map(|entry| entry.file_name())).collect();
        let names = names?.into_iter().filter_map(|name| name.into_string().ok());
        Ok(names.filter(|name| name.ends_with(end)).collect())
    }
}

fn checksum(body: &[u8]) -> String {
    digest(&SHA256, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
