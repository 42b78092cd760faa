//! What is read, and as which Arrow types: from a JSON Schema or from an Arrow schema.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef, ListArray, MapArray, StructArray};
use arrow_schema::{
    ArrowError, DataType, Field as ArrowField, Fields, Schema, SchemaRef, TimeUnit,
};
use dativo_wire::decode::{Field, Kind, arrow_type, fields_of};
use dativo_wire::fault::Fault;
use dativo_wire::schema::{self, MAX_NESTING, MAX_PROPERTY_BYTES, Options};
use dativo_wire::types::Primitive;

use crate::json_type;

pub struct Plan {
    pub fields: Vec<Field>,
    pub schema: SchemaRef,
}

impl Plan {
    /// The columns of a JSON Schema (docs/spec/validation.md). JSON text is a column of the extension type `arrow.json`.
    pub fn of_json(text: &[u8], options: Options) -> Result<Plan, Box<Fault>> {
        let columns = schema::compile(text, options)?;
        let fields = fields_of(&columns);
        check_names(&fields)?;
        let schema = Schema::new(arrow_fields(&fields));
        Ok(Plan {
            fields,
            schema: Arc::new(schema),
        })
    }

    /// The columns of `schema`, which are read as these very types.
    pub fn of_arrow(schema: Schema, max_columns: usize) -> Result<Plan, Box<Fault>> {
        let leaves = schema
            .fields()
            .iter()
            .map(|field| leaves(field.data_type()));
        if leaves.sum::<usize>() > max_columns {
            let message = format!("more than {max_columns} columns");
            let fault = Fault::plugin("limit.columns", message);
            return Err(fault.hint("max_columns sets the most columns"));
        }
        Ok(Plan {
            fields: fields_from(schema.fields(), 0)?,
            schema: Arc::new(schema),
        })
    }

    pub fn has_lists(&self) -> bool {
        holds_lists(&self.fields)
    }
}

fn holds_lists(fields: &[Field]) -> bool {
    fields.iter().any(|field| match &field.kind {
        Kind::Value { .. } | Kind::Json => false,
        Kind::Struct(fields) => holds_lists(fields),
        Kind::List { .. } | Kind::Map { .. } => true,
    })
}

fn wrong(message: impl Into<String>) -> Box<Fault> {
    Fault::plugin("schema.invalid", message)
}

/// Names of Arrow are C strings.
fn check_names(fields: &[Field]) -> Result<(), Box<Fault>> {
    fields.iter().try_for_each(|field| {
        if field.property.contains('\0') {
            let fault = wrong("the name of a column holds U+0000");
            return Err(fault.value(field.property.as_bytes()));
        }
        check_kind(&field.kind).map_err(|fault| fault.below(&field.property))
    })
}

fn check_kind(kind: &Kind) -> Result<(), Box<Fault>> {
    match kind {
        Kind::Value { .. } | Kind::Json => Ok(()),
        Kind::Struct(fields) => check_names(fields),
        Kind::List { element, .. } => check_kind(element),
        Kind::Map { value, .. } => check_kind(value),
    }
}

// --- to Arrow ---------------------------------------------------------------------------------------------------

fn arrow_fields(fields: &[Field]) -> Fields {
    let fields = fields.iter();
    fields
        .map(|field| arrow_field(&field.property, &field.kind))
        .collect()
}

fn arrow_field(name: &str, kind: &Kind) -> ArrowField {
    let data_type = match kind {
        Kind::Json => return json_type::mark(ArrowField::new(name, DataType::Utf8, true)),
        Kind::Value { kind, .. } => arrow_type(*kind),
        Kind::Struct(fields) => DataType::Struct(arrow_fields(fields)),
        Kind::List { element, .. } => DataType::List(Arc::new(arrow_field("element", element))),
        Kind::Map { value, .. } => {
            let key = ArrowField::new("key", DataType::Utf8, false);
            let entry = Fields::from(vec![key, arrow_field("value", value)]);
            let entries = ArrowField::new("key_value", DataType::Struct(entry), false);
            DataType::Map(Arc::new(entries), false)
        }
    };
    ArrowField::new(name, data_type, true)
}

// --- from Arrow -------------------------------------------------------------------------------------------------

fn leaves(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
        DataType::List(element) => leaves(element.data_type()),
        DataType::Map(entries, _) => leaves(entries.data_type()),
        _ => 1,
    }
}

fn fields_from(fields: &Fields, nesting: u8) -> Result<Vec<Field>, Box<Fault>> {
    if fields.is_empty() {
        return Err(wrong("there are no columns"));
    }
    if nesting > MAX_NESTING {
        return Err(wrong(format!("types nested deeper than {MAX_NESTING}")));
    }
    let mut names = HashSet::new();
    let mut found = Vec::with_capacity(fields.len());
    for field in fields {
        let name = field.name();
        if name.len() > MAX_PROPERTY_BYTES || !names.insert(name.as_str()) {
            let message = format!("names are distinct and of at most {MAX_PROPERTY_BYTES} bytes");
            return Err(wrong(message).field(name));
        }
        found.push(Field {
            property: name.clone(),
            column: name.clone(),
            field_id: None,
            kind: kind_from(field, nesting).map_err(|fault| fault.below(name))?,
            required: !field.is_nullable(),
            key: false,
        });
    }
    Ok(found)
}

fn kind_from(field: &ArrowField, nesting: u8) -> Result<Kind, Box<Fault>> {
    let value = |kind| Kind::Value {
        kind,
        quoted: false,
    };
    Ok(match field.data_type() {
        DataType::Boolean => value(Primitive::Boolean),
        DataType::Int64 => value(Primitive::Long),
        DataType::Float64 => value(Primitive::Double),
        &DataType::Decimal128(precision, scale) if (0..=precision as i8).contains(&scale) => {
            value(Primitive::Decimal {
                precision,
                scale: scale.unsigned_abs(),
            })
        }
        DataType::Date32 => value(Primitive::Date),
        DataType::Time64(TimeUnit::Microsecond) => value(Primitive::Time),
        DataType::Timestamp(TimeUnit::Microsecond, None) => value(Primitive::Timestamp),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => value(Primitive::Timestamptz),
        DataType::Utf8 if json_type::is_marked(field) => Kind::Json,
        DataType::Utf8 => value(Primitive::String),
        DataType::Binary => value(Primitive::Binary),
        DataType::Struct(fields) => Kind::Struct(fields_from(fields, nesting + 1)?),
        DataType::List(element) => Kind::List {
            element: Box::new(inner(element, "element", nesting)?),
            element_id: None,
        },
        DataType::Map(entries, _) => {
            let DataType::Struct(entry) = entries.data_type() else {
                return Err(unread(field.data_type()));
            };
            let [key, value] = &entry[..] else {
                return Err(unread(field.data_type()));
            };
            if *key.data_type() != DataType::Utf8 {
                return Err(unread(key.data_type()).field("key"));
            }
            Kind::Map {
                value: Box::new(inner(value, "value", nesting)?),
                key_id: None,
                value_id: None,
            }
        }
        other => return Err(unread(other)),
    })
}

/// An element or a value of a map: those that JSON leaves null are not refused one by one.
fn inner(field: &ArrowField, name: &str, nesting: u8) -> Result<Kind, Box<Fault>> {
    if nesting >= MAX_NESTING {
        return Err(wrong(format!("types nested deeper than {MAX_NESTING}")).field(name));
    }
    if !field.is_nullable() {
        return Err(wrong("elements of lists and values of maps may be null").field(name));
    }
    kind_from(field, nesting + 1).map_err(|fault| fault.below(name))
}

fn unread(data_type: &DataType) -> Box<Fault> {
    wrong(format!("JSON is not read as the Arrow type {data_type}")).hint(
        "bool, int64, float64, decimal128, date32, time64[us], timestamp[us], string, binary, struct, list and map of \
         strings are",
    )
}

/// `array`, which the decoder made, as the type of `field`: they differ in names, zones and marks only.
pub fn retype(array: ArrayRef, field: &ArrowField) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == field.data_type() {
        return Ok(array);
    }
    Ok(match field.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let instants = array.as_primitive::<TimestampMicrosecondType>().clone();
            Arc::new(instants.with_timezone_opt(zone.clone()))
        }
        DataType::Struct(fields) => Arc::new(structure(array.as_struct(), fields)?),
        DataType::List(element) => {
            let (_, offsets, values, nulls) = array.as_list::<i32>().clone().into_parts();
            let values = retype(values, element)?;
            Arc::new(ListArray::try_new(element.clone(), offsets, values, nulls)?)
        }
        DataType::Map(entries, sorted) => {
            let (_, offsets, values, nulls, _) = array.as_map().clone().into_parts();
            let DataType::Struct(fields) = entries.data_type() else {
                return Ok(array);
            };
            let values = structure(&values, fields)?;
            let (entries, sorted) = (entries.clone(), *sorted);
            Arc::new(MapArray::try_new(entries, offsets, values, nulls, sorted)?)
        }
        _ => array,
    })
}

fn structure(array: &StructArray, fields: &Fields) -> Result<StructArray, ArrowError> {
    let columns = array.columns().iter().zip(fields);
    let columns: Result<Vec<_>, _> = columns
        .map(|(column, field)| retype(column.clone(), field))
        .collect();
    StructArray::try_new_with_length(
        fields.clone(),
        columns?,
        array.nulls().cloned(),
        array.len(),
    )
}
