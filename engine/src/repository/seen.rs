//! What was read of packs and may be asked for again: their sizes, and the records of the sessions whose frames they hold. Each saves questions to a store
//! that may be far away; neither ever changes.

use crate::backend::{ObjectInfo, ObjectName};
use crate::format::session::SessionRecord;
use crate::id::SessionId;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Sizes that are remembered: some 3 MB.
const SIZES_MAX: usize = 1 << 16;
/// Records that are remembered: some 2 MB.
const RECORDS_MAX: usize = 1 << 10;

/// Shared by all readers of one open repository. What is full begins anew.
#[derive(Debug, Default)]
pub(super) struct Seen {
    sizes: Mutex<HashMap<ObjectName, u64>>,
    /// By pack, too: what one pack says of a session is believed of its own frames alone, whoever wrote another.
    records: Mutex<HashMap<(ObjectName, SessionId), SessionRecord>>,
}

impl Seen {
    /// Notes what was listed, as far as there is room.
    pub(super) fn note_sizes(&self, listed: &[ObjectInfo]) {
        let mut sizes = self.sizes.lock();
        sizes.clear();
        sizes.extend(listed.iter().take(SIZES_MAX).map(|object| (object.name, object.size)));
    }

    /// The size that an object was listed with.
    pub(super) fn size(&self, name: &ObjectName) -> Option<u64> {
        self.sizes.lock().get(name).copied()
    }

    /// Notes records that a pack holds.
    pub(super) fn note_records(&self, pack: &ObjectName, read: &[SessionRecord]) {
        let mut records = self.records.lock();
        if records.len() + read.len() > RECORDS_MAX {
            records.clear();
        }
        records.extend(read.iter().take(RECORDS_MAX).map(|record| ((*pack, record.id()), record.clone())));
    }

    /// The record of a session, where this pack told it.
    pub(super) fn record(&self, pack: &ObjectName, session: SessionId) -> Option<SessionRecord> {
        self.records.lock().get(&(*pack, session)).cloned()
    }
}
