//! `dativo-inspector`: what the writer says of its files, proved before the committer takes them.
//!
//! It reads staged Parquet files, none of whose bytes anybody vouches for, and says of each how many rows it has, its SHA-256 and what
//! its columns hold; or one error that ends the run. The kernel talks to it on descriptor 3 (docs/spec/events.md). It sees the
//! staging folder, read-only, and nothing else.

mod chunk;
mod dictionary;
mod events;
mod flaw;
mod footer;
mod hybrid;
mod index;
pub mod inspect;
mod layout;
mod order;
mod page;
mod partition;
pub mod plan;
pub mod range;
mod run;
mod schema;
pub mod seen;
mod source;
mod thrift;
mod transform;
mod values;

use std::process::ExitCode;

use events::Command;

/// The kernel, seen from here.
type Control = dativo_channel::control::Control<Command>;

/// The process. Its exit status is in docs/spec/exit-codes.md.
pub fn main() -> ExitCode {
    dativo_channel::main("dativo-inspector", env!("CARGO_PKG_VERSION"), run::run)
}
