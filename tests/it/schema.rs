//! The JSON Schema that `portcullis schema` prints, held against policies that load and files that do not.

use std::fs;
use std::path::Path;
use std::process::Command;

use portcullis::config::{compile, schema};
use regex::Regex;
use serde_json::Value;

use crate::docs::{blocks, files, pages};

/// What a value breaks of a schema, of the keywords that ours uses; an unknown keyword is an error of its own.
fn broken(root: &Value, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    let fits = |schema: &Value| {
        let mut wrong = Vec::new();
        broken(root, schema, value, at, &mut wrong);
        wrong.is_empty()
    };
    for (keyword, said) in schema.as_object().unwrap() {
        let holds = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => fits(root.pointer(said.as_str().unwrap().trim_start_matches('#')).expect("leads somewhere")),
            "anyOf" => said.as_array().unwrap().iter().any(fits),
            "enum" => said.as_array().unwrap().contains(value),
            "type" => match said {
                Value::Array(types) => types.iter().any(|one| is(value, one.as_str().unwrap())),
                one => is(value, one.as_str().unwrap()),
            },
            "pattern" => value.as_str().is_none_or(|text| Regex::new(said.as_str().unwrap()).unwrap().is_match(text)),
            "minLength" | "maxLength" | "minimum" | "maximum" | "minItems" | "maxItems" | "minProperties"
            | "maxProperties" => is_within(keyword, said, value),
            "items" => {
                for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                    broken(root, said, item, &format!("{at}/{place}"), wrong);
                }
                true
            }
            "required" => value.as_object().is_none_or(|members| {
                said.as_array().unwrap().iter().all(|name| members.contains_key(name.as_str().unwrap()))
            }),
            "properties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    if let Some(said) = said.get(name) {
                        broken(root, said, value, &format!("{at}/{name}"), wrong);
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = |name: &String| schema.get("properties").is_some_and(|known| known.get(name).is_some());
                for (name, value) in value.as_object().into_iter().flatten().filter(|(name, _)| !known(name)) {
                    match said {
                        Value::Bool(false) => wrong.push(format!("{at}/{name}: no such key")),
                        said => broken(root, said, value, &format!("{at}/{name}"), wrong),
                    }
                }
                true
            }
            "propertyNames" => {
                for name in value.as_object().into_iter().flat_map(|members| members.keys()) {
                    broken(root, said, &Value::from(name.as_str()), &format!("{at}/{name}"), wrong);
                }
                true
            }
            other => panic!("the schema says `{other}`, which this validator does not know"),
        };
        if !holds {
            wrong.push(format!("{at}: breaks {keyword}: {said}"));
        }
    }
}

/// Whether a value keeps a bound. One that the bound is not about keeps it.
fn is_within(keyword: &str, said: &Value, value: &Value) -> bool {
    match keyword {
        "minLength" => value.as_str().is_none_or(|text| text.chars().count() >= count(said)),
        "maxLength" => value.as_str().is_none_or(|text| text.chars().count() <= count(said)),
        "minimum" => value.as_f64().is_none_or(|number| number >= said.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= said.as_f64().unwrap()),
        "minItems" => value.as_array().is_none_or(|items| items.len() >= count(said)),
        "maxItems" => value.as_array().is_none_or(|items| items.len() <= count(said)),
        "minProperties" => value.as_object().is_none_or(|members| members.len() >= count(said)),
        "maxProperties" => value.as_object().is_none_or(|members| members.len() <= count(said)),
        other => panic!("{other} is no bound"),
    }
}

fn count(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn is(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        other => panic!("the schema names the type `{other}`"),
    }
}

fn wrong_of(text: &str) -> Vec<String> {
    let value: Value = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let schema = schema::schema();
    let mut wrong = Vec::new();
    broken(&schema, &schema, &value, "", &mut wrong);
    wrong
}

#[test]
fn every_example_and_every_policy_of_the_documentation_fits_the_schema() {
    let mut policies: Vec<(String, String)> = files("examples", "yaml")
        .into_iter()
        .map(|file| (file.display().to_string(), fs::read_to_string(file).unwrap()))
        .collect();
    for page in pages() {
        let blocks = blocks(&fs::read_to_string(&page).unwrap(), "yaml").into_iter();
        let policy = |(line, text): (usize, String)| (format!("{}:{line}", page.display()), text);
        policies.extend(blocks.filter(|(_, text)| text.starts_with("# policy")).map(policy));
    }
    assert!(policies.len() > 10);
    let wrong: Vec<String> = policies
        .iter()
        .flat_map(|(name, text)| wrong_of(text).into_iter().map(move |wrong| format!("{name}: {wrong}")))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_policy_of_the_decision_table_that_loads_fits_the_schema() {
    let mut tried = 0;
    for file in files("tests/cases", "yaml") {
        let text = fs::read_to_string(&file).unwrap();
        let table: Value = serde_saphyr::from_str(&text).unwrap();
        let Some(policy) = table.get("policy").and_then(Value::as_str) else { continue };
        assert_eq!(wrong_of(policy), Vec::<String>::new(), "{}", file.display());
        tried += 1;
    }
    assert!(tried > 5, "{tried} policies were found");
}

#[test]
fn what_does_not_load_for_its_form_does_not_fit_the_schema() {
    let issuer =
        |line: &str| format!("issuers: {{main: {{url: \"https://id.test\", {line}}}}}\nroutes: {{/: signed-in}}\n");
    let mut files: Vec<String> = [
        "rotues: {/a: public}",
        "routes: [/a]",
        "routes: {a: public}",
        "routes: {get /a: public}",
        "routes: {/a: {any: role:a}}",
        "routes: {/a: {any: [role:a], all: [role:a]}}",
        "routes: {/a: {none: [role:a]}}",
        "routes: {/a: {issuers: [main]}}",
        "routes: {/a: {allow: public, alow: public}}",
        "routes: {/a: true}",
        "routes: {/a: public}\nguards: {/a: {not: }}",
        "routes: {/a: public}\ndeny: [role:a]",
        "routes: {/a: public}\npaths: [dots]",
        "routes: {/a: public}\nheaders: {X A: sub}",
        "routes: {/a: public}\nheaders: {X-A: {format: comma}}",
        "routes: {/a: public}\nheaders: {X-A: {from: sub, format: xml}}",
        "routes: {/a: public}\ngateways: {edge: {believes: [client_address]}}",
        "routes: {/a: public}\ngateways: {edge: {by: unix, client_address: {from: xff, hops: 0}}}",
        "routes: {/a: public}\nlisten: {grpc: localhost}",
        "routes: {/a: public}\nlog: loud",
        "routes: {/a: public}\naudit: somewhere",
        "routes: {/a: public}\ndecision_key: secret",
        "routes: {/a: public}\ncache: {tokens: 64MB}",
        "routes: {/a: public}\npublic_url: https://shop.test/path",
        "routes: {/a: public}\nsign_in: login",
        "routes: {/a: public}\ntests: [[anonymous, GET /a]]",
        "routes: {/a: public}\ntests: [{as: anonymous, ask: GET /a}]",
        "routes: {/a: public}\ntests: [{as: anonymous, ask: GET /a, expect: maybe}]",
    ]
    .map(str::to_owned)
    .into();
    for line in [
        "audience: a, leeway: 60",
        "audience: a, leeway: 1 minute",
        "audience: a, algorithms: [HS1]",
        "audience: a, default: maybe",
        "audience: a, missing: none",
        "audience: a, from: [body]",
        "audience: a, jwks: here",
        "audience: {claim: x}",
        "audience: a, ttl: 5m",
        "audience: a, may_grant: {a: b}",
        "audience: a, id_tokens: \"true\"",
    ] {
        files.push(issuer(line));
    }
    for text in files {
        let (compiled, _) = compile("policy.yaml", &text, &|_| Err(std::io::ErrorKind::NotFound.into()));
        assert!(compiled.is_none(), "it loads, so it is no example of what does not:\n{text}");
        assert!(!wrong_of(&text).is_empty(), "it fits:\n{text}");
    }
    assert_eq!(wrong_of(&issuer("audience: a, leeway: 60s")), Vec::<String>::new());
}

#[test]
fn the_command_prints_the_schema() {
    let run = Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("schema").output().unwrap();
    assert!(run.status.success());
    assert_eq!(serde_json::from_slice::<Value>(&run.stdout).unwrap(), schema::schema());
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/editor.md").exists());
}
