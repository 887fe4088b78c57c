//! The footer and group hashes of packs (`format-spec/pack.md`).

use super::cursor::{Reader, Write};
use super::object::{HEADER_LENGTH, TRAILER_LENGTH};
use crate::error::{Error, Result};
use crate::limits::{FRAMES_LENGTH_MAX, GROUP_SIZE, TABLES_LENGTH_MAX};

/// Bytes of the footer.
pub const FOOTER_LENGTH: usize = 16;

/// How long the parts of a pack are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Bytes of the frames region.
    pub frames_length: u32,
    /// Bytes of the sealed tables.
    pub tables_length: u32,
}

impl Footer {
    /// Groups of the frames region.
    pub fn group_count(&self) -> usize {
        (self.frames_length as usize).div_ceil(GROUP_SIZE)
    }

    /// Bytes from the end of the frames region to the end of the object.
    pub fn tail_length(&self) -> usize {
        self.tables_length as usize + 32 * self.group_count() + FOOTER_LENGTH + TRAILER_LENGTH
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FOOTER_LENGTH);
        bytes.put_u32(self.frames_length);
        bytes.put_u32(self.tables_length);
        bytes.put_u32(self.group_count() as u32);
        bytes.put_u32(0);
        bytes
    }

    /// Reads the footer of a pack of `size` bytes (PACK-1 to PACK-3).
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn decode(bytes: &[u8; FOOTER_LENGTH], size: u64) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let footer = Self { frames_length: reader.u32()?, tables_length: reader.u32()? };
        let (group_count, reserved) = (reader.u32()?, reader.u32()?);
        let frames_fit = (1..=FRAMES_LENGTH_MAX).contains(&(footer.frames_length as usize));
        if reserved != 0 || !frames_fit || footer.tables_length as usize > TABLES_LENGTH_MAX {
            return Err(Error::rule("PACK-1", "its end is no footer of a pack: it was cut off or changed"));
        }
        if group_count as usize != footer.group_count() {
            return Err(Error::rule("PACK-2", format!("{group_count} groups for {} bytes", footer.frames_length)));
        }
        if (HEADER_LENGTH + footer.tail_length()) as u64 + u64::from(footer.frames_length) != size {
            return Err(Error::rule("PACK-3", format!("the parts do not add up to {size} bytes")));
        }
        Ok(footer)
    }
}

/// Hashes the frames region group by group as it goes by.
#[derive(Debug, Default)]
pub(crate) struct GroupHasher {
    hasher: blake3::Hasher,
    in_group: usize,
    hashes: Vec<u8>,
}

impl GroupHasher {
    /// Takes the next bytes.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(GROUP_SIZE - self.in_group));
            self.hasher.update(now);
            self.in_group += now.len();
            bytes = later;
            if self.in_group == GROUP_SIZE {
                self.end_group();
            }
        }
    }

    fn end_group(&mut self) {
        self.hashes.extend_from_slice(self.hasher.finalize().as_bytes());
        self.hasher.reset();
        self.in_group = 0;
    }

    /// All hashes, one after the other.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.in_group > 0 {
            self.end_group();
        }
        self.hashes
    }
}
