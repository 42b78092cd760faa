//! The messages of both dialects, their keys in any order, every part a slice of the line.
//!
//! A RECORD is handed out as soon as its stream is known, with the cursor at its data, so that the data is
//! read once, by whoever decodes it; [`Record::finish`] then checks the rest of the line.

use std::borrow::Cow;

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
    Notice(Notice<'a>),
}

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

/// What a source says besides records, schemas and states. Texts are not clipped yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Notice<'a> {
    pub kind: NoticeKind,
    pub level: Option<Cow<'a, str>>,
    pub text: Cow<'a, [u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    Log,
    TraceError,
    TraceStatus,
    TraceEstimate,
    TraceOther,
    Control,
    Text,
    Unknown,
}

impl NoticeKind {
    /// The name in a `message` event.
    pub fn name(self) -> &'static str {
        match self {
            NoticeKind::Log => "log",
            NoticeKind::TraceError => "trace_error",
            NoticeKind::TraceStatus => "trace_status",
            NoticeKind::TraceEstimate => "trace_estimate",
            NoticeKind::TraceOther => "trace_other",
            NoticeKind::Control => "control",
            NoticeKind::Text => "text",
            NoticeKind::Unknown => "unknown",
        }
    }
}

/// A RECORD whose data has perhaps not been looked at yet.
#[derive(Debug)]
pub struct Record<'a> {
    /// Its namespace may still follow the data: see [`Record::finish`].
    pub stream: StreamRef<'a>,
    scanner: Scanner<'a>,
    tail: Tail,
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

/// The bit of a key of `record` in Airbyte's RECORD; 0 for one that means nothing here.
#[inline(always)]
fn inner_key(key: &[u8]) -> u16 {
    match key {
        b"stream" => STREAM,
        b"data" => DATA,
        b"namespace" => NAMESPACE,
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
        _ => 0,
    }
}

impl<'a> Record<'a> {
    /// A cursor at the record's data.
    #[inline(always)]
    pub fn data(&self) -> Scanner<'a> {
        self.scanner
    }

    /// Whether keys that could name a namespace are still to be read.
    pub fn is_open(&self) -> bool {
        self.tail != Tail::None
    }

    /// Check the rest of the line; `end` stands behind the data. A namespace that came only there is returned:
    /// the record belongs to that stream instead.
    #[inline(always)]
    pub fn finish(&mut self, end: Scanner<'a>) -> Result<Option<Cow<'a, str>>, Bad> {
        let mut namespace = None;
        let mut scanner = end;
        let mut outer = match std::mem::replace(&mut self.tail, Tail::None) {
            Tail::None => return Ok(None),
            Tail::Outer(outer) => outer,
            Tail::Inner { outer, mut inner } => {
                while scanner.more(b'}')? {
                    let at = scanner.pos();
                    let key = inner_key(&scanner.key()?);
                    inner.add(key, at)?;
                    let value = scanner.value()?;
                    if key == NAMESPACE {
                        namespace = namespace_of(value, at)?;
                    }
                }
                outer
            }
        };
        let dialect = if outer.0 & STREAM != 0 {
            Dialect::Singer
        } else {
            Dialect::Airbyte
        };
        while scanner.more(b'}')? {
            let at = scanner.pos();
            outer.add(outer_key(dialect, &scanner.key()?), at)?;
            scanner.value()?;
        }
        scanner.end()?;
        Ok(namespace)
    }
}

/// Read one message. `line` must be UTF-8.
#[inline]
pub fn read<'a>(dialect: Dialect, line: &'a [u8], max_depth: usize) -> Result<Message<'a>, Bad> {
    let mut scanner = Scanner::new(line, max_depth);
    scanner.skip_space();
    scanner.enter(b'{', "expected an object")?;
    let mut seen = Seen::default();
    let mut stream = None;
    let mut is_record = false;
    let mut more = scanner.peek() != b'}';
    while more {
        let at = scanner.pos();
        let key = outer_key(dialect, &scanner.key()?);
        seen.add(key, at)?;
        match key {
            TYPE => is_record = type_is(dialect, "RECORD", scanner.value()?),
            STREAM => stream = Some(scanner.value()?),
            RECORD if is_record && dialect == Dialect::Singer && stream.is_some() => {
                let name = name_of(stream.unwrap_or_default(), "stream", at)?;
                let stream = StreamRef {
                    namespace: None,
                    name,
                };
                return Ok(Message::Record(Record {
                    stream,
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
            _ => {
                scanner.value()?;
            }
        }
        more = scanner.more(b'}')?;
    }
    whole(dialect, line, max_depth)
}

/// Airbyte's `record` object at the cursor, if its stream comes before its data.
#[inline(always)]
fn eager<'a>(mut scanner: Scanner<'a>, outer: Seen) -> Result<Option<Record<'a>>, Bad> {
    scanner.enter(b'{', "record must be an object")?;
    let mut inner = Seen::default();
    let (mut stream, mut namespace) = (None, None);
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
                    scanner,
                    tail: Tail::Inner { outer, inner },
                }));
            }
            (DATA, None) => return Ok(None),
            (STREAM, _) => stream = Some(scanner.value()?),
            (NAMESPACE, _) => namespace = namespace_of(scanner.value()?, at)?,
            _ => {
                scanner.value()?;
            }
        }
        more = scanner.more(b'}')?;
    }
    Ok(None)
}

/// A message in whole: every kind but the usual RECORD.
fn whole<'a>(dialect: Dialect, line: &'a [u8], max_depth: usize) -> Result<Message<'a>, Bad> {
    match dialect {
        Dialect::Singer => singer(line, max_depth),
        Dialect::Airbyte => airbyte(line, max_depth),
    }
}

fn singer<'a>(line: &'a [u8], max_depth: usize) -> Result<Message<'a>, Bad> {
    let names = [
        "type",
        "stream",
        "record",
        "value",
        "schema",
        "key_properties",
    ];
    let [kind, stream, record, value, schema, keys] = members(line, max_depth, names)?;
    let kind = kind_of(kind)?;
    let stream = || {
        let name = stream.ok_or(invalid("the message has no stream"))?;
        Ok(StreamRef {
            namespace: None,
            name: name_of(name, "stream", 0)?,
        })
    };
    if kind.eq_ignore_ascii_case("RECORD") {
        let record = record.ok_or(invalid("a RECORD without record"))?;
        return Ok(Message::Record(apart(stream()?, line, record, max_depth)));
    }
    if kind.eq_ignore_ascii_case("STATE") {
        let text = payload(value)?;
        return Ok(Message::State(State {
            kind: StateKind::Singer,
            text,
        }));
    }
    if kind.eq_ignore_ascii_case("SCHEMA") {
        let missing = Bad {
            code: "schema.invalid",
            message: "a SCHEMA without schema",
            at: 0,
        };
        let schema = schema.ok_or(missing)?;
        return Ok(Message::Schema {
            stream: stream()?,
            schema,
            keys: key_properties(keys, max_depth)?,
        });
    }
    Ok(unknown(line))
}

fn airbyte<'a>(line: &'a [u8], max_depth: usize) -> Result<Message<'a>, Bad> {
    let names = ["type", "record", "state", "log", "trace", "control"];
    let [kind, record, state, log, trace, control] = members(line, max_depth, names)?;
    let kind = kind_of(kind)?;
    match kind.as_ref() {
        "RECORD" => {
            let record = record.ok_or(invalid("a RECORD without record"))?;
            let [stream, data, namespace] =
                members(record, max_depth, ["stream", "data", "namespace"])?;
            let name = name_of(
                stream.ok_or(invalid("a RECORD without stream"))?,
                "stream",
                0,
            )?;
            let namespace = namespace.map_or(Ok(None), |value| namespace_of(value, 0))?;
            let data = data.ok_or(invalid("a RECORD without data"))?;
            Ok(Message::Record(apart(
                StreamRef { namespace, name },
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
        _ => Ok(unknown(line)),
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
    let given = |part: Option<&'a [u8]>| part.filter(|value| *value != b"null");
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
    line: &'a [u8],
    data: &'a [u8],
    max_depth: usize,
) -> Record<'a> {
    let mut scanner = Scanner::new(line, max_depth);
    // `data` is a part of `line`: the distance of their starts is its offset.
    scanner.advance(data.as_ptr() as usize - line.as_ptr() as usize);
    Record {
        stream,
        scanner,
        tail: Tail::None,
    }
}

fn unknown(line: &[u8]) -> Message<'_> {
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
fn type_is(dialect: Dialect, name: &str, value: &[u8]) -> bool {
    let bare = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    bare.is_some_and(|bare| match dialect {
        Dialect::Airbyte => bare == name.as_bytes(),
        Dialect::Singer => bare.eq_ignore_ascii_case(name.as_bytes()),
    })
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
