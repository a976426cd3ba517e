//! OpenID AuthZEN Authorization API 1.0: would this subject's request pass? What is asked is asserted, not proven, so that
//! all that is answered is a boolean and its reason.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::write::string;
use super::{MAX_CHECK, catch};
use crate::authorizer::{Authorizer, Evaluator, NoEvaluator};
use crate::authz::asserted::{Evaluation, Kind, Lists, Subject};
use crate::authz::json::{Json, Object};
use crate::authz::request::{Asker, Malformed, Proof};
use crate::gateway::denial::sentence;

/// The path of one evaluation.
pub const EVALUATION: &str = "/access/v1/evaluation";
/// The path of several.
pub const EVALUATIONS: &str = "/access/v1/evaluations";
/// The path of what says where they are.
pub const METADATA: &str = "/.well-known/authzen-configuration";
/// How many evaluations one request may have.
pub const MOST: usize = 100;
/// What stands for the host of a resource that names none: no site has it (RFC 2606 §2).
const NO_HOST: &str = "host.invalid";

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// JSON where the status is 200; a sentence for people elsewhere.
    pub body: Bytes,
}

/// Why a request, or one of its evaluations, is none: a sentence that holds nothing of it.
type Fault = &'static str;

/// Answers one evaluation, or several of them where that is asked for.
pub fn evaluate(
    authorizer: &Authorizer,
    (asker, proof): (Asker, Proof<'_>),
    text: Result<Bytes, Malformed>,
    several: bool,
) -> Answer {
    let evaluator = match authorizer.evaluator(asker, &proof) {
        Ok(evaluator) => evaluator,
        Err(NoEvaluator::Off) => return said(404, ""),
        Err(NoEvaluator::Stranger) => return said(401, "The caller is not a client of this decision point."),
    };
    let answered = catch(|| answered(&evaluator, text, several));
    match answered.unwrap_or(Err("It cannot be answered right now.")) {
        Ok(body) => Answer { status: 200, body: body.into() },
        Err(fault) => said(400, fault),
    }
}

/// Whether anybody may ask at all.
#[must_use]
pub fn is_on(authorizer: &Authorizer) -> bool {
    authorizer.has_pdp_clients()
}

/// What says where to ask, at this scheme and authority.
#[must_use]
pub fn metadata(base: &str) -> Bytes {
    let mut to = br#"{"policy_decision_point":"#.to_vec();
    string(&mut to, base.as_bytes());
    for (name, path) in [("access_evaluation_endpoint", EVALUATION), ("access_evaluations_endpoint", EVALUATIONS)] {
        to.extend_from_slice(format!(",\"{name}\":").as_bytes());
        string(&mut to, format!("{base}{path}").as_bytes());
    }
    to.push(b'}');
    to.into()
}

fn said(status: u16, text: &'static str) -> Answer {
    Answer { status, body: Bytes::from_static(text.as_bytes()) }
}

fn answered(evaluator: &Evaluator<'_>, text: Result<Bytes, Malformed>, several: bool) -> Result<Vec<u8>, Fault> {
    let unread =
        "The body is not one JSON object without repeated members, or the request does not say that it is JSON.";
    let text = text.ok().filter(|text| text.len() <= MAX_CHECK).ok_or(unread)?;
    let asked = Object::parse(&text).map_err(|_| unread)?;
    let known: &[&str] = if several {
        &["subject", "action", "resource", "context", "evaluations", "options"]
    } else {
        &["subject", "action", "resource", "context"]
    };
    only(&asked, known, "The request has a member that AuthZEN 1.0 does not.")?;
    let mut to = Vec::with_capacity(256);
    let each = match asked.get("evaluations") {
        None => &[],
        Some(Json::List(each)) if each.len() <= MOST => &**each,
        Some(Json::List(_)) => return Err("There are more than 100 evaluations."),
        Some(_) => return Err("`evaluations` must be a list."),
    };
    let stop_at = semantic(asked.get("options"))?;
    if each.is_empty() {
        one(evaluator, &read(&[&asked])?, &mut to);
        return Ok(to);
    }
    to.extend_from_slice(br#"{"evaluations":["#);
    for (at, own) in each.iter().enumerate() {
        if at > 0 {
            to.push(b',');
        }
        let allowed = match evaluation(own, &asked) {
            Ok(evaluation) => one(evaluator, &evaluation, &mut to),
            Err(fault) => {
                to.extend_from_slice(br#"{"decision":false,"context":{"error":{"status":400,"message":"#);
                string(&mut to, fault.as_bytes());
                to.extend_from_slice(b"}}}");
                false
            }
        };
        if stop_at == Some(allowed) {
            break;
        }
    }
    to.extend_from_slice(b"]}");
    Ok(to)
}

/// At which decision no more are made.
fn semantic(options: Option<&Json>) -> Result<Option<bool>, Fault> {
    let Some(options) = options else { return Ok(None) };
    let options = object(options, "`options` must be an object.")?;
    match options.get("evaluations_semantic").map(Json::as_text) {
        None | Some(Some("execute_all")) => Ok(None),
        Some(Some("deny_on_first_deny")) => Ok(Some(false)),
        Some(Some("permit_on_first_permit")) => Ok(Some(true)),
        Some(_) => Err("`evaluations_semantic` is execute_all, deny_on_first_deny or permit_on_first_permit."),
    }
}

/// One of several, of which the request has the defaults.
fn evaluation(own: &Json, defaults: &Object) -> Result<Evaluation, Fault> {
    let own = object(own, "An evaluation must be an object.")?;
    only(own, &["subject", "action", "resource", "context"], "The evaluation has a member that AuthZEN 1.0 does not.")?;
    read(&[own, defaults])
}

/// Evaluates, and writes what came of it; whether it is allowed.
fn one(evaluator: &Evaluator<'_>, asked: &Evaluation, to: &mut Vec<u8>) -> bool {
    let (evaluated, id) = evaluator.evaluate(asked);
    let id = id.map(|id| id.to_string()).unwrap_or_default();
    let allowed = evaluated.allowed();
    to.extend_from_slice(if allowed {
        br#"{"decision":true,"context":{"id":"#
    } else {
        br#"{"decision":false,"context":{"id":"#
    });
    string(to, id.as_bytes());
    if let Some(reason) = evaluated.reason() {
        to.extend_from_slice(br#","reason_admin":{"en":"#);
        string(to, format!("{}: {}", reason.code(), reason.meaning()).as_bytes());
        to.extend_from_slice(br#"},"reason_user":{"en":"#);
        string(to, sentence(reason.status()).as_bytes());
        to.push(b'}');
    }
    to.extend_from_slice(b"}}");
    allowed
}

/// Reads an evaluation: each of its members from the first of these objects that has it.
fn read(of: &[&Object]) -> Result<Evaluation, Fault> {
    let member = |name: &str| of.iter().find_map(|object| object.get(name));
    let part = |name, fault| object(member(name).ok_or(fault)?, fault);
    let subject = part("subject", "An evaluation needs `subject`, an object.")?;
    let action = part("action", "An evaluation needs `action`, an object.")?;
    let resource = part("resource", "An evaluation needs `resource`, an object.")?;
    only(action, &["name", "properties"], "`action` has `name` and `properties`.")?;
    if let Some(properties) = action.get("properties") {
        object(properties, "`properties` of `action` must be an object.")?;
    }
    let method = text(action, "name", "`action` needs `name`, an HTTP method in capitals.")?;
    let (host, target) = place(resource)?;
    let address = match member("context") {
        None => None,
        Some(context) => match object(context, "`context` must be an object.")?.get("address") {
            None => None,
            Some(address) => Some(ip(address).ok_or("`address` of `context` must be an IP address.")?),
        },
    };
    Ok(Evaluation { subject: subject_of(subject)?, method: method.into(), host, target, address })
}

fn ip(address: &Json) -> Option<IpAddr> {
    address.as_text()?.parse().ok()
}

/// Host and target of a resource: `[host]/path` of its id, or what its properties say.
fn place(resource: &Object) -> Result<(Box<str>, Box<str>), Fault> {
    only(resource, &["type", "id", "properties"], "`resource` has `type`, `id` and `properties`.")?;
    if text(resource, "type", "`resource` needs `type`.")? != "route" {
        return Err("The `type` of a resource is `route`.");
    }
    let id = text(resource, "id", "`resource` needs `id`, a text: [host]/path.")?;
    let slash = id.find('/').unwrap_or(id.len());
    let (mut host, mut target) = id.split_at_checked(slash).unwrap_or_default();
    if let Some(properties) = resource.get("properties") {
        let properties = object(properties, "`properties` of `resource` must be an object.")?;
        only(properties, &["host", "path"], "`properties` of `resource` has `host` and `path`.")?;
        if properties.get("path").is_some() {
            (host, target) = ("", text(properties, "path", "`path` of `resource` must be a text.")?);
        }
        if properties.get("host").is_some() {
            host = text(properties, "host", "`host` of `resource` must be a text.")?;
        }
    }
    Ok((if host.is_empty() { NO_HOST.into() } else { host.into() }, target.into()))
}

fn subject_of(subject: &Object) -> Result<Subject, Fault> {
    only(subject, &["type", "id", "properties"], "`subject` has `type`, `id` and `properties`.")?;
    let kind = match text(subject, "type", "`subject` needs `type`.")? {
        "user" => Kind::User,
        "workload" => Kind::Workload,
        "app" => Kind::App,
        _ => return Err("The `type` of a subject is `user`, `workload` or `app`."),
    };
    let id = text(subject, "id", "`subject` needs `id`, a text.")?.into();
    let mut read = Subject { kind, id, issuer: None, lists: Lists::default(), claims: Object::default() };
    let Some(properties) = subject.get("properties") else { return Ok(read) };
    let properties = object(properties, "`properties` of `subject` must be an object.")?;
    let known: &[&str] = if kind == Kind::User { &["issuer", "roles", "groups", "scopes", "claims"] } else { &[] };
    only(
        properties,
        known,
        "`properties` of a user has `issuer`, `roles`, `groups`, `scopes` and `claims`; of others, nothing.",
    )?;
    if properties.get("issuer").is_some() {
        read.issuer = Some(text(properties, "issuer", "`issuer` must be a text.")?.into());
    }
    let list = |name| properties.get(name).map(names).transpose();
    read.lists = Lists { roles: list("roles")?, groups: list("groups")?, scopes: list("scopes")? };
    if let Some(claims) = properties.get("claims") {
        read.claims = object(claims, "`claims` must be an object.")?.clone();
    }
    Ok(read)
}

fn names(list: &Json) -> Result<Box<[Arc<str>]>, Fault> {
    let Json::List(names) = list else { return Err("Roles, groups and scopes are lists of texts.") };
    let names = names.iter().map(|name| name.as_text().map(Arc::from)).collect::<Option<_>>();
    names.ok_or("Roles, groups and scopes are lists of texts.")
}

fn object(json: &Json, otherwise: Fault) -> Result<&Object, Fault> {
    if let Json::Object(object) = json { Ok(object) } else { Err(otherwise) }
}

fn text<'j>(object: &'j Object, name: &str, otherwise: Fault) -> Result<&'j str, Fault> {
    object.get(name).and_then(Json::as_text).ok_or(otherwise)
}

fn only(object: &Object, names: &[&str], otherwise: Fault) -> Result<(), Fault> {
    if object.iter().all(|(name, _)| names.contains(&name)) { Ok(()) } else { Err(otherwise) }
}
