//! A backend in which objects freeze, and thaw when the test says so: for tests of what thaws and what must not.

use crate::backend::{Backend, Frost, ObjectInfo, ObjectKind, ObjectName, ObjectWriter, Thaw};
use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Passes everything on, but for what is frozen.
#[derive(Debug)]
pub struct FreezingBackend {
    inner: Arc<dyn Backend>,
    /// The frost of what is not warm, and what was asked for.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    frost: BTreeMap<ObjectName, Frost>,
    asked: Vec<(ObjectName, String, u32)>,
}

impl FreezingBackend {
    /// What `inner` has is warm.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// So many of the objects that are on their way have thawed now, in the order of their names. Gives how many are still on their way.
    pub fn pass_time(&self, objects: usize) -> usize {
        let mut state = self.state.lock();
        let thawing = state.frost.values_mut().filter(|frost| **frost == Frost::Thawing);
        let left = thawing.enumerate().map(|(at, frost)| {
            if at < objects {
                *frost = Frost::Thawed(None);
            }
            usize::from(at >= objects)
        });
        left.sum()
    }

    /// What has thawed freezes again.
    pub fn expire(&self) {
        let mut state = self.state.lock();
        state.frost.values_mut().filter(|frost| matches!(frost, Frost::Thawed(_))).for_each(|frost| *frost = Frost::Frozen);
    }

    /// What was asked for, in order: object, class, days.
    pub fn asked(&self) -> Vec<(ObjectName, String, u32)> {
        self.state.lock().asked.clone()
    }

    fn require(&self, name: &ObjectName) -> Result<()> {
        match self.state.lock().frost.get(name) {
            Some(Frost::Frozen | Frost::Thawing) => Err(Error::new(ErrorKind::Frozen, format!("{name}: is frozen"))),
            _ => Ok(()),
        }
    }
}

impl Thaw for FreezingBackend {
    fn frost(&self, name: &ObjectName) -> Result<Frost> {
        self.inner.size(name)?;
        Ok(self.state.lock().frost.get(name).copied().unwrap_or(Frost::Warm))
    }

    fn freeze(&self, name: &ObjectName) -> Result<()> {
        self.inner.size(name)?;
        self.state.lock().frost.entry(*name).or_insert(Frost::Frozen);
        Ok(())
    }

    fn thaw(&self, name: &ObjectName, class: &str, days: u32) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(frost @ Frost::Frozen) = state.frost.get_mut(name) {
            *frost = Frost::Thawing;
            state.asked.push((*name, class.to_owned(), days));
        }
        Ok(())
    }
}

impl Backend for FreezingBackend {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        self.inner.create(name)
    }

    fn replace(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        self.inner.replace(name)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.require(name)?;
        self.inner.get_range(name, offset, length)
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
        self.inner.delete(name)?;
        self.state.lock().frost.remove(name);
        Ok(())
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

    fn thawing(&self) -> Option<&dyn Thaw> {
        Some(self)
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{BackendExt, MemoryBackend, testing::contract};

    #[test]
    fn keeps_the_contract() {
        contract::check(|| Box::new(FreezingBackend::new(Arc::new(MemoryBackend::new()))));
    }

    #[test]
    fn what_is_frozen_is_read_after_it_thawed() {
        let backend = FreezingBackend::new(Arc::new(MemoryBackend::new()));
        let name = ObjectName::config(1);
        backend.put(&name, b"ice").unwrap();
        backend.freeze(&name).unwrap();
        assert_eq!(backend.get(&name, 9).unwrap_err().kind(), ErrorKind::Frozen);
        backend.thaw(&name, "bulk", 3).unwrap();
        backend.thaw(&name, "bulk", 3).unwrap();
        assert_eq!((backend.frost(&name).unwrap(), backend.pass_time(0)), (Frost::Thawing, 1));
        assert_eq!(backend.get(&name, 9).unwrap_err().kind(), ErrorKind::Frozen);
        assert_eq!(backend.pass_time(1), 0);
        assert_eq!(backend.get(&name, 9).unwrap(), b"ice");
        assert_eq!(backend.asked(), [(name, "bulk".to_owned(), 3)]);
    }
}
