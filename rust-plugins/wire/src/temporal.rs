//! Dates and times from RFC 3339 text, checked against the calendar, in microseconds.

use std::ops::RangeInclusive;

/// Microseconds of a day.
pub const DAY_US: i64 = 86_400_000_000;

/// Days since 1970-01-01 of the years 0001 to 9999, and their microseconds.
pub const DAYS: RangeInclusive<i32> = -719_162..=2_932_896;
pub const MICROSECONDS: RangeInclusive<i64> = FIRST_US..=LAST_US;
const FIRST_US: i64 = -62_135_596_800_000_000;
const LAST_US: i64 = 253_402_300_799_999_999;

/// How a timestamp says which zone it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// It does not.
    Naive,
    /// Seconds east of UTC; 0 for `Z`.
    Offset(i32),
}

/// Days since 1970-01-01 of `YYYY-MM-DD`, the year 0001 to 9999.
pub fn date(text: &[u8]) -> Option<i32> {
    match text.len() {
        10 => days(text),
        _ => None,
    }
}

/// Microseconds since midnight of `HH:MM:SS`, with up to nine fraction digits (cut to six). A zone may
/// follow only where it says UTC.
pub fn time(text: &[u8]) -> Option<i64> {
    let (us, rest) = clock(text)?;
    matches!(zone(rest)?, Zone::Naive | Zone::Offset(0)).then_some(us)
}

/// Microseconds since 1970-01-01T00:00:00Z. Without a zone UTC is meant.
pub fn timestamptz(text: &[u8]) -> Option<i64> {
    let (us, zone) = timestamp_and_zone(text)?;
    let utc = match zone {
        Zone::Naive => us,
        Zone::Offset(seconds) => us - seconds as i64 * 1_000_000,
    };
    (FIRST_US..=LAST_US).contains(&utc).then_some(utc)
}

/// Microseconds since 1970-01-01T00:00:00 of a timestamp without a zone; none if it has one.
pub fn timestamp(text: &[u8]) -> Option<i64> {
    match timestamp_and_zone(text)? {
        (us, Zone::Naive) => Some(us),
        _ => None,
    }
}

/// `YYYY-MM-DD`, then `T`, `t` or one space, then the clock and an optional zone.
fn timestamp_and_zone(text: &[u8]) -> Option<(i64, Zone)> {
    if text.len() < 19 || !matches!(text[10], b'T' | b't' | b' ') {
        return None;
    }
    let days = days(text)?;
    let (us, rest) = clock(&text[11..])?;
    Some((days as i64 * DAY_US + us, zone(rest)?))
}

/// Year, month and day of a day since 1970-01-01; none outside the years 0001 to 9999. Years begin in March here, so that the
/// leap day is the last: Hinnant, "chrono-compatible low-level date algorithms".
pub fn civil(days: i64) -> Option<(i64, i64, i64)> {
    if !i32::try_from(days).is_ok_and(|days| DAYS.contains(&days)) {
        return None;
    }
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Some((year, month, day))
}

/// Eight bytes, a 0 where a digit stands: the bytes as a word, and all bits of those that are digits.
struct Layout(u64, u64);

const DATE: Layout = layout(*b"0000-00-");
const CLOCK: Layout = layout(*b"00:00:00");

const fn layout(bytes: [u8; 8]) -> Layout {
    let (mut digits, mut at) = (0, 0);
    while at < 8 {
        if bytes[at] == b'0' {
            digits |= 0xff << (8 * at);
        }
        at += 1;
    }
    Layout(u64::from_le_bytes(bytes), digits)
}

/// The numbers that the first eight bytes of `text` show: byte `i` is that of the digits `i` and `i + 1`. None unless they are laid
/// out like that.
#[inline(always)]
fn pairs(text: &[u8], Layout(bytes, digits): Layout) -> Option<[u8; 8]> {
    // A digit becomes its value, every other byte that is as it should be 0.
    let lanes = u64::from_le_bytes(*text.first_chunk()?) ^ bytes;
    let above_nine = (lanes.wrapping_add(0x0606_0606_0606_0606) | lanes) & 0xf0f0_f0f0_f0f0_f0f0;
    if above_nine | (lanes & !digits) != 0 {
        return None;
    }
    Some((lanes * 10 + (lanes >> 8)).to_le_bytes())
}

#[inline(always)]
fn two(text: &[u8], at: usize) -> Option<i32> {
    let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then_some(tens as i32 * 10 + ones as i32)
}

/// The first ten bytes of `text` as a date.
#[inline(always)]
fn days(text: &[u8]) -> Option<i32> {
    let text = text.get(..10)?;
    let numbers = pairs(text, DATE)?;
    let year = numbers[0] as i32 * 100 + numbers[2] as i32;
    let (month, day) = (numbers[5] as i32, two(text, 8)?);
    if year == 0 || !(1..=12).contains(&month) {
        return None;
    }
    if day == 0 || day > days_of_month(year, month) {
        return None;
    }
    // Days from civil (Howard Hinnant), for years of the common era.
    let year = year - (month <= 2) as i32;
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

#[inline(always)]
fn days_of_month(year: i32, month: i32) -> i32 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + leap as i32,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The clock at the start of `text` in microseconds, and what follows it.
#[inline(always)]
fn clock(text: &[u8]) -> Option<(i64, &[u8])> {
    let (clock, mut rest) = text.split_at_checked(8)?;
    let numbers = pairs(clock, CLOCK)?;
    let (hour, minute, second) = (numbers[0] as i64, numbers[3] as i64, numbers[6] as i64);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut us = ((hour * 60 + minute) * 60 + second) * 1_000_000;
    if let [b'.', fraction @ ..] = rest {
        let digits = fraction
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if digits == 0 || digits > 9 {
            return None;
        }
        let mut unit = 100_000;
        for byte in &fraction[..digits.min(6)] {
            us += (byte - b'0') as i64 * unit;
            unit /= 10;
        }
        rest = &fraction[digits..];
    }
    Some((us, rest))
}

/// All of `text` as a zone: nothing, `Z`, or an offset `+HH:MM`, `+HHMM` or `+HH`.
#[inline(always)]
fn zone(text: &[u8]) -> Option<Zone> {
    let (sign, digits) = match text {
        [] => return Some(Zone::Naive),
        [b'Z' | b'z'] => return Some(Zone::Offset(0)),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match digits.len() {
        2 => (two(digits, 0)?, 0),
        4 => (two(digits, 0)?, two(digits, 2)?),
        5 if digits[2] == b':' => (two(digits, 0)?, two(digits, 3)?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(Zone::Offset(sign * (hours * 3600 + minutes * 60)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_the_calendar() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("1969-12-31", -1),
            ("2000-02-29", 11016),
            ("2024-02-29", 19782),
            ("2026-11-23", 20780),
            ("0001-01-01", -719162),
            ("9999-12-31", 2932896),
        ] {
            assert_eq!(date(text.as_bytes()), Some(days), "{text}");
        }
        for text in [
            "0000-01-01",
            "2023-02-29",
            "1900-02-29",
            "2024-00-01",
            "2024-13-01",
            "2024-01-00",
            "2024-04-31",
            "2024-1-01",
            "24-01-01",
            "10000-01-01",
            "2024/01/01",
            "2024-01-01T",
            "",
            "2024-01-0a",
            "-024-01-01",
            "2022-01-23 BC",
        ] {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn every_byte_of_a_date_and_a_clock_is_looked_at() {
        let text = b"2024-02-29T23:59:58";
        for at in 0..text.len() {
            for byte in 0..=255 {
                let mut other = *text;
                other[at] = byte;
                let digit = text[at].is_ascii_digit();
                let may_be = if digit {
                    byte.is_ascii_digit()
                } else {
                    byte == text[at]
                };
                let may_be = may_be || at == 10 && matches!(byte, b't' | b' ');
                assert!(may_be || timestamptz(&other).is_none(), "{at} {byte}");
            }
        }
    }

    #[test]
    fn every_day_of_nine_centuries_follows_the_one_before() {
        let mut expected = date(b"1601-01-01").expect("a date");
        for year in 1601..2500 {
            for month in 1..=12 {
                for day in 1..=days_of_month(year, month) {
                    let text = format!("{year:04}-{month:02}-{day:02}");
                    assert_eq!(date(text.as_bytes()), Some(expected), "{text}");
                    expected += 1;
                }
            }
        }
    }

    #[test]
    fn timestamps_become_utc() {
        let noon = 20780i64 * DAY_US + 43_200_000_000;
        for (text, us) in [
            ("2026-11-23T12:00:00Z", noon),
            ("2026-11-23t12:00:00z", noon),
            ("2026-11-23 12:00:00", noon),
            ("2026-11-23T12:00:00+00:00", noon),
            ("2026-11-23T14:30:00+02:30", noon),
            ("2026-11-23T14:30:00+0230", noon),
            ("2026-11-23T05:00:00-07", noon),
            ("2026-11-24T11:59:00+23:59", noon),
            ("2026-11-23T12:00:00.1Z", noon + 100_000),
            ("2026-11-23T12:00:00.123456789Z", noon + 123_456),
            ("2026-11-23T12:00:00.000001", noon + 1),
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999999Z", -1),
            ("0001-01-01T00:00:00Z", FIRST_US),
            ("9999-12-31T23:59:59.999999999Z", LAST_US),
        ] {
            assert_eq!(timestamptz(text.as_bytes()), Some(us), "{text}");
        }
    }

    #[test]
    fn timestamps_that_are_none() {
        for text in [
            "2026-11-23",
            "2026-11-23T",
            "2026-11-23T12:00",
            "2026-11-23T12:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T12:60:00Z",
            "2016-12-31T23:59:60Z",
            "2026-11-23T12:00:00.Z",
            "2026-11-23T12:00:00,5Z",
            "2026-11-23T12:00:00.1234567890Z",
            "2026-11-23T12:00:00 Z",
            "2026-11-23T12:00:00+24:00",
            "2026-11-23T12:00:00+02:60",
            "2026-11-23T12:00:00+2",
            "2026-11-23  12:00:00",
            "2026-11-23_12:00:00",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "1700000000",
            "2023-02-29T00:00:00Z",
            "2022-01-23T01:23:45Z BC",
            "",
            "2026-11-23T12:00:00ZZ",
            "2026-11-23T1:00:00Z",
            "2026-11-23T12-00-00",
        ] {
            assert_eq!(timestamptz(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_timestamp_without_zone_has_none() {
        assert_eq!(timestamp(b"1970-01-02 00:00:00.5"), Some(DAY_US + 500_000));
        assert_eq!(timestamp(b"1970-01-02T00:00:00Z"), None);
        assert_eq!(timestamp(b"1970-01-02T00:00:00+00:00"), None);
    }

    #[test]
    fn times_of_day() {
        assert_eq!(time(b"00:00:00"), Some(0));
        assert_eq!(time(b"23:59:59.999999"), Some(DAY_US - 1));
        assert_eq!(time(b"12:34:56Z"), Some(45_296_000_000));
        assert_eq!(time(b"12:34:56+00:00"), Some(45_296_000_000));
        for text in [
            "12:34",
            "24:00:00",
            "12:34:60",
            "12:34:56+01:00",
            "1:2:3",
            "",
            "838:59:59",
            "-01:00:00",
        ] {
            assert_eq!(time(text.as_bytes()), None, "{text}");
        }
    }
}
