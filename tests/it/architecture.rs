//! Imports point one way: each module names only the modules listed beside it, and the core names no transport.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// May name everything; nothing else in the library names them.
const TOP: &[&str] = &["admin", "app", "cli"];

/// What each module may name besides itself. A module that is not here is an error, so that a new one is thought about.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("authz", &[]),
    ("clock", &["authz"]),
    ("config", &["authz"]),
    ("observe", &["authz", "clock"]),
    ("live", &["authz", "clock"]),
    ("store", &["authz"]),
    ("authorizer", &["authz", "clock", "live", "observe", "store"]),
    ("feed", &["authz", "clock", "config", "live", "store"]),
    ("gateway", &["authz", "authorizer"]),
    ("server", &["authz", "authorizer", "gateway"]),
    ("public", &["authz", "clock", "feed", "live"]),
    ("review", &["authz", "config"]),
    ("dev", &["authz", "clock", "config"]),
    ("probe", &["authz", "clock", "config", "dev"]),
];

/// The core stays testable without a runtime, a socket or a subscriber.
const CORE_NEVER_NAMES: &[&str] = &["tokio", "tonic", "prost", "reqwest", "hyper", "tracing", "opentelemetry"];

/// The modules of ours and the outside crates that a piece of source names, outside its tests.
#[derive(Default)]
struct Names {
    ours: BTreeSet<String>,
    crates: BTreeSet<String>,
    /// How many `mod name { … }` deep we are: `super` climbs out of these first.
    inline: usize,
    /// The file's own place below `src`: `["authz", "token"]`.
    place: Vec<String>,
    /// The places of files that only tests have: `#[cfg(test)] mod tests;`.
    test_only: Vec<Vec<String>>,
}

impl Names {
    fn of(source: &str, place: Vec<String>) -> Self {
        let mut names = Self { place, ..Self::default() };
        names.visit_file(&syn::parse_file(source).unwrap());
        names
    }

    fn path<'a>(&mut self, segments: impl Iterator<Item = &'a str>) {
        let segments: Vec<&str> = segments.collect();
        match segments.as_slice() {
            ["crate" | "portcullis", ours, ..] => _ = self.ours.insert((*ours).to_owned()),
            ["super", ..] => self.climb(&segments),
            [outside, _, ..] => _ = self.crates.insert((*outside).to_owned()),
            _ => {}
        }
    }

    fn climb(&mut self, segments: &[&str]) {
        let climbed = segments.iter().take_while(|segment| **segment == "super").count();
        if climbed == self.inline + self.place.len()
            && let Some(ours) = segments.get(climbed)
        {
            self.ours.insert((*ours).to_owned());
        }
    }

    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.used(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.used(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.used(&[before, &["*".to_owned()]].concat()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree)),
        }
    }

    fn used(&mut self, path: &[String]) {
        if let [outside] = path {
            self.crates.insert(outside.clone());
        }
        self.path(path.iter().map(String::as_str));
    }
}

/// Whether these attributes keep an item out of the shipped library.
fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || (attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test"))
    })
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test_only(&item.attrs) {
            self.inline += 1;
            visit::visit_item_mod(self, item);
            self.inline -= 1;
        } else if item.content.is_none() {
            self.test_only.push([&*self.place, &[item.ident.to_string()]].concat());
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test_only(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test_only(&item.attrs) {
            self.tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.path(segments.iter().map(String::as_str));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let tokens = item.tokens.to_string().replace(' ', "");
        for piece in tokens.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
            let segments: Vec<&str> = piece.split("::").filter(|segment| !segment.is_empty()).collect();
            self.path(segments.into_iter());
        }
        visit::visit_macro(self, item);
    }
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// `src/authz/token.rs` is at `["authz", "token"]`, `src/authz/mod.rs` at `["authz"]`.
fn place(src: &Path, file: &Path) -> Vec<String> {
    let below = file.strip_prefix(src).unwrap().with_extension("");
    let mut place: Vec<String> = below.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    place.pop_if(|last| last == "mod");
    place
}

/// Each file of the library's modules: its top module, its path, what it names.
fn library() -> Vec<(String, PathBuf, Names)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files =
        sources(&src).into_iter().filter(|file| !["lib.rs", "main.rs"].iter().any(|name| *file == src.join(name)));
    let read: Vec<(PathBuf, Names)> = files
        .map(|file| {
            let names = Names::of(&fs::read_to_string(&file).unwrap(), place(&src, &file));
            (file, names)
        })
        .collect();
    let test_only: Vec<Vec<String>> = read.iter().flat_map(|(_, names)| names.test_only.clone()).collect();
    read.into_iter()
        .filter(|(_, names)| !test_only.contains(&names.place))
        .map(|(file, names)| (names.place.first().unwrap().clone(), file, names))
        .collect()
}

#[test]
fn imports_point_one_way() {
    let mut wrong = Vec::new();
    for (module, file, names) in library() {
        if TOP.contains(&module.as_str()) {
            continue;
        }
        let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: `{module}` has no row in MAY_NAME", file.display()));
            continue;
        };
        let known = MAY_NAME.iter().map(|(name, _)| *name).chain(TOP.iter().copied());
        for named in known.filter(|known| names.ours.contains(*known)) {
            if named != module && !allowed.contains(&named) {
                wrong.push(format!("{}: `{module}` may not name `{named}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_core_names_no_transport() {
    let mut read = 0;
    for (module, file, names) in library() {
        if module == "authz" {
            read += 1;
            for word in CORE_NEVER_NAMES {
                let family = |outside: &String| outside == word || outside.starts_with(&format!("{word}_"));
                assert!(!names.crates.iter().any(family), "{}: names `{word}`", file.display());
            }
        }
    }
    assert!(read > 0, "no file of the core was read");
}

#[test]
fn the_reader_of_imports_sees_through_groups_globs_renames_paths_and_macros() {
    let source = r"
        use crate::{config::{self, file::File}, live as alive};
        use hyper_util::rt::*;
        use tokio;
        fn f() -> crate::feed::Feed { vec![crate::store::memory(), tonic::Status::ok()] }
        mod inner { use super::super::super::gateway; }
        #[cfg(test)]
        mod tests { use crate::app::App; }
        #[cfg(test)]
        mod trial;
    ";
    let names = Names::of(source, vec!["authz".to_owned(), "token".to_owned()]);
    let ours: Vec<&str> = names.ours.iter().map(String::as_str).collect();
    assert_eq!(ours, ["config", "feed", "gateway", "live", "store"]);
    assert_eq!(names.test_only, [["authz", "token", "trial"]]);
    for outside in ["hyper_util", "tokio", "tonic"] {
        assert!(names.crates.contains(outside), "{outside}");
    }
}
