//! How the files of the last snapshot were cut, where no stat cache tells: for streams and tar archives, and where the local one is gone.
//!
//! The tree of that snapshot is put into a stat cache of which only chunk lists are taken: every entry in it looks as if it might have changed. The file lies
//! where temporary files do, and has no name any more once it is open.

use super::previous::newest;
use super::stat_cache::{StatCache, StatCacheBuilder};
use crate::entry::{ChunkList, EntryKind, FileContent, KeyKind};
use crate::error::Result;
use crate::repository::Repository;
use crate::runtime::Timestamp;
use crate::source::StatKey;
use crate::tree::{KeyRange, NodeSource, RecipeWalk, TreeWalk};
use std::sync::Arc;

/// Longer lists are left out: about 32 GiB of content at usual chunk sizes.
const CHUNKS_MAX: usize = 1_000_000;
const EPOCH: Timestamp = Timestamp { seconds: 0, nanoseconds: 0 };
/// As young as it can be, so that it settles nothing.
const STAT: StatKey = StatKey { device: 0, inode: 0, ctime: EPOCH, modified: EPOCH, size: 0 };

/// The files of the newest snapshot of `series`, read from `source`; `None` where there is none.
pub(super) fn recall(repository: &Repository, series: &str, source: &dyn NodeSource, context: [u8; 32]) -> Result<Option<Arc<StatCache>>> {
    let Some(snapshot) = newest(repository, series)?.filter(|snapshot| snapshot.body.keys_are_paths) else { return Ok(None) };
    let folder = repository.spill_folder(None).folder()?;
    let path = folder.path().join("recalled");
    let mut builder = StatCacheBuilder::create(&path, context)?;
    for entry in TreeWalk::new(source, &snapshot.body.tree_root, KeyKind::Paths, KeyRange::all())? {
        let mut entry = entry?;
        let EntryKind::File(content) = &mut entry.kind else { continue };
        if let ChunkList::Recipe(root) = &content.chunks {
            let walk = RecipeWalk::new(source, root, data_bytes(content), 0)?;
            let chunks = walk.take(CHUNKS_MAX + 1).map(|chunk| chunk.map(|(_, chunk)| chunk)).collect::<Result<Vec<_>>>()?;
            if chunks.len() > CHUNKS_MAX {
                continue;
            }
            content.chunks = ChunkList::Inline(chunks);
        }
        builder.push(&STAT, &entry, EPOCH)?;
    }
    builder.finish()?;
    Ok(StatCache::open(&path, context).map(Arc::new))
}

/// Bytes outside the holes.
fn data_bytes(content: &FileContent) -> u64 {
    content.holes.iter().fold(content.size, |left, (_, length)| left.saturating_sub(*length))
}
