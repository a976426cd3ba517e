//! An OpenAPI description (3.0, 3.1) beside a policy: operations that no route covers, or that one covers otherwise than it says.

use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::{Map, Value};
use url::Url;

use super::route::admits_anonymous;
use super::shape::{Host, Shape};
use crate::authz::policy::{Policy, Route};
use crate::authz::route::Found;

/// What a path parameter is taken to be: no key has it as a literal.
const PARAMETER: &str = "any-parameter";
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// What is to be told of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// No route covers it: everyone is denied.
    Uncovered,
    /// It has `security`, and its route lets everyone pass.
    OpenButSecured,
    /// It says `security: []`, and its route needs an identity.
    ClosedButPublic,
    /// Only a route that ends in `**` covers it.
    CatchAll,
    /// It stands in another file.
    NotRead,
}

/// An operation of which something is to be told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Operation {
    /// What.
    pub finding: Finding,
    /// Its method, in capitals; empty where a whole path is meant.
    pub method: String,
    /// Its path, as the description writes it.
    pub path: String,
    /// The key of its route.
    pub route: Option<String>,
}

/// How a description fits a policy.
#[derive(Clone, Debug, Serialize)]
pub struct Coverage {
    /// How many operations there are.
    pub operations: usize,
    /// Those of which something is to be told.
    pub findings: Vec<Operation>,
}

impl Finding {
    /// Whether the two should not go together.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Uncovered | Self::OpenButSecured | Self::NotRead)
    }
}

/// Compares a description with a policy. `host` is the site's own, for servers that name none.
///
/// # Errors
/// Where it is no OpenAPI 3 description.
pub fn examine(policy: &Policy, host: Option<&str>, description: &Value) -> Result<Coverage, String> {
    let version = description.get("openapi").map(|version| version.to_string().replace('"', "")).unwrap_or_default();
    if !version.starts_with("3.") {
        return Err("this is no OpenAPI 3 description: it has no `openapi: 3.x`".into());
    }
    let no_paths = Map::new();
    let paths = match description.get("paths") {
        None => &no_paths,
        Some(paths) => paths.as_object().ok_or("`paths` must be a map")?,
    };
    let hosts = hosts(policy, host);
    let mut coverage = Coverage { operations: 0, findings: Vec::new() };
    for (path, item) in paths.iter().filter(|(path, _)| path.starts_with('/')) {
        let Some(item) = resolved(description, item) else {
            let (method, path) = (String::new(), path.clone());
            coverage.findings.push(Operation { finding: Finding::NotRead, method, path, route: None });
            continue;
        };
        for method in METHODS {
            let Some(operation) = item.get(method) else { continue };
            coverage.operations = coverage.operations.saturating_add(1);
            let servers = [operation, item, description].into_iter().find_map(|of| of.get("servers"));
            let reached = reached(policy, &hosts, servers, &method.to_uppercase(), path);
            let security = operation.get("security").or_else(|| description.get("security"));
            let told = told(policy, &reached, security);
            coverage.findings.extend(told.map(|(finding, route)| Operation {
                finding,
                method: method.to_uppercase(),
                path: path.clone(),
                route,
            }));
        }
    }
    coverage.findings.sort();
    Ok(coverage)
}

/// Follows a reference within the description.
fn resolved<'d>(description: &'d Value, item: &'d Value) -> Option<&'d Value> {
    match item.get("$ref").map(Value::as_str) {
        None => Some(item),
        Some(to) => description.pointer(to?.strip_prefix('#')?),
    }
}

/// The hosts that a server without one may be.
fn hosts(policy: &Policy, host: Option<&str>) -> Vec<String> {
    if let Some(host) = host {
        return vec![host.to_owned()];
    }
    let exact = |shape: Shape| match shape.host {
        Host::Exact(name) => Some(name),
        Host::Any | Host::One(_) | Host::Many(_) => None,
    };
    let shapes = policy.routes.iter().flat_map(|route| Shape::all(policy, &route.key));
    let mut hosts: Vec<String> = shapes.filter_map(exact).collect();
    hosts.push("localhost".into());
    hosts.sort();
    hosts.dedup();
    hosts
}

/// A server's host, where it names one, and its base path.
fn server(server: &Value) -> (Option<String>, String) {
    let mut url = server.get("url").and_then(Value::as_str).unwrap_or("/").to_owned();
    for (name, variable) in server.get("variables").and_then(Value::as_object).into_iter().flatten() {
        let default = variable.get("default").and_then(Value::as_str).unwrap_or_default();
        url = url.replace(&format!("{{{name}}}"), default);
    }
    match Url::parse(&url) {
        Ok(url) => (url.host_str().map(str::to_owned), url.path().trim_end_matches('/').to_owned()),
        Err(_) => (None, url.trim_matches('/').split('/').filter(|s| !s.is_empty()).map(|s| format!("/{s}")).collect()),
    }
}

/// A route that an operation reaches, and whether callers pass it there who are not signed in.
type Reached<'p> = (&'p Route, bool);

/// The routes that an operation reaches, at each server whose host the policy knows; `None` for none.
fn reached<'p>(
    policy: &'p Policy,
    hosts: &[String],
    servers: Option<&Value>,
    method: &str,
    path: &str,
) -> Vec<Option<Reached<'p>>> {
    let servers: Vec<_> = servers.and_then(Value::as_array).into_iter().flatten().map(server).collect();
    let servers = if servers.is_empty() { vec![(None, String::new())] } else { servers };
    let mut reached = Vec::new();
    for (host, base) in &servers {
        let named = host.as_ref().map(std::slice::from_ref);
        for host in named.unwrap_or(hosts) {
            let path = concrete(&format!("{base}{path}"));
            match policy.table.find(host, method, &path) {
                Found::Route(id, _) => {
                    let open = admits_anonymous(policy, host, method, &path);
                    reached.push(policy.route(id).map(|route| (route, open)));
                }
                Found::NoRoute => reached.push(None),
                Found::UnknownHost => {}
            }
        }
    }
    // Where the site's own host is not known, one of those that keys name will be it.
    if servers.iter().all(|(host, _)| host.is_none()) && hosts.len() > 1 {
        let found: Vec<_> = reached.iter().copied().filter(Option::is_some).collect();
        if !found.is_empty() {
            return found;
        }
    }
    reached
}

/// A path with something in place of each parameter, decoded.
fn concrete(template: &str) -> String {
    let mut path = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        path.push_str(&percent_decode_str(before).decode_utf8_lossy());
        let Some((_, after)) = after.split_once('}') else { break };
        path.push_str(PARAMETER);
        rest = after;
    }
    path.push_str(&percent_decode_str(rest).decode_utf8_lossy());
    path
}

fn told(
    policy: &Policy,
    reached: &[Option<Reached<'_>>],
    security: Option<&Value>,
) -> Option<(Finding, Option<String>)> {
    let key = |route: &Route| Some(route.key.to_string());
    if reached.is_empty() || reached.iter().any(Option::is_none) {
        return Some((Finding::Uncovered, None));
    }
    // `{}` in the list makes it optional.
    let optional = |list: &Vec<Value>| list.iter().any(|one| one.as_object().is_some_and(Map::is_empty));
    let secured = security.and_then(Value::as_array).map(|list| !list.is_empty() && !optional(list));
    let routes = || reached.iter().copied().flatten();
    if secured == Some(true)
        && let Some((route, _)) = routes().find(|(_, open)| *open)
    {
        return Some((Finding::OpenButSecured, key(route)));
    }
    if secured == Some(false)
        && let Some((route, _)) = routes().find(|(_, open)| !open)
    {
        return Some((Finding::ClosedButPublic, key(route)));
    }
    let catch_all = routes().find(|(route, _)| policy.pattern(&route.key).is_some_and(|key| key.is_open_ended()));
    catch_all.map(|(route, _)| (Finding::CatchAll, key(route)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::compile;

    fn findings(routes: &str, description: &Value) -> Vec<String> {
        let text = format!("issuers: {{main: {{url: https://id.test, audience: shop, roles: roles}}}}\n{routes}");
        let (compiled, problems) = compile("p.yaml", &text, &|_| Err(std::io::ErrorKind::NotFound.into()));
        let compiled = compiled.unwrap_or_else(|| panic!("{}", problems.render(false)));
        let coverage = examine(&compiled.policy, None, description).unwrap();
        coverage.findings.iter().map(|one| format!("{:?} {} {}", one.finding, one.method, one.path)).collect()
    }

    #[test]
    fn operations_are_found_by_their_route() {
        let description = json!({"openapi": "3.1.0", "servers": [{"url": "https://{env}.shop.test/v1", "variables": {"env": {"default": "api"}}}],
        "security": [{"oauth": []}],
        "paths": {
            "/orders": {"get": {}, "post": {}, "x-note": {}, "parameters": []},
            "/orders/{id}": {"get": {}},
            "/files/{id}.json": {"get": {}},
            "/health": {"get": {"security": []}},
            "/open": {"get": {}},
            "/other": {"$ref": "other.yaml#/x"},
            "x-ignored": {},
        }});
        let routes = "routes: {GET /v1/orders: signed-in, '/v1/orders/{id}': signed-in, /v1/files/**: signed-in, /v1/health: signed-in, /v1/open: anyone}";
        let expected = [
            "Uncovered POST /orders",
            "OpenButSecured GET /open",
            "ClosedButPublic GET /health",
            "CatchAll GET /files/{id}.json",
            "NotRead  /other",
        ];
        assert_eq!(findings(routes, &description), expected);
        assert_eq!(findings("routes: {other.test/**: signed-in}", &description).len(), 7);
    }

    #[test]
    fn a_guard_that_needs_an_identity_closes_a_route_for_anyone() {
        let description = json!({"openapi": "3.0.3", "paths": {"/a": {"get": {"security": [{"oauth": []}]}}}});
        assert_eq!(findings("routes: {/a: anyone}\nguards: {/**: signed-in}", &description), Vec::<String>::new());
        assert_eq!(
            findings("routes: {/a: anyone}\nguards: {/**: not role:x}", &description),
            ["OpenButSecured GET /a"]
        );
        let optional = json!({"openapi": "3.0.3", "paths": {"/a": {"get": {"security": [{"oauth": []}, {}]}}}});
        assert_eq!(findings("routes: {/a: anyone}", &optional), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_description_is_refused() {
        let (compiled, _) = compile("p.yaml", "routes: {/a: public}", &|_| Err(std::io::ErrorKind::NotFound.into()));
        let policy = compiled.unwrap().policy;
        for wrong in [json!({"swagger": "2.0"}), json!([]), json!({"openapi": "3.0.0", "paths": []})] {
            assert!(examine(&policy, None, &wrong).is_err(), "{wrong}");
        }
    }
}
