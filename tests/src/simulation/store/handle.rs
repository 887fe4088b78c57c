//! The store as one process reaches it: each call waits for its turn and meets its fate.

use super::{Fault, Mutant, State, Store, Verdict, first_of, missing, unavailable};
use crate::simulation::actors::Deed;
use crate::simulation::watch::Step;
use icecore::backend::testing::Operation;
use icecore::backend::{Backend, ObjectInfo, ObjectKind, ObjectName, ObjectWriter};
use icecore::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A listing in so many shows a name twice.
const TWICE_ONE_IN: u64 = 50;
/// So many turns at most a sync takes that takes long: others do much meanwhile.
const SYNC_TURNS_MAX: u64 = 800;

/// The store as one process reaches it.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) store: Arc<Store>,
    pub(super) process: usize,
}

impl Handle {
    /// Waits for its turn, and asks what becomes of a call.
    fn enter(&self, operation: Operation, kind: ObjectKind, name: Option<&ObjectName>) -> Result<Verdict> {
        self.store.scheduler.pass();
        let slow = {
            let state = &mut *self.store.state();
            let slow = state.processes[self.process].fate.slow_one_in;
            let is_slow = slow > 0 && state.random.one_in(slow);
            if is_slow {
                state.count(Fault::Slow);
            }
            is_slow
        };
        if slow {
            self.store.scheduler.leap(600);
            self.store.scheduler.pass();
        }
        let now_ns = self.store.scheduler.now_ns();
        let state = &mut *self.store.state();
        state.land(state.calls_all, now_ns);
        state.enter(self.process, operation, kind, name)
    }

    /// Others see what was done, and the power may go before it is durable.
    fn sync(&self) {
        self.store.scheduler.pass();
        let turns = {
            let state = &mut *self.store.state();
            match state.syncs_late_one_in {
                0 => 0,
                one_in if !state.random.one_in(one_in) => 0,
                _ => {
                    state.count(Fault::SyncedLate);
                    state.random.below(SYNC_TURNS_MAX)
                }
            }
        };
        for _ in 0..turns {
            if self.store.is_dead(self.process) {
                break;
            }
            self.store.scheduler.pass();
        }
    }

    fn done(&self, state: &mut State, step: Step, operation: Operation, kind: ObjectKind, name: Option<&ObjectName>) {
        *state.calls.entry((operation, kind)).or_default() += 1;
        state.watch.step(self.process, step, kind, name);
    }

    fn object(&self, operation: Operation, name: &ObjectName) -> Result<Arc<[u8]>> {
        let verdict = self.enter(operation, name.kind(), Some(name))?;
        let state = &mut *self.store.state();
        self.done(state, Step::Asked, operation, name.kind(), Some(name));
        let process = &mut state.processes[self.process];
        let hides = state.mutant == Some(Mutant::TombstoneIgnored) && !process.is_collector();
        // The next epoch is asked for by its number, whatever was listed.
        let is_later = |seen: &Vec<ObjectInfo>| seen.iter().all(|object| object.name != *name);
        let hides_later = state.mutant == Some(Mutant::NoReread) && name.kind() == ObjectKind::Epoch && !process.is_collector();
        let object = match state.objects.get(name) {
            Some(_) if hides && name.kind() == ObjectKind::Tombstone => None,
            Some(_) if hides_later && process.listed.get(&ObjectKind::Epoch).is_some_and(is_later) => None,
            Some(object) => Some(Arc::clone(&object.bytes)),
            None => process.own.get(name).cloned(),
        };
        if operation == Operation::GetRange {
            process.unread.remove(name);
            process.read.insert(*name);
        }
        state.leave(self.process, verdict)?;
        object.ok_or_else(|| missing(name))
    }

    fn names(state: &State, kind: ObjectKind) -> BTreeMap<ObjectName, u64> {
        let from_kind = state.objects.range(first_of(kind)..);
        let of_kind = from_kind.take_while(|(name, _)| name.kind() == kind);
        of_kind.map(|(name, object)| (*name, object.bytes.len() as u64)).collect()
    }

    /// Takes out of a listing what it does not show yet, and gives what it still shows.
    fn lagging(&self, state: &mut State, kind: ObjectKind, names: &mut BTreeMap<ObjectName, u64>, now_ns: u64) -> Vec<ObjectInfo> {
        let oldest_ns = now_ns.saturating_sub(self.store.lag_ns);
        if self.store.lag_ns == 0 {
            return Vec::new();
        }
        let State { objects, gone, random, .. } = state;
        let (all, mut shown) = (names.len(), Vec::new());
        let is_old = |name: &ObjectName| objects.get(name).is_none_or(|object| object.number == 0 || object.made_ns <= oldest_ns);
        names.retain(|name, _| is_old(name) || random.one_in(2));
        for (name, (size, at_ns)) in gone.range(first_of(kind)..).take_while(|(name, _)| name.kind() == kind) {
            if *at_ns > oldest_ns && !objects.contains_key(name) && random.one_in(2) {
                shown.push(ObjectInfo { name: *name, size: *size });
            }
        }
        if all > names.len() || !shown.is_empty() {
            state.count(Fault::StaleListing);
        }
        shown
    }

    /// What a mutant makes of a listing.
    fn distort(&self, state: &mut State, kind: ObjectKind, found: &mut Vec<ObjectInfo>) {
        let mutant = state.mutant;
        let process = &mut state.processes[self.process];
        if kind == ObjectKind::Epoch {
            process.epochs_listed += 1;
        }
        if matches!(kind, ObjectKind::Snapshot | ObjectKind::Session) {
            process.looks_for = Some(kind);
        }
        // What closed sessions name is asked for by name, also where no listing shows it.
        let looks_for_snapshots =
            kind == ObjectKind::Snapshot || kind == ObjectKind::Closed && process.looks_for == Some(ObjectKind::Snapshot);
        match mutant {
            Some(Mutant::Uncondemned)
                if kind == ObjectKind::Epoch && matches!(process.deed, Some(Deed::Backup | Deed::Tag)) && process.epochs_listed > 2 =>
            {
                found.clear();
            }
            Some(Mutant::NoGate) if kind == ObjectKind::Session && process.is_collector() => found.clear(),
            Some(Mutant::UnwrittenEpoch) if kind == ObjectKind::Epoch => {
                found.extend(process.own.iter().map(|(name, bytes)| ObjectInfo { name: *name, size: bytes.len() as u64 }));
            }
            Some(Mutant::NoRelist) if looks_for_snapshots && process.is_collector() => {
                *found = process.listed.entry(kind).or_insert_with(|| found.clone()).clone();
            }
            Some(Mutant::NoReread) if kind == ObjectKind::Epoch && !process.is_collector() => {
                *found = process.listed.entry(kind).or_insert_with(|| found.clone()).clone();
            }
            _ => {}
        }
    }
}

impl Backend for Handle {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        let verdict = self.enter(Operation::Create, name.kind(), Some(name))?;
        let state = &mut *self.store.state();
        state.leave(self.process, verdict)?;
        state.processes[self.process].open_writers += 1;
        self.done(state, Step::Began, Operation::Create, name.kind(), Some(name));
        Ok(Box::new(Writer { handle: self, name: *name, bytes: Vec::new(), is_poisoned: false, replaces: false }))
    }

    fn replace(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        let verdict = self.enter(Operation::Create, name.kind(), Some(name))?;
        let state = &mut *self.store.state();
        state.leave(self.process, verdict)?;
        state.processes[self.process].open_writers += 1;
        Ok(Box::new(Writer { handle: self, name: *name, bytes: Vec::new(), is_poisoned: false, replaces: true }))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        let object = self.object(Operation::GetRange, name)?;
        let range = usize::try_from(offset).ok().and_then(|start| object.get(start..start.checked_add(length)?));
        range.map(<[u8]>::to_vec).ok_or_else(|| Error::new(ErrorKind::Damaged, format!("{name}: {} bytes, too short", object.len())))
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        Ok(self.object(Operation::Size, name)?.len() as u64)
    }

    fn list(
        &self,
        kind: ObjectKind,
        visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
        _stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let verdict = self.enter(Operation::List, kind, None)?;
        let began_ns = self.store.scheduler.now_ns();
        let breaks_off = verdict == Verdict::Lost;
        let mut before = {
            let state = &mut *self.store.state();
            if !breaks_off {
                state.leave(self.process, verdict)?;
                state.watch.lists(self.process, kind);
            }
            Self::names(state, kind)
        };
        self.store.scheduler.pass();
        let mut found = {
            let state = &mut *self.store.state();
            let after = Self::names(state, kind);
            let there: BTreeSet<ObjectName> = before.keys().copied().collect();
            let mut found = self.lagging(state, kind, &mut before, began_ns);
            for (name, size) in before.iter().chain(after.iter().filter(|(name, _)| !there.contains(name))) {
                let is_steady = before.contains_key(name) && after.contains_key(name);
                if is_steady || state.random.one_in(2) {
                    found.push(ObjectInfo { name: *name, size: *size });
                } else {
                    state.count(Fault::PartialListing);
                }
            }
            if !found.is_empty() && state.random.one_in(TWICE_ONE_IN) {
                state.count(Fault::ListedTwice);
                let twice = found[state.random.below(found.len() as u64) as usize].clone();
                found.push(twice);
            }
            self.distort(state, kind, &mut found);
            if breaks_off {
                found.truncate(state.random.below(found.len() as u64 + 1) as usize);
            } else {
                self.done(state, Step::Listed, Operation::List, kind, None);
            }
            found
        };
        found.drain(..).try_for_each(visit)?;
        if breaks_off { Err(unavailable("the listing broke off")) } else { Ok(()) }
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let verdict = self.enter(Operation::Delete, name.kind(), Some(name))?;
        {
            let state = &mut *self.store.state();
            if state.comes_late(self.process, verdict, *name, None) {
                return state.leave(self.process, verdict);
            }
            if !state.remove(name, self.store.scheduler.now_ns()) {
                state.leave(self.process, verdict)?;
                state.deleted.remove(name);
                return Err(missing(name));
            }
            self.done(state, Step::Deleted, Operation::Delete, name.kind(), Some(name));
        }
        self.sync();
        let state = &mut *self.store.state();
        if state.dies_between(self.process) {
            return Err(unavailable("this process is dead"));
        }
        let stays_loose = state.stays_loose(verdict, name);
        state.leave(self.process, verdict)?;
        if !stays_loose {
            state.deleted.remove(name);
        }
        if let Some((_, at_ns)) = state.gone.get_mut(name) {
            *at_ns = self.store.scheduler.now_ns();
        }
        Ok(())
    }

    fn make_durable(&self, names: &[ObjectName]) -> Result<()> {
        let Some(first) = names.first() else { return Ok(()) };
        let verdict = self.enter(Operation::MakeDurable, first.kind(), None)?;
        let state = &mut *self.store.state();
        for name in names {
            if state.mutant == Some(Mutant::OthersLoose) || verdict != Verdict::Good && state.random.one_in(2) {
                continue;
            }
            state.deleted.remove(name);
            if let Some(object) = state.objects.get_mut(name) {
                object.is_durable = true;
            }
        }
        state.leave(self.process, verdict)?;
        *state.calls.entry((Operation::MakeDurable, first.kind())).or_default() += 1;
        Ok(())
    }

    fn hold(&self, name: &ObjectName) -> Result<Option<Box<dyn Send>>> {
        let verdict = self.enter(Operation::Hold, name.kind(), Some(name))?;
        let state = &mut *self.store.state();
        state.leave(self.process, verdict)?;
        *state.calls.entry((Operation::Hold, name.kind())).or_default() += 1;
        if !state.objects.contains_key(name) {
            return Err(missing(name));
        }
        state.processes[self.process].holds.push(*name);
        Ok(Some(Box::new(Hold { store: Arc::clone(&self.store), process: self.process, name: *name })))
    }

    fn is_held(&self, name: &ObjectName) -> Result<Option<bool>> {
        let verdict = self.enter(Operation::Hold, name.kind(), Some(name))?;
        let state = &mut *self.store.state();
        state.leave(self.process, verdict)?;
        *state.calls.entry((Operation::Hold, name.kind())).or_default() += 1;
        if !state.objects.contains_key(name) {
            return Err(missing(name));
        }
        Ok(Some(state.processes.iter().any(|process| process.holds.contains(name))))
    }

    fn describe(&self) -> String {
        "simulation".into()
    }
}

struct Hold {
    store: Arc<Store>,
    process: usize,
    name: ObjectName,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let holds = &mut self.store.state().processes[self.process].holds;
        if let Some(at) = holds.iter().position(|name| *name == self.name) {
            holds.remove(at);
        }
    }
}

struct Writer<'a> {
    handle: &'a Handle,
    name: ObjectName,
    bytes: Vec<u8>,
    is_poisoned: bool,
    replaces: bool,
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.handle.store.state().processes[self.handle.process].open_writers -= 1;
    }
}

impl Writer<'_> {
    fn check(&self) -> Result<()> {
        if self.is_poisoned { Err(unavailable("an earlier write failed")) } else { Ok(()) }
    }
}

impl ObjectWriter for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.check()?;
        let entered = self.handle.enter(Operation::Write, self.name.kind(), Some(&self.name));
        let left = entered.and_then(|verdict| self.handle.store.state().leave(self.handle.process, verdict));
        self.is_poisoned = left.is_err();
        self.bytes.extend_from_slice(bytes);
        left
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.check()?;
        let (handle, name) = (self.handle, self.name);
        let entered = handle.enter(Operation::Finish, name.kind(), Some(&name));
        let ignores = handle.store.state().mutant == Some(Mutant::ErrorIgnored) && name.kind().is_pack();
        let verdict = match entered {
            Ok(Verdict::Lost) if ignores => {
                handle.done(&mut handle.store.state(), Step::Made, Operation::Finish, name.kind(), Some(&name));
                return Ok(());
            }
            // The engine would go on as if it had been written.
            Err(_) if ignores && !handle.store.is_dead(handle.process) => {
                handle.done(&mut handle.store.state(), Step::Made, Operation::Finish, name.kind(), Some(&name));
                return Ok(());
            }
            entered => entered?,
        };
        let is_there = {
            let state = &mut *handle.store.state();
            let is_there = !self.replaces && state.objects.contains_key(&name);
            if !self.replaces && state.comes_late(handle.process, verdict, name, Some(&self.bytes)) {
                return state.leave(handle.process, verdict);
            }
            let bytes: Arc<[u8]> = std::mem::take(&mut self.bytes).into();
            if let Some(own) = state.kept_for_itself(handle.process, &name) {
                own.insert(name, bytes);
                return state.leave(handle.process, verdict);
            }
            if !is_there {
                // What stands in the place of something damaged is its writer's, not of who heals.
                match self.replaces {
                    true => state.watch.shown(handle.process, &name, &bytes),
                    false => state.watch.seen(handle.process, &name, &bytes),
                }
                state.insert(name, bytes, handle.store.scheduler.now_ns());
                if verdict == Verdict::Lost {
                    state.left.insert(name);
                }
            }
            is_there
        };
        handle.sync();
        let state = &mut *handle.store.state();
        if state.dies_between(handle.process) {
            return Err(unavailable("this process is dead"));
        }
        if state.stays_loose(verdict, &name) {
            return state.leave(handle.process, verdict);
        }
        if state.mutant != Some(Mutant::MissingSync)
            && let Some(object) = state.objects.get_mut(&name)
        {
            object.is_durable = true;
            if !is_there && !self.replaces {
                object.made_ns = handle.store.scheduler.now_ns();
            }
        }
        state.leave(handle.process, verdict)?;
        if is_there {
            if state.left.contains(&name) {
                state.count(Fault::Duplicate);
            }
            return Err(Error::new(ErrorKind::AlreadyExists, format!("{name}: exists already")));
        }
        let step = if self.replaces { Step::Healed } else { Step::Made };
        handle.done(state, step, Operation::Finish, name.kind(), Some(&name));
        if name.kind() == ObjectKind::Session && !self.replaces {
            state.begins(handle.process, &name);
        }
        Ok(())
    }
}
