//! Batches: announced on a line, then taken whole; their rows go the way of decoded ones.

use arrow_array::{Array, RecordBatch};
use dativo_wire::batch::Announced;
use dativo_wire::fault::{Blame, Fault};
use dativo_wire::framing::Line;
use dativo_wire::scan::Bad;

use super::streams::before_schema;
use super::{BATCH_ROWS, Session};
use crate::Stop;

/// A batch that was announced, and where.
pub(super) struct Due {
    index: usize,
    rows: usize,
    bytes: usize,
    line: u64,
    byte: u64,
}

impl Session<'_> {
    /// The bytes that come next are a batch.
    #[cold]
    pub(super) fn announce(
        &mut self,
        announced: Result<Announced<'_>, Bad>,
        line: Line<'_>,
    ) -> Result<(), Stop> {
        let announced = announced.map_err(|bad| line.fault(&bad))?;
        self.oddities.note(line.odd, line)?;
        let index = self
            .find(&announced.stream)
            .ok_or_else(|| self.not_found(&announced.stream, line))?;
        if self.streams[index].table.is_none() {
            return Err(before_schema(announced.stream.to_name(), line).into());
        }
        self.due = Some(Due {
            index,
            rows: announced.rows,
            bytes: announced.bytes,
            line: line.number,
            byte: line.byte,
        });
        Ok(())
    }

    /// The bytes of the batch that comes next, if one does.
    #[inline(always)]
    pub fn due_bytes(&self) -> Option<usize> {
        self.due.as_ref().map(|due| due.bytes)
    }

    /// Take the bytes of the batch that was announced.
    pub fn take_batch(&mut self, body: Vec<u8>) -> Result<(), Stop> {
        let due = self.due.take();
        let due = due.ok_or_else(|| Fault::new("internal.batch", Blame::Dativo, "unannounced"))?;
        let stream = &mut self.streams[due.index];
        let at = |fault: Box<Fault>| fault.at(due.line, due.byte).stream(stream.name.clone());
        let Some(table) = stream.table.as_ref() else {
            return Err(at(Fault::new("internal.batch", Blame::Dativo, "no table")).into());
        };
        let max_depth = self.open.limits.max_depth;
        let mut columns = table.intake.read(body, due.rows, max_depth).map_err(at)?;
        if let Some(metadata) = &table.metadata {
            columns.append(&mut metadata.of_bare_rows(stream.read + 1, due.rows)?);
        }
        let batch = RecordBatch::try_new(table.schema.clone(), columns)
            .map_err(|error| Fault::new("internal.batch", Blame::Dativo, error.to_string()))?;
        stream.widest_row = stream.widest_row.max(widest_row(&batch));
        // Rows that were decoded before come first; those of a batch have no version.
        if stream.version.is_some() {
            self.close_file(due.index)?;
            self.streams[due.index].version = None;
        } else {
            self.write_batch(due.index)?;
        }
        for start in (0..due.rows).step_by(BATCH_ROWS) {
            let rows = BATCH_ROWS.min(due.rows - start);
            self.last = due.index;
            self.streams[due.index].add_rows(rows as u64);
            self.epoch.add_row();
            let before = self.streams[due.index].memory_bytes();
            self.write_rows(due.index, &batch.slice(start, rows), before)?;
            if self.memory > self.rows_bytes() {
                self.relieve()?;
            }
        }
        Ok(())
    }
}

/// No row of the batch takes more bytes: the longest value of each column, together.
fn widest_row(batch: &RecordBatch) -> usize {
    let longest = |offsets: &[i32]| {
        let lengths = offsets.windows(2).map(|pair| pair[1] - pair[0]);
        lengths.max().unwrap_or_default() as usize
    };
    let columns = batch.columns().iter().map(|column| {
        let any = column.as_any();
        if let Some(texts) = any.downcast_ref::<arrow_array::StringArray>() {
            4 + longest(texts.value_offsets())
        } else if let Some(bytes) = any.downcast_ref::<arrow_array::BinaryArray>() {
            4 + longest(bytes.value_offsets())
        } else {
            16
        }
    });
    columns.sum()
}
