//! The values of a page, looked at for their range: none of them is kept.

use crate::dictionary::Dictionary;
use crate::flaw::{Flaw, Result, ensure};
use crate::hybrid;
use crate::plan::Primitive;
use crate::range::{Range, Value, is_nan, key_32, key_64, wide};
use crate::schema::{Leaf, Physical};
use crate::seen::Seen;

pub const PLAIN: i32 = 0;
pub const PLAIN_DICTIONARY: i32 = 2;
const RLE: i32 = 3;
const RLE_DICTIONARY: i32 = 8;

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
    let (_, bits) = bytes.split_first_chunk::<4>().ok_or_else(before_values)?;
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

pub fn plain<const N: usize>(bytes: &[u8], count: usize) -> Result<&[[u8; N]]> {
    let (values, rest) = bytes.as_chunks::<N>();
    ensure(values.len() == count && rest.is_empty(), || {
        uneven(bytes, count)
    })?;
    Ok(values)
}

pub fn fixed(bytes: &[u8], count: usize, length: usize) -> Result<std::slice::ChunksExact<'_, u8>> {
    ensure(count.checked_mul(length) == Some(bytes.len()), || {
        uneven(bytes, count)
    })?;
    Ok(bytes.chunks_exact(length))
}

fn uneven(bytes: &[u8], count: usize) -> String {
    format!("has a page of {} bytes for {count} values", bytes.len())
}

pub fn each_text<'a>(
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

pub fn before_values() -> Flaw {
    Flaw::new("has a page that ends before its values")
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
pub fn check_text(leaf: &Leaf<'_>, bytes: &[u8], count: usize) -> Result<()> {
    if leaf.primitive != Primitive::String || bytes.is_ascii() {
        return Ok(());
    }
    each_text(bytes, count, |text| {
        ensure(simdutf8::basic::from_utf8(text).is_ok(), || {
            "has a text that is not UTF-8".into()
        })
    })
}
