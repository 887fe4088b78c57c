//! Where objects live.
//!
//! A backend keeps named, immutable objects: written once, never changed, deleted only by garbage collection and
//! forget. It knows nothing of their content. Every backend passes the same contract suite (feature `testing`).
//!
//! The promise that everything above relies on: when [`ObjectWriter::finish`] returns `Ok`, the object is whole,
//! durable and visible to every later [`Backend::list`], [`Backend::size`] and [`Backend::get_range`]; before that it is invisible.

mod name;

pub use name::{ObjectKind, ObjectName};

use crate::error::{Error, ErrorKind, Result};
use std::fmt::Debug;

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectInfo {
    /// Its name.
    pub name: ObjectName,
    /// Its size in bytes.
    pub size: u64,
}

/// Keeps objects.
pub trait Backend: Send + Sync + Debug {
    /// Starts an object of this name; nothing is visible before [`ObjectWriter::finish`].
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the backend cannot take it.
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>>;

    /// Reads exactly `length` bytes from `offset`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without such an object, [`ErrorKind::Damaged`] where it is shorter, otherwise [`ErrorKind::Unavailable`].
    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>>;

    /// The object's size in bytes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without such an object, otherwise [`ErrorKind::Unavailable`].
    fn size(&self, name: &ObjectName) -> Result<u64>;

    /// Calls `visit` for every object of a kind, in no particular order, and `stranger` for every name found there that icecore did not write.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`], or what `visit` or `stranger` returns.
    fn list(
        &self,
        kind: ObjectKind,
        visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
        stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()>;

    /// Deletes an object, durably.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without such an object, otherwise [`ErrorKind::Unavailable`].
    fn delete(&self, name: &ObjectName) -> Result<()>;

    /// Where this backend is, for people.
    fn describe(&self) -> String;
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
    /// [`ErrorKind::AlreadyExists`] where one does (it stays as it is), otherwise [`ErrorKind::Unavailable`].
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

    /// Reads a whole object of at most `size_max` bytes.
    ///
    /// # Errors
    /// As [`Backend::get_range`]; [`ErrorKind::Damaged`] where it is larger than `size_max`.
    fn get(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>> {
        let size = self.size(name)?;
        if size > size_max {
            return Err(Error::new(ErrorKind::Damaged, format!("{name}: {size} bytes, at most {size_max} are allowed")));
        }
        self.get_range(name, 0, usize::try_from(size).map_err(|_| Error::new(ErrorKind::Damaged, format!("{name}: {size} bytes")))?)
    }

    /// All objects of a kind, sorted by name. Names that icecore did not write are left out.
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
        Ok(objects)
    }
}

impl<B: Backend + ?Sized> BackendExt for B {}
