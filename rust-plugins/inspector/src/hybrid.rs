//! The hybrid of run lengths and packed bits that levels, dictionary indices and flags are written in.
//!
//! Source: apache/parquet-format, Encodings.md, "Run Length Encoding / Bit-Packing Hybrid".

use crate::flaw::{Flaw, Result, ensure};

pub const MAX_WIDTH: u8 = 32;

/// Numbers that follow one another.
pub enum Run<'a> {
    Same {
        value: u32,
        count: usize,
    },
    /// `count` numbers of some bits each.
    Packed {
        bytes: &'a [u8],
        count: usize,
    },
}

/// Read `count` numbers of `width` bits, a run at a time.
pub fn runs<'a>(
    mut bytes: &'a [u8],
    width: u8,
    mut count: usize,
    mut take: impl FnMut(Run<'a>) -> Result<()>,
) -> Result<()> {
    ensure(width <= MAX_WIDTH, || {
        format!("has numbers of {width} bits")
    })?;
    while count > 0 {
        let header = varint(&mut bytes)?;
        let length = usize::try_from(header >> 1).map_err(|_| ends())?;
        if header & 1 == 0 {
            let (value, rest) = bytes
                .split_at_checked(width.div_ceil(8).into())
                .ok_or_else(ends)?;
            bytes = rest;
            let mut whole = [0; 4];
            whole[..value.len()].copy_from_slice(value);
            let value = u32::from_le_bytes(whole);
            ensure(u64::from(value) < 1 << width, || {
                format!("has the number {value} in {width} bits")
            })?;
            let length = length.min(count);
            take(Run::Same {
                value,
                count: length,
            })?;
            count -= length;
        } else {
            // Groups of eight; the last of a page is filled up.
            let held = length.checked_mul(8).ok_or_else(ends)?.min(count);
            let needed = (held * usize::from(width)).div_ceil(8);
            let packed = bytes.get(..needed).ok_or_else(ends)?;
            let stated = length.saturating_mul(width.into()).min(bytes.len());
            bytes = &bytes[stated..];
            take(match width {
                // Any number of them takes no bytes, and is not to take time.
                0 => Run::Same {
                    value: 0,
                    count: held,
                },
                _ => Run::Packed {
                    bytes: packed,
                    count: held,
                },
            })?;
            count -= held;
        }
    }
    Ok(())
}

/// Hand out `count` numbers of `width` bits, at least one, that are packed in `bytes`.
pub fn unpack(bytes: &[u8], width: u8, count: usize, mut each: impl FnMut(u32)) {
    let width = usize::from(width);
    let mask = (1_u64 << width) - 1;
    let word = |at: usize| {
        let rest = &bytes[at.min(bytes.len())..];
        match rest.first_chunk::<8>() {
            Some(eight) => u64::from_le_bytes(*eight),
            None => {
                let mut padded = [0; 8];
                padded[..rest.len()].copy_from_slice(rest);
                u64::from_le_bytes(padded)
            }
        }
    };
    let mut done = 0;
    if width <= 8 {
        // Eight numbers take `width` bytes: one word has them all.
        for group in 0..count / 8 {
            let eight = word(group * width);
            for index in 0..8 {
                each((eight >> (index * width) & mask) as u32);
            }
        }
        done = count / 8 * 8;
    }
    // Eight bytes hold any number, wherever it begins in the first.
    for index in done..count {
        let bit = index * width;
        each((word(bit / 8) >> (bit % 8) & mask) as u32);
    }
}

/// How many of `count` levels, which go up to `max`, are `wanted`.
pub fn levels(bytes: &[u8], max: u16, count: usize, wanted: u16) -> Result<usize> {
    let width = (16 - max.leading_zeros()) as u8;
    let mut found = 0;
    let mut highest = 0;
    runs(bytes, width, count, |run| {
        match run {
            Run::Same { value, count } => {
                highest = highest.max(value);
                found += if value == u32::from(wanted) { count } else { 0 };
            }
            Run::Packed { bytes, count } if width == 1 => {
                let ones = ones(bytes, count);
                found += if wanted == 1 { ones } else { count - ones };
            }
            Run::Packed { bytes, count } => unpack(bytes, width, count, |level| {
                highest = highest.max(level);
                found += usize::from(level == u32::from(wanted));
            }),
        }
        Ok(())
    })?;
    ensure(highest <= u32::from(max), || {
        format!("has a level of {highest}, the most is {max}")
    })?;
    Ok(found)
}

/// Which of `count` levels of 0 and 1 are 1.
pub fn flags(bytes: &[u8], count: usize) -> Result<Vec<bool>> {
    let mut flags = Vec::with_capacity(count.min(bytes.len() * 8));
    runs(bytes, 1, count, |run| {
        match run {
            Run::Same { value, count } => flags.extend(std::iter::repeat_n(value == 1, count)),
            Run::Packed { bytes, count } => {
                unpack(bytes, 1, count, |level| flags.push(level == 1));
            }
        }
        Ok(())
    })?;
    Ok(flags)
}

/// The first level.
pub fn first_level(bytes: &[u8], max: u16) -> Result<u32> {
    let width = (16 - max.leading_zeros()) as u8;
    let mut first = 0;
    runs(bytes, width, 1, |run| {
        match run {
            Run::Same { value, .. } => first = value,
            Run::Packed { bytes, .. } => unpack(bytes, width, 1, |level| first = level),
        }
        Ok(())
    })?;
    Ok(first)
}

/// How many of the first `count` bits are set.
pub fn ones(bytes: &[u8], count: usize) -> usize {
    let whole = count / 8;
    let mut ones: usize = bytes
        .iter()
        .take(whole)
        .map(|byte| byte.count_ones() as usize)
        .sum();
    if let Some(last) = bytes.get(whole) {
        let mask = (1_u16 << (count % 8)) - 1;
        ones += (u16::from(*last) & mask).count_ones() as usize;
    }
    ones
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or_else(ends)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Flaw::new("has a run longer than any page"))
}

fn ends() -> Flaw {
    Flaw::new("has a page that ends inside its numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], width: u8, count: usize) -> Result<Vec<u32>> {
        let mut numbers = Vec::new();
        runs(bytes, width, count, |run| {
            match run {
                Run::Same { value, count } => numbers.extend(std::iter::repeat_n(value, count)),
                Run::Packed { bytes, count } => {
                    unpack(bytes, width, count, |number| numbers.push(number));
                }
            }
            Ok(())
        })?;
        Ok(numbers)
    }

    #[test]
    fn the_example_of_the_specification() {
        let bytes = [0b0000_0011, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        assert_eq!(all(&bytes, 3, 8).unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(
            all(&[6, 5, 3, 0b1000_1000, 0b1100_0110, 0b1111_1010], 3, 6).unwrap(),
            [5, 5, 5, 0, 1, 2]
        );
    }

    #[test]
    fn all_widths_hold_their_numbers() {
        for width in 0..=MAX_WIDTH {
            let numbers: Vec<u32> = (0..40_u64)
                .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) & ((1_u64 << width) - 1)) as u32)
                .collect();
            let mut bits = vec![0_u8; 5 * usize::from(width)];
            for (index, number) in numbers.iter().enumerate() {
                for bit in 0..usize::from(width) {
                    let at = index * usize::from(width) + bit;
                    bits[at / 8] |= ((number >> bit & 1) as u8) << (at % 8);
                }
            }
            let mut bytes = vec![5 << 1 | 1];
            bytes.extend(bits);
            assert_eq!(all(&bytes, width, 40).unwrap(), numbers, "{width}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused() {
        assert!(all(&[], 1, 1).is_err());
        assert!(all(&[3], 8, 8).is_err());
        assert!(all(&[2], 8, 1).is_err());
        assert!(all(&[2, 4], 2, 1).is_err());
        assert!(all(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], 0, 1).is_err());
        assert!(all(&[0, 0, 0], 0, 1).is_err());
        assert!(all(&[2, 0], 33, 1).is_err());
    }

    #[test]
    fn levels_are_counted() {
        // 10 ones, then 8 packed: 1 0 1 0 1 1 1 1.
        let bytes = [20, 1, 3, 0b1111_0101];
        assert_eq!(levels(&bytes, 1, 18, 1).unwrap(), 16);
        assert_eq!(levels(&bytes, 1, 12, 0).unwrap(), 1);
        assert!(levels(&[20, 3], 2, 10, 2).is_err());
        assert_eq!(first_level(&[3, 0b0000_1001], 3).unwrap(), 1);
    }
}
