//! The private mount namespace of a launch: protected paths made read-only in place and, as root, every granted source
//! at a neutral path.
//!
//! After the drop a source below a 0700 home cannot be reached any more, so it is attached here first. The mount
//! is read-only or neither executable nor set-uid before anybody unprivileged can see it (mount_setattr(2)).

use std::ffi::CStr;
use std::fs::{self, File};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use crate::failure::{At, Failure, Result};
use crate::sys;

const WALL: &str = "mounts";
/// The folder holds mount points only.
const FOLDER_OPTIONS: &CStr = c"mode=0755,size=1m,nr_inodes=4096";

/// Leave the mount namespace of the host; as root.
pub fn enter() -> Result<()> {
    // SAFETY: an integer only; this process has one thread.
    sys::check(unsafe { libc::unshare(libc::CLONE_NEWNS) })
        .at(WALL, "unshare of the mount namespace")?;
    keep_private()
}

/// The same as a plain user, in a user namespace that knows this user alone, by the same number (user_namespaces(7)).
pub fn enter_as_user() -> Result<()> {
    // SAFETY: neither can fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    // SAFETY: integers only; this process has one thread.
    sys::check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) })
        .at(WALL, "unshare of the mount namespace")?;
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{uid} {uid} 1")),
        ("gid_map", format!("{gid} {gid} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), text).at(
            WALL,
            format_args!("cannot write {file} of stage 1's user namespace"),
        )?;
    }
    keep_private()
}

fn keep_private() -> Result<()> {
    let none = std::ptr::null();
    // SAFETY: all pointers are valid C strings or null where mount(2) ignores them.
    sys::check(unsafe {
        libc::mount(
            none,
            c"/".as_ptr(),
            none,
            libc::MS_REC | libc::MS_PRIVATE,
            none.cast(),
        )
    })
    .at(WALL, "cannot make the mounts private")
    .map(drop)
}

/// Cover `folder` with an empty tmpfs.
pub fn cover(folder: &[u8]) -> Result<()> {
    let target = sys::c_string(folder).at(WALL, "folder")?;
    // SAFETY: as above.
    sys::check(unsafe {
        libc::mount(
            c"tmpfs".as_ptr(),
            target.as_ptr(),
            c"tmpfs".as_ptr(),
            libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
            FOLDER_OPTIONS.as_ptr().cast(),
        )
    })
    .at(
        WALL,
        format_args!(
            "cannot mount a tmpfs on {}",
            String::from_utf8_lossy(folder)
        ),
    )
    .map(drop)
}

/// Make `path` below `root` read-only where it lies. Nothing is created, and no link is followed: the mount goes onto the very
/// file or folder that was opened (CVE-2026-87766 of bubblewrap is what a path would allow).
pub fn protect(root: &[u8], path: &[u8]) -> Result<()> {
    let shown = format!(
        "{}/{}",
        String::from_utf8_lossy(root),
        String::from_utf8_lossy(path)
    );
    let root = sys::c_string(root).at(WALL, &shown)?;
    let path = sys::c_string(path).at(WALL, &shown)?;
    let root = sys::open_reference(&root).at(WALL, format_args!("cannot open {shown}"))?;
    let target = sys::open_beneath(root.as_fd(), &path)
        .at(WALL, format_args!("cannot open {shown} to protect it"))?;
    let tree = clone_tree(target.as_raw_fd()).at(WALL, format_args!("open_tree of {shown}"))?;
    set_attributes(tree.as_raw_fd(), libc::MOUNT_ATTR_RDONLY)
        .at(WALL, format_args!("mount_setattr of {shown}"))?;
    // SAFETY: two valid descriptors and two empty C strings.
    sys::check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH,
        )
    })
    .at(WALL, format_args!("move_mount of {shown}"))
    .map(drop)
}

/// Attach `source`, with what is mounted below it, at `target`, which is made here.
pub fn attach(source: &[u8], target: &[u8], writable: bool) -> Result<()> {
    let shown = String::from_utf8_lossy(source).into_owned();
    let path = sys::c_string(source).at(WALL, &shown)?;
    let reference = sys::open_reference(&path).at(WALL, format_args!("cannot open {shown}"))?;
    let tree = clone_tree(reference.as_raw_fd()).at(WALL, format_args!("open_tree of {shown}"))?;
    let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    attributes |= if writable {
        libc::MOUNT_ATTR_NOEXEC
    } else {
        libc::MOUNT_ATTR_RDONLY
    };
    set_attributes(tree.as_raw_fd(), attributes)
        .at(WALL, format_args!("mount_setattr of {shown}"))?;
    let name =
        std::str::from_utf8(target).map_err(|_| Failure::new(WALL, "a neutral path is ASCII"))?;
    if sys::is_directory(reference.as_fd()).at(WALL, &shown)? {
        fs::create_dir(Path::new(name)).at(WALL, name)?;
    } else {
        File::create_new(name).at(WALL, name)?;
    }
    let target = sys::c_string(target).at(WALL, name)?;
    // SAFETY: two valid descriptors or AT_FDCWD, two valid C strings.
    sys::check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .at(WALL, format_args!("move_mount of {shown}"))
    .map(drop)
}

fn clone_tree(fd: RawFd) -> std::io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    let flags = flags | (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as libc::c_uint;
    // SAFETY: a valid descriptor and an empty C string.
    let tree = sys::check(unsafe { libc::syscall(libc::SYS_open_tree, fd, c"".as_ptr(), flags) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(tree as RawFd) })
}

fn set_attributes(fd: RawFd, attributes: u64) -> std::io::Result<()> {
    // SAFETY: mount_attr is plain data; all zero is valid.
    let mut wanted: libc::mount_attr = unsafe { mem::zeroed() };
    wanted.attr_set = attributes;
    // SAFETY: a valid descriptor, an empty C string, a structure of the given size.
    sys::check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const wanted,
            mem::size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}
