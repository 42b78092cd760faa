//! Lines into batches: records alone, or the messages of one stream.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use dativo_wire::decode::Decoder;
use dativo_wire::envelope::{self, Dialect, Head, Message, Record, StreamRef};
use dativo_wire::fault::{Blame, Fault, StreamName};
use dativo_wire::framing::{Framer, Line, LineKind};
use dativo_wire::oddity::{OddSet, Oddities, Oddity};
use dativo_wire::scan::Scanner;

use crate::errors::Failure;
use crate::plan::{Plan, retype};
use crate::source::Source;

/// A batch is closed as soon as its lines and values take this much, so that it stays small with any records. Offsets
/// into its texts are 32 bits wide.
const BATCH_BYTES: usize = 16 << 20;
/// The longest line that any setting can allow, for the same reason.
const LONGEST_LINE_BYTES: usize = 1 << 30;

pub struct Limits {
    pub batch_rows: usize,
    pub max_line_bytes: usize,
    pub max_depth: usize,
}

/// What a line holds.
pub enum Lines {
    Record,
    /// A message; only the records of this stream are taken.
    Message {
        dialect: Dialect,
        stream: StreamName,
        head: Box<Head>,
    },
}

pub struct Decoding {
    source: Source,
    framer: Framer,
    lines: Lines,
    rows: Rows,
    schema: SchemaRef,
    batch_rows: usize,
    /// Whether a row may take more than its width and its texts.
    has_lists: bool,
    /// The source's end was met.
    ended: bool,
}

impl Decoding {
    pub fn new(
        source: Source,
        lines: Lines,
        plan: Plan,
        strict: bool,
        limits: &Limits,
    ) -> Decoding {
        let has_lists = plan.has_lists();
        let decoder = Decoder::new(plan.fields);
        Decoding {
            source,
            framer: Framer::new(limits.max_line_bytes.min(LONGEST_LINE_BYTES)),
            lines,
            rows: Rows {
                row_bytes: decoder.row_bytes(),
                decoder,
                max_depth: limits.max_depth,
                oddities: Oddities::new(strict),
                bytes: 0,
            },
            schema: plan.schema,
            batch_rows: limits.batch_rows.max(1),
            has_lists,
            ended: false,
        }
    }

    pub fn oddities(&self) -> &Oddities {
        &self.rows.oddities
    }

    /// The next rows; none at the end. After an error it must not be asked again.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, Failure> {
        while !self.ended && !self.is_full() {
            if let Some(line) = self.framer.line()? {
                self.rows.take(&mut self.lines, line)?;
            } else if self.framer.fill(|room| self.source.read(room))? == 0 {
                self.ended = true;
                self.take_rest()?;
            }
        }
        self.rows.finish(&self.schema)
    }

    fn is_full(&self) -> bool {
        let lists = if self.has_lists {
            self.rows.decoder.list_bytes()
        } else {
            0
        };
        let bytes = self.rows.bytes + lists;
        bytes >= BATCH_BYTES || self.rows.decoder.rows() >= self.batch_rows
    }

    /// What stands behind the last line end: of plain records one more, of messages half a line.
    fn take_rest(&mut self) -> Result<(), Box<Fault>> {
        let Some(mut rest) = self.framer.partial() else {
            return Ok(());
        };
        if let Lines::Message { .. } = self.lines {
            let fault = Fault::plugin("framing.half_line", "the input ends inside a line");
            return Err(fault.at(rest.number, rest.byte).value(rest.bytes));
        }
        if rest.byte == 0
            && let Some(text) = rest.bytes.strip_prefix("\u{feff}".as_bytes())
        {
            rest.bytes = text;
            rest.odd.add(Oddity::Bom);
        }
        self.rows.take(&mut self.lines, rest)
    }
}

/// The open batch.
struct Rows {
    decoder: Decoder,
    row_bytes: usize,
    max_depth: usize,
    oddities: Oddities,
    /// Of the open batch, at most, besides what lists take.
    bytes: usize,
}

impl Rows {
    #[inline]
    fn take(&mut self, lines: &mut Lines, line: Line<'_>) -> Result<(), Box<Fault>> {
        let mut odd = line.odd;
        let kind = line.kind();
        if kind == LineKind::Blank {
            odd.add(Oddity::BlankLine);
            return self.oddities.note(odd, line);
        }
        let Lines::Message {
            dialect,
            stream,
            head,
        } = lines
        else {
            line.check_utf8()?;
            return self.plain(odd, line);
        };
        if kind == LineKind::Text {
            odd.add(Oddity::TextLine);
            return self.oddities.note(odd, line);
        }
        line.check_utf8()?;
        if let Some(record) = head.resume(line.bytes, self.max_depth) {
            return self.record(record, stream, odd, line);
        }
        let message = envelope::read(*dialect, line.bytes, self.max_depth, &mut odd);
        match message.map_err(|bad| line.fault(&bad))? {
            Message::Record(record) => {
                record.remember(head);
                self.record(record, stream, odd, line)
            }
            Message::Batch(named) if is_of(&named, stream) => {
                Err(line.fault(&envelope::BATCH_REFUSED))
            }
            _ => self.oddities.note(odd, line),
        }
    }

    /// A record alone on its line.
    #[inline]
    fn plain(&mut self, mut odd: OddSet, line: Line<'_>) -> Result<(), Box<Fault>> {
        let mut scanner = Scanner::new(line.bytes, self.max_depth);
        scanner.skip_space();
        let mut end = self.push(scanner, line)?;
        end.end().map_err(|bad| line.fault(&bad))?;
        odd.join(end.odd);
        self.oddities.note(odd, line)
    }

    /// A RECORD. One of another stream is checked and passed over; a namespace behind its data counts too.
    #[inline]
    fn record(
        &mut self,
        mut record: Record<'_>,
        stream: &StreamName,
        mut odd: OddSet,
        line: Line<'_>,
    ) -> Result<(), Box<Fault>> {
        let data = record.data();
        let taken = is_of(&record.stream, stream);
        let mut end = data;
        if taken {
            end = self.push(data, line)?;
        } else {
            end.value().map_err(|bad| line.fault(&bad))?;
        }
        let namespace = record.finish(end, &mut odd);
        if let Some(namespace) = namespace.map_err(|bad| line.fault(&bad))? {
            record.stream.namespace = Some(namespace);
            match (taken, is_of(&record.stream, stream)) {
                (true, false) => self.decoder.pop(),
                (false, true) => {
                    self.push(data, line)?;
                }
                _ => {}
            }
        }
        self.oddities.note(odd, line)
    }

    #[inline(always)]
    fn push<'a>(
        &mut self,
        scanner: Scanner<'a>,
        line: Line<'_>,
    ) -> Result<Scanner<'a>, Box<Fault>> {
        self.bytes += line.bytes.len() + self.row_bytes;
        let taken = self.decoder.push(scanner);
        taken.map_err(|reject| reject.fault(line.bytes).at(line.number, line.byte))
    }

    fn finish(&mut self, schema: &SchemaRef) -> Result<Option<RecordBatch>, Failure> {
        self.bytes = 0;
        if self.decoder.rows() == 0 {
            return Ok(None);
        }
        let columns = self.decoder.finish().into_iter().zip(schema.fields());
        let columns: Result<Vec<_>, _> = columns
            .map(|(column, field)| retype(column, field))
            .collect();
        let batch = columns.and_then(|columns| RecordBatch::try_new(schema.clone(), columns));
        batch
            .map(Some)
            .map_err(|error| Fault::new("internal.batch", Blame::Dativo, error.to_string()).into())
    }
}

#[inline(always)]
fn is_of(named: &StreamRef<'_>, stream: &StreamName) -> bool {
    named.name == stream.name && named.namespace.as_deref() == stream.namespace.as_deref()
}
