//! `dativo-pump`: moves bytes between the user's descriptors and pipes that dativo made.
//!
//! A plugin or jailed command must never hold a descriptor of the user's: it could reopen it with other rights, cut a file
//! short, or type into a terminal. This process holds them instead, behind all walls, and looks at no byte unless it
//! has to escape it. Descriptors come with the kernel's `open` on the control socket (docs/spec/events.md). One
//! blocking thread a pair, so that no pair waits for another; O_NONBLOCK is never set, since a file description is shared
//! with whoever else has it open.

mod control;
mod escape;
mod transfer;

use std::process::{ExitCode, exit};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use control::{Control, Pair};

const PROGRAM: &str = "dativo-pump";
const VERSION: &str = env!("CARGO_PKG_VERSION");

const INTERNAL: u8 = 1;
const USAGE: u8 = 2;

/// The process. It ends with 0 after its last pair, with 1 when the kernel is gone or cannot be understood.
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments == ["--version"] {
        println!("{PROGRAM} {VERSION} protocol {}", control::PROTOCOL);
        return ExitCode::SUCCESS;
    }
    if !arguments.is_empty() {
        eprintln!("{PROGRAM}: takes no arguments but --version");
        return ExitCode::from(USAGE);
    }
    let Some(control) = Control::inherited() else {
        eprintln!("{PROGRAM}: descriptor 3 is not a socket: dativo starts this program");
        return ExitCode::from(USAGE);
    };
    // A user's file may have a size limit (setrlimit(2)): a write beyond it then fails instead of ending all pairs.
    // SAFETY: sets a disposition; no handler of ours runs.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    match run(control) {
        Ok(()) => ExitCode::from(INTERNAL),
        Err(reason) => {
            eprintln!("{PROGRAM}: {reason}");
            ExitCode::from(INTERNAL)
        }
    }
}

/// Pump until the kernel is gone; the last pair to end ends the process before.
fn run(mut control: Control) -> Result<(), String> {
    control.hello(PROGRAM, VERSION)?;
    let pairs = match control.open() {
        Ok(Some(pairs)) => pairs,
        Ok(None) => return Ok(()),
        Err(reason) => {
            control.give_up(&reason);
            return Err(reason);
        }
    };
    let control = Arc::new(control);
    let left = Arc::new(AtomicUsize::new(pairs.len()));
    let telling = Arc::new(Mutex::new(()));
    for pair in pairs {
        let (control, left, telling) = (control.clone(), left.clone(), telling.clone());
        thread::Builder::new()
            .name(pair.name.clone())
            .spawn(move || {
                let Pair {
                    name,
                    escape,
                    from,
                    to,
                } = pair;
                let ended = transfer::carry(&from, &to, escape);
                // One line at a time; a thread that died while it told cannot be helped, panics abort.
                let _turn = telling.lock();
                // Told before the pipe is closed: whoever sees it closed finds the reason at the kernel.
                let told = control.pumped(&name, &ended);
                drop((from, to));
                if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    exit(i32::from(told.is_err()));
                }
            })
            .map_err(|error| format!("cannot start a thread: {error}"))?;
    }
    control.until_gone()
}
