//! What holds for any bytes of a batch, for the fuzz target and for the replay of its corpus (wire/tests/batch_corpus.rs).

use arrow_array::Array;
use dativo_wire::batch::{self, Field};
use dativo_wire::schema::{self, Numbers, Options};

const OPTIONS: Options = Options {
    max_columns: 100,
    max_depth: 16,
    numbers: Numbers::Double,
};
const SCHEMAS: [&str; 3] = [
    r#"{"properties":{"i":{"type":"integer"}}}"#,
    r#"{"properties":{"s":{"type":"string"},"j":{},"b":{"type":"boolean"}}}"#,
    r#"{"properties":{"b":{"type":"boolean"},"i":{"type":"integer"},"n":{"type":"number"},
        "d":{"type":"number","format":"x-singer.decimal","precision":5,"scale":2},
        "day":{"type":"string","format":"date"},"time":{"type":"string","format":"time"},
        "at":{"type":"string","format":"date-time"},"s":{"type":"string"},
        "x":{"type":"string","contentEncoding":"base64"},"j":{}}}"#,
];

/// A batch is refused or whole: its columns have all rows, and Arrow's own check finds nothing. The first bytes say which schema the
/// stream has and how many rows are announced.
pub fn batch(data: &[u8]) {
    let [which, rows, body @ ..] = data else {
        return;
    };
    let schema = SCHEMAS[*which as usize % SCHEMAS.len()];
    let columns = schema::compile(schema.as_bytes(), OPTIONS).expect("compiles");
    let fields: Vec<Field> = columns.iter().filter_map(Field::of).collect();
    let rows = usize::from(*rows).max(1);
    let Ok(arrays) = batch::read(body.to_vec(), rows, &fields, OPTIONS.max_depth) else {
        return;
    };
    assert_eq!(arrays.len(), fields.len());
    for array in arrays {
        assert_eq!(array.len(), rows);
        array.to_data().validate_full().expect("whole");
    }
}
