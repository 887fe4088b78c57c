//! A backend that also writes the packs that it is given to others: what is read once is stored in several places.
//!
//! A help and no promise. A mirror that fails is left out from then on, and nothing depends on what it has: whoever wants a snapshot there copies it, and
//! what has arrived need not travel again ([`Repository::acknowledge`](crate::repository::Repository::acknowledge)).

use super::{Backend, ObjectInfo, ObjectKind, ObjectName, ObjectWriter, Retain, Thaw};
use crate::error::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Passes everything on, and writes packs to the mirrors, too.
#[derive(Debug)]
pub(crate) struct MirrorBackend {
    inner: Arc<dyn Backend>,
    mirrors: Vec<Mirror>,
}

#[derive(Debug)]
struct Mirror {
    backend: Arc<dyn Backend>,
    has_failed: AtomicBool,
}

impl MirrorBackend {
    /// Everything to `inner`, packs to `mirrors` as well.
    pub(crate) fn new(inner: Arc<dyn Backend>, mirrors: Vec<Arc<dyn Backend>>) -> Self {
        let mirrors = mirrors.into_iter().map(|backend| Mirror { backend, has_failed: AtomicBool::new(false) }).collect();
        Self { inner, mirrors }
    }
}

impl Mirror {
    /// What was done, or nothing where it fails or has failed before.
    fn attempt<T>(&self, work: impl FnOnce() -> Result<T>) -> Option<T> {
        if self.has_failed.load(Ordering::Relaxed) {
            return None;
        }
        let done = work();
        if done.is_err() {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        done.ok()
    }
}

/// An object that is written to several places.
struct MirrorWriter<'a> {
    inner: Box<dyn ObjectWriter + 'a>,
    mirrors: Vec<(&'a Mirror, Box<dyn ObjectWriter + 'a>)>,
}

impl ObjectWriter for MirrorWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.inner.write(bytes)?;
        self.mirrors.retain_mut(|(mirror, writer)| mirror.attempt(|| writer.write(bytes)).is_some());
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let Self { inner, mirrors } = *self;
        inner.finish()?;
        for (mirror, writer) in mirrors {
            mirror.attempt(|| writer.finish());
        }
        Ok(())
    }
}

impl Backend for MirrorBackend {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        let inner = self.inner.create(name)?;
        if !name.kind().is_pack() {
            return Ok(inner);
        }
        let begun = self.mirrors.iter().filter_map(|mirror| Some((mirror, mirror.attempt(|| mirror.backend.create(name))?)));
        Ok(Box::new(MirrorWriter { inner, mirrors: begun.collect() }))
    }

    fn replace(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        self.inner.replace(name)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.inner.get_range(name, offset, length)
    }

    fn get_whole(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>> {
        self.inner.get_whole(name, size_max)
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.inner.size(name)
    }

    fn list(
        &self,
        kind: ObjectKind,
        visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
        stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        self.inner.list(kind, visit, stranger)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.inner.delete(name)
    }

    fn make_durable(&self, names: &[ObjectName]) -> Result<()> {
        self.inner.make_durable(names)
    }

    fn hold(&self, name: &ObjectName) -> Result<Option<Box<dyn Send>>> {
        self.inner.hold(name)
    }

    fn is_held(&self, name: &ObjectName) -> Result<Option<bool>> {
        self.inner.is_held(name)
    }

    fn clear_unfinished(&self, age: Duration) -> u64 {
        self.inner.clear_unfinished(age)
    }

    fn at_once(&self) -> usize {
        self.inner.at_once()
    }

    fn thawing(&self) -> Option<&dyn Thaw> {
        self.inner.thawing()
    }

    fn retaining(&self) -> Option<&dyn Retain> {
        self.inner.retaining()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::testing::{FaultyBackend, FreezingBackend, Operation, contract};
    use crate::backend::{BackendExt, MemoryBackend};
    use crate::id::{PackId, SnapshotId};

    #[test]
    fn what_the_first_place_can_do_beside_it_can_do() {
        let able = FreezingBackend::new(Arc::new(MemoryBackend::new()));
        let backend = MirrorBackend::new(Arc::new(able), vec![Arc::new(MemoryBackend::new())]);
        assert!(backend.thawing().is_some());
    }

    #[test]
    fn it_keeps_the_contract_and_mirrors_packs_alone() {
        contract::check(|| Box::new(MirrorBackend::new(Arc::new(MemoryBackend::new()), vec![Arc::new(MemoryBackend::new())])));
        let (one, two) = (MemoryBackend::new(), MemoryBackend::new());
        let broken = FaultyBackend::new(Arc::new(MemoryBackend::new()), 1);
        broken.fail(Operation::Write, 1);
        let backend = MirrorBackend::new(Arc::new(one.clone()), vec![Arc::new(broken), Arc::new(two.clone())]);
        let packs = [1, 2].map(|n| ObjectName::pack(ObjectKind::DataPack, PackId([n; 16])));
        let snapshot = ObjectName::snapshot(SnapshotId([3; 16]));
        packs.iter().chain([&snapshot]).for_each(|name| backend.put(name, b"ice").unwrap());
        assert!(packs.iter().chain([&snapshot]).all(|name| one.get(name, 9).unwrap() == b"ice"));
        assert!(packs.iter().all(|name| two.get(name, 9).unwrap() == b"ice") && two.size(&snapshot).is_err());
        assert!(backend.mirrors[0].has_failed.load(Ordering::Relaxed) && !backend.mirrors[1].has_failed.load(Ordering::Relaxed));
        assert!(packs.iter().all(|name| backend.mirrors[0].backend.size(name).is_err()));
    }
}
