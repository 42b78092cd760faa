//! States on their way: translated, merged, withheld.

use std::collections::VecDeque;

use dativo_wire::fault::{Fault, StreamName};
use dativo_wire::scan::{DEEPEST, Scanner};

use crate::events::{Dialect, Limits, States};
use crate::fields::{Fields, KeyMemory};

/// Keys of an Airbyte state that count its records or name it for its orchestrator. A source needs none of them back, and a count
/// written as a fraction breaks tools that read Singer states as decimals and cannot write those.
const NOT_CONTENT: [&str; 3] = ["sourceStats", "destinationStats", "id"];

/// One state that may go out.
pub struct Outgoing {
    /// Counts every state of the input, from 1.
    pub number: u64,
    pub kind: &'static str,
    pub stream: Option<StreamName>,
    /// As the source wrote it.
    pub text: String,
    /// As the reader of the output gets it; none if that is the same.
    pub sent: Option<String>,
}

impl Outgoing {
    fn bytes(&self) -> usize {
        self.text.len() + self.sent.as_ref().map_or(0, String::len) + size_of::<Outgoing>()
    }

    /// The line that carries it, but for its tail.
    pub fn line(&self, to: Dialect) -> [&[u8]; 2] {
        let head: &[u8] = match to {
            Dialect::Airbyte => b"{\"type\":\"STATE\",\"state\":",
            Dialect::Singer => b"{\"type\":\"STATE\",\"value\":",
        };
        [head, self.sent.as_ref().unwrap_or(&self.text).as_bytes()]
    }
}

/// Numbers states and keeps those that may not go out yet.
pub struct StateQueue {
    from: Dialect,
    to: Dialect,
    mode: States,
    limits: Limits,
    /// States met so far.
    number: u64,
    /// Airbyte to Singer: the states that make up the whole one, by stream, in the order in which they came first.
    merged: Vec<(Option<StreamName>, String)>,
    content: Fields,
    memory: KeyMemory,
    withheld: VecDeque<Outgoing>,
    withheld_bytes: usize,
    released: u64,
    /// A record was left out: no later state is true of what went out.
    stopped: bool,
}

impl StateQueue {
    pub fn new(from: Dialect, to: Dialect, mode: States, limits: Limits) -> StateQueue {
        StateQueue {
            from,
            to,
            mode,
            limits,
            number: 0,
            merged: Vec::new(),
            content: Fields::new(&NOT_CONTENT.map(str::to_owned), usize::MAX),
            memory: KeyMemory::new(),
            withheld: VecDeque::new(),
            withheld_bytes: 0,
            released: 0,
            stopped: false,
        }
    }

    /// Count a state that the source starts from as one of its own: a Singer value made of Airbyte's holds those of all streams.
    pub fn start_from(
        &mut self,
        stream: Option<StreamName>,
        text: String,
    ) -> Result<(), Box<Fault>> {
        if (self.from, self.to) == (Dialect::Airbyte, Dialect::Singer) {
            self.merge(stream, text)?;
        }
        Ok(())
    }

    /// No state that comes from now on goes out.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Take the next state of the input. [`StateQueue::next`] hands out what may go on.
    pub fn add(
        &mut self,
        kind: &'static str,
        stream: Option<StreamName>,
        text: &[u8],
    ) -> Result<(), Box<Fault>> {
        self.number += 1;
        if self.mode == States::Drop || self.stopped {
            return Ok(());
        }
        let text = String::from_utf8_lossy(text).into_owned();
        let sent = match (self.from, self.to) {
            (Dialect::Airbyte, Dialect::Singer) => Some(self.merge(stream.clone(), text.clone())?),
            (Dialect::Singer, Dialect::Airbyte) => Some(format!(
                "{{\"type\":\"GLOBAL\",\"global\":{{\"shared_state\":{{\"singer_state\":{text}}},\"stream_states\":[]}}}}"
            )),
            _ => None,
        };
        let state = Outgoing {
            number: self.number,
            kind,
            stream,
            text,
            sent,
        };
        self.withheld_bytes += state.bytes();
        self.withheld.push_back(state);
        let limit = self.limits.max_withheld_bytes;
        if self.mode == States::Withhold && self.withheld_bytes > limit {
            let message = format!("withheld states of more than {limit} bytes");
            return Err(Fault::plugin("limit.withheld_states", message)
                .hint("limits.max_state_bytes sets the most, 16 states of that size"));
        }
        Ok(())
    }

    /// States up to `number` may go out.
    pub fn release(&mut self, number: u64) {
        self.released = self.released.max(number);
    }

    /// The next state that may go out.
    pub fn next(&mut self) -> Option<Outgoing> {
        let first = self.withheld.front()?;
        if self.mode == States::Withhold && first.number > self.released {
            return None;
        }
        self.withheld_bytes -= first.bytes();
        self.withheld.pop_front()
    }

    /// A state without what is not its content; every other member keeps its bytes.
    fn content_of(&mut self, text: String) -> String {
        let scanner = Scanner::new(text.as_bytes(), DEEPEST);
        if self.content.read(scanner, &mut self.memory).is_err() {
            return text;
        }
        let mut kept = Vec::new();
        self.content.append_kept(text.as_bytes(), &mut kept);
        String::from_utf8(kept).unwrap_or(text)
    }

    /// The Singer value that holds the last state of each stream, or of the whole source.
    fn merge(&mut self, stream: Option<StreamName>, text: String) -> Result<String, Box<Fault>> {
        if stream.is_none() || self.merged.iter().any(|(other, _)| other.is_none()) {
            self.merged.clear();
        }
        let text = self.content_of(text);
        match self.merged.iter_mut().find(|(other, _)| *other == stream) {
            Some((_, old)) => *old = text,
            None => self.merged.push((stream, text)),
        }
        let all: Vec<&str> = self.merged.iter().map(|(_, text)| text.as_str()).collect();
        let value = format!("{{\"airbyte_states\":[{}]}}", all.join(","));
        let limit = self.limits.max_state_bytes;
        if value.len() > limit {
            let message = format!(
                "the states of all streams take {} bytes; the limit is {limit}",
                value.len()
            );
            return Err(
                Fault::plugin("state.too_large", message).hint("limits.max_state_bytes sets it")
            );
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        max_line_bytes: 1 << 20,
        max_depth: 64,
        max_columns: 100,
        max_streams: 10,
        max_state_bytes: 200,
        max_text_lines: 10,
        max_output_bytes: None,
        max_withheld_bytes: 4000,
    };

    fn stream(name: &str) -> Option<StreamName> {
        Some(StreamName {
            namespace: None,
            name: name.to_owned(),
        })
    }

    fn line(state: Option<Outgoing>, to: Dialect) -> String {
        let state = state.expect("a state");
        String::from_utf8(state.line(to).concat()).expect("UTF-8") + "}"
    }

    #[test]
    fn airbyte_states_become_one_singer_value() {
        let mut queue = StateQueue::new(Dialect::Airbyte, Dialect::Singer, States::Pass, LIMITS);
        let mut sent = |kind, stream, text: &str| {
            queue.add(kind, stream, text.as_bytes()).expect("taken");
            line(queue.next(), Dialect::Singer)
        };
        for (kind, stream, text, expected) in [
            ("stream", stream("a"), "1", "1"),
            ("stream", stream("b"), "2.50", "1,2.50"),
            ("stream", stream("a"), "3", "3,2.50"),
            ("global", None, "4", "4"),
            ("stream", stream("b"), "5", "5"),
            ("legacy", None, "6", "6"),
        ] {
            let expected =
                format!("{{\"type\":\"STATE\",\"value\":{{\"airbyte_states\":[{expected}]}}}}");
            assert_eq!(sent(kind, stream, text), expected);
        }
        let fault = queue
            .add("global", None, &[b'7'; 190])
            .expect_err("too large");
        assert_eq!(fault.code, "state.too_large");
    }

    #[test]
    fn counts_and_ids_are_no_part_of_a_singer_value() {
        let mut queue = StateQueue::new(Dialect::Airbyte, Dialect::Singer, States::Pass, LIMITS);
        let text =
            r#"{"id":7,"type":"STREAM", "stream":{"id": 1.0},"sourceStats":{"recordCount":3.0}}"#;
        queue
            .add("stream", stream("a"), text.as_bytes())
            .expect("taken");
        let state = queue.next().expect("a state");
        assert_eq!(state.text, text);
        assert_eq!(
            state.sent.as_deref(),
            Some(r#"{"airbyte_states":[{"type":"STREAM","stream":{"id": 1.0}}]}"#)
        );
    }

    #[test]
    fn streams_that_say_nothing_keep_the_state_that_they_started_from() {
        let mut queue = StateQueue::new(Dialect::Airbyte, Dialect::Singer, States::Pass, LIMITS);
        for (name, text) in [("a", "1"), ("b", "2")] {
            queue.start_from(stream(name), text.into()).expect("taken");
        }
        assert!(queue.next().is_none());
        queue.add("stream", stream("b"), b"3").expect("taken");
        assert_eq!(
            line(queue.next(), Dialect::Singer),
            r#"{"type":"STATE","value":{"airbyte_states":[1,3]}}"#
        );
        assert!(queue.start_from(None, "7".repeat(190)).is_err());
    }

    #[test]
    fn a_singer_state_becomes_a_global_one() {
        let mut queue = StateQueue::new(Dialect::Singer, Dialect::Airbyte, States::Pass, LIMITS);
        queue.add("singer", None, b"{\"a\":1.0}").expect("taken");
        assert_eq!(
            line(queue.next(), Dialect::Airbyte),
            r#"{"type":"STATE","state":{"type":"GLOBAL","global":{"shared_state":{"singer_state":{"a":1.0}},"stream_states":[]}}}"#
        );
    }

    #[test]
    fn withheld_states_go_out_in_order_and_only_when_released() {
        let mut queue = StateQueue::new(Dialect::Singer, Dialect::Singer, States::Withhold, LIMITS);
        for text in ["1", "2", "3"] {
            queue.add("singer", None, text.as_bytes()).expect("taken");
        }
        assert!(queue.next().is_none());
        queue.release(2);
        queue.release(1);
        let numbers: Vec<u64> = std::iter::from_fn(|| queue.next())
            .map(|state| state.number)
            .collect();
        assert_eq!(numbers, [1, 2]);
        queue.stop();
        queue.add("singer", None, b"4").expect("counted");
        queue.release(9);
        assert_eq!(queue.next().map(|state| state.number), Some(3));
        assert!(queue.next().is_none());
        assert_eq!(queue.withheld_bytes, 0);
    }

    #[test]
    fn withheld_bytes_are_bounded() {
        let mut queue = StateQueue::new(Dialect::Singer, Dialect::Singer, States::Withhold, LIMITS);
        let fault = (0..1000)
            .find_map(|_| queue.add("singer", None, &[b'1'; 100]).err())
            .expect("bounded");
        assert_eq!(fault.code, "limit.withheld_states");
    }
}
