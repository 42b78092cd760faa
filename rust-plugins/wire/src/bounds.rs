//! What is bounded wherever it is read.

use crate::envelope::StreamRef;
use crate::fault::Fault;
use crate::framing::Line;

/// The longest name of a stream that declares itself.
const MAX_NAME_BYTES: usize = 1024;

pub fn check_state(text: &[u8], limit: usize, line: Line<'_>) -> Result<(), Box<Fault>> {
    if text.len() <= limit {
        return Ok(());
    }
    let message = format!("a state of {} bytes; the limit is {limit}", text.len());
    let fault = Fault::plugin("state.too_large", message).hint("limits.max_state_bytes sets it");
    Err(fault.at(line.number, line.byte).value(text))
}

/// The name of a stream that a plugin declares.
pub fn check_name(stream: &StreamRef<'_>) -> Result<(), Box<Fault>> {
    if (1..=MAX_NAME_BYTES).contains(&stream.name.len()) {
        return Ok(());
    }
    let message = format!("a stream's name has 1 to {MAX_NAME_BYTES} bytes");
    Err(Fault::plugin("message.invalid", message).value(stream.name.as_bytes()))
}
