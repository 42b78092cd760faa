//! Partition transforms, for values as they lie in a file. Source: Iceberg table specification, Partition Transforms and appendix B.

use dativo_channel::layout::Transform;
use dativo_wire::temporal::civil;

use crate::flaw::{Flaw, Result};
use crate::plan::Primitive;
use crate::range::{Value, shortest};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// What a transform makes of a value.
#[derive(Debug, PartialEq, Eq)]
pub enum Transformed<'a> {
    Number(i128),
    Text(&'a [u8]),
}

/// What a transform makes of values as they lie in a file, computed without the writer's help.
pub trait OfValues {
    /// Whether it takes values of this type.
    fn takes(self, of: Primitive) -> bool;
    /// Whether results are ordered as the values of this type are, and short: then least and greatest value tell of all between.
    fn keeps_order(self, of: Primitive) -> bool;
    /// The result for a value of a type that it takes.
    fn apply(self, of: Primitive, value: Value<'_>) -> Result<Transformed<'_>>;
}

impl OfValues for Transform {
    fn takes(self, of: Primitive) -> bool {
        use Primitive::{
            Binary, Boolean, Date, Decimal, Double, Float, Int, Long, String, Timestamp,
            Timestamptz,
        };
        match self {
            Transform::Identity => !matches!(of, Float | Double),
            Transform::Year | Transform::Month | Transform::Day => {
                matches!(of, Date | Timestamp | Timestamptz)
            }
            Transform::Hour => matches!(of, Timestamp | Timestamptz),
            Transform::Bucket(_) => !matches!(of, Float | Double | Boolean),
            Transform::Truncate(_) => {
                matches!(of, Int | Long | Decimal { .. } | String | Binary)
            }
        }
    }

    fn keeps_order(self, of: Primitive) -> bool {
        let is_text = matches!(of, Primitive::String | Primitive::Binary);
        !is_text && !matches!(self, Transform::Bucket(_))
    }

    fn apply(self, of: Primitive, value: Value<'_>) -> Result<Transformed<'_>> {
        let number = match value {
            Value::Integer(number) => i128::from(number),
            Value::Wide(number) => number,
            Value::Text(text) => return Ok(of_text(self, of, text)),
        };
        let days = |number: i64| match of {
            Primitive::Date => number,
            _ => number.div_euclid(DAY_US),
        };
        let time = || i64::try_from(number).map_err(|_| out_of_range());
        let date = || civil(days(time()?)).ok_or_else(out_of_range);
        Ok(Transformed::Number(match self {
            Transform::Identity => number,
            Transform::Year => (date()?.0 - 1970).into(),
            Transform::Month => {
                let (year, month, _) = date()?;
                (12 * (year - 1970) + month - 1).into()
            }
            Transform::Day => days(time()?).into(),
            Transform::Hour => time()?.div_euclid(HOUR_US).into(),
            Transform::Truncate(width) => number
                .checked_sub(number.rem_euclid(width.into()))
                .ok_or_else(|| Flaw::new("has a number that is too low to be truncated"))?,
            Transform::Bucket(count) => {
                let hash = match of {
                    Primitive::Decimal { .. } => murmur3(&shortest(number)),
                    _ => murmur3(&time()?.to_le_bytes()),
                };
                bucket(hash, count)
            }
        }))
    }
}

fn of_text(transform: Transform, of: Primitive, text: &[u8]) -> Transformed<'_> {
    match transform {
        Transform::Bucket(count) => Transformed::Number(bucket(murmur3(text), count)),
        Transform::Truncate(width) => {
            let width = width.unsigned_abs() as usize;
            let end = match of {
                Primitive::String => end_of_characters(text, width),
                _ => width.min(text.len()),
            };
            Transformed::Text(&text[..end])
        }
        _ => Transformed::Text(text),
    }
}

fn out_of_range() -> Flaw {
    Flaw::new("has a value that cannot be in a column that it is partitioned by")
}

/// Where the first `count` characters of a UTF-8 text end.
fn end_of_characters(text: &[u8], count: usize) -> usize {
    let begins = |byte: &u8| byte & 0xc0 != 0x80;
    let mut starts = (0..text.len()).filter(|&at| begins(&text[at]));
    starts.nth(count).unwrap_or(text.len())
}

fn bucket(hash: u32, count: i32) -> i128 {
    ((hash & 0x7fff_ffff) as i32 % count).into()
}

/// MurmurHash3 of 32 bits for x86, with the seed 0.
fn murmur3(bytes: &[u8]) -> u32 {
    let mix = |word: u32| {
        word.wrapping_mul(0xcc9e_2d51)
            .rotate_left(15)
            .wrapping_mul(0x1b87_3593)
    };
    let mut hash = 0_u32;
    for word in bytes.chunks(4) {
        let mut padded = [0; 4];
        padded[..word.len()].copy_from_slice(word);
        hash ^= mix(u32::from_le_bytes(padded));
        if word.len() == 4 {
            hash = hash
                .rotate_left(13)
                .wrapping_mul(5)
                .wrapping_add(0xe654_6b64);
        }
    }
    hash ^= bytes.len() as u32;
    for (shift, factor) in [(16, 0x85eb_ca6b), (13, 0xc2b2_ae35)] {
        hash = (hash ^ hash >> shift).wrapping_mul(factor);
    }
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_specification() {
        for (bytes, hash) in [
            (&34_i64.to_le_bytes()[..], 2_017_239_379),
            (&[0x05, 0x8c], -500_754_589),
            (&17_486_i64.to_le_bytes(), -653_330_422),
            (&81_068_000_000_i64.to_le_bytes(), -662_762_989),
            (&1_510_871_468_000_000_i64.to_le_bytes(), -2_047_944_441),
            (b"iceberg", 1_210_000_089),
            (&[0, 1, 2, 3], -188_683_207),
        ] {
            assert_eq!(murmur3(bytes) as i32, hash, "{bytes:?}");
        }
    }

    #[test]
    fn results_are_iceberg_s() {
        let decimal = Primitive::Decimal {
            precision: 9,
            scale: 2,
        };
        let number = |name: &str, of, value: i64| {
            let transform = Transform::try_from(name.to_owned()).unwrap();
            assert!(transform.takes(of));
            match transform.apply(of, Value::Integer(value)).unwrap() {
                Transformed::Number(number) => number,
                Transformed::Text(_) => unreachable!(),
            }
        };
        let (date, stamp) = (Primitive::Date, Primitive::Timestamptz);
        let second = 1_510_871_468_000_000;
        assert_eq!(number("year", date, -1), -1);
        assert_eq!(number("year", stamp, second), 47);
        assert_eq!(number("month", date, -1), -1);
        assert_eq!(number("month", stamp, second), 574);
        assert_eq!(number("day", stamp, -1), -1);
        assert_eq!(number("day", stamp, second), 17_486);
        assert_eq!(number("day", date, 17_486), 17_486);
        assert_eq!(number("hour", stamp, second), 419_686);
        assert_eq!(number("hour", stamp, -1), -1);
        assert_eq!(number("truncate[10]", Primitive::Long, -1), -10);
        assert_eq!(number("truncate[50]", decimal, 1065), 1050);
        assert_eq!(
            number("bucket[16]", decimal, 1420),
            (-500_754_589_i128 & 0x7fff_ffff) % 16
        );
        assert_eq!(
            number("bucket[100]", Primitive::Int, 34),
            2_017_239_379 % 100
        );
        let text = |transform: Transform, of, text: &'static str| {
            transform.apply(of, Value::Text(text.as_bytes())).unwrap()
        };
        let cut = text(Transform::Truncate(2), Primitive::String, "é漢字");
        assert_eq!(cut, Transformed::Text("é漢".as_bytes()));
        let cut = text(Transform::Truncate(2), Primitive::Binary, "é漢字");
        assert_eq!(cut, Transformed::Text("é".as_bytes()));
        let whole = text(Transform::Truncate(9), Primitive::String, "é漢字");
        assert_eq!(whole, Transformed::Text("é漢字".as_bytes()));
    }

    #[test]
    fn transforms_have_their_types() {
        assert!(!Transform::Identity.takes(Primitive::Double));
        assert!(!Transform::Day.takes(Primitive::Time));
        assert!(!Transform::Hour.takes(Primitive::Date));
        assert!(!Transform::Bucket(2).takes(Primitive::Boolean));
        assert!(!Transform::Truncate(2).takes(Primitive::Date));
        let far = Value::Integer(i64::MAX);
        assert!(Transform::Year.apply(Primitive::Timestamp, far).is_err());
        let decimal = Primitive::Decimal {
            precision: 38,
            scale: 0,
        };
        let lowest = Value::Wide(i128::MIN);
        assert!(Transform::Truncate(10).apply(decimal, lowest).is_err());
    }
}
