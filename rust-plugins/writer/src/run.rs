//! The loop: stdin and the control socket, who is waited for, and the ends of a run.

use std::time::{Duration, Instant};

use dativo_channel::stdin::{self, STDIN};
use dativo_channel::stopwatch::Stopwatch;
use dativo_channel::unexpected;
use dativo_wire::fault::Fault;
use dativo_wire::framing::Framer;

use crate::events::{Command, Finish};
use crate::session::Session;
use crate::{Control, Stop};

/// From `open` to the last `sealed`. The open epoch's files are gone if this fails.
pub fn run(control: &mut Control) -> Result<(), Stop> {
    let open = match control.wait()? {
        Command::Open(open) => *open,
        Command::Abort => return Err(Stop::Aborted),
        _ => return Err(unexpected("the first command is not open")),
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
    stopwatch: Stopwatch,
}

impl Loop {
    fn new(session: &Session<'_>) -> Loop {
        Loop {
            framer: Framer::new(session.max_line_bytes()).bounded(session.max_output_bytes()),
            ended: false,
            told_end: false,
            stopwatch: Stopwatch::new(),
        }
    }

    fn run(&mut self, session: &mut Session<'_>) -> Result<(), Stop> {
        loop {
            while !session.is_blocked() && self.step(session)? {}
            let at_once = session.finishing.is_some_and(|finish| finish.at_once);
            let rests = !session.is_blocked() && !session.reads_files();
            if (self.ended || at_once) && rests {
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

    /// Deal with the next line or batch, or a piece of a file; false until more has been read, or while there are more pieces.
    fn step(&mut self, session: &mut Session<'_>) -> Result<bool, Stop> {
        if session.reads_files() {
            // What comes behind the message waits; the kernel is heard between two pieces.
            session.read_file()?;
            return Ok(!session.reads_files());
        }
        if self.framer.is_in_body() {
            return match self.framer.body() {
                Some(body) => session.take_batch(body).map(|()| true),
                None => Ok(false),
            };
        }
        let Some(line) = self.framer.line()? else {
            return Ok(false);
        };
        session.take(line)?;
        if let Some(bytes) = session.due_bytes() {
            self.framer.expect_body(bytes)?;
        }
        Ok(true)
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
        let message = "the output ends inside a line or a batch";
        let fault = Fault::plugin("framing.half_line", message);
        Err(fault.at(half.number, half.byte).value(half.bytes).into())
    }

    /// Wait for stdin, unless reading stands still, and for the kernel; read what is there.
    fn wait(&mut self, session: &mut Session<'_>) -> Result<(), Stop> {
        let works = !session.is_blocked() && session.reads_files();
        let reading = !self.ended && !session.is_blocked() && !works;
        let asleep = Instant::now();
        if reading {
            self.stopwatch.begin_idle();
        } else {
            self.stopwatch.end_idle();
        }
        let wanted = [
            (reading, STDIN, libc::POLLIN),
            (true, session.control().fd(), libc::POLLIN),
        ];
        let timeout = if works {
            Duration::ZERO
        } else {
            self.stopwatch.until_stats()
        };
        let [stdin, control] = stdin::poll(wanted, timeout)?;
        if session.is_blocked() {
            self.stopwatch.add_blocked(asleep.elapsed());
        }
        if control != 0 {
            session.control().receive()?;
        }
        if stdin != 0 {
            self.stopwatch.end_idle();
            self.ended = stdin::fill(&mut self.framer)?;
        }
        if self.stopwatch.is_due(&self.framer) {
            self.send_stats(session)
        } else {
            Ok(())
        }
    }

    fn send_stats(&mut self, session: &mut Session<'_>) -> Result<(), Stop> {
        session.send_stats(self.stopwatch.reading(&self.framer, self.told_end))
    }
}
