//! One Parquet file: its settings, and which columns are worth a dictionary.

use std::collections::HashSet;
use std::fs::File;
use std::hash::Hash;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Schema, SchemaRef};
use dativo_wire::fault::{Blame, Fault};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::events::Parquet;
use crate::staging::{StagedFile, Written, io_fault};

/// Values looked at to decide on a dictionary.
const SAMPLE: usize = 1024;
/// A dictionary pays where at most one in so many sampled values is new.
const REPEATS: usize = 8;
/// Memory that an empty dictionary takes before its first value.
pub const DICTIONARY_BYTES: usize = 64 << 10;
/// Column chunks of a file: what the footer says of each stays in memory until the file is closed.
const MAX_CHUNKS: usize = 8192;
/// Bounds of texts in statistics are cut to this length.
const BOUND_BYTES: usize = 32;

pub struct ParquetFile {
    writer: ArrowWriter<StagedFile>,
    pub name: String,
    pub rows: u64,
    /// Columns that have a dictionary.
    pub dictionaries: usize,
}

impl ParquetFile {
    /// A file of `schema` that is to start with `first`, with at most `max_dictionaries`.
    pub fn new(
        file: StagedFile,
        schema: SchemaRef,
        first: &RecordBatch,
        settings: &Parquet,
        max_dictionaries: usize,
    ) -> Result<ParquetFile, Box<Fault>> {
        let level = ZstdLevel::try_new(settings.zstd_level).map_err(|error| internal(&error))?;
        let mut properties = WriterProperties::builder()
            .set_created_by(format!("{} {}", crate::PROGRAM, crate::VERSION))
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(settings.row_group_rows.max(1)))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_statistics_truncate_length(Some(BOUND_BYTES))
            .set_column_index_truncate_length(Some(BOUND_BYTES))
            .set_dictionary_enabled(false);
        for path in repeated(&schema)? {
            properties = properties.set_column_statistics_enabled(path, EnabledStatistics::Chunk);
        }
        let mut dictionaries = 0;
        for (field, column) in schema.fields().iter().zip(first.columns()) {
            if dictionaries < max_dictionaries && repeats(column.as_ref()) {
                dictionaries += 1;
                let path = ColumnPath::new(vec![field.name().clone()]);
                properties = properties.set_column_dictionary_enabled(path, true);
            }
        }
        let options = ArrowWriterOptions::new()
            .with_properties(properties.build())
            .with_skip_arrow_metadata(true);
        let name = file.name.clone();
        let writer = ArrowWriter::try_new_with_options(file, schema, options)
            .map_err(|error| internal(&error))?;
        Ok(ParquetFile {
            writer,
            name,
            rows: 0,
            dictionaries,
        })
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), Box<Fault>> {
        self.rows += batch.num_rows() as u64;
        let written = self.writer.write(batch);
        self.park(written)
    }

    /// End the open row group.
    pub fn flush(&mut self) -> Result<(), Box<Fault>> {
        let flushed = self.writer.flush();
        self.park(flushed)
    }

    fn park(&mut self, outcome: parquet::errors::Result<()>) -> Result<(), Box<Fault>> {
        self.writer.inner_mut().park();
        outcome.map_err(|error| io_fault("write", &self.name, &error))
    }

    /// Bytes that the open row group takes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.writer.memory_size()
    }

    /// Bytes of the file so far, the open row group as it will be encoded.
    pub fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Whether its footer has grown as far as it may.
    pub fn has_many_chunks(&self) -> bool {
        let groups = self.writer.flushed_row_groups();
        groups
            .iter()
            .map(|group| group.num_columns())
            .sum::<usize>()
            >= MAX_CHUNKS
    }

    /// Write the footer, make the file durable, close it.
    pub fn close(self) -> Result<Written, Box<Fault>> {
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

/// The columns in lists and maps. They get no index of pages: parquet-rs (60.1, `update_column_offset_index`) calls a page empty
/// that has as many nulls as rows, and readers skip what is empty.
fn repeated(schema: &Schema) -> Result<Vec<ColumnPath>, Box<Fault>> {
    let converted = ArrowSchemaConverter::new()
        .convert(schema)
        .map_err(|error| internal(&error))?;
    Ok(converted
        .columns()
        .iter()
        .filter(|column| column.max_rep_level() > 0)
        .map(|column| column.path().clone())
        .collect())
}

fn internal(error: &dyn std::fmt::Display) -> Box<Fault> {
    Fault::new("internal.parquet", Blame::Dativo, error.to_string())
}

/// Whether few different values fill `column`, judged by its first ones.
fn repeats(column: &dyn Array) -> bool {
    match column.data_type() {
        DataType::Utf8 => few(column.as_string::<i32>().iter()),
        DataType::Binary => few(column.as_binary::<i32>().iter()),
        DataType::Int64 => few(column.as_primitive::<Int64Type>().iter()),
        DataType::Date32 => few(column.as_primitive::<Date32Type>().iter()),
        _ => false,
    }
}

fn few<T: Hash + Eq>(values: impl Iterator<Item = Option<T>>) -> bool {
    let mut count = 0;
    let mut distinct = HashSet::new();
    for value in values.flatten().take(SAMPLE) {
        count += 1;
        distinct.insert(value);
    }
    count > 0 && distinct.len() * REPEATS <= count
}
