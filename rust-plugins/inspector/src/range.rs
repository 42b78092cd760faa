//! The least and the greatest of some values, and how Iceberg writes them down.

use crate::plan::Primitive;
use crate::schema::Physical;

/// Bounds of texts are cut to so many characters, those of bytes to so many bytes, as Iceberg does by default.
const BOUND_LENGTH: usize = 16;
/// Of a text so much is kept: 17 characters at least, so that a cut shows.
pub const KEPT_BYTES: usize = 4 * (BOUND_LENGTH + 1) + 1;

/// The keys of infinity; those of minus infinity are their complements.
const INFINITE_64: i64 = 0x7ff0_0000_0000_0000;
const INFINITE_32: i64 = 0x7f80_0000;

/// One of the values, or a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value<'a> {
    Integer(i64),
    Wide(i128),
    Text(&'a [u8]),
}

/// Nulls and NaN are not among the values.
#[derive(Clone, Debug)]
pub enum Range {
    /// Whole numbers, flags, and floats by the key of their total order.
    Integer(Option<(i64, i64)>),
    Wide(Option<(i128, i128)>),
    Text(Option<Box<Texts>>),
}

/// Texts by their first bytes.
#[derive(Clone, Debug)]
pub struct Texts {
    min: Prefix,
    max: Prefix,
}

#[derive(Clone, Copy, Debug)]
struct Prefix {
    bytes: [u8; KEPT_BYTES],
    length: u8,
    /// The first eight bytes: most comparisons end there.
    key: u64,
}

impl Prefix {
    fn new(text: &[u8], key: u64) -> Prefix {
        let kept = &text[..text.len().min(KEPT_BYTES)];
        let mut bytes = [0; KEPT_BYTES];
        bytes[..kept.len()].copy_from_slice(kept);
        Prefix {
            bytes,
            length: kept.len() as u8,
            key,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length.into()]
    }
}

/// The key of a float: keys are ordered as IEEE 754's totalOrder orders their floats.
pub fn key_64(bits: u64) -> i64 {
    bits as i64 ^ ((bits as i64 >> 63) as u64 >> 1) as i64
}

pub fn key_32(bits: u32) -> i64 {
    i64::from(bits as i32 ^ ((bits as i32 >> 31) as u32 >> 1) as i32)
}

/// Whether a key is that of a NaN.
pub fn is_nan(physical: Physical, key: i64) -> bool {
    match physical {
        Physical::Double => !(!INFINITE_64..=INFINITE_64).contains(&key),
        Physical::Float => !(!INFINITE_32..=INFINITE_32).contains(&key),
        _ => false,
    }
}

/// A big-endian number in two's complement, of at most 16 bytes.
pub fn wide(bytes: &[u8]) -> i128 {
    let negative = bytes.first().is_some_and(|&byte| byte & 0x80 != 0);
    let start = if negative { -1 } else { 0 };
    bytes
        .iter()
        .fold(start, |value, &byte| value << 8 | i128::from(byte))
}

impl Range {
    pub fn empty(physical: Physical) -> Range {
        match physical {
            Physical::Bytes => Range::Text(None),
            Physical::Fixed(_) => Range::Wide(None),
            _ => Range::Integer(None),
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(
            self,
            Range::Integer(None) | Range::Wide(None) | Range::Text(None)
        )
    }

    pub fn add_integers(&mut self, least: i64, greatest: i64) {
        if let Range::Integer(range) = self {
            widen(range, least, greatest);
        }
    }

    pub fn add_wide(&mut self, value: i128) {
        if let Range::Wide(range) = self {
            widen(range, value, value);
        }
    }

    /// The text is at the front of `bytes`, which is read beyond it where that saves steps.
    #[inline]
    pub fn add_text_of(&mut self, bytes: &[u8], length: usize) {
        let key = match bytes.first_chunk::<8>() {
            Some(eight) if length >= 8 => u64::from_be_bytes(*eight),
            Some(eight) => u64::from_be_bytes(*eight) & !(u64::MAX >> (8 * length)),
            None => key_of(&bytes[..length]),
        };
        self.add_keyed(&bytes[..length], key);
    }

    pub fn add_text(&mut self, text: &[u8]) {
        self.add_keyed(text, key_of(text));
    }

    #[inline]
    fn add_keyed(&mut self, text: &[u8], key: u64) {
        let Range::Text(range) = self else { return };
        let Some(texts) = range else {
            let prefix = Prefix::new(text, key);
            *range = Some(Box::new(Texts {
                min: prefix,
                max: prefix,
            }));
            return;
        };
        // Many texts begin alike: what is no new bound is only compared.
        let kept = &text[..text.len().min(KEPT_BYTES)];
        if key <= texts.min.key && kept < texts.min.as_bytes() {
            texts.min = Prefix::new(text, key);
        }
        if key >= texts.max.key && kept > texts.max.as_bytes() {
            texts.max = Prefix::new(text, key);
        }
    }

    pub fn add(&mut self, other: &Range) {
        match other {
            Range::Integer(Some((min, max))) => self.add_integers(*min, *max),
            Range::Wide(Some((min, max))) => {
                self.add_wide(*min);
                self.add_wide(*max);
            }
            Range::Text(Some(texts)) => {
                self.add_text(texts.min.as_bytes());
                self.add_text(texts.max.as_bytes());
            }
            _ => {}
        }
    }

    /// The least and the greatest; of texts as much as is kept.
    pub fn ends(&self) -> Option<(Value<'_>, Value<'_>)> {
        Some(match self {
            Range::Integer(range) => {
                let (min, max) = (*range)?;
                (Value::Integer(min), Value::Integer(max))
            }
            Range::Wide(range) => {
                let (min, max) = (*range)?;
                (Value::Wide(min), Value::Wide(max))
            }
            Range::Text(range) => {
                let texts = range.as_ref()?;
                (
                    Value::Text(texts.min.as_bytes()),
                    Value::Text(texts.max.as_bytes()),
                )
            }
        })
    }

    /// Lower and upper bound as Iceberg's single values; none of what has no values, or no bound that short.
    pub fn bounds(&self, primitive: Primitive) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        match self {
            Range::Integer(Some((min, max))) => {
                (Some(single(primitive, *min)), Some(single(primitive, *max)))
            }
            Range::Wide(Some((min, max))) => (Some(shortest(*min)), Some(shortest(*max))),
            Range::Text(Some(texts)) if primitive == Primitive::String => (
                lower_text(texts.min.as_bytes()),
                upper_text(texts.max.as_bytes()),
            ),
            Range::Text(Some(texts)) => {
                let (min, max) = (texts.min.as_bytes(), texts.max.as_bytes());
                (
                    Some(min[..min.len().min(BOUND_LENGTH)].to_vec()),
                    upper_bytes(max),
                )
            }
            _ => (None, None),
        }
    }
}

fn widen<T: Ord + Copy>(range: &mut Option<(T, T)>, least: T, greatest: T) {
    *range = Some(match *range {
        Some((min, max)) => (min.min(least), max.max(greatest)),
        None => (least, greatest),
    });
}

fn key_of(text: &[u8]) -> u64 {
    match text.first_chunk::<8>() {
        Some(first) => u64::from_be_bytes(*first),
        None => {
            let mut padded = [0; 8];
            padded[..text.len()].copy_from_slice(text);
            u64::from_be_bytes(padded)
        }
    }
}

/// Source: Iceberg table specification, Appendix D, "Binary single-value serialization".
fn single(primitive: Primitive, value: i64) -> Vec<u8> {
    match primitive {
        Primitive::Boolean => vec![value as u8],
        Primitive::Int | Primitive::Date => (value as i32).to_le_bytes().to_vec(),
        Primitive::Float => {
            let key = value as i32;
            (key ^ ((key >> 31) as u32 >> 1) as i32)
                .to_le_bytes()
                .to_vec()
        }
        Primitive::Double => (value ^ ((value >> 63) as u64 >> 1) as i64)
            .to_le_bytes()
            .to_vec(),
        Primitive::Decimal { .. } => shortest(value.into()),
        _ => value.to_le_bytes().to_vec(),
    }
}

/// Big-endian two's complement in as few bytes as hold it.
pub fn shortest(value: i128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let filler = if value < 0 { 0xff } else { 0 };
    let sign = |byte: u8| byte & 0x80 == filler & 0x80;
    let mut start = 0;
    while start < 15 && bytes[start] == filler && sign(bytes[start + 1]) {
        start += 1;
    }
    bytes[start..].to_vec()
}

/// The characters at the front, at most `BOUND_LENGTH`, and whether there is more. `kept` may end inside a character.
fn cut(kept: &[u8]) -> Option<(&str, bool)> {
    let text = match std::str::from_utf8(kept) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&kept[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    Some(match text.char_indices().nth(BOUND_LENGTH) {
        Some((end, _)) => (&text[..end], true),
        None => (text, false),
    })
}

fn lower_text(kept: &[u8]) -> Option<Vec<u8>> {
    Some(cut(kept)?.0.as_bytes().to_vec())
}

fn upper_text(kept: &[u8]) -> Option<Vec<u8>> {
    let (text, is_cut) = cut(kept)?;
    if !is_cut {
        return Some(text.as_bytes().to_vec());
    }
    let mut text = text.to_owned();
    while let Some(last) = text.pop() {
        // Between the surrogates there are no characters.
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            other => char::from_u32(other as u32 + 1),
        };
        if let Some(next) = next {
            text.push(next);
            return Some(text.into_bytes());
        }
    }
    None
}

fn upper_bytes(kept: &[u8]) -> Option<Vec<u8>> {
    if kept.len() <= BOUND_LENGTH {
        return Some(kept.to_vec());
    }
    let mut bytes = kept[..BOUND_LENGTH].to_vec();
    while let Some(last) = bytes.pop() {
        if last < 0xff {
            bytes.push(last + 1);
            return Some(bytes);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(values: &[&[u8]]) -> Range {
        let mut range = Range::empty(Physical::Bytes);
        for value in values {
            range.add_text(value);
        }
        range
    }

    #[test]
    fn bounds_of_texts_are_cut_and_still_bound() {
        let (lower, upper) =
            texts(&["abcdefghijklmnopq".as_bytes(), b"zz"]).bounds(Primitive::String);
        assert_eq!(lower.unwrap(), b"abcdefghijklmnop");
        assert_eq!(upper.unwrap(), b"zz");
        let long = "ä".repeat(15) + "\u{d7ff}" + "x";
        let (lower, upper) = texts(&[long.as_bytes()]).bounds(Primitive::String);
        assert_eq!(lower.unwrap(), ("ä".repeat(15) + "\u{d7ff}").as_bytes());
        assert_eq!(upper.unwrap(), ("ä".repeat(15) + "\u{e000}").as_bytes());
        let highest = "\u{10ffff}".repeat(17);
        assert_eq!(
            texts(&[highest.as_bytes()]).bounds(Primitive::String).1,
            None
        );
        let exact = "\u{10ffff}".repeat(16);
        assert_eq!(
            texts(&[exact.as_bytes()])
                .bounds(Primitive::String)
                .1
                .unwrap(),
            exact.as_bytes()
        );
        let (lower, upper) = texts(&[&[0xff; 20], &[1; 17]]).bounds(Primitive::Binary);
        assert_eq!((lower.unwrap(), upper), (vec![1; 16], None));
        let (_, upper) =
            texts(&[&[[7; 15].as_slice(), &[0xff, 0xff]].concat()]).bounds(Primitive::Binary);
        assert_eq!(upper.unwrap(), [[7; 14].as_slice(), &[8]].concat());
    }

    #[test]
    fn texts_that_begin_alike_are_told_apart() {
        let range = texts(&[b"aaaaaaaab", b"aaaaaaaa", b"aaaaaaaaa", b"aaaaaaaa\0"]);
        let (lower, upper) = range.bounds(Primitive::Binary);
        assert_eq!(lower.unwrap(), b"aaaaaaaa");
        assert_eq!(upper.unwrap(), b"aaaaaaaab");
        assert_eq!(
            texts(&[b"\0", b""]).bounds(Primitive::Binary).0.unwrap(),
            b""
        );
    }

    #[test]
    fn decimals_take_as_few_bytes_as_hold_them() {
        for (value, bytes) in [
            (0, vec![0]),
            (127, vec![0x7f]),
            (128, vec![0, 0x80]),
            (-1, vec![0xff]),
            (-128, vec![0x80]),
            (-129, vec![0xff, 0x7f]),
            (1420, vec![0x05, 0x8c]),
        ] {
            assert_eq!(shortest(value), bytes);
            assert_eq!(wide(&bytes), value);
        }
        assert_eq!(wide(&shortest(i128::MIN)), i128::MIN);
    }

    #[test]
    fn floats_are_in_total_order() {
        let floats = [
            f64::NEG_INFINITY,
            -1.5,
            -0.0,
            0.0,
            1e-300,
            2.0,
            f64::INFINITY,
        ];
        let keys = floats.map(|float| key_64(float.to_bits()));
        assert!(keys.is_sorted_by(|a, b| a < b));
        for (float, key) in floats.into_iter().zip(keys) {
            assert_eq!(single(Primitive::Double, key), float.to_le_bytes());
            assert!(!is_nan(Physical::Double, key));
            let short = key_32((float as f32).to_bits());
            assert_eq!(
                single(Primitive::Float, short),
                (float as f32).to_le_bytes()
            );
            assert!(!is_nan(Physical::Float, short));
        }
        for bits in [
            f64::NAN.to_bits(),
            (-f64::NAN).to_bits(),
            0x7ff0_0000_0000_0001,
        ] {
            assert!(is_nan(Physical::Double, key_64(bits)));
        }
        assert!(is_nan(Physical::Float, key_32(0xff80_0001)));
    }
}
