//! Batches: rows as one Arrow IPC stream, read as hostile bytes (docs/spec/batch.md).
//!
//! A line announces the batch, then its bytes follow: a schema, one record batch, an optional end. Everything is held against what the
//! stream's schema makes of it before an array is built: the fields and their types, every offset and length, and then every value, as
//! those of a RECORD are. Buffers are not copied.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float64Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, PrimitiveArray, StringArray};
use arrow_buffer::{
    ArrowNativeType, BooleanBuffer, Buffer, MutableBuffer, NullBuffer, OffsetBuffer, ScalarBuffer,
};
use arrow_ipc::{
    DateUnit, Endianness, Message, MetadataVersion, Precision, RecordBatch, Schema, TimeUnit, Type,
    root_as_message_with_opts,
};
use flatbuffers::VerifierOptions;

use crate::decode::arrow_type;
use crate::envelope::StreamRef;
use crate::fault::Fault;
use crate::number;
use crate::scan::{Bad, Scanner, members};
use crate::temporal;
use crate::text;
use crate::types::{Column, Primitive, Shape};

/// How a line that announces a batch begins.
const OPENING: &[u8] = b"{\"type\":\"ARROW_BATCH\"";
/// The largest batch, and the most rows of one.
pub const MAX_BYTES: usize = 16 << 20;
pub const MAX_ROWS: usize = 1 << 17;
const CONTINUATION: [u8; 4] = [0xff; 4];

/// A batch that follows.
#[derive(Debug, PartialEq, Eq)]
pub struct Announced<'a> {
    pub stream: StreamRef<'a>,
    pub rows: usize,
    pub bytes: usize,
}

/// What is announced by `line`; none if it is any other line.
pub fn announced(line: &[u8], max_depth: usize) -> Option<Result<Announced<'_>, Bad>> {
    line.starts_with(OPENING)
        .then(|| announcement(line, max_depth))
}

fn announcement(line: &[u8], max_depth: usize) -> Result<Announced<'_>, Bad> {
    let invalid = |message| Bad {
        code: "message.invalid",
        message,
        at: 0,
    };
    let [batch] = members(line, max_depth, ["batch"])?;
    let batch = batch.ok_or(invalid("an ARROW_BATCH without batch"))?;
    let [stream, namespace, rows, bytes] =
        members(batch, max_depth, ["stream", "namespace", "rows", "bytes"])?;
    let name = stream
        .and_then(text::string)
        .ok_or(invalid("an ARROW_BATCH without the name of its stream"))?;
    let namespace = match namespace {
        None | Some(b"null") => None,
        Some(given) => {
            let given = text::string(given).ok_or(invalid("a namespace must be a string"))?;
            Some(given).filter(|name| !name.is_empty())
        }
    };
    let count = |text: Option<&[u8]>, most: usize, message| {
        text.and_then(number::integer)
            .and_then(|count| usize::try_from(count).ok())
            .filter(|count| (1..=most).contains(count))
            .ok_or(Bad {
                code: "message.batch",
                message,
                at: 0,
            })
    };
    Ok(Announced {
        stream: StreamRef { namespace, name },
        rows: count(rows, MAX_ROWS, "rows must be from 1 to 131072")?,
        bytes: count(bytes, MAX_BYTES, "bytes must be from 1 to 16777216")?,
    })
}

/// A column of a batch: its field, and its values as the table has them.
#[derive(Clone, Debug)]
pub struct Field {
    pub property: String,
    kind: Kind,
    required: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Of this type in the batch, and of the other, which may be wider, in the table.
    Value(Primitive, Primitive),
    Json,
}

impl Field {
    /// A column with values of its own type; none for one that no batch can have.
    pub fn of(column: &Column) -> Option<Field> {
        let kind = match column.shape {
            Shape::Value { kind, .. } => Kind::Value(kind, kind),
            Shape::Json => Kind::Json,
            Shape::Struct(_) | Shape::List(_) | Shape::Map(_) => return None,
        };
        Some(Field {
            property: column.property.clone(),
            kind,
            required: false,
        })
    }

    /// The same where null is no value of it.
    #[must_use]
    pub fn required(mut self, required: bool) -> Field {
        self.required = required;
        self
    }

    /// The same with values of `wide`, which holds them all.
    #[must_use]
    pub fn widened(mut self, wide: Primitive) -> Field {
        if let Kind::Value(_, table) = &mut self.kind {
            *table = wide;
        }
        self
    }
}

/// The columns of a batch of `rows` rows, in the order of `fields`. JSON text may be nested `max_depth` deep.
pub fn read(
    body: Vec<u8>,
    rows: usize,
    fields: &[Field],
    max_depth: usize,
) -> Result<Vec<ArrayRef>, Box<Fault>> {
    let body = Buffer::from_vec(body);
    let (metadata, rest) = encapsulated(&body, 0)?;
    let schema = message(metadata, fields.len())?;
    if schema.bodyLength() != 0 {
        return Err(malformed("its schema has a body"));
    }
    let schema = schema.header_as_schema();
    check_schema(
        schema.ok_or_else(|| malformed("it does not begin with a schema"))?,
        fields,
    )?;
    let (metadata, rest) = encapsulated(&body, rest)?;
    let batch = message(metadata, fields.len())?;
    let length = usize::try_from(batch.bodyLength()).ok();
    let end = length.and_then(|length| rest.checked_add(length));
    let end = end.filter(|&end| end <= body.len());
    let end = end.ok_or_else(|| malformed("its body is longer than its bytes"))?;
    check_end(&body[end..])?;
    let header = batch.header_as_record_batch();
    let header = header.ok_or_else(|| malformed("no record batch follows its schema"))?;
    let mut parts = Parts::new(
        &header,
        body.slice_with_length(rest, end - rest),
        rows,
        fields,
    )?;
    let columns = fields.iter().map(|field| {
        let column = parts.column(field, max_depth);
        column.map_err(|fault| fault.field(field.property.as_str()))
    });
    columns.collect()
}

#[cold]
fn malformed(message: impl Into<String>) -> Box<Fault> {
    let message = format!("the batch is not as it must be: {}", message.into());
    Fault::plugin("message.batch", message)
}

/// The metadata of the message at `start`, and where its body begins.
fn encapsulated(bytes: &[u8], start: usize) -> Result<(&[u8], usize), Box<Fault>> {
    let head = bytes.get(start..).and_then(|rest| rest.first_chunk::<8>());
    let head = head.ok_or_else(|| malformed("it ends before a message"))?;
    let [marker @ .., a, b, c, d] = *head;
    if marker != CONTINUATION {
        return Err(malformed(
            "a message does not begin with the continuation marker",
        ));
    }
    let length = i32::from_le_bytes([a, b, c, d]);
    let length = usize::try_from(length).ok().filter(|length| *length > 0);
    let length = length.ok_or_else(|| malformed("a message without metadata"))?;
    let begin = start + 8;
    let end = begin.checked_add(length).filter(|end| *end <= bytes.len());
    let end = end.ok_or_else(|| malformed("the metadata of a message is longer than its bytes"))?;
    if end % 8 != 0 {
        return Err(malformed(
            "the metadata of a message is not padded to 8 bytes",
        ));
    }
    Ok((&bytes[begin..end], end))
}

/// The metadata, verified: no more tables than so many fields need.
fn message(metadata: &[u8], fields: usize) -> Result<Message<'_>, Box<Fault>> {
    let options = VerifierOptions {
        max_depth: 16,
        max_tables: 64 + 16 * fields,
        max_apparent_size: 64 << 20,
        ignore_missing_null_terminator: false,
    };
    let message = root_as_message_with_opts(&options, metadata).map_err(|error| {
        malformed(format!(
            "its metadata cannot be read: {}",
            first_line(&error)
        ))
    })?;
    if message.version() != MetadataVersion::V5 {
        return Err(malformed("its metadata is not of version 5"));
    }
    Ok(message)
}

fn first_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// Behind the record batch nothing stands but the end of the stream.
fn check_end(rest: &[u8]) -> Result<(), Box<Fault>> {
    match rest {
        [] | [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0] => Ok(()),
        _ => Err(malformed("something stands behind its record batch")),
    }
}

fn check_schema(schema: Schema<'_>, fields: &[Field]) -> Result<(), Box<Fault>> {
    if schema.endianness() != Endianness::Little {
        return Err(malformed("its numbers are not little-endian"));
    }
    let found = schema.fields();
    let count = found.as_ref().map_or(0, |found| found.len());
    if count != fields.len() {
        let message = format!("{count} columns, the stream's schema has {}", fields.len());
        return Err(malformed(message));
    }
    for (found, field) in found.iter().flatten().zip(fields) {
        let at = |fault: Box<Fault>| fault.field(field.property.as_str());
        let name = found.name().unwrap_or_default();
        if name != field.property {
            let message = "another column stands where the stream's schema has this one";
            return Err(at(malformed(message)).value(name.as_bytes()));
        }
        if found.dictionary().is_some() {
            return Err(at(malformed("dictionaries are not taken")));
        }
        let nested = found
            .children()
            .is_some_and(|children| !children.is_empty());
        let wanted = match field.kind {
            Kind::Value(kind, _) => kind,
            Kind::Json => Primitive::String,
        };
        if nested || !is_type(&found, wanted) {
            let found = found.type_type().variant_name().unwrap_or("unknown");
            let message = format!("the column is to be {}", arrow_type(wanted));
            return Err(at(malformed(message)).value(found.as_bytes()));
        }
    }
    Ok(())
}

fn is_type(field: &arrow_ipc::Field<'_>, wanted: Primitive) -> bool {
    match (wanted, field.type_type()) {
        (Primitive::Boolean, Type::Bool)
        | (Primitive::String, Type::Utf8)
        | (Primitive::Binary, Type::Binary) => true,
        (Primitive::Long, Type::Int) => field
            .type_as_int()
            .is_some_and(|int| int.bitWidth() == 64 && int.is_signed()),
        (Primitive::Double, Type::FloatingPoint) => field
            .type_as_floating_point()
            .is_some_and(|double| double.precision() == Precision::DOUBLE),
        (Primitive::Decimal { precision, scale }, Type::Decimal) => {
            field.type_as_decimal().is_some_and(|decimal| {
                let digits = (decimal.precision(), decimal.scale());
                decimal.bitWidth() == 128 && digits == (precision.into(), scale.into())
            })
        }
        (Primitive::Date, Type::Date) => field
            .type_as_date()
            .is_some_and(|date| date.unit() == DateUnit::DAY),
        (Primitive::Time, Type::Time) => field
            .type_as_time()
            .is_some_and(|time| time.unit() == TimeUnit::MICROSECOND && time.bitWidth() == 64),
        (Primitive::Timestamp | Primitive::Timestamptz, Type::Timestamp) => {
            let zone = (wanted == Primitive::Timestamptz).then_some("UTC");
            field
                .type_as_timestamp()
                .is_some_and(|at| at.unit() == TimeUnit::MICROSECOND && at.timezone() == zone)
        }
        _ => false,
    }
}

/// The nodes and buffers of a record batch, handed out in order.
struct Parts {
    body: Buffer,
    rows: usize,
    /// Length and nulls of each column, offset and length of each buffer, as they are claimed.
    nodes: std::vec::IntoIter<(i64, i64)>,
    buffers: std::vec::IntoIter<(i64, i64)>,
}

impl Parts {
    fn new(
        batch: &RecordBatch<'_>,
        body: Buffer,
        rows: usize,
        fields: &[Field],
    ) -> Result<Parts, Box<Fault>> {
        if batch.compression().is_some() {
            return Err(malformed("compressed bodies are not taken"));
        }
        if batch
            .variadicBufferCounts()
            .is_some_and(|counts| !counts.is_empty())
        {
            return Err(malformed("views are not taken"));
        }
        if batch.length() != rows as i64 {
            let message = format!("{} rows, {rows} were announced", batch.length());
            return Err(malformed(message));
        }
        let nodes: Vec<_> = batch
            .nodes()
            .iter()
            .flatten()
            .map(|node| (node.length(), node.null_count()))
            .collect();
        let buffers: Vec<_> = batch
            .buffers()
            .iter()
            .flatten()
            .map(|buffer| (buffer.offset(), buffer.length()))
            .collect();
        let wanted: usize = fields.iter().map(Field::buffers).sum();
        if nodes.len() != fields.len() || buffers.len() != wanted {
            let message = format!(
                "{} columns in {} buffers where its schema needs {} in {wanted}",
                nodes.len(),
                buffers.len(),
                fields.len()
            );
            return Err(malformed(message));
        }
        Ok(Parts {
            body,
            rows,
            nodes: nodes.into_iter(),
            buffers: buffers.into_iter(),
        })
    }

    /// The next column.
    fn column(&mut self, field: &Field, max_depth: usize) -> Result<ArrayRef, Box<Fault>> {
        let (length, null_count) = self.nodes.next().unwrap_or_default();
        if length != self.rows as i64 {
            return Err(malformed(format!(
                "the column has {length} rows of {}",
                self.rows
            )));
        }
        let nulls = self.nulls(null_count)?;
        if field.required && nulls.is_some() {
            let fault = Fault::plugin("record.value", "the table's column is required");
            return Err(fault.value(b"null"));
        }
        let (kind, wide) = match field.kind {
            Kind::Value(kind, wide) => (kind, wide),
            Kind::Json => {
                let texts = self.texts(nulls)?;
                check_json(&texts, max_depth)?;
                return Ok(Arc::new(texts));
            }
        };
        Ok(match kind {
            Primitive::Boolean => {
                let bits = self.buffer(self.rows.div_ceil(8))?;
                Arc::new(BooleanArray::new(
                    BooleanBuffer::new(bits, 0, self.rows),
                    nulls,
                ))
            }
            Primitive::Long => Arc::new(self.numbers::<Int64Type>(nulls)?),
            Primitive::Double => Arc::new(self.numbers::<Float64Type>(nulls)?),
            Primitive::Decimal { precision, .. } => {
                let values = self.numbers::<Decimal128Type>(nulls)?;
                let most = number::power(precision);
                check(&values, kind, |value| -most < value && value < most)?;
                Arc::new(values.with_data_type(arrow_type(wide)))
            }
            Primitive::Date => {
                let values = self.numbers::<Date32Type>(nulls)?;
                check(&values, kind, |day| temporal::DAYS.contains(&day))?;
                Arc::new(values)
            }
            Primitive::Time => {
                let values = self.numbers::<Time64MicrosecondType>(nulls)?;
                check(&values, kind, |us| (0..temporal::DAY_US).contains(&us))?;
                Arc::new(values)
            }
            Primitive::Timestamp | Primitive::Timestamptz => {
                let values = self.numbers::<TimestampMicrosecondType>(nulls)?;
                check(&values, kind, |us| temporal::MICROSECONDS.contains(&us))?;
                Arc::new(values.with_data_type(arrow_type(kind)))
            }
            Primitive::String => Arc::new(self.texts(nulls)?),
            Primitive::Binary => {
                let (offsets, values) = self.offsets()?;
                let array = BinaryArray::try_new(offsets, values, nulls);
                Arc::new(array.map_err(|error| malformed(error.to_string()))?)
            }
        })
    }

    /// The next buffer, which must have at least `needed` bytes: those.
    fn buffer(&mut self, needed: usize) -> Result<Buffer, Box<Fault>> {
        let buffer = self.whole_buffer()?;
        if buffer.len() < needed {
            let message = format!(
                "a buffer of {} bytes where {needed} are needed",
                buffer.len()
            );
            return Err(malformed(message));
        }
        Ok(buffer.slice_with_length(0, needed))
    }

    fn whole_buffer(&mut self) -> Result<Buffer, Box<Fault>> {
        let (offset, length) = self.buffers.next().unwrap_or_default();
        let begin = usize::try_from(offset).ok();
        let length = usize::try_from(length).ok();
        begin
            .zip(length)
            .filter(|(begin, length)| {
                let end = begin.checked_add(*length);
                end.is_some_and(|end| end <= self.body.len())
            })
            .map(|(begin, length)| self.body.slice_with_length(begin, length))
            .ok_or_else(|| malformed("a buffer lies outside of its body"))
    }

    /// Which rows are null; none if no row is.
    fn nulls(&mut self, claimed: i64) -> Result<Option<NullBuffer>, Box<Fault>> {
        if claimed == 0 {
            self.whole_buffer()?;
            return Ok(None);
        }
        let bits = self.buffer(self.rows.div_ceil(8))?;
        let nulls = NullBuffer::new(BooleanBuffer::new(bits, 0, self.rows));
        if nulls.null_count() as i64 != claimed {
            let message = format!("{} nulls where it says {claimed}", nulls.null_count());
            return Err(malformed(message));
        }
        Ok(Some(nulls))
    }

    fn numbers<T: ArrowPrimitiveType>(
        &mut self,
        nulls: Option<NullBuffer>,
    ) -> Result<PrimitiveArray<T>, Box<Fault>> {
        let values = self.scalars::<T::Native>(self.rows)?;
        let array = PrimitiveArray::try_new(values, nulls);
        array.map_err(|error| malformed(error.to_string()))
    }

    fn scalars<T: ArrowNativeType>(&mut self, count: usize) -> Result<ScalarBuffer<T>, Box<Fault>> {
        let buffer = self.buffer(count * size_of::<T>())?;
        // Where it does not lie as the processor wants it, it is moved.
        let buffer = if buffer.as_ptr().align_offset(align_of::<T>()) == 0 {
            buffer
        } else {
            let mut moved = MutableBuffer::new(buffer.len());
            moved.extend_from_slice(buffer.as_slice());
            moved.into()
        };
        Ok(ScalarBuffer::new(buffer, 0, count))
    }

    /// Offsets that never go back, and the bytes that they point into.
    fn offsets(&mut self) -> Result<(OffsetBuffer<i32>, Buffer), Box<Fault>> {
        let offsets = self.scalars::<i32>(self.rows + 1)?;
        let values = self.whole_buffer()?;
        let never_back = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        let last = offsets.last().copied().unwrap_or_default();
        if offsets[0] < 0 || !never_back || last as usize > values.len() {
            return Err(malformed("offsets of texts go back or beyond their bytes"));
        }
        Ok((OffsetBuffer::new(offsets), values))
    }

    fn texts(&mut self, nulls: Option<NullBuffer>) -> Result<StringArray, Box<Fault>> {
        let (offsets, values) = self.offsets()?;
        let array = StringArray::try_new(offsets, values, nulls);
        array.map_err(|error| malformed(error.to_string()))
    }
}

impl Field {
    fn buffers(&self) -> usize {
        match self.kind {
            Kind::Value(Primitive::String | Primitive::Binary, _) | Kind::Json => 3,
            Kind::Value(..) => 2,
        }
    }
}

/// Every value that is not null must be one of `kind`.
fn check<T: ArrowPrimitiveType>(
    values: &PrimitiveArray<T>,
    kind: Primitive,
    is_valid: impl Fn(T::Native) -> bool,
) -> Result<(), Box<Fault>> {
    // What stands under a null is anything, so only a miss is looked at closely.
    if values.values().iter().all(|&value| is_valid(value)) {
        return Ok(());
    }
    let misfit = |row: &usize| values.is_valid(*row) && !is_valid(values.value(*row));
    match (0..values.len()).find(misfit) {
        None => Ok(()),
        Some(row) => {
            let value = format!("{:?}", values.value(row));
            let fault = misplaced(row, &format!("no {kind}"));
            Err(fault.value(value.as_bytes()))
        }
    }
}

fn check_json(texts: &StringArray, max_depth: usize) -> Result<(), Box<Fault>> {
    for row in 0..texts.len() {
        if texts.is_null(row) {
            continue;
        }
        let text = texts.value(row).as_bytes();
        let mut scanner = Scanner::new(text, max_depth);
        scanner.nan = false;
        scanner.skip_space();
        if let Err(bad) = scanner.value().and_then(|_| scanner.end()) {
            return Err(misplaced(row, bad.message).value(text));
        }
    }
    Ok(())
}

#[cold]
fn misplaced(row: usize, message: &str) -> Box<Fault> {
    Fault::plugin(
        "record.value",
        format!("row {} of the batch: {message}", row + 1),
    )
}

#[cfg(test)]
mod tests;
