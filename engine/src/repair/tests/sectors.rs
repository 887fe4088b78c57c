//! A disk that cannot read some bytes any more.

use super::*;
use crate::backend::{ObjectInfo, ObjectWriter};

/// Fails to read one byte of one object.
#[derive(Debug)]
struct BadSector {
    inner: MemoryBackend,
    object: ObjectName,
    at: u64,
}

impl Backend for BadSector {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        self.inner.create(name)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        match *name == self.object && (offset..offset + length as u64).contains(&self.at) {
            true => Err(Error::new(ErrorKind::Unavailable, format!("{name}: input/output error"))),
            false => self.inner.get_range(name, offset, length),
        }
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

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[test]
fn only_the_frames_that_cannot_be_read_are_lost() {
    let mut fixture = Fixture::with_snapshots();
    let object = fixture.data_pack();
    let (size, whole) = (fixture.backend.size(&object).unwrap(), fixture.objects());
    for (at, frames_lost) in [(20_000, 1), (size - 700, 0)] {
        fixture.reset(&whole);
        let inner = fixture.backend.clone();
        let key = Key::KeyFile(Secret::new([5; 32]));
        let backend = Arc::new(BadSector { inner, object, at });
        fixture.repository = Repository::open(backend, Runtime::seeded(at, NOW, 2), &key, Settings::default()).unwrap();
        let hurt = fixture.hurt();
        let summary = fixture.repair();
        let mended = &summary.plan.packs[0];
        assert!(mended.pack == object && mended.frames_good > 2 && mended.frames_lost == frames_lost, "{mended:?}");
        // What is known by an index object is not lost, even if the pack's own table cannot be read.
        assert_eq!((summary.epoch, summary.plan.report.hurt.len()), (Some(1), hurt.len()));
        let after = fixture.hurt();
        assert!(after.values().all(|paths| paths.len() < 6) && (frames_lost > 0 || after.is_empty()), "{after:?}");
        assert_eq!(fixture.backup().bytes_unique > 0, frames_lost > 0);
    }
}
