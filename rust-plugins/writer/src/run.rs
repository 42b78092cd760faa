//! The loop: stdin and the control socket, who is waited for, and the ends of a run.

use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use dativo_wire::fault::{Blame, Fault};
use dativo_wire::framing::Framer;

use crate::events::{Command, Finish};
use crate::session::{Reading, Session};
use crate::{Control, Stop};

const STDIN: RawFd = 0;
/// Stats go out once in this time, and no two of them closer than half of it.
const STATS_INTERVAL: Duration = Duration::from_secs(1);

/// From `open` to the last `sealed`. The open epoch's files are gone if this fails.
pub fn run(control: &mut Control) -> Result<(), Stop> {
    let open = match control.wait()? {
        Command::Open(open) => *open,
        Command::Abort => return Err(Stop::Aborted),
        _ => {
            return Err(Fault::new(
                "internal.control",
                Blame::Dativo,
                "the first command is not open",
            )
            .into());
        }
    };
    let mut session = Session::new(control, open)?;
    let outcome = Loop::new(&session).run(&mut session);
    if outcome.is_err() {
        session.drop_epoch();
    }
    outcome
}

struct Loop {
    framer: Framer,
    /// End of file was read.
    ended: bool,
    /// The kernel was told that everything up to it is taken.
    told_end: bool,
    stats_at: Instant,
    /// Bytes read when stats went out last.
    stats_bytes: u64,
    /// Since when the pipe has been empty while we wait on it, and how long it was before.
    idle_since: Option<Instant>,
    waited: Duration,
    blocked: Duration,
}

impl Loop {
    fn new(session: &Session<'_>) -> Loop {
        Loop {
            framer: Framer::new(session.max_line_bytes()),
            ended: false,
            told_end: false,
            stats_at: Instant::now(),
            stats_bytes: 0,
            idle_since: None,
            waited: Duration::ZERO,
            blocked: Duration::ZERO,
        }
    }

    fn run(&mut self, session: &mut Session<'_>) -> Result<(), Stop> {
        loop {
            while !session.is_blocked()
                && let Some(line) = self.framer.line()?
            {
                session.take(line)?;
            }
            let at_once = session.finishing.is_some_and(|finish| finish.at_once);
            if (self.ended || at_once) && !session.is_blocked() {
                if let Some(finish) = session.finishing {
                    return self.finish(session, finish);
                }
                if !self.told_end {
                    self.told_end = true;
                    self.send_stats(session)?;
                }
            }
            self.wait(session)?;
            while let Some(command) = session.control().arrived() {
                session.obey(command)?;
            }
            session.cut_if_due()?;
        }
    }

    /// The source is done: check its last line, seal the rest. Half a line fails the run, behind what the source's states cover.
    fn finish(&mut self, session: &mut Session<'_>, finish: Finish) -> Result<(), Stop> {
        self.send_stats(session)?;
        // Whoever does not wait for the rest of a line has not been sent half a one.
        let half = self.framer.partial().filter(|_| !finish.at_once);
        session.seal_rest(finish, half.is_some())?;
        let Some(half) = half else {
            return Ok(());
        };
        let fault = Fault::plugin("framing.half_line", "the output ends inside a line");
        Err(fault.at(half.number, half.byte).value(half.bytes).into())
    }

    /// Wait for stdin, unless reading stands still, and for the kernel; read what is there.
    fn wait(&mut self, session: &mut Session<'_>) -> Result<(), Stop> {
        let reading = !self.ended && !session.is_blocked();
        let asleep = Instant::now();
        if reading {
            self.idle_since.get_or_insert(asleep);
        } else {
            self.end_idle();
        }
        let (stdin, control) = poll(reading, session.control().fd(), self.until_stats())?;
        if session.is_blocked() {
            self.blocked += asleep.elapsed();
        }
        if control {
            session.control().receive()?;
        }
        if stdin {
            self.end_idle();
            self.ended = self
                .framer
                .fill(read_stdin)
                .map_err(|error| unreadable(&error))?
                == 0;
        }
        let age = self.stats_at.elapsed();
        let moved = self.framer.bytes_read() != self.stats_bytes;
        if age >= STATS_INTERVAL || moved && age >= STATS_INTERVAL / 2 {
            self.send_stats(session)
        } else {
            Ok(())
        }
    }

    fn until_stats(&self) -> Duration {
        STATS_INTERVAL.saturating_sub(self.stats_at.elapsed())
    }

    fn send_stats(&mut self, session: &mut Session<'_>) -> Result<(), Stop> {
        self.stats_at = Instant::now();
        self.stats_bytes = self.framer.bytes_read();
        let idle = self
            .idle_since
            .map_or(Duration::ZERO, |since| since.elapsed());
        session.send_stats(Reading {
            bytes: self.framer.bytes_read(),
            lines: self.framer.lines(),
            idle,
            waited: self.waited + idle,
            blocked: self.blocked,
            ended: self.told_end,
        })
    }

    fn end_idle(&mut self) {
        if let Some(since) = self.idle_since.take() {
            self.waited += since.elapsed();
        }
    }
}

/// Wait for at most `timeout`: whether stdin (if `reading`) and the control socket have something to read.
fn poll(reading: bool, control: RawFd, timeout: Duration) -> Result<(bool, bool), Stop> {
    // A negative descriptor is passed over: poll(2).
    let stdin = if reading { STDIN } else { -1 };
    let wanted = |fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut fds = [wanted(stdin), wanted(control)];
    // Rounded up, or the last millisecond would be spent spinning.
    let timeout_ms = timeout.as_millis() as i32 + 1;
    // SAFETY: `fds` outlives the call and its length is given.
    if unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(unreadable(&error).into());
        }
    }
    Ok((fds[0].revents != 0, fds[1].revents != 0))
}

fn read_stdin(room: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: the kernel writes at most `room.len()` bytes into `room`.
        let count = unsafe { libc::read(STDIN, room.as_mut_ptr().cast(), room.len()) };
        if count >= 0 {
            return Ok(count as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn unreadable(error: &io::Error) -> Box<Fault> {
    Fault::new(
        "internal.stdin",
        Blame::Machine,
        format!("the source's output cannot be read: {error}"),
    )
}
