//! The relay without a process, for tests and fuzzing: bytes in, bytes out.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::thread;

use dativo_channel::control::Control;
use dativo_channel::{Stop, unexpected};
use dativo_wire::framing::Framer;

use crate::events::{Command, Open};
use crate::pass::Pass;
use crate::run::Role;

/// Bytes that arrive at once.
const CHUNK_BYTES: usize = 1000;

/// Pass all of `input`, then finish; `open` is the text of the kernel's message. Returns what stdout got, or the code of
/// the error. What the kernel would be told is thrown away.
pub fn pass(open: &str, input: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (ours, mut theirs) = UnixStream::pair().map_err(|_| "internal.socket")?;
    let listener = thread::spawn(move || {
        let mut heard = [0; 4096];
        while theirs.read(&mut heard).is_ok_and(|count| count > 0) {}
    });
    let mut control = Control::new(ours);
    let outcome = pass_with(&mut control, open, input).map_err(|stop| match stop {
        Stop::Fault(fault) => fault.code,
        Stop::Aborted | Stop::KernelLost => "internal.control",
    });
    drop(control);
    listener.join().map_err(|_| "internal.listener")?;
    outcome
}

fn pass_with(
    control: &mut Control<Command>,
    open: &str,
    mut input: &[u8],
) -> Result<Vec<u8>, Stop> {
    let Ok(Command::Open(open)) = serde_json::from_str(open) else {
        return Err(unexpected("not an open"));
    };
    let Open::Pass(open) = *open else {
        return Err(unexpected("not the role pass"));
    };
    let mut pass = Pass::new(open)?;
    let mut framer =
        Framer::new(pass.limits().max_line_bytes).bounded(pass.limits().max_output_bytes);
    loop {
        while let Some(line) = framer.line()? {
            pass.take(control, line)?;
        }
        let read = framer.fill(|room| {
            let count = room.len().min(CHUNK_BYTES);
            input.read(&mut room[..count])
        });
        if read.is_ok_and(|count| count == 0) {
            break;
        }
    }
    if framer.partial().is_some() {
        return Err(unexpected("half a line"));
    }
    pass.complete();
    Ok(pass
        .output()
        .map_or_else(Vec::new, |output| output.pending_bytes().to_vec()))
}
