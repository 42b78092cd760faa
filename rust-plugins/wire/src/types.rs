//! Types of columns: Iceberg's primitives, and the trees that schemas make of them.

use std::fmt;
use std::str::FromStr;

use crate::number;

/// The Iceberg v2 primitives that schemas are compiled to; `int` and `float` are too narrow to be among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Primitive {
    Boolean,
    Long,
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
    /// Whether a value of `self` fits a table column of type `wide` as Iceberg lets columns grow.
    pub fn widens_to(self, wide: Primitive) -> bool {
        use Primitive::Decimal;
        match (self, wide) {
            (
                Decimal {
                    precision: p,
                    scale: s,
                },
                Decimal { precision, scale },
            ) => s == scale && p <= precision,
            _ => self == wide,
        }
    }
}

impl fmt::Display for Primitive {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Primitive::Boolean => "boolean",
            Primitive::Long => "long",
            Primitive::Double => "double",
            Primitive::Decimal { precision, scale } => {
                return write!(out, "decimal({precision},{scale})");
            }
            Primitive::Date => "date",
            Primitive::Time => "time",
            Primitive::Timestamp => "timestamp",
            Primitive::Timestamptz => "timestamptz",
            Primitive::String => "string",
            Primitive::Binary => "binary",
        })
    }
}

impl FromStr for Primitive {
    type Err = ();

    /// The names of Iceberg's table format, `decimal(p, s)` with or without the space.
    fn from_str(name: &str) -> Result<Primitive, ()> {
        Ok(match name {
            "boolean" => Primitive::Boolean,
            "long" => Primitive::Long,
            "double" => Primitive::Double,
            "date" => Primitive::Date,
            "time" => Primitive::Time,
            "timestamp" => Primitive::Timestamp,
            "timestamptz" => Primitive::Timestamptz,
            "string" => Primitive::String,
            "binary" => Primitive::Binary,
            _ => {
                let inner = name
                    .strip_prefix("decimal(")
                    .and_then(|rest| rest.strip_suffix(')'))
                    .ok_or(())?;
                let (precision, scale) = inner.split_once(',').ok_or(())?;
                let precision = precision.trim().parse().map_err(|_| ())?;
                let scale = scale.trim().parse().map_err(|_| ())?;
                if precision == 0 || precision > number::MAX_PRECISION || scale > precision {
                    return Err(());
                }
                Primitive::Decimal { precision, scale }
            }
        })
    }
}

/// One property of a stream, or of an object in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub property: String,
    pub shape: Shape,
}

/// What one schema node says about its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    Value {
        kind: Primitive,
        /// The schema says that numbers are written as strings.
        quoted: bool,
    },
    /// Any value, kept as the JSON text that the source wrote.
    Json,
    /// An object whose properties are known; distinct, in the schema's order, at least one.
    Struct(Vec<Column>),
    List(Box<Shape>),
    /// An object with any keys and values of one shape.
    Map(Box<Shape>),
}

impl Shape {
    pub fn of(kind: Primitive) -> Shape {
        Shape::Value {
            kind,
            quoted: false,
        }
    }

    /// The columns that it takes in a file.
    pub fn leaves(&self) -> usize {
        match self {
            Shape::Value { .. } | Shape::Json => 1,
            Shape::Struct(columns) => columns.iter().map(|column| column.shape.leaves()).sum(),
            Shape::List(element) => element.leaves(),
            Shape::Map(value) => 1 + value.leaves(),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Value { kind, .. } => kind.fmt(out),
            Shape::Json => out.write_str("json"),
            Shape::Struct(columns) => {
                out.write_str("struct<")?;
                for (index, column) in columns.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(out, "{comma}{}: {}", column.property, column.shape)?;
                }
                out.write_str(">")
            }
            Shape::List(element) => write!(out, "list<{element}>"),
            Shape::Map(value) => write!(out, "map<{value}>"),
        }
    }
}
