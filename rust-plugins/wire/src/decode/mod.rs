//! Records straight into Arrow arrays.
//!
//! Keys are predicted: after each key the decoder expects the one that followed it last time, and compares
//! bytes; only a miss is looked up. Keys that the schema does not have are passed over.

mod column;

use std::collections::HashMap;

use arrow_array::ArrayRef;

use crate::fault::{Fault, bad_fault};
use crate::oddity::Oddity;
use crate::scan::{Bad, Scanner};
use crate::schema::ColumnType;
use crate::text;

use column::Builder;
pub use column::arrow_type;

/// Keys outside the schema that are learnt, so that passing over them is cheap too.
const MAX_IGNORED_KEYS: usize = 256;
/// Longer ones are looked up each time.
const MAX_IGNORED_KEY_BYTES: usize = 256;

/// One column to fill. `kind` is the table's type, which may be wider than the schema's.
#[derive(Clone, Debug)]
pub struct Field {
    pub property: String,
    pub kind: ColumnType,
    pub json: bool,
    pub quoted: bool,
    pub required: bool,
    /// A key of the stream: no record is without it.
    pub key: bool,
}

/// Why a record was not taken.
#[derive(Debug, PartialEq)]
pub enum Reject {
    Bad(Bad),
    Value {
        column: usize,
        expected: &'static str,
        value: Box<[u8]>,
    },
    Null {
        column: usize,
    },
    Missing {
        column: usize,
    },
    NoObject,
}

impl From<Bad> for Reject {
    fn from(bad: Bad) -> Reject {
        Reject::Bad(bad)
    }
}

/// Fills one batch after another with the records of one stream.
pub struct Decoder {
    fields: Vec<Field>,
    builders: Vec<Builder>,
    /// The columns first, then ignored keys: each as the source writes it, in its quotes.
    patterns: Vec<Box<[u8]>>,
    /// What came after each key, and at 0 what came first.
    followers: Vec<u32>,
    by_name: HashMap<Box<[u8]>, u32>,
    needed: Vec<usize>,
    rows: usize,
}

impl Decoder {
    /// A decoder for `fields`, whose properties are distinct.
    pub fn new(fields: Vec<Field>) -> Decoder {
        let key = |field: &Field| field.property.as_bytes().into();
        Decoder {
            builders: fields.iter().map(Builder::new).collect(),
            patterns: fields
                .iter()
                .map(|field| quoted(field.property.as_bytes()))
                .collect(),
            followers: (0..=fields.len() as u32).collect(),
            by_name: fields.iter().map(key).zip(0..).collect(),
            needed: (0..fields.len())
                .filter(|&column| fields[column].required || fields[column].key)
                .collect(),
            fields,
            rows: 0,
        }
    }

    /// Rows of the open batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes that one row takes besides its texts.
    pub fn row_bytes(&self) -> usize {
        self.builders.iter().map(Builder::width).sum()
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

    /// Forget the last record.
    pub fn pop(&mut self) {
        self.truncate(self.rows - 1);
    }

    /// Keep the first `rows` records of the open batch, which has at least as many.
    pub fn truncate(&mut self, rows: usize) {
        self.rows = rows;
        for builder in &mut self.builders {
            builder.truncate(rows);
        }
    }

    /// The open batch, one array for each field; the next one is empty.
    pub fn finish(&mut self) -> Vec<ArrayRef> {
        let rows = std::mem::take(&mut self.rows);
        self.builders
            .iter_mut()
            .map(|builder| builder.finish(rows))
            .collect()
    }

    #[inline]
    fn take_record<'a>(&mut self, mut scanner: Scanner<'a>) -> Result<Scanner<'a>, Reject> {
        if scanner.peek() != b'{' {
            return Err(Reject::NoObject);
        }
        scanner.enter(b'{', "a record is an object")?;
        if scanner.peek() == b'}' {
            scanner.more(b'}')?;
            return self.check_needed(scanner);
        }
        let mut before = 0;
        loop {
            let key = self.key(&mut scanner, before)?;
            match key.and_then(|key| self.builders.get_mut(key)) {
                Some(builder) => {
                    let column = key.unwrap_or_default();
                    if builder.len() > self.rows {
                        // The last one counts, as in every other parser.
                        builder.truncate(self.rows);
                        scanner.odd.add(Oddity::DuplicateKey);
                    }
                    builder
                        .push(&mut scanner, self.rows)
                        .map_err(|miss| miss.reject(column, builder))?;
                }
                None => {
                    scanner.value()?;
                }
            }
            before = key.map_or(before, |key| key + 1);
            if !scanner.more(b'}')? {
                return self.check_needed(scanner);
            }
        }
    }

    #[inline(always)]
    fn check_needed<'a>(&self, scanner: Scanner<'a>) -> Result<Scanner<'a>, Reject> {
        match self
            .needed
            .iter()
            .find(|&&column| self.builders[column].len() <= self.rows)
        {
            Some(&column) => Err(Reject::Missing { column }),
            None => Ok(scanner),
        }
    }

    /// Read the key at the cursor: the index of its pattern, none for one that is not learnt.
    #[inline(always)]
    fn key(&mut self, scanner: &mut Scanner<'_>, before: usize) -> Result<Option<usize>, Bad> {
        let expected = self.followers[before] as usize;
        if let Some(pattern) = self.patterns.get(expected)
            && scanner.text(pattern)
        {
            scanner.colon()?;
            return Ok(Some(expected));
        }
        self.look_up(scanner, before)
    }

    fn look_up(&mut self, scanner: &mut Scanner<'_>, before: usize) -> Result<Option<usize>, Bad> {
        let start = scanner.pos();
        if scanner.peek() != b'"' {
            return Err(scanner.bad("expected a key in quotes"));
        }
        let (raw, escaped) = scanner.string()?;
        let written = scanner.since(start);
        scanner.colon()?;
        let name = if escaped {
            text::resolve(raw)
        } else {
            raw.into()
        };
        let key = match self.by_name.get(&*name) {
            Some(&key) => key as usize,
            None if self.patterns.len() - self.fields.len() < MAX_IGNORED_KEYS
                && written.len() <= MAX_IGNORED_KEY_BYTES =>
            {
                let key = self.patterns.len();
                self.by_name.insert(name.into_owned().into(), key as u32);
                self.patterns.push(written.into());
                self.followers.push(u32::MAX);
                key
            }
            None => return Ok(None),
        };
        if &*self.patterns[key] != written {
            self.patterns[key] = written.into();
        }
        self.followers[before] = key as u32;
        Ok(Some(key))
    }

    /// What to report about a record that was not taken; stream, line and byte are the caller's to add.
    pub fn fault(&self, reject: &Reject, line: &[u8]) -> Box<Fault> {
        let field = |column: &usize| self.fields[*column].property.as_str();
        match reject {
            Reject::Bad(bad) => bad_fault(bad, line),
            Reject::NoObject => Fault::plugin("message.invalid", "a record must be an object"),
            Reject::Missing { column } if self.fields[*column].key => Fault::plugin(
                "record.missing_key",
                "a record without a key property of its SCHEMA",
            )
            .field(field(column)),
            Reject::Null { column } | Reject::Missing { column } => {
                Fault::plugin("record.value", "the table's column is required")
                    .field(field(column))
                    .value(b"null")
            }
            Reject::Value {
                column,
                expected,
                value,
            } => {
                let kind = self.fields[*column].kind;
                let message = match kind {
                    ColumnType::Decimal { .. } => format!("expected {kind}: {expected}"),
                    _ => format!("expected {expected}"),
                };
                Fault::plugin("record.value", message)
                    .field(field(column))
                    .value(value)
            }
        }
    }
}

fn quoted(name: &[u8]) -> Box<[u8]> {
    let mut pattern = Vec::with_capacity(name.len() + 2);
    pattern.push(b'"');
    pattern.extend_from_slice(name);
    pattern.push(b'"');
    pattern.into()
}

#[cfg(test)]
mod tests;
