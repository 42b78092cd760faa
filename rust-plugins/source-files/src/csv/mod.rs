//! CSV files: chunk by chunk, column by column.

pub mod index;
pub mod infer;

use std::fs::File;
use std::os::unix::fs::FileExt;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use crate::Failure;
use crate::columns::{Builder, Layout};
use crate::config::{Csv, check_names};
use index::{Index, Marks};

/// Bytes looked at in one go; small enough for the processor's cache.
const CHUNK_BYTES: usize = 256 << 10;
/// The longest record.
const MAX_RECORD_BYTES: usize = 32 << 20;
/// A batch ends at so many rows or bytes of text.
const BATCH_ROWS: usize = 16_384;
const BATCH_BYTES: usize = 2 << 20;

/// The text of one file from a record's start to the size that it had when it was opened.
pub struct Chunks<'f> {
    file: &'f File,
    size: u64,
    /// Offset in the file of the buffer's first byte.
    pub offset: u64,
    buffer: Vec<u8>,
    filled: usize,
    marks: Marks,
    pub index: Index,
}

impl<'f> Chunks<'f> {
    pub fn new(file: &'f File, offset: u64, size: u64, csv: &Csv) -> Chunks<'f> {
        Chunks {
            file,
            size,
            offset,
            buffer: vec![0; CHUNK_BYTES],
            filled: 0,
            marks: Marks {
                delimiter: csv.delimiter,
                quote: csv.quote,
            },
            index: Index::default(),
        }
    }

    /// Find the next whole records; false at the end. Those before are passed over.
    pub fn advance(&mut self) -> Result<bool, String> {
        let done = self.index.bytes.min(self.filled);
        self.buffer.copy_within(done..self.filled, 0);
        self.filled -= done;
        self.offset += done as u64;
        loop {
            self.fill()?;
            if self.filled == 0 {
                return Ok(false);
            }
            let is_last = self.offset + self.filled as u64 >= self.size;
            if is_last && self.buffer[self.filled - 1] != b'\n' {
                // The last record may have no line end: it gets one, which is behind `size`.
                if self.buffer.len() == self.filled {
                    self.buffer.push(0);
                }
                self.buffer[self.filled] = b'\n';
                self.index.build(&self.buffer[..=self.filled], self.marks);
            } else {
                self.index.build(&self.buffer[..self.filled], self.marks);
            }
            if self.index.len() > 0 {
                return Ok(true);
            }
            if is_last {
                return Err("a quote is not closed before the end of the file".to_owned());
            }
            if self.filled >= MAX_RECORD_BYTES {
                return Err(format!(
                    "a record of more than {MAX_RECORD_BYTES} bytes; is a quote not closed?"
                ));
            }
            let room = (self.buffer.len() * 2).min(MAX_RECORD_BYTES);
            self.buffer.resize(room.max(self.filled + 1), 0);
        }
    }

    fn fill(&mut self) -> Result<(), String> {
        while self.filled < self.buffer.len() {
            let at = self.offset + self.filled as u64;
            let left = self.size.saturating_sub(at);
            let room = (self.buffer.len() - self.filled).min(left.try_into().unwrap_or(usize::MAX));
            if room == 0 {
                return Ok(());
            }
            let part = &mut self.buffer[self.filled..self.filled + room];
            match self.file.read_at(part, at) {
                Ok(0) => return Err("it became shorter while it was read".to_owned()),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// The bytes of field `column` of a record as they stand there, without the carriage return of a line end.
    #[inline(always)]
    pub fn raw(&self, record: usize, column: usize, is_last: bool) -> &[u8] {
        let (start, end) = self.index.field(record, column);
        let text = &self.buffer[start..end];
        match text {
            [rest @ .., b'\r'] if is_last => rest,
            _ => text,
        }
    }

    /// The bytes of the whole records.
    pub fn text(&self) -> &[u8] {
        &self.buffer[..self.index.bytes.min(self.filled)]
    }

    /// Offset in the file behind the first `records` records.
    pub fn end_of(&self, records: usize) -> u64 {
        let end = if records == self.index.len() {
            self.index.bytes.min(self.filled)
        } else {
            self.index.start(records)
        };
        self.offset + end as u64
    }

    /// Whether nothing stands on a record's line.
    pub fn is_blank(&self, record: usize) -> bool {
        self.index.width(record) == 1 && self.raw(record, 0, true).is_empty()
    }
}

/// A field without its quotes; `scratch` holds what had to be written anew. The second: whether it stood in quotes.
#[inline(always)]
pub fn unquote<'t>(
    raw: &'t [u8],
    quote: u8,
    scratch: &'t mut Vec<u8>,
) -> Result<(&'t [u8], bool), &'static str> {
    let inner = match raw {
        [first, inner @ .., last] if *first == quote && *last == quote => inner,
        _ if memchr::memchr(quote, raw).is_some() => {
            return Err("a quote inside a field that is not in quotes");
        }
        _ => return Ok((raw, false)),
    };
    let Some(mut at) = memchr::memchr(quote, inner) else {
        return Ok((inner, true));
    };
    scratch.clear();
    let mut rest = inner;
    loop {
        if rest.get(at + 1) != Some(&quote) {
            return Err("text behind the closing quote of a field");
        }
        scratch.extend_from_slice(&rest[..=at]);
        rest = &rest[at + 2..];
        match memchr::memchr(quote, rest) {
            Some(next) => at = next,
            None => break,
        }
    }
    scratch.extend_from_slice(rest);
    Ok((scratch, true))
}

/// The columns of one file, as its header or the configuration names them. Stands behind the header then.
pub fn header(chunks: &mut Chunks<'_>, csv: &Csv) -> Result<Option<Header>, String> {
    let start = chunks.offset;
    let mut first = [0; 3];
    if chunks.size >= start + 3 {
        let read = chunks.file.read_exact_at(&mut first, start);
        read.map_err(|error| error.to_string())?;
        if first == *b"\xef\xbb\xbf" {
            chunks.offset += 3;
        }
    }
    loop {
        if !chunks.advance()? {
            return Ok(None);
        }
        let count = chunks.index.len();
        let Some(record) = (0..count).find(|&record| !chunks.is_blank(record)) else {
            continue;
        };
        let width = chunks.index.width(record);
        let names = if csv.header {
            names_of(chunks, record, csv)?
        } else {
            match &csv.columns {
                Some(names) if names.len() != width => {
                    return Err(format!(
                        "its first record has {width} fields, csv.columns {}",
                        names.len()
                    ));
                }
                Some(names) => names.clone(),
                None => (1..=width).map(|at| format!("column_{at}")).collect(),
            }
        };
        let behind = if csv.header { record + 1 } else { record };
        return Ok(Some(Header {
            names,
            end: chunks.end_of(behind),
        }));
    }
}

/// What a file calls its columns, and where its first record of values begins.
pub struct Header {
    pub names: Vec<String>,
    pub end: u64,
}

fn names_of(chunks: &Chunks<'_>, record: usize, csv: &Csv) -> Result<Vec<String>, String> {
    let width = chunks.index.width(record);
    let mut names = Vec::new();
    let mut scratch = Vec::new();
    for column in 0..width {
        let raw = chunks.raw(record, column, column + 1 == width);
        let text = match csv.quote {
            Some(quote) => unquote(raw, quote, &mut scratch)?.0,
            None => raw,
        };
        let name = std::str::from_utf8(text).map_err(|_| "its header is not UTF-8".to_owned())?;
        names.push(name.to_owned());
    }
    check_names(&names).map_err(|message| format!("its header: {message}"))?;
    Ok(names)
}

/// Reads the rows of a file into the columns of a stream.
pub struct Reader<'f> {
    chunks: Chunks<'f>,
    csv: &'f Csv,
    layout: &'f Layout,
    schema: SchemaRef,
    /// Fields of each record, and which of them is which column.
    width: usize,
    sources: Vec<Option<usize>>,
    names: Vec<String>,
    builders: Vec<Builder>,
    /// Records of the present chunk that are taken, and rows before it.
    taken: usize,
    is_open: bool,
    pub rows: u64,
    pending: usize,
}

impl<'f> Reader<'f> {
    /// Read on behind `from`, or the header; `rows` came before it.
    pub fn new(
        file: &'f File,
        from: u64,
        rows: u64,
        size: u64,
        csv: &'f Csv,
        layout: &'f Layout,
    ) -> Result<Option<Reader<'f>>, Failure> {
        let mut chunks = Chunks::new(file, 0, size, csv);
        let Some(header) = header(&mut chunks, csv).map_err(Failure::new)? else {
            return Ok(None);
        };
        let place = |column: &crate::columns::Column| {
            header
                .names
                .iter()
                .position(|name| *name == column.property)
        };
        Ok(Some(Reader {
            chunks: Chunks::new(file, from.max(header.end), size, csv),
            csv,
            layout,
            schema: layout.schema(),
            width: header.names.len(),
            sources: layout.columns.iter().map(place).collect(),
            names: header.names,
            builders: layout
                .columns
                .iter()
                .map(|column| Builder::new(column.kind))
                .collect(),
            taken: 0,
            is_open: false,
            rows,
            pending: 0,
        }))
    }

    /// Columns of the file that the stream does not have: not selected, or newer than its catalogue.
    pub fn unknown(&self) -> Vec<String> {
        let is_unknown = |name: &&String| {
            let mut columns = self.layout.columns.iter();
            !columns.any(|column| column.property == **name)
        };
        self.names.iter().filter(is_unknown).cloned().collect()
    }

    /// The next rows; none at the end.
    pub fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        while self.pending < BATCH_ROWS
            && self.builders.iter().map(Builder::text_bytes).sum::<usize>() < BATCH_BYTES
        {
            if !self.is_open || self.taken == self.chunks.index.len() {
                self.is_open = self.chunks.advance().map_err(|message| {
                    self.refused(
                        self.chunks.offset,
                        self.rows + self.pending as u64,
                        &message,
                    )
                })?;
                self.taken = 0;
                if !self.is_open {
                    break;
                }
                self.check_utf8()?;
            }
            self.take()?;
        }
        if self.pending == 0 {
            return Ok(None);
        }
        self.rows += std::mem::take(&mut self.pending) as u64;
        let columns = self.builders.iter_mut().map(Builder::finish);
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns);
        batch
            .map(Some)
            .map_err(|error| Failure::new(error.to_string()))
    }

    /// Where the next record begins in the file.
    pub fn offset(&self) -> u64 {
        if self.is_open {
            self.chunks.end_of(self.taken)
        } else {
            self.chunks.offset
        }
    }

    fn check_utf8(&self) -> Result<(), Failure> {
        let text = self.chunks.text();
        if simdutf8::basic::from_utf8(text).is_ok() {
            return Ok(());
        }
        let valid = std::str::from_utf8(text).map_or_else(|error| error.valid_up_to(), str::len);
        let at = self.chunks.offset + valid as u64;
        Err(self.refused(
            at,
            self.rows + self.pending as u64,
            "not UTF-8: convert the file",
        ))
    }

    /// Take records of the chunk, as many as the batch has room for.
    fn take(&mut self) -> Result<(), Failure> {
        let index = &self.chunks.index;
        let mut records = Vec::with_capacity(index.len() - self.taken);
        let first = self.taken;
        while self.taken < index.len() && self.pending + records.len() < BATCH_ROWS {
            let record = self.taken;
            if index.width(record) != self.width || self.width == 1 {
                if self.chunks.is_blank(record) {
                    self.taken += 1;
                    continue;
                }
                if index.width(record) != self.width {
                    let message = format!(
                        "{} fields, its header has {}",
                        index.width(record),
                        self.width
                    );
                    let row = self.rows + (self.pending + records.len()) as u64;
                    let at = self.chunks.offset + index.start(record) as u64;
                    return Err(self.refused(at, row, &message));
                }
            }
            records.push(record as u32);
            self.taken += 1;
        }
        debug_assert!(first <= self.taken);
        for column in 0..self.builders.len() {
            self.take_column(column, &records)?;
        }
        self.pending += records.len();
        Ok(())
    }

    /// Append the values of one column.
    fn take_column(&mut self, column: usize, records: &[u32]) -> Result<(), Failure> {
        let builder = &mut self.builders[column];
        let Some(source) = self.sources[column] else {
            records.iter().for_each(|_| builder.push_null());
            return Ok(());
        };
        let is_last = source + 1 == self.width;
        let index = &self.chunks.index;
        let nulls = self.csv.nulls.as_slice();
        let usual = nulls.len() == 1 && nulls[0].is_empty();
        let is_text = builder.is_text();
        let mut scratch = Vec::new();
        for (nth, &record) in records.iter().enumerate() {
            let raw = self.chunks.raw(record as usize, source, is_last);
            let (text, quoted) = match self.csv.quote.filter(|_| index.is_quoted(record as usize)) {
                None => (raw, false),
                Some(quote) => match unquote(raw, quote, &mut scratch) {
                    Ok(found) => found,
                    Err(message) => return Err(self.misfit(column, source, record, nth, message)),
                },
            };
            // Only what is not quoted stands for null; an empty text is no value of other columns.
            let is_null = if usual {
                text.is_empty() && !quoted
            } else {
                !quoted && nulls.iter().any(|null| null == text)
            };
            if is_null || text.is_empty() && !is_text && quoted {
                builder.push_null();
            } else if !builder.push(text) {
                let expected = self.layout.columns[column].kind.expected();
                let message = format!("expected {expected}");
                return Err(self.misfit(column, source, record, nth, &message));
            }
        }
        Ok(())
    }

    #[cold]
    fn misfit(
        &self,
        column: usize,
        source: usize,
        record: u32,
        nth: usize,
        message: &str,
    ) -> Failure {
        let record = record as usize;
        let raw = self.chunks.raw(record, source, source + 1 == self.width);
        let (start, _) = self.chunks.index.field(record, source);
        let property = &self.layout.columns[column].property;
        let value = dativo_wire::fault::clip(raw, dativo_wire::fault::MAX_VALUE_CHARS);
        let message = format!("column {property:?}: {message}, not {value:?}");
        let row = self.rows + (self.pending + nth) as u64;
        self.refused(self.chunks.offset + start as u64, row, &message)
    }

    #[cold]
    fn refused(&self, byte: u64, rows_before: u64, message: &str) -> Failure {
        Failure::new(format!(
            "record {} at byte {byte}: {message}",
            rows_before + 1
        ))
    }
}

#[cfg(test)]
mod tests;
