//! How dativo's own programs talk to the kernel (docs/spec/events.md).
//!
//! The kernel starts each with a control socket on descriptor 3. [`main`] is the life of such a program: `hello`,
//! what it is for, and at the end one `error` that tells why, if there is one, and the exit status that says the same.

pub mod control;
pub mod events;
pub mod files;
pub mod layout;
pub mod said;
pub mod stdin;
pub mod stopwatch;

use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use dativo_wire::fault::{Blame, Fault};
use serde::de::DeserializeOwned;

use control::Control;
use events::{Failure, Hello};

pub const PROTOCOL: &str = "1.0";
/// Where the kernel puts the control socket.
const CONTROL_FD: i32 = 3;

const USAGE: u8 = 2;
const INTERNAL: u8 = 1;

/// Why a program ends before its work is done.
pub enum Stop {
    /// Reported to the kernel.
    Fault(Box<Fault>),
    /// The kernel said `abort`.
    Aborted,
    /// The control socket is closed.
    KernelLost,
}

impl From<Box<Fault>> for Stop {
    fn from(fault: Box<Fault>) -> Stop {
        Stop::Fault(fault)
    }
}

/// The kernel said something that it should not have.
pub fn unexpected(what: &str) -> Stop {
    Fault::new("internal.control", Blame::Dativo, what).into()
}

/// The life of the process `program`: `hello`, then `run`, which is handed the control socket. Its exit status is in
/// docs/spec/exit-codes.md.
pub fn main<C: DeserializeOwned>(
    program: &'static str,
    version: &'static str,
    run: impl FnOnce(&mut Control<C>) -> Result<(), Stop>,
) -> ExitCode {
    main_with(program, version, &[], run)
}

/// The same for a process that names `features` (docs/spec/handshake.md).
pub fn main_with<C: DeserializeOwned>(
    program: &'static str,
    version: &'static str,
    features: &'static [&'static str],
    run: impl FnOnce(&mut Control<C>) -> Result<(), Stop>,
) -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments == ["--version"] {
        println!("{program} {version} protocol {PROTOCOL}");
        return ExitCode::SUCCESS;
    }
    if !arguments.is_empty() {
        eprintln!("{program}: takes no arguments but --version");
        return ExitCode::from(USAGE);
    }
    let Some(socket) = inherited() else {
        eprintln!("{program}: descriptor {CONTROL_FD} is not a socket: dativo starts this program");
        return ExitCode::from(USAGE);
    };
    let mut control = Control::new(socket);
    let hello = Hello {
        protocol: PROTOCOL,
        program,
        version,
        features,
    };
    match control.send(&hello).and_then(|()| run(&mut control)) {
        Ok(()) | Err(Stop::Aborted) => ExitCode::SUCCESS,
        Err(Stop::KernelLost) => ExitCode::from(INTERNAL),
        Err(Stop::Fault(fault)) => {
            eprintln!("{program}: {}: {}", fault.code, fault.message);
            // A kernel that is gone cannot be told; the status says it too.
            let _ = control.send(&Failure::new(&fault));
            ExitCode::from(status(fault.code))
        }
    }
}

/// The control socket, if descriptor 3 is one.
fn inherited() -> Option<UnixStream> {
    // SAFETY: fstat fills the struct of a descriptor or fails; nothing else in this process owns descriptor 3.
    let is_socket = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        libc::fstat(CONTROL_FD, &mut stat) == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFSOCK
    };
    // SAFETY: as above; it is open, as fstat succeeded.
    is_socket.then(|| UnixStream::from(unsafe { OwnedFd::from_raw_fd(CONTROL_FD) }))
}

/// The exit status of an error code (docs/spec/events.md, Errors).
fn status(code: &str) -> u8 {
    match code.split('.').next().unwrap_or_default() {
        "config" => 3,
        "source" => 4,
        "target" => 5,
        "limit" => 6,
        "framing" | "json" | "message" | "schema" | "record" | "state" | "protocol" => 7,
        "conflict" => 10,
        _ => INTERNAL,
    }
}
