//! JSON strings to text.

use std::borrow::Cow;

/// A `\u` escape that names half a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoneSurrogate;

/// Append the text of the JSON string `raw` (its quotes removed, its escapes checked) to `out`.
///
/// On an error `out` holds the text before the bad escape.
pub fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Result<(), LoneSurrogate> {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let used = match rest[at + 1] {
            b'u' => {
                let (character, used) = unicode(&rest[at..])?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                used
            }
            plain => {
                out.push(match plain {
                    b'b' => 0x08,
                    b'f' => 0x0c,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    same => same,
                });
                2
            }
        };
        rest = &rest[at + used..];
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// The character at `escape` (`\uXXXX`, or a surrogate pair of them) and the bytes it takes.
fn unicode(escape: &[u8]) -> Result<(char, usize), LoneSurrogate> {
    let high = hex4(&escape[2..]);
    if let Some(character) = char::from_u32(high) {
        return Ok((character, 6));
    }
    if high < 0xdc00 && escape.len() >= 12 && escape[6..8] == *b"\\u" {
        let low = hex4(&escape[8..]);
        if (0xdc00..0xe000).contains(&low) {
            let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            return char::from_u32(code)
                .map(|character| (character, 12))
                .ok_or(LoneSurrogate);
        }
    }
    Err(LoneSurrogate)
}

/// The code of the escape `\uXXXX` that `text` starts with; none if it is none.
pub fn unicode_escape(text: &[u8]) -> Option<u32> {
    let digits = text.get(..6)?.strip_prefix(b"\\u")?;
    digits
        .iter()
        .all(u8::is_ascii_hexdigit)
        .then(|| hex4(digits))
}

fn hex4(digits: &[u8]) -> u32 {
    digits[..4].iter().fold(0, |code, &digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            _ => (digit | 0x20) - b'a' + 10,
        };
        code << 4 | value as u32
    })
}

/// The text of a checked JSON string; as written where it holds a lone surrogate.
pub fn resolve(raw: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Vec::with_capacity(raw.len());
    match unescape(raw, &mut out) {
        Ok(()) => Cow::Owned(out),
        Err(LoneSurrogate) => Cow::Borrowed(raw),
    }
}

/// The text of the JSON string `quoted`, which stands in its quotes; none if it is not a string or holds
/// half a character.
pub fn string(quoted: &[u8]) -> Option<Cow<'_, str>> {
    let raw = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', raw).is_none() {
        return std::str::from_utf8(raw).ok().map(Cow::Borrowed);
    }
    let mut out = Vec::with_capacity(raw.len());
    unescape(raw, &mut out).ok()?;
    String::from_utf8(out).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(raw: &str) -> Result<String, LoneSurrogate> {
        let mut out = Vec::new();
        unescape(raw.as_bytes(), &mut out).map(|()| String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn escapes_become_text() {
        assert_eq!(
            of(r#"a\"b\\c\/d\b\f\n\r\te"#),
            Ok("a\"b\\c/d\u{8}\u{c}\n\r\te".into())
        );
        assert_eq!(of(r"\u00e9\u6F22\u0000x"), Ok("é漢\0x".into()));
        assert_eq!(of(r"\ud83c\udf89"), Ok("🎉".into()));
        assert_eq!(of(r"\uDBFF\uDFFF"), Ok("\u{10ffff}".into()));
        assert_eq!(of(r"é\\u00e9"), Ok(r"é\u00e9".into()));
    }

    #[test]
    fn half_characters_are_refused() {
        for raw in [
            r"\ud83c",
            r"\ud83cx",
            r"\udf89",
            r"\ud83c\ud83c",
            r"\ud83c\n",
            r"\ud83c\u0041",
            r"\udf89\ud83c",
        ] {
            assert_eq!(of(raw), Err(LoneSurrogate), "{raw}");
        }
    }

    #[test]
    fn string_wants_quotes() {
        assert_eq!(string(b"\"a\\n\""), Some("a\n".into()));
        assert_eq!(string(b"12"), None);
        assert_eq!(string(b"\"\\ud800\""), None);
    }
}
