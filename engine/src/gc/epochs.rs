//! Epochs: what is condemned, and condemning more.

use crate::backend::{BackendExt, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::epoch::EpochBody;
use crate::id::{PackId, SessionId};
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
}

impl Epochs {
    /// Reads all epochs. One that breaks a rule uses up its number and says nothing; check reports it.
    pub(crate) fn read(repository: &Repository) -> Result<Self> {
        let mut epochs = Self::default();
        for object in repository.backend.list_sorted(ObjectKind::Epoch)? {
            let number = object.name.number();
            let read = repository.read_sealed(&object.name).and_then(|object| Ok((EpochBody::decode(&object.plaintext)?, object.hash)));
            match read {
                Ok((body, hash)) => epochs.take(number, body.condemned, hash),
                Err(error) if error.broken_rule().is_some() => epochs.take(number, Vec::new(), [0; 32]),
                Err(error) => return Err(error),
            }
        }
        Ok(epochs)
    }

    fn take(&mut self, number: u32, condemned: Vec<Pack>, hash: [u8; 32]) {
        self.newest = number;
        self.newest_hash = hash;
        for pack in condemned {
            self.condemned.entry(pack).or_insert(number);
        }
    }

    /// Publishes the next epoch. False where another collector was first: what this one decided is then void.
    pub(crate) fn publish(&mut self, repository: &Repository, session: SessionId, mut condemned: Vec<Pack>) -> Result<bool> {
        condemned.sort_unstable();
        let full = || Error::new(ErrorKind::Unsupported, "there are no more epoch numbers");
        let number = self.newest.checked_add(1).ok_or_else(full)?;
        let body = EpochBody { predecessor: self.newest_hash, session, now: repository.runtime.clock.now(), condemned };
        let name = ObjectName::epoch(number);
        match repository.write_sealed(name, body.encode()) {
            Ok(()) => {}
            // It may be ours: the answer to a first attempt may have been lost below.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let found = repository.read_sealed(&name).and_then(|found| EpochBody::decode(&found.plaintext));
                match found {
                    Ok(found) if found == body => {}
                    Ok(_) => return Ok(false),
                    Err(error) if error.broken_rule().is_some() || error.kind() == ErrorKind::NotFound => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
        let hash = repository.read_sealed(&name)?.hash;
        self.take(number, body.condemned, hash);
        Ok(true)
    }
}
