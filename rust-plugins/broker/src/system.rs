//! The system calls that neither std nor tokio has.

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The most descriptors that one message carries (SCM_MAX_FD is 253).
pub const MAX_DESCRIPTORS: usize = 250;

/// The descriptor that was handed to this process as its stdin.
pub fn stdin() -> OwnedFd {
    // SAFETY: nothing else in this process uses descriptor 0; one that is not open fails at its first use.
    unsafe { OwnedFd::from_raw_fd(libc::STDIN_FILENO) }
}

/// `descriptor`, to be waited for.
pub fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, and the same, as long as it lives; it lives in what is returned.
    unsafe { AsyncFd::register_with_interest(descriptor, interest) }.map_err(io::Error::from)
}

/// Another descriptor of the socket `descriptor`.
pub fn duplicate(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: it is not kept; one that is not open is an error.
    unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned()
}

/// recvmsg(2) of one packet and the descriptors with it, without blocking. No bytes: the other end is closed. What does not fit is
/// an error, InvalidData.
pub fn receive(socket: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    // Aligned for cmsghdr by its type.
    const CONTROL_WORDS: usize =
        16 + MAX_DESCRIPTORS * mem::size_of::<RawFd>() / mem::size_of::<u64>() + 1;
    let mut control = [0_u64; CONTROL_WORDS];
    let mut part = libc::iovec {
        iov_base: room.as_mut_ptr().cast(),
        iov_len: room.len(),
    };
    // SAFETY: all zeros is a msghdr that names nothing.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control) as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `message` names `room` and `control` with their sizes; both outlive the call.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, flags) };
    if count < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has filled `control` up to msg_controllen; the macros stay within it.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let first = libc::CMSG_DATA(header).cast::<RawFd>();
                for index in 0..bytes / mem::size_of::<RawFd>() {
                    descriptors.push(OwnedFd::from_raw_fd(first.add(index).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&message, header);
        }
    }
    if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a packet that is too long, or with more descriptors than may be open",
        ));
    }
    Ok((count as usize, descriptors))
}

/// getrandom(2): a number that nobody can foresee.
pub fn random() -> io::Result<u16> {
    let mut bytes = [0; 2];
    // SAFETY: the kernel writes at most the two bytes.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if count == 2 {
        Ok(u16::from_ne_bytes(bytes))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// setrlimit(2): as many open files as may be. A connection has two.
pub fn raise_open_files() -> io::Result<()> {
    // SAFETY: rlimit is plain data; the pointers are valid.
    unsafe {
        let mut limit: libc::rlimit = MaybeUninit::zeroed().assume_init();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) < 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
