//! What stage 2 finds when it looks at itself, as one JSON object. The launcher compares it with what was asked.

use std::fs;
use std::mem;

use crate::failure::{At, Failure, Result};
use crate::privileges::{CAPABILITY_SETS, status_field};
use crate::sys;

const WALL: &str = "attestation";
const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

/// The limits that a plan may set, by the names of the plan (getrlimit(2)).
pub const LIMITS: [(&str, libc::__rlimit_resource_t); 5] = [
    ("core", libc::RLIMIT_CORE),
    ("data", libc::RLIMIT_DATA),
    ("fsize", libc::RLIMIT_FSIZE),
    ("nofile", libc::RLIMIT_NOFILE),
    ("nproc", libc::RLIMIT_NPROC),
];

/// Read every wall back. Called once all are up, with only the listed descriptors open.
pub fn attest(landlock_abi: u32) -> Result<String> {
    let status =
        fs::read_to_string("/proc/self/status").at(WALL, "cannot read /proc/self/status")?;
    let mut fields = vec![
        ("type", "\"attestation\"".to_owned()),
        ("version", quoted(env!("CARGO_PKG_VERSION"))),
        ("pid", std::process::id().to_string()),
        ("uids", numbers(&status, "Uid")?),
        ("gids", numbers(&status, "Gid")?),
        ("capabilities", capabilities(&status)?),
        ("no_new_privileges", number(&status, "NoNewPrivs")?),
        ("seccomp_mode", number(&status, "Seccomp")?),
        (
            "dumpable",
            sys::prctl(libc::PR_GET_DUMPABLE, 0)
                .at(WALL, "PR_GET_DUMPABLE")?
                .to_string(),
        ),
        ("landlock_abi", landlock_abi.to_string()),
    ];
    fields.push(("namespaces", namespaces()?));
    fields.push(("cgroups", cgroups()?));
    fields.push(("descriptors", descriptors()?));
    fields.push(("limits", limits()?));
    Ok(object(&fields))
}

/// A JSON object of values that are JSON already.
pub fn object<K: AsRef<str>>(fields: &[(K, String)]) -> String {
    let members: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{}:{value}", quoted(name.as_ref())))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// A JSON string (RFC 8259, 7).
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn field<'a>(status: &'a str, name: &str) -> Result<&'a str> {
    status_field(status, name)
        .ok_or_else(|| Failure::new(WALL, format!("/proc/self/status has no {name}")))
}

fn number(status: &str, name: &str) -> Result<String> {
    let value = field(status, name)?;
    let value: u64 = value
        .parse()
        .map_err(|_| Failure::new(WALL, format!("{name} of /proc/self/status is {value:?}")))?;
    Ok(value.to_string())
}

fn numbers(status: &str, name: &str) -> Result<String> {
    Ok(format!(
        "[{}]",
        field(status, name)?
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(",")
    ))
}

fn capabilities(status: &str) -> Result<String> {
    let sets: Result<Vec<_>> = CAPABILITY_SETS
        .iter()
        .map(|name| Ok((*name, quoted(field(status, name)?))))
        .collect();
    Ok(object(&sets?))
}

fn namespaces() -> Result<String> {
    let inodes: Result<Vec<_>> = NAMESPACES
        .iter()
        .map(|name| {
            // The link reads "user:[4026531837]" (namespaces(7)).
            let link = fs::read_link(format!("/proc/self/ns/{name}"))
                .at(WALL, format_args!("namespace {name}"))?;
            let text = link.to_string_lossy();
            let inode = text
                .split(['[', ']'])
                .nth(1)
                .and_then(|part| part.parse::<u64>().ok());
            let inode = inode
                .ok_or_else(|| Failure::new(WALL, format!("namespace {name} reads {text:?}")))?;
            Ok((*name, inode.to_string()))
        })
        .collect();
    Ok(object(&inodes?))
}

fn cgroups() -> Result<String> {
    let text = fs::read_to_string("/proc/self/cgroup").at(WALL, "cannot read /proc/self/cgroup")?;
    let lines: Vec<String> = text.lines().map(quoted).collect();
    Ok(format!("[{}]", lines.join(",")))
}

fn descriptors() -> Result<String> {
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").at(WALL, "cannot read /proc/self/fd")? {
        let entry = entry.at(WALL, "cannot read /proc/self/fd")?;
        // The descriptor of this very listing ends with it.
        let target = fs::read_link(entry.path()).at(WALL, "cannot read a link of /proc/self/fd")?;
        if !target.to_string_lossy().ends_with("/fd") {
            open.push(
                entry
                    .file_name()
                    .to_string_lossy()
                    .parse::<u32>()
                    .unwrap_or(u32::MAX),
            );
        }
    }
    open.sort_unstable();
    let texts: Vec<String> = open.iter().map(u32::to_string).collect();
    Ok(format!("[{}]", texts.join(",")))
}

fn limits() -> Result<String> {
    let mut fields = Vec::new();
    for (name, resource) in LIMITS {
        // SAFETY: rlimit is plain data, filled by getrlimit.
        let mut limit: libc::rlimit = unsafe { mem::zeroed() };
        // SAFETY: a known resource and a valid pointer.
        sys::check(unsafe { libc::getrlimit(resource, &raw mut limit) }).at(WALL, name)?;
        fields.push((name, format!("[{},{}]", limit.rlim_cur, limit.rlim_max)));
    }
    Ok(object(&fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(quoted("a\"b\\c\n\u{7f}é"), "\"a\\\"b\\\\c\\u000a\u{7f}é\"");
    }

    #[test]
    fn objects_keep_order() {
        assert_eq!(
            object(&[("b", "1".to_owned()), ("a", "[]".to_owned())]),
            "{\"b\":1,\"a\":[]}"
        );
    }
}
