//! `proof:` of an issuer: what whoever presents its tokens shows, so that stolen ones are of no use.

use std::time::Duration;

use super::{algorithms, duration};
use crate::authz::algorithm::Algorithm;
use crate::authz::proof::{Mode, Nonce, Origin};
use crate::config::error::{Problem, Span, Spanned, Text};
use crate::config::shape::{Fields, Reader, Section};
use crate::config::tree::Kind;

pub(in crate::config::file) const PROOF: Section = Section {
    name: "`proof` of an issuer",
    accepted: &["mode", "window", "nonce", "algorithms", "urls"],
    later: &[],
    never: &[],
};
const MODES: &[(&str, Mode)] = &[
    ("none", Mode::None),
    ("dpop", Mode::Dpop),
    ("mtls", Mode::Mtls),
    ("either", Mode::Either),
    ("required-if-bound", Mode::IfBound),
];
const NONCES: &[(&str, Nonce)] = &[("none", Nonce::None), ("offered", Nonce::Offered), ("required", Nonce::Required)];
/// The longest window: clocks that differ by more are to be set.
const MAX_WINDOW: Duration = Duration::from_secs(600);

/// What whoever presents a token shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Where the file says it.
    pub span: Span,
    /// Whether, and what.
    pub mode: Mode,
    /// How far the time of a DPoP proof may lie from now; 60 s where the file does not say.
    pub window: Option<Duration>,
    /// Whether DPoP proofs hold a nonce.
    pub nonce: Nonce,
    /// What DPoP proofs may be signed with; empty where the file does not say.
    pub algorithms: Vec<Spanned<Algorithm>>,
    /// Scheme, host and port by which callers know the site; empty where the file does not say.
    pub urls: Vec<Text>,
}

pub(super) fn proof(reader: &mut Reader, fields: &Fields<'_>) -> Option<Proof> {
    let node = fields.get("proof")?;
    let what = "`proof` of an issuer";
    if !matches!(node.kind, Kind::Map(_)) {
        let mode = reader.choice(node, what, MODES)?;
        let (window, algorithms, urls) = (None, Vec::new(), Vec::new());
        return Some(Proof { span: mode.span, mode: mode.value, window, nonce: Nonce::None, algorithms, urls });
    }
    let fields = reader.fields(node, PROOF)?;
    if !fields.has("mode") {
        let words: Vec<&str> = MODES.iter().map(|(word, _)| *word).collect();
        let problem = Problem::error("missing_key", node.span, format!("{what} needs `mode`"));
        reader.report(problem.cure(format!("mode: one of {}", words.join(", "))));
    }
    let mode = reader.choice(fields.get("mode")?, "`mode` of a proof", MODES)?;
    let nonce = fields.get("nonce").and_then(|node| reader.choice(node, "`nonce` of a proof", NONCES));
    let window = duration(reader, &fields, "window", MAX_WINDOW);
    if window.is_some_and(|window| window < Duration::from_secs(1)) {
        let span = fields.get("window").map(|node| node.span).unwrap_or_default();
        let problem = Problem::error("out_of_range", span, "no proof would arrive within this `window`");
        reader.report(problem.cure("window: 60s"));
    }
    let proof = Proof {
        span: node.span,
        mode: mode.value,
        window,
        nonce: nonce.map_or(Nonce::None, |nonce| nonce.value),
        algorithms: algorithms(reader, &fields, false),
        urls: urls(reader, &fields),
    };
    let of_keys = fields.get("window").or(fields.get("nonce")).or(fields.get("algorithms")).or(fields.get("urls"));
    if let Some(unused) = of_keys.filter(|_| matches!(mode.value, Mode::None | Mode::Mtls)) {
        let message = "this is about DPoP proofs, and with this `mode` none is read";
        let problem = Problem::error("proof_unused", unused.span, message).related(mode.span, "the mode");
        reader.report(problem.cure("remove it, or mode: dpop, either or required-if-bound"));
    }
    Some(proof)
}

/// Origins, as callers write them before a path.
fn urls(reader: &mut Reader, fields: &Fields<'_>) -> Vec<Text> {
    let Some(node) = fields.get("urls") else { return Vec::new() };
    let mut urls = Vec::new();
    for text in reader.texts(node, "`urls` of a proof") {
        let end = if text.value.ends_with('/') { 1 } else { 0 };
        let bare = text.value.len().checked_sub(end).and_then(|end| text.value.get(..end)).unwrap_or_default();
        if Origin::parse(bare).is_some() {
            urls.push(Spanned::new(bare.into(), text.span));
        } else {
            let message = "a URL of the site is a scheme, a host and a port that is not the default";
            reader.report(Problem::error("bad_origin", text.span, message).cure("https://api.example.com"));
        }
    }
    urls
}

#[cfg(test)]
mod tests {
    use crate::config::file::parse;

    fn found(proof: &str) -> Vec<(u32, u32, &'static str)> {
        let text =
            format!("issuers:\n  main:\n    url: https://a.example.com\n    proof: {proof}\nroutes: {{/a: role:x}}\n");
        let (_, problems) = parse("portcullis.yaml", &text);
        problems.as_slice().iter().map(|problem| (problem.span.line, problem.span.column, problem.code)).collect()
    }

    #[test]
    fn a_proof_is_a_word_or_a_word_and_how() {
        for good in [
            "none",
            "dpop",
            "mtls",
            "either",
            "required-if-bound",
            "{mode: dpop}",
            "{mode: either, window: 30s, nonce: required, algorithms: [ES256, EdDSA], urls: ['https://a.test:8443']}",
            "{mode: required-if-bound, nonce: offered, urls: http://localhost:8080/}",
            "{mode: mtls}",
        ] {
            assert_eq!(found(good), [], "{good}");
        }
        for (bad, column, code) in [
            ("DPoP", 12, "unknown_value"),
            ("true", 12, "wrong_shape"),
            ("required", 12, "unknown_value"),
            ("{window: 60s}", 12, "missing_key"),
            ("{mode: dpop, window: 11m}", 33, "out_of_range"),
            ("{mode: dpop, window: 0s}", 33, "out_of_range"),
            ("{mode: dpop, nonce: sometimes}", 32, "unknown_value"),
            ("{mode: dpop, algorithms: [none]}", 38, "unsigned_algorithm"),
            ("{mode: dpop, algorithms: [HS256]}", 38, "shared_secret"),
            ("{mode: dpop, urls: a.test}", 31, "bad_origin"),
            ("{mode: dpop, urls: 'https://a.test/x'}", 31, "bad_origin"),
            ("{mode: mtls, nonce: required}", 32, "proof_unused"),
            ("{mode: none, window: 60s}", 33, "proof_unused"),
            ("{mode: dpop, jti: keep}", 25, "unknown_key"),
        ] {
            assert_eq!(found(bad), [(4, column, code)], "{bad}");
        }
    }
}
