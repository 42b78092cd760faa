//! A stream's JSON Schema to a flat list of typed columns (docs/spec/wire.md has the table).
//!
//! The schema is read in place. Hostile ones are bounded in bytes, columns, nesting of alternatives and in
//! the bytes that all look-ups together may scan.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use crate::fault::Fault;
use crate::number;
use crate::scan::{Bad, each_element, each_member, members};
use crate::text;

/// The largest schema of one stream.
pub const MAX_SCHEMA_BYTES: usize = 2 << 20;
/// The longest name of a property.
pub const MAX_PROPERTY_BYTES: usize = 1024;
/// `$ref`, `anyOf`, `oneOf` and `allOf` inside one another.
const MAX_HOPS: u8 = 16;
/// Bytes that one compile may scan, references followed again and again included.
const SCAN_BUDGET_BYTES: usize = 256 << 20;
/// Digits and scale of a decimal whose schema does not say.
const DEFAULT_DECIMAL: ColumnType = ColumnType::Decimal {
    precision: number::MAX_PRECISION,
    scale: 9,
};
const BIG_INTEGER: ColumnType = ColumnType::Decimal {
    precision: number::MAX_PRECISION,
    scale: 0,
};

/// The Iceberg v2 primitives that schemas are compiled to; `int` and `float` are too narrow to be among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
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

impl ColumnType {
    /// Whether a value of `self` fits a table column of type `wide` as Iceberg lets columns grow.
    pub fn widens_to(self, wide: ColumnType) -> bool {
        use ColumnType::Decimal;
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

impl fmt::Display for ColumnType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            ColumnType::Boolean => "boolean",
            ColumnType::Long => "long",
            ColumnType::Double => "double",
            ColumnType::Decimal { precision, scale } => {
                return write!(out, "decimal({precision},{scale})");
            }
            ColumnType::Date => "date",
            ColumnType::Time => "time",
            ColumnType::Timestamp => "timestamp",
            ColumnType::Timestamptz => "timestamptz",
            ColumnType::String => "string",
            ColumnType::Binary => "binary",
        })
    }
}

impl FromStr for ColumnType {
    type Err = ();

    /// The names of Iceberg's table format, `decimal(p, s)` with or without the space.
    fn from_str(name: &str) -> Result<ColumnType, ()> {
        Ok(match name {
            "boolean" => ColumnType::Boolean,
            "long" => ColumnType::Long,
            "double" => ColumnType::Double,
            "date" => ColumnType::Date,
            "time" => ColumnType::Time,
            "timestamp" => ColumnType::Timestamp,
            "timestamptz" => ColumnType::Timestamptz,
            "string" => ColumnType::String,
            "binary" => ColumnType::Binary,
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
                ColumnType::Decimal { precision, scale }
            }
        })
    }
}

/// One property of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub property: String,
    pub kind: ColumnType,
    /// A string column that holds JSON text as the source wrote it.
    pub json: bool,
    /// The schema says that numbers are written as strings.
    pub quoted: bool,
}

/// What one schema node says about its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    kind: ColumnType,
    json: bool,
    quoted: bool,
}

impl Shape {
    const JSON: Shape = Shape {
        kind: ColumnType::String,
        json: true,
        quoted: false,
    };

    fn of(kind: ColumnType) -> Shape {
        Shape {
            kind,
            json: false,
            quoted: false,
        }
    }
}

/// The columns of the schema `schema`, in its order.
pub fn compile(
    schema: &[u8],
    max_columns: usize,
    max_depth: usize,
) -> Result<Vec<Column>, Box<Fault>> {
    if schema.len() > MAX_SCHEMA_BYTES {
        let message = format!(
            "a schema of {} bytes; the limit is {MAX_SCHEMA_BYTES}",
            schema.len()
        );
        return Err(Fault::plugin("limit.schema_bytes", message));
    }
    if simdutf8::basic::from_utf8(schema).is_err() {
        return Err(wrong("the schema is not UTF-8"));
    }
    let mut compiler = Compiler {
        root: schema.trim_ascii(),
        max_depth,
        budget: SCAN_BUDGET_BYTES,
    };
    let [properties] = compiler.members(compiler.root, ["properties"])?;
    let properties = properties.ok_or_else(|| wrong("the schema has no properties"))?;
    let mut columns = Vec::new();
    let mut names = HashSet::new();
    each_member::<Stop>(properties, max_depth, |key, node| {
        let property = property_name(&key)?;
        if columns.len() == max_columns {
            let message = format!("a stream of more than {max_columns} columns");
            return Err(Stop::Fault(
                Fault::plugin("limit.columns", message)
                    .hint("limits.max_columns sets the most columns"),
            ));
        }
        if !names.insert(property.clone()) {
            return Err(Stop::Fault(
                wrong("the property stands twice").field(property),
            ));
        }
        let Shape { kind, json, quoted } = compiler
            .node(node, 0)
            .map_err(|fault| Stop::Fault(fault.field(property.as_str())))?;
        columns.push(Column {
            property,
            kind,
            json,
            quoted,
        });
        Ok(())
    })?;
    if columns.is_empty() {
        return Err(wrong("the schema has no properties"));
    }
    Ok(columns)
}

fn wrong(message: impl Into<String>) -> Box<Fault> {
    Fault::plugin("schema.invalid", message)
}

/// Why a walk over the schema ended.
enum Stop {
    Bad(Bad),
    Fault(Box<Fault>),
}

impl From<Bad> for Stop {
    fn from(bad: Bad) -> Stop {
        Stop::Bad(bad)
    }
}

impl From<Stop> for Box<Fault> {
    fn from(stop: Stop) -> Box<Fault> {
        match stop {
            Stop::Fault(fault) => fault,
            Stop::Bad(bad) => wrong(format!("the schema cannot be read: {}", bad.message)),
        }
    }
}

fn property_name(key: &[u8]) -> Result<String, Stop> {
    if key.len() > MAX_PROPERTY_BYTES {
        let message = format!("a property's name of more than {MAX_PROPERTY_BYTES} bytes");
        return Err(Stop::Fault(wrong(message).value(key)));
    }
    let name = std::str::from_utf8(key)
        .map_err(|_| Stop::Fault(wrong("a property's name is not text")))?;
    Ok(name.to_owned())
}

struct Compiler<'a> {
    root: &'a [u8],
    max_depth: usize,
    budget: usize,
}

impl<'a> Compiler<'a> {
    fn spend(&mut self, text: &[u8]) -> Result<(), Box<Fault>> {
        self.budget = self.budget.checked_sub(text.len() + 1).ok_or_else(|| {
            wrong("the schema's references and alternatives take too long to follow")
        })?;
        Ok(())
    }

    fn members<const N: usize>(
        &mut self,
        text: &'a [u8],
        names: [&str; N],
    ) -> Result<[Option<&'a [u8]>; N], Box<Fault>> {
        self.spend(text)?;
        members(text, self.max_depth, names).map_err(|bad| Stop::Bad(bad).into())
    }

    /// The type of the values that `node` describes. `hops` counts the references and alternatives around it.
    fn node(&mut self, node: &'a [u8], hops: u8) -> Result<Shape, Box<Fault>> {
        if !node.starts_with(b"{") {
            // `true` and `false` are schemas too.
            return if matches!(node, b"true" | b"false") {
                Ok(Shape::JSON)
            } else {
                Err(not_a_schema(node))
            };
        }
        if hops > MAX_HOPS {
            return Err(wrong(format!(
                "references and alternatives nested deeper than {MAX_HOPS}"
            )));
        }
        let names = ["$ref", "type", "anyOf", "oneOf", "allOf", "enum", "const"];
        let [reference, kind, any_of, one_of, all_of, values, value] = self.members(node, names)?;
        if let Some(reference) = reference {
            return self.reference(reference, hops);
        }
        if let Some(kind) = kind {
            let kinds = self.kinds(kind)?;
            return self.scalar(node, kinds);
        }
        if let Some(alternatives) = any_of.or(one_of) {
            return self.alternatives(alternatives, hops);
        }
        if let Some(parts) = all_of {
            return self.all_of(parts, hops);
        }
        if let Some(values) = values {
            return self.values(values);
        }
        Ok(value.map_or(Shape::JSON, |value| kind_of_value(value).shape()))
    }

    /// `type`: a name or a list of names.
    fn kinds(&mut self, kind: &'a [u8]) -> Result<Kinds, Box<Fault>> {
        let mut kinds = Kinds::default();
        let mut add = |name: &[u8]| match text::string(name) {
            Some(name) => kinds.add(&name).map_err(Stop::Fault),
            None => Err(Stop::Fault(
                wrong("type must be a name or a list of names").value(name),
            )),
        };
        if kind.starts_with(b"[") {
            each_element(kind, self.max_depth, add)?;
        } else {
            add(kind)?;
        }
        Ok(kinds)
    }

    /// A node with a `type`.
    fn scalar(&mut self, node: &'a [u8], kinds: Kinds) -> Result<Shape, Box<Fault>> {
        if !matches!(
            kinds,
            Kinds::INTEGER | Kinds::NUMBER | Kinds::EITHER_NUMBER | Kinds::STRING
        ) {
            return Ok(kinds.shape());
        }
        let names = [
            "format",
            "airbyte_type",
            "contentEncoding",
            "multipleOf",
            "maximum",
            "minimum",
        ];
        let [format, airbyte, encoding, multiple, maximum, minimum] = self.members(node, names)?;
        let format = format.and_then(text::string).unwrap_or_default();
        let airbyte = airbyte.and_then(text::string).unwrap_or_default();
        if matches!(format.as_ref(), "singer.decimal" | "x-singer.decimal") {
            let kind = self.declared_decimal(node)?;
            return Ok(Shape::of(
                kind.or_else(|| multiple.and_then(decimal_of))
                    .unwrap_or(DEFAULT_DECIMAL),
            ));
        }
        match airbyte.as_ref() {
            "big_integer" => return Ok(Shape::of(BIG_INTEGER)),
            "big_number" => {
                return Ok(Shape::of(
                    multiple.and_then(decimal_of).unwrap_or(DEFAULT_DECIMAL),
                ));
            }
            _ => {}
        }
        if kinds == Kinds::STRING {
            let base64 = encoding
                .and_then(text::string)
                .is_some_and(|name| name.eq_ignore_ascii_case("base64"));
            return Ok(Shape::of(text_type(&format, &airbyte, base64)));
        }
        if kinds == Kinds::INTEGER || airbyte == "integer" {
            let beyond = |bound: Option<&[u8]>| bound.is_some_and(|bound| !fits_long(bound));
            let kind = if beyond(maximum) || beyond(minimum) {
                BIG_INTEGER
            } else {
                ColumnType::Long
            };
            return Ok(Shape::of(kind));
        }
        Ok(Shape::of(
            multiple.and_then(decimal_of).unwrap_or(ColumnType::Double),
        ))
    }

    /// `precision` and `scale`, which singer-sdk writes beside its decimal format.
    fn declared_decimal(&mut self, node: &'a [u8]) -> Result<Option<ColumnType>, Box<Fault>> {
        let [precision, scale] = self.members(node, ["precision", "scale"])?;
        let small = |text: Option<&[u8]>| {
            text.and_then(number::integer)
                .and_then(|value| u8::try_from(value).ok())
        };
        Ok(match (small(precision), small(scale)) {
            (Some(precision @ 1..=number::MAX_PRECISION), Some(scale)) if scale <= precision => {
                Some(ColumnType::Decimal { precision, scale })
            }
            _ => None,
        })
    }

    /// `anyOf`, `oneOf`: one type besides null, or several of numbers, is that type.
    fn alternatives(&mut self, list: &'a [u8], hops: u8) -> Result<Shape, Box<Fault>> {
        let mut nodes = Vec::new();
        self.spend(list)?;
        each_element::<Stop>(list, self.max_depth, |node| {
            nodes.push(node);
            Ok(())
        })?;
        let mut found: Option<Shape> = None;
        for node in nodes {
            if self.is_null(node)? {
                continue;
            }
            let shape = self.node(node, hops + 1)?;
            found = Some(match found {
                None => shape,
                Some(before) if before == shape => shape,
                Some(before) => widest(before, shape),
            });
        }
        Ok(found.unwrap_or(Shape::JSON))
    }

    fn is_null(&mut self, node: &'a [u8]) -> Result<bool, Box<Fault>> {
        if !node.starts_with(b"{") {
            return Ok(false);
        }
        let [kind, value] = self.members(node, ["type", "const"])?;
        Ok(match (kind, value) {
            (Some(kind), _) => self.kinds(kind)? == Kinds::default(),
            (None, value) => value == Some(b"null"),
        })
    }

    /// `allOf` of one part is that part.
    fn all_of(&mut self, list: &'a [u8], hops: u8) -> Result<Shape, Box<Fault>> {
        let (mut only, mut count) = (None, 0);
        self.spend(list)?;
        each_element::<Stop>(list, self.max_depth, |node| {
            only = Some(node);
            count += 1;
            Ok(())
        })?;
        match only {
            Some(node) if count == 1 => self.node(node, hops + 1),
            _ => Ok(Shape::JSON),
        }
    }

    /// `enum` without a type: that of its values.
    fn values(&mut self, list: &'a [u8]) -> Result<Shape, Box<Fault>> {
        let mut kinds = Kinds::default();
        self.spend(list)?;
        each_element::<Stop>(list, self.max_depth, |value| {
            kinds.0 |= kind_of_value(value).0;
            Ok(())
        })?;
        Ok(kinds.shape())
    }

    /// `$ref` to a place in this schema or to one of Airbyte's well-known types. Nothing is ever fetched.
    fn reference(&mut self, reference: &'a [u8], hops: u8) -> Result<Shape, Box<Fault>> {
        let target = text::string(reference).ok_or_else(|| not_a_schema(reference))?;
        if let Some((file, name)) = target.split_once("#/definitions/")
            && file
                .rsplit('/')
                .next()
                .is_some_and(|file| file == "WellKnownTypes.json")
        {
            return well_known(name)
                .ok_or_else(|| wrong("not one of Airbyte's well-known types").value(reference));
        }
        let Some(pointer) = target.strip_prefix('#') else {
            let fault = wrong("a reference to another document is not followed").value(reference);
            return Err(fault.hint("resolve references before the schema is sent"));
        };
        let missing = || wrong("the reference points to nothing").value(reference);
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(missing());
        }
        let mut node = self.root;
        for token in pointer.split('/').skip(1) {
            let name = token.replace("~1", "/").replace("~0", "~");
            if !node.starts_with(b"{") {
                return Err(missing());
            }
            let [member] = self.members(node, [&name])?;
            node = member.ok_or_else(missing)?;
        }
        self.node(node, hops + 1)
    }
}

fn not_a_schema(node: &[u8]) -> Box<Fault> {
    wrong("not a schema").value(node)
}

/// The JSON types that a node allows, one bit each; null is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Kinds(u8);

impl Kinds {
    const BOOLEAN: Kinds = Kinds(1);
    const INTEGER: Kinds = Kinds(2);
    const NUMBER: Kinds = Kinds(4);
    const EITHER_NUMBER: Kinds = Kinds(6);
    const STRING: Kinds = Kinds(8);
    const NESTED: Kinds = Kinds(16);

    fn add(&mut self, name: &str) -> Result<(), Box<Fault>> {
        self.0 |= match name {
            "null" => 0,
            "boolean" => Kinds::BOOLEAN.0,
            "integer" => Kinds::INTEGER.0,
            "number" => Kinds::NUMBER.0,
            "string" => Kinds::STRING.0,
            "object" | "array" => Kinds::NESTED.0,
            _ => return Err(wrong("not a type of JSON Schema").value(name.as_bytes())),
        };
        Ok(())
    }

    fn shape(self) -> Shape {
        match self {
            Kinds::BOOLEAN => Shape::of(ColumnType::Boolean),
            Kinds::INTEGER => Shape::of(ColumnType::Long),
            Kinds::NUMBER | Kinds::EITHER_NUMBER => Shape::of(ColumnType::Double),
            Kinds::STRING => Shape::of(ColumnType::String),
            _ => Shape::JSON,
        }
    }
}

fn kind_of_value(value: &[u8]) -> Kinds {
    match value.first() {
        Some(b'n') => Kinds::default(),
        Some(b't' | b'f') => Kinds::BOOLEAN,
        Some(b'"') => Kinds::STRING,
        Some(b'{' | b'[') => Kinds::NESTED,
        _ if fits_long(value) => Kinds::INTEGER,
        _ => Kinds::NUMBER,
    }
}

fn fits_long(number: &[u8]) -> bool {
    number::integer(number).is_some()
}

fn decimal_of(multiple: &[u8]) -> Option<ColumnType> {
    number::scale_of_multiple(multiple).map(|scale| ColumnType::Decimal {
        precision: number::MAX_PRECISION,
        scale,
    })
}

/// The type of a string node.
fn text_type(format: &str, airbyte: &str, base64: bool) -> ColumnType {
    match (airbyte, format) {
        ("timestamp_with_timezone", _) => ColumnType::Timestamptz,
        ("timestamp_without_timezone", _) => ColumnType::Timestamp,
        ("time_without_timezone", _) => ColumnType::Time,
        ("time_with_timezone", _) => ColumnType::String,
        ("binary_data", _) => ColumnType::Binary,
        (_, "date-time") => ColumnType::Timestamptz,
        (_, "date") => ColumnType::Date,
        (_, "time") => ColumnType::Time,
        _ if base64 => ColumnType::Binary,
        _ => ColumnType::String,
    }
}

/// The type that holds the values of two number types, or of two kinds of strings; else JSON text.
fn widest(one: Shape, other: Shape) -> Shape {
    use ColumnType::{Binary, Date, Double, Long, String, Time, Timestamp, Timestamptz};
    let both = |is: fn(ColumnType) -> bool| {
        [one, other]
            .iter()
            .all(|shape| is(shape.kind) && !shape.json && !shape.quoted)
    };
    if both(|kind| matches!(kind, Long | Double)) {
        Shape::of(Double)
    } else if both(|kind| {
        matches!(
            kind,
            String | Binary | Date | Time | Timestamp | Timestamptz
        )
    }) {
        Shape::of(String)
    } else {
        Shape::JSON
    }
}

/// Airbyte's well_known_types.yaml: numbers are strings there.
fn well_known(name: &str) -> Option<Shape> {
    Some(match name {
        "String" | "TimeWithTimezone" => Shape::of(ColumnType::String),
        "BinaryData" => Shape::of(ColumnType::Binary),
        "Date" => Shape::of(ColumnType::Date),
        "TimestampWithTimezone" => Shape::of(ColumnType::Timestamptz),
        "TimestampWithoutTimezone" => Shape::of(ColumnType::Timestamp),
        "TimeWithoutTimezone" => Shape::of(ColumnType::Time),
        "Number" => Shape {
            quoted: true,
            ..Shape::of(ColumnType::Double)
        },
        "Integer" => Shape {
            quoted: true,
            ..Shape::of(ColumnType::Long)
        },
        "Boolean" => Shape::of(ColumnType::Boolean),
        _ => return None,
    })
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
