//! Control messages that several programs send (docs/spec/events.md).

use std::collections::BTreeMap;

use dativo_wire::envelope;
use dativo_wire::fault::{Fault, StreamName, clip};
use dativo_wire::oddity::Oddities;
use serde::{Deserialize, Serialize, Serializer};

/// The longest stream name in an event about a stream that was not declared.
const MAX_FOREIGN_NAME_CHARS: usize = 200;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    Airbyte,
    Singer,
}

impl From<Dialect> for envelope::Dialect {
    fn from(dialect: Dialect) -> envelope::Dialect {
        match dialect {
            Dialect::Airbyte => envelope::Dialect::Airbyte,
            Dialect::Singer => envelope::Dialect::Singer,
        }
    }
}

/// What to do with streams that were not declared. Only a Singer SCHEMA can declare one.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Undeclared {
    Refuse,
    Accept,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StreamId {
    pub namespace: Option<String>,
    pub name: String,
}

impl StreamId {
    /// As the kernel wrote it; an empty namespace is none.
    pub fn into_name(self) -> StreamName {
        StreamName {
            namespace: self.namespace.filter(|text| !text.is_empty()),
            name: self.name,
        }
    }
}

impl From<&StreamName> for StreamId {
    fn from(stream: &StreamName) -> StreamId {
        StreamId {
            namespace: stream.namespace.clone(),
            name: stream.name.clone(),
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "hello")]
pub(crate) struct Hello {
    pub protocol: &'static str,
    pub program: &'static str,
    pub version: &'static str,
    pub features: &'static [&'static str],
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "state_seen")]
pub struct StateSeen<'a> {
    pub input: &'a str,
    pub kind: &'static str,
    pub stream: Option<StreamId>,
    pub line: u64,
}

#[derive(Serialize)]
pub struct Counts {
    pub stream: StreamId,
    pub read: u64,
    pub written: u64,
    pub rejected: u64,
    pub filtered: u64,
    /// Values that became null, in rows that are written.
    #[serde(skip_serializing_if = "is_zero")]
    pub discarded: u64,
    /// Values that the source says it nulled or shortened itself (Airbyte's `meta.changes`), in rows that are written.
    #[serde(skip_serializing_if = "is_zero")]
    pub changed: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How far reading has come.
#[derive(Serialize)]
pub struct Reading {
    pub bytes: u64,
    pub lines: u64,
    /// How long the pipe has been empty now, and in all.
    pub idle_s: f64,
    pub waited_s: f64,
    /// How long reading has stood still in all.
    pub blocked_s: f64,
    /// The source's output has ended and every whole line of it is taken.
    pub ended: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "stats")]
pub struct Stats<'a> {
    pub input: &'a str,
    #[serde(flatten)]
    pub reading: Reading,
    pub text_lines: u64,
    pub suppressed: u64,
    pub staged_bytes: u64,
    #[serde(serialize_with = "by_name")]
    pub oddities: &'a Oddities,
    pub counts: Vec<Counts>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "message")]
pub struct Message<'a> {
    pub input: &'a str,
    pub kind: &'static str,
    pub level: &'a str,
    pub text: &'a str,
    pub line: u64,
    pub suppressed: u64,
}

/// The `error` event: what is not known is left out.
#[derive(Serialize)]
#[serde(tag = "type", rename = "error")]
pub(crate) struct Failure<'a> {
    pub code: &'a str,
    pub blame: &'static str,
    pub message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
    #[serde(flatten)]
    pub place: BTreeMap<&'static str, u64>,
    #[serde(flatten)]
    pub texts: BTreeMap<&'static str, &'a str>,
}

impl<'a> Failure<'a> {
    pub fn new(fault: &'a Fault) -> Failure<'a> {
        let clipped = |text: &str| clip(text.as_bytes(), MAX_FOREIGN_NAME_CHARS).into_owned();
        let stream = fault
            .stream
            .as_ref()
            .filter(|stream| !stream.name.is_empty());
        Failure {
            code: fault.code,
            blame: fault.blame.name(),
            message: &fault.message,
            stream: stream.map(|stream| StreamId {
                namespace: stream.namespace.as_deref().map(clipped),
                name: clipped(&stream.name),
            }),
            place: [("line", fault.line), ("byte", fault.byte)]
                .into_iter()
                .filter_map(given)
                .collect(),
            texts: [
                ("field", &fault.field),
                ("value", &fault.value),
                ("hint", &fault.hint),
            ]
            .into_iter()
            .filter_map(|(name, text)| given((name, text.as_deref())))
            .collect(),
        }
    }
}

fn given<T>((name, value): (&'static str, Option<T>)) -> Option<(&'static str, T)> {
    value.map(|value| (name, value))
}

fn by_name<S: Serializer>(oddities: &Oddities, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(oddities.counted())
}
