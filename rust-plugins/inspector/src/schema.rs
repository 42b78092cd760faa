//! Whether a file's schema is the planned one, and the leaves that its column chunks hold.

use std::collections::HashMap;

use crate::flaw::{Flaw, Result, ensure};
use crate::footer::{Element, Logical};
use crate::plan::{Column, Nested, Planned, Primitive};

/// Levels inside one another; a plan has at most 16 and a list or map takes three.
const MAX_DEPTH: u8 = 64;

const REQUIRED: i32 = 0;
const REPEATED: i32 = 2;

/// Parquet's `ConvertedType`, by which older readers know what newer ones do by the logical type.
const UTF8: i32 = 0;
const MAP: i32 = 1;
const LIST: i32 = 3;
const DECIMAL: i32 = 5;
const DATE: i32 = 6;
const TIME_MICROS: i32 = 8;
const TIMESTAMP_MICROS: i32 = 10;
const INT_32: i32 = 17;
const INT_64: i32 = 18;

/// How values lie in pages; the numbers of parquet.thrift's `Type` are those of `number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Physical {
    Boolean,
    Int32,
    Int64,
    Float,
    Double,
    Bytes,
    Fixed(usize),
}

impl Physical {
    pub fn number(self) -> i32 {
        match self {
            Physical::Boolean => 0,
            Physical::Int32 => 1,
            Physical::Int64 => 2,
            Physical::Float => 4,
            Physical::Double => 5,
            Physical::Bytes => 6,
            Physical::Fixed(_) => 7,
        }
    }
}

/// A column of values.
#[derive(Debug)]
pub struct Leaf<'a> {
    pub path: Vec<&'a str>,
    pub field_id: i32,
    pub primitive: Primitive,
    pub physical: Physical,
    /// Definition and repetition levels go up to these.
    pub max_def: u16,
    pub max_rep: u16,
    /// A column of the table that no row may be without.
    pub required: bool,
}

impl Leaf<'_> {
    pub fn name(&self) -> String {
        self.path.join(".")
    }

    /// One value a row at most: it can have metrics.
    pub fn is_flat(&self) -> bool {
        self.max_rep == 0
    }
}

/// The leaves of a file whose schema is `elements`, in its order, if it is what `columns` plans.
pub fn leaves<'a>(elements: &[Element<'a>], columns: &[Column]) -> Result<Vec<Leaf<'a>>> {
    let mut walk = Walk {
        elements: elements.iter(),
        path: Vec::new(),
        leaves: Vec::new(),
        depth: 0,
    };
    let root = walk.next()?;
    walk.fields(root, columns, Levels { def: 0, rep: 0 }, true)?;
    ensure(walk.elements.len() == 0, || {
        "has columns outside its schema".into()
    })?;
    Ok(walk.leaves)
}

#[derive(Clone, Copy)]
struct Levels {
    def: u16,
    rep: u16,
}

struct Walk<'e, 'a> {
    elements: std::slice::Iter<'e, Element<'a>>,
    path: Vec<&'a str>,
    leaves: Vec<Leaf<'a>>,
    depth: u8,
}

impl<'e, 'a> Walk<'e, 'a> {
    fn next(&mut self) -> Result<&'e Element<'a>> {
        let next = self.elements.next();
        next.ok_or_else(|| Flaw::new("has a schema that ends inside a column"))
    }

    /// The children of `parent`, each of which is one of `columns`.
    fn fields(
        &mut self,
        parent: &Element<'a>,
        columns: &[Column],
        levels: Levels,
        top: bool,
    ) -> Result<()> {
        let children = parent.children.unwrap_or(0);
        ensure(children as i64 == columns.len() as i64, || {
            format!("has {children} columns, the plan says {}", columns.len())
        })?;
        let mut planned: HashMap<i32, &Column> = columns
            .iter()
            .map(|column| (column.field_id, column))
            .collect();
        for _ in columns {
            let element = self.next()?;
            let column = element.field_id.and_then(|id| planned.remove(&id));
            let Some(column) = column else {
                let id = id_text(element);
                let message = format!("has a column of field id {id}, which is not in the plan");
                return Err(Flaw::new(message).of(element.name));
            };
            ensure(element.name == column.name, || {
                format!(
                    "has a column that is not named {:?} as the plan says",
                    column.name
                )
            })
            .map_err(|flaw| flaw.of(element.name))?;
            let required = top && column.required;
            self.node(element, &column.kind, column.field_id, levels, required)?;
        }
        Ok(())
    }

    /// `element` and what is below it, for the type `kind`.
    fn node(
        &mut self,
        element: &Element<'a>,
        kind: &Planned,
        field_id: i32,
        levels: Levels,
        required: bool,
    ) -> Result<()> {
        self.depth += 1;
        self.path.push(element.name);
        ensure(self.depth < MAX_DEPTH, || {
            "nests its columns too deeply".into()
        })?;
        let named = |flaw: Flaw| flaw.of(element.name);
        ensure(element.repetition != Some(REPEATED), || {
            "repeats where the plan does not".into()
        })
        .map_err(named)?;
        let levels = descend(element, levels)?;
        match kind {
            Planned::Value(primitive) => {
                let physical = stored(element, *primitive).map_err(named)?;
                self.leaves.push(Leaf {
                    path: self.path.clone(),
                    field_id,
                    primitive: *primitive,
                    physical,
                    max_def: levels.def,
                    max_rep: levels.rep,
                    required,
                });
            }
            Planned::Nested(nested) => self.nested(element, nested, levels).map_err(named)?,
        }
        self.path.pop();
        self.depth -= 1;
        Ok(())
    }

    fn nested(&mut self, element: &Element<'a>, nested: &Nested, levels: Levels) -> Result<()> {
        let (logical, converted) = match nested {
            Nested::Struct { .. } => (None, None),
            Nested::List { .. } => (Some(Logical::List), Some(LIST)),
            Nested::Map { .. } => (Some(Logical::Map), Some(MAP)),
        };
        let is_group = element.physical.is_none();
        let says = element.logical == logical || element.logical.is_none();
        let older = element.converted == converted
            || element.converted.is_none() && element.logical.is_some();
        ensure(is_group && says && older, || {
            "is not of the planned type".into()
        })?;
        match nested {
            Nested::Struct { fields } => self.fields(element, fields, levels, false),
            Nested::List {
                element_id,
                element: kind,
            } => {
                let levels = self.repeated(element, 1, levels)?;
                self.part(kind, *element_id, levels)?;
                self.path.pop();
                Ok(())
            }
            Nested::Map {
                key_id,
                value_id,
                value,
            } => {
                let levels = self.repeated(element, 2, levels)?;
                self.part(&Planned::Value(Primitive::String), *key_id, levels)?;
                self.part(value, *value_id, levels)?;
                self.path.pop();
                Ok(())
            }
        }
    }

    /// The group between a list or map and its `parts`.
    fn repeated(&mut self, element: &Element<'a>, parts: i32, levels: Levels) -> Result<Levels> {
        let group = self.next()?;
        let is_one = element.children == Some(1)
            && group.repetition == Some(REPEATED)
            && group.physical.is_none()
            && group.children == Some(parts);
        ensure(is_one, || "is not of the planned type".into())?;
        self.path.push(group.name);
        descend(group, levels)
    }

    /// An element, key or value, known by its id alone.
    fn part(&mut self, kind: &Planned, id: i32, levels: Levels) -> Result<()> {
        let element = self.next()?;
        ensure(element.field_id == Some(id), || {
            format!("has field id {} where the plan says {id}", id_text(element))
        })?;
        self.node(element, kind, id, levels, false)
    }
}

fn id_text(element: &Element<'_>) -> String {
    element
        .field_id
        .map_or_else(|| "none".to_owned(), |id| id.to_string())
}

/// The levels of what is below `element`.
fn descend(element: &Element<'_>, levels: Levels) -> Result<Levels> {
    let is_repeated = element.repetition == Some(REPEATED);
    let is_required = element.repetition == Some(REQUIRED);
    ensure(
        element
            .repetition
            .is_some_and(|repetition| (0..=2).contains(&repetition)),
        || "has a column that is neither required, optional nor repeated".into(),
    )?;
    Ok(Levels {
        def: levels.def + u16::from(!is_required),
        rep: levels.rep + u16::from(is_repeated),
    })
}

/// How Iceberg stores `primitive` in Parquet, if `element` is that. Source: Iceberg table specification, Appendix A.
fn stored(element: &Element<'_>, primitive: Primitive) -> Result<Physical> {
    let (physical, logical, converted) = match primitive {
        Primitive::Boolean => (Physical::Boolean, None, None),
        Primitive::Int => (Physical::Int32, None, None),
        Primitive::Long => (Physical::Int64, None, None),
        Primitive::Float => (Physical::Float, None, None),
        Primitive::Double => (Physical::Double, None, None),
        Primitive::Date => (Physical::Int32, Some(Logical::Date), Some(DATE)),
        Primitive::Time => time(
            Logical::Time {
                utc: false,
                micros: true,
            },
            TIME_MICROS,
        ),
        Primitive::Timestamp => time(
            Logical::Timestamp {
                utc: false,
                micros: true,
            },
            TIMESTAMP_MICROS,
        ),
        Primitive::Timestamptz => time(
            Logical::Timestamp {
                utc: true,
                micros: true,
            },
            TIMESTAMP_MICROS,
        ),
        Primitive::String => (Physical::Bytes, Some(Logical::Text), Some(UTF8)),
        Primitive::Binary => (Physical::Bytes, None, None),
        Primitive::Decimal { precision, scale } => {
            let logical = Logical::Decimal {
                precision: precision.into(),
                scale: scale.into(),
            };
            (of_decimal(precision), Some(logical), Some(DECIMAL))
        }
    };
    // A plain integer may say so.
    let plain = match (physical, primitive) {
        (Physical::Int32, Primitive::Int) => Some((32, INT_32)),
        (Physical::Int64, Primitive::Long) => Some((64, INT_64)),
        _ => None,
    };
    let is_plain = plain.is_some_and(|(bits, converted)| {
        element.logical == Some(Logical::Integer { bits, signed: true })
            && element.converted.is_none_or(|said| said == converted)
    });
    let length_is = match physical {
        Physical::Fixed(length) => element.length == Some(length as i32),
        _ => true,
    };
    let says =
        element.logical == logical && element.converted.is_none_or(|said| Some(said) == converted);
    let holds = element.physical == Some(physical.number())
        && element.children.unwrap_or(0) == 0
        && length_is
        && (says || is_plain);
    ensure(holds, || {
        format!("is not stored as Iceberg stores the planned {primitive}")
    })?;
    Ok(physical)
}

fn time(logical: Logical, converted: i32) -> (Physical, Option<Logical>, Option<i32>) {
    (Physical::Int64, Some(logical), Some(converted))
}

/// The least bytes that hold all decimals of `precision` digits.
fn of_decimal(precision: u8) -> Physical {
    match precision {
        0..=9 => Physical::Int32,
        10..=18 => Physical::Int64,
        _ => {
            let most = 10_i128.pow(precision.into());
            let bits = 128 - most.leading_zeros() as usize + 1;
            Physical::Fixed(bits.div_ceil(8))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_take_the_least_bytes() {
        let lengths: Vec<_> = (19..=38).map(of_decimal).collect();
        // Iceberg's DecimalUtil, arrow's decimal_length_from_precision.
        let known = [
            9, 9, 9, 10, 10, 11, 11, 11, 12, 12, 13, 13, 13, 14, 14, 15, 15, 16, 16, 16,
        ];
        assert_eq!(lengths, known.map(Physical::Fixed));
    }
}
