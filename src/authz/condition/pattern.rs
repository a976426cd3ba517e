//! Patterns of `matches`: RE2, read when the policy is, and small enough that no text makes one slow.

use regex::{Regex, RegexBuilder};

use super::fault::ConditionFault;

/// The longest pattern, in bytes.
const MAX_PATTERN: usize = 256;
/// How much memory the compiled pattern may take, in bytes.
const MAX_COMPILED: usize = 16 * 1024;
/// How deep its groups may nest.
const MAX_GROUPS: u32 = 16;
/// The longest text that a pattern is tried on, in bytes.
pub const MAX_MATCHED: usize = 1_024;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern.
    pub fn new(text: &str) -> Result<Self, ConditionFault> {
        if text.len() > MAX_PATTERN {
            return Err(ConditionFault::PatternTooLarge);
        }
        let compiled = RegexBuilder::new(&ascii_classes(text))
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED.saturating_mul(8))
            .nest_limit(MAX_GROUPS)
            .build();
        match compiled {
            Ok(regex) => Ok(Self(regex)),
            Err(regex::Error::CompiledTooBig(_)) => Err(ConditionFault::PatternTooLarge),
            Err(_) => Err(ConditionFault::Pattern),
        }
    }

    /// Whether it is found somewhere in the text.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// `\d`, `\w`, `\s` and `\b` are about ASCII in RE2, and about all of Unicode in the library.
fn ascii_classes(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            whole.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => whole.push_str("[0-9]"),
            Some('D') => whole.push_str("[^0-9]"),
            Some('w') => whole.push_str("[0-9A-Za-z_]"),
            Some('W') => whole.push_str("[^0-9A-Za-z_]"),
            Some('s') => whole.push_str("[\\t\\n\\f\\r ]"),
            Some('S') => whole.push_str("[^\\t\\n\\f\\r ]"),
            Some('b') => whole.push_str("(?-u:\\b)"),
            Some(other) => whole.extend(['\\', other]),
            None => whole.push('\\'),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_of_ascii_also_within_brackets() {
        let found = |pattern: &str, text: &str| Pattern::new(pattern).unwrap().is_in(text);
        assert!(found(r"^\d+$", "123") && !found(r"^\d+$", "\u{661}"));
        assert!(found(r"^[\w.]+$", "a_1.b") && !found(r"^[\w.]+$", "\u{e9}"));
        assert!(found(r"^\S+$", "\u{2003}") && !found(r"^\S+$", " "));
        assert!(found(r"\bops\b", "the ops team") && !found(r"\bops\b", "devops"));
        assert!(found(r"(?i)^ä$", "Ä"));
        assert!(found(r"a\.b", "a.b") && !found(r"a\.b", "axb"));
        assert!(found(r"\\d", r"\d") && !found(r"\\d", "1"));
    }

    #[test] // L03
    fn a_pattern_that_could_be_slow_is_refused_when_it_is_read() {
        for large in ["a{1000}", "(a{50}){50}", "((a{20}){20}){20}", &"a".repeat(257)] {
            assert_eq!(Pattern::new(large).unwrap_err(), ConditionFault::PatternTooLarge, "{large}");
        }
        for bad in ["(", "a(?=b)", r"(a)\1", "[", "*", "\\", &"(".repeat(100)] {
            assert_eq!(Pattern::new(bad).unwrap_err(), ConditionFault::Pattern, "{bad}");
        }
        // Evil elsewhere; linear here.
        let evil = Pattern::new("(a+)+$").unwrap();
        assert!(!evil.is_in(&format!("{}b", "a".repeat(MAX_MATCHED - 1))));
    }
}
