//! A stream's JSON Schema to typed columns (docs/spec/validation.md has the tables).
//!
//! The schema is read in place. Hostile ones are bounded in bytes, columns, nesting, and in the bytes that all look-ups
//! together may scan.

use std::collections::HashSet;

use crate::fault::Fault;
use crate::number;
use crate::scan::{Bad, each_element, each_member, members};
use crate::text;
pub use crate::types::{Column, Primitive, Shape};

/// The largest schema of one stream.
pub const MAX_SCHEMA_BYTES: usize = 2 << 20;
/// The longest name of a property.
pub const MAX_PROPERTY_BYTES: usize = 1024;
/// `$ref`, `anyOf`, `oneOf` and `allOf` inside one another.
const MAX_HOPS: u8 = 16;
/// Objects and arrays inside one another; what lies deeper is kept as JSON text.
pub const MAX_NESTING: u8 = 16;
/// Bytes that one compile may scan, references followed again and again included.
const SCAN_BUDGET_BYTES: usize = 256 << 20;
/// Digits and scale of a decimal whose schema does not say.
const DEFAULT_DECIMAL: Primitive = Primitive::Decimal {
    precision: number::MAX_PRECISION,
    scale: 9,
};
const BIG_INTEGER: Primitive = Primitive::Decimal {
    precision: number::MAX_PRECISION,
    scale: 0,
};
/// Digits of the largest long.
const LONG_DIGITS: u8 = 19;

/// How schemas are read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The most columns of a file, those of nested objects counted.
    pub max_columns: usize,
    /// The deepest nesting of the schema's own text.
    pub max_depth: usize,
    pub numbers: Numbers,
}

/// What becomes of numbers whose schema says nothing of their digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// The nearest double.
    #[default]
    Double,
    /// An exact decimal of 38 digits, 9 of them behind the point.
    Decimal,
    /// Their text, as the source wrote it.
    Text,
}

/// The columns of the schema `schema`, in its order.
pub fn compile(schema: &[u8], options: Options) -> Result<Vec<Column>, Box<Fault>> {
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
    let root = schema.trim_ascii();
    let mut compiler = Compiler {
        root,
        options,
        leaves: 0,
        budget: SCAN_BUDGET_BYTES,
        following: vec![(root, 0)],
    };
    let [properties] = compiler.members(root, ["properties"])?;
    let properties = properties.ok_or_else(|| wrong("the schema has no properties"))?;
    let columns = compiler.properties(properties, At::default())?;
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

/// Where in the schema a node stands.
#[derive(Clone, Copy, Default)]
struct At {
    /// References and alternatives around it, since the last object or array.
    hops: u8,
    /// Objects and arrays around it.
    nesting: u8,
}

impl At {
    fn hop(self) -> At {
        At {
            hops: self.hops + 1,
            ..self
        }
    }

    fn inside(self) -> At {
        At {
            hops: 0,
            nesting: self.nesting + 1,
        }
    }
}

struct Compiler<'a> {
    root: &'a [u8],
    options: Options,
    /// Leaves compiled so far.
    leaves: usize,
    budget: usize,
    /// The nodes that references around the present one lead to, and how deep each was met.
    following: Vec<(&'a [u8], u8)>,
}

impl<'a> Compiler<'a> {
    fn spend(&mut self, text: &[u8]) -> Result<(), Box<Fault>> {
        self.budget = self.budget.checked_sub(text.len() + 1).ok_or_else(|| {
            wrong("the schema's references and alternatives take too long to follow")
        })?;
        Ok(())
    }

    /// The columns of `properties`.
    fn properties(&mut self, properties: &'a [u8], at: At) -> Result<Vec<Column>, Box<Fault>> {
        self.spend(properties)?;
        let mut columns = Vec::new();
        let mut names = HashSet::new();
        let max_depth = self.options.max_depth;
        each_member::<Stop>(properties, max_depth, |key, node| {
            let property = property_name(&key)?;
            if !names.insert(property.clone()) {
                return Err(Stop::Fault(
                    wrong("the property stands twice").field(property),
                ));
            }
            let before = self.leaves;
            let shape = self
                .node(node, at)
                .map_err(|fault| Stop::Fault(fault.below(&property)))?;
            // What alternatives came to nothing does not count.
            self.leaves = before + shape.leaves();
            if self.leaves > self.options.max_columns {
                let message = format!("a stream of more than {} columns", self.options.max_columns);
                return Err(Stop::Fault(
                    Fault::plugin("limit.columns", message)
                        .hint("limits.max_columns sets the most columns"),
                ));
            }
            columns.push(Column { property, shape });
            Ok(())
        })?;
        Ok(columns)
    }

    fn members<const N: usize>(
        &mut self,
        text: &'a [u8],
        names: [&str; N],
    ) -> Result<[Option<&'a [u8]>; N], Box<Fault>> {
        self.spend(text)?;
        members(text, self.options.max_depth, names).map_err(|bad| Stop::Bad(bad).into())
    }

    /// The type of the values that `node` describes.
    fn node(&mut self, node: &'a [u8], at: At) -> Result<Shape, Box<Fault>> {
        if !node.starts_with(b"{") {
            // `true` and `false` are schemas too.
            return if matches!(node, b"true" | b"false") {
                Ok(Shape::Json)
            } else {
                Err(not_a_schema(node))
            };
        }
        if at.hops > MAX_HOPS {
            return Err(wrong(format!(
                "references and alternatives nested deeper than {MAX_HOPS}"
            )));
        }
        let names = ["$ref", "type", "anyOf", "oneOf", "allOf", "enum", "const"];
        let [reference, kind, any_of, one_of, all_of, values, value] = self.members(node, names)?;
        if let Some(reference) = reference {
            return self.reference(reference, at);
        }
        if let Some(kind) = kind {
            return match self.kinds(kind)? {
                Kinds::OBJECT => self.object(node, at),
                Kinds::ARRAY => self.array(node, at),
                kinds => self.scalar(node, kinds),
            };
        }
        if let Some(alternatives) = any_of.or(one_of) {
            return self.alternatives(alternatives, at);
        }
        if let Some(parts) = all_of {
            return self.all_of(parts, at);
        }
        if let Some(values) = values {
            return self.values(values);
        }
        Ok(value.map_or(Shape::Json, |value| kind_of_value(value).shape()))
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
            each_element(kind, self.options.max_depth, add)?;
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
                Primitive::Long
            };
            return Ok(Shape::of(kind));
        }
        Ok(
            match (multiple.and_then(decimal_of), self.options.numbers) {
                (Some(decimal), _) => Shape::of(decimal),
                (None, Numbers::Double) => Shape::of(Primitive::Double),
                (None, Numbers::Decimal) => Shape::of(DEFAULT_DECIMAL),
                (None, Numbers::Text) => Shape::Json,
            },
        )
    }

    /// An object: its properties, or any keys with values of one type.
    fn object(&mut self, node: &'a [u8], at: At) -> Result<Shape, Box<Fault>> {
        if at.nesting >= MAX_NESTING {
            return Ok(Shape::Json);
        }
        let names = ["properties", "additionalProperties", "patternProperties"];
        let [properties, additional, pattern] = self.members(node, names)?;
        let typed = |node: &&[u8]| node.starts_with(b"{");
        if pattern.is_some() {
            return Ok(Shape::Json);
        }
        match (properties, additional.filter(typed)) {
            (Some(properties), None) => {
                let columns = self.properties(properties, at.inside())?;
                Ok(if columns.is_empty() {
                    Shape::Json
                } else {
                    Shape::Struct(columns)
                })
            }
            (None, Some(values)) => Ok(match self.node(values, at.inside())? {
                Shape::Json => Shape::Json,
                value => Shape::Map(Box::new(value)),
            }),
            // Known keys beside others of a type of their own, or nothing that is known.
            _ => Ok(Shape::Json),
        }
    }

    /// An array whose elements are of one type.
    fn array(&mut self, node: &'a [u8], at: At) -> Result<Shape, Box<Fault>> {
        if at.nesting >= MAX_NESTING {
            return Ok(Shape::Json);
        }
        let [items, prefix] = self.members(node, ["items", "prefixItems"])?;
        let Some(items) = items.filter(|items| items.starts_with(b"{") && prefix.is_none()) else {
            return Ok(Shape::Json);
        };
        Ok(match self.node(items, at.inside())? {
            Shape::Json => Shape::Json,
            element => Shape::List(Box::new(element)),
        })
    }

    /// `precision` and `scale`, which singer-sdk writes beside its decimal format.
    fn declared_decimal(&mut self, node: &'a [u8]) -> Result<Option<Primitive>, Box<Fault>> {
        let [precision, scale] = self.members(node, ["precision", "scale"])?;
        let small = |text: Option<&[u8]>| {
            text.and_then(number::integer)
                .and_then(|value| u8::try_from(value).ok())
        };
        Ok(match (small(precision), small(scale)) {
            (Some(precision @ 1..=number::MAX_PRECISION), Some(scale)) if scale <= precision => {
                Some(Primitive::Decimal { precision, scale })
            }
            _ => None,
        })
    }

    /// `anyOf`, `oneOf`: one type besides null, or several of numbers, is that type.
    fn alternatives(&mut self, list: &'a [u8], at: At) -> Result<Shape, Box<Fault>> {
        let mut nodes = Vec::new();
        self.spend(list)?;
        each_element::<Stop>(list, self.options.max_depth, |node| {
            nodes.push(node);
            Ok(())
        })?;
        let mut found: Option<Shape> = None;
        for node in nodes {
            if self.is_null(node)? {
                continue;
            }
            let before = self.leaves;
            let shape = self.node(node, at.hop())?;
            self.leaves = before;
            found = Some(match found {
                None => shape,
                Some(other) if other == shape => shape,
                Some(other) => widest(&other, &shape),
            });
        }
        Ok(found.unwrap_or(Shape::Json))
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
    fn all_of(&mut self, list: &'a [u8], at: At) -> Result<Shape, Box<Fault>> {
        let (mut only, mut count) = (None, 0);
        self.spend(list)?;
        each_element::<Stop>(list, self.options.max_depth, |node| {
            only = Some(node);
            count += 1;
            Ok(())
        })?;
        match only {
            Some(node) if count == 1 => self.node(node, at.hop()),
            _ => Ok(Shape::Json),
        }
    }

    /// `enum` without a type: that of its values.
    fn values(&mut self, list: &'a [u8]) -> Result<Shape, Box<Fault>> {
        let mut kinds = Kinds::default();
        self.spend(list)?;
        each_element::<Stop>(list, self.options.max_depth, |value| {
            kinds.0 |= kind_of_value(value).0;
            Ok(())
        })?;
        Ok(kinds.shape())
    }

    /// `$ref` to a place in this schema or to one of Airbyte's well-known types. Nothing is ever fetched.
    fn reference(&mut self, reference: &'a [u8], at: At) -> Result<Shape, Box<Fault>> {
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
        // A tree that holds itself has no end: from there on it is JSON text.
        let is_same = |known: &&(&[u8], u8)| std::ptr::eq(known.0, node);
        if let Some(&(_, nesting)) = self.following.iter().rfind(is_same)
            && nesting < at.nesting
        {
            return Ok(Shape::Json);
        }
        self.following.push((node, at.nesting));
        let shape = self.node(node, at.hop());
        self.following.pop();
        shape
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
    const OBJECT: Kinds = Kinds(16);
    const ARRAY: Kinds = Kinds(32);

    fn add(&mut self, name: &str) -> Result<(), Box<Fault>> {
        self.0 |= match name {
            "null" => 0,
            "boolean" => Kinds::BOOLEAN.0,
            "integer" => Kinds::INTEGER.0,
            "number" => Kinds::NUMBER.0,
            "string" => Kinds::STRING.0,
            "object" => Kinds::OBJECT.0,
            "array" => Kinds::ARRAY.0,
            _ => return Err(wrong("not a type of JSON Schema").value(name.as_bytes())),
        };
        Ok(())
    }

    fn shape(self) -> Shape {
        match self {
            Kinds::BOOLEAN => Shape::of(Primitive::Boolean),
            Kinds::INTEGER => Shape::of(Primitive::Long),
            Kinds::NUMBER | Kinds::EITHER_NUMBER => Shape::of(Primitive::Double),
            Kinds::STRING => Shape::of(Primitive::String),
            _ => Shape::Json,
        }
    }
}

fn kind_of_value(value: &[u8]) -> Kinds {
    match value.first() {
        Some(b'n') => Kinds::default(),
        Some(b't' | b'f') => Kinds::BOOLEAN,
        Some(b'"') => Kinds::STRING,
        Some(b'{') => Kinds::OBJECT,
        Some(b'[') => Kinds::ARRAY,
        _ if fits_long(value) => Kinds::INTEGER,
        _ => Kinds::NUMBER,
    }
}

fn fits_long(number: &[u8]) -> bool {
    number::integer(number).is_some()
}

fn decimal_of(multiple: &[u8]) -> Option<Primitive> {
    number::scale_of_multiple(multiple).map(|scale| Primitive::Decimal {
        precision: number::MAX_PRECISION,
        scale,
    })
}

/// The type of a string node.
fn text_type(format: &str, airbyte: &str, base64: bool) -> Primitive {
    match (airbyte, format) {
        ("timestamp_with_timezone", _) => Primitive::Timestamptz,
        ("timestamp_without_timezone", _) => Primitive::Timestamp,
        ("time_without_timezone", _) => Primitive::Time,
        ("time_with_timezone", _) => Primitive::String,
        ("binary_data", _) => Primitive::Binary,
        (_, "date-time") => Primitive::Timestamptz,
        (_, "date") => Primitive::Date,
        (_, "time") => Primitive::Time,
        _ if base64 => Primitive::Binary,
        _ => Primitive::String,
    }
}

/// The type that holds the values of two number types, or of two kinds of strings; else JSON text.
fn widest(one: &Shape, other: &Shape) -> Shape {
    use Primitive::{Binary, Date, Decimal, Double, Long, String, Time, Timestamp, Timestamptz};
    let plain = |shape: &Shape| match shape {
        &Shape::Value {
            kind,
            quoted: false,
        } => Some(kind),
        _ => None,
    };
    let is_string = |kind| {
        matches!(
            kind,
            String | Binary | Date | Time | Timestamp | Timestamptz
        )
    };
    match (plain(one), plain(other)) {
        (Some(Long), Some(Double)) | (Some(Double), Some(Long)) => Shape::of(Double),
        (Some(Long), Some(decimal @ Decimal { precision, scale }))
        | (Some(decimal @ Decimal { precision, scale }), Some(Long))
            if precision - scale >= LONG_DIGITS =>
        {
            Shape::of(decimal)
        }
        (Some(one), Some(other)) if is_string(one) && is_string(other) => Shape::of(String),
        _ => Shape::Json,
    }
}

/// Airbyte's well_known_types.yaml: numbers are strings there.
fn well_known(name: &str) -> Option<Shape> {
    Some(match name {
        "String" | "TimeWithTimezone" => Shape::of(Primitive::String),
        "BinaryData" => Shape::of(Primitive::Binary),
        "Date" => Shape::of(Primitive::Date),
        "TimestampWithTimezone" => Shape::of(Primitive::Timestamptz),
        "TimestampWithoutTimezone" => Shape::of(Primitive::Timestamp),
        "TimeWithoutTimezone" => Shape::of(Primitive::Time),
        "Number" => Shape::Value {
            kind: Primitive::Double,
            quoted: true,
        },
        "Integer" => Shape::Value {
            kind: Primitive::Long,
            quoted: true,
        },
        "Boolean" => Shape::of(Primitive::Boolean),
        _ => return None,
    })
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
