//! A backend that asks before and after each call: tests in which something happens, fails or stops at a certain moment.

use super::Operation;
use crate::backend::{Backend, ObjectInfo, ObjectKind, ObjectName, ObjectWriter, Retain, Thaw};
use crate::error::Result;
use parking_lot::Mutex;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A call as a hook sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What is asked for.
    pub operation: Operation,
    /// Of which kind of objects.
    pub kind: ObjectKind,
    /// Of which object; `None` for a listing.
    pub name: Option<ObjectName>,
    /// Which bytes are read; empty for everything but [`Operation::GetRange`].
    pub range: Range<u64>,
    /// Whether it was done, and well. Otherwise it is about to be done.
    pub is_done: bool,
}

type Hook = dyn Fn(&Call) -> Result<()> + Send + Sync;

/// Passes everything on, and calls a hook before each call and after each that went well. What the hook fails with is the answer.
pub struct HookedBackend {
    inner: Arc<dyn Backend>,
    hook: Box<Hook>,
    at_once: usize,
}

impl HookedBackend {
    /// Passes everything on to `inner`. The hook may use `inner`, too.
    pub fn new(inner: Arc<dyn Backend>, hook: impl Fn(&Call) -> Result<()> + Send + Sync + 'static) -> Self {
        let at_once = inner.at_once();
        Self { inner, hook: Box::new(hook), at_once }
    }

    /// The same, of which so much is asked at once: as of a store that is far away.
    #[must_use]
    pub fn asked_at_once(self, count: usize) -> Self {
        Self { at_once: count, ..self }
    }

    fn run<T>(&self, operation: Operation, name: &ObjectName, range: Range<u64>, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.call(Call { operation, kind: name.kind(), name: Some(*name), range, is_done: false }, work)
    }

    fn call<T>(&self, call: Call, work: impl FnOnce() -> Result<T>) -> Result<T> {
        (self.hook)(&call)?;
        let answer = work()?;
        (self.hook)(&Call { is_done: true, ..call })?;
        Ok(answer)
    }
}

impl fmt::Debug for HookedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedBackend").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Backend for HookedBackend {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        let inner = self.run(Operation::Create, name, 0..0, || self.inner.create(name))?;
        Ok(Box::new(HookedWriter { backend: self, name: *name, inner }))
    }

    fn replace(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        let inner = self.run(Operation::Create, name, 0..0, || self.inner.replace(name))?;
        Ok(Box::new(HookedWriter { backend: self, name: *name, inner }))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        let range = offset..offset.saturating_add(length as u64);
        self.run(Operation::GetRange, name, range, || self.inner.get_range(name, offset, length))
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.run(Operation::Size, name, 0..0, || self.inner.size(name))
    }

    fn list(
        &self,
        kind: ObjectKind,
        visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
        stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let call = Call { operation: Operation::List, kind, name: None, range: 0..0, is_done: false };
        self.call(call, || self.inner.list(kind, visit, stranger))
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.run(Operation::Delete, name, 0..0, || self.inner.delete(name))
    }

    fn make_durable(&self, names: &[ObjectName]) -> Result<()> {
        names.iter().try_for_each(|name| self.run(Operation::MakeDurable, name, 0..0, || self.inner.make_durable(&[*name])))
    }

    fn hold(&self, name: &ObjectName) -> Result<Option<Box<dyn Send>>> {
        self.inner.hold(name)
    }

    fn is_held(&self, name: &ObjectName) -> Result<Option<bool>> {
        self.inner.is_held(name)
    }

    fn at_once(&self) -> usize {
        self.at_once
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

struct HookedWriter<'a> {
    backend: &'a HookedBackend,
    name: ObjectName,
    inner: Box<dyn ObjectWriter + 'a>,
}

impl ObjectWriter for HookedWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let inner = &mut self.inner;
        self.backend.run(Operation::Write, &self.name, 0..0, || inner.write(bytes))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let Self { backend, name, inner } = *self;
        backend.run(Operation::Finish, &name, 0..0, || inner.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{BackendExt, MemoryBackend, testing::contract};
    use crate::error::{Error, ErrorKind};
    use parking_lot::Mutex;

    #[test]
    fn keeps_the_contract() {
        contract::check(|| Box::new(HookedBackend::new(Arc::new(MemoryBackend::new()), |_| Ok(()))));
    }

    #[test]
    fn a_hook_sees_each_call_and_what_it_fails_with_is_the_answer() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let calls = Arc::clone(&seen);
        let memory = MemoryBackend::new();
        let backend = HookedBackend::new(Arc::new(memory.clone()), move |call| {
            calls.lock().push((call.operation, call.is_done));
            match (call.operation, call.is_done) {
                (Operation::Finish, true) => Err(Error::new(ErrorKind::Unavailable, "its answer is lost")),
                (Operation::Delete, false) => Err(Error::new(ErrorKind::Unavailable, "it is not done")),
                _ => Ok(()),
            }
        });
        let name = ObjectName::config(1);
        assert_eq!(backend.put(&name, b"four").unwrap_err().kind(), ErrorKind::Unavailable);
        backend.delete(&name).unwrap_err();
        assert_eq!(memory.get(&name, 9).unwrap(), b"four");
        let expected = [Operation::Create, Operation::Write, Operation::Finish].into_iter().flat_map(|call| [(call, false), (call, true)]);
        assert_eq!(*seen.lock(), expected.chain([(Operation::Delete, false)]).collect::<Vec<_>>());
    }
}

/// What was made, made durable and deleted, one after the other: tests of what comes before what.
#[derive(Debug, Default)]
pub struct Order(Mutex<Vec<(Operation, ObjectName)>>);

impl Order {
    /// `inner`, and the order of what is done to it through this.
    pub fn of(inner: Arc<dyn Backend>) -> (Arc<dyn Backend>, Arc<Self>) {
        let order = Arc::new(Self::default());
        let noted = Arc::clone(&order);
        let hooked = HookedBackend::new(inner, move |call| {
            let is_change = matches!(call.operation, Operation::MakeDurable | Operation::Finish | Operation::Delete);
            if let Some(name) = call.name.filter(|_| is_change && call.is_done) {
                noted.0.lock().push((call.operation, name));
            }
            Ok(())
        });
        (Arc::new(hooked), order)
    }

    /// How many came before the first of its kind; `None` where there was none.
    pub fn first(&self, operation: Operation, is_meant: impl Fn(&ObjectName) -> bool) -> Option<usize> {
        self.0.lock().iter().position(|(done, name)| *done == operation && is_meant(name))
    }

    /// How many came before it.
    ///
    /// # Panics
    /// Where it was not done.
    pub fn at(&self, operation: Operation, name: ObjectName) -> usize {
        self.first(operation, |done| *done == name).unwrap_or_else(|| panic!("{operation:?} {name} was not done"))
    }
}
