//! When stats go out, and where the time of reading goes.

use std::time::{Duration, Instant};

use dativo_wire::framing::Framer;

use crate::events::Reading;

/// Stats go out once in this time, and no two of them closer than half of it.
const STATS_INTERVAL: Duration = Duration::from_secs(1);

pub struct Stopwatch {
    stats_at: Instant,
    /// Bytes read when stats went out last.
    stats_bytes: u64,
    /// Since when the pipe has been empty while we wait on it, and how long it was before.
    idle_since: Option<Instant>,
    waited: Duration,
    /// How long what comes behind took nothing.
    blocked: Duration,
}

impl Stopwatch {
    #[expect(clippy::new_without_default, reason = "it starts to run")]
    pub fn new() -> Stopwatch {
        Stopwatch {
            stats_at: Instant::now(),
            stats_bytes: 0,
            idle_since: None,
            waited: Duration::ZERO,
            blocked: Duration::ZERO,
        }
    }

    pub fn until_stats(&self) -> Duration {
        STATS_INTERVAL.saturating_sub(self.stats_at.elapsed())
    }

    /// Whether stats should go out now.
    pub fn is_due(&self, framer: &Framer) -> bool {
        let age = self.stats_at.elapsed();
        let moved = framer.bytes_read() != self.stats_bytes;
        age >= STATS_INTERVAL || moved && age >= STATS_INTERVAL / 2
    }

    /// Stats go out now: what they say of reading.
    pub fn reading(&mut self, framer: &Framer, ended: bool) -> Reading {
        self.stats_at = Instant::now();
        self.stats_bytes = framer.bytes_read();
        let since = self.idle_since;
        let idle = since.map_or(Duration::ZERO, |since| since.elapsed());
        Reading {
            bytes: framer.bytes_read(),
            lines: framer.lines(),
            idle_s: idle.as_secs_f64(),
            waited_s: (self.waited + idle).as_secs_f64(),
            blocked_s: self.blocked.as_secs_f64(),
            ended,
        }
    }

    /// The pipe is waited on from now on, unless it was already.
    pub fn begin_idle(&mut self) {
        self.idle_since.get_or_insert_with(Instant::now);
    }

    /// Something came, or reading stands still.
    pub fn end_idle(&mut self) {
        if let Some(since) = self.idle_since.take() {
            self.waited += since.elapsed();
        }
    }

    pub fn add_blocked(&mut self, time: Duration) {
        self.blocked += time;
    }
}
