//! What is not as the specifications ask but tolerated: counted by default, refused in strict mode.
//!
//! docs/spec/wire.md has the table. Every kind is counted once for each line that shows it.

use crate::fault::Fault;
use crate::framing::Line;

/// One kind of tolerated input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Oddity {
    /// An empty line, or one of spaces only.
    BlankLine,
    /// A line that is no message.
    TextLine,
    /// U+FEFF at the start of the output.
    Bom,
    /// A line that ends with `\r\n`.
    Crlf,
    /// NaN, Infinity or -Infinity.
    Nan,
    /// The escape `\u0000`.
    Nul,
    /// A `\u` escape that names half a character.
    LoneSurrogate,
    /// A field that stands twice in a record.
    DuplicateKey,
    /// A message of a type that the dialect does not have.
    UnknownType,
    /// A Singer type that is not written in capitals.
    TypeCase,
}

const KINDS: [Oddity; 10] = [
    Oddity::BlankLine,
    Oddity::TextLine,
    Oddity::Bom,
    Oddity::Crlf,
    Oddity::Nan,
    Oddity::Nul,
    Oddity::LoneSurrogate,
    Oddity::DuplicateKey,
    Oddity::UnknownType,
    Oddity::TypeCase,
];

impl Oddity {
    /// The name in `stats.oddities`.
    pub fn name(self) -> &'static str {
        match self {
            Oddity::BlankLine => "blank_line",
            Oddity::TextLine => "text_line",
            Oddity::Bom => "bom",
            Oddity::Crlf => "crlf",
            Oddity::Nan => "nan",
            Oddity::Nul => "nul",
            Oddity::LoneSurrogate => "lone_surrogate",
            Oddity::DuplicateKey => "duplicate_key",
            Oddity::UnknownType => "unknown_type",
            Oddity::TypeCase => "type_case",
        }
    }

    /// The error's code in strict mode, and its message.
    fn refusal(self) -> (&'static str, &'static str) {
        match self {
            Oddity::BlankLine => ("framing.blank_line", "an empty line"),
            Oddity::TextLine => ("framing.text_line", "a line that is not a message"),
            Oddity::Bom => ("framing.bom", "the output starts with a byte order mark"),
            Oddity::Crlf => (
                "framing.crlf",
                "a line that ends with carriage return and line feed",
            ),
            Oddity::Nan => ("json.nan", "NaN and Infinity are not JSON"),
            Oddity::Nul => ("json.nul", "a string holds U+0000"),
            Oddity::LoneSurrogate => (
                "json.lone_surrogate",
                "a \\u escape that names half a character",
            ),
            Oddity::DuplicateKey => ("json.duplicate_key", "a field stands twice in the record"),
            Oddity::UnknownType => ("message.unknown_type", "a message of an unknown type"),
            Oddity::TypeCase => ("message.type_case", "a type that is not in capitals"),
        }
    }
}

/// The oddities of one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OddSet(u16);

impl OddSet {
    pub fn add(&mut self, kind: Oddity) {
        self.0 |= 1 << kind as u8;
    }

    pub fn join(&mut self, other: OddSet) {
        self.0 |= other.0;
    }

    pub fn contains(self, kind: Oddity) -> bool {
        self.0 >> kind as u8 & 1 == 1
    }
}

impl From<Oddity> for OddSet {
    fn from(kind: Oddity) -> OddSet {
        let mut set = OddSet::default();
        set.add(kind);
        set
    }
}

/// How many lines showed each kind.
#[derive(Clone, Debug, Default)]
pub struct Oddities {
    strict: bool,
    counts: [u64; KINDS.len()],
}

impl Oddities {
    pub fn new(strict: bool) -> Oddities {
        Oddities {
            strict,
            counts: Default::default(),
        }
    }

    /// Count what `line` showed; in strict mode the first kind of it is an error.
    #[inline(always)]
    pub fn note(&mut self, met: OddSet, line: Line<'_>) -> Result<(), Box<Fault>> {
        if met == OddSet::default() {
            return Ok(());
        }
        self.count(met, line)
    }

    #[cold]
    fn count(&mut self, met: OddSet, line: Line<'_>) -> Result<(), Box<Fault>> {
        for kind in KINDS.into_iter().filter(|&kind| met.contains(kind)) {
            self.counts[kind as usize] += 1;
            if self.strict {
                let (code, message) = kind.refusal();
                let fault = Fault::plugin(code, message).at(line.number, line.byte);
                return Err(fault
                    .value(line.bytes)
                    .hint("only strict mode refuses this: docs/spec/wire.md"));
            }
        }
        Ok(())
    }

    /// Name and count of each kind that was met.
    pub fn counted(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let named = KINDS.iter().map(|kind| kind.name());
        named.zip(self.counts).filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: Line<'static> = Line {
        number: 3,
        byte: 40,
        bytes: b"{}",
        odd: OddSet(0),
    };

    #[test]
    fn each_kind_is_counted_once_a_line() {
        let mut oddities = Oddities::new(false);
        let mut met = OddSet::from(Oddity::Crlf);
        met.add(Oddity::Nan);
        met.add(Oddity::Nan);
        for _ in 0..3 {
            assert_eq!(oddities.note(met, LINE), Ok(()));
        }
        assert_eq!(oddities.note(OddSet::default(), LINE), Ok(()));
        assert_eq!(
            oddities.counted().collect::<Vec<_>>(),
            [("crlf", 3), ("nan", 3)]
        );
    }

    #[test]
    fn strict_refuses_the_first_with_its_place() {
        for (index, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(index, kind as usize);
            let fault = Oddities::new(true)
                .note(kind.into(), LINE)
                .expect_err("strict");
            assert!(kind.name().len() <= 32);
            assert_eq!((fault.code, fault.line), (kind.refusal().0, Some(3)));
        }
    }
}
