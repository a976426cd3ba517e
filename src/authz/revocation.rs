//! Gate 4: what was verified may have been revoked since: a token, a session, a key, or all that was issued before a time.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::identity::{Caller, Identity};
use super::json::Json;
use super::reason::Reason;
use super::time::Timestamp;

/// The longest identifier that is revoked, in bytes.
pub const MAX_IDENTIFIER: usize = 1_024;

type Map<V> = HashMap<Arc<str>, V, foldhash::fast::RandomState>;

/// What the policy says of revocation.
#[derive(Debug, Default)]
pub struct RevocationPolicy {
    /// What its own file lists.
    pub listed: Revocations,
    /// Whether what replicas share is asked as well.
    pub shared: bool,
    /// Whether a request passes while it is not known what is revoked.
    pub fail_open: bool,
    /// How long what is added is remembered, where it does not say itself.
    pub keep: Duration,
}

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The name of the issuer in the policy; `services` of workloads, `api_keys` of applications.
    pub issuer: Arc<str>,
    /// What of it.
    pub of: Revoked,
    /// When it need not be remembered any more, since what it revokes has expired by then; for good where that is not
    /// known.
    pub until: Option<Timestamp>,
}

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The token of this `jti`. Never a token by its bytes: the ECDSA signature of a token has a twin.
    Token(Arc<str>),
    /// The tokens of this session, by `sid` (OpenID Connect Back-Channel Logout 1.0 §2.1).
    Session(Arc<str>),
    /// What the key of this `kid` signed.
    Key(Arc<str>),
    /// The tokens of this subject that were issued before a time; all of them where there is none.
    Subject(Arc<str>, Option<Timestamp>),
    /// All tokens of the issuer that were issued before a time.
    Issued(Timestamp),
}

/// A revocation as replicas share it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    issuer: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Box<str>>,
    /// In milliseconds since the Unix epoch, as the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_before: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
}

impl Revocation {
    /// What it revokes, whatever the times: equal for two of which one can stand for both.
    #[must_use]
    pub fn key(&self) -> Box<[u8]> {
        let (kind, id) = match &self.of {
            Revoked::Token(id) => ('t', Some(id)),
            Revoked::Session(id) => ('s', Some(id)),
            Revoked::Key(id) => ('k', Some(id)),
            Revoked::Subject(subject, _) => ('p', Some(subject)),
            Revoked::Issued(_) => ('i', None),
        };
        // The length keeps the two apart whatever they hold; hashed, since what they hold may be long.
        let id = id.map(|id| &**id).unwrap_or_default();
        let text = format!("{kind}{}:{}{id}", self.issuer.len(), self.issuer);
        digest(&SHA256, text.as_bytes()).as_ref().into()
    }

    /// The revocation as replicas share it: JSON.
    #[must_use]
    pub fn encode(&self) -> Box<[u8]> {
        let at = |at: Timestamp| at.as_millis();
        let none = || Written {
            issuer: (*self.issuer).into(),
            token: None,
            session: None,
            key: None,
            subject: None,
            issued_before: None,
            until: self.until.map(at),
        };
        let written = match &self.of {
            Revoked::Token(id) => Written { token: Some((**id).into()), ..none() },
            Revoked::Session(id) => Written { session: Some((**id).into()), ..none() },
            Revoked::Key(id) => Written { key: Some((**id).into()), ..none() },
            Revoked::Subject(subject, before) => {
                Written { subject: Some((**subject).into()), issued_before: before.map(at), ..none() }
            }
            Revoked::Issued(before) => Written { issued_before: Some(at(*before)), ..none() },
        };
        serde_json::to_vec(&written).unwrap_or_default().into()
    }

    /// Reads what [`Self::encode`] wrote; `None` where it is anything else.
    #[must_use]
    pub fn decode(text: &[u8]) -> Option<Self> {
        let Written { issuer, token, session, key, subject, issued_before, until } =
            serde_json::from_slice(text).ok()?;
        let before = issued_before.map(Timestamp::from_millis);
        let of = match (token, session, key, subject, before) {
            (Some(id), None, None, None, None) => Revoked::Token(id.into()),
            (None, Some(id), None, None, None) => Revoked::Session(id.into()),
            (None, None, Some(id), None, None) => Revoked::Key(id.into()),
            (None, None, None, Some(subject), before) => Revoked::Subject(subject.into(), before),
            (None, None, None, None, Some(before)) => Revoked::Issued(before),
            _ => return None,
        };
        Some(Self { issuer: issuer.into(), of, until: until.map(Timestamp::from_millis) })
    }

    /// One that holds for all that this and another of the same [`Self::key`] do.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        let of = match (self.of, &other.of) {
            (Revoked::Subject(subject, mine), Revoked::Subject(_, theirs)) => {
                Revoked::Subject(subject, mine.zip(*theirs).map(|(mine, theirs)| mine.max(theirs)))
            }
            (Revoked::Issued(mine), Revoked::Issued(theirs)) => Revoked::Issued(mine.max(*theirs)),
            (of, _) => of,
        };
        Self { of, until: self.until.zip(other.until).map(|(mine, theirs)| mine.max(theirs)), ..self }
    }
}

/// A list of revocations, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    of: Map<OfIssuer>,
}

#[derive(Clone, Debug, Default)]
struct OfIssuer {
    tokens: Map<Until>,
    sessions: Map<Until>,
    keys: Map<Until>,
    subjects: Map<Vec<Issued>>,
    all: Vec<Issued>,
}

/// When a revocation ends; never, where it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Until(Option<Timestamp>);

/// What was issued before a time; everything, where it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Issued {
    before: Option<Timestamp>,
    until: Until,
}

impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuer = &self.issuer;
        match &self.of {
            Revoked::Token(id) => write!(f, "token {id} of {issuer}"),
            Revoked::Session(id) => write!(f, "session {id} of {issuer}"),
            Revoked::Key(id) => write!(f, "key {id} of {issuer}"),
            Revoked::Subject(subject, None) => write!(f, "{issuer}/{subject}"),
            Revoked::Subject(subject, Some(before)) => write!(f, "{issuer}/{subject} issued before {before}"),
            Revoked::Issued(before) => write!(f, "{issuer} issued before {before}"),
        }
    }
}

impl Until {
    fn holds(self, now: Timestamp) -> bool {
        self.0.is_none_or(|until| now < until)
    }

    /// The later of two ends.
    fn or(self, other: Self) -> Self {
        Self(self.0.zip(other.0).map(|(one, other)| one.max(other)))
    }
}

impl Issued {
    /// A token that does not say when it was issued may have been issued before.
    fn covers(self, issued: Option<Timestamp>, now: Timestamp) -> bool {
        let before = match (self.before, issued) {
            (Some(before), Some(issued)) => issued < before,
            (None, _) | (_, None) => true,
        };
        before && self.until.holds(now)
    }

    /// Whether all that another covers is covered by this.
    fn includes(self, other: Self) -> bool {
        let reaches = self.before.is_none_or(|mine| other.before.is_some_and(|theirs| theirs <= mine));
        reaches && self.until.or(other.until) == self.until
    }
}

impl Revocations {
    /// Adds one. What is revoked for longer stays so.
    pub fn add(&mut self, Revocation { issuer, of: what, until }: Revocation) {
        let of = self.of.entry(issuer).or_default();
        let until = Until(until);
        match what {
            Revoked::Token(id) => extend(&mut of.tokens, id, until),
            Revoked::Session(id) => extend(&mut of.sessions, id, until),
            Revoked::Key(id) => extend(&mut of.keys, id, until),
            Revoked::Subject(subject, before) => {
                widen(of.subjects.entry(subject).or_default(), Issued { before, until })
            }
            Revoked::Issued(before) => widen(&mut of.all, Issued { before: Some(before), until }),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Revocation> {
        self.of.iter().flat_map(|(issuer, of)| {
            let whole = |map: &Map<Until>, of: fn(Arc<str>) -> Revoked| -> Vec<(Revoked, Until)> {
                map.iter().map(|(id, until)| (of(Arc::clone(id)), *until)).collect()
            };
            let subjects = of.subjects.iter().flat_map(|(subject, issued)| {
                issued.iter().map(|one| (Revoked::Subject(Arc::clone(subject), one.before), one.until))
            });
            let all = of.all.iter().filter_map(|one| Some((Revoked::Issued(one.before?), one.until)));
            whole(&of.tokens, Revoked::Token)
                .into_iter()
                .chain(whole(&of.sessions, Revoked::Session))
                .chain(whole(&of.keys, Revoked::Key))
                .chain(subjects)
                .chain(all)
                .map(|(of, until)| Revocation { issuer: Arc::clone(issuer), of, until: until.0 })
        })
    }

    /// Whether all that this revokes is revoked by these as well.
    #[must_use]
    pub fn include(&self, other: &Revocation) -> bool {
        let Some(of) = self.of.get(&other.issuer) else { return false };
        let until = Until(other.until);
        let listed = |map: &Map<Until>, id: &str| map.get(id).is_some_and(|known| known.or(until) == *known);
        let covered = |issued: &[Issued], before| issued.iter().any(|one| one.includes(Issued { before, until }));
        match &other.of {
            Revoked::Token(id) => listed(&of.tokens, id),
            Revoked::Session(id) => listed(&of.sessions, id),
            Revoked::Key(id) => listed(&of.keys, id),
            Revoked::Subject(subject, before) => {
                of.subjects.get(subject).is_some_and(|issued| covered(issued, *before))
            }
            Revoked::Issued(before) => covered(&of.all, Some(*before)),
        }
    }

    /// Those that cover this identity: for people, by a look at each.
    #[must_use]
    pub fn covering(&self, identity: &Identity, now: Timestamp) -> Vec<Revocation> {
        let covers = |one: &Revocation| {
            let mut alone = Self::default();
            alone.add(one.clone());
            alone.cover(identity, now)
        };
        self.iter().filter(covers).collect()
    }

    /// The issuers that something of is revoked.
    pub fn issuers(&self) -> impl Iterator<Item = &Arc<str>> {
        self.of.keys()
    }

    /// Whether this identity is revoked now, whatever of it is.
    #[must_use]
    pub fn cover(&self, identity: &Identity, now: Timestamp) -> bool {
        let Some(of) = self.of.get(&*identity.principal().issuer) else { return false };
        let listed = |map: &Map<Until>, id: Option<&str>| {
            !map.is_empty() && id.and_then(|id| map.get(id)).is_some_and(|until| until.holds(now))
        };
        let covered = |issued: &[Issued]| issued.iter().any(|one| one.covers(identity.issued(), now));
        listed(&of.tokens, identity.token_id().map(|id| &**id))
            || listed(&of.keys, identity.key_id().map(|id| &**id))
            || (!of.sessions.is_empty() && listed(&of.sessions, session(identity)))
            || of.subjects.get(&*identity.principal().subject).is_some_and(|issued| covered(issued))
            || covered(&of.all)
    }
}

/// The session of a token, by its `sid` claim.
fn session(identity: &Identity) -> Option<&str> {
    identity.claims().get("sid").and_then(Json::as_text)
}

fn extend(map: &mut Map<Until>, id: Arc<str>, until: Until) {
    let known = map.get(&id).copied();
    map.insert(id, known.map_or(until, |known| known.or(until)));
}

fn widen(issued: &mut Vec<Issued>, new: Issued) {
    if !issued.iter().any(|known| known.includes(new)) {
        issued.retain(|known| !new.includes(*known));
        issued.push(new);
    }
}

/// What replicas share, as far as this one knows it.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Most of it.
    pub base: Arc<Revocations>,
    /// What was added since.
    pub recent: Arc<Revocations>,
    /// Whether that is all there is: not before it was read, nor while the store cannot tell of more.
    pub known: bool,
}

impl RevocationPolicy {
    /// Whether nothing of this caller is revoked.
    ///
    /// # Errors
    /// [`Reason::Revoked`]; [`Reason::RevocationUnknown`] where that cannot be told.
    pub(super) fn check(&self, shared: Option<&Shared>, caller: &Caller, now: Timestamp) -> Result<Checked, Reason> {
        let shared = shared.filter(|_| self.shared);
        let mut checked = Checked::Clear;
        for identity in caller.identities() {
            let lists = [Some(&self.listed), shared.map(|shared| &*shared.base), shared.map(|shared| &*shared.recent)];
            if lists.into_iter().flatten().any(|list| list.cover(identity, now)) {
                return Err(Reason::Revoked);
            }
            if self.shared && !shared.is_some_and(|shared| shared.known) {
                if !self.fail_open {
                    return Err(Reason::RevocationUnknown);
                }
                checked = Checked::Unknown;
            }
        }
        Ok(checked)
    }
}

/// What came of asking whether a caller is revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checked {
    /// It is not, or nobody asked.
    #[default]
    Clear,
    /// That is not known, and the policy lets it pass all the same.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::identity::{Listed, Parts, Principal};
    use crate::authz::json::Object;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000_i64.saturating_add(secs))
    }

    fn identity(issued: Option<i64>) -> Identity {
        let none = || Listed::Known(Box::default());
        Identity::new(Parts {
            principal: Principal { issuer: "main".into(), subject: "u1".into() },
            claims: Object::parse(br#"{"sid": "s1"}"#).unwrap(),
            listed: none(),
            groups: none(),
            scopes: none(),
            token_id: Some("t1".into()),
            key_id: Some("k1".into()),
            issued: issued.map(at),
            not_before: None,
            expires: at(300),
            binding: None,
            contracts: 1,
        })
    }

    fn revoked(issuer: &str, of: Revoked, until: Option<i64>) -> Revocations {
        let mut list = Revocations::default();
        list.add(Revocation { issuer: issuer.into(), of, until: until.map(at) });
        list
    }

    #[test]
    fn a_token_is_revoked_by_its_id_session_key_subject_or_issuer() {
        let caller = identity(Some(-10));
        for of in [
            Revoked::Token("t1".into()),
            Revoked::Session("s1".into()),
            Revoked::Key("k1".into()),
            Revoked::Subject("u1".into(), None),
            Revoked::Subject("u1".into(), Some(at(-9))),
            Revoked::Issued(at(-9)),
        ] {
            let list = revoked("main", of.clone(), None);
            assert!(list.cover(&caller, NOW), "{of:?}");
            assert_eq!(list.covering(&caller, NOW).len(), 1, "{of:?}");
            assert!(!revoked("other", of.clone(), None).cover(&caller, NOW), "{of:?} of another issuer");
            assert!(!revoked("main", of.clone(), Some(0)).cover(&caller, NOW), "{of:?} has ended");
            assert!(revoked("main", of.clone(), Some(1)).cover(&caller, NOW), "{of:?} has not ended");
        }
        for of in [
            Revoked::Token("T1".into()),
            Revoked::Token("s1".into()),
            Revoked::Session("t1".into()),
            Revoked::Key("k2".into()),
            Revoked::Subject("u11".into(), None),
            Revoked::Subject("u1".into(), Some(at(-10))),
            Revoked::Issued(at(-10)),
        ] {
            assert!(!revoked("main", of.clone(), None).cover(&caller, NOW), "{of:?}");
        }
    }

    #[test]
    fn what_does_not_say_when_it_was_issued_may_have_been_issued_before() {
        assert!(revoked("main", Revoked::Subject("u1".into(), Some(at(-500))), None).cover(&identity(None), NOW));
        assert!(revoked("main", Revoked::Issued(at(-500)), None).cover(&identity(None), NOW));
    }

    #[test]
    fn a_later_revocation_takes_nothing_from_an_earlier_one() {
        let of = |before: i64| Revoked::Subject("u1".into(), Some(at(before)));
        let one = |before, until: i64| Revocation { issuer: "main".into(), of: of(before), until: Some(at(until)) };
        let mut list = Revocations::default();
        list.add(one(-5, 100));
        list.add(one(-20, 50));
        assert_eq!(list.len(), 1);
        list.add(one(-20, 200));
        assert_eq!(list.len(), 2);
        assert!(list.cover(&identity(Some(-10)), NOW) && !list.cover(&identity(Some(-10)), at(150)));
        assert!(list.cover(&identity(Some(-30)), at(150)));
        list.add(one(-1, 300));
        assert_eq!(list.len(), 1);
        assert!(list.cover(&identity(Some(-2)), at(299)));
        let mut tokens = Revocations::default();
        for until in [Some(at(10)), None, Some(at(20))] {
            tokens.add(Revocation { issuer: "main".into(), of: Revoked::Token("t1".into()), until });
        }
        assert!(tokens.len() == 1 && tokens.cover(&identity(None), at(1_000_000)));
    }

    #[test]
    fn what_replicas_share_reads_as_it_was_written_and_nothing_else_does() {
        let issuer = || Arc::<str>::from("main");
        for (of, until) in [
            (Revoked::Token("t\u{e9}\"1".into()), Some(at(10))),
            (Revoked::Session("s".into()), None),
            (Revoked::Key("k".into()), Some(at(5))),
            (Revoked::Subject("u".into(), Some(at(3))), None),
            (Revoked::Subject("u".into(), None), Some(at(3))),
            (Revoked::Issued(at(4)), Some(at(9))),
        ] {
            let one = Revocation { issuer: issuer(), of, until };
            assert_eq!(Revocation::decode(&one.encode()), Some(one));
        }
        for text in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"issuer":"main"}"#,
            r#"{"token":"t"}"#,
            r#"{"issuer":"main","token":"t","session":"s"}"#,
            r#"{"issuer":"main","token":"t","issued_before":1}"#,
            r#"{"issuer":"main","token":"t","more":1}"#,
            r#"{"issuer":"main","token":"t","token":"u"}"#,
            r#"{"issuer":"main","token":1}"#,
            r#"{"issuer":"main","token":"t"} "#.trim_end_matches(' ').strip_suffix('}').unwrap(),
        ] {
            assert_eq!(Revocation::decode(text.as_bytes()), None, "{text}");
        }
    }

    #[test] // C04
    fn two_keys_are_equal_only_for_the_same_thing() {
        let key = |issuer: &str, of: Revoked| Revocation { issuer: issuer.into(), of, until: None }.key();
        let token = |id: &str| Revoked::Token(id.into());
        assert_eq!(key("a", Revoked::Issued(at(1))), key("a", Revoked::Issued(at(2))));
        assert_ne!(key("a", token("bc")), key("ab", token("c")));
        assert_ne!(key("a", token("b")), key("a", Revoked::Session("b".into())));
        assert_ne!(key("a1", token("1:b")), key("a", token("11:b")));
    }

    #[test]
    fn one_that_stands_for_two_holds_for_what_either_does() {
        let subject = |before: Option<i64>, until: Option<i64>| Revocation {
            issuer: "main".into(),
            of: Revoked::Subject("u".into(), before.map(at)),
            until: until.map(at),
        };
        assert_eq!(subject(Some(1), Some(9)).and(&subject(Some(5), Some(2))), subject(Some(5), Some(9)));
        assert_eq!(subject(None, Some(9)).and(&subject(Some(5), None)), subject(None, None));
        let issued = |before: i64| Revocation { issuer: "m".into(), of: Revoked::Issued(at(before)), until: None };
        assert_eq!(issued(1).and(&issued(3)), issued(3));
    }

    #[test]
    fn what_is_listed_is_included_and_can_be_read_back() {
        let mut list = revoked("main", Revoked::Token("t1".into()), Some(10));
        for (of, until) in [
            (Revoked::Session("s".into()), None),
            (Revoked::Key("k".into()), Some(at(5))),
            (Revoked::Subject("u".into(), Some(at(3))), None),
            (Revoked::Issued(at(4)), Some(at(9))),
        ] {
            list.add(Revocation { issuer: "main".into(), of, until });
        }
        let mut again = Revocations::default();
        list.iter().for_each(|one| again.add(one));
        assert!(list.len() == 5 && again.len() == 5 && list.iter().all(|one| again.include(&one)));
        let longer = Revocation { issuer: "main".into(), of: Revoked::Token("t1".into()), until: None };
        assert!(!list.include(&longer));
    }

    #[test]
    fn while_it_is_not_known_what_is_revoked_only_a_policy_that_says_so_lets_pass() {
        let caller = |user: bool| Caller { user: user.then(|| Arc::new(identity(Some(0)))), ..Caller::default() };
        let policy = |fail_open| RevocationPolicy { shared: true, fail_open, ..RevocationPolicy::default() };
        let known = Shared { known: true, ..Shared::default() };
        for (shared, fail_open, user, expected) in [
            (None, false, true, Err(Reason::RevocationUnknown)),
            (Some(Shared::default()), false, true, Err(Reason::RevocationUnknown)),
            (Some(Shared::default()), true, true, Ok(Checked::Unknown)),
            (None, true, true, Ok(Checked::Unknown)),
            (Some(known.clone()), false, true, Ok(Checked::Clear)),
            (None, false, false, Ok(Checked::Clear)),
        ] {
            assert_eq!(
                policy(fail_open).check(shared.as_ref(), &caller(user), NOW),
                expected,
                "{shared:?} {fail_open}"
            );
        }
        let recent = Arc::new(revoked("main", Revoked::Token("t1".into()), None));
        for shared in [
            Shared { recent: Arc::clone(&recent), ..Shared::default() },
            Shared { base: recent, known: true, ..Shared::default() },
        ] {
            assert_eq!(policy(true).check(Some(&shared), &caller(true), NOW), Err(Reason::Revoked));
        }
    }
}
