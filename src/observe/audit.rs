//! The audit trail: one JSON line a decision. The hot path hands over what the line is made of; a thread of its own
//! writes it, in batches.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Observed;
use crate::authz::actor::{self, Actor};
use crate::authz::decision::RuleRef;
use crate::authz::decision_id::DecisionId;
use crate::authz::grant::Grant;
use crate::authz::identity::{Identity, Principal};
use crate::authz::json::Json;
use crate::authz::policy::Policy;
use crate::authz::reason::Reason;
use crate::authz::revocation::Checked;
use crate::authz::route::RouteId;
use crate::authz::time::Timestamp;

/// How many lines may wait to be written. More are dropped, and counted.
const WAITING: usize = 8_192;
/// How long the writer rests when nothing is waiting. It is never woken: waking costs the hot path a system call.
const REST: Duration = Duration::from_millis(20);
/// The longest text of the caller's that a line holds, in bytes.
const MAX_TEXT: usize = 256;

/// Where lines are handed over. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    lines: Option<SyncSender<Line>>,
    dropped: Arc<AtomicU64>,
}

/// Writes what was handed over, until every [`Audit`] is gone.
pub struct Writer(Option<JoinHandle<()>>);

/// The actors of a caller, as others are told of them; `None` where that cannot be read.
type Actors = Option<Box<[Json]>>;

/// What an audit line is made of.
pub struct Line {
    at: Timestamp,
    elapsed: Duration,
    id: Option<DecisionId>,
    policy: Option<Arc<Policy>>,
    principal: Option<Principal>,
    /// The client that says who calls, where nobody has shown it.
    asserted: Option<Arc<str>>,
    /// The application by its owner and the id of its key, where one was shown.
    app: Option<Box<(Arc<str>, Arc<str>)>>,
    /// The grants in force, of which there are nearly always none.
    grants: Box<[Grant]>,
    /// Who acts for the caller, the one who acts now first; nearly always nobody.
    actors: Actors,
    route: Option<RouteId>,
    rule: Option<RuleRef>,
    reason: Option<Reason>,
    /// Whether the caller passed although it is not known what is revoked.
    revocation: Checked,
    snapshot: u64,
    /// Method, host and request id, one after the other.
    text: Box<[u8]>,
    method_ends: u16,
    host_ends: u16,
}

impl Audit {
    /// No audit trail.
    #[must_use]
    pub fn off() -> Self {
        Self { lines: None, dropped: Arc::default() }
    }

    /// An audit trail that ends in `to`, and its writer.
    pub fn start(to: impl Write + Send + 'static) -> io::Result<(Self, Writer)> {
        let (lines, waiting) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(move || write_all(&waiting, to))?;
        Ok((Self { lines: Some(lines), dropped: Arc::default() }, Writer(Some(thread))))
    }

    /// Whether lines are wanted.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Hands a line over. Where too many wait it is dropped and counted.
    pub fn hand_over(&self, line: Line) {
        if self.lines.as_ref().is_some_and(|lines| lines.try_send(line).is_err()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Writer {
    /// Waits until all lines are written. Every [`Audit`] must be gone, or this waits for ever.
    pub fn finish(mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

fn write_all(waiting: &Receiver<Line>, mut to: impl Write) {
    let mut batch = Vec::with_capacity(64 * 1024);
    let mut clock = Clock::default();
    loop {
        let open = loop {
            match waiting.try_recv() {
                Ok(line) => {
                    line.write(&mut batch, &mut clock);
                    if batch.len() >= 60 * 1024 {
                        break true;
                    }
                }
                Err(TryRecvError::Empty) => break true,
                Err(TryRecvError::Disconnected) => break false,
            }
        };
        if batch.is_empty() {
            if !open {
                return;
            }
            std::thread::park_timeout(REST);
            continue;
        }
        let written = to.write_all(&batch).and_then(|()| to.flush());
        if let Err(error) = written {
            tracing::error!(%error, bytes = batch.len(), "audit lines could not be written");
        }
        batch.clear();
    }
}

impl Line {
    /// Takes what a line needs, without making text of it.
    #[must_use]
    pub fn new(observed: &Observed<'_>) -> Self {
        let Observed { policy, request, basis, id, at, elapsed } = *observed;
        let cut = |text: &[u8]| text.len().min(MAX_TEXT);
        let (method, host, request_id) = request.map_or((&[][..], &[][..], &[][..]), |raw| {
            let request_id = raw.headers.iter().find(|header| header.name == b"x-request-id");
            (raw.method, raw.host, request_id.map_or(&[][..], |header| header.value))
        });
        let (method, host, request_id) =
            (method.get(..cut(method)), host.get(..cut(host)), request_id.get(..cut(request_id)));
        let method_ends = method.map_or(0, <[u8]>::len);
        let host_ends = method_ends.saturating_add(host.map_or(0, <[u8]>::len));
        let text = [method.unwrap_or_default(), host.unwrap_or_default(), request_id.unwrap_or_default()].concat();
        Self {
            at,
            elapsed,
            id,
            policy: policy.cloned(),
            asserted: basis.asserted.clone(),
            principal: basis.caller.acting().map(|identity| identity.principal().clone()),
            app: basis.caller.app.as_ref().map(|app| {
                let id = app.token_id().map(Arc::clone).unwrap_or_default();
                Box::new((Arc::clone(&app.principal().subject), id))
            }),
            grants: basis.caller.acting().map(|identity| identity.grants().into()).unwrap_or_default(),
            actors: basis.caller.acting().map_or(Some(Box::default()), |identity| actors(identity)),
            route: basis.route,
            rule: basis.rule,
            reason: basis.reason,
            revocation: basis.revocation,
            snapshot: basis.snapshot,
            text: text.into(),
            method_ends: u16::try_from(method_ends).unwrap_or(0),
            host_ends: u16::try_from(host_ends).unwrap_or(0),
        }
    }

    fn rule_text(&self, rule: RuleRef) -> Option<&str> {
        let policy = self.policy.as_deref()?;
        let (list, place) = match rule {
            RuleRef::Route(id) => return policy.route(id).map(|route| &*route.text),
            RuleRef::RouteForbid(id) => return policy.route(id)?.deny.as_ref().map(|deny| &*deny.text),
            RuleRef::Guard(place) => (&policy.guards, place),
            RuleRef::Forbid(place) => (&policy.forbids, place),
        };
        list.get(usize::try_from(place).ok()?).map(|named| &*named.text)
    }

    /// `"actor"` and `"actors"`, where somebody acts for the caller; null where that cannot be read.
    fn write_actors(&self, to: &mut Vec<u8>) {
        match self.actors.as_deref() {
            None => to.extend_from_slice(b",\"actor\":null,\"actors\":null"),
            Some([]) => {}
            Some(all @ [current, ..]) => {
                to.extend_from_slice(b",\"actor\":");
                told(to, current);
                to.extend_from_slice(b",\"actors\":");
                for (at, actor) in all.iter().enumerate() {
                    to.push(if at == 0 { b'[' } else { b',' });
                    told(to, actor);
                }
                to.push(b']');
            }
        }
    }

    /// Writes the line: JSON, in which no text of the caller's can end it. Into memory, by hand and without allocation,
    /// for there is one for each check; all that is not fixed goes through a serializer of strings.
    fn write(&self, to: &mut Vec<u8>, clock: &mut Clock) {
        let (method_ends, host_ends) = (usize::from(self.method_ends), usize::from(self.host_ends));
        let route = self.route.and_then(|id| self.policy.as_deref()?.route(id));
        to.extend_from_slice(b"{\"time\":\"");
        clock.write(self.at, to);
        to.extend_from_slice(b"\",\"decision\":");
        match self.id {
            Some(id) => _ = write!(to, "\"{id}\""),
            None => to.extend_from_slice(b"null"),
        }
        member(to, "request", filled(self.text.get(host_ends..)));
        to.extend_from_slice(b",\"caller\":");
        match &self.principal {
            Some(principal) => {
                string(to, principal.issuer.as_bytes());
                // One string of two: what closed the first and opened the second makes place for the slash.
                to.pop();
                let slash = to.len();
                string(to, principal.subject.as_bytes());
                if let Some(quote) = to.get_mut(slash) {
                    *quote = b'/';
                }
            }
            None => to.extend_from_slice(b"null"),
        }
        if let Some(client) = &self.asserted {
            member(to, "asserted_by", Some(client.as_bytes()));
        }
        if let Some(app) = &self.app {
            let (owner, id) = &**app;
            member(to, "app", Some(owner.as_bytes()));
            member(to, "key", Some(id.as_bytes()));
        }
        if !self.grants.is_empty() {
            to.extend_from_slice(b",\"grants\":");
            for (at, grant) in self.grants.iter().enumerate() {
                to.push(if at == 0 { b'[' } else { b',' });
                let ticket = grant.ticket.as_ref().map(|ticket| format!(" {ticket}")).unwrap_or_default();
                string(to, format!("{}{ticket}", grant.role).as_bytes());
            }
            to.push(b']');
        }
        self.write_actors(to);
        member(to, "method", filled(self.text.get(..method_ends)));
        member(to, "host", filled(self.text.get(method_ends..host_ends)));
        member(to, "route", route.map(|route| route.key.as_bytes()));
        member(to, "rule", self.rule.and_then(|rule| self.rule_text(rule)).map(str::as_bytes));
        member(to, "verdict", Some(if self.reason.is_none() { b"allow" } else { b"deny" }));
        member(to, "reason", self.reason.map(|reason| reason.code().as_bytes()));
        if self.revocation == Checked::Unknown {
            to.extend_from_slice(b",\"fail_open\":[\"revocation\"]");
        }
        to.extend_from_slice(b",\"policy\":");
        match &self.policy {
            Some(policy) => _ = write!(to, "\"{}\"", policy.id),
            None => to.extend_from_slice(b"null"),
        }
        let _ = writeln!(to, ",\"snapshot\":{},\"micros\":{}}}", self.snapshot, self.elapsed.as_micros());
    }
}

/// Who acts for a caller.
fn actors(identity: &Identity) -> Actors {
    Some(actor::chain(identity.claims()).ok()?.iter().map(Actor::told).collect())
}

fn filled(text: Option<&[u8]>) -> Option<&[u8]> {
    text.filter(|text| !text.is_empty())
}

/// `,"name":"text"`
fn member(to: &mut Vec<u8>, name: &str, text: Option<&[u8]>) {
    to.extend_from_slice(b",\"");
    to.extend_from_slice(name.as_bytes());
    to.extend_from_slice(b"\":");
    match text {
        Some(text) => string(to, text),
        None => to.extend_from_slice(b"null"),
    }
}

/// An actor: its name, or an object of names.
fn told(to: &mut Vec<u8>, actor: &Json) {
    match actor {
        Json::Text(name) => string(to, name.as_bytes()),
        Json::Object(of) => {
            for (at, (name, value)) in of.iter().enumerate() {
                to.push(if at == 0 { b'{' } else { b',' });
                string(to, name.as_bytes());
                to.push(b':');
                told(to, value);
            }
            to.push(b'}');
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::List(_) => to.extend_from_slice(b"null"),
    }
}

/// A JSON string in ASCII, for terminals and readers of lines obey more than controls of ASCII: C1 controls, line
/// separators, marks that turn the direction of text. What is not UTF-8 in it is replaced.
fn string(to: &mut Vec<u8>, text: &[u8]) {
    if text.iter().all(|byte| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')) {
        to.push(b'"');
        to.extend_from_slice(text);
        to.push(b'"');
    } else {
        to.push(b'"');
        for c in String::from_utf8_lossy(text).chars() {
            match c {
                '"' => to.extend_from_slice(b"\\\""),
                '\\' => to.extend_from_slice(b"\\\\"),
                ' '..='~' => _ = write!(to, "{c}"),
                c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| _ = write!(to, "\\u{unit:04x}")),
            }
        }
        to.push(b'"');
    }
}

/// Writes times, and remembers the text of the last second.
#[derive(Default)]
struct Clock {
    second: i64,
    text: String,
}

impl Clock {
    fn write(&mut self, at: Timestamp, to: &mut Vec<u8>) {
        let (second, millis) = (at.as_millis().div_euclid(1_000), at.as_millis().rem_euclid(1_000));
        if self.text.is_empty() || self.second != second {
            self.second = second;
            self.text = rfc3339(at);
        }
        to.extend_from_slice(self.text.as_bytes().get(..20).unwrap_or_default());
        let _ = write!(to, "{millis:03}Z");
    }
}

/// `2026-11-21T09:30:00.123Z` (RFC 3339).
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::decision::{Basis, Decision};
    use crate::authz::gateways::Dialect;
    use crate::authz::request::{Asker, Header, Raw};
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_251_000_123, "2026-11-21T08:50:00.123Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(Timestamp::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_line_tells_what_the_decision_rests_on() {
        let mut clock = Clock::default();
        let mut written = Vec::new();
        for (secs, subject) in [(7, "u1"), (7, "a\"b\\\n"), (8, "")] {
            let agent = Actor { name: "agent\"", elsewhere: None };
            let foreign = Actor { name: "a", elsewhere: Some("https://b.test") };
            let principal = Some(Principal { issuer: "main".into(), subject: subject.into() });
            let line = Line {
                asserted: None,
                at: Timestamp::from_millis(secs * 1_000 + 5),
                elapsed: Duration::from_micros(3),
                id: None,
                policy: None,
                principal,
                app: (secs == 8).then(|| Box::new(("bil\"ling".into(), "b-1".into()))),
                grants: if secs == 8 {
                    let until = Timestamp::from_secs(9);
                    let grant = |role: &str, ticket: Option<&str>| Grant {
                        role: role.into(),
                        until,
                        ticket: ticket.map(Into::into),
                    };
                    Box::new([grant("admin", Some("OPS-1\"")), grant("x", None)])
                } else {
                    Box::default()
                },
                actors: match secs {
                    7 => Some(Box::default()),
                    _ => Some(Box::new([agent.told(), foreign.told()])),
                },
                route: None,
                rule: None,
                revocation: Checked::Clear,
                reason: None,
                snapshot: 9,
                text: (*b"GETh").into(),
                method_ends: 3,
                host_ends: 4,
            };
            written.clear();
            line.write(&mut written, &mut clock);
            let line: serde_json::Value = serde_json::from_slice(&written).unwrap();
            assert_eq!(line["time"], rfc3339(Timestamp::from_millis(secs * 1_000 + 5)));
            assert_eq!(line["caller"], format!("main/{subject}"));
            let grants = if secs == 8 { serde_json::json!(["admin OPS-1\"", "x"]) } else { serde_json::Value::Null };
            let app = line.get("app").zip(line.get("key"));
            assert_eq!(app, (secs == 8).then_some((&"bil\"ling".into(), &"b-1".into())));
            let all = serde_json::json!(["agent\"", {"iss": "https://b.test", "sub": "a"}]);
            let actors = (secs == 8).then_some(all);
            assert_eq!(line.get("actors").cloned(), actors);
            assert_eq!(line.get("actor").cloned(), actors.map(|all| all[0].clone()));
            assert_eq!(line.get("grants").cloned().unwrap_or_default(), grants);
            assert_eq!(
                (&line["method"], &line["host"], &line["verdict"]),
                (&"GET".into(), &"h".into(), &"allow".into())
            );
            assert_eq!((&line["request"], &line["reason"], &line["snapshot"]), (&().into(), &().into(), &9.into()));
        }
    }

    #[test] // S03
    fn no_character_of_a_callers_steers_a_terminal_or_ends_a_line() {
        for text in [
            "\u{2028}\u{2029}\u{85}",
            "\u{9b}2J\x1b[2J\x7f",
            "\u{202e}\u{2066}\u{200b}",
            "a\"\\\r\n\t\0b",
            "J\u{f6}rg \u{1f600}",
        ] {
            let mut written = Vec::new();
            string(&mut written, text.as_bytes());
            assert!(written.iter().all(|byte| matches!(byte, b' '..=b'~')), "{text:?}");
            assert_eq!(serde_json::from_slice::<String>(&written).unwrap(), text);
        }
    }

    #[test] // S03
    fn what_a_caller_sends_stays_inside_its_line() {
        let sink = Sink::default();
        let (audit, writer) = Audit::start(sink.clone()).unwrap();
        let headers = vec![Header { name: b"x-request-id", value: b"a\r\n{\"forged\":1}\x1b[2J\xff" }];
        let host = vec![b'h'; 10_000];
        let raw = Raw::new(Dialect::Envoy, Asker::Unix, [b"GET\n", b"/", &host], headers);
        let decision = Decision::denied(Reason::HostMalformed);
        let (at, elapsed) = (Timestamp::from_secs(0), Duration::from_micros(7));
        for _ in 0..3 {
            let observed =
                Observed { policy: None, request: Some(&raw), basis: decision.basis(), id: None, at, elapsed };
            audit.hand_over(Line::new(&observed));
        }
        drop(audit);
        writer.finish();
        let written = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!(lines.len(), 3);
        for line in lines {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["request"], "a\r\n{\"forged\":1}\u{1b}[2J\u{fffd}");
            assert_eq!(line["host"].as_str().unwrap().len(), 256);
            assert_eq!(
                (&line["verdict"], &line["reason"], &line["micros"]),
                (&"deny".into(), &"host_malformed".into(), &7.into())
            );
        }
    }

    #[test]
    fn a_line_about_an_asserted_subject_says_who_asserts_it() {
        let sink = Sink::default();
        let (audit, writer) = Audit::start(sink.clone()).unwrap();
        for asserted in [Some("portal".into()), None] {
            let basis = Basis { asserted, ..Basis::default() };
            let (at, elapsed) = (Timestamp::from_secs(0), Duration::from_micros(7));
            audit.hand_over(Line::new(&Observed { policy: None, request: None, basis: &basis, id: None, at, elapsed }));
        }
        drop(audit);
        writer.finish();
        let written = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let said = written.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let said: Vec<_> = said.map(|line| line.get("asserted_by").cloned()).collect();
        assert_eq!(said, [Some("portal".into()), None]);
    }
}
