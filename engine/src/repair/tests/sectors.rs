//! A disk that cannot read some bytes any more.

use super::*;
use crate::backend::testing::HookedBackend;

/// Fails to read one byte of one object.
fn bad_sector(inner: MemoryBackend, object: ObjectName, at: u64) -> HookedBackend {
    HookedBackend::new(Arc::new(inner), move |call| match call.name == Some(object) && call.range.contains(&at) {
        true => Err(Error::new(ErrorKind::Unavailable, format!("{object}: input/output error"))),
        false => Ok(()),
    })
}

#[test]
fn only_the_frames_that_cannot_be_read_are_lost() {
    let mut fixture = Fixture::with_snapshots();
    let object = fixture.data_pack();
    let (size, whole) = (fixture.backend.size(&object).unwrap(), fixture.objects());
    for (at, frames_lost) in [(20_000, 1), (size - 700, 0)] {
        fixture.reset(&whole);
        let key = Key::KeyFile(Secret::new([5; 32]));
        let backend = Arc::new(bad_sector(fixture.backend.clone(), object, at));
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
