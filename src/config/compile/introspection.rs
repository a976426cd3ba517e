//! `introspection:` of an issuer with its secret or key, and that no route has two issuers to ask.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Authority, Compiler};
use crate::authz::introspection::Introspection;
use crate::authz::introspection::client::{Client, ClientKey, ClientSecret, Proof, Signing};
use crate::authz::issuer::IssuerId;
use crate::config::error::{Problem, Span, Spanned, Text};
use crate::config::file::{self, ClientProof};

impl Compiler<'_> {
    /// How an issuer is asked; the outer `None` where that cannot be made.
    #[expect(clippy::option_option, reason = "not written is one thing, not readable another")]
    pub(super) fn introspection(
        &mut self,
        issuer: &file::Issuer,
        ca: Option<&Authority>,
    ) -> Option<Option<Introspection>> {
        let Some(written) = &issuer.introspection else { return Some(None) };
        let proof = match &written.proof {
            ClientProof::Secret { place, in_form } => {
                let missing = "the client's secret is not there: the issuer could not be asked about tokens";
                let (secret, _) = self.secret_at(place, missing)?;
                let text = if secret.is_ascii() { secret.trim_ascii() } else { &secret };
                if text.is_empty() {
                    let problem = Problem::error("secret_missing", place.span, "the client's secret is empty");
                    self.report(problem.cure("the secret that the issuer has for this client"));
                    return None;
                }
                let secret = ClientSecret(text.into());
                if *in_form { Proof::Post(secret) } else { Proof::Basic(secret) }
            }
            ClientProof::Key { file, kid, signing, audience } => {
                let key = self.client_key(file, kid.as_ref(), *signing)?;
                let audience = audience.as_ref().unwrap_or(&issuer.issuer);
                Proof::Signed(Arc::new(key), audience.value.clone())
            }
        };
        let keys = &issuer.keys;
        let fetched = keys.url.is_some() || keys.jwks.is_some() || keys.pem_url.is_some();
        let only = !fetched && keys.pem.is_none() && keys.secrets.is_empty();
        Some(Some(Introspection {
            url: written.url.value.clone(),
            allow_http: issuer.allow_http,
            ca: ca.map(|ca| Arc::clone(&ca.0)),
            client: Client { id: written.client.value.clone(), proof },
            subject: written.subject,
            cache: written.cache,
            timeout: written.timeout,
            only,
        }))
    }

    /// The private key of a file. It is no part of what the policy is named by.
    fn client_key(&mut self, file: &Spanned<PathBuf>, kid: Option<&Text>, signing: Signing) -> Option<ClientKey> {
        self.read.push(file.value.clone());
        let kid = kid.map(|kid| &*kid.value);
        let pem = match (self.around.file)(file.value.to_str().unwrap_or_default()) {
            Ok(pem) => pem,
            Err(_) if self.around.stubs => {
                self.stubs.push(format!("file:{}", file.value.display()).into());
                return ClientKey::throw_away();
            }
            Err(error) => {
                let message = format!("the file of the client's private key cannot be read: {}", error.kind());
                let cure = "the path is relative to the folder of the policy file";
                self.report(Problem::error("file_unreadable", file.span, message).cure(cure));
                return None;
            }
        };
        match ClientKey::from_pem(&pem, signing, kid) {
            Ok(key) => Some(key),
            Err(fault) => {
                let problem = Problem::error("bad_client_key", file.span, fault.to_string());
                self.report(problem.cure(format!("a private key for {} that the issuer knows", signing.name())));
                None
            }
        }
    }

    /// The issuers of these that are asked about opaque tokens.
    fn introspecting(&self, accepted: &[usize]) -> Vec<(usize, Span)> {
        let introspecting = accepted.iter().filter_map(|at| {
            let (_, issuer) = self.file.issuers.get(*at)?;
            Some((*at, issuer.introspection.as_ref()?.key))
        });
        introspecting.collect()
    }

    /// The issuer that a route asks about opaque tokens.
    pub(super) fn introspects(&self, accepted: &[usize]) -> Option<IssuerId> {
        let first = self.introspecting(accepted).first().map(|(at, _)| *at);
        first.and_then(|at| u16::try_from(at).ok()).map(IssuerId)
    }

    /// A token that says nothing of itself could be anybody's: nobody is shown another one's. Each pair is told once.
    pub(super) fn one_to_ask(&mut self, accepted: &[usize], route: Span, told: &mut HashSet<(usize, usize)>) {
        let found = self.introspecting(accepted);
        let [(first, one), (second, _), ..] = found.as_slice() else { return };
        if told.insert((*first, *second)) {
            let names = self.names(&[*first, *second]);
            let message = format!("this route has two issuers to ask about opaque tokens, {names}");
            let problem = Problem::error("introspection_twice", route, message).related(*one, "the first of them");
            self.report(problem.cure("`issuers` at the route with one of them; or `default: false` at the other"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::compile;

    const A: &str = "a: {issuer: https://a.test, audience: x, may_grant: any, default: true, introspection: {url: \
                     https://a.test/i, client_id: c, client_secret: 'file:s'}}";

    fn found(issuers: &str, routes: &str, secret: &str) -> Vec<(u32, &'static str)> {
        let text = format!("issuers:\n  {issuers}\nroutes: {{{routes}}}\n");
        let (_, problems) = compile("p.yaml", &text, &|_| Ok(secret.as_bytes().to_vec()));
        let errors = problems.as_slice().iter().filter(|problem| problem.severity == crate::config::Severity::Error);
        errors.map(|problem| (problem.span.line, problem.code)).collect()
    }

    #[test]
    fn a_route_has_one_issuer_to_ask() {
        let b = A.replacen('a', "b", 1).replace("a.test", "b.test").replace("x, may", "x, subject_prefix: b, may");
        let two = format!("{A}\n  {b}");
        let with = |routes: &str| found(&two, routes, "secret");
        assert_eq!(with("/x: signed-in, /y: signed-in"), [(4, "introspection_twice")]);
        assert_eq!(with("/x: {allow: signed-in, issuers: [a]}, /y: {allow: signed-in, issuers: [b]}"), []);
        assert_eq!(with("/x: public"), []);
        let text = format!("issuers:\n  {two}\nroutes: {{/x: signed-in}}\n");
        let (_, problems) = compile("p.yaml", &text, &|_| Ok(b"secret".to_vec()));
        let told = problems.to_string();
        assert!(told.contains("two issuers to ask about opaque tokens, `a` and `b`"), "{told}");
    }

    #[test]
    fn the_clients_secret_and_key_are_there() {
        assert_eq!(found(A, "/x: signed-in", "secret\n"), []);
        assert_eq!(found(A, "/x: signed-in", " \n"), [(2, "secret_missing")]);
        let unset = A.replace("file:s", "env:NOT_SET_ANYWHERE");
        assert_eq!(found(&unset, "/x: signed-in", ""), [(2, "secret_missing")]);
        let key = A.replace("client_secret: 'file:s'", "private_key_jwt: {key: 'file:k', algorithm: ES256}");
        assert_eq!(found(&key, "/x: signed-in", "no key"), [(2, "bad_client_key")]);
        let text = format!("issuers:\n  {key}\nroutes: {{/x: signed-in}}\n");
        let none = |_: &str| Err(std::io::ErrorKind::NotFound.into());
        let (_, problems) = compile("p.yaml", &text, &none);
        assert_eq!(problems.as_slice()[0].code, "file_unreadable");
    }
}
