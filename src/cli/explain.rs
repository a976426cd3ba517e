//! `portcullis explain`: what the policy decides about one request and why, by the very code that serves traffic.
//! Exits with 0 where it is allowed, with 1 where it is denied, and with 2 where that cannot be told.

mod curl;
mod explanation;
mod gates;
mod miss;
mod moment;
mod near;
mod report;
mod scene;
mod shell;
mod token;
mod told;

use std::io::{IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value};

use self::curl::{Curl, CurlError, Url};
use self::explanation::Explanation;
use self::gates::explain;
use self::token::{Decoded, tokens_in};
use super::{PolicyFile, print};
use crate::authz::credential::query::without;
use crate::authz::issuer::{Issuer, IssuerId, KeyState};
use crate::authz::keys::KeySet;
use crate::authz::snapshot::{Facts, NoNews, Question, Snapshot};
use crate::authz::time::Timestamp;
use crate::clock;
use crate::config::Compiled;
use crate::config::file::{Ask, Who};
use crate::config::{Span, Spanned};
use crate::dev::rehearsal::{Call, Impossible, Rehearsal, throw_away};
use crate::feed::fetch::{Fetcher, Source};
use crate::feed::introspect::Asker;

/// The exit code of what cannot be told.
const UNTOLD: u8 = 2;

#[derive(Args)]
#[command(after_help = "Exits with 0 where the request is allowed, 1 where it is denied, 2 where that cannot be told.")]
pub(super) struct Explain {
    #[command(flatten)]
    policy: PolicyFile,
    /// A curl line after `--`, or in one pair of quotes; or a method and a URL; or a decision id
    #[arg(required = true, value_name = "REQUEST")]
    what: Vec<String>,
    /// The claims of the caller's token, as in the policy's tests: `{"sub":"u1","roles":["user"]}`
    #[arg(long, value_name = "JSON")]
    claims: Option<String>,
    /// Whose token it is, by the issuer's name in the policy
    #[arg(long, value_name = "NAME", requires = "claims")]
    issuer: Option<String>,
    /// Show the API key of this owner, or of this id
    #[arg(long, value_name = "OWNER")]
    key: Option<String>,
    /// A header of the request
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The address that the caller asks from
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// When it asks: seconds since 1970, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    now: Option<Timestamp>,
    /// Take a token for genuine: nothing but its signature, algorithm and key is passed over
    #[arg(long, conflicts_with = "claims")]
    unverified: bool,
    /// How to say it
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For reading
    Text,
    /// One JSON object
    Json,
}

/// Why nothing can be told. Holds no credential.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{0}")]
    Curl(#[from] CurlError),
    #[error("{0}")]
    Impossible(#[from] Impossible),
    #[error("{0}")]
    Untold(#[from] told::Untold),
    #[error(
        "not a request: `explain -- curl https://…`, `explain GET https://…`, or `explain` and a decision id of 76 \
         characters"
    )]
    NoRequest,
    #[error("--claims is not a JSON object of claims, with `roles` as a list of texts")]
    Claims,
    #[error("-H is not `Name: value`")]
    Header,
    #[error("{}", no_keys(.0, .1))]
    NoKeys(String, String),
}

fn no_keys(issuer: &str, why: &str) -> String {
    format!(
        "the token cannot be verified: the keys of the issuer `{issuer}` are to be fetched, and {why}\n  \
         --unverified explains the rest as if the signature held; --claims '{{\"sub\":\"u1\"}}' needs no token"
    )
}

/// The request to explain.
struct Wanted {
    ask: Ask,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    notes: Vec<String>,
}

impl Explain {
    pub fn run(self) -> ExitCode {
        let Some(compiled) = self.policy.load() else { return ExitCode::from(UNTOLD) };
        match self.told(&compiled) {
            Ok((text, allowed)) => {
                print(text);
                ExitCode::from(u8::from(!allowed))
            }
            Err(fault) => {
                // Nobody is left to tell where this fails.
                let _ = writeln!(std::io::stderr().lock(), "error: {fault}");
                ExitCode::from(UNTOLD)
            }
        }
    }

    /// The text to print, and whether it is about an allow.
    fn told(&self, compiled: &Compiled) -> Result<(String, bool), Fault> {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        if let Some(id) = self.id() {
            let opened = told::open(compiled, id)?;
            let text = if self.format == Form::Json { json(&opened) } else { report::opened(&opened, colours) };
            return Ok((text, opened.allowed));
        }
        let mut wanted = self.wanted()?;
        let given = wanted.headers.iter().map(|(_, value)| value).map(String::as_str).chain([&*wanted.ask.target]);
        let mut tokens: Vec<String> = given.flat_map(tokens_in).map(str::to_owned).collect();
        let explanation = self.explanation(compiled, &mut wanted)?;
        tokens.extend(tokens_in(&wanted.ask.target).map(str::to_owned));
        let text = if self.format == Form::Json { json(&explanation) } else { report::text(&explanation, colours) };
        let text = tokens.iter().fold(text, |text, token| text.replace(token, "(token)"));
        Ok((text, explanation.verdict.allowed))
    }

    /// The one word that is no line, no path and no URL.
    fn id(&self) -> Option<&str> {
        match self.what.as_slice() {
            [word]
                if word != "curl"
                    && word.trim().bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) =>
            {
                Some(word)
            }
            _ => None,
        }
    }

    fn wanted(&self) -> Result<Wanted, Fault> {
        let (method, url) = match self.what.as_slice() {
            [first, ..] if first == "curl" || first == "$" => return self.pasted(Curl::from_words(&self.what)?),
            [line] if line.split_whitespace().find(|word| *word != "$") == Some("curl") => {
                return self.pasted(Curl::from_line(line)?);
            }
            [url] => ("GET", url),
            [method, url] => (method.as_str(), url),
            _ => return Err(Fault::NoRequest),
        };
        let (host, target, notes) = if url.starts_with('/') {
            (None, url.clone(), Vec::new())
        } else {
            let url = Url::read(url, true)?;
            (Some(url.host), url.target, url.notes)
        };
        let mut headers = self.headers()?;
        let named = headers.iter().position(|(name, _)| name == "host").map(|at| headers.remove(at).1);
        let host = named.or(host).map(String::into_boxed_str);
        Ok(Wanted { ask: Ask { method: method.into(), host, target: target.into() }, headers, notes })
    }

    fn pasted(&self, curl: Curl) -> Result<Wanted, Fault> {
        let Curl { method, host, target, mut headers, notes } = curl;
        headers.extend(self.headers()?);
        Ok(Wanted {
            ask: Ask { method: method.into(), host: Some(host.into()), target: target.into() },
            headers,
            notes,
        })
    }

    fn headers(&self) -> Result<Vec<(String, String)>, Fault> {
        let pair = |text: &String| {
            let (name, value) = text.split_once(':').ok_or(Fault::Header)?;
            Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        };
        self.headers.iter().map(pair).collect()
    }

    fn who(&self) -> Result<Who, Fault> {
        let Some(claims) = &self.claims else { return Ok(Who::Anonymous) };
        let mut claims: Map<String, Value> = serde_json::from_str(claims).map_err(|_| Fault::Claims)?;
        let text = |value: Value| value.as_str().map(Box::from).ok_or(Fault::Claims);
        let named = claims.remove("iss").map(text).transpose()?;
        let issuer = self.issuer.as_deref().map(Box::from).or(named);
        let roles = match claims.remove("roles") {
            Some(Value::Array(roles)) => Some(roles.into_iter().map(text).collect::<Result<_, _>>()?),
            Some(_) => return Err(Fault::Claims),
            None => None,
        };
        let nowhere = Span::START;
        Ok(Who::Token { issuer: issuer.map(|name| Spanned::new(name, nowhere)), roles, claims })
    }

    fn explanation(&self, compiled: &Compiled, wanted: &mut Wanted) -> Result<Explanation, Fault> {
        let now = self.now.unwrap_or_else(clock::now);
        let rehearsal = Rehearsal::at(compiled, now).with_keys(self.key.iter().map(String::as_str));
        if self.unverified {
            take_for_genuine(&rehearsal, wanted);
        }
        let who = self.who()?;
        let headers: Vec<(&str, &str)> =
            wanted.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let call = Call {
            who: &who,
            ask: &wanted.ask,
            from: self.from,
            service: None,
            key: self.key.as_deref(),
            browser: false,
            headers: &headers,
            dpop: None,
            certificate: None,
        };
        let by = |snapshot: &Snapshot, facts: &Facts| {
            rehearsal.stage(&call, |request| explain(snapshot, request, facts, now))
        };
        let own = !self.unverified && self.claims.is_none() && self.key.is_none();
        let mut explanation = if own {
            match by(&snapshot(compiled, None), &Facts::default())? {
                Ok(explanation) => explanation,
                Err(question) => {
                    let (snapshot, facts, note) = asked(compiled, &question, now)?;
                    wanted.notes.push(note);
                    by(&snapshot, &facts)?.map_err(|question| unanswered(compiled, &question))?
                }
            }
        } else {
            let mut facts = Facts::default();
            match by(rehearsal.snapshot(), &facts)? {
                Ok(explanation) => explanation,
                Err(question) => {
                    rehearsal.learn(&question, &mut facts);
                    by(rehearsal.snapshot(), &facts)?.map_err(|question| unanswered(compiled, &question))?
                }
            }
        };
        if !own {
            // Those of a throw-away key would only mislead.
            explanation.gates.iter_mut().for_each(|gate| gate.details.retain(|d| d.what != "alg" && d.what != "kid"));
        }
        if self.claims.is_some() {
            explanation.notes.push("the token was made for this explanation, of --claims".to_owned());
        }
        explanation.notes.append(&mut wanted.notes);
        let Ask { method, host, target } = &wanted.ask;
        let (path, query) = target.split_once('?').map_or((&**target, None), |(path, query)| (path, Some(query)));
        let query = query.map(|query| format!("?{}", without(query, compiled.policy.carriers.queries())));
        let host = host.as_deref().unwrap_or_default();
        explanation.sent = format!("{method} {host}{path}{}", query.unwrap_or_default());
        Ok(explanation)
    }
}

/// The policy with the issuers' own keys, as far as they are in files, and with those of one issuer that were fetched.
fn snapshot(compiled: &Compiled, fetched: Option<(&str, KeyState)>) -> Snapshot {
    let issuers = compiled.policy.issuers.iter().map(|policy| {
        let fetched = fetched.as_ref().filter(|(name, _)| **name == *policy.name).map(|(_, state)| state);
        let state = fetched.or_else(|| compiled.fixed.get(&policy.name)).cloned().unwrap_or_default();
        Arc::new(Issuer::new(Arc::clone(policy), state))
    });
    Snapshot::new(1, Arc::clone(&compiled.policy), issuers.collect()).minting_with(throw_away())
}

/// Learns what the core asks for, as `serve` does: by what to decide then, and a note about it.
fn asked(compiled: &Compiled, question: &Question, now: Timestamp) -> Result<(Snapshot, Facts, String), Fault> {
    match question {
        Question::Keys(id) | Question::Key(id, _) => {
            let (issuer, keys, note) = fetched(compiled, *id)?;
            let state = KeyState { keys, fetched: Some(now), attempted: Some(now), ..KeyState::default() };
            let facts = Facts { keys: Some((*id, NoNews::Unknown)), ..Facts::default() };
            Ok((snapshot(compiled, Some((&issuer, state))), facts, note))
        }
        // Only those who serve know: the explanation itself takes it for the first time.
        Question::Unseen(_) => Err(unanswered(compiled, question)),
        Question::Introspect(id, token) => {
            let snapshot = snapshot(compiled, None);
            let issuer = snapshot.issuers().get(usize::from(id.0)).cloned();
            let issuer = issuer.ok_or_else(|| unanswered(compiled, question))?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|_| unanswered(compiled, question))?;
            let name = &issuer.policy().name;
            let answer = runtime.block_on(Asker::of(issuer.policy()).ask(issuer.policy(), token));
            let note = match &answer {
                Ok(_) => format!("{name} was asked about the token just now; a portcullis that runs may remember more"),
                Err(error) => format!("{name} was asked about the token just now, in vain: {error}"),
            };
            let told = issuer.introspected(token, answer.as_deref().map_err(|error| error.reason()), now);
            Ok((snapshot, Facts { introspected: Some(told), ..Facts::default() }, note))
        }
    }
}

/// That a question stays open.
fn unanswered(compiled: &Compiled, question: &Question) -> Fault {
    let name = match question {
        Question::Keys(id) | Question::Key(id, _) | Question::Introspect(id, _) => {
            compiled.policy.issuers.get(usize::from(id.0))
        }
        Question::Unseen(_) => None,
    };
    let name = name.map(|issuer| issuer.name.to_string());
    Fault::NoKeys(name.unwrap_or_default(), "there are none".to_owned())
}

/// Fetches the keys of an issuer, as `serve` does: its name, its keys, and a note about it.
fn fetched(compiled: &Compiled, id: IssuerId) -> Result<(Arc<str>, KeySet, String), Fault> {
    let issuer = compiled.policy.issuers.get(usize::from(id.0));
    let name = issuer.map_or_else(|| Arc::from(""), |issuer| Arc::clone(&issuer.name));
    let fault = |why: String| Fault::NoKeys(name.to_string(), why);
    let feed = compiled.feeds.iter().find(|feed| feed.issuer.name == name);
    let source = Source::of(feed.ok_or_else(|| fault("nothing says from where".to_owned()))?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| fault(error.kind().to_string()))?;
    let fetched = runtime.block_on(Fetcher::new().fetch(&source));
    let keys = fetched.map_err(|error| fault(format!("{} gave none: {error}", source.shown())))?.keys;
    let note = format!("the keys of {name} were fetched just now; a portcullis that runs may have older ones");
    Ok((name, keys, note))
}

/// Puts a token of the same claims in place of each that the request has, signed with the throw-away key of the issuer
/// that its `iss` names: the core then checks it like any other.
fn take_for_genuine(rehearsal: &Rehearsal, wanted: &mut Wanted) {
    let issuers = &rehearsal.snapshot().policy().issuers;
    let remade = |token: &str| {
        let decoded = Decoded::of(token.as_bytes());
        let typ = decoded.header.as_ref()?.get("typ").and_then(Value::as_str);
        let iss = decoded.claim("iss")?.as_str()?;
        let at = issuers.iter().position(|issuer| issuer.tokens.names(iss))?;
        rehearsal.sign(IssuerId(u16::try_from(at).ok()?), typ, &decoded.claims.as_ref()?.1)
    };
    let mut taken = false;
    let mut target = wanted.ask.target.to_string();
    for value in wanted.headers.iter_mut().map(|(_, value)| value).chain([&mut target]) {
        let tokens: Vec<(String, String)> =
            tokens_in(value).filter_map(|token| Some((token.to_owned(), remade(token)?))).collect();
        for (token, remade) in tokens {
            *value = value.replace(&token, &remade);
            taken = true;
        }
    }
    wanted.ask.target = target.into();
    wanted.notes.push(if taken {
        "UNVERIFIED: the token's signature, alg and kid were NOT checked; anyone could have written it".to_owned()
    } else {
        "--unverified changed nothing: the request has no token whose iss is an issuer of this policy".to_owned()
    });
}

fn json(value: &impl Serialize) -> String {
    // These are strings, numbers and lists: writing them does not fail.
    serde_json::to_string_pretty(value).map(|text| text + "\n").unwrap_or_default()
}

#[cfg(test)]
mod tests;
