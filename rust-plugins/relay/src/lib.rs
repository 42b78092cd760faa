//! `dativo-relay`: one plugin's output on its way to another's input, or to the user's.
//!
//! It polices the lines of stdin as hostile JSONL, rewrites envelopes from one dialect into the other and writes
//! them to stdout; the bytes of records and states are copied, never encoded again. In the role `acks` it only
//! reads what a target acknowledges. The kernel talks to it on descriptor 3 (docs/spec/events.md).

mod acks;
mod events;
mod fields;
pub mod memory;
mod output;
mod pass;
mod run;
mod states;
mod stream;
mod time;
mod unwaiting;

use std::process::ExitCode;

use dativo_channel::control::Control;
use output::Left;

/// The process. Its exit status is in docs/spec/exit-codes.md.
pub fn main() -> ExitCode {
    let mut left = Left::default();
    let status = dativo_channel::main("dativo-relay", env!("CARGO_PKG_VERSION"), |control| {
        run::run(control, &mut left)
    });
    // The kernel has been told: this may wait for a slow reader.
    left.cut_off();
    status
}
