//! Step-up: how lately and how well a person must have signed in for a route (RFC 9470).

use std::sync::Arc;
use std::time::Duration;

use super::claim;
use super::json::{Json, Object};
use super::time::Timestamp;

/// A route's `max_age:` and `acr:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepUp {
    max_age: Option<Duration>,
    acr: Box<[Box<str>]>,
    challenge: Arc<str>,
}

impl StepUp {
    /// At most so long ago, in whole seconds; and in one of these ways, or in any where there is none. The ways hold
    /// nothing but visible ASCII without `"` and `\`.
    #[must_use]
    pub fn new(max_age: Option<Duration>, acr: Box<[Box<str>]>) -> Self {
        let mut challenge = r#"Bearer error="insufficient_user_authentication""#.to_owned();
        if !acr.is_empty() {
            challenge.push_str(&format!(r#", acr_values="{}""#, acr.join(" ")));
        }
        if let Some(max_age) = max_age {
            challenge.push_str(&format!(r#", max_age="{}""#, max_age.as_secs()));
        }
        Self { max_age, acr, challenge: challenge.into() }
    }

    /// Whether a value of `acr` can stand in a challenge.
    #[must_use]
    pub fn can_say(acr: &str) -> bool {
        !acr.is_empty() && acr.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
    }

    /// How long ago a person may have signed in.
    #[must_use]
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    /// The ways to sign in, one of which it must have been; empty where each will do.
    #[must_use]
    pub fn acr(&self) -> &[Box<str>] {
        &self.acr
    }

    /// The value of `WWW-Authenticate` (RFC 9470 §3).
    #[must_use]
    pub fn challenge(&self) -> &Arc<str> {
        &self.challenge
    }

    /// Whether these claims say so (RFC 9470 §6). A claim that is missing, or is not what OpenID Connect Core §2 says,
    /// does not; nor does a time that the leeway does not explain.
    pub(super) fn is_met(&self, claims: &Object, leeway: Duration, now: Timestamp) -> bool {
        let is_fresh = |longest: Duration| match claim::time(claims, "auth_time") {
            Ok(Some(signed_in)) => signed_in <= now.plus(leeway) && now <= signed_in.plus(longest),
            Ok(None) | Err(_) => false,
        };
        let acr = claims.get("acr").and_then(Json::as_text);
        let is_strong = self.acr.is_empty() || acr.is_some_and(|acr| self.acr.iter().any(|wanted| **wanted == *acr));
        is_strong && self.max_age.is_none_or(is_fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    fn is_met(step_up: &StepUp, claims: &str) -> bool {
        let claims = Object::parse(claims.as_bytes()).unwrap();
        step_up.is_met(&claims, Duration::from_secs(60), Timestamp::from_secs(i64::try_from(NOW).unwrap()))
    }

    #[test] // J10
    fn a_sign_in_counts_for_its_age_and_no_longer() {
        let fresh = StepUp::new(Some(Duration::from_secs(600)), Box::default());
        for (auth_time, met) in [
            ((NOW - 600).to_string(), true),
            ((NOW - 601).to_string(), false),
            (format!("{}.5", NOW - 600), true),
            (format!("{}.5", NOW - 601), false),
            (NOW.to_string(), true),
            ((NOW + 60).to_string(), true),
            ((NOW + 61).to_string(), false),
            (format!("\"{NOW}\""), false),
            ("null".to_owned(), false),
            ("true".to_owned(), false),
            (format!("[{NOW}]"), false),
            ("0".to_owned(), false),
            ("-1".to_owned(), false),
            ("1e300".to_owned(), false),
        ] {
            assert_eq!(is_met(&fresh, &format!(r#"{{"auth_time":{auth_time}}}"#)), met, "{auth_time}");
        }
        assert!(!is_met(&fresh, "{}"));
        assert!(!is_met(&fresh, &format!(r#"{{"iat":{NOW}}}"#)));
    }

    #[test]
    fn a_way_to_sign_in_is_one_exact_text() {
        let strong = StepUp::new(None, Box::new(["urn:mfa".into(), "phr".into()]));
        for (acr, met) in [
            (r#""urn:mfa""#, true),
            (r#""phr""#, true),
            (r#""PHR""#, false),
            (r#""urn:mfa phr""#, false),
            (r#"["urn:mfa"]"#, false),
            ("1", false),
            ("null", false),
            (r#""""#, false),
        ] {
            assert_eq!(is_met(&strong, &format!(r#"{{"acr":{acr}}}"#)), met, "{acr}");
        }
        assert!(!is_met(&strong, "{}"));
    }

    #[test]
    fn both_must_hold_and_the_challenge_names_both() {
        let both = StepUp::new(Some(Duration::from_secs(600)), Box::new(["a".into(), "b".into()]));
        assert!(is_met(&both, &format!(r#"{{"acr":"a","auth_time":{NOW}}}"#)));
        assert!(!is_met(&both, r#"{"acr":"a","auth_time":1}"#));
        assert!(!is_met(&both, &format!(r#"{{"acr":"c","auth_time":{NOW}}}"#)));
        let said = r#"Bearer error="insufficient_user_authentication", acr_values="a b", max_age="600""#;
        assert_eq!(&**both.challenge(), said);
    }

    #[test]
    fn what_would_end_a_challenge_is_no_way_to_sign_in() {
        assert!(StepUp::can_say("urn:example:mfa"));
        for acr in ["", "a b", "a\"b", "a\\b", "ä", "a\n"] {
            assert!(!StepUp::can_say(acr), "{acr:?}");
        }
    }
}
