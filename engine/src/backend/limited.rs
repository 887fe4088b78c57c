//! A backend that takes its time: so many bytes a second to the store and from it.
//!
//! Bytes are paid for before they move, but for whole objects, whose size is not known before. What was not used for a while is not saved up,
//! but for a tenth of a second. Listings, sizes and deletions cost nothing: their bytes are few.

use super::{Backend, ObjectInfo, ObjectKind, ObjectName, ObjectWriter, Retain, Thaw};
use crate::error::Result;
use crate::runtime::Clock;
use parking_lot::Mutex;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

/// Bytes that are written after one wait.
const PIECE: usize = 64 << 10;
/// Nanoseconds of rest that may be made up for.
const BURST_NS: u64 = 100_000_000;

/// Bytes per second; `None` for as fast as can be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// To the store.
    pub upload: Option<NonZeroU64>,
    /// From the store.
    pub download: Option<NonZeroU64>,
}

/// Passes everything on, no faster than its limits allow, all threads together.
#[derive(Debug)]
pub struct LimitedBackend {
    inner: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    upload: Option<Meter>,
    download: Option<Meter>,
}

/// When the next byte may move.
#[derive(Debug)]
struct Meter {
    rate: NonZeroU64,
    free_at_ns: Mutex<u64>,
}

impl LimitedBackend {
    /// Limits `inner`; time passes, and is waited for, on `clock`.
    pub fn new(inner: Arc<dyn Backend>, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let meter = |rate: Option<NonZeroU64>| rate.map(|rate| Meter { rate, free_at_ns: Mutex::new(0) });
        Self { inner, clock, upload: meter(limits.upload), download: meter(limits.download) }
    }
}

impl Meter {
    /// Waits until so many bytes may move.
    fn pay(&self, bytes: usize, clock: &dyn Clock) {
        let price = u128::from(bytes as u64) * 1_000_000_000 / u128::from(self.rate.get());
        let now = clock.monotonic_ns();
        let free_at = {
            let mut free_at = self.free_at_ns.lock();
            *free_at = (*free_at).max(now.saturating_sub(BURST_NS)).saturating_add(u64::try_from(price).unwrap_or(u64::MAX));
            *free_at
        };
        if free_at > now {
            clock.sleep_ns(free_at - now);
        }
    }
}

impl Backend for LimitedBackend {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        Ok(Box::new(LimitedWriter { backend: self, inner: self.inner.create(name)? }))
    }

    fn replace(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        Ok(Box::new(LimitedWriter { backend: self, inner: self.inner.replace(name)? }))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        if let Some(meter) = &self.download {
            meter.pay(length, &*self.clock);
        }
        self.inner.get_range(name, offset, length)
    }

    fn get_whole(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>> {
        let bytes = self.inner.get_whole(name, size_max)?;
        if let Some(meter) = &self.download {
            meter.pay(bytes.len(), &*self.clock);
        }
        Ok(bytes)
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

struct LimitedWriter<'a> {
    backend: &'a LimitedBackend,
    inner: Box<dyn ObjectWriter + 'a>,
}

impl ObjectWriter for LimitedWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(meter) = &self.backend.upload else { return self.inner.write(bytes) };
        bytes.chunks(PIECE).try_for_each(|piece| {
            meter.pay(piece.len(), &*self.backend.clock);
            self.inner.write(piece)
        })
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.inner.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::testing::contract;
    use crate::backend::{BackendExt, MemoryBackend};
    use crate::runtime::{StillClock, Timestamp};

    fn limited(upload: u64, download: u64) -> (LimitedBackend, Arc<StillClock>) {
        let clock = Arc::new(StillClock::new(Timestamp::default()));
        clock.advance(10);
        let limits = Limits { upload: NonZeroU64::new(upload), download: NonZeroU64::new(download) };
        (LimitedBackend::new(Arc::new(MemoryBackend::new()), limits, clock.clone()), clock)
    }

    #[test]
    fn keeps_the_contract() {
        contract::check(|| Box::new(limited(1 << 30, 1 << 30).0));
    }

    #[test]
    fn bytes_take_their_time() {
        let (backend, clock) = limited(1_000, 500);
        let name = ObjectName::config(1);
        let passed = |work: &dyn Fn()| {
            let began = clock.monotonic_ns();
            work();
            (clock.monotonic_ns() - began) / 1_000_000
        };
        assert_eq!(passed(&|| backend.put(&name, &[0; 200_000]).unwrap()), 200_000 - 100, "a tenth of a second had been saved up");
        assert_eq!(passed(&|| drop(backend.get(&name, 1 << 20).unwrap())), 400_000 - 100);
        assert_eq!(passed(&|| drop(backend.get_range(&name, 0, 50).unwrap())), 100, "nothing is saved up at work");
        clock.advance(60);
        assert_eq!(passed(&|| drop(backend.get_range(&name, 0, 50).unwrap())), 0, "but at rest");
        assert_eq!(passed(&|| drop(backend.list_sorted(ObjectKind::Config).unwrap())), 0);
    }

    #[test]
    fn without_limits_nothing_waits() {
        let (backend, clock) = limited(0, 0);
        let began = clock.monotonic_ns();
        backend.put(&ObjectName::config(1), &[0; 200_000]).unwrap();
        backend.get(&ObjectName::config(1), 1 << 20).unwrap();
        assert_eq!(clock.monotonic_ns(), began);
    }
}
