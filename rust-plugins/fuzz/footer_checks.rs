//! What holds for any bytes in staging, for the fuzz target and for the replay of its corpus (inspector/tests/corpus.rs).

use std::fs::File;
use std::io::Write;
use std::os::fd::FromRawFd;

use dativo_inspector::inspect::inspect_open;
use dativo_inspector::plan::Column;

const PLANS: [&str; 3] = [
    r#"[{"column":"n","type":"long","field_id":1}]"#,
    r#"[{"column":"s","type":"string","field_id":1},{"column":"d","type":"double","field_id":2},
        {"column":"b","type":"boolean","field_id":3},{"column":"x","type":"decimal(38,9)","field_id":4}]"#,
    r#"[{"column":"o","type":{"type":"struct","fields":[{"column":"t","type":"timestamptz","field_id":2}]},"field_id":1},
        {"column":"l","type":{"type":"list","element_id":4,"element":"binary"},"field_id":3},
        {"column":"m","type":{"type":"map","key_id":6,"value_id":7,"value":"date"},"field_id":5}]"#,
];

/// A file is what it is said to be or refused; the first bytes say which plan it has and how many rows.
pub fn footer(data: &[u8]) {
    let [plan, rows, file @ ..] = data else {
        return;
    };
    let columns: Vec<Column> = serde_json::from_str(PLANS[*plan as usize % PLANS.len()]).unwrap();
    let Ok(found) = inspect_open(
        in_memory(file),
        u64::from(*rows),
        file.len() as u64,
        &columns,
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
