//! What a file has to be: what `stream_plan` says of its columns and layout (docs/spec/events.md).

use std::fmt;

use dativo_channel::layout::{PartitionField, SortField};
use serde::Deserialize;

/// The table that a file is of.
#[derive(Debug, Default, Deserialize, PartialEq)]
pub struct Plan {
    pub columns: Vec<Column>,
    #[serde(default)]
    pub partition: Vec<PartitionField>,
    #[serde(default)]
    pub sort: Vec<SortField>,
}

/// A column of the table, or a field of a struct in it.
#[derive(Debug, Deserialize, PartialEq)]
pub struct Column {
    #[serde(rename = "column")]
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Planned,
    pub field_id: i32,
    /// No row may be without it.
    #[serde(default)]
    pub required: bool,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum Planned {
    Value(Primitive),
    Nested(Nested),
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Nested {
    Struct {
        fields: Vec<Column>,
    },
    List {
        element_id: i32,
        element: Box<Planned>,
    },
    Map {
        key_id: i32,
        value_id: i32,
        value: Box<Planned>,
    },
}

/// The primitives of Iceberg's format version 2 that tables have.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub enum Primitive {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Decimal { precision: u8, scale: u8 },
    Date,
    Time,
    Timestamp,
    Timestamptz,
    String,
    Binary,
}

impl Primitive {
    pub fn is_float(self) -> bool {
        matches!(self, Primitive::Float | Primitive::Double)
    }
}

impl fmt::Display for Primitive {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Primitive::Decimal { precision, scale } => write!(out, "decimal({precision},{scale})"),
            other => out.write_str(&format!("{other:?}").to_lowercase()),
        }
    }
}

const MAX_PRECISION: u8 = 38;

impl TryFrom<String> for Primitive {
    type Error = String;

    fn try_from(name: String) -> Result<Primitive, String> {
        Ok(match name.as_str() {
            "boolean" => Primitive::Boolean,
            "int" => Primitive::Int,
            "long" => Primitive::Long,
            "float" => Primitive::Float,
            "double" => Primitive::Double,
            "date" => Primitive::Date,
            "time" => Primitive::Time,
            "timestamp" => Primitive::Timestamp,
            "timestamptz" => Primitive::Timestamptz,
            "string" => Primitive::String,
            "binary" => Primitive::Binary,
            other => decimal(other).ok_or_else(|| format!("no type of a column: {other}"))?,
        })
    }
}

fn decimal(name: &str) -> Option<Primitive> {
    let (precision, scale) = name
        .strip_prefix("decimal(")?
        .strip_suffix(')')?
        .split_once(',')?;
    let precision: u8 = precision.trim().parse().ok()?;
    let scale = scale.trim().parse().ok()?;
    let holds = (1..=MAX_PRECISION).contains(&precision) && scale <= precision;
    holds.then_some(Primitive::Decimal { precision, scale })
}

/// The leaves of a plan.
pub fn leaves(columns: &[Column]) -> usize {
    columns.iter().map(|column| column.kind.leaves()).sum()
}

impl Planned {
    fn leaves(&self) -> usize {
        match self {
            Planned::Value(_) => 1,
            Planned::Nested(Nested::Struct { fields }) => leaves(fields),
            Planned::Nested(Nested::List { element, .. }) => element.leaves(),
            Planned::Nested(Nested::Map { value, .. }) => 1 + value.leaves(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_trees() {
        let text = r#"[{"property":"a","column":"a","type":{"type":"struct","fields":[
            {"property":"b","column":"b","type":"decimal(9, 2)","field_id":2},
            {"property":"c","column":"c","type":{"type":"map","key_id":4,"value_id":5,
             "value":{"type":"list","element_id":6,"element":"timestamptz"}},"field_id":3}]},"field_id":1,"required":true}]"#;
        let columns: Vec<Column> = serde_json::from_str(text).unwrap();
        assert_eq!(leaves(&columns), 3);
        assert!(columns[0].required);
        for bad in [
            "\"decimal(39,0)\"",
            "\"decimal(3,4)\"",
            "\"json\"",
            "{\"type\":\"set\"}",
        ] {
            assert!(serde_json::from_str::<Planned>(bad).is_err(), "{bad}");
        }
    }
}
