//! What was found in values, and whether what a file says of them is so.

use crate::flaw::{Flaw, Result, ensure};
use crate::footer::{Bound, Statistics};
use crate::range::{KEPT_BYTES, Range, Value, is_nan, key_32, key_64, wide};
use crate::schema::Physical;

/// The writer cuts the bounds in its files to this length.
const CUT_BYTES: usize = 32;

impl<'a> Value<'a> {
    /// Read one that lies plain.
    pub fn read(physical: Physical, bytes: &'a [u8]) -> Result<Value<'a>> {
        let wrong = || Flaw::new("has a bound that is no value of its column");
        let four = || {
            bytes
                .try_into()
                .map(u32::from_le_bytes)
                .map_err(|_| wrong())
        };
        let eight = || {
            bytes
                .try_into()
                .map(u64::from_le_bytes)
                .map_err(|_| wrong())
        };
        Ok(match physical {
            Physical::Boolean => match bytes {
                [flag @ (0 | 1)] => Value::Integer((*flag).into()),
                _ => return Err(wrong()),
            },
            Physical::Int32 => Value::Integer((four()? as i32).into()),
            Physical::Int64 => Value::Integer(eight()? as i64),
            Physical::Float => Value::Integer(key_32(four()?)),
            Physical::Double => Value::Integer(key_64(eight()?)),
            Physical::Fixed(length) if bytes.len() == length => Value::Wide(wide(bytes)),
            Physical::Bytes if bytes.len() < KEPT_BYTES => Value::Text(bytes),
            Physical::Bytes if cannot_grow(&bytes[..CUT_BYTES]) => {
                Value::Text(&bytes[..KEPT_BYTES])
            }
            Physical::Bytes => return Err(Flaw::new("has a bound that is too long to be checked")),
            Physical::Fixed(_) => return Err(wrong()),
        })
    }
}

/// Whether no bytes of the same length are greater than these, which begin a bound, as far as the writer looks for them: it then
/// leaves the bound whole.
fn cannot_grow(bytes: &[u8]) -> bool {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    // The last characters of one, two, three and four bytes, and the last before the surrogates.
    let is_last = |one| {
        matches!(
            one,
            '\u{7f}' | '\u{7ff}' | '\u{d7ff}' | '\u{ffff}' | '\u{10ffff}'
        )
    };
    bytes.iter().all(|&byte| byte == 0xff) || !text.is_empty() && text.chars().all(is_last)
}

/// What was found in the values of a page, a chunk or a file. `values` counts nulls and NaN too.
#[derive(Clone, Debug)]
pub struct Seen {
    pub values: u64,
    pub nulls: u64,
    pub nans: u64,
    pub range: Range,
}

impl Seen {
    pub fn nothing(physical: Physical) -> Seen {
        Seen {
            values: 0,
            nulls: 0,
            nans: 0,
            range: Range::empty(physical),
        }
    }

    pub fn add(&mut self, other: &Seen) {
        self.values += other.values;
        self.nulls += other.nulls;
        self.nans += other.nans;
        self.range.add(&other.range);
    }

    /// Hold what the file says of these values against them. `flat`: each belongs to a row of its own; what counts as null among
    /// others, writers do not agree on.
    pub fn check(&self, physical: Physical, said: &Statistics<'_>, flat: bool) -> Result<()> {
        ensure(
            !flat || said.nulls.is_none_or(|nulls| nulls == self.nulls),
            || format!("says {:?} nulls of {}", said.nulls, self.nulls),
        )?;
        ensure(said.nans.is_none_or(|nans| nans == self.nans), || {
            format!("says {:?} NaN of {}", said.nans, self.nans)
        })?;
        for bound in [said.min, said.old_min].into_iter().flatten() {
            self.check_bound(physical, bound, true)?;
        }
        for bound in [said.max, said.old_max].into_iter().flatten() {
            self.check_bound(physical, bound, false)?;
        }
        Ok(())
    }

    /// Hold one bound against the values; `lower`, or upper.
    pub fn check_bound(&self, physical: Physical, bound: Bound<'_>, lower: bool) -> Result<()> {
        let said = Value::read(physical, bound.bytes)?;
        if let Value::Integer(key) = said
            && is_nan(physical, key)
        {
            return ensure(self.range.is_empty() && self.nans > 0, || {
                "has a bound that is NaN, and other values".into()
            });
        }
        let Some((min, max)) = self.range.ends() else {
            return Err(Flaw::new("has bounds of no values"));
        };
        let found = if lower { min } else { max };
        // Parquet has its writers write -0 as the least and +0 as the greatest of any zeros; their keys are these.
        let float = matches!(physical, Physical::Float | Physical::Double);
        let zero = |value| float && matches!(value, Value::Integer(-1 | 0));
        let is_equal = said == found || zero(said) && zero(found);
        let holds = if lower { said < found } else { said > found };
        ensure(is_equal || !bound.exact && holds, || {
            let name = if lower { "lower" } else { "upper" };
            format!("has a {name} bound that its values do not have")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_has_to_hold() {
        let mut seen = Seen::nothing(Physical::Int64);
        seen.range.add_integers(-3, 9);
        let check = |value: i64, exact, lower| {
            let bytes = value.to_le_bytes();
            let bound = Bound {
                bytes: &bytes,
                exact,
            };
            seen.check_bound(Physical::Int64, bound, lower).is_ok()
        };
        assert!(check(-3, true, true) && check(-4, false, true) && check(10, false, false));
        assert!(!check(-4, true, true) && !check(-2, false, true) && !check(8, false, false));
        let mut seen = Seen::nothing(Physical::Bytes);
        seen.range.add_text(&[b'x'; 100]);
        let check = |bytes: &[u8], exact, lower| {
            let bound = Bound { bytes, exact };
            seen.check_bound(Physical::Bytes, bound, lower).is_ok()
        };
        assert!(check(&[b'x'; 32], false, true) && !check(&[b'x'; 32], true, true));
        assert!(check(b"y", false, false));
        // It is shorter than the value, and so less.
        assert!(!check(&[b'x'; 68], false, false));
    }
}
