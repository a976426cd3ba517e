//! What upstream, caller and gateway are told: a contract for all routes, and one for each set that routes make of it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Compiler;
use super::route::Line;
use crate::authz::header::{Contract, Format, Names, Source, Tell, Tells};
use crate::authz::identity::ClaimPath;
use crate::authz::json::Json;
use crate::authz::route::Pattern;
use crate::config::error::{Problem, Spanned, nearest};
use crate::config::file;

/// The contracts of a policy, one for each route.
pub(super) struct Contracts {
    /// By [`crate::authz::route::RouteId`].
    pub of: Vec<Arc<Contract>>,
    /// How many of them differ.
    pub different: usize,
}

/// The kind of a name: what replaces what, and how values are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Header,
    Parameter,
    Datum,
}

impl Compiler<'_> {
    /// The contracts; `None` where one cannot be made.
    pub(super) fn contracts(&mut self, lines: &[Line]) -> Option<Contracts> {
        let file = self.file;
        let shared = lines.iter().find(|line| self.unprefixed(&line.accepted).len() > 1);
        let top = self.tells(&file.tells, shared, None);
        let mut own: Vec<Option<Option<Tells>>> = Vec::with_capacity(lines.len());
        for (route, line) in file.routes.iter().zip(lines) {
            let shared = Some(line).filter(|line| self.unprefixed(&line.accepted).len() > 1);
            own.push(match &route.tells {
                None => Some(None),
                Some(tells) => self.tells(tells, shared, Some(line)).map(Some),
            });
        }
        let (top, own) = (top?, own.into_iter().collect::<Option<Vec<_>>>()?);
        let kept: Vec<String> = file.headers_kept.iter().map(|name| name.value.to_string()).collect();
        let managed = std::iter::once(&top).chain(own.iter().flatten()).flat_map(|tells| &tells.headers);
        let minted = file.mint.as_ref().map(|mint| Bytes::from(mint.header.value.to_string()));
        let names = Arc::new(Names::new(managed.map(|tell| tell.name.clone()), &kept, self.lent(), minted));
        let common = Arc::new(Contract::new(top.clone(), &names));
        let mut made: HashMap<u64, Arc<Contract>> = HashMap::from([(common.digest(), Arc::clone(&common))]);
        let of = own.into_iter().map(|own| match own {
            None => Arc::clone(&common),
            Some(own) => {
                let contract = Arc::new(Contract::new(over(&top, own), &names));
                Arc::clone(made.entry(contract.digest()).or_insert(contract))
            }
        });
        Some(Contracts { of: of.collect(), different: made.len() })
    }

    fn tells(&mut self, tells: &file::Tells, shared: Option<&Line>, own: Option<&Line>) -> Option<Tells> {
        let mut all = |list: &[file::Tell], kind: Kind| {
            let made: Vec<Option<Tell>> = list.iter().map(|tell| self.tell(tell, kind, shared, own)).collect();
            made.into_iter().collect::<Option<Vec<Tell>>>()
        };
        let headers = all(&tells.headers, Kind::Header);
        let responses = all(&tells.responses, Kind::Header);
        let query = all(&tells.query, Kind::Parameter);
        let metadata = all(&tells.metadata, Kind::Datum);
        let query_removed = tells.query_removed.iter().map(|name| Bytes::from(name.value.to_string())).collect();
        Some(Tells { headers: headers?, responses: responses?, query: query?, query_removed, metadata: metadata? })
    }

    fn tell(&mut self, tell: &file::Tell, kind: Kind, shared: Option<&Line>, own: Option<&Line>) -> Option<Tell> {
        let name =
            if kind == Kind::Header { tell.name.value.to_ascii_lowercase() } else { tell.name.value.to_string() };
        let format = tell.format.map_or(Format::Json, |format| self::format(format.value));
        let source = self.source(&tell.source, kind, shared, own)?;
        let literals = [
            tell.default.as_ref().map(|default| (json(&default.value), default.span)),
            if let Source::Literal(value) = &source { Some((value.clone(), tell.source.span)) } else { None },
        ];
        let mut fits = true;
        for (value, span) in literals.iter().flatten() {
            let written = match kind {
                Kind::Header => format.header(value).is_ok(),
                Kind::Parameter => format.parameter(value).is_ok(),
                Kind::Datum => true,
            };
            if !written {
                let message = match kind {
                    Kind::Parameter => "a parameter cannot carry this value: letters, digits, `.`, `_` and `-`",
                    Kind::Header | Kind::Datum => {
                        "a header cannot carry this value: visible ASCII, without a space at either end"
                    }
                };
                self.report(Problem::error("bad_value", *span, message).cure("`format: base64url`, or other words"));
                fits = false;
            }
        }
        let default = tell.default.as_ref().map(|default| json(&default.value));
        fits.then(|| Tell { name: name.into(), source, default, format })
    }

    pub(super) fn source(
        &mut self,
        source: &Spanned<file::Source>,
        kind: Kind,
        shared: Option<&Line>,
        own: Option<&Line>,
    ) -> Option<Source> {
        let is_subject = match &source.value {
            file::Source::Subject => true,
            file::Source::Claim(path) => &**path == "sub",
            _ => false,
        };
        if let Some(line) = shared.filter(|_| is_subject) {
            let names = self.names(&self.unprefixed(&line.accepted));
            let message = format!("{names} may each have a subject of this name, and `sub` tells no two");
            let problem = Problem::error("subject_ambiguous", source.span, message).related(line.key, "accepts them");
            self.report(problem.cure("`principal`; or give all but one of them a `subject_prefix`"));
        }
        Some(match &source.value {
            file::Source::Subject => Source::Subject,
            file::Source::Principal => Source::Principal,
            file::Source::Issuer => Source::Issuer,
            file::Source::Roles => Source::Roles,
            file::Source::Groups => Source::Groups,
            file::Source::Scopes => Source::Scopes,
            file::Source::Actor => Source::Actor,
            file::Source::Actors => Source::Actors,
            file::Source::Literal(literal) => Source::Literal(json(literal)),
            file::Source::Claim(path) => match ClaimPath::parse(path) {
                Some(path) => Source::Claim(path),
                None => {
                    self.bad_path(source.span);
                    return None;
                }
            },
            file::Source::App | file::Source::AppId if self.file.api_keys.is_none() => {
                let message = "this is told of an API key, and the policy has no `api_keys`";
                let cure = "`claim:app`, or `claim:app_id`, if a claim of this name is meant";
                self.report(Problem::error("no_api_keys", source.span, message).cure(cure));
                return None;
            }
            file::Source::Route | file::Source::Capture(_) | file::Source::App | file::Source::AppId
                if kind == Kind::Datum =>
            {
                let message = "metadata is about who calls, and this is about the request";
                self.report(Problem::error("source_not_here", source.span, message).cure("tell it in a header"));
                return None;
            }
            file::Source::App => Source::App,
            file::Source::AppId => Source::AppId,
            file::Source::Route => Source::Route,
            file::Source::Capture(name) => {
                self.captured(name, source, own)?;
                Source::Capture(name.clone())
            }
        })
    }

    fn captured(&mut self, name: &str, source: &Spanned<file::Source>, own: Option<&Line>) -> Option<()> {
        let Some(line) = own else {
            let message = "what a route captured is told on that route alone";
            let cure = "under `headers`, `response_headers` or `query` of the route";
            self.report(Problem::error("source_not_here", source.span, message).cure(cure));
            return None;
        };
        // Without a pattern nobody knows what is captured: its own problem is enough.
        let captures: Vec<&str> = line.pattern.iter().flat_map(Pattern::captures).collect();
        if line.pattern.is_none() || captures.contains(&name) {
            return Some(());
        }
        let cure = match nearest(name, captures.iter().copied()) {
            Some(meant) => format!("did you mean `capture:{meant}`?"),
            None => format!("capture it: `/{{{name}}}` in place of one segment of the path"),
        };
        let message = format!("the key of this route captures no `{name}`");
        self.report(Problem::error("unknown_capture", source.span, message).cure(cure));
        None
    }
}

/// What a route tells: what all tell, but for what it tells otherwise itself.
fn over(top: &Tells, own: Tells) -> Tells {
    let beside = |top: &[Tell], own: Vec<Tell>, gone: &[Bytes]| {
        let kept = top.iter().filter(|tell| !gone.contains(&tell.name) && !own.iter().any(|own| own.name == tell.name));
        let mut all: Vec<Tell> = kept.cloned().collect();
        all.extend(own);
        all
    };
    let removed = top.query_removed.iter().filter(|name| !own.query.iter().any(|set| set.name == **name));
    let mut query_removed: Vec<Bytes> = removed.cloned().collect();
    query_removed.extend(own.query_removed.iter().cloned());
    Tells {
        headers: beside(&top.headers, own.headers, &[]),
        responses: beside(&top.responses, own.responses, &[]),
        query: beside(&top.query, own.query, &own.query_removed),
        query_removed,
        metadata: top.metadata.clone(),
    }
}

fn json(literal: &file::Literal) -> Json {
    match literal {
        file::Literal::Text(text) => Json::Text(text.clone()),
        file::Literal::Flag(flag) => Json::Bool(*flag),
    }
}

fn format(format: file::Format) -> Format {
    match format {
        file::Format::Json => Format::Json,
        file::Format::Comma => Format::Comma,
        file::Format::Base64Url => Format::Base64Url,
    }
}
