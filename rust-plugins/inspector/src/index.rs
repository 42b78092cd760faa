//! The page index: what a file says of its pages beside their headers, by which readers pass over them.
//!
//! Bounds of pages are checked of columns that have one value a row at most. Of others parquet-rs calls a page empty that has as many
//! nulls as rows, whatever else is in it; readers do not pass over pages by them.
//!
//! Source: apache/parquet-format, PageIndex.md, `ColumnIndex` and `OffsetIndex`.

use crate::flaw::{Flaw, Result, count, ensure};
use crate::footer::{Bound, Chunk, Place};
use crate::range::Value;
use crate::schema::Leaf;
use crate::seen::Seen;
use crate::thrift::{Reader, Type};

/// Pages of a column chunk that has an index.
const MAX_PAGES: usize = 1 << 16;

/// The part of a file behind its last column chunk.
pub struct Behind {
    pub start: u64,
    pub bytes: Vec<u8>,
}

impl Behind {
    fn part(&self, place: Place) -> Result<&[u8]> {
        let part = place.offset.checked_sub(self.start).and_then(|from| {
            let from = usize::try_from(from).ok()?;
            let to = from.checked_add(usize::try_from(place.length).ok()?)?;
            self.bytes.get(from..to)
        });
        part.ok_or_else(|| Flaw::new("has a page index that is not behind its column chunks"))
    }
}

/// The index of one column chunk.
#[derive(Default)]
pub struct Index<'a> {
    bounds: Option<Bounds<'a>>,
    places: Option<Vec<PagePlace>>,
    pages: usize,
}

#[derive(Default)]
struct Bounds<'a> {
    empty: Vec<bool>,
    mins: Vec<&'a [u8]>,
    maxs: Vec<&'a [u8]>,
    order: i32,
    nulls: Option<Vec<u64>>,
    nans: Option<Vec<u64>>,
}

#[derive(Default, PartialEq)]
pub struct PagePlace {
    pub offset: u64,
    pub bytes: u64,
    pub first_row: u64,
}

impl<'a> Index<'a> {
    pub fn read(chunk: &Chunk<'_>, behind: &'a Behind) -> Result<Index<'a>> {
        let bounds = chunk.column_index.map(|place| bounds(behind.part(place)?));
        let places = chunk.offset_index.map(|place| places(behind.part(place)?));
        Ok(Index {
            bounds: bounds.transpose()?,
            places: places.transpose()?,
            pages: 0,
        })
    }

    /// Hold the next page against what is said of it.
    pub fn check(
        &mut self,
        leaf: &Leaf<'_>,
        place: &PagePlace,
        seen: &Seen,
        begins_row: bool,
    ) -> Result<()> {
        let page = self.pages;
        self.pages += 1;
        if let Some(places) = &self.places {
            ensure(begins_row && places.get(page) == Some(place), || {
                format!("has an index that places page {page} elsewhere")
            })?;
        }
        let Some(bounds) = self.bounds.as_ref().filter(|_| leaf.is_flat()) else {
            return Ok(());
        };
        ensure(page < bounds.empty.len(), || {
            "has an index of fewer pages".into()
        })?;
        let is_empty = seen.nulls == seen.values;
        ensure(bounds.empty[page] == is_empty, || {
            format!("has an index that is wrong about the nulls of page {page}")
        })?;
        if let Some(nulls) = &bounds.nulls {
            ensure(nulls.get(page) == Some(&seen.nulls), || {
                format!("has an index that miscounts the nulls of page {page}")
            })?;
        }
        if let Some(nans) = &bounds.nans {
            ensure(nans.get(page) == Some(&seen.nans), || {
                format!("has an index that miscounts the NaN of page {page}")
            })?;
        }
        if is_empty {
            return Ok(());
        }
        for (bytes, lower) in [(bounds.mins[page], true), (bounds.maxs[page], false)] {
            let bound = Bound {
                bytes,
                exact: false,
            };
            seen.check_bound(leaf.physical, bound, lower)?;
        }
        Ok(())
    }

    /// Every page was checked: is it all that the index has, and in the order that it says?
    pub fn finish(self, leaf: &Leaf<'_>) -> Result<()> {
        let pages = self.pages;
        ensure(
            self.places.is_none_or(|places| places.len() == pages),
            || "has an index of more pages".into(),
        )?;
        let Some(bounds) = self.bounds.filter(|_| leaf.is_flat()) else {
            return Ok(());
        };
        ensure(bounds.empty.len() == pages, || {
            "has an index of more pages".into()
        })?;
        let descends = match bounds.order {
            0 => return Ok(()),
            1 => false,
            2 => true,
            other => return Err(Flaw::new(format!("has an index of order {other}"))),
        };
        for bound in [&bounds.mins, &bounds.maxs] {
            let full = bound
                .iter()
                .zip(&bounds.empty)
                .filter(|(_, empty)| !**empty);
            let mut last = None;
            for (bytes, _) in full {
                let value = Value::read(leaf.physical, bytes)?;
                let is_ordered =
                    last.is_none_or(|last| value == last || (value < last) == descends);
                ensure(is_ordered, || {
                    "has an index that is not in its order".into()
                })?;
                last = Some(value);
            }
        }
        Ok(())
    }
}

fn bounds(bytes: &[u8]) -> Result<Bounds<'_>> {
    let mut bounds = Bounds::default();
    Reader::new(bytes).fields(|r, id, kind| {
        match id {
            1 => bounds.empty = list(r, kind, |r, kind| r.flag(kind))?,
            2 => bounds.mins = list(r, kind, |r, kind| r.binary(kind))?,
            3 => bounds.maxs = list(r, kind, |r, kind| r.binary(kind))?,
            4 => bounds.order = r.i32(kind)?,
            5 => bounds.nulls = Some(list(r, kind, |r, kind| count("null count", r.i64(kind)?))?),
            8 => bounds.nans = Some(list(r, kind, |r, kind| count("NaN count", r.i64(kind)?))?),
            _ => r.skip(kind)?,
        }
        Ok(())
    })?;
    let pages = bounds.empty.len();
    ensure(
        bounds.mins.len() == pages && bounds.maxs.len() == pages,
        || "has an index whose lists differ in length".into(),
    )?;
    Ok(bounds)
}

fn places(bytes: &[u8]) -> Result<Vec<PagePlace>> {
    let mut places = Vec::new();
    Reader::new(bytes).fields(|r, id, kind| match id {
        1 => {
            places = list(r, kind, place)?;
            Ok(())
        }
        _ => r.skip(kind),
    })?;
    Ok(places)
}

fn place(r: &mut Reader<'_>, kind: Type) -> Result<PagePlace> {
    let mut place = PagePlace::default();
    r.record(kind, |r, id, kind| {
        match id {
            1 => place.offset = count("place", r.i64(kind)?)?,
            2 => place.bytes = count("size", r.i32(kind)?)?,
            3 => place.first_row = count("row", r.i64(kind)?)?,
            _ => r.skip(kind)?,
        }
        Ok(())
    })?;
    Ok(place)
}

fn list<'a, T>(
    r: &mut Reader<'a>,
    kind: Type,
    mut read: impl FnMut(&mut Reader<'a>, Type) -> Result<T>,
) -> Result<Vec<T>> {
    let mut items = Vec::new();
    r.list(kind, |r, kind| {
        ensure(items.len() < MAX_PAGES, || {
            format!("has an index of more than {MAX_PAGES} pages")
        })?;
        items.push(read(r, kind)?);
        Ok(())
    })?;
    Ok(items)
}
