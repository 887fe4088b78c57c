//! Sidecars: what heals another object (`format-spec/parity.md`).

use super::cursor::{Reader, Write};
use crate::backend::{ObjectKind, ObjectName};
use crate::crypto::derive;
use crate::error::{Error, Result};
use crate::format::object::{HEADER_LENGTH, TRAILER_LENGTH};
use crate::id::SidecarId;
use crate::limits::{PARITY_BLOCK_MAX, PARITY_BLOCK_MIN, PARITY_DATA_BLOCKS_MAX, PARITY_RECOVERY_LENGTH_MAX, PARITY_RECOVERY_MAX};

/// Bytes of a sidecar's body before hashes and blocks, or before the copy.
pub const HEAD_LENGTH: usize = 72;
/// Data packs from this size on are not copied.
const CODED_SIZE_MIN: u64 = 1 << 20;
/// A block is this part of the object, as far as the limits of blocks allow.
const BLOCKS_WANTED: u64 = 128;

/// Names the sidecar of an object.
pub fn sidecar_of(object: &ObjectName) -> ObjectName {
    let mut id = [0; SidecarId::LENGTH];
    let material = [&[object.kind().number()][..], &object.number().to_le_bytes(), &object.id()];
    id.copy_from_slice(&derive("icecore 1 parity id", &material).bytes()[..SidecarId::LENGTH]);
    ObjectName::parity(SidecarId(id))
}

/// What a sidecar says at its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SidecarHead {
    /// What it heals.
    pub object: ObjectName,
    /// Bytes of that.
    pub size: u64,
    /// The hash at the end of that.
    pub hash: [u8; 32],
    /// How it heals.
    pub form: SidecarForm,
}

/// How a sidecar heals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SidecarForm {
    /// It holds a copy.
    Copy,
    /// It holds recovery blocks.
    Code {
        /// Bytes of a block, a power of two.
        block_size: u32,
        /// Recovery blocks of each codeword.
        recovery: u16,
    },
}

/// How an object falls into blocks, and these into codewords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the object.
    pub size: u64,
    /// Bytes of a block; the last one may be shorter.
    pub block_size: usize,
    /// Blocks of the object.
    pub blocks: usize,
    /// Codewords, to which blocks are dealt in turn.
    pub codewords: usize,
    /// Data blocks of a codeword; some codewords have one less, in whose place are zeros.
    pub data: usize,
    /// Recovery blocks of a codeword.
    pub recovery: usize,
}

impl Layout {
    fn new(size: u64, block_size: u32, recovery: usize) -> Self {
        let blocks = usize::try_from(size.div_ceil(u64::from(block_size))).unwrap_or(usize::MAX);
        let codewords = blocks.div_ceil(PARITY_DATA_BLOCKS_MAX);
        Self { size, block_size: block_size as usize, blocks, codewords, data: blocks.div_ceil(codewords.max(1)), recovery }
    }

    /// Where a block begins, and its bytes.
    pub fn block(&self, number: usize) -> (u64, usize) {
        let start = (number as u64 * self.block_size as u64).min(self.size);
        (start, (self.size - start).min(self.block_size as u64) as usize)
    }

    /// Where in the sidecar's body a recovery block begins.
    pub fn recovery_block(&self, codeword: usize, number: usize) -> u64 {
        (HEAD_LENGTH + 32 * self.blocks) as u64 + ((codeword * self.recovery + number) * self.block_size) as u64
    }

    /// Bytes of all recovery blocks.
    fn recovery_length(&self) -> u64 {
        (self.codewords * self.recovery) as u64 * self.block_size as u64
    }
}

impl SidecarHead {
    /// For an object that is to be healed where up to `percent` of it are lost, if it is large, or else wholly.
    pub fn plan(object: ObjectName, size: u64, hash: [u8; 32], percent: u8) -> Self {
        if object.kind() != ObjectKind::DataPack || size < CODED_SIZE_MIN {
            return Self { object, size, hash, form: SidecarForm::Copy };
        }
        let wanted = u32::try_from(size / BLOCKS_WANTED).unwrap_or(PARITY_BLOCK_MAX);
        // The largest power of two that is not larger, within what is usual.
        let block_size = (1 << wanted.max(1).ilog2()).clamp(PARITY_BLOCK_MIN, PARITY_BLOCK_MAX / 16);
        let data = Layout::new(size, block_size, 0).data;
        let recovery = ((data * usize::from(percent) + 50) / 100).clamp(2, PARITY_RECOVERY_MAX);
        Self { object, size, hash, form: SidecarForm::Code { block_size, recovery: recovery as u16 } }
    }

    /// How the object falls into blocks; `None` for a copy.
    pub fn layout(&self) -> Option<Layout> {
        match self.form {
            SidecarForm::Copy => None,
            SidecarForm::Code { block_size, recovery } => Some(Layout::new(self.size, block_size, usize::from(recovery))),
        }
    }

    /// Bytes of the whole body.
    pub fn body_length(&self) -> u64 {
        match self.layout() {
            None => HEAD_LENGTH as u64 + self.size,
            Some(layout) => (HEAD_LENGTH + 32 * layout.blocks) as u64 + layout.recovery_length(),
        }
    }

    /// The first bytes of the body.
    pub fn encode(&self) -> [u8; HEAD_LENGTH] {
        let (form, block_size, recovery) = match self.form {
            SidecarForm::Copy => (1, 0, 0),
            SidecarForm::Code { block_size, recovery } => (2, block_size, recovery),
        };
        let mut bytes = Vec::with_capacity(HEAD_LENGTH);
        bytes.put_u8(self.object.kind().number());
        bytes.put_u8(form);
        bytes.put_u16(recovery);
        bytes.put_u32(self.object.number());
        bytes.put_bytes(&self.object.id());
        bytes.put_u64(self.size);
        bytes.put_bytes(&self.hash);
        bytes.put_u32(block_size);
        bytes.put_u32(0);
        let mut head = [0; HEAD_LENGTH];
        head.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        head
    }

    /// Reads the beginning of the body of sidecar `name`, which has `body_length` bytes (PARITY-1 to PARITY-5).
    ///
    /// # Errors
    /// The rule that is broken; [`crate::ErrorKind::Unsupported`] for a form that is not known.
    pub fn decode(name: &ObjectName, bytes: &[u8], body_length: u64) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let (kind, form, recovery, number) = (reader.u8()?, reader.u8()?, reader.u16()?, reader.u32()?);
        let id = reader.array::<16>()?;
        let (size, hash, block_size) = (reader.u64()?, reader.array::<32>()?, reader.u32()?);
        let object = ObjectKind::from_number(kind).filter(|kind| *kind != ObjectKind::Parity);
        let object = object.and_then(|kind| ObjectName::from_parts(kind, id, number));
        let object = object.filter(|object| sidecar_of(object) == *name);
        let object = object.ok_or_else(|| Error::rule("PARITY-1", "it heals no object that there can be, or has another's name"))?;
        if !(1..=2).contains(&form) {
            return Err(Error::unsupported("PARITY-2", format!("form {form} of a sidecar is not known here; a newer icecore reads it")));
        }
        let is_size = ((HEADER_LENGTH + TRAILER_LENGTH) as u64..=object.kind().size_max()).contains(&size);
        if reader.u32()? != 0 || !is_size {
            return Err(Error::rule("PARITY-3", format!("a reserved field is not zero, or no object of its kind has {size} bytes")));
        }
        let head = match form {
            1 if block_size == 0 && recovery == 0 => Self { object, size, hash, form: SidecarForm::Copy },
            2 if block_size.is_power_of_two()
                && (PARITY_BLOCK_MIN..=PARITY_BLOCK_MAX).contains(&block_size)
                && (1..=PARITY_RECOVERY_MAX).contains(&usize::from(recovery)) =>
            {
                Self { object, size, hash, form: SidecarForm::Code { block_size, recovery } }
            }
            _ => return Err(Error::rule("PARITY-4", format!("blocks of {block_size} bytes, {recovery} of them for recovery"))),
        };
        let recovery_length = head.layout().map_or(0, |layout| layout.recovery_length());
        if body_length != head.body_length() || recovery_length > PARITY_RECOVERY_LENGTH_MAX as u64 {
            return Err(Error::rule("PARITY-5", format!("a body of {body_length} bytes, where {} belong", head.body_length())));
        }
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PackId;

    fn pack(size: u64) -> SidecarHead {
        SidecarHead::plan(ObjectName::pack(ObjectKind::DataPack, PackId([7; 16])), size, [9; 32], 3)
    }

    #[test]
    fn what_is_written_is_read() {
        for object in [ObjectName::config(3), ObjectName::beat(crate::id::SessionId([1; 16]), 4), pack(1 << 26).object] {
            for size in [312, 5000, 1 << 20] {
                let head = SidecarHead::plan(object, size, [1; 32], 5);
                assert_eq!(SidecarHead::decode(&sidecar_of(&object), &head.encode(), head.body_length()).unwrap(), head);
            }
        }
    }

    #[test]
    fn a_mebibyte_lost_anywhere_in_a_pack_of_64_is_within_the_recovery_blocks_at_three_percent() {
        for size in [64 << 20, (64 << 20) + 300_000, 72 << 20, 128 << 20, ObjectKind::DataPack.size_max()] {
            let layout = pack(size).layout().unwrap();
            let blocks_hit = (1_usize << 20).div_ceil(layout.block_size) + 1;
            assert!(blocks_hit.div_ceil(layout.codewords) <= layout.recovery, "{layout:?}");
            assert!(layout.data + layout.recovery <= crate::parity::CODEWORD_BLOCKS_MAX);
            assert!(pack(size).body_length() * 100 < size * 4, "{layout:?}");
        }
    }

    #[test]
    fn small_packs_have_small_blocks() {
        for size in (20..28).map(|power| 1_u64 << power) {
            for percent in 1..=15 {
                let head = SidecarHead::plan(pack(size).object, size, [0; 32], percent);
                let layout = head.layout().unwrap();
                assert!(layout.data + layout.recovery <= 255 && head.body_length() * 100 < size * (u64::from(percent) + 3), "{layout:?}");
            }
        }
        assert!(pack((1 << 20) - 1).layout().is_none());
    }
}
