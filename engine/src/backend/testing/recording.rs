//! Counts what is asked of a backend: tests of how often and how much is read and written.

use super::Operation;
use crate::backend::{Backend, ObjectInfo, ObjectKind, ObjectName, ObjectWriter, Retain, Thaw};
use crate::error::Result;
use parking_lot::Mutex;
use std::sync::Arc;

/// How often an operation was asked for, and with how many bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Calls, also those that failed.
    pub calls: u64,
    /// Bytes written by calls, or read by those that succeeded; 0 for operations without any.
    pub bytes: u64,
}

/// Passes everything on and counts it.
#[derive(Debug)]
pub struct RecordingBackend {
    inner: Arc<dyn Backend>,
    counts: Mutex<[Count; Operation::COUNT]>,
}

impl RecordingBackend {
    /// Counts what is asked of `inner`.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner, counts: Mutex::default() }
    }

    /// What was counted for `operation` so far.
    pub fn count(&self, operation: Operation) -> Count {
        self.counts.lock()[operation.index()]
    }

    /// Starts all counts again from 0.
    pub fn reset(&self) {
        *self.counts.lock() = Default::default();
    }

    fn record(&self, operation: Operation, bytes: usize) {
        let count = &mut self.counts.lock()[operation.index()];
        count.calls += 1;
        count.bytes += bytes as u64;
    }
}

impl Backend for RecordingBackend {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        self.record(Operation::Create, 0);
        Ok(Box::new(RecordingWriter { backend: self, inner: self.inner.create(name)? }))
    }

    fn replace(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        self.record(Operation::Create, 0);
        Ok(Box::new(RecordingWriter { backend: self, inner: self.inner.replace(name)? }))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        let result = self.inner.get_range(name, offset, length);
        self.record(Operation::GetRange, result.as_ref().map_or(0, Vec::len));
        result
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.record(Operation::Size, 0);
        self.inner.size(name)
    }

    fn list(
        &self,
        kind: ObjectKind,
        visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
        stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        self.record(Operation::List, 0);
        self.inner.list(kind, visit, stranger)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.record(Operation::Delete, 0);
        self.inner.delete(name)
    }

    fn make_durable(&self, names: &[ObjectName]) -> Result<()> {
        self.record(Operation::MakeDurable, 0);
        self.inner.make_durable(names)
    }

    fn hold(&self, name: &ObjectName) -> Result<Option<Box<dyn Send>>> {
        self.record(Operation::Hold, 0);
        self.inner.hold(name)
    }

    fn is_held(&self, name: &ObjectName) -> Result<Option<bool>> {
        self.record(Operation::Hold, 0);
        self.inner.is_held(name)
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

struct RecordingWriter<'a> {
    backend: &'a RecordingBackend,
    inner: Box<dyn ObjectWriter + 'a>,
}

impl ObjectWriter for RecordingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.backend.record(Operation::Write, bytes.len());
        self.inner.write(bytes)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.backend.record(Operation::Finish, 0);
        self.inner.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{BackendExt, MemoryBackend, testing::contract};

    #[test]
    fn keeps_the_contract() {
        contract::check(|| Box::new(RecordingBackend::new(Arc::new(MemoryBackend::new()))));
    }

    #[test]
    fn counts_calls_and_bytes() {
        let backend = RecordingBackend::new(Arc::new(MemoryBackend::new()));
        let name = ObjectName::config(1);
        backend.put(&name, b"four").unwrap();
        backend.get_range(&name, 1, 2).unwrap();
        backend.get_range(&name, 1, 9).unwrap_err();
        assert_eq!(backend.count(Operation::Create), Count { calls: 1, bytes: 0 });
        assert_eq!(backend.count(Operation::Write), Count { calls: 1, bytes: 4 });
        assert_eq!(backend.count(Operation::Finish), Count { calls: 1, bytes: 0 });
        assert_eq!(backend.count(Operation::GetRange), Count { calls: 2, bytes: 2 });
        assert_eq!(backend.count(Operation::List), Count::default());
        backend.reset();
        assert_eq!(backend.count(Operation::Write), Count::default());
    }
}
