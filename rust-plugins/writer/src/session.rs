//! What is done with each line and each command: streams, plans, batches, epochs.

mod files;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use dativo_wire::decode::{Reject, bad_fault};
use dativo_wire::envelope::{
    self, Dialect, Message, Notice, NoticeKind, Record, State, StateKind, StreamRef,
};
use dativo_wire::fault::{Blame, Fault, StreamName, clip_bytes};
use dativo_wire::framing::Line;
use dativo_wire::scan::Bad;
use dativo_wire::schema::{self, Column};

use crate::Stop;
use crate::control::Control;
use crate::epoch::Epoch;
use crate::events::{
    self, Command, Open, OpenDialect, SchemaColumn, SealedState, StateSeen, StreamId, StreamPlan,
};
use crate::staging::Staging;
use crate::stream::{Stream, Table};

/// A batch ends at so many rows or, estimated, bytes.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 4 << 20;
/// What the source says is passed on up to this many times; then only CONTROL and errors, up to another bound.
const MAX_MESSAGES: u64 = 1_000;
const MAX_URGENT_MESSAGES: u64 = 10_000;
/// Longer texts are cut; a CONTROL is not, so a longer one is refused.
const MAX_MESSAGE_BYTES: usize = 4 << 10;
const MAX_CONTROL_BYTES: usize = 1 << 20;
const MAX_LEVEL_BYTES: usize = 32;
/// `state_seen` is for progress: not more often than this.
const STATE_SEEN_INTERVAL: Duration = Duration::from_millis(100);

/// Sealed and not yet committed.
struct Waiting {
    sequence: u64,
    bytes: u64,
}

pub struct Session<'c> {
    control: &'c mut Control,
    open: Open,
    dialect: Dialect,
    staging: Staging,
    streams: Vec<Stream>,
    by_name: HashMap<String, Vec<usize>>,
    /// The stream of the last record: mostly that of the next one too.
    last: usize,
    epoch: Epoch,
    waiting: VecDeque<Waiting>,
    seal_asked: bool,
    /// The kernel said `finish`.
    pub finishing: bool,
    /// Bytes held in batches and row groups of all streams.
    memory: usize,
    /// Bytes of the open epoch's files, closed or not.
    epoch_bytes: u64,
    pub text_lines: u64,
    messages: u64,
    urgent: u64,
    suppressed: u64,
    /// Those of `suppressed` that no message has told of yet.
    untold: u64,
    state_seen_at: Option<Instant>,
}

impl<'c> Session<'c> {
    /// Take up what the kernel asks for. Blocks until the plans of an Airbyte source have come.
    pub fn new(control: &'c mut Control, open: Open) -> Result<Session<'c>, Stop> {
        if open.streams.len() > open.limits.max_streams {
            let message = format!(
                "{} streams; the limit is {}",
                open.streams.len(),
                open.limits.max_streams
            );
            return Err(Fault::new("limit.streams", Blame::User, message)
                .hint("limits.max_streams sets it")
                .into());
        }
        let staging = Staging::open(&open.staging)?;
        let dialect = match open.dialect {
            OpenDialect::Airbyte => Dialect::Airbyte,
            OpenDialect::Singer => Dialect::Singer,
        };
        let mut session = Session {
            control,
            dialect,
            staging,
            streams: Vec::new(),
            by_name: HashMap::new(),
            last: 0,
            epoch: Epoch::new(1),
            waiting: VecDeque::new(),
            seal_asked: false,
            finishing: false,
            memory: 0,
            epoch_bytes: 0,
            text_lines: 0,
            messages: 0,
            urgent: 0,
            suppressed: 0,
            untold: 0,
            state_seen_at: None,
            open,
        };
        session.declare()?;
        Ok(session)
    }

    fn declare(&mut self) -> Result<(), Stop> {
        for declared in std::mem::take(&mut self.open.streams) {
            let name = declared.stream.into_name();
            let index = self.streams.len();
            let namesakes = self.by_name.entry(name.name.clone()).or_default();
            if namesakes
                .iter()
                .any(|&other| self.streams[other].name == name)
            {
                let fault = Fault::new(
                    "internal.control",
                    Blame::Dativo,
                    "a stream is declared twice",
                );
                return Err(fault.stream(name).into());
            }
            namesakes.push(index);
            self.streams.push(Stream::new(name, declared.key));
            if self.dialect == Dialect::Airbyte {
                let text = declared.json_schema.unwrap_or_default();
                let columns = self.compile(index, text.as_bytes())?;
                self.propose(index, columns)?;
            }
        }
        while self.dialect == Dialect::Airbyte
            && self.streams.iter().any(|stream| stream.table.is_none())
        {
            let command = self.control.wait()?;
            self.obey(command)?;
        }
        Ok(())
    }

    pub fn max_line_bytes(&self) -> usize {
        // Offsets into a batch's text are 32 bits wide.
        self.open.limits.max_line_bytes.min(1 << 30)
    }

    // --- commands ---------------------------------------------------------------------------------------------

    pub fn control(&mut self) -> &mut Control {
        self.control
    }

    pub fn obey(&mut self, command: Command) -> Result<(), Stop> {
        match command {
            Command::StreamPlan(plan) => self.plan(plan),
            Command::Seal => {
                self.seal_asked = true;
                self.cut_if_due()
            }
            Command::Committed(committed) => {
                self.waiting
                    .retain(|sealed| sealed.sequence > committed.sequence);
                self.cut_if_due()
            }
            Command::Finish => {
                self.finishing = true;
                Ok(())
            }
            Command::Abort => Err(Stop::Aborted),
            Command::Open(_) => {
                Err(Fault::new("internal.control", Blame::Dativo, "opened twice").into())
            }
        }
    }

    /// Whether reading stands still until an epoch is committed.
    pub fn is_blocked(&self) -> bool {
        self.waiting.len() >= self.open.max_epochs_waiting.max(1)
    }

    fn plan(&mut self, plan: StreamPlan) -> Result<(), Stop> {
        let name = StreamId {
            ..plan.stream.clone()
        }
        .into_name();
        let stream = self.streams.iter_mut().find(|stream| stream.name == name);
        let Some(stream) =
            stream.filter(|stream| stream.revision == plan.revision && stream.table.is_none())
        else {
            let message = format!(
                "a plan for revision {} that was not asked for",
                plan.revision
            );
            return Err(Fault::new("internal.plan", Blame::Dativo, message)
                .stream(name)
                .into());
        };
        stream.table = Some(Table::new(&stream.columns, plan).map_err(|fault| fault.stream(name))?);
        Ok(())
    }

    // --- lines ------------------------------------------------------------------------------------------------

    /// Deal with one line of stdin.
    #[inline]
    pub fn take(&mut self, line: Line<'_>) -> Result<(), Stop> {
        match line.bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            None => return Ok(()),
            Some(b'{') => {}
            Some(_) => return self.text_line(line),
        }
        if simdutf8::basic::from_utf8(line.bytes).is_err() {
            let valid = std::str::from_utf8(line.bytes)
                .err()
                .map_or(0, |error| error.valid_up_to());
            let fault = Fault::plugin(
                "framing.invalid_utf8",
                format!("not UTF-8 (column {})", valid + 1),
            );
            return Err(fault
                .at(line.number, line.byte)
                .value(&line.bytes[valid..])
                .into());
        }
        let message = envelope::read(self.dialect, line.bytes, self.open.limits.max_depth);
        match message.map_err(|bad| located(&bad, line))? {
            Message::Record(record) => self.record(record, line),
            Message::State(state) => self.state(state, line),
            Message::Schema {
                stream,
                schema,
                keys,
            } => self.schema(&stream, schema, keys, line),
            Message::Notice(notice) => self.notice(&notice, line),
        }
    }

    #[inline]
    fn record(&mut self, mut record: Record<'_>, line: Line<'_>) -> Result<(), Stop> {
        let bad = |bad: Bad| located(&bad, line);
        let mut found = self.find(&record.stream);
        if found.is_none() && record.is_open() {
            // A namespace behind the data may still name the stream.
            let mut end = record.data();
            end.value().map_err(bad)?;
            if let Some(namespace) = record.finish(end).map_err(bad)? {
                record.stream.namespace = Some(namespace);
                found = self.find(&record.stream);
            }
        }
        let index = found.ok_or_else(|| unknown_stream(&record.stream, line))?;
        let end = self.push(index, &record, line)?;
        if let Some(namespace) = record.finish(end).map_err(bad)? {
            self.streams[index]
                .table
                .iter_mut()
                .for_each(|table| table.decoder.pop());
            record.stream.namespace = Some(namespace);
            let index = self
                .find(&record.stream)
                .ok_or_else(|| unknown_stream(&record.stream, line))?;
            self.push(index, &record, line)?;
            return self.count_row(index, line);
        }
        self.count_row(index, line)
    }

    /// Decode a record into the batch of stream `index`.
    #[inline]
    fn push<'a>(
        &mut self,
        index: usize,
        record: &Record<'a>,
        line: Line<'_>,
    ) -> Result<dativo_wire::scan::Scanner<'a>, Stop> {
        let stream = &mut self.streams[index];
        let Some(table) = stream.table.as_mut() else {
            let fault = Fault::plugin(
                "message.record_before_schema",
                "a RECORD before the SCHEMA of its stream",
            );
            return Err(fault
                .at(line.number, line.byte)
                .stream(stream.name.clone())
                .into());
        };
        table
            .decoder
            .push(record.data())
            .map_err(|reject| refused(&reject, stream, line))
    }

    #[inline]
    fn count_row(&mut self, index: usize, line: Line<'_>) -> Result<(), Stop> {
        let stream = &mut self.streams[index];
        self.last = index;
        stream.add_row();
        self.epoch.add_row();
        let Some(table) = stream.table.as_mut() else {
            return Ok(());
        };
        let bytes = line.bytes.len() + table.row_bytes;
        table.batch_bytes += bytes;
        self.memory += bytes;
        if table.decoder.rows() >= BATCH_ROWS || table.batch_bytes >= BATCH_BYTES {
            self.write_batch(index)?;
        }
        if self.memory > self.open.limits.memory_bytes {
            self.relieve()?;
        }
        Ok(())
    }

    fn state(&mut self, state: State<'_>, line: Line<'_>) -> Result<(), Stop> {
        let limit = self.open.limits.max_state_bytes;
        if state.text.len() > limit {
            let message = format!(
                "a state of {} bytes; the limit is {limit}",
                state.text.len()
            );
            let fault =
                Fault::plugin("state.too_large", message).hint("limits.max_state_bytes sets it");
            return Err(fault.at(line.number, line.byte).value(state.text).into());
        }
        let (kind, index) = match &state.kind {
            StateKind::Stream(stream) => match self.find(stream) {
                Some(index) => ("stream", Some(index)),
                None => {
                    let fault = Fault::plugin(
                        "state.undeclared",
                        "a state of a stream that was not declared",
                    );
                    return Err(fault
                        .at(line.number, line.byte)
                        .stream(owned(stream))
                        .value(state.text)
                        .into());
                }
            },
            StateKind::Global => ("global", None),
            StateKind::Legacy => ("legacy", None),
            StateKind::Singer => ("singer", None),
        };
        let stream = index.map(|index| self.streams[index].id());
        if self
            .state_seen_at
            .is_none_or(|at| at.elapsed() >= STATE_SEEN_INTERVAL)
        {
            self.state_seen_at = Some(Instant::now());
            let seen = StateSeen {
                input: &self.open.input,
                kind,
                stream: stream.clone(),
                line: line.number,
            };
            self.control.send(&seen)?;
        }
        match index {
            Some(index) => self.streams[index].stand_at_state(),
            None => self.streams.iter_mut().for_each(Stream::stand_at_state),
        }
        let text = String::from_utf8_lossy(state.text).into_owned();
        self.epoch.add_state(SealedState { kind, stream, text });
        self.cut_if_due()
    }

    fn schema(
        &mut self,
        stream: &StreamRef<'_>,
        text: &[u8],
        keys: Vec<String>,
        line: Line<'_>,
    ) -> Result<(), Stop> {
        let at = |fault: Box<Fault>| fault.at(line.number, line.byte);
        let index = self
            .find(stream)
            .ok_or_else(|| unknown_stream(stream, line))?;
        let columns = self.compile(index, text).map_err(at)?;
        let stream = &mut self.streams[index];
        if let Some(key) = keys
            .iter()
            .find(|key| columns.iter().all(|column| column.property != **key))
        {
            let fault = Fault::plugin(
                "schema.invalid",
                "a key property that the schema does not have",
            );
            return Err(at(fault.stream(stream.name.clone()).value(key.as_bytes())).into());
        }
        if stream.table.is_some() && stream.columns == columns && stream.key == keys {
            return Ok(());
        }
        stream.key = keys;
        self.close_file(index)?;
        self.propose(index, columns)?;
        while self.streams[index].table.is_none() {
            let command = self.control.wait()?;
            self.obey(command)?;
        }
        Ok(())
    }

    /// The columns of a stream's schema.
    fn compile(&self, index: usize, text: &[u8]) -> Result<Vec<Column>, Box<Fault>> {
        let limits = &self.open.limits;
        schema::compile(text, limits.max_columns, limits.max_depth)
            .map_err(|fault| fault.stream(self.streams[index].name.clone()))
    }

    /// Send a stream's new columns; its plan is awaited by the caller.
    fn propose(&mut self, index: usize, columns: Vec<Column>) -> Result<(), Stop> {
        let stream = &mut self.streams[index];
        stream.revision += 1;
        stream.table = None;
        stream.columns = columns;
        self.control.send(&events::StreamSchema {
            input: &self.open.input,
            stream: stream.id(),
            revision: stream.revision,
            key: &stream.key,
            columns: stream
                .columns
                .iter()
                .map(
                    |Column {
                         property,
                         kind,
                         json,
                         ..
                     }| SchemaColumn {
                        property,
                        kind: kind.to_string(),
                        json: *json,
                    },
                )
                .collect(),
        })
    }

    fn text_line(&mut self, line: Line<'_>) -> Result<(), Stop> {
        self.text_lines += 1;
        if self.text_lines > self.open.limits.max_text_lines {
            let message = format!(
                "more than {} lines that are not messages",
                self.open.limits.max_text_lines
            );
            let fault = Fault::plugin("limit.text_lines", message)
                .hint("limits.max_text_lines sets the most");
            return Err(fault.at(line.number, line.byte).value(line.bytes).into());
        }
        self.notice(
            &Notice {
                kind: NoticeKind::Text,
                level: None,
                text: line.bytes.into(),
            },
            line,
        )
    }

    /// Pass on what the source says, bounded and counted.
    fn notice(&mut self, notice: &Notice<'_>, line: Line<'_>) -> Result<(), Stop> {
        let urgent = matches!(notice.kind, NoticeKind::Control | NoticeKind::TraceError);
        self.messages += 1;
        self.urgent += urgent as u64;
        if self.urgent > MAX_URGENT_MESSAGES {
            let message = format!("more than {MAX_URGENT_MESSAGES} CONTROL messages and errors");
            return Err(Fault::plugin("limit.messages", message)
                .at(line.number, line.byte)
                .into());
        }
        if self.messages > MAX_MESSAGES && !urgent {
            self.suppressed += 1;
            self.untold += 1;
            return Ok(());
        }
        let text = if notice.kind == NoticeKind::Control {
            if notice.text.len() > MAX_CONTROL_BYTES {
                let message = format!("a CONTROL of more than {MAX_CONTROL_BYTES} bytes");
                return Err(Fault::plugin("limit.control_bytes", message)
                    .at(line.number, line.byte)
                    .into());
            }
            String::from_utf8_lossy(&notice.text)
        } else {
            clip_bytes(&notice.text, MAX_MESSAGE_BYTES)
        };
        let level = notice.level.as_deref().unwrap_or_default();
        self.control.send(&events::Message {
            input: &self.open.input,
            kind: notice.kind.name(),
            level: &clip_bytes(level.as_bytes(), MAX_LEVEL_BYTES),
            text: &text,
            line: line.number,
            suppressed: std::mem::take(&mut self.untold),
        })
    }

    #[inline(always)]
    fn find(&self, stream: &StreamRef<'_>) -> Option<usize> {
        let is = |index: &usize| {
            let name = &self.streams[*index].name;
            name.name == stream.name && name.namespace.as_deref() == stream.namespace.as_deref()
        };
        if self.last < self.streams.len() && is(&self.last) {
            return Some(self.last);
        }
        self.by_name
            .get(stream.name.as_ref())?
            .iter()
            .copied()
            .find(is)
    }
}

fn located(bad: &Bad, line: Line<'_>) -> Box<Fault> {
    bad_fault(bad, line.bytes).at(line.number, line.byte)
}

#[cold]
fn refused(reject: &Reject, stream: &Stream, line: Line<'_>) -> Stop {
    let Some(table) = &stream.table else {
        return Fault::new("internal.decode", Blame::Dativo, "no table").into();
    };
    let fault = table
        .decoder
        .fault(reject, line.bytes)
        .at(line.number, line.byte);
    fault.stream(stream.name.clone()).into()
}

fn owned(stream: &StreamRef<'_>) -> StreamName {
    StreamName {
        namespace: stream.namespace.as_deref().map(str::to_owned),
        name: stream.name.clone().into_owned(),
    }
}

#[cold]
fn unknown_stream(stream: &StreamRef<'_>, line: Line<'_>) -> Box<Fault> {
    let fault = Fault::plugin(
        "message.unknown_stream",
        "a message of a stream that was not declared",
    );
    fault.at(line.number, line.byte).stream(owned(stream))
}
