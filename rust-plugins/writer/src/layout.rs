//! How the rows of a table are laid out in its files: by partition, and sorted in each file.
//!
//! ```text
//! rows, as they come ──▶ Unlaid: sorted runs, in memory and in a file beside ──▶ at a seal, merged: one partition after the other
//! ```
//!
//! So one file is open at a time, whatever the number of partitions, and rows behind the last state can be cut off until a seal.

mod merge;
mod murmur3;
mod runs;
mod transform;

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, new_null_array};
use arrow_row::{RowConverter, Rows};
use arrow_schema::{DataType, Field, Schema, SchemaRef, SortOptions};
use dativo_channel::layout::{PartitionField, SortField, Transform};
use dativo_wire::fault::{Blame, Fault};
use serde_json::Value;

pub use merge::Part;
pub use runs::Unlaid;
use transform::OfColumns;

/// The metadata of an Arrow field that has its id.
const FIELD_ID: &str = "PARQUET:field_id";

/// Partition spec and sort order over the columns of a table.
pub struct Layout {
    schema: SchemaRef,
    /// A column that the source does not send is null in every row.
    partition: Vec<(Option<usize>, Transform)>,
    sort: Vec<(usize, SortOptions)>,
    /// Rows that wait: their own columns, what they are partitioned by, and the number of each.
    waiting: SchemaRef,
}

impl Layout {
    /// The layout of rows of `schema`; none if the plan asks for nothing.
    pub fn new(
        schema: &SchemaRef,
        partition: &[PartitionField],
        sort: &[SortField],
    ) -> Result<Option<Layout>, Box<Fault>> {
        let is_sorted = !sort.is_empty();
        let place = |field_id: i32| {
            let id = field_id.to_string();
            let fields = schema.fields().iter();
            let mut ids = fields.map(|field| field.metadata().get(FIELD_ID));
            ids.position(|of| of == Some(&id))
        };
        let partition: Vec<_> = partition
            .iter()
            .map(|field| (place(field.field_id), field.transform))
            .collect();
        for (at, transform) in &partition {
            if let Some(at) = at {
                transform.check(schema.field(*at).data_type())?;
            }
        }
        let sort: Vec<_> = sort
            .iter()
            .filter_map(|field| {
                let options = SortOptions {
                    descending: field.descending,
                    nulls_first: field.nulls_first,
                };
                Some((place(field.field_id)?, options))
            })
            .collect();
        if let Some((at, _)) = sort
            .iter()
            .find(|(at, _)| schema.field(*at).data_type().is_nested())
        {
            let name = schema.field(*at).name();
            return Err(wrong(format!("a sort order over the nested column {name}")));
        }
        let is_any = !partition.is_empty() || is_sorted;
        let layout = Layout {
            waiting: waiting(schema, &partition),
            schema: schema.clone(),
            partition,
            sort,
        };
        Ok(is_any.then_some(layout))
    }

    /// What `batch` is partitioned by, a column for each field of the spec.
    fn partition(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, Box<Fault>> {
        let fields = self.partition.iter();
        fields
            .map(|&(at, transform)| match at {
                Some(at) => transform.apply(batch.column(at)),
                None => Ok(new_null_array(&DataType::Int32, batch.num_rows())),
            })
            .collect()
    }

    /// What a file says of its partition, that of the first row of these columns; none where the table has no spec.
    fn partition_values(&self, columns: &[ArrayRef]) -> Result<Option<Vec<Value>>, Box<Fault>> {
        if self.partition.is_empty() {
            return Ok(None);
        }
        let mut values = Vec::new();
        for (column, &(at, _)) in columns.iter().zip(&self.partition) {
            let value = transform::value(column, 0).map_err(|fault| match at {
                Some(at) => fault.field(self.schema.field(at).name()),
                None => fault,
            })?;
            values.push(value);
        }
        Ok(Some(values))
    }

    /// Columns of the waiting schema that hold partitions.
    fn partition_places(&self) -> std::ops::Range<usize> {
        let columns = self.schema.fields().len();
        columns..columns + self.partition.len()
    }

    /// What compares rows that wait.
    fn keys(&self) -> Result<Keys, Box<Fault>> {
        let waiting = &self.waiting;
        let partition = self
            .partition_places()
            .map(|at| (at, SortOptions::default()));
        // Those that are equal stay as they came.
        let number = (waiting.fields().len() - 1, SortOptions::default());
        let sort = self.sort.iter().copied();
        let columns: Vec<_> = partition.chain(sort).chain([number]).collect();
        let fields = columns
            .iter()
            .map(|&(at, options)| {
                arrow_row::SortField::new_with_options(
                    waiting.field(at).data_type().clone(),
                    options,
                )
            })
            .collect();
        Ok(Keys {
            places: columns.into_iter().map(|(at, _)| at).collect(),
            converter: RowConverter::new(fields).map_err(|error| wrong(error.to_string()))?,
        })
    }
}

fn waiting(schema: &SchemaRef, partition: &[(Option<usize>, Transform)]) -> SchemaRef {
    let partition = partition.iter().enumerate().map(|(place, &(at, by))| {
        let kind = at.map_or(DataType::Int32, |at| {
            by.result(schema.field(at).data_type())
        });
        Arc::new(Field::new(format!("partition {place}"), kind, true))
    });
    let number = Arc::new(Field::new("number", DataType::UInt64, false));
    let columns = schema.fields().iter().cloned();
    let fields: Vec<_> = columns.chain(partition).chain([number]).collect();
    Arc::new(Schema::new(fields))
}

/// The order of rows: by partition, then as they are sorted, then as they came.
struct Keys {
    places: Vec<usize>,
    converter: RowConverter,
}

impl Keys {
    fn of(&self, waiting: &RecordBatch) -> Result<Rows, Box<Fault>> {
        let columns: Vec<ArrayRef> = self
            .places
            .iter()
            .map(|&at| waiting.column(at).clone())
            .collect();
        let rows = self.converter.convert_columns(&columns);
        rows.map_err(|error| wrong(error.to_string()))
    }
}

fn wrong(message: impl Into<String>) -> Box<Fault> {
    Fault::new("internal.layout", Blame::Dativo, message.into())
}

#[cfg(test)]
mod tests;
