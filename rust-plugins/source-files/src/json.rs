//! Arrow values as JSON, for readers that take no batches.

use std::io::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, Time64MicrosecondType, Time64NanosecondType,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, Decimal128Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};

use crate::Failure;

/// Appends the value of one row.
type Writer<'a> = Box<dyn Fn(usize, &mut Vec<u8>) + 'a>;

const DAY_US: i64 = 86_400_000_000;

/// Writes the rows of a batch as objects. `is_text` says which string columns hold JSON text.
pub struct Rows<'a> {
    columns: Vec<(Vec<u8>, Writer<'a>)>,
}

impl<'a> Rows<'a> {
    pub fn new(batch: &'a RecordBatch, is_json: &[bool]) -> Result<Rows<'a>, Failure> {
        let mut columns = Vec::new();
        let schema = batch.schema();
        for (index, (field, array)) in schema.fields().iter().zip(batch.columns()).enumerate() {
            let mut key = if index == 0 {
                b"{".to_vec()
            } else {
                b",".to_vec()
            };
            string(field.name(), &mut key);
            key.push(b':');
            let writer = match is_json.get(index) {
                Some(true) if array.data_type() == &DataType::Utf8 => json_text(array),
                _ => writer(array)?,
            };
            columns.push((key, writer));
        }
        Ok(Rows { columns })
    }

    /// Append the object of row `index`.
    pub fn write(&self, index: usize, out: &mut Vec<u8>) {
        for (key, writer) in &self.columns {
            out.extend_from_slice(key);
            writer(index, out);
        }
        out.push(b'}');
    }
}

fn json_text(array: &dyn Array) -> Writer<'_> {
    let texts = array.as_string::<i32>();
    nullable(array, move |row, out| {
        out.extend_from_slice(texts.value(row).as_bytes());
    })
}

/// `null` where there is none.
fn nullable<'a>(array: &'a dyn Array, value: impl Fn(usize, &mut Vec<u8>) + 'a) -> Writer<'a> {
    Box::new(move |row, out| {
        if array.is_null(row) {
            out.extend_from_slice(b"null");
        } else {
            value(row, out);
        }
    })
}

macro_rules! plain {
    ($array:expr, $kind:ty) => {{
        let values = $array.as_primitive::<$kind>();
        nullable($array, move |row, out| {
            let _ = write!(out, "{}", values.value(row));
        })
    }};
}

macro_rules! timed {
    ($array:expr, $kind:ty, $text:expr) => {{
        let values = $array.as_primitive::<$kind>();
        nullable($array, move |row, out| {
            out.push(b'"');
            $text(i64::from(values.value(row)), out);
            out.push(b'"');
        })
    }};
}

/// How the values of `array` are written.
pub fn writer(array: &dyn Array) -> Result<Writer<'_>, Failure> {
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, out| out.extend_from_slice(b"null")),
        DataType::Boolean => {
            let values = array.as_boolean();
            nullable(array, move |row, out| {
                out.extend_from_slice(if values.value(row) { b"true" } else { b"false" });
            })
        }
        DataType::Int8 => plain!(array, Int8Type),
        DataType::Int16 => plain!(array, Int16Type),
        DataType::Int32 => plain!(array, Int32Type),
        DataType::Int64 => plain!(array, Int64Type),
        DataType::UInt8 => plain!(array, UInt8Type),
        DataType::UInt16 => plain!(array, UInt16Type),
        DataType::UInt32 => plain!(array, UInt32Type),
        DataType::UInt64 => plain!(array, UInt64Type),
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            nullable(array, move |row, out| double(values.value(row).into(), out))
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            nullable(array, move |row, out| double(values.value(row), out))
        }
        DataType::Decimal128(_, scale) => {
            let (values, scale) = (array.as_primitive::<Decimal128Type>(), *scale);
            nullable(array, move |row, out| decimal(values, row, scale, out))
        }
        DataType::Date32 => timed!(array, Date32Type, date),
        DataType::Time32(TimeUnit::Millisecond) => {
            timed!(array, Time32MillisecondType, |ms, out| {
                clock(ms * 1000, out)
            })
        }
        DataType::Time64(TimeUnit::Microsecond) => timed!(array, Time64MicrosecondType, clock),
        DataType::Time64(TimeUnit::Nanosecond) => timed!(array, Time64NanosecondType, |ns, out| {
            clock(ns / 1000, out)
        }),
        DataType::Timestamp(unit, zone) => {
            let zoned = zone.is_some();
            match unit {
                TimeUnit::Second => timed!(array, TimestampSecondType, |at: i64, out| {
                    timestamp(at.saturating_mul(1_000_000), zoned, out)
                }),
                TimeUnit::Millisecond => timed!(array, TimestampMillisecondType, |at: i64, out| {
                    timestamp(at.saturating_mul(1000), zoned, out)
                }),
                TimeUnit::Microsecond => {
                    timed!(array, TimestampMicrosecondType, |at, out| timestamp(
                        at, zoned, out
                    ))
                }
                TimeUnit::Nanosecond => timed!(array, TimestampNanosecondType, |at: i64, out| {
                    timestamp(at.div_euclid(1000), zoned, out)
                }),
            }
        }
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            nullable(array, move |row, out| string(values.value(row), out))
        }
        DataType::Binary => {
            let values = array.as_binary::<i32>();
            nullable(array, move |row, out| base64(values.value(row), out))
        }
        DataType::FixedSizeBinary(_) => {
            let values = array.as_fixed_size_binary();
            nullable(array, move |row, out| base64(values.value(row), out))
        }
        DataType::Struct(_) => structure(array)?,
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            let element = writer(lists.values().as_ref())?;
            nullable(array, move |row, out| {
                let offsets = lists.value_offsets();
                out.push(b'[');
                for at in offsets[row]..offsets[row + 1] {
                    if at > offsets[row] {
                        out.push(b',');
                    }
                    element(at as usize, out);
                }
                out.push(b']');
            })
        }
        DataType::Map(_, _) => map(array)?,
        other => return Err(Failure::new(format!("values of type {other} are not read"))),
    })
}

fn structure(array: &dyn Array) -> Result<Writer<'_>, Failure> {
    let structs = array.as_struct();
    let mut fields = Vec::new();
    for (name, column) in structs.column_names().into_iter().zip(structs.columns()) {
        let mut key = Vec::new();
        string(name, &mut key);
        key.push(b':');
        fields.push((key, writer(column.as_ref())?));
    }
    Ok(nullable(array, move |row, out| {
        out.push(b'{');
        for (index, (key, field)) in fields.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(key);
            field(row, out);
        }
        out.push(b'}');
    }))
}

fn map(array: &dyn Array) -> Result<Writer<'_>, Failure> {
    let maps = array.as_map();
    if maps.keys().data_type() != &DataType::Utf8 {
        let message = format!(
            "maps with keys of type {} are not read",
            maps.keys().data_type()
        );
        return Err(Failure::new(message));
    }
    let keys = maps.keys().as_string::<i32>();
    let value = writer(maps.values().as_ref())?;
    Ok(nullable(array, move |row, out| {
        let offsets = maps.value_offsets();
        out.push(b'{');
        for at in offsets[row]..offsets[row + 1] {
            if at > offsets[row] {
                out.push(b',');
            }
            string(keys.value(at as usize), out);
            out.push(b':');
            value(at as usize, out);
        }
        out.push(b'}');
    }))
}

/// The shortest text that is this double; NaN and the infinities as Python writes them.
fn double(value: f64, out: &mut Vec<u8>) {
    let text: &[u8] = if value.is_nan() {
        b"NaN"
    } else if value == f64::INFINITY {
        b"Infinity"
    } else if value == f64::NEG_INFINITY {
        b"-Infinity"
    } else {
        let _ = write!(out, "{value:?}");
        return;
    };
    out.extend_from_slice(text);
}

fn decimal(values: &Decimal128Array, row: usize, scale: i8, out: &mut Vec<u8>) {
    let value = values.value(row);
    if value < 0 {
        out.push(b'-');
    }
    let digits = value.unsigned_abs().to_string();
    let places = scale.max(0) as usize;
    let padded = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = padded.split_at(padded.len() - places);
    out.extend_from_slice(whole.as_bytes());
    if places > 0 {
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    }
    out.extend(std::iter::repeat_n(
        b'0',
        scale.min(0).unsigned_abs().into(),
    ));
}

/// `YYYY-MM-DD` of a day since 1970-01-01, the years 0001 to 9999 (Howard Hinnant, civil from days).
fn date(days: i64, out: &mut Vec<u8>) {
    let day = days + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + i64::from(month <= 2);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
}

/// `HH:MM:SS` with a fraction where there is one.
fn clock(us: i64, out: &mut Vec<u8>) {
    let (seconds, fraction) = (us / 1_000_000, us % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let _ = write!(out, "{hour:02}:{minute:02}:{second:02}");
    if fraction > 0 {
        let _ = write!(out, ".{fraction:06}");
    }
}

fn timestamp(us: i64, zoned: bool, out: &mut Vec<u8>) {
    date(us.div_euclid(DAY_US), out);
    out.push(b'T');
    clock(us.rem_euclid(DAY_US), out);
    if zoned {
        out.push(b'Z');
    }
}

/// A JSON string.
pub fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    let special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    while let Some(at) = rest.iter().position(special) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            byte => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push(b'"');
    for part in bytes.chunks(3) {
        let byte = |at: usize| u32::from(part.get(at).copied().unwrap_or_default());
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place)) as usize & 63];
            out.push(if place > part.len() { b'=' } else { digit });
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use dativo_wire::temporal;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn times_are_read_back_as_what_they_were() {
        for days in (-719_162..=2_932_896).step_by(37) {
            let text = text(|out| date(days, out));
            assert_eq!(temporal::date(text.as_bytes()), Some(days as i32), "{text}");
        }
        for us in [0, -1, 1, 1_763_899_200_123_456, -62_135_596_800_000_000] {
            let zoned = text(|out| timestamp(us, true, out));
            assert_eq!(temporal::timestamptz(zoned.as_bytes()), Some(us), "{zoned}");
            let naive = text(|out| timestamp(us, false, out));
            assert_eq!(temporal::timestamp(naive.as_bytes()), Some(us), "{naive}");
        }
        assert_eq!(text(|out| clock(DAY_US - 1, out)), "23:59:59.999999");
    }

    #[test]
    fn decimals_have_all_their_digits() {
        for (value, scale, expected) in [
            (0, 2, "0.00"),
            (5, 2, "0.05"),
            (-12345, 2, "-123.45"),
            (7, 0, "7"),
            (7, -2, "700"),
            (
                i128::MIN / 10,
                9,
                "-17014118346046923173168730371.588410572",
            ),
        ] {
            let array = Decimal128Array::from(vec![value]);
            assert_eq!(text(|out| decimal(&array, 0, scale, out)), expected);
        }
    }

    #[test]
    fn base64_is_read_back() {
        for length in 0..40u8 {
            let bytes: Vec<u8> = (0..length).map(|at| at.wrapping_mul(37)).collect();
            let text = text(|out| base64(&bytes, out));
            let mut read = Vec::new();
            assert!(dativo_wire::base64::decode(
                text.trim_matches('"').as_bytes(),
                &mut read
            ));
            assert_eq!(read, bytes);
        }
    }

    #[test]
    fn texts_are_escaped() {
        assert_eq!(
            text(|out| string("a\"\\\n\t\u{1}ü", out)),
            r#""a\"\\\n\u0009\u0001ü""#
        );
    }
}
