//! Partition transforms. Source: Iceberg table specification, Partition Transforms and appendix B.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, BinaryArray, Int32Array, PrimitiveArray, StringArray};
use arrow_schema::{DataType, TimeUnit};
use dativo_channel::layout::Transform;
use dativo_wire::fault::{Blame, Fault};
use dativo_wire::render;
use dativo_wire::temporal::civil;
use serde_json::Value;

use super::murmur3::hash;
use super::wrong;

/// A text that a file is partitioned by is at most so long.
const MAX_VALUE_BYTES: usize = 256;
const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// What a transform makes of the columns of a batch.
pub trait OfColumns {
    /// Raise for a column of a type that it does not take.
    fn check(self, of: &DataType) -> Result<(), Box<Fault>>;
    /// The type of its results.
    fn result(self, of: &DataType) -> DataType;
    /// Its results for a column that it takes; null where that is null.
    fn apply(self, column: &ArrayRef) -> Result<ArrayRef, Box<Fault>>;
}

impl OfColumns for Transform {
    fn check(self, of: &DataType) -> Result<(), Box<Fault>> {
        use DataType::{Binary, Boolean, Date32, Decimal128, Int64, Time64, Timestamp, Utf8};
        let takes = match self {
            Transform::Identity => match of {
                Boolean => true,
                _ => Transform::Bucket(1).check(of).is_ok(),
            },
            Transform::Year | Transform::Month | Transform::Day => {
                matches!(of, Date32 | Timestamp(TimeUnit::Microsecond, _))
            }
            Transform::Hour => matches!(of, Timestamp(TimeUnit::Microsecond, _)),
            Transform::Bucket(_) => matches!(
                of,
                Int64
                    | Decimal128(..)
                    | Date32
                    | Time64(TimeUnit::Microsecond)
                    | Timestamp(TimeUnit::Microsecond, _)
                    | Utf8
                    | Binary
            ),
            Transform::Truncate(_) => matches!(of, Int64 | Decimal128(..) | Utf8 | Binary),
        };
        if takes {
            Ok(())
        } else {
            Err(wrong(format!(
                "partition transform {self:?} does not take {of}"
            )))
        }
    }

    fn result(self, of: &DataType) -> DataType {
        match self {
            Transform::Identity | Transform::Truncate(_) => of.clone(),
            _ => DataType::Int32,
        }
    }

    fn apply(self, column: &ArrayRef) -> Result<ArrayRef, Box<Fault>> {
        match self {
            Transform::Identity => Ok(column.clone()),
            Transform::Year => since_1970(column, |day, _| Some(civil(day)?.0 - 1970)),
            Transform::Month => since_1970(column, |day, _| {
                let (year, month, _) = civil(day)?;
                Some((year - 1970) * 12 + month - 1)
            }),
            Transform::Day => since_1970(column, |day, _| Some(day)),
            Transform::Hour => since_1970(column, |_, micros| Some(micros.div_euclid(HOUR_US))),
            Transform::Bucket(count) => Ok(Arc::new(buckets(column, count)?)),
            Transform::Truncate(width) => truncated(column, width),
        }
    }
}

/// A column of what `of` makes of days and microseconds since 1970.
fn since_1970(
    column: &ArrayRef,
    of: impl Fn(i64, i64) -> Option<i64>,
) -> Result<ArrayRef, Box<Fault>> {
    let of = |day: i64, micros: i64| {
        let result = of(day, micros).and_then(|result| i32::try_from(result).ok());
        result.ok_or_else(|| wrong("a date is outside the years 1 to 9999"))
    };
    let results: PrimitiveArray<Int32Type> = match column.data_type() {
        DataType::Date32 => column
            .as_primitive::<Date32Type>()
            .try_unary(|day| of(day.into(), i64::from(day) * DAY_US))?,
        _ => column
            .as_primitive::<TimestampMicrosecondType>()
            .try_unary(|micros| of(micros.div_euclid(DAY_US), micros))?,
    };
    Ok(Arc::new(results))
}

fn buckets(column: &ArrayRef, count: i32) -> Result<Int32Array, Box<Fault>> {
    let bucket = |bytes: &[u8]| (hash(bytes) & i32::MAX as u32) as i32 % count;
    let long = |value: i64| bucket(&value.to_le_bytes());
    fn of<T: ArrowPrimitiveType>(
        column: &ArrayRef,
        bucket: impl Fn(T::Native) -> i32,
    ) -> Int32Array {
        column.as_primitive::<T>().unary(bucket)
    }
    Ok(match column.data_type() {
        DataType::Int64 => of::<Int64Type>(column, long),
        DataType::Date32 => of::<Date32Type>(column, |day| long(day.into())),
        DataType::Time64(_) => of::<Time64MicrosecondType>(column, long),
        DataType::Timestamp(..) => of::<TimestampMicrosecondType>(column, long),
        DataType::Decimal128(..) => of::<Decimal128Type>(column, |unscaled| {
            let bytes = unscaled.to_be_bytes();
            bucket(&bytes[redundant(unscaled)..])
        }),
        DataType::Utf8 => {
            let texts = column.as_string::<i32>().iter();
            texts.map(|text| Some(bucket(text?.as_bytes()))).collect()
        }
        DataType::Binary => {
            let values = column.as_binary::<i32>().iter();
            values.map(|bytes| Some(bucket(bytes?))).collect()
        }
        other => return Err(wrong(format!("no bucket of {other}"))),
    })
}

/// Leading bytes of a big-endian number that say nothing but its sign.
fn redundant(number: i128) -> usize {
    let sign_bits = if number < 0 {
        number.leading_ones()
    } else {
        number.leading_zeros()
    };
    (sign_bits as usize - 1) / 8
}

fn truncated(column: &ArrayRef, width: i32) -> Result<ArrayRef, Box<Fault>> {
    let characters = width.unsigned_abs() as usize;
    let too_low = || {
        let message = "a number is too low to be truncated: its column cannot hold the result";
        let fault = Fault::new("limit.partition_value", Blame::User, message);
        fault.hint("truncate by a smaller width, or partition by bucket(…)")
    };
    Ok(match column.data_type() {
        DataType::Int64 => {
            let width = i64::from(width);
            let values = column.as_primitive::<Int64Type>();
            Arc::new(values.try_unary::<_, Int64Type, _>(|value| {
                value
                    .checked_sub(value.rem_euclid(width))
                    .ok_or_else(too_low)
            })?)
        }
        of @ DataType::Decimal128(precision, _) => {
            let width = i128::from(width);
            let lowest = -(10_i128.pow(u32::from(*precision)) - 1);
            let values = column.as_primitive::<Decimal128Type>();
            let values = values.try_unary::<_, Decimal128Type, _>(|value| {
                let cut = value.checked_sub(value.rem_euclid(width));
                cut.filter(|&cut| cut >= lowest).ok_or_else(too_low)
            })?;
            Arc::new(values.with_data_type(of.clone()))
        }
        DataType::Utf8 => {
            let cut = |text: &str| match text.char_indices().nth(characters) {
                Some((end, _)) => text[..end].to_owned(),
                None => text.to_owned(),
            };
            let texts = column.as_string::<i32>().iter();
            Arc::new(texts.map(|text| text.map(cut)).collect::<StringArray>())
        }
        DataType::Binary => {
            let cut = |bytes: &[u8]| bytes[..bytes.len().min(characters)].to_vec();
            let values = column.as_binary::<i32>().iter();
            Arc::new(values.map(|bytes| bytes.map(cut)).collect::<BinaryArray>())
        }
        other => return Err(wrong(format!("{other} is not truncated"))),
    })
}

/// A result as `sealed` tells it.
pub fn value(column: &ArrayRef, row: usize) -> Result<Value, Box<Fault>> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Date32 => column.as_primitive::<Date32Type>().value(row).into(),
        DataType::Time64(_) => {
            let micros = column.as_primitive::<Time64MicrosecondType>();
            micros.value(row).into()
        }
        DataType::Timestamp(..) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>();
            micros.value(row).into()
        }
        DataType::Decimal128(..) => {
            let unscaled = column.as_primitive::<Decimal128Type>().value(row);
            unscaled.to_string().into()
        }
        DataType::Utf8 => {
            let text = column.as_string::<i32>().value(row);
            short(text.as_bytes())?;
            text.into()
        }
        DataType::Binary => {
            let bytes = column.as_binary::<i32>().value(row);
            short(bytes)?;
            let mut text = Vec::new();
            render::base64(bytes, &mut text);
            String::from_utf8_lossy(&text).trim_matches('"').into()
        }
        other => return Err(wrong(format!("no partition by {other}"))),
    })
}

fn short(bytes: &[u8]) -> Result<(), Box<Fault>> {
    if bytes.len() <= MAX_VALUE_BYTES {
        return Ok(());
    }
    let message = format!(
        "a value of {} bytes in a column that the table is partitioned by; the limit is {MAX_VALUE_BYTES}",
        bytes.len()
    );
    let fault = Fault::new("limit.partition_value", Blame::User, message).value(bytes);
    Err(fault.hint("partition by truncate(…) or bucket(…) of the column"))
}

#[cfg(test)]
mod tests {
    use arrow_array::{
        BooleanArray, Date32Array, Decimal128Array, Int64Array, TimestampMicrosecondArray,
    };
    use serde_json::json;

    use super::*;

    fn results(transform: &str, column: ArrayRef) -> Vec<Value> {
        let transform = Transform::try_from(transform.to_owned()).expect("a transform");
        transform.check(column.data_type()).expect("taken");
        let of = transform.result(column.data_type());
        let results = transform.apply(&column).expect("applied");
        assert_eq!(results.data_type(), &of);
        (0..results.len())
            .map(|row| value(&results, row).expect("told"))
            .collect()
    }

    fn decimals(values: Vec<i128>) -> ArrayRef {
        let values = Decimal128Array::from(values);
        Arc::new(values.with_precision_and_scale(9, 2).expect("fits"))
    }

    #[test]
    fn dates_and_times_are_counted_from_1970_also_backwards() {
        let days: ArrayRef = Arc::new(Date32Array::from(vec![
            Some(0),
            Some(-1),
            Some(17_486),
            None,
        ]));
        assert_eq!(
            results("year", days.clone())[..3],
            [json!(0), json!(-1), json!(47)]
        );
        assert_eq!(
            results("month", days.clone())[..3],
            [json!(0), json!(-1), json!(574)]
        );
        assert_eq!(
            results("day", days),
            [json!(0), json!(-1), json!(17_486), Value::Null]
        );
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![
            0,
            -1,
            1_510_871_468_000_000,
        ]));
        assert_eq!(
            results("hour", times.clone()),
            [json!(0), json!(-1), json!(419_686)]
        );
        assert_eq!(results("day", times), [json!(0), json!(-1), json!(17_486)]);
    }

    #[test]
    fn buckets_are_those_of_the_specification() {
        let bucket = |hash: i32| json!((hash & i32::MAX) % 100);
        let of = |column: ArrayRef| results("bucket[100]", column);
        assert_eq!(
            of(Arc::new(Int64Array::from(vec![34]))),
            [bucket(2_017_239_379)]
        );
        assert_eq!(of(decimals(vec![1420])), [bucket(-500_754_589)]);
        assert_eq!(
            of(Arc::new(Date32Array::from(vec![17_486]))),
            [bucket(-653_330_422)]
        );
        let micros = TimestampMicrosecondArray::from(vec![1_510_871_468_000_000]);
        assert_eq!(of(Arc::new(micros)), [bucket(-2_047_944_441)]);
        assert_eq!(
            of(Arc::new(StringArray::from(vec![Some("iceberg"), None]))),
            [bucket(1_210_000_089), Value::Null]
        );
        let bytes = BinaryArray::from(vec![&[0u8, 1, 2, 3][..]]);
        assert_eq!(of(Arc::new(bytes)), [bucket(-188_683_207)]);
    }

    #[test]
    fn a_number_is_as_short_as_it_can_be() {
        for (number, bytes) in [
            (0, 1),
            (127, 1),
            (128, 2),
            (-128, 1),
            (-129, 2),
            (i128::MAX, 16),
            (i128::MIN, 16),
        ] {
            assert_eq!(16 - redundant(number), bytes, "{number}");
        }
    }

    #[test]
    fn what_is_truncated_is_cut_downwards() {
        let longs: ArrayRef = Arc::new(Int64Array::from(vec![1, -1, 10]));
        assert_eq!(
            results("truncate[10]", longs),
            [json!(0), json!(-10), json!(10)]
        );
        assert_eq!(
            results("truncate[50]", decimals(vec![1065, -1])),
            [json!("1050"), json!("-50")]
        );
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["é漢字", "a"]));
        assert_eq!(results("truncate[2]", texts), [json!("é漢"), json!("a")]);
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&[1u8, 2, 3][..]]));
        assert_eq!(results("truncate[2]", bytes), [json!("AQI=")]);
        let lowest: ArrayRef = Arc::new(Int64Array::from(vec![i64::MIN]));
        assert!(Transform::Truncate(10).apply(&lowest).is_err());
        assert!(
            Transform::Truncate(10)
                .apply(&decimals(vec![-999_999_999]))
                .is_err()
        );
        assert!(
            Transform::Truncate(9)
                .apply(&decimals(vec![-999_999_999]))
                .is_ok()
        );
    }

    #[test]
    fn what_no_transform_takes_is_refused() {
        for (transform, of) in [
            (Transform::Identity, DataType::Float64),
            (Transform::Bucket(2), DataType::Boolean),
            (Transform::Hour, DataType::Date32),
            (Transform::Day, DataType::Int64),
            (Transform::Truncate(2), DataType::Date32),
        ] {
            assert!(transform.check(&of).is_err(), "{transform:?}");
        }
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
        assert_eq!(results("identity", flags), [json!(true)]);
        let long: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(257)]));
        let fault = value(&long, 0).expect_err("too long");
        assert_eq!(fault.code, "limit.partition_value");
    }
}
