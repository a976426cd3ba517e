//! Timestamps and durations of CEL, in nanoseconds: their texts (RFC 3339; `1h30m`), their ranges and their parts.

use super::types::Part;

/// 0001-01-01T00:00:00Z, in nanoseconds since the Unix epoch.
const FIRST: i128 = -62_135_596_800 * SECOND;
/// 9999-12-31T23:59:59.999999999Z.
const LAST: i128 = 253_402_300_800 * SECOND - 1;
/// The longest duration either way: 10,000 years (protobuf `Duration`).
const LONGEST: i128 = 315_576_000_000 * SECOND;
/// Nanoseconds of a second.
pub(super) const SECOND: i128 = 1_000_000_000;
const DAY: i64 = 86_400;

/// A timestamp, where it is in range.
pub(super) fn time(nanos: i128) -> Option<i128> {
    (FIRST..=LAST).contains(&nanos).then_some(nanos)
}

/// A duration, where it is in range.
pub(super) fn span(nanos: i128) -> Option<i128> {
    (-LONGEST..=LONGEST).contains(&nanos).then_some(nanos)
}

/// `2026-12-01T08:00:00.5+02:00` (RFC 3339 §5.6), without leap seconds.
pub(super) fn read_time(text: &str) -> Option<i128> {
    let (date, rest) = text.split_at_checked(10)?;
    let (clock, rest) = rest.strip_prefix(['T', 't'])?.split_at_checked(8)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| (1..=9).contains(digits))?;
            let (digits, zone) = rest.split_at_checked(digits)?;
            (format!("{digits:0<9}").parse::<i128>().ok()?, zone)
        }
        None => (0, rest),
    };
    let offset = if matches!(zone, "Z" | "z") { 0 } else { offset(zone)? };
    let fits = (1..=9999).contains(&year) && (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    let days = days(year, month, day);
    if !fits || civil(days) != (year, month, day) {
        return None;
    }
    let of_day = hour.checked_mul(3_600)?.checked_add(minute.checked_mul(60)?)?.checked_add(second)?;
    let seconds = days.checked_mul(DAY)?.checked_add(of_day)?.checked_sub(offset)?;
    time(i128::from(seconds).checked_mul(SECOND)?.checked_add(fraction)?)
}

/// Seconds east of UTC: `+02:00`, `-08:30`; also `UTC`.
pub(super) fn zone(text: &str) -> Option<i64> {
    if text == "UTC" { Some(0) } else { offset(text) }
}

fn offset(text: &str) -> Option<i64> {
    let east = text.strip_prefix('+');
    let [hours, minutes] = numbers(east.or_else(|| text.strip_prefix('-'))?, ':', [2, 2])?;
    let seconds = hours.checked_mul(3_600)?.checked_add(minutes.checked_mul(60)?)?;
    let fits = hours < 24 && minutes < 60;
    fits.then_some(if east.is_some() { seconds } else { seconds.checked_neg()? })
}

/// Numbers of so many digits each.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// `1h30m`, `-1.5s`, `250ms`, `0`.
pub(super) fn read_span(text: &str) -> Option<i128> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return Some(0);
    }
    let mut rest = unsigned;
    let mut nanos: i128 = 0;
    while !rest.is_empty() || rest.len() == unsigned.len() {
        let number = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, more) = rest.split_at_checked(number)?;
        let unit = more.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(more.len());
        let (unit, more) = more.split_at_checked(unit)?;
        nanos = nanos.checked_add(scaled(number, unit_of(unit)?)?)?;
        rest = more;
    }
    span(if text.starts_with('-') { nanos.checked_neg()? } else { nanos })
}

fn unit_of(name: &str) -> Option<i128> {
    Some(match name {
        "h" => 3_600 * SECOND,
        "m" => 60 * SECOND,
        "s" => SECOND,
        "ms" => 1_000_000,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ns" => 1,
        _ => return None,
    })
}

/// A decimal number of units, cut off below a nanosecond.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 20 || fraction.len() > 18 {
        return None;
    }
    let read = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
    let ten = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = read(fraction)?.checked_mul(unit)?.checked_div(ten)?;
    read(whole)?.checked_mul(unit)?.checked_add(part)
}

/// A timestamp as text (RFC 3339), in UTC.
pub(super) fn write_time(nanos: i128) -> String {
    let (days, of_day) = split(nanos, 0);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    let fraction = decimals(nanos.rem_euclid(SECOND));
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// A duration as text: `5400.5s`.
pub(super) fn write_span(nanos: i128) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.saturating_abs();
    format!("{sign}{}{}s", nanos / SECOND, decimals(nanos % SECOND))
}

fn decimals(nanos: i128) -> String {
    if nanos == 0 { String::new() } else { format!(".{nanos:09}").trim_end_matches('0').to_owned() }
}

/// Whole days since the Unix epoch and seconds of the day, so many seconds east of UTC.
fn split(nanos: i128, offset: i64) -> (i64, i64) {
    let seconds = i64::try_from(nanos.div_euclid(SECOND)).unwrap_or_default().saturating_add(offset);
    (seconds.div_euclid(DAY), seconds.rem_euclid(DAY))
}

/// A part of a timestamp, so many seconds east of UTC.
pub(super) fn part_of_time(part: Part, nanos: i128, offset: i64) -> i64 {
    let (days_since, of_day) = split(nanos, offset);
    let (year, month, day) = civil(days_since);
    match part {
        Part::FullYear => year,
        Part::Month => month.saturating_sub(1),
        Part::Date => day,
        Part::DayOfMonth => day.saturating_sub(1),
        // The epoch was a Thursday.
        Part::DayOfWeek => days_since.saturating_add(4).rem_euclid(7),
        Part::DayOfYear => days_since.saturating_sub(days(year, 1, 1)),
        Part::Hours => of_day / 3_600,
        Part::Minutes => of_day / 60 % 60,
        Part::Seconds => of_day % 60,
        Part::Milliseconds => i64::try_from(nanos.rem_euclid(SECOND) / 1_000_000).unwrap_or_default(),
    }
}

/// A duration in whole hours, minutes or seconds, or its milliseconds; `None` for what it has not.
pub(super) fn part_of_span(part: Part, nanos: i128) -> Option<i64> {
    let units = match part {
        Part::Hours => nanos / (3_600 * SECOND),
        Part::Minutes => nanos / (60 * SECOND),
        Part::Seconds => nanos / SECOND,
        Part::Milliseconds => nanos % SECOND / 1_000_000,
        Part::FullYear | Part::Month | Part::Date | Part::DayOfMonth | Part::DayOfWeek | Part::DayOfYear => {
            return None;
        }
    };
    i64::try_from(units).ok()
}

/// Days since the Unix epoch of a date of the Gregorian calendar.
#[expect(clippy::arithmetic_side_effects, reason = "of years 0 to 10,000: far from the ends of i64")]
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let of_era = year.rem_euclid(400) * 365 + year.rem_euclid(400) / 4 - year.rem_euclid(400) / 100 + of_year;
    year.div_euclid(400) * 146_097 + of_era - 719_468
}

/// The date, so many days after the Unix epoch: year, month, day.
#[expect(clippy::arithmetic_side_effects, reason = "of years 0 to 10,000: far from the ends of i64")]
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carried) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year_of_era + days.div_euclid(146_097) * 400 + carried, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_four_hundred_years_and_of_the_last_four_hundred_has_one_date() {
        let months = |leap: bool| [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let (mut year, mut month, mut day) = (1, 1, 1);
        for number in days(1, 1, 1)..=days(400, 12, 31) {
            assert_eq!(civil(number), (year, month, day));
            assert_eq!(days(year, month, day), number);
            assert_eq!(civil(number + 24 * 146_097), (year + 9_600, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = months(leap)[usize::try_from(month).unwrap() - 1];
            (year, month, day) = match (day == last, month) {
                (true, 12) => (year + 1, 1, 1),
                (true, _) => (year, month + 1, 1),
                (false, _) => (year, month, day + 1),
            };
        }
        assert_eq!((year, month, day), (401, 1, 1));
    }

    #[test]
    fn timestamps_are_read_and_written_as_rfc_3339_has_them() {
        let at = |text| read_time(text).unwrap();
        assert_eq!(at("1970-01-01T00:00:00Z"), 0);
        assert_eq!(at("2027-01-15T08:00:00+02:00"), 1_799_992_800 * SECOND);
        assert_eq!(at("0001-01-01T00:00:00Z"), FIRST);
        assert_eq!(at("9999-12-31T23:59:59.999999999Z"), LAST);
        for text in ["2024-02-29T12:34:56.5Z", "1969-12-31T23:59:59.000000001Z", "0001-01-01T00:00:00Z"] {
            assert_eq!(write_time(at(text)), text);
        }
        for bad in [
            "",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:60Z",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00.0000000001Z",
            "2024-01-01T00:00:00+2:00",
            "0001-01-01T00:00:00+00:01",
            "10000-01-01T00:00:00Z",
            "2024-01-01T00:00:00\u{e9}",
        ] {
            assert_eq!(read_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn parts_of_a_timestamp_are_counted_as_cel_counts_them() {
        let at = read_time("2027-01-15T23:30:05.25Z").unwrap();
        let part = |part| part_of_time(part, at, 0);
        assert_eq!(
            (part(Part::FullYear), part(Part::Month), part(Part::Date), part(Part::DayOfMonth)),
            (2027, 0, 15, 14)
        );
        assert_eq!((part(Part::DayOfWeek), part(Part::DayOfYear)), (5, 14));
        assert_eq!((part(Part::Hours), part(Part::Minutes), part(Part::Seconds)), (23, 30, 5));
        assert_eq!(part(Part::Milliseconds), 250);
        assert_eq!(part_of_time(Part::Hours, at, zone("+02:00").unwrap()), 1);
        assert_eq!(part_of_time(Part::DayOfWeek, at, zone("+02:00").unwrap()), 6);
        assert_eq!(part_of_time(Part::FullYear, FIRST, zone("-23:59").unwrap()), 0);
        assert_eq!(part_of_time(Part::FullYear, LAST, zone("+23:59").unwrap()), 10_000);
        for bad in ["Europe/Berlin", "+2", "+24:00", "", "Z"] {
            assert_eq!(zone(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_read_and_written() {
        for (text, nanos) in [
            ("0", 0),
            ("1h30m", 5_400 * SECOND),
            ("-1.5s", -SECOND * 3 / 2),
            ("250ms", SECOND / 4),
            ("1us2ns", 1_002),
            (".5s", SECOND / 2),
        ] {
            assert_eq!(read_span(text), Some(nanos), "{text}");
        }
        for bad in ["", "-", "1", "1d", "h", "1.2.3s", ".s", "1h ", "99999999999999999999999h", "87660001h"] {
            assert_eq!(read_span(bad), None, "{bad}");
        }
        assert_eq!((&*write_span(-SECOND * 3 / 2), &*write_span(5_400 * SECOND)), ("-1.5s", "5400s"));
        assert_eq!(part_of_span(Part::Minutes, 5_400 * SECOND), Some(90));
        assert_eq!(part_of_span(Part::Date, 0), None);
    }
}
