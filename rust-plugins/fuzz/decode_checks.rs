//! What holds of every schema and record, for the fuzz target and for the replay of its corpus (wire/tests/corpus.rs).
//!
//! The first line is a schema, the others are records. What the decoder takes is what serde_json reads there.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Schema};
use dativo_wire::decode::{Decoder, fields_of};
use dativo_wire::oddity::Oddity;
use dativo_wire::scan::Scanner;
use dativo_wire::schema::{Numbers, Options, compile};
use dativo_wire::types::{Column, Primitive, Shape};
use serde_json::Value;

const MAX_COLUMNS: usize = 64;
const MAX_DEPTH: usize = 32;

/// Every record is taken or refused, and one that is taken is there with the values that it holds.
pub fn decode(data: &[u8]) {
    let mut lines = data.split(|&byte| byte == b'\n');
    let schema = lines.next().unwrap_or_default();
    let numbers = match schema.len() % 3 {
        0 => Numbers::Double,
        1 => Numbers::Decimal,
        _ => Numbers::Text,
    };
    let options = Options {
        max_columns: MAX_COLUMNS,
        max_depth: MAX_DEPTH,
        numbers,
    };
    let Ok(columns) = compile(schema, options) else {
        return;
    };
    let leaves: usize = columns.iter().map(|column| column.shape.leaves()).sum();
    assert!((1..=MAX_COLUMNS).contains(&leaves));
    let (mut strict, mut lenient) = (
        Decoder::new(fields_of(&columns)),
        Decoder::new(fields_of(&columns)),
    );
    lenient.set_lenient(true);
    let mut taken = Vec::new();
    for line in lines.filter(|line| std::str::from_utf8(line).is_ok()) {
        let scanner = Scanner::new(line, MAX_DEPTH);
        let rows = strict.rows();
        let (one, other) = (strict.push(scanner), lenient.push(scanner));
        let discarded = lenient.take_discarded().len();
        match (&one, &other) {
            (Ok(end), Ok(also)) => {
                assert_eq!((end.pos(), discarded), (also.pos(), 0));
                assert_eq!(strict.rows(), rows + 1);
                taken.push((end.since(0), end.odd));
            }
            (Err(reject), Ok(_)) => {
                assert!(reject.is_of_value() && discarded > 0);
                assert!(!reject.fault(line).code.is_empty());
                lenient.pop();
            }
            (Err(reject), Err(_)) => {
                assert_eq!(discarded, 0);
                assert!(!reject.fault(line).code.is_empty());
            }
            (Ok(_), Err(_)) => panic!("refused leniently, and taken strictly"),
        }
        assert_eq!((strict.rows(), lenient.rows()), (taken.len(), taken.len()));
    }
    let batch = finished(&mut strict);
    assert_eq!(batch.num_rows(), taken.len());
    assert_eq!(strict.rows() + strict.list_bytes(), 0);
    assert_eq!(
        format!("{batch:?}"),
        format!("{:?}", finished(&mut lenient))
    );
    for (row, (text, odd)) in taken.iter().enumerate() {
        match serde_json::from_slice::<Value>(text) {
            Ok(record) => agree(&columns, batch.columns(), row, &record),
            // What Python writes, and what only Rust's strings cannot hold.
            Err(error) => assert!(
                odd.contains(Oddity::Nan)
                    || odd.contains(Oddity::LoneSurrogate)
                    || is_range(&error),
                "{error}: {}",
                String::from_utf8_lossy(text)
            ),
        }
    }
}

/// A number that no double holds, in a part that is not decoded as one.
fn is_range(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("number out of range")
}

fn finished(decoder: &mut Decoder) -> RecordBatch {
    let schema = Schema::new(decoder.arrow_fields().to_vec());
    let batch = RecordBatch::try_new(Arc::new(schema), decoder.finish()).expect("as told");
    for column in batch.columns() {
        column.to_data().validate_full().expect("whole");
    }
    batch
}

fn agree(columns: &[Column], arrays: &[Arc<dyn Array>], row: usize, record: &Value) {
    for (column, array) in columns.iter().zip(arrays) {
        let value = record.get(&column.property).unwrap_or(&Value::Null);
        same(&column.shape, array, row, value);
    }
}

fn same(shape: &Shape, array: &dyn Array, row: usize, value: &Value) {
    assert_eq!(array.is_null(row), value.is_null(), "{shape}: {value}");
    if value.is_null() {
        return;
    }
    match (shape, array.data_type()) {
        (Shape::Struct(columns), DataType::Struct(_)) => {
            agree(columns, array.as_struct().columns(), row, value);
        }
        (Shape::List(element), DataType::List(_)) => {
            let (list, values) = (array.as_list::<i32>().value(row), value.as_array());
            let values = values.expect("an array");
            assert_eq!(list.len(), values.len());
            for (index, value) in values.iter().enumerate() {
                same(element, &list, index, value);
            }
        }
        (Shape::Map(of), DataType::Map(..)) => {
            let (entries, values) = (array.as_map().value(row), value.as_object());
            let values = values.expect("an object");
            assert_eq!(entries.len(), values.len());
            for index in 0..entries.len() {
                let key = entries.column(0).as_string::<i32>().value(index);
                same(of, entries.column(1), index, &values[key]);
            }
        }
        (
            Shape::Value {
                kind,
                quoted: false,
            },
            _,
        ) => match kind {
            Primitive::Boolean => {
                assert_eq!(Some(array.as_boolean().value(row)), value.as_bool());
            }
            Primitive::String => {
                assert_eq!(Some(array.as_string::<i32>().value(row)), value.as_str());
            }
            Primitive::Long => {
                let number = array.as_primitive::<Int64Type>().value(row);
                // Such as 7.0 and 7e3, which serde_json keeps as doubles.
                assert!(
                    value.as_i64().map_or_else(
                        || value.as_f64() == Some(number as f64),
                        |value| value == number
                    ),
                    "{number} {value}"
                );
            }
            Primitive::Double => {
                let number = array.as_primitive::<Float64Type>().value(row);
                let other = value.as_f64().expect("a number");
                assert!(
                    (number - other).abs() <= other.abs() * 1e-14,
                    "{number} {other}"
                );
            }
            _ => assert!(value.is_string() || value.is_number()),
        },
        (Shape::Json, DataType::Utf8) => {
            let text = array.as_string::<i32>().value(row);
            assert_eq!(&serde_json::from_str::<Value>(text).expect("JSON"), value);
        }
        (Shape::Value { .. }, _) => assert!(value.is_string() || value.is_number()),
        (shape, kind) => panic!("{shape} as {kind}"),
    }
}
