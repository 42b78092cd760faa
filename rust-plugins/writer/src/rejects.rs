//! What a contract discards: counted per stream, kept for the table of rejects, and that table's columns.
//!
//! A stream's rejects wait in memory until the stream is sealed, or until they are too many and go to a file of its own: they are
//! committed with the rows between which they stood, and cut off with them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use dativo_wire::fault::{Blame, Fault, StreamName, clip_bytes};
use dativo_wire::framing::Line;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use crate::events::{StreamId, StreamPlan};
use crate::plan::{PlannedColumn, PlannedType, SchemaColumn, WantedType};

/// The stream that they are committed as. No source may have one of that name.
pub const STREAM: &str = "_dativo_rejects";
/// Kept of the line that a reject stood in.
pub const MAX_TEXT_BYTES: usize = 64 << 10;
/// What one takes in memory besides its texts.
const KEPT_BYTES: usize = 160;

/// The columns of the table, in the order of [`batch`].
const COLUMNS: [(&str, &str); 9] = [
    ("stream", "string"),
    ("line", "long"),
    ("byte", "long"),
    ("code", "string"),
    ("field", "string"),
    ("message", "string"),
    ("value", "string"),
    ("text", "string"),
    ("rejected_at", "timestamptz"),
];

/// How many: records that are not written, and values that became null in records that are.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Count {
    pub records: u64,
    pub values: u64,
}

impl Count {
    /// Rows of the table of rejects.
    pub fn rows(self) -> u64 {
        self.records + self.values
    }

    fn since(self, before: Count) -> Count {
        Count {
            records: self.records - before.records,
            values: self.values - before.values,
        }
    }
}

/// Those of one stream: in the whole run, up to the last state that speaks for it, and in sealed epochs.
#[derive(Default)]
pub struct Rejects {
    pub total: Count,
    pub mark: Count,
    pub sealed: Count,
    /// Not in a file yet, the newest last.
    kept: Vec<Kept>,
    kept_bytes: usize,
}

impl Rejects {
    /// Bytes that wait in memory.
    pub fn bytes(&self) -> usize {
        self.kept_bytes
    }

    pub fn keep(&mut self, reject: Kept) {
        self.kept_bytes += reject.bytes();
        self.kept.push(reject);
    }

    /// All that wait in memory.
    pub fn take(&mut self) -> Vec<Kept> {
        self.kept_bytes = 0;
        std::mem::take(&mut self.kept)
    }

    /// Forget what came behind the mark. Returns how many of them are in files already.
    pub fn cut_to_mark(&mut self) -> u64 {
        let behind = self.total.since(self.mark).rows();
        self.total = self.mark;
        let left = (self.kept.len() as u64).saturating_sub(behind) as usize;
        let cut = self.kept.len() - left;
        self.kept.truncate(left);
        self.kept_bytes = self.kept.iter().map(Kept::bytes).sum();
        behind - cut as u64
    }

    /// What the epoch that is being sealed adds.
    pub fn seal(&mut self) -> Count {
        let added = self.total.since(self.sealed);
        self.sealed = self.total;
        self.mark = self.total;
        added
    }
}

/// One of them.
pub struct Kept {
    fault: Box<Fault>,
    text: Option<String>,
    /// Microseconds since 1970.
    at: i64,
}

impl Kept {
    /// `fault` has place and stream; `line` is the one that it stands in.
    pub fn new(fault: Box<Fault>, line: Line<'_>, keep_text: bool) -> Kept {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let text = || clip_bytes(line.bytes, MAX_TEXT_BYTES).into_owned();
        Kept {
            fault,
            text: keep_text.then(text),
            at: since.map_or(0, |since| since.as_micros() as i64),
        }
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        let fault = &self.fault;
        let texts = [&fault.field, &fault.value, &self.text];
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let name = fault.stream.as_ref().map_or(0, |stream| stream.name.len());
        KEPT_BYTES + fault.message.len() + name + texts.into_iter().map(length).sum::<usize>()
    }
}

/// Whether a stream has the name that is reserved.
pub fn is_reserved(stream: &StreamName) -> bool {
    stream.namespace.is_none() && stream.name == STREAM
}

pub fn stream_id() -> StreamId {
    StreamId {
        namespace: None,
        name: STREAM.to_owned(),
    }
}

/// The columns to ask a table for.
pub fn wanted() -> Vec<SchemaColumn<'static>> {
    let column = |(property, kind): (&'static str, &str)| SchemaColumn {
        property,
        kind: WantedType::Name(kind.to_owned()),
        metadata: false,
    };
    COLUMNS.into_iter().map(column).collect()
}

/// The table that was planned for them.
pub fn schema(plan: &StreamPlan) -> Result<SchemaRef, Box<Fault>> {
    let wrong = |property: &str| {
        let message = "the plan's column does not hold what is kept of rejects";
        Fault::new("internal.plan", Blame::Dativo, message).field(property)
    };
    let mut fields = Vec::with_capacity(COLUMNS.len());
    for (property, kind) in COLUMNS {
        let is_of_kind = |column: &PlannedColumn| {
            let named = matches!(&column.kind, PlannedType::Name(name) if name == kind);
            column.property == property && named && !column.required
        };
        let planned = plan.columns.iter().find(|column| is_of_kind(column));
        let planned = planned.ok_or_else(|| wrong(property))?;
        let kind = match kind {
            "long" => DataType::Int64,
            "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            _ => DataType::Utf8,
        };
        let id = (
            PARQUET_FIELD_ID_META_KEY.to_owned(),
            planned.field_id.to_string(),
        );
        fields.push(Field::new(&planned.column, kind, true).with_metadata([id]));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The rows of the table, in their order.
pub fn batch(schema: &SchemaRef, kept: &[Kept]) -> Result<RecordBatch, Box<Fault>> {
    let texts = |of: fn(&Kept) -> Option<&str>| -> ArrayRef {
        Arc::new(kept.iter().map(of).collect::<StringArray>())
    };
    let longs = |of: fn(&Kept) -> Option<u64>| -> ArrayRef {
        let value = |kept: &Kept| of(kept).map(|value| value as i64);
        Arc::new(kept.iter().map(value).collect::<Int64Array>())
    };
    let streams = kept
        .iter()
        .map(|kept| kept.fault.stream.as_ref().map(shown));
    let at = kept.iter().map(|kept| kept.at);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(streams.collect::<StringArray>()),
        longs(|kept| kept.fault.line),
        longs(|kept| kept.fault.byte),
        texts(|kept| Some(kept.fault.code)),
        texts(|kept| kept.fault.field.as_deref()),
        texts(|kept| Some(&kept.fault.message)),
        texts(|kept| kept.fault.value.as_deref()),
        texts(|kept| kept.text.as_deref()),
        Arc::new(TimestampMicrosecondArray::from_iter_values(at).with_timezone("UTC")),
    ];
    RecordBatch::try_new(schema.clone(), columns)
        .map_err(|error| Fault::new("internal.batch", Blame::Dativo, error.to_string()))
}

/// A stream as people are shown it.
fn shown(stream: &StreamName) -> String {
    match &stream.namespace {
        Some(namespace) => format!("{namespace}.{}", stream.name),
        None => stream.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejects(kept: usize, total: u64, mark: u64) -> Rejects {
        let count = |records| Count { records, values: 0 };
        let mut rejects = Rejects {
            total: count(total),
            mark: count(mark),
            ..Rejects::default()
        };
        for _ in 0..kept {
            rejects.keep(Kept {
                fault: Fault::plugin("record.value", "no"),
                text: None,
                at: 0,
            });
        }
        rejects
    }

    #[test]
    fn what_came_behind_the_mark_is_forgotten_in_memory_first() {
        for (kept, total, mark, left, in_files) in [
            (5, 5, 5, 5, 0),
            (5, 5, 3, 3, 0),
            (2, 5, 3, 0, 0),
            (1, 5, 3, 0, 1),
            (0, 5, 0, 0, 5),
        ] {
            let mut rejects = rejects(kept, total, mark);
            let bytes = rejects.bytes();
            assert_eq!(rejects.cut_to_mark(), in_files);
            assert_eq!(rejects.kept.len(), left);
            assert_eq!(rejects.bytes(), bytes / kept.max(1) * left);
            assert_eq!(rejects.total, rejects.mark);
        }
    }

    #[test]
    fn an_epoch_has_what_came_since_the_last() {
        let mut rejects = rejects(3, 3, 0);
        assert_eq!(rejects.seal().rows(), 3);
        rejects.total.values += 2;
        let added = rejects.seal();
        assert_eq!((added.records, added.values), (0, 2));
        assert_eq!(rejects.take().len(), 3);
        assert_eq!(rejects.bytes(), 0);
    }
}
