//! Random policies that collide on purpose, and callers.

use serde_json::{Map, Value, json};

use super::model::{Address, Gateway, Host, Issuer, Key, Managed, Place, Policy, Route, Rule, Segment, Token, Word};

/// Random numbers that are the same at every run (SplitMix64).
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than this.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    pub fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    pub fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    pub fn some<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }
}

const SEGMENTS: [&str; 9] = ["a", "b", "A", "ab", "aB", "abc", "orders", "u1", "é"];
const PREFIXES: [&str; 4] = ["a", "ab", "o", "A"];
const METHODS: [&str; 5] = ["GET", "POST", "HEAD", "DELETE", "GET"];
const NAMES: [&str; 3] = ["shop.test", "a.shop.test", "b.a.shop.test"];
const ROLES: [&str; 6] = ["admin", "a1", "a2", "b", "boss", "lead"];
const GROUPS: [&str; 2] = ["g1", "Domain Admins"];
const SCOPES: [&str; 2] = ["read", "write"];
const PATHS: [&str; 5] = ["tenant", "level", "x.y", "https://x.test/tier", "dept"];
const VALUES: [&str; 8] = ["acme", "1", "true", "1.5", "gold", "x y", "u1", "a"];
const NETWORKS: [&str; 5] = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1", "2001:db8::/32", "10.1.2.3/32"];
const CAPTURES: [&str; 3] = ["id", "tenant", "rest"];

fn word(dice: &mut Dice, captures: &[String], can: Can) -> Word {
    loop {
        return match dice.below(12) {
            0 | 1 if can.roles => Word::Role(dice.pick(&ROLES).into()),
            2 => Word::Group(dice.pick(&GROUPS).into()),
            3 | 4 => Word::Scope(dice.pick(&SCOPES).into()),
            5 | 6 => Word::Claim(dice.pick(&PATHS).into(), dice.pick(&VALUES).into()),
            7 => Word::ClaimIsThere(dice.pick(&PATHS).into()),
            8 if can.ask && !captures.is_empty() => {
                Word::ClaimIsCaptured(dice.pick(&PATHS).into(), captures[dice.below(captures.len())].clone())
            }
            9 if can.ask && !captures.is_empty() => Word::Owner(captures[dice.below(captures.len())].clone()),
            10 if can.ask && can.network => Word::Network(dice.pick(&NETWORKS).into()),
            11 => {
                if dice.one_in(2) {
                    Word::SignedIn
                } else {
                    Word::Issuer("main".into())
                }
            }
            _ => continue,
        };
    }
}

/// What a rule may be about.
#[derive(Clone, Copy)]
struct Can {
    roles: bool,
    /// The request: captures and the network.
    ask: bool,
    network: bool,
}

fn rule(dice: &mut Dice, captures: &[String], can: Can, deep: usize) -> Rule {
    if deep == 0 || dice.one_in(2) {
        return Rule::Word(word(dice, captures, can));
    }
    let some = |dice: &mut Dice| (0..2 + dice.below(2)).map(|_| rule(dice, captures, can, deep - 1)).collect();
    match dice.below(5) {
        0 => Rule::Not(Box::new(rule(dice, captures, can, deep - 1))),
        1 | 2 => Rule::Any(some(dice)),
        _ => Rule::All(some(dice)),
    }
}

fn key(dice: &mut Dice) -> Key {
    let mut methods: Vec<String> = Vec::new();
    if dice.one_in(2) {
        for _ in 0..=dice.below(2) {
            let method = dice.pick(&METHODS).to_owned();
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
    }
    let mut names: Vec<&str> = CAPTURES.to_vec();
    let host = match dice.below(10) {
        0 => Some(Host::Name(dice.pick(&NAMES).into())),
        1 => Some(Host::Below(dice.pick(&NAMES).into())),
        2 => Some(Host::Capture(names.remove(1).into(), dice.pick(&NAMES).into())),
        _ => None,
    };
    let mut path = Vec::new();
    for _ in 0..dice.below(4) {
        path.push(match dice.below(8) {
            0 => Segment::One,
            1 | 2 if !names.is_empty() => Segment::Capture(names.remove(0).into()),
            _ => Segment::Literal(dice.pick(&SEGMENTS).into()),
        });
    }
    match dice.below(8) {
        0 | 1 => path.push(Segment::Rest),
        2 => path.push(Segment::Prefix(dice.pick(&PREFIXES).into())),
        3 if !names.is_empty() => path.push(Segment::CaptureRest(names.remove(0).into())),
        _ => {}
    }
    Key { methods, host, path }
}

/// A key near another: it differs in its methods, its host or its end.
fn near(dice: &mut Dice, key: &Key) -> Key {
    let (mut near, other) = (key.clone(), self::key(dice));
    match dice.below(5) {
        0 => near.methods = other.methods,
        1 if !matches!(other.host, Some(Host::Capture(..))) => near.host = other.host,
        _ => {
            let end = match dice.below(5) {
                0 => Segment::One,
                1 => Segment::Rest,
                2 | 3 => Segment::Prefix(dice.pick(&PREFIXES).into()),
                _ => Segment::Literal(dice.pick(&SEGMENTS).into()),
            };
            _ = near.path.pop();
            near.path.push(end);
        }
    }
    near
}

fn captures(key: &Key) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    if let Some(Host::Capture(name, _)) = &key.host {
        all.push(name.clone());
    }
    all.extend(key.path.iter().filter_map(|segment| match segment {
        Segment::Capture(name) | Segment::CaptureRest(name) => Some(name.clone()),
        _ => None,
    }));
    all
}

fn issuers(dice: &mut Dice) -> Vec<Issuer> {
    let count = 1 + dice.below(3);
    let first_default = dice.below(count);
    let mut issuers = Vec::new();
    for (at, (name, prefix)) in [("main", "m:"), ("other", "o:"), ("third", "t:")][..count].iter().enumerate() {
        let from = match dice.below(6) {
            0 => vec![Place::Bearer, Place::Cookie("session".into())],
            1 => vec![Place::Header("X-Token".into())],
            2 => vec![Place::Header("X-Token".into()), Place::Bearer],
            _ => vec![Place::Bearer],
        };
        let has_cookie = from.iter().any(|place| matches!(place, Place::Cookie(_)));
        let no_roles = Can { roles: false, ask: false, network: false };
        issuers.push(Issuer {
            name: (*name).into(),
            audience: "api".into(),
            roles: [Some("roles"), Some("realm.roles"), Some("https://x.test/roles"), None][dice.below(4)]
                .map(Into::into),
            groups: [Some("groups"), Some("groups"), None][dice.below(3)].map(Into::into),
            scopes: [None, None, Some("scp".to_owned())][dice.below(3)].clone(),
            missing_is_empty: dice.one_in(2),
            default: at == first_default || dice.one_in(2),
            may_grant: match dice.below(4) {
                0 => Some(vec!["a*".into(), "boss".into()]),
                1 => Some(dice.some(2, |dice| dice.pick(&ROLES).into())),
                _ => None,
            },
            require: dice.one_in(5).then(|| rule(dice, &[], no_roles, 1)),
            origins: if has_cookie { vec!["https://app.test".into()] } else { Vec::new() },
            from,
            prefix: (at > 0 && !dice.one_in(8) || dice.one_in(6)).then(|| (*prefix).into()),
        });
    }
    issuers
}

fn gateways(dice: &mut Dice) -> Vec<Gateway> {
    let address = |dice: &mut Dice| match dice.below(4) {
        0 => Address::External,
        1 => Address::Forwarded(1 + dice.below(2)),
        _ => Address::Connection,
    };
    let by = [None, Some("10.0.4.0/28"), Some("10.0.0.0/8")];
    let mut gateways: Vec<Gateway> = dice.some(3, |dice| Gateway {
        by: by[dice.below(3)].map(Into::into),
        believed: !dice.one_in(4),
        address: address(dice),
    });
    if gateways.iter().any(|gateway| !gateway.believed) {
        gateways.insert(dice.below(gateways.len()), Gateway { by: None, believed: true, address: address(dice) });
    }
    gateways
}

/// A policy. It may be one that does not load.
pub fn policy(dice: &mut Dice) -> Policy {
    let issuers = issuers(dice);
    let gateways = gateways(dice);
    let can = Can { roles: true, ask: true, network: !gateways.is_empty() };
    let only_hosts = dice.one_in(8);
    let mut routes: Vec<Route> = Vec::new();
    for _ in 0..3 + dice.below(8) {
        let mut key = match routes.len() {
            0 => key(dice),
            count if dice.one_in(2) => {
                let at = dice.below(count);
                near(dice, &routes[at].key)
            }
            _ => key(dice),
        };
        if only_hosts && key.host.is_none() {
            key.host = Some(Host::Name(dice.pick(&NAMES).into()));
        }
        if routes.iter().any(|route| route.key.print() == key.print()) {
            continue;
        }
        let allow = match dice.below(10) {
            0 => Rule::Public,
            1 => Rule::Anyone,
            _ => rule(dice, &captures(&key), can, 2),
        };
        let mut named = Vec::new();
        if dice.one_in(4) {
            named = issuers.iter().filter(|_| dice.one_in(2)).map(|issuer| issuer.name.clone()).collect();
        }
        if allow == Rule::Public {
            named.clear();
        }
        routes.push(Route { key, allow, issuers: named });
    }
    let guards = if dice.one_in(2) {
        dice.some(2, |dice| {
            let key = key(dice);
            let rule = rule(dice, &captures(&key), can, 1);
            (key, rule)
        })
    } else {
        Vec::new()
    };
    let forbids = if dice.one_in(3) { dice.some(2, |dice| rule(dice, &[], can, 1)) } else { Vec::new() };
    let mut roles: Vec<(String, Rule)> = Vec::new();
    for (at, name) in ["boss", "lead"].iter().enumerate() {
        if dice.one_in(3) {
            let words = Can { roles: false, ask: false, network: false };
            let mut made = rule(dice, &[], words, 1);
            if at == 1 && dice.one_in(2) {
                made = Rule::Any(vec![Rule::Word(Word::Role(dice.pick(&["boss", "admin"]).into())), made]);
            }
            roles.push(((*name).into(), made));
        }
    }
    let sources =
        ["sub", "principal", "issuer", "roles", "groups", "scopes", "tenant", "claim:dept", "x.y", "claim:level"];
    let mut headers: Vec<Managed> = Vec::new();
    for name in ["X-User-ID", "X-Roles", "x_tenant", "X-Info"] {
        if dice.one_in(2) {
            let format = *dice.pick(&[&"json", &"json", &"comma", &"base64url"]);
            headers.push(Managed { name: name.into(), from: dice.pick(&sources).into(), format });
        }
    }
    let relaxations = ["encoded_slash", "semicolon", "empty_segment", "backslash", "double_encoding", "case_variant"];
    Policy {
        routes,
        guards,
        forbids: forbids.into_iter().enumerate().map(|(at, rule)| (format!("f{at}"), rule)).collect(),
        roles,
        headers,
        metadata: dice.some(1, |dice| ("who".to_owned(), dice.pick(&sources).to_owned())),
        kept: dice.some(1, |dice| dice.pick(&["Remote-User", "X-Consumer-ID", "X-Rewrite-URL"]).to_owned()),
        gateways,
        paths: if dice.one_in(2) { relaxations.into_iter().filter(|_| dice.one_in(3)).collect() } else { Vec::new() },
        issuers,
    }
}

/// Tokens of all issuers of a policy, a few of them bad.
pub fn tokens(dice: &mut Dice, policy: &Policy) -> Vec<Token> {
    (0..10).map(|at| token(dice, policy, at)).collect()
}

fn token(dice: &mut Dice, policy: &Policy, at: usize) -> Token {
    let issuer = &policy.issuers[dice.below(policy.issuers.len())];
    let mut claims = Map::new();
    let subject = dice.pick(&["u1", "u1", "a", "acme", "ab", "o:a", "m:u1", "é"]);
    claims.insert("sub".into(), json!(subject));
    claims.insert("aud".into(), json!(dice.pick(&["api", "api", "api", "api", "api", "api", "else"])));
    claims.insert("exp".into(), json!(dice.pick(&["now+300", "now+300", "now+300", "now+300", "now-30", "now-90"])));
    if dice.one_in(8) {
        claims.insert("nbf".into(), json!(dice.pick(&["now-5", "now+30", "now+90"])));
    }
    let names = |dice: &mut Dice, of: &[&str]| match dice.below(9) {
        0 => Value::Null,
        1 => json!({"a": "b"}),
        2 => json!([of[dice.below(of.len())], 7]),
        3 => json!(of[dice.below(of.len())]),
        4 => json!(format!("{} {}", of[dice.below(of.len())], of[dice.below(of.len())])),
        _ => json!(dice.some(3, |dice| of[dice.below(of.len())])),
    };
    let roles = names(dice, &ROLES);
    match issuer.roles.as_deref() {
        Some("realm.roles") => _ = claims.insert("realm".into(), json!({"roles": roles})),
        Some(path) => _ = claims.insert(path.into(), roles),
        None => {}
    }
    claims.insert("groups".into(), names(dice, &GROUPS));
    claims.insert(issuer.scopes.clone().unwrap_or_else(|| "scope".into()), names(dice, &SCOPES));
    for path in PATHS {
        let value = claim(dice);
        match path.split_once('.').filter(|_| !path.contains('/')) {
            Some((first, _)) if dice.one_in(6) => _ = claims.insert(first.into(), value),
            Some((first, last)) => _ = claims.insert(first.into(), json!({last: value})),
            None => _ = claims.insert(path.into(), value),
        }
    }
    if dice.one_in(16) {
        claims.insert("level".into(), json!(vec![1; 1_025]));
    }
    claims.retain(|name, value| !value.is_null() || name == "dept");
    Token { text: format!("<{at}>"), issuer: issuer.name.clone(), claims, forged: dice.one_in(12) }
}

fn claim(dice: &mut Dice) -> Value {
    let one = |dice: &mut Dice| match dice.below(12) {
        0 => json!(1),
        1 => json!(true),
        2 => json!(1.5),
        3 => json!(false),
        _ => json!(dice.pick(&VALUES)),
    };
    match dice.below(16) {
        0 => json!({"a": 1}),
        1 => json!([one(dice), {}]),
        2 => json!([]),
        3 => json!(["ü", "a,b"]),
        4 => json!(" a"),
        5 => json!("ü"),
        6 | 7 => json!([one(dice), one(dice)]),
        8 => Value::Null,
        _ => one(dice),
    }
}
