//! What goes to stdout: messages of Airbyte's protocol, and batches where the reader takes them (docs/spec/batch.md).

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use dativo_wire::batch::MAX_BYTES;
use dativo_wire::render;

use crate::Failure;
use crate::columns::{Kind, Layout};
use crate::json::Rows;
use crate::state::Position;

/// Written at once.
const BUFFER_BYTES: usize = 256 << 10;

pub struct Output<W: Write> {
    out: W,
    buffer: Vec<u8>,
    /// The reader takes batches.
    batches: bool,
    flushed: u64,
}

impl<W: Write> Output<W> {
    pub fn new(out: W, batches: bool) -> Output<W> {
        Output {
            out,
            buffer: Vec::with_capacity(BUFFER_BYTES * 2),
            batches,
            flushed: 0,
        }
    }

    /// Whether the rows of a layout go out as batches.
    pub fn takes(&self, layout: &Layout) -> bool {
        self.batches && layout.is_flat()
    }

    /// All bytes so far, for whoever decides when a state is due.
    pub fn written(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    /// One message, whose text is `text`.
    pub fn message(&mut self, text: &str) -> Result<(), Failure> {
        self.buffer.extend_from_slice(text.as_bytes());
        self.buffer.push(b'\n');
        self.spill()
    }

    pub fn log(&mut self, level: &str, text: &str) -> Result<(), Failure> {
        let text = quoted(text);
        self.message(&format!(
            r#"{{"type":"LOG","log":{{"level":"{level}","message":{text}}}}}"#
        ))
    }

    /// A stream has begun or is complete.
    pub fn status(&mut self, stream: &str, status: &str) -> Result<(), Failure> {
        let (stream, now) = (quoted(stream), now_ms());
        self.message(&format!(
            r#"{{"type":"TRACE","trace":{{"type":"STREAM_STATUS","emitted_at":{now},"stream_status":{{"stream_descriptor":{{"name":{stream}}},"status":"{status}"}}}}}}"#
        ))
    }

    pub fn state(&mut self, stream: &str, position: &Position) -> Result<(), Failure> {
        let stream = quoted(stream);
        let position =
            serde_json::to_string(position).map_err(|error| Failure::new(error.to_string()))?;
        self.message(&format!(
            r#"{{"type":"STATE","state":{{"type":"STREAM","stream":{{"stream_descriptor":{{"name":{stream}}},"stream_state":{position}}}}}}}"#
        ))?;
        self.flush()
    }

    /// What a record's message begins with, up to its data.
    pub fn head(stream: &str) -> Vec<u8> {
        let (stream, now) = (quoted(stream), now_ms());
        format!(r#"{{"type":"RECORD","record":{{"stream":{stream},"emitted_at":{now},"data":"#)
            .into_bytes()
    }

    /// A record whose data is JSON already; `head` is of its stream.
    pub fn record(&mut self, head: &[u8], data: &[u8]) -> Result<(), Failure> {
        self.buffer.extend_from_slice(head);
        self.buffer.extend_from_slice(data);
        self.buffer.extend_from_slice(b"}}\n");
        self.spill()
    }

    /// Rows: a batch, where the reader takes one and the layout allows it.
    pub fn rows(
        &mut self,
        stream: &str,
        head: &[u8],
        layout: &Layout,
        rows: &RecordBatch,
    ) -> Result<(), Failure> {
        if !self.takes(layout) {
            return self.lines(head, layout, rows);
        }
        let body = encoded(rows).map_err(|error| Failure::new(error.to_string()))?;
        let count = rows.num_rows();
        if body.len() <= MAX_BYTES {
            return self.batch(stream, count, &body);
        }
        // Too large for one batch: halves of it, or a line.
        if count == 1 {
            return self.lines(head, layout, rows);
        }
        self.rows(stream, head, layout, &rows.slice(0, count / 2))?;
        self.rows(
            stream,
            head,
            layout,
            &rows.slice(count / 2, count - count / 2),
        )
    }

    fn lines(&mut self, head: &[u8], layout: &Layout, rows: &RecordBatch) -> Result<(), Failure> {
        let is_json: Vec<bool> = layout
            .columns
            .iter()
            .map(|column| matches!(column.kind, Kind::Json | Kind::Number))
            .collect();
        let objects = Rows::new(rows, &is_json)?;
        for row in 0..rows.num_rows() {
            self.buffer.extend_from_slice(head);
            objects.write(row, &mut self.buffer);
            self.buffer.extend_from_slice(b"}}\n");
            self.spill()?;
        }
        Ok(())
    }

    fn batch(&mut self, stream: &str, rows: usize, body: &[u8]) -> Result<(), Failure> {
        self.message(&format!(
            r#"{{"type":"ARROW_BATCH","batch":{{"stream":{},"rows":{rows},"bytes":{}}}}}"#,
            quoted(stream),
            body.len()
        ))?;
        self.flush()?;
        self.flushed += body.len() as u64;
        self.out.write_all(body).map_err(unwritable)
    }

    fn spill(&mut self) -> Result<(), Failure> {
        if self.buffer.len() < BUFFER_BYTES {
            return Ok(());
        }
        self.flush()
    }

    pub fn flush(&mut self) -> Result<(), Failure> {
        self.flushed += self.buffer.len() as u64;
        self.out.write_all(&self.buffer).map_err(unwritable)?;
        self.buffer.clear();
        self.out.flush().map_err(unwritable)
    }
}

/// Rows as one Arrow IPC stream.
fn encoded(rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let room = rows.get_array_memory_size() + 4096;
    let mut writer = StreamWriter::try_new(Vec::with_capacity(room), &rows.schema())?;
    writer.write(rows)?;
    writer.into_inner()
}

fn unwritable(error: io::Error) -> Failure {
    Failure::new(format!("stdout: {error}"))
}

/// A text as JSON.
pub fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    render::string(text.as_bytes(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Milliseconds since 1970, as `emitted_at` has them.
pub fn now_ms() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| time.as_millis())
}
