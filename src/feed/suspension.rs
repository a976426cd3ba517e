//! Suspended issuers: in force at once, and beyond a restart where there is a folder to keep that in.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::folder::{FileFault, Folder};
use crate::authz::issuer::IssuerPolicy;
use crate::authz::time::Timestamp;
use crate::clock;
use crate::live::{Publisher, Suspension, mark};

/// How the file of a suspension ends, after the mark of its issuer. That it is there suspends, whatever it says.
const END: &str = ".suspended";

/// What a file says: by which the issuer is known where the policy gives it another name.
#[derive(Deserialize, Serialize)]
struct Content {
    issuer: String,
    iss: String,
    since: i64,
}

/// For how long what was done holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// Until the contrary is asked for.
    Kept,
    /// As long as the process: there is no `key_cache`.
    NoFolder,
    /// As long as the process: the folder could not be written.
    Unwritten(io::ErrorKind),
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Whether anything is otherwise than before.
    pub changed: bool,
    /// For how long it holds.
    pub lasts: Lasts,
}

/// Suspends issuers, and ends that. Cheap to clone.
#[derive(Clone)]
pub struct Suspender {
    publisher: Publisher,
    folder: Option<Arc<Folder>>,
    /// One change at a time, so that disk and memory say the same.
    changing: Arc<Mutex<()>>,
}

impl Suspender {
    /// Suspends what was suspended when the last process ended. To be called before anything is published.
    pub async fn recall(publisher: Publisher, folder: Option<Arc<Folder>>) -> Self {
        if let Some(folder) = folder.clone() {
            let publisher = publisher.clone();
            // What cannot be read at all has been told, and suspends nobody.
            let _ = spawn_blocking(move || recall(&publisher, &folder)).await;
        }
        Self { publisher, folder, changing: Arc::default() }
    }

    /// Suspends an issuer. `None` where the policy has none of this name.
    pub async fn suspend(&self, name: &str) -> Option<Done> {
        let _alone = self.changing.lock().await;
        let now = clock::now();
        let (suspension, changed) = self.publisher.suspend(name, now)?;
        if changed {
            tracing::warn!(issuer = name, "the issuer is suspended: none of its tokens passes");
        }
        let content = Content {
            issuer: name.to_owned(),
            iss: suspension.iss.map(|iss| iss.to_string()).unwrap_or_default(),
            since: suspension.since.unwrap_or(now).as_millis(),
        };
        let body = serde_json::to_vec(&content).unwrap_or_default();
        let file = format!("{}{END}", mark(name));
        let lasts = self.keep(move |folder| {
            if !changed && matches!(folder.read(&file), Ok(Some(_))) { Ok(()) } else { folder.write(&file, &body) }
        });
        Some(Done { changed, lasts: lasts.await })
    }

    /// Ends the suspension of an issuer. `None` where the policy has none of this name.
    pub async fn resume(&self, name: &str) -> Option<Done> {
        let _alone = self.changing.lock().await;
        let marks = self.publisher.resume(name)?;
        let changed = !marks.is_empty();
        if changed {
            tracing::warn!(issuer = name, "the issuer is suspended no more");
        }
        let own = mark(name);
        let lasts = self
            .keep(move |folder| marks.iter().chain([&own]).try_for_each(|mark| folder.remove(&format!("{mark}{END}"))));
        Some(Done { changed, lasts: lasts.await })
    }

    /// What suspends this issuer, if anything does.
    #[must_use]
    pub fn suspension(&self, of: &IssuerPolicy) -> Option<Suspension> {
        self.publisher.suspension(of)
    }

    async fn keep(&self, keep: impl FnOnce(&Folder) -> io::Result<()> + Send + 'static) -> Lasts {
        let Some(folder) = self.folder.clone() else { return Lasts::NoFolder };
        match spawn_blocking(move || keep(&folder)).await {
            Ok(Ok(())) => Lasts::Kept,
            Ok(Err(error)) => Lasts::Unwritten(error.kind()),
            Err(_) => Lasts::Unwritten(io::ErrorKind::Other),
        }
    }
}

fn recall(publisher: &Publisher, folder: &Folder) {
    let names = folder.names(END).unwrap_or_else(|error| {
        folder.refuse("", &FileFault::Io(error));
        Vec::new()
    });
    let recalled = names.iter().filter_map(|name| {
        let mark = name.strip_suffix(END)?.to_owned();
        let content = folder.read(name).and_then(|body| {
            serde_json::from_slice::<Content>(&body.unwrap_or_default()).map_err(|_| FileFault::Foreign)
        });
        let suspension = match content {
            Ok(content) => {
                tracing::warn!(issuer = content.issuer, "the issuer is suspended, as it was before the start");
                Suspension {
                    iss: Some(content.iss.into()).filter(|iss: &Arc<str>| !iss.is_empty()),
                    since: Some(Timestamp::from_millis(content.since)),
                }
            }
            Err(fault) => {
                // The file is there, so somebody was suspended: its name still says who.
                folder.refuse(name, &fault);
                Suspension::default()
            }
        };
        Some((mark, suspension))
    });
    publisher.recall(recalled.collect());
}
