//! Giving up identity and capabilities for good, and reading back that they are gone (capabilities(7)).

use std::fs;

use crate::failure::{At, Failure, Result};
use crate::sys;

const WALL: &str = "identity";

/// Capability sets of /proc/self/status in the order of proc_pid_status(5).
pub const CAPABILITY_SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

/// Become `uid` and `gid` with no further group and no capability in any set. Irreversible.
pub fn drop_all(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    if uid == 0 || gid == 0 {
        return Err(Failure::new(
            WALL,
            "uid 0 and gid 0 are never given to a confined process",
        ));
    }
    sys::prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong,
    )
    .at(WALL, "cannot clear the ambient set")?;
    empty_bounding_set()?;
    // SAFETY: the pointer and length are of one slice.
    sys::check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }).at(WALL, "setgroups")?;
    // SAFETY: integers only.
    sys::check(unsafe { libc::setresgid(gid, gid, gid) }).at(WALL, "setresgid")?;
    // SAFETY: integers only.
    sys::check(unsafe { libc::setresuid(uid, uid, uid) }).at(WALL, "setresuid")?;
    empty_inheritable_set()?;
    read_back(uid, gid, groups)
}

fn empty_bounding_set() -> Result<()> {
    for capability in 0..64 {
        match sys::prctl(libc::PR_CAPBSET_READ, capability) {
            Err(_) => return Ok(()), // past the last capability that this kernel knows
            Ok(0) => {}
            Ok(_) => {
                sys::prctl(libc::PR_CAPBSET_DROP, capability).at(
                    WALL,
                    format_args!("cannot drop capability {capability} from the bounding set"),
                )?;
            }
        }
    }
    Ok(())
}

fn empty_inheritable_set() -> Result<()> {
    // struct __user_cap_header_struct and two __user_cap_data_struct of linux/capability.h, version 3.
    let header: [u32; 2] = [0x2008_0522, 0];
    let data = [0_u32; 6];
    // SAFETY: both arrays have the layout and size that version 3 asks for.
    sys::check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) })
        .at(WALL, "capset")
        .map(drop)
}

fn read_back(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    let status =
        fs::read_to_string("/proc/self/status").at(WALL, "cannot read /proc/self/status")?;
    let four = |id: u32| format!("{id}\t{id}\t{id}\t{id}");
    let mut expected = vec![("Uid", four(uid)), ("Gid", four(gid))];
    expected.extend(CAPABILITY_SETS.map(|set| (set, "0".repeat(16))));
    for (name, value) in expected {
        let found = status_field(&status, name);
        if found != Some(value.as_str()) {
            return Err(Failure::new(
                WALL,
                format!("{name} is {found:?} after the drop, not {value:?}"),
            ));
        }
    }
    let mut found: Vec<u32> = status_field(&status, "Groups")
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|text| text.parse().ok())
        .collect();
    let mut wanted = groups.to_vec();
    found.sort_unstable();
    wanted.sort_unstable();
    if found != wanted {
        return Err(Failure::new(
            WALL,
            format!("the groups are {found:?} after the drop, not {wanted:?}"),
        ));
    }
    Ok(())
}

/// One field of /proc/PID/status, trimmed.
pub fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_never_given() {
        assert!(drop_all(0, 5, &[]).is_err());
        assert!(drop_all(5, 0, &[]).is_err());
    }

    #[test]
    fn status_fields_are_whole_names() {
        let status = "Uid:\t1\t1\t1\t1\nGroups:\t\nCapEff:\t00\n";
        assert_eq!(status_field(status, "Uid"), Some("1\t1\t1\t1"));
        assert_eq!(status_field(status, "Groups"), Some(""));
        assert_eq!(status_field(status, "Cap"), None);
    }
}
