//! `max_age:` and `acr:` of a route: how a person must have signed in for it.

use std::time::Duration;

use crate::authz::stepup;
use crate::config::error::{Problem, Spanned, Text};
use crate::config::shape::{Fields, Reader};

/// The longest time since a person signed in that means anything.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How many ways to sign in a route may name.
const MOST: usize = 16;

/// How a person must have signed in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepUp {
    /// How long ago at most, in whole seconds.
    pub max_age: Option<Spanned<Duration>>,
    /// In which of these ways; empty where each will do.
    pub acr: Vec<Text>,
}

/// What a route says of it: the inner `None` where it says nothing. `None` where it cannot be read: nothing that narrows
/// is left out.
#[expect(clippy::option_option, reason = "not written is one thing, not readable another")]
pub(super) fn of_route(reader: &mut Reader, fields: &Fields<'_>) -> Option<Option<StepUp>> {
    if !fields.has("max_age") && !fields.has("acr") {
        return Some(None);
    }
    let max_age = fields.get("max_age").map(|node| {
        let age = reader.duration(node, &fields.name("max_age"), LONGEST)?;
        if age.is_zero() || age.subsec_nanos() != 0 {
            let message = "`max_age` is told to callers in whole seconds, one at least";
            reader.report(Problem::error("out_of_range", node.span, message).cure("max_age: 10m"));
            return None;
        }
        Some(Spanned::new(age, node.span))
    });
    let acr = fields.get("acr").map(|node| {
        let all = reader.texts(node, &fields.name("acr"));
        let bad = all.iter().find(|acr| !stepup::StepUp::can_say(&acr.value));
        if let Some(bad) = bad {
            let message = "a challenge cannot say this value: visible ASCII without spaces, `\"` and `\\`";
            reader.report(Problem::error("bad_value", bad.span, message).cure("acr: [urn:example:mfa]"));
            return None;
        }
        if all.len() > MOST {
            let message = format!("`acr` lists at most {MOST} ways to sign in");
            reader.report(Problem::error("out_of_range", node.span, message));
            return None;
        }
        Some(all).filter(|all| !all.is_empty())
    });
    let max_age = max_age.map_or(Some(None), |age| age.map(Some))?;
    let acr = acr.unwrap_or(Some(Vec::new()))?;
    Some(Some(StepUp { max_age, acr }))
}
