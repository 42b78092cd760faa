//! The open epoch: what has come and is not sealed.
//!
//! A state of one stream says nothing about the rows of another. So a cut seals the streams that stand at their own last state, and
//! leaves those with rows past theirs open; a state that speaks for the whole source seals everything, and only at once.

use crate::events::{Echo, SealedFile, SealedState, StreamId};

/// States are cut off into a new epoch before they fill a control message, in which they are escaped.
pub const MAX_STATES_BYTES: usize = 2 << 20;
/// The same with what is echoed.
pub const MAX_TEXT_BYTES: usize = 4 << 20;
/// A source whose states take more, and cannot be cut off, is stopped.
pub const MAX_HELD_TEXT_BYTES: usize = 6 << 20;
/// What a state takes in a control message besides its text and its stream.
const MESSAGE_BYTES: usize = 64;
/// So many files end an epoch at its next STATE.
pub const MANY_FILES: usize = 1_000;
/// A source that needs more files than this before a STATE is stopped.
pub const MAX_FILES: usize = 10_000;

pub struct Epoch {
    pub sequence: u64,
    /// Closed files.
    pub files: Vec<SealedFile>,
    pub states: Vec<SealedState>,
    pub states_bytes: usize,
    /// Every state, in order, where that is asked for.
    pub echo: Vec<Echo>,
    echo_bytes: usize,
    next_file: usize,
    /// No row has come since the last state that speaks for the whole source.
    at_whole_state: bool,
}

impl Epoch {
    pub fn new(sequence: u64) -> Epoch {
        Epoch {
            sequence,
            files: Vec::new(),
            states: Vec::new(),
            states_bytes: 0,
            echo: Vec::new(),
            echo_bytes: 0,
            next_file: 0,
            at_whole_state: false,
        }
    }

    /// The name of its next file.
    pub fn name_file(&mut self) -> String {
        let name = format!("{:06}-{:04}.parquet", self.sequence, self.next_file);
        self.next_file += 1;
        name
    }

    #[inline(always)]
    pub fn add_row(&mut self) {
        self.at_whole_state = false;
    }

    /// Keep the last state of each stream, else the last one of all; for the echo all, by `number`.
    pub fn add_state(
        &mut self,
        kind: &'static str,
        stream: Option<StreamId>,
        text: String,
        number: Option<u64>,
    ) {
        let message_bytes = MESSAGE_BYTES + escaped_bytes(&text);
        let state = SealedState {
            kind,
            stream,
            text,
            message_bytes,
        };
        match state.stream {
            Some(_) => self.states.retain(|before| before.stream != state.stream),
            None => {
                self.states.clear();
                self.at_whole_state = true;
            }
        }
        if let Some(number) = number {
            self.echo.push(Echo {
                number,
                text: state.text.clone(),
                stream: state.stream.clone(),
                message_bytes,
            });
            self.echo_bytes += message_bytes;
        }
        self.states.push(state);
        self.states_bytes = self.states.iter().map(|state| state.message_bytes).sum();
    }

    /// What states and echo take in a control message.
    pub fn text_bytes(&self) -> usize {
        self.states_bytes + self.echo_bytes
    }

    /// Whether a state that speaks for the whole source waits for rows that came after it: nothing can be sealed before the next one.
    pub fn is_past_whole_state(&self) -> bool {
        !self.at_whole_state && self.has_whole_state()
    }

    pub fn has_whole_state(&self) -> bool {
        self.states.iter().any(|state| state.stream.is_none())
    }

    /// Take files, states and echo of the streams that `is_sealed` names, in order; the next epoch goes on with the others.
    pub fn split(&mut self, is_sealed: impl Fn(&StreamId) -> bool) -> Epoch {
        let (files, open_files) = std::mem::take(&mut self.files)
            .into_iter()
            .partition(|file| is_sealed(&file.of));
        let (states, open_states) = std::mem::take(&mut self.states)
            .into_iter()
            .partition(|state| state.stream.as_ref().is_none_or(&is_sealed));
        let (echo, open_echo) = std::mem::take(&mut self.echo)
            .into_iter()
            .partition(|echo| echo.stream.as_ref().is_none_or(&is_sealed));
        let mut next = Epoch::new(self.sequence + 1);
        next.files = open_files;
        next.states = open_states;
        next.echo = open_echo;
        next.states_bytes = next.states.iter().map(|state| state.message_bytes).sum();
        next.echo_bytes = next.echo.iter().map(|echo| echo.message_bytes).sum();
        next.at_whole_state = self.at_whole_state;
        let mut sealed = std::mem::replace(self, next);
        sealed.files = files;
        sealed.states = states;
        sealed.echo = echo;
        sealed
    }
}

/// The bytes of `text`, which is JSON, in a JSON string.
fn escaped_bytes(text: &str) -> usize {
    let doubled = |byte: &&u8| matches!(byte, b'"' | b'\\' | b'\t' | b'\r');
    text.len() + text.as_bytes().iter().filter(doubled).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> StreamId {
        StreamId {
            namespace: None,
            name: name.to_owned(),
        }
    }

    fn add(epoch: &mut Epoch, stream: Option<&str>, text: &str) {
        epoch.add_state("kind", stream.map(id), text.to_owned(), None);
    }

    fn file(stream: &str, path: &str) -> SealedFile {
        SealedFile {
            stream: id(stream),
            revision: 1,
            path: path.to_owned(),
            rows: 1,
            bytes: 1,
            sha256: String::new(),
            version: None,
            partition: None,
            of: id(stream),
        }
    }

    fn texts(epoch: &Epoch) -> Vec<&str> {
        epoch
            .states
            .iter()
            .map(|state| state.text.as_str())
            .collect()
    }

    #[test]
    fn the_last_state_of_each_stream_is_kept() {
        let mut epoch = Epoch::new(1);
        add(&mut epoch, Some("a"), "a1");
        add(&mut epoch, Some("b"), "b1");
        add(&mut epoch, Some("a"), "a2");
        assert_eq!(texts(&epoch), ["b1", "a2"]);
        add(&mut epoch, None, "g1");
        assert_eq!(texts(&epoch), ["g1"]);
        add(&mut epoch, Some("a"), "a3");
        assert_eq!(texts(&epoch), ["g1", "a3"]);
    }

    #[test]
    fn a_split_takes_the_sealed_streams_and_leaves_the_others_whole() {
        let mut epoch = Epoch::new(4);
        epoch.files = vec![file("a", "1"), file("b", "2"), file("a", "3")];
        add(&mut epoch, Some("a"), "a1");
        add(&mut epoch, Some("b"), "b1");
        let sealed = epoch.split(|stream| stream.name == "a");
        assert_eq!(sealed.sequence, 4);
        assert_eq!(texts(&sealed), ["a1"]);
        let paths: Vec<_> = sealed.files.iter().map(|file| &file.path).collect();
        assert_eq!(paths, ["1", "3"]);
        assert_eq!(epoch.sequence, 5);
        assert_eq!(texts(&epoch), ["b1"]);
        assert_eq!(epoch.files.len(), 1);
        assert_eq!(epoch.states_bytes, MESSAGE_BYTES + 2);
    }

    #[test]
    fn after_a_state_for_all_a_row_closes_the_way_until_the_next() {
        let mut epoch = Epoch::new(1);
        assert!(!epoch.is_past_whole_state());
        add(&mut epoch, None, "{}");
        assert!(!epoch.is_past_whole_state());
        epoch.add_row();
        assert!(epoch.is_past_whole_state());
        add(&mut epoch, None, "{}");
        assert!(!epoch.is_past_whole_state());
        let mut per_stream = Epoch::new(1);
        add(&mut per_stream, Some("a"), "{}");
        per_stream.add_row();
        assert!(!per_stream.is_past_whole_state());
    }

    #[test]
    fn a_state_of_one_stream_does_not_open_the_way_past_one_for_all() {
        let mut epoch = Epoch::new(1);
        add(&mut epoch, None, "{}");
        epoch.add_row();
        add(&mut epoch, Some("a"), "{}");
        assert!(epoch.is_past_whole_state());
        add(&mut epoch, None, "{}");
        assert!(!epoch.is_past_whole_state());
    }

    #[test]
    fn every_state_is_echoed_in_order_with_its_stream() {
        let mut epoch = Epoch::new(1);
        for (number, stream) in [(1, "a"), (2, "b"), (3, "a")] {
            epoch.add_state("stream", Some(id(stream)), "\"\"".to_owned(), Some(number));
        }
        assert_eq!(epoch.text_bytes(), 5 * (MESSAGE_BYTES + 4));
        let sealed = epoch.split(|stream| stream.name == "a");
        let numbers = |epoch: &Epoch| {
            let all = epoch.echo.iter().map(|echo| echo.number);
            all.collect::<Vec<_>>()
        };
        assert_eq!((numbers(&sealed), numbers(&epoch)), (vec![1, 3], vec![2]));
        assert_eq!(epoch.text_bytes(), 2 * (MESSAGE_BYTES + 4));
    }

    #[test]
    fn files_are_named_by_epoch_and_count() {
        let mut epoch = Epoch::new(7);
        assert_eq!(epoch.name_file(), "000007-0000.parquet");
        assert_eq!(epoch.name_file(), "000007-0001.parquet");
    }
}
