//! How the columns of a file are encoded, and which of them are worth a dictionary: decided from its first rows.

use std::collections::HashSet;
use std::hash::Hash;
use std::io;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, FieldRef, Schema};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowWriterOptions};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::Result;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

/// Values looked at to decide on a dictionary.
const SAMPLE: usize = 1024;
/// A dictionary pays where at most one in so many sampled values is new.
const REPEATS: usize = 8;
/// A page of data is looked at for its size after so many values, and after fewer of those that are long: else a page of long
/// texts would take a reader a multiple of [`PAGE_BYTES`].
const VALUES_AT_ONCE: usize = 1024;
const PAGE_BYTES: usize = 1 << 20;
/// Bounds of texts in statistics are cut to this length.
const BOUND_BYTES: usize = 32;

pub struct Encodings {
    level: ZstdLevel,
    /// Of each field, those of its leaves that have a dictionary.
    dictionaries: Vec<Vec<ColumnPath>>,
    /// Of each field, how many values of a leaf are taken at once.
    values_at_once: Vec<usize>,
}

impl Encodings {
    /// For a file that starts with `first`.
    pub fn new(first: &RecordBatch, zstd_level: i32) -> Result<Encodings> {
        let fields = first.schema_ref().fields();
        let columns = fields.iter().zip(first.columns());
        let dictionaries = columns.map(|(field, column)| dictionaries(field, column));
        Ok(Encodings {
            level: ZstdLevel::try_new(zstd_level)?,
            dictionaries: dictionaries.collect::<Result<_>>()?,
            values_at_once: first.columns().iter().map(values_at_once).collect(),
        })
    }

    /// Those of the file as a whole.
    pub fn options(&self) -> ArrowWriterOptions {
        self.options_for(&[], VALUES_AT_ONCE)
    }

    fn options_for(
        &self,
        dictionaries: &[ColumnPath],
        values_at_once: usize,
    ) -> ArrowWriterOptions {
        let mut properties = WriterProperties::builder()
            .set_created_by(format!("{} {}", crate::PROGRAM, crate::VERSION))
            .set_compression(Compression::ZSTD(self.level))
            // No index of pages: it costs more than it brings, and parquet-rs (60.1, `update_column_offset_index`) calls a page of
            // a list empty that has as many nulls as rows, and readers skip what is empty.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_statistics_truncate_length(Some(BOUND_BYTES))
            .set_offset_index_disabled(true)
            .set_data_page_size_limit(PAGE_BYTES)
            .set_write_batch_size(values_at_once)
            .set_dictionary_enabled(false);
        for leaf in dictionaries {
            properties = properties.set_column_dictionary_enabled(leaf.clone(), true);
        }
        ArrowWriterOptions::new()
            .with_properties(properties.build())
            .with_skip_arrow_metadata(true)
    }

    /// The writers of the leaves of `field`, the column `at` of the file. They are made for one column alone, since each takes memory
    /// from the start.
    pub fn writers(&self, at: usize, field: &FieldRef) -> Result<Vec<ArrowColumnWriter>> {
        let schema = Arc::new(Schema::new(vec![field.clone()]));
        let options = self.options_for(&self.dictionaries[at], self.values_at_once[at]);
        let writer = ArrowWriter::try_new_with_options(io::sink(), schema, options)?;
        let (_, factory) = writer.into_serialized_writer()?;
        factory.create_column_writers(0)
    }
}

/// How many rows of a column fill a page, as far as its first ones tell.
fn values_at_once(column: &ArrayRef) -> usize {
    let bytes = column.to_data().get_slice_memory_size();
    let row_bytes = bytes.unwrap_or(0) / column.len().max(1);
    (PAGE_BYTES / row_bytes.max(1)).clamp(1, VALUES_AT_ONCE)
}

fn dictionaries(field: &FieldRef, column: &ArrayRef) -> Result<Vec<ColumnPath>> {
    let schema = Schema::new(vec![field.clone()]);
    let leaves = ArrowSchemaConverter::new().convert(&schema)?;
    let arrays = leaf_arrays(std::slice::from_ref(column));
    let leaves = leaves.columns().iter().zip(arrays);
    Ok(leaves
        .filter_map(|(leaf, values)| repeats(&*values).then(|| leaf.path().clone()))
        .collect())
}

/// The leaves of `columns` in the order of Parquet's columns.
fn leaf_arrays(columns: &[ArrayRef]) -> Vec<ArrayRef> {
    let leaves = |column: &ArrayRef| match column.data_type() {
        DataType::Struct(_) => leaf_arrays(column.as_struct().columns()),
        DataType::List(_) => leaf_arrays(&[column.as_list::<i32>().values().clone()]),
        DataType::Map(..) => leaf_arrays(column.as_map().entries().columns()),
        _ => vec![column.clone()],
    };
    columns.iter().flat_map(leaves).collect()
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
