//! Where a policy is loaded from: its file, the files that it names, and the environment.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::compile::{Compiled, compile_all};
use super::error::{Problem, Problems, Span};
use super::file::Audit;
use super::reference::Surroundings;
use super::tree::{MAX_FILE, decode};

/// The largest key file that is read, in bytes; more than any key set may have.
const MAX_KEY_FILE: usize = 1 << 20;

/// Where a policy is loaded from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The policy file.
    pub policy: PathBuf,
    /// What `${env:NAME}` stands for.
    pub variables: Variables,
    /// Whether what `${env:NAME}` and `${file:path}` stand for may be missing: to check a policy where its secrets are not.
    pub stubs: bool,
}

/// Environment variables.
#[derive(Clone)]
pub enum Variables {
    /// Those of this process.
    Process,
    /// These.
    These(Arc<HashMap<String, String>>),
}

/// Never their values.
impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "Process",
            Self::These(_) => "These(..)",
        })
    }
}

impl Variables {
    fn read(&self, name: &str) -> Option<String> {
        match self {
            Self::Process => std::env::var(name).ok(),
            Self::These(these) => these.get(name).cloned(),
        }
    }
}

impl Origin {
    /// A policy file, in the environment of this process.
    pub fn new(policy: impl Into<PathBuf>) -> Self {
        Self { policy: policy.into(), variables: Variables::Process, stubs: false }
    }

    /// Reads and compiles the policy, and the files that it names relative to its own folder.
    ///
    /// # Errors
    /// All problems of the files; one of them at least is an error.
    pub fn load(&self) -> Result<Compiled, Problems> {
        let name = self.policy.display().to_string();
        let folder = self.policy.parent().unwrap_or(Path::new(""));
        let bytes = read_capped(&self.policy, MAX_FILE.saturating_add(1)).map_err(|error| {
            let message = format!("the file cannot be read: {}", error.kind());
            alone(&name, Problem::error("file_unreadable", Span::START, message))
        })?;
        let text = decode(&bytes).map_err(|problem| alone(&name, *problem))?;
        let around = Surroundings {
            file: &|file| read_capped(&folder.join(file), MAX_KEY_FILE),
            variable: &|name| self.variables.read(name),
            stubs: self.stubs,
        };
        let (compiled, problems) = compile_all(&name, text, &around);
        let Some(mut compiled) = compiled else { return Err(problems) };
        for file in compiled.files.iter_mut().skip(1) {
            *file = folder.join(&*file);
        }
        if let Audit::File(file) = &mut compiled.settings.audit {
            *file = folder.join(&*file);
        }
        Ok(compiled)
    }
}

/// Reads and compiles a policy file as [`Origin::load`] does.
///
/// # Errors
/// All problems of the file; one of them at least is an error.
pub fn load(path: &Path) -> Result<Compiled, Problems> {
    Origin::new(path).load()
}

fn alone(name: &str, problem: Problem) -> Problems {
    let mut problems = Problems::of(name, "");
    problems.report(problem);
    problems
}

/// A file's bytes, cut off at a length that is refused anyway.
fn read_capped(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    std::fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
