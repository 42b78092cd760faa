//! A Parquet footer: what the file says that it holds, bounded and as strict as dativo's own writer permits.
//!
//! What the writer does not write is refused where a reader could be misled by it: other files, encryption, Bloom filters, orders of
//! rows, key-value metadata (which carries other schemas).
//! Source: apache/parquet-format, parquet.thrift; the numbers of fields are its.

use crate::flaw::{Flaw, Result, count, ensure};
use crate::thrift::{Reader, Type};

pub const MAX_FOOTER_BYTES: u64 = 16 << 20;
const MAX_ELEMENTS: usize = 1 << 16;
const MAX_CHUNKS: usize = 1 << 16;
/// Names on the way to a leaf: 16 levels, of which a list or map takes three.
const MAX_PATH: usize = 64;

pub struct Footer<'a> {
    pub rows: u64,
    pub schema: Vec<Element<'a>>,
    pub groups: Vec<Group<'a>>,
}

/// A node of the schema, which is listed depth first.
#[derive(Default)]
pub struct Element<'a> {
    pub physical: Option<i32>,
    pub length: Option<i32>,
    pub repetition: Option<i32>,
    pub name: &'a str,
    pub children: Option<i32>,
    pub converted: Option<i32>,
    pub field_id: Option<i32>,
    pub logical: Option<Logical>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logical {
    Text,
    Map,
    List,
    Decimal { precision: i32, scale: i32 },
    Date,
    Time { utc: bool, micros: bool },
    Timestamp { utc: bool, micros: bool },
    Integer { bits: i8, signed: bool },
    Other(i16),
}

#[derive(Default)]
pub struct Group<'a> {
    pub rows: u64,
    pub chunks: Vec<Chunk<'a>>,
}

/// One column of one row group.
#[derive(Default)]
pub struct Chunk<'a> {
    pub physical: i32,
    pub codec: i32,
    /// Nulls included.
    pub values: u64,
    pub compressed: u64,
    pub uncompressed: u64,
    pub path: Vec<&'a str>,
    data_page: u64,
    dictionary_page: u64,
    pub statistics: Option<Statistics<'a>>,
    pub column_index: Option<Place>,
    pub offset_index: Option<Place>,
}

impl Chunk<'_> {
    /// Where its first page begins; 0 stands for no such page.
    pub fn start(&self) -> u64 {
        let pages = [self.dictionary_page, self.data_page];
        let first = pages.into_iter().filter(|&page| page > 0).min();
        first.unwrap_or_default()
    }
}

/// A part of the file.
#[derive(Clone, Copy, Default)]
pub struct Place {
    pub offset: u64,
    pub length: u64,
}

/// What is said of the values of a chunk or page.
#[derive(Default)]
pub struct Statistics<'a> {
    pub nulls: Option<u64>,
    pub nans: Option<u64>,
    pub min: Option<Bound<'a>>,
    pub max: Option<Bound<'a>>,
    /// The deprecated ones, in the order of signed values.
    pub old_min: Option<Bound<'a>>,
    pub old_max: Option<Bound<'a>>,
}

/// `exact`: it is one of the values.
#[derive(Clone, Copy)]
pub struct Bound<'a> {
    pub bytes: &'a [u8],
    pub exact: bool,
}

/// Read the bytes of a footer.
pub fn read(bytes: &[u8]) -> Result<Footer<'_>> {
    let mut reader = Reader::new(bytes);
    let mut footer = Footer {
        rows: 0,
        schema: Vec::new(),
        groups: Vec::new(),
    };
    let mut chunks = 0;
    reader.fields(|r, id, kind| match id {
        2 => r.list(kind, |r, kind| {
            ensure(footer.schema.len() < MAX_ELEMENTS, || {
                format!("has more than {MAX_ELEMENTS} columns")
            })?;
            footer.schema.push(element(r, kind)?);
            Ok(())
        }),
        3 => {
            footer.rows = count("row count", r.i64(kind)?)?;
            Ok(())
        }
        4 => r.list(kind, |r, kind| {
            footer.groups.push(group(r, kind, &mut chunks)?);
            Ok(())
        }),
        5 => empty_list(r, kind, "key-value metadata"),
        8 | 9 => Err(Flaw::new("is encrypted")),
        _ => r.skip(kind),
    })?;
    ensure(reader.at() == bytes.len(), || {
        "has more in its footer than one".into()
    })?;
    Ok(footer)
}

fn empty_list(r: &mut Reader<'_>, kind: Type, what: &str) -> Result<()> {
    r.list(kind, |_, _| Err(Flaw::new(format!("has {what}"))))
}

fn element<'a>(r: &mut Reader<'a>, kind: Type) -> Result<Element<'a>> {
    let mut element = Element::default();
    r.record(kind, |r, id, kind| {
        match id {
            1 => element.physical = Some(r.i32(kind)?),
            2 => element.length = Some(r.i32(kind)?),
            3 => element.repetition = Some(r.i32(kind)?),
            4 => element.name = r.text(kind)?,
            5 => element.children = Some(r.i32(kind)?),
            6 => element.converted = Some(r.i32(kind)?),
            9 => element.field_id = Some(r.i32(kind)?),
            10 => element.logical = Some(logical(r, kind)?),
            _ => r.skip(kind)?,
        }
        Ok(())
    })?;
    Ok(element)
}

fn logical(r: &mut Reader<'_>, kind: Type) -> Result<Logical> {
    let mut logical = None;
    r.record(kind, |r, id, kind| {
        let one = match id {
            1 => r.skip(kind).map(|()| Logical::Text),
            2 => r.skip(kind).map(|()| Logical::Map),
            3 => r.skip(kind).map(|()| Logical::List),
            5 => decimal(r, kind),
            6 => r.skip(kind).map(|()| Logical::Date),
            7 => time(r, kind).map(|(utc, micros)| Logical::Time { utc, micros }),
            8 => time(r, kind).map(|(utc, micros)| Logical::Timestamp { utc, micros }),
            10 => integer(r, kind),
            other => r.skip(kind).map(|()| Logical::Other(other)),
        }?;
        ensure(logical.replace(one).is_none(), || {
            "has a column of two logical types".into()
        })
    })?;
    logical.ok_or_else(|| Flaw::new("has a column of an empty logical type"))
}

fn decimal(r: &mut Reader<'_>, kind: Type) -> Result<Logical> {
    let (mut precision, mut scale) = (0, 0);
    r.record(kind, |r, id, kind| {
        match id {
            1 => scale = r.i32(kind)?,
            2 => precision = r.i32(kind)?,
            _ => r.skip(kind)?,
        }
        Ok(())
    })?;
    Ok(Logical::Decimal { precision, scale })
}

/// Whether it is adjusted to UTC, and whether its unit is microseconds.
fn time(r: &mut Reader<'_>, kind: Type) -> Result<(bool, bool)> {
    let (mut utc, mut micros) = (false, false);
    r.record(kind, |r, id, kind| match id {
        1 => {
            utc = r.flag(kind)?;
            Ok(())
        }
        2 => r.record(kind, |r, unit, kind| {
            micros = unit == 2;
            r.skip(kind)
        }),
        _ => r.skip(kind),
    })?;
    Ok((utc, micros))
}

fn integer(r: &mut Reader<'_>, kind: Type) -> Result<Logical> {
    let (mut bits, mut signed) = (0, false);
    r.record(kind, |r, id, kind| {
        match id {
            1 => bits = r.i8(kind)?,
            2 => signed = r.flag(kind)?,
            _ => r.skip(kind)?,
        }
        Ok(())
    })?;
    Ok(Logical::Integer { bits, signed })
}

fn group<'a>(r: &mut Reader<'a>, kind: Type, chunks: &mut usize) -> Result<Group<'a>> {
    let mut group = Group::default();
    r.record(kind, |r, id, kind| match id {
        1 => r.list(kind, |r, kind| {
            *chunks += 1;
            ensure(*chunks <= MAX_CHUNKS, || {
                format!("has more than {MAX_CHUNKS} column chunks")
            })?;
            group.chunks.push(chunk(r, kind)?);
            Ok(())
        }),
        3 => {
            group.rows = count("row count", r.i64(kind)?)?;
            Ok(())
        }
        4 => empty_list(r, kind, "an order of rows"),
        _ => r.skip(kind),
    })?;
    Ok(group)
}

fn chunk<'a>(r: &mut Reader<'a>, kind: Type) -> Result<Chunk<'a>> {
    let mut chunk = Chunk::default();
    let (mut offset_index, mut column_index) = ((None, None), (None, None));
    let mut described = false;
    r.record(kind, |r, id, kind| {
        match id {
            1 => return Err(Flaw::new("names another file")),
            3 => {
                described = true;
                metadata(r, kind, &mut chunk)?;
            }
            4 => offset_index.0 = Some(count("place", r.i64(kind)?)?),
            5 => offset_index.1 = Some(count("length", r.i32(kind)?)?),
            6 => column_index.0 = Some(count("place", r.i64(kind)?)?),
            7 => column_index.1 = Some(count("length", r.i32(kind)?)?),
            8 | 9 => return Err(Flaw::new("is encrypted")),
            _ => r.skip(kind)?,
        }
        Ok(())
    })?;
    ensure(described, || "has a column chunk without metadata".into())?;
    chunk.offset_index = place(offset_index)?;
    chunk.column_index = place(column_index)?;
    Ok(chunk)
}

fn place(parts: (Option<u64>, Option<u64>)) -> Result<Option<Place>> {
    match parts {
        (Some(offset), Some(length)) => Ok(Some(Place { offset, length })),
        (None, None) => Ok(None),
        _ => Err(Flaw::new("has half a place of a page index")),
    }
}

fn metadata<'a>(r: &mut Reader<'a>, kind: Type, chunk: &mut Chunk<'a>) -> Result<()> {
    r.record(kind, |r, id, kind| {
        match id {
            1 => chunk.physical = r.i32(kind)?,
            3 => r.list(kind, |r, kind| {
                ensure(chunk.path.len() < MAX_PATH, || {
                    "has a path that is too long".into()
                })?;
                chunk.path.push(r.text(kind)?);
                Ok(())
            })?,
            4 => chunk.codec = r.i32(kind)?,
            5 => chunk.values = count("value count", r.i64(kind)?)?,
            6 => chunk.uncompressed = count("size", r.i64(kind)?)?,
            7 => chunk.compressed = count("size", r.i64(kind)?)?,
            9 => chunk.data_page = count("place", r.i64(kind)?)?,
            11 => chunk.dictionary_page = count("place", r.i64(kind)?)?,
            12 => chunk.statistics = Some(statistics(r, kind)?),
            14 | 15 => return Err(Flaw::new("has a Bloom filter")),
            _ => r.skip(kind)?,
        }
        Ok(())
    })
}

/// Read what is said of values, in a footer or in a page's header.
pub fn statistics<'a>(r: &mut Reader<'a>, kind: Type) -> Result<Statistics<'a>> {
    let mut said = Statistics::default();
    let (mut max, mut min) = (None, None);
    // Who does not say that a bound is cut means that it is a value.
    let (mut max_exact, mut min_exact) = (true, true);
    let bound = |bytes, exact| Bound { bytes, exact };
    r.record(kind, |r, id, kind| {
        match id {
            1 => said.old_max = Some(bound(r.binary(kind)?, true)),
            2 => said.old_min = Some(bound(r.binary(kind)?, true)),
            3 => said.nulls = Some(count("null count", r.i64(kind)?)?),
            4 => return Err(Flaw::new("has a count of distinct values")),
            5 => max = Some(r.binary(kind)?),
            6 => min = Some(r.binary(kind)?),
            7 => max_exact = r.flag(kind)?,
            8 => min_exact = r.flag(kind)?,
            9 => said.nans = Some(count("NaN count", r.i64(kind)?)?),
            _ => r.skip(kind)?,
        }
        Ok(())
    })?;
    said.max = max.map(|bytes| bound(bytes, max_exact));
    said.min = min.map(|bytes| bound(bytes, min_exact));
    Ok(said)
}
