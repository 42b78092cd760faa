//! stdout: buffered, never waited for, its last two bytes held back.
//!
//! Every line ends with `}` and a line feed. These two are written when the next line begins or when the output
//! is completed, so that whoever reads an output that was not completed finds half a line at its end.
//!
//! stdout may be a pipe of the user's that other programs write to as well, so `O_NONBLOCK`, a property of the open
//! file description, is left alone: see [`crate::unwaiting`].

use std::io::{self, ErrorKind};
use std::os::fd::RawFd;

use dativo_channel::Stop;
use dativo_wire::fault::{Blame, Fault};

use crate::unwaiting::Writer;

pub const STDOUT: RawFd = 1;
/// So much is written in one go, while there is more to read.
pub const CHUNK_BYTES: usize = 64 << 10;
/// Above it nothing is read until stdout has taken some.
const FULL_BYTES: usize = 256 << 10;
const TAIL: &[u8] = b"}\n";

pub struct Output {
    buffer: Vec<u8>,
    /// Written up to here.
    start: usize,
    /// The last line lacks its tail.
    open: bool,
    /// The last byte that stdout took; a line feed while it has taken none.
    last: u8,
    writer: Writer,
}

impl Output {
    pub fn new() -> Output {
        Output {
            buffer: Vec::with_capacity(FULL_BYTES + CHUNK_BYTES),
            start: 0,
            open: false,
            last: b'\n',
            writer: Writer::new(STDOUT),
        }
    }

    /// Begin a line; the caller appends it but for its tail.
    #[inline(always)]
    pub fn line(&mut self) -> &mut Vec<u8> {
        if self.open {
            self.buffer.extend_from_slice(TAIL);
        }
        self.open = true;
        &mut self.buffer
    }

    /// Append one line that is made up of `parts`, but for its tail.
    pub fn write_line(&mut self, parts: &[&[u8]]) {
        let line = self.line();
        parts.iter().for_each(|part| line.extend_from_slice(part));
    }

    /// The line that was begun last, to append to.
    pub fn unfinished(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// No line follows: the last one is completed.
    pub fn complete(&mut self) {
        if std::mem::take(&mut self.open) {
            self.buffer.extend_from_slice(TAIL);
        }
    }

    /// Bytes that stdout has not taken.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    pub fn pending_bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    pub fn is_full(&self) -> bool {
        self.pending() >= FULL_BYTES
    }

    /// Write what stdout takes at once; call it when poll(2) says that it takes some.
    pub fn flush(&mut self) -> Result<(), Stop> {
        while self.pending() > 0 {
            match self.writer.write(&self.buffer[self.start..]) {
                Ok(count) => {
                    self.start += count;
                    self.last = self.buffer[self.start - 1];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Err(closed()),
                Err(error) => return Err(unwritable(&error)),
            }
            if !self.writer.never_waits() {
                break;
            }
        }
        self.tidy();
        Ok(())
    }

    fn tidy(&mut self) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(FULL_BYTES + CHUNK_BYTES);
            self.start = 0;
        } else if self.start >= FULL_BYTES {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
    }

    /// The output is given up: how it ends so far.
    pub fn give_up(&self) -> Left {
        if self.last == b'\n' {
            Left::BehindLine
        } else {
            Left::InsideLine
        }
    }
}

/// How an output ends that is not completed.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Left {
    /// There is none, or it is complete.
    #[default]
    Nothing,
    InsideLine,
    /// A slow reader's pipe takes a part of what is written, which may end with a line; or nothing was written.
    BehindLine,
}

impl Left {
    /// See to it that the output ends inside a line. Waits for a reader that takes nothing now, until it does or is gone.
    pub fn cut_off(self) {
        if self != Left::BehindLine {
            return;
        }
        loop {
            let mut asked = libc::pollfd {
                fd: STDOUT,
                events: libc::POLLOUT,
                revents: 0,
            };
            // SAFETY: `asked` outlives the call, which is told that it is one.
            let found = unsafe { libc::poll(&mut asked, 1, -1) };
            if found == 1 && asked.revents & libc::POLLOUT == 0 {
                return;
            }
            match Writer::new(STDOUT).write(b"{") {
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                // Nobody is left who could be told of a failure.
                _ => return,
            }
        }
    }
}

/// The reader is gone.
pub fn closed() -> Stop {
    Fault::new(
        "target.closed",
        Blame::User,
        "who reads the output has closed it",
    )
    .into()
}

fn unwritable(error: &io::Error) -> Stop {
    let message = format!("the output cannot be written: {error}");
    Fault::new("target.io", Blame::Machine, message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_the_last_line_waits() {
        let mut output = Output::new();
        assert_eq!(output.pending(), 0);
        output.write_line(&[b"{\"a\":", b"1"]);
        assert_eq!(output.buffer, b"{\"a\":1");
        output.write_line(&[b"{\"b\":2"]);
        assert_eq!(output.buffer, b"{\"a\":1}\n{\"b\":2");
        output.complete();
        output.complete();
        assert_eq!(output.buffer, b"{\"a\":1}\n{\"b\":2}\n");
    }

    #[test]
    fn an_empty_output_stays_empty_when_complete() {
        let mut output = Output::new();
        output.complete();
        assert_eq!(output.pending(), 0);
    }

    #[test]
    fn a_long_line_gives_its_memory_back() {
        let mut output = Output::new();
        output.write_line(&[&vec![b'x'; 4 << 20]]);
        assert!(output.is_full());
        output.start = FULL_BYTES + 7;
        output.tidy();
        assert_eq!(output.pending(), (4 << 20) - FULL_BYTES - 7);
        output.start = output.buffer.len();
        output.tidy();
        assert!(output.buffer.capacity() < 1 << 20);
    }
}
