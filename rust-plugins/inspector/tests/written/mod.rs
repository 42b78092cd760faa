//! Files as dativo's writer writes them.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use dativo_inspector::inspect::{Found, inspect};
use dativo_inspector::plan::Plan;
use parquet::arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

pub fn field(name: &str, kind: DataType, id: i32) -> Field {
    let metadata = HashMap::from([("PARQUET:field_id".to_owned(), id.to_string())]);
    Field::new(name, kind, true).with_metadata(metadata)
}

pub fn properties() -> parquet::file::properties::WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap()))
        .set_max_row_group_row_count(Some(1000))
        .set_data_page_row_count_limit(300)
        .set_write_batch_size(100)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_statistics_truncate_length(Some(32))
        .set_column_index_truncate_length(Some(32))
}

/// Files of one process have a number each.
static NEXT: AtomicUsize = AtomicUsize::new(0);

pub struct Written {
    pub path: PathBuf,
    pub rows: u64,
    pub bytes: u64,
}

impl Written {
    pub fn new(
        name: &str,
        columns: Vec<(Field, ArrayRef)>,
        properties: WriterProperties,
    ) -> Written {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{name}-{}-{number}.parquet", std::process::id()));
        let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true);
        let mut bytes = Vec::new();
        let mut writer =
            ArrowWriter::try_new_with_options(&mut bytes, batch.schema(), options).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        fs::write(&path, &bytes).unwrap();
        Written {
            path,
            rows: batch.num_rows() as u64,
            bytes: bytes.len() as u64,
        }
    }

    /// Inspect it as a file of `columns`.
    pub fn inspect(&self, columns: &str) -> Result<Found, String> {
        self.inspect_laid_out(&format!(r#"{{"columns":{columns}}}"#), None)
    }

    /// Inspect it as a file of `plan` that is said to be of `partition`.
    pub fn inspect_laid_out(
        &self,
        plan: &str,
        partition: Option<&[serde_json::Value]>,
    ) -> Result<Found, String> {
        let plan: Plan = serde_json::from_str(plan).unwrap();
        inspect(&self.path, self.rows, self.bytes, &plan, partition).map_err(|flaw| flaw.message)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        fs::remove_file(&self.path).unwrap();
    }
}
