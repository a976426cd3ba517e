//! The grammars of docs/policy.md, read from there: what they generate the engine accepts, and what it accepts they have.

use std::cell::RefCell;
use std::collections::BTreeMap;

use portcullis::authz::route::Pattern;
use portcullis::authz::rule::Rule;

use super::random::Dice;

/// A part of a grammar.
#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Name(String),
    /// One after the other.
    All(Vec<Part>),
    Either(Vec<Part>),
    /// Once or not at all.
    Maybe(Box<Part>),
    /// Any number of times.
    Many(Box<Part>),
}

struct Grammar {
    rules: BTreeMap<String, Part>,
    /// The names between whose parts blanks stand.
    spaced: &'static [&'static str],
    /// Characters that are `plain`.
    is_plain: fn(char) -> bool,
    /// Some of them, and some that are not.
    alphabet: &'static [&'static str],
    /// Where each name ends that begins somewhere in the text at hand.
    known: RefCell<BTreeMap<(String, usize), Vec<usize>>>,
}

/// The block of EBNF in the docs that defines this name first.
fn grammar(first: &str) -> BTreeMap<String, Part> {
    let docs = include_str!("../../../docs/policy.md");
    let blocks = docs.split("```ebnf\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let block = blocks.into_iter().find(|block| block.starts_with(first)).unwrap();
    let mut tokens = tokens(block).into_iter().peekable();
    let mut rules = BTreeMap::new();
    while let Some(name) = tokens.next() {
        assert_eq!(tokens.next().as_deref(), Some("="), "after {name}");
        let part = either(&mut tokens);
        assert_eq!(tokens.next().as_deref(), Some(";"), "at the end of {name}");
        assert!(rules.insert(name, part).is_none());
    }
    rules
}

fn tokens(block: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = block.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' if rest.starts_with("(*") => rest.find("*)").unwrap() + 2,
            '"' | '\'' => rest[1..].find(first).unwrap() + 2,
            c if c.is_ascii_alphanumeric() => {
                rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(rest.len())
            }
            _ => 1,
        };
        if !rest.starts_with("(*") {
            tokens.push(rest[..length].to_owned());
        }
        rest = rest[length..].trim_start();
    }
    tokens
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<String>>;

fn either(tokens: &mut Tokens) -> Part {
    let mut parts = vec![all(tokens)];
    while tokens.next_if_eq("|").is_some() {
        parts.push(all(tokens));
    }
    if parts.len() == 1 { parts.remove(0) } else { Part::Either(parts) }
}

fn all(tokens: &mut Tokens) -> Part {
    let mut parts = Vec::new();
    while let Some(token) = tokens.next_if(|token| !["|", ";", ")", "]", "}"].contains(&&**token)) {
        parts.push(match &*token {
            "(" | "[" | "{" => {
                let inner = either(tokens);
                _ = tokens.next();
                match &*token {
                    "(" => inner,
                    "[" => Part::Maybe(Box::new(inner)),
                    _ => Part::Many(Box::new(inner)),
                }
            }
            text if text.starts_with(['"', '\'']) => Part::Text(text[1..text.len() - 1].to_owned()),
            name => Part::Name(name.to_owned()),
        });
    }
    if parts.len() == 1 { parts.remove(0) } else { Part::All(parts) }
}

const ADDRESSES: [&str; 4] = ["::1", "2001:db8::1", "::", "fe80::1:2"];
const NETWORKS: [&str; 5] = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1", "0.0.0.0/0"];

impl Grammar {
    fn generate(&self, dice: &mut Dice, part: &Part, spaced: bool, deep: usize, text: &mut String) {
        let again = |dice: &mut Dice, part: &Part, text: &mut String| self.generate(dice, part, spaced, deep, text);
        match part {
            Part::Text(literal) => {
                if spaced && !(literal == ")" || text.ends_with('(') || text.is_empty()) {
                    text.push(' ');
                }
                text.push_str(literal);
            }
            Part::All(parts) => parts.iter().for_each(|part| again(dice, part, text)),
            Part::Either(parts) => {
                let at = if deep > 6 { parts.len() - 1 } else { dice.below(parts.len()) };
                again(dice, &parts[at], text);
            }
            Part::Maybe(part) => {
                if dice.one_in(2) {
                    again(dice, part, text);
                }
            }
            Part::Many(part) => (0..dice.below(3)).for_each(|_| again(dice, part, text)),
            Part::Name(name) => match self.rules.get(name) {
                Some(part) => {
                    let inner = self.spaced.contains(&&**name);
                    if spaced && !inner && !text.is_empty() && !text.ends_with('(') {
                        text.push(' ');
                    }
                    self.generate(dice, part, inner, deep + 1, text);
                }
                None => text.push_str(&self.terminal(dice, name)),
            },
        }
    }

    fn terminal(&self, dice: &mut Dice, name: &str) -> String {
        let from = |dice: &mut Dice, of: &[&str]| dice.pick(of).to_owned();
        match name {
            "upper" => from(dice, &["A", "G", "Z"]),
            "letter" => from(dice, &["a", "z", "A", "Q"]),
            "digit" => from(dice, &["0", "7"]),
            "hex" => from(dice, &["4", "6", "5"]),
            "ipv6" => from(dice, &ADDRESSES),
            "network" => from(dice, &NETWORKS),
            "plain" => loop {
                let text = dice.pick(self.alphabet);
                if text.chars().all(self.is_plain) {
                    return text.to_owned();
                }
            },
            "other" => loop {
                let text = dice.pick(self.alphabet);
                if !text.contains(['"', '\\']) && !text.contains(char::is_control) {
                    return text.to_owned();
                }
            },
            other => panic!("docs/policy.md does not say what `{other}` is"),
        }
    }

    /// Where in a text this may end that begins there.
    fn ends(&self, part: &Part, spaced: bool, text: &str, start: usize) -> Vec<usize> {
        let blank = |at: usize| text[at..].len() - text[at..].trim_start_matches([' ', '\t', '\n', '\r']).len();
        let parted = |end: &usize| {
            !spaced || text[*end..].is_empty() || text[*end..].starts_with([' ', '\t', '\n', '\r', '(', ')'])
        };
        let mut ends = match part {
            Part::Text(literal) => {
                let start = if spaced { start + blank(start) } else { start };
                let is_word = literal.starts_with(|c: char| c.is_ascii_alphabetic());
                let end = Some(start + literal.len()).filter(|_| text[start..].starts_with(&**literal));
                end.filter(|end| !is_word || parted(end)).into_iter().collect()
            }
            Part::All(parts) => parts.iter().fold(vec![start], |starts, part| {
                let mut ends: Vec<usize> =
                    starts.into_iter().flat_map(|start| self.ends(part, spaced, text, start)).collect();
                ends.sort_unstable();
                ends.dedup();
                ends
            }),
            Part::Either(parts) => parts.iter().flat_map(|part| self.ends(part, spaced, text, start)).collect(),
            Part::Maybe(part) => {
                let mut ends = self.ends(part, spaced, text, start);
                ends.push(start);
                ends
            }
            Part::Many(part) => {
                let mut ends = vec![start];
                let mut at = 0;
                while at < ends.len() {
                    for end in self.ends(part, spaced, text, ends[at]) {
                        if !ends.contains(&end) {
                            ends.push(end);
                        }
                    }
                    at += 1;
                }
                ends
            }
            Part::Name(name) => match self.rules.get(name) {
                Some(part) => {
                    let inner = self.spaced.contains(&&**name);
                    let start = if spaced { start + blank(start) } else { start };
                    let known = self.known.borrow().get(&(name.clone(), start)).cloned();
                    let mut ends = known.unwrap_or_else(|| {
                        let ends = self.ends(part, inner, text, start);
                        self.known.borrow_mut().insert((name.clone(), start), ends.clone());
                        ends
                    });
                    // A word ends where something else than `(` follows.
                    ends.retain(|end| inner || (parted(end) && !(spaced && text[*end..].starts_with('('))));
                    ends
                }
                None => self.terminal_ends(name, text, start),
            },
        };
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    fn terminal_ends(&self, name: &str, text: &str, start: usize) -> Vec<usize> {
        let one = |is: &dyn Fn(char) -> bool| -> Vec<usize> {
            let first = text[start..].chars().next().filter(|c| is(*c));
            first.map(|c| start + c.len_utf8()).into_iter().collect()
        };
        let parses = |is: &dyn Fn(&str) -> bool| -> Vec<usize> {
            let mut ends: Vec<usize> = text[start..].char_indices().map(|(at, c)| start + at + c.len_utf8()).collect();
            ends.retain(|end| is(&text[start..*end]));
            ends
        };
        match name {
            "upper" => one(&|c| c.is_ascii_uppercase()),
            "letter" => one(&|c| c.is_ascii_alphabetic()),
            "digit" => one(&|c| c.is_ascii_digit()),
            "hex" => one(&|c| c.is_ascii_hexdigit()),
            "plain" => one(&self.is_plain),
            "other" => one(&|c| !matches!(c, '"' | '\\') && !c.is_control()),
            "ipv6" => parses(&|text| text.parse::<std::net::Ipv6Addr>().is_ok()),
            "network" => {
                parses(&|text| text.parse::<ipnet::IpNet>().is_ok() || text.parse::<std::net::IpAddr>().is_ok())
            }
            other => panic!("docs/policy.md does not say what `{other}` is"),
        }
    }

    fn has(&self, name: &str, text: &str) -> bool {
        self.known.take();
        let inner = self.spaced.contains(&name);
        let text = if inner { text.trim_matches([' ', '\t', '\n', '\r']) } else { text };
        self.ends(&self.rules[name], inner, text, 0).contains(&text.len())
    }

    /// Generates this many texts and a near miss of each, and holds the engine to the grammar. The engine's error is the
    /// name of its kind.
    fn agree(&self, name: &str, times: u64, accepts: impl Fn(&str) -> Result<(), String>, limits: &[&str]) {
        let (mut whole, mut misses, mut limited) = (0, 0, 0);
        for seed in 0..times {
            let mut dice = Dice::new(seed);
            let mut text = String::new();
            self.generate(&mut dice, &self.rules[name], self.spaced.contains(&name), 0, &mut text);
            assert!(self.has(name, &text), "{text:?} is generated and not recognised");
            for is_near in [false, true] {
                if is_near {
                    self.mutate(&mut dice, &mut text);
                }
                match (self.has(name, &text), accepts(&text)) {
                    (true, Ok(())) => whole += 1,
                    (false, Err(_)) => misses += 1,
                    (false, Ok(())) => panic!("the engine accepts {text:?}, which docs/policy.md has not"),
                    (true, Err(kind)) => {
                        limited += 1;
                        assert!(limits.iter().any(|limit| kind.starts_with(limit)), "{text:?} is refused: {kind}");
                    }
                }
            }
        }
        assert!(whole > times / 3 && misses > times / 10 && limited < times, "{whole} {misses} {limited}");
    }

    fn mutate(&self, dice: &mut Dice, text: &mut String) {
        let marks = ["/", "*", "{", "}", " ", "\"", "\\", "(", ")", ":", "=", "?", ".", "-", "[", ","];
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let at = places[dice.below(places.len())];
        let what = if dice.one_in(2) { dice.pick(&marks) } else { dice.pick(self.alphabet) };
        match dice.below(3) {
            0 => _ = text.remove(at),
            1 => text.insert_str(at, what),
            _ => {
                _ = text.remove(at);
                text.insert_str(at, what);
            }
        }
    }
}

/// How a kind of fault is named.
fn kind(fault: impl std::fmt::Debug) -> String {
    format!("{fault:?}")
}

#[test]
fn route_keys_are_what_the_grammar_in_the_docs_says() {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !"/*{}?#;\\%".contains(c);
    let alphabet = &["a", "b", "A", "7", "-", "_", ".", "~", "é", "@", "%", ";", "#"];
    let grammar = Grammar { rules: grammar("key"), spaced: &[], is_plain, alphabet, known: RefCell::default() };
    let limits = [
        "Connect",
        "UnknownHosts",
        "MethodTwice",
        "CaptureTwice",
        "TooMany",
        "BadAddress",
        "BadHostPattern",
        "BadHost",
        "Loose",
        "DotSegment",
        "Refused",
        "BadEscape",
    ];
    let accepts = |text: &str| Pattern::parse(text).map(|_| ()).map_err(|error| kind(error.kind));
    grammar.agree("key", 2_000, accepts, &limits);
}

#[test]
fn rules_are_what_the_grammar_in_the_docs_says() {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !",=()[]{}*\"".contains(c);
    let alphabet = &["a", "b", "x", "7", "-", "_", ".", ":", "/", "é", "\\", "\"", " ", "="];
    let spaced = &["rule", "any-of", "all-of", "operand"];
    let mut rules = grammar("rule");
    // The grammar of keys has it.
    rules.insert("capture".to_owned(), self::grammar("key")["capture"].clone());
    let grammar = Grammar { rules, spaced, is_plain, alphabet, known: RefCell::default() };
    let limits = ["TooDeep", "TooManyWords", "TooLong", "MustQuoteWord", "HostBits", "BadClaimPath", "MustQuote('?')"];
    let accepts = |text: &str| Rule::parse(text).map(|_| ()).map_err(|error| kind(error.kind));
    grammar.agree("rule", 2_000, accepts, &limits);
}
