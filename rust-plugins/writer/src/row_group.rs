//! A row group. Its rows wait until it is complete and are then encoded column by column: buffers, dictionary and compressor of one
//! column, or of two on two threads, are in memory at a time, whatever the number of streams and columns.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{FieldRef, Schema, SchemaRef};
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};
use parquet::errors::Result;

use crate::encodings::Encodings;
use crate::spill::{Extent, Spill};

/// The rows of the open row group.
#[derive(Default)]
pub struct RowGroup {
    pub rows: usize,
    /// What its rows take, wherever they are.
    pub bytes: usize,
    columns: Vec<Waiting>,
    spill: Option<Arc<Spill>>,
}

/// Rows of one column: first those in the file beside, then those in memory.
#[derive(Default)]
struct Waiting {
    extents: Vec<Extent>,
    spilled_bytes: usize,
    arrays: Vec<ArrayRef>,
    held_bytes: usize,
}

impl RowGroup {
    /// Take the rows `start..start + rows` of `batch`.
    pub fn push(&mut self, batch: &RecordBatch, start: usize, rows: usize) {
        self.rows += rows;
        self.columns
            .resize_with(batch.num_columns(), Waiting::default);
        for (waiting, array) in self.columns.iter_mut().zip(batch.columns()) {
            let array = array.slice(start, rows);
            let bytes = array.to_data().get_slice_memory_size();
            let bytes = bytes.unwrap_or_else(|_| array.get_array_memory_size());
            self.bytes += bytes;
            waiting.held_bytes += bytes;
            waiting.arrays.push(array);
        }
    }

    pub fn held_bytes(&self) -> usize {
        self.columns.iter().map(|column| column.held_bytes).sum()
    }

    pub fn spilled_bytes(&self) -> usize {
        self.columns.iter().map(|column| column.spilled_bytes).sum()
    }

    /// Move what is in memory into a file, which is `path` if there is none yet.
    pub fn spill(&mut self, schema: &SchemaRef, path: PathBuf) -> Result<()> {
        if self.held_bytes() == 0 {
            return Ok(());
        }
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Arc::new(Spill::create(path)?)),
        };
        let mut out = spill.open()?;
        for (column, field) in self.columns.iter_mut().zip(schema.fields()) {
            let schema = Arc::new(Schema::new(vec![field.clone()]));
            let mut stream = out.stream(&schema)?;
            for array in std::mem::take(&mut column.arrays) {
                stream.write(&RecordBatch::try_new(schema.clone(), vec![array])?)?;
            }
            let extent = stream.finish()?;
            column.spilled_bytes += extent.length as usize;
            column.extents.push(extent);
            column.held_bytes = 0;
        }
        Ok(out.flush()?)
    }

    /// What is to be done to encode it. The next one is begun.
    pub fn take(&mut self, schema: &SchemaRef, encodings: &Arc<Encodings>) -> Encoding {
        let spilled_bytes = self.spilled_bytes();
        let group = std::mem::take(self);
        let columns = schema.fields().iter().zip(group.columns).enumerate();
        let mut left: Vec<Column> = columns
            .map(|(at, (field, rows))| Column {
                at,
                field: field.clone(),
                encodings: encodings.clone(),
                rows,
                spill: group.spill.clone(),
            })
            .collect();
        // The largest goes first, so that two threads are done at about the same time.
        left.sort_by_key(|column| column.rows.held_bytes + column.rows.spilled_bytes);
        let state = State {
            chunks: left.iter().map(|_| None).collect(),
            left,
            running: 0,
        };
        Encoding {
            raw_bytes: group.bytes,
            spilled_bytes,
            state: Mutex::new(state),
            ended: Condvar::new(),
        }
    }
}

/// A complete row group, from which any number of threads take columns.
pub struct Encoding {
    /// What its rows took, and what of them is in the file beside.
    pub raw_bytes: usize,
    pub spilled_bytes: usize,
    state: Mutex<State>,
    /// One of the running columns has ended.
    ended: Condvar,
}

struct State {
    left: Vec<Column>,
    running: usize,
    /// By column of the schema.
    chunks: Vec<Option<Result<Vec<ArrowColumnChunk>>>>,
}

/// A column that is to be encoded.
struct Column {
    at: usize,
    field: FieldRef,
    encodings: Arc<Encodings>,
    rows: Waiting,
    spill: Option<Arc<Spill>>,
}

impl Encoding {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Encode one of the columns that are left; false if there is none.
    pub fn encode_one(&self) -> bool {
        let mut state = self.lock();
        let Some(column) = state.left.pop() else {
            return false;
        };
        state.running += 1;
        drop(state);
        let at = column.at;
        let chunks = column.encode();
        let mut state = self.lock();
        state.running -= 1;
        state.chunks[at] = Some(chunks);
        self.ended.notify_all();
        true
    }

    /// Help until none of its columns is left or running.
    pub fn help(&self) {
        while self.encode_one() {}
        let mut state = self.lock();
        while state.running > 0 {
            let woken = self.ended.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Leave the columns that are left as they are; wait for those that are running, and so for what they read.
    pub fn abandon(&self) {
        self.lock().left.clear();
        self.help();
    }

    /// All columns, encoded, in order. The first error counts, by column, whoever met it.
    pub fn finish(&self) -> Result<Vec<ArrowColumnChunk>> {
        self.help();
        let mut state = self.lock();
        let mut all = Vec::new();
        for chunks in std::mem::take(&mut state.chunks).into_iter().flatten() {
            all.extend(chunks?);
        }
        Ok(all)
    }
}

impl Column {
    fn encode(mut self) -> Result<Vec<ArrowColumnChunk>> {
        let mut writers = self.encodings.writers(self.at, &self.field)?;
        let mut write = |array: &ArrayRef| -> Result<()> {
            let leaves = compute_leaves(&self.field, array)?;
            let mut leaves = writers.iter_mut().zip(&leaves);
            leaves.try_for_each(|(writer, leaf)| writer.write(leaf))
        };
        if let Some(spill) = self.spill.take() {
            for extent in self.rows.extents {
                for rows in spill.read(extent)? {
                    write(rows?.column(0))?;
                }
            }
        }
        for array in self.rows.arrays {
            write(&array)?;
        }
        writers.into_iter().map(ArrowColumnWriter::close).collect()
    }
}
