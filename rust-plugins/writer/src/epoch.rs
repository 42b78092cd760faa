//! The open epoch: what has come and is not sealed.
//!
//! A state of one stream says nothing about the rows of another. So a cut seals the streams that stand at their own last state, and
//! leaves those with rows past theirs open; a state that speaks for the whole source seals everything, and only at once.

use crate::events::{SealedFile, SealedState, StreamId};

/// States are cut off into a new epoch before they fill a control message.
pub const MAX_STATES_BYTES: usize = 2 << 20;
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
    next_file: usize,
    /// No row has come since the last state.
    at_state: bool,
}

impl Epoch {
    pub fn new(sequence: u64) -> Epoch {
        Epoch {
            sequence,
            files: Vec::new(),
            states: Vec::new(),
            states_bytes: 0,
            next_file: 0,
            at_state: false,
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
        self.at_state = false;
    }

    /// Keep the last state of each stream, else the last one of all.
    pub fn add_state(&mut self, state: SealedState) {
        match state.stream {
            Some(_) => self.states.retain(|before| before.stream != state.stream),
            None => self.states.clear(),
        }
        self.states.push(state);
        self.count_states();
        self.at_state = true;
    }

    /// Whether a state that speaks for the whole source waits for rows that came after it: nothing can be sealed before the next one.
    pub fn is_past_whole_state(&self) -> bool {
        !self.at_state && self.states.iter().any(|state| state.stream.is_none())
    }

    /// Take files and states of the streams that `is_sealed` names, in order; the next epoch goes on with the others.
    pub fn split(&mut self, is_sealed: impl Fn(&StreamId) -> bool) -> Epoch {
        let (files, open_files) = std::mem::take(&mut self.files)
            .into_iter()
            .partition(|file| is_sealed(&file.stream));
        let (states, open_states) = std::mem::take(&mut self.states)
            .into_iter()
            .partition(|state| state.stream.as_ref().is_none_or(&is_sealed));
        let mut next = Epoch::new(self.sequence + 1);
        next.files = open_files;
        next.states = open_states;
        next.count_states();
        next.at_state = self.at_state;
        let mut sealed = std::mem::replace(self, next);
        sealed.files = files;
        sealed.states = states;
        sealed
    }

    fn count_states(&mut self) {
        self.states_bytes = self.states.iter().map(|state| state.text.len()).sum();
    }
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

    fn state(kind: &'static str, stream: Option<&str>, text: &str) -> SealedState {
        SealedState {
            kind,
            stream: stream.map(id),
            text: text.to_owned(),
        }
    }

    fn file(stream: &str, path: &str) -> SealedFile {
        SealedFile {
            stream: id(stream),
            revision: 1,
            path: path.to_owned(),
            rows: 1,
            bytes: 1,
            sha256: String::new(),
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
        epoch.add_state(state("stream", Some("a"), "a1"));
        epoch.add_state(state("stream", Some("b"), "b1"));
        epoch.add_state(state("stream", Some("a"), "a2"));
        assert_eq!(texts(&epoch), ["b1", "a2"]);
        epoch.add_state(state("global", None, "g1"));
        assert_eq!(texts(&epoch), ["g1"]);
        epoch.add_state(state("stream", Some("a"), "a3"));
        assert_eq!(texts(&epoch), ["g1", "a3"]);
    }

    #[test]
    fn a_split_takes_the_sealed_streams_and_leaves_the_others_whole() {
        let mut epoch = Epoch::new(4);
        epoch.files = vec![file("a", "1"), file("b", "2"), file("a", "3")];
        epoch.add_state(state("stream", Some("a"), "a1"));
        epoch.add_state(state("stream", Some("b"), "b1"));
        let sealed = epoch.split(|stream| stream.name == "a");
        assert_eq!(sealed.sequence, 4);
        assert_eq!(texts(&sealed), ["a1"]);
        let paths: Vec<_> = sealed.files.iter().map(|file| &file.path).collect();
        assert_eq!(paths, ["1", "3"]);
        assert_eq!(epoch.sequence, 5);
        assert_eq!(texts(&epoch), ["b1"]);
        assert_eq!(epoch.files.len(), 1);
        assert_eq!(epoch.states_bytes, 2);
    }

    #[test]
    fn after_a_state_for_all_a_row_closes_the_way_until_the_next() {
        let mut epoch = Epoch::new(1);
        assert!(!epoch.is_past_whole_state());
        epoch.add_state(state("singer", None, "{}"));
        assert!(!epoch.is_past_whole_state());
        epoch.add_row();
        assert!(epoch.is_past_whole_state());
        epoch.add_state(state("singer", None, "{}"));
        assert!(!epoch.is_past_whole_state());
        let mut per_stream = Epoch::new(1);
        per_stream.add_state(state("stream", Some("a"), "{}"));
        per_stream.add_row();
        assert!(!per_stream.is_past_whole_state());
    }

    #[test]
    fn files_are_named_by_epoch_and_count() {
        let mut epoch = Epoch::new(7);
        assert_eq!(epoch.name_file(), "000007-0000.parquet");
        assert_eq!(epoch.name_file(), "000007-0001.parquet");
    }
}
