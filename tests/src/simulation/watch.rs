//! The steps of the protocol as the store sees them: the write orders and rules of `docs/invariants.md`, looked at in every step.
//!
//! Of what is sealed it looks into epochs alone: what they condemn. What the content of other objects means is for the oracle.

use icecore::Result;
use icecore::backend::{ObjectKind, ObjectName};
use icecore::format::epoch::EpochBody;
use icecore::id::SessionId;
use icecore::testing::Keys;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Packs, with the epochs that condemn each.
pub type Condemned = HashMap<ObjectName, Vec<ObjectName>>;

/// The rules.
pub const RULES: [&str; 7] = [
    "I2, PacksFirst",
    "I5, WithdrawnFirst",
    "I6, Condemned",
    "I7, Gate",
    "I7, Relist",
    "I9, LookForTombstone, LookForSession",
    "RereadEpoch",
];

/// Adds what an epoch condemns.
///
/// # Errors
/// Where its bytes are none that these keys open.
pub fn add_condemned(condemned: &mut Condemned, keys: &Keys, epoch: &ObjectName, bytes: &[u8]) -> Result<()> {
    for (kind, pack) in EpochBody::decode(&keys.open(epoch, bytes)?)?.condemned {
        condemned.entry(ObjectName::pack(kind, pack)).or_default().push(*epoch);
    }
    Ok(())
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An object was begun.
    Began,
    /// An object was finished.
    Made,
    /// An object was written anew in the place of a damaged one.
    Healed,
    /// An object was read, or its size.
    Asked,
    /// A listing ended.
    Listed,
    /// An object was deleted.
    Deleted,
}

/// What one process did, by the number of the step.
#[derive(Debug, Default)]
struct Process {
    session: Option<(SessionId, u64)>,
    listed: HashMap<ObjectKind, u64>,
    packs_open: HashSet<ObjectName>,
    published: u64,
    asked_tombstone: u64,
    asked_session: u64,
    keys: Option<Keys>,
}

/// Watches all processes.
#[derive(Debug, Default)]
pub struct Watch {
    processes: HashMap<usize, Process>,
    /// When an object was first seen; later ones have higher numbers.
    there: BTreeMap<ObjectName, u64>,
    now: u64,
    /// Sessions that were given up.
    given_up: HashSet<SessionId>,
    condemned: Condemned,
    /// What was broken, and how.
    pub broken: Vec<String>,
    /// How often each rule was looked at.
    pub looked: BTreeMap<&'static str, u64>,
}

impl Watch {
    /// Objects that were there before.
    pub fn new<'a>(names: impl Iterator<Item = &'a ObjectName>, condemned: &Condemned) -> Self {
        // Sessions that are left over began before all epochs, as far as is known.
        let there = names.map(|name| (*name, u64::from(name.kind() == ObjectKind::Epoch))).collect();
        Self { there, now: 2, condemned: condemned.clone(), ..Self::default() }
    }

    fn require(&mut self, rule: &'static str, holds: bool, text: impl FnOnce() -> String) {
        *self.looked.entry(rule).or_default() += 1;
        if !holds {
            self.broken.push(format!("{rule}: {}", text()));
        }
    }

    /// Whether the last session of a process was given up.
    pub fn was_given_up(&self, process: usize) -> bool {
        let session = self.processes.get(&process).and_then(|process| process.session);
        session.is_some_and(|(id, _)| self.given_up.contains(&id))
    }

    /// A process holds these keys.
    pub fn learn(&mut self, process: usize, keys: Keys) {
        self.processes.entry(process).or_default().keys = Some(keys);
    }

    /// Whether an epoch condemns a pack.
    pub fn is_condemned(&self, pack: &ObjectName) -> bool {
        self.condemned.get(pack).is_some_and(|epochs| epochs.iter().any(|epoch| self.there.contains_key(epoch)))
    }

    /// The object went, and nobody deletes it just now: with the power, or by a deletion that came late.
    pub fn lost(&mut self, name: &ObjectName) {
        self.there.remove(name);
    }

    /// A power cut brought a deleted object back.
    pub fn back(&mut self, name: &ObjectName) {
        self.there.insert(*name, 0);
    }

    /// An object can be seen by others, whatever its writer does by now.
    pub fn shown(&mut self, process: usize, name: &ObjectName, bytes: &[u8]) {
        self.now += 1;
        self.there.insert(*name, self.now);
        match name.kind() {
            ObjectKind::Tombstone => drop(self.given_up.insert(SessionId(name.id()))),
            ObjectKind::Epoch => {
                let keys = self.processes.get(&process).and_then(|process| process.keys.as_ref());
                // One of this number may have gone with the power.
                self.condemned.values_mut().for_each(|epochs| epochs.retain(|epoch| epoch != name));
                if let Err(text) = keys.map_or(Ok(()), |keys| add_condemned(&mut self.condemned, keys, name, bytes)) {
                    self.broken.push(format!("{name} cannot be opened by who wrote it: {text}"));
                }
            }
            _ => {}
        }
    }

    /// Its writer shows an object to others.
    pub fn seen(&mut self, process: usize, name: &ObjectName, bytes: &[u8]) {
        self.shown(process, name, bytes);
        let now = self.now;
        let Process { session, packs_open, published, asked_tombstone, asked_session, .. } = self.processes.entry(process).or_default();
        match name.kind() {
            ObjectKind::Snapshot => {
                *published = now;
                let (left, pack) = (packs_open.len(), packs_open.iter().next().copied());
                self.require("I2, PacksFirst", left == 0, || format!("{name} is published while {pack:?} is being written"));
            }
            ObjectKind::Closed if session.is_some_and(|(id, _)| name.id() == id.0) && *published > 0 => {
                let has_looked = *asked_tombstone > *published && *asked_session > *published;
                self.require("I9, LookForTombstone, LookForSession", has_looked, || {
                    format!("{name} is closed without a look for its tombstone")
                });
            }
            _ => {}
        }
    }

    /// A listing begins.
    pub fn lists(&mut self, process: usize, kind: ObjectKind) {
        self.now += 1;
        let now = self.now;
        self.processes.entry(process).or_default().listed.insert(kind, now);
    }

    /// Something was done.
    pub fn step(&mut self, process: usize, step: Step, kind: ObjectKind, name: Option<&ObjectName>) {
        self.now += 1;
        let now = self.now;
        let entry = self.processes.entry(process).or_default();
        let Some(name) = name else { return };
        match (step, kind) {
            (Step::Began, kind) if kind.is_pack() => {
                entry.packs_open.insert(*name);
                let epoch = entry.listed.get(&ObjectKind::Epoch).copied();
                let read_again = entry.session.is_some_and(|(_, began)| epoch > Some(began));
                self.require("RereadEpoch", read_again, || format!("{name} is begun, and the newest epoch was not read again"));
            }
            (Step::Made | Step::Healed, kind) if kind.is_pack() => drop(entry.packs_open.remove(name)),
            (Step::Made, ObjectKind::Session) => {
                entry.session = Some((SessionId(name.id()), now));
                (entry.published, entry.packs_open) = (0, HashSet::new());
            }
            (Step::Asked, ObjectKind::Tombstone) => entry.asked_tombstone = now,
            (Step::Asked, ObjectKind::Session) => entry.asked_session = now,
            (Step::Deleted, kind) => {
                self.deleted(process, kind, name);
                self.there.remove(name);
            }
            _ => {}
        }
    }

    fn deleted(&mut self, process: usize, kind: ObjectKind, name: &ObjectName) {
        let own = self.processes.get(&process).and_then(|process| process.session).map(|(id, _)| id);
        if kind.is_pack() {
            let condemning = self.condemned.get(name).map_or(&[][..], Vec::as_slice);
            let epochs: Vec<u64> = condemning.iter().filter_map(|epoch| self.there.get(epoch).copied()).collect();
            self.require("I6, Condemned", !epochs.is_empty(), || format!("{name} is deleted, and no epoch condemns it"));
            let is_over =
                |id: SessionId| self.there.contains_key(&ObjectName::closed(id)) || self.there.contains_key(&ObjectName::tombstone(id));
            let sessions: Vec<_> = self.there.iter().filter(|(name, _)| name.kind() == ObjectKind::Session).collect();
            let open = sessions.iter().map(|(name, at)| (SessionId(name.id()), **at)).filter(|(id, _)| Some(*id) != own && !is_over(*id));
            let open: Vec<(SessionId, u64)> = open.collect();
            let is_passed = epochs.iter().any(|epoch| open.iter().all(|(_, began)| began > epoch));
            self.require("I7, Gate", is_passed, || format!("{name} is deleted while sessions {open:?} are open and epochs are {epochs:?}"));
            let listed =
                |kind: ObjectKind| self.processes.get(&process).and_then(|process| process.listed.get(&kind)).copied().unwrap_or(0);
            let (sessions, snapshots) = (listed(ObjectKind::Session), listed(ObjectKind::Snapshot));
            self.require("I7, Relist", snapshots > sessions, || format!("{name} is deleted, and snapshots were not listed after the gate"));
        }
        if kind == ObjectKind::Snapshot {
            let marker = self.there.keys().any(|marker| marker.kind() == ObjectKind::Withdrawn && marker.id() == name.id());
            self.require("I5, WithdrawnFirst", marker, || format!("{name} is deleted and was not withdrawn"));
        }
    }
}
