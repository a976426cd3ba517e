//! `portcullis key`: the API keys of applications. A key is printed once, and nowhere kept but as its hash.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use clap::{Args, Subcommand};

use super::{count, fail, print};
use crate::authz::api_keys::MOST_LIVE;
use crate::authz::api_keys::format::{KeyHash, Prefix};
use crate::authz::route::{HostSets, Pattern};
use crate::authz::time::Timestamp;
use crate::clock;
use crate::config::api_keys::{Entry, Maker, Written, default_id, entries};

#[derive(Subcommand)]
pub(super) enum Key {
    /// Make a key: print it, once, and the entry of its hash
    New(New),
    /// Make a second key of an owner, with the rights of the first, which is good for a while still
    Rotate(Rotate),
    /// Refuse a key, or all keys of an owner, from now on
    Revoke(Revoke),
    /// List the keys of a file
    List(List),
}

/// What is said of a new key.
#[derive(Args)]
struct Made {
    /// How long it is good, such as 90d or 12h, or until when (2027-01-15T08:00:00Z); for ever where it is not said
    #[arg(long, value_name = "TIME", value_parser = ending)]
    expires: Option<Ending>,
    /// What it begins with: `prefix` of the policy's `api_keys`
    #[arg(long, value_name = "PREFIX", default_value = Prefix::DEFAULT, value_parser = prefix)]
    prefix: Prefix,
    /// Print the key alone; an entry that goes into no file is told on standard error
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Args)]
pub(super) struct New {
    /// Whose it is: `key:billing` in rules
    #[arg(long, value_name = "OWNER")]
    owner: String,
    /// What it is called; the owner and part of the hash where it is not said
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Its roles, with commas between them
    #[arg(long, value_name = "ROLES", value_delimiter = ',')]
    roles: Vec<String>,
    /// Its groups, with commas between them
    #[arg(long, value_name = "GROUPS", value_delimiter = ',')]
    groups: Vec<String>,
    /// Its scopes, with commas between them
    #[arg(long, value_name = "SCOPES", value_delimiter = ',')]
    scopes: Vec<String>,
    /// Requests that it is for, as keys of routes are written: `GET /invoices/**`; may be given more than once
    #[arg(long, value_name = "PATTERN")]
    routes: Vec<String>,
    /// The file of keys that the entry goes into
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    made: Made,
}

#[derive(Args)]
pub(super) struct Rotate {
    /// The file of keys
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Whose key it is
    #[arg(long, value_name = "OWNER")]
    owner: String,
    /// How long the key before is good still
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = span)]
    overlap: Duration,
    #[command(flatten)]
    made: Made,
}

#[derive(Args)]
pub(super) struct Revoke {
    /// The file of keys
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// The key of this id
    #[arg(long, value_name = "ID", required_unless_present = "owner", conflicts_with = "owner")]
    id: Option<String>,
    /// All keys of this owner
    #[arg(long, value_name = "OWNER")]
    owner: Option<String>,
}

#[derive(Args)]
pub(super) struct List {
    /// The file of keys
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Those of this owner only
    #[arg(long, value_name = "OWNER")]
    owner: Option<String>,
}

/// When a key ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    After(Duration),
    At(Timestamp),
}

impl Key {
    /// Exits with 1 where nothing was made or changed.
    pub fn run(self) -> ExitCode {
        let now = Timestamp::from_secs(clock::now().as_millis().div_euclid(1_000));
        let done = match self {
            Self::New(new) => new.run(now),
            Self::Rotate(rotate) => rotate.run(now),
            Self::Revoke(revoke) => revoke.run(),
            Self::List(list) => list.run(now),
        };
        done.map_or_else(fail, |()| ExitCode::SUCCESS)
    }
}

impl New {
    fn run(self, now: Timestamp) -> Result<(), String> {
        // Sets of hosts are the policy's: `check` reads patterns that name one.
        let is_bad = |text: &&String| !text.contains(':') && Pattern::parse(text).is_err();
        if let Some(bad) = self.routes.iter().find(is_bad) {
            return Err(format!("`{bad}` is not written as the key of a route: GET /invoices/**"));
        }
        let (key, mut entry) = self.made.key(&self.owner, now)?;
        if let Some(id) = self.id {
            entry.id = Some(id);
        }
        (entry.roles, entry.groups, entry.scopes, entry.routes) = (self.roles, self.groups, self.scopes, self.routes);
        let mut book = match &self.file {
            Some(file) => Book::open(file, &self.made.prefix, true)?,
            None => Book::default(),
        };
        book.add(&entry)?;
        if self.file.is_some() {
            book.write()?;
        }
        self.made.show(&key, &entry, self.file.is_some())
    }
}

impl Rotate {
    fn run(self, now: Timestamp) -> Result<(), String> {
        let mut book = Book::open(&self.file, &self.made.prefix, false)?;
        let owner = &self.owner;
        let is_live = |entry: &&Entry| entry.key.owner == *owner && entry.key.state(now) == "live";
        let live: Vec<Entry> = book.entries.iter().filter(is_live).cloned().collect();
        let old = match &*live {
            [] => return Err(format!("{owner} has no live key: portcullis key new --owner {owner}")),
            [one] => one,
            [..] => {
                let ids: Vec<String> = live.iter().map(|entry| entry.key.name()).collect();
                let ids = ids.join(" and ");
                return Err(format!("{owner} has {MOST_LIVE} live keys already, {ids}: revoke one of them first"));
            }
        };
        let (key, mut entry) = self.made.key(owner, now)?;
        if entry.expires.is_none() {
            entry.expires = old.key.lifetime()?.map(|span| written(now.plus(span)));
        }
        let Written { roles, groups, scopes, routes, .. } = old.key.clone();
        (entry.roles, entry.groups, entry.scopes, entry.routes) = (roles, groups, scopes, routes);
        let mut before = old.key.clone();
        let end = now.plus(self.overlap);
        let sooner = before.expires.as_deref().and_then(Timestamp::parse).is_none_or(|expires| end < expires);
        if sooner {
            before.expires = Some(written(end));
        }
        let until = before.expires.clone().unwrap_or_default();
        book.replace(&[(old.clone(), before)])?;
        book.add(&entry)?;
        book.write()?;
        tell(&format!("the key before, {}, is good until {until}", old.key.name()));
        self.made.show(&key, &entry, true)
    }
}

impl Revoke {
    fn run(self) -> Result<(), String> {
        let mut book = Book::open(&self.file, &Prefix::default(), false)?;
        let is_meant = |entry: &&Entry| match (&self.id, &self.owner) {
            (Some(id), _) => entry.key.name() == *id,
            (None, owner) => owner.as_ref() == Some(&entry.key.owner),
        };
        let meant: Vec<Entry> = book.entries.iter().filter(is_meant).cloned().collect();
        if meant.is_empty() {
            let which = self.id.map(|id| format!("no key is called {id}"));
            return Err(which.unwrap_or_else(|| format!("{} has no key", self.owner.unwrap_or_default())));
        }
        let disabled = |entry: &Entry| (entry.clone(), Written { disabled: true, ..entry.key.clone() });
        let changed: Vec<(Entry, Written)> = meant.iter().filter(|entry| !entry.key.disabled).map(disabled).collect();
        let number = changed.len();
        if number > 0 {
            book.replace(&changed)?;
            book.write()?;
        }
        tell(&format!("{} revoked; a portcullis that runs refuses them once it has the file", count(number, "key")));
        Ok(())
    }
}

impl List {
    fn run(self, now: Timestamp) -> Result<(), String> {
        let book = Book::open(&self.file, &Prefix::default(), false)?;
        let meant = |entry: &&Entry| self.owner.as_ref().is_none_or(|owner| *owner == entry.key.owner);
        let mut rows = vec![["ID", "OWNER", "STATE", "EXPIRES", "GIVES"].map(str::to_owned)];
        for Entry { key, .. } in book.entries.iter().filter(meant) {
            let expires = key.expires.clone().unwrap_or_else(|| "never".to_owned());
            rows.push([key.name(), key.owner.clone(), key.state(now).to_owned(), expires, key.gives()]);
        }
        let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
        let [id, owner, state, expires] = [width(0), width(1), width(2), width(3)];
        let mut table = String::new();
        for [a, b, c, d, e] in &rows {
            let line = format!("{a:id$}  {b:owner$}  {c:state$}  {d:expires$}  {e}");
            table.push_str(line.trim_end());
            table.push('\n');
        }
        print(table);
        Ok(())
    }
}

impl Made {
    /// A new key, and its entry.
    fn key(&self, owner: &str, now: Timestamp) -> Result<(String, Written), String> {
        let random = SystemRandom::new();
        let mut bytes = [0_u8; 256];
        random.fill(&mut bytes).map_err(|_| "the system gives no random bytes")?;
        // Of 256 bytes some 8 are not used; that 43 were not left would need 206 of them to be drawn again.
        let mut drawn = bytes.iter().copied();
        let mut short = false;
        let key = self.prefix.key(|| {
            drawn.next().unwrap_or_else(|| {
                short = true;
                0
            })
        });
        if short {
            return Err("the system gives no good random bytes".to_owned());
        }
        let hash = KeyHash::of(key.as_bytes());
        let expires = self.expires.map(|ending| match ending {
            Ending::After(span) => now.plus(span),
            Ending::At(time) => time,
        });
        if expires.is_some_and(|expires| expires <= now) {
            return Err("--expires is over already".to_owned());
        }
        let entry = Written {
            id: Some(default_id(owner, &hash)),
            owner: owner.to_owned(),
            hash: hash.to_string(),
            not_before: Some(written(now)),
            expires: expires.map(written),
            ..Written::default()
        };
        Ok((key, entry))
    }

    /// Prints the key, and its entry where no file has it.
    fn show(&self, key: &str, entry: &Written, in_file: bool) -> Result<(), String> {
        let line = line(entry)?;
        match (self.quiet, in_file) {
            (true, false) => tell(line.trim_end()),
            (true, true) => {}
            (false, true) => tell("the key is shown this once; the file has its hash"),
            (false, false) => tell("the key is shown this once; the line below it belongs into the file of keys"),
        }
        if self.quiet || in_file {
            print(format_args!("{key}\n"))
        } else {
            print(format_args!("{key}\n{line}"))
        }
        Ok(())
    }
}

/// A file of keys while it is changed.
#[derive(Default)]
struct Book {
    path: PathBuf,
    text: String,
    prefix: Prefix,
    entries: Vec<Entry>,
}

impl Book {
    /// Reads a file; one that is not there is empty where it may be `made`.
    fn open(path: &Path, prefix: &Prefix, made: bool) -> Result<Self, String> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if made && error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let book = Self { path: path.to_owned(), text: String::new(), prefix: prefix.clone(), entries: Vec::new() };
        book.with(text)
    }

    /// The same with other text; nothing is taken that would not load.
    fn with(self, text: String) -> Result<Self, String> {
        let (entries, faults) = entries(&text, &self.prefix);
        let place = |line: u32, message: &str| format!("{}:{line}: {message}", self.path.display());
        if let Some(fault) = faults.first() {
            return Err(place(fault.line, &fault.message));
        }
        let mut maker = Maker::default();
        for entry in &entries {
            // Patterns may name sets of hosts that the policy has.
            let key = Written { routes: Vec::new(), ..entry.key.clone() };
            maker
                .key(key, &HostSets::default())
                .map_err(|fault| place(entry.line, &format!("{}; {}", fault.message, fault.cure)))?;
        }
        Ok(Self { text, entries, ..self })
    }

    fn add(&mut self, entry: &Written) -> Result<(), String> {
        let mut text = std::mem::take(&mut self.text);
        if text.trim() == "[]" {
            text.clear();
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&line(entry)?);
        *self = std::mem::take(self).with(text)?;
        Ok(())
    }

    /// Puts others in the place of some entries; everything else stays as it is written.
    fn replace(&mut self, changed: &[(Entry, Written)]) -> Result<(), String> {
        let mut text = std::mem::take(&mut self.text);
        // From the last, so that the places of the others stay.
        for (old, new) in changed.iter().rev() {
            let line = line(new)?;
            let line =
                if text.get(old.at.clone()).is_some_and(|old| old.ends_with('\n')) { &*line } else { line.trim_end() };
            if text.is_char_boundary(old.at.start) && text.is_char_boundary(old.at.end) {
                text.replace_range(old.at.clone(), line);
            }
        }
        *self = std::mem::take(self).with(text)?;
        Ok(())
    }

    /// Writes the file beside its old self, and puts it in its place at once.
    fn write(&self) -> Result<(), String> {
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let wrong = |error: std::io::Error| format!("{}: {error}", self.path.display());
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = path.with_file_name(name);
        let mut file = fs::File::create(&beside).map_err(wrong)?;
        if let Ok(old) = fs::metadata(&path) {
            file.set_permissions(old.permissions()).map_err(wrong)?;
        }
        file.write_all(self.text.as_bytes()).and_then(|()| file.sync_all()).map_err(wrong)?;
        fs::rename(&beside, &path).map_err(wrong)
    }
}

impl Written {
    fn name(&self) -> String {
        let hash = || KeyHash::parse(&self.hash).map(|hash| default_id(&self.owner, &hash)).unwrap_or_default();
        self.id.clone().unwrap_or_else(hash)
    }

    fn state(&self, now: Timestamp) -> &'static str {
        let time = |text: &Option<String>| text.as_deref().and_then(Timestamp::parse);
        match (self.disabled, time(&self.not_before), time(&self.expires)) {
            (true, ..) => "revoked",
            (_, _, Some(expires)) if expires <= now => "expired",
            (_, Some(from), _) if now < from => "not yet",
            (false, ..) => "live",
        }
    }

    /// How long it is good in all; none where it does not end.
    fn lifetime(&self) -> Result<Option<Duration>, String> {
        let time = |text: &Option<String>| text.as_deref().and_then(Timestamp::parse);
        match (time(&self.not_before), time(&self.expires)) {
            (_, None) => Ok(None),
            (Some(from), Some(to)) => Ok(Some(to.since(from))),
            (None, Some(_)) => Err("the key before ends, and does not say when it began: give --expires".to_owned()),
        }
    }

    fn gives(&self) -> String {
        let lists = [("roles", &self.roles), ("groups", &self.groups), ("scopes", &self.scopes), ("for", &self.routes)];
        let told = lists.into_iter().filter(|(_, names)| !names.is_empty());
        told.map(|(what, names)| format!("{what} {}", names.join(","))).collect::<Vec<_>>().join("; ")
    }
}

/// An entry as a line of the file.
fn line(entry: &Written) -> Result<String, String> {
    let json = serde_json::to_string(entry).map_err(|error| error.to_string())?;
    Ok(format!("- {json}\n"))
}

/// To the second, as the file has it.
fn written(time: Timestamp) -> String {
    time.to_string().replace(".000Z", "Z")
}

/// What is no output of the command.
fn tell(text: &str) {
    // Nobody is left to tell where this fails.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn prefix(text: &str) -> Result<Prefix, String> {
    Prefix::parse(text).ok_or_else(|| "want 2 to 32 lower-case letters, digits and `_`, such as pk_live".to_owned())
}

fn span(text: &str) -> Result<Duration, String> {
    let seconds = super::token::seconds(text)?;
    u64::try_from(seconds).map(Duration::from_secs).map_err(|_| "want a time that is not negative".to_owned())
}

fn ending(text: &str) -> Result<Ending, String> {
    match Timestamp::parse(text) {
        Some(time) => Ok(Ending::At(time)),
        None => span(text).map(Ending::After),
    }
}
