//! Entries: what a snapshot says of one file, folder or other thing.
//!
//! Sources make entries, trees store them, destinations write them back. Names are bytes.

use crate::id::ChunkId;
use crate::runtime::Timestamp;

/// The place of an entry in its snapshot: path components joined by a zero byte, without one at either end; empty for the root folder.
///
/// Since no component holds a zero byte, comparing keys as bytes compares paths component by component, and everything
/// below a folder is one range.
pub type Key = Vec<u8>;

/// One line of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub key: Key,
    /// What it is, with what belongs to that kind only.
    pub kind: EntryKind,
    /// Owner, mode, times and attributes.
    pub metadata: Metadata,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file or a stream.
    File(FileContent),
    /// A folder.
    Folder,
    /// A symbolic link and where it points, as bytes.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// Another name of the entry with this key, which comes earlier; its own metadata is empty.
    HardLink(Key),
}

/// The content of a file: what lies outside its holes, cut into chunks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileContent {
    /// Length in bytes, holes included.
    pub size: u64,
    /// Holes as (offset, length), ascending, not touching, within `size`. No chunk reaches into or across a hole.
    pub holes: Vec<(u64, u64)>,
    /// Which cutter of the config cut it.
    pub cutter: u32,
    /// The chunks in order.
    pub chunks: ChunkList,
}

/// A chunk of a file: its id and its length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// Its id.
    pub id: ChunkId,
    /// Its length; at least 1.
    pub length: u32,
}

/// A chunk list, in the entry itself or in a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChunkList {
    /// Few chunks.
    Inline(Vec<ChunkRef>),
    /// The root node of a recipe.
    Recipe(ChunkId),
}

impl Default for ChunkList {
    fn default() -> Self {
        Self::Inline(Vec::new())
    }
}

/// Owner, mode, times and attributes of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: `0o0000..=0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Owner's name where known, otherwise empty.
    pub user: Vec<u8>,
    /// Group's name where known, otherwise empty.
    pub group: Vec<u8>,
    /// When the content was last modified.
    pub modified: Timestamp,
    /// Linux inode flags (`chattr`) that a person sets, as in `FS_IOC_GETFLAGS`; 0 where there are none.
    pub inode_flags: u32,
    /// Extended attributes (ACLs and capabilities among them) as name and value, ascending by name, each name once.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Metadata {
    /// That of a folder which was not backed up itself and only leads to what was: the root above several paths, or what a tar archive has
    /// no member for. Where such a folder stands already, a restore leaves it as it is.
    pub(crate) fn of_way() -> Self {
        Self { mode: 0o755, ..Self::default() }
    }

    /// Whether it is that of [`Metadata::of_way`].
    pub(crate) fn is_of_way(&self) -> bool {
        *self == Self::of_way()
    }
}

/// What the keys of a snapshot's entries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Components of a path, joined by a zero byte.
    Paths,
    /// Any bytes, as in an object store.
    Objects,
}

/// Joins the components of a path to a key; no component gives the key of the root folder.
pub fn join_key<C: AsRef<[u8]>>(components: impl IntoIterator<Item = C>) -> Key {
    let mut key = Key::new();
    for (index, component) in components.into_iter().enumerate() {
        if index > 0 {
            key.push(0);
        }
        key.extend_from_slice(component.as_ref());
    }
    key
}

/// The components of a path key; none for the root folder.
pub fn key_components(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.split(|byte| *byte == 0).filter(move |_| !key.is_empty())
}

/// Whether a key may stand for a path: no component is empty, `.`, `..`, or holds a slash (TREE-6).
pub fn is_path_key(key: &[u8]) -> bool {
    key_components(key).all(is_component)
}

/// Whether `key` stands below the folder `folder`; a folder is not below itself.
pub fn is_below(key: &[u8], folder: &[u8]) -> bool {
    match key.strip_prefix(folder) {
        Some(rest) => !rest.is_empty() && (folder.is_empty() || rest.first() == Some(&0)),
        None => false,
    }
}

fn is_component(component: &[u8]) -> bool {
    !matches!(component, b"" | b"." | b"..") && !component.contains(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_join_and_split() {
        for components in [&[][..], &["a"], &["a", "b c", ".."]] {
            let key = join_key(components);
            assert_eq!(key_components(&key).collect::<Vec<_>>(), components.iter().map(|c| c.as_bytes()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn path_keys_climb_nowhere() {
        for good in [&b""[..], b"a", b"a\0b", b"...", b".a\0b."] {
            assert!(is_path_key(good), "{good:?}");
        }
        for bad in [&b"\0"[..], b".", b"..", b"a/b", b"/", b"a\0", b"\0a", b"a\0\0b", b"a\0..", b"a\0.\0b"] {
            assert!(!is_path_key(bad), "{bad:?}");
        }
    }

    #[test]
    fn below_means_components_not_bytes() {
        assert!(is_below(b"a\0b", b"a") && is_below(b"a", b""));
        assert!(!is_below(b"a", b"a") && !is_below(b"ab", b"a") && !is_below(b"", b"") && !is_below(b"b", b"a"));
    }
}
