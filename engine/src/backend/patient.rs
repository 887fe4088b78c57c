//! A backend over a store whose listings lag behind: it waits until they do not.
//!
//! The contract wants every listing to show what was finished before it began, and the write orders rely on that. A store that shows everything
//! only after some time, which has a bound, keeps the contract where each listing waits for that long first: then it shows all that was there when
//! it was asked for. One bound for each listing is slow, and right in every place, with no rule of its own in what lies above.

use super::{Backend, ObjectInfo, ObjectKind, ObjectName, ObjectWriter, Retain, Thaw};
use crate::error::Result;
use crate::runtime::Clock;
use std::sync::Arc;
use std::time::Duration;

/// Passes everything on, listings after a wait.
#[derive(Debug)]
pub struct PatientBackend {
    inner: Arc<dyn Backend>,
    lag_ns: u64,
    clock: Arc<dyn Clock>,
}

impl PatientBackend {
    /// For an `inner` whose listings show everything that was finished, and nothing that was deleted, `lag_ns` nanoseconds before they began.
    /// Reading by name, and finding out whether a name is taken, must not lag at all.
    pub fn new(inner: Arc<dyn Backend>, lag_ns: u64, clock: Arc<dyn Clock>) -> Self {
        Self { inner, lag_ns, clock }
    }
}

impl Backend for PatientBackend {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        self.inner.create(name)
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
        self.clock.sleep_ns(self.lag_ns);
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
    use crate::backend::testing::contract;
    use crate::backend::{BackendExt, MemoryBackend};
    use crate::runtime::{StillClock, Timestamp};

    #[test]
    fn keeps_the_contract_and_waits_before_each_listing_and_for_nothing_else() {
        let clock = Arc::new(StillClock::new(Timestamp::default()));
        let patient = || PatientBackend::new(Arc::new(MemoryBackend::new()), 7, clock.clone());
        contract::check(|| Box::new(patient()));
        let (backend, began) = (patient(), clock.monotonic_ns());
        let name = ObjectName::config(1);
        backend.put(&name, b"ice").unwrap();
        assert_eq!(backend.get(&name, 10).unwrap(), b"ice");
        assert_eq!(clock.monotonic_ns(), began);
        assert_eq!(backend.list_sorted(ObjectKind::Config).unwrap().len(), 1);
        assert_eq!(clock.monotonic_ns(), began + 7);
        backend.delete(&name).unwrap();
        assert!(backend.list_sorted(ObjectKind::Config).unwrap().is_empty());
        assert_eq!(clock.monotonic_ns(), began + 14);
    }
}
