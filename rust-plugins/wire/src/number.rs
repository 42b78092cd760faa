//! Numbers from their text, exactly: no value passes through a double on its way to an integer or decimal.

/// The most digits of an Iceberg decimal.
pub const MAX_PRECISION: u8 = 38;

const POWERS: [i128; 39] = {
    let mut powers = [1i128; 39];
    let mut at = 1;
    while at < 39 {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// Ten to the power of `precision`, which is at most [`MAX_PRECISION`].
pub fn power(precision: u8) -> i128 {
    POWERS[precision as usize]
}

/// Exact ones.
const DOUBLE_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// The unscaled value of `text` at `scale`, if it has at most `precision` digits there and no digit is lost.
///
/// `text` is a number as JSON or Python's Decimal writes it: sign, digits, fraction, exponent. Zeros that
/// change nothing may stand at both ends. None for anything else.
pub fn decimal(text: &[u8], precision: u8, scale: u8) -> Option<i128> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let unscaled = match short(digits, scale) {
        Some(value) => value,
        None => long(digits, scale)?,
    };
    if unscaled >= POWERS[precision as usize] {
        return None;
    }
    Some(if negative { -unscaled } else { unscaled })
}

/// The usual case: at most 18 digits, no exponent, no more fraction digits than `scale`.
#[inline]
fn short(digits: &[u8], scale: u8) -> Option<i128> {
    if digits.len() > 19 || digits.is_empty() {
        return None;
    }
    let mut value = 0u64;
    let mut point = None;
    for (at, &byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            value = value * 10 + digit as u64;
        } else if byte == b'.' && point.is_none() && at > 0 && at + 1 < digits.len() {
            point = Some(at);
        } else {
            return None;
        }
    }
    let fraction = point.map_or(0, |at| digits.len() - at - 1);
    if digits.len() - point.map_or(0, |_| 1) > 18 || fraction > scale as usize {
        return None;
    }
    (value as i128).checked_mul(POWERS[scale as usize - fraction])
}

/// Every other case. `text` has no sign.
fn long(text: &[u8], scale: u8) -> Option<i128> {
    let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&text[..at], exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.iter().position(|&byte| byte == b'.') {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &mantissa[..0]),
    };
    let is_number = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    if fraction.is_empty() && mantissa.len() > whole.len() {
        return None;
    }
    // The digits times ten to the power of `shift` is the unscaled value.
    let digits = || whole.iter().chain(fraction).map(|byte| byte - b'0');
    let zeros = digits().rev().take_while(|&digit| digit == 0).count();
    let count = whole.len() + fraction.len() - zeros;
    let mut value = 0i128;
    for digit in digits().take(count) {
        value = value.checked_mul(10)?.checked_add(digit as i128)?;
    }
    if value == 0 {
        return Some(0);
    }
    let shift = exponent + zeros as i64 - fraction.len() as i64 + scale as i64;
    if !(0..39).contains(&shift) {
        return None;
    }
    value.checked_mul(POWERS[shift as usize])
}

/// An exponent, pinned to a range that no number of digits in a line can bring back.
fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i64, |value, byte| {
        (value * 10 + (byte - b'0') as i64).min(1 << 50)
    });
    Some(if negative { -value } else { value })
}

/// The integer that `text` is exactly: `12`, `12.0` and `1.2e1` all are.
pub fn integer(text: &[u8]) -> Option<i64> {
    decimal(text, MAX_PRECISION, 0).and_then(|value| i64::try_from(value).ok())
}

/// The double nearest to `text`, a JSON number; none if that would be an infinity.
pub fn double(text: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// The double that `text` starts with and the length of its text: of a JSON number without an exponent that a comma, a bracket or a
/// space ends. None, for [`double`] to read, unless one division of two exact doubles gives the nearest one.
#[inline]
pub fn plain_double(text: &[u8]) -> Option<(f64, usize)> {
    let negative = text.first() == Some(&b'-');
    let start = negative as usize;
    let mut mantissa = 0u64;
    let digits = |mantissa: &mut u64, mut at: usize| {
        while let Some(digit) = text.get(at).map(|byte| byte.wrapping_sub(b'0'))
            && digit < 10
        {
            *mantissa = mantissa.wrapping_mul(10).wrapping_add(digit as u64);
            at += 1;
        }
        at
    };
    let point = digits(&mut mantissa, start);
    let mut end = point;
    if text.get(point) == Some(&b'.') {
        end = digits(&mut mantissa, point + 1);
    }
    let whole = point - start;
    let fraction = (end - point).saturating_sub(1);
    let is_number = whole > 0 && (whole == 1 || text[start] != b'0') && end != point + 1;
    let ends = matches!(text.get(end), Some(b',' | b'}' | b']' | b' '));
    // Powers of ten up to 22 and integers up to 53 bits are exact; 19 digits did not overflow.
    if !is_number || !ends || whole + fraction > 19 || mantissa > 1 << 53 {
        return None;
    }
    let value = mantissa as f64 / DOUBLE_POWERS[fraction];
    Some((if negative { -value } else { value }, end))
}

/// The scale that a schema's `multipleOf` gives (`0.01`, `1e-09`: 2 and 9); none where it is no power of ten
/// or above one.
pub fn scale_of_multiple(text: &[u8]) -> Option<u8> {
    (0..=MAX_PRECISION).find(|&scale| decimal(text, MAX_PRECISION, scale) == Some(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, precision: u8, scale: u8) -> Option<i128> {
        decimal(text.as_bytes(), precision, scale)
    }

    #[test]
    fn decimals_are_exact() {
        assert_eq!(at("12.34", 38, 4), Some(123_400));
        assert_eq!(at("-0.0001", 38, 4), Some(-1));
        assert_eq!(at("0", 38, 9), Some(0));
        assert_eq!(at("-0.0", 38, 9), Some(0));
        assert_eq!(at("1E+2", 38, 0), Some(100));
        assert_eq!(at("0E-10", 38, 2), Some(0));
        assert_eq!(
            at("1.50000000000000000000000000000000000000000", 5, 2),
            Some(150)
        );
        assert_eq!(
            at("0000000000000000000000000000000000000000000001.5", 5, 2),
            Some(150)
        );
        assert_eq!(
            at("12345678901234567890123456789.123456789", 38, 9),
            Some(12345678901234567890123456789123456789)
        );
        assert_eq!(
            at("99999999999999999999999999999999999999", 38, 0),
            Some(10i128.pow(38) - 1)
        );
        assert_eq!(
            at("-99999999999999999999999999999999999999", 38, 0),
            Some(1 - 10i128.pow(38))
        );
        assert_eq!(
            at("123456789012345678", 38, 20),
            Some(123456789012345678 * 10i128.pow(20))
        );
    }

    #[test]
    fn digits_are_never_lost() {
        assert_eq!(at("1.005", 38, 2), None);
        assert_eq!(at("1000", 3, 0), None);
        assert_eq!(at("999.99", 4, 2), None);
        assert_eq!(at("100000000000000000000000000000000000000", 38, 0), None);
        assert_eq!(at("1e38", 38, 0), None);
        assert_eq!(at("1e-10", 38, 9), None);
        assert_eq!(at("1e999999999999999999999999", 38, 0), None);
        assert_eq!(at("1e-999999999999999999999999", 38, 9), None);
        assert_eq!(at("0e999999999999999999999999", 38, 9), Some(0));
    }

    #[test]
    fn other_text_is_no_number() {
        for text in [
            "", "-", ".", "1.", ".5", "+1", "1e", "1e+", "e5", "1.2.3", "--1", "1_000", " 1", "1 ",
            "NaN", "Infinity", "0x10", "１", "1,5",
        ] {
            assert_eq!(at(text, 38, 9), None, "{text}");
        }
    }

    #[test]
    fn integers_in_any_exact_form() {
        for (text, value) in [
            ("7", 7),
            ("7.0", 7),
            ("7e3", 7000),
            ("7.5e1", 75),
            ("-0", 0),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(integer(text.as_bytes()), Some(value), "{text}");
        }
        for text in [
            "7.5",
            "9223372036854775808",
            "-9223372036854775809",
            "1e19",
            "1e-1",
        ] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn doubles_do_not_become_infinite() {
        assert_eq!(double(b"1.7976931348623157e308"), Some(f64::MAX));
        assert_eq!(double(b"1e400"), None);
        assert_eq!(double(b"-1e400"), None);
        assert_eq!(double(b"1e-400"), Some(0.0));
        assert_eq!(double(b"0.1"), Some(0.1));
    }

    #[test]
    fn plain_doubles_are_what_the_standard_library_reads() {
        let mut seed = 1u64;
        let mut next = move |below: u64| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        let mut plain = 0;
        for _ in 0..200_000 {
            let sign = if next(2) == 0 { "-" } else { "" };
            let most = next(10) as u32;
            let whole = next(10u64.pow(most));
            let mut text = format!("{sign}{whole}");
            let fraction = next(12) as usize;
            if fraction > 0 {
                let zeros = next(10u64.pow(fraction.min(9) as u32));
                text.push_str(&format!(".{zeros:0fraction$}"));
            }
            let expected = double(text.as_bytes()).expect("a number");
            if let Some((value, length)) = plain_double(format!("{text},").as_bytes()) {
                assert_eq!(
                    (value.to_bits(), length),
                    (expected.to_bits(), text.len()),
                    "{text}"
                );
                plain += 1;
            }
        }
        assert!(plain > 150_000, "{plain}");
    }

    #[test]
    fn what_is_no_plain_double_is_left() {
        for text in [
            "",
            "-",
            "-,",
            ",",
            ".5,",
            "5.,",
            "-.5,",
            "01,",
            "00.5,",
            "1e5,",
            "1.5E2,",
            "1.2.3,",
            "1",
            "1.5",
            "1:",
            "1_0,",
            "+1,",
            "NaN,",
            "9007199254740993,",
            "12345678901234567890,",
            "0.12345678901234567890,",
            "99999999999999999999999999999999999999999999999999,",
        ] {
            assert_eq!(plain_double(text.as_bytes()), None, "{text}");
        }
        assert_eq!(plain_double(b"0.5]"), Some((0.5, 3)));
        assert_eq!(
            plain_double(b"9007199254740992}"),
            Some((9007199254740992.0, 16))
        );
        let (zero, 4) = plain_double(b"-0.0 ").expect("a number") else {
            panic!("four bytes");
        };
        assert!(zero == 0.0 && zero.is_sign_negative());
    }

    #[test]
    fn multiples_give_scales() {
        for (text, scale) in [
            ("1", Some(0)),
            ("0.01", Some(2)),
            ("1e-09", Some(9)),
            ("1E-38", Some(38)),
            ("0.10", Some(1)),
            ("0.05", None),
            ("10", None),
            ("0", None),
            ("1e-39", None),
        ] {
            assert_eq!(scale_of_multiple(text.as_bytes()), scale, "{text}");
        }
    }
}
