//! One located error, as the `error` event carries it (docs/spec/events.md).

use std::borrow::Cow;

use crate::scan::Bad;

/// The most characters of a foreign value that an error repeats.
pub const MAX_VALUE_CHARS: usize = 200;

/// Who can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    Plugin,
    User,
    Machine,
    Dativo,
}

impl Blame {
    pub fn name(self) -> &'static str {
        match self {
            Blame::Plugin => "plugin",
            Blame::User => "user",
            Blame::Machine => "machine",
            Blame::Dativo => "dativo",
        }
    }
}

/// A stream's name. No namespace and an empty one are the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamName {
    pub namespace: Option<String>,
    pub name: String,
}

/// What went wrong and where. `line` counts from 1; `byte` is the offset of the line's first byte.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub code: &'static str,
    pub blame: Blame,
    pub message: String,
    pub stream: Option<StreamName>,
    pub line: Option<u64>,
    pub byte: Option<u64>,
    pub field: Option<String>,
    pub value: Option<String>,
    pub hint: Option<String>,
}

impl Fault {
    pub fn new(code: &'static str, blame: Blame, message: impl Into<String>) -> Box<Fault> {
        Box::new(Fault {
            code,
            blame,
            message: message.into(),
            stream: None,
            line: None,
            byte: None,
            field: None,
            value: None,
            hint: None,
        })
    }

    /// A fault of the plugin that wrote the line.
    pub fn plugin(code: &'static str, message: impl Into<String>) -> Box<Fault> {
        Fault::new(code, Blame::Plugin, message)
    }

    pub fn at(mut self: Box<Self>, line: u64, byte: u64) -> Box<Self> {
        self.line = Some(line);
        self.byte = Some(byte);
        self
    }

    pub fn stream(mut self: Box<Self>, stream: StreamName) -> Box<Self> {
        self.stream = Some(stream);
        self
    }

    /// Say that the field, if one is named already, is one of `parent`; else name `parent`.
    pub fn below(mut self: Box<Self>, parent: &str) -> Box<Self> {
        self.field = Some(match self.field {
            Some(field) => format!("{parent}.{field}"),
            None => parent.to_owned(),
        });
        self
    }

    pub fn field(mut self: Box<Self>, field: impl Into<String>) -> Box<Self> {
        self.field = Some(field.into());
        self
    }

    pub fn value(mut self: Box<Self>, bytes: &[u8]) -> Box<Self> {
        self.value = Some(clip(bytes, MAX_VALUE_CHARS).into_owned());
        self
    }

    pub fn hint(mut self: Box<Self>, hint: impl Into<String>) -> Box<Self> {
        self.hint = Some(hint.into());
        self
    }
}

/// A fault for text of `line` that the grammar does not allow: the text from there on is its value.
pub fn bad_fault(bad: &Bad, line: &[u8]) -> Box<Fault> {
    let at = bad.at.min(line.len());
    let message = format!("{} (column {})", bad.message, at + 1);
    Fault::plugin(bad.code, message).value(&line[at..])
}

/// The first `max_chars` characters; `…` is the last of them where text was cut off. Bytes that are not
/// UTF-8 become U+FFFD.
pub fn clip(bytes: &[u8], max_chars: usize) -> Cow<'_, str> {
    // A character has at most 4 bytes: never convert more of a huge value than can be shown.
    let head = &bytes[..bytes.len().min(max_chars * 4 + 4)];
    let text = String::from_utf8_lossy(head);
    let cut_at = text.char_indices().nth(max_chars).map(|(at, _)| at);
    if cut_at.is_none() && head.len() == bytes.len() {
        return text;
    }
    let mut kept: String = text.chars().take(max_chars.saturating_sub(1)).collect();
    kept.push('…');
    Cow::Owned(kept)
}

/// The text of at most `max_bytes` bytes; `…` ends it where it was cut. Bytes that are not UTF-8 become U+FFFD.
pub fn clip_bytes(bytes: &[u8], max_bytes: usize) -> Cow<'_, str> {
    if bytes.len() <= max_bytes {
        return String::from_utf8_lossy(bytes);
    }
    let mut text = String::from_utf8_lossy(&bytes[..max_bytes]).into_owned();
    // A character that was cut through has become U+FFFD; the mark takes its place.
    let mut end = max_bytes.saturating_sub('…'.len_utf8()).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push('…');
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clip_keeps_short_values_and_marks_cut_ones() {
        assert_eq!(clip(b"abc", 3), "abc");
        assert_eq!(clip(b"abcd", 3), "ab…");
        assert_eq!(clip("äöüß".as_bytes(), 4), "äöüß");
        assert_eq!(clip("äöüßx".as_bytes(), 4), "äöü…");
        assert_eq!(clip(b"\xff\xfe", 5), "\u{fffd}\u{fffd}");
        assert_eq!(clip(&vec![b'x'; 1 << 20], 200).chars().count(), 200);
    }

    #[test]
    fn clip_bytes_ends_at_a_whole_character() {
        assert_eq!(clip_bytes(b"abcd", 4), "abcd");
        assert_eq!(clip_bytes(b"abcdefgh", 6), "abc…");
        assert_eq!(clip_bytes("ääää".as_bytes(), 7), "ää…");
        assert_eq!(clip_bytes("ääää".as_bytes(), 6), "ä…");
    }
}
