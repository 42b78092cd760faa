//! The open epoch: what has come since the last cut.

use std::time::{Duration, Instant};

use crate::events::{EpochLimits, SealedFile, SealedState};

/// States are cut off into a new epoch before they fill a control message.
const MAX_STATES_BYTES: usize = 2 << 20;
/// So many files end an epoch at its next STATE.
const MANY_FILES: usize = 1_000;
/// A source that needs more files than this before a STATE is stopped.
pub const MAX_FILES: usize = 10_000;

pub struct Epoch {
    pub sequence: u64,
    pub rows: u64,
    /// Closed files.
    pub files: Vec<SealedFile>,
    pub states: Vec<SealedState>,
    states_bytes: usize,
    next_file: usize,
    /// When its first row or state came.
    started: Option<Instant>,
    /// No row has come since the last state.
    at_state: bool,
}

impl Epoch {
    pub fn new(sequence: u64) -> Epoch {
        Epoch {
            sequence,
            rows: 0,
            files: Vec::new(),
            states: Vec::new(),
            states_bytes: 0,
            next_file: 0,
            started: None,
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
        self.rows += 1;
        self.at_state = false;
        if self.started.is_none() {
            self.started = Some(Instant::now());
        }
    }

    /// Keep the last state of each stream, else the last one of all.
    pub fn add_state(&mut self, state: SealedState) {
        match state.stream {
            Some(_) => self.states.retain(|before| before.stream != state.stream),
            None => self.states.clear(),
        }
        self.states.push(state);
        self.states_bytes = self.states.iter().map(|state| state.text.len()).sum();
        self.at_state = true;
        self.started.get_or_insert_with(Instant::now);
    }

    /// Whether it stands at a state and holds something: only there it may be cut.
    pub fn can_be_cut(&self) -> bool {
        self.at_state
    }

    /// Whether it is large or old enough to be cut at a state. `bytes` is its size in staging.
    pub fn is_due(&self, limits: &EpochLimits, bytes: u64) -> bool {
        self.rows >= limits.max_rows
            || bytes >= limits.max_bytes
            || self.states_bytes >= MAX_STATES_BYTES
            || self.files.len() >= MANY_FILES
            || self
                .started
                .is_some_and(|at| at.elapsed() >= Duration::from_secs(limits.max_seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::StreamId;

    const LIMITS: EpochLimits = EpochLimits {
        max_bytes: 1000,
        max_rows: 10,
        max_seconds: 3600,
    };

    fn state(kind: &'static str, stream: Option<&str>, text: &str) -> SealedState {
        let stream = stream.map(|name| StreamId {
            namespace: None,
            name: name.to_owned(),
        });
        SealedState {
            kind,
            stream,
            text: text.to_owned(),
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
    fn it_is_cut_only_at_a_state_and_when_due() {
        let mut epoch = Epoch::new(1);
        assert!(!epoch.can_be_cut() && !epoch.is_due(&LIMITS, 0));
        (0..10).for_each(|_| epoch.add_row());
        assert!(!epoch.can_be_cut() && epoch.is_due(&LIMITS, 0));
        epoch.add_state(state("singer", None, "{}"));
        assert!(epoch.can_be_cut());
        let fresh = Epoch::new(2);
        assert!(fresh.is_due(&LIMITS, 1000) && !fresh.is_due(&LIMITS, 999));
        let mut old = Epoch::new(3);
        old.add_row();
        assert!(old.is_due(
            &EpochLimits {
                max_seconds: 0,
                ..LIMITS
            },
            0
        ));
    }

    #[test]
    fn large_states_end_it() {
        let mut epoch = Epoch::new(1);
        epoch.add_state(state("stream", Some("a"), &"x".repeat(MAX_STATES_BYTES)));
        assert!(epoch.is_due(&LIMITS, 0));
        epoch.add_state(state("stream", Some("a"), "x"));
        assert!(!epoch.is_due(&LIMITS, 0));
    }

    #[test]
    fn files_are_named_by_epoch_and_count() {
        let mut epoch = Epoch::new(7);
        assert_eq!(epoch.name_file(), "000007-0000.parquet");
        assert_eq!(epoch.name_file(), "000007-0001.parquet");
    }
}
