//! Objects in memory, for tests and for callers that keep a repository only for a moment.
//!
//! Clones share their objects, as two handles on one folder do. Nothing survives the last clone.

use super::{Backend, ObjectInfo, ObjectKind, ObjectName, ObjectWriter};
use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Keeps objects in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryBackend {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    objects: Mutex<BTreeMap<ObjectName, Arc<[u8]>>>,
    holders: Mutex<HashMap<ObjectName, usize>>,
}

impl MemoryBackend {
    /// Without any object.
    pub fn new() -> Self {
        Self::default()
    }

    fn object(&self, name: &ObjectName) -> Result<Arc<[u8]>> {
        self.shared.objects.lock().get(name).cloned().ok_or_else(|| missing(name))
    }
}

impl Backend for MemoryBackend {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        Ok(Box::new(MemoryWriter { shared: &self.shared, name: *name, bytes: Vec::new(), replaces: false }))
    }

    fn replace(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        Ok(Box::new(MemoryWriter { shared: &self.shared, name: *name, bytes: Vec::new(), replaces: true }))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        let object = self.object(name)?;
        let range = usize::try_from(offset).ok().and_then(|start| object.get(start..start.checked_add(length)?));
        range.map(<[u8]>::to_vec).ok_or_else(|| {
            let message = format!("{name}: {} bytes, expected {length} more from {offset}", object.len());
            Error::new(ErrorKind::Damaged, message)
        })
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        Ok(self.object(name)?.len() as u64)
    }

    fn list(
        &self,
        kind: ObjectKind,
        visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
        _stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        // Taken first, so that `visit` may use this backend.
        let objects: Vec<ObjectInfo> = self
            .shared
            .objects
            .lock()
            .iter()
            .filter(|(name, _)| name.kind() == kind)
            .map(|(name, bytes)| ObjectInfo { name: *name, size: bytes.len() as u64 })
            .collect();
        objects.into_iter().try_for_each(visit)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.shared.objects.lock().remove(name).map(drop).ok_or_else(|| missing(name))
    }

    fn hold(&self, name: &ObjectName) -> Result<Option<Box<dyn Send>>> {
        self.object(name)?;
        *self.shared.holders.lock().entry(*name).or_default() += 1;
        Ok(Some(Box::new(Hold { shared: Arc::clone(&self.shared), name: *name })))
    }

    fn is_held(&self, name: &ObjectName) -> Result<Option<bool>> {
        self.object(name)?;
        Ok(Some(self.shared.holders.lock().contains_key(name)))
    }

    fn describe(&self) -> String {
        "memory".into()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The objects' bytes would fill the screen.
        f.debug_struct("Shared").field("objects", &self.objects.lock().len()).finish_non_exhaustive()
    }
}

struct MemoryWriter<'a> {
    shared: &'a Shared,
    name: ObjectName,
    bytes: Vec<u8>,
    replaces: bool,
}

impl ObjectWriter for MemoryWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let mut objects = self.shared.objects.lock();
        if !self.replaces && objects.contains_key(&self.name) {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("{}: exists already", self.name)));
        }
        objects.insert(self.name, self.bytes.into());
        Ok(())
    }
}

struct Hold {
    shared: Arc<Shared>,
    name: ObjectName,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holders = self.shared.holders.lock();
        if let Some(count) = holders.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                holders.remove(&self.name);
            }
        }
    }
}

fn missing(name: &ObjectName) -> Error {
    Error::new(ErrorKind::NotFound, format!("{name}: no such object"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{BackendExt, testing::contract};

    #[test]
    fn keeps_the_contract() {
        contract::check(|| Box::new(MemoryBackend::new()));
    }

    #[test]
    fn clones_share_objects() {
        let one = MemoryBackend::new();
        let other = one.clone();
        let name = ObjectName::config(1);
        one.put(&name, b"shared").unwrap();
        assert_eq!(other.get(&name, 100).unwrap(), b"shared");
    }
}
