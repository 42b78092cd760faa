//! One column's values while a batch is open.

use std::sync::Arc;

use arrow_array::types::{
    Date32Type, Decimal128Type, Float64Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, PrimitiveArray, StringArray,
};
use arrow_buffer::{
    BooleanBufferBuilder, Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer,
};
use arrow_schema::{DataType, TimeUnit};

use super::{Field, Reject};
use crate::scan::{Bad, Scanner};
use crate::schema::ColumnType;
use crate::{base64, number, temporal, text};

/// The Arrow type of an Iceberg type.
pub fn arrow_type(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Long => DataType::Int64,
        ColumnType::Double => DataType::Float64,
        ColumnType::Decimal { precision, scale } => DataType::Decimal128(precision, scale as i8),
        ColumnType::Date => DataType::Date32,
        ColumnType::Time => DataType::Time64(TimeUnit::Microsecond),
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        ColumnType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ColumnType::String => DataType::Utf8,
        ColumnType::Binary => DataType::Binary,
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

pub(super) struct Builder {
    kind: ColumnType,
    json: bool,
    quoted: bool,
    required: bool,
    values: Values,
    nulls: NullBufferBuilder,
}

/// Why a value was not taken.
pub(super) enum Miss {
    Bad(Bad),
    /// JSON, but not a value of this column.
    Value(Box<[u8]>),
    Null,
}

impl From<Bad> for Miss {
    fn from(bad: Bad) -> Miss {
        Miss::Bad(bad)
    }
}

impl Miss {
    pub(super) fn reject(self, column: usize, builder: &Builder) -> Reject {
        match self {
            Miss::Bad(bad) => Reject::Bad(bad),
            Miss::Null => Reject::Null { column },
            Miss::Value(value) => Reject::Value {
                column,
                expected: builder.expected(),
                value,
            },
        }
    }
}

impl Builder {
    pub(super) fn new(field: &Field) -> Builder {
        let values = match field.kind {
            ColumnType::Boolean => Values::Bits(BooleanBufferBuilder::new(0)),
            ColumnType::Date => Values::I32(Vec::new()),
            ColumnType::Double => Values::F64(Vec::new()),
            ColumnType::Decimal { .. } => Values::I128(Vec::new()),
            ColumnType::String | ColumnType::Binary => Values::Bytes(vec![0], Vec::new()),
            _ => Values::I64(Vec::new()),
        };
        Builder {
            kind: field.kind,
            json: field.json,
            quoted: field.quoted,
            required: field.required,
            values,
            nulls: NullBufferBuilder::new(0),
        }
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// Bytes of one value besides its text.
    pub(super) fn width(&self) -> usize {
        match self.values {
            Values::Bits(_) => 1,
            Values::I32(_) | Values::Bytes(..) => 4,
            Values::I64(_) | Values::F64(_) => 8,
            Values::I128(_) => 16,
        }
    }

    /// Take the value at the cursor for row `row`; the rows since the last value were null.
    #[inline(always)]
    pub(super) fn push(&mut self, scanner: &mut Scanner<'_>, row: usize) -> Result<(), Miss> {
        if self.nulls.len() < row {
            self.pad(row);
        }
        if scanner.peek() == b'n' && scanner.word(b"null") {
            if self.required {
                return Err(Miss::Null);
            }
            self.pad(row + 1);
            return Ok(());
        }
        let start = *scanner;
        let taken = match self.kind {
            ColumnType::String if self.json => self.json(scanner),
            ColumnType::String => self.string(scanner),
            ColumnType::Long => self.long(scanner),
            ColumnType::Double => self.double(scanner),
            ColumnType::Boolean => self.boolean(scanner),
            ColumnType::Decimal { precision, scale } => self.decimal(scanner, precision, scale),
            ColumnType::Timestamptz => self.parsed(scanner, temporal::timestamptz),
            ColumnType::Timestamp => self.parsed(scanner, temporal::timestamp),
            ColumnType::Time => self.parsed(scanner, temporal::time),
            ColumnType::Date => self.date(scanner),
            ColumnType::Binary => self.binary(scanner),
        };
        if taken.is_none() {
            return Err(wrong(start));
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// What the values of this column are, for an error.
    fn expected(&self) -> &'static str {
        match self.kind {
            ColumnType::Boolean => "boolean",
            ColumnType::Long => "an integer of 64 bits",
            ColumnType::Double => "a number that a double can hold",
            ColumnType::Decimal { .. } => {
                "a number with no more digits than that, or a string that holds one"
            }
            ColumnType::Date => "a date YYYY-MM-DD of the years 0001 to 9999",
            ColumnType::Time => "a time HH:MM:SS without an offset",
            ColumnType::Timestamp => {
                "a timestamp YYYY-MM-DDTHH:MM:SS without an offset, of the years 0001 to 9999"
            }
            ColumnType::Timestamptz => "an RFC 3339 timestamp of the years 0001 to 9999",
            ColumnType::String if self.json => "JSON without NaN and Infinity",
            ColumnType::String => "a string of whole characters",
            ColumnType::Binary => "a string in base64",
        }
    }

    #[inline(always)]
    fn string(&mut self, scanner: &mut Scanner<'_>) -> Option<()> {
        let Values::Bytes(offsets, bytes) = &mut self.values else {
            return None;
        };
        let (raw, escaped) = scanner.string().ok()?;
        if escaped {
            text::unescape(raw, bytes).ok()?;
        } else {
            bytes.extend_from_slice(raw);
        }
        offsets.push(bytes.len() as i32);
        Some(())
    }

    fn json(&mut self, scanner: &mut Scanner<'_>) -> Option<()> {
        let Values::Bytes(offsets, bytes) = &mut self.values else {
            return None;
        };
        scanner.nan = false;
        let value = scanner.value();
        scanner.nan = true;
        bytes.extend_from_slice(value.ok()?);
        offsets.push(bytes.len() as i32);
        Some(())
    }

    fn binary(&mut self, scanner: &mut Scanner<'_>) -> Option<()> {
        let Values::Bytes(offsets, bytes) = &mut self.values else {
            return None;
        };
        let (raw, escaped) = scanner.string().ok()?;
        let taken = if escaped {
            base64::decode(&text::resolve(raw), bytes)
        } else {
            base64::decode(raw, bytes)
        };
        if !taken {
            return None;
        }
        offsets.push(bytes.len() as i32);
        Some(())
    }

    #[inline(always)]
    fn long(&mut self, scanner: &mut Scanner<'_>) -> Option<()> {
        let Values::I64(values) = &mut self.values else {
            return None;
        };
        let value = match plain_integer(scanner) {
            Some(value) => value,
            None if self.quoted && scanner.peek() == b'"' => {
                quoted_number(scanner).and_then(number::integer)?
            }
            None => number::integer(scanner.number().ok()?)?,
        };
        values.push(value);
        Some(())
    }

    #[inline(always)]
    fn double(&mut self, scanner: &mut Scanner<'_>) -> Option<()> {
        let Values::F64(values) = &mut self.values else {
            return None;
        };
        let value = match scanner.peek() {
            b'"' if self.quoted => {
                let (raw, _) = scanner.string().ok()?;
                match raw {
                    b"NaN" => f64::NAN,
                    b"Infinity" => f64::INFINITY,
                    b"-Infinity" => f64::NEG_INFINITY,
                    _ => number::double(checked_number(raw)?)?,
                }
            }
            b'N' if scanner.python_word(b"NaN") => f64::NAN,
            b'I' if scanner.python_word(b"Infinity") => f64::INFINITY,
            b'-' if scanner.python_word(b"-Infinity") => f64::NEG_INFINITY,
            _ => number::double(scanner.number().ok()?)?,
        };
        values.push(value);
        Some(())
    }

    #[inline(always)]
    fn boolean(&mut self, scanner: &mut Scanner<'_>) -> Option<()> {
        let Values::Bits(bits) = &mut self.values else {
            return None;
        };
        let value = scanner.word(b"true");
        if !value && !scanner.word(b"false") {
            return None;
        }
        bits.append(value);
        Some(())
    }

    #[inline(always)]
    fn decimal(&mut self, scanner: &mut Scanner<'_>, precision: u8, scale: u8) -> Option<()> {
        let Values::I128(values) = &mut self.values else {
            return None;
        };
        let text = if scanner.peek() == b'"' {
            scanner.string().ok()?.0
        } else {
            scanner.number().ok()?
        };
        values.push(number::decimal(text, precision, scale)?);
        Some(())
    }

    /// A string that `parse` reads.
    #[inline(always)]
    fn parsed(&mut self, scanner: &mut Scanner<'_>, parse: fn(&[u8]) -> Option<i64>) -> Option<()> {
        let Values::I64(values) = &mut self.values else {
            return None;
        };
        let (raw, escaped) = scanner.string().ok()?;
        values.push(if escaped {
            parse(&text::resolve(raw))?
        } else {
            parse(raw)?
        });
        Some(())
    }

    fn date(&mut self, scanner: &mut Scanner<'_>) -> Option<()> {
        let Values::I32(values) = &mut self.values else {
            return None;
        };
        let (raw, escaped) = scanner.string().ok()?;
        values.push(if escaped {
            temporal::date(&text::resolve(raw))?
        } else {
            temporal::date(raw)?
        });
        Some(())
    }

    /// Nulls up to `rows`.
    fn pad(&mut self, rows: usize) {
        let count = rows - self.nulls.len();
        match &mut self.values {
            Values::Bits(bits) => bits.append_n(count, false),
            Values::I32(values) => values.resize(rows, 0),
            Values::I64(values) => values.resize(rows, 0),
            Values::F64(values) => values.resize(rows, 0.0),
            Values::I128(values) => values.resize(rows, 0),
            Values::Bytes(offsets, bytes) => offsets.resize(rows + 1, bytes.len() as i32),
        }
        self.nulls.append_n_nulls(count);
    }

    /// Drop what was taken for row `rows` and those after it, a half-taken value included.
    pub(super) fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Bits(bits) => bits.truncate(rows),
            Values::I32(values) => values.truncate(rows),
            Values::I64(values) => values.truncate(rows),
            Values::F64(values) => values.truncate(rows),
            Values::I128(values) => values.truncate(rows),
            Values::Bytes(offsets, bytes) => {
                offsets.truncate(rows + 1);
                bytes.truncate(offsets.last().map_or(0, |&end| end as usize));
            }
        }
        self.nulls.truncate(rows);
    }

    /// The first `rows` values as an array.
    pub(super) fn finish(&mut self, rows: usize) -> ArrayRef {
        if self.nulls.len() < rows {
            self.pad(rows);
        }
        let nulls = self.nulls.finish();
        match &mut self.values {
            Values::Bits(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Values::I32(values) => Arc::new(primitive::<Date32Type>(values, nulls)),
            Values::F64(values) => Arc::new(primitive::<Float64Type>(values, nulls)),
            Values::I128(values) => {
                let array = primitive::<Decimal128Type>(values, nulls);
                Arc::new(array.with_data_type(arrow_type(self.kind)))
            }
            Values::I64(values) => match self.kind {
                ColumnType::Time => Arc::new(primitive::<Time64MicrosecondType>(values, nulls)),
                ColumnType::Timestamp => {
                    Arc::new(primitive::<TimestampMicrosecondType>(values, nulls))
                }
                ColumnType::Timestamptz => Arc::new(
                    primitive::<TimestampMicrosecondType>(values, nulls).with_timezone("UTC"),
                ),
                _ => Arc::new(primitive::<Int64Type>(values, nulls)),
            },
            Values::Bytes(offsets, bytes) => {
                let next = Vec::with_capacity(offsets.len());
                let ends = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(offsets, next)));
                offsets.push(0);
                let next = Vec::with_capacity(bytes.len());
                let bytes = Buffer::from_vec(std::mem::replace(bytes, next));
                match self.kind {
                    ColumnType::Binary => Arc::new(BinaryArray::new(ends, bytes, nulls)),
                    _ => Arc::new(StringArray::new(ends, bytes, nulls)),
                }
            }
        }
    }
}

/// An array of `values`; the next batch starts with the room that this one took.
fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
) -> PrimitiveArray<T> {
    let next = Vec::with_capacity(values.len());
    PrimitiveArray::new(ScalarBuffer::from(std::mem::replace(values, next)), nulls)
}

/// Up to 18 digits that end the value; none, with nothing consumed, for every other number.
#[inline(always)]
fn plain_integer(scanner: &mut Scanner<'_>) -> Option<i64> {
    let rest = scanner.rest();
    let negative = rest.first() == Some(&b'-');
    let digits = &rest[negative as usize..];
    let (mut value, mut count) = (0i64, 0);
    while let Some(digit) = digits.get(count).map(|byte| byte.wrapping_sub(b'0'))
        && digit < 10
        && count < 19
    {
        value = value.wrapping_mul(10).wrapping_add(digit as i64);
        count += 1;
    }
    let leading_zero = count > 1 && digits[0] == b'0';
    let ends = matches!(digits.get(count), Some(b',' | b'}' | b' '));
    if count == 0 || count > 18 || leading_zero || !ends {
        return None;
    }
    scanner.advance(negative as usize + count);
    Some(if negative { -value } else { value })
}

fn quoted_number<'a>(scanner: &mut Scanner<'a>) -> Option<&'a [u8]> {
    scanner
        .string()
        .ok()
        .and_then(|(raw, _)| checked_number(raw))
}

/// `text` if all of it is a JSON number.
fn checked_number(text: &[u8]) -> Option<&[u8]> {
    let mut scanner = Scanner::new(text, 0);
    let number = scanner.number().ok()?;
    (number.len() == text.len()).then_some(text)
}

/// Whether the value at `start` is no JSON at all or a value of another kind.
#[cold]
fn wrong(mut start: Scanner<'_>) -> Miss {
    start.nan = true;
    match start
        .value()
        .and_then(|value| start.more(b'}').map(|_| value))
    {
        Ok(value) => Miss::Value(value[..value.len().min(1024)].into()),
        Err(bad) => Miss::Bad(bad),
    }
}
