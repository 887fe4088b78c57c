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

/// What the next name of an inode is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// The first one.
    First,
    /// One more of what stands at this key.
    Link(Key),
    /// Of an inode that changed since its name at this key was seen: it may have been deleted and its number given to another file, so it is stored anew.
    Changed(Key),
}

impl Links {
    /// Takes the next name in key order of an inode with several.
    pub(crate) fn seen(&mut self, key: &Key, stat: &StatKey, links: u64) -> Name {
        match self.0.entry((stat.device, stat.inode)) {
            Entry::Vacant(place) => {
                place.insert(First { key: key.clone(), stat: *stat, left: links - 1 });
                Name::First
            }
            Entry::Occupied(mut place) if place.get().stat != *stat => {
                let first = place.insert(First { key: key.clone(), stat: *stat, left: links - 1 });
                Name::Changed(first.key)
            }
            Entry::Occupied(mut place) => {
                let first = place.get_mut();
                first.left = first.left.saturating_sub(1);
                Name::Link(if first.left == 0 { place.remove().key } else { first.key.clone() })
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
        assert_eq!(links.seen(&b"a".to_vec(), &stat, 3), Name::First);
        assert_eq!(links.seen(&b"b".to_vec(), &stat, 3), Name::Link(b"a".to_vec()));
        assert_eq!(links.seen(&b"c".to_vec(), &stat, 3), Name::Link(b"a".to_vec()));
        assert!(links.0.is_empty());
    }

    #[test]
    fn a_changed_inode_is_no_link() {
        let stat = StatKey { device: 1, inode: 2, ctime: Timestamp::default(), modified: Timestamp::default(), size: 3 };
        let reused = StatKey { size: 4, ..stat };
        let mut links = Links::default();
        assert_eq!(links.seen(&b"a".to_vec(), &stat, 2), Name::First);
        assert_eq!(links.seen(&b"b".to_vec(), &reused, 2), Name::Changed(b"a".to_vec()));
        assert_eq!(links.seen(&b"c".to_vec(), &reused, 2), Name::Link(b"b".to_vec()));
    }
}
