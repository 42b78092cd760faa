//! Values as JSON text, as the parts of this crate that read them take them.

use crate::temporal::civil;

/// Microseconds and nanoseconds are told apart by what a second has of them.
pub const MICROS: i64 = 1_000_000;
const DAY_S: i64 = 86_400;

/// Whether a byte of a string is written as an escape.
const ESCAPED: [bool; 256] = {
    let mut escaped = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        escaped[byte] = true;
        byte += 1;
    }
    escaped[b'"' as usize] = true;
    escaped[b'\\' as usize] = true;
    escaped
};

/// A JSON string of `text`, which is UTF-8.
pub fn string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| ESCAPED[byte as usize]) {
        out.extend_from_slice(&rest[..at]);
        let short = match rest[at] {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => 0,
        };
        if short != 0 {
            out.extend_from_slice(&[b'\\', short]);
        } else {
            let digit = |value: u8| b"0123456789abcdef"[value as usize & 15];
            let code = [digit(rest[at] >> 4), digit(rest[at])];
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&code);
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// A string of `bytes` in the base64 of RFC 4648, with padding.
pub fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push(b'"');
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= group.len() { digit } else { b'=' });
        }
    }
    out.push(b'"');
}

/// The decimal whose digits without its point are `digits`, with a sign or without.
pub fn decimal(digits: &str, scale: i8, out: &mut Vec<u8>) {
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    out.extend_from_slice(sign.as_bytes());
    let digits = digits.as_bytes();
    let Ok(scale) = usize::try_from(scale) else {
        out.extend_from_slice(digits);
        if digits != b"0" {
            out.resize(out.len() + usize::from(scale.unsigned_abs()), b'0');
        }
        return;
    };
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
    if scale > 0 {
        out.push(b'.');
        out.resize(out.len() + scale - fraction.len(), b'0');
        out.extend_from_slice(fraction);
    }
}

/// A string of the day `days` after 1970-01-01; false, with nothing written, outside the years 0001 to 9999.
pub fn date(days: i64, out: &mut Vec<u8>) -> bool {
    let Some((year, month, day)) = civil(days) else {
        return false;
    };
    out.push(b'"');
    ymd(year, month, day, out);
    out.push(b'"');
    true
}

/// A string of the time `value` after midnight; false, with nothing written, outside a day.
pub fn time(value: i64, per_second: i64, out: &mut Vec<u8>) -> bool {
    if !(0..DAY_S * per_second).contains(&value) {
        return false;
    }
    out.push(b'"');
    clock(value, per_second, out);
    out.push(b'"');
    true
}

/// A string of the time `value` after 1970-01-01T00:00:00, as RFC 3339 writes it, in UTC or without a zone.
pub fn timestamp(value: i64, per_second: i64, utc: bool, out: &mut Vec<u8>) -> bool {
    let day = DAY_S * per_second;
    let Some((year, month, date)) = civil(value.div_euclid(day)) else {
        return false;
    };
    out.push(b'"');
    ymd(year, month, date, out);
    out.push(b'T');
    clock(value.rem_euclid(day), per_second, out);
    out.extend_from_slice(if utc { b"Z\"" } else { b"\"" });
    true
}

fn ymd(year: i64, month: i64, day: i64, out: &mut Vec<u8>) {
    digits(year, 4, out);
    out.push(b'-');
    digits(month, 2, out);
    out.push(b'-');
    digits(day, 2, out);
}

/// The time of day with as many digits of a second as it has: none, three, six or nine.
fn clock(value: i64, per_second: i64, out: &mut Vec<u8>) {
    let (seconds, part) = (value / per_second, value % per_second);
    digits(seconds / 3600, 2, out);
    out.push(b':');
    digits(seconds / 60 % 60, 2, out);
    out.push(b':');
    digits(seconds % 60, 2, out);
    if part == 0 {
        return;
    }
    let nanos = part * (1_000_000_000 / per_second);
    out.push(b'.');
    if nanos % 1_000_000 == 0 {
        digits(nanos / 1_000_000, 3, out);
    } else if nanos % 1000 == 0 {
        digits(nanos / 1000, 6, out);
    } else {
        digits(nanos, 9, out);
    }
}

/// The last `count` digits of `value`, which is not negative.
fn digits(value: i64, count: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + count, b'0');
    let mut rest = value;
    for place in out[start..].iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temporal;

    fn text<T>(write: impl Fn(&mut Vec<u8>) -> T) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text")
    }

    fn bare(text: &str) -> &[u8] {
        text.trim_matches('"').as_bytes()
    }

    #[test]
    fn times_are_read_back_as_what_they_were() {
        for days in (-719_162..=2_932_896).step_by(37) {
            let text = text(|out| date(days, out));
            assert_eq!(temporal::date(bare(&text)), Some(days as i32), "{text}");
        }
        for us in [0, -1, 1, 1_763_899_200_123_456, -62_135_596_800_000_000] {
            let zoned = text(|out| timestamp(us, MICROS, true, out));
            assert_eq!(temporal::timestamptz(bare(&zoned)), Some(us), "{zoned}");
            let naive = text(|out| timestamp(us, MICROS, false, out));
            assert_eq!(temporal::timestamp(bare(&naive)), Some(us), "{naive}");
        }
        let last = text(|out| time(DAY_S * MICROS - 1, MICROS, out));
        assert_eq!(last, r#""23:59:59.999999""#);
    }

    #[test]
    fn what_is_no_time_of_the_calendar_writes_nothing() {
        let mut out = Vec::new();
        assert!(!date(2_932_897, &mut out) && !date(-719_163, &mut out));
        assert!(!timestamp(i64::MAX, MICROS, true, &mut out));
        assert!(!time(-1, MICROS, &mut out) && !time(DAY_S * MICROS, MICROS, &mut out));
        assert!(out.is_empty());
    }

    #[test]
    fn decimals_have_all_their_digits() {
        for (digits, scale, expected) in [
            ("0", 2, "0.00"),
            ("5", 2, "0.05"),
            ("-12345", 2, "-123.45"),
            ("7", 0, "7"),
            ("7", -2, "700"),
            ("0", -2, "0"),
            (
                "-17014118346046923173168730371588410572",
                9,
                "-17014118346046923173168730371.588410572",
            ),
        ] {
            assert_eq!(text(|out| decimal(digits, scale, out)), expected);
        }
    }

    #[test]
    fn base64_is_read_back() {
        for length in 0..40u8 {
            let bytes: Vec<u8> = (0..length).map(|at| at.wrapping_mul(37)).collect();
            let text = text(|out| base64(&bytes, out));
            let mut read = Vec::new();
            assert!(crate::base64::decode(bare(&text), &mut read));
            assert_eq!(read, bytes);
        }
    }

    #[test]
    fn texts_are_escaped() {
        assert_eq!(
            text(|out| string("a\"\\\n\t\u{1}ü".as_bytes(), out)),
            r#""a\"\\\n\t\u0001ü""#
        );
    }
}
