//! A strict JSON reader over one line: it finds where values end and builds nothing.
//!
//! The grammar is RFC 8259 over bytes that are known to be UTF-8. Nesting is kept in a fixed bit stack,
//! so hostile depth costs neither memory nor a call stack.

use std::borrow::Cow;

use crate::oddity::{OddSet, Oddity};
use crate::text;

/// The deepest nesting that any setting can allow.
pub const DEEPEST: usize = 1024;

/// Why and where (offset in the scanned bytes) the text is not what the grammar asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad {
    pub code: &'static str,
    pub message: &'static str,
    pub at: usize,
}

impl Bad {
    pub fn json(message: &'static str, at: usize) -> Bad {
        Bad {
            code: "json.invalid",
            message,
            at,
        }
    }
}

/// A cursor in one JSON text. `depth` counts the containers that are open around it.
#[derive(Clone, Copy, Debug)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    pos: usize,
    depth: usize,
    max_depth: usize,
    /// Accept the tokens NaN, Infinity and -Infinity that Python writes.
    pub nan: bool,
    /// What was met so far that is tolerated.
    pub odd: OddSet,
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The high bit of each byte of `word` that equals `byte`; exact below the first hit.
#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    let diff = word ^ (ONES * byte as u64);
    diff.wrapping_sub(ONES) & !diff & HIGHS
}

/// The high bit of each byte of `word` that is below 0x20; exact below the first hit.
#[inline(always)]
fn control(word: u64) -> u64 {
    word.wrapping_sub(ONES * 0x20) & !word & HIGHS
}

impl<'a> Scanner<'a> {
    /// A cursor at the start of `bytes`, which must be UTF-8. At most `max_depth` containers may be nested.
    pub fn new(bytes: &'a [u8], max_depth: usize) -> Scanner<'a> {
        Scanner {
            bytes,
            pos: 0,
            depth: 0,
            max_depth: max_depth.min(DEEPEST),
            nan: true,
            odd: OddSet::default(),
        }
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn pos(&self) -> usize {
        self.pos
    }

    /// Containers that are open around the cursor.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Say how many containers are open around the cursor, which was put there.
    pub fn stand_at(&mut self, depth: usize) {
        self.depth = depth;
    }

    /// The text from `start` to the cursor.
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.pos]
    }

    /// The byte at the cursor; 0, which no JSON token starts with, at the end.
    #[inline(always)]
    pub fn peek(&self) -> u8 {
        if self.pos < self.bytes.len() {
            self.bytes[self.pos]
        } else {
            0
        }
    }

    #[inline(always)]
    pub fn advance(&mut self, count: usize) {
        self.pos += count;
    }

    #[inline(always)]
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.pos.min(self.bytes.len())..]
    }

    #[inline(always)]
    pub fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\r' | b'\n') {
            self.pos += 1;
        }
    }

    #[cold]
    pub fn bad(&self, message: &'static str) -> Bad {
        if self.pos >= self.bytes.len() {
            return Bad::json("the line ends inside a value", self.bytes.len());
        }
        Bad::json(message, self.pos)
    }

    #[inline(always)]
    pub fn expect(&mut self, byte: u8, message: &'static str) -> Result<(), Bad> {
        if self.peek() != byte {
            return Err(self.bad(message));
        }
        self.pos += 1;
        Ok(())
    }

    /// Step into the container at the cursor.
    #[inline(always)]
    pub fn enter(&mut self, open: u8, message: &'static str) -> Result<(), Bad> {
        self.expect(open, message)?;
        self.depth += 1;
        if self.depth > self.max_depth {
            return Err(self.too_deep());
        }
        self.skip_space();
        Ok(())
    }

    #[cold]
    fn too_deep(&self) -> Bad {
        Bad {
            code: "json.too_deep",
            message: "nested deeper than max_depth",
            at: self.pos,
        }
    }

    /// After a value in a container: true at a comma, false once the container is closed.
    #[inline(always)]
    pub fn more(&mut self, close: u8) -> Result<bool, Bad> {
        let mut byte = self.peek();
        if byte <= b' ' {
            self.skip_space();
            byte = self.peek();
        }
        self.pos += 1;
        if byte == b',' {
            if self.peek() <= b' ' {
                self.skip_space();
            }
            return Ok(true);
        }
        if byte == close {
            self.depth -= 1;
            return Ok(false);
        }
        self.pos -= 1;
        Err(self.bad("expected a comma or the end of the object or array"))
    }

    /// The colon between key and value, with spaces around it.
    #[inline(always)]
    pub fn colon(&mut self) -> Result<(), Bad> {
        if self.peek() != b':' {
            self.skip_space();
        }
        self.expect(b':', "expected a colon after the key")?;
        if self.peek() <= b' ' {
            self.skip_space();
        }
        Ok(())
    }

    /// Only spaces may follow.
    pub fn end(&mut self) -> Result<(), Bad> {
        self.skip_space();
        if self.pos != self.bytes.len() {
            return Err(Bad::json(
                "more text after the end of the message",
                self.pos,
            ));
        }
        Ok(())
    }

    /// The string at the cursor, without its quotes, as written; true if it holds escapes.
    #[inline(always)]
    pub fn string(&mut self) -> Result<(&'a [u8], bool), Bad> {
        self.expect(b'"', "expected a string")?;
        let start = self.pos;
        let mut escaped = false;
        loop {
            self.pos = plain_end(self.bytes, self.pos);
            match self.peek() {
                b'"' => {
                    let text = &self.bytes[start..self.pos];
                    self.pos += 1;
                    return Ok((text, escaped));
                }
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.bad("a control character inside a string must be escaped")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Bad> {
        match self.bytes.get(self.pos + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.pos += 2,
            Some(b'u') => {
                let Some(code) = text::unicode_escape(&self.bytes[self.pos..]) else {
                    return Err(self.bad("\\u needs four hexadecimal digits"));
                };
                self.pos += 6;
                match code {
                    0 => self.odd.add(Oddity::Nul),
                    0xd800..0xdc00 => {
                        let low = text::unicode_escape(&self.bytes[self.pos..]);
                        if low.is_some_and(|low| (0xdc00..0xe000).contains(&low)) {
                            self.pos += 6;
                        } else {
                            self.odd.add(Oddity::LoneSurrogate);
                        }
                    }
                    0xdc00..0xe000 => self.odd.add(Oddity::LoneSurrogate),
                    _ => {}
                }
            }
            _ => return Err(self.bad("not an escape that JSON knows")),
        }
        Ok(())
    }

    /// An object's key, its escapes resolved, with the colon and the spaces after it consumed. A key with a
    /// lone surrogate stays as written: it equals no known name.
    #[inline(always)]
    pub fn key(&mut self) -> Result<Cow<'a, [u8]>, Bad> {
        let (raw, escaped) = match self.peek() {
            b'"' => self.string()?,
            _ => return Err(self.bad("expected a key in quotes")),
        };
        self.colon()?;
        Ok(if escaped {
            text::resolve(raw)
        } else {
            Cow::Borrowed(raw)
        })
    }

    /// The number at the cursor, checked against the grammar.
    #[inline(always)]
    pub fn number(&mut self) -> Result<&'a [u8], Bad> {
        let start = self.pos;
        if self.peek() == b'-' {
            self.pos += 1;
        }
        if self.peek() == b'0' {
            self.pos += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            self.pos += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.pos += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.pos += 1;
            }
            self.digits()?;
        }
        Ok(&self.bytes[start..self.pos])
    }

    #[inline(always)]
    fn digits(&mut self) -> Result<(), Bad> {
        let start = self.pos;
        while self.peek().is_ascii_digit() {
            self.pos += 1;
        }
        if self.pos == start {
            return Err(self.bad("not a JSON value"));
        }
        Ok(())
    }

    /// Consume `word` if it stands at the cursor.
    #[inline(always)]
    pub fn word(&mut self, word: &[u8]) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.pos += word.len();
        }
        found
    }

    /// Consume `text` if it stands at the cursor; for texts of any length, where [`Scanner::word`] is for short ones that the
    /// compiler knows.
    #[inline(always)]
    pub fn text(&mut self, text: &[u8]) -> bool {
        let found = self
            .bytes
            .get(self.pos..self.pos + text.len())
            .is_some_and(|there| same(there, text));
        if found {
            self.pos += text.len();
        }
        found
    }

    /// Consume one of Python's NaN, Infinity and -Infinity if it stands at the cursor.
    #[inline(always)]
    pub fn python_word(&mut self, word: &[u8]) -> bool {
        let found = self.word(word);
        if found {
            self.odd.add(Oddity::Nan);
        }
        found
    }

    /// Pass one value of any kind and return its text.
    #[inline(always)]
    pub fn value(&mut self) -> Result<&'a [u8], Bad> {
        let start = self.pos;
        if !self.scalar()? {
            self.container()?;
        }
        Ok(&self.bytes[start..self.pos])
    }

    /// Pass a string, number or word; false, with nothing consumed, at a container.
    #[inline(always)]
    fn scalar(&mut self) -> Result<bool, Bad> {
        let passed = match self.peek() {
            b'{' | b'[' => return Ok(false),
            b'"' => self.string().map(|_| true)?,
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            b'N' => self.nan && self.python_word(b"NaN"),
            b'I' => self.nan && self.python_word(b"Infinity"),
            b'-' if self.nan && self.python_word(b"-Infinity") => true,
            _ => self.number().map(|_| true)?,
        };
        if passed {
            Ok(true)
        } else {
            Err(self.bad("not a JSON value"))
        }
    }

    /// Pass the object or array at the cursor.
    #[inline(never)]
    fn container(&mut self) -> Result<(), Bad> {
        let base = self.depth;
        let mut objects = [0u64; DEEPEST / 64];
        loop {
            // A value is due. Open containers until a scalar or an empty container has been passed.
            let object = match self.peek() {
                b'{' => true,
                b'[' => false,
                _ => {
                    self.scalar()?;
                    if self.close(&objects, base)? {
                        return Ok(());
                    }
                    continue;
                }
            };
            let level = self.depth;
            self.enter(if object { b'{' } else { b'[' }, "")?;
            let bit = 1u64 << (level % 64);
            if object {
                objects[level / 64] |= bit;
            } else {
                objects[level / 64] &= !bit;
            }
            if self.peek() == if object { b'}' } else { b']' } {
                self.pos += 1;
                self.depth -= 1;
                if self.depth == base || self.close(&objects, base)? {
                    return Ok(());
                }
            } else if object {
                self.skip_key()?;
            }
        }
    }

    /// After a value inside [`Scanner::container`]: true once the outermost container is closed, else a
    /// value is due again.
    #[inline(always)]
    fn close(&mut self, objects: &[u64; DEEPEST / 64], base: usize) -> Result<bool, Bad> {
        loop {
            let level = self.depth - 1;
            let object = objects[level / 64] >> (level % 64) & 1 == 1;
            if self.more(if object { b'}' } else { b']' })? {
                if object {
                    self.skip_key()?;
                }
                return Ok(false);
            }
            if self.depth == base {
                return Ok(true);
            }
        }
    }

    /// Pass the object that the whole text is: see [`members`].
    pub fn members<const N: usize>(
        &mut self,
        names: [&str; N],
    ) -> Result<[Option<&'a [u8]>; N], Bad> {
        let mut found = [None; N];
        self.skip_space();
        self.enter(b'{', "expected an object")?;
        let mut more = self.peek() != b'}';
        if !more {
            self.more(b'}')?;
        }
        while more {
            let at = self.pos();
            let key = self.key()?;
            let value = self.value()?;
            if let Some(index) = names.iter().position(|name| name.as_bytes() == &*key)
                && found[index].replace(value).is_some()
            {
                return Err(duplicate(at));
            }
            more = self.more(b'}')?;
        }
        self.end()?;
        Ok(found)
    }

    #[inline(always)]
    fn skip_key(&mut self) -> Result<(), Bad> {
        if self.peek() != b'"' {
            return Err(self.bad("expected a key in quotes"));
        }
        self.string()?;
        self.colon()
    }
}

/// Whether two texts of one length are the same. Keys are too short for a call of memcmp(3).
#[inline(always)]
fn same(one: &[u8], other: &[u8]) -> bool {
    let length = one.len();
    match length {
        // The first and the last eight, or four, bytes are all of them.
        8..=16 => {
            let word = |bytes: &[u8], at: usize| bytes[at..].first_chunk::<8>().copied();
            word(one, 0) == word(other, 0) && word(one, length - 8) == word(other, length - 8)
        }
        4..8 => {
            let word = |bytes: &[u8], at: usize| bytes[at..].first_chunk::<4>().copied();
            word(one, 0) == word(other, 0) && word(one, length - 4) == word(other, length - 4)
        }
        0..4 => one.iter().zip(other).all(|(one, other)| one == other),
        _ => one == other,
    }
}

/// The first quote, backslash or control character at or after `pos`, or the end.
#[inline(always)]
fn plain_end(bytes: &[u8], mut pos: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    while let Some(sixteen) = bytes.get(pos..pos + 16) {
        let hits = special(sixteen);
        if hits != 0 {
            return pos + hits.trailing_zeros() as usize;
        }
        pos += 16;
    }
    while let Some(eight) = bytes.get(pos..pos + 8) {
        let word = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
        let hits = equal(word, b'"') | equal(word, b'\\') | control(word);
        if hits != 0 {
            return pos + (hits.trailing_zeros() >> 3) as usize;
        }
        pos += 8;
    }
    while pos < bytes.len() && !matches!(bytes[pos], b'"' | b'\\' | 0..=0x1f) {
        pos += 1;
    }
    pos
}

/// A bit for each of the sixteen bytes that is a quote, a backslash or a control character.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn special(sixteen: &[u8]) -> u32 {
    use std::arch::x86_64::*;
    assert_eq!(sixteen.len(), 16);
    // SAFETY: SSE2 is part of x86-64, and sixteen bytes are there to load.
    unsafe {
        let bytes = _mm_loadu_si128(sixteen.as_ptr().cast());
        let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
        let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
        _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control)) as u32
    }
}

/// The members of the object that `text` is: each known key's value, in the order of `names`.
///
/// Unknown keys are passed over. A known key that stands twice is `json.duplicate_key`.
pub fn members<'a, const N: usize>(
    text: &'a [u8],
    max_depth: usize,
    names: [&str; N],
) -> Result<[Option<&'a [u8]>; N], Bad> {
    Scanner::new(text, max_depth).members(names)
}

#[cold]
pub(crate) fn duplicate(at: usize) -> Bad {
    Bad {
        code: "json.duplicate_key",
        message: "a key of the message stands twice",
        at,
    }
}

/// Hand each member of the object that `text` is to `each`, in order.
pub fn each_member<'a, E: From<Bad>>(
    text: &'a [u8],
    max_depth: usize,
    mut each: impl FnMut(Cow<'a, [u8]>, &'a [u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut scanner = Scanner::new(text, max_depth);
    scanner.enter(b'{', "expected an object")?;
    let mut more = scanner.peek() != b'}';
    while more {
        let key = scanner.key()?;
        each(key, scanner.value()?)?;
        more = scanner.more(b'}')?;
    }
    Ok(())
}

/// Hand each element of the array that `text` is to `each`, in order.
pub fn each_element<'a, E: From<Bad>>(
    text: &'a [u8],
    max_depth: usize,
    mut each: impl FnMut(&'a [u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut scanner = Scanner::new(text, max_depth);
    scanner.enter(b'[', "expected an array")?;
    let mut more = scanner.peek() != b']';
    while more {
        each(scanner.value()?)?;
        more = scanner.more(b']')?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str, max_depth: usize) -> Result<(), Bad> {
        let mut scanner = Scanner::new(text.as_bytes(), max_depth);
        scanner.nan = false;
        scanner.skip_space();
        scanner.value()?;
        scanner.end()
    }

    #[test]
    fn passes_what_json_allows() {
        for text in [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "-0.0e+10",
            "1E400",
            "\"\"",
            "\"\\u00e9\\\"\\/\"",
            "[]",
            "{}",
            "[[],{}]",
            " { \"a\" : [ 1 , { \"b\" : null } ] , \"c\":\"x\" } ",
            "[{},[],\"]\",{\"a\":{}}]",
            "\"\u{7f}é漢🎉\"",
        ] {
            assert_eq!(whole(text, 8), Ok(()), "{text}");
        }
    }

    #[test]
    fn refuses_what_json_does_not() {
        for text in [
            "",
            " ",
            "nul",
            "nulll",
            "tru",
            "01",
            "-",
            "-a",
            "1.",
            ".5",
            "+1",
            "1e",
            "1e+",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u12\"",
            "\"\t\"",
            "\"\u{0}\"",
            "[",
            "]",
            "[1",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{\"a\":1,}",
            "{,}",
            "[}",
            "{]",
            "[1}",
            "{\"a\":1]",
            "1 2",
            "NaN",
            "Infinity",
            "-Infinity",
            "[NaN]",
            "'a'",
            "[1,,2]",
            "{\"a\":1 \"b\":2}",
            "{\"a\" 1}",
            "\"abcdefgh\u{1}\"",
            "abcdefghij",
        ] {
            let bad = whole(text, 8).expect_err(text);
            assert_eq!(bad.code, "json.invalid", "{text}");
        }
    }

    #[test]
    fn python_tokens_pass_where_allowed() {
        let mut scanner = Scanner::new(b"[NaN,Infinity,-Infinity]", 4);
        assert!(scanner.value().is_ok());
    }

    #[test]
    fn depth_is_limited_and_costs_nothing() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(whole(&nested(64), 64).is_ok());
        assert_eq!(
            whole(&nested(65), 64).expect_err("too deep").code,
            "json.too_deep"
        );
        assert!(whole(&nested(DEEPEST), DEEPEST).is_ok());
        assert_eq!(
            whole(&nested(100_000), usize::MAX)
                .expect_err("too deep")
                .code,
            "json.too_deep"
        );
        assert_eq!(
            whole(&"{\"a\":".repeat(100_000), 64)
                .expect_err("too deep")
                .code,
            "json.too_deep"
        );
    }

    #[test]
    fn every_special_byte_is_found_at_every_offset() {
        for special in [b'"', b'\\', 0u8, 0x1f] {
            for before in 0..40 {
                let mut bytes = vec![b'a'; before];
                bytes.extend("é".as_bytes());
                bytes.push(special);
                bytes.extend(b"tail and more");
                assert_eq!(plain_end(&bytes, 0), before + 2);
            }
        }
        assert_eq!(plain_end(b"abcdefghi", 0), 9);
    }

    #[test]
    fn texts_are_compared_to_their_last_byte() {
        let bytes: Vec<u8> = (0..40).collect();
        for length in 0..=40 {
            let mut scanner = Scanner::new(&bytes, 4);
            assert!(scanner.text(&bytes[..length]) && scanner.pos() == length);
            for wrong in 0..length {
                let mut text = bytes[..length].to_vec();
                text[wrong] ^= 1;
                let mut scanner = Scanner::new(&bytes, 4);
                assert!(!scanner.text(&text) && scanner.pos() == 0);
            }
        }
        assert!(!Scanner::new(&bytes, 4).text(&[0; 41]));
    }

    #[test]
    fn members_finds_known_keys_and_refuses_them_twice() {
        let [a, b] = members(br#"{"x":1,"\u0061":[1, 2],"b":null}"#, 4, ["a", "b"]).expect("valid");
        assert_eq!((a, b), (Some(&b"[1, 2]"[..]), Some(&b"null"[..])));
        assert_eq!(members(b"{}", 4, ["a"]), Ok([None]));
        let bad = members(br#"{"a":1,"\u0061":2}"#, 4, ["a"]).expect_err("twice");
        assert_eq!(bad.code, "json.duplicate_key");
    }
}
