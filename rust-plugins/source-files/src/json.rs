//! Arrow values as JSON, for readers that take no batches.

use std::io::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, Time64MicrosecondType, Time64NanosecondType,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use dativo_wire::render::{self, MICROS};

use crate::Failure;

/// Appends the value of one row.
type Writer<'a> = Box<dyn Fn(usize, &mut Vec<u8>) + 'a>;

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
            render::string(field.name().as_bytes(), &mut key);
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

/// `$text` writes a value, or nothing where the calendar lacks it: then its number stands there as text, which no reader takes for a time.
macro_rules! timed {
    ($array:expr, $kind:ty, $text:expr) => {{
        let values = $array.as_primitive::<$kind>();
        let text = $text;
        nullable($array, move |row, out| {
            let value = i64::from(values.value(row));
            if !text(value, out) {
                let _ = write!(out, "\"{value}\"");
            }
        })
    }};
}

fn time_in(per_second: i64) -> impl Fn(i64, &mut Vec<u8>) -> bool {
    move |value, out| render::time(value, per_second, out)
}

fn moment_in(per_second: i64, utc: bool) -> impl Fn(i64, &mut Vec<u8>) -> bool {
    move |value, out| render::timestamp(value, per_second, utc, out)
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
            nullable(array, move |row, out| {
                render::decimal(&values.value(row).to_string(), scale, out);
            })
        }
        DataType::Date32 => timed!(array, Date32Type, render::date),
        DataType::Time32(TimeUnit::Millisecond) => {
            timed!(array, Time32MillisecondType, time_in(1000))
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            timed!(array, Time64MicrosecondType, time_in(MICROS))
        }
        DataType::Time64(TimeUnit::Nanosecond) => {
            timed!(array, Time64NanosecondType, time_in(1000 * MICROS))
        }
        DataType::Timestamp(unit, zone) => {
            let utc = zone.is_some();
            match unit {
                TimeUnit::Second => timed!(array, TimestampSecondType, moment_in(1, utc)),
                TimeUnit::Millisecond => {
                    timed!(array, TimestampMillisecondType, moment_in(1000, utc))
                }
                TimeUnit::Microsecond => {
                    timed!(array, TimestampMicrosecondType, moment_in(MICROS, utc))
                }
                TimeUnit::Nanosecond => {
                    timed!(
                        array,
                        TimestampNanosecondType,
                        moment_in(1000 * MICROS, utc)
                    )
                }
            }
        }
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            nullable(array, move |row, out| {
                render::string(values.value(row).as_bytes(), out);
            })
        }
        DataType::Binary => {
            let values = array.as_binary::<i32>();
            nullable(array, move |row, out| {
                render::base64(values.value(row), out)
            })
        }
        DataType::FixedSizeBinary(_) => {
            let values = array.as_fixed_size_binary();
            nullable(array, move |row, out| {
                render::base64(values.value(row), out)
            })
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
        render::string(name.as_bytes(), &mut key);
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
            render::string(keys.value(at as usize).as_bytes(), out);
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

#[cfg(test)]
mod tests {
    use arrow_array::{Date32Array, TimestampSecondArray};

    use super::*;

    #[test]
    fn what_the_calendar_lacks_is_told_as_its_number() {
        let days = Date32Array::from(vec![Some(0), Some(2_932_897), None]);
        let seconds = TimestampSecondArray::from(vec![Some(1), Some(i64::MAX), None]);
        let texts = |array: &dyn Array| {
            let write = writer(array).expect("a type that is read");
            let mut out = Vec::new();
            for row in 0..array.len() {
                write(row, &mut out);
                out.push(b' ');
            }
            String::from_utf8(out).expect("text")
        };
        assert_eq!(texts(&days), r#""1970-01-01" "2932897" null "#);
        assert_eq!(
            texts(&seconds),
            r#""1970-01-01T00:00:01" "9223372036854775807" null "#
        );
    }
}
