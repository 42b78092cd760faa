//! The first level of a record's data: fields that stand twice, fields that are left out.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use dativo_wire::oddity::Oddity;
use dativo_wire::scan::{Bad, Scanner};
use dativo_wire::text;

/// Keys are remembered, so that the next record's are found by comparing: for all streams together up to this.
const MAX_KNOWN_BYTES: usize = 4 << 20;
const MAX_KNOWN_KEY_BYTES: usize = 256;
/// What a remembered key takes besides its texts, about.
const KNOWN_BYTES: usize = 128;

/// The memory that is left for keys.
pub struct KeyMemory(usize);

impl KeyMemory {
    pub fn new() -> KeyMemory {
        KeyMemory(MAX_KNOWN_BYTES)
    }

    fn take(&mut self, bytes: usize) -> bool {
        let enough = self.0 >= bytes;
        if enough {
            self.0 -= bytes;
        }
        enough
    }
}

/// What is known of the fields of one stream's records.
pub struct Fields {
    max_fields: usize,
    known: Vec<Known>,
    by_name: HashMap<Box<[u8]>, usize>,
    /// The key that last followed each known one; the first entry is for the first key of a record.
    followers: Vec<usize>,
    /// Counts records.
    record: u64,
    drops: bool,
    /// Of the record at hand: what is kept, if anything is left out.
    kept: Vec<Range<usize>>,
}

struct Known {
    /// As last written: in quotes, and the colon.
    pattern: Box<[u8]>,
    drop: bool,
    /// The last record that had it.
    seen: u64,
}

impl Fields {
    /// `drop` are the names that are left out; a record with more than `max_fields` is refused.
    pub fn new(drop: &[String], max_fields: usize) -> Fields {
        let mut fields = Fields {
            max_fields,
            known: Vec::new(),
            by_name: HashMap::new(),
            followers: vec![usize::MAX],
            record: 0,
            drops: !drop.is_empty(),
            kept: Vec::new(),
        };
        for name in drop {
            let pattern = format!("{}:", serde_json::Value::from(name.as_str()));
            fields.learn(name.as_bytes(), pattern.as_bytes(), true);
        }
        fields
    }

    fn learn(&mut self, name: &[u8], pattern: &[u8], drop: bool) -> usize {
        let index = self.known.len();
        self.by_name.insert(name.into(), index);
        self.known.push(Known {
            pattern: pattern.into(),
            drop,
            seen: 0,
        });
        self.followers.push(usize::MAX);
        index
    }

    /// Read the object at `scanner` and return the cursor behind it.
    #[inline]
    pub fn read<'a>(
        &mut self,
        mut scanner: Scanner<'a>,
        memory: &mut KeyMemory,
    ) -> Result<Scanner<'a>, Bad> {
        self.record += 1;
        self.kept.clear();
        if scanner.peek() != b'{' {
            return Err(Bad {
                code: "message.invalid",
                message: "a record must be an object",
                at: scanner.pos(),
            });
        }
        scanner.enter(b'{', "a record is an object")?;
        if scanner.peek() == b'}' {
            scanner.more(b'}')?;
            return Ok(scanner);
        }
        let mut strangers = Vec::new();
        let (mut before, mut count) = (0, 0);
        loop {
            let start = scanner.pos();
            count += 1;
            if count > self.max_fields {
                return Err(Bad {
                    code: "limit.columns",
                    message: "a record of more fields than limits.max_columns allows",
                    at: start,
                });
            }
            let key = self.key(&mut scanner, before, memory, &mut strangers)?;
            scanner.value()?;
            let drop = match key {
                None => false,
                Some(index) => {
                    before = index + 1;
                    let known = &mut self.known[index];
                    if known.seen == self.record {
                        scanner.odd.add(Oddity::DuplicateKey);
                    }
                    known.seen = self.record;
                    known.drop
                }
            };
            if self.drops && !drop {
                self.kept.push(start..scanner.pos());
            }
            if !scanner.more(b'}')? {
                break;
            }
        }
        if !strangers.is_empty() {
            strangers.sort_unstable();
            if strangers.windows(2).any(|pair| pair[0] == pair[1]) {
                scanner.odd.add(Oddity::DuplicateKey);
            }
        }
        Ok(scanner)
    }

    /// Whether fields are left out of this stream's records.
    pub fn drops(&self) -> bool {
        self.drops
    }

    /// Append the record that was read last, a part of `line`, without what is left out.
    pub fn append_kept(&self, line: &[u8], out: &mut Vec<u8>) {
        out.push(b'{');
        for (index, part) in self.kept.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&line[part.clone()]);
        }
        out.push(b'}');
    }

    /// Read the key at the cursor: its index, none for one that is not learnt and goes to `strangers`.
    #[inline(always)]
    fn key<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        before: usize,
        memory: &mut KeyMemory,
        strangers: &mut Vec<Cow<'a, [u8]>>,
    ) -> Result<Option<usize>, Bad> {
        let expected = self.followers[before];
        if let Some(known) = self.known.get(expected)
            && scanner.text(&known.pattern)
        {
            scanner.skip_space();
            return Ok(Some(expected));
        }
        self.look_up(scanner, before, memory, strangers)
    }

    fn look_up<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        before: usize,
        memory: &mut KeyMemory,
        strangers: &mut Vec<Cow<'a, [u8]>>,
    ) -> Result<Option<usize>, Bad> {
        let start = scanner.pos();
        if scanner.peek() != b'"' {
            return Err(scanner.bad("expected a key in quotes"));
        }
        let (raw, escaped) = scanner.string()?;
        let quoted = scanner.since(start);
        scanner.colon()?;
        let name = if escaped {
            text::resolve(raw)
        } else {
            raw.into()
        };
        let index = match self.by_name.get(&*name) {
            Some(&index) => index,
            None if quoted.len() <= MAX_KNOWN_KEY_BYTES
                && memory.take(name.len() + quoted.len() + KNOWN_BYTES) =>
            {
                self.learn(&name, &pattern_of(quoted), false)
            }
            None => {
                strangers.push(name);
                return Ok(None);
            }
        };
        let pattern = &mut self.known[index].pattern;
        let longer = quoted.len().saturating_sub(pattern.len());
        if pattern[..pattern.len() - 1] != *quoted && memory.take(longer) {
            *pattern = pattern_of(quoted).into();
        }
        self.followers[before] = index;
        Ok(Some(index))
    }
}

fn pattern_of(quoted: &[u8]) -> Vec<u8> {
    [quoted, b":"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &mut Fields, text: &str) -> Result<(bool, String), &'static str> {
        read_with(fields, text, &mut KeyMemory::new())
    }

    fn read_with(
        fields: &mut Fields,
        text: &str,
        memory: &mut KeyMemory,
    ) -> Result<(bool, String), &'static str> {
        let scanner = Scanner::new(text.as_bytes(), 8);
        let end = fields.read(scanner, memory).map_err(|bad| bad.code)?;
        assert_eq!(end.pos(), text.len());
        let mut out = Vec::new();
        fields.append_kept(text.as_bytes(), &mut out);
        let kept = String::from_utf8(out).expect("UTF-8");
        Ok((end.odd.contains(Oddity::DuplicateKey), kept))
    }

    fn dropping(names: &[&str]) -> Fields {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Fields::new(&names, 100)
    }

    #[test]
    fn dropped_fields_are_cut_out_and_the_others_keep_their_bytes() {
        let mut fields = dropping(&["b", "d"]);
        for _ in 0..2 {
            for (text, kept) in [
                (
                    r#"{"a":1,"b":2,"c":[1, 2],"d":{}}"#,
                    r#"{"a":1,"c":[1, 2]}"#,
                ),
                (r#"{"b":2}"#, "{}"),
                ("{}", "{}"),
                (r#"{ "b" : 2 , "a" : 1.50 }"#, r#"{"a" : 1.50}"#),
                (
                    r#"{"d":1,"c":"b","b":[{"a":"}"}],"e":0}"#,
                    r#"{"c":"b","e":0}"#,
                ),
                (r#"{"\u0062":1,"\u0061":2}"#, r#"{"\u0061":2}"#),
                (r#"{"b":1,"b":2,"a":{"b":3}}"#, r#"{"a":{"b":3}}"#),
            ] {
                let (_, found) = read(&mut fields, text).expect("taken");
                assert_eq!(found, kept, "{text}");
            }
        }
    }

    #[test]
    fn a_field_twice_is_seen_in_any_order() {
        let mut fields = dropping(&[]);
        for _ in 0..2 {
            for (text, twice) in [
                (r#"{"a":1,"b":2,"c":3}"#, false),
                (r#"{"c":1,"b":2,"a":3}"#, false),
                (r#"{"a":1,"b":2,"a":3}"#, true),
                (r#"{"a":1,"\u0061":2}"#, true),
                (r#"{"a":{"b":1},"b":{"a":1}}"#, false),
                (r#"{"b":2,"b":2}"#, true),
            ] {
                assert_eq!(read(&mut fields, text).expect("taken").0, twice, "{text}");
            }
        }
    }

    #[test]
    fn a_dropped_name_is_taken_as_text_not_as_json() {
        let mut fields = dropping(&[r#"a":1,"b"#, "c\\"]);
        for (text, kept) in [
            (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":2}"#),
            (r#"{"a\":1,\"b":2,"x":0}"#, r#"{"x":0}"#),
            (r#"{"c\\":2}"#, "{}"),
        ] {
            assert_eq!(read(&mut fields, text).expect("taken").1, kept, "{text}");
        }
    }

    #[test]
    fn keys_without_end_take_bounded_memory_and_are_still_checked() {
        let (mut fields, mut memory) = (dropping(&["x"]), KeyMemory(1000));
        for number in 0..100 {
            let text = format!(r#"{{"k{number}":1,"k{number}":2}}"#);
            let (twice, _) = read_with(&mut fields, &text, &mut memory).expect("taken");
            assert!(twice, "{number}");
        }
        assert!(fields.known.len() <= 1 + 1000 / KNOWN_BYTES);
        for (text, twice) in [
            (r#"{"y":1,"x":1,"z":1}"#, false),
            (r#"{"y":1,"x":1,"y":1}"#, true),
            (r#"{"x":1,"y":1,"x":1}"#, true),
        ] {
            let read = read_with(&mut fields, text, &mut memory).expect("taken");
            assert_eq!(read.0, twice, "{text}");
            assert!(!read.1.contains('x'));
        }
    }

    #[test]
    fn what_is_no_record() {
        let mut fields = dropping(&[]);
        for text in ["[]", "1", "null", "\"a\""] {
            assert_eq!(read(&mut fields, text), Err("message.invalid"), "{text}");
        }
        for text in ["{", "{a:1}", r#"{"a"}"#, r#"{"a":1,}"#, r#"{"a":1 "b":2}"#] {
            assert_eq!(read(&mut fields, text), Err("json.invalid"), "{text}");
        }
        let wide: Vec<String> = (0..101).map(|number| format!(r#""k{number}":1"#)).collect();
        let text = format!("{{{}}}", wide.join(","));
        assert_eq!(read(&mut fields, &text), Err("limit.columns"));
    }
}
