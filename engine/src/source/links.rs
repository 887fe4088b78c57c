//! Hard links: which names belong to one inode.

use super::stat::{Facts, StatKey};
use crate::entry::Key;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Inodes of which more names may come.
///
/// Bound: one key for every inode that has more than one name and of which not all were seen yet.
#[derive(Debug, Default)]
pub(crate) struct Links(HashMap<(u64, u64), First>);

#[derive(Debug)]
struct First {
    key: Key,
    stat: StatKey,
    left: u64,
}

impl Links {
    /// Takes the next name in key order of an inode with several; gives the first key where there was one.
    ///
    /// An inode that changed since its first name was seen is stored anew: it may have been deleted and its number given to another file.
    pub(crate) fn seen(&mut self, key: &Key, stat: &StatKey, links: u64) -> Option<Key> {
        match self.0.entry((stat.device, stat.inode)) {
            Entry::Vacant(place) => {
                place.insert(First { key: key.clone(), stat: *stat, left: links - 1 });
                None
            }
            Entry::Occupied(mut place) if place.get().stat != *stat => {
                place.insert(First { key: key.clone(), stat: *stat, left: links - 1 });
                None
            }
            Entry::Occupied(mut place) => {
                let first = place.get_mut();
                first.left = first.left.saturating_sub(1);
                if first.left == 0 { Some(place.remove().key) } else { Some(first.key.clone()) }
            }
        }
    }

    /// Whether `facts` are those of something that can have hard links.
    pub(crate) fn concern(facts: &Facts) -> bool {
        facts.links > 1 && facts.kind != rustix::fs::FileType::Directory
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Timestamp;

    #[test]
    fn forgets_an_inode_once_all_its_names_were_seen() {
        let stat = StatKey { device: 1, inode: 2, ctime: Timestamp::default(), modified: Timestamp::default(), size: 3 };
        let mut links = Links::default();
        assert_eq!(links.seen(&b"a".to_vec(), &stat, 3), None);
        assert_eq!(links.seen(&b"b".to_vec(), &stat, 3), Some(b"a".to_vec()));
        assert_eq!(links.seen(&b"c".to_vec(), &stat, 3), Some(b"a".to_vec()));
        assert!(links.0.is_empty());
    }

    #[test]
    fn a_changed_inode_is_no_link() {
        let stat = StatKey { device: 1, inode: 2, ctime: Timestamp::default(), modified: Timestamp::default(), size: 3 };
        let reused = StatKey { size: 4, ..stat };
        let mut links = Links::default();
        assert_eq!(links.seen(&b"a".to_vec(), &stat, 2), None);
        assert_eq!(links.seen(&b"b".to_vec(), &reused, 2), None);
        assert_eq!(links.seen(&b"c".to_vec(), &reused, 2), Some(b"b".to_vec()));
    }
}
