//! System calls as `io::Result`, one function each.

use std::ffi::{CStr, CString};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::failure::{At, Failure, Result};

/// Turn -1 into the error of this thread.
pub fn check<T: PartialEq + From<i8>>(answer: T) -> io::Result<T> {
    if answer == T::from(-1) {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

/// A path or argument for the kernel. Plans are cut at NUL, so a NUL inside cannot occur.
pub fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

pub fn prctl(option: libc::c_int, argument: libc::c_ulong) -> io::Result<libc::c_int> {
    // SAFETY: the options used here take integers only.
    check(unsafe {
        libc::prctl(
            option,
            argument,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
        )
    })
}

/// Die when the launcher dies. The kernel forgets this at a change of credentials, so it comes after the drop.
pub fn die_with(parent: libc::pid_t) -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)
        .at("lifetime", "PR_SET_PDEATHSIG")?;
    // SAFETY: getppid cannot fail.
    if unsafe { libc::getppid() } != parent {
        return Err(Failure::new("lifetime", "the launcher has died"));
    }
    Ok(())
}

/// close_range(2). With `flags` 0 the descriptors are closed, with CLOSE_RANGE_CLOEXEC they end at the next exec.
pub fn close_range(first: u32, last: u32, flags: libc::c_uint) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: closes numbers only; the callers hold no owner of a descriptor in the range afterwards.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// Close every descriptor above 2 that is not listed.
pub fn close_others(kept: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept
        .iter()
        .filter_map(|fd| u32::try_from(*fd).ok())
        .filter(|fd| *fd > 2)
        .collect();
    kept.sort_unstable();
    let mut next = 3;
    for fd in kept {
        if fd > next {
            close_range(next, fd - 1, 0)?;
        }
        next = fd.max(next - 1) + 1;
    }
    close_range(next, u32::MAX, 0)
}

pub fn set_cloexec(fd: RawFd) -> io::Result<()> {
    // SAFETY: F_SETFD takes an integer.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

/// Open a path without following any symbolic link, for reference only (openat2(2)).
pub fn open_reference(path: &CStr) -> io::Result<OwnedFd> {
    open_path(libc::AT_FDCWD, path, 0)
}

/// The same, of a path that never leaves `folder`.
pub fn open_beneath(folder: BorrowedFd<'_>, path: &CStr) -> io::Result<OwnedFd> {
    open_path(folder.as_raw_fd(), path, libc::RESOLVE_BENEATH)
}

fn open_path(folder: RawFd, path: &CStr, resolve: u64) -> io::Result<OwnedFd> {
    // SAFETY: open_how is plain data; all zero is valid.
    let mut how: libc::open_how = unsafe { mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = resolve | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the pointers live through the call and the size is that of the structure.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            folder,
            path.as_ptr(),
            &raw const how,
            mem::size_of::<libc::open_how>(),
        )
    })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

pub fn is_directory(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(facts(fd)?.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// Whether two descriptors are of one file; of namespaces: whether it is the same one (namespaces(7)).
pub fn is_same_file(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<bool> {
    let (one, other) = (facts(one)?, facts(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

fn facts(fd: BorrowedFd<'_>) -> io::Result<libc::stat> {
    // SAFETY: stat is plain data, filled by fstat.
    let mut facts: libc::stat = unsafe { mem::zeroed() };
    // SAFETY: a valid descriptor and a valid pointer.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &raw mut facts) })?;
    Ok(facts)
}

/// Replace this process. Returns only with the error.
pub fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter()
            .map(|text| text.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (argv, envp) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}
