//! Reading through damage: what a pack does not give comes out of its sidecar, in memory. Nothing is written; scrub does that.
//!
//! Only readers of snapshots do it. Whoever looks for damage, or decides what is deleted, has to see it.
//!
//! Nothing is believed for having come out of a sidecar: tables and frames are checked as those of a whole pack are.

use super::heal::Remedy;
use crate::backend::{Backend, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Trust;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of computed blocks that are kept. One pack needs at most half of it.
const HELD_MAX: usize = 64 << 20;

/// What readers know of damaged packs.
#[derive(Debug, Default)]
pub(crate) struct ReadThrough {
    /// `None` for one that nothing helps.
    packs: Mutex<BTreeMap<ObjectName, Option<Arc<Remedy>>>>,
    /// Packs of which something was read through, with what is wrong with them.
    told: Mutex<BTreeMap<ObjectName, String>>,
    /// Packs whose tables nothing gives, with what is wrong with them.
    passed_over: Mutex<BTreeMap<ObjectName, String>>,
}

impl ReadThrough {
    /// Reads from the pack as it was, after `error` came out of the pack as it is; gives `error` back where that cannot be done.
    pub(crate) fn read<T>(
        &self,
        backend: &dyn Backend,
        trust: &Trust,
        name: &ObjectName,
        error: Error,
        read: impl FnOnce(&dyn Backend, u64) -> Result<T>,
    ) -> Result<T> {
        if !matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unavailable) {
            return Err(error);
        }
        let Some(remedy) = self.remedy(backend, trust, name) else { return Err(error) };
        match read(&remedy.object(backend), remedy.size()) {
            Ok(value) => {
                self.told.lock().entry(*name).or_insert_with(|| error.to_string());
                Ok(value)
            }
            Err(_) => Err(error),
        }
    }

    /// Packs that were read through, each with what is wrong with it.
    pub(crate) fn told(&self) -> Vec<(ObjectName, String)> {
        self.told.lock().iter().map(|(name, error)| (*name, error.clone())).collect()
    }

    /// Notes that a pack, or relocations, cannot be read at all.
    pub(super) fn pass_over(&self, name: &ObjectName, error: &Error) {
        self.passed_over.lock().insert(*name, error.to_string());
    }

    /// What was passed over, each with what is wrong with it.
    pub(crate) fn passed_over(&self) -> Vec<(ObjectName, String)> {
        self.passed_over.lock().iter().map(|(name, error)| (*name, error.clone())).collect()
    }

    /// What two threads look for at once is computed twice: no lock is held while the store is read.
    fn remedy(&self, backend: &dyn Backend, trust: &Trust, name: &ObjectName) -> Option<Arc<Remedy>> {
        if let Some(known) = self.packs.lock().get(name) {
            return known.clone();
        }
        let remedy = Remedy::find(backend, trust, name).ok().map(Arc::new);
        let mut packs = self.packs.lock();
        let held: usize = packs.values().flatten().map(|remedy| remedy.held()).sum();
        if held + remedy.as_ref().map_or(0, |remedy| remedy.held()) > HELD_MAX {
            packs.retain(|_, remedy| remedy.is_none());
        }
        packs.insert(*name, remedy.clone());
        remedy
    }
}
