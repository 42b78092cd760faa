//! The control socket: `hello`, one `open` with descriptors, one `pumped` a pair (docs/spec/events.md).

use std::io::{self, Write};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use crate::transfer::Ended;

pub const PROTOCOL: &str = "1.0";
/// Where the kernel puts the control socket.
const CONTROL_FD: RawFd = 3;
const MAX_PAIRS: usize = 3;
const MAX_OPEN_BYTES: usize = 4096;
const MAX_MESSAGE_CHARS: usize = 1000;

/// One direction: everything that can be read of `from` goes to `to`.
pub struct Pair {
    pub name: String,
    pub escape: bool,
    pub from: OwnedFd,
    pub to: OwnedFd,
}

#[derive(Deserialize)]
struct Open {
    #[serde(rename = "type")]
    kind: String,
    pairs: Vec<OpenPair>,
}

#[derive(Deserialize)]
struct OpenPair {
    name: String,
    escape: bool,
}

#[derive(Serialize)]
struct Hello<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    protocol: &'a str,
    program: &'a str,
    version: &'a str,
    features: [&'a str; 0],
}

#[derive(Serialize)]
struct Pumped<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    name: &'a str,
    bytes: u64,
    end: &'a str,
    message: Option<String>,
}

#[derive(Serialize)]
struct Failure<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    input: &'a str,
    code: &'a str,
    blame: &'a str,
    message: &'a str,
}

pub struct Control(UnixStream);

impl Control {
    /// The control socket, if descriptor 3 is one.
    pub fn inherited() -> Option<Control> {
        // SAFETY: fstat fills the struct of a descriptor or fails; nothing else in this process owns descriptor 3.
        let is_socket = unsafe {
            let mut stat: libc::stat = mem::zeroed();
            libc::fstat(CONTROL_FD, &raw mut stat) == 0
                && stat.st_mode & libc::S_IFMT == libc::S_IFSOCK
        };
        // SAFETY: as above; it is open, as fstat succeeded.
        is_socket.then(|| {
            Control(UnixStream::from(unsafe {
                OwnedFd::from_raw_fd(CONTROL_FD)
            }))
        })
    }

    pub fn hello(&self, program: &str, version: &str) -> Result<(), String> {
        self.send(&Hello {
            kind: "hello",
            protocol: PROTOCOL,
            program,
            version,
            features: [],
        })
    }

    pub fn pumped(&self, name: &str, ended: &Ended) -> Result<(), String> {
        let message = ended
            .message
            .as_ref()
            .map(|text| text.chars().take(MAX_MESSAGE_CHARS).collect());
        self.send(&Pumped {
            kind: "pumped",
            name,
            bytes: ended.bytes,
            end: ended.end,
            message,
        })
    }

    /// Say why this process ends. A kernel that is gone cannot be told; the status says it too.
    pub fn give_up(&self, reason: &str) {
        let _ = self.send(&Failure {
            kind: "error",
            input: "0",
            code: "internal.control",
            blame: "dativo",
            message: reason,
        });
    }

    /// Wait for `open` and its descriptors; `None` when the kernel is gone.
    pub fn open(&mut self) -> Result<Option<Vec<Pair>>, String> {
        let mut line = Vec::new();
        let mut fds = Vec::new();
        while line.last() != Some(&b'\n') {
            match self.receive(&mut line, &mut fds)? {
                0 => return Ok(None),
                _ if line.len() > MAX_OPEN_BYTES => {
                    return Err(format!("open is longer than {MAX_OPEN_BYTES} bytes"));
                }
                _ => {}
            }
        }
        paired(&line, fds).map(Some)
    }

    /// Block until the kernel closes its end; it has nothing more to say.
    pub fn until_gone(&self) -> Result<(), String> {
        let (mut line, mut fds) = (Vec::new(), Vec::new());
        match self.receive(&mut line, &mut fds)? {
            0 => Ok(()),
            _ => Err("told something after open".to_owned()),
        }
    }

    fn send(&self, message: &impl Serialize) -> Result<(), String> {
        let mut line = serde_json::to_vec(message).map_err(|error| error.to_string())?;
        line.push(b'\n');
        // Rust's runtime ignores SIGPIPE.
        (&self.0)
            .write_all(&line)
            .map_err(|error| format!("cannot tell the kernel: {error}"))
    }

    /// recvmsg(2) once: bytes are added to `line`, descriptors, close-on-exec, to `fds`. Returns the number of bytes.
    fn receive(&self, line: &mut Vec<u8>, fds: &mut Vec<OwnedFd>) -> Result<usize, String> {
        const SPACE: usize =
            // SAFETY: computes a size.
            unsafe { libc::CMSG_SPACE((2 * MAX_PAIRS * size_of::<RawFd>()) as u32) } as usize;
        let mut bytes = [0_u8; MAX_OPEN_BYTES];
        // u64: control messages are aligned as their header is (cmsg(3)).
        let mut ancillary = [0_u64; SPACE.div_ceil(8)];
        let mut buffer = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: msghdr is plain data, all zero is valid.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut buffer;
        message.msg_iovlen = 1;
        message.msg_control = ancillary.as_mut_ptr().cast();
        message.msg_controllen = SPACE as _;
        let count = loop {
            // SAFETY: every pointer of the header is valid for the length beside it.
            let count = unsafe {
                libc::recvmsg(self.0.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC)
            };
            if count >= 0 {
                break count as usize;
            }
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error if error.kind() == io::ErrorKind::ConnectionReset => break 0,
                error => return Err(format!("cannot hear the kernel: {error}")),
            }
        };
        // SAFETY: the kernel has filled the header; each descriptor of SCM_RIGHTS is new and ours.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(&raw const message);
            while !header.is_null() {
                if (*header).cmsg_level == libc::SOL_SOCKET
                    && (*header).cmsg_type == libc::SCM_RIGHTS
                {
                    let length = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                    let data = libc::CMSG_DATA(header).cast::<RawFd>();
                    for at in 0..length / size_of::<RawFd>() {
                        fds.push(OwnedFd::from_raw_fd(data.add(at).read_unaligned()));
                    }
                }
                header = libc::CMSG_NXTHDR(&raw const message, header);
            }
        }
        if message.msg_flags & libc::MSG_CTRUNC != 0 {
            return Err(format!(
                "more than {} descriptors came with open",
                2 * MAX_PAIRS
            ));
        }
        line.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
}

fn paired(line: &[u8], fds: Vec<OwnedFd>) -> Result<Vec<Pair>, String> {
    let open: Open =
        serde_json::from_slice(line).map_err(|error| format!("cannot read open: {error}"))?;
    if open.kind != "open" {
        return Err(format!("expected open, got {:?}", open.kind));
    }
    if open.pairs.is_empty() || open.pairs.len() > MAX_PAIRS {
        return Err(format!("open has {} pairs", open.pairs.len()));
    }
    if fds.len() != 2 * open.pairs.len() {
        return Err(format!(
            "{} pairs came with {} descriptors",
            open.pairs.len(),
            fds.len()
        ));
    }
    let mut fds = fds.into_iter();
    let mut pairs = Vec::new();
    for OpenPair { name, escape } in open.pairs {
        let (Some(from), Some(to)) = (fds.next(), fds.next()) else {
            return Err("a pair without descriptors".to_owned());
        };
        pairs.push(Pair {
            name,
            escape,
            from,
            to,
        });
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn null() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn pairs_take_two_descriptors_each() {
        let line = br#"{"type":"open","pairs":[{"name":"stdin","escape":false}]}"#;
        let pairs = paired(line, vec![null(), null()]).unwrap();
        assert_eq!((pairs[0].name.as_str(), pairs[0].escape), ("stdin", false));
        assert!(paired(line, vec![null()]).is_err());
        assert!(paired(line, vec![null(), null(), null()]).is_err());
    }

    #[test]
    fn what_is_not_an_open_is_refused() {
        for line in [
            &b"{}"[..],
            b"not json",
            br#"{"type":"close","pairs":[]}"#,
            br#"{"type":"open","pairs":[]}"#,
        ] {
            assert!(paired(line, vec![]).is_err());
        }
    }
}
