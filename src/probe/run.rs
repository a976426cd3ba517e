//! A probe from its first request to its report.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::attack::{Attack, Request, Site};
use super::cure::Gateway;
use super::door::{Door, Outcome};
use super::echo::{RECENT, random_id};
use super::judge::{Ground, Judged, Seen, fold};
use super::known::{Known, Place};
use super::report::Report;
use super::{Options, ProbeError, reach};
use crate::config::Compiled;
use crate::dev::wire::Answer;

/// How many requests are under way at a time.
const AT_ONCE: usize = 4;
/// Methods that nobody may use on a protected path without a credential, where the policy does not say otherwise.
const CLOSED: &[&str] = &["POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Attacks a gateway, and says what got through. A policy says which paths and headers there are.
///
/// # Errors
/// Why it cannot be carried out: nothing answers, or nothing tells held from got through.
pub async fn probe(options: &Options, compiled: Option<&Compiled>) -> Result<Report, ProbeError> {
    let known = compiled.map(Known::new);
    let mut probing = Probing::new(options, known)?;
    probing.look().await?;
    let attacks = probing.site.attacks();
    let end = Instant::now().checked_add(options.total);
    let outcomes = all(&probing.door, &attacks, end).await;
    probing.arrived().await;
    let lost = |outcome: &Option<Outcome>| matches!(outcome, Some(Outcome::Unreachable(_)));
    let first_lost = attacks.iter().zip(&outcomes).find(|(_, outcome)| lost(outcome)).map(|(attack, _)| attack);
    for (attack, outcome) in attacks.iter().zip(outcomes.iter().cloned()) {
        let judged = match outcome {
            Some(outcome) => probing.ground.judge(attack, &outcome),
            None => Judged::Unjudged("the time was over".to_owned()),
        };
        let request = String::from_utf8_lossy(&attack.request.raw(&attack.nonce)).into_owned();
        probing.report.add(attack.code, &attack.variant, &request, judged);
    }
    probing.direct(options).await?;
    probing.look_again(first_lost).await;
    Ok(probing.report.finished(probing.ground.gateway))
}

/// All attacks, a few at a time; `None` for what there was no time for.
async fn all(door: &Door, attacks: &[Attack], end: Option<Instant>) -> Vec<Option<Outcome>> {
    let door = Arc::new(door.clone());
    let mut outcomes: Vec<Option<Outcome>> = vec![None; attacks.len()];
    let mut under_way: JoinSet<(usize, Outcome)> = JoinSet::new();
    let mut next = attacks.iter().enumerate();
    loop {
        while under_way.len() < AT_ONCE
            && let Some((at, attack)) = next.next()
        {
            let (door, raw) = (Arc::clone(&door), attack.request.raw(&attack.nonce));
            let bodiless = attack.request.is_bodiless();
            under_way.spawn(async move { (at, door.ask(&raw, bodiless).await) });
        }
        let ended = match end {
            Some(end) => timeout_at(end, under_way.join_next()).await,
            None => Ok(under_way.join_next().await),
        };
        match ended {
            Ok(Some(Ok((at, outcome)))) => {
                if let Some(place) = outcomes.get_mut(at) {
                    *place = Some(outcome);
                }
            }
            Ok(Some(Err(_))) => {}
            Ok(None) | Err(_) => return outcomes,
        }
    }
}

struct Probing<'p> {
    options: &'p Options,
    known: Option<Known<'p>>,
    door: Door,
    site: Site,
    ground: Ground,
    report: Report,
    /// The paths to try.
    open: Vec<Place>,
    closed: Vec<Place>,
    /// What an unauthenticated request for the protected path is answered with.
    refusal: Option<u16>,
}

impl<'p> Probing<'p> {
    fn new(options: &'p Options, known: Option<Known<'p>>) -> Result<Self, ProbeError> {
        let door = Door::new(&options.url, &options.trust, options.deadline)?;
        let host = options.host.clone().unwrap_or_else(|| authority(&options.url));
        is_text("the host", &host, &[])?;
        let named = |paths: &[String]| -> Result<Vec<Place>, ProbeError> {
            let place = |path: &String| {
                is_text("a path", path, &['?', '#'])?;
                let good = path.starts_with('/').then(|| Place { host: None, path: path.clone() });
                good.ok_or_else(|| ProbeError::Text("a path", path.clone()))
            };
            paths.iter().map(place).collect()
        };
        let (mut open, mut closed) = known.as_ref().map(|known| known.paths(&host)).unwrap_or_default();
        if !options.public.is_empty() {
            open = named(&options.public)?;
        }
        if !options.protected.is_empty() {
            closed = named(&options.protected)?;
        }
        if open.is_empty() && closed.is_empty() {
            return Err(ProbeError::NoPath);
        }
        let (mut managed, kept) = known.as_ref().map(Known::headers).unwrap_or_default();
        for name in &options.headers {
            is_text("a header's name", name, &[':', ','])?;
            if !managed.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                managed.push(name.clone());
            }
        }
        if let Some(token) = &options.token {
            is_text("the token", token, &[])?;
        }
        let forged = format!("forged-{}", random_id());
        let ground = Ground {
            gateway: options.gateway,
            managed: managed.iter().map(|name| fold(name)).collect(),
            kept: kept.clone(),
            forged: forged.clone(),
            shares: known.as_ref().map(Known::shares),
            token: options.token.clone(),
            ..Ground::default()
        };
        let strips = known.as_ref().is_some_and(Known::strips);
        let site = Site { host, managed, kept, forged, strips, tls: door.is_tls(), ..Site::default() };
        let report = Report::of(options.url.as_str(), options.token.as_deref());
        Ok(Self { options, known, door, site, ground, report, open, closed, refusal: None })
    }

    /// Asks in the ordinary way: which path passes, which does not, and what a signed-in caller gets.
    async fn look(&mut self) -> Result<(), ProbeError> {
        self.look_at_open().await?;
        self.look_at_closed().await?;
        if self.site.public.is_none() && self.site.protected.is_none() {
            return if self.report.findings.is_empty() {
                Err(ProbeError::NoBaseline(self.report.baseline.join("\n  ")))
            } else {
                Ok(())
            };
        }
        self.sign_in().await;
        self.look_for_nothing().await;
        self.site.closed = CLOSED.to_vec();
        if let (Some(known), Some(protected)) = (&self.known, &self.site.protected) {
            self.site.closed.retain(|method| !known.allows(method, &self.site.host, protected));
        }
        Ok(())
    }

    /// One ordinary request.
    async fn ask(&mut self, request: &Request) -> Result<(Option<Answer>, Option<Seen>), ProbeError> {
        let nonce = random_id();
        match self.door.ask(&request.raw(&nonce), request.is_bodiless()).await {
            Outcome::Answered(answer) => {
                self.ground.gateway = self.ground.gateway.or_else(|| Gateway::of(&answer));
                let seen = Seen::of(&answer, &nonce);
                self.ground.echo |= seen.is_some();
                Ok((Some(answer), seen))
            }
            Outcome::Unreachable(why) => Err(ProbeError::Unreachable(self.options.url.to_string(), why)),
            Outcome::Closed | Outcome::Garbled | Outcome::Silent => Ok((None, None)),
        }
    }

    async fn look_at_open(&mut self) -> Result<(), ProbeError> {
        for Place { host, path } in self.open.clone() {
            let host = host.unwrap_or_else(|| self.site.host.clone());
            let (answer, seen) = self.ask(&Request::new("GET", &path, &host)).await?;
            let status = answer.map_or(0, |answer| answer.status);
            let ok = seen.is_some() || (200..300).contains(&status);
            self.report.baseline.push(format!("GET {path} without a credential: {}", told(status, seen.is_some())));
            if ok && self.site.public.is_none() {
                // The first that passes stands for all; an echo is worth more than a page.
                self.site.public = Some(path);
                self.site.host = host;
            }
            if seen.is_some() {
                break;
            }
        }
        self.site.claimed = self.site.public.clone().or_else(|| self.open.first().map(|place| place.path.clone()));
        if self.site.public.is_none() && !self.open.is_empty() {
            let why = "no path passes that should pass without a credential";
            self.report.missing("forged_header", "all that needs such a path", why);
        }
        Ok(())
    }

    async fn look_at_closed(&mut self) -> Result<(), ProbeError> {
        for Place { host, path } in self.closed.clone() {
            let host = host.unwrap_or_else(|| self.site.host.clone());
            let request = Request::new("GET", &path, &host);
            let (answer, seen) = self.ask(&request).await?;
            let status = answer.map_or(0, |answer| answer.status);
            self.report.baseline.push(format!("GET {path} without a credential: {}", told(status, seen.is_some())));
            if seen.is_some() || (200..300).contains(&status) {
                let what =
                    if seen.is_some() { "it reached the upstream".into() } else { format!("answered with {status}") };
                let raw = String::from_utf8_lossy(&request.raw("0000000000000000")).into_owned();
                self.report.add("protected_open", &format!("`{path}`"), &raw, Judged::Through(what));
            } else if matches!(status, 300..=403 | 405..=499) && (host == self.site.host || self.site.public.is_none())
            {
                self.report.held_one();
                if self.site.protected.is_none() {
                    self.refusal = Some(status);
                    self.ground.protected.clone_from(&path);
                    self.site.protected = Some(path);
                    self.site.host = host;
                }
            } else if matches!(status, 300..=499) {
                self.report.held_one();
            } else {
                let why = format!("its path is not refused as such: {}", told(status, false));
                self.report.add("protected_open", &format!("`{path}`"), "", Judged::Unjudged(why));
            }
        }
        if self.site.protected.is_none() && self.report.findings.is_empty() && !self.closed.is_empty() {
            let why = "no path is refused that should not pass without a credential";
            self.report.missing("bad_token", "all that needs such a path", why);
        }
        Ok(())
    }

    /// What the upstream is told of a signed-in caller.
    async fn sign_in(&mut self) {
        let (Some(token), Some(protected)) = (&self.options.token, self.site.protected.clone()) else { return };
        let line = format!("Authorization: Bearer {token}");
        let request = self.site.get(&protected).with(&line);
        let Ok((answer, seen)) = self.ask(&request).await else { return };
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        self.report.baseline.push(format!("GET {protected} with the token: {}", told(status, seen.is_some())));
        if let Some(seen) = seen {
            let has_value = |name: &String| seen.headers.iter().any(|(n, value)| fold(n) == *name && !value.is_empty());
            self.ground.identity = self.ground.managed.iter().filter(|name| has_value(name)).cloned().collect();
        } else if (200..300).contains(&status) {
            self.ground.page = answer.map(|answer| answer.body);
        } else {
            let why = format!("the token does not pass: {status}");
            self.report.missing("identity_forged", "all that needs a token", &why);
            return;
        }
        self.site.token = Some(line);
    }

    /// A path that the policy does not name.
    async fn look_for_nothing(&mut self) {
        let path = format!("/probe-{}", random_id());
        let Some(known) = &self.known else { return };
        if known.allows("GET", &self.site.host, &path) {
            return;
        }
        let request = self.site.get(&path);
        let Ok((answer, seen)) = self.ask(&request).await else { return };
        let raw = String::from_utf8_lossy(&request.raw("0000000000000000")).into_owned();
        let status = answer.map_or(0, |answer| answer.status);
        let judged = match (seen, status) {
            (Some(_), _) => Judged::Through("it reached the upstream".to_owned()),
            (None, 200..300) if !self.ground.echo => Judged::Through(format!("it was answered with {status}")),
            (None, _) => Judged::Held,
        };
        self.report.add("unknown_open", "a path that nobody has named", &raw, judged);
    }

    /// What has reached the upstream by now, whatever was answered.
    async fn arrived(&mut self) {
        if !self.ground.echo {
            return;
        }
        let public = self.site.public.as_ref().map(|path| self.site.get(path));
        let signed_in = self.site.protected.as_ref().zip(self.site.token.as_ref());
        let request = public.or_else(|| signed_in.map(|(path, token)| self.site.get(path).with(token)));
        let Some(request) = request else { return };
        let nonce = random_id();
        let raw = request.with(format!("{RECENT}: 1")).raw(&nonce);
        let Outcome::Answered(answer) = self.door.ask(&raw, false).await else { return };
        let said = answer.json().ok();
        let rows = said.as_ref().and_then(|said| said.get("recent")).and_then(serde_json::Value::as_array);
        let row = |row: &serde_json::Value| {
            let text = |at: usize| row.get(at).and_then(serde_json::Value::as_str).map(str::to_owned);
            Some((text(0)?, (text(1)?, text(2)?)))
        };
        self.ground.arrived = rows.into_iter().flatten().filter_map(row).collect::<HashMap<_, _>>();
    }

    /// What should not be reached from here.
    async fn direct(&mut self, options: &Options) -> Result<(), ProbeError> {
        let deadline = options.deadline.min(Duration::from_secs(5));
        let mut attempts = Vec::new();
        if let Some(url) = &options.upstream {
            let door = Door::new(url, &options.trust, deadline)?;
            attempts.push(reach::upstream(&door, &authority(url)).await);
        }
        if let Some(url) = &options.portcullis {
            let door = Door::new(url, &options.trust, deadline)?;
            attempts.extend(reach::portcullis(&door, &authority(url)).await);
        }
        for (code, variant, request, judged) in attempts {
            self.report.add(code, &variant, &request, judged);
        }
        Ok(())
    }

    /// Whether what was asked first is answered as it was: else something ended meanwhile, and less was judged than it seems.
    async fn look_again(&mut self, first_lost: Option<&Attack>) {
        let Some((status, path)) = self.refusal.zip(self.site.protected.clone()) else { return };
        let asked = self.ask(&self.site.get(&path)).await;
        if let (Err(why), Some(attack)) = (&asked, first_lost) {
            let request = String::from_utf8_lossy(&attack.request.raw(&attack.nonce)).into_owned();
            let variant = format!("about when {}, {}, was sent", attack.code, attack.variant);
            return self.report.add("gateway_gone", &variant, &request, Judged::Through(why.to_string()));
        }
        let now = asked.ok().and_then(|(answer, _)| answer).map_or(0, |answer| answer.status);
        if now != status && (now == 0 || now == 429 || now >= 500) {
            let why = format!("at the end {path} was {}, at first {status}: not all was judged", told(now, false));
            self.report.missing("protected_open", "the end", &why);
        }
    }
}

fn told(status: u16, echo: bool) -> String {
    match (status, echo) {
        (0, _) => "no answer".to_owned(),
        (status, true) => format!("{status} by the echo"),
        (status, false) => status.to_string(),
    }
}

/// The host of a URL as `Host` has it.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Refuses what would be more than one word of a request.
fn is_text(what: &'static str, text: &str, not: &[char]) -> Result<(), ProbeError> {
    let bad = |c: char| c.is_ascii_control() || c == ' ' || !c.is_ascii() || not.contains(&c);
    if text.is_empty() || text.contains(bad) { Err(ProbeError::Text(what, "…".to_owned())) } else { Ok(()) }
}
