//! The loop: stdin, stdout and the control socket, who is waited for, and the ends of a run.

use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use dativo_channel::Stop;
use dativo_channel::events::{Counts, Stats};
use dativo_channel::said::Said;
use dativo_wire::fault::{Blame, Fault};
use dativo_wire::framing::{Framer, Line};
use dativo_wire::oddity::Oddities;

use crate::Control;
use crate::acks::Acks;
use crate::events::{Command, Open, Passed};
use crate::output::{CHUNK_BYTES, Output, STDOUT, closed};
use crate::pass::Pass;

const STDIN: RawFd = 0;
/// Stats go out once in this time, and no two of them closer than half of it.
const STATS_INTERVAL: Duration = Duration::from_secs(1);

/// What is done with the lines of stdin.
pub trait Role {
    fn input(&self) -> &str;
    /// The longest line.
    fn max_line_bytes(&self) -> usize;
    /// Before the first line.
    fn begin(&mut self, control: &mut Control<Command>) -> Result<(), Stop>;
    fn take(&mut self, control: &mut Control<Command>, line: Line<'_>) -> Result<(), Stop>;
    fn obey(&mut self, control: &mut Control<Command>, command: Command) -> Result<(), Stop>;
    /// Where it writes to, if it does.
    fn output(&mut self) -> Option<&mut Output>;
    /// Whether the end of stdin is the end.
    fn is_finishing(&self) -> bool;
    /// Whether stdin may end inside a line.
    fn may_break_off(&self) -> bool;
    /// stdin has ended as it should: put out what is left.
    fn complete(&mut self);
    fn counts(&self) -> Vec<Counts>;
    fn said(&self) -> &Said;
    fn oddities(&self) -> &Oddities;
}

/// From `open` to `passed`.
pub fn run(control: &mut Control<Command>) -> Result<(), Stop> {
    let open = match control.wait()? {
        Command::Open(open) => *open,
        Command::Abort => return Err(Stop::Aborted),
        _ => return Err(unexpected("the first command is not open")),
    };
    match open {
        Open::Pass(open) => Loop::new(Pass::new(open)?, control).run(),
        Open::Acks(open) => Loop::new(Acks::new(open), control).run(),
    }
}

/// The kernel said something that it should not have.
pub fn unexpected(what: &str) -> Stop {
    Fault::new("internal.control", Blame::Dativo, what).into()
}

struct Loop<'c, R> {
    role: R,
    control: &'c mut Control<Command>,
    framer: Framer,
    /// End of file was read.
    ended: bool,
    /// The kernel does not wait for it: nothing more is read.
    at_once: bool,
    /// The kernel was told that everything up to it is taken.
    told_end: bool,
    /// Nothing was there to read when it was last looked for.
    dry: bool,
    stats_at: Instant,
    /// Bytes read when stats went out last.
    stats_bytes: u64,
    /// Since when the pipe has been empty while we wait on it.
    idle_since: Option<Instant>,
    waited: Duration,
    blocked: Duration,
}

impl<R: Role> Loop<'_, R> {
    fn new(role: R, control: &mut Control<Command>) -> Loop<'_, R> {
        Loop {
            framer: Framer::new(role.max_line_bytes()),
            role,
            control,
            ended: false,
            at_once: false,
            told_end: false,
            dry: false,
            stats_at: Instant::now(),
            stats_bytes: 0,
            idle_since: None,
            waited: Duration::ZERO,
            blocked: Duration::ZERO,
        }
    }

    fn run(&mut self) -> Result<(), Stop> {
        let outcome = self.pass();
        if outcome.is_err()
            && let Some(output) = self.role.output()
        {
            output.give_up();
        }
        outcome
    }

    fn pass(&mut self) -> Result<(), Stop> {
        self.role.begin(self.control)?;
        loop {
            while !self.is_full()
                && let Some(line) = self.framer.line()?
            {
                self.role.take(self.control, line)?;
            }
            if self.is_over() && !self.is_full() {
                if self.role.is_finishing() {
                    return self.finish();
                }
                if !self.told_end {
                    self.told_end = true;
                    self.send_stats()?;
                }
            }
            self.step()?;
        }
    }

    /// stdin is done: check its last line, put everything out, say goodbye.
    fn finish(&mut self) -> Result<(), Stop> {
        // Whoever does not wait for the rest of a line has not been sent half a one.
        if let Some(half) = self.framer.partial()
            && !self.at_once
            && !self.role.may_break_off()
        {
            let fault = Fault::plugin("framing.half_line", "the output ends inside a line");
            return Err(fault.at(half.number, half.byte).value(half.bytes).into());
        }
        self.role.complete();
        while self.pending() > 0 {
            self.step()?;
        }
        self.told_end = self.ended;
        self.send_stats()?;
        if self.role.output().is_some() {
            // SAFETY: nothing writes to stdout from here on.
            unsafe { libc::close(STDOUT) };
        }
        self.control.send(&Passed {
            input: self.role.input(),
            lines: self.framer.lines(),
            counts: self.role.counts(),
        })
    }

    fn is_over(&self) -> bool {
        self.ended || self.at_once
    }

    fn pending(&mut self) -> usize {
        self.role.output().map_or(0, |output| output.pending())
    }

    #[inline(always)]
    fn is_full(&mut self) -> bool {
        self.role.output().is_some_and(|output| output.is_full())
    }

    /// Wait until something can be read, written or obeyed, and do that.
    fn step(&mut self) -> Result<(), Stop> {
        let (pending, full) = (self.pending(), self.is_full());
        let reading = !self.is_over() && !full;
        // More may be there at once: then it goes out together.
        let writing = pending >= CHUNK_BYTES || pending > 0 && (self.dry || !reading);
        let look_only = pending > 0 && !writing;
        let asleep = Instant::now();
        if reading {
            self.idle_since.get_or_insert(asleep);
        } else {
            self.idle_since = None;
        }
        let timeout = if look_only {
            Duration::ZERO
        } else {
            STATS_INTERVAL.saturating_sub(self.stats_at.elapsed())
        };
        let ready = self.poll(reading, writing, timeout)?;
        if reading {
            self.waited += asleep.elapsed();
        } else if pending > 0 {
            self.blocked += asleep.elapsed();
        }
        self.dry = reading && !ready.stdin;
        if ready.control {
            self.control.receive()?;
        }
        while let Some(command) = self.control.arrived() {
            self.at_once |= matches!(command, Command::Finish { at_once: true, .. });
            self.role.obey(self.control, command)?;
        }
        if ready.stdout
            && let Some(output) = self.role.output()
        {
            output.flush()?;
        }
        if ready.stdin && !self.at_once {
            self.idle_since = None;
            let count = self.framer.fill(read_stdin);
            self.ended = count.map_err(|error| unreadable(&error))? == 0;
        }
        let age = self.stats_at.elapsed();
        let moved = self.framer.bytes_read() != self.stats_bytes;
        if age >= STATS_INTERVAL || moved && age >= STATS_INTERVAL / 2 {
            self.send_stats()?;
        }
        Ok(())
    }

    /// poll(2) for at most `timeout`. A reader of stdout that is gone is an error.
    fn poll(&mut self, reading: bool, writing: bool, timeout: Duration) -> Result<Ready, Stop> {
        // A negative descriptor is passed over: poll(2).
        let wanted = |fd, wanted, events| libc::pollfd {
            fd: if wanted { fd } else { -1 },
            events,
            revents: 0,
        };
        let writes = self.role.output().is_some();
        let mut fds = [
            wanted(STDIN, reading, libc::POLLIN),
            // Without events it still tells that the reader is gone.
            wanted(STDOUT, writes, if writing { libc::POLLOUT } else { 0 }),
            wanted(self.control.fd(), true, libc::POLLIN),
        ];
        // Rounded up, or the last millisecond would be spent spinning.
        let timeout_ms = match timeout.as_millis() as i32 {
            0 if timeout.is_zero() => 0,
            ms => ms + 1,
        };
        // SAFETY: `fds` outlives the call and its length is given.
        if unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) } < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != ErrorKind::Interrupted {
                return Err(unreadable(&error).into());
            }
        }
        let [stdin, stdout, control] = fds.map(|fd| fd.revents);
        // What the kernel says goes first: a reader may be gone because it ended the run.
        if stdout & (libc::POLLERR | libc::POLLNVAL) != 0 && control == 0 {
            return Err(closed());
        }
        Ok(Ready {
            stdin: stdin != 0,
            stdout: stdout & libc::POLLOUT != 0 && control == 0,
            control: control != 0,
        })
    }

    fn send_stats(&mut self) -> Result<(), Stop> {
        self.stats_at = Instant::now();
        self.stats_bytes = self.framer.bytes_read();
        let idle = self
            .idle_since
            .map_or(Duration::ZERO, |since| since.elapsed());
        self.control.send(&Stats {
            input: self.role.input(),
            bytes: self.framer.bytes_read(),
            lines: self.framer.lines(),
            text_lines: self.role.said().text_lines,
            suppressed: self.role.said().suppressed,
            idle_s: idle.as_secs_f64(),
            blocked_s: self.blocked.as_secs_f64(),
            staged_bytes: 0,
            ended: self.told_end,
            waited_s: self.waited.as_secs_f64(),
            oddities: self.role.oddities(),
            counts: self.role.counts(),
        })
    }
}

/// What can be done without waiting.
struct Ready {
    stdin: bool,
    stdout: bool,
    control: bool,
}

fn read_stdin(room: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: the system writes at most `room.len()` bytes into `room`.
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
        format!("the input cannot be read: {error}"),
    )
}
