//! A point in time as a person writes it: seconds since 1970, or RFC 3339.

use crate::authz::time::Timestamp;

/// Reads a point in time, for clap.
pub(super) fn parse(text: &str) -> Result<Timestamp, String> {
    let read = text.parse().ok().map(Timestamp::from_secs).or_else(|| rfc3339(text));
    read.ok_or_else(|| "neither seconds since 1970 nor RFC 3339, as in 2026-11-21T09:30:00Z".to_owned())
}

/// RFC 3339 §5.6, whole seconds; a fraction is read and left out.
fn rfc3339(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at_checked(at)?;
    let [year, month, day] = numbers(date, '-')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':')?;
    let longest = match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) => 29,
        2 => 28,
        _ => 31,
    };
    let fits = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=longest).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let clock = seconds(hour, minute).saturating_add(second);
    let at = days(year, month, day).saturating_mul(86_400).saturating_add(clock);
    fits.then_some(())?;
    Some(Timestamp::from_secs(at.saturating_sub(offset(zone)?)))
}

fn numbers(text: &str, between: char) -> Option<[i64; 3]> {
    let parts: Option<Vec<i64>> = text.split(between).map(number).collect();
    parts?.try_into().ok()
}

fn number(digits: &str) -> Option<i64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn seconds(hours: i64, minutes: i64) -> i64 {
    hours.saturating_mul(3_600).saturating_add(minutes.saturating_mul(60))
}

/// How many seconds a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, zone) = zone.split_at_checked(1)?;
    let (hours, minutes) = zone.split_once(':')?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let ahead = (hours < 24 && minutes < 60).then_some(seconds(hours, minutes))?;
    Some(if sign == "-" { ahead.saturating_neg() } else { ahead })
}

/// Days since 1970 of a date of the proleptic Gregorian calendar, years from March on.
#[expect(clippy::arithmetic_side_effects, reason = "four digits of a year and two of month and day")]
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// A span as a person says it: `4 min`, `3 h`, `12 days`.
pub(super) fn span(span: std::time::Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::audit;

    #[test]
    fn a_time_is_seconds_or_rfc_3339() {
        for (text, seconds) in [
            ("0", 0),
            ("1800000000", 1_800_000_000),
            ("1970-01-01T00:00:00Z", 0),
            ("2027-01-15T08:00:00Z", 1_800_000_000),
            ("2027-01-15t10:00:00.5+02:00", 1_800_000_000),
            ("2027-01-15 02:30:00-05:30", 1_800_000_000),
            ("2024-02-29T00:00:00Z", 1_709_164_800),
        ] {
            assert_eq!(parse(text), Ok(Timestamp::from_secs(seconds)), "{text}");
        }
        for text in ["", "now", "2027-01-15", "2027-13-01T00:00:00Z", "2023-02-29T00:00:00Z", "2027-01-15T08:00:00"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_the_audit_trail_writes_is_read(seconds in 0..253_402_300_799_i64) {
            let at = Timestamp::from_secs(seconds);
            prop_assert_eq!(parse(&audit::rfc3339(at)), Ok(at));
        }
    }
}
