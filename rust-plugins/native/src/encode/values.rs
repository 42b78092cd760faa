//! The values of one column as JSON text.

use std::fmt::{Debug, Display};
use std::io::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrowPrimitiveType, GenericListArray, OffsetSizeTrait};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, TimeUnit};
use dativo_wire::render::{self, MICROS};
use dativo_wire::scan::{DEEPEST, Scanner};

use super::{Refusal, Style, key};
use crate::json_type;

/// Containers inside one another.
const MAX_NESTING: usize = 64;

/// How NaN and the infinities are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Floats {
    Refuse,
    Null,
    /// As the words NaN, Infinity and -Infinity, which are no JSON but widely read.
    Token,
}

type Written = Result<(), Refusal>;

/// A column's values; rows are those of its array.
pub struct Values {
    nulls: Option<NullBuffer>,
    cell: Cell,
}

/// Appends the value of one row that is not null.
type Cell = Box<dyn Fn(usize, &mut Vec<u8>) -> Written>;

impl Values {
    #[inline]
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Written {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        (self.cell)(row, out)
    }
}

/// Where in a schema an array stands.
#[derive(Clone, Copy)]
pub struct Place {
    nesting: usize,
    is_json: bool,
}

impl Place {
    pub fn column(field: &Field) -> Place {
        Place {
            nesting: 0,
            is_json: json_type::is_marked(field),
        }
    }

    fn inside(self, field: &Field) -> Place {
        Place {
            nesting: self.nesting + 1,
            is_json: json_type::is_marked(field),
        }
    }
}

pub fn values(array: &dyn Array, place: Place, style: Style) -> Result<Values, Refusal> {
    if place.nesting > MAX_NESTING {
        let message = format!("types nested deeper than {MAX_NESTING}");
        return Err(Refusal::new("encode.type", message));
    }
    Ok(Values {
        nulls: array.logical_nulls(),
        cell: cell(array, place, style)?,
    })
}

fn cell(array: &dyn Array, place: Place, style: Style) -> Result<Cell, Refusal> {
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, _| Ok(())),
        DataType::Boolean => {
            let bits = array.as_boolean().values().clone();
            Box::new(move |row, out| {
                let word: &[u8] = if bits.value(row) { b"true" } else { b"false" };
                out.extend_from_slice(word);
                Ok(())
            })
        }
        DataType::Int8 => number::<Int8Type>(array),
        DataType::Int16 => number::<Int16Type>(array),
        DataType::Int32 => number::<Int32Type>(array),
        DataType::Int64 => number::<Int64Type>(array),
        DataType::UInt8 => number::<UInt8Type>(array),
        DataType::UInt16 => number::<UInt16Type>(array),
        DataType::UInt32 => number::<UInt32Type>(array),
        DataType::UInt64 => number::<UInt64Type>(array),
        DataType::Float16 => primitive::<Float16Type>(array, move |value, out| {
            float(value.to_f32(), style.floats, out)
        }),
        DataType::Float32 => {
            primitive::<Float32Type>(array, move |value, out| float(value, style.floats, out))
        }
        DataType::Float64 => {
            primitive::<Float64Type>(array, move |value, out| float(value, style.floats, out))
        }
        DataType::Decimal32(_, scale) => decimal::<Decimal32Type>(array, *scale, style),
        DataType::Decimal64(_, scale) => decimal::<Decimal64Type>(array, *scale, style),
        DataType::Decimal128(_, scale) => decimal::<Decimal128Type>(array, *scale, style),
        DataType::Decimal256(_, scale) => decimal::<Decimal256Type>(array, *scale, style),
        DataType::Date32 => primitive::<Date32Type>(array, |days, out| {
            held(render::date(i64::from(days), out), "a date", days)
        }),
        DataType::Date64 => primitive::<Date64Type>(array, |millis, out| {
            let days = millis.div_euclid(86_400_000);
            held(render::date(days, out), "a date", millis)
        }),
        DataType::Time32(TimeUnit::Second) => time::<Time32SecondType>(array, 1),
        DataType::Time32(_) => time::<Time32MillisecondType>(array, 1000),
        DataType::Time64(TimeUnit::Microsecond) => time::<Time64MicrosecondType>(array, MICROS),
        DataType::Time64(_) => time::<Time64NanosecondType>(array, 1000 * MICROS),
        DataType::Timestamp(unit, zone) => {
            let utc = zone.is_some();
            match unit {
                TimeUnit::Second => timestamp::<TimestampSecondType>(array, 1, utc),
                TimeUnit::Millisecond => timestamp::<TimestampMillisecondType>(array, 1000, utc),
                TimeUnit::Microsecond => timestamp::<TimestampMicrosecondType>(array, MICROS, utc),
                TimeUnit::Nanosecond => {
                    timestamp::<TimestampNanosecondType>(array, 1000 * MICROS, utc)
                }
            }
        }
        DataType::Utf8 => {
            let texts = array.as_string::<i32>().clone();
            strings(move |row, out| write_text(texts.value(row), place, out))
        }
        DataType::LargeUtf8 => {
            let texts = array.as_string::<i64>().clone();
            strings(move |row, out| write_text(texts.value(row), place, out))
        }
        DataType::Utf8View => {
            let texts = array.as_string_view().clone();
            strings(move |row, out| write_text(texts.value(row), place, out))
        }
        DataType::Binary => {
            let bytes = array.as_binary::<i32>().clone();
            binary(move |row, out| render::base64(bytes.value(row), out))
        }
        DataType::LargeBinary => {
            let bytes = array.as_binary::<i64>().clone();
            binary(move |row, out| render::base64(bytes.value(row), out))
        }
        DataType::BinaryView => {
            let bytes = array.as_binary_view().clone();
            binary(move |row, out| render::base64(bytes.value(row), out))
        }
        DataType::FixedSizeBinary(_) => {
            let bytes = array.as_fixed_size_binary().clone();
            binary(move |row, out| render::base64(bytes.value(row), out))
        }
        DataType::List(element) => list(array.as_list::<i32>(), place.inside(element), style)?,
        DataType::LargeList(element) => list(array.as_list::<i64>(), place.inside(element), style)?,
        DataType::FixedSizeList(element, size) => {
            let size = usize::try_from(*size).unwrap_or(0);
            let elements = array.as_fixed_size_list().values();
            let elements = elements_of(elements.as_ref(), place.inside(element), style)?;
            Box::new(move |row, out| write_list(&elements, row * size..(row + 1) * size, out))
        }
        DataType::Struct(_) => structure(array, place, style)?,
        DataType::Map(..) => map(array, place, style)?,
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let values = values(dictionary.values().as_ref(), place, style)?;
            let keys = match dictionary.values().len() {
                0 => Vec::new(), // all rows are null
                _ => dictionary.normalized_keys(),
            };
            Box::new(move |row, out| values.write(keys[row], out))
        }
        other => {
            let message = format!("the Arrow type {other} has no form in JSON");
            return Err(Refusal::new("encode.type", message));
        }
    })
}

// --- numbers and times ------------------------------------------------------------------------------------------

fn primitive<T: ArrowPrimitiveType>(
    array: &dyn Array,
    write: impl Fn(T::Native, &mut Vec<u8>) -> Written + 'static,
) -> Cell {
    let values = array.as_primitive::<T>().values().clone();
    Box::new(move |row, out| write(values[row], out))
}

fn number<T: ArrowPrimitiveType<Native: Display>>(array: &dyn Array) -> Cell {
    primitive::<T>(array, |value, out| plain(format_args!("{value}"), out))
}

fn plain(text: std::fmt::Arguments<'_>, out: &mut Vec<u8>) -> Written {
    out.write_fmt(text)
        .map_err(|error| Refusal::new("encode.value", error.to_string()))
}

/// The shortest text that reads back the same, with an exponent where it is large or small.
fn float<T: Into<f64> + Copy + Debug>(value: T, floats: Floats, out: &mut Vec<u8>) -> Written {
    let wide: f64 = value.into();
    if wide.is_finite() {
        return plain(format_args!("{value:?}"), out);
    }
    let token: &[u8] = match floats {
        Floats::Refuse => {
            let message = format!("JSON has no {wide}");
            return Err(Refusal::new("encode.nonfinite", message));
        }
        Floats::Null => b"null",
        Floats::Token if wide.is_nan() => b"NaN",
        Floats::Token if wide > 0.0 => b"Infinity",
        Floats::Token => b"-Infinity",
    };
    out.extend_from_slice(token);
    Ok(())
}

fn decimal<T: DecimalType + ArrowPrimitiveType>(array: &dyn Array, scale: i8, style: Style) -> Cell
where
    T::Native: Display,
{
    primitive::<T>(array, move |value, out| {
        let quote: &[u8] = if style.decimal_numbers { b"" } else { b"\"" };
        out.extend_from_slice(quote);
        render::decimal(&value.to_string(), scale, out);
        out.extend_from_slice(quote);
        Ok(())
    })
}

fn time<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &dyn Array, per_second: i64) -> Cell {
    primitive::<T>(array, move |value, out| {
        let value = value.into();
        held(render::time(value, per_second, out), "a time of day", value)
    })
}

fn timestamp<T: ArrowPrimitiveType<Native = i64>>(
    array: &dyn Array,
    per_second: i64,
    utc: bool,
) -> Cell {
    primitive::<T>(array, move |value, out| {
        let written = render::timestamp(value, per_second, utc, out);
        held(written, "a timestamp", value)
    })
}

fn held(written: bool, what: &str, value: impl Display) -> Written {
    if written {
        return Ok(());
    }
    let message = format!("{value} is not {what} of the years 0001 to 9999");
    Err(Refusal::new("encode.value", message))
}

// --- texts and bytes --------------------------------------------------------------------------------------------

fn strings(write: impl Fn(usize, &mut Vec<u8>) -> Written + 'static) -> Cell {
    Box::new(write)
}

fn binary(write: impl Fn(usize, &mut Vec<u8>) + 'static) -> Cell {
    Box::new(move |row, out| {
        write(row, out);
        Ok(())
    })
}

#[inline]
fn write_text(text: &str, place: Place, out: &mut Vec<u8>) -> Written {
    if place.is_json {
        return json(text, out);
    }
    render::string(text.as_bytes(), out);
    Ok(())
}

/// JSON text as it is, on one line.
fn json(text: &str, out: &mut Vec<u8>) -> Written {
    let mut scanner = Scanner::new(text.as_bytes(), DEEPEST);
    scanner.nan = false;
    scanner.skip_space();
    scanner
        .value()
        .and_then(|_| scanner.end())
        .map_err(|bad| Refusal::new("encode.json", format!("no JSON text: {}", bad.message)))?;
    // A line end in checked JSON is a space between its parts.
    out.extend(text.bytes().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        other => other,
    }));
    Ok(())
}

// --- containers -------------------------------------------------------------------------------------------------

fn elements_of(array: &dyn Array, place: Place, style: Style) -> Result<Values, Refusal> {
    values(array, place, style).map_err(|refusal| refusal.below("element"))
}

fn list<O: OffsetSizeTrait>(
    array: &GenericListArray<O>,
    element: Place,
    style: Style,
) -> Result<Cell, Refusal> {
    let offsets = array.offsets().clone();
    let elements = elements_of(array.values().as_ref(), element, style)?;
    Ok(Box::new(move |row, out| {
        let range = offsets[row].as_usize()..offsets[row + 1].as_usize();
        write_list(&elements, range, out)
    }))
}

fn write_list(elements: &Values, range: std::ops::Range<usize>, out: &mut Vec<u8>) -> Written {
    out.push(b'[');
    let start = range.start;
    for at in range {
        if at > start {
            out.push(b',');
        }
        elements
            .write(at, out)
            .map_err(|refusal| refusal.below(&(at - start).to_string()))?;
    }
    out.push(b']');
    Ok(())
}

fn structure(array: &dyn Array, place: Place, style: Style) -> Result<Cell, Refusal> {
    let array = array.as_struct();
    let mut members = Vec::with_capacity(array.num_columns());
    for (field, column) in array.fields().iter().zip(array.columns()) {
        let name = field.name().as_str();
        let values = values(column.as_ref(), place.inside(field), style)
            .map_err(|refusal| refusal.below(name))?;
        members.push((name.to_owned(), key(name, members.is_empty()), values));
    }
    Ok(Box::new(move |row, out| {
        out.push(b'{');
        for (name, key, values) in &members {
            out.extend_from_slice(key);
            values
                .write(row, out)
                .map_err(|refusal| refusal.below(name))?;
        }
        out.push(b'}');
        Ok(())
    }))
}

/// An object; keys are strings.
fn map(array: &dyn Array, place: Place, style: Style) -> Result<Cell, Refusal> {
    let array = array.as_map();
    let (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) = array.keys().data_type()
    else {
        let message = format!("keys of JSON are strings, not {}", array.keys().data_type());
        return Err(Refusal::new("encode.type", message).below("key"));
    };
    let text = Place {
        nesting: place.nesting + 1,
        is_json: false,
    };
    let keys = values(array.keys().as_ref(), text, style)?;
    let value = place.inside(array.entries().fields()[1].as_ref());
    let values =
        values(array.values().as_ref(), value, style).map_err(|refusal| refusal.below("value"))?;
    let offsets = array.offsets().clone();
    Ok(Box::new(move |row, out| {
        out.push(b'{');
        let range = offsets[row] as usize..offsets[row + 1] as usize;
        let start = range.start;
        for at in range {
            if at > start {
                out.push(b',');
            }
            keys.write(at, out)?;
            out.push(b':');
            values
                .write(at, out)
                .map_err(|refusal| refusal.below("value"))?;
        }
        out.push(b'}');
        Ok(())
    }))
}
