//! The engine and the reference, asked the same.

use std::collections::{BTreeMap, BTreeSet};

use portcullis::authz::decision::{Decision, Verdict};
use portcullis::authz::json::Json;
use portcullis::authz::request::Asker;
use portcullis::clock;
use serde_json::{Map, Value, json};

use super::decide::{Answer, decide};
use super::model::{Policy, Question, Token};
use super::near;
use super::random::{self, Dice};
use super::seen::{count, note, take};
use crate::doors::{self, Asked, Http};
use crate::site::{Recipe, Site};

const QUESTIONS: u64 = 500;

/// The engine with a policy, and the tokens as they are.
struct Engine {
    site: Site,
    /// As the reference writes them, and as they are.
    tokens: BTreeMap<String, String>,
}

impl Engine {
    /// `Err`: the code of why the policy does not load.
    fn load(policy: &Policy, tokens: &[Token]) -> Result<Self, &'static str> {
        let site = Site::try_open(&policy.print(), &BTreeMap::new()).map_err(|problems| {
            let error = problems.as_slice().iter().find(|problem| problem.severity.word() == "error");
            error.unwrap().code
        })?;
        let is_there = |token: &Token| policy.issuers.iter().any(|issuer| issuer.name == token.issuer);
        if !tokens.iter().all(is_there) {
            return Err("no_issuer");
        }
        let tokens = tokens.iter().map(|token| (token.text.clone(), minted(&site, policy, token))).collect();
        Ok(Self { site, tokens })
    }

    fn answer(&self, question: &Question) -> Answer {
        let real = |value: &str| match value.find('<') {
            Some(at) => format!("{}{}", &value[..at], self.tokens[&value[at..]]),
            None => value.to_owned(),
        };
        let http = Http {
            method: question.method.clone(),
            target: question.target.clone(),
            host: question.host.clone(),
            lines: question.lines.iter().map(|(name, value)| (name.clone(), real(value))).collect(),
        };
        let asker = question.peer.map_or(Asker::Unix, Asker::Tcp);
        let asked = Asked { asker, source: question.source, beside: Default::default(), http: Some(http) };
        let decision = doors::decide(&self.site.snapshot(), &self.site.answers, &asked, clock::now(), &mut ());
        upstream(&decision, question)
    }
}

fn minted(site: &Site, policy: &Policy, token: &Token) -> String {
    let now = clock::now().as_millis() / 1_000;
    let timed = |value: &Value| match value.as_str().and_then(|text| text.strip_prefix("now")) {
        Some(offset) => json!(now + offset.parse::<i64>().unwrap()),
        None => value.clone(),
    };
    let mut claims: Map<String, Value> =
        token.claims.iter().map(|(name, value)| (name.clone(), timed(value))).collect();
    claims.insert("iss".into(), format!("https://{}.test", token.issuer).into());
    let other = policy.issuers.iter().find(|issuer| issuer.name != token.issuer);
    let recipe = Recipe {
        claims_text: Some(Value::Object(claims).to_string()),
        signed_by: other.filter(|_| token.forged).map(|other| other.name.clone()),
        // A signature of the right length that is none.
        signature: (token.forged && other.is_none()).then(|| "A".repeat(86)),
        ..Recipe::default()
    };
    site.token(&Map::from_iter([("iss".to_owned(), json!(token.issuer))]), &recipe)
}

/// What the upstream gets of a decision.
fn upstream(decision: &Decision, question: &Question) -> Answer {
    let grant = match decision.verdict() {
        Verdict::Deny(denial) => return Answer::Deny(denial.reason().code()),
        Verdict::Allow(grant) => grant,
    };
    let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let set: BTreeMap<String, String> = grant.set().map(|(name, value)| (text(name), text(value))).collect();
    let removed: BTreeSet<String> = grant.remove().map(text).collect();
    let stays = |name: &String| !name.starts_with(':') && !set.contains_key(name) && !removed.contains(name);
    let mut lines: BTreeSet<(String, String)> =
        question.lines.iter().filter(|(name, _)| stays(name)).cloned().collect();
    lines.extend(set.clone());
    let metadata = grant.metadata().iter().map(|(key, value)| (text(key), plain(value)));
    Answer::Allow(lines, metadata.collect())
}

fn plain(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(is) => (*is).into(),
        Json::Number(number) => number.clone().into(),
        Json::Text(text) => text.to_string().into(),
        Json::List(all) => all.iter().map(plain).collect(),
        Json::Object(object) => object.iter().map(|(name, member)| (name.to_owned(), plain(member))).collect(),
    }
}

/// A disagreement, made as small as it gets.
fn shrink(policy: &Policy, tokens: &[Token], question: &Question) -> String {
    let is_used = |token: &&Token| question.lines.iter().any(|(_, value)| value.ends_with(&token.text));
    let tokens = &tokens.iter().filter(is_used).cloned().collect::<Vec<_>>();
    let disagree = |policy: &Policy, question: &Question| {
        let Ok(engine) = Engine::load(policy, tokens) else { return false };
        engine.answer(question) != decide(policy, tokens, question)
    };
    let (mut policy, mut question) = (policy.clone(), question.clone());
    let mut again = true;
    while again {
        again = false;
        for smaller in smaller_policies(&policy) {
            if disagree(&smaller, &question) {
                (policy, again) = (smaller, true);
                break;
            }
        }
        for smaller in smaller_questions(&question) {
            if disagree(&policy, &smaller) {
                (question, again) = (smaller, true);
                break;
            }
        }
    }
    let engine = Engine::load(&policy, tokens).ok().unwrap().answer(&question);
    let reference = decide(&policy, tokens, &question);
    format!("{}\n{question:?}\n{}\nengine    {engine:?}\nreference {reference:?}\n", policy.print(), told(tokens))
}

fn told(tokens: &[Token]) -> String {
    let one = |token: &Token| {
        let claims = Value::Object(token.claims.clone());
        format!("{} of {}{}: {claims}", token.text, token.issuer, if token.forged { ", forged" } else { "" })
    };
    tokens.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn smaller_policies(policy: &Policy) -> Vec<Policy> {
    let mut all = Vec::new();
    macro_rules! without {
        ($($field:ident),+) => {
            $(for at in 0..policy.$field.len() {
                let mut smaller = policy.clone();
                _ = smaller.$field.remove(at);
                all.push(smaller);
            })+
        };
    }
    without!(routes, guards, forbids, roles, headers, metadata, kept, gateways, paths, issuers);
    let mut with = |change: &dyn Fn(&mut Policy)| {
        let mut smaller = policy.clone();
        change(&mut smaller);
        all.push(smaller);
    };
    for at in 0..policy.routes.len() {
        if !policy.routes[at].issuers.is_empty() {
            with(&|policy| policy.routes[at].issuers.clear());
        }
        if !policy.routes[at].key.methods.is_empty() {
            with(&|policy| policy.routes[at].key.methods.clear());
        }
        if policy.routes[at].key.host.is_some() {
            with(&|policy| policy.routes[at].key.host = None);
        }
        for rule in smaller_rules(&policy.routes[at].allow) {
            with(&|policy| policy.routes[at].allow = rule.clone());
        }
    }
    for at in 0..policy.guards.len() {
        for rule in smaller_rules(&policy.guards[at].1) {
            with(&|policy| policy.guards[at].1 = rule.clone());
        }
    }
    for at in 0..policy.forbids.len() {
        for rule in smaller_rules(&policy.forbids[at].1) {
            with(&|policy| policy.forbids[at].1 = rule.clone());
        }
    }
    for at in 0..policy.issuers.len() {
        if policy.issuers[at].require.is_some() {
            with(&|policy| policy.issuers[at].require = None);
        }
    }
    all
}

fn smaller_rules(rule: &super::model::Rule) -> Vec<super::model::Rule> {
    use super::model::{Rule, Word};
    let mut all = match rule {
        Rule::Public | Rule::Anyone | Rule::Word(Word::SignedIn) => return Vec::new(),
        Rule::Word(_) => Vec::new(),
        Rule::Not(rule) => vec![(**rule).clone()],
        Rule::Any(rules) | Rule::All(rules) => rules.clone(),
    };
    all.push(Rule::Word(Word::SignedIn));
    all
}

fn smaller_questions(question: &Question) -> Vec<Question> {
    let mut all = Vec::new();
    for at in 0..question.lines.len() {
        if !question.lines[at].0.starts_with(':') {
            let mut smaller = question.clone();
            _ = smaller.lines.remove(at);
            all.push(smaller);
        }
    }
    let mut with_target = |target: String| {
        let mut smaller = question.clone();
        smaller.lines.iter_mut().filter(|(name, _)| name == ":path").for_each(|(_, path)| *path = target.clone());
        smaller.target = target;
        all.push(smaller);
    };
    if let Some((path, _)) = question.target.split_once('?') {
        with_target(path.to_owned());
    }
    let segments: Vec<&str> = question.target.split('/').collect();
    for at in 1..segments.len() {
        let mut fewer = segments.clone();
        _ = fewer.remove(at);
        if fewer.len() > 1 {
            with_target(fewer.join("/"));
        }
    }
    all
}

/// The disagreements, and what came up in a part of the questions.
type Outcome = (Vec<String>, BTreeMap<&'static str, u64>);

/// How often each thing that matters comes up at least, in the first hundred policies of a worker.
const FLOORS: &[(&str, u64)] = &[
    ("a derived role", 5),
    ("a derived role that is not there", 2),
    ("a gateway that is not believed", 100),
    ("a guard covers", 100),
    ("a header in base64url", 100),
    ("a header in json", 100),
    ("a header with commas", 50),
    ("a header of the always-list", 100),
    ("a header of the caller is removed", 100),
    ("a header that is kept", 10),
    ("a managed header is not there", 500),
    ("a role that the issuer may not grant", 100),
    ("a subject like another issuer's", 20),
    ("an address in a header", 50),
    ("an address of X-Forwarded-For", 50),
    ("an alias of a managed header", 20),
    ("allow", 1000),
    ("claim= true", 30),
    ("claim= false", 300),
    ("claim= unknown", 50),
    ("claim={} true", 1),
    ("claim={} false", 100),
    ("claim={} unknown", 5),
    ("claim? true", 100),
    ("claim? false", 30),
    ("group true", 30),
    ("group false", 100),
    ("group unknown", 30),
    ("issuer true", 20),
    ("issuer false", 20),
    ("network true", 15),
    ("network false", 25),
    ("network unknown", 100),
    ("owner true", 3),
    ("owner false", 50),
    ("role true", 10),
    ("role false", 200),
    ("role unknown", 50),
    ("scope true", 100),
    ("scope false", 200),
    ("scope unknown", 50),
    ("signed-in true", 50),
    ("signed-in false", 3),
    ("backslash", 10),
    ("double_encoding", 10),
    ("empty_segment", 50),
    ("encoded_slash", 10),
    ("semicolon", 10),
    ("specificity: host", 300),
    ("specificity: a literal", 300),
    ("specificity: a prefix", 100),
    ("specificity: a longer prefix", 1),
    ("specificity: a capture", 300),
    ("specificity: an end", 50),
    ("specificity: methods", 100),
    ("audience_refused", 100),
    ("credential_ambiguous", 50),
    ("credential_missing", 300),
    ("cross_site", 10),
    ("fact_unknown", 80),
    ("forbidden", 50),
    ("guard_unmet", 15),
    ("header_malformed", 30),
    ("header_value_refused", 40),
    ("headers_filtered", 20),
    ("host_ambiguous", 3),
    ("host_malformed", 10),
    ("issuer_refused", 300),
    ("method_malformed", 10),
    ("no_route", 500),
    ("path_backslash", 50),
    ("path_dot_segment", 80),
    ("path_double_encoded", 80),
    ("path_empty_segment", 300),
    ("path_encoded_slash", 80),
    ("path_malformed", 100),
    ("path_missing", 3),
    ("path_parameter", 100),
    ("path_variant", 150),
    ("requirement_unmet", 100),
    ("rule_unmet", 200),
    ("scope_missing", 30),
    ("signature_invalid", 100),
    ("token_expired", 100),
    ("token_malformed", 50),
    ("token_not_yet_valid", 20),
    ("unknown_host", 20),
];

/// Asks this many times, beginning at a seed, and gives the disagreements, this many at most.
fn ask(pairs: u64, seed: u64, most: usize) -> Outcome {
    let mut disagreements = Vec::new();
    let mut asked = 0;
    let mut at = seed;
    let mut loaded = 0;
    while asked < pairs && disagreements.len() < most {
        count(loaded < 100);
        let mut dice = Dice::new(at);
        at += 1;
        let policy = random::policy(&mut dice);
        let tokens = random::tokens(&mut dice, &policy);
        let engine = match Engine::load(&policy, &tokens) {
            Ok(engine) => engine,
            Err(code) => {
                note(code);
                continue;
            }
        };
        note("a policy");
        loaded += 1;
        for _ in 0..QUESTIONS {
            let question = near::question(&mut dice, &policy);
            let reference = decide(&policy, &tokens, &question);
            asked += 1;
            note(match reference {
                Answer::Deny(code) => code,
                Answer::Allow(..) => "allow",
            });
            if engine.answer(&question) != reference {
                disagreements.push(format!("seed {}\n{}", at - 1, shrink(&policy, &tokens, &question)));
                break;
            }
        }
    }
    (disagreements, take())
}

/// On a laptop; CI asks a million times, and `PORTCULLIS_PAIRS=10000000` says how many by hand.
const PAIRS: u64 = 50_000;

#[test]
fn the_engine_agrees_with_a_naive_reading_of_the_docs() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let pairs = number("PORTCULLIS_PAIRS", if is_ci { 1_000_000 } else { PAIRS });
    let seed = number("PORTCULLIS_SEED", 1);
    let workers = if pairs > PAIRS { 2 } else { 1 };
    let share = |worker: u64| ask(pairs / workers, seed + worker * 1_000_000_000, 1);
    let mut results: Vec<Outcome> = std::thread::scope(|scope| {
        let share = &share;
        let threads: Vec<_> = (0..workers).map(|worker| scope.spawn(move || share(worker))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let disagreements: Vec<String> = results.iter_mut().flat_map(|(all, _)| std::mem::take(all)).collect();
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n=====\n"));
    let seen = &results[0].1;
    for (what, least) in FLOORS {
        let times = seen.get(what).copied().unwrap_or(0);
        assert!(times >= *least, "{what} came up {times} times: {seen:#?}");
    }
}
