//! What is done with each line and each command.

mod batches;
mod checkpoint;
mod exchange;
mod files;
mod layout;
mod rejects;
mod streams;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use arrow_schema::SchemaRef;
use dativo_channel::said::Said;
use dativo_channel::unexpected;
use dativo_wire::batch;
use dativo_wire::bounds::check_state;
use dativo_wire::envelope::{self, Dialect, Head, Message, Record, State, StateKind};
use dativo_wire::fault::{Blame, Fault};
use dativo_wire::framing::{Line, LineKind};
use dativo_wire::oddity::{OddSet, Oddities, Oddity};
use dativo_wire::scan::{Bad, Scanner};

use crate::encoder::Encoder;
use crate::epoch::{Epoch, MAX_HELD_TEXT_BYTES};
use crate::events::{Command, Finish, Misfits, Open, StateSeen, Undeclared};
use crate::exchange::Exchange;
use crate::metadata;
use crate::staging::Staging;
use crate::stream::Stream;
use crate::{Control, Stop};
use batches::Due;
use rejects::misfit;
use streams::before_schema;

/// A batch ends at so many rows or, estimated, bytes.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 4 << 20;
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
    encoder: Encoder,
    /// The stream of the row group that is encoded.
    encoding: Option<usize>,
    streams: Vec<Stream>,
    by_name: HashMap<String, Vec<usize>>,
    /// The stream of the last record, mostly that of the next one too, and how such a line begins.
    last: usize,
    head: Head,
    epoch: Epoch,
    waiting: VecDeque<Waiting>,
    seal_asked: bool,
    /// The kernel said `finish`, and how.
    pub finishing: Option<Finish>,
    /// Bytes held in batches and row groups of all streams.
    memory: usize,
    /// Bytes of the open epoch's files, closed or not.
    epoch_bytes: u64,
    /// The table of rejects, once there was one; bytes of those that wait in memory.
    rejects_schema: Option<SchemaRef>,
    rejects_bytes: usize,
    said: Said,
    oddities: Oddities,
    /// Files that the source has named.
    exchange: Exchange,
    /// A batch was announced, and its bytes come next.
    due: Option<Due>,
    /// STATEs read.
    states: u64,
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
        let dialect = Dialect::from(open.dialect);
        if open.undeclared == Undeclared::Accept && dialect == Dialect::Airbyte {
            let message = "an Airbyte source's streams are declared by its catalogue";
            return Err(unexpected(message));
        }
        let staging = Staging::open(&open.staging)?;
        let encoder = Encoder::new(open.limits.memory_bytes).map_err(|error| {
            let message = format!("cannot start a thread: {error}");
            Fault::new("internal.thread", Blame::Machine, message)
        })?;
        let mut session = Session {
            control,
            dialect,
            staging,
            encoder,
            encoding: None,
            streams: Vec::new(),
            by_name: HashMap::new(),
            last: 0,
            head: Head::default(),
            epoch: Epoch::new(1),
            waiting: VecDeque::new(),
            seal_asked: false,
            finishing: None,
            memory: 0,
            epoch_bytes: 0,
            rejects_schema: None,
            rejects_bytes: 0,
            said: Said::new(open.limits.max_text_lines),
            oddities: Oddities::new(open.strict),
            exchange: Exchange::open(open.exchange.as_deref(), open.limits.max_output_bytes)?,
            due: None,
            states: 0,
            state_seen_at: None,
            open,
        };
        session.declare()?;
        Ok(session)
    }

    pub fn max_line_bytes(&self) -> usize {
        // Offsets into a batch's text are 32 bits wide.
        self.open.limits.max_line_bytes.min(1 << 30)
    }

    pub fn max_output_bytes(&self) -> Option<u64> {
        self.open.limits.max_output_bytes
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
            Command::Finish(finish) => {
                self.finishing = Some(finish);
                Ok(())
            }
            Command::Abort => Err(Stop::Aborted),
            Command::Open(_) => Err(unexpected("opened twice")),
        }
    }

    /// Whether reading stands still until an epoch is committed.
    pub fn is_blocked(&self) -> bool {
        self.waiting.len() >= self.open.max_epochs_waiting.max(1)
    }

    // --- lines ------------------------------------------------------------------------------------------------

    /// Deal with one line of stdin.
    #[inline]
    pub fn take(&mut self, line: Line<'_>) -> Result<(), Stop> {
        let mut odd = line.odd;
        match line.kind() {
            LineKind::Blank => {
                odd.add(Oddity::BlankLine);
                return Ok(self.oddities.note(odd, line)?);
            }
            LineKind::Text => {
                odd.add(Oddity::TextLine);
                self.oddities.note(odd, line)?;
                return self.said.text_line(self.control, &self.open.input, line);
            }
            LineKind::Message => line.check_utf8()?,
        }
        let max_depth = self.open.limits.max_depth;
        let head = std::mem::take(&mut self.head);
        if let Some(record) = head.resume(line.bytes, max_depth) {
            let outcome = self.record(record, odd, line);
            self.head = head;
            return outcome;
        }
        self.head = head;
        if self.open.batches
            && let Some(announced) = batch::announced(line.bytes, max_depth)
        {
            return self.announce(announced, line);
        }
        let message = envelope::read(self.dialect, line.bytes, max_depth, &mut odd);
        let message = message.map_err(|bad| line.fault(&bad))?;
        if let Message::Record(record) = message {
            // Where streams take turns, the next line begins in another way.
            if odd == line.odd && self.find(&record.stream) == Some(self.last) {
                record.remember(&mut self.head);
            }
            return self.record(record, odd, line);
        }
        self.oddities.note(odd, line)?;
        match message {
            Message::Record(_) => Ok(()),
            Message::State(state) => self.state(state, line),
            Message::Schema {
                stream,
                schema,
                keys,
            } => self.schema(&stream, schema, keys, line),
            Message::ActivateVersion { stream, version } => self.activate(&stream, version, line),
            Message::Batch(stream) => self.name_files(&stream, line),
            Message::Notice(notice) => {
                self.said
                    .notice(self.control, &self.open.input, &notice, line)
            }
        }
    }

    #[inline]
    fn record(
        &mut self,
        mut record: Record<'_>,
        mut odd: OddSet,
        line: Line<'_>,
    ) -> Result<(), Stop> {
        let bad = |bad: Bad| line.fault(&bad);
        let mut found = self.find(&record.stream);
        if found.is_none() && record.is_open() {
            // A namespace behind the data may still name the stream.
            let mut end = record.data();
            end.value().map_err(bad)?;
            if let Some(namespace) = record.finish(end, &mut odd).map_err(bad)? {
                record.stream.namespace = Some(namespace);
                found = self.find(&record.stream);
            }
        }
        let mut index = found.ok_or_else(|| self.not_found(&record.stream, line))?;
        let (end, mut misfit) = self.push(index, &record, line)?;
        if let Some(namespace) = record.finish(end, &mut odd).map_err(bad)? {
            if misfit.is_none() {
                self.pop(index);
            }
            record.stream.namespace = Some(namespace);
            index = self
                .find(&record.stream)
                .ok_or_else(|| self.not_found(&record.stream, line))?;
            (_, misfit) = self.push(index, &record, line)?;
        }
        self.oddities.note(odd, line)?;
        if record.extras.file_reference.is_some() {
            return Err(self.refers_to_file(index, line).into());
        }
        let version = record.extras.version().map_err(bad)?;
        if version != self.streams[index].version {
            self.check_version(version.unwrap_or_default(), index, line)?;
        }
        if let Some(fault) = misfit {
            return self.discard_record(index, fault, line);
        }
        if version != self.streams[index].version {
            // All rows of a file have one version.
            self.pop(index);
            self.close_file(index)?;
            self.streams[index].version = version;
            self.push(index, &record, line)?;
        }
        if let Some(meta) = record.extras.meta {
            self.count_changes(index, meta, line)?;
        }
        self.add_metadata(index, &record, line)?;
        self.count_row(index, line)?;
        if self.streams[index].contract.values == Misfits::DiscardValue {
            self.keep_values(index, line)?;
        }
        Ok(())
    }

    /// Decode a record into the batch of stream `index`. One that its contract discards is not there, and its fault is returned.
    #[inline]
    fn push<'a>(
        &mut self,
        index: usize,
        record: &Record<'a>,
        line: Line<'_>,
    ) -> Result<(Scanner<'a>, Option<Box<Fault>>), Stop> {
        let stream = &mut self.streams[index];
        let Some(table) = stream.table.as_mut() else {
            return Err(before_schema(stream.name.clone(), line).into());
        };
        match table.decoder.push(record.data()) {
            Ok(end) => Ok((end, None)),
            Err(reject) => misfit(&reject, stream, record, line),
        }
    }

    /// Take the record that was decoded last out of the batch of stream `index`.
    fn pop(&mut self, index: usize) {
        if let Some(table) = &mut self.streams[index].table {
            table.decoder.pop();
            table.decoder.take_discarded();
        }
    }

    /// Of a record of a file: its row would speak of what is nowhere.
    #[cold]
    fn refers_to_file(&self, index: usize, line: Line<'_>) -> Box<Fault> {
        let message = "records that refer to files are not taken";
        Fault::plugin("message.file_reference", message)
            .at(line.number, line.byte)
            .stream(self.streams[index].name.clone())
            .field("file_reference")
            .hint("leave the stream out, or have the source deliver records without their files")
    }

    /// Count what the source says that it changed in a record.
    fn count_changes(&mut self, index: usize, meta: &[u8], line: Line<'_>) -> Result<(), Stop> {
        let changes = metadata::changes(meta, self.open.limits.max_depth);
        let stream = &mut self.streams[index];
        let changes = changes.map_err(|fault| {
            let fault = fault.at(line.number, line.byte);
            fault.stream(stream.name.clone())
        })?;
        stream.changed.total += changes;
        Ok(())
    }

    /// Take what the record, decoded last, carries for the metadata columns of its table.
    #[inline]
    fn add_metadata(
        &mut self,
        index: usize,
        record: &Record<'_>,
        line: Line<'_>,
    ) -> Result<(), Stop> {
        let stream = &mut self.streams[index];
        let table = stream.table.as_mut();
        let Some(metadata) = table.and_then(|table| table.metadata.as_mut()) else {
            return Ok(());
        };
        let (number, max_depth) = (stream.read + 1, self.open.limits.max_depth);
        let taken = metadata.push(number, self.dialect, &record.extras, max_depth);
        taken.map_err(|fault| {
            let fault = fault.at(line.number, line.byte);
            fault.stream(stream.name.clone()).into()
        })
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
        let before = table.batch_bytes;
        let bytes = table.count_row(line.bytes.len());
        self.memory = self.memory + table.batch_bytes - before;
        stream.widest_row = stream.widest_row.max(bytes);
        if table.decoder.rows() >= BATCH_ROWS || table.batch_bytes >= BATCH_BYTES {
            self.write_batch(index)?;
        }
        if self.memory > self.rows_bytes() {
            self.relieve()?;
        }
        Ok(())
    }

    fn state(&mut self, state: State<'_>, line: Line<'_>) -> Result<(), Stop> {
        check_state(state.text, self.open.limits.max_state_bytes, line)?;
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
                        .stream(stream.to_name())
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
        self.states += 1;
        let text = String::from_utf8_lossy(state.text).into_owned();
        let number = self.open.echo.then_some(self.states);
        self.epoch.add_state(kind, stream, text, number);
        self.cut_if_due()?;
        if self.epoch.text_bytes() > MAX_HELD_TEXT_BYTES {
            let message = "states of single streams and of the whole source take turns: \
                           too much text of them waits for a state that all rows stand at";
            let fault = Fault::plugin("limit.state_bytes", message);
            return Err(fault.at(line.number, line.byte).into());
        }
        Ok(())
    }
}
