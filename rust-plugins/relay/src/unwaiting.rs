//! Writing to a descriptor that may block, and that others may share, without waiting and without making it non-blocking.
//!
//! A pipe is asked with pwritev2(2) and `RWF_NOWAIT`. Before Linux 6.5 no pipe understands that. Much is then written to a
//! pipe of our own and moved on by splice(2), which `SPLICE_F_NONBLOCK` keeps from waiting. Little, like anything for what
//! is no pipe, is written as it is, at most `PIPE_BUF` bytes once poll(2) has said that some are taken, which does not block
//! unless somebody else fills the pipe up meanwhile: pipe(7). (What was moved stays a piece of its own, and a pipe holds
//! so many pieces, however small.)

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::null_mut;

/// From here on bytes are moved: half of what a pipe holds.
const MUCH_BYTES: usize = 32 << 10;

pub struct Writer {
    fd: RawFd,
    way: Way,
}

enum Way {
    NoWait,
    Moving(Moving),
    Small,
}

impl Writer {
    pub fn new(fd: RawFd) -> Writer {
        let way = if is_pipe(fd) { Way::NoWait } else { Way::Small };
        Writer { fd, way }
    }

    /// Write some of `bytes`; those that were not written must be the first ones of the next call. Call it when
    /// poll(2) says that the descriptor takes some. `WouldBlock` when it takes none.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Way::NoWait = self.way {
            match write_nowait(self.fd, bytes) {
                Err(error) if is_unknown(&error) => self.way = Way::Moving(Moving::new()?),
                written => return written,
            }
        }
        match &mut self.way {
            Way::Moving(moving) if moving.held > 0 || bytes.len() >= MUCH_BYTES => {
                moving.write(self.fd, bytes)
            }
            _ => write(self.fd, &bytes[..bytes.len().min(libc::PIPE_BUF)]),
        }
    }

    /// Whether more may be written before poll(2) is asked again.
    pub fn never_waits(&self) -> bool {
        matches!(self.way, Way::NoWait)
    }
}

/// A pipe of our own. `held` bytes are in it: the first of those that are to be written.
struct Moving {
    reader: OwnedFd,
    writer: OwnedFd,
    held: usize,
}

impl Moving {
    fn new() -> io::Result<Moving> {
        let mut ends = [0; 2];
        // SAFETY: the system writes two descriptors, or fails.
        let status = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) };
        if status != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: they were made just now, and nobody else has them.
        let [reader, writer] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Moving {
            reader,
            writer,
            held: 0,
        })
    }

    fn write(&mut self, fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
        if self.held == 0 {
            self.held = write(self.writer.as_raw_fd(), bytes)?;
        }
        let (from, flags) = (self.reader.as_raw_fd(), libc::SPLICE_F_NONBLOCK);
        // SAFETY: no offsets are given, as pipes have none.
        let moved = unsafe { libc::splice(from, null_mut(), fd, null_mut(), self.held, flags) };
        let moved = counted(moved)?;
        self.held -= moved;
        Ok(moved)
    }
}

fn is_pipe(fd: RawFd) -> bool {
    // SAFETY: fstat fills the struct of a descriptor or fails.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        libc::fstat(fd, &mut stat) == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFIFO
    }
}

fn write_nowait(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: the system reads at most `bytes.len()` bytes from `bytes`.
    counted(unsafe { libc::pwritev2(fd, &part, 1, -1, libc::RWF_NOWAIT) })
}

fn is_unknown(error: &io::Error) -> bool {
    let unknown = [libc::EOPNOTSUPP, libc::ENOSYS, libc::EINVAL];
    error
        .raw_os_error()
        .is_some_and(|code| unknown.contains(&code))
}

fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: as above.
    counted(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) })
}

fn counted(count: isize) -> io::Result<usize> {
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn takes_some(fd: RawFd) -> bool {
        let mut asked = libc::pollfd {
            fd,
            events: libc::POLLOUT,
            revents: 0,
        };
        // SAFETY: `asked` outlives the call, which is told that it is one.
        unsafe { libc::poll(&mut asked, 1, 0) == 1 }
    }

    #[test]
    fn much_goes_through_a_pipe_that_takes_a_part_of_it_at_a_time() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut moving = Writer {
            fd: writer.as_raw_fd(),
            way: Way::Moving(Moving::new().unwrap()),
        };
        let sent: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        let (mut start, mut partly, mut received) = (0, 0, Vec::new());
        while start < sent.len() {
            if takes_some(moving.fd) {
                start += moving.write(&sent[start..]).unwrap();
                partly += u32::from(matches!(&moving.way, Way::Moving(one) if one.held > 0));
            } else {
                let mut part = [0; 20_000];
                let count = reader.read(&mut part).unwrap();
                received.extend_from_slice(&part[..count]);
            }
        }
        drop(writer);
        reader.read_to_end(&mut received).unwrap();
        assert!(received == sent && partly > 0);
    }

    #[test]
    fn a_full_pipe_is_not_waited_for() {
        let (_reader, writer) = io::pipe().unwrap();
        let mut moving = Writer {
            fd: writer.as_raw_fd(),
            way: Way::Moving(Moving::new().unwrap()),
        };
        let much = vec![b'x'; 1 << 20];
        let mut start = 0;
        let error = loop {
            match moving.write(&much[start..]) {
                Ok(count) => start += count,
                Err(error) => break error,
            }
        };
        assert!(error.kind() == io::ErrorKind::WouldBlock && start > 0);
    }
}
