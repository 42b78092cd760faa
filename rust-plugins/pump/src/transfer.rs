//! One pair: read what `from` gives, write it to `to`, until one of them ends.
//!
//! Where `from` is a pipe, splice(2) moves pages instead of copying them. A file is read: its pages stay out of a pipe that a
//! jailed command holds. Every wait is a poll(2) of both ends, so that a reader that goes away is noticed while nothing
//! comes.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::escape::Escape;

/// The most that one splice moves: the size that the kernel gives these pipes.
const PIPE_BYTES: usize = 1 << 20;
const COPY_BYTES: usize = 256 << 10;

/// How a pair ended. `bytes` is what was taken from `from` and written.
pub struct Ended {
    pub bytes: u64,
    pub end: &'static str,
    pub message: Option<String>,
}

enum End {
    /// `from` has no more.
    Eof,
    /// Nobody reads `to` any more.
    Closed,
    /// This way of moving does not work on these two; nothing is lost.
    Unsupported,
}

/// Move everything. The caller closes both descriptors then, so that EOF and SIGPIPE go on.
pub fn carry(from: &OwnedFd, to: &OwnedFd, escape: bool) -> Ended {
    let mut bytes = 0;
    let moved = if is_fifo(from) && !escape {
        splice_all(from, to, &mut bytes)
    } else {
        Ok(End::Unsupported)
    };
    let outcome = match moved {
        Ok(End::Unsupported) => copy_all(from, to, escape, &mut bytes),
        other => other,
    };
    let (end, message) = match outcome {
        Ok(End::Closed) => ("closed", None),
        Ok(_) => ("eof", None),
        Err(error) => ("error", Some(error.to_string())),
    };
    Ended {
        bytes,
        end,
        message,
    }
}

fn is_fifo(fd: &OwnedFd) -> bool {
    // SAFETY: stat is plain data; fstat gets a valid descriptor and pointer.
    unsafe {
        let mut stat: libc::stat = mem::zeroed();
        libc::fstat(fd.as_raw_fd(), &raw mut stat) == 0
            && stat.st_mode & libc::S_IFMT == libc::S_IFIFO
    }
}

fn splice_all(from: &OwnedFd, to: &OwnedFd, bytes: &mut u64) -> io::Result<End> {
    // Whether the last wait was for input: when nothing moved after it, `to` is full.
    let mut has_input = false;
    loop {
        // SAFETY: two valid descriptors and no offsets. SPLICE_F_NONBLOCK is of this call alone, not of the description.
        let moved = unsafe {
            libc::splice(
                from.as_raw_fd(),
                std::ptr::null_mut(),
                to.as_raw_fd(),
                std::ptr::null_mut(),
                PIPE_BYTES,
                libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK,
            )
        };
        match moved {
            0 => return Ok(End::Eof),
            1.. => {
                *bytes += moved as u64;
                has_input = false;
            }
            _ => match io::Error::last_os_error() {
                error if error.kind() == ErrorKind::Interrupted => {}
                error if error.kind() == ErrorKind::WouldBlock => {
                    let open = if has_input {
                        wait_for_room(to)?
                    } else {
                        wait_for_input(from, to)?
                    };
                    if !open {
                        return Ok(End::Closed);
                    }
                    has_input = !has_input;
                }
                error if error.kind() == ErrorKind::BrokenPipe => return Ok(End::Closed),
                // A file opened for appending, or a device that only takes write(2).
                error if error.raw_os_error() == Some(libc::EINVAL) => return Ok(End::Unsupported),
                error => return Err(error),
            },
        }
    }
}

fn copy_all(from: &OwnedFd, to: &OwnedFd, escape: bool, bytes: &mut u64) -> io::Result<End> {
    use std::io::{Read, Write};
    let (mut source, mut sink) = (File::from(from.try_clone()?), File::from(to.try_clone()?));
    let mut escape = escape.then(Escape::default);
    let mut buffer = vec![0; COPY_BYTES];
    let mut shown = Vec::new();
    loop {
        if !wait_for_input(from, to)? {
            return Ok(End::Closed);
        }
        let count = match source.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let mut rest = match &mut escape {
            None => &buffer[..count],
            Some(escape) => {
                shown.clear();
                escape.feed(&buffer[..count], &mut shown);
                if count == 0 {
                    escape.finish(&mut shown);
                }
                shown.as_slice()
            }
        };
        while !rest.is_empty() {
            match sink.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The user's own description may be non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait_for_room(to)?;
                }
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(End::Closed),
                Err(error) => return Err(error),
            }
        }
        if count == 0 {
            return Ok(End::Eof);
        }
        *bytes += count as u64;
    }
}

/// Wait until `to` takes more; false when nobody reads it any more.
fn wait_for_room(to: &OwnedFd) -> io::Result<bool> {
    let mut room = [waiting(to.as_raw_fd(), libc::POLLOUT)];
    poll(&mut room)?;
    Ok(room[0].revents & libc::POLLERR == 0)
}

/// Wait until there is something to read, or an end of it; false when nobody reads `to` any more.
fn wait_for_input(from: &OwnedFd, to: &OwnedFd) -> io::Result<bool> {
    // POLLERR is always told: of the write end of a pipe it means that the read end is closed (poll(2)).
    let mut both = [
        waiting(from.as_raw_fd(), libc::POLLIN),
        waiting(to.as_raw_fd(), 0),
    ];
    poll(&mut both)?;
    if both[0].revents & libc::POLLNVAL != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    Ok(both[1].revents & libc::POLLERR == 0)
}

fn waiting(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd {
        fd,
        events,
        revents: 0,
    }
}

/// poll(2) without a limit of time.
fn poll(fds: &mut [libc::pollfd]) -> io::Result<()> {
    loop {
        // SAFETY: pointer and length are of one slice.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) };
        if ready >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, PipeWriter, Read, Seek, Write, pipe};
    use std::thread;

    fn moved(source: OwnedFd, sink: OwnedFd, escape: bool) -> Ended {
        carry(&source, &sink, escape)
    }

    fn through(text: &[u8], escape: bool) -> (Vec<u8>, Ended) {
        let (source, mut feed): (PipeReader, PipeWriter) = pipe().unwrap();
        let (mut taken, sink) = pipe().unwrap();
        let pump = thread::spawn(move || moved(source.into(), sink.into(), escape));
        let reader = thread::spawn(move || {
            let mut out = Vec::new();
            taken.read_to_end(&mut out).unwrap();
            out
        });
        feed.write_all(text).unwrap();
        drop(feed);
        (reader.join().unwrap(), pump.join().unwrap())
    }

    #[test]
    fn everything_arrives_and_is_counted() {
        let text: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let (out, ended) = through(&text, false);
        assert!(out == text);
        assert_eq!((ended.bytes, ended.end), (3_000_000, "eof"));
    }

    #[test]
    fn escapes_when_asked() {
        assert_eq!(through(b"a\x1b[31mb\n", true).0, b"a\\x1b[31mb\n");
        assert_eq!(through(b"a\x1b[31mb\n", false).0, b"a\x1b[31mb\n");
        assert_eq!(through(b"cut \xe2\x80", true).0, b"cut \\xe2\\x80");
    }

    #[test]
    fn a_reader_that_leaves_is_noticed_while_nothing_comes() {
        let (source, feed) = pipe().unwrap();
        let (taken, sink) = pipe().unwrap();
        let pump = thread::spawn(move || moved(source.into(), sink.into(), false));
        drop(taken);
        assert_eq!(pump.join().unwrap().end, "closed");
        drop(feed);
    }

    #[test]
    fn files_are_read_and_appended_to() {
        let path = std::env::temp_dir().join(format!("dativo-pump-{}", std::process::id()));
        std::fs::write(&path, b"first ").unwrap();
        let appending = File::options().append(true).open(&path).unwrap();
        let (source, mut feed) = pipe().unwrap();
        feed.write_all(b"second").unwrap();
        drop(feed);
        let ended = moved(source.into(), appending.into(), false);
        assert_eq!((ended.bytes, ended.end), (6, "eof"));
        let mut file = File::open(&path).unwrap();
        let (mut taken, sink) = pipe().unwrap();
        file.seek(io::SeekFrom::Start(3)).unwrap();
        assert_eq!(moved(file.into(), sink.into(), false).end, "eof");
        let mut out = String::new();
        taken.read_to_string(&mut out).unwrap();
        assert_eq!(out, "st second");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let folder = File::open("/").unwrap();
        let (_taken, sink) = pipe().unwrap();
        let ended = moved(folder.into(), sink.into(), false);
        assert_eq!((ended.bytes, ended.end), (0, "error"));
        assert!(ended.message.unwrap().contains("directory"));
    }
}
