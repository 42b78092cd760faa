//! Airbyte's milliseconds and Singer's RFC 3339 texts.

use std::time::{SystemTime, UNIX_EPOCH};

use dativo_wire::fault::Fault;
use dativo_wire::{number, temporal, text};

use crate::events::Dialect;

const DAY_MS: i64 = 86_400_000;

/// When a record was taken from its source: of one dialect's form into the other's.
pub struct Clock {
    from: Dialect,
    to: Dialect,
    /// The last time as written, and how it goes out, its key included; records often share it.
    written: Vec<u8>,
    passed: Vec<u8>,
}

impl Clock {
    pub fn new(from: Dialect, to: Dialect) -> Clock {
        Clock {
            from,
            to,
            written: Vec::new(),
            passed: Vec::new(),
        }
    }

    /// Take a record's time; where there is none, an Airbyte record gets the present.
    #[inline]
    pub fn read(&mut self, written: Option<&[u8]>) -> Result<(), Box<Fault>> {
        if written.is_some_and(|written| written == self.written) {
            return Ok(());
        }
        self.written.clear();
        self.passed.clear();
        self.passed.extend_from_slice(match self.to {
            Dialect::Airbyte => b",\"emitted_at\":".as_slice(),
            Dialect::Singer => b",\"time_extracted\":",
        });
        let Some(written) = written else {
            match self.to {
                Dialect::Airbyte => self.put_ms(now_ms()),
                Dialect::Singer => self.passed.clear(),
            }
            return Ok(());
        };
        let taken = match (self.from, self.to) {
            (Dialect::Airbyte, Dialect::Airbyte) => {
                self.passed.extend_from_slice(written);
                number::double(written).is_some()
            }
            (Dialect::Singer, Dialect::Singer) => {
                self.passed.extend_from_slice(written);
                written[0] == b'"'
            }
            (Dialect::Airbyte, Dialect::Singer) => {
                number::integer(written).is_some_and(|ms| append_text(ms, &mut self.passed))
            }
            (Dialect::Singer, Dialect::Airbyte) => {
                let text = text::string(written);
                let ms = text.and_then(|text| parse(text.as_bytes()));
                ms.map(|ms| self.put_ms(ms)).is_some()
            }
        };
        if !taken {
            let message = match self.from {
                Dialect::Airbyte => "emitted_at must be a number of milliseconds",
                Dialect::Singer => "time_extracted must be an RFC 3339 text",
            };
            return Err(Fault::plugin("message.invalid", message).value(written));
        }
        self.written.extend_from_slice(written);
        Ok(())
    }

    fn put_ms(&mut self, ms: i64) {
        self.passed.extend_from_slice(ms.to_string().as_bytes());
    }

    #[inline(always)]
    pub fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.passed);
    }
}

/// Append `"YYYY-MM-DDTHH:MM:SS.mmmZ"`, quotes included; false, with nothing appended, outside the years 1 to 9999.
fn append_text(ms: i64, out: &mut Vec<u8>) -> bool {
    let (days, of_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let Some((year, month, day)) = temporal::civil(days) else {
        return false;
    };
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1000 % 60, of_day % 1000);
    let start = out.len();
    out.extend_from_slice(b"\"0000-00-00T00:00:00.000Z\"");
    let text = &mut out[start..];
    put(&mut text[1..5], year);
    put(&mut text[6..8], month);
    put(&mut text[9..11], day);
    put(&mut text[12..14], hour);
    put(&mut text[15..17], minute);
    put(&mut text[18..20], second);
    put(&mut text[21..24], milli);
    true
}

/// Fill `digits` with the last digits of `value`.
fn put(digits: &mut [u8], mut value: i64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Milliseconds since 1970 of an RFC 3339 text.
fn parse(text: &[u8]) -> Option<i64> {
    temporal::timestamptz(text).map(|us| us.div_euclid(1000))
}

/// Milliseconds since 1970 now.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0001-01-01T00:00:00.000Z and 9999-12-31T23:59:59.999Z.
    const FIRST_MS: i64 = -62_135_596_800_000;
    const LAST_MS: i64 = 253_402_300_799_999;

    fn shown(ms: i64) -> String {
        let mut out = Vec::new();
        assert!(append_text(ms, &mut out));
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn known_times() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_455_000_123, "2026-11-23T17:30:00.123Z"),
            (FIRST_MS, "0001-01-01T00:00:00.000Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(shown(ms), format!("\"{expected}\""));
        }
        for ms in [FIRST_MS - 1, LAST_MS + 1, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            assert!(!append_text(ms, &mut out) && out.is_empty());
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut ms = FIRST_MS;
        while ms <= LAST_MS {
            assert_eq!(parse(shown(ms).trim_matches('"').as_bytes()), Some(ms));
            ms += 40 * DAY_MS + 12_345_678;
        }
    }
}
