//! How far each file was read: what a STATE holds, and what it says about the files that are there now.
//!
//! A file is named by path, size, time and a mark: a hash over its beginning and over the bytes before the place that it was read to.
//! A file that has grown behind that place is read on from there, one that is another now is read from its start.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::Format;
use crate::listing::Found;

/// Bytes hashed at the beginning and before the place.
const MARKED_BYTES: u64 = 4096;
/// A state above this would not be taken: files that are gone are forgotten then.
pub const MAX_STATE_BYTES: usize = 900_000;

/// What was read of a file: bytes (of Parquet: all or none) and rows.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Place {
    pub size: u64,
    pub mtime_ns: i64,
    pub bytes: u64,
    pub rows: u64,
    pub mark: String,
}

/// The state of a stream.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Position {
    #[serde(default)]
    pub files: BTreeMap<String, Place>,
}

/// What is to be done with a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Todo {
    /// It was read and has not changed.
    Nothing,
    /// It was touched: only its time is new.
    Note(Place),
    /// From this place; 0 bytes and rows for its start. `changed`: it was read before, and is another file now.
    Read { from: Place, changed: bool },
}

/// What the position says about `found`, of which `file` is open.
pub fn todo(
    before: Option<&Place>,
    found: &Found,
    file: &File,
    format: Format,
) -> io::Result<Todo> {
    let anew = |changed| Todo::Read {
        from: Place::default(),
        changed,
    };
    let Some(place) = before else {
        return Ok(anew(false));
    };
    let is_done = place.bytes == place.size;
    let same = place.size == found.size && place.mtime_ns == found.mtime_ns;
    if same && is_done {
        return Ok(Todo::Nothing);
    }
    if place.bytes > found.size || place.size > found.size {
        return Ok(anew(true));
    }
    if format == Format::Parquet {
        // Its footer lies at its end: one that has grown is another.
        return Ok(
            if place.size != found.size || mark(file, found.size)? != place.mark {
                anew(true)
            } else if is_done {
                Todo::Note(noted(place, found))
            } else {
                Todo::Read {
                    from: place.clone(),
                    changed: false,
                }
            },
        );
    }
    if mark(file, place.bytes)? != place.mark {
        return Ok(anew(true));
    }
    if place.bytes == found.size {
        return Ok(Todo::Note(noted(place, found)));
    }
    // The last record may have had no line end; what follows now must not be more of it.
    if place.bytes > 0
        && byte_at(file, place.bytes - 1)? != b'\n'
        && !matches!(byte_at(file, place.bytes)?, b'\n' | b'\r')
    {
        return Ok(anew(true));
    }
    Ok(Todo::Read {
        from: place.clone(),
        changed: false,
    })
}

fn noted(place: &Place, found: &Found) -> Place {
    Place {
        size: found.size,
        mtime_ns: found.mtime_ns,
        ..place.clone()
    }
}

fn byte_at(file: &File, offset: u64) -> io::Result<u8> {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    Ok(byte[0])
}

/// The hash of what lies before `bytes`, 16 hexadecimal digits.
pub fn mark(file: &File, bytes: u64) -> io::Result<String> {
    let mut hash = Sha256::new();
    hash.update(bytes.to_le_bytes());
    let length = MARKED_BYTES.min(bytes);
    let mut part = vec![0; length as usize];
    file.read_exact_at(&mut part, 0)?;
    hash.update(&part);
    file.read_exact_at(&mut part, bytes - length)?;
    hash.update(&part);
    let digest = hash.finalize();
    Ok(digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

impl Position {
    /// Forget files that are not among `there`, if the state grows too large; whether it fits.
    pub fn fit(&mut self, there: &[Found]) -> bool {
        if self.weight() > MAX_STATE_BYTES {
            let is_there =
                |path: &String| there.binary_search_by(|found| found.path.cmp(path)).is_ok();
            self.files.retain(|path, _| is_there(path));
        }
        self.weight() <= MAX_STATE_BYTES
    }

    /// The bytes that it takes as JSON, or a little more.
    pub fn weight(&self) -> usize {
        self.files.keys().map(|path| path.len() + 150).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(name: &str, text: &[u8]) -> (File, Found) {
        let path = std::env::temp_dir().join(format!("dativo-state-{}-{name}", std::process::id()));
        let mut file = File::create(&path).expect("made");
        file.write_all(text).expect("written");
        let file = File::open(&path).expect("opened");
        let found = Found::new(
            path.to_string_lossy().into_owned(),
            &file.metadata().expect("there"),
        );
        std::fs::remove_file(&path).expect("removed");
        (file, found)
    }

    fn place(file: &File, found: &Found, bytes: u64, rows: u64) -> Place {
        Place {
            size: found.size,
            mtime_ns: found.mtime_ns,
            bytes,
            rows,
            mark: mark(file, bytes).expect("marked"),
        }
    }

    fn is_anew(todo: &Todo) -> bool {
        matches!(todo, Todo::Read { from, changed: true } if from.bytes == 0 && from.rows == 0)
    }

    #[test]
    fn what_was_read_is_not_read_again() {
        let (file, found) = file("done", b"a\n1\n2\n");
        let done = place(&file, &found, 6, 2);
        let todo_of = |place: &Place| todo(Some(place), &found, &file, Format::Csv).expect("read");
        assert_eq!(todo_of(&done), Todo::Nothing);
        let older = Place {
            mtime_ns: 1,
            ..done.clone()
        };
        assert_eq!(todo_of(&older), Todo::Note(done.clone()));
        let half = place(&file, &found, 4, 1);
        let on = Todo::Read {
            from: half.clone(),
            changed: false,
        };
        assert_eq!(todo_of(&half), on);
        let new = todo(None, &found, &file, Format::Csv).expect("read");
        let start = Todo::Read {
            from: Place::default(),
            changed: false,
        };
        assert_eq!(new, start);
    }

    #[test]
    fn a_file_that_has_grown_is_read_on_and_a_changed_one_anew() {
        let (old, old_found) = file("old", b"a\n1\n2\n");
        let done = place(&old, &old_found, 6, 2);
        let against = |name: &str, text: &[u8], place: &Place| {
            let (file, found) = file(name, text);
            todo(Some(place), &found, &file, Format::Csv).expect("read")
        };
        let grown = against("grown", b"a\n1\n2\n3\n", &done);
        assert_eq!(
            grown,
            Todo::Read {
                from: done.clone(),
                changed: false
            }
        );
        assert!(is_anew(&against("changed", b"a\n1\n7\n3\n", &done)));
        assert!(is_anew(&against("shorter", b"a\n1\n", &done)));
        let (open, open_found) = file("open", b"a\n1\n2");
        let unended = place(&open, &open_found, 5, 2);
        assert!(is_anew(&against("more", b"a\n1\n25\n", &unended)));
        let ended = against("ended", b"a\n1\n2\n3\n", &unended);
        assert!(matches!(ended, Todo::Read { changed: false, .. }));
    }

    #[test]
    fn parquet_that_has_grown_is_another_file() {
        let (old, old_found) = file("p", b"PAR1....PAR1");
        let done = place(&old, &old_found, 12, 2);
        let (new, new_found) = file("q", b"PAR1....PAR1....PAR1");
        let todo = todo(Some(&done), &new_found, &new, Format::Parquet).expect("read");
        assert!(is_anew(&todo));
    }

    #[test]
    fn what_is_gone_is_forgotten_only_when_the_state_grows_too_large() {
        let mut position = Position::default();
        position.files.insert("/gone".to_owned(), Place::default());
        assert!(position.fit(&[]));
        assert_eq!(position.files.len(), 1);
        for number in 0..10_000 {
            position
                .files
                .insert(format!("/{number}"), Place::default());
        }
        assert!(position.fit(&[]));
        assert!(position.files.is_empty());
    }
}
