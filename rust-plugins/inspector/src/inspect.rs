//! One staged file: proved to be what the writer says and the plan wants, and measured.

use std::fs::File;
use std::path::Path;

use serde_json::Value;

use crate::chunk::Work;
use crate::flaw::{Flaw, Result, ensure};
use crate::footer::{self, Footer, MAX_FOOTER_BYTES};
use crate::index::Behind;
use crate::layout;
use crate::page::Unpacker;
use crate::plan::{Plan, Primitive};
use crate::schema::{self, Leaf};
use crate::seen::Seen;
use crate::source::Source;

const MAGIC: &[u8; 4] = b"PAR1";
/// Magic, one byte of footer, its length, magic again.
const LEAST_BYTES: u64 = 4 + 1 + 4 + 4;
/// Page indices of all column chunks.
const MAX_INDEX_BYTES: u64 = 16 << 20;
/// Columns of a file that are measured, as many as Iceberg does by default (`write.metadata.metrics.max-inferred-column-defaults`).
const MAX_MEASURED: usize = 100;

/// What a file was found to hold.
#[derive(Debug)]
pub struct Found {
    pub rows: u64,
    pub sha256: String,
    /// Those of the first columns that have one value a row at most.
    pub columns: Vec<Measured>,
}

#[derive(Debug)]
pub struct Measured {
    pub field_id: i32,
    pub primitive: Primitive,
    /// In the file.
    pub bytes: u64,
    pub seen: Seen,
}

/// Inspect the file at `path`, which is to hold `rows` rows of `plan` in `bytes` bytes, all of one partition.
pub fn inspect(
    path: &Path,
    rows: u64,
    bytes: u64,
    plan: &Plan,
    partition: Option<&[Value]>,
) -> Result<Found> {
    read(Source::open(path, bytes)?, rows, bytes, plan, partition)
}

/// The same of a file that is open already, whatever it is.
pub fn inspect_open(
    file: File,
    rows: u64,
    bytes: u64,
    plan: &Plan,
    partition: Option<&[Value]>,
) -> Result<Found> {
    read(Source::new(file, bytes), rows, bytes, plan, partition)
}

fn read(
    mut source: Source,
    rows: u64,
    bytes: u64,
    plan: &Plan,
    partition: Option<&[Value]>,
) -> Result<Found> {
    ensure(bytes >= LEAST_BYTES, || "is too short for Parquet".into())?;
    let (end, ending) = ending(&source, bytes)?;
    let footer = footer::read(&ending[..ending.len() - 8])?;
    let behind = behind(&source, &footer, end)?;
    ensure(footer.rows == rows, || {
        format!("has {} rows, the manifest says {rows}", footer.rows)
    })?;
    let leaves = schema::leaves(&footer.schema, &plan.columns)?;
    let mut watches = layout::watches(plan, partition, &leaves)?;
    let mut measured = measures(&leaves);
    ensure(source.peek(4)? == MAGIC, || {
        "does not begin and end with PAR1".into()
    })?;
    source.consume(4);
    let mut work = Work {
        source: &mut source,
        behind: &behind,
        unpacker: Unpacker::new()?,
        unpacked: 0,
    };
    let mut read: u64 = 0;
    for group in &footer.groups {
        read = read.saturating_add(group.rows);
        ensure(group.chunks.len() == leaves.len(), || {
            format!(
                "has a row group of {} columns of {}",
                group.chunks.len(),
                leaves.len()
            )
        })?;
        layout::begin_group(plan, group.rows)?;
        let chunks = group.chunks.iter().zip(&leaves).zip(&mut watches);
        for (((chunk, leaf), watch), measure) in chunks.zip(&mut measured) {
            let seen = work.read(chunk, leaf, group.rows, watch.as_mut());
            let seen = seen.map_err(|flaw| flaw.of(&leaf.name()))?;
            if let Some(measure) = measure {
                measure.bytes += chunk.compressed;
                measure.seen.add(&seen);
            }
        }
        layout::end_group(&mut watches)?;
    }
    ensure(read == rows, || {
        format!("has {read} rows in its groups and {rows} in its footer")
    })?;
    source.skip_to(behind.start)?;
    source.pass(&behind.bytes)?;
    source.pass(&ending)?;
    Ok(Found {
        rows,
        sha256: source.finish()?,
        columns: measured.into_iter().flatten().collect(),
    })
}

/// The footer with its length and the magic number behind it, and where it begins.
fn ending(source: &Source, bytes: u64) -> Result<(u64, Vec<u8>)> {
    let last = source.ahead(bytes - 8, bytes)?;
    ensure(last.ends_with(MAGIC), || {
        "does not begin and end with PAR1".into()
    })?;
    let length = last
        .first_chunk()
        .map_or(0, |length| u32::from_le_bytes(*length).into());
    ensure(
        length <= MAX_FOOTER_BYTES && length + LEAST_BYTES - 1 <= bytes,
        || format!("has a footer of {length} bytes"),
    )?;
    let start = bytes - 8 - length;
    let ending = source.ahead(start, bytes)?;
    // Between the two the file may have changed.
    ensure(ending.ends_with(&last), || {
        "changed while it was read".into()
    })?;
    Ok((start, ending))
}

/// What lies between the last column chunk and the footer, which begins at `end`.
fn behind(source: &Source, footer: &Footer<'_>, end: u64) -> Result<Behind> {
    let mut start = MAGIC.len() as u64;
    for chunk in footer.groups.iter().flat_map(|group| &group.chunks) {
        let chunk_end = chunk.start().checked_add(chunk.compressed);
        let chunk_end = chunk_end.filter(|&chunk_end| chunk_end <= end);
        let chunk_end =
            chunk_end.ok_or_else(|| Flaw::new("has a column chunk outside the file"))?;
        start = start.max(chunk_end);
    }
    ensure(end - start <= MAX_INDEX_BYTES, || {
        format!("has {} bytes behind its column chunks", end - start)
    })?;
    let bytes = source.ahead(start, end)?;
    Ok(Behind { start, bytes })
}

/// For each leaf what it is measured into, if it is.
fn measures(leaves: &[Leaf<'_>]) -> Vec<Option<Measured>> {
    let mut count = 0;
    let measure = |leaf: &Leaf<'_>| {
        count += usize::from(leaf.is_flat());
        (leaf.is_flat() && count <= MAX_MEASURED).then(|| Measured {
            field_id: leaf.field_id,
            primitive: leaf.primitive,
            bytes: 0,
            seen: Seen::nothing(leaf.physical),
        })
    };
    leaves.iter().map(measure).collect()
}
