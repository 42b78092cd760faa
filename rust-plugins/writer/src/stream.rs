//! One declared stream: its columns, its table and the file that is open for it.

use std::sync::Arc;
use std::time::Instant;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use dativo_wire::decode::Decoder;
use dativo_wire::fault::{Blame, Fault, StreamName};
use dativo_wire::types::Column;

use crate::batch::Intake;
use crate::events::{Activation, Contract, Counts, StreamId, StreamPlan};
use crate::layout::{Layout, Unlaid};
use crate::metadata::Metadata;
use crate::parquet_file::{ParquetFile, USUAL_RATIO};
use crate::plan;
use crate::rejects::Rejects;

/// The open batch is measured after so many bytes of rows.
const MEASURED_EACH_BYTES: usize = 64 << 10;

pub struct Stream {
    pub name: StreamName,
    pub key: Vec<String>,
    /// Counts from 1; 0 until the first schema.
    pub revision: u32,
    pub columns: Vec<Column>,
    /// None until the plan for `revision` has come.
    pub table: Option<Table>,
    /// Rows of the open epoch that are laid out when it is sealed, as they came.
    pub unlaid: Vec<Unlaid>,
    /// Records read in the whole run; of them those up to the last state that speaks for it, and those in sealed epochs.
    pub read: u64,
    pub mark: u64,
    pub sealed: u64,
    /// What becomes of values that do not fit, and what became of them.
    pub contract: Contract,
    pub rejects: Rejects,
    /// Values that the source says it changed: in the whole run, up to the mark, and in sealed epochs.
    pub changed: Changed,
    /// Singer's `version` of the rows in its open file, and that of its last ACTIVATE_VERSION.
    pub version: Option<i64>,
    pub activated: Option<i64>,
    /// Bytes of its longest record so far, as they are estimated for a batch.
    pub widest_row: usize,
    /// When the first row or state came that is not sealed.
    pub open_since: Option<Instant>,
    /// Bytes of its closed files that are not sealed.
    pub closed_bytes: u64,
}

impl Stream {
    pub fn new(name: StreamName, key: Vec<String>) -> Stream {
        Stream {
            name,
            key,
            revision: 0,
            columns: Vec::new(),
            table: None,
            unlaid: Vec::new(),
            read: 0,
            mark: 0,
            sealed: 0,
            contract: Contract::default(),
            rejects: Rejects::default(),
            changed: Changed::default(),
            version: None,
            activated: None,
            widest_row: 0,
            open_since: None,
            closed_bytes: 0,
        }
    }

    pub fn id(&self) -> StreamId {
        StreamId::from(&self.name)
    }

    /// Totals of the run.
    pub fn totals(&self) -> Counts {
        Counts {
            stream: self.id(),
            read: self.read,
            written: self.sealed - self.rejects.sealed.records,
            rejected: self.rejects.total.records,
            filtered: 0,
            discarded: self.rejects.total.values,
            changed: self.changed.total,
        }
    }

    #[inline(always)]
    pub fn add_row(&mut self) {
        self.add_rows(1);
    }

    #[inline(always)]
    pub fn add_rows(&mut self, rows: u64) {
        self.read += rows;
        if self.open_since.is_none() {
            self.open_since = Some(Instant::now());
        }
    }

    /// A state that speaks for this stream has come.
    pub fn stand_at_state(&mut self) {
        self.mark = self.read;
        self.rejects.mark = self.rejects.total;
        self.changed.mark = self.changed.total;
        self.open_since.get_or_insert_with(Instant::now);
    }

    /// Whether there is something to seal and a state covers all of it.
    pub fn is_sealable(&self) -> bool {
        self.mark == self.read && self.open_since.is_some()
    }

    /// Its last ACTIVATE_VERSION, unless no table was ever made for it.
    pub fn activation(&self) -> Option<Activation> {
        let version = self.activated.filter(|_| self.revision > 0)?;
        Some(Activation {
            stream: self.id(),
            version,
        })
    }

    /// Records that are not sealed.
    pub fn open_rows(&self) -> u64 {
        self.read - self.sealed
    }

    /// Bytes in staging that are not sealed.
    pub fn open_bytes(&self) -> u64 {
        let unlaid: u64 = self.unlaid.iter().map(Unlaid::raw_bytes).sum();
        let file = self.table.as_ref().map_or(0, |table| table.file_bytes);
        self.closed_bytes + file + unlaid / USUAL_RATIO
    }

    /// What it holds in memory.
    pub fn memory_bytes(&self) -> usize {
        let unlaid: usize = self.unlaid.iter().map(Unlaid::held_bytes).sum();
        self.table.as_ref().map_or(0, Table::memory_bytes) + unlaid
    }

    /// What the epoch that is being sealed adds; none if nothing.
    pub fn seal_counts(&mut self) -> Option<Counts> {
        let read = self.open_rows();
        self.sealed = self.read;
        self.mark = self.read;
        self.open_since = None;
        self.closed_bytes = 0;
        let rejects = self.rejects.seal();
        let changed = self.changed.total - self.changed.sealed;
        self.changed.mark = self.changed.total;
        self.changed.sealed = self.changed.total;
        (read > 0).then(|| Counts {
            stream: self.id(),
            read,
            written: read - rejects.records,
            rejected: rejects.records,
            filtered: 0,
            discarded: rejects.values,
            changed,
        })
    }
}

/// How many values a source says it changed.
#[derive(Clone, Copy, Default)]
pub struct Changed {
    pub total: u64,
    pub mark: u64,
    pub sealed: u64,
}

/// Where a stream's rows go.
pub struct Table {
    pub decoder: Decoder,
    /// How batches become its rows.
    pub intake: Intake,
    /// The columns behind those that are decoded.
    pub metadata: Option<Metadata>,
    pub schema: SchemaRef,
    /// How its rows are laid out in files; none where they come as they come.
    pub layout: Option<Arc<Layout>>,
    /// Bytes that one row takes in the open batch besides its text and what is in its lists.
    pub row_bytes: usize,
    /// What the open batch takes; of that what its lists take besides their texts, and what is an estimate.
    pub batch_bytes: usize,
    list_bytes: usize,
    estimated_bytes: usize,
    /// Whether there are lists.
    has_lists: bool,
    pub file: Option<ParquetFile>,
    /// Memory of the open row group and bytes of the open file, as last asked for.
    pub group_bytes: usize,
    pub file_bytes: u64,
}

impl Table {
    /// The table that `plan` gives for `columns`; those that it leaves out are not selected. No record may be without
    /// one of `keys`, as far as they are selected.
    pub fn new(columns: &[Column], keys: &[String], plan: StreamPlan) -> Result<Table, Box<Fault>> {
        let fields = plan::fields(columns, keys, plan.columns)?;
        let intake = Intake::new(columns, &fields);
        let decoder = Decoder::new(fields);
        Ok(Table {
            row_bytes: decoder.row_bytes(),
            has_lists: decoder.has_lists(),
            schema: Arc::new(Schema::new(decoder.arrow_fields().to_vec())),
            decoder,
            metadata: None,
            layout: None,
            intake,
            batch_bytes: 0,
            list_bytes: 0,
            estimated_bytes: 0,
            file: None,
            group_bytes: 0,
            file_bytes: 0,
        })
    }

    /// Have it end with metadata columns. Before its first row.
    pub fn add_metadata(&mut self, metadata: Metadata) {
        let decoded = self.decoder.arrow_fields().iter().cloned();
        let fields: Vec<_> = decoded.chain(metadata.arrow_fields()).collect();
        self.schema = Arc::new(Schema::new(fields));
        self.row_bytes += metadata.row_bytes();
        self.has_lists = true;
        self.metadata = Some(metadata);
    }

    /// Count a row that came as `text_bytes` of text, and return what it takes at most. Keys and quotes do not get into the batch,
    /// so it is measured now and then.
    #[inline(always)]
    pub fn count_row(&mut self, text_bytes: usize) -> usize {
        let mut bytes = text_bytes + self.row_bytes;
        if self.has_lists {
            let lists = self.open_list_bytes();
            bytes += lists.saturating_sub(self.list_bytes);
            self.list_bytes = lists;
        }
        self.batch_bytes += bytes;
        self.estimated_bytes += bytes;
        if self.estimated_bytes >= MEASURED_EACH_BYTES && self.metadata.is_none() {
            self.batch_bytes = self.decoder.bytes();
            self.estimated_bytes = 0;
        }
        bytes
    }

    /// Bytes that the lists of the open batch take besides their texts.
    fn open_list_bytes(&self) -> usize {
        let metadata = self.metadata.as_ref().map_or(0, Metadata::list_bytes);
        self.decoder.list_bytes() + metadata
    }

    /// Keep the first `rows` rows of the open batch.
    pub fn truncate(&mut self, rows: usize) {
        self.decoder.truncate(rows);
        if let Some(metadata) = &mut self.metadata {
            metadata.truncate(rows);
        }
    }

    /// The rows of the open batch, all of Singer's `version`; none if it is empty.
    pub fn take_batch(&mut self, version: Option<i64>) -> Result<Option<RecordBatch>, Box<Fault>> {
        self.batch_bytes = 0;
        self.list_bytes = 0;
        self.estimated_bytes = 0;
        if self.decoder.rows() == 0 {
            return Ok(None);
        }
        let mut columns = self.decoder.finish();
        if let Some(metadata) = &mut self.metadata {
            columns.append(&mut metadata.finish(version)?);
        }
        let batch = RecordBatch::try_new(self.schema.clone(), columns);
        batch
            .map(Some)
            .map_err(|error| Fault::new("internal.batch", Blame::Dativo, error.to_string()))
    }

    /// What this table holds in memory.
    pub fn memory_bytes(&self) -> usize {
        self.batch_bytes + self.group_bytes
    }
}
