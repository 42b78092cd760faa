//! The end of a run at its states: rows that came behind them are cut off.
//!
//! A stream's mark is the number of its rows when the last state that speaks for it came. Rows behind it lie, from the newest back, in
//! the open batch, in rows that are not laid out, in the open file and in closed files of the open epoch; never in a sealed one ([ADR 4]).
//!
//! [ADR 4]: https://github.com/dativo/dativo/blob/main/docs/adr/0004-cut-per-stream.md

use arrow_array::RecordBatchReader;
use dativo_wire::fault::{Blame, Fault};

use super::{BATCH_BYTES, BATCH_ROWS, Session};
use crate::Stop;
use crate::events::SealedFile;
use crate::parquet_file::{ParquetFile, first_rows};
use crate::rejects::MAX_TEXT_BYTES;
use crate::staging::io_fault;

/// What a closed file holds of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Rows,
    Rejects,
}

impl Session<'_> {
    /// Cut off the rows of each stream behind its mark, as if they had not been read, and close all files. Returns how many rows.
    pub(super) fn cut_to_marks(&mut self) -> Result<u64, Stop> {
        let mut cut = 0;
        let mut left = Vec::new();
        for index in 0..self.streams.len() {
            let stream = &mut self.streams[index];
            let records = stream.read - stream.mark;
            let rejected = stream.rejects.total.records - stream.rejects.mark.records;
            stream.read = stream.mark;
            stream.changed.total = stream.changed.mark;
            cut += records;
            self.rejects_bytes -= stream.rejects.bytes();
            let rejects = stream.rejects.cut_to_mark();
            self.rejects_bytes += stream.rejects.bytes();
            left.push((self.cut_open(index, records - rejected), rejects));
        }
        // All files first: what is rewritten then has the memory for itself.
        for index in 0..self.streams.len() {
            self.close_file(index)?;
        }
        for (index, (rows, rejects)) in left.into_iter().enumerate() {
            self.cut_closed(index, rows, Holds::Rows)?;
            self.cut_closed(index, rejects, Holds::Rejects)?;
        }
        Ok(cut)
    }

    /// Take the last `rows` rows out of the open batch, then drop the open file if it holds no others. Returns how many are left to cut.
    fn cut_open(&mut self, index: usize, rows: u64) -> u64 {
        let Some(table) = &mut self.streams[index].table else {
            return rows;
        };
        let kept = table.decoder.rows().saturating_sub(rows as usize);
        let mut left = rows - (table.decoder.rows() - kept) as u64;
        table.truncate(kept);
        if kept == 0 {
            self.memory -= std::mem::take(&mut table.batch_bytes);
        }
        for unlaid in self.streams[index].unlaid.iter_mut().rev() {
            left -= unlaid.cut(left);
        }
        let Some(table) = &mut self.streams[index].table else {
            return left;
        };
        if let Some(file) = table.file.take_if(|file| file.rows <= left) {
            left -= file.rows;
            self.memory -= std::mem::take(&mut table.group_bytes);
            self.epoch_bytes -= std::mem::take(&mut table.file_bytes);
            let name = file.abandon();
            self.remove(&name);
        }
        left
    }

    /// Take the last `rows` rows out of the closed files of a stream, or out of those of its rejects.
    fn cut_closed(&mut self, index: usize, mut rows: u64, holds: Holds) -> Result<(), Stop> {
        let id = self.streams[index].id();
        let row_bytes = match holds {
            Holds::Rows => self.streams[index].widest_row,
            Holds::Rejects => MAX_TEXT_BYTES,
        };
        while rows > 0 {
            let is_one =
                |file: &SealedFile| file.of == id && (file.stream == id) == (holds == Holds::Rows);
            let last = self.epoch.files.iter().rposition(is_one);
            let Some(at) = last else {
                let message = format!("{rows} rows behind the last state are in no open file");
                let fault = Fault::new("internal.checkpoint", Blame::Dativo, message);
                return Err(fault.stream(self.streams[index].name.clone()).into());
            };
            let kept = self.epoch.files[at].rows.saturating_sub(rows);
            rows -= self.epoch.files[at].rows - kept;
            if kept > 0 {
                self.shorten(index, at, kept, row_bytes)?;
            }
            let file = self.epoch.files.remove(at);
            self.streams[index].closed_bytes -= file.bytes;
            self.epoch_bytes -= file.bytes;
            self.remove(&file.path);
        }
        Ok(())
    }

    /// Write the first `rows` rows of the closed file `at`, each of at most `row_bytes`, to a new one, which is listed behind it.
    fn shorten(
        &mut self,
        index: usize,
        at: usize,
        rows: u64,
        row_bytes: usize,
    ) -> Result<(), Stop> {
        let path = self.epoch.name_file();
        let long = &self.epoch.files[at];
        let unreadable = |error| io_fault("read", &long.path, &error);
        let batch_rows = BATCH_BYTES / row_bytes.max(1);
        let mut reader = first_rows(
            self.staging.reopen(&long.path)?,
            rows,
            batch_rows.clamp(1, BATCH_ROWS),
        )
        .map_err(|error| io_fault("read", &long.path, &error))?;
        let schema = reader.schema();
        let Some(first) = reader.next() else {
            return Err(io_fault("read", &long.path, &"it is empty").into());
        };
        let first = first.map_err(unreadable)?;
        let staged = self.staging.create(&path)?;
        let mut file = ParquetFile::new(staged, schema, &first, &self.open.parquet, &self.encoder)?;
        for batch in std::iter::once(Ok(first)).chain(reader) {
            file.write(&batch.map_err(unreadable)?)?;
            if file.memory_bytes() > self.rows_bytes() {
                file.spill()?;
            }
        }
        if file.rows != rows {
            let message = format!("{} rows, not {rows}", file.rows);
            return Err(io_fault("read", &long.path, &message).into());
        }
        let written = file.close()?;
        self.streams[index].closed_bytes += written.bytes;
        self.epoch_bytes += written.bytes;
        let short = SealedFile {
            stream: long.stream.clone(),
            revision: long.revision,
            path,
            rows,
            bytes: written.bytes,
            sha256: written.sha256,
            version: long.version,
            partition: None,
            of: long.of.clone(),
        };
        self.epoch.files.insert(at + 1, short);
        Ok(())
    }
}
