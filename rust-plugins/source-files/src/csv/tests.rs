use std::io::Write;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;

use super::*;
use crate::config::Config;

fn csv(options: &str) -> Csv {
    let text =
        format!(r#"{{"streams":[{{"name":"s","path":"/s","format":"csv","csv":{options}}}]}}"#);
    let config = Config::parse(text.as_bytes()).expect("right");
    config.streams[0].csv().expect("right")
}

fn file(text: &[u8]) -> File {
    let path = std::env::temp_dir().join(format!(
        "dativo-csv-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let mut file = File::create(&path).expect("made");
    file.write_all(text).expect("written");
    let file = File::open(&path).expect("opened");
    std::fs::remove_file(&path).expect("removed");
    file
}

const SCHEMA: &str = r#"{"properties":{"id":{"type":"integer"},"name":{"type":"string"}}}"#;

/// An id and a name.
type Row = (Option<i64>, Option<String>);

/// Ids and names of the rows, and the offset behind them.
fn read(text: &[u8], options: &str, from: u64) -> Result<(Vec<Row>, u64), String> {
    let (file, csv) = (file(text), csv(options));
    let layout = Layout::compile(SCHEMA).map_err(|failure| failure.message)?;
    let reader = Reader::new(&file, from, 0, text.len() as u64, &csv, &layout);
    let mut rows = Vec::new();
    let Some(mut reader) = reader.map_err(|failure| failure.message)? else {
        return Ok((rows, 0));
    };
    while let Some(batch) = reader.next().map_err(|failure| failure.message)? {
        let ids = batch.column(0).as_primitive::<Int64Type>();
        let names = batch.column(1).as_string::<i32>();
        for row in 0..batch.num_rows() {
            rows.push((
                (!ids.is_null(row)).then(|| ids.value(row)),
                (!names.is_null(row)).then(|| names.value(row).to_owned()),
            ));
        }
    }
    assert_eq!(reader.rows, rows.len() as u64);
    Ok((rows, reader.offset()))
}

fn row(id: i64, name: &str) -> Row {
    (Some(id), Some(name.to_owned()))
}

#[test]
fn records_as_rfc_4180_has_them() {
    let text =
        "\u{feff}id,name\r\n1,a\r\n2,\"b,\r\n\"\"c\"\"\"\r\n\r\n3,\"\"\r\n4,\r\n,ü".as_bytes();
    let (rows, end) = read(text, "{}", 0).expect("right");
    assert_eq!(
        rows,
        [
            row(1, "a"),
            row(2, "b,\r\n\"c\""),
            row(3, ""),
            (Some(4), None),
            (None, Some("ü".to_owned()))
        ]
    );
    assert_eq!(end, text.len() as u64);
}

#[test]
fn reading_goes_on_where_it_stopped() {
    let text = b"id,name\n1,a\n2,b\n3,c\n";
    assert_eq!(
        read(text, "{}", 12).expect("right"),
        (vec![row(2, "b"), row(3, "c")], 20)
    );
    assert_eq!(read(text, "{}", 20).expect("right"), (vec![], 20));
}

#[test]
fn other_ways_to_write_it() {
    let semicolons = r#"{"delimiter":";","quote":"'","null_values":["NULL","-"]}"#;
    let (rows, _) = read(b"name;id\n'a;b';1\n'NULL';-\nNULL;2\n", semicolons, 0).expect("right");
    assert_eq!(
        rows,
        [
            row(1, "a;b"),
            (None, Some("NULL".to_owned())),
            (Some(2), None)
        ]
    );
    let headless = r#"{"header":false,"columns":["id","name"],"quote":null}"#;
    let (rows, _) = read(b"1,\"\n2,b\"c\n", headless, 0).expect("right");
    assert_eq!(rows, [row(1, "\""), row(2, "b\"c")]);
}

#[test]
fn other_columns_are_passed_over_and_missing_ones_null() {
    let (rows, _) = read(b"x,id\n9,1\n", "{}", 0).expect("right");
    assert_eq!(rows, [(Some(1), None)]);
    assert_eq!(read(b"", "{}", 0), Ok((vec![], 0)));
    assert_eq!(read(b"id,name\n", "{}", 0), Ok((vec![], 8)));
}

#[test]
fn what_does_not_fit_is_told_with_its_place() {
    for (text, message) in [
        (
            "id,name\n1,a\nx,b\n",
            "record 2 at byte 12: column \"id\": expected a 64-bit integer, not \"x\"",
        ),
        (
            "id,name\n1,a,b\n",
            "record 1 at byte 8: 3 fields, its header has 2",
        ),
        ("id,name\n1,a\"b\"\n", "a quote inside a field"),
        ("id,name\n1,\"a\"b\n", "quote"),
        ("id,name\n1,\"a\n", "a quote is not closed"),
        ("id,id\n1,2\n", "two columns are called \"id\""),
        ("id,\n1,2\n", "a column has no name"),
    ] {
        let error = read(text.as_bytes(), "{}", 0).expect_err(text);
        assert!(error.contains(message), "{text:?}: {error}");
    }
    let error = read(b"id,name\n1,\xff\n", "{}", 0).expect_err("latin");
    assert!(error.contains("record 1 at byte 10: not UTF-8"), "{error}");
}

#[test]
fn long_records_and_many_chunks() {
    let long = "x".repeat(3 * CHUNK_BYTES);
    let mut text = format!("id,name\n0,{long}\n");
    for id in 1..50_000 {
        text += &format!("{id},name {id}\n");
    }
    let (rows, end) = read(text.as_bytes(), "{}", 0).expect("right");
    assert_eq!((rows.len(), end), (50_000, text.len() as u64));
    assert_eq!(rows[0], row(0, &long));
    assert_eq!(rows[49_999], row(49_999, "name 49999"));
}
