//! Bounds-checked little-endian reading and writing; everything else in `format` uses only this (`format-spec/conventions.md`).

use crate::error::{Error, Result};
use crate::runtime::Timestamp;

/// Reads a structure from front to back. Every method fails with a CONV rule rather than reading past the end.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// All bytes that are left, which ends the structure.
    pub(crate) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The next `length` bytes.
    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(length) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(Error::rule("CONV-2", format!("{length} bytes expected, {} are left", self.rest.len()))),
        }
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(*head)
            }
            None => Err(Error::rule("CONV-2", format!("{N} bytes expected, {} are left", self.rest.len()))),
        }
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A varint: at most 64 bits, in its shortest form.
    pub(crate) fn varint(&mut self) -> Result<u64> {
        // Nearly all are short.
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && byte > 1 {
                return Err(Error::rule("CONV-1", "a varint exceeds 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift != 0 {
                    return Err(Error::rule("CONV-1", "a varint is longer than it needs to be"));
                }
                return Ok(value);
            }
        }
        Err(Error::rule("CONV-1", "a varint exceeds 64 bits"))
    }

    /// A signed number in a varint.
    pub(crate) fn zigzag(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A varint that counts items of at least `item_size_min` bytes each; refused where they cannot fit into what is left.
    pub(crate) fn count(&mut self, item_size_min: usize) -> Result<usize> {
        let count = self.varint()?;
        match usize::try_from(count) {
            Ok(n) if n.checked_mul(item_size_min.max(1)).is_some_and(|size| size <= self.rest.len()) => Ok(n),
            _ => Err(Error::rule("CONV-2", format!("{count} items cannot stand in {} bytes", self.rest.len()))),
        }
    }

    /// As [`Self::count`], of at most `count_max` items; `rule` is what is broken otherwise, and comes first.
    pub(crate) fn count_at_most(&mut self, count_max: usize, item_size_min: usize, rule: &'static str) -> Result<usize> {
        let count = self.clone().varint()?;
        match count > count_max as u64 {
            true => Err(Error::rule(rule, format!("{count} items, at most {count_max} are allowed"))),
            false => self.count(item_size_min),
        }
    }

    /// A varint length and that many bytes.
    pub(crate) fn blob(&mut self) -> Result<&'a [u8]> {
        let length = self.count(1)?;
        self.bytes(length)
    }

    /// A point in time.
    pub(crate) fn time(&mut self) -> Result<Timestamp> {
        let seconds = self.u64()?.cast_signed();
        let nanoseconds = self.u32()?;
        if nanoseconds >= 1_000_000_000 {
            return Err(Error::rule("CONV-5", format!("{nanoseconds} nanoseconds")));
        }
        Ok(Timestamp { seconds, nanoseconds })
    }

    /// Reserved bytes, which must be zero; `rule` is what is broken otherwise.
    pub(crate) fn reserved(&mut self, length: usize, rule: &'static str) -> Result<()> {
        match self.bytes(length)?.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(Error::rule(rule, "reserved bytes are not zero")),
        }
    }

    /// The structure must end here.
    pub(crate) fn end(&self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            n => Err(Error::rule("CONV-3", format!("{n} bytes too many"))),
        }
    }
}

/// Appends to a structure.
pub(crate) trait Write {
    fn put_u8(&mut self, value: u8);
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put_varint(&mut self, value: u64);
    fn put_zigzag(&mut self, value: i64);
    fn put_bytes(&mut self, bytes: &[u8]);
    fn put_blob(&mut self, bytes: &[u8]);
    fn put_time(&mut self, time: Timestamp);
}

impl Write for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_zigzag(&mut self, value: i64) {
        self.put_varint((value << 1 ^ value >> 63).cast_unsigned());
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_blob(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }

    fn put_time(&mut self, time: Timestamp) {
        self.put_u64(time.seconds.cast_unsigned());
        self.put_u32(time.nanoseconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_and_zigzags_read_back(value: u64, signed: i64) {
            let mut bytes = Vec::new();
            bytes.put_varint(value);
            bytes.put_zigzag(signed);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint().unwrap(), value);
            prop_assert_eq!(reader.zigzag().unwrap(), signed);
            reader.end().unwrap();
        }
    }

    #[test]
    fn long_and_large_varints_are_refused() {
        for bytes in [&[0x80, 0][..], &[0xff; 9], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], &[0x80; 11]] {
            let error = Reader::new(bytes).varint().unwrap_err();
            assert!(matches!(error.broken_rule(), Some("CONV-1" | "CONV-2")), "{error}");
        }
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).varint().unwrap(), u64::MAX);
    }

    #[test]
    fn counts_that_cannot_fit_take_no_memory() {
        let mut bytes = Vec::new();
        bytes.put_varint(u64::MAX);
        assert_eq!(Reader::new(&bytes).count(32).unwrap_err().broken_rule(), Some("CONV-2"));
        assert_eq!(Reader::new(&bytes).blob().unwrap_err().broken_rule(), Some("CONV-2"));
    }
}
