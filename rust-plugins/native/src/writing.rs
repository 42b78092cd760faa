//! A table into lines.

use arrow_array::RecordBatchReader;

use crate::capsule;
use crate::encode::{Frame, Refusal, Rows, Style};
use crate::errors::Failure;
use crate::source::{Target, check_signals};

/// Lines are handed on in pieces of about this size.
const CHUNK_BYTES: usize = 256 << 10;

/// Write all rows of `reader`, and return their number.
pub fn write(
    reader: Box<dyn RecordBatchReader + Send>,
    target: &mut Target,
    frame: &Frame,
    style: Style,
) -> Result<u64, Failure> {
    let mut out = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
    let mut written = 0;
    for batch in reader {
        let stream = |error| Refusal::new("encode.arrow", format!("{error}"));
        let batch = batch.map_err(stream)?;
        capsule::check(&batch).map_err(stream)?;
        let rows = Rows::new(&batch, style)?;
        for row in 0..rows.len() {
            if let Err(mut refusal) = rows.write(row, frame, &mut out) {
                refusal.row = Some(written);
                return Err(refusal.into());
            }
            written += 1;
            if out.len() >= CHUNK_BYTES {
                target.write(&out)?;
                out.clear();
                check_signals()?;
            }
        }
    }
    target.write(&out)?;
    Ok(written)
}
