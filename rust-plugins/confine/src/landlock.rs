//! Landlock: the second layer over the mounts (landlock(7), linux/landlock.h).
//!
//! Reads where the view is read-only, execution only where the plan says so, no execution from anything that the
//! program can write, TCP to the listed ports alone, no signal and no abstract socket across the boundary. Layers that this kernel
//! does not know are left out; any rule that fails is fatal.

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use crate::failure::{At, Result};
use crate::sys;

const WALL: &str = "landlock";

// linux/landlock.h; the ABI that brought each is in the kernel's userspace-api/landlock.rst.
const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_BLOCK: u64 = 1 << 11;
const MAKE_SYM: u64 = 1 << 12;
const ALL_OF_ABI_1: u64 = (1 << 13) - 1;
const REFER: u64 = 1 << 13; // ABI 2
const TRUNCATE: u64 = 1 << 14; // ABI 3
const IOCTL_DEV: u64 = 1 << 15; // ABI 5
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
const BIND_TCP: u64 = 1 << 0; // ABI 4
const CONNECT_TCP: u64 = 1 << 1; // ABI 4
const SCOPED: u64 = 0b11; // abstract sockets and signals, ABI 6
const CREATE_RULESET_VERSION: libc::c_uint = 1;
const RULE_PATH_BENEATH: libc::c_uint = 1;
const RULE_NET_PORT: libc::c_uint = 2;
const ABI_OF_TCP: u32 = 4;

#[repr(C)]
struct RulesetAttribute {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneathAttribute {
    allowed_access: u64,
    parent_fd: i32,
}

#[repr(C)]
struct NetPortAttribute {
    allowed_access: u64,
    port: u64,
}

/// Which TCP sockets the program may use. Their namespace is the wall; ports are no more than a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tcp {
    /// Connect to these ports, ranges with both ends; bind none.
    Connect(Vec<(u16, u16)>),
    /// Bind and connect: the program's own loopback, or the broker, who decides by address.
    Any,
}

impl Default for Tcp {
    fn default() -> Self {
        Self::Connect(Vec::new())
    }
}

/// What the program may do beneath a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    List,
    Read,
    Execute,
    Write,
    /// Write files and folders that somebody else reads: no links, which would lead him elsewhere, and nothing that he would wait for.
    Exchange,
    Device,
}

impl Access {
    pub fn parse(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"list" => Self::List,
            b"read" => Self::Read,
            b"execute" => Self::Execute,
            b"write" => Self::Write,
            b"exchange" => Self::Exchange,
            b"device" => Self::Device,
            _ => return None,
        })
    }

    fn rights(self) -> u64 {
        match self {
            Self::List => READ_DIR,
            Self::Read => READ_FILE | READ_DIR,
            Self::Execute => READ_FILE | READ_DIR | EXECUTE,
            Self::Write => (ALL_OF_ABI_1 | REFER | TRUNCATE) & !(EXECUTE | MAKE_CHAR | MAKE_BLOCK),
            Self::Exchange => Self::Write.rights() & !(MAKE_SYM | MAKE_FIFO | MAKE_SOCK),
            Self::Device => READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | IOCTL_DEV,
        }
    }
}

/// The ABI of this kernel; 0 where Landlock is not built in or is switched off.
pub fn abi() -> Result<u32> {
    // SAFETY: asks for the version; the attribute is null and of size 0 as the kernel demands.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    match sys::check(answer) {
        Ok(version) => Ok(u32::try_from(version).unwrap_or(0)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP)) => {
            Ok(0)
        }
        Err(error) => Err(error).at(WALL, "cannot ask for the version"),
    }
}

/// Restrict this process and all that it will start. Returns the ABI in force, 0 for none.
pub fn restrict(rules: &[(Access, Vec<u8>)], tcp: &Tcp) -> Result<u32> {
    let abi = abi()?;
    if abi == 0 {
        return Ok(0);
    }
    let handled = handled_rights(abi);
    let ruleset = create_ruleset(abi, handled, tcp).at(WALL, "landlock_create_ruleset")?;
    for (access, path) in rules {
        add_rule(&ruleset, access.rights() & handled, path).at(
            WALL,
            format_args!(
                "cannot allow {access:?} beneath {}",
                String::from_utf8_lossy(path)
            ),
        )?;
    }
    if let Tcp::Connect(ranges) = tcp
        && abi >= ABI_OF_TCP
    {
        for port in ranges.iter().flat_map(|(first, last)| *first..=*last) {
            allow_port(&ruleset, port).at(WALL, format_args!("cannot allow TCP port {port}"))?;
        }
    }
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).at(WALL, "PR_SET_NO_NEW_PRIVS")?;
    // SAFETY: a valid ruleset descriptor and no flags.
    sys::check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) })
        .at(WALL, "landlock_restrict_self")?;
    Ok(abi)
}

fn handled_rights(abi: u32) -> u64 {
    let mut rights = ALL_OF_ABI_1;
    for (since, right) in [(2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)] {
        if abi >= since {
            rights |= right;
        }
    }
    rights
}

fn create_ruleset(abi: u32, handled: u64, tcp: &Tcp) -> io::Result<OwnedFd> {
    let attribute = RulesetAttribute {
        handled_access_fs: handled,
        handled_access_net: match tcp {
            Tcp::Connect(_) => BIND_TCP | CONNECT_TCP,
            Tcp::Any => 0,
        },
        scoped: SCOPED,
    };
    // An older kernel refuses a structure that is longer than its own and not zero at the end.
    let size = match abi {
        ..ABI_OF_TCP => mem::offset_of!(RulesetAttribute, handled_access_net),
        ABI_OF_TCP..6 => mem::offset_of!(RulesetAttribute, scoped),
        _ => mem::size_of::<RulesetAttribute>(),
    };
    // SAFETY: the pointer is valid for `size` bytes.
    let fd = sys::check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attribute,
            size,
            0,
        )
    })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn add_rule(ruleset: &OwnedFd, rights: u64, path: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let beneath = File::options()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(std::ffi::OsStr::from_bytes(path))?;
    // A right of folders on a file is EINVAL.
    let rights = if sys::is_directory(beneath.as_fd())? {
        rights
    } else {
        rights & OF_FILES
    };
    let attribute = PathBeneathAttribute {
        allowed_access: rights,
        parent_fd: beneath.as_raw_fd(),
    };
    add(ruleset, RULE_PATH_BENEATH, (&raw const attribute).cast())
}

fn allow_port(ruleset: &OwnedFd, port: u16) -> io::Result<()> {
    let attribute = NetPortAttribute {
        allowed_access: CONNECT_TCP,
        port: port.into(),
    };
    add(ruleset, RULE_NET_PORT, (&raw const attribute).cast())
}

fn add(ruleset: &OwnedFd, kind: libc::c_uint, attribute: *const libc::c_void) -> io::Result<()> {
    // SAFETY: a valid ruleset and, by both callers, a valid attribute of the type that the rule kind names.
    sys::check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            kind,
            attribute,
            0,
        )
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_writable_is_executable() {
        for access in [
            Access::Write,
            Access::Exchange,
            Access::Device,
            Access::Read,
            Access::List,
        ] {
            assert_eq!(access.rights() & EXECUTE, 0, "{access:?}");
        }
    }

    #[test]
    fn only_files_and_folders_are_exchanged() {
        let made = MAKE_CHAR | MAKE_BLOCK | MAKE_SOCK | MAKE_FIFO | MAKE_SYM;
        assert_eq!(Access::Exchange.rights() & made, 0);
        assert_eq!(Access::Write.rights() & MAKE_SYM, MAKE_SYM);
    }

    #[test]
    fn rights_follow_the_abi() {
        assert_eq!(handled_rights(1), ALL_OF_ABI_1);
        assert_eq!(handled_rights(2) & TRUNCATE, 0);
        assert_eq!(handled_rights(7), 0xffff);
    }
}
