//! Route keys and guards' patterns as shapes, read from their canonical text, for walking the space of requests.

use crate::authz::policy::Policy;

/// What a key matches.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// The methods that it names; empty where it is for all.
    pub methods: Vec<String>,
    /// The hosts that it is for.
    pub host: Host,
    /// The segments of its path.
    pub segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// All of them.
    Any,
    /// This one.
    Exact(String),
    /// One label before this suffix.
    One(String),
    /// One label or more before this suffix.
    Many(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// This text, decoded.
    Literal(String),
    /// What begins with this; last only.
    Prefix(String),
    /// Any one.
    One,
    /// All that is left; last only.
    Rest,
}

impl Shape {
    /// What a key of this policy is for: of a set of hosts, one for each of them.
    pub fn all(policy: &Policy, key: &str) -> Vec<Self> {
        let Some(pattern) = policy.pattern(key) else { return Vec::new() };
        let methods: Vec<String> = pattern.methods().map(str::to_owned).collect();
        let shapes = pattern.shape_keys();
        shapes.iter().filter_map(|key| Some(Self { methods: methods.clone(), ..Self::read(key)? })).collect()
    }

    /// Reads a key as [`Pattern`](crate::authz::route::Pattern) prints it.
    pub fn read(key: &str) -> Option<Self> {
        let (before, path) = key.split_at_checked(key.find('/')?)?;
        let (methods, host) = before.rsplit_once(' ').unwrap_or(("", before));
        let methods = methods.split(',').filter(|method| !method.is_empty()).map(str::to_owned).collect();
        let host = match host.split_once('.') {
            _ if host.is_empty() => Host::Any,
            Some(("*", suffix)) => Host::Many(suffix.to_owned()),
            Some((first, suffix)) if first.starts_with('{') => Host::One(suffix.to_owned()),
            _ => Host::Exact(host.to_owned()),
        };
        let segments = path.split('/').filter(|segment| !segment.is_empty()).map(segment).collect();
        Some(Self { methods, host, segments })
    }

    pub fn is_for_host(&self, host: &str) -> bool {
        match &self.host {
            Host::Any => true,
            Host::Exact(name) => name == host,
            Host::One(suffix) => host.split_once('.').is_some_and(|(_, rest)| rest == suffix),
            Host::Many(suffix) => {
                host.strip_suffix(&**suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
        }
    }
}

fn segment(text: &str) -> Segment {
    let is_capture = text.starts_with('{') && text.ends_with('}');
    match text {
        "*" => Segment::One,
        "**" => Segment::Rest,
        _ if is_capture && text.ends_with("**}") => Segment::Rest,
        _ if is_capture => Segment::One,
        _ => {
            let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
            match text.strip_suffix('*') {
                Some(prefix) => Segment::Prefix(decoded(prefix)),
                None => Segment::Literal(decoded(text)),
            }
        }
    }
}

/// A segment as those upstreams may read it that ignore case, parameters, and dots and spaces at its end.
pub(super) fn folded(text: &str) -> String {
    let cut = text.split(['?', '#', ';']).next().unwrap_or_default().trim_end_matches(['.', ' ']);
    cut.to_lowercase().to_uppercase().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_key_is_read_back() {
        let shape = Shape::read("GET,POST {t}.shop.test/a%20b/{id}/Get*").unwrap();
        assert_eq!(shape.methods, ["GET", "POST"]);
        assert_eq!(shape.host, Host::One("shop.test".into()));
        let segments = [Segment::Literal("a b".into()), Segment::One, Segment::Prefix("Get".into())];
        assert_eq!(shape.segments, segments);
        let all = Shape::read("*.shop.test/{rest**}").unwrap();
        assert!(all.segments == [Segment::Rest] && all.is_for_host("a.b.shop.test") && !all.is_for_host("shop.test"));
        assert!(Shape::read("/").unwrap().segments.is_empty());
    }
}
