//! Thrift's compact protocol, as far as Parquet uses it, from bytes that nobody vouches for.
//!
//! Nothing is allocated by a length that the bytes state. Fields have to come in order and once: of two readers that take
//! the first and the last of a repeated field, one would be told something that was never checked.
//! Source: Apache Thrift, thrift-compact-protocol.md.

use crate::flaw::{Flaw, Result, ensure};

/// Structs inside one another in what is skipped.
const MAX_SKIPPED_DEPTH: u8 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    True,
    False,
    Byte,
    I16,
    I32,
    I64,
    Double,
    Binary,
    List,
    Set,
    Map,
    Struct,
}

impl Type {
    fn of(nibble: u8) -> Result<Type> {
        Ok(match nibble {
            1 => Type::True,
            2 => Type::False,
            3 => Type::Byte,
            4 => Type::I16,
            5 => Type::I32,
            6 => Type::I64,
            7 => Type::Double,
            8 => Type::Binary,
            9 => Type::List,
            10 => Type::Set,
            11 => Type::Map,
            12 => Type::Struct,
            _ => return Err(Flaw::new(format!("holds Thrift of no type: {nibble}"))),
        })
    }
}

pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Bytes that were read.
    pub fn at(&self) -> usize {
        self.at
    }

    fn rest(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn byte(&mut self) -> Result<u8> {
        let byte = self.bytes.get(self.at).copied();
        self.at += 1;
        byte.ok_or_else(|| Flaw::new("ends inside its Thrift"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        ensure(length <= self.rest(), || "ends inside its Thrift".into())?;
        let bytes = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(bytes)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Flaw::new("holds a Thrift number of more than 64 bits"))
    }

    fn zigzag(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub fn i64(&mut self, kind: Type) -> Result<i64> {
        self.number(kind, Type::I64)
    }

    pub fn i32(&mut self, kind: Type) -> Result<i32> {
        let value = self.number(kind, Type::I32)?;
        i32::try_from(value).map_err(|_| Flaw::new("holds a Thrift i32 of more than 32 bits"))
    }

    fn number(&mut self, kind: Type, wanted: Type) -> Result<i64> {
        expect(kind, wanted)?;
        self.zigzag()
    }

    pub fn i8(&mut self, kind: Type) -> Result<i8> {
        expect(kind, Type::Byte)?;
        Ok(self.byte()? as i8)
    }

    /// A field's flag is in its type, a list's in a byte of its own: see `list`.
    pub fn flag(&mut self, kind: Type) -> Result<bool> {
        match kind {
            Type::True => Ok(true),
            Type::False => Ok(false),
            _ => Err(Flaw::new("holds Thrift of another type than it should")),
        }
    }

    pub fn binary(&mut self, kind: Type) -> Result<&'a [u8]> {
        expect(kind, Type::Binary)?;
        let length = self.varint()?;
        // A length beyond usize is beyond the rest as well.
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    pub fn text(&mut self, kind: Type) -> Result<&'a str> {
        std::str::from_utf8(self.binary(kind)?)
            .map_err(|_| Flaw::new("has a name that is no UTF-8"))
    }

    /// Read a list, `each` element in turn, which is handed the elements' type.
    pub fn list(
        &mut self,
        kind: Type,
        mut each: impl FnMut(&mut Self, Type) -> Result<()>,
    ) -> Result<()> {
        expect(kind, Type::List)?;
        let head = self.byte()?;
        let length = match head >> 4 {
            15 => self.varint()?,
            short => u64::from(short),
        };
        // No element takes less than a byte, so that a long list is a long input.
        ensure(length <= self.rest() as u64, || {
            "ends inside a Thrift list".into()
        })?;
        let element = match head & 15 {
            0 => Type::Struct, // of an empty list
            nibble => Type::of(nibble)?,
        };
        for _ in 0..length {
            if matches!(element, Type::True | Type::False) {
                let kind = if self.byte()? == 1 {
                    Type::True
                } else {
                    Type::False
                };
                each(self, kind)?;
            } else {
                each(self, element)?;
            }
        }
        Ok(())
    }

    /// Read a struct that is a field or an element.
    pub fn record(
        &mut self,
        kind: Type,
        take: impl FnMut(&mut Self, i16, Type) -> Result<()>,
    ) -> Result<()> {
        expect(kind, Type::Struct)?;
        self.fields(take)
    }

    /// Read the fields of a struct: `take` is handed each one's number and type, and reads or skips it.
    pub fn fields(
        &mut self,
        mut take: impl FnMut(&mut Self, i16, Type) -> Result<()>,
    ) -> Result<()> {
        let mut last = 0;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            let id = match head >> 4 {
                0 => self.zigzag()?,
                delta => last + i64::from(delta),
            };
            let id16 = i16::try_from(id).ok().filter(|_| id > last);
            let Some(id16) = id16 else {
                return Err(Flaw::new("holds Thrift fields out of order"));
            };
            last = id;
            take(self, id16, Type::of(head & 15)?)?;
        }
    }

    /// Pass over a value.
    pub fn skip(&mut self, kind: Type) -> Result<()> {
        self.skip_at(kind, 0)
    }

    fn skip_at(&mut self, kind: Type, depth: u8) -> Result<()> {
        ensure(depth < MAX_SKIPPED_DEPTH, || {
            "nests its Thrift too deeply".into()
        })?;
        match kind {
            Type::True | Type::False => Ok(()),
            Type::Byte => self.byte().map(drop),
            Type::I16 | Type::I32 | Type::I64 => self.varint().map(drop),
            Type::Double => self.take(8).map(drop),
            Type::Binary => self.binary(kind).map(drop),
            Type::List => self.list(kind, |reader, kind| reader.skip_at(kind, depth + 1)),
            Type::Struct => self.fields(|reader, _, kind| reader.skip_at(kind, depth + 1)),
            Type::Set | Type::Map => Err(Flaw::new("holds a Thrift set or map")),
        }
    }
}

fn expect(kind: Type, wanted: Type) -> Result<()> {
    ensure(kind == wanted, || {
        "holds Thrift of another type than it should".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_out_of_order_and_twice_are_refused() {
        for bytes in [[0x25, 2, 0x05, 2, 2, 0], [0x15, 2, 0x05, 2, 2, 0]] {
            let read = Reader::new(&bytes).fields(|reader, _, kind| reader.skip(kind));
            assert!(read.is_err(), "{bytes:?}");
        }
        let twice = [0x15, 2, 0x05, 2, 2, 0];
        let mut seen = Vec::new();
        let read = Reader::new(&twice).fields(|reader, id, kind| {
            seen.push((id, reader.i32(kind)?));
            Ok(())
        });
        assert!(read.is_err());
        assert_eq!(seen, [(1, 1)]);
    }

    #[test]
    fn lengths_are_held_against_what_is_there() {
        assert!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f])
                .binary(Type::Binary)
                .is_err()
        );
        let list = [0xf5, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 1];
        assert!(
            Reader::new(&list)
                .list(Type::List, |reader, kind| reader.skip(kind))
                .is_err()
        );
        assert!(Reader::new(&[0x80; 11]).i64(Type::I64).is_err());
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = vec![0x1c; 1 << 20];
        assert!(Reader::new(&deep).skip(Type::Struct).is_err());
        let lists = vec![0x19; 1 << 20];
        assert!(Reader::new(&lists).skip(Type::List).is_err());
    }
}
