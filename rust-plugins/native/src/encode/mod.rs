//! Rows as lines of JSON.

mod values;

use arrow_array::RecordBatch;
use dativo_wire::envelope::Dialect;
use dativo_wire::render;

pub use values::{Floats, Values};
use values::{Place, values};

/// Why a table was not written. `row` counts from 0 over the whole table.
#[derive(Debug)]
pub struct Refusal {
    pub code: &'static str,
    pub message: String,
    /// Names from the column inwards.
    pub path: Vec<String>,
    pub row: Option<u64>,
}

impl Refusal {
    pub fn new(code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
            path: Vec::new(),
            row: None,
        }
    }

    pub fn below(mut self, name: &str) -> Refusal {
        self.path.insert(0, name.to_owned());
        self
    }

    /// The path with dots; none where no column is at fault.
    pub fn column(&self) -> Option<String> {
        (!self.path.is_empty()).then(|| self.path.join("."))
    }
}

/// How values are written that JSON has no form of its own for.
#[derive(Clone, Copy)]
pub struct Style {
    pub floats: Floats,
    /// Decimals as numbers; else as strings, which no reader turns into doubles.
    pub decimal_numbers: bool,
}

/// What stands before and behind each record.
pub struct Frame {
    pub before: Vec<u8>,
    pub behind: Vec<u8>,
}

impl Frame {
    pub fn plain() -> Frame {
        Frame {
            before: Vec::new(),
            behind: b"\n".to_vec(),
        }
    }

    /// The RECORD messages of a stream. `emitted_at` is in milliseconds since 1970; only Airbyte's have it.
    pub fn message(
        dialect: Dialect,
        stream: &str,
        namespace: Option<&str>,
        emitted_at: u128,
    ) -> Frame {
        let mut before = Vec::new();
        let mut name = |key: &[u8], value: &str| {
            before.extend_from_slice(key);
            render::string(value.as_bytes(), &mut before);
        };
        match dialect {
            Dialect::Singer => {
                name(br#"{"type":"RECORD","stream":"#, stream);
                before.extend_from_slice(br#","record":"#);
                let behind = b"}\n".to_vec();
                Frame { before, behind }
            }
            Dialect::Airbyte => {
                name(br#"{"type":"RECORD","record":{"stream":"#, stream);
                if let Some(namespace) = namespace {
                    name(br#","namespace":"#, namespace);
                }
                before.extend_from_slice(br#","data":"#);
                let behind = format!(",\"emitted_at\":{emitted_at}}}}}\n").into_bytes();
                Frame { before, behind }
            }
        }
    }
}

/// Writes the rows of one batch.
pub struct Rows {
    /// Name and values of each column. A key stands with its colon, behind a comma but for the first.
    columns: Vec<(String, Vec<u8>, Values)>,
    rows: usize,
}

impl Rows {
    pub fn new(batch: &RecordBatch, style: Style) -> Result<Rows, Refusal> {
        let fields = batch.schema_ref().fields().iter();
        let columns = fields.zip(batch.columns()).enumerate();
        let columns = columns.map(|(index, (field, array))| {
            let name = field.name().as_str();
            let place = Place::column(field);
            let values = values(array.as_ref(), place, style);
            let values = values.map_err(|refusal| refusal.below(name))?;
            Ok((name.to_owned(), key(name, index == 0), values))
        });
        Ok(Rows {
            columns: columns.collect::<Result<_, Refusal>>()?,
            rows: batch.num_rows(),
        })
    }

    pub fn len(&self) -> usize {
        self.rows
    }

    /// Append the line of row `row`.
    pub fn write(&self, row: usize, frame: &Frame, out: &mut Vec<u8>) -> Result<(), Refusal> {
        out.extend_from_slice(&frame.before);
        out.push(b'{');
        for (name, key, values) in &self.columns {
            out.extend_from_slice(key);
            values
                .write(row, out)
                .map_err(|refusal| refusal.below(name))?;
        }
        out.push(b'}');
        out.extend_from_slice(&frame.behind);
        Ok(())
    }
}

/// A key of an object with its colon, and a comma before it unless it is the first.
fn key(name: &str, first: bool) -> Vec<u8> {
    let mut key = if first { Vec::new() } else { b",".to_vec() };
    render::string(name.as_bytes(), &mut key);
    key.push(b':');
    key
}
