//! Hard links: what they link to.

use super::{NodeSource, find_entry};
use crate::entry::{EntryKind, Key, KeyKind};
use crate::error::{Error, Result};
use crate::id::ChunkId;

/// Whether the hard link at `key` links to an entry of the tree that can be linked to (TREE-15). A walk does not look; whoever reads
/// a tree whole asks for each link.
///
/// # Errors
/// TREE-15, and as for a walk.
pub fn check_link(source: &dyn NodeSource, root: &ChunkId, key_kind: KeyKind, key: &Key, link: &Key) -> Result<()> {
    match find_entry(source, root, key_kind, link)? {
        Some(entry) if !matches!(entry.kind, EntryKind::Folder | EntryKind::HardLink(_)) => Ok(()),
        found => {
            let what = if found.is_some() { "is a folder or itself a link" } else { "is not there" };
            Err(Error::rule("TREE-15", format!("`{}` links to `{}`, which {what}", key.escape_ascii(), link.escape_ascii())))
        }
    }
}
