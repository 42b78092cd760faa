//! Dictionaries: the values that the pages of a chunk point at.

use crate::flaw::{Flaw, Result, ensure};
use crate::hybrid::{self, Run};
use crate::range::{Value, is_nan, key_32, key_64, wide};
use crate::schema::{Leaf, Physical};
use crate::seen::Seen;
use crate::values::{PLAIN, PLAIN_DICTIONARY, before_values, check_text, each_text, fixed, plain};

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

impl Entries {
    fn value(&self, index: u32) -> Value<'_> {
        match self {
            Entries::Integers(keys) => Value::Integer(keys[index as usize]),
            Entries::Wide(values) => Value::Wide(values[index as usize]),
            Entries::Texts { bytes, places } => {
                let (start, length) = places[index as usize];
                Value::Text(&bytes[start as usize..][..length as usize])
            }
        }
    }
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
    pub fn look(
        &mut self,
        physical: Physical,
        bytes: &[u8],
        count: usize,
        seen: &mut Seen,
    ) -> Result<()> {
        let (&width, bytes) = bytes.split_first().ok_or_else(before_values)?;
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
            match self.entries.value(index) {
                Value::Integer(key) if is_nan(physical, key) => {}
                Value::Integer(key) => seen.range.add_integers(key, key),
                Value::Wide(value) => seen.range.add_wide(value),
                Value::Text(text) => seen.range.add_text(text),
            }
        }
        if self.has_nan {
            seen.nans += self.count_nans(physical, bytes, width, count)?;
        }
        Ok(())
    }

    /// Hand out the entries that the page `bytes` points at, each with how often it comes in a row.
    pub fn each<'a>(
        &'a self,
        bytes: &[u8],
        count: usize,
        take: &mut dyn FnMut(Value<'a>, usize),
    ) -> Result<()> {
        let (&width, bytes) = bytes.split_first().ok_or_else(before_values)?;
        let entry = |index| self.entries.value(index);
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
