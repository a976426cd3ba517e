//! `admin:` who may change something while portcullis runs, and `key_cache:` the folder where it keeps what outlives it.

use std::path::PathBuf;

use crate::config::error::{Problem, Spanned};
use crate::config::shape::{Fields, Reader, Section};

use super::site::{SecretPlace, secret_place};

pub(super) const ADMIN: Section = Section { name: "`admin`", accepted: &["token"], later: &[], never: &[] };

/// Reads where the token of administration is.
pub(super) fn token(reader: &mut Reader, top: &Fields<'_>) -> Option<Spanned<SecretPlace>> {
    let node = top.get("admin")?;
    let fields = reader.fields(node, ADMIN)?;
    if !fields.has("token") {
        reader.missing(node.span, "`admin` needs `token`, which says where its token is");
    }
    secret_place(reader, fields.get("token")?, "`token` of `admin`", "token")
}

/// Reads the folder of what outlives the process.
pub(super) fn key_cache(reader: &mut Reader, top: &Fields<'_>) -> Option<Spanned<PathBuf>> {
    let text = reader.text(top.get("key_cache")?, "`key_cache`")?;
    if !text.value.starts_with('/') {
        let problem = Problem::error("bad_path", text.span, "`key_cache` must be the full path of a folder");
        reader.report(problem.cure("key_cache: /var/lib/portcullis"));
        return None;
    }
    Some(Spanned::new(PathBuf::from(&*text.value), text.span))
}

#[cfg(test)]
mod tests {
    use crate::config::file::parse;

    #[test]
    fn administration_has_a_token_that_is_elsewhere_and_a_folder_that_is_said_in_full() {
        let found = |line: &str| {
            let (_, problems) = parse("p.yaml", &format!("{line}\nroutes: {{/a: role:x}}\n"));
            let place = |p: &crate::config::Problem| (p.span.line, p.span.column, p.code);
            problems.as_slice().iter().map(place).collect::<Vec<_>>()
        };
        for good in ["admin: {token: env:T}", "admin: {token: file:t}", "key_cache: /var/lib/portcullis"] {
            assert_eq!(found(good), [], "{good}");
        }
        for (bad, column, code) in [
            ("admin: {token: 0123456789abcdef0123456789abcdef}", 16, "secret_in_file"),
            ("admin: {token: 'env:'}", 16, "secret_in_file"),
            ("admin: {}", 8, "missing_key"),
            ("admin: env:T", 8, "wrong_shape"),
            ("admin: {tokn: env:T}", 9, "unknown_key"),
            ("key_cache: var/cache", 12, "bad_path"),
            ("key_cache: file:/var", 12, "bad_path"),
            ("key_cache: [/a]", 12, "wrong_shape"),
        ] {
            assert!(found(bad).contains(&(1, column, code)), "{bad}: {:?}", found(bad));
        }
    }
}
