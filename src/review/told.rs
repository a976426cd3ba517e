//! What requests are told on the routes that they reach: headers, queries, credentials, whose pages may read the answers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::site::{limit, set};
use super::{SiteChange, Verdict};
use crate::authz::cors::Sharing;
use crate::authz::header::{Contract, Format, Source, Tell, Tells};
use crate::authz::policy::{Policy, Route};

/// How many routes a change names.
const NAMED: usize = 3;

/// What is told otherwise, gathered pair by pair of routes that the same requests reach.
#[derive(Default)]
pub(super) struct Told {
    pairs: BTreeSet<(u32, u32)>,
    changes: BTreeMap<(&'static str, String, Verdict), Vec<String>>,
}

/// A change of what is told: its section, what it comes to, and what was changed.
type Change = (&'static str, Verdict, String);

/// One kind of what is told.
type Of = fn(&Tells) -> &Vec<Tell>;

impl Told {
    /// Takes note of what is told otherwise by these two routes, which requests to this host reach.
    pub fn note(&mut self, host: &str, (old, one): (&Policy, &Route), (new, two): (&Policy, &Route)) {
        let (mut found, mut widths) = (Vec::new(), Vec::new());
        if one.cors.is_some() || two.cors.is_some() {
            sharing("cors", old.sharing(host, Some(one)), new.sharing(host, Some(two)), &mut found);
        }
        if self.pairs.insert((one.id.0, two.id.0)) {
            credentials(one, two, &mut found);
            let template =
                |policy: &Policy, route| policy.sign_in(route).map_or("none".into(), |sign_in| format!("{sign_in:?}"));
            if one.sign_in != two.sign_in {
                let (before, after) = (template(old, Some(one)), template(new, Some(two)));
                let text = format!("{before} → {after}; nobody gains or loses a route by it");
                found.push(("sign_in", Verdict::Same, text));
            }
            if one.mint != two.mint {
                let audience = |route: &Route| route.mint.as_deref().unwrap_or("nobody").to_owned();
                let text = format!("tokens are minted for {} → {}", audience(one), audience(two));
                found.push(("mint", Verdict::Changed, text));
            }
            let cached = |route: &Route| route.reuse.as_ref().map_or(0, |reuse| reuse.most().as_secs());
            limit("how many seconds gateways may use an answer again", cached(one), cached(two), &mut widths);
            found.extend(widths.drain(..).map(|(verdict, text)| ("cache", verdict, text)));
            if one.contract.digest() != two.contract.digest() {
                contract(&one.contract, &two.contract, &mut found);
            }
        }
        let name = if one.key == two.key { two.key.to_string() } else { format!("{} → {}", one.key, two.key) };
        for (section, verdict, text) in found {
            let routes = self.changes.entry((section, text, verdict)).or_default();
            if !routes.contains(&name) {
                routes.push(name.clone());
            }
        }
    }

    /// All of it, each change once.
    pub fn changes(self) -> impl Iterator<Item = SiteChange> {
        self.changes.into_iter().map(|((section, text, verdict), routes)| {
            let more = routes.len().saturating_sub(NAMED);
            let mut name = routes.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            if more > 0 {
                name.push_str(&format!(" and {more} more"));
            }
            SiteChange { section, name, verdict, text }
        })
    }
}

/// Who may pass is the same; what the upstream sees is not.
fn credentials(old: &Route, new: &Route, found: &mut Vec<Change>) {
    match (old.strip, new.strip) {
        (true, false) => found.push(("credential", Verdict::Widened, "the upstream sees the credential now".into())),
        (false, true) => {
            found.push(("credential", Verdict::Narrowed, "the upstream does not see the credential any more".into()));
        }
        (true, true) | (false, false) => {}
    }
}

/// Compares whose pages may read answers: each more is a widening, and passes with a preflight.
pub(super) fn sharing(section: &'static str, old: Option<&Sharing>, new: Option<&Sharing>, found: &mut Vec<Change>) {
    let origins = |sharing: Option<&Sharing>| -> BTreeSet<String> {
        let all = sharing.map(|sharing| sharing.origins.iter().map(crate::authz::cors::Origin::text));
        all.into_iter().flatten().collect()
    };
    let mut changes = Vec::new();
    set("the origins whose pages may read answers", origins(old), origins(new), &mut changes);
    match (old.is_some_and(|one| one.credentials), new.is_some_and(|two| two.credentials)) {
        (false, true) => changes.push((Verdict::Widened, "their pages may send cookies now".into())),
        (true, false) => changes.push((Verdict::Narrowed, "their pages may send cookies no more".into())),
        (true, true) | (false, false) => {}
    }
    found.extend(changes.into_iter().map(|(verdict, text)| (section, verdict, text)));
}

fn contract(old: &Contract, new: &Contract, found: &mut Vec<Change>) {
    let managed = |contract: &Contract| contract.names().managed().iter().map(text).collect::<BTreeSet<_>>();
    let (before, after) = (managed(old), managed(new));
    for (name, one, two) in different(old, new, |tells| &tells.headers) {
        // Of a name that only one policy manages it is told what becomes of the caller's own header.
        let verdict = if before.contains(&name) && after.contains(&name) { Verdict::Changed } else { Verdict::Same };
        found.push(("headers", verdict, format!("{name}: {one} → {two}")));
    }
    let others: [(&'static str, Of); 3] = [
        ("response_headers", |tells| &tells.responses),
        ("query", |tells| &tells.query),
        ("metadata", |tells| &tells.metadata),
    ];
    for (section, of) in others {
        for (name, one, two) in different(old, new, of) {
            found.push((section, Verdict::Changed, format!("{name}: {one} → {two}")));
        }
    }
    let removed = |contract: &Contract| contract.tells().flat_map(|tells| &tells.query_removed).map(text).collect();
    let mut changes = Vec::new();
    // What is removed: less of it widens.
    set("the parameters that reach the upstream", removed(new), removed(old), &mut changes);
    found.extend(changes.into_iter().map(|(verdict, text)| ("query", verdict, text)));
}

/// What is told under each name where that is not the same.
fn different(old: &Contract, new: &Contract, of: Of) -> Vec<(String, String, String)> {
    let all = |contract: &Contract| -> BTreeMap<String, String> {
        contract.tells().flat_map(of).map(|tell| (text(&tell.name), shown(tell))).collect()
    };
    let (before, after) = (all(old), all(new));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let told = |of: &BTreeMap<String, String>, name| of.get(name).cloned().unwrap_or_else(|| "not told".into());
    let all = names.into_iter().map(|name| (name.clone(), told(&before, name), told(&after, name)));
    all.filter(|(_, one, two)| one != two).collect()
}

pub(super) fn text(name: &Bytes) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// As the policy would say it.
pub(super) fn shown(tell: &Tell) -> String {
    let Tell { name: _, source, default, format } = tell;
    let mut shown = match source {
        Source::Subject => "sub".into(),
        Source::Principal => "principal".into(),
        Source::Issuer => "issuer".into(),
        Source::Roles => "roles".into(),
        Source::Groups => "groups".into(),
        Source::Scopes => "scopes".into(),
        Source::Actor => "actor".into(),
        Source::Actors => "actors".into(),
        Source::Claim(path) => format!("claim:{path}"),
        Source::Literal(value) => format!("the value {value:?}"),
        Source::Route => "route".into(),
        Source::App => "app".into(),
        Source::AppId => "app_id".into(),
        Source::Capture(name) => format!("{{{name}}}"),
    };
    if let Some(default) = default {
        shown.push_str(&format!(", else {default:?}"));
    }
    match format {
        Format::Json => {}
        Format::Comma => shown.push_str(", joined by commas"),
        Format::Base64Url => shown.push_str(", in base64url"),
    }
    shown
}
