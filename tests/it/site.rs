//! A policy with throw-away keys of its issuers, ready to decide: through the core, and through the shell round it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use portcullis::authorizer::{Authorizer, Sealer};
use portcullis::authz::algorithm::Algorithm;
use portcullis::authz::decision_id::SealingKey;
use portcullis::authz::gateways::Gateways;
use portcullis::authz::identity::ClaimPath;
use portcullis::authz::introspection::{Introspected, OpaqueToken};
use portcullis::authz::issuer::{Issuer, IssuerPolicy, KeyState};
use portcullis::authz::keys::{KeySet, Origin};
use portcullis::authz::reason::Reason;
use portcullis::authz::snapshot::{NoNews, Question, Snapshot};
use portcullis::authz::time::Timestamp;
use portcullis::clock;
use portcullis::config::compile::compile;
use portcullis::config::error::Problems;
use portcullis::dev::mint::SigningKey;
use portcullis::live::{Answer, Asked, Live, Publisher};
use portcullis::observe::Recorder;
use portcullis::observe::audit::Audit;
use portcullis::observe::metrics::Metrics;
use portcullis::store::Store;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

/// The kid of every issuer's key: the same for all, so that only the issuer tells them apart.
pub const KID: &str = "k1";

/// How it stands with an issuer's keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    /// Fetched just now.
    #[default]
    Fresh,
    /// Never fetched.
    None,
    /// Fetched, but the last fetch failed.
    Failing,
    /// Fetched longer ago than they may be used.
    Stale,
    /// Fetched just now, of an issuer that the operator has suspended.
    Suspended,
}

/// A site: a policy, its keys, and who answers for it.
pub struct Site {
    pub live: Arc<Live>,
    pub authorizer: Arc<Authorizer>,
    pub sealing: Arc<SealingKey>,
    /// What issuers say of opaque tokens.
    pub answers: Answers,
    publisher: Publisher,
    signers: BTreeMap<String, SigningKey>,
}

/// What issuers say of opaque tokens: by the token, a text. Of any other one nothing can be learnt.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Answers(BTreeMap<String, String>);

impl Answers {
    /// What one says of a token. Times are written as `"now+5"`.
    pub fn of(&self, issuer: &Issuer, token: &OpaqueToken, now: Timestamp) -> Introspected {
        let answer = self.0.get(token.reveal()).map(|answer| {
            let quoted = answer.split('"').enumerate().map(|(at, part)| match timed(&part.into(), now).as_i64() {
                // A time in quotes becomes a number without.
                Some(time) => time.to_string(),
                None if at % 2 == 1 => format!("\"{part}\""),
                None => part.to_owned(),
            });
            quoted.collect::<String>().into_bytes()
        });
        issuer.introspected(token, answer.as_deref().ok_or(Reason::IntrospectionUnavailable), now)
    }
}

/// A token that is to be made.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Members of the header to set; null removes one.
    pub header: Map<String, Value>,
    /// The issuer whose key signs, where that is not the one whom the claims name.
    pub signed_by: Option<String>,
    /// The claims as text, in place of those of the case.
    pub claims_text: Option<String>,
    /// What is put in place of the signature.
    pub signature: Option<String>,
    /// Whether its parts are padded.
    pub padded: bool,
    /// What is appended to the finished token.
    pub tail: String,
}

impl Site {
    /// Compiles a policy, which must have no errors, and makes keys for its issuers that fetch theirs.
    pub fn open(policy: &str, keys: &BTreeMap<String, Keys>) -> Self {
        Self::try_open(policy, keys).unwrap_or_else(|problems| panic!("{}", problems.render(false)))
    }

    /// The same with issuers that say this of opaque tokens, to whoever asks through the shell as well.
    pub async fn answering(policy: &str, keys: &BTreeMap<String, Keys>, answers: Answers) -> Self {
        Self::answering_to(policy, keys, answers, |_| None).await
    }

    /// The same to other gateways than the policy's own.
    pub async fn answering_to(
        policy: &str,
        keys: &BTreeMap<String, Keys>,
        answers: Answers,
        gateways: impl FnOnce(&Gateways) -> Option<Gateways>,
    ) -> Self {
        let (site, mut questions) =
            Self::made(policy, keys, gateways).unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        let site = Self { answers: answers.clone(), ..site };
        tokio::spawn(async move {
            while let Some(Asked { question, issuer, reply }) = questions.recv().await {
                let answer = match question {
                    Question::Keys(_) | Question::Key(..) | Question::Unseen(_) => Answer::NoNews(NoNews::TooSoon),
                    Question::Introspect(_, token) => Answer::Introspected(answers.of(&issuer, &token, clock::now())),
                };
                let _ = reply.send(answer);
            }
        });
        site
    }

    /// The same for a policy that may have errors.
    pub fn try_open(policy: &str, keys: &BTreeMap<String, Keys>) -> Result<Self, Problems> {
        Self::made(policy, keys, |_| None).map(|(site, _)| site)
    }

    fn made(
        policy: &str,
        keys: &BTreeMap<String, Keys>,
        gateways: impl FnOnce(&Gateways) -> Option<Gateways>,
    ) -> Result<(Self, mpsc::Receiver<Asked>), Problems> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let (compiled, problems) = compile("policy.yaml", policy, &|file| std::fs::read(tests.join(file)));
        let mut compiled = compiled.ok_or(problems)?;
        if let Some(others) = gateways(&compiled.policy.gateways) {
            Arc::get_mut(&mut compiled.policy).unwrap().gateways = others;
        }
        let mut states: HashMap<Arc<str>, KeyState> = compiled.fixed;
        let mut signers = BTreeMap::new();
        let symmetric = |issuer: &IssuerPolicy| issuer.tokens.algorithms.iter().find(|alg| alg.is_symmetric());
        for issuer in compiled.policy.issuers.iter().filter(|issuer| issuer.fed || symmetric(issuer).is_some()) {
            let signer = SigningKey::generate(symmetric(issuer).unwrap_or_else(|| asymmetric(issuer)));
            let condition = keys.get(&*issuer.name).copied().unwrap_or_default();
            states.insert(Arc::clone(&issuer.name), state(issuer, &signer, condition));
            signers.insert(issuer.name.to_string(), signer);
        }
        for name in keys.keys() {
            assert!(signers.contains_key(name), "`keys:` names no issuer of the policy: {name}");
        }
        let (live, publisher, questions) = Live::new();
        publisher.publish_policy(compiled.policy, states);
        for (name, _) in keys.iter().filter(|(_, condition)| matches!(condition, Keys::Suspended)) {
            publisher.suspend(name, clock::now()).unwrap();
        }
        let sealing = Arc::new(SealingKey::new(b"0123456789abcdef0123456789abcdef").unwrap());
        let store = Store::memory();
        let recorder = Recorder::new(Audit::off(), Metrics::default().core());
        let sealer = Sealer::new(Arc::clone(&sealing), 1);
        let authorizer = Arc::new(Authorizer::new(Arc::clone(&live), recorder, sealer, store));
        Ok((Self { live, authorizer, sealing, answers: Answers::default(), publisher, signers }, questions))
    }

    /// What is published.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.live.snapshot().unwrap()
    }

    /// Forgets every token that was verified, by an issuer's keys coming anew with a key more.
    pub fn forget(&self) {
        for issuer in self.snapshot().issuers() {
            let Some(signer) = self.signers.get(&*issuer.policy().name).filter(|key| key.secret().is_none()) else {
                continue;
            };
            let more = SigningKey::generate(Algorithm::EdDsa).public_jwk(Some("more"));
            let keys = key_set(&[signer.public_jwk(Some(KID)), more]);
            self.publisher.publish_keys(issuer.policy(), KeyState { keys, ..issuer.state().clone() });
        }
    }

    /// The issuer of this name, or the first one.
    pub fn issuer(&self, name: Option<&str>) -> Arc<IssuerPolicy> {
        let snapshot = self.snapshot();
        let mut issuers = snapshot.issuers().iter().map(|issuer| issuer.policy());
        let found = issuers.find(|issuer| name.is_none_or(|name| *issuer.name == *name));
        Arc::clone(found.unwrap_or_else(|| panic!("the policy has no issuer {name:?}")))
    }

    /// Mints a token of these claims. `iss` is an issuer's name in the policy, `roles` goes where that issuer's claim
    /// path reads them, null removes a claim that is there by default, and `now+5` and `now-5` are times.
    pub fn token(&self, claims: &Map<String, Value>, recipe: &Recipe) -> String {
        let issuer = self.issuer(claims.get("iss").and_then(Value::as_str));
        let now = clock::now();
        let mut written = Map::new();
        let seconds = |at: Timestamp| Value::from(at.as_millis() / 1_000);
        written.insert("iss".into(), issuer.tokens.issuer.to_string().into());
        if let Some(tenants) = &issuer.tokens.tenants {
            let tenant = claims.get(&*tenants.claim).and_then(Value::as_str).unwrap_or(&tenants.any_of[0]);
            written.insert("iss".into(), tenants.iss(tenant).into());
            written.insert(tenants.claim.to_string(), tenant.into());
        }
        written.insert("sub".into(), "u1".into());
        written.insert("iat".into(), seconds(now));
        written.insert("exp".into(), seconds(now.plus(Duration::from_secs(300))));
        let audience = issuer.tokens.audience.any_of[0].to_string();
        put(&mut written, &issuer.tokens.audience.claim, audience.into());
        for (name, value) in claims.iter().filter(|(name, _)| *name != "iss") {
            let value = timed(value, now);
            match (&**name, &issuer.roles) {
                ("roles", Some(path)) => put(&mut written, path, value),
                _ if value.is_null() => _ = written.remove(name),
                _ => _ = written.insert(name.clone(), value),
            }
        }
        let signer = recipe.signed_by.as_deref().unwrap_or(&issuer.name);
        let signer = self.signers.get(signer).unwrap_or_else(|| panic!("nobody signs for {signer}"));
        let mut header = Map::from_iter([
            ("alg".to_owned(), json!(signer.algorithm().name())),
            ("typ".to_owned(), json!("JWT")),
            ("kid".to_owned(), json!(KID)),
        ]);
        if let Some(balancer) = issuer.tokens.balancers.first() {
            header.insert("signer".into(), balancer.to_string().into());
            header.insert("client".into(), written.remove("client").unwrap_or_default());
            header.insert("iss".into(), written["iss"].clone());
            header.insert("exp".into(), written.get("exp").cloned().unwrap_or_default());
        }
        for (name, value) in &recipe.header {
            if value.is_null() { _ = header.remove(name) } else { _ = header.insert(name.clone(), value.clone()) }
        }
        let claims = recipe.claims_text.clone().unwrap_or_else(|| Value::Object(written).to_string());
        let header = Value::Object(header).to_string();
        let mut token = if recipe.padded { padded(signer, &header, &claims) } else { signer.sign(&header, &claims) };
        if let Some(signature) = &recipe.signature {
            token.truncate(token.rfind('.').unwrap() + 1);
            token.push_str(signature);
        }
        token + &recipe.tail
    }
}

/// A token as AWS load balancers write it.
fn padded(signer: &SigningKey, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", URL_SAFE.encode(header), URL_SAFE.encode(claims));
    let signature = URL_SAFE.encode(signer.signature(message.as_bytes()));
    format!("{message}.{signature}")
}

fn key_set(keys: &[Value]) -> KeySet {
    let report = KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes(), Origin::Remote).unwrap();
    assert!(report.refused.is_empty());
    report.keys
}

fn state(issuer: &IssuerPolicy, signer: &SigningKey, condition: Keys) -> KeyState {
    let now = clock::now();
    let keys = signer.key_set(KID);
    let too_long = i64::try_from(issuer.max_stale.as_millis()).unwrap() + 60_000;
    match condition {
        Keys::Fresh | Keys::Suspended => {
            KeyState { keys, fetched: Some(now), attempted: Some(now), ..KeyState::default() }
        }
        Keys::None => KeyState::default(),
        Keys::Failing => {
            KeyState { keys, fetched: Some(now), attempted: Some(now), failed: true, ..KeyState::default() }
        }
        Keys::Stale => {
            let fetched = Some(Timestamp::from_millis(now.as_millis() - too_long));
            KeyState { keys, fetched, attempted: fetched, ..KeyState::default() }
        }
    }
}

/// Puts a value where a claim path reads it.
fn put(claims: &mut Map<String, Value>, path: &ClaimPath, value: Value) {
    let names: Vec<&str> = path.names().collect();
    let (last, above) = names.split_last().unwrap();
    let mut object = claims;
    for name in above {
        object = object.entry(*name).or_insert_with(|| json!({})).as_object_mut().unwrap();
    }
    if value.is_null() { _ = object.remove(*last) } else { _ = object.insert((*last).to_owned(), value) }
}

/// An algorithm that the issuer accepts, one with quickly made keys where there is one.
fn asymmetric(issuer: &IssuerPolicy) -> Algorithm {
    let accepted = issuer.tokens.algorithms;
    if accepted.contains(Algorithm::Es256) { Algorithm::Es256 } else { accepted.iter().next().unwrap() }
}

/// `now+5` and `now-5` as seconds.
pub fn timed(value: &Value, now: Timestamp) -> Value {
    let offset = value.as_str().and_then(|text| text.strip_prefix("now")).and_then(|text| text.parse::<i64>().ok());
    offset.map_or_else(|| value.clone(), |offset| (now.as_millis() / 1_000 + offset).into())
}
