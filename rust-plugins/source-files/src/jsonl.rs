//! Files of JSON lines: every line is an object, checked and handed on as it stands.

pub mod infer;

use std::fs::File;
use std::os::unix::fs::FileExt;

use dativo_wire::fault::{MAX_VALUE_CHARS, clip};
use dativo_wire::scan::{Bad, Scanner};

/// The longest line; the envelope around it must fit too.
pub const MAX_LINE_BYTES: usize = (32 << 20) - 4096;
const READ_BYTES: usize = 256 << 10;
const MAX_DEPTH: usize = 60;

/// The lines of a file from an offset to the size that it had when it was opened.
pub struct Lines<'f> {
    file: &'f File,
    size: u64,
    /// Offset in the file of the buffer's first byte, and of the next line in the buffer.
    offset: u64,
    start: usize,
    filled: usize,
    buffer: Vec<u8>,
    /// Lines that were handed out, with those before `offset`.
    pub rows: u64,
}

impl<'f> Lines<'f> {
    pub fn new(file: &'f File, offset: u64, rows: u64, size: u64) -> Lines<'f> {
        Lines {
            file,
            size,
            offset,
            start: 0,
            filled: 0,
            buffer: vec![0; READ_BYTES],
            rows,
        }
    }

    /// Where the next line begins in the file.
    pub fn offset(&self) -> u64 {
        self.offset + self.start as u64
    }

    /// The next line that is not blank: one JSON object without spaces around it. None at the end.
    pub fn next(&mut self) -> Result<Option<&[u8]>, String> {
        loop {
            let begin = self.start;
            let Some(end) = self.end()? else {
                return Ok(None);
            };
            let line = trimmed(&self.buffer, begin.min(self.start), end);
            let (from, to) = line;
            self.start = (end + 1).min(self.filled);
            if from == to {
                continue;
            }
            self.rows += 1;
            let line = &self.buffer[from..to];
            if let Err(bad) = check(line) {
                let at = self.offset + (from + bad.at) as u64;
                return Err(format!(
                    "record {} at byte {at}: {}: {:?}",
                    self.rows,
                    bad.message,
                    clip(&line[bad.at.min(line.len())..], MAX_VALUE_CHARS)
                ));
            }
            return Ok(Some(&self.buffer[from..to]));
        }
    }

    /// The end of the line that begins at `start`; reads until it is there. The last line may have no end.
    fn end(&mut self) -> Result<Option<usize>, String> {
        let mut scanned = self.start;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[scanned..self.filled]) {
                return Ok(Some(scanned + at));
            }
            let length = self.filled - self.start;
            if self.offset + self.filled as u64 >= self.size {
                return Ok((length > 0).then_some(self.filled));
            }
            if length > MAX_LINE_BYTES {
                return Err(format!(
                    "record {} at byte {}: a line of more than {MAX_LINE_BYTES} bytes",
                    self.rows + 1,
                    self.offset()
                ));
            }
            self.buffer.copy_within(self.start..self.filled, 0);
            self.offset += self.start as u64;
            self.start = 0;
            self.filled = length;
            scanned = length;
            if self.buffer.len() - length < READ_BYTES / 2 {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), String> {
        let at = self.offset + self.filled as u64;
        let left = usize::try_from(self.size - at).unwrap_or(usize::MAX);
        let room = (self.buffer.len() - self.filled).min(left);
        let part = &mut self.buffer[self.filled..self.filled + room];
        match self.file.read_at(part, at) {
            Ok(0) => Err("it became shorter while it was read".to_owned()),
            Ok(count) => {
                self.filled += count;
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A line without the spaces around it, and without the mark that some editors begin a file with.
fn trimmed(buffer: &[u8], start: usize, end: usize) -> (usize, usize) {
    let line = &buffer[start..end];
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let from = end - line.trim_ascii_start().len();
    (from, from + buffer[from..end].trim_ascii_end().len())
}

/// Whether a line is one JSON object: what is inside an envelope must not get out of it.
fn check(line: &[u8]) -> Result<(), Bad> {
    if let Err(error) = simdutf8::compat::from_utf8(line) {
        return Err(Bad::json("not UTF-8", error.valid_up_to()));
    }
    if line[0] != b'{' {
        return Err(Bad::json("a line must be a JSON object", 0));
    }
    let mut scanner = Scanner::new(line, MAX_DEPTH);
    scanner.value()?;
    scanner.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(text: &[u8], offset: u64) -> Result<(Vec<String>, u64), String> {
        let path = std::env::temp_dir().join(format!(
            "dativo-jsonl-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let mut file = File::create(&path).expect("made");
        file.write_all(text).expect("written");
        let file = File::open(&path).expect("opened");
        std::fs::remove_file(&path).expect("removed");
        let mut lines = Lines::new(&file, offset, 0, text.len() as u64);
        let mut found = Vec::new();
        while let Some(line) = lines.next()? {
            found.push(String::from_utf8_lossy(line).into_owned());
        }
        Ok((found, lines.offset()))
    }

    #[test]
    fn lines_are_handed_on_as_they_stand() {
        let text = "\u{feff}{\"a\":1}\r\n\n  {\"b\" : [2]} \n{}";
        let (lines, end) = read(text.as_bytes(), 0).expect("right");
        assert_eq!(lines, ["{\"a\":1}", "{\"b\" : [2]}", "{}"]);
        assert_eq!(end, text.len() as u64);
        assert_eq!(read(b"{}\n{\"a\":2}\n", 3).expect("right").0, ["{\"a\":2}"]);
        assert_eq!(read(b"", 0).expect("right"), (vec![], 0));
    }

    #[test]
    fn long_lines_are_whole() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(5 * READ_BYTES));
        let text = format!("{long}\n{{}}\n{long}\n");
        let (lines, _) = read(text.as_bytes(), 0).expect("right");
        assert_eq!(lines, [long.as_str(), "{}", long.as_str()]);
    }

    #[test]
    fn what_is_no_object_is_told_with_its_place() {
        for (text, message) in [
            (
                "{}\n[1]\n",
                "record 2 at byte 3: a line must be a JSON object: \"[1]\"",
            ),
            ("{\"a\":}\n", "record 1 at byte 5"),
            ("{\"a\":1}},\"stream\":\"other\"\n", "record 1 at byte 7"),
            ("{\"a\":1\n", "record 1 at byte 6"),
        ] {
            let error = read(text.as_bytes(), 0).expect_err(text);
            assert!(error.contains(message), "{text:?}: {error}");
        }
        let error = read(b"{\"a\":\"\xff\"}\n", 0).expect_err("latin");
        assert!(error.contains("not UTF-8"), "{error}");
    }
}
