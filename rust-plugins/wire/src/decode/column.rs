//! One column's values while a batch is open.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::types::{
    Date32Type, Decimal128Type, Float64Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, ListArray, MapArray, PrimitiveArray,
    StringArray, StructArray,
};
use arrow_buffer::{
    BooleanBufferBuilder, Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer,
};
use arrow_schema::{DataType, FieldRef, Fields};

use super::field::{arrow_type, kind_type};
use super::record::Record;
use super::{Field, Kind, Reject};
use crate::scan::Scanner;
use crate::types::Primitive;
use crate::{base64, number, temporal, text};

/// What the lists and maps of one record may take besides their texts: short texts can stand for many wide values.
const MAX_RECORD_LIST_BYTES: usize = 32 << 20;

/// How much of [`MAX_RECORD_LIST_BYTES`] is left for the record that is read.
pub(super) struct Room(usize);

impl Default for Room {
    fn default() -> Room {
        Room(MAX_RECORD_LIST_BYTES)
    }
}

impl Room {
    fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// Texts of any length: where each ends, 0 first, and their bytes.
struct Texts {
    ends: Vec<i32>,
    bytes: Vec<u8>,
}

impl Texts {
    fn new() -> Texts {
        Texts {
            ends: vec![0],
            bytes: Vec::new(),
        }
    }

    /// What stands behind the last end is a text.
    #[inline(always)]
    fn end(&mut self) {
        self.ends.push(self.bytes.len() as i32);
    }

    fn resize(&mut self, rows: usize) {
        self.ends.resize(rows + 1, self.bytes.len() as i32);
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows + 1);
        self.bytes
            .truncate(self.ends.last().map_or(0, |&end| end as usize));
    }

    fn shrink(&mut self) {
        self.ends.shrink_to_fit();
        self.bytes.shrink_to_fit();
    }

    /// Ends and bytes; the next batch starts with the room that this one took.
    fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let next = Vec::with_capacity(room_after(self.bytes.len()));
        let bytes = Buffer::from_vec(std::mem::replace(&mut self.bytes, next));
        (offsets(&mut self.ends), bytes)
    }
}

enum Values {
    Boolean(BooleanBufferBuilder),
    Long { values: Vec<i64>, quoted: bool },
    Double { values: Vec<f64>, quoted: bool },
    Decimal(Vec<i128>, u8, u8),
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp(Vec<i64>),
    Timestamptz(Vec<i64>),
    String(Texts),
    Json(Texts),
    Binary(Texts),
    Struct(Box<Record>, Fields),
    List(Box<List>),
    Map(Box<List>, Texts),
}

/// The elements of lists, or the values of maps.
struct List {
    /// Where each list ends, 0 first.
    ends: Vec<i32>,
    elements: Builder,
    /// Bytes of one element besides its texts.
    width: usize,
    field: FieldRef,
}

pub(super) struct Builder {
    required: bool,
    values: Values,
    nulls: NullBufferBuilder,
}

impl Builder {
    pub(super) fn of_field(field: &Field) -> Builder {
        Builder::new(&field.kind, field.required)
    }

    fn new(kind: &Kind, required: bool) -> Builder {
        let list = |of: &Kind| {
            let (DataType::List(field) | DataType::Map(field, _)) = kind_type(kind) else {
                unreachable!("a list's type is a list's");
            };
            let elements = Builder::new(of, false);
            Box::new(List {
                ends: vec![0],
                width: elements.width(),
                elements,
                field,
            })
        };
        let values = match kind {
            Kind::Value { kind, quoted } => match *kind {
                Primitive::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
                Primitive::Long => Values::Long {
                    values: Vec::new(),
                    quoted: *quoted,
                },
                Primitive::Double => Values::Double {
                    values: Vec::new(),
                    quoted: *quoted,
                },
                Primitive::Decimal { precision, scale } => {
                    Values::Decimal(Vec::new(), precision, scale)
                }
                Primitive::Date => Values::Date(Vec::new()),
                Primitive::Time => Values::Time(Vec::new()),
                Primitive::Timestamp => Values::Timestamp(Vec::new()),
                Primitive::Timestamptz => Values::Timestamptz(Vec::new()),
                Primitive::String => Values::String(Texts::new()),
                Primitive::Binary => Values::Binary(Texts::new()),
            },
            Kind::Json => Values::Json(Texts::new()),
            Kind::Struct(fields) => {
                let arrow = fields.iter().map(super::arrow_field).collect();
                Values::Struct(Box::new(Record::new(fields)), arrow)
            }
            Kind::List { element, .. } => Values::List(list(element)),
            Kind::Map { value, .. } => Values::Map(list(value), Texts::new()),
        };
        Builder {
            required,
            values,
            nulls: NullBufferBuilder::new(0),
        }
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.nulls.len()
    }

    pub(super) fn may_be_null(&self) -> bool {
        !self.required
    }

    /// Bytes of one value besides its text and what is in its lists.
    pub(super) fn width(&self) -> usize {
        match &self.values {
            Values::Boolean(_) => 1,
            Values::Date(_) | Values::String(_) | Values::Json(_) | Values::Binary(_) => 4,
            Values::Long { .. }
            | Values::Double { .. }
            | Values::Time(_)
            | Values::Timestamp(_)
            | Values::Timestamptz(_) => 8,
            Values::Decimal(..) => 16,
            Values::Struct(record, _) => 1 + record.width(),
            Values::List(_) | Values::Map(..) => 4,
        }
    }

    /// Bytes that lists take in the open batch besides their texts.
    pub(super) fn list_bytes(&self) -> usize {
        let of = |list: &List| list.elements.len() * list.width + list.elements.list_bytes();
        match &self.values {
            Values::Struct(record, _) => record.list_bytes(),
            Values::List(list) => of(list),
            Values::Map(list, _) => of(list) + list.elements.len() * 4,
            _ => 0,
        }
    }

    /// Bytes that the values of the open batch take.
    pub(super) fn bytes(&self) -> usize {
        let list = |list: &List| list.ends.len() * 4 + list.elements.bytes();
        let texts = |texts: &Texts| texts.ends.len() * 4 + texts.bytes.len();
        match &self.values {
            Values::String(of) | Values::Json(of) | Values::Binary(of) => texts(of),
            Values::Struct(record, _) => self.len() + record.bytes(),
            Values::List(of) => list(of),
            Values::Map(of, keys) => list(of) + texts(keys),
            _ => self.len() * self.width(),
        }
    }

    /// Whether a value may take more than its text and its width.
    pub(super) fn has_lists(&self) -> bool {
        match &self.values {
            Values::List(_) | Values::Map(..) => true,
            Values::Struct(record, _) => record.has_lists(),
            _ => false,
        }
    }

    /// Take the value at the cursor for row `row`; the rows since the last value were null.
    #[inline(always)]
    pub(super) fn push(
        &mut self,
        scanner: &mut Scanner<'_>,
        row: usize,
        room: &mut Room,
    ) -> Result<(), Box<Reject>> {
        if self.nulls.len() < row {
            self.pad(row);
        }
        if scanner.peek() == b'n' && scanner.word(b"null") {
            if self.required {
                return Err(Reject::null());
            }
            self.pad(row + 1);
            return Ok(());
        }
        let start = *scanner;
        let taken = match &mut self.values {
            Values::String(texts) => string(texts, scanner),
            Values::Long { values, quoted } => long(values, *quoted, scanner),
            Values::Double { values, quoted } => double(values, *quoted, scanner),
            Values::Boolean(bits) => boolean(bits, scanner),
            Values::Decimal(values, precision, scale) => {
                decimal(values, *precision, *scale, scanner)
            }
            Values::Timestamptz(values) => parsed(values, scanner, temporal::timestamptz),
            Values::Timestamp(values) => parsed(values, scanner, temporal::timestamp),
            Values::Time(values) => parsed(values, scanner, temporal::time),
            Values::Date(values) => parsed(values, scanner, temporal::date),
            Values::Json(texts) => json(texts, scanner),
            Values::Binary(texts) => binary(texts, scanner),
            Values::Struct(..) | Values::List(_) | Values::Map(..) => {
                self.push_nested(scanner, row, room)?
            }
        };
        if taken.is_none() {
            return Err(self.wrong(start));
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Take an object or array; none if the value is of another kind.
    #[inline(never)]
    fn push_nested(
        &mut self,
        scanner: &mut Scanner<'_>,
        row: usize,
        room: &mut Room,
    ) -> Result<Option<()>, Box<Reject>> {
        let open = match &self.values {
            Values::List(_) => b'[',
            _ => b'{',
        };
        if scanner.peek() != open {
            return Ok(None);
        }
        match &mut self.values {
            Values::Struct(record, _) => record.take(scanner, row, room)?,
            Values::List(list) => list.take(scanner, room)?,
            Values::Map(list, keys) => {
                if !list.take_map(keys, scanner, room)? {
                    return Ok(None);
                }
            }
            _ => return Ok(None),
        }
        Ok(Some(()))
    }

    /// What the values of this column are, for an error.
    fn expected(&self) -> String {
        let text = match &self.values {
            Values::Boolean(_) => "boolean",
            Values::Long { .. } => "an integer of 64 bits",
            Values::Double { .. } => "a number that a double can hold",
            &Values::Decimal(_, precision, scale) => {
                let kind = Primitive::Decimal { precision, scale };
                return format!(
                    "{kind}: a number with no more digits than that, or a string that holds one"
                );
            }
            Values::Date(_) => "a date YYYY-MM-DD of the years 0001 to 9999",
            Values::Time(_) => "a time HH:MM:SS without an offset",
            Values::Timestamp(_) => {
                "a timestamp YYYY-MM-DDTHH:MM:SS without an offset, of the years 0001 to 9999"
            }
            Values::Timestamptz(_) => "an RFC 3339 timestamp of the years 0001 to 9999",
            Values::Json(_) => "JSON without NaN and Infinity",
            Values::String(_) => "a string of whole characters",
            Values::Binary(_) => "a string in base64",
            Values::Struct(..) => "an object",
            Values::List(_) => "an array",
            Values::Map(..) => "an object without a key twice, its keys whole characters",
        };
        text.to_owned()
    }

    /// What is wrong with the value at `start`: no JSON at all, or a value of another kind.
    #[cold]
    fn wrong(&self, mut start: Scanner<'_>) -> Box<Reject> {
        start.nan = true;
        let value = start.value().and_then(|value| {
            let mut behind = start;
            // What follows a number decides where it ends.
            if behind.more(b'}').is_err() {
                start.more(b']')?;
            }
            Ok(value)
        });
        match value {
            Ok(value) => Reject::value(self.expected(), value),
            Err(bad) => bad.into(),
        }
    }

    /// Make the value of `row`, taken or not, null.
    pub(super) fn set_null(&mut self, row: usize) {
        self.truncate(row);
        self.pad(row + 1);
    }

    /// Nulls up to `rows`.
    fn pad(&mut self, rows: usize) {
        let count = rows - self.nulls.len();
        match &mut self.values {
            Values::Boolean(bits) => bits.append_n(count, false),
            Values::Date(values) => values.resize(rows, 0),
            Values::Long { values, .. }
            | Values::Time(values)
            | Values::Timestamp(values)
            | Values::Timestamptz(values) => values.resize(rows, 0),
            Values::Double { values, .. } => values.resize(rows, 0.0),
            Values::Decimal(values, ..) => values.resize(rows, 0),
            Values::String(texts) | Values::Json(texts) | Values::Binary(texts) => {
                texts.resize(rows);
            }
            // Its fields are filled up when the next one comes.
            Values::Struct(..) => {}
            Values::List(list) | Values::Map(list, _) => {
                let end = list.elements.len() as i32;
                list.ends.resize(rows + 1, end);
            }
        }
        self.nulls.append_n_nulls(count);
    }

    /// Drop what was taken for row `rows` and those after it, a half-taken value included.
    pub(super) fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Boolean(bits) => bits.truncate(rows),
            Values::Date(values) => values.truncate(rows),
            Values::Long { values, .. }
            | Values::Time(values)
            | Values::Timestamp(values)
            | Values::Timestamptz(values) => values.truncate(rows),
            Values::Double { values, .. } => values.truncate(rows),
            Values::Decimal(values, ..) => values.truncate(rows),
            Values::String(texts) | Values::Json(texts) | Values::Binary(texts) => {
                texts.truncate(rows);
            }
            Values::Struct(record, _) => record.truncate(rows),
            Values::List(list) => {
                list.truncate(rows);
            }
            Values::Map(list, keys) => {
                let kept = list.truncate(rows);
                keys.truncate(kept);
            }
        }
        self.nulls.truncate(rows);
    }

    /// Give back the room for values that are not there.
    pub(super) fn shrink(&mut self) {
        match &mut self.values {
            Values::Boolean(_) => {}
            Values::Date(values) => values.shrink_to_fit(),
            Values::Long { values, .. }
            | Values::Time(values)
            | Values::Timestamp(values)
            | Values::Timestamptz(values) => values.shrink_to_fit(),
            Values::Double { values, .. } => values.shrink_to_fit(),
            Values::Decimal(values, ..) => values.shrink_to_fit(),
            Values::String(texts) | Values::Json(texts) | Values::Binary(texts) => texts.shrink(),
            Values::Struct(record, _) => record.shrink(),
            Values::List(list) => list.shrink(),
            Values::Map(list, keys) => {
                list.shrink();
                keys.shrink();
            }
        }
    }

    /// The first `rows` values as an array.
    pub(super) fn finish(&mut self, rows: usize) -> ArrayRef {
        if self.nulls.len() < rows {
            self.pad(rows);
        }
        let nulls = self.nulls.finish();
        match &mut self.values {
            Values::Boolean(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Values::Date(values) => Arc::new(primitive::<Date32Type>(values, nulls)),
            Values::Double { values, .. } => Arc::new(primitive::<Float64Type>(values, nulls)),
            &mut Values::Decimal(ref mut values, precision, scale) => {
                let kind = arrow_type(Primitive::Decimal { precision, scale });
                let array = primitive::<Decimal128Type>(values, nulls);
                Arc::new(array.with_data_type(kind))
            }
            Values::Long { values, .. } => Arc::new(primitive::<Int64Type>(values, nulls)),
            Values::Time(values) => Arc::new(primitive::<Time64MicrosecondType>(values, nulls)),
            Values::Timestamp(values) => {
                Arc::new(primitive::<TimestampMicrosecondType>(values, nulls))
            }
            Values::Timestamptz(values) => {
                Arc::new(primitive::<TimestampMicrosecondType>(values, nulls).with_timezone("UTC"))
            }
            Values::Binary(texts) => {
                let (ends, bytes) = texts.finish();
                Arc::new(BinaryArray::new(ends, bytes, nulls))
            }
            Values::String(texts) | Values::Json(texts) => {
                let (ends, bytes) = texts.finish();
                Arc::new(StringArray::new(ends, bytes, nulls))
            }
            Values::Struct(record, fields) => {
                let columns = record.finish(rows);
                Arc::new(StructArray::new(fields.clone(), columns, nulls))
            }
            Values::List(list) => {
                let ends = offsets(&mut list.ends);
                let elements = list.elements.finish(list.elements.len());
                Arc::new(ListArray::new(list.field.clone(), ends, elements, nulls))
            }
            Values::Map(list, keys) => {
                let ends = offsets(&mut list.ends);
                let count = list.elements.len();
                let (key_ends, bytes) = keys.finish();
                let keys: ArrayRef = Arc::new(StringArray::new(key_ends, bytes, None));
                let values = list.elements.finish(count);
                let DataType::Struct(fields) = list.field.data_type() else {
                    unreachable!("a map's entries are structs");
                };
                let entries = StructArray::new(fields.clone(), vec![keys, values], None);
                let field = list.field.clone();
                Arc::new(MapArray::new(field, ends, entries, nulls, false))
            }
        }
    }
}

impl List {
    /// Take the array at the cursor.
    fn take(&mut self, scanner: &mut Scanner<'_>, room: &mut Room) -> Result<(), Box<Reject>> {
        scanner.enter(b'[', "an array")?;
        let mut more = scanner.peek() != b']';
        if !more {
            scanner.more(b']')?;
        }
        while more {
            self.take_element(scanner, room)?;
            more = scanner.more(b']')?;
        }
        self.ends.push(self.elements.len() as i32);
        Ok(())
    }

    /// Take the object at the cursor as keys and values; false for one with a key twice or one that is no text.
    fn take_map(
        &mut self,
        keys: &mut Texts,
        scanner: &mut Scanner<'_>,
        room: &mut Room,
    ) -> Result<bool, Box<Reject>> {
        let first = self.elements.len();
        scanner.enter(b'{', "an object")?;
        let mut more = scanner.peek() != b'}';
        if !more {
            scanner.more(b'}')?;
        }
        while more {
            if scanner.peek() != b'"' {
                return Err(scanner.bad("expected a key in quotes").into());
            }
            if string(keys, scanner).is_none() {
                return Ok(false);
            }
            scanner.colon()?;
            self.take_element(scanner, room)?;
            more = scanner.more(b'}')?;
        }
        let count = self.elements.len();
        self.ends.push(count as i32);
        let key =
            |index: usize| &keys.bytes[keys.ends[index] as usize..keys.ends[index + 1] as usize];
        let mut seen = HashSet::with_capacity(count - first);
        Ok((first..count).all(|index| seen.insert(key(index))))
    }

    fn take_element(
        &mut self,
        scanner: &mut Scanner<'_>,
        room: &mut Room,
    ) -> Result<(), Box<Reject>> {
        if !room.take(self.width) {
            let expected = format!(
                "lists that take at most {} MiB in a record",
                MAX_RECORD_LIST_BYTES >> 20
            );
            return Err(Reject::value(expected, b"[..."));
        }
        let index = self.elements.len();
        self.elements
            .push(scanner, index, room)
            .map_err(|reject| reject.below(&index.saturating_sub(self.last_end()).to_string()))
    }

    fn last_end(&self) -> usize {
        self.ends.last().map_or(0, |&end| end as usize)
    }

    fn shrink(&mut self) {
        self.ends.shrink_to_fit();
        self.elements.shrink();
    }

    /// Keep the first `rows` lists; returns how many elements they have.
    fn truncate(&mut self, rows: usize) -> usize {
        self.ends.truncate(rows + 1);
        let kept = self.last_end();
        self.elements.truncate(kept);
        kept
    }
}

#[inline(always)]
fn string(texts: &mut Texts, scanner: &mut Scanner<'_>) -> Option<()> {
    let (raw, escaped) = scanner.string().ok()?;
    if escaped {
        text::unescape(raw, &mut texts.bytes).ok()?;
    } else {
        texts.bytes.extend_from_slice(raw);
    }
    texts.end();
    Some(())
}

fn json(texts: &mut Texts, scanner: &mut Scanner<'_>) -> Option<()> {
    scanner.nan = false;
    let value = scanner.value();
    scanner.nan = true;
    texts.bytes.extend_from_slice(value.ok()?);
    texts.end();
    Some(())
}

fn binary(texts: &mut Texts, scanner: &mut Scanner<'_>) -> Option<()> {
    let (raw, escaped) = scanner.string().ok()?;
    let taken = if escaped {
        base64::decode(&text::resolve(raw), &mut texts.bytes)
    } else {
        base64::decode(raw, &mut texts.bytes)
    };
    if !taken {
        return None;
    }
    texts.end();
    Some(())
}

#[inline(always)]
fn long(values: &mut Vec<i64>, quoted: bool, scanner: &mut Scanner<'_>) -> Option<()> {
    let value = match plain_integer(scanner) {
        Some(value) => value,
        None if quoted && scanner.peek() == b'"' => {
            quoted_number(scanner).and_then(number::integer)?
        }
        None => number::integer(scanner.number().ok()?)?,
    };
    values.push(value);
    Some(())
}

#[inline(always)]
fn double(values: &mut Vec<f64>, quoted: bool, scanner: &mut Scanner<'_>) -> Option<()> {
    if let Some((value, length)) = number::plain_double(scanner.rest()) {
        scanner.advance(length);
        values.push(value);
        return Some(());
    }
    let value = match scanner.peek() {
        b'"' if quoted => {
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
fn boolean(bits: &mut BooleanBufferBuilder, scanner: &mut Scanner<'_>) -> Option<()> {
    let value = scanner.word(b"true");
    if !value && !scanner.word(b"false") {
        return None;
    }
    bits.append(value);
    Some(())
}

#[inline(always)]
fn decimal(
    values: &mut Vec<i128>,
    precision: u8,
    scale: u8,
    scanner: &mut Scanner<'_>,
) -> Option<()> {
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
fn parsed<T>(
    values: &mut Vec<T>,
    scanner: &mut Scanner<'_>,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Option<()> {
    let (raw, escaped) = scanner.string().ok()?;
    values.push(if escaped {
        parse(&text::resolve(raw))?
    } else {
        parse(raw)?
    });
    Some(())
}

/// Room for the next batch after one of `length`: a little more, since one that outgrows its room takes twice as much.
fn room_after(length: usize) -> usize {
    length + length / 8
}

/// An array of `values`; the next batch starts with the room that this one took.
fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
) -> PrimitiveArray<T> {
    let next = Vec::with_capacity(room_after(values.len()));
    PrimitiveArray::new(ScalarBuffer::from(std::mem::replace(values, next)), nulls)
}

/// The ends as offsets; the next batch starts at 0, with the room that this one took.
fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let mut next = Vec::with_capacity(room_after(ends.len()));
    next.push(0);
    OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(ends, next)))
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
    let ends = matches!(digits.get(count), Some(b',' | b'}' | b']' | b' '));
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
