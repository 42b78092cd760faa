//! The role `acks`: what a target says on its stdout, of which states are acknowledgements.

use dativo_channel::events::Counts;
use dativo_channel::said::Said;
use dativo_channel::{Stop, unexpected};
use dativo_wire::bounds::check_state;
use dativo_wire::envelope::{self, Message};
use dativo_wire::fault::Fault;
use dativo_wire::framing::{Line, LineKind};
use dativo_wire::oddity::{OddSet, Oddities, Oddity};
use dativo_wire::scan::{Bad, Scanner};

use crate::Control;
use crate::events::{Acknowledged, Command, Dialect, Limits, OpenAcks};
use crate::output::Output;
use crate::run::Role;

pub struct Acks {
    open: OpenAcks,
    said: Said,
    oddities: Oddities,
}

impl Acks {
    pub fn new(open: OpenAcks) -> Acks {
        Acks {
            said: Said::new(open.limits.max_text_lines),
            oddities: Oddities::new(open.strict),
            open,
        }
    }

    fn text(&mut self, control: &mut Control<Command>, line: Line<'_>) -> Result<(), Stop> {
        self.oddities.note(Oddity::TextLine.into(), line)?;
        self.said.text_line(control, &self.open.input, line)
    }

    /// A Singer target writes the values of states and nothing else.
    fn singer(&mut self, control: &mut Control<Command>, line: Line<'_>) -> Result<(), Stop> {
        match json(line.bytes, self.open.limits.max_depth) {
            Ok((text, met)) => {
                self.oddities.note(met, line)?;
                self.acknowledge(control, text, line)
            }
            Err(bad) if bad.code == "json.too_deep" => Err(line.fault(&bad).into()),
            Err(_) => self.text(control, line),
        }
    }

    fn airbyte(&mut self, control: &mut Control<Command>, line: Line<'_>) -> Result<(), Stop> {
        if line.kind() == LineKind::Text {
            return self.text(control, line);
        }
        line.check_utf8()?;
        let mut odd = OddSet::default();
        let dialect = envelope::Dialect::Airbyte;
        let message = envelope::read(dialect, line.bytes, self.open.limits.max_depth, &mut odd);
        let message = message.map_err(|bad| line.fault(&bad))?;
        self.oddities.note(odd, line)?;
        match message {
            Message::State(state) => self.acknowledge(control, state.text, line),
            Message::Notice(notice) => self.said.notice(control, &self.open.input, &notice, line),
            _ => {
                let fault = Fault::plugin("message.invalid", "a target sends no records");
                Err(fault.at(line.number, line.byte).value(line.bytes).into())
            }
        }
    }

    fn acknowledge(
        &mut self,
        control: &mut Control<Command>,
        text: &[u8],
        line: Line<'_>,
    ) -> Result<(), Stop> {
        check_state(text, self.open.limits.max_state_bytes, line)?;
        control.send(&Acknowledged {
            input: &self.open.input,
            line: line.number,
            text: &String::from_utf8_lossy(text),
        })
    }
}

impl Role for Acks {
    fn input(&self) -> &str {
        &self.open.input
    }

    fn limits(&self) -> Limits {
        self.open.limits
    }

    fn begin(&mut self, _: &mut Control<Command>) -> Result<(), Stop> {
        Ok(())
    }

    fn take(&mut self, control: &mut Control<Command>, line: Line<'_>) -> Result<(), Stop> {
        self.oddities.note(line.odd, line)?;
        if line.kind() == LineKind::Blank {
            return Ok(self.oddities.note(Oddity::BlankLine.into(), line)?);
        }
        match self.open.dialect {
            Dialect::Singer => self.singer(control, line),
            Dialect::Airbyte => self.airbyte(control, line),
        }
    }

    fn obey(&mut self, _: &mut Control<Command>, command: Command) -> Result<(), Stop> {
        match command {
            Command::Finish { .. } => Ok(()),
            Command::Abort => Err(Stop::Aborted),
            Command::Open(_) | Command::Release { .. } => {
                Err(unexpected("a command that acks has no use for"))
            }
        }
    }

    fn output(&mut self) -> Option<&mut Output> {
        None
    }

    fn is_finishing(&self) -> bool {
        true
    }

    fn may_break_off(&self) -> bool {
        false
    }

    fn complete(&mut self) {}

    fn counts(&self) -> Vec<Counts> {
        Vec::new()
    }

    fn said(&self) -> &Said {
        &self.said
    }

    fn oddities(&self) -> &Oddities {
        &self.oddities
    }
}

/// The JSON value that the line is, without the spaces around it.
fn json(line: &[u8], max_depth: usize) -> Result<(&[u8], OddSet), Bad> {
    if std::str::from_utf8(line).is_err() {
        return Err(Bad::json("not UTF-8", 0));
    }
    let mut scanner = Scanner::new(line, max_depth);
    scanner.nan = false;
    scanner.skip_space();
    let value = scanner.value()?;
    scanner.end()?;
    Ok((value, scanner.odd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_all_of_a_line() {
        for (line, value) in [("{}", "{}"), (" [1, 2] \r", "[1, 2]"), ("null", "null")] {
            let found = json(line.as_bytes(), 8).map(|(value, _)| value);
            assert_eq!(found, Ok(value.as_bytes()));
        }
        for line in ["", "INFO done", "{} {}", "{", "NaN", "\"\u{1}\"", "{'a':1}"] {
            assert!(json(line.as_bytes(), 8).is_err(), "{line}");
        }
        assert!(json(b"\"\xff\"", 8).is_err());
    }
}
