//! What is wrong with a file.

use std::fmt::Display;
use std::io;

pub type Result<T> = std::result::Result<T, Flaw>;

#[derive(Debug)]
pub struct Flaw {
    /// What goes behind the file's name: "has 3 rows, …".
    pub message: String,
    /// The column that it was found in.
    pub column: Option<String>,
    /// The machine failed to read it; nothing is known of the file.
    pub unreadable: bool,
}

impl Flaw {
    pub fn new(message: impl Into<String>) -> Flaw {
        Flaw {
            message: message.into(),
            column: None,
            unreadable: false,
        }
    }

    pub fn unreadable(error: &io::Error) -> Flaw {
        Flaw {
            unreadable: true,
            ..Flaw::new(format!("cannot be read: {error}"))
        }
    }

    /// The same, in `column`; the innermost one stays.
    pub fn of(mut self, column: &str) -> Flaw {
        self.column.get_or_insert_with(|| column.to_owned());
        self
    }
}

/// Refuse unless `holds`.
pub fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(Flaw::new(message()))
    }
}

/// A number of the file as a count.
pub fn count(what: &str, value: impl TryInto<u64> + Display + Copy) -> Result<u64> {
    value
        .try_into()
        .map_err(|_| Flaw::new(format!("has a {what} of {value}")))
}
