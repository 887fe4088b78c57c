//! Room kept back, so that a full file system can be freed: forgetting and collecting write small objects before they delete anything.
//!
//! `tmp/reserve` is a file that nobody reads. The first pack of a handle makes it where it is missing, and so does the end of a handle that wrote something;
//! a small object that finds no room takes its place. File systems that cannot allocate a file beforehand have none.

use super::folders::Folders;
use super::temporary::TEMPORARY_FOLDER;
use crate::backend::{ObjectKind, ObjectName};
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::{Errno, Result, retry_on_intr};

/// Enough for what a collection and some hundred withdrawals write.
pub(super) const RESERVE_BYTES: u64 = 1 << 20;
/// With less nothing can be begun.
const RESERVE_BYTES_MIN: u64 = 64 << 10;
pub(super) const NAME: &str = "reserve";

/// Makes the reserve where there is none. A service, and never a reason to fail.
pub(super) fn keep(folders: &Folders) {
    let _ = make(folders);
}

fn make(folders: &Folders) -> Result<()> {
    let folder = folders.make(TEMPORARY_FOLDER)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match retry_on_intr(|| rustix::fs::openat(&folder, NAME, flags, Mode::RUSR | Mode::WUSR)) {
        Err(Errno::EXIST) => return Ok(()),
        other => other?,
    };
    let allocate = |bytes| retry_on_intr(|| rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes));
    // Where there is little room left, less is better than nothing.
    let mut allocated = Err(Errno::NOSPC);
    let mut bytes = RESERVE_BYTES;
    while allocated == Err(Errno::NOSPC) && bytes >= RESERVE_BYTES_MIN {
        allocated = allocate(bytes);
        bytes /= 2;
    }
    if allocated.is_err() {
        rustix::fs::unlinkat(&folder, NAME, AtFlags::empty())?;
    }
    allocated
}

/// Does something for the object `name`, and does it again with the reserve given up where there was no room. Packs never get it.
pub(super) fn with_room<T>(folders: &Folders, name: &ObjectName, mut work: impl FnMut() -> Result<T>) -> Result<T> {
    match work() {
        Err(Errno::NOSPC | Errno::DQUOT) if is_small(name.kind()) && give(folders) => work(),
        done => done,
    }
}

fn is_small(kind: ObjectKind) -> bool {
    !kind.is_pack() && !matches!(kind, ObjectKind::Index | ObjectKind::Parity)
}

fn give(folders: &Folders) -> bool {
    folders.open(TEMPORARY_FOLDER).and_then(|folder| rustix::fs::unlinkat(&folder, NAME, AtFlags::empty())).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, LocalBackend};
    use crate::id::PackId;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_first_pack_makes_it_and_only_what_is_small_takes_it() {
        let place = tempfile::tempdir().unwrap();
        let backend = LocalBackend::create(place.path()).unwrap();
        let reserve = place.path().join(TEMPORARY_FOLDER).join(NAME);
        let (small, pack) = (ObjectName::config(1), ObjectName::pack(ObjectKind::DataPack, PackId([1; 16])));
        drop(backend.create(&small).unwrap());
        assert!(!reserve.exists());
        drop(backend.create(&pack).unwrap());
        let metadata = reserve.metadata().unwrap();
        assert_eq!((metadata.len(), metadata.blocks() * 512 >= RESERVE_BYTES), (RESERVE_BYTES, true));
        let full_once = |name| {
            let mut calls = 0;
            let done = with_room(&backend.folders, name, || {
                calls += 1;
                if calls == 1 { Err(Errno::NOSPC) } else { Ok(()) }
            });
            (done, calls)
        };
        assert_eq!(full_once(&pack), (Err(Errno::NOSPC), 1));
        assert!(reserve.exists());
        assert_eq!(full_once(&small), (Ok(()), 2));
        assert!(!reserve.exists());
        assert_eq!(full_once(&small), (Err(Errno::NOSPC), 1), "there is none any more");
        drop(backend);
        assert!(reserve.exists(), "for those who come");
    }
}
