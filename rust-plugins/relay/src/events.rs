//! Control messages of the relay (docs/spec/events.md).

pub use dativo_channel::events::{Counts, Dialect, StreamId, Undeclared};
use serde::{Deserialize, Serialize};

/// What the kernel says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Command {
    Open(Box<Open>),
    Release {
        number: u64,
    },
    Finish {
        complete: bool,
        /// The rest of the input is not waited for.
        #[serde(default)]
        at_once: bool,
    },
    Abort,
}

#[derive(Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Open {
    Pass(OpenPass),
    Acks(OpenAcks),
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum States {
    Pass,
    /// Until a `release`.
    Withhold,
    Drop,
}

#[derive(Deserialize)]
pub struct OpenPass {
    pub input: String,
    pub dialect: Dialect,
    #[serde(rename = "as")]
    pub to: Dialect,
    pub strict: bool,
    pub undeclared: Undeclared,
    pub streams: Vec<Declared>,
    /// The states that the source starts from.
    #[serde(default)]
    pub initial: Vec<Initial>,
    pub states: States,
    pub report_states: bool,
    pub statuses: bool,
    pub max_records: Option<u64>,
    /// Where both plugins see the folder of the files that they exchange.
    #[serde(default)]
    pub exchange: Option<String>,
    pub limits: Limits,
}

#[derive(Deserialize)]
pub struct Declared {
    pub stream: StreamId,
    /// Its name in a Singer output.
    pub name: String,
    pub key: Vec<String>,
    /// The text of its JSON Schema.
    pub schema: Option<String>,
    /// Fields that are left out of its records.
    #[serde(default)]
    pub drop: Vec<String>,
}

#[derive(Deserialize)]
pub struct Initial {
    /// None for a state of the whole source.
    pub stream: Option<StreamId>,
    pub text: String,
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
    pub max_withheld_bytes: usize,
}

#[derive(Deserialize)]
pub struct OpenAcks {
    pub input: String,
    pub dialect: Dialect,
    pub strict: bool,
    pub limits: Limits,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "state_passed")]
pub struct StatePassed<'a> {
    pub input: &'a str,
    pub number: u64,
    pub kind: &'static str,
    pub stream: Option<StreamId>,
    pub text: &'a str,
    pub sent: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "limited")]
pub struct Limited<'a> {
    pub input: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "acknowledged")]
pub struct Acknowledged<'a> {
    pub input: &'a str,
    pub line: u64,
    pub text: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "passed")]
pub struct Passed<'a> {
    pub input: &'a str,
    pub lines: u64,
    pub counts: Vec<Counts>,
}
