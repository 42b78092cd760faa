//! What holds for any bytes in staging, for the fuzz target and for the replay of its corpus (inspector/tests/corpus.rs).

use std::fs::File;
use std::io::Write;
use std::os::fd::FromRawFd;

use dativo_inspector::inspect::inspect_open;
use dativo_inspector::plan::Plan;
use serde_json::Value;

const PLANS: [&str; 4] = [
    r#"{"columns":[{"column":"n","type":"long","field_id":1}]}"#,
    r#"{"columns":[{"column":"s","type":"string","field_id":1},{"column":"d","type":"double","field_id":2},
        {"column":"b","type":"boolean","field_id":3},{"column":"x","type":"decimal(38,9)","field_id":4}]}"#,
    r#"{"columns":[{"column":"o","type":{"type":"struct","fields":[{"column":"t","type":"timestamptz","field_id":2}]},"field_id":1},
        {"column":"l","type":{"type":"list","element_id":4,"element":"binary"},"field_id":3},
        {"column":"m","type":{"type":"map","key_id":6,"value_id":7,"value":"date"},"field_id":5}]}"#,
    r#"{"columns":[{"column":"s","type":"string","field_id":1},{"column":"d","type":"double","field_id":2},
        {"column":"b","type":"boolean","field_id":3},{"column":"x","type":"decimal(38,9)","field_id":4}],
        "partition":[{"field_id":1,"transform":"bucket[2]"},{"field_id":9,"transform":"day"}],
        "sort":[{"field_id":2,"descending":true,"nulls_first":false},{"field_id":4,"descending":false,"nulls_first":true}]}"#,
];

/// A file is what it is said to be or refused; the first bytes say which plan it has and how many rows.
pub fn footer(data: &[u8]) {
    let [plan, rows, file @ ..] = data else {
        return;
    };
    let plan: Plan = serde_json::from_str(PLANS[*plan as usize % PLANS.len()]).unwrap();
    let partition = (!plan.partition.is_empty()).then(|| [Value::from(1), Value::Null]);
    let Ok(found) = inspect_open(
        in_memory(file),
        u64::from(*rows),
        file.len() as u64,
        &plan,
        partition.as_ref().map(<[Value; 2]>::as_slice),
    ) else {
        return;
    };
    assert_eq!(found.rows, u64::from(*rows));
    assert_eq!(found.sha256.len(), 64);
    for column in found.columns {
        let seen = &column.seen;
        assert_eq!(seen.values, u64::from(*rows));
        assert!(seen.nulls + seen.nans <= seen.values);
        assert!(seen.range.is_empty() == (seen.nulls + seen.nans == seen.values));
        let (lower, upper) = seen.range.bounds(column.primitive);
        assert!(lower.is_none_or(|bytes| bytes.len() <= 64));
        assert!(upper.is_none_or(|bytes| bytes.len() <= 64));
    }
}

fn in_memory(bytes: &[u8]) -> File {
    // SAFETY: the name is a C string; the descriptor is new and nobody else's.
    let mut file = unsafe { File::from_raw_fd(libc::memfd_create(c"file".as_ptr(), 0)) };
    file.write_all(bytes).unwrap();
    file
}
