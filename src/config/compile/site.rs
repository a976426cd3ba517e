//! Headers, paths and settings: what is told to whom, what may stand in a path, and where portcullis listens.

use super::Secret;
use super::{Compiler, Settings};
use crate::authz::request::Relaxed;
use crate::config::error::{Problem, Spanned};
use crate::config::file;
use crate::config::reference::STUB_SECRET;

/// The shortest key of decision ids, and the shortest token of administration, in bytes.
const MIN_KEY: usize = 16;

impl Compiler<'_> {
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
            admin_token: self.admin_token(),
            key_cache: self.file.key_cache.as_ref().map(|folder| folder.value.clone()),
            store: self.store(),
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

    /// The token of administration. Its file is followed, so that it can be changed while we run.
    fn admin_token(&mut self) -> Option<Secret> {
        let place = self.file.admin_token.as_ref()?;
        if let file::SecretPlace::File(path) = &place.value {
            self.read.push(path.clone());
        }
        let Some(token) = self.read_secret(&place.value) else {
            let message = "the token of `admin` is not there";
            let cure = "a file that can be read, or a variable that is set where portcullis is started";
            self.report(Problem::error("secret_missing", place.span, message).cure(cure));
            return None;
        };
        if token.len() < MIN_KEY || !token.iter().all(u8::is_ascii_graphic) {
            let message = "the token of `admin` is not 16 printable characters or more without a blank";
            self.report(Problem::error("weak_secret", place.span, message).cure("openssl rand -hex 32"));
            return None;
        }
        Some(Secret(token))
    }

    /// A password that is not there is an error: nothing that replicas share could be asked for.
    fn store(&mut self) -> Option<(Spanned<file::Shared>, Option<Secret>)> {
        let store = self.file.store.clone()?;
        let Some(place) = &store.value.password else { return Some((store, None)) };
        if let file::SecretPlace::File(path) = place {
            self.read.push(path.clone());
        }
        let Some(password) = self.read_secret(place) else {
            let message = "the password of the store is not there";
            let problem = Problem::error("secret_missing", store.span, message);
            self.report(problem.cure("set the variable where portcullis is started, or write the file"));
            return None;
        };
        Some((store, Some(Secret(password))))
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
