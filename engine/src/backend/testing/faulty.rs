//! A backend that fails and lies on demand: tests of what the layers above do about it.
//!
//! The same faults, seed and order of calls give the same failures.

use super::Operation;
use crate::backend::{Backend, ObjectInfo, ObjectKind, ObjectName, ObjectWriter, Retain, Thaw};
use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::sync::Arc;

/// Passes everything on, except where it was told to fail.
#[derive(Debug)]
pub struct FaultyBackend {
    inner: Arc<dyn Backend>,
    plan: Mutex<Plan>,
}

#[derive(Debug)]
struct Plan {
    random: u64,
    calls: [u64; Operation::COUNT],
    faults: Vec<Fault>,
    one_in: [Option<u64>; Operation::COUNT],
    flips: Vec<(ObjectName, u64, u8)>,
}

#[derive(Debug, Clone, Copy)]
struct Fault {
    operation: Operation,
    call: u64,
    way: Way,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nothing is done.
    Fail,
    /// It is done, but the answer is a failure.
    LoseAnswer,
    /// Fewer bytes are answered, without saying so.
    Shorten,
}

impl FaultyBackend {
    /// Passes everything on to `inner`, for now. What is chosen at random comes from `seed`.
    pub fn new(inner: Arc<dyn Backend>, seed: u64) -> Self {
        let plan =
            Plan { random: seed, calls: [0; Operation::COUNT], faults: Vec::new(), one_in: [None; Operation::COUNT], flips: Vec::new() };
        Self { inner, plan: Mutex::new(plan) }
    }

    /// Makes the `nth` call of `operation` from now fail (1: the next one) with [`ErrorKind::Unavailable`], without doing anything.
    pub fn fail(&self, operation: Operation, nth: u64) {
        self.plan.lock().add(operation, nth, Way::Fail);
    }

    /// Makes the `nth` call of `operation` from now do its work and then say that it failed, as when the answer is lost on the way.
    pub fn lose_answer(&self, operation: Operation, nth: u64) {
        self.plan.lock().add(operation, nth, Way::LoseAnswer);
    }

    /// Makes the `nth` `get_range` from now answer fewer bytes than it was asked for, against the contract.
    pub fn shorten(&self, nth: u64) {
        self.plan.lock().add(Operation::GetRange, nth, Way::Shorten);
    }

    /// Makes one in `one_in` calls of `operation` fail, chosen at random.
    ///
    /// # Panics
    /// Where `one_in` is 0.
    pub fn fail_some(&self, operation: Operation, one_in: u64) {
        assert!(one_in > 0, "one in 0 calls cannot fail");
        self.plan.lock().one_in[operation.index()] = Some(one_in);
    }

    /// Flips one bit, chosen at random, of the byte at `offset` of an object, in whatever is read of it from now on.
    pub fn flip(&self, name: &ObjectName, offset: u64) {
        let mut plan = self.plan.lock();
        let bit = 1 << (plan.random() % 8);
        plan.flips.push((*name, offset, bit));
    }

    /// Takes back all faults that were asked for.
    pub fn heal(&self) {
        let mut plan = self.plan.lock();
        plan.faults.clear();
        plan.one_in = [None; Operation::COUNT];
        plan.flips.clear();
    }

    /// Runs `work` as one call of `operation`, unless it is to fail.
    fn run<T>(&self, operation: Operation, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let way = self.plan.lock().call(operation);
        let fault = || Error::new(ErrorKind::Unavailable, format!("{name}: {operation:?} fails as it was told to"));
        match way {
            None | Some(Way::Shorten) => work(),
            Some(Way::Fail) => Err(fault()),
            Some(Way::LoseAnswer) => work().and_then(|_| Err(fault())),
        }
    }
}

impl Plan {
    fn add(&mut self, operation: Operation, nth: u64, way: Way) {
        self.faults.push(Fault { operation, call: self.calls[operation.index()] + nth, way });
    }

    /// Counts a call and says what is wrong with it.
    fn call(&mut self, operation: Operation) -> Option<Way> {
        self.calls[operation.index()] += 1;
        let call = self.calls[operation.index()];
        let told = self.faults.iter().find(|fault| fault.operation == operation && fault.call == call).map(|fault| fault.way);
        let by_chance = self.one_in[operation.index()].is_some_and(|one_in| self.random().is_multiple_of(one_in));
        told.or(by_chance.then_some(Way::Fail))
    }

    /// The next number of SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn flip(&self, name: &ObjectName, offset: u64, bytes: &mut [u8]) {
        for (_, at, bit) in self.flips.iter().filter(|(flipped, ..)| flipped == name) {
            let at = at.checked_sub(offset).and_then(|at| usize::try_from(at).ok());
            if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
                *byte ^= bit;
            }
        }
    }
}

impl Backend for FaultyBackend {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        let inner = self.run(Operation::Create, &name.to_string(), || self.inner.create(name))?;
        Ok(Box::new(FaultyWriter { backend: self, name: *name, inner, poisoned: false }))
    }

    fn replace(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        let inner = self.run(Operation::Create, &name.to_string(), || self.inner.replace(name))?;
        Ok(Box::new(FaultyWriter { backend: self, name: *name, inner, poisoned: false }))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut plan = self.plan.lock();
        let way = plan.call(Operation::GetRange);
        if matches!(way, Some(Way::Fail | Way::LoseAnswer)) {
            return Err(Error::new(ErrorKind::Unavailable, format!("{name}: reading fails as it was told to")));
        }
        drop(plan);
        let mut bytes = self.inner.get_range(name, offset, length)?;
        let mut plan = self.plan.lock();
        plan.flip(name, offset, &mut bytes);
        if way == Some(Way::Shorten) && !bytes.is_empty() {
            let kept = plan.random() % bytes.len() as u64;
            bytes.truncate(usize::try_from(kept).unwrap_or(0));
        }
        Ok(bytes)
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.run(Operation::Size, &name.to_string(), || self.inner.size(name))
    }

    fn list(
        &self,
        kind: ObjectKind,
        visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
        stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        self.run(Operation::List, kind.folder(), || self.inner.list(kind, visit, stranger))
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.run(Operation::Delete, &name.to_string(), || self.inner.delete(name))
    }

    fn make_durable(&self, names: &[ObjectName]) -> Result<()> {
        self.run(Operation::MakeDurable, "making objects durable", || self.inner.make_durable(names))
    }

    fn hold(&self, name: &ObjectName) -> Result<Option<Box<dyn Send>>> {
        self.run(Operation::Hold, &name.to_string(), || self.inner.hold(name))
    }

    fn is_held(&self, name: &ObjectName) -> Result<Option<bool>> {
        self.run(Operation::Hold, &name.to_string(), || self.inner.is_held(name))
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

struct FaultyWriter<'a> {
    backend: &'a FaultyBackend,
    name: ObjectName,
    inner: Box<dyn ObjectWriter + 'a>,
    poisoned: bool,
}

impl FaultyWriter<'_> {
    fn check(&self) -> Result<()> {
        match self.poisoned {
            false => Ok(()),
            true => Err(Error::new(ErrorKind::Unavailable, format!("{}: an earlier write failed", self.name))),
        }
    }
}

impl ObjectWriter for FaultyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.check()?;
        let result = self.backend.run(Operation::Write, &self.name.to_string(), || self.inner.write(bytes));
        self.poisoned = result.is_err();
        result
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.check()?;
        self.backend.run(Operation::Finish, &self.name.to_string(), || self.inner.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{BackendExt, MemoryBackend, testing::contract};

    fn backend() -> (FaultyBackend, ObjectName) {
        (FaultyBackend::new(Arc::new(MemoryBackend::new()), 7), ObjectName::config(1))
    }

    #[test]
    fn keeps_the_contract_without_faults() {
        contract::check(|| Box::new(backend().0));
    }

    #[test]
    fn the_nth_call_fails_and_poisons() {
        let (backend, name) = backend();
        backend.fail(Operation::Write, 2);
        let mut writer = backend.create(&name).unwrap();
        writer.write(b"a").unwrap();
        for _ in 0..2 {
            assert_eq!(writer.write(b"b").unwrap_err().kind(), ErrorKind::Unavailable);
        }
        assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::Unavailable);
        backend.put(&name, b"c").unwrap();
        assert_eq!(backend.get(&name, 1).unwrap(), b"c");
    }

    #[test]
    fn a_lost_answer_leaves_the_object() {
        let (backend, name) = backend();
        backend.lose_answer(Operation::Finish, 1);
        assert_eq!(backend.put(&name, b"there").unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(backend.put(&name, b"there").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(backend.get(&name, 5).unwrap(), b"there");
    }

    #[test]
    fn reads_are_shortened_once_and_flipped_until_healed() {
        let (backend, name) = backend();
        backend.put(&name, &[0; 10]).unwrap();
        backend.shorten(1);
        assert!(backend.get_range(&name, 0, 10).unwrap().len() < 10);
        backend.flip(&name, 4);
        for offset in 0..5 {
            let bytes = backend.get_range(&name, offset as u64, 5).unwrap();
            let changed: Vec<_> = (0..5).filter(|&at| bytes[at] != 0).collect();
            assert_eq!(changed, [4 - offset]);
            assert_eq!(bytes[4 - offset].count_ones(), 1);
        }
        assert_eq!(backend.get_range(&name, 5, 5).unwrap(), [0; 5]);
        backend.heal();
        assert_eq!(backend.get_range(&name, 0, 10).unwrap(), [0; 10]);
    }

    #[test]
    fn chance_comes_from_the_seed() {
        let run = |seed| {
            let backend = FaultyBackend::new(Arc::new(MemoryBackend::new()), seed);
            backend.put(&ObjectName::config(1), b"").unwrap();
            backend.fail_some(Operation::Size, 3);
            (0..60).map(|_| backend.size(&ObjectName::config(1)).is_err()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let failed = run(1).into_iter().filter(|failed| *failed).count();
        assert!((8..40).contains(&failed), "{failed} of 60 failed");
    }
}
