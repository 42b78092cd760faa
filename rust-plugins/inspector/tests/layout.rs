//! Files of tables that are partitioned and sorted, into the inspector.

mod written;

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, TimeUnit};
use parquet::basic::Encoding;
use parquet::file::properties::WriterVersion;
use serde_json::{Value, json};
use written::{Written, field, properties};

const OTHER: &str = "another partition";
const UNSORTED: &str = "not sorted";

/// How a file is written: version of its pages, and with dictionaries or without.
const WAYS: [(WriterVersion, bool); 4] = [
    (WriterVersion::PARQUET_1_0, false),
    (WriterVersion::PARQUET_1_0, true),
    (WriterVersion::PARQUET_2_0, false),
    (WriterVersion::PARQUET_2_0, true),
];

/// One column, as its plan names it, in a file of 1,000 rows a group and 300 a page.
fn file(name: &str, columns: Vec<(DataType, ArrayRef)>, way: (WriterVersion, bool)) -> Written {
    let has_flags = columns.iter().any(|(kind, _)| *kind == DataType::Boolean);
    let columns = columns
        .into_iter()
        .enumerate()
        .map(|(at, (kind, array))| (field(&format!("c{}", at + 1), kind, at as i32 + 1), array));
    let mut properties = properties()
        .set_writer_version(way.0)
        .set_dictionary_enabled(way.1);
    if !has_flags {
        properties = properties.set_encoding(Encoding::PLAIN);
    }
    let name = format!("layout-{name}-{way:?}").replace(['(', ')', ',', ' '], "");
    Written::new(&name, columns.collect(), properties.build())
}

fn partitioned(types: &[&str], transform: &str) -> String {
    plan(
        types,
        &json!([{"field_id": 1, "transform": transform}]),
        &json!([]),
    )
}

fn sorted(types: &[&str], sort: &Value) -> String {
    plan(types, &json!([]), sort)
}

fn plan(types: &[&str], partition: &Value, sort: &Value) -> String {
    let columns = types.iter().enumerate().map(
        |(at, kind)| json!({"column": format!("c{}", at + 1), "type": kind, "field_id": at + 1}),
    );
    let columns: Vec<Value> = columns.collect();
    json!({"columns": columns, "partition": partition, "sort": sort}).to_string()
}

const ROWS: usize = 2_500;

/// `usual`, but `odd` in the last row.
fn but_last<T: Clone>(usual: T, odd: T) -> Vec<T> {
    let mut rows = vec![usual; ROWS - 1];
    rows.push(odd);
    rows
}

#[test]
fn one_row_of_another_partition_is_found_in_every_type() {
    let texts = |texts: [&'static str; 2]| -> ArrayRef {
        Arc::new(StringArray::from(but_last(texts[0], texts[1])))
    };
    let longs =
        |longs: [i64; 2]| -> ArrayRef { Arc::new(Int64Array::from(but_last(longs[0], longs[1]))) };
    let days =
        |days: [i32; 2]| -> ArrayRef { Arc::new(Date32Array::from(but_last(days[0], days[1]))) };
    let times = |times: [i64; 2]| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(but_last(
            times[0], times[1],
        )))
    };
    let bytes = |bytes: [&'static [u8]; 2]| -> ArrayRef {
        Arc::new(BinaryArray::from(but_last(bytes[0], bytes[1])))
    };
    let decimals = |precision: u8, numbers: [i128; 2]| -> ArrayRef {
        let numbers = Decimal128Array::from(but_last(numbers[0], numbers[1]));
        Arc::new(numbers.with_precision_and_scale(precision, 2).unwrap())
    };
    let flags = |flags: [bool; 2]| -> ArrayRef {
        Arc::new(BooleanArray::from(but_last(flags[0], flags[1])))
    };
    let stamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    let small = DataType::Decimal128(9, 2);
    let wide = DataType::Decimal128(38, 2);
    let day = 86_400_000_000;
    type Case = (
        &'static str,
        DataType,
        &'static str,
        ArrayRef,
        ArrayRef,
        Value,
    );
    // Both rows of the first array are of the partition, the last row of the second one is not.
    let cases: Vec<Case> = vec![
        (
            "string",
            DataType::Utf8,
            "identity",
            texts(["ab", "ab"]),
            texts(["ab", "ac"]),
            json!("ab"),
        ),
        (
            "string",
            DataType::Utf8,
            "identity",
            texts(["ab", "ab"]),
            texts(["ab", "abc"]),
            json!("ab"),
        ),
        (
            "string",
            DataType::Utf8,
            "truncate[2]",
            texts(["éa1", "éa2"]),
            texts(["éa1", "é"]),
            json!("éa"),
        ),
        (
            "string",
            DataType::Utf8,
            "bucket[16]",
            texts(["iceberg", "iceberg"]),
            texts(["iceberg", "b"]),
            json!(9),
        ),
        (
            "binary",
            DataType::Binary,
            "identity",
            bytes([b"\x01\x02", b"\x01\x02"]),
            bytes([b"\x01\x02", b"\x01"]),
            json!("AQI="),
        ),
        (
            "binary",
            DataType::Binary,
            "truncate[1]",
            bytes([b"\x01\x02", b"\x01"]),
            bytes([b"\x01\x02", b"\x02"]),
            json!("AQ=="),
        ),
        (
            "long",
            DataType::Int64,
            "identity",
            longs([-7, -7]),
            longs([-7, -8]),
            json!(-7),
        ),
        (
            "long",
            DataType::Int64,
            "truncate[10]",
            longs([-7, -10]),
            longs([-7, -11]),
            json!(-10),
        ),
        (
            "long",
            DataType::Int64,
            "bucket[16]",
            longs([34, 34]),
            longs([34, 35]),
            json!(3),
        ),
        (
            "boolean",
            DataType::Boolean,
            "identity",
            flags([true, true]),
            flags([true, false]),
            json!(true),
        ),
        (
            "date",
            DataType::Date32,
            "identity",
            days([-5, -5]),
            days([-5, -4]),
            json!(-5),
        ),
        (
            "date",
            DataType::Date32,
            "year",
            days([-1, -365]),
            days([-1, 0]),
            json!(-1),
        ),
        (
            "date",
            DataType::Date32,
            "month",
            days([-1, -31]),
            days([-1, -32]),
            json!(-1),
        ),
        (
            "timestamp",
            stamp.clone(),
            "day",
            times([-1, -day]),
            times([-1, 0]),
            json!(-1),
        ),
        (
            "timestamp",
            stamp.clone(),
            "hour",
            times([-1, -3_600_000_000]),
            times([-1, 0]),
            json!(-1),
        ),
        (
            "timestamp",
            stamp,
            "bucket[100]",
            times([1_510_871_468_000_000; 2]),
            times([1_510_871_468_000_000, 0]),
            json!(7),
        ),
        (
            "decimal(9,2)",
            small.clone(),
            "identity",
            decimals(9, [-5, -5]),
            decimals(9, [-5, 5]),
            json!("-5"),
        ),
        (
            "decimal(9,2)",
            small,
            "bucket[16]",
            decimals(9, [1420, 1420]),
            decimals(9, [1420, 1421]),
            json!(3),
        ),
        (
            "decimal(38,2)",
            wide,
            "truncate[50]",
            decimals(38, [1065, 1099]),
            decimals(38, [1065, 1100]),
            json!("1050"),
        ),
    ];
    for (of, kind, transform, right, wrong, said) in cases {
        let plan = partitioned(&[of], transform);
        for way in WAYS {
            let name = format!("{of}-{transform}");
            let holds = file(&name, vec![(kind.clone(), right.clone())], way);
            let found = holds.inspect_laid_out(&plan, Some(std::slice::from_ref(&said)));
            found.unwrap_or_else(|flaw| panic!("{of} {transform} {said} {way:?}: {flaw}"));
            let null = holds.inspect_laid_out(&plan, Some(&[Value::Null]));
            assert!(null.unwrap_err().contains(OTHER));
            let holds_not = file(&name, vec![(kind.clone(), wrong.clone())], way);
            let found = holds_not.inspect_laid_out(&plan, Some(std::slice::from_ref(&said)));
            assert!(
                found.unwrap_err().contains(OTHER),
                "{of} {transform} {said} {way:?}"
            );
        }
    }
}

#[test]
fn nulls_are_a_partition_of_their_own() {
    for way in WAYS {
        let nulls: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>; ROWS]));
        let nulls = file("nulls", vec![(DataType::Utf8, nulls)], way);
        for (transform, value) in [("identity", json!("a")), ("bucket[4]", json!(0))] {
            let plan = partitioned(&["string"], transform);
            nulls.inspect_laid_out(&plan, Some(&[Value::Null])).unwrap();
            for rows in [but_last(None, Some("a")), but_last(Some("a"), None)] {
                let mixed: ArrayRef = Arc::new(StringArray::from(rows));
                let mixed = file("mixed", vec![(DataType::Utf8, mixed)], way);
                for said in [Value::Null, value.clone()] {
                    let found = mixed.inspect_laid_out(&plan, Some(&[said]));
                    assert!(found.unwrap_err().contains(OTHER));
                }
            }
        }
    }
}

#[test]
fn a_partition_is_one_of_its_plan() {
    let rows: ArrayRef = Arc::new(Int64Array::from(vec![1, 1]));
    let file = file("plan", vec![(DataType::Int64, rows)], WAYS[0]);
    file.inspect(r#"[{"column":"c1","type":"long","field_id":1}]"#)
        .unwrap();
    let refused =
        |plan: &str, said: Option<&[Value]>| file.inspect_laid_out(plan, said).unwrap_err();
    let by_id = partitioned(&["long"], "identity");
    for said in [None, Some(&[][..]), Some(&[json!(1), json!(1)])] {
        assert!(refused(&by_id, said).contains("a partition of"), "{said:?}");
    }
    assert!(refused(&by_id, Some(&[json!("1")])).contains("of another type"));
    assert!(
        refused(&partitioned(&["long"], "day"), Some(&[json!(1)]))
            .contains("partitions long by Day")
    );
    let plain = sorted(&["long"], &json!([]));
    assert!(refused(&plain, Some(&[json!(1)])).contains("a partition of"));
    // A column that is not sent any more.
    let gone = plan(
        &["long"],
        &json!([{"field_id": 9, "transform": "day"}]),
        &json!([]),
    );
    file.inspect_laid_out(&gone, Some(&[Value::Null])).unwrap();
    assert!(refused(&gone, Some(&[json!(1)])).contains("does not have"));
}

#[test]
fn a_nested_column_lays_nothing_out() {
    let inner: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let inside = Arc::new(field("x", DataType::Int64, 2));
    let outer: ArrayRef = Arc::new(StructArray::from(vec![(inside.clone(), inner)]));
    let kind = DataType::Struct(vec![inside].into());
    let file = file("nested", vec![(kind, outer)], WAYS[0]);
    let columns = json!([{"column": "c1", "field_id": 1, "type": {"type": "struct",
        "fields": [{"column": "x", "type": "long", "field_id": 2}]}}]);
    let by = |id: i32| json!({"columns": columns, "sort": [{"field_id": id, "descending": false, "nulls_first": true}]});
    for id in [1, 2] {
        let told = file.inspect_laid_out(&by(id).to_string(), None);
        assert!(told.unwrap_err().contains("nested"), "{id}");
    }
    file.inspect_laid_out(&by(9).to_string(), None).unwrap();
}

fn by(field_id: i32, descending: bool, nulls_first: bool) -> Value {
    json!({"field_id": field_id, "descending": descending, "nulls_first": nulls_first})
}

#[test]
fn a_row_in_the_wrong_place_is_found_wherever_it_is() {
    // In a page, at the border of two, at that of two row groups, and the last one.
    for at in [1, 299, 999, ROWS - 2] {
        for way in WAYS {
            let mut numbers: Vec<i64> = (0..ROWS as i64).map(|n| n / 3).collect();
            let plan = sorted(&["long"], &json!([by(1, false, true)]));
            let rows: ArrayRef = Arc::new(Int64Array::from(numbers.clone()));
            let right = file("right", vec![(DataType::Int64, rows)], way);
            right.inspect_laid_out(&plan, None).unwrap();
            numbers[at] = numbers[at + 1] + 1;
            let rows: ArrayRef = Arc::new(Int64Array::from(numbers));
            let wrong = file("wrong", vec![(DataType::Int64, rows)], way);
            let told = wrong.inspect_laid_out(&plan, None).unwrap_err();
            assert!(told.contains(UNSORTED), "{at} {way:?}");
        }
    }
}

#[test]
fn every_type_has_its_order() {
    let wide = |numbers: Vec<i128>| -> ArrayRef {
        let numbers = Decimal128Array::from(numbers);
        Arc::new(numbers.with_precision_and_scale(38, 2).unwrap())
    };
    let texts = |texts: Vec<&str>| -> ArrayRef { Arc::new(StringArray::from(texts)) };
    let floats = |floats: Vec<f64>| -> ArrayRef { Arc::new(Float64Array::from(floats)) };
    let flags = |flags: Vec<bool>| -> ArrayRef { Arc::new(BooleanArray::from(flags)) };
    let long_text = "x".repeat(200);
    let longer = format!("{long_text}y");
    let cases: Vec<(&str, DataType, ArrayRef, ArrayRef)> = vec![
        (
            "decimal(38,2)",
            DataType::Decimal128(38, 2),
            wide(vec![-5, -4, 3]),
            wide(vec![-4, -5]),
        ),
        (
            "string",
            DataType::Utf8,
            texts(vec!["Z", "a", "é", "\u{ffff}", "😀"]),
            texts(vec!["😀", "\u{ffff}"]),
        ),
        (
            "string",
            DataType::Utf8,
            texts(vec![&long_text, &longer]),
            texts(vec![&longer, &long_text]),
        ),
        (
            "double",
            DataType::Float64,
            floats(vec![
                f64::NEG_INFINITY,
                -1.5,
                -0.0,
                0.0,
                2.0,
                f64::INFINITY,
                f64::NAN,
            ]),
            floats(vec![f64::NAN, 1.0]),
        ),
        (
            "double",
            DataType::Float64,
            floats(vec![-f64::NAN, f64::NEG_INFINITY, -0.0, 0.0]),
            floats(vec![0.0, -0.0, -f64::NAN]),
        ),
        (
            "boolean",
            DataType::Boolean,
            flags(vec![false, false, true]),
            flags(vec![true, false]),
        ),
    ];
    let up = json!([by(1, false, true)]);
    let down = json!([by(1, true, false)]);
    for (of, kind, right, wrong) in cases {
        for way in WAYS {
            let right = file("typed", vec![(kind.clone(), right.clone())], way);
            right.inspect_laid_out(&sorted(&[of], &up), None).unwrap();
            let told = right
                .inspect_laid_out(&sorted(&[of], &down), None)
                .unwrap_err();
            assert!(told.contains(UNSORTED), "{of} {way:?}");
            let wrong = file("untyped", vec![(kind.clone(), wrong.clone())], way);
            let told = wrong
                .inspect_laid_out(&sorted(&[of], &up), None)
                .unwrap_err();
            assert!(told.contains(UNSORTED), "{of} {way:?}");
            wrong.inspect_laid_out(&sorted(&[of], &down), None).unwrap();
        }
    }
}

#[test]
fn the_first_field_that_differs_decides_and_nulls_have_their_place() {
    // Field ids 3, then 1: their order in the file is another.
    let rows = [
        (None, Some("a")),
        (Some(5), Some("a")),
        (Some(5), Some("b")),
        (Some(5), None),
        (Some(2), Some("a")),
    ];
    let order = json!([by(3, true, true), by(9, false, true), by(1, false, false)]);
    let plan = sorted(&["string", "long", "long"], &order);
    let write = |name: &str, rows: &[(Option<i64>, Option<&str>)], way| {
        let texts: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|row| row.1)));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0)));
        let any: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows.len() as i64).rev()));
        let columns = [
            (DataType::Utf8, texts),
            (DataType::Int64, any),
            (DataType::Int64, numbers),
        ];
        file(name, columns.into(), way)
    };
    for way in WAYS {
        write("both", &rows, way)
            .inspect_laid_out(&plan, None)
            .unwrap();
        for at in 0..rows.len() - 1 {
            let mut wrong = rows;
            wrong.swap(at, at + 1);
            let told = write("swapped", &wrong, way)
                .inspect_laid_out(&plan, None)
                .unwrap_err();
            assert!(told.contains(UNSORTED), "{at} {way:?}");
        }
    }
}
