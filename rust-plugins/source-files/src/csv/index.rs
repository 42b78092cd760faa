//! Where the fields of CSV records lie: 64 bytes at a time, a bit for each byte (as simdjson does for JSON).
//!
//! RFC 4180: a field may stand in quotes, inside of which a quote is doubled; delimiters and line ends there are text. A bit that is
//! set from each quote to the next tells inside from outside, and a doubled quote leaves it as it is.

const BLOCK: usize = 64;

/// The fields and records of a chunk that begins with a record.
#[derive(Default)]
pub struct Index {
    /// Where each field begins; the one behind it ends at the next one's beginning minus one.
    marks: Vec<u32>,
    /// The field that each record begins with, and the one behind the last.
    records: Vec<u32>,
    /// Which records have a quote.
    quoted: Vec<bool>,
    /// Bytes that whole records take.
    pub bytes: usize,
}

/// What is known of quotes at the end of a block.
#[derive(Default)]
struct Quotes {
    /// All bits, where the next block begins inside of quotes.
    inside: u64,
    /// There was one in the record that is not at its end.
    in_record: bool,
}

/// What to look for.
#[derive(Clone, Copy)]
pub struct Marks {
    pub delimiter: u8,
    pub quote: Option<u8>,
}

impl Index {
    /// Find all whole records of `text`, which has at most 4 GiB.
    pub fn build(&mut self, text: &[u8], marks: Marks) {
        self.marks.clear();
        self.records.clear();
        self.marks.push(0);
        self.records.push(0);
        self.quoted.clear();
        self.bytes = 0;
        let mut quotes = Quotes::default();
        let mut blocks = text.chunks_exact(BLOCK);
        let mut base = 0;
        for block in &mut blocks {
            if let Ok(block) = block.try_into() {
                self.take(block, base, marks, &mut quotes, u64::MAX);
            }
            base += BLOCK;
        }
        let rest = blocks.remainder();
        if !rest.is_empty() {
            let mut block = [0; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            self.take(&block, base, marks, &mut quotes, (1 << rest.len()) - 1);
        }
        // Fields behind the last record's end are no whole ones.
        if let Some(&last) = self.records.last() {
            self.marks.truncate(last as usize + 1);
            self.bytes = self.marks[last as usize] as usize;
        }
    }

    #[inline(always)]
    fn take(
        &mut self,
        block: &[u8; BLOCK],
        base: usize,
        marks: Marks,
        state: &mut Quotes,
        valid: u64,
    ) {
        let newlines = equal(block, b'\n');
        let mut ends = newlines | equal(block, marks.delimiter);
        let mut quotes = 0;
        if let Some(quote) = marks.quote {
            quotes = equal(block, quote) & valid;
            if quotes != 0 {
                let quoted = state.inside ^ prefix_xor(quotes);
                ends &= !quoted;
                // The last bit, spread over all.
                state.inside = ((quoted as i64) >> 63) as u64;
            } else {
                ends &= !state.inside;
            }
        }
        ends &= valid;
        self.marks.reserve(BLOCK);
        while ends != 0 {
            let at = ends.trailing_zeros();
            self.marks.push((base as u32) + at + 1);
            if newlines >> at & 1 == 1 {
                self.records.push(self.marks.len() as u32 - 1);
                let before = (1 << at) - 1;
                self.quoted.push(state.in_record || quotes & before != 0);
                state.in_record = false;
                quotes &= !before;
            }
            ends &= ends - 1;
        }
        state.in_record |= quotes != 0;
    }

    /// Whole records, blank ones among them.
    pub fn len(&self) -> usize {
        self.records.len().saturating_sub(1)
    }

    /// The fields of a record.
    #[inline(always)]
    pub fn width(&self, record: usize) -> usize {
        (self.records[record + 1] - self.records[record]) as usize
    }

    /// Whether a record has a quote.
    #[inline(always)]
    pub fn is_quoted(&self, record: usize) -> bool {
        self.quoted[record]
    }

    /// The offset of a record's first byte.
    pub fn start(&self, record: usize) -> usize {
        self.marks[self.records[record] as usize] as usize
    }

    /// Where field `column` of a record begins and ends. The last one may end with a carriage return.
    #[inline(always)]
    pub fn field(&self, record: usize, column: usize) -> (usize, usize) {
        let at = self.records[record] as usize + column;
        (self.marks[at] as usize, self.marks[at + 1] as usize - 1)
    }
}

/// A bit for each byte of the block that is `byte`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn equal(block: &[u8; BLOCK], byte: u8) -> u64 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8,
    };
    let mut bits = 0;
    for (place, part) in block.chunks_exact(16).enumerate() {
        // SAFETY: SSE2 is part of x86-64; `part` has the 16 bytes that are loaded, from any address.
        let mask = unsafe {
            let part = _mm_loadu_si128(part.as_ptr().cast::<__m128i>());
            _mm_movemask_epi8(_mm_cmpeq_epi8(part, _mm_set1_epi8(byte as i8)))
        };
        bits |= u64::from(mask as u16) << (place * 16);
    }
    bits
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn equal(block: &[u8; BLOCK], byte: u8) -> u64 {
    let bit = |(at, found): (usize, &u8)| u64::from(*found == byte) << at;
    block
        .iter()
        .enumerate()
        .map(bit)
        .fold(0, |bits, bit| bits | bit)
}

/// Each bit: whether an odd number of bits is set up to it.
#[inline(always)]
fn prefix_xor(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks {
        delimiter: b',',
        quote: Some(b'"'),
    };

    /// Records and their fields, byte by byte.
    fn plainly(text: &[u8]) -> Vec<Vec<&[u8]>> {
        let (mut records, mut fields, mut start, mut inside) = (vec![], vec![], 0, false);
        for (at, &byte) in text.iter().enumerate() {
            match byte {
                b'"' => inside = !inside,
                b',' | b'\n' if !inside => {
                    fields.push(&text[start..at]);
                    start = at + 1;
                    if byte == b'\n' {
                        records.push(std::mem::take(&mut fields));
                    }
                }
                _ => {}
            }
        }
        records
    }

    #[test]
    fn every_text_is_cut_as_byte_by_byte() {
        let alphabet = b"a,\n\"\r";
        let mut seed = 1u64;
        let mut index = Index::default();
        for length in 0..400 {
            let text: Vec<u8> = (0..length)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    alphabet[(seed >> 33) as usize % alphabet.len()]
                })
                .collect();
            index.build(&text, MARKS);
            let found: Vec<Vec<&[u8]>> = (0..index.len())
                .map(|record| {
                    (0..index.width(record))
                        .map(|column| {
                            let (start, end) = index.field(record, column);
                            &text[start..end]
                        })
                        .collect()
                })
                .collect();
            let expected = plainly(&text);
            let bytes: usize = expected.iter().flatten().map(|field| field.len() + 1).sum();
            for (record, fields) in expected.iter().enumerate() {
                let has_quote = fields.iter().any(|field| field.contains(&b'"'));
                assert_eq!(index.is_quoted(record), has_quote);
            }
            assert_eq!((found, index.bytes), (expected, bytes));
        }
    }
}
