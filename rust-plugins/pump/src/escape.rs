//! What a terminal would obey or what would reorder what is read, made visible (Trojan Source, CVE-2021-42574).
//!
//! The characters are those of `dativo.kernel.show`, but for newline and tab, which stay. Bytes that are not UTF-8 are
//! escaped too: 8-bit terminals take some of them for control characters.

use std::fmt::Write as _;

/// Escapes a stream that is cut anywhere; holds at most three bytes of an unfinished character.
#[derive(Default)]
pub struct Escape {
    held: Vec<u8>,
}

impl Escape {
    /// Add the shown form of `bytes` to `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let joined;
        let mut rest = if self.held.is_empty() {
            bytes
        } else {
            self.held.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.held);
            joined.as_slice()
        };
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    show(text, out);
                    return;
                }
                Err(error) => {
                    let (valid, invalid) = rest.split_at(error.valid_up_to());
                    // Valid: the error says so.
                    show(&String::from_utf8_lossy(valid), out);
                    let Some(length) = error.error_len() else {
                        self.held.extend_from_slice(invalid);
                        return;
                    };
                    show_bytes(&invalid[..length], out);
                    rest = &invalid[length..];
                }
            }
        }
    }

    /// Show what is left of a character that never ended.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        show_bytes(&std::mem::take(&mut self.held), out);
    }
}

fn show(text: &str, out: &mut Vec<u8>) {
    let mut plain = 0;
    for (at, character) in text.char_indices() {
        if !is_harmful(character) {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        plain = at + character.len_utf8();
        let mut shown = String::new();
        // Writing to a String cannot fail.
        let _ = match character as u32 {
            code @ ..0x100 => write!(shown, "\\x{code:02x}"),
            code => write!(shown, "\\u{code:04x}"),
        };
        out.extend_from_slice(shown.as_bytes());
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
}

fn show_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
    }
}

fn is_harmful(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => true,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' => true,
        '\u{2028}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(parts: &[&[u8]]) -> String {
        let (mut escape, mut out) = (Escape::default(), Vec::new());
        for part in parts {
            escape.feed(part, &mut out);
        }
        escape.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn controls_are_shown_and_text_stays() {
        assert_eq!(shown(&[b"a\tb\nc\r\x07\x7f"]), "a\tb\nc\\x0d\\x07\\x7f");
        assert_eq!(shown(&["grün 日本 😀".as_bytes()]), "grün 日本 😀");
        assert_eq!(
            shown(&["\u{202e}x\u{2066}\u{feff}\u{9b}31m".as_bytes()]),
            "\\u202ex\\u2066\\ufeff\\x9b31m"
        );
    }

    #[test]
    fn every_cut_gives_the_same() {
        let text = "a\u{202e}😀\x1b]0;x\x07é\u{85}".as_bytes();
        let whole = shown(&[text]);
        for first in 0..text.len() {
            for second in first..text.len() {
                let parts = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(shown(&parts), whole);
            }
        }
    }

    #[test]
    fn what_is_not_utf8_is_shown_byte_by_byte() {
        assert_eq!(shown(&[b"\x9b31m\xff\xc0\xaf"]), "\\x9b31m\\xff\\xc0\\xaf");
        assert_eq!(shown(&[b"\xf0\x9f", b"x"]), "\\xf0\\x9fx");
        assert_eq!(shown(&[b"\xe2\x80"]), "\\xe2\\x80");
    }

    #[test]
    fn nothing_harmful_is_left() {
        for code in (0..0x3000).filter_map(char::from_u32) {
            let text = shown(&[code.to_string().as_bytes()]);
            assert!(
                text.chars().all(|c| c == code || c.is_ascii_graphic()),
                "{code:?}"
            );
            assert!(!text.chars().any(is_harmful), "{code:?}");
        }
    }
}
