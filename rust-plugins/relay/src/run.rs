//! The loop: stdin, stdout and the control socket, who is waited for, and the ends of a run.

use std::time::{Duration, Instant};

use dativo_channel::events::{Counts, Stats};
use dativo_channel::said::Said;
use dativo_channel::stdin::{self, STDIN};
use dativo_channel::stopwatch::Stopwatch;
use dativo_channel::{Stop, unexpected};
use dativo_wire::fault::Fault;
use dativo_wire::framing::{Framer, Line};
use dativo_wire::oddity::Oddities;

use crate::Control;
use crate::acks::Acks;
use crate::events::{Command, Limits, Open, Passed};
use crate::output::{CHUNK_BYTES, Left, Output, STDOUT, closed};
use crate::pass::Pass;

/// What is done with the lines of stdin.
pub trait Role {
    fn input(&self) -> &str;
    fn limits(&self) -> Limits;
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

/// From `open` to `passed`; `left` is how the output ends when it is given up.
pub fn run(control: &mut Control<Command>, left: &mut Left) -> Result<(), Stop> {
    let open = match control.wait()? {
        Command::Open(open) => *open,
        Command::Abort => return Err(Stop::Aborted),
        _ => return Err(unexpected("the first command is not open")),
    };
    match open {
        Open::Pass(open) => Loop::new(Pass::new(open)?, control).run(left),
        Open::Acks(open) => Loop::new(Acks::new(open), control).run(left),
    }
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
    stopwatch: Stopwatch,
}

impl<R: Role> Loop<'_, R> {
    fn new(role: R, control: &mut Control<Command>) -> Loop<'_, R> {
        Loop {
            framer: Framer::new(role.limits().max_line_bytes)
                .bounded(role.limits().max_output_bytes),
            role,
            control,
            ended: false,
            at_once: false,
            told_end: false,
            dry: false,
            stopwatch: Stopwatch::new(),
        }
    }

    fn run(&mut self, left: &mut Left) -> Result<(), Stop> {
        let outcome = self.pass();
        if outcome.is_err()
            && let Some(output) = self.role.output()
        {
            *left = output.give_up();
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
            self.stopwatch.begin_idle();
        } else {
            self.stopwatch.end_idle();
        }
        let timeout = if look_only {
            Duration::ZERO
        } else {
            self.stopwatch.until_stats()
        };
        let ready = self.poll(reading, writing, timeout)?;
        if !reading && pending > 0 {
            self.stopwatch.add_blocked(asleep.elapsed());
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
            self.stopwatch.end_idle();
            self.ended = stdin::fill(&mut self.framer)?;
        }
        if self.stopwatch.is_due(&self.framer) {
            self.send_stats()?;
        }
        Ok(())
    }

    /// poll(2) for at most `timeout`. A reader of stdout that is gone is an error.
    fn poll(&mut self, reading: bool, writing: bool, timeout: Duration) -> Result<Ready, Stop> {
        let writes = self.role.output().is_some();
        let wanted = [
            (reading, STDIN, libc::POLLIN),
            // Without events it still tells that the reader is gone.
            (writes, STDOUT, if writing { libc::POLLOUT } else { 0 }),
            (true, self.control.fd(), libc::POLLIN),
        ];
        let [stdin, stdout, control] = stdin::poll(wanted, timeout)?;
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
        let reading = self.stopwatch.reading(&self.framer, self.told_end);
        self.control.send(&Stats {
            input: self.role.input(),
            reading,
            text_lines: self.role.said().text_lines,
            suppressed: self.role.said().suppressed,
            staged_bytes: 0,
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
