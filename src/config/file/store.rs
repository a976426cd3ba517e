//! The `store` section: where replicas share what they must all know.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::issuer::file_path;
use super::site::{SecretPlace, secret_place};
use crate::config::error::{Problem, Spanned, Text};
use crate::config::shape::{Fields, Reader, Section};
use crate::config::tree::{Kind, Node};

pub(super) const STORE: Section = Section {
    name: "`store`",
    accepted: &["url", "username", "password", "ca", "deadline", "prefix"],
    later: &[],
    never: &[],
};

/// Redis's own.
const PORT: u16 = 6_379;
/// How long an operation may take: the most, and where the file does not say.
const DEADLINE: Duration = Duration::from_millis(50);
const PREFIX: &str = "portcullis:";
const MAX_PREFIX: usize = 64;
const MAX_DATABASE: u32 = 65_535;
const CURE: &str = "memory, redis://host:6379, rediss://host:6379/0 or redis+unix:///run/redis.sock";

/// A Redis, as the file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Where it is.
    pub at: At,
    /// The number of the database.
    pub database: u32,
    /// The user.
    pub username: Option<Box<str>>,
    /// Where the user's password is.
    pub password: Option<SecretPlace>,
    /// A PEM file of those who sign its certificate.
    pub ca: Option<PathBuf>,
    /// How long an operation may take.
    pub deadline: Duration,
    /// What every key begins with.
    pub prefix: Box<str>,
}

/// Where a Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// A host (an IPv6 address without brackets), its port, and whether TLS is spoken.
    Tcp(Box<str>, u16, bool),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Reads the section; `None` for memory.
pub(super) fn store(reader: &mut Reader, top: &Fields<'_>) -> Option<Spanned<Shared>> {
    let node = top.get("store")?;
    if !matches!(node.kind, Kind::Map(_)) {
        let text = reader.text(node, "`store`")?;
        return if &*text.value == "memory" { None } else { shared(reader, &text, None) };
    }
    let fields = reader.fields(node, STORE)?;
    let Some(url) = fields.get("url") else {
        reader.missing(node.span, "`store` needs `url`: redis://host:6379");
        return None;
    };
    let url = reader.text(url, &fields.name("url"))?;
    shared(reader, &url, Some(&fields))
}

fn shared(reader: &mut Reader, url: &Text, fields: Option<&Fields<'_>>) -> Option<Spanned<Shared>> {
    let read = self::url(&url.value);
    if let Err((code, message)) = read {
        let cure = if code == "secret_in_file" { "`username:`, and `password: env:NAME`" } else { CURE };
        reader.report(Problem::error(code, url.span, message).cure(cure));
    }
    let get = |key| fields.and_then(|fields| fields.get(key));
    let username = get("username").and_then(|node| reader.text(node, "`username` of `store`"));
    let password = get("password").and_then(|node| secret_place(reader, node, "`password` of `store`", "password"));
    let ca = get("ca").and_then(|node| file_path(reader, node, "`ca` of `store`"));
    let prefix = get("prefix").and_then(|node| prefix(reader, node));
    let deadline = get("deadline").and_then(|node| deadline(reader, node));
    if let (Some(username), None) = (&username, get("password")) {
        reader.missing(username.span, "a `username` of `store` needs `password`: env:NAME or file:path");
    }
    let (at, database) = read.ok()?;
    if let (Some(ca), At::Tcp(_, _, false) | At::Unix(_)) = (&ca, &at) {
        let problem = Problem::error("not_https", ca.span, "there is no certificate to check without TLS");
        reader.report(problem.cure("rediss:// in place of redis://, or remove `ca`"));
    }
    let shared = Shared {
        at,
        database,
        username: username.map(|username| username.value),
        password: password.map(|password| password.value),
        ca: ca.map(|ca| ca.value),
        deadline: deadline.unwrap_or(DEADLINE),
        prefix: prefix.map_or_else(|| PREFIX.into(), |prefix| prefix.value),
    };
    Some(Spanned::new(shared, url.span))
}

/// Where a Redis is, and which of its databases. Messages tell nothing of the URL: there may be a password in it.
fn url(text: &str) -> Result<(At, u32), (&'static str, &'static str)> {
    const BAD: (&str, &str) = ("bad_url", "this is neither `memory` nor the URL of a Redis");
    let number = |text: &str| text.parse().ok().filter(|number| *number <= MAX_DATABASE);
    if let Some(rest) = text.strip_prefix("redis+unix://") {
        let (path, database) = rest.split_once("?db=").map_or((rest, Some(0)), |(path, text)| (path, number(text)));
        let fits = path.starts_with('/') && !path.contains(['?', '#', '@']);
        return database.filter(|_| fits).map(|database| (At::Unix(path.into()), database)).ok_or(BAD);
    }
    let url = Url::parse(text).map_err(|_| BAD)?;
    let tls = match url.scheme() {
        "redis" => false,
        "rediss" => true,
        _ => return Err(BAD),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(("secret_in_file", "user and password do not stand in the URL of a store"));
    }
    let host = url.host_str().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let named = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    let database = match url.path() {
        "" | "/" => Some(0),
        path => path.strip_prefix('/').and_then(number),
    };
    let plain = url.query().is_none() && url.fragment().is_none() && url.port() != Some(0);
    let fits = plain && (named || bare.parse::<Ipv6Addr>().is_ok());
    let at = At::Tcp(bare.into(), url.port().unwrap_or(PORT), tls);
    database.filter(|_| fits).map(|database| (at, database)).ok_or(BAD)
}

fn prefix(reader: &mut Reader, node: &Node) -> Option<Text> {
    let text = reader.text(node, "`prefix` of `store`")?;
    let fits = text.value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'/'));
    if !fits || text.value.len() > MAX_PREFIX {
        let message = "`prefix` of `store` must be at most 64 letters, digits and any of `.-_:/`";
        reader.report(Problem::error("bad_prefix", text.span, message).cure(PREFIX));
        return None;
    }
    Some(text)
}

fn deadline(reader: &mut Reader, node: &Node) -> Option<Duration> {
    let deadline = reader.duration(node, "`deadline` of `store`", Duration::MAX)?;
    if deadline.is_zero() || deadline > DEADLINE {
        let message = "`deadline` of `store` must be from 1ms to 50ms: requests wait for it";
        reader.report(Problem::error("out_of_range", node.span, message).cure("50ms"));
        return None;
    }
    Some(deadline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::parse;

    fn read(store: &str) -> (Option<Shared>, Vec<(u32, &'static str)>) {
        let (file, problems) = parse("portcullis.yaml", &format!("store: {store}\nroutes: {{/a: role:x}}\n"));
        for problem in problems.as_slice() {
            assert!(!format!("{problem}").contains("hunter2"), "{problem}");
        }
        let found = problems.as_slice().iter().map(|problem| (problem.span.column, problem.code)).collect();
        (file.unwrap().store.map(|store| store.value), found)
    }

    #[test]
    fn a_store_is_memory_or_a_redis() {
        assert_eq!(read("memory"), (None, vec![]));
        let at = |host: &str, port, tls| At::Tcp(host.into(), port, tls);
        for (url, expected, database) in [
            ("redis://redis", at("redis", 6_379, false), 0),
            ("redis://redis.shop.svc:6380/3", at("redis.shop.svc", 6_380, false), 3),
            ("rediss://10.0.0.7/", at("10.0.0.7", 6_379, true), 0),
            ("'rediss://[2001:db8::1]:7000/0'", at("2001:db8::1", 7_000, true), 0),
            ("redis+unix:///run/redis/redis.sock", At::Unix("/run/redis/redis.sock".into()), 0),
            ("'redis+unix:///run/redis.sock?db=5'", At::Unix("/run/redis.sock".into()), 5),
        ] {
            let (store, found) = read(url);
            assert_eq!(found, [], "{url}");
            let store = store.unwrap();
            assert_eq!((store.at, store.database), (expected, database), "{url}");
            assert_eq!((store.deadline.as_millis(), &*store.prefix), (50, "portcullis:"));
        }
        let long =
            "{url: 'rediss://r:7', username: edge, password: env:X, ca: file:ca.pem, deadline: 20ms, prefix: 'shop/'}";
        let expected = Shared {
            at: at("r", 7, true),
            database: 0,
            username: Some("edge".into()),
            password: Some(SecretPlace::Env("X".into())),
            ca: Some("ca.pem".into()),
            deadline: Duration::from_millis(20),
            prefix: "shop/".into(),
        };
        assert_eq!(read(long), (Some(expected), vec![]));
    }

    #[test]
    fn what_is_no_store_is_told_at_its_place() {
        for url in [
            "redis",
            "Memory",
            "true1",
            "http://redis",
            "redis:redis",
            "redis://",
            "redis:///0",
            "redis://redis:0",
            "redis://redis:99999",
            "redis://redis/a",
            "redis://redis/-1",
            "redis://redis/1/2",
            "redis://redis/99999999",
            "'redis://redis?a=b'",
            "'redis://redis#a'",
            "'redis://re%20dis'",
            "'redis://[::1'",
            "valkey://redis",
            "redis+unix://run/redis.sock",
            "'redis+unix:///run/redis.sock?db=x'",
            "'redis+unix:///run/redis.sock#a'",
            "rediss",
        ] {
            assert_eq!(read(url).1, [(8, "bad_url")], "{url}");
        }
        for (store, column, code) in [
            ("redis://edge:hunter2-hunter2@redis", 8, "secret_in_file"),
            ("'rediss://:hunter2-hunter2@redis/0'", 8, "secret_in_file"),
            ("{url: 'redis://hunter2-hunter2@redis'}", 14, "secret_in_file"),
            ("{}", 8, "missing_key"),
            ("{username: a}", 8, "missing_key"),
            ("{url: redis://r, username: a}", 35, "missing_key"),
            ("{url: redis://r, password: hunter2-hunter2}", 35, "secret_in_file"),
            ("{url: redis://r, ca: file:ca.pem}", 29, "not_https"),
            ("{url: rediss://r, ca: ca.pem}", 30, "bad_path"),
            ("{url: redis://r, deadline: 51ms}", 35, "out_of_range"),
            ("{url: redis://r, deadline: 0ms}", 35, "out_of_range"),
            ("{url: redis://r, deadline: 5}", 35, "bad_duration"),
            ("{url: redis://r, prefix: 'a b'}", 33, "bad_prefix"),
            ("{url: redis://r, prefix: '{a}'}", 33, "bad_prefix"),
            ("{url: redis://r, pasword: env:X}", 25, "unknown_key"),
            ("[redis://r]", 8, "wrong_shape"),
        ] {
            assert_eq!(read(store).1, [(column, code)], "{store}");
        }
    }
}
