//! Epochs: what is condemned, and condemning more.

use crate::backend::{ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::epoch::EpochBody;
use crate::id::{PackId, SessionId, SnapshotId};
use crate::limits::EPOCH_SNAPSHOTS_MAX;
use crate::repository::Repository;
use std::collections::HashMap;

/// A pack by kind and name.
pub(crate) type Pack = (ObjectKind, PackId);

/// Everything that epochs say.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    /// The number of the newest epoch, 0 for none.
    pub(crate) newest: u32,
    /// What the next one names as its predecessor.
    newest_hash: [u8; 32],
    /// Every condemned pack, with the first epoch that condemns it. Condemned is for ever.
    pub(crate) condemned: HashMap<Pack, u32>,
    /// Every withdrawn snapshot that an epoch names, with the first one that does.
    withdrawn: HashMap<SnapshotId, u32>,
}

impl Epochs {
    /// Reads all epochs.
    pub(crate) fn read(repository: &Repository) -> Result<Self> {
        let mut epochs = Self::default();
        repository.for_each_epoch(|(number, hash), epoch| epochs.take(number, epoch, hash))?;
        Ok(epochs)
    }

    fn take(&mut self, number: u32, body: EpochBody, hash: [u8; 32]) {
        self.newest = number;
        self.newest_hash = hash;
        for pack in body.condemned {
            self.condemned.entry(pack).or_insert(number);
        }
        for snapshot in body.withdrawn {
            self.withdrawn.entry(snapshot).or_insert(number);
        }
    }

    /// Whether epoch `epoch` or an earlier one says that the snapshot had been withdrawn.
    pub(crate) fn name_withdrawn(&self, snapshot: &SnapshotId, epoch: u32) -> bool {
        self.withdrawn.get(snapshot).is_some_and(|first| *first <= epoch)
    }

    /// Publishes the next epoch, which names those of the `withdrawn` snapshots that no epoch has named (as many as it may; the next one names more).
    /// False where another collector was first: what this one decided is then void. A number under which somebody put what is no epoch is passed over:
    /// who else does that finds what was published after it.
    pub(crate) fn publish(
        &mut self,
        repository: &Repository,
        session: SessionId,
        mut condemned: Vec<Pack>,
        withdrawn: impl Iterator<Item = SnapshotId>,
    ) -> Result<bool> {
        condemned.sort_unstable();
        let mut withdrawn: Vec<_> = withdrawn.filter(|snapshot| !self.withdrawn.contains_key(snapshot)).collect();
        withdrawn.sort_unstable();
        withdrawn.truncate(EPOCH_SNAPSHOTS_MAX);
        // `OthersDurable`: whoever finds the epoch removes these snapshots, and it names the one before it.
        let before = (self.newest > 0).then(|| ObjectName::epoch(self.newest));
        let relied_on: Vec<_> = withdrawn.iter().map(|id| ObjectName::withdrawn(*id)).chain(before).collect();
        repository.backend.make_durable(&relied_on)?;
        let full = || Error::new(ErrorKind::Unsupported, "there are no more epoch numbers");
        let mut number = self.newest.checked_add(1).ok_or_else(full)?;
        let body = EpochBody { predecessor: self.newest_hash, session, now: repository.runtime.clock.now(), condemned, withdrawn };
        loop {
            let name = ObjectName::epoch(number);
            match repository.write_sealed(name, body.encode()) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            match repository.read_sealed(&name).and_then(|found| EpochBody::decode(&found.plaintext)) {
                // Ours: the answer to a first attempt was lost below.
                Ok(found) if found == body => break,
                Ok(_) => return Ok(false),
                Err(error) => match error.kind() {
                    ErrorKind::Damaged => number = number.checked_add(1).ok_or_else(full)?,
                    ErrorKind::NotFound => return Ok(false),
                    _ => return Err(error),
                },
            }
        }
        let hash = repository.read_sealed(&ObjectName::epoch(number))?.hash;
        self.take(number, body, hash);
        Ok(true)
    }
}
