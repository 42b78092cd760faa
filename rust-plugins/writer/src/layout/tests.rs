use std::collections::HashMap;
use std::path::PathBuf;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, Int64Array, StringArray};
use serde_json::json;

use super::*;

const MERGE_BYTES: usize = 64 << 10;

/// Rows of a key, which may be null, a text and their number in the order in which they came.
type Row = (Option<i64>, String, i64);

fn schema() -> SchemaRef {
    let field = |id: i32, name: &str, kind: DataType| {
        let metadata = HashMap::from([(FIELD_ID.to_owned(), id.to_string())]);
        Field::new(name, kind, true).with_metadata(metadata)
    };
    Arc::new(Schema::new(vec![
        field(7, "key", DataType::Int64),
        field(8, "text", DataType::Utf8),
        field(9, "came", DataType::Int64),
    ]))
}

fn batch(rows: &[Row]) -> RecordBatch {
    let keys: Int64Array = rows.iter().map(|row| row.0).collect();
    let texts: StringArray = rows.iter().map(|row| Some(&row.1)).collect();
    let came: Int64Array = rows.iter().map(|row| Some(row.2)).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(texts), Arc::new(came)];
    RecordBatch::try_new(schema(), columns).expect("rows")
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let keys = batch.column(0).as_primitive::<Int64Type>();
    let texts = batch.column(1).as_string::<i32>();
    let came = batch.column(2).as_primitive::<Int64Type>();
    let row = |at: usize| {
        let key = keys.is_valid(at).then(|| keys.value(at));
        (key, texts.value(at).to_owned(), came.value(at))
    };
    (0..batch.num_rows()).map(row).collect()
}

fn planned(field_id: i32, transform: &str) -> PartitionField {
    let transform = transform.to_owned().try_into().expect("a transform");
    PartitionField {
        field_id,
        transform,
    }
}

fn by_text_backwards() -> Vec<SortField> {
    vec![SortField {
        field_id: 8,
        descending: true,
        nulls_first: false,
    }]
}

fn layout(partition: &[PartitionField], sort: &[SortField]) -> Arc<Layout> {
    let layout = Layout::new(&schema(), partition, sort).expect("a layout");
    Arc::new(layout.expect("asked for"))
}

fn some_rows(count: i64) -> Vec<Row> {
    let mut seed = 1u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed >> 33
    };
    (0..count)
        .map(|came| {
            let key = (next() % 10 > 0).then(|| (next() % 40) as i64 - 20);
            (key, format!("t{}", next() % 500), came)
        })
        .collect()
}

/// Lay rows out that came in batches of `at_once`, moved to disk after every `moved`-th.
fn lay_out(
    layout: &Arc<Layout>,
    rows: &[Row],
    at_once: usize,
    moved: usize,
    cut: u64,
) -> Vec<(Option<Vec<Value>>, Vec<Row>)> {
    static FOLDERS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = FOLDERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("dativo-layout-{}-{number}", std::process::id());
    let folder: PathBuf = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("a.rows");
    let mut unlaid = Unlaid::new(layout, (1, None), path, MERGE_BYTES);
    for (at, rows) in rows.chunks(at_once).enumerate() {
        unlaid.push(&batch(rows)).expect("taken");
        if at % moved == moved - 1 {
            unlaid.spill().expect("moved");
            assert_eq!(unlaid.held_bytes(), 0);
            assert!(unlaid.spilled_bytes() > 0);
        }
    }
    assert_eq!(unlaid.cut(cut), cut.min(rows.len() as u64));
    assert_eq!(unlaid.rows(), rows.len() as u64 - cut);
    let mut laid: Vec<(Option<Vec<Value>>, Vec<Row>)> = Vec::new();
    for part in unlaid.lay_out().expect("begun") {
        let part = part.expect("laid out");
        let mut rows = rows_of(&part.rows);
        match laid.last_mut() {
            Some((partition, before)) if *partition == part.partition => before.append(&mut rows),
            _ => laid.push((part.partition, rows)),
        }
    }
    std::fs::remove_dir(&folder).expect("no file is left");
    laid
}

#[test]
fn rows_are_in_order_wherever_they_waited() {
    let layout = layout(&[planned(7, "truncate[10]")], &by_text_backwards());
    let rows = some_rows(9_000);
    let mut expected: Vec<(Option<i64>, Row)> = rows
        .iter()
        .map(|row| (row.0.map(|key| key.div_euclid(10) * 10), row.clone()))
        .collect();
    expected.sort_by(|(a, x), (b, y)| a.cmp(b).then(y.1.cmp(&x.1)).then(x.2.cmp(&y.2)));
    // All in memory; in some runs; in more than are merged at once, twice over.
    for (at_once, moved) in [(1000, 100), (1000, 2), (100, 1), (7, 1)] {
        let laid = lay_out(&layout, &rows, at_once, moved, 0);
        let partitions: Vec<_> = laid
            .iter()
            .map(|(partition, _)| partition.clone())
            .collect();
        let values = [Value::Null, json!(-20), json!(-10), json!(0), json!(10)];
        assert_eq!(partitions, values.map(|value| Some(vec![value])));
        let all: Vec<_> = laid.into_iter().flat_map(|(_, rows)| rows).collect();
        let expected: Vec<_> = expected.iter().map(|(_, row)| row.clone()).collect();
        assert_eq!(all, expected, "{at_once} {moved}");
    }
}

#[test]
fn what_is_cut_off_is_what_came_last() {
    let layout = layout(&[planned(8, "bucket[4]")], &[]);
    let rows = some_rows(4_000);
    for (moved, cut) in [(100, 1), (3, 1_234), (1, 3_999), (1, 4_000)] {
        let laid = lay_out(&layout, &rows, 100, moved, cut);
        let mut came: Vec<i64> = laid
            .iter()
            .flat_map(|(_, rows)| rows.iter().map(|row| row.2))
            .collect();
        // Within a partition as they came.
        assert!(
            laid.iter()
                .all(|(_, rows)| rows.is_sorted_by_key(|row| row.2))
        );
        came.sort_unstable();
        assert_eq!(came, (0..4_000 - cut as i64).collect::<Vec<_>>());
        assert!(laid.len() <= 4);
    }
}

#[test]
fn a_column_that_is_not_sent_is_null() {
    let rows = some_rows(100);
    let partitioned = layout(&[planned(99, "day"), planned(8, "truncate[1]")], &[]);
    let laid = lay_out(&partitioned, &rows, 10, 2, 0);
    assert_eq!(laid.len(), 1);
    assert_eq!(laid[0].0, Some(vec![Value::Null, json!("t")]));
    let sort = SortField {
        field_id: 99,
        descending: false,
        nulls_first: true,
    };
    let laid = lay_out(&layout(&[], &[sort]), &rows, 10, 2, 0);
    assert_eq!(laid, [(None, rows)]);
}

#[test]
fn no_plan_is_no_layout() {
    assert!(Layout::new(&schema(), &[], &[]).expect("none").is_none());
    let fault = Layout::new(&schema(), &[planned(8, "day")], &[]);
    assert_eq!(fault.err().map(|fault| fault.code), Some("internal.layout"));
}
