//! Headers, paths and settings: what is told to whom, what may stand in a path, and where portcullis listens.

use crate::config::reference::STUB_SECRET;
use bytes::Bytes;

use super::Secret;
use super::route::Line;
use super::{Compiler, Settings};
use crate::authz::header::{Contract, Format, Managed, Source};
use crate::authz::identity::ClaimPath;
use crate::authz::request::Relaxed;
use crate::config::error::{Problem, Spanned};
use crate::config::file;

/// The shortest key of decision ids, in bytes.
const MIN_KEY: usize = 16;

impl Compiler<'_> {
    /// The header contract; `None` where a claim's path cannot be read.
    pub(super) fn contract(&mut self, lines: &[Line]) -> Option<Contract> {
        let shared = lines.iter().find(|line| self.unprefixed(&line.accepted).len() > 1);
        let headers: Vec<Option<Managed>> = self
            .file
            .headers
            .iter()
            .map(|header| {
                let name = Bytes::from(header.name.value.to_ascii_lowercase());
                let source = self.source(&header.source, shared)?;
                Some(Managed { name, source, format: header.format.map_or(Format::Json, |f| format(f.value)) })
            })
            .collect();
        let metadata: Vec<Option<(Bytes, Source)>> = self
            .file
            .metadata
            .iter()
            .map(|datum| Some((Bytes::from(datum.key.value.to_string()), self.source(&datum.source, shared)?)))
            .collect();
        let lent = self.lent();
        let kept: Vec<String> = self.file.headers_kept.iter().map(|name| name.value.to_string()).collect();
        let headers = headers.into_iter().collect::<Option<_>>()?;
        let metadata = metadata.into_iter().collect::<Option<_>>()?;
        Some(Contract::new(headers, metadata, &kept).lending(lent))
    }

    fn source(&mut self, source: &Spanned<file::Source>, shared: Option<&Line>) -> Option<Source> {
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
            file::Source::Claim(path) => match ClaimPath::parse(path) {
                Some(path) => Source::Claim(path),
                None => {
                    self.bad_path(source.span);
                    return None;
                }
            },
        })
    }

    /// What `paths:` relaxes.
    pub(super) fn relaxed(&self) -> Relaxed {
        let mut relaxed = Relaxed::default();
        for leniency in &self.file.paths {
            match leniency.value {
                file::Leniency::EncodedSlash => relaxed.encoded_slash = true,
                file::Leniency::Semicolon => relaxed.semicolon = true,
                file::Leniency::EmptySegment => relaxed.empty_segment = true,
                file::Leniency::Backslash => relaxed.backslash = true,
                file::Leniency::DoubleEncoding => relaxed.double_encoding = true,
                file::Leniency::CaseVariant => relaxed.case_variant = true,
            }
        }
        relaxed
    }

    /// What is not policy.
    pub(super) fn settings(&mut self) -> Settings {
        Settings {
            listen: self.file.listen.clone(),
            audit: self.file.audit.clone(),
            log: self.file.log,
            decision_key: self.decision_key(),
            public_url: self.file.public_url.as_ref().map(|url| url.value.clone()),
        }
    }

    /// A secret, without the white space around it; `None` where it is not there.
    pub(super) fn read_secret(&mut self, place: &file::SecretPlace) -> Option<Vec<u8>> {
        let found = match place {
            file::SecretPlace::File(path) => (self.around.file)(path.to_str()?).ok(),
            file::SecretPlace::Env(name) => (self.around.variable)(name).map(String::into_bytes),
            file::SecretPlace::Given(secret) => Some(secret.0.clone()),
        };
        if found.is_none() && self.around.stubs {
            self.stubs.push(place.to_string().into());
            return Some(STUB_SECRET.to_vec());
        }
        found.map(|found| found.trim_ascii().to_vec()).filter(|found| !found.is_empty())
    }

    /// A key that is not there yet is a warning, so that a policy can be checked where its secrets are not.
    fn decision_key(&mut self) -> Option<Secret> {
        let place = self.file.decision_key.as_ref()?;
        let Some(key) = self.read_secret(&place.value) else {
            let message = "the key of the decision ids is not there: no other replica could explain them";
            self.report(Problem::warning("key_missing", place.span, message));
            return None;
        };
        if key.len() < MIN_KEY {
            let message = "the key of the decision ids is shorter than 16 bytes";
            self.report(Problem::error("weak_key", place.span, message).cure("openssl rand -base64 32"));
            return None;
        }
        Some(Secret(key))
    }
}

fn format(format: file::Format) -> Format {
    match format {
        file::Format::Json => Format::Json,
        file::Format::Comma => Format::Comma,
        file::Format::Base64Url => Format::Base64Url,
    }
}
