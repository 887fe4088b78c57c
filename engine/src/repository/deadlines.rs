//! Deadlines: where a store has object lock, what locked snapshots need cannot be deleted there before their locks end, by nobody.
//!
//! ```text
//! lock:        hold, durable ─▶ placement anew ─▶ deadlines of packs, relocations, snapshot, end, config, slots, placement ─▶ acknowledged
//! copies made: gc and tier moves give new copies the deadlines of those that they were made of, before those go
//! ```
//! It is a help against whoever may delete in the store, and nothing here depends on it: stores without object lock are passed over. What is deleted all
//! the same stays as an older version, which the store's own tools bring back.

use super::placement::Tiers;
use super::tiered::TieredBackend;
use super::{Repository, SnapshotListing};
use crate::backend::{Backend, BackendExt, ObjectInfo, ObjectKind, ObjectName, Retain};
use crate::error::{ErrorKind, Result};
use crate::gc::{Epochs, Mark};
use crate::id::{PackId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::runtime::{Timestamp, ask_all};
use std::collections::{BTreeMap, HashMap};

impl Repository {
    /// Until when the locks of snapshots keep packs and relocations, of those that they need and that are not condemned.
    pub(crate) fn locked_objects(&self, listing: &SnapshotListing, progress: &dyn Progress) -> Result<HashMap<ObjectName, Timestamp>> {
        let ends = listing.headers().filter_map(|(id, _)| Some((id, listing.locked_until(id)?)));
        self.needed_until(listing, by_end(ends), progress)
    }

    fn needed_until(
        &self,
        listing: &SnapshotListing,
        by_end: BTreeMap<Timestamp, Vec<SnapshotId>>,
        progress: &dyn Progress,
    ) -> Result<HashMap<ObjectName, Timestamp>> {
        let mut ends = HashMap::new();
        if by_end.is_empty() {
            return Ok(ends);
        }
        let (epochs, listed) = (Epochs::read(self)?, self.list_packs()?);
        let mut mark = Mark::new(self, &epochs, progress)?;
        mark.take_late(&epochs)?;
        // The latest ends first: what is marked by then is kept as long.
        for (until, ids) in by_end.into_iter().rev() {
            for header in ids.iter().filter_map(|id| listing.header(*id)) {
                // What a damaged snapshot lacks cannot be kept; the rest can.
                mark.mark(header)?;
            }
            let is_live = |name: &ObjectName| mark.live(&(name.kind(), PackId(name.id()))).frames > 0;
            let packs = listed.iter().map(|object| object.name).filter(is_live);
            // Of frames that were re-made nothing but relocations tells.
            for name in packs.chain(mark.relocations_needed()?) {
                ends.entry(name).or_insert(until);
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
        names.extend(self.needed_until(listing, BTreeMap::from([(until, ids)]), progress)?.into_keys());
        self.keep(store, names.into_iter().map(|name| (name, until)), progress)
    }

    /// All that these snapshots need but packs and relocations.
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

    /// The same of what came after that, their locks and the ends of their sessions: all but packs and relocations.
    pub(crate) fn keep_rest_of_each(&self, ends: &[(SnapshotId, Timestamp)], progress: &dyn Progress) -> Result<()> {
        if ends.is_empty() {
            return Ok(());
        }
        let Some(store) = self.deadlines()? else { return Ok(()) };
        let listing = self.list_snapshots()?;
        for (until, ids) in by_end(ends.iter().copied()) {
            let names = self.small_names(&listing, &ids)?;
            self.keep(store, names.into_iter().map(|name| (name, until)), progress)?;
        }
        Ok(())
    }

    /// Gives all packs and relocations the deadlines of the locked snapshots that need them. Before anything is swept: who copied out of it may have been
    /// stopped before it came to that.
    pub(crate) fn renew_deadlines(&self, progress: &dyn Progress) -> Result<u64> {
        // Most repositories have no locks, and then nobody is asked.
        if self.backend.list_sorted(ObjectKind::Hold)?.is_empty() {
            return Ok(0);
        }
        let Some(store) = self.deadlines_shown()? else { return Ok(0) };
        let locked = self.locked_objects(&self.list_snapshots()?, progress)?;
        self.keep(store, locked.into_iter(), progress)
    }

    /// The same of these packs, which move: after placement says where they are by now, and before their copies go from where they were. Whoever locks
    /// meanwhile writes his hold and then looks where packs are: one of both sees the other.
    pub(crate) fn renew_deadlines_of(&self, packs: &[ObjectInfo], locks: &mut Locks, progress: &dyn Progress) -> Result<u64> {
        let holds: Vec<_> = self.backend.list_sorted(ObjectKind::Hold)?.into_iter().map(|object| object.name).collect();
        if holds.is_empty() {
            return Ok(0);
        }
        let Some(store) = self.deadlines_shown()? else { return Ok(0) };
        if locks.holds != holds {
            *locks = Locks { ends: self.locked_objects(&self.list_snapshots()?, progress)?, holds };
        }
        self.keep(store, packs.iter().filter_map(|object| Some((object.name, *locks.ends.get(&object.name)?))), progress)
    }

    /// The way to deadlines; `None` where no store has object lock.
    fn deadlines(&self) -> Result<Option<&dyn Retain>> {
        let Some(store) = self.backend.retaining() else { return Ok(None) };
        // Moved packs are looked for where they are by now.
        self.tiers.reload()?;
        Ok(store.is_enabled()?.then_some(store))
    }

    /// As [`Repository::deadlines`], of a store that shows whether it has object lock: who may not ask may not set deadlines either; the old copies are kept, and
    /// what moves or collects goes on.
    fn deadlines_shown(&self) -> Result<Option<&dyn Retain>> {
        match self.deadlines() {
            Err(error) if error.kind() == ErrorKind::Unauthorized => Ok(None),
            store => store,
        }
    }

    fn keep(&self, store: &dyn Retain, names: impl Iterator<Item = (ObjectName, Timestamp)>, progress: &dyn Progress) -> Result<u64> {
        progress.event(Event::Phase { name: "deadlines", bytes_total: None, items_total: None });
        let keep_one = |(name, until): &(ObjectName, Timestamp)| {
            let is_kept = match store.retain(name, *until) {
                Ok(()) => true,
                // Swept or merged meanwhile, so nothing needs it.
                Err(error) if error.kind() == ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            };
            progress.event(Event::Advance { bytes: 0, items: 1 });
            Ok(is_kept)
        };
        let kept = ask_all(&self.runtime.executor, self.backend.at_once(), &names.collect::<Vec<_>>(), keep_one)?.all()?;
        Ok(kept.into_iter().filter(|is_kept| *is_kept).count() as u64)
    }
}

/// What locks keep and until when, and the holds by which that was so.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    holds: Vec<ObjectName>,
    ends: HashMap<ObjectName, Timestamp>,
}

/// Snapshots by the ends of their locks.
fn by_end(ends: impl Iterator<Item = (SnapshotId, Timestamp)>) -> BTreeMap<Timestamp, Vec<SnapshotId>> {
    let mut by_end: BTreeMap<Timestamp, Vec<SnapshotId>> = BTreeMap::new();
    ends.for_each(|(id, until)| by_end.entry(until).or_default().push(id));
    by_end
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
