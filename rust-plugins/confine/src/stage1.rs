//! Stage 1, outside: cgroup, private view of the granted sources, drop of every privilege, bubblewrap.
//!
//! Plan: `keep FD`, `parent PID`, `cgroup PATH`, `view FOLDER`, `protect ROOT PATH`, `attach SOURCE TARGET ro|rw`,
//! `identity UID GID`, `group GID`, `bubblewrap PATH`, `argument TEXT`.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::RawFd;

use crate::failure::{At, Failure, Result};
use crate::plan::{Plan, required, unknown};
use crate::{privileges, sys, view};

#[derive(Default)]
struct Orders {
    kept: Vec<RawFd>,
    parent: Option<libc::pid_t>,
    cgroups: Vec<Vec<u8>>,
    view: Option<Vec<u8>>,
    protected: Vec<(Vec<u8>, Vec<u8>)>,
    attached: Vec<(Vec<u8>, Vec<u8>, bool)>,
    identity: Option<(u32, u32)>,
    groups: Vec<u32>,
    bubblewrap: Option<Vec<u8>>,
    arguments: Vec<Vec<u8>>,
}

/// Do all steps and become bubblewrap. Returns only with the failure.
pub fn run(plan_fd: RawFd) -> Result<Infallible> {
    let orders = read_orders(Plan::read(plan_fd)?)?;
    sys::close_others(&orders.kept).at("descriptors", "close_range")?;
    for path in &orders.cgroups {
        join(path)?;
    }
    match &orders.view {
        Some(_) => view::enter()?,
        None if orders.protected.is_empty() => {}
        // As a plain user mounts can be changed only by whoever owns the namespaces.
        None => view::enter_as_user()?,
    }
    for (root, path) in &orders.protected {
        view::protect(root, path)?;
    }
    if let Some(folder) = &orders.view {
        view::cover(folder)?;
        for (source, target, writable) in &orders.attached {
            view::attach(source, target, *writable)?;
        }
    }
    match orders.identity {
        Some((uid, gid)) => privileges::drop_all(uid, gid, &orders.groups)?,
        None => refuse_root()?,
    }
    // Capabilities in a user namespace of our own end with the exec: the uid there is not 0 (capabilities(7)).
    sys::die_with(required(orders.parent, "parent")?)?;
    become_bubblewrap(
        &required(orders.bubblewrap, "bubblewrap")?,
        &orders.arguments,
    )
}

fn read_orders(mut plan: Plan) -> Result<Orders> {
    let mut orders = Orders::default();
    while let Some(directive) = plan.directive() {
        match directive.as_str() {
            "keep" => orders.kept.push(plan.number()?),
            "parent" => orders.parent = Some(plan.number()?),
            "cgroup" => orders.cgroups.push(plan.bytes()?),
            "view" => orders.view = Some(plan.bytes()?),
            "protect" => orders.protected.push((plan.bytes()?, plan.bytes()?)),
            "attach" => {
                let (source, target) = (plan.bytes()?, plan.bytes()?);
                let writable = match plan.bytes()?.as_slice() {
                    b"ro" => false,
                    b"rw" => true,
                    other => return Err(unknown(&String::from_utf8_lossy(other))),
                };
                orders.attached.push((source, target, writable));
            }
            "identity" => orders.identity = Some((plan.number()?, plan.number()?)),
            "group" => orders.groups.push(plan.number()?),
            "bubblewrap" => orders.bubblewrap = Some(plan.bytes()?),
            "argument" => orders.arguments.push(plan.bytes()?),
            other => return Err(unknown(other)),
        }
    }
    Ok(orders)
}

/// Enter a cgroup before anything else runs: "0" means the writer itself (cgroups(7)).
fn join(procs: &[u8]) -> Result<()> {
    let path = String::from_utf8_lossy(procs).into_owned();
    OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(b"0"))
        .at("cgroup", format_args!("cannot join by {path}"))
}

fn refuse_root() -> Result<()> {
    // SAFETY: geteuid cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        return Err(Failure::new(
            "identity",
            "started as root without an identity to become",
        ));
    }
    Ok(())
}

fn become_bubblewrap(path: &[u8], arguments: &[Vec<u8>]) -> Result<Infallible> {
    let program = sys::c_string(path).at("bubblewrap", "path")?;
    let mut argv: Vec<CString> = vec![c"bwrap".to_owned()];
    for argument in arguments {
        argv.push(sys::c_string(argument).at("bubblewrap", "argument")?);
    }
    let error = sys::execute(&program, &argv, &[]);
    Err(error).at(
        "bubblewrap",
        format_args!("cannot run {}", String::from_utf8_lossy(path)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directive_of_another_version_is_refused() {
        let failure = read_orders(Plan::parse(b"frobnicate\x001\0").unwrap())
            .err()
            .unwrap();
        assert!(failure.to_string().contains("frobnicate"));
    }

    #[test]
    fn attach_says_how() {
        assert!(read_orders(Plan::parse(b"attach\0/a\0/b\0maybe\0").unwrap()).is_err());
        let orders = read_orders(Plan::parse(b"attach\0/a\0/b\0rw\0").unwrap()).unwrap();
        assert_eq!(
            orders.attached,
            vec![(b"/a".to_vec(), b"/b".to_vec(), true)]
        );
    }
}
