//! Records that a contract discards: counted, and kept for the table of rejects.

use dativo_wire::decode::Reject;
use dativo_wire::envelope::Record;
use dativo_wire::fault::Fault;
use dativo_wire::framing::Line;
use dativo_wire::scan::Scanner;

use super::Session;
use crate::Stop;
use crate::events::{Misfits, SealedFile, StreamSchema};
use crate::parquet_file::ParquetFile;
use crate::rejects::{self, Kept};
use crate::stream::Stream;

/// The table has one schema for good.
const REVISION: u32 = 1;
/// Rejects that wait in memory take at most this part of it.
const MEMORY_PART: usize = 16;

impl Session<'_> {
    /// Count a record that is not written, and keep what is known of it.
    #[cold]
    pub(super) fn discard_record(
        &mut self,
        index: usize,
        fault: Box<Fault>,
        line: Line<'_>,
    ) -> Result<(), Stop> {
        self.last = index;
        let stream = &mut self.streams[index];
        stream.add_row();
        stream.rejects.total.records += 1;
        self.epoch.add_row();
        self.keep(index, fault, line)
    }

    /// Count the values of the last record that became null, and keep what is known of them.
    pub(super) fn keep_values(&mut self, index: usize, line: Line<'_>) -> Result<(), Stop> {
        let stream = &mut self.streams[index];
        let Some(table) = stream.table.as_mut() else {
            return Ok(());
        };
        for reject in table.decoder.take_discarded() {
            let stream = &mut self.streams[index];
            stream.rejects.total.values += 1;
            let fault = located(&reject, stream, line);
            self.keep(index, fault, line)?;
        }
        Ok(())
    }

    /// Keep a reject that is counted already. Its stream is not sealable: the record that it stands in came after the last state.
    fn keep(&mut self, index: usize, fault: Box<Fault>, line: Line<'_>) -> Result<(), Stop> {
        let contract = self.streams[index].contract;
        let most = contract.max_rejects;
        if self.streams[index].rejects.total.rows() > most {
            let hint = format!(
                "the stream's contract takes {most} rejects in a run (contracts, max_rejects); those of committed epochs lie in \
                 the table {}",
                rejects::STREAM
            );
            return Err(fault.hint(hint).into());
        }
        self.plan_rejects()?;
        let reject = Kept::new(fault, line, contract.keep_text);
        self.rejects_bytes += reject.bytes();
        self.streams[index].rejects.keep(reject);
        while self.rejects_bytes > self.open.limits.memory_bytes / MEMORY_PART {
            let held = |&index: &usize| self.streams[index].rejects.bytes();
            let largest = (0..self.streams.len()).max_by_key(held);
            self.write_rejects(&[largest.unwrap_or(index)])?;
        }
        Ok(())
    }

    /// Ask for the table of rejects, once. Blocks until its plan has come.
    fn plan_rejects(&mut self) -> Result<(), Stop> {
        if self.rejects_schema.is_none() {
            self.control.send(&StreamSchema {
                input: &self.open.input,
                stream: rejects::stream_id(),
                revision: REVISION,
                key: &[],
                columns: rejects::wanted(),
            })?;
        }
        while self.rejects_schema.is_none() {
            let command = self.control.wait()?;
            self.obey(command)?;
        }
        Ok(())
    }

    /// Write what is kept of `streams` into one file, which is sealed with the first of them that has any.
    pub(super) fn write_rejects(&mut self, streams: &[usize]) -> Result<(), Stop> {
        let (mut kept, mut first) = (Vec::new(), None);
        for &index in streams {
            let rejects = &mut self.streams[index].rejects;
            self.rejects_bytes -= rejects.bytes();
            kept.append(&mut rejects.take());
            if !kept.is_empty() {
                first.get_or_insert(index);
            }
        }
        let (Some(index), Some(schema)) = (first, self.rejects_schema.clone()) else {
            return Ok(());
        };
        let batch = rejects::batch(&schema, &kept)?;
        let path = self.epoch.name_file();
        let staged = self.staging.create(&path)?;
        // Listed first: should writing fail, the file is known and removed.
        self.epoch.files.push(SealedFile {
            stream: rejects::stream_id(),
            revision: REVISION,
            path,
            rows: kept.len() as u64,
            bytes: 0,
            sha256: String::new(),
            version: None,
            partition: None,
            of: self.streams[index].id(),
        });
        let settings = &self.open.parquet;
        let mut file = ParquetFile::new(staged, schema, &batch, settings, &self.encoder)?;
        file.write(&batch)?;
        let written = file.close()?;
        self.epoch_bytes += written.bytes;
        self.streams[index].closed_bytes += written.bytes;
        if let Some(entry) = self.epoch.files.last_mut() {
            (entry.bytes, entry.sha256) = (written.bytes, written.sha256);
        }
        self.check_staged()?;
        Ok(self.check_files()?)
    }
}

/// A record that does not fit. By its stream's contract it is only discarded; then the fault is returned with the cursor behind its
/// data, all of which must be JSON even so.
#[cold]
pub(super) fn misfit<'a>(
    reject: &Reject,
    stream: &Stream,
    record: &Record<'a>,
    line: Line<'_>,
) -> Result<(Scanner<'a>, Option<Box<Fault>>), Stop> {
    let fault = located(reject, stream, line);
    if matches!(reject, Reject::Bad(_)) || stream.contract.values == Misfits::Fail {
        return Err(fault.into());
    }
    let mut end = record.data();
    end.value().map_err(|bad| line.fault(&bad))?;
    Ok((end, Some(fault)))
}

fn located(reject: &Reject, stream: &Stream, line: Line<'_>) -> Box<Fault> {
    let fault = reject.fault(line.bytes).at(line.number, line.byte);
    fault.stream(stream.name.clone())
}
