use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_schema::{DataType, Field as ArrowField, Schema};

use super::*;
use crate::schema::{self, Numbers, Options};

const ROWS: usize = 3;
const OPTIONS: Options = Options {
    max_columns: 100,
    max_depth: 32,
    numbers: Numbers::Double,
};

const SCHEMA: &str = r#"{"properties":{
    "b":{"type":"boolean"},"i":{"type":"integer"},"n":{"type":"number"},
    "d":{"type":"number","format":"x-singer.decimal","precision":5,"scale":2},
    "day":{"type":"string","format":"date"},"time":{"type":"string","format":"time"},
    "at":{"type":"string","format":"date-time"},"s":{"type":"string"},
    "x":{"type":"string","contentEncoding":"base64"},"j":{}}}"#;

fn fields(schema: &str) -> Vec<Field> {
    let columns = schema::compile(schema.as_bytes(), OPTIONS).expect("compiles");
    columns.iter().filter_map(Field::of).collect()
}

/// A column of each type: the middle row is null.
fn arrays() -> Vec<(&'static str, ArrayRef)> {
    use arrow_array::*;
    let decimal = Decimal128Array::from(vec![Some(99_999), None, Some(-1)]);
    let at = TimestampMicrosecondArray::from(vec![Some(0), None, Some(-1)]);
    vec![
        (
            "b",
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        ),
        (
            "i",
            Arc::new(Int64Array::from(vec![Some(i64::MAX), None, Some(-1)])),
        ),
        (
            "n",
            Arc::new(Float64Array::from(vec![Some(0.5), None, Some(f64::NAN)])),
        ),
        (
            "d",
            Arc::new(decimal.with_data_type(DataType::Decimal128(5, 2))),
        ),
        (
            "day",
            Arc::new(Date32Array::from(vec![Some(20_780), None, Some(-1)])),
        ),
        (
            "time",
            Arc::new(Time64MicrosecondArray::from(vec![Some(1), None, Some(0)])),
        ),
        ("at", Arc::new(at.with_timezone("UTC"))),
        (
            "s",
            Arc::new(StringArray::from(vec![Some("ü"), None, Some("")])),
        ),
        (
            "x",
            Arc::new(BinaryArray::from_opt_vec(vec![
                Some(b"\xff"),
                None,
                Some(b""),
            ])),
        ),
        (
            "j",
            Arc::new(StringArray::from(vec![
                Some("{\"a\":1.10}"),
                None,
                Some("2"),
            ])),
        ),
    ]
}

fn batch(arrays: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<_> = arrays
        .iter()
        .map(|(name, array)| ArrowField::new(*name, array.data_type().clone(), true))
        .collect();
    let columns = arrays.into_iter().map(|(_, array)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("a batch")
}

fn ipc(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).expect("begins");
    writer.write(batch).expect("writes");
    writer.into_inner().expect("ends")
}

fn message_of(outcome: Result<Vec<ArrayRef>, Box<Fault>>) -> String {
    outcome.map_or_else(
        |fault| format!("{} {}", fault.code, fault.message),
        |_| "taken".to_owned(),
    )
}

fn alone(schema: &str, name: &str, array: ArrayRef) -> String {
    let (fields, rows) = (fields(schema), array.len());
    let body = ipc(&batch(vec![(name, array)]));
    message_of(read(body, rows, &fields, 32))
}

#[test]
fn what_was_written_is_read() {
    let written = batch(arrays());
    let read = read(ipc(&written), ROWS, &fields(SCHEMA), 32).expect("taken");
    for (expected, found) in written.columns().iter().zip(&read) {
        assert_eq!(expected.to_data(), found.to_data());
    }
    assert_eq!(read.len(), written.num_columns());
}

#[test]
fn the_columns_are_those_of_the_schema() {
    let all = fields(SCHEMA);
    let without_last = batch(arrays().into_iter().take(9).collect());
    let found = message_of(read(ipc(&without_last), ROWS, &all, 32));
    assert!(
        found.contains("9 columns, the stream's schema has 10"),
        "{found}"
    );
    let mut swapped = arrays();
    swapped.swap(0, 1);
    let found = message_of(read(ipc(&batch(swapped)), ROWS, &all, 32));
    assert!(found.contains("another column stands where"), "{found}");
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    let found = alone(r#"{"properties":{"i":{"type":"integer"}}}"#, "i", text);
    assert!(
        found.contains("message.batch") && found.contains("to be Int64"),
        "{found}"
    );
    let narrow: ArrayRef = Arc::new(arrow_array::Int32Array::from(vec![1]));
    let found = alone(r#"{"properties":{"i":{"type":"integer"}}}"#, "i", narrow);
    assert!(found.contains("to be Int64"), "{found}");
}

#[test]
fn values_are_held_against_their_types() {
    use arrow_array::*;
    let decimal = Decimal128Array::from(vec![100_000]).with_data_type(DataType::Decimal128(5, 2));
    let late = TimestampMicrosecondArray::from(vec![i64::MAX]).with_timezone("UTC");
    let cases: [(&str, ArrayRef); 5] = [
        (
            r#"{"type":"number","format":"x-singer.decimal","precision":5,"scale":2}"#,
            Arc::new(decimal),
        ),
        (
            r#"{"type":"string","format":"date"}"#,
            Arc::new(Date32Array::from(vec![-800_000])),
        ),
        (
            r#"{"type":"string","format":"time"}"#,
            Arc::new(Time64MicrosecondArray::from(vec![-1])),
        ),
        (r#"{"type":"string","format":"date-time"}"#, Arc::new(late)),
        ("{}", Arc::new(StringArray::from(vec!["{\"a\":NaN}"]))),
    ];
    for (node, array) in cases {
        let schema = format!(r#"{{"properties":{{"c":{node}}}}}"#);
        let found = alone(&schema, "c", array);
        assert!(
            found.starts_with("record.value row 1 of the batch"),
            "{node}: {found}"
        );
    }
    // What stands under a null is anything.
    let nulls = Some(NullBuffer::from(vec![false]));
    let hidden = Date32Array::new(vec![i32::MIN].into(), nulls);
    let schema = r#"{"properties":{"c":{"type":"string","format":"date"}}}"#;
    assert_eq!(alone(schema, "c", Arc::new(hidden)), "taken");
}

#[test]
fn a_required_column_has_no_null_and_a_wider_one_holds_the_values() {
    let mut all = fields(SCHEMA);
    all[1].required = true;
    let found = message_of(read(ipc(&batch(arrays())), ROWS, &all, 32));
    assert!(found.contains("the table's column is required"), "{found}");
    let mut all = fields(SCHEMA);
    all[3] = all[3].clone().widened(Primitive::Decimal {
        precision: 20,
        scale: 2,
    });
    let wide = read(ipc(&batch(arrays())), ROWS, &all, 32).expect("taken");
    assert_eq!(wide[3].data_type(), &DataType::Decimal128(20, 2));
}

#[test]
fn what_is_compressed_or_more_than_one_batch_is_refused() {
    let written = batch(arrays());
    let all = fields(SCHEMA);
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME));
    if let Ok(options) = options
        && let Ok(mut writer) =
            StreamWriter::try_new_with_options(Vec::new(), &written.schema(), options)
        && writer.write(&written).is_ok()
    {
        let found = message_of(read(writer.into_inner().expect("ends"), ROWS, &all, 32));
        assert!(found.contains("compressed"), "{found}");
    }
    let mut twice = StreamWriter::try_new(Vec::new(), &written.schema()).expect("begins");
    twice.write(&written).expect("writes");
    twice.write(&written).expect("writes");
    let found = message_of(read(twice.into_inner().expect("ends"), ROWS, &all, 32));
    assert!(found.contains("something stands behind"), "{found}");
    let found = message_of(read(ipc(&written), ROWS + 1, &all, 32));
    assert!(found.contains("3 rows, 4 were announced"), "{found}");
}

#[test]
fn no_byte_that_is_another_and_no_cut_makes_a_panic() {
    let whole = ipc(&batch(arrays()));
    let all = fields(SCHEMA);
    for length in 0..whole.len() {
        // Only the end of the stream may be missing.
        let outcome = read(whole[..length].to_vec(), ROWS, &all, 32);
        assert_eq!(outcome.is_ok(), length == whole.len() - 8, "{length}");
    }
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut other = whole.clone();
            other[at] = value;
            if let Ok(columns) = read(other, ROWS, &all, 32) {
                for column in columns {
                    column
                        .to_data()
                        .validate_full()
                        .expect("what is taken is right");
                }
            }
        }
    }
}

#[test]
fn offsets_and_nulls_are_not_believed() {
    let texts = StringArray::from(vec![Some("ab"), None, Some("c")]);
    let schema = r#"{"properties":{"s":{"type":"string"}}}"#;
    let whole = ipc(&batch(vec![("s", Arc::new(texts))]));
    let offsets: Vec<u8> = [0i32, 2, 2, 3]
        .iter()
        .flat_map(|at| at.to_le_bytes())
        .collect();
    let at = whole
        .windows(offsets.len())
        .position(|window| window == offsets)
        .expect("there");
    for (offset, value, message) in [
        (4, -1i32, "go back"),
        (4, 3, "go back"),
        (12, i32::MAX, "go back or beyond"),
        (0, 1, "taken"),
    ] {
        let mut other = whole.clone();
        other[at + offset..at + offset + 4].copy_from_slice(&value.to_le_bytes());
        let found = message_of(read(other, ROWS, &fields(schema), 32));
        assert!(found.contains(message), "{offset} {value}: {found}");
    }
    let bits = whole[..at]
        .iter()
        .rposition(|&byte| byte == 0b101)
        .expect("there");
    let mut other = whole.clone();
    other[bits] = 0b111;
    let found = message_of(read(other, ROWS, &fields(schema), 32));
    assert!(found.contains("0 nulls where it says 1"), "{found}");
    let text = whole
        .windows(3)
        .rposition(|window| window == b"abc")
        .expect("there");
    let mut other = whole;
    other[text] = 0xff;
    let found = message_of(read(other, ROWS, &fields(schema), 32));
    assert!(
        found.starts_with("message.batch") && found.contains("UTF-8"),
        "{found}"
    );
}

#[test]
fn batches_are_announced_on_a_line() {
    let of = |line: &str| {
        announced(line.as_bytes(), 32).map(|outcome| {
            outcome
                .map(|found| {
                    let name = found.stream.to_name();
                    (name.namespace, name.name, found.rows, found.bytes)
                })
                .map_err(|bad| (bad.code, bad.message))
        })
    };
    let line = r#"{"type":"ARROW_BATCH","batch":{"stream":"s","rows":3,"bytes":800}}"#;
    assert_eq!(of(line), Some(Ok((None, "s".to_owned(), 3, 800))));
    let named = r#"{"type":"ARROW_BATCH","batch":{"bytes":1,"rows":1,"namespace":"n","stream":"s","more":[]}}"#;
    assert_eq!(
        of(named),
        Some(Ok((Some("n".to_owned()), "s".to_owned(), 1, 1)))
    );
    assert_eq!(of(r#"{"type":"RECORD"}"#), None);
    for (line, message) in [
        (r#"{"type":"ARROW_BATCH"}"#, "without batch"),
        (
            r#"{"type":"ARROW_BATCH","batch":{"rows":1,"bytes":1}}"#,
            "without the name",
        ),
        (
            r#"{"type":"ARROW_BATCH","batch":{"stream":"s","rows":0,"bytes":1}}"#,
            "rows must be",
        ),
        (
            r#"{"type":"ARROW_BATCH","batch":{"stream":"s","rows":131073,"bytes":1}}"#,
            "rows must be",
        ),
        (
            r#"{"type":"ARROW_BATCH","batch":{"stream":"s","rows":1,"bytes":16777217}}"#,
            "bytes must be",
        ),
        (
            r#"{"type":"ARROW_BATCH","batch":{"stream":"s","rows":1,"bytes":-1}}"#,
            "bytes must be",
        ),
        (
            r#"{"type":"ARROW_BATCH","batch":{"stream":"s","rows":1,"bytes":9223372036854775807}}"#,
            "bytes must be",
        ),
        (
            r#"{"type":"ARROW_BATCH","batch":{"stream":"s","stream":"t","rows":1,"bytes":1}}"#,
            "twice",
        ),
    ] {
        let found = of(line);
        let matches = matches!(&found, Some(Err((_, said))) if said.contains(message));
        assert!(matches, "{line}: {found:?}");
    }
}
