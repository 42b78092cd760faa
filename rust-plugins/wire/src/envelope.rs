//! The messages of both dialects, their keys in any order, every part a slice of the line.
//!
//! A RECORD is handed out as soon as its stream is known, with the cursor at its data, so that the data is
//! read once, by whoever decodes it; [`Record::finish`] then checks the rest of the line.

use std::borrow::Cow;

use crate::fault::StreamName;
pub use crate::notice::{Notice, NoticeKind};
use crate::oddity::{OddSet, Oddity};
use crate::scan::{Bad, Scanner, duplicate, members};
use crate::text;

/// Which protocol a connector speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Airbyte,
    Singer,
}

/// A stream as a message names it. `namespace` is never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRef<'a> {
    pub namespace: Option<Cow<'a, str>>,
    pub name: Cow<'a, str>,
}

impl StreamRef<'_> {
    pub fn to_name(&self) -> StreamName {
        StreamName {
            namespace: self.namespace.as_deref().map(str::to_owned),
            name: self.name.clone().into_owned(),
        }
    }
}

/// A longer beginning is read anew each time.
const MAX_HEAD_BYTES: usize = 1024;

/// One line that starts with `{`.
#[derive(Debug)]
pub enum Message<'a> {
    Record(Record<'a>),
    State(State<'a>),
    /// Singer's SCHEMA.
    Schema {
        stream: StreamRef<'a>,
        schema: &'a [u8],
        keys: Vec<String>,
    },
    /// Singer's ACTIVATE_VERSION: records of the stream with another version are obsolete.
    ActivateVersion {
        stream: StreamRef<'a>,
        version: i64,
    },
    /// Singer's BATCH: rows that lie in files.
    Batch(StreamRef<'a>),
    Notice(Notice<'a>),
}

/// Of a BATCH where nobody may open its files: its rows must not get lost.
pub const BATCH_REFUSED: Bad = Bad {
    code: "message.batch",
    message: "BATCH messages are not taken",
    at: 0,
};

/// A STATE. `text` is the state as written: Airbyte's `state` object, Singer's `value`.
#[derive(Debug)]
pub struct State<'a> {
    pub kind: StateKind<'a>,
    pub text: &'a [u8],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateKind<'a> {
    Stream(StreamRef<'a>),
    Global,
    Legacy,
    Singer,
}

/// A RECORD whose data has perhaps not been looked at yet.
#[derive(Debug)]
pub struct Record<'a> {
    /// Its namespace may still follow the data: see [`Record::finish`].
    pub stream: StreamRef<'a>,
    /// Those behind the data are added by [`Record::finish`].
    pub extras: Extras<'a>,
    scanner: Scanner<'a>,
    tail: Tail,
}

/// How a RECORD began, up to its data. A line that begins with the same bytes says the same, and is read on from there.
#[derive(Debug, Default)]
pub struct Head {
    bytes: Vec<u8>,
    depth: usize,
    tail: Option<Tail>,
    namespace: Option<String>,
    name: String,
}

impl Head {
    /// The RECORD of `line`, if it begins as this one did; `max_depth` must be the same.
    #[inline(always)]
    pub fn resume<'a>(&'a self, line: &'a [u8], max_depth: usize) -> Option<Record<'a>> {
        let tail = self.tail?;
        if !line.starts_with(&self.bytes) {
            return None;
        }
        let mut scanner = Scanner::new(line, max_depth);
        scanner.advance(self.bytes.len());
        scanner.stand_at(self.depth);
        scanner.skip_space();
        Some(Record {
            stream: StreamRef {
                namespace: self.namespace.as_deref().map(Cow::Borrowed),
                name: Cow::Borrowed(&self.name),
            },
            extras: Extras::default(),
            scanner,
            tail,
        })
    }
}

/// What a RECORD may carry besides its data: each value as written, none where it is absent or null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras<'a> {
    /// Singer's `version`.
    pub version: Option<&'a [u8]>,
    /// Singer's `time_extracted`, a string; Airbyte's `emitted_at`, a number of milliseconds.
    pub extracted: Option<&'a [u8]>,
    /// Airbyte's `meta` and `file_reference`.
    pub meta: Option<&'a [u8]>,
    pub file_reference: Option<&'a [u8]>,
}

impl<'a> Extras<'a> {
    #[inline(always)]
    fn set(&mut self, key: u16, value: &'a [u8]) {
        let slot = match key {
            VERSION => &mut self.version,
            EXTRACTED => &mut self.extracted,
            META => &mut self.meta,
            FILE => &mut self.file_reference,
            _ => return,
        };
        *slot = given(Some(value));
    }

    /// Singer's `version` as a number.
    pub fn version(&self) -> Result<Option<i64>, Bad> {
        self.version.map(version_of).transpose()
    }
}

/// What of the line is left to read behind a record's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    /// All has been read.
    None,
    /// Singer: the message's members.
    Outer(Seen),
    /// Airbyte: the members of `record`, then the message's.
    Inner { outer: Seen, inner: Seen },
}

/// The known keys that have been met, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Seen(u16);

impl Seen {
    /// Note `key`; it must be the first of its kind.
    fn add(&mut self, key: u16, at: usize) -> Result<(), Bad> {
        if self.0 & key != 0 {
            return Err(duplicate(at));
        }
        self.0 |= key;
        Ok(())
    }
}

const TYPE: u16 = 1;
const STREAM: u16 = 2;
const DATA: u16 = 4;
const NAMESPACE: u16 = 8;
const RECORD: u16 = 16;
const VERSION: u16 = 32;
const EXTRACTED: u16 = 64;
const META: u16 = 128;
const FILE: u16 = 256;

/// The bit of a key of `record` in Airbyte's RECORD; 0 for one that means nothing here.
#[inline(always)]
fn inner_key(key: &[u8]) -> u16 {
    match key {
        b"stream" => STREAM,
        b"data" => DATA,
        b"namespace" => NAMESPACE,
        b"emitted_at" => EXTRACTED,
        b"meta" => META,
        b"file_reference" => FILE,
        _ => 0,
    }
}

/// The bit of a key of the message itself.
#[inline(always)]
fn outer_key(dialect: Dialect, key: &[u8]) -> u16 {
    match (dialect, key) {
        (_, b"type") => TYPE,
        (_, b"record") => RECORD,
        (Dialect::Singer, b"stream") => STREAM,
        (Dialect::Singer, b"version") => VERSION,
        (Dialect::Singer, b"time_extracted") => EXTRACTED,
        _ => 0,
    }
}

impl<'a> Record<'a> {
    /// A record without a message: all of `line` is its data. Its stream, and what stands behind it, are the caller's to know.
    pub fn bare(line: &'a [u8], max_depth: usize) -> Record<'a> {
        let mut scanner = Scanner::new(line, max_depth);
        scanner.skip_space();
        Record {
            stream: StreamRef {
                namespace: None,
                name: Cow::Borrowed(""),
            },
            extras: Extras::default(),
            scanner,
            tail: Tail::None,
        }
    }

    /// A cursor at the record's data.
    #[inline(always)]
    pub fn data(&self) -> Scanner<'a> {
        self.scanner
    }

    /// Keep how this record began for [`Head::resume`], unless there is more to it than its stream. Before [`Record::finish`].
    pub fn remember(&self, head: &mut Head) {
        let begin = &self.scanner.bytes()[..self.scanner.pos()];
        if !self.is_open()
            || self.extras != Extras::default()
            || self.scanner.odd != OddSet::default()
            || begin.len() > MAX_HEAD_BYTES
        {
            return;
        }
        head.bytes.clear();
        head.bytes.extend_from_slice(begin);
        head.depth = self.scanner.depth();
        head.tail = Some(self.tail);
        head.namespace = self.stream.namespace.as_deref().map(str::to_owned);
        head.name.clear();
        head.name.push_str(&self.stream.name);
    }

    /// Whether keys that could name a namespace are still to be read.
    pub fn is_open(&self) -> bool {
        self.tail != Tail::None
    }

    /// Check the rest of the line; `end` stands behind the data. What the whole line showed is added to `odd`. A
    /// namespace that came only there is returned: the record belongs to that stream instead.
    #[inline(always)]
    pub fn finish(
        &mut self,
        end: Scanner<'a>,
        odd: &mut OddSet,
    ) -> Result<Option<Cow<'a, str>>, Bad> {
        let mut namespace = None;
        let mut scanner = end;
        let (dialect, mut outer) = match std::mem::replace(&mut self.tail, Tail::None) {
            Tail::None => {
                odd.join(scanner.odd);
                return Ok(None);
            }
            Tail::Outer(outer) => (Dialect::Singer, outer),
            Tail::Inner { outer, mut inner } => {
                while scanner.more(b'}')? {
                    let at = scanner.pos();
                    let key = inner_key(&scanner.key()?);
                    inner.add(key, at)?;
                    let value = scanner.value()?;
                    if key == NAMESPACE {
                        namespace = namespace_of(value, at)?;
                    } else {
                        self.extras.set(key, value);
                    }
                }
                (Dialect::Airbyte, outer)
            }
        };
        while scanner.more(b'}')? {
            let at = scanner.pos();
            let key = outer_key(dialect, &scanner.key()?);
            outer.add(key, at)?;
            self.extras.set(key, scanner.value()?);
        }
        scanner.end()?;
        odd.join(scanner.odd);
        Ok(namespace)
    }
}

/// Read one message. `line` must be UTF-8. What is odd about it is added to `odd`; about a RECORD that is still
/// [open](Record::is_open) by [`Record::finish`].
#[inline]
pub fn read<'a>(
    dialect: Dialect,
    line: &'a [u8],
    max_depth: usize,
    odd: &mut OddSet,
) -> Result<Message<'a>, Bad> {
    let mut scanner = Scanner::new(line, max_depth);
    scanner.skip_space();
    scanner.enter(b'{', "expected an object")?;
    let mut seen = Seen::default();
    let mut stream = None;
    let mut extras = Extras::default();
    let mut is_record = false;
    let mut more = scanner.peek() != b'}';
    while more {
        let at = scanner.pos();
        let key = outer_key(dialect, &scanner.key()?);
        seen.add(key, at)?;
        match key {
            TYPE => is_record = type_is(dialect, "RECORD", scanner.value()?, odd),
            STREAM => stream = Some(scanner.value()?),
            RECORD if is_record && dialect == Dialect::Singer && stream.is_some() => {
                let name = name_of(stream.unwrap_or_default(), "stream", at)?;
                let stream = StreamRef {
                    namespace: None,
                    name,
                };
                return Ok(Message::Record(Record {
                    stream,
                    extras,
                    scanner,
                    tail: Tail::Outer(seen),
                }));
            }
            RECORD if is_record && dialect == Dialect::Airbyte => {
                if let Some(record) = eager(scanner, seen)? {
                    return Ok(Message::Record(record));
                }
                scanner.value()?;
            }
            _ => extras.set(key, scanner.value()?),
        }
        more = scanner.more(b'}')?;
    }
    whole(dialect, line, max_depth, odd)
}

/// Airbyte's `record` object at the cursor, if its stream comes before its data.
#[inline(always)]
fn eager<'a>(mut scanner: Scanner<'a>, outer: Seen) -> Result<Option<Record<'a>>, Bad> {
    scanner.enter(b'{', "record must be an object")?;
    let mut inner = Seen::default();
    let (mut stream, mut namespace, mut extras) = (None, None, Extras::default());
    let mut more = scanner.peek() != b'}';
    while more {
        let at = scanner.pos();
        let key = inner_key(&scanner.key()?);
        inner.add(key, at)?;
        match (key, stream) {
            (DATA, Some(name)) => {
                let stream = StreamRef {
                    namespace,
                    name: name_of(name, "stream", at)?,
                };
                return Ok(Some(Record {
                    stream,
                    extras,
                    scanner,
                    tail: Tail::Inner { outer, inner },
                }));
            }
            (DATA, None) => return Ok(None),
            (STREAM, _) => stream = Some(scanner.value()?),
            (NAMESPACE, _) => namespace = namespace_of(scanner.value()?, at)?,
            _ => extras.set(key, scanner.value()?),
        }
        more = scanner.more(b'}')?;
    }
    Ok(None)
}

/// A message in whole: every kind but the usual RECORD.
fn whole<'a>(
    dialect: Dialect,
    line: &'a [u8],
    max_depth: usize,
    odd: &mut OddSet,
) -> Result<Message<'a>, Bad> {
    match dialect {
        Dialect::Singer => singer(line, max_depth, odd),
        Dialect::Airbyte => airbyte(line, max_depth, odd),
    }
}

fn singer<'a>(line: &'a [u8], max_depth: usize, odd: &mut OddSet) -> Result<Message<'a>, Bad> {
    let names = [
        "type",
        "stream",
        "record",
        "value",
        "schema",
        "key_properties",
        "version",
        "time_extracted",
    ];
    let mut scanner = Scanner::new(line, max_depth);
    let [
        kind,
        stream,
        record,
        value,
        schema,
        keys,
        version,
        extracted,
    ] = scanner.members(names)?;
    odd.join(scanner.odd);
    let kind = kind_of(kind)?;
    let capitals = kind.to_ascii_uppercase();
    if capitals != kind {
        odd.add(Oddity::TypeCase);
    }
    let stream = || {
        let name = stream.ok_or(invalid("the message has no stream"))?;
        Ok(StreamRef {
            namespace: None,
            name: name_of(name, "stream", 0)?,
        })
    };
    match capitals.as_str() {
        "RECORD" => {
            let record = record.ok_or(invalid("a RECORD without record"))?;
            let extras = Extras {
                version: given(version),
                extracted: given(extracted),
                ..Extras::default()
            };
            Ok(Message::Record(apart(
                stream()?,
                extras,
                line,
                record,
                max_depth,
            )))
        }
        "STATE" => {
            let text = payload(value)?;
            Ok(Message::State(State {
                kind: StateKind::Singer,
                text,
            }))
        }
        "SCHEMA" => {
            let missing = Bad {
                code: "schema.invalid",
                message: "a SCHEMA without schema",
                at: 0,
            };
            let schema = schema.ok_or(missing)?;
            Ok(Message::Schema {
                stream: stream()?,
                schema,
                keys: key_properties(keys, max_depth)?,
            })
        }
        "ACTIVATE_VERSION" => {
            let version = version.ok_or(invalid("an ACTIVATE_VERSION without version"))?;
            Ok(Message::ActivateVersion {
                stream: stream()?,
                version: version_of(version)?,
            })
        }
        "BATCH" => Ok(Message::Batch(stream()?)),
        "ARROW_BATCH" => Err(BATCH_REFUSED),
        _ => Ok(unknown(line, odd)),
    }
}

fn airbyte<'a>(line: &'a [u8], max_depth: usize, odd: &mut OddSet) -> Result<Message<'a>, Bad> {
    let names = ["type", "record", "state", "log", "trace", "control"];
    let mut scanner = Scanner::new(line, max_depth);
    let [kind, record, state, log, trace, control] = scanner.members(names)?;
    odd.join(scanner.odd);
    let kind = kind_of(kind)?;
    match kind.as_ref() {
        "RECORD" => {
            let record = record.ok_or(invalid("a RECORD without record"))?;
            let names = [
                "stream",
                "data",
                "namespace",
                "emitted_at",
                "meta",
                "file_reference",
            ];
            let [stream, data, namespace, emitted_at, meta, file] =
                members(record, max_depth, names)?;
            let name = name_of(
                stream.ok_or(invalid("a RECORD without stream"))?,
                "stream",
                0,
            )?;
            let namespace = namespace.map_or(Ok(None), |value| namespace_of(value, 0))?;
            let data = data.ok_or(invalid("a RECORD without data"))?;
            let extras = Extras {
                version: None,
                extracted: given(emitted_at),
                meta: given(meta),
                file_reference: given(file),
            };
            Ok(Message::Record(apart(
                StreamRef { namespace, name },
                extras,
                line,
                data,
                max_depth,
            )))
        }
        "STATE" => airbyte_state(payload(state)?, max_depth),
        "LOG" => {
            let log = log.ok_or(invalid("a LOG without log"))?;
            let [level, message] = members(log, max_depth, ["level", "message"])?;
            let text = message
                .and_then(text::string)
                .map_or(Cow::Borrowed(log), into_bytes);
            let level = level.and_then(text::string);
            Ok(Message::Notice(Notice {
                kind: NoticeKind::Log,
                level,
                text,
            }))
        }
        "TRACE" => trace_notice(trace.ok_or(invalid("a TRACE without trace"))?, max_depth),
        "CONTROL" => {
            let text = Cow::Borrowed(control.ok_or(invalid("a CONTROL without control"))?);
            Ok(Message::Notice(Notice {
                kind: NoticeKind::Control,
                level: None,
                text,
            }))
        }
        // Rows must not get lost as an unknown message because of their type's case.
        other if other.eq_ignore_ascii_case("RECORD") || other.eq_ignore_ascii_case("STATE") => {
            Err(invalid("RECORD and STATE are written in capitals"))
        }
        "ARROW_BATCH" => Err(BATCH_REFUSED),
        _ => Ok(unknown(line, odd)),
    }
}

fn airbyte_state<'a>(text: &'a [u8], max_depth: usize) -> Result<Message<'a>, Bad> {
    let broken = |message| Bad {
        code: "state.invalid",
        message,
        at: 0,
    };
    let [kind, stream, global, data] =
        members(text, max_depth, ["type", "stream", "global", "data"])?;
    let kind = match given(kind).map(text::string) {
        None => Cow::Borrowed("LEGACY"),
        Some(kind) => kind.ok_or(broken("the state's type is no string"))?,
    };
    let kind = match kind.as_ref() {
        "STREAM" => {
            let stream = given(stream).ok_or(empty_state())?;
            let [descriptor] = members(stream, max_depth, ["stream_descriptor"])?;
            let descriptor =
                descriptor.ok_or(broken("a STREAM state without stream_descriptor"))?;
            let [name, namespace] = members(descriptor, max_depth, ["name", "namespace"])?;
            let name = name.ok_or(broken("a stream_descriptor without name"))?;
            StateKind::Stream(StreamRef {
                namespace: namespace.map_or(Ok(None), |value| namespace_of(value, 0))?,
                name: name_of(name, "name", 0)?,
            })
        }
        "GLOBAL" => given(global)
            .map(|_| StateKind::Global)
            .ok_or(empty_state())?,
        "LEGACY" => given(data)
            .map(|_| StateKind::Legacy)
            .ok_or(empty_state())?,
        _ => {
            return Err(broken(
                "the state's type is none of STREAM, GLOBAL and LEGACY",
            ));
        }
    };
    Ok(Message::State(State { kind, text }))
}

fn trace_notice<'a>(trace: &'a [u8], max_depth: usize) -> Result<Message<'a>, Bad> {
    let names = ["type", "error", "stream_status", "estimate"];
    let [kind, error, status, estimate] = members(trace, max_depth, names)?;
    let kind = kind.and_then(text::string).unwrap_or_default();
    let notice = |kind, part: Option<&'a [u8]>| Notice {
        kind,
        level: None,
        text: Cow::Borrowed(part.unwrap_or(trace)),
    };
    Ok(Message::Notice(match (kind.as_ref(), error) {
        ("ERROR", Some(error)) => {
            let [message, internal] = members(error, max_depth, ["message", "internal_message"])?;
            let said = message
                .and_then(text::string)
                .or_else(|| internal.and_then(text::string));
            let text = said.map_or(Cow::Borrowed(error), into_bytes);
            Notice {
                kind: NoticeKind::TraceError,
                level: Some(Cow::Borrowed("ERROR")),
                text,
            }
        }
        ("STREAM_STATUS", _) => notice(NoticeKind::TraceStatus, status),
        ("ESTIMATE", _) => notice(NoticeKind::TraceEstimate, estimate),
        _ => notice(NoticeKind::TraceOther, None),
    }))
}

/// A record that was found after the whole line had been read.
fn apart<'a>(
    stream: StreamRef<'a>,
    extras: Extras<'a>,
    line: &'a [u8],
    data: &'a [u8],
    max_depth: usize,
) -> Record<'a> {
    let mut scanner = Scanner::new(line, max_depth);
    // `data` is a part of `line`: the distance of their starts is its offset.
    scanner.advance(data.as_ptr() as usize - line.as_ptr() as usize);
    Record {
        stream,
        extras,
        scanner,
        tail: Tail::None,
    }
}

fn unknown<'a>(line: &'a [u8], odd: &mut OddSet) -> Message<'a> {
    odd.add(Oddity::UnknownType);
    Message::Notice(Notice {
        kind: NoticeKind::Unknown,
        level: None,
        text: Cow::Borrowed(line),
    })
}

fn into_bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

fn invalid(message: &'static str) -> Bad {
    Bad {
        code: "message.invalid",
        message,
        at: 0,
    }
}

fn empty_state() -> Bad {
    Bad {
        code: "state.empty",
        message: "a STATE without a state in it",
        at: 0,
    }
}

fn kind_of(kind: Option<&[u8]>) -> Result<Cow<'_, str>, Bad> {
    kind.and_then(text::string)
        .ok_or(invalid("a message without type"))
}

/// Whether the message's type, a JSON value, is `name`.
#[inline(always)]
fn type_is(dialect: Dialect, name: &str, value: &[u8], odd: &mut OddSet) -> bool {
    let bare = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    let Some(bare) = bare.filter(|bare| bare.len() == name.len()) else {
        return false;
    };
    if bare == name.as_bytes() {
        return true;
    }
    let same = dialect == Dialect::Singer && bare.eq_ignore_ascii_case(name.as_bytes());
    if same {
        odd.add(Oddity::TypeCase);
    }
    same
}

/// The value, unless it is null.
fn given(value: Option<&[u8]>) -> Option<&[u8]> {
    value.filter(|value| *value != b"null")
}

fn version_of(value: &[u8]) -> Result<i64, Bad> {
    let number = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok());
    number.ok_or(invalid("version must be a 64-bit integer"))
}

/// A state's text, which is there, not null, and strict JSON.
fn payload(value: Option<&[u8]>) -> Result<&[u8], Bad> {
    let text = value.filter(|text| *text != b"null").ok_or(empty_state())?;
    let mut scanner = Scanner::new(text, crate::scan::DEEPEST);
    scanner.nan = false;
    scanner.value().map_err(|bad| Bad {
        code: "state.invalid",
        ..bad
    })?;
    Ok(text)
}

#[inline(always)]
fn name_of<'a>(value: &'a [u8], what: &'static str, at: usize) -> Result<Cow<'a, str>, Bad> {
    let wrong = if what == "stream" {
        "stream must be a string"
    } else {
        "name must be a string"
    };
    text::string(value).ok_or(Bad {
        code: "message.invalid",
        message: wrong,
        at,
    })
}

fn namespace_of(value: &[u8], at: usize) -> Result<Option<Cow<'_, str>>, Bad> {
    if value == b"null" {
        return Ok(None);
    }
    let wrong = Bad {
        code: "message.invalid",
        message: "namespace must be a string or null",
        at,
    };
    let text = text::string(value).ok_or(wrong)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Singer's key_properties: a list of names; missing or null is none.
fn key_properties(value: Option<&[u8]>, max_depth: usize) -> Result<Vec<String>, Bad> {
    let wrong = Bad {
        code: "schema.invalid",
        message: "key_properties must be a list of strings",
        at: 0,
    };
    let mut keys = Vec::new();
    let Some(list) = value.filter(|value| *value != b"null") else {
        return Ok(keys);
    };
    crate::scan::each_element(list, max_depth, |element| {
        keys.push(text::string(element).ok_or(wrong)?.into_owned());
        Ok::<(), Bad>(())
    })
    .map_err(|_| wrong)?;
    Ok(keys)
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
