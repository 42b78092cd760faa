//! A rate: so many a second, on average over some seconds.

use std::time::Instant;

/// A bucket that fills at a steady rate and is emptied by one each time (token bucket).
#[derive(Debug)]
pub struct Rate {
    per_second: f64,
    most: f64,
    level: f64,
    at: Instant,
}

impl Rate {
    pub fn new(per_second: f64, over_seconds: f64, now: Instant) -> Rate {
        let most = (per_second * over_seconds).max(1.0);
        Rate {
            per_second,
            most,
            level: most,
            at: now,
        }
    }

    /// Whether one more is within the rate; it is then counted.
    pub fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.level = (self.level + passed * self.per_second).min(self.most);
        let has_room = self.level >= 1.0;
        if has_room {
            self.level -= 1.0;
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let mut rate = Rate::new(5.0, 2.0, start);
        assert_eq!((0..20).filter(|_| rate.take(start)).count(), 10);
        let later = start + Duration::from_millis(1000);
        assert_eq!((0..20).filter(|_| rate.take(later)).count(), 5);
        let much_later = start + Duration::from_secs(1000);
        assert_eq!((0..20).filter(|_| rate.take(much_later)).count(), 10);
    }
}
