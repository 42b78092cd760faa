//! stdin, the input of a program: waited for and read.

use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::time::Duration;

use dativo_wire::fault::{Blame, Fault};
use dativo_wire::framing::Framer;

pub const STDIN: RawFd = 0;

/// poll(2) for at most `timeout`: what each of `wanted` is ready for. One that is not wanted is passed over.
pub fn poll<const N: usize>(
    wanted: [(bool, RawFd, libc::c_short); N],
    timeout: Duration,
) -> Result<[libc::c_short; N], Box<Fault>> {
    let mut fds = wanted.map(|(wanted, fd, events)| libc::pollfd {
        fd: if wanted { fd } else { -1 },
        events,
        revents: 0,
    });
    // Rounded up, or the last millisecond would be spent spinning.
    let timeout_ms = match timeout.as_millis() as i32 {
        0 if timeout.is_zero() => 0,
        ms => ms + 1,
    };
    // SAFETY: `fds` outlives the call and its length is given.
    if unsafe { libc::poll(fds.as_mut_ptr(), N as libc::nfds_t, timeout_ms) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(unreadable(&error));
        }
    }
    Ok(fds.map(|fd| fd.revents))
}

/// Read once into `framer`; whether stdin has ended.
pub fn fill(framer: &mut Framer) -> Result<bool, Box<Fault>> {
    match framer.fill(read) {
        Ok(count) => Ok(count == 0),
        Err(error) => Err(unreadable(&error)),
    }
}

fn read(room: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: the system writes at most `room.len()` bytes into `room`.
        let count = unsafe { libc::read(STDIN, room.as_mut_ptr().cast(), room.len()) };
        if count >= 0 {
            return Ok(count as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn unreadable(error: &io::Error) -> Box<Fault> {
    let message = format!("the input cannot be read: {error}");
    Fault::new("internal.stdin", Blame::Machine, message)
}
