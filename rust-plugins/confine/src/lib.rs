//! The two stages that stand before and behind bubblewrap (docs/spec/sandbox.md).
//!
//! Stage 1 runs outside: it enters the cgroup, binds what was granted into a private mount namespace, gives up
//! every privilege and becomes bubblewrap. Stage 2 is process 1 inside: it sets limits and Landlock, tells the
//! launcher what it finds (the attestation), starts the program, forwards signals, reaps, and reports the end.
//!
//! Both read a plan from a descriptor: fields ended by NUL, written by `dativo.sandbox.stages`. Neither reads the
//! environment, a configuration file or its arguments beyond the plan's number.

mod attestation;
mod failure;
mod landlock;
mod plan;
mod privileges;
mod stage1;
mod stage2;
mod sys;
mod view;

use std::os::fd::RawFd;
use std::process::ExitCode;

use failure::{Failure, Result};

/// Status of a stage that could not do its work; the reason is on stderr.
const STATUS_FAILED: u8 = 125;

/// Run the stage that the first argument names: `stage1 FD`, `stage2 FD`, or print the version.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let texts: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    let (stage, outcome) = match texts.as_slice() {
        ["stage1", fd] => ("stage1", descriptor(fd).and_then(stage1::run)),
        ["stage2", fd] => ("stage2", descriptor(fd).and_then(stage2::run)),
        ["--version"] => {
            println!("dativo-confine {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!(
                "dativo-confine: started by dativo.sandbox; usage: dativo-confine stage1|stage2 PLAN_FD"
            );
            return ExitCode::from(STATUS_FAILED);
        }
    };
    let Err(failure) = outcome;
    eprintln!("dativo-confine {stage}: {failure}");
    ExitCode::from(STATUS_FAILED)
}

fn descriptor(text: &str) -> Result<RawFd> {
    text.parse()
        .ok()
        .filter(|fd| *fd > 2)
        .ok_or_else(|| Failure::new("plan", format!("{text:?} is not a descriptor above 2")))
}
