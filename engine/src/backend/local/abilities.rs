//! What the file system under a folder can do of what the backend wants of it.

use super::LocalBackend;
use super::temporary::Temporary;
use crate::backend::{Ability, Found, Need};
use crate::error::Result;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};

impl LocalBackend {
    /// Tries with a temporary file, as every object begins with one, what the folder's file system can do. Leaves nothing behind.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) where not even a temporary file can be made: the folder can at most be read.
    pub fn abilities(&self) -> Result<Vec<Ability>> {
        let failed = |error: Errno| super::write_error(format!("{}/tmp", self.path.display()), error);
        let file = Temporary::create(&self.folders).map_err(failed)?;
        let tell = |name, purpose, is_needed, tried: rustix::io::Result<()>| Ability {
            name,
            purpose,
            need: if is_needed { Need::Must } else { Need::Should },
            found: Found::unless(tried.err().map(|error| std::io::Error::from(error).to_string())),
        };
        let (folder, name, other) = (&file.folder, &file.name, Temporary::fresh_name());
        let link = rustix::fs::linkat(folder, name, folder, &other, AtFlags::empty());
        if link.is_ok() {
            // Whatever is left here is swept later.
            let _ = rustix::fs::unlinkat(folder, &other, AtFlags::empty());
        }
        let rename = |from: &str, to: &str| rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE);
        let rename = rename(name, &other).and_then(|()| rename(&other, name));
        let lock = is_locked_for_others(&file);
        Ok(vec![
            tell("hard links", "objects get their names by them", rename.is_err(), link),
            tell("rename without replacing", "where there are no hard links, objects get their names by it", link.is_err(), rename),
            tell("fsync of files", "what was reported as done survives a power cut", true, retry_on_intr(|| rustix::fs::fsync(&file.file))),
            tell("fsync of folders", "names survive a power cut", true, retry_on_intr(|| rustix::fs::fsync(folder))),
            tell("locks", "others see at once whether a backup is alive", false, lock),
        ])
    }
}

/// The file is locked by its maker; whoever opens it anew must see that.
fn is_locked_for_others(file: &Temporary) -> rustix::io::Result<()> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let again = rustix::fs::openat(&file.folder, &file.name, flags, Mode::empty())?;
    match retry_on_intr(|| rustix::fs::flock(&again, FlockOperation::NonBlockingLockExclusive)) {
        Err(Errno::WOULDBLOCK) => Ok(()),
        Ok(()) => Err(Errno::NOLCK),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_folder_can_do_everything_and_nothing_is_left() {
        let place = tempfile::tempdir().unwrap();
        let backend = LocalBackend::create(place.path().join("r")).unwrap();
        let abilities = backend.abilities().unwrap();
        assert!(abilities.len() == 5 && abilities.iter().all(|ability| ability.found == Found::Yes(None)), "{abilities:?}");
        assert_eq!(std::fs::read_dir(place.path().join("r/tmp")).unwrap().count(), 0);
    }
}
