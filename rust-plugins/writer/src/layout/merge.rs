//! Sorted runs become one, which falls into partitions.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_row::Rows;
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::interleave::interleave_record_batch;
use dativo_wire::fault::Fault;
use serde_json::Value;

use super::runs::Run;
use super::{Keys, Layout, wrong};

/// Rows of one partition, without what they waited with.
pub struct Part {
    /// What a file says of it; none where the table has no spec.
    pub partition: Option<Vec<Value>>,
    pub rows: RecordBatch,
}

/// Rows of `runs` in order.
pub(super) fn merge<'a>(layout: &Layout, runs: Vec<Run<'a>>) -> Result<Merge<'a>, Box<Fault>> {
    let mut merge = Merge {
        keys: layout.keys()?,
        schema: layout.waiting.clone(),
        cursors: Vec::new(),
        order: Vec::new(),
    };
    for run in runs {
        let mut cursor = Cursor {
            run,
            chunk: None,
            row: 0,
        };
        if cursor.advance(&merge.keys)? {
            merge.cursors.push(cursor);
        }
    }
    merge.order = (0..merge.cursors.len()).collect();
    let cursors = &merge.cursors;
    merge
        .order
        .sort_by(|&a, &b| cursors[b].compare(&cursors[a]));
    Ok(merge)
}

pub(super) struct Merge<'a> {
    keys: Keys,
    schema: SchemaRef,
    cursors: Vec<Cursor<'a>>,
    /// The runs that have rows, that of the next row last.
    order: Vec<usize>,
}

struct Cursor<'a> {
    run: Run<'a>,
    chunk: Option<(RecordBatch, Rows)>,
    row: usize,
}

impl Cursor<'_> {
    /// Go to the next chunk that has rows; false at the end.
    fn advance(&mut self, keys: &Keys) -> Result<bool, Box<Fault>> {
        self.row = 0;
        self.chunk = None;
        for chunk in &mut self.run {
            let chunk = chunk?;
            if chunk.num_rows() > 0 {
                let rows = keys.of(&chunk)?;
                self.chunk = Some((chunk, rows));
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (&self.chunk, &other.chunk) {
            (Some((_, mine)), Some((_, theirs))) => mine.row(self.row).cmp(&theirs.row(other.row)),
            _ => Ordering::Equal,
        }
    }

    fn is_used_up(&self) -> bool {
        self.chunk
            .as_ref()
            .is_none_or(|(chunk, _)| self.row >= chunk.num_rows())
    }
}

impl Merge<'_> {
    /// Rows up to the end of a chunk.
    fn step(&mut self) -> Result<Option<RecordBatch>, Box<Fault>> {
        let mut indices = Vec::new();
        loop {
            let Some(&first) = self.order.last() else {
                return Ok(None);
            };
            indices.push((first, self.cursors[first].row));
            self.cursors[first].row += 1;
            if self.cursors[first].is_used_up() {
                break;
            }
            self.place_last();
        }
        let chunk = |cursor: &Cursor<'_>| match &cursor.chunk {
            Some((chunk, _)) => chunk.clone(),
            None => RecordBatch::new_empty(self.schema.clone()),
        };
        let chunks: Vec<RecordBatch> = self.cursors.iter().map(chunk).collect();
        let chunks: Vec<&RecordBatch> = chunks.iter().collect();
        let merged = interleave_record_batch(&chunks, &indices);
        let merged = merged.map_err(|error| wrong(error.to_string()))?;
        if let Some(&used_up) = self.order.last() {
            if self.cursors[used_up].advance(&self.keys)? {
                self.place_last();
            } else {
                self.order.pop();
            }
        }
        Ok(Some(merged))
    }

    /// Put the last of `order` where its next row belongs.
    fn place_last(&mut self) {
        let Some(last) = self.order.pop() else {
            return;
        };
        let cursors = &self.cursors;
        let comes_later = |&other: &usize| cursors[other].compare(&cursors[last]).is_gt();
        let place = self.order.partition_point(comes_later);
        self.order.insert(place, last);
    }
}

impl Iterator for Merge<'_> {
    type Item = Result<RecordBatch, Box<Fault>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// `merged`, cut where the partition changes.
pub(super) fn parts<'a>(
    layout: Arc<Layout>,
    merged: Merge<'a>,
) -> impl Iterator<Item = Result<Part, Box<Fault>>> + use<'a> {
    merged.flat_map(move |rows| {
        let parts = rows.and_then(|rows| split(&layout, &rows));
        let (parts, fault) = match parts {
            Ok(parts) => (parts, None),
            Err(fault) => (Vec::new(), Some(fault)),
        };
        parts.into_iter().map(Ok).chain(fault.map(Err))
    })
}

fn split(layout: &Layout, rows: &RecordBatch) -> Result<Vec<Part>, Box<Fault>> {
    let places: Vec<usize> = layout.partition_places().collect();
    let columns: Vec<usize> = (0..layout.schema.fields().len()).collect();
    let arrow = |error: ArrowError| wrong(error.to_string());
    let partition = rows.project(&places).map_err(arrow)?;
    let rows = rows.project(&columns).map_err(arrow)?;
    let rows = rows.with_schema(layout.schema.clone()).map_err(arrow)?;
    let mut parts = Vec::new();
    let mut start = 0;
    while start < rows.num_rows() {
        let count = alike(&partition, start);
        let columns: Vec<_> = partition
            .columns()
            .iter()
            .map(|column| column.slice(start, 1))
            .collect();
        parts.push(Part {
            partition: layout.partition_values(&columns)?,
            rows: rows.slice(start, count),
        });
        start += count;
    }
    Ok(parts)
}

/// How many rows from `start` on are of one partition.
fn alike(partition: &RecordBatch, start: usize) -> usize {
    let rows = partition.num_rows();
    let is_alike = |row: usize| {
        partition
            .columns()
            .iter()
            .all(|column| column.slice(start, 1) == column.slice(row, 1))
    };
    // They are sorted: those of the first one lie together.
    let (mut low, mut high) = (start, rows);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if is_alike(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    high - start
}
