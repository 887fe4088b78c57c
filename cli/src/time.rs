//! Times as people write and read them: local time, or RFC 3339 with an offset.

use icecore::retention::Civil;
use icecore::runtime::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::time::Duration;

const NANOSECONDS: i128 = 1_000_000_000;

/// A time as it was typed: the moments that it may mean, from `first` to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Typed {
    /// The earliest moment.
    pub(crate) first: Timestamp,
    /// The latest moment: the end of the day, minute or second that was named.
    pub(crate) last: Timestamp,
}

/// Reads RFC 3339, `YYYY-MM-DD`, `YYYY-MM-DD HH:MM` or `YYYY-MM-DD HH:MM:SS`; without an offset in local time.
pub(crate) fn parse(text: &str) -> Result<Typed, String> {
    parse_in(text, TimeZone::system())
}

fn parse_in(text: &str, zone: TimeZone) -> Result<Typed, String> {
    let invalid = || format!("`{text}` is no time; write 2026-10-03T12:30:00Z, 2026-10-03, or \"2026-10-03 12:30:00\" (local time)");
    let first = match text.parse::<jiff::Timestamp>() {
        Ok(time) => time,
        Err(_) if text.contains(['Z', 'z', '[']) => return Err(invalid()),
        Err(_) => text.parse::<DateTime>().ok().and_then(|time| time.to_zoned_datetime(zone).ok()).ok_or_else(invalid)?.timestamp(),
    };
    let length = match text.len() {
        10 => 86_400 * NANOSECONDS,
        16 => 60 * NANOSECONDS,
        _ if text.contains('.') => 1,
        _ => NANOSECONDS,
    };
    Ok(Typed { first: from_nanoseconds(first.as_nanosecond()), last: from_nanoseconds(first.as_nanosecond() + length - 1) })
}

fn from_nanoseconds(time: i128) -> Timestamp {
    // jiff's times are within years -9999 to 9999.
    Timestamp { seconds: time.div_euclid(NANOSECONDS) as i64, nanoseconds: time.rem_euclid(NANOSECONDS) as u32 }
}

/// Local time to the second.
pub(crate) fn local(time: Timestamp) -> String {
    match to_jiff(time) {
        Some(time) => time.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        None => format!("@{}", time.seconds),
    }
}

/// The local date.
pub(crate) fn date(time: Timestamp) -> String {
    local(time).split(' ').next().unwrap_or_default().to_owned()
}

/// RFC 3339 in UTC, as exact as it is known.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    to_jiff(time).map_or_else(|| format!("@{}.{:09}", time.seconds, time.nanoseconds), |time| time.to_string())
}

fn to_jiff(time: Timestamp) -> Option<jiff::Timestamp> {
    let nanoseconds = i128::from(time.seconds) * NANOSECONDS + i128::from(time.nanoseconds);
    jiff::Timestamp::from_nanosecond(nanoseconds).ok()
}

/// What calendar and clock of this machine's time zone show at a moment.
pub(crate) fn civil(time: Timestamp) -> Civil {
    civil_in(time, TimeZone::system())
}

fn civil_in(time: Timestamp, zone: TimeZone) -> Civil {
    // Moments that no calendar holds are long ago, or far away.
    let outermost = if time.seconds < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    let local = to_jiff(time).unwrap_or(outermost).to_zoned_datetime(zone);
    let week = local.date().iso_week_date();
    Civil {
        year: local.year().into(),
        month: local.month().unsigned_abs(),
        day: local.day().unsigned_abs(),
        hour: local.hour().unsigned_abs(),
        iso_week_year: week.year().into(),
        iso_week: week.week().unsigned_abs(),
    }
}

/// Reads `12h`, `30d`, `8w`, `1y` (366 days), or a sum as `1y30d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("`{text}` is no duration; write 12h, 30d, 8w or 1y (366 days), or several as 1y30d");
    let mut seconds = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let number: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        let (unit, after) = rest[digits..].split_at_checked(1).ok_or_else(invalid)?;
        let hours = match unit {
            "h" => 1,
            "d" => 24,
            "w" => 7 * 24,
            "y" => 366 * 24,
            _ => return Err(invalid()),
        };
        seconds = number.checked_mul(hours * 3_600).and_then(|more| seconds.checked_add(more)).ok_or_else(invalid)?;
        rest = after;
    }
    if text.is_empty() { Err(invalid()) } else { Ok(Duration::from_secs(seconds)) }
}

/// A duration as people read it.
pub(crate) fn duration(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    match seconds {
        0 => format!("{:.2} s", nanoseconds as f64 / 1e9),
        1..60 => format!("{:.1} s", nanoseconds as f64 / 1e9),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_exactly_as_they_were_written() {
        let zone = || TimeZone::fixed(jiff::tz::offset(2));
        let time = |text| parse_in(text, zone()).map(|typed| (rfc3339(typed.first), rfc3339(typed.last))).ok();
        let both = |first: &str, last: &str| Some((first.to_owned(), last.to_owned()));
        assert_eq!(time("2026-10-03"), both("2026-10-02T22:00:00Z", "2026-10-03T21:59:59.999999999Z"));
        assert_eq!(time("2026-10-03 12:30"), both("2026-10-03T10:30:00Z", "2026-10-03T10:30:59.999999999Z"));
        assert_eq!(time("2026-10-03 12:30:05"), both("2026-10-03T10:30:05Z", "2026-10-03T10:30:05.999999999Z"));
        assert_eq!(time("2026-10-03T12:30:05Z"), both("2026-10-03T12:30:05Z", "2026-10-03T12:30:05.999999999Z"));
        assert_eq!(time("2026-10-03T12:30:05.25+02:00"), both("2026-10-03T10:30:05.25Z", "2026-10-03T10:30:05.25Z"));
        assert_eq!(time("1969-12-31T23:59:59.5Z"), both("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z"));
        for wrong in ["", "yesterday", "2026-13-01", "2026-10-03T25:00:00Z", "12:30"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_are_read() {
        let days = |days: u64| Ok(Duration::from_secs(86_400 * days));
        assert_eq!(["48h", "30d", "8w", "1y30d", "0d"].map(parse_duration), [days(2), days(30), days(56), days(396), days(0)]);
        for wrong in ["", "30", "d", "1m", "-1d", "1.5d", "1d ", "30\u{20ac}", "99999999999999999y", "99999999999999999999d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn calendars_hold_every_moment() {
        let berlin = || TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let at = |text: &str| parse_in(text, TimeZone::UTC).unwrap().first;
        let newyear = Civil { year: 2027, month: 1, day: 1, hour: 0, iso_week_year: 2026, iso_week: 53 };
        assert_eq!(civil_in(at("2026-12-31T23:00:00Z"), berlin()), newyear);
        let summer = Civil { year: 2026, month: 7, day: 1, hour: 1, iso_week_year: 2026, iso_week: 27 };
        assert_eq!(civil_in(at("2026-06-30T23:00:00Z"), berlin()), summer);
        let never = [i64::MIN, i64::MAX].map(|seconds| civil_in(Timestamp { seconds, nanoseconds: 0 }, berlin()).year);
        assert!(never[0] < -9_000 && never[1] > 9_000, "{never:?}");
    }

    #[test]
    fn times_that_no_calendar_holds_are_shown_too() {
        assert_eq!(local(Timestamp { seconds: i64::MAX, nanoseconds: 0 }), "@9223372036854775807");
        assert_eq!(duration(1_250_000_000), "1.2 s");
        assert_eq!(duration(3_725_000_000_000), "1 h 02 min");
    }
}
