//! The extension type of JSON text: <https://arrow.apache.org/docs/format/CanonicalExtensions.html#json>

use std::collections::HashMap;

use arrow_schema::Field;

const EXTENSION: &str = "ARROW:extension:name";
const JSON: &str = "arrow.json";

/// A string field that holds JSON text.
pub fn mark(field: Field) -> Field {
    field.with_metadata(HashMap::from([(EXTENSION.to_owned(), JSON.to_owned())]))
}

pub fn is_marked(field: &Field) -> bool {
    let name = field.metadata().get(EXTENSION);
    name.is_some_and(|name| name == JSON)
}
