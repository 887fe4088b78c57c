//! Epochs: rounds of garbage collection (`format-spec/epoch.md`).

use super::cursor::{Reader, Write};
use crate::backend::ObjectKind;
use crate::error::{Error, Result};
use crate::id::{PackId, SessionId, SnapshotId};
use crate::limits::{EPOCH_PACKS_MAX, EPOCH_SNAPSHOTS_MAX};
use crate::runtime::Timestamp;

/// What `epochs/` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochBody {
    /// Trailer hash of the epoch before; zeros in epoch 1.
    pub predecessor: [u8; 32],
    /// The collector.
    pub session: SessionId,
    /// Its clock, for people.
    pub now: Timestamp,
    /// Condemned packs, ascending. Condemned is for ever.
    pub condemned: Vec<(ObjectKind, PackId)>,
    /// Snapshots that had been withdrawn before, ascending. Only what an epoch has named may be removed.
    pub withdrawn: Vec<SnapshotId>,
}

impl EpochBody {
    /// The plaintext of the sealed part.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_bytes(&self.predecessor);
        bytes.put_bytes(&self.session.0);
        bytes.put_time(self.now);
        bytes.put_varint(self.condemned.len() as u64);
        for (kind, pack) in &self.condemned {
            bytes.put_u8(kind.number());
            bytes.put_bytes(&pack.0);
        }
        bytes.put_varint(self.withdrawn.len() as u64);
        for snapshot in &self.withdrawn {
            bytes.put_bytes(&snapshot.0);
        }
        bytes
    }

    /// Reads it.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let predecessor = reader.array()?;
        let session = SessionId(reader.array()?);
        let now = reader.time()?;
        let count = reader.count_at_most(EPOCH_PACKS_MAX, 17, "EPOCH-1")?;
        let mut condemned = Vec::new();
        for _ in 0..count {
            let kind = ObjectKind::from_number(reader.u8()?).filter(|kind| kind.is_pack());
            condemned
                .push((kind.ok_or_else(|| Error::rule("EPOCH-1", "something else than a pack is condemned"))?, PackId(reader.array()?)));
        }
        if !condemned.is_sorted_by(|a, b| a < b) {
            return Err(Error::rule("EPOCH-1", "packs are not ascending"));
        }
        let count = reader.count_at_most(EPOCH_SNAPSHOTS_MAX, 16, "EPOCH-1")?;
        let mut withdrawn = Vec::new();
        for _ in 0..count {
            withdrawn.push(SnapshotId(reader.array()?));
        }
        if !withdrawn.is_sorted_by(|a, b| a < b) {
            return Err(Error::rule("EPOCH-1", "snapshots are not ascending"));
        }
        reader.end()?;
        Ok(Self { predecessor, session, now, condemned, withdrawn })
    }

    /// Whether epoch `number` names the right predecessor, where the trailer hash of the epoch before is known (EPOCH-2).
    ///
    /// # Errors
    /// EPOCH-2.
    pub fn check_predecessor(&self, number: u32, before: Option<&[u8; 32]>) -> Result<()> {
        let expected = if number == 1 { Some(&[0; 32]) } else { before };
        match expected.is_none_or(|expected| *expected == self.predecessor) {
            true => Ok(()),
            false => Err(Error::rule("EPOCH-2", format!("epoch {number} names another predecessor"))),
        }
    }
}
