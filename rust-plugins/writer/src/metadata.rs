//! Columns that no source sends: which row it is, where it came from and when (docs/spec/metadata.md).
//!
//! They are columns of the table like others. Their values are known for a whole batch, or taken from what a RECORD carries
//! beside its data; only what a preset has is looked at.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow_array::builder::StringBuilder;
use arrow_array::{
    ArrayRef, Int64Array, StringArray, StructArray, TimestampMicrosecondArray, new_null_array,
};
use arrow_schema::{DataType, Field as ArrowField, FieldRef};
use dativo_wire::decode::{Decoder, Field, Kind, arrow_field};
use dativo_wire::envelope::{Dialect, Extras};
use dativo_wire::fault::{Blame, Fault, StreamName};
use dativo_wire::scan::{Bad, Scanner, each_element, members};
use dativo_wire::temporal;
use dativo_wire::types::{Column, Primitive, Shape};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::events::{StreamId, StreamPlan};
use crate::plan;

/// An id is a UUID of version 8 (RFC 9562): 60 bits of a hash, then the number of the row.
const ID_CHARS: usize = 36;
/// What a row's id takes in memory, and each of its times.
const ID_BYTES: usize = 8 + ID_CHARS + 4;
const TIME_BYTES: usize = 16;
const NO_CHANGES: &[u8] = br#"{"changes":[]}"#;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    Dativo,
    Singer,
    Airbyte,
}

/// Which columns a run's tables have beside those of its source, and what is the same in all of them.
#[derive(Clone, Deserialize)]
pub struct Order {
    pub columns: Preset,
    pub pipeline: String,
    /// What Airbyte's platform says of streams.
    #[serde(default)]
    pub streams: Vec<Sync>,
    /// Milliseconds since 1970 when the run was opened.
    #[serde(skip, default = "now_ms")]
    pub started_ms: i64,
}

/// Which sync of a stream this is to its platform, and which generation of it.
#[derive(Clone, Deserialize)]
pub struct Sync {
    pub stream: StreamId,
    pub sync: Option<i64>,
    pub generation: Option<i64>,
}

/// What fills a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Id,
    Epoch,
    ExtractedAt,
    ReceivedAt,
    BatchedAt,
    LoadedAt,
    DeletedAt,
    Sequence,
    TableVersion,
    SyncStartedAt,
    Meta,
    Generation,
}

impl Value {
    fn shape(self) -> Shape {
        let field = |property: &str, shape| Column {
            property: property.to_owned(),
            shape,
        };
        let text = |property| field(property, Shape::of(Primitive::String));
        match self {
            Value::Id => Shape::of(Primitive::String),
            Value::ExtractedAt
            | Value::ReceivedAt
            | Value::BatchedAt
            | Value::LoadedAt
            | Value::DeletedAt => Shape::of(Primitive::Timestamptz),
            Value::Epoch
            | Value::Sequence
            | Value::TableVersion
            | Value::SyncStartedAt
            | Value::Generation => Shape::of(Primitive::Long),
            Value::Meta => Shape::Struct(vec![
                field("sync_id", Shape::of(Primitive::Long)),
                field(
                    "changes",
                    Shape::List(Box::new(Shape::Struct(vec![
                        text("field"),
                        text("change"),
                        text("reason"),
                    ]))),
                ),
            ]),
        }
    }
}

impl Preset {
    fn values(self) -> &'static [(&'static str, Value)] {
        match self {
            Preset::Dativo => &[
                ("_dativo_id", Value::Id),
                ("_dativo_epoch", Value::Epoch),
                ("_dativo_extracted_at", Value::ExtractedAt),
                ("_dativo_loaded_at", Value::LoadedAt),
            ],
            Preset::Singer => &[
                ("_sdc_extracted_at", Value::ExtractedAt),
                ("_sdc_received_at", Value::ReceivedAt),
                ("_sdc_batched_at", Value::BatchedAt),
                (DELETED_AT, Value::DeletedAt),
                ("_sdc_sequence", Value::Sequence),
                ("_sdc_table_version", Value::TableVersion),
                ("_sdc_sync_started_at", Value::SyncStartedAt),
            ],
            Preset::Airbyte => &[
                ("_airbyte_raw_id", Value::Id),
                ("_airbyte_extracted_at", Value::ExtractedAt),
                ("_airbyte_meta", Value::Meta),
                ("_airbyte_generation_id", Value::Generation),
            ],
        }
    }

    /// The columns that it adds to those of `source`: a tap that tells of deletions has its own column for them.
    fn added(self, source: &[Column]) -> impl Iterator<Item = (&'static str, Value)> {
        let has = |name: &str| source.iter().any(|column| column.property == name);
        let told = has(DELETED_AT);
        let all = self.values().iter().copied();
        all.filter(move |&(name, _)| name != DELETED_AT || !told)
    }

    /// The columns to ask for beside those of `source`, none of which may have the name of one.
    pub fn columns(self, source: &[Column]) -> Result<Vec<Column>, Box<Fault>> {
        let added = self.added(source).map(|(name, value)| {
            if source.iter().any(|column| column.property == name) {
                let message = "the source has a property of the name of a metadata column";
                return Err(Fault::plugin("schema.reserved", message)
                    .field(name)
                    .hint("deselect the property, or set target.metadata otherwise"));
            }
            Ok(Column {
                property: name.to_owned(),
                shape: value.shape(),
            })
        });
        added.collect()
    }
}

const DELETED_AT: &str = "_sdc_deleted_at";

/// The metadata columns of one table, and their values in its open batch.
pub struct Metadata {
    columns: Vec<(Value, Field, FieldRef)>,
    origin: Origin,
    rows: Rows,
}

/// What is the same in all rows of a table.
struct Origin {
    /// How every id begins.
    prefix: String,
    /// The first epoch of the run.
    epoch: i64,
    sync: i64,
    generation: i64,
    started_ms: i64,
}

/// What differs from row to row, as far as it is wanted.
#[derive(Default)]
struct Rows {
    count: usize,
    /// When the first of them came, in microseconds since 1970.
    began: i64,
    numbers: Option<Vec<u64>>,
    extracted: Option<Vec<Option<i64>>>,
    received: Option<Vec<i64>>,
    changes: Option<Decoder>,
}

impl Metadata {
    /// The metadata columns of the table that `plan` gives for a stream with the columns `source`; they are taken out of the plan.
    pub fn take(
        order: &Order,
        stream: &StreamName,
        source: &[Column],
        plan: &mut StreamPlan,
    ) -> Result<Metadata, Box<Fault>> {
        let asked = order.columns.columns(source)?;
        let is_asked = |property: &str| asked.iter().any(|column| column.property == property);
        let (planned, rest) = std::mem::take(&mut plan.columns)
            .into_iter()
            .partition(|column| is_asked(&column.property));
        plan.columns = rest;
        let mut columns = Vec::new();
        for field in plan::fields(&asked, &[], planned)? {
            let named = |&(name, _): &(&str, Value)| name == field.property;
            let Some((_, value)) = order.columns.added(source).find(named) else {
                continue;
            };
            let fits = matches!(
                (&field.kind, value.shape()),
                (Kind::Value { .. }, Shape::Value { .. }) | (Kind::Struct(_), Shape::Struct(_))
            );
            if !fits {
                let message = format!("the table's column is not {}", value.shape());
                return Err(Fault::new("schema.conflict", Blame::User, message)
                    .field(field.property)
                    .hint("set target.metadata otherwise, or write into another namespace"));
            }
            let arrow = Arc::new(arrow_field(&field));
            columns.push((value, field, arrow));
        }
        let epoch = plan.epoch as i64 + 1;
        let told = order
            .streams
            .iter()
            .find(|told| told.stream == StreamId::from(stream));
        let generation = told.and_then(|told| told.generation).or(plan.generation);
        let origin = Origin {
            prefix: id_prefix(&order.pipeline, stream, epoch),
            epoch,
            sync: told.and_then(|told| told.sync).unwrap_or(epoch),
            generation: generation.unwrap_or_default(),
            started_ms: order.started_ms,
        };
        let rows = Rows::of(&columns);
        Ok(Metadata {
            columns,
            origin,
            rows,
        })
    }

    pub fn arrow_fields(&self) -> impl Iterator<Item = FieldRef> {
        self.columns.iter().map(|(_, _, arrow)| arrow.clone())
    }

    /// Bytes that a row takes besides what the source changed in it.
    pub fn row_bytes(&self) -> usize {
        let bytes = self.columns.iter().map(|(value, ..)| match value {
            Value::Id => ID_BYTES,
            _ => TIME_BYTES,
        });
        bytes.sum()
    }

    /// Bytes that changes take in the open batch besides their texts.
    pub fn list_bytes(&self) -> usize {
        self.rows.changes.as_ref().map_or(0, Decoder::list_bytes)
    }

    /// Take what belongs to the next row, the `number`th of its stream in this run. The fault has no place yet.
    pub fn push(
        &mut self,
        number: u64,
        dialect: Dialect,
        extras: &Extras<'_>,
        max_depth: usize,
    ) -> Result<(), Box<Fault>> {
        self.rows.push(number, dialect, extras, max_depth)
    }

    /// Keep the first `rows` rows of the open batch.
    pub fn truncate(&mut self, rows: usize) {
        self.rows.truncate(rows);
    }

    /// The columns of the open batch, all of whose rows have Singer's `version`; the next one is empty.
    pub fn finish(&mut self, version: Option<i64>) -> Result<Vec<ArrayRef>, Box<Fault>> {
        let mut rows = std::mem::replace(&mut self.rows, Rows::of(&self.columns));
        self.arrays(&mut rows, version)
    }

    /// The columns of `count` rows that carry nothing beside their data; the first is the `number`th of its stream.
    pub fn of_bare_rows(&self, number: u64, count: usize) -> Result<Vec<ArrayRef>, Box<Fault>> {
        let mut rows = Rows::of(&self.columns);
        for number in number..number + count as u64 {
            rows.push(number, Dialect::Singer, &Extras::default(), 8)?;
        }
        self.arrays(&mut rows, None)
    }

    fn arrays(&self, rows: &mut Rows, version: Option<i64>) -> Result<Vec<ArrayRef>, Box<Fault>> {
        let now = now_us();
        let columns = self.columns.iter();
        columns
            .map(|(value, field, arrow)| {
                rows.array(*value, field, arrow, &self.origin, version, now)
            })
            .collect()
    }
}

impl Rows {
    fn of(columns: &[(Value, Field, FieldRef)]) -> Rows {
        let has = |wanted: Value| columns.iter().find(|(value, ..)| *value == wanted);
        let received = has(Value::ReceivedAt).or(has(Value::Sequence));
        Rows {
            count: 0,
            began: 0,
            numbers: has(Value::Id).map(|_| Vec::new()),
            extracted: has(Value::ExtractedAt).map(|_| Vec::new()),
            received: received.map(|_| Vec::new()),
            changes: has(Value::Meta).and_then(|(_, field, _)| {
                let changes = inner(field).iter().find(|one| one.property == "changes");
                changes.map(|field| Decoder::new(vec![field.clone()]))
            }),
        }
    }

    fn push(
        &mut self,
        number: u64,
        dialect: Dialect,
        extras: &Extras<'_>,
        max_depth: usize,
    ) -> Result<(), Box<Fault>> {
        if self.count == 0 {
            self.began = now_us();
        }
        if let Some(extracted) = &mut self.extracted {
            extracted.push(extracted_at(dialect, extras)?);
        }
        if let Some(changes) = &mut self.changes {
            let meta = extras.meta.unwrap_or(NO_CHANGES);
            let taken = changes.push(Scanner::new(meta, max_depth));
            taken.map_err(|reject| {
                let mut fault = reject.fault(meta).below("meta");
                fault.code = "message.invalid";
                fault
            })?;
        }
        if let Some(numbers) = &mut self.numbers {
            numbers.push(number);
        }
        if let Some(received) = &mut self.received {
            received.push(now_us());
        }
        self.count += 1;
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        self.count = self.count.min(rows);
        if let Some(numbers) = &mut self.numbers {
            numbers.truncate(rows);
        }
        if let Some(extracted) = &mut self.extracted {
            extracted.truncate(rows);
        }
        if let Some(received) = &mut self.received {
            received.truncate(rows);
        }
        if let Some(changes) = self.changes.as_mut().filter(|all| all.rows() > rows) {
            changes.truncate(rows);
        }
    }

    /// The column that `value` fills in all rows.
    fn array(
        &mut self,
        value: Value,
        field: &Field,
        arrow: &ArrowField,
        origin: &Origin,
        version: Option<i64>,
        now: i64,
    ) -> Result<ArrayRef, Box<Fault>> {
        let count = self.count;
        let all = |number: i64| -> ArrayRef { Arc::new(Int64Array::from_value(number, count)) };
        let received = self.received.as_deref().unwrap_or_default();
        Ok(match value {
            Value::Id => Arc::new(ids(
                &origin.prefix,
                self.numbers.as_deref().unwrap_or_default(),
            )),
            Value::Epoch => all(origin.epoch),
            Value::Generation => all(origin.generation),
            Value::SyncStartedAt => all(origin.started_ms),
            Value::TableVersion => match version {
                Some(version) => all(version),
                None => new_null_array(&DataType::Int64, count),
            },
            Value::Sequence => {
                let milliseconds = received.iter().map(|us| us / 1000);
                Arc::new(Int64Array::from_iter_values(milliseconds))
            }
            Value::ExtractedAt => times(self.extracted.take().unwrap_or_default()),
            Value::ReceivedAt => times(received.iter().copied().map(Some).collect()),
            Value::BatchedAt => times(vec![Some(self.began); count]),
            Value::LoadedAt => times(vec![Some(now); count]),
            Value::DeletedAt => new_null_array(arrow.data_type(), count),
            Value::Meta => {
                let DataType::Struct(fields) = arrow.data_type() else {
                    return Err(internal("no struct"));
                };
                let mut changes = self.changes.as_mut().map(Decoder::finish);
                let parts = inner(field)
                    .iter()
                    .map(|part| match part.property.as_str() {
                        "changes" => changes
                            .as_mut()
                            .and_then(Vec::pop)
                            .ok_or_else(|| internal("no changes")),
                        _ => Ok(all(origin.sync)),
                    });
                let parts = parts.collect::<Result<Vec<_>, _>>()?;
                let array = StructArray::try_new(fields.clone(), parts, None);
                Arc::new(array.map_err(|error| internal(error.to_string()))?)
            }
        })
    }
}

/// The fields of a struct.
fn inner(field: &Field) -> &[Field] {
    match &field.kind {
        Kind::Struct(fields) => fields,
        _ => &[],
    }
}

/// How many values a record's `meta` says that its source changed. The fault has no place yet.
pub fn changes(meta: &[u8], max_depth: usize) -> Result<u64, Box<Fault>> {
    let [changes] = members(meta, max_depth, ["changes"])
        .map_err(|_| wrong("meta", "meta must be an object", meta))?;
    let Some(changes) = changes.filter(|changes| *changes != b"null") else {
        return Ok(0);
    };
    let mut count = 0;
    each_element(changes, max_depth, |_| {
        count += 1;
        Ok::<(), Bad>(())
    })
    .map_err(|_| wrong("meta.changes", "changes must be an array", changes))?;
    Ok(count)
}

/// When the source says that it extracted a record, in microseconds since 1970; none where it does not say.
fn extracted_at(dialect: Dialect, extras: &Extras<'_>) -> Result<Option<i64>, Box<Fault>> {
    let Some(written) = extras.extracted else {
        return Ok(None);
    };
    let (field, message, found) = match dialect {
        Dialect::Airbyte => (
            "emitted_at",
            "emitted_at is no time in milliseconds",
            dativo_wire::number::integer(written).and_then(|ms| ms.checked_mul(1000)),
        ),
        Dialect::Singer => (
            "time_extracted",
            "time_extracted is no time of RFC 3339",
            dativo_wire::text::string(written)
                .and_then(|text| temporal::timestamptz(text.as_bytes())),
        ),
    };
    let found = found.filter(|us| temporal::MICROSECONDS.contains(us));
    found
        .map(Some)
        .ok_or_else(|| wrong(field, message, written))
}

/// How the ids of a stream begin in a run whose first epoch is `epoch`: with what no other stream or epoch has.
fn id_prefix(pipeline: &str, stream: &StreamName, epoch: i64) -> String {
    let text = serde_json::json!([pipeline, stream.namespace, stream.name, epoch]).to_string();
    let hash = Sha256::digest(text.as_bytes());
    let word = |at: usize| u16::from_be_bytes([hash[at], hash[at + 1]]);
    format!(
        "{:04x}{:04x}-{:04x}-8{:03x}-8",
        word(0),
        word(2),
        word(4),
        word(6) & 0xfff
    )
}

fn ids(prefix: &str, numbers: &[u64]) -> StringArray {
    let mut id = [b'-'; ID_CHARS];
    id[..prefix.len()].copy_from_slice(prefix.as_bytes());
    let mut texts = StringBuilder::with_capacity(numbers.len(), numbers.len() * ID_CHARS);
    for &number in numbers {
        let mut rest = number;
        // Behind the variant: three digits, a dash, twelve digits.
        for at in (20..23).chain(24..ID_CHARS).rev() {
            id[at] = b"0123456789abcdef"[(rest & 15) as usize];
            rest >>= 4;
        }
        texts.append_value(std::str::from_utf8(&id).unwrap_or_default());
    }
    texts.finish()
}

fn times(values: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as i64)
}

fn now_ms() -> i64 {
    now_us() / 1000
}

#[cold]
fn wrong(field: &str, message: &str, value: &[u8]) -> Box<Fault> {
    Fault::plugin("message.invalid", message)
        .field(field)
        .value(value)
}

#[cold]
fn internal(message: impl Into<String>) -> Box<Fault> {
    Fault::new("internal.metadata", Blame::Dativo, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> StreamName {
        StreamName {
            namespace: None,
            name: "users".to_owned(),
        }
    }

    #[test]
    fn an_id_is_a_uuid_that_ends_with_the_number() {
        let prefix = id_prefix("shop", &users(), 5);
        let texts = ids(&prefix, &[1, 0xabc_def0_1234_5678, (1 << 60) - 1]);
        let ends = [
            "8000-000000000001",
            "8abc-def012345678",
            "8fff-ffffffffffff",
        ];
        for (text, end) in texts.iter().flatten().zip(ends) {
            assert_eq!((text.len(), &text[14..15], &text[19..]), (36, "8", end));
            assert!(text.starts_with(&prefix));
        }
    }

    #[test]
    fn no_other_stream_pipeline_or_epoch_begins_its_ids_alike() {
        let mut all = std::collections::HashSet::new();
        for pipeline in ["shop", "shop2"] {
            for (namespace, name) in [(None, "a"), (Some("a"), "a"), (None, "b")] {
                for epoch in 1..100 {
                    let stream = StreamName {
                        namespace: namespace.map(str::to_owned),
                        name: name.to_owned(),
                    };
                    assert!(all.insert(id_prefix(pipeline, &stream, epoch)));
                }
            }
        }
    }

    #[test]
    fn a_preset_adds_no_column_of_a_property_s_name() {
        let property = |name: &str| {
            vec![Column {
                property: name.to_owned(),
                shape: Shape::of(Primitive::Long),
            }]
        };
        for preset in [Preset::Dativo, Preset::Singer, Preset::Airbyte] {
            for (name, _) in preset.values() {
                let asked = preset.columns(&property(name));
                match *name {
                    DELETED_AT => assert_eq!(asked.map(|all| all.len()), Ok(6)),
                    _ => assert_eq!(asked.map_err(|fault| fault.code), Err("schema.reserved")),
                }
            }
            let all = preset.columns(&property("id")).expect("no name is taken");
            assert_eq!(all.len(), preset.values().len());
        }
    }

    #[test]
    fn a_time_is_the_source_s_or_none() {
        let at = |dialect, text: &'static str| {
            let extras = Extras {
                extracted: Some(text.as_bytes()),
                ..Extras::default()
            };
            extracted_at(dialect, &extras).map_err(|fault| fault.code)
        };
        assert_eq!(at(Dialect::Airbyte, "-1"), Ok(Some(-1000)));
        assert_eq!(at(Dialect::Airbyte, "1e3"), Ok(Some(1_000_000)));
        assert_eq!(
            at(Dialect::Singer, r#""1970-01-01T00:00:01Z""#),
            Ok(Some(1_000_000))
        );
        for (dialect, text) in [
            (Dialect::Airbyte, "253402300800000"),
            (Dialect::Airbyte, "9223372036854775807"),
            (Dialect::Airbyte, "0.5"),
            (Dialect::Airbyte, "{}"),
            (Dialect::Singer, "0"),
            (Dialect::Singer, r#""1970-01-01""#),
        ] {
            assert_eq!(at(dialect, text), Err("message.invalid"), "{text}");
        }
    }
}
