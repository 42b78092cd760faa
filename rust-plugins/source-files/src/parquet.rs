//! Parquet files: schemas from their footers, rows in the types of the stream's columns.

use std::fs::File;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, Time32MillisecondType, Time64MicrosecondType, Time64NanosecondType,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, PrimitiveArray, RecordBatch, StringArray, new_null_array,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use dativo_wire::decode::arrow_type;
use dativo_wire::types::Primitive;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

use crate::Failure;
use crate::columns::{Column, Kind, Layout};
use crate::json;
use crate::jsonl::infer::object;

const BATCH_ROWS: usize = 8192;
const MAX_DEPTH: usize = 16;

fn open(file: &File) -> Result<ParquetRecordBatchReaderBuilder<File>, String> {
    let file = file.try_clone().map_err(|error| error.to_string())?;
    // The types are Parquet's own, not those of whatever wrote it.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
        .map_err(|error| error.to_string())
}

/// Add the columns of a file to those that are known, in their order. Where files differ in a type, it must be said in `schema`.
pub fn sample(file: &File, seen: &mut Vec<(String, String)>) -> Result<(), String> {
    for field in open(file)?.schema().fields() {
        let schema = schema(field.data_type(), 1);
        match seen.iter().find(|(name, _)| name == field.name()) {
            None => seen.push((field.name().clone(), schema)),
            Some((_, before)) if *before == schema => {}
            Some((name, before)) => {
                return Err(format!(
                    "column {name:?} is {schema} here and {before} in another file: say which in `schema`"
                ));
            }
        }
    }
    Ok(())
}

/// The JSON Schema of an Arrow type.
fn schema(kind: &DataType, depth: usize) -> String {
    let text = |rest: &str| format!(r#"{{"type":["null","string"]{rest}}}"#);
    match kind {
        DataType::Boolean => r#"{"type":["null","boolean"]}"#.to_owned(),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32 => r#"{"type":["null","integer"]}"#.to_owned(),
        DataType::UInt64 => {
            r#"{"type":["null","integer"],"airbyte_type":"big_integer"}"#.to_owned()
        }
        DataType::Float32 | DataType::Float64 => r#"{"type":["null","number"]}"#.to_owned(),
        DataType::Decimal128(precision, scale) if *scale >= 0 => format!(
            r#"{{"type":["null","number"],"format":"x-singer.decimal","precision":{precision},"scale":{scale}}}"#
        ),
        DataType::Date32 => text(r#","format":"date""#),
        DataType::Time32(_) | DataType::Time64(_) => {
            text(r#","format":"time","airbyte_type":"time_without_timezone""#)
        }
        DataType::Timestamp(_, None) => {
            text(r#","format":"date-time","airbyte_type":"timestamp_without_timezone""#)
        }
        DataType::Timestamp(_, Some(_)) => {
            text(r#","format":"date-time","airbyte_type":"timestamp_with_timezone""#)
        }
        DataType::Utf8 => text(""),
        DataType::Binary | DataType::FixedSizeBinary(_) => text(r#","contentEncoding":"base64""#),
        DataType::List(element) if depth < MAX_DEPTH => format!(
            r#"{{"type":["null","array"],"items":{}}}"#,
            schema(element.data_type(), depth + 1)
        ),
        DataType::Struct(fields) if depth < MAX_DEPTH && !fields.is_empty() => {
            let members = fields
                .iter()
                .map(|field| (field.name(), schema(field.data_type(), depth + 1)));
            format!(
                r#"{{"type":["null","object"],"properties":{}}}"#,
                object(members)
            )
        }
        DataType::Map(entries, _) if depth < MAX_DEPTH => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => format!(
                r#"{{"type":["null","object"],"additionalProperties":{}}}"#,
                schema(fields[1].data_type(), depth + 1)
            ),
            _ => "{}".to_owned(),
        },
        _ => "{}".to_owned(),
    }
}

/// The rows of a file behind the first `skip`, in the columns of `layout`.
pub fn rows<'l>(file: &File, skip: u64, layout: &'l Layout) -> Result<Rows<'l>, Failure> {
    let builder = open(file).map_err(Failure::new)?;
    let names: Vec<String> = builder
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    let wanted = |name: &String| layout.columns.iter().any(|column| column.property == *name);
    let roots = (0..names.len()).filter(|&root| wanted(&names[root]));
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .with_offset(skip as usize)
        .build()
        .map_err(|error| Failure::new(error.to_string()))?;
    Ok(Rows {
        reader,
        layout,
        rows: skip,
    })
}

pub struct Rows<'l> {
    reader: ParquetRecordBatchReader,
    layout: &'l Layout,
    rows: u64,
}

impl Iterator for Rows<'_> {
    type Item = Result<RecordBatch, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = match self.reader.next()? {
            Ok(batch) => batch,
            Err(error) => {
                let message = format!("behind record {}: {error}", self.rows);
                return Some(Err(Failure::new(message)));
            }
        };
        let fitted = self.fit(&batch);
        self.rows += batch.num_rows() as u64;
        Some(fitted)
    }
}

impl Rows<'_> {
    /// The batch in the columns of the layout; those that the file has not are null.
    fn fit(&self, batch: &RecordBatch) -> Result<RecordBatch, Failure> {
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for column in &self.layout.columns {
            let array = match batch.column_by_name(&column.property) {
                Some(array) => self.value(array, column)?,
                None => match column.kind {
                    Kind::Value(kind) => new_null_array(&arrow_type(kind), batch.num_rows()),
                    Kind::Json | Kind::Number => new_null_array(&DataType::Utf8, batch.num_rows()),
                    Kind::Nested => new_null_array(&DataType::Null, batch.num_rows()),
                },
            };
            fields.push(Field::new(
                &column.property,
                array.data_type().clone(),
                true,
            ));
            columns.push(array);
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        RecordBatch::try_new(schema, columns).map_err(|error| Failure::new(error.to_string()))
    }

    fn value(&self, array: &ArrayRef, column: &Column) -> Result<ArrayRef, Failure> {
        let place = |failure: Failure| failure.below(&format!("column {:?}", column.property));
        match column.kind {
            Kind::Nested => Ok(array.clone()),
            Kind::Json | Kind::Number => json_texts(array).map_err(place),
            Kind::Value(kind) => fit(array, kind).map_err(|misfit| {
                place(match misfit {
                    Misfit::Kind => Failure::new(format!(
                        "the file has {}, the catalogue {kind}",
                        array.data_type()
                    )),
                    Misfit::Value(row) => Failure::new(format!(
                        "record {}: a value that is no {kind}",
                        self.rows + row as u64 + 1
                    )),
                })
            }),
        }
    }
}

/// Each value as JSON text.
fn json_texts(array: &ArrayRef) -> Result<ArrayRef, Failure> {
    let write = json::writer(array.as_ref())?;
    let mut text = Vec::new();
    let texts = (0..array.len()).map(|row| {
        text.clear();
        write(row, &mut text);
        (!array.is_null(row)).then(|| String::from_utf8_lossy(&text).into_owned())
    });
    Ok(Arc::new(texts.collect::<StringArray>()))
}

enum Misfit {
    /// No value of the file's type is one.
    Kind,
    /// The value of this row is not.
    Value(usize),
}

/// `array` as values of `kind`, each exactly what it was.
fn fit(array: &ArrayRef, kind: Primitive) -> Result<ArrayRef, Misfit> {
    let wanted = arrow_type(kind);
    Ok(match (array.data_type(), kind) {
        (DataType::Int8, Primitive::Long) => each::<Int8Type, Int64Type>(array, &wanted, wide)?,
        (DataType::Int16, Primitive::Long) => each::<Int16Type, Int64Type>(array, &wanted, wide)?,
        (DataType::Int32, Primitive::Long) => each::<Int32Type, Int64Type>(array, &wanted, wide)?,
        (DataType::UInt8, Primitive::Long) => each::<UInt8Type, Int64Type>(array, &wanted, wide)?,
        (DataType::UInt16, Primitive::Long) => each::<UInt16Type, Int64Type>(array, &wanted, wide)?,
        (DataType::UInt32, Primitive::Long) => each::<UInt32Type, Int64Type>(array, &wanted, wide)?,
        (DataType::UInt64, Primitive::Long) => {
            each::<UInt64Type, Int64Type>(array, &wanted, |value| value.try_into().ok())?
        }
        (DataType::Float32, Primitive::Double) => {
            each::<Float32Type, Float64Type>(array, &wanted, wide)?
        }
        (DataType::Int32, Primitive::Double) => {
            each::<Int32Type, Float64Type>(array, &wanted, wide)?
        }
        (DataType::UInt64, Primitive::Decimal { precision, scale }) => {
            let take = |value| scaled(i128::from(value), 0, precision, scale);
            each::<UInt64Type, Decimal128Type>(array, &wanted, take)?
        }
        (DataType::Int32, Primitive::Decimal { precision, scale }) => {
            let take = |value| scaled(i128::from(value), 0, precision, scale);
            each::<Int32Type, Decimal128Type>(array, &wanted, take)?
        }
        (DataType::Int64, Primitive::Decimal { precision, scale }) => {
            let take = |value| scaled(i128::from(value), 0, precision, scale);
            each::<Int64Type, Decimal128Type>(array, &wanted, take)?
        }
        (DataType::Decimal128(_, from), Primitive::Decimal { precision, scale }) => {
            let take = |value| scaled(value, *from, precision, scale);
            each::<Decimal128Type, Decimal128Type>(array, &wanted, take)?
        }
        (DataType::Date32, Primitive::Date) => {
            each::<Date32Type, Date32Type>(array, &wanted, |day| in_calendar(day).then_some(day))?
        }
        (DataType::Time32(TimeUnit::Millisecond), Primitive::Time) => {
            let take = |ms| of_day(i64::from(ms) * 1000);
            each::<Time32MillisecondType, Time64MicrosecondType>(array, &wanted, take)?
        }
        (DataType::Time64(TimeUnit::Microsecond), Primitive::Time) => {
            each::<Time64MicrosecondType, Time64MicrosecondType>(array, &wanted, of_day)?
        }
        (DataType::Time64(TimeUnit::Nanosecond), Primitive::Time) => {
            let take = |ns: i64| of_day(ns.div_euclid(1000));
            each::<Time64NanosecondType, Time64MicrosecondType>(array, &wanted, take)?
        }
        (DataType::Timestamp(unit, zone), Primitive::Timestamp | Primitive::Timestamptz)
            if zone.is_some() == (kind == Primitive::Timestamptz) =>
        {
            type Us = TimestampMicrosecondType;
            match unit {
                TimeUnit::Second => each::<TimestampSecondType, Us>(array, &wanted, |at| {
                    at.checked_mul(1_000_000).filter(|&at| in_years(at))
                })?,
                TimeUnit::Millisecond => {
                    each::<TimestampMillisecondType, Us>(array, &wanted, |at| {
                        at.checked_mul(1000).filter(|&at| in_years(at))
                    })?
                }
                TimeUnit::Microsecond => {
                    each::<Us, Us>(array, &wanted, |at| in_years(at).then_some(at))?
                }
                TimeUnit::Nanosecond => {
                    each::<TimestampNanosecondType, Us>(array, &wanted, |at| {
                        Some(at.div_euclid(1000))
                    })?
                }
            }
        }
        (DataType::FixedSizeBinary(_), Primitive::Binary) => {
            let values = array.as_fixed_size_binary();
            Arc::new(values.iter().collect::<BinaryArray>())
        }
        (same, _) if *same == wanted => array.clone(),
        _ => return Err(Misfit::Kind),
    })
}

fn wide<F: Into<T>, T>(value: F) -> Option<T> {
    Some(value.into())
}

fn each<F: ArrowPrimitiveType, T: ArrowPrimitiveType>(
    array: &ArrayRef,
    wanted: &DataType,
    take: impl Fn(F::Native) -> Option<T::Native>,
) -> Result<ArrayRef, Misfit> {
    let values = array.as_primitive::<F>();
    let mut fitted = Vec::with_capacity(values.len());
    for row in 0..values.len() {
        fitted.push(if values.is_null(row) {
            T::Native::default()
        } else {
            take(values.value(row)).ok_or(Misfit::Value(row))?
        });
    }
    let fitted = PrimitiveArray::<T>::new(fitted.into(), values.nulls().cloned());
    Ok(Arc::new(fitted.with_data_type(wanted.clone())))
}

/// A decimal at another scale, if no digit is lost and it has at most `precision` of them.
fn scaled(value: i128, from: i8, precision: u8, scale: u8) -> Option<i128> {
    let shift = i32::from(scale) - i32::from(from);
    let power = 10i128.checked_pow(shift.unsigned_abs())?;
    let value = if shift >= 0 {
        value.checked_mul(power)?
    } else if value % power == 0 {
        value / power
    } else {
        return None;
    };
    (value.unsigned_abs() < 10u128.pow(precision.into())).then_some(value)
}

/// The years 0001 to 9999.
fn in_calendar(day: i32) -> bool {
    (-719_162..=2_932_896).contains(&day)
}

fn in_years(us: i64) -> bool {
    const DAY_US: i64 = 86_400_000_000;
    (-719_162 * DAY_US..2_932_897 * DAY_US).contains(&us)
}

fn of_day(us: i64) -> Option<i64> {
    (0..86_400_000_000).contains(&us).then_some(us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Decimal128Array, Int32Array, UInt64Array};

    #[test]
    fn decimals_keep_all_their_digits_or_are_refused() {
        assert_eq!(scaled(12345, 2, 10, 4), Some(1_234_500));
        assert_eq!(scaled(12300, 4, 10, 2), Some(123));
        assert_eq!(scaled(12345, 4, 10, 2), None);
        assert_eq!(scaled(99999, 0, 5, 1), None);
        assert_eq!(scaled(-7, -2, 5, 0), Some(-700));
        assert_eq!(scaled(i128::MAX, 0, 38, 9), None);
    }

    #[test]
    fn values_are_what_they_were() {
        let ints: ArrayRef = Arc::new(Int32Array::from(vec![Some(-7), None]));
        let longs = fit(&ints, Primitive::Long).ok().expect("fits");
        let longs = longs.as_primitive::<Int64Type>();
        assert_eq!(longs.iter().collect::<Vec<_>>(), [Some(-7), None]);
        let big: ArrayRef = Arc::new(UInt64Array::from(vec![1, u64::MAX]));
        assert!(matches!(fit(&big, Primitive::Long), Err(Misfit::Value(1))));
        assert!(matches!(fit(&big, Primitive::Boolean), Err(Misfit::Kind)));
        let decimals =
            Decimal128Array::from(vec![1250]).with_data_type(DataType::Decimal128(10, 2));
        let decimals: ArrayRef = Arc::new(decimals);
        let wide = Primitive::Decimal {
            precision: 38,
            scale: 9,
        };
        let fitted = fit(&decimals, wide).ok().expect("fits");
        assert_eq!(
            fitted.as_primitive::<Decimal128Type>().value(0),
            12_500_000_000
        );
    }
}
