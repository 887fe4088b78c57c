//! Where objects live.
//!
//! A backend keeps named, immutable objects: written once, never changed, deleted only by garbage collection and
//! forget. It knows nothing of their content. Every backend passes the same contract suite (feature `testing`).
//!
//! The promise that everything above relies on: when [`ObjectWriter::finish`] returns `Ok`, the object is whole,
//! durable and visible to every later [`Backend::list`], [`Backend::size`] and [`Backend::get_range`]. Until it is called the object is invisible; while it
//! runs, and where it fails, the object may be seen and not be durable ([`Backend::make_durable`]).
//! What a backend answers about one object is never taken as proof of its content: hashes, seals and signatures are checked above.

mod ability;
mod address;
mod limited;
mod local;
mod memory;
mod mirror;
mod name;
#[cfg(feature = "object-store")]
mod object_store;
mod patient;
#[cfg(any(feature = "object-store", feature = "sftp"))]
mod retry;
#[cfg(feature = "sftp")]
mod sftp;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod trial;

pub use ability::{Ability, Found, Need};
pub use address::{Address, BucketAddress, BucketKind, SftpAddress};
pub use limited::{LimitedBackend, Limits};
pub use local::LocalBackend;
pub use memory::MemoryBackend;
pub(crate) use mirror::MirrorBackend;
pub use name::{ObjectKind, ObjectName};
#[cfg(feature = "object-store")]
pub use object_store::ObjectStoreBackend;
pub use patient::PatientBackend;
#[cfg(feature = "sftp")]
pub use sftp::SftpBackend;
pub use store::{
    ArchiveClass, Notice, Request, StoreSettings, Traffic, create, open, open_place, require_free, try_create_if_absent, try_out,
};

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Timestamp;
use std::fmt::Debug;
use std::time::Duration;

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectInfo {
    /// Its name.
    pub name: ObjectName,
    /// Its size in bytes.
    pub size: u64,
}

/// Keeps objects.
///
/// Handles live long and are used by many threads at once. What the methods promise is checked by `testing::contract` (feature `testing`),
/// which every implementation should pass. One that keeps objects in a map:
///
/// ```
/// use icecore::backend::{Backend, BackendExt, ObjectInfo, ObjectKind, ObjectName, ObjectWriter, testing};
/// use icecore::{Error, ErrorKind, Result};
/// use std::collections::HashMap;
/// use std::sync::{Mutex, MutexGuard};
///
/// #[derive(Debug, Default)]
/// struct MapBackend(Mutex<HashMap<ObjectName, Vec<u8>>>);
///
/// impl MapBackend {
///     fn objects(&self) -> Result<MutexGuard<'_, HashMap<ObjectName, Vec<u8>>>> {
///         self.0.lock().map_err(|_| Error::new(ErrorKind::Unavailable, "a thread died while it changed the map"))
///     }
/// }
///
/// fn missing(name: &ObjectName) -> Error {
///     Error::new(ErrorKind::NotFound, format!("{name}: no such object"))
/// }
///
/// impl Backend for MapBackend {
///     fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
///         Ok(Box::new(MapWriter { backend: self, name: *name, bytes: Vec::new() }))
///     }
///
///     fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
///         let objects = self.objects()?;
///         let bytes = objects.get(name).ok_or_else(|| missing(name))?;
///         usize::try_from(offset)
///             .ok()
///             .and_then(|start| bytes.get(start..start.checked_add(length)?))
///             .map(<[u8]>::to_vec)
///             .ok_or_else(|| Error::new(ErrorKind::Damaged, format!("{name}: {} bytes, too short", bytes.len())))
///     }
///
///     fn size(&self, name: &ObjectName) -> Result<u64> {
///         self.objects()?.get(name).map(|bytes| bytes.len() as u64).ok_or_else(|| missing(name))
///     }
///
///     fn list(
///         &self,
///         kind: ObjectKind,
///         visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
///         _stranger: &mut dyn FnMut(&str) -> Result<()>,
///     ) -> Result<()> {
///         // The lock is given back before `visit` runs, which may use this backend too.
///         let found: Vec<_> =
///             self.objects()?.iter().map(|(name, bytes)| ObjectInfo { name: *name, size: bytes.len() as u64 }).collect();
///         found.into_iter().filter(|object| object.name.kind() == kind).try_for_each(visit)
///     }
///
///     fn delete(&self, name: &ObjectName) -> Result<()> {
///         self.objects()?.remove(name).map(drop).ok_or_else(|| missing(name))
///     }
///
///     fn describe(&self) -> String {
///         "a map".into()
///     }
/// }
///
/// struct MapWriter<'a> {
///     backend: &'a MapBackend,
///     name: ObjectName,
///     bytes: Vec<u8>,
/// }
///
/// impl ObjectWriter for MapWriter<'_> {
///     fn write(&mut self, bytes: &[u8]) -> Result<()> {
///         self.bytes.extend_from_slice(bytes);
///         Ok(())
///     }
///
///     fn finish(self: Box<Self>) -> Result<()> {
///         let mut objects = self.backend.objects()?;
///         if objects.contains_key(&self.name) {
///             return Err(Error::new(ErrorKind::AlreadyExists, format!("{}: exists", self.name)));
///         }
///         objects.insert(self.name, self.bytes);
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let backend = MapBackend::default();
/// let name = ObjectName::parse("snapshots/00112233445566778899aabbccddeeff")?;
/// backend.put(&name, b"ice")?;
/// assert_eq!(backend.get(&name, 1024)?, b"ice");
/// assert_eq!(backend.list_sorted(ObjectKind::Snapshot)?, [ObjectInfo { name, size: 3 }]);
///
/// testing::contract::check(|| Box::new(MapBackend::default()));
/// # Ok(())
/// # }
/// ```
pub trait Backend: Send + Sync + Debug {
    /// Starts an object of this name; nothing is visible before [`ObjectWriter::finish`], which also finds out whether the name is free.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the backend cannot take it.
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>>;

    /// Starts bytes that are to stand in the place of whatever is at this name: a damaged object, something that icecore did not write, or
    /// nothing. [`ObjectWriter::finish`] does it at once and durably, and never answers [`ErrorKind::AlreadyExists`]: whoever reads meanwhile gets
    /// all of what was there or all of what is there now, and after a power failure one of them is there. Until then nothing changes.
    ///
    /// Only for healing: the bytes must be those that were once written under this name. To all others an object never changes.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the backend cannot; one that never changes what it holds says so always, as does this default.
    fn replace(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        Err(Error::new(ErrorKind::Unavailable, format!("{name}: this store cannot put a healed object in the place of a damaged one")))
    }

    /// Reads exactly `length` bytes from `offset`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without such an object, [`ErrorKind::Damaged`] where it ends before `offset + length` or something that
    /// icecore did not write stands in its place, otherwise [`ErrorKind::Unavailable`].
    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>>;

    /// Reads a whole object of at most `size_max` bytes. By default it asks for the size first; where each question takes long, a backend
    /// does it with one.
    ///
    /// # Errors
    /// As [`Backend::get_range`]; [`ErrorKind::Damaged`] where it is larger than `size_max`.
    fn get_whole(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>> {
        let size = self.size(name)?;
        if size > size_max {
            return Err(Error::new(ErrorKind::Damaged, format!("{name}: {size} bytes, at most {size_max} are allowed")));
        }
        self.get_range(name, 0, usize::try_from(size).map_err(|_| Error::new(ErrorKind::Damaged, format!("{name}: {size} bytes")))?)
    }

    /// The object's size in bytes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without such an object, otherwise [`ErrorKind::Unavailable`].
    fn size(&self, name: &ObjectName) -> Result<u64>;

    /// Calls `visit` for every object of a kind, in no particular order, and `stranger` for every name found there that icecore did not write.
    /// Objects made or deleted meanwhile may or may not be seen; all others are, perhaps more than once. Both may call this backend. A store whose
    /// listings lag behind keeps this by [`PatientBackend`].
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`], or what `visit` or `stranger` returns.
    fn list(
        &self,
        kind: ObjectKind,
        visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
        stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()>;

    /// Deletes an object, durably. Of what is not there that is durable, too, when this returns: somebody else may have deleted it a moment ago.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without such an object, otherwise [`ErrorKind::Unavailable`].
    fn delete(&self, name: &ObjectName) -> Result<()>;

    /// Makes durable what is seen of these names, whoever wrote or deleted them: while a write has not returned, and for good where its writer died or was
    /// told that it failed, an object can be seen that the next power failure takes away. Likewise one that is not there any more may come back. Whoever relies
    /// on what others did asks for this first. This default is for stores in which all that is seen is durable.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`]; they may be durable or not.
    fn make_durable(&self, names: &[ObjectName]) -> Result<()> {
        let _ = names;
        Ok(())
    }

    /// Marks an existing object as held by this process, until what is returned is dropped or the process ends, however it ends.
    /// `None` where the backend cannot.
    ///
    /// An object may be held more than once.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without such an object, otherwise [`ErrorKind::Unavailable`].
    fn hold(&self, name: &ObjectName) -> Result<Option<Box<dyn Send>>> {
        let _ = name;
        Ok(None)
    }

    /// Whether a process **of this machine** holds the object; `None` where the backend cannot know.
    ///
    /// Says nothing of holders on other machines, so ask only about objects whose holder is known to be on this one. While another
    /// process asks the same question, the answer may be `true` without a holder.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without such an object, otherwise [`ErrorKind::Unavailable`].
    fn is_held(&self, name: &ObjectName) -> Result<Option<bool>> {
        let _ = name;
        Ok(None)
    }

    /// Takes away what clients that ended left unfinished at least `age` ago, by this runtime's clock: uploads in parts, files that became no object.
    /// None of it is an object, and nobody needs it. A service: what cannot be found or taken away stays. Gives how many there were.
    fn clear_unfinished(&self, age: Duration) -> u64 {
        let _ = age;
        0
    }

    /// So many questions are worth asking at once, by as many threads: 1 where an answer is there at once, more where each of them makes a journey.
    fn at_once(&self) -> usize {
        1
    }

    /// How what lies here thaws; `None` where everything can be read at once.
    fn thawing(&self) -> Option<&dyn Thaw> {
        None
    }

    /// How what lies here is kept from being deleted, whoever asks; `None` where nothing of the kind is known.
    fn retaining(&self) -> Option<&dyn Retain> {
        None
    }

    /// Where this backend is, for people.
    fn describe(&self) -> String;
}

/// A store that may keep objects from being deleted before a date, whoever asks: object lock.
pub trait Retain: Send + Sync {
    /// Whether it does so here.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] where these credentials may not ask, otherwise [`ErrorKind::Unavailable`].
    fn is_enabled(&self) -> Result<bool>;

    /// Keeps an object at least until then. Nothing and nobody shortens that, and what is kept longer stays so.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without such an object, otherwise [`ErrorKind::Unavailable`].
    fn retain(&self, name: &ObjectName, until: Timestamp) -> Result<()>;
}

/// Whether an object can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frost {
    /// At once.
    Warm,
    /// Not before somebody asks for it and it has thawed.
    Frozen,
    /// It was asked for and is on its way.
    Thawing,
    /// At once, until then by the store's clock (`None`: the store does not say).
    Thawed(Option<Timestamp>),
}

/// A place in which objects freeze: they are kept for little money, and cannot be read before they thaw.
///
/// [`Backend::get_range`] of what is frozen fails with [`ErrorKind::Frozen`]; nothing thaws unless it is asked for here. Writing, deleting and
/// listing need no thaw.
pub trait Thaw: Send + Sync {
    /// Whether an object can be read.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without such an object, otherwise [`ErrorKind::Unavailable`].
    fn frost(&self, name: &ObjectName) -> Result<Frost>;

    /// Lets an object freeze that was written and read back. Does nothing where it is frozen already.
    ///
    /// # Errors
    /// As [`Thaw::frost`].
    fn freeze(&self, name: &ObjectName) -> Result<()>;

    /// Asks for an object, by a way to thaw that the store knows, so that it can be read for so many days. Costs money. Does not wait. Asking again
    /// for what is on its way does nothing.
    ///
    /// # Errors
    /// As [`Thaw::frost`]; [`ErrorKind::Invalid`] where the store does not know `class`.
    fn thaw(&self, name: &ObjectName, class: &str, days: u32) -> Result<()>;
}

/// An object being written. Dropped without [`ObjectWriter::finish`] it leaves nothing visible.
pub trait ObjectWriter: Send {
    /// Appends bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`]; the writer is then poisoned, and every later call fails too.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the object durable and visible, if no object of this name exists.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] where one does (it stays as it is, and is durable; not so for [`Backend::replace`]), otherwise
    /// [`ErrorKind::Unavailable`]; the object may then exist, whole but perhaps not durable.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Conveniences over every [`Backend`].
pub trait BackendExt: Backend {
    /// Writes a whole object, if no object of this name exists.
    ///
    /// # Errors
    /// As [`ObjectWriter::finish`].
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        let mut writer = self.create(name)?;
        writer.write(bytes)?;
        writer.finish()
    }

    /// As [`Backend::get_whole`].
    ///
    /// # Errors
    /// The same. What is too large, cut off or not icecore's breaks rule OBJ-1: it is that one object which is wrong.
    fn get(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>> {
        self.get_whole(name, size_max).map_err(|error| match error.kind() {
            ErrorKind::Damaged if error.broken_rule().is_none() => Error::rule("OBJ-1", error.to_string()),
            _ => error,
        })
    }

    /// All objects of a kind, each once, sorted by name. Names that icecore did not write are left out.
    ///
    /// # Errors
    /// As [`Backend::list`].
    fn list_sorted(&self, kind: ObjectKind) -> Result<Vec<ObjectInfo>> {
        let mut objects = Vec::new();
        self.list(
            kind,
            &mut |object| {
                objects.push(object);
                Ok(())
            },
            &mut |_| Ok(()),
        )?;
        objects.sort();
        objects.dedup_by_key(|object| object.name);
        Ok(objects)
    }
}

impl<B: Backend + ?Sized> BackendExt for B {}
