//! What a check learns that mending needs to know, beside the findings.

use super::damage::Damage;
use crate::backend::{ObjectKind, ObjectName};
use crate::id::{FrameId, PackId, SessionId, SnapshotId};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap, HashSet};

type Pack = (ObjectKind, PackId);

/// Of which packs every byte is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Depth {
    Structure,
    Packs(HashSet<PackId>),
    Everything,
}

impl Depth {
    pub(super) fn reads(&self, name: &ObjectName) -> bool {
        match self {
            Self::Structure => false,
            Self::Packs(packs) => packs.contains(&PackId(name.id())),
            Self::Everything => true,
        }
    }
}

/// A pack with which something is wrong.
#[derive(Debug, Clone)]
pub(crate) struct BadPack {
    pub(crate) pack: Pack,
    /// The frames that are damaged; `None` where its end is, so that the pack cannot be used at all.
    pub(crate) frames: Option<HashSet<FrameId>>,
}

/// What a check learned.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Sorted. Packs that are gone may be among them.
    pub(crate) bad_packs: Vec<BadPack>,
    /// Index objects that tell of packs which are gone.
    pub(crate) stale_index_objects: BTreeSet<ObjectName>,
    /// Packs that are right and of which no index object tells, by the session of their first frame.
    pub(crate) unindexed: HashMap<SessionId, BTreeSet<Pack>>,
    /// Snapshots whose session is not closed.
    pub(crate) suspects: Vec<SnapshotId>,
}

/// Collects a [`Survey`], from several threads.
#[derive(Debug, Default)]
pub(super) struct SurveyInProgress(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    survey: Survey,
    sessions: HashMap<Pack, SessionId>,
    indexed: HashSet<Pack>,
}

impl SurveyInProgress {
    /// A pack is right but for its frames, the first of which is of this session.
    pub(super) fn see_pack(&self, pack: Pack, session: SessionId) {
        self.0.lock().sessions.insert(pack, session);
    }

    /// An index object says the truth of a pack.
    pub(super) fn see_indexed(&self, pack: Pack) {
        self.0.lock().indexed.insert(pack);
    }

    /// An index object tells of a pack that is gone.
    pub(super) fn see_stale(&self, index_object: ObjectName) {
        self.0.lock().survey.stale_index_objects.insert(index_object);
    }

    /// A snapshot's session is not closed.
    pub(super) fn see_suspect(&self, snapshot: SnapshotId) {
        self.0.lock().survey.suspects.push(snapshot);
    }

    pub(super) fn finish(&self, damage: &Damage) -> Survey {
        let Seen { mut survey, sessions, indexed } = std::mem::take(&mut *self.0.lock());
        for (pack, session) in sessions.into_iter().filter(|(pack, _)| !indexed.contains(pack)) {
            survey.unindexed.entry(session).or_default().insert(pack);
        }
        survey.bad_packs = damage.packs();
        survey
    }
}
