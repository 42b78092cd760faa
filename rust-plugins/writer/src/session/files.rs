//! The files of a session's streams, its memory, and its epochs.

use std::collections::HashSet;
use std::time::Duration;

use arrow_array::RecordBatch;
use dativo_channel::events::Reading;
use dativo_wire::fault::{Blame, Fault};
use serde_json::Value;

use super::{Session, Waiting};
use crate::Stop;
use crate::epoch::{MANY_FILES, MAX_FILES, MAX_STATES_BYTES, MAX_TEXT_BYTES};
use crate::events::{Finish, Rest, Sealed, SealedFile, Stats, StreamId};
use crate::layout::Unlaid;
use crate::parquet_file::ParquetFile;
use crate::stream::{Stream, Table};

/// What the partitions of an epoch's files may take in its control message.
const MAX_PARTITIONS_BYTES: usize = 1 << 20;

/// Whether an epoch is the last one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    No,
    Yes { complete: bool },
}

impl Session<'_> {
    /// Encode the open batch of a stream.
    pub(super) fn write_batch(&mut self, index: usize) -> Result<(), Stop> {
        let version = self.streams[index].version;
        let before = self.streams[index].memory_bytes();
        let Some(table) = self.streams[index].table.as_mut() else {
            return Ok(());
        };
        match table.take_batch(version)? {
            Some(batch) => self.write_rows(index, &batch, before),
            None => Ok(()),
        }
    }

    /// Encode rows of a stream that held `before` bytes of memory.
    pub(super) fn write_rows(
        &mut self,
        index: usize,
        batch: &RecordBatch,
        before: usize,
    ) -> Result<(), Stop> {
        let Some(table) = self.streams[index].table.as_mut() else {
            return Ok(());
        };
        if let Some(layout) = table.layout.clone() {
            self.keep_unlaid(index, &layout, batch)?;
            return self.measure(index, before);
        }
        let file = match &mut table.file {
            Some(file) => file,
            none => {
                let staged = self.staging.create(&self.epoch.name_file())?;
                none.insert(ParquetFile::new(
                    staged,
                    table.schema.clone(),
                    batch,
                    &self.open.parquet,
                    &self.encoder,
                )?)
            }
        };
        file.write(batch)?;
        if file.is_encoding() {
            let before = self.encoding.replace(index);
            self.append_encoded(before.filter(|&other| other != index))?;
        }
        self.measure(index, before)?;
        let limit = self.open.parquet.file_bytes;
        let is_full = |table: &Table| {
            table.file_bytes >= limit
                || table
                    .file
                    .as_ref()
                    .is_some_and(ParquetFile::has_many_chunks)
        };
        let full = self.streams[index].table.as_ref().is_some_and(is_full);
        if full { self.close_file(index) } else { Ok(()) }
    }

    /// Write the row group of a stream that was encoded while others came: its memory is wanted.
    pub(super) fn append_encoded(&mut self, index: Option<usize>) -> Result<(), Box<Fault>> {
        let table = index.and_then(|index| self.streams[index].table.as_mut());
        match table.and_then(|table| table.file.as_mut()) {
            Some(file) => file.append(),
            None => Ok(()),
        }
    }

    /// Take note of what a stream holds after a write; `before` is what it held.
    fn measure(&mut self, index: usize, before: usize) -> Result<(), Stop> {
        let stream = &mut self.streams[index];
        if let Some(table) = &mut stream.table {
            let file_bytes = table.file.as_ref().map_or(0, ParquetFile::bytes);
            table.group_bytes = table.file.as_ref().map_or(0, ParquetFile::memory_bytes);
            self.epoch_bytes = self.epoch_bytes + file_bytes - table.file_bytes;
            table.file_bytes = file_bytes;
        }
        self.memory = self.memory + stream.memory_bytes() - before;
        Ok(self.check_staged()?)
    }

    /// The bytes that may lie in staging.
    pub(super) fn check_staged(&self) -> Result<(), Box<Fault>> {
        let limit = self.open.limits.max_staged_bytes;
        if self.staged_bytes() > limit {
            let fault = Fault::plugin(
                "limit.staged_bytes",
                format!("more than {limit} bytes in staging"),
            );
            let hint =
                "limits.max_staged_bytes sets the most; a source frees it by sending a STATE";
            return Err(fault.hint(hint));
        }
        Ok(())
    }

    /// Bytes in staging that are not committed.
    pub fn staged_bytes(&self) -> u64 {
        let files = self
            .streams
            .iter()
            .filter_map(|stream| stream.table.as_ref()?.file.as_ref());
        let spilled: u64 = files.map(ParquetFile::spilled_bytes).sum();
        let unlaid = self.streams.iter().flat_map(|stream| &stream.unlaid);
        let unlaid: u64 = unlaid.map(Unlaid::spilled_bytes).sum();
        let waiting: u64 = self.waiting.iter().map(|sealed| sealed.bytes).sum();
        self.epoch_bytes + spilled + unlaid + waiting
    }

    /// Bytes that rows may take in memory until their row group is complete: one large group and a batch. As much may be on its
    /// way into a file; the rest is for what encodes it, for lines and for the allocator, which the small buffers of several streams
    /// take more from.
    pub(super) fn rows_bytes(&self) -> usize {
        let sixteenths = if self.streams.len() > 1 { 5 } else { 7 };
        self.open.limits.memory_bytes / 16 * sixteenths
    }

    /// Bring memory well below its limit: the largest holders move their rows to disk.
    pub(super) fn relieve(&mut self) -> Result<(), Stop> {
        while self.memory > self.rows_bytes() / 2 {
            let held = |&index: &usize| self.streams[index].memory_bytes();
            let largest = (0..self.streams.len()).max_by_key(held);
            let Some(index) = largest.filter(|index| held(index) > 0) else {
                break;
            };
            self.write_batch(index)?;
            let stream = &mut self.streams[index];
            let before = stream.memory_bytes();
            if let Some(table) = &mut stream.table {
                table.decoder.shrink();
                if let Some(file) = &mut table.file {
                    file.spill()?;
                }
            }
            for unlaid in &mut stream.unlaid {
                unlaid.spill()?;
            }
            self.measure(index, before)?;
        }
        // The allocator keeps what thousands of small buffers took; the limit is on what the process holds.
        // SAFETY: malloc_trim(3) only returns free memory.
        unsafe { libc::malloc_trim(0) };
        Ok(())
    }

    /// Close the open file of a stream, its open batch in it.
    pub(super) fn close_file(&mut self, index: usize) -> Result<(), Stop> {
        if self.streams[index]
            .table
            .as_ref()
            .is_some_and(|table| table.decoder.rows() > 0)
        {
            // May close a full file itself.
            self.write_batch(index)?;
        }
        let stream = &mut self.streams[index];
        let Some(table) = stream.table.as_mut() else {
            return Ok(());
        };
        let Some(file) = table.file.take() else {
            return Ok(());
        };
        self.memory -= std::mem::take(&mut table.group_bytes);
        self.epoch_bytes -= std::mem::take(&mut table.file_bytes);
        let (revision, version) = (stream.revision, stream.version);
        self.list_file(index, file.name.clone(), (revision, version), None);
        Ok(self.end_file(index, file)?)
    }

    /// List a file of rows of one revision, version and partition, before it is closed: should that fail, it is known and removed.
    pub(super) fn list_file(
        &mut self,
        index: usize,
        path: String,
        (revision, version): (u32, Option<i64>),
        partition: Option<Vec<Value>>,
    ) {
        let stream = self.streams[index].id();
        self.epoch.files.push(SealedFile {
            stream: stream.clone(),
            revision,
            path,
            rows: 0,
            bytes: 0,
            sha256: String::new(),
            version,
            partition,
            of: stream,
        });
    }

    /// Close the file that was listed last.
    pub(super) fn end_file(&mut self, index: usize, file: ParquetFile) -> Result<(), Box<Fault>> {
        let rows = file.rows;
        let written = file.close()?;
        self.epoch_bytes += written.bytes;
        self.streams[index].closed_bytes += written.bytes;
        if let Some(entry) = self.epoch.files.last_mut() {
            (entry.rows, entry.bytes, entry.sha256) = (rows, written.bytes, written.sha256);
        }
        self.check_files()
    }

    /// The files that an epoch may have.
    pub(super) fn check_files(&self) -> Result<(), Box<Fault>> {
        if self.epoch.files.len() > MAX_FILES {
            let message = format!("more than {MAX_FILES} files without a STATE between them");
            let hint = "a STATE earlier, or a coarser partition, makes fewer";
            return Err(Fault::plugin("limit.files", message).hint(hint));
        }
        Ok(())
    }

    // --- epochs -----------------------------------------------------------------------------------------------

    /// Seal the streams that stand at a state if that is asked for, or they are large or old enough.
    pub fn cut_if_due(&mut self) -> Result<(), Stop> {
        if self.is_blocked() || self.epoch.is_past_whole_state() {
            return Ok(());
        }
        let sealable: Vec<usize> = (0..self.streams.len())
            .filter(|&index| self.streams[index].is_sealable())
            .collect();
        // A state may come before every stream.
        let any = !sealable.is_empty() || self.epoch.has_whole_state();
        if any && (self.seal_asked || self.is_due(&sealable)) {
            self.seal_streams(&sealable, Last::No)
        } else {
            Ok(())
        }
    }

    fn is_due(&self, sealable: &[usize]) -> bool {
        let limits = &self.open.epoch;
        let sum =
            |of: fn(&Stream) -> u64| sealable.iter().map(|&i| of(&self.streams[i])).sum::<u64>();
        let old = |stream: &Stream| {
            stream
                .open_since
                .is_some_and(|at| at.elapsed() >= Duration::from_secs(limits.max_seconds))
        };
        let is_first = self.open.first_state && self.epoch.sequence == 1;
        is_first && sum(Stream::open_rows) > 0
            || sum(Stream::open_rows) >= limits.max_rows
            || sum(Stream::open_bytes) >= limits.max_bytes
            || self.epoch.states_bytes >= MAX_STATES_BYTES
            || self.epoch.text_bytes() >= MAX_TEXT_BYTES
            || self.epoch.files.len() >= MANY_FILES
            || sealable.iter().any(|&index| old(&self.streams[index]))
    }

    /// Seal everything that is left, as `finish` asks for; at the end of a file inside a line what states cover.
    pub fn seal_rest(&mut self, finish: Finish, is_half_line: bool) -> Result<(), Stop> {
        let mut complete = finish.complete;
        if is_half_line || finish.rest == Rest::Checkpoint {
            complete &= self.cut_to_marks()? == 0 && !is_half_line;
        }
        let all: Vec<usize> = (0..self.streams.len()).collect();
        self.seal_streams(&all, Last::Yes { complete })
    }

    /// Close and sync the files of `streams` and tell the kernel, with their states. Ascending.
    fn seal_streams(&mut self, streams: &[usize], last: Last) -> Result<(), Stop> {
        for &index in streams {
            self.close_file(index)?;
        }
        for &index in streams {
            self.lay_out(index)?;
        }
        self.write_rejects(streams)?;
        self.staging.sync()?;
        self.seal_asked = false;
        let bytes = streams.iter().map(|&i| self.streams[i].closed_bytes).sum();
        let names: HashSet<StreamId> = streams.iter().map(|&i| self.streams[i].id()).collect();
        let sealed = self.epoch.split(|stream| names.contains(stream));
        check_partitions(&sealed.files)?;
        self.epoch_bytes -= bytes;
        self.waiting.push_back(Waiting {
            sequence: sealed.sequence,
            bytes,
        });
        let counts = streams
            .iter()
            .filter_map(|&index| self.streams[index].seal_counts())
            .collect();
        let activations = match last {
            Last::No => Vec::new(),
            Last::Yes { .. } => self.streams.iter().filter_map(Stream::activation).collect(),
        };
        self.control.send(&Sealed {
            input: &self.open.input,
            sequence: sealed.sequence,
            last: last != Last::No,
            complete: last == Last::Yes { complete: true },
            files: sealed.files,
            states: sealed.states,
            echo: sealed.echo,
            activations,
            consumed: self.exchange.take_consumed(),
            counts,
        })
    }

    /// Remove the open epoch's files. They are the kernel's to remove where this fails.
    pub fn drop_epoch(&mut self) {
        let open = self
            .streams
            .iter_mut()
            .filter_map(|stream| stream.table.as_mut()?.file.take())
            .map(ParquetFile::abandon);
        let closed = self.epoch.files.drain(..).map(|file| file.path);
        for name in open.chain(closed).collect::<Vec<_>>() {
            self.remove(&name);
        }
    }

    /// Remove a file of staging that nothing points to any more; it is the kernel's to remove where this fails.
    pub(super) fn remove(&self, name: &str) {
        if let Err(error) = self.staging.remove(name) {
            eprintln!("{}: cannot remove {name}: {error}", crate::PROGRAM);
        }
    }

    /// Running totals.
    pub fn send_stats(&mut self, reading: Reading) -> Result<(), Stop> {
        self.control.send(&Stats {
            input: &self.open.input,
            reading,
            text_lines: self.said.text_lines,
            suppressed: self.said.suppressed,
            staged_bytes: self.staged_bytes(),
            oddities: &self.oddities,
            counts: self.streams.iter().map(Stream::totals).collect(),
        })
    }
}

/// What the partitions of an epoch's files take in its control message.
fn check_partitions(files: &[SealedFile]) -> Result<(), Box<Fault>> {
    let values = files.iter().filter_map(|file| file.partition.as_ref());
    let bytes: usize = values.flatten().map(|value| value.to_string().len()).sum();
    if bytes <= MAX_PARTITIONS_BYTES {
        return Ok(());
    }
    let message = format!(
        "the values that {} files are partitioned by take {bytes} bytes; the limit is {MAX_PARTITIONS_BYTES}",
        files.len()
    );
    let fault = Fault::new("limit.partition_value", Blame::User, message);
    Err(fault.hint("partition by truncate(…) or bucket(…) of the columns"))
}
