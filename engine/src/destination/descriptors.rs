//! A bounded set of open descriptors by key; the one used longest ago goes first.

use crate::entry::Key;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Longer keys are not kept, so that the memory is bounded too; what belongs to them is opened each time.
const KEY_BYTES_MAX: usize = 16 * 1024;

/// Open descriptors (or things that hold one) by key.
#[derive(Debug)]
pub(super) struct DescriptorCache<T> {
    slots: Mutex<Slots<T>>,
    count_max: usize,
}

#[derive(Debug)]
struct Slots<T> {
    by_key: HashMap<Key, (u64, Arc<T>)>,
    uses: u64,
}

impl<T> DescriptorCache<T> {
    /// Keeps at most `count_max`.
    pub(super) fn new(count_max: usize) -> Self {
        Self { slots: Mutex::new(Slots { by_key: HashMap::with_capacity(count_max), uses: 0 }), count_max }
    }

    /// What is kept for `key`; that counts as a use.
    pub(super) fn get(&self, key: &[u8]) -> Option<Arc<T>> {
        let mut slots = self.slots.lock();
        slots.uses += 1;
        let now = slots.uses;
        let (used, value) = slots.by_key.get_mut(key)?;
        *used = now;
        Some(Arc::clone(value))
    }

    /// Keeps `value` for `key`, in place of what was kept for it.
    pub(super) fn insert(&self, key: &[u8], value: Arc<T>) {
        if key.len() > KEY_BYTES_MAX {
            return;
        }
        let mut slots = self.slots.lock();
        slots.uses += 1;
        let now = slots.uses;
        let replaced = slots.by_key.insert(key.to_vec(), (now, value));
        let mut evicted = None;
        if slots.by_key.len() > self.count_max {
            let oldest = slots.by_key.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            evicted = oldest.and_then(|key| slots.by_key.remove(&key));
        }
        drop(slots);
        // Closing a file may take long: outside the lock.
        drop((replaced, evicted));
    }

    /// Stops keeping what is kept for `key`, and returns it.
    pub(super) fn take(&self, key: &[u8]) -> Option<Arc<T>> {
        self.slots.lock().by_key.remove(key).map(|(_, value)| value)
    }

    /// How many are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.lock().by_key.len()
    }
}
