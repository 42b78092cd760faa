//! What went wrong, and at which wall.

use std::fmt;
use std::io;

pub type Result<T> = std::result::Result<T, Failure>;

/// One failed step. `wall` is a name of docs/spec/sandbox.md, or `plan`.
#[derive(Debug)]
pub struct Failure {
    pub wall: &'static str,
    pub reason: String,
    /// Of the program's execve(2), when that is what failed.
    pub errno: Option<i32>,
}

impl Failure {
    pub fn new(wall: &'static str, reason: impl Into<String>) -> Self {
        Self {
            wall,
            reason: reason.into(),
            errno: None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.wall, self.reason)
    }
}

/// Names the wall and the step of a system call that failed.
pub trait At<T> {
    fn at(self, wall: &'static str, step: impl fmt::Display) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, wall: &'static str, step: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::new(wall, format!("{step}: {error}")))
    }
}
