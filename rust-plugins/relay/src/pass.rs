//! The role `pass`: records, schemas and states from stdin to stdout.

use std::time::{Duration, Instant};

use dativo_channel::events::{Counts, StateSeen, StreamId};
use dativo_channel::files;
use dativo_channel::said::Said;
use dativo_channel::{Stop, unexpected};
use dativo_wire::bounds::{check_name, check_state};
use dativo_wire::envelope::{
    self, Extras, Head, Message, Notice, NoticeKind, Record, State, StateKind, StreamRef,
};
use dativo_wire::fault::{Blame, Fault};
use dativo_wire::framing::{Line, LineKind};
use dativo_wire::oddity::{OddSet, Oddities, Oddity};
use dativo_wire::scan::{Bad, Scanner, members};
use serde_json::Value;

use crate::Control;
use crate::events::{
    Command, Declared, Dialect, Limited, Limits, OpenPass, StatePassed, Undeclared,
};
use crate::fields::{Fields, KeyMemory};
use crate::output::Output;
use crate::run::Role;
use crate::states::StateQueue;
use crate::stream::{Stream, Streams};
use crate::time::{self, Clock};

/// `state_seen` is for progress: not more often than this.
const STATE_SEEN_INTERVAL: Duration = Duration::from_millis(100);
const MAX_SCHEMA_BYTES: usize = 2 << 20;

pub struct Pass {
    input: String,
    from: Dialect,
    to: Dialect,
    undeclared: Undeclared,
    report_states: bool,
    statuses: bool,
    /// Of each stream.
    max_records: u64,
    /// The folder of the files that may be named.
    exchange: Option<String>,
    limits: Limits,
    streams: Streams,
    /// Streams that have given `max_records`.
    limited_streams: usize,
    /// The kernel was told that all have.
    limited: bool,
    states: StateQueue,
    output: Output,
    said: Said,
    oddities: Oddities,
    keys: KeyMemory,
    /// How the last record began: most begin alike.
    head: Head,
    clock: Clock,
    state_seen_at: Option<Instant>,
    /// Of the kernel's `finish`: whether the source has given everything.
    complete: Option<bool>,
}

impl Pass {
    pub fn new(open: OpenPass) -> Result<Pass, Stop> {
        if open.streams.len() > open.limits.max_streams {
            return Err(too_many_streams(open.limits.max_streams, Blame::User).into());
        }
        let mut pass = Pass {
            input: open.input,
            from: open.dialect,
            to: open.to,
            undeclared: open.undeclared,
            report_states: open.report_states,
            statuses: open.statuses && open.to == Dialect::Airbyte,
            max_records: open.max_records.unwrap_or(u64::MAX),
            exchange: open.exchange,
            limits: open.limits,
            streams: Streams::default(),
            limited_streams: 0,
            limited: false,
            states: StateQueue::new(open.dialect, open.to, open.states, open.limits),
            output: Output::new(),
            said: Said::new(open.limits.max_text_lines),
            oddities: Oddities::new(open.strict),
            keys: KeyMemory::new(),
            head: Head::default(),
            clock: Clock::new(open.dialect, open.to),
            state_seen_at: None,
            complete: None,
        };
        for state in open.initial {
            let stream = state.stream.map(StreamId::into_name);
            pass.states.start_from(stream, state.text)?;
        }
        for declared in open.streams {
            pass.declare(declared)?;
        }
        Ok(pass)
    }

    fn declare(&mut self, declared: Declared) -> Result<(), Stop> {
        let fields = Fields::new(&declared.drop, self.limits.max_columns);
        let name = declared.stream.into_name();
        let stream = Stream::new(name, &declared.name, fields, self.to);
        if self.from == Dialect::Airbyte && self.to == Dialect::Singer {
            let schema = declared
                .schema
                .filter(|text| !text.contains(['\n', '\r']))
                .ok_or_else(|| {
                    unexpected("a Singer output needs each stream's schema, on one line")
                })?;
            let key = Value::from(declared.key).to_string();
            self.output.write_line(&[
                b"{\"type\":\"SCHEMA\",\"stream\":",
                stream.quoted.as_bytes(),
                b",\"schema\":",
                schema.as_bytes(),
                b",\"key_properties\":",
                key.as_bytes(),
            ]);
        }
        if !self.streams.add(stream) {
            return Err(unexpected("a stream is declared twice"));
        }
        Ok(())
    }

    // --- lines ------------------------------------------------------------------------------------------------

    #[inline]
    fn message(&mut self, control: &mut Control<Command>, line: Line<'_>) -> Result<(), Stop> {
        line.check_utf8()?;
        // JSON allows it between tokens; a reader that takes it for a line's end would see messages that are none.
        if memchr::memchr(b'\r', line.bytes.trim_ascii_end()).is_some() {
            let fault = Fault::plugin(
                "framing.carriage_return",
                "a carriage return inside a message",
            );
            return Err(fault.at(line.number, line.byte).value(line.bytes).into());
        }
        let mut odd = line.odd;
        let max_depth = self.limits.max_depth;
        let head = std::mem::take(&mut self.head);
        if let Some(record) = head.resume(line.bytes, max_depth) {
            let outcome = self.record(control, record, odd, line);
            self.head = head;
            return outcome;
        }
        self.head = head;
        let message = envelope::read(self.from.into(), line.bytes, max_depth, &mut odd);
        let message = message.map_err(|bad| line.fault(&bad))?;
        if let Message::Record(record) = message {
            if odd == line.odd {
                record.remember(&mut self.head);
            }
            return self.record(control, record, odd, line);
        }
        self.oddities.note(odd, line)?;
        match message {
            Message::Record(_) => Ok(()),
            Message::State(state) => self.state(control, &state, line),
            Message::Schema { stream, schema, .. } => self.schema(&stream, schema, line),
            Message::ActivateVersion { stream, version } => {
                self.activate(control, &stream, version, line)
            }
            Message::Batch(stream) => self.batch(&stream, line),
            Message::Notice(notice) => self.said.notice(control, &self.input, &notice, line),
        }
    }

    #[inline]
    fn record(
        &mut self,
        control: &mut Control<Command>,
        mut record: Record<'_>,
        mut odd: OddSet,
        line: Line<'_>,
    ) -> Result<(), Stop> {
        let bad = |bad: Bad| line.fault(&bad);
        let start = record.data();
        let mut found = self.streams.find(&record.stream);
        let end = self.read_fields(found, start).map_err(bad)?;
        if let Some(namespace) = record.finish(end, &mut odd).map_err(bad)? {
            record.stream.namespace = Some(namespace);
            found = self.streams.find(&record.stream);
            self.read_fields(found, start).map_err(bad)?;
        }
        let Some(index) = found else {
            return Err(unknown_stream(&record.stream, line).into());
        };
        self.oddities.note(odd, line)?;
        let stream = self.streams.get(index);
        if self.from == Dialect::Singer && !stream.has_schema {
            return Err(before_schema(stream, line));
        }
        if let Some(reference) = record.extras.file_reference {
            match &self.exchange {
                Some(root) if self.to == Dialect::Airbyte => {
                    files::check_reference(reference, self.limits.max_depth, root).map_err(bad)?;
                }
                _ => return Err(file_reference(stream, line)),
            }
        }
        stream.read += 1;
        if stream.passed >= self.max_records {
            self.states.stop();
            return Ok(());
        }
        if self.statuses && !stream.started {
            stream.started = true;
            write_status(&mut self.output, stream, "STARTED");
        }
        let located = |fault: Box<Fault>| fault.at(line.number, line.byte);
        self.clock.read(record.extras.extracted).map_err(located)?;
        let out = self.output.line();
        out.extend_from_slice(&stream.prefix);
        if stream.fields.drops() {
            stream.fields.append_kept(line.bytes, out);
        } else {
            out.extend_from_slice(&line.bytes[start.pos()..end.pos()]);
        }
        self.clock.append(out);
        match self.to {
            Dialect::Airbyte => {
                if let Some(meta) = record.extras.meta {
                    out.extend_from_slice(b",\"meta\":");
                    out.extend_from_slice(meta);
                }
                if let Some(reference) = record.extras.file_reference {
                    out.extend_from_slice(b",\"file_reference\":");
                    out.extend_from_slice(reference);
                }
                out.push(b'}');
            }
            Dialect::Singer => append_version(&record.extras, out).map_err(bad)?,
        }
        stream.passed += 1;
        if stream.passed == self.max_records {
            self.limited_streams += 1;
            self.tell_if_limited(control)?;
        }
        Ok(())
    }

    /// Read a record's data, and what of it goes on, if its stream is known.
    #[inline(always)]
    fn read_fields<'a>(
        &mut self,
        stream: Option<usize>,
        mut data: Scanner<'a>,
    ) -> Result<Scanner<'a>, Bad> {
        match stream {
            Some(index) => self.streams.get(index).fields.read(data, &mut self.keys),
            None => {
                data.value()?;
                Ok(data)
            }
        }
    }

    #[cold]
    fn tell_if_limited(&mut self, control: &mut Control<Command>) -> Result<(), Stop> {
        if self.limited || self.limited_streams < self.streams.list().len() {
            return Ok(());
        }
        self.limited = true;
        control.send(&Limited { input: &self.input })
    }

    fn schema(
        &mut self,
        stream: &StreamRef<'_>,
        schema: &[u8],
        line: Line<'_>,
    ) -> Result<(), Stop> {
        let at = |fault: Box<Fault>| fault.at(line.number, line.byte).stream(stream.to_name());
        let index = match self.streams.find(stream) {
            Some(index) => index,
            None => self.accept(stream).map_err(at)?,
        };
        if schema.len() > MAX_SCHEMA_BYTES {
            let message = format!("a schema of more than {MAX_SCHEMA_BYTES} bytes");
            return Err(at(Fault::plugin("limit.schema_bytes", message)).into());
        }
        let invalid = |bad: Bad| line.fault(&bad).stream(stream.to_name());
        let max_depth = self.limits.max_depth;
        let [properties] = members(schema, max_depth, ["properties"]).map_err(invalid)?;
        let known = self.streams.get(index);
        known.has_schema = true;
        let mut kept = Vec::new();
        let mut parts = [schema, b"".as_slice(), b""];
        if let Some(properties) = properties {
            let scanner = Scanner::new(properties, max_depth);
            known.fields.read(scanner, &mut self.keys).map_err(|bad| {
                let code = if bad.code == "message.invalid" {
                    "schema.invalid"
                } else {
                    bad.code
                };
                invalid(Bad { code, ..bad })
            })?;
            if known.fields.drops() {
                known.fields.append_kept(properties, &mut kept);
                // `properties` is a part of `schema`: the distance of their starts is its offset.
                let offset = properties.as_ptr() as usize - schema.as_ptr() as usize;
                parts = [
                    &schema[..offset],
                    &kept,
                    &schema[offset + properties.len()..],
                ];
            }
        }
        if self.to == Dialect::Airbyte {
            return Ok(());
        }
        let names = ["key_properties", "bookmark_properties"];
        let [keys, bookmarks] = members(line.bytes, max_depth, names).map_err(invalid)?;
        let [before, kept, after] = parts;
        self.output.write_line(&[
            b"{\"type\":\"SCHEMA\",\"stream\":",
            known.quoted.as_bytes(),
            b",\"schema\":",
            before,
            kept,
            after,
            b",\"key_properties\":",
            keys.filter(|keys| *keys != b"null").unwrap_or(b"[]"),
        ]);
        if let Some(bookmarks) = bookmarks {
            let line = self.output.unfinished();
            line.extend_from_slice(b",\"bookmark_properties\":");
            line.extend_from_slice(bookmarks);
        }
        Ok(())
    }

    /// Take up a stream that was not declared, if that is allowed.
    fn accept(&mut self, stream: &StreamRef<'_>) -> Result<usize, Box<Fault>> {
        if self.undeclared == Undeclared::Refuse {
            return Err(undeclared());
        }
        check_name(stream)?;
        let index = self.streams.list().len();
        if index >= self.limits.max_streams {
            return Err(too_many_streams(self.limits.max_streams, Blame::Plugin));
        }
        let fields = Fields::new(&[], self.limits.max_columns);
        self.streams
            .add(Stream::new(stream.to_name(), &stream.name, fields, self.to));
        Ok(index)
    }

    fn activate(
        &mut self,
        control: &mut Control<Command>,
        stream: &StreamRef<'_>,
        version: i64,
        line: Line<'_>,
    ) -> Result<(), Stop> {
        let index = self
            .streams
            .find(stream)
            .ok_or_else(|| unknown_stream(stream, line))?;
        if self.to == Dialect::Singer {
            self.output.write_line(&[
                b"{\"type\":\"ACTIVATE_VERSION\",\"stream\":",
                self.streams.get(index).quoted.as_bytes(),
                b",\"version\":",
                version.to_string().as_bytes(),
            ]);
            return Ok(());
        }
        // Airbyte has no such message.
        let notice = Notice {
            kind: NoticeKind::Unknown,
            level: None,
            text: line.bytes.into(),
        };
        self.said.notice(control, &self.input, &notice, line)
    }

    /// Rows in files: they pass unread, to whoever may read the same folder.
    fn batch(&mut self, stream: &StreamRef<'_>, line: Line<'_>) -> Result<(), Stop> {
        let at = |bad: Bad| line.fault(&bad).stream(stream.to_name());
        let Some(root) = self
            .exchange
            .as_ref()
            .filter(|_| self.to == Dialect::Singer)
        else {
            return Err(at(envelope::BATCH_REFUSED).into());
        };
        let index = self
            .streams
            .find(stream)
            .ok_or_else(|| unknown_stream(stream, line))?;
        let known = self.streams.get(index);
        if !known.has_schema {
            return Err(before_schema(known, line));
        }
        if known.fields.drops() {
            let message = "fields of its stream are left out, which rows in files cannot be";
            return Err(at(Bad {
                message,
                ..envelope::BATCH_REFUSED
            })
            .into());
        }
        let batch = files::batch(line.bytes, self.limits.max_depth, root).map_err(at)?;
        self.output.write_line(&[
            b"{\"type\":\"BATCH\",\"stream\":",
            known.quoted.as_bytes(),
            b",\"encoding\":",
            batch.encoding,
            b",\"manifest\":",
            batch.manifest,
        ]);
        if let Some(version) = batch.version {
            let line = self.output.unfinished();
            line.extend_from_slice(b",\"version\":");
            line.extend_from_slice(version);
        }
        Ok(())
    }

    fn state(
        &mut self,
        control: &mut Control<Command>,
        state: &State<'_>,
        line: Line<'_>,
    ) -> Result<(), Stop> {
        check_state(state.text, self.limits.max_state_bytes, line)?;
        let (kind, stream) = match &state.kind {
            StateKind::Stream(stream) => ("stream", Some(stream.to_name())),
            StateKind::Global => ("global", None),
            StateKind::Legacy => ("legacy", None),
            StateKind::Singer => ("singer", None),
        };
        if let StateKind::Stream(name) = &state.kind
            && self.streams.find(name).is_none()
        {
            let message = "a state of a stream that was not declared";
            let fault = Fault::plugin("state.undeclared", message).at(line.number, line.byte);
            return Err(fault.stream(name.to_name()).value(state.text).into());
        }
        let due = self
            .state_seen_at
            .is_none_or(|at| at.elapsed() >= STATE_SEEN_INTERVAL);
        if !self.report_states && due {
            self.state_seen_at = Some(Instant::now());
            control.send(&StateSeen {
                input: &self.input,
                kind,
                stream: stream.as_ref().map(StreamId::from),
                line: line.number,
            })?;
        }
        self.states
            .add(kind, stream, state.text)
            .map_err(|fault| fault.at(line.number, line.byte))?;
        self.pass_states(control)
    }

    /// Put out the states that may go.
    fn pass_states(&mut self, control: &mut Control<Command>) -> Result<(), Stop> {
        while let Some(state) = self.states.next() {
            // Told first: a target may acknowledge it at once.
            if self.report_states {
                control.send(&StatePassed {
                    input: &self.input,
                    number: state.number,
                    kind: state.kind,
                    stream: state.stream.as_ref().map(StreamId::from),
                    text: &state.text,
                    sent: state.sent.as_deref(),
                })?;
            }
            self.output.write_line(&state.line(self.to));
        }
        Ok(())
    }
}

impl Role for Pass {
    fn input(&self) -> &str {
        &self.input
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn begin(&mut self, control: &mut Control<Command>) -> Result<(), Stop> {
        if self.max_records == 0 {
            self.limited_streams = self.streams.list().len();
            return self.tell_if_limited(control);
        }
        Ok(())
    }

    #[inline]
    fn take(&mut self, control: &mut Control<Command>, line: Line<'_>) -> Result<(), Stop> {
        let mut odd = line.odd;
        match line.kind() {
            LineKind::Message => self.message(control, line),
            LineKind::Blank => {
                odd.add(Oddity::BlankLine);
                Ok(self.oddities.note(odd, line)?)
            }
            LineKind::Text => {
                odd.add(Oddity::TextLine);
                self.oddities.note(odd, line)?;
                self.said.text_line(control, &self.input, line)
            }
        }
    }

    fn obey(&mut self, control: &mut Control<Command>, command: Command) -> Result<(), Stop> {
        match command {
            Command::Release { number } => {
                self.states.release(number);
                self.pass_states(control)
            }
            Command::Finish { complete, .. } => {
                self.complete = Some(complete);
                Ok(())
            }
            Command::Abort => Err(Stop::Aborted),
            Command::Open(_) => Err(unexpected("opened twice")),
        }
    }

    fn output(&mut self) -> Option<&mut Output> {
        Some(&mut self.output)
    }

    fn is_finishing(&self) -> bool {
        self.complete.is_some()
    }

    fn may_break_off(&self) -> bool {
        // The kernel stops a source that has given as much as was asked for.
        self.limited
    }

    fn complete(&mut self) {
        if self.statuses && self.complete == Some(true) {
            for stream in self.streams.list() {
                if !stream.started {
                    write_status(&mut self.output, stream, "STARTED");
                }
                write_status(&mut self.output, stream, "COMPLETE");
            }
        }
        self.output.complete();
    }

    fn counts(&self) -> Vec<Counts> {
        self.streams.list().iter().map(Stream::totals).collect()
    }

    fn said(&self) -> &Said {
        &self.said
    }

    fn oddities(&self) -> &Oddities {
        &self.oddities
    }
}

fn append_version(extras: &Extras<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    let Some(version) = extras.version else {
        return Ok(());
    };
    extras.version()?;
    out.extend_from_slice(b",\"version\":");
    out.extend_from_slice(version);
    Ok(())
}

fn write_status(output: &mut Output, stream: &Stream, status: &str) {
    output.write_line(&[
        b"{\"type\":\"TRACE\",\"trace\":{\"type\":\"STREAM_STATUS\",\"emitted_at\":",
        time::now_ms().to_string().as_bytes(),
        b",\"stream_status\":{\"stream_descriptor\":",
        stream.descriptor().as_bytes(),
        b",\"status\":\"",
        status.as_bytes(),
        b"\"}}",
    ]);
}

fn too_many_streams(limit: usize, blame: Blame) -> Box<Fault> {
    Fault::new("limit.streams", blame, format!("more than {limit} streams"))
        .hint("limits.max_streams sets the most")
}

fn undeclared() -> Box<Fault> {
    Fault::plugin(
        "message.unknown_stream",
        "a message of a stream that was not declared",
    )
}

#[cold]
fn unknown_stream(stream: &StreamRef<'_>, line: Line<'_>) -> Box<Fault> {
    undeclared()
        .at(line.number, line.byte)
        .stream(stream.to_name())
}

#[cold]
fn before_schema(stream: &Stream, line: Line<'_>) -> Stop {
    let message = "a RECORD before the SCHEMA of its stream";
    let fault = Fault::plugin("message.record_before_schema", message);
    fault
        .at(line.number, line.byte)
        .stream(stream.name.clone())
        .into()
}

#[cold]
fn file_reference(stream: &Stream, line: Line<'_>) -> Stop {
    let message = "records that refer to files are not taken";
    let fault = Fault::plugin("message.file_reference", message);
    fault
        .at(line.number, line.byte)
        .stream(stream.name.clone())
        .into()
}
