//! Deadlines: where a store has object lock, what locked snapshots need cannot be deleted there before their locks end, by nobody.
//!
//! ```text
//! lock:        hold, durable ─▶ placement anew ─▶ deadlines of packs, snapshot, end, config, slots, placement ─▶ acknowledged
//! copies made: gc and tier moves give new copies the deadlines of those that they were made of
//! ```
//! It is a help against whoever may delete in the store, and nothing here depends on it: stores without object lock are passed over. What is deleted all
//! the same stays as an older version, which the store's own tools bring back.

use super::placement::Tiers;
use super::tiered::TieredBackend;
use super::{Repository, SnapshotListing};
use crate::backend::{Backend, BackendExt, ObjectKind, ObjectName, Retain};
use crate::error::{ErrorKind, Result};
use crate::gc::{Epochs, Mark, Pack};
use crate::id::{PackId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::runtime::Timestamp;
use std::collections::{BTreeMap, HashMap};

impl Repository {
    /// Until when the locks of snapshots keep packs, of those that they need and that are not condemned.
    pub(crate) fn locked_packs(&self, listing: &SnapshotListing, progress: &dyn Progress) -> Result<HashMap<Pack, Timestamp>> {
        let ends = listing.headers().filter_map(|(id, _)| Some((id, listing.locked_until(id)?)));
        self.packs_until(listing, by_end(ends), progress)
    }

    fn packs_until(
        &self,
        listing: &SnapshotListing,
        by_end: BTreeMap<Timestamp, Vec<SnapshotId>>,
        progress: &dyn Progress,
    ) -> Result<HashMap<Pack, Timestamp>> {
        let mut ends = HashMap::new();
        if by_end.is_empty() {
            return Ok(ends);
        }
        let (epochs, listed) = (Epochs::read(self)?, self.list_packs()?);
        let mut mark = Mark::new(self, &epochs, progress)?;
        mark.take_late()?;
        // The latest ends first: what is marked by then is kept as long.
        for (until, ids) in by_end.into_iter().rev() {
            for header in ids.iter().filter_map(|id| listing.header(*id)) {
                // What a damaged snapshot lacks cannot be kept; the rest can.
                mark.mark(header)?;
            }
            for object in &listed {
                let pack = (object.name.kind(), PackId(object.name.id()));
                if mark.live(&pack).frames > 0 {
                    ends.entry(pack).or_insert(until);
                }
            }
        }
        Ok(ends)
    }

    /// Keeps all that these snapshots need until then, in the stores that have object lock. Gives how many objects that were; 0 where no store has it.
    pub(crate) fn keep_in_stores(
        &self,
        listing: &SnapshotListing,
        ids: impl Iterator<Item = SnapshotId>,
        until: Timestamp,
        progress: &dyn Progress,
    ) -> Result<u64> {
        let Some(store) = self.deadlines()? else { return Ok(0) };
        let ids: Vec<_> = ids.collect();
        let mut names = self.small_names(listing, &ids)?;
        let packs = self.packs_until(listing, BTreeMap::from([(until, ids)]), progress)?;
        names.extend(packs.into_keys().map(|(kind, pack)| ObjectName::pack(kind, pack)));
        keep(store, names.into_iter().map(|name| (name, until)), progress)
    }

    /// All that these snapshots need but packs.
    fn small_names(&self, listing: &SnapshotListing, ids: &[SnapshotId]) -> Result<Vec<ObjectName>> {
        let ended = ids.iter().filter_map(|id| Some(ObjectName::closed(listing.header(*id)?.record.id())));
        let mut names: Vec<_> = ids.iter().map(|id| ObjectName::snapshot(*id)).chain(ended).collect();
        for kind in [ObjectKind::Config, ObjectKind::Slot, ObjectKind::Hold, ObjectKind::Placement] {
            names.extend(self.backend.list_sorted(kind)?.into_iter().map(|object| object.name));
        }
        Ok(names)
    }

    /// As [`Repository::keep_in_stores`], for snapshots that come with their locks: each until then.
    pub(crate) fn keep_each(&self, ends: &[(SnapshotId, Timestamp)], progress: &dyn Progress) -> Result<()> {
        if ends.is_empty() || self.deadlines()?.is_none() {
            return Ok(());
        }
        let listing = self.list_snapshots()?;
        for (until, ids) in by_end(ends.iter().copied()) {
            self.keep_in_stores(&listing, ids.into_iter(), until, progress)?;
        }
        Ok(())
    }

    /// The same of what came after that, their locks and the ends of their sessions: all but packs.
    pub(crate) fn keep_rest_of_each(&self, ends: &[(SnapshotId, Timestamp)], progress: &dyn Progress) -> Result<()> {
        if ends.is_empty() {
            return Ok(());
        }
        let Some(store) = self.deadlines()? else { return Ok(()) };
        let listing = self.list_snapshots()?;
        for (until, ids) in by_end(ends.iter().copied()) {
            let names = self.small_names(&listing, &ids)?;
            keep(store, names.into_iter().map(|name| (name, until)), progress)?;
        }
        Ok(())
    }

    /// Gives packs that were copied or moved the deadlines of the locked snapshots that need them.
    pub(crate) fn renew_deadlines(&self, is_new: impl Fn(&ObjectName) -> bool, progress: &dyn Progress) -> Result<u64> {
        // Most repositories have no locks, and then nobody is asked.
        if self.backend.list_sorted(ObjectKind::Hold)?.is_empty() {
            return Ok(0);
        }
        let store = match self.deadlines() {
            // Who may not ask may not set deadlines either; the old copies are kept, and a collection goes on.
            Err(error) if error.kind() == ErrorKind::Unauthorized => return Ok(0),
            store => store?,
        };
        let Some(store) = store else { return Ok(0) };
        let packs = self.locked_packs(&self.list_snapshots()?, progress)?;
        let names = packs.into_iter().map(|((kind, pack), until)| (ObjectName::pack(kind, pack), until));
        keep(store, names.filter(|(name, _)| is_new(name)), progress)
    }

    /// The way to deadlines; `None` where no store has object lock.
    fn deadlines(&self) -> Result<Option<&dyn Retain>> {
        let Some(store) = self.backend.retaining() else { return Ok(None) };
        // Moved packs are looked for where they are by now.
        self.tiers.reload()?;
        Ok(store.is_enabled()?.then_some(store))
    }
}

/// Snapshots by the ends of their locks.
fn by_end(ends: impl Iterator<Item = (SnapshotId, Timestamp)>) -> BTreeMap<Timestamp, Vec<SnapshotId>> {
    let mut by_end: BTreeMap<Timestamp, Vec<SnapshotId>> = BTreeMap::new();
    ends.for_each(|(id, until)| by_end.entry(until).or_default().push(id));
    by_end
}

fn keep(store: &dyn Retain, names: impl Iterator<Item = (ObjectName, Timestamp)>, progress: &dyn Progress) -> Result<u64> {
    progress.event(Event::Phase { name: "deadlines", bytes_total: None, items_total: None });
    let mut kept = 0;
    for (name, until) in names {
        match store.retain(&name, until) {
            Ok(()) => kept += 1,
            // Swept or merged meanwhile, so nothing needs it.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        progress.event(Event::Advance { bytes: 0, items: 1 });
    }
    Ok(kept)
}

impl Tiers {
    /// Whether a place has object lock.
    pub(crate) fn has_object_lock(place: &dyn Backend) -> Result<bool> {
        place.retaining().map_or(Ok(false), Retain::is_enabled)
    }

    /// The same where nothing is promised by it: to whom may not ask it has none.
    pub(crate) fn shows_object_lock(place: &dyn Backend) -> Result<bool> {
        match Self::has_object_lock(place) {
            Err(error) if error.kind() == ErrorKind::Unauthorized => Ok(false),
            known => known,
        }
    }
}

impl Retain for TieredBackend {
    /// Whether any of the places has it that can be reached.
    fn is_enabled(&self) -> Result<bool> {
        if Tiers::has_object_lock(&*self.tiers.warm)? {
            return Ok(true);
        }
        for tier in self.tiers.view()?.tiers.values() {
            match self.tiers.place(tier).and_then(|place| Tiers::has_object_lock(&*place)) {
                Ok(true) => return Ok(true),
                Err(error) if error.kind() != ErrorKind::Frozen => return Err(error),
                _ => {}
            }
        }
        Ok(false)
    }

    /// In every place where it is: while it moves, it is in two of them.
    fn retain(&self, name: &ObjectName, until: Timestamp) -> Result<()> {
        let view = self.tiers.view()?;
        let (mut places, mut is_there) = (vec![Ok(std::sync::Arc::clone(&self.tiers.warm))], false);
        if name.kind() == ObjectKind::DataPack {
            let tiers = view.places(PackId(name.id())).iter().filter_map(|(tier, _)| view.tiers.get(tier));
            places.extend(tiers.map(|tier| self.tiers.place(tier)));
        }
        for place in places {
            let kept = place.and_then(|place| match Tiers::has_object_lock(&*place)? {
                true => place.retaining().map_or(Ok(()), |store| store.retain(name, until)),
                false => place.size(name).map(drop),
            });
            match kept {
                Ok(()) => is_there = true,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // A medium that is in a drawer: nobody deletes there by way of a store.
                Err(error) if error.kind() == ErrorKind::Frozen => is_there = true,
                Err(error) => return Err(error),
            }
        }
        match is_there {
            true => Ok(()),
            false => Err(super::tiered::missing(name)),
        }
    }
}
