//! Rows of tables that are partitioned or sorted: kept as they come, laid out when their epoch is sealed.
//!
//! Whatever a file holds is sealed with it, so no file is ever cut: rows behind the last state are cut off before they are laid out.

use std::sync::Arc;

use arrow_array::RecordBatch;
use dativo_wire::fault::Fault;

use super::Session;
use crate::Stop;
use crate::epoch::MAX_FILES;
use crate::layout::{Layout, Part, Unlaid};
use crate::parquet_file::ParquetFile;

impl Session<'_> {
    /// Keep rows of a stream until they are laid out.
    pub(super) fn keep_unlaid(
        &mut self,
        index: usize,
        layout: &Arc<Layout>,
        batch: &RecordBatch,
    ) -> Result<(), Stop> {
        let rows_bytes = self.rows_bytes();
        let stream = &mut self.streams[index];
        let of = (stream.revision, stream.version);
        let fits = |unlaid: &Unlaid| (unlaid.revision, unlaid.version) == of;
        if !stream.unlaid.last().is_some_and(fits) {
            if stream.unlaid.len() >= MAX_FILES {
                let message =
                    format!("more than {MAX_FILES} versions without a STATE between them");
                return Err(Fault::plugin("limit.files", message)
                    .stream(stream.name.clone())
                    .into());
            }
            let path = self.staging.rows(&self.epoch.name_file());
            stream
                .unlaid
                .push(Unlaid::new(layout, of, path, rows_bytes / 4));
        }
        if let Some(unlaid) = stream.unlaid.last_mut() {
            unlaid.push(batch)?;
            if unlaid.held_bytes() >= rows_bytes / 2 {
                unlaid.spill()?;
            }
        }
        Ok(())
    }

    /// Write the rows of a stream that are kept, one file after the other.
    pub(super) fn lay_out(&mut self, index: usize) -> Result<(), Stop> {
        let all = std::mem::take(&mut self.streams[index].unlaid);
        let held: usize = all.iter().map(Unlaid::held_bytes).sum();
        self.memory -= held;
        if all.is_empty() {
            return Ok(());
        }
        let encoding = self.encoding.take();
        self.append_encoded(encoding)?;
        for mut unlaid in all {
            if unlaid.rows() == 0 {
                continue;
            }
            if unlaid.held_bytes() > self.rows_bytes() / 4 {
                unlaid.spill()?;
            }
            let name = self.streams[index].name.clone();
            self.write_parts(index, unlaid)
                .map_err(|fault| fault.stream(name))?;
        }
        Ok(())
    }

    fn write_parts(&mut self, index: usize, unlaid: Unlaid) -> Result<(), Box<Fault>> {
        let of = (unlaid.revision, unlaid.version);
        let schema = unlaid.schema().clone();
        let mut open: Option<(ParquetFile, _)> = None;
        for part in unlaid.lay_out()? {
            let Part { partition, rows } = part?;
            let limit = self.open.parquet.file_bytes;
            if let Some((file, _)) = open.take_if(|(file, of)| {
                *of != partition || file.bytes() >= limit || file.has_many_chunks()
            }) {
                self.end_file(index, file)?;
                self.check_staged()?;
            }
            let (file, _) = match &mut open {
                Some(open) => open,
                none => {
                    let path = self.epoch.name_file();
                    let staged = self.staging.create(&path)?;
                    self.list_file(index, path, of, partition.clone());
                    let settings = &self.open.parquet;
                    let file =
                        ParquetFile::new(staged, schema.clone(), &rows, settings, &self.encoder)?;
                    none.insert((file, partition))
                }
            };
            file.write(&rows)?;
            if file.memory_bytes() > self.rows_bytes() / 2 {
                file.spill()?;
            }
        }
        match open {
            Some((file, _)) => self.end_file(index, file),
            None => Ok(()),
        }
    }
}
