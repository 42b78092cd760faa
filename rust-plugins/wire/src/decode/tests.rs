use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::Schema;
use std::sync::Arc;

use super::*;

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
    let kind = kind.parse().expect("a type");
    Field {
        property: property.to_owned(),
        kind,
        json,
        quoted,
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
            decoder.fault(&reject, record.as_bytes()).code
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
    assert_eq!(stamps.data_type(), &arrow_type(ColumnType::Timestamptz));

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
fn keys_in_any_order_missing_ignored_and_escaped() {
    let mut decoder = decoder(&[("a", "long"), ("b", "string"), ("c", "boolean")]);
    for record in [
        r#"{"a":1,"b":"x","c":true}"#,
        r#"{"c":false,"b":"y","a":2}"#,
        r#"{}"#,
        r#"{ "b" : "z" }"#,
        r#"{"d":{"a":9},"a":3,"e":[{}],"\u0062":"w"}"#,
        r#"{"d":{"a":9},"a":4,"e":[NaN],"\u0062":"v"}"#,
        r#"{"":1,"A":2}"#,
    ] {
        push(&mut decoder, record).unwrap_or_else(|reject| panic!("{record}: {reject:?}"));
    }
    let [a, b, c] = &decoder.finish()[..] else {
        panic!("three columns")
    };
    assert_eq!(
        a.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(),
        [Some(1), Some(2), None, None, Some(3), Some(4), None]
    );
    assert_eq!(
        b.as_string::<i32>().iter().collect::<Vec<_>>(),
        [
            Some("x"),
            Some("y"),
            None,
            Some("z"),
            Some("w"),
            Some("v"),
            None
        ]
    );
    assert_eq!(
        c.as_boolean().iter().collect::<Vec<_>>(),
        [Some(true), Some(false), None, None, None, None, None]
    );
    assert_eq!(decoder.rows(), 0);
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
fn of_a_field_that_stands_twice_the_last_counts() {
    let mut decoder = decoder(&[("a", "long"), ("b", "string")]);
    for (record, odd) in [
        (r#"{"a":1,"b":"xyz","\u0061":2}"#, true),
        (r#"{"b":"long","b":"","a":1,"a":null,"c":1,"c":2}"#, true),
        (r#"{"b":"y","a":3,"c":1,"c":2}"#, false),
    ] {
        let end = decoder.push(Scanner::new(record.as_bytes(), 8));
        let end = end.expect("taken");
        assert_eq!(end.odd.contains(Oddity::DuplicateKey), odd, "{record}");
    }
    push(&mut decoder, r#"{"a":1,"a":"x"}"#).expect_err("the last is none");
    let arrays = decoder.finish();
    assert_eq!(
        arrays[0]
            .as_primitive::<Int64Type>()
            .iter()
            .collect::<Vec<_>>(),
        [Some(2), None, Some(3)]
    );
    assert_eq!(
        arrays[1].as_string::<i32>().iter().collect::<Vec<_>>(),
        [Some("xyz"), Some(""), Some("y")]
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
        let fault = decoder.fault(&reject, record.as_bytes());
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
        let fault = decoder.fault(&reject, record.as_bytes());
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
fn more_unknown_keys_than_are_learnt() {
    let mut decoder = decoder(&[("a", "long")]);
    for round in 0..3 {
        let unknown: String = (0..MAX_IGNORED_KEYS * 2)
            .map(|n| format!("\"k{n}\":{round},"))
            .collect();
        push(&mut decoder, &format!("{{{unknown}\"a\":{round}}}")).expect("taken");
    }
    assert_eq!(decoder.patterns.len(), 1 + MAX_IGNORED_KEYS);
    assert_eq!(
        decoder.finish()[0].as_primitive::<Int64Type>().values(),
        &[0, 1, 2]
    );
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
