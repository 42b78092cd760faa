//! The two stages that stand before and behind bubblewrap, and the maker of sockets (docs/spec/sandbox.md).
//!
//! Stage 1 runs outside: it enters the cgroup, binds what was granted into a private mount namespace, gives up
//! every privilege and becomes bubblewrap. Stage 2 is process 1 inside: it sets limits and Landlock, tells the
//! launcher what it finds (the attestation), starts the program, forwards signals, reaps, and reports the end.
//!
//! `container` is the entry point of a container, whose engine stands in for stage 1 and bubblewrap; it goes on as stage 2.
//!
//! `sockets` runs outside between the two: it joins the network namespace while stage 2 waits, and hands the broker what listens there.
//!
//! All read a plan from a descriptor: fields ended by NUL, written by `dativo.sandbox.stages`. None reads the
//! environment, a configuration file or its arguments beyond the plan's number.

mod attestation;
mod container;
mod failure;
mod landlock;
mod netlink;
mod plan;
mod privileges;
mod sockets;
mod stage1;
mod stage2;
mod sys;
mod view;

use std::os::fd::RawFd;
use std::process::ExitCode;

use failure::{Failure, Result};

/// Status of a stage that could not do its work; the reason is on stderr.
const STATUS_FAILED: u8 = 125;

/// Run what the first argument names: `stage1 FD`, `stage2 FD`, `sockets FD`, `container PATH`, or print the version.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let texts: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    let outcome = match texts.as_slice() {
        ["stage1", fd] => descriptor(fd)
            .and_then(stage1::run)
            .map(|never| match never {}),
        ["stage2", fd] => descriptor(fd)
            .and_then(stage2::run)
            .map(|never| match never {}),
        ["container", path] => container::run(path).map(|never| match never {}),
        ["sockets", fd] => descriptor(fd).and_then(sockets::run),
        ["--version"] => {
            println!("dativo-confine {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        _ => {
            eprintln!(
                "dativo-confine: started by dativo.sandbox; usage: dativo-confine stage1|stage2|sockets PLAN_FD, container SOCKET"
            );
            return ExitCode::from(STATUS_FAILED);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("dativo-confine {}: {failure}", texts[0]);
            ExitCode::from(STATUS_FAILED)
        }
    }
}

fn descriptor(text: &str) -> Result<RawFd> {
    text.parse()
        .ok()
        .filter(|fd| *fd > 2)
        .ok_or_else(|| Failure::new("plan", format!("{text:?} is not a descriptor above 2")))
}
