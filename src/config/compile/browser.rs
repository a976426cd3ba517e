//! `cors:`, `sign_in:` and the `credential:` of routes: what browsers are told, and where their credentials stand.

use super::Compiler;
use super::issuer::source;
use super::route::Line;
use super::rule::worded;
use crate::authz::cors::{Cors, Origin, Sharing};
use crate::authz::credential::Source;
use crate::authz::policy::Elsewhere;
use crate::authz::route::Pattern;
use crate::authz::signin::SignIn;
use crate::config::error::{Problem, Spanned};
use crate::config::file;

impl Compiler<'_> {
    /// Who may read answers across origins, by host; the inner `None` where neither the file nor a route says.
    #[expect(clippy::option_option, reason = "not written is one thing, not readable another")]
    pub(super) fn cors(&mut self) -> Option<Option<Box<Cors>>> {
        let Some(cors) = &self.file.cors else {
            let of_route = self.file.routes.iter().any(|route| route.browser.cors.is_some());
            return Some(of_route.then(Box::default));
        };
        let every = cors.every.as_ref().and_then(|every| Some((Pattern::parse("/**").ok()?, sharing(every))));
        let mut hosts: Vec<_> = every.into_iter().collect();
        let mut seen: Vec<(String, &Spanned<Box<str>>)> = Vec::new();
        let mut whole = true;
        for (name, shared) in &cors.hosts {
            let Some(pattern) = self.host(name) else {
                whole = false;
                continue;
            };
            if let Some((_, first)) = seen.iter().find(|(shape, _)| *shape == pattern.shape_key()) {
                let message = "another entry of `hosts` is for the same hosts";
                let problem = Problem::error("host_twice", name.span, message).related(first.span, "first here");
                self.report(problem.cure("keep one of the two"));
                whole = false;
            }
            seen.push((pattern.shape_key(), name));
            hosts.push((pattern, sharing(shared)));
        }
        if whole { Cors::new(hosts).map(|cors| Some(Box::new(cors))) } else { None }
    }

    fn host(&mut self, name: &Spanned<Box<str>>) -> Option<Pattern> {
        let cure = "api.example.com, *.example.com or {name}.example.com";
        let is_host = !name.value.contains(['/', ' ']);
        match Pattern::parse(&format!("{}/**", name.value)) {
            Ok(pattern) if is_host && pattern.names_host() => Some(pattern),
            Ok(_) => {
                self.report(Problem::error("bad_pattern", name.span, "this is not a host").cure(cure));
                None
            }
            Err(error) => {
                self.report(worded("bad_pattern", name.span, &error.to_string()));
                None
            }
        }
    }

    /// Where people sign in.
    pub(super) fn sign_in(&self, sign_in: &file::SignIn) -> SignIn {
        let public_url = self.file.public_url.as_ref().map(|url| &*url.value).unwrap_or_default();
        SignIn::new(&sign_in.to.value, public_url, sign_in.return_to.iter().map(|origin| &*origin.value))
    }

    pub(super) fn elsewhere(&mut self, route: &file::Route) -> Elsewhere {
        let mut to = route.browser.sign_in.iter().flatten().map(|sign_in| &sign_in.to);
        if let Some(to) = to.find(|to| to.value.contains("{url}") && self.file.public_url.is_none())
            && !self.partial
        {
            let message = "`{url}` needs `public_url` in the policy: the Host header is never copied";
            self.report(Problem::error("missing_key", to.span, message).cure("public_url: https://shop.example.com"));
        }
        match &route.browser.sign_in {
            None => Elsewhere::No,
            Some(None) => Elsewhere::Nowhere,
            Some(Some(sign_in)) => Elsewhere::At(self.sign_in(sign_in)),
        }
    }

    /// Where a route reads tokens, where it says so: never in a place that none of its issuers has.
    pub(super) fn read_from(&mut self, route: &file::Route, line: &Line) -> Option<Box<[Source]>> {
        let from = route.browser.credential.as_ref()?.from.as_ref()?;
        if let Some(first) = from.first().filter(|_| line.is_public) {
            let message = "no token is read on a public route, wherever it stands";
            let cure = "`credential: strip` removes it; `anyone` reads one where it is there";
            self.report(Problem::warning("credential_unread", first.span, message).cure(cure));
            return None;
        }
        let issuers: Vec<_> = line.accepted.iter().filter_map(|at| self.file.issuers.get(*at)).collect();
        let read = |place: &file::Credential| {
            let of_keys = self.file.api_keys.iter().flat_map(|keys| &keys.from);
            let of_issuers = issuers.iter().flat_map(|(_, issuer)| &issuer.from);
            of_issuers.chain(of_keys).any(|from| from.value == *place)
        };
        let unread = from.iter().find(|place| !issuers.is_empty() && !read(&place.value));
        if let Some(place) = unread {
            let message = "no issuer that this route accepts has tokens there, and a route only narrows where they are";
            let cure = "add the place to `from` of the issuer, or remove it here";
            self.report(Problem::error("credential_nowhere", place.span, message).cure(cure));
        }
        Some(from.iter().map(|place| source(&place.value)).collect())
    }
}

pub(super) fn sharing(sharing: &file::Sharing) -> Sharing {
    Sharing {
        origins: sharing.origins.iter().map(|origin| Origin::new(&origin.value)).collect(),
        credentials: sharing.credentials,
    }
}
