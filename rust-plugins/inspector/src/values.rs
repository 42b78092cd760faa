//! The values of a page, looked at for their range: none of them is kept.

use crate::flaw::{Flaw, Result, ensure};
use crate::hybrid::{self, Run};
use crate::plan::Primitive;
use crate::range::{Range, Value, is_nan, key_32, key_64, wide};
use crate::schema::{Leaf, Physical};
use crate::seen::Seen;

const PLAIN: i32 = 0;
const PLAIN_DICTIONARY: i32 = 2;
const RLE: i32 = 3;
const RLE_DICTIONARY: i32 = 8;

/// More entries than the writer's dictionaries of a megabyte can have.
const MAX_ENTRIES: usize = 1 << 20;
/// They go beyond that megabyte by one value.
const MAX_DICTIONARY_BYTES: usize = 40 << 20;

/// The values that the pages of a chunk point at.
pub struct Dictionary {
    entries: Entries,
    /// Entries that the page at hand has used.
    used: Vec<bool>,
    order: Vec<u32>,
    has_nan: bool,
}

enum Entries {
    Integers(Vec<i64>),
    Wide(Vec<i128>),
    Texts {
        bytes: Vec<u8>,
        places: Vec<(u32, u32)>,
    },
}

impl Dictionary {
    pub fn read(leaf: &Leaf<'_>, bytes: &[u8], count: usize, encoding: i32) -> Result<Dictionary> {
        ensure(matches!(encoding, PLAIN | PLAIN_DICTIONARY), || {
            format!("has a dictionary of encoding {encoding}")
        })?;
        ensure(count <= MAX_ENTRIES, || {
            format!("has a dictionary of {count} values, the most is {MAX_ENTRIES}")
        })?;
        ensure(bytes.len() <= MAX_DICTIONARY_BYTES, || {
            format!(
                "has a dictionary of {} bytes, the most is {MAX_DICTIONARY_BYTES}",
                bytes.len()
            )
        })?;
        let physical = leaf.physical;
        let mut has_nan = false;
        let entries = match physical {
            Physical::Boolean => return Err(Flaw::new("has a dictionary of flags")),
            Physical::Int32 => integers(bytes, count, |four| i32::from_le_bytes(four).into())?,
            Physical::Int64 => integers(bytes, count, i64::from_le_bytes)?,
            Physical::Float => integers(bytes, count, |four| key_32(u32::from_le_bytes(four)))?,
            Physical::Double => integers(bytes, count, |eight| key_64(u64::from_le_bytes(eight)))?,
            Physical::Fixed(length) => {
                Entries::Wide(fixed(bytes, count, length)?.map(wide).collect())
            }
            Physical::Bytes => {
                check_text(leaf, bytes, count)?;
                let mut places = Vec::with_capacity(count);
                each_text(bytes, count, |text| {
                    let start = text.as_ptr() as usize - bytes.as_ptr() as usize;
                    places.push((start as u32, text.len() as u32));
                    Ok(())
                })?;
                Entries::Texts {
                    bytes: bytes.to_vec(),
                    places,
                }
            }
        };
        if let Entries::Integers(keys) = &entries {
            has_nan = keys.iter().any(|&key| is_nan(physical, key));
        }
        Ok(Dictionary {
            entries,
            used: vec![false; count],
            order: Vec::new(),
            has_nan,
        })
    }

    /// Look at the page `bytes`, which points at `count` entries.
    fn look(
        &mut self,
        physical: Physical,
        bytes: &[u8],
        count: usize,
        seen: &mut Seen,
    ) -> Result<()> {
        let (&width, bytes) = bytes
            .split_first()
            .ok_or_else(|| Flaw::new("has a page that ends before its values"))?;
        let length = self.used.len();
        let mut beyond = None;
        let (used, order) = (&mut self.used, &mut self.order);
        let mut touch = |index: u32| match used.get_mut(index as usize) {
            Some(true) => {}
            Some(unused) => {
                *unused = true;
                order.push(index);
            }
            None => beyond = Some(index),
        };
        hybrid::runs(bytes, width, count, |run| {
            match run {
                Run::Same { value, .. } => touch(value),
                Run::Packed { bytes, count } => hybrid::unpack(bytes, width, count, &mut touch),
            }
            Ok(())
        })?;
        if let Some(index) = beyond {
            let message = format!("has the index {index} into a dictionary of {length} values");
            return Err(Flaw::new(message));
        }
        for index in self.order.drain(..) {
            self.used[index as usize] = false;
            match &self.entries {
                Entries::Integers(keys) => {
                    let key = keys[index as usize];
                    if !is_nan(physical, key) {
                        seen.range.add_integers(key, key);
                    }
                }
                Entries::Wide(values) => seen.range.add_wide(values[index as usize]),
                Entries::Texts { bytes, places } => {
                    let (start, length) = places[index as usize];
                    seen.range
                        .add_text(&bytes[start as usize..][..length as usize]);
                }
            }
        }
        if self.has_nan {
            seen.nans += self.count_nans(physical, bytes, width, count)?;
        }
        Ok(())
    }

    /// Hand out the entries that the page `bytes` points at, each with how often it comes in a row.
    fn each<'a>(
        &'a self,
        bytes: &[u8],
        count: usize,
        take: &mut dyn FnMut(Value<'a>, usize),
    ) -> Result<()> {
        let Some((&width, bytes)) = bytes.split_first() else {
            return Err(Flaw::new("has a page that ends before its values"));
        };
        let entry = |index: u32| match &self.entries {
            Entries::Integers(keys) => Value::Integer(keys[index as usize]),
            Entries::Wide(values) => Value::Wide(values[index as usize]),
            Entries::Texts { bytes, places } => {
                let (start, length) = places[index as usize];
                Value::Text(&bytes[start as usize..][..length as usize])
            }
        };
        hybrid::runs(bytes, width, count, |run| {
            match run {
                Run::Same { value, count } => take(entry(value), count),
                Run::Packed { bytes, count } => {
                    hybrid::unpack(bytes, width, count, |index| take(entry(index), 1));
                }
            }
            Ok(())
        })
    }

    fn count_nans(&self, physical: Physical, bytes: &[u8], width: u8, count: usize) -> Result<u64> {
        let Entries::Integers(keys) = &self.entries else {
            return Ok(0);
        };
        let is_nan = |index: u32| is_nan(physical, keys[index as usize]);
        let mut nans = 0;
        hybrid::runs(bytes, width, count, |run| {
            match run {
                Run::Same { value, count } if is_nan(value) => nans += count as u64,
                Run::Same { .. } => {}
                Run::Packed { bytes, count } => hybrid::unpack(bytes, width, count, |index| {
                    nans += u64::from(is_nan(index));
                }),
            }
            Ok(())
        })?;
        Ok(nans)
    }
}

fn integers<const N: usize>(
    bytes: &[u8],
    count: usize,
    key: impl Fn([u8; N]) -> i64,
) -> Result<Entries> {
    Ok(Entries::Integers(
        plain(bytes, count)?.iter().map(|&raw| key(raw)).collect(),
    ))
}

/// Look at the `count` values of a page without nulls.
pub fn look(
    leaf: &Leaf<'_>,
    dictionary: Option<&mut Dictionary>,
    encoding: i32,
    bytes: &[u8],
    count: usize,
    seen: &mut Seen,
) -> Result<()> {
    match (encoding, dictionary) {
        (PLAIN_DICTIONARY | RLE_DICTIONARY, Some(_)) if count == 0 => Ok(()),
        (PLAIN_DICTIONARY | RLE_DICTIONARY, Some(dictionary)) => {
            dictionary.look(leaf.physical, bytes, count, seen)
        }
        (PLAIN_DICTIONARY | RLE_DICTIONARY, None) => {
            Err(Flaw::new("has a page that points into no dictionary"))
        }
        (PLAIN, _) => look_plain(leaf, bytes, count, seen),
        (RLE, _) if leaf.physical == Physical::Boolean => look_flags(bytes, count, seen),
        _ => Err(Flaw::new(format!("has a page of encoding {encoding}"))),
    }
}

/// Hand out the `count` values of a page without nulls, which was looked at, in order, each with how often it comes.
pub fn each<'a>(
    leaf: &Leaf<'_>,
    dictionary: Option<&'a Dictionary>,
    encoding: i32,
    bytes: &'a [u8],
    count: usize,
    take: &mut dyn FnMut(Value<'a>, usize),
) -> Result<()> {
    match (encoding, dictionary) {
        (PLAIN, _) => each_plain(leaf, bytes, count, take),
        (RLE, _) => {
            let bits = bytes.get(4..).unwrap_or_default();
            for flag in hybrid::flags(bits, count)? {
                take(Value::Integer(flag.into()), 1);
            }
            Ok(())
        }
        (_, Some(dictionary)) if count > 0 => dictionary.each(bytes, count, take),
        _ => Ok(()),
    }
}

fn each_plain<'a>(
    leaf: &Leaf<'_>,
    bytes: &'a [u8],
    count: usize,
    take: &mut dyn FnMut(Value<'a>, usize),
) -> Result<()> {
    let mut take = |value| take(value, 1);
    let mut integer = |number: i64| take(Value::Integer(number));
    match leaf.physical {
        Physical::Boolean => hybrid::unpack(bytes, 1, count, |flag| integer(flag.into())),
        Physical::Int32 => {
            for &raw in plain(bytes, count)? {
                integer(i32::from_le_bytes(raw).into());
            }
        }
        Physical::Int64 => {
            for &raw in plain(bytes, count)? {
                integer(i64::from_le_bytes(raw));
            }
        }
        Physical::Float => {
            for &raw in plain(bytes, count)? {
                integer(key_32(u32::from_le_bytes(raw)));
            }
        }
        Physical::Double => {
            for &raw in plain(bytes, count)? {
                integer(key_64(u64::from_le_bytes(raw)));
            }
        }
        Physical::Fixed(length) => {
            for raw in fixed(bytes, count, length)? {
                take(Value::Wide(wide(raw)));
            }
        }
        Physical::Bytes => each_text(bytes, count, |text| {
            take(Value::Text(text));
            Ok(())
        })?,
    }
    Ok(())
}

fn look_plain(leaf: &Leaf<'_>, bytes: &[u8], count: usize, seen: &mut Seen) -> Result<()> {
    match leaf.physical {
        Physical::Boolean => {
            ensure(bytes.len() == count.div_ceil(8), || uneven(bytes, count))?;
            add_flags(hybrid::ones(bytes, count), count, &mut seen.range);
            Ok(())
        }
        Physical::Int32 => extremes(bytes, count, seen, i32::from_le_bytes),
        Physical::Int64 => extremes(bytes, count, seen, i64::from_le_bytes),
        Physical::Float => {
            let key = |four| key_32(u32::from_le_bytes(four));
            floats(Physical::Float, plain(bytes, count)?, seen, key);
            Ok(())
        }
        Physical::Double => {
            let key = |eight| key_64(u64::from_le_bytes(eight));
            floats(Physical::Double, plain(bytes, count)?, seen, key);
            Ok(())
        }
        Physical::Fixed(length) => {
            for value in fixed(bytes, count, length)? {
                seen.range.add_wide(wide(value));
            }
            Ok(())
        }
        Physical::Bytes => {
            check_text(leaf, bytes, count)?;
            let mut rest = bytes;
            for _ in 0..count {
                let (length, after) = next_text(rest)?;
                seen.range.add_text_of(after, length);
                rest = &after[length..];
            }
            whole(rest)
        }
    }
}

/// Flags as version 2 of pages has them: their length, then the hybrid.
fn look_flags(bytes: &[u8], count: usize, seen: &mut Seen) -> Result<()> {
    let (_, bits) = bytes
        .split_first_chunk::<4>()
        .ok_or_else(|| Flaw::new("has a page that ends before its values"))?;
    add_flags(hybrid::levels(bits, 1, count, 1)?, count, &mut seen.range);
    Ok(())
}

fn add_flags(set: usize, count: usize, range: &mut Range) {
    if count > 0 {
        range.add_integers((set == count).into(), (set > 0).into());
    }
}

fn extremes<const N: usize, T: Ord + Copy + Into<i64>>(
    bytes: &[u8],
    count: usize,
    seen: &mut Seen,
    read: impl Fn([u8; N]) -> T,
) -> Result<()> {
    let values = plain(bytes, count)?;
    if let Some((&first, rest)) = values.split_first() {
        let (mut least, mut greatest) = (read(first), read(first));
        for &raw in rest {
            let value = read(raw);
            least = least.min(value);
            greatest = greatest.max(value);
        }
        seen.range.add_integers(least.into(), greatest.into());
    }
    Ok(())
}

fn floats<const N: usize>(
    physical: Physical,
    values: &[[u8; N]],
    seen: &mut Seen,
    key: impl Fn([u8; N]) -> i64,
) {
    let (mut least, mut greatest, mut nans) = (i64::MAX, i64::MIN, 0);
    for &raw in values {
        let key = key(raw);
        let nan = is_nan(physical, key);
        nans += u64::from(nan);
        least = least.min(if nan { i64::MAX } else { key });
        greatest = greatest.max(if nan { i64::MIN } else { key });
    }
    seen.nans += nans;
    if least <= greatest {
        seen.range.add_integers(least, greatest);
    }
}

fn plain<const N: usize>(bytes: &[u8], count: usize) -> Result<&[[u8; N]]> {
    let (values, rest) = bytes.as_chunks::<N>();
    ensure(values.len() == count && rest.is_empty(), || {
        uneven(bytes, count)
    })?;
    Ok(values)
}

fn fixed(bytes: &[u8], count: usize, length: usize) -> Result<std::slice::ChunksExact<'_, u8>> {
    ensure(count.checked_mul(length) == Some(bytes.len()), || {
        uneven(bytes, count)
    })?;
    Ok(bytes.chunks_exact(length))
}

fn uneven(bytes: &[u8], count: usize) -> String {
    format!("has a page of {} bytes for {count} values", bytes.len())
}

fn each_text<'a>(
    mut bytes: &'a [u8],
    count: usize,
    mut take: impl FnMut(&'a [u8]) -> Result<()>,
) -> Result<()> {
    for _ in 0..count {
        let (length, after) = next_text(bytes)?;
        let (text, rest) = after.split_at(length);
        bytes = rest;
        take(text)?;
    }
    whole(bytes)
}

/// The length of the text at the front of `bytes`, and what begins with it: at least that many bytes.
#[inline]
fn next_text(bytes: &[u8]) -> Result<(usize, &[u8])> {
    let (length, after) = bytes.split_first_chunk::<4>().ok_or_else(inside)?;
    let length = u32::from_le_bytes(*length) as usize;
    if length <= after.len() {
        Ok((length, after))
    } else {
        Err(inside())
    }
}

fn inside() -> Flaw {
    Flaw::new("has a page that ends inside a value")
}

/// Whether nothing is left behind the values of a page.
fn whole(rest: &[u8]) -> Result<()> {
    ensure(rest.is_empty(), || {
        "has a page with more than its values".into()
    })
}

/// Texts are UTF-8. A page that is ASCII with its lengths is known to be at a glance.
fn check_text(leaf: &Leaf<'_>, bytes: &[u8], count: usize) -> Result<()> {
    if leaf.primitive != Primitive::String || bytes.is_ascii() {
        return Ok(());
    }
    each_text(bytes, count, |text| {
        ensure(simdutf8::basic::from_utf8(text).is_ok(), || {
            "has a text that is not UTF-8".into()
        })
    })
}
