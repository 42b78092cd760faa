//! What a plugin says besides records, schemas and states: passed on, bounded and counted.

use dativo_wire::envelope::{Notice, NoticeKind};
use dativo_wire::fault::{Fault, clip_bytes};
use dativo_wire::framing::Line;
use serde::de::DeserializeOwned;

use crate::Stop;
use crate::control::Control;
use crate::events::Message;

/// Passed on up to this many times; then only CONTROL and errors, up to another bound.
const MAX_MESSAGES: u64 = 1_000;
const MAX_URGENT_MESSAGES: u64 = 10_000;
/// Longer texts are cut; a CONTROL is not, so a longer one is refused.
const MAX_MESSAGE_BYTES: usize = 4 << 10;
const MAX_CONTROL_BYTES: usize = 1 << 20;
const MAX_LEVEL_BYTES: usize = 32;

/// How many there were.
pub struct Said {
    max_text_lines: u64,
    pub text_lines: u64,
    messages: u64,
    urgent: u64,
    statuses: u64,
    pub suppressed: u64,
    /// Those of `suppressed` that no message has told of yet.
    untold: u64,
}

impl Said {
    pub fn new(max_text_lines: u64) -> Said {
        Said {
            max_text_lines,
            text_lines: 0,
            messages: 0,
            urgent: 0,
            statuses: 0,
            suppressed: 0,
            untold: 0,
        }
    }

    /// Pass on a line that is no message.
    pub fn text_line<C: DeserializeOwned>(
        &mut self,
        control: &mut Control<C>,
        input: &str,
        line: Line<'_>,
    ) -> Result<(), Stop> {
        self.text_lines += 1;
        if self.text_lines > self.max_text_lines {
            let message = format!(
                "more than {} lines that are not messages",
                self.max_text_lines
            );
            let fault = Fault::plugin("limit.text_lines", message)
                .hint("limits.max_text_lines sets the most");
            return Err(fault.at(line.number, line.byte).value(line.bytes).into());
        }
        let notice = Notice {
            kind: NoticeKind::Text,
            level: None,
            text: line.bytes.into(),
        };
        self.notice(control, input, &notice, line)
    }

    /// Pass on what the source says, bounded and counted.
    pub fn notice<C: DeserializeOwned>(
        &mut self,
        control: &mut Control<C>,
        input: &str,
        notice: &Notice<'_>,
        line: Line<'_>,
    ) -> Result<(), Stop> {
        let urgent = matches!(notice.kind, NoticeKind::Control | NoticeKind::TraceError);
        // A destination has to hear of every stream that is complete.
        let status = notice.kind == NoticeKind::TraceStatus;
        self.messages += 1;
        self.urgent += urgent as u64;
        self.statuses += status as u64;
        if self.urgent > MAX_URGENT_MESSAGES {
            let message = format!("more than {MAX_URGENT_MESSAGES} CONTROL messages and errors");
            return Err(Fault::plugin("limit.messages", message)
                .at(line.number, line.byte)
                .into());
        }
        let heard = urgent || status && self.statuses <= MAX_URGENT_MESSAGES;
        if self.messages > MAX_MESSAGES && !heard {
            self.suppressed += 1;
            self.untold += 1;
            return Ok(());
        }
        let text = if notice.kind == NoticeKind::Control {
            if notice.text.len() > MAX_CONTROL_BYTES {
                let message = format!("a CONTROL of more than {MAX_CONTROL_BYTES} bytes");
                return Err(Fault::plugin("limit.control_bytes", message)
                    .at(line.number, line.byte)
                    .into());
            }
            String::from_utf8_lossy(&notice.text)
        } else {
            clip_bytes(&notice.text, MAX_MESSAGE_BYTES)
        };
        let level = notice.level.as_deref().unwrap_or_default();
        control.send(&Message {
            input,
            kind: notice.kind.name(),
            level: &clip_bytes(level.as_bytes(), MAX_LEVEL_BYTES),
            text: &text,
            line: line.number,
            suppressed: std::mem::take(&mut self.untold),
        })
    }
}
