//! The columns that a stream is read into, as its schema in the catalogue says, and texts as their values.

use std::sync::Arc;

use arrow_array::types::{
    Date32Type, Decimal128Type, Float64Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, PrimitiveArray, StringArray,
};
use arrow_buffer::{
    BooleanBufferBuilder, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use dativo_wire::decode::arrow_type;
use dativo_wire::scan::Scanner;
use dativo_wire::types::{Primitive, Shape};
use dativo_wire::{base64, number, schema, temporal};

use crate::Failure;

pub const MAX_COLUMNS: usize = 10_000;
const OPTIONS: schema::Options = schema::Options {
    max_columns: MAX_COLUMNS,
    max_depth: MAX_DEPTH,
    numbers: schema::Numbers::Double,
};
const MAX_DEPTH: usize = 64;

/// What becomes of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Value(Primitive),
    /// Any value, as JSON text.
    Json,
    /// A number, as JSON text: all its digits, for whoever keeps more of them than a double does.
    Number,
    /// An object or array with a schema.
    Nested,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub property: String,
    pub kind: Kind,
}

/// The columns of a stream, in the order of its schema.
#[derive(Clone, Debug)]
pub struct Layout {
    pub columns: Vec<Column>,
}

impl Layout {
    /// The columns of a JSON Schema.
    pub fn compile(json_schema: &str) -> Result<Layout, Failure> {
        let columns = schema::compile(json_schema.as_bytes(), OPTIONS)
            .map_err(|fault| Failure::config(fault.message))?;
        let columns = columns.into_iter().map(|column| Column {
            property: column.property,
            kind: match column.shape {
                Shape::Value { kind, .. } => Kind::Value(kind),
                Shape::Json => Kind::Json,
                Shape::Struct(_) | Shape::List(_) | Shape::Map(_) => Kind::Nested,
            },
        });
        Ok(Layout {
            columns: columns.collect(),
        })
    }

    /// The same with numbers as they are written.
    #[must_use]
    pub fn exact(mut self) -> Layout {
        for column in &mut self.columns {
            if column.kind == Kind::Value(Primitive::Double) {
                column.kind = Kind::Number;
            }
        }
        self
    }

    /// Whether a batch can carry its rows (docs/spec/batch.md).
    pub fn is_flat(&self) -> bool {
        let is_nested = |column: &Column| column.kind == Kind::Nested;
        !self.columns.iter().any(is_nested)
    }

    /// The Arrow schema of its rows, if it is flat.
    pub fn schema(&self) -> SchemaRef {
        let field = |column: &Column| {
            let kind = match column.kind {
                Kind::Value(kind) => arrow_type(kind),
                Kind::Json | Kind::Number | Kind::Nested => DataType::Utf8,
            };
            Field::new(&column.property, kind, true)
        };
        Arc::new(Schema::new(
            self.columns.iter().map(field).collect::<Vec<_>>(),
        ))
    }
}

enum Values {
    Bits(BooleanBufferBuilder),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F64(Vec<f64>),
    I128(Vec<i128>),
    /// Offsets, the first of which is 0, and bytes.
    Bytes(Vec<i32>, Vec<u8>),
}

/// A column that is being filled with texts, which must be UTF-8.
pub struct Builder {
    kind: Kind,
    values: Values,
    nulls: NullBufferBuilder,
}

impl Builder {
    pub fn new(kind: Kind) -> Builder {
        let values = match kind {
            Kind::Value(Primitive::Boolean) => Values::Bits(BooleanBufferBuilder::new(0)),
            Kind::Value(Primitive::Date) => Values::I32(Vec::new()),
            Kind::Value(
                Primitive::Long | Primitive::Time | Primitive::Timestamp | Primitive::Timestamptz,
            ) => Values::I64(Vec::new()),
            Kind::Value(Primitive::Double) => Values::F64(Vec::new()),
            Kind::Value(Primitive::Decimal { .. }) => Values::I128(Vec::new()),
            Kind::Value(Primitive::String | Primitive::Binary)
            | Kind::Json
            | Kind::Number
            | Kind::Nested => Values::Bytes(vec![0], Vec::new()),
        };
        Builder {
            kind,
            values,
            nulls: NullBufferBuilder::new(0),
        }
    }

    /// Whether an empty text is a value of it.
    pub fn is_text(&self) -> bool {
        self.kind == Kind::Value(Primitive::String)
    }

    pub fn push_null(&mut self) {
        self.nulls.append_null();
        match &mut self.values {
            Values::Bits(bits) => bits.append(false),
            Values::I32(values) => values.push(0),
            Values::I64(values) => values.push(0),
            Values::F64(values) => values.push(0.0),
            Values::I128(values) => values.push(0),
            Values::Bytes(offsets, bytes) => offsets.push(bytes.len() as i32),
        }
    }

    /// Append a value; false, with nothing appended, if the text is none of this column.
    #[inline]
    pub fn push(&mut self, text: &[u8]) -> bool {
        let pushed = match (&mut self.values, self.kind) {
            (Values::I64(values), Kind::Value(kind)) => put(values, long_like(kind, text)),
            (Values::Bytes(offsets, bytes), kind) => {
                let taken = match kind {
                    Kind::Value(Primitive::Binary) => base64::decode(text, bytes),
                    Kind::Value(_) => {
                        bytes.extend_from_slice(text);
                        true
                    }
                    Kind::Number => {
                        bytes.extend_from_slice(text);
                        is_number(text) && number::double(text).is_some()
                    }
                    _ => {
                        bytes.extend_from_slice(text);
                        is_json(text)
                    }
                };
                let before = offsets.last().copied().unwrap_or_default();
                if taken {
                    offsets.push(bytes.len() as i32);
                } else {
                    bytes.truncate(before as usize);
                }
                taken
            }
            (Values::I128(values), Kind::Value(Primitive::Decimal { precision, scale })) => {
                put(values, number::decimal(text, precision, scale))
            }
            (Values::F64(values), _) => {
                let value = is_number(text).then(|| number::double(text)).flatten();
                put(values, value)
            }
            (Values::I32(values), _) => put(values, temporal::date(text)),
            (Values::Bits(bits), _) => boolean(text).is_some_and(|value| {
                bits.append(value);
                true
            }),
            (Values::I128(_), _) | (Values::I64(_), _) => false,
        };
        if pushed {
            self.nulls.append_non_null();
        }
        pushed
    }

    /// Bytes of its texts.
    pub fn text_bytes(&self) -> usize {
        match &self.values {
            Values::Bytes(_, bytes) => bytes.len(),
            _ => 0,
        }
    }

    /// The values so far; it is empty then.
    pub fn finish(&mut self) -> Result<ArrayRef, Failure> {
        let nulls = self.nulls.finish();
        let array: ArrayRef = match &mut self.values {
            Values::Bits(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Values::I32(values) => primitive::<Date32Type>(values, nulls),
            Values::F64(values) => primitive::<Float64Type>(values, nulls),
            Values::I128(values) => {
                let values = PrimitiveArray::<Decimal128Type>::new(fresh(values), nulls);
                match self.kind {
                    Kind::Value(kind) => Arc::new(values.with_data_type(arrow_type(kind))),
                    _ => Arc::new(values),
                }
            }
            Values::I64(values) => match self.kind {
                Kind::Value(Primitive::Time) => primitive::<Time64MicrosecondType>(values, nulls),
                Kind::Value(kind @ (Primitive::Timestamp | Primitive::Timestamptz)) => {
                    let values =
                        PrimitiveArray::<TimestampMicrosecondType>::new(fresh(values), nulls);
                    Arc::new(values.with_data_type(arrow_type(kind)))
                }
                _ => primitive::<Int64Type>(values, nulls),
            },
            Values::Bytes(offsets, bytes) => {
                let filled = OffsetBuffer::new(fresh(offsets));
                offsets.push(0);
                let (offsets, bytes) = (filled, fresh(bytes).into_inner());
                if self.kind == Kind::Value(Primitive::Binary) {
                    Arc::new(BinaryArray::new(offsets, bytes, nulls))
                } else {
                    let texts = StringArray::try_new(offsets, bytes, nulls);
                    Arc::new(texts.map_err(|error| Failure::new(error.to_string()))?)
                }
            }
        };
        Ok(array)
    }
}

/// The vector's values; a new one of the same room takes its place, as the next batch is about as large.
fn fresh<T: arrow_buffer::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    let room = values.len();
    ScalarBuffer::from(std::mem::replace(values, Vec::with_capacity(room)))
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(fresh(values), nulls))
}

#[inline(always)]
fn put<T>(values: &mut Vec<T>, value: Option<T>) -> bool {
    match value {
        Some(value) => {
            values.push(value);
            true
        }
        None => false,
    }
}

#[inline(always)]
fn long_like(kind: Primitive, text: &[u8]) -> Option<i64> {
    match kind {
        Primitive::Long => long(text),
        Primitive::Timestamptz => temporal::timestamptz(text),
        Primitive::Timestamp => temporal::timestamp(text),
        _ => temporal::time(text),
    }
}

/// A 64-bit integer: a sign and digits.
#[inline(always)]
pub fn long(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 18 {
        return std::str::from_utf8(text)
            .ok()
            .filter(|_| !text.starts_with(b"+"))?
            .parse()
            .ok();
    }
    let mut value = 0i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + digit as i64;
    }
    Some(if negative { -value } else { value })
}

#[inline(always)]
pub fn boolean(text: &[u8]) -> Option<bool> {
    match text {
        b"true" | b"True" | b"TRUE" => Some(true),
        b"false" | b"False" | b"FALSE" => Some(false),
        _ => None,
    }
}

/// A number as JSON writes it.
pub fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(text);
    let mut rest = &text[whole..];
    if whole == 0 || whole > 1 && text[0] == b'0' {
        return false;
    }
    if let [b'.', fraction @ ..] = rest {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = match exponent {
            [b'+' | b'-', rest @ ..] => rest,
            _ => exponent,
        };
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}

fn is_json(text: &[u8]) -> bool {
    let mut scanner = Scanner::new(text, MAX_DEPTH);
    scanner.skip_space();
    scanner.value().is_ok() && scanner.end().is_ok()
}

impl Kind {
    /// What a text must be, in an error.
    pub fn expected(self) -> String {
        match self {
            Kind::Value(Primitive::Boolean) => "true or false".to_owned(),
            Kind::Value(Primitive::Long) => "a 64-bit integer".to_owned(),
            Kind::Value(Primitive::Double) | Kind::Number => "a number".to_owned(),
            Kind::Value(kind @ Primitive::Decimal { .. }) => format!("a {kind}"),
            Kind::Value(Primitive::Date) => "a date, YYYY-MM-DD".to_owned(),
            Kind::Value(Primitive::Time) => "a time, HH:MM:SS".to_owned(),
            Kind::Value(Primitive::Timestamp) => {
                "a time of RFC 3339 without a time zone".to_owned()
            }
            Kind::Value(Primitive::Timestamptz) => "a time of RFC 3339".to_owned(),
            Kind::Value(Primitive::String) => "text".to_owned(),
            Kind::Value(Primitive::Binary) => "base64".to_owned(),
            Kind::Json | Kind::Nested => "JSON".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Array;

    #[test]
    fn integers_are_exact() {
        for (text, value) in [
            ("0", Some(0)),
            ("-12", Some(-12)),
            ("007", Some(7)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("+1", None),
            ("", None),
            ("-", None),
            ("1.0", None),
            (" 1", None),
            ("+1111111111111111111", None),
        ] {
            assert_eq!(long(text.as_bytes()), value, "{text}");
        }
    }

    #[test]
    fn numbers_are_those_of_json() {
        for text in ["0", "-1", "1.5", "1e5", "-1.25E-3", "0.7"] {
            assert!(is_number(text.as_bytes()), "{text}");
        }
        for text in [
            "", "-", ".5", "1.", "1e", "e5", "nan", "inf", "+1", "1,5", "0x10", "007", "-00.5",
        ] {
            assert!(!is_number(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn a_text_that_does_not_fit_leaves_nothing_behind() {
        let decimal = Primitive::Decimal {
            precision: 5,
            scale: 2,
        };
        let cases: [(Kind, &str, &str); 10] = [
            (Kind::Value(Primitive::Boolean), "True", "1"),
            (Kind::Value(Primitive::Long), "7", "7.5"),
            (Kind::Value(Primitive::Double), "7.5", "NaN"),
            (Kind::Value(decimal), "123.45", "123.456"),
            (Kind::Value(Primitive::Date), "2026-11-23", "2026-02-30"),
            (Kind::Value(Primitive::Time), "12:00:00", "noon"),
            (
                Kind::Value(Primitive::Timestamptz),
                "2026-11-23T12:00:00Z",
                "2026-11-23",
            ),
            (Kind::Value(Primitive::Binary), "aGk=", "aGk"),
            (Kind::Json, "[1]", "[1"),
            (Kind::Number, "1.10", "1."),
        ];
        for (kind, good, bad) in cases {
            let mut builder = Builder::new(kind);
            assert!(builder.push(good.as_bytes()), "{kind:?}");
            assert!(!builder.push(bad.as_bytes()), "{kind:?}");
            builder.push_null();
            assert!(builder.push(good.as_bytes()), "{kind:?}");
            let array = builder.finish().expect("whole");
            assert_eq!((array.len(), array.null_count()), (3, 1), "{kind:?}");
            assert!(!array.is_null(0) && array.is_null(1) && !array.is_null(2));
        }
    }
}
