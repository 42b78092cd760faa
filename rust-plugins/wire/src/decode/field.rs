//! What is to be decoded, and its types in Arrow.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field as ArrowField, TimeUnit};

use crate::types::{Column, Primitive, Shape};

/// Where Parquet's writer looks for a column's Iceberg id.
const FIELD_ID: &str = "PARQUET:field_id";

/// One column to fill, or one field of an object that is a column.
#[derive(Clone, Debug)]
pub struct Field {
    pub property: String,
    /// Its name in the table.
    pub column: String,
    pub field_id: Option<i32>,
    pub kind: Kind,
    pub required: bool,
    /// A key of the stream: no record is without it.
    pub key: bool,
}

/// How a value is read, and as what it is kept.
#[derive(Clone, Debug)]
pub enum Kind {
    /// `kind` is the table's type, which may be wider than the schema's.
    Value {
        kind: Primitive,
        quoted: bool,
    },
    Json,
    Struct(Vec<Field>),
    List {
        element: Box<Kind>,
        element_id: Option<i32>,
    },
    Map {
        value: Box<Kind>,
        key_id: Option<i32>,
        value_id: Option<i32>,
    },
}

/// The columns of a schema as fields without ids, each under the name of its property.
pub fn fields_of(columns: &[Column]) -> Vec<Field> {
    columns
        .iter()
        .map(|column| Field {
            property: column.property.clone(),
            column: column.property.clone(),
            field_id: None,
            kind: kind_of(&column.shape),
            required: false,
            key: false,
        })
        .collect()
}

fn kind_of(shape: &Shape) -> Kind {
    match shape {
        &Shape::Value { kind, quoted } => Kind::Value { kind, quoted },
        Shape::Json => Kind::Json,
        Shape::Struct(columns) => Kind::Struct(fields_of(columns)),
        Shape::List(element) => Kind::List {
            element: Box::new(kind_of(element)),
            element_id: None,
        },
        Shape::Map(value) => Kind::Map {
            value: Box::new(kind_of(value)),
            key_id: None,
            value_id: None,
        },
    }
}

/// A field in Arrow, with its Iceberg id where it has one. All may be null.
pub fn arrow_field(field: &Field) -> ArrowField {
    with_id(
        ArrowField::new(&field.column, kind_type(&field.kind), true),
        field.field_id,
    )
}

/// The Arrow type of what `kind` reads. Elements, keys and values are named as Parquet's specification does.
pub fn kind_type(kind: &Kind) -> DataType {
    match kind {
        Kind::Value { kind, .. } => arrow_type(*kind),
        Kind::Json => DataType::Utf8,
        Kind::Struct(fields) => DataType::Struct(fields.iter().map(arrow_field).collect()),
        Kind::List {
            element,
            element_id,
        } => {
            let element = ArrowField::new("element", kind_type(element), true);
            DataType::List(Arc::new(with_id(element, *element_id)))
        }
        Kind::Map {
            value,
            key_id,
            value_id,
        } => {
            let key = ArrowField::new("key", DataType::Utf8, false);
            let value = ArrowField::new("value", kind_type(value), true);
            let entry = [with_id(key, *key_id), with_id(value, *value_id)];
            let entries = DataType::Struct(entry.into_iter().collect());
            DataType::Map(
                Arc::new(ArrowField::new("key_value", entries, false)),
                false,
            )
        }
    }
}

fn with_id(field: ArrowField, id: Option<i32>) -> ArrowField {
    match id {
        Some(id) => field.with_metadata(HashMap::from([(FIELD_ID.to_owned(), id.to_string())])),
        None => field,
    }
}

/// The Arrow type of an Iceberg type.
pub fn arrow_type(kind: Primitive) -> DataType {
    match kind {
        Primitive::Boolean => DataType::Boolean,
        Primitive::Long => DataType::Int64,
        Primitive::Double => DataType::Float64,
        Primitive::Decimal { precision, scale } => DataType::Decimal128(precision, scale as i8),
        Primitive::Date => DataType::Date32,
        Primitive::Time => DataType::Time64(TimeUnit::Microsecond),
        Primitive::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        Primitive::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Primitive::String => DataType::Utf8,
        Primitive::Binary => DataType::Binary,
    }
}
