//! Files as dativo's writer writes them, into the inspector.

use std::fs;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int64Array, ListArray, StringArray, StructArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, types::Int64Type,
};
use arrow_schema::{DataType, Field};
use dativo_inspector::inspect::Found;
use parquet::arrow::ARROW_SCHEMA_META_KEY;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterVersion;

mod written;

use written::{Written, field, properties};

fn bounds(found: &Found, id: i32) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let column = found
        .columns
        .iter()
        .find(|column| column.field_id == id)
        .unwrap();
    column.seen.range.bounds(column.primitive)
}

const ROWS: i64 = 2500;

fn every(n: i64, value: i64) -> Option<i64> {
    (value % n != 0).then_some(value)
}

fn all_types() -> Vec<(Field, ArrayRef)> {
    let rows = || -ROWS / 2..ROWS / 2;
    let longs = Int64Array::from_iter(rows().map(|n| every(7, n)));
    let flags = BooleanArray::from_iter(rows().map(|n| every(3, n).map(|n| n > 0)));
    let doubles =
        Float64Array::from_iter(rows().map(|n| if n % 5 == 0 { f64::NAN } else { n as f64 / 8.0 }));
    let floats = Float32Array::from_iter(rows().map(|n| every(2, n).map(|n| n as f32)));
    let days = Date32Array::from_iter(rows().map(|n| Some(n as i32)));
    let times = Time64MicrosecondArray::from_iter(rows().map(|n| Some(n + 5000)));
    let naive = TimestampMicrosecondArray::from_iter(rows().map(Some));
    let zoned = TimestampMicrosecondArray::from_iter(rows().map(Some)).with_timezone("UTC");
    let small = Decimal128Array::from_iter(rows().map(|n| Some(i128::from(n))))
        .with_precision_and_scale(9, 2);
    let large = Decimal128Array::from_iter(rows().map(|n| Some(i128::from(n) << 80)))
        .with_precision_and_scale(38, 9);
    let texts = StringArray::from_iter_values(
        rows().map(|n| format!("a text that is longer than sixteen, ä {n:06}")),
    );
    let few = StringArray::from_iter(
        rows().map(|n| every(4, n).map(|n| if n < 0 { "minus" } else { "plus" })),
    );
    let bytes = BinaryArray::from_iter_values(rows().map(|n| n.to_le_bytes()));
    let inner: Vec<(Arc<Field>, ArrayRef)> = vec![
        (
            Arc::new(field("x", DataType::Int64, 22)),
            Arc::new(Int64Array::from_iter(rows().map(|n| every(2, n)))) as ArrayRef,
        ),
        (
            Arc::new(field("y", DataType::Utf8, 23)),
            Arc::new(StringArray::from_iter_values(rows().map(|n| n.to_string()))) as ArrayRef,
        ),
    ];
    let nested = StructArray::from(inner);
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(
        rows().map(|n| every(3, n).map(|n| (0..n.rem_euclid(4)).map(Some).collect::<Vec<_>>())),
    );
    let (_, offsets, values, nulls) = lists.into_parts();
    let element = Arc::new(field("element", DataType::Int64, 25));
    let lists = ListArray::new(element.clone(), offsets, values, nulls);
    vec![
        (field("long", DataType::Int64, 1), Arc::new(longs)),
        (field("flag", DataType::Boolean, 2), Arc::new(flags)),
        (field("double", DataType::Float64, 3), Arc::new(doubles)),
        (field("float", DataType::Float32, 4), Arc::new(floats)),
        (field("day", DataType::Date32, 5), Arc::new(days)),
        (
            field(
                "time",
                DataType::Time64(arrow_schema::TimeUnit::Microsecond),
                6,
            ),
            Arc::new(times),
        ),
        (field("naive", naive.data_type_of(), 7), Arc::new(naive)),
        (field("zoned", zoned.data_type_of(), 8), Arc::new(zoned)),
        (
            field("small", DataType::Decimal128(9, 2), 9),
            Arc::new(small.unwrap()),
        ),
        (
            field("large", DataType::Decimal128(38, 9), 10),
            Arc::new(large.unwrap()),
        ),
        (field("text", DataType::Utf8, 11), Arc::new(texts)),
        (field("few", DataType::Utf8, 12), Arc::new(few)),
        (field("bytes", DataType::Binary, 13), Arc::new(bytes)),
        (field("nested", nested.data_type_of(), 21), Arc::new(nested)),
        (field("list", DataType::List(element), 24), Arc::new(lists)),
    ]
}

trait TypeOf {
    fn data_type_of(&self) -> DataType;
}

impl<T: arrow_array::Array> TypeOf for T {
    fn data_type_of(&self) -> DataType {
        self.data_type().clone()
    }
}

const PLAN: &str = r#"[
{"column":"long","type":"long","field_id":1},{"column":"flag","type":"boolean","field_id":2},
{"column":"double","type":"double","field_id":3},{"column":"float","type":"float","field_id":4},
{"column":"day","type":"date","field_id":5},{"column":"time","type":"time","field_id":6},
{"column":"naive","type":"timestamp","field_id":7},{"column":"zoned","type":"timestamptz","field_id":8},
{"column":"small","type":"decimal(9,2)","field_id":9},{"column":"large","type":"decimal(38,9)","field_id":10},
{"column":"text","type":"string","field_id":11},{"column":"few","type":"string","field_id":12},
{"column":"bytes","type":"binary","field_id":13},
{"column":"nested","type":{"type":"struct","fields":[{"column":"x","type":"long","field_id":22},
 {"column":"y","type":"string","field_id":23}]},"field_id":21},
{"column":"list","type":{"type":"list","element_id":25,"element":"long"},"field_id":24}]"#;

#[test]
fn every_type_is_measured() {
    for (name, version, dictionary) in [
        ("v1", WriterVersion::PARQUET_1_0, false),
        ("v1d", WriterVersion::PARQUET_1_0, true),
    ] {
        let properties = properties()
            .set_writer_version(version)
            .set_dictionary_enabled(dictionary);
        let file = Written::new(name, all_types(), properties.build());
        let found = file.inspect(PLAN).unwrap();
        assert_eq!(found.rows, ROWS as u64);
        assert_eq!(found.columns.len(), 15);
        assert!(
            found
                .columns
                .iter()
                .all(|column| column.seen.values == ROWS as u64)
        );
        let long = &found.columns[0];
        assert_eq!(
            long.seen.nulls,
            (-ROWS / 2..ROWS / 2).filter(|n| n % 7 == 0).count() as u64
        );
        let low = |value: i64| Some(value.to_le_bytes().to_vec());
        assert_eq!(bounds(&found, 1), (low(-1250), low(1249)));
        assert_eq!(bounds(&found, 2), (Some(vec![0]), Some(vec![1])));
        assert_eq!(found.columns[2].seen.nans, 500);
        let floats = (
            Some((-156.125_f64).to_le_bytes().to_vec()),
            Some(156.125_f64.to_le_bytes().to_vec()),
        );
        assert_eq!(bounds(&found, 3), floats);
        assert_eq!(
            bounds(&found, 5).0,
            Some((-1250_i32).to_le_bytes().to_vec())
        );
        assert_eq!(
            bounds(&found, 9),
            (Some(vec![0xfb, 0x1e]), Some(vec![0x04, 0xe1]))
        );
        assert_eq!(bounds(&found, 11).0, Some(b"a text that is l".to_vec()));
        assert_eq!(bounds(&found, 11).1, Some(b"a text that is m".to_vec()));
        assert_eq!(
            bounds(&found, 12),
            (Some(b"minus".to_vec()), Some(b"plus".to_vec()))
        );
        assert_eq!(bounds(&found, 22), (low(-1249), low(1249)));
        assert_eq!(found.columns[13].seen.nulls, 1250);
        assert!(
            found
                .columns
                .iter()
                .all(|column| column.field_id < 24 && column.bytes > 0)
        );
    }
}

#[test]
fn the_schema_has_to_be_the_planned_one() {
    let file = Written::new("plan", all_types(), properties().build());
    for (from, to, message) in [
        (
            r#""type":"long","field_id":1"#,
            r#""type":"int","field_id":1"#,
            "planned",
        ),
        (
            r#""type":"long","field_id":1"#,
            r#""type":"timestamp","field_id":1"#,
            "planned",
        ),
        (
            r#""type":"timestamptz""#,
            r#""type":"timestamp""#,
            "planned",
        ),
        (r#""decimal(9,2)""#, r#""decimal(9,3)""#, "planned"),
        (r#""decimal(38,9)""#, r#""decimal(18,9)""#, "planned"),
        (
            r#""type":"string","field_id":11"#,
            r#""type":"binary","field_id":11"#,
            "planned",
        ),
        (r#""type":"binary""#, r#""type":"string""#, "planned"),
        (r#""field_id":1}"#, r#""field_id":99}"#, "field id"),
        (r#""element_id":25"#, r#""element_id":26"#, "field id"),
        (r#""column":"x""#, r#""column":"z""#, "named"),
        (
            r#"{"column":"day","type":"date","field_id":5},"#,
            "",
            "columns",
        ),
        (
            r#""type":"list","element_id":25,"element""#,
            r#""type":"map","key_id":1,"value_id":25,"value""#,
            "planned",
        ),
        (
            r#""field_id":1}"#,
            r#""field_id":1,"required":true}"#,
            "nulls",
        ),
    ] {
        assert!(PLAN.contains(from), "{from}");
        let told = file.inspect(&PLAN.replacen(from, to, 1)).unwrap_err();
        assert!(told.contains(message), "{from} {to}: {told}");
    }
}

/// Two rows with two nulls among three values: what parquet-rs calls an empty page.
#[test]
fn lists_whose_nulls_are_as_many_as_their_rows() {
    let rows = [Some(vec![Some(5), None]), Some(vec![None])];
    let (_, offsets, values, nulls) =
        ListArray::from_iter_primitive::<Int64Type, _, _>(rows).into_parts();
    let element = Arc::new(field("element", DataType::Int64, 2));
    let lists = ListArray::new(element.clone(), offsets, values, nulls);
    let columns = vec![(
        field("l", DataType::List(element), 1),
        Arc::new(lists) as ArrayRef,
    )];
    let plan =
        r#"[{"column":"l","type":{"type":"list","element_id":2,"element":"long"},"field_id":1}]"#;
    let file = Written::new("lists", columns, properties().build());
    assert_eq!(file.inspect(plan).unwrap().rows, 2);
}

fn longs(count: i64) -> Vec<(Field, ArrayRef)> {
    let values = Int64Array::from_iter_values(0..count);
    vec![(field("n", DataType::Int64, 1), Arc::new(values))]
}

const ONE: &str = r#"[{"column":"n","type":"long","field_id":1}]"#;

#[test]
fn what_the_writer_never_writes_is_refused() {
    let schema = KeyValue::new(ARROW_SCHEMA_META_KEY.to_owned(), Some("AAAA".to_owned()));
    let sorted = parquet::file::metadata::SortingColumn {
        column_idx: 0,
        descending: true,
        nulls_first: false,
    };
    for (name, properties, message) in [
        (
            "metadata",
            properties().set_key_value_metadata(Some(vec![schema])),
            "key-value",
        ),
        (
            "bloom",
            properties().set_bloom_filter_enabled(true),
            "Bloom",
        ),
        (
            "sorted",
            properties().set_sorting_columns(Some(vec![sorted])),
            "order",
        ),
        (
            "delta",
            properties()
                .set_writer_version(WriterVersion::PARQUET_2_0)
                .set_dictionary_enabled(false),
            "encoding",
        ),
    ] {
        let told = Written::new(name, longs(10), properties.build())
            .inspect(ONE)
            .unwrap_err();
        assert!(told.contains(message), "{name}: {told}");
    }
}

#[test]
fn claims_are_held_against_the_file() {
    let mut file = Written::new("claims", longs(10), properties().build());
    file.inspect(ONE).unwrap();
    file.rows = 11;
    assert!(
        file.inspect(ONE)
            .unwrap_err()
            .contains("has 10 rows, the manifest says 11")
    );
    file.rows = 10;
    file.bytes += 1;
    assert!(file.inspect(ONE).unwrap_err().contains("the manifest says"));
}

/// Bounds that cannot be cut are left as they are by the writer, and are no lie.
#[test]
fn bounds_that_cannot_be_cut() {
    let plan = r#"[{"column":"t","type":"string","field_id":1},{"column":"b","type":"binary","field_id":2}]"#;
    for last in [
        "\u{7f}",
        "\u{7ff}",
        "\u{d7ff}",
        "\u{ffff}",
        "\u{10ffff}",
        "y",
    ] {
        let texts = StringArray::from_iter_values(["", &last.repeat(100)]);
        let bytes = BinaryArray::from_iter_values([&[0xff; 100][..], &[0xff; 70]]);
        let columns = vec![
            (field("t", DataType::Utf8, 1), Arc::new(texts) as ArrayRef),
            (field("b", DataType::Binary, 2), Arc::new(bytes)),
        ];
        let file = Written::new("long", columns, properties().build());
        let found = file.inspect(plan).unwrap();
        let cut = last.repeat(15);
        let upper = bounds(&found, 1).1.unwrap_or_default();
        assert!(
            upper.is_empty() == (last == "\u{10ffff}")
                && (upper.is_empty() || upper > cut.into_bytes())
        );
        assert_eq!(bounds(&found, 2).1, None);
    }
}

/// Values that are not what statistics and index say: each one changed in turn, in a file that is not packed.
#[test]
fn statistics_have_to_be_true() {
    for (name, dictionary) in [("lies", false), ("liesd", true)] {
        let plain = properties()
            .set_compression(Compression::UNCOMPRESSED)
            .set_dictionary_enabled(dictionary);
        let file = Written::new(name, longs(10), plain.build());
        let honest = fs::read(&file.path).unwrap();
        let least = honest
            .windows(16)
            .position(|bytes| bytes == [[0; 8], 1_i64.to_le_bytes()].concat());
        let greatest = honest
            .windows(8)
            .position(|bytes| bytes == 9_i64.to_le_bytes());
        for (at, value) in [
            (least.unwrap(), -1_i64),
            (least.unwrap(), 1),
            (greatest.unwrap(), 10),
            (greatest.unwrap(), 8),
        ] {
            let mut lie = honest.clone();
            lie[at..at + 8].copy_from_slice(&value.to_le_bytes());
            fs::write(&file.path, lie).unwrap();
            let told = file.inspect(ONE).unwrap_err();
            assert!(told.contains("bound that its values do not have"), "{told}");
        }
    }
}

#[test]
fn no_byte_of_a_file_makes_a_panic() {
    let plain = properties().set_compression(Compression::UNCOMPRESSED);
    let columns = all_types()
        .into_iter()
        .map(|(field, array)| (field, array.slice(0, 12)))
        .collect();
    let file = Written::new("flips", columns, plain.build());
    let honest = fs::read(&file.path).unwrap();
    file.inspect(PLAN).unwrap();
    let mut refused = 0;
    for at in 0..honest.len() {
        let mut changed = honest.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&file.path, changed).unwrap();
        refused += usize::from(file.inspect(PLAN).is_err());
    }
    assert!(refused > honest.len() / 3, "{refused} of {}", honest.len());
}
