//! `dativo-writer`: a connector's records, read as hostile JSONL on stdin, into Parquet files in staging.
//!
//! The kernel talks to it on descriptor 3 (docs/spec/events.md). It takes no arguments, reads no files and
//! has no network; whatever stdin holds, it ends with files that are sealed or with one located error.

mod batch;
mod epoch;
mod events;
mod exchange;
mod metadata;
mod parquet_file;
mod plan;
mod rejects;
mod run;
mod session;
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
    dativo_channel::main_with(PROGRAM, VERSION, &["batches"], run::run)
}
