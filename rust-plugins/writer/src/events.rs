//! Control messages of the writer (docs/spec/events.md).

use std::collections::BTreeMap;

use dativo_wire::fault::{Fault, StreamName, clip};
use serde::{Deserialize, Serialize};

/// The longest stream name in an event about a stream that was not declared.
const MAX_FOREIGN_NAME_CHARS: usize = 200;

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

/// What the kernel says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Command {
    Open(Box<Open>),
    StreamPlan(StreamPlan),
    Seal,
    Committed(Committed),
    Finish,
    Abort,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum OpenDialect {
    Airbyte,
    Singer,
}

/// What to do with streams that were not declared.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undeclared {
    Refuse,
}

#[derive(Deserialize)]
pub struct Open {
    pub input: String,
    pub dialect: OpenDialect,
    pub staging: String,
    pub streams: Vec<Declared>,
    #[serde(rename = "undeclared")]
    pub _undeclared: Undeclared,
    pub limits: Limits,
    pub epoch: EpochLimits,
    pub max_epochs_waiting: usize,
    pub parquet: Parquet,
}

#[derive(Deserialize)]
pub struct Declared {
    pub stream: StreamId,
    pub json_schema: Option<String>,
    #[serde(default)]
    pub key: Vec<String>,
}

#[derive(Clone, Copy, Deserialize)]
pub struct Limits {
    pub max_line_bytes: usize,
    pub max_depth: usize,
    pub max_columns: usize,
    pub max_streams: usize,
    pub max_state_bytes: usize,
    pub max_text_lines: u64,
    pub max_staged_bytes: u64,
    pub memory_bytes: usize,
}

#[derive(Clone, Copy, Deserialize)]
pub struct EpochLimits {
    pub max_bytes: u64,
    pub max_rows: u64,
    pub max_seconds: u64,
}

#[derive(Clone, Copy, Deserialize)]
pub struct Parquet {
    pub row_group_rows: usize,
    pub file_bytes: u64,
    pub zstd_level: i32,
}

#[derive(Deserialize)]
pub struct StreamPlan {
    pub stream: StreamId,
    pub revision: u32,
    pub columns: Vec<PlannedColumn>,
}

#[derive(Deserialize)]
pub struct PlannedColumn {
    pub property: String,
    pub column: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub field_id: i32,
    #[serde(default)]
    pub required: bool,
}

#[derive(Deserialize)]
pub struct Committed {
    pub sequence: u64,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "hello")]
pub struct Hello {
    pub protocol: &'static str,
    pub program: &'static str,
    pub version: &'static str,
    pub features: [&'static str; 0],
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "stream_schema")]
pub struct StreamSchema<'a> {
    pub input: &'a str,
    pub stream: StreamId,
    pub revision: u32,
    pub key: &'a [String],
    pub columns: Vec<SchemaColumn<'a>>,
}

#[derive(Serialize)]
pub struct SchemaColumn<'a> {
    pub property: &'a str,
    #[serde(rename = "type")]
    pub kind: String,
    pub json: bool,
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
#[serde(tag = "type", rename = "sealed")]
pub struct Sealed<'a> {
    pub input: &'a str,
    pub sequence: u64,
    #[serde(rename = "final")]
    pub last: bool,
    pub files: Vec<SealedFile>,
    pub states: Vec<SealedState>,
    pub counts: Vec<Counts>,
}

#[derive(Serialize)]
pub struct SealedFile {
    pub stream: StreamId,
    pub revision: u32,
    pub path: String,
    pub rows: u64,
    pub bytes: u64,
    pub sha256: String,
}

#[derive(Serialize)]
pub struct SealedState {
    pub kind: &'static str,
    pub stream: Option<StreamId>,
    pub text: String,
}

#[derive(Serialize)]
pub struct Counts {
    pub stream: StreamId,
    pub read: u64,
    pub written: u64,
    pub rejected: u64,
    pub filtered: u64,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "stats")]
pub struct Stats<'a> {
    pub input: &'a str,
    pub bytes: u64,
    pub lines: u64,
    pub text_lines: u64,
    pub suppressed: u64,
    pub idle_s: f64,
    pub blocked_s: f64,
    pub staged_bytes: u64,
    /// The source's output has ended and every whole line of it is taken.
    pub ended: bool,
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
pub struct Failure<'a> {
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
