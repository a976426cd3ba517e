//! What differs outside of the routes: issuers, gateways, paths, headers, and what else a policy says.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use super::condition::{self, About, Condition, Whom};
use super::{SiteChange, Verdict, api_keys, believed, route, told};
use crate::authz::algorithm::Algorithm;
use crate::authz::cors::Sharing;
use crate::authz::header::Tell;
use crate::authz::introspection::Introspection;
use crate::authz::issuer::{IssuerPolicy, MayGrant};
use crate::authz::logout::LogoutPolicy;
use crate::authz::mint::Mint;
use crate::authz::policy::Policy;
use crate::authz::proof::{Mode, Possession};
use crate::authz::request::Relaxed;
use crate::authz::token::{Audience, TokenRules, TokenTypes};
use crate::config::{Compiled, KeySource};

/// All of them, section by section.
pub(super) fn changes(old: &Compiled, new: &Compiled) -> Vec<SiteChange> {
    let mut changes = Vec::new();
    issuers(old, new, &mut changes);
    let (before, after) = (&*old.policy, &*new.policy);
    roles(before, after, &mut changes);
    believed::gateways(before, after, &mut changes);
    believed::services(before, after, &mut changes);
    believed::pdp_clients(before, after, &mut changes);
    api_keys::changes(before, after, &mut changes);
    believed::grants(before, after, &mut changes);
    believed::revocation(before, after, &mut changes);
    paths(before.relaxed, after.relaxed, &mut changes);
    headers(before, after, &mut changes);
    cors(before, after, &mut changes);
    mint(before, after, &mut changes);
    let mut told = |section, one: String, two: String| {
        if one != two {
            let text = format!("{one} → {two}; nobody gains or loses a route by it");
            changes.push(SiteChange { section, name: String::new(), verdict: Verdict::Same, text });
        }
    };
    let template = |policy: &Policy| policy.sign_in.as_ref().map_or("none".into(), |sign_in| format!("{sign_in:?}"));
    told("sign_in", template(before), template(after));
    let url = |of: &Compiled| of.settings.public_url.as_deref().unwrap_or("none").to_owned();
    told("public_url", url(old), url(new));
    changes
}

/// What upstreams are told by tokens of ours.
fn mint(old: &Policy, new: &Policy, changes: &mut Vec<SiteChange>) {
    let mut add = |verdict, text: String| {
        changes.push(SiteChange { section: "mint", name: String::new(), verdict, text });
    };
    let header = |mint: &Mint| told::text(&mint.header);
    let (one, two) = match (&old.mint, &new.mint) {
        (None, None) => return,
        (None, Some(mint)) => {
            return add(
                Verdict::Narrowed,
                format!("tokens are minted, and callers may not send {} any more", header(mint)),
            );
        }
        (Some(mint), None) => {
            return add(Verdict::Widened, format!("no token is minted, and callers may send {} now", header(mint)));
        }
        (Some(one), Some(two)) => (one, two),
    };
    // Keys are the operator's to change, and what is remembered is nobody's concern.
    let said = |mint: &Mint| {
        let Mint { issuer, header: _, lifetime, claims: _, keys: _, .. } = mint;
        let claim = |tell: &Tell| format!("{}: {}", told::text(&tell.name), told::shown(tell));
        let claims: Vec<String> = mint.claims.iter().map(claim).collect();
        format!("by {issuer} in {} for {} s with {}", header(mint), lifetime.as_secs(), claims.join(", "))
    };
    if said(one) != said(two) {
        add(Verdict::Changed, format!("tokens are minted {} → {}", said(one), said(two)));
    }
}

fn issuers(old: &Compiled, new: &Compiled, changes: &mut Vec<SiteChange>) {
    let find = |of: &Compiled, name: &str| of.policy.issuers.iter().position(|issuer| &*issuer.name == name);
    for issuer in &new.policy.issuers {
        let mut add = |verdict, text: String| {
            changes.push(SiteChange { section: "issuers", name: issuer.name.to_string(), verdict, text });
        };
        let Some(earlier) = find(old, &issuer.name).and_then(|at| old.policy.issuers.get(at)) else {
            let text = format!("a new issuer: tokens of {} are accepted", issuer.tokens.issuer);
            add(Verdict::Widened, text);
            continue;
        };
        let mut found: Vec<(Verdict, String)> = Vec::new();
        tokens(earlier, issuer, &mut found);
        introspection(earlier, issuer, &mut found);
        grants(earlier, issuer, &mut found);
        let (one, two) = (keys(old, &issuer.name), keys(new, &issuer.name));
        let digest = |of: &Compiled| of.fixed.get(&*issuer.name).map(|state| state.keys.digest());
        if one == two && digest(old) != digest(new) {
            found.push((Verdict::Changed, "its keys are others".into()));
        }
        if one != two {
            found.push((Verdict::Changed, format!("its keys come from elsewhere: {one} → {two}")));
        }
        for (verdict, text) in found {
            add(verdict, text);
        }
    }
    for issuer in old.policy.issuers.iter().filter(|issuer| find(new, &issuer.name).is_none()) {
        let (name, text) = (issuer.name.to_string(), "the issuer is gone".to_owned());
        changes.push(SiteChange { section: "issuers", name, verdict: Verdict::Narrowed, text });
    }
}

/// Where an issuer's keys are, or which they are.
fn keys(of: &Compiled, name: &str) -> String {
    if let Some(state) = of.fixed.get(name) {
        let digest = state.keys.digest();
        let issuer = of.policy.issuers.iter().find(|issuer| &*issuer.name == name);
        // Of a shared secret nothing is shown, be it only a hash.
        return match issuer.is_some_and(|issuer| issuer.tokens.algorithms.iter().any(Algorithm::is_symmetric)) {
            true => "a shared secret".into(),
            false => format!("{} in a file ({})", count(state.keys.len()), hex(&digest)),
        };
    }
    of.feeds.iter().find(|feed| &*feed.issuer.name == name).map_or_else(String::new, |feed| {
        let place = match &feed.from {
            KeySource::Discovery(url) => format!("discovery at {url}"),
            KeySource::Jwks(url) | KeySource::Pem(url) => url.to_string(),
        };
        let ca = feed.ca.as_ref().map(|ca| digest(&SHA256, &ca.0));
        place + &ca.map_or_else(String::new, |ca| format!(" by a `ca` of its own ({})", hex(ca.as_ref())))
    })
}

fn count(keys: usize) -> String {
    if keys == 1 { "1 key".into() } else { format!("{keys} keys") }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// Compares a set: what is new widens.
pub(super) fn set<T: Ord + Debug>(what: &str, old: BTreeSet<T>, new: BTreeSet<T>, found: &mut Vec<(Verdict, String)>) {
    let shown =
        |items: Vec<&T>| items.iter().map(|item| format!("{item:?}").replace('"', "")).collect::<Vec<_>>().join(", ");
    let more: Vec<&T> = new.difference(&old).collect();
    let less: Vec<&T> = old.difference(&new).collect();
    match (more.is_empty(), less.is_empty()) {
        (true, true) => {}
        (false, true) => found.push((Verdict::Widened, format!("{what} gains {}", shown(more)))),
        (true, false) => found.push((Verdict::Narrowed, format!("{what} loses {}", shown(less)))),
        (false, false) => {
            found.push((Verdict::Changed, format!("{what} gains {} and loses {}", shown(more), shown(less))));
        }
    }
}

/// Compares a limit: what is larger widens.
pub(super) fn limit<T: PartialOrd + Debug>(what: &str, old: T, new: T, found: &mut Vec<(Verdict, String)>) {
    if old != new {
        let verdict = if new > old { Verdict::Widened } else { Verdict::Narrowed };
        found.push((verdict, format!("{what}: {old:?} → {new:?}")));
    }
}

fn differs<T: PartialEq + Debug>(what: &str, old: &T, new: &T, found: &mut Vec<(Verdict, String)>) {
    if old != new {
        let shown = |value: &T| format!("{value:?}").replace('"', "");
        found.push((Verdict::Changed, format!("{what}: {} → {}", shown(old), shown(new))));
    }
}

/// Which tokens are good.
fn tokens(old: &IssuerPolicy, new: &IssuerPolicy, found: &mut Vec<(Verdict, String)>) {
    all_is_compared(new);
    let (before, after) = (&old.tokens, &new.tokens);
    differs("`iss`", &before.issuer, &after.issuer, found);
    let signers = |issuer: &IssuerPolicy| issuer.tokens.balancers.to_vec();
    if signers(old).is_empty() != signers(new).is_empty() {
        differs("whether load balancers sign", &signers(old), &signers(new), found);
    } else {
        set("`signer`", signers(old).into_iter().collect(), signers(new).into_iter().collect(), found);
    }
    let tenants = |issuer: &IssuerPolicy| issuer.tokens.tenants.iter().flat_map(|of| of.any_of.to_vec()).collect();
    set("`tenants`", tenants(old), tenants(new), found);
    let also = |issuer: &IssuerPolicy| issuer.tokens.also.iter().cloned().collect();
    set("the other spellings of `iss`", also(old), also(new), found);
    differs("the claim of the audience", &before.audience.claim.to_string(), &after.audience.claim.to_string(), found);
    let audience = |issuer: &IssuerPolicy| issuer.tokens.audience.any_of.iter().cloned().collect();
    set("`audience`", audience(old), audience(new), found);
    let algorithms = |issuer: &IssuerPolicy| issuer.tokens.algorithms.iter().collect();
    set("`algorithms`", algorithms(old), algorithms(new), found);
    let types = |issuer: &IssuerPolicy| issuer.tokens.types.accepted.iter().cloned().collect();
    set("`types`", types(old), types(new), found);
    limit("tokens without a `typ`", before.types.absent, after.types.absent, found);
    limit("`id_tokens`", before.types.id_tokens, after.types.id_tokens, found);
    limit("`leeway`", before.leeway, after.leeway, found);
    let lifetime = |issuer: &IssuerPolicy| issuer.tokens.max_lifetime.unwrap_or(std::time::Duration::MAX);
    if lifetime(old) != lifetime(new) {
        let verdict = if lifetime(new) > lifetime(old) { Verdict::Widened } else { Verdict::Narrowed };
        let text = format!("`max_token_lifetime`: {:?} → {:?}", before.max_lifetime, after.max_lifetime);
        found.push((verdict, text.replace("Some(", "").replace(')', "").replace("None", "none")));
    }
    let denied = |issuer: &IssuerPolicy| issuer.tokens.denied_kids.iter().cloned().collect();
    // What is refused: less of it widens.
    set("the kids that `deny_kids` leaves", denied(new), denied(old), found);
    if before.issued_from != after.issued_from {
        let verdict = if after.issued_from < before.issued_from { Verdict::Widened } else { Verdict::Narrowed };
        let shown = |rules: &TokenRules| rules.issued_from.map_or("none".into(), |from| from.to_string());
        found.push((verdict, format!("`reject_issued_before`: {} → {}", shown(before), shown(after))));
    }
    let sources = |issuer: &IssuerPolicy| issuer.sources.iter().map(route::place).collect();
    set("`from`", sources(old), sources(new), found);
    let origins = |issuer: &IssuerPolicy| issuer.origins.iter().cloned().collect();
    set("`origins`", origins(old), origins(new), found);
    possession(&old.proof, &new.proof, found);
    limit("`max_stale`", old.max_stale, new.max_stale, found);
    let foreign = |issuer: &IssuerPolicy| issuer.foreign_prefixes.iter().cloned().collect();
    // What is refused: less of it widens.
    set("subjects that begin otherwise than with", foreign(new), foreign(old), found);
    set("logout tokens other than those for", logouts(new), logouts(old), found);
}

/// Whose logout tokens count, and what they revoke.
fn logouts(issuer: &IssuerPolicy) -> BTreeSet<Box<str>> {
    let revokes = |whole| if whole { "subject" } else { "session" };
    let one = |logout: &LogoutPolicy, client: &str| format!("{client} ({})", revokes(logout.whole_subject)).into();
    issuer.logout.iter().flat_map(|logout| logout.clients.iter().map(|client| one(logout, client))).collect()
}

/// Whether and where it is asked about opaque tokens, which are good then.
fn introspection(old: &IssuerPolicy, new: &IssuerPolicy, found: &mut Vec<(Verdict, String)>) {
    match (&old.introspection, &new.introspection) {
        (None, None) => {}
        (None, Some(how)) => {
            found.push((Verdict::Widened, format!("opaque tokens are introspected now, at {}", how.url)))
        }
        (Some(_), None) => found.push((Verdict::Narrowed, "opaque tokens are introspected no more".into())),
        (Some(one), Some(two)) => {
            differs("who vouches for where opaque tokens are introspected", &vouching(one), &vouching(two), found);
            differs("where opaque tokens are introspected", &one.url, &two.url, found);
            differs("the subject of opaque tokens", &one.subject.member(), &two.subject.member(), found);
            limit("`cache` of `introspection`", one.cache, two.cache, found);
            differs("the client that introspects", &one.client.id, &two.client.id, found);
            if one.client.proof.digest() != two.client.proof.digest() {
                found.push((Verdict::Same, "the client proves by another secret or key who it is".into()));
            }
        }
    }
}

fn vouching(how: &Introspection) -> String {
    how.ca.as_ref().map_or("whom the machine trusts".into(), |ca| {
        format!("a `ca` of its own ({})", hex(digest(&SHA256, ca).as_ref()))
    })
}

/// Takes an issuer apart, so that a new field of it does not compile until it is compared here.
fn all_is_compared(issuer: &IssuerPolicy) {
    let IssuerPolicy {
        name: _,
        tokens,
        proof,
        sources: _,
        origins: _,
        roles: _,
        groups: _,
        scopes: _,
        missing_is_empty: _,
        may_grant: _,
        require: _,
        // By `roles`, once for all issuers.
        derived: _,
        subject_prefix: _,
        foreign_prefixes: _,
        introspection,
        // What is told of its principals.
        relays: _,
        // By where its keys come from.
        fed: _,
        by_kid: _,
        // How often keys are asked for, what is remembered, and of what it is made: nobody gains or loses by these.
        cooldown: _,
        memory: _,
        contracts: _,
        digest: _,
        max_stale: _,
        logout: _,
    } = issuer;
    if let Some(Introspection { url: _, allow_http: _, ca: _, client: _, subject: _, cache: _, timeout: _, only: _ }) =
        introspection
    {}
    let TokenRules {
        issuer: _,
        also: _,
        tenants: _,
        balancers: _,
        audience,
        algorithms: _,
        types,
        leeway: _,
        max_lifetime: _,
        denied_kids: _,
        issued_from: _,
    } = tokens;
    let (Audience { claim: _, any_of: _ }, TokenTypes { accepted: _, absent: _, id_tokens: _ }) = (audience, types);
    let Possession { mode: _, told: _, window: _, nonce: _, algorithms: _, origins: _, only_there: _ } = proof;
}

/// What whoever presents its tokens proves: less of it widens.
fn possession(old: &Possession, new: &Possession, found: &mut Vec<(Verdict, String)>) {
    let rank = |mode: Mode| match mode {
        Mode::None => 0,
        Mode::IfBound => 1,
        Mode::Either => 2,
        Mode::Dpop | Mode::Mtls => 3,
    };
    let name = |mode: Mode| match mode {
        Mode::None => "none",
        Mode::Dpop => "dpop",
        Mode::Mtls => "mtls",
        Mode::Either => "either",
        Mode::IfBound => "required-if-bound",
    };
    if old.mode != new.mode {
        let verdict = match rank(new.mode).cmp(&rank(old.mode)) {
            Ordering::Less => Verdict::Widened,
            Ordering::Greater => Verdict::Narrowed,
            Ordering::Equal => Verdict::Changed,
        };
        found.push((verdict, format!("`proof`: {} → {}", name(old.mode), name(new.mode))));
    }
    limit("`window` of proofs", old.window, new.window, found);
    if old.nonce != new.nonce {
        let verdict = if new.nonce < old.nonce { Verdict::Widened } else { Verdict::Narrowed };
        found.push((verdict, format!("`nonce` of proofs: {:?} → {:?}", old.nonce, new.nonce).to_lowercase()));
    }
    let algorithms = |proof: &Possession| proof.algorithms.iter().collect();
    set("`algorithms` of proofs", algorithms(old), algorithms(new), found);
    let urls = |proof: &Possession| {
        let urls: Vec<String> = proof.origins.iter().map(ToString::to_string).collect();
        let others = if proof.only_there { "" } else { " and any other host by https" };
        format!("{}{others}", urls.join(", "))
    };
    if old.told || new.told {
        differs("the URLs that proofs are for", &urls(old), &urls(new), found);
    }
}

/// What its tokens may say.
fn grants(old: &IssuerPolicy, new: &IssuerPolicy, found: &mut Vec<(Verdict, String)>) {
    match (&old.may_grant, &new.may_grant) {
        (MayGrant::Any, MayGrant::Any) => {}
        (MayGrant::Only(_), MayGrant::Any) => found.push((Verdict::Widened, "`may_grant` is now `any`".into())),
        (MayGrant::Any, MayGrant::Only(_)) => found.push((Verdict::Narrowed, "`may_grant` is no longer `any`".into())),
        (MayGrant::Only(one), MayGrant::Only(two)) => {
            set("`may_grant`", one.iter().cloned().collect(), two.iter().cloned().collect(), found);
        }
    }
    let text = |rule: &Option<crate::authz::rule::Expr>| rule.as_ref().map_or("none".to_owned(), ToString::to_string);
    if text(&old.require) != text(&new.require) {
        let verdict = implied(old, new);
        found.push((verdict, format!("`require`: {} → {}", text(&old.require), text(&new.require))));
    }
    let path =
        |path: &Option<crate::authz::identity::ClaimPath>| path.as_ref().map_or("none".to_owned(), ToString::to_string);
    differs("`roles`", &path(&old.roles), &path(&new.roles), found);
    differs("`groups`", &path(&old.groups), &path(&new.groups), found);
    differs("`scopes`", &old.scopes.to_string(), &new.scopes.to_string(), found);
    differs("whether a `missing` list is empty", &old.missing_is_empty, &new.missing_is_empty, found);
    differs("`subject_prefix`", &old.subject_prefix, &new.subject_prefix, found);
}

/// How what an issuer's tokens must meet differs.
fn implied(old: &IssuerPolicy, new: &IssuerPolicy) -> Verdict {
    let gateways = Default::default();
    let condition = |issuer: &IssuerPolicy| Condition {
        must: route::required(issuer, &gateways).into_iter().collect(),
        never: vec![],
    };
    verdict(&condition(old), &condition(new))
}

fn verdict(old: &Condition, new: &Condition) -> Verdict {
    let difference = condition::compare(Some(old), Some(new));
    match (difference.gains.is_some(), difference.loses.is_some()) {
        (false, false) => Verdict::Same,
        (true, false) => Verdict::Widened,
        (false, true) => Verdict::Narrowed,
        (true, true) => Verdict::Changed,
    }
}

/// Roles that are derived: who has them is told to upstreams as well.
fn roles(old: &Policy, new: &Policy, changes: &mut Vec<SiteChange>) {
    let derived = |policy: &Policy| -> Vec<(String, String)> {
        let first = policy.issuers.first().map(|issuer| issuer.derived.iter());
        first.into_iter().flatten().map(|(name, rule)| (name.to_string(), rule.to_string())).collect()
    };
    let (before, after) = (derived(old), derived(new));
    let names: BTreeSet<&String> = before.iter().chain(&after).map(|(name, _)| name).collect();
    for name in names {
        let rule = |of: &[(String, String)]| of.iter().find(|(here, _)| here == name).map(|(_, rule)| rule.clone());
        let (one, two) = (rule(&before), rule(&after));
        if one != two {
            let shown = |rule: Option<String>| rule.unwrap_or_else(|| "as its token lists it".into());
            let text = format!("{} → {}", shown(one), shown(two));
            let verdict = role_verdict(old, new, name);
            changes.push(SiteChange { section: "roles", name: name.clone(), verdict, text });
        }
    }
}

fn role_verdict(old: &Policy, new: &Policy, name: &str) -> Verdict {
    let word =
        crate::authz::rule::Expr::Word(crate::authz::rule::WordId(0), crate::authz::rule::Word::Role(name.into()));
    let pairs = new.issuers.iter().filter_map(|two| Some((old.issuers.iter().find(|one| one.name == two.name)?, two)));
    let condition = |policy: &Policy, issuer: &IssuerPolicy| {
        let about = About { whom: Whom::User(issuer), gateways: &policy.gateways, grants: None };
        Condition { must: vec![about.formula(&word, &|_| None)], never: vec![] }
    };
    pairs.map(|(one, two)| verdict(&condition(old, one), &condition(new, two))).fold(Verdict::Same, Verdict::and)
}

fn paths(old: Relaxed, new: Relaxed, changes: &mut Vec<SiteChange>) {
    let words = |relaxed: Relaxed| {
        let Relaxed { encoded_slash, semicolon, empty_segment, backslash, double_encoding, case_variant } = relaxed;
        let all = [
            ("encoded_slash", encoded_slash),
            ("semicolon", semicolon),
            ("empty_segment", empty_segment),
            ("backslash", backslash),
            ("double_encoding", double_encoding),
            ("case_variant", case_variant),
        ];
        all.into_iter().filter(|(_, on)| *on).map(|(word, _)| word).collect::<BTreeSet<_>>()
    };
    let (before, after) = (words(old), words(new));
    let mut add = |verdict, name: &str, text: &str| {
        changes.push(SiteChange { section: "paths", name: name.to_owned(), verdict, text: text.to_owned() });
    };
    for word in after.difference(&before) {
        add(Verdict::Widened, word, "is no longer refused in a path");
    }
    for word in before.difference(&after) {
        add(Verdict::Narrowed, word, "is refused in a path");
    }
}

/// What callers may tell upstreams; what upstreams are told is compared route by route.
fn headers(old: &Policy, new: &Policy, changes: &mut Vec<SiteChange>) {
    let names = |policy: &Policy| policy.routes.first().map(|route| Arc::clone(&route.contract));
    let managed = |policy: &Policy| -> BTreeSet<String> {
        names(policy).iter().flat_map(|one| one.names().managed().iter().map(told::text)).collect()
    };
    let mut add = |section, name: &str, verdict, text: String| {
        changes.push(SiteChange { section, name: name.to_owned(), verdict, text });
    };
    let (before, after) = (managed(old), managed(new));
    for name in after.difference(&before) {
        add("headers", name, Verdict::Narrowed, "is told now; the caller's own is removed".into());
    }
    for name in before.difference(&after) {
        add("headers", name, Verdict::Widened, "is told no more; the caller's own may pass".into());
    }
    let kept = |policy: &Policy| -> BTreeSet<String> {
        let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        names(policy).iter().flat_map(|one| one.names().kept().map(shown).collect::<Vec<_>>()).collect()
    };
    let mut found = Vec::new();
    set("what the caller may send", kept(old), kept(new), &mut found);
    for (verdict, text) in found {
        add("headers_kept", "", verdict, text);
    }
}

/// Whose pages may read answers, by hosts; routes that say it themselves are compared one by one.
fn cors(old: &Policy, new: &Policy, changes: &mut Vec<SiteChange>) {
    let mut add = |name: &str, verdict, text: String| {
        changes.push(SiteChange { section: "cors", name: name.to_owned(), verdict, text });
    };
    match (&old.cors, &new.cors) {
        (None, Some(_)) => add("", Verdict::Changed, "preflights are answered by it now, on all routes".into()),
        (Some(_), None) => add("", Verdict::Changed, "preflights go the way of other requests now".into()),
        (Some(_), Some(_)) | (None, None) => {}
    }
    let all = |policy: &Policy| -> BTreeMap<String, Sharing> {
        let hosts = policy.cors.iter().flat_map(|cors| cors.iter());
        hosts.map(|(host, sharing)| (host.to_owned(), sharing.clone())).collect()
    };
    let (before, after) = (all(old), all(new));
    let hosts: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for host in hosts {
        let mut found = Vec::new();
        told::sharing("cors", before.get(host), after.get(host), &mut found);
        // Where other hosts are named, what is for a host comes from another entry.
        let same_hosts = before.keys().eq(after.keys()) || before.is_empty() || after.is_empty();
        for (_, verdict, text) in found {
            add(host, if same_hosts { verdict } else { Verdict::Changed }, text);
        }
        if before.contains_key(host) != after.contains_key(host) && !same_hosts {
            add(host, Verdict::Changed, "the hosts that are named are others".into());
        }
    }
}
