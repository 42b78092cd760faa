//! Records straight into Arrow arrays.
//!
//! Keys are predicted: after each key the decoder expects the one that followed it last time, and compares
//! bytes; only a miss is looked up. Keys that the schema does not have are passed over. The same holds in objects that are
//! columns ([`record`]).

mod column;
mod field;
mod record;

use arrow_array::ArrayRef;
use arrow_schema::FieldRef;

use crate::fault::{Fault, bad_fault};
use crate::scan::{Bad, Scanner};

use column::Room;
pub use field::{Field, Kind, arrow_field, arrow_type, fields_of};
use record::Record;

/// Why a record was not taken, or a value of it.
#[derive(Debug, PartialEq)]
pub enum Reject {
    Bad(Bad),
    /// `field` is a path, its parts joined by dots.
    Value {
        field: String,
        expected: String,
        value: Box<[u8]>,
    },
    Null {
        field: String,
    },
    Missing {
        field: String,
        /// It is a key of the stream.
        key: bool,
    },
    NoObject,
}

impl Reject {
    #[cold]
    fn value(expected: String, value: &[u8]) -> Box<Reject> {
        Box::new(Reject::Value {
            field: String::new(),
            expected,
            value: value[..value.len().min(1024)].into(),
        })
    }

    #[cold]
    fn null() -> Box<Reject> {
        let field = String::new();
        Box::new(Reject::Null { field })
    }

    #[cold]
    fn missing(field: &str, key: bool) -> Box<Reject> {
        let field = field.to_owned();
        Box::new(Reject::Missing { field, key })
    }

    /// Say that the field is one of `parent`, or `parent` itself.
    #[cold]
    fn below(mut self: Box<Self>, parent: &str) -> Box<Reject> {
        if let Reject::Value { field, .. }
        | Reject::Null { field }
        | Reject::Missing { field, .. } = &mut *self
        {
            let dot = if field.is_empty() { "" } else { "." };
            field.insert_str(0, dot);
            field.insert_str(0, parent);
        }
        self
    }

    /// Whether another value would have been taken: the text itself is what it should be.
    pub fn is_of_value(&self) -> bool {
        matches!(
            self,
            Reject::Value { .. } | Reject::Null { .. } | Reject::Missing { .. }
        )
    }

    /// What to report; stream, line and byte are the caller's to add.
    pub fn fault(&self, line: &[u8]) -> Box<Fault> {
        match self {
            Reject::Bad(bad) => bad_fault(bad, line),
            Reject::NoObject => Fault::plugin("message.invalid", "a record must be an object"),
            Reject::Missing { field, key: true } => Fault::plugin(
                "record.missing_key",
                "a record without a key property of its SCHEMA",
            )
            .field(field),
            Reject::Null { field } | Reject::Missing { field, .. } => {
                Fault::plugin("record.value", "the table's column is required")
                    .field(field)
                    .value(b"null")
            }
            Reject::Value {
                field,
                expected,
                value,
            } => Fault::plugin("record.value", format!("expected {expected}"))
                .field(field)
                .value(value),
        }
    }
}

impl From<Bad> for Reject {
    fn from(bad: Bad) -> Reject {
        Reject::Bad(bad)
    }
}

impl From<Bad> for Box<Reject> {
    #[cold]
    fn from(bad: Bad) -> Box<Reject> {
        Box::new(Reject::Bad(bad))
    }
}

/// Fills one batch after another with the records of one stream.
pub struct Decoder {
    record: Record,
    arrow: Vec<FieldRef>,
    rows: usize,
    /// Whether a value that is not its column's becomes null.
    lenient: bool,
    discarded: Vec<Reject>,
}

impl Decoder {
    /// A decoder for `fields`, whose properties are distinct.
    pub fn new(fields: Vec<Field>) -> Decoder {
        Decoder {
            arrow: fields
                .iter()
                .map(|field| arrow_field(field).into())
                .collect(),
            record: Record::new(&fields),
            rows: 0,
            lenient: false,
            discarded: Vec::new(),
        }
    }

    /// The columns, as Arrow names and types them.
    pub fn arrow_fields(&self) -> &[FieldRef] {
        &self.arrow
    }

    /// Have a value that is not its column's become null, where the column may be, instead of refusing the record. What
    /// became null is told by [`Decoder::take_discarded`].
    pub fn set_lenient(&mut self, lenient: bool) {
        self.lenient = lenient;
    }

    /// The values that became null in the records since the last call.
    pub fn take_discarded(&mut self) -> Vec<Reject> {
        std::mem::take(&mut self.discarded)
    }

    /// Rows of the open batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes that one row takes besides its texts and what is in its lists.
    pub fn row_bytes(&self) -> usize {
        self.record.width()
    }

    /// Bytes that the lists and maps of the open batch take besides their texts.
    pub fn list_bytes(&self) -> usize {
        self.record.list_bytes()
    }

    /// Bytes that the open batch takes.
    pub fn bytes(&self) -> usize {
        self.record.bytes()
    }

    /// Whether a record may take more than its text and [`Decoder::row_bytes`].
    pub fn has_lists(&self) -> bool {
        self.record.has_lists()
    }

    /// Take the record that `scanner` stands at, and return the cursor behind it. A record that is not taken
    /// leaves nothing behind.
    #[inline]
    pub fn push<'a>(&mut self, scanner: Scanner<'a>) -> Result<Scanner<'a>, Reject> {
        let taken = self.take_record(scanner);
        match taken {
            Ok(_) => self.rows += 1,
            Err(_) => self.truncate(self.rows),
        }
        taken
    }

    #[inline(always)]
    fn take_record<'a>(&mut self, mut scanner: Scanner<'a>) -> Result<Scanner<'a>, Reject> {
        if scanner.peek() != b'{' {
            return Err(Reject::NoObject);
        }
        let mut room = Room::default();
        let discarded = self.discarded.len();
        let taken = if self.lenient {
            self.record
                .take_leniently(&mut scanner, self.rows, &mut room, &mut self.discarded)
        } else {
            self.record.take(&mut scanner, self.rows, &mut room)
        };
        taken.map_err(|reject| {
            self.discarded.truncate(discarded);
            *reject
        })?;
        Ok(scanner)
    }

    /// Forget the last record.
    pub fn pop(&mut self) {
        self.truncate(self.rows - 1);
    }

    /// Keep the first `rows` records of the open batch, which has at least as many.
    pub fn truncate(&mut self, rows: usize) {
        self.rows = rows;
        self.record.truncate(rows);
    }

    /// Give back the room that is kept for rows to come.
    pub fn shrink(&mut self) {
        self.record.shrink();
    }

    /// The open batch, one array for each field; the next one is empty.
    pub fn finish(&mut self) -> Vec<ArrayRef> {
        let rows = std::mem::take(&mut self.rows);
        self.record.finish(rows)
    }
}

#[cfg(test)]
mod tests;
