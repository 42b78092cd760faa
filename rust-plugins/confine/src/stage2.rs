//! Stage 2, process 1 inside: limits, Landlock, attestation, then the program, its signals and its end.
//!
//! Plan: `report FD`, `stdin FD`, `stdout FD`, `stderr FD`, `control FD`, `limit NAME VALUE`, `allow ACCESS PATH`, `connect FIRST LAST`, `tcp any`,
//! `folder PATH`, `environment NAME=VALUE`, `argument TEXT`.
//!
//! Messages on the report socket (SOCK_SEQPACKET, one a packet): out `attestation`, `failed`, `started`, `ended` as
//! JSON objects; in `go`, `signal N` to the program and `group N` to its process group. When the launcher's end closes, stage 2 exits, and with it all that is inside.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::exit;

use crate::attestation::{self, LIMITS, object, quoted};
use crate::failure::{At, Failure, Result};
use crate::landlock::{self, Access, Tcp};
use crate::plan::{Plan, required, unknown};
use crate::sys;

/// The program's end of the control socket (docs/spec/events.md).
const CONTROL_FD: RawFd = 3;
const MAX_COMMAND_BYTES: usize = 64;
/// Statuses of stage 2 itself; the program's own travels in `ended`.
const STATUS_REPORTED: i32 = 0;
const STATUS_LAUNCHER_GONE: i32 = 124;

#[derive(Default)]
struct Orders {
    report: Option<RawFd>,
    stdin: Option<RawFd>,
    stdout: Option<RawFd>,
    stderr: Option<RawFd>,
    control: Option<RawFd>,
    limits: Vec<(libc::__rlimit_resource_t, u64)>,
    allowed: Vec<(Access, Vec<u8>)>,
    ports: Vec<(u16, u16)>,
    any_port: bool,
    folder: Option<Vec<u8>>,
    environment: Vec<Vec<u8>>,
    arguments: Vec<Vec<u8>>,
}

/// Do all steps. Returns only with a failure that has been reported already.
pub fn run(plan_fd: RawFd) -> Result<Infallible> {
    // Nobody inside may look into this process, which has read the environment of the program.
    sys::prctl(libc::PR_SET_DUMPABLE, 0).at("identity", "PR_SET_DUMPABLE")?;
    let orders = read_orders(Plan::read(plan_fd)?)?;
    let report = Report(required(orders.report, "report")?);
    let Err(failure) = confine_and_start(orders, &report);
    let mut message = vec![
        ("type", quoted("failed")),
        ("wall", quoted(failure.wall)),
        ("reason", quoted(&failure.reason)),
    ];
    if let Some(errno) = failure.errno {
        message.push(("errno", errno.to_string()));
    }
    report.send(&object(&message))?;
    Err(failure)
}

fn confine_and_start(orders: Orders, report: &Report) -> Result<Infallible> {
    if std::process::id() != 1 {
        return Err(Failure::new(
            "namespaces",
            "stage 2 is not process 1 of a pid namespace",
        ));
    }
    sys::set_cloexec(report.0).at("descriptors", "report")?;
    for (resource, value) in &orders.limits {
        set_limit(*resource, *value)?;
    }
    let stdin = required(orders.stdin, "stdin")?;
    let stdout = required(orders.stdout, "stdout")?;
    let mut kept = vec![report.0, stdin, stdout];
    kept.extend(orders.stderr);
    kept.extend(orders.control);
    sys::close_others(&kept).at("descriptors", "close_range")?;
    let program = Program::new(&orders, stdin, stdout)?;
    let tcp = if orders.any_port {
        Tcp::Any
    } else {
        Tcp::Connect(orders.ports.clone())
    };
    let landlock_abi = landlock::restrict(&orders.allowed, &tcp)?;
    report.send(&attestation::attest(landlock_abi)?)?;
    match report.receive()? {
        Some(Command::Go) => {}
        Some(Command::Signal(_) | Command::Group(_)) => {
            return Err(Failure::new(
                "attestation",
                "a signal before the word to go",
            ));
        }
        None => exit(STATUS_LAUNCHER_GONE),
    }
    let signals = Signals::block()?;
    let child = program.start(&signals)?;
    drop((orders, program)); // the environment and argv
    report.send(&object(&[("type", quoted("started"))]))?;
    supervise(child, report, &signals)
}

fn read_orders(mut plan: Plan) -> Result<Orders> {
    let mut orders = Orders::default();
    while let Some(directive) = plan.directive() {
        match directive.as_str() {
            "report" => orders.report = Some(plan.number()?),
            "stdin" => orders.stdin = Some(plan.number()?),
            "stdout" => orders.stdout = Some(plan.number()?),
            "stderr" => orders.stderr = Some(plan.number()?),
            "control" => orders.control = Some(plan.number()?),
            "limit" => {
                let name = plan.bytes()?;
                let limit = LIMITS.iter().find(|(known, _)| known.as_bytes() == name);
                let (_, resource) =
                    limit.ok_or_else(|| unknown(&String::from_utf8_lossy(&name)))?;
                orders.limits.push((*resource, plan.number()?));
            }
            "allow" => {
                let name = plan.bytes()?;
                let access =
                    Access::parse(&name).ok_or_else(|| unknown(&String::from_utf8_lossy(&name)))?;
                orders.allowed.push((access, plan.bytes()?));
            }
            "connect" => orders.ports.push((plan.number()?, plan.number()?)),
            "tcp" => match plan.bytes()?.as_slice() {
                b"any" => orders.any_port = true,
                other => return Err(unknown(&String::from_utf8_lossy(other))),
            },
            "folder" => orders.folder = Some(plan.bytes()?),
            "environment" => orders.environment.push(plan.bytes()?),
            "argument" => orders.arguments.push(plan.bytes()?),
            other => return Err(unknown(other)),
        }
    }
    Ok(orders)
}

fn set_limit(resource: libc::__rlimit_resource_t, value: u64) -> Result<()> {
    let limit = libc::rlimit {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: a known resource and a valid pointer.
    sys::check(unsafe { libc::setrlimit(resource, &raw const limit) })
        .at(
            "limits",
            format_args!("cannot set limit {resource} to {value}"),
        )
        .map(drop)
}

enum Command {
    Go,
    Signal(libc::c_int),
    Group(libc::c_int),
}

/// The socket to the launcher.
struct Report(RawFd);

impl Report {
    fn send(&self, message: &str) -> Result<()> {
        // SAFETY: pointer and length are of one string.
        let sent = unsafe {
            libc::send(
                self.0,
                message.as_ptr().cast(),
                message.len(),
                libc::MSG_NOSIGNAL,
            )
        };
        sys::check(sent)
            .at("attestation", "cannot report")
            .map(drop)
    }

    /// The next command, or `None` when the launcher is gone. Blocks.
    fn receive(&self) -> Result<Option<Command>> {
        let mut buffer = [0_u8; MAX_COMMAND_BYTES];
        // SAFETY: pointer and length are of one buffer.
        let received = unsafe { libc::recv(self.0, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let length = match sys::check(received) {
            Ok(length) => usize::try_from(length).unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(error) => return Err(error).at("attestation", "cannot receive"),
        };
        if length == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&buffer[..length]);
        match text.split_once(' ') {
            None if text == "go" => Ok(Some(Command::Go)),
            Some((whom @ ("signal" | "group"), number)) => match number.parse() {
                Ok(number @ 1..=64) if whom == "group" => Ok(Some(Command::Group(number))),
                Ok(number @ 1..=64) => Ok(Some(Command::Signal(number))),
                _ => Err(Failure::new("plan", format!("{number:?} is no signal"))),
            },
            _ => Err(Failure::new("plan", format!("unknown command {text:?}"))),
        }
    }
}

/// All signals blocked; the ones that matter arrive as reads of a descriptor (signalfd(2)).
struct Signals {
    fd: OwnedFd,
    before: libc::sigset_t,
}

impl Signals {
    fn block() -> Result<Self> {
        // SAFETY: sigset_t is plain data, filled by the calls below; all pointers are valid.
        unsafe {
            let (mut all, mut before, mut read): (libc::sigset_t, libc::sigset_t, libc::sigset_t) =
                (mem::zeroed(), mem::zeroed(), mem::zeroed());
            libc::sigfillset(&raw mut all);
            libc::sigemptyset(&raw mut before);
            sys::check(libc::sigprocmask(
                libc::SIG_BLOCK,
                &raw const all,
                std::ptr::null_mut(),
            ))
            .at("lifetime", "sigprocmask")?;
            libc::sigemptyset(&raw mut read);
            for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                libc::sigaddset(&raw mut read, signal);
            }
            let fd = sys::check(libc::signalfd(
                -1,
                &raw const read,
                libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
            ))
            .at("lifetime", "signalfd")?;
            Ok(Self {
                fd: OwnedFd::from_raw_fd(fd),
                before,
            })
        }
    }

    /// The next pending signal.
    fn next(&self) -> Result<Option<libc::c_int>> {
        // SAFETY: signalfd_siginfo is plain data, filled by read; the size is its own.
        let (read, info) = unsafe {
            let mut info: libc::signalfd_siginfo = mem::zeroed();
            let size = mem::size_of::<libc::signalfd_siginfo>();
            (
                libc::read(self.fd.as_raw_fd(), (&raw mut info).cast(), size),
                info,
            )
        };
        match sys::check(read) {
            Ok(_) => Ok(libc::c_int::try_from(info.ssi_signo).ok()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).at("lifetime", "cannot read signals"),
        }
    }
}

/// What the child executes, prepared before the fork.
struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    folder: CString,
    stdin: RawFd,
    stdout: RawFd,
    /// Else the program inherits ours, which is the launcher's.
    stderr: Option<RawFd>,
    control: Option<RawFd>,
}

impl Program {
    fn new(orders: &Orders, stdin: RawFd, stdout: RawFd) -> Result<Self> {
        let strings = |list: &[Vec<u8>]| -> Result<Vec<CString>> {
            list.iter()
                .map(|text| sys::c_string(text).at("plan", "text"))
                .collect()
        };
        let arguments = strings(&orders.arguments)?;
        let path = required(arguments.first().cloned(), "argument")?;
        let folder = required(orders.folder.as_deref(), "folder")?;
        Ok(Self {
            path,
            arguments,
            environment: strings(&orders.environment)?,
            folder: sys::c_string(folder).at("plan", "folder")?,
            stdin,
            stdout,
            stderr: orders.stderr,
            control: orders.control,
        })
    }

    /// Fork and exec. Returns once the exec has succeeded; our copies of the program's descriptors are closed then.
    fn start(&self, signals: &Signals) -> Result<libc::pid_t> {
        let (failed_out, failed_in) = failure_pipe()?;
        // SAFETY: this process has one thread, so the child may do anything.
        let child = sys::check(unsafe { libc::fork() }).at("start", "fork")?;
        if child == 0 {
            let (errno, reason) = self.become_program(signals, failed_in.as_raw_fd());
            let message = format!("{errno} {reason}");
            // SAFETY: pointer and length are of one string; _exit ends the child here.
            unsafe {
                libc::write(
                    failed_in.as_raw_fd(),
                    message.as_ptr().cast(),
                    message.len(),
                );
                libc::_exit(127);
            }
        }
        drop(failed_in);
        let given = [
            Some(self.stdin),
            Some(self.stdout),
            self.stderr,
            self.control,
        ];
        for fd in given.into_iter().flatten() {
            // SAFETY: owned by nobody else; the program has its own copies.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        let mut said = Vec::new();
        io::Read::read_to_end(&mut std::fs::File::from(failed_out), &mut said)
            .at("start", "exec pipe")?;
        if said.is_empty() {
            return Ok(child);
        }
        let said = String::from_utf8_lossy(&said);
        let (errno, reason) = said.split_once(' ').unwrap_or(("0", &said));
        Err(Failure {
            errno: errno.parse().ok().filter(|errno| *errno != 0),
            ..Failure::new("start", reason)
        })
    }

    /// Returns only when it failed: the error number of execve, 0 when a step before it failed, and the reason.
    fn become_program(&self, signals: &Signals, failed: RawFd) -> (i32, String) {
        let steps = || -> std::result::Result<(), (String, io::Error)> {
            let named = |name: &str| {
                let name = name.to_owned();
                move |error| (name, error)
            };
            // SAFETY: integers and valid pointers; the descriptors of the plan are all above 3.
            unsafe {
                sys::check(libc::setsid()).map_err(named("setsid"))?;
                for (from, to) in [
                    (Some(self.stdin), 0),
                    (Some(self.stdout), 1),
                    (self.stderr, 2),
                    (self.control, CONTROL_FD),
                ] {
                    if let Some(from) = from {
                        sys::check(libc::dup2(from, to)).map_err(named("dup2"))?;
                    }
                }
                let first = if self.control.is_some() {
                    CONTROL_FD + 1
                } else {
                    CONTROL_FD
                };
                let first = u32::try_from(first).unwrap_or(u32::MAX);
                let keep = u32::try_from(failed).unwrap_or(u32::MAX);
                sys::close_range(first, keep - 1, 0).map_err(named("close_range"))?;
                sys::close_range(keep + 1, u32::MAX, 0).map_err(named("close_range"))?;
                sys::check(libc::chdir(self.folder.as_ptr())).map_err(named(&format!(
                    "cannot enter {}",
                    self.folder.to_string_lossy()
                )))?;
                for signal in 1..=64 {
                    libc::signal(signal, libc::SIG_DFL); // fails for SIGKILL, SIGSTOP and glibc's own two
                }
                sys::check(libc::sigprocmask(
                    libc::SIG_SETMASK,
                    &raw const signals.before,
                    std::ptr::null_mut(),
                ))
                .map_err(named("sigprocmask"))?;
            }
            Ok(())
        };
        if let Err((step, error)) = steps() {
            return (0, format!("{step}: {error}"));
        }
        let error = sys::execute(&self.path, &self.arguments, &self.environment);
        let reason = format!("cannot run {}: {error}", self.path.to_string_lossy());
        (error.raw_os_error().unwrap_or(0), reason)
    }
}

/// A pipe that closes by exec, its write end above the descriptors that the program gets.
fn failure_pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: an array of two; the kernel fills it with new descriptors.
    let (out, low) = unsafe {
        sys::check(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC)).at("start", "pipe2")?;
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    };
    // SAFETY: F_DUPFD_CLOEXEC takes an integer and gives a new descriptor.
    let high = unsafe {
        let fd = sys::check(libc::fcntl(
            low.as_raw_fd(),
            libc::F_DUPFD_CLOEXEC,
            CONTROL_FD + 2,
        ))
        .at("start", "fcntl")?;
        OwnedFd::from_raw_fd(fd)
    };
    Ok((out, high))
}

/// Forward signals and reap until the program ends; then report and exit, which ends all that is left inside.
fn supervise(child: libc::pid_t, report: &Report, signals: &Signals) -> Result<Infallible> {
    loop {
        let mut waited = [report.0, signals.fd.as_raw_fd()].map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
        // SAFETY: an array of two, its length, no time limit.
        sys::check(unsafe { libc::poll(waited.as_mut_ptr(), 2, -1) }).at("lifetime", "poll")?;
        if waited[1].revents != 0 {
            while let Some(signal) = signals.next()? {
                if signal == libc::SIGCHLD {
                    reap(child, report)?;
                } else {
                    forward(child, signal);
                }
            }
        }
        if waited[0].revents != 0 {
            match report.receive()? {
                Some(Command::Signal(signal)) => forward(child, signal),
                // The program leads its process group since its setsid(2).
                Some(Command::Group(signal)) => forward(-child, signal),
                Some(Command::Go) => return Err(Failure::new("plan", "told to go twice")),
                None => exit(STATUS_LAUNCHER_GONE),
            }
        }
    }
}

fn forward(child: libc::pid_t, signal: libc::c_int) {
    // SAFETY: integers only. The child is not reaped before its end is reported, so the number is its own.
    unsafe { libc::kill(child, signal) };
}

fn reap(child: libc::pid_t, report: &Report) -> Result<()> {
    loop {
        let mut status = 0;
        // SAFETY: a valid pointer.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        match pid {
            0 => return Ok(()),
            pid if pid == child => {
                report.send(&ended(status)?)?;
                exit(STATUS_REPORTED);
            }
            -1 => return Err(io::Error::last_os_error()).at("lifetime", "waitpid"),
            _ => {}
        }
    }
}

fn ended(status: libc::c_int) -> Result<String> {
    // SAFETY: rusage is plain data, filled by getrusage; the pointer is valid.
    let usage = unsafe {
        let mut usage: libc::rusage = mem::zeroed();
        sys::check(libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage))
            .at("lifetime", "getrusage")?;
        usage
    };
    let microseconds = |time: libc::timeval| (time.tv_sec * 1_000_000 + time.tv_usec).to_string();
    Ok(object(&[
        ("type", quoted("ended")),
        ("status", status.to_string()),
        ("user_us", microseconds(usage.ru_utime)),
        ("system_us", microseconds(usage.ru_stime)),
        ("max_rss_kib", usage.ru_maxrss.to_string()),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_in_any_order() {
        let bytes =
            b"argument\0/bin/true\0limit\0core\x000\0report\x0011\0allow\0write\0/tmp\0environment\0A=b\0";
        let orders = read_orders(Plan::parse(bytes).unwrap()).unwrap();
        assert_eq!(orders.report, Some(11));
        assert_eq!(orders.limits, vec![(libc::RLIMIT_CORE, 0)]);
        assert_eq!(orders.allowed, vec![(Access::Write, b"/tmp".to_vec())]);
    }

    #[test]
    fn unknown_limits_and_accesses_are_refused() {
        assert!(read_orders(Plan::parse(b"limit\0stack\x000\0").unwrap()).is_err());
        assert!(read_orders(Plan::parse(b"allow\0everything\0/\0").unwrap()).is_err());
    }
}
