//! Where a policy is loaded from: its file, the files that it names, and the environment.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::compile::{Compiled, compile_all};
use super::error::{Problem, Problems, Span};
use super::file::{Audit, Endpoint};
use super::reference::{Found, Surroundings, Unlisted};
use super::tree::{MAX_FILE, decode};

/// Where a policy is loaded from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The policy file.
    pub policy: PathBuf,
    /// The files that are laid over it, one after the other.
    pub later: Vec<PathBuf>,
    /// What `${env:NAME}` stands for.
    pub variables: Variables,
    /// Whether what `${env:NAME}` and `${file:path}` stand for may be missing: to check a policy where its secrets are not.
    pub stubs: bool,
    /// Whether the policy is held against the lints: for whoever writes it, not for whoever serves it.
    pub lints: bool,
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
        Self { policy: policy.into(), later: Vec::new(), variables: Variables::Process, stubs: false, lints: true }
    }

    /// Reads and compiles the policy, and the files that it names relative to its own folder.
    ///
    /// # Errors
    /// All problems of the files; one of them at least is an error.
    pub fn load(&self) -> Result<Compiled, Problems> {
        let name = self.policy.display().to_string();
        let folder = self.policy.parent().unwrap_or(Path::new(""));
        let text = read(&self.policy)?;
        let mut later = Vec::with_capacity(self.later.len());
        for path in &self.later {
            later.push((path.display().to_string(), read(path)?));
        }
        let around = Surroundings {
            file: &|file| read_capped(&folder.join(file), MAX_FILE.saturating_add(1)),
            list: &|pattern| self.list(folder, pattern),
            names: &|path| names(&folder.join(path)),
            variable: &|name| self.variables.read(name),
            later: &later,
            stubs: self.stubs,
            lints: self.lints,
        };
        let (compiled, problems) = compile_all(&name, &text, &around);
        let Some(mut compiled) = compiled else { return Err(problems) };
        for file in compiled.files.iter_mut().skip(1) {
            *file = folder.join(&*file);
        }
        compiled.files.extend(self.later.iter().cloned());
        if let Some(mint) = &mut compiled.mint_folder {
            mint.path = folder.join(&mint.path);
        }
        let listen = &mut compiled.settings.listen;
        for endpoint in listen.grpc.iter_mut().chain(&mut listen.http) {
            let Endpoint::Tls(_, tls) = &mut endpoint.value else { continue };
            for file in [Some(&mut tls.certificate), Some(&mut tls.key), tls.client_ca.as_mut()].into_iter().flatten() {
                *file = folder.join(&*file);
                compiled.files.push(file.clone());
            }
        }
        if let Some((store, _)) = &mut compiled.settings.store
            && let Some(ca) = &mut store.value.ca
        {
            *ca = folder.join(&*ca);
        }
        if let Audit::File(file) = &mut compiled.settings.audit {
            *file = folder.join(&*file);
        }
        Ok(compiled)
    }

    /// The files of a pattern: those that its last part names, but for hidden ones.
    fn list(&self, folder: &Path, pattern: &str) -> Result<Vec<Found>, Unlisted> {
        let unreadable = |error: io::Error| Unlisted::Unreadable(error.kind());
        let here = |path: &Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
        let root = std::fs::canonicalize(here(folder)).map_err(unreadable)?;
        let policy: Vec<PathBuf> = self.files().iter().filter_map(|file| std::fs::canonicalize(file).ok()).collect();
        let (below, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        let mut names = Vec::new();
        for entry in std::fs::read_dir(here(&folder.join(below))).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            names.extend(entry.file_name().into_string().ok().filter(|file| is_named(name, file)));
        }
        names.sort_unstable();
        let mut found = Vec::with_capacity(names.len());
        for file in names {
            let path = if below.is_empty() { file } else { format!("{below}/{file}") };
            let full = folder.join(&path);
            let place = std::fs::canonicalize(&full).map_err(unreadable)?;
            if !place.starts_with(&root) {
                return Err(Unlisted::Outside(path));
            }
            if policy.contains(&place) {
                return Err(Unlisted::Policy(path));
            }
            if place.is_file() {
                found.push(Found { path, name: full.display().to_string(), place });
            }
        }
        Ok(found)
    }

    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.policy.display().to_string()
    }

    /// The files that are always read: the policy, then those that are laid over it.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        std::iter::once(&self.policy).chain(&self.later).cloned().collect()
    }
}

/// A policy file alone.
impl From<PathBuf> for Origin {
    fn from(policy: PathBuf) -> Self {
        Self::new(policy)
    }
}

/// Several files: the policy, and those that are laid over it. The policy has an empty name where there is none.
impl From<Vec<PathBuf>> for Origin {
    fn from(files: Vec<PathBuf>) -> Self {
        let mut files = files.into_iter();
        Self { policy: files.next().unwrap_or_default(), later: files.collect(), ..Self::new("") }
    }
}

/// The names of the files in a folder, in order, but for hidden ones.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.extend(entry?.file_name().into_string().ok().filter(|name| !name.starts_with('.')));
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether a pattern, in which `*` stands for any characters, names this file. It never names a hidden one.
fn is_named(pattern: &str, file: &str) -> bool {
    if file.starts_with('.') {
        return false;
    }
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == file };
    let Some(mut left) = file.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, after)) = left.split_once(part) else { return false };
        left = after;
    }
    left.ends_with(end)
}

/// A file of policy as text.
fn read(path: &Path) -> Result<String, Problems> {
    let name = path.display().to_string();
    let bytes = read_capped(path, MAX_FILE.saturating_add(1)).map_err(|error| {
        let message = format!("the file cannot be read: {}", error.kind());
        alone(&name, Problem::error("file_unreadable", Span::START, message))
    })?;
    decode(&bytes).map(Into::into).map_err(|problem| alone(&name, *problem))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_of_one_name() {
        for (pattern, file) in [
            ("*.yaml", "a.yaml"),
            ("a*b*c", "abc"),
            ("a*b*c", "aXbYbZc"),
            ("a.yaml", "a.yaml"),
            ("*", "x"),
            ("a*", "a"),
        ] {
            assert!(is_named(pattern, file), "{pattern} {file}");
        }
        for (pattern, file) in [
            ("*.yaml", "a.yml"),
            ("*.yaml", ".a.yaml"),
            ("*", ".x"),
            ("a*b*c", "acb"),
            ("a*a", "a"),
            ("a.yaml", "b.yaml"),
            ("*.yaml", "a.yaml~"),
        ] {
            assert!(!is_named(pattern, file), "{pattern} {file}");
        }
    }
}
