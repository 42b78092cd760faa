//! One Parquet file: its row groups, and how far it has grown.

use std::fs::File;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use dativo_wire::fault::{Blame, Fault};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;

use crate::encoder::Encoder;
use crate::encodings::Encodings;
use crate::events::Parquet;
use crate::row_group::{Encoding, RowGroup};
use crate::staging::{StagedFile, Written, io_fault};

/// Column chunks of a file: what the footer says of each stays in memory until the file is closed.
const MAX_CHUNKS: usize = 8192;
/// Bytes of rows in memory for one in a file, until the file's own are known.
pub const USUAL_RATIO: u64 = 2;

pub struct ParquetFile {
    writer: SerializedFileWriter<StagedFile>,
    encodings: Arc<Encodings>,
    schema: SchemaRef,
    encoder: Encoder,
    row_group_rows: usize,
    group: RowGroup,
    /// The row group before, while it is encoded.
    encoding: Option<Arc<Encoding>>,
    /// Row groups that were begun to be encoded, and what their rows took.
    groups: usize,
    raw_bytes: u64,
    pub name: String,
    pub rows: u64,
}

impl ParquetFile {
    /// A file of `schema` that is to start with `first`.
    pub fn new(
        file: StagedFile,
        schema: SchemaRef,
        first: &RecordBatch,
        settings: &Parquet,
        encoder: &Encoder,
    ) -> Result<ParquetFile, Box<Fault>> {
        let encodings = Encodings::new(first, settings.zstd_level);
        let encodings = encodings.map_err(|error| internal(&error))?;
        let options = encodings.options();
        let name = file.name.clone();
        let (writer, _) = ArrowWriter::try_new_with_options(file, schema.clone(), options)
            .and_then(ArrowWriter::into_serialized_writer)
            .map_err(|error| internal(&error))?;
        Ok(ParquetFile {
            writer,
            encodings: Arc::new(encodings),
            schema,
            encoder: encoder.clone(),
            row_group_rows: settings.row_group_rows.max(1),
            group: RowGroup::default(),
            encoding: None,
            groups: 0,
            raw_bytes: 0,
            name,
            rows: 0,
        })
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), Box<Fault>> {
        self.rows += batch.num_rows() as u64;
        let mut start = 0;
        while start < batch.num_rows() {
            let room = self.row_group_rows - self.group.rows;
            let rows = room.min(batch.num_rows() - start);
            self.group.push(batch, start, rows);
            start += rows;
            if self.group.rows == self.row_group_rows
                || self.group.bytes >= self.encoder.group_bytes
            {
                self.end_group()?;
            }
        }
        Ok(())
    }

    /// Move the rows of the open row group from memory to a file beside.
    pub fn spill(&mut self) -> Result<(), Box<Fault>> {
        let path = self.writer.inner().beside(self.groups);
        let spilled = self.group.spill(&self.schema, path);
        spilled.map_err(|error| io_fault("write", &self.name, &error))
    }

    /// Whether a row group is on its way into the file.
    pub fn is_encoding(&self) -> bool {
        self.encoding.is_some()
    }

    /// Let the open row group be encoded.
    fn end_group(&mut self) -> Result<(), Box<Fault>> {
        self.append()?;
        if self.group.rows == 0 {
            return Ok(());
        }
        let encoding = Arc::new(self.group.take(&self.schema, &self.encodings));
        self.groups += 1;
        self.encoder.hand_over(&encoding);
        self.encoding = Some(encoding);
        Ok(())
    }

    /// Write the row group that is on its way, once it is encoded.
    pub fn append(&mut self) -> Result<(), Box<Fault>> {
        let Some(encoding) = self.encoding.take() else {
            return Ok(());
        };
        self.raw_bytes += encoding.raw_bytes as u64;
        let appended = encoding.finish().and_then(|chunks| {
            let mut group = self.writer.next_row_group()?;
            for chunk in chunks {
                chunk.append_to_row_group(&mut group)?;
            }
            group.close()
        });
        self.writer.inner_mut().park();
        match appended {
            Ok(_) => Ok(()),
            Err(error) => Err(io_fault("write", &self.name, &error)),
        }
    }

    /// Bytes that rows of the open row group hold in memory.
    pub fn memory_bytes(&self) -> usize {
        self.group.held_bytes()
    }

    /// Bytes that wait for their row group in files beside it.
    pub fn spilled_bytes(&self) -> u64 {
        let encoding = self.encoding.as_ref();
        let spilled = encoding.map_or(0, |encoding| encoding.spilled_bytes);
        (self.group.spilled_bytes() + spilled) as u64
    }

    /// Bytes of the file so far; of what is not encoded yet an estimate, from what the rest was encoded to.
    pub fn bytes(&self) -> u64 {
        let encoding = self.encoding.as_ref();
        let raw = self.group.bytes + encoding.map_or(0, |encoding| encoding.raw_bytes);
        let raw = raw as u64;
        let written = self.writer.bytes_written() as u64;
        written
            + match self.raw_bytes {
                0 => raw / USUAL_RATIO,
                before => (raw as f64 * written as f64 / before as f64) as u64,
            }
    }

    /// Whether its footer has grown as far as it may.
    pub fn has_many_chunks(&self) -> bool {
        self.groups * self.writer.schema_descr().num_columns() >= MAX_CHUNKS
    }

    /// Give it up; its name is the caller's to remove. Rows that wait beside it are gone then.
    pub fn abandon(self) -> String {
        if let Some(encoding) = &self.encoding {
            encoding.abandon();
        }
        // What it has buffered may still be written, so the name goes last.
        self.name
    }

    /// Write the footer, make the file durable, close it.
    pub fn close(mut self) -> Result<Written, Box<Fault>> {
        self.end_group()?;
        self.append()?;
        let name = self.name;
        let file = self
            .writer
            .into_inner()
            .map_err(|error| io_fault("write", &name, &error))?;
        file.close()
            .map_err(|error| io_fault("sync", &name, &error))
    }
}

/// The first `rows` rows of a closed file, at most `batch_rows` of them in memory.
pub fn first_rows(
    file: File,
    rows: u64,
    batch_rows: usize,
) -> Result<ParquetRecordBatchReader, ParquetError> {
    ParquetRecordBatchReaderBuilder::try_new(file)?
        .with_batch_size(batch_rows)
        .with_limit(rows as usize)
        .build()
}

fn internal(error: &dyn std::fmt::Display) -> Box<Fault> {
    Fault::new("internal.parquet", Blame::Dativo, error.to_string())
}
