//! Types of CSV columns from a sample of their texts.

use dativo_wire::temporal;

use super::{Chunks, header, unquote};
use crate::columns::{boolean, is_number, long};
use crate::config::Csv;
use std::fs::File;

/// Kinds of texts, a bit each; what a column may still be after all texts of it were seen.
const BOOLEAN: u8 = 1;
const INTEGER: u8 = 2;
const NUMBER: u8 = 4;
const DATE: u8 = 8;
const TIME: u8 = 16;
const NAIVE: u8 = 32;
const ZONED: u8 = 64;

/// What is known of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub name: String,
    /// All of them until the first text.
    kinds: u8,
    any: bool,
}

impl Seen {
    pub fn new(name: String) -> Seen {
        Seen {
            name,
            kinds: u8::MAX,
            any: false,
        }
    }

    /// Take note of a text that does not stand for null.
    pub fn see(&mut self, text: &[u8]) {
        self.any = true;
        if self.kinds != 0 {
            self.kinds &= kinds_of(text);
        }
    }

    /// Its JSON Schema.
    pub fn schema(&self) -> &'static str {
        let is = |kind: u8| self.any && self.kinds & kind != 0;
        if is(BOOLEAN) {
            r#"{"type":["null","boolean"]}"#
        } else if is(INTEGER) {
            r#"{"type":["null","integer"]}"#
        } else if is(NUMBER) {
            r#"{"type":["null","number"]}"#
        } else if is(DATE) {
            r#"{"type":["null","string"],"format":"date"}"#
        } else if is(TIME) {
            r#"{"type":["null","string"],"format":"time","airbyte_type":"time_without_timezone"}"#
        } else if is(NAIVE) {
            r#"{"type":["null","string"],"format":"date-time","airbyte_type":"timestamp_without_timezone"}"#
        } else if is(ZONED) {
            r#"{"type":["null","string"],"format":"date-time","airbyte_type":"timestamp_with_timezone"}"#
        } else {
            r#"{"type":["null","string"]}"#
        }
    }
}

fn kinds_of(text: &[u8]) -> u8 {
    if boolean(text).is_some() {
        return BOOLEAN;
    }
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    // 007 is a code and not seven, and no number; a number of 20 digits is no double either.
    if is_number(text) {
        let is_whole = digits.iter().all(u8::is_ascii_digit);
        return match (is_whole, long(text)) {
            (true, None) => 0,
            (true, Some(_)) => INTEGER | NUMBER,
            (false, _) => NUMBER,
        };
    }
    if temporal::date(text).is_some() {
        DATE
    } else if temporal::timestamp(text).is_some() {
        NAIVE
    } else if temporal::timestamptz(text).is_some() {
        ZONED
    } else if temporal::time(text).is_some() {
        TIME
    } else {
        0
    }
}

/// Look at the records that lie whole in the first `sample_bytes` of a file; new columns are added to `seen`.
pub fn sample(
    file: &File,
    size: u64,
    sample_bytes: u64,
    csv: &Csv,
    seen: &mut Vec<Seen>,
) -> Result<(), String> {
    let mut chunks = Chunks::new(file, 0, size, csv);
    let Some(header) = header(&mut chunks, csv)? else {
        return Ok(());
    };
    let places: Vec<usize> = header
        .names
        .iter()
        .map(|name| {
            let known = seen.iter().position(|column| column.name == *name);
            known.unwrap_or_else(|| {
                seen.push(Seen::new(name.clone()));
                seen.len() - 1
            })
        })
        .collect();
    let mut chunks = Chunks::new(file, header.end, size, csv);
    let mut scratch = Vec::new();
    while chunks.offset < sample_bytes && chunks.advance()? {
        for record in 0..chunks.index.len() {
            let width = chunks.index.width(record);
            if width != places.len() {
                if chunks.is_blank(record) {
                    continue;
                }
                let at = chunks.offset + chunks.index.start(record) as u64;
                return Err(format!(
                    "at byte {at}: {width} fields, its header has {}",
                    places.len()
                ));
            }
            for (column, &place) in places.iter().enumerate() {
                let raw = chunks.raw(record, column, column + 1 == width);
                let (text, quoted) = match csv.quote {
                    Some(quote) => unquote(raw, quote, &mut scratch)?,
                    None => (raw, false),
                };
                let is_null = !quoted && csv.nulls.iter().any(|null| null == text);
                if !(is_null || text.is_empty() && quoted) {
                    seen[place].see(text);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(texts: &[&str]) -> &'static str {
        let mut seen = Seen::new("c".to_owned());
        for text in texts {
            seen.see(text.as_bytes());
        }
        seen.schema()
    }

    #[test]
    fn a_column_is_what_all_its_texts_are() {
        for (texts, expected) in [
            (&["true", "FALSE"][..], "boolean"),
            (&["1", "-2"], "integer"),
            (&["1", "2.5"], "number"),
            (&["1", "007"], r#"["null","string"]}"#),
            (&["99999999999999999999"], r#"["null","string"]}"#),
            (&["1", "true"], r#"["null","string"]}"#),
            (&["2026-11-23"], r#""format":"date"}"#),
            (&["2026-11-23T12:00:00Z"], "timestamp_with_timezone"),
            (&["2026-11-23 12:00:00"], "timestamp_without_timezone"),
            (&["12:00:00"], "time_without_timezone"),
            (
                &["2026-11-23", "2026-11-23T12:00:00Z"],
                r#"["null","string"]}"#,
            ),
            (&[], r#"["null","string"]}"#),
        ] {
            let found = schema(texts);
            assert!(found.contains(expected), "{texts:?}: {found}");
        }
    }
}
