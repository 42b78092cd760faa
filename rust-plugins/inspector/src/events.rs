//! Control messages of the inspector (docs/spec/events.md).

use dativo_channel::events::StreamId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::inspect::{Found, Measured};
use crate::plan::Plan;

/// What the kernel says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Command {
    Open(Open),
    StreamPlan(StreamPlan),
    Inspect(Inspect),
    Close,
}

#[derive(Deserialize)]
pub struct Open {
    pub input: String,
    pub staging: String,
}

#[derive(Deserialize)]
pub struct StreamPlan {
    pub stream: StreamId,
    pub revision: u32,
    #[serde(flatten)]
    pub plan: Plan,
}

#[derive(Deserialize)]
pub struct Inspect {
    pub sequence: u64,
    pub files: Vec<File>,
}

/// What the writer says of a file.
#[derive(Deserialize)]
pub struct File {
    pub stream: StreamId,
    pub revision: u32,
    pub path: String,
    pub rows: u64,
    pub bytes: u64,
    pub sha256: String,
    /// What all rows have in common, where the table has partitions.
    pub partition: Option<Vec<Value>>,
}

/// A file is what the writer says.
#[derive(Serialize)]
#[serde(tag = "type", rename = "inspected")]
pub struct Inspected<'a> {
    pub input: &'a str,
    pub sequence: u64,
    pub path: &'a str,
    pub rows: u64,
    pub bytes: u64,
    pub sha256: &'a str,
    pub columns: Vec<Metrics>,
}

#[derive(Serialize)]
pub struct Metrics {
    pub field_id: i32,
    pub bytes: u64,
    pub values: u64,
    pub nulls: u64,
    /// Of floats.
    pub nans: Option<u64>,
    pub lower: Option<String>,
    pub upper: Option<String>,
}

impl<'a> Inspected<'a> {
    pub fn new(input: &'a str, sequence: u64, file: &'a File, found: &'a Found) -> Inspected<'a> {
        Inspected {
            input,
            sequence,
            path: &file.path,
            rows: found.rows,
            bytes: file.bytes,
            sha256: &found.sha256,
            columns: found.columns.iter().map(Metrics::from).collect(),
        }
    }
}

impl From<&Measured> for Metrics {
    fn from(column: &Measured) -> Metrics {
        let (lower, upper) = column.seen.range.bounds(column.primitive);
        Metrics {
            field_id: column.field_id,
            bytes: column.bytes,
            values: column.seen.values,
            nulls: column.seen.nulls,
            nans: column.primitive.is_float().then_some(column.seen.nans),
            lower: lower.map(|bytes| base64(&bytes)),
            upper: upper.map(|bytes| base64(&bytes)),
        }
    }
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut three = [0; 4];
        three[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(three);
        for digit in 0..4 {
            let is_padding = digit > group.len();
            let value = bits >> (18 - 6 * digit) & 63;
            text.push(if is_padding {
                '='
            } else {
                DIGITS[value as usize].into()
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }
}
