//! A page: its header, bounded before anything is made of it, and its bytes.
//!
//! Source: apache/parquet-format, parquet.thrift, `PageHeader`.

use zstd::bulk::Decompressor;

use crate::flaw::{Flaw, Result, ensure};
use crate::footer::{Statistics, statistics};
use crate::hybrid;
use crate::schema::Leaf;
use crate::thrift::{Reader, Type};

/// A header with the bounds that it may hold.
pub const MAX_HEADER_BYTES: usize = 64 << 10;
/// A page, packed or not. The writer ends one at a megabyte or at the value that goes beyond it, and a line has 32 MiB.
const MAX_PAGE_BYTES: usize = 64 << 20;

pub const UNCOMPRESSED: i32 = 0;
pub const ZSTD: i32 = 6;

const RLE: i32 = 3;

pub struct Header<'a> {
    pub uncompressed: usize,
    pub compressed: usize,
    pub kind: Kind<'a>,
}

pub enum Kind<'a> {
    Dictionary { values: usize, encoding: i32 },
    Data(Data<'a>),
}

#[derive(Default)]
pub struct Data<'a> {
    /// Nulls included.
    pub values: usize,
    pub encoding: i32,
    pub statistics: Option<Statistics<'a>>,
    /// The first version writes the lengths of its levels into the page, and packs them with the values.
    levels: Option<[i32; 2]>,
    second: Option<Second>,
}

/// What the second version says in the header.
#[derive(Default)]
struct Second {
    nulls: usize,
    rows: usize,
    def_bytes: usize,
    rep_bytes: usize,
    packed: bool,
}

/// Read the header at the front of `bytes`; its length comes with it.
pub fn header(bytes: &[u8]) -> Result<(Header<'_>, usize)> {
    let mut reader = Reader::new(bytes);
    let (mut uncompressed, mut compressed) = (0, 0);
    let (mut kind, mut which) = (None, None);
    reader.fields(|r, id, thrift| {
        match id {
            1 => which = Some(r.i32(thrift)?),
            2 => uncompressed = size(r, thrift)?,
            3 => compressed = size(r, thrift)?,
            5 | 7 | 8 => {
                let one = match id {
                    5 => Kind::Data(data(r, thrift)?),
                    7 => dictionary(r, thrift)?,
                    _ => Kind::Data(data_2(r, thrift)?),
                };
                let number = [0, 2, 3][(id as usize).saturating_sub(6).min(2)];
                ensure(which == Some(number) && kind.replace(one).is_none(), || {
                    "has a page of two kinds".into()
                })?;
            }
            _ => r.skip(thrift)?,
        }
        Ok(())
    })?;
    let kind = kind.ok_or_else(|| Flaw::new("has a page of no known kind"))?;
    let header = Header {
        uncompressed,
        compressed,
        kind,
    };
    Ok((header, reader.at()))
}

fn size(r: &mut Reader<'_>, kind: Type) -> Result<usize> {
    let size = r.i32(kind)?;
    let bytes = usize::try_from(size)
        .ok()
        .filter(|&bytes| bytes <= MAX_PAGE_BYTES);
    bytes.ok_or_else(|| {
        Flaw::new(format!(
            "has a page of {size} bytes, the most is {MAX_PAGE_BYTES}"
        ))
    })
}

fn number(r: &mut Reader<'_>, kind: Type) -> Result<usize> {
    let number = r.i32(kind)?;
    usize::try_from(number).map_err(|_| Flaw::new(format!("has a page of {number} values")))
}

fn dictionary<'a>(r: &mut Reader<'a>, kind: Type) -> Result<Kind<'a>> {
    let (mut values, mut encoding) = (0, 0);
    r.record(kind, |r, id, kind| {
        match id {
            1 => values = number(r, kind)?,
            2 => encoding = r.i32(kind)?,
            _ => r.skip(kind)?,
        }
        Ok(())
    })?;
    Ok(Kind::Dictionary { values, encoding })
}

fn data<'a>(r: &mut Reader<'a>, kind: Type) -> Result<Data<'a>> {
    let mut data = Data::default();
    let mut levels = [0; 2];
    r.record(kind, |r, id, kind| {
        match id {
            1 => data.values = number(r, kind)?,
            2 => data.encoding = r.i32(kind)?,
            3 => levels[1] = r.i32(kind)?,
            4 => levels[0] = r.i32(kind)?,
            5 => data.statistics = Some(statistics(r, kind)?),
            _ => r.skip(kind)?,
        }
        Ok(())
    })?;
    data.levels = Some(levels);
    Ok(data)
}

fn data_2<'a>(r: &mut Reader<'a>, kind: Type) -> Result<Data<'a>> {
    let mut data = Data::default();
    let mut second = Second {
        packed: true,
        ..Second::default()
    };
    r.record(kind, |r, id, kind| {
        match id {
            1 => data.values = number(r, kind)?,
            2 => second.nulls = number(r, kind)?,
            3 => second.rows = number(r, kind)?,
            4 => data.encoding = r.i32(kind)?,
            5 => second.def_bytes = number(r, kind)?,
            6 => second.rep_bytes = number(r, kind)?,
            7 => second.packed = r.flag(kind)?,
            8 => data.statistics = Some(statistics(r, kind)?),
            _ => r.skip(kind)?,
        }
        Ok(())
    })?;
    data.second = Some(second);
    Ok(data)
}

/// Unpacks pages, one at a time.
pub struct Unpacker {
    zstd: Decompressor<'static>,
    page: Vec<u8>,
}

impl Unpacker {
    pub fn new() -> Result<Unpacker> {
        let zstd = Decompressor::new().map_err(|error| Flaw::unreadable(&error))?;
        Ok(Unpacker {
            zstd,
            page: Vec::new(),
        })
    }

    /// The `length` bytes that `packed` holds.
    pub fn unpack<'a>(
        &'a mut self,
        codec: i32,
        packed: &'a [u8],
        length: usize,
    ) -> Result<&'a [u8]> {
        let page = if codec == ZSTD && !(packed.is_empty() && length == 0) {
            self.page.clear();
            self.page.reserve(length);
            let unpacked = self.zstd.decompress_to_buffer(packed, &mut self.page);
            unpacked.map_err(|error| Flaw::new(format!("has a page that is not zstd: {error}")))?;
            self.page.as_slice()
        } else {
            packed
        };
        ensure(page.len() == length, || {
            format!("has a page of {} bytes that says {length}", page.len())
        })?;
        Ok(page)
    }
}

/// A data page, cut up. `values` without nulls are in `plain`.
pub struct Cut<'a> {
    pub rows: usize,
    pub values: usize,
    pub nulls: usize,
    pub plain: &'a [u8],
    /// Definition levels.
    pub def: &'a [u8],
    /// Its first value begins a row.
    pub begins_row: bool,
}

impl Data<'_> {
    /// Cut the page whose body is `body`, `uncompressed` bytes of `codec` in all.
    pub fn cut<'a>(
        &self,
        leaf: &Leaf<'_>,
        body: &'a [u8],
        uncompressed: usize,
        codec: i32,
        unpacker: &'a mut Unpacker,
    ) -> Result<Cut<'a>> {
        match &self.second {
            None => {
                let page = unpacker.unpack(codec, body, uncompressed)?;
                let [rep_encoding, def_encoding] = self.levels.unwrap_or_default();
                let (rep, page) = prefixed(page, leaf.max_rep, rep_encoding)?;
                let (def, page) = prefixed(page, leaf.max_def, def_encoding)?;
                self.count(leaf, rep, def, page)
            }
            Some(second) => {
                let inside = || Flaw::new("has levels that are longer than their page");
                let (rep, rest) = body.split_at_checked(second.rep_bytes).ok_or_else(inside)?;
                let (def, rest) = rest.split_at_checked(second.def_bytes).ok_or_else(inside)?;
                let length = uncompressed
                    .checked_sub(second.rep_bytes + second.def_bytes)
                    .ok_or_else(inside)?;
                let codec = if second.packed { codec } else { UNCOMPRESSED };
                let page = unpacker.unpack(codec, rest, length)?;
                let cut = self.count(leaf, rep, def, page)?;
                ensure(cut.rows == second.rows && cut.nulls == second.nulls, || {
                    format!(
                        "has a page of {} rows and {} nulls that says {} and {}",
                        cut.rows, cut.nulls, second.rows, second.nulls
                    )
                })?;
                Ok(cut)
            }
        }
    }

    fn count<'a>(
        &self,
        leaf: &Leaf<'_>,
        rep: &[u8],
        def: &'a [u8],
        plain: &'a [u8],
    ) -> Result<Cut<'a>> {
        let all = self.values;
        let values = match leaf.max_def {
            0 => all,
            max => hybrid::levels(def, max, all, max)?,
        };
        let (rows, begins_row) = match leaf.max_rep {
            0 => (all, true),
            _ if all == 0 => (0, true),
            max => (
                hybrid::levels(rep, max, all, 0)?,
                hybrid::first_level(rep, max)? == 0,
            ),
        };
        Ok(Cut {
            rows,
            values,
            nulls: all - values,
            plain,
            def,
            begins_row,
        })
    }
}

/// Levels with their length before them, and what is behind them.
fn prefixed(page: &[u8], max: u16, encoding: i32) -> Result<(&[u8], &[u8])> {
    if max == 0 {
        return Ok((&[], page));
    }
    ensure(encoding == RLE, || {
        format!("has levels of encoding {encoding}")
    })?;
    let inside = || Flaw::new("has levels that are longer than their page");
    let (length, rest) = page.split_first_chunk::<4>().ok_or_else(inside)?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
        .ok_or_else(inside)
}
