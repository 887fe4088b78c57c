//! Open files of the packs that were read last: a restore reads many frames of the same pack.

use crate::backend::ObjectName;
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use std::sync::Arc;

/// A restore works on a few packs at a time; more would keep deleted packs on the disk for longer.
const HANDLES_MAX: usize = 16;

/// The last one used is the last in the list.
#[derive(Debug, Default)]
pub(super) struct Handles(Mutex<Vec<(ObjectName, Arc<OwnedFd>)>>);

impl Handles {
    pub(super) fn get(&self, name: &ObjectName) -> Option<Arc<OwnedFd>> {
        let mut handles = self.0.lock();
        let at = handles.iter().position(|(held, _)| held == name)?;
        handles[at..].rotate_left(1);
        handles.last().map(|(_, file)| Arc::clone(file))
    }

    pub(super) fn insert(&self, name: &ObjectName, file: &Arc<OwnedFd>) {
        let mut handles = self.0.lock();
        handles.retain(|(held, _)| held != name);
        if handles.len() == HANDLES_MAX {
            handles.remove(0);
        }
        handles.push((*name, Arc::clone(file)));
    }

    pub(super) fn remove(&self, name: &ObjectName) {
        self.0.lock().retain(|(held, _)| held != name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_one_goes() {
        let handles = Handles::default();
        let file = Arc::new(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        let name = ObjectName::epoch;
        for number in 0..16 {
            handles.insert(&name(number), &file);
        }
        assert!(handles.get(&name(0)).is_some());
        handles.insert(&name(16), &file);
        assert!(handles.get(&name(0)).is_some() && handles.get(&name(2)).is_some() && handles.get(&name(16)).is_some());
        assert!(handles.get(&name(1)).is_none());
        assert_eq!(handles.0.lock().len(), HANDLES_MAX);
    }
}
