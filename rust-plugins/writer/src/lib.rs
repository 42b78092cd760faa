//! `dativo-writer`: a connector's records, read as hostile JSONL on stdin, into Parquet files in staging.
//!
//! The kernel talks to it on descriptor 3 (docs/spec/events.md). It takes no arguments, reads no files and
//! has no network; whatever stdin holds, it ends with files that are sealed or with one located error.

mod batch;
mod encoder;
mod encodings;
mod epoch;
mod events;
mod exchange;
mod layout;
mod metadata;
mod parquet_file;
mod plan;
mod rejects;
mod row_group;
mod run;
mod session;
mod spill;
mod staging;
mod stream;

use std::process::ExitCode;

use dativo_channel::Stop;

use events::Command;

const PROGRAM: &str = "dativo-writer";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The kernel, seen from here.
type Control = dativo_channel::control::Control<Command>;

/// The process. Its exit status is in docs/spec/exit-codes.md.
pub fn main() -> ExitCode {
    keep_memory();
    dativo_channel::main_with(PROGRAM, VERSION, &["batches"], run::run)
}

/// Have the allocator keep what it has: the next row group takes as much as the last one, and fresh pages are dear.
fn keep_memory() {
    for (option, value) in [
        (libc::M_MMAP_THRESHOLD, 4 << 20),
        (libc::M_TRIM_THRESHOLD, 64 << 20),
        (libc::M_ARENA_MAX, 1),
    ] {
        // SAFETY: mallopt(3) only sets options. Where it refuses one, memory is given back and taken again.
        unsafe { libc::mallopt(option, value) };
    }
}
