//! The way into stage 2 as the entry point of a container: what it works with comes over a socket that was bound into the container.
//!
//! One message (SOCK_SEQPACKET) holds the numbers that the descriptors with it get here, in order, as text: first the plan, then
//! the seccomp filter, then the rest. So nothing of a container engine lies between a program and whoever reads it, and the filter
//! is the very one of every other confined process.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::failure::{At, Failure, Result};
use crate::{stage2, sys};

const WALL: &str = "descriptors";
/// Plan, filter, report, control and four streams, with room to grow.
const MAX_DESCRIPTORS: usize = 16;
const MAX_MESSAGE_BYTES: usize = 256;
/// Above every number that is asked for, so that none is overwritten before it has its place.
const PARKED: RawFd = 1024;
/// BPF_MAXINSNS of eight bytes each.
const MAX_FILTER_BYTES: u64 = 4096 * 8;

/// Take the descriptors, put up the filter, and be stage 2. Returns only with the failure.
pub fn run(path: &str) -> Result<Infallible> {
    sys::prctl(libc::PR_SET_DUMPABLE, 0).at("identity", "PR_SET_DUMPABLE")?;
    let mut received = receive(&connect(path)?)?;
    for (number, fd) in &received {
        // SAFETY: a descriptor that is ours; the number is nobody's, for nothing else is open yet.
        sys::check(unsafe { libc::dup2(fd.as_raw_fd(), *number) }).at(WALL, "dup2")?;
    }
    if received.len() < 2 {
        return Err(Failure::new(WALL, "neither a plan nor a filter came"));
    }
    let (_, filter) = received.remove(1);
    put_up(File::from(filter))?;
    let plan = received[0].0;
    drop(received); // stage 2 closes whatever its plan does not list
    stage2::run(plan)
}

fn connect(path: &str) -> Result<OwnedFd> {
    // SAFETY: integers only.
    let fd = sys::check(unsafe {
        libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0)
    })
    .at(WALL, "socket")?;
    // SAFETY: the kernel has just made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: sockaddr_un is plain data; all zero is valid.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let name = CString::new(path).map_err(|_| Failure::new(WALL, "the path holds a NUL"))?;
    let bytes = name.as_bytes_with_nul();
    if bytes.len() > address.sun_path.len() {
        return Err(Failure::new(WALL, "the path of the socket is too long"));
    }
    for (place, byte) in address.sun_path.iter_mut().zip(bytes) {
        *place = *byte as libc::c_char;
    }
    // SAFETY: a valid address of its own size.
    sys::check(unsafe {
        libc::connect(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            mem::size_of::<libc::sockaddr_un>() as libc::socklen_t,
        )
    })
    .at(WALL, format_args!("cannot connect to {path}"))?;
    Ok(socket)
}

/// The one message: each descriptor, parked, with the number that it is to have.
fn receive(socket: &OwnedFd) -> Result<Vec<(RawFd, OwnedFd)>> {
    let mut text = [0_u8; MAX_MESSAGE_BYTES];
    // u64, for the alignment of cmsghdr.
    let mut control = [0_u64; 32];
    let mut data = libc::iovec {
        iov_base: text.as_mut_ptr().cast(),
        iov_len: text.len(),
    };
    // SAFETY: msghdr is plain data; all zero is valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control);
    // SAFETY: every pointer is to a buffer of the size that stands beside it.
    let length = sys::check(unsafe {
        libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC)
    })
    .at(WALL, "cannot receive")?;
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled the control buffer; CMSG_FIRSTHDR and CMSG_NXTHDR stay within it.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while let Some(found) = header.as_ref() {
            if found.cmsg_level == libc::SOL_SOCKET && found.cmsg_type == libc::SCM_RIGHTS {
                let bytes = found.cmsg_len - libc::CMSG_LEN(0) as usize;
                let first = libc::CMSG_DATA(header).cast::<RawFd>();
                for index in 0..bytes / mem::size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(first.add(index).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    if message.msg_flags & (libc::MSG_CTRUNC | libc::MSG_TRUNC) != 0 {
        return Err(Failure::new(WALL, "more came than there is room for"));
    }
    let length = usize::try_from(length).unwrap_or(0);
    let numbers = numbers(&text[..length])?;
    if numbers.len() != fds.len() {
        return Err(Failure::new(
            WALL,
            format!(
                "{} numbers came with {} descriptors",
                numbers.len(),
                fds.len()
            ),
        ));
    }
    let parked: Result<Vec<OwnedFd>> = fds.into_iter().map(park).collect();
    Ok(numbers.into_iter().zip(parked?).collect())
}

fn numbers(text: &[u8]) -> Result<Vec<RawFd>> {
    let refused = || {
        Failure::new(
            WALL,
            format!("{:?} are no numbers", String::from_utf8_lossy(text)),
        )
    };
    let text = std::str::from_utf8(text).map_err(|_| refused())?;
    let mut numbers = Vec::new();
    for word in text.split_whitespace() {
        let number: RawFd = word.parse().map_err(|_| refused())?;
        if !(0..PARKED).contains(&number) || numbers.contains(&number) {
            return Err(refused());
        }
        numbers.push(number);
    }
    if numbers.len() > MAX_DESCRIPTORS {
        return Err(refused());
    }
    Ok(numbers)
}

fn park(fd: OwnedFd) -> Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer.
    let parked = sys::check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, PARKED) })
        .at(WALL, "F_DUPFD_CLOEXEC")?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(parked) })
}

/// Put up the filter over this process and all that it starts (seccomp(2)).
fn put_up(filter: File) -> Result<()> {
    let mut bytes = Vec::new();
    filter
        .take(MAX_FILTER_BYTES + 1)
        .read_to_end(&mut bytes)
        .at("seccomp", "cannot read the filter")?;
    let size = mem::size_of::<libc::sock_filter>();
    if bytes.is_empty() || bytes.len() % size != 0 || bytes.len() as u64 > MAX_FILTER_BYTES {
        return Err(Failure::new("seccomp", "what came is no filter"));
    }
    let mut instructions: Vec<libc::sock_filter> = bytes
        .chunks_exact(size)
        .map(|raw| libc::sock_filter {
            code: u16::from_ne_bytes([raw[0], raw[1]]),
            jt: raw[2],
            jf: raw[3],
            k: u32::from_ne_bytes([raw[4], raw[5], raw[6], raw[7]]),
        })
        .collect();
    let program = libc::sock_fprog {
        len: instructions.len() as libc::c_ushort,
        filter: instructions.as_mut_ptr(),
    };
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).at("seccomp", "PR_SET_NO_NEW_PRIVS")?;
    // SAFETY: the program and its instructions live through the call.
    sys::check(unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER as libc::c_ulong,
            &raw const program,
        )
    })
    .at("seccomp", "prctl(PR_SET_SECCOMP)")
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_few_small_and_different() {
        assert_eq!(numbers(b"10 2 0").unwrap(), [10, 2, 0]);
        for bad in ["-1", "1024", "3 3", "x", "4294967296"] {
            assert!(numbers(bad.as_bytes()).is_err(), "{bad}");
        }
        let many: Vec<String> = (0..17).map(|number: i32| number.to_string()).collect();
        assert!(numbers(many.join(" ").as_bytes()).is_err());
        assert!(numbers(b"\xff").is_err());
    }

    #[test]
    fn a_socket_that_is_not_there_is_named() {
        let failure = connect("/nonexistent/socket").err().unwrap();
        assert!(failure.to_string().contains("/nonexistent/socket"));
        assert!(connect(&"x".repeat(200)).is_err());
    }
}
