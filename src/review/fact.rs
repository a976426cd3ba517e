//! What a condition may ask of a caller, as variables, and every consistent way in which they may stand.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::authz::identity::Truth;

/// One thing that is so, is not so, or cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Fact {
    /// A list of the token has this name.
    Listed { list: String, word: String },
    /// A claim is this value, or has it; `None`: it is there.
    Claim { path: String, value: Option<String> },
    /// The caller's address, believed so, is in this network.
    Network { trust: String, network: IpNet },
    /// This one acts for the subject; `None`: somebody does.
    Actor(Option<String>),
    /// The person signed in at most so many seconds ago.
    Fresh(u64),
    /// A condition of a route is met; what it reads is made of this.
    When { made_of: String, text: String },
    /// Anything else.
    Other(String),
}

/// How facts stand, by their place.
pub(super) type Standing = Vec<Truth>;

/// How the facts of one kind may stand together: each a list of facts that are not false.
type Ways = Vec<Vec<(usize, Truth)>>;

impl std::fmt::Display for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listed { word, .. } | Self::Other(word) => f.write_str(word),
            Self::Claim { path, value: Some(value) } => write!(f, "claim:{path}={value}"),
            Self::Claim { path, value: None } => write!(f, "claim:{path}?"),
            Self::Network { network, .. } => write!(f, "network:{network}"),
            Self::Actor(Some(name)) => write!(f, "actor:{name}"),
            Self::Actor(None) => f.write_str("actor:*"),
            Self::Fresh(seconds) => write!(f, "a sign-in within {seconds}s"),
            Self::When { text, .. } => write!(f, "`{text}`"),
        }
    }
}

/// Every consistent standing of these facts; `None` where there are more than `most`.
pub(super) fn standings(facts: &[Fact], most: usize) -> Option<Vec<Standing>> {
    let mut all: Vec<Standing> = vec![vec![Truth::False; facts.len()]];
    for ways in groups(facts, most)? {
        if all.len().checked_mul(ways.len())? > most {
            return None;
        }
        let with = |standing: &Standing, way: &[(usize, Truth)]| {
            let mut standing = standing.clone();
            for (at, truth) in way {
                if let Some(place) = standing.get_mut(*at) {
                    *place = *truth;
                }
            }
            standing
        };
        all = all.iter().flat_map(|standing| ways.iter().map(move |way| with(standing, way))).collect();
    }
    Some(all)
}

fn groups(facts: &[Fact], most: usize) -> Option<Vec<Ways>> {
    let mut lists: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut claims: BTreeMap<&str, (Option<usize>, Vec<usize>)> = BTreeMap::new();
    let mut networks: BTreeMap<&str, Vec<(usize, IpNet)>> = BTreeMap::new();
    let mut actors: Vec<(usize, bool)> = Vec::new();
    let mut ages: Vec<(u64, usize)> = Vec::new();
    let mut groups = Vec::new();
    for (at, fact) in facts.iter().enumerate() {
        match fact {
            Fact::Listed { list, .. } => lists.entry(list).or_default().push(at),
            Fact::Claim { path, value: Some(_) } => claims.entry(path).or_default().1.push(at),
            Fact::Claim { path, value: None } => claims.entry(path).or_default().0 = Some(at),
            Fact::Network { trust, network } => networks.entry(trust).or_default().push((at, *network)),
            Fact::Actor(name) => actors.push((at, name.is_some())),
            Fact::Fresh(seconds) => ages.push((*seconds, at)),
            Fact::When { .. } | Fact::Other(_) => {
                groups.push(vec![vec![], vec![(at, Truth::True)], vec![(at, Truth::Unknown)]])
            }
        }
    }
    for members in lists.values() {
        let mut ways = subsets(members, most)?;
        ways.push(members.iter().map(|at| (*at, Truth::Unknown)).collect());
        groups.push(ways);
    }
    for (there, values) in claims.values() {
        let present = there.map(|at| (at, Truth::True));
        let mut ways = subsets(values, most)?;
        ways.push(values.iter().map(|at| (*at, Truth::Unknown)).collect());
        for way in &mut ways {
            way.extend(present);
        }
        ways.push(Vec::new());
        groups.push(ways);
    }
    groups.extend((!actors.is_empty()).then(|| acting(&actors)));
    groups.extend((!ages.is_empty()).then(|| since(&ages)));
    groups.extend(networks.values().map(|members| cells(members)));
    Some(groups)
}

/// Each choice of members that are true.
fn subsets(members: &[usize], most: usize) -> Option<Ways> {
    let mut ways: Ways = vec![Vec::new()];
    for member in members {
        if ways.len() > most {
            return None;
        }
        let with: Ways = ways.iter().map(|way| [&**way, &[(*member, Truth::True)]].concat()).collect();
        ways.extend(with);
    }
    Some(ways)
}

/// Nobody acts, somebody without a name here, one of those with a name, or that cannot be told.
fn acting(members: &[(usize, bool)]) -> Ways {
    let all = |truth: Truth| members.iter().map(move |(at, _)| (*at, truth)).collect();
    let anybody = || members.iter().filter(|(_, named)| !named).map(|(at, _)| (*at, Truth::True));
    let mut ways: Ways = vec![Vec::new(), all(Truth::Unknown), anybody().collect()];
    let named = members.iter().filter(|(_, named)| *named);
    ways.extend(named.map(|(at, _)| anybody().chain([(*at, Truth::True)]).collect()));
    ways
}

/// Who signed in within a time did so within each longer one.
fn since(members: &[(u64, usize)]) -> Ways {
    let within = |age: u64| members.iter().filter(move |(longer, _)| *longer >= age).map(|(_, at)| (*at, Truth::True));
    let mut ways: Ways = members.iter().map(|(age, _)| within(*age).collect()).collect();
    ways.push(Vec::new());
    ways
}

/// An address is in none of the networks, in one and those around it, or not known.
fn cells(members: &[(usize, IpNet)]) -> Ways {
    let around = |(_, inner): &(usize, IpNet)| {
        members.iter().filter(|(_, outer)| outer.contains(inner)).map(|(at, _)| (*at, Truth::True)).collect()
    };
    let mut ways: Ways = members.iter().map(around).collect();
    ways.push(Vec::new());
    ways.push(members.iter().map(|(at, _)| (*at, Truth::Unknown)).collect());
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(value: Option<&str>) -> Fact {
        Fact::Claim { path: "tier".into(), value: value.map(str::to_owned) }
    }

    #[test]
    fn one_acts_and_who_signed_in_lately_did_so_within_the_hour() {
        let (yes, no, unsure) = (Truth::True, Truth::False, Truth::Unknown);
        let actor = |name: Option<&str>| Fact::Actor(name.map(str::to_owned));
        let all = standings(&[actor(None), actor(Some("a")), actor(Some("b"))], 100).unwrap();
        let expected = [[no, no, no], [yes, no, no], [yes, yes, no], [yes, no, yes], [unsure; 3]];
        assert!(all.len() == 5 && expected.iter().all(|standing| all.contains(&standing.to_vec())), "{all:?}");
        let all = standings(&[Fact::Fresh(600), Fact::Fresh(3_600)], 100).unwrap();
        let expected = [[no, no], [no, yes], [yes, yes]];
        assert!(all.len() == 3 && expected.iter().all(|standing| all.contains(&standing.to_vec())), "{all:?}");
    }

    #[test]
    fn facts_stand_as_a_caller_can_have_them() {
        let all = standings(&[claim(None), claim(Some("gold"))], 100).unwrap();
        let (yes, no, unsure) = (Truth::True, Truth::False, Truth::Unknown);
        assert_eq!(all.len(), 4);
        for standing in [[no, no], [yes, no], [yes, yes], [yes, unsure]] {
            assert!(all.contains(&standing.to_vec()), "{standing:?}");
        }
        let network = |text: &str| Fact::Network { trust: String::new(), network: text.parse().unwrap() };
        let all = standings(&[network("10.0.0.0/8"), network("10.1.0.0/16")], 100).unwrap();
        assert!(!all.contains(&vec![no, yes]) && all.contains(&vec![yes, no]) && all.len() == 4);
        let role = |word: &str| Fact::Listed { list: "roles".into(), word: word.into() };
        let all = standings(&[role("a"), role("b")], 100).unwrap();
        assert!(all.len() == 5 && !all.contains(&vec![unsure, yes]));
        assert_eq!(standings(&[role("a"), role("b")], 4), None);
    }
}
