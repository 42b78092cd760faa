//! Control messages of the writer (docs/spec/events.md).

pub use dativo_channel::events::{Counts, Dialect, StateSeen, Stats, StreamId, Undeclared};
use dativo_channel::layout::{PartitionField, SortField};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::metadata;
use crate::plan::{PlannedColumn, SchemaColumn};

/// What the kernel says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Command {
    Open(Box<Open>),
    StreamPlan(StreamPlan),
    Seal,
    Committed(Committed),
    Finish(Finish),
    Abort,
}

/// The source is done.
#[derive(Clone, Copy, Deserialize)]
pub struct Finish {
    #[serde(default)]
    pub rest: Rest,
    /// The source is known to have given everything.
    #[serde(default)]
    pub complete: bool,
    /// The rest of the input is not waited for.
    #[serde(default)]
    pub at_once: bool,
}

/// What becomes of rows that no state covers.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Rest {
    #[default]
    Commit,
    /// They are cut off.
    Checkpoint,
}

#[derive(Deserialize)]
pub struct Open {
    pub input: String,
    pub dialect: Dialect,
    pub staging: String,
    pub streams: Vec<Declared>,
    pub undeclared: Undeclared,
    /// Refuse what is tolerated otherwise.
    #[serde(default)]
    pub strict: bool,
    /// Tell every state that an epoch makes durable.
    #[serde(default)]
    pub echo: bool,
    #[serde(default)]
    pub numbers: Numbers,
    /// Properties that a source may send although nobody chose them.
    #[serde(default)]
    pub deselected: Vec<Deselected>,
    /// Columns beside those of the source.
    pub metadata: Option<metadata::Order>,
    /// Cut at the first state that covers rows, whatever the limits of an epoch say.
    #[serde(default)]
    pub first_state: bool,
    /// Where the folder is that the source may leave files in.
    pub exchange: Option<String>,
    /// The source may write batches.
    #[serde(default)]
    pub batches: bool,
    pub limits: Limits,
    pub epoch: EpochLimits,
    pub max_epochs_waiting: usize,
    pub parquet: Parquet,
}

/// What becomes of numbers whose schema says nothing of their digits.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Numbers {
    #[default]
    Double,
    Decimal,
    Text,
}

impl From<Numbers> for dativo_wire::schema::Numbers {
    fn from(numbers: Numbers) -> Self {
        match numbers {
            Numbers::Double => Self::Double,
            Numbers::Decimal => Self::Decimal,
            Numbers::Text => Self::Text,
        }
    }
}

#[derive(Deserialize)]
pub struct Deselected {
    pub stream: StreamId,
    pub properties: Vec<String>,
}

#[derive(Deserialize)]
pub struct Declared {
    pub stream: StreamId,
    pub json_schema: Option<String>,
    #[serde(default)]
    pub key: Vec<String>,
    #[serde(default)]
    pub contract: Contract,
}

/// What is done about values that do not fit their columns.
#[derive(Clone, Copy, Default, Deserialize)]
pub struct Contract {
    pub values: Misfits,
    /// More of them in a run are a failure.
    pub max_rejects: u64,
    /// The line that they stood in is kept too.
    #[serde(default)]
    pub keep_text: bool,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Misfits {
    #[default]
    Fail,
    DiscardRow,
    DiscardValue,
}

#[derive(Clone, Copy, Deserialize)]
pub struct Limits {
    pub max_line_bytes: usize,
    pub max_depth: usize,
    pub max_columns: usize,
    pub max_streams: usize,
    pub max_state_bytes: usize,
    pub max_text_lines: u64,
    /// Bytes in all; absent for what nobody was granted.
    #[serde(default)]
    pub max_output_bytes: Option<u64>,
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
    /// Of a stream that was not declared.
    pub contract: Option<Contract>,
    /// The last epoch that was committed before the run.
    #[serde(default)]
    pub epoch: u64,
    /// The generation that the stream's rows belong to, where it overwrites.
    pub generation: Option<i64>,
    pub columns: Vec<PlannedColumn>,
    /// How rows are laid out in files.
    #[serde(default)]
    pub partition: Vec<PartitionField>,
    #[serde(default)]
    pub sort: Vec<SortField>,
}

#[derive(Deserialize)]
pub struct Committed {
    pub sequence: u64,
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
#[serde(tag = "type", rename = "sealed")]
pub struct Sealed<'a> {
    pub input: &'a str,
    pub sequence: u64,
    #[serde(rename = "final")]
    pub last: bool,
    /// The source is known to have given everything, and all of it is sealed.
    pub complete: bool,
    pub files: Vec<SealedFile>,
    pub states: Vec<SealedState>,
    pub echo: Vec<Echo>,
    pub activations: Vec<Activation>,
    /// Files of the exchange folder, all of whose rows are in this epoch or earlier ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub consumed: Vec<String>,
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
    /// Singer's `version` of all rows in it.
    pub version: Option<i64>,
    /// The one partition that its rows are of, where the table has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<Vec<Value>>,
    /// The stream that it is sealed with: its own, but for rejects.
    #[serde(skip)]
    pub of: StreamId,
}

#[derive(Serialize)]
pub struct SealedState {
    pub kind: &'static str,
    pub stream: Option<StreamId>,
    pub text: String,
    /// What it takes in the message.
    #[serde(skip)]
    pub message_bytes: usize,
}

/// A state of the input, counted from 1.
#[derive(Serialize)]
pub struct Echo {
    pub number: u64,
    pub text: String,
    /// None: it speaks for the whole source.
    #[serde(skip)]
    pub stream: Option<StreamId>,
    /// What it takes in the message.
    #[serde(skip)]
    pub message_bytes: usize,
}

/// A stream's last ACTIVATE_VERSION.
#[derive(Serialize)]
pub struct Activation {
    pub stream: StreamId,
    pub version: i64,
}
