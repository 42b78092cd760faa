//! Types in control messages (docs/spec/events.md), and what a plan makes of a stream's columns.

use dativo_wire::decode::{Field, Kind};
use dativo_wire::fault::{Blame, Fault};
use dativo_wire::types::{Column, Primitive, Shape};
use serde::{Deserialize, Serialize};

/// A type as `stream_schema` asks for it.
#[derive(Serialize)]
#[serde(untagged)]
pub enum WantedType<'a> {
    Name(String),
    Nested(Wanted<'a>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Wanted<'a> {
    Struct { fields: Vec<SchemaColumn<'a>> },
    List { element: Box<WantedType<'a>> },
    Map { value: Box<WantedType<'a>> },
}

#[derive(Serialize)]
pub struct SchemaColumn<'a> {
    pub property: &'a str,
    #[serde(rename = "type")]
    pub kind: WantedType<'a>,
    /// No property of the source: its name is the column's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub metadata: bool,
}

/// A stream's columns as `stream_schema` asks for them.
pub fn wanted(columns: &[Column]) -> Vec<SchemaColumn<'_>> {
    columns
        .iter()
        .map(|column| SchemaColumn {
            property: &column.property,
            kind: wanted_type(&column.shape),
            metadata: false,
        })
        .collect()
}

/// Metadata columns as `stream_schema` asks for them.
pub fn wanted_metadata(columns: &[Column]) -> impl Iterator<Item = SchemaColumn<'_>> {
    wanted(columns).into_iter().map(|column| SchemaColumn {
        metadata: true,
        ..column
    })
}

fn wanted_type(shape: &Shape) -> WantedType<'_> {
    WantedType::Nested(match shape {
        Shape::Value { .. } | Shape::Json => return WantedType::Name(shape.to_string()),
        Shape::Struct(columns) => Wanted::Struct {
            fields: wanted(columns),
        },
        Shape::List(element) => Wanted::List {
            element: Box::new(wanted_type(element)),
        },
        Shape::Map(value) => Wanted::Map {
            value: Box::new(wanted_type(value)),
        },
    })
}

#[derive(Deserialize)]
pub struct PlannedColumn {
    pub property: String,
    pub column: String,
    #[serde(rename = "type")]
    pub kind: PlannedType,
    pub field_id: i32,
    #[serde(default)]
    pub required: bool,
}

/// A type as `stream_plan` gives it.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum PlannedType {
    Name(String),
    Nested(Planned),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Planned {
    Struct {
        fields: Vec<PlannedColumn>,
    },
    List {
        element_id: i32,
        element: Box<PlannedType>,
    },
    Map {
        key_id: i32,
        value_id: i32,
        value: Box<PlannedType>,
    },
}

/// What is to be decoded of `columns` by their plan, in their order. Those that it leaves out are not selected; no record may
/// be without one of `keys`, as far as they are selected.
pub fn fields(
    columns: &[Column],
    keys: &[String],
    plan: Vec<PlannedColumn>,
) -> Result<Vec<Field>, Box<Fault>> {
    let mut planned: std::collections::HashMap<String, PlannedColumn> = plan
        .into_iter()
        .map(|column| (column.property.clone(), column))
        .collect();
    let mut fields = Vec::new();
    for column in columns {
        let Some(plan) = planned.remove(&column.property) else {
            continue;
        };
        let kind = kind(&column.shape, plan.kind).map_err(|fault| fault.below(&column.property))?;
        fields.push(Field {
            property: column.property.clone(),
            column: plan.column,
            field_id: Some(plan.field_id),
            kind,
            required: plan.required,
            key: keys.contains(&column.property),
        });
    }
    if fields.is_empty() {
        return Err(wrong("the plan has none of the columns"));
    }
    Ok(fields)
}

/// How values of `shape` are kept as a plan's type: in a string column whatever is more than a value becomes its text.
fn kind(shape: &Shape, plan: PlannedType) -> Result<Kind, Box<Fault>> {
    Ok(match (shape, plan) {
        (&Shape::Value { kind, quoted }, PlannedType::Name(name)) => {
            let wide = name.parse::<Primitive>().ok();
            let wide = wide.filter(|&wide| kind.widens_to(wide));
            Kind::Value {
                kind: wide.ok_or_else(misfit)?,
                quoted,
            }
        }
        (Shape::Value { .. }, PlannedType::Nested(_)) => return Err(misfit()),
        (_, PlannedType::Name(name)) if name == "string" => Kind::Json,
        (Shape::Struct(columns), PlannedType::Nested(Planned::Struct { fields: plan })) => {
            Kind::Struct(fields(columns, &[], plan)?)
        }
        (
            Shape::List(shape),
            PlannedType::Nested(Planned::List {
                element_id,
                element,
            }),
        ) => Kind::List {
            element: Box::new(kind(shape, *element).map_err(|fault| fault.below("element"))?),
            element_id: Some(element_id),
        },
        (
            Shape::Map(shape),
            PlannedType::Nested(Planned::Map {
                key_id,
                value_id,
                value,
            }),
        ) => Kind::Map {
            value: Box::new(kind(shape, *value).map_err(|fault| fault.below("value"))?),
            key_id: Some(key_id),
            value_id: Some(value_id),
        },
        _ => return Err(misfit()),
    })
}

fn misfit() -> Box<Fault> {
    wrong("the plan's type does not hold the column's values")
}

fn wrong(message: &str) -> Box<Fault> {
    Fault::new("internal.plan", Blame::Dativo, message)
}
