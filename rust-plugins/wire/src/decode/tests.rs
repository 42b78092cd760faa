use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Schema};
use std::sync::Arc;

use super::*;
use crate::schema::{Numbers, Options, compile};
use crate::types::Primitive;

mod keys;

fn field(property: &str, kind: &str) -> Field {
    let (kind, json) = kind
        .strip_prefix("json ")
        .map_or((kind, false), |kind| (kind, true));
    let (kind, quoted) = kind
        .strip_prefix("quoted ")
        .map_or((kind, false), |kind| (kind, true));
    let (kind, key) = kind
        .strip_prefix("key ")
        .map_or((kind, false), |kind| (kind, true));
    let (kind, required) = kind
        .strip_prefix("required ")
        .map_or((kind, false), |kind| (kind, true));
    let kind = if json {
        Kind::Json
    } else {
        Kind::Value {
            kind: kind.parse().expect("a type"),
            quoted,
        }
    };
    Field {
        property: property.to_owned(),
        column: property.to_owned(),
        field_id: None,
        kind,
        required,
        key,
    }
}

fn decoder(kinds: &[(&str, &str)]) -> Decoder {
    Decoder::new(kinds.iter().map(|(name, kind)| field(name, kind)).collect())
}

fn push(decoder: &mut Decoder, record: &str) -> Result<(), Reject> {
    let end = decoder.push(Scanner::new(record.as_bytes(), 16))?;
    assert_eq!(end.pos(), record.len());
    Ok(())
}

/// One column `v` of type `kind` from the values in `texts`.
fn column(kind: &str, texts: &[&str]) -> ArrayRef {
    let mut decoder = decoder(&[("v", kind)]);
    for text in texts {
        push(&mut decoder, &format!(r#"{{"v":{text}}}"#))
            .unwrap_or_else(|reject| panic!("{text}: {reject:?}"));
    }
    decoder.finish().remove(0)
}

/// The code that a value of a column gives.
fn code(kind: &str, text: &str) -> &'static str {
    let mut decoder = decoder(&[("v", kind)]);
    let record = format!(r#"{{"v":{text}}}"#);
    match push(&mut decoder, &record) {
        Ok(()) => "taken",
        Err(reject) => {
            assert_eq!(decoder.rows(), 0);
            assert_eq!(decoder.finish()[0].len(), 0, "{text} left something behind");
            reject.fault(record.as_bytes()).code
        }
    }
}

#[test]
fn values_of_every_type() {
    let longs = column(
        "long",
        &[
            "1",
            "-1",
            "1.0",
            "1e3",
            " 7 ",
            "null",
            "9223372036854775807",
            "-9223372036854775808",
            "0",
        ],
    );
    let expected = [
        Some(1),
        Some(-1),
        Some(1),
        Some(1000),
        Some(7),
        None,
        Some(i64::MAX),
        Some(i64::MIN),
        Some(0),
    ];
    assert_eq!(
        longs.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(),
        expected
    );

    let doubles = column(
        "double",
        &[
            "1",
            "-0.5",
            "1e-400",
            "Infinity",
            "-Infinity",
            "null",
            "1.7976931348623157e308",
        ],
    );
    let expected = [
        Some(1.0),
        Some(-0.5),
        Some(0.0),
        Some(f64::INFINITY),
        Some(f64::NEG_INFINITY),
        None,
        Some(f64::MAX),
    ];
    assert_eq!(
        doubles
            .as_primitive::<Float64Type>()
            .iter()
            .collect::<Vec<_>>(),
        expected
    );
    assert!(
        column("double", &["NaN"])
            .as_primitive::<Float64Type>()
            .value(0)
            .is_nan()
    );

    let decimals = column(
        "decimal(38,9)",
        &[
            "\"12.5\"",
            "12345678901234567890123456789.123456789",
            "1E-9",
            "null",
            "-0",
        ],
    );
    let expected = [
        Some(12_500_000_000),
        Some(12345678901234567890123456789123456789),
        Some(1),
        None,
        Some(0),
    ];
    assert_eq!(
        decimals
            .as_primitive::<Decimal128Type>()
            .iter()
            .collect::<Vec<_>>(),
        expected
    );

    let booleans = column("boolean", &["true", "null", "false"]);
    assert_eq!(
        booleans.as_boolean().iter().collect::<Vec<_>>(),
        [Some(true), None, Some(false)]
    );

    let strings = column(
        "string",
        &[
            "\"\"",
            "\"é\\u00e9\\ud83c\\udf89\\u0000\"",
            "null",
            "\"a\\nb\"",
        ],
    );
    assert_eq!(
        strings.as_string::<i32>().iter().collect::<Vec<_>>(),
        [Some(""), Some("éé🎉\0"), None, Some("a\nb")]
    );

    let json = column(
        "json string",
        &[
            "{ \"a\":[1, 2.50]}",
            "\"x\\u0041\"",
            "null",
            "12345678901234567890123",
            "[]",
            "true",
        ],
    );
    let expected = [
        Some("{ \"a\":[1, 2.50]}"),
        Some("\"x\\u0041\""),
        None,
        Some("12345678901234567890123"),
        Some("[]"),
        Some("true"),
    ];
    assert_eq!(json.as_string::<i32>().iter().collect::<Vec<_>>(), expected);

    let dates = column("date", &["\"1970-01-02\"", "\"1969\\u002d12-31\"", "null"]);
    assert_eq!(
        dates
            .as_primitive::<Date32Type>()
            .iter()
            .collect::<Vec<_>>(),
        [Some(1), Some(-1), None]
    );

    let stamps = column(
        "timestamptz",
        &[
            "\"1970-01-01T02:00:00\\u002b02:00\"",
            "\"1970-01-01 00:00:01\"",
        ],
    );
    assert_eq!(
        stamps.as_primitive::<TimestampMicrosecondType>().values(),
        &[0, 1_000_000]
    );
    assert_eq!(stamps.data_type(), &arrow_type(Primitive::Timestamptz));

    let bytes = column("binary", &["\"Zm9v\"", "\"\"", "null", "\"\\u005am8=\""]);
    assert_eq!(
        bytes.as_binary::<i32>().iter().collect::<Vec<_>>(),
        [Some(&b"foo"[..]), Some(b""), None, Some(b"fo")]
    );

    let numbers = column(
        "quoted double",
        &["\"1.5\"", "2", "\"NaN\"", "\"-Infinity\""],
    );
    assert_eq!(numbers.as_primitive::<Float64Type>().value(0), 1.5);
    assert_eq!(
        column("quoted long", &["\"15\"", "2"])
            .as_primitive::<Int64Type>()
            .values(),
        &[15, 2]
    );
}

#[test]
fn values_of_another_type_are_refused() {
    for (kind, texts) in [
        (
            "long",
            &[
                "\"1\"",
                "true",
                "1.5",
                "9223372036854775808",
                "1e30",
                "NaN",
                "[1]",
                "{}",
            ][..],
        ),
        ("double", &["\"1\"", "1e400", "-1e400", "true", "[]"]),
        (
            "decimal(5,2)",
            &["1000", "1.005", "\"abc\"", "\"\"", "NaN", "true", "\"1 \""],
        ),
        ("boolean", &["0", "\"true\"", "[]"]),
        (
            "string",
            &["1", "true", "{}", "\"\\ud800\"", "\"x\\udc00\""],
        ),
        ("json string", &["NaN", "[1,-Infinity]"]),
        ("date", &["\"2023-02-29\"", "20230101", "\"\""]),
        ("time", &["\"24:00:00\"", "\"12:00:00+01:00\""]),
        ("timestamp", &["\"2024-01-01T00:00:00Z\"", "1700000000"]),
        (
            "timestamptz",
            &[
                "\"2016-12-31T23:59:60Z\"",
                "\"x\"",
                "\"2024-01-01T00:00:00\\ud800\"",
            ],
        ),
        ("binary", &["\"Zg\"", "7"]),
        (
            "quoted double",
            &["\"inf\"", "\"1.\"", "\"+1\"", "\"1e400\""],
        ),
        ("required long", &["null"]),
    ] {
        for text in texts {
            assert_eq!(code(kind, text), "record.value", "{kind} {text}");
        }
    }
}

#[test]
fn text_that_is_no_json_is_told_apart() {
    for kind in [
        "long",
        "double",
        "decimal(5,2)",
        "boolean",
        "string",
        "json string",
        "date",
        "timestamptz",
        "binary",
    ] {
        for text in [
            "01",
            "-",
            "+1",
            "1.",
            "tru",
            "nul",
            "\"a\u{1}\"",
            "\"\\x\"",
            "[1",
            "{\"a\":1,}",
            "",
            "1 2",
            "'a'",
            "nan",
        ] {
            assert_eq!(code(kind, text), "json.invalid", "{kind} {text}");
        }
    }
    assert_eq!(
        code("json string", &("[".repeat(20) + &"]".repeat(20))),
        "json.too_deep"
    );
    assert_eq!(
        code("long", &("[".repeat(20) + &"]".repeat(20))),
        "json.too_deep"
    );
}

#[test]
fn a_refused_record_leaves_nothing_behind() {
    let mut decoder = decoder(&[
        ("a", "long"),
        ("b", "string"),
        ("c", "json string"),
        ("d", "boolean"),
    ]);
    push(&mut decoder, r#"{"a":1,"b":"x","c":[1],"d":true}"#).expect("taken");
    for record in [
        r#"{"d":true,"c":[1],"b":"half\ud800","a":2}"#,
        r#"{"a":2,"b":"y","a":"z"}"#,
        r#"{"a":2,"b":"y","c":[1}"#,
        r#"{"a":2 "b":"y"}"#,
        r#"{"a":2,"#,
        r#"[1]"#,
    ] {
        assert!(push(&mut decoder, record).is_err(), "{record}");
        assert_eq!(decoder.rows(), 1);
    }
    push(&mut decoder, r#"{"a":4,"d":false}"#).expect("taken");
    push(&mut decoder, r#"{"a":5}"#).expect("taken");
    decoder.pop();
    let arrays = decoder.finish();
    assert_eq!(arrays[0].as_primitive::<Int64Type>().values(), &[1, 4]);
    assert_eq!(
        arrays[1].as_string::<i32>().iter().collect::<Vec<_>>(),
        [Some("x"), None]
    );
    assert_eq!(
        arrays[2].as_string::<i32>().iter().collect::<Vec<_>>(),
        [Some("[1]"), None]
    );
    assert_eq!(
        arrays[3].as_boolean().iter().collect::<Vec<_>>(),
        [Some(true), Some(false)]
    );
}

#[test]
fn nulls_are_located() {
    let mut decoder = decoder(&[("a", "long"), ("b", "required string")]);
    for (record, expected, name) in [
        (r#"{"a":1}"#, "record.value", "b"),
        (r#"{}"#, "record.value", "b"),
    ] {
        let reject = push(&mut decoder, record).expect_err(record);
        let fault = reject.fault(record.as_bytes());
        assert_eq!(
            (fault.code, fault.field.as_deref()),
            (expected, Some(name)),
            "{record}"
        );
    }
}

#[test]
fn no_record_is_without_a_key() {
    let mut decoder = decoder(&[("a", "key long"), ("b", "long"), ("c", "key string")]);
    push(&mut decoder, r#"{"c":"","a":0}"#).expect("taken");
    push(&mut decoder, r#"{"c":null,"a":null}"#).expect("null, as the schema may allow");
    for (record, name) in [
        (r#"{"b":1,"c":"x"}"#, "a"),
        (r#"{"a":1}"#, "c"),
        (r#"{}"#, "a"),
    ] {
        let reject = push(&mut decoder, record).expect_err(record);
        let fault = reject.fault(record.as_bytes());
        assert_eq!(
            (fault.code, fault.field.as_deref()),
            ("record.missing_key", Some(name)),
            "{record}"
        );
    }
    assert_eq!(decoder.rows(), 2);
}

#[test]
fn the_last_records_can_be_taken_back() {
    let fields = [
        ("n", "long"),
        ("t", "string"),
        ("d", "date"),
        ("b", "boolean"),
    ];
    let mut whole = decoder(&fields);
    let mut cut = decoder(&fields);
    let record = |n: u32| {
        let text = if n.is_multiple_of(3) {
            String::new()
        } else {
            format!(",\"t\":\"{n}\",\"b\":true")
        };
        format!("{{\"n\":{n}{text}}}")
    };
    for n in 0..100 {
        push(&mut cut, &record(n)).expect("taken");
        if n < 37 {
            push(&mut whole, &record(n)).expect("taken");
        }
    }
    cut.truncate(37);
    assert_eq!(cut.rows(), 37);
    for n in 200..210 {
        push(&mut cut, &record(n)).expect("taken");
        push(&mut whole, &record(n)).expect("taken");
    }
    assert_eq!(cut.finish(), whole.finish());
}

#[test]
fn arrays_have_the_types_that_files_are_made_with() {
    let kinds = [
        "boolean",
        "long",
        "double",
        "decimal(12,3)",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "string",
        "binary",
    ];
    let mut decoder = Decoder::new(kinds.iter().map(|kind| field(kind, kind)).collect());
    for rows in [3, 0, 1] {
        for _ in 0..rows {
            push(&mut decoder, "{}").expect("taken");
        }
        let schema = Schema::new(
            kinds
                .iter()
                .map(|kind| {
                    arrow_schema::Field::new(*kind, arrow_type(kind.parse().expect("a type")), true)
                })
                .collect::<Vec<_>>(),
        );
        let batch = RecordBatch::try_new(Arc::new(schema), decoder.finish()).expect("they fit");
        assert_eq!(batch.num_rows(), rows);
    }
}

/// A decoder for a schema.
fn compiled(schema: &str) -> Decoder {
    let options = Options {
        max_columns: 100,
        max_depth: 64,
        numbers: Numbers::Double,
    };
    Decoder::new(fields_of(
        &compile(schema.as_bytes(), options).expect("a schema"),
    ))
}

/// The rows of a batch, their columns divided by bars; null is a dash.
fn printed(arrays: &[ArrayRef]) -> Vec<String> {
    let rows = arrays.first().map_or(0, |array| array.len());
    (0..rows)
        .map(|row| joined(arrays.iter().map(|array| text(array, row)), " | "))
        .collect()
}

fn joined(texts: impl Iterator<Item = String>, between: &str) -> String {
    texts.collect::<Vec<_>>().join(between)
}

fn text(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return "-".to_owned();
    }
    match array.data_type() {
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            let parts =
                columns.map(|(field, column)| format!("{}: {}", field.name(), text(column, row)));
            format!("{{{}}}", joined(parts, ", "))
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>().value(row);
            format!(
                "[{}]",
                joined((0..list.len()).map(|index| text(&list, index)), ", ")
            )
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let pair = |index| {
                format!(
                    "{}: {}",
                    text(entries.column(0), index),
                    text(entries.column(1), index)
                )
            };
            format!("{{{}}}", joined((0..entries.len()).map(pair), ", "))
        }
        other => panic!("{other}"),
    }
}

const NESTED: &str = r#"{"properties":{
    "o":{"type":["null","object"],"properties":{"a":{"type":"integer"},"b":{"type":"object","properties":{"c":{"type":"string"}}}}},
    "l":{"type":"array","items":{"type":["null","object"],"properties":{"x":{"type":"integer"},"t":{"type":"array","items":{"type":"string"}}}}},
    "m":{"type":"object","additionalProperties":{"type":"number"}}}}"#;

#[test]
fn objects_arrays_and_maps_in_one_another() {
    let mut decoder = compiled(NESTED);
    for record in [
        r#"{"o":{"a":1,"b":{"c":"one"}},"l":[{"x":1,"t":["p","q"]},{"x":2,"t":[]}],"m":{"k":1.5,"\u006b2":2}}"#,
        r#"{"o":null,"l":null,"m":null}"#,
        r#"{"m":{},"l":[],"o":{}}"#,
        r#"{}"#,
        r#"{"o":{"b":{"other":[1,{}],"c":null},"a":4},"l":[null,{"t":[null,"r"]}],"m":{"n":null}}"#,
        r#"{"o":{"a":5,"b":null},"l":[{"x":7}]}"#,
    ] {
        push(&mut decoder, record).unwrap_or_else(|reject| panic!("{record}: {reject:?}"));
    }
    let arrays = decoder.finish();
    let schema = Schema::new(decoder.arrow_fields().to_vec());
    RecordBatch::try_new(Arc::new(schema), arrays.clone()).expect("of the types that were told");
    assert_eq!(
        printed(&arrays),
        [
            "{a: 1, b: {c: one}} | [{x: 1, t: [p, q]}, {x: 2, t: []}] | {k: 1.5, k2: 2.0}",
            "- | - | -",
            "{a: -, b: -} | [] | {}",
            "- | - | -",
            "{a: 4, b: {c: -}} | [-, {x: -, t: [-, r]}] | {n: -}",
            "{a: 5, b: -} | [{x: 7, t: -}] | -",
        ]
    );
}

#[test]
fn a_nested_misfit_is_named_and_leaves_nothing_behind() {
    for (record, field, expected) in [
        (
            r#"{"o":{"a":"x"}}"#,
            "o.a",
            "expected an integer of 64 bits",
        ),
        (
            r#"{"o":{"a":1,"b":{"c":7}}}"#,
            "o.b.c",
            "expected a string of whole characters",
        ),
        (r#"{"o":[]}"#, "o", "expected an object"),
        (r#"{"l":{}}"#, "l", "expected an array"),
        (
            r#"{"l":[{"x":1,"t":["a"]},{"x":2,"t":["a","b",3]}]}"#,
            "l.1.t.2",
            "expected a string of whole characters",
        ),
        (
            r#"{"m":{"a":1,"b":2,"a":3}}"#,
            "m",
            "expected an object without a key twice, its keys whole characters",
        ),
        (
            r#"{"m":{"\ud800":1}}"#,
            "m",
            "expected an object without a key twice, its keys whole characters",
        ),
        (
            r#"{"m":{"a":"1"}}"#,
            "m.0",
            "expected a number that a double can hold",
        ),
    ] {
        let mut decoder = compiled(NESTED);
        let whole = r#"{"o":{"a":1,"b":{"c":"one"}},"l":[{"x":1,"t":["p"]}],"m":{"k":1}}"#;
        push(&mut decoder, whole).expect("taken");
        let reject = push(&mut decoder, record).expect_err(record);
        let fault = reject.fault(record.as_bytes());
        assert_eq!(
            (fault.code, fault.field.as_deref(), fault.message.as_str()),
            ("record.value", Some(field), expected),
            "{record}"
        );
        push(&mut decoder, whole).expect("taken");
        let rows = printed(&decoder.finish());
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0], rows[1], "{record}");
    }
}

#[test]
fn bad_json_inside_is_bad_json() {
    for record in [
        r#"{"o":{"a":01}}"#,
        r#"{"o":{"a":1,}}"#,
        r#"{"l":[{"x":1},]}"#,
        r#"{"l":[{"x":1}"#,
        r#"{"m":{"a"}}"#,
        r#"{"m":{1:2}}"#,
        r#"{"m":{"a":1 "b":2}}"#,
    ] {
        let mut decoder = compiled(NESTED);
        let reject = push(&mut decoder, record).expect_err(record);
        assert_eq!(
            reject.fault(record.as_bytes()).code,
            "json.invalid",
            "{record}"
        );
    }
}

#[test]
fn short_texts_cannot_stand_for_endless_memory() {
    let fields: String = (0..64)
        .map(|n| format!(r#""f{n}":{{"type":"integer","airbyte_type":"big_integer"}},"#))
        .collect();
    let schema = format!(
        r#"{{"properties":{{"l":{{"type":"array","items":{{"type":"object","properties":{{{}}}}}}}}}}}"#,
        fields.trim_end_matches(',')
    );
    let mut decoder = compiled(&schema);
    let record = |count: usize| format!(r#"{{"l":[{}{{}}]}}"#, "{},".repeat(count - 1));
    push(&mut decoder, &record(1000)).expect("taken");
    assert!(decoder.list_bytes() >= 1000 * 64 * 16);
    assert!(decoder.has_lists());
    let reject = push(&mut decoder, &record(1 << 20)).expect_err("too much");
    assert!(
        matches!(reject, Reject::Value { ref field, .. } if field == "l"),
        "{reject:?}"
    );
    assert_eq!(decoder.rows(), 1);
}

#[test]
fn a_lenient_decoder_makes_null_of_what_does_not_fit() {
    let mut decoder = compiled(
        r#"{"properties":{"a":{"type":"integer"},"o":{"type":"object","properties":{"x":{"type":"integer"}}},"s":{"type":"string"}}}"#,
    );
    decoder.set_lenient(true);
    push(&mut decoder, r#"{"a":"x","o":{"x":1},"s":"one"}"#).expect("taken");
    push(&mut decoder, r#"{"a":2,"o":{"x":"y"},"s":"two"}"#).expect("taken");
    let discarded: Vec<_> = decoder
        .take_discarded()
        .iter()
        .map(|reject| reject.fault(b"").field.clone().expect("a field"))
        .collect();
    assert_eq!(discarded, ["a", "o.x"]);
    // Of a field that comes twice the last one counts.
    push(&mut decoder, r#"{"a":"x","s":5,"a":3,"s":6}"#).expect("taken");
    assert_eq!(decoder.take_discarded().len(), 1);
    decoder.pop();
    // What is no JSON is refused all the same, and so is the rest of that record.
    push(&mut decoder, r#"{"a":"x","o":{"x":01}}"#).expect_err("no JSON");
    assert!(decoder.take_discarded().is_empty());
    assert_eq!(
        printed(&decoder.finish()),
        ["- | {x: 1} | one", "2 | - | two"]
    );
}
