//! Lines out of a byte stream, bounded in length, with their numbers and offsets.

use std::io;

use crate::fault::{Fault, bad_fault};
use crate::oddity::{OddSet, Oddity};
use crate::scan::Bad;

/// Bytes asked for in one read.
pub const READ_BYTES: usize = 256 * 1024;

/// And of a body, whose length is known.
const BODY_READ_BYTES: usize = 1024 * 1024;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// One line without its end (`\n` or `\r\n`). `number` counts from 1, `byte` is the offset of its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub number: u64,
    pub byte: u64,
    pub bytes: &'a [u8],
    /// What is odd about its ends.
    pub odd: OddSet,
}

/// What a line is, from its first byte that is no space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    Blank,
    Text,
    /// It starts with `{`.
    Message,
}

impl Line<'_> {
    #[inline(always)]
    pub fn kind(&self) -> LineKind {
        match self.bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            None => LineKind::Blank,
            Some(b'{') => LineKind::Message,
            Some(_) => LineKind::Text,
        }
    }

    /// A message must be UTF-8.
    #[inline(always)]
    pub fn check_utf8(&self) -> Result<(), Box<Fault>> {
        match simdutf8::basic::from_utf8(self.bytes) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.not_utf8()),
        }
    }

    /// The fault of a line that the grammar does not allow.
    #[cold]
    pub fn fault(&self, bad: &Bad) -> Box<Fault> {
        bad_fault(bad, self.bytes).at(self.number, self.byte)
    }

    #[cold]
    fn not_utf8(&self) -> Box<Fault> {
        let valid = std::str::from_utf8(self.bytes)
            .err()
            .map_or(0, |error| error.valid_up_to());
        Fault::plugin(
            "framing.invalid_utf8",
            format!("not UTF-8 (column {})", valid + 1),
        )
        .at(self.number, self.byte)
        .value(&self.bytes[valid..])
    }
}

/// Cuts what was read into lines. Memory stays below the longest line allowed plus one read.
pub struct Framer {
    buffer: Vec<u8>,
    /// The bytes of `buffer` that were read and not yet handed out are `start..end`.
    start: usize,
    end: usize,
    /// No line end lies before this.
    scanned: usize,
    max_line_bytes: usize,
    /// The most that may come in all.
    max_bytes: u64,
    lines: u64,
    /// Offset in the stream of `buffer[start]`.
    offset: u64,
    /// Bytes that are not a line, and how many of them are there.
    body: Option<(Vec<u8>, usize)>,
}

impl Framer {
    /// Lines of at most `max_line_bytes`, their ends not counted.
    pub fn new(max_line_bytes: usize) -> Framer {
        Framer {
            buffer: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            scanned: 0,
            max_line_bytes,
            max_bytes: u64::MAX,
            lines: 0,
            offset: 0,
            body: None,
        }
    }

    /// At most `max_bytes` in all, line ends counted: the first line that goes beyond them is a fault, whole or not.
    #[must_use]
    pub fn bounded(mut self, max_bytes: Option<u64>) -> Framer {
        self.max_bytes = max_bytes.unwrap_or(u64::MAX);
        self
    }

    /// The next `bytes` bytes are not a line: [`Framer::body`] hands them out, then lines go on. More in all than the bound
    /// is a fault before the first of them is read.
    pub fn expect_body(&mut self, bytes: usize) -> Result<(), Box<Fault>> {
        if self.offset + bytes as u64 > self.max_bytes {
            return Err(self.too_much());
        }
        let there = bytes.min(self.end - self.start);
        let mut body = vec![0; bytes];
        body[..there].copy_from_slice(&self.buffer[self.start..self.start + there]);
        self.start += there;
        self.scanned = self.start;
        self.body = Some((body, there));
        Ok(())
    }

    /// Whether a body was announced and not handed out yet.
    pub fn is_in_body(&self) -> bool {
        self.body.is_some()
    }

    /// The body that was announced, or none until more has been read.
    pub fn body(&mut self) -> Option<Vec<u8>> {
        let (body, _) = self.body.take_if(|(body, filled)| body.len() == *filled)?;
        self.offset += body.len() as u64;
        Some(body)
    }

    /// Read once. Call it when [`Framer::line`] has returned none; 0 means the end of the stream.
    pub fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        if let Some((body, filled)) = &mut self.body {
            let most = body.len().min(*filled + BODY_READ_BYTES);
            let count = read(&mut body[*filled..most])?;
            *filled += count;
            return Ok(count);
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.scanned -= self.start;
            self.start = 0;
        }
        if self.end == 0 && self.buffer.len() > READ_BYTES {
            self.buffer = vec![0; READ_BYTES];
        }
        // A line in need of more room doubles the buffer, so that a long one is moved a few times only.
        if self.buffer.len() - self.end < READ_BYTES / 4 {
            let most = self.max_line_bytes.saturating_add(READ_BYTES);
            let room = (self.buffer.len() * 2)
                .min(most)
                .max(self.end + READ_BYTES / 4);
            self.buffer.reserve_exact(room - self.buffer.len());
            self.buffer.resize(room, 0);
        }
        let room = &mut self.buffer[self.end..];
        let most = room.len().min(READ_BYTES);
        let count = read(&mut room[..most])?;
        self.end += count;
        Ok(count)
    }

    /// The next whole line, or none until more has been read.
    pub fn line(&mut self) -> Result<Option<Line<'_>>, Box<Fault>> {
        let found = memchr::memchr(b'\n', &self.buffer[self.scanned..self.end]);
        let stop = found.map_or(self.end, |at| self.scanned + at);
        let mut length = stop - self.start;
        let mut odd = OddSet::default();
        if length > 0 && self.buffer[stop - 1] == b'\r' {
            length -= 1;
            odd.add(Oddity::Crlf);
        }
        if length > self.max_line_bytes {
            let shown = &self.buffer[self.start..self.start + 256.min(length)];
            let fault = Fault::plugin(
                "framing.line_too_long",
                format!("a line of more than {} bytes", self.max_line_bytes),
            );
            return Err(fault
                .at(self.lines + 1, self.offset)
                .value(shown)
                .hint("limits.max_line_bytes sets the longest line"));
        }
        if self.offset + (stop - self.start) as u64 + u64::from(found.is_some()) > self.max_bytes {
            return Err(self.too_much());
        }
        if found.is_none() {
            self.scanned = self.end;
            return Ok(None);
        }
        let byte = self.offset;
        let mut bytes = self.start..self.start + length;
        self.offset += (stop + 1 - self.start) as u64;
        self.start = stop + 1;
        self.scanned = self.start;
        self.lines += 1;
        if byte == 0 && self.buffer[bytes.clone()].starts_with(BOM) {
            bytes.start += BOM.len();
            odd.add(Oddity::Bom);
        }
        Ok(Some(Line {
            number: self.lines,
            byte,
            bytes: &self.buffer[bytes],
            odd,
        }))
    }

    #[cold]
    fn too_much(&self) -> Box<Fault> {
        let message = format!("more than {} bytes of output", self.max_bytes);
        Fault::plugin("limit.output", message)
            .at(self.lines + 1, self.offset)
            .hint(
                "grants.output is the cap: let the job ask for more, and the operator approve it or raise the policy's ceiling",
            )
    }

    /// What stands after the last line end; empty for a body that is not whole.
    pub fn partial(&self) -> Option<Line<'_>> {
        let bytes = match &self.body {
            Some(_) => &[],
            None => &self.buffer[self.start..self.end],
        };
        (self.body.is_some() || !bytes.is_empty()).then_some(Line {
            number: self.lines + 1,
            byte: self.offset,
            bytes,
            odd: OddSet::default(),
        })
    }

    /// Whole lines handed out so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        let body = self.body.as_ref().map_or(0, |(_, filled)| *filled);
        self.offset + (self.end - self.start + body) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number, offset and bytes of each line.
    type Lines = Vec<(u64, u64, Vec<u8>)>;

    /// All lines of `text` when at most `chunk` bytes come in one read, and the rest after the last.
    fn cut(text: &[u8], chunk: usize, max: usize) -> Result<(Lines, Option<Vec<u8>>), Box<Fault>> {
        let mut framer = Framer::new(max);
        let (mut lines, mut at) = (Vec::new(), 0);
        loop {
            while let Some(line) = framer.line()? {
                lines.push((line.number, line.byte, line.bytes.to_vec()));
            }
            let read = |room: &mut [u8]| {
                let count = chunk.min(room.len()).min(text.len() - at);
                room[..count].copy_from_slice(&text[at..at + count]);
                at += count;
                Ok(count)
            };
            if framer.fill(read).expect("reads") == 0 {
                assert_eq!(framer.bytes_read(), text.len() as u64);
                return Ok((lines, framer.partial().map(|line| line.bytes.to_vec())));
            }
        }
    }

    #[test]
    fn lines_are_the_same_at_every_chunk_boundary() {
        let text = b"\xef\xbb\xbfone\r\n\n\r\n  \nfo\rur\nfive five\n\nhalf".as_slice();
        let lines: Vec<(u64, u64, &[u8])> = vec![
            (1, 0, b"one"),
            (2, 8, b""),
            (3, 9, b""),
            (4, 11, b"  "),
            (5, 14, b"fo\rur"),
            (6, 20, b"five five"),
            (7, 30, b""),
        ];
        let lines: Vec<_> = lines
            .into_iter()
            .map(|(number, byte, bytes)| (number, byte, bytes.to_vec()))
            .collect();
        for chunk in 1..=text.len() {
            assert_eq!(
                cut(text, chunk, 100),
                Ok((lines.clone(), Some(b"half".to_vec()))),
                "{chunk}"
            );
        }
        assert_eq!(cut(b"a\n", 1, 100), Ok((vec![(1, 0, b"a".to_vec())], None)));
        assert_eq!(cut(b"", 1, 100), Ok((vec![], None)));
    }

    #[test]
    fn long_lines_pass_up_to_the_limit_and_not_above() {
        let limit = 3 * READ_BYTES + 17;
        let mut text = vec![b'x'; limit];
        text.extend(b"\r\nshort\n");
        let (lines, partial) = cut(&text, READ_BYTES, limit).expect("allowed");
        assert_eq!(
            (lines[0].2.len(), lines[1].2.as_slice(), partial),
            (limit, b"short".as_slice(), None)
        );

        let fault = cut(&text, READ_BYTES, limit - 1).expect_err("too long");
        assert_eq!(
            (fault.code, fault.line, fault.byte),
            ("framing.line_too_long", Some(1), Some(0))
        );
        assert!(
            fault
                .value
                .is_some_and(|value| value.chars().count() <= 200)
        );
    }

    #[test]
    fn the_last_byte_that_is_allowed_is_taken_and_no_further_one() {
        let text = b"one\r\ntwo\nthree".as_slice();
        let bounded = |max, chunk: usize| {
            let mut framer = Framer::new(100).bounded(Some(max));
            let (mut lines, mut rest) = (0, text);
            loop {
                while framer.line()?.is_some() {
                    lines += 1;
                }
                let read = framer.fill(|room| {
                    let count = chunk.min(room.len()).min(rest.len());
                    room[..count].copy_from_slice(&rest[..count]);
                    rest = &rest[count..];
                    Ok(count)
                });
                if read.expect("reads") == 0 {
                    return Ok(lines);
                }
            }
        };
        for chunk in 1..=text.len() {
            assert_eq!(bounded(text.len() as u64, chunk), Ok(2), "{chunk}");
            for max in 0..text.len() as u64 {
                let fault: Box<Fault> = bounded(max, chunk).expect_err("too much");
                assert_eq!(
                    (fault.code, fault.line, fault.byte),
                    match max {
                        ..5 => ("limit.output", Some(1), Some(0)),
                        5..9 => ("limit.output", Some(2), Some(5)),
                        _ => ("limit.output", Some(3), Some(9)),
                    },
                    "{max} {chunk}"
                );
            }
        }
    }

    #[test]
    fn an_endless_line_never_takes_more_than_the_limit_and_two_reads() {
        let mut framer = Framer::new(1 << 20);
        loop {
            match framer.line() {
                Ok(None) => framer
                    .fill(|room| {
                        room.fill(b'x');
                        Ok(room.len())
                    })
                    .expect("reads"),
                Ok(Some(_)) => panic!("there is no line end"),
                Err(fault) => break assert_eq!(fault.code, "framing.line_too_long"),
            };
            assert!(framer.buffer.capacity() <= (1 << 20) + 2 * READ_BYTES);
        }
    }

    #[test]
    fn a_body_is_whole_at_every_chunk_boundary_and_lines_go_on_behind_it() {
        let text = b"first\n\x00\n\xff\n\nlast\n";
        for chunk in 1..=text.len() {
            let mut framer = Framer::new(100).bounded(Some(text.len() as u64));
            let (mut at, mut seen) = (0, Vec::new());
            let mut read = |room: &mut [u8]| {
                let count = chunk.min(room.len()).min(text.len() - at);
                room[..count].copy_from_slice(&text[at..at + count]);
                at += count;
                Ok(count)
            };
            loop {
                if framer.is_in_body() {
                    match framer.body() {
                        Some(body) => seen.push((0, 0, body)),
                        None if framer.fill(&mut read).expect("reads") == 0 => break,
                        None => {}
                    }
                } else if let Some(line) = framer.line().expect("short") {
                    seen.push((line.number, line.byte, line.bytes.to_vec()));
                    if line.number == 1 {
                        framer.expect_body(4).expect("allowed");
                    }
                } else if framer.fill(&mut read).expect("reads") == 0 {
                    break;
                }
            }
            let expected: [(u64, u64, &[u8]); 4] = [
                (1, 0, b"first"),
                (0, 0, b"\x00\n\xff\n"),
                (2, 10, b""),
                (3, 11, b"last"),
            ];
            let expected = expected.map(|(number, byte, bytes)| (number, byte, bytes.to_vec()));
            assert_eq!(seen, expected, "{chunk}");
            assert_eq!(framer.bytes_read(), text.len() as u64);
        }
    }

    #[test]
    fn a_body_that_is_not_whole_is_told_and_one_too_many_refused() {
        let mut framer = Framer::new(100).bounded(Some(20));
        let text = b"line\nhalf";
        framer
            .fill(|room| {
                room[..text.len()].copy_from_slice(text);
                Ok(text.len())
            })
            .expect("reads");
        assert!(framer.line().expect("short").is_some());
        let fault = framer.expect_body(16).expect_err("too much");
        assert_eq!((fault.code, fault.byte), ("limit.output", Some(5)));
        framer.expect_body(15).expect("allowed");
        assert_eq!(framer.body(), None);
        assert_eq!(framer.bytes_read(), 9);
        assert!(framer.partial().is_some_and(|rest| rest.bytes.is_empty()));
    }

    #[test]
    fn a_long_line_gives_its_memory_back() {
        let mut framer = Framer::new(1 << 22);
        let mut text = vec![b'x'; 1 << 21];
        text.push(b'\n');
        let mut at = 0;
        while framer.line().expect("short enough").is_none() {
            framer
                .fill(|room| {
                    let count = room.len().min(text.len() - at);
                    room[..count].copy_from_slice(&text[at..at + count]);
                    at += count;
                    Ok(count)
                })
                .expect("reads");
        }
        framer.fill(|_| Ok(0)).expect("reads");
        assert_eq!(framer.buffer.len(), READ_BYTES);
    }
}
