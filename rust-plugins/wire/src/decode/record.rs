//! An object whose keys are known: a record, or a column that holds objects.

use std::collections::{BTreeMap, HashMap};

use arrow_array::ArrayRef;

use super::column::{Builder, Room};
use super::{Field, Reject};
use crate::oddity::{OddSet, Oddity};
use crate::scan::{Bad, Scanner};
use crate::text;

/// Keys outside the schema that are learnt, so that passing over them is cheap too.
pub(super) const MAX_IGNORED_KEYS: usize = 256;
/// Longer ones are looked up each time.
const MAX_IGNORED_KEY_BYTES: usize = 256;

pub(super) struct Record {
    builders: Vec<Builder>,
    names: Vec<Name>,
    /// The columns first, then ignored keys: each as the source writes it, in its quotes.
    patterns: Vec<Box<[u8]>>,
    /// What came after each key, and at 0 what came first.
    followers: Vec<u32>,
    by_name: HashMap<Box<[u8]>, u32>,
    needed: Vec<usize>,
}

struct Name {
    property: String,
    key: bool,
}

/// A value that is not its column's, and where it stands.
struct Misfit {
    at: usize,
    reject: Box<Reject>,
}

/// By column: of a field that comes twice the last one counts.
type Misfits = BTreeMap<usize, Misfit>;

/// What is wrong with the first of them, in the text; there is one.
#[cold]
fn first(misfits: Misfits) -> Box<Reject> {
    let first = misfits.into_values().min_by_key(|misfit| misfit.at);
    first.expect("there is a misfit").reject
}

impl Record {
    /// `fields` have distinct properties.
    pub(super) fn new(fields: &[Field]) -> Record {
        let key = |field: &Field| field.property.as_bytes().into();
        let name = |field: &Field| Name {
            property: field.property.clone(),
            key: field.key,
        };
        Record {
            builders: fields.iter().map(Builder::of_field).collect(),
            names: fields.iter().map(name).collect(),
            patterns: fields
                .iter()
                .map(|field| quoted(field.property.as_bytes()))
                .collect(),
            followers: (0..=fields.len() as u32).collect(),
            by_name: fields.iter().map(key).zip(0..).collect(),
            needed: (0..fields.len())
                .filter(|&column| fields[column].required || fields[column].key)
                .collect(),
        }
    }

    /// Bytes of one row besides texts and what is in lists.
    pub(super) fn width(&self) -> usize {
        self.builders.iter().map(Builder::width).sum()
    }

    pub(super) fn list_bytes(&self) -> usize {
        self.builders.iter().map(Builder::list_bytes).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        self.builders.iter().map(Builder::bytes).sum()
    }

    pub(super) fn has_lists(&self) -> bool {
        self.builders.iter().any(Builder::has_lists)
    }

    /// Take the object at the cursor for row `row`; there is one.
    #[inline(always)]
    pub(super) fn take(
        &mut self,
        scanner: &mut Scanner<'_>,
        row: usize,
        room: &mut Room,
    ) -> Result<(), Box<Reject>> {
        let misfits = self.take_each(scanner, row, room)?;
        if !misfits.is_empty() {
            return Err(first(misfits));
        }
        self.check_needed(row)
    }

    /// The same; a value that is not its column's becomes null where it may, and is told in `discarded`.
    pub(super) fn take_leniently(
        &mut self,
        scanner: &mut Scanner<'_>,
        row: usize,
        room: &mut Room,
        discarded: &mut Vec<Reject>,
    ) -> Result<(), Box<Reject>> {
        let misfits = self.take_each(scanner, row, room)?;
        let (told, fatal): (Misfits, Misfits) = misfits.into_iter().partition(|(column, _)| {
            self.builders[*column].may_be_null() && !self.names[*column].key
        });
        if !fatal.is_empty() {
            return Err(first(fatal));
        }
        self.check_needed(row)?;
        discarded.extend(told.into_values().map(|misfit| *misfit.reject));
        Ok(())
    }

    /// Take every field, and return those whose last value is not their column's: they are null.
    #[inline(always)]
    fn take_each(
        &mut self,
        scanner: &mut Scanner<'_>,
        row: usize,
        room: &mut Room,
    ) -> Result<Misfits, Box<Reject>> {
        let mut misfits = Misfits::new();
        scanner.enter(b'{', "a record is an object")?;
        if scanner.peek() == b'}' {
            scanner.more(b'}')?;
            return Ok(misfits);
        }
        let mut before = 0;
        loop {
            let key = self.key(scanner, before)?;
            match key.and_then(|key| self.builders.get_mut(key)) {
                Some(builder) => {
                    let column = key.unwrap_or_default();
                    if builder.len() > row {
                        // The last one counts, as in every other parser.
                        builder.truncate(row);
                        misfits.remove(&column);
                        scanner.odd.add(Oddity::DuplicateKey);
                    }
                    let start = *scanner;
                    if let Err(reject) = builder.push(scanner, row, room) {
                        *scanner = start;
                        let misfit = self.pass_over(reject, column, row, scanner)?;
                        misfits.insert(column, misfit);
                    }
                }
                None => {
                    scanner.value()?;
                }
            }
            before = key.map_or(before, |key| key + 1);
            if !scanner.more(b'}')? {
                return Ok(misfits);
            }
        }
    }

    /// Pass over the value at the cursor, which `column` does not take.
    #[cold]
    fn pass_over(
        &mut self,
        reject: Box<Reject>,
        column: usize,
        row: usize,
        scanner: &mut Scanner<'_>,
    ) -> Result<Misfit, Box<Reject>> {
        if !reject.is_of_value() {
            return Err(reject);
        }
        let at = scanner.pos();
        scanner.value()?;
        self.builders[column].set_null(row);
        let reject = reject.below(&self.names[column].property);
        Ok(Misfit { at, reject })
    }

    #[inline(always)]
    fn check_needed(&self, row: usize) -> Result<(), Box<Reject>> {
        match self
            .needed
            .iter()
            .find(|&&column| self.builders[column].len() <= row)
        {
            Some(&column) => {
                let Name { property, key } = &self.names[column];
                Err(Reject::missing(property, *key))
            }
            None => Ok(()),
        }
    }

    /// Read the key at the cursor: the index of its pattern, none for one that is not learnt.
    #[inline(always)]
    fn key(&mut self, scanner: &mut Scanner<'_>, before: usize) -> Result<Option<usize>, Bad> {
        let expected = self.followers[before] as usize;
        if let Some(pattern) = self.patterns.get(expected)
            && scanner.text(pattern)
        {
            scanner.colon()?;
            return Ok(Some(expected));
        }
        self.look_up(scanner, before)
    }

    fn look_up(&mut self, scanner: &mut Scanner<'_>, before: usize) -> Result<Option<usize>, Bad> {
        let start = scanner.pos();
        if scanner.peek() != b'"' {
            return Err(scanner.bad("expected a key in quotes"));
        }
        let before_key = std::mem::take(&mut scanner.odd);
        let (raw, escaped) = scanner.string()?;
        // A key that is odd is read each time, so that each line with it counts.
        let is_plain = scanner.odd == OddSet::default();
        scanner.odd.join(before_key);
        let written = scanner.since(start);
        scanner.colon()?;
        let name = if escaped {
            text::resolve(raw)
        } else {
            raw.into()
        };
        let key = match self.by_name.get(&*name) {
            Some(&key) => key as usize,
            None if is_plain
                && self.patterns.len() - self.builders.len() < MAX_IGNORED_KEYS
                && written.len() <= MAX_IGNORED_KEY_BYTES =>
            {
                let key = self.patterns.len();
                self.by_name.insert(name.into_owned().into(), key as u32);
                self.patterns.push(written.into());
                self.followers.push(u32::MAX);
                key
            }
            None => return Ok(None),
        };
        if is_plain && &*self.patterns[key] != written {
            self.patterns[key] = written.into();
        }
        self.followers[before] = key as u32;
        Ok(Some(key))
    }

    #[cfg(test)]
    pub(super) fn known_keys(&self) -> usize {
        self.patterns.len()
    }

    /// Drop what was taken for row `rows` and those after it.
    pub(super) fn truncate(&mut self, rows: usize) {
        for builder in &mut self.builders {
            builder.truncate(rows);
        }
    }

    pub(super) fn shrink(&mut self) {
        self.builders.iter_mut().for_each(Builder::shrink);
    }

    /// The first `rows` rows, an array for each field.
    pub(super) fn finish(&mut self, rows: usize) -> Vec<ArrayRef> {
        self.builders
            .iter_mut()
            .map(|builder| builder.finish(rows))
            .collect()
    }
}

fn quoted(name: &[u8]) -> Box<[u8]> {
    let mut pattern = Vec::with_capacity(name.len() + 2);
    pattern.push(b'"');
    pattern.extend_from_slice(name);
    pattern.push(b'"');
    pattern.into()
}
