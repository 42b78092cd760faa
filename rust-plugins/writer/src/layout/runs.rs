//! Rows that are not laid out yet: sorted in runs, each where memory is short in a file beside.

use std::cmp::Ordering;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::BooleanBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, ArrayRef, RecordBatch, UInt64Array};
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;
use arrow_select::interleave::interleave_record_batch;
use dativo_wire::fault::Fault;
use parquet::errors::ParquetError;

use super::merge::{self, Part};
use super::{Layout, wrong};
use crate::spill::{Extent, Spill};
use crate::staging::io_fault;

/// Runs that are merged at once: so many chunks are in memory, and so many descriptors open.
const MAX_MERGED: usize = 32;
const MAX_CHUNK_ROWS: usize = 8192;

/// Rows of one stream, revision and version, numbered as they came.
pub struct Unlaid {
    pub revision: u32,
    pub version: Option<i64>,
    layout: Arc<Layout>,
    /// Rows that came, and those of them that are kept: the first ones.
    came: u64,
    kept: u64,
    /// What all of them take.
    raw_bytes: u64,
    held: Vec<RecordBatch>,
    held_bytes: usize,
    spilled: Option<Spilled>,
    /// Where runs are moved to when memory is short, and how often that was done to all of them.
    path: PathBuf,
    moves: usize,
    /// What one chunk of a run takes at most.
    chunk_bytes: usize,
}

/// Sorted runs in a file.
struct Spilled {
    file: Spill,
    runs: Vec<Extent>,
}

/// Sorted rows, chunk by chunk.
pub(super) type Run<'a> = Box<dyn Iterator<Item = Result<RecordBatch, Box<Fault>>> + 'a>;

impl Unlaid {
    /// No rows yet. Those of a merge take `merge_bytes` at most; `path` is free for a file.
    pub fn new(
        layout: &Arc<Layout>,
        (revision, version): (u32, Option<i64>),
        path: PathBuf,
        merge_bytes: usize,
    ) -> Unlaid {
        Unlaid {
            revision,
            version,
            layout: layout.clone(),
            came: 0,
            kept: 0,
            raw_bytes: 0,
            held: Vec::new(),
            held_bytes: 0,
            spilled: None,
            path,
            moves: 0,
            chunk_bytes: merge_bytes / MAX_MERGED,
        }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.layout.schema
    }

    pub fn rows(&self) -> u64 {
        self.kept
    }

    /// What its rows take wherever they are.
    pub fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub fn spilled_bytes(&self) -> u64 {
        let runs = self.spilled.iter().flat_map(|spilled| &spilled.runs);
        runs.map(|run| run.length).sum()
    }

    /// Take rows.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<(), Box<Fault>> {
        let numbers = self.came..self.came + batch.num_rows() as u64;
        let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(numbers));
        let columns = batch.columns().iter().cloned();
        let columns = columns.chain(self.layout.partition(batch)?);
        let columns: Vec<_> = columns.chain([numbers]).collect();
        let bytes: usize = columns.iter().map(slice_bytes).sum();
        self.held.push(of(&self.layout.waiting, columns)?);
        self.came += batch.num_rows() as u64;
        self.kept = self.came;
        self.held_bytes += bytes;
        self.raw_bytes += bytes as u64;
        Ok(())
    }

    /// Forget the last `rows` rows, or all if there are fewer; no others come then. Returns how many it forgot.
    pub fn cut(&mut self, rows: u64) -> u64 {
        let cut = rows.min(self.kept);
        self.kept -= cut;
        cut
    }

    /// Move what is in memory into the file beside, as a run.
    pub fn spill(&mut self) -> Result<(), Box<Fault>> {
        if self.held.is_empty() {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        let run = sorted(&self.layout, held, self.chunk_bytes)?;
        if self.spilled.is_none() {
            self.spilled = Some(Spilled {
                file: create(&self.path)?,
                runs: Vec::new(),
            });
        }
        if let Some(spilled) = &mut self.spilled {
            spilled.add(&self.layout.waiting, run)?;
        }
        Ok(())
    }

    /// The rows that are kept, all of one partition in one go, each partition sorted.
    pub fn lay_out(mut self) -> Result<impl Iterator<Item = Result<Part, Box<Fault>>>, Box<Fault>> {
        let limit = (self.kept < self.came).then_some(self.kept);
        while let Some(spilled) = self
            .spilled
            .take_if(|spilled| spilled.runs.len() >= MAX_MERGED)
        {
            self.moves += 1;
            let path = self.path.with_extension(format!("{}.rows", self.moves));
            self.spilled = Some(self.merged(&spilled, create(&path)?)?);
        }
        let mut runs = match &self.spilled {
            Some(spilled) => spilled.read(&spilled.runs)?,
            None => Vec::new(),
        };
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            runs.push(Box::new(sorted(&self.layout, held, self.chunk_bytes)?));
        }
        if let Some(limit) = limit {
            let kept = |run: Run<'static>| -> Run<'static> {
                Box::new(run.map(move |chunk| first(&chunk?, limit)))
            };
            runs = runs.into_iter().map(kept).collect();
        }
        // The file goes with the last of its readers.
        let merged = merge::merge(&self.layout, runs)?;
        Ok(merge::parts(self.layout, merged))
    }

    /// Fewer and longer runs, in `file`.
    fn merged(&self, short: &Spilled, file: Spill) -> Result<Spilled, Box<Fault>> {
        let mut long = Spilled {
            file,
            runs: Vec::new(),
        };
        for runs in short.runs.chunks(MAX_MERGED) {
            let merged = merge::merge(&self.layout, short.read(runs)?)?;
            long.add(&self.layout.waiting, merged)?;
        }
        Ok(long)
    }
}

impl Spilled {
    fn add(
        &mut self,
        schema: &SchemaRef,
        run: impl Iterator<Item = Result<RecordBatch, Box<Fault>>>,
    ) -> Result<(), Box<Fault>> {
        let full = |error: ParquetError| io_fault("write", "rows that wait", &error);
        let mut out = self.file.open().map_err(full)?;
        let mut stream = out.stream(schema).map_err(full)?;
        for chunk in run {
            stream.write(&chunk?).map_err(full)?;
        }
        let run = stream.finish().map_err(full)?;
        out.flush().map_err(|error| full(error.into()))?;
        self.runs.push(run);
        Ok(())
    }

    fn read(&self, runs: &[Extent]) -> Result<Vec<Run<'static>>, Box<Fault>> {
        let lost = |error: ParquetError| io_fault("read", "rows that wait", &error);
        let mut readers: Vec<Run<'static>> = Vec::new();
        for &run in runs {
            let chunks = self.file.read(run).map_err(lost)?;
            readers.push(Box::new(chunks.map(move |chunk| chunk.map_err(lost))));
        }
        Ok(readers)
    }
}

fn create(path: &Path) -> Result<Spill, Box<Fault>> {
    Spill::create(path.to_path_buf()).map_err(|error| io_fault("create", "a file of rows", &error))
}

/// Rows in order, in chunks of about `chunk_bytes`.
fn sorted(
    layout: &Layout,
    batches: Vec<RecordBatch>,
    chunk_bytes: usize,
) -> Result<impl Iterator<Item = Result<RecordBatch, Box<Fault>>> + 'static, Box<Fault>> {
    let keys = layout.keys()?;
    let rows: Vec<_> = batches
        .iter()
        .map(|batch| keys.of(batch))
        .collect::<Result<_, _>>()?;
    let mut order: Vec<(u32, u32)> = Vec::new();
    for (at, batch) in batches.iter().enumerate() {
        order.extend((0..batch.num_rows()).map(|row| (at as u32, row as u32)));
    }
    let key = |&(batch, row): &(u32, u32)| rows[batch as usize].row(row as usize);
    order.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
    drop(rows);
    let bytes: usize = batches
        .iter()
        .flat_map(RecordBatch::columns)
        .map(slice_bytes)
        .sum();
    let row_bytes = (bytes / order.len().max(1)).max(1);
    let chunk_rows = (chunk_bytes / row_bytes).clamp(1, MAX_CHUNK_ROWS);
    let chunks = order.len().div_ceil(chunk_rows);
    Ok((0..chunks).map(move |chunk| {
        let start = chunk * chunk_rows;
        let end = order.len().min(start + chunk_rows);
        let indices: Vec<(usize, usize)> = order[start..end]
            .iter()
            .map(|&(batch, row)| (batch as usize, row as usize))
            .collect();
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        interleave_record_batch(&batches, &indices).map_err(|error| wrong(error.to_string()))
    }))
}

/// The rows of a chunk whose number is below `limit`.
fn first(chunk: &RecordBatch, limit: u64) -> Result<RecordBatch, Box<Fault>> {
    let numbers = chunk.column(chunk.num_columns() - 1);
    let mut keeps = BooleanBuilder::with_capacity(chunk.num_rows());
    for &number in numbers.as_primitive::<UInt64Type>().values() {
        keeps.append_value(number.cmp(&limit) == Ordering::Less);
    }
    filter_record_batch(chunk, &keeps.finish()).map_err(|error| wrong(error.to_string()))
}

fn of(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch, Box<Fault>> {
    RecordBatch::try_new(schema.clone(), columns).map_err(|error| wrong(error.to_string()))
}

fn slice_bytes(array: &ArrayRef) -> usize {
    let bytes = array.to_data().get_slice_memory_size();
    bytes.unwrap_or_else(|_| array.get_array_memory_size())
}
