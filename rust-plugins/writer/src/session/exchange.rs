//! Singer's BATCH: rows that lie in files, taken in the place of the message.

use dativo_channel::files;
use dativo_wire::envelope::{BATCH_REFUSED, Record, StreamRef};
use dativo_wire::fault::{Fault, clip};
use dativo_wire::framing::{Line, LineKind};
use dativo_wire::oddity::Oddity;
use dativo_wire::scan::members;
use dativo_wire::text;

use super::Session;
use super::streams::before_schema;
use crate::Stop;
use crate::events::Misfits;
use crate::exchange::Named;

impl Session<'_> {
    /// Have the files of a BATCH read before anything that comes behind it.
    #[cold]
    pub(super) fn name_files(
        &mut self,
        stream: &StreamRef<'_>,
        line: Line<'_>,
    ) -> Result<(), Stop> {
        let max_depth = self.open.limits.max_depth;
        let root = self.exchange.path();
        let root = root.ok_or_else(|| line.fault(&BATCH_REFUSED))?.to_owned();
        let index = self.find(stream);
        let index = index.ok_or_else(|| self.not_found(stream, line))?;
        let at = |fault: Box<Fault>| {
            let fault = fault.at(line.number, line.byte);
            fault.stream(stream.to_name())
        };
        if self.streams[index].table.is_none() {
            return Err(before_schema(stream.to_name(), line).into());
        }
        let batch = files::batch(line.bytes, max_depth, &root);
        let batch = batch.map_err(|bad| line.fault(&bad))?;
        let gzip = is_gzip(batch.encoding, max_depth).map_err(at)?;
        let version = batch.version.and_then(dativo_wire::number::integer);
        if let Some(version) = version {
            self.check_version(version, index, line)?;
        }
        let manifest: Vec<String> = serde_json::from_slice(batch.manifest).unwrap_or_default();
        for url in manifest {
            let path = url.strip_prefix("file://").unwrap_or(&url);
            let path = path.strip_prefix(&root).unwrap_or(path);
            self.exchange.add(Named {
                path: path.trim_start_matches('/').to_owned(),
                gzip,
                stream: index,
                version,
                line: line.number,
                byte: line.byte,
            });
        }
        Ok(())
    }

    /// Whether a file is to be read before the next line.
    #[inline(always)]
    pub fn reads_files(&self) -> bool {
        self.exchange.has_files()
    }

    /// Take the next piece of a file.
    pub fn read_file(&mut self) -> Result<(), Stop> {
        let max_line_bytes = self.max_line_bytes();
        let Some(mut file) = self.exchange.take(max_line_bytes)? else {
            return Ok(());
        };
        let named = file.named.clone();
        let inside = |stop: Stop| match stop {
            Stop::Fault(fault) => Stop::Fault(named.locate(fault)),
            other => other,
        };
        let has_ended = self.exchange.fill(&mut file)?;
        while let Some(line) = file.framer.line().map_err(|fault| named.locate(fault))? {
            self.take_row(&named, line).map_err(inside)?;
        }
        if !has_ended {
            self.exchange.put_back(file);
            return Ok(());
        }
        // A file is whole when the message names it: its last line may lack its end.
        if let Some(line) = file.framer.partial() {
            self.take_row(&named, line).map_err(inside)?;
        }
        self.exchange.finish(file);
        Ok(())
    }

    /// Take one line of a file, a record of its stream.
    fn take_row(&mut self, named: &Named, line: Line<'_>) -> Result<(), Stop> {
        let mut odd = line.odd;
        match line.kind() {
            LineKind::Blank => {
                odd.add(Oddity::BlankLine);
                return Ok(self.oddities.note(odd, line)?);
            }
            LineKind::Text => {
                let fault = Fault::plugin("message.batch", "a line of a file is no record");
                return Err(fault
                    .at(line.number, line.byte)
                    .stream(self.streams[named.stream].name.clone())
                    .value(line.bytes)
                    .into());
            }
            LineKind::Message => line.check_utf8()?,
        }
        let index = named.stream;
        if named.version != self.streams[index].version {
            // All rows of a file have one version.
            self.close_file(index)?;
            self.streams[index].version = named.version;
        }
        let record = Record::bare(line.bytes, self.open.limits.max_depth);
        let (mut end, misfit) = self.push(index, &record, line)?;
        end.end().map_err(|bad| line.fault(&bad))?;
        odd.join(end.odd);
        self.oddities.note(odd, line)?;
        if let Some(fault) = misfit {
            return self.discard_record(index, named.locate(fault), line);
        }
        self.add_metadata(index, &record, line)?;
        self.count_row(index, line)?;
        if self.streams[index].contract.values == Misfits::DiscardValue {
            self.keep_values(index, line)?;
        }
        Ok(())
    }
}

/// Whether files of this encoding are compressed.
fn is_gzip(encoding: &[u8], max_depth: usize) -> Result<bool, Box<Fault>> {
    let refused = |what: &str, value: &[u8]| {
        let fault = Fault::plugin("message.batch", format!("{what}: {}", clip(value, 100)));
        fault.hint("have the source write format jsonl, compression gzip or none")
    };
    let [format, compression] = members(encoding, max_depth, ["format", "compression"])
        .map_err(|_| refused("the encoding of a BATCH is no object", encoding))?;
    let format = format.unwrap_or(b"null");
    if text::string(format).as_deref() != Some("jsonl") {
        return Err(refused("the format of a BATCH is not taken", format));
    }
    let compression = compression.unwrap_or(b"null");
    match text::string(compression).as_deref() {
        Some("gzip") => Ok(true),
        Some("none") => Ok(false),
        None if compression == b"null" => Ok(false),
        _ => Err(refused(
            "the compression of a BATCH is not taken",
            compression,
        )),
    }
}
