//! Every problem that compiling finds, with its code and place, and the sample of the design.

use std::io;

use super::*;
use crate::config::error::Severity;

fn no_files(_: &str) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::NotFound.into())
}

fn problems(text: &str) -> Vec<String> {
    let (_, problems) = compile("p.yaml", text, &no_files);
    let one = |p: &Problem| {
        let sign = if p.severity == Severity::Error { "" } else { "~" };
        let len = text.get(p.span.offset as usize..(p.span.offset + p.span.len) as usize).unwrap();
        format!("{sign}{} {}:{} {len}", p.code, p.span.line, p.span.column)
    };
    problems.as_slice().iter().map(one).collect()
}

const SAMPLE: &str = r#"# portcullis.yaml
issuers:
  main:
    url: https://id.example.com/realms/shop      # OIDC discovery; keys are kept when the IdP is down
    audience: shop-api
    roles: realm_access.roles                    # a list, or one space-separated string
headers:                                         # ours: always stripped from the caller first
  X-User-ID: sub
  X-User-Roles: roles                            # ["admin","premium"]
routes:                                          # most specific wins; order never matters; nothing matches = deny
  GET /health:        public
  /admin/**:          role:admin
  PUT /profile/{id}:  owner:id or role:admin     # owner:id is claim:sub={id}
  /secret-data:       role:premium
  /t/{tenant}/**:     claim:tenant={tenant}      # the tenant in the path is the tenant in the token
public_url: https://shop.example.com
sign_in: https://login.example.com/?return_to={url}   # browsers are sent here; everyone else gets a 401
tests:
  - [anonymous,                      GET /health,      allow]
  - [{sub: u1},                      PUT /profile/u1,  allow, {X-User-ID: u1}]
  - [{sub: u1},                      PUT /profile/u2,  deny 403]
  - [anonymous,                      GET /secret-data, deny 401]
"#;

#[test]
fn the_sample_of_the_design_compiles_without_a_warning() {
    let (compiled, problems) = compile("portcullis.yaml", SAMPLE, &no_files);
    assert!(problems.as_slice().is_empty(), "{}", problems.render(SAMPLE, false));
    let compiled = compiled.unwrap();
    assert_eq!(compiled.policy.routes.len(), 5);
    assert_eq!(compiled.feeds[0].from, KeySource::Discovery("https://id.example.com/realms/shop".into()));
    assert!(compiled.policy.issuers[0].fed && compiled.fixed.is_empty());
}
